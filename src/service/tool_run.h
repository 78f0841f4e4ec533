/* Running the calls of one round, side by side or one after the other. */
#ifndef MR_SERVICE_TOOL_RUN_H
#define MR_SERVICE_TOOL_RUN_H

#include "base/cancel.h"
#include "base/error.h"
#include "service/functions.h"

#include <stdbool.h>
#include <stddef.h>

enum { MR_TOOL_MAX_PARALLEL = 8, MR_TOOL_MAX_CALLS = 64 };

/* One call, and what it gave. The strings are borrowed; `outcome` is filled by mr_tool_run and freed by the caller. */
typedef struct mr_tool_call {
    const char *id, *name, *arguments; /* arguments: JSON text */
    mr_function_outcome outcome;
} mr_tool_call;

typedef struct mr_tool_runner {
    /* Runs one call to its end. Called from several threads at once where `parallel` is set. A call that fails is an
     * outcome without success; an error ends everything. `cancel` is set when the others need not go on. */
    mr_status (*call)(void *ctx, const mr_tool_call *call, mr_cancel *cancel, mr_function_outcome *outcome,
                      mr_error *err);
    /* When a call begins and when it has ended, in the thread of mr_tool_run; may be NULL. An error ends everything. */
    mr_status (*on_started)(void *ctx, const mr_tool_call *call, mr_error *err);
    mr_status (*on_ended)(void *ctx, const mr_tool_call *call, mr_error *err);
    void *ctx;
    bool parallel;     /* at most MR_TOOL_MAX_PARALLEL at a time */
    mr_cancel *cancel; /* may be NULL */
} mr_tool_runner;

/* Runs calls[0..n), started in order, to the end of all of them. After an error, or once cancelled, no further call
 * begins, those in flight are cancelled and waited for, and the outcomes may be incomplete. */
mr_status mr_tool_run(const mr_tool_runner *runner, mr_tool_call *calls, size_t n, mr_error *err);

#endif
