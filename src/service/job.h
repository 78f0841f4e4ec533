/* What a method's code is given: the loaded model, the worker's settings and the job. */
#ifndef MR_SERVICE_JOB_H
#define MR_SERVICE_JOB_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "service/answer.h"
#include "service/functions.h"
#include "service/service.h"
#include "service/settings.h"
#include "service/span.h"
#include "text/text_model.h"

#include <protobuf-c/protobuf-c.h>

typedef struct mr_job {
    const mr_service_job *request;
    const mr_settings *settings;
    mr_text_model *model;
    mr_functions *functions; /* NULL: no FunctionService is configured */
    mr_buf *result;          /* where the encoded result goes when the job is no stream */
    mr_span *span;           /* of the whole job; NULL where nothing is exported */
    mr_trace_context trace;  /* for what is done on its behalf */
} mr_job;

/* The methods. Each decodes the job's arguments and runs it to its end. */
mr_status mr_job_chat(const mr_job *job, mr_error *err);
mr_status mr_job_completion(const mr_job *job, mr_error *err);
mr_status mr_job_embedding(const mr_job *job, mr_error *err);

/* Helpers that they share. */

/* Sends one encoded chunk of a stream. MR_ERR_CANCELLED when nobody listens any more. */
mr_status mr_job_send(const mr_job *job, const ProtobufCMessage *chunk, mr_error *err);

/* Sends the last chunk of a stream, or writes the one result. */
mr_status mr_job_finish(const mr_job *job, const ProtobufCMessage *result, mr_error *err);
bool mr_job_is_stream(const mr_job *job);

/* The name to report in `usage`: general.name, else the file's name, else the architecture. Valid while the model is
 * loaded. */
const char *mr_job_model_name(const mr_job *job);

/* Logs sizes and speeds, never text, when the worker asks for it; writes them and the text to the job's span. */
void mr_job_log(const mr_job *job, const char *method, const mr_answer *answer);

/* The same of n_texts vectors that took `seconds`. */
void mr_job_log_embedding(const mr_job *job, size_t n_texts, const mr_request_stats *stats, double seconds);

#endif
