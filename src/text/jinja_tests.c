/* The tests of `is`. */
#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <string.h>

static bool answer(jj_value *out, bool truth) {
    *out = mr_jj_bool(truth);
    return true;
}

/* a % n == rest */
static bool modulo_is(jj_rt *rt, jj_value a, jj_value n, int64_t rest, jj_value *out) {
    jj_value m;
    bool equal;
    if (!mr_jj_binary(rt, '%', a, n, &m) || !mr_jj_equal(rt, m, mr_jj_int(rest), &equal)) return false;
    return answer(out, equal);
}

static bool test_odd(jj_rt *rt, const jj_call *call, jj_value *out) {
    return modulo_is(rt, call->a[0], mr_jj_int(2), 1, out);
}

static bool test_even(jj_rt *rt, const jj_call *call, jj_value *out) {
    return modulo_is(rt, call->a[0], mr_jj_int(2), 0, out);
}

static bool test_divisibleby(jj_rt *rt, const jj_call *call, jj_value *out) {
    return modulo_is(rt, call->a[0], call->a[1], 0, out);
}

static bool test_defined(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind != JJ_UNDEFINED);
}

static bool test_undefined(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_UNDEFINED);
}

static bool test_filter(jj_rt *rt, const jj_call *call, jj_value *out) {
    uint64_t hash;
    if (!mr_jj_hash(rt, call->a[0], &hash)) return false;
    if (call->a[0].kind != JJ_STR) return answer(out, false);
    return answer(out, mr_jj_find_filter(call->a[0].u.s->data, call->a[0].u.s->len) != NULL);
}

static bool test_test(jj_rt *rt, const jj_call *call, jj_value *out) {
    uint64_t hash;
    if (!mr_jj_hash(rt, call->a[0], &hash)) return false;
    if (call->a[0].kind != JJ_STR) return answer(out, false);
    return answer(out, mr_jj_find_test(call->a[0].u.s->data, call->a[0].u.s->len) != NULL);
}

static bool test_none(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_NONE);
}

static bool test_boolean(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_BOOL);
}

static bool test_false(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_BOOL && !call->a[0].u.b);
}

static bool test_true(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_BOOL && call->a[0].u.b);
}

static bool test_integer(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_INT || call->a[0].kind == JJ_BIG);
}

static bool test_float(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_FLOAT);
}

static bool test_number(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, mr_jj_is_number(call->a[0]));
}

/* str.islower and str.isupper: at least one cased character, and none of the other case. */
static bool case_is(jj_rt *rt, jj_value v, bool upper, jj_value *out) {
    jj_value text;
    bool cased = false;
    if (!mr_jj_to_str(rt, v, &text) || !mr_jj_step(rt, text.u.s->len / 64)) return false;
    for (size_t i = 0; i < text.u.s->len;) {
        uint32_t c;
        i += mr_utf8_decode(text.u.s->data + i, text.u.s->len - i, &c);
        if (mr_jj_is_title(c) || (upper ? mr_jj_is_lower(c) : mr_jj_is_upper(c))) return answer(out, false);
        cased = cased || (upper ? mr_jj_is_upper(c) : mr_jj_is_lower(c));
    }
    return answer(out, cased);
}

static bool test_lower(jj_rt *rt, const jj_call *call, jj_value *out) {
    return case_is(rt, call->a[0], false, out);
}

static bool test_upper(jj_rt *rt, const jj_call *call, jj_value *out) {
    return case_is(rt, call->a[0], true, out);
}

static bool test_string(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_STR);
}

static bool test_mapping(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, call->a[0].kind == JJ_DICT);
}

static bool test_sequence(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    uint8_t kind = call->a[0].kind;
    return answer(out, kind == JJ_STR || kind == JJ_LIST || kind == JJ_TUPLE || kind == JJ_DICT || kind == JJ_RANGE ||
                           kind == JJ_UNDEFINED);
}

static bool test_iterable(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, mr_jj_is_iterable(call->a[0]));
}

static bool test_callable(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, mr_jj_is_callable(call->a[0]));
}

static bool test_sameas(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, mr_jj_is_same(call->a[0], call->a[1]));
}

static bool test_escaped(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)rt;
    return answer(out, mr_jj_is_markup(call->a[0]));
}

static bool test_in(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool found;
    return mr_jj_contains(rt, call->a[0], call->a[1], &found) && answer(out, found);
}

static bool test_eq(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool equal;
    return mr_jj_equal(rt, call->a[0], call->a[1], &equal) && answer(out, equal);
}

static bool test_ne(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool equal;
    return mr_jj_equal(rt, call->a[0], call->a[1], &equal) && answer(out, !equal);
}

static bool test_gt(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool holds;
    return mr_jj_less(rt, ">", call->a[0], call->a[1], &holds) && answer(out, holds);
}

static bool test_ge(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool holds;
    return mr_jj_less(rt, ">=", call->a[0], call->a[1], &holds) && answer(out, holds);
}

static bool test_lt(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool holds;
    return mr_jj_less(rt, "<", call->a[0], call->a[1], &holds) && answer(out, holds);
}

static bool test_le(jj_rt *rt, const jj_call *call, jj_value *out) {
    bool holds;
    return mr_jj_less(rt, "<=", call->a[0], call->a[1], &holds) && answer(out, holds);
}

static const jj_builtin tests[] = {
    {"odd", "value", test_odd},
    {"even", "value", test_even},
    {"divisibleby", "value num", test_divisibleby},
    {"defined", "value", test_defined},
    {"undefined", "value", test_undefined},
    {"filter", "value", test_filter},
    {"test", "value", test_test},
    {"none", "value", test_none},
    {"boolean", "value", test_boolean},
    {"false", "value", test_false},
    {"true", "value", test_true},
    {"integer", "value", test_integer},
    {"float", "value", test_float},
    {"lower", "value", test_lower},
    {"upper", "value", test_upper},
    {"string", "value", test_string},
    {"mapping", "value", test_mapping},
    {"number", "value", test_number},
    {"sequence", "value", test_sequence},
    {"iterable", "value", test_iterable},
    {"callable", "/value", test_callable},
    {"sameas", "value other", test_sameas},
    {"escaped", "value", test_escaped},
    {"in", "value seq", test_in},
    {"==", "/value /other", test_eq},
    {"eq", "/value /other", test_eq},
    {"equalto", "/value /other", test_eq},
    {"!=", "/value /other", test_ne},
    {"ne", "/value /other", test_ne},
    {">", "/value /other", test_gt},
    {"gt", "/value /other", test_gt},
    {"greaterthan", "/value /other", test_gt},
    {">=", "/value /other", test_ge},
    {"ge", "/value /other", test_ge},
    {"<", "/value /other", test_lt},
    {"lt", "/value /other", test_lt},
    {"lessthan", "/value /other", test_lt},
    {"<=", "/value /other", test_le},
    {"le", "/value /other", test_le},
};

const jj_builtin *mr_jj_find_test(const char *name, size_t len) {
    return mr_jj_find_in(tests, sizeof tests / sizeof *tests, name, len);
}
