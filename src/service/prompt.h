/* Prompts as tokens. */
#ifndef MR_SERVICE_PROMPT_H
#define MR_SERVICE_PROMPT_H

#include "base/error.h"
#include "text/text_model.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct mr_prompt {
    mr_tokens tokens;
    bool reasoning_open; /* the chat template left a think block open for the answer */
    bool tools_open;     /* likewise the mark that begins tool calls */
} mr_prompt;

/* Renders messages (borrowed JSON array) through the model's chat template, up to where the assistant's answer begins,
 * and appends the tokens to prompt->tokens. `tools` may be NULL. */
mr_status mr_prompt_chat(mr_prompt *prompt, const mr_text_model *model, json_t *messages, json_t *tools, mr_error *err);

/* Appends the tokens of a plain text; at the beginning of the prompt with the start token that the vocabulary adds. */
mr_status mr_prompt_text(mr_prompt *prompt, const mr_text_model *model, const char *text, size_t len, mr_error *err);

/* Appends tokens that an earlier result gave; MR_ERR_INVALID for ids that the vocabulary does not have. */
mr_status mr_prompt_context(mr_prompt *prompt, const mr_text_model *model, const int32_t *ids, size_t n, mr_error *err);

/* Appends what closes an assistant's answer in the chat template, unless the prompt is empty or ends with a token that
 * ends a generation. */
mr_status mr_prompt_end_turn(mr_prompt *prompt, const mr_text_model *model, mr_error *err);

void mr_prompt_free(mr_prompt *prompt);

#endif
