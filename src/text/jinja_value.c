/* Construction of values: strings, lists, dicts, undefined values; and the bookkeeping of a render. */
#include "text/jinja_value.h"

#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STACK_BYTES = 768 * 1024 };

bool mr_jj_raise(jj_rt *rt, jj_error_kind kind, const char *format, ...) {
    if (rt->error != JJ_ERR_NONE) return false;
    rt->error = kind;
    va_list args;
    va_start(args, format);
    vsnprintf(rt->message, sizeof rt->message, format, args);
    va_end(args);
    return false;
}

bool mr_jj_step(jj_rt *rt, uint64_t n) {
    if (rt->steps_left >= n) {
        rt->steps_left -= n;
        return true;
    }
    rt->steps_left = 0;
    return mr_jj_raise(rt, JJ_ERR_LIMIT, "the template takes too many steps; does it loop for ever?");
}

bool mr_jj_enter(jj_rt *rt) {
    char here;
    ptrdiff_t used = rt->stack_base - &here;
    if (used < 0) used = -used;
    if (used > MAX_STACK_BYTES) return mr_jj_raise(rt, JJ_ERR_LIMIT, "maximum recursion depth exceeded");
    return mr_jj_step(rt, 1);
}

void *mr_jj_alloc(jj_rt *rt, size_t n) {
    void *piece = mr_arena_alloc(&rt->arena, n);
    if (piece == NULL) {
        bool bound = rt->arena.max_bytes != 0 && rt->arena.n_bytes + n + 32 > rt->arena.max_bytes;
        mr_jj_raise(rt, bound ? JJ_ERR_LIMIT : JJ_ERR_NOMEM,
                    bound ? "the template uses too much memory" : "no memory to render the template");
    }
    return piece;
}

void *mr_jj_calloc(jj_rt *rt, size_t n, size_t size) {
    if (size != 0 && n > SIZE_MAX / 2 / size) {
        mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
        return NULL;
    }
    return mr_jj_alloc(rt, n * size);
}

size_t mr_jj_utf8_count(const char *data, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)data[i] & 0xC0) != 0x80;
    return n;
}

bool mr_jj_str_borrow(jj_rt *rt, const char *data, size_t len, jj_value *out) {
    jj_str *s = mr_jj_alloc(rt, sizeof *s);
    if (s == NULL || !mr_jj_step(rt, len / 256)) return false;
    *s = (jj_str){.data = data, .len = len, .n_chars = mr_jj_utf8_count(data, len)};
    *out = mr_jj_str_static(s);
    return true;
}

bool mr_jj_str_new(jj_rt *rt, const char *data, size_t len, jj_value *out) {
    char *copy = mr_jj_alloc(rt, len + 1);
    if (copy == NULL) return false;
    if (len > 0) memcpy(copy, data, len);
    return mr_jj_str_borrow(rt, copy, len, out);
}

bool mr_jj_str_buf(jj_rt *rt, const mr_buf *buf, jj_value *out) {
    if (buf->failed) return mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    return mr_jj_str_new(rt, mr_buf_cstr(buf), buf->len, out);
}

jj_value mr_jj_str_static(const jj_str *s) {
    return (jj_value){.kind = JJ_STR, .u.s = s};
}

bool mr_jj_str_concat(jj_rt *rt, const jj_str *a, const jj_str *b, jj_value *out) {
    jj_str *s = mr_jj_alloc(rt, sizeof *s);
    if (s == NULL || !mr_jj_step(rt, b->len / 256)) return false;
    *s = (jj_str){.len = a->len + b->len, .n_chars = a->n_chars + b->n_chars, .buf = a->buf};
    jj_strbuf *buf = a->buf;
    if (buf == NULL || a->data + a->len != buf->data + buf->used || buf->cap - buf->used < b->len) {
        size_t cap = s->len < 64 ? s->len : s->len * 2;
        buf = mr_jj_alloc(rt, sizeof *buf);
        char *data = buf == NULL ? NULL : mr_jj_alloc(rt, cap);
        if (data == NULL || !mr_jj_step(rt, a->len / 256)) return false;
        if (a->len > 0) memcpy(data, a->data, a->len);
        *buf = (jj_strbuf){.data = data, .used = a->len, .cap = cap};
        s->data = data;
        s->buf = buf;
    } else {
        s->data = a->data;
    }
    if (b->len > 0) memcpy(buf->data + buf->used, b->data, b->len);
    buf->used += b->len;
    *out = mr_jj_str_static(s);
    return true;
}

bool mr_jj_str_eq(const jj_str *a, const jj_str *b) {
    return a == b || (a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0));
}

bool mr_jj_str_is(const jj_str *a, const char *text) {
    size_t n = strlen(text);
    return a->len == n && memcmp(a->data, text, n) == 0;
}

bool mr_jj_vec_push(jj_rt *rt, jj_vec *vec, jj_value v) {
    if (vec->n == vec->cap) {
        size_t cap = vec->cap == 0 ? 8 : vec->cap * 2;
        jj_value *items = mr_jj_calloc(rt, cap, sizeof *items);
        if (items == NULL) return false;
        if (vec->n > 0) memcpy(items, vec->items, vec->n * sizeof *items);
        vec->items = items;
        vec->cap = cap;
    }
    vec->items[vec->n++] = v;
    return mr_jj_step(rt, 1);
}

bool mr_jj_vec_list(jj_rt *rt, const jj_vec *vec, jj_kind kind, jj_value *out) {
    jj_list *list = mr_jj_alloc(rt, sizeof *list);
    if (list == NULL) return false;
    *list = (jj_list){.items = vec->items, .n = vec->n};
    *out = (jj_value){.kind = (uint8_t)kind, .u.l = list};
    return true;
}

bool mr_jj_pair(jj_rt *rt, jj_value a, jj_value b, jj_value *out) {
    jj_vec vec = {.items = mr_jj_calloc(rt, 2, sizeof(jj_value)), .n = 2, .cap = 2};
    if (vec.items == NULL) return false;
    vec.items[0] = a;
    vec.items[1] = b;
    return mr_jj_vec_list(rt, &vec, JJ_TUPLE, out);
}

/* --- dicts --- */

bool mr_jj_dict_new(jj_rt *rt, size_t n_expected, jj_dict **out) {
    jj_dict *dict = mr_jj_alloc(rt, sizeof *dict);
    if (dict == NULL) return false;
    dict->cap = n_expected;
    if (n_expected > 0) {
        dict->entries = mr_jj_calloc(rt, n_expected, sizeof *dict->entries);
        if (dict->entries == NULL) return false;
    }
    *out = dict;
    return true;
}

static void index_entry(jj_dict *dict, size_t i) {
    size_t mask = dict->n_index - 1;
    size_t at = dict->entries[i].hash & mask;
    while (dict->index[at] != 0) at = (at + 1) & mask;
    dict->index[at] = (uint32_t)i + 1;
}

static bool grow_index(jj_rt *rt, jj_dict *dict) {
    size_t n_index = 32;
    while (n_index < dict->n * 3) n_index *= 2;
    dict->index = mr_jj_calloc(rt, n_index, sizeof *dict->index);
    if (dict->index == NULL) return false;
    dict->n_index = n_index;
    for (size_t i = 0; i < dict->n; i++) index_entry(dict, i);
    return true;
}

/* The entry with this key, or NULL. Equality of keys that hash alike can need mr_jj_equal, which may fail (never for
 * the keys a dict can hold). */
static jj_entry *find_entry(jj_rt *rt, const jj_dict *dict, jj_value key, uint64_t hash) {
    bool equal = false;
    if (dict->index == NULL) {
        for (size_t i = 0; i < dict->n; i++) {
            jj_entry *e = &dict->entries[i];
            if (e->hash == hash && mr_jj_equal(rt, e->key, key, &equal) && equal) return e;
        }
        return NULL;
    }
    size_t mask = dict->n_index - 1;
    for (size_t at = hash & mask; dict->index[at] != 0; at = (at + 1) & mask) {
        jj_entry *e = &dict->entries[dict->index[at] - 1];
        if (e->hash == hash && mr_jj_equal(rt, e->key, key, &equal) && equal) return e;
    }
    return NULL;
}

bool mr_jj_dict_put(jj_rt *rt, jj_dict *dict, jj_value key, jj_value value) {
    uint64_t hash = 0;
    if (!mr_jj_hash(rt, key, &hash)) return false;
    jj_entry *found = find_entry(rt, dict, key, hash);
    if (rt->error != JJ_ERR_NONE) return false;
    if (found != NULL) {
        found->value = value;
        return true;
    }
    if (dict->n == dict->cap) {
        size_t cap = dict->cap < 4 ? 8 : dict->cap * 2;
        if (cap > UINT32_MAX / 4) return mr_jj_raise(rt, JJ_ERR_LIMIT, "a dict grows too large");
        jj_entry *entries = mr_jj_calloc(rt, cap, sizeof *entries);
        if (entries == NULL) return false;
        if (dict->n > 0) memcpy(entries, dict->entries, dict->n * sizeof *entries);
        dict->entries = entries;
        dict->cap = cap;
    }
    dict->entries[dict->n++] = (jj_entry){.key = key, .value = value, .hash = hash};
    if (dict->n > 8 && (dict->index == NULL || dict->n * 2 > dict->n_index)) return grow_index(rt, dict);
    if (dict->index != NULL) index_entry(dict, dict->n - 1);
    return mr_jj_step(rt, 1);
}

bool mr_jj_dict_put_cstr(jj_rt *rt, jj_dict *dict, const char *key, jj_value value) {
    jj_value name;
    return mr_jj_str_borrow(rt, key, strlen(key), &name) && mr_jj_dict_put(rt, dict, name, value);
}

bool mr_jj_dict_get(jj_rt *rt, const jj_dict *dict, jj_value key, jj_value **found) {
    uint64_t hash = 0;
    *found = NULL;
    if (!mr_jj_hash(rt, key, &hash)) return false;
    jj_entry *e = find_entry(rt, dict, key, hash);
    if (e != NULL) *found = &e->value;
    return rt->error == JJ_ERR_NONE;
}

jj_value *mr_jj_dict_get_str(const jj_dict *dict, const char *key, size_t len) {
    for (size_t i = 0; i < dict->n; i++) {
        const jj_value *k = &dict->entries[i].key;
        if (k->kind == JJ_STR && k->u.s->len == len && memcmp(k->u.s->data, key, len) == 0)
            return &dict->entries[i].value;
    }
    return NULL;
}

static uint64_t hash_int(int64_t i) {
    return mr_hash(&i, sizeof i, 1);
}

/* Numbers that are equal hash alike whatever their type. */
static uint64_t hash_float(double f) {
    if (f >= -9.2e18 && f <= 9.2e18 && f == trunc(f)) return hash_int((int64_t)f);
    return mr_hash(&f, sizeof f, 2);
}

static bool hash_items(jj_rt *rt, const jj_list *list, uint64_t *hash) {
    if (!mr_jj_enter(rt)) return false;
    *hash = mr_hash(&list->n, sizeof list->n, 3);
    for (size_t i = 0; i < list->n; i++) {
        uint64_t item;
        if (!mr_jj_hash(rt, list->items[i], &item)) return false;
        *hash = mr_hash(&item, sizeof item, *hash);
    }
    return true;
}

bool mr_jj_hash(jj_rt *rt, jj_value v, uint64_t *hash) {
    switch (v.kind) {
    case JJ_STR:
        *hash = mr_hash(v.u.s->data, v.u.s->len, 4);
        return mr_jj_step(rt, v.u.s->len / 256);
    case JJ_BOOL:
        *hash = hash_int(v.u.b);
        return true;
    case JJ_INT:
        *hash = hash_int(v.u.i);
        return true;
    case JJ_FLOAT:
        *hash = hash_float(v.u.f);
        return true;
    case JJ_BIG:
        *hash = hash_float(mr_jj_big_to_double(v.u.big));
        return true;
    case JJ_NONE:
        *hash = 5;
        return true;
    case JJ_UNDEFINED:
        *hash = 6;
        return true;
    case JJ_TUPLE:
        return hash_items(rt, v.u.l, hash);
    case JJ_RANGE:
        *hash = mr_hash(&v.u.range->n, sizeof v.u.range->n, 7);
        return true;
    case JJ_LIST:
    case JJ_DICT:
    case JJ_SLICE:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "unhashable type: '%s'", mr_jj_type_name(v));
    default:
        *hash = mr_hash(&v.u, sizeof v.u, v.kind);
        return true;
    }
}

/* --- undefined --- */

static bool new_undefined(jj_rt *rt, jj_undef undef, jj_value *out) {
    jj_undef *u = mr_jj_alloc(rt, sizeof *u);
    if (u == NULL) return false;
    *u = undef;
    *out = (jj_value){.kind = JJ_UNDEFINED, .u.undef = u};
    return true;
}

static const jj_value *keep(jj_rt *rt, jj_value v) {
    jj_value *kept = mr_jj_alloc(rt, sizeof *kept);
    if (kept != NULL) *kept = v;
    return kept;
}

bool mr_jj_undefined_hint(jj_rt *rt, const char *hint, jj_value *out) {
    return new_undefined(rt, (jj_undef){.hint = hint}, out);
}

bool mr_jj_undefined_name(jj_rt *rt, jj_value name, jj_value *out) {
    return new_undefined(rt, (jj_undef){.name = keep(rt, name)}, out);
}

/* What Jinja calls the object in "… has no attribute". */
static const char *owner_text(jj_value v) {
    switch (v.kind) {
    case JJ_NONE:
        return "None";
    case JJ_STR:
        return mr_jj_is_markup(v) ? "markupsafe.Markup object" : "str object";
    case JJ_BOOL:
        return "bool object";
    case JJ_INT:
    case JJ_BIG:
        return "int object";
    case JJ_FLOAT:
        return "float object";
    case JJ_LIST:
        return "list object";
    case JJ_TUPLE:
        return v.flags & JJ_FLAG_GROUP ? "jinja2.filters._GroupTuple object" : "tuple object";
    case JJ_DICT:
        return "dict object";
    case JJ_VIEW:
        return v.u.view->what == 'k'   ? "dict_keys object"
               : v.u.view->what == 'v' ? "dict_values object"
                                       : "dict_items object";
    case JJ_RANGE:
        return "range object";
    case JJ_NAMESPACE:
        return "jinja2.utils.Namespace object";
    case JJ_LOOP:
        return "jinja2.runtime.LoopContext object";
    case JJ_MACRO:
        return "jinja2.runtime.Macro object";
    case JJ_CYCLER:
        return "jinja2.utils.Cycler object";
    case JJ_JOINER:
        return "jinja2.utils.Joiner object";
    case JJ_SELF:
        return "jinja2.runtime.TemplateReference object";
    case JJ_BLOCK:
        return "jinja2.runtime.BlockReference object";
    case JJ_BUILTIN:
        return mr_jj_class_name(v.u.builtin) != NULL ? "type object" : "function object";
    case JJ_METHOD:
        return "builtin_function_or_method object";
    case JJ_SLICE:
        return "slice object";
    default:
        return "function object";
    }
}

bool mr_jj_undefined_attr(jj_rt *rt, jj_value owner, jj_value name, jj_value *out) {
    if (owner.kind == JJ_ITER) {
        size_t size = strlen(owner.u.iter->name) + 8;
        char *text = mr_jj_alloc(rt, size);
        if (text == NULL) return false;
        snprintf(text, size, "%s object", owner.u.iter->name);
        return new_undefined(rt, (jj_undef){.owner = text, .name = keep(rt, name)}, out);
    }
    return new_undefined(rt, (jj_undef){.owner = owner_text(owner), .name = keep(rt, name)}, out);
}

bool mr_jj_undefined_unsafe(jj_rt *rt, jj_value owner, jj_value name, jj_value *out) {
    char text[256];
    int n = snprintf(text, sizeof text, "access to attribute %s of '%s' object is unsafe.", mr_jj_repr_cstr(rt, name),
                     mr_jj_type_name(owner));
    if (n < 0) n = 0;
    if ((size_t)n >= sizeof text) n = (int)sizeof text - 1;
    char *hint = mr_jj_alloc(rt, (size_t)n + 1);
    if (hint == NULL) return false;
    memcpy(hint, text, (size_t)n);
    return new_undefined(rt, (jj_undef){.hint = hint, .security = true}, out);
}

bool mr_jj_raise_undefined(jj_rt *rt, jj_value undefined) {
    const jj_undef *u = undefined.u.undef;
    jj_error_kind kind = u->security ? JJ_ERR_SECURITY : JJ_ERR_UNDEFINED;
    if (u->hint != NULL) return mr_jj_raise(rt, kind, "%s", u->hint);
    if (u->name == NULL) return mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    const char *name = mr_jj_repr_cstr(rt, *u->name);
    if (u->owner == NULL) return mr_jj_raise(rt, kind, "%s is undefined", name);
    if (u->name->kind != JJ_STR) return mr_jj_raise(rt, kind, "%s has no element %s", u->owner, name);
    return mr_jj_raise(rt, kind, "'%s' has no attribute %s", u->owner, name);
}

const char *mr_jj_type_name(jj_value v) {
    switch (v.kind) {
    case JJ_MISSING:
        return "missing";
    case JJ_UNDEFINED:
        return "Undefined";
    case JJ_NONE:
        return "NoneType";
    case JJ_BOOL:
        return "bool";
    case JJ_INT:
    case JJ_BIG:
        return "int";
    case JJ_FLOAT:
        return "float";
    case JJ_STR:
        return mr_jj_is_markup(v) ? "Markup" : "str";
    case JJ_LIST:
        return "list";
    case JJ_TUPLE:
        return v.flags & JJ_FLAG_GROUP ? "_GroupTuple" : "tuple";
    case JJ_DICT:
        return "dict";
    case JJ_VIEW:
        return v.u.view->what == 'k' ? "dict_keys" : v.u.view->what == 'v' ? "dict_values" : "dict_items";
    case JJ_RANGE:
        return "range";
    case JJ_NAMESPACE:
        return "Namespace";
    case JJ_ITER:
        return v.u.iter->name;
    case JJ_BUILTIN:
        return mr_jj_class_name(v.u.builtin) != NULL ? "type" : "function";
    case JJ_METHOD:
        return "builtin_function_or_method";
    case JJ_MACRO:
        return "Macro";
    case JJ_LOOP:
        return "LoopContext";
    case JJ_CYCLER:
        return "Cycler";
    case JJ_JOINER:
        return "Joiner";
    case JJ_SELF:
        return "TemplateReference";
    case JJ_BLOCK:
        return "BlockReference";
    case JJ_SLICE:
        return "slice";
    default:
        return "object";
    }
}
