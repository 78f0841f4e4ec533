/* Filters on sequences. */
#include "text/jinja_seq.h"
#include "text/jinja_text.h"

#include <string.h>

static bool truth_of(jj_rt *rt, jj_value v, bool *truth) {
    *truth = false;
    return v.kind == JJ_MISSING || mr_jj_truth(rt, v, truth);
}

static jj_value iter_value(jj_iter *it) {
    return (jj_value){.kind = JJ_ITER, .u.iter = it};
}

/* --- first, last, random, reverse, list, join, items --- */

static bool f_first(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_iter *it;
    if (!mr_jj_iterate(rt, c->a[0], &it)) return false;
    int got = mr_jj_next(rt, it, out);
    if (got == 0) return mr_jj_undefined_hint(rt, "No first item, sequence was empty.", out);
    return got > 0;
}

static bool f_last(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_value reversed;
    int got = c->a[0].kind == JJ_UNDEFINED ? 2 : mr_jj_reversed(rt, c->a[0], &reversed);
    if (got < 0) return false;
    if (got == 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object is not reversible", mr_jj_type_name(c->a[0]));
    got = got == 2 ? 0 : mr_jj_next(rt, reversed.u.iter, out);
    if (got == 0) return mr_jj_undefined_hint(rt, "No last item, sequence was empty.", out);
    return got > 0;
}

static bool f_random(jj_rt *rt, const jj_call *c, jj_value *out) {
    int64_t n;
    if (!mr_jj_length(rt, c->a[0], &n)) return false;
    if (n == 0) return mr_jj_undefined_hint(rt, "No random item, sequence was empty.", out);
    rt->random = rt->random * 6364136223846793005u + 1442695040888963407u;
    return mr_jj_getitem(rt, c->a[0], mr_jj_int((int64_t)((rt->random >> 33) % (uint64_t)n)), out);
}

static bool f_reverse(jj_rt *rt, const jj_call *c, jj_value *out) {
    if (c->a[0].kind == JJ_STR) {
        jj_slice slice = {.start = mr_jj_none(), .stop = mr_jj_none(), .step = mr_jj_int(-1)};
        return mr_jj_slice(rt, c->a[0], &slice, out);
    }
    if (c->a[0].kind == JJ_UNDEFINED) {
        jj_iter *it;
        if (!mr_jj_iterate(rt, c->a[0], &it)) return false;
        it->name = "reversed";
        *out = iter_value(it);
        return true;
    }
    int got = mr_jj_reversed(rt, c->a[0], out);
    if (got != 0) return got > 0;
    if (!mr_jj_is_iterable(c->a[0])) return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "argument must be iterable");
    jj_vec vec;
    if (!mr_jj_to_vec(rt, c->a[0], &vec)) {
        if (rt->error != JJ_ERR_TYPE) return false;
        rt->error = JJ_ERR_NONE;
        return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "argument must be iterable");
    }
    for (size_t i = 0, k = vec.n; i + 1 < k; i++, k--) {
        jj_value swap = vec.items[i];
        vec.items[i] = vec.items[k - 1];
        vec.items[k - 1] = swap;
    }
    return mr_jj_vec_list(rt, &vec, JJ_LIST, out);
}

static bool f_list(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_vec vec;
    return mr_jj_to_vec(rt, c->a[0], &vec) && mr_jj_vec_list(rt, &vec, JJ_LIST, out);
}

/* Collects what join joins; with autoescape on, one Markup part makes the result Markup. */
static bool f_join(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_path path;
    jj_iter *it;
    jj_value item, d;
    jj_vec items = {0};
    int got;
    if (!mr_jj_path_parse(rt, c->a[2], &path) || !mr_jj_iterate(rt, c->a[0], &it)) return false;
    bool markup = rt->autoescape && mr_jj_is_markup(c->a[1]);
    while ((got = mr_jj_next(rt, it, &item)) > 0) {
        if (!mr_jj_path_get(rt, &path, item, (jj_value){0}, &item) || !mr_jj_vec_push(rt, &items, item)) return false;
        markup = markup || (rt->autoescape && mr_jj_is_markup(item));
    }
    if (got < 0) return false;
    if (c->a[1].kind == JJ_MISSING) {
        if (!mr_jj_str_borrow(rt, "", 0, &d)) return false;
    } else if (!(markup ? mr_jj_escape(rt, c->a[1], &d) : mr_jj_to_str(rt, c->a[1], &d))) {
        return false;
    }
    mr_buf buf = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < items.n; i++) {
        if (i > 0) mr_buf_append(&buf, d.u.s->data, d.u.s->len);
        item = items.items[i];
        ok = (!markup || mr_jj_escape(rt, item, &item)) && mr_jj_put_str(rt, &buf, item);
        if (buf.len > rt->arena.max_bytes) ok = mr_jj_raise(rt, JJ_ERR_LIMIT, "the template uses too much memory");
    }
    ok = ok && mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    if (ok && markup) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

static int next_dict_item(jj_rt *rt, jj_iter *it, jj_value *out) {
    if (it->source.kind == JJ_UNDEFINED) return 0;
    if (it->source.kind != JJ_DICT) {
        mr_jj_raise(rt, JJ_ERR_TYPE, "Can only get item pairs from a mapping.");
        return -1;
    }
    if (it->i >= it->source.u.d->n) return 0;
    const jj_entry *e = &it->source.u.d->entries[it->i++];
    return mr_jj_pair(rt, e->key, e->value, out) ? 1 : -1;
}

static bool f_items(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_iter *it;
    if (!mr_jj_iter_new(rt, next_dict_item, "generator", &it)) return false;
    it->label = "do_items";
    it->source = c->a[0];
    *out = iter_value(it);
    return true;
}

/* --- sorting --- */

/* A sort's reverse argument must be an integer, as for Python's sorted(). */
static bool want_reverse(jj_rt *rt, jj_value v, bool *reverse) {
    int64_t i = 0;
    if (v.kind != JJ_MISSING && !mr_jj_index(v, &i)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer", mr_jj_type_name(v));
    }
    if (i < INT32_MIN || i > INT32_MAX) {
        return mr_jj_raise(rt, JJ_ERR_OVERFLOW, "Python int too large to convert to C int");
    }
    *reverse = i != 0;
    return true;
}

static bool f_dictsort(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool case_sensitive = false, reverse = false, by_value = false;
    jj_vec vec = {0};
    if (c->a[2].kind != JJ_MISSING) {
        by_value = c->a[2].kind == JJ_STR && mr_jj_str_is(c->a[2].u.s, "value");
        if (!by_value && !(c->a[2].kind == JJ_STR && mr_jj_str_is(c->a[2].u.s, "key"))) {
            return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "You can only sort by either \"key\" or \"value\"");
        }
    }
    if (c->a[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, c->a[0]);
    if (c->a[0].kind != JJ_DICT)
        return mr_jj_raise(rt, JJ_ERR_TYPE, "dictsort() needs a dict, not %s", mr_jj_type_name(c->a[0]));
    if (!truth_of(rt, c->a[1], &case_sensitive) || !want_reverse(rt, c->a[3], &reverse)) return false;
    const jj_dict *d = c->a[0].u.d;
    jj_sort_item *items = mr_jj_calloc(rt, d->n, sizeof *items);
    if (items == NULL) return false;
    for (size_t i = 0; i < d->n; i++) {
        jj_value key = by_value ? d->entries[i].value : d->entries[i].key;
        if (!case_sensitive && !mr_jj_ignore_case(rt, key, &key)) return false;
        items[i].key = key;
        if (!mr_jj_pair(rt, d->entries[i].key, d->entries[i].value, &items[i].value)) return false;
    }
    if (!mr_jj_sort(rt, items, d->n, reverse)) return false;
    for (size_t i = 0; i < d->n; i++) {
        if (!mr_jj_vec_push(rt, &vec, items[i].value)) return false;
    }
    return mr_jj_vec_list(rt, &vec, JJ_LIST, out);
}

/* The paths of "a,b.c". */
static bool parse_paths(jj_rt *rt, jj_value attribute, jj_path **paths, size_t *n) {
    static const jj_str comma = {.data = ",", .len = 1, .n_chars = 1};
    jj_vec parts = {0};
    if (attribute.kind == JJ_STR) {
        if (!mr_jj_split(rt, attribute, &comma, -1, false, &parts)) return false;
    } else if (!mr_jj_vec_push(rt, &parts, attribute)) {
        return false;
    }
    *n = parts.n;
    *paths = mr_jj_calloc(rt, parts.n, sizeof **paths);
    for (size_t i = 0; *paths != NULL && i < parts.n; i++) {
        if (!mr_jj_path_parse(rt, parts.items[i], &(*paths)[i])) return false;
    }
    return *paths != NULL;
}

static bool f_sort(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool reverse = false, case_sensitive = false;
    jj_vec values, sorted = {0};
    jj_path *paths;
    size_t n_paths;
    if (!parse_paths(rt, c->a[3], &paths, &n_paths) || !truth_of(rt, c->a[2], &case_sensitive) ||
        !mr_jj_to_vec(rt, c->a[0], &values) || !want_reverse(rt, c->a[1], &reverse)) {
        return false;
    }
    jj_sort_item *items = mr_jj_calloc(rt, values.n, sizeof *items);
    if (items == NULL) return false;
    for (size_t i = 0; i < values.n; i++) {
        jj_vec key = {0};
        for (size_t k = 0; k < n_paths; k++) {
            jj_value part;
            if (!mr_jj_path_get(rt, &paths[k], values.items[i], (jj_value){0}, &part)) return false;
            if (!case_sensitive && !mr_jj_ignore_case(rt, part, &part)) return false;
            if (!mr_jj_vec_push(rt, &key, part)) return false;
        }
        items[i].value = values.items[i];
        if (!mr_jj_vec_list(rt, &key, JJ_LIST, &items[i].key)) return false;
    }
    if (!mr_jj_sort(rt, items, values.n, reverse)) return false;
    for (size_t i = 0; i < values.n; i++) {
        if (!mr_jj_vec_push(rt, &sorted, items[i].value)) return false;
    }
    return mr_jj_vec_list(rt, &sorted, JJ_LIST, out);
}

static bool group_key(jj_rt *rt, const jj_path *path, jj_value item, jj_value fallback, bool case_sensitive,
                      jj_value *key) {
    return mr_jj_path_get(rt, path, item, fallback, key) && (case_sensitive || mr_jj_ignore_case(rt, *key, key));
}

static bool push_group(jj_rt *rt, jj_vec *groups, const jj_path *path, const jj_sort_item *items, size_t n,
                       jj_value fallback, bool case_sensitive) {
    jj_vec members = {0};
    jj_value list, pair, grouper = items[0].key;
    for (size_t i = 0; i < n; i++) {
        if (!mr_jj_vec_push(rt, &members, items[i].value)) return false;
    }
    /* The group is named by its first item as it is written, not in lower case. */
    if (!case_sensitive && !mr_jj_path_get(rt, path, items[0].value, fallback, &grouper)) return false;
    if (!mr_jj_vec_list(rt, &members, JJ_LIST, &list) || !mr_jj_pair(rt, grouper, list, &pair)) return false;
    pair.flags = JJ_FLAG_GROUP;
    return mr_jj_vec_push(rt, groups, pair);
}

static bool f_groupby(jj_rt *rt, const jj_call *c, jj_value *out) {
    bool case_sensitive;
    jj_path path;
    jj_vec values, groups = {0};
    if (!mr_jj_path_parse(rt, c->a[1], &path) || !truth_of(rt, c->a[3], &case_sensitive) ||
        !mr_jj_to_vec(rt, c->a[0], &values)) {
        return false;
    }
    jj_sort_item *items = mr_jj_calloc(rt, values.n, sizeof *items);
    if (items == NULL) return false;
    for (size_t i = 0; i < values.n; i++) {
        items[i].value = values.items[i];
        if (!group_key(rt, &path, values.items[i], c->a[2], case_sensitive, &items[i].key)) return false;
    }
    if (!mr_jj_sort(rt, items, values.n, false)) return false;
    for (size_t from = 0, to; from < values.n; from = to) {
        bool equal = true;
        for (to = from + 1; to < values.n && equal; to += equal) {
            if (!mr_jj_equal(rt, items[from].key, items[to].key, &equal)) return false;
        }
        if (!push_group(rt, &groups, &path, items + from, to - from, c->a[2], case_sensitive)) return false;
    }
    return mr_jj_vec_list(rt, &groups, JJ_LIST, out);
}

/* --- min, max, sum --- */

static bool extreme(jj_rt *rt, const jj_call *c, const char *op, jj_value *out) {
    bool case_sensitive;
    jj_path path;
    jj_vec values;
    jj_value best_key = {0};
    if (!mr_jj_path_parse(rt, c->a[2], &path) || !truth_of(rt, c->a[1], &case_sensitive) ||
        !mr_jj_to_vec(rt, c->a[0], &values)) {
        return false;
    }
    if (values.n == 0) return mr_jj_undefined_hint(rt, "No aggregated item, sequence was empty.", out);
    for (size_t i = 0; i < values.n; i++) {
        jj_value key;
        bool better = true;
        if (!group_key(rt, &path, values.items[i], (jj_value){0}, case_sensitive, &key)) return false;
        if (i > 0 && !mr_jj_less(rt, op, key, best_key, &better)) return false;
        if (!better) continue;
        best_key = key;
        *out = values.items[i];
    }
    return true;
}
static bool f_min(jj_rt *rt, const jj_call *c, jj_value *out) {
    return extreme(rt, c, "<", out);
}
static bool f_max(jj_rt *rt, const jj_call *c, jj_value *out) {
    return extreme(rt, c, ">", out);
}

static bool f_sum(jj_rt *rt, const jj_call *c, jj_value *out) {
    jj_path path;
    jj_iter *it;
    jj_value item, total = c->a[2].kind == JJ_MISSING ? mr_jj_int(0) : c->a[2];
    int got;
    if (!mr_jj_path_parse(rt, c->a[1], &path) || !mr_jj_iterate(rt, c->a[0], &it)) return false;
    if (total.kind == JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    while ((got = mr_jj_next(rt, it, &item)) > 0) {
        if (!mr_jj_path_get(rt, &path, item, (jj_value){0}, &item) || !mr_jj_binary(rt, '+', total, item, &total))
            return false;
    }
    *out = total;
    return got == 0;
}

/* --- filters that make generators: the whole result is computed when the first item is asked for --- */

typedef bool (*collect_fn)(jj_rt *rt, jj_iter *it, jj_vec *items);

typedef struct collected {
    collect_fn collect;
    jj_vec items;
} collected;

static int next_collected(jj_rt *rt, jj_iter *it, jj_value *out) {
    collected *state = it->state;
    if (!it->started) {
        it->started = true;
        if (!state->collect(rt, it, &state->items)) return -1;
    }
    if (it->i >= state->items.n) return 0;
    *out = state->items.items[it->i++];
    return 1;
}

static bool generator(jj_rt *rt, collect_fn collect, const char *label, const jj_call *c, jj_value *out) {
    jj_iter *it;
    collected *state = mr_jj_alloc(rt, sizeof *state);
    if (state == NULL || !mr_jj_iter_new(rt, next_collected, "generator", &it)) return false;
    state->collect = collect;
    it->label = label;
    it->state = state;
    it->source = c->a[0];
    it->a = c->a[1];
    it->b = c->a[2];
    *out = iter_value(it);
    return true;
}

static bool push_list(jj_rt *rt, jj_vec *into, const jj_vec *list) {
    jj_value v;
    return mr_jj_vec_list(rt, list, JJ_LIST, &v) && mr_jj_vec_push(rt, into, v);
}

static bool collect_batch(jj_rt *rt, jj_iter *it, jj_vec *items) {
    jj_vec values, row = {0};
    int64_t n = -1;
    bool fill = it->b.kind != JJ_MISSING && it->b.kind != JJ_NONE;
    if (!mr_jj_to_vec(rt, it->source, &values)) return false;
    if (!mr_jj_index(it->a, &n) && it->a.kind == JJ_FLOAT)
        n = (int64_t)it->a.u.f == it->a.u.f ? (int64_t)it->a.u.f : -1;
    for (size_t i = 0; i < values.n; i++) {
        if ((int64_t)row.n == n) {
            if (!push_list(rt, items, &row)) return false;
            row = (jj_vec){0};
        }
        if (!mr_jj_vec_push(rt, &row, values.items[i])) return false;
    }
    if (row.n == 0) return true;
    if (fill && !mr_jj_is_number(it->a)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'<' not supported between instances of 'int' and '%s'",
                           mr_jj_type_name(it->a));
    }
    while (fill && (int64_t)row.n < n) {
        if (!mr_jj_vec_push(rt, &row, it->b)) return false;
    }
    return push_list(rt, items, &row);
}

static bool collect_slice(jj_rt *rt, jj_iter *it, jj_vec *items) {
    jj_vec values;
    int64_t n;
    size_t offset = 0;
    bool fill = it->b.kind != JJ_MISSING && it->b.kind != JJ_NONE;
    if (!mr_jj_to_vec(rt, it->source, &values)) return false;
    if (!mr_jj_index(it->a, &n)) {
        jj_value ignored;
        if (!mr_jj_binary(rt, 'f', mr_jj_int((int64_t)values.n), it->a, &ignored)) return false;
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer", mr_jj_type_name(it->a));
    }
    if (n == 0) return mr_jj_raise(rt, JJ_ERR_ZERO_DIVISION, "integer division or modulo by zero");
    if (n < 0) return true;
    size_t per_slice = values.n / (size_t)n, with_extra = values.n % (size_t)n;
    for (size_t k = 0; k < (size_t)n; k++) {
        jj_vec part = {0};
        size_t start = offset + k * per_slice;
        if (k < with_extra) offset++;
        size_t end = offset + (k + 1) * per_slice;
        for (size_t i = start; i < end; i++) {
            if (!mr_jj_vec_push(rt, &part, values.items[i])) return false;
        }
        if (fill && k >= with_extra && !mr_jj_vec_push(rt, &part, it->b)) return false;
        if (!push_list(rt, items, &part)) return false;
    }
    return true;
}

static bool collect_unique(jj_rt *rt, jj_iter *it, jj_vec *items) {
    bool case_sensitive;
    jj_path path;
    jj_dict *seen;
    jj_vec values;
    if (!mr_jj_path_parse(rt, it->b, &path) || !truth_of(rt, it->a, &case_sensitive) ||
        !mr_jj_to_vec(rt, it->source, &values) || !mr_jj_dict_new(rt, 0, &seen)) {
        return false;
    }
    for (size_t i = 0; i < values.n; i++) {
        jj_value key;
        size_t before = seen->n;
        if (!group_key(rt, &path, values.items[i], (jj_value){0}, case_sensitive, &key)) return false;
        if (!mr_jj_dict_put(rt, seen, key, mr_jj_none())) return false;
        if (seen->n > before && !mr_jj_vec_push(rt, items, values.items[i])) return false;
    }
    return true;
}

static bool f_batch(jj_rt *rt, const jj_call *c, jj_value *out) {
    return generator(rt, collect_batch, "do_batch", c, out);
}
static bool f_slice(jj_rt *rt, const jj_call *c, jj_value *out) {
    return generator(rt, collect_slice, "sync_do_slice", c, out);
}
static bool f_unique(jj_rt *rt, const jj_call *c, jj_value *out) {
    return generator(rt, collect_unique, "sync_do_unique", c, out);
}

/* --- map, select, reject and their kin: one item at a time --- */

typedef struct mapper {
    jj_args args; /* of the generator, without the sequence */
    bool is_map, negate, by_attribute;
    jj_iter *inner;
    /* set up when the first item is asked for: */
    const jj_builtin *fn; /* NULL: the attribute (map) or the item's truth (select), or there is none of that name */
    bool named;
    jj_path path;
    jj_value fallback;
    jj_args fn_args;
} mapper;

static bool no_such(jj_rt *rt, const char *what, jj_value name) {
    if (name.kind != JJ_UNDEFINED)
        return mr_jj_raise(rt, JJ_ERR_RUNTIME, "No %s named %s.", what, mr_jj_repr_cstr(rt, name));
    mr_jj_raise_undefined(rt, name);
    char reason[JJ_MESSAGE_MAX];
    memcpy(reason, rt->message, sizeof reason);
    rt->error = JJ_ERR_NONE;
    return mr_jj_raise(rt, JJ_ERR_RUNTIME,
                       "No %s named Undefined. (%.400s; did you forget to quote the callable name?)", what, reason);
}

static bool setup_attribute_map(jj_rt *rt, mapper *m) {
    const jj_value *attribute = NULL;
    for (size_t i = 0; i < m->args.n_kw; i++) {
        if (mr_jj_str_is(m->args.kw[i].name.u.s, "attribute")) attribute = &m->args.kw[i].value;
    }
    if (attribute == NULL) return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "map requires a filter argument");
    for (size_t i = 0; i < m->args.n_kw; i++) {
        if (mr_jj_str_is(m->args.kw[i].name.u.s, "attribute")) continue;
        if (!mr_jj_str_is(m->args.kw[i].name.u.s, "default")) {
            return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "Unexpected keyword argument %s",
                               mr_jj_repr_cstr(rt, m->args.kw[i].name));
        }
        m->fallback = m->args.kw[i].value;
    }
    return mr_jj_path_parse(rt, *attribute, &m->path);
}

static bool setup(jj_rt *rt, mapper *m) {
    size_t at = 0;
    if (m->by_attribute) {
        if (m->args.n_pos == 0) return mr_jj_raise(rt, JJ_ERR_FILTER_ARGUMENT, "Missing parameter for attribute name");
        if (!mr_jj_path_parse(rt, m->args.pos[0], &m->path)) return false;
        at = 1;
    }
    if (m->args.n_pos <= at) return !m->is_map || setup_attribute_map(rt, m);
    jj_value name = m->args.pos[at];
    m->named = true;
    if (name.kind == JJ_STR) {
        m->fn = m->is_map ? mr_jj_find_filter(name.u.s->data, name.u.s->len)
                          : mr_jj_find_test(name.u.s->data, name.u.s->len);
    }
    m->fn_args = m->args;
    m->fn_args.pos = m->args.pos + at; /* the name's place is taken by each item */
    m->fn_args.n_pos = m->args.n_pos - at;
    return true;
}

static bool apply(jj_rt *rt, mapper *m, jj_value item, jj_value *out) {
    if (!m->named) {
        *out = item;
        return true;
    }
    uint64_t hash;
    if (m->fn == NULL) {
        return mr_jj_hash(rt, m->fn_args.pos[0], &hash) &&
               no_such(rt, m->is_map ? "filter" : "test", m->fn_args.pos[0]);
    }
    jj_args args = m->fn_args;
    jj_value *pos = mr_jj_calloc(rt, args.n_pos, sizeof *pos);
    if (pos == NULL) return false;
    memcpy(pos, args.pos, args.n_pos * sizeof *pos);
    pos[0] = item;
    args.pos = pos;
    return mr_jj_call_builtin(rt, m->fn, (jj_value){0}, &args, out);
}

static int start_mapper(jj_rt *rt, jj_iter *it, mapper *m) {
    bool truth;
    it->started = true;
    if (!mr_jj_truth(rt, it->source, &truth)) return -1;
    if (!truth) return 0;
    return setup(rt, m) && mr_jj_iterate(rt, it->source, &m->inner) ? 1 : -1;
}

static int next_mapped(jj_rt *rt, jj_iter *it, jj_value *out) {
    mapper *m = it->state;
    jj_value item, picked, result;
    bool truth;
    int got = it->started ? 1 : start_mapper(rt, it, m);
    if (got <= 0) return got;
    while ((got = mr_jj_next(rt, m->inner, &item)) > 0) {
        if (!mr_jj_path_get(rt, &m->path, item, m->fallback, &picked) || !apply(rt, m, picked, &result)) return -1;
        if (m->is_map) {
            *out = result;
            return 1;
        }
        if (!mr_jj_truth(rt, result, &truth)) return -1;
        if (truth != m->negate) {
            *out = item;
            return 1;
        }
    }
    return got;
}

static bool make_mapper(jj_rt *rt, const jj_call *c, mapper how, jj_value *out) {
    jj_iter *it;
    mapper *m = mr_jj_alloc(rt, sizeof *m);
    if (c->raw->n_pos == 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "missing the sequence to filter");
    if (m == NULL || !mr_jj_iter_new(rt, next_mapped, "generator", &it)) return false;
    *m = how;
    m->args = *c->raw;
    m->args.pos++;
    m->args.n_pos--;
    it->state = m;
    it->label = how.is_map ? "sync_do_map" : "select_or_reject";
    it->source = c->raw->pos[0];
    *out = iter_value(it);
    return true;
}

static bool f_map(jj_rt *rt, const jj_call *c, jj_value *out) {
    return make_mapper(rt, c, (mapper){.is_map = true}, out);
}
static bool f_select(jj_rt *rt, const jj_call *c, jj_value *out) {
    return make_mapper(rt, c, (mapper){0}, out);
}
static bool f_reject(jj_rt *rt, const jj_call *c, jj_value *out) {
    return make_mapper(rt, c, (mapper){.negate = true}, out);
}
static bool f_selectattr(jj_rt *rt, const jj_call *c, jj_value *out) {
    return make_mapper(rt, c, (mapper){.by_attribute = true}, out);
}
static bool f_rejectattr(jj_rt *rt, const jj_call *c, jj_value *out) {
    return make_mapper(rt, c, (mapper){.by_attribute = true, .negate = true}, out);
}

static const jj_builtin filters[] = {
    {"batch", "value linecount fill_with?", f_batch},
    {"dictsort", "value case_sensitive? by? reverse?", f_dictsort},
    {"first", "seq", f_first},
    {"groupby", "value attribute default? case_sensitive?", f_groupby},
    {"items", "value", f_items},
    {"join", "value d? attribute?", f_join},
    {"last", "seq", f_last},
    {"list", "value", f_list},
    {"map", NULL, f_map},
    {"max", "value case_sensitive? attribute?", f_max},
    {"min", "value case_sensitive? attribute?", f_min},
    {"random", "seq", f_random},
    {"reject", NULL, f_reject},
    {"rejectattr", NULL, f_rejectattr},
    {"reverse", "value", f_reverse},
    {"select", NULL, f_select},
    {"selectattr", NULL, f_selectattr},
    {"slice", "value slices fill_with?", f_slice},
    {"sort", "value reverse? case_sensitive? attribute?", f_sort},
    {"sum", "iterable attribute? start?", f_sum},
    {"unique", "value case_sensitive? attribute?", f_unique},
};

const jj_builtin *mr_jj_find_seq_filter(const char *name, size_t len) {
    return mr_jj_find_in(filters, sizeof filters / sizeof *filters, name, len);
}
