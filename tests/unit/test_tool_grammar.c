/* floors: text */
/* The grammar of each family's calls takes what the family writes, and nothing that names no tool or breaks a schema.
 */
#include "text/tool_grammar.h"

#include "base/buf.h"
#include "base/file.h"
#include "model/gguf.h"
#include "text/grammar_match.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MODEL MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf"

static const char TOOLS[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"add\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}},\"required\":[\"a\",\"b\"],"
    "\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"say\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"text\":{\"type\":\"string\"},\"mood\":{\"type\":\"string\",\"enum\":[\"glad\",\"sad\"]},"
    "\"loud\":{\"type\":\"boolean\"}},\"required\":[\"text\"],\"additionalProperties\":false}}}]";

static mr_gguf *gguf;
static mr_tokenizer *tokenizer;
static mr_mask_vocab *vocab;
static json_t *tools;

static int set_up(void **state) {
    (void)state;
    const char *path = MODEL;
    mr_error err = {0};
    if (!mr_path_is_file(MODEL)) return 0;
    if (mr_gguf_open(&gguf, &path, 1, &err) != MR_OK || mr_tokenizer_from_gguf(&tokenizer, gguf, &err) != MR_OK)
        return -1;
    vocab = mr_mask_vocab_new(tokenizer);
    tools = json_loads(TOOLS, 0, NULL);
    return vocab != NULL && tools != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    json_decref(tools);
    mr_mask_vocab_free(vocab);
    mr_tokenizer_free(tokenizer);
    mr_gguf_close(gguf);
    return 0;
}

static mr_matcher *matcher_of(const mr_tool_format *format, mr_tool_grammar_start start, const char *named,
                              bool parallel) {
    mr_tool_grammar_options options = {.format = format,
                                       .tokenizer = tokenizer,
                                       .vocab = vocab,
                                       .tools = tools,
                                       .named = named,
                                       .parallel = parallel,
                                       .start = start};
    mr_grammar *grammar = mr_grammar_new();
    mr_error err = {0};
    mr_grammar_skip(grammar, mr_tool_grammar_calls(grammar, mr_grammar_entry(grammar, 0), &options),
                    mr_grammar_exit(grammar, 0));
    if (mr_grammar_finish(grammar, &err) != MR_OK) fail_msg("%s: %s", format->name, err.text);
    return mr_matcher_new(grammar);
}

/* Whether the grammar takes the text; texts of special tokens are those tokens. */
static bool takes(mr_matcher *matcher, const char *text) {
    mr_tokens tokens = {0};
    mr_error err = {0};
    mr_match_state state = mr_matcher_start(matcher);
    assert_int_equal(mr_tokenizer_encode(tokenizer, text, strlen(text), MR_ENCODE_SPECIAL_TEXT, &tokens, &err), MR_OK);
    for (size_t i = 0; i < tokens.n; i++) {
        size_t len;
        const char *piece = mr_tokenizer_piece(tokenizer, tokens.ids[i], &len);
        bool special = mr_tokenizer_find_special(tokenizer, piece, len) == tokens.ids[i];
        if (special) state = mr_matcher_token(matcher, state, tokens.ids[i]);
        for (size_t k = 0; !special && k < len; k++) state = mr_matcher_byte(matcher, state, (uint8_t)piece[k]);
    }
    mr_tokens_free(&tokens);
    return state != MR_MATCH_DEAD && mr_matcher_may_end(matcher, state);
}

/* Calls as JSON (' stands for "), written as the format does. */
static void write_calls(const mr_tool_format *format, const char *calls, mr_buf *text) {
    char quoted[1024];
    strcpy(quoted, calls);
    for (char *p = quoted; *p != '\0'; p++) *p = *p == '\'' ? '"' : *p;
    json_t *list = json_loads(quoted, 0, NULL);
    assert_non_null(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char id[MR_TOOL_ID_MAX];
        json_t *call = json_array_get(list, i);
        mr_tool_new_id(format, json_string_value(json_object_get(call, "name")), i, id);
        json_object_set_new(call, "id", json_string(id));
    }
    mr_buf_clear(text);
    assert_true(mr_tool_format_write(format, list, 0, text));
    json_decref(list);
}

#define ADD "{'name':'add','arguments':{'a':1,'b':-20}}"
#define SAY "{'name':'say','arguments':{'text':'Hi </x> there, 5 < 6','mood':'sad','loud':true}}"
#define SAY_LESS "{'name':'say','arguments':{'text':'Hi'}}"

static void test_each_family(void **state) {
    (void)state;
    if (vocab == NULL) skip();
    size_t n_held = 0;
    for (size_t i = 0; mr_tool_format_at(i) != NULL; i++) {
        const mr_tool_format *format = mr_tool_format_at(i);
        if (!mr_tool_grammar_possible(format, MR_TOOL_FROM_OPEN)) continue;
        n_held++;
        mr_matcher *matcher = matcher_of(format, MR_TOOL_FROM_OPEN, NULL, true);
        static const char *const GOOD[] = {"[" ADD "]", "[" SAY "]", "[" SAY_LESS "]", "[" ADD "," SAY_LESS "]"};
        static const char *const BAD[] = {"[{'name':'adds','arguments':{'a':1,'b':2}}]",
                                          "[{'name':'add','arguments':{'a':1}}]",
                                          "[{'name':'add','arguments':{'a':1,'b':'x'}}]",
                                          "[{'name':'say','arguments':{'text':'x','mood':'mad'}}]", "[]"};
        mr_buf text = {0};
        for (size_t k = 0; k < sizeof GOOD / sizeof *GOOD; k++) {
            if (k == 3 && !format->parallel) continue;
            write_calls(format, GOOD[k], &text);
            if (!takes(matcher, text.data)) fail_msg("%s does not take: %s", format->name, text.data);
        }
        for (size_t k = 0; k < sizeof BAD / sizeof *BAD; k++) {
            write_calls(format, BAD[k], &text);
            if (takes(matcher, text.data)) fail_msg("%s takes: %s", format->name, text.data);
        }
        mr_matcher_free(matcher);
        mr_buf_free(&text);
    }
    assert_true(n_held >= 15);
}

static void test_behind_the_mark(void **state) {
    (void)state;
    if (vocab == NULL) skip();
    size_t n_held = 0;
    for (size_t i = 0; mr_tool_format_at(i) != NULL; i++) {
        const mr_tool_format *format = mr_tool_format_at(i);
        if (!mr_tool_grammar_possible(format, MR_TOOL_FROM_MARK)) continue;
        n_held++;
        mr_matcher *matcher = matcher_of(format, MR_TOOL_FROM_MARK, NULL, true);
        mr_buf text = {0};
        write_calls(format, "[" ADD "]", &text);
        size_t n_mark = strlen(format->open[0]);
        if (!takes(matcher, text.data + n_mark)) fail_msg("%s does not take: %s", format->name, text.data);
        /* Marks that are neither ASCII nor tokens of this vocabulary can't be told from text. */
        bool told = (unsigned char)format->open[0][1] < 0x80;
        if (format->parallel && told) {
            /* Text behind it, and calls behind that. */
            mr_buf_puts(&text, " And then <b>:\n");
            if (!takes(matcher, text.data + n_mark)) fail_msg("%s does not take: %s", format->name, text.data);
            mr_buf more = {0};
            write_calls(format, "[" SAY "]", &more);
            mr_buf_puts(&text, more.data);
            if (!takes(matcher, text.data + n_mark)) fail_msg("%s does not take: %s", format->name, text.data);
            mr_buf_puts(&text, format->open[0]);
            if (takes(matcher, text.data + n_mark)) fail_msg("%s takes: %s", format->name, text.data);
            mr_buf_free(&more);
        }
        mr_matcher_free(matcher);
        mr_buf_free(&text);
    }
    assert_true(n_held >= 8);
}

static void test_forced(void **state) {
    (void)state;
    if (vocab == NULL) skip();
    const mr_tool_format *hermes = mr_tool_format_find("hermes");
    mr_matcher *named = matcher_of(hermes, MR_TOOL_FROM_ARGUMENTS, "add", false);
    assert_true(takes(named, " {\"a\": 1, \"b\": 2}}\n</tool_call>"));
    assert_true(takes(named, "{\"a\": 1, \"b\": 2}}\n</tool_call>"));
    assert_false(takes(named, " {\"text\": \"x\"}}\n</tool_call>"));
    assert_false(takes(named, " {\"a\": 1, \"b\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": "
                              "{\"a\": 1, \"b\": 2}}\n</tool_call>"));
    mr_matcher_free(named);
    named = matcher_of(hermes, MR_TOOL_FROM_ARGUMENTS, "add", true);
    assert_true(takes(named, " {\"a\": 1, \"b\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": "
                             "{\"a\": 1, \"b\": 2}}\n</tool_call>"));
    assert_false(takes(named, " {\"a\": 1, \"b\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"say\", \"arguments\": "
                              "{\"text\": \"x\"}}\n</tool_call>"));
    mr_matcher_free(named);
    mr_matcher *any = matcher_of(hermes, MR_TOOL_FROM_NAME, NULL, false);
    assert_true(takes(any, "say\", \"arguments\": {\"text\": \"x\"}}\n</tool_call>"));
    assert_false(takes(any, "sing\", \"arguments\": {\"text\": \"x\"}}\n</tool_call>"));
    mr_matcher_free(any);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_family), cmocka_unit_test(test_behind_the_mark),
                                       cmocka_unit_test(test_forced)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
