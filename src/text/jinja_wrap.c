/* The wordwrap filter: the algorithm of Python's textwrap, on one paragraph after the other. */
#include "text/jinja_seq.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <string.h>

typedef struct wrapper {
    jj_rt *rt;
    int64_t width;
    bool break_long_words, break_on_hyphens, split_on_hyphens;
    const uint32_t *text; /* [n] the paragraph's characters */
    size_t n;
    size_t *ends; /* [n_chunks] where the chunks end */
    size_t n_chunks;
} wrapper;

static bool is_break(uint32_t c) {
    return c == '\t' || c == '\n' || c == 0x0B || c == 0x0C || c == '\r' || c == ' ';
}

static bool is_letter(uint32_t c) {
    return mr_jj_is_word(c) && !mr_jj_is_decimal(c);
}

static bool is_word_punct(uint32_t c) {
    return mr_jj_is_word(c) || c == '!' || c == '"' || c == '\'' || c == '&' || c == '.' || c == ',' || c == '?';
}

/* Length of a run of two or more dashes at i that a word follows, else 0. */
static size_t em_dash(const wrapper *w, size_t i) {
    size_t n = 0;
    while (i + n < w->n && w->text[i + n] == '-') n++;
    return n >= 2 && i + n < w->n && mr_jj_is_word(w->text[i + n]) ? n : 0;
}

/* Whether the word may break after the hyphen at i: between letters, as in "well-known". */
static bool breaks_after(const wrapper *w, size_t i) {
    const uint32_t *t = w->text;
    bool before = (i >= 2 && is_letter(t[i - 1]) && is_letter(t[i - 2])) ||
                  (i >= 3 && is_letter(t[i - 1]) && t[i - 2] == '-' && is_letter(t[i - 3]));
    if (!before || i + 2 >= w->n || !is_letter(t[i + 1])) return false;
    return is_letter(t[i + 2]) || (t[i + 2] == '-' && i + 3 < w->n && is_letter(t[i + 3]));
}

/* The end of the chunk that starts at i. */
static size_t chunk_end(const wrapper *w, size_t i) {
    size_t at = i;
    if (is_break(w->text[i])) {
        while (at < w->n && is_break(w->text[at])) at++;
        return at;
    }
    if (!w->split_on_hyphens) {
        while (at < w->n && !is_break(w->text[at])) at++;
        return at;
    }
    size_t dash = i > 0 && is_word_punct(w->text[i - 1]) ? em_dash(w, i) : 0;
    if (dash > 0) return i + dash;
    for (at = i + 1; at < w->n && !is_break(w->text[at]); at++) {
        if (w->text[at] != '-') continue;
        if (breaks_after(w, at)) return at + 1;
        if (is_word_punct(w->text[at - 1]) && em_dash(w, at) > 0) return at;
    }
    return at;
}

static bool split_chunks(wrapper *w) {
    w->ends = mr_jj_calloc(w->rt, w->n, sizeof *w->ends);
    w->n_chunks = 0;
    if (w->ends == NULL) return false;
    for (size_t i = 0; i < w->n; i = w->ends[w->n_chunks++]) {
        size_t end = chunk_end(w, i);
        if (!mr_jj_step(w->rt, 1 + (end - i) / 8)) return false;
        w->ends[w->n_chunks] = end;
    }
    return true;
}

static bool all_space(const wrapper *w, size_t from, size_t to) {
    for (; from < to; from++) {
        if (!mr_jj_is_space(w->text[from])) return false;
    }
    return true;
}

/* How much of the too long chunk [from, end) goes onto a line with `used` characters. */
static size_t long_word_part(const wrapper *w, size_t from, size_t end, size_t used) {
    size_t space = (size_t)w->width - used, part = space;
    if (w->break_on_hyphens && end - from > space) {
        size_t hyphen = space;
        while (hyphen > 0 && w->text[from + hyphen - 1] != '-') hyphen--;
        bool word_before = false;
        for (size_t i = 0; hyphen > 1 && i < hyphen - 1; i++) word_before = word_before || w->text[from + i] != '-';
        if (word_before) part = hyphen;
    }
    return part < end - from ? part : end - from;
}

static void put_line(const wrapper *w, mr_buf *buf, size_t from, size_t to) {
    for (; from < to; from++) {
        char utf8[4];
        mr_buf_append(buf, utf8, mr_utf8_encode(w->text[from], utf8));
    }
}

static bool wrap_paragraph(wrapper *w, const jj_str *newline, mr_buf *buf) {
    size_t chunk = 0, from = 0, n_lines = 0, width = (size_t)w->width;
    while (chunk < w->n_chunks) {
        if (!mr_jj_step(w->rt, 1)) return false;
        if (n_lines > 0 && all_space(w, from, w->ends[chunk])) from = w->ends[chunk++];
        size_t start = from, last = from;
        while (chunk < w->n_chunks && w->ends[chunk] - start <= width) {
            last = from;
            from = w->ends[chunk++];
        }
        if (chunk < w->n_chunks && w->ends[chunk] - from > width) {
            if (w->break_long_words) {
                size_t part = long_word_part(w, from, w->ends[chunk], from - start);
                last = from;
                from += part;
                if (from == w->ends[chunk]) chunk++;
            } else if (from == start) {
                last = from;
                from = w->ends[chunk++];
            }
        }
        size_t end = from;
        if (end > start && all_space(w, last, end)) end = last;
        if (end == start) continue;
        if (n_lines++ > 0) mr_buf_append(buf, newline->data, newline->len);
        put_line(w, buf, start, end);
    }
    return true;
}

static bool decode(wrapper *w, const jj_str *s) {
    uint32_t *text = mr_jj_calloc(w->rt, s->n_chars, sizeof *text);
    if (text == NULL) return false;
    w->n = 0;
    for (size_t i = 0; i < s->len; w->n++) i += mr_utf8_decode(s->data + i, s->len - i, &text[w->n]);
    w->text = text;
    return true;
}

static bool read_options(jj_rt *rt, const jj_call *c, wrapper *w, const jj_str **newline) {
    static const jj_str line_feed = {.data = "\n", .len = 1, .n_chars = 1};
    *w = (wrapper){.rt = rt, .width = 79, .break_long_words = true, .break_on_hyphens = true, .split_on_hyphens = true};
    if (c->a[1].kind != JJ_MISSING && !mr_jj_index(c->a[1], &w->width)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "wordwrap(): width must be a number, not %s", mr_jj_type_name(c->a[1]));
    }
    if (c->a[2].kind != JJ_MISSING && !mr_jj_truth(rt, c->a[2], &w->break_long_words)) return false;
    if (c->a[4].kind != JJ_MISSING) {
        if (!mr_jj_truth(rt, c->a[4], &w->break_on_hyphens)) return false;
        w->split_on_hyphens = c->a[4].kind == JJ_BOOL && c->a[4].u.b;
    }
    *newline = &line_feed;
    if (c->a[3].kind == JJ_STR) {
        *newline = c->a[3].u.s;
    } else if (c->a[3].kind != JJ_MISSING && c->a[3].kind != JJ_NONE) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "wordwrap(): wrapstring must be a string, not %s",
                           mr_jj_type_name(c->a[3]));
    }
    return true;
}

bool mr_jj_filter_wordwrap(jj_rt *rt, const jj_call *c, jj_value *out) {
    wrapper w;
    const jj_str *newline;
    jj_vec lines = {0};
    mr_buf buf = {0};
    if (!read_options(rt, c, &w, &newline)) return false;
    if (c->a[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, c->a[0]);
    if (c->a[0].kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "wordwrap() needs a string, not %s", mr_jj_type_name(c->a[0]));
    }
    if (!mr_jj_splitlines(rt, c->a[0], false, &lines)) return false;
    if (lines.n > 0 && w.width <= 0) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "invalid width %lld (must be > 0)", (long long)w.width);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < lines.n; i++) {
        if (i > 0) mr_buf_append(&buf, newline->data, newline->len);
        ok = decode(&w, lines.items[i].u.s) && split_chunks(&w) && wrap_paragraph(&w, newline, &buf);
    }
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}
