/* What chat_template.c and chat_template_load.c share. */
#ifndef MR_TEXT_CHAT_TEMPLATE_IMPL_H
#define MR_TEXT_CHAT_TEMPLATE_IMPL_H

#include "text/chat_template.h"
#include "text/jinja.h"

enum { MR_CHAT_TEMPLATE_MAX_NAMED = 64 };

/* One named template. */
typedef struct mr_named_template {
    char *name;
    char *source;
    mr_jinja *jinja;
} mr_named_template;

struct mr_chat_template {
    mr_named_template named[MR_CHAT_TEMPLATE_MAX_NAMED];
    size_t n_named;
    bool is_fallback;
    json_t *tokens; /* special tokens by variable name */
};

/* Adds a template (copied) and parses it; `where` (may be NULL) names its origin in errors. A name that is there
 * already is replaced. */
mr_status mr_chat_template_add(mr_chat_template *t, const char *name, const char *source, size_t len, const char *where,
                               mr_error *err);

/* An empty one; mr_chat_template_finish must follow. */
mr_status mr_chat_template_new(mr_chat_template **chat, mr_error *err);

/* Ends loading: ChatML where no template was found; on a status that is no success *chat is freed and NULL. */
mr_status mr_chat_template_finish(mr_chat_template **chat, mr_status status, mr_error *err);

/* As mr_chat_template_render_at, but a null content reaches the template: some tell "no text" by it. */
mr_status mr_chat_template_render_nulls(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                                        bool add_generation_prompt, int64_t now_unix, mr_buf *text, mr_error *err);

#endif
