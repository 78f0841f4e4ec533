/* The future of `load`. */
#include "plugin/futures.h"
#include "plugin/task.h"
#include "plugin/values.h"

#include <stdlib.h>

typedef struct load_task {
    mr_task task; /* first: a task's pointer is its load_task's */
    FfiBytes settings;
} load_task;

static FfiPollUnit load_error(mr_status status, const mr_error *err) {
    FfiPollUnit poll = {.tag = FFI_READY};
    poll.u.ready.tag = FFI_ERR;
    poll.u.ready.u.err = mr_bytes_from_error(status, err);
    return poll;
}

static mr_status load_work(mr_task *task) {
    load_task *load = (load_task *)task;
    const uint8_t *settings = load->settings.ptr;
    size_t n = settings == NULL ? 0 : load->settings.len;
    mr_status status =
        mr_service_load(task->service, n == 0 ? (const uint8_t *)"" : settings, n, task->cancel, &task->err);
    mr_bytes_drop(&load->settings);
    return status;
}

static void load_destroy(mr_task *task) {
    load_task *load = (load_task *)task;
    mr_bytes_drop(&load->settings);
    mr_task_deinit(task);
    free(load);
}

static FfiPollUnit load_poll(void *fut_ptr, FfiContext *cx) {
    mr_task *task = fut_ptr;
    if (task->finished) return (FfiPollUnit){.tag = FFI_PANICKED};
    mr_task_poll(task, cx);
    if (!mr_task_is_done(task)) return (FfiPollUnit){.tag = FFI_PENDING};
    mr_task_finish(task);
    if (task->status != MR_OK) return load_error(task->status, &task->err);
    FfiPollUnit poll = {.tag = FFI_READY};
    poll.u.ready.tag = FFI_OK;
    return poll;
}

static void load_drop(void *fut_ptr) {
    mr_task_abandon(fut_ptr);
}

static FfiPollUnit load_nomem_poll(void *fut_ptr, FfiContext *cx) {
    (void)fut_ptr, (void)cx;
    return load_error(MR_ERR_NOMEM, NULL);
}

static void load_nomem_drop(void *fut_ptr) {
    (void)fut_ptr;
}

FfiFutureUnit mr_load_future(mr_service *service, FfiBytes settings) {
    static char no_future; /* something to point at */
    load_task *load = calloc(1, sizeof *load);
    if (load == NULL || !mr_task_init(&load->task, service, load_work, load_destroy)) {
        free(load);
        mr_bytes_drop(&settings);
        return (FfiFutureUnit){.fut_ptr = &no_future, .poll_fn = load_nomem_poll, .drop_fn = load_nomem_drop};
    }
    load->settings = settings;
    return (FfiFutureUnit){.fut_ptr = load, .poll_fn = load_poll, .drop_fn = load_drop};
}
