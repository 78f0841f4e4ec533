/* UTF-8 (RFC 3629) decoding, encoding and repair. */
#ifndef MR_BASE_UTF8_H
#define MR_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_UTF8_REPLACEMENT 0xFFFDu

/* Decodes the character at text[0..len) (len >= 1) into *code_point and returns its length in bytes, 1 to 4. A
 * malformed, overlong, surrogate or torn sequence yields MR_UTF8_REPLACEMENT and the length of its maximal valid prefix
 * (at least 1), as the Unicode standard (section 3.9, "U+FFFD substitution of maximal subparts") and Python's
 * errors="replace" do. */
size_t mr_utf8_decode(const char *text, size_t len, uint32_t *code_point);

/* As mr_utf8_decode, and sets *valid to whether the sequence was well-formed. */
size_t mr_utf8_decode_checked(const char *text, size_t len, uint32_t *code_point, bool *valid);

/* Writes the 1 to 4 bytes of code_point to out and returns their number; invalid scalar values become U+FFFD. */
size_t mr_utf8_encode(uint32_t code_point, char out[4]);

/* Number of bytes (0 to 3) at the end of text that begin a well-formed character but do not finish it. */
size_t mr_utf8_incomplete_tail(const char *text, size_t len);

/* Whether text[0..len) is well-formed. */
bool mr_utf8_valid(const char *text, size_t len);

#endif
