/* A vocabulary in a GGUF image: loading, encoding and decoding. */
#include "base/buf.h"
#include "base/log.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const mr_tokenizer *t) {
    static const char sample[] =
        "Hello, w\xC3\xB6rld 1234's  \n\n\xE6\x97\xA5\xE6\x9C\xAC <s>\xF0\x9F\x98\x80\xFF\xE2\x96\x81 x</s>";
    mr_tokens ids = {0};
    mr_buf text = {0};
    mr_error err = {0};
    for (unsigned flags = 0; flags < 4; flags++) {
        ids.n = 0;
        if (mr_tokenizer_encode(t, sample, sizeof sample - 1, flags, &ids, &err) == MR_OK) {
            mr_tokenizer_decode(t, ids.ids, ids.n, flags & 1, &text, &err);
        } else if (err.text[0] == '\0') {
            abort();
        }
    }
    for (size_t i = 0; i < mr_tokenizer_n_vocab(t) && i < 300; i++) {
        size_t n;
        if (mr_tokenizer_piece(t, (mr_token)i, &n) == NULL) abort();
        mr_tokenizer_is_eog(t, (mr_token)i);
    }
    mr_buf_free(&text);
    mr_tokens_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mr_gguf *gguf;
    mr_tokenizer *t;
    mr_error err = {0};
    mr_log_set_filter("off");
    if (mr_gguf_open_memory(&gguf, data, size, &err) != MR_OK) return 0;
    mr_status status = mr_tokenizer_from_gguf(&t, gguf, &err);
    mr_gguf_close(gguf);
    if (status != MR_OK) return err.text[0] == '\0' ? abort(), 0 : 0;
    use(t);
    mr_tokenizer_free(t);
    return 0;
}
