#include "service/form.h"

#include "text/json_schema.h"
#include "text/tool_grammar.h"

mr_status mr_form_read_schema(const char *json_schema, json_t **schema, mr_error *err) {
    *schema = NULL;
    if (json_schema == NULL || *json_schema == '\0') return MR_OK;
    mr_status status = mr_json_schema_parse(json_schema, schema, err);
    return status == MR_OK ? MR_OK : mr_fail_prefix(err, "json_schema");
}

static mr_tool_grammar_options call_options(const mr_form *form, mr_tool_grammar_start start) {
    return (mr_tool_grammar_options){
        .format = mr_text_model_tools(form->model)->format,
        .tokenizer = mr_text_model_tokenizer(form->model),
        .vocab = mr_text_model_mask_vocab(form->model),
        .tools = form->tools,
        .named = form->named,
        .parallel = form->parallel,
        .start = start,
    };
}

static bool can_call(const mr_form *form, mr_tool_grammar_start start) {
    return json_array_size(form->tools) > 0 &&
           mr_tool_grammar_possible(mr_text_model_tools(form->model)->format, start);
}

static void add_calls(const mr_form *form, mr_grammar *grammar, mr_tool_grammar_start start) {
    mr_tool_grammar_options options = call_options(form, start);
    mr_grammar_node end = mr_tool_grammar_calls(grammar, mr_grammar_entry(grammar, 0), &options);
    mr_grammar_skip(grammar, end, mr_grammar_exit(grammar, 0));
}

/* Line breaks may stand before it, as they do behind a think block. */
static void add_schema(const mr_form *form, mr_grammar *grammar) {
    mr_grammar_node node = mr_grammar_entry(grammar, 0);
    for (int i = 0; form->think_open && i < 2; i++) {
        mr_grammar_node next = mr_grammar_add_node(grammar);
        mr_grammar_skip(grammar, node, next);
        mr_grammar_byte(grammar, node, '\n', '\n', next);
        node = next;
    }
    node = mr_json_schema_value(grammar, node, form->schema);
    mr_grammar_skip(grammar, node, mr_grammar_exit(grammar, 0));
}

/* Fills the grammar. *start is the text that everything before is free of it, or NULL. False: there is nothing to hold.
 */
static bool fill(const mr_form *form, mr_grammar *grammar, const char **start) {
    const mr_text_tools *family = mr_text_model_tools(form->model);
    *start = NULL;
    if (form->forced) {
        mr_tool_grammar_start from = form->named != NULL ? MR_TOOL_FROM_ARGUMENTS : MR_TOOL_FROM_NAME;
        if (!can_call(form, from)) return false;
        add_calls(form, grammar, from);
        return true;
    }
    if (form->schema != NULL) {
        if (form->think_open) *start = family->reasoning->close;
        add_schema(form, grammar);
        if (can_call(form, MR_TOOL_FROM_OPEN)) add_calls(form, grammar, MR_TOOL_FROM_OPEN);
        return true;
    }
    if (!can_call(form, MR_TOOL_FROM_MARK)) return false;
    *start = family->format->open[0];
    add_calls(form, grammar, MR_TOOL_FROM_MARK);
    return true;
}

mr_status mr_form_constraint(const mr_form *form, mr_constraint **constraint, mr_error *err) {
    *constraint = NULL;
    if (form->schema == NULL && form->tools == NULL) return MR_OK;
    const mr_mask_vocab *vocab = mr_text_model_mask_vocab(form->model);
    mr_grammar *grammar = mr_grammar_new();
    const char *start;
    if (vocab == NULL || grammar == NULL) {
        mr_grammar_free(grammar);
        return mr_fail(err, MR_ERR_NOMEM, "there is no memory to hold the answer to its form");
    }
    if (!fill(form, grammar, &start)) {
        mr_grammar_free(grammar);
        return MR_OK;
    }
    mr_status status = mr_grammar_finish(grammar, err);
    if (status != MR_OK) {
        mr_grammar_free(grammar);
        return form->schema != NULL && !form->forced ? mr_fail_prefix(err, "json_schema") : status;
    }
    *constraint = mr_constraint_new(vocab, grammar, start);
    return *constraint != NULL ? MR_OK
                               : mr_fail(err, MR_ERR_NOMEM, "there is no memory to hold the answer to its form");
}
