/* Figures of the process: what jobs took and what the models hold, in OTLP's form and as text. Thread-safe. */
#ifndef MR_SERVICE_METRICS_H
#define MR_SERVICE_METRICS_H

#include "base/buf.h"
#include "base/error.h"
#include "text/text_model.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum mr_job_end { MR_JOB_OK, MR_JOB_ERROR, MR_JOB_CANCELLED, MR_N_JOB_ENDS } mr_job_end;

/* A job has ended. */
void mr_metrics_job(const char *method, mr_job_end end, double seconds);

/* One generation (a job with tools has several). */
typedef struct mr_generation_figures {
    uint32_t n_prompt, n_cached, n_generated;
    uint32_t n_drafted, n_accepted; /* guesses, and those of them that were generated */
    double queue_sec;               /* from submission to the first work on it */
    double prompt_sec;              /* from there to the first token */
    double generation_sec;          /* from there to the end */
} mr_generation_figures;
void mr_metrics_generation(const mr_generation_figures *figures);

void mr_metrics_tool_call(bool success, double seconds);
void mr_metrics_span_dropped(void);

/* A model comes and goes; its figures are read in between, from the exporter's thread. */
void mr_metrics_add_model(mr_text_model *model, const char *name);
void mr_metrics_remove_model(const mr_text_model *model);

/* Appends all as an encoded ExportMetricsServiceRequest. False when memory runs out. */
bool mr_metrics_encode(mr_buf *request);

/* Appends all as text in the Prometheus exposition format 0.0.4. */
void mr_metrics_print(mr_buf *text);

#endif
