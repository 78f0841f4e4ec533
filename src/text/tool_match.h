/* Comparing text that is still coming with the literals of a format. */
#ifndef MR_TEXT_TOOL_MATCH_H
#define MR_TEXT_TOOL_MATCH_H

#include <stdbool.h>
#include <stddef.h>

typedef enum mr_match {
    MR_MATCH_NO,
    MR_MATCH_MAYBE, /* the text ends before the literal does */
    MR_MATCH_FULL,
} mr_match;

bool mr_is_blank(char c);
size_t mr_count_blanks(const char *text, size_t len);

/* Whether text[0..len) begins with the literal. An empty literal is no match. */
mr_match mr_match_exact(const char *text, size_t len, const char *literal);

/* As above, but blanks at either end of the literal do not count, and a run of blanks inside of it stands for any run
 * of at most 64, also none. *used is set to the bytes of text that match. */
mr_match mr_match_loose(const char *text, size_t len, const char *literal, size_t *used);

/* The longest of the literals (NULL ends the list of at most n) that the text begins with; MAYBE while a longer one is
 * still possible. */
mr_match mr_match_any(const char *text, size_t len, const char *const *literals, size_t n, size_t *used);

#endif
