#define _GNU_SOURCE /* memmem */
/* Any text through good tokenizers of every kind: the first byte chooses the vocabulary (the golden ones), the second
 * the flags, the rest is the text. What a stream of ids gives must equal what decoding at once gives, and a byte-level
 * vocabulary must give a well-formed text back. */
#include "base/buf.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TOKENIZERS = 64 };

static mr_tokenizer *tokenizers[MAX_TOKENIZERS];
static bool keeps_all[MAX_TOKENIZERS]; /* decode(encode(text)) is the text */
static size_t n_tokenizers;

/* The golden vocabularies, found from the folder the program runs in or the one above. */
static void load_all(void) {
    static const char *const folders[] = {"tests/conformance/tokenizers/golden",
                                          "../tests/conformance/tokenizers/golden",
                                          "../../tests/conformance/tokenizers/golden"};
    struct dirent **names = NULL;
    int n = -1;
    size_t k = 0;
    for (; k < 3 && n < 0; k++) n = scandir(folders[k], &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[1024];
        mr_error err = {0};
        const char *name = names[i]->d_name;
        snprintf(path, sizeof path, "%s/%s", folders[k - 1], name);
        bool wanted = mr_has_suffix(name, ".json") || mr_has_suffix(name, ".model");
        if (wanted && n_tokenizers < MAX_TOKENIZERS) {
            if (mr_tokenizer_from_folder(&tokenizers[n_tokenizers], path, &err) != MR_OK) abort();
            keeps_all[n_tokenizers++] = strcmp(name, "t-deepseek.json") == 0;
        }
        free(names[i]);
    }
    free(names);
    if (n_tokenizers == 0) {
        fprintf(stderr, "run this in the repository: tests/conformance/tokenizers/golden is needed\n");
        exit(1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (n_tokenizers == 0) load_all();
    if (size < 2) return 0;
    size_t which = data[0] % n_tokenizers;
    const mr_tokenizer *t = tokenizers[which];
    const char *text = (const char *)data + 2;
    size_t len = size - 2;
    mr_tokens ids = {0};
    mr_buf once = {0}, streamed = {0};
    mr_error err = {0};
    if (mr_tokenizer_encode(t, text, len, data[1] & 3u, &ids, &err) != MR_OK) {
        if (err.text[0] == '\0') abort();
        mr_tokens_free(&ids);
        return 0;
    }
    bool skip = (data[1] & 4) != 0;
    if (mr_tokenizer_decode(t, ids.ids, ids.n, skip, &once, &err) != MR_OK) abort();
    mr_detokenizer *d = mr_detokenizer_new(t, NULL, 0, skip);
    for (size_t i = 0; i < ids.n; i++) {
        size_t before = streamed.len;
        if (mr_detokenizer_push(d, ids.ids[i], &streamed, &err) != MR_OK) abort();
        if (!mr_utf8_valid(mr_buf_cstr(&streamed) + before, streamed.len - before)) abort();
    }
    if (mr_detokenizer_finish(d, &streamed, &err) != MR_OK) abort();
    mr_detokenizer_free(d);
    if (once.len != streamed.len || memcmp(mr_buf_cstr(&once), mr_buf_cstr(&streamed), once.len) != 0) abort();
    if (keeps_all[which] && (data[1] & 7) == 0 && mr_utf8_valid(text, len) && memchr(text, '<', len) == NULL) {
        /* (added tokens take white space along: texts that may hold one are left out) */
        bool plain = memmem(text, len, "word", 4) == NULL && memmem(text, len, "[SPECIAL", 8) == NULL;
        if (plain && (once.len != len || memcmp(mr_buf_cstr(&once), text, len) != 0)) abort();
    }
    mr_buf_free(&once);
    mr_buf_free(&streamed);
    mr_tokens_free(&ids);
    return 0;
}
