/* `%` and str.format (internal to the jinja_*.c files). */
#ifndef MR_TEXT_JINJA_FORMAT_H
#define MR_TEXT_JINJA_FORMAT_H

#include "text/jinja_value.h"

/* format % value, as Python's printf-style formatting. A Markup format escapes what it inserts. */
bool mr_jj_percent_format(jj_rt *rt, jj_value format, jj_value value, jj_value *out);

/* format.format(*args, **kwargs) with the sandbox's attribute rules. */
bool mr_jj_str_format(jj_rt *rt, jj_value format, const jj_args *args, jj_value *out);

#endif
