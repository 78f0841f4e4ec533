/* Brings files of one commit into the cache: several at a time, each in several ranges at a time, going on where an
 * earlier download ended. */
#ifndef MR_MODEL_HUB_DOWNLOAD_H
#define MR_MODEL_HUB_DOWNLOAD_H

#include "base/cancel.h"
#include "base/error.h"
#include "model/hub_http.h"
#include "model/model.h"

#include <stddef.h>

typedef struct mr_hub_download {
    const mr_hub_env *env;
    mr_http *http;
    const mr_hub_id *id;
    const char *commit;
    const char *const *files; /* safe names; those that the snapshot has already cost nothing */
    size_t n_files;
    mr_progress_fn progress; /* may be NULL */
    void *progress_ctx;
    mr_cancel *cancel; /* may be NULL */
} mr_hub_download;

/* Returns when all are there. Errors name the file. */
mr_status mr_hub_download_files(const mr_hub_download *download, mr_error *err);

/* What a response without success means, as a sentence; file NULL: the repository itself was asked for. Returns the
 * status that goes with it, never MR_OK. */
mr_status mr_hub_refused(const mr_hub_env *env, const mr_hub_id *id, const char *file, const mr_http_answer *answer,
                         mr_error *err);

/* Milliseconds to wait before attempt number n_failures + 1. */
long mr_hub_backoff_ms(unsigned n_failures, const mr_http_answer *answer);

enum { MR_HUB_MAX_FAILURES = 5 }; /* in a row, none of which brought a byte */

#endif
