/* Reading a text by a finished grammar, byte by byte.
 *
 * What may follow depends on where in which rules one is: a set of configurations (node, stack of return nodes). Each
 * set that comes up becomes a state with a number, and its transitions are kept, so that most bytes cost one look into
 * a table. A matcher is for one thread at a time and can serve any number of texts. */
#ifndef MR_TEXT_GRAMMAR_MATCH_H
#define MR_TEXT_GRAMMAR_MATCH_H

#include "text/grammar.h"

typedef struct mr_matcher mr_matcher;

/* Names a state; -1: no text that begins so has the form. Valid until mr_matcher_shrink renames them. */
typedef int32_t mr_match_state;
enum { MR_MATCH_DEAD = -1 };

/* Takes the grammar, which must be finished. NULL when memory runs out (the grammar is then freed). */
mr_matcher *mr_matcher_new(mr_grammar *grammar);
void mr_matcher_free(mr_matcher *matcher);

mr_match_state mr_matcher_start(const mr_matcher *matcher);

/* The state behind one more byte, or one special token. Dead also when memory or the allowed
 * work runs out, or the states are too many to be kept (mr_matcher_failed). */
mr_match_state mr_matcher_byte(mr_matcher *matcher, mr_match_state state, uint8_t byte);
mr_match_state mr_matcher_token(mr_matcher *matcher, mr_match_state state, int32_t id);

/* A state that texts of up to n_bytes cannot tell from this one, the same for many such states; often itself. */
mr_match_state mr_matcher_alike(mr_matcher *matcher, mr_match_state state, uint32_t n_bytes);

/* Whether the text may end here. */
bool mr_matcher_may_end(const mr_matcher *matcher, mr_match_state state);

/* The special tokens that may follow: at most n of them into ids; returns how many there are. */
size_t mr_matcher_tokens(const mr_matcher *matcher, mr_match_state state, int32_t *ids, size_t n);

/* Bounds the work from here on, in configurations looked at (some 10 million in a second); it fails when they are used
 * up. Unbounded at first. */
void mr_matcher_allow(mr_matcher *matcher, size_t n_steps);

bool mr_matcher_failed(const mr_matcher *matcher);

/* Number of states. When it has grown past what is worth keeping, mr_matcher_shrink forgets all but `state`, whose new
 * name it returns. */
size_t mr_matcher_n_states(const mr_matcher *matcher);
mr_match_state mr_matcher_shrink(mr_matcher *matcher, mr_match_state state);

#endif
