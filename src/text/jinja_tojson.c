/* The tojson filter: json.dumps with ensure_ascii off by default, and without escapes for HTML. */
#include "text/jinja_seq.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <math.h>
#include <string.h>

typedef struct json_style {
    bool ensure_ascii, sort_keys, pretty;
    const jj_str *item_separator, *key_separator;
    const char *indent; /* one level */
    size_t indent_len;
} json_style;

static bool put_value(jj_rt *rt, mr_buf *buf, jj_value v, const json_style *style, unsigned level);

static bool put_text(jj_rt *rt, mr_buf *buf, const jj_str *s, bool ensure_ascii) {
    if (!mr_jj_step(rt, s->len / 64)) return false;
    mr_buf_putc(buf, '"');
    for (size_t i = 0; i < s->len;) {
        unsigned char byte = (unsigned char)s->data[i];
        size_t run = i;
        while (run < s->len && (unsigned char)s->data[run] >= 0x20 && s->data[run] != '"' && s->data[run] != '\\' &&
               (!ensure_ascii || (unsigned char)s->data[run] < 0x80)) {
            run++;
        }
        if (run > i) {
            mr_buf_append(buf, s->data + i, run - i);
            i = run;
            continue;
        }
        static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
        const char *known = byte == 0 ? NULL : strchr(from, (char)byte);
        if (known != NULL) {
            mr_buf_putc(buf, '\\');
            mr_buf_putc(buf, to[known - from]);
            i++;
            continue;
        }
        uint32_t c;
        i += mr_utf8_decode(s->data + i, s->len - i, &c);
        if (c >= 0x10000) {
            mr_buf_printf(buf, "\\u%04x", (unsigned)(0xD800 + ((c - 0x10000) >> 10)));
            c = 0xDC00 + ((c - 0x10000) & 0x3FF);
        }
        mr_buf_printf(buf, "\\u%04x", (unsigned)c);
    }
    return mr_buf_putc(buf, '"');
}

static bool put_float(mr_buf *buf, double f) {
    if (isnan(f)) return mr_buf_puts(buf, "NaN");
    if (isinf(f)) return mr_buf_puts(buf, f < 0 ? "-Infinity" : "Infinity");
    return mr_jj_put_float(buf, f);
}

static bool newline(mr_buf *buf, const json_style *style, unsigned level) {
    if (!style->pretty) return true;
    mr_buf_putc(buf, '\n');
    for (unsigned i = 0; i < level; i++) mr_buf_append(buf, style->indent, style->indent_len);
    return !buf->failed;
}

static bool put_list(jj_rt *rt, mr_buf *buf, const jj_list *list, const json_style *style, unsigned level) {
    if (list->n == 0) return mr_buf_puts(buf, "[]");
    mr_buf_putc(buf, '[');
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0) mr_buf_append(buf, style->item_separator->data, style->item_separator->len);
        newline(buf, style, level + 1);
        if (!put_value(rt, buf, list->items[i], style, level + 1)) return false;
    }
    newline(buf, style, level);
    return mr_buf_putc(buf, ']');
}

/* A key is a string, or a scalar whose JSON text becomes one. */
static bool put_key(jj_rt *rt, mr_buf *buf, jj_value key, const json_style *style) {
    if (key.kind == JJ_STR) return put_text(rt, buf, key.u.s, style->ensure_ascii);
    if (key.kind != JJ_NONE && !mr_jj_is_number(key)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "keys must be str, int, float, bool or None, not %s", mr_jj_type_name(key));
    }
    mr_buf_putc(buf, '"');
    if (!put_value(rt, buf, key, style, 0)) return false;
    return mr_buf_putc(buf, '"');
}

static bool sorted_entries(jj_rt *rt, const jj_dict *dict, jj_entry **out) {
    jj_sort_item *items = mr_jj_calloc(rt, dict->n, sizeof *items);
    jj_entry *entries = mr_jj_calloc(rt, dict->n, sizeof *entries);
    if (items == NULL || entries == NULL) return false;
    for (size_t i = 0; i < dict->n; i++)
        items[i] = (jj_sort_item){.key = dict->entries[i].key, .value = mr_jj_int((int64_t)i)};
    if (!mr_jj_sort(rt, items, dict->n, false)) return false;
    for (size_t i = 0; i < dict->n; i++) entries[i] = dict->entries[items[i].value.u.i];
    *out = entries;
    return true;
}

static bool put_dict(jj_rt *rt, mr_buf *buf, const jj_dict *dict, const json_style *style, unsigned level) {
    jj_entry *entries = dict->entries;
    if (dict->n == 0) return mr_buf_puts(buf, "{}");
    if (style->sort_keys && !sorted_entries(rt, dict, &entries)) return false;
    mr_buf_putc(buf, '{');
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0) mr_buf_append(buf, style->item_separator->data, style->item_separator->len);
        newline(buf, style, level + 1);
        if (!put_key(rt, buf, entries[i].key, style)) return false;
        mr_buf_append(buf, style->key_separator->data, style->key_separator->len);
        if (!put_value(rt, buf, entries[i].value, style, level + 1)) return false;
    }
    newline(buf, style, level);
    return mr_buf_putc(buf, '}');
}

static bool put_value(jj_rt *rt, mr_buf *buf, jj_value v, const json_style *style, unsigned level) {
    if (!mr_jj_enter(rt)) return false;
    if (buf->len > rt->max_output) return mr_jj_raise(rt, JJ_ERR_LIMIT, "the output grows too large");
    switch (v.kind) {
    case JJ_NONE:
        return mr_buf_puts(buf, "null");
    case JJ_BOOL:
        return mr_buf_puts(buf, v.u.b ? "true" : "false");
    case JJ_INT:
    case JJ_BIG:
        return mr_jj_put_repr(rt, buf, v);
    case JJ_FLOAT:
        return put_float(buf, v.u.f);
    case JJ_STR:
        return put_text(rt, buf, v.u.s, style->ensure_ascii);
    case JJ_LIST:
    case JJ_TUPLE:
        return put_list(rt, buf, v.u.l, style, level);
    case JJ_DICT:
        return put_dict(rt, buf, v.u.d, style, level);
    default:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "Object of type %s is not JSON serializable", mr_jj_type_name(v));
    }
}

static bool set_indent(jj_rt *rt, jj_value v, json_style *style) {
    int64_t n;
    if (v.kind == JJ_MISSING || v.kind == JJ_NONE) return true;
    style->pretty = true;
    if (v.kind == JJ_STR) {
        style->indent = v.u.s->data;
        style->indent_len = v.u.s->len;
        return true;
    }
    if (!mr_jj_index(v, &n)) {
        if (v.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, v);
        return mr_jj_raise(rt, JJ_ERR_TYPE, "can't multiply sequence by non-int of type '%s'", mr_jj_type_name(v));
    }
    if (n > 10000) return mr_jj_raise(rt, JJ_ERR_LIMIT, "the output grows too large");
    style->indent_len = n < 0 ? 0 : (size_t)n;
    char *spaces = mr_jj_alloc(rt, style->indent_len + 1);
    if (spaces == NULL) return false;
    memset(spaces, ' ', style->indent_len);
    style->indent = spaces;
    return true;
}

static bool set_separators(jj_rt *rt, jj_value v, json_style *style) {
    static const jj_str comma_space = {.data = ", ", .len = 2, .n_chars = 2},
                        comma = {.data = ",", .len = 1, .n_chars = 1}, colon = {.data = ": ", .len = 2, .n_chars = 2};
    style->item_separator = style->pretty ? &comma : &comma_space;
    style->key_separator = &colon;
    if (v.kind == JJ_MISSING || v.kind == JJ_NONE) return true;
    jj_vec pair;
    if (!mr_jj_is_iterable(v)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "cannot unpack non-iterable %s object", mr_jj_type_name(v));
    }
    if (!mr_jj_to_vec(rt, v, &pair)) return false;
    if (pair.n != 2) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "separators must be two strings (item separator, key separator), got %zu",
                           pair.n);
    }
    if (pair.items[0].kind != JJ_STR || pair.items[1].kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "separators must be strings");
    }
    style->item_separator = pair.items[0].u.s;
    style->key_separator = pair.items[1].u.s;
    return true;
}

bool mr_jj_filter_tojson(jj_rt *rt, const jj_call *call, jj_value *out) {
    json_style style = {0};
    mr_buf buf = {0};
    if (call->a[1].kind != JJ_MISSING && !mr_jj_truth(rt, call->a[1], &style.ensure_ascii)) return false;
    if (call->a[4].kind != JJ_MISSING && !mr_jj_truth(rt, call->a[4], &style.sort_keys)) return false;
    /* A text alone has no use for the indentation, so even a wrong one goes unnoticed. */
    if (call->a[0].kind != JJ_STR && !set_indent(rt, call->a[2], &style)) return false;
    if (!set_separators(rt, call->a[3], &style)) return false;
    bool ok = put_value(rt, &buf, call->a[0], &style, 0);
    if (!ok && buf.failed) mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}
