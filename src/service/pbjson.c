#include "service/pbjson.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- base64 --- */

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool mr_base64_decode(const char *text, size_t len, mr_buf *bytes) {
    for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++) len--;
    if (len % 4 == 1) return false;
    uint32_t bits = 0;
    unsigned n_bits = 0;
    for (size_t i = 0; i < len; i++) {
        int value = base64_value(text[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        if (!mr_buf_putc(bytes, (char)(bits >> n_bits & 0xFF))) return false;
    }
    return true;
}

bool mr_base64_encode(const void *bytes, size_t n, mr_buf *text) {
    static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16;
        if (i + 1 < n) bits |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < n) bits |= in[i + 2];
        char quad[4] = {ALPHABET[bits >> 18], ALPHABET[bits >> 12 & 63], ALPHABET[bits >> 6 & 63], ALPHABET[bits & 63]};
        if (i + 1 >= n) quad[2] = '=';
        if (i + 2 >= n) quad[3] = '=';
        mr_buf_append(text, quad, sizeof quad);
    }
    return !text->failed;
}

/* --- JSON to message --- */

typedef struct builder {
    mr_arena *arena;
    mr_error *err;
    char path[192]; /* of the field at hand, for error texts */
    size_t path_len;
} builder;

static mr_status bad(const builder *b, const char *what) {
    return mr_fail(b->err, MR_ERR_INVALID, "%s: %s", b->path_len > 0 ? b->path : "the JSON", what);
}

static mr_status no_memory(const builder *b) {
    return mr_fail(b->err, MR_ERR_NOMEM, "%s: the message takes too much memory",
                   b->path_len > 0 ? b->path : "the JSON");
}

/* Appends ".name", or "[index]" when name is NULL; returns the former length for path_pop. */
static size_t path_push(builder *b, const char *name, size_t index) {
    size_t before = b->path_len, room = sizeof b->path - before;
    int n = name != NULL ? snprintf(b->path + before, room, "%s%s", before > 0 ? "." : "", name)
                         : snprintf(b->path + before, room, "[%zu]", index);
    if (n > 0) b->path_len = (size_t)n < room ? before + (size_t)n : sizeof b->path - 1;
    return before;
}

static void path_pop(builder *b, size_t before) {
    b->path_len = before;
    b->path[before] = '\0';
}

/* Whether `key` is the field's name, as written in the .proto file or in lowerCamelCase. */
static bool names_field(const char *key, const char *name) {
    if (strcmp(key, name) == 0) return true;
    while (*name != '\0') {
        char c = *name++;
        if (c == '_') {
            if (*name == '\0') break;
            c = (char)toupper((unsigned char)*name++);
        }
        if (*key++ != c) return false;
    }
    return *key == '\0';
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, const char *key) {
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (names_field(key, type->fields[i].name)) return &type->fields[i];
    }
    return NULL;
}

/* An integer given as a number, as a number without a fraction, or as a decimal string. */
static bool json_to_integer(const json_t *json, bool is_signed, int64_t *i64, uint64_t *u64) {
    if (json_is_integer(json)) {
        json_int_t value = json_integer_value(json);
        *i64 = value;
        *u64 = (uint64_t)value;
        return is_signed || value >= 0;
    }
    if (json_is_real(json)) {
        double value = json_real_value(json);
        if (value != floor(value) || fabs(value) > 9007199254740992.0 || (!is_signed && value < 0)) return false;
        *i64 = (int64_t)value;
        *u64 = (uint64_t)*i64;
        return true;
    }
    const char *text = json_string_value(json);
    if (text == NULL || *text == '\0' || isspace((unsigned char)*text) || *text == '+') return false;
    if (!is_signed && *text == '-') return false;
    char *end;
    errno = 0;
    if (is_signed)
        *i64 = strtoll(text, &end, 10);
    else
        *u64 = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static mr_status set_integer(builder *b, const ProtobufCFieldDescriptor *field, const json_t *json, void *member) {
    int64_t i64 = 0;
    uint64_t u64 = 0;
    bool is_signed = true, wide = false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        wide = true; /* fallthrough */
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        is_signed = false;
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        wide = true;
        break;
    default:
        break;
    }
    if (!json_to_integer(json, is_signed, &i64, &u64)) {
        return bad(b, is_signed ? "an integer is needed here" : "an integer that is not negative is needed here");
    }
    if (wide) {
        memcpy(member, is_signed ? (void *)&i64 : (void *)&u64, 8);
        return MR_OK;
    }
    if (is_signed ? i64 < INT32_MIN || i64 > INT32_MAX : u64 > UINT32_MAX) {
        return bad(b, "the number is too large for this field (32 bits)");
    }
    uint32_t narrow = is_signed ? (uint32_t)(int32_t)i64 : (uint32_t)u64;
    memcpy(member, &narrow, 4);
    return MR_OK;
}

static bool json_to_real(const json_t *json, double *value) {
    if (json_is_number(json)) {
        *value = json_number_value(json);
        return true;
    }
    const char *text = json_string_value(json);
    if (text == NULL || *text == '\0' || isspace((unsigned char)*text)) return false;
    if (strcmp(text, "NaN") == 0)
        *value = NAN;
    else if (strcmp(text, "Infinity") == 0)
        *value = INFINITY;
    else if (strcmp(text, "-Infinity") == 0)
        *value = -INFINITY;
    else {
        if (strspn(text, "+-.0123456789eE") != strlen(text)) return false;
        char *end;
        *value = strtod(text, &end);
        return *end == '\0';
    }
    return true;
}

static mr_status set_real(builder *b, const ProtobufCFieldDescriptor *field, const json_t *json, void *member) {
    double value;
    if (!json_to_real(json, &value)) return bad(b, "a number is needed here");
    if (field->type == PROTOBUF_C_TYPE_DOUBLE) {
        memcpy(member, &value, sizeof value);
        return MR_OK;
    }
    float narrow = (float)value;
    if (isinf(narrow) && !isinf(value)) return bad(b, "the number is too large for this field (32-bit float)");
    memcpy(member, &narrow, sizeof narrow);
    return MR_OK;
}

static mr_status set_enum(builder *b, const ProtobufCFieldDescriptor *field, const json_t *json, void *member) {
    const ProtobufCEnumDescriptor *type = field->descriptor;
    if (!json_is_string(json)) return set_integer(b, field, json, member);
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value_by_name(type, json_string_value(json));
    if (value != NULL) {
        int32_t number = value->value;
        memcpy(member, &number, sizeof number);
        return MR_OK;
    }
    mr_buf names = {0};
    for (unsigned i = 0; i < type->n_values; i++)
        mr_buf_printf(&names, "%s%s", i > 0 ? ", " : "", type->values[i].name);
    mr_status status = mr_fail(b->err, MR_ERR_INVALID, "%s: \"%.64s\" is no %s; use one of %s", b->path,
                               json_string_value(json), type->short_name, mr_buf_cstr(&names));
    mr_buf_free(&names);
    return status;
}

static mr_status set_text(builder *b, const ProtobufCFieldDescriptor *field, const json_t *json, void *member) {
    if (!json_is_string(json)) return bad(b, "a string is needed here");
    size_t len = json_string_length(json);
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *copy = mr_arena_strndup(b->arena, json_string_value(json), len);
        if (copy == NULL) return no_memory(b);
        memcpy(member, &copy, sizeof copy);
        return MR_OK;
    }
    mr_buf bytes = {0};
    if (!mr_base64_decode(json_string_value(json), len, &bytes)) {
        mr_buf_free(&bytes);
        return bad(b, "the text is no base64");
    }
    ProtobufCBinaryData data = {.len = bytes.len};
    data.data = (uint8_t *)mr_arena_strndup(b->arena, mr_buf_cstr(&bytes), bytes.len);
    mr_buf_free(&bytes);
    if (data.data == NULL) return no_memory(b);
    memcpy(member, &data, sizeof data);
    return MR_OK;
}

static mr_status build_message(builder *b, const ProtobufCMessageDescriptor *type, json_t *json,
                               ProtobufCMessage **message);

/* Stores one value at `member`. */
static mr_status set_value(builder *b, const ProtobufCFieldDescriptor *field, json_t *json, void *member) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *inner;
        mr_status status = build_message(b, field->descriptor, json, &inner);
        if (status == MR_OK) memcpy(member, &inner, sizeof inner);
        return status;
    }
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        return set_text(b, field, json, member);
    case PROTOBUF_C_TYPE_ENUM:
        return set_enum(b, field, json, member);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return set_real(b, field, json, member);
    case PROTOBUF_C_TYPE_BOOL: {
        if (!json_is_boolean(json)) return bad(b, "true or false is needed here");
        protobuf_c_boolean value = json_is_true(json);
        memcpy(member, &value, sizeof value);
        return MR_OK;
    }
    default:
        return set_integer(b, field, json, member);
    }
}

/* Bytes that one value takes in the C structure or in a repeated field's array. */
static size_t value_size(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static mr_status set_repeated(builder *b, const ProtobufCFieldDescriptor *field, json_t *json, char *message) {
    if (!json_is_array(json)) return bad(b, "an array is needed here");
    size_t n = json_array_size(json), size = value_size(field->type);
    char *items = mr_arena_calloc(b->arena, n, size);
    if (items == NULL) return no_memory(b);
    for (size_t i = 0; i < n; i++) {
        size_t before = path_push(b, NULL, i);
        mr_status status = set_value(b, field, json_array_get(json, i), items + i * size);
        if (status != MR_OK) return status;
        path_pop(b, before);
    }
    memcpy(message + field->offset, &items, sizeof items);
    memcpy(message + field->quantifier_offset, &n, sizeof n);
    return MR_OK;
}

/* The presence mark of a field that is no repeated one: a oneof's case, or the has_ member of an optional number. */
static void mark_present(const ProtobufCFieldDescriptor *field, char *message) {
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        memcpy(message + field->quantifier_offset, &field->id, sizeof field->id);
    } else if (field->quantifier_offset != 0) {
        protobuf_c_boolean yes = 1;
        memcpy(message + field->quantifier_offset, &yes, sizeof yes);
    }
}

static mr_status set_field(builder *b, const ProtobufCFieldDescriptor *field, json_t *json, char *message) {
    if (field->label == PROTOBUF_C_LABEL_REPEATED) return set_repeated(b, field, json, message);
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t chosen;
        memcpy(&chosen, message + field->quantifier_offset, sizeof chosen);
        if (chosen != 0) {
            const ProtobufCMessageDescriptor *type = ((ProtobufCMessage *)(void *)message)->descriptor;
            return mr_fail(b->err, MR_ERR_INVALID, "%s: only one of these can be given, and \"%s\" is there already",
                           b->path, protobuf_c_message_descriptor_get_field(type, chosen)->name);
        }
    }
    mr_status status = set_value(b, field, json, message + field->offset);
    if (status == MR_OK) mark_present(field, message);
    return status;
}

static mr_status build_message(builder *b, const ProtobufCMessageDescriptor *type, json_t *json,
                               ProtobufCMessage **message) {
    if (!json_is_object(json)) return bad(b, "an object is needed here");
    char *memory = mr_arena_alloc(b->arena, type->sizeof_message);
    bool *given = mr_arena_calloc(b->arena, type->n_fields, sizeof *given);
    if (memory == NULL || given == NULL) return no_memory(b);
    protobuf_c_message_init(type, memory);
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        const ProtobufCFieldDescriptor *field = find_field(type, key);
        size_t before = path_push(b, key, 0);
        if (field == NULL) {
            return mr_fail(b->err, MR_ERR_INVALID, "%s: %s has no such field", b->path, type->short_name);
        }
        if (json_is_null(value)) {
            path_pop(b, before);
            continue;
        }
        if (given[field - type->fields]) return bad(b, "the field is given twice, in snake_case and in camelCase");
        given[field - type->fields] = true;
        mr_status status = set_field(b, field, value, memory);
        if (status != MR_OK) return status;
        path_pop(b, before);
    }
    *message = (ProtobufCMessage *)(void *)memory;
    return MR_OK;
}

mr_status mr_pb_from_json(const ProtobufCMessageDescriptor *type, json_t *json, mr_arena *arena,
                          ProtobufCMessage **message, mr_error *err) {
    builder b = {.arena = arena, .err = err};
    return build_message(&b, type, json, message);
}

/* --- message to JSON --- */

/* The shortest decimal that reads back as the same float, as a double: 0.1f shows as 0.1 and not as 0.100000001. */
static json_t *real_to_json(double value, bool is_float) {
    if (isnan(value)) return json_string("NaN");
    if (isinf(value)) return json_string(value > 0 ? "Infinity" : "-Infinity");
    for (int digits = 1; is_float && digits <= 9; digits++) {
        char text[32];
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) return json_real(strtod(text, NULL));
    }
    return json_real(value);
}

static json_t *wide_to_json(const void *member, bool is_signed) {
    char text[32];
    int64_t i64;
    uint64_t u64;
    memcpy(&i64, member, sizeof i64);
    memcpy(&u64, member, sizeof u64);
    if (is_signed)
        snprintf(text, sizeof text, "%lld", (long long)i64);
    else
        snprintf(text, sizeof text, "%llu", (unsigned long long)u64);
    return json_string(text);
}

static json_t *bytes_to_json(const ProtobufCBinaryData *data) {
    mr_buf text = {0};
    json_t *json = mr_base64_encode(data->data, data->len, &text) ? json_string(mr_buf_cstr(&text)) : NULL;
    mr_buf_free(&text);
    return json;
}

static json_t *message_to_json(const ProtobufCMessage *message);

static json_t *value_to_json(const ProtobufCFieldDescriptor *field, const void *member) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_to_json(*(ProtobufCMessage *const *)member);
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(char *const *)member);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_to_json(member);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)member);
    case PROTOBUF_C_TYPE_FLOAT:
        return real_to_json((double)*(const float *)member, true);
    case PROTOBUF_C_TYPE_DOUBLE:
        return real_to_json(*(const double *)member, false);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return wide_to_json(member, false);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return wide_to_json(member, true);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)member);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *value =
            protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int32_t *)member);
        if (value != NULL) return json_string(value->name);
    } /* fallthrough */
    default:
        return json_integer(*(const int32_t *)member);
    }
}

static json_t *repeated_to_json(const ProtobufCFieldDescriptor *field, const char *message) {
    size_t n;
    const char *items;
    memcpy(&n, message + field->quantifier_offset, sizeof n);
    memcpy(&items, message + field->offset, sizeof items);
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < n; i++) {
        if (json_array_append_new(array, value_to_json(field, items + i * value_size(field->type))) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static bool is_present(const ProtobufCFieldDescriptor *field, const char *message) {
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n;
        memcpy(&n, message + field->quantifier_offset, sizeof n);
        return n > 0;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t chosen;
        memcpy(&chosen, message + field->quantifier_offset, sizeof chosen);
        return chosen == field->id;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING) {
        const void *pointer;
        memcpy(&pointer, message + field->offset, sizeof pointer);
        return pointer != NULL && pointer != field->default_value;
    }
    protobuf_c_boolean has;
    memcpy(&has, message + field->quantifier_offset, sizeof has);
    return has;
}

static json_t *message_to_json(const ProtobufCMessage *message) {
    const ProtobufCMessageDescriptor *type = message->descriptor;
    const char *memory = (const char *)message;
    json_t *object = json_object();
    for (unsigned i = 0; object != NULL && i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (!is_present(field, memory)) continue;
        json_t *value = field->label == PROTOBUF_C_LABEL_REPEATED ? repeated_to_json(field, memory)
                                                                  : value_to_json(field, memory + field->offset);
        if (json_object_set_new(object, field->name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

mr_status mr_pb_to_json(const ProtobufCMessage *message, json_t **json, mr_error *err) {
    *json = message_to_json(message);
    return *json != NULL ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "there is no memory for the result as JSON");
}
