/* Lookup of filters, and those on numbers and plain values. */
#include "text/jinja_format.h"
#include "text/jinja_seq.h"
#include "text/jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool truth_of(jj_rt *rt, jj_value v, bool *truth) {
    *truth = false;
    return v.kind == JJ_MISSING || mr_jj_truth(rt, v, truth);
}

static bool f_abs(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value v = c->a[0];
    bool negative;
    if (!mr_jj_is_number(v))
        return mr_jj_raise(rt, JJ_ERR_TYPE, "bad operand type for abs(): '%s'", mr_jj_type_name(v));
    if (v.kind == JJ_FLOAT) {
        *out = mr_jj_float(fabs(v.u.f));
        return true;
    }
    if (!mr_jj_less(rt, "<", v, mr_jj_int(0), &negative)) return false;
    return negative ? mr_jj_negate(rt, v, out) : mr_jj_positive(rt, v, out);
}

static bool f_attr(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->a[1].kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "attribute name must be string, not '%s'", mr_jj_type_name(c->a[1]));
    }
    int got = mr_jj_attribute(rt, c->a[0], c->a[1].u.s, out);
    return got == 0 ? mr_jj_undefined_attr(rt, c->a[0], c->a[1], out) : got > 0;
}

static bool f_default(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool boolean, truth = true;
    if (!truth_of(rt, c->a[2], &boolean)) return false;
    if (c->a[0].kind != JJ_UNDEFINED && boolean && !mr_jj_truth(rt, c->a[0], &truth)) return false;
    *out = c->a[0];
    if (c->a[0].kind != JJ_UNDEFINED && truth) return true;
    if (c->a[1].kind == JJ_MISSING) return mr_jj_str_borrow(rt, "", 0, out);
    *out = c->a[1];
    return true;
}

static bool f_length(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t n;
    if (!mr_jj_length(rt, c->a[0], &n)) return false;
    *out = mr_jj_int(n);
    return true;
}

/* int(v) of a value that is no string: 1, 0 when the type or value can't be one, -1 on an error. */
static int int_of(jj_rt *rt, jj_value v, jj_value *out) {
    if (v.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, v) ? 1 : -1;
    if (!mr_jj_is_number(v) || (v.kind == JJ_FLOAT && isnan(v.u.f))) return 0;
    if (v.kind != JJ_FLOAT) return mr_jj_positive(rt, v, out) ? 1 : -1;
    if (isinf(v.u.f)) {
        mr_jj_raise(rt, JJ_ERR_OVERFLOW, "cannot convert float infinity to integer");
        return -1;
    }
    return mr_jj_big_from_double(rt, v.u.f, out) ? 1 : -1;
}

static bool f_int(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t base = 10;
    double f = 0;
    int got;
    if (c->a[2].kind != JJ_MISSING && c->a[0].kind == JJ_STR && !mr_jj_index(c->a[2], &base)) base = -1;
    if (c->a[0].kind == JJ_STR) {
        got = base == 0 || (base >= 2 && base <= 36) ? mr_jj_parse_int(rt, c->a[0].u.s, (int)base, out) : 0;
        if (got == 0) {
            got = mr_jj_parse_float(rt, c->a[0].u.s, &f);
            if (got > 0) got = isfinite(f) ? (mr_jj_big_from_double(rt, f, out) ? 1 : -1) : 0;
        }
    } else {
        got = int_of(rt, c->a[0], out);
    }
    if (got == 0) *out = c->a[1].kind == JJ_MISSING ? mr_jj_int(0) : c->a[1];
    return got >= 0;
}

static bool f_float(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value v = c->a[0];
    double f = 0;
    int got = 0;
    if (v.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, v);
    if (v.kind == JJ_STR) {
        got = mr_jj_parse_float(rt, v.u.s, &f);
    } else if (mr_jj_is_number(v)) {
        f = mr_jj_to_double(v);
        if (v.kind == JJ_BIG && isinf(f)) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "int too large to convert to float");
        got = 1;
    }
    if (got < 0) return false;
    *out = got > 0 ? mr_jj_float(f) : c->a[1].kind == JJ_MISSING ? mr_jj_float(0) : c->a[1];
    return true;
}

/* round(f, digits): to the nearest decimal, exact ties to even. */
static double round_decimal(double f, int64_t digits) {
    if (!isfinite(f) || digits > 323) return f;
    if (digits < -308) return copysign(0.0, f);
    char text[800];
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        return strtod(text, NULL);
    }
    double scale = pow(10, (double)-digits), scaled = f / scale, whole = nearbyint(scaled);
    if (fabs(scaled - whole) == 0.5) whole = 2 * nearbyint(scaled / 2);
    snprintf(text, sizeof text, "%.0fe%lld", whole, (long long)-digits);
    return strtod(text, NULL);
}

/* round(i, digits) of an integer with digits < 0: ties to even. */
static bool round_int(jj_rt *rt, int64_t i, int64_t digits, jj_value *out) {
    if (digits < -18) {
        *out = mr_jj_int(0);
        return true;
    }
    int64_t scale = 1;
    for (; digits < 0; digits++) scale *= 10;
    int64_t rest = i % scale;
    if (rest < 0) rest += scale;
    jj_value down, step = mr_jj_int(scale);
    if (!mr_jj_binary(rt, '-', mr_jj_int(i), mr_jj_int(rest), &down)) return false;
    *out = down;
    bool odd = down.kind == JJ_INT && (down.u.i / scale) % 2 != 0;
    if (rest > scale - rest || (rest == scale - rest && odd)) return mr_jj_binary(rt, '+', down, step, out);
    return true;
}

static bool round_common(jj_rt *rt, jj_value v, jj_value precision, jj_value *out) {
    int64_t digits = 0, i;
    bool none = precision.kind == JJ_NONE;
    if (!none && precision.kind != JJ_MISSING && !mr_jj_index(precision, &digits)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer",
                           mr_jj_type_name(precision));
    }
    if (v.kind == JJ_FLOAT) {
        if (!none) {
            *out = mr_jj_float(round_decimal(v.u.f, digits));
            return true;
        }
        if (!isfinite(v.u.f)) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "cannot convert float infinity to integer");
        double whole = nearbyint(v.u.f);
        return mr_jj_big_from_double(rt, whole, out);
    }
    if (!mr_jj_is_number(v)) {
        if (v.kind == JJ_UNDEFINED)
            return mr_jj_raise(rt, JJ_ERR_TYPE, "type Undefined doesn't define __round__ method");
        return mr_jj_raise(rt, JJ_ERR_TYPE, "type %s doesn't define __round__ method", mr_jj_type_name(v));
    }
    if (digits >= 0) return mr_jj_positive(rt, v, out);
    if (mr_jj_index(v, &i)) return round_int(rt, i, digits, out);
    return mr_jj_raise(rt, JJ_ERR_LIMIT, "an integer outside of 64 bits can't be rounded here");
}

static bool f_round(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value method = c->a[2], scale, scaled, whole, precision = c->a[1].kind == JJ_MISSING ? mr_jj_int(0) : c->a[1];
    if (method.kind == JJ_MISSING || (method.kind == JJ_STR && mr_jj_str_is(method.u.s, "common"))) {
        return round_common(rt, c->a[0], c->a[1], out);
    }
    bool ceiling = method.kind == JJ_STR && mr_jj_str_is(method.u.s, "ceil");
    if (!ceiling && !(method.kind == JJ_STR && mr_jj_str_is(method.u.s, "floor"))) {
        return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "method must be common, ceil or floor");
    }
    if (!mr_jj_binary(rt, 'p', mr_jj_int(10), precision, &scale) || !mr_jj_binary(rt, '*', c->a[0], scale, &scaled))
        return false;
    if (!mr_jj_is_number(scaled))
        return mr_jj_raise(rt, JJ_ERR_TYPE, "must be real number, not %s", mr_jj_type_name(scaled));
    if (scaled.kind == JJ_FLOAT) {
        if (!isfinite(scaled.u.f)) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "cannot convert float infinity to integer");
        if (!mr_jj_big_from_double(rt, ceiling ? ceil(scaled.u.f) : floor(scaled.u.f), &whole)) return false;
    } else {
        whole = scaled;
    }
    return mr_jj_binary(rt, '/', whole, scale, out);
}

static bool f_string(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_to_str(rt, c->a[0], out);
}

static bool f_safe(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool ok = mr_jj_to_str(rt, c->a[0], out);
    out->flags = JJ_FLAG_MARKUP;
    return ok;
}

static bool f_escape(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_escape(rt, c->a[0], out);
}

static bool f_forceescape(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value text;
    return mr_jj_plain_str(rt, c->a[0], &text) && mr_jj_escape(rt, text, out);
}

static bool f_format(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value text, value;
    const jj_args *args = c->raw;
    if (args->n_pos == 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "format() missing the value");
    if (args->n_pos > 1 && args->n_kw > 0) {
        return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT,
                           "can't handle positional and keyword arguments at the same time");
    }
    if (!mr_jj_to_str(rt, args->pos[0], &text)) return false;
    if (args->n_kw > 0) {
        jj_dict *dict;
        if (!mr_jj_dict_new(rt, args->n_kw, &dict)) return false;
        for (size_t i = 0; i < args->n_kw; i++) {
            if (!mr_jj_dict_put(rt, dict, args->kw[i].name, args->kw[i].value)) return false;
        }
        value = mr_jj_dict_value(dict);
    } else {
        jj_vec vec = {.items = (jj_value *)args->pos + 1, .n = args->n_pos - 1};
        if (!mr_jj_vec_list(rt, &vec, JJ_TUPLE, &value)) return false;
    }
    return mr_jj_percent_format(rt, text, value, out);
}

static bool f_filesizeformat(jj_rt *rt, const jj_call *c, jj_value *out) {
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary_names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    bool binary;
    double bytes = 0;
    char text[400];
    if (!truth_of(rt, c->a[1], &binary)) return false;
    if (c->a[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, c->a[0]);
    if (c->a[0].kind == JJ_STR) {
        if (mr_jj_parse_float(rt, c->a[0].u.s, &bytes) <= 0) {
            return mr_jj_raise(rt, JJ_ERR_VALUE, "could not convert string to float: %s", mr_jj_repr_cstr(rt, c->a[0]));
        }
    } else if (mr_jj_is_number(c->a[0])) {
        bytes = mr_jj_to_double(c->a[0]);
    } else {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "float() argument must be a string or a real number, not '%s'",
                           mr_jj_type_name(c->a[0]));
    }
    double base = binary ? 1024 : 1000, unit = base;
    if (bytes == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        if (!isfinite(bytes)) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "cannot convert float infinity to integer");
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
    } else {
        size_t i = 0;
        for (unit = base * base; i < 7 && !(bytes < unit); i++) unit *= base;
        snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, (binary ? binary_names : decimal)[i]);
    }
    return mr_jj_str_new(rt, text, strlen(text), out);
}

static bool f_unsupported(jj_rt *rt, const jj_call *c, jj_value *out) {
    (void)c;
    (void)out;
    return mr_jj_raise(rt, JJ_ERR_UNSUPPORTED, "the filter urlize makes HTML and is not supported in chat templates");
}

static const jj_builtin filters[] = {
    {"abs", "/value", f_abs},
    {"attr", "obj name", f_attr},
    {"count", "/value", f_length},
    {"d", "value default_value? boolean?", f_default},
    {"default", "value default_value? boolean?", f_default},
    {"e", "/value", f_escape},
    {"escape", "/value", f_escape},
    {"filesizeformat", "value binary?", f_filesizeformat},
    {"float", "value default?", f_float},
    {"forceescape", "value", f_forceescape},
    {"format", NULL, f_format},
    {"int", "value default? base?", f_int},
    {"length", "/value", f_length},
    {"pprint", "value", mr_jj_filter_pprint},
    {"round", "value precision? method?", f_round},
    {"safe", "value", f_safe},
    {"string", "s", f_string},
    {"striptags", "value", mr_jj_filter_striptags},
    {"tojson", "x ensure_ascii? indent? separators? sort_keys?", mr_jj_filter_tojson},
    {"urlize", NULL, f_unsupported},
    {"wordwrap", "s width? break_long_words? wrapstring? break_on_hyphens?", mr_jj_filter_wordwrap},
};

const jj_builtin *mr_jj_find_filter(const char *name, size_t len) {
    const jj_builtin *fn = mr_jj_find_in(filters, sizeof filters / sizeof *filters, name, len);
    if (fn == NULL) fn = mr_jj_find_text_filter(name, len);
    return fn != NULL ? fn : mr_jj_find_seq_filter(name, len);
}
