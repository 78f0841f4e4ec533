#include "engine/sequence.h"

#include <stdlib.h>

static bool grow_table(mr_sequence *s, size_t n_blocks) {
    if (n_blocks <= s->cap) return true;
    size_t cap = s->cap * 2 > n_blocks ? s->cap * 2 : n_blocks;
    int32_t *blocks = realloc(s->blocks, cap * sizeof *blocks);
    if (blocks == NULL) return false;
    s->blocks = blocks;
    s->cap = cap;
    return true;
}

mr_status mr_sequence_reserve(mr_sequence *sequence, mr_kv_memory *memory, size_t n_tokens) {
    size_t n_blocks = (n_tokens + MR_KV_BLOCK - 1) / MR_KV_BLOCK;
    if (!grow_table(sequence, n_blocks)) return MR_ERR_NOMEM;
    while (sequence->n_blocks < n_blocks) {
        int32_t block = mr_kv_blocks_take(memory->blocks);
        if (block < 0) return MR_ERR_LIMIT;
        sequence->blocks[sequence->n_blocks++] = block;
    }
    return MR_OK;
}

/* Puts `block` at place `at` of the table. */
static bool place(mr_sequence *s, mr_kv_memory *memory, size_t at, int32_t block) {
    if (at < s->n_blocks) {
        mr_kv_blocks_give(memory->blocks, s->blocks[at]);
    } else {
        if (!grow_table(s, at + 1)) return false;
        s->n_blocks++;
    }
    s->blocks[at] = block;
    return true;
}

static size_t reuse_part(mr_sequence *s, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens) {
    size_t at = s->n_computed / MR_KV_BLOCK, left = n_tokens - 1 - s->n_computed, n_equal;
    if (left == 0 || mr_sequence_reserve(s, memory, s->n_computed + 1) != MR_OK) return 0;
    int32_t from = mr_kv_blocks_find_prefix(memory->blocks, s->parent, tokens + s->n_computed,
                                            left < MR_KV_BLOCK ? left : MR_KV_BLOCK, &n_equal);
    if (from < 0 || n_equal >= MR_KV_BLOCK) return 0;
    mr_model_kv_copy(memory->model, &memory->pool, s->blocks[at], from);
    s->n_computed += (uint32_t)n_equal;
    return n_equal;
}

static void init_slots(mr_sequence *s) {
    if (s->has_slots) return;
    s->has_slots = true;
    s->state = s->next = s->mid = -1;
}

/* What is cached behind n_computed: its blocks, each with a reference; how many of them the last snapshot covers; and
 * that snapshot. */
typedef struct found_blocks {
    int32_t *blocks; /* [n] */
    size_t n, n_good;
    int32_t snapshot;
} found_blocks;

static found_blocks find_blocks(const mr_sequence *s, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens) {
    found_blocks f = {.snapshot = -1};
    mr_kv_id parent = s->parent;
    f.blocks = malloc((n_tokens / MR_KV_BLOCK + 1) * sizeof *f.blocks);
    for (size_t at = s->n_computed; f.blocks != NULL && at + MR_KV_BLOCK < n_tokens; at += MR_KV_BLOCK) {
        int32_t block = mr_kv_blocks_find(memory->blocks, parent, tokens + at);
        if (block < 0) break;
        f.blocks[f.n++] = block;
        parent = mr_kv_blocks_id(memory->blocks, block);
        int32_t snapshot = mr_states_find(memory->states, parent);
        if (snapshot < 0) continue;
        f.snapshot = snapshot;
        f.n_good = f.n;
    }
    return f;
}

/* Whole blocks up to the last one that has a snapshot; where cached blocks go on behind it becomes the branch. */
static size_t reuse_with_state(mr_sequence *s, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens) {
    found_blocks f = find_blocks(s, memory, tokens, n_tokens);
    size_t first = s->n_computed / MR_KV_BLOCK;
    if (!grow_table(s, first + f.n_good)) f.n_good = 0;
    s->branch = f.n > f.n_good ? (uint32_t)((first + f.n) * MR_KV_BLOCK) : 0;
    for (size_t i = f.n; i > f.n_good; i--) mr_kv_blocks_give(memory->blocks, f.blocks[i - 1]);
    for (size_t i = 0; i < f.n_good; i++) place(s, memory, first + i, f.blocks[i]);
    if (f.n_good > 0) {
        s->parent = mr_kv_blocks_id(memory->blocks, f.blocks[f.n_good - 1]);
        s->n_computed += (uint32_t)(f.n_good * MR_KV_BLOCK);
        init_slots(s);
        mr_states_hold(memory->states, f.snapshot);
        mr_states_give(memory->states, s->state);
        s->state = f.snapshot;
    }
    free(f.blocks);
    return f.n_good * MR_KV_BLOCK;
}

size_t mr_sequence_reuse(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens) {
    uint32_t before = sequence->n_computed;
    if (memory->states != NULL) return reuse_with_state(sequence, memory, tokens, n_tokens);
    while (sequence->n_computed + MR_KV_BLOCK < n_tokens) {
        int32_t block = mr_kv_blocks_find(memory->blocks, sequence->parent, tokens + sequence->n_computed);
        if (block < 0) break;
        if (!place(sequence, memory, sequence->n_computed / MR_KV_BLOCK, block)) {
            mr_kv_blocks_give(memory->blocks, block);
            break;
        }
        sequence->parent = mr_kv_blocks_id(memory->blocks, block);
        sequence->n_computed += MR_KV_BLOCK;
    }
    /* A part is looked for at the start and where whole blocks ended, not at every call. */
    if (before == 0 || sequence->n_computed > before) reuse_part(sequence, memory, tokens, n_tokens);
    return sequence->n_computed - before;
}

static uint32_t choose_mid(const mr_sequence *s, uint32_t n_tokens) {
    uint32_t begin = s->n_computed, end = begin + n_tokens, last = end / MR_KV_BLOCK * MR_KV_BLOCK;
    uint32_t at = s->branch > begin && s->branch < end ? s->branch : last;
    return at > begin && at < end ? at - begin : 0;
}

mr_status mr_sequence_prepare_state(mr_sequence *sequence, mr_kv_memory *memory, uint32_t n_tokens) {
    if (memory->states == NULL) return MR_OK;
    init_slots(sequence);
    if (sequence->next < 0) sequence->next = mr_states_take(memory->states);
    sequence->n_mid = choose_mid(sequence, n_tokens);
    if (sequence->n_mid > 0 && sequence->mid < 0) sequence->mid = mr_states_take(memory->states);
    if (sequence->mid < 0) sequence->n_mid = 0;
    return sequence->next < 0 ? MR_ERR_LIMIT : MR_OK;
}

/* What the pass filled becomes the sequence's state, and snapshots where a block ends; n_before: n_computed before. */
static void advance_state(mr_sequence *s, mr_kv_memory *memory, uint32_t n_before) {
    uint32_t mid = n_before + s->n_mid;
    mr_states_give(memory->states, s->state);
    s->state = s->next;
    s->next = -1;
    if (s->n_mid > 0)
        mr_states_keep(memory->states, s->mid, mr_kv_blocks_id(memory->blocks, s->blocks[mid / MR_KV_BLOCK - 1]));
    mr_states_give(memory->states, s->mid);
    s->mid = -1;
    if (s->n_computed % MR_KV_BLOCK == 0) mr_states_keep(memory->states, s->state, s->parent);
}

void mr_sequence_advance(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n) {
    size_t full = sequence->n_computed / MR_KV_BLOCK;
    uint32_t n_before = sequence->n_computed;
    sequence->n_computed += (uint32_t)n;
    for (; full < sequence->n_computed / MR_KV_BLOCK; full++) {
        int32_t block = mr_kv_blocks_publish(memory->blocks, sequence->blocks[full], sequence->parent,
                                             tokens + full * MR_KV_BLOCK, MR_KV_BLOCK);
        sequence->blocks[full] = block;
        sequence->parent = mr_kv_blocks_id(memory->blocks, block);
    }
    if (memory->states != NULL) advance_state(sequence, memory, n_before);
}

void mr_sequence_release(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens) {
    size_t full = sequence->n_computed / MR_KV_BLOCK, rest = sequence->n_computed % MR_KV_BLOCK;
    if (rest > 0 && memory->states == NULL) { /* a part of a block has no use without the state behind it */
        mr_kv_blocks_publish(memory->blocks, sequence->blocks[full], sequence->parent, tokens + full * MR_KV_BLOCK,
                             rest);
    }
    for (size_t i = sequence->n_blocks; i > 0; i--) mr_kv_blocks_give(memory->blocks, sequence->blocks[i - 1]);
    if (sequence->has_slots) {
        mr_states_give(memory->states, sequence->state);
        mr_states_give(memory->states, sequence->next);
        mr_states_give(memory->states, sequence->mid);
    }
    free(sequence->blocks);
    *sequence = (mr_sequence){0};
}
