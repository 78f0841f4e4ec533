#define _DEFAULT_SOURCE
#include "service/answer.h"

#include "base/clock.h"
#include "base/hash.h"
#include "service/metrics.h"
#include "service/pb_fields.h"
#include "text/output_parser.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t fresh_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed) return seed;
    uint64_t now[2] = {mr_clock_ns(), (uint64_t)(uintptr_t)&now};
    return mr_hash(now, sizeof now, 0);
}

mr_job_options mr_job_options_read(const ProtobufCMessage *pb) {
    mr_job_options o = {0};
    o.has_max_tokens = mr_pb_get_int32(pb, "max_tokens", &o.max_tokens);
    o.has_temperature = mr_pb_get_float(pb, "temperature", &o.temperature);
    o.has_top_p = mr_pb_get_float(pb, "top_p", &o.top_p);
    o.has_repeat_penalty = mr_pb_get_float(pb, "repeat_penalty", &o.repeat_penalty);
    o.has_repeat_last_n = mr_pb_get_int32(pb, "repeat_last_n", &o.repeat_last_n);
    o.has_seed = mr_pb_get_int32(pb, "seed", &o.seed);
    mr_pb_get_bool(pb, "extract_reasoning_content", &o.extract_reasoning);
    return o;
}

mr_status mr_job_options_check(const mr_job_options *options, mr_error *err) {
    mr_sampling recommended = {.top_p = 1, .temperature = 1, .repeat_penalty = 1}, sampling;
    uint32_t max_tokens;
    return mr_job_options_resolve(options, &recommended, &sampling, &max_tokens, err);
}

void mr_usage_write(const mr_usage *usage, const char *model, ProtobufCMessage *pb) {
    mr_pb_set_string(pb, "model", model);
    mr_pb_set_uint32(pb, "prompt_tokens", usage->prompt_tokens);
    mr_pb_set_uint32(pb, "completion_tokens", usage->completion_tokens);
    mr_pb_set_float(pb, "total_prompt_time_sec", usage->prompt_sec);
    mr_pb_set_float(pb, "total_completion_time_sec", usage->completion_sec);
}

mr_status mr_job_options_resolve(const mr_job_options *options, const mr_sampling *recommended, mr_sampling *sampling,
                                 uint32_t *max_tokens, mr_error *err) {
    *sampling = *recommended;
    *max_tokens = 0;
    if (options->has_max_tokens) {
        if (options->max_tokens <= 0) {
            return mr_fail(
                err, MR_ERR_INVALID,
                "options.max_tokens is %d; give at least 1, or leave it out for as many as the context holds",
                (int)options->max_tokens);
        }
        *max_tokens = (uint32_t)options->max_tokens;
    }
    if (options->has_temperature) sampling->temperature = options->temperature;
    if (options->has_top_p) sampling->top_p = options->top_p;
    if (options->has_repeat_penalty) sampling->repeat_penalty = options->repeat_penalty;
    if (options->has_repeat_last_n) sampling->repeat_last_n = options->repeat_last_n;
    sampling->seed = options->has_seed ? (uint64_t)(uint32_t)options->seed : fresh_seed();
    mr_status status = mr_sampling_check(sampling, err);
    if (status != MR_OK) mr_fail_prefix(err, "options");
    return status;
}

void mr_answer_free(mr_answer *answer) {
    mr_buf_free(&answer->content);
    mr_buf_free(&answer->reasoning);
    mr_tokens_free(&answer->tokens);
    json_decref(answer->calls);
    answer->calls = NULL;
}

/* The state of one generation's way from text to pieces. */
typedef struct splitter {
    mr_output_parser *parser;
    mr_buf content, thought; /* the piece at hand */
    mr_answer *answer;       /* takes the calls */
} splitter;

/* Arguments that are no JSON stay text, so that whoever runs the call can say so. */
static mr_status take_call(mr_answer *answer, const mr_output_event *event, mr_error *err) {
    json_t *arguments = json_loads(event->arguments, JSON_REJECT_DUPLICATES, NULL);
    if (arguments == NULL) arguments = json_string(event->arguments);
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", event->id, "type", "function", "function", "name",
                             event->name, "arguments", arguments);
    if (answer->calls == NULL) answer->calls = json_array();
    if (call != NULL && json_array_append_new(answer->calls, call) == 0) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's calls");
}

static mr_status on_event(void *ctx, const mr_output_event *event, mr_error *err) {
    splitter *s = ctx;
    bool ok = true;
    if (event->kind == MR_OUTPUT_CONTENT) ok = mr_buf_append(&s->content, event->text, event->len);
    if (event->kind == MR_OUTPUT_REASONING) ok = mr_buf_append(&s->thought, event->text, event->len);
    if (event->kind == MR_OUTPUT_CALL) return take_call(s->answer, event, err);
    return ok ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's text");
}

/* The format to look for calls in; NULL where none can be. The channels of gpt-oss and functionary's recipients are
 * there without tools, too. */
static const mr_tool_format *call_format(const mr_answer_request *request) {
    const mr_tool_format *format = mr_text_model_tools(request->model)->format;
    bool framed = format->style == MR_TOOL_STYLE_HARMONY || format->open_by_prompt;
    bool wanted = request->tool_list != NULL || (request->is_chat && framed);
    return wanted ? format : NULL;
}

/* Has the generation show the special tokens that the parser needs, and end where the format says so. */
static mr_status show_marks(const mr_answer_request *request, mr_generation_params *params, mr_tokens *keep,
                            mr_error *err) {
    const mr_tool_format *format = call_format(request);
    const mr_reasoning_format *reasoning =
        request->extract_reasoning || request->is_chat ? mr_text_model_tools(request->model)->reasoning : NULL;
    if (!mr_output_keep_tokens(mr_text_model_tokenizer(request->model), format, reasoning, keep))
        return mr_fail(err, MR_ERR_NOMEM, "there is no memory to read the answer");
    params->keep = keep->ids;
    params->n_keep = keep->n;
    if (format == NULL) return MR_OK;
    params->stop = format->stop;
    while (params->n_stop < sizeof format->stop / sizeof *format->stop && format->stop[params->n_stop] != NULL)
        params->n_stop++;
    return MR_OK;
}

static mr_status open_splitter(const mr_answer_request *request, mr_answer *answer, splitter *s, mr_error *err) {
    *s = (splitter){.answer = answer};
    const mr_text_tools *tools = mr_text_model_tools(request->model);
    mr_output_options options = {
        .tools = call_format(request),
        .reasoning = tools->reasoning,
        .tool_list = request->tool_list,
        .extract_reasoning = request->extract_reasoning,
        .reasoning_open = request->reasoning_open,
        .tools_open = request->tools_open,
        .first_number = request->n_calls_before,
        .on_event = on_event,
        .ctx = s,
    };
    s->parser = mr_output_parser_new(&options);
    return s->parser != NULL ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "there is no memory to read the answer");
}

static void close_splitter(splitter *s) {
    mr_output_parser_free(s->parser);
    mr_buf_free(&s->content);
    mr_buf_free(&s->thought);
}

static mr_status split(splitter *s, const mr_generation *generation, const mr_buf *text, bool done, mr_error *err) {
    mr_buf_clear(&s->content);
    mr_buf_clear(&s->thought);
    mr_status status = mr_output_parser_push(s->parser, mr_buf_cstr(text), text->len, err);
    if (status != MR_OK || !done) return status;
    return mr_output_parser_finish(s->parser, mr_generation_finish(generation) == MR_FINISH_LENGTH, err);
}

static mr_status deliver(const mr_answer_request *request, const splitter *s, mr_answer *answer, mr_error *err) {
    if (s->content.len == 0 && s->thought.len == 0) return MR_OK;
    mr_status status = MR_OK;
    if (request->on_piece != NULL) status = request->on_piece(request->ctx, &s->content, &s->thought, err);
    if (status != MR_OK) return status;
    mr_buf_append(&answer->content, mr_buf_cstr(&s->content), s->content.len);
    mr_buf_append(&answer->reasoning, mr_buf_cstr(&s->thought), s->thought.len);
    if (!answer->content.failed && !answer->reasoning.failed) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's text");
}

static mr_status pump(const mr_answer_request *request, mr_generation *generation, splitter *s, mr_answer *answer,
                      mr_error *err) {
    mr_buf text = {0};
    mr_status status = MR_OK;
    for (bool done = false; status == MR_OK && !done;) {
        mr_buf_clear(&text);
        status = mr_generation_next(generation, request->cancel, &text, &done, err);
        if (status == MR_OK) status = split(s, generation, &text, done, err);
        if (status == MR_OK) status = deliver(request, s, answer, err);
    }
    mr_buf_free(&text);
    return status;
}

static mr_status take_figures(const mr_generation *generation, mr_answer *answer, mr_error *err) {
    mr_request_stats stats = mr_generation_stats(generation);
    answer->finish = mr_generation_finish(generation);
    answer->usage = (mr_usage){
        .prompt_tokens = stats.n_prompt,
        .cached_tokens = stats.n_prompt_cached,
        .completion_tokens = stats.n_generated,
        .queue_sec = (float)stats.queue_sec,
        .prompt_sec = (float)stats.prompt_sec,
        .completion_sec = (float)stats.generation_sec,
    };
    mr_generation_figures figures = {.n_prompt = stats.n_prompt,
                                     .n_cached = stats.n_prompt_cached,
                                     .n_generated = stats.n_generated,
                                     .n_drafted = stats.n_drafted,
                                     .n_accepted = stats.n_accepted,
                                     .queue_sec = stats.queue_sec,
                                     .prompt_sec = stats.prompt_sec,
                                     .generation_sec = stats.generation_sec};
    mr_metrics_generation(&figures);
    const mr_tokens *tokens = mr_generation_tokens(generation);
    for (size_t i = 0; i < tokens->n; i++) {
        if (!mr_tokens_push(&answer->tokens, tokens->ids[i]))
            return mr_fail_nomem(err, tokens->n * 4, "the answer's tokens");
    }
    return MR_OK;
}

mr_status mr_answer_generate(const mr_answer_request *request, mr_answer *answer, mr_error *err) {
    mr_generation_params params = {
        .prompt = request->prompt,
        .n_prompt = request->n_prompt,
        .max_tokens = request->max_tokens,
        .sampling = request->sampling,
        .mask = request->constraint != NULL ? mr_constraint_mask : NULL,
        .mask_ctx = request->constraint,
    };
    mr_tokens keep = {0};
    mr_status status = show_marks(request, &params, &keep, err);
    mr_generation *generation = NULL;
    if (status == MR_OK) status = mr_generation_start(&generation, request->model, &params, err);
    if (status != MR_OK) {
        mr_tokens_free(&keep);
        return status;
    }
    splitter s;
    status = open_splitter(request, answer, &s, err);
    if (status == MR_OK && request->begun != NULL)
        status = mr_output_parser_push(s.parser, mr_buf_cstr(request->begun), request->begun->len, err);
    if (status == MR_OK) status = pump(request, generation, &s, answer, err);
    if (status == MR_OK) status = take_figures(generation, answer, err);
    close_splitter(&s);
    mr_generation_free(generation);
    mr_tokens_free(&keep);
    return status;
}
