#include "text/jinja_seq.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#include <string.h>

/* Merges the sorted halves [lo, mid) and [mid, hi) of items through scratch. */
static bool merge(jj_rt *rt, jj_sort_item *items, jj_sort_item *scratch, size_t lo, size_t mid, size_t hi,
                  bool reverse) {
    size_t i = lo, k = mid, at = lo;
    while (i < mid && k < hi) {
        bool take_right;
        /* The right item goes first only when it is strictly before the left one: that keeps equal items in order. */
        jj_value a = reverse ? items[i].key : items[k].key, b = reverse ? items[k].key : items[i].key;
        if (!mr_jj_step(rt, 1) || !mr_jj_less(rt, "<", a, b, &take_right)) return false;
        scratch[at++] = take_right ? items[k++] : items[i++];
    }
    while (i < mid) scratch[at++] = items[i++];
    while (k < hi) scratch[at++] = items[k++];
    memcpy(items + lo, scratch + lo, (hi - lo) * sizeof *items);
    return true;
}

bool mr_jj_sort(jj_rt *rt, jj_sort_item *items, size_t n, bool reverse) {
    jj_sort_item *scratch = mr_jj_calloc(rt, n, sizeof *scratch);
    if (scratch == NULL) return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo + width < n; lo += 2 * width) {
            size_t hi = lo + 2 * width < n ? lo + 2 * width : n;
            if (!merge(rt, items, scratch, lo, lo + width, hi, reverse)) return false;
        }
    }
    return true;
}

/* Keys that can't be compared are ordered by their types, as pprint does. */
static bool key_less(jj_rt *rt, jj_value a, jj_value b, bool *less) {
    bool comparable = (a.kind == JJ_STR && b.kind == JJ_STR) || (mr_jj_is_number(a) && mr_jj_is_number(b));
    if (comparable) return mr_jj_less(rt, "<", a, b, less);
    *less = strcmp(mr_jj_type_name(a), mr_jj_type_name(b)) < 0;
    return true;
}

static bool insertion_sort(jj_rt *rt, jj_sort_item *items, size_t n) {
    for (size_t i = 1; i < n; i++) {
        jj_sort_item item = items[i];
        size_t at = i;
        for (; at > 0; at--) {
            bool less;
            if (!mr_jj_step(rt, 1) || !key_less(rt, item.key, items[at - 1].key, &less)) return false;
            if (!less) break;
            items[at] = items[at - 1];
        }
        items[at] = item;
    }
    return true;
}

bool mr_jj_sorted_entries(jj_rt *rt, const jj_dict *dict, jj_sort_item **out) {
    jj_sort_item *items = *out = mr_jj_calloc(rt, dict->n, sizeof *items);
    bool strings = true, numbers = true;
    for (size_t i = 0; items != NULL && i < dict->n; i++) {
        items[i] = (jj_sort_item){dict->entries[i].key, dict->entries[i].value};
        strings = strings && items[i].key.kind == JJ_STR;
        numbers = numbers && mr_jj_is_number(items[i].key);
    }
    if (items == NULL) return false;
    return strings || numbers ? mr_jj_sort(rt, items, dict->n, false) : insertion_sort(rt, items, dict->n);
}

bool mr_jj_ignore_case(jj_rt *rt, jj_value v, jj_value *out) {
    if (v.kind == JJ_STR) return mr_jj_map_text(rt, v, mr_jj_put_lower, out);
    *out = v;
    return true;
}

static bool is_index(const jj_str *s) {
    for (size_t i = 0; i < s->len; i++) {
        if (s->data[i] < '0' || s->data[i] > '9') return false;
    }
    return s->len > 0;
}

bool mr_jj_path_parse(jj_rt *rt, jj_value attribute, jj_path *out) {
    static const jj_str dot = {.data = ".", .len = 1, .n_chars = 1};
    *out = (jj_path){0};
    if (attribute.kind == JJ_MISSING || attribute.kind == JJ_NONE) return true;
    jj_vec parts = {0};
    if (attribute.kind != JJ_STR) {
        if (!mr_jj_vec_push(rt, &parts, attribute)) return false;
    } else {
        if (!mr_jj_split(rt, attribute, &dot, -1, false, &parts)) return false;
        for (size_t i = 0; i < parts.n; i++) {
            if (is_index(parts.items[i].u.s) && mr_jj_parse_int(rt, parts.items[i].u.s, 10, &parts.items[i]) < 0)
                return false;
        }
    }
    *out = (jj_path){parts.items, parts.n};
    return true;
}

bool mr_jj_path_get(jj_rt *rt, const jj_path *path, jj_value item, jj_value fallback, jj_value *out) {
    for (size_t i = 0; i < path->n; i++) {
        if (!mr_jj_getitem(rt, item, path->parts[i], &item)) return false;
        if (item.kind == JJ_UNDEFINED && fallback.kind != JJ_MISSING && fallback.kind != JJ_NONE) item = fallback;
    }
    *out = item;
    return true;
}
