/* Numbers of JSON Schemas: ranges and multiples as digits. */
#include "text/json_schema_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DIGITS = 15, MAX_MULTIPLE = 2000 };
static const int64_t LARGEST = 999999999999999; /* of MAX_DIGITS digits */

/* Between n and m digits (m < 0 = no more than MAX_DIGITS in all). */
static mr_grammar_node digits(mr_grammar *g, mr_grammar_node from, int n, int m) {
    mr_grammar_node out = mr_grammar_add_node(g);
    for (int i = 0; i <= m && from != MR_GRAMMAR_NONE; i++) {
        if (i >= n) mr_grammar_skip(g, from, out);
        if (i == m) break;
        mr_grammar_node next = mr_grammar_add_node(g);
        mr_grammar_byte(g, from, '0', '9', next);
        from = next;
    }
    return out;
}

/* Whole numbers from first to last with exactly n digits, leading zeros included. */
static void fixed_range(mr_grammar *g, mr_grammar_node from, const char *first, const char *last, int n,
                        mr_grammar_node to) {
    if (n == 0) {
        mr_grammar_skip(g, from, to);
        return;
    }
    bool lowest = strspn(first, "0") >= (size_t)n, highest = strspn(last, "9") >= (size_t)n;
    if (lowest && highest) {
        mr_grammar_skip(g, digits(g, from, n, n), to);
        return;
    }
    if (first[0] == last[0]) {
        mr_grammar_node next = mr_grammar_text(g, from, first, 1);
        fixed_range(g, next, first + 1, last + 1, n - 1, to);
        return;
    }
    static const char zeros[] = "00000000000000000000", nines[] = "99999999999999999999";
    char low = first[0], high = last[0];
    if (strspn(first + 1, "0") < (size_t)n - 1) {
        fixed_range(g, mr_grammar_text(g, from, &low, 1), first + 1, nines, n - 1, to);
        low++;
    }
    if (strspn(last + 1, "9") < (size_t)n - 1) {
        fixed_range(g, mr_grammar_text(g, from, &high, 1), zeros, last + 1, n - 1, to);
        high--;
    }
    if (low > high) return;
    mr_grammar_node next = mr_grammar_add_node(g);
    mr_grammar_byte(g, from, (uint8_t)low, (uint8_t)high, next);
    mr_grammar_skip(g, digits(g, next, n - 1, n - 1), to);
}

/* Whole numbers from first to last (0 <= first), without leading zeros. */
static void natural_range(mr_grammar *g, mr_grammar_node from, int64_t first, int64_t last, mr_grammar_node to) {
    char a[24], b[24];
    for (int64_t top = 9; first <= last; top = top * 10 + 9) {
        if (first > top) continue;
        int64_t end = last < top ? last : top;
        snprintf(a, sizeof a, "%lld", (long long)first);
        snprintf(b, sizeof b, "%lld", (long long)end);
        fixed_range(g, from, a, b, (int)strlen(a), to);
        first = end + 1;
        if (top >= LARGEST) return;
    }
}

static void integer_range(mr_grammar *g, mr_grammar_node from, int64_t first, int64_t last, mr_grammar_node to) {
    if (last >= 0) natural_range(g, from, first > 0 ? first : 0, last, to);
    if (first < 0) natural_range(g, mr_grammar_text(g, from, "-", 1), last < 0 ? -last : 1, -first, to);
}

/* A decimal point and digits. */
static mr_grammar_node fraction(mr_grammar *g, mr_grammar_node from) {
    return digits(g, mr_grammar_text(g, from, ".", 1), 1, MAX_DIGITS);
}

typedef struct limits {
    bool has_min, has_max, min_open, max_open;
    double min, max;
} limits;

static bool read_limit(mr_schema_build *b, const json_t *schema, const char *keyword, double *value) {
    const json_t *given = json_object_get(schema, keyword);
    if (given == NULL) return false;
    if (!json_is_number(given)) {
        mr_schema_fail(b, MR_ERR_INVALID, keyword, "is no number");
        return false;
    }
    *value = json_number_value(given);
    return true;
}

static limits read_limits(mr_schema_build *b, const json_t *schema) {
    limits l = {0};
    double open;
    l.has_min = read_limit(b, schema, "minimum", &l.min);
    if (read_limit(b, schema, "exclusiveMinimum", &open) && (!l.has_min || open >= l.min)) {
        l.min = open;
        l.has_min = l.min_open = true;
    }
    l.has_max = read_limit(b, schema, "maximum", &l.max);
    if (read_limit(b, schema, "exclusiveMaximum", &open) && (!l.has_max || open <= l.max)) {
        l.max = open;
        l.has_max = l.max_open = true;
    }
    return l;
}

/* The whole numbers n with n / scale inside the limits. */
static void whole_limits(const limits *l, double scale, int64_t *first, int64_t *last) {
    *first = -LARGEST;
    *last = LARGEST;
    if (l->has_min) {
        double n = ceil(l->min * scale - 1e-9);
        if (l->min_open && n / scale <= l->min) n += 1;
        *first = n > (double)LARGEST ? LARGEST + 1 : n < (double)-LARGEST ? -LARGEST : (int64_t)n;
    }
    if (l->has_max) {
        double n = floor(l->max * scale + 1e-9);
        if (l->max_open && n / scale >= l->max) n -= 1;
        *last = n < (double)-LARGEST ? -LARGEST - 1 : n > (double)LARGEST ? LARGEST : (int64_t)n;
    }
}

/* Multiples of k: digits with the remainder so far, one node for each in each place, so that they end; 0 alone, or no
 * leading zero. The digits get fewer where k is large, which bounds the nodes. */
static mr_grammar_node multiples(mr_schema_build *b, mr_grammar_node from, int64_t k) {
    enum { MAX_NODES = 20000 };
    mr_grammar *g = b->g;
    mr_grammar_node to = mr_grammar_add_node(g), minus = mr_grammar_text(g, from, "-", 1);
    mr_grammar_node rest[MAX_MULTIPLE], before[MAX_MULTIPLE]; /* behind the digits so far, and behind one less */
    int n_digits = k * MAX_DIGITS <= MAX_NODES ? MAX_DIGITS : (int)(MAX_NODES / k);
    mr_grammar_byte(g, from, '0', '0', to);
    for (int n = 1; n <= n_digits && !mr_grammar_failed(g); n++) {
        for (int64_t r = 0; r < k; r++) rest[r] = mr_grammar_add_node(g);
        for (int d = 0; d <= 9; d++) {
            uint8_t digit = (uint8_t)('0' + d);
            for (int64_t r = 0; r < k && n > 1; r++)
                mr_grammar_byte(g, before[r], digit, digit, rest[(r * 10 + d) % k]);
            if (n > 1 || d == 0) continue;
            mr_grammar_byte(g, from, digit, digit, rest[d % k]);
            mr_grammar_byte(g, minus, digit, digit, rest[d % k]);
        }
        mr_grammar_skip(g, rest[0], to);
        memcpy(before, rest, sizeof *rest * (size_t)k);
    }
    return mr_grammar_failed(g) ? MR_GRAMMAR_NONE : to;
}

/* Numbers without limits. */
static mr_grammar_node any_number(mr_schema_build *b, mr_grammar_node from, bool integer) {
    mr_grammar *g = b->g;
    mr_grammar_rule *rule = integer ? &b->any_integer : &b->any_number;
    if (*rule == 0) {
        *rule = mr_grammar_add_rule(g);
        mr_grammar_node entry = mr_grammar_entry(g, *rule), unsigned_part = mr_grammar_add_node(g);
        mr_grammar_node whole = mr_grammar_add_node(g), out = mr_grammar_exit(g, *rule);
        mr_grammar_skip(g, entry, unsigned_part);
        mr_grammar_skip(g, mr_grammar_text(g, entry, "-", 1), unsigned_part);
        mr_grammar_byte(g, unsigned_part, '0', '0', whole);
        mr_grammar_node lead = mr_grammar_add_node(g);
        mr_grammar_byte(g, unsigned_part, '1', '9', lead);
        mr_grammar_skip(g, digits(g, lead, 0, MAX_DIGITS - 1), whole);
        mr_grammar_skip(g, whole, out);
        if (!integer) {
            mr_grammar_node behind = mr_grammar_add_node(g), exponent = mr_grammar_add_node(g),
                            sign = mr_grammar_add_node(g);
            mr_grammar_skip(g, fraction(g, whole), behind);
            mr_grammar_skip(g, whole, behind);
            mr_grammar_skip(g, behind, out);
            mr_grammar_byte(g, behind, 'e', 'e', exponent);
            mr_grammar_byte(g, behind, 'E', 'E', exponent);
            mr_grammar_skip(g, exponent, sign);
            mr_grammar_byte(g, exponent, '+', '+', sign);
            mr_grammar_byte(g, exponent, '-', '-', sign);
            mr_grammar_skip(g, digits(g, sign, 1, 2), out);
        }
    }
    return mr_grammar_call(g, from, *rule);
}

/* Numbers with limits: whole ones, and whole parts with any fraction where all of those are inside. */
static void real_range(mr_grammar *g, mr_grammar_node from, const limits *l, mr_grammar_node to) {
    int64_t first, last;
    whole_limits(l, 1, &first, &last);
    integer_range(g, from, first, last, to);
    /* i.xxx lies from i to i + 1, -i.xxx from -i - 1 to -i. */
    int64_t low = first, high = last;
    if (l->has_min && l->min_open && (double)low <= l->min) low++;
    if (l->has_max) high--;
    int64_t from_zero = low > 0 ? low : 0;
    if (l->has_min && l->min >= 0 && l->min_open && (double)from_zero <= l->min) from_zero = (int64_t)l->min + 1;
    if (from_zero <= high) {
        mr_grammar_node whole = mr_grammar_add_node(g);
        natural_range(g, from, from_zero, high, whole);
        mr_grammar_skip(g, fraction(g, whole), to);
    }
    int64_t down = -(first + (l->has_min ? 1 : 0)), up = last < 0 ? -last : 0;
    if (l->has_max && l->max_open && l->max <= 0 && up <= (int64_t)-l->max) up = (int64_t)-l->max + 1;
    if (up <= down) {
        mr_grammar_node whole = mr_grammar_add_node(g);
        natural_range(g, mr_grammar_text(g, from, "-", 1), up, down, whole);
        mr_grammar_skip(g, fraction(g, whole), to);
    }
}

/* Numbers n / 10^places with all their places written, for ranges inside of one whole number. */
static bool fine_range(mr_grammar *g, mr_grammar_node from, const limits *l, mr_grammar_node to) {
    for (int places = 1; places <= 9; places++) {
        double scale = pow(10, places);
        int64_t first, last;
        whole_limits(l, scale, &first, &last);
        if (first > last) continue;
        bool negative = last < 0 || (last == 0 && first < 0);
        int64_t a = negative ? -last : first < 0 ? 0 : first, z = negative ? -first : last;
        int64_t whole = a / (int64_t)scale;
        if (whole != z / (int64_t)scale) z = (whole + 1) * (int64_t)scale - 1;
        char lead[32], low[32], high[32];
        snprintf(lead, sizeof lead, "%s%lld.", negative ? "-" : "", (long long)whole);
        snprintf(low, sizeof low, "%0*lld", places, (long long)(a % (int64_t)scale));
        snprintf(high, sizeof high, "%0*lld", places, (long long)(z % (int64_t)scale));
        fixed_range(g, mr_grammar_text(g, from, lead, strlen(lead)), low, high, places, to);
        return true;
    }
    return false;
}

static mr_grammar_node multiple_of(mr_schema_build *b, mr_grammar_node from, const json_t *schema, const limits *l,
                                   bool integer) {
    double k = json_number_value(json_object_get(schema, "multipleOf"));
    if (!(k > 0)) {
        mr_schema_fail(b, MR_ERR_INVALID, "multipleOf", "is no number above 0");
        return MR_GRAMMAR_NONE;
    }
    bool limited = l->has_min || l->has_max;
    mr_grammar_node to = mr_grammar_add_node(b->g);
    if (k == 1 || (integer && 1 / k == floor(1 / k))) { /* every whole number is one */
        int64_t first, last;
        whole_limits(l, 1, &first, &last);
        integer_range(b->g, from, first, last, to);
        return to;
    }
    if (k == floor(k) && k <= MAX_MULTIPLE && !limited) return multiples(b, from, (int64_t)k);
    if (k == floor(k) && l->has_min && l->has_max && l->max - l->min <= 1000 * k) { /* few enough to list */
        for (double n = ceil(l->min / k) * k; n <= l->max; n += k) {
            char text[32];
            if ((l->min_open && n <= l->min) || (l->max_open && n >= l->max) || fabs(n) > (double)LARGEST) continue;
            snprintf(text, sizeof text, "%.0f", n == 0 ? 0 : n);
            mr_grammar_skip(b->g, mr_grammar_text(b->g, from, text, strlen(text)), to);
        }
        return to;
    }
    mr_schema_fail(b, MR_ERR_UNSUPPORTED, "multipleOf", "of this size, or with these limits, is not supported");
    return MR_GRAMMAR_NONE;
}

mr_grammar_node mr_schema_number(mr_schema_build *b, mr_grammar_node from, const json_t *schema, bool integer) {
    mr_grammar *g = b->g;
    limits l = read_limits(b, schema);
    if (json_object_get(schema, "multipleOf") != NULL) return multiple_of(b, from, schema, &l, integer);
    if (!l.has_min && !l.has_max) return any_number(b, from, integer);
    mr_grammar_node to = mr_grammar_add_node(g);
    int64_t first, last;
    whole_limits(&l, 1, &first, &last);
    if (integer)
        integer_range(g, from, first, last, to);
    else if (first > last && l.has_min && l.has_max)
        fine_range(g, from, &l, to);
    else
        real_range(g, from, &l, to);
    return to;
}
