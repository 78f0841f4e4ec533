/* floors: engine */
/* The vectors that the engine pools of the golden models' hidden rows, beside those that `transformers` computed. */
#define _POSIX_C_SOURCE 200809L
#include "engine/engine.h"
#include "model/hf_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_TOKENS = 256, MAX_EMBD = 64, LONG_TEXT = 1500 };

typedef struct golden {
    mr_gguf *gguf;
    mr_model *model;
    size_t n_tokens, n_embd;
    int32_t tokens[MAX_TOKENS];
    const mr_gguf_value *hidden;
} golden;

static void open_golden(golden *g, const char *name, int n_threads) {
    char path[512];
    mr_error err = {0};
    snprintf(path, sizeof path, MR_SOURCE_DIR "/tests/conformance/%s.gguf", name);
    const char *paths[] = {path};
    if (mr_gguf_open(&g->gguf, paths, 1, &err) != MR_OK) fail_msg("%s", err.text);
    const mr_gguf_value *tokens = mr_gguf_find(g->gguf, "mr.test.tokens");
    g->hidden = mr_gguf_find(g->gguf, "mr.test.hidden");
    assert_non_null(tokens);
    assert_non_null(g->hidden);
    g->n_tokens = (size_t)tokens->n;
    assert_in_range(g->n_tokens, 2, MAX_TOKENS);
    for (size_t i = 0; i < g->n_tokens; i++) {
        int64_t id;
        assert_true(mr_gguf_array_i64(tokens, i, &id));
        g->tokens[i] = (int32_t)id;
    }
    mr_model_options options = {.n_threads = n_threads};
    if (mr_model_load(&g->model, g->gguf, &options, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    g->n_embd = mr_model_get_info(g->model)->n_embd;
    assert_in_range(g->n_embd, 1, MAX_EMBD);
    assert_int_equal(g->hidden->n, g->n_tokens * g->n_embd);
}

static void close_golden(golden *g) {
    mr_model_free(g->model);
    mr_gguf_close(g->gguf);
}

static mr_engine *new_engine(const golden *g, mr_engine_config config) {
    mr_engine *engine = NULL;
    mr_error err = {0};
    if (mr_engine_new(&engine, g->model, &config, &err) != MR_OK) fail_msg("%s", err.text);
    return engine;
}

static mr_request *submit(mr_engine *engine, const int32_t *tokens, size_t n, mr_pooling pooling) {
    mr_request_params params = {.prompt = tokens, .n_prompt = n, .pooling = pooling};
    mr_request *request = NULL;
    mr_error err = {0};
    if (mr_engine_submit(engine, &params, &request, &err) != MR_OK) fail_msg("%s", err.text);
    return request;
}

static void collect(const golden *g, mr_request *request, float *vector) {
    int32_t token;
    mr_finish finish;
    mr_error err = {0};
    if (mr_request_next(request, NULL, &token, &finish, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(finish, MR_FINISH_LENGTH);
    assert_int_equal(token, -1);
    assert_int_equal(mr_request_get_stats(request).n_generated, 0);
    memcpy(vector, mr_request_pooled(request), g->n_embd * sizeof *vector);
    mr_request_free(request);
}

/* The reference's vector of all tokens. */
static void reference(const golden *g, mr_pooling pooling, double *vector) {
    size_t first = pooling == MR_POOLING_LAST ? g->n_tokens - 1 : 0;
    size_t last = pooling == MR_POOLING_CLS ? 0 : g->n_tokens - 1;
    for (size_t i = 0; i < g->n_embd; i++) {
        vector[i] = 0.0;
        for (size_t t = first; t <= last; t++) {
            float value;
            assert_true(mr_gguf_array_f32(g->hidden, t * g->n_embd + i, &value));
            vector[i] += (double)value / (double)(last - first + 1);
        }
    }
}

static void check_reference(const char *name) {
    golden g;
    open_golden(&g, name, 2);
    mr_engine_config configs[] = {{.kv_type = MR_KV_F32}, {.kv_type = MR_KV_F32, .prefill_chunk = 7}};
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        mr_engine *engine = new_engine(&g, configs[c]);
        for (int pooling = MR_POOLING_MEAN; pooling <= MR_POOLING_LAST; pooling++) {
            float vector[MAX_EMBD];
            double expected[MAX_EMBD], worst = 0.0, size = 0.0;
            collect(&g, submit(engine, g.tokens, g.n_tokens, (mr_pooling)pooling), vector);
            reference(&g, (mr_pooling)pooling, expected);
            for (size_t i = 0; i < g.n_embd; i++) {
                worst = fmax(worst, fabs((double)vector[i] - expected[i]));
                size = fmax(size, fabs(expected[i]));
            }
            assert_true(size > 0.1);
            if (!(worst <= 1e-4)) fail_msg("%s: pooling %d differs by %g", name, pooling, worst);
        }
        mr_engine_free(engine);
    }
    close_golden(&g);
}

static void vectors_are_those_of_the_reference(void **state) {
    (void)state;
    check_reference("logits/qwen3");
    check_reference("logits/starcoder2");
    check_reference("embedding/bert");
}

/* The scheduler writes its figures when it has nothing to do. */
static void wait_until_no_block_is_used(mr_engine *engine) {
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < 10000 && mr_engine_get_stats(engine).n_blocks_used > 0; i++) nanosleep(&pause, NULL);
    assert_int_equal(mr_engine_get_stats(engine).n_blocks_used, 0);
}

static void make_text(const golden *g, int32_t *text, size_t n, size_t shift) {
    for (size_t i = 0; i < n; i++) text[i] = g->tokens[(i * (1 + i / g->n_tokens) + shift) % g->n_tokens];
}

/* Texts that need several passes, alone and in company, whole and in chunks, cached, and in memory for one at a time:
 * the same bits. */
static void vectors_are_the_same_in_any_company(void **state) {
    (void)state;
    enum { N = 9 };
    static int32_t texts[N][LONG_TEXT];
    static const size_t lengths[N] = {LONG_TEXT, 1, LONG_TEXT, 600, 64, 65, 513, 1024, 33};
    static float expected[N][MAX_EMBD], vector[MAX_EMBD];
    golden g;
    open_golden(&g, "logits/qwen3", 2);
    for (size_t i = 0; i < N; i++) make_text(&g, texts[i], lengths[i], i == 2 ? 0 : i);
    size_t block = mr_model_kv_layout(g.model, MR_KV_F16).block_bytes;
    mr_engine_config configs[] = {
        {.context_size = 2048, .no_prefix_cache = true, .max_concurrent = 1},
        {.context_size = 2048, .max_concurrent = 16},
        {.context_size = 2048, .prefill_chunk = 7, .max_concurrent = 4},
        {.context_size = 2048, .kv_bytes = (LONG_TEXT / MR_KV_BLOCK + 4) * block, .max_concurrent = 16},
    };
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        mr_engine *engine = new_engine(&g, configs[c]);
        for (int round = 0; round < 2; round++) {
            mr_request *requests[N];
            for (size_t i = 0; i < N; i++)
                requests[i] = submit(engine, texts[i], lengths[i], (mr_pooling)(MR_POOLING_MEAN + i % 3));
            for (size_t i = 0; i < N; i++) {
                collect(&g, requests[i], vector);
                if (c == 0 && round == 0) memcpy(expected[i], vector, sizeof vector);
                assert_memory_equal(vector, expected[i], g.n_embd * sizeof *vector);
            }
        }
        wait_until_no_block_is_used(engine);
        mr_engine_stats stats = mr_engine_get_stats(engine);
        assert_int_equal(stats.n_generated, 0);
        if (configs[c].max_concurrent == 16 && configs[c].kv_bytes == 0) assert_true(stats.n_prompt_cached > 0);
        mr_engine_free(engine);
    }
    close_golden(&g);
}

/* Generating requests and those that pool share passes and the cache. */
static void texts_and_vectors_go_together(void **state) {
    (void)state;
    enum { N_TOKENS = 40 };
    golden g;
    open_golden(&g, "logits/qwen3", 1);
    mr_engine *engine = new_engine(&g, (mr_engine_config){.context_size = 256});
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = 0;
    mr_request_params params = {
        .prompt = g.tokens, .n_prompt = g.n_tokens, .max_tokens = N_TOKENS, .sampling = sampling};
    int32_t alone[N_TOKENS], together[N_TOKENS], token;
    float first[MAX_EMBD], vector[MAX_EMBD];
    mr_finish finish;
    mr_error err = {0};
    for (int round = 0; round < 2; round++) {
        mr_request *request;
        assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
        for (size_t i = 0; i < N_TOKENS; i++) {
            mr_request *pooled = round == 1 ? submit(engine, g.tokens, g.n_tokens, MR_POOLING_MEAN) : NULL;
            assert_int_equal(mr_request_next(request, NULL, &token, &finish, &err), MR_OK);
            assert_int_equal(finish, MR_FINISH_NONE);
            (round == 0 ? alone : together)[i] = token;
            if (pooled == NULL) continue;
            collect(&g, pooled, vector);
            if (i == 0) memcpy(first, vector, sizeof first);
            assert_memory_equal(vector, first, g.n_embd * sizeof *vector);
        }
        mr_request_free(request);
    }
    assert_memory_equal(alone, together, sizeof alone);
    mr_engine_free(engine);
    close_golden(&g);
}

static void texts_that_do_not_fit_are_refused_and_others_given_up(void **state) {
    (void)state;
    static int32_t text[LONG_TEXT];
    golden g;
    open_golden(&g, "logits/qwen3", 1);
    make_text(&g, text, LONG_TEXT, 0);
    mr_engine *engine = new_engine(&g, (mr_engine_config){.context_size = 1024});
    mr_request *request = NULL;
    mr_error err = {0};
    mr_request_params params = {.prompt = text, .n_prompt = LONG_TEXT, .pooling = MR_POOLING_MEAN};
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "1024"));
    params.n_prompt = 0;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_INVALID);
    for (size_t i = 0; i < 20; i++) mr_request_free(submit(engine, text, 900 - i, (mr_pooling)(1 + i % 3)));
    float vector[MAX_EMBD];
    collect(&g, submit(engine, text, 1023, MR_POOLING_MEAN), vector);
    mr_engine_free(engine);
    close_golden(&g);
}

/* Collects the vectors of n requests: the first time into `expected`, then they are the same. */
static void collect_same(const golden *g, mr_request **requests, size_t n, bool first, float (*expected)[MAX_EMBD]) {
    float vector[MAX_EMBD];
    for (size_t i = 0; i < n; i++) {
        collect(g, requests[i], vector);
        if (first) memcpy(expected[i], vector, sizeof vector);
        assert_memory_equal(vector, expected[i], g->n_embd * sizeof *vector);
    }
}

/* An encoder's texts share passes, each whole: the same bits as alone, and another vector when the end changes. */
static void an_encoder_reads_whole_texts(void **state) {
    (void)state;
    enum { N = 40, MOST = 64 };
    static int32_t texts[N][MOST];
    static float expected[N][MAX_EMBD], vector[MAX_EMBD];
    golden g;
    open_golden(&g, "embedding/bert", 2);
    assert_true(mr_model_get_info(g.model)->encoder);
    for (size_t i = 0; i < N; i++) make_text(&g, texts[i], MOST, i);
    size_t block = mr_model_kv_layout(g.model, MR_KV_F32).block_bytes;
    mr_engine_config configs[] = {{.max_concurrent = 1},
                                  {.max_concurrent = 32},
                                  {.max_concurrent = 8, .prefill_chunk = 7, .kv_bytes = 3 * block}};
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        mr_engine *engine = new_engine(&g, configs[c]);
        assert_int_equal(mr_engine_context_size(engine), MOST);
        mr_request *requests[N];
        for (size_t i = 0; i < N; i++)
            requests[i] = submit(engine, texts[i], i % 7 == 0 ? MOST : 1 + i, (mr_pooling)(MR_POOLING_MEAN + i % 3));
        collect_same(&g, requests, N, c == 0, expected);
        wait_until_no_block_is_used(engine);
        mr_engine_free(engine);
    }
    mr_engine *engine = new_engine(&g, configs[0]);
    collect(&g, submit(engine, texts[1], 20, MR_POOLING_CLS), expected[0]);
    collect(&g, submit(engine, texts[1], 21, MR_POOLING_CLS), vector);
    assert_memory_not_equal(vector, expected[0], g.n_embd * sizeof *vector);
    mr_engine_free(engine);
    close_golden(&g);
}

/* An encoder that reads 1,024 tokens: texts longer than a pass, alone and in the company of short ones, and one that is
 * given up. */
static void an_encoder_reads_texts_longer_than_a_pass(void **state) {
    (void)state;
    enum { N = 8, MOST = 1024 };
    static const size_t lengths[N] = {MOST, 3, 700, 512, 513, 40, MOST, 1};
    static int32_t texts[N][MOST];
    static float expected[N][MAX_EMBD], vector[MAX_EMBD];
    golden g = {.n_tokens = 0};
    mr_error err = {0};
    mr_model_options options = {.n_threads = 2};
    assert_int_equal(mr_hf_open(&g.gguf, MR_SOURCE_DIR "/tests/conformance/embedding/modernbert-long", &err), MR_OK);
    if (mr_model_load(&g.model, g.gguf, &options, &err) != MR_OK) fail_msg("%s", err.text);
    g.n_embd = mr_model_get_info(g.model)->n_embd;
    for (size_t i = 0; i < N; i++) {
        for (size_t t = 0; t < MOST; t++) texts[i][t] = (int32_t)(5 + (t * (i + 3) + t / 50 + i) % 59);
    }
    size_t block = mr_model_kv_layout(g.model, MR_KV_F32).block_bytes;
    mr_engine_config configs[] = {{.max_concurrent = 1},
                                  {.max_concurrent = 8},
                                  {.max_concurrent = 8, .context_size = 4096, .kv_bytes = (MOST / 32 + 2) * block}};
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        mr_engine *engine = new_engine(&g, configs[c]);
        assert_int_equal(mr_engine_context_size(engine), MOST);
        mr_request *requests[N];
        for (size_t i = 0; i < N; i++)
            requests[i] = submit(engine, texts[i], lengths[i], (mr_pooling)(MR_POOLING_MEAN + i % 3));
        mr_request_free(submit(engine, texts[2], MOST, MR_POOLING_MEAN));
        collect_same(&g, requests, N, c == 0, expected);
        wait_until_no_block_is_used(engine);
        mr_engine_free(engine);
    }
    assert_memory_not_equal(expected[0], expected[6], g.n_embd * sizeof *vector);
    close_golden(&g);
}

static void an_encoder_writes_nothing(void **state) {
    (void)state;
    golden g;
    open_golden(&g, "embedding/bert", 1);
    mr_engine *engine = new_engine(&g, (mr_engine_config){.context_size = 4096});
    mr_request *request = NULL;
    mr_error err = {0};
    static int32_t text[65];
    mr_request_params params = {.prompt = text, .n_prompt = 65, .pooling = MR_POOLING_CLS};
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "65 tokens"));
    params = (mr_request_params){.prompt = text, .n_prompt = 3, .sampling = mr_sampling_default()};
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_UNSUPPORTED);
    mr_engine_free(engine);
    mr_kv_pool pool;
    mr_kv_layout layout = mr_model_kv_layout(g.model, MR_KV_F16);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, 2, &err), MR_OK);
    const int32_t blocks[] = {0, 1};
    float row[48];
    mr_batch_run run = {.tokens = text, .n_tokens = 3, .blocks = blocks, .n_logits = 1, .logits = row};
    assert_int_equal(mr_model_forward(g.model, &pool, &run, 1, NULL, &err), MR_ERR_UNSUPPORTED);
    run = (mr_batch_run){.tokens = text, .n_tokens = 3, .blocks = blocks, .pos0 = 3};
    assert_int_equal(mr_model_forward(g.model, &pool, &run, 1, NULL, &err), MR_ERR_INVALID);
    run = (mr_batch_run){.tokens = text, .n_tokens = 65, .blocks = blocks};
    assert_int_equal(mr_model_forward(g.model, &pool, &run, 1, NULL, NULL), MR_ERR_INVALID);
    mr_kv_pool_free(&pool);
    close_golden(&g);
}

int main(void) {
    setenv("RUST_LOG", "error", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_those_of_the_reference),
        cmocka_unit_test(vectors_are_the_same_in_any_company),
        cmocka_unit_test(texts_and_vectors_go_together),
        cmocka_unit_test(texts_that_do_not_fit_are_refused_and_others_given_up),
        cmocka_unit_test(an_encoder_reads_whole_texts),
        cmocka_unit_test(an_encoder_reads_texts_longer_than_a_pass),
        cmocka_unit_test(an_encoder_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
