/* The future of `run`. */
#include "plugin/futures.h"
#include "plugin/job.h"
#include "plugin/task.h"
#include "plugin/values.h"

#include <stdlib.h>

typedef struct run_task {
    mr_task task; /* first: a task's pointer is its run_task's */
    mr_job job;
    mr_buf result;
} run_task;

static mr_status run_work(mr_task *task) {
    run_task *run = (run_task *)task;
    return mr_job_execute(&run->job, task->service, task->cancel, NULL, NULL, &run->result, &task->err);
}

static void run_destroy(mr_task *task) {
    run_task *run = (run_task *)task;
    mr_job_free(&run->job);
    mr_buf_free(&run->result);
    mr_task_deinit(task);
    free(run);
}

static FfiPollRun run_error(mr_status status, const mr_error *err, FfiKvPairList metadata) {
    FfiPollRun poll = {.tag = FFI_READY};
    poll.u.ready.result.tag = FFI_ERR;
    poll.u.ready.result.u.err = mr_bytes_from_error(status, err);
    poll.u.ready.metadata = metadata;
    return poll;
}

static FfiPollRun run_poll(void *fut_ptr, FfiContext *cx) {
    run_task *run = fut_ptr;
    mr_task *task = &run->task;
    if (task->finished) return (FfiPollRun){.tag = FFI_PANICKED};
    mr_task_poll(task, cx);
    if (!mr_task_is_done(task)) return (FfiPollRun){.tag = FFI_PENDING};
    mr_task_finish(task);
    FfiKvPairList metadata = mr_kv_list_take(&run->job.metadata);
    if (task->status == MR_OK && run->result.failed)
        task->status = mr_fail(&task->err, MR_ERR_NOMEM, "out of memory: the result could not be stored");
    if (task->status != MR_OK) return run_error(task->status, &task->err, metadata);
    FfiPollRun poll = {.tag = FFI_READY};
    poll.u.ready.result.tag = FFI_OK;
    poll.u.ready.result.u.ok = mr_bytes_from_buf(&run->result);
    poll.u.ready.metadata = metadata;
    return poll;
}

static void run_drop(void *fut_ptr) {
    mr_task_abandon(fut_ptr);
}

static FfiPollRun run_nomem_poll(void *fut_ptr, FfiContext *cx) {
    (void)fut_ptr, (void)cx;
    return run_error(MR_ERR_NOMEM, NULL, mr_kv_list_empty());
}

static void run_nomem_drop(void *fut_ptr) {
    (void)fut_ptr;
}

FfiFutureRun mr_run_future(mr_service *service, mr_token token, FfiBytes args, FfiKvPairList metadata,
                           FfiOptionBytes method) {
    static char no_future; /* something to point at */
    run_task *run = calloc(1, sizeof *run);
    if (run == NULL || !mr_task_init(&run->task, service, run_work, run_destroy)) {
        free(run);
        mr_bytes_drop(&args);
        mr_kv_list_drop(&metadata);
        mr_option_bytes_drop(method);
        mr_token_release(&token);
        return (FfiFutureRun){.fut_ptr = &no_future, .poll_fn = run_nomem_poll, .drop_fn = run_nomem_drop};
    }
    run->task.token = token;
    run->task.status = mr_job_init(&run->job, args, metadata, method, &run->task.err);
    return (FfiFutureRun){.fut_ptr = run, .poll_fn = run_poll, .drop_fn = run_drop};
}
