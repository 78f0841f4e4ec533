#include "host_token.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct registration {
    struct registration *next;
    uint64_t id; /* the subscription's */
    void *ctx;
    void (*wake)(void *ctx);
    void (*drop_ctx)(void *ctx);
} registration;

typedef struct token_state {
    atomic_uint n_refs;
    mr_cancel *cancel;
    pthread_mutex_t lock; /* guards the list; never held while the plugin's functions run */
    registration *registrations;
} token_state;

static bool token_is_cancelled(const void *state) {
    return mr_cancel_is_set(((const token_state *)state)->cancel);
}

static void on_cancel(void *ctx) {
    registration *entry = ctx;
    entry->wake(entry->ctx);
}

static void free_registration(registration *entry) {
    entry->drop_ctx(entry->ctx);
    free(entry);
}

static uint64_t token_register_waker(const void *state, void *ctx, void (*wake)(void *), void (*drop_ctx)(void *)) {
    token_state *token = (token_state *)state;
    registration *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        drop_ctx(ctx);
        return 0; /* a job that could not be cancelled is not started */
    }
    *entry = (registration){.ctx = ctx, .wake = wake, .drop_ctx = drop_ctx};
    entry->id = mr_cancel_subscribe(token->cancel, on_cancel, entry);
    if (entry->id == 0) {
        free_registration(entry);
        return 0;
    }
    uint64_t id = entry->id;
    pthread_mutex_lock(&token->lock);
    entry->next = token->registrations;
    token->registrations = entry;
    pthread_mutex_unlock(&token->lock);
    return id;
}

static void token_unregister_waker(const void *state, uint64_t id) {
    token_state *token = (token_state *)state;
    pthread_mutex_lock(&token->lock);
    registration **link = &token->registrations;
    while (*link != NULL && (*link)->id != id) link = &(*link)->next;
    registration *entry = *link;
    if (entry != NULL) *link = entry->next;
    pthread_mutex_unlock(&token->lock);
    if (entry == NULL) return;
    mr_cancel_unsubscribe(token->cancel, id); /* waits for a wake that is running */
    free_registration(entry);
}

static void token_drop(const void *state);

static FfiCancellationToken token_of(token_state *state);

static FfiCancellationToken token_clone(const void *state) {
    token_state *token = (token_state *)state;
    atomic_fetch_add_explicit(&token->n_refs, 1, memory_order_relaxed);
    return token_of(token);
}

static void token_drop(const void *state) {
    token_state *token = (token_state *)state;
    if (atomic_fetch_sub_explicit(&token->n_refs, 1, memory_order_acq_rel) != 1) return;
    while (token->registrations != NULL) token_unregister_waker(token, token->registrations->id);
    mr_cancel_unref(token->cancel);
    pthread_mutex_destroy(&token->lock);
    free(token);
}

static FfiCancellationToken token_of(token_state *state) {
    return (FfiCancellationToken){.state = state,
                                  .is_cancelled = token_is_cancelled,
                                  .register_waker = token_register_waker,
                                  .unregister_waker = token_unregister_waker,
                                  .clone_token = token_clone,
                                  .drop_token = token_drop};
}

bool mr_host_token_new(FfiCancellationToken *token, mr_cancel *cancel) {
    token_state *state = calloc(1, sizeof *state);
    if (state == NULL) return false;
    if (pthread_mutex_init(&state->lock, NULL) != 0) {
        free(state);
        return false;
    }
    atomic_init(&state->n_refs, 1);
    state->cancel = mr_cancel_ref(cancel);
    *token = token_of(state);
    return true;
}
