#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mr_buf_free(mr_buf *buf) {
    free(buf->data);
    *buf = (mr_buf){0};
}

void mr_buf_clear(mr_buf *buf) {
    buf->len = 0;
    buf->failed = false;
    if (buf->data != NULL) buf->data[0] = '\0';
}

bool mr_buf_reserve(mr_buf *buf, size_t n_more) {
    if (buf->failed) return false;
    if (n_more >= SIZE_MAX / 2 - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->len + n_more + 1;
    if (need <= buf->cap) return true;
    size_t cap = buf->cap < 32 ? 64 : buf->cap * 2;
    if (cap < need) cap = need;
    char *data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    data[buf->len] = '\0';
    buf->data = data;
    buf->cap = cap;
    return true;
}

bool mr_buf_append(mr_buf *buf, const void *bytes, size_t n) {
    if (!mr_buf_reserve(buf, n)) return false;
    if (n > 0) memcpy(buf->data + buf->len, bytes, n);
    buf->len += n;
    buf->data[buf->len] = '\0';
    return true;
}

bool mr_buf_puts(mr_buf *buf, const char *text) {
    return mr_buf_append(buf, text, strlen(text));
}

bool mr_buf_putc(mr_buf *buf, char c) {
    return mr_buf_append(buf, &c, 1);
}

bool mr_buf_printf(mr_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    bool ok = n >= 0 && mr_buf_reserve(buf, (size_t)n);
    if (ok) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
    return ok;
}

const char *mr_buf_cstr(const mr_buf *buf) {
    return buf->data == NULL ? "" : buf->data;
}

char *mr_buf_take(mr_buf *buf) {
    if (!mr_buf_reserve(buf, 0)) return NULL;
    char *data = buf->data;
    *buf = (mr_buf){0};
    return data;
}
