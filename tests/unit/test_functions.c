/* floors: service */
/* The FunctionService client against a server in another process. */
#define _GNU_SOURCE
#include "service/functions.h"

#include "function_server.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static function_server server;
static mr_functions *functions;

static int start_server(void **state) {
    (void)state;
    if (!function_server_possible()) return 0;
    mr_error err = {0};
    setenv("AUTH_TOKEN", "sesame", 1);
    function_server_start(&server, 0, "--token", "sesame");
    return mr_functions_open(&functions, server.endpoint, 5, &err) == MR_OK ? 0 : -1;
}

static int stop_server(void **state) {
    (void)state;
    mr_functions_close(functions);
    function_server_free(&server);
    return 0;
}

static void need_server(void) {
    if (!function_server_possible()) skip();
}

static mr_functions_context context(void) {
    return (mr_functions_context){.timeout_sec = 20};
}

static mr_function_list find(const char *set) {
    mr_function_list list;
    mr_error err = {0};
    mr_functions_context c = context();
    mr_function_choice choice = {.set = set, .runners = true, .workers = true};
    assert_int_equal(mr_functions_find(functions, &choice, &c, &list, &err), MR_OK);
    return list;
}

static void test_names(void **state) {
    (void)state;
    need_server();
    mr_function_list list = find("all");
    static const char *const TOOLS[] = {
        "add", "get_weather", "text___upper", "text___lower", "odd___name___run", "odd___name___other", "odd___single"};
    for (size_t i = 0; i < sizeof TOOLS / sizeof *TOOLS; i++) {
        if (mr_function_list_find(&list, TOOLS[i]) == NULL) fail_msg("%s is not offered", TOOLS[i]);
    }
    assert_null(mr_function_list_find(&list, "text"));
    assert_null(mr_function_list_find(&list, "add___run"));
    const mr_function *add = mr_function_list_find(&list, "add");
    assert_false(add->is_worker);
    assert_string_equal(add->description, "Adds two whole numbers.");
    assert_int_equal(json_array_size(json_object_get(add->parameters, "required")), 2);
    const mr_function *weather = mr_function_list_find(&list, "get_weather");
    assert_true(weather->is_worker);
    assert_string_equal(weather->description, "Tells the weather of a city.");
    assert_string_equal(mr_function_list_find(&list, "text___lower")->description, "Changes a text.");
    assert_true(json_is_object(mr_function_list_find(&list, "broken_schema")->parameters));
    mr_function_list_free(&list);
}

static void test_choices(void **state) {
    (void)state;
    need_server();
    mr_functions_context c = context();
    mr_error err = {0};
    for (int i = 0; i < 2; i++) {
        mr_function_choice choice = {.runners = i == 0, .workers = i == 1};
        mr_function_list list;
        assert_int_equal(mr_functions_find(functions, &choice, &c, &list, &err), MR_OK);
        assert_true(list.n > 0);
        for (size_t k = 0; k < list.n; k++) assert_int_equal(list.items[k].is_worker, i);
        mr_function_list_free(&list);
    }
    mr_function_list none = find("empty");
    assert_int_equal(none.n, 0);
    mr_function_list list;
    mr_function_choice missing = {.set = "missing"}, garbage = {.set = "garbage"};
    assert_int_equal(mr_functions_find(functions, &missing, &c, &list, &err), MR_ERR_NOT_FOUND);
    assert_int_equal(mr_functions_find(functions, &garbage, &c, &list, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "cannot be read"));
}

static void test_cache(void **state) {
    (void)state;
    need_server();
    for (int i = 0; i < 3; i++) {
        mr_function_list list = find("weather");
        mr_function_list_free(&list);
    }
    assert_int_equal(function_server_count(&server, "\"set\": \"weather\""), 1);
    mr_functions_context c = context();
    for (int i = 0; i < 2; i++) {
        mr_function_list list;
        mr_error err = {0};
        mr_function_choice missing = {.set = "missing too"};
        assert_int_equal(mr_functions_find(functions, &missing, &c, &list, &err), MR_ERR_NOT_FOUND);
    }
    assert_int_equal(function_server_count(&server, "\"set\": \"missing too\""), 2);
}

static mr_status call(const char *tool, const char *arguments, const mr_functions_context *c,
                      mr_function_outcome *outcome) {
    mr_function_list list = find("all");
    const mr_function *function = mr_function_list_find(&list, tool);
    mr_error err = {0};
    *outcome = (mr_function_outcome){0};
    assert_non_null(function);
    mr_status status = mr_functions_call(functions, function, arguments, c, outcome, &err);
    mr_function_list_free(&list);
    return status;
}

static void expect(const char *tool, const char *arguments, bool success, const char *text) {
    mr_functions_context c = context();
    if (strcmp(tool, "hanging") == 0) c.timeout_sec = 1;
    mr_function_outcome outcome;
    assert_int_equal(call(tool, arguments, &c, &outcome), MR_OK);
    if (outcome.success != success || strstr(mr_buf_cstr(&outcome.text), text) == NULL)
        fail_msg("%s gave %s \"%s\"", tool, outcome.success ? "success" : "failure", mr_buf_cstr(&outcome.text));
    mr_buf_free(&outcome.text);
}

static void test_calls(void **state) {
    (void)state;
    need_server();
    expect("add", "{\"a\": 20, \"b\": 22}", true, "42");
    expect("get_weather", "{\"city\": \"Oslo\"}", true, "\"sky\": \"clear\"");
    expect("text___upper", "{\"text\": \"straße\"}", true, "STRASSE");
    expect("odd___name___other", "{}", true, "odd___name other");
    expect("odd___single", "{}", true, "odd___single run");
    expect("pieces", "{\"n\": 3}", true, "piece 0;piece 1;piece 2;");
    expect("huge", "{\"mib\": 1}", true, "xxxx");
}

static void test_failures(void **state) {
    (void)state;
    need_server();
    expect("failing", "{\"why\": \"no coffee\"}", false, "it failed: no coffee (E2)");
    expect("refusing", "{}", false, "not today");
    expect("breaking", "{}", false, "broke off; before that it gave: the first half, ");
    expect("garbage", "{}", false, "cannot be read");
    expect("silent", "{}", false, "no result");
    expect("huge", "{\"mib\": 17}", false, "RESOURCE_EXHAUSTED");
    expect("add", "{}", false, "UNKNOWN");
    expect("hanging", "{}", false, "within 1.0 s");
}

/* What goes along: the token, the timeout, the trace context, both as a header and among the metadata. */
static void test_goes_along(void **state) {
    (void)state;
    need_server();
    mr_rpc_metadata trace[] = {{"traceparent", "00-11111111111111111111111111111111-2222222222222222-01"}};
    mr_functions_context c = {.timeout_sec = 7, .metadata = trace, .n_metadata = 1};
    mr_function_outcome outcome;
    assert_int_equal(call("add", "{\"a\": 1, \"b\": 1}", &c, &outcome), MR_OK);
    assert_true(outcome.success);
    assert_int_equal(outcome.job_id, 4711);
    mr_buf_free(&outcome.text);
    assert_int_equal(function_server_count(&server, "\"metadata\": {\"traceparent\": \"00-1111"), 1);
    assert_int_equal(function_server_count(&server, "\"timeout_ms\": 7000"), 1);
    assert_true(function_server_count(&server, "\"jobworkerp-auth\": \"sesame\"") > 1);
}

static void *cancel_soon(void *cancel) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    mr_cancel_request(cancel);
    return NULL;
}

static void test_cancel(void **state) {
    (void)state;
    need_server();
    mr_functions_context c = context();
    c.cancel = mr_cancel_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, c.cancel), 0);
    mr_function_outcome outcome;
    assert_int_equal(call("hanging", "{}", &c, &outcome), MR_ERR_CANCELLED);
    pthread_join(thread, NULL);
    mr_buf_free(&outcome.text);
    mr_cancel_unref(c.cancel);
}

static void test_wrong_token(void **state) {
    (void)state;
    need_server();
    mr_functions *stranger;
    mr_error err = {0};
    setenv("AUTH_TOKEN", "wrong", 1);
    assert_int_equal(mr_functions_open(&stranger, server.endpoint, 5, &err), MR_OK);
    setenv("AUTH_TOKEN", "sesame", 1);
    mr_functions_context c = context();
    mr_function_list list;
    mr_function_choice choice = {.set = "demo"};
    assert_int_equal(mr_functions_find(stranger, &choice, &c, &list, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "UNAUTHENTICATED"));
    mr_functions_close(stranger);
}

static void test_sets(void **state) {
    (void)state;
    need_server();
    mr_functions_context c = context();
    mr_function_set *sets;
    size_t n;
    mr_error err = {0};
    assert_int_equal(mr_functions_find_sets(functions, &c, &sets, &n, &err), MR_OK);
    assert_true(n >= 3);
    assert_string_equal(sets[0].name, "demo");
    assert_string_equal(sets[0].description, "What is in demo.");
    mr_function_sets_free(sets, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_choices),     cmocka_unit_test(test_cache),
        cmocka_unit_test(test_calls),  cmocka_unit_test(test_failures),    cmocka_unit_test(test_goes_along),
        cmocka_unit_test(test_cancel), cmocka_unit_test(test_wrong_token), cmocka_unit_test(test_sets),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
