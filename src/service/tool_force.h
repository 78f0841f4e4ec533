/* Forcing a call: an answer that has to be one begins with the text that every such call begins with. That text is
 * given to the model as if it had written it, which costs no generation. */
#ifndef MR_SERVICE_TOOL_FORCE_H
#define MR_SERVICE_TOOL_FORCE_H

#include "base/buf.h"
#include "service/prompt.h"
#include "text/text_model.h"

#include <stdbool.h>
#include <stddef.h>

/* Appends how a call begins behind this prompt, up to the arguments where the tool is known (name), else up to the
 * name. An open think block is closed first. number: of the call in the conversation. False when memory runs out. */
bool mr_tool_force(const mr_text_tools *family, const mr_prompt *prompt, const char *name, size_t number, mr_buf *text);

#endif
