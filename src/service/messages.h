/* A chat job's messages as the JSON that chat templates read: `role`, `content`, `tool_calls`, `tool_call_id`, `name`.
 */
#ifndef MR_SERVICE_MESSAGES_H
#define MR_SERVICE_MESSAGES_H

#include "base/error.h"
#include "chat_args.pb-c.h"

#include <jansson.h>

/* The key of an object that stands between the messages where calls are to be run first: its value is an array of
 * tool_calls, and their results take its place. */
#define MR_TO_RUN "to_run"

typedef Jobworkerp__Runner__Llm__LLMChatArgs mr_pb_chat_args;

/* The messages as a new JSON array. A tool result without a function's name takes it from the newest earlier call with
 * its id. Requests to run calls are objects with MR_TO_RUN, unless later messages hold the results. Errors name the
 * message, e.g. "messages[2]": no messages, no role, no content, an image, a result that nothing asked for, a kind of
 * content that does not go with the role. */
mr_status mr_messages_from_chat(const mr_pb_chat_args *args, json_t **messages, mr_error *err);

#endif
