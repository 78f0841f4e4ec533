/* Texts that a grammar lets through, for the fuzz targets of grammars. */
#ifndef MR_TESTS_FUZZ_GRAMMAR_WALK_H
#define MR_TESTS_FUZZ_GRAMMAR_WALK_H

#include "text/grammar_match.h"

#include <jansson.h>
#include <stdlib.h>

/* Walks from the start, byte by byte, each chosen by `seed` among those that may follow. Returns the length of the last
 * beginning that may end, with the bytes in text[0..size); -1 when there was none. Aborts where nothing may follow and
 * the text may not end either: a finished grammar has no such place. */
static long grammar_walk(mr_matcher *m, uint64_t seed, char *text, size_t size) {
    mr_match_state s = mr_matcher_start(m);
    long ended = mr_matcher_may_end(m, s) ? 0 : -1;
    for (size_t n = 0; n < size; n++) {
        uint8_t bytes[256];
        int n_bytes = 0;
        for (int c = 0; c < 256; c++) {
            if (mr_matcher_byte(m, s, (uint8_t)c) >= 0) bytes[n_bytes++] = (uint8_t)c;
        }
        if (mr_matcher_failed(m)) return ended;
        if (n_bytes == 0) {
            if (ended != (long)n) abort();
            return ended;
        }
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        text[n] = (char)bytes[(seed >> 33) % (uint64_t)n_bytes];
        s = mr_matcher_byte(m, s, (uint8_t)text[n]);
        if (mr_matcher_may_end(m, s)) ended = (long)n + 1;
    }
    return ended;
}

/* The text as JSON; aborts when it is none. */
static json_t *grammar_walk_json(const char *text, long len) {
    json_t *value = json_loadb(text, (size_t)len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL) abort();
    return value;
}

#endif
