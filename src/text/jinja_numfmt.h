/* Python's format specifications: [[fill]align][sign][z][#][0][width][,_][.precision][type] (internal to jinja_*.c). */
#ifndef MR_TEXT_JINJA_NUMFMT_H
#define MR_TEXT_JINJA_NUMFMT_H

#include "text/jinja_value.h"

typedef struct jj_spec {
    const char *fill; /* one character's bytes */
    size_t fill_len;
    char align; /* '<', '>', '^', '=' or 0 */
    char sign;  /* '+', ' ', '-' or 0 */
    bool alternate, zero;
    int64_t width;     /* -1: none */
    int64_t precision; /* -1: none */
    char group;        /* ',', '_' or 0 */
    char type;         /* 0: none */
} jj_spec;

/* Reads a whole specification. */
bool mr_jj_spec_parse(jj_rt *rt, const jj_str *text, const char *type_name, jj_spec *spec);

/* format(v, spec), appended. v is a number. */
bool mr_jj_put_number(jj_rt *rt, mr_buf *buf, jj_value v, const jj_spec *spec);

/* Appends text with the spec's width, fill and alignment (default_align where it names none). */
bool mr_jj_put_padded(jj_rt *rt, mr_buf *buf, const char *text, size_t len, const jj_spec *spec, char default_align);

/* The digits of |v| in base 2, 8, 10 or 16. */
bool mr_jj_put_digits(jj_rt *rt, mr_buf *buf, jj_value v, char type);

/* The digits of a finite or infinite f >= 0 or NaN for a float type ('e', 'f', 'g', 'r' … upper case too). */
bool mr_jj_put_float_digits(jj_rt *rt, mr_buf *buf, double f, char type, int64_t precision, bool alternate);

#endif
