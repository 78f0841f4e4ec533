/* From what a person calls a model to the file that holds it. */
#ifndef MR_TEXT_MODEL_PATH_H
#define MR_TEXT_MODEL_PATH_H

#include "base/error.h"

/* The GGUF file that `path` means: itself, or the one model in the folder (free() it). Errors: MR_ERR_NOT_FOUND,
 * MR_ERR_INVALID (several models, all named), MR_ERR_UNSUPPORTED (a folder in another format). */
mr_status mr_model_path_find(const char *path, char **found, mr_error *err);

#endif
