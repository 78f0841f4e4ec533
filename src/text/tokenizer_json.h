/* A JSON reader for tokenizer files: vocabularies of 150,000 entries and more have to be read in a few tens of
 * milliseconds, so values are a flat list that points into the text, and nothing is looked up by hashing. */
#ifndef MR_TEXT_TOKENIZER_JSON_H
#define MR_TEXT_TOKENIZER_JSON_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum mr_json_kind {
    MR_JSON_NULL,
    MR_JSON_FALSE,
    MR_JSON_TRUE,
    MR_JSON_NUMBER,
    MR_JSON_STRING,
    MR_JSON_ARRAY,
    MR_JSON_OBJECT
} mr_json_kind;

/* A value. The members of arrays follow it, those of objects as key, value, key, value; `next` is the number of values
 * that it and its members take. A string or the digits of a number are text[0..len). */
typedef struct mr_json_value {
    const char *text;
    uint32_t len; /* bytes; for arrays and objects the number of members */
    uint32_t next;
    mr_json_kind kind;
} mr_json_value;

typedef struct mr_json {
    mr_json_value *values; /* values[0] is the document */
    size_t n, cap;
} mr_json;

/* Parses text[0..len), which is changed (strings are unescaped in place) and must outlive *json. Nesting is limited to
 * 100. Errors name line and column. */
mr_status mr_json_parse(mr_json *json, char *text, size_t len, mr_error *err);
void mr_json_free(mr_json *json);

/* The member of an object, or NULL (also when object is NULL or no object). Of equal keys the last counts. */
const mr_json_value *mr_json_get(const mr_json_value *object, const char *key);

/* The first member of an array, or first key of an object; mr_json_next goes on. Check the number first. */
static inline const mr_json_value *mr_json_first(const mr_json_value *value) {
    return value + 1;
}

static inline const mr_json_value *mr_json_next(const mr_json_value *value) {
    return value + value->next;
}

bool mr_json_is(const mr_json_value *value, mr_json_kind kind); /* false for NULL */
bool mr_json_is_text(const mr_json_value *value, const char *text);
bool mr_json_bool(const mr_json_value *value, bool fallback); /* fallback when it is no boolean */
bool mr_json_u32(const mr_json_value *value, uint32_t *out);
bool mr_json_double(const mr_json_value *value, double *out);

#endif
