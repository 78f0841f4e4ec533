/* Character properties and case mappings as Python's str has them (internal to the jinja_*.c files). Categories and
 * simple mappings come from utf8proc; what Python takes from SpecialCasing.txt and other Unicode files is in a small
 * table. */
#ifndef MR_TEXT_JINJA_UNICODE_H
#define MR_TEXT_JINJA_UNICODE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool mr_jj_is_space(uint32_t c);
bool mr_jj_is_alpha(uint32_t c);
bool mr_jj_is_decimal(uint32_t c);
bool mr_jj_is_digit(uint32_t c);
bool mr_jj_is_numeric(uint32_t c);
bool mr_jj_is_alnum(uint32_t c);
bool mr_jj_is_lower(uint32_t c);
bool mr_jj_is_upper(uint32_t c);
bool mr_jj_is_title(uint32_t c);
bool mr_jj_is_cased(uint32_t c);
bool mr_jj_is_printable(uint32_t c);
bool mr_jj_is_word(uint32_t c); /* \w of Python's re */
bool mr_jj_is_identifier_start(uint32_t c);
bool mr_jj_is_identifier_part(uint32_t c);

/* The digit's value, for characters of mr_jj_is_decimal. */
int mr_jj_decimal_value(uint32_t c);

/* Append text with the mapping of str.upper(), .lower(), .title(), .capitalize(), .casefold() and .swapcase(). */
bool mr_jj_put_upper(mr_buf *buf, const char *text, size_t len);
bool mr_jj_put_lower(mr_buf *buf, const char *text, size_t len);
bool mr_jj_put_title(mr_buf *buf, const char *text, size_t len);
bool mr_jj_put_capitalized(mr_buf *buf, const char *text, size_t len);
bool mr_jj_put_casefold(mr_buf *buf, const char *text, size_t len);
bool mr_jj_put_swapcase(mr_buf *buf, const char *text, size_t len);

#endif
