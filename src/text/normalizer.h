/* Normalizers: rewrites of the text before it is cut. A list of steps, run in order on each part between added tokens.
 */
#ifndef MR_TEXT_NORMALIZER_H
#define MR_TEXT_NORMALIZER_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tokenizer_regex.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_NORMALIZER_MAX_STEPS = 32 };

typedef enum mr_step_kind {
    MR_STEP_NFC,
    MR_STEP_NFD,
    MR_STEP_NFKC,
    MR_STEP_NFKD,
    MR_STEP_LOWERCASE,
    MR_STEP_STRIP,         /* white space at the ends: left, right */
    MR_STEP_STRIP_ACCENTS, /* drops marks */
    MR_STEP_REPLACE,       /* a text or pattern by content */
    MR_STEP_PREPEND,       /* content in front of a text that is not empty */
    MR_STEP_BERT,
    MR_STEP_PRECOMPILED,   /* SentencePiece's character map as Hugging Face applies it */
    MR_STEP_SENTENCEPIECE, /* the same map as SentencePiece applies it, with its handling of spaces */
    MR_STEP_NMT,
    MR_STEP_BYTE_LEVEL, /* bytes as letters */
} mr_step_kind;

/* SentencePiece's `precompiled_charsmap`: a double-array trie from byte strings to offsets into NUL-terminated
 * replacements. */
typedef struct mr_charsmap {
    const uint32_t *units;
    size_t n_units;
    const char *replacements;
    size_t n_replacements;
    uint32_t *owned; /* aligned copy of the units */
} mr_charsmap;

/* Reads a map; bytes[0..len) must outlive it. */
mr_status mr_charsmap_read(mr_charsmap *map, const char *bytes, size_t len, mr_error *err);
void mr_charsmap_free(mr_charsmap *map);

/* The replacement for the shortest (Hugging Face) or longest key that begins text[0..len): sets *n_used to the key's
 * bytes; NULL when no key does. */
const char *mr_charsmap_find(const mr_charsmap *map, const char *text, size_t len, bool longest, size_t *n_used,
                             size_t *n_replacement);

typedef struct mr_step {
    mr_step_kind kind;
    bool left, right;              /* STRIP */
    mr_regex *regex;               /* REPLACE: owned, or NULL for a text */
    const char *pattern, *content; /* owned by the tokenizer's arena */
    size_t pattern_len, content_len;
    bool clean, chinese, strip_accents, lowercase; /* BERT */
    mr_charsmap map;
    const struct mr_added_tokens *keep; /* SENTENCEPIECE: texts that pass unchanged; NULL: none */
    bool add_dummy_prefix, remove_extra_spaces, escape_spaces, suffix_space; /* SENTENCEPIECE */
} mr_step;

typedef struct mr_normalizer {
    mr_step steps[MR_NORMALIZER_MAX_STEPS];
    size_t n;
} mr_normalizer;

typedef struct mr_normalizer_scratch {
    mr_buf text[2];
    uint32_t *chars;
    size_t cap_chars;
    mr_regex_scratch regex;
} mr_normalizer_scratch;

mr_status mr_normalizer_add(mr_normalizer *normalizer, mr_step step, mr_error *err);
void mr_normalizer_free(mr_normalizer *normalizer);
void mr_normalizer_scratch_free(mr_normalizer_scratch *scratch);

/* Normalizes *text (*len bytes, well-formed UTF-8): both then point at the result, which lives in scratch, or at the
 * text itself when nothing changed. *at_start (whether the text begins where the input does) is cleared when characters
 * in front are dropped. */
mr_status mr_normalizer_run(const mr_normalizer *normalizer, mr_normalizer_scratch *scratch, const char **text,
                            size_t *len, bool *at_start, mr_error *err);

/* Unicode normalization forms, with the data of Unicode 9; appends to out. */
mr_status mr_normalize_form(mr_step_kind form, mr_normalizer_scratch *scratch, const char *text, size_t len,
                            mr_buf *out, mr_error *err);

#endif
