#include "base/cancel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

typedef struct subscriber {
    struct subscriber *next;
    uint64_t id;
    void (*on_cancel)(void *ctx);
    void *ctx;
} subscriber;

struct mr_cancel {
    atomic_uint n_refs;
    atomic_bool set;
    pthread_mutex_t lock; /* held while subscribers are called, so that unsubscribe waits for them */
    subscriber *subscribers;
    uint64_t next_id;
};

mr_cancel *mr_cancel_new(void) {
    mr_cancel *cancel = calloc(1, sizeof *cancel);
    if (cancel == NULL) return NULL;
    atomic_init(&cancel->n_refs, 1);
    atomic_init(&cancel->set, false);
    pthread_mutex_init(&cancel->lock, NULL);
    cancel->next_id = 1;
    return cancel;
}

mr_cancel *mr_cancel_ref(mr_cancel *cancel) {
    if (cancel != NULL) atomic_fetch_add_explicit(&cancel->n_refs, 1, memory_order_relaxed);
    return cancel;
}

void mr_cancel_unref(mr_cancel *cancel) {
    if (cancel == NULL) return;
    if (atomic_fetch_sub_explicit(&cancel->n_refs, 1, memory_order_acq_rel) != 1) return;
    while (cancel->subscribers != NULL) {
        subscriber *next = cancel->subscribers->next;
        free(cancel->subscribers);
        cancel->subscribers = next;
    }
    pthread_mutex_destroy(&cancel->lock);
    free(cancel);
}

void mr_cancel_request(mr_cancel *cancel) {
    if (cancel == NULL) return;
    pthread_mutex_lock(&cancel->lock);
    atomic_store_explicit(&cancel->set, true, memory_order_release);
    while (cancel->subscribers != NULL) {
        subscriber *first = cancel->subscribers;
        cancel->subscribers = first->next;
        first->on_cancel(first->ctx);
        free(first);
    }
    pthread_mutex_unlock(&cancel->lock);
}

bool mr_cancel_is_set(const mr_cancel *cancel) {
    return cancel != NULL && atomic_load_explicit(&cancel->set, memory_order_acquire);
}

uint64_t mr_cancel_subscribe(mr_cancel *cancel, void (*on_cancel)(void *ctx), void *ctx) {
    if (cancel == NULL) return 0;
    subscriber *entry = calloc(1, sizeof *entry);
    if (entry == NULL) return 0;
    *entry = (subscriber){.on_cancel = on_cancel, .ctx = ctx};
    pthread_mutex_lock(&cancel->lock);
    if (mr_cancel_is_set(cancel)) {
        on_cancel(ctx);
        pthread_mutex_unlock(&cancel->lock);
        free(entry);
        return 0;
    }
    uint64_t id = entry->id = cancel->next_id++;
    entry->next = cancel->subscribers;
    cancel->subscribers = entry;
    pthread_mutex_unlock(&cancel->lock);
    return id;
}

void mr_cancel_unsubscribe(mr_cancel *cancel, uint64_t id) {
    if (cancel == NULL || id == 0) return;
    pthread_mutex_lock(&cancel->lock);
    for (subscriber **link = &cancel->subscribers; *link != NULL; link = &(*link)->next) {
        if ((*link)->id != id) continue;
        subscriber *found = *link;
        *link = found->next;
        free(found);
        break;
    }
    pthread_mutex_unlock(&cancel->lock);
}
