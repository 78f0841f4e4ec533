#include "base/utf8.h"

/* Bounds of the second byte for each lead byte: they exclude overlong forms, surrogates and values over U+10FFFF. */
static size_t sequence_shape(uint8_t lead, uint8_t *second_min, uint8_t *second_max) {
    *second_min = 0x80;
    *second_max = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *second_min = 0xA0;
        if (lead == 0xED) *second_max = 0x9F;
        return 3;
    }
    if (lead < 0xF5) {
        if (lead == 0xF0) *second_min = 0x90;
        if (lead == 0xF4) *second_max = 0x8F;
        return 4;
    }
    return 0;
}

size_t mr_utf8_decode_checked(const char *text, size_t len, uint32_t *code_point, bool *valid) {
    const uint8_t *s = (const uint8_t *)text;
    uint8_t lo, hi;
    size_t need = sequence_shape(s[0], &lo, &hi);
    *valid = false;
    *code_point = MR_UTF8_REPLACEMENT;
    if (need == 0) return 1;
    if (need == 1) {
        *code_point = s[0];
        *valid = true;
        return 1;
    }
    uint32_t value = s[0] & (0x7Fu >> need);
    for (size_t i = 1; i < need; i++) {
        if (i >= len || s[i] < lo || s[i] > hi) return i;
        value = (value << 6) | (s[i] & 0x3Fu);
        lo = 0x80;
        hi = 0xBF;
    }
    *code_point = value;
    *valid = true;
    return need;
}

size_t mr_utf8_decode(const char *text, size_t len, uint32_t *code_point) {
    bool valid;
    return mr_utf8_decode_checked(text, len, code_point, &valid);
}

size_t mr_utf8_encode(uint32_t c, char out[4]) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = MR_UTF8_REPLACEMENT;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t mr_utf8_incomplete_tail(const char *text, size_t len) {
    const uint8_t *s = (const uint8_t *)text;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t lo, hi, lead = s[len - back];
        if ((lead & 0xC0) == 0x80) continue;
        if (sequence_shape(lead, &lo, &hi) <= back) return 0;
        if (back >= 2 && (s[len - back + 1] < lo || s[len - back + 1] > hi)) return 0;
        return back;
    }
    return 0;
}

bool mr_utf8_valid(const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        bool valid;
        i += mr_utf8_decode_checked(text + i, len - i, &c, &valid);
        if (!valid) return false;
    }
    return true;
}
