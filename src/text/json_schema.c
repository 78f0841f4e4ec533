#include "text/json_schema_impl.h"

#include "base/hash.h"
#include "text/char_pattern.h"
#include "text/grammar_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mr_status mr_json_schema_parse(const char *text, json_t **schema, mr_error *err) {
    *schema = NULL;
    size_t len = strlen(text);
    if (len > MR_SCHEMA_MAX_BYTES)
        return mr_fail(err, MR_ERR_LIMIT, "the JSON Schema has %zu bytes; at most %d are read", len,
                       MR_SCHEMA_MAX_BYTES);
    json_error_t where;
    *schema = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    if (*schema == NULL)
        return mr_fail(err, MR_ERR_INVALID, "the JSON Schema is no JSON: line %d, column %d: %s", where.line,
                       where.column, where.text);
    if (json_is_object(*schema) || json_is_boolean(*schema)) return MR_OK;
    json_decref(*schema);
    *schema = NULL;
    return mr_fail(err, MR_ERR_INVALID, "a JSON Schema is an object, true or false");
}

void mr_schema_fail(mr_schema_build *b, mr_status status, const char *keyword, const char *what) {
    mr_error err = {0};
    mr_fail(&err, status, "the JSON Schema at #%s: %s%s%s", b->pointer, keyword != NULL ? keyword : "",
            keyword != NULL ? " " : "", what);
    mr_grammar_fail(b->g, &err);
}

bool mr_schema_spend(mr_schema_build *b, size_t n_steps) {
    if (n_steps <= MR_SCHEMA_MAX_STEPS - b->n_steps) {
        b->n_steps += n_steps;
        return true;
    }
    b->n_steps = MR_SCHEMA_MAX_STEPS;
    mr_schema_fail(b, MR_ERR_LIMIT, NULL, "its allOf, oneOf and $ref multiply to too many combinations");
    return false;
}

/* ---- pieces that every schema needs ---- */

mr_grammar_node mr_schema_space(mr_schema_build *b, mr_grammar_node from) {
    enum { MAX_INDENT = 20 };
    mr_grammar *g = b->g;
    if (b->space == 0) {
        b->space = mr_grammar_add_rule(g);
        mr_grammar_node entry = mr_grammar_entry(g, b->space), end = mr_grammar_exit(g, b->space);
        mr_grammar_skip(g, entry, end);
        mr_grammar_byte(g, entry, ' ', ' ', end);
        mr_grammar_node at = mr_grammar_text(g, entry, "\n", 1);
        for (int i = 0; i <= MAX_INDENT && at != MR_GRAMMAR_NONE; i++) {
            mr_grammar_skip(g, at, end);
            if (i < MAX_INDENT) at = mr_grammar_text(g, at, " ", 1);
        }
    }
    return mr_grammar_call(g, from, b->space);
}

mr_grammar_rule mr_schema_any_string(mr_schema_build *b) {
    mr_grammar *g = b->g;
    if (b->any_string != 0) return b->any_string;
    b->any_string = mr_grammar_add_rule(g);
    mr_grammar_node inside = mr_grammar_text(g, mr_grammar_entry(g, b->any_string), "\"", 1);
    mr_grammar_string_char(g, inside, 0, 0x10FFFF, inside);
    mr_grammar_byte(g, inside, '"', '"', mr_grammar_exit(g, b->any_string));
    return b->any_string;
}

/* open [item {, item}] close, where `item` adds one and returns the node behind it. */
static mr_grammar_rule any_list(mr_schema_build *b, char open, char close,
                                mr_grammar_node (*item)(mr_schema_build *, mr_grammar_node)) {
    mr_grammar *g = b->g;
    mr_grammar_rule rule = mr_grammar_add_rule(g);
    mr_grammar_node in = mr_schema_space(b, mr_grammar_text(g, mr_grammar_entry(g, rule), &open, 1));
    mr_grammar_node out = mr_grammar_add_node(g), first = mr_grammar_add_node(g);
    mr_grammar_skip(g, in, first);
    mr_grammar_node behind = item(b, first);
    mr_grammar_skip(g, mr_schema_space(b, mr_grammar_text(g, behind, ",", 1)), first);
    mr_grammar_skip(g, mr_schema_space(b, behind), out);
    mr_grammar_skip(g, in, out);
    mr_grammar_byte(g, out, (uint8_t)close, (uint8_t)close, mr_grammar_exit(g, rule));
    return rule;
}

static mr_grammar_node any_item(mr_schema_build *b, mr_grammar_node from) {
    return mr_grammar_call(b->g, from, mr_schema_any(b));
}

static mr_grammar_node any_member(mr_schema_build *b, mr_grammar_node from) {
    mr_grammar_node at = mr_grammar_call(b->g, from, mr_schema_any_string(b));
    return any_item(b, mr_schema_space(b, mr_grammar_text(b->g, at, ":", 1)));
}

mr_grammar_rule mr_schema_any_object(mr_schema_build *b) {
    if (b->any_object == 0) b->any_object = any_list(b, '{', '}', any_member);
    return b->any_object;
}

mr_grammar_rule mr_schema_any_array(mr_schema_build *b) {
    if (b->any_array == 0) b->any_array = any_list(b, '[', ']', any_item);
    return b->any_array;
}

static mr_grammar_node literal(mr_schema_build *b, mr_grammar_node from, const char *text) {
    return mr_grammar_text(b->g, from, text, strlen(text));
}

mr_grammar_rule mr_schema_any(mr_schema_build *b) {
    mr_grammar *g = b->g;
    if (b->any != 0) return b->any;
    b->any = mr_grammar_add_rule(g); /* known before its parts are made, which refer to it */
    mr_grammar_node entry = mr_grammar_entry(g, b->any), end = mr_grammar_exit(g, b->any);
    mr_grammar_skip(g, literal(b, entry, "null"), end);
    mr_grammar_skip(g, literal(b, entry, "true"), end);
    mr_grammar_skip(g, literal(b, entry, "false"), end);
    mr_grammar_skip(g, mr_schema_number(b, entry, NULL, false), end);
    mr_grammar_skip(g, mr_grammar_call(g, entry, mr_schema_any_string(b)), end);
    mr_grammar_skip(g, mr_grammar_call(g, entry, mr_schema_any_object(b)), end);
    mr_grammar_skip(g, mr_grammar_call(g, entry, mr_schema_any_array(b)), end);
    return b->any;
}

/* ---- strings ---- */

static const char *format_pattern(const char *format) {
#define YEAR "[12][0-9]{3}"
#define DATE                                                                                                           \
    "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"              \
    "02-(?:0[1-9]|1[0-9]|2[0-8])))"
#define TIME "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
#define BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    static const char *const formats[][2] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        {"email",
         "^[A-Za-z0-9_]{1,30}(?:[.+-][A-Za-z0-9_]{1,20}){0,3}@" LABEL "(?:\\." LABEL "){0,2}\\.[A-Za-z]{2,8}$"},
        {"ipv4", "^" BYTE "\\." BYTE "\\." BYTE "\\." BYTE "$"},
        {"ipv6", "^(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$"},
        {"hostname", "^" LABEL "(?:\\." LABEL "){0,3}\\.[A-Za-z]{2,8}$"},
        {"uri",
         "^https?://" LABEL "(?:\\." LABEL "){0,3}(?:/[A-Za-z0-9._~-]{0,40}){0,6}(?:\\?[A-Za-z0-9=&._~-]{0,60})?$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(format, formats[i][0]) == 0) return formats[i][1];
    }
    return NULL;
}

/* A keyword that is a count; `otherwise` when it is absent. */
static int64_t count_of(mr_schema_build *b, const json_t *schema, const char *keyword, int64_t otherwise) {
    const json_t *value = json_object_get(schema, keyword);
    if (value == NULL) return otherwise;
    double number = json_number_value(value);
    if (!json_is_number(value) || number < 0 || number > 1e9 || number != (double)(int64_t)number) {
        mr_schema_fail(b, MR_ERR_INVALID, keyword, "is no whole number from 0 to 1000000000");
        return otherwise;
    }
    return (int64_t)number;
}

mr_grammar_node mr_schema_string(mr_schema_build *b, mr_grammar_node from, const json_t *schema) {
    mr_grammar *g = b->g;
    const char *pattern = json_string_value(json_object_get(schema, "pattern"));
    const char *format = json_string_value(json_object_get(schema, "format"));
    const char *by_format = format != NULL ? format_pattern(format) : NULL;
    if (pattern != NULL && by_format != NULL) {
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "pattern", "and format together are not supported");
        return MR_GRAMMAR_NONE;
    }
    mr_length_bounds bounds = {count_of(b, schema, "minLength", 0), count_of(b, schema, "maxLength", -1)};
    if (pattern == NULL && by_format == NULL && bounds.min == 0 && bounds.max < 0)
        return mr_grammar_call(g, from, mr_schema_any_string(b));
    bool failed = mr_grammar_failed(g);
    mr_grammar_node in = mr_grammar_text(g, from, "\"", 1);
    mr_grammar_node out = mr_grammar_string(g, in, pattern != NULL ? pattern : by_format, bounds);
    if (!failed && mr_grammar_failed(g)) mr_fail_prefix(&g->error, "the JSON Schema at #%s", b->pointer);
    return mr_grammar_text(g, out, "\"", 1);
}

/* ---- any schema ---- */

/* A value exactly as it is. */
static mr_grammar_node constant(mr_schema_build *b, mr_grammar_node from, const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (text == NULL) {
        mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory for a constant");
        return MR_GRAMMAR_NONE;
    }
    mr_grammar_node to = literal(b, from, text);
    free(text);
    return to;
}

static unsigned type_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_NULL:
        return MR_TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return MR_TYPE_BOOLEAN;
    case JSON_OBJECT:
        return MR_TYPE_OBJECT;
    case JSON_ARRAY:
        return MR_TYPE_ARRAY;
    case JSON_STRING:
        return MR_TYPE_STRING;
    case JSON_INTEGER:
        return MR_TYPE_INTEGER;
    default:
        return json_real_value(value) == trunc(json_real_value(value)) ? MR_TYPE_INTEGER : MR_TYPE_NUMBER;
    }
}

/* Values of enum or const that the type allows. Other keywords beside them would have to be checked value by value. */
static mr_grammar_node enumerated(mr_schema_build *b, mr_grammar_node from, const json_t *schema, const json_t *values,
                                  unsigned types) {
    static const char *const beside[] = {"properties", "required", "items",   "prefixItems", "minLength",
                                         "maxLength",  "pattern",  "minimum", "maximum",     "multipleOf",
                                         "minItems",   "maxItems", "anyOf",   "oneOf",       "format"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        if (json_object_get(schema, beside[i]) == NULL) continue;
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, beside[i], "beside enum or const is not supported");
        return MR_GRAMMAR_NONE;
    }
    mr_grammar_node to = mr_grammar_add_node(b->g);
    size_t i;
    json_t *value;
    json_array_foreach(values, i, value) {
        unsigned type = type_of(value);
        bool allowed = (types & type) != 0 || (type == MR_TYPE_INTEGER && (types & MR_TYPE_NUMBER) != 0);
        if (allowed) mr_grammar_skip(b->g, constant(b, from, value), to);
    }
    return to;
}

/* Values by their types. */
static mr_grammar_node typed(mr_schema_build *b, mr_grammar_node from, const json_t *schema) {
    mr_grammar *g = b->g;
    unsigned types = mr_schema_types(b, schema);
    mr_grammar_node to = mr_grammar_add_node(g);
    const json_t *values = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    if (values != NULL || only != NULL) {
        json_t *list = only != NULL ? json_pack("[O]", only) : json_incref((json_t *)values);
        mr_grammar_node end = enumerated(b, from, schema, list, types);
        json_decref(list);
        return end;
    }
    if (types == MR_TYPE_ALL) return mr_grammar_call(g, from, mr_schema_any(b));
    if (types & MR_TYPE_NULL) mr_grammar_skip(g, literal(b, from, "null"), to);
    if (types & MR_TYPE_BOOLEAN) {
        mr_grammar_skip(g, literal(b, from, "true"), to);
        mr_grammar_skip(g, literal(b, from, "false"), to);
    }
    if (types & MR_TYPE_OBJECT) mr_grammar_skip(g, mr_schema_object(b, from, schema), to);
    if (types & MR_TYPE_ARRAY) mr_grammar_skip(g, mr_schema_array(b, from, schema), to);
    if (types & MR_TYPE_STRING) mr_grammar_skip(g, mr_schema_string(b, from, schema), to);
    if (types & (MR_TYPE_NUMBER | MR_TYPE_INTEGER))
        mr_grammar_skip(g, mr_schema_number(b, from, schema, (types & MR_TYPE_NUMBER) == 0), to);
    return to;
}

/* anyOf and oneOf: each branch together with what stands beside it. */
static mr_grammar_node branches(mr_schema_build *b, mr_grammar_node from, const json_t *schema, const char *keyword) {
    mr_grammar_node to = mr_grammar_add_node(b->g);
    const json_t *list = json_object_get(schema, keyword);
    if (!json_is_array(list) || json_array_size(list) == 0) {
        mr_schema_fail(b, MR_ERR_INVALID, keyword, "is no list of schemas");
        return MR_GRAMMAR_NONE;
    }
    if (strcmp(keyword, "oneOf") == 0 && !mr_schema_exclusive(b, list)) {
        mr_schema_fail(
            b, MR_ERR_UNSUPPORTED, keyword,
            "has branches that may hold at the same time; use anyOf, or give each a required property with a "
            "constant of its own");
        return MR_GRAMMAR_NONE;
    }
    size_t i;
    json_t *branch;
    json_array_foreach(list, i, branch) {
        json_t *rest = json_copy((json_t *)schema);
        json_object_del(rest, keyword);
        json_t *both =
            json_object_size(rest) == 0 ? json_incref(branch) : json_pack("{s:[O, O]}", "allOf", rest, branch);
        json_decref(rest);
        if (both == NULL || json_array_append_new(b->made, both) != 0) {
            mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory for its branches");
            return MR_GRAMMAR_NONE;
        }
        mr_grammar_skip(b->g, mr_grammar_call(b->g, from, mr_schema_rule_of(b, both, keyword)), to);
        if (mr_grammar_failed(b->g)) break;
    }
    return to;
}

/* Fills a rule with a schema's values. */
static void fill(mr_schema_build *b, mr_grammar_rule rule, const json_t *schema) {
    mr_grammar_node from = mr_grammar_entry(b->g, rule), to = MR_GRAMMAR_NONE;
    if (json_is_true(schema)) {
        to = mr_grammar_call(b->g, from, mr_schema_any(b));
    } else if (json_is_object(schema)) {
        const json_t *merged = mr_schema_merged(b, schema);
        if (merged != NULL && json_is_false(merged)) return;
        if (merged != NULL) {
            bool any = json_object_get(merged, "anyOf") != NULL, one = json_object_get(merged, "oneOf") != NULL;
            to = any   ? branches(b, from, merged, "anyOf")
                 : one ? branches(b, from, merged, "oneOf")
                       : typed(b, from, merged);
        }
    } else if (!json_is_false(schema)) {
        mr_schema_fail(b, MR_ERR_INVALID, NULL, "a schema is an object, true or false");
    }
    mr_grammar_skip(b->g, to, mr_grammar_exit(b->g, rule));
}

static size_t slot_of(const mr_schema_build *b, const json_t *schema) {
    size_t at = mr_hash(&schema, sizeof schema, 0) & (b->cap_rules - 1);
    while (b->rules[at].schema != NULL && b->rules[at].schema != schema) at = (at + 1) & (b->cap_rules - 1);
    return at;
}

static bool grow_rules(mr_schema_build *b) {
    if (2 * (b->n_rules + 1) <= b->cap_rules) return true;
    mr_schema_build old = *b;
    b->cap_rules = old.cap_rules == 0 ? 256 : 2 * old.cap_rules;
    b->rules = b->n_rules >= MR_SCHEMA_MAX_SCHEMAS ? NULL : calloc(b->cap_rules, sizeof *b->rules);
    if (b->rules == NULL) {
        b->rules = old.rules;
        b->cap_rules = old.cap_rules;
        mr_schema_fail(b, MR_ERR_LIMIT, NULL, "it holds too many schemas");
        return false;
    }
    for (size_t i = 0; i < old.cap_rules; i++) {
        if (old.rules[i].schema != NULL) b->rules[slot_of(b, old.rules[i].schema)] = old.rules[i];
    }
    free(old.rules);
    return true;
}

mr_grammar_rule mr_schema_rule_of(mr_schema_build *b, const json_t *schema, const char *key) {
    if (mr_grammar_failed(b->g) || !grow_rules(b)) return 0;
    size_t at = slot_of(b, schema);
    if (b->rules[at].schema == schema) return b->rules[at].rule;
    size_t len = strlen(b->pointer);
    if (key != NULL) snprintf(b->pointer + len, sizeof b->pointer - len, "/%s", key);
    if (++b->depth > MR_SCHEMA_MAX_DEPTH) mr_schema_fail(b, MR_ERR_LIMIT, NULL, "schemas are nested too deeply");
    mr_grammar_rule rule = mr_grammar_add_rule(b->g);
    b->rules[at] = (mr_schema_rule){schema, rule};
    b->n_rules++;
    if (!mr_grammar_failed(b->g)) fill(b, rule, schema);
    b->depth--;
    b->pointer[len] = '\0';
    return rule;
}

mr_grammar_node mr_json_schema_value(mr_grammar *grammar, mr_grammar_node from, const json_t *schema) {
    mr_schema_build b = {.g = grammar, .root = schema, .made = json_array()};
    mr_grammar_node to = mr_grammar_call(grammar, from, mr_schema_rule_of(&b, schema, NULL));
    free(b.rules);
    json_decref(b.made);
    return mr_grammar_failed(grammar) ? MR_GRAMMAR_NONE : to;
}

mr_grammar_node mr_json_any_object(mr_grammar *grammar, mr_grammar_node from) {
    mr_schema_build b = {.g = grammar};
    return mr_grammar_call(grammar, from, mr_schema_any_object(&b));
}
