/* Algorithms on strings that methods and filters share (internal to the jinja_*.c files). */
#ifndef MR_TEXT_JINJA_TEXT_H
#define MR_TEXT_JINJA_TEXT_H

#include "text/jinja_value.h"

/* Makes a string of what a put function of jinja_unicode.h appends for s; flags are kept. */
typedef bool (*jj_put_fn)(mr_buf *buf, const char *text, size_t len);
bool mr_jj_map_text(jj_rt *rt, jj_value v, jj_put_fn put, jj_value *out);

/* strip: left and right choose the ends; chars NULL = white space. */
bool mr_jj_strip(jj_rt *rt, jj_value v, const jj_str *chars, bool left, bool right, jj_value *out);

/* str.replace; count < 0 = all. new_text is used as it is. */
bool mr_jj_replace(jj_rt *rt, jj_value v, const jj_str *old_text, const jj_str *new_text, int64_t count, jj_value *out);

/* Appends the parts of v.split() or v.split(sep) to vec; max_split < 0 = no bound; from the right when right. */
bool mr_jj_split(jj_rt *rt, jj_value v, const jj_str *sep, int64_t max_split, bool right, jj_vec *vec);
bool mr_jj_splitlines(jj_rt *rt, jj_value v, bool keepends, jj_vec *vec);

/* str.center, ljust ('<'), rjust ('>') with the fill character's text. */
bool mr_jj_pad(jj_rt *rt, jj_value v, int64_t width, const jj_str *fill, char align, jj_value *out);

/* s[from..to) in bytes, borrowing. */
bool mr_jj_substring(jj_rt *rt, jj_value v, size_t from, size_t to, jj_value *out);

/* The byte offset of character i (n_chars at most). */
size_t mr_jj_byte_offset(const jj_str *s, size_t i);

/* int("…", base) and float("…"): 1 and *out set, 0 when the text is no such number, -1 on an error. */
int mr_jj_parse_int(jj_rt *rt, const jj_str *s, int base, jj_value *out);
int mr_jj_parse_float(jj_rt *rt, const jj_str *s, double *out);

#endif
