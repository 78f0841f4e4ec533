/* A waker that a thread can sleep on: the executor of a host with one future at a time. */
#ifndef MR_CLI_HOST_PARK_H
#define MR_CLI_HOST_PARK_H

#include "plugin/abi.h"

typedef struct mr_park mr_park;

mr_park *mr_park_new(void);       /* NULL when memory runs out */
void mr_park_free(mr_park *park); /* clones of its waker may live on */

/* The context for a poll; borrowed from the park. */
FfiContext mr_park_context(mr_park *park);

/* Sleeps until the waker was woken since the last wait. */
void mr_park_wait(mr_park *park);

#endif
