#include "service/pbschema.h"

#include "base/buf.h"

#include <ctype.h>
#include <string.h>

enum { MAX_NESTING = 16, MAX_NAME = 64 };

/* --- comments of a .proto text --- */

/* The names of the blocks around the line at hand; a oneof's is "" because it is no part of its fields' names. */
typedef struct scope {
    char names[MAX_NESTING][MAX_NAME];
    unsigned depth;
} scope;

static void scope_push(scope *s, const char *name, size_t len) {
    if (s->depth < MAX_NESTING && len < MAX_NAME) {
        memcpy(s->names[s->depth], name, len);
        s->names[s->depth][len] = '\0';
    }
    if (s->depth < MAX_NESTING) s->depth++;
}

/* Notes the comment under the full name of what follows it, and forgets it. */
static bool note(json_t *comments, const scope *s, const char *name, size_t len, mr_buf *comment) {
    mr_buf key = {0};
    for (unsigned i = 0; i < s->depth; i++) {
        if (s->names[i][0] != '\0') mr_buf_printf(&key, "%s.", s->names[i]);
    }
    mr_buf_append(&key, name, len);
    bool ok = !key.failed && !comment->failed;
    if (ok && comment->len > 0) {
        ok = json_object_set_new(comments, mr_buf_cstr(&key), json_string(mr_buf_cstr(comment))) == 0;
    }
    mr_buf_free(&key);
    mr_buf_clear(comment);
    return ok;
}

static bool starts_with_word(const char *line, const char *word) {
    size_t n = strlen(word);
    return strncmp(line, word, n) == 0 && line[n] == ' ';
}

/* The name in `… NAME = 7;`, or NULL. */
static const char *field_name(const char *line, size_t len, size_t *name_len) {
    const char *equals = memchr(line, '=', len);
    if (equals == NULL || equals == line) return NULL;
    const char *end = equals;
    while (end > line && end[-1] == ' ') end--;
    const char *begin = end;
    while (begin > line && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_')) begin--;
    *name_len = (size_t)(end - begin);
    return *name_len > 0 ? begin : NULL;
}

static bool scan_line(json_t *comments, scope *s, mr_buf *comment, const char *line, size_t len) {
    while (len > 0 && *line == ' ') line++, len--;
    if (len >= 2 && line[0] == '/' && line[1] == '/') {
        line += 2, len -= 2;
        while (len > 0 && *line == ' ') line++, len--;
        if (comment->len > 0) mr_buf_putc(comment, ' ');
        return mr_buf_append(comment, line, len);
    }
    bool is_oneof = starts_with_word(line, "oneof");
    if (is_oneof || starts_with_word(line, "message") || starts_with_word(line, "enum")) {
        const char *name = strchr(line, ' ') + 1;
        size_t name_len = strcspn(name, " {\n");
        bool ok = note(comments, s, name, name_len, comment);
        scope_push(s, name, is_oneof ? 0 : name_len);
        return ok;
    }
    if (len > 0 && *line == '}' && s->depth > 0) s->depth--;
    size_t name_len;
    const char *name = s->depth > 0 ? field_name(line, len, &name_len) : NULL;
    if (name != NULL) return note(comments, s, name, name_len, comment);
    mr_buf_clear(comment);
    return true;
}

json_t *mr_proto_comments(const char *proto_text) {
    json_t *comments = json_object();
    mr_buf comment = {0};
    scope s = {.depth = 0};
    bool ok = comments != NULL;
    for (const char *line = proto_text; ok && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        ok = scan_line(comments, &s, &comment, line, len);
        line += len + (line[len] == '\n');
    }
    mr_buf_free(&comment);
    if (ok) return comments;
    json_decref(comments);
    return NULL;
}

/* --- schemas --- */

/* A descriptor's full name without its package. */
static const char *local_name(const char *full, const char *package) {
    size_t n = strlen(package);
    return n > 0 && strncmp(full, package, n) == 0 && full[n] == '.' ? full + n + 1 : full;
}

static json_t *comment_of(json_t *comments, const char *type_name, const char *field) {
    mr_buf key = {0};
    mr_buf_printf(&key, field != NULL ? "%s.%s" : "%s", type_name, field);
    json_t *text = json_object_get(comments, mr_buf_cstr(&key));
    mr_buf_free(&key);
    return text;
}

static json_t *enum_schema(const ProtobufCEnumDescriptor *type) {
    json_t *names = json_array();
    for (unsigned i = 0; i < type->n_values; i++) json_array_append_new(names, json_string(type->values[i].name));
    return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

static json_t *message_schema(const ProtobufCMessageDescriptor *type, json_t *comments, unsigned depth);

static json_t *value_schema(const ProtobufCFieldDescriptor *field, json_t *comments, unsigned depth) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_schema(field->descriptor, comments, depth + 1);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_schema(field->descriptor);
    case PROTOBUF_C_TYPE_STRING:
        return json_pack("{s:s}", "type", "string");
    case PROTOBUF_C_TYPE_BYTES:
        return json_pack("{s:s, s:s}", "type", "string", "contentEncoding", "base64");
    case PROTOBUF_C_TYPE_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_pack("{s:s}", "type", "number");
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_pack("{s:s, s:i, s:I}", "type", "integer", "minimum", 0, "maximum", (json_int_t)UINT32_MAX);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return json_pack("{s:[s,s], s:s}", "type", "integer", "string", "pattern", "^-?[0-9]+$");
    default:
        return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)INT32_MIN, "maximum",
                         (json_int_t)INT32_MAX);
    }
}

static json_t *field_schema(const ProtobufCFieldDescriptor *field, json_t *comments, unsigned depth) {
    json_t *value = value_schema(field, comments, depth);
    if (field->label != PROTOBUF_C_LABEL_REPEATED) return value;
    return json_pack("{s:s, s:o}", "type", "array", "items", value);
}

static json_t *required_schema(const char *name) {
    return json_pack("{s:[s]}", "required", name);
}

/* "One of the fields of the oneof that `first` begins, or none": a oneOf over what must be there. */
static json_t *oneof_schema(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *first) {
    json_t *choices = json_array(), *any = json_array();
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) continue;
        if (field->quantifier_offset != first->quantifier_offset) continue;
        json_array_append_new(choices, required_schema(field->name));
        json_array_append_new(any, required_schema(field->name));
    }
    json_array_append_new(choices, json_pack("{s:{s:o}}", "not", "anyOf", any));
    return json_pack("{s:o}", "oneOf", choices);
}

/* Whether no earlier field belongs to the same oneof. */
static bool begins_oneof(const ProtobufCMessageDescriptor *type, unsigned at) {
    if ((type->fields[at].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) return false;
    for (unsigned i = 0; i < at; i++) {
        if ((type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            type->fields[i].quantifier_offset == type->fields[at].quantifier_offset) {
            return false;
        }
    }
    return true;
}

static json_t *message_schema(const ProtobufCMessageDescriptor *type, json_t *comments, unsigned depth) {
    const char *name = local_name(type->name, type->package_name);
    json_t *schema = json_pack("{s:s}", "type", "object");
    json_t *about = comment_of(comments, name, NULL);
    if (about != NULL) json_object_set(schema, "description", about);
    json_t *properties = json_object(), *rules = json_array();
    for (unsigned i = 0; depth < MAX_NESTING && i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        json_t *one = field_schema(field, comments, depth);
        json_t *text = comment_of(comments, name, field->name);
        if (text != NULL) json_object_set(one, "description", text);
        json_object_set_new(properties, field->name, one);
        if (begins_oneof(type, i)) json_array_append_new(rules, oneof_schema(type, field));
    }
    json_object_set_new(schema, "properties", properties);
    if (json_array_size(rules) > 0)
        json_object_set_new(schema, "allOf", rules);
    else
        json_decref(rules);
    return schema;
}

json_t *mr_pb_schema(const ProtobufCMessageDescriptor *type, const char *proto_text) {
    json_t *comments = mr_proto_comments(proto_text);
    if (comments == NULL) return NULL;
    json_t *body = message_schema(type, comments, 0);
    json_t *schema =
        json_pack("{s:s, s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title", type->short_name);
    json_decref(comments);
    if (schema == NULL || json_object_update(schema, body) != 0) {
        json_decref(schema);
        schema = NULL;
    }
    json_decref(body);
    return schema;
}
