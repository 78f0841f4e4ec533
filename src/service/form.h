/* The form that an answer must have: a JSON Schema, calls of tools, or either. */
#ifndef MR_SERVICE_FORM_H
#define MR_SERVICE_FORM_H

#include "base/error.h"
#include "text/text_model.h"
#include "text/token_mask.h"

#include <jansson.h>
#include <stdbool.h>

/* Parses a job's json_schema; *schema is NULL where none is given. Errors say what is wrong with it. */
mr_status mr_form_read_schema(const char *json_schema, json_t **schema, mr_error *err);

typedef struct mr_form {
    mr_text_model *model;
    const json_t *schema; /* of an answer that calls no tool; NULL = free text */
    bool think_open;      /* the prompt ends inside a think block, whose text is free */
    bool may_think;       /* a think block may stand before the answer, where its marks are tokens */
    const json_t *tools;  /* the OpenAI array, or NULL */
    bool forced;          /* the answer is a call, and its beginning is in the prompt (tool_force.h) */
    const char *named;    /* of this tool, or NULL */
    bool parallel;
} mr_form;

/* The constraint on a generation that holds the form; NULL in *constraint where there is nothing to hold. Calls that
 * the model makes of its own accord are held once it has begun one. Errors: MR_ERR_UNSUPPORTED and MR_ERR_INVALID name
 * what of the schema can't be held. */
mr_status mr_form_constraint(const mr_form *form, mr_constraint **constraint, mr_error *err);

#endif
