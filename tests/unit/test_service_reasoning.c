/* floors: text */
#include "text/reasoning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Feeds the text in pieces of `step` bytes. */
static void split(const char *text, size_t step, bool inside, mr_buf *content, mr_buf *reasoning) {
    mr_reasoning state;
    mr_reasoning_init(&state, NULL, inside);
    for (size_t at = 0; at < strlen(text); at += step) {
        size_t n = strlen(text) - at < step ? strlen(text) - at : step;
        /* Fresh buffers each time, as a stream has them. */
        mr_buf c = {0}, r = {0};
        assert_true(mr_reasoning_push(&state, text + at, n, &c, &r));
        mr_buf_append(content, mr_buf_cstr(&c), c.len);
        mr_buf_append(reasoning, mr_buf_cstr(&r), r.len);
        mr_buf_free(&c);
        mr_buf_free(&r);
    }
    assert_true(mr_reasoning_finish(&state, content, reasoning));
}

static void assert_split(const char *text, bool inside, const char *content, const char *reasoning) {
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        mr_buf c = {0}, r = {0};
        split(text, step, inside, &c, &r);
        assert_string_equal(mr_buf_cstr(&c), content);
        assert_string_equal(mr_buf_cstr(&r), reasoning);
        mr_buf_free(&c);
        mr_buf_free(&r);
    }
}

static void test_blocks(void **state) {
    (void)state;
    assert_split("<think>\nWell, 2 < 3.\n</think>\n\nYes.", false, "Yes.", "Well, 2 < 3.");
    assert_split("\n<think>a</think>b", false, "b", "a");
    assert_split("a b</think> c\n", true, "c\n", "a b");
    assert_split("<think></think>plain", false, "plain", "");
    assert_split("Hi.\n<think>again</think>\nBye.", false, "Hi.\nBye.", "again");
    assert_split("<think>one</think>x\n<think>two</think>y", false, "x\ny", "one\ntwo");
}

static void test_what_is_no_block(void **state) {
    (void)state;
    assert_split("plain text, no tags", false, "plain text, no tags", "");
    assert_split("The tag <think> opens a block.", false, "The tag <think> opens a block.", "");
    assert_split("<thin", false, "<thin", "");
    assert_split("<thinker> a <b> </think>", false, "<thinker> a <b> </think>", "");
    assert_split("", false, "", "");
}

static void test_an_open_end(void **state) {
    (void)state;
    assert_split("<think>cut off</thi", false, "", "cut off</thi");
    assert_split("still thinking", true, "", "still thinking");
}

static void test_open_prompts(void **state) {
    (void)state;
    assert_true(mr_reasoning_is_open(NULL, "<|assistant|><think>\n", 21));
    assert_false(mr_reasoning_is_open(NULL, "<think>x</think>", 16));
    assert_false(mr_reasoning_is_open(NULL, "", 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_what_is_no_block),
        cmocka_unit_test(test_an_open_end),
        cmocka_unit_test(test_open_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
