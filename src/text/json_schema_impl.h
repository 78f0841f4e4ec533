/* What the parts of json_schema.h share. */
#ifndef MR_TEXT_JSON_SCHEMA_IMPL_H
#define MR_TEXT_JSON_SCHEMA_IMPL_H

#include "text/json_schema.h"

enum {
    MR_SCHEMA_MAX_DEPTH = 64,
    MR_SCHEMA_MAX_SCHEMAS = 20000,
    MR_SCHEMA_MAX_POINTER = 200,
    MR_SCHEMA_MAX_STEPS = 3000000
};

/* A rule that was made for a schema. */
typedef struct mr_schema_rule {
    const json_t *schema;
    mr_grammar_rule rule;
} mr_schema_rule;

typedef struct mr_schema_build {
    mr_grammar *g;
    const json_t *root;
    mr_schema_rule *rules; /* sorted by nothing: found by hash */
    size_t n_rules, cap_rules;
    json_t *made; /* array that keeps merged schemas alive */
    int depth;
    size_t n_steps;                      /* of merging and comparing, see mr_schema_spend */
    char pointer[MR_SCHEMA_MAX_POINTER]; /* where the schema at hand stands */
    mr_grammar_rule space, any, any_string, any_object, any_array, any_number, any_integer; /* 0 = not made */
} mr_schema_build;

/* Notes an error about a keyword of the schema at hand. */
void mr_schema_fail(mr_schema_build *b, mr_status status, const char *keyword, const char *what);

/* Counts steps of work whose number a schema could multiply; false, with an error, when there were too many. */
bool mr_schema_spend(mr_schema_build *b, size_t n_steps);

/* The rule of a schema's values; made when it is first asked for. `key` (may be NULL) is appended to the pointer. */
mr_grammar_rule mr_schema_rule_of(mr_schema_build *b, const json_t *schema, const char *key);

/* Pieces. */
mr_grammar_node mr_schema_space(mr_schema_build *b, mr_grammar_node from);
mr_grammar_rule mr_schema_any(mr_schema_build *b);
mr_grammar_rule mr_schema_any_object(mr_schema_build *b);
mr_grammar_rule mr_schema_any_array(mr_schema_build *b);
mr_grammar_rule mr_schema_any_string(mr_schema_build *b);
mr_grammar_node mr_schema_object(mr_schema_build *b, mr_grammar_node from, const json_t *schema);
mr_grammar_node mr_schema_array(mr_schema_build *b, mr_grammar_node from, const json_t *schema);
mr_grammar_node mr_schema_string(mr_schema_build *b, mr_grammar_node from, const json_t *schema);
mr_grammar_node mr_schema_number(mr_schema_build *b, mr_grammar_node from, const json_t *schema, bool integer);

/* The schema with its $ref and allOf merged in: itself where it has none, else a new one that `made` keeps. NULL after
 * an error. */
const json_t *mr_schema_merged(mr_schema_build *b, const json_t *schema);

/* The schema that a $ref names; NULL after an error. */
const json_t *mr_schema_resolve(mr_schema_build *b, const char *ref);

/* Types as bits. */
enum {
    MR_TYPE_NULL = 1,
    MR_TYPE_BOOLEAN = 2,
    MR_TYPE_OBJECT = 4,
    MR_TYPE_ARRAY = 8,
    MR_TYPE_NUMBER = 16,
    MR_TYPE_STRING = 32,
    MR_TYPE_INTEGER = 64, /* with NUMBER: any number */
    MR_TYPE_ALL = 127
};

/* The types that a merged schema allows, from `type` or from its keywords; 0 after an error. */
unsigned mr_schema_types(mr_schema_build *b, const json_t *schema);

/* Whether no value can match two of the branches: by type, or by a required property with different constants. */
bool mr_schema_exclusive(mr_schema_build *b, const json_t *branches);

#endif
