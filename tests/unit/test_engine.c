/* floors: engine */
/* The scheduler with a model that notices every wrong block, stale share or lost position; also with a recurrent state,
 * and with guesses. */
#include "fake_model.c"

#include "base/log.h"

static void text_is_the_same_for_any_chunking_and_caching(void **state) {
    (void)state;
    static const uint32_t chunks[] = {0, 1, 7, 32, 100, 512};
    for (size_t c = 0; c < 6; c++) {
        for (int cached = 0; cached < 2; cached++) {
            mr_model *model = new_model(2048);
            mr_engine *engine =
                new_engine(model, (mr_engine_config){.prefill_chunk = chunks[c], .no_prefix_cache = !cached});
            mr_sampling sampling = greedy();
            int32_t prompt[1200];
            for (size_t n = 1; n < 1200; n += n < 100 ? 13 : 217) {
                make_prompt(prompt, n, 1, 1);
                mr_request_stats stats = run_and_check(engine, prompt, n, 40, &sampling);
                assert_int_equal(stats.n_prompt, n);
                assert_int_equal(stats.n_generated, 40);
                if (!cached) assert_int_equal(stats.n_prompt_cached, 0);
            }
            sampling.temperature = 1;
            sampling.seed = c;
            run_and_check(engine, prompt, 100, 40, &sampling);
            mr_engine_free(engine);
            free_model(model);
        }
    }
}

static void a_prefix_is_computed_once(void **state) {
    (void)state;
    mr_model *model = new_model(4096);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    mr_sampling sampling = greedy();
    int32_t prompt[3000], answer[64];
    for (int i = 0; i < 3000; i++) prompt[i] = i % 97;
    assert_int_equal(run_and_check(engine, prompt, 2000, 20, &sampling).n_prompt_cached, 0);
    /* All but the last token, whose logits are needed. */
    assert_int_equal(run_and_check(engine, prompt, 2000, 20, &sampling).n_prompt_cached, 1999);
    /* A shorter one; one that goes on differently. */
    assert_int_equal(run_and_check(engine, prompt, 1000, 1, &sampling).n_prompt_cached, 999);
    prompt[1500] = 98;
    assert_int_equal(run_and_check(engine, prompt, 2000, 1, &sampling).n_prompt_cached, 1500);
    prompt[1500] = 1500 % 97;
    /* The next turn of a chat: prompt, answer, and more. All but the answer's last token was computed. */
    size_t n = expected_text(prompt, 2000, &sampling, 20, -1, answer);
    memcpy(prompt + 2000, answer, n * sizeof *answer);
    for (size_t i = 2000 + n; i < 2100; i++) prompt[i] = 5;
    uint64_t before = model->n_computed;
    assert_int_equal(run_and_check(engine, prompt, 2100, 1, &sampling).n_prompt_cached, 2000 + n - 1);
    assert_int_equal(model->n_computed - before, 2100 - (2000 + n - 1));
    assert_int_equal(mr_engine_get_stats(engine).n_blocks_used, 0);
    mr_engine_free(engine);
    free_model(model);
}

/* A recurrent state is there only where a snapshot was made: at the last end of a block of a prompt and at those of an
 * answer; then, from the second one on, where texts part. */
static void a_recurrent_state_goes_on_from_snapshots(void **state) {
    (void)state;
    mr_model *model = new_model(4096);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    mr_sampling sampling = greedy();
    int32_t prompt[3000], answer[128];
    for (int i = 0; i < 3000; i++) prompt[i] = i % 97;
    assert_int_equal(run_and_check(engine, prompt, 500, 100, &sampling).n_prompt_cached, 0);
    assert_int_equal(run_and_check(engine, prompt, 500, 20, &sampling).n_prompt_cached, 480);
    size_t n = expected_text(prompt, 500, &sampling, 100, -1, answer);
    memcpy(prompt + 500, answer, n * sizeof *answer);
    assert_int_equal(run_and_check(engine, prompt, 620, 1, &sampling).n_prompt_cached, 576);
    prompt[300] = 98; /* two others part from these at 288 */
    assert_int_equal(run_and_check(engine, prompt, 450, 1, &sampling).n_prompt_cached, 0);
    prompt[301] = 98;
    uint64_t before = model->n_computed;
    assert_int_equal(run_and_check(engine, prompt, 450, 1, &sampling).n_prompt_cached, 288);
    assert_int_equal(model->n_computed - before, 450 - 288);
    assert_int_equal(mr_engine_get_stats(engine).n_blocks_used, 0);
    mr_engine_free(engine);
    /* One snapshot alone is the latest. */
    engine = new_engine(model, (mr_engine_config){.n_snapshots = 1, .max_concurrent = 1});
    assert_int_equal(mr_engine_get_stats(engine).n_states, 4);
    assert_int_equal(mr_engine_get_stats(engine).state_bytes, 4 * fake_state_bytes);
    run_and_check(engine, prompt, 500, 1, &sampling);
    assert_int_equal(run_and_check(engine, prompt, 500, 1, &sampling).n_prompt_cached, 480);
    for (int i = 0; i < 4; i++) prompt[0] = 50 + i, run_and_check(engine, prompt, 500, 1, &sampling);
    prompt[0] = 0;
    assert_int_equal(run_and_check(engine, prompt, 500, 1, &sampling).n_prompt_cached, 0);
    mr_engine_free(engine);
    free_model(model);
}

/* Blocks and states have to fit into the memory here and into that of a device, whichever holds fewer. */
static void the_smaller_memory_counts(void **state) {
    (void)state;
    mr_model *model = new_model(4096);
    mr_sampling sampling = greedy();
    int32_t prompt[600];
    mr_engine_stats stats;
    for (int i = 0; i < 600; i++) prompt[i] = i % 97;
    fake_device_block_bytes = 1000;
    fake_device_free = 100000; /* 90,000 of it count */
    for (int with_kv_bytes = 0; with_kv_bytes < 2; with_kv_bytes++) {
        mr_engine *engine = new_engine(model, (mr_engine_config){.kv_bytes = with_kv_bytes ? 300 * 256 : 0});
        stats = mr_engine_get_stats(engine);
        assert_int_equal(stats.n_states, 8 * 3 + 512); /* of 32 bytes each there */
        assert_int_equal(stats.n_blocks, (90000 - stats.n_states * 32) / 1000);
        run_and_check(engine, prompt, 600, 20, &sampling);
        mr_engine_free(engine);
    }
    /* States for four sequences in a half, and seven snapshots in a quarter of what counts. */
    fake_device_block_bytes = 1;
    fake_device_free = 1000;
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    stats = mr_engine_get_stats(engine);
    assert_int_equal(stats.n_states, 4 * 3 + 7);
    run_and_check(engine, prompt, 600, 20, &sampling);
    mr_engine_free(engine);
    fake_device_free = 150;
    mr_error err = {0};
    assert_int_equal(mr_engine_new(&engine, model, &(mr_engine_config){0}, &err), MR_ERR_NOMEM);
    assert_non_null(strstr(err.text, "on the device"));
    fake_device_block_bytes = 0;
    fake_device_free = SIZE_MAX / 2;
    free_model(model);
}

static void equal_prompts_at_once_share_their_computation(void **state) {
    (void)state;
    mr_model *model = new_model(2048);
    mr_engine *engine = new_engine(model, (mr_engine_config){.max_concurrent = 8, .kv_bytes = (size_t)400 * 256});
    mr_sampling sampling = greedy();
    int32_t prompt[1001], text[8], want[8];
    for (int i = 0; i < 1001; i++) prompt[i] = i % 89;
    expected_text(prompt, 1000, &sampling, 4, -1, want);
    set_gate(model, true); /* so that all have arrived before the first pass ends */
    mr_request *requests[8];
    for (int i = 0; i < 8; i++) requests[i] = submit(engine, prompt, 1000, 4, &sampling);
    wait_inside(model);
    set_gate(model, false);
    for (int i = 0; i < 8; i++) {
        mr_finish finish;
        mr_error err = {0};
        assert_int_equal(collect(requests[i], text, &finish, &err), 4);
        assert_memory_equal(text, want, 4 * sizeof *text);
        mr_request_free(requests[i]);
    }
    /* 1000 once, at most a block for each of the others, and what they generate. */
    assert_true(model->n_computed <= 1000 + 7 * MR_KV_BLOCK + 8 * 4);
    mr_engine_free(engine);
    free_model(model);
}

/* Many threads, a pool far too small for all, cancels in between: every text must come out as if it had been alone. */
typedef struct client {
    mr_engine *engine;
    uint64_t seed;
    int n_rounds;
} client;

static void *client_main(void *arg) {
    client *c = arg;
    int32_t prompt[400];
    for (int round = 0; round < c->n_rounds; round++) {
        uint64_t r = (uint64_t)round;
        size_t n = 1 + (size_t)(mr_random_uniform(c->seed, r) * 399);
        make_prompt(prompt, n, (int)(mr_random_uniform(c->seed + 50, r) * 3), c->seed * 1000 + r / 2);
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = round % 2 ? 0 : 0.9f;
        sampling.top_p = round % 3 ? 1 : 0.9f;
        sampling.seed = r;
        uint32_t max_tokens = 1 + (uint32_t)(mr_random_uniform(c->seed + 100, r) * 100);
        if (round % 5 == 4) { /* give up after some tokens */
            mr_request *request = submit(c->engine, prompt, n, max_tokens, &sampling);
            for (uint32_t i = 0; i < max_tokens / 3; i++) {
                int32_t token;
                mr_finish finish;
                mr_error err = {0};
                mr_request_next(request, NULL, &token, &finish, &err);
            }
            mr_request_free(request);
        } else {
            run_and_check(c->engine, prompt, n, max_tokens, &sampling);
        }
    }
    return NULL;
}

static void texts_do_not_depend_on_company(void **state) {
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        mr_model *model = new_model(512);
        /* 512 tokens of context are 16 blocks; the pools hold 16, 24 and 200. */
        size_t n_blocks = variant == 0 ? 16 : variant == 1 ? 24 : 200;
        mr_engine *engine =
            new_engine(model, (mr_engine_config){.max_concurrent = 6,
                                                 .prefill_chunk = variant == 2 ? 50 : 0,
                                                 .kv_bytes = n_blocks * MR_KV_BLOCK * sizeof(uint64_t)});
        assert_int_equal(mr_engine_context_size(engine), 512);
        enum { N_CLIENTS = 8 };
        pthread_t threads[N_CLIENTS];
        client clients[N_CLIENTS];
        for (int i = 0; i < N_CLIENTS; i++) {
            clients[i] = (client){.engine = engine, .seed = (uint64_t)(i + 10 * variant), .n_rounds = 40};
            assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
        }
        for (int i = 0; i < N_CLIENTS; i++) pthread_join(threads[i], NULL);
        mr_engine_stats stats = mr_engine_get_stats(engine);
        assert_int_equal(stats.n_blocks, n_blocks);
        assert_int_equal(stats.n_requests, N_CLIENTS * 40);
        if (variant < 2) assert_true(stats.n_preempted > 0);
        assert_true(stats.n_prompt_cached > 0);
        print_message("%zu blocks: %llu passes, %llu preempted, %llu of %llu prompt tokens cached\n", n_blocks,
                      (unsigned long long)stats.n_passes, (unsigned long long)stats.n_preempted,
                      (unsigned long long)stats.n_prompt_cached, (unsigned long long)stats.n_prompt_tokens);
        mr_engine_free(engine);
        free_model(model);
    }
}

static void requests_that_cannot_fit_are_refused(void **state) {
    (void)state;
    mr_model *model = new_model(100);
    mr_engine *engine = new_engine(model, (mr_engine_config){.max_concurrent = 1, .max_queue = 2});
    int32_t prompt[200] = {0};
    mr_request *request = NULL;
    mr_error err = {0};
    mr_request_params params = {.prompt = prompt, .n_prompt = 100, .sampling = greedy()};
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "100 tokens"));
    assert_null(request);
    params.n_prompt = 0;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_INVALID);
    params.n_prompt = 3;
    prompt[2] = N_VOCAB;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_INVALID);
    prompt[2] = -1;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_INVALID);
    prompt[2] = 0;
    params.sampling.top_p = 2;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_INVALID);

    /* One runs, two wait, the next is refused. */
    mr_sampling sampling = greedy();
    set_gate(model, true);
    mr_request *requests[3];
    for (int i = 0; i < 3; i++) requests[i] = submit(engine, prompt, 50, 5, &sampling);
    params.sampling = sampling;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "at most 2"));
    mr_request_free(requests[2]);
    requests[2] = submit(engine, prompt, 50, 5, &sampling);
    set_gate(model, false);
    for (int i = 0; i < 3; i++) {
        int32_t text[8];
        mr_finish finish;
        assert_int_equal(collect(requests[i], text, &finish, &err), 5);
        mr_request_free(requests[i]);
    }
    /* The context is full after 100 tokens. */
    mr_request *last = submit(engine, prompt, 60, 0, &sampling);
    int32_t text[64];
    mr_finish finish;
    assert_int_equal(collect(last, text, &finish, &err), 40);
    assert_int_equal(finish, MR_FINISH_LENGTH);
    mr_request_free(last);
    mr_engine_free(engine);
    free_model(model);
}

static void generation_ends_at_eog(void **state) {
    (void)state;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    mr_sampling sampling = greedy();
    int32_t prompt[5] = {1, 2, 3, 4, 5}, want[50], got[50];
    expected_text(prompt, 5, &sampling, 50, -1, want);
    int32_t eog[2] = {POISON, want[7]};
    size_t n_want = expected_text(prompt, 5, &sampling, 50, want[7], want);
    mr_request_params params = {
        .prompt = prompt, .n_prompt = 5, .max_tokens = 50, .sampling = sampling, .eog = eog, .n_eog = 2};
    mr_request *request;
    mr_error err = {0};
    mr_finish finish;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
    assert_int_equal(collect(request, got, &finish, &err), n_want);
    assert_memory_equal(got, want, n_want * sizeof *got);
    assert_int_equal(finish, MR_FINISH_EOG);
    int32_t token;
    assert_int_equal(mr_request_next(request, NULL, &token, &finish, &err), MR_OK); /* again: the same */
    assert_int_equal(finish, MR_FINISH_EOG);
    mr_request_stats stats = mr_request_get_stats(request);
    assert_int_equal(stats.n_generated, n_want);
    assert_true(stats.queue_sec >= 0 && stats.prompt_sec > 0 && stats.generation_sec >= 0);
    mr_request_free(request);
    mr_engine_free(engine);
    free_model(model);
}

static void an_error_hits_only_its_cause(void **state) {
    (void)state;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    model->fail_status = MR_ERR_NOMEM;
    mr_sampling sampling = greedy();
    int32_t good[40], bad[40], want[20], got[20];
    make_prompt(good, 40, 1, 1);
    make_prompt(bad, 40, 2, 1);
    bad[20] = POISON;
    expected_text(good, 40, &sampling, 20, -1, want);
    set_gate(model, true);
    mr_request *first = submit(engine, good, 40, 20, &sampling);
    mr_request *second = submit(engine, bad, 40, 20, &sampling);
    mr_request *third = submit(engine, good, 40, 20, &sampling);
    wait_inside(model);
    set_gate(model, false);
    mr_finish finish;
    mr_error err = {0};
    assert_int_equal(collect(first, got, &finish, &err), 20);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(collect(third, got, &finish, &err), 20);
    assert_memory_equal(got, want, sizeof want);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(collect(second, got, &finish, &err), -1);
        assert_int_equal(err.status, MR_ERR_NOMEM);
        assert_string_equal(err.text, "the poison was computed");
        assert_int_equal(finish, MR_FINISH_ERROR);
    }
    mr_request_free(first);
    mr_request_free(second);
    mr_request_free(third);
    run_and_check(engine, good, 40, 20, &sampling); /* still usable */
    mr_engine_free(engine);
    free_model(model);
}

static void *cancel_soon(void *arg) {
    mr_cancel_request(arg);
    return NULL;
}

static void cancelling_ends_a_wait_and_a_pass(void **state) {
    (void)state;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    mr_sampling sampling = greedy();
    int32_t prompt[300], other[100], token, got[10], want[10];
    make_prompt(prompt, 300, 1, 1);
    make_prompt(other, 100, 2, 1);
    set_gate(model, true);
    mr_request *request = submit(engine, prompt, 300, 10, &sampling);
    mr_request *neighbour = submit(engine, other, 100, 10, &sampling);
    mr_request *waiting = submit(engine, other, 100, 10, &sampling);
    wait_inside(model);
    mr_cancel *cancel = mr_cancel_new();
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, cancel);
    mr_finish finish;
    mr_error err = {0};
    assert_int_equal(mr_request_next(request, cancel, &token, &finish, &err), MR_ERR_CANCELLED);
    assert_int_equal(mr_request_next(request, cancel, &token, &finish, &err), MR_ERR_CANCELLED);
    pthread_join(thread, NULL);
    mr_cancel_unref(cancel);
    mr_request_free(waiting);
    mr_request_free(request); /* 300 tokens of prefill: aborts the pass inside the closed gate */
    set_gate(model, false);
    /* Freeing again and again until one abort has been counted would be a race; the neighbour's text is the proof. */
    expected_text(other, 100, &sampling, 10, -1, want);
    assert_int_equal(collect(neighbour, got, &finish, &err), 10);
    assert_memory_equal(got, want, sizeof want);
    mr_request_free(neighbour);
    mr_engine_free(engine);
    free_model(model);
}

static void abort_leaves_a_closed_gate(void **state) {
    (void)state;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    mr_sampling sampling = greedy();
    int32_t prompt[300];
    make_prompt(prompt, 300, 1, 1);
    for (int i = 0; i < 20; i++) { /* the gate never opens: only aborts end the passes */
        set_gate(model, true);
        mr_request *request = submit(engine, prompt, 300, 10, &sampling);
        wait_inside(model);
        mr_request_free(request);
        pthread_mutex_lock(&model->lock);
        while (model->inside) pthread_cond_wait(&model->changed, &model->lock);
        pthread_mutex_unlock(&model->lock);
    }
    set_gate(model, false);
    run_and_check(engine, prompt, 300, 10, &sampling);
    assert_true(mr_engine_get_stats(engine).n_aborted >= 20);
    mr_engine_free(engine);
    free_model(model);
}

static void the_engine_may_go_before_its_requests(void **state) {
    (void)state;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){.max_concurrent = 2});
    mr_sampling sampling = greedy();
    int32_t prompt[300], token;
    make_prompt(prompt, 300, 1, 1);
    set_gate(model, true);
    mr_request *requests[4];
    for (int i = 0; i < 4; i++) requests[i] = submit(engine, prompt, 300, 10, &sampling);
    wait_inside(model);
    mr_engine_free(engine);
    mr_finish finish;
    mr_error err = {0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mr_request_next(requests[i], NULL, &token, &finish, &err), MR_ERR_CANCELLED);
        mr_request_get_stats(requests[i]);
        mr_request_free(requests[i]);
    }
    free_model(model);
    mr_engine_free(NULL);
    mr_request_free(NULL);
}

typedef struct mask_state {
    atomic_bool gone;
    atomic_int n_late, n_calls;
} mask_state;

/* Allows token (n_generated * 3) % 50 and the next; nothing else. No restriction at every fifth token. */
static bool mask_some(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits) {
    mask_state *m = ctx;
    m->n_calls++;
    if (m->gone) m->n_late++;
    (void)generated;
    if (n_generated % 5 == 4) return false;
    memset(bits, 0, (N_VOCAB + 63) / 64 * sizeof *bits);
    size_t id = n_generated * 3 % 50;
    bits[id / 64] |= (uint64_t)1 << (id % 64);
    bits[(id + 1) / 64] |= (uint64_t)1 << ((id + 1) % 64);
    return true;
}

static void masks_restrict_the_choice(void **state) {
    (void)state;
    mr_model *model = new_model(4096);
    mr_engine *engine = new_engine(model, (mr_engine_config){0});
    int32_t prompt[4] = {9, 8, 7, 6}, token;
    mask_state m = {0};
    mr_sampling sampling = mr_sampling_default();
    mr_request_params params = {
        .prompt = prompt, .n_prompt = 4, .max_tokens = 60, .sampling = sampling, .mask = mask_some, .mask_ctx = &m};
    mr_request *request;
    mr_error err = {0};
    mr_finish finish;
    assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
    int n_outside = 0;
    for (int i = 0; i < 60; i++) {
        assert_int_equal(mr_request_next(request, NULL, &token, &finish, &err), MR_OK);
        bool inside = token == i * 3 % 50 || token == i * 3 % 50 + 1;
        if (i % 5 != 4)
            assert_true(inside);
        else
            n_outside += !inside;
    }
    assert_true(n_outside > 6);
    mr_request_free(request);
    assert_int_equal(m.n_calls, 60);
    /* Given up in the middle: no call comes after that. */
    params.max_tokens = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
        for (int k = 0; k < i; k++) mr_request_next(request, NULL, &token, &finish, &err);
        mr_request_free(request);
        m.gone = true;
        run_and_check(engine, prompt, 4, 3, &sampling);
        assert_int_equal(m.n_late, 0);
        m.gone = false;
    }
    mr_engine_free(engine);
    free_model(model);
}

/* Holds the scheduler before the second token until it is let go. */
static bool mask_wait(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits) {
    mr_model *model = ctx;
    (void)generated;
    (void)bits;
    if (n_generated != 1) return false;
    pthread_mutex_lock(&model->lock);
    while (model->hold_mask) pthread_cond_wait(&model->changed, &model->lock);
    pthread_mutex_unlock(&model->lock);
    return false;
}

/* A long prompt is computed beside those that generate, not before them. */
static void a_long_prompt_does_not_stop_the_others(void **state) {
    (void)state;
    mr_model *model = new_model(8192);
    mr_engine *engine = new_engine(model, (mr_engine_config){.prefill_chunk = 64});
    mr_sampling sampling = greedy();
    static int32_t prompt[6000];
    int32_t small[3] = {1, 2, 3}, token;
    for (int i = 0; i < 6000; i++) prompt[i] = i * i % 97;
    mr_finish finish;
    mr_error err = {0};
    mr_request_params params = {
        .prompt = small, .n_prompt = 3, .max_tokens = 200, .sampling = sampling, .mask = mask_wait, .mask_ctx = model};
    mr_request *talker;
    model->hold_mask = true;
    assert_int_equal(mr_engine_submit(engine, &params, &talker, &err), MR_OK);
    assert_int_equal(mr_request_next(talker, NULL, &token, &finish, &err), MR_OK);
    mr_request *reader = submit(engine, prompt, 6000, 1, &sampling);
    pthread_mutex_lock(&model->lock);
    model->hold_mask = false;
    pthread_cond_broadcast(&model->changed);
    pthread_mutex_unlock(&model->lock);
    int n = 1;
    while (mr_request_next(talker, NULL, &token, &finish, &err) == MR_OK && finish == MR_FINISH_NONE) n++;
    assert_int_equal(n, 200);
    assert_int_equal(mr_request_next(reader, NULL, &token, &finish, &err), MR_OK);
    pthread_mutex_lock(&model->lock);
    assert_true(model->most_prefill_with_decodes <= 64);
    pthread_mutex_unlock(&model->lock);
    /* 94 passes for the prompt; had it come first or last, there would be 94 + 200. */
    assert_in_range(model->n_passes, 200, 210);
    mr_request_free(talker);
    mr_request_free(reader);
    mr_engine_free(engine);
    free_model(model);
}

static void sizes_follow_the_configuration(void **state) {
    (void)state;
    mr_model *model = new_model(1000);
    const size_t block = MR_KV_BLOCK * sizeof(uint64_t);
    mr_engine *engine = new_engine(model, (mr_engine_config){.kv_bytes = 10 * block + 5});
    assert_int_equal(mr_engine_context_size(engine), 320);
    assert_int_equal(mr_engine_get_stats(engine).n_blocks, 10);
    assert_int_equal(mr_engine_get_stats(engine).kv_bytes, 10 * block);
    mr_engine_free(engine);
    engine = new_engine(model, (mr_engine_config){.context_size = 77, .max_concurrent = 4});
    assert_int_equal(mr_engine_context_size(engine), 77);
    assert_int_equal(mr_engine_get_stats(engine).n_blocks, 2 * 3);
    mr_engine_free(engine);
    mr_engine_config tiny = {.kv_bytes = block - 1};
    mr_error err = {0};
    assert_int_equal(mr_engine_new(&engine, model, &tiny, &err), MR_ERR_NOMEM);
    assert_null(engine);
    free_model(model);
}

int main(void) {
    mr_log_set_filter("error");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_same_for_any_chunking_and_caching),
        cmocka_unit_test(a_prefix_is_computed_once),
        cmocka_unit_test(equal_prompts_at_once_share_their_computation),
        cmocka_unit_test(texts_do_not_depend_on_company),
        cmocka_unit_test(requests_that_cannot_fit_are_refused),
        cmocka_unit_test(generation_ends_at_eog),
        cmocka_unit_test(an_error_hits_only_its_cause),
        cmocka_unit_test(cancelling_ends_a_wait_and_a_pass),
        cmocka_unit_test(abort_leaves_a_closed_gate),
        cmocka_unit_test(the_engine_may_go_before_its_requests),
        cmocka_unit_test(masks_restrict_the_choice),
        cmocka_unit_test(a_long_prompt_does_not_stop_the_others),
        cmocka_unit_test(sizes_follow_the_configuration),
    };
    const struct CMUnitTest with_state[] = {
        cmocka_unit_test(text_is_the_same_for_any_chunking_and_caching),
        cmocka_unit_test(texts_do_not_depend_on_company),
        cmocka_unit_test(requests_that_cannot_fit_are_refused),
        cmocka_unit_test(an_error_hits_only_its_cause),
        cmocka_unit_test(cancelling_ends_a_wait_and_a_pass),
        cmocka_unit_test(a_recurrent_state_goes_on_from_snapshots),
        cmocka_unit_test(the_smaller_memory_counts),
        cmocka_unit_test(equal_prompts_at_once_share_their_computation),
    };
    const struct CMUnitTest with_guesses[] = {
        cmocka_unit_test(text_is_the_same_for_any_chunking_and_caching),
        cmocka_unit_test(a_prefix_is_computed_once),
        cmocka_unit_test(texts_do_not_depend_on_company),
        cmocka_unit_test(requests_that_cannot_fit_are_refused),
        cmocka_unit_test(generation_ends_at_eog),
        cmocka_unit_test(an_error_hits_only_its_cause),
        cmocka_unit_test(cancelling_ends_a_wait_and_a_pass),
        cmocka_unit_test(abort_leaves_a_closed_gate),
        cmocka_unit_test(the_engine_may_go_before_its_requests),
    };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_state_bytes = 64;
    n_failed += cmocka_run_group_tests(with_state, NULL, NULL);
    fake_state_bytes = 0;
    fake_period = 7;
    fake_n_draft = 8;
    return n_failed + cmocka_run_group_tests(with_guesses, NULL, NULL);
}
