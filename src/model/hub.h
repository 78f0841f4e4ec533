/* Models on the Hugging Face hub: from a repository's name to files on disk, downloading what the cache lacks. */
#ifndef MR_MODEL_HUB_H
#define MR_MODEL_HUB_H

#include "base/cancel.h"
#include "base/error.h"
#include "model/hub_id.h"
#include "model/model.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum mr_hub_want {
    MR_HUB_MODEL,     /* safetensors with their configuration and tokenizer; where there are none, the one GGUF file */
    MR_HUB_GGUF,      /* the named GGUF files, else the one that there is; all parts of a split one */
    MR_HUB_TOKENIZER, /* tokenizer, chat template and configuration only */
    MR_HUB_FILES,     /* the named files, whatever they are */
} mr_hub_want;

typedef struct mr_hub_request {
    const char *id; /* see hub_id.h; a file in it is a named one */
    mr_hub_want want;
    const char *const *files; /* the named ones */
    size_t n_files;
    mr_progress_fn progress; /* of the large files; may be NULL */
    void *progress_ctx;
    mr_cancel *cancel; /* may be NULL */
} mr_hub_request;

typedef struct mr_hub_result {
    char *folder; /* the snapshot */
    char **files; /* [n_files] the GGUF files to open in it, the first of each split one; or none: the folder is the
                     model */
    size_t n_files;
} mr_hub_result;

/* Fetches what is wanted. Where the hub cannot be reached, what the cache has is used if it is whole, with a warning;
 * with HF_HUB_OFFLINE, and for a whole commit hash whose files are there, nothing is asked. Errors name the repository
 * and say what to do; MR_ERR_CANCELLED. */
mr_status mr_hub_fetch(const mr_hub_request *request, mr_hub_result *result, mr_error *err);
void mr_hub_result_free(mr_hub_result *result);

#endif
