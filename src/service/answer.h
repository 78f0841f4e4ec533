/* From a prompt to an answer: the options of a job, the generation, and the split into content and reasoning. What chat
 * and completion have in common. */
#ifndef MR_SERVICE_ANSWER_H
#define MR_SERVICE_ANSWER_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "text/text_model.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* LLMOptions of either method. */
typedef struct mr_job_options {
    bool has_max_tokens, has_temperature, has_top_p, has_repeat_penalty, has_repeat_last_n, has_seed;
    int32_t max_tokens;
    float temperature, top_p, repeat_penalty;
    int32_t repeat_last_n, seed;
    bool extract_reasoning;
} mr_job_options;

/* Reads an LLMOptions of either method; NULL = nothing is given. */
mr_job_options mr_job_options_read(const ProtobufCMessage *llm_options);

/* The sampling and the bound that the options ask for, on top of what the model recommends. Without a seed each call
 * takes another one. MR_ERR_INVALID names the option that is negative, NaN or out of range. */
mr_status mr_job_options_resolve(const mr_job_options *options, const mr_sampling *recommended, mr_sampling *sampling,
                                 uint32_t *max_tokens, mr_error *err);

/* Whether the options can be resolved; errors likewise. */
mr_status mr_job_options_check(const mr_job_options *options, mr_error *err);

typedef struct mr_usage {
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    float queue_sec, prompt_sec, completion_sec;
} mr_usage;

/* Fills a Usage of either method's result; the model's name is borrowed. */
void mr_usage_write(const mr_usage *usage, const char *model, ProtobufCMessage *pb_usage);

/* What came out. Zero-initialise; free with mr_answer_free. */
typedef struct mr_answer {
    mr_buf content;
    mr_buf reasoning;
    mr_tokens tokens; /* the ids generated */
    mr_finish finish;
    mr_usage usage;
    json_t *calls; /* tool calls in the answer, in order ([{id, type, function {name, arguments}}]); NULL = none */
} mr_answer;

void mr_answer_free(mr_answer *answer);

typedef struct mr_answer_request {
    mr_text_model *model;
    const mr_token *prompt;
    size_t n_prompt;
    uint32_t max_tokens;
    mr_sampling sampling;
    bool extract_reasoning;
    const mr_buf *begun; /* what the answer begins with: the prompt's last tokens already say it; NULL = nothing */
    bool reasoning_open; /* the prompt (before `begun`) ends inside a think block */
    bool is_chat; /* the prompt is a conversation, and the answer may have its family's marks; else it is plain text */
    /* Tools that the answer may call (the OpenAI array; borrowed), or NULL: calls are not looked for. */
    const json_t *tool_list;
    bool tools_open;           /* the prompt ends with the mark that begins calls */
    size_t n_calls_before;     /* calls in the conversation so far */
    mr_constraint *constraint; /* holds the answer's form; NULL = free. Borrowed */
    mr_cancel *cancel;
    /* May be NULL. Called with each new piece (either part may be empty, not both) before it is added to the answer; an
     * error ends the generation. */
    mr_status (*on_piece)(void *ctx, const mr_buf *content, const mr_buf *reasoning, mr_error *err);
    void *ctx;
} mr_answer_request;

/* Generates to the end. Errors as mr_generation_start and mr_generation_next, and those of on_piece. */
mr_status mr_answer_generate(const mr_answer_request *request, mr_answer *answer, mr_error *err);

#endif
