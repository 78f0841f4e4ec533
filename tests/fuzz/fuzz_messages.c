/* The messages on the wire: the first byte chooses the kind, the rest is the encoded message, or JSON to make one of.
 * What decodes is turned into JSON, into a conversation or into settings, and encoded again. */
#define _POSIX_C_SOURCE 200809L
#include "service/messages.h"
#include "service/pb_wire.h"
#include "service/pbjson.h"
#include "service/settings.h"

#include "base/log.h"
#include "chat_args.pb-c.h"
#include "completion_args.pb-c.h"
#include "settings.pb-c.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const TYPES[] = {
    &jobworkerp__runner__llm__llmchat_args__descriptor,
    &jobworkerp__runner__llm__llmcompletion_args__descriptor,
    &jobworkerp__runner__llm__local_runner_settings__descriptor,
};

/* A refusal must say something. */
static void check_sentence(mr_status status, const mr_error *err) {
    if (status != MR_OK && err->text[0] == '\0') abort();
}

/* What was decoded can be written as JSON, and that reads back as the same message. */
static void round_trip(const ProtobufCMessage *message) {
    mr_error err = {0};
    json_t *json = NULL;
    mr_arena arena = {0};
    ProtobufCMessage *again;
    mr_buf before = {0}, after = {0};
    if (mr_pb_to_json(message, &json, &err) == MR_OK &&
        mr_pb_from_json(message->descriptor, json, &arena, &again, &err) == MR_OK && mr_pb_pack(message, &before) &&
        mr_pb_pack(again, &after) && message->n_unknown_fields == 0 && after.len > before.len) {
        abort();
    }
    json_decref(json);
    mr_arena_free(&arena);
    mr_buf_free(&before);
    mr_buf_free(&after);
}

static void use(const ProtobufCMessage *message, unsigned kind) {
    mr_error err = {0};
    if (kind == 0) {
        json_t *messages = NULL;
        check_sentence(mr_messages_from_chat((const mr_pb_chat_args *)message, &messages, &err), &err);
        json_decref(messages);
    }
    round_trip(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mr_log_set_filter("off");
    setenv("HF_HUB_OFFLINE", "1", 1); /* a model's name must not reach the network */
    if (size == 0) return 0;
    unsigned kind = data[0] % 3;
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message = NULL;
    mr_status status = MR_ERR_INVALID;
    if (data[0] & 0x80) {
        json_t *json = json_loadb((const char *)data + 1, size - 1, 0, NULL);
        if (json != NULL) {
            status = mr_pb_from_json(TYPES[kind], json, &arena, &message, &err);
            check_sentence(status, &err);
        }
        json_decref(json);
    } else {
        status = mr_pb_unpack(TYPES[kind], data + 1, size - 1, &arena, &message, &err);
        check_sentence(status, &err);
        mr_settings settings;
        mr_error settings_err = {0};
        if (kind == 2 && mr_settings_decode(&settings, data + 1, size - 1, NULL, &settings_err) == MR_OK) {
            mr_settings_free(&settings);
        }
    }
    if (status == MR_OK) use(message, kind);
    mr_arena_free(&arena);
    return 0;
}
