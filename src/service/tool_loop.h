/* The agent loop: the model answers, the calls in its answer are run, their results go into the conversation, and the
 * model answers again. Knows neither model nor server, so that it can be tested with scripts of both. */
#ifndef MR_SERVICE_TOOL_LOOP_H
#define MR_SERVICE_TOOL_LOOP_H

#include "base/error.h"
#include "service/tool_run.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_tool_loop {
    /* Has the model answer the conversation; `round` counts from 0. *message is a new assistant message in the OpenAI
     * form: content, and tool_calls [{id, type, function {name, arguments}}] (arguments an object, or the text that
     * stood for them) where the model called tools. */
    mr_status (*answer)(void *ctx, json_t *messages, uint32_t round, json_t **message, mr_error *err);
    void *ctx;
    mr_tool_runner runner;
    /* How many bytes of a result, one of n in a round, may go into the conversation; what is beyond them is cut. NULL =
     * all. */
    size_t (*room)(void *ctx, const char *text, size_t len, size_t n_results);
    bool manual;         /* calls are for the client to run */
    uint32_t max_rounds; /* most rounds of calls that are run here */
} mr_tool_loop;

/* Runs until an answer without calls. `messages` grows by answers and results (role tool, in the order of the calls).
 * Where the loop is manual and the model called tools, they are *pending (new reference; else NULL).
 *
 * Errors: those of `answer` and of the runner; MR_ERR_LIMIT when the model still calls tools after max_rounds. */
mr_status mr_tool_loop_run(const mr_tool_loop *loop, json_t *messages, json_t **pending, mr_error *err);

/* Runs an array of tool_calls and appends their results to `messages`, as the loop does. */
mr_status mr_tool_loop_call(const mr_tool_loop *loop, const json_t *calls, json_t *messages, mr_error *err);

#endif
