/* Runs a tokenizer over many texts for differential.py.
 *
 *   driver MODEL   (a .gguf, tokenizer.json, tokenizer.model or a folder)
 *
 * Standard input is a row of requests: a letter, a little-endian u32 n, and n bytes. 'e': text, special texts are
 * tokens; 'p': text, special texts are plain; 'b': as e, with bos and eos; 'd' and 's': ids (i32) to decode, keeping or
 * skipping special ones; 't': the same as 'd' through the streaming decoder. Each answer is a u32 n and n ids or bytes;
 * 0xFFFFFFFF and a NUL-terminated sentence is an error. */
#include "base/buf.h"
#include "base/file.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load(mr_tokenizer **t, const char *path) {
    mr_error err = {0};
    mr_status status;
    if (mr_has_suffix(path, ".gguf")) {
        mr_gguf *gguf;
        status = mr_gguf_open(&gguf, &path, 1, &err);
        if (status == MR_OK) {
            status = mr_tokenizer_from_gguf(t, gguf, &err);
            mr_gguf_close(gguf);
        }
    } else {
        status = mr_tokenizer_from_folder(t, path, &err);
    }
    if (status == MR_OK) return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}

static void answer(const void *bytes, size_t n, uint32_t count) {
    fwrite(&count, 4, 1, stdout);
    if (n > 0) fwrite(bytes, 1, n, stdout);
}

static void answer_error(const mr_error *err) {
    uint32_t mark = UINT32_MAX;
    fwrite(&mark, 4, 1, stdout);
    fwrite(err->text, 1, strlen(err->text) + 1, stdout);
}

static void encode(const mr_tokenizer *t, char kind, const char *text, size_t n) {
    unsigned flags = kind == 'p' ? 0 : MR_ENCODE_SPECIAL_TEXT;
    if (kind == 'b') flags |= MR_ENCODE_ADD_BOS_EOS;
    mr_tokens ids = {0};
    mr_error err = {0};
    if (mr_tokenizer_encode(t, text, n, flags, &ids, &err) == MR_OK) {
        answer(ids.ids, ids.n * sizeof *ids.ids, (uint32_t)ids.n);
    } else {
        answer_error(&err);
    }
    mr_tokens_free(&ids);
}

static void decode(const mr_tokenizer *t, char kind, const mr_token *ids, size_t n) {
    mr_buf text = {0};
    mr_error err = {0};
    mr_status status = MR_OK;
    if (kind == 't') {
        mr_detokenizer *d = mr_detokenizer_new(t, NULL, 0, false);
        for (size_t i = 0; i < n && status == MR_OK; i++) status = mr_detokenizer_push(d, ids[i], &text, &err);
        if (status == MR_OK) status = mr_detokenizer_finish(d, &text, &err);
        mr_detokenizer_free(d);
    } else {
        status = mr_tokenizer_decode(t, ids, n, kind == 's', &text, &err);
    }
    if (status == MR_OK) {
        answer(mr_buf_cstr(&text), text.len, (uint32_t)text.len);
    } else {
        answer_error(&err);
    }
    mr_buf_free(&text);
}

int main(int argc, char **argv) {
    mr_tokenizer *t;
    if (argc != 2) return fprintf(stderr, "usage: driver MODEL\n"), 2;
    if (load(&t, argv[1]) != 0) return 1;
    char kind;
    uint32_t n;
    char *data = NULL;
    while (fread(&kind, 1, 1, stdin) == 1 && fread(&n, 4, 1, stdin) == 1) {
        char *grown = realloc(data, (size_t)n + 1);
        if (grown == NULL) return 1;
        data = grown;
        if (fread(data, 1, n, stdin) != n) return 1;
        if (kind == 'e' || kind == 'p' || kind == 'b') {
            encode(t, kind, data, n);
        } else {
            decode(t, kind, (const mr_token *)data, n / sizeof(mr_token));
        }
    }
    fflush(stdout);
    free(data);
    mr_tokenizer_free(t);
    return 0;
}
