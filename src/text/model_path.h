/* From what a person calls a model to the file that holds it. */
#ifndef MR_TEXT_MODEL_PATH_H
#define MR_TEXT_MODEL_PATH_H

#include "base/error.h"

/* The model that `path` means (free() it): itself, the one GGUF file in the folder, or the folder where it holds safetensors
 * and no GGUF file. Errors: MR_ERR_NOT_FOUND, MR_ERR_INVALID (several models, all named). */
mr_status mr_model_path_find(const char *path, char **found, mr_error *err);

#endif
