/* Which experts a token goes to (backend.h: mr_route_args), for one token at a time. */
#ifndef MR_COMPUTE_ROUTING_H
#define MR_COMPUTE_ROUTING_H

#include "compute/backend.h"

/* Memory of one thread for the choice of one token. */
typedef struct mr_choice {
    float *scores;   /* [n_expert + n_group] what is compared */
    int32_t *groups; /* [n_group_used] */
} mr_choice;

/* The experts of token t. */
void mr_route_token(const mr_route_args *args, const mr_choice *choice, size_t t);

/* Orders the slots by expert: fills begin, slot_token and slot_of. */
void mr_slots_fill(const mr_slots *slots);

#endif
