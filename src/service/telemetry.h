/* The exporter of spans and metrics: one thread for the process, which sends batches over OTLP/gRPC
 * (https://opentelemetry.io/docs/specs/otlp/) to the collector that OTLP_ADDR names, and writes the metrics as a text
 * file where MISTRAL_METRICS_FILE names one. Jobs never wait for it: what does not fit into its queue is dropped and
 * counted. A collector that is down costs a warning. */
#ifndef MR_SERVICE_TELEMETRY_H
#define MR_SERVICE_TELEMETRY_H

#include "base/buf.h"

#include <stdbool.h>

/* The first user starts the exporter where the environment asks for one; the last one sends what is queued (for at most
 * a second, and not at all when the collector did not answer before) and ends it. Thread-safe. */
void mr_telemetry_acquire(void);
void mr_telemetry_release(void);

/* Whether spans are exported. */
bool mr_telemetry_traces(void);

/* Queues an encoded Span; takes the buffer's content in any case. */
void mr_telemetry_span(mr_buf *span);

#endif
