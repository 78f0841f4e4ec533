/* Integers outside of 64 bits: base 10^9, schoolbook algorithms (templates meet them by accident only). */
#include "text/jinja_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

enum { BASE = 1000000000, MAX_LIMBS = 20000 };

static jj_big *new_big(jj_rt *rt, size_t n) {
    if (n > MAX_LIMBS) {
        mr_jj_raise(rt, JJ_ERR_LIMIT, "an integer grows too large");
        return NULL;
    }
    jj_big *big = mr_jj_alloc(rt, sizeof *big + n * sizeof big->limbs[0]);
    if (big != NULL) big->n = (uint32_t)n;
    return big;
}

static void trim(jj_big *big) {
    while (big->n > 0 && big->limbs[big->n - 1] == 0) big->n--;
    if (big->n == 0) big->negative = false;
}

static jj_big *from_u64(jj_rt *rt, uint64_t value, bool negative) {
    jj_big *big = new_big(rt, 3);
    if (big == NULL) return NULL;
    for (int i = 0; i < 3; i++, value /= BASE) big->limbs[i] = (uint32_t)(value % BASE);
    big->negative = negative;
    trim(big);
    return big;
}

static const jj_big *as_big(jj_rt *rt, jj_value v) {
    if (v.kind == JJ_BIG) return v.u.big;
    return from_u64(rt, v.u.i < 0 ? 0 - (uint64_t)v.u.i : (uint64_t)v.u.i, v.u.i < 0);
}

/* A JJ_INT when the value fits. */
static jj_value normalize(jj_big *big) {
    trim(big);
    if (big->n <= 3) {
        u128 value = 0;
        for (size_t i = big->n; i > 0; i--) value = value * BASE + big->limbs[i - 1];
        if (big->negative ? value <= (u128)INT64_MAX + 1 : value <= (u128)INT64_MAX) {
            return mr_jj_int(big->negative ? (int64_t)(0 - (uint64_t)value) : (int64_t)value);
        }
    }
    return (jj_value){.kind = JJ_BIG, .u.big = big};
}

static int compare_magnitude(const jj_big *a, const jj_big *b) {
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (size_t i = a->n; i > 0; i--) {
        if (a->limbs[i - 1] != b->limbs[i - 1]) return a->limbs[i - 1] < b->limbs[i - 1] ? -1 : 1;
    }
    return 0;
}

static jj_big *add_magnitude(jj_rt *rt, const jj_big *a, const jj_big *b) {
    size_t n = (a->n > b->n ? a->n : b->n) + 1;
    jj_big *r = new_big(rt, n);
    uint32_t carry = 0;
    for (size_t i = 0; r != NULL && i < n; i++) {
        uint32_t sum = carry + (i < a->n ? a->limbs[i] : 0) + (i < b->n ? b->limbs[i] : 0);
        carry = sum >= BASE;
        r->limbs[i] = carry ? sum - BASE : sum;
    }
    return r;
}

/* |a| - |b| where |a| >= |b|. */
static jj_big *sub_magnitude(jj_rt *rt, const jj_big *a, const jj_big *b) {
    jj_big *r = new_big(rt, a->n);
    int64_t borrow = 0;
    for (size_t i = 0; r != NULL && i < a->n; i++) {
        int64_t diff = (int64_t)a->limbs[i] - borrow - (i < b->n ? b->limbs[i] : 0);
        borrow = diff < 0;
        r->limbs[i] = (uint32_t)(borrow ? diff + BASE : diff);
    }
    return r;
}

static jj_big *add_signed(jj_rt *rt, const jj_big *a, const jj_big *b, bool negate_b) {
    bool b_negative = b->negative != negate_b;
    jj_big *r;
    if (a->negative == b_negative) {
        r = add_magnitude(rt, a, b);
        if (r != NULL) r->negative = a->negative;
    } else if (compare_magnitude(a, b) >= 0) {
        r = sub_magnitude(rt, a, b);
        if (r != NULL) r->negative = a->negative;
    } else {
        r = sub_magnitude(rt, b, a);
        if (r != NULL) r->negative = b_negative;
    }
    if (r != NULL) trim(r);
    return r;
}

static jj_big *multiply(jj_rt *rt, const jj_big *a, const jj_big *b) {
    jj_big *r = new_big(rt, a->n + b->n + 1);
    if (r == NULL || !mr_jj_step(rt, (uint64_t)a->n * b->n / 16)) return NULL;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t carry = 0;
        for (size_t k = 0; k < b->n || carry != 0; k++) {
            uint64_t cell = r->limbs[i + k] + carry + (k < b->n ? (uint64_t)a->limbs[i] * b->limbs[k] : 0);
            r->limbs[i + k] = (uint32_t)(cell % BASE);
            carry = cell / BASE;
        }
    }
    r->negative = a->negative != b->negative;
    trim(r);
    return r;
}

/* r = r * BASE + limb, in place (r has room). */
static void shift_in(jj_big *r, uint32_t limb) {
    memmove(r->limbs + 1, r->limbs, r->n * sizeof r->limbs[0]);
    r->limbs[0] = limb;
    r->n++;
    trim(r);
}

/* r -= b * digit, in place; r >= b * digit. */
static void subtract_multiple(jj_big *r, const jj_big *b, uint32_t digit) {
    int64_t borrow = 0;
    for (size_t i = 0; i < r->n; i++) {
        int64_t cell = (int64_t)r->limbs[i] - borrow - (i < b->n ? (int64_t)((uint64_t)b->limbs[i] * digit % BASE) : 0);
        int64_t high = i < b->n ? (int64_t)((uint64_t)b->limbs[i] * digit / BASE) : 0;
        borrow = high;
        while (cell < 0) {
            cell += BASE;
            borrow++;
        }
        r->limbs[i] = (uint32_t)cell;
    }
    trim(r);
}

/* The largest digit with b * digit <= r. */
static uint32_t quotient_digit(jj_rt *rt, const jj_big *r, const jj_big *b) {
    uint32_t lo = 0, hi = BASE - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        jj_big *digit = from_u64(rt, mid, false), *product = digit == NULL ? NULL : multiply(rt, b, digit);
        if (product == NULL) return 0;
        product->negative = false;
        if (compare_magnitude(product, r) <= 0) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

/* Quotient and remainder of the magnitudes. */
static bool divide_magnitude(jj_rt *rt, const jj_big *a, const jj_big *b, jj_big **quotient, jj_big **rest) {
    jj_big *q = new_big(rt, a->n), *r = new_big(rt, b->n + 2);
    if (q == NULL || r == NULL) return false;
    r->n = 0;
    for (size_t i = a->n; i > 0; i--) {
        shift_in(r, a->limbs[i - 1]);
        if (!mr_jj_step(rt, 30)) return false;
        uint32_t digit = compare_magnitude(r, b) < 0 ? 0 : quotient_digit(rt, r, b);
        if (rt->error != JJ_ERR_NONE) return false;
        if (digit != 0) subtract_multiple(r, b, digit);
        q->limbs[i - 1] = digit;
    }
    trim(q);
    *quotient = q;
    *rest = r;
    return true;
}

/* Python's // and %: the remainder has the divisor's sign. */
static bool divide(jj_rt *rt, const jj_big *a, const jj_big *b, char op, jj_value *out) {
    jj_big *q, *r;
    if (!divide_magnitude(rt, a, b, &q, &r)) return false;
    q->negative = q->n > 0 && a->negative != b->negative;
    r->negative = r->n > 0 && a->negative;
    if (r->n > 0 && a->negative != b->negative) {
        jj_big *one = from_u64(rt, 1, false);
        q = one == NULL ? NULL : add_signed(rt, q, one, true);
        r = add_signed(rt, r, b, false);
        if (q == NULL || r == NULL) return false;
    }
    *out = normalize(op == 'f' ? q : r);
    return true;
}

static bool power(jj_rt *rt, const jj_big *base, const jj_big *exponent, jj_value *out) {
    uint64_t e = 0;
    if (exponent->n > 2) return mr_jj_raise(rt, JJ_ERR_LIMIT, "an integer grows too large");
    for (size_t i = exponent->n; i > 0; i--) e = e * BASE + exponent->limbs[i - 1];
    jj_big *r = from_u64(rt, 1, false);
    const jj_big *square = base;
    for (; r != NULL && e > 0; e >>= 1) {
        if (e & 1) r = multiply(rt, r, square);
        if (e > 1 && r != NULL) square = multiply(rt, square, square);
        if (square == NULL) return false;
    }
    if (r == NULL) return false;
    *out = normalize(r);
    return true;
}

bool mr_jj_big_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out) {
    const jj_big *x = as_big(rt, a), *y = as_big(rt, b);
    jj_big *r = NULL;
    if (x == NULL || y == NULL) return false;
    switch (op) {
    case '+':
        r = add_signed(rt, x, y, false);
        break;
    case '-':
        r = add_signed(rt, x, y, true);
        break;
    case '*':
        r = multiply(rt, x, y);
        break;
    case 'f':
    case '%':
        return divide(rt, x, y, op, out);
    default:
        return power(rt, x, y, out);
    }
    if (r == NULL) return false;
    *out = normalize(r);
    return true;
}

int mr_jj_big_compare(jj_value a, jj_value b) {
    if (a.kind == JJ_BIG && b.kind == JJ_BIG) {
        if (a.u.big->negative != b.u.big->negative) return a.u.big->negative ? -1 : 1;
        int sign = compare_magnitude(a.u.big, b.u.big);
        return a.u.big->negative ? -sign : sign;
    }
    if (a.kind == JJ_BIG) return a.u.big->negative ? -1 : 1;
    return b.u.big->negative ? 1 : -1;
}

int mr_jj_big_compare_double(const jj_big *big, double f) {
    char text[400];
    snprintf(text, sizeof text, "%.0f", fabs(f));
    mr_buf digits = {0};
    mr_jj_big_puts(&digits, big);
    const char *ours = mr_buf_cstr(&digits) + (big->negative ? 1 : 0);
    size_t n = strlen(ours), m = strlen(text);
    int sign = n != m ? (n < m ? -1 : 1) : strcmp(ours, text);
    bool other_side = (f < 0) != big->negative;
    mr_buf_free(&digits);
    if (other_side || isinf(f)) return isinf(f) ? (f < 0 ? 1 : -1) : big->negative ? -1 : 1;
    sign = sign < 0 ? -1 : sign > 0;
    return big->negative ? -sign : sign;
}

bool mr_jj_big_puts(mr_buf *buf, const jj_big *big) {
    if (big->negative) mr_buf_putc(buf, '-');
    for (size_t i = big->n; i > 0; i--) mr_buf_printf(buf, i == big->n ? "%u" : "%09u", (unsigned)big->limbs[i - 1]);
    return !buf->failed;
}

double mr_jj_big_to_double(const jj_big *big) {
    mr_buf text = {0};
    mr_jj_big_puts(&text, big);
    double value = strtod(mr_buf_cstr(&text), NULL);
    mr_buf_free(&text);
    return value;
}

bool mr_jj_big_parse(jj_rt *rt, const char *digits, size_t n, unsigned base, bool negative, jj_value *out) {
    jj_big *big = new_big(rt, n / 7 + 2);
    if (big == NULL || !mr_jj_step(rt, n * n / 32)) return false;
    big->n = 0;
    for (size_t i = 0; i < n; i++) {
        char c = digits[i];
        uint64_t carry = (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
        for (size_t k = 0; k < big->n || carry != 0; k++) {
            if (k == big->n) big->n++;
            uint64_t cell = (uint64_t)big->limbs[k] * base + carry;
            big->limbs[k] = (uint32_t)(cell % BASE);
            carry = cell / BASE;
        }
    }
    big->negative = negative;
    *out = normalize(big);
    return true;
}

bool mr_jj_big_from_double(jj_rt *rt, double f, jj_value *out) {
    f = trunc(f);
    if (f >= -9.2e18 && f <= 9.2e18) {
        *out = mr_jj_int((int64_t)f);
        return true;
    }
    char text[400];
    int n = snprintf(text, sizeof text, "%.0f", fabs(f));
    return mr_jj_big_parse(rt, text, (size_t)n, 10, f < 0, out);
}
