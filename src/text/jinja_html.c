/* The striptags filter: HTML without its tags, its character references resolved. */
#define _GNU_SOURCE /* memmem */
#include "text/jinja_seq.h"
#include "text/jinja_text.h"

#include "base/utf8.h"

#include <string.h>

/* The references that text uses; the full HTML list has 2,231 names. */
static const struct {
    const char *name;
    uint32_t code_point;
} references[] = {
    {"amp", '&'},      {"apos", '\''},    {"bull", 0x2022},   {"cent", 0xA2},    {"copy", 0xA9},    {"deg", 0xB0},
    {"euro", 0x20AC},  {"gt", '>'},       {"hellip", 0x2026}, {"laquo", 0xAB},   {"ldquo", 0x201C}, {"lsquo", 0x2018},
    {"lt", '<'},       {"mdash", 0x2014}, {"middot", 0xB7},   {"nbsp", 0xA0},    {"ndash", 0x2013}, {"para", 0xB6},
    {"plusmn", 0xB1},  {"pound", 0xA3},   {"quot", '"'},      {"raquo", 0xBB},   {"rdquo", 0x201D}, {"reg", 0xAE},
    {"rsquo", 0x2019}, {"sect", 0xA7},    {"times", 0xD7},    {"trade", 0x2122}, {"yen", 0xA5},
};

/* Removes what lies between open and close, in one pass from the left. */
static void remove_between(mr_buf *text, const char *open, const char *close) {
    size_t n_open = strlen(open), n_close = strlen(close), kept = 0, i = 0;
    while (i < text->len) {
        char *start = memmem(text->data + i, text->len - i, open, n_open);
        char *end = start == NULL ? NULL : memmem(start, text->len - (size_t)(start - text->data), close, n_close);
        size_t until = end == NULL ? text->len : (size_t)(start - text->data);
        memmove(text->data + kept, text->data + i, until - i);
        kept += until - i;
        i = end == NULL ? text->len : (size_t)(end - text->data) + n_close;
    }
    text->len = kept;
}

static size_t numeric_reference(const char *s, size_t n, uint32_t *c) {
    size_t i = 2;
    bool hex = i < n && (s[i] == 'x' || s[i] == 'X');
    uint32_t value = 0;
    size_t start = hex ? ++i : i;
    for (; i < n; i++) {
        char ch = (char)(s[i] | 32);
        int digit = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : hex && ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
        if (digit < 0) break;
        if (value < 0x110000) value = value * (hex ? 16 : 10) + (uint32_t)digit;
    }
    if (i == start) return 0;
    *c = value == 0 || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF) ? 0xFFFD : value;
    return i < n && s[i] == ';' ? i + 1 : i;
}

/* The length of the character reference at s (which starts with '&'), 0 when it is none. */
static size_t reference(const char *s, size_t n, uint32_t *c) {
    if (n > 2 && s[1] == '#') return numeric_reference(s, n, c);
    for (size_t i = 0; i < sizeof references / sizeof *references; i++) {
        size_t len = strlen(references[i].name);
        if (len + 1 >= n || memcmp(s + 1, references[i].name, len) != 0 || s[len + 1] != ';') continue;
        *c = references[i].code_point;
        return len + 2;
    }
    return 0;
}

static void put_unescaped(mr_buf *buf, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = s[i] == '&' ? reference(s + i, n - i, &c) : 0;
        if (len == 0) {
            mr_buf_putc(buf, s[i++]);
            continue;
        }
        char utf8[4];
        mr_buf_append(buf, utf8, mr_utf8_encode(c, utf8));
        i += len;
    }
}

bool mr_jj_filter_striptags(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value text, bare;
    jj_vec words = {0};
    mr_buf buf = {0}, joined = {0};
    if (!mr_jj_plain_str(rt, c->a[0], &text) || !mr_jj_step(rt, text.u.s->len / 16)) return false;
    mr_buf_append(&buf, text.u.s->data, text.u.s->len);
    if (!buf.failed) {
        remove_between(&buf, "<!--", "-->");
        remove_between(&buf, "<", ">");
    }
    bool ok = mr_jj_str_buf(rt, &buf, &bare) && mr_jj_split(rt, bare, NULL, -1, false, &words);
    for (size_t i = 0; ok && i < words.n; i++) {
        if (i > 0) mr_buf_putc(&joined, ' ');
        mr_buf_append(&joined, words.items[i].u.s->data, words.items[i].u.s->len);
    }
    mr_buf_clear(&buf);
    put_unescaped(&buf, mr_buf_cstr(&joined), joined.len);
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    mr_buf_free(&joined);
    return ok;
}
