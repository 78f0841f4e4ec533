/* Wire format: https://protobuf.dev/programming-guides/encoding/ */
#include "service/pb_wire.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_COUNTED_FIELDS = 32, WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* The path of the field that is being read, for error texts. */
typedef struct field_path {
    char text[192];
    size_t len;
} field_path;

typedef struct reader {
    const uint8_t *pos;
    const uint8_t *end;
    field_path *path;
    mr_error *err;
    const char *message_name;
} reader;

static mr_status bad(const reader *in, const char *what) {
    if (in->path->len == 0) {
        return mr_fail(in->err, MR_ERR_INVALID, "the bytes are no %s message: %s", in->message_name, what);
    }
    return mr_fail(in->err, MR_ERR_INVALID, "the bytes are no %s message: at %s, %s", in->message_name, in->path->text,
                   what);
}

/* Appends ".name" or ".name[index]"; returns the former length for path_pop. */
static size_t path_push(field_path *path, const char *name, bool repeated, unsigned index) {
    size_t before = path->len;
    int n = repeated ? snprintf(path->text + before, sizeof path->text - before, "%s%s[%u]", before > 0 ? "." : "",
                                name, index)
                     : snprintf(path->text + before, sizeof path->text - before, "%s%s", before > 0 ? "." : "", name);
    if (n > 0) path->len = before + (size_t)n;
    if (path->len >= sizeof path->text) path->len = sizeof path->text - 1;
    return before;
}

static void path_pop(field_path *path, size_t before) {
    path->len = before;
    path->text[before] = '\0';
}

static bool read_varint(reader *in, uint64_t *value) {
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 70 && in->pos < in->end; shift += 7) {
        uint8_t byte = *in->pos++;
        if (shift == 63 && byte > 1) return false;
        result |= (uint64_t)(byte & 0x7F) << shift;
        if ((byte & 0x80) == 0) {
            *value = result;
            return true;
        }
    }
    return false;
}

static bool skip_bytes(reader *in, uint64_t n) {
    if (n > (uint64_t)(in->end - in->pos)) return false;
    in->pos += n;
    return true;
}

/* The wire type that a single value of this type has. */
static unsigned wire_type_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

/* Steps over one value of a scalar wire type. */
static mr_status skip_scalar(reader *in, unsigned wire) {
    uint64_t value;
    bool ok = wire == WIRE_VARINT ? read_varint(in, &value) : skip_bytes(in, wire == WIRE_64 ? 8 : 4);
    return ok ? MR_OK : bad(in, "the value is cut off or no number");
}

static mr_status check_message(reader *in, const ProtobufCMessageDescriptor *type, unsigned depth);

static mr_status check_packed(reader *in, unsigned wire) {
    while (in->pos < in->end) {
        mr_status status = skip_scalar(in, wire);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* A value with a length in front: string, bytes, message or packed numbers. */
static mr_status check_bytes_field(reader *in, const ProtobufCFieldDescriptor *field, unsigned depth) {
    uint64_t n;
    if (!read_varint(in, &n) || n > (uint64_t)(in->end - in->pos)) return bad(in, "the value is cut off");
    reader inner = *in;
    inner.end = in->pos + n;
    in->pos += n;
    if (field == NULL || field->type == PROTOBUF_C_TYPE_BYTES) return MR_OK;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return check_message(&inner, field->descriptor, depth + 1);
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        if (memchr(inner.pos, '\0', (size_t)n) != NULL) return bad(in, "the text holds a NUL character");
        if (!mr_utf8_valid((const char *)inner.pos, (size_t)n)) return bad(in, "the text is not valid UTF-8");
        return MR_OK;
    }
    return check_packed(&inner, wire_type_of(field->type));
}

static mr_status check_value(reader *in, const ProtobufCFieldDescriptor *field, unsigned wire, unsigned depth) {
    if (field != NULL && wire != wire_type_of(field->type)) {
        bool packed = wire == WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED;
        if (!packed) return bad(in, "the value is of another type (wire type) than this field");
    }
    switch (wire) {
    case WIRE_VARINT:
    case WIRE_64:
    case WIRE_32:
        return skip_scalar(in, wire);
    case WIRE_BYTES:
        return check_bytes_field(in, field, depth);
    default:
        return bad(in, "there is a field of an unknown wire type");
    }
}

static mr_status check_message(reader *in, const ProtobufCMessageDescriptor *type, unsigned depth) {
    unsigned counts[MAX_COUNTED_FIELDS] = {0};
    if (depth > MAX_DEPTH) return bad(in, "messages are nested too deeply");
    while (in->pos < in->end) {
        uint64_t tag;
        if (!read_varint(in, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
            return bad(in, "there is a malformed field tag");
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        size_t before = in->path->len;
        if (field != NULL) {
            size_t index = (size_t)(field - type->fields);
            bool counted = field->label == PROTOBUF_C_LABEL_REPEATED && index < MAX_COUNTED_FIELDS;
            path_push(in->path, field->name, counted, counted ? counts[index]++ : 0);
        }
        mr_status status = check_value(in, field, (unsigned)(tag & 7), depth);
        if (status != MR_OK) return status;
        path_pop(in->path, before);
    }
    return MR_OK;
}

mr_status mr_pb_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n, mr_error *err) {
    if (n > MR_PB_MAX_BYTES) {
        return mr_fail(err, MR_ERR_LIMIT, "the %s message has %zu bytes; at most %d are read", type->short_name, n,
                       (int)MR_PB_MAX_BYTES);
    }
    if (n == 0) return MR_OK;
    field_path path = {0};
    reader in = {.pos = bytes, .end = bytes + n, .path = &path, .err = err, .message_name = type->short_name};
    return check_message(&in, type, 0);
}

static void *arena_alloc(void *arena, size_t size) {
    return mr_arena_alloc(arena, size);
}

static void arena_release(void *arena, void *piece) {
    (void)arena;
    (void)piece;
}

mr_status mr_pb_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n, mr_arena *arena,
                       ProtobufCMessage **message, mr_error *err) {
    mr_status status = mr_pb_check(type, bytes, n, err);
    if (status != MR_OK) return status;
    arena->max_bytes = MR_PB_MAX_DECODED_BYTES;
    ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_release, .allocator_data = arena};
    static const uint8_t nothing[1] = {0};
    *message = protobuf_c_message_unpack(type, &allocator, n, n > 0 ? bytes : nothing);
    if (*message == NULL) {
        return mr_fail(err, MR_ERR_NOMEM, "the %s message of %zu bytes takes more than %d bytes of memory to decode",
                       type->short_name, n, (int)MR_PB_MAX_DECODED_BYTES);
    }
    return MR_OK;
}

bool mr_pb_pack(const ProtobufCMessage *message, mr_buf *bytes) {
    size_t n = protobuf_c_message_get_packed_size(message);
    if (!mr_buf_reserve(bytes, n)) return false;
    bytes->len += protobuf_c_message_pack(message, (uint8_t *)bytes->data + bytes->len);
    bytes->data[bytes->len] = '\0';
    return true;
}
