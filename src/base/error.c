#include "base/error.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

/* snprintf may cut in the middle of a UTF-8 character; drop the torn tail. */
static void trim_torn_character(char *text) {
    size_t len = strlen(text);
    if (len + 1 < MR_ERROR_TEXT_MAX) return;
    text[len - mr_utf8_incomplete_tail(text, len)] = '\0';
}

mr_status mr_vfail(mr_error *err, mr_status status, const char *format, va_list args) {
    if (err != NULL) {
        err->status = status;
        vsnprintf(err->text, sizeof err->text, format, args);
        trim_torn_character(err->text);
    }
    return status;
}

mr_status mr_fail(mr_error *err, mr_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    mr_vfail(err, status, format, args);
    va_end(args);
    return status;
}

mr_status mr_fail_prefix(mr_error *err, const char *format, ...) {
    if (err == NULL) return MR_ERR_INTERNAL;
    char rest[MR_ERROR_TEXT_MAX];
    memcpy(rest, err->text, sizeof rest);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof err->text ? (size_t)n : sizeof err->text - 1;
    size_t room = sizeof err->text - 1 - used, n_rest = strlen(rest);
    if (room > 2) {
        memcpy(err->text + used, ": ", 2);
        size_t n_copy = n_rest < room - 2 ? n_rest : room - 2;
        memcpy(err->text + used + 2, rest, n_copy);
        err->text[used + 2 + n_copy] = '\0';
    }
    trim_torn_character(err->text);
    return err->status;
}

mr_status mr_fail_nomem(mr_error *err, size_t n_bytes, const char *what) {
    return mr_fail(err, MR_ERR_NOMEM, "out of memory: %zu bytes for %s could not be allocated", n_bytes, what);
}
