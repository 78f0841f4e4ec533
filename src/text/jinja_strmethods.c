/* The methods of str. On a Markup string those that give text give Markup, and escape the text they are given. */
#define _GNU_SOURCE /* memmem */
#include "text/jinja_format.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <string.h>

/* --- arguments --- */

static bool want_str(jj_rt *rt, jj_value v, const char *what) {
    if (v.kind == JJ_STR) return true;
    return mr_jj_raise(rt, JJ_ERR_TYPE, "%s must be str, not %s", what, mr_jj_type_name(v));
}

/* An optional string that may be None: *s is NULL then. */
static bool optional_str(jj_rt *rt, jj_value v, const char *what, const jj_str **s) {
    *s = NULL;
    if (v.kind == JJ_MISSING || v.kind == JJ_NONE) return true;
    if (!want_str(rt, v, what)) return false;
    *s = v.u.s;
    return true;
}

static bool want_int(jj_rt *rt, jj_value v, int64_t fallback, int64_t *i) {
    *i = fallback;
    if (v.kind == JJ_MISSING || mr_jj_index(v, i)) return true;
    if (v.kind == JJ_BIG) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "Python int too large to convert to C ssize_t");
    return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer", mr_jj_type_name(v));
}

/* start and end of find and its like, as a range of characters; false in *possible when start lies behind the end. */
static bool want_range(jj_rt *rt, const jj_call *call, size_t *from, size_t *to, bool *possible) {
    int64_t n = (int64_t)call->self.u.s->n_chars, start = 0, end = n;
    for (int k = 1; k <= 2; k++) {
        jj_value v = call->a[k];
        if (v.kind == JJ_MISSING || v.kind == JJ_NONE) continue;
        int64_t i;
        if (!mr_jj_index(v, &i)) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "slice indices must be integers or None or have an __index__ method");
        }
        if (i < 0) i = i < -n ? 0 : i + n;
        *(k == 1 ? &start : &end) = i;
    }
    if (end > n) end = n;
    *possible = start <= end;
    *from = *possible ? mr_jj_byte_offset(call->self.u.s, (size_t)start) : 0;
    *to = *possible ? mr_jj_byte_offset(call->self.u.s, (size_t)end) : 0;
    return mr_jj_step(rt, call->self.u.s->len / 128);
}

/* The text of an argument as it goes into self: escaped when self is Markup. */
static bool fit(jj_rt *rt, jj_value self, jj_value *v) {
    return !mr_jj_is_markup(self) || mr_jj_escape(rt, *v, v);
}

static bool list_result(jj_rt *rt, const jj_vec *vec, jj_value *out) {
    return mr_jj_vec_list(rt, vec, JJ_LIST, out);
}

/* --- case --- */

static bool m_upper(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_upper, out);
}
static bool m_lower(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_lower, out);
}
static bool m_title(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_title, out);
}
static bool m_capitalize(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_capitalized, out);
}
static bool m_casefold(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_casefold, out);
}
static bool m_swapcase(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_map_text(rt, c->self, mr_jj_put_swapcase, out);
}

/* --- strip, prefix, suffix --- */

static bool strip(jj_rt *rt, const jj_call *c, const char *name, bool left, bool right, jj_value *out) {
    if (c->a[0].kind != JJ_MISSING && c->a[0].kind != JJ_NONE && c->a[0].kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "%s arg must be None or str", name);
    }
    return mr_jj_strip(rt, c->self, c->a[0].kind == JJ_STR ? c->a[0].u.s : NULL, left, right, out);
}
static bool m_strip(jj_rt *rt, const jj_call *c, jj_value *out) {
    return strip(rt, c, "strip", true, true, out);
}
static bool m_lstrip(jj_rt *rt, const jj_call *c, jj_value *out) {
    return strip(rt, c, "lstrip", true, false, out);
}
static bool m_rstrip(jj_rt *rt, const jj_call *c, jj_value *out) {
    return strip(rt, c, "rstrip", false, true, out);
}

static bool has_affix(const char *s, size_t len, const jj_str *affix, bool at_end) {
    if (affix->len > len) return false;
    return affix->len == 0 || memcmp(at_end ? s + len - affix->len : s, affix->data, affix->len) == 0;
}

static bool m_removeprefix(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (!want_str(rt, c->a[0], "removeprefix() argument")) return false;
    const jj_str *s = c->self.u.s;
    size_t from = has_affix(s->data, s->len, c->a[0].u.s, false) ? c->a[0].u.s->len : 0;
    return mr_jj_substring(rt, c->self, from, s->len, out);
}

static bool m_removesuffix(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (!want_str(rt, c->a[0], "removesuffix() argument")) return false;
    const jj_str *s = c->self.u.s;
    size_t to = s->len - (has_affix(s->data, s->len, c->a[0].u.s, true) ? c->a[0].u.s->len : 0);
    return mr_jj_substring(rt, c->self, 0, to, out);
}

static bool affix_test(jj_rt *rt, const jj_call *c, bool at_end, jj_value *out) {
    const char *name = at_end ? "endswith" : "startswith";
    size_t from, to;
    bool possible, found = false;
    jj_value one = c->a[0];
    if (!want_range(rt, c, &from, &to, &possible)) return false;
    if (one.kind != JJ_STR && one.kind != JJ_TUPLE) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "%s first arg must be str or a tuple of str, not %s", name,
                           mr_jj_type_name(one));
    }
    size_t n = one.kind == JJ_STR ? 1 : one.u.l->n;
    for (size_t i = 0; i < n && !found; i++) {
        jj_value affix = one.kind == JJ_STR ? one : one.u.l->items[i];
        if (affix.kind != JJ_STR) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "tuple for %s must only contain str, not %s", name,
                               mr_jj_type_name(affix));
        }
        found = possible && has_affix(c->self.u.s->data + from, to - from, affix.u.s, at_end);
    }
    *out = mr_jj_bool(found);
    return true;
}
static bool m_startswith(jj_rt *rt, const jj_call *c, jj_value *out) {
    return affix_test(rt, c, false, out);
}
static bool m_endswith(jj_rt *rt, const jj_call *c, jj_value *out) {
    return affix_test(rt, c, true, out);
}

/* --- search --- */

/* The byte offset of the first (or last) occurrence, or -1. */
static bool locate(jj_rt *rt, const jj_call *c, bool last, int64_t *offset) {
    size_t from, to;
    bool possible;
    *offset = -1;
    if (!want_str(rt, c->a[0], "argument 1") || !want_range(rt, c, &from, &to, &possible)) return false;
    const jj_str *s = c->self.u.s, *needle = c->a[0].u.s;
    if (!possible || needle->len > to - from) return true;
    if (last) {
        for (size_t at = to - needle->len + 1; at > from; at--) {
            if (needle->len == 0 || memcmp(s->data + at - 1, needle->data, needle->len) == 0) {
                *offset = (int64_t)(at - 1);
                break;
            }
        }
    } else {
        const char *hit =
            needle->len == 0 ? s->data + from : memmem(s->data + from, to - from, needle->data, needle->len);
        if (hit != NULL) *offset = hit - s->data;
    }
    return true;
}

static bool search(jj_rt *rt, const jj_call *c, bool last, bool must_exist, jj_value *out) {
    int64_t offset;
    if (!locate(rt, c, last, &offset)) return false;
    if (offset < 0 && must_exist) return mr_jj_raise(rt, JJ_ERR_VALUE, "substring not found");
    *out = mr_jj_int(offset < 0 ? -1 : (int64_t)mr_jj_utf8_count(c->self.u.s->data, (size_t)offset));
    return true;
}
static bool m_find(jj_rt *rt, const jj_call *c, jj_value *out) {
    return search(rt, c, false, false, out);
}
static bool m_rfind(jj_rt *rt, const jj_call *c, jj_value *out) {
    return search(rt, c, true, false, out);
}
static bool m_index(jj_rt *rt, const jj_call *c, jj_value *out) {
    return search(rt, c, false, true, out);
}
static bool m_rindex(jj_rt *rt, const jj_call *c, jj_value *out) {
    return search(rt, c, true, true, out);
}

static bool m_count(jj_rt *rt, const jj_call *c, jj_value *out) {
    size_t from, to;
    bool possible;
    int64_t n = 0;
    if (!want_str(rt, c->a[0], "argument 1") || !want_range(rt, c, &from, &to, &possible)) return false;
    const jj_str *s = c->self.u.s, *needle = c->a[0].u.s;
    if (possible && needle->len == 0) {
        n = (int64_t)mr_jj_utf8_count(s->data + from, to - from) + 1;
    } else if (possible) {
        const char *hit;
        while (from < to && (hit = memmem(s->data + from, to - from, needle->data, needle->len)) != NULL) {
            n++;
            from = (size_t)(hit - s->data) + needle->len;
        }
    }
    *out = mr_jj_int(n);
    return true;
}

static bool m_replace(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t count;
    jj_value with = c->a[1];
    if (!want_str(rt, c->a[0], "replace() argument 1") || !fit(rt, c->self, &with) ||
        !want_str(rt, with, "replace() argument 2") || !want_int(rt, c->a[2], -1, &count)) {
        return false;
    }
    return mr_jj_replace(rt, c->self, c->a[0].u.s, with.u.s, count, out);
}

/* --- split and join --- */

static bool split(jj_rt *rt, const jj_call *c, bool right, jj_value *out) {
    const jj_str *sep;
    int64_t max_split;
    jj_vec vec = {0};
    if (!optional_str(rt, c->a[0], "sep", &sep) || !want_int(rt, c->a[1], -1, &max_split)) return false;
    return mr_jj_split(rt, c->self, sep, max_split, right, &vec) && list_result(rt, &vec, out);
}
static bool m_split(jj_rt *rt, const jj_call *c, jj_value *out) {
    return split(rt, c, false, out);
}
static bool m_rsplit(jj_rt *rt, const jj_call *c, jj_value *out) {
    return split(rt, c, true, out);
}

static bool m_splitlines(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t keepends;
    jj_vec vec = {0};
    if (!want_int(rt, c->a[0], 0, &keepends)) return false;
    return mr_jj_splitlines(rt, c->self, keepends != 0, &vec) && list_result(rt, &vec, out);
}

static bool partition(jj_rt *rt, const jj_call *c, bool last, jj_value *out) {
    int64_t at;
    jj_value parts[3];
    if (!want_str(rt, c->a[0], "argument")) return false;
    if (c->a[0].u.s->len == 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "empty separator");
    jj_call plain = {.self = c->self, .a = {c->a[0]}, .raw = c->raw};
    if (!locate(rt, &plain, last, &at)) return false;
    size_t len = c->self.u.s->len, n = c->a[0].u.s->len;
    bool ok;
    if (at >= 0) {
        ok = mr_jj_substring(rt, c->self, 0, (size_t)at, &parts[0]) &&
             mr_jj_substring(rt, c->self, (size_t)at, (size_t)at + n, &parts[1]) &&
             mr_jj_substring(rt, c->self, (size_t)at + n, len, &parts[2]);
    } else {
        ok = mr_jj_substring(rt, c->self, 0, 0, &parts[1]);
        parts[last ? 0 : 2] = parts[1];
        parts[last ? 2 : 0] = c->self;
    }
    jj_vec vec = {0};
    for (int i = 0; ok && i < 3; i++) ok = mr_jj_vec_push(rt, &vec, parts[i]);
    return ok && mr_jj_vec_list(rt, &vec, JJ_TUPLE, out);
}
static bool m_partition(jj_rt *rt, const jj_call *c, jj_value *out) {
    return partition(rt, c, false, out);
}
static bool m_rpartition(jj_rt *rt, const jj_call *c, jj_value *out) {
    return partition(rt, c, true, out);
}

static bool m_join(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_iter *it;
    jj_value item;
    mr_buf buf = {0};
    int got = 0;
    if (!mr_jj_is_iterable(c->a[0])) return mr_jj_raise(rt, JJ_ERR_TYPE, "can only join an iterable");
    bool ok = mr_jj_iterate(rt, c->a[0], &it);
    for (size_t i = 0; ok && (got = mr_jj_next(rt, it, &item)) > 0; i++) {
        if (i > 0) mr_buf_append(&buf, c->self.u.s->data, c->self.u.s->len);
        ok = fit(rt, c->self, &item);
        if (ok && item.kind != JJ_STR) {
            ok = mr_jj_raise(rt, JJ_ERR_TYPE, "sequence item %zu: expected str instance, %s found", i,
                             mr_jj_type_name(item));
        }
        ok = ok && mr_jj_put_str(rt, &buf, item);
        if (buf.len > rt->arena.max_bytes) ok = mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    ok = ok && got == 0 && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = c->self.flags;
    return ok;
}

/* --- padding --- */

static bool pad(jj_rt *rt, const jj_call *c, char align, jj_value *out) {
    static const jj_str space = {.data = " ", .len = 1, .n_chars = 1};
    int64_t width;
    jj_value fill = c->a[1];
    if (!want_int(rt, c->a[0], 0, &width)) return false;
    if (fill.kind == JJ_MISSING) return mr_jj_pad(rt, c->self, width, &space, align, out);
    if (!fit(rt, c->self, &fill)) return false;
    if (fill.kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "The fill character must be a unicode character, not %s",
                           mr_jj_type_name(fill));
    }
    if (fill.u.s->n_chars != 1) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "The fill character must be exactly one character long");
    }
    return mr_jj_pad(rt, c->self, width, fill.u.s, align, out);
}
static bool m_center(jj_rt *rt, const jj_call *c, jj_value *out) {
    return pad(rt, c, '^', out);
}
static bool m_ljust(jj_rt *rt, const jj_call *c, jj_value *out) {
    return pad(rt, c, '<', out);
}
static bool m_rjust(jj_rt *rt, const jj_call *c, jj_value *out) {
    return pad(rt, c, '>', out);
}

static bool m_zfill(jj_rt *rt, const jj_call *c, jj_value *out) {
    static const jj_str zero = {.data = "0", .len = 1, .n_chars = 1};
    int64_t width;
    const jj_str *s = c->self.u.s;
    if (!want_int(rt, c->a[0], 0, &width)) return false;
    if (s->len == 0 || (s->data[0] != '-' && s->data[0] != '+')) return mr_jj_pad(rt, c->self, width, &zero, '>', out);
    jj_value digits, padded, sign;
    if (!mr_jj_substring(rt, c->self, 1, s->len, &digits) || !mr_jj_pad(rt, digits, width - 1, &zero, '>', &padded) ||
        !mr_jj_substring(rt, c->self, 0, 1, &sign) || !mr_jj_str_concat(rt, sign.u.s, padded.u.s, out)) {
        return false;
    }
    out->flags = c->self.flags;
    return true;
}

static bool m_expandtabs(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t size, column = 0;
    const jj_str *s = c->self.u.s;
    mr_buf buf = {0};
    if (!want_int(rt, c->a[0], 8, &size) || !mr_jj_step(rt, s->len / 32)) return false;
    if (size > 10000) return mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    bool ok = true;
    for (size_t i = 0; ok && i < s->len; i++) {
        if (s->data[i] == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            for (int64_t k = 0; k < n; k++) mr_buf_putc(&buf, ' ');
            column += n;
            ok = mr_jj_step(rt, 1 + (uint64_t)n / 64);
            continue;
        }
        mr_buf_putc(&buf, s->data[i]);
        if (s->data[i] == '\n' || s->data[i] == '\r') {
            column = 0;
        } else {
            column += ((unsigned char)s->data[i] & 0xC0) != 0x80;
        }
    }
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = c->self.flags;
    return ok;
}

/* --- tests --- */

/* Whether every character passes; the empty string gives `empty`. */
static bool all_are(jj_rt *rt, const jj_call *c, bool (*test)(uint32_t), bool empty, jj_value *out) {
    const jj_str *s = c->self.u.s;
    bool all = true;
    if (!mr_jj_step(rt, s->len / 64)) return false;
    for (size_t i = 0; all && i < s->len;) {
        uint32_t cp;
        i += mr_utf8_decode(s->data + i, s->len - i, &cp);
        all = test(cp);
    }
    *out = mr_jj_bool(s->len == 0 ? empty : all);
    return true;
}

static bool is_ascii(uint32_t c) {
    return c < 0x80;
}
static bool m_isalpha(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_alpha, false, out);
}
static bool m_isalnum(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_alnum, false, out);
}
static bool m_isdigit(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_digit, false, out);
}
static bool m_isdecimal(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_decimal, false, out);
}
static bool m_isnumeric(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_numeric, false, out);
}
static bool m_isspace(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_space, false, out);
}
static bool m_isascii(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, is_ascii, true, out);
}
static bool m_isprintable(jj_rt *rt, const jj_call *c, jj_value *out) {
    return all_are(rt, c, mr_jj_is_printable, true, out);
}

static bool delegate(jj_rt *rt, const char *test, jj_value self, jj_value *out) {
    jj_args args = {.pos = &self, .n_pos = 1};
    return mr_jj_call_builtin(rt, mr_jj_find_test(test, strlen(test)), (jj_value){0}, &args, out);
}
static bool m_islower(jj_rt *rt, const jj_call *c, jj_value *out) {
    return delegate(rt, "lower", c->self, out);
}
static bool m_isupper(jj_rt *rt, const jj_call *c, jj_value *out) {
    return delegate(rt, "upper", c->self, out);
}

static bool m_istitle(jj_rt *rt, const jj_call *c, jj_value *out) {
    const jj_str *s = c->self.u.s;
    bool cased = false, previous = false, ok = true;
    if (!mr_jj_step(rt, s->len / 64)) return false;
    for (size_t i = 0; ok && i < s->len;) {
        uint32_t cp;
        i += mr_utf8_decode(s->data + i, s->len - i, &cp);
        bool upper = mr_jj_is_upper(cp) || mr_jj_is_title(cp), lower = mr_jj_is_lower(cp);
        if ((upper && previous) || (lower && !previous)) ok = false;
        previous = upper || lower;
        cased = cased || previous;
    }
    *out = mr_jj_bool(ok && cased);
    return true;
}

static bool m_isidentifier(jj_rt *rt, const jj_call *c, jj_value *out) {
    const jj_str *s = c->self.u.s;
    bool ok = s->len > 0;
    for (size_t i = 0; ok && i < s->len;) {
        uint32_t cp;
        size_t n = mr_utf8_decode(s->data + i, s->len - i, &cp);
        ok = i == 0 ? mr_jj_is_identifier_start(cp) : mr_jj_is_identifier_part(cp);
        i += n;
    }
    *out = mr_jj_bool(ok);
    return mr_jj_step(rt, s->len / 64);
}

static bool m_unsupported(jj_rt *rt, const jj_call *c, jj_value *out) {
    (void)c;
    (void)out;
    return mr_jj_raise(rt, JJ_ERR_UNSUPPORTED, "encode, maketrans and translate are not supported in chat templates");
}

static bool m_format(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_str_format(rt, c->self, c->raw, out);
}

static bool m_format_map(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->a[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, c->a[0]);
    if (c->a[0].kind != JJ_DICT)
        return mr_jj_raise(rt, JJ_ERR_TYPE, "format_map() takes a dict, not %s", mr_jj_type_name(c->a[0]));
    const jj_dict *d = c->a[0].u.d;
    jj_kwarg *kw = mr_jj_calloc(rt, d->n, sizeof *kw);
    size_t n = 0;
    if (kw == NULL) return false;
    for (size_t i = 0; i < d->n; i++) {
        if (d->entries[i].key.kind == JJ_STR) kw[n++] = (jj_kwarg){d->entries[i].key, d->entries[i].value};
    }
    jj_args args = {.kw = kw, .n_kw = n};
    return mr_jj_str_format(rt, c->self, &args, out);
}

static const jj_builtin methods[] = {
    {"capitalize", "", m_capitalize},
    {"casefold", "", m_casefold},
    {"center", "/width /fillchar?", m_center},
    {"count", "/sub /start? /end?", m_count},
    {"encode", NULL, m_unsupported},
    {"endswith", "/suffix /start? /end?", m_endswith},
    {"expandtabs", "tabsize?", m_expandtabs},
    {"find", "/sub /start? /end?", m_find},
    {"format", NULL, m_format},
    {"format_map", "/mapping", m_format_map},
    {"index", "/sub /start? /end?", m_index},
    {"isalnum", "", m_isalnum},
    {"isalpha", "", m_isalpha},
    {"isascii", "", m_isascii},
    {"isdecimal", "", m_isdecimal},
    {"isdigit", "", m_isdigit},
    {"isidentifier", "", m_isidentifier},
    {"islower", "", m_islower},
    {"isnumeric", "", m_isnumeric},
    {"isprintable", "", m_isprintable},
    {"isspace", "", m_isspace},
    {"istitle", "", m_istitle},
    {"isupper", "", m_isupper},
    {"join", "/iterable", m_join},
    {"ljust", "/width /fillchar?", m_ljust},
    {"lower", "", m_lower},
    {"lstrip", "/chars?", m_lstrip},
    {"maketrans", NULL, m_unsupported},
    {"partition", "/sep", m_partition},
    {"removeprefix", "/prefix", m_removeprefix},
    {"removesuffix", "/suffix", m_removesuffix},
    {"replace", "/old /new /count?", m_replace},
    {"rfind", "/sub /start? /end?", m_rfind},
    {"rindex", "/sub /start? /end?", m_rindex},
    {"rjust", "/width /fillchar?", m_rjust},
    {"rpartition", "/sep", m_rpartition},
    {"rsplit", "sep? maxsplit?", m_rsplit},
    {"rstrip", "/chars?", m_rstrip},
    {"split", "sep? maxsplit?", m_split},
    {"splitlines", "keepends?", m_splitlines},
    {"startswith", "/prefix /start? /end?", m_startswith},
    {"strip", "/chars?", m_strip},
    {"swapcase", "", m_swapcase},
    {"title", "", m_title},
    {"translate", NULL, m_unsupported},
    {"upper", "", m_upper},
    {"zfill", "/width", m_zfill},
};

const jj_builtin *mr_jj_find_str_method(const char *name, size_t len) {
    return mr_jj_find_in(methods, sizeof methods / sizeof *methods, name, len);
}
