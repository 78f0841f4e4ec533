/* Whether a call's arguments can be what the tool takes. */
#ifndef MR_SERVICE_TOOL_ARGUMENTS_H
#define MR_SERVICE_TOOL_ARGUMENTS_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>

/* Checks arguments (JSON text) against the schema's type, enum, const, required, properties, additionalProperties and
 * items; what other keywords say is left to the tool. Where they do not fit, *why says so in one sentence for the
 * model, and the result is false. */
bool mr_tool_arguments_fit(const char *arguments, const json_t *schema, mr_buf *why);

#endif
