/* The host's cancellation token, bridged to an mr_cancel for the time of one run. Used from the host's threads only. */
#ifndef MR_PLUGIN_TOKEN_H
#define MR_PLUGIN_TOKEN_H

#include "base/cancel.h"
#include "plugin/abi.h"

typedef struct mr_token {
    FfiCancellationToken token; /* owned while `held` */
    bool held;
    uint64_t waker_id; /* 0 = nothing is registered */
} mr_token;

/* Takes over a token. Drops it at once when it is unusable (a function is missing). */
mr_token mr_token_own(FfiCancellationToken token);

/* From now on the token's cancellation sets `cancel`; at once when the token is cancelled already. The token's
 * registration holds a reference to `cancel` of its own. Without a token nothing happens. */
void mr_token_connect(mr_token *token, mr_cancel *cancel);

/* Unregisters and drops the token, once; later calls do nothing. Must not be called with a lock held that a subscriber
 * of the connected signal takes, because the host may wait for a running wake. */
void mr_token_release(mr_token *token);

#endif
