/* Texts to vectors. */
#ifndef MR_TEXT_EMBEDDING_H
#define MR_TEXT_EMBEDDING_H

#include "text/text_model.h"

/* Whether vectors are scaled to length 1. */
typedef enum mr_embedding_norm { MR_NORM_AS_MODEL, MR_NORM_ALWAYS, MR_NORM_NEVER } mr_embedding_norm;

typedef struct mr_embedding_options {
    mr_pooling pooling; /* NONE: as the model's files say */
    mr_embedding_norm norm;
} mr_embedding_options;

/* The pooling that the files name ({arch}.pooling_type of GGUF, modules.json of a folder), else the last token, with an
 * encoder the mean. Likewise the scaling ({arch}.normalize_embeddings), else it is done. */
mr_pooling mr_text_model_pooling(const mr_text_model *model);

/* Appends the tokens of a text, with the start and end tokens that the vocabulary adds. MR_ERR_INVALID when that leaves
 * none. */
mr_status mr_embedding_tokens(const mr_text_model *model, const char *text, size_t len, mr_tokens *tokens,
                              mr_error *err);

/* Computes the vectors of n texts: out[n, n_embd]. Several are computed at once. *stats (may be NULL) gets the sums
 * over all texts. Errors as mr_engine_submit and mr_request_next, with the text's number (from 0) in front; `cancel`
 * (may be NULL) ends all. */
mr_status mr_text_model_embed(mr_text_model *model, const mr_tokens *texts, size_t n,
                              const mr_embedding_options *options, float *out, mr_request_stats *stats,
                              mr_cancel *cancel, mr_error *err);

#endif
