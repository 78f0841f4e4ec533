/* floors: model */
/* Logits of the golden models in tests/conformance/logits against those that `transformers` computed. */
#include "compute/backend.h"
#include "compute/cpu.h"
#include "model/model.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/logits"

enum { MAX_TOKENS = 256, MAX_BLOCKS = MAX_TOKENS / MR_KV_BLOCK + 1, MAX_LAYERS = 64 };

typedef struct golden {
    mr_gguf *gguf;
    mr_model *model;
    size_t n_tokens, n_vocab;
    int32_t tokens[MAX_TOKENS];
    const mr_gguf_value *logits;
} golden;

static void open_golden_on(golden *g, const char *name, int n_threads, mr_backend *backend, uint32_t first_layer) {
    char path[512];
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    const char *paths[] = {path};
    if (mr_gguf_open(&g->gguf, paths, 1, &err) != MR_OK) fail_msg("%s", err.text);
    const mr_gguf_value *tokens = mr_gguf_find(g->gguf, "mr.test.tokens");
    g->logits = mr_gguf_find(g->gguf, "mr.test.logits");
    assert_non_null(tokens);
    assert_non_null(g->logits);
    g->n_tokens = (size_t)tokens->n;
    assert_in_range(g->n_tokens, 1, MAX_TOKENS);
    for (size_t i = 0; i < g->n_tokens; i++) {
        int64_t id;
        assert_true(mr_gguf_array_i64(tokens, i, &id));
        g->tokens[i] = (int32_t)id;
    }
    mr_model_options options = {.n_threads = n_threads, .backend = backend, .first_device_layer = first_layer};
    mr_gguf_u32(g->gguf, "mr.test.n_ctx", &options.n_ctx);
    if (mr_model_load(&g->model, g->gguf, &options, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    g->n_vocab = mr_model_get_info(g->model)->n_vocab;
    assert_int_equal(g->logits->n, g->n_tokens * g->n_vocab);
}

static void open_golden(golden *g, const char *name, int n_threads) {
    open_golden_on(g, name, n_threads, NULL, 0);
}

static void close_golden(golden *g) {
    mr_model_free(g->model);
    mr_gguf_close(g->gguf);
}

/* Computes the logits of the first n tokens in chunks of `chunk` tokens. */
static float *run(golden *g, mr_kv_type type, size_t n_tokens, uint32_t chunk) {
    mr_kv_pool pool;
    mr_error err = {0};
    assert_int_equal(mr_model_kv_init(g->model, &pool, type, MAX_BLOCKS, &err), MR_OK);
    int32_t blocks[MAX_BLOCKS];
    for (int i = 0; i < MAX_BLOCKS; i++) blocks[i] = MAX_BLOCKS - 1 - i; /* any order will do */
    float *logits = calloc(n_tokens * g->n_vocab, sizeof *logits);
    /* Not in place, so that a kernel that reads the state again after writing it is noticed. */
    mr_state_pool states;
    assert_int_equal(mr_model_states_init(g->model, &states, 3, &err), MR_OK);
    mr_state state = mr_state_at(&states, 0), next = mr_state_at(&states, 1);
    for (uint32_t at = 0; at < n_tokens; at += chunk) {
        uint32_t n = (uint32_t)n_tokens - at < chunk ? (uint32_t)n_tokens - at : chunk;
        mr_batch_run batch = {.tokens = g->tokens + at,
                              .n_tokens = n,
                              .pos0 = at,
                              .blocks = blocks,
                              .n_logits = n,
                              .logits = logits + at * g->n_vocab,
                              .state = state,
                              .state_out = next,
                              .n_mid = mr_model_state_bytes(g->model) > 0 ? n / 2 : 0,
                              .state_mid = mr_state_at(&states, 2)};
        if (mr_model_forward(g->model, &pool, &batch, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
        mr_state swap = state;
        state = next;
        next = swap;
    }
    mr_model_states_free(g->model, &states);
    mr_model_kv_free(g->model, &pool);
    return logits;
}

static double allowed_difference(const golden *g) {
    float allowed = 1e-3f;
    mr_gguf_f32(g->gguf, "mr.test.tolerance", &allowed);
    return (double)allowed;
}

static size_t arg_max(const float *row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = row[i] > row[best] ? i : best;
    return best;
}

/* Largest difference to the reference; fails when an arg-max differs. */
static float compare(const golden *g, const char *name, const float *logits) {
    float worst = 0.0f;
    float *reference = calloc(g->n_vocab, sizeof *reference);
    for (size_t t = 0; t < g->n_tokens; t++) {
        for (size_t i = 0; i < g->n_vocab; i++) {
            assert_true(mr_gguf_array_f32(g->logits, t * g->n_vocab + i, &reference[i]));
            float difference = fabsf(reference[i] - logits[t * g->n_vocab + i]);
            if (!(difference <= worst)) worst = difference;
        }
        /* The best may only change places with one that the allowed differences make as good. */
        size_t best = arg_max(reference, g->n_vocab), ours = arg_max(logits + t * g->n_vocab, g->n_vocab);
        if (best != ours && (float)(2.0 * allowed_difference(g)) < reference[best] - reference[ours]) {
            fail_msg("%s: the arg-max differs at position %zu", name, t);
        }
    }
    free(reference);
    return worst;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

enum { MAX_GOLDEN = 256, NAME_BYTES = 64 };

/* Calls check on every golden model, or on those whose names begin with MR_GOLDEN, and returns their number. */
static int each_golden(void (*check)(const char *name)) {
    static char names[MAX_GOLDEN][NAME_BYTES];
    const char *wanted = getenv("MR_GOLDEN") != NULL ? getenv("MR_GOLDEN") : "";
    DIR *dir = opendir(GOLDEN_DIR);
    assert_non_null(dir);
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || len >= NAME_BYTES || strcmp(entry->d_name + len - 5, ".gguf") != 0) continue;
        if (strncmp(entry->d_name, wanted, strlen(wanted)) != 0) continue;
        assert_true(n < MAX_GOLDEN);
        strcpy(names[n++], entry->d_name);
    }
    closedir(dir);
    qsort(names, n, NAME_BYTES, by_name);
    for (size_t i = 0; i < n; i++) check(names[i]);
    return (int)n;
}

/* tests/conformance/logits/table.py reads the lines that this prints. */
static void check_against_reference(const char *name) {
    golden g;
    open_golden(&g, name, 1);
    float worst[2];
    for (size_t i = 0; i < 2; i++) {
        float *logits = run(&g, MR_KV_F32, g.n_tokens, i == 0 ? MR_BATCH_MAX : 1);
        worst[i] = compare(&g, name, logits);
        free(logits);
    }
    mr_gguf_str reference = {"", 0};
    mr_gguf_string(g.gguf, "mr.test.reference", &reference);
    print_message("golden | %.*s | %s | %.*s | %.1e | %.1e | %.0e\n", (int)strlen(name) - 5, name,
                  mr_model_get_info(g.model)->arch, (int)reference.len, reference.data, (double)worst[0],
                  (double)worst[1], allowed_difference(&g));
    for (size_t i = 0; i < 2; i++) {
        if (!((double)worst[i] <= allowed_difference(&g))) fail_msg("%s: logits differ by %g", name, (double)worst[i]);
    }
    close_golden(&g);
}

static void test_reference(void **state) {
    (void)state;
    assert_true(each_golden(check_against_reference) >= (getenv("MR_GOLDEN") != NULL ? 1 : 8));
}

static void check_same_bits(golden *g, size_t n_tokens, uint32_t chunk, const float *expected) {
    if (n_tokens > g->n_tokens) n_tokens = g->n_tokens;
    float *logits = run(g, MR_KV_F16, n_tokens, chunk);
    assert_memory_equal(expected, logits, n_tokens * g->n_vocab * sizeof *logits);
    free(logits);
}

/* The same bits whatever the chunks, the number of threads and the instruction set. */
static void check_invariance(const char *name) {
    golden g;
    open_golden(&g, name, 1);
    float *whole = run(&g, MR_KV_F16, g.n_tokens, MR_BATCH_MAX);
    check_same_bits(&g, MAX_TOKENS, 1, whole);
    check_same_bits(&g, MAX_TOKENS, 7, whole);
    check_same_bits(&g, MAX_TOKENS, 33, whole);
    close_golden(&g);
    /* Steps of single tokens are slow with more members than processors: a few will do. */
    for (int n_threads = 2; n_threads <= 5; n_threads += 3) {
        open_golden(&g, name, n_threads);
        check_same_bits(&g, 8, 1, whole);
        check_same_bits(&g, MAX_TOKENS, MR_BATCH_MAX, whole);
        close_golden(&g);
    }
    mr_isa active = mr_isa_active();
    for (int isa = MR_ISA_PLAIN; isa < (int)active; isa++) {
        if (!mr_isa_force((mr_isa)isa)) continue;
        open_golden(&g, name, 1);
        check_same_bits(&g, 24, 1, whole);
        check_same_bits(&g, MAX_TOKENS, MR_BATCH_MAX, whole);
        close_golden(&g);
    }
    mr_isa_force(active);
    free(whole);
}

static void test_invariance(void **state) {
    (void)state;
    each_golden(check_invariance);
}

/* A model whose layers from first_layer on are computed over the seam: the same bits. */
static void check_on_device(const char *name, const float *whole, uint32_t first_layer, bool all_chunks) {
    golden g;
    mr_team *team;
    mr_backend *backend;
    mr_error err = {0};
    assert_int_equal(mr_team_new(&team, 2, &err), MR_OK);
    assert_int_equal(mr_backend_cpu_open(&backend, team, &err), MR_OK);
    open_golden_on(&g, name, 1, backend, first_layer);
    static const uint32_t chunks[] = {7, MR_BATCH_MAX, 1};
    for (size_t i = 0; i < (all_chunks ? sizeof chunks / sizeof chunks[0] : 1); i++) {
        size_t n = chunks[i] == 1 && g.n_tokens > 40 ? 40 : g.n_tokens;
        float *logits = run(&g, MR_KV_F16, n, chunks[i]);
        if (memcmp(whole, logits, n * g.n_vocab * sizeof *logits) != 0)
            fail_msg("%s from layer %u on, chunks of %u: the logits differ", name, first_layer, chunks[i]);
        free(logits);
    }
    close_golden(&g);
    mr_backend_close(backend);
    mr_team_free(team);
}

/* The first border where the model may be split, the last, and that in the middle of those that are allowed. */
static size_t borders_to_try(const mr_model *model, uint32_t borders[3]) {
    uint32_t allowed[MAX_LAYERS], n = 0, n_layer = mr_model_get_info(model)->n_layer;
    for (uint32_t il = 0; il <= n_layer && n < MAX_LAYERS; il++) {
        if (mr_model_may_split_at(model, il)) allowed[n++] = il;
    }
    borders[0] = n > 0 ? allowed[0] : 0;
    borders[1] = n > 1 ? allowed[n - 1] : 0;
    borders[2] = n > 2 ? allowed[n / 2] : 0;
    return n < 3 ? n : 3;
}

static void check_device(const char *name) {
    golden g;
    open_golden(&g, name, 1);
    float *whole = run(&g, MR_KV_F16, g.n_tokens, MR_BATCH_MAX);
    uint32_t borders[3];
    size_t n = borders_to_try(g.model, borders);
    assert_true(n > 0 || mr_model_get_info(g.model)->n_layer == 1);
    close_golden(&g);
    check_on_device(name, whole, 0, true);
    for (size_t i = 0; i < n; i++) check_on_device(name, whole, borders[i], i == 0);
    free(whole);
}

static void test_device(void **state) {
    (void)state;
    each_golden(check_device);
}

int main(void) {
    setenv("RUST_LOG", "warn", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_invariance),
                                       cmocka_unit_test(test_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
