#include "fake_service.h"

#include "service/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

atomic_int fake_n_services, fake_n_running, fake_n_produced;

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t running_changed = PTHREAD_COND_INITIALIZER;

struct mr_service {
    atomic_uint n_refs;
};

static void add_running(int n) {
    pthread_mutex_lock(&running_lock);
    fake_n_running += n;
    pthread_cond_broadcast(&running_changed);
    pthread_mutex_unlock(&running_lock);
}

void fake_service_await_running(int n) {
    pthread_mutex_lock(&running_lock);
    while (fake_n_running != n) pthread_cond_wait(&running_changed, &running_lock);
    pthread_mutex_unlock(&running_lock);
}

void fake_service_await_released(void) {
    for (int i = 0; i < 20000 && fake_n_services != 0; i++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

mr_service *mr_service_new(void) {
    mr_service *service = calloc(1, sizeof *service);
    atomic_init(&service->n_refs, 1);
    fake_n_services++;
    return service;
}

mr_service *mr_service_ref(mr_service *service) {
    service->n_refs++;
    return service;
}

void mr_service_unref(mr_service *service) {
    if (service == NULL || --service->n_refs > 0) return;
    free(service);
    fake_n_services--;
}

const char *mr_service_name(void) {
    return "Fake";
}
const char *mr_service_description(void) {
    return "A service without a model";
}
const char *mr_service_settings_proto(void) {
    return "syntax = \"proto3\";\nmessage Settings {}\n";
}
const char *mr_service_settings_schema(void) {
    return "";
}

static const mr_service_method methods[] = {{.name = "chat"}, {.name = "completion"}};

const mr_service_method *mr_service_methods(size_t *n) {
    *n = sizeof methods / sizeof *methods;
    return methods;
}

bool mr_service_encode_method_schema(const mr_service_method *method, mr_buf *bytes) {
    return mr_buf_printf(bytes, "proto of %s", method->name);
}

bool mr_service_encode_method_json_schema(const mr_service_method *method, mr_buf *bytes) {
    return mr_buf_printf(bytes, "schema of %s", method->name);
}

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
} gate;

static void open_gate(void *ctx) {
    gate *self = ctx;
    pthread_mutex_lock(&self->lock);
    self->open = true;
    pthread_cond_signal(&self->opened);
    pthread_mutex_unlock(&self->lock);
}

static mr_status wait_for_cancel(mr_cancel *cancel, mr_error *err) {
    gate self = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
    uint64_t id = mr_cancel_subscribe(cancel, open_gate, &self);
    pthread_mutex_lock(&self.lock);
    while (!self.open) pthread_cond_wait(&self.opened, &self.lock);
    pthread_mutex_unlock(&self.lock);
    mr_cancel_unsubscribe(cancel, id);
    return mr_fail(err, MR_ERR_CANCELLED, "cancelled by the job's token");
}

mr_status mr_service_load(mr_service *service, const uint8_t *settings, size_t n, mr_cancel *cancel, mr_error *err) {
    (void)service;
    add_running(1);
    mr_status status = MR_OK;
    if (n == 4 && memcmp(settings, "fail", 4) == 0) status = mr_fail(err, MR_ERR_NOT_FOUND, "no such model");
    if (n == 5 && memcmp(settings, "block", 5) == 0) status = wait_for_cancel(cancel, err);
    add_running(-1);
    return status;
}

static mr_status emit(const mr_service_job *job, mr_buf *result, mr_error *err, const void *bytes, size_t n) {
    if (job->on_chunk == NULL) return mr_buf_append(result, bytes, n) ? MR_OK : mr_fail_nomem(err, n, "a result");
    if (!job->on_chunk(job->ctx, bytes, n)) return mr_fail(err, MR_ERR_CANCELLED, "cancelled: nobody listens");
    fake_n_produced++;
    return MR_OK;
}

static mr_status count(const mr_service_job *job, long n, mr_buf *result, mr_error *err) {
    mr_status status = MR_OK;
    for (long i = 0; (n < 0 || i < n) && status == MR_OK; i++) {
        char text[32];
        int len = snprintf(text, sizeof text, "%ld ", i);
        if (mr_cancel_is_set(job->cancel)) return mr_fail(err, MR_ERR_CANCELLED, "cancelled between two chunks");
        status = emit(job, result, err, text, (size_t)len);
    }
    return status;
}

static mr_status metadata(const mr_service_job *job, mr_buf *result, mr_error *err) {
    mr_buf text = {0};
    for (size_t i = 0; i < job->n_metadata; i++) {
        const mr_service_metadata *pair = &job->metadata[i];
        mr_buf_printf(&text, "%.*s=%.*s;", (int)pair->key_len, pair->key, (int)pair->value_len, pair->value);
    }
    mr_status status = emit(job, result, err, mr_buf_cstr(&text), text.len);
    mr_buf_free(&text);
    return status;
}

static mr_status run(const mr_service_job *job, mr_buf *result, mr_error *err) {
    const char *args = (const char *)job->args;
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)job->n_args, args);
    if (strncmp(text, "echo:", 5) == 0) return emit(job, result, err, args + 5, job->n_args - 5);
    if (strncmp(text, "count:", 6) == 0) return count(job, atol(text + 6), result, err);
    if (strncmp(text, "fail:", 5) == 0) return mr_fail(err, MR_ERR_INVALID, "%s", text + 5);
    if (strcmp(text, "endless") == 0)
        return job->on_chunk == NULL ? wait_for_cancel(job->cancel, err) : count(job, -1, result, err);
    if (strcmp(text, "block") == 0) return wait_for_cancel(job->cancel, err);
    if (strcmp(text, "silent") == 0) return MR_ERR_LIMIT;
    if (strcmp(text, "metadata") == 0) return metadata(job, result, err);
    const char *method = job->method == NULL ? "(none)" : job->method;
    if (strcmp(text, "method") == 0) return emit(job, result, err, method, strlen(method));
    if (job->n_args == 0) return MR_OK; /* a result of no bytes */
    int n = snprintf(text, sizeof text, "%zu", job->n_args);
    return emit(job, result, err, text, (size_t)n);
}

mr_status mr_service_run(mr_service *service, const mr_service_job *job, mr_buf *result, mr_error *err) {
    (void)service;
    add_running(1);
    mr_status status = run(job, result, err);
    add_running(-1);
    return status;
}
