/* A small host for a plugin of the jobworkerp V2 ABI: loads the .so, holds one runner instance, and drives its futures
 * on the calling thread, which blocks meanwhile. All bytes are encoded protobuf messages of the plugin's own schemas.
 */
#ifndef MR_CLI_HOST_H
#define MR_CLI_HOST_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "plugin/abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One runner instance. Used by one thread at a time. */
typedef struct mr_host mr_host;

/* Loads the library at `path` (a path, also without a slash, is a file's, never a name to search for), checks the ABI
 * version, and makes an instance. The library stays in the process for good, as in the real host. */
mr_status mr_host_open(mr_host **host, const char *path, mr_error *err);

/* The same for a plugin that is linked into this program; `name` is for messages. */
mr_status mr_host_open_entry(mr_host **host, mr_abi_entry entry, const char *name, mr_error *err);

void mr_host_close(mr_host *host); /* drops the instance; NULL is allowed */

typedef enum mr_host_text {
    MR_HOST_NAME,
    MR_HOST_DESCRIPTION,
    MR_HOST_SETTINGS_PROTO,  /* a whole .proto text, the settings message first */
    MR_HOST_SETTINGS_SCHEMA, /* JSON Schema */
} mr_host_text;

/* Appends a description of the plugin to *text. */
mr_status mr_host_describe(mr_host *host, mr_host_text which, mr_buf *text, mr_error *err);

/* Calls on_method for each method with its encoded MethodSchema or, with `json`, its encoded MethodJsonSchema; all
 * bytes are borrowed for the call. */
void mr_host_methods(mr_host *host, bool json,
                     void (*on_method)(void *ctx, const char *name, size_t name_len, const uint8_t *schema, size_t n),
                     void *ctx);

/* Loads the model that the encoded settings name. `cancel` may be NULL; a load that is cancelled is dropped. */
mr_status mr_host_load(mr_host *host, const uint8_t *settings, size_t n_settings, mr_cancel *cancel, mr_error *err);

typedef struct mr_host_metadata {
    const char *key; /* NUL-terminated */
    const char *value;
} mr_host_metadata;

typedef struct mr_host_job {
    const char *method; /* NULL: `using` is absent */
    const uint8_t *args;
    size_t n_args;
    const mr_host_metadata *metadata;
    size_t n_metadata;
    /* Handed to the plugin as its cancellation token; NULL = no token. Set it from another thread (never from a signal
     * handler: it takes locks). */
    mr_cancel *cancel;
    /* run_stream only: one encoded chunk, borrowed, on the thread that called. Returning false closes the stream. */
    bool (*on_chunk)(void *ctx, const uint8_t *bytes, size_t n);
    /* One pair of the metadata that came back; may be NULL. */
    void (*on_metadata)(void *ctx, const uint8_t *key, size_t key_len, const uint8_t *value, size_t value_len);
    void *ctx;
} mr_host_job;

/* Runs a job to its end; the encoded result is appended to *result. An error carries the plugin's own sentence and
 * MR_ERR_INVALID, or MR_ERR_CANCELLED when `cancel` was set. */
mr_status mr_host_run(mr_host *host, const mr_host_job *job, mr_buf *result, mr_error *err);
mr_status mr_host_run_stream(mr_host *host, const mr_host_job *job, mr_error *err);

#endif
