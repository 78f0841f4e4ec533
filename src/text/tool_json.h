/* JSON as models write it: finding where a value ends while it is still coming, and making it compact and strict.
 * Numbers keep the model's own digits, which a parser into doubles would not. */
#ifndef MR_TEXT_TOOL_JSON_H
#define MR_TEXT_TOOL_JSON_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Looks for the end of a JSON object or array. Zero-initialise. */
typedef struct mr_json_scan {
    size_t at; /* bytes seen */
    size_t depth;
    bool in_string, escaped, ended;
} mr_json_scan;

typedef enum mr_json_scanned {
    MR_JSON_SCAN_MORE,   /* all is seen, the value goes on */
    MR_JSON_SCAN_END,    /* the value ends before `at` */
    MR_JSON_SCAN_BROKEN, /* at `at` stands what no JSON has outside of a string */
} mr_json_scanned;

/* Goes on at scan->at in text[0..len), where text[0] is the value's first bracket. */
mr_json_scanned mr_json_scan_push(mr_json_scan *scan, const char *text, size_t len);

/* Appends the value in text[0..len) without the blanks between its parts. Repaired is what can mean one thing only:
 * commas in front of a closing bracket, control characters in strings, \' and half surrogates, Python's True, False and
 * None; with close_open also brackets still open at the end. False, with *out unchanged, when it is no JSON value or
 * nests deeper than 200. */
bool mr_json_compact(const char *text, size_t len, bool close_open, mr_buf *out);

/* The members of a compact object, one after the other. Zero-initialise *at. Each call gives the spans of a key (with
 * its quotes) and of its value; false at the end, or when it is no object. */
typedef struct mr_json_member {
    const char *key, *value;
    size_t n_key, n_value;
} mr_json_member;
bool mr_json_next_member(const char *object, size_t len, size_t *at, mr_json_member *member);

/* Whether the key is this name; the name has nothing to escape. */
bool mr_json_key_is(const mr_json_member *member, const char *name);

/* Appends what a compact JSON string (with its quotes) says. False when it is none or not valid. */
bool mr_json_unquote(const char *string, size_t len, mr_buf *out);

/* Appends text as a JSON string. False when memory runs out or the text is not UTF-8. */
bool mr_json_quote(const char *text, size_t len, mr_buf *out);

/* Appends a value as chat templates' tojson does: ", " and ": " between, the fewest digits. False when memory runs out.
 */
bool mr_json_write(const json_t *value, mr_buf *out);

#endif
