#include "service/registry.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef enum shared_state { LOADING, READY, FAILED } shared_state;

struct mr_shared {
    mr_shared *next;
    bool listed; /* new askers may join; a failed or abandoned load is not */
    char *key;
    mr_shared_ops ops;
    size_t n_refs;    /* users and waiters */
    size_t n_waiting; /* who still wants the load to end well, the loading thread among them */
    mr_cancel *cancel;
    shared_state state;
    void *value;
    mr_error error;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static mr_shared *all;

/* One call of mr_shared_acquire while the thing is being loaded. */
typedef struct waiter {
    mr_shared *shared;
    bool gone; /* its cancel was set */
} waiter;

/* Called with the lock held. */
static void unlist(mr_shared *shared) {
    if (!shared->listed) return;
    mr_shared **link = &all;
    while (*link != shared) link = &(*link)->next;
    *link = shared->next;
    shared->listed = false;
}

static void destroy(mr_shared *shared) {
    if (shared->value != NULL) shared->ops.free(shared->value);
    mr_cancel_unref(shared->cancel);
    free(shared->key);
    free(shared);
}

void mr_shared_unref(mr_shared *shared) {
    if (shared == NULL) return;
    pthread_mutex_lock(&lock);
    bool last = --shared->n_refs == 0;
    if (last) unlist(shared);
    pthread_mutex_unlock(&lock);
    if (last) destroy(shared);
}

/* Called with the lock held; NULL when memory runs out. */
static mr_shared *create(const char *key, const mr_shared_ops *ops) {
    mr_shared *shared = calloc(1, sizeof *shared);
    if (shared == NULL) return NULL;
    shared->key = strdup(key);
    shared->cancel = mr_cancel_new();
    if (shared->key == NULL || shared->cancel == NULL) {
        mr_cancel_unref(shared->cancel);
        free(shared->key);
        free(shared);
        return NULL;
    }
    shared->ops = *ops;
    shared->listed = true;
    shared->next = all;
    all = shared;
    return shared;
}

/* The cancel of one who waits: when nobody is left who wants the load, the load itself is cancelled. */
static void on_cancel(void *ctx) {
    waiter *self = ctx;
    mr_shared *shared = self->shared;
    bool abandoned = false;
    pthread_mutex_lock(&lock);
    if (shared->state == LOADING) {
        self->gone = true;
        abandoned = --shared->n_waiting == 0;
        if (abandoned) unlist(shared);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (abandoned) mr_cancel_request(shared->cancel);
}

static void load(mr_shared *shared, void *ctx) {
    void *value = NULL;
    mr_error error = {0};
    mr_status status = shared->ops.load(ctx, shared->cancel, &value, &error);
    pthread_mutex_lock(&lock);
    shared->value = status == MR_OK ? value : NULL;
    shared->error = error;
    shared->error.status = status;
    shared->state = status == MR_OK ? READY : FAILED;
    if (status != MR_OK) unlist(shared);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_for_load(mr_shared *shared, const waiter *self) {
    pthread_mutex_lock(&lock);
    while (shared->state == LOADING && !self->gone) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* Joins or starts the load of a key; *loader says who must load. */
static mr_shared *join(const char *key, const mr_shared_ops *ops, bool *loader) {
    pthread_mutex_lock(&lock);
    mr_shared *shared = all;
    while (shared != NULL && strcmp(shared->key, key) != 0) shared = shared->next;
    *loader = shared == NULL;
    if (shared == NULL) shared = create(key, ops);
    if (shared != NULL) {
        shared->n_refs++;
        if (shared->state == LOADING) shared->n_waiting++;
    }
    pthread_mutex_unlock(&lock);
    return shared;
}

mr_status mr_shared_acquire(mr_shared **shared, const char *key, const mr_shared_ops *ops, void *ctx, mr_cancel *cancel,
                            mr_error *err) {
    *shared = NULL;
    bool loader;
    mr_shared *found = join(key, ops, &loader);
    if (found == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory to load a model");
    waiter self = {.shared = found};
    uint64_t subscription = mr_cancel_subscribe(cancel, on_cancel, &self);
    if (loader)
        load(found, ctx);
    else
        wait_for_load(found, &self);
    mr_cancel_unsubscribe(cancel, subscription);

    pthread_mutex_lock(&lock);
    bool gone = self.gone;
    mr_error error = found->error;
    bool failed = found->state == FAILED;
    pthread_mutex_unlock(&lock);
    if (!gone && !failed) {
        *shared = found;
        return MR_OK;
    }
    mr_shared_unref(found);
    if (gone) return mr_fail(err, MR_ERR_CANCELLED, "loading the model was cancelled");
    return mr_fail(err, error.status, "%s", error.text);
}

void *mr_shared_value(const mr_shared *shared) {
    return shared->value;
}

size_t mr_shared_count(void) {
    pthread_mutex_lock(&lock);
    size_t n = 0;
    for (const mr_shared *shared = all; shared != NULL; shared = shared->next) n++;
    pthread_mutex_unlock(&lock);
    return n;
}
