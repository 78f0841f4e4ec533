/* As much of cmocka as the kernels' tests use, for processors that this machine only emulates: distributions have no
 * cmocka for them. Prints TAP. */
#ifndef MR_CROSS_CMOCKA_H
#define MR_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

static jmp_buf cross_end; /* out of a test: 1 failed, 2 skipped */

#define cross_stop(how, ...)                                                                                           \
    (printf("# %s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), puts(""), longjmp(cross_end, how))
#define cross_check(c, ...) ((c) ? (void)0 : (void)cross_stop(1, __VA_ARGS__))

#define fail_msg(...) cross_stop(1, __VA_ARGS__)
#define skip() cross_stop(2, "skipped")
#define print_message printf
#define print_error printf
#define assert_true(c) cross_check(c, "%s", #c)
#define assert_false(c) cross_check(!(c), "not %s", #c)
#define assert_non_null(p) cross_check((p) != NULL, "%s is NULL", #p)
#define assert_null(p) cross_check((p) == NULL, "%s is not NULL", #p)
#define assert_int_equal(a, b) cross_check((long long)(a) == (long long)(b), "%s is not %s", #a, #b)
#define assert_int_not_equal(a, b) cross_check((long long)(a) != (long long)(b), "%s is %s", #a, #b)
#define assert_in_range(a, low, high)                                                                                  \
    cross_check((long long)(a) >= (long long)(low) && (long long)(a) <= (long long)(high), "%s is out of range", #a)
#define assert_string_equal(a, b) cross_check(strcmp(a, b) == 0, "%s is \"%s\"", #a, a)
#define assert_memory_equal(a, b, n) cross_check(memcmp(a, b, n) == 0, "%s differs from %s", #a, #b)
#define cmocka_unit_test(f)                                                                                            \
    { #f, f }
#define cmocka_run_group_tests(tests, setup, teardown) cross_run(tests, sizeof(tests) / sizeof((tests)[0]))

static int cross_run(const struct CMUnitTest *tests, size_t n) {
    static int n_failed;
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        int end = setjmp(cross_end);
        if (end == 0) tests[i].run(&state);
        printf("%s %zu - %s%s\n", end == 1 ? "not ok" : "ok", i + 1, tests[i].name, end == 2 ? " # SKIP" : "");
        fflush(stdout);
        n_failed += end == 1;
    }
    return n_failed;
}

#endif
