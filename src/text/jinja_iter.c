/* Iteration over values. */
#include "text/jinja_value.h"

#include <string.h>

bool mr_jj_iter_new(jj_rt *rt, int (*next)(jj_rt *, jj_iter *, jj_value *), const char *name, jj_iter **out) {
    jj_iter *it = mr_jj_alloc(rt, sizeof *it);
    if (it == NULL) return false;
    it->next = next;
    it->name = name;
    *out = it;
    return true;
}

bool mr_jj_is_iterable(jj_value v) {
    switch (v.kind) {
    case JJ_UNDEFINED:
    case JJ_STR:
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_DICT:
    case JJ_VIEW:
    case JJ_RANGE:
    case JJ_ITER:
    case JJ_LOOP:
        return true;
    default:
        return false;
    }
}

static int next_item(jj_rt *rt, jj_iter *it, jj_value *out) {
    (void)rt;
    const jj_list *list = it->source.u.l;
    if (it->i >= list->n) return 0;
    *out = list->items[it->reversed ? list->n - 1 - it->i : it->i];
    it->i++;
    return 1;
}

static int next_char(jj_rt *rt, jj_iter *it, jj_value *out) {
    const jj_str *s = it->source.u.s;
    size_t n = 1;
    if (it->i >= s->len) return 0;
    size_t at = it->i;
    if (it->reversed) {
        size_t end = s->len - it->i;
        at = end - 1;
        while (at > 0 && ((unsigned char)s->data[at] & 0xC0) == 0x80) at--;
        n = end - at;
    } else {
        while (at + n < s->len && ((unsigned char)s->data[at + n] & 0xC0) == 0x80) n++;
    }
    it->i += n;
    return mr_jj_str_borrow(rt, s->data + at, n, out) ? 1 : -1;
}

static int next_entry(jj_rt *rt, jj_iter *it, jj_value *out) {
    const jj_dict *dict = it->source.u.d;
    if (it->i >= dict->n) return 0;
    const jj_entry *e = &dict->entries[it->reversed ? dict->n - 1 - it->i : it->i];
    it->i++;
    if (it->n == 'i') return mr_jj_pair(rt, e->key, e->value, out) ? 1 : -1;
    *out = it->n == 'k' ? e->key : e->value;
    return 1;
}

static int next_range(jj_rt *rt, jj_iter *it, jj_value *out) {
    (void)rt;
    const jj_range *r = it->source.u.range;
    if ((int64_t)it->i >= r->n) return 0;
    int64_t i = it->reversed ? r->n - 1 - (int64_t)it->i : (int64_t)it->i;
    it->i++;
    *out = mr_jj_int(r->start + i * r->step);
    return 1;
}

static int next_nothing(jj_rt *rt, jj_iter *it, jj_value *out) {
    (void)rt;
    (void)it;
    (void)out;
    return 0;
}

static int next_loop(jj_rt *rt, jj_iter *it, jj_value *out) {
    return mr_jj_loop_next(rt, it->source.u.loop, out);
}

bool mr_jj_iterate(jj_rt *rt, jj_value v, jj_iter **out) {
    if (v.kind == JJ_ITER) {
        *out = v.u.iter;
        return true;
    }
    if (!mr_jj_is_iterable(v)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object is not iterable", mr_jj_type_name(v));
    }
    if (!mr_jj_iter_new(rt, next_nothing, "iterator", out)) return false;
    jj_iter *it = *out;
    it->source = v;
    switch (v.kind) {
    case JJ_STR:
        it->next = next_char;
        break;
    case JJ_LIST:
    case JJ_TUPLE:
        it->next = next_item;
        break;
    case JJ_DICT:
        it->next = next_entry;
        it->n = 'k';
        break;
    case JJ_VIEW:
        it->next = next_entry;
        it->n = v.u.view->what;
        it->source = mr_jj_dict_value(v.u.view->dict);
        break;
    case JJ_RANGE:
        it->next = next_range;
        break;
    case JJ_LOOP:
        it->next = next_loop;
        break;
    default:
        break;
    }
    return true;
}

int mr_jj_reversed(jj_rt *rt, jj_value v, jj_value *out) {
    const char *name;
    switch (v.kind) {
    case JJ_STR:
        name = "reversed";
        break;
    case JJ_LIST:
        name = "list_reverseiterator";
        break;
    case JJ_TUPLE:
        name = "reversed";
        break;
    case JJ_DICT:
        name = "dict_reversekeyiterator";
        break;
    case JJ_VIEW:
        name = "dict_reverseitemiterator";
        break;
    case JJ_RANGE:
        name = "range_iterator";
        break;
    default:
        return 0;
    }
    jj_iter *it;
    if (!mr_jj_iterate(rt, v, &it)) return -1;
    it->name = name;
    it->reversed = true;
    *out = (jj_value){.kind = JJ_ITER, .u.iter = it};
    return 1;
}

int mr_jj_next(jj_rt *rt, jj_iter *it, jj_value *out) {
    if (it->done) return 0;
    if (!mr_jj_step(rt, 1)) return -1;
    int got = it->next(rt, it, out);
    if (got <= 0) it->done = true;
    return got;
}

bool mr_jj_to_vec(jj_rt *rt, jj_value v, jj_vec *out) {
    jj_iter *it;
    jj_value item;
    int got;
    *out = (jj_vec){0};
    if (!mr_jj_iterate(rt, v, &it)) return false;
    while ((got = mr_jj_next(rt, it, &item)) > 0) {
        if (!mr_jj_vec_push(rt, out, item)) return false;
    }
    return got == 0;
}
