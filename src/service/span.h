/* Spans of OpenTelemetry: what a piece of work was, how long it took, and how it ended. A span is recorded by one
 * thread at a time and goes to the exporter (telemetry.h) when it ends; where nothing is exported, spans are NULL,
 * which every function here takes. */
#ifndef MR_SERVICE_SPAN_H
#define MR_SERVICE_SPAN_H

#include "service/trace_context.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_span mr_span;

/* A longer text is cut at a character, and says so (OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT has another bound, in bytes). */
enum { MR_SPAN_MAX_TEXT = 64 << 10 };

/* Starts a span in the trace of `parent` (may be NULL or invalid: a new trace). NULL when nothing is exported, the
 * parent's trace is not sampled, or memory runs out. */
mr_span *mr_span_start(const char *name, const mr_trace_context *parent);

/* Attributes; keys are literals. Past 64 they are counted and left out. */
void mr_span_text(mr_span *span, const char *key, const char *text, size_t len);
void mr_span_string(mr_span *span, const char *key, const char *text); /* NULL: none */
void mr_span_json(mr_span *span, const char *key, const json_t *json);
void mr_span_int(mr_span *span, const char *key, int64_t value);
void mr_span_double(mr_span *span, const char *key, double value);

/* Marks the span as failed. */
void mr_span_fail(mr_span *span, const char *message);

/* The context for what is done on behalf of this span; that of `otherwise` where the span is NULL. */
mr_trace_context mr_span_context(const mr_span *span, const mr_trace_context *otherwise);

/* Ends it and hands it over. */
void mr_span_end(mr_span *span);

#endif
