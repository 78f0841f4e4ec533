/* Jobs of the real service through the plugin's vtable, for the tests and the soak: messages from JSON, an instance
 * with an executor, runs and streams. Static functions over fake_host.c, which the includer includes first. */
#ifndef MR_TESTS_PLUGIN_JOBS_H
#define MR_TESTS_PLUGIN_JOBS_H

#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "completion_args.pb-c.h"
#include "plugin/instance.h"
#include "service/pb_wire.h"
#include "service/pbjson.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends the message that the JSON text describes. */
static void encode(const ProtobufCMessageDescriptor *type, const char *text, mr_buf *bytes) {
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message = NULL;
    json_t *json = json_loads(text, 0, NULL);
    if (json == NULL) abort();
    bool ok = mr_pb_from_json(type, json, &arena, &message, &err) == MR_OK && mr_pb_pack(message, bytes);
    if (!ok) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    json_decref(json);
    mr_arena_free(&arena);
}

typedef struct bench {
    PluginInstanceRaw plugin;
    const PluginVtable *vtable;
    fake_executor executor;
} bench;

static bool load(bench *self) {
    FfiContext cx = fake_context(&self->executor);
    FfiFutureUnit future = self->vtable->load(self->plugin.state, fake_text(""));
    FfiPollUnit poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self->executor);
    future.drop_fn(future.fut_ptr);
    if (poll.u.ready.tag == FFI_OK) return true;
    fprintf(stderr, "%.*s\n", (int)poll.u.ready.u.err.len, (const char *)poll.u.ready.u.err.ptr);
    fake_drop_bytes(poll.u.ready.u.err);
    return false;
}

static void open_bench(bench *self) {
    self->plugin = mr_instance_new();
    self->vtable = self->plugin.vtable;
    fake_executor_init(&self->executor);
}

static void close_bench(bench *self) {
    self->vtable->drop_state(self->plugin.state);
    fake_executor_free(&self->executor);
}

static FfiBytes args_of(const mr_buf *args) {
    return fake_bytes(args->data, args->len);
}

static FfiFutureRun start_run(bench *self, const mr_buf *args, const char *method) {
    return self->vtable->run(self->plugin.state, args_of(args), fake_metadata(NULL, 0), fake_some(method));
}

static FfiFutureStream start_stream(bench *self, const mr_buf *args, const char *method, fake_sink *sink) {
    return self->vtable->run_stream(self->plugin.state, args_of(args), fake_metadata(NULL, 0), fake_some(method),
                                    fake_sink_raw(sink));
}

/* The text of an encoded chat result; allocated. */
static char *text_of(const void *bytes, size_t n) {
    Jobworkerp__Runner__Llm__LLMChatResult *result = jobworkerp__runner__llm__llmchat_result__unpack(NULL, n, bytes);
    if (result == NULL) abort();
    char *text = strdup(result->content != NULL && result->content->text != NULL ? result->content->text : "");
    jobworkerp__runner__llm__llmchat_result__free_unpacked(result, NULL);
    return text;
}

#endif
