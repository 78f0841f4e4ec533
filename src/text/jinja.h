/* A Jinja2 engine for chat templates, equal in output to Python's jinja2 3.1 as `transformers` configures it:
 * ImmutableSandboxedEnvironment, trim_blocks and lstrip_blocks on, loop controls, {% generation %}, the functions
 * raise_exception and strftime_now, and a `tojson` that does not escape for HTML.
 *
 * A template is hostile until it has been bounded: parsing bounds depth and size, rendering bounds steps, recursion and
 * output. A parsed template is immutable and may be rendered from many threads at once. */
#ifndef MR_TEXT_JINJA_H
#define MR_TEXT_JINJA_H

#include "base/buf.h"
#include "base/error.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_jinja mr_jinja;

/* Parses source[0..len) (UTF-8). Errors name line and column: "chat template line 3, column 14: …". */
mr_status mr_jinja_parse(mr_jinja **jinja, const char *source, size_t len, mr_error *err);
void mr_jinja_free(mr_jinja *jinja);

typedef struct mr_jinja_limits {
    uint64_t max_steps; /* evaluated nodes; 0 = 10 million */
    size_t max_output;  /* bytes of output; 0 = 64 MiB */
    size_t max_memory;  /* bytes of values alive during the render; 0 = 256 MiB */
    unsigned max_depth; /* nested calls and blocks; 0 = 200 */
    int64_t now_unix;   /* the time strftime_now shows (local time), seconds; 0 = now */
} mr_jinja_limits;

/* Renders with the variables in `vars` (a JSON object; borrowed; key order is kept) and appends the result to *out.
 * limits may be NULL. A template's raise_exception(message) is MR_ERR_INVALID with that message in the text; a runtime
 * error is MR_ERR_INVALID with line and column; a bound is MR_ERR_LIMIT. On an error *out holds what it held before. */
mr_status mr_jinja_render(const mr_jinja *jinja, json_t *vars, const mr_jinja_limits *limits, mr_buf *out,
                          mr_error *err);

#endif
