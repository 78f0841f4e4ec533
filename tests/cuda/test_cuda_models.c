/* The golden models of tests/conformance/logits, computed by the CUDA back end end to end: prompts in one pass and in
 * chunks, single tokens (whose steps are recorded and replayed), several sequences at once, and layers that stay on the
 * CPU. */
#include "harness.h"

#include "compute/backend.h"
#include "model/model.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/logits"

enum { MAX_TOKENS = 256, MAX_BLOCKS = MAX_TOKENS / MR_KV_BLOCK + 1, N_SEQUENCES = 3, MAX_GOLDEN = 256 };

typedef struct golden {
    mr_gguf *gguf;
    mr_model *model;
    mr_backend *backend; /* NULL: the model's own */
    size_t n_tokens, n_vocab;
    int32_t tokens[MAX_TOKENS];
    float *reference; /* [n_tokens, n_vocab] */
    float allowed;
} golden;

static const char *current; /* the model at work */

static void must(mr_status status, const mr_error *err) {
    if (status != MR_OK) fail_test("%s: %s", current, err->text);
}

static void open_golden(golden *g) {
    char path[512];
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, current);
    const char *paths[] = {path};
    *g = (golden){.allowed = 1e-3f};
    must(mr_gguf_open(&g->gguf, paths, 1, &err), &err);
    const mr_gguf_value *tokens = mr_gguf_find(g->gguf, "mr.test.tokens");
    g->n_tokens = tokens != NULL && tokens->n <= MAX_TOKENS ? (size_t)tokens->n : 0;
    for (size_t i = 0; i < g->n_tokens; i++) {
        int64_t id = 0;
        mr_gguf_array_i64(tokens, i, &id);
        g->tokens[i] = (int32_t)id;
    }
    mr_gguf_f32(g->gguf, "mr.test.tolerance", &g->allowed);
}

/* The layers from first_layer on are the device's. */
static void load(golden *g, uint32_t first_layer) {
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1, .device = "cuda", .kv_tokens = MAX_TOKENS};
    if (first_layer > 0) {
        must(mr_backend_cuda_open(&g->backend, 0, &err), &err);
        options.backend = g->backend;
        options.first_device_layer = first_layer;
    }
    mr_gguf_u32(g->gguf, "mr.test.n_ctx", &options.n_ctx);
    must(mr_model_load(&g->model, g->gguf, &options, &err), &err);
    const mr_model_info *info = mr_model_get_info(g->model);
    if (strncmp(info->device, "cuda:0", 6) != 0 || info->first_device_layer != first_layer)
        fail_test("%s is on %s", current, info->device);
    const mr_gguf_value *logits = mr_gguf_find(g->gguf, "mr.test.logits");
    g->n_vocab = info->n_vocab;
    g->reference = must_alloc(g->n_tokens * g->n_vocab * sizeof(float));
    for (size_t i = 0; i < g->n_tokens * g->n_vocab; i++) mr_gguf_array_f32(logits, i, &g->reference[i]);
}

static void close_golden(golden *g) {
    free(g->reference);
    mr_model_free(g->model);
    mr_backend_close(g->backend);
    mr_gguf_close(g->gguf);
}

/* A sequence over the same tokens, in blocks and states of its own. */
typedef struct sequence {
    int32_t blocks[MAX_BLOCKS];
    mr_state state, next, mid;
} sequence;

/* Computes n_tokens of n_sequences at once, `chunk` of each in a pass, and compares all logits and the best of each
 * row.
 */
static void run(golden *g, mr_kv_type type, size_t n_tokens, uint32_t chunk, size_t n_sequences) {
    mr_kv_pool pool;
    mr_error err = {0};
    sequence s[N_SEQUENCES];
    mr_batch_run runs[N_SEQUENCES];
    mr_state_pool states;
    float *logits = must_alloc(n_sequences * chunk * g->n_vocab * sizeof(float));
    int32_t *best = must_alloc(n_sequences * chunk * sizeof *best);
    must(mr_model_kv_init(g->model, &pool, type, MAX_BLOCKS * N_SEQUENCES, &err), &err);
    must(mr_model_states_init(g->model, &states, 3 * n_sequences, &err), &err);
    for (size_t i = 0; i < n_sequences; i++) {
        for (size_t b = 0; b < MAX_BLOCKS; b++)
            s[i].blocks[b] = (int32_t)(MAX_BLOCKS * N_SEQUENCES - 1 - (b * n_sequences + i));
        s[i].state = mr_state_at(&states, 3 * i);
        s[i].next = mr_state_at(&states, 3 * i + 1);
        s[i].mid = mr_state_at(&states, 3 * i + 2);
    }
    for (size_t at = 0; at < n_tokens; at += chunk) {
        uint32_t n = n_tokens - at < chunk ? (uint32_t)(n_tokens - at) : chunk;
        for (size_t i = 0; i < n_sequences; i++) {
            runs[i] = (mr_batch_run){.tokens = g->tokens + at,
                                     .n_tokens = n,
                                     .pos0 = (uint32_t)at,
                                     .blocks = s[i].blocks,
                                     .n_logits = n,
                                     .logits = logits + i * n * g->n_vocab,
                                     .best = best + i * n,
                                     .state = s[i].state,
                                     .state_out = s[i].next,
                                     .n_mid = mr_model_state_bytes(g->model) > 0 ? n / 2 : 0,
                                     .state_mid = s[i].mid};
            mr_state swap = s[i].state;
            s[i].state = s[i].next;
            s[i].next = swap;
        }
        must(mr_model_forward(g->model, &pool, runs, n_sequences, NULL, &err), &err);
        for (size_t i = 0; i < n_sequences * n; i++) {
            const float *row = logits + i * g->n_vocab, *wanted = g->reference + (at + i % n) * g->n_vocab;
            size_t largest = 0;
            for (size_t v = 0; v < g->n_vocab; v++) {
                largest = row[v] > row[largest] ? v : largest;
                if (!(fabsf(row[v] - wanted[v]) <= g->allowed))
                    fail_test("%s: token %zu of sequence %zu, chunks of %u: logit %zu is %g instead of %g", current,
                              at + i % n, i / n, chunk, v, (double)row[v], (double)wanted[v]);
            }
            if (best[i] != (int32_t)largest)
                fail_test("%s: the best of row %zu is %d instead of %zu", current, i, best[i], largest);
        }
    }
    free(logits);
    free(best);
    mr_model_states_free(g->model, &states);
    mr_model_kv_free(g->model, &pool);
}

/* The stand-in driver computes slowly: it gets one model of each kind, and fewer tokens. */
static bool emulated;
static const char *const KINDS[] = {
    "apertus",     "command-r", "deepseek-v2",   "deepseek-v3",       "gemma2",    "gemma3",    "gemma4-e2b",
    "glm4moe",     "gpt-oss",   "gpt-oss-mxfp4", "granitehybrid-moe", "lfm2",      "llama-gqa", "mixtral",
    "olmo3-types", "phi2",      "phimoe",        "qwen2moe",          "qwen3next", "gemma3n"};

static bool is_kind(const char *name) {
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        size_t len = strlen(KINDS[i]);
        if (strncmp(name, KINDS[i], len) == 0 && strcmp(name + len, ".gguf") == 0) return true;
    }
    return false;
}

static size_t at_most(const golden *g, size_t n) {
    return g->n_tokens < n ? g->n_tokens : n;
}

/* Of the borders where the model may be split that in the middle; 0 where there is none. */
static uint32_t middle_border(const mr_model *model) {
    uint32_t n_layer = mr_model_get_info(model)->n_layer, first = 0, last = 0;
    for (uint32_t il = 1; il < n_layer; il++) {
        if (!mr_model_may_split_at(model, il)) continue;
        if (first == 0) first = il;
        last = il;
    }
    uint32_t border = (first + last) / 2;
    while (border > 0 && !mr_model_may_split_at(model, border)) border--;
    return border;
}

/* The layers before first_layer stay on the CPU. */
static void test_split(uint32_t first_layer) {
    golden g;
    open_golden(&g);
    load(&g, first_layer);
    run(&g, MR_KV_F32, at_most(&g, 12), 12, 1);
    run(&g, MR_KV_F32, at_most(&g, 4), 1, N_SEQUENCES);
    close_golden(&g);
}

static void test_model(void) {
    golden g;
    open_golden(&g);
    load(&g, 0);
    uint32_t border = middle_border(g.model);
    run(&g, MR_KV_F32, at_most(&g, emulated ? 36 : MAX_TOKENS), MR_BATCH_MAX, 1);
    run(&g, MR_KV_F32, at_most(&g, emulated ? 6 : 40), 1, 1);
    run(&g, MR_KV_F32, at_most(&g, emulated ? 7 : 40), 5, N_SEQUENCES);
    if (!emulated) run(&g, MR_KV_F32, at_most(&g, 12), 1, N_SEQUENCES);
    close_golden(&g);
    if (border > 0) test_split(border);
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* One test for each model, or for those whose names begin with MR_GOLDEN (which may be empty). */
int main(void) {
    static char names[MAX_GOLDEN][64];
    const char *chosen = getenv("MR_GOLDEN"), *wanted = chosen != NULL ? chosen : "";
    char device[128] = "";
    size_t n = 0;
    if (!gpu_begin()) return end_tests();
    gpu_describe(device, sizeof device);
    emulated = strstr(device, "emulated") != NULL && chosen == NULL;
    DIR *dir = opendir(GOLDEN_DIR);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || len >= sizeof names[0] || strcmp(entry->d_name + len - 5, ".gguf") != 0) continue;
        if (emulated && !is_kind(entry->d_name)) continue;
        if (strncmp(entry->d_name, wanted, strlen(wanted)) == 0 && n < MAX_GOLDEN) strcpy(names[n++], entry->d_name);
    }
    if (dir != NULL) closedir(dir);
    qsort(names, n, sizeof names[0], by_name);
    for (size_t i = 0; i < n; i++) {
        current = names[i];
        run_test(current, test_model);
    }
    return end_tests();
}
