/* Objects and arrays of JSON Schemas. */
#include "text/char_pattern.h"
#include "text/json_schema_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ITEMS = 2000 };

/* A bound on a number of members; -1 = none. */
static long bound(mr_schema_build *b, const json_t *schema, const char *keyword) {
    const json_t *value = json_object_get(schema, keyword);
    if (value == NULL) return -1;
    double number = json_number_value(value);
    if (!json_is_number(value) || number < 0 || number > 1e9 || number != (double)(long)number) {
        mr_schema_fail(b, MR_ERR_INVALID, keyword, "is no whole number from 0 to 1000000000");
        return -1;
    }
    return (long)number;
}

/* ---- keys that are none of the named ones ---- */

typedef struct key {
    const char *text;
    size_t len;
} key;

static int compare_keys(const void *a, const void *b) {
    const key *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, n);
    return order != 0 ? order : x->len < y->len ? -1 : x->len > y->len;
}

/* Strings that begin with the first `depth` bytes of keys[0..n), which are sorted and share them, and are none of them.
 * `free_text` is inside a string that has left them all; `out` behind the closing quote. Nothing is escaped while a key
 * is still possible, so that no key comes in by another spelling. */
static void other_keys(mr_schema_build *b, mr_grammar_node from, const key *keys, size_t n, size_t depth,
                       mr_grammar_node free_text, mr_grammar_node out) {
    mr_grammar *g = b->g;
    bool whole = n > 0 && keys[0].len == depth;
    if (!whole) mr_grammar_byte(g, from, '"', '"', out);
    size_t i = whole ? 1 : 0;
    uint8_t next = 0x20; /* the first byte that is not dealt with */
    while (i < n && !mr_grammar_failed(g)) {
        uint8_t c = (uint8_t)keys[i].text[depth];
        size_t group = i;
        while (group < n && (uint8_t)keys[group].text[depth] == c) group++;
        /* Whole ASCII characters before it lead out of the keys. */
        for (int other = next; other < c && other < 0x80; other++) {
            if (other != '"' && other != '\\') mr_grammar_byte(g, from, (uint8_t)other, (uint8_t)other, free_text);
        }
        if (c >= 0x20 && c != '"' && c != '\\') { /* a key with one of these could only be written with escapes */
            mr_grammar_node deeper = mr_grammar_add_node(g);
            mr_grammar_byte(g, from, c, c, deeper);
            other_keys(b, deeper, keys + i, group - i, depth + 1, free_text, out);
        }
        next = (uint8_t)(c + 1);
        i = group;
    }
    for (int other = next; other < 0x80; other++) {
        if (other != '"' && other != '\\') mr_grammar_byte(g, from, (uint8_t)other, (uint8_t)other, free_text);
    }
}

/* A key that is none of the properties, with its quotes. */
static mr_grammar_node other_key(mr_schema_build *b, mr_grammar_node from, const json_t *properties) {
    mr_grammar *g = b->g;
    size_t n = 0, size = json_object_size(properties);
    key *keys = calloc(size + 1, sizeof *keys);
    mr_grammar_node in = mr_grammar_text(g, from, "\"", 1), out = mr_grammar_add_node(g),
                    free_text = mr_grammar_add_node(g);
    if (keys == NULL) {
        mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory for its keys");
        return MR_GRAMMAR_NONE;
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)properties, name, value) {
        (void)value;
        keys[n++] = (key){name, strlen(name)};
    }
    qsort(keys, n, sizeof *keys, compare_keys);
    other_keys(b, in, keys, n, 0, free_text, out);
    mr_grammar_string_char(g, free_text, 0, 0x10FFFF, free_text);
    mr_grammar_byte(g, free_text, '"', '"', out);
    free(keys);
    return out;
}

/* ---- objects ---- */

/* "NAME": VALUE */
static mr_grammar_node member(mr_schema_build *b, mr_grammar_node from, const char *name, const json_t *schema) {
    json_t *quoted = json_string(name);
    char *text = quoted != NULL ? json_dumps(quoted, JSON_ENCODE_ANY) : NULL;
    json_decref(quoted);
    if (text == NULL) {
        mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory for its keys");
        return MR_GRAMMAR_NONE;
    }
    mr_grammar_node at = mr_grammar_text(b->g, from, text, strlen(text));
    free(text);
    at = mr_schema_space(b, mr_grammar_text(b->g, at, ":", 1));
    return mr_grammar_call(b->g, at, mr_schema_rule_of(b, schema, name));
}

static bool is_required(const json_t *required, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)required, i, item) {
        const char *text = json_string_value(item);
        if (text != NULL && strcmp(text, name) == 0) return true;
    }
    return false;
}

/* The schema of properties that are not named: NULL when there may be none. */
static const json_t *additional(const json_t *schema) {
    const json_t *given = json_object_get(schema, "additionalProperties");
    bool named = json_object_size(json_object_get(schema, "properties")) > 0 ||
                 json_array_size(json_object_get(schema, "required")) > 0;
    if (given == NULL) return named ? NULL : json_true();
    return json_is_false(given) ? NULL : given;
}

/* Where a list of members stands: nothing is written yet, or something is and a comma has to come before the next. */
typedef struct place {
    mr_grammar_node empty, some;
} place;

/* One member, which `optional` lets be left out. `add` appends it. */
static place next_place(mr_schema_build *b, place at, bool optional, const char *name, const json_t *value) {
    mr_grammar *g = b->g;
    place next = {mr_grammar_add_node(g), mr_grammar_add_node(g)};
    mr_grammar_rule rule = mr_grammar_add_rule(g); /* once, for both places */
    mr_grammar_skip(g, member(b, mr_grammar_entry(g, rule), name, value), mr_grammar_exit(g, rule));
    mr_grammar_skip(g, mr_grammar_call(g, at.empty, rule), next.some);
    mr_grammar_node comma = mr_schema_space(b, mr_grammar_text(g, at.some, ",", 1));
    mr_grammar_skip(g, mr_grammar_call(g, comma, rule), next.some);
    if (optional) {
        mr_grammar_skip(g, at.empty, next.empty);
        mr_grammar_skip(g, at.some, next.some);
    }
    return next;
}

static void more_members(mr_schema_build *b, place at, const json_t *properties, const json_t *value) {
    mr_grammar *g = b->g;
    mr_grammar_rule rule = mr_grammar_add_rule(g);
    mr_grammar_node key = json_object_size(properties) == 0
                              ? mr_grammar_call(g, mr_grammar_entry(g, rule), mr_schema_any_string(b))
                              : other_key(b, mr_grammar_entry(g, rule), properties);
    key = mr_schema_space(b, mr_grammar_text(g, key, ":", 1));
    mr_grammar_skip(g, mr_grammar_call(g, key, mr_schema_rule_of(b, value, "additionalProperties")),
                    mr_grammar_exit(g, rule));
    mr_grammar_skip(g, mr_grammar_call(g, at.empty, rule), at.some);
    mr_grammar_node comma = mr_schema_space(b, mr_grammar_text(g, at.some, ",", 1));
    mr_grammar_skip(g, mr_grammar_call(g, comma, rule), at.some);
}

/* Whether the bounds on the number of members hold by themselves; else they are an error, as keys may come twice. */
static bool check_counts(mr_schema_build *b, const json_t *schema, const json_t *more, size_t n_required) {
    long min = bound(b, schema, "minProperties"), max = bound(b, schema, "maxProperties");
    size_t n = json_object_size(json_object_get(schema, "properties"));
    if (min > (long)n_required && !(min == 1 && n_required == 0)) {
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "minProperties", "beyond the required properties is not supported");
        return false;
    }
    if (max >= 0 && (more != NULL || max < (long)n)) {
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "maxProperties", "below what may be written is not supported");
        return false;
    }
    return true;
}

/* Required properties that `properties` does not list take what additionalProperties says, else any value. */
static json_t *all_properties(mr_schema_build *b, const json_t *schema) {
    const json_t *listed = json_object_get(schema, "properties"),
                 *given = json_object_get(schema, "additionalProperties");
    json_t *all = listed != NULL ? json_copy((json_t *)listed) : json_object();
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(schema, "required"), i, item) {
        const char *name = json_string_value(item);
        if (name == NULL)
            mr_schema_fail(b, MR_ERR_INVALID, "required", "is no list of names");
        else if (json_object_get(all, name) == NULL)
            json_object_set(all, name, given != NULL ? (json_t *)given : json_true());
    }
    if (all == NULL || json_array_append_new(b->made, all) != 0) {
        mr_schema_fail(b, MR_ERR_NOMEM, NULL, "there is no memory for its properties");
        return NULL;
    }
    return all;
}

mr_grammar_node mr_schema_object(mr_schema_build *b, mr_grammar_node from, const json_t *schema) {
    mr_grammar *g = b->g;
    const json_t *listed = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    if ((listed != NULL && !json_is_object(listed)) || (required != NULL && !json_is_array(required))) {
        mr_schema_fail(b, MR_ERR_INVALID, listed != NULL && !json_is_object(listed) ? "properties" : "required",
                       "has the wrong type");
        return MR_GRAMMAR_NONE;
    }
    const json_t *more = additional(schema);
    json_t *properties = all_properties(b, schema);
    if (properties == NULL || !check_counts(b, schema, more, json_array_size(required))) return MR_GRAMMAR_NONE;
    bool nonempty = bound(b, schema, "minProperties") == 1;
    if (json_object_size(properties) == 0 && more != NULL && json_is_true(more) && !nonempty)
        return mr_grammar_call(g, from, mr_schema_any_object(b));
    place at = {mr_grammar_add_node(g), mr_grammar_add_node(g)};
    mr_grammar_skip(g, mr_schema_space(b, mr_grammar_text(g, from, "{", 1)), at.empty);
    const char *name;
    json_t *value;
    json_object_foreach(properties, name, value) {
        if (!mr_schema_spend(b, json_array_size(required))) return MR_GRAMMAR_NONE;
        at = next_place(b, at, !is_required(required, name), name, value);
        if (mr_grammar_failed(g)) return MR_GRAMMAR_NONE;
    }
    if (more != NULL) more_members(b, at, properties, more);
    mr_grammar_node end = mr_grammar_add_node(g);
    if (!nonempty) mr_grammar_skip(g, at.empty, end);
    mr_grammar_skip(g, mr_schema_space(b, at.some), end);
    return mr_grammar_text(g, end, "}", 1);
}

/* ---- arrays ---- */

mr_grammar_node mr_schema_array(mr_schema_build *b, mr_grammar_node from, const json_t *schema) {
    mr_grammar *g = b->g;
    const json_t *first = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    long min = bound(b, schema, "minItems"), max = bound(b, schema, "maxItems");
    long n_first = (long)json_array_size(first);
    if (first != NULL && !json_is_array(first)) {
        mr_schema_fail(b, MR_ERR_INVALID, "prefixItems", "is no list of schemas");
        return MR_GRAMMAR_NONE;
    }
    if (json_is_array(items)) {
        mr_schema_fail(b, MR_ERR_UNSUPPORTED, "items", "as a list is prefixItems since draft 2020-12");
        return MR_GRAMMAR_NONE;
    }
    if (min > MAX_ITEMS || max > MAX_ITEMS) {
        mr_schema_fail(b, MR_ERR_LIMIT, min > MAX_ITEMS ? "minItems" : "maxItems", "is larger than 2000");
        return MR_GRAMMAR_NONE;
    }
    if (min < 0) min = 0;
    if (first == NULL && items == NULL && min == 0 && max < 0) return mr_grammar_call(g, from, mr_schema_any_array(b));
    if (items == NULL) items = json_true();
    if (json_is_false(items) && (max < 0 || max > n_first)) max = n_first;
    mr_grammar_node at = mr_schema_space(b, mr_grammar_text(g, from, "[", 1)), out = mr_grammar_add_node(g);
    mr_grammar_node close = mr_grammar_add_node(g);
    if (min == 0) mr_grammar_skip(g, at, close);
    long n = max >= 0 ? max : (min > n_first ? min : n_first) + 1; /* the last one stands for all further ones */
    for (long i = 0; i < n && !mr_grammar_failed(g); i++) {
        const json_t *item = i < n_first ? json_array_get(first, (size_t)i) : items;
        mr_grammar_node begin = mr_grammar_add_node(g);
        mr_grammar_skip(g, i == 0 ? at : mr_schema_space(b, mr_grammar_text(g, at, ",", 1)), begin);
        at = mr_grammar_call(g, begin, mr_schema_rule_of(b, item, i < n_first ? "prefixItems" : "items"));
        if (i + 1 >= min) mr_grammar_skip(g, at, out);
        if (max < 0 && i + 1 == n) mr_grammar_skip(g, mr_schema_space(b, mr_grammar_text(g, at, ",", 1)), begin);
    }
    mr_grammar_skip(g, mr_schema_space(b, out), close);
    return mr_grammar_text(g, close, "]", 1);
}
