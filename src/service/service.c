#define MR_LOG_TARGET "mistral_runner::service"
#include "service/service.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "service/functions.h"
#include "service/methods.h"
#include "service/metrics.h"
#include "service/registry.h"
#include "service/settings.h"
#include "service/span.h"
#include "service/telemetry.h"
#include "text/text_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model with the settings it was loaded by. Jobs hold a reference while they run. */
typedef struct attachment {
    atomic_uint n_refs;
    mr_settings settings;
    mr_shared *shared;
    mr_shared *functions; /* NULL: no FunctionService is configured */
} attachment;

struct mr_service {
    atomic_uint n_refs;
    pthread_mutex_t lock; /* guards `current` */
    attachment *current;  /* NULL: not loaded */
};

static void attachment_unref(attachment *a) {
    if (a == NULL || atomic_fetch_sub_explicit(&a->n_refs, 1, memory_order_acq_rel) != 1) return;
    mr_shared_unref(a->shared);
    mr_shared_unref(a->functions);
    mr_settings_free(&a->settings);
    free(a);
    mr_telemetry_release();
}

mr_service *mr_service_new(void) {
    mr_service *service = calloc(1, sizeof *service);
    if (service == NULL) return NULL;
    atomic_init(&service->n_refs, 1);
    pthread_mutex_init(&service->lock, NULL);
    return service;
}

mr_service *mr_service_ref(mr_service *service) {
    atomic_fetch_add_explicit(&service->n_refs, 1, memory_order_relaxed);
    return service;
}

void mr_service_unref(mr_service *service) {
    if (service == NULL || atomic_fetch_sub_explicit(&service->n_refs, 1, memory_order_acq_rel) != 1) return;
    attachment_unref(service->current);
    pthread_mutex_destroy(&service->lock);
    free(service);
}

/* A load that takes long says in the log how far it is. */
typedef struct load_progress {
    const char *name;
    uint64_t last; /* mr_clock_ns of the last line */
} load_progress;

static bool log_progress(void *ctx, float fraction) {
    enum { SECONDS = 3 };
    load_progress *p = ctx;
    if (mr_clock_since(p->last) < SECONDS) return true;
    p->last = mr_clock_ns();
    MR_INFO("loading %s: %d %%", p->name, (int)(fraction * 100.0f));
    return true;
}

static mr_status load_model(void *ctx, mr_cancel *cancel, void **value, mr_error *err) {
    const mr_settings *settings = ctx;
    const char *name = settings->n_paths > 0 ? settings->paths[0] : "the embedded model";
    load_progress progress = {.name = name, .last = mr_clock_ns()};
    mr_text_model_options options = {
        .paths = settings->paths,
        .n_paths = settings->n_paths,
        .tokenizer_folder = settings->tokenizer_folder,
        .chat_template = settings->chat_template,
        .model = {.n_threads = (int)settings->threads,
                  .device = settings->device,
                  .kv_type = settings->kv_type,
                  .kv_tokens = (uint64_t)settings->context_size * (settings->max_concurrent / 2 + 1),
                  .quantize = settings->quantize,
                  .progress = log_progress,
                  .progress_ctx = &progress,
                  .cancel = cancel},
        .engine = {.context_size = settings->context_size,
                   .max_concurrent = settings->max_concurrent,
                   .kv_type = settings->kv_type,
                   .n_draft = settings->n_draft},
    };
    MR_INFO("loading %s", name);
    uint64_t start = mr_clock_ns();
    mr_text_model *model = NULL;
    mr_status status = mr_text_model_load(&model, &options, err);
    if (status != MR_OK) {
        MR_WARN("loading %s failed: %s", name, err->text);
        return status;
    }
    const mr_model_info *info = mr_text_model_info(model);
    MR_INFO("loaded %s in %.2f s: %s %s, %.1f MiB of weights, context %u", name, mr_clock_since(start), info->arch,
            info->type_label, (double)info->weight_bytes / (1 << 20),
            mr_engine_context_size(mr_text_model_engine(model)));
    mr_metrics_add_model(model, info->name[0] != '\0' ? info->name : info->arch);
    *value = model;
    return MR_OK;
}

static void free_model(void *value) {
    mr_metrics_remove_model(value);
    mr_text_model_free(value);
    MR_DEBUG("a model was freed");
}

/* --- the FunctionService, one client for all who name the same endpoint --- */

static mr_status open_functions(void *ctx, mr_cancel *cancel, void **value, mr_error *err) {
    (void)cancel;
    const mr_tool_config *tools = ctx;
    mr_functions *functions;
    mr_status status = mr_functions_open(&functions, tools->grpc_endpoint, tools->connection_timeout_sec, err);
    *value = functions;
    return status;
}

static void close_functions(void *value) {
    mr_functions_close(value);
}

static mr_status attach_functions(attachment *a, mr_cancel *cancel, mr_error *err) {
    static const mr_shared_ops OPS = {.load = open_functions, .free = close_functions};
    mr_tool_config *tools = &a->settings.tools;
    if (tools->grpc_endpoint == NULL) return MR_OK;
    mr_buf key = {0};
    mr_buf_printf(&key, "functions %u %s", tools->connection_timeout_sec, tools->grpc_endpoint);
    mr_status status = key.failed ? mr_fail_nomem(err, 0, "the FunctionService")
                                  : mr_shared_acquire(&a->functions, mr_buf_cstr(&key), &OPS, tools, cancel, err);
    mr_buf_free(&key);
    return status;
}

mr_status mr_service_load(mr_service *service, const uint8_t *settings, size_t n_settings, mr_cancel *cancel,
                          mr_error *err) {
    static const mr_shared_ops OPS = {.load = load_model, .free = free_model};
    attachment *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory to load a model");
    atomic_init(&fresh->n_refs, 1);
    mr_telemetry_acquire();
    mr_status status = mr_settings_decode(&fresh->settings, settings, n_settings, cancel, err);
    if (status == MR_OK) {
        status = mr_shared_acquire(&fresh->shared, fresh->settings.key, &OPS, &fresh->settings, cancel, err);
    }
    if (status == MR_OK) status = attach_functions(fresh, cancel, err);
    if (status != MR_OK) {
        attachment_unref(fresh);
        return status;
    }
    pthread_mutex_lock(&service->lock);
    attachment *old = service->current;
    service->current = fresh;
    pthread_mutex_unlock(&service->lock);
    attachment_unref(old);
    return MR_OK;
}

static attachment *current_attachment(mr_service *service) {
    pthread_mutex_lock(&service->lock);
    attachment *a = service->current;
    if (a != NULL) atomic_fetch_add_explicit(&a->n_refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&service->lock);
    return a;
}

/* The value that the metadata have for a key; NULL when there is none. */
static const mr_service_metadata *find_metadata(const mr_service_job *request, const char *key) {
    for (size_t i = 0; i < request->n_metadata; i++) {
        const mr_service_metadata *m = &request->metadata[i];
        if (m->key_len == strlen(key) && memcmp(m->key, key, m->key_len) == 0) return m;
    }
    return NULL;
}

static void read_trace(const mr_service_job *request, mr_trace_context *trace) {
    const mr_service_metadata *parent = find_metadata(request, "traceparent");
    const mr_service_metadata *state = find_metadata(request, "tracestate");
    mr_trace_context_parse(trace, parent != NULL ? parent->value : NULL, parent != NULL ? parent->value_len : 0,
                           state != NULL ? state->value : NULL, state != NULL ? state->value_len : 0);
}

/* What OpenTelemetry's conventions call the method. */
static const char *operation_name(const char *method) {
    if (strcmp(method, "completion") == 0) return "text_completion";
    return strcmp(method, "embedding") == 0 ? "embeddings" : method;
}

/* The span of the whole job, with what is known before it runs. */
static mr_span *start_span(const mr_job *job, const char *method, const mr_trace_context *parent) {
    static const char *const told_on[] = {"session_id", "user_id"};
    char name[64];
    snprintf(name, sizeof name, "mistralrs.%s", method);
    mr_span *span = mr_span_start(name, parent);
    if (span == NULL) return NULL;
    mr_span_string(span, "gen_ai.system", "mistralrs");
    mr_span_string(span, "gen_ai.operation.name", operation_name(method));
    mr_span_string(span, "gen_ai.request.model", mr_job_model_name(job));
    for (size_t i = 0; i < sizeof told_on / sizeof *told_on; i++) {
        const mr_service_metadata *m = find_metadata(job->request, told_on[i]);
        if (m != NULL) mr_span_text(span, told_on[i], m->value, m->value_len);
    }
    return span;
}

static mr_job_end end_of(mr_status status) {
    return status == MR_OK ? MR_JOB_OK : status == MR_ERR_CANCELLED ? MR_JOB_CANCELLED : MR_JOB_ERROR;
}

mr_status mr_service_run(mr_service *service, const mr_service_job *request, mr_buf *result, mr_error *err) {
    mr_method_fn run;
    mr_status status = mr_method_find(request->method, &run, err);
    if (status != MR_OK) return status;
    if (mr_cancel_is_set(request->cancel)) return mr_fail(err, MR_ERR_CANCELLED, "the job was cancelled");
    attachment *a = current_attachment(service);
    if (a == NULL)
        return mr_fail(err, MR_ERR_INVALID, "no model is loaded; load the runner's settings before its jobs");
    const char *method = request->method != NULL ? request->method : "chat";
    mr_job job = {.request = request,
                  .settings = &a->settings,
                  .model = mr_shared_value(a->shared),
                  .functions = a->functions != NULL ? mr_shared_value(a->functions) : NULL,
                  .result = result};
    mr_trace_context parent;
    read_trace(request, &parent);
    job.span = start_span(&job, method, &parent);
    job.trace = mr_span_context(job.span, &parent);
    uint64_t start = mr_clock_ns();
    mr_error own = {0};
    if (err == NULL) err = &own;
    status = run(&job, err);
    mr_metrics_job(method, end_of(status), mr_clock_since(start));
    if (status != MR_OK) mr_span_fail(job.span, err->text);
    mr_span_end(job.span);
    attachment_unref(a);
    return status;
}
