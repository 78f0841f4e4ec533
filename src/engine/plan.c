/* What one forward pass computes.
 *
 * First the next token of every sequence that generates; then prompts, in order of arrival, with the tokens that are
 * left of the pass. While others generate, a pass takes no more prompt tokens than fit into PASS_SECONDS, so that a
 * long prompt slows the others but never stops them; several prompts share the pass. Guesses (draft.h) ride along with
 * the next tokens while those are few, an equal number for each sequence at most, and only in blocks that nobody needs.
 */
#include "engine/internal.h"

#include "base/min.h"

#include <string.h>

#define PASS_SECONDS 0.2

static size_t tokens_left(const mr_request *r) {
    return r->n_tokens - r->sequence.n_computed;
}

static void add_entry(mr_engine *engine, size_t at, mr_request *r, size_t n_tokens) {
    engine->entries[at] = (mr_pass_entry){.request = r,
                                          .n_tokens = (uint32_t)n_tokens,
                                          .wants_logits = r->pooling == MR_POOLING_NONE && n_tokens == tokens_left(r),
                                          .logits = r->logits,
                                          .n_hidden = mr_pooling_rows(r, n_tokens),
                                          .token = -1};
}

/* Makes room for the next token of running[i]. False when the request itself is not running any more. */
static bool make_room(mr_engine *engine, size_t i) {
    mr_request *r = engine->running[i];
    for (;;) {
        mr_status status = mr_sequence_reserve(&r->sequence, &engine->memory, r->sequence.n_computed + 1);
        if (status == MR_OK) return true;
        mr_request *last = engine->running[engine->n_running - 1];
        pthread_mutex_lock(&engine->lock);
        if (status == MR_ERR_LIMIT && engine->n_running > 1) {
            mr_running_preempt(last);
        } else {
            mr_error error = {0};
            mr_fail(&error, MR_ERR_NOMEM, "no memory for token %zu of a sequence", r->n_tokens);
            mr_running_end(r, MR_FINISH_ERROR, &error);
            last = r;
        }
        pthread_mutex_unlock(&engine->lock);
        if (last == r) return false;
    }
}

/* Requests that came later are planned later, so those that give way are in no entry yet. */
static size_t plan_decode(mr_engine *engine) {
    size_t n = 0;
    for (size_t i = 0; i < engine->n_running;) {
        mr_request *r = engine->running[i];
        if (tokens_left(r) == 1) {
            if (!make_room(engine, i)) continue;
            add_entry(engine, n++, r, 1);
        }
        i++;
    }
    return n;
}

/* How many guesses fit behind the next token: into the text, and into blocks that are there or free beside one for each
 * that generates. */
static size_t room_for_draft(mr_engine *engine, mr_request *r, size_t most) {
    size_t n = mr_min_size(most, r->max_len - r->n_tokens - 1), first = r->sequence.n_computed + 1;
    size_t covered = r->sequence.n_blocks * MR_KV_BLOCK - first;
    if (n <= covered) return n;
    bool free = mr_kv_blocks_n_available(engine->memory.blocks) > engine->n_running &&
                mr_sequence_reserve(&r->sequence, &engine->memory, first + n) == MR_OK;
    return free ? n : covered;
}

/* Writes guesses behind the request's tokens; returns how many. They stop before what would end the text. */
static size_t propose(mr_engine *engine, mr_request *r, size_t most) {
    size_t n = room_for_draft(engine, r, most);
    pthread_mutex_lock(&engine->lock);
    bool reserved = mr_request_reserve(r, n);
    pthread_mutex_unlock(&engine->lock);
    if (!reserved) return 0;
    mr_draft_see(r->draft, r->tokens, r->n_tokens);
    double cost = engine->fixed_draft_cost > 0 ? engine->fixed_draft_cost : mr_draft_cost_row(&engine->draft_cost);
    n = mr_draft_propose(r->draft, r->tokens, r->n_tokens, n, cost);
    for (size_t i = 0; i < n; i++) {
        if (mr_request_is_eog(r, r->tokens[r->n_tokens + i])) return i;
    }
    return n;
}

/* Adds guesses to the n entries, one token each; returns their number. */
static size_t plan_drafts(mr_engine *engine, size_t n) {
    if (engine->n_draft == 0 || n == 0 || n >= MR_DRAFT_ROWS) return 0;
    size_t share = mr_min_size(engine->n_draft, (MR_DRAFT_ROWS - n) / n), n_rows = 0, n_drafts = 0;
    for (size_t i = 0; share > 0 && i < n; i++) {
        mr_pass_entry *entry = &engine->entries[i];
        size_t count = propose(engine, entry->request, share);
        if (count == 0) continue;
        entry->n_draft = (uint32_t)count;
        entry->n_tokens += (uint32_t)count;
        entry->logits = engine->draft_logits + n_rows * engine->n_vocab;
        n_rows += 1 + count;
        n_drafts += count;
    }
    return n_drafts;
}

static size_t prefill_budget(const mr_engine *engine, size_t n_decode, size_t n_drafts) {
    size_t most = MR_BATCH_MAX - n_decode - n_drafts;
    if (n_decode == 0 || engine->prefill_chunk > 0 || engine->prefill_rate == 0) return most;
    size_t n = (size_t)(engine->prefill_rate * PASS_SECONDS) / MR_KV_BLOCK * MR_KV_BLOCK;
    return mr_min_size(most, n < MR_KV_BLOCK ? MR_KV_BLOCK : n);
}

/* What another sequence has computed since this one was admitted need not be computed again. */
static void reuse_more(mr_engine *engine, mr_request *r) {
    if (!engine->use_cache || !mr_pooling_may_reuse(r) || r->sequence.n_computed % MR_KV_BLOCK != 0) return;
    size_t n = mr_sequence_reuse(&r->sequence, &engine->memory, r->tokens, r->n_tokens);
    if (n == 0 || r->was_preempted) return;
    pthread_mutex_lock(&engine->lock);
    r->stats.n_prompt_cached += (uint32_t)n;
    engine->stats.n_prompt_cached += n;
    pthread_mutex_unlock(&engine->lock);
}

/* Whether an earlier request of this pass is about to compute the very block that this one needs next: then it is
 * better to wait and share it. */
static bool will_be_shared(const mr_engine *engine, const mr_request *r, mr_request *const *earlier, size_t n) {
    const mr_sequence *s = &r->sequence;
    if (!mr_pooling_may_reuse(r)) return false;
    if (!engine->use_cache || s->n_computed % MR_KV_BLOCK != 0 || tokens_left(r) <= MR_KV_BLOCK) return false;
    for (size_t i = 0; i < n; i++) {
        const mr_request *e = earlier[i];
        size_t begin = s->n_computed;
        if (e->sequence.n_computed / MR_KV_BLOCK != begin / MR_KV_BLOCK || e->sequence.parent != s->parent) continue;
        if (e->n_tokens < begin + MR_KV_BLOCK) continue;
        if (memcmp(e->tokens + begin, r->tokens + begin, MR_KV_BLOCK * sizeof *r->tokens) == 0) return true;
    }
    return false;
}

/* A chunk that is not the last of its prompt ends at a block's end, where the next one continues well. */
static size_t align_chunk(const mr_request *r, size_t n) {
    if (n == tokens_left(r)) return n;
    size_t begin = r->sequence.n_computed, end = (begin + n) / MR_KV_BLOCK * MR_KV_BLOCK;
    return end > begin ? end - begin : n;
}

static size_t plan_prefill(mr_engine *engine, size_t n_decode, size_t n_drafts) {
    mr_request *ready[MR_MAX_CONCURRENT];
    size_t takes[MR_MAX_CONCURRENT], n_ready = 0;
    for (size_t i = 0; i < engine->n_running; i++) {
        mr_request *r = engine->running[i];
        if (tokens_left(r) <= 1) continue;
        reuse_more(engine, r);
        if (!will_be_shared(engine, r, ready, n_ready)) ready[n_ready++] = r;
    }
    if (n_ready == 0) return n_decode;
    size_t chunk = engine->prefill_chunk > 0 ? engine->prefill_chunk : MR_BATCH_MAX;
    size_t left = prefill_budget(engine, n_decode, n_drafts), share = left / n_ready / MR_KV_BLOCK * MR_KV_BLOCK;
    if (share < MR_KV_BLOCK) share = MR_KV_BLOCK;
    for (size_t i = 0; i < n_ready; i++) {
        takes[i] = mr_min_size(mr_min_size(tokens_left(ready[i]), chunk), mr_min_size(share, left));
        left -= takes[i];
    }
    size_t n = n_decode;
    for (size_t i = 0; i < n_ready; i++) {
        size_t more = mr_min_size(mr_min_size(tokens_left(ready[i]), chunk) - takes[i], left);
        takes[i] += more;
        left -= more;
        if (takes[i] > 0) add_entry(engine, n++, ready[i], align_chunk(ready[i], takes[i]));
    }
    return n;
}

/* Texts of an encoder, in order of arrival; those that do not fit any more wait. One that is longer than a pass is
 * alone in one when it comes first. */
static size_t plan_whole(mr_engine *engine) {
    size_t n = 0, left = MR_BATCH_MAX;
    for (size_t i = 0; i < engine->n_running; i++) {
        mr_request *r = engine->running[i];
        if (i == 0 && tokens_left(r) > left) {
            add_entry(engine, n, r, tokens_left(r));
            return 1;
        }
        if (tokens_left(r) > left) continue;
        left -= tokens_left(r);
        add_entry(engine, n++, r, tokens_left(r));
    }
    return n;
}

size_t mr_plan_pass(mr_engine *engine) {
    if (engine->encoder) return plan_whole(engine);
    size_t n_decode = plan_decode(engine);
    size_t n_drafts = plan_drafts(engine, n_decode);
    return plan_prefill(engine, n_decode, n_drafts);
}
