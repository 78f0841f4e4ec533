/* Comparison, truth and arithmetic with Python's rules. */
#define _GNU_SOURCE /* memmem */
#include "text/jinja_format.h"
#include "text/jinja_value.h"

#include <math.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

bool mr_jj_is_number(jj_value v) {
    return v.kind == JJ_BOOL || v.kind == JJ_INT || v.kind == JJ_BIG || v.kind == JJ_FLOAT;
}

static bool is_integer(jj_value v) {
    return v.kind == JJ_BOOL || v.kind == JJ_INT || v.kind == JJ_BIG;
}

bool mr_jj_index(jj_value v, int64_t *i) {
    if (v.kind == JJ_BOOL) {
        *i = v.u.b;
    } else if (v.kind == JJ_INT) {
        *i = v.u.i;
    } else {
        return false;
    }
    return true;
}

double mr_jj_to_double(jj_value v) {
    switch (v.kind) {
    case JJ_BOOL:
        return v.u.b;
    case JJ_INT:
        return (double)v.u.i;
    case JJ_BIG:
        return mr_jj_big_to_double(v.u.big);
    default:
        return v.u.f;
    }
}

bool mr_jj_is_callable(jj_value v) {
    switch (v.kind) {
    case JJ_UNDEFINED:
    case JJ_BUILTIN:
    case JJ_METHOD:
    case JJ_MACRO:
    case JJ_LOOP:
    case JJ_JOINER:
    case JJ_BLOCK:
        return true;
    default:
        return false;
    }
}

bool mr_jj_truth(jj_rt *rt, jj_value v, bool *truth) {
    int64_t n;
    switch (v.kind) {
    case JJ_MISSING:
    case JJ_UNDEFINED:
    case JJ_NONE:
        *truth = false;
        return true;
    case JJ_BOOL:
        *truth = v.u.b;
        return true;
    case JJ_INT:
        *truth = v.u.i != 0;
        return true;
    case JJ_FLOAT:
        *truth = v.u.f != 0;
        return true;
    case JJ_STR:
        *truth = v.u.s->len > 0;
        return true;
    case JJ_LIST:
    case JJ_TUPLE:
        *truth = v.u.l->n > 0;
        return true;
    case JJ_DICT:
        *truth = v.u.d->n > 0;
        return true;
    case JJ_VIEW:
        *truth = v.u.view->dict->n > 0;
        return true;
    case JJ_RANGE:
        *truth = v.u.range->n > 0;
        return true;
    case JJ_LOOP:
        if (!mr_jj_loop_length(rt, v.u.loop, &n)) return false;
        *truth = n > 0;
        return true;
    default:
        *truth = true;
        return true;
    }
}

bool mr_jj_has_length(jj_value v) {
    switch (v.kind) {
    case JJ_UNDEFINED:
    case JJ_STR:
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_DICT:
    case JJ_VIEW:
    case JJ_RANGE:
    case JJ_LOOP:
        return true;
    default:
        return false;
    }
}

bool mr_jj_length(jj_rt *rt, jj_value v, int64_t *n) {
    switch (v.kind) {
    case JJ_UNDEFINED:
        *n = 0;
        return true;
    case JJ_STR:
        *n = (int64_t)v.u.s->n_chars;
        return true;
    case JJ_LIST:
    case JJ_TUPLE:
        *n = (int64_t)v.u.l->n;
        return true;
    case JJ_DICT:
        *n = (int64_t)v.u.d->n;
        return true;
    case JJ_VIEW:
        *n = (int64_t)v.u.view->dict->n;
        return true;
    case JJ_RANGE:
        *n = v.u.range->n;
        return true;
    case JJ_LOOP:
        return mr_jj_loop_length(rt, v.u.loop, n);
    default:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "object of type '%s' has no len()", mr_jj_type_name(v));
    }
}

bool mr_jj_is_same(jj_value a, jj_value b) {
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case JJ_NONE:
        return true;
    case JJ_BOOL:
        return a.u.b == b.u.b;
    case JJ_INT:
        return a.u.i == b.u.i;
    case JJ_FLOAT:
        return a.u.f == b.u.f;
    case JJ_STR:
        return mr_jj_str_eq(a.u.s, b.u.s) && a.flags == b.flags;
    default:
        return a.u.l == b.u.l;
    }
}

/* --- equality --- */

static int compare_int_float(jj_value i, double f) {
    if (i.kind == JJ_BIG) return mr_jj_big_compare_double(i.u.big, f);
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)f, x = 0;
    mr_jj_index(i, &x);
    if (x != whole) return x < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

/* -1, 0, 1; 2 when a NaN is involved. */
static int compare_numbers(jj_value a, jj_value b) {
    bool fa = a.kind == JJ_FLOAT, fb = b.kind == JJ_FLOAT;
    if ((fa && isnan(a.u.f)) || (fb && isnan(b.u.f))) return 2;
    if (fa && fb) return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    if (fb) return compare_int_float(a, b.u.f);
    if (fa) return -compare_numbers(b, a);
    if (a.kind == JJ_BIG || b.kind == JJ_BIG) return mr_jj_big_compare(a, b);
    int64_t x = 0, y = 0;
    mr_jj_index(a, &x);
    mr_jj_index(b, &y);
    return x < y ? -1 : x > y;
}

static bool equal_items(jj_rt *rt, const jj_list *a, const jj_list *b, bool *equal) {
    *equal = a == b;
    if (*equal || a->n != b->n) return true;
    for (size_t i = 0; i < a->n; i++) {
        if (!mr_jj_equal(rt, a->items[i], b->items[i], equal)) return false;
        if (!*equal) return true;
    }
    *equal = true;
    return true;
}

static bool equal_dicts(jj_rt *rt, const jj_dict *a, const jj_dict *b, bool *equal) {
    *equal = a == b;
    if (*equal || a->n != b->n) return true;
    for (size_t i = 0; i < a->n; i++) {
        jj_value *other;
        if (!mr_jj_dict_get(rt, b, a->entries[i].key, &other)) return false;
        *equal = other != NULL;
        if (*equal && !mr_jj_equal(rt, a->entries[i].value, *other, equal)) return false;
        if (!*equal) return true;
    }
    *equal = true;
    return true;
}

static bool equal_views(jj_rt *rt, const jj_view *a, const jj_view *b, bool *equal) {
    *equal = a == b;
    if (*equal || a->what == 'v' || b->what == 'v' || a->what != b->what || a->dict->n != b->dict->n) return true;
    if (a->what == 'i') return equal_dicts(rt, a->dict, b->dict, equal);
    for (size_t i = 0; i < a->dict->n; i++) {
        jj_value *other;
        if (!mr_jj_dict_get(rt, b->dict, a->dict->entries[i].key, &other)) return false;
        if (other == NULL) return true;
    }
    *equal = true;
    return true;
}

static bool equal_ranges(const jj_range *a, const jj_range *b) {
    if (a->n != b->n) return false;
    return a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step));
}

bool mr_jj_equal(jj_rt *rt, jj_value a, jj_value b, bool *equal) {
    *equal = false;
    if (mr_jj_is_number(a) && mr_jj_is_number(b)) {
        *equal = compare_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind) return true;
    switch (a.kind) {
    case JJ_UNDEFINED:
    case JJ_NONE:
        *equal = true;
        return true;
    case JJ_STR:
        *equal = mr_jj_str_eq(a.u.s, b.u.s);
        return mr_jj_step(rt, a.u.s->len / 1024);
    case JJ_LIST:
    case JJ_TUPLE:
        return mr_jj_enter(rt) && equal_items(rt, a.u.l, b.u.l, equal);
    case JJ_DICT:
        return mr_jj_enter(rt) && equal_dicts(rt, a.u.d, b.u.d, equal);
    case JJ_VIEW:
        return mr_jj_enter(rt) && equal_views(rt, a.u.view, b.u.view, equal);
    case JJ_RANGE:
        *equal = equal_ranges(a.u.range, b.u.range);
        return true;
    case JJ_METHOD:
        *equal = a.u.method->fn == b.u.method->fn && mr_jj_is_same(a.u.method->self, b.u.method->self);
        return true;
    default:
        *equal = a.u.l == b.u.l;
        return true;
    }
}

/* --- order --- */

static bool holds(const char *op, int sign) {
    if (sign == 2) return false;
    switch (op[0]) {
    case '<':
        return sign < 0 || (op[1] == '=' && sign == 0);
    default:
        return sign > 0 || (op[1] == '=' && sign == 0);
    }
}

static bool less_items(jj_rt *rt, const char *op, const jj_list *a, const jj_list *b, bool *less) {
    if (!mr_jj_enter(rt)) return false;
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool equal;
        if (!mr_jj_equal(rt, a->items[i], b->items[i], &equal)) return false;
        if (!equal) return mr_jj_less(rt, op, a->items[i], b->items[i], less);
    }
    *less = holds(op, a->n < b->n ? -1 : a->n > b->n);
    return true;
}

bool mr_jj_less(jj_rt *rt, const char *op, jj_value a, jj_value b, bool *less) {
    if (mr_jj_is_number(a) && mr_jj_is_number(b)) {
        *less = holds(op, compare_numbers(a, b));
        return true;
    }
    if (a.kind == JJ_STR && b.kind == JJ_STR) {
        size_t n = a.u.s->len < b.u.s->len ? a.u.s->len : b.u.s->len;
        int sign = n == 0 ? 0 : memcmp(a.u.s->data, b.u.s->data, n);
        if (sign == 0) sign = a.u.s->len < b.u.s->len ? -1 : a.u.s->len > b.u.s->len;
        *less = holds(op, sign < 0 ? -1 : sign > 0);
        return mr_jj_step(rt, n / 1024);
    }
    if (a.kind == b.kind && (a.kind == JJ_LIST || a.kind == JJ_TUPLE)) return less_items(rt, op, a.u.l, b.u.l, less);
    if (a.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, a);
    if (b.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, b);
    return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' not supported between instances of '%s' and '%s'", op, mr_jj_type_name(a),
                       mr_jj_type_name(b));
}

/* --- containment --- */

static bool find_text(const jj_str *hay, const jj_str *needle) {
    return needle->len == 0 || memmem(hay->data, hay->len, needle->data, needle->len) != NULL;
}

static bool contains_iterated(jj_rt *rt, jj_value needle, jj_value hay, bool *found) {
    jj_iter *it;
    jj_value item;
    int got;
    if (!mr_jj_iterate(rt, hay, &it)) return false;
    while ((got = mr_jj_next(rt, it, &item)) > 0) {
        if (mr_jj_is_same(needle, item)) {
            *found = true;
            return true;
        }
        if (!mr_jj_equal(rt, item, needle, found)) return false;
        if (*found) return true;
    }
    return got == 0;
}

bool mr_jj_contains(jj_rt *rt, jj_value needle, jj_value hay, bool *found) {
    jj_value *value;
    *found = false;
    switch (hay.kind) {
    case JJ_STR:
        if (needle.kind != JJ_STR) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "'in <string>' requires string as left operand, not %s",
                               mr_jj_type_name(needle));
        }
        *found = find_text(hay.u.s, needle.u.s);
        return mr_jj_step(rt, hay.u.s->len / 256);
    case JJ_DICT:
        if (!mr_jj_dict_get(rt, hay.u.d, needle, &value)) return false;
        *found = value != NULL;
        return true;
    case JJ_VIEW:
        if (hay.u.view->what == 'k') {
            if (!mr_jj_dict_get(rt, hay.u.view->dict, needle, &value)) return false;
            *found = value != NULL;
            return true;
        }
        return contains_iterated(rt, needle, hay, found);
    default:
        if (!mr_jj_is_iterable(hay)) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "argument of type '%s' is not iterable", mr_jj_type_name(hay));
        }
        return contains_iterated(rt, needle, hay, found);
    }
}

/* --- arithmetic --- */

static const char *operator_text(char op) {
    switch (op) {
    case '+':
        return "+";
    case '-':
        return "-";
    case '*':
        return "*";
    case '/':
        return "/";
    case '%':
        return "%";
    case 'f':
        return "//";
    default:
        return "** or pow()";
    }
}

static bool unsupported(jj_rt *rt, char op, jj_value a, jj_value b) {
    return mr_jj_raise(rt, JJ_ERR_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", operator_text(op),
                       mr_jj_type_name(a), mr_jj_type_name(b));
}

static bool float_binary(jj_rt *rt, char op, double a, double b, jj_value *out) {
    double r, m;
    switch (op) {
    case '+':
        r = a + b;
        break;
    case '-':
        r = a - b;
        break;
    case '*':
        r = a * b;
        break;
    case '/':
        if (b == 0) return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION, "float division by zero");
        r = a / b;
        break;
    case '%':
    case 'f':
        if (b == 0) {
            return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION, op == '%' ? "float modulo" : "float floor division by zero");
        }
        m = fmod(a, b);
        r = (a - m) / b;
        if (m != 0 && (b < 0) != (m < 0)) {
            m += b;
            r -= 1;
        } else if (m == 0) {
            m = copysign(0.0, b);
        }
        if (op == '%') {
            r = m;
        } else if (r != 0) {
            double whole = floor(r);
            r = r - whole > 0.5 ? whole + 1 : whole;
        } else {
            r = copysign(0.0, a / b);
        }
        break;
    default:
        if (a == 0 && b < 0) {
            return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
        }
        if (a < 0 && isfinite(b) && b != floor(b)) {
            return mr_jj_raise(rt, JJ_ERR_UNSUPPORTED, "complex numbers are not supported in templates");
        }
        r = pow(a, b);
        if (isinf(r) && isfinite(a) && isfinite(b)) {
            return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "(34, 'Numerical result out of range')");
        }
        break;
    }
    *out = mr_jj_float(r);
    return true;
}

/* a op b on 64-bit integers; false (without an error) when the result does not fit or the case is left to big integers.
 */
static bool small_binary(char op, int64_t a, int64_t b, int64_t *r) {
    switch (op) {
    case '+':
        return !__builtin_add_overflow(a, b, r);
    case '-':
        return !__builtin_sub_overflow(a, b, r);
    case '*':
        return !__builtin_mul_overflow(a, b, r);
    case 'f':
    case '%': {
        if (b == 0 || (a == INT64_MIN && b == -1)) return false;
        int64_t q = a / b, m = a % b;
        if (m != 0 && (m < 0) != (b < 0)) {
            m += b;
            q -= 1;
        }
        *r = op == 'f' ? q : m;
        return true;
    }
    default:
        return false;
    }
}

/* a / b correctly rounded (b is not 0). */
static double divide_integers(int64_t a, int64_t b) {
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    if (x < (uint64_t)1 << 53 && y < (uint64_t)1 << 53) return (double)a / (double)b;
    if (x == 0) return 0;
    /* 65 bits of quotient, the last one also standing for everything below it. */
    int shift = 64 + __builtin_clzll(x) - __builtin_clzll(y);
    u128 numerator = (u128)x << shift, q = numerator / y;
    if (numerator % y != 0) q |= 1;
    double r = ldexp((double)q, -shift);
    return (a < 0) != (b < 0) ? -r : r;
}

static bool integer_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out) {
    int64_t x = 0, y = 0, r;
    bool small = mr_jj_index(a, &x);
    small = mr_jj_index(b, &y) && small;
    bool zero = b.kind != JJ_BIG && y == 0;
    if ((op == '/' || op == 'f' || op == '%') && zero) {
        return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION,
                           op == '/' ? "division by zero" : "integer division or modulo by zero");
    }
    if (op == '/') {
        double q = small ? divide_integers(x, y) : mr_jj_to_double(a) / mr_jj_to_double(b);
        if (!isfinite(q)) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "integer division result too large for a float");
        *out = mr_jj_float(q);
        return true;
    }
    if (op == 'p' && (b.kind == JJ_BIG ? b.u.big->negative : y < 0)) {
        if (a.kind != JJ_BIG && x == 0) {
            return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
        }
        return float_binary(rt, op, mr_jj_to_double(a), mr_jj_to_double(b), out);
    }
    if (small && small_binary(op, x, y, &r)) {
        *out = mr_jj_int(r);
        return true;
    }
    if (a.kind == JJ_BOOL) a = mr_jj_int(x);
    if (b.kind == JJ_BOOL) b = mr_jj_int(y);
    return mr_jj_big_binary(rt, op, a, b, out);
}

static bool number_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out) {
    if (a.kind != JJ_FLOAT && b.kind != JJ_FLOAT) return integer_binary(rt, op, a, b, out);
    double x = mr_jj_to_double(a), y = mr_jj_to_double(b);
    if (isinf(x) && a.kind == JJ_BIG) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "int too large to convert to float");
    if (isinf(y) && b.kind == JJ_BIG) return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "int too large to convert to float");
    return float_binary(rt, op, x, y, out);
}

static bool is_sequence(jj_value v) {
    return v.kind == JJ_STR || v.kind == JJ_LIST || v.kind == JJ_TUPLE;
}

static bool repeat_text(jj_rt *rt, jj_value v, size_t times, jj_value *out) {
    const jj_str *s = v.u.s;
    if (s->len > 0 && times > rt->arena.max_bytes / s->len) {
        return mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    char *data = mr_jj_alloc(rt, s->len * times + 1);
    if (data == NULL || !mr_jj_step(rt, s->len * times / 256)) return false;
    for (size_t i = 0; s->len > 0 && i < times; i++) memcpy(data + i * s->len, s->data, s->len);
    if (!mr_jj_str_borrow(rt, data, s->len * times, out)) return false;
    out->flags = v.flags;
    return true;
}

static bool repeat(jj_rt *rt, jj_value v, jj_value count, jj_value *out) {
    int64_t n;
    if (!mr_jj_index(count, &n)) {
        if (count.kind == JJ_BIG) {
            return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "cannot fit 'int' into an index-sized integer");
        }
        return mr_jj_raise(rt, JJ_ERR_TYPE, "can't multiply sequence by non-int of type '%s'", mr_jj_type_name(count));
    }
    size_t times = n < 0 ? 0 : (size_t)n;
    if (v.kind == JJ_STR) return repeat_text(rt, v, times, out);
    const jj_list *list = v.u.l;
    if (list->n > 0 && times > rt->arena.max_bytes / sizeof(jj_value) / list->n) {
        return mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    jj_vec vec = {.n = list->n * times};
    vec.items = mr_jj_calloc(rt, vec.n, sizeof *vec.items);
    if (vec.items == NULL || !mr_jj_step(rt, vec.n)) return false;
    for (size_t i = 0; list->n > 0 && i < times; i++) {
        memcpy(vec.items + i * list->n, list->items, list->n * sizeof *vec.items);
    }
    return mr_jj_vec_list(rt, &vec, (jj_kind)v.kind, out);
}

static bool concat_lists(jj_rt *rt, jj_value a, jj_value b, jj_value *out) {
    jj_vec vec = {.n = a.u.l->n + b.u.l->n};
    vec.items = mr_jj_calloc(rt, vec.n, sizeof *vec.items);
    if (vec.items == NULL || !mr_jj_step(rt, vec.n)) return false;
    if (a.u.l->n > 0) memcpy(vec.items, a.u.l->items, a.u.l->n * sizeof *vec.items);
    if (b.u.l->n > 0) memcpy(vec.items + a.u.l->n, b.u.l->items, b.u.l->n * sizeof *vec.items);
    return mr_jj_vec_list(rt, &vec, (jj_kind)a.kind, out);
}

/* Markup escapes what is added to it. */
static bool concat_markup(jj_rt *rt, jj_value a, jj_value b, jj_value *out) {
    jj_value x, y;
    if (!mr_jj_escape(rt, a, &x) || !mr_jj_escape(rt, b, &y)) return false;
    if (!mr_jj_str_concat(rt, x.u.s, y.u.s, out)) return false;
    out->flags = JJ_FLAG_MARKUP;
    return true;
}

static bool add(jj_rt *rt, jj_value a, jj_value b, jj_value *out) {
    if (a.kind == JJ_STR && b.kind == JJ_STR) {
        if (a.flags != 0 || b.flags != 0) return concat_markup(rt, a, b, out);
        return mr_jj_str_concat(rt, a.u.s, b.u.s, out);
    }
    if (a.kind == b.kind && is_sequence(a)) return concat_lists(rt, a, b, out);
    if (is_sequence(a) && !mr_jj_is_markup(a)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "can only concatenate %s (not \"%s\") to %s", mr_jj_type_name(a),
                           mr_jj_type_name(b), mr_jj_type_name(a));
    }
    return unsupported(rt, '+', a, b);
}

bool mr_jj_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out) {
    if (mr_jj_is_number(a) && mr_jj_is_number(b)) return number_binary(rt, op, a, b, out);
    if (op == '%' && a.kind == JJ_STR) return mr_jj_percent_format(rt, a, b, out);
    if (a.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, a);
    if (b.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, b);
    if (op == '+') return add(rt, a, b, out);
    if (op == '*') {
        if (is_sequence(a)) return repeat(rt, a, b, out);
        if (is_sequence(b)) return repeat(rt, b, a, out);
    }
    return unsupported(rt, op, a, b);
}

bool mr_jj_negate(jj_rt *rt, jj_value a, jj_value *out) {
    int64_t i;
    if (a.kind == JJ_FLOAT) {
        *out = mr_jj_float(-a.u.f);
        return true;
    }
    if (is_integer(a)) {
        if (mr_jj_index(a, &i)) return integer_binary(rt, '-', mr_jj_int(0), mr_jj_int(i), out);
        return mr_jj_big_binary(rt, '-', mr_jj_int(0), a, out);
    }
    if (a.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, a);
    return mr_jj_raise(rt, JJ_ERR_TYPE, "bad operand type for unary -: '%s'", mr_jj_type_name(a));
}

bool mr_jj_positive(jj_rt *rt, jj_value a, jj_value *out) {
    int64_t i;
    if (a.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, a);
    if (!mr_jj_is_number(a)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "bad operand type for unary +: '%s'", mr_jj_type_name(a));
    }
    *out = a;
    if (a.kind == JJ_BOOL && mr_jj_index(a, &i)) *out = mr_jj_int(i);
    return true;
}
