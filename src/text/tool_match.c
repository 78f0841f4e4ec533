#include "text/tool_match.h"

#include <string.h>

enum { MAX_RUN = 64 };

bool mr_is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t mr_count_blanks(const char *text, size_t len) {
    size_t n = 0;
    while (n < len && mr_is_blank(text[n])) n++;
    return n;
}

mr_match mr_match_exact(const char *text, size_t len, const char *literal) {
    size_t n = strlen(literal);
    if (n == 0) return MR_MATCH_NO;
    if (len >= n) return memcmp(text, literal, n) == 0 ? MR_MATCH_FULL : MR_MATCH_NO;
    return memcmp(text, literal, len) == 0 ? MR_MATCH_MAYBE : MR_MATCH_NO;
}

mr_match mr_match_loose(const char *text, size_t len, const char *literal, size_t *used) {
    size_t end = strlen(literal), i = mr_count_blanks(literal, end), at = 0;
    while (end > i && mr_is_blank(literal[end - 1])) end--;
    *used = 0;
    if (i == end) return MR_MATCH_NO;
    while (i < end) {
        size_t blanks = mr_count_blanks(literal + i, end - i);
        if (blanks > 0) {
            i += blanks;
            size_t run = mr_count_blanks(text + at, len - at);
            if (run > MAX_RUN) return MR_MATCH_NO;
            at += run;
        }
        if (at == len) return MR_MATCH_MAYBE;
        if (text[at++] != literal[i++]) return MR_MATCH_NO;
    }
    *used = at;
    return MR_MATCH_FULL;
}

mr_match mr_match_any(const char *text, size_t len, const char *const *literals, size_t n, size_t *used) {
    bool maybe = false;
    *used = 0;
    for (size_t i = 0; i < n && literals[i] != NULL; i++) {
        mr_match found = mr_match_exact(text, len, literals[i]);
        if (found == MR_MATCH_MAYBE) maybe = true;
        if (found == MR_MATCH_FULL && strlen(literals[i]) > *used) *used = strlen(literals[i]);
    }
    if (maybe) return MR_MATCH_MAYBE;
    return *used > 0 ? MR_MATCH_FULL : MR_MATCH_NO;
}
