/* Which tools a job offers to the model, and how it may call them. */
#ifndef MR_SERVICE_TOOLSET_H
#define MR_SERVICE_TOOLSET_H

#include "base/error.h"
#include "service/functions.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

/* FunctionOptions of either method; texts are borrowed from the message, NULL = not given. */
typedef struct mr_tool_options {
    bool use;              /* use_function_calling */
    const char *set;       /* function_set_name */
    bool runners, workers; /* use_runners_as_function, use_workers_as_function */
    bool auto_calling;     /* absent reads as true */
    bool auto_select;      /* auto_select_function_set */
    const char *client_tools, *choice;
    bool parallel; /* parallel_tool_calls; absent reads as true */
} mr_tool_options;

/* The message may be NULL; fields that its type does not have are absent. */
mr_tool_options mr_tool_options_read(const ProtobufCMessage *function_options);

typedef enum mr_tool_choice {
    MR_TOOLS_AUTO,     /* the model decides */
    MR_TOOLS_NONE,     /* no call */
    MR_TOOLS_REQUIRED, /* at least one call */
    MR_TOOLS_NAMED,    /* a call of one tool */
} mr_tool_choice;

/* Zero-initialise. */
typedef struct mr_toolset {
    json_t *tools;              /* the OpenAI array that templates show; NULL = no tools */
    mr_function_list functions; /* where the tools are functions of the service, those */
    mr_tool_choice choice;
    const char *named; /* the tool's name; owned by `tools` */
    bool manual;       /* the client runs the calls */
    bool parallel;     /* more than one call in an answer is allowed */
    bool selecting;    /* the tools stand for function sets, one of which is to be chosen first */
} mr_toolset;

/* Loads what the options ask for. functions: NULL where no service is configured. Where tools can't be had, because
 * there is no service or it can't be reached, the set stays empty and a warning says so; unless a call is required,
 * which is MR_ERR_UNAVAILABLE. Errors name the option: tools that are no OpenAI array, two with one name, a tool_choice
 * that is none, client_tools_json beside other choices; a function set that does not exist; what mr_functions_find
 * says. */
mr_status mr_toolset_load(mr_toolset *set, const mr_tool_options *options, mr_functions *functions,
                          const mr_functions_context *context, mr_error *err);
void mr_toolset_free(mr_toolset *set);

/* After a set was selected by a call of this tool: the set's tools take the place of the sets'. */
mr_status mr_toolset_select(mr_toolset *set, const char *tool, const mr_tool_options *options, mr_functions *functions,
                            const mr_functions_context *context, mr_error *err);

/* The tool of this name in the array, as {name, description, parameters}; borrowed, NULL = none. */
const json_t *mr_toolset_find(const mr_toolset *set, const char *name);

#endif
