/* tokenizer.json and tokenizer.model: the loaders, and encoding and decoding with what they accept. The input is the
 * file; a 0xFF byte may end it, what follows is a text to encode. */
#include "base/buf.h"
#include "text/tokenizer_hf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const mr_tokenizer *t, const char *text, size_t len) {
    mr_error err = {0};
    for (unsigned flags = 0; flags < 4; flags++) {
        mr_tokens ids = {0};
        mr_buf once = {0}, streamed = {0};
        if (mr_tokenizer_encode(t, text, len, flags, &ids, &err) == MR_OK) {
            if (mr_tokenizer_decode(t, ids.ids, ids.n, flags & 1, &once, &err) != MR_OK) abort();
            mr_detokenizer *d = mr_detokenizer_new(t, NULL, 0, flags & 1);
            for (size_t i = 0; i < ids.n; i++) mr_detokenizer_push(d, ids.ids[i], &streamed, &err);
            mr_detokenizer_finish(d, &streamed, &err);
            mr_detokenizer_free(d);
            if (once.len != streamed.len || memcmp(mr_buf_cstr(&once), mr_buf_cstr(&streamed), once.len) != 0) abort();
            for (size_t i = 0; i < ids.n; i++) {
                size_t n;
                if (mr_tokenizer_piece(t, ids.ids[i], &n) == NULL && (size_t)ids.ids[i] < mr_tokenizer_n_vocab(t))
                    abort();
            }
        } else if (err.text[0] == '\0') {
            abort();
        }
        mr_buf_free(&once);
        mr_buf_free(&streamed);
        mr_tokens_free(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char sample[] =
        "Hello, w\xC3\xB6rld 123's  \n\xE6\x97\xA5\xE6\x9C\xAC <s>\xF0\x9F\x98\x80\xE2\x96\x81 <raw>a\xCC\x81";
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0xFF, size);
    size_t n_file = end == NULL ? size : (size_t)(end - data);
    mr_tokenizer *t = mr_tokenizer_new();
    char *copy = malloc(size + 1);
    if (t == NULL || copy == NULL) abort();
    if (size > 0) memcpy(copy, data, size);
    mr_error err = {0};
    mr_status status;
    if (n_file > 0 && data[0] == 0x0A) { /* a ModelProto begins with field 1 */
        status = mr_tokenizer_read_sentencepiece(t, copy, n_file, NULL, 0, &err);
    } else {
        status = mr_tokenizer_read_json(t, copy, n_file, &err);
    }
    if (status == MR_OK) status = mr_tokenizer_finish(t, &err);
    if (status == MR_OK) {
        use(t, sample, sizeof sample - 1);
        if (end != NULL) use(t, copy + n_file + 1, size - n_file - 1);
    } else if (err.text[0] == '\0') {
        abort();
    }
    mr_tokenizer_free(t);
    free(copy);
    return 0;
}
