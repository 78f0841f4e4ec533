/* Cuts a stream of text before the first stop string, across the borders of its pieces. */
#ifndef MR_TEXT_STOP_STRINGS_H
#define MR_TEXT_STOP_STRINGS_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_stop_strings {
    char **strings; /* [n], owned */
    size_t *lens;   /* [n] */
    size_t n;
    mr_buf held;  /* the end of the text so far, where a stop string may have begun */
    bool stopped; /* one was found: all later text is dropped */
} mr_stop_strings;

/* Copies the strings; empty ones are ignored. MR_ERR_INVALID for one that is not UTF-8, MR_ERR_LIMIT for more than 256
 * or one longer than 4096 bytes. The result is freed with mr_stop_strings_free, after an error too. */
mr_status mr_stop_strings_init(mr_stop_strings *stop, const char *const *strings, size_t n, mr_error *err);
void mr_stop_strings_free(mr_stop_strings *stop);

/* Takes more text and appends to *out what can't be part of a stop string any more. Returns false when memory runs out.
 */
bool mr_stop_strings_push(mr_stop_strings *stop, const char *text, size_t len, mr_buf *out);

/* The text has ended: what was held back is appended to *out, unless a stop string was found. */
bool mr_stop_strings_finish(mr_stop_strings *stop, mr_buf *out);

#endif
