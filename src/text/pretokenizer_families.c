/* The patterns of GPT-2, cl100k (llama 3, qwen 2, …) and o200k (gpt-4o, tekken, …) as scanners. Each function follows
 * the alternatives of its pattern in their order; the unit test compares them with the compiled patterns. */
#include "text/pretokenizer.h"

#include "text/unicode.h"

#include <string.h>

typedef struct scanner {
    const uint8_t *s;
    size_t len;
} scanner;

enum { MASK_LETTER = MR_GC_LETTER, MASK_NUMBER = MR_GC_NUMBER };
static const uint32_t MASK_UPPER =
    MR_GC_BIT(MR_GC_LU) | MR_GC_BIT(MR_GC_LT) | MR_GC_BIT(MR_GC_LM) | MR_GC_BIT(MR_GC_LO) | MR_GC_MARK;
static const uint32_t MASK_LOWER = MR_GC_BIT(MR_GC_LL) | MR_GC_BIT(MR_GC_LM) | MR_GC_BIT(MR_GC_LO) | MR_GC_MARK;

/* A pseudo-category for white space, so that one mask tests for "letter or space". */
#define MASK_SPACE (1u << 31)

/* The character at `at` (at < len): its length; *bits gets its category's bit and MASK_SPACE. Text is well-formed. */
static inline size_t char_bits(const scanner *t, size_t at, uint32_t *bits) {
    const uint8_t *s = t->s + at;
    uint32_t c;
    size_t n;
    if (s[0] < 0x80) {
        c = s[0];
        *bits = MR_GC_BIT(mr_unicode_get(c)->category);
        if (c == ' ' || (c >= 9 && c <= 13)) *bits |= MASK_SPACE;
        return 1;
    }
    if (s[0] < 0xE0) {
        c = (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
        n = 2;
    } else if (s[0] < 0xF0) {
        c = (s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
        n = 3;
    } else {
        c = (s[0] & 7u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
        n = 4;
    }
    *bits = MR_GC_BIT(mr_unicode_get(c)->category);
    if (mr_unicode_is_space(c)) *bits |= MASK_SPACE;
    return n;
}

/* Behind the run of characters from `at` on that have (or, with in = false, have not) a bit of mask. */
static size_t run_of(const scanner *t, size_t at, uint32_t mask, bool in) {
    while (at < t->len) {
        uint32_t bits;
        size_t n = char_bits(t, at, &bits);
        if (((bits & mask) != 0) != in) break;
        at += n;
    }
    return at;
}

/* `'s`, `'t`, `'m`, `'d`, `'re`, `'ve`, `'ll` at `at`: its end, or at when there is none. In any case, U+017F (long s)
 * folds to s. */
static size_t contraction(const scanner *t, size_t at, bool any_case) {
    if (at + 1 >= t->len || t->s[at] != '\'') return at;
    uint8_t a = t->s[at + 1], b = at + 2 < t->len ? t->s[at + 2] : 0;
    if (any_case) {
        if (a == 0xC5 && b == 0xBF) return at + 3;
        if (a >= 'A' && a <= 'Z') a += 32;
        if (b >= 'A' && b <= 'Z') b += 32;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    return at;
}

/* \s+(?!\S)|\s+ on the white space from `at` to `end`. */
static size_t space_piece(const scanner *t, size_t at, size_t end) {
    if (end == t->len) return end;
    size_t last = end - 1;
    while (last > at && (t->s[last] & 0xC0) == 0x80) last--;
    return last > at ? last : end;
}

static size_t next_gpt2(const scanner *t, size_t at) {
    size_t end = contraction(t, at, false);
    if (end > at) return end;
    size_t begin = at;
    uint32_t bits;
    size_t n = char_bits(t, at, &bits);
    if (t->s[at] == ' ' && at + 1 < t->len) {
        uint32_t next;
        char_bits(t, at + 1, &next);
        if ((next & MASK_SPACE) == 0) { /* ` ?` takes the space along */
            begin = at + 1;
            n = 0;
            bits = next;
        }
    }
    if ((bits & MASK_SPACE) != 0) return space_piece(t, at, run_of(t, at, MASK_SPACE, true));
    if ((bits & MASK_LETTER) != 0) return run_of(t, begin + n, MASK_LETTER, true);
    if ((bits & MASK_NUMBER) != 0) return run_of(t, begin + n, MASK_NUMBER, true);
    return run_of(t, begin + n, MASK_SPACE | MASK_LETTER | MASK_NUMBER, false);
}

static size_t digits(const scanner *t, size_t at, uint8_t max) {
    if (max == 0) return run_of(t, at, MASK_NUMBER, true);
    for (uint8_t i = 0; i < max && at < t->len; i++) {
        uint32_t bits;
        size_t n = char_bits(t, at, &bits);
        if ((bits & MASK_NUMBER) == 0) break;
        at += n;
    }
    return at;
}

/* [\r\n]* or [\r\n/]* */
static size_t line_ends(const scanner *t, size_t at, bool slash) {
    while (at < t->len && (t->s[at] == '\r' || t->s[at] == '\n' || (slash && t->s[at] == '/'))) at++;
    return at;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t space_or_lines(const scanner *t, size_t at) {
    size_t end = run_of(t, at, MASK_SPACE, true);
    for (size_t i = end; i > at; i--) {
        if (t->s[i - 1] == '\r' || t->s[i - 1] == '\n') return i;
    }
    return space_piece(t, at, end);
}

/* ` ?[^\s\p{L}\p{N}]+[\r\n]*` and the white space behind it in the patterns; `letters` is what counts as \p{L}. */
static size_t symbols_or_space(const scanner *t, const mr_family *f, size_t at, uint32_t bits, uint32_t letters) {
    uint32_t not_symbol = MASK_SPACE | letters | MASK_NUMBER;
    size_t begin = at;
    if (t->s[at] == ' ' && at + 1 < t->len) {
        char_bits(t, at + 1, &bits);
        if ((bits & not_symbol) == 0)
            begin = at + 1;
        else
            bits = MASK_SPACE;
    }
    if ((bits & not_symbol) == 0) return line_ends(t, run_of(t, begin, not_symbol, false), f->slash);
    return space_or_lines(t, at);
}

static size_t next_cl100k(const scanner *t, const mr_family *f, size_t at) {
    uint32_t letters = f->marks ? MR_GC_LETTER | MR_GC_MARK : MR_GC_LETTER;
    if (f->contractions) {
        size_t end = contraction(t, at, true);
        if (end > at) return end;
    }
    uint32_t bits, next;
    size_t n = char_bits(t, at, &bits);
    if ((bits & letters) != 0) return run_of(t, at + n, letters, true);
    if ((bits & MASK_NUMBER) != 0) return digits(t, at, f->max_digits);
    if (t->s[at] != '\r' && t->s[at] != '\n' && at + n < t->len) {
        size_t m = char_bits(t, at + n, &next);
        if ((next & letters) != 0) return run_of(t, at + n + m, letters, true);
    }
    return symbols_or_space(t, f, at, bits, letters);
}

/* [upper]*[lower]+ from `at` on, as a backtracking matcher finds it; at when it does not match. */
static size_t upper_lower(const scanner *t, size_t at) {
    size_t end = at, last_both = at; /* behind the last character of the first run that may also be in the second */
    while (end < t->len) {
        uint32_t bits;
        size_t n = char_bits(t, end, &bits);
        if ((bits & MASK_UPPER) == 0) break;
        end += n;
        if ((bits & MASK_LOWER) != 0) last_both = end;
    }
    size_t lower = run_of(t, end, MASK_LOWER, true);
    return lower > end ? lower : last_both;
}

/* [upper]+[lower]* */
static size_t uppers_then_lower(const scanner *t, size_t at) {
    size_t end = run_of(t, at, MASK_UPPER, true);
    return end > at ? run_of(t, end, MASK_LOWER, true) : at;
}

static size_t next_o200k(const scanner *t, const mr_family *f, size_t at) {
    uint32_t bits;
    size_t n = char_bits(t, at, &bits);
    bool prefix = t->s[at] != '\r' && t->s[at] != '\n' && (bits & (MASK_LETTER | MASK_NUMBER)) == 0;
    size_t (*const kinds[2])(const scanner *, size_t) = {upper_lower, uppers_then_lower};
    for (int k = 0; k < 2; k++) {
        size_t end = at;
        if (prefix) {
            end = kinds[k](t, at + n);
            if (end == at + n) end = at;
        }
        if (end == at) end = kinds[k](t, at);
        if (end > at) return f->contractions ? contraction(t, end, true) : end;
    }
    if ((bits & MASK_NUMBER) != 0) return digits(t, at, f->max_digits);
    return symbols_or_space(t, f, at, bits, MR_GC_LETTER);
}

size_t mr_family_next(const mr_family *family, const char *text, size_t len, size_t at) {
    scanner t = {.s = (const uint8_t *)text, .len = len};
    switch (family->kind) {
    case MR_FAMILY_GPT2:
        return next_gpt2(&t, at);
    case MR_FAMILY_CL100K:
        return next_cl100k(&t, family, at);
    case MR_FAMILY_O200K:
        return next_o200k(&t, family, at);
    }
    return len;
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define ANY_START "[^\\r\\n\\p{L}\\p{N}]?"

static const struct {
    const char *pattern;
    mr_family family;
} families[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", {.kind = MR_FAMILY_GPT2}},
    {CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     {.kind = MR_FAMILY_CL100K, .max_digits = 3, .contractions = true}},
    {CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     {.kind = MR_FAMILY_CL100K, .max_digits = 1, .contractions = true}},
    {CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     {.kind = MR_FAMILY_CL100K, .max_digits = 0, .contractions = true}},
    {ANY_START "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES, {.kind = MR_FAMILY_CL100K, .max_digits = 1}},
    {CONTRACTIONS "|" ANY_START "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES,
     {.kind = MR_FAMILY_CL100K, .max_digits = 1, .contractions = true, .marks = true}},
    {ANY_START UPPERS "*" LOWERS "+" CONTRACTIONS "?|" ANY_START UPPERS "+" LOWERS "*" CONTRACTIONS
                      "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     {.kind = MR_FAMILY_O200K, .max_digits = 3, .contractions = true, .slash = true}},
    {ANY_START UPPERS "*" LOWERS "+" CONTRACTIONS "?|" ANY_START UPPERS "+" LOWERS "*" CONTRACTIONS
                      "?|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     {.kind = MR_FAMILY_O200K, .max_digits = 1, .contractions = true, .slash = true}},
    {ANY_START UPPERS "*" LOWERS "+|" ANY_START UPPERS "+" LOWERS "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     {.kind = MR_FAMILY_O200K, .max_digits = 1, .slash = true}},
};

bool mr_family_find(const char *pattern, size_t len, mr_family *family) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strlen(families[i].pattern) != len || memcmp(families[i].pattern, pattern, len) != 0) continue;
        *family = families[i].family;
        return true;
    }
    return false;
}
