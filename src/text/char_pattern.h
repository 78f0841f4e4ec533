/* Patterns of strings in JSON Schemas: ECMA-262 regular expressions without look-around, back-references and word
 * boundaries, as automata over code points, and from there to JSON string contents in a grammar. */
#ifndef MR_TEXT_CHAR_PATTERN_H
#define MR_TEXT_CHAR_PATTERN_H

#include "base/error.h"
#include "text/grammar.h"

/* Bounds on the number of code points of a string; max < 0 = none. */
typedef struct mr_length_bounds {
    int64_t min, max;
} mr_length_bounds;

/* Adds what stands between the quotes of a JSON string (RFC 8259) whose value matches the pattern (UTF-8; NULL = any
 * value; found anywhere in it, as JSON Schema says, unless ^ and $ hold it) and has so many code points. Returns the
 * node behind it. Errors (through mr_grammar_fail): what is not supported or malformed, with its place in the pattern;
 * MR_ERR_LIMIT where pattern and bounds together grow too large. */
mr_grammar_node mr_grammar_string(mr_grammar *grammar, mr_grammar_node from, const char *pattern,
                                  mr_length_bounds bounds);

/* One code point inside a JSON string, from first to last, in every way that it may be written. */
void mr_grammar_string_char(mr_grammar *grammar, mr_grammar_node from, uint32_t first, uint32_t last,
                            mr_grammar_node to);

#endif
