/* str() and repr() of values, as Python prints them. */
#include "text/jinja_ast.h"
#include "text/jinja_seq.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest decimal digits that read back as f. Returns their number; *exponent is that of the first digit. */
static int shortest_digits(double f, char digits[24], int *exponent) {
    char text[40];
    int precision = 0;
    for (; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f) break;
    }
    int n = 0;
    const char *p = text;
    for (; *p != '\0' && *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9' && n < 23) digits[n++] = *p;
    }
    *exponent = *p == 'e' ? atoi(p + 1) : 0;
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = '\0';
    return n;
}

bool mr_jj_put_float(mr_buf *buf, double f) {
    if (isnan(f)) return mr_buf_puts(buf, "nan");
    if (signbit(f)) mr_buf_putc(buf, '-');
    f = fabs(f);
    if (isinf(f)) return mr_buf_puts(buf, "inf");
    char digits[24];
    int exponent, n = shortest_digits(f, digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        mr_buf_putc(buf, digits[0]);
        if (n > 1) mr_buf_printf(buf, ".%s", digits + 1);
        return mr_buf_printf(buf, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        mr_buf_puts(buf, "0.");
        for (int i = -1; i > exponent; i--) mr_buf_putc(buf, '0');
        return mr_buf_puts(buf, digits);
    }
    for (int i = 0; i <= exponent; i++) mr_buf_putc(buf, i < n ? digits[i] : '0');
    return mr_buf_printf(buf, ".%s", n > exponent + 1 ? digits + exponent + 1 : "0");
}

static bool put_str_repr(jj_rt *rt, mr_buf *buf, const jj_str *s, bool ascii) {
    char quote = memchr(s->data, '\'', s->len) != NULL && memchr(s->data, '"', s->len) == NULL ? '"' : '\'';
    if (!mr_jj_step(rt, s->len / 64)) return false;
    mr_buf_putc(buf, quote);
    for (size_t i = 0; i < s->len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(s->data + i, s->len - i, &c);
        if (c == (uint32_t)quote || c == '\\') {
            mr_buf_putc(buf, '\\');
            mr_buf_putc(buf, (char)c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            mr_buf_puts(buf, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (c < 0x80 ? c >= 0x20 && c != 0x7F : !ascii && mr_jj_is_printable(c)) {
            mr_buf_append(buf, s->data + i, n);
        } else {
            mr_buf_printf(buf, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        }
        i += n;
    }
    return mr_buf_putc(buf, quote) || !buf->failed;
}

typedef struct repr {
    bool ascii, sort_dicts;
} repr;

static bool put_repr(jj_rt *rt, mr_buf *buf, jj_value v, repr how);

static bool put_items(jj_rt *rt, mr_buf *buf, const jj_list *list, const char *open, const char *close, repr how) {
    mr_buf_puts(buf, open);
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0) mr_buf_puts(buf, ", ");
        if (!put_repr(rt, buf, list->items[i], how)) return false;
    }
    return mr_buf_puts(buf, close) || !buf->failed;
}

static bool put_entry(jj_rt *rt, mr_buf *buf, jj_value key, jj_value value, repr how) {
    if (!put_repr(rt, buf, key, how)) return false;
    mr_buf_puts(buf, ": ");
    return put_repr(rt, buf, value, how);
}

static bool put_dict(jj_rt *rt, mr_buf *buf, const jj_dict *dict, repr how) {
    jj_sort_item *sorted = NULL;
    if (how.sort_dicts && !mr_jj_sorted_entries(rt, dict, &sorted)) return false;
    mr_buf_putc(buf, '{');
    for (size_t i = 0; i < dict->n; i++) {
        const jj_entry *e = &dict->entries[i];
        if (i > 0) mr_buf_puts(buf, ", ");
        if (!put_entry(rt, buf, sorted == NULL ? e->key : sorted[i].key, sorted == NULL ? e->value : sorted[i].value,
                       how)) {
            return false;
        }
    }
    mr_buf_putc(buf, '}');
    return !buf->failed;
}

static bool put_view(jj_rt *rt, mr_buf *buf, const jj_view *view, repr how) {
    mr_buf_puts(buf, view->what == 'k' ? "dict_keys([" : view->what == 'v' ? "dict_values([" : "dict_items([");
    for (size_t i = 0; i < view->dict->n; i++) {
        const jj_entry *e = &view->dict->entries[i];
        if (i > 0) mr_buf_puts(buf, ", ");
        if (view->what == 'i') mr_buf_putc(buf, '(');
        if (view->what != 'v' && !put_repr(rt, buf, e->key, how)) return false;
        if (view->what == 'i') mr_buf_puts(buf, ", ");
        if (view->what != 'k' && !put_repr(rt, buf, e->value, how)) return false;
        if (view->what == 'i') mr_buf_putc(buf, ')');
    }
    return mr_buf_puts(buf, "])") || !buf->failed;
}

static bool put_range(mr_buf *buf, const jj_range *r) {
    if (r->step == 1) return mr_buf_printf(buf, "range(%lld, %lld)", (long long)r->start, (long long)r->stop);
    return mr_buf_printf(buf, "range(%lld, %lld, %lld)", (long long)r->start, (long long)r->stop, (long long)r->step);
}

static bool put_loop(jj_rt *rt, mr_buf *buf, jj_value v) {
    jj_str index = {.data = "index", .len = 5, .n_chars = 5};
    jj_value i;
    bool found;
    int64_t n;
    return mr_jj_loop_length(rt, v.u.loop, &n) && mr_jj_loop_attr(rt, v.u.loop, &index, &i, &found) &&
           mr_buf_printf(buf, "<LoopContext %lld/%lld>", (long long)i.u.i, (long long)n);
}

static bool put_macro(jj_rt *rt, mr_buf *buf, const jj_macro *macro) {
    const jj_str *name = macro->node->name;
    if (name == NULL) return mr_buf_puts(buf, "<Macro anonymous>");
    mr_buf_puts(buf, "<Macro ");
    return put_str_repr(rt, buf, name, false) && mr_buf_putc(buf, '>');
}

static bool put_repr(jj_rt *rt, mr_buf *buf, jj_value v, repr how) {
    if (!mr_jj_enter(rt)) return false;
    if (buf->len > rt->max_output) return mr_jj_raise(rt, JJ_ERR_LIMIT, "the output grows too large");
    switch (v.kind) {
    case JJ_UNDEFINED:
        return mr_buf_puts(buf, "Undefined");
    case JJ_NONE:
        return mr_buf_puts(buf, "None");
    case JJ_BOOL:
        return mr_buf_puts(buf, v.u.b ? "True" : "False");
    case JJ_INT:
        return mr_buf_printf(buf, "%lld", (long long)v.u.i);
    case JJ_BIG:
        return mr_jj_big_puts(buf, v.u.big);
    case JJ_FLOAT:
        return mr_jj_put_float(buf, v.u.f);
    case JJ_STR:
        if (!mr_jj_is_markup(v)) return put_str_repr(rt, buf, v.u.s, how.ascii);
        mr_buf_puts(buf, "Markup(");
        return put_str_repr(rt, buf, v.u.s, how.ascii) && mr_buf_putc(buf, ')');
    case JJ_LIST:
        return put_items(rt, buf, v.u.l, "[", "]", how);
    case JJ_TUPLE:
        return put_items(rt, buf, v.u.l, "(", v.u.l->n == 1 ? ",)" : ")", how);
    case JJ_DICT:
        return put_dict(rt, buf, v.u.d, how);
    case JJ_VIEW:
        return put_view(rt, buf, v.u.view, how);
    case JJ_RANGE:
        return put_range(buf, v.u.range);
    case JJ_NAMESPACE:
        mr_buf_puts(buf, "<Namespace ");
        return put_dict(rt, buf, v.u.d, how) && mr_buf_putc(buf, '>');
    case JJ_LOOP:
        return put_loop(rt, buf, v);
    case JJ_MACRO:
        return put_macro(rt, buf, v.u.macro);
    case JJ_SELF:
        return mr_buf_puts(buf, "<TemplateReference None>");
    case JJ_BUILTIN:
        if (mr_jj_class_name(v.u.builtin) != NULL)
            return mr_buf_printf(buf, "<class '%s'>", mr_jj_class_name(v.u.builtin));
        return mr_buf_printf(buf, "<function %s at 0x7f0000000000>", v.u.builtin->name);
    case JJ_METHOD:
        return mr_buf_printf(buf, "<built-in method %s of %s object at 0x7f0000000000>", v.u.method->fn->name,
                             mr_jj_type_name(v.u.method->self));
    case JJ_ITER:
        if (v.u.iter->label == NULL) return mr_buf_printf(buf, "<%s object at 0x7f0000000000>", v.u.iter->name);
        return mr_buf_printf(buf, "<generator object %s at 0x7f0000000000>", v.u.iter->label);
        return mr_buf_printf(buf, "<%s object>", v.u.iter->name);
    default:
        return mr_buf_printf(buf, "<%s object>", mr_jj_type_name(v));
    }
}

bool mr_jj_put_repr_with(jj_rt *rt, mr_buf *buf, jj_value v, bool ascii, bool sort_dicts) {
    if (!put_repr(rt, buf, v, (repr){ascii, sort_dicts})) {
        return mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    }
    return true;
}

bool mr_jj_put_repr(jj_rt *rt, mr_buf *buf, jj_value v) {
    return mr_jj_put_repr_with(rt, buf, v, false, false);
}

bool mr_jj_put_str(jj_rt *rt, mr_buf *buf, jj_value v) {
    if (v.kind == JJ_STR) {
        if (!mr_jj_step(rt, v.u.s->len / 256)) return false;
        if (mr_buf_append(buf, v.u.s->data, v.u.s->len)) return true;
        return mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    }
    if (v.kind == JJ_UNDEFINED) return true;
    return mr_jj_put_repr(rt, buf, v);
}

bool mr_jj_to_str(jj_rt *rt, jj_value v, jj_value *out) {
    if (v.kind == JJ_STR) {
        *out = v;
        return true;
    }
    mr_buf buf = {0};
    bool ok = mr_jj_put_str(rt, &buf, v) && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}

bool mr_jj_plain_str(jj_rt *rt, jj_value v, jj_value *out) {
    bool ok = mr_jj_to_str(rt, v, out);
    out->flags = 0;
    return ok;
}

bool mr_jj_put_escaped(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        switch (text[i]) {
        case '&':
            mr_buf_puts(buf, "&amp;");
            break;
        case '<':
            mr_buf_puts(buf, "&lt;");
            break;
        case '>':
            mr_buf_puts(buf, "&gt;");
            break;
        case '\'':
            mr_buf_puts(buf, "&#39;");
            break;
        case '"':
            mr_buf_puts(buf, "&#34;");
            break;
        default:
            mr_buf_putc(buf, text[i]);
        }
    }
    return !buf->failed;
}

bool mr_jj_escape(jj_rt *rt, jj_value v, jj_value *out) {
    if (mr_jj_is_markup(v)) {
        *out = v;
        return true;
    }
    jj_value text;
    mr_buf buf = {0};
    bool ok = mr_jj_to_str(rt, v, &text);
    if (ok) mr_jj_put_escaped(&buf, text.u.s->data, text.u.s->len);
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

const char *mr_jj_repr_cstr(jj_rt *rt, jj_value v) {
    mr_buf buf = {0};
    jj_error_kind before = rt->error;
    bool ok = mr_jj_put_repr(rt, &buf, v);
    if (before == JJ_ERR_NONE && !ok) rt->error = JJ_ERR_NONE;
    size_t n = buf.len < 400 ? buf.len : 400;
    n -= mr_utf8_incomplete_tail(mr_buf_cstr(&buf), n);
    char *text = ok ? mr_arena_strndup(&rt->arena, mr_buf_cstr(&buf), n) : NULL;
    mr_buf_free(&buf);
    return text == NULL ? "?" : text;
}
