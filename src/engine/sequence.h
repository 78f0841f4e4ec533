/* The state of one sequence: its table of KV blocks, how far it is computed, and in models with a recurrent state the
 * slots that hold it. */
#ifndef MR_ENGINE_SEQUENCE_H
#define MR_ENGINE_SEQUENCE_H

#include "engine/states.h"
#include "model/model.h"

/* Zero-initialise. Positions 0 .. n_computed-1 are in the blocks. */
typedef struct mr_sequence {
    int32_t *blocks; /* [n_blocks], the block table */
    size_t n_blocks;
    size_t cap;
    uint32_t n_computed;
    mr_kv_id parent; /* content of the last full block before n_computed */

    /* Where cached blocks went on without a snapshot: one is worth making there. 0 = nowhere. */
    uint32_t branch;
    /* Slots, -1 = none, once has_slots is set: the state behind n_computed (none when that is 0), and what a pass
     * fills: that behind its tokens, and that behind the first n_mid of them. */
    bool has_slots;
    int32_t state, next, mid;
    uint32_t n_mid;
} mr_sequence;

/* The KV memory and its administration. */
typedef struct mr_kv_memory {
    mr_kv_pool pool;
    mr_kv_blocks *blocks;
    mr_states *states; /* NULL for models whose layers are all attention */
    mr_model *model;   /* whose memory it is */
} mr_kv_memory;

enum { MR_SLOTS_OF_SEQUENCE = 3 }; /* most recurrent states that a sequence holds */

/* Extends the table to cover n_tokens positions. MR_ERR_LIMIT when no block is available, MR_ERR_NOMEM; what was taken
 * so far stays. */
mr_status mr_sequence_reserve(mr_sequence *sequence, mr_kv_memory *memory, size_t n_tokens);

/* Takes cached KV over for positions from n_computed on, where n_computed is at a block's begin: whole blocks by
 * reference, then the beginning of one block by copy; with a recurrent state as many whole blocks as a snapshot allows.
 * The last of tokens[0..n_tokens) is never taken, since its logits are needed. Blocks of the table that are replaced go
 * back. Returns the number of tokens taken over. */
size_t mr_sequence_reuse(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n_tokens);

/* Models with a recurrent state: gets the slots for a pass over the next n_tokens positions and chooses n_mid: where
 * the cached text of others goes on otherwise, else the last end of a block inside. MR_ERR_LIMIT when no slot is free.
 */
mr_status mr_sequence_prepare_state(mr_sequence *sequence, mr_kv_memory *memory, uint32_t n_tokens);

/* Counts n more positions as computed, publishes the blocks that became full, and keeps their recurrent states. tokens:
 * from position 0 on. */
void mr_sequence_advance(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens, size_t n);

/* Gives all blocks back, whose content stays in the cache; the table is empty afterwards. */
void mr_sequence_release(mr_sequence *sequence, mr_kv_memory *memory, const int32_t *tokens);

#endif
