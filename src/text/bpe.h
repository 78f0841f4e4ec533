/* Byte-pair encoding: pairs of neighbouring symbols are merged, the best rank first, the leftmost first among equals.
 *
 * Two kinds are covered: merges listed by rank (GPT-2 and Hugging Face: the pair of ids decides), and SentencePiece's,
 * where any two neighbours whose joined text is in the vocabulary may merge and the score is the rank. */
#ifndef MR_TEXT_BPE_H
#define MR_TEXT_BPE_H

#include "base/error.h"
#include "text/bpe_queue.h"
#include "text/tokenizer_vocab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_merge_slot {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    uint32_t rank;
    mr_token id;
} mr_merge_slot;

typedef struct mr_bpe {
    const mr_vocab *vocab;
    mr_merge_slot *merges;
    size_t mask, n_merges;
    bool by_score;      /* SentencePiece */
    uint32_t *rank;     /* by_score: rank of each id */
    bool byte_level;    /* symbols are bytes, strings of the vocabulary are raw bytes */
    bool byte_fallback; /* characters that are not in the vocabulary become "<0x..>" tokens */
    bool ignore_merges; /* a text that is in the vocabulary is that token */
    bool fuse_unk;
    bool whole_newlines;         /* a text of newlines only that is in the vocabulary is that token */
    bool cut_at_space;           /* no token has U+2581 behind another character: words are independent */
    mr_token unk;                /* -1: characters that are unknown are dropped */
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL when none */
    size_t prefix_len, suffix_len;
    mr_token byte_id[256]; /* -1 when there is none */
    uint8_t *whole;        /* for each id: 0 unknown, 1 its text encodes to itself, 2 it does not; relaxed atomics */
} mr_bpe;

/* Room for n merges. */
mr_status mr_bpe_reserve(mr_bpe *bpe, size_t n, mr_error *err);

/* Adds a merge; a pair that is there already keeps the later rank, as a map filled in order does. */
void mr_bpe_add_merge(mr_bpe *bpe, mr_token left, mr_token right, uint32_t rank, mr_token id);

/* Sets rank[] from the scores of ids 0 .. n-1: the best score first, equal scores equal. */
mr_status mr_bpe_rank_scores(mr_bpe *bpe, const float *scores, size_t n, mr_error *err);

/* Sets up byte ids, the whole-word marks and cut_at_space once vocabulary and merges are there. */
mr_status mr_bpe_finish(mr_bpe *bpe, mr_error *err);
void mr_bpe_free(mr_bpe *bpe);

typedef struct mr_symbol {
    mr_token id; /* -1: text that is no token (by_score only) */
    uint32_t prev, next;
    uint32_t start, len; /* in the text; len 0: merged away */
    uint32_t pair_rank;  /* of this symbol and the next; UINT32_MAX: they do not merge */
    mr_token pair_id;
} mr_symbol;

/* A direct-mapped cache of short words. */
typedef struct mr_word_entry {
    uint64_t hash;
    uint8_t len, n;
    char text[22];
    mr_token ids[8];
} mr_word_entry;

/* How a token marked unused came about: the last merge of it that was seen. */
typedef struct mr_unused_merge {
    mr_token id;
    uint32_t left_len;
} mr_unused_merge;

typedef struct mr_bpe_scratch {
    mr_symbol *symbols;
    size_t cap;
    uint64_t *heap;
    size_t n_heap, cap_heap;
    mr_bpe_queue queue;
    mr_unused_merge *unused;
    size_t n_unused, cap_unused;
    bool failed;          /* memory ran out where no status could be returned */
    mr_word_entry *cache; /* NULL: none */
    size_t cache_mask;
} mr_bpe_scratch;

/* A scratch for a call that encodes about n_bytes of text. Without memory it goes without a cache. */
void mr_bpe_scratch_init(mr_bpe_scratch *scratch, size_t n_bytes);
void mr_bpe_scratch_free(mr_bpe_scratch *scratch);

/* Appends the ids of text[0..len) (well-formed UTF-8). */
mr_status mr_bpe_encode(const mr_bpe *bpe, mr_bpe_scratch *scratch, const char *text, size_t len, mr_tokens *out,
                        mr_error *err);

#endif
