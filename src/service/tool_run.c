#include "service/tool_run.h"

#include <pthread.h>

#define STACK_BYTES ((size_t)1 << 20)

typedef struct crew crew;

typedef struct worker {
    crew *crew;
    mr_tool_call *call;
    pthread_t thread;
    bool joinable, finished, reported;
    mr_status status;
    mr_error err;
} worker;

struct crew {
    const mr_tool_runner *runner;
    mr_cancel *cancel; /* our own: set by the job's, or by an error */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a worker has finished */
    worker *workers;
    size_t n, n_started, n_running;
};

static void work(worker *w) {
    const mr_tool_runner *runner = w->crew->runner;
    w->status = runner->call(runner->ctx, w->call, w->crew->cancel, &w->call->outcome, &w->err);
}

static void *thread_main(void *arg) {
    worker *w = arg;
    work(w);
    pthread_mutex_lock(&w->crew->lock);
    w->finished = true;
    pthread_cond_signal(&w->crew->changed);
    pthread_mutex_unlock(&w->crew->lock);
    return NULL;
}

static bool start_thread(worker *w) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    w->joinable = pthread_create(&w->thread, &attributes, thread_main, w) == 0;
    pthread_attr_destroy(&attributes);
    return w->joinable;
}

/* Starts the next call. Where it is the only one, or no thread can be had, it runs here. */
static mr_status start_next(crew *c, mr_error *err) {
    const mr_tool_runner *runner = c->runner;
    worker *w = &c->workers[c->n_started];
    mr_status status = runner->on_started != NULL ? runner->on_started(runner->ctx, w->call, err) : MR_OK;
    if (status != MR_OK) return status;
    c->n_started++;
    c->n_running++;
    if (runner->parallel && c->n > 1 && start_thread(w)) return MR_OK;
    work(w);
    w->finished = true;
    return MR_OK;
}

/* A call that has ended and was not reported yet, waiting for one. */
static worker *next_finished(crew *c) {
    worker *found = NULL;
    pthread_mutex_lock(&c->lock);
    while (found == NULL) {
        for (size_t i = 0; found == NULL && i < c->n_started; i++) {
            if (c->workers[i].finished && !c->workers[i].reported) found = &c->workers[i];
        }
        if (found == NULL) pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static mr_status report(crew *c, worker *w, mr_error *err) {
    w->reported = true;
    c->n_running--;
    if (w->joinable) pthread_join(w->thread, NULL);
    if (w->status != MR_OK) return mr_fail(err, w->status, "%s", w->err.text);
    if (c->runner->on_ended == NULL) return MR_OK;
    return c->runner->on_ended(c->runner->ctx, w->call, err);
}

/* The first error counts; what comes after it are the calls that it cancelled. */
static mr_status run_crew(crew *c, mr_error *err) {
    mr_status status = MR_OK;
    size_t limit = c->runner->parallel ? MR_TOOL_MAX_PARALLEL : 1;
    while ((status == MR_OK && c->n_started < c->n) || c->n_running > 0) {
        mr_error later = {0};
        mr_error *slot = status == MR_OK ? err : &later;
        mr_status step = MR_OK;
        bool may_start = status == MR_OK && c->n_started < c->n && c->n_running < limit;
        if (may_start && mr_cancel_is_set(c->cancel))
            step = mr_fail(slot, MR_ERR_CANCELLED, "the job was cancelled");
        else if (may_start)
            step = start_next(c, slot);
        else
            step = report(c, next_finished(c), slot);
        if (status == MR_OK && step != MR_OK) {
            status = step;
            mr_cancel_request(c->cancel);
        }
    }
    return status;
}

static void pass_on_cancel(void *own) {
    mr_cancel_request(own);
}

mr_status mr_tool_run(const mr_tool_runner *runner, mr_tool_call *calls, size_t n, mr_error *err) {
    worker workers[MR_TOOL_MAX_CALLS];
    if (n > MR_TOOL_MAX_CALLS) {
        return mr_fail(err, MR_ERR_LIMIT, "%zu calls of tools at once are too many; at most %d are run", n,
                       MR_TOOL_MAX_CALLS);
    }
    crew c = {.runner = runner, .cancel = mr_cancel_new(), .workers = workers, .n = n};
    if (c.cancel == NULL) return mr_fail_nomem(err, 0, "the calls of tools");
    for (size_t i = 0; i < n; i++) workers[i] = (worker){.crew = &c, .call = &calls[i]};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.changed, NULL);
    uint64_t subscription = mr_cancel_subscribe(runner->cancel, pass_on_cancel, c.cancel);
    mr_status status = run_crew(&c, err);
    mr_cancel_unsubscribe(runner->cancel, subscription);
    pthread_cond_destroy(&c.changed);
    pthread_mutex_destroy(&c.lock);
    mr_cancel_unref(c.cancel);
    return status;
}
