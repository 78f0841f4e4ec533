/* Regular expressions of tokenizers, in the syntax and with the Unicode data of Oniguruma 6.9 (what Hugging Face
 * `tokenizers` runs): nested and intersected classes, look-around, possessive and lazy quantifiers, \p{…}.
 *
 * A general library would answer with its own Unicode version and class syntax, and ids would differ from the
 * reference. Back-references, conditionals and recursion are not built in (MR_ERR_UNSUPPORTED).
 *
 * A compiled pattern is immutable and may be used from many threads; each thread brings its own scratch. */
#ifndef MR_TEXT_TOKENIZER_REGEX_H
#define MR_TEXT_TOKENIZER_REGEX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_regex mr_regex;

/* Compiles pattern[0..len) (UTF-8). Errors say at which byte of the pattern. */
mr_status mr_regex_compile(mr_regex **regex, const char *pattern, size_t len, mr_error *err);
void mr_regex_free(mr_regex *regex);

/* The backtracking stack of a thread, and how much it may still search; zero-initialise, free with
 * mr_regex_scratch_free. One scratch serves one text through all patterns that see it: the steps of all searches add up,
 * against 10 million and 250 for each byte that a walk begins on, so that no pattern can take time without end. */
typedef struct mr_regex_scratch {
    struct mr_regex_frame *frames;
    size_t n, cap;
    uint64_t steps, max_steps;
} mr_regex_scratch;

void mr_regex_scratch_free(mr_regex_scratch *scratch);

typedef enum mr_regex_result {
    MR_REGEX_NONE = 0,
    MR_REGEX_FOUND = 1,
    MR_REGEX_NOMEM = -1,
    MR_REGEX_LIMIT = -2
} mr_regex_result;

/* The leftmost match at or after `start` in text[0..len), which must be well-formed UTF-8: sets *begin and *end.
 * MR_REGEX_LIMIT when the scratch's steps are used up or more than 4 million choices are open at once. */
mr_regex_result mr_regex_find(const mr_regex *regex, mr_regex_scratch *scratch, const char *text, size_t len,
                              size_t start, size_t *begin, size_t *end);

/* A walk over all matches as Oniguruma's callers do it: an empty match right behind the last match is skipped. */
typedef struct mr_regex_iter {
    size_t at, last_end;
    bool any;
} mr_regex_iter;

mr_regex_result mr_regex_next(const mr_regex *regex, mr_regex_scratch *scratch, const char *text, size_t len,
                              mr_regex_iter *iter, size_t *begin, size_t *end);

#endif
