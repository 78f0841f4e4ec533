/* Tables of the methods that values have (internal to the jinja_*.c files). Each find function returns NULL for a name
 * the type does not have. */
#ifndef MR_TEXT_JINJA_METHODS_H
#define MR_TEXT_JINJA_METHODS_H

#include "text/jinja_value.h"

const jj_builtin *mr_jj_find_dict_method(const char *name, size_t len);
const jj_builtin *mr_jj_find_list_method(const char *name, size_t len);  /* those that do not change the list */
const jj_builtin *mr_jj_find_tuple_method(const char *name, size_t len); /* also range's */
const jj_builtin *mr_jj_find_number_method(const char *name, size_t len);
const jj_builtin *mr_jj_find_object_method(jj_kind kind, const char *name, size_t len); /* loop, cycler, dict views */

/* Whether the sandbox refuses the method because it would change a list or dict. */
bool mr_jj_is_mutating(jj_kind kind, const jj_str *name);

#endif
