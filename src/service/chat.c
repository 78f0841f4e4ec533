/* The method `chat`: the next message of a conversation. */
#include "service/job.h"

#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "service/messages.h"
#include "service/pb_wire.h"
#include "service/prompt.h"

typedef Jobworkerp__Runner__Llm__LLMChatArgs__LLMOptions pb_options;
typedef Jobworkerp__Runner__Llm__LLMChatResult pb_result;
typedef Jobworkerp__Runner__Llm__LLMChatResult__MessageContent pb_content;
typedef Jobworkerp__Runner__Llm__LLMChatResult__Usage pb_usage;

static mr_job_options read_options(const pb_options *pb) {
    if (pb == NULL) return (mr_job_options){0};
    return (mr_job_options){
        .has_max_tokens = pb->has_max_tokens,
        .has_temperature = pb->has_temperature,
        .has_top_p = pb->has_top_p,
        .has_repeat_penalty = pb->has_repeat_penalty,
        .has_repeat_last_n = pb->has_repeat_last_n,
        .has_seed = pb->has_seed,
        .max_tokens = pb->max_tokens,
        .temperature = pb->temperature,
        .top_p = pb->top_p,
        .repeat_penalty = pb->repeat_penalty,
        .repeat_last_n = pb->repeat_last_n,
        .seed = pb->seed,
        .extract_reasoning = pb->extract_reasoning_content,
    };
}

/* One result on the stack, with room for the parts that it points to. */
typedef struct result_parts {
    pb_result result;
    pb_content content;
    pb_usage usage;
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
    parts->usage.model = (char *)model;
    parts->usage.has_prompt_tokens = parts->usage.has_completion_tokens = 1;
    parts->usage.has_total_prompt_time_sec = parts->usage.has_total_completion_time_sec = 1;
    parts->usage.prompt_tokens = usage->prompt_tokens;
    parts->usage.completion_tokens = usage->completion_tokens;
    parts->usage.total_prompt_time_sec = usage->prompt_sec;
    parts->usage.total_completion_time_sec = usage->completion_sec;
    parts->result.usage = &parts->usage;
}

static mr_status send_piece(void *ctx, const mr_buf *content, const mr_buf *reasoning, mr_error *err) {
    result_parts parts;
    init_result(&parts, false);
    set_text(&parts, content, reasoning);
    if (content->len == 0) parts.result.content = NULL;
    return mr_job_send(ctx, &parts.result.base, err);
}

static mr_status check_args(const mr_job *job, const mr_pb_chat_args *args, mr_error *err) {
    const Jobworkerp__Runner__Llm__LLMChatArgs__FunctionOptions *tools = args->function_options;
    mr_status status = mr_job_check_json_schema(args->json_schema, err);
    if (status != MR_OK || tools == NULL || !tools->use_function_calling) return status;
    bool client_tools = tools->client_tools_json != NULL && *tools->client_tools_json != '\0';
    return mr_job_check_tools(job, true, client_tools, err);
}

static mr_status build_prompt(const mr_job *job, const mr_pb_chat_args *args, mr_prompt *prompt, mr_error *err) {
    json_t *messages;
    mr_status status = mr_messages_from_chat(args, &messages, err);
    if (status == MR_OK) mr_span_json(job->span, "input", messages);
    if (status == MR_OK) status = mr_prompt_chat(prompt, job->model, messages, NULL, err);
    json_decref(messages);
    return status;
}

static mr_status finish(const mr_job *job, const mr_answer *answer, mr_error *err) {
    result_parts parts;
    init_result(&parts, true);
    if (!mr_job_is_stream(job) || job->settings->stream_final_full_text) {
        set_text(&parts, &answer->content, &answer->reasoning);
    }
    set_usage(&parts, mr_job_model_name(job), &answer->usage);
    mr_job_log(job, "chat", answer);
    return mr_job_finish(job, &parts.result.base, err);
}

static mr_status run(const mr_job *job, const mr_pb_chat_args *args, mr_prompt *prompt, mr_answer *answer,
                     mr_error *err) {
    mr_job_options options = read_options(args->options);
    mr_sampling recommended = mr_text_model_sampling(job->model);
    mr_answer_request request = {
        .model = job->model,
        .extract_reasoning = options.extract_reasoning,
        .cancel = job->request->cancel,
        .on_piece = mr_job_is_stream(job) ? send_piece : NULL,
        .ctx = (void *)job,
    };
    mr_status status = check_args(job, args, err);
    if (status == MR_OK)
        status = mr_job_options_resolve(&options, &recommended, &request.sampling, &request.max_tokens, err);
    if (status == MR_OK) status = build_prompt(job, args, prompt, err);
    if (status != MR_OK) return status;
    request.prompt = prompt->tokens.ids;
    request.n_prompt = prompt->tokens.n;
    request.reasoning_open = prompt->reasoning_open;
    status = mr_answer_generate(&request, answer, err);
    return status == MR_OK ? finish(job, answer, err) : status;
}

mr_status mr_job_chat(const mr_job *job, mr_error *err) {
    mr_arena arena = {0};
    mr_prompt prompt = {0};
    mr_answer answer = {0};
    ProtobufCMessage *args;
    mr_status status = mr_pb_unpack(&jobworkerp__runner__llm__llmchat_args__descriptor, job->request->args,
                                    job->request->n_args, &arena, &args, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "the arguments of chat cannot be decoded");
    else
        status = run(job, (const mr_pb_chat_args *)args, &prompt, &answer, err);
    mr_answer_free(&answer);
    mr_prompt_free(&prompt);
    mr_arena_free(&arena);
    return status;
}
