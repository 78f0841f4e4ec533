/* floors: text */
/* The Jinja engine against Python's results for the cases of tests/conformance/templates, and its own bounds. */
#include "text/jinja.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* 2024-07-04 12:34:56 UTC, the clock of the golden files. */
enum { GOLDEN_NOW = 1720096496 };

static json_t *load(const char *name) {
    char path[4096];
    json_error_t problem;
    snprintf(path, sizeof path, "%s/tests/conformance/templates/%s", MR_SOURCE_DIR, name);
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &problem);
    if (json == NULL) fail_msg("%s: %s", path, problem.text);
    return json;
}

static mr_status render(const char *source, size_t len, json_t *vars, const mr_jinja_limits *limits, mr_buf *out,
                        mr_error *err) {
    mr_jinja *jinja;
    mr_status status = mr_jinja_parse(&jinja, source, len, err);
    if (status != MR_OK) return status;
    status = mr_jinja_render(jinja, vars, limits, out, err);
    mr_jinja_free(jinja);
    return status;
}

/* Errors whose text is Jinja's or the template's own, which ours must contain; the texts of Python's errors differ. */
static int text_is_compared(const char *kind) {
    static const char *const kinds[] = {"TemplateError",          "UndefinedError",       "TemplateSyntaxError",
                                        "TemplateAssertionError", "TemplateRuntimeError", "SecurityError",
                                        "FilterArgumentError"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kind, kinds[i]) == 0) return 1;
    }
    return 0;
}

/* Whether the result is the golden one; says so when it isn't. */
static int agrees(const char *source, json_t *golden, mr_status status, const mr_buf *out, const mr_error *err) {
    json_t *text = json_object_get(golden, "o");
    if (text != NULL) {
        if (status == MR_OK && out->len == json_string_length(text) &&
            memcmp(mr_buf_cstr(out), json_string_value(text), out->len) == 0) {
            return 1;
        }
        print_error("%s\n  expected: %s\n  got:      %s\n", source, json_string_value(text),
                    status == MR_OK ? mr_buf_cstr(out) : err->text);
        return 0;
    }
    const char *kind = json_string_value(json_object_get(golden, "e")),
               *message = json_string_value(json_object_get(golden, "m"));
    if (status != MR_OK && (!text_is_compared(kind) || strstr(err->text, message) != NULL)) return 1;
    print_error("%s\n  expected: %s: %s\n  got:      %s\n", source, kind, message,
                status == MR_OK ? mr_buf_cstr(out) : err->text);
    return 0;
}

static void test_cases(void **state) {
    (void)state;
    json_t *file = load("cases.json"), *golden = load("golden_cases.json");
    json_t *defaults = json_object_get(file, "vars"), *cases = json_object_get(file, "cases");
    mr_jinja_limits limits = {.now_unix = GOLDEN_NOW};
    size_t wrong = 0, n = json_array_size(cases);
    assert_true(n >= 300);
    assert_int_equal(n, json_array_size(golden));
    for (size_t i = 0; i < n; i++) {
        json_t *source = json_object_get(json_array_get(cases, i), "t");
        json_t *vars = json_copy(defaults);
        json_object_update(vars, json_object_get(json_array_get(cases, i), "v"));
        mr_buf out = {0};
        mr_error err = {0};
        mr_status status = render(json_string_value(source), json_string_length(source), vars, &limits, &out, &err);
        wrong += !agrees(json_string_value(source), json_array_get(golden, i), status, &out, &err);
        mr_buf_free(&out);
        json_decref(vars);
    }
    json_decref(file);
    json_decref(golden);
    assert_int_equal(wrong, 0);
}

static mr_status simple(const char *source, const mr_jinja_limits *limits, mr_buf *out, mr_error *err) {
    json_t *vars = json_object();
    mr_status status = render(source, strlen(source), vars, limits, out, err);
    json_decref(vars);
    return status;
}

static void expect_status(const char *source, const mr_jinja_limits *limits, mr_status expected, const char *text) {
    mr_buf out = {0};
    mr_error err = {0};
    mr_buf_puts(&out, "kept");
    mr_status status = simple(source, limits, &out, &err);
    if (status != expected || strstr(err.text, text) == NULL) fail_msg("%s: status %d, %s", source, status, err.text);
    assert_string_equal(mr_buf_cstr(&out), "kept");
    mr_buf_free(&out);
}

static void test_positions(void **state) {
    (void)state;
    expect_status("a\n  {{ foo bar }}", NULL, MR_ERR_INVALID, "chat template line 2, column 10: expected token");
    expect_status("\xC3\xA9{{ x.y.z }}", NULL, MR_ERR_INVALID, "chat template line 1, column ");
    expect_status("\n\n{% if a %}", NULL, MR_ERR_INVALID, "line 3");
    expect_status("{{ 1 +\n\n 'a' }}", NULL, MR_ERR_INVALID, "line 1, column 4");
    expect_status("\n {{ raise_exception('no') }}", NULL, MR_ERR_INVALID, "(line 2, column 20): no");
}

static void test_limits(void **state) {
    (void)state;
    const mr_jinja_limits small = {.max_steps = 5000, .max_output = 1000, .max_memory = 1 << 20, .max_depth = 20};
    expect_status("{% for a in range(10000) %}{% endfor %}", &small, MR_ERR_LIMIT, "too many steps");
    expect_status("{% for a in range(100) %}aaaaaaaaaaaaaaaaaaaa{% endfor %}", &small, MR_ERR_LIMIT, "output");
    expect_status("{% set a = 'x' * 10000000 %}", &small, MR_ERR_LIMIT, "memory");
    expect_status("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &small, MR_ERR_LIMIT, "recursion");
    expect_status("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", NULL, MR_ERR_LIMIT, "recursion");
    expect_status("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", NULL, MR_ERR_LIMIT, "recursion");
    expect_status("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", NULL, MR_ERR_LIMIT, "recursion");
    expect_status("{{ 10 ** (10 ** 10) }}", NULL, MR_ERR_LIMIT, "");
    expect_status("{{ '%99999999d' % 1 }}", NULL, MR_ERR_LIMIT, "");
    expect_status("{{ [1] * 1000000000 }}", NULL, MR_ERR_LIMIT, "memory");
    expect_status("{{ 'ab'.replace('', 'x' * 100000000) }}", NULL, MR_ERR_LIMIT, "");
    expect_status("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", NULL, MR_ERR_LIMIT,
                  "steps");
    /* A string that grows by appending is linear in memory. */
    mr_buf out = {0};
    mr_error err = {0};
    const char *append = "{% set ns = namespace(s='') %}{% for i in range(20000) %}{% set ns.s = ns.s + 'abcdefghij' %}"
                         "{% endfor %}{{ ns.s|length }}";
    assert_int_equal(simple(append, NULL, &out, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&out), "200000");
    mr_buf_free(&out);
}

static void expect_nested_refused(const char *open, const char *close, size_t n) {
    mr_buf source = {0};
    mr_error err = {0};
    mr_jinja *jinja;
    for (size_t i = 0; i < n; i++) mr_buf_puts(&source, open);
    for (size_t i = 0; i < n; i++) mr_buf_puts(&source, close);
    mr_status status = mr_jinja_parse(&jinja, mr_buf_cstr(&source), source.len, &err);
    assert_true(status == MR_ERR_LIMIT || status == MR_ERR_INVALID);
    assert_null(jinja);
    mr_buf_free(&source);
}

static void test_deep_nesting(void **state) {
    (void)state;
    expect_nested_refused("{% if a %}", "{% endif %}", 100000);
    expect_nested_refused("{{ (", ") }}", 10);
    mr_buf source = {0}, out = {0};
    mr_error err = {0};
    mr_buf_puts(&source, "{{ 1");
    for (int i = 0; i < 100000; i++) mr_buf_puts(&source, i % 2 ? "+1" : "|abs");
    mr_buf_puts(&source, " }}");
    assert_int_equal(simple(mr_buf_cstr(&source), NULL, &out, &err), MR_ERR_LIMIT);
    mr_buf_clear(&source);
    for (int i = 0; i < 100000; i++) mr_buf_puts(&source, i == 0 ? "{{ not" : " not");
    assert_int_equal(simple(mr_buf_cstr(&source), NULL, &out, &err), MR_ERR_LIMIT);
    mr_buf_clear(&source);
    mr_buf_puts(&source, "{{ ");
    for (int i = 0; i < 100000; i++) mr_buf_puts(&source, "[");
    assert_int_not_equal(simple(mr_buf_cstr(&source), NULL, &out, &err), MR_OK);
    mr_buf_free(&source);
    mr_buf_free(&out);
}

/* Memory that runs out at any point of a render is an error. */
static void test_little_memory(void **state) {
    (void)state;
    const char *source =
        "{% macro m(a) %}{{ a|upper }}{% endmacro %}{% for x in ['a','b'] %}{{ m(x) ~ loop.index }}{% endfor %}"
        "{{ {'a': [1, 2]}|tojson }}{{ 'x-y'.split('-')|join('+') }}";
    int ok = 0, limited = 0;
    for (size_t bytes = 64; bytes < 16384; bytes += 64) {
        mr_jinja_limits limits = {.max_memory = bytes};
        mr_buf out = {0};
        mr_error err = {0};
        mr_status status = simple(source, &limits, &out, &err);
        if (status == MR_OK) {
            assert_string_equal(mr_buf_cstr(&out), "A1B2{\"a\": [1, 2]}x+y");
            ok++;
        } else {
            assert_int_equal(status, MR_ERR_LIMIT);
            limited++;
        }
        mr_buf_free(&out);
    }
    assert_true(ok > 0 && limited > 0);
}

static void test_invalid_utf8(void **state) {
    (void)state;
    mr_jinja *jinja;
    mr_error err = {0};
    assert_int_equal(mr_jinja_parse(&jinja, "a\xFFz", 3, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "UTF-8"));
    assert_int_equal(mr_jinja_parse(&jinja, "", 0, &err), MR_OK);
    mr_jinja_free(jinja);
    mr_jinja_free(NULL);
}

/* One parsed template gives the same text every time. */
static void test_rendered_twice(void **state) {
    (void)state;
    const char *source = "{% set c = cycler(1, 2) %}{{ c.next() }}{{ [3, 4]|random }}{{ x|default('-') }}";
    mr_jinja *jinja;
    mr_error err = {0};
    assert_int_equal(mr_jinja_parse(&jinja, source, strlen(source), &err), MR_OK);
    json_t *vars = json_pack("{s:i}", "x", 5), *none = json_object();
    mr_buf a = {0}, b = {0}, c = {0};
    assert_int_equal(mr_jinja_render(jinja, vars, NULL, &a, &err), MR_OK);
    assert_int_equal(mr_jinja_render(jinja, none, NULL, &b, &err), MR_OK);
    assert_int_equal(mr_jinja_render(jinja, vars, NULL, &c, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&a), mr_buf_cstr(&c));
    assert_string_not_equal(mr_buf_cstr(&a), mr_buf_cstr(&b));
    mr_buf_free(&a);
    mr_buf_free(&b);
    mr_buf_free(&c);
    json_decref(vars);
    json_decref(none);
    mr_jinja_free(jinja);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),          cmocka_unit_test(test_positions),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_little_memory),  cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_rendered_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
