/* Chat templates: from a conversation to the text of a prompt, as `transformers`' apply_chat_template makes it: which
 * file wins, which of several named templates is used, which variables a template sees, and that a template's own
 * refusal (raise_exception) is an error.
 *
 * A model has one template or several named ones ("default", "tool_use"). Immutable after loading; may be used from
 * many threads at once. */
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

/* Texts of special tokens that templates read as variables (bos_token, …); NULL = none. Copied. */
typedef struct mr_special_texts {
    const char *bos, *eos, *unk, *pad;
} mr_special_texts;

/* Each function that loads also parses; errors name the file or metadata key and, in a template, line and column.
 * `specials` may be NULL. */

/* The templates in a GGUF's metadata: tokenizer.chat_template and tokenizer.chat_template.NAME. Where there is none:
 * ChatML, and mr_chat_template_is_fallback() tells. Special tokens that `specials` leaves out are taken from the
 * metadata's ids. The GGUF may be closed afterwards. */
mr_status mr_chat_template_from_gguf(mr_chat_template **chat, const mr_gguf *gguf, const mr_special_texts *specials,
                                     mr_error *err);

/* A .jinja file, or a .json file: an object whose `chat_template` is a text or a list of {"name", "template"}, with the
 * special tokens beside it (tokenizer_config.json is one). Its special tokens win over `specials`. */
mr_status mr_chat_template_from_file(mr_chat_template **chat, const char *path, const mr_special_texts *specials,
                                     mr_error *err);

/* What a Hugging Face model folder has: chat_template.jinja with additional_chat_templates/NAME.jinja, else
 * tokenizer_config.json, else chat_template.json; ChatML where there is none. Special tokens of tokenizer_config.json
 * and special_tokens_map.json win over `specials`. */
mr_status mr_chat_template_from_folder(mr_chat_template **chat, const char *folder, const mr_special_texts *specials,
                                       mr_error *err);

/* A template text. */
mr_status mr_chat_template_from_text(mr_chat_template **chat, const char *source, size_t len,
                                     const mr_special_texts *specials, mr_error *err);

void mr_chat_template_free(mr_chat_template *chat); /* NULL is allowed */

/* Whether the model had no template and ChatML stands in; the caller should warn. */
bool mr_chat_template_is_fallback(const mr_chat_template *chat);

/* The source of the template that is used with (or without) tools, by which parsers of a model's answer know its
 * family; owned by the template. NULL when there are several and none is for that. */
const char *mr_chat_template_source(const mr_chat_template *chat, bool with_tools);

/* Renders `messages` and appends the text to *text.
 *
 * messages: a JSON array of objects in the Hugging Face form: role, content, tool_calls [{id, type, function {name,
 * arguments}}], tool_call_id, name, reasoning_content; members that are null are left out. A tool call's `arguments`
 * that are JSON text reach the template as an object, as Hugging Face templates expect, unless the template only works
 * with the text. tools: the OpenAI array or NULL; with tools, the template named tool_use is taken where there is one.
 * vars: an object of further variables (documents, enable_thinking, …; they win over special tokens) or NULL. All JSON
 * is borrowed and unchanged.
 *
 * Errors: MR_ERR_INVALID for a conversation that the template refuses (its own message is in the text), for no
 * messages, and for a template that fails (line and column); MR_ERR_LIMIT for a template that exceeds a bound. *text is
 * unchanged on an error. */
mr_status mr_chat_template_render(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                                  bool add_generation_prompt, mr_buf *text, mr_error *err);

/* As mr_chat_template_render, with the time that strftime_now shows (seconds since 1970; 0 = now), so that a prompt can
 * be rendered again as it was. */
mr_status mr_chat_template_render_at(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                                     bool add_generation_prompt, int64_t now_unix, mr_buf *text, mr_error *err);

#endif
