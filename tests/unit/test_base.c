/* floors: base */
#include "base/arena.h"
#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/near_name.h"
#include "base/utf8.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_error_text_is_cut_at_a_character(void **state) {
    (void)state;
    char text[2 * MR_ERROR_TEXT_MAX];
    for (size_t i = 0; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xE3\x81\x82", 3);
    text[sizeof text - 4] = '\0';
    mr_error err = {0};
    assert_int_equal(mr_fail(&err, MR_ERR_LIMIT, "x%s", text), MR_ERR_LIMIT);
    assert_true(strlen(err.text) < MR_ERROR_TEXT_MAX);
    assert_true(mr_utf8_valid(err.text, strlen(err.text)));
    mr_fail(&err, MR_ERR_IO, "inner");
    assert_int_equal(mr_fail_prefix(&err, "file %d", 7), MR_ERR_IO);
    assert_string_equal(err.text, "file 7: inner");
    assert_int_equal(mr_fail(NULL, MR_ERR_IO, "nobody listens"), MR_ERR_IO);
}

/* Every byte sequence decodes to the end, and well-formed text comes back as it was. */
static void test_utf8(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        char bytes[4];
        uint32_t back;
        bool valid;
        size_t n = mr_utf8_encode(c, bytes);
        assert_int_equal(mr_utf8_decode_checked(bytes, n, &back, &valid), n);
        assert_true(valid && back == c);
        for (size_t cut = 1; cut < n; cut++) assert_int_equal(mr_utf8_incomplete_tail(bytes, cut), cut);
        assert_int_equal(mr_utf8_incomplete_tail(bytes, n), 0);
    }
    static const struct {
        const char *text;
        size_t len, first;
    } malformed[] = {{"\x80", 1, 1},
                     {"\xC0\x80", 2, 1},
                     {"\xE0\x80\x80", 3, 1},
                     {"\xED\xA0\x80", 3, 1},
                     {"\xF4\x90\x80\x80", 4, 1},
                     {"\xE3\x81", 2, 2},
                     {"\xF0\x9F\x98x", 4, 3},
                     {"\xFF", 1, 1}};
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        uint32_t c;
        assert_int_equal(mr_utf8_decode(malformed[i].text, malformed[i].len, &c), malformed[i].first);
        assert_int_equal(c, MR_UTF8_REPLACEMENT);
        assert_false(mr_utf8_valid(malformed[i].text, malformed[i].len));
    }
}

static void test_buf(void **state) {
    (void)state;
    mr_buf buf = {0};
    assert_string_equal(mr_buf_cstr(&buf), "");
    for (int i = 0; i < 1000; i++) assert_true(mr_buf_printf(&buf, "%d,", i));
    assert_int_equal(buf.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(buf.data, "0,1,2,", 6);
    assert_false(mr_buf_reserve(&buf, SIZE_MAX - 10));
    assert_true(buf.failed);
    assert_false(mr_buf_putc(&buf, 'x'));
    mr_buf_clear(&buf);
    assert_true(mr_buf_puts(&buf, "again"));
    char *text = mr_buf_take(&buf);
    assert_string_equal(text, "again");
    free(text);
    mr_buf_free(&buf);
}

static void test_arena_is_bounded(void **state) {
    (void)state;
    mr_arena arena = {.max_bytes = 100000};
    size_t n = 0;
    while (mr_arena_alloc(&arena, 1000) != NULL) n++;
    assert_in_range(n, 90, 100);
    assert_null(mr_arena_calloc(&arena, SIZE_MAX / 2, 4));
    mr_arena_free(&arena);
    char *copy = mr_arena_strndup(&arena, "hello", 4);
    assert_string_equal(copy, "hell");
    mr_arena_free(&arena);
}

static void test_strmap(void **state) {
    (void)state;
    enum { N = 5000 };
    static char keys[N][12];
    mr_strmap *map = mr_strmap_new(0);
    for (uint32_t i = 0; i < N; i++) {
        int n = snprintf(keys[i], sizeof keys[i], "key%u", i);
        assert_true(mr_strmap_put(map, keys[i], (size_t)n, i));
    }
    for (uint32_t i = 0; i < N; i++) {
        uint32_t value;
        assert_true(mr_strmap_get(map, keys[i], strlen(keys[i]), &value));
        assert_int_equal(value, i);
    }
    uint32_t value;
    assert_false(mr_strmap_get(map, "key", 3, &value));
    mr_strmap_free(map);
}

static void count_call(void *ctx) {
    ++*(int *)ctx;
}

static void test_cancel(void **state) {
    (void)state;
    int n_calls = 0;
    mr_cancel *cancel = mr_cancel_new();
    uint64_t first = mr_cancel_subscribe(cancel, count_call, &n_calls);
    uint64_t second = mr_cancel_subscribe(cancel, count_call, &n_calls);
    assert_true(first != 0 && second != 0);
    mr_cancel_unsubscribe(cancel, first);
    assert_false(mr_cancel_is_set(cancel));
    mr_cancel_request(cancel);
    mr_cancel_request(cancel);
    assert_int_equal(n_calls, 1);
    assert_int_equal(mr_cancel_subscribe(cancel, count_call, &n_calls), 0);
    assert_int_equal(n_calls, 2);
    mr_cancel_unsubscribe(cancel, second);
    mr_cancel_unref(mr_cancel_ref(cancel));
    mr_cancel_unref(cancel);
    assert_false(mr_cancel_is_set(NULL));
}

static void test_files(void **state) {
    (void)state;
    mr_error err = {0};
    mr_mapping map;
    assert_int_equal(mr_file_map(&map, "/no/such/file", &err), MR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/no/such/file"));
    assert_int_equal(mr_file_map(&map, "/", &err), MR_ERR_INVALID);
    mr_buf buf = {0};
    assert_int_equal(mr_file_read(&buf, MR_SOURCE_DIR "/LICENSE", 10, &err), MR_ERR_LIMIT);
    assert_int_equal(mr_file_read(&buf, MR_SOURCE_DIR "/LICENSE", 1 << 20, &err), MR_OK);
    assert_int_equal(mr_file_map(&map, MR_SOURCE_DIR "/LICENSE", &err), MR_OK);
    assert_int_equal(map.size, buf.len);
    assert_memory_equal(map.data, buf.data, buf.len);
    mr_file_drop_pages(&map, 0, map.size);
    assert_memory_equal(map.data, buf.data, buf.len);
    mr_file_unmap(&map);
    mr_buf_free(&buf);
    char *path = mr_path_join("a/", "b");
    assert_string_equal(path, "a/b");
    free(path);
    assert_true(mr_has_suffix("x.gguf", ".gguf"));
    assert_false(mr_has_suffix("gguf", ".gguf"));
}

/* What a log line puts on standard error. */
static void capture(mr_log_level level, const char *text, mr_buf *out) {
    char bytes[1024];
    int pipe_ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_ends), 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    mr_log(level, "mistral_runner::test", "%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_ends[1]);
    ssize_t n = read(pipe_ends[0], bytes, sizeof bytes);
    close(pipe_ends[0]);
    mr_buf_clear(out);
    if (n > 0) mr_buf_append(out, bytes, (size_t)n);
}

static void test_log_formats(void **state) {
    (void)state;
    mr_buf line = {0};
    const char *text = "say \"a\\b\"\nor \xC3\xA9 \xFF";
    setenv("LOG_FORMAT", "json", 1);
    capture(MR_LOG_WARN, text, &line);
    unsetenv("LOG_FORMAT");
    json_t *json = json_loadb(line.data, line.len, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "level")), "WARN");
    assert_string_equal(json_string_value(json_object_get(json, "target")), "mistral_runner::test");
    assert_string_equal(json_string_value(json_object_get(json, "message")),
                        "say \"a\\b\"\nor \xC3\xA9 \xEF\xBF\xBD");
    assert_int_equal(strlen(json_string_value(json_object_get(json, "timestamp"))), 24);
    json_decref(json);
    assert_ptr_equal(strchr(line.data, '\n'), line.data + line.len - 1);
    capture(MR_LOG_INFO, text, &line);
    assert_non_null(strstr(line.data, "Z INFO  mistral_runner::test: say \"a\\b\"\\x0aor "));
    assert_ptr_equal(strchr(line.data, '\n'), line.data + line.len - 1);
    mr_buf_free(&line);
}

static void test_near_names(void **state) {
    (void)state;
    assert_int_equal(mr_name_distance("", "abc"), 3);
    assert_int_equal(mr_name_distance("Model", "model"), 0);
    assert_int_equal(mr_name_distance("mdoel", "model"), 1);
    assert_int_equal(mr_name_distance("kitten", "sitting"), 3);
    char *nearest = mr_path_nearest(MR_SOURCE_DIR "/LISENCE");
    assert_string_equal(nearest, MR_SOURCE_DIR "/LICENSE");
    free(nearest);
    assert_null(mr_path_nearest(MR_SOURCE_DIR "/nothing like it"));
    assert_null(mr_path_nearest(MR_SOURCE_DIR "/no-such-folder/LICENSE"));
    assert_null(mr_path_nearest(""));
    mr_error err = {0};
    mr_mapping map;
    assert_int_equal(mr_file_map(&map, MR_SOURCE_DIR "/LISENCE", &err), MR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "do you mean " MR_SOURCE_DIR "/LICENSE?"));
}

static void test_log_filter(void **state) {
    (void)state;
    mr_log_set_filter("warn,mistral_runner::engine=debug,mistral_runner::engine::plan=off");
    assert_true(mr_log_enabled(MR_LOG_WARN, "mistral_runner"));
    assert_false(mr_log_enabled(MR_LOG_INFO, "mistral_runner::service"));
    assert_true(mr_log_enabled(MR_LOG_DEBUG, "mistral_runner::engine"));
    assert_false(mr_log_enabled(MR_LOG_TRACE, "mistral_runner::engine"));
    assert_false(mr_log_enabled(MR_LOG_ERROR, "mistral_runner::engine::plan"));
    mr_log_set_filter("mistral_runner=trace");
    assert_true(mr_log_enabled(MR_LOG_TRACE, "mistral_runner::text"));
    assert_false(mr_log_enabled(MR_LOG_ERROR, "other"));
    mr_log_set_filter(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_text_is_cut_at_a_character),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_arena_is_bounded),
        cmocka_unit_test(test_strmap),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_log_formats),
        cmocka_unit_test(test_log_filter),
        cmocka_unit_test(test_near_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
