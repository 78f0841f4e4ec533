/* Chat templates: from a conversation to the prompt text that a model was trained on.
 *
 * Loading and rendering follow Hugging Face transformers' apply_chat_template: which file wins, which of several named
 * templates is used, which variables a template sees, and that a template's own refusal (raise_exception) is an error.
 *
 * A loaded chat template is immutable and may be used from many threads at once. */
#ifndef MR_TEXT_CHAT_TEMPLATE_H
#define MR_TEXT_CHAT_TEMPLATE_H

#include "base/buf.h"
#include "base/error.h"
#include "model/gguf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_chat_template mr_chat_template;

/* Where to look; every member may be NULL. Templates come from the first source that has one: `source`, `file`, `folder`,
 * `gguf`, and ChatML when none has. Special tokens (bos_token, eos_token, …) are collected from all of them, where the
 * earlier source wins for each token. */
typedef struct mr_chat_template_sources {
    const char *source; /* a template's text, NUL-terminated */
    const char *file;   /* NAME.jinja, or NAME.json: an object with `chat_template` (a text, or a list of {name, template})
                         * and special tokens, as tokenizer_config.json */
    const char *folder; /* a Hugging Face model: chat_template.jinja, additional_chat_templates/NAME.jinja,
                         * tokenizer_config.json, chat_template.json, special_tokens_map.json */
    const mr_gguf *gguf; /* metadata tokenizer.chat_template, tokenizer.chat_template.NAME and the ids of special tokens */
} mr_chat_template_sources;

/* Loads and parses. The sources may be freed afterwards. Errors name the file and, in a template, line and column; a
 * missing `file` is MR_ERR_NOT_FOUND, a folder or GGUF without a template is no error. */
mr_status mr_chat_template_load(mr_chat_template **chat_template, const mr_chat_template_sources *sources, mr_error *err);

void mr_chat_template_free(mr_chat_template *chat_template); /* NULL is allowed */

/* Sets a special token's text, e.g. ("bos_token", "<s>"), replacing what the sources gave; text NULL removes it. For use
 * before the template is shared. */
mr_status mr_chat_template_set_token(mr_chat_template *chat_template, const char *name, const char *text, mr_error *err);

/* Whether no source had a template, so that ChatML is used. The caller should warn: the model may not know that format. */
bool mr_chat_template_is_fallback(const mr_chat_template *chat_template);

/* The text of the template that a conversation with (or without) tools is rendered by; NUL-terminated, owned by the
 * template. NULL when there are several and none of them is for that. Parsers of a model's answer recognize its family by
 * it. */
const char *mr_chat_template_source(const mr_chat_template *chat_template, bool with_tools);

/* Appends the rendered conversation to *text.
 *
 * messages: an array of objects in the shape of OpenAI's API and Hugging Face's: role, content, tool_calls [{id, type,
 * function {name, arguments}}], tool_call_id, name, reasoning_content; members that are null are left out. `arguments` may
 * be an object or its JSON text: templates see an object, and when the template fails on that, the text.
 * tools: an array of tool schemas, or NULL. vars: an object with further variables (documents, enable_thinking, …; they
 * win over special tokens), or NULL. All are borrowed and unchanged.
 *
 * Errors: MR_ERR_INVALID for a conversation that the template refuses (its own message is in the text), for no messages,
 * and for a template that fails (line and column); MR_ERR_LIMIT for a template that exceeds a bound. *text is unchanged on
 * an error. */
mr_status mr_chat_template_render(const mr_chat_template *chat_template, json_t *messages, json_t *tools, json_t *vars,
                                  bool add_generation_prompt, mr_buf *text, mr_error *err);

/* As mr_chat_template_render, with the time that strftime_now shows (seconds since 1970; 0 = now), so that a prompt can be
 * rendered again as it was. */
mr_status mr_chat_template_render_at(const mr_chat_template *chat_template, json_t *messages, json_t *tools, json_t *vars,
                                     bool add_generation_prompt, int64_t now_unix, mr_buf *text, mr_error *err);

#endif
