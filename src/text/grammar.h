/* Grammars over bytes, for text that has to have a form: rules that may call each other (a recursive transition
 * network, Woods, "Transition network grammars for natural language analysis", CACM 1970), built node by node.
 *
 * A rule is a graph between its entry and its exit. An edge consumes a byte of a range or one special token, consumes
 * nothing, or calls a rule and goes on when that is done. Builder functions take the node where a piece begins and
 * return the node where it ends; MR_GRAMMAR_NONE in means NONE out, so that pieces can be chained and the error read
 * once, from mr_grammar_finish. After that a grammar is immutable. */
#ifndef MR_TEXT_GRAMMAR_H
#define MR_TEXT_GRAMMAR_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_grammar mr_grammar;
typedef uint32_t mr_grammar_node;
typedef uint32_t mr_grammar_rule;

enum { MR_GRAMMAR_NONE = UINT32_MAX };

/* NULL when memory runs out. Rule 0 is the root. */
mr_grammar *mr_grammar_new(void);
void mr_grammar_free(mr_grammar *grammar);

/* Notes the first error (a limit, or what the caller says); everything after it does nothing. */
void mr_grammar_fail(mr_grammar *grammar, const mr_error *error);
bool mr_grammar_failed(const mr_grammar *grammar);

/* A new rule; its entry and exit. The root's exit is where the text may end. */
mr_grammar_rule mr_grammar_add_rule(mr_grammar *grammar);
mr_grammar_node mr_grammar_entry(const mr_grammar *grammar, mr_grammar_rule rule);
mr_grammar_node mr_grammar_exit(const mr_grammar *grammar, mr_grammar_rule rule);

mr_grammar_node mr_grammar_add_node(mr_grammar *grammar);

/* Edges from one node to another. */
void mr_grammar_skip(mr_grammar *grammar, mr_grammar_node from, mr_grammar_node to);
void mr_grammar_byte(mr_grammar *grammar, mr_grammar_node from, uint8_t first, uint8_t last, mr_grammar_node to);
void mr_grammar_token(mr_grammar *grammar, mr_grammar_node from, int32_t id, mr_grammar_node to);

/* Says that texts of up to n_bytes cannot tell `node` from `other`: what follows either of them is the same for that
 * far. Counts make such nodes; masks are shared between them. */
void mr_grammar_alike(mr_grammar *grammar, mr_grammar_node node, mr_grammar_node other, uint32_t n_bytes);

/* Pieces: a text, a call, a character of a range of code points as UTF-8 (RFC 3629; surrogates are left out). */
mr_grammar_node mr_grammar_text(mr_grammar *grammar, mr_grammar_node from, const char *text, size_t len);
mr_grammar_node mr_grammar_call(mr_grammar *grammar, mr_grammar_node from, mr_grammar_rule rule);
void mr_grammar_char(mr_grammar *grammar, mr_grammar_node from, uint32_t first, uint32_t last, mr_grammar_node to);

/* Takes out what can never come to an end. Errors: the first one noted; MR_ERR_INVALID when no text at all has the
 * form, or a rule calls itself without consuming anything. */
mr_status mr_grammar_finish(mr_grammar *grammar, mr_error *err);

#endif
