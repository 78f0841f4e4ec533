/* Filters on text. */
#include "text/jinja_seq.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

static bool truth_of(jj_rt *rt, jj_value v, bool fallback, bool *truth) {
    *truth = fallback;
    return v.kind == JJ_MISSING || mr_jj_truth(rt, v, truth);
}

/* The value's text, run through a method of str. */
static bool by_method(jj_rt *rt, const char *method, const jj_call *c, size_t n_args, jj_value *out) {
    jj_value text;
    if (!mr_jj_to_str(rt, c->a[0], &text)) return false;
    while (n_args > 0 && c->a[n_args].kind == JJ_MISSING) n_args--;
    jj_args args = {.pos = c->a + 1, .n_pos = n_args};
    return mr_jj_call_builtin(rt, mr_jj_find_str_method(method, strlen(method)), text, &args, out);
}
static bool f_upper(jj_rt *rt, const jj_call *c, jj_value *out) {
    return by_method(rt, "upper", c, 0, out);
}
static bool f_lower(jj_rt *rt, const jj_call *c, jj_value *out) {
    return by_method(rt, "lower", c, 0, out);
}
static bool f_capitalize(jj_rt *rt, const jj_call *c, jj_value *out) {
    return by_method(rt, "capitalize", c, 0, out);
}
static bool f_trim(jj_rt *rt, const jj_call *c, jj_value *out) {
    return by_method(rt, "strip", c, 1, out);
}

static bool f_center(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_call with_width = *c;
    if (c->a[1].kind == JJ_MISSING) with_width.a[1] = mr_jj_int(80);
    return by_method(rt, "center", &with_width, 1, out);
}

static bool is_word_start(uint32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || mr_jj_is_space(c);
}

/* Upper case for the first character of each word, where words are separated by space and opening brackets. */
static bool f_title(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value v;
    if (!mr_jj_to_str(rt, c->a[0], &v) || !mr_jj_step(rt, v.u.s->len / 32)) return false;
    const jj_str *s = v.u.s;
    mr_buf buf = {0};
    for (size_t i = 0; i < s->len;) {
        uint32_t cp;
        size_t n = mr_utf8_decode(s->data + i, s->len - i, &cp), end = i + n;
        bool separator = is_word_start(cp);
        while (end < s->len) {
            size_t more = mr_utf8_decode(s->data + end, s->len - end, &cp);
            if (is_word_start(cp) != separator) break;
            end += more;
        }
        mr_jj_put_upper(&buf, s->data + i, n);
        mr_jj_put_lower(&buf, s->data + i + n, end - i - n);
        i = end;
    }
    bool ok = mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}

static bool want_count(jj_rt *rt, jj_value v, int64_t *count) {
    *count = -1;
    if (v.kind == JJ_MISSING || v.kind == JJ_NONE || mr_jj_index(v, count)) return true;
    return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer", mr_jj_type_name(v));
}

static bool f_replace(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value s, old_text, new_text;
    int64_t count;
    if (!want_count(rt, c->a[3], &count) || !mr_jj_to_str(rt, c->a[1], &old_text) ||
        !mr_jj_to_str(rt, c->a[2], &new_text)) {
        return false;
    }
    if (!rt->autoescape) {
        if (!mr_jj_plain_str(rt, c->a[0], &s)) return false;
    } else if (mr_jj_is_markup(c->a[1]) || (mr_jj_is_markup(c->a[2]) && !mr_jj_is_markup(c->a[0]))) {
        if (!mr_jj_escape(rt, c->a[0], &s)) return false;
    } else if (!mr_jj_to_str(rt, c->a[0], &s)) {
        return false;
    }
    if (mr_jj_is_markup(s) && !mr_jj_escape(rt, new_text, &new_text)) return false;
    return mr_jj_replace(rt, s, old_text.u.s, new_text.u.s, count, out);
}

/* The indentation text of the width argument. */
static bool indentation(jj_rt *rt, jj_value width, jj_value *out) {
    static const jj_str space = {.data = " ", .len = 1, .n_chars = 1};
    if (width.kind == JJ_STR) {
        *out = width;
        return true;
    }
    return mr_jj_binary(rt, '*', mr_jj_str_static(&space), width.kind == JJ_MISSING ? mr_jj_int(4) : width, out);
}

static bool f_indent(jj_rt *rt, const jj_call *c, jj_value *out) {
    static const jj_str newline = {.data = "\n", .len = 1, .n_chars = 1};
    jj_value indent, s;
    jj_vec lines = {0};
    bool first, blank;
    if (!indentation(rt, c->a[1], &indent) || !truth_of(rt, c->a[2], false, &first) ||
        !truth_of(rt, c->a[3], false, &blank)) {
        return false;
    }
    if (!mr_jj_binary(rt, '+', c->a[0], mr_jj_str_static(&newline), &s)) return false;
    if (s.kind != JJ_STR)
        return mr_jj_raise(rt, JJ_ERR_TYPE, "indent() needs a string, not %s", mr_jj_type_name(c->a[0]));
    if (mr_jj_is_markup(s) &&
        !mr_jj_escape(rt, (jj_value){.kind = JJ_STR, .flags = JJ_FLAG_MARKUP, .u.s = indent.u.s}, &indent)) {
        return false;
    }
    if (!mr_jj_splitlines(rt, s, false, &lines)) return false;
    mr_buf buf = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < lines.n; i++) {
        const jj_str *line = lines.items[i].u.s;
        if (i > 0) mr_buf_putc(&buf, '\n');
        if (i == 0 ? first : blank || line->len > 0) mr_buf_append(&buf, indent.u.s->data, indent.u.s->len);
        mr_buf_append(&buf, line->data, line->len);
        ok = buf.len <= rt->arena.max_bytes || mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = s.flags;
    return ok;
}

/* s[:n] + end, without its last word unless killwords. */
static bool cut(jj_rt *rt, jj_value s, int64_t n, bool killwords, jj_value end, jj_value *out) {
    jj_slice slice = {.start = mr_jj_none(), .stop = mr_jj_int(n), .step = mr_jj_none()};
    jj_value kept;
    if (!mr_jj_slice(rt, s, &slice, &kept)) return false;
    if (!killwords && kept.kind == JJ_STR) {
        static const jj_str space = {.data = " ", .len = 1, .n_chars = 1};
        jj_vec parts = {0};
        if (!mr_jj_split(rt, kept, &space, 1, true, &parts)) return false;
        kept = parts.items[0];
    }
    return mr_jj_binary(rt, '+', kept, end, out);
}

static bool f_truncate(jj_rt *rt, const jj_call *c, jj_value *out) {
    static const jj_str dots = {.data = "...", .len = 3, .n_chars = 3};
    int64_t length = 255, leeway = 5, n, n_end;
    bool killwords;
    jj_value end = c->a[3].kind == JJ_MISSING ? mr_jj_str_static(&dots) : c->a[3];
    if (c->a[1].kind != JJ_MISSING && !mr_jj_index(c->a[1], &length)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "truncate(): length must be a number, not %s", mr_jj_type_name(c->a[1]));
    }
    if (c->a[4].kind != JJ_MISSING && c->a[4].kind != JJ_NONE && !mr_jj_index(c->a[4], &leeway)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "truncate(): leeway must be a number, not %s", mr_jj_type_name(c->a[4]));
    }
    if (!mr_jj_length(rt, end, &n_end) || !truth_of(rt, c->a[2], false, &killwords)) return false;
    if (length < n_end) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "expected length >= %lld, got %lld", (long long)n_end, (long long)length);
    }
    if (leeway < 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "expected leeway >= 0, got %lld", (long long)leeway);
    if (!mr_jj_length(rt, c->a[0], &n)) return false;
    *out = c->a[0];
    if (leeway > INT64_MAX - length || n <= length + leeway) return true;
    return cut(rt, c->a[0], length - n_end, killwords, end, out);
}

static bool f_wordcount(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value v;
    int64_t n = 0;
    bool inside = false;
    if (!mr_jj_to_str(rt, c->a[0], &v) || !mr_jj_step(rt, v.u.s->len / 32)) return false;
    for (size_t i = 0; i < v.u.s->len;) {
        uint32_t cp;
        i += mr_utf8_decode(v.u.s->data + i, v.u.s->len - i, &cp);
        bool word = mr_jj_is_word(cp);
        n += word && !inside;
        inside = word;
    }
    *out = mr_jj_int(n);
    return true;
}

static bool put_quoted(jj_rt *rt, mr_buf *buf, jj_value v, bool query) {
    jj_value text;
    if (!mr_jj_to_str(rt, v, &text) || !mr_jj_step(rt, text.u.s->len / 32)) return false;
    for (size_t i = 0; i < text.u.s->len; i++) {
        unsigned char ch = (unsigned char)text.u.s->data[i];
        bool safe = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_' ||
                    ch == '.' || ch == '-' || ch == '~' || (ch == '/' && !query);
        if (safe) {
            mr_buf_putc(buf, (char)ch);
        } else if (ch == ' ' && query) {
            mr_buf_putc(buf, '+');
        } else {
            mr_buf_printf(buf, "%%%02X", ch);
        }
    }
    return true;
}

static bool put_query(jj_rt *rt, mr_buf *buf, jj_value value) {
    jj_iter *it;
    jj_value item;
    jj_view view = {value.u.d, 'i'};
    int got;
    if (value.kind == JJ_DICT) value = (jj_value){.kind = JJ_VIEW, .u.view = &view};
    if (!mr_jj_iterate(rt, value, &it)) return false;
    for (size_t i = 0; (got = mr_jj_next(rt, it, &item)) > 0; i++) {
        jj_vec pair;
        if (!mr_jj_is_iterable(item)) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "cannot unpack non-iterable %s object", mr_jj_type_name(item));
        }
        if (!mr_jj_to_vec(rt, item, &pair)) return false;
        if (pair.n != 2) return mr_jj_raise(rt, JJ_ERR_VALUE, "urlencode() needs (key, value) pairs");
        if (i > 0) mr_buf_putc(buf, '&');
        if (!put_quoted(rt, buf, pair.items[0], true)) return false;
        mr_buf_putc(buf, '=');
        if (!put_quoted(rt, buf, pair.items[1], true)) return false;
    }
    return got == 0;
}

static bool f_urlencode(jj_rt *rt, const jj_call *c, jj_value *out) {
    mr_buf buf = {0};
    bool plain = c->a[0].kind == JJ_STR || !mr_jj_is_iterable(c->a[0]);
    bool ok = plain ? put_quoted(rt, &buf, c->a[0], false) : put_query(rt, &buf, c->a[0]);
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}

static bool put_attribute(jj_rt *rt, mr_buf *buf, jj_value key, jj_value value) {
    if (key.kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "expected string or bytes-like object, got '%s'", mr_jj_type_name(key));
    }
    for (size_t i = 0; i < key.u.s->len; i++) {
        if (strchr(" \t\n\r\f\v/>=", key.u.s->data[i]) != NULL && key.u.s->data[i] != '\0') {
            return mr_jj_raise(rt, JJ_ERR_VALUE, "Invalid character in attribute name: %s", mr_jj_repr_cstr(rt, key));
        }
    }
    jj_value name, text;
    if (!mr_jj_escape(rt, key, &name) || !mr_jj_escape(rt, value, &text)) return false;
    if (buf->len > 0) mr_buf_putc(buf, ' ');
    if (!mr_jj_put_str(rt, buf, name)) return false;
    mr_buf_puts(buf, "=\"");
    return mr_jj_put_str(rt, buf, text) && mr_buf_putc(buf, '"');
}

static bool f_xmlattr(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool autospace, ok = true;
    if (c->a[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, c->a[0]);
    if (c->a[0].kind != JJ_DICT)
        return mr_jj_raise(rt, JJ_ERR_TYPE, "xmlattr() needs a dict, not %s", mr_jj_type_name(c->a[0]));
    if (!truth_of(rt, c->a[1], true, &autospace)) return false;
    mr_buf buf = {0}, spaced = {0};
    const jj_dict *d = c->a[0].u.d;
    for (size_t i = 0; ok && i < d->n; i++) {
        jj_value value = d->entries[i].value;
        if (value.kind != JJ_NONE && value.kind != JJ_UNDEFINED) ok = put_attribute(rt, &buf, d->entries[i].key, value);
    }
    if (ok && autospace && buf.len > 0) mr_buf_putc(&spaced, ' ');
    mr_buf_append(&spaced, mr_buf_cstr(&buf), buf.len);
    ok = ok && mr_jj_str_buf(rt, &spaced, out);
    mr_buf_free(&buf);
    mr_buf_free(&spaced);
    if (ok && rt->autoescape) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

static const jj_builtin filters[] = {
    {"capitalize", "s", f_capitalize},
    {"center", "value width?", f_center},
    {"indent", "s width? first? blank?", f_indent},
    {"lower", "s", f_lower},
    {"replace", "s old new count?", f_replace},
    {"title", "s", f_title},
    {"trim", "value chars?", f_trim},
    {"truncate", "s length? killwords? end? leeway?", f_truncate},
    {"upper", "s", f_upper},
    {"urlencode", "value", f_urlencode},
    {"wordcount", "s", f_wordcount},
    {"xmlattr", "d autospace?", f_xmlattr},
};

const jj_builtin *mr_jj_find_text_filter(const char *name, size_t len) {
    return mr_jj_find_in(filters, sizeof filters / sizeof *filters, name, len);
}
