/* The methods of dict, list, tuple, numbers and the helper objects. */
#include "text/jinja_methods.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool view(jj_rt *rt, const jj_call *c, char what, jj_value *out) {
    jj_view *v = mr_jj_alloc(rt, sizeof *v);
    if (v == NULL) return false;
    *v = (jj_view){c->self.u.d, what};
    *out = (jj_value){.kind = JJ_VIEW, .u.view = v};
    return true;
}
static bool d_keys(jj_rt *rt, const jj_call *c, jj_value *out) {
    return view(rt, c, 'k', out);
}
static bool d_values(jj_rt *rt, const jj_call *c, jj_value *out) {
    return view(rt, c, 'v', out);
}
static bool d_items(jj_rt *rt, const jj_call *c, jj_value *out) {
    return view(rt, c, 'i', out);
}

static bool d_get(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value *found;
    if (!mr_jj_dict_get(rt, c->self.u.d, c->a[0], &found)) return false;
    *out = found != NULL ? *found : c->a[1].kind == JJ_MISSING ? mr_jj_none() : c->a[1];
    return true;
}

static bool d_copy(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_dict *copy;
    const jj_dict *from = c->self.u.d;
    if (!mr_jj_dict_new(rt, from->n, &copy)) return false;
    for (size_t i = 0; i < from->n; i++) {
        if (!mr_jj_dict_put(rt, copy, from->entries[i].key, from->entries[i].value)) return false;
    }
    *out = mr_jj_dict_value(copy);
    return true;
}

static bool d_fromkeys(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_dict *dict;
    jj_iter *it;
    jj_value key;
    int got;
    if (!mr_jj_dict_new(rt, 0, &dict) || !mr_jj_iterate(rt, c->a[0], &it)) return false;
    while ((got = mr_jj_next(rt, it, &key)) > 0) {
        if (!mr_jj_dict_put(rt, dict, key, c->a[1].kind == JJ_MISSING ? mr_jj_none() : c->a[1])) return false;
    }
    *out = mr_jj_dict_value(dict);
    return got == 0;
}

static bool l_copy(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_vec vec;
    return mr_jj_to_vec(rt, c->self, &vec) && mr_jj_vec_list(rt, &vec, JJ_LIST, out);
}

static bool l_count(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_vec vec;
    int64_t n = 0;
    if (!mr_jj_to_vec(rt, c->self, &vec)) return false;
    for (size_t i = 0; i < vec.n; i++) {
        bool equal;
        if (!mr_jj_equal(rt, vec.items[i], c->a[0], &equal)) return false;
        n += equal;
    }
    *out = mr_jj_int(n);
    return true;
}

static bool l_index(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_vec vec;
    int64_t bounds[2] = {0, 0};
    if (!mr_jj_to_vec(rt, c->self, &vec)) return false;
    bounds[1] = (int64_t)vec.n;
    for (int k = 0; k < 2; k++) {
        if (c->a[1 + k].kind == JJ_MISSING) continue;
        if (!mr_jj_index(c->a[1 + k], &bounds[k])) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "slice indices must be integers or have an __index__ method");
        }
        if (bounds[k] < 0) bounds[k] = bounds[k] < -(int64_t)vec.n ? 0 : bounds[k] + (int64_t)vec.n;
    }
    for (int64_t i = bounds[0]; i < bounds[1] && i < (int64_t)vec.n; i++) {
        bool equal;
        if (!mr_jj_equal(rt, vec.items[i], c->a[0], &equal)) return false;
        if (equal) {
            *out = mr_jj_int(i);
            return true;
        }
    }
    if (c->self.kind == JJ_TUPLE) return mr_jj_raise(rt, JJ_ERR_VALUE, "tuple.index(x): x not in tuple");
    return mr_jj_raise(rt, JJ_ERR_VALUE, "%s is not in %s", mr_jj_repr_cstr(rt, c->a[0]), mr_jj_type_name(c->self));
}

static bool n_is_integer(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->self.kind != JJ_FLOAT) {
        return mr_jj_raise(rt, JJ_ERR_UNDEFINED, "'%s object' has no attribute 'is_integer'", mr_jj_type_name(c->self));
    }
    *out = mr_jj_bool(isfinite(c->self.u.f) && c->self.u.f == floor(c->self.u.f));
    return true;
}

static bool n_bit_length(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t i, n = 0;
    if (!mr_jj_index(c->self, &i)) {
        return mr_jj_raise(rt, JJ_ERR_UNDEFINED, "'float object' has no attribute 'bit_length'");
    }
    for (uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; u > 0; u >>= 1) n++;
    *out = mr_jj_int(n);
    return true;
}

static bool n_conjugate(jj_rt *rt, const jj_call *c, jj_value *out) {
    return mr_jj_positive(rt, c->self, out);
}

static bool o_cycle(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->raw->n_kw > 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "cycle() takes no keyword arguments");
    return mr_jj_loop_cycle(rt, c->self.u.loop, c->raw, out);
}

static bool o_changed(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->raw->n_kw > 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "changed() takes no keyword arguments");
    return mr_jj_loop_changed(rt, c->self.u.loop, c->raw, out);
}

static bool o_next(jj_rt *rt, const jj_call *c, jj_value *out) {
    (void)rt;
    jj_cycler *cycler = c->self.u.cycler;
    *out = cycler->items[cycler->pos];
    cycler->pos = (cycler->pos + 1) % cycler->n;
    return true;
}

static bool o_reset(jj_rt *rt, const jj_call *c, jj_value *out) {
    (void)rt;
    c->self.u.cycler->pos = 0;
    *out = mr_jj_none();
    return true;
}

static const jj_builtin dict_methods[] = {
    {"copy", "", d_copy},
    {"fromkeys", "/iterable /value?", d_fromkeys},
    {"get", "/key /default?", d_get},
    {"items", "", d_items},
    {"keys", "", d_keys},
    {"values", "", d_values},
};
static const jj_builtin list_methods[] = {
    {"copy", "", l_copy},
    {"count", "/value", l_count},
    {"index", "/value /start? /stop?", l_index},
};
static const jj_builtin number_methods[] = {
    {"is_integer", "", n_is_integer},
    {"bit_length", "", n_bit_length},
    {"conjugate", "", n_conjugate},
};
static const jj_builtin loop_methods[] = {{"cycle", NULL, o_cycle}, {"changed", NULL, o_changed}};
static const jj_builtin cycler_methods[] = {{"next", "", o_next}, {"reset", "", o_reset}};

#define FIND(table, name, len) mr_jj_find_in(table, sizeof(table) / sizeof(table)[0], name, len)

const jj_builtin *mr_jj_find_dict_method(const char *name, size_t len) {
    return FIND(dict_methods, name, len);
}

const jj_builtin *mr_jj_find_list_method(const char *name, size_t len) {
    return FIND(list_methods, name, len);
}

const jj_builtin *mr_jj_find_tuple_method(const char *name, size_t len) {
    const jj_builtin *fn = FIND(list_methods, name, len);
    return fn == &list_methods[0] ? NULL : fn;
}

const jj_builtin *mr_jj_find_number_method(const char *name, size_t len) {
    return FIND(number_methods, name, len);
}

const jj_builtin *mr_jj_find_object_method(jj_kind kind, const char *name, size_t len) {
    if (kind == JJ_LOOP) return FIND(loop_methods, name, len);
    return kind == JJ_CYCLER ? FIND(cycler_methods, name, len) : NULL;
}

bool mr_jj_is_mutating(jj_kind kind, const jj_str *name) {
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const of_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                          "sort",   "extend", "remove", NULL};
    const char *const *names = kind == JJ_DICT ? of_dict : kind == JJ_LIST ? of_list : NULL;
    for (; names != NULL && *names != NULL; names++) {
        if (mr_jj_str_is(name, *names)) return true;
    }
    return false;
}
