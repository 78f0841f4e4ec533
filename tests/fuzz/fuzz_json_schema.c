/* JSON Schemas: the input is a schema, a byte 0xFF, and a text that is read by the schema's grammar. Whatever a grammar
 * lets pass is JSON; what can't be held is an error with a sentence. */
#include "text/grammar_match.h"
#include "text/json_schema.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 1 << 14 };

/* The finished grammar of a schema; NULL where it can't be held. */
static mr_grammar *compile(const char *text) {
    mr_error err = {0};
    json_t *schema;
    if (mr_json_schema_parse(text, &schema, &err) != MR_OK) {
        if (schema != NULL || err.text[0] == '\0') abort();
        return NULL;
    }
    mr_grammar *g = mr_grammar_new();
    if (g == NULL) abort();
    mr_grammar_skip(g, mr_json_schema_value(g, mr_grammar_entry(g, 0), schema), mr_grammar_exit(g, 0));
    json_decref(schema);
    if (mr_grammar_finish(g, &err) == MR_OK) return g;
    if (err.text[0] == '\0') abort();
    mr_grammar_free(g);
    return NULL;
}

static void read_text(mr_matcher *m, const char *text, size_t len) {
    mr_match_state s = mr_matcher_start(m);
    for (size_t i = 0; i < len && s >= 0; i++) {
        s = mr_matcher_byte(m, s, (uint8_t)text[i]);
        if (mr_matcher_n_states(m) > 200) s = mr_matcher_shrink(m, s);
    }
    if (!mr_matcher_may_end(m, s)) return;
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL) abort();
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > MAX_INPUT) return 0;
    const uint8_t *border = size > 0 ? memchr(data, 0xFF, size) : NULL;
    size_t n_schema = border != NULL ? (size_t)(border - data) : size;
    char *schema = malloc(n_schema + 1);
    if (schema == NULL) abort();
    if (n_schema > 0) memcpy(schema, data, n_schema);
    schema[n_schema] = '\0';
    mr_grammar *grammar = compile(schema);
    free(schema);
    mr_matcher *m = grammar != NULL ? mr_matcher_new(grammar) : NULL;
    if (m != NULL && border != NULL) read_text(m, (const char *)border + 1, size - n_schema - 1);
    mr_matcher_free(m);
    return 0;
}
