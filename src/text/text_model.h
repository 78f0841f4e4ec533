/* A model with its text side: tokenizer, chat template, engine; and generation from text to text. */
#ifndef MR_TEXT_TEXT_MODEL_H
#define MR_TEXT_TEXT_MODEL_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/reasoning.h"
#include "text/token_mask.h"
#include "text/tokenizer.h"
#include "text/tool_messages.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mr_text_model mr_text_model;

typedef struct mr_text_model_options {
    const char *const
        *paths; /* GGUF files in order, or one folder with a model; n_paths 0 = the embedded default model */
    size_t n_paths;
    const char *tokenizer_folder; /* a folder whose tokenizer replaces the model's, or NULL */
    const char *chat_template;    /* a .jinja or .json file, or NULL */
    mr_model_options model;
    mr_engine_config engine;
} mr_text_model_options;

/* Errors name the file and what is wrong with it. MR_ERR_CANCELLED when options->model says so. */
mr_status mr_text_model_load(mr_text_model **model, const mr_text_model_options *options, mr_error *err);

/* Its generations must have been freed before. NULL is allowed. */
void mr_text_model_free(mr_text_model *model);

const mr_tokenizer *mr_text_model_tokenizer(const mr_text_model *model);
const mr_chat_template *mr_text_model_chat_template(const mr_text_model *model);

/* How the model's family writes tool calls and thoughts. */
typedef struct mr_text_tools {
    const mr_tool_format *format;
    const mr_reasoning_format *reasoning;
    mr_tool_caps caps; /* what the chat template does with tools */
} mr_text_tools;

const mr_text_tools *mr_text_model_tools(const mr_text_model *model);

/* The vocabulary for constraints (token_mask.h); made when it is first asked for. NULL when memory runs out. */
const mr_mask_vocab *mr_text_model_mask_vocab(mr_text_model *model);

mr_engine *mr_text_model_engine(mr_text_model *model);
const mr_model_info *mr_text_model_info(const mr_text_model *model);

/* The sampling that the model's files recommend (generation_config.json, general.sampling.* metadata), else temperature
 * 1 and top_p 1. */
mr_sampling mr_text_model_sampling(const mr_text_model *model);

typedef struct mr_generation mr_generation;

typedef struct mr_generation_params {
    const mr_token *prompt; /* [n_prompt], borrowed for the call */
    size_t n_prompt;
    uint32_t max_tokens; /* 0 = what the context leaves */
    mr_sampling sampling;
    const char *const *stop; /* stop strings: the text ends before the first of them */
    size_t n_stop;
    bool keep_special;    /* special tokens appear with their literal text (for parsers above) */
    const mr_token *keep; /* [n_keep], special tokens that appear when the others don't; borrowed for the generation */
    size_t n_keep;
    mr_mask_fn mask;
    void *mask_ctx;
} mr_generation_params;

/* Errors as mr_engine_submit, and MR_ERR_INVALID or MR_ERR_LIMIT for the stop strings. */
mr_status mr_generation_start(mr_generation **generation, mr_text_model *model, const mr_generation_params *params,
                              mr_error *err);

/* Waits for more text and appends it to *text: whole UTF-8 characters, never part of a stop string. *done is set at the
 * end, together with the last text. Errors as mr_request_next; text produced before an error has been delivered by
 * then. One thread at a time. */
mr_status mr_generation_next(mr_generation *generation, mr_cancel *cancel, mr_buf *text, bool *done, mr_error *err);

/* How it ended (a stop string counts as EOG), its figures, and the ids generated so far (owned by the generation; with
 * a stop string the ids of it are among them). */
mr_finish mr_generation_finish(const mr_generation *generation);
mr_request_stats mr_generation_stats(const mr_generation *generation);
const mr_tokens *mr_generation_tokens(const mr_generation *generation);
void mr_generation_free(mr_generation *generation);

#endif
