/* Requests from the side of their owners: submission, waiting, giving up; and the list of those that wait. */
#include "engine/internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

void mr_engine_release(mr_engine *engine) {
    pthread_mutex_lock(&engine->lock);
    bool last = --engine->n_holders == 0;
    pthread_mutex_unlock(&engine->lock);
    if (!last) return;
    mr_cancel_unref(engine->abort);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

void mr_request_destroy(mr_request *request) {
    mr_engine *engine = request->engine;
    mr_sampler_free(request->sampler);
    mr_draft_free(request->draft);
    free(request->tokens);
    free(request->eog);
    free(request->mask_bits);
    free(request->logits);
    free(request->hidden);
    free(request->sums);
    free(request->pooled);
    free(request->sequence.blocks);
    pthread_cond_destroy(&request->changed);
    pthread_mutex_destroy(&request->mask_lock);
    free(request);
    mr_engine_release(engine);
}

static void waiting_push_back(mr_engine *engine, mr_request *request) {
    request->state = MR_REQUEST_WAITING;
    request->next = NULL;
    if (engine->last_waiting != NULL)
        engine->last_waiting->next = request;
    else
        engine->first_waiting = request;
    engine->last_waiting = request;
    engine->n_waiting++;
}

void mr_waiting_push_front(mr_engine *engine, mr_request *request) {
    request->state = MR_REQUEST_WAITING;
    request->next = engine->first_waiting;
    engine->first_waiting = request;
    if (engine->last_waiting == NULL) engine->last_waiting = request;
    engine->n_waiting++;
}

mr_request *mr_waiting_pop(mr_engine *engine) {
    mr_request *request = engine->first_waiting;
    if (request == NULL) return NULL;
    engine->first_waiting = request->next;
    if (engine->first_waiting == NULL) engine->last_waiting = NULL;
    engine->n_waiting--;
    return request;
}

static void waiting_remove(mr_engine *engine, mr_request *request) {
    mr_request *before = NULL, *at = engine->first_waiting;
    while (at != request) {
        before = at;
        at = at->next;
    }
    if (before != NULL)
        before->next = request->next;
    else
        engine->first_waiting = request->next;
    if (engine->last_waiting == request) engine->last_waiting = before;
    engine->n_waiting--;
}

static mr_status check_params(const mr_engine *engine, const mr_request_params *params, mr_error *err) {
    if (params->n_prompt == 0 || params->prompt == NULL)
        return mr_fail(err, MR_ERR_INVALID, "the prompt is empty: at least one token is needed");
    if (engine->encoder && params->pooling == MR_POOLING_NONE)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "the model makes vectors of texts and does not write; use embedding");
    if (params->pooling != MR_POOLING_NONE && params->n_prompt > engine->context_size) {
        return mr_fail(err, MR_ERR_LIMIT, "the text has %zu tokens, but the context holds %u; shorten the text%s",
                       params->n_prompt, engine->context_size, engine->encoder ? "" : " or raise context_size");
    }
    if (params->pooling == MR_POOLING_NONE && params->n_prompt >= engine->context_size) {
        return mr_fail(
            err, MR_ERR_LIMIT,
            "the prompt has %zu tokens, but the context holds %u, answer included; shorten the prompt or raise "
            "context_size",
            params->n_prompt, engine->context_size);
    }
    for (size_t i = 0; i < params->n_prompt; i++) {
        if (params->prompt[i] < 0 || (uint32_t)params->prompt[i] >= engine->n_vocab)
            return mr_fail(err, MR_ERR_INVALID,
                           "token %d at place %zu of the prompt is not in the vocabulary of %u tokens",
                           (int)params->prompt[i], i, engine->n_vocab);
    }
    return MR_OK;
}

static bool copy_params(mr_request *r, const mr_request_params *params) {
    r->cap = params->n_prompt + 64;
    r->tokens = malloc(r->cap * sizeof *r->tokens);
    if (r->tokens == NULL) return false;
    memcpy(r->tokens, params->prompt, params->n_prompt * sizeof *r->tokens);
    r->n_tokens = r->n_prompt = params->n_prompt;
    r->pooling = params->pooling;
    if (r->pooling != MR_POOLING_NONE) return true;
    if (r->engine->n_draft > 0) {
        r->draft = mr_draft_new(r->n_prompt);
        if (r->draft == NULL) return false;
        mr_draft_see(r->draft, r->tokens, r->n_tokens);
    }
    if (params->n_eog > 0) {
        r->eog = malloc(params->n_eog * sizeof *r->eog);
        if (r->eog == NULL) return false;
        memcpy(r->eog, params->eog, params->n_eog * sizeof *r->eog);
        r->n_eog = params->n_eog;
    }
    if (params->mask != NULL) {
        r->mask_bits = calloc((r->engine->n_vocab + 63) / 64, sizeof *r->mask_bits);
        if (r->mask_bits == NULL) return false;
        r->mask = params->mask;
        r->mask_ctx = params->mask_ctx;
    }
    return true;
}

/* Puts the request into the queue, or refuses. */
static mr_status enqueue(mr_engine *engine, mr_request *request, mr_error *err) {
    pthread_mutex_lock(&engine->lock);
    mr_status status = MR_OK;
    size_t most = (size_t)engine->max_queue + engine->max_concurrent;
    size_t n_waiting = engine->n_waiting + engine->n_admitting;
    if (engine->stopping) {
        status = mr_fail(err, MR_ERR_CANCELLED, "the model is being unloaded");
    } else if (n_waiting + engine->n_running >= most) {
        status = mr_fail(err, MR_ERR_LIMIT,
                         "too many requests: %zu are running and %zu are waiting, and at most %u may wait; "
                         "try again later",
                         engine->n_running, n_waiting, engine->max_queue);
    } else {
        request->arrival = ++engine->n_arrivals;
        request->submit_ns = mr_clock_ns();
        waiting_push_back(engine, request);
        engine->stats.n_requests++;
        pthread_cond_signal(&engine->wake);
    }
    pthread_mutex_unlock(&engine->lock);
    return status;
}

static mr_status make_sampler(mr_request *r, const mr_request_params *params, mr_error *err) {
    if (r->pooling != MR_POOLING_NONE) return MR_OK;
    return mr_sampler_new(&r->sampler, &params->sampling, r->engine->n_vocab, err);
}

mr_status mr_engine_submit(mr_engine *engine, const mr_request_params *params, mr_request **request, mr_error *err) {
    *request = NULL;
    mr_status status = check_params(engine, params, err);
    if (status != MR_OK) return status;
    mr_request *r = calloc(1, sizeof *r);
    if (r == NULL) return mr_fail_nomem(err, sizeof *r, "a request");
    r->engine = engine;
    pthread_cond_init(&r->changed, NULL);
    pthread_mutex_init(&r->mask_lock, NULL);
    pthread_mutex_lock(&engine->lock);
    engine->n_holders++;
    pthread_mutex_unlock(&engine->lock);

    size_t room = engine->context_size - params->n_prompt; /* 0 with pooling only */
    r->max_len = params->n_prompt + (params->max_tokens > 0 && params->max_tokens < room ? params->max_tokens : room);
    r->stats.n_prompt = (uint32_t)params->n_prompt;
    if (!copy_params(r, params)) status = mr_fail_nomem(err, params->n_prompt * sizeof *r->tokens, "a request");
    if (status == MR_OK) status = make_sampler(r, params, err);
    if (status == MR_OK) status = enqueue(engine, r, err);
    if (status != MR_OK) {
        mr_request_destroy(r);
        return status;
    }
    *request = r;
    return MR_OK;
}

bool mr_request_is_eog(const mr_request *request, int32_t token) {
    for (size_t i = 0; i < request->n_eog; i++) {
        if (request->eog[i] == token) return true;
    }
    return false;
}

bool mr_request_reserve(mr_request *request, size_t n) {
    if (request->cap - request->n_tokens >= n) return true;
    size_t cap = request->cap * 2 + n;
    int32_t *tokens = realloc(request->tokens, cap * sizeof *tokens);
    if (tokens == NULL) return false;
    request->tokens = tokens;
    request->cap = cap;
    return true;
}

bool mr_request_append(mr_request *request, int32_t token) {
    if (!mr_request_reserve(request, 1)) return false;
    request->tokens[request->n_tokens++] = token;
    request->stats.n_generated++;
    pthread_cond_broadcast(&request->changed);
    return true;
}

void mr_request_end(mr_request *request, mr_finish finish, const mr_error *error) {
    request->state = MR_REQUEST_ENDED;
    request->finish = finish;
    if (error != NULL) request->error = *error;
    if (request->first_token_ns != 0) request->stats.generation_sec = mr_clock_since(request->first_token_ns);
    pthread_cond_broadcast(&request->changed);
}

/* What there is to report without waiting; false when nothing has come yet. */
static bool take_news(mr_request *r, int32_t *token, mr_finish *finish, mr_status *status, mr_error *err) {
    *status = MR_OK;
    *finish = MR_FINISH_NONE;
    if (r->n_prompt + r->n_delivered < r->n_tokens) {
        *token = r->tokens[r->n_prompt + r->n_delivered++];
        return true;
    }
    if (r->state != MR_REQUEST_ENDED) return false;
    *finish = r->finish;
    if (r->finish == MR_FINISH_ERROR) *status = mr_fail(err, r->error.status, "%s", r->error.text);
    return true;
}

static void wake_owner(void *ctx) {
    mr_request *request = ctx;
    pthread_mutex_lock(&request->engine->lock);
    pthread_cond_broadcast(&request->changed);
    pthread_mutex_unlock(&request->engine->lock);
}

mr_status mr_request_next(mr_request *request, mr_cancel *cancel, int32_t *token, mr_finish *finish, mr_error *err) {
    mr_engine *engine = request->engine;
    mr_status status = MR_OK;
    uint64_t subscription = 0;
    bool subscribed = cancel == NULL;
    *token = -1;
    *finish = MR_FINISH_NONE;
    pthread_mutex_lock(&engine->lock);
    for (;;) {
        if (mr_cancel_is_set(cancel)) {
            status = mr_fail(err, MR_ERR_CANCELLED, "the job was cancelled");
            *finish = MR_FINISH_ERROR;
            break;
        }
        if (take_news(request, token, finish, &status, err)) break;
        if (!subscribed) {
            /* The signal's lock is held while wake_owner waits for ours, so ours must be free here. */
            pthread_mutex_unlock(&engine->lock);
            subscription = mr_cancel_subscribe(cancel, wake_owner, request);
            subscribed = true;
            pthread_mutex_lock(&engine->lock);
            continue;
        }
        pthread_cond_wait(&request->changed, &engine->lock);
    }
    pthread_mutex_unlock(&engine->lock);
    mr_cancel_unsubscribe(cancel, subscription);
    return status;
}

const float *mr_request_pooled(const mr_request *request) {
    return request->pooled;
}

mr_request_stats mr_request_get_stats(const mr_request *request) {
    pthread_mutex_lock(&request->engine->lock);
    mr_request_stats stats = request->stats;
    if (request->state != MR_REQUEST_ENDED && request->first_token_ns != 0)
        stats.generation_sec = mr_clock_since(request->first_token_ns);
    pthread_mutex_unlock(&request->engine->lock);
    return stats;
}

enum { ABORT_TOKENS = 16 };

/* Breaking the pass off throws away what it has computed for the others, so it must save more than it costs. */
static bool worth_aborting(const mr_request *request) {
    size_t own = request->n_in_pass;
    return own > 0 && (own > ABORT_TOKENS || own == request->engine->n_in_pass);
}

void mr_request_free(mr_request *request) {
    if (request == NULL) return;
    mr_engine *engine = request->engine;
    pthread_mutex_lock(&request->mask_lock); /* waits for a call of the mask to end */
    request->mask = NULL;
    pthread_mutex_unlock(&request->mask_lock);
    pthread_mutex_lock(&engine->lock);
    bool running = request->state == MR_REQUEST_RUNNING;
    if (running) {
        request->abandoned = true; /* the scheduler destroys it */
        if (worth_aborting(request)) mr_cancel_request(engine->abort);
    } else if (request->state == MR_REQUEST_WAITING) {
        waiting_remove(engine, request);
    }
    pthread_mutex_unlock(&engine->lock);
    if (!running) mr_request_destroy(request);
}
