/* Hugging Face model folders (config.json and safetensors) seen as a GGUF file: the same metadata keys and tensor
 * names, so that everything above reads one form. Weights stay in the mapped safetensors; only what GGUF stores
 * otherwise is copied. */
#ifndef MR_MODEL_HF_MODEL_H
#define MR_MODEL_HF_MODEL_H

#include "base/buf.h"
#include "base/error.h"
#include "model/arch.h"
#include "model/gguf.h"

#include <jansson.h>

/* Opens a folder; the result is closed with mr_gguf_close. Errors: an unknown model_type lists the known ones; whatever
 * is missing or contradicts itself is named. */
mr_status mr_hf_open(mr_gguf **gguf, const char *folder, mr_error *err);

/* Reads a JSON file of a folder; json_decref() it. MR_ERR_INVALID names the line. */
mr_status mr_hf_read_json(const char *folder, const char *name, json_t **json, mr_error *err);

/* How the tensors of one model_type are named and stored. */
typedef struct mr_hf_family {
    const char *model_type;        /* config.json */
    const char *arch;              /* the GGUF architecture */
    bool rope_halves;              /* pairs (i, i + n/2) although the GGUF architecture has adjacent ones */
    bool norms_behind;             /* post_attention_layernorm stands behind the attention, not before the FFN */
    bool norm_plus_one;            /* norm weights are stored less one */
    bool experts_alternate;        /* experts are stored as hf_experts.h tells */
    const char *activation;        /* of an encoder: the hidden_act that is known */
    bool encoder;                  /* names and settings are those of hf_encoder.h */
    bool positions_behind_padding; /* learned positions are counted from behind the padding's */
    mr_gating gating;     /* how experts are weighed where the architecture has several ways; 0: its usual one */
    const char *defaults; /* JSON of what config.json files leave out, or NULL */
    /* Puts what the language part says by rules of its own as others say it, or NULL */
    mr_status (*spell_out)(json_t *config, mr_error *err);
} mr_hf_family;

/* NULL and an error when the model_type is not known. */
const mr_hf_family *mr_hf_family_find(const char *model_type, mr_error *err);

enum { MR_HF_NAME_BYTES = 256 };

/* The GGUF name of a safetensors name; false for tensors that the model does not need. */
bool mr_hf_map_name(const mr_hf_family *family, const char *name, char out[static MR_HF_NAME_BYTES]);

/* The language part of a multimodal model's configuration, or the configuration itself. */
const json_t *mr_hf_text_part(const json_t *config);

/* The settings of the rotation of a language part; those of full layers where each kind has its own. May be NULL. */
const json_t *mr_hf_rope(const json_t *config);

/* Writes the number of leading layers without experts, which `mlp_layer_types` lists, as `first_k_dense_replace`.
 * MR_ERR_UNSUPPORTED when later layers are without, too. */
mr_status mr_hf_count_dense(json_t *config, mr_error *err);

/* Appends a GGUF header without tensors that says what config.json (a JSON object) says. */
mr_status mr_hf_write_header(mr_buf *header, const mr_hf_family *family, const json_t *config, mr_error *err);

#endif
