/* What the three futures have in common: one piece of blocking work of the service on a thread of its own, seen from a
 * future that the host polls and may drop at any moment.
 *
 * A task has two owners, the future and (once started) the thread; the last one to let go destroys it. Everything that
 * belongs to the host (token, sink, contexts) is used on the future's side only; the thread only wakes the newest
 * waker. */
#ifndef MR_PLUGIN_TASK_H
#define MR_PLUGIN_TASK_H

#include "base/cancel.h"
#include "base/error.h"
#include "plugin/abi.h"
#include "plugin/token.h"
#include "service/service.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct mr_task mr_task;
struct mr_task {
    /* Set once by mr_task_init. */
    mr_status (*work)(mr_task *task); /* the blocking part; runs on the task's thread and fills err on failure */
    void (*destroy)(mr_task *task); /* frees what the embedding struct holds, calls mr_task_deinit, frees the struct */
    mr_cancel *cancel;

    atomic_uint n_refs;
    pthread_mutex_t lock;

    /* Guarded by lock. */
    const FfiWakerBase *waker; /* the newest clone, or NULL */
    bool done;                 /* work has returned: status and err are final and the thread touches nothing any more */

    /* Of the future's side. */
    mr_token token;
    bool started;
    bool finished; /* Ready was returned */

    /* Of the thread once started, of the future's side before and after. */
    mr_service *service;
    mr_status status;
    mr_error err;
};

/* Initialises a zeroed task with one owner (the future) and takes a reference to the service. False when memory runs
 * out; the task then holds nothing. */
bool mr_task_init(mr_task *task, mr_service *service, mr_status (*work)(mr_task *), void (*destroy)(mr_task *));

/* Undoes mr_task_init; for the destroy function. */
void mr_task_deinit(mr_task *task);

/* To be called first in each poll: keeps the context's waker and, on the first call, connects the token and starts the
 * thread. When the token is cancelled already, task->status was set before, or no thread could be started, the task is
 * done with an error and no thread runs. */
void mr_task_poll(mr_task *task, FfiContext *cx);

/* Whether the work has ended. What it wrote may be read afterwards. */
bool mr_task_is_done(mr_task *task);

/* Wakes the future, from any thread; no lock may be held. */
void mr_task_wake(mr_task *task);

/* Takes the newest waker out; the caller holds the lock and passes the waker to mr_waker_wake after unlocking. */
const FfiWakerBase *mr_task_take_waker(mr_task *task);
void mr_waker_wake(const FfiWakerBase *waker); /* consumes it; NULL is allowed */

/* The end of the future's interest in host objects: releases token and waker. Called before Ready is returned. */
void mr_task_finish(mr_task *task);

/* The future was dropped: cancels the work if it still runs, and lets go of the task. Never waits. */
void mr_task_abandon(mr_task *task);

#endif
