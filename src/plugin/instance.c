#include "plugin/instance.h"

#include "plugin/futures.h"
#include "plugin/token.h"
#include "plugin/values.h"
#include "service/service.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MR_LOG_TARGET "mistral_runner::plugin"
#include "base/log.h"

typedef struct instance {
    mr_service *service;
    pthread_mutex_t lock;
    mr_token token; /* guarded by lock: for the next run */
} instance;

static FfiBytes plugin_name(void *state) {
    (void)state;
    return mr_bytes_from_text(mr_service_name());
}

static FfiBytes plugin_description(void *state) {
    (void)state;
    return mr_bytes_from_text(mr_service_description());
}

static FfiBytes plugin_settings_proto(void *state) {
    (void)state;
    return mr_bytes_from_text(mr_service_settings_proto());
}

static FfiBytes plugin_settings_schema(void *state) {
    (void)state;
    return mr_bytes_from_text(mr_service_settings_schema());
}

/* Method name -> encoded schema. A map that can't be made for want of memory is empty. */
static FfiKvPairList method_map(bool (*encode)(const mr_service_method *method, mr_buf *bytes)) {
    size_t n = 0;
    const mr_service_method *methods = mr_service_methods(&n);
    FfiKvPairList list = mr_kv_list_new(n);
    bool ok = list.cap >= n;
    for (size_t i = 0; ok && i < n; i++) {
        mr_buf bytes = {0};
        ok = encode(&methods[i], &bytes) && !bytes.failed;
        if (!ok) {
            mr_buf_free(&bytes);
            break;
        }
        list.ptr[list.len++] = (FfiKvPair){.key = mr_bytes_copy(methods[i].name, strlen(methods[i].name), &ok),
                                           .value = mr_bytes_from_buf(&bytes)};
    }
    if (!ok) {
        MR_ERROR("out of memory: the method map could not be made");
        mr_kv_list_drop(&list);
    }
    return list;
}

static FfiKvPairList plugin_method_proto_map(void *state) {
    (void)state;
    return method_map(mr_service_encode_method_schema);
}

static FfiKvPairList plugin_method_json_schema_map(void *state) {
    (void)state;
    return method_map(mr_service_encode_method_json_schema);
}

static bool plugin_supports_client_stream(void *state, FfiOptionBytes using_) {
    (void)state;
    mr_option_bytes_drop(using_);
    return false;
}

static FfiBytes plugin_client_stream_data_proto(void *state, FfiOptionBytes using_) {
    (void)state;
    mr_option_bytes_drop(using_);
    return mr_bytes_empty();
}

static FfiOptionSink plugin_setup_client_stream(void *state, FfiOptionBytes using_) {
    (void)state;
    mr_option_bytes_drop(using_);
    return (FfiOptionSink){.tag = FFI_NONE};
}

static FfiOptionSinkWithFinal plugin_setup_client_stream_v2(void *state, FfiOptionBytes using_) {
    (void)state;
    mr_option_bytes_drop(using_);
    return (FfiOptionSinkWithFinal){.tag = FFI_NONE};
}

/* Puts a token in the slot for the next run and returns the one that was there. */
static mr_token swap_token(instance *self, mr_token token) {
    pthread_mutex_lock(&self->lock);
    mr_token old = self->token;
    self->token = token;
    pthread_mutex_unlock(&self->lock);
    return old;
}

static void plugin_set_cancellation_token(void *state, FfiCancellationToken token) {
    mr_token old = swap_token(state, mr_token_own(token));
    mr_token_release(&old);
}

static FfiFutureUnit plugin_load(void *state, FfiBytes settings) {
    return mr_load_future(((instance *)state)->service, settings);
}

static FfiFutureRun plugin_run(void *state, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes using_) {
    instance *self = state;
    return mr_run_future(self->service, swap_token(self, (mr_token){0}), args, metadata, using_);
}

static FfiFutureStream plugin_run_stream(void *state, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes using_,
                                         OutputSink sink) {
    instance *self = state;
    return mr_stream_future(self->service, swap_token(self, (mr_token){0}), args, metadata, using_, sink);
}

static void plugin_drop_state(void *state) {
    instance *self = state;
    if (self == NULL) return;
    mr_token_release(&self->token);
    mr_service_unref(self->service);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

static FfiResultBytes plugin_reserved(void *state) {
    (void)state;
    FfiResultBytes result = {.tag = FFI_ERR};
    result.u.err = mr_bytes_from_text("reserved");
    return result;
}

static const PluginVtable vtable = {
    .abi_version = MR_ABI_VERSION,
    .vtable_size = sizeof(PluginVtable),
    .name = plugin_name,
    .description = plugin_description,
    .runner_settings_proto = plugin_settings_proto,
    .settings_schema = plugin_settings_schema,
    .method_proto_map = plugin_method_proto_map,
    .method_json_schema_map = plugin_method_json_schema_map,
    .supports_client_stream = plugin_supports_client_stream,
    .client_stream_data_proto = plugin_client_stream_data_proto,
    .setup_client_stream_channel = plugin_setup_client_stream,
    .set_cancellation_token = plugin_set_cancellation_token,
    .load = plugin_load,
    .run = plugin_run,
    .run_stream = plugin_run_stream,
    .drop_state = plugin_drop_state,
    .reserved_method_0 = plugin_reserved,
    .setup_client_stream_channel_v2 = plugin_setup_client_stream_v2,
    .reserved_method_1 = plugin_reserved,
};

PluginInstanceRaw mr_instance_new(void) {
    PluginInstanceRaw raw = {.state = NULL, .vtable = &vtable};
    instance *self = calloc(1, sizeof *self);
    if (self == NULL) return raw;
    self->service = mr_service_new();
    if (self->service == NULL || pthread_mutex_init(&self->lock, NULL) != 0) {
        mr_service_unref(self->service);
        free(self);
        return raw;
    }
    raw.state = self;
    return raw;
}
