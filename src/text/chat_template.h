/* Chat templates: from a conversation to the text of a prompt, as `transformers`' apply_chat_template makes it.
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

typedef struct mr_chat_template mr_chat_template;

/* Texts of special tokens that templates read as variables; NULL = none. Copied. */
typedef struct mr_special_texts {
    const char *bos, *eos, *unk, *pad;
} mr_special_texts;

/* The templates in a GGUF's metadata: tokenizer.chat_template and tokenizer.chat_template.NAME. Where there is none:
 * ChatML, and mr_chat_template_is_fallback() tells. */
mr_status mr_chat_template_from_gguf(mr_chat_template **chat, const mr_gguf *gguf, const mr_special_texts *specials,
                                     mr_error *err);

/* A .jinja file, or a .json file: an object whose `chat_template` is a text or a list of {"name", "template"}, with the
 * special tokens beside it (tokenizer_config.json is one). Its special tokens win over `specials`. */
mr_status mr_chat_template_from_file(mr_chat_template **chat, const char *path, const mr_special_texts *specials,
                                     mr_error *err);

/* What a Hugging Face model folder has: chat_template.jinja with additional_chat_templates/NAME.jinja,
 * chat_template.json, or tokenizer_config.json, in this order; ChatML where there is none. */
mr_status mr_chat_template_from_folder(mr_chat_template **chat, const char *folder, const mr_special_texts *specials,
                                       mr_error *err);

/* A template text; for tests. */
mr_status mr_chat_template_from_text(mr_chat_template **chat, const char *source, size_t len,
                                     const mr_special_texts *specials, mr_error *err);

void mr_chat_template_free(mr_chat_template *chat);

/* Whether the model had no template and ChatML stands in. */
bool mr_chat_template_is_fallback(const mr_chat_template *chat);

/* The source of the template that is used with (or without) tools; owned by the template. */
const char *mr_chat_template_source(const mr_chat_template *chat, bool with_tools);

/* Renders `messages` (a JSON array in the Hugging Face form: role, content, tool_calls, tool_call_id, name, …) and
 * appends the text to *text. `tools` is the OpenAI array or NULL; `vars` an object of further variables or NULL. With
 * tools, the template named tool_use is taken where there is one. A tool call's `arguments` that are JSON text reach
 * the template as an object, as Hugging Face templates expect, unless the template only works with the text. All JSON
 * is borrowed. */
mr_status mr_chat_template_render(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                                  bool add_generation_prompt, mr_buf *text, mr_error *err);

#endif
