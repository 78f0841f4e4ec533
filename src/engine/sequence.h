/* The KV state of one sequence: its block table and how far it is computed. */
#ifndef MR_ENGINE_SEQUENCE_H
#define MR_ENGINE_SEQUENCE_H

#include "engine/kv_blocks.h"

/* Zero-initialise. Positions 0 .. n_computed-1 are in the blocks. */
typedef struct mr_sequence {
    int32_t *blocks; /* [n_blocks], the block table */
    size_t n_blocks;
    size_t cap;
    uint32_t n_computed;
    mr_kv_id parent; /* content of the last full block before n_computed */
} mr_sequence;

/* The KV memory and its administration. */
typedef struct mr_kv_memory {
    mr_kv_pool pool;
    mr_kv_blocks *blocks;
} mr_kv_memory;

/* Extends the table to cover n_tokens positions. MR_ERR_LIMIT when no block is available, MR_ERR_NOMEM; what was taken
 * so far stays. */
mr_status mr_sequence_reserve(mr_sequence *sequence, mr_kv_memory *memory, size_t n_tokens);

/* Takes cached KV over for positions from n_computed on, where n_computed is at a block's begin: whole blocks by
 * reference, then the beginning of one block by copy. The last of tokens[0..n_tokens) is never taken, since its logits
 * are needed. Blocks of the table that are replaced go back. Returns the number of tokens taken over. */
size_t mr_sequence_reuse(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens);

/* Counts n more positions as computed and publishes the blocks that became full. tokens: from position 0 on. */
void mr_sequence_advance(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n);

/* Gives all blocks back, whose content stays in the cache; the table is empty afterwards. */
void mr_sequence_release(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens);

#endif
