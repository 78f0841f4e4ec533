#include "text/tokenizer_vocab.h"

#include "base/utf8.h"

#include <stdlib.h>

static void insert(mr_vocab *vocab, mr_token id) {
    size_t len;
    const char *text = mr_vocab_text(vocab, id, &len);
    uint64_t hash = mr_vocab_hash(text, len);
    size_t i = (size_t)hash & vocab->mask;
    for (; vocab->slots[i].id >= 0; i = (i + 1) & vocab->mask) {
        if (vocab->slots[i].tag != (uint32_t)(hash >> 32)) continue;
        size_t n;
        const char *have = mr_vocab_text(vocab, vocab->slots[i].id, &n);
        if (n == len && memcmp(have, text, len) == 0) break;
    }
    vocab->slots[i] = (mr_vocab_slot){.tag = (uint32_t)(hash >> 32), .id = id};
    if (len > vocab->max_len) vocab->max_len = len;
}

mr_status mr_vocab_build(mr_vocab *vocab, const mr_vocab_item *items, size_t n, mr_error *err) {
    *vocab = (mr_vocab){0};
    if (n > MR_VOCAB_MAX) {
        return mr_fail(err, MR_ERR_LIMIT, "the vocabulary has %zu tokens; at most %d are supported", n, MR_VOCAB_MAX);
    }
    size_t total = 0, n_slots = 64;
    for (size_t i = 0; i < n; i++) total += items[i].len;
    if (total > UINT32_MAX)
        return mr_fail(err, MR_ERR_LIMIT, "the vocabulary's strings are longer than 4 GiB in total");
    while (n_slots < 2 * n) n_slots *= 2;
    vocab->n = n;
    vocab->mask = n_slots - 1;
    vocab->bytes = malloc(total + 1);
    vocab->offset = malloc((n + 1) * sizeof *vocab->offset);
    vocab->attr = calloc(n + 1, sizeof *vocab->attr);
    vocab->slots = malloc(n_slots * sizeof *vocab->slots);
    if (vocab->bytes == NULL || vocab->offset == NULL || vocab->attr == NULL || vocab->slots == NULL) {
        mr_vocab_free(vocab);
        return mr_fail_nomem(err, total + n * 10 + n_slots * sizeof *vocab->slots, "the vocabulary");
    }
    memset(vocab->slots, 0xFF, n_slots * sizeof *vocab->slots);
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const mr_vocab_item *ahead = i + 8 < n ? &items[i + 8] : NULL;
        if (ahead != NULL && ahead->text != NULL) {
            __builtin_prefetch(&vocab->slots[mr_vocab_hash(ahead->text, ahead->len) & vocab->mask]);
        }
        vocab->offset[i] = at;
        vocab->offset[i + 1] = at + items[i].len;
        if (items[i].text == NULL) continue;
        memcpy(vocab->bytes + at, items[i].text, items[i].len);
        at += items[i].len;
        vocab->attr[i] = items[i].attr | MR_TOKEN_EXISTS;
        if (items[i].len > 0 && (items[i].attr & MR_TOKEN_HIDDEN) == 0) insert(vocab, (mr_token)i);
    }
    if (n == 0) vocab->offset[0] = 0;
    return MR_OK;
}

void mr_vocab_free(mr_vocab *vocab) {
    free(vocab->bytes);
    free(vocab->offset);
    free(vocab->attr);
    free(vocab->slots);
    *vocab = (mr_vocab){0};
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int mr_byte_token_value(const char *text, size_t len) {
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Printable Latin-1 stands for itself; the 68 other bytes are U+0100 and up, in order. */
static bool stands_for_itself(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

uint32_t mr_byte_level_char(uint8_t byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143;
}

int mr_byte_level_byte(uint32_t c) {
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7F);
    return c == 0x143 ? 0xAD : -1;
}

bool mr_byte_level_decode(const char *text, size_t len, char *out, size_t *n) {
    *n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        bool valid;
        i += mr_utf8_decode_checked(text + i, len - i, &c, &valid);
        int byte = mr_byte_level_byte(c);
        if (!valid || byte < 0) return false;
        out[(*n)++] = (char)byte;
    }
    return true;
}
