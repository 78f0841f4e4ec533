/* Recurrent states: those of the running sequences, and snapshots of them at the ends of cached KV blocks.
 *
 * A slot holds one state. Sequences hold slots by reference; a slot whose state belongs behind a published block may be
 * kept as that block's snapshot, and is found again as long as the block keeps its content and the slot is not needed.
 * Of snapshots that no sequence holds, the one unused for longest goes first. Nothing is ever copied: a pass reads one
 * slot and writes another. Not thread-safe: the scheduler owns it. */
#ifndef MR_ENGINE_STATES_H
#define MR_ENGINE_STATES_H

#include "base/error.h"
#include "engine/kv_blocks.h"
#include "model/model.h"

typedef struct mr_states mr_states;

/* Room for n_slots states of the model, in its memory for them (model.h: mr_model_states_init). */
mr_status mr_states_new(mr_states **states, mr_model *model, size_t n_slots, mr_error *err);
void mr_states_free(mr_states *states); /* NULL is allowed */

/* A slot with undefined content and one reference, or -1 when all are held. May evict a snapshot. */
int32_t mr_states_take(mr_states *states);
void mr_states_hold(mr_states *states, int32_t slot); /* one reference more */
void mr_states_give(mr_states *states, int32_t slot); /* one less; slot -1 is ignored */
mr_state mr_states_data(const mr_states *states, int32_t slot);

/* Keeps the slot's state as the snapshot behind content `id`. It must not be written any more. */
void mr_states_keep(mr_states *states, int32_t slot, mr_kv_id id);

/* The slot with the snapshot behind content `id`, or -1; it counts as used now. No reference is taken. */
int32_t mr_states_find(mr_states *states, mr_kv_id id);

#endif
