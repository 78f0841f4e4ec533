/* floors: text */
/* Real vocabularies: every text of NAME.gguf.inp must give the ids of NAME.gguf.out. */
#include "base/buf.h"
#include "base/file.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *fixtures(void) {
    const char *dir = getenv("MR_FIXTURES");
    return dir != NULL ? dir : MR_SOURCE_DIR "/../shared/fixtures";
}

static bool read_fixture(mr_buf *buf, const char *name, const char *suffix) {
    char path[1024];
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf%s", fixtures(), name, suffix);
    return mr_file_read(buf, path, 1 << 20, &err) == MR_OK;
}

static mr_tokenizer *load(const char *name) {
    char path[1024];
    const char *paths[1] = {path};
    mr_error err = {0};
    mr_gguf *gguf;
    mr_tokenizer *t;
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf", fixtures(), name);
    if (mr_gguf_open(&gguf, paths, 1, &err) != MR_OK) fail_msg("%s", err.text);
    if (mr_tokenizer_from_gguf(&t, gguf, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    mr_gguf_close(gguf);
    return t;
}

static void print_ids(mr_buf *out, const mr_tokens *ids) {
    mr_buf_clear(out);
    for (size_t i = 0; i < ids->n; i++) mr_buf_printf(out, i == 0 ? "%d" : " %d", ids->ids[i]);
}

/* Decoding what was encoded gives the text back, for vocabularies that keep all of it. */
static void check_round_trip(const mr_tokenizer *t, const char *text, size_t len, const mr_tokens *ids) {
    mr_buf once = {0}, streamed = {0};
    mr_error err = {0};
    assert_int_equal(mr_tokenizer_decode(t, ids->ids, ids->n, false, &once, &err), MR_OK);
    mr_detokenizer *stream = mr_detokenizer_new(t, NULL, 0, false);
    assert_non_null(stream);
    for (size_t i = 0; i < ids->n; i++)
        assert_int_equal(mr_detokenizer_push(stream, ids->ids[i], &streamed, &err), MR_OK);
    assert_int_equal(mr_detokenizer_finish(stream, &streamed, &err), MR_OK);
    mr_detokenizer_free(stream);
    assert_string_equal(mr_buf_cstr(&once), mr_buf_cstr(&streamed));
    if (strncmp(mr_tokenizer_kind(t), "WordPiece", 9) != 0) {
        assert_int_equal(once.len, len);
        assert_memory_equal(mr_buf_cstr(&once), text, len);
    }
    mr_buf_free(&once);
    mr_buf_free(&streamed);
}

static void check(const char *name) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    mr_buf inp = {0}, out = {0}, got = {0};
    if (!read_fixture(&inp, name, ".inp") || !read_fixture(&out, name, ".out")) {
        mr_buf_free(&inp);
        mr_buf_free(&out);
        skip();
    }
    mr_tokenizer *t = load(name);
    const char *text = mr_buf_cstr(&inp), *line = mr_buf_cstr(&out);
    int n_checked = 0;
    while (text != NULL && *line != '\0') {
        const char *end = strstr(text, separator);
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        size_t line_len = strcspn(line, "\n");
        mr_tokens ids = {0};
        mr_error err = {0};
        assert_int_equal(mr_tokenizer_encode(t, text, len, 0, &ids, &err), MR_OK);
        print_ids(&got, &ids);
        while (line_len > 0 && *line == ' ') line++, line_len--;
        size_t n = line_len;
        while (n > 0 && line[n - 1] == ' ') n--;
        if (got.len != n || memcmp(mr_buf_cstr(&got), line, n) != 0) {
            fail_msg("%s, text %d: expected %.*s, got %s", name, n_checked, (int)n, line, mr_buf_cstr(&got));
        }
        check_round_trip(t, text, len, &ids);
        mr_tokens_free(&ids);
        n_checked++;
        text = end != NULL ? end + strlen(separator) : NULL;
        line += line_len + (line[line_len] == '\n');
    }
    assert_true(n_checked > 30);
    mr_tokenizer_free(t);
    mr_buf_free(&inp);
    mr_buf_free(&out);
    mr_buf_free(&got);
}

static void test_llama_spm(void **state) {
    (void)state;
    check("llama-spm");
}
static void test_phi_3(void **state) {
    (void)state;
    check("phi-3");
}
static void test_gpt_2(void **state) {
    (void)state;
    check("gpt-2");
}
static void test_falcon(void **state) {
    (void)state;
    check("falcon");
}
static void test_starcoder(void **state) {
    (void)state;
    check("starcoder");
}
static void test_deepseek_coder(void **state) {
    (void)state;
    check("deepseek-coder");
}
static void test_bert_bge(void **state) {
    (void)state;
    check("bert-bge");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_spm), cmocka_unit_test(test_phi_3),     cmocka_unit_test(test_gpt_2),
        cmocka_unit_test(test_falcon),    cmocka_unit_test(test_starcoder), cmocka_unit_test(test_deepseek_coder),
        cmocka_unit_test(test_bert_bge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
