/* The future of `run_stream`. The job's thread puts encoded chunks into a bounded queue, and waits while it is full;
 * each poll of the future moves chunks from the queue into the host's sink, as far as the sink takes them at once. */
#include "plugin/futures.h"
#include "plugin/job.h"
#include "plugin/sink.h"
#include "plugin/task.h"
#include "plugin/values.h"

#include <stdlib.h>

/* Chunks that may wait for a slow receiver: some seconds of text. */
#define QUEUE_LEN 256
/* After so many sends one poll lets the host's other tasks run. */
#define SENDS_PER_POLL 64

typedef struct stream_task {
    mr_task task; /* first: a task's pointer is its stream_task's */
    mr_job job;

    /* Guarded by the task's lock: a ring of chunks. */
    FfiBytes queue[QUEUE_LEN];
    size_t head, len;
    bool stopped; /* nobody takes chunks any more: cancelled, sink closed, or future dropped */
    bool nomem;
    pthread_cond_t changed; /* len went down or stopped was set */

    uint64_t subscription; /* of `stop` to the task's cancel, for as long as the stream exists */

    mr_sink sink; /* of the future's side */
    bool closed;  /* of the future's side: the receiver went away */
} stream_task;

/* The cancellation: frees the job's thread from waiting for room, and has the future look at a send that may be stuck.
 */
static void stop(void *ctx) {
    stream_task *stream = ctx;
    pthread_mutex_lock(&stream->task.lock);
    stream->stopped = true;
    pthread_cond_broadcast(&stream->changed);
    const FfiWakerBase *waker = mr_task_take_waker(&stream->task);
    pthread_mutex_unlock(&stream->task.lock);
    mr_waker_wake(waker);
}

/* Waits for room and appends the chunk. False when nobody takes it; the chunk is then dropped. */
static bool push(stream_task *stream, FfiBytes chunk) {
    pthread_mutex_lock(&stream->task.lock);
    while (stream->len == QUEUE_LEN && !stream->stopped) pthread_cond_wait(&stream->changed, &stream->task.lock);
    bool taken = !stream->stopped;
    const FfiWakerBase *waker = NULL;
    if (taken) {
        stream->queue[(stream->head + stream->len++) % QUEUE_LEN] = chunk;
        waker = mr_task_take_waker(&stream->task);
    }
    pthread_mutex_unlock(&stream->task.lock);
    mr_waker_wake(waker);
    if (!taken) mr_bytes_drop(&chunk);
    return taken;
}

static bool pop(stream_task *stream, FfiBytes *chunk) {
    pthread_mutex_lock(&stream->task.lock);
    bool some = stream->len > 0;
    if (some) {
        *chunk = stream->queue[stream->head];
        stream->head = (stream->head + 1) % QUEUE_LEN;
        stream->len--;
        pthread_cond_signal(&stream->changed);
    }
    pthread_mutex_unlock(&stream->task.lock);
    return some;
}

static bool on_chunk(void *ctx, const uint8_t *bytes, size_t n) {
    stream_task *stream = ctx;
    bool ok = true;
    FfiBytes chunk = mr_bytes_copy(bytes, n, &ok);
    if (ok) return push(stream, chunk);
    stream->nomem = true;
    return false;
}

static mr_status stream_work(mr_task *task) {
    stream_task *stream = (stream_task *)task;
    mr_buf unused = {0};
    mr_status status = mr_job_execute(&stream->job, task->service, task->cancel, on_chunk, stream, &unused, &task->err);
    mr_buf_free(&unused);
    if (stream->nomem)
        return mr_fail(&task->err, MR_ERR_NOMEM, "out of memory: a chunk of the stream could not be stored");
    return status;
}

static void drop_queue(stream_task *stream) {
    for (FfiBytes chunk; pop(stream, &chunk);) mr_bytes_drop(&chunk);
}

static void stream_destroy(mr_task *task) {
    stream_task *stream = (stream_task *)task;
    mr_cancel_unsubscribe(task->cancel, stream->subscription);
    for (size_t i = 0; i < stream->len; i++) mr_bytes_drop(&stream->queue[(stream->head + i) % QUEUE_LEN]);
    pthread_cond_destroy(&stream->changed);
    mr_job_free(&stream->job);
    mr_task_deinit(task);
    free(stream);
}

typedef enum { DRAINED, BLOCKED, MORE } drain_result;

/* Moves chunks into the sink until the queue is empty, the sink is not ready, or it is another task's turn. */
static drain_result drain(stream_task *stream, FfiContext *cx) {
    for (int n_sends = 0;; n_sends++) {
        mr_sink_state state = mr_sink_poll(&stream->sink, cx);
        if (state == MR_SINK_PENDING) return BLOCKED;
        if (state == MR_SINK_CLOSED) {
            stream->closed = true;
            mr_sink_close(&stream->sink);
            mr_cancel_request(stream->task.cancel);
        }
        if (stream->closed) {
            drop_queue(stream);
            return DRAINED;
        }
        if (n_sends == SENDS_PER_POLL) return MORE;
        FfiBytes chunk;
        if (!pop(stream, &chunk)) return DRAINED;
        mr_sink_start(&stream->sink, chunk);
    }
}

static FfiPollStream stream_error(mr_status status, const mr_error *err) {
    FfiPollStream poll = {.tag = FFI_READY};
    poll.u.ready.tag = FFI_ERR;
    poll.u.ready.u.err = mr_bytes_from_error(status, err);
    return poll;
}

/* The job has ended, and everything was sent, or (sent_all false) the job was cancelled before. */
static FfiPollStream finish(stream_task *stream, bool sent_all) {
    mr_task *task = &stream->task;
    drop_queue(stream);
    mr_sink_close(&stream->sink);
    mr_task_finish(task);
    if (stream->closed)
        task->status = mr_fail(&task->err, MR_ERR_CANCELLED,
                               "cancelled: the receiver of the stream went away, and the job was stopped");
    else if (!sent_all && task->status == MR_OK)
        task->status = mr_fail(&task->err, MR_ERR_CANCELLED, "cancelled: the end of the stream was not sent");
    if (task->status != MR_OK) return stream_error(task->status, &task->err);
    FfiPollStream poll = {.tag = FFI_READY};
    poll.u.ready.tag = FFI_OK;
    poll.u.ready.u.ok = mr_kv_list_take(&stream->job.metadata);
    return poll;
}

static FfiPollStream stream_poll(void *fut_ptr, FfiContext *cx) {
    stream_task *stream = fut_ptr;
    mr_task *task = &stream->task;
    if (task->finished) return (FfiPollStream){.tag = FFI_PANICKED};
    mr_task_poll(task, cx);
    bool done = mr_task_is_done(task); /* before draining: no chunk comes after it */
    drain_result result = drain(stream, cx);
    /* A cancelled job does not wait for a receiver that takes nothing: the rest is dropped. */
    bool give_up = result == BLOCKED && mr_cancel_is_set(task->cancel);
    if (done && (result == DRAINED || give_up)) return finish(stream, result == DRAINED);
    if (result == MORE) mr_task_wake(task);
    return (FfiPollStream){.tag = FFI_PENDING};
}

static void stream_drop(void *fut_ptr) {
    stream_task *stream = fut_ptr;
    mr_sink_close(&stream->sink);
    mr_task_abandon(&stream->task);
}

static FfiPollStream stream_nomem_poll(void *fut_ptr, FfiContext *cx) {
    (void)fut_ptr, (void)cx;
    return stream_error(MR_ERR_NOMEM, NULL);
}

static void stream_nomem_drop(void *fut_ptr) {
    (void)fut_ptr;
}

static bool init_stream(stream_task *stream, mr_service *service) {
    if (pthread_cond_init(&stream->changed, NULL) != 0) return false;
    if (mr_task_init(&stream->task, service, stream_work, stream_destroy)) {
        stream->subscription = mr_cancel_subscribe(stream->task.cancel, stop, stream);
        if (stream->subscription != 0) return true;
        mr_task_deinit(&stream->task);
    }
    pthread_cond_destroy(&stream->changed);
    return false;
}

FfiFutureStream mr_stream_future(mr_service *service, mr_token token, FfiBytes args, FfiKvPairList metadata,
                                 FfiOptionBytes method, OutputSink sink) {
    static char no_future; /* something to point at */
    mr_sink owned = mr_sink_own(sink);
    stream_task *stream = calloc(1, sizeof *stream);
    if (stream == NULL || !init_stream(stream, service)) {
        free(stream);
        mr_bytes_drop(&args);
        mr_kv_list_drop(&metadata);
        mr_option_bytes_drop(method);
        mr_token_release(&token);
        mr_sink_close(&owned);
        return (FfiFutureStream){.fut_ptr = &no_future, .poll_fn = stream_nomem_poll, .drop_fn = stream_nomem_drop};
    }
    stream->sink = owned;
    stream->task.token = token;
    stream->task.status = mr_job_init(&stream->job, args, metadata, method, &stream->task.err);
    return (FfiFutureStream){.fut_ptr = stream, .poll_fn = stream_poll, .drop_fn = stream_drop};
}
