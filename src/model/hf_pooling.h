/* How sentence-transformers makes one vector of a text: modules.json beside the model, and the configuration of the
 * pooling in a folder that it names. */
#ifndef MR_MODEL_HF_POOLING_H
#define MR_MODEL_HF_POOLING_H

#include "base/error.h"

#include <jansson.h>

/* Puts what the files say into the configuration: "sentence_pooling", the number that GGUF has for it, and
 * "sentence_norm", whether vectors get length 1. Nothing where there is no modules.json. Errors: MR_ERR_UNSUPPORTED
 * names a step or a pooling that is not known, MR_ERR_INVALID what is no JSON or names a file elsewhere. */
mr_status mr_hf_pooling_read(const char *folder, json_t *config, mr_error *err);

#endif
