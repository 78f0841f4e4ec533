/* JSON Schema (draft 2020-12) as a grammar: texts that parse as JSON and validate.
 *
 * Properties are written in the order in which the schema lists them; those that it does not name only where
 * additionalProperties says so, or where it names none. Between parts stands nothing, a space, or a line break with up
 * to 20 spaces. Where a schema has no `type`, its keywords tell the types that are written. Numbers have up to 15
 * digits before and behind the point and a two-digit exponent; strings hold no lone surrogates. `format` holds date,
 * time, date-time, uuid, email, ipv4, ipv6, hostname and uri; other formats are annotations. oneOf is held where its
 * branches exclude each other by type or by a required constant. What cannot be held is an error that names the keyword
 * and where it stands. */
#ifndef MR_TEXT_JSON_SCHEMA_H
#define MR_TEXT_JSON_SCHEMA_H

#include "base/error.h"
#include "text/grammar.h"

#include <jansson.h>

enum { MR_SCHEMA_MAX_BYTES = 1 << 20 };

/* Parses a schema's text. Errors say line and column. */
mr_status mr_json_schema_parse(const char *text, json_t **schema, mr_error *err);

/* Adds a value that validates against the schema (borrowed; `#` in its references is itself) and returns the node
 * behind it. Errors through mr_grammar_fail: MR_ERR_UNSUPPORTED, MR_ERR_INVALID, MR_ERR_LIMIT, each with a JSON
 * pointer. */
mr_grammar_node mr_json_schema_value(mr_grammar *grammar, mr_grammar_node from, const json_t *schema);

/* Adds any JSON object. */
mr_grammar_node mr_json_any_object(mr_grammar *grammar, mr_grammar_node from);

#endif
