/* From the raw text of an answer to what it consists of: content, reasoning and tool calls, piece by piece. The result
 * does not depend on how the text is cut into pieces.
 *
 * The text must hold the marks that the parser looks for: the generation has to keep those special tokens' texts
 * (mr_output_keep_tokens) and may drop all others. */
#ifndef MR_TEXT_OUTPUT_PARSER_H
#define MR_TEXT_OUTPUT_PARSER_H

#include "base/buf.h"
#include "base/error.h"
#include "text/reasoning.h"
#include "text/tokenizer.h"
#include "text/tool_format.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum mr_output_kind {
    MR_OUTPUT_CONTENT,      /* text for the reader; never a part of a call, of a tag, or of a control token */
    MR_OUTPUT_REASONING,    /* text that the model thinks */
    MR_OUTPUT_CALL_STARTED, /* a call's name is known, its arguments are still being written. Each is followed by
                             * MR_OUTPUT_CALL with the same index, or by nothing where the call turns out malformed (its
                             * text is content then) */
    MR_OUTPUT_CALL,         /* a whole call */
} mr_output_kind;

typedef struct mr_output_event {
    mr_output_kind kind;
    const char *text; /* CONTENT, REASONING: [len], not empty */
    size_t len;
    size_t index;          /* of a call, from 0 */
    const char *name;      /* of a call */
    const char *id;        /* CALL: the model's own where the format has ids, else a new one; unique in the answer */
    const char *arguments; /* CALL: a JSON object, compact */
} mr_output_event;

/* Everything in the event is borrowed for the call. An error ends the parsing and is passed on. */
typedef mr_status (*mr_output_fn)(void *ctx, const mr_output_event *event, mr_error *err);

typedef struct mr_output_options {
    const mr_tool_format *tools;          /* NULL: calls are not looked for */
    const mr_reasoning_format *reasoning; /* NULL: the `<think>` of most models */
    const json_t *tool_list;              /* the OpenAI array of tools or NULL; borrowed until the parser is freed */
    bool extract_reasoning;               /* false: thoughts stay in the content, see reasoning.h */
    bool reasoning_open;                  /* the prompt ends inside of a think block */
    bool tools_open;                      /* the prompt ends with the mark that begins calls */
    size_t first_number;                  /* calls in the conversation so far, for ids that are numbers */
    mr_output_fn on_event;
    void *ctx;
} mr_output_options;

typedef struct mr_output_parser mr_output_parser;

/* NULL when memory runs out. */
mr_output_parser *mr_output_parser_new(const mr_output_options *options);
void mr_output_parser_free(mr_output_parser *parser); /* NULL is allowed */

/* Takes the next text. Errors: those of on_event, MR_ERR_NOMEM. */
mr_status mr_output_parser_push(mr_output_parser *parser, const char *text, size_t len, mr_error *err);

/* The answer is over; cut: by max_tokens, not by its own end. What was held back comes out. A call whose last closing
 * mark is missing is whole all the same; one whose JSON is cut short is text. */
mr_status mr_output_parser_finish(mr_output_parser *parser, bool cut, mr_error *err);

/* Calls that were whole so far. */
size_t mr_output_parser_n_calls(const mr_output_parser *parser);

/* Appends the special tokens whose texts a parser for these formats needs to see (for mr_generation_params.keep). False
 * when memory runs out. */
bool mr_output_keep_tokens(const mr_tokenizer *tokenizer, const mr_tool_format *tools,
                           const mr_reasoning_format *reasoning, mr_tokens *keep);

#endif
