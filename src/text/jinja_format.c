#include "text/jinja_format.h"
#include "text/jinja_numfmt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- printf-style formatting --- */

typedef struct percent {
    jj_rt *rt;
    const jj_str *format;
    size_t i; /* position in format */
    jj_value value;
    size_t next_arg;
    bool markup;
    mr_buf out;
} percent;

static bool next_argument(percent *p, jj_value *arg) {
    if (p->value.kind == JJ_TUPLE) {
        if (p->next_arg < p->value.u.l->n) {
            *arg = p->value.u.l->items[p->next_arg++];
            return true;
        }
    } else if (p->next_arg == 0) {
        p->next_arg = 1;
        *arg = p->value;
        return true;
    }
    return mr_jj_raise(p->rt, JJ_ERR_TYPE, "not enough arguments for format string");
}

/* %(key)…: the argument is an item of the mapping. */
static bool mapped_argument(percent *p, jj_value *arg) {
    const char *s = p->format->data;
    size_t from = ++p->i, depth = 1;
    for (; p->i < p->format->len && depth > 0; p->i++) depth += (s[p->i] == '(') - (s[p->i] == ')');
    if (depth > 0) return mr_jj_raise(p->rt, JJ_ERR_VALUE, "incomplete format key");
    if (p->value.kind != JJ_DICT) return mr_jj_raise(p->rt, JJ_ERR_TYPE, "format requires a mapping");
    jj_value *found = mr_jj_dict_get_str(p->value.u.d, s + from, p->i - 1 - from);
    if (found == NULL) {
        return mr_jj_raise(p->rt, JJ_ERR_KEY, "'%.*s'", (int)(p->i - 1 - from), s + from);
    }
    *arg = *found;
    return true;
}

static bool read_count(percent *p, int64_t *n, bool *negative) {
    const char *s = p->format->data;
    if (p->i < p->format->len && s[p->i] == '*') {
        jj_value arg;
        p->i++;
        if (!next_argument(p, &arg)) return false;
        if (!mr_jj_index(arg, n)) return mr_jj_raise(p->rt, JJ_ERR_TYPE, "* wants int");
        if (*n > 1000000 || *n < -1000000)
            return mr_jj_raise(p->rt, JJ_ERR_LIMIT, "a width or precision in a format is too large");
        *negative = *n < 0;
        if (*n < 0) *n = -*n;
        return true;
    }
    while (p->i < p->format->len && s[p->i] >= '0' && s[p->i] <= '9') {
        *n = (*n < 0 ? 0 : *n) * 10 + (s[p->i++] - '0');
        if (*n > 1000000) return mr_jj_raise(p->rt, JJ_ERR_LIMIT, "a width or precision in a format is too large");
    }
    return true;
}

/* Flags, width and precision. */
static bool read_spec(percent *p, jj_spec *spec) {
    const char *s = p->format->data;
    size_t n = p->format->len;
    bool left = false, negative = false;
    *spec = (jj_spec){.fill = " ", .fill_len = 1, .width = -1, .precision = -1, .align = '>'};
    for (; p->i < n && strchr("-+ #0", s[p->i]) != NULL && s[p->i] != '\0'; p->i++) {
        if (s[p->i] == '-') left = true;
        if (s[p->i] == '+') spec->sign = '+';
        if (s[p->i] == ' ' && spec->sign != '+') spec->sign = ' ';
        if (s[p->i] == '#') spec->alternate = true;
        if (s[p->i] == '0') spec->zero = true;
    }
    if (!read_count(p, &spec->width, &negative)) return false;
    left = left || negative;
    if (p->i < n && s[p->i] == '.') {
        p->i++;
        spec->precision = 0;
        if (!read_count(p, &spec->precision, &negative)) return false;
    }
    if (p->i < n && (s[p->i] == 'h' || s[p->i] == 'l' || s[p->i] == 'L')) p->i++;
    if (left) spec->align = '<';
    return true;
}

static bool put_text_argument(percent *p, jj_value arg, const jj_spec *spec, char type) {
    jj_value text;
    mr_buf buf = {0};
    bool ok = type == 's' ? mr_jj_put_str(p->rt, &buf, arg) : mr_jj_put_repr_with(p->rt, &buf, arg, type == 'a', false);
    ok = ok && mr_jj_str_buf(p->rt, &buf, &text);
    mr_buf_free(&buf);
    if (!ok) return false;
    if (p->markup) {
        if (type == 's') text.flags = arg.kind == JJ_STR ? arg.flags : 0;
        if (!mr_jj_escape(p->rt, text, &text)) return false;
    }
    size_t len = text.u.s->len;
    if (spec->precision >= 0 && (size_t)spec->precision < text.u.s->n_chars) {
        len = 0;
        for (int64_t k = 0; k < spec->precision; k++) {
            do len++;
            while (len < text.u.s->len && ((unsigned char)text.u.s->data[len] & 0xC0) == 0x80);
        }
    }
    return mr_jj_put_padded(p->rt, &p->out, text.u.s->data, len, spec, '>');
}

static bool put_char_argument(percent *p, jj_value arg, const jj_spec *spec) {
    int64_t i;
    if (arg.kind == JJ_STR && arg.u.s->n_chars == 1) {
        return mr_jj_put_padded(p->rt, &p->out, arg.u.s->data, arg.u.s->len, spec, '>');
    }
    if (!mr_jj_index(arg, &i)) return mr_jj_raise(p->rt, JJ_ERR_TYPE, "%%c requires int or char");
    jj_spec with_type = *spec;
    with_type.type = 'c';
    return mr_jj_put_number(p->rt, &p->out, arg, &with_type);
}

/* An integer with a minimum number of digits (precision), zero or space padding. */
static bool put_int_argument(percent *p, jj_value arg, jj_spec spec, char type) {
    mr_buf digits = {0}, whole = {0};
    int64_t i = 0;
    bool negative = arg.kind == JJ_BIG ? arg.u.big->negative : (mr_jj_index(arg, &i), i < 0);
    bool ok = mr_jj_put_digits(p->rt, &digits, arg, type);
    char sign = negative ? '-' : spec.sign;
    char prefix[3] = {0};
    if (spec.alternate && type != 'd') {
        prefix[0] = '0';
        prefix[1] = type;
    }
    size_t n = digits.len, used = (sign != 0) + strlen(prefix);
    if (spec.precision > (int64_t)n) n = (size_t)spec.precision;
    if (spec.zero && spec.align == '>' && spec.width > (int64_t)(n + used)) n = (size_t)spec.width - used;
    if (sign != 0) mr_buf_putc(&whole, sign);
    mr_buf_puts(&whole, prefix);
    for (size_t k = digits.len; k < n; k++) mr_buf_putc(&whole, '0');
    mr_buf_append(&whole, mr_buf_cstr(&digits), digits.len);
    ok = ok && mr_jj_put_padded(p->rt, &p->out, mr_buf_cstr(&whole), whole.len, &spec, '>');
    mr_buf_free(&digits);
    mr_buf_free(&whole);
    return ok;
}

static bool put_float_argument(percent *p, double f, jj_spec spec, char type) {
    mr_buf digits = {0}, whole = {0};
    bool negative = signbit(f) && !isnan(f);
    bool ok =
        mr_jj_put_float_digits(p->rt, &digits, fabs(f), type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
    char sign = negative ? '-' : spec.sign;
    if (sign != 0) mr_buf_putc(&whole, sign);
    size_t n = digits.len + (sign != 0);
    if (spec.zero && spec.align == '>') {
        for (; spec.width > (int64_t)n; n++) mr_buf_putc(&whole, '0');
    }
    mr_buf_append(&whole, mr_buf_cstr(&digits), digits.len);
    ok = ok && mr_jj_put_padded(p->rt, &p->out, mr_buf_cstr(&whole), whole.len, &spec, '>');
    mr_buf_free(&digits);
    mr_buf_free(&whole);
    return ok;
}

static bool convert_number(percent *p, jj_value arg, const jj_spec *spec, char type) {
    bool real = strchr("eEfFgG", type) != NULL, decimal = type == 'd' || type == 'i' || type == 'u';
    if (arg.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(p->rt, arg);
    if (!mr_jj_is_number(arg)) {
        if (real) return mr_jj_raise(p->rt, JJ_ERR_TYPE, "must be real number, not %s", mr_jj_type_name(arg));
        return mr_jj_raise(p->rt, JJ_ERR_TYPE,
                           decimal ? "%%%c format: a real number is required, not %s"
                                   : "%%%c format: an integer is required, not %s",
                           type, mr_jj_type_name(arg));
    }
    if (real) return put_float_argument(p, mr_jj_to_double(arg), *spec, type);
    if (arg.kind == JJ_FLOAT) {
        if (!decimal) return mr_jj_raise(p->rt, JJ_ERR_TYPE, "%%%c format: an integer is required, not float", type);
        if (!isfinite(arg.u.f)) {
            return isnan(arg.u.f) ? mr_jj_raise(p->rt, JJ_ERR_VALUE, "cannot convert float NaN to integer")
                                  : mr_jj_raise(p->rt, JJ_ERR_OVERFLOW, "cannot convert float infinity to integer");
        }
        if (!mr_jj_big_from_double(p->rt, arg.u.f, &arg)) return false;
    }
    return put_int_argument(p, arg, *spec, decimal ? 'd' : type);
}

static bool convert(percent *p, const jj_spec *spec, jj_value mapped) {
    if (p->i >= p->format->len) return mr_jj_raise(p->rt, JJ_ERR_VALUE, "incomplete format");
    size_t at = p->i;
    char type = p->format->data[p->i++];
    if (type == '%') {
        mr_buf_putc(&p->out, '%');
        return true;
    }
    jj_value arg = mapped;
    if (arg.kind == JJ_MISSING && !next_argument(p, &arg)) return false;
    if (type == 's' || type == 'r' || type == 'a') return put_text_argument(p, arg, spec, type);
    if (type == 'c') return put_char_argument(p, arg, spec);
    if (type != '\0' && strchr("diuoxXeEfFgG", type) != NULL) return convert_number(p, arg, spec, type);
    return mr_jj_raise(p->rt, JJ_ERR_VALUE, "unsupported format character '%c' (0x%x) at index %zu", type,
                       (unsigned)(unsigned char)type, mr_jj_utf8_count(p->format->data, at));
}

static bool run_percent(percent *p) {
    const char *s = p->format->data;
    while (p->i < p->format->len) {
        if (s[p->i] != '%') {
            size_t from = p->i;
            while (p->i < p->format->len && s[p->i] != '%') p->i++;
            mr_buf_append(&p->out, s + from, p->i - from);
            continue;
        }
        jj_value mapped = {0};
        jj_spec spec;
        p->i++;
        if (p->i < p->format->len && s[p->i] == '(' && !mapped_argument(p, &mapped)) return false;
        if (!read_spec(p, &spec) || !convert(p, &spec, mapped) || !mr_jj_step(p->rt, 1)) return false;
    }
    bool is_mapping = p->value.kind == JJ_DICT || p->value.kind == JJ_LIST || p->value.kind == JJ_RANGE ||
                      p->value.kind == JJ_UNDEFINED;
    size_t n = p->value.kind == JJ_TUPLE ? p->value.u.l->n : 1;
    if (p->next_arg < n && !is_mapping) {
        return mr_jj_raise(p->rt, JJ_ERR_TYPE, "not all arguments converted during string formatting");
    }
    return true;
}

bool mr_jj_percent_format(jj_rt *rt, jj_value format, jj_value value, jj_value *out) {
    percent p = {.rt = rt, .format = format.u.s, .value = value, .markup = mr_jj_is_markup(format)};
    bool ok = mr_jj_step(rt, format.u.s->len / 256) && run_percent(&p) && mr_jj_str_buf(rt, &p.out, out);
    mr_buf_free(&p.out);
    if (ok) out->flags = format.flags;
    return ok;
}

/* --- str.format --- */

typedef struct formatter {
    jj_rt *rt;
    const jj_args *args;
    int64_t auto_index; /* next automatic number; -1 after explicit numbers were used */
    bool auto_used;
    bool markup;
} formatter;

static bool run_format(formatter *f, const char *s, size_t n, unsigned depth, mr_buf *out);

static bool all_digits(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
    }
    return n > 0;
}

static bool positional(formatter *f, int64_t i, jj_value *out) {
    if (i < 0 || (size_t)i >= f->args->n_pos) {
        return mr_jj_raise(f->rt, JJ_ERR_KEY, "Replacement index %lld out of range for positional args tuple",
                           (long long)i);
    }
    *out = f->args->pos[i];
    return true;
}

/* The argument that the first part of a field's name picks. */
static bool first_value(formatter *f, const char *s, size_t n, jj_value *out) {
    if (n == 0) {
        if (f->auto_index < 0) {
            return mr_jj_raise(f->rt, JJ_ERR_VALUE,
                               "cannot switch from manual field specification to automatic field numbering");
        }
        f->auto_used = true;
        return positional(f, f->auto_index++, out);
    }
    if (all_digits(s, n)) {
        if (f->auto_used) {
            return mr_jj_raise(f->rt, JJ_ERR_VALUE,
                               "cannot switch from manual field specification to automatic field numbering");
        }
        f->auto_index = -1;
        int64_t i = 0;
        for (size_t k = 0; k < n && i < 100000000; k++) i = i * 10 + (s[k] - '0');
        return positional(f, i, out);
    }
    for (size_t k = 0; k < f->args->n_kw; k++) {
        const jj_str *name = f->args->kw[k].name.u.s;
        if (name->len == n && memcmp(name->data, s, n) == 0) {
            *out = f->args->kw[k].value;
            return true;
        }
    }
    return mr_jj_raise(f->rt, JJ_ERR_KEY, "'%.*s'", (int)(n < 200 ? n : 200), s);
}

static bool field_value(formatter *f, const char *s, size_t n, jj_value *out) {
    size_t i = 0;
    while (i < n && s[i] != '.' && s[i] != '[') i++;
    if (!first_value(f, s, i, out)) return false;
    while (i < n) {
        jj_value name;
        bool attribute = s[i] == '.';
        size_t from = ++i;
        while (i < n && (attribute ? s[i] != '.' && s[i] != '[' : s[i] != ']')) i++;
        if (!attribute && i >= n) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Missing ']' in format string");
        if (i == from) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Empty attribute in format string");
        if (!mr_jj_str_new(f->rt, s + from, i - from, &name)) return false;
        if (attribute) {
            if (!mr_jj_getattr(f->rt, *out, name, out)) return false;
            continue;
        }
        if (all_digits(s + from, i - from) && i - from < 18) {
            int64_t index = 0;
            for (size_t k = from; k < i; k++) index = index * 10 + (s[k] - '0');
            name = mr_jj_int(index);
        }
        if (!mr_jj_getitem(f->rt, *out, name, out)) return false;
        i++;
        if (i < n && s[i] != '.' && s[i] != '[') {
            return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Only '.' or '[' may follow ']' in format field specifier");
        }
    }
    return true;
}

static bool put_str_field(formatter *f, jj_value v, const jj_str *spec_text, mr_buf *out) {
    jj_spec spec;
    jj_rt *rt = f->rt;
    if (!mr_jj_spec_parse(rt, spec_text, "str", &spec)) return false;
    if (spec.type != 0 && spec.type != 's') {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "Unknown format code '%c' for object of type 'str'", spec.type);
    }
    if (spec.sign != 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "Sign not allowed in string format specifier");
    if (spec.alternate)
        return mr_jj_raise(rt, JJ_ERR_VALUE, "Alternate form (#) not allowed in string format specifier");
    if (spec.align == '=' && !spec.zero) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "'=' alignment not allowed in string format specifier");
    }
    if (spec.align == '=') spec.align = '<';
    if (spec.group != 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "Cannot specify '%c' with 's'.", spec.group);
    size_t len = v.u.s->len;
    for (size_t i = 0, k = 0; spec.precision >= 0 && i < v.u.s->len; i++) {
        if (((unsigned char)v.u.s->data[i] & 0xC0) == 0x80) continue;
        if ((int64_t)k++ == spec.precision) {
            len = i;
            break;
        }
    }
    return mr_jj_put_padded(rt, out, v.u.s->data, len, &spec, '<');
}

/* format(v, spec). */
static bool put_field(formatter *f, jj_value v, const jj_str *spec_text, mr_buf *out) {
    jj_spec spec;
    if (v.kind == JJ_STR) return put_str_field(f, v, spec_text, out);
    if (spec_text->len == 0) return mr_jj_put_str(f->rt, out, v);
    if (!mr_jj_is_number(v)) {
        return mr_jj_raise(f->rt, JJ_ERR_TYPE, "unsupported format string passed to %s.__format__", mr_jj_type_name(v));
    }
    return mr_jj_spec_parse(f->rt, spec_text, mr_jj_type_name(v), &spec) && mr_jj_put_number(f->rt, out, v, &spec);
}

static bool convert_value(formatter *f, char conversion, jj_value *v) {
    mr_buf buf = {0};
    bool ok;
    switch (conversion) {
    case 's':
        return mr_jj_plain_str(f->rt, *v, v);
    case 'r':
    case 'a':
        ok = mr_jj_put_repr_with(f->rt, &buf, *v, conversion == 'a', false) && mr_jj_str_buf(f->rt, &buf, v);
        mr_buf_free(&buf);
        return ok;
    default:
        return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Unknown conversion specifier %c", conversion);
    }
}

/* One replacement field s[0..n): name, !conversion, :spec. */
static bool run_field(formatter *f, const char *s, size_t n, unsigned depth, mr_buf *out) {
    size_t i = 0, brackets = 0;
    while (i < n && (brackets > 0 || (s[i] != '!' && s[i] != ':'))) {
        brackets += s[i] == '[';
        if (s[i] == ']' && brackets > 0) brackets--;
        i++;
    }
    jj_value v, spec_text;
    if (!field_value(f, s, i, &v)) return false;
    if (i < n && s[i] == '!') {
        if (i + 1 >= n) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "end of string while looking for conversion specifier");
        char conversion = s[i + 1];
        i += 2;
        if (i < n && s[i] != ':') return mr_jj_raise(f->rt, JJ_ERR_VALUE, "expected ':' after conversion specifier");
        if (!convert_value(f, conversion, &v)) return false;
    }
    mr_buf spec = {0};
    bool ok = i >= n || run_format(f, s + i + 1, n - i - 1, depth + 1, &spec);
    ok = ok && mr_jj_str_buf(f->rt, &spec, &spec_text);
    mr_buf_free(&spec);
    if (!ok) return false;
    if (!f->markup) return put_field(f, v, spec_text.u.s, out);
    mr_buf field = {0};
    jj_value text;
    ok = put_field(f, v, spec_text.u.s, &field) && mr_jj_str_buf(f->rt, &field, &text);
    mr_buf_free(&field);
    if (ok && mr_jj_is_markup(v)) text.flags = JJ_FLAG_MARKUP;
    return ok && mr_jj_escape(f->rt, text, &text) && mr_jj_put_str(f->rt, out, text);
}

static bool run_format(formatter *f, const char *s, size_t n, unsigned depth, mr_buf *out) {
    if (depth > 2) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Max string recursion exceeded");
    for (size_t i = 0; i < n;) {
        if (s[i] != '{' && s[i] != '}') {
            mr_buf_putc(out, s[i++]);
            continue;
        }
        if (i + 1 < n && s[i + 1] == s[i]) {
            mr_buf_putc(out, s[i]);
            i += 2;
            continue;
        }
        if (s[i] == '}') return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Single '}' encountered in format string");
        if (i + 1 >= n) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "Single '{' encountered in format string");
        size_t from = ++i, level = 1;
        while (i < n && level > 0) {
            level += s[i] == '{';
            level -= s[i] == '}';
            i++;
        }
        if (level > 0) return mr_jj_raise(f->rt, JJ_ERR_VALUE, "expected '}' before end of string");
        if (!mr_jj_step(f->rt, 1) || !run_field(f, s + from, i - 1 - from, depth, out)) return false;
        if (out->len > f->rt->max_output) return mr_jj_raise(f->rt, JJ_ERR_LIMIT, "the output grows too large");
    }
    return true;
}

bool mr_jj_str_format(jj_rt *rt, jj_value format, const jj_args *args, jj_value *out) {
    formatter f = {.rt = rt, .args = args, .markup = mr_jj_is_markup(format)};
    mr_buf buf = {0};
    bool ok = mr_jj_step(rt, format.u.s->len / 64) && run_format(&f, format.u.s->data, format.u.s->len, 1, &buf) &&
              mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok) out->flags = format.flags;
    return ok;
}
