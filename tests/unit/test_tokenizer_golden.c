/* floors: text */
/* Small vocabularies of every kind against what the reference made of texts with them (tests/conformance/tokenizers).
 */
#include "base/buf.h"
#include "base/file.h"
#include "text/tokenizer.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN MR_SOURCE_DIR "/tests/conformance/tokenizers/golden"

enum { N_COLUMNS = 5, MAX_FILES = 256 };

static int nibble(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void from_hex(mr_buf *out, const char *hex, size_t n) {
    mr_buf_clear(out);
    for (size_t i = 0; i + 1 < n; i += 2) mr_buf_putc(out, (char)(nibble(hex[i]) * 16 + nibble(hex[i + 1])));
}

static void check_ids(const mr_tokenizer *t, const char *name, int line, const mr_buf *text, unsigned flags,
                      const char *want, size_t n_want, mr_tokens *ids) {
    if (n_want == 0 && want[0] == '\0') return;
    mr_error err = {0};
    ids->n = 0;
    mr_status status = mr_tokenizer_encode(t, mr_buf_cstr(text), text->len, flags, ids, &err);
    if (n_want == 1 && want[0] == '!') {
        assert_int_not_equal(status, MR_OK);
        assert_true(err.text[0] != '\0');
        ids->n = 0;
        return;
    }
    assert_int_equal(status, MR_OK);
    mr_buf got = {0};
    for (size_t i = 0; i < ids->n; i++) mr_buf_printf(&got, i == 0 ? "%d" : " %d", ids->ids[i]);
    if (got.len != n_want || memcmp(mr_buf_cstr(&got), want, n_want) != 0) {
        fail_msg("%s, line %d, flags %u: expected %.*s, got %s", name, line, flags, (int)n_want, want,
                 mr_buf_cstr(&got));
    }
    mr_buf_free(&got);
}

static void check_decoded(const mr_tokenizer *t, const char *name, int line, const mr_tokens *ids, bool skip_special,
                          const mr_buf *want) {
    mr_buf once = {0}, streamed = {0};
    mr_error err = {0};
    assert_int_equal(mr_tokenizer_decode(t, ids->ids, ids->n, skip_special, &once, &err), MR_OK);
    mr_detokenizer *stream = mr_detokenizer_new(t, NULL, 0, skip_special);
    assert_non_null(stream);
    for (size_t i = 0; i < ids->n; i++)
        assert_int_equal(mr_detokenizer_push(stream, ids->ids[i], &streamed, &err), MR_OK);
    assert_int_equal(mr_detokenizer_finish(stream, &streamed, &err), MR_OK);
    mr_detokenizer_free(stream);
    if (once.len != want->len || memcmp(mr_buf_cstr(&once), mr_buf_cstr(want), want->len) != 0) {
        fail_msg("%s, line %d: decoded \"%s\", expected \"%s\"", name, line, mr_buf_cstr(&once), mr_buf_cstr(want));
    }
    assert_int_equal(once.len, streamed.len);
    assert_memory_equal(mr_buf_cstr(&once), mr_buf_cstr(&streamed), once.len);
    mr_buf_free(&once);
    mr_buf_free(&streamed);
}

/* text <tab> ids <tab> plain ids <tab> ids with bos and eos <tab> decoded */
static void check_line(const mr_tokenizer *t, const char *name, int number, const char *line, size_t len) {
    const char *column[N_COLUMNS];
    size_t n[N_COLUMNS];
    for (int i = 0; i < N_COLUMNS; i++) {
        const char *tab = i + 1 < N_COLUMNS ? memchr(line, '\t', len) : NULL;
        column[i] = line;
        n[i] = tab != NULL ? (size_t)(tab - line) : len;
        len -= n[i] + (tab != NULL);
        line += n[i] + (tab != NULL);
    }
    bool sentencepiece = mr_has_suffix(name, ".model");
    mr_buf text = {0}, decoded = {0};
    mr_tokens ids = {0};
    from_hex(&text, column[0], n[0]);
    from_hex(&decoded, column[4], n[4]);
    if (!sentencepiece) {
        check_ids(t, name, number, &text, MR_ENCODE_SPECIAL_TEXT | MR_ENCODE_ADD_BOS_EOS, column[3], n[3], &ids);
        check_ids(t, name, number, &text, 0, column[2], n[2], &ids);
        check_ids(t, name, number, &text, MR_ENCODE_SPECIAL_TEXT, column[1], n[1], &ids);
    } else {
        check_ids(t, name, number, &text, 0, column[2], n[2], &ids);
    }
    check_decoded(t, name, number, &ids, sentencepiece, &decoded);
    mr_buf_free(&text);
    mr_buf_free(&decoded);
    mr_tokens_free(&ids);
}

static void check_file(const char *name) {
    char path[1024];
    mr_error err = {0};
    mr_tokenizer *t;
    mr_buf cases = {0};
    snprintf(path, sizeof path, GOLDEN "/%s", name);
    if (mr_tokenizer_from_folder(&t, path, &err) != MR_OK) fail_msg("%s", err.text);
    size_t stem = strcspn(name, ".");
    snprintf(path, sizeof path, GOLDEN "/%.*s.cases", (int)stem, name);
    assert_int_equal(mr_file_read(&cases, path, 1 << 24, &err), MR_OK);
    int number = 0;
    for (const char *line = mr_buf_cstr(&cases); *line != '\0';) {
        size_t len = strcspn(line, "\n");
        check_line(t, name, ++number, line, len);
        line += len + (line[len] == '\n');
    }
    assert_true(number > 20);
    mr_buf_free(&cases);
    mr_tokenizer_free(t);
}

static void test_golden(void **state) {
    (void)state;
    DIR *dir = opendir(GOLDEN);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!mr_has_suffix(entry->d_name, ".json") && !mr_has_suffix(entry->d_name, ".model")) continue;
        check_file(entry->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
