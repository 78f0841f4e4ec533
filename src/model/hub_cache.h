/* The hub's environment and its cache on disk, in the layout that the Hugging Face tools share:
 *
 *   CACHE/models--ORG--NAME/refs/REVISION           the commit that a branch or tag last meant
 *                           blobs/ETAG              contents; unfinished: ETAG.mistral-runner.incomplete and .pieces
 *                           snapshots/COMMIT/FILE   relative symbolic links to blobs
 *   CACHE/.locks/models--ORG--NAME/ETAG.lock        flock()ed while a blob is downloaded
 */
#ifndef MR_MODEL_HUB_CACHE_H
#define MR_MODEL_HUB_CACHE_H

#include "base/error.h"
#include "model/hub_id.h"

#include <stdbool.h>
#include <stddef.h>

/* Strings are owned; free with mr_hub_env_free. */
typedef struct mr_hub_env {
    char *endpoint; /* HF_ENDPOINT without a slash at the end, else https://huggingface.co */
    char *cache;    /* HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub */
    char *token;    /* HF_TOKEN, else the token file; NULL = none */
    bool offline;   /* HF_HUB_OFFLINE */
    long timeout;   /* HF_HUB_DOWNLOAD_TIMEOUT: seconds without a byte after which a transfer has failed */
} mr_hub_env;

mr_status mr_hub_env_read(mr_hub_env *env, mr_error *err);
void mr_hub_env_free(mr_hub_env *env);

/* CACHE/models--ORG--NAME; free() it. NULL when memory runs out, as below. */
char *mr_hub_repo_folder(const mr_hub_env *env, const char *repo);
char *mr_hub_snapshot_folder(const mr_hub_env *env, const char *repo, const char *commit);

/* The commit that the cache knows for a revision, or false. */
bool mr_hub_ref_read(const mr_hub_env *env, const mr_hub_id *id, char commit[41]);

/* Notes it. What can't be written is left as it is: the cache may be read-only, and the snapshot is of more use. */
void mr_hub_ref_write(const mr_hub_env *env, const mr_hub_id *id, const char *commit);

/* Puts the link snapshots/COMMIT/FILE -> blob in place of whatever is there. */
mr_status mr_hub_link(const char *repo_folder, const char *commit, const char *file, const char *etag, mr_error *err);

/* The names of the files in a snapshot, subfolders included: a NULL-terminated array that is one free(). Empty where
 * there is no such folder; NULL when memory runs out. */
char **mr_hub_snapshot_files(const char *snapshot, size_t *n);

/* Makes the folders of a path up to its last slash. */
mr_status mr_hub_make_parents(const char *path, mr_error *err);

/* Tries to take a blob's lock. *fd is -1 while another one holds it; else close() it to release. */
mr_status mr_hub_try_lock(const mr_hub_env *env, const char *repo, const char *etag, int *fd, mr_error *err);

#endif
