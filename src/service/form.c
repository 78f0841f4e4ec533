#include "service/form.h"

#include "text/json_schema.h"
#include "text/tool_grammar.h"

#include <string.h>

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

static void add_calls(const mr_form *form, mr_grammar *grammar, mr_grammar_node from, mr_tool_grammar_start start) {
    mr_tool_grammar_options options = call_options(form, start);
    mr_grammar_node end = mr_tool_grammar_calls(grammar, from, &options);
    mr_grammar_skip(grammar, end, mr_grammar_exit(grammar, 0));
}

/* Up to two line breaks, as they stand behind a think block. */
static mr_grammar_node add_breaks(mr_grammar *grammar, mr_grammar_node node) {
    for (int i = 0; i < 2; i++) {
        mr_grammar_node next = mr_grammar_add_node(grammar);
        mr_grammar_skip(grammar, node, next);
        mr_grammar_byte(grammar, node, '\n', '\n', next);
        node = next;
    }
    return node;
}

/* The token of a think mark, or -1 where it is none that a grammar can tell from text. */
static mr_token mark_token(const mr_form *form, const char *mark) {
    mr_token id = mr_tokenizer_find_special(mr_text_model_tokenizer(form->model), mark, strlen(mark));
    return id >= 0 && mr_mask_vocab_apart(mr_text_model_mask_vocab(form->model), id) ? id : -1;
}

/* What may stand before the answer; the node where it begins. */
static mr_grammar_node add_thoughts(const mr_form *form, mr_grammar *grammar) {
    const mr_reasoning_format *reasoning = mr_text_model_tools(form->model)->reasoning;
    mr_grammar_node entry = mr_grammar_entry(grammar, 0);
    if (form->think_open) return add_breaks(grammar, entry);
    mr_token open = form->may_think ? mark_token(form, reasoning->open) : -1;
    mr_token close = open >= 0 ? mark_token(form, reasoning->close) : -1;
    if (close < 0) return entry;
    mr_grammar_node inside = mr_grammar_add_node(grammar), behind = mr_grammar_add_node(grammar),
                    answer = mr_grammar_add_node(grammar);
    mr_grammar_token(grammar, entry, open, inside);
    mr_grammar_byte(grammar, inside, 0, 255, inside);
    mr_grammar_token(grammar, inside, close, behind);
    mr_grammar_skip(grammar, add_breaks(grammar, behind), answer);
    mr_grammar_skip(grammar, entry, answer);
    return answer;
}

/* Fills the grammar. *start is the text that everything before is free of it, or NULL. False: there is nothing to hold.
 */
static bool fill(const mr_form *form, mr_grammar *grammar, const char **start) {
    const mr_text_tools *family = mr_text_model_tools(form->model);
    *start = NULL;
    if (form->forced) {
        mr_tool_grammar_start from = form->named != NULL ? MR_TOOL_FROM_ARGUMENTS : MR_TOOL_FROM_NAME;
        if (!can_call(form, from)) return false;
        add_calls(form, grammar, mr_grammar_entry(grammar, 0), from);
        return true;
    }
    if (form->schema != NULL) {
        if (form->think_open) *start = family->reasoning->close;
        mr_grammar_node answer = add_thoughts(form, grammar);
        mr_grammar_skip(grammar, mr_json_schema_value(grammar, answer, form->schema), mr_grammar_exit(grammar, 0));
        if (can_call(form, MR_TOOL_FROM_OPEN)) add_calls(form, grammar, answer, MR_TOOL_FROM_OPEN);
        return true;
    }
    if (!can_call(form, MR_TOOL_FROM_MARK)) return false;
    *start = family->format->open[0];
    add_calls(form, grammar, mr_grammar_entry(grammar, 0), MR_TOOL_FROM_MARK);
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
