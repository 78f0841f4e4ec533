#include "service/messages.h"

#include <stdbool.h>
#include <string.h>

typedef Jobworkerp__Runner__Llm__LLMChatArgs__ChatMessage pb_message;
typedef Jobworkerp__Runner__Llm__LLMChatArgs__MessageContent pb_content;
typedef Jobworkerp__Runner__Llm__LLMChatArgs__MessageContent__ToolCalls pb_tool_calls;
typedef Jobworkerp__Runner__Llm__LLMChatArgs__MessageContent__ToolResults pb_tool_results;

enum {
    ROLE_UNSPECIFIED = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__UNSPECIFIED,
    ROLE_SYSTEM = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__SYSTEM,
    ROLE_USER = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__USER,
    ROLE_ASSISTANT = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__ASSISTANT,
    ROLE_TOOL = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__TOOL,
    HAS_TEXT = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__MESSAGE_CONTENT__CONTENT_TEXT,
    HAS_IMAGE = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__MESSAGE_CONTENT__CONTENT_IMAGE,
    HAS_TOOL_CALLS = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__MESSAGE_CONTENT__CONTENT_TOOL_CALLS,
    HAS_REQUESTS = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__MESSAGE_CONTENT__CONTENT_TOOL_EXECUTION_REQUESTS,
    HAS_RESULTS = JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__MESSAGE_CONTENT__CONTENT_TOOL_RESULTS,
};

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static const char *role_name(int role) {
    switch (role) {
    case ROLE_SYSTEM:
        return "system";
    case ROLE_USER:
        return "user";
    case ROLE_ASSISTANT:
        return "assistant";
    case ROLE_TOOL:
        return "tool";
    default:
        return NULL;
    }
}

/* Appends a value that may be NULL because memory ran out. */
static mr_status append(json_t *array, json_t *value, mr_error *err) {
    if (value != NULL && json_array_append_new(array, value) == 0) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the messages");
}

/* Arguments as an object, as templates expect them; what is no JSON object stays text. */
static json_t *parse_arguments(const char *text) {
    if (*text == '\0') return json_object();
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(object)) return object;
    json_decref(object);
    return json_string(text);
}

static mr_status add_tool_calls(json_t *messages, const pb_tool_calls *pb, size_t at, mr_error *err) {
    if (pb->n_calls == 0) return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: tool_calls is empty", at);
    json_t *calls = json_array();
    for (size_t i = 0; calls != NULL && i < pb->n_calls; i++) {
        const char *name = or_empty(pb->calls[i]->fn_name);
        if (*name == '\0') {
            json_decref(calls);
            return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: tool_calls.calls[%zu] has no fn_name", at, i);
        }
        json_array_append_new(calls, json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", or_empty(pb->calls[i]->call_id),
                                               "type", "function", "function", "name", name, "arguments",
                                               parse_arguments(or_empty(pb->calls[i]->fn_arguments))));
    }
    if (calls != NULL && json_array_size(calls) != pb->n_calls) {
        json_decref(calls);
        calls = NULL;
    }
    return append(messages,
                  calls == NULL ? NULL
                                : json_pack("{s:s, s:s, s:o}", "role", "assistant", "content", "", "tool_calls", calls),
                  err);
}

/* The function that the newest call with this id names, or NULL. */
static const char *called_function(const json_t *messages, const char *call_id) {
    for (size_t i = json_array_size(messages); i-- > 0;) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t k = json_array_size(calls); k-- > 0;) {
            const json_t *call = json_array_get(calls, k);
            if (strcmp(json_string_value(json_object_get(call, "id")), call_id) != 0) continue;
            return json_string_value(json_object_get(json_object_get(call, "function"), "name"));
        }
    }
    return NULL;
}

static mr_status add_tool_results(json_t *messages, const pb_tool_results *pb, size_t at, mr_error *err) {
    if (pb->n_results == 0) return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: tool_results is empty", at);
    for (size_t i = 0; i < pb->n_results; i++) {
        const char *id = or_empty(pb->results[i]->call_id), *name = or_empty(pb->results[i]->fn_name);
        if (*name == '\0') name = called_function(messages, id);
        if (name == NULL) {
            return mr_fail(
                err, MR_ERR_INVALID,
                "messages[%zu]: tool_results.results[%zu] has no fn_name, and no earlier message holds a call "
                "with the id \"%.64s\"",
                at, i, id);
        }
        const char *content = or_empty(pb->results[i]->content);
        const char *mark = pb->results[i]->is_error ? "Error: " : "";
        json_t *message = json_pack("{s:s, s:s, s:s, s:s+}", "role", "tool", "tool_call_id", id, "name", name,
                                    "content", mark, content);
        mr_status status = append(messages, message, err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* --- calls for the plugin to run --- */

typedef Jobworkerp__Runner__Llm__LLMChatArgs__MessageContent__ToolExecutionRequests pb_requests;

static json_t *calls_from_requests(const pb_requests *pb) {
    json_t *calls = json_array();
    for (size_t i = 0; i < pb->n_requests; i++) {
        json_array_append_new(calls, json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", or_empty(pb->requests[i]->call_id),
                                               "type", "function", "function", "name", pb->requests[i]->fn_name,
                                               "arguments", parse_arguments(or_empty(pb->requests[i]->fn_arguments))));
    }
    if (json_array_size(calls) == pb->n_requests) return calls;
    json_decref(calls);
    return NULL;
}

static bool holds_call(const json_t *message, const char *id) {
    const json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        if (strcmp(json_string_value(json_object_get(json_array_get(calls, i), "id")), id) == 0) return true;
    }
    return false;
}

/* The calls stand in the conversation as the assistant's, unless its last message holds them already; what is to be run
 * is marked by an object of its own, which the results replace. */
static mr_status add_requests(json_t *messages, const pb_requests *pb, size_t at, mr_error *err) {
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    bool known = pb->n_requests > 0;
    if (!known) return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: tool_execution_requests is empty", at);
    for (size_t i = 0; i < pb->n_requests; i++) {
        if (or_empty(pb->requests[i]->fn_name)[0] == '\0') {
            return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: tool_execution_requests.requests[%zu] has no fn_name",
                           at, i);
        }
        known = known && holds_call(last, or_empty(pb->requests[i]->call_id));
    }
    json_t *calls = calls_from_requests(pb);
    mr_status status = MR_OK;
    if (!known) {
        status = append(messages,
                        json_pack("{s:s, s:s, s:O*}", "role", "assistant", "content", "", "tool_calls", calls), err);
    }
    if (status == MR_OK)
        status = append(messages, calls != NULL ? json_pack("{s:o}", MR_TO_RUN, json_copy(calls)) : NULL, err);
    json_decref(calls);
    return status;
}

/* Whether a message behind `at` has the call's result. */
static bool has_result(const json_t *messages, size_t at, const json_t *call) {
    const char *id = json_string_value(json_object_get(call, "id"));
    for (size_t i = at + 1; i < json_array_size(messages); i++) {
        const json_t *answered = json_object_get(json_array_get(messages, i), "tool_call_id");
        if (answered != NULL && strcmp(json_string_value(answered), id) == 0) return true;
    }
    return false;
}

/* Calls whose results the client knows already are not run again. */
static void drop_answered(json_t *messages) {
    for (size_t i = json_array_size(messages); i-- > 0;) {
        json_t *calls = json_object_get(json_array_get(messages, i), MR_TO_RUN);
        if (calls == NULL) continue;
        for (size_t k = json_array_size(calls); k-- > 0;) {
            if (has_result(messages, i, json_array_get(calls, k))) json_array_remove(calls, k);
        }
        if (json_array_size(calls) == 0) json_array_remove(messages, i);
    }
}

static mr_status wrong_role(const char *what, const char *needed, size_t at, mr_error *err) {
    return mr_fail(err, MR_ERR_INVALID, "messages[%zu]: %s belong into a message of the role %s", at, what, needed);
}

static mr_status add_message(json_t *messages, const pb_message *pb, size_t at, mr_error *err) {
    const int role_id = (int)pb->role;
    const char *role = role_name(role_id);
    if (role_id == ROLE_UNSPECIFIED) {
        return mr_fail(err, MR_ERR_INVALID, "messages[%zu] has no role; use SYSTEM, USER, ASSISTANT or TOOL", at);
    }
    if (role == NULL) {
        return mr_fail(err, MR_ERR_INVALID,
                       "messages[%zu] has the unknown role %d; use SYSTEM, USER, ASSISTANT or TOOL", at, role_id);
    }
    const pb_content *content = pb->content;
    switch (content != NULL ? (int)content->content_case : 0) {
    case HAS_TEXT:
        return append(messages, json_pack("{s:s, s:s}", "role", role, "content", or_empty(content->text)), err);
    case HAS_IMAGE:
        return mr_fail(err, MR_ERR_UNSUPPORTED, "messages[%zu] holds an image, but this model takes text only", at);
    case HAS_TOOL_CALLS:
        if (role_id != ROLE_ASSISTANT) return wrong_role("tool_calls", "ASSISTANT", at, err);
        return add_tool_calls(messages, content->tool_calls, at, err);
    case HAS_RESULTS:
        if (role_id != ROLE_TOOL && role_id != ROLE_USER) return wrong_role("tool_results", "TOOL", at, err);
        return add_tool_results(messages, content->tool_results, at, err);
    case HAS_REQUESTS:
        if (role_id == ROLE_SYSTEM) return wrong_role("tool_execution_requests", "TOOL", at, err);
        return add_requests(messages, content->tool_execution_requests, at, err);
    default:
        return mr_fail(err, MR_ERR_INVALID, "messages[%zu] has no content; give it a text", at);
    }
}

mr_status mr_messages_from_chat(const mr_pb_chat_args *args, json_t **messages, mr_error *err) {
    *messages = NULL;
    if (args->n_messages == 0) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the chat has no messages; give at least one, for instance one of the role USER");
    }
    json_t *array = json_array();
    if (array == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the messages");
    for (size_t i = 0; i < args->n_messages; i++) {
        mr_status status = add_message(array, args->messages[i], i, err);
        if (status != MR_OK) {
            json_decref(array);
            return status;
        }
    }
    drop_answered(array);
    *messages = array;
    return MR_OK;
}
