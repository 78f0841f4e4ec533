/* The golden encoders of tests/conformance/embedding, computed by the CUDA back end end to end: hidden rows are those
 * of the reference, whole texts alone, in parts, and several in a pass, also with the first layers on the CPU. */
#include "harness.h"

#include "compute/backend.h"
#include "model/forward.h"
#include "model/hf_model.h"
#include "model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/embedding"

enum { MAX_TOKENS = 64, N_BLOCKS = MAX_TOKENS / MR_KV_BLOCK, N_TEXTS = 3 };

static const char *current; /* the folder at work */

static void must(mr_status status, const mr_error *err) {
    if (status != MR_OK) fail_test("%s: %s", current, err->text);
}

typedef struct golden {
    mr_gguf *gguf;
    mr_model *model;
    mr_backend *backend; /* NULL: the model's own */
    uint32_t n_tokens, n_embd;
    int32_t tokens[MAX_TOKENS];
    float *hidden; /* [n_tokens, n_embd] */
} golden;

/* With a first_layer the layers before it stay on the CPU. */
static void open_golden(golden *g, const char *device, uint32_t first_layer) {
    char path[512];
    mr_error err = {0};
    mr_safetensors *file;
    *g = (golden){0};
    if (first_layer > 0) must(mr_backend_cuda_open(&g->backend, 0, &err), &err);
    const mr_model_options options = {.n_threads = 1,
                                      .device = device,
                                      .kv_tokens = N_TEXTS * MAX_TOKENS,
                                      .backend = g->backend,
                                      .first_device_layer = first_layer};
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, current);
    must(mr_hf_open(&g->gguf, path, &err), &err);
    must(mr_model_load(&g->model, g->gguf, &options, &err), &err);
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", GOLDEN_DIR, current);
    must(mr_safetensors_open_file(&file, path, &err), &err);
    const mr_st_tensor *tokens = mr_safetensors_find(file, "tokens"), *rows = mr_safetensors_find(file, "hidden");
    g->n_tokens = (uint32_t)tokens->shape[0];
    g->n_embd = mr_model_get_info(g->model)->n_embd;
    if (g->n_tokens > MAX_TOKENS || rows->n_bytes != (size_t)g->n_tokens * g->n_embd * sizeof(float))
        fail_test("%s: the reference has another shape", current);
    memcpy(g->tokens, tokens->data, g->n_tokens * sizeof *g->tokens);
    g->hidden = must_alloc(rows->n_bytes);
    memcpy(g->hidden, rows->data, rows->n_bytes);
    mr_safetensors_close(file);
}

static void close_golden(golden *g) {
    mr_model_free(g->model);
    mr_backend_close(g->backend);
    mr_gguf_close(g->gguf);
    free(g->hidden);
}

/* Hidden rows of n_texts beginnings of the golden text, the i-th i * 9 tokens shorter, into hidden [n_texts,
 * MAX_TOKENS, n_embd]: in one pass or, with part_tokens, each in parts. */
static void embed(const golden *g, uint32_t n_texts, uint32_t part_tokens, float *hidden) {
    int32_t blocks[N_TEXTS][N_BLOCKS];
    mr_batch_run runs[N_TEXTS];
    mr_kv_pool pool;
    mr_error err = {0};
    must(mr_model_kv_init(g->model, &pool, MR_KV_F32, N_TEXTS * N_BLOCKS, &err), &err);
    for (uint32_t i = 0; i < n_texts; i++) {
        for (int32_t b = 0; b < N_BLOCKS; b++)
            blocks[i][b] = (int32_t)(N_TEXTS * N_BLOCKS - 1) - b * N_TEXTS - (int32_t)i;
        uint32_t n = g->n_tokens - 9 * i;
        runs[i] = (mr_batch_run){.tokens = g->tokens,
                                 .n_tokens = n,
                                 .blocks = blocks[i],
                                 .n_hidden = n,
                                 .hidden = hidden + (size_t)i * MAX_TOKENS * g->n_embd};
    }
    if (part_tokens == 0) must(mr_model_forward(g->model, &pool, runs, n_texts, NULL, &err), &err);
    for (uint32_t i = 0; i < n_texts && part_tokens > 0; i++)
        must(mr_forward_text(g->model, &pool, &runs[i], part_tokens, NULL, &err), &err);
    mr_model_kv_free(g->model, &pool);
}

static void check_reference(const golden *g, const float *hidden) {
    for (size_t i = 0; i < (size_t)g->n_tokens * g->n_embd; i++) {
        if (!(fabsf(hidden[i] - g->hidden[i]) <= 1e-4f))
            fail_test("%s: value %zu is %g instead of %g", current, i, (double)hidden[i], (double)g->hidden[i]);
    }
}

static void test_folder(void) {
    golden g, cpu, split;
    open_golden(&g, "cuda", 0);
    open_golden(&cpu, NULL, 0);
    open_golden(&split, "cuda", mr_model_get_info(cpu.model)->n_layer / 2);
    if (strncmp(mr_model_get_info(g.model)->device, "cuda:0", 6) != 0) fail_test("%s is not on the device", current);
    size_t n_text = (size_t)MAX_TOKENS * g.n_embd;
    float *hidden = must_alloc(N_TEXTS * n_text * sizeof *hidden), *here = must_alloc(N_TEXTS * n_text * sizeof *here);
    embed(&g, 1, 0, hidden);
    check_reference(&g, hidden);
    embed(&g, 1, 23, hidden);
    check_reference(&g, hidden);
    memset(hidden, 0, N_TEXTS * n_text * sizeof *hidden);
    g.n_tokens = cpu.n_tokens = split.n_tokens = 21; /* the stand-in driver computes slowly */
    embed(&g, N_TEXTS, 0, hidden);
    embed(&cpu, N_TEXTS, 0, here);
    expect_near(current, hidden, here, N_TEXTS * n_text, 2e-5);
    memset(hidden, 0, N_TEXTS * n_text * sizeof *hidden);
    embed(&split, N_TEXTS, 0, hidden);
    expect_near(current, hidden, here, N_TEXTS * n_text, 2e-5);
    memset(hidden, 0, N_TEXTS * n_text * sizeof *hidden);
    embed(&split, N_TEXTS, 10, hidden);
    expect_near(current, hidden, here, N_TEXTS * n_text, 2e-5);
    free(hidden), free(here);
    close_golden(&g);
    close_golden(&cpu);
    close_golden(&split);
}

int main(void) {
    static const char *const folders[] = {"bert",        "bert-old", "distilbert", "roberta",
                                          "xlm-roberta", "nomic",    "modernbert"};
    if (!gpu_begin()) return end_tests();
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        current = folders[i];
        run_test(current, test_folder);
    }
    return end_tests();
}
