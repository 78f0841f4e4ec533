#include "service/pb_fields.h"

#include <string.h>

/* Where the field is in the struct, or NULL; *has is where its presence is kept (NULL for texts: they are pointers). */
static void *find(const ProtobufCMessage *message, const char *name, ProtobufCType type, protobuf_c_boolean **has) {
    if (message == NULL) return NULL;
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    if (field == NULL || field->type != type || field->label != PROTOBUF_C_LABEL_OPTIONAL) return NULL;
    char *base = (char *)message;
    *has = type == PROTOBUF_C_TYPE_STRING ? NULL : (protobuf_c_boolean *)(base + field->quantifier_offset);
    return base + field->offset;
}

static bool get(const ProtobufCMessage *message, const char *name, ProtobufCType type, void *value, size_t n) {
    protobuf_c_boolean *has;
    const void *field = find(message, name, type, &has);
    if (field == NULL || !*has) return false;
    memcpy(value, field, n);
    return true;
}

bool mr_pb_get_bool(const ProtobufCMessage *message, const char *name, bool *value) {
    protobuf_c_boolean raw;
    if (!get(message, name, PROTOBUF_C_TYPE_BOOL, &raw, sizeof raw)) return false;
    *value = raw != 0;
    return true;
}

bool mr_pb_get_int32(const ProtobufCMessage *message, const char *name, int32_t *value) {
    return get(message, name, PROTOBUF_C_TYPE_INT32, value, sizeof *value);
}

bool mr_pb_get_float(const ProtobufCMessage *message, const char *name, float *value) {
    return get(message, name, PROTOBUF_C_TYPE_FLOAT, value, sizeof *value);
}

bool mr_pb_get_string(const ProtobufCMessage *message, const char *name, const char **value) {
    protobuf_c_boolean *has;
    char *const *field = find(message, name, PROTOBUF_C_TYPE_STRING, &has);
    if (field == NULL || *field == NULL) return false;
    *value = *field;
    return true;
}

static void set(ProtobufCMessage *message, const char *name, ProtobufCType type, const void *value, size_t n) {
    protobuf_c_boolean *has;
    void *field = find(message, name, type, &has);
    if (field == NULL) return;
    memcpy(field, value, n);
    if (has != NULL) *has = 1;
}

void mr_pb_set_uint32(ProtobufCMessage *message, const char *name, uint32_t value) {
    set(message, name, PROTOBUF_C_TYPE_UINT32, &value, sizeof value);
}

void mr_pb_set_float(ProtobufCMessage *message, const char *name, float value) {
    set(message, name, PROTOBUF_C_TYPE_FLOAT, &value, sizeof value);
}

void mr_pb_set_string(ProtobufCMessage *message, const char *name, const char *value) {
    set(message, name, PROTOBUF_C_TYPE_STRING, &value, sizeof value);
}
