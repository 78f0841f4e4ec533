/* What the two halves of functions.h share: calls (functions.c) and listings (function_list.c). */
#ifndef MR_SERVICE_FUNCTIONS_IMPL_H
#define MR_SERVICE_FUNCTIONS_IMPL_H

#include "function_service.pb-c.h"
#include "service/functions.h"

#include <pthread.h>

enum { MR_FUNCTION_CACHE_LEN = 16 };

/* One answer of FindList or FindListBySet. */
typedef struct mr_function_cache_entry {
    char *key; /* NULL: free */
    uint64_t fetched_ns;
    mr_function_list list;
} mr_function_cache_entry;

struct mr_functions {
    mr_rpc_channel *channel;
    char *token;          /* NULL: none */
    pthread_mutex_t lock; /* guards `cache` */
    mr_function_cache_entry cache[MR_FUNCTION_CACHE_LEN];
};

void mr_function_cache_clear(mr_functions *functions);

/* Sends a message and hands each message of the answer to on_message; an error of it ends the call. */
mr_status mr_functions_exchange(mr_functions *functions, const char *method, const ProtobufCMessage *message,
                                const mr_functions_context *context, const ProtobufCMessageDescriptor *answer,
                                mr_status (*on_message)(void *ctx, const ProtobufCMessage *message, mr_error *err),
                                void *ctx, mr_error *err);

#endif
