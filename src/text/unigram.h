/* The unigram language model: of all ways to cut a text into pieces of the vocabulary, the one with the highest sum of
 * scores (Viterbi; Kudo 2018, https://arxiv.org/abs/1804.10959). */
#ifndef MR_TEXT_UNIGRAM_H
#define MR_TEXT_UNIGRAM_H

#include "base/error.h"
#include "text/tokenizer_vocab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_unigram_edge {
    uint32_t key; /* node << 8 | byte; UINT32_MAX: free */
    uint32_t node;
} mr_unigram_edge;

typedef struct mr_unigram {
    const mr_vocab *vocab;
    double *score; /* of each id; owned */
    double unk_score;
    mr_token unk; /* -1: none, then a text with an unknown character is an error */
    bool byte_fallback;
    bool in_float; /* sum in single precision, as SentencePiece does */
    mr_unigram_edge *edges;
    size_t mask, n_nodes;
    mr_token *token_of; /* of each node; -1: none */
    mr_token byte_id[256];
} mr_unigram;

/* Builds the trie over the vocabulary's strings that can be found. score[] is set by the caller before. */
mr_status mr_unigram_finish(mr_unigram *unigram, mr_error *err);
void mr_unigram_free(mr_unigram *unigram);

typedef struct mr_unigram_cell {
    double score;
    mr_token id;
    uint32_t start;
} mr_unigram_cell;

typedef struct mr_unigram_scratch {
    mr_unigram_cell *cells;
    size_t cap;
} mr_unigram_scratch;

void mr_unigram_scratch_free(mr_unigram_scratch *scratch);

/* Appends the ids of text[0..len) (well-formed UTF-8). MR_ERR_INVALID when it needs the missing unknown token. */
mr_status mr_unigram_encode(const mr_unigram *unigram, mr_unigram_scratch *scratch, const char *text, size_t len,
                            mr_tokens *out, mr_error *err);

#endif
