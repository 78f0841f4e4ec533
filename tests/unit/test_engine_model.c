/* floors: engine */
/* The engine over the real forward pass: the greedy text of a prompt is the same whatever else is in the batch, however
 * the prompt is cut into chunks, whether its KV was cached, and on any number of threads. */
#include "base/file.h"
#include "base/log.h"
#include "compute/backend.h"
#include "engine/engine.h"
#include "engine/random.h"
#include "model/default_model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_PROMPTS = 6, N_GENERATE = 24, MAX_PROMPT = 300 };

typedef struct loaded {
    mr_gguf *gguf;
    mr_model *model;
} loaded;

static int32_t prompts[N_PROMPTS][MAX_PROMPT];
static size_t n_prompts[N_PROMPTS] = {1, 31, 64, 150, 201, 300};
static float temperature;

static loaded load(int n_threads) {
    loaded l = {0};
    const void *image;
    size_t size;
    mr_error err = {0};
    if (!mr_default_model(&image, &size)) skip();
    assert_int_equal(mr_gguf_open_memory(&l.gguf, image, size, &err), MR_OK);
    mr_model_options options = {.n_threads = n_threads};
    mr_status status = mr_model_load(&l.model, l.gguf, &options, &err);
    if (status != MR_OK) print_message("%s\n", err.text);
    assert_int_equal(status, MR_OK);
    return l;
}

static void unload(loaded *l) {
    mr_model_free(l->model);
    mr_gguf_close(l->gguf);
}

static void make_prompts(uint32_t n_vocab) {
    for (size_t p = 0; p < N_PROMPTS; p++) {
        /* Prompts 3 to 5 share their beginning. */
        for (size_t i = 0; i < n_prompts[p]; i++)
            prompts[p][i] = (int32_t)(mr_random_uniform(p >= 3 && i < 120 ? 3 : p, i) * n_vocab);
    }
}

static mr_request *submit(mr_engine *engine, size_t prompt) {
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = temperature;
    mr_request_params params = {
        .prompt = prompts[prompt], .n_prompt = n_prompts[prompt], .max_tokens = N_GENERATE, .sampling = sampling};
    mr_request *request = NULL;
    mr_error err = {0};
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
    return request;
}

static void collect(mr_request *request, int32_t *text) {
    mr_error err = {0};
    mr_finish finish = MR_FINISH_NONE;
    for (int i = 0; i < N_GENERATE; i++)
        assert_int_equal(mr_request_next(request, NULL, &text[i], &finish, &err), MR_OK);
    int32_t token;
    assert_int_equal(mr_request_next(request, NULL, &token, &finish, &err), MR_OK);
    assert_int_equal(finish, MR_FINISH_LENGTH);
    mr_request_free(request);
}

static mr_engine *new_engine(mr_model *model, mr_engine_config config) {
    mr_engine *engine = NULL;
    mr_error err = {0};
    assert_int_equal(mr_engine_new(&engine, model, &config, &err), MR_OK);
    return engine;
}

static void expect(mr_engine *engine, int32_t want[][N_GENERATE], bool together) {
    mr_request *requests[N_PROMPTS];
    int32_t got[N_GENERATE];
    for (size_t p = 0; p < N_PROMPTS; p++) {
        requests[p] = submit(engine, p);
        if (together) continue;
        collect(requests[p], got);
        assert_memory_equal(got, want[p], sizeof got);
    }
    for (size_t p = 0; together && p < N_PROMPTS; p++) {
        collect(requests[p], got);
        assert_memory_equal(got, want[p], sizeof got);
    }
}

/* The texts say something: they are not all one, nor one token over and over. */
static void check_variety(int32_t want[][N_GENERATE]) {
    size_t n_changes = 0;
    for (size_t p = 0; p < N_PROMPTS; p++) {
        for (int i = 1; i < N_GENERATE; i++) n_changes += want[p][i] != want[p][i - 1];
        for (size_t q = 0; q < p; q++) assert_memory_not_equal(want[p], want[q], sizeof want[p]);
    }
    assert_true(n_changes > N_PROMPTS * N_GENERATE / 2);
}

static void check_type(mr_kv_type type, size_t n_thread_counts) {
    static const int threads[] = {1, 3, 2, 8};
    int32_t want[N_PROMPTS][N_GENERATE];
    for (size_t t = 0; t < n_thread_counts; t++) {
        loaded l = load(threads[t]);
        make_prompts(mr_model_get_info(l.model)->n_vocab);
        mr_engine_config config = {.context_size = 512, .kv_type = type, .no_prefix_cache = true};
        mr_engine *engine = new_engine(l.model, config);
        for (size_t p = 0; t == 0 && p < N_PROMPTS; p++) collect(submit(engine, p), want[p]);
        check_variety(want);
        expect(engine, want, false);
        expect(engine, want, true);
        mr_engine_free(engine);
        config.prefill_chunk = 7;
        engine = new_engine(l.model, config);
        expect(engine, want, true);
        mr_engine_free(engine);
        /* Cached, twice; then in a pool that is too small for all. */
        config = (mr_engine_config){.context_size = 512, .kv_type = type};
        engine = new_engine(l.model, config);
        expect(engine, want, true);
        expect(engine, want, true);
        assert_true(mr_engine_get_stats(engine).n_prompt_cached > 900);
        mr_engine_free(engine);
        config.kv_bytes = 17 * mr_model_kv_layout(l.model, type).block_bytes;
        engine = new_engine(l.model, config);
        expect(engine, want, true);
        mr_engine_free(engine);
        unload(&l);
    }
}

static void text_is_the_same_with_f16(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    check_type(MR_KV_F16, 2); /* spinning threads are slow then */
#else
    check_type(MR_KV_F16, 4);
#endif
}

static void text_is_the_same_with_q8(void **state) {
    (void)state;
    check_type(MR_KV_Q8_0, 2);
}

static void text_is_the_same_with_f32(void **state) {
    (void)state;
    check_type(MR_KV_F32, 2);
}

/* Prompts that say the same again and again, so that the answers do, too. */
static void make_repeating_prompts(uint32_t n_vocab) {
    for (size_t p = 0; p < N_PROMPTS; p++) {
        for (size_t i = 0; i < n_prompts[p]; i++)
            prompts[p][i] = (int32_t)(mr_random_uniform(p, i % (20 + 2 * p)) * n_vocab);
    }
}

/* Several tokens of an answer come from one pass then; their text is that of single steps. */
static void check_guesses(const int n_threads[2]) {
    int32_t want[N_PROMPTS][N_GENERATE];
    for (size_t t = 0; t < 2; t++) {
        loaded l = load(n_threads[t]);
        make_repeating_prompts(mr_model_get_info(l.model)->n_vocab);
        mr_engine_config config = {.context_size = 512, .draft_cost = 0.2};
        mr_engine *engine = new_engine(l.model, config);
        for (size_t p = 0; t == 0 && p < N_PROMPTS; p++) collect(submit(engine, p), want[p]);
        mr_engine_free(engine);
        config.n_draft = t == 0 ? 15 : 4;
        engine = new_engine(l.model, config);
        expect(engine, want, false);
        expect(engine, want, true);
        mr_engine_stats stats = mr_engine_get_stats(engine);
        print_message("%llu of %llu guesses were right\n", (unsigned long long)stats.n_accepted,
                      (unsigned long long)stats.n_drafted);
        assert_true(stats.n_accepted > 10);
        mr_engine_free(engine);
        config.prefill_chunk = 7;
        config.kv_bytes = 17 * mr_model_kv_layout(l.model, MR_KV_F16).block_bytes;
        engine = new_engine(l.model, config);
        expect(engine, want, true);
        mr_engine_free(engine);
        unload(&l);
    }
}

static void guesses_change_nothing(void **state) {
    (void)state;
    check_guesses((const int[]){1, 4});
    temperature = 0.8f;
    check_guesses((const int[]){3, 2});
    temperature = 0;
}

/* A pass is broken off again and again; the neighbour's text is as ever. */
static void aborts_leave_the_neighbours_alone(void **state) {
    (void)state;
    loaded l = load(2);
    make_prompts(mr_model_get_info(l.model)->n_vocab);
    mr_engine *engine = new_engine(l.model, (mr_engine_config){.context_size = 512, .no_prefix_cache = true});
    int32_t want[N_GENERATE], got[N_GENERATE], token;
    collect(submit(engine, 4), want);
    for (int round = 0; round < 30; round++) {
        mr_request *neighbour = submit(engine, 4);
        mr_request *victim = submit(engine, 5);
        mr_finish finish;
        mr_error err = {0};
        assert_int_equal(mr_request_next(neighbour, NULL, &token, &finish, &err), MR_OK);
        mr_request *second = submit(engine, 5);
        mr_request_free(victim);
        mr_request_free(second);
        got[0] = token;
        for (int i = 1; i < N_GENERATE; i++)
            assert_int_equal(mr_request_next(neighbour, NULL, &got[i], &finish, &err), MR_OK);
        assert_memory_equal(got, want, sizeof got);
        mr_request_free(neighbour);
    }
    mr_engine_free(engine);
    unload(&l);
}

/* A golden model. With a back end it is split: the layers from the border on, in the middle, are that back end's. */
static loaded load_golden(const char *name, int n_threads, mr_backend *backend) {
    loaded l = {0};
    char path[512];
    mr_error err = {0};
    snprintf(path, sizeof path, MR_SOURCE_DIR "/tests/conformance/logits/%s.gguf", name);
    const char *paths[] = {path};
    mr_model_options options = {.n_threads = n_threads};
    if (mr_gguf_open(&l.gguf, paths, 1, &err) != MR_OK || mr_model_load(&l.model, l.gguf, &options, &err) != MR_OK)
        fail_msg("%s", err.text);
    if (backend == NULL) return l;
    uint32_t border = mr_model_get_info(l.model)->n_layer / 2;
    while (!mr_model_may_split_at(l.model, border)) border--;
    mr_model_free(l.model);
    options.backend = backend;
    options.first_device_layer = border;
    if (mr_model_load(&l.model, l.gguf, &options, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_model_get_info(l.model)->first_device_layer, border);
    return l;
}

static void check_engine(mr_model *model, mr_engine_config config, int32_t want[][N_GENERATE], uint64_t n_cached) {
    config.context_size = 512;
    mr_engine *engine = new_engine(model, config);
    expect(engine, want, true);
    expect(engine, want, false);
    expect(engine, want, true);
    assert_true(mr_engine_get_stats(engine).n_prompt_cached >= n_cached);
    mr_engine_free(engine);
}

static void check_hybrid(const char *name) {
    int32_t want[N_PROMPTS][N_GENERATE];
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        loaded l = load_golden(name, n_threads, NULL);
        assert_true(mr_model_state_bytes(l.model) > 0);
        make_prompts(mr_model_get_info(l.model)->n_vocab);
        mr_engine *engine = new_engine(l.model, (mr_engine_config){.context_size = 512, .no_prefix_cache = true});
        for (size_t p = 0; n_threads == 1 && p < N_PROMPTS; p++) collect(submit(engine, p), want[p]);
        expect(engine, want, true);
        mr_engine_free(engine);
        size_t block_bytes = mr_model_kv_layout(l.model, MR_KV_F16).block_bytes;
        check_engine(l.model, (mr_engine_config){0}, want, 900);
        if (n_threads > 1) {
            unload(&l);
            break;
        }
        check_engine(l.model, (mr_engine_config){.prefill_chunk = 7}, want, 0);
        check_engine(l.model, (mr_engine_config){.n_snapshots = 1}, want, 0);
        check_engine(l.model, (mr_engine_config){.kv_bytes = 17 * block_bytes}, want, 0);
        unload(&l);
    }
}

static void text_is_the_same_with_recurrent_states(void **state) {
    (void)state;
    static const char *const names[] = {"lfm2", "granitehybrid-moe", "nemotron_h", "qwen3next"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_hybrid(names[i]);
}

enum { N_LONG = 4, LONG_TOKENS = 100 };

/* Answers of LONG_TOKENS tokens, all at once. */
static void collect_long(mr_engine *engine, int32_t text[N_LONG][LONG_TOKENS]) {
    mr_request *requests[N_LONG];
    mr_sampling greedy = mr_sampling_default();
    mr_error err = {0};
    greedy.temperature = 0;
    for (size_t p = 0; p < N_LONG; p++) {
        const mr_request_params params = {
            .prompt = prompts[p], .n_prompt = n_prompts[p], .max_tokens = LONG_TOKENS, .sampling = greedy};
        assert_int_equal(mr_engine_submit(engine, &params, &requests[p], &err), MR_OK);
    }
    for (size_t p = 0; p < N_LONG; p++) {
        mr_finish finish = MR_FINISH_NONE;
        for (int i = 0; i < LONG_TOKENS; i++)
            assert_int_equal(mr_request_next(requests[p], NULL, &text[p][i], &finish, &err), MR_OK);
        mr_request_free(requests[p]);
    }
}

/* In a pool of one context, so that requests give way to others and begin again from what is cached. */
static void check_preemption(mr_model *whole, mr_model *split) {
    int32_t want[N_LONG][LONG_TOKENS], got[N_LONG][LONG_TOKENS];
    mr_engine *engine = new_engine(whole, (mr_engine_config){.context_size = 512, .no_prefix_cache = true});
    collect_long(engine, want);
    mr_engine_free(engine);
    size_t block_bytes = mr_model_kv_layout(split, MR_KV_F16).block_bytes;
    engine = new_engine(split, (mr_engine_config){.context_size = 512, .kv_bytes = 16 * block_bytes});
    for (int i = 0; i < 2; i++) {
        collect_long(engine, got);
        assert_memory_equal(got, want, sizeof got);
    }
    assert_true(mr_engine_get_stats(engine).n_preempted > 0);
    mr_engine_free(engine);
}

/* Some layers are over the seam: prompts and answers alone and in company, cut into chunks, with prefixes that are
 * cached, and in a pool that is too small for all. */
static void check_split(const char *name, mr_backend *backend) {
    int32_t want[N_PROMPTS][N_GENERATE];
    loaded whole = load_golden(name, 1, NULL), split = load_golden(name, 1, backend);
    make_prompts(mr_model_get_info(whole.model)->n_vocab);
    mr_engine *engine = new_engine(whole.model, (mr_engine_config){.context_size = 512, .no_prefix_cache = true});
    for (size_t p = 0; p < N_PROMPTS; p++) collect(submit(engine, p), want[p]);
    mr_engine_free(engine);
    check_engine(split.model, (mr_engine_config){0}, want, 900);
    check_engine(split.model, (mr_engine_config){.prefill_chunk = 7, .n_snapshots = 1}, want, 0);
    check_preemption(whole.model, split.model);
    unload(&whole);
    unload(&split);
}

static void text_is_the_same_when_layers_are_split(void **state) {
    (void)state;
    static const char *const names[] = {"lfm2", "granitehybrid-moe", "qwen3next", "gemma4-e2b", "gemma3n"};
    mr_team *team;
    mr_backend *backend;
    mr_error err = {0};
    assert_int_equal(mr_team_new(&team, 1, &err), MR_OK);
    assert_int_equal(mr_backend_cpu_open(&backend, team, &err), MR_OK);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_split(names[i], backend);
    mr_backend_close(backend);
    mr_team_free(team);
}

int main(void) {
    mr_log_set_filter("error");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_same_with_f16),
        cmocka_unit_test(text_is_the_same_with_q8),
        cmocka_unit_test(text_is_the_same_with_f32),
        cmocka_unit_test(guesses_change_nothing),
        cmocka_unit_test(aborts_leave_the_neighbours_alone),
        cmocka_unit_test(text_is_the_same_with_recurrent_states),
        cmocka_unit_test(text_is_the_same_when_layers_are_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
