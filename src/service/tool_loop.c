#define MR_LOG_TARGET "mistral_runner::tools"
#include "service/tool_loop.h"

#include "base/log.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

static mr_status no_memory(mr_error *err) {
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the calls of tools");
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* The calls of a round, and the texts of their arguments. */
typedef struct batch {
    mr_tool_call calls[MR_TOOL_MAX_CALLS];
    char *arguments[MR_TOOL_MAX_CALLS];
    size_t n;
} batch;

static void batch_free(batch *b) {
    for (size_t i = 0; i < b->n; i++) {
        mr_buf_free(&b->calls[i].outcome.text);
        free(b->arguments[i]);
    }
    free(b);
}

static mr_status batch_new(batch **out, const json_t *calls, mr_error *err) {
    size_t n = json_array_size(calls);
    *out = NULL;
    if (n > MR_TOOL_MAX_CALLS) {
        return mr_fail(err, MR_ERR_LIMIT, "%zu calls of tools at once are too many; at most %d are run", n,
                       MR_TOOL_MAX_CALLS);
    }
    batch *b = calloc(1, sizeof *b);
    if (b == NULL) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        const json_t *arguments = json_object_get(function, "arguments");
        mr_tool_call *to = &b->calls[b->n];
        to->id = text_of(call, "id");
        to->name = text_of(function, "name");
        to->arguments = json_string_value(arguments);
        if (to->arguments == NULL) to->arguments = b->arguments[i] = json_dumps(arguments, JSON_COMPACT);
        b->n++;
        if (to->arguments == NULL) {
            batch_free(b);
            return no_memory(err);
        }
    }
    *out = b;
    return MR_OK;
}

/* What the model gets to see of a result: at most so many bytes, and a word about the rest. */
static mr_status result_text(const mr_function_outcome *outcome, size_t max, mr_buf *text) {
    size_t len = outcome->text.len;
    if (!outcome->success) mr_buf_puts(text, "Error: ");
    if (len <= max) {
        mr_buf_append(text, mr_buf_cstr(&outcome->text), len);
    } else {
        size_t keep = max - mr_utf8_incomplete_tail(outcome->text.data, max);
        mr_buf_append(text, outcome->text.data, keep);
        mr_buf_printf(text, "\n[cut: %zu more bytes]", len - keep);
    }
    return text->failed ? MR_ERR_NOMEM : MR_OK;
}

static mr_status append_result(const mr_tool_loop *loop, const mr_tool_call *call, size_t n, json_t *messages,
                               mr_error *err) {
    mr_buf text = {0};
    json_t *message = NULL;
    const mr_buf *result = &call->outcome.text;
    size_t max = loop->room != NULL ? loop->room(loop->ctx, mr_buf_cstr(result), result->len, n) : SIZE_MAX;
    if (result_text(&call->outcome, max, &text) == MR_OK) {
        message = json_pack("{s:s, s:s, s:s, s:s%}", "role", "tool", "tool_call_id", call->id, "name", call->name,
                            "content", mr_buf_cstr(&text), text.len);
    }
    mr_buf_free(&text);
    if (message != NULL && json_array_append_new(messages, message) == 0) return MR_OK;
    return no_memory(err);
}

mr_status mr_tool_loop_call(const mr_tool_loop *loop, const json_t *calls, json_t *messages, mr_error *err) {
    batch *b;
    mr_status status = batch_new(&b, calls, err);
    if (status != MR_OK) return status;
    status = mr_tool_run(&loop->runner, b->calls, b->n, err);
    for (size_t i = 0; status == MR_OK && i < b->n; i++)
        status = append_result(loop, &b->calls[i], b->n, messages, err);
    batch_free(b);
    return status;
}

static mr_status too_many_rounds(const mr_tool_loop *loop, mr_error *err) {
    return mr_fail(err, MR_ERR_LIMIT,
                   "the model still calls tools after %u round%s of them, which is the most that is allowed; raise "
                   "max_iterations (MISTRAL_MAX_ITERATIONS), or give it an easier task",
                   loop->max_rounds, loop->max_rounds == 1 ? "" : "s");
}

mr_status mr_tool_loop_run(const mr_tool_loop *loop, json_t *messages, json_t **pending, mr_error *err) {
    *pending = NULL;
    for (uint32_t round = 0;; round++) {
        json_t *message = NULL;
        mr_status status = loop->answer(loop->ctx, messages, round, &message, err);
        if (status != MR_OK) return status;
        if (json_array_append_new(messages, message) != 0) return no_memory(err);
        const json_t *calls = json_object_get(message, "tool_calls");
        if (json_array_size(calls) == 0) return MR_OK;
        if (loop->manual) {
            *pending = json_incref((json_t *)calls);
            return MR_OK;
        }
        if (round >= loop->max_rounds) return too_many_rounds(loop, err);
        MR_DEBUG("round %u calls %zu tools", round + 1, json_array_size(calls));
        status = mr_tool_loop_call(loop, calls, messages, err);
        if (status != MR_OK) return status;
    }
}
