/* floors: text */
/* Normalization, decoding as a stream, added tokens, special ids, and files that are not what they should be. */
#include "base/buf.h"
#include "text/normalizer.h"
#include "text/tokenizer_hf.h"
#include "text/unicode.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- making tokenizers ---- */

static mr_status try_json(mr_tokenizer **t, const char *json, mr_error *err) {
    char *copy = strdup(json);
    *t = mr_tokenizer_new();
    assert_non_null(copy);
    assert_non_null(*t);
    mr_status status = mr_tokenizer_read_json(*t, copy, strlen(copy), err);
    if (status == MR_OK) status = mr_tokenizer_finish(*t, err);
    free(copy);
    return status;
}

static mr_tokenizer *from_json(const char *json) {
    mr_tokenizer *t;
    mr_error err = {0};
    if (try_json(&t, json, &err) != MR_OK) fail_msg("%s", err.text);
    return t;
}

static void expect_ids(const mr_tokenizer *t, const char *text, unsigned flags, const char *want) {
    mr_tokens ids = {0};
    mr_buf got = {0};
    mr_error err = {0};
    assert_int_equal(mr_tokenizer_encode(t, text, strlen(text), flags, &ids, &err), MR_OK);
    for (size_t i = 0; i < ids.n; i++) mr_buf_printf(&got, i == 0 ? "%d" : " %d", ids.ids[i]);
    assert_string_equal(mr_buf_cstr(&got), want);
    mr_buf_free(&got);
    mr_tokens_free(&ids);
}

#define ADDED(id, text, more)                                                                                          \
    "{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false," more "}"
#define SPECIAL "\"normalized\":false,\"special\":true"

/* Letters a to e by themselves, with two merges. */
static const char small_bpe[] = "{\"version\":\"1.0\",\"added_tokens\":[" ADDED(9, "<s>", SPECIAL) "," ADDED(
    10, "<|im_end|>", SPECIAL) "],\"normalizer\":null,\"pre_tokenizer\":null,\"decoder\":{\"type\":\"Fuse\"},\"post_"
                               "processor\":{\"type\":\"TemplateProcessing\","
                               "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":"
                               "\"A\",\"type_id\":0}}],\"pair\":[],"
                               "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[9],\"tokens\":[\"<s>\"]}}},"
                               "\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,\"vocab\":{\"?\":0,"
                               "\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"ab\":6,"
                               "\"abc\":7,\"bc\":8},\"merges\":[\"b c\",\"a b\",\"ab c\",\"a bc\"]}}";

static void test_bpe(void **state) {
    (void)state;
    mr_tokenizer *t = from_json(small_bpe);
    expect_ids(t, "", 0, "");
    expect_ids(t, "abc", 0, "7"); /* b c first, then a bc */
    expect_ids(t, "abxyzc", 0, "6 0 3");
    expect_ids(t, "a<s>b", MR_ENCODE_SPECIAL_TEXT, "1 9 2");
    expect_ids(t, "a<s>b", 0, "1 0 2");
    expect_ids(t, "a", MR_ENCODE_ADD_BOS_EOS, "9 1");
    assert_int_equal(mr_tokenizer_n_vocab(t), 11);
    assert_int_equal(mr_tokenizer_find_special(t, "<|im_end|>", 10), 10);
    assert_int_equal(mr_tokenizer_find_special(t, "abc", 3), -1);
    assert_true(mr_tokenizer_is_eog(t, 10));
    assert_false(mr_tokenizer_is_eog(t, 1));
    assert_false(mr_tokenizer_is_eog(t, -1));
    assert_false(mr_tokenizer_is_eog(t, 1000));
    assert_true(mr_tokenizer_is_special(t, 9));
    assert_int_equal(mr_tokenizer_unk(t), 0);
    size_t len;
    assert_memory_equal(mr_tokenizer_piece(t, 7, &len), "abc", 3);
    assert_int_equal(len, 3);
    assert_null(mr_tokenizer_piece(t, 11, &len));
    mr_tokenizer_free(t);
}

/* A long text takes the queue, a short one the scan: both must agree with merging by hand. */
static void test_long_texts(void **state) {
    (void)state;
    mr_tokenizer *t = from_json(small_bpe);
    for (size_t n = 1; n < 200000; n = n * 3 + 1) {
        mr_buf text = {0};
        for (size_t i = 0; i < n; i++) mr_buf_puts(&text, "abcab");
        mr_tokens ids = {0};
        mr_error err = {0};
        assert_int_equal(mr_tokenizer_encode(t, text.data, text.len, 0, &ids, &err), MR_OK);
        assert_int_equal(ids.n, 2 * n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ids.ids[2 * i], 7);
            assert_int_equal(ids.ids[2 * i + 1], 6);
        }
        mr_tokens_free(&ids);
        mr_buf_free(&text);
    }
    mr_tokenizer_free(t);
}

/* ---- streams ---- */

static const char byte_fallback[] =
    "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\xC3\xA6\":1,\"\xC4\xB9\":2,"
    "\"\xC2\xA5\":3,"
    "\"\xC4\xA0"
    "b\":4,\"\xC3\xB0\":5},\"merges\":[]}}"; /* bytes E6 97 A5 (U+65E5) and F0 */

static void push(mr_detokenizer *d, mr_token id, const char *want) {
    mr_buf text = {0};
    mr_error err = {0};
    assert_int_equal(mr_detokenizer_push(d, id, &text, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&text), want);
    mr_buf_free(&text);
}

static void finish(mr_detokenizer *d, const char *want) {
    mr_buf text = {0};
    mr_error err = {0};
    assert_int_equal(mr_detokenizer_finish(d, &text, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&text), want);
    mr_buf_free(&text);
    mr_detokenizer_free(d);
}

static void test_stream(void **state) {
    (void)state;
    mr_tokenizer *t = from_json(byte_fallback);
    mr_detokenizer *d = mr_detokenizer_new(t, NULL, 0, true);
    push(d, 0, "a");
    push(d, 1, "");
    push(d, 2, "");
    push(d, 3, "\xE6\x97\xA5");
    push(d, 4, " b");
    push(d, 1, "");
    push(d, 0,
         "\xEF\xBF\xBD"
         "a"); /* torn */
    push(d, 99, "");
    push(d, -1, "");
    push(d, 5, "");
    finish(d, "\xEF\xBF\xBD");
    const mr_token prompt[] = {0, 1, 2}; /* the prompt ends inside of a character */
    d = mr_detokenizer_new(t, prompt, 3, true);
    push(d, 3, "\xE6\x97\xA5");
    finish(d, "");
    mr_tokenizer_free(t);
}

static const char metaspace[] =
    "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
    "\"decoder\":"
    "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\",\"split\":true},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xE2\x96\x81"
    "a\":0,\"b\":1},\"merges\":[]}}";

static void test_leading_space(void **state) {
    (void)state;
    mr_tokenizer *t = from_json(metaspace);
    mr_detokenizer *d = mr_detokenizer_new(t, NULL, 0, true);
    push(d, 0, "a");
    push(d, 0, " a");
    finish(d, "");
    const mr_token prompt[] = {1};
    d = mr_detokenizer_new(t, prompt, 1, true);
    push(d, 0, " a");
    finish(d, "");
    size_t len;
    assert_memory_equal(mr_tokenizer_piece(t, 0, &len), " a", 2);
    mr_tokenizer_free(t);
}

/* ---- normalization ---- */

static void expect_form(mr_step_kind form, const char *text, const char *want) {
    mr_normalizer_scratch scratch = {0};
    mr_buf out = {0};
    mr_error err = {0};
    assert_int_equal(mr_normalize_form(form, &scratch, text, strlen(text), &out, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&out), want);
    mr_buf_free(&out);
    mr_normalizer_scratch_free(&scratch);
}

static void test_forms(void **state) {
    (void)state;
    mr_unicode_init();
    expect_form(MR_STEP_NFC, "e\xCC\x81", "\xC3\xA9");
    expect_form(MR_STEP_NFD, "\xC3\xA9", "e\xCC\x81");
    expect_form(MR_STEP_NFKC, "\xEF\xAC\x81 \xE2\x84\xAB", "fi \xC3\x85");
    expect_form(MR_STEP_NFKD, "\xED\x95\x9C", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");
    expect_form(MR_STEP_NFC, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C");
    expect_form(MR_STEP_NFD, "a\xCC\x81\xCC\xA3", "a\xCC\xA3\xCC\x81");   /* dot below goes first */
    expect_form(MR_STEP_NFC, "\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"); /* excluded from composition */
    expect_form(MR_STEP_NFKC, "\xE3\x8B\xBF", "\xE3\x8B\xBF");            /* U+32FF is of Unicode 12.1 */
}

/* A run of marks that has to be sorted stays quick. */
static void test_many_marks(void **state) {
    (void)state;
    mr_buf text = {0}, out = {0};
    mr_normalizer_scratch scratch = {0};
    mr_error err = {0};
    mr_buf_putc(&text, 'x');
    for (int i = 0; i < 200000; i++) mr_buf_puts(&text, i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3");
    assert_int_equal(mr_normalize_form(MR_STEP_NFD, &scratch, text.data, text.len, &out, &err), MR_OK);
    assert_int_equal(out.len, text.len);
    assert_memory_equal(out.data, "x\xCC\xA3\xCC\xA3", 5);
    mr_normalizer_scratch_free(&scratch);
    mr_buf_free(&text);
    mr_buf_free(&out);
}

/* ---- bad files ---- */

static void test_bad_json(void **state) {
    (void)state;
    static const char *const files[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"model\":3}",
        "{\"model\":{\"type\":\"BPE\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967295},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[3]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":7}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"pre_tokenizer\":{\"type\":\"Nonsense\"}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"normalizer\":{\"type\":\"Replace\",\"pattern\":{"
        "\"Regex\":\"(\"},\"content\":\"\"}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"normalizer\":{\"type\":\"Precompiled\","
        "\"precompiled_charsmap\":\"////\"}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
        "\"\"}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"post_processor\":{\"type\":\"BertProcessing\","
        "\"sep\":[1],\"cls\":[1]}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"pre_tokenizer\":{\"type\":\"FixedLength\","
        "\"length\":0}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}} x",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\x01\"}",
        "{\"a\":1.}",
        "{\"a\" 1}",
        "{\"a\":\"\xFF\"}",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        mr_tokenizer *t;
        mr_error err = {0};
        mr_status status = try_json(&t, files[i], &err);
        if (status == MR_OK) fail_msg("accepted: %s", files[i]);
        assert_true(strlen(err.text) > 10);
        mr_tokenizer_free(t);
    }
    mr_buf deep = {0};
    for (int i = 0; i < 100000; i++) mr_buf_putc(&deep, '[');
    mr_json json;
    mr_error err = {0};
    assert_int_equal(mr_json_parse(&json, deep.data, deep.len, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "column"));
    mr_buf_free(&deep);
}

static void test_bad_files(void **state) {
    (void)state;
    static const char *const models[] = {"", "\n",
                                         "\n\x05"
                                         "ab",
                                         "\xFF\xFF\xFF",
                                         "\n\x03\n\x01"
                                         "a\x12\x02\x18\x07"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        mr_error err = {0};
        mr_tokenizer *t = mr_tokenizer_new();
        assert_int_not_equal(mr_tokenizer_read_sentencepiece(t, models[i], strlen(models[i]), NULL, 0, &err), MR_OK);
        assert_true(strlen(err.text) > 10);
        mr_tokenizer_free(t);
    }
    mr_error err = {0};
    mr_tokenizer *t;
    assert_int_equal(mr_tokenizer_from_folder(&t, "/nonexistent", &err), MR_ERR_NOT_FOUND);
    assert_null(t);
    assert_non_null(strstr(err.text, "tokenizer.json"));
}

/* ---- a folder ---- */

static void write_file(const char *folder, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_file(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
}

static void test_folder(void **state) {
    (void)state;
    char folder[] = "/tmp/mr_tokenizer_XXXXXX";
    assert_non_null(mkdtemp(folder));
    write_file(folder, "tokenizer.json", small_bpe);
    write_file(folder, "tokenizer_config.json",
               "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"<|im_end|>\",\"pad_token\":null}");
    write_file(folder, "generation_config.json", "{\"eos_token_id\":[10,7],\"pad_token_id\":3}");
    mr_error err = {0};
    mr_tokenizer *t;
    if (mr_tokenizer_from_folder(&t, folder, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_tokenizer_bos(t), 9);
    assert_int_equal(mr_tokenizer_eos(t), 10);
    assert_int_equal(mr_tokenizer_pad(t), 3);
    assert_true(mr_tokenizer_add_bos(t));
    assert_false(mr_tokenizer_add_eos(t));
    assert_true(mr_tokenizer_is_eog(t, 7));
    mr_tokenizer_free(t);
    /* config.json counts where there is no generation_config.json, and only there. */
    write_file(folder, "config.json", "{\"eos_token_id\":[8,10],\"bos_token_id\":null}");
    if (mr_tokenizer_from_folder(&t, folder, &err) != MR_OK) fail_msg("%s", err.text);
    assert_true(mr_tokenizer_is_eog(t, 7) && !mr_tokenizer_is_eog(t, 8));
    mr_tokenizer_free(t);
    remove_file(folder, "generation_config.json");
    if (mr_tokenizer_from_folder(&t, folder, &err) != MR_OK) fail_msg("%s", err.text);
    assert_true(mr_tokenizer_is_eog(t, 8) && mr_tokenizer_is_eog(t, 10) && !mr_tokenizer_is_eog(t, 7));
    mr_tokenizer_free(t);
    remove_file(folder, "config.json");
    write_file(folder, "tokenizer_config.json", "{\"bos_token\":");
    assert_int_equal(mr_tokenizer_from_folder(&t, folder, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "tokenizer_config.json"));
    remove_file(folder, "tokenizer.json");
    remove_file(folder, "tokenizer_config.json");
    rmdir(folder);
}

/* ---- threads ---- */

static void *encode_in_thread(void *arg) {
    const mr_tokenizer *t = arg;
    for (int i = 0; i < 200; i++) {
        mr_tokens ids = {0};
        mr_error err = {0};
        if (mr_tokenizer_encode(t, "abcabdebcaabbcc", 15, 0, &ids, &err) != MR_OK || ids.n != 9) return arg;
        mr_tokens_free(&ids);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    mr_tokenizer *t = from_json(small_bpe);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, t), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    mr_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe),           cmocka_unit_test(test_long_texts), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_leading_space), cmocka_unit_test(test_forms),      cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_bad_json),      cmocka_unit_test(test_bad_files),  cmocka_unit_test(test_folder),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
