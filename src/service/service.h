/* The runner as the plugin sees it: descriptions, load, and jobs. Bytes in, bytes out; all calls block the calling
 * thread and may be made from any thread. The plugin floor gives each its own thread. */
#ifndef MR_SERVICE_SERVICE_H
#define MR_SERVICE_SERVICE_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One runner instance. Reference-counted: a job that is still unwinding after its instance was dropped holds a
 * reference. */
typedef struct mr_service mr_service;

/* Cheap: nothing is loaded. NULL when memory runs out. */
mr_service *mr_service_new(void);
mr_service *mr_service_ref(mr_service *service);
void mr_service_unref(mr_service *service); /* the last one releases the model, which may free it */

/* Descriptions; static strings. */
const char *mr_service_name(void); /* "MistralLocalLLM" */
const char *mr_service_description(void);
const char *mr_service_settings_proto(void);  /* a whole .proto text, LocalRunnerSettings first */
const char *mr_service_settings_schema(void); /* JSON Schema of the settings */

typedef struct mr_service_method {
    const char *name;
    const char *description;
    const char *args_proto; /* whole .proto texts, the message first */
    const char *result_proto;
    const char *args_schema; /* JSON Schemas */
    const char *result_schema;
} mr_service_method;

/* The methods, in order; *n is their number. Static. Every method has output type BOTH. */
const mr_service_method *mr_service_methods(size_t *n);

/* Encoded jobworkerp MethodSchema / MethodJsonSchema of a method, appended to *bytes. False when memory runs out. */
bool mr_service_encode_method_schema(const mr_service_method *method, mr_buf *bytes);
bool mr_service_encode_method_json_schema(const mr_service_method *method, mr_buf *bytes);

/* Decodes LocalRunnerSettings and attaches the instance to the model they name, loading it when no other instance holds
 * it. A second load replaces the first. On an error the instance is as before. */
mr_status mr_service_load(mr_service *service, const uint8_t *settings, size_t n_settings, mr_cancel *cancel,
                          mr_error *err);

/* Metadata of a job (trace context and whatever the host sends); borrowed byte strings. */
typedef struct mr_service_metadata {
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
} mr_service_metadata;

typedef struct mr_service_job {
    const char *method;  /* NULL = "chat"; an unknown name is an error that lists the methods */
    const uint8_t *args; /* the encoded argument message */
    size_t n_args;
    const mr_service_metadata *metadata;
    size_t n_metadata;
    mr_cancel *cancel; /* may be NULL */
    /* NULL: one result. Else called for each encoded result chunk, in order, from the job's thread; the bytes are
     * borrowed. Returning false means that nobody listens any more: the job ends with MR_ERR_CANCELLED. */
    bool (*on_chunk)(void *ctx, const uint8_t *bytes, size_t n);
    void *ctx;
} mr_service_job;

/* Runs one job to its end. Without on_chunk the encoded result is appended to *result. An error's text is for the
 * client. An instance that was not loaded is an error. */
mr_status mr_service_run(mr_service *service, const mr_service_job *job, mr_buf *result, mr_error *err);

#endif
