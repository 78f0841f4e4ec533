/* A job's conversation from its messages to the last answer: rounds of the model and of its tools. What chat and
 * completion have in common. */
#ifndef MR_SERVICE_CONVERSATION_H
#define MR_SERVICE_CONVERSATION_H

#include "service/answer.h"
#include "service/job.h"
#include "service/prompt.h"
#include "service/tool_run.h"
#include "service/toolset.h"

#include <jansson.h>

/* What one tool gave, kept for the result. */
typedef struct mr_tool_record {
    char *id, *name;
    mr_function_outcome outcome;
} mr_tool_record;

/* Zero-initialise, fill the first part, and free with mr_conversation_free. */
typedef struct mr_conversation {
    const mr_job *job;
    const char *method; /* for the log */
    mr_job_options options;
    mr_tool_options tool_options;
    json_t *schema; /* json_schema: the form of the answer (owned), or NULL */
    /* The messages so far, for the chat template (owned; MR_TO_RUN as messages.h says), or NULL: the prompt, which the
     * caller fills, is continued as it is. With messages, what the prompt holds stands in front of them. */
    json_t *messages;
    mr_prompt prompt; /* afterwards: of the last round */
    /* What happens, as it happens; each may be NULL. An error ends the job. */
    mr_status (*on_piece)(void *ctx, const mr_buf *content, const mr_buf *reasoning, mr_error *err);
    mr_status (*on_started)(void *ctx, const mr_tool_call *call, mr_error *err);
    mr_status (*on_ended)(void *ctx, const mr_tool_call *call, mr_error *err);
    void *ctx;
    bool keep_records;

    /* What came out. */
    mr_answer answer; /* texts of all rounds in one, figures summed up; tokens and finish of the last round */
    json_t *pending;  /* calls that the client is to run ([{id, type, function}]), or NULL */
    mr_tool_record *records;
    size_t n_records;

    mr_toolset tools;
    size_t n_before; /* tokens of the prompt that stand in front of the messages */
} mr_conversation;

/* Loads the tools that tool_options ask for into `tools`. Errors as mr_toolset_load. */
mr_status mr_conversation_load_tools(mr_conversation *c, mr_error *err);

/* Runs it to its end, once its tools are loaded. */
mr_status mr_conversation_run(mr_conversation *c, mr_error *err);
void mr_conversation_free(mr_conversation *c);

#endif
