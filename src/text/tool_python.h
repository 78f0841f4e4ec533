/* Calls as Python writes them: name(key=value, …), the values Python or JSON literals. */
#ifndef MR_TEXT_TOOL_PYTHON_H
#define MR_TEXT_TOOL_PYTHON_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Looks for the bracket that closes the first one of a text. Zero-initialise. */
typedef struct mr_python_scan {
    size_t at, depth;
    char quote; /* of the string at hand, or 0 */
    bool escaped;
} mr_python_scan;

/* Goes on at scan->at; true when the text before `at` ends with the closing bracket. */
bool mr_python_scan_push(mr_python_scan *scan, const char *text, size_t len);

/* The keyword arguments between the brackets of a call, text[0..len), as a compact JSON object appended to *out. False,
 * with *out unchanged, for anything else. */
bool mr_python_arguments(const char *text, size_t len, mr_buf *out);

/* Appends a JSON value as a Python literal. */
bool mr_python_write(const json_t *value, mr_buf *out);

#endif
