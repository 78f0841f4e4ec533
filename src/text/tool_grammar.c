#define MR_LOG_TARGET "mistral_runner::tools"
#include "text/tool_grammar.h"

#include "base/buf.h"
#include "base/log.h"
#include "text/json_schema.h"

#include <string.h>

/* A model that can't stop calling is stopped here. */
enum { MAX_CALLS = 16, ID_LEN = 9, MAX_TERM = 64 };

typedef struct builder {
    mr_grammar *g;
    const mr_tool_grammar_options *o;
    const mr_tool_format *f;
} builder;

bool mr_tool_grammar_possible(const mr_tool_format *format, mr_tool_grammar_start start) {
    if (format->style == MR_TOOL_STYLE_PYTHON) return false;
    if (start != MR_TOOL_FROM_MARK) return true;
    /* A mark must mean calls, and stand where they begin. */
    const char *begin = format->section_open[0] != '\0' ? format->section_open : format->call_open;
    const char *mark = format->open[0];
    return mark != NULL && !format->open_by_prompt && format->style != MR_TOOL_STYLE_HARMONY &&
           strncmp(begin, mark, strlen(mark)) == 0;
}

static mr_grammar_node text(builder *b, mr_grammar_node from, const char *literal) {
    return mr_mask_vocab_text(b->o->vocab, b->g, from, literal, strlen(literal));
}

static bool is_special(const builder *b, const char *literal, size_t len) {
    return mr_tokenizer_find_special(b->o->tokenizer, literal, len) >= 0;
}

/* --- ids --- */

static mr_grammar_node one_of_class(builder *b, mr_grammar_node from, bool letters) {
    mr_grammar_node to = mr_grammar_add_node(b->g);
    mr_grammar_byte(b->g, from, '0', '9', to);
    if (letters) {
        mr_grammar_byte(b->g, from, 'A', 'Z', to);
        mr_grammar_byte(b->g, from, 'a', 'z', to);
    }
    return to;
}

/* One to n more characters. */
static mr_grammar_node some_of_class(builder *b, mr_grammar_node from, bool letters, int n) {
    mr_grammar_node end = mr_grammar_add_node(b->g);
    for (int i = 0; i < n; i++) {
        from = one_of_class(b, from, letters);
        mr_grammar_skip(b->g, from, end);
    }
    return end;
}

static mr_grammar_node id(builder *b, mr_grammar_node from) {
    bool number = b->f->id_kind == MR_TOOL_ID_NUMBER || b->f->id_kind == MR_TOOL_ID_KIMI;
    if (b->f->id_kind == MR_TOOL_ID_ALNUM9) {
        for (int i = 0; i < ID_LEN; i++) from = one_of_class(b, from, true);
    } else {
        from = some_of_class(b, from, !number, number ? 3 : 32);
    }
    return text(b, from, b->f->after_id);
}

/* --- arguments between tags --- */

/* The longest k so that the first k bytes of term end what is made of its first n bytes and one more. */
static size_t next_match(const char *term, size_t n, char byte) {
    char seen[MAX_TERM + 1];
    memcpy(seen, term, n);
    seen[n] = byte;
    size_t k = n + 1;
    while (k > 0 && memcmp(seen + n + 1 - k, term, k) != 0) k--;
    return k;
}

/* Edges for the ASCII characters that a text may hold, each to where it leads; neighbours with one goal in one edge. */
static void add_ascii(builder *b, const mr_grammar_node *nodes, size_t n, const char *term) {
    for (int first = 1; first < 128;) {
        size_t to = next_match(term, n, (char)first);
        int last = first;
        while (last + 1 < 128 && next_match(term, n, (char)(last + 1)) == to) last++;
        mr_grammar_byte(b->g, nodes[n], (uint8_t)first, (uint8_t)last, nodes[to]);
        first = last + 1;
    }
    mr_grammar_char(b->g, nodes[n], 0x80, 0x10FFFF, nodes[0]);
}

/* Any text up to and including the first occurrence of term (Knuth, Morris, Pratt). */
static mr_grammar_node text_until(builder *b, mr_grammar_node from, const char *term) {
    mr_grammar_node nodes[MAX_TERM + 1];
    size_t len = strlen(term);
    for (size_t i = 0; i <= len && i <= MAX_TERM; i++) nodes[i] = mr_grammar_add_node(b->g);
    mr_grammar_skip(b->g, from, nodes[0]);
    for (size_t i = 0; i < len && i < MAX_TERM; i++) add_ascii(b, nodes, i, term);
    return nodes[len];
}

/* Any text, and then the term, in which a special token ends the text without doubt. */
static mr_grammar_node text_and_token(builder *b, mr_grammar_node from, const char *term) {
    mr_grammar_node loop = mr_grammar_add_node(b->g);
    mr_grammar_skip(b->g, from, loop);
    mr_grammar_char(b->g, loop, 1, 0x10FFFF, loop);
    return text(b, loop, term);
}

static mr_grammar_node bare_text(builder *b, mr_grammar_node from) {
    const char *term = b->f->param_close, *tag = strchr(term, '<');
    size_t n_tag = tag != NULL ? strcspn(tag, ">") + 1 : 0;
    return tag != NULL && is_special(b, tag, n_tag) ? text_and_token(b, from, term) : text_until(b, from, term);
}

static bool is_text(const json_t *schema) {
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type == NULL || strcmp(type, "string") == 0;
}

/* A text of an enum stands as it is; other values are JSON. */
static mr_grammar_node value_and_close(builder *b, mr_grammar_node from, const json_t *schema) {
    const json_t *choices = json_object_get(schema, "enum");
    if (!is_text(schema) && json_object_get(schema, "$ref") == NULL)
        return text(b, mr_json_schema_value(b->g, from, schema), b->f->param_close);
    if (!json_is_array(choices)) return bare_text(b, from);
    mr_grammar_node end = mr_grammar_add_node(b->g);
    for (size_t i = 0; i < json_array_size(choices); i++) {
        const char *choice = json_string_value(json_array_get(choices, i));
        if (choice == NULL) return bare_text(b, from);
        mr_grammar_skip(b->g, text(b, from, choice), end);
    }
    return text(b, end, b->f->param_close);
}

static bool is_required(const json_t *parameters, const char *key) {
    const json_t *required = json_object_get(parameters, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (name != NULL && strcmp(name, key) == 0) return true;
    }
    return false;
}

static mr_grammar_node tagged(builder *b, mr_grammar_node from, const json_t *parameters) {
    const char *key;
    json_t *schema;
    json_object_foreach(json_object_get(parameters, "properties"), key, schema) {
        mr_grammar_node value = text(b, text(b, text(b, from, b->f->param_open), key), b->f->after_key);
        mr_grammar_node behind = value_and_close(b, value, schema);
        if (!is_required(parameters, key)) mr_grammar_skip(b->g, from, behind);
        from = behind;
    }
    return from;
}

/* --- arguments as JSON --- */

/* The schema as one of an object; NULL where it says nothing about one. */
static json_t *object_schema(const json_t *parameters) {
    if (!json_is_object(parameters) || json_object_size(parameters) == 0) return NULL;
    if (json_object_get(parameters, "type") != NULL || json_object_get(parameters, "properties") == NULL)
        return json_incref((json_t *)parameters);
    json_t *copy = json_copy((json_t *)parameters);
    json_object_set_new(copy, "type", json_string("object"));
    return copy;
}

/* Whether the schema can be held; tried on a grammar of its own, because an error sticks. */
static bool can_hold(const json_t *schema, const char *tool) {
    mr_grammar *trial = mr_grammar_new();
    if (trial == NULL) return false;
    mr_error err = {0};
    mr_grammar_skip(trial, mr_json_schema_value(trial, mr_grammar_entry(trial, 0), schema), mr_grammar_exit(trial, 0));
    bool ok = mr_grammar_finish(trial, &err) == MR_OK;
    if (!ok) MR_WARN("the arguments of the tool %s are not held to its schema: %s", tool, err.text);
    mr_grammar_free(trial);
    return ok;
}

static mr_grammar_node arguments(builder *b, mr_grammar_node from, const json_t *function) {
    const json_t *parameters = json_object_get(function, "parameters");
    if (b->f->style == MR_TOOL_STYLE_PARAMS) return tagged(b, from, parameters);
    json_t *schema = object_schema(parameters);
    bool hold = schema != NULL && can_hold(schema, json_string_value(json_object_get(function, "name")));
    mr_grammar_node to = hold ? mr_json_schema_value(b->g, from, schema) : mr_json_any_object(b->g, from);
    json_decref(schema);
    return to;
}

/* --- calls --- */

static mr_grammar_node end_of_call(builder *b, mr_grammar_node from) {
    if (b->f->id_place == MR_TOOL_ID_LAST) from = id(b, text(b, from, b->f->before_last_id));
    return text(b, from, b->f->call_close);
}

/* From the name on, of every tool that may be called. */
static mr_grammar_rule rest_of_call(builder *b) {
    mr_grammar_rule rule = mr_grammar_add_rule(b->g);
    mr_grammar_node entry = mr_grammar_entry(b->g, rule), exit = mr_grammar_exit(b->g, rule);
    for (size_t i = 0; i < json_array_size(b->o->tools); i++) {
        const json_t *function = json_object_get(json_array_get(b->o->tools, i), "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        if (name == NULL || (b->o->named != NULL && strcmp(name, b->o->named) != 0)) continue;
        mr_grammar_node node = text(b, text(b, entry, name), b->f->after_name);
        if (b->f->id_place == MR_TOOL_ID_BETWEEN) node = id(b, node);
        node = arguments(b, node, function);
        mr_grammar_skip(b->g, end_of_call(b, node), exit);
    }
    return rule;
}

static mr_grammar_node whole_call(builder *b, mr_grammar_node from, mr_grammar_rule rest) {
    from = text(b, from, b->f->call_open);
    if (b->f->id_place == MR_TOOL_ID_FIRST) from = id(b, from);
    return mr_grammar_call(b->g, from, rest);
}

/* Behind the mark that the model has written already. */
static mr_grammar_node after_mark(builder *b, mr_grammar_node from, mr_grammar_rule rest) {
    mr_buf begin = {0};
    mr_buf_printf(&begin, "%s%s", b->f->section_open, b->f->call_open);
    if (begin.failed) return MR_GRAMMAR_NONE;
    from = text(b, from, begin.data + strlen(b->f->open[0]));
    mr_buf_free(&begin);
    if (b->f->id_place == MR_TOOL_ID_FIRST) from = id(b, from);
    return mr_grammar_call(b->g, from, rest);
}

static const json_t *find_function(const mr_tool_grammar_options *o) {
    for (size_t i = 0; i < json_array_size(o->tools); i++) {
        const json_t *function = json_object_get(json_array_get(o->tools, i), "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        if (name != NULL && o->named != NULL && strcmp(name, o->named) == 0) return function;
    }
    return NULL;
}

static mr_grammar_node only_arguments(builder *b, mr_grammar_node from) {
    mr_grammar_node node = mr_grammar_add_node(b->g);
    mr_grammar_skip(b->g, from, node);
    mr_grammar_byte(b->g, from, ' ', ' ', node); /* the blank that mr_tool_force leaves to the model */
    return end_of_call(b, arguments(b, node, find_function(b->o)));
}

static mr_grammar_node first_call(builder *b, mr_grammar_node from, mr_grammar_rule rest) {
    switch (b->o->start) {
    case MR_TOOL_FROM_MARK:
        return after_mark(b, from, rest);
    case MR_TOOL_FROM_NAME:
        return mr_grammar_call(b->g, from, rest);
    case MR_TOOL_FROM_ARGUMENTS:
        return only_arguments(b, from);
    default:
        return whole_call(b, text(b, from, b->f->section_open), rest);
    }
}

/* What follows the first call within its section. */
static mr_grammar_node rest_of_section(builder *b, mr_grammar_node node, mr_grammar_rule rest) {
    mr_grammar_node end = mr_grammar_add_node(b->g);
    mr_grammar_skip(b->g, node, end);
    bool more = b->o->parallel && b->f->parallel;
    for (int i = 1; more && i < MAX_CALLS; i++) {
        node = whole_call(b, text(b, node, b->f->separator), rest);
        mr_grammar_skip(b->g, node, end);
    }
    return text(b, end, b->f->section_close);
}

/* Any text that does not hold the mark, which may be the end of all (a way to `end`); the node behind a mark. */
static mr_grammar_node text_and_mark(builder *b, mr_grammar_node from, mr_grammar_node end) {
    const char *mark = b->f->open[0];
    mr_grammar_node nodes[MAX_TERM + 1];
    size_t len = is_special(b, mark, strlen(mark)) ? 0 : strlen(mark);
    for (size_t i = 0; i <= len && i <= MAX_TERM; i++) nodes[i] = mr_grammar_add_node(b->g);
    mr_grammar_skip(b->g, from, nodes[0]);
    mr_grammar_skip(b->g, nodes[0], end);
    if (len == 0) {
        mr_grammar_char(b->g, nodes[0], 1, 0x10FFFF, nodes[0]);
        return text(b, nodes[0], mark);
    }
    for (size_t i = 0; i < len && i < MAX_TERM; i++) {
        add_ascii(b, nodes, i, mark);
        mr_grammar_skip(b->g, nodes[i], end);
    }
    return nodes[len];
}

/* Whether the mark can be told from text: a special token, or ASCII (add_ascii). */
static bool can_tell_mark(const builder *b) {
    const char *mark = b->f->open[0];
    bool ascii = true;
    for (const char *p = mark; *p != '\0'; p++) ascii = ascii && (unsigned char)*p < 0x80;
    return ascii || is_special(b, mark, strlen(mark));
}

/* Where the model decides, text may follow the calls, and other calls the text. */
static mr_grammar_node text_between(builder *b, mr_grammar_node node, mr_grammar_rule rest) {
    mr_grammar_node end = mr_grammar_add_node(b->g);
    for (int i = 1; i < MAX_CALLS; i++)
        node = rest_of_section(b, after_mark(b, text_and_mark(b, node, end), rest), rest);
    mr_grammar_skip(b->g, node, end);
    return end;
}

mr_grammar_node mr_tool_grammar_calls(mr_grammar *grammar, mr_grammar_node from,
                                      const mr_tool_grammar_options *options) {
    builder b = {.g = grammar, .o = options, .f = options->format};
    mr_grammar_rule rest = rest_of_call(&b);
    mr_grammar_node node = rest_of_section(&b, first_call(&b, from, rest), rest);
    bool free_text = options->start == MR_TOOL_FROM_MARK && options->parallel && b.f->parallel && can_tell_mark(&b);
    return free_text ? text_between(&b, node, rest) : node;
}
