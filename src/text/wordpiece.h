/* WordPiece (BERT): each word is cut greedily into the longest pieces of the vocabulary, pieces behind the first with a
 * prefix; a word that cannot be cut is one unknown token. WordLevel is the case without cutting. */
#ifndef MR_TEXT_WORDPIECE_H
#define MR_TEXT_WORDPIECE_H

#include "base/error.h"
#include "text/tokenizer_vocab.h"

#include <stdbool.h>
#include <stddef.h>

enum { MR_WORDPIECE_MAX_PREFIX = 64 };

typedef struct mr_wordpiece {
    const mr_vocab *vocab;
    mr_token unk;       /* -1: a word that is not known is an error */
    bool whole_words;   /* WordLevel */
    size_t max_chars;   /* longer words are unknown */
    const char *prefix; /* "##"; owned by the tokenizer's arena */
    size_t prefix_len;
} mr_wordpiece;

/* Appends the ids of the word text[0..len) (well-formed UTF-8). */
mr_status mr_wordpiece_encode(const mr_wordpiece *wordpiece, const char *text, size_t len, mr_tokens *out,
                              mr_error *err);

#endif
