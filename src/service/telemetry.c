#define _GNU_SOURCE
#define MR_LOG_TARGET "mistral_runner::telemetry"
#include "service/telemetry.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "otlp.pb-c.h"
#include "service/metrics.h"
#include "service/otlp_resource.h"
#include "service/pb_wire.h"
#include "service/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_SPANS = 2048,
    QUEUE_BYTES = 32 << 20,
    BATCH_SPANS = 512,
    BATCH_BYTES = 2 << 20, /* collectors take messages of up to 4 MiB by default */
    FLUSH_MS = 1000,
    CALL_MS = 10000,
    CONNECT_MS = 1000,
    METRICS_MS = 60000,
    METRICS_FILE_MS = 5000,
    SHUTDOWN_MS = 1000,
    MAX_BACKOFF_MS = 30000,
};

typedef struct exporter {
    mr_rpc_channel *channel;  /* NULL: no collector */
    const char *metrics_file; /* NULL: none */
    uint64_t metrics_ms;
    pthread_t thread;
    mr_cancel *cancel; /* of the call in flight, at the end */

    /* Guarded by `lock`. */
    mr_buf queue[QUEUE_SPANS]; /* a ring */
    size_t first, n_queued, n_bytes;
    bool stopping, finished;

    /* The thread's. */
    bool down; /* the last export failed */
    uint64_t backoff_ms, next_try, next_metrics, next_file;
} exporter;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER; /* of any exporter */
static unsigned n_users;
static exporter *current;
static atomic_bool traces;

bool mr_telemetry_traces(void) {
    return atomic_load_explicit(&traces, memory_order_relaxed);
}

void mr_telemetry_span(mr_buf *span) {
    bool kept = false;
    pthread_mutex_lock(&lock);
    exporter *e = current;
    if (e != NULL && e->channel != NULL && !span->failed && e->n_queued < QUEUE_SPANS &&
        e->n_bytes + span->len <= QUEUE_BYTES) {
        e->queue[(e->first + e->n_queued++) % QUEUE_SPANS] = *span;
        e->n_bytes += span->len;
        *span = (mr_buf){0};
        kept = true;
        if (e->n_queued >= BATCH_SPANS) pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (!kept) mr_metrics_span_dropped();
    mr_buf_free(span);
}

/* ---- sending ---- */

/* Calls Export; false when the collector did not take it. Tells the first failure, and when it works again. */
static bool send_request(exporter *e, const char *method, const mr_buf *message) {
    mr_rpc_request request = {.method = method,
                              .message = message->data,
                              .n_message = message->len,
                              .timeout_ms = CALL_MS,
                              .cancel = e->cancel};
    mr_buf reply = {0};
    mr_error err = {0};
    bool ok = mr_rpc_unary(e->channel, &request, &reply, &err) == MR_OK;
    mr_buf_free(&reply);
    if (!ok && !e->down && !mr_cancel_is_set(e->cancel))
        MR_WARN("traces and metrics are not exported: %s; it is tried again", err.text);
    if (ok && e->down) MR_INFO("traces and metrics are exported again to %s", mr_rpc_channel_endpoint(e->channel));
    e->down = !ok;
    e->backoff_ms = ok ? 0 : e->backoff_ms == 0 ? 1000 : e->backoff_ms * 2;
    if (e->backoff_ms > MAX_BACKOFF_MS) e->backoff_ms = MAX_BACKOFF_MS;
    e->next_try = mr_clock_ns() + e->backoff_ms * 1000000;
    return ok;
}

/* Copies the views of the oldest spans; only this thread removes from the queue, so they stay valid. */
static size_t peek_batch(exporter *e, ProtobufCBinaryData *spans) {
    size_t n = 0, bytes = 0;
    pthread_mutex_lock(&lock);
    while (n < e->n_queued && n < BATCH_SPANS) {
        const mr_buf *span = &e->queue[(e->first + n) % QUEUE_SPANS];
        if (n > 0 && bytes + span->len > BATCH_BYTES) break;
        bytes += span->len;
        spans[n++] = (ProtobufCBinaryData){span->len, (uint8_t *)span->data};
    }
    pthread_mutex_unlock(&lock);
    return n;
}

static void drop_batch(exporter *e, size_t n) {
    pthread_mutex_lock(&lock);
    for (; n > 0; n--) {
        e->n_bytes -= e->queue[e->first].len;
        mr_buf_free(&e->queue[e->first]);
        e->first = (e->first + 1) % QUEUE_SPANS;
        e->n_queued--;
    }
    pthread_mutex_unlock(&lock);
}

/* Sends what is queued, batch by batch, until the collector fails. */
static void send_spans(exporter *e) {
    static const char method[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    ProtobufCBinaryData spans[BATCH_SPANS];
    for (size_t n; (n = peek_batch(e, spans)) > 0;) {
        MistralRunner__Otlp__ScopeSpans scope = MISTRAL_RUNNER__OTLP__SCOPE_SPANS__INIT, *scopes = &scope;
        MistralRunner__Otlp__ResourceSpans all = MISTRAL_RUNNER__OTLP__RESOURCE_SPANS__INIT, *alls = &all;
        MistralRunner__Otlp__ExportTraceServiceRequest pb = MISTRAL_RUNNER__OTLP__EXPORT_TRACE_SERVICE_REQUEST__INIT;
        scope.scope = mr_otlp_scope();
        scope.n_spans = n;
        scope.spans = spans;
        all.resource = mr_otlp_resource();
        all.n_scope_spans = 1;
        all.scope_spans = &scopes;
        pb.n_resource_spans = 1;
        pb.resource_spans = &alls;
        mr_buf message = {0};
        bool sent = mr_pb_pack(&pb.base, &message) && send_request(e, method, &message);
        mr_buf_free(&message);
        if (!sent) return;
        drop_batch(e, n);
    }
}

static void send_metrics(exporter *e) {
    mr_buf message = {0};
    if (mr_metrics_encode(&message))
        send_request(e, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", &message);
    mr_buf_free(&message);
}

/* Writes beside the file and renames, so that a reader sees it whole. */
static void write_file(const exporter *e) {
    mr_buf text = {0}, path = {0};
    mr_metrics_print(&text);
    mr_buf_printf(&path, "%s.%d", e->metrics_file, (int)getpid());
    FILE *file = text.failed || path.failed ? NULL : fopen(path.data, "we");
    bool ok = file != NULL && fwrite(text.data, 1, text.len, file) == text.len;
    if (file != NULL) ok = fclose(file) == 0 && ok;
    if (!ok || rename(path.data, e->metrics_file) != 0) {
        MR_WARN("the metrics cannot be written to %s: %s", e->metrics_file, strerror(errno));
        if (file != NULL) unlink(path.data);
    }
    mr_buf_free(&text);
    mr_buf_free(&path);
}

/* ---- the thread ---- */

/* Waits for work or the end; returns whether the end has come. */
static bool wait_for_work(exporter *e) {
    pthread_mutex_lock(&lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FLUSH_MS / 1000;
    int rc = 0;
    while (!e->stopping && rc != ETIMEDOUT && (e->n_queued < BATCH_SPANS || e->down))
        rc = pthread_cond_timedwait(&changed, &lock, &until);
    bool stopping = e->stopping;
    pthread_mutex_unlock(&lock);
    return stopping;
}

static void *export_main(void *arg) {
    exporter *e = arg;
    for (bool stopping = false; !stopping;) {
        stopping = wait_for_work(e);
        uint64_t now = mr_clock_ns();
        bool may_call = e->channel != NULL && (stopping ? !e->down : now >= e->next_try);
        if (may_call) send_spans(e);
        if (may_call && !e->down && (stopping || now >= e->next_metrics)) {
            send_metrics(e);
            e->next_metrics = now + e->metrics_ms * 1000000;
        }
        if (e->metrics_file != NULL && (stopping || now >= e->next_file)) {
            write_file(e);
            e->next_file = now + (uint64_t)METRICS_FILE_MS * 1000000;
        }
    }
    pthread_mutex_lock(&lock);
    e->finished = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* The thread takes no signals: they are the host's. */
static bool start_thread(exporter *e) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&e->thread, NULL, export_main, e) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok) pthread_setname_np(e->thread, "mr-telemetry");
    return ok;
}

static uint64_t metrics_interval(void) {
    const char *text = getenv("OTEL_METRIC_EXPORT_INTERVAL");
    char *end;
    unsigned long long ms = text != NULL && *text != '\0' ? strtoull(text, &end, 10) : METRICS_MS;
    if (ms >= 100 && ms <= 86400000 && (text == NULL || *text == '\0' || *end == '\0')) return ms;
    MR_WARN("OTEL_METRIC_EXPORT_INTERVAL=%.32s is no number of milliseconds from 100 to 86400000; %d is used", text,
            METRICS_MS);
    return METRICS_MS;
}

static void free_exporter(exporter *e) {
    if (e == NULL) return;
    size_t n_lost = e->n_queued;
    if (n_lost > 0) MR_WARN("%zu spans were not exported", n_lost);
    drop_batch(e, n_lost);
    mr_rpc_channel_unref(e->channel);
    mr_cancel_unref(e->cancel);
    free(e);
}

/* An exporter as the environment asks for; NULL when it asks for none. */
static exporter *new_exporter(void) {
    const char *address = getenv("OTLP_ADDR"), *file = getenv("MISTRAL_METRICS_FILE");
    bool collector = address != NULL && *address != '\0', write = file != NULL && *file != '\0';
    if (!collector && !write) return NULL;
    exporter *e = calloc(1, sizeof *e);
    if (e == NULL || (e->cancel = mr_cancel_new()) == NULL) {
        free(e);
        return NULL;
    }
    mr_error err = {0};
    mr_rpc_options options = {.endpoint = address, .connect_timeout_ms = CONNECT_MS};
    if (collector && mr_rpc_channel_new(&e->channel, &options, &err) != MR_OK)
        MR_WARN("traces and metrics are not exported, OTLP_ADDR: %s", err.text);
    if (write) e->metrics_file = file;
    e->metrics_ms = metrics_interval();
    e->next_metrics = mr_clock_ns() + e->metrics_ms * 1000000;
    if ((e->channel == NULL && !write) || !start_thread(e)) {
        free_exporter(e);
        return NULL;
    }
    return e;
}

void mr_telemetry_acquire(void) {
    pthread_mutex_lock(&lock);
    bool first = n_users++ == 0;
    pthread_mutex_unlock(&lock);
    if (!first) return;
    exporter *e = new_exporter();
    pthread_mutex_lock(&lock);
    exporter *unused = n_users > 0 && current == NULL ? NULL : e; /* all went, or another came first, in the meantime */
    if (unused == NULL) current = e;
    if (unused != NULL) unused->stopping = true;
    atomic_store(&traces, current != NULL && current->channel != NULL);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (unused == NULL) return;
    pthread_join(unused->thread, NULL);
    free_exporter(unused);
}

void mr_telemetry_release(void) {
    pthread_mutex_lock(&lock);
    exporter *e = NULL;
    if (--n_users == 0) {
        e = current;
        current = NULL;
        atomic_store(&traces, false);
    }
    if (e != NULL) e->stopping = true;
    pthread_cond_broadcast(&changed);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SHUTDOWN_MS / 1000;
    for (int rc = 0; e != NULL && !e->finished && rc != ETIMEDOUT;)
        rc = pthread_cond_timedwait(&changed, &lock, &until);
    pthread_mutex_unlock(&lock);
    if (e == NULL) return;
    mr_cancel_request(e->cancel);
    pthread_join(e->thread, NULL);
    free_exporter(e);
}
