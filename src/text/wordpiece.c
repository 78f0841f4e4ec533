#include "text/wordpiece.h"

#include <stdlib.h>

static mr_status unknown(const mr_wordpiece *w, size_t before, mr_tokens *out, mr_error *err) {
    out->n = before;
    if (w->unk < 0) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the text has a word that the vocabulary does not know, and the vocabulary has "
                       "no unknown token");
    }
    return mr_tokens_push(out, w->unk) ? MR_OK : mr_fail_nomem(err, out->n * sizeof *out->ids, "token ids");
}

static bool is_inside_char(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* The longest piece that begins at text[at]; its length in text goes to *n. -1 when there is none. */
static mr_token longest(const mr_wordpiece *w, char *key, const char *text, size_t len, size_t at, size_t *n) {
    size_t prefix = at > 0 ? w->prefix_len : 0;
    if (w->vocab->max_len < prefix) return -1;
    size_t most = len - at;
    if (most > w->vocab->max_len - prefix) most = w->vocab->max_len - prefix;
    memcpy(key + w->prefix_len, text + at, most); /* the prefix stands in front of it */
    const char *piece = key + w->prefix_len - prefix;
    for (size_t k = most; k > 0; k--) {
        if (at + k < len && is_inside_char(text[at + k])) continue;
        mr_token id = mr_vocab_find(w->vocab, piece, prefix + k);
        if (id < 0) continue;
        *n = k;
        return id;
    }
    return -1;
}

mr_status mr_wordpiece_encode(const mr_wordpiece *w, const char *text, size_t len, mr_tokens *out, mr_error *err) {
    size_t before = out->n, n_chars = 0;
    if (w->whole_words) {
        mr_token id = mr_vocab_find(w->vocab, text, len);
        if (id < 0) return unknown(w, before, out, err);
        return mr_tokens_push(out, id) ? MR_OK : mr_fail_nomem(err, out->n * sizeof *out->ids, "token ids");
    }
    for (size_t i = 0; i < len; i++) n_chars += !is_inside_char(text[i]);
    if (n_chars > w->max_chars) return unknown(w, before, out, err);
    char small[1024], *key = small;
    size_t need = w->prefix_len + (len < w->vocab->max_len ? len : w->vocab->max_len) + 1;
    if (need > sizeof small) key = malloc(need);
    if (key == NULL) return mr_fail_nomem(err, need, "tokenizing a word");
    memcpy(key, w->prefix, w->prefix_len);
    mr_status status = MR_OK;
    for (size_t at = 0, n = 0; at < len && status == MR_OK; at += n) {
        mr_token id = longest(w, key, text, len, at, &n);
        if (id < 0) {
            status = unknown(w, before, out, err);
            break;
        }
        if (!mr_tokens_push(out, id)) status = mr_fail_nomem(err, out->n * sizeof *out->ids, "token ids");
    }
    if (key != small) free(key);
    return status;
}
