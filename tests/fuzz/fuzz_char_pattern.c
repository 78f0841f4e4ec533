/* Patterns of strings: the input is a byte of bounds and a pattern. It is refused with a sentence, or becomes a grammar
 * whose texts are JSON strings of the length asked for. */
#include "grammar_walk.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "text/char_pattern.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static mr_matcher *compile(const char *pattern, mr_length_bounds bounds, mr_error *err) {
    mr_grammar *g = mr_grammar_new();
    mr_grammar_node in = mr_grammar_text(g, mr_grammar_entry(g, 0), "\"", 1);
    mr_grammar_node out = mr_grammar_string(g, in, pattern, bounds);
    mr_grammar_byte(g, out, '"', '"', mr_grammar_exit(g, 0));
    if (mr_grammar_finish(g, err) == MR_OK) return mr_matcher_new(g);
    mr_grammar_free(g);
    return NULL;
}

static void check_string(const char *text, long len, mr_length_bounds bounds) {
    json_t *value = grammar_walk_json(text, len);
    if (!json_is_string(value)) abort();
    const char *string = json_string_value(value);
    int64_t n = 0;
    for (size_t i = 0; i < json_string_length(value); i++) n += ((uint8_t)string[i] & 0xC0) != 0x80;
    if (n < bounds.min || (bounds.max >= 0 && n > bounds.max)) abort();
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1024 || !mr_utf8_valid((const char *)data + 1, size - 1)) return 0;
    mr_length_bounds bounds = {data[0] & 7, (data[0] & 0x80) != 0 ? -1 : (data[0] & 7) + (data[0] >> 3 & 15)};
    char pattern[1025], text[300];
    memcpy(pattern, data + 1, size - 1);
    pattern[size - 1] = '\0';
    mr_error err = {0};
    mr_matcher *m = compile(pattern, bounds, &err);
    if (m == NULL && err.text[0] == '\0') abort();
    for (uint64_t i = 0; m != NULL && i < 3; i++) {
        long len = grammar_walk(m, mr_hash(data, size, i), text, sizeof text);
        if (len >= 0) check_string(text, len, bounds);
    }
    mr_matcher_free(m);
    return 0;
}
