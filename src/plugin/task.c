#include "plugin/task.h"

#include <signal.h>

/* The templates' and grammars' bounded recursion, with room to spare; only touched pages cost memory. */
#define THREAD_STACK_BYTES ((size_t)4 << 20)

bool mr_task_init(mr_task *task, mr_service *service, mr_status (*work)(mr_task *), void (*destroy)(mr_task *)) {
    task->cancel = mr_cancel_new();
    if (task->cancel == NULL) return false;
    if (pthread_mutex_init(&task->lock, NULL) != 0) {
        mr_cancel_unref(task->cancel);
        return false;
    }
    task->work = work;
    task->destroy = destroy;
    task->service = mr_service_ref(service);
    atomic_init(&task->n_refs, 1);
    return true;
}

void mr_task_deinit(mr_task *task) {
    mr_service_unref(task->service);
    mr_cancel_unref(task->cancel);
    pthread_mutex_destroy(&task->lock);
}

static void task_unref(mr_task *task) {
    if (atomic_fetch_sub_explicit(&task->n_refs, 1, memory_order_acq_rel) == 1) task->destroy(task);
}

const FfiWakerBase *mr_task_take_waker(mr_task *task) {
    const FfiWakerBase *waker = task->waker;
    task->waker = NULL;
    return waker;
}

void mr_waker_wake(const FfiWakerBase *waker) {
    if (waker != NULL) waker->vtable->wake(waker);
}

void mr_task_wake(mr_task *task) {
    pthread_mutex_lock(&task->lock);
    const FfiWakerBase *waker = mr_task_take_waker(task);
    pthread_mutex_unlock(&task->lock);
    mr_waker_wake(waker);
}

/* Replaces the kept waker (NULL = none). The host's code runs outside the lock. */
static void keep_waker(mr_task *task, const FfiWakerBase *waker) {
    pthread_mutex_lock(&task->lock);
    const FfiWakerBase *old = task->waker;
    task->waker = waker;
    pthread_mutex_unlock(&task->lock);
    if (old != NULL) old->vtable->drop(old);
}

static void mark_done(mr_task *task) {
    pthread_mutex_lock(&task->lock);
    task->done = true;
    const FfiWakerBase *waker = mr_task_take_waker(task);
    pthread_mutex_unlock(&task->lock);
    mr_waker_wake(waker);
}

static void *thread_main(void *arg) {
    mr_task *task = arg;
    task->status = task->work(task);
    /* The service goes before `done` is seen: a host that drops the instance after Ready then drops the last reference,
     * and the model is freed before its drop_state returns. */
    mr_service_unref(task->service);
    task->service = NULL;
    mark_done(task);
    task_unref(task);
    return NULL;
}

/* The thread takes no signals: those are for the host's own threads. */
static int start_detached(void *(*entry)(void *), void *arg) {
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);
    if (rc != 0) return rc;
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    rc = pthread_create(&thread, &attributes, entry, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return rc;
}

static void start(mr_task *task) {
    task->started = true;
    if (task->status != MR_OK) {
        task->done = true;
        return;
    }
    mr_token_connect(&task->token, task->cancel);
    if (mr_cancel_is_set(task->cancel)) {
        task->status = mr_fail(&task->err, MR_ERR_CANCELLED, "cancelled: the job was cancelled before it started");
        task->done = true;
        return;
    }
    atomic_fetch_add_explicit(&task->n_refs, 1, memory_order_relaxed);
    int rc = start_detached(thread_main, task);
    if (rc == 0) return;
    atomic_fetch_sub_explicit(&task->n_refs, 1, memory_order_relaxed);
    task->status = mr_fail(&task->err, MR_ERR_UNAVAILABLE,
                           "the operating system gave no thread for this job (error %d); raise the limit on threads or "
                           "run fewer jobs at a time",
                           rc);
    task->done = true;
}

void mr_task_poll(mr_task *task, FfiContext *cx) {
    const FfiWakerBase *waker = cx != NULL && cx->waker != NULL ? cx->waker->vtable->clone(cx->waker) : NULL;
    keep_waker(task, waker);
    if (!task->started) start(task);
}

bool mr_task_is_done(mr_task *task) {
    pthread_mutex_lock(&task->lock);
    bool done = task->done;
    pthread_mutex_unlock(&task->lock);
    return done;
}

void mr_task_finish(mr_task *task) {
    task->finished = true;
    mr_token_release(&task->token);
    keep_waker(task, NULL);
}

void mr_task_abandon(mr_task *task) {
    bool running = !task->finished;
    mr_task_finish(task); /* first, so that the cancellation wakes nobody */
    if (running) mr_cancel_request(task->cancel);
    task_unref(task);
}
