/* floors: model */
/* The golden encoders of tests/conformance/embedding over the seam, whole and split at every border: hidden rows have
 * the bits of the CPU's own pass, whole texts alone and several in a pass. */
#include "compute/backend.h"
#include "model/hf_model.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_TEXTS = 3, TEXT_TOKENS = 40, N_BLOCKS = (TEXT_TOKENS + MR_KV_BLOCK - 1) / MR_KV_BLOCK, MAX_EMBD = 64 };

typedef float hidden_rows[N_TEXTS][TEXT_TOKENS * MAX_EMBD];

static mr_gguf *gguf;

/* Loads with layers from first_layer on over the seam (backend NULL: none) and computes the rows of texts that are 9
 * tokens shorter each. Returns the number of layers. */
static uint32_t compute(mr_backend *backend, uint32_t first_layer, hidden_rows rows) {
    int32_t tokens[TEXT_TOKENS], blocks[N_TEXTS][N_BLOCKS];
    mr_batch_run runs[N_TEXTS];
    mr_model *model;
    mr_kv_pool pool;
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1, .backend = backend, .first_device_layer = first_layer};
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("from layer %u on: %s", first_layer, err.text);
    const mr_model_info info = *mr_model_get_info(model);
    assert_in_range(info.n_embd, 1, MAX_EMBD);
    assert_int_equal(mr_model_kv_init(model, &pool, MR_KV_F32, N_TEXTS * N_BLOCKS, &err), MR_OK);
    memset(rows, 0, sizeof(hidden_rows));
    for (uint32_t t = 0; t < TEXT_TOKENS; t++) tokens[t] = (int32_t)((t * 7 + 3) % (info.n_vocab - 1));
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        uint32_t n = TEXT_TOKENS - 9 * i;
        for (int32_t b = 0; b < N_BLOCKS; b++) blocks[i][b] = N_TEXTS * N_BLOCKS - 1 - b * N_TEXTS - (int32_t)i;
        runs[i] =
            (mr_batch_run){.tokens = tokens + i, .n_tokens = n, .blocks = blocks[i], .n_hidden = n, .hidden = rows[i]};
    }
    if (mr_model_forward(model, &pool, runs, N_TEXTS, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    mr_model_kv_free(model, &pool);
    mr_model_free(model);
    return info.n_layer;
}

static void hidden_rows_have_the_same_bits(void **state) {
    static hidden_rows here, there;
    const char *folder = *state;
    char path[512];
    mr_team *team;
    mr_backend *backend;
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/tests/conformance/embedding/%s", MR_SOURCE_DIR, folder);
    if (mr_hf_open(&gguf, path, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_team_new(&team, 2, &err), MR_OK);
    assert_int_equal(mr_backend_cpu_open(&backend, team, &err), MR_OK);
    uint32_t n_layer = compute(NULL, 0, here);
    assert_true(n_layer > 1);
    for (uint32_t first_layer = 0; first_layer < n_layer; first_layer++) {
        compute(backend, first_layer, there);
        if (memcmp(here, there, sizeof here) != 0) fail_msg("%s from layer %u on: other rows", folder, first_layer);
    }
    mr_backend_close(backend);
    mr_team_free(team);
    mr_gguf_close(gguf);
}

int main(void) {
    static const char *const folders[] = {"bert",        "bert-old", "distilbert", "roberta",
                                          "xlm-roberta", "nomic",    "modernbert"};
    struct CMUnitTest tests[sizeof folders / sizeof folders[0]];
    setenv("RUST_LOG", "warn", 0);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        tests[i] = (struct CMUnitTest){.name = folders[i],
                                       .test_func = hidden_rows_have_the_same_bits,
                                       .initial_state = (void *)(uintptr_t)folders[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
