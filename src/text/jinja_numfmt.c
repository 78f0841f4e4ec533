#include "text/jinja_numfmt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PRECISION = 5000, MAX_WIDTH = 1000000 };

static bool is_align(char c) {
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static bool read_number(jj_rt *rt, const jj_str *text, size_t *i, int64_t *n) {
    *n = -1;
    while (*i < text->len && text->data[*i] >= '0' && text->data[*i] <= '9') {
        *n = (*n < 0 ? 0 : *n) * 10 + (text->data[(*i)++] - '0');
        if (*n > MAX_WIDTH) return mr_jj_raise(rt, JJ_ERR_LIMIT, "a width or precision in a format is too large");
    }
    return true;
}

bool mr_jj_spec_parse(jj_rt *rt, const jj_str *text, const char *type_name, jj_spec *spec) {
    const char *s = text->data;
    size_t n = text->len, i = 0;
    *spec = (jj_spec){.fill = " ", .fill_len = 1, .width = -1, .precision = -1};
    size_t first = n == 0 ? 0 : 1;
    while (first < n && ((unsigned char)s[first] & 0xC0) == 0x80) first++;
    bool own_fill = first < n && is_align(s[first]);
    if (own_fill) {
        spec->fill = s;
        spec->fill_len = first;
        spec->align = s[first];
        i = first + 1;
    } else if (n > 0 && is_align(s[0])) {
        spec->align = s[0];
        i = 1;
    }
    if (i < n && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) spec->sign = s[i++];
    if (i < n && s[i] == 'z') i++;
    if (i < n && s[i] == '#') {
        spec->alternate = true;
        i++;
    }
    if (!own_fill && i < n && s[i] == '0') {
        spec->zero = true;
        spec->fill = "0";
        if (spec->align == 0) spec->align = '=';
        i++;
    }
    if (!read_number(rt, text, &i, &spec->width)) return false;
    if (i < n && (s[i] == ',' || s[i] == '_')) spec->group = s[i++];
    if (i < n && (s[i] == ',' || s[i] == '_')) {
        return mr_jj_raise(rt, JJ_ERR_VALUE,
                           s[i] == spec->group ? "Cannot specify '%c' with '%c'." : "Cannot specify both ',' and '_'.",
                           s[i], s[i]);
    }
    if (i < n && s[i] == '.') {
        i++;
        if (!read_number(rt, text, &i, &spec->precision)) return false;
        if (spec->precision < 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "Format specifier missing precision");
    }
    if (n - i > 1) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "Invalid format specifier '%.*s' for object of type '%s'",
                           (int)(n < 80 ? n : 80), s, type_name);
    }
    if (i < n) spec->type = s[i];
    return true;
}

static void put_fill(mr_buf *buf, const jj_spec *spec, size_t n) {
    for (size_t i = 0; i < n; i++) mr_buf_append(buf, spec->fill, spec->fill_len);
}

bool mr_jj_put_padded(jj_rt *rt, mr_buf *buf, const char *text, size_t len, const jj_spec *spec, char default_align) {
    size_t n_chars = mr_jj_utf8_count(text, len);
    size_t pad = spec->width > (int64_t)n_chars ? (size_t)spec->width - n_chars : 0;
    char align = spec->align == 0 ? default_align : spec->align;
    size_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    if (!mr_jj_step(rt, 1 + pad / 64 + len / 256)) return false;
    put_fill(buf, spec, left);
    mr_buf_append(buf, text, len);
    put_fill(buf, spec, pad - left);
    if (buf->len > rt->max_output) return mr_jj_raise(rt, JJ_ERR_LIMIT, "the output grows too large");
    return true;
}

bool mr_jj_put_digits(jj_rt *rt, mr_buf *buf, jj_value v, char type) {
    unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    if (v.kind == JJ_BIG) {
        jj_big *magnitude = mr_jj_alloc(rt, sizeof *magnitude + v.u.big->n * sizeof(uint32_t));
        if (magnitude == NULL) return false;
        if (base != 10) return mr_jj_raise(rt, JJ_ERR_LIMIT, "integers outside of 64 bits are shown in decimal only");
        memcpy(magnitude, v.u.big, sizeof *magnitude + v.u.big->n * sizeof(uint32_t));
        magnitude->negative = false;
        return mr_jj_big_puts(buf, magnitude);
    }
    int64_t i = 0;
    mr_jj_index(v, &i);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char digits[65];
    size_t at = sizeof digits;
    do {
        unsigned d = (unsigned)(u % base);
        digits[--at] = (char)(d < 10 ? '0' + d : (type == 'X' ? 'A' : 'a') + d - 10);
        u /= base;
    } while (u > 0);
    return mr_buf_append(buf, digits + at, sizeof digits - at);
}

/* The form without a type but with a precision: like 'g', and always recognizable as a float. */
static void put_general(mr_buf *buf, double f, int precision, bool dot_zero) {
    char text[64 + MAX_PRECISION];
    if (precision == 0) precision = 1;
    snprintf(text, sizeof text, "%.*e", precision - 1, f);
    char *e = strchr(text, 'e');
    int exponent = e == NULL ? 0 : atoi(e + 1), decpt = exponent + 1;
    if (decpt > -4 && decpt <= precision - (dot_zero ? 1 : 0)) {
        snprintf(text, sizeof text, "%.*g", precision, f);
        mr_buf_puts(buf, text);
        if (dot_zero && strchr(text, '.') == NULL) mr_buf_puts(buf, ".0");
        return;
    }
    char *end = e;
    if (strchr(text, '.') != NULL) {
        while (end > text && end[-1] == '0') end--;
        if (end > text && end[-1] == '.') end--;
    }
    mr_buf_append(buf, text, (size_t)(end - text));
    mr_buf_puts(buf, e);
}

bool mr_jj_put_float_digits(jj_rt *rt, mr_buf *buf, double f, char type, int64_t precision, bool alternate) {
    char lower = (char)(type | 32);
    if (precision > MAX_PRECISION) return mr_jj_raise(rt, JJ_ERR_LIMIT, "a precision in a format is too large");
    if (isnan(f) || isinf(f)) {
        bool upper = type == 'F' || type == 'E' || type == 'G';
        return mr_buf_puts(buf, isnan(f) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
    }
    if (lower == 'r') {
        if (precision < 0) return mr_jj_put_float(buf, f);
        put_general(buf, f, (int)precision, true);
        return !buf->failed;
    }
    char text[400 + MAX_PRECISION], format[8];
    int p = precision < 0 ? 6 : (int)precision;
    snprintf(format, sizeof format, alternate ? "%%#.*%c" : "%%.*%c", type);
    int n = snprintf(text, sizeof text, format, p, f);
    return n > 0 && mr_buf_append(buf, text, (size_t)n);
}

/* Puts separators into the integer part of digits[0..n_int), with zeros in front until min_width characters. */
static void put_grouped(mr_buf *buf, const char *digits, size_t n_int, char group, size_t every, size_t min_width) {
    size_t n = n_int;
    while (group != 0 && n + (n - 1) / every < min_width) n++;
    while (group == 0 && n < min_width) n++;
    for (size_t i = 0; i < n; i++) {
        size_t left = n - i;
        if (i > 0 && group != 0 && left % every == 0) mr_buf_putc(buf, group);
        mr_buf_putc(buf, left > n_int ? '0' : digits[n_int - left]);
    }
}

/* sign + prefix + digits, where digits may have a fraction behind n_int integer digits. */
static bool assemble(jj_rt *rt, mr_buf *buf, bool negative, const char *prefix, const mr_buf *digits, size_t n_int,
                     const jj_spec *spec) {
    mr_buf body = {0};
    char sign = negative ? '-' : spec->sign == '+' ? '+' : spec->sign == ' ' ? ' ' : '\0';
    size_t every = spec->type == 'b' || spec->type == 'o' || spec->type == 'x' || spec->type == 'X' ? 4 : 3;
    size_t fixed = (sign != 0) + strlen(prefix) + (digits->len - n_int);
    size_t zeros =
        spec->align == '=' && spec->fill[0] == '0' && spec->width > (int64_t)fixed ? (size_t)spec->width - fixed : 0;
    if (!mr_jj_step(rt, 1 + zeros / 64)) return false;
    mr_buf_puts(&body, prefix);
    put_grouped(&body, mr_buf_cstr(digits), n_int, n_int == 0 ? '\0' : spec->group, every, zeros);
    mr_buf_append(&body, mr_buf_cstr(digits) + n_int, digits->len - n_int);
    bool ok = true;
    if (spec->align == '=') {
        size_t n = body.len + (sign != 0);
        if (sign != 0) mr_buf_putc(buf, sign);
        put_fill(buf, spec, spec->width > (int64_t)n ? (size_t)spec->width - n : 0);
        mr_buf_append(buf, body.data, body.len);
    } else {
        mr_buf whole = {0};
        if (sign != 0) mr_buf_putc(&whole, sign);
        mr_buf_append(&whole, mr_buf_cstr(&body), body.len);
        ok = mr_jj_put_padded(rt, buf, mr_buf_cstr(&whole), whole.len, spec, '>');
        mr_buf_free(&whole);
    }
    mr_buf_free(&body);
    return ok;
}

static bool put_int(jj_rt *rt, mr_buf *buf, jj_value v, const jj_spec *spec) {
    mr_buf digits = {0};
    int64_t i = 0;
    bool negative = v.kind == JJ_BIG ? v.u.big->negative : (mr_jj_index(v, &i), i < 0);
    char prefix[3] = "";
    if (spec->precision >= 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "Precision not allowed in integer format specifier");
    if (spec->group == ',' && spec->type != 0 && strchr("boxX", spec->type) != NULL) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "Cannot specify ',' with '%c'.", spec->type);
    }
    if (spec->alternate && spec->type != 0 && strchr("boxX", spec->type) != NULL) {
        prefix[0] = '0';
        prefix[1] = spec->type;
    }
    bool ok =
        mr_jj_put_digits(rt, &digits, v, spec->type) && assemble(rt, buf, negative, prefix, &digits, digits.len, spec);
    mr_buf_free(&digits);
    return ok;
}

static bool put_real(jj_rt *rt, mr_buf *buf, double f, const jj_spec *spec) {
    mr_buf digits = {0};
    char type = spec->type == 0 ? 'r' : spec->type == '%' ? 'f' : spec->type == 'n' ? 'g' : spec->type;
    bool negative = signbit(f) && !isnan(f);
    bool ok = mr_jj_put_float_digits(rt, &digits, fabs(spec->type == '%' ? f * 100 : f), type, spec->precision,
                                     spec->alternate);
    if (spec->type == '%') mr_buf_putc(&digits, '%');
    size_t n_int = 0;
    while (n_int < digits.len && digits.data[n_int] >= '0' && digits.data[n_int] <= '9') n_int++;
    ok = ok && assemble(rt, buf, negative, "", &digits, n_int, spec);
    mr_buf_free(&digits);
    return ok;
}

static bool put_code_point(jj_rt *rt, mr_buf *buf, jj_value v, const jj_spec *spec) {
    int64_t i;
    if (!mr_jj_index(v, &i) || i < 0 || i > 0x10FFFF)
        return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "%%c arg not in range(0x110000)");
    char utf8[4];
    size_t n;
    uint32_t c = (uint32_t)i;
    utf8[0] = (char)c;
    n = 1;
    if (c >= 0x80) {
        n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t k = n - 1; k > 0; k--, c >>= 6) utf8[k] = (char)(0x80 | (c & 0x3F));
        utf8[0] = (char)((0xF00 >> n) | c);
        if (i >= 0xD800 && i <= 0xDFFF) memcpy(utf8, "\xEF\xBF\xBD", 3);
    }
    return mr_jj_put_padded(rt, buf, utf8, n, spec, '<');
}

bool mr_jj_put_number(jj_rt *rt, mr_buf *buf, jj_value v, const jj_spec *spec) {
    const char *float_types = "eEfFgG%n", *int_types = "bcdoxXn";
    if (v.kind != JJ_FLOAT && (spec->type == 0 || strchr(int_types, spec->type) != NULL)) {
        return spec->type == 'c' ? put_code_point(rt, buf, v, spec) : put_int(rt, buf, v, spec);
    }
    if (spec->type == 0 || strchr(float_types, spec->type) != NULL) return put_real(rt, buf, mr_jj_to_double(v), spec);
    return mr_jj_raise(rt, JJ_ERR_VALUE, "Unknown format code '%c' for object of type '%s'", spec->type,
                       mr_jj_type_name(v));
}
