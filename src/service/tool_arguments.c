#include "service/tool_arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_PATH = 256 };

/* Where the value at hand stands, for the sentence. */
typedef struct checker {
    char path[MAX_PATH];
    int depth;
    mr_buf *why;
} checker;

static bool check(checker *c, const json_t *value, const json_t *schema);

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_NULL:
        return "null";
    default:
        return "boolean";
    }
}

static bool is_of_type(const json_t *value, const char *type) {
    if (strcmp(type, "number") == 0) return json_is_number(value);
    /* 2.0 is an integer, too. */
    if (strcmp(type, "integer") == 0 && json_is_real(value)) {
        double real = json_real_value(value);
        return real >= -9.0e15 && real <= 9.0e15 && real == (double)(long long)real;
    }
    return strcmp(type, type_name(value)) == 0;
}

static bool has_type(const json_t *value, const json_t *type) {
    if (json_is_string(type)) return is_of_type(value, json_string_value(type));
    if (!json_is_array(type)) return true;
    for (size_t i = 0; i < json_array_size(type); i++) {
        const json_t *one = json_array_get(type, i);
        if (json_is_string(one) && is_of_type(value, json_string_value(one))) return true;
    }
    return false;
}

static bool is_among(const json_t *value, const json_t *choices) {
    if (!json_is_array(choices)) return true;
    for (size_t i = 0; i < json_array_size(choices); i++) {
        if (json_equal(value, json_array_get(choices, i))) return true;
    }
    return false;
}

static bool misfit(checker *c, const char *says, const json_t *what) {
    char *dumped = what != NULL ? json_dumps(what, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    mr_buf_printf(c->why, "%s%s%s %s%.200s", c->path[0] != '\0' ? "the argument \"" : "the arguments", c->path,
                  c->path[0] != '\0' ? "\"" : "", says, dumped != NULL ? dumped : "");
    free(dumped);
    return false;
}

static bool check_member(checker *c, const char *key, const json_t *value, const json_t *schema) {
    size_t len = strlen(c->path);
    snprintf(c->path + len, MAX_PATH - len, "%s%s", len > 0 ? "." : "", key);
    bool ok = check(c, value, schema);
    c->path[len] = '\0';
    return ok;
}

static bool check_object(checker *c, json_t *value, const json_t *schema) {
    const json_t *required = json_object_get(schema, "required"), *properties = json_object_get(schema, "properties");
    const json_t *others = json_object_get(schema, "additionalProperties");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const json_t *name = json_array_get(required, i);
        if (json_is_string(name) && json_object_get(value, json_string_value(name)) == NULL)
            return misfit(c, "must have ", name);
    }
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member) {
        const json_t *known = json_object_get(properties, key);
        bool patterns = json_object_get(schema, "patternProperties") != NULL;
        if (known == NULL && json_is_false(others) && !patterns) {
            json_t *name = json_string(key);
            misfit(c, "may not have ", name);
            json_decref(name);
            return false;
        }
        if (known != NULL && !check_member(c, key, member, known)) return false;
    }
    return true;
}

static bool check_items(checker *c, const json_t *value, const json_t *schema) {
    const json_t *items = json_object_get(schema, "items");
    if (!json_is_object(items) || json_object_get(schema, "prefixItems") != NULL) return true;
    for (size_t i = 0; i < json_array_size(value); i++) {
        char index[24];
        snprintf(index, sizeof index, "%zu", i);
        if (!check_member(c, index, json_array_get(value, i), items)) return false;
    }
    return true;
}

static bool check(checker *c, const json_t *value, const json_t *schema) {
    const json_t *type = json_object_get(schema, "type"), *fixed = json_object_get(schema, "const");
    if (!json_is_object(schema) || c->depth >= MAX_DEPTH) return true;
    if (!has_type(value, type)) return misfit(c, "must be of the type ", type);
    if (!is_among(value, json_object_get(schema, "enum")))
        return misfit(c, "must be one of ", json_object_get(schema, "enum"));
    if (fixed != NULL && !json_equal(value, fixed)) return misfit(c, "must be ", fixed);
    c->depth++;
    bool ok = !json_is_object(value) || check_object(c, (json_t *)value, schema);
    ok = ok && (!json_is_array(value) || check_items(c, value, schema));
    c->depth--;
    return ok;
}

bool mr_tool_arguments_fit(const char *arguments, const json_t *schema, mr_buf *why) {
    checker c = {.why = why};
    json_error_t where;
    json_t *parsed = json_loads(arguments, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    bool ok = false;
    if (parsed == NULL)
        mr_buf_printf(why, "the arguments are no JSON: %s (line %d, column %d)", where.text, where.line, where.column);
    else if (!json_is_object(parsed))
        mr_buf_printf(why, "the arguments are no JSON object");
    else
        ok = check(&c, parsed, schema);
    json_decref(parsed);
    return ok;
}
