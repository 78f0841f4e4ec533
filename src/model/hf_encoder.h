/* BERT and its kin in Hugging Face folders: tensors under names of their own, and settings of config.json that are
 * called otherwise there or count otherwise. */
#ifndef MR_MODEL_HF_ENCODER_H
#define MR_MODEL_HF_ENCODER_H

#include "base/error.h"
#include "model/hf_model.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Writes the GGUF name of a tensor to out[n]; false for one that the model does not need (poolers, heads). */
bool mr_hf_encoder_name(const char *name, char *out, size_t n);

/* Gives the settings of config.json the names that decoders have for them, and makes max_position_embeddings the number
 * of positions that a text can have. Errors: MR_ERR_UNSUPPORTED for another activation or kind of positions,
 * MR_ERR_INVALID. */
mr_status mr_hf_encoder_settings(const mr_hf_family *family, json_t *config, mr_error *err);

/* Drops the rows of the learned positions that no text has: those up to the padding's. */
mr_status mr_hf_encoder_cut_positions(const json_t *config, mr_gguf_tensor *tensor, mr_error *err);

#endif
