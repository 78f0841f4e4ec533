/* A vocabulary: ids 0 .. n-1, their byte strings, and the way back from string to id. */
#ifndef MR_TEXT_TOKENIZER_VOCAB_H
#define MR_TEXT_TOKENIZER_VOCAB_H

#include "base/error.h"
#include "text/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MR_VOCAB_MAX = 1 << 22 }; /* more ids than any model has; bounds what a hostile file can ask for */

enum {
    MR_TOKEN_EXISTS = 1,   /* the id has a string */
    MR_TOKEN_SPECIAL = 2,  /* control: left out of answers */
    MR_TOKEN_ADDED = 4,    /* matched in the text before the model sees it */
    MR_TOKEN_BYTE = 8,     /* stands for one byte, "<0x0A>" */
    MR_TOKEN_HIDDEN = 16,  /* not found by mr_vocab_find (the model must not make it) */
    MR_TOKEN_EOG = 32,     /* ends a generation */
    MR_TOKEN_RENAMED = 64, /* decodes to another text than the model knows it by */
    MR_TOKEN_UNKNOWN = 128,
    MR_TOKEN_UNUSED = 256, /* SentencePiece: merges may pass through it, but it is taken apart again at the end */
};

typedef struct mr_vocab_slot {
    uint32_t tag; /* upper hash bits */
    int32_t id;   /* -1: free */
} mr_vocab_slot;

typedef struct mr_vocab {
    size_t n;
    char *bytes;
    uint32_t *offset; /* n + 1; string of id: bytes[offset[id] .. offset[id + 1]) */
    uint16_t *attr;   /* MR_TOKEN_… */
    mr_vocab_slot *slots;
    size_t mask;
    size_t max_len; /* of the strings that can be found */
} mr_vocab;

/* Strings on their way into a vocabulary; the bytes must outlive mr_vocab_build. */
typedef struct mr_vocab_item {
    const char *text; /* NULL: the id is unused */
    uint32_t len;
    uint16_t attr;
} mr_vocab_item;

/* Copies items[0..n) into *vocab; where strings are equal the last id is found. */
mr_status mr_vocab_build(mr_vocab *vocab, const mr_vocab_item *items, size_t n, mr_error *err);
void mr_vocab_free(mr_vocab *vocab);

static inline uint64_t mr_vocab_mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    return x;
}

/* A hash that is quick on short strings; never 0 matters to nobody. */
static inline uint64_t mr_vocab_hash(const char *text, size_t len) {
    uint64_t h = len * 0x9E3779B97F4A7C15u, w;
    while (len >= 8) {
        memcpy(&w, text, 8);
        h = mr_vocab_mix(h ^ w) + 0x9E3779B97F4A7C15u;
        text += 8;
        len -= 8;
    }
    if (len >= 4) {
        uint32_t a, b;
        memcpy(&a, text, 4);
        memcpy(&b, text + len - 4, 4);
        h ^= (uint64_t)a << 32 | b;
    } else if (len > 0) {
        h ^= (uint64_t)(uint8_t)text[0] << 16 | (uint64_t)(uint8_t)text[len / 2] << 8 | (uint8_t)text[len - 1];
    }
    return mr_vocab_mix(h * 0xff51afd7ed558ccdu);
}

static inline const char *mr_vocab_text(const mr_vocab *vocab, mr_token id, size_t *len) {
    *len = vocab->offset[id + 1] - vocab->offset[id];
    return vocab->bytes + vocab->offset[id];
}

static inline mr_token mr_vocab_find_hashed(const mr_vocab *vocab, uint64_t hash, const char *text, size_t len) {
    if (len > vocab->max_len) return -1;
    for (size_t i = (size_t)hash & vocab->mask;; i = (i + 1) & vocab->mask) {
        const mr_vocab_slot *slot = &vocab->slots[i];
        if (slot->id < 0) return -1;
        if (slot->tag != (uint32_t)(hash >> 32)) continue;
        size_t n;
        const char *have = mr_vocab_text(vocab, slot->id, &n);
        if (n == len && memcmp(have, text, len) == 0) return slot->id;
    }
}

/* The id of text[0..len), or -1. */
static inline mr_token mr_vocab_find(const mr_vocab *vocab, const char *text, size_t len) {
    if (len > vocab->max_len) return -1;
    return mr_vocab_find_hashed(vocab, mr_vocab_hash(text, len), text, len);
}

/* The byte behind "<0xHH>" in either case, or -1. */
int mr_byte_token_value(const char *text, size_t len);

/* GPT-2's letters for bytes: the code point that stands for a byte, and back (-1 when c stands for none). */
uint32_t mr_byte_level_char(uint8_t byte);
int mr_byte_level_byte(uint32_t c);

/* Turns text in those letters into the bytes it stands for: writes to out (at least len bytes) and sets *n; false, with
 * nothing useful written, when it has any other character. */
bool mr_byte_level_decode(const char *text, size_t len, char *out, size_t *n);

#endif
