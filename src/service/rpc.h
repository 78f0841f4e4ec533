/* Remote calls over gRPC (https://grpc.io/docs/what-is-grpc/core-concepts/): unary and server-streaming. Bytes in,
 * bytes out; every call blocks the calling thread, and calls of one channel may run in many threads at once.
 *
 * Nothing of the gRPC library starts before a channel's first call, and it is shut down when the last channel has gone;
 * its own count of users keeps that right in a host that uses gRPC too. */
#ifndef MR_SERVICE_RPC_H
#define MR_SERVICE_RPC_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A server that is connected to when it is first called, and again after the connection broke. Reference-counted,
 * thread-safe. */
typedef struct mr_rpc_channel mr_rpc_channel;

typedef struct mr_rpc_options {
    /* http://HOST:PORT, or https://HOST:PORT with the system's root certificates (SSL_CERT_FILE names others). The
     * port may be left out (80, 443); without a scheme, http is meant. */
    const char *endpoint;
    uint32_t connect_timeout_ms; /* longest wait for a connection; 0 = 10 s */
    uint32_t keepalive_ms;       /* while calls are in flight, a silent connection is probed so often; 0 = 60 s */
    uint32_t max_message_bytes;  /* longest message in either direction; 0 = 16 MiB */
} mr_rpc_options;

/* Checks the endpoint and copies the options; does not connect. MR_ERR_INVALID says what is wrong with the endpoint. */
mr_status mr_rpc_channel_new(mr_rpc_channel **channel, const mr_rpc_options *options, mr_error *err);
mr_rpc_channel *mr_rpc_channel_ref(mr_rpc_channel *channel);
void mr_rpc_channel_unref(mr_rpc_channel *channel); /* NULL is allowed; calls hold a reference of their own */
const char *mr_rpc_channel_endpoint(const mr_rpc_channel *channel);

/* One header: a lower-case name and a printable ASCII value (any bytes where the name ends in -bin). */
typedef struct mr_rpc_metadata {
    const char *key;
    const char *value;
} mr_rpc_metadata;

typedef struct mr_rpc_request {
    const char *method;  /* "/package.Service/Method" */
    const void *message; /* encoded; borrowed for mr_rpc_call_start */
    size_t n_message;
    const mr_rpc_metadata *metadata; /* borrowed likewise */
    size_t n_metadata;
    uint32_t timeout_ms; /* for the whole call, connecting included; 0 = none but the connection's */
    mr_cancel *cancel;   /* may be NULL; setting it ends the call at once */
} mr_rpc_request;

typedef struct mr_rpc_call mr_rpc_call;

/* Connects where that is needed and sends the request; waits for no answer. Errors: MR_ERR_UNAVAILABLE (no connection
 * within its time), MR_ERR_CANCELLED, MR_ERR_INVALID for metadata that may not be sent, MR_ERR_LIMIT for a message that
 * is too long. */
mr_status mr_rpc_call_start(mr_rpc_call **call, mr_rpc_channel *channel, const mr_rpc_request *request, mr_error *err);

/* Waits for the next message of the answer and appends it to *message. *done is set, and nothing appended, when the
 * answer has ended well. A call that ended otherwise is an error that names the endpoint, the method and what the
 * server said: MR_ERR_CANCELLED    request.cancel was set MR_ERR_UNAVAILABLE  no connection, or it broke MR_ERR_LIMIT
 * the time is over, or a message is too long MR_ERR_INVALID, MR_ERR_NOT_FOUND, MR_ERR_UNSUPPORTED, MR_ERR_IO  the
 * server refused or failed One thread at a time. */
mr_status mr_rpc_call_next(mr_rpc_call *call, mr_buf *message, bool *done, mr_error *err);

/* The gRPC status code that the call ended with (0 = OK), or -1 while it has not ended. */
int mr_rpc_call_code(const mr_rpc_call *call);

/* Ends the call if it still runs, without waiting for the server. NULL is allowed. */
void mr_rpc_call_free(mr_rpc_call *call);

/* A whole call with one message as its answer, appended to *reply. Errors as above; no message, or more than one, is
 * MR_ERR_IO. */
mr_status mr_rpc_unary(mr_rpc_channel *channel, const mr_rpc_request *request, mr_buf *reply, mr_error *err);

#endif
