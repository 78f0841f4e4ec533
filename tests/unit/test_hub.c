/* floors: model */
#define _DEFAULT_SOURCE
#include "model/hub_blob.h"
#include "model/hub_cache.h"
#include "model/hub_digest.h"
#include "model/hub_id.h"
#include "model/hub_select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_id(const char *text, const char *repo, const char *revision, const char *file) {
    mr_hub_id id;
    mr_error err = {0};
    if (mr_hub_id_parse(&id, text, &err) != MR_OK) fail_msg("%s: %s", text, err.text);
    assert_string_equal(id.repo, repo);
    assert_string_equal(id.revision, revision);
    assert_string_equal(id.file, file);
}

static void test_names(void **state) {
    (void)state;
    assert_id("org/name", "org/name", "main", "");
    assert_id("org/Name-1.5_b@v2", "org/Name-1.5_b", "v2", "");
    assert_id("org/name@refs/pr/3", "org/name", "refs/pr/3", "");
    assert_id("org/name/sub/m-Q4_K_M.gguf", "org/name", "main", "sub/m-Q4_K_M.gguf");
    assert_id("org/name@v1/m.gguf", "org/name", "v1", "m.gguf");
    assert_id("org/name.gguf", "org/name.gguf", "main", "");
    static const char *const BAD[] = {"",
                                      "name",
                                      "/name",
                                      "org/",
                                      "./name",
                                      "../name",
                                      "org/..",
                                      "org/a--b",
                                      "org/-a",
                                      "org/a.",
                                      "or g/a",
                                      "org/a@",
                                      "org/a@../b",
                                      "org/a@b/../c",
                                      "org/a@b\nc",
                                      "org/a/../m.gguf",
                                      "org/a//m.gguf",
                                      "a/b/c",
                                      "org/a@v/",
                                      "~/a",
                                      "org@v1/name",
                                      "https://x/y",
                                      "org/a/m\\.gguf"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        if (mr_hub_id_plausible(BAD[i])) fail_msg("\"%s\" is taken for a repository", BAD[i]);
    }
    char longest[400];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    longest[3] = '/';
    assert_false(mr_hub_id_plausible(longest));
    assert_false(mr_hub_file_is_safe("/etc/passwd"));
    assert_false(mr_hub_file_is_safe("a/../../b"));
    assert_true(mr_hub_file_is_safe("a/.hidden/..b"));
    assert_false(mr_hub_etag_is_safe("../x"));
    assert_false(mr_hub_etag_is_safe(""));
    assert_true(mr_hub_etag_is_safe("d41d8cd98f00b204e9800998ecf8427e-12"));
}

static void test_digests(void **state) {
    (void)state;
    char hex[MR_DIGEST_HEX_MAX + 1];
    mr_digest *d = mr_digest_new(MR_DIGEST_SHA256);
    assert_true(mr_digest_add(d, "a", 1) && mr_digest_add(d, "bc", 2) && mr_digest_finish(d, hex));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2 */
    mr_digest_free(d);
    d = mr_digest_new(MR_DIGEST_SHA1);
    assert_true(mr_digest_add(d, "abc", 3) && mr_digest_finish(d, hex));
    assert_string_equal(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
    mr_digest_free(d);
}

/* What is selected of a list, as "needed|open", or the error. */
static const char *selected(const char *const *names, mr_hub_want want, const char *file) {
    static char text[4096];
    mr_hub_names all = {0}, needed, open;
    const char *list[32];
    while (names[all.n] != NULL) list[all.n] = names[all.n], all.n++;
    all.names = list;
    mr_hub_request request = {.want = want, .files = &file, .n_files = file != NULL};
    mr_arena arena = {0};
    mr_error err = {0};
    text[0] = '\0';
    if (mr_hub_select(&all, &request, "", "o/r", &arena, &needed, &open, &err) != MR_OK) {
        snprintf(text, sizeof text, "%s", err.text);
    } else {
        for (size_t i = 0; i < needed.n; i++) strcat(strcat(text, i > 0 ? " " : ""), needed.names[i]);
        strcat(text, "|");
        for (size_t i = 0; i < open.n; i++) strcat(strcat(text, i > 0 ? " " : ""), open.names[i]);
    }
    mr_arena_free(&arena);
    return text;
}

static void test_selection(void **state) {
    (void)state;
    static const char *const FOLDER[] = {"README.md",           "config.json",
                                         "model.safetensors",   "tokenizer.json",
                                         "tokenizer.model",     "consolidated.safetensors",
                                         "pytorch_model.bin",   "onnx/config.json",
                                         "chat_template.jinja", NULL};
    assert_string_equal(selected(FOLDER, MR_HUB_MODEL, NULL),
                        "config.json tokenizer.json tokenizer.model chat_template.jinja|");
    assert_non_null(strstr(selected(FOLDER, MR_HUB_GGUF, NULL), "text_model"));
    static const char *const SPLIT[] = {"q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf", "mmproj-f16.gguf",
                                        "q8/m-00001-of-00002.gguf.txt", NULL};
    assert_string_equal(selected(SPLIT, MR_HUB_GGUF, NULL),
                        "q4/m-00001-of-00002.gguf q4/m-00002-of-00002.gguf|q4/m-00001-of-00002.gguf");
    assert_string_equal(selected(SPLIT, MR_HUB_MODEL, "mmproj-f16.gguf"), "mmproj-f16.gguf|mmproj-f16.gguf");
    static const char *const TWO[] = {"m-Q4_K_M.gguf", "m-Q8_0.gguf", "tokenizer.json", NULL};
    assert_non_null(strstr(selected(TWO, MR_HUB_GGUF, NULL), "m-Q4_K_M.gguf, m-Q8_0.gguf"));
    assert_non_null(strstr(selected(TWO, MR_HUB_GGUF, "m-q8_0.gguf"), "did you mean m-Q8_0.gguf?"));
    assert_string_equal(selected(TWO, MR_HUB_TOKENIZER, NULL), "tokenizer.json|");
    static const char *const NONE[] = {NULL};
    assert_non_null(strstr(selected(NONE, MR_HUB_MODEL, NULL), "no files"));
}

/* A blob goes on where it was left; another size, or a broken note of its pieces, begins anew. */
static void test_blob_goes_on(void **state) {
    (void)state;
    char folder[] = "/tmp/mr_hub_XXXXXX";
    assert_non_null(mkdtemp(folder));
    enum { SIZE = 3 << 20 };
    char *bytes = calloc(1, SIZE);
    mr_error err = {0};
    mr_hub_blob b;
    bool more;
    static const char ETAG[] = "bb7208bc9b5d7c04f1236a82a0093a5e33f40423d5ba8d4266f7092c3ba43b62"; /* not of zeros */
    assert_int_equal(mr_hub_blob_open(&b, folder, ETAG, SIZE, &err), MR_OK);
    assert_false(b.resumed);
    assert_int_equal(b.n_pieces, 3);
    assert_int_equal(mr_hub_blob_write(&b, 1, bytes, 1000, &err), MR_OK);
    assert_int_not_equal(mr_hub_blob_write(&b, 1, bytes, SIZE, &err), MR_OK); /* more than the piece */
    mr_hub_blob_close(&b);

    assert_int_equal(mr_hub_blob_open(&b, folder, ETAG, SIZE, &err), MR_OK);
    assert_true(b.resumed && b.n_done == 1000 && b.done[1] == 1000);
    assert_int_equal(mr_hub_blob_digest(&b, SIZE, &more, &err), MR_OK);
    assert_int_equal(b.n_digested, 0); /* there is a gap before it */
    assert_int_equal(mr_hub_blob_write(&b, 0, bytes, 1 << 20, &err), MR_OK);
    assert_int_equal(mr_hub_blob_digest(&b, 4096, &more, &err), MR_OK);
    assert_true(more && b.n_digested == 4096);
    assert_int_equal(mr_hub_blob_finish(&b, &err), MR_ERR_INTERNAL);
    mr_hub_blob_close(&b);

    char path[256];
    snprintf(path, sizeof path, "%s/blobs/%s.mistral-runner.pieces", folder, ETAG);
    FILE *file = fopen(path, "r+");
    fseek(file, 24, SEEK_SET);
    fwrite("\xff\xff\xff\xff\xff\xff\xff\xff", 1, 8, file); /* more than a piece holds */
    fclose(file);
    assert_int_equal(mr_hub_blob_open(&b, folder, ETAG, SIZE, &err), MR_OK);
    assert_int_equal(b.n_done, 0);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(mr_hub_blob_write(&b, i, bytes, 1 << 20, &err), MR_OK);
    assert_int_equal(mr_hub_blob_digest(&b, SIZE, &more, &err), MR_OK);
    assert_int_equal(mr_hub_blob_finish(&b, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "digest"));
    assert_int_not_equal(access(path, F_OK), 0);
    mr_hub_blob_close(&b);

    assert_int_equal(mr_hub_blob_open(&b, folder, "plain", 2, &err), MR_OK); /* an etag that is no digest */
    assert_int_equal(mr_hub_blob_write(&b, 0, "ok", 2, &err), MR_OK);
    assert_int_equal(mr_hub_blob_digest(&b, 1, &more, &err), MR_OK);
    assert_int_equal(mr_hub_blob_finish(&b, &err), MR_OK);
    mr_hub_blob_close(&b);
    assert_int_equal(mr_hub_blob_open(&b, folder, "vast", (uint64_t)1 << 62, &err), MR_ERR_LIMIT);
    mr_hub_blob_close(&b);
    assert_int_equal(mr_hub_link(folder, "c0ffee", "sub/file", "plain", &err), MR_OK);
    snprintf(path, sizeof path, "%s/snapshots/c0ffee/sub/file", folder);
    assert_int_equal(access(path, R_OK), 0);
    free(bytes);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_blob_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
