/* Names on the Hugging Face hub: repositories, revisions, files; what of them may become part of a path. */
#ifndef MR_MODEL_HUB_ID_H
#define MR_MODEL_HUB_ID_H

#include "base/error.h"

#include <stdbool.h>

enum { MR_HUB_REPO_MAX = 96, MR_HUB_NAME_MAX = 255, MR_HUB_FILE_MAX = 1024 };

/* ORG/NAME[@REVISION], or ORG/NAME[@REVISION]/FILE.gguf with a revision that has no slash. */
typedef struct mr_hub_id {
    char repo[MR_HUB_REPO_MAX + 1];
    char revision[MR_HUB_NAME_MAX + 1]; /* "main" where none is given */
    char file[MR_HUB_FILE_MAX + 1];     /* "" where none is given */
} mr_hub_id;

/* MR_ERR_INVALID says what is wrong with the text. */
mr_status mr_hub_id_parse(mr_hub_id *id, const char *text, mr_error *err);

/* Whether a text that is no path here can name something on the hub. */
bool mr_hub_id_plausible(const char *text);

/* Whether the name of a file, which came from a server, stays within its folder and is fit to print. */
bool mr_hub_file_is_safe(const char *name);

/* Whether an etag can name a blob. */
bool mr_hub_etag_is_safe(const char *etag);

/* Whether text is a whole commit hash: 40 hexadecimal digits. */
bool mr_hub_is_commit(const char *text);

#endif
