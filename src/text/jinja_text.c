#define _GNU_SOURCE /* memmem */
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool mr_jj_map_text(jj_rt *rt, jj_value v, jj_put_fn put, jj_value *out) {
    mr_buf buf = {0};
    if (!mr_jj_step(rt, v.u.s->len / 32)) return false;
    put(&buf, v.u.s->data, v.u.s->len);
    bool ok = mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = v.flags;
    return ok;
}

bool mr_jj_substring(jj_rt *rt, jj_value v, size_t from, size_t to, jj_value *out) {
    if (from == 0 && to == v.u.s->len) {
        *out = v;
        return true;
    }
    if (!mr_jj_str_borrow(rt, v.u.s->data + from, to - from, out)) return false;
    out->flags = v.flags;
    return true;
}

size_t mr_jj_byte_offset(const jj_str *s, size_t i) {
    if (i >= s->n_chars) return s->len;
    if (s->n_chars == s->len) return i;
    size_t at = 0;
    for (; i > 0; i--) {
        do at++;
        while (((unsigned char)s->data[at] & 0xC0) == 0x80);
    }
    return at;
}

static bool in_set(const jj_str *chars, const char *c, size_t n, uint32_t code_point) {
    if (chars == NULL) return mr_jj_is_space(code_point);
    for (size_t i = 0; i + n <= chars->len; i++) {
        if (memcmp(chars->data + i, c, n) == 0) return true;
    }
    return false;
}

bool mr_jj_strip(jj_rt *rt, jj_value v, const jj_str *chars, bool left, bool right, jj_value *out) {
    const char *s = v.u.s->data;
    size_t from = 0, to = v.u.s->len;
    uint32_t c;
    while (left && from < to) {
        size_t n = mr_utf8_decode(s + from, to - from, &c);
        if (!in_set(chars, s + from, n, c)) break;
        from += n;
    }
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
        mr_utf8_decode(s + at, to - at, &c);
        if (!in_set(chars, s + at, to - at, c)) break;
        to = at;
    }
    size_t work = (v.u.s->len - (to - from)) * (chars == NULL ? 1 : chars->len + 1);
    return mr_jj_step(rt, work / 64) && mr_jj_substring(rt, v, from, to, out);
}

/* Replacing the empty string puts new_text before every character and at the end. */
static void replace_empty(mr_buf *buf, const jj_str *s, const jj_str *new_text, size_t count) {
    for (size_t i = 0; i <= s->len;) {
        if (count > 0) {
            mr_buf_append(buf, new_text->data, new_text->len);
            count--;
        }
        if (i == s->len) break;
        size_t n = 1;
        while (i + n < s->len && ((unsigned char)s->data[i + n] & 0xC0) == 0x80) n++;
        mr_buf_append(buf, s->data + i, n);
        i += n;
    }
}

bool mr_jj_replace(jj_rt *rt, jj_value v, const jj_str *old_text, const jj_str *new_text, int64_t count,
                   jj_value *out) {
    const jj_str *s = v.u.s;
    size_t left = count < 0 ? SIZE_MAX : (size_t)count;
    mr_buf buf = {0};
    bool ok = mr_jj_step(rt, s->len / 64);
    if (ok && old_text->len == 0) {
        ok = s->len < rt->arena.max_bytes / (new_text->len + 1) ||
             mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
        if (ok) replace_empty(&buf, s, new_text, left);
    }
    size_t at = 0;
    while (ok && old_text->len > 0 && at < s->len) {
        const char *hit = left == 0 ? NULL : memmem(s->data + at, s->len - at, old_text->data, old_text->len);
        size_t end = hit == NULL ? s->len : (size_t)(hit - s->data);
        mr_buf_append(&buf, s->data + at, end - at);
        at = end;
        if (hit == NULL) break;
        mr_buf_append(&buf, new_text->data, new_text->len);
        at += old_text->len;
        left--;
        ok = mr_jj_step(rt, 1 + new_text->len / 256) && buf.len <= rt->arena.max_bytes;
        if (!ok) mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = v.flags;
    return ok;
}

static bool push_part(jj_rt *rt, jj_value v, size_t from, size_t to, jj_vec *vec) {
    jj_value part;
    return mr_jj_substring(rt, v, from, to, &part) && mr_jj_vec_push(rt, vec, part);
}

static bool split_space(jj_rt *rt, jj_value v, int64_t max_split, jj_vec *vec) {
    const jj_str *s = v.u.s;
    size_t i = 0;
    uint32_t c;
    for (int64_t done = 0;; done++) {
        size_t n;
        while (i < s->len && (n = mr_utf8_decode(s->data + i, s->len - i, &c), mr_jj_is_space(c))) i += n;
        if (i >= s->len) return true;
        size_t from = i;
        if (max_split >= 0 && done >= max_split) {
            jj_value rest;
            return mr_jj_substring(rt, v, from, s->len, &rest) && mr_jj_strip(rt, rest, NULL, false, true, &rest) &&
                   mr_jj_vec_push(rt, vec, rest);
        }
        while (i < s->len && (n = mr_utf8_decode(s->data + i, s->len - i, &c), !mr_jj_is_space(c))) i += n;
        if (!push_part(rt, v, from, i, vec)) return false;
    }
}

static bool split_space_right(jj_rt *rt, jj_value v, int64_t max_split, jj_vec *vec) {
    const jj_str *s = v.u.s;
    size_t end = s->len;
    for (int64_t done = 0;; done++) {
        jj_value rest, stripped;
        if (!mr_jj_substring(rt, v, 0, end, &rest) || !mr_jj_strip(rt, rest, NULL, false, true, &stripped))
            return false;
        end = stripped.u.s->len;
        if (end == 0) break;
        if (max_split >= 0 && done >= max_split) {
            if (!mr_jj_strip(rt, stripped, NULL, true, false, &stripped) || !mr_jj_vec_push(rt, vec, stripped))
                return false;
            break;
        }
        size_t from = end;
        while (from > 0) {
            size_t at = from - 1;
            while (at > 0 && ((unsigned char)s->data[at] & 0xC0) == 0x80) at--;
            uint32_t c;
            mr_utf8_decode(s->data + at, from - at, &c);
            if (mr_jj_is_space(c)) break;
            from = at;
        }
        if (!push_part(rt, v, from, end, vec)) return false;
        end = from;
    }
    for (size_t i = 0, k = vec->n; i + 1 < k; i++, k--) {
        jj_value swap = vec->items[i];
        vec->items[i] = vec->items[k - 1];
        vec->items[k - 1] = swap;
    }
    return true;
}

/* The last place of needle in s[0..len), or NULL. */
static const char *find_last(const char *s, size_t len, const jj_str *needle) {
    for (size_t i = len + 1; i > needle->len; i--) {
        const char *at = s + i - 1 - needle->len;
        if (memcmp(at, needle->data, needle->len) == 0) return at;
    }
    return NULL;
}

static bool split_right(jj_rt *rt, jj_value v, const jj_str *sep, int64_t max_split, jj_vec *vec) {
    const jj_str *s = v.u.s;
    size_t end = s->len;
    const char *hit;
    for (int64_t done = 0; (max_split < 0 || done < max_split) && (hit = find_last(s->data, end, sep)) != NULL;
         done++) {
        size_t at = (size_t)(hit - s->data);
        if (!push_part(rt, v, at + sep->len, end, vec)) return false;
        end = at;
    }
    if (!push_part(rt, v, 0, end, vec)) return false;
    for (size_t i = 0, k = vec->n; i + 1 < k; i++, k--) {
        jj_value swap = vec->items[i];
        vec->items[i] = vec->items[k - 1];
        vec->items[k - 1] = swap;
    }
    return true;
}

bool mr_jj_split(jj_rt *rt, jj_value v, const jj_str *sep, int64_t max_split, bool right, jj_vec *vec) {
    const jj_str *s = v.u.s;
    if (!mr_jj_step(rt, s->len / 32)) return false;
    if (sep == NULL) return right ? split_space_right(rt, v, max_split, vec) : split_space(rt, v, max_split, vec);
    if (sep->len == 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "empty separator");
    if (right) return split_right(rt, v, sep, max_split, vec);
    size_t at = 0;
    for (int64_t done = 0; max_split < 0 || done < max_split; done++) {
        const char *hit = memmem(s->data + at, s->len - at, sep->data, sep->len);
        if (hit == NULL) break;
        size_t end = (size_t)(hit - s->data);
        if (!push_part(rt, v, at, end, vec)) return false;
        at = end + sep->len;
    }
    return push_part(rt, v, at, s->len, vec);
}

static bool is_line_break(uint32_t c) {
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool mr_jj_splitlines(jj_rt *rt, jj_value v, bool keepends, jj_vec *vec) {
    const jj_str *s = v.u.s;
    if (!mr_jj_step(rt, s->len / 32)) return false;
    for (size_t i = 0; i < s->len;) {
        size_t from = i, n = 0;
        uint32_t c = 0;
        while (i < s->len && (n = mr_utf8_decode(s->data + i, s->len - i, &c), !is_line_break(c))) i += n;
        size_t end = i;
        if (i < s->len) {
            i += n;
            if (c == '\r' && i < s->len && s->data[i] == '\n') i++;
        }
        if (!push_part(rt, v, from, keepends ? i : end, vec)) return false;
    }
    return true;
}

bool mr_jj_pad(jj_rt *rt, jj_value v, int64_t width, const jj_str *fill, char align, jj_value *out) {
    const jj_str *s = v.u.s;
    if (width <= (int64_t)s->n_chars) {
        *out = v;
        return true;
    }
    size_t pad = (size_t)width - s->n_chars;
    if (pad > rt->arena.max_bytes / (fill->len + 1)) {
        return mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    size_t left = align == '<' ? 0 : align == '>' ? pad : pad / 2 + (pad & (size_t)width & 1);
    char *data = mr_jj_alloc(rt, s->len + pad * fill->len + 1), *p = data;
    if (data == NULL || !mr_jj_step(rt, pad / 64)) return false;
    for (size_t i = 0; i < left; i++, p += fill->len) memcpy(p, fill->data, fill->len);
    if (s->len > 0) memcpy(p, s->data, s->len);
    p += s->len;
    for (size_t i = left; i < pad; i++, p += fill->len) memcpy(p, fill->data, fill->len);
    if (!mr_jj_str_borrow(rt, data, (size_t)(p - data), out)) return false;
    out->flags = v.flags;
    return true;
}

/* Copies the number's text with decimal digits of any script made ASCII and white space at the ends removed;
 * underscores between digits go. False when it can't be a number. */
static bool ascii_number(const jj_str *s, char *out, size_t size, size_t *len) {
    size_t n = 0, i = 0;
    bool started = false, ended = false, digit_before = false;
    while (i < s->len) {
        uint32_t c;
        i += mr_utf8_decode(s->data + i, s->len - i, &c);
        if (mr_jj_is_space(c)) {
            ended = started;
            continue;
        }
        if (ended || n + 1 >= size) return false;
        started = true;
        if (c == '_') {
            uint32_t next = 0;
            if (i < s->len) mr_utf8_decode(s->data + i, s->len - i, &next);
            if (!digit_before || !mr_jj_is_alnum(next)) return false;
            digit_before = false;
            continue;
        }
        if (c >= 0x80) {
            if (!mr_jj_is_decimal(c)) return false;
            c = (uint32_t)('0' + mr_jj_decimal_value(c));
        }
        digit_before = mr_jj_is_alnum(c);
        out[n++] = (char)c;
    }
    out[n] = '\0';
    *len = n;
    return n > 0;
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

int mr_jj_parse_int(jj_rt *rt, const jj_str *s, int base, jj_value *out) {
    enum { MAX_TEXT = 4400 };
    char text[MAX_TEXT];
    size_t len, i = 0;
    if (s->len >= MAX_TEXT || !ascii_number(s, text, sizeof text, &len)) return 0;
    bool negative = text[0] == '-';
    if (text[0] == '-' || text[0] == '+') i++;
    char kind = text[i] == '0' ? (char)(text[i + 1] | 32) : '\0';
    int prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix != 0 && (base == prefix || base == 0)) {
        base = prefix;
        i += 2;
        if (s->len > 2 && memmem(s->data, s->len, "__", 2) != NULL) return 0;
    } else if (base == 0) {
        base = 10;
        if (text[i] == '0') {
            for (size_t k = i; k < len; k++) {
                if (text[k] != '0') return 0;
            }
        }
    }
    if (i >= len) return 0;
    for (size_t k = i; k < len; k++) {
        if (digit_of(text[k]) >= base) return 0;
    }
    errno = 0;
    long long value = strtoll(text + i, NULL, base);
    if (errno == 0) {
        *out = mr_jj_int(negative ? -value : value);
        return 1;
    }
    return mr_jj_big_parse(rt, text + i, len - i, (unsigned)base, negative, out) ? 1 : -1;
}

static bool is_word(const char *text, const char *word) {
    for (; *word != '\0'; word++, text++) {
        if ((*text | 32) != *word) return false;
    }
    return *text == '\0';
}

int mr_jj_parse_float(jj_rt *rt, const jj_str *s, double *out) {
    enum { MAX_TEXT = 2048 };
    char text[MAX_TEXT];
    size_t len, i = 0;
    (void)rt;
    if (s->len >= MAX_TEXT || !ascii_number(s, text, sizeof text, &len)) return 0;
    if (text[0] == '-' || text[0] == '+') i++;
    if (is_word(text + i, "inf") || is_word(text + i, "infinity")) {
        *out = text[0] == '-' ? -INFINITY : INFINITY;
        return 1;
    }
    if (is_word(text + i, "nan")) {
        *out = NAN;
        return 1;
    }
    bool digits = false;
    for (size_t k = i; k < len; k++) {
        bool digit = text[k] >= '0' && text[k] <= '9';
        bool sign = (text[k] == '+' || text[k] == '-') && k > i && (text[k - 1] | 32) == 'e';
        if (!digit && !sign && text[k] != '.' && (text[k] | 32) != 'e') return 0;
        digits = digits || digit;
    }
    char *end;
    double value = strtod(text, &end);
    if (!digits || *end != '\0') return 0;
    *out = value;
    return 1;
}
