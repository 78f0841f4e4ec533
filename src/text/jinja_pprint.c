/* The pprint filter: Python's pprint.pformat with its default width of 80. */
#include "text/jinja_seq.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <string.h>

enum { WIDTH = 80 };

typedef struct printer {
    jj_rt *rt;
    mr_buf out;
} printer;

static bool print_value(printer *p, jj_value v, int64_t indent, int64_t allowance, unsigned level);

static bool repr_of(printer *p, jj_value v, jj_value *out) {
    mr_buf buf = {0};
    bool ok = mr_jj_put_repr_with(p->rt, &buf, v, false, true) && mr_jj_str_buf(p->rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}

static void put_indented_newline(printer *p, int64_t indent) {
    mr_buf_putc(&p->out, '\n');
    for (int64_t i = 0; i < indent; i++) mr_buf_putc(&p->out, ' ');
}

static bool print_items(printer *p, const jj_list *list, const char *close, int64_t indent, int64_t allowance,
                        unsigned level) {
    indent++;
    for (size_t i = 0; i < list->n; i++) {
        bool last = i + 1 == list->n;
        if (i > 0) {
            mr_buf_putc(&p->out, ',');
            put_indented_newline(p, indent);
        }
        if (!print_value(p, list->items[i], indent, last ? allowance + (int64_t)strlen(close) : 1, level)) return false;
    }
    return mr_buf_puts(&p->out, close) || !p->out.failed;
}

static bool print_dict(printer *p, const jj_dict *d, int64_t indent, int64_t allowance, unsigned level) {
    jj_sort_item *items;
    if (!mr_jj_sorted_entries(p->rt, d, &items)) return false;
    mr_buf_putc(&p->out, '{');
    for (size_t i = 0; i < d->n; i++) {
        jj_value key;
        bool last = i + 1 == d->n;
        if (i > 0) {
            mr_buf_putc(&p->out, ',');
            put_indented_newline(p, indent + 1);
        }
        if (!repr_of(p, items[i].key, &key) || !mr_jj_put_str(p->rt, &p->out, key)) return false;
        mr_buf_puts(&p->out, ": ");
        int64_t at = indent + 1 + (int64_t)key.u.s->n_chars + 2;
        if (!print_value(p, items[i].value, at, last ? allowance + 1 : 1, level)) return false;
    }
    return mr_buf_putc(&p->out, '}') || !p->out.failed;
}

/* The length of the next word with the space behind it. */
static size_t word_length(const jj_str *s, size_t from) {
    size_t i = from, n;
    uint32_t c;
    while (i < s->len && (n = mr_utf8_decode(s->data + i, s->len - i, &c), !mr_jj_is_space(c))) i += n;
    while (i < s->len && (n = mr_utf8_decode(s->data + i, s->len - i, &c), mr_jj_is_space(c))) i += n;
    return i - from;
}

/* Breaks a line that is too long for one literal into literals of whole words. */
static bool split_line(printer *p, jj_value line, bool last_line, int64_t width, int64_t allowance, jj_vec *chunks) {
    const jj_str *s = line.u.s;
    size_t from = 0, end = 0;
    while (end < s->len) {
        size_t next = end + word_length(s, end);
        jj_value candidate, rep;
        int64_t limit = last_line && next >= s->len ? width - allowance : width;
        if (!mr_jj_substring(p->rt, line, from, next, &candidate) || !repr_of(p, candidate, &rep)) return false;
        if ((int64_t)rep.u.s->n_chars > limit && end > from) {
            if (!mr_jj_substring(p->rt, line, from, end, &candidate) || !repr_of(p, candidate, &rep) ||
                !mr_jj_vec_push(p->rt, chunks, rep)) {
                return false;
            }
            from = end;
        }
        end = next;
    }
    jj_value rest, rep;
    return from >= end || (mr_jj_substring(p->rt, line, from, end, &rest) && repr_of(p, rest, &rep) &&
                           mr_jj_vec_push(p->rt, chunks, rep));
}

static bool print_text(printer *p, jj_value v, int64_t indent, int64_t allowance, unsigned level) {
    jj_vec lines = {0}, chunks = {0};
    if (level == 1) {
        indent++;
        allowance++;
    }
    int64_t width = WIDTH - indent;
    if (!mr_jj_splitlines(p->rt, v, true, &lines)) return false;
    for (size_t i = 0; i < lines.n; i++) {
        jj_value rep;
        bool last = i + 1 == lines.n;
        if (!repr_of(p, lines.items[i], &rep)) return false;
        if ((int64_t)rep.u.s->n_chars <= width - (last ? allowance : 0)) {
            if (!mr_jj_vec_push(p->rt, &chunks, rep)) return false;
        } else if (!split_line(p, lines.items[i], last, width, allowance, &chunks)) {
            return false;
        }
    }
    bool brackets = level == 1 && chunks.n > 1;
    if (brackets) mr_buf_putc(&p->out, '(');
    for (size_t i = 0; i < chunks.n; i++) {
        if (i > 0) put_indented_newline(p, indent);
        if (!mr_jj_put_str(p->rt, &p->out, chunks.items[i])) return false;
    }
    if (brackets) mr_buf_putc(&p->out, ')');
    return !p->out.failed;
}

static bool print_value(printer *p, jj_value v, int64_t indent, int64_t allowance, unsigned level) {
    jj_value rep;
    if (!mr_jj_enter(p->rt) || !repr_of(p, v, &rep)) return false;
    if (p->out.len > p->rt->max_output) return mr_jj_raise(p->rt, JJ_ERR_LIMIT, "the output grows too large");
    if ((int64_t)rep.u.s->n_chars > WIDTH - indent - allowance) {
        switch (v.kind) {
        case JJ_DICT:
            return print_dict(p, v.u.d, indent, allowance, level + 1);
        case JJ_LIST:
            mr_buf_putc(&p->out, '[');
            return print_items(p, v.u.l, "]", indent, allowance, level + 1);
        case JJ_TUPLE:
            mr_buf_putc(&p->out, '(');
            return print_items(p, v.u.l, v.u.l->n == 1 ? ",)" : ")", indent, allowance, level + 1);
        case JJ_STR:
            if (v.u.s->len > 0 && !mr_jj_is_markup(v)) return print_text(p, v, indent, allowance, level + 1);
            break;
        default:
            break;
        }
    }
    return mr_jj_put_str(p->rt, &p->out, rep);
}

bool mr_jj_filter_pprint(jj_rt *rt, const jj_call *c, jj_value *out) {
    printer p = {.rt = rt};
    bool ok = print_value(&p, c->a[0], 0, 0, 0) && mr_jj_str_buf(rt, &p.out, out);
    mr_buf_free(&p.out);
    return ok;
}
