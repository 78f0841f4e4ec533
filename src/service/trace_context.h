/* W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a job belongs to, and how that is told on. */
#ifndef MR_SERVICE_TRACE_CONTEXT_H
#define MR_SERVICE_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_TRACEPARENT_LEN = 55, MR_TRACESTATE_MAX = 512 };

typedef struct mr_trace_context {
    bool valid; /* false: there is no trace; the rest is undefined */
    bool sampled;
    uint8_t trace_id[16], span_id[8];
    char state[MR_TRACESTATE_MAX + 1]; /* tracestate as it came, or "" */
} mr_trace_context;

/* Reads the values of the two headers (either may be NULL). What is malformed is as if it had not been given. */
void mr_trace_context_parse(mr_trace_context *context, const char *traceparent, size_t n_traceparent,
                            const char *tracestate, size_t n_tracestate);

/* Writes the traceparent of a valid context, NUL-terminated. */
void mr_trace_context_format(const mr_trace_context *context, char traceparent[MR_TRACEPARENT_LEN + 1]);

#endif
