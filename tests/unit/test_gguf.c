/* floors: model */
#define _GNU_SOURCE
/* The GGUF reader on well-formed, truncated and corrupted images. */
#include "base/buf.h"
#include "base/file.h"
#include "model/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void put(mr_buf *b, uint64_t value, size_t n) {
    for (size_t i = 0; i < n; i++) mr_buf_putc(b, (char)(value >> (8 * i)));
}

static void put_string(mr_buf *b, const char *text) {
    put(b, strlen(text), 8);
    mr_buf_puts(b, text);
}

static void put_key(mr_buf *b, const char *key, uint32_t type) {
    put_string(b, key);
    put(b, type, 4);
}

/* One small file with a value of each kind and a tensor of 2 rows of 32 values in Q8_0. */
static mr_buf small_image(uint32_t split_count) {
    mr_buf b = {0};
    mr_buf_puts(&b, "GGUF");
    put(&b, 3, 4);
    put(&b, 1, 8);
    put(&b, split_count > 0 ? 6 : 5, 8);
    put_key(&b, "general.architecture", MR_GGUF_STRING);
    put_string(&b, "llama");
    put_key(&b, "a.u32", MR_GGUF_UINT32);
    put(&b, 7, 4);
    put_key(&b, "a.negative", MR_GGUF_INT16);
    put(&b, (uint16_t)-3, 2);
    put_key(&b, "a.strings", MR_GGUF_ARRAY);
    put(&b, MR_GGUF_STRING, 4);
    put(&b, 2, 8);
    put_string(&b, "x");
    put_string(&b, "yz");
    put_key(&b, "a.floats", MR_GGUF_ARRAY);
    put(&b, MR_GGUF_FLOAT32, 4);
    put(&b, 2, 8);
    float floats[] = {1.5f, -2.0f};
    mr_buf_append(&b, floats, sizeof floats);
    if (split_count > 0) {
        put_key(&b, "split.count", MR_GGUF_UINT16);
        put(&b, split_count, 2);
    }
    put_string(&b, "t.weight");
    put(&b, 2, 4);
    put(&b, 32, 8);
    put(&b, 2, 8);
    put(&b, 8, 4); /* Q8_0 */
    put(&b, 0, 8);
    while (b.len % 32 != 0) mr_buf_putc(&b, 0);
    for (int i = 0; i < 2 * 34; i++) mr_buf_putc(&b, (char)i);
    return b;
}

static void test_reads_what_was_written(void **state) {
    (void)state;
    mr_buf b = small_image(0);
    mr_gguf *gguf;
    mr_error err = {0};
    if (mr_gguf_open_memory(&gguf, b.data, b.len, &err) != MR_OK) fail_msg("%s", err.text);
    uint32_t u32 = 0;
    float f32;
    mr_gguf_str text;
    assert_true(mr_gguf_u32(gguf, "a.u32", &u32));
    assert_int_equal(u32, 7);
    assert_false(mr_gguf_u32(gguf, "a.negative", &u32));
    assert_false(mr_gguf_f32(gguf, "a.u32", &f32));
    assert_true(mr_gguf_string(gguf, "general.architecture", &text));
    assert_int_equal(text.len, 5);
    assert_memory_equal(text.data, "llama", 5);
    const mr_gguf_value *strings = mr_gguf_find(gguf, "a.strings");
    size_t cursor = 0;
    assert_true(mr_gguf_array_next_string(strings, &cursor, &text) && text.len == 1);
    assert_true(mr_gguf_array_next_string(strings, &cursor, &text) && text.len == 2);
    assert_false(mr_gguf_array_next_string(strings, &cursor, &text));
    const mr_gguf_value *floats = mr_gguf_find(gguf, "a.floats");
    assert_true(mr_gguf_array_f32(floats, 1, &f32) && f32 == -2.0f);
    assert_false(mr_gguf_array_f32(floats, 2, &f32));
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(gguf, "t.weight");
    assert_non_null(tensor);
    assert_int_equal(tensor->n_bytes, 68);
    assert_int_equal(tensor->data[67], 67);
    assert_null(mr_gguf_find_tensor(gguf, "t"));
    mr_gguf_close(gguf);
    mr_buf_free(&b);
}

/* Every prefix of a file is an error with a sentence; the copy is exact, so that a sanitizer sees any read beyond it.
 */
static void test_every_truncation_is_an_error(void **state) {
    (void)state;
    mr_buf b = small_image(0);
    for (size_t n = 0; n < b.len; n++) {
        char *copy = malloc(n == 0 ? 1 : n);
        memcpy(copy, b.data, n);
        mr_gguf *gguf;
        mr_error err = {0};
        assert_int_not_equal(mr_gguf_open_memory(&gguf, copy, n, &err), MR_OK);
        assert_null(gguf);
        assert_true(strlen(err.text) > 20);
        free(copy);
    }
    mr_buf_free(&b);
}

/* Any byte replaced by extreme values: no crash, and what opens stays within the file. */
static void test_corruption_is_safe(void **state) {
    (void)state;
    mr_buf b = small_image(0);
    static const unsigned char values[] = {0x00, 0xFF, 0x80, 0x7F, 0x01};
    for (size_t at = 0; at < b.len; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            char old = b.data[at];
            b.data[at] = (char)values[v];
            mr_gguf *gguf;
            mr_error err = {0};
            if (mr_gguf_open_memory(&gguf, b.data, b.len, &err) == MR_OK) {
                for (size_t i = 0; i < mr_gguf_n_tensors(gguf); i++) {
                    const mr_gguf_tensor *t = mr_gguf_tensor_at(gguf, i);
                    const uint8_t *begin = (const uint8_t *)b.data;
                    assert_true(t->data >= begin && t->data + t->n_bytes <= begin + b.len);
                }
                mr_gguf_close(gguf);
            }
            b.data[at] = old;
        }
    }
    mr_buf_free(&b);
}

static void write_file(const char *path, const mr_buf *b) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(b->data, 1, b->len, file), b->len);
    fclose(file);
}

static void test_files_and_parts(void **state) {
    (void)state;
    char dir[] = "/tmp/mr-test-gguf-XXXXXX", first[64], second[64];
    assert_non_null(mkdtemp(dir));
    snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", dir);
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", dir);
    mr_buf a = small_image(2), b = small_image(2);
    write_file(first, &a);
    mr_gguf *gguf;
    mr_error err = {0};
    const char *paths[] = {first, second};
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "m-00002-of-00002.gguf"));
    write_file(second, &b);
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_ERR_INVALID); /* both hold t.weight */
    assert_non_null(strstr(err.text, "occurs twice"));
    memcpy(memmem(b.data, b.len, "t.weight", 8), "u.weight", 8);
    write_file(second, &b);
    if (mr_gguf_open(&gguf, paths, 1, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_gguf_n_tensors(gguf), 2);
    mr_gguf_close(gguf);
    if (mr_gguf_open(&gguf, paths, 2, &err) != MR_OK) fail_msg("%s", err.text);
    mr_gguf_close(gguf);
    const char *only_second[] = {second};
    assert_int_equal(mr_gguf_open(&gguf, only_second, 1, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "part 2 of 2"));
    unlink(first);
    unlink(second);
    rmdir(dir);
    mr_buf_free(&a);
    mr_buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_was_written),
        cmocka_unit_test(test_every_truncation_is_an_error),
        cmocka_unit_test(test_corruption_is_safe),
        cmocka_unit_test(test_files_and_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
