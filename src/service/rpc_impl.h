/* What the two halves of rpc.h share: channels (rpc_channel.c) and calls (rpc.c). */
#ifndef MR_SERVICE_RPC_IMPL_H
#define MR_SERVICE_RPC_IMPL_H

#include "service/rpc.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

/* One gRPC channel. It is thrown away once connecting failed, because a fresh one connects at once and an old one sits
 * out its back-off. */
typedef struct mr_rpc_link {
    atomic_uint n_refs;
    grpc_channel *grpc;
} mr_rpc_link;

struct mr_rpc_channel {
    atomic_uint n_refs;
    char *endpoint; /* as given */
    char *target;   /* HOST:PORT */
    bool tls;
    uint32_t connect_timeout_ms, keepalive_ms, max_message_bytes;
    pthread_mutex_t lock; /* guards `link` */
    mr_rpc_link *link;    /* NULL before the first call */
};

/* The link to use for a new call; replaces one that has failed to connect. NULL when memory runs out. */
mr_rpc_link *mr_rpc_link_acquire(mr_rpc_channel *channel);
void mr_rpc_link_release(mr_rpc_link *link);

/* Now plus so many milliseconds, by the monotonic clock. */
gpr_timespec mr_rpc_deadline(uint32_t ms);

#endif
