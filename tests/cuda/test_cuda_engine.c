/* The engine on the CUDA back end: texts are those of the CPU, whether chosen on the device or from logits, with cached
 * prefixes and recurrent states; and what stands in the way is said in sentences. */
#include "harness.h"

#include "compute/backend.h"
#include "engine/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_PROMPT = 40, N_TEXT = 6, N_REQUESTS = 3 };

typedef struct loaded {
    mr_gguf *gguf;
    mr_backend *backend; /* NULL: the model's own */
    mr_model *model;
    mr_engine *engine;
} loaded;

/* A golden model, or with NULL the one for tests and demonstrations, whose vocabulary is larger. */
static mr_status open_file(mr_gguf **gguf, const char *name, mr_error *err) {
    char path[512];
    if (name != NULL)
        snprintf(path, sizeof path, "%s/tests/conformance/logits/%s.gguf", MR_SOURCE_DIR, name);
    else
        snprintf(path, sizeof path, "%s/models/mistral-runner-tiny.gguf", MR_SOURCE_DIR);
    const char *paths[] = {path};
    return mr_gguf_open(gguf, paths, 1, err);
}

static mr_status start(loaded *l, const char *name, mr_model_options options, mr_error *err) {
    const mr_engine_config config = {.context_size = 128, .max_concurrent = 4, .n_snapshots = 4};
    options.n_threads = 1;
    options.kv_tokens = 1024;
    mr_status status = open_file(&l->gguf, name, err);
    if (status == MR_OK) status = mr_model_load(&l->model, l->gguf, &options, err);
    if (status == MR_OK) status = mr_engine_new(&l->engine, l->model, &config, err);
    return status;
}

static mr_status load(loaded *l, const char *name, const char *device, mr_error *err) {
    *l = (loaded){0};
    return start(l, name, (mr_model_options){.device = device}, err);
}

/* The layers from first_layer on are the device's. */
static mr_status load_split(loaded *l, const char *name, uint32_t first_layer, mr_error *err) {
    *l = (loaded){0};
    mr_status status = mr_backend_cuda_open(&l->backend, 0, err);
    const mr_model_options options = {.backend = l->backend, .first_device_layer = first_layer};
    return status == MR_OK ? start(l, name, options, err) : status;
}

static void unload(loaded *l) {
    mr_engine_free(l->engine);
    mr_model_free(l->model);
    mr_backend_close(l->backend);
    mr_gguf_close(l->gguf);
}

/* Texts of N_REQUESTS requests at once, which share a beginning, into texts [N_REQUESTS, N_TEXT]. */
static void generate(loaded *l, float temperature, int32_t *texts) {
    mr_request *requests[N_REQUESTS];
    mr_error err = {0};
    for (int i = 0; i < N_REQUESTS; i++) {
        int32_t prompt[N_PROMPT];
        for (int t = 0; t < N_PROMPT; t++) prompt[t] = t < N_PROMPT - 3 ? 5 + t % 7 : 3 + i + t % 3;
        mr_request_params params = {
            .prompt = prompt, .n_prompt = N_PROMPT, .max_tokens = N_TEXT, .sampling = mr_sampling_default()};
        params.sampling.temperature = temperature;
        params.sampling.seed = (uint64_t)i;
        if (mr_engine_submit(l->engine, &params, &requests[i], &err) != MR_OK) fail_test("%s", err.text);
    }
    for (int i = 0; i < N_REQUESTS; i++) {
        mr_finish finish = MR_FINISH_NONE;
        for (int t = 0; t < N_TEXT; t++) {
            if (mr_request_next(requests[i], NULL, &texts[i * N_TEXT + t], &finish, &err) != MR_OK || finish != 0)
                fail_test("request %d ended at token %d: %s", i, t, err.text);
        }
        mr_request_free(requests[i]);
    }
}

/* first_layer 0: all layers are the device's. */
static void compare(const char *name, uint32_t first_layer) {
    int32_t wanted[N_REQUESTS * N_TEXT], got[N_REQUESTS * N_TEXT];
    mr_error err = {0};
    loaded cpu, gpu;
    mr_status status = load(&cpu, name, "cpu", &err);
    if (status == MR_OK)
        status = first_layer > 0 ? load_split(&gpu, name, first_layer, &err) : load(&gpu, name, "cuda", &err);
    if (status != MR_OK) fail_test("%s: %s", name, err.text);
    const mr_model_info *info = mr_model_get_info(gpu.model);
    if (info->device[0] == '\0' || info->first_device_layer != first_layer)
        fail_test("%s is not on the device from layer %u on", name, first_layer);
    for (int round = 0; round < 3; round++) { /* the second time what came before is cached; then with draws */
        float temperature = round < 2 ? 0.0f : 0.7f;
        generate(&cpu, temperature, wanted);
        generate(&gpu, temperature, got);
        if (memcmp(wanted, got, sizeof got) != 0) fail_test("%s: the texts of round %d differ", name, round);
    }
    if (mr_engine_get_stats(gpu.engine).n_prompt_cached == 0) fail_test("%s: nothing was cached", name);
    unload(&cpu);
    unload(&gpu);
}

static void test_attention(void) {
    compare("llama-gqa", 0);
}

static void test_states(void) {
    compare("lfm2", 0);
}

/* States, shared keys and several streams on both sides of a border. */
static void test_split(void) {
    compare("lfm2", 2);
    compare("qwen3next", 1);
    compare("gemma3n", 2);
}

/* MR_ERR_NOMEM, or the model on a device that has n_bytes. */
static mr_status load_into(loaded *l, const char *name, size_t n_bytes, mr_error *err) {
    char text[32];
    snprintf(text, sizeof text, "%zu", n_bytes);
    setenv("MR_FAKE_CUDA_BYTES", text, 1);
    mr_status status = load(l, name, "cuda", err);
    if ((status != MR_OK && status != MR_ERR_NOMEM) || n_bytes > (size_t)1 << 30)
        fail_test("%s with %zu bytes: %s", name, n_bytes, err->text);
    return status;
}

/* An amount of memory that is not enough, where a little more is; less was refused with a sentence that has the part.
 */
static size_t too_little_for(const char *name, const char *part) {
    mr_status status = MR_ERR_NOMEM;
    size_t n_bytes = 1 << 20, before = 0;
    bool told = false;
    while (status != MR_OK) {
        loaded l;
        mr_error err = {0};
        before = n_bytes;
        n_bytes += n_bytes / 8;
        status = load_into(&l, name, n_bytes, &err);
        told = told || strstr(err.text, part) != NULL;
        unload(&l);
    }
    if (!told) fail_test("%s: nothing tells \"%s\"", name, part);
    return before;
}

/* From too little memory up to enough for all: what is loaded gives the CPU's texts, and some of it is split by the
 * plan, within the borders that are allowed. */
static void test_plans(const char *name, uint32_t last_border, const char *part) {
    int32_t wanted[N_REQUESTS * N_TEXT], got[N_REQUESTS * N_TEXT];
    uint32_t border = UINT32_MAX, n_splits = 0;
    mr_error err = {0};
    loaded l;
    if (load(&l, name, "cpu", &err) != MR_OK) fail_test("%s: %s", name, err.text);
    generate(&l, 0.0f, wanted);
    unload(&l);
    for (size_t n_bytes = too_little_for(name, part); border > 0; n_bytes += n_bytes / 256) {
        uint32_t before = border;
        if (load_into(&l, name, n_bytes, &err) == MR_OK) border = mr_model_get_info(l.model)->first_device_layer;
        if (border > before || (border != UINT32_MAX && border > last_border))
            fail_test("%s: with %zu bytes the border is at layer %u", name, n_bytes, border);
        if (border < before) {
            n_splits += border > 0;
            generate(&l, 0.0f, got);
            if (memcmp(wanted, got, sizeof got) != 0) fail_test("%s: the texts from layer %u differ", name, border);
        }
        unload(&l);
    }
    if (n_splits == 0) fail_test("%s was never split", name);
    unsetenv("MR_FAKE_CUDA_BYTES");
}

static void test_planned_splits(void) {
    test_plans("lfm2", 3, "before the first layer); lower");
    test_plans("gemma3n", 2, "; layers 2 to 5 share keys and values and go together; lower");
}

/* The text of one request alone. */
static void draw(mr_engine *engine, const mr_sampling *sampling, const int32_t *prompt, size_t n, int32_t *text) {
    mr_request *request;
    mr_error err = {0};
    mr_finish finish = MR_FINISH_NONE;
    const mr_request_params params = {.prompt = prompt, .n_prompt = n, .max_tokens = N_TEXT, .sampling = *sampling};
    if (mr_engine_submit(engine, &params, &request, &err) != MR_OK) fail_test("%s", err.text);
    for (int t = 0; t < N_TEXT; t++) {
        if (mr_request_next(request, NULL, &text[t], &finish, &err) != MR_OK || finish != 0)
            fail_test("a request ended at token %d: %s", t, err.text);
    }
    mr_request_free(request);
}

/* The same by passes that give whole rows of logits. */
static void draw_from_rows(mr_model *model, const mr_sampling *sampling, const int32_t *prompt, size_t n,
                           int32_t *text) {
    int32_t tokens[N_PROMPT + N_TEXT], blocks[] = {0, 1};
    size_t n_vocab = mr_model_get_info(model)->n_vocab, n_computed = 0;
    float *logits = must_alloc(n_vocab * sizeof *logits);
    mr_sampler *sampler;
    mr_kv_pool pool;
    mr_error err = {0};
    memcpy(tokens, prompt, n * sizeof *tokens);
    if (mr_model_kv_init(model, &pool, MR_KV_F16, 2, &err) != MR_OK ||
        mr_sampler_new(&sampler, sampling, n_vocab, &err) != MR_OK)
        fail_test("%s", err.text);
    for (int t = 0; t < N_TEXT; t++) {
        const mr_batch_run run = {.tokens = tokens + n_computed,
                                  .n_tokens = (uint32_t)(n - n_computed),
                                  .pos0 = (uint32_t)n_computed,
                                  .blocks = blocks,
                                  .n_logits = 1,
                                  .logits = logits};
        if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_test("%s", err.text);
        n_computed = n;
        text[t] = tokens[n] = mr_sampler_next(sampler, logits, tokens, n, NULL);
        n++;
    }
    mr_sampler_free(sampler);
    mr_model_kv_free(model, &pool);
    free(logits);
}

/* Draws from candidates, from rows fetched behind them, from rows alone and without a draw, by turns, so that steps of
 * each kind are recorded and none is taken for another. */
static void test_candidates(void) {
    enum { N_SETTINGS = 6, FLAT = 3 };
    static const mr_sampling settings[N_SETTINGS] = {
        {.temperature = 1, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1},
        {.temperature = 0, .top_p = 1, .repeat_penalty = 1.3f, .repeat_last_n = 64},
        {.temperature = 0.8f, .top_p = 0.9f, .repeat_penalty = 1.1f, .repeat_last_n = 64},
        {.temperature = 3, .top_p = 0.9999f, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 0, .top_p = 1, .repeat_penalty = 1}};
    int32_t wanted[N_TEXT], got[N_TEXT];
    mr_error err = {0};
    loaded l;
    if (load(&l, NULL, "cuda", &err) != MR_OK) fail_test("%s", err.text);
    const mr_engine_config config = {.context_size = 128, .no_prefix_cache = true};
    mr_engine_free(l.engine);
    for (int i = 0; i < 2 * N_SETTINGS; i++) {
        if (mr_engine_new(&l.engine, l.model, &config, &err) != MR_OK) fail_test("%s", err.text);
        const int32_t prompt[] = {5, 300 + 40 * i, 17, 900 + i};
        mr_sampling sampling = settings[i % N_SETTINGS];
        sampling.seed = (uint64_t)i;
        draw(l.engine, &sampling, prompt, 4, got);
        uint64_t n_fetched = mr_engine_get_stats(l.engine).n_rows_fetched;
        mr_engine_free(l.engine);
        l.engine = NULL;
        draw_from_rows(l.model, &sampling, prompt, 4, wanted);
        if (memcmp(wanted, got, sizeof got) != 0) fail_test("the texts with settings %d differ", i % N_SETTINGS);
        bool few = sampling.top_k > 0 || sampling.temperature == 0;
        if (few ? n_fetched > 0 : i % N_SETTINGS == FLAT && n_fetched < N_TEXT / 2)
            fail_test("%d rows were fetched with settings %d", (int)n_fetched, i % N_SETTINGS);
    }
    unload(&l);
}

static void expect_refused(const char *device, mr_status wanted, const char *part) {
    mr_error err = {0};
    loaded l;
    mr_status status = load(&l, "llama-gqa", device, &err);
    if (status != wanted || strstr(err.text, part) == NULL)
        fail_test("device %s: status %d and \"%s\" instead of \"…%s…\"", device, (int)status, err.text, part);
    unload(&l);
}

static void test_wrong_number(void) {
    expect_refused("cuda:99", MR_ERR_NOT_FOUND, "no GPU number 99");
    expect_refused("gpu", MR_ERR_INVALID, "cuda:N");
}

/* With auto the CPU serves, whatever stands in the way. */
static void expect_cpu(const char *what) {
    mr_error err = {0};
    loaded l;
    if (load(&l, "llama-gqa", "auto", &err) != MR_OK) fail_test("auto with %s: %s", what, err.text);
    if (mr_model_get_info(l.model)->device[0] != '\0') fail_test("auto chose a device with %s", what);
    unload(&l);
}

/* A device that the plan chose, and that fails while the model is loaded to it. */
static void test_fault_of_loading(void) {
    setenv("MR_FAKE_CUDA_FAULT", "cuMemcpyHtoDAsync_v2", 1);
    expect_refused("cuda", MR_ERR_UNAVAILABLE, "emulated device");
    expect_cpu("failing transfers");
    unsetenv("MR_FAKE_CUDA_FAULT");
}

/* Memory that holds nothing, the plan but not what comes later, and so on until all fits: errors with numbers. */
static void test_memory(void) {
    bool fits = false;
    for (size_t n_bytes = 4096; !fits; n_bytes += n_bytes / 4) {
        char text[32];
        mr_error err = {0};
        loaded l;
        snprintf(text, sizeof text, "%zu", n_bytes);
        setenv("MR_FAKE_CUDA_BYTES", text, 1);
        mr_status status = load(&l, "llama-gqa", "cuda", &err);
        fits = status == MR_OK;
        bool told = status == MR_ERR_NOMEM && (strstr(err.text, "iB") != NULL || strstr(err.text, "bytes") != NULL);
        if (!fits && !told) fail_test("with %s bytes: status %d and \"%s\"", text, (int)status, err.text);
        bool loads = l.model != NULL;
        unload(&l);
        if (!loads) expect_cpu("too few bytes");
        if (n_bytes > (size_t)1 << 30) fail_test("nothing is enough");
    }
    unsetenv("MR_FAKE_CUDA_BYTES");
}

/* A kernel that cannot be started ends the pass with a sentence; the next pass is as good as ever. */
static void test_fault(void) {
    static const char *const kernels[] = {"mr_k_prepare", "mr_k_heads", "mr_k_angles"};
    mr_error err = {0};
    loaded l;
    mr_kv_pool pool;
    if (load(&l, "llama-gqa", "cuda", &err) != MR_OK) fail_test("%s", err.text);
    mr_engine_free(l.engine);
    l.engine = NULL;
    const int32_t tokens[] = {3, 4, 5}, blocks[] = {0};
    int32_t best = -1;
    const mr_batch_run run = {.tokens = tokens, .n_tokens = 3, .blocks = blocks, .n_logits = 1, .best = &best};
    if (mr_model_kv_init(l.model, &pool, MR_KV_F16, 1, &err) != MR_OK) fail_test("%s", err.text);
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        setenv("MR_FAKE_CUDA_FAULT", kernels[i], 1);
        mr_status status = mr_model_forward(l.model, &pool, &run, 1, NULL, &err);
        if (status != MR_ERR_UNAVAILABLE || strstr(err.text, "cuLaunchKernel") == NULL ||
            strstr(err.text, kernels[i]) == NULL || strstr(err.text, "719") == NULL)
            fail_test("a fault of %s: status %d and \"%s\"", kernels[i], (int)status, err.text);
        unsetenv("MR_FAKE_CUDA_FAULT");
        best = -1;
        if (mr_model_forward(l.model, &pool, &run, 1, NULL, &err) != MR_OK || best < 0)
            fail_test("after a fault of %s: %s", kernels[i], err.text);
    }
    mr_model_kv_free(l.model, &pool);
    unload(&l);
}

/* A thread of the host, which has no context, or the one of others: after all that it calls it has the same. */
static void *as_host(void *context) {
    mr_error err = {0};
    loaded l;
    gpu_context(context);
    for (int i = 0; i < 2; i++) {
        mr_status status = load(&l, i == 0 ? "llama-gqa" : "qwen3moe", "cuda", &err);
        if (status != MR_OK) fail_test("%s", err.text);
        if (gpu_context(context) != context) fail_test("loading leaves a context behind");
        unload(&l);
        if (gpu_context(context) != context) fail_test("freeing leaves a context behind");
        if (load(&l, "llama-gqa", "cuda:99", &err) == MR_OK) fail_test("there are 100 devices");
        unload(&l);
        if (gpu_context(context) != context) fail_test("an error leaves a context behind");
    }
    return NULL;
}

static void test_contexts(void) {
    void *ours = gpu_context(NULL);
    gpu_context(ours);
    void *const contexts[] = {NULL, ours};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, as_host, contexts[i]) != 0) fail_test("no thread");
        pthread_join(thread, NULL);
    }
}

/* Without graphs steps are issued one by one, from the step on whose graph cannot be made or started. */
static void test_without_graphs(void) {
    static const char *const faults[] = {"cuGraphInstantiateWithFlags", "cuGraphLaunch"};
    int32_t wanted[N_REQUESTS * N_TEXT], got[N_REQUESTS * N_TEXT];
    mr_error err = {0};
    loaded l;
    if (load(&l, "lfm2", "cuda", &err) != MR_OK) fail_test("%s", err.text);
    generate(&l, 0.0f, wanted);
    unload(&l);
    for (int i = 0; i < 3; i++) {
        if (load(&l, "lfm2", "cuda", &err) != MR_OK) fail_test("%s", err.text);
        if (i == 2) generate(&l, 0.0f, got); /* graphs that were good once */
        setenv("MR_FAKE_CUDA_FAULT", faults[i % 2], 1);
        generate(&l, 0.0f, got);
        if (memcmp(wanted, got, sizeof got) != 0) fail_test("without %s the texts differ", faults[i % 2]);
        unsetenv("MR_FAKE_CUDA_FAULT");
        unload(&l);
    }
}

/* Devices and drivers that are too old for the kernels. */
static void test_too_old(void) {
    setenv("MR_FAKE_CUDA_CAPABILITY", "7.5", 1);
    expect_refused("cuda", MR_ERR_UNSUPPORTED, "has compute capability 7.5; the kernels need 8.0");
    unsetenv("MR_FAKE_CUDA_CAPABILITY");
    setenv("MR_FAKE_CUDA_FAULT", "cuModuleLoadData", 1);
    expect_refused("cuda", MR_ERR_UNAVAILABLE, "the driver is one for CUDA 12.4, and has to be");
    unsetenv("MR_FAKE_CUDA_FAULT");
}

int main(void) {
    char device[128] = "";
    setenv("RUST_LOG", "warn", 0);
    if (!gpu_begin()) return end_tests();
    gpu_describe(device, sizeof device);
    run_test("texts_are_those_of_the_cpu", test_attention);
    run_test("texts_with_recurrent_states", test_states);
    run_test("texts_drawn_from_candidates", test_candidates);
    run_test("texts_of_split_models", test_split);
    run_test("wrong_devices_are_refused", test_wrong_number);
    run_test("threads_keep_their_contexts", test_contexts);
    if (strstr(device, "emulated") != NULL) {
        run_test("too_little_memory_is_an_error", test_memory);
        run_test("a_fault_of_loading_leaves_it_to_the_cpu", test_fault_of_loading);
        run_test("plans_split_where_they_may", test_planned_splits);
        run_test("a_launch_that_fails_is_an_error", test_fault);
        run_test("steps_run_without_graphs", test_without_graphs);
        run_test("what_is_too_old_is_refused", test_too_old);
    }
    return end_tests();
}
