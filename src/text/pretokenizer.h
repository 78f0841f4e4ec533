/* Pre-tokenizers: a text is cut into the pieces that the model sees one at a time. A list of stages; each cuts (or
 * changes) the pieces of the stage before it. */
#ifndef MR_TEXT_PRETOKENIZER_H
#define MR_TEXT_PRETOKENIZER_H

#include "base/error.h"
#include "text/tokenizer_regex.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_PRETOKENIZER_MAX_STAGES = 24 };

typedef enum mr_stage_kind {
    MR_STAGE_REGEX,      /* Split by a pattern */
    MR_STAGE_STRING,     /* Split by a text */
    MR_STAGE_FAMILY,     /* Split (isolated) by one of the patterns below */
    MR_STAGE_BYTE_LEVEL, /* bytes as letters, with map_bytes; a leading space with add_prefix_space */
    MR_STAGE_METASPACE,
    MR_STAGE_DIGITS,     /* cut at numeric characters; `individual` */
    MR_STAGE_WHITESPACE, /* \w+|[^\w\s]+ */
    MR_STAGE_WHITESPACE_SPLIT,
    MR_STAGE_BERT, /* around each punctuation character; a WHITESPACE_SPLIT stage goes before it */
    MR_STAGE_PUNCTUATION,
    MR_STAGE_DELIMITER, /* CharDelimiterSplit */
    MR_STAGE_SCRIPTS,   /* UnicodeScripts */
    MR_STAGE_FIXED_LENGTH,
} mr_stage_kind;

typedef enum mr_split_behavior {
    MR_SPLIT_REMOVED,
    MR_SPLIT_ISOLATED,
    MR_SPLIT_MERGED_WITH_PREVIOUS,
    MR_SPLIT_MERGED_WITH_NEXT,
    MR_SPLIT_CONTIGUOUS
} mr_split_behavior;

typedef enum mr_prepend_scheme { MR_PREPEND_ALWAYS, MR_PREPEND_FIRST, MR_PREPEND_NEVER } mr_prepend_scheme;

/* The patterns that nearly all byte-level models use, matched by hand (pretokenizer_families.c). */
typedef enum mr_family_kind { MR_FAMILY_GPT2, MR_FAMILY_CL100K, MR_FAMILY_O200K } mr_family_kind;

typedef struct mr_family {
    mr_family_kind kind;
    uint8_t max_digits; /* \p{N}{1,max}; 0: \p{N}+ */
    bool contractions;  /* (?i:'s|'t|…) */
    bool marks;         /* \p{M} counts as a letter (cl100k kind) */
    bool slash;         /* [\r\n/]* behind symbols instead of [\r\n]* */
} mr_family;

typedef struct mr_stage {
    mr_stage_kind kind;
    mr_split_behavior behavior;
    bool invert;
    mr_regex *regex;  /* REGEX: owned */
    const char *text; /* STRING, METASPACE and DELIMITER: the text or character; owned by the tokenizer's arena */
    size_t len;
    mr_family family;
    mr_prepend_scheme prepend;
    bool split;                       /* METASPACE */
    bool individual;                  /* DIGITS */
    bool add_prefix_space, map_bytes; /* BYTE_LEVEL */
    size_t length;                    /* FIXED_LENGTH */
} mr_stage;

typedef struct mr_pretokenizer {
    mr_stage stages[MR_PRETOKENIZER_MAX_STAGES];
    size_t n;
} mr_pretokenizer;

void mr_pretokenizer_free(mr_pretokenizer *pretokenizer);

/* Appends a stage that splits by pattern[0..len): one of the families when the pattern is known and the pieces are
 * isolated, a compiled pattern otherwise. */
mr_status mr_pretokenizer_add_pattern(mr_pretokenizer *pretokenizer, const char *pattern, size_t len,
                                      mr_split_behavior behavior, bool invert, mr_error *err);

/* Appends a stage; MR_ERR_LIMIT when there are too many. */
mr_status mr_pretokenizer_add(mr_pretokenizer *pretokenizer, mr_stage stage, mr_error *err);

/* Whether pattern is one of the families. */
bool mr_family_find(const char *pattern, size_t len, mr_family *family);

/* The end of the piece that begins at text[at] (at < len); every text is cut into such pieces without a gap. */
size_t mr_family_next(const mr_family *family, const char *text, size_t len, size_t at);

typedef struct mr_encoder mr_encoder;

/* Cuts text[0..len) and gives the pieces to mr_encoder_model. at_start: the piece begins at the start of the input. */
mr_status mr_pretokenizer_run(mr_encoder *encoder, const char *text, size_t len, bool at_start);

/* The stages for a `tokenizer.ggml.pre` value, and what it implies. MR_ERR_UNSUPPORTED lists the known values. */
typedef struct mr_ggml_pre {
    bool ignore_merges, add_bos, no_bos, add_sep, lowercase;
    bool nfc;           /* the model's own tokenizer normalizes to NFC, which the file has no key for */
    bool raw_utf8;      /* the vocabulary is not byte-level */
    bool escape_spaces; /* spaces are U+2581 */
} mr_ggml_pre;

mr_status mr_pretokenizer_from_ggml(mr_pretokenizer *pretokenizer, const char *name, size_t len, mr_ggml_pre *traits,
                                    mr_error *err);

#endif
