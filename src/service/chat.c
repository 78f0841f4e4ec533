/* The method `chat`: the next message of a conversation. */
#include "service/job.h"

#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "service/conversation.h"
#include "service/form.h"
#include "service/messages.h"
#include "service/pb_wire.h"

#include <stdlib.h>
#include <string.h>

typedef Jobworkerp__Runner__Llm__LLMChatResult pb_result;
typedef Jobworkerp__Runner__Llm__LLMChatResult__MessageContent pb_content;
typedef Jobworkerp__Runner__Llm__LLMChatResult__Usage pb_usage;
typedef Jobworkerp__Runner__Llm__PendingToolCalls pb_pending;
typedef Jobworkerp__Runner__Llm__ToolCallRequest pb_request;
typedef Jobworkerp__Runner__Llm__ToolExecutionStarted pb_started;
typedef Jobworkerp__Runner__Llm__ToolExecutionResult pb_ended;

/* One result on the stack, with room for the parts that it points to. */
typedef struct result_parts {
    pb_result result;
    pb_content content;
    pb_usage usage;
    pb_pending pending;
} result_parts;

static void init_result(result_parts *parts, bool done) {
    jobworkerp__runner__llm__llmchat_result__init(&parts->result);
    parts->result.has_done = 1;
    parts->result.done = done;
}

static void set_text(result_parts *parts, const mr_buf *content, const mr_buf *reasoning) {
    jobworkerp__runner__llm__llmchat_result__message_content__init(&parts->content);
    parts->content.content_case = JOBWORKERP__RUNNER__LLM__LLMCHAT_RESULT__MESSAGE_CONTENT__CONTENT_TEXT;
    parts->content.text = (char *)mr_buf_cstr(content);
    parts->result.content = &parts->content;
    if (reasoning->len > 0) parts->result.reasoning_content = (char *)mr_buf_cstr(reasoning);
}

static void set_usage(result_parts *parts, const char *model, const mr_usage *usage) {
    jobworkerp__runner__llm__llmchat_result__usage__init(&parts->usage);
    mr_usage_write(usage, model, &parts->usage.base);
    parts->result.usage = &parts->usage;
}

static mr_status send_piece(void *ctx, const mr_buf *content, const mr_buf *reasoning, mr_error *err) {
    result_parts parts;
    init_result(&parts, false);
    set_text(&parts, content, reasoning);
    if (content->len == 0) parts.result.content = NULL;
    return mr_job_send(ctx, &parts.result.base, err);
}

/* --- tools --- */

static void fill_ended(pb_ended *pb, const char *id, const char *name, const mr_function_outcome *outcome) {
    const char *text = mr_buf_cstr(&outcome->text);
    jobworkerp__runner__llm__tool_execution_result__init(pb);
    pb->call_id = (char *)id;
    pb->fn_name = (char *)name;
    pb->result = (char *)(outcome->success ? text : "");
    pb->error = (char *)(outcome->success ? NULL : text);
    pb->has_success = 1;
    pb->success = outcome->success;
    pb->has_job_id = outcome->job_id != 0;
    pb->job_id = outcome->job_id;
}

static mr_status send_started(void *ctx, const mr_tool_call *call, mr_error *err) {
    pb_started started;
    jobworkerp__runner__llm__tool_execution_started__init(&started);
    started.call_id = (char *)call->id;
    started.fn_name = (char *)call->name;
    started.fn_arguments = (char *)call->arguments;
    result_parts parts;
    init_result(&parts, false);
    parts.result.tool_execution_started = &started;
    return mr_job_send(ctx, &parts.result.base, err);
}

static mr_status send_ended(void *ctx, const mr_tool_call *call, mr_error *err) {
    pb_ended ended, *list[] = {&ended};
    fill_ended(&ended, call->id, call->name, &call->outcome);
    result_parts parts;
    init_result(&parts, false);
    parts.result.n_tool_execution_results = 1;
    parts.result.tool_execution_results = list;
    return mr_job_send(ctx, &parts.result.base, err);
}

/* The calls that wait for the client, in the arena. */
static mr_status set_pending(result_parts *parts, const json_t *calls, mr_arena *arena, mr_error *err) {
    size_t n = json_array_size(calls);
    if (n == 0) return MR_OK;
    pb_request *requests = mr_arena_calloc(arena, n, sizeof *requests);
    pb_request **list = mr_arena_calloc(arena, n, sizeof *list);
    for (size_t i = 0; list != NULL && requests != NULL && i < n; i++) {
        const json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        const json_t *arguments = json_object_get(function, "arguments");
        char *dumped = json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_COMPACT);
        const char *text = dumped != NULL ? dumped : json_string_value(arguments);
        jobworkerp__runner__llm__tool_call_request__init(&requests[i]);
        requests[i].call_id = (char *)json_string_value(json_object_get(call, "id"));
        requests[i].fn_name = (char *)json_string_value(json_object_get(function, "name"));
        requests[i].fn_arguments = text != NULL ? mr_arena_strndup(arena, text, strlen(text)) : NULL;
        free(dumped);
        if (requests[i].fn_arguments == NULL) return mr_fail_nomem(err, n * sizeof *requests, "the calls of tools");
        list[i] = &requests[i];
    }
    if (list == NULL || requests == NULL) return mr_fail_nomem(err, n * sizeof *requests, "the calls of tools");
    jobworkerp__runner__llm__pending_tool_calls__init(&parts->pending);
    parts->pending.n_calls = n;
    parts->pending.calls = list;
    parts->result.pending_tool_calls = &parts->pending;
    parts->result.has_requires_tool_execution = parts->result.requires_tool_execution = 1;
    return MR_OK;
}

static mr_status set_records(result_parts *parts, const mr_conversation *c, mr_arena *arena, mr_error *err) {
    size_t n = c->n_records;
    if (n == 0) return MR_OK;
    pb_ended *ended = mr_arena_calloc(arena, n, sizeof *ended), **list = mr_arena_calloc(arena, n, sizeof *list);
    if (ended == NULL || list == NULL) return mr_fail_nomem(err, n * sizeof *ended, "the results of tools");
    for (size_t i = 0; i < n; i++) {
        fill_ended(&ended[i], c->records[i].id, c->records[i].name, &c->records[i].outcome);
        list[i] = &ended[i];
    }
    parts->result.n_tool_execution_results = n;
    parts->result.tool_execution_results = list;
    return MR_OK;
}

/* --- the job --- */

static mr_status finish(const mr_conversation *c, mr_error *err) {
    const mr_job *job = c->job;
    mr_arena arena = {0};
    result_parts parts;
    init_result(&parts, true);
    if (!mr_job_is_stream(job) || job->settings->stream_final_full_text)
        set_text(&parts, &c->answer.content, &c->answer.reasoning);
    set_usage(&parts, mr_job_model_name(job), &c->answer.usage);
    mr_job_log(job, "chat", &c->answer);
    mr_status status = set_pending(&parts, c->pending, &arena, err);
    if (status == MR_OK) status = set_records(&parts, c, &arena, err);
    if (status == MR_OK) status = mr_job_finish(job, &parts.result.base, err);
    mr_arena_free(&arena);
    return status;
}

static mr_status run(const mr_job *job, const mr_pb_chat_args *args, mr_error *err) {
    bool stream = mr_job_is_stream(job);
    mr_conversation c = {
        .job = job,
        .options = mr_job_options_read((const ProtobufCMessage *)args->options),
        .tool_options = mr_tool_options_read((const ProtobufCMessage *)args->function_options),
        .on_piece = stream ? send_piece : NULL,
        .on_started = stream ? send_started : NULL,
        .on_ended = stream ? send_ended : NULL,
        .ctx = (void *)job,
        .keep_records = !stream || job->settings->stream_final_full_text,
    };
    mr_status status = mr_form_read_schema(args->json_schema, &c.schema, err);
    if (status == MR_OK) status = mr_job_options_check(&c.options, err);
    if (status == MR_OK) status = mr_messages_from_chat(args, &c.messages, err);
    if (status == MR_OK) mr_span_json(job->span, "input", c.messages);
    if (status == MR_OK) status = mr_conversation_load_tools(&c, err);
    if (status == MR_OK) status = mr_conversation_run(&c, err);
    if (status == MR_OK) status = finish(&c, err);
    mr_conversation_free(&c);
    return status;
}

mr_status mr_job_chat(const mr_job *job, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *args;
    mr_status status = mr_pb_unpack(&jobworkerp__runner__llm__llmchat_args__descriptor, job->request->args,
                                    job->request->n_args, &arena, &args, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "the arguments of chat cannot be decoded");
    else
        status = run(job, (const mr_pb_chat_args *)args, err);
    mr_arena_free(&arena);
    return status;
}
