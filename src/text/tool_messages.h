/* A conversation with tools, rendered so that the model's own template shows all of it: templates differ in what they
 * take, and many take less than the API lets a client say. */
#ifndef MR_TEXT_TOOL_MESSAGES_H
#define MR_TEXT_TOOL_MESSAGES_H

#include "base/buf.h"
#include "base/error.h"
#include "text/chat_template.h"
#include "text/tool_format.h"

#include <jansson.h>
#include <stdbool.h>

/* What a template does with a conversation, found by rendering small ones. */
typedef struct mr_tool_caps {
    bool tools;        /* lists the tools */
    bool calls;        /* shows an assistant's tool_calls */
    bool parallel;     /* shows several calls of one message */
    bool results;      /* takes messages of the role tool */
    bool system;       /* takes a system message */
    bool null_content; /* wants content null, not "", beside calls */
    bool one_thought;  /* takes either content or reasoning beside calls */
    bool functions;    /* reads the list of tools as a text in the variable `functions` */
} mr_tool_caps;

/* Costs about ten small renderings; the result holds as long as the template. */
void mr_tool_caps_probe(const mr_chat_template *chat, mr_tool_caps *caps);

/* As mr_chat_template_render, with the conversation fitted to the template first:
 *   - no list of tools: a system message tells the tools and asks for calls in the format;
 *   - no calls: an assistant's calls are written into its content, as the format writes them;
 *   - one call a message: a message with several becomes several, each followed by its own result;
 *   - no role tool: results become a user message with each in <tool_response> tags;
 *   - call ids that the template would refuse are replaced, in calls and results alike;
 *   - no system role: what it says goes in front of the first user message.
 * What a template takes as it is, it gets as it is. An earlier conversation is rendered the same way again, so that a
 * prompt grows at its end. Errors as mr_chat_template_render. */
mr_status mr_tool_render(const mr_chat_template *chat, const mr_tool_format *format, const mr_tool_caps *caps,
                         json_t *messages, json_t *tools, json_t *vars, bool add_generation_prompt, mr_buf *text,
                         mr_error *err);

#endif
