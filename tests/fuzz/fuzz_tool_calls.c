/* Answers with tool calls: the first byte chooses the format, the second how thoughts are taken, the third how large the
 * pieces are; the rest is the answer's text. Whole and in pieces it gives the same, and every call's arguments are JSON.
 */
#include "text/output_parser.h"
#include "text/tool_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char TOOLS[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {\"city\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\"}, \"any\": {\"anyOf\": [{\"type\": "
    "\"object\"}, {\"type\": \"null\"}]}}}}}, {\"type\": \"function\", \"function\": {\"name\": \"now\"}}, {\"type\": "
    "\"function\", \"function\": {\"name\": \"python\"}}]";

static const char *const REASONINGS[] = {"", "[THINK]", "<|START_THINKING|>", "<|inner_prefix|>"};

typedef struct result {
    mr_buf content, reasoning, calls;
    size_t n_calls, n_started;
} result;

static mr_status take(void *ctx, const mr_output_event *event, mr_error *err) {
    result *r = ctx;
    (void)err;
    switch (event->kind) {
    case MR_OUTPUT_CONTENT:
    case MR_OUTPUT_REASONING:
        if (event->len == 0) abort();
        mr_buf_append(event->kind == MR_OUTPUT_CONTENT ? &r->content : &r->reasoning, event->text, event->len);
        return MR_OK;
    case MR_OUTPUT_CALL_STARTED:
        if (event->index != r->n_calls || event->name[0] == '\0') abort();
        r->n_started++;
        mr_buf_printf(&r->calls, "(%s", event->name);
        return MR_OK;
    default:
        if (event->index != r->n_calls++ || event->id[0] == '\0' || r->n_started < r->n_calls) abort();
        mr_buf again = {0};
        size_t n = strlen(event->arguments);
        if (event->arguments[0] != '{' || !mr_json_compact(event->arguments, n, false, &again)) abort();
        if (again.len != n || memcmp(again.data, event->arguments, n) != 0) abort();
        mr_buf_free(&again);
        mr_buf_printf(&r->calls, "%s%s)", event->name, event->arguments);
        return MR_OK;
    }
}

static void parse(mr_output_options options, const char *text, size_t len, size_t step, bool cut, result *r) {
    mr_error err = {0};
    options.on_event = take;
    options.ctx = r;
    mr_output_parser *parser = mr_output_parser_new(&options);
    if (parser == NULL) abort();
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        if (mr_output_parser_push(parser, text + at, n, &err) != MR_OK) abort();
    }
    if (mr_output_parser_finish(parser, cut, &err) != MR_OK) abort();
    mr_output_parser_free(parser);
}

static bool same(const mr_buf *a, const mr_buf *b) {
    return a->len == b->len && memcmp(mr_buf_cstr(a), mr_buf_cstr(b), a->len) == 0;
}

static void free_result(result *r) {
    mr_buf_free(&r->content);
    mr_buf_free(&r->reasoning);
    mr_buf_free(&r->calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_t *tools;
    size_t n_formats = 0;
    if (size < 3 || size > 8192) return 0;
    if (tools == NULL) tools = json_loads(TOOLS, 0, NULL);
    if (tools == NULL) abort();
    while (mr_tool_format_at(n_formats) != NULL) n_formats++;
    mr_output_options options = {
        .tools = mr_tool_format_at(data[0] % (n_formats + 1)), /* the last: none */
        .reasoning = mr_reasoning_detect(REASONINGS[data[1] % 4]),
        .tool_list = (data[1] & 4) != 0 ? tools : NULL,
        .extract_reasoning = (data[1] & 8) != 0,
        .reasoning_open = (data[1] & 16) != 0,
        .tools_open = (data[1] & 32) != 0,
    };
    bool cut = (data[1] & 64) != 0;
    result whole = {0}, pieces = {0};
    parse(options, (const char *)data + 3, size - 3, size, cut, &whole);
    parse(options, (const char *)data + 3, size - 3, 1 + data[2] % 16, cut, &pieces);
    if (!same(&whole.content, &pieces.content) || !same(&whole.reasoning, &pieces.reasoning) ||
        !same(&whole.calls, &pieces.calls))
        abort();
    free_result(&whole);
    free_result(&pieces);
    return 0;
}
