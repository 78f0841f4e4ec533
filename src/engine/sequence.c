#include "engine/sequence.h"

#include <stdlib.h>
#include <string.h>

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
    size_t bytes = memory->pool.layout.block_bytes;
    memcpy(memory->pool.data + (size_t)s->blocks[at] * bytes, memory->pool.data + (size_t)from * bytes, bytes);
    s->n_computed += (uint32_t)n_equal;
    return n_equal;
}

size_t mr_sequence_reuse(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens) {
    uint32_t before = sequence->n_computed;
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

void mr_sequence_advance(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n) {
    size_t full = sequence->n_computed / MR_KV_BLOCK;
    sequence->n_computed += (uint32_t)n;
    for (; full < sequence->n_computed / MR_KV_BLOCK; full++) {
        int32_t block = mr_kv_blocks_publish(memory->blocks, sequence->blocks[full], sequence->parent,
                                             tokens + full * MR_KV_BLOCK, MR_KV_BLOCK);
        sequence->blocks[full] = block;
        sequence->parent = mr_kv_blocks_id(memory->blocks, block);
    }
}

void mr_sequence_release(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens) {
    size_t full = sequence->n_computed / MR_KV_BLOCK, rest = sequence->n_computed % MR_KV_BLOCK;
    if (rest > 0) {
        mr_kv_blocks_publish(memory->blocks, sequence->blocks[full], sequence->parent, tokens + full * MR_KV_BLOCK,
                             rest);
    }
    for (size_t i = sequence->n_blocks; i > 0; i--) mr_kv_blocks_give(memory->blocks, sequence->blocks[i - 1]);
    free(sequence->blocks);
    *sequence = (mr_sequence){0};
}
