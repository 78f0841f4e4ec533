/* floors: engine */
/* Guesses: what is guessed; and the engine with them, whose texts must be those without. */
#include "fake_model.c"

#include "base/log.h"
#include "engine/draft.h"

/* ---- what is guessed ---- */

static const double COST = 0.35;

/* Sees a text token by token with a guess before each; returns how many guesses were made, and in *n_right how many of
 * them were right. */
static size_t guess_along(mr_draft *draft, const int32_t *text, size_t first, size_t n, size_t *n_right) {
    int32_t *tokens = malloc((n + MR_MAX_DRAFT) * sizeof *tokens);
    size_t n_guesses = 0;
    *n_right = 0;
    memcpy(tokens, text, first * sizeof *tokens);
    for (size_t at = first; at < n; at++) {
        mr_draft_see(draft, tokens, at);
        size_t count = mr_draft_propose(draft, tokens, at, MR_MAX_DRAFT, COST);
        assert_in_range(count, 0, MR_MAX_DRAFT);
        n_guesses += count;
        bool right = true;
        for (size_t i = 0; i < count && at + i < n; i++) {
            right = right && tokens[at + i] == text[at + i];
            *n_right += right;
        }
        tokens[at] = text[at];
    }
    free(tokens);
    return n_guesses;
}

static void a_guess_goes_on_like_the_longest_latest_repetition(void **state) {
    (void)state;
    int32_t tokens[64] = {1, 2, 3, 4, 50, 9, 2, 3, 4, 51, 8, 3, 4, 52, 7, 4, 53, 2, 3, 4};
    mr_draft *draft = mr_draft_new(20);
    mr_draft_see(draft, tokens, 20);
    assert_int_equal(mr_draft_propose(draft, tokens, 20, 1, 0.1), 1);
    assert_int_equal(tokens[20], 51); /* after 2 3 4, the second time */
    assert_int_equal(mr_draft_propose(draft, tokens, 20, 0, 0.1), 0);
    mr_draft_free(draft);
    draft = mr_draft_new(4);
    mr_draft_see(draft, tokens, 4); /* nothing stood before */
    assert_int_equal(mr_draft_propose(draft, tokens, 4, 8, 0.0), 0);
    mr_draft_free(draft);
    mr_draft_free(NULL);
}

static void a_short_period_goes_on(void **state) {
    (void)state;
    int32_t tokens[200];
    for (int i = 0; i < 100; i++) tokens[i] = i % 3;
    mr_draft *draft = mr_draft_new(10);
    for (size_t n = 10; n <= 100; n++) mr_draft_see(draft, tokens, n);
    assert_int_equal(mr_draft_propose(draft, tokens, 100, 15, 0.1), 15); /* 90 guesses have come true */
    for (int i = 100; i < 115; i++) assert_int_equal(tokens[i], i % 3);
    mr_draft_free(draft);
}

/* Texts with a third of their tokens from 8 and texts from 3000: short repetitions come by chance and promise nothing.
 */
static void a_text_without_repetition_is_left_alone(void **state) {
    (void)state;
    enum { N = 4000 };
    static int32_t text[N];
    for (int n_words = 8; n_words <= 3000; n_words *= 5) {
        for (size_t i = 0; i < N; i++) text[i] = (int32_t)(mr_random_uniform((uint64_t)n_words, i) * n_words);
        mr_draft *draft = mr_draft_new(100);
        size_t n_right, n_guesses = guess_along(draft, text, 100, N, &n_right);
        print_message("%d words: %zu guesses in %d tokens, %zu right\n", n_words, n_guesses, N, n_right);
        assert_true((double)(n_guesses - n_right) * COST < N * 0.01);
        mr_draft_free(draft);
    }
}

/* A text of words, then the same with one word in twenty changed. */
static void a_text_that_is_repeated_is_guessed(void **state) {
    (void)state;
    enum { N = 1000 };
    static int32_t text[2 * N];
    for (size_t i = 0; i < N; i++) {
        text[i] = (int32_t)(mr_random_uniform(1, i) * 500);
        text[N + i] = mr_random_uniform(2, i) < 0.05 ? 999 : text[i];
    }
    mr_draft *draft = mr_draft_new(N);
    size_t n_right, n_guesses = guess_along(draft, text, N, 2 * N, &n_right);
    print_message("%zu guesses, %zu right\n", n_guesses, n_right);
    assert_true(n_right > N && n_guesses < 12 * N); /* each token may be guessed from up to 15 places */
    assert_true(n_right * 2 > n_guesses);
    mr_draft_free(draft);
}

/* Longer than the table; every guess has followed the text's last token before. */
static void long_texts_are_guessed_from_what_is_there(void **state) {
    (void)state;
    enum { N = 300000, PERIOD = 70001 };
    int32_t *text = malloc((N + 16) * sizeof *text);
    for (size_t i = 0; i < PERIOD; i++) text[i] = (int32_t)(mr_random_uniform(3, i) * 30000);
    for (size_t i = PERIOD; i < N; i++) text[i] = text[i - PERIOD];
    mr_draft *draft = mr_draft_new(PERIOD);
    size_t n_guesses = 0;
    for (size_t n = PERIOD; n < N; n += 1 + n % 5) {
        mr_draft_see(draft, text, n);
        int32_t next[16], kept[16];
        memcpy(kept, text + n, sizeof kept);
        size_t count = mr_draft_propose(draft, text, n, 8, COST);
        memcpy(next, text + n, sizeof next);
        memcpy(text + n, kept, sizeof kept);
        n_guesses += count;
        bool found = count == 0;
        for (size_t at = n - PERIOD; !found && at < n; at++) found = text[at] == next[0] && text[at - 1] == text[n - 1];
        assert_true(found);
        if (n_guesses > 5000) n += 997; /* enough of the search */
    }
    assert_true(n_guesses > 5000);
    mr_draft_free(draft);
    free(text);
}

/* Dear guesses are made only where they are nearly sure; nothing that is measured makes them impossible. */
static void what_guesses_cost_is_measured(void **state) {
    (void)state;
    mr_draft_cost cost = {0};
    double first = mr_draft_cost_row(&cost);
    mr_draft_cost_note(&cost, 3, 5.0); /* says nothing without a plain pass */
    assert_true(mr_draft_cost_row(&cost) == first);
    for (int i = 0; i < 100; i++) {
        mr_draft_cost_note(&cost, 0, 1.0);
        for (int k = 0; k < 10; k++) mr_draft_cost_note(&cost, 4, 1.8);
    }
    assert_true(mr_draft_cost_row(&cost) > 0.18 && mr_draft_cost_row(&cost) < 0.25);
    mr_draft_cost_note(&cost, 1, 1000.0); /* something else ran */
    mr_draft_cost_note(&cost, 0, 1000.0);
    mr_draft_cost_note(&cost, 0, 0.0);
    assert_true(mr_draft_cost_row(&cost) < 0.35);
    for (int i = 0; i < 1000; i++) mr_draft_cost_note(&cost, 2, 1000.0);
    double most = mr_draft_cost_row(&cost);
    assert_true(most > first && most <= 0.75);
    int32_t tokens[200];
    for (int i = 0; i < 150; i++) tokens[i] = i % 10;
    mr_draft *draft = mr_draft_new(20);
    mr_draft_see(draft, tokens, 21);
    assert_int_equal(mr_draft_propose(draft, tokens, 21, 8, most), 0); /* not proved yet */
    for (int i = 0; i < 150; i++) tokens[i] = i % 10;
    mr_draft_see(draft, tokens, 150);
    assert_true(mr_draft_propose(draft, tokens, 150, 8, most) > 0);
    mr_draft_free(draft);
    for (int i = 0; i < 2000; i++) mr_draft_cost_note(&cost, 0, 1.0);
    assert_true(mr_draft_cost_row(&cost) < 0.4); /* forgotten */
}

/* ---- the engine ---- */

/* A prompt that the fake model would write, so that the answer repeats it. */
static void make_repeating(int32_t *prompt, size_t n) {
    prompt[0] = 1;
    for (size_t i = 1; i < n; i++) prompt[i] = (int32_t)(((i - 1) % fake_period * 11 + 5) % 50);
}

static void texts_are_those_without_guesses(void **state) {
    (void)state;
    int32_t prompt[150];
    for (uint32_t n_draft = 1; n_draft <= 100; n_draft = n_draft * 2 + 1) {
        mr_model *model = new_model(2048);
        mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = n_draft});
        mr_request_stats stats;
        for (int variant = 0; variant < 8; variant++) {
            mr_sampling sampling = mr_sampling_default();
            sampling.temperature = variant % 2 ? 0.0f : 0.8f;
            sampling.top_k = variant % 3 == 0 ? 20 : 0;
            sampling.top_p = variant == 2 ? 0.9f : 1.0f;
            sampling.repeat_penalty = variant > 4 ? 2.0f : 1.0f;
            sampling.repeat_last_n = variant == 6 ? -1 : 6; /* one less than the period */
            sampling.seed = (uint64_t)variant;
            make_repeating(prompt, 150);
            stats = run_and_check(engine, prompt, 150 - (size_t)variant, 300, &sampling);
            assert_int_equal(stats.n_generated, 300);
            assert_true(stats.n_accepted <= stats.n_drafted && stats.n_accepted < stats.n_generated);
            if (variant != 6) assert_in_range(stats.n_accepted, 80, 299);
        }
        mr_engine_stats all = mr_engine_get_stats(engine);
        assert_true(all.n_accepted <= all.n_drafted && all.n_accepted > 5 * 80);
        assert_int_equal(all.n_generated, 8 * 300);
        /* One pass for each token that was not guessed; one for each prompt at most. */
        assert_in_range(all.n_passes, 8 * 300 - all.n_accepted, 8 * 301 - all.n_accepted);
        assert_int_equal(all.n_blocks_used, 0);
        mr_engine_free(engine);
        free_model(model);
    }
}

static void nothing_is_guessed_with_a_recurrent_state(void **state) {
    (void)state;
    fake_state_bytes = 64;
    mr_model *model = new_model(2048);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 8});
    mr_sampling sampling = greedy();
    int32_t prompt[100];
    make_repeating(prompt, 100);
    run_and_check(engine, prompt, 100, 200, &sampling);
    assert_int_equal(mr_engine_get_stats(engine).n_drafted, 0);
    mr_engine_free(engine);
    free_model(model);
    fake_state_bytes = 0;
}

/* max_tokens and the context end a text in the middle of what would be guessed. */
static void a_text_has_the_length_that_was_asked_for(void **state) {
    (void)state;
    mr_model *model = new_model(200);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 8});
    mr_sampling sampling = greedy();
    int32_t prompt[100], text[200];
    make_repeating(prompt, 100);
    for (uint32_t n = 1; n < 60; n++) assert_int_equal(run_and_check(engine, prompt, 90, n, &sampling).n_generated, n);
    for (size_t n_prompt = 80; n_prompt < 100; n_prompt++) {
        mr_finish finish;
        mr_error err = {0};
        mr_request *request = submit(engine, prompt, n_prompt, 0, &sampling);
        assert_int_equal(collect(request, text, &finish, &err), 200 - n_prompt);
        assert_int_equal(finish, MR_FINISH_LENGTH);
        mr_request_free(request);
    }
    assert_true(mr_engine_get_stats(engine).n_accepted > 1000);
    mr_engine_free(engine);
    free_model(model);
}

/* The token that ends the text is in the prompt, amid what is repeated. */
static void a_text_ends_amid_what_is_guessed(void **state) {
    (void)state;
    fake_period = 40;
    mr_model *model = new_model(512);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 15});
    mr_sampling sampling = greedy();
    int32_t prompt[101], want[100], got[100];
    uint32_t n_accepted = 0;
    make_repeating(prompt, 101);
    for (size_t k = 0; k < 40; k++) {
        int32_t eog = prompt[61 + k];
        size_t n_want = expected_text(prompt, 101, &sampling, 100, eog, want);
        mr_request_params params = {
            .prompt = prompt, .n_prompt = 101, .max_tokens = 100, .sampling = sampling, .eog = &eog, .n_eog = 1};
        mr_request *request;
        mr_finish finish;
        mr_error err = {0};
        assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
        assert_int_equal(collect(request, got, &finish, &err), n_want);
        assert_memory_equal(got, want, n_want * sizeof *got);
        assert_int_equal(finish, n_want < 100 ? MR_FINISH_EOG : MR_FINISH_LENGTH);
        mr_request_stats stats = mr_request_get_stats(request);
        assert_int_equal(stats.n_generated, n_want);
        n_accepted += stats.n_accepted;
        mr_request_free(request);
    }
    assert_true(n_accepted > 200);
    mr_engine_free(engine);
    free_model(model);
    fake_period = 7;
}

typedef struct mask_log {
    size_t n_calls, n_wrong;
} mask_log;

/* Forbids every third token or so, by all tokens before it. Calls must come for each token once, in order. */
static bool mask_by_text(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits) {
    mask_log *log = ctx;
    if (n_generated != log->n_calls++) log->n_wrong++;
    uint64_t hash = n_generated;
    for (size_t i = 0; i < n_generated; i++) hash = mix(hash, (uint64_t)generated[i]);
    if (hash % 4 == 0) return false;
    for (size_t id = 0; id < N_VOCAB; id++) {
        uint64_t bit = (uint64_t)1 << (id % 64);
        if (mix(hash, id) % (hash % 8 == 1 ? 2 : 20) > 0)
            bits[id / 64] |= bit;
        else
            bits[id / 64] &= ~bit;
    }
    return true;
}

static void masks_see_the_text_token_by_token(void **state) {
    (void)state;
    mr_model *model = new_model(4096);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 8});
    int32_t prompt[60], want[300], got[300];
    make_repeating(prompt, 60);
    for (int k = 0; k < 4; k++) {
        mask_log log = {0};
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = k % 2 ? 0.7f : 0.0f;
        expected_masked(prompt, 60, &sampling, 300, -1, mask_by_text, &log, want);
        log = (mask_log){0};
        mr_request_params params = {.prompt = prompt,
                                    .n_prompt = 60,
                                    .max_tokens = 300,
                                    .sampling = sampling,
                                    .mask = mask_by_text,
                                    .mask_ctx = &log};
        mr_request *request;
        mr_finish finish;
        mr_error err = {0};
        assert_int_equal(mr_engine_submit(engine, &params, &request, &err), MR_OK);
        assert_int_equal(collect(request, got, &finish, &err), 300);
        assert_memory_equal(got, want, sizeof got);
        assert_true(mr_request_get_stats(request).n_accepted > 50);
        mr_request_free(request);
        assert_int_equal(log.n_calls, 300);
        assert_int_equal(log.n_wrong, 0);
    }
    mr_engine_free(engine);
    free_model(model);
}

/* The model counts an error when there are more than 16 tokens, or one sequence has more than its share of them. */
static void guesses_are_shared_among_all(void **state) {
    (void)state;
    enum { N = 20, N_TOKENS = 60 };
    mr_model *model = new_model(1024);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 15, .max_concurrent = N});
    mr_sampling sampling = greedy();
    model->only_answers = true;
    for (size_t n = 1; n <= N; n += 3) {
        mr_request *requests[N];
        int32_t prompts[N], want[N_TOKENS], got[N_TOKENS];
        for (size_t i = 0; i < n; i++) {
            prompts[i] = (int32_t)(n + i);
            requests[i] = submit(engine, &prompts[i], 1, N_TOKENS, &sampling);
        }
        for (size_t i = 0; i < n; i++) {
            mr_finish finish;
            mr_error err = {0};
            expected_text(&prompts[i], 1, &sampling, N_TOKENS, -1, want);
            assert_int_equal(collect(requests[i], got, &finish, &err), N_TOKENS);
            assert_memory_equal(got, want, sizeof got);
            mr_request_free(requests[i]);
        }
    }
    assert_true(mr_engine_get_stats(engine).n_accepted > 0);
    mr_engine_free(engine);
    free_model(model);
}

static void a_guess_fails_no_request(void **state) {
    (void)state;
    mr_model *model = new_model(1024);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 8});
    mr_sampling sampling = greedy();
    int32_t prompt[60];
    make_repeating(prompt, 60);
    model->fail_guesses = true;
    assert_int_equal(run_and_check(engine, prompt, 60, 100, &sampling).n_accepted, 0);
    model->fail_guesses = false;
    assert_true(run_and_check(engine, prompt, 60, 100, &sampling).n_accepted > 0);
    mr_engine_free(engine);
    free_model(model);
}

/* What guesses that were turned down have left in KV blocks is found by nobody. */
static void only_what_stands_is_cached(void **state) {
    (void)state;
    mr_model *model = new_model(1024);
    mr_engine *engine = new_engine(model, (mr_engine_config){.n_draft = 8});
    mr_sampling sampling = mr_sampling_default();
    int32_t prompt[600], answer[200];
    make_repeating(prompt, 60);
    for (uint64_t seed = 0; seed < 10; seed++) {
        sampling.seed = seed;
        size_t n = expected_text(prompt, 60, &sampling, 200, -1, answer);
        memcpy(prompt + 60, answer, n * sizeof *answer);
        run_and_check(engine, prompt, 60, 200, &sampling);
        /* The next round: prompt and answer, of which all but the last token was computed. */
        prompt[60 + n] = 3;
        assert_in_range(run_and_check(engine, prompt, 61 + n, 50, &sampling).n_prompt_cached, 60 + n - 1, 60 + n);
    }
    mr_engine_free(engine);
    free_model(model);
}

int main(void) {
    mr_log_set_filter("error");
    fake_period = 7;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guess_goes_on_like_the_longest_latest_repetition),
        cmocka_unit_test(a_short_period_goes_on),
        cmocka_unit_test(a_text_without_repetition_is_left_alone),
        cmocka_unit_test(a_text_that_is_repeated_is_guessed),
        cmocka_unit_test(long_texts_are_guessed_from_what_is_there),
        cmocka_unit_test(what_guesses_cost_is_measured),
        cmocka_unit_test(texts_are_those_without_guesses),
        cmocka_unit_test(nothing_is_guessed_with_a_recurrent_state),
        cmocka_unit_test(a_text_has_the_length_that_was_asked_for),
        cmocka_unit_test(a_text_ends_amid_what_is_guessed),
        cmocka_unit_test(masks_see_the_text_token_by_token),
        cmocka_unit_test(guesses_are_shared_among_all),
        cmocka_unit_test(a_guess_fails_no_request),
        cmocka_unit_test(only_what_stands_is_cached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
