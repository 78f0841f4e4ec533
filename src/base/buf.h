/* A growable byte buffer. Zero-initialise (`mr_buf b = {0}`), free with mr_buf_free. Once an append could not get
 * memory the buffer is `failed` and ignores further appends, so a caller may check once at the end. */
#ifndef MR_BASE_BUF_H
#define MR_BASE_BUF_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_buf {
    char *data; /* data[len] is always NUL when data is not NULL */
    size_t len;
    size_t cap;
    bool failed;
} mr_buf;

void mr_buf_free(mr_buf *buf);
void mr_buf_clear(mr_buf *buf); /* len = 0, keeps the memory and forgets `failed` */

/* Makes room for n_more bytes beyond len. False when memory runs out. */
bool mr_buf_reserve(mr_buf *buf, size_t n_more);

bool mr_buf_append(mr_buf *buf, const void *bytes, size_t n);
bool mr_buf_puts(mr_buf *buf, const char *text);
bool mr_buf_putc(mr_buf *buf, char c);
bool mr_buf_printf(mr_buf *buf, const char *format, ...) MR_PRINTF(2, 3);

/* The content as a NUL-terminated string ("" when empty); owned by the buffer, valid until the next change. */
const char *mr_buf_cstr(const mr_buf *buf);

/* Hands the memory (NUL-terminated, never NULL unless the buffer failed) to the caller, who frees it with free(). The
 * buffer is empty afterwards. */
char *mr_buf_take(mr_buf *buf);

#endif
