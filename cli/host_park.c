#include "host_park.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct mr_park {
    FfiWakerBase base; /* first: a waker's pointer is its park's */
    atomic_uint n_refs;
    pthread_mutex_t lock;
    pthread_cond_t woken_changed;
    bool woken;
};

static void park_unref(mr_park *park) {
    if (atomic_fetch_sub_explicit(&park->n_refs, 1, memory_order_acq_rel) != 1) return;
    pthread_cond_destroy(&park->woken_changed);
    pthread_mutex_destroy(&park->lock);
    free(park);
}

static const FfiWakerBase *waker_clone(const FfiWakerBase *waker) {
    mr_park *park = (mr_park *)waker;
    atomic_fetch_add_explicit(&park->n_refs, 1, memory_order_relaxed);
    return waker;
}

static void waker_wake_by_ref(const FfiWakerBase *waker) {
    mr_park *park = (mr_park *)waker;
    pthread_mutex_lock(&park->lock);
    park->woken = true;
    pthread_cond_signal(&park->woken_changed);
    pthread_mutex_unlock(&park->lock);
}

static void waker_drop(const FfiWakerBase *waker) {
    park_unref((mr_park *)waker);
}

static void waker_wake(const FfiWakerBase *waker) {
    waker_wake_by_ref(waker);
    waker_drop(waker);
}

static const FfiWakerVTable waker_vtable = {
    .clone = waker_clone, .wake = waker_wake, .wake_by_ref = waker_wake_by_ref, .drop = waker_drop};

mr_park *mr_park_new(void) {
    mr_park *park = calloc(1, sizeof *park);
    if (park == NULL) return NULL;
    park->base.vtable = &waker_vtable;
    atomic_init(&park->n_refs, 1);
    pthread_mutex_init(&park->lock, NULL);
    pthread_cond_init(&park->woken_changed, NULL);
    return park;
}

void mr_park_free(mr_park *park) {
    if (park != NULL) park_unref(park);
}

FfiContext mr_park_context(mr_park *park) {
    return (FfiContext){.waker = &park->base};
}

void mr_park_wait(mr_park *park) {
    pthread_mutex_lock(&park->lock);
    while (!park->woken) pthread_cond_wait(&park->woken_changed, &park->lock);
    park->woken = false;
    pthread_mutex_unlock(&park->lock);
}
