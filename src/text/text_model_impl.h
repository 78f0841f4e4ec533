/* What text_model.c and generation.c share. */
#ifndef MR_TEXT_TEXT_MODEL_IMPL_H
#define MR_TEXT_TEXT_MODEL_IMPL_H

#include "text/model_path.h"
#include "text/text_model.h"

#include <pthread.h>

struct mr_text_model {
    mr_gguf *gguf;
    mr_model *model;
    mr_engine *engine;
    mr_tokenizer *tokenizer;
    char *hf_folder; /* the model's folder when it is one of Hugging Face files, else NULL */
    mr_chat_template *chat_template;
    mr_text_tools tools;
    pthread_mutex_t lock; /* guards mask_vocab */
    mr_mask_vocab *mask_vocab;
    mr_sampling sampling;
    mr_pooling pooling; /* of embeddings */
    bool normalize;     /* embeddings have length 1 */
    mr_tokens eog;      /* ids that end a generation */
};

/* recommended_sampling.c: the sampling recommended by `folder`/generation_config.json (folder may be NULL, the file may
 * be missing), else by the GGUF's general.sampling.* metadata, else the default. Values that make no sense are named in
 * a warning and ignored. */
mr_sampling mr_recommended_sampling(const char *folder, const mr_gguf *gguf);

#endif
