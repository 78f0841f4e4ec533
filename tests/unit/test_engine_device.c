/* floors: engine */
/* Sampling over the seam: a model whose head is on a device gives candidates of each row instead of its logits, and the
 * texts are those of whole rows, with all kinds of settings side by side. */
#include "base/log.h"
#include "compute/backend.h"
#include "engine/engine.h"
#include "engine/random.h"
#include "model/default_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_PROMPT = 20, N_TEXT = 8, N_TEXTS = 40 };

typedef struct loaded {
    mr_gguf *gguf;
    mr_team *team;
    mr_backend *backend;
    mr_model *model;
} loaded;

/* Layers from first_layer on are a device's; none with -1. */
static loaded load(int first_layer) {
    loaded l = {0};
    const void *image;
    size_t size;
    mr_error err = {0};
    if (!mr_default_model(&image, &size)) skip();
    assert_int_equal(mr_gguf_open_memory(&l.gguf, image, size, &err), MR_OK);
    mr_model_options options = {.n_threads = 2, .first_device_layer = first_layer > 0 ? (uint32_t)first_layer : 0};
    if (first_layer >= 0) {
        assert_int_equal(mr_team_new(&l.team, 2, &err), MR_OK);
        assert_int_equal(mr_backend_cpu_open(&l.backend, l.team, &err), MR_OK);
        options.backend = l.backend;
    }
    assert_int_equal(mr_model_load(&l.model, l.gguf, &options, &err), MR_OK);
    return l;
}

static void unload(loaded *l) {
    mr_model_free(l->model);
    mr_backend_close(l->backend);
    mr_team_free(l->team);
    mr_gguf_close(l->gguf);
}

static const mr_sampling settings[] = {
    {.temperature = 1, .top_k = 40, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.2f, .repeat_last_n = -1},
    {.temperature = 0.7f, .top_p = 0.9f, .repeat_penalty = 1},
    {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1.3f, .repeat_last_n = 64},
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1.5f, .repeat_last_n = 64},
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 2, .top_p = 0.9999f, .repeat_penalty = 1}, /* flat */
    {.temperature = 1.5f, .top_p = 1, .repeat_penalty = 1},    /* what candidates never tell */
    {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 1, .top_p = 1, .min_p = 0.1f, .repeat_penalty = 1},
    {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 0.9f, .repeat_last_n = 64},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings, FLAT = 6, ALL = -1 };

/* Every third token; nothing is forbidden at every other. */
static bool mask_some(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits) {
    size_t n = *(const uint32_t *)ctx;
    (void)generated;
    if (n_generated % 2 == 1) return false;
    memset(bits, 0, (n + 63) / 64 * sizeof *bits);
    for (size_t i = n_generated % 3; i < n; i += 3) bits[i / 64] |= (uint64_t)1 << (i % 64);
    return true;
}

/* N_TEXTS requests at once, more rows than are projected at once; every fourth is masked. Returns the rows that had to
 * be fetched. */
static uint64_t generate(mr_model *model, int setting, uint32_t n_draft, int32_t texts[N_TEXTS][N_TEXT]) {
    mr_engine *engine;
    mr_request *requests[N_TEXTS];
    mr_error err = {0};
    uint32_t n_vocab = mr_model_get_info(model)->n_vocab;
    mr_engine_config config = {
        .context_size = 64, .max_concurrent = N_TEXTS, .n_draft = n_draft, .draft_cost = n_draft > 0 ? 0.1 : 0};
    assert_int_equal(mr_engine_new(&engine, model, &config, &err), MR_OK);
    size_t n = n_draft > 0 ? 3 : N_TEXTS; /* guesses are made for few at once */
    for (size_t i = 0; i < n; i++) {
        int32_t prompt[N_PROMPT];
        for (size_t t = 0; t < N_PROMPT; t++) prompt[t] = (int32_t)(mr_random_uniform(i, t % 5) * n_vocab);
        mr_request_params params = {.prompt = prompt,
                                    .n_prompt = N_PROMPT,
                                    .max_tokens = N_TEXT,
                                    .sampling = settings[setting == ALL ? i % N_SETTINGS : (size_t)setting],
                                    .mask = setting == ALL && i % 4 == 0 ? mask_some : NULL,
                                    .mask_ctx = &n_vocab};
        params.sampling.seed = i;
        assert_int_equal(mr_engine_submit(engine, &params, &requests[i], &err), MR_OK);
    }
    for (size_t i = 0; i < n; i++) {
        mr_finish finish = MR_FINISH_NONE;
        for (size_t t = 0; t < N_TEXT; t++)
            assert_int_equal(mr_request_next(requests[i], NULL, &texts[i][t], &finish, &err), MR_OK);
        mr_request_free(requests[i]);
    }
    uint64_t n_rows = mr_engine_get_stats(engine).n_rows_fetched;
    mr_engine_free(engine);
    return n_rows;
}

static void texts_are_those_of_whole_rows(void **state) {
    (void)state;
    static int32_t want[N_TEXTS][N_TEXT], want_drafted[N_TEXTS][N_TEXT], got[N_TEXTS][N_TEXT];
    loaded cpu = load(-1);
    assert_int_equal(generate(cpu.model, ALL, 0, want), 0);
    generate(cpu.model, ALL, 8, want_drafted);
    for (int first_layer = 0; first_layer < 3; first_layer += 2) {
        loaded device = load(first_layer);
        assert_true(generate(device.model, ALL, 0, got) > 0);
        assert_memory_equal(got, want, sizeof want);
        generate(device.model, ALL, 8, got);
        for (size_t i = 0; i < 3; i++) assert_memory_equal(got[i], want_drafted[i], sizeof *want_drafted);
        unload(&device);
    }
    unload(&cpu);
}

/* A row is fetched for none of the settings that keep few, and for those that keep nearly all. */
static void rows_come_only_where_they_are_needed(void **state) {
    (void)state;
    static int32_t want[N_TEXTS][N_TEXT], got[N_TEXTS][N_TEXT];
    loaded cpu = load(-1), device = load(0);
    for (int setting = 0; setting < N_SETTINGS; setting++) {
        uint64_t n = generate(device.model, setting, 0, got);
        assert_int_equal(generate(cpu.model, setting, 0, want), 0);
        assert_memory_equal(got, want, sizeof want);
        bool keeps_few = settings[setting].top_k > 0 || settings[setting].temperature == 0;
        bool is_asked = settings[setting].repeat_penalty >= 1 &&
                        (settings[setting].temperature <= 1 || settings[setting].top_p < 1);
        if (keeps_few || !is_asked) assert_int_equal(n, 0);
        if (setting == FLAT) assert_true(n > N_TEXTS);
        assert_true(n <= N_TEXTS * N_TEXT);
    }
    unload(&cpu);
    unload(&device);
}

/* Rows of a pass that are asked for behind it are what would have come with it. */
static void rows_stay_until_the_next_pass(void **state) {
    (void)state;
    enum { N = 40 };
    loaded device = load(0), cpu = load(-1);
    uint32_t n_vocab = mr_model_get_info(device.model)->n_vocab;
    mr_kv_pool pool;
    mr_error err = {0};
    int32_t tokens[N];
    const int32_t blocks[] = {0, 1};
    float *logits = malloc((size_t)N * n_vocab * sizeof *logits), *rows = malloc(3 * (size_t)n_vocab * sizeof *rows);
    mr_candidates *candidates = malloc(N * sizeof *candidates), *want = malloc(sizeof *want);
    for (int i = 0; i < N; i++) tokens[i] = 3 + i * 7;
    assert_int_equal(mr_model_kv_init(device.model, &pool, MR_KV_F16, 2, &err), MR_OK);
    mr_batch_run run = {.tokens = tokens, .n_tokens = N, .blocks = blocks, .n_logits = N, .logits = logits};
    assert_int_equal(mr_model_forward(device.model, &pool, &run, 1, NULL, &err), MR_OK);
    run.logits = NULL;
    run.candidates = candidates;
    assert_int_equal(mr_model_forward(device.model, &pool, &run, 1, NULL, &err), MR_OK);
    for (int i = 0; i < N; i++) {
        mr_candidates_of(logits + (size_t)i * n_vocab, n_vocab, want);
        assert_memory_equal(&candidates[i], want, sizeof *want);
    }
    const uint32_t numbers[] = {N - 1, 5, 33};
    float *to[] = {rows, rows + n_vocab, rows + 2 * n_vocab};
    assert_int_equal(mr_model_fetch_logits(device.model, numbers, to, 3, &err), MR_OK);
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(to[i], logits + numbers[i] * (size_t)n_vocab, n_vocab * sizeof(float));
    assert_int_equal(mr_model_fetch_logits(device.model, (const uint32_t[]){N}, to, 1, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "40 rows"));
    assert_int_equal(mr_model_fetch_logits(cpu.model, numbers, to, 1, &err), MR_ERR_INVALID);
    mr_model_kv_free(device.model, &pool);
    free(logits), free(rows), free(candidates), free(want);
    unload(&device);
    unload(&cpu);
}

int main(void) {
    mr_log_set_filter("error");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_those_of_whole_rows),
        cmocka_unit_test(rows_come_only_where_they_are_needed),
        cmocka_unit_test(rows_stay_until_the_next_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
