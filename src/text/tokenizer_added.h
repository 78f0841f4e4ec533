/* Added tokens: texts that become one id wherever they stand, before the model sees the rest. Two sets are kept: one is
 * searched in the raw text, one in the normalized text. The leftmost longest text wins. */
#ifndef MR_TEXT_TOKENIZER_ADDED_H
#define MR_TEXT_TOKENIZER_ADDED_H

#include "base/error.h"
#include "text/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_added_token {
    const char *text; /* owned by the tokenizer's arena */
    size_t len;
    mr_token id;
    bool single_word;    /* only between non-word characters */
    bool lstrip, rstrip; /* takes the white space before / behind it along */
    bool normalized;     /* searched in the normalized text */
    bool special;
    bool verbatim; /* the text to search is the token's own, not its normalized form */
} mr_added_token;

typedef struct mr_trie_node {
    uint32_t child, next; /* indices, 0 = none */
    int32_t token;        /* index into the tokens, -1 = none */
    uint8_t byte;
} mr_trie_node;

/* The tokens of one set as a trie. */
typedef struct mr_added_trie {
    mr_trie_node *nodes;
    size_t n, cap;
    uint32_t root[256];
} mr_added_trie;

typedef struct mr_added_tokens mr_added_tokens;
struct mr_added_tokens {
    mr_added_token *tokens;
    size_t n, cap;
    mr_added_trie raw, normalized;
    bool keep_only; /* the normalized set is only for the normalizer, the model finds its tokens itself */
};

/* Appends a token (text is not copied). */
mr_status mr_added_push(mr_added_tokens *added, mr_added_token token, mr_error *err);

/* Puts tokens[index] into a trie under pattern[0..len), which may be its normalized text. */
mr_status mr_added_trie_insert(mr_added_trie *trie, const char *pattern, size_t len, int32_t index, mr_error *err);

/* The longest pattern of the trie that begins text[0..len): its length, 0 when there is none. */
size_t mr_added_trie_match(const mr_added_trie *trie, const char *text, size_t len);

void mr_added_free(mr_added_tokens *added);

/* A walk over a text: pieces of plain text (token NULL) and added tokens, in order, none empty. */
typedef struct mr_added_walk {
    const mr_added_tokens *added;
    const mr_added_trie *trie;
    const char *text;
    size_t len;
    bool special_text; /* false: special tokens are plain text */
    size_t search;     /* where the next match is looked for */
    size_t emitted;    /* up to here the text has been given out */
    const mr_added_token *pending;
    size_t pending_end;
} mr_added_walk;

void mr_added_walk_start(mr_added_walk *walk, const mr_added_tokens *added, const mr_added_trie *trie,
                         bool special_text, const char *text, size_t len);
bool mr_added_walk_next(mr_added_walk *walk, size_t *begin, size_t *end, const mr_added_token **token);

#endif
