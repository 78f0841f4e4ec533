/* floors: model */
/* Hugging Face folders: the golden models in tests/conformance/hf give the logits that `transformers` computed. */
#include "base/file.h"
#include "model/hf_experts.h"
#include "model/hf_model.h"
#include "model/model.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/hf"

enum { MAX_TOKENS = 128 };

/* The tokens and the logits that a folder's golden.safetensors has. */
typedef struct golden {
    mr_safetensors *file;
    int32_t ids[MAX_TOKENS];
    uint32_t n, n_vocab;
    float *logits; /* [n, n_vocab] */
} golden;

static void open_golden(golden *g, const char *folder) {
    char path[600];
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    if (mr_safetensors_open_file(&g->file, path, &err) != MR_OK) fail_msg("%s", err.text);
    const mr_st_tensor *tokens = mr_safetensors_find(g->file, "tokens");
    const mr_st_tensor *logits = mr_safetensors_find(g->file, "logits");
    assert_non_null(tokens);
    assert_non_null(logits);
    g->n = (uint32_t)tokens->shape[0];
    g->n_vocab = (uint32_t)logits->shape[1];
    assert_in_range(g->n, 1, MAX_TOKENS);
    memcpy(g->ids, tokens->data, g->n * sizeof *g->ids);
    g->logits = malloc(logits->n_bytes);
    memcpy(g->logits, logits->data, logits->n_bytes);
}

static void close_golden(golden *g) {
    free(g->logits);
    mr_safetensors_close(g->file);
}

/* The logits of the golden tokens, computed in chunks of at most `chunk`. */
static float *logits_in_chunks(mr_model *model, const golden *g, uint32_t chunk) {
    mr_error err = {0};
    mr_kv_pool pool;
    int32_t blocks[MAX_TOKENS / MR_KV_BLOCK + 1];
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) blocks[i] = (int32_t)i;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, sizeof blocks / sizeof blocks[0], &err), MR_OK);
    float *logits = calloc((size_t)g->n * g->n_vocab, sizeof *logits);
    mr_state_pool states;
    assert_int_equal(mr_model_states_init(model, &states, 2, &err), MR_OK);
    mr_state state = mr_state_at(&states, 0), next = mr_state_at(&states, 1);
    for (uint32_t at = 0; at < g->n; at += chunk) {
        uint32_t n = g->n - at < chunk ? g->n - at : chunk;
        mr_batch_run run = {.tokens = g->ids + at,
                            .n_tokens = n,
                            .pos0 = at,
                            .blocks = blocks,
                            .n_logits = n,
                            .logits = logits + (size_t)at * g->n_vocab,
                            .state = state,
                            .state_out = next};
        if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
        mr_state swap = state;
        state = next;
        next = swap;
    }
    mr_model_states_free(model, &states);
    mr_kv_pool_free(&pool);
    return logits;
}

static size_t arg_max(const float *row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = row[i] > row[best] ? i : best;
    return best;
}

/* Returns the largest difference; takes the logits. With `exact` the largest logit of each token is the reference's. */
static float compare(const char *name, const golden *g, float *ours, bool exact) {
    float worst = 0.0f;
    for (size_t i = 0; i < (size_t)g->n * g->n_vocab; i++) {
        float difference = fabsf(g->logits[i] - ours[i]);
        if (!(difference <= worst)) worst = difference;
    }
    for (uint32_t t = 0; exact && t < g->n; t++) {
        size_t row = (size_t)t * g->n_vocab;
        if (arg_max(ours + row, g->n_vocab) != arg_max(g->logits + row, g->n_vocab))
            fail_msg("%s: token %u has its largest logit elsewhere", name, t);
    }
    free(ours);
    return worst;
}

/* tests/conformance/logits/table.py reads the lines that this prints.
 *
 * Each folder holds the model and `golden.safetensors` with `tokens` (I32 [n]) and `logits` (F32 [n, n_vocab]). */
static void check_folder(const char *name) {
    char folder[512];
    mr_error err = {0};
    mr_gguf *gguf;
    mr_model *model;
    golden g;
    snprintf(folder, sizeof folder, "%s/%s", GOLDEN_DIR, name);
    if (mr_hf_open(&gguf, folder, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    mr_model_options options = {.n_threads = 1};
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    open_golden(&g, folder);
    assert_int_equal(g.n_vocab, mr_model_get_info(model)->n_vocab);
    /* 16-bit weights are multiplied by inputs rounded to 16 bits, MXFP4 by inputs rounded to 8. */
    bool rounds = strstr(name, "bf16") != NULL || strstr(name, "mxfp4") != NULL;
    float tolerance = rounds ? 0.1f : 2e-3f;
    float prefill = compare(name, &g, logits_in_chunks(model, &g, g.n), !rounds);
    float steps = compare(name, &g, logits_in_chunks(model, &g, 1), !rounds);
    mr_gguf_str arch = {0};
    mr_gguf_string(gguf, "general.architecture", &arch);
    print_message("folder | %s | %.*s | %.1e | %.1e | %.0e\n", name, (int)arch.len, arch.data, (double)prefill,
                  (double)steps, (double)tolerance);
    if (!(prefill <= tolerance && steps <= tolerance))
        fail_msg("%s: logits differ by %g, step by step by %g", name, (double)prefill, (double)steps);
    close_golden(&g);
    mr_model_free(model);
    mr_gguf_close(gguf);
}

/* The folder to check alone, or NULL for all. */
static const char *only;

static void test_golden_folders(void **state) {
    (void)state;
    DIR *dir = opendir(GOLDEN_DIR);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char config[600];
        snprintf(config, sizeof config, "%s/%s/config.json", GOLDEN_DIR, entry->d_name);
        if (only != NULL && strcmp(entry->d_name, only) != 0) continue;
        if (entry->d_name[0] == '.' || !mr_path_is_file(config)) continue;
        check_folder(entry->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= (only != NULL ? 1 : 63));
}

/* A safetensors file with this header and n_data bytes of data; *st is to be closed. */
static mr_status open_as(mr_safetensors **st, const char *header, uint64_t n_header, size_t n_data, mr_error *err) {
    char path[] = "/tmp/mr-test-st-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint8_t size[8];
    for (int i = 0; i < 8; i++) size[i] = (uint8_t)(n_header >> (8 * i));
    static const char zeros[64];
    assert_int_equal(write(fd, size, 8), 8);
    assert_int_equal(write(fd, header, strlen(header)), (ssize_t)strlen(header));
    assert_int_equal(write(fd, zeros, n_data), (ssize_t)n_data);
    close(fd);
    mr_status status = mr_safetensors_open_file(st, path, err);
    unlink(path);
    return status;
}

static mr_status open_text(const char *header, uint64_t n_header, size_t n_data, mr_error *err) {
    mr_safetensors *st;
    mr_status status = open_as(&st, header, n_header, n_data, err);
    mr_safetensors_close(st);
    return status;
}

static void test_bad_experts(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        bool alternate;
        const char *says;
    } cases[] = {
        {"{\"x_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,1,16],\"data_offsets\":[0,32]}}", 32, true,
         "no scales x_scales"},
        {"{\"x_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,1,16],\"data_offsets\":[0,32]},"
         "\"x_scales\":{\"dtype\":\"U8\",\"shape\":[1,1,1],\"data_offsets\":[32,33]}}",
         33, true, "no scales x_scales"},
        {"{\"x_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,1,8],\"data_offsets\":[0,16]}}", 16, true, "MXFP4"},
        {"{\"x_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,0,16],\"data_offsets\":[0,0]}}", 0, true, "is empty"},
        {"{\"x_blocks\":{\"dtype\":\"F32\",\"shape\":[4,1],\"data_offsets\":[0,16]}}", 16, false, "3 dimensions"},
        {"{\"x_blocks\":{\"dtype\":\"F32\",\"shape\":[1,2,1],\"data_offsets\":[0,8]}}", 8, true, "3 dimensions"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        mr_arena arena = {0};
        mr_safetensors *st;
        mr_gguf_tensor tensor = {.name = "x", .shape = {1, 1, 1, 1}};
        assert_int_equal(open_as(&st, cases[i].header, strlen(cases[i].header), cases[i].n_data, &err), MR_OK);
        const mr_st_tensor *source = mr_safetensors_find(st, "x_blocks");
        assert_int_not_equal(mr_hf_experts_tensor(st, source, cases[i].alternate, &arena, &tensor, &err), MR_OK);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu says: %s", i, err.text);
        assert_int_not_equal(mr_hf_experts_bias(source, 0, &arena, &tensor, &err), MR_OK);
        mr_arena_free(&arena);
        mr_safetensors_close(st);
    }
}

static void test_bad_safetensors(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        const char *says;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 15, "truncated or corrupt"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,16]}}", 16, "truncated or corrupt"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,16]}}", 16, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", 16,
         "impossible shape"},
        {"{\"a\":{\"dtype\":\"Q9\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "Q9"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "lacks dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,-8]}}", 16, "truncated or corrupt"},
        {"[1]", 0, "no JSON object"},
        {"{", 0, "no JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        assert_int_not_equal(open_text(cases[i].header, strlen(cases[i].header), cases[i].n_data, &err), MR_OK);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu says: %s", i, err.text);
    }
    mr_error err = {0};
    assert_int_not_equal(open_text("{}", 1u << 30, 0, &err), MR_OK);
    assert_int_not_equal(open_text("{}", UINT64_MAX, 0, &err), MR_OK);
    const char *good = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    assert_int_equal(open_text(good, strlen(good), 16, &err), MR_OK);
}

static void test_bad_folders(void **state) {
    (void)state;
    mr_gguf *gguf;
    mr_error err = {0};
    assert_int_equal(mr_hf_open(&gguf, "/no/such/folder", &err), MR_ERR_NOT_FOUND);
    assert_null(gguf);
    assert_null(mr_hf_family_find("nonsense", &err));
    assert_non_null(strstr(err.text, "qwen3"));
}

int main(int argc, char **argv) {
    only = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_folders), cmocka_unit_test(test_bad_safetensors),
                                       cmocka_unit_test(test_bad_experts), cmocka_unit_test(test_bad_folders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
