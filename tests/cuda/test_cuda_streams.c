/* Several residual streams on the device against the CPU's functions. */
#include "harness.h"

#include "compute/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *get_floats(const float *x, size_t n) {
    float *got = must_alloc(n * sizeof *got);
    gpu_get(got, x, n * sizeof *got);
    return got;
}

static float *copy_of(const float *x, size_t n) {
    float *copy = must_alloc(n * sizeof *copy);
    return memcpy(copy, x, n * sizeof *copy);
}

/* Rows of all sizes, one of them zeros: what it is divided by is then the least that there is. */
static void check_match(size_t n_rows, size_t n) {
    float *x = random_floats(n_rows * n, 3.0f), *y = random_floats(n_rows * n, 0.5f);
    memset(y, 0, n * sizeof *y);
    for (size_t i = n; i < 2 * n && n_rows > 1; i++) y[i] *= 1e-4f;
    mr_k_match_size_args a = {.y = gpu_put(y, n_rows * n * sizeof *y),
                              .x = gpu_put(x, n_rows * n * sizeof *x),
                              .n_rows = (uint32_t)n_rows,
                              .n = (uint32_t)n};
    gpu_launch(mr_k_match_size_launch(&a), &a);
    float *got = get_floats(a.y, n_rows * n);
    for (size_t t = 0; t < n_rows; t++) {
        char what[64];
        snprintf(what, sizeof what, "sizes of row %zu of %zu, %zu values", t, n_rows, n);
        mr_match_size(y + t * n, x + t * n, n);
        expect_near(what, got + t * n, y + t * n, n, 2e-6);
    }
    free(x), free(y), free(got);
    gpu_forget();
}

static void test_match(void) {
    check_match(1, 1);
    check_match(3, 7);
    check_match(2, 256);
    check_match(5, 1023);
    check_match(4, 2048);
}

static void check_streams(uint32_t n_stream, size_t n_tokens, size_t n, bool correct) {
    size_t n_all = n_tokens * n, n_factors = (size_t)n_stream * n_stream * (correct ? 1 : n_stream);
    float *modal = random_floats(n_tokens * n_stream, 1.0f), *factors = random_floats(n_factors, 1.0f);
    float *scale = random_floats(n, 2.0f), *predicted = random_floats(n_all, 1.0f), *streams[4] = {0};
    mr_k_streams_args a = {.modal = gpu_put(modal, n_tokens * n_stream * 4),
                           .factors = gpu_put(factors, n_factors * 4),
                           .correct_scale = gpu_put(scale, n * 4),
                           .predicted = gpu_put(predicted, n_all * 4),
                           .n_stream = n_stream,
                           .n_tokens = (uint32_t)n_tokens,
                           .n = (uint32_t)n};
    mr_streams_args here = {.n_stream = n_stream,
                            .n_tokens = n_tokens,
                            .n = n,
                            .modal = modal,
                            .factors = factors,
                            .correct_scale = scale,
                            .predicted = copy_of(predicted, n_all)};
    for (uint32_t i = 0; i < n_stream; i++) {
        streams[i] = here.streams[i] = random_floats(n_all, 1.0f);
        a.streams[i] = gpu_put(streams[i], n_all * 4);
    }
    gpu_launch(correct ? mr_k_streams_correct_launch(&a) : mr_k_streams_predict_launch(&a), &a);
    float *scratch = must_alloc(n_stream * n * sizeof *scratch);
    for (size_t t = 0; t < n_tokens; t++) {
        if (correct)
            mr_streams_correct_token(&here, t, scratch);
        else
            mr_streams_predict_token(&here, t, scratch);
    }
    char what[96];
    for (uint32_t i = 0; i <= n_stream; i++) {
        float *got = get_floats(i < n_stream ? a.streams[i] : a.predicted, n_all);
        snprintf(what, sizeof what, "%s, vector %u of %u streams, %zu tokens of %zu",
                 correct ? "correction" : "prediction", (unsigned)i, (unsigned)n_stream, n_tokens, n);
        expect_near(what, got, i < n_stream ? streams[i] : here.predicted, n_all, 2e-6);
        free(got);
    }
    for (uint32_t i = 0; i < n_stream; i++) free(streams[i]);
    free(modal), free(factors), free(scale), free(predicted), free(here.predicted), free(scratch);
    gpu_forget();
}

static void test_predict(void) {
    check_streams(1, 1, 1, false);
    check_streams(2, 3, 37, false);
    check_streams(3, 2, 256, false);
    check_streams(4, 5, 300, false);
    check_streams(4, 1, 2048, false);
}

static void test_correct(void) {
    check_streams(1, 1, 1, true);
    check_streams(2, 3, 37, true);
    check_streams(3, 2, 256, true);
    check_streams(4, 5, 300, true);
    check_streams(4, 1, 2048, true);
}

int main(void) {
    if (!gpu_begin()) return 0;
    run_test("streams get the size of another", test_match);
    run_test("what a layer expects of the streams", test_predict);
    run_test("what its change means for them", test_correct);
    return end_tests();
}
