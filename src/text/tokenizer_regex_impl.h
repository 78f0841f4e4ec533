/* What the parser, compiler and matcher of tokenizer_regex.h share. */
#ifndef MR_TEXT_TOKENIZER_REGEX_IMPL_H
#define MR_TEXT_TOKENIZER_REGEX_IMPL_H

#include "base/arena.h"
#include "text/tokenizer_regex.h"
#include "text/unicode.h"

/* A set of code points as sorted, disjoint ranges; `ranges` holds n pairs [first, last]. */
typedef struct mr_charset {
    uint32_t *ranges;
    size_t n, cap;
    bool failed; /* memory ran out */
} mr_charset;

void mr_charset_free(mr_charset *set);
void mr_charset_add(mr_charset *set, uint32_t first, uint32_t last); /* any order; normalise before use */
void mr_charset_normalise(mr_charset *set);
void mr_charset_union(mr_charset *set, const mr_charset *other);
void mr_charset_intersect(mr_charset *set, const mr_charset *other);
void mr_charset_negate(mr_charset *set);
bool mr_charset_has(const mr_charset *set, uint32_t c);
void mr_charset_close_over_case(mr_charset *set); /* adds what folds to the same character */

/* Adds the characters of \p{name} ("L", "Lu", "Han", "Alphabetic", …) or of [:name:]; false when there is none. */
bool mr_charset_add_property(mr_charset *set, const char *name, size_t len);
void mr_charset_add_space(mr_charset *set);
void mr_charset_add_word(mr_charset *set);

typedef enum mr_node_kind {
    MR_NODE_EMPTY,
    MR_NODE_SET,
    MR_NODE_SEQ,
    MR_NODE_ALT,
    MR_NODE_REPEAT,
    MR_NODE_ASSERT,
    MR_NODE_LOOK,
    MR_NODE_ATOMIC
} mr_node_kind;

typedef enum mr_assertion {
    MR_ASSERT_LINE_BEGIN,
    MR_ASSERT_LINE_END,
    MR_ASSERT_TEXT_BEGIN,
    MR_ASSERT_TEXT_END,
    MR_ASSERT_TEXT_END_OR_NEWLINE,
    MR_ASSERT_WORD_BOUNDARY,
    MR_ASSERT_NO_WORD_BOUNDARY
} mr_assertion;

typedef enum mr_greed { MR_GREEDY, MR_LAZY, MR_POSSESSIVE } mr_greed;

enum { MR_REGEX_INFINITE = 0x7FFFFFFF };

typedef struct mr_node mr_node;
struct mr_node {
    mr_node_kind kind;
    mr_node *child, *next; /* children of SEQ and ALT are linked by next */
    uint32_t set;          /* SET: index of the class */
    uint32_t min, max;     /* REPEAT */
    mr_greed greed;
    mr_assertion assertion;
    bool behind, negative; /* LOOK */
};

/* A class made fast: a bit for each character of the first plane, ranges above. */
typedef struct mr_class {
    uint8_t bits[0x10000 / 8];
    uint32_t *astral;
    size_t n_astral;
    bool single; /* exactly one character, whose UTF-8 is literal[0..literal_len) */
    uint8_t literal_len;
    char literal[4];
} mr_class;

static inline bool mr_class_has(const mr_class *class, uint32_t c) {
    if (c < 0x10000) return (class->bits[c >> 3] >> (c & 7) & 1) != 0;
    for (size_t lo = 0, hi = class->n_astral; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (c < class->astral[2 * mid]) {
            hi = mid;
        } else if (c > class->astral[2 * mid + 1]) {
            lo = mid + 1;
        } else {
            return true;
        }
    }
    return false;
}

typedef enum mr_op {
    MR_OP_SET,
    MR_OP_LITERAL,
    MR_OP_REPEAT_SET,
    MR_OP_SPLIT,
    MR_OP_SPLIT_LAZY,
    MR_OP_JUMP,
    MR_OP_MARK,
    MR_OP_CHECK,
    MR_OP_ASSERT,
    MR_OP_LOOK,
    MR_OP_ATOMIC,
    MR_OP_ACCEPT
} mr_op;

/* SET/LITERAL: a = class. REPEAT_SET: a = class, min, max, greed. SPLIT: a = second choice. JUMP: a = target.
 * MARK/CHECK: a = slot; CHECK goes to min when the body matched nothing. LOOK: a = first behind the body, min..max =
 * characters to step back. ATOMIC: a = first behind the body. */
typedef struct mr_instr {
    uint8_t op, greed;
    bool behind, negative;
    uint32_t a, min, max;
} mr_instr;

enum {
    MR_REGEX_MAX_INSTRS = 50000,
    MR_REGEX_MAX_CLASSES = 512,
    MR_REGEX_MAX_DEPTH = 100,
    MR_REGEX_MAX_SLOTS = 64,
    MR_REGEX_MAX_VISITS = 1000000,
    MR_REGEX_MAX_FRAMES = 4 << 20, /* 96 MiB */
    MR_REGEX_FREE_STEPS = 10000000,
    MR_REGEX_STEPS_A_BYTE = 250
};

struct mr_regex {
    mr_instr *code;
    size_t n_code, cap_code;
    mr_class *classes;
    size_t n_classes;
    uint32_t n_slots;
    bool may_be_empty;
    bool first[256]; /* bytes a match can begin with, when it may not be empty */
};

/* Parses the pattern: *root and its nodes live in arena; classes are appended to regex. */
mr_status mr_regex_parse(mr_regex *regex, mr_arena *arena, const char *pattern, size_t len, mr_node **root,
                         mr_error *err);

#endif
