/* floors: service */
/* Masks against each token tried by itself, and what may stand before an answer with a schema. */
#include "service/form.h"

#include "base/file.h"
#include "text/grammar_match.h"
#include "text/json_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf"

static mr_text_model *model;

static int set_up(void **state) {
    (void)state;
    static const char *const paths[] = {MODEL};
    mr_text_model_options options = {.paths = paths, .n_paths = 1};
    mr_error err = {0};
    if (!mr_path_is_file(MODEL)) return 0;
    return mr_text_model_load(&model, &options, &err) == MR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    mr_text_model_free(model);
    return 0;
}

static mr_grammar *compile(const char *text) {
    mr_error err = {0};
    json_t *schema;
    mr_grammar *g = mr_grammar_new();
    assert_int_equal(mr_json_schema_parse(text, &schema, &err), MR_OK);
    mr_grammar_skip(g, mr_json_schema_value(g, mr_grammar_entry(g, 0), schema), mr_grammar_exit(g, 0));
    json_decref(schema);
    if (mr_grammar_finish(g, &err) != MR_OK) fail_msg("%s", err.text);
    return g;
}

static bool allows(const uint64_t *bits, mr_token id) {
    return bits[id / 64] >> (id % 64) & 1;
}

static mr_match_state behind(mr_matcher *m, mr_match_state s, mr_token id) {
    size_t len;
    const char *text = mr_tokenizer_piece(mr_text_model_tokenizer(model), id, &len);
    for (size_t i = 0; i < len && s >= 0; i++) s = mr_matcher_byte(m, s, (uint8_t)text[i]);
    return len > 0 ? s : MR_MATCH_DEAD;
}

/* Before each token of the answer, whether each token of the vocabulary is allowed as reading it says. */
static void check_masks(const char *schema, const char *answer) {
    const mr_tokenizer *t = mr_text_model_tokenizer(model);
    const mr_mask_vocab *vocab = mr_text_model_mask_vocab(model);
    mr_constraint *constraint = mr_constraint_new(vocab, compile(schema), NULL);
    mr_matcher *m = mr_matcher_new(compile(schema));
    mr_token n_vocab = (mr_token)mr_tokenizer_n_vocab(t);
    uint64_t *bits = calloc((size_t)n_vocab / 64 + 1, sizeof *bits);
    mr_tokens tokens = {0};
    mr_error err = {0};
    assert_int_equal(mr_tokenizer_encode(t, answer, strlen(answer), 0, &tokens, &err), MR_OK);
    mr_match_state s = mr_matcher_start(m);
    for (size_t i = 0; i <= tokens.n; i++) {
        assert_true(mr_constraint_mask(constraint, tokens.ids, i, bits));
        for (mr_token id = 0; id < n_vocab; id++) {
            if (mr_mask_vocab_apart(vocab, id) || mr_tokenizer_is_eog(t, id)) continue;
            if (allows(bits, id) != (behind(m, s, id) >= 0)) fail_msg("%s, %zu: token %d", schema, i, id);
        }
        if (i < tokens.n) s = behind(m, s, tokens.ids[i]);
        assert_true(s >= 0);
    }
    assert_true(mr_matcher_may_end(m, s));
    mr_tokens_free(&tokens);
    free(bits);
    mr_matcher_free(m);
    mr_constraint_free(constraint);
}

static void test_masks(void **state) {
    (void)state;
    if (model == NULL) skip();
    check_masks("{\"type\":\"string\",\"maxLength\":40}", "\"It was a fine day, and t\xC3\xA9 sea lay flat.\"");
    check_masks("{\"type\":\"string\",\"minLength\":24,\"maxLength\":60}", "\"Two bounds, and neither is near.\"");
    check_masks("{\"type\":\"string\",\"minLength\":20}", "\"Long enough by its minimum.\"");
    check_masks("{\"type\":\"array\",\"items\":{\"maxLength\":30,\"type\":\"string\"}}", "[\"one\", \"and another\"]");
    check_masks("{\"properties\":{\"a\":{\"pattern\":\"^[a-z ]+x$\",\"maxLength\":25},\"b\":{}}}",
                "{\"a\": \"all but the last is x\", \"b\": [1, \"y\"]}");
}

/* A pattern whose states multiply costs as much work as is allowed, and no more. */
static void test_allowed_work(void **state) {
    (void)state;
    static const char schema[] = "{\"type\":\"string\",\"pattern\":\"^(?:[a-m]?[g-z ]?[aeiou ]?){1000}x$\"}";
    static const char text[] = "\"a ba aab eae io ue";
    for (int bounded = 0; bounded < 2; bounded++) {
        mr_matcher *m = mr_matcher_new(compile(schema));
        mr_match_state s = mr_matcher_start(m);
        if (bounded) mr_matcher_allow(m, 20000);
        for (size_t i = 0; i < sizeof text - 1; i++) s = mr_matcher_byte(m, s, (uint8_t)text[i]);
        assert_int_equal(mr_matcher_failed(m), bounded);
        assert_int_equal(s < 0, bounded);
        mr_matcher_free(m);
    }
}

/* Whether the form lets the text through, token by token, and lets it end there. */
static bool passes(const mr_form *form, const char *text) {
    const mr_tokenizer *t = mr_text_model_tokenizer(model);
    mr_constraint *constraint;
    mr_tokens tokens = {0};
    mr_error err = {0};
    bool ok = true;
    uint64_t *bits = calloc(mr_tokenizer_n_vocab(t) / 64 + 1, sizeof *bits);
    assert_int_equal(mr_form_constraint(form, &constraint, &err), MR_OK);
    assert_int_equal(mr_tokenizer_encode(t, text, strlen(text), MR_ENCODE_SPECIAL_TEXT, &tokens, &err), MR_OK);
    for (size_t i = 0; i <= tokens.n && ok; i++) {
        ok = mr_constraint_mask(constraint, tokens.ids, i, bits) &&
             allows(bits, i < tokens.n ? tokens.ids[i] : mr_tokenizer_eos(t));
    }
    mr_tokens_free(&tokens);
    free(bits);
    mr_constraint_free(constraint);
    return ok;
}

static void test_thoughts(void **state) {
    (void)state;
    if (model == NULL) skip();
    const mr_reasoning_format *marks = mr_text_model_tools(model)->reasoning;
    const mr_tokenizer *t = mr_text_model_tokenizer(model);
    if (mr_tokenizer_find_special(t, marks->open, strlen(marks->open)) < 0) skip();
    json_t *schema = json_pack("{s:s}", "type", "boolean");
    mr_form form = {.model = model, .schema = schema};
    mr_buf thought = {0};
    mr_buf_puts(&thought, marks->open);
    mr_buf_puts(&thought, "\nIs it {true}?\n");
    mr_buf_puts(&thought, marks->close);
    mr_buf_puts(&thought, "\n\ntrue");
    assert_true(passes(&form, "true"));
    assert_false(passes(&form, mr_buf_cstr(&thought)));
    form.may_think = true;
    assert_true(passes(&form, "true"));
    assert_true(passes(&form, mr_buf_cstr(&thought)));
    mr_buf_puts(&thought, " yes");
    assert_false(passes(&form, mr_buf_cstr(&thought)));
    mr_buf_free(&thought);
    json_decref(schema);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_masks), cmocka_unit_test(test_allowed_work),
                                       cmocka_unit_test(test_thoughts)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
