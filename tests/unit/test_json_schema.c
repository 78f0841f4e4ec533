/* floors: text */
/* JSON Schemas as grammars: which texts they let through, and which schemas they refuse. */
#include "base/buf.h"
#include "text/grammar_match.h"
#include "text/json_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* NULL and err when the schema is refused. */
static mr_matcher *compile(const char *text, mr_error *err) {
    json_t *schema;
    if (mr_json_schema_parse(text, &schema, err) != MR_OK) return NULL;
    mr_grammar *g = mr_grammar_new();
    assert_non_null(g);
    mr_grammar_skip(g, mr_json_schema_value(g, mr_grammar_entry(g, 0), schema), mr_grammar_exit(g, 0));
    json_decref(schema);
    if (mr_grammar_finish(g, err) != MR_OK) {
        mr_grammar_free(g);
        return NULL;
    }
    return mr_matcher_new(g);
}

static bool accepts(mr_matcher *m, const char *text) {
    mr_match_state s = mr_matcher_start(m);
    for (; *text != '\0' && s >= 0; text++) s = mr_matcher_byte(m, s, (uint8_t)*text);
    assert_false(mr_matcher_failed(m));
    return mr_matcher_may_end(m, s);
}

typedef struct schema_case {
    const char *schema;
    const char *good[8], *bad[8];
} schema_case;

static void check_cases(const schema_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        mr_error err = {0};
        mr_matcher *m = compile(cases[i].schema, &err);
        if (m == NULL) fail_msg("%s: %s", cases[i].schema, err.text);
        for (int k = 0; k < 8 && cases[i].good[k] != NULL; k++) {
            if (!accepts(m, cases[i].good[k])) fail_msg("%s does not take %s", cases[i].schema, cases[i].good[k]);
        }
        for (int k = 0; k < 8 && cases[i].bad[k] != NULL; k++) {
            if (accepts(m, cases[i].bad[k])) fail_msg("%s takes %s", cases[i].schema, cases[i].bad[k]);
        }
        mr_matcher_free(m);
    }
}

static void test_values(void **state) {
    (void)state;
    static const schema_case cases[] = {
        {"true",
         {"null", "true", "-1.5e10", "\"\"", "[]", "{}", "[1, {\"a\": [null]}]", "{\n  \"a\": 1\n}"},
         {"", "nul", "01", "1.", "[1,]", "{\"a\"}", "\"\n\"", "\"\\x\""}},
        {"{\"type\":\"null\"}", {"null"}, {"0", "nulll", "\"null\""}},
        {"{\"type\":[\"boolean\",\"integer\"]}", {"true", "false", "0", "-12"}, {"1.5", "null", "-", "00"}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xC3\xA9\xE6\x97\xA5\"", "\"\\n\\\"a\"", "\"\xF0\x9F\x98\x80z\""},
         {"\"a\"", "\"abcd\"", "\"\xC3\xA9\""}},
        {"{\"type\":\"string\",\"pattern\":\"^[a-c]+\\\\d{2}$\"}",
         {"\"a12\"", "\"abcabc00\""},
         {"\"12\"", "\"a1\"", "\"a123\"", "\"d12\""}},
        {"{\"type\":\"string\",\"pattern\":\"b|^x$\"}", {"\"abc\"", "\"x\"", "\"b\""}, {"\"xx\"", "\"\"", "\"acd\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\"\\\\\\\\\\t$\"}", {"\"\\\"\\\\\\t\""}, {"\"\"\"", "\"\\\"\\\\\t\""}},
        {"{\"type\":\"string\",\"pattern\":\"^(ab?){2,3}$\",\"maxLength\":4}",
         {"\"aa\"", "\"abab\"", "\"aaba\""},
         {"\"a\"", "\"ababa\"", "\"ababab\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-28\"", "\"1999-12-31\""},
         {"\"2024-02-30\"", "\"2024-13-01\"", "\"24-01-01\""}},
        {"{\"type\":\"string\",\"format\":\"ipv4\"}",
         {"\"127.0.0.1\"", "\"255.255.255.255\""},
         {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
        {"{\"enum\":[1,\"a\",null,{\"b\":[2]}]}", {"1", "\"a\"", "null", "{\"b\":[2]}"}, {"2", "\"b\"", "{}"}},
        {"{\"type\":\"string\",\"enum\":[1,\"a\"]}", {"\"a\""}, {"1"}},
        {"{\"const\":\"x y\"}", {"\"x y\""}, {"\"x\"", "x y"}},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":123}",
         {"-5", "-1", "0", "9", "10", "99", "123"},
         {"-6", "124", "1000", "-10", "1.0", "05"}},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":9}", {"10", "11", "20", "999", "1000"}, {"9", "1", "-10", "0"}},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}", {"0", "1", "0.5", "0.999"}, {"1.1", "-0.1", "2", "10"}},
        {"{\"type\":\"number\",\"minimum\":0.25,\"maximum\":0.5}", {"0.3", "0.4", "0.5"}, {"0", "0.2", "0.6", "1"}},
        {"{\"type\":\"number\",\"exclusiveMaximum\":-2}", {"-3", "-3.5", "-100"}, {"-2", "-1", "0", "-2.0"}},
        {"{\"type\":\"integer\",\"multipleOf\":7}",
         {"0", "7", "-14", "700", "777777777777777"},
         {"1", "8", "-", "07", "7777777777777777"}},
        {"{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":1,\"maximum\":20}", {"5", "10", "20"}, {"0", "25", "7"}},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

static void test_structures(void **state) {
    (void)state;
    static const schema_case cases[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}},\"required\":["
         "\"a\"]}",
         {"{\"a\":1}", "{\"a\": 1, \"b\": \"x\"}", "{\n  \"a\": 1\n}"},
         {"{}", "{\"b\":\"x\"}", "{\"a\":1,}", "{\"a\":1,\"c\":2}", "{\"b\":\"x\",\"a\":1}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"ab\":{}},\"additionalProperties\":{"
         "\"type\":\"boolean\"}}",
         {"{}", "{\"a\":1}", "{\"x\":true}", "{\"a\":1,\"abc\":false,\"b\":true}", "{\"ab\":null}"},
         {"{\"a\":true}", "{\"x\":1}", "{\"x\":true,\"a\":1}", "{\"\\u0061\":true}"}},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", {"{}", "{\"a\":[1]}"}, {"{\"b\":1}", "[]"}},
        {"{\"type\":\"object\"}", {"{}", "{\"x\":{\"y\":1}}"}, {"[]", "{x:1}"}},
        {"{\"type\":\"object\",\"required\":[\"k\"]}", {"{\"k\":1}", "{\"k\": null}"}, {"{}"}},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1}",
         {"{\"a\":1}", "{\"a\":1,\"b\":2}"},
         {"{}", "{\"a\":\"\"}"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
         {"[1]", "[1, 2, 3]"},
         {"[]", "[1,2,3,4]", "[\"a\"]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"items\":false}",
         {"[]", "[\"a\"]", "[\"a\",1]"},
         {"[1]", "[\"a\",1,2]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"null\"},\"minItems\":2}",
         {"[\"a\",null]", "[\"a\",null,null]"},
         {"[\"a\"]", "[null,null]"}},
        {"{\"type\":\"array\"}", {"[]", "[1,\"a\",[]]"}, {"{}"}},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}",
         {"\"a\"", "[]", "[[\"x\"],\"y\"]"},
         {"1", "[1]"}},
        {"{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{"
         "\"$ref\":\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}},\"$ref\":\"#/$defs/node\"}",
         {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
         {"{\"v\":1}", "{\"v\":1,\"next\":1}"}},
        {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{"
         "\"properties\":{\"b\":{\"type\":\"string\"}},\"required\":[\"b\"]}]}",
         {"{\"a\":1,\"b\":\"x\"}"},
         {"{\"a\":1}", "{\"b\":\"x\"}"}},
        {"{\"allOf\":[{\"minimum\":3},{\"type\":\"integer\",\"maximum\":5}],\"minimum\":2}", {"3", "5"}, {"2", "6"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},"
         "\"required\":[\"k\",\"x\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":["
         "\"k\"]}]}",
         {"{\"k\":\"a\",\"x\":1}", "{\"k\":\"b\"}"},
         {"{\"k\":\"a\"}", "{\"k\":\"c\"}"}},
        {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", {"\"\"", "null"}, {"1"}},
        {"{\"type\":\"string\",\"nullable\":true}", {"\"a\"", "null"}, {"1"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":{}}}", {"{}", "{\"b\":1}"}, {"{\"a\":1}"}},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

static void test_refusals(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{", "line 1"},
        {"[]", "an object, true or false"},
        {"{\"not\":{}}", "at #: not is not supported"},
        {"{\"properties\":{\"a\":{\"if\":{}}}}", "at #/a: if is not supported"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems"},
        {"{\"patternProperties\":{\"a\":{}}}", "patternProperties"},
        {"{\"type\":\"strange\"}", "names no type"},
        {"{\"$ref\":\"#/nowhere\"}", "leads to no schema"},
        {"{\"$ref\":\"http://x/y\"}", "inside the schema"},
        {"{\"$ref\":\"#\"}", "refers to itself"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "refers to itself"},
        {"false", "no text can have the form"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
         "no text can have the form"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "may hold at the same time"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "look-around"},
        {"{\"type\":\"string\",\"pattern\":\"(a\"}", "a ) is missing"},
        {"{\"type\":\"string\",\"pattern\":\"\\\\bx\"}", "word boundaries"},
        {"{\"type\":\"string\",\"pattern\":\"(a{1000}){1000}\"}", "too large"},
        {"{\"type\":\"string\",\"maxLength\":1000000}", "too large"},
        {"{\"type\":\"array\",\"minItems\":100000}", "minItems"},
        {"{\"type\":\"string\",\"minLength\":-1}", "minLength"},
        {"{\"type\":\"number\",\"multipleOf\":0.01}", "multipleOf"},
        {"{\"allOf\":[{\"prefixItems\":[{}]}],\"items\":{\"minimum\":5}}", "items"},
        {"{\"minProperties\":3,\"type\":\"object\"}", "minProperties"},
        {"{\"allOf\":[{\"additionalProperties\":false,\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}]}",
         "additionalProperties"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_error err = {0};
        mr_matcher *m = compile(cases[i][0], &err);
        if (m != NULL || strstr(err.text, cases[i][1]) == NULL) fail_msg("%s: \"%s\"", cases[i][0], err.text);
    }
}

/* Deep nesting and recursion cost no more than their text. */
static void test_depth(void **state) {
    (void)state;
    mr_error err = {0};
    mr_matcher *m = compile("true", &err);
    mr_match_state s = mr_matcher_start(m);
    for (int i = 0; i < 3000; i++) s = mr_matcher_byte(m, s, '[');
    for (int i = 0; i < 3000; i++) {
        assert_false(mr_matcher_may_end(m, s));
        s = mr_matcher_byte(m, s, ']');
    }
    assert_true(mr_matcher_may_end(m, s));
    s = mr_matcher_shrink(m, mr_matcher_byte(m, mr_matcher_byte(m, mr_matcher_start(m), '{'), '"'));
    for (const char *rest = "k\": [1, 2]}"; *rest != '\0'; rest++) s = mr_matcher_byte(m, s, (uint8_t)*rest);
    assert_true(mr_matcher_may_end(m, s));
    mr_matcher_free(m);
    mr_buf deep = {0};
    for (int i = 0; i < 100; i++) mr_buf_puts(&deep, "{\"items\":");
    mr_buf_puts(&deep, "{}");
    for (int i = 0; i < 100; i++) mr_buf_puts(&deep, "}");
    assert_null(compile(mr_buf_cstr(&deep), &err));
    assert_non_null(strstr(err.text, "nested too deeply"));
    mr_buf_free(&deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_structures),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
