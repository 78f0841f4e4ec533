/* A cancellation signal that is shared between the one who asks and those who work. Reference-counted, thread-safe. */
#ifndef MR_BASE_CANCEL_H
#define MR_BASE_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mr_cancel mr_cancel;

/* A new signal with one reference; NULL when memory runs out. */
mr_cancel *mr_cancel_new(void);
mr_cancel *mr_cancel_ref(mr_cancel *cancel); /* returns its argument; NULL is passed through */
void mr_cancel_unref(mr_cancel *cancel);     /* NULL is allowed */

/* Sets the signal for ever and calls every subscriber once, in this thread, before it returns. */
void mr_cancel_request(mr_cancel *cancel);

/* One atomic load. A NULL signal is never set. */
bool mr_cancel_is_set(const mr_cancel *cancel);

/* Calls on_cancel(ctx) once when the signal is set; at once, in this thread, when it is set already. on_cancel must be
 * short and must not call back into this signal. Returns an id for mr_cancel_unsubscribe, or 0 when it was called at
 * once or memory ran out. */
uint64_t mr_cancel_subscribe(mr_cancel *cancel, void (*on_cancel)(void *ctx), void *ctx);

/* After it returns, on_cancel is not running and will not run. id 0 and a NULL signal are ignored. */
void mr_cancel_unsubscribe(mr_cancel *cancel, uint64_t id);

#endif
