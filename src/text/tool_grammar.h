/* The form of tool calls as a grammar: calls in a family's own writing, of tools that exist, with arguments that match
 * their schemas. */
#ifndef MR_TEXT_TOOL_GRAMMAR_H
#define MR_TEXT_TOOL_GRAMMAR_H

#include "base/error.h"
#include "text/grammar.h"
#include "text/token_mask.h"
#include "text/tokenizer.h"
#include "text/tool_format.h"

#include <jansson.h>
#include <stdbool.h>

/* Where in a call the text begins. */
typedef enum mr_tool_grammar_start {
    MR_TOOL_FROM_OPEN,      /* at the beginning of the calls */
    MR_TOOL_FROM_MARK,      /* behind format->open[0], which the model has written */
    MR_TOOL_FROM_NAME,      /* before the name of the first call */
    MR_TOOL_FROM_ARGUMENTS, /* before the arguments of the first call (which is of `named`); blanks may come first */
} mr_tool_grammar_start;

typedef struct mr_tool_grammar_options {
    const mr_tool_format *format;
    const mr_tokenizer *tokenizer;
    const mr_mask_vocab *vocab;
    const json_t *tools; /* the OpenAI array; at least one */
    const char *named;   /* the only tool that may be called, or NULL */
    bool parallel;       /* more than one call */
    mr_tool_grammar_start start;
} mr_tool_grammar_options;

/* Adds the calls to a grammar and returns the node behind them. A tool whose schema can't be held gets any object as
 * its arguments, and a warning says why. Errors through mr_grammar_fail. */
mr_grammar_node mr_tool_grammar_calls(mr_grammar *grammar, mr_grammar_node from,
                                      const mr_tool_grammar_options *options);

/* Whether this format's calls can be held from this place on. (Those in Python's writing can't.) */
bool mr_tool_grammar_possible(const mr_tool_format *format, mr_tool_grammar_start start);

#endif
