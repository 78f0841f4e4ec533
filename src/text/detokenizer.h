/* Decoders: from tokens' strings back to text. A list of operations that each rewrite the list of strings, run as a
 * stream, so that decoding at once and decoding token by token are the same thing. */
#ifndef MR_TEXT_DETOKENIZER_H
#define MR_TEXT_DETOKENIZER_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_regex.h"

#include <stdbool.h>
#include <stddef.h>

enum { MR_DECODER_MAX_OPS = 16 };

typedef enum mr_decoder_kind {
    MR_DECODE_BYTE_LEVEL, /* letters back to bytes; with `raw` the strings are bytes already */
    MR_DECODE_METASPACE,
    MR_DECODE_WORDPIECE,
    MR_DECODE_BPE,           /* the suffix of a word's last piece becomes a space */
    MR_DECODE_BYTE_FALLBACK, /* runs of "<0x..>" become characters, or U+FFFD for each byte */
    MR_DECODE_FUSE,
    MR_DECODE_STRIP,
    MR_DECODE_REPLACE,
    MR_DECODE_CTC,
    MR_DECODE_JOIN_SPACE,    /* a space between tokens: what the reference does without a decoder */
    MR_DECODE_SENTENCEPIECE, /* U+2581 becomes a space, byte tokens characters, spaces in front go */
} mr_decoder_kind;

typedef struct mr_decoder_op {
    mr_decoder_kind kind;
    bool raw;
    bool keep_first;  /* METASPACE: the mark of the first token is a space as well */
    bool cleanup;     /* WORDPIECE, CTC */
    const char *text; /* METASPACE mark, WORDPIECE prefix, BPE suffix, STRIP character, REPLACE text, CTC pad */
    size_t len;
    const char *content; /* REPLACE content, CTC word delimiter */
    size_t content_len;
    size_t start, stop; /* STRIP: most characters cut at each end */
    bool strip_one,
        strip_all;   /* SENTENCEPIECE: one mark at the start goes; or that of each token until there is text */
    mr_regex *regex; /* REPLACE: owned */
} mr_decoder_op;

typedef struct mr_decoder {
    mr_decoder_op ops[MR_DECODER_MAX_OPS];
    size_t n;
} mr_decoder;

mr_status mr_decoder_add(mr_decoder *decoder, mr_decoder_op op, mr_error *err);
void mr_decoder_free(mr_decoder *decoder);

/* The text of one token in the middle of others: appends it to out. */
void mr_decoder_piece(const mr_decoder *decoder, const char *text, size_t len, mr_buf *out);

/* BERT's clean-up of a text: no space in front of punctuation and shortened words. In place. */
void mr_decoder_cleanup(mr_buf *text);

#endif
