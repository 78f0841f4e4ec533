/* The method `completion`: the continuation of a text. */
#include "service/job.h"

#include "completion_args.pb-c.h"
#include "completion_result.pb-c.h"
#include "service/conversation.h"
#include "service/form.h"
#include "service/pb_wire.h"
#include "service/prompt.h"

#include <string.h>

typedef Jobworkerp__Runner__Llm__LLMCompletionArgs pb_args;
typedef Jobworkerp__Runner__Llm__LLMCompletionResult pb_result;
typedef Jobworkerp__Runner__Llm__LLMCompletionResult__MessageContent pb_content;
typedef Jobworkerp__Runner__Llm__LLMCompletionResult__GenerationContext pb_context;
typedef Jobworkerp__Runner__Llm__LLMCompletionResult__GenerationContext__OllamaContext pb_tokens;
typedef Jobworkerp__Runner__Llm__LLMCompletionResult__Usage pb_usage;

/* One result on the stack, with room for the parts that it points to. */
typedef struct result_parts {
    pb_result result;
    pb_content content;
    pb_context context;
    pb_tokens tokens;
    pb_usage usage;
} result_parts;

static void init_result(result_parts *parts, bool done) {
    jobworkerp__runner__llm__llmcompletion_result__init(&parts->result);
    parts->result.has_done = 1;
    parts->result.done = done;
}

static void set_text(result_parts *parts, const mr_buf *content, const mr_buf *reasoning) {
    jobworkerp__runner__llm__llmcompletion_result__message_content__init(&parts->content);
    parts->content.content_case = JOBWORKERP__RUNNER__LLM__LLMCOMPLETION_RESULT__MESSAGE_CONTENT__CONTENT_TEXT;
    parts->content.text = (char *)mr_buf_cstr(content);
    parts->result.content = &parts->content;
    if (reasoning->len > 0) parts->result.reasoning_content = (char *)mr_buf_cstr(reasoning);
}

static void set_context(result_parts *parts, const mr_tokens *tokens) {
    jobworkerp__runner__llm__llmcompletion_result__generation_context__init(&parts->context);
    jobworkerp__runner__llm__llmcompletion_result__generation_context__ollama_context__init(&parts->tokens);
    parts->tokens.n_data = tokens->n;
    parts->tokens.data = tokens->ids;
    parts->context.context_case = JOBWORKERP__RUNNER__LLM__LLMCOMPLETION_RESULT__GENERATION_CONTEXT__CONTEXT_OLLAMA;
    parts->context.ollama = &parts->tokens;
    parts->result.context = &parts->context;
}

static void set_usage(result_parts *parts, const char *model, const mr_usage *usage) {
    jobworkerp__runner__llm__llmcompletion_result__usage__init(&parts->usage);
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

/* With a system prompt, or with tools, the prompt is a chat message, and an earlier answer in the context is ended as a
 * turn. */
static mr_status build_messages(mr_conversation *c, const pb_args *args, mr_error *err) {
    mr_status status = mr_prompt_end_turn(&c->prompt, c->job->model, err);
    if (status != MR_OK) return status;
    const char *prompt = args->prompt != NULL ? args->prompt : "";
    if (args->system_prompt != NULL && *args->system_prompt != '\0') {
        c->messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", args->system_prompt, "role",
                                "user", "content", prompt);
    } else {
        c->messages = json_pack("[{s:s, s:s}]", "role", "user", "content", prompt);
    }
    if (c->messages == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the prompt");
    mr_span_json(c->job->span, "input", c->messages);
    return MR_OK;
}

static mr_status build_prompt(mr_conversation *c, const pb_args *args, mr_error *err) {
    mr_status status = MR_OK;
    if (args->context != NULL && args->context->ollama_context != NULL &&
        args->context->context_case ==
            JOBWORKERP__RUNNER__LLM__LLMCOMPLETION_ARGS__GENERATION_CONTEXT__CONTEXT_OLLAMA_CONTEXT) {
        status = mr_prompt_context(&c->prompt, c->job->model, args->context->ollama_context->data,
                                   args->context->ollama_context->n_data, err);
    }
    if (status != MR_OK) return status;
    if (c->tools.tools != NULL || (args->system_prompt != NULL && *args->system_prompt != '\0'))
        return build_messages(c, args, err);
    const char *text = args->prompt != NULL ? args->prompt : "";
    mr_span_string(c->job->span, "input", text);
    status = mr_prompt_text(&c->prompt, c->job->model, text, strlen(text), err);
    if (status == MR_OK && c->prompt.tokens.n == 0) {
        return mr_fail(err, MR_ERR_INVALID, "the completion has no prompt; give a text to continue");
    }
    return status;
}

/* The context to go on from: everything read and written. */
static mr_status whole_context(mr_conversation *c, mr_error *err) {
    for (size_t i = 0; i < c->answer.tokens.n; i++) {
        if (!mr_tokens_push(&c->prompt.tokens, c->answer.tokens.ids[i])) {
            return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the result's context");
        }
    }
    return MR_OK;
}

static mr_status finish(mr_conversation *c, mr_error *err) {
    mr_status status = whole_context(c, err);
    if (status != MR_OK) return status;
    const mr_job *job = c->job;
    result_parts parts;
    init_result(&parts, true);
    if (!mr_job_is_stream(job) || job->settings->stream_final_full_text)
        set_text(&parts, &c->answer.content, &c->answer.reasoning);
    set_context(&parts, &c->prompt.tokens);
    set_usage(&parts, mr_job_model_name(job), &c->answer.usage);
    mr_job_log(job, "completion", &c->answer);
    return mr_job_finish(job, &parts.result.base, err);
}

static mr_status run(const mr_job *job, const pb_args *args, mr_error *err) {
    mr_conversation c = {
        .job = job,
        .options = mr_job_options_read((const ProtobufCMessage *)args->options),
        .tool_options = mr_tool_options_read((const ProtobufCMessage *)args->function_options),
        .on_piece = mr_job_is_stream(job) ? send_piece : NULL,
        .ctx = (void *)job,
    };
    mr_status status = mr_form_read_schema(args->json_schema, &c.schema, err);
    if (status == MR_OK) status = mr_job_options_check(&c.options, err);
    if (status == MR_OK) status = mr_conversation_load_tools(&c, err);
    if (status == MR_OK) status = build_prompt(&c, args, err);
    if (status == MR_OK) status = mr_conversation_run(&c, err);
    if (status == MR_OK) status = finish(&c, err);
    mr_conversation_free(&c);
    return status;
}

mr_status mr_job_completion(const mr_job *job, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *args;
    mr_status status = mr_pb_unpack(&jobworkerp__runner__llm__llmcompletion_args__descriptor, job->request->args,
                                    job->request->n_args, &arena, &args, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "the arguments of completion cannot be decoded");
    else
        status = run(job, (const pb_args *)args, err);
    mr_arena_free(&arena);
    return status;
}
