/* Errors as values. A function that can fail returns mr_status and, where it takes an `mr_error *`, fills it with one
 * sentence for a person: what went wrong, where, and what to do about it. */
#ifndef MR_BASE_ERROR_H
#define MR_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

typedef enum mr_status {
    MR_OK = 0,
    MR_ERR_INVALID,     /* the input is malformed or contradicts itself */
    MR_ERR_UNSUPPORTED, /* the input is well-formed, but asks for something that is not built in */
    MR_ERR_NOT_FOUND,   /* a file, method, model or name does not exist */
    MR_ERR_IO,          /* the operating system refused or broke off a read or write */
    MR_ERR_NOMEM,       /* memory ran out, or the request could never fit */
    MR_ERR_LIMIT,       /* a bound on size, steps or depth was reached */
    MR_ERR_CANCELLED,   /* the caller asked to stop */
    MR_ERR_UNAVAILABLE, /* a peer (server, hub, collector) does not answer */
    MR_ERR_INTERNAL,    /* a broken invariant of our own */
} mr_status;

#define MR_ERROR_TEXT_MAX 1024

/* `text` is UTF-8, NUL-terminated, cut at a character boundary when it does not fit. Zero-initialise before use. */
typedef struct mr_error {
    mr_status status;
    char text[MR_ERROR_TEXT_MAX];
} mr_error;

#if defined(__GNUC__)
#define MR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MR_PRINTF(fmt, args)
#endif

/* Fills *err (which may be NULL) and returns `status`, so that a caller can write `return mr_fail(err, …)`. */
mr_status mr_fail(mr_error *err, mr_status status, const char *format, ...) MR_PRINTF(3, 4);
mr_status mr_vfail(mr_error *err, mr_status status, const char *format, va_list args);

/* Puts `format…: ` in front of the text that *err holds already, and returns err->status. Used to name the file or
 * tensor that a lower floor did not know. */
mr_status mr_fail_prefix(mr_error *err, const char *format, ...) MR_PRINTF(2, 3);

/* MR_ERR_NOMEM with the size that could not be had and what it was for. */
mr_status mr_fail_nomem(mr_error *err, size_t n_bytes, const char *what);

#endif
