#include "engine/states.h"

#include <stdlib.h>

typedef struct slot {
    mr_kv_id id; /* what it is a snapshot behind; MR_KV_ROOT: nothing */
    uint32_t n_refs;
    uint64_t used; /* when it was, in calls */
} slot;

/* Slots are few (a handful for each sequence and at most some hundreds of snapshots) beside what a pass costs, so they
 * are searched one by one. */
struct mr_states {
    slot *slots;
    size_t n_slots;
    uint64_t now;
    mr_model *model;
    mr_state_pool pool;
};

mr_status mr_states_new(mr_states **states, mr_model *model, size_t n_slots, mr_error *err) {
    *states = NULL;
    if (n_slots == 0 || n_slots > INT32_MAX)
        return mr_fail(err, MR_ERR_INVALID, "%zu recurrent states are not possible", n_slots);
    mr_states *s = calloc(1, sizeof *s);
    if (s == NULL) return mr_fail_nomem(err, sizeof *s, "the table of recurrent states");
    s->n_slots = n_slots;
    s->model = model;
    s->slots = calloc(n_slots, sizeof *s->slots);
    mr_status status = s->slots == NULL ? mr_fail_nomem(err, n_slots * sizeof *s->slots, "the recurrent states")
                                        : mr_model_states_init(model, &s->pool, n_slots, err);
    if (status != MR_OK) {
        mr_states_free(s);
        return status;
    }
    *states = s;
    return MR_OK;
}

void mr_states_free(mr_states *states) {
    if (states == NULL) return;
    mr_model_states_free(states->model, &states->pool);
    free(states->slots);
    free(states);
}

int32_t mr_states_take(mr_states *states) {
    slot *best = NULL;
    for (size_t i = 0; i < states->n_slots; i++) {
        slot *s = &states->slots[i];
        if (s->n_refs > 0) continue;
        bool freer = best == NULL || (best->id != MR_KV_ROOT && (s->id == MR_KV_ROOT || s->used < best->used));
        if (freer) best = s;
    }
    if (best == NULL) return -1;
    *best = (slot){.n_refs = 1};
    return (int32_t)(best - states->slots);
}

void mr_states_hold(mr_states *states, int32_t slot) {
    states->slots[slot].n_refs++;
}

void mr_states_give(mr_states *states, int32_t slot) {
    if (slot >= 0) states->slots[slot].n_refs--;
}

mr_state mr_states_data(const mr_states *states, int32_t slot) {
    return mr_state_at(&states->pool, (size_t)slot);
}

void mr_states_keep(mr_states *states, int32_t slot, mr_kv_id id) {
    if (id == MR_KV_ROOT || mr_states_find(states, id) >= 0) return;
    states->slots[slot].id = id;
    states->slots[slot].used = ++states->now;
}

int32_t mr_states_find(mr_states *states, mr_kv_id id) {
    for (size_t i = 0; i < states->n_slots; i++) {
        if (id == MR_KV_ROOT || states->slots[i].id != id) continue;
        states->slots[i].used = ++states->now;
        return (int32_t)i;
    }
    return -1;
}
