/* floors: model */
/* Texts of encoders in parts: the same bits as in one pass, on the CPU and over the seam; and a text that is longer
 * than a pass beside what transformers computed. */
#include "model/forward.h"

#include "base/cancel.h"
#include "model/hf_model.h"
#include "model/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/embedding"

enum { MAX_TOKENS = 1024, MAX_BLOCKS = MAX_TOKENS / MR_KV_BLOCK, N_EMBD = 32, EVERY = 7 };

static void must(mr_status status, const mr_error *err) {
    if (status != MR_OK) fail_msg("%s", err->text);
}

/* A golden encoder on the CPU or, over the seam, from first_layer on on a device. */
typedef struct encoder {
    mr_gguf *gguf;
    mr_model *model;
    mr_kv_pool pool;
    mr_backend *backend;
    mr_team *team;
    uint32_t n_tokens;
    int32_t tokens[MAX_TOKENS], blocks[MAX_BLOCKS];
    float *golden; /* [n_golden, N_EMBD] */
    size_t n_golden;
} encoder;

static void read_golden(encoder *e, const char *name) {
    char path[512];
    mr_error err = {0};
    mr_safetensors *file;
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", GOLDEN_DIR, name);
    must(mr_safetensors_open_file(&file, path, &err), &err);
    const mr_st_tensor *tokens = mr_safetensors_find(file, "tokens"), *rows = mr_safetensors_find(file, "hidden");
    assert_in_range(tokens->shape[0], 1, MAX_TOKENS);
    e->n_tokens = (uint32_t)tokens->shape[0];
    memcpy(e->tokens, tokens->data, e->n_tokens * sizeof *e->tokens);
    assert_int_equal(rows->shape[1], N_EMBD);
    e->n_golden = (size_t)rows->shape[0];
    e->golden = malloc(rows->n_bytes);
    assert_non_null(e->golden);
    memcpy(e->golden, rows->data, rows->n_bytes);
    mr_safetensors_close(file);
}

static void open_encoder(encoder *e, const char *name, bool seam, uint32_t first_layer) {
    char path[512];
    mr_error err = {0};
    *e = (encoder){.n_tokens = 0};
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    must(mr_hf_open(&e->gguf, path, &err), &err);
    if (seam) {
        must(mr_team_new(&e->team, 2, &err), &err);
        must(mr_backend_cpu_open(&e->backend, e->team, &err), &err);
    }
    const mr_model_options options = {.n_threads = 2, .backend = e->backend, .first_device_layer = first_layer};
    must(mr_model_load(&e->model, e->gguf, &options, &err), &err);
    assert_int_equal(mr_model_get_info(e->model)->n_embd, N_EMBD);
    read_golden(e, name);
    must(mr_model_kv_init(e->model, &e->pool, MR_KV_F32, MAX_BLOCKS, &err), &err);
    for (int32_t i = 0; i < MAX_BLOCKS; i++) e->blocks[i] = i % 2 == 0 ? i : MAX_BLOCKS - i;
}

static void close_encoder(encoder *e) {
    mr_model_kv_free(e->model, &e->pool);
    mr_model_free(e->model);
    mr_backend_close(e->backend);
    mr_team_free(e->team);
    mr_gguf_close(e->gguf);
    free(e->golden);
}

static mr_batch_run run_of(const encoder *e, uint32_t n_hidden, float *hidden) {
    return (mr_batch_run){
        .tokens = e->tokens, .n_tokens = e->n_tokens, .blocks = e->blocks, .n_hidden = n_hidden, .hidden = hidden};
}

/* The last n_hidden rows, part_tokens at a time; 0: as mr_model_forward does it. */
static float *compute(encoder *e, uint32_t part_tokens, uint32_t n_hidden) {
    mr_error err = {0};
    float *hidden = calloc((size_t)n_hidden * N_EMBD + 1, sizeof *hidden);
    assert_non_null(hidden);
    mr_batch_run run = run_of(e, n_hidden, hidden);
    must(part_tokens > 0 ? mr_forward_text(e->model, &e->pool, &run, part_tokens, NULL, &err)
                         : mr_model_forward(e->model, &e->pool, &run, 1, NULL, &err),
         &err);
    return hidden;
}

/* All rows in parts of several sizes, and the last ones alone, beside `whole`. */
static void check_parts(encoder *e, const float *whole, const char *what) {
    static const uint32_t sizes[] = {1, 7, 32, 33, MR_BATCH_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint32_t wanted[] = {e->n_tokens, 0, 1, 7, 12};
        for (size_t j = 0; j < (i == 1 ? sizeof wanted / sizeof wanted[0] : 1); j++) {
            float *rows = compute(e, sizes[i], wanted[j]);
            size_t first = e->n_tokens - wanted[j];
            if (memcmp(rows, whole + first * N_EMBD, wanted[j] * N_EMBD * sizeof *rows) != 0)
                fail_msg("%s: parts of %u, %u rows: other bits", what, sizes[i], wanted[j]);
            free(rows);
        }
    }
}

static void parts_give_the_same_bits(void **state) {
    (void)state;
    static const char *const names[] = {"bert", "nomic", "modernbert"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        encoder e;
        open_encoder(&e, names[i], false, 0);
        float *whole = compute(&e, 0, e.n_tokens);
        check_parts(&e, whole, names[i]);
        close_encoder(&e);
        for (uint32_t first = 0; first < 2; first++) {
            open_encoder(&e, names[i], true, first);
            float *there = compute(&e, 0, e.n_tokens);
            assert_memory_equal(there, whole, e.n_tokens * N_EMBD * sizeof *whole);
            check_parts(&e, whole, names[i]);
            free(there);
            close_encoder(&e);
        }
        free(whole);
    }
}

/* 700 tokens, with windows of 128 in some layers. */
static void a_long_text_is_as_its_reference(void **state) {
    (void)state;
    encoder e;
    open_encoder(&e, "modernbert-long", false, 0);
    assert_in_range(e.n_tokens, MR_BATCH_MAX + 1, MAX_TOKENS);
    float *rows = compute(&e, 0, e.n_tokens), worst = 0.0f;
    assert_int_equal(e.n_golden, (e.n_tokens + EVERY - 1) / EVERY);
    for (size_t i = 0; i < e.n_golden * N_EMBD; i++) {
        float difference = fabsf(rows[i / N_EMBD * EVERY * N_EMBD + i % N_EMBD] - e.golden[i]);
        if (!(difference <= worst)) worst = difference;
    }
    print_message("hidden rows differ by %.1e at most\n", (double)worst);
    if (!(worst <= 1e-4f)) fail_msg("hidden rows differ by %g", (double)worst);
    float *parts = compute(&e, 100, e.n_tokens);
    assert_memory_equal(parts, rows, e.n_tokens * N_EMBD * sizeof *rows);
    close_encoder(&e);
    open_encoder(&e, "modernbert-long", true, 0);
    float *there = compute(&e, 0, e.n_tokens);
    assert_memory_equal(there, rows, e.n_tokens * N_EMBD * sizeof *rows);
    close_encoder(&e);
    free(rows);
    free(parts);
    free(there);
}

/* Layers of an encoder share the memory of their keys and values, a whole text's at a time. */
static void keys_and_values_of_one_layer_are_kept(void **state) {
    (void)state;
    encoder e;
    open_encoder(&e, "modernbert-long", false, 0);
    size_t one_layer = (size_t)MR_KV_BLOCK * N_EMBD * 2 * sizeof(float);
    assert_in_range(mr_model_kv_layout(e.model, MR_KV_F32).block_bytes, one_layer, one_layer + 4096);
    close_encoder(&e);
}

static void what_cannot_be_read_is_refused(void **state) {
    (void)state;
    encoder e;
    mr_error err = {0};
    float row[N_EMBD];
    open_encoder(&e, "modernbert-long", false, 0);
    mr_batch_run run = run_of(&e, 1, row);
    mr_cancel *cancel = mr_cancel_new();
    assert_non_null(cancel);
    mr_cancel_request(cancel);
    assert_int_equal(mr_model_forward(e.model, &e.pool, &run, 1, cancel, &err), MR_ERR_CANCELLED);
    mr_cancel_unref(cancel);
    run.pos0 = 1;
    assert_int_equal(mr_model_forward(e.model, &e.pool, &run, 1, NULL, &err), MR_ERR_INVALID);
    run = run_of(&e, 1, row);
    e.tokens[600] = 64;
    assert_int_equal(mr_model_forward(e.model, &e.pool, &run, 1, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "token id 64"));
    e.tokens[600] = -1;
    assert_int_equal(mr_model_forward(e.model, &e.pool, &run, 1, NULL, &err), MR_ERR_INVALID);
    e.tokens[600] = 5;
    run.n_tokens = 1025;
    assert_int_equal(mr_model_forward(e.model, &e.pool, &run, 1, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "1024"));
    const mr_batch_run two[] = {run_of(&e, 0, NULL), run_of(&e, 0, NULL)};
    assert_int_equal(mr_model_forward(e.model, &e.pool, two, 2, NULL, &err), MR_ERR_INVALID);
    close_encoder(&e);
}

int main(void) {
    setenv("RUST_LOG", "error", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_give_the_same_bits),
        cmocka_unit_test(a_long_text_is_as_its_reference),
        cmocka_unit_test(keys_and_values_of_one_layer_are_kept),
        cmocka_unit_test(what_cannot_be_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
