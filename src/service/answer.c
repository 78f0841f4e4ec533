#define _DEFAULT_SOURCE
#include "service/answer.h"

#include "base/clock.h"
#include "base/hash.h"
#include "service/metrics.h"
#include "text/reasoning.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t fresh_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed) return seed;
    uint64_t now[2] = {mr_clock_ns(), (uint64_t)(uintptr_t)&now};
    return mr_hash(now, sizeof now, 0);
}

mr_status mr_job_options_resolve(const mr_job_options *options, const mr_sampling *recommended, mr_sampling *sampling,
                                 uint32_t *max_tokens, mr_error *err) {
    *sampling = *recommended;
    *max_tokens = 0;
    if (options->has_max_tokens) {
        if (options->max_tokens <= 0) {
            return mr_fail(
                err, MR_ERR_INVALID,
                "options.max_tokens is %d; give at least 1, or leave it out for as many as the context holds",
                (int)options->max_tokens);
        }
        *max_tokens = (uint32_t)options->max_tokens;
    }
    if (options->has_temperature) sampling->temperature = options->temperature;
    if (options->has_top_p) sampling->top_p = options->top_p;
    if (options->has_repeat_penalty) sampling->repeat_penalty = options->repeat_penalty;
    if (options->has_repeat_last_n) sampling->repeat_last_n = options->repeat_last_n;
    sampling->seed = options->has_seed ? (uint64_t)(uint32_t)options->seed : fresh_seed();
    mr_status status = mr_sampling_check(sampling, err);
    if (status != MR_OK) mr_fail_prefix(err, "options");
    return status;
}

void mr_answer_free(mr_answer *answer) {
    mr_buf_free(&answer->content);
    mr_buf_free(&answer->reasoning);
    mr_tokens_free(&answer->tokens);
}

/* The state of one generation's way from text to pieces. */
typedef struct splitter {
    bool active;
    mr_reasoning reasoning;
    mr_buf content, thought; /* the piece at hand */
} splitter;

static mr_status split(splitter *s, const mr_buf *text, bool done, mr_error *err) {
    mr_buf_clear(&s->content);
    mr_buf_clear(&s->thought);
    bool ok;
    if (!s->active) {
        ok = mr_buf_append(&s->content, mr_buf_cstr(text), text->len);
    } else {
        ok = mr_reasoning_push(&s->reasoning, mr_buf_cstr(text), text->len, &s->content, &s->thought);
        if (ok && done) ok = mr_reasoning_finish(&s->reasoning, &s->content, &s->thought);
    }
    return ok ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's text");
}

static mr_status deliver(const mr_answer_request *request, const splitter *s, mr_answer *answer, mr_error *err) {
    if (s->content.len == 0 && s->thought.len == 0) return MR_OK;
    mr_status status = MR_OK;
    if (request->on_piece != NULL) status = request->on_piece(request->ctx, &s->content, &s->thought, err);
    if (status != MR_OK) return status;
    mr_buf_append(&answer->content, mr_buf_cstr(&s->content), s->content.len);
    mr_buf_append(&answer->reasoning, mr_buf_cstr(&s->thought), s->thought.len);
    if (!answer->content.failed && !answer->reasoning.failed) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's text");
}

static mr_status pump(const mr_answer_request *request, mr_generation *generation, splitter *s, mr_answer *answer,
                      mr_error *err) {
    mr_buf text = {0};
    mr_status status = MR_OK;
    for (bool done = false; status == MR_OK && !done;) {
        mr_buf_clear(&text);
        status = mr_generation_next(generation, request->cancel, &text, &done, err);
        if (status == MR_OK) status = split(s, &text, done, err);
        if (status == MR_OK) status = deliver(request, s, answer, err);
    }
    mr_buf_free(&text);
    return status;
}

static mr_status take_figures(const mr_generation *generation, mr_answer *answer, mr_error *err) {
    mr_request_stats stats = mr_generation_stats(generation);
    answer->finish = mr_generation_finish(generation);
    answer->usage = (mr_usage){
        .prompt_tokens = stats.n_prompt,
        .cached_tokens = stats.n_prompt_cached,
        .completion_tokens = stats.n_generated,
        .queue_sec = (float)stats.queue_sec,
        .prompt_sec = (float)stats.prompt_sec,
        .completion_sec = (float)stats.generation_sec,
    };
    mr_generation_figures figures = {.n_prompt = stats.n_prompt,
                                     .n_cached = stats.n_prompt_cached,
                                     .n_generated = stats.n_generated,
                                     .queue_sec = stats.queue_sec,
                                     .prompt_sec = stats.prompt_sec,
                                     .generation_sec = stats.generation_sec};
    mr_metrics_generation(&figures);
    const mr_tokens *tokens = mr_generation_tokens(generation);
    for (size_t i = 0; i < tokens->n; i++) {
        if (!mr_tokens_push(&answer->tokens, tokens->ids[i]))
            return mr_fail_nomem(err, tokens->n * 4, "the answer's tokens");
    }
    return MR_OK;
}

mr_status mr_answer_generate(const mr_answer_request *request, mr_answer *answer, mr_error *err) {
    mr_generation_params params = {
        .prompt = request->prompt,
        .n_prompt = request->n_prompt,
        .max_tokens = request->max_tokens,
        .sampling = request->sampling,
    };
    mr_generation *generation;
    mr_status status = mr_generation_start(&generation, request->model, &params, err);
    if (status != MR_OK) return status;
    splitter s = {.active = request->extract_reasoning};
    mr_reasoning_init(&s.reasoning, NULL, request->reasoning_open);
    status = pump(request, generation, &s, answer, err);
    if (status == MR_OK) status = take_figures(generation, answer, err);
    mr_buf_free(&s.content);
    mr_buf_free(&s.thought);
    mr_buf_free(&s.reasoning.held);
    mr_generation_free(generation);
    return status;
}
