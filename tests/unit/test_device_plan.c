/* floors: model */
/* Which layers go to a device, what its names are, and what stands in the way. */
#include "model/device_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 4 };
#define GIB ((size_t)1 << 30)

static mr_plan plan(size_t free_bytes, bool may_split) {
    static const size_t weights[N] = {2 * GIB, 2 * GIB, 2 * GIB, 2 * GIB}, kv[N] = {GIB, GIB, GIB, GIB};
    const mr_plan_sizes sizes = {.n_layer = N,
                                 .weights = weights,
                                 .kv = kv,
                                 .fixed = 2 * GIB,
                                 .embedding = GIB,
                                 .free = free_bytes,
                                 .may_split = may_split};
    return mr_plan_layers(&sizes);
}

/* 2 + 1 + 4 * 3 GiB, and a twentieth of what is free is left. */
static void test_all_layers(void **state) {
    (void)state;
    mr_plan p = plan(16 * GIB, true);
    assert_int_equal(p.first_layer, 0);
    assert_true(p.bytes == 15 * GIB && p.bytes_all == 15 * GIB);
    assert_true(p.bytes_usable == 16 * GIB - 16 * GIB / 20);
    /* As much as is needed, but not what is left for the driver. */
    assert_int_equal(plan(15 * GIB, true).first_layer, 1);
}

static void test_split(void **state) {
    (void)state;
    mr_plan p = plan(12 * GIB, true); /* 11.4 usable: three layers and 2, without the table of embeddings */
    assert_int_equal(p.first_layer, 1);
    assert_true(p.bytes == 11 * GIB);
    assert_int_equal(plan(9 * GIB, true).first_layer, 2);
    assert_int_equal(plan(6 * GIB, true).first_layer, 3);
    assert_int_equal(plan(5 * GIB, true).first_layer, N); /* 4.75 usable */
    assert_int_equal(plan(12 * GIB, false).first_layer, N);
    assert_int_equal(plan(16 * GIB, false).first_layer, 0);
}

static void test_nothing_free(void **state) {
    (void)state;
    assert_int_equal(plan(0, true).first_layer, N);
    assert_true(plan(0, true).bytes_usable == 0);
    assert_true(plan((size_t)512 << 20, true).bytes_usable == (size_t)384 << 20);
}

static void test_names(void **state) {
    (void)state;
    static const char *const good[] = {"auto", "cpu", "cuda", "cuda:0", "cuda:7", "cuda:1023"};
    static const char *const bad[] = {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:1024", "cuda: 1", "CUDA"};
    static const int numbers[] = {0, 0, 0, 0, 7, 1023};
    int number;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(mr_device_name_check(good[i], &number, NULL), MR_OK);
        assert_int_equal(number, numbers[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mr_error err = {0};
        assert_int_equal(mr_device_name_check(bad[i], &number, &err), MR_ERR_INVALID);
        assert_non_null(strstr(err.text, "cuda:N"));
    }
}

/* This machine and this build decide what stands in the way; "auto" loads whatever it is. */
static void test_load(void **state) {
    (void)state;
    const char *paths[] = {MR_SOURCE_DIR "/tests/conformance/logits/llama-gqa.gguf"};
    mr_gguf *gguf;
    mr_model *model = NULL;
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1, .device = "cuda"};
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_OK);
    mr_status status = mr_model_load(&model, gguf, &options, &err);
    bool no_kernels = status == MR_ERR_UNSUPPORTED && strstr(err.text, "no CUDA kernels") != NULL;
    bool no_gpu = status == MR_ERR_NOT_FOUND && strstr(err.text, "GPU") != NULL;
    if (status != MR_OK && !no_kernels && !no_gpu) fail_msg("%s", err.text);
    mr_model_free(model);
    options.device = "auto";
    assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_OK);
    assert_true((mr_model_get_info(model)->device[0] != '\0') == (status == MR_OK));
    mr_model_free(model);
    options.device = "abacus";
    assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_ERR_INVALID);
    mr_gguf_close(gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_layers), cmocka_unit_test(test_split),
                                       cmocka_unit_test(test_nothing_free), cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
