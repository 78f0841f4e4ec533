/* The scheduler's thread: admit, plan, compute, sample, deliver, over and over.
 *
 * Requests are admitted in order, as soon as the KV blocks of what they have so far are available. A generation that
 * later finds no block makes the request that came last give way: it goes back to the front of the waiting list and is
 * computed again when there is room (its blocks may still be cached then). The oldest request never gives way to
 * another and the pool holds at least one whole context, so there is always progress. What was delivered stays
 * delivered. */
#define MR_LOG_TARGET "mistral_runner::engine"
#include "engine/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static void running_remove(mr_request *request) {
    mr_engine *engine = request->engine;
    size_t i = 0;
    while (engine->running[i] != request) i++;
    engine->n_running--;
    memmove(&engine->running[i], &engine->running[i + 1], (engine->n_running - i) * sizeof(mr_request *));
}

static void running_insert(mr_request *request) {
    mr_engine *engine = request->engine;
    size_t i = engine->n_running++;
    for (; i > 0 && engine->running[i - 1]->arrival > request->arrival; i--)
        engine->running[i] = engine->running[i - 1];
    engine->running[i] = request;
}

void mr_running_end(mr_request *request, mr_finish finish, const mr_error *error) {
    mr_sequence_release(&request->sequence, &request->engine->memory, request->tokens);
    running_remove(request);
    mr_request_end(request, finish, error);
}

void mr_running_preempt(mr_request *request) {
    mr_sequence_release(&request->sequence, &request->engine->memory, request->tokens);
    running_remove(request);
    request->was_preempted = true;
    request->engine->stats.n_preempted++;
    mr_waiting_push_front(request->engine, request);
}

/* Destroys the running requests whose owners are gone. */
static void reap(mr_engine *engine) {
    mr_request *gone[MR_MAX_CONCURRENT];
    size_t n = 0;
    pthread_mutex_lock(&engine->lock);
    for (size_t i = engine->n_running; i > 0; i--) {
        mr_request *r = engine->running[i - 1];
        if (!r->abandoned) continue;
        mr_error error = {.status = MR_ERR_CANCELLED};
        mr_running_end(r, MR_FINISH_ERROR, &error);
        gone[n++] = r;
    }
    pthread_mutex_unlock(&engine->lock);
    for (size_t i = 0; i < n; i++) mr_request_destroy(gone[i]);
}

/* Gets blocks for all tokens so far and the next one, where there will be one. MR_ERR_LIMIT: not now. */
static mr_status get_blocks(mr_engine *engine, mr_request *r, size_t *n_reused) {
    bool reuse = engine->use_cache && mr_pooling_may_reuse(r);
    *n_reused = reuse ? mr_sequence_reuse(&r->sequence, &engine->memory, r->tokens, r->n_tokens) : 0;
    size_t n_positions = r->n_tokens + (r->pooling == MR_POOLING_NONE ? 1 : 0);
    size_t n_blocks = (n_positions + MR_KV_BLOCK - 1) / MR_KV_BLOCK;
    size_t more = n_blocks > r->sequence.n_blocks ? n_blocks - r->sequence.n_blocks : 0;
    /* One block stays free for each that generates, or it would soon have to give way again. */
    if (engine->n_running > 0 && mr_kv_blocks_n_available(engine->memory.blocks) < more + engine->n_running)
        return MR_ERR_LIMIT;
    return mr_sequence_reserve(&r->sequence, &engine->memory, n_positions);
}

static void note_start(mr_engine *engine, mr_request *r, size_t n_reused) {
    if (r->start_ns != 0) return;
    r->start_ns = mr_clock_ns();
    r->stats.queue_sec = (double)(r->start_ns - r->submit_ns) * 1e-9;
    r->stats.n_prompt_cached = (uint32_t)n_reused;
    engine->stats.n_prompt_tokens += r->n_prompt;
    engine->stats.n_prompt_cached += n_reused;
}

/* Takes back a request that could not be admitted. */
static void put_back(mr_engine *engine, mr_request *r) {
    mr_sequence_release(&r->sequence, &engine->memory, r->tokens);
    engine->refused = r->arrival;
    engine->n_refused_at = mr_kv_blocks_n_available(engine->memory.blocks);
    pthread_mutex_lock(&engine->lock);
    bool abandoned = r->abandoned;
    engine->n_admitting = 0;
    if (!abandoned) mr_waiting_push_front(engine, r);
    pthread_mutex_unlock(&engine->lock);
    if (abandoned) mr_request_destroy(r);
}

/* What a request needs beside its blocks. */
static mr_status get_memory(mr_engine *engine, mr_request *r, mr_error *err) {
    if (r->pooling != MR_POOLING_NONE) return mr_pooling_begin(r, err);
    if (r->logits == NULL) r->logits = malloc(engine->n_vocab * sizeof *r->logits);
    return r->logits != NULL ? MR_OK
                             : mr_fail_nomem(err, engine->n_vocab * sizeof *r->logits, "the logits of a request");
}

/* Admits the first waiting request; false when there is none or it has to wait. */
static bool admit_one(mr_engine *engine) {
    if (engine->n_running == engine->max_concurrent) return false;
    size_t n_available = mr_kv_blocks_n_available(engine->memory.blocks), n_reused = 0;
    pthread_mutex_lock(&engine->lock);
    mr_request *r = engine->first_waiting;
    bool hopeless =
        r != NULL && engine->n_running > 0 && r->arrival == engine->refused && n_available <= engine->n_refused_at;
    if (r != NULL && !hopeless) {
        mr_waiting_pop(engine);
        r->state = MR_REQUEST_RUNNING; /* its owner must not destroy it now */
        engine->n_admitting = 1;
    }
    pthread_mutex_unlock(&engine->lock);
    if (r == NULL || hopeless) return false;

    mr_error error = {0};
    mr_status status = get_memory(engine, r, &error);
    if (status == MR_OK) status = get_blocks(engine, r, &n_reused);
    if (status == MR_ERR_LIMIT) {
        put_back(engine, r);
        return false;
    }
    pthread_mutex_lock(&engine->lock);
    engine->n_admitting = 0;
    running_insert(r);
    note_start(engine, r, n_reused);
    if (status != MR_OK) {
        if (error.status == MR_OK) mr_fail_nomem(&error, r->n_tokens * sizeof *r->tokens, "the blocks of a request");
        bool abandoned = r->abandoned;
        if (!abandoned) mr_running_end(r, MR_FINISH_ERROR, &error); /* else reap() does it */
    }
    pthread_mutex_unlock(&engine->lock);
    return true;
}

/* Announces the pass, so that it can be aborted. False when an owner has gone since it was planned. */
static bool begin_pass(mr_engine *engine, mr_pass_entry *entries, size_t n) {
    bool ok = true;
    pthread_mutex_lock(&engine->lock);
    if (engine->abort == NULL) engine->abort = mr_cancel_new();
    for (size_t i = 0; i < n; i++) ok = ok && !entries[i].request->abandoned;
    ok = ok && !engine->stopping;
    for (size_t i = 0; ok && i < n; i++) {
        entries[i].request->n_in_pass = entries[i].n_tokens;
        engine->n_in_pass += entries[i].n_tokens;
    }
    pthread_mutex_unlock(&engine->lock);
    return ok;
}

/* Returns whether the pass was to be aborted. */
static bool end_pass(mr_engine *engine, mr_pass_entry *entries, size_t n, mr_status status) {
    pthread_mutex_lock(&engine->lock);
    for (size_t i = 0; i < n; i++) entries[i].request->n_in_pass = 0;
    engine->n_in_pass = 0;
    bool aborted = mr_cancel_is_set(engine->abort);
    if (aborted) {
        mr_cancel_unref(engine->abort);
        engine->abort = mr_cancel_new();
    }
    engine->stats.n_passes++;
    if (status == MR_ERR_CANCELLED && aborted) engine->stats.n_aborted++;
    pthread_mutex_unlock(&engine->lock);
    return aborted;
}

static void measure(mr_engine *engine, const mr_pass_entry *entries, size_t n, size_t n_tokens, double seconds) {
    bool alone = n == 1 && entries[0].wants_logits && n_tokens == 1 + entries[0].n_draft;
    if (engine->n_draft > 0 && alone) mr_draft_cost_note(&engine->draft_cost, entries[0].n_draft, seconds);
    if (n_tokens < MR_KV_BLOCK || !(seconds > 0)) return;
    double rate = (double)n_tokens / seconds;
    engine->prefill_rate = engine->prefill_rate == 0 ? rate : 0.5 * (engine->prefill_rate + rate);
}

/* The recurrent state's part of a run. There are slots for every sequence that runs. */
static void add_state(mr_engine *engine, mr_batch_run *run, mr_sequence *s) {
    mr_states *states = engine->memory.states;
    if (states == NULL || mr_sequence_prepare_state(s, &engine->memory, run->n_tokens) != MR_OK) return;
    if (s->state >= 0) run->state = mr_states_data(states, s->state);
    run->state_out = mr_states_data(states, s->next);
    run->n_mid = s->n_mid;
    if (s->n_mid > 0) run->state_mid = mr_states_data(states, s->mid);
}

static void drop_draft(mr_pass_entry *entry) {
    entry->n_tokens -= entry->n_draft;
    entry->n_draft = 0;
}

/* Candidates are of use only while their rows can still be fetched: until the next pass. */
static mr_row_form form_of(const mr_engine *engine, const mr_pass_entry *entry, bool is_last) {
    const mr_request *r = entry->request;
    if (!engine->on_device || !entry->wants_logits) return MR_ROW_LOGITS;
    if (r->mask_bits == NULL && mr_sampler_is_greedy(r->sampler)) return MR_ROW_BEST;
    return is_last && mr_sampler_takes_candidates(r->sampler) ? MR_ROW_CANDIDATES : MR_ROW_LOGITS;
}

/* What the model is to give of the entry's rows, of which the first is row `first` of the pass. */
static void ask_for_rows(mr_engine *engine, mr_pass_entry *entry, mr_batch_run *run, uint32_t first, bool is_last) {
    entry->form = form_of(engine, entry, is_last);
    entry->first_row = first;
    entry->candidates = engine->candidates != NULL ? engine->candidates + first : NULL;
    if (!entry->wants_logits) return;
    run->n_logits = 1 + entry->n_draft;
    if (entry->form == MR_ROW_LOGITS) run->logits = entry->logits;
    if (entry->form == MR_ROW_BEST) run->best = entry->best;
    if (entry->form == MR_ROW_CANDIDATES) run->candidates = entry->candidates;
}

/* Computes entries[0..n) in one pass and sets their status. When it fails each is tried alone, so that an error hits
 * only those that cause it, and then without guesses, which are not to cause any. is_last: no other pass comes before
 * tokens are chosen. False when the pass was broken off and nothing has happened. */
static bool compute(mr_engine *engine, mr_pass_entry *entries, size_t n, bool is_last) {
    size_t n_tokens = 0;
    uint32_t n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        mr_request *r = entries[i].request;
        mr_batch_run *run = &engine->runs[i];
        *run = (mr_batch_run){.tokens = r->tokens + r->sequence.n_computed,
                              .n_tokens = entries[i].n_tokens,
                              .pos0 = r->sequence.n_computed,
                              .blocks = r->sequence.blocks,
                              .n_hidden = entries[i].n_hidden,
                              .hidden = entries[i].n_hidden > 0 ? r->hidden : NULL};
        ask_for_rows(engine, &entries[i], run, n_rows, is_last);
        add_state(engine, run, &r->sequence);
        n_tokens += entries[i].n_tokens;
        n_rows += run->n_logits;
    }
    if (!begin_pass(engine, entries, n)) return false;
    mr_error error = {0};
    uint64_t start = mr_clock_ns();
    mr_status status = mr_model_forward(engine->model, &engine->memory.pool, engine->runs, n, engine->abort, &error);
    bool aborted = end_pass(engine, entries, n, status);
    if (status == MR_OK) {
        measure(engine, entries, n, n_tokens, mr_clock_since(start));
    } else if (status == MR_ERR_CANCELLED && aborted) {
        return false;
    } else if (n > 1) {
        for (size_t i = 0; i < n; i++) {
            if (!compute(engine, &entries[i], 1, false)) entries[i].status = MR_ERR_CANCELLED;
        }
        return true;
    } else if (entries[0].n_draft > 0) {
        drop_draft(&entries[0]);
        return compute(engine, entries, 1, is_last);
    }
    for (size_t i = 0; i < n; i++) {
        entries[i].status = status;
        entries[i].error = error;
    }
    return true;
}

static void apply_mask_of(mr_pass_entry *entry) {
    mr_request *r = entry->request;
    pthread_mutex_lock(&r->mask_lock);
    size_t n_generated = r->n_tokens - r->n_prompt + entry->n_accepted;
    entry->masked = r->mask != NULL && r->mask(r->mask_ctx, r->tokens + r->n_prompt, n_generated, r->mask_bits);
    pthread_mutex_unlock(&r->mask_lock);
}

static float *next_row(const mr_pass_entry *entry) {
    return entry->logits + (size_t)entry->n_accepted * entry->request->engine->n_vocab;
}

/* Chooses from the next row; a guess that is chosen, too, makes the row behind it the next one. */
static void sample_entry(mr_pass_entry *entry) {
    mr_request *r = entry->request;
    if (!entry->sampling) return;
    size_t n_tokens = r->n_tokens + entry->n_accepted;
    const uint64_t *mask = entry->masked ? r->mask_bits : NULL;
    if (entry->form == MR_ROW_CANDIDATES && !entry->needs_row) {
        const mr_candidates *candidates = &entry->candidates[entry->n_accepted];
        entry->needs_row = !mr_sampler_next_of(r->sampler, candidates, r->tokens, n_tokens, mask, &entry->token);
        if (entry->needs_row) return;
    } else if (entry->form == MR_ROW_BEST) {
        entry->token = entry->best[entry->n_accepted];
    } else {
        entry->token = mr_sampler_next(r->sampler, next_row(entry), r->tokens, n_tokens, mask);
    }
    entry->needs_row = false;
    entry->sampling = entry->n_accepted < entry->n_draft && r->tokens[n_tokens] == entry->token;
    if (entry->sampling) entry->n_accepted++;
}

typedef struct sampling_job {
    mr_pass_entry *entries;
    size_t n;
    bool fetched; /* only those whose row has been fetched */
} sampling_job;

static void sample_one(const sampling_job *job, size_t i) {
    if (job->entries[i].needs_row == job->fetched) sample_entry(&job->entries[i]);
}

static void sample_share(mr_worker *worker, void *arg) {
    sampling_job *job = arg;
    mr_loop loop = mr_loop_begin(worker, job->n, 1);
    size_t begin, end;
    while (mr_loop_next(&loop, &begin, &end)) {
        for (size_t i = begin; i < end; i++) sample_one(job, i);
    }
}

static void sample_each(mr_engine *engine, size_t n, size_t n_samples, bool fetched) {
    sampling_job job = {.entries = engine->entries, .n = n, .fetched = fetched};
    if (n_samples > 1) {
        mr_team_run(mr_model_team(engine->model), sample_share, &job);
    } else {
        for (size_t i = 0; i < n; i++) sample_one(&job, i);
    }
}

/* Fetches the rows that candidates did not stand for; returns their number. */
static size_t fetch_rows(mr_engine *engine, size_t n) {
    uint32_t rows[MR_MAX_CONCURRENT];
    float *to[MR_MAX_CONCURRENT];
    mr_error error = {0};
    size_t n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        const mr_pass_entry *entry = &engine->entries[i];
        if (!entry->needs_row) continue;
        rows[n_rows] = entry->first_row + entry->n_accepted;
        to[n_rows++] = next_row(entry);
    }
    if (n_rows == 0) return 0;
    engine->n_rows_fetched += n_rows;
    mr_status status = mr_model_fetch_logits(engine->model, rows, to, n_rows, &error);
    for (size_t i = 0; status != MR_OK && i < n; i++) {
        mr_pass_entry *entry = &engine->entries[i];
        if (!entry->needs_row) continue;
        entry->needs_row = entry->sampling = false;
        entry->status = status;
        entry->error = error;
    }
    return status == MR_OK ? n_rows : 0;
}

/* Chooses one token for each entry that samples; false when none does. */
static bool sample_once(mr_engine *engine, size_t n) {
    size_t n_samples = 0;
    for (size_t i = 0; i < n; i++) {
        mr_pass_entry *entry = &engine->entries[i];
        if (!entry->sampling) continue;
        n_samples++;
        if (entry->request->mask_bits != NULL) apply_mask_of(entry);
    }
    if (n_samples == 0) return false;
    sample_each(engine, n, n_samples, false);
    size_t n_fetched = fetch_rows(engine, n);
    if (n_fetched > 0) sample_each(engine, n, n_fetched, true);
    return true;
}

static void sample(mr_engine *engine, size_t n) {
    for (size_t i = 0; i < n; i++)
        engine->entries[i].sampling = engine->entries[i].wants_logits && engine->entries[i].status == MR_OK;
    while (sample_once(engine, n)) {
    }
}

static void pool(mr_engine *engine, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (engine->entries[i].status == MR_OK) mr_pooling_add(engine->entries[i].request, &engine->entries[i]);
    }
}

static void note_prompt_end(mr_request *r) {
    if (r->first_token_ns != 0) return;
    r->first_token_ns = mr_clock_ns();
    r->stats.prompt_sec = (double)(r->first_token_ns - r->start_ns) * 1e-9;
}

static void deliver_vector(mr_request *r) {
    if (r->sequence.n_computed < r->n_prompt) return;
    note_prompt_end(r);
    mr_running_end(r, MR_FINISH_LENGTH, NULL);
}

static void deliver_token(mr_request *r, int32_t token) {
    mr_engine *engine = r->engine;
    note_prompt_end(r);
    if (mr_request_is_eog(r, token)) {
        mr_running_end(r, MR_FINISH_EOG, NULL);
    } else if (!mr_request_append(r, token)) {
        mr_error error = {0};
        mr_fail_nomem(&error, r->cap * 2 * sizeof *r->tokens, "the tokens of a request");
        mr_running_end(r, MR_FINISH_ERROR, &error);
    } else {
        engine->stats.n_generated++;
        if (r->n_tokens >= r->max_len) mr_running_end(r, MR_FINISH_LENGTH, NULL);
    }
}

/* The guesses that were chosen lie behind the request's tokens already; they end nothing (plan.c). */
static void deliver_draft(mr_request *r, const mr_pass_entry *entry) {
    mr_engine *engine = r->engine;
    for (size_t i = 0; i < entry->n_accepted; i++) mr_request_append(r, r->tokens[r->n_tokens]);
    r->stats.n_drafted += entry->n_draft;
    r->stats.n_accepted += entry->n_accepted;
    engine->stats.n_drafted += entry->n_draft;
    engine->stats.n_accepted += entry->n_accepted;
    engine->stats.n_generated += entry->n_accepted;
}

/* Copies the scheduler's own figures to where others may read them; lock held. */
static void update_stats(mr_engine *engine) {
    engine->stats.n_blocks_used = mr_kv_blocks_n_used(engine->memory.blocks);
    engine->stats.n_blocks_cached = mr_kv_blocks_n_cached(engine->memory.blocks);
    engine->stats.n_rows_fetched = engine->n_rows_fetched;
}

static void deliver(mr_engine *engine, size_t n) {
    pthread_mutex_lock(&engine->lock);
    for (size_t i = 0; i < n; i++) {
        mr_pass_entry *entry = &engine->entries[i];
        mr_request *r = entry->request;
        if (entry->status == MR_ERR_CANCELLED) continue; /* broken off: planned again */
        size_t n_stand = entry->n_tokens - entry->n_draft + entry->n_accepted;
        if (entry->status == MR_OK) mr_sequence_advance(&r->sequence, &engine->memory, r->tokens, n_stand);
        if (r->abandoned) continue;
        if (entry->status != MR_OK) {
            mr_running_end(r, MR_FINISH_ERROR, &entry->error);
        } else if (entry->wants_logits) {
            deliver_draft(r, entry);
            deliver_token(r, entry->token);
        } else if (r->pooling != MR_POOLING_NONE) {
            deliver_vector(r);
        }
    }
    update_stats(engine);
    pthread_mutex_unlock(&engine->lock);
}

/* Waits until there is something to do; false when the engine is to stop. */
static bool wait_for_work(mr_engine *engine) {
    pthread_mutex_lock(&engine->lock);
    update_stats(engine);
    while (!engine->stopping && engine->n_running == 0 && engine->first_waiting == NULL)
        pthread_cond_wait(&engine->wake, &engine->lock);
    bool go_on = !engine->stopping;
    pthread_mutex_unlock(&engine->lock);
    return go_on;
}

static void end_all(mr_engine *engine) {
    mr_error error = {0};
    mr_fail(&error, MR_ERR_CANCELLED, "the model is being unloaded");
    reap(engine);
    pthread_mutex_lock(&engine->lock);
    for (size_t i = engine->n_running; i > 0; i--) {
        /* One that was abandoned since stays for the last reap(). */
        if (!engine->running[i - 1]->abandoned) mr_running_end(engine->running[i - 1], MR_FINISH_ERROR, &error);
    }
    for (mr_request *r; (r = mr_waiting_pop(engine)) != NULL;) {
        /* One that gave way after it was abandoned. */
        if (r->abandoned)
            running_insert(r);
        else
            mr_request_end(r, MR_FINISH_ERROR, &error);
    }
    update_stats(engine);
    pthread_mutex_unlock(&engine->lock);
    reap(engine);
}

void *mr_scheduler_main(void *arg) {
    mr_engine *engine = arg;
    while (wait_for_work(engine)) {
        reap(engine);
        while (admit_one(engine)) {
        }
        size_t n = mr_plan_pass(engine);
        if (n == 0 || !compute(engine, engine->entries, n, true)) continue;
        sample(engine, n);
        pool(engine, n);
        deliver(engine, n);
    }
    end_all(engine);
    return NULL;
}
