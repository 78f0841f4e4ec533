/* Things that are loaded once for a process and shared by everyone who asks for the same key (models). The last user to
 * go frees the thing. Thread-safe. */
#ifndef MR_SERVICE_REGISTRY_H
#define MR_SERVICE_REGISTRY_H

#include "base/cancel.h"
#include "base/error.h"

#include <stddef.h>

typedef struct mr_shared mr_shared;

/* How the thing is made and unmade. `load` runs in the thread of the first who asks; `cancel` is set when everyone who
 * waits for it has given up. Neither is called with a lock held. */
typedef struct mr_shared_ops {
    mr_status (*load)(void *ctx, mr_cancel *cancel, void **value, mr_error *err);
    void (*free)(void *value);
} mr_shared_ops;

/* The shared thing of this key, loading it unless somebody has; who comes while it is being loaded waits for that load
 * and gets its result or its error. A failed load is forgotten. `cancel` (may be NULL) being set ends the wait with
 * MR_ERR_CANCELLED (the loading thread itself returns when its load does). Give it back with mr_shared_unref. */
mr_status mr_shared_acquire(mr_shared **shared, const char *key, const mr_shared_ops *ops, void *ctx, mr_cancel *cancel,
                            mr_error *err);
void mr_shared_unref(mr_shared *shared); /* NULL is allowed */

/* The thing itself; valid while the reference is held. */
void *mr_shared_value(const mr_shared *shared);

/* Number of keys that are loaded or being loaded. */
size_t mr_shared_count(void);

#endif
