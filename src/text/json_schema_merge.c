/* References, allOf, types, and what excludes what. */
#include "text/json_schema_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- references ---- */

/* One step of a JSON pointer (RFC 6901), percent-decoded as in a URI fragment; the end of the step. */
static const char *pointer_step(const char *at, char *step, size_t size) {
    size_t n = 0;
    for (; *at != '\0' && *at != '/'; at++) {
        char c = *at;
        unsigned code;
        if (c == '%' && sscanf(at + 1, "%2x", &code) == 1 && at[1] != '\0' && at[2] != '\0') {
            c = (char)code;
            at += 2;
        }
        if (c == '~' && (at[1] == '0' || at[1] == '1')) {
            c = at[1] == '0' ? '~' : '/';
            at++;
        }
        if (n + 1 < size) step[n++] = c;
    }
    step[n] = '\0';
    return at;
}

const json_t *mr_schema_resolve(mr_schema_build *b, const char *ref) {
    const json_t *at = b->root;
    char step[256], what[MR_SCHEMA_MAX_POINTER];
    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/')) {
        snprintf(what, sizeof what, "\"%.100s\" is not supported; only references inside the schema (#/…) are", ref);
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "$ref", what);
        return NULL;
    }
    for (const char *p = ref + 1; *p == '/' && at != NULL;) {
        p = pointer_step(p + 1, step, sizeof step);
        at = json_is_array(at) ? json_array_get(at, strtoul(step, NULL, 10)) : json_object_get(at, step);
    }
    if (at == NULL || !(json_is_object(at) || json_is_boolean(at))) {
        snprintf(what, sizeof what, "\"%.100s\" leads to no schema", ref);
        mr_schema_fail(b, MR_ERR_INVALID, "$ref", what);
        return NULL;
    }
    return at;
}

/* ---- keywords ---- */

static bool listed(const char *const *list, const char *word) {
    for (; *list != NULL; list++) {
        if (strcmp(*list, word) == 0) return true;
    }
    return false;
}

static const char *const annotations[] = {"title",    "description", "default",  "examples",    "example", "deprecated",
                                          "readOnly", "writeOnly",   "$comment", "$schema",     "$id",     "id",
                                          "$defs",    "definitions", "$anchor",  "$vocabulary", "strict",  NULL};
/* An unknown keyword is no assertion and is let be, as the specification says; a known one that is not held is an
 * error. */
static bool check_keywords(mr_schema_build *b, const json_t *schema) {
    static const char *const refused[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "dependentRequired",
                                          "dependentSchemas",
                                          "dependencies",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "unevaluatedItems",
                                          "unevaluatedProperties",
                                          "propertyNames",
                                          "patternProperties",
                                          "additionalItems",
                                          "contentEncoding",
                                          "contentMediaType",
                                          "contentSchema",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "$dynamicAnchor",
                                          NULL};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)schema, name, value) {
        if (listed(refused, name)) {
            mr_schema_fail(b, MR_ERR_UNSUPPORTED, name, "is not supported");
            return false;
        }
        if (strcmp(name, "uniqueItems") == 0 && !json_is_false(value)) {
            mr_schema_fail(b, MR_ERR_UNSUPPORTED, name, "is not supported");
            return false;
        }
    }
    return true;
}

/* ---- allOf ---- */

static json_t *merge_two(mr_schema_build *b, const json_t *x, const json_t *y);

/* Counts the values of a tree as steps. */
static bool spend_tree(mr_schema_build *b, const json_t *value) {
    if (!mr_schema_spend(b, 1)) return false;
    const char *name;
    size_t i;
    json_t *item;
    json_object_foreach((json_t *)value, name, item) {
        if (!spend_tree(b, item)) return false;
    }
    json_array_foreach((json_t *)value, i, item) {
        if (!spend_tree(b, item)) return false;
    }
    return true;
}

/* Whether two values are equal; also false, with an error, when too much was compared. */
static bool equal(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (x == y) return true;
    if (json_typeof(x) != json_typeof(y)) return mr_schema_spend(b, 1) && json_equal(x, y);
    return spend_tree(b, x) && json_equal(x, y);
}

/* Both of two schemas for the same place. Lists of parts stay flat, however many come together. */
static json_t *both(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (equal(b, x, y)) return json_incref((json_t *)x);
    const json_t *parts = json_object_size(x) == 1 ? json_object_get(x, "allOf") : NULL;
    if (!json_is_array(parts)) return json_pack("{s:[O, O]}", "allOf", x, y);
    if (!mr_schema_spend(b, json_array_size(parts))) return NULL;
    json_t *all = json_copy((json_t *)parts);
    json_array_append(all, (json_t *)y);
    return json_pack("{s:o}", "allOf", all);
}

static json_t *merge_types(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (!mr_schema_spend(b, (1 + json_array_size(x)) * (1 + json_array_size(y)))) return NULL;
    json_t *xs = json_is_array(x) ? json_copy((json_t *)x) : json_pack("[O]", x);
    json_t *ys = json_is_array(y) ? json_copy((json_t *)y) : json_pack("[O]", y), *out = json_array();
    size_t i, k;
    json_t *a, *c;
    json_array_foreach(xs, i, a) {
        json_array_foreach(ys, k, c) {
            const char *s = json_string_value(a), *t = json_string_value(c);
            if (s == NULL || t == NULL) continue;
            bool narrower = strcmp(s, "integer") == 0 && strcmp(t, "number") == 0;
            bool wider = strcmp(s, "number") == 0 && strcmp(t, "integer") == 0;
            if (strcmp(s, t) == 0 || narrower) json_array_append(out, a);
            if (wider) json_array_append(out, c);
        }
    }
    json_decref(xs);
    json_decref(ys);
    return out;
}

static json_t *merge_enums(mr_schema_build *b, const json_t *x, const json_t *y) {
    json_t *out = json_array();
    size_t i, k;
    json_t *a, *c;
    json_array_foreach((json_t *)x, i, a) {
        json_array_foreach((json_t *)y, k, c) {
            if (equal(b, a, c)) json_array_append(out, a);
            if (mr_grammar_failed(b->g)) return out;
        }
    }
    return out;
}

static json_t *merge_objects(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (!mr_schema_spend(b, json_object_size(x) + json_object_size(y))) return NULL;
    json_t *out = json_copy((json_t *)x);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)y, name, value) {
        const json_t *known = json_object_get(x, name);
        if (known != NULL)
            json_object_set_new(out, name, both(b, known, value));
        else
            json_object_set(out, name, value);
    }
    return out;
}

static json_t *merge_lists(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (!mr_schema_spend(b, json_array_size(x) + json_array_size(y))) return NULL;
    json_t *out = json_copy((json_t *)x);
    json_array_extend(out, (json_t *)y);
    return out;
}

/* The narrower of two bounds. */
static json_t *merge_bounds(const char *name, const json_t *x, const json_t *y) {
    bool lower = strncmp(name, "min", 3) == 0 || strcmp(name, "exclusiveMinimum") == 0;
    bool first = lower == (json_number_value(x) >= json_number_value(y));
    return json_incref((json_t *)(first ? x : y));
}

/* One keyword that both schemas have; NULL after an error. */
static json_t *merge_keyword(mr_schema_build *b, const char *name, const json_t *x, const json_t *y) {
    static const char *const bounds[] = {"minProperties",    "maxProperties", "minItems", "maxItems",
                                         "minLength",        "maxLength",     "minimum",  "exclusiveMinimum",
                                         "exclusiveMaximum", "maximum",       NULL};
    if (listed(annotations, name) || equal(b, x, y)) return json_incref((json_t *)x);
    if (strcmp(name, "type") == 0) return merge_types(b, x, y);
    if (strcmp(name, "enum") == 0) return merge_enums(b, x, y);
    if (strcmp(name, "properties") == 0 && json_is_object(x) && json_is_object(y)) return merge_objects(b, x, y);
    if (strcmp(name, "required") == 0) return merge_lists(b, x, y);
    if (listed(bounds, name)) return merge_bounds(name, x, y);
    if (strcmp(name, "items") == 0) return both(b, x, y);
    mr_schema_fail(b, MR_ERR_UNSUPPORTED, name, "in several parts of allOf is not supported");
    return NULL;
}

/* Likewise `items` speaks of what its own prefixItems leave. */
static bool check_items(mr_schema_build *b, const json_t *x, const json_t *y) {
    bool apart = json_object_get(x, "prefixItems") != NULL && json_object_get(y, "items") != NULL;
    if (apart && json_object_get(y, "prefixItems") == NULL) {
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "items", "beside prefixItems of another part of allOf is not supported");
        return false;
    }
    return true;
}

/* additionalProperties speaks of the properties beside it only: with another part's properties it would mean something
 * else after merging. */
static bool check_additional(mr_schema_build *b, const json_t *x, const json_t *y) {
    const json_t *sides[2] = {x, y};
    for (int i = 0; i < 2; i++) {
        const json_t *own = json_object_get(sides[i], "additionalProperties");
        if (own == NULL || json_is_true(own)) continue;
        if (!mr_schema_spend(b, json_object_size(json_object_get(sides[1 - i], "properties")))) return false;
        const char *name;
        json_t *value;
        json_object_foreach(json_object_get(sides[1 - i], "properties"), name, value) {
            (void)value;
            if (json_object_get(json_object_get(sides[i], "properties"), name) != NULL) continue;
            mr_schema_fail(b, MR_ERR_UNSUPPORTED, "additionalProperties",
                           "beside properties of another part of allOf is not supported");
            return false;
        }
    }
    return true;
}

static json_t *merge_two(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (json_is_false(x) || json_is_false(y)) return json_false();
    if (json_is_true(x)) return json_incref((json_t *)y);
    if (json_is_true(y)) return json_incref((json_t *)x);
    if (!mr_schema_spend(b, 1 + json_object_size(x) + json_object_size(y))) return NULL;
    if (!check_additional(b, x, y) || !check_items(b, x, y) || !check_items(b, y, x)) return NULL;
    json_t *out = json_copy((json_t *)x);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)y, name, value) {
        const json_t *known = json_object_get(x, name);
        json_t *merged = known == NULL ? json_incref(value) : merge_keyword(b, name, known, value);
        if (merged == NULL || json_object_set_new(out, name, merged) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

/* The schema without $ref and allOf, as a new reference; NULL after an error. */
static json_t *merged(mr_schema_build *b, const json_t *schema, int depth) {
    if (depth > MR_SCHEMA_MAX_DEPTH) {
        mr_schema_fail(b, MR_ERR_LIMIT, "$ref", "refers to itself, or schemas are nested too deeply");
        return NULL;
    }
    if (!json_is_object(schema)) {
        if (!json_is_boolean(schema)) mr_schema_fail(b, MR_ERR_INVALID, NULL, "a schema is an object, true or false");
        return json_is_boolean(schema) ? json_incref((json_t *)schema) : NULL;
    }
    if (!mr_schema_spend(b, 1 + json_object_size(schema)) || !check_keywords(b, schema)) return NULL;
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *parts = json_object_get(schema, "allOf");
    json_t *out = json_copy((json_t *)schema);
    json_object_del(out, "$ref");
    json_object_del(out, "allOf");
    if (ref != NULL) {
        const json_t *target = mr_schema_resolve(b, ref);
        json_t *part = target != NULL ? merged(b, target, depth + 1) : NULL;
        json_t *sum = part != NULL ? merge_two(b, out, part) : NULL;
        json_decref(part);
        json_decref(out);
        out = sum;
    }
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)parts, i, item) {
        if (out == NULL) break;
        json_t *part = merged(b, item, depth + 1);
        json_t *sum = part != NULL ? merge_two(b, out, part) : NULL;
        json_decref(part);
        json_decref(out);
        out = sum;
    }
    return out;
}

const json_t *mr_schema_merged(mr_schema_build *b, const json_t *schema) {
    if (json_object_get(schema, "$ref") == NULL && json_object_get(schema, "allOf") == NULL)
        return check_keywords(b, schema) ? schema : NULL;
    json_t *out = merged(b, schema, 0);
    if (out == NULL || mr_grammar_failed(b->g)) {
        json_decref(out);
        if (!mr_grammar_failed(b->g)) mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory to merge it");
        return NULL;
    }
    json_array_append_new(b->made, out);
    return out;
}

/* ---- types ---- */

static unsigned type_bit(const char *name) {
    static const char *const names[] = {"null", "boolean", "object", "array", "number", "string", "integer"};
    for (unsigned i = 0; i < 7; i++) {
        if (strcmp(names[i], name) == 0) return 1u << i;
    }
    return 0;
}

static unsigned named_types(mr_schema_build *b, const json_t *type) {
    unsigned types = 0;
    json_t *list = json_is_array(type) ? json_incref((json_t *)type) : json_pack("[O]", type);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        unsigned bit = json_is_string(item) ? type_bit(json_string_value(item)) : 0;
        if (bit == 0) mr_schema_fail(b, MR_ERR_INVALID, "type", "names no type of JSON");
        types |= bit;
    }
    json_decref(list);
    return types;
}

/* The types that the keywords speak of. */
static unsigned implied_types(const json_t *schema) {
    static const struct {
        const char *keyword;
        unsigned type;
    } hints[] = {{"properties", MR_TYPE_OBJECT},
                 {"required", MR_TYPE_OBJECT},
                 {"additionalProperties", MR_TYPE_OBJECT},
                 {"minProperties", MR_TYPE_OBJECT},
                 {"maxProperties", MR_TYPE_OBJECT},
                 {"items", MR_TYPE_ARRAY},
                 {"prefixItems", MR_TYPE_ARRAY},
                 {"minItems", MR_TYPE_ARRAY},
                 {"maxItems", MR_TYPE_ARRAY},
                 {"minLength", MR_TYPE_STRING},
                 {"maxLength", MR_TYPE_STRING},
                 {"pattern", MR_TYPE_STRING},
                 {"format", MR_TYPE_STRING},
                 {"minimum", MR_TYPE_NUMBER},
                 {"maximum", MR_TYPE_NUMBER},
                 {"exclusiveMinimum", MR_TYPE_NUMBER},
                 {"exclusiveMaximum", MR_TYPE_NUMBER},
                 {"multipleOf", MR_TYPE_NUMBER}};
    unsigned types = 0;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (json_object_get(schema, hints[i].keyword) != NULL) types |= hints[i].type;
    }
    return types != 0 ? types : MR_TYPE_ALL;
}

unsigned mr_schema_types(mr_schema_build *b, const json_t *schema) {
    const json_t *type = json_object_get(schema, "type");
    bool constants = json_object_get(schema, "enum") != NULL || json_object_get(schema, "const") != NULL;
    unsigned types = type != NULL ? named_types(b, type) : constants ? MR_TYPE_ALL : implied_types(schema);
    if (json_is_true(json_object_get(schema, "nullable"))) types |= MR_TYPE_NULL; /* OpenAPI 3.0 */
    return types;
}

/* ---- branches that exclude each other ---- */

/* The constants of a property that the schema requires: an array, or NULL. */
static json_t *constants_of(mr_schema_build *b, const json_t *schema, const char *name) {
    size_t i;
    json_t *item;
    bool required = false;
    if (!mr_schema_spend(b, 1 + json_array_size(json_object_get(schema, "required")))) return NULL;
    json_array_foreach(json_object_get(schema, "required"), i, item) {
        const char *text = json_string_value(item);
        required = required || (text != NULL && strcmp(text, name) == 0);
    }
    const json_t *property = json_object_get(json_object_get(schema, "properties"), name);
    const json_t *only = json_object_get(property, "const"), *values = json_object_get(property, "enum");
    if (!required) return NULL;
    return only != NULL ? json_pack("[O]", only) : json_is_array(values) ? json_incref((json_t *)values) : NULL;
}

static bool share_a_value(mr_schema_build *b, const json_t *x, const json_t *y) {
    json_t *common = merge_enums(b, x, y);
    bool any = json_array_size(common) > 0;
    json_decref(common);
    return any;
}

static json_t *own_constants(const json_t *schema) {
    const json_t *only = json_object_get(schema, "const"), *values = json_object_get(schema, "enum");
    return only != NULL ? json_pack("[O]", only) : json_is_array(values) ? json_incref((json_t *)values) : NULL;
}

static bool exclude(mr_schema_build *b, const json_t *x, const json_t *y) {
    if (json_is_false(x) || json_is_false(y)) return true;
    if (!json_is_object(x) || !json_is_object(y)) return false;
    json_t *xs = own_constants(x), *ys = own_constants(y);
    bool apart = xs != NULL && ys != NULL && !share_a_value(b, xs, ys);
    json_decref(xs);
    json_decref(ys);
    if (apart) return true;
    /* Only a type that is written can be relied on: others let every other type through. */
    if (json_object_get(x, "type") != NULL && json_object_get(y, "type") != NULL) {
        unsigned a = mr_schema_types(b, x), c = mr_schema_types(b, y);
        if (a & MR_TYPE_NUMBER) a |= MR_TYPE_INTEGER;
        if (c & MR_TYPE_NUMBER) c |= MR_TYPE_INTEGER;
        if ((a & c) == 0) return true;
    }
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(x, "properties"), name, value) {
        (void)value;
        json_t *first = constants_of(b, x, name), *second = constants_of(b, y, name);
        apart = first != NULL && second != NULL && !share_a_value(b, first, second);
        json_decref(first);
        json_decref(second);
        if (apart) return true;
        if (mr_grammar_failed(b->g)) return false;
    }
    return false;
}

bool mr_schema_exclusive(mr_schema_build *b, const json_t *branches) {
    size_t n = json_array_size(branches);
    if (n > 200) return false;
    const json_t **schemas = calloc(n, sizeof *schemas);
    bool ok = schemas != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        const json_t *branch = json_array_get(branches, i);
        schemas[i] = json_is_object(branch) ? mr_schema_merged(b, branch) : branch;
        ok = schemas[i] != NULL;
        for (size_t k = 0; k < i && ok; k++) ok = exclude(b, schemas[k], schemas[i]);
    }
    free(schemas);
    return ok;
}
