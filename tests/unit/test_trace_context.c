/* floors: service */
/* W3C trace context: what is taken, what is refused, and the way back. */
#include "service/trace_context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static bool taken(const char *parent) {
    mr_trace_context context;
    mr_trace_context_parse(&context, parent, strlen(parent), NULL, 0);
    return context.valid;
}

static void test_round_trip(void **state) {
    (void)state;
    mr_trace_context context;
    char text[MR_TRACEPARENT_LEN + 1];
    mr_trace_context_parse(&context, PARENT, strlen(PARENT), "a=b,c=d", 7);
    assert_true(context.valid);
    assert_true(context.sampled);
    assert_string_equal(context.state, "a=b,c=d");
    mr_trace_context_format(&context, text);
    assert_string_equal(text, PARENT);
    context.sampled = false;
    mr_trace_context_format(&context, text);
    assert_string_equal(text + 52, "-00");
}

static void test_malformed(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (taken(bad[i])) fail_msg("\"%s\" was taken", bad[i]);
    }
    assert_true(taken("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-later"));
    mr_trace_context context;
    mr_trace_context_parse(&context, NULL, 0, "a=b", 3);
    assert_false(context.valid);
    mr_trace_context_parse(&context, PARENT, strlen(PARENT), "a=\n", 3);
    assert_true(context.valid);
    assert_string_equal(context.state, "");
    char longest[MR_TRACESTATE_MAX + 1];
    memset(longest, 'x', sizeof longest);
    mr_trace_context_parse(&context, PARENT, strlen(PARENT), longest, MR_TRACESTATE_MAX);
    assert_int_equal(strlen(context.state), MR_TRACESTATE_MAX);
    mr_trace_context_parse(&context, PARENT, strlen(PARENT), longest, MR_TRACESTATE_MAX + 1);
    assert_string_equal(context.state, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_malformed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
