/* Sorting, and filters of their own files (internal to the jinja_*.c files). */
#ifndef MR_TEXT_JINJA_SEQ_H
#define MR_TEXT_JINJA_SEQ_H

#include "text/jinja_value.h"

typedef struct jj_sort_item {
    jj_value key, value;
} jj_sort_item;

/* Sorts by key, stably, as Python's sorted(); reverse keeps equal items in their order. */
bool mr_jj_sort(jj_rt *rt, jj_sort_item *items, size_t n, bool reverse);

/* The entries of a dict, for pprint: in the order of their keys, keys of different types by the names of their types.
 */
bool mr_jj_sorted_entries(jj_rt *rt, const jj_dict *dict, jj_sort_item **out);

/* The lower-case form of a string, any other value itself. */
bool mr_jj_ignore_case(jj_rt *rt, jj_value v, jj_value *out);

/* What a filter's `attribute` argument picks: a path like "a.b.0", an index, or nothing (the item itself). */
typedef struct jj_path {
    jj_value *parts;
    size_t n;
} jj_path;
bool mr_jj_path_parse(jj_rt *rt, jj_value attribute, jj_path *out);
/* fallback (may be MISSING or None: then nothing) replaces undefined parts. */
bool mr_jj_path_get(jj_rt *rt, const jj_path *path, jj_value item, jj_value fallback, jj_value *out);

/* Tables of filters in other files. */
const jj_builtin *mr_jj_find_text_filter(const char *name, size_t len);
const jj_builtin *mr_jj_find_seq_filter(const char *name, size_t len);
bool mr_jj_filter_tojson(jj_rt *rt, const jj_call *call, jj_value *out);
bool mr_jj_filter_wordwrap(jj_rt *rt, const jj_call *call, jj_value *out);
bool mr_jj_filter_pprint(jj_rt *rt, const jj_call *call, jj_value *out);
bool mr_jj_filter_striptags(jj_rt *rt, const jj_call *call, jj_value *out);

#endif
