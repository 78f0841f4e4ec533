/* The inputs of a run or run_stream as they came from the host, and their translation for the service. */
#ifndef MR_PLUGIN_JOB_H
#define MR_PLUGIN_JOB_H

#include "base/error.h"
#include "plugin/abi.h"
#include "service/service.h"

typedef struct mr_job {
    FfiBytes args;
    FfiKvPairList metadata;
    char *method; /* NUL-terminated copy; NULL = the host named none */
} mr_job;

/* Takes over the three values. A method name that is no text, or a lack of memory, is an error (err is filled); the job
 * then still owns args and metadata. */
mr_status mr_job_init(mr_job *job, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes method, mr_error *err);
void mr_job_free(mr_job *job);

/* Runs the job to its end; the arguments are as of mr_service_job and mr_service_run. The args are dropped afterwards,
 * the metadata stays. */
mr_status mr_job_execute(mr_job *job, mr_service *service, mr_cancel *cancel,
                         bool (*on_chunk)(void *ctx, const uint8_t *bytes, size_t n), void *ctx, mr_buf *result,
                         mr_error *err);

#endif
