/* Access to parts of values: obj.name, obj[key] and slices, with the sandbox's rules. */
#include "text/jinja_ast.h"
#include "text/jinja_methods.h"

#include <string.h>

static bool bound(jj_rt *rt, jj_value self, const jj_builtin *fn, jj_value *out) {
    jj_method *method = mr_jj_alloc(rt, sizeof *method);
    if (method == NULL) return false;
    *method = (jj_method){self, fn};
    *out = (jj_value){.kind = JJ_METHOD, .u.method = method};
    return true;
}

static const jj_builtin *find_method(jj_value obj, const jj_str *name) {
    switch (obj.kind) {
    case JJ_STR:
        return mr_jj_find_str_method(name->data, name->len);
    case JJ_DICT:
        return mr_jj_find_dict_method(name->data, name->len);
    case JJ_LIST:
        return mr_jj_find_list_method(name->data, name->len);
    case JJ_TUPLE:
    case JJ_RANGE:
        return mr_jj_find_tuple_method(name->data, name->len);
    case JJ_BOOL:
    case JJ_INT:
    case JJ_FLOAT:
        return mr_jj_find_number_method(name->data, name->len);
    case JJ_LOOP:
    case JJ_CYCLER:
    case JJ_VIEW:
        return mr_jj_find_object_method((jj_kind)obj.kind, name->data, name->len);
    default:
        return NULL;
    }
}

/* Names that every Python object has; a template that asks for one gets an unsafe undefined value. */
static bool is_object_dunder(const jj_str *name) {
    static const char *const names[] = {
        "__class__",   "__delattr__", "__dir__",           "__doc__",          "__eq__",
        "__format__",  "__ge__",      "__getattribute__",  "__getstate__",     "__gt__",
        "__hash__",    "__init__",    "__init_subclass__", "__le__",           "__lt__",
        "__ne__",      "__new__",     "__reduce__",        "__reduce_ex__",    "__repr__",
        "__setattr__", "__sizeof__",  "__str__",           "__subclasshook__",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (mr_jj_str_is(name, names[i])) return true;
    }
    return false;
}

static bool is_container_dunder(jj_kind kind, const jj_str *name) {
    static const char *const names[] = {"__len__", "__getitem__", "__contains__", "__iter__"};
    if (kind != JJ_STR && kind != JJ_LIST && kind != JJ_TUPLE && kind != JJ_DICT && kind != JJ_RANGE) return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (mr_jj_str_is(name, names[i])) return true;
    }
    if (kind == JJ_RANGE) return false;
    if (kind == JJ_DICT)
        return mr_jj_str_is(name, "__setitem__") || mr_jj_str_is(name, "__delitem__") || mr_jj_str_is(name, "__or__");
    return mr_jj_str_is(name, "__add__") || mr_jj_str_is(name, "__mul__") || mr_jj_str_is(name, "__rmul__");
}

static int number_attribute(jj_value obj, const jj_str *name, jj_value *out) {
    int64_t i;
    if (mr_jj_str_is(name, "real") || mr_jj_str_is(name, "numerator")) {
        if (obj.kind == JJ_FLOAT && name->data[0] == 'n') return 0;
        *out = mr_jj_index(obj, &i) ? mr_jj_int(i) : obj;
        return 1;
    }
    if (mr_jj_str_is(name, "imag")) {
        *out = obj.kind == JJ_FLOAT ? mr_jj_float(0) : mr_jj_int(0);
        return 1;
    }
    if (mr_jj_str_is(name, "denominator") && obj.kind != JJ_FLOAT) {
        *out = mr_jj_int(1);
        return 1;
    }
    return 0;
}

static int macro_attribute(jj_rt *rt, const jj_macro *macro, const jj_str *name, jj_value *out) {
    const jj_function_info *info = macro->node->x.func;
    if (mr_jj_str_is(name, "name")) {
        *out = macro->node->name == NULL ? mr_jj_none() : mr_jj_str_static(macro->node->name);
    } else if (mr_jj_str_is(name, "arguments")) {
        jj_vec vec = {0};
        for (size_t i = 0; i < info->params.n; i++) {
            if (!mr_jj_vec_push(rt, &vec, mr_jj_str_static(info->params.nodes[i]->name))) return -1;
        }
        return mr_jj_vec_list(rt, &vec, JJ_TUPLE, out) ? 1 : -1;
    } else if (mr_jj_str_is(name, "catch_kwargs")) {
        *out = mr_jj_bool(info->kwargs_slot >= 0);
    } else if (mr_jj_str_is(name, "catch_varargs")) {
        *out = mr_jj_bool(info->varargs_slot >= 0);
    } else if (mr_jj_str_is(name, "caller")) {
        *out = mr_jj_bool(info->caller_slot >= 0 || info->explicit_caller);
    } else if (mr_jj_str_is(name, "explicit_caller")) {
        *out = mr_jj_bool(info->explicit_caller);
    } else {
        return 0;
    }
    return 1;
}

static int cycler_attribute(jj_rt *rt, jj_value obj, const jj_str *name, jj_value *out) {
    const jj_cycler *c = obj.u.cycler;
    if (obj.kind == JJ_JOINER) {
        if (mr_jj_str_is(name, "sep"))
            *out = c->sep;
        else if (mr_jj_str_is(name, "used"))
            *out = mr_jj_bool(c->used);
        else
            return 0;
        return 1;
    }
    if (mr_jj_str_is(name, "current")) {
        *out = c->items[c->pos];
    } else if (mr_jj_str_is(name, "pos")) {
        *out = mr_jj_int((int64_t)c->pos);
    } else if (mr_jj_str_is(name, "items")) {
        jj_vec vec = {.items = (jj_value *)c->items, .n = c->n};
        return mr_jj_vec_list(rt, &vec, JJ_TUPLE, out) ? 1 : -1;
    } else {
        return 0;
    }
    return 1;
}

static int range_attribute(const jj_range *r, const jj_str *name, jj_value *out) {
    if (mr_jj_str_is(name, "start"))
        *out = mr_jj_int(r->start);
    else if (mr_jj_str_is(name, "stop"))
        *out = mr_jj_int(r->stop);
    else if (mr_jj_str_is(name, "step"))
        *out = mr_jj_int(r->step);
    else
        return 0;
    return 1;
}

static int group_attribute(jj_value obj, const jj_str *name, jj_value *out) {
    if (!(obj.flags & JJ_FLAG_GROUP)) return 0;
    if (mr_jj_str_is(name, "grouper"))
        *out = obj.u.l->items[0];
    else if (mr_jj_str_is(name, "list"))
        *out = obj.u.l->items[1];
    else
        return 0;
    return 1;
}

/* Attributes that are no methods. */
static int plain_attribute(jj_rt *rt, jj_value obj, const jj_str *name, jj_value *out) {
    jj_value *value;
    bool found = false;
    switch (obj.kind) {
    case JJ_NAMESPACE:
        value = mr_jj_dict_get_str(obj.u.d, name->data, name->len);
        if (value != NULL) *out = *value;
        return value != NULL;
    case JJ_BOOL:
    case JJ_INT:
    case JJ_FLOAT:
        return number_attribute(obj, name, out);
    case JJ_LOOP:
        return mr_jj_loop_attr(rt, obj.u.loop, name, out, &found) ? found : -1;
    case JJ_MACRO:
        return macro_attribute(rt, obj.u.macro, name, out);
    case JJ_CYCLER:
    case JJ_JOINER:
        return cycler_attribute(rt, obj, name, out);
    case JJ_RANGE:
        return range_attribute(obj.u.range, name, out);
    case JJ_TUPLE:
        return group_attribute(obj, name, out);
    default:
        return 0;
    }
}

int mr_jj_attribute(jj_rt *rt, jj_value obj, const jj_str *name, jj_value *out) {
    if (obj.kind == JJ_NAMESPACE) {
        int got = plain_attribute(rt, obj, name, out);
        if (got != 0 && name->data[0] != '_') return got;
        if (got == 0 && !mr_jj_str_is(name, "__class__")) return 0;
        return mr_jj_undefined_unsafe(rt, obj, mr_jj_str_static(name), out) ? 1 : -1;
    }
    if (name->len > 0 && name->data[0] == '_') {
        if (obj.kind == JJ_UNDEFINED && !is_object_dunder(name)) {
            mr_jj_raise_undefined(rt, obj);
            return -1;
        }
        if (!is_object_dunder(name) && !is_container_dunder((jj_kind)obj.kind, name)) return 0;
        return mr_jj_undefined_unsafe(rt, obj, mr_jj_str_static(name), out) ? 1 : -1;
    }
    if (obj.kind == JJ_UNDEFINED) {
        mr_jj_raise_undefined(rt, obj);
        return -1;
    }
    int got = plain_attribute(rt, obj, name, out);
    if (got != 0) return got;
    if (mr_jj_is_mutating((jj_kind)obj.kind, name)) {
        return mr_jj_undefined_unsafe(rt, obj, mr_jj_str_static(name), out) ? 1 : -1;
    }
    const jj_builtin *fn = find_method(obj, name);
    if (fn == NULL) return 0;
    return bound(rt, obj, fn, out) ? 1 : -1;
}

/* Character i of a string, as a string. */
static bool char_at(jj_rt *rt, jj_value v, size_t i, jj_value *out) {
    const jj_str *s = v.u.s;
    size_t at = i, n = 1;
    if (s->n_chars != s->len) {
        if (!mr_jj_step(rt, s->len / 256)) return false;
        at = 0;
        for (size_t k = 0; k < i; k++) {
            do at++;
            while (((unsigned char)s->data[at] & 0xC0) == 0x80);
        }
        while (at + n < s->len && ((unsigned char)s->data[at + n] & 0xC0) == 0x80) n++;
    }
    if (!mr_jj_str_borrow(rt, s->data + at, n, out)) return false;
    out->flags = v.flags;
    return true;
}

/* obj[key] alone: 1 found, 0 not found or not possible, -1 error. */
static int subscript(jj_rt *rt, jj_value obj, jj_value key, jj_value *out) {
    int64_t i, n;
    jj_value *value;
    uint64_t hash;
    switch (obj.kind) {
    case JJ_UNDEFINED:
        mr_jj_raise_undefined(rt, obj);
        return -1;
    case JJ_DICT:
        if (key.kind == JJ_LIST || key.kind == JJ_DICT || key.kind == JJ_SLICE) return 0;
        if (!mr_jj_hash(rt, key, &hash)) {
            if (rt->error != JJ_ERR_TYPE) return -1;
            rt->error = JJ_ERR_NONE;
            return 0;
        }
        if (!mr_jj_dict_get(rt, obj.u.d, key, &value)) return -1;
        if (value == NULL) return 0;
        *out = *value;
        return 1;
    case JJ_STR:
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_RANGE:
        if (!mr_jj_index(key, &i) || !mr_jj_length(rt, obj, &n)) return 0;
        if (i < 0) i += n;
        if (i < 0 || i >= n) return 0;
        if (obj.kind == JJ_RANGE) {
            *out = mr_jj_int(obj.u.range->start + i * obj.u.range->step);
        } else if (obj.kind == JJ_STR) {
            return char_at(rt, obj, (size_t)i, out) ? 1 : -1;
        } else {
            *out = obj.u.l->items[i];
        }
        return 1;
    case JJ_SELF:
        if (key.kind != JJ_STR) return 0;
        for (size_t b = 0; b < rt->jinja->n_blocks; b++) {
            if (!mr_jj_str_eq(rt->jinja->blocks[b]->name, key.u.s)) continue;
            *out = (jj_value){.kind = JJ_BLOCK, .u.node = rt->jinja->blocks[b]};
            return 1;
        }
        return 0;
    default:
        return 0;
    }
}

bool mr_jj_getitem(jj_rt *rt, jj_value obj, jj_value key, jj_value *out) {
    int got = subscript(rt, obj, key, out);
    if (got == 0 && key.kind == JJ_STR) got = mr_jj_attribute(rt, obj, key.u.s, out);
    if (got == 0) return mr_jj_undefined_attr(rt, obj, key, out);
    return got > 0;
}

bool mr_jj_getattr(jj_rt *rt, jj_value obj, jj_value name, jj_value *out) {
    int got = mr_jj_attribute(rt, obj, name.u.s, out);
    if (got == 0) got = subscript(rt, obj, name, out);
    if (got == 0) return mr_jj_undefined_attr(rt, obj, name, out);
    return got > 0;
}

/* --- slices --- */

static bool slice_index(jj_rt *rt, jj_value v, int64_t fallback, int64_t *out) {
    *out = fallback;
    if (v.kind == JJ_NONE || mr_jj_index(v, out)) return true;
    if (v.kind == JJ_BIG) {
        *out = v.u.big->negative ? INT64_MIN / 4 : INT64_MAX / 4;
        return true;
    }
    return mr_jj_raise(rt, JJ_ERR_TYPE, "slice indices must be integers or None or have an __index__ method");
}

static int64_t clamp(int64_t i, int64_t n, int64_t lo, int64_t hi) {
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) return lo;
    return i >= n ? hi : i;
}

/* Start, step and number of items that the slice takes from n items. */
static bool slice_bounds(jj_rt *rt, const jj_slice *slice, int64_t n, int64_t *start, int64_t *step, int64_t *count) {
    int64_t stop;
    if (!slice_index(rt, slice->step, 1, step)) return false;
    if (*step == 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "slice step cannot be zero");
    if (*step < -INT64_MAX / 4) *step = -INT64_MAX / 4;
    if (*step > INT64_MAX / 4) *step = INT64_MAX / 4;
    bool forwards = *step > 0;
    int64_t lo = forwards ? 0 : -1, hi = forwards ? n : n - 1;
    if (!slice_index(rt, slice->start, 0, start) || !slice_index(rt, slice->stop, 0, &stop)) return false;
    *start = slice->start.kind == JJ_NONE ? (forwards ? 0 : n - 1) : clamp(*start, n, lo, hi);
    stop = slice->stop.kind == JJ_NONE ? (forwards ? n : -1) : clamp(stop, n, lo, hi);
    *count = forwards ? (stop > *start ? (stop - *start - 1) / *step + 1 : 0)
                      : (stop < *start ? (*start - stop - 1) / -*step + 1 : 0);
    return true;
}

static bool slice_text(jj_rt *rt, jj_value v, int64_t start, int64_t step, int64_t count, jj_value *out) {
    const jj_str *s = v.u.s;
    if (!mr_jj_step(rt, s->len / 128)) return false;
    size_t *offsets = NULL;
    if (s->n_chars != s->len) {
        offsets = mr_jj_calloc(rt, s->n_chars + 1, sizeof *offsets);
        if (offsets == NULL) return false;
        size_t k = 0;
        for (size_t i = 0; i < s->len; i++) {
            if (((unsigned char)s->data[i] & 0xC0) != 0x80) offsets[k++] = i;
        }
        offsets[k] = s->len;
    }
    if (step == 1 || count == 0) {
        size_t from = count == 0 ? 0 : offsets == NULL ? (size_t)start : offsets[start];
        size_t to = count == 0 ? 0 : offsets == NULL ? (size_t)(start + count) : offsets[start + count];
        if (!mr_jj_str_borrow(rt, s->data + from, to - from, out)) return false;
    } else {
        char *data = mr_jj_alloc(rt, (size_t)count * (offsets == NULL ? 1 : 4) + 1);
        size_t len = 0;
        if (data == NULL) return false;
        for (int64_t i = 0, at = start; i < count; i++, at += step) {
            size_t from = offsets == NULL ? (size_t)at : offsets[at], n = offsets == NULL ? 1 : offsets[at + 1] - from;
            memcpy(data + len, s->data + from, n);
            len += n;
        }
        if (!mr_jj_str_borrow(rt, data, len, out)) return false;
    }
    out->flags = v.flags;
    return true;
}

static bool slice_range(jj_rt *rt, const jj_range *r, int64_t start, int64_t step, int64_t count, jj_value *out) {
    jj_range *sub = mr_jj_alloc(rt, sizeof *sub);
    if (sub == NULL) return false;
    if (step > 1000000000 || step < -1000000000) step = step < 0 ? -1000000000 : 1000000000;
    sub->start = r->start + start * r->step;
    sub->step = r->step * step;
    sub->n = count;
    sub->stop = sub->start + count * sub->step;
    *out = (jj_value){.kind = JJ_RANGE, .u.range = sub};
    return true;
}

bool mr_jj_slice(jj_rt *rt, jj_value obj, const jj_slice *slice, jj_value *out) {
    int64_t n, start = 0, step = 1, count = 0;
    switch (obj.kind) {
    case JJ_STR:
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_RANGE:
        break;
    case JJ_UNDEFINED:
        return mr_jj_raise_undefined(rt, obj);
    case JJ_DICT:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "unhashable type: 'slice'");
    default:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object is not subscriptable", mr_jj_type_name(obj));
    }
    if (!mr_jj_length(rt, obj, &n) || !slice_bounds(rt, slice, n, &start, &step, &count)) return false;
    if (obj.kind == JJ_STR) return slice_text(rt, obj, start, step, count, out);
    if (obj.kind == JJ_RANGE) return slice_range(rt, obj.u.range, start, step, count, out);
    jj_vec vec = {.n = (size_t)count};
    vec.items = mr_jj_calloc(rt, vec.n, sizeof *vec.items);
    if (vec.items == NULL || !mr_jj_step(rt, vec.n)) return false;
    for (int64_t i = 0; i < count; i++) vec.items[i] = obj.u.l->items[start + i * step];
    return mr_jj_vec_list(rt, &vec, (jj_kind)obj.kind, out);
}
