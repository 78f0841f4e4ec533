/* Which tokens may follow: a grammar seen through a vocabulary.
 *
 * The tokens' bytes are kept in sorted order with the length of what each shares with the one before, so that a mask is
 * one pass over them that skips all with a beginning that has failed. Masks are kept for the states they belong to.
 * States that differ only in a count far from its bound share the mask of the short tokens, which are nearly all. */
#ifndef MR_TEXT_TOKEN_MASK_H
#define MR_TEXT_TOKEN_MASK_H

#include "text/grammar.h"
#include "text/tokenizer.h"

/* The vocabulary's part, which all constraints of a model share. Immutable; NULL when memory runs out. The tokenizer
 * must outlive it. */
typedef struct mr_mask_vocab mr_mask_vocab;
mr_mask_vocab *mr_mask_vocab_new(const mr_tokenizer *tokenizer);
void mr_mask_vocab_free(mr_mask_vocab *vocab);

/* Appends a text to a grammar in which the texts of special and added tokens are those tokens. */
mr_grammar_node mr_mask_vocab_text(const mr_mask_vocab *vocab, mr_grammar *grammar, mr_grammar_node from,
                                   const char *text, size_t len);

/* Whether the token stands for itself in a grammar (mr_grammar_token), not for its bytes. */
bool mr_mask_vocab_apart(const mr_mask_vocab *vocab, int32_t id);

typedef struct mr_constraint mr_constraint;

/* A constraint on one generation; takes the finished grammar. With `start` (may be NULL; copied) the text up to
 * and including its first occurrence is free. NULL when memory runs out. */
mr_constraint *mr_constraint_new(const mr_mask_vocab *vocab, mr_grammar *grammar, const char *start);
void mr_constraint_free(mr_constraint *constraint);

/* An mr_mask_fn (engine.h); ctx is the constraint. Special tokens and ends are allowed only where the grammar says.
 * Where memory runs out, or the form is so ambiguous that a mask would take more than about a second,
 * only the end is allowed. */
bool mr_constraint_mask(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits);

#endif
