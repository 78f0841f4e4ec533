/* The host's FunctionService: which functions there are, as tools that a model can call, and calling them. */
#ifndef MR_SERVICE_FUNCTIONS_H
#define MR_SERVICE_FUNCTIONS_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "service/rpc.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One service. Thread-safe and shared by all who ask for the same endpoint; connects when it is first used. */
typedef struct mr_functions mr_functions;

/* MR_ERR_INVALID for an endpoint that is none. AUTH_TOKEN, where the environment has it, goes with every call. */
mr_status mr_functions_open(mr_functions **functions, const char *endpoint, uint32_t connect_timeout_sec,
                            mr_error *err);
void mr_functions_close(mr_functions *functions); /* NULL is allowed */

/* Who asks: how long a call may take, what goes with it, and what ends it early. */
typedef struct mr_functions_context {
    uint32_t timeout_sec;
    const mr_rpc_metadata *metadata; /* trace context; sent as headers and among the function's metadata; borrowed */
    size_t n_metadata;
    mr_cancel *cancel; /* may be NULL */
} mr_functions_context;

/* One tool. Owned by its list. */
typedef struct mr_function {
    char *tool; /* what the model calls it: the function's name, or NAME___METHOD */
    char *description;
    json_t *parameters; /* JSON Schema of the arguments: an object */
    bool is_worker;     /* called by worker_name, else by runner_name */
    bool streaming;     /* answers in pieces only */
} mr_function;

typedef struct mr_function_list {
    mr_function *items;
    size_t n;
} mr_function_list;

/* Which functions are asked for: those of a set, or all runners and/or all workers. */
typedef struct mr_function_choice {
    const char *set; /* NULL: none */
    bool runners, workers;
} mr_function_choice;

/* The tools of a choice; the same answer is kept for a minute, errors are not. `list` is a copy that the caller frees.
 * A function with an unusable schema is offered with free arguments, one without a name left out; a warning says so. Of
 * two with one name the first counts. Errors as mr_rpc_call_next, and MR_ERR_INVALID for answers that are no message.
 */
mr_status mr_functions_find(mr_functions *functions, const mr_function_choice *choice,
                            const mr_functions_context *context, mr_function_list *list, mr_error *err);
void mr_function_list_free(mr_function_list *list);
const mr_function *mr_function_list_find(const mr_function_list *list, const char *tool); /* NULL: there is none */

/* A set of functions, by name. */
typedef struct mr_function_set {
    char *name, *description;
} mr_function_set;

/* All sets that there are, at most 256 (FunctionSetService.FindList; MR_ERR_UNSUPPORTED where the server has none). */
mr_status mr_functions_find_sets(mr_functions *functions, const mr_functions_context *context, mr_function_set **sets,
                                 size_t *n, mr_error *err);
void mr_function_sets_free(mr_function_set *sets, size_t n);

/* What a call gave. Zero-initialise; free with mr_buf_free(&outcome.text). */
typedef struct mr_function_outcome {
    bool success;
    mr_buf text;    /* the output, all pieces in one; or why it failed, for the model and the client */
    int64_t job_id; /* 0: not known */
} mr_function_outcome;

/* Calls a function with arguments as JSON text. A call that fails, in whatever way, is no error but an outcome without
 * success. Errors: MR_ERR_CANCELLED, MR_ERR_NOMEM. */
mr_status mr_functions_call(mr_functions *functions, const mr_function *function, const char *arguments,
                            const mr_functions_context *context, mr_function_outcome *outcome, mr_error *err);

#endif
