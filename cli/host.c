#include "host.h"

#include "host_park.h"
#include "host_token.h"
#include "plugin/abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_VTABLE_SIZE 128

struct mr_host {
    PluginInstanceRaw plugin;
    mr_park *park;
};

static void drop_bytes(FfiBytes bytes) {
    if (bytes.drop_fn != NULL) bytes.drop_fn(bytes.ptr, bytes.len, bytes.cap);
}

static void drop_list(FfiKvPairList list) {
    if (list.drop_fn != NULL) list.drop_fn((uint8_t *)list.ptr, list.len, list.cap);
}

static void free_bytes(uint8_t *ptr, size_t len, size_t cap) {
    (void)len;
    if (cap > 0) free(ptr);
}

static void free_list(uint8_t *ptr, size_t len, size_t cap) {
    if (cap == 0) return;
    FfiKvPair *pairs = (FfiKvPair *)(void *)ptr;
    for (size_t i = 0; i < len; i++) {
        drop_bytes(pairs[i].key);
        drop_bytes(pairs[i].value);
    }
    free(ptr);
}

static max_align_t nothing; /* what empty values point at */

/* A copy for the plugin; *ok becomes false when memory runs out. */
static FfiBytes own_bytes(const void *bytes, size_t n, bool *ok) {
    FfiBytes owned = {.ptr = (uint8_t *)&nothing, .drop_fn = free_bytes};
    if (n == 0) return owned;
    uint8_t *copy = malloc(n);
    if (copy == NULL) {
        *ok = false;
        return owned;
    }
    memcpy(copy, bytes, n);
    owned.ptr = copy;
    owned.len = owned.cap = n;
    return owned;
}

static FfiKvPairList own_metadata(const mr_host_metadata *metadata, size_t n, bool *ok) {
    FfiKvPairList list = {.ptr = (FfiKvPair *)&nothing, .drop_fn = free_list};
    if (n == 0) return list;
    FfiKvPair *pairs = calloc(n, sizeof *pairs);
    if (pairs == NULL) {
        *ok = false;
        return list;
    }
    for (size_t i = 0; i < n; i++)
        pairs[i] = (FfiKvPair){.key = own_bytes(metadata[i].key, strlen(metadata[i].key), ok),
                               .value = own_bytes(metadata[i].value, strlen(metadata[i].value), ok)};
    list.ptr = pairs;
    list.len = list.cap = n;
    return list;
}

/* dlopen searches the system's folders for a name without a slash; here a path always names a file. */
static mr_status open_library(void **library, const char *path, mr_error *err) {
    mr_buf full = {0};
    mr_buf_printf(&full, "%s%s", strchr(path, '/') == NULL ? "./" : "", path);
    if (full.failed) return mr_fail_nomem(err, strlen(path), "a path");
    *library = dlopen(full.data, RTLD_NOW | RTLD_LOCAL);
    const char *why = *library == NULL ? dlerror() : NULL;
    mr_buf_free(&full);
    if (*library != NULL) return MR_OK;
    return mr_fail(err, MR_ERR_NOT_FOUND, "the plugin %s could not be loaded: %s", path, why == NULL ? "?" : why);
}

static mr_status make_instance(PluginInstanceRaw *plugin, mr_abi_entry entry, const char *name, mr_error *err) {
    *plugin = entry();
    if (plugin->vtable == NULL || plugin->vtable->abi_version >> 16 != MR_ABI_VERSION >> 16 ||
        plugin->vtable->vtable_size < OLDEST_VTABLE_SIZE)
        return mr_fail(err, MR_ERR_UNSUPPORTED, "the plugin %s has another ABI version than %u.%u", name,
                       MR_ABI_VERSION >> 16, MR_ABI_VERSION & 0xffffu);
    if (plugin->state == NULL) return mr_fail(err, MR_ERR_NOMEM, "the plugin %s could not make an instance", name);
    return MR_OK;
}

mr_status mr_host_open_entry(mr_host **host, mr_abi_entry entry, const char *name, mr_error *err) {
    mr_host *self = calloc(1, sizeof *self);
    if (self == NULL) return mr_fail_nomem(err, sizeof *self, "a plugin host");
    self->park = mr_park_new();
    mr_status status = self->park == NULL ? mr_fail_nomem(err, sizeof *self, "a plugin host")
                                          : make_instance(&self->plugin, entry, name, err);
    if (status != MR_OK) {
        mr_park_free(self->park);
        free(self);
        return status;
    }
    *host = self;
    return MR_OK;
}

mr_status mr_host_open(mr_host **host, const char *path, mr_error *err) {
    void *library = NULL;
    mr_status status = open_library(&library, path, err);
    if (status != MR_OK) return status;
    void *symbol = dlsym(library, MR_ABI_ENTRY);
    if (symbol == NULL)
        return mr_fail(err, MR_ERR_INVALID, "%s is no V2 runner plugin: it has no %s", path, MR_ABI_ENTRY);
    mr_abi_entry entry;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from a data pointer to a function pointer */
    return mr_host_open_entry(host, entry, path, err);
}

void mr_host_close(mr_host *host) {
    if (host == NULL) return;
    host->plugin.vtable->drop_state(host->plugin.state);
    mr_park_free(host->park);
    free(host);
}

mr_status mr_host_describe(mr_host *host, mr_host_text which, mr_buf *text, mr_error *err) {
    const PluginVtable *vtable = host->plugin.vtable;
    FfiBytes (*describe[])(void *) = {[MR_HOST_NAME] = vtable->name,
                                      [MR_HOST_DESCRIPTION] = vtable->description,
                                      [MR_HOST_SETTINGS_PROTO] = vtable->runner_settings_proto,
                                      [MR_HOST_SETTINGS_SCHEMA] = vtable->settings_schema};
    FfiBytes bytes = describe[which](host->plugin.state);
    bool ok = mr_buf_append(text, bytes.ptr, bytes.len);
    size_t n = bytes.len;
    drop_bytes(bytes);
    return ok ? MR_OK : mr_fail_nomem(err, n, "a description of the plugin");
}

void mr_host_methods(mr_host *host, bool json,
                     void (*on_method)(void *ctx, const char *name, size_t name_len, const uint8_t *schema, size_t n),
                     void *ctx) {
    const PluginVtable *vtable = host->plugin.vtable;
    FfiKvPairList list = (json ? vtable->method_json_schema_map : vtable->method_proto_map)(host->plugin.state);
    for (size_t i = 0; i < list.len; i++) {
        const FfiKvPair *pair = &list.ptr[i];
        on_method(ctx, (const char *)pair->key.ptr, pair->key.len, pair->value.ptr, pair->value.len);
    }
    drop_list(list);
}

/* Takes the plugin's error over. */
static mr_status take_error(FfiBytes bytes, const mr_cancel *cancel, mr_error *err) {
    int n = bytes.len < MR_ERROR_TEXT_MAX ? (int)bytes.len : MR_ERROR_TEXT_MAX;
    mr_status status =
        mr_fail(err, mr_cancel_is_set(cancel) ? MR_ERR_CANCELLED : MR_ERR_INVALID, "%.*s", n, (const char *)bytes.ptr);
    drop_bytes(bytes);
    return status;
}

static mr_status fail_panicked(mr_error *err) {
    return mr_fail(err, MR_ERR_INTERNAL, "the plugin panicked; see its log for the reason");
}

static void wake_context(void *ctx) {
    FfiContext cx = mr_park_context(ctx);
    cx.waker->vtable->wake_by_ref(cx.waker);
}

mr_status mr_host_load(mr_host *host, const uint8_t *settings, size_t n_settings, mr_cancel *cancel, mr_error *err) {
    bool ok = true;
    FfiBytes bytes = own_bytes(settings, n_settings, &ok);
    if (!ok) return mr_fail_nomem(err, n_settings, "the settings");
    FfiFutureUnit future = host->plugin.vtable->load(host->plugin.state, bytes);
    uint64_t subscription = mr_cancel_subscribe(cancel, wake_context, host->park);
    FfiPollUnit poll = {.tag = FFI_PENDING};
    while (!mr_cancel_is_set(cancel)) {
        FfiContext cx = mr_park_context(host->park);
        poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll.tag != FFI_PENDING) break;
        mr_park_wait(host->park);
    }
    mr_cancel_unsubscribe(cancel, subscription);
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_PENDING) return mr_fail(err, MR_ERR_CANCELLED, "cancelled: the model was not loaded");
    if (poll.tag == FFI_PANICKED) return fail_panicked(err);
    return poll.u.ready.tag == FFI_OK ? MR_OK : take_error(poll.u.ready.u.err, cancel, err);
}

/* The values that a run and a stream take. */
typedef struct job_values {
    FfiBytes args;
    FfiKvPairList metadata;
    FfiOptionBytes using_;
} job_values;

static mr_status own_job(mr_host *host, const mr_host_job *job, job_values *values, mr_error *err) {
    bool ok = true;
    values->args = own_bytes(job->args, job->n_args, &ok);
    values->metadata = own_metadata(job->metadata, job->n_metadata, &ok);
    values->using_.tag = FFI_NONE;
    if (job->method != NULL) {
        values->using_.tag = FFI_SOME;
        values->using_.u.some = own_bytes(job->method, strlen(job->method), &ok);
    }
    FfiCancellationToken token;
    if (ok && job->cancel != NULL) {
        ok = mr_host_token_new(&token, job->cancel);
        if (ok) host->plugin.vtable->set_cancellation_token(host->plugin.state, token);
    }
    if (ok) return MR_OK;
    drop_bytes(values->args);
    drop_list(values->metadata);
    if (values->using_.tag == FFI_SOME) drop_bytes(values->using_.u.some);
    return mr_fail_nomem(err, job->n_args, "the job");
}

static void take_metadata(const mr_host_job *job, FfiKvPairList list) {
    for (size_t i = 0; job->on_metadata != NULL && i < list.len; i++) {
        const FfiKvPair *pair = &list.ptr[i];
        job->on_metadata(job->ctx, pair->key.ptr, pair->key.len, pair->value.ptr, pair->value.len);
    }
    drop_list(list);
}

mr_status mr_host_run(mr_host *host, const mr_host_job *job, mr_buf *result, mr_error *err) {
    job_values values;
    mr_status status = own_job(host, job, &values, err);
    if (status != MR_OK) return status;
    FfiFutureRun future = host->plugin.vtable->run(host->plugin.state, values.args, values.metadata, values.using_);
    FfiContext cx = mr_park_context(host->park);
    FfiPollRun poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) mr_park_wait(host->park);
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_PANICKED) return fail_panicked(err);
    take_metadata(job, poll.u.ready.metadata);
    if (poll.u.ready.result.tag == FFI_ERR) return take_error(poll.u.ready.result.u.err, job->cancel, err);
    FfiBytes bytes = poll.u.ready.result.u.ok;
    bool ok = mr_buf_append(result, bytes.ptr, bytes.len);
    size_t n = bytes.len;
    drop_bytes(bytes);
    return ok ? MR_OK : mr_fail_nomem(err, n, "the job's result");
}

/* The sink and its only send in flight; lives on the stack of mr_host_run_stream. */
typedef struct chunk_sink {
    const mr_host_job *job;
    FfiBytes bytes; /* of the send in flight */
    bool closed;
} chunk_sink;

static void take_bytes(chunk_sink *sink, FfiBytes *bytes) {
    *bytes = sink->bytes;
    sink->bytes = (FfiBytes){.ptr = (uint8_t *)&nothing, .drop_fn = free_bytes};
}

static FfiPollUnit send_poll(void *fut_ptr, FfiContext *cx) {
    (void)cx;
    chunk_sink *sink = fut_ptr;
    FfiPollUnit poll = {.tag = FFI_READY};
    FfiBytes bytes;
    take_bytes(sink, &bytes);
    if (!sink->closed) sink->closed = !sink->job->on_chunk(sink->job->ctx, bytes.ptr, bytes.len);
    if (sink->closed) {
        poll.u.ready.tag = FFI_ERR;
        poll.u.ready.u.err = bytes;
        return poll;
    }
    poll.u.ready.tag = FFI_OK;
    drop_bytes(bytes);
    return poll;
}

static void send_drop(void *fut_ptr) {
    FfiBytes bytes;
    take_bytes(fut_ptr, &bytes);
    drop_bytes(bytes);
}

static FfiFutureUnit sink_send(void *state, FfiBytes bytes) {
    chunk_sink *sink = state;
    sink->bytes = bytes;
    return (FfiFutureUnit){.fut_ptr = sink, .poll_fn = send_poll, .drop_fn = send_drop};
}

static void sink_drop(void *state) {
    (void)state;
}

mr_status mr_host_run_stream(mr_host *host, const mr_host_job *job, mr_error *err) {
    job_values values;
    mr_status status = own_job(host, job, &values, err);
    if (status != MR_OK) return status;
    chunk_sink state = {.job = job};
    OutputSink sink = {.state = &state, .send = sink_send, .drop_state = sink_drop};
    const PluginVtable *vtable = host->plugin.vtable;
    FfiFutureStream future = vtable->run_stream(host->plugin.state, values.args, values.metadata, values.using_, sink);
    FfiContext cx = mr_park_context(host->park);
    FfiPollStream poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) mr_park_wait(host->park);
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_PANICKED) return fail_panicked(err);
    if (poll.u.ready.tag == FFI_ERR) return take_error(poll.u.ready.u.err, job->cancel, err);
    take_metadata(job, poll.u.ready.u.ok);
    return MR_OK;
}
