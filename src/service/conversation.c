#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::tools"
#include "service/conversation.h"

#include "base/log.h"
#include "base/utf8.h"
#include "service/form.h"
#include "service/messages.h"
#include "service/tool_arguments.h"
#include "service/tool_force.h"
#include "service/tool_loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_RESULT_TOKENS = 64, MAX_BYTES_PER_TOKEN = 16 };

static mr_status no_memory(mr_error *err) {
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the conversation");
}

/* --- what goes along with calls --- */

/* A trace context as headers. */
typedef struct trace {
    mr_rpc_metadata items[2];
    char parent[MR_TRACEPARENT_LEN + 1];
} trace;

static mr_functions_context context_of(const mr_conversation *c, const mr_trace_context *context, trace *t,
                                       mr_cancel *cancel) {
    mr_functions_context out = {
        .timeout_sec = c->job->settings->tools.tool_timeout_sec, .metadata = t->items, .cancel = cancel};
    if (!context->valid) return out;
    mr_trace_context_format(context, t->parent);
    t->items[out.n_metadata++] = (mr_rpc_metadata){"traceparent", t->parent};
    if (context->state[0] != '\0') t->items[out.n_metadata++] = (mr_rpc_metadata){"tracestate", context->state};
    return out;
}

/* For what is asked on behalf of the whole job. */
static mr_functions_context job_context(const mr_conversation *c, trace *t) {
    return context_of(c, &c->job->trace, t, c->job->request->cancel);
}

mr_status mr_conversation_load_tools(mr_conversation *c, mr_error *err) {
    trace t;
    mr_functions_context context = job_context(c, &t);
    return mr_toolset_load(&c->tools, &c->tool_options, c->job->functions, &context, err);
}

/* --- running one call --- */

static mr_status fail_call(mr_function_outcome *outcome, const char *text, const char *name, mr_error *err) {
    outcome->success = false;
    mr_buf_printf(&outcome->text, text, name);
    return outcome->text.failed ? no_memory(err) : MR_OK;
}

static mr_status unknown_tool(const mr_conversation *c, const char *name, mr_function_outcome *outcome, mr_error *err) {
    mr_buf_printf(&outcome->text, "there is no tool \"%s\"", name);
    for (size_t i = 0; i < c->tools.functions.n; i++)
        mr_buf_printf(&outcome->text, "%s%s", i == 0 ? "; the tools are " : ", ", c->tools.functions.items[i].tool);
    return outcome->text.failed ? no_memory(err) : MR_OK;
}

static mr_status call_function(const mr_conversation *c, const mr_tool_call *call, const mr_trace_context *context,
                               mr_cancel *cancel, mr_function_outcome *outcome, mr_error *err) {
    const mr_function *function = mr_function_list_find(&c->tools.functions, call->name);
    if (function == NULL && c->job->functions == NULL)
        return fail_call(outcome, "the tool \"%s\" cannot be run, because no FunctionService is configured", call->name,
                         err);
    if (function == NULL) return unknown_tool(c, call->name, outcome, err);
    if (!mr_tool_arguments_fit(call->arguments, function->parameters, &outcome->text))
        return outcome->text.failed ? no_memory(err) : MR_OK;
    trace t;
    mr_functions_context functions_context = context_of(c, context, &t, cancel);
    return mr_functions_call(c->job->functions, function, call->arguments, &functions_context, outcome, err);
}

/* Of mr_tool_runner; runs in several threads at once, which only read the conversation. */
static mr_status call_tool(void *ctx, const mr_tool_call *call, mr_cancel *cancel, mr_function_outcome *outcome,
                           mr_error *err) {
    const mr_conversation *c = ctx;
    char name[128];
    snprintf(name, sizeof name, "mistralrs.tool.%s", call->name);
    name[strlen(name) - mr_utf8_incomplete_tail(name, strlen(name))] = '\0';
    mr_span *span = mr_span_start(name, &c->job->trace);
    mr_trace_context context = mr_span_context(span, &c->job->trace);
    mr_span_string(span, "gen_ai.operation.name", "execute_tool");
    mr_span_string(span, "gen_ai.tool.name", call->name);
    mr_span_string(span, "gen_ai.tool.call.id", call->id);
    mr_span_string(span, "input", call->arguments);
    mr_status status = call_function(c, call, &context, cancel, outcome, err);
    mr_span_text(span, "output", mr_buf_cstr(&outcome->text), outcome->text.len);
    if (status != MR_OK || !outcome->success)
        mr_span_fail(span, status != MR_OK ? err->text : mr_buf_cstr(&outcome->text));
    mr_span_end(span);
    return status;
}

static mr_status started(void *ctx, const mr_tool_call *call, mr_error *err) {
    const mr_conversation *c = ctx;
    return c->on_started != NULL ? c->on_started(c->ctx, call, err) : MR_OK;
}

static mr_status keep_record(mr_conversation *c, const mr_tool_call *call, mr_error *err) {
    mr_tool_record *grown = realloc(c->records, (c->n_records + 1) * sizeof *grown);
    if (grown == NULL) return no_memory(err);
    c->records = grown;
    mr_tool_record *record = &grown[c->n_records++];
    *record = (mr_tool_record){.id = strdup(call->id), .name = strdup(call->name), .outcome = call->outcome};
    record->outcome.text = (mr_buf){0};
    mr_buf_append(&record->outcome.text, mr_buf_cstr(&call->outcome.text), call->outcome.text.len);
    return record->id != NULL && record->name != NULL && !record->outcome.text.failed ? MR_OK : no_memory(err);
}

static mr_status ended(void *ctx, const mr_tool_call *call, mr_error *err) {
    mr_conversation *c = ctx;
    if (!call->outcome.success) MR_WARN("the tool %s failed: %.200s", call->name, mr_buf_cstr(&call->outcome.text));
    mr_status status = c->keep_records ? keep_record(c, call, err) : MR_OK;
    return status == MR_OK && c->on_ended != NULL ? c->on_ended(c->ctx, call, err) : status;
}

/* --- one answer --- */

static size_t count_calls(const json_t *messages) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(messages); i++)
        n += json_array_size(json_object_get(json_array_get(messages, i), "tool_calls"));
    return n;
}

static json_t *shown_tools(const mr_conversation *c) {
    return c->tools.choice != MR_TOOLS_NONE ? c->tools.tools : NULL;
}

static void add_usage(mr_usage *sum, const mr_usage *more) {
    sum->prompt_tokens += more->prompt_tokens;
    sum->cached_tokens += more->cached_tokens;
    sum->completion_tokens += more->completion_tokens;
    sum->queue_sec += more->queue_sec;
    sum->prompt_sec += more->prompt_sec;
    sum->completion_sec += more->completion_sec;
}

/* Adds a round to the whole; its calls stay with it. */
static mr_status add_answer(mr_answer *sum, mr_answer *round, mr_error *err) {
    mr_buf_append(&sum->content, mr_buf_cstr(&round->content), round->content.len);
    mr_buf_append(&sum->reasoning, mr_buf_cstr(&round->reasoning), round->reasoning.len);
    add_usage(&sum->usage, &round->usage);
    sum->finish = round->finish;
    mr_tokens_free(&sum->tokens);
    sum->tokens = round->tokens;
    round->tokens = (mr_tokens){0};
    return sum->content.failed || sum->reasoning.failed ? no_memory(err) : MR_OK;
}

/* The prompt for the messages, behind the tokens that stood there at first. */
static mr_status render(mr_conversation *c, json_t *messages, mr_error *err) {
    if (messages == NULL) return MR_OK;
    c->prompt.tokens.n = c->n_before;
    return mr_prompt_chat(&c->prompt, c->job->model, messages, shown_tools(c), err);
}

/* The tool that has to be called, or NULL where any may be. */
static const char *forced_tool(const mr_toolset *tools) {
    if (tools->choice == MR_TOOLS_NAMED) return tools->named;
    const json_t *first = json_object_get(json_array_get(tools->tools, 0), "function");
    return json_array_size(tools->tools) == 1 ? json_string_value(json_object_get(first, "name")) : NULL;
}

/* Puts the beginning of a call behind the prompt where one is wanted now; *begun is it. */
static mr_status force_call(mr_conversation *c, size_t n_calls_before, mr_buf *begun, mr_error *err) {
    if (c->tools.choice != MR_TOOLS_REQUIRED && c->tools.choice != MR_TOOLS_NAMED) return MR_OK;
    if (!mr_tool_force(mr_text_model_tools(c->job->model), &c->prompt, forced_tool(&c->tools), n_calls_before, begun))
        return no_memory(err);
    return mr_prompt_text(&c->prompt, c->job->model, begun->data, begun->len, err);
}

/* What the answer's form is now; *constraint stays NULL where it has none. */
static mr_status constrain(mr_conversation *c, bool is_chat, bool forced, mr_constraint **constraint, mr_error *err) {
    bool call = forced && (c->tools.choice == MR_TOOLS_REQUIRED || c->tools.choice == MR_TOOLS_NAMED);
    mr_form form = {
        .model = c->job->model,
        .schema = c->schema,
        .think_open = is_chat && c->prompt.reasoning_open,
        .may_think = is_chat && c->options.extract_reasoning,
        .tools = shown_tools(c),
        .forced = call,
        .named = call ? forced_tool(&c->tools) : NULL,
        .parallel = c->tools.parallel,
    };
    return mr_form_constraint(&form, constraint, err);
}

static mr_status answer_prompt(mr_conversation *c, mr_answer_request *request, const mr_buf *begun, mr_answer *answer,
                               mr_error *err) {
    request->prompt = c->prompt.tokens.ids;
    request->n_prompt = c->prompt.tokens.n;
    request->begun = begun;
    request->reasoning_open = c->prompt.reasoning_open;
    request->tools_open = c->prompt.tools_open;
    return mr_answer_generate(request, answer, err);
}

/* forced: where a call is required, now is the time. silent: the pieces go nowhere. */
static mr_status generate(mr_conversation *c, json_t *messages, bool forced, bool silent, mr_answer *answer,
                          mr_error *err) {
    mr_sampling recommended = mr_text_model_sampling(c->job->model);
    mr_answer_request request = {
        .model = c->job->model,
        .extract_reasoning = c->options.extract_reasoning,
        .cancel = c->job->request->cancel,
        .on_piece = silent ? NULL : c->on_piece,
        .ctx = c->ctx,
        .is_chat = messages != NULL,
        .tool_list = shown_tools(c),
        .n_calls_before = count_calls(messages),
    };
    mr_buf begun = {0};
    mr_status status = mr_job_options_resolve(&c->options, &recommended, &request.sampling, &request.max_tokens, err);
    if (status == MR_OK) status = render(c, messages, err);
    if (status == MR_OK && forced) status = force_call(c, request.n_calls_before, &begun, err);
    if (status == MR_OK) status = constrain(c, messages != NULL, forced, &request.constraint, err);
    if (status == MR_OK) status = answer_prompt(c, &request, &begun, answer, err);
    mr_constraint_free(request.constraint);
    mr_buf_free(&begun);
    return status;
}

/* The answer as a message of the conversation; takes the calls over. */
static json_t *message_of(mr_answer *answer, bool parallel) {
    json_t *message =
        json_pack("{s:s, s:s%}", "role", "assistant", "content", mr_buf_cstr(&answer->content), answer->content.len);
    if (message == NULL || json_array_size(answer->calls) == 0) return message;
    while (!parallel && json_array_size(answer->calls) > 1)
        json_array_remove(answer->calls, json_array_size(answer->calls) - 1);
    bool ok = json_object_set(message, "tool_calls", answer->calls) == 0;
    if (ok && answer->reasoning.len > 0)
        ok = json_object_set_new(message, "reasoning_content",
                                 json_stringn(answer->reasoning.data, answer->reasoning.len)) == 0;
    if (ok) return message;
    json_decref(message);
    return NULL;
}

/* Of mr_tool_loop. A call is forced in the first round only: the model must be able to come to an end. */
static mr_status answer_round(void *ctx, json_t *messages, uint32_t round, json_t **message, mr_error *err) {
    mr_conversation *c = ctx;
    mr_answer answer = {0};
    mr_status status = generate(c, messages, round == 0, false, &answer, err);
    if (status == MR_OK && json_array_size(c->tools.tools) > 0) {
        MR_INFO("round %u: read %u tokens (%u from the cache), wrote %u, %zu calls", round + 1,
                answer.usage.prompt_tokens, answer.usage.cached_tokens, answer.usage.completion_tokens,
                json_array_size(answer.calls));
    }
    if (status == MR_OK) status = add_answer(&c->answer, &answer, err);
    if (shown_tools(c) == NULL) json_array_clear(answer.calls);
    if (status == MR_OK) {
        *message = message_of(&answer, c->tools.parallel);
        if (*message == NULL) status = no_memory(err);
    }
    mr_answer_free(&answer);
    return status;
}

/* --- the parts of a job --- */

/* Of mr_tool_loop: all results of a round take at most half of what is left of the context. */
static size_t room_for_result(void *ctx, const char *text, size_t len, size_t n_results) {
    const mr_conversation *c = ctx;
    size_t context = mr_engine_context_size(mr_text_model_engine(c->job->model));
    size_t used = c->prompt.tokens.n + c->answer.tokens.n;
    size_t budget = (context > used ? context - used : 0) / 2 / n_results;
    if (budget < MIN_RESULT_TOKENS) budget = MIN_RESULT_TOKENS;
    size_t keep = len < budget * MAX_BYTES_PER_TOKEN ? len : budget * MAX_BYTES_PER_TOKEN;
    while (keep > budget) {
        mr_tokens tokens = {0};
        mr_error ignored = {0};
        mr_status status =
            mr_tokenizer_encode(mr_text_model_tokenizer(c->job->model), text, keep, 0, &tokens, &ignored);
        size_t n = tokens.n;
        mr_tokens_free(&tokens);
        if (status != MR_OK) return budget;
        if (n <= budget) break;
        keep = (size_t)((double)keep * 0.95 * (double)budget / (double)n);
    }
    return keep;
}

static mr_tool_loop loop_of(mr_conversation *c) {
    return (mr_tool_loop){
        .answer = answer_round,
        .ctx = c,
        .runner = {.call = call_tool,
                   .on_started = started,
                   .on_ended = ended,
                   .ctx = c,
                   .parallel = c->job->settings->tools.parallel,
                   .cancel = c->job->request->cancel},
        .manual = c->tools.manual,
        .max_rounds = c->job->settings->tools.max_iterations,
        .room = room_for_result,
    };
}

/* Functions to look requested calls up in, where the job itself offers none to the model. */
static mr_status find_all_functions(mr_conversation *c, mr_error *err) {
    if (c->tools.functions.n > 0 || c->job->functions == NULL) return MR_OK;
    trace t;
    mr_functions_context context = job_context(c, &t);
    mr_function_choice all = {.runners = true, .workers = true};
    mr_status status = mr_functions_find(c->job->functions, &all, &context, &c->tools.functions, err);
    if (status == MR_OK || status == MR_ERR_CANCELLED || status == MR_ERR_NOMEM) return status;
    MR_WARN("the requested tools cannot be looked up: %s", err->text);
    *err = (mr_error){0};
    return MR_OK;
}

/* Runs the calls that the client wants to be run first; the results take the place of the requests. */
static mr_status run_requests(mr_conversation *c, const mr_tool_loop *loop, mr_error *err) {
    json_t *messages = json_array();
    bool looked_up = false;
    mr_status status = messages != NULL ? MR_OK : no_memory(err);
    for (size_t i = 0; status == MR_OK && i < json_array_size(c->messages); i++) {
        json_t *message = json_array_get(c->messages, i);
        const json_t *calls = json_object_get(message, MR_TO_RUN);
        if (calls == NULL) {
            if (json_array_append(messages, message) != 0) status = no_memory(err);
            continue;
        }
        if (!looked_up) status = find_all_functions(c, err);
        looked_up = true;
        if (status == MR_OK) status = mr_tool_loop_call(loop, calls, messages, err);
    }
    if (status != MR_OK) {
        json_decref(messages);
        return status;
    }
    json_decref(c->messages);
    c->messages = messages;
    return MR_OK;
}

/* Lets the model choose a function set, whose tools it then has. What it writes for that is not part of the answer.
 */
static mr_status select_set(mr_conversation *c, mr_error *err) {
    if (!c->tools.selecting) return MR_OK;
    mr_answer answer = {0};
    c->tools.choice = MR_TOOLS_REQUIRED;
    mr_status status = generate(c, c->messages, true, true, &answer, err);
    if (status == MR_OK) {
        add_usage(&c->answer.usage, &answer.usage);
        const json_t *function = json_object_get(json_array_get(answer.calls, 0), "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        trace t;
        mr_functions_context context = job_context(c, &t);
        if (name != NULL && mr_toolset_find(&c->tools, name) != NULL) {
            status = mr_toolset_select(&c->tools, name, &c->tool_options, c->job->functions, &context, err);
        } else {
            MR_WARN("the model chose no function set; the job is answered without tools");
            mr_toolset_free(&c->tools);
        }
    }
    mr_answer_free(&answer);
    return status;
}

mr_status mr_conversation_run(mr_conversation *c, mr_error *err) {
    c->n_before = c->prompt.tokens.n;
    if (c->messages == NULL) return generate(c, NULL, false, false, &c->answer, err);
    mr_tool_loop loop = loop_of(c);
    mr_status status = run_requests(c, &loop, err);
    if (status == MR_OK) status = select_set(c, err);
    if (status != MR_OK) return status;
    loop = loop_of(c); /* the tools may be others now */
    return mr_tool_loop_run(&loop, c->messages, &c->pending, err);
}

void mr_conversation_free(mr_conversation *c) {
    for (size_t i = 0; i < c->n_records; i++) {
        free(c->records[i].id);
        free(c->records[i].name);
        mr_buf_free(&c->records[i].outcome.text);
    }
    free(c->records);
    json_decref(c->messages);
    json_decref(c->schema);
    json_decref(c->pending);
    mr_answer_free(&c->answer);
    mr_prompt_free(&c->prompt);
    mr_toolset_free(&c->tools);
}
