#include "fake_model.h"

size_t fake_state_bytes, fake_period, fake_device_block_bytes, fake_device_free = SIZE_MAX / 2;
uint32_t fake_n_draft;

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static uint64_t chain(uint64_t before, int32_t token, size_t pos) {
    return mix(mix(before, (uint64_t)(uint32_t)token + 1), pos);
}

/* Behind position pos, with the hash of all tokens up to it. */
static void fake_logits(uint64_t hash, size_t pos, float *logits) {
    for (int i = 0; i < N_VOCAB; i++) logits[i] = (float)(mix(hash, (uint64_t)i + 1000) >> 40) * 0x1p-21f;
    if (fake_period > 0 && mix(hash, 7) % 8 > 0) logits[(pos % fake_period * 11 + 5) % 50] += 12;
    logits[POISON] = -100;
}

static uint64_t *slot(const mr_kv_pool *pool, const int32_t *blocks, size_t pos) {
    assert(blocks[pos / MR_KV_BLOCK] >= 0 && (size_t)blocks[pos / MR_KV_BLOCK] < pool->n_blocks);
    return (uint64_t *)(void *)(pool->data + (size_t)blocks[pos / MR_KV_BLOCK] * pool->layout.block_bytes) +
           pos % MR_KV_BLOCK;
}

/* Waits at the gate; false when aborted there. */
static bool pass_gate(mr_model *model, const mr_cancel *abort_flag) {
    pthread_mutex_lock(&model->lock);
    model->inside = true;
    pthread_cond_broadcast(&model->changed);
    while (model->gate_closed && !mr_cancel_is_set(abort_flag)) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 1000000;
        if (soon.tv_nsec >= 1000000000) soon = (struct timespec){soon.tv_sec + 1, soon.tv_nsec - 1000000000};
        pthread_cond_timedwait(&model->changed, &model->lock, &soon);
    }
    model->inside = false;
    pthread_cond_broadcast(&model->changed);
    pthread_mutex_unlock(&model->lock);
    return !mr_cancel_is_set(abort_flag);
}

size_t mr_model_state_bytes(const mr_model *model) {
    (void)model;
    return fake_state_bytes;
}

/* A state is a half here and a half on a device, which is this memory, too; both are the same. */
static void put_state(const mr_state *state, uint64_t hash) {
    memcpy(state->data, &hash, sizeof hash);
    memcpy(state->device_data, &hash, sizeof hash);
}

/* The state that a run begins with must be that of the tokens before it. */
static void check_state(mr_model *model, const mr_batch_run *run, uint64_t hash) {
    uint64_t stored = 0, there = 0;
    if (run->pos0 > 0) memcpy(&stored, run->state.data, sizeof stored);
    if (run->pos0 > 0) memcpy(&there, run->state.device_data, sizeof there);
    if (stored != hash || there != hash) model->n_errors++;
    if (run->n_mid >= run->n_tokens || (run->n_mid > 0 && (run->pos0 + run->n_mid) % MR_KV_BLOCK != 0))
        model->n_errors++;
}

static mr_status compute_run(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *run) {
    uint64_t hash = 0;
    for (size_t pos = 0; pos < run->pos0; pos++) { /* everything before must be there, in one chain */
        uint64_t here = *slot(pool, run->blocks, pos);
        hash = mix(hash, here);
    }
    if (fake_state_bytes > 0) check_state(model, run, hash);
    for (size_t i = 0; i < run->n_tokens; i++) {
        size_t pos = run->pos0 + i;
        uint64_t before = pos == 0 ? 0 : *slot(pool, run->blocks, pos - 1);
        *slot(pool, run->blocks, pos) = chain(before, run->tokens[i], pos);
        hash = mix(hash, *slot(pool, run->blocks, pos));
        if (i + run->n_logits >= run->n_tokens)
            fake_logits(hash, pos, run->logits + (i + run->n_logits - run->n_tokens) * N_VOCAB);
        if (fake_state_bytes > 0 && i + 1 == run->n_mid) put_state(&run->state_mid, hash);
    }
    if (fake_state_bytes > 0) put_state(&run->state_out, hash);
    model->n_computed += run->n_tokens;
    return MR_OK;
}

/* Guesses are few, and as many for each. */
static void check_guesses(mr_model *model, const mr_batch_run *runs, size_t n_runs) {
    size_t n_tokens = 0, most = n_runs < 16 ? 16 / n_runs : 1;
    for (size_t r = 0; r < n_runs; r++) {
        n_tokens += runs[r].n_tokens;
        if (runs[r].n_tokens > most) model->n_errors++;
    }
    if (n_tokens > (n_runs > 16 ? n_runs : 16)) model->n_errors++;
}

mr_status mr_model_forward(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *runs, size_t n_runs,
                           const mr_cancel *abort_flag, mr_error *err) {
    size_t n_tokens = 0;
    uint32_t n_decodes = 0;
    bool poisoned = false;
    model->n_passes++;
    for (size_t r = 0; r < n_runs; r++) {
        n_tokens += runs[r].n_tokens;
        n_decodes += runs[r].n_tokens == 1;
        for (size_t i = 0; i < runs[r].n_tokens; i++) poisoned = poisoned || runs[r].tokens[i] == POISON;
    }
    if (n_tokens == 0 || n_tokens > MR_BATCH_MAX) {
        model->n_errors++;
        return mr_fail(err, MR_ERR_INTERNAL, "%zu tokens in a pass", n_tokens);
    }
    if (model->only_answers) check_guesses(model, runs, n_runs);
    for (size_t r = 0; r < n_runs; r++) {
        if (model->fail_guesses && runs[r].n_logits > 1) return mr_fail(err, MR_ERR_NOMEM, "there are guesses");
    }
    pthread_mutex_lock(&model->lock);
    model->last_decodes = n_decodes;
    uint32_t n_prefill = (uint32_t)n_tokens - n_decodes;
    if (n_decodes > 0 && n_prefill > model->most_prefill_with_decodes) model->most_prefill_with_decodes = n_prefill;
    pthread_mutex_unlock(&model->lock);
    if (n_prefill > 0 && !pass_gate(model, abort_flag)) {
        for (size_t r = 0; r < n_runs; r++) { /* what is left behind is undefined */
            for (size_t i = 0; i < runs[r].n_tokens; i++) *slot(pool, runs[r].blocks, runs[r].pos0 + i) = 0xDEADBEEF;
            if (fake_state_bytes > 0) put_state(&runs[r].state_out, 0xEFEFEFEF);
            if (runs[r].n_mid > 0) put_state(&runs[r].state_mid, 0xEFEFEFEF);
        }
        return mr_fail(err, MR_ERR_CANCELLED, "aborted");
    }
    if (poisoned && model->fail_status != MR_OK)
        return mr_fail(err, (mr_status)(int)model->fail_status, "the poison was computed");
    for (size_t r = 0; r < n_runs; r++) compute_run(model, pool, &runs[r]);
    return MR_OK;
}

const mr_model_info *mr_model_get_info(const mr_model *model) {
    return &model->info;
}

mr_kv_layout mr_model_kv_layout(const mr_model *model, mr_kv_type type) {
    (void)model;
    return (mr_kv_layout){.type = type, .block_bytes = MR_KV_BLOCK * sizeof(uint64_t)};
}

mr_status mr_model_kv_init(mr_model *model, mr_kv_pool *pool, mr_kv_type type, size_t n_blocks, mr_error *err) {
    mr_kv_layout layout = mr_model_kv_layout(model, type);
    return mr_kv_pool_init(pool, &layout, n_blocks, err);
}

void mr_model_kv_free(mr_model *model, mr_kv_pool *pool) {
    (void)model;
    mr_kv_pool_free(pool);
}

void mr_model_kv_copy(mr_model *model, const mr_kv_pool *pool, int32_t to, int32_t from) {
    size_t bytes = pool->layout.block_bytes;
    (void)model;
    memcpy(pool->data + (size_t)to * bytes, pool->data + (size_t)from * bytes, bytes);
}

mr_model_needs mr_model_needs_of(const mr_model *model, mr_kv_type type, bool on_device) {
    size_t here = mr_model_kv_layout(model, type).block_bytes;
    return (mr_model_needs){on_device ? fake_device_block_bytes : here, fake_state_bytes / 2};
}

size_t mr_model_device_free(const mr_model *model) {
    (void)model;
    return fake_device_free;
}

mr_status mr_model_fetch_logits(mr_model *model, const uint32_t *rows, float *const *to, size_t n, mr_error *err) {
    (void)model, (void)rows, (void)to, (void)n;
    return mr_fail(err, MR_ERR_INVALID, "the model is on no device");
}

mr_status mr_model_states_init(mr_model *model, mr_state_pool *pool, size_t n_states, mr_error *err) {
    (void)model;
    size_t half = fake_state_bytes / 2;
    *pool = (mr_state_pool){.n_states = n_states, .state_bytes = half, .device_state_bytes = half};
    pool->data = calloc(n_states, half);
    pool->device_data = calloc(n_states, half);
    return pool->data != NULL && pool->device_data != NULL ? MR_OK
                                                           : mr_fail_nomem(err, n_states * fake_state_bytes, "states");
}

void mr_model_states_free(mr_model *model, mr_state_pool *pool) {
    (void)model;
    free(pool->data);
    free(pool->device_data);
}

mr_state mr_state_at(const mr_state_pool *pool, size_t i) {
    return (mr_state){.data = (float *)(void *)(pool->data + i * pool->state_bytes),
                      .device_data = (float *)(void *)(pool->device_data + i * pool->device_state_bytes)};
}

mr_team *mr_model_team(mr_model *model) {
    return model->team;
}

mr_model *new_model(uint32_t n_ctx_train) {
    mr_model *model = calloc(1, sizeof *model);
    model->info = (mr_model_info){.n_vocab = N_VOCAB, .n_ctx_train = n_ctx_train};
    pthread_mutex_init(&model->lock, NULL);
    pthread_cond_init(&model->changed, NULL);
    mr_error err = {0};
    assert_int_equal(mr_team_new(&model->team, 2, &err), MR_OK);
    return model;
}

void free_model(mr_model *model) {
    assert_int_equal(model->n_errors, 0);
    mr_team_free(model->team);
    pthread_cond_destroy(&model->changed);
    pthread_mutex_destroy(&model->lock);
    free(model);
}

void set_gate(mr_model *model, bool closed) {
    pthread_mutex_lock(&model->lock);
    model->gate_closed = closed;
    pthread_cond_broadcast(&model->changed);
    pthread_mutex_unlock(&model->lock);
}

void wait_inside(mr_model *model) {
    pthread_mutex_lock(&model->lock);
    while (!model->inside) pthread_cond_wait(&model->changed, &model->lock);
    pthread_mutex_unlock(&model->lock);
}

mr_engine *new_engine(mr_model *model, mr_engine_config config) {
    mr_engine *engine = NULL;
    mr_error err = {0};
    if (fake_n_draft > 0) config.n_draft = fake_n_draft;
    config.draft_cost = 0.2; /* no test depends on time */
    assert_int_equal(mr_engine_new(&engine, model, &config, &err), MR_OK);
    return engine;
}

size_t expected_masked(const int32_t *prompt, size_t n_prompt, const mr_sampling *sampling, size_t n_max, int32_t eog,
                       mr_mask_fn mask, void *mask_ctx, int32_t *text) {
    mr_sampler *sampler;
    mr_error err = {0};
    float logits[N_VOCAB];
    uint64_t bits[(N_VOCAB + 63) / 64];
    int32_t *all = malloc((n_prompt + n_max) * sizeof *all);
    memcpy(all, prompt, n_prompt * sizeof *all);
    mr_sampler_new(&sampler, sampling, N_VOCAB, &err);
    uint64_t slot_value = 0, hash = 0;
    size_t n = n_prompt, done = 0;
    while (n - n_prompt < n_max) {
        for (; done < n; done++) {
            slot_value = chain(slot_value, all[done], done);
            hash = mix(hash, slot_value);
        }
        fake_logits(hash, n - 1, logits);
        bool masked = mask != NULL && mask(mask_ctx, all + n_prompt, n - n_prompt, bits);
        int32_t token = mr_sampler_next(sampler, logits, all, n, masked ? bits : NULL);
        if (token == eog) break;
        all[n++] = token;
    }
    memcpy(text, all + n_prompt, (n - n_prompt) * sizeof *text);
    mr_sampler_free(sampler);
    free(all);
    return n - n_prompt;
}

size_t expected_text(const int32_t *prompt, size_t n_prompt, const mr_sampling *sampling, size_t n_max, int32_t eog,
                     int32_t *text) {
    return expected_masked(prompt, n_prompt, sampling, n_max, eog, NULL, NULL, text);
}

mr_request *submit(mr_engine *engine, const int32_t *prompt, size_t n_prompt, uint32_t max_tokens,
                   const mr_sampling *sampling) {
    mr_request_params params = {
        .prompt = prompt, .n_prompt = n_prompt, .max_tokens = max_tokens, .sampling = *sampling};
    mr_request *request = NULL;
    mr_error err = {0};
    mr_status status = mr_engine_submit(engine, &params, &request, &err);
    if (status != MR_OK) printf("submit: %s\n", err.text);
    assert(status == MR_OK);
    return request;
}

long collect(mr_request *request, int32_t *text, mr_finish *finish, mr_error *err) {
    long n = 0;
    for (;;) {
        int32_t token;
        if (mr_request_next(request, NULL, &token, finish, err) != MR_OK) return -1;
        if (*finish != MR_FINISH_NONE) return n;
        text[n++] = token;
    }
}

mr_sampling greedy(void) {
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = 0;
    return sampling;
}

size_t make_prompt(int32_t *prompt, size_t n, int style, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        prompt[i] = (int32_t)((i * 7 + (size_t)style) % 50);
        if (i >= 70 && i % 11 == 0) prompt[i] = (int32_t)(mr_random_uniform(seed, i) * 50);
    }
    return n;
}

mr_request_stats run_and_check(mr_engine *engine, const int32_t *prompt, size_t n_prompt, uint32_t max_tokens,
                               const mr_sampling *sampling) {
    int32_t *got = malloc(max_tokens * sizeof *got), *want = malloc(max_tokens * sizeof *want);
    mr_finish finish;
    mr_error err = {0};
    size_t n_want = expected_text(prompt, n_prompt, sampling, max_tokens, -1, want);
    mr_request *request = submit(engine, prompt, n_prompt, max_tokens, sampling);
    long n_got = collect(request, got, &finish, &err);
    if (n_got < 0) printf("error: %s\n", err.text);
    assert(n_got == (long)n_want);
    assert(memcmp(got, want, n_want * sizeof *got) == 0);
    assert(finish == MR_FINISH_LENGTH);
    mr_request_stats stats = mr_request_get_stats(request);
    mr_request_free(request);
    free(got);
    free(want);
    return stats;
}
