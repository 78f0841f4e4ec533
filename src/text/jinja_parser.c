/* Statements: `{% … %}` tags and their bodies. */
#include "text/jinja_ast.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <string.h>

/* Deeper nesting than this is refused; Python's own compiler stops at a hundred levels of blocks. */
enum { MAX_DEPTH = 220, MAX_STACK_BYTES = 512 * 1024, MAX_TAGS = 256 };

static jj_node *parse_statement(jj_parse *p);
static bool parse_statements(jj_parse *p, const char *const *ends, bool drop_needle, jj_body *out);

bool mr_jj_parse_fail(jj_parse *p, uint32_t line, uint32_t column, const char *format, ...) {
    if (p->status != MR_OK) return false;
    va_list args;
    va_start(args, format);
    p->status = mr_vfail(p->err, MR_ERR_INVALID, format, args);
    va_end(args);
    mr_fail_prefix(p->err, "chat template line %u, column %u", (unsigned)line, (unsigned)column);
    return false;
}

bool mr_jj_parse_nomem(jj_parse *p) {
    if (p->status == MR_OK) {
        p->status = mr_fail(p->err, MR_ERR_NOMEM,
                            "the chat template (%zu bytes) needs more memory to parse than there is for it", p->len);
    }
    return false;
}

bool mr_jj_parse_enter(jj_parse *p, uint32_t line, uint32_t column) {
    char here;
    ptrdiff_t used = p->stack_base - &here;
    if (used < 0) used = -used;
    if (p->depth >= MAX_DEPTH || used > MAX_STACK_BYTES) {
        if (p->status == MR_OK) {
            p->status = mr_fail(p->err, MR_ERR_LIMIT,
                                "chat template line %u, column %u: nested too deep (the limit is %d levels)",
                                (unsigned)line, (unsigned)column, MAX_DEPTH);
        }
        return false;
    }
    p->depth++;
    return true;
}

void *mr_jj_parse_alloc(jj_parse *p, size_t n) {
    void *piece = mr_arena_alloc(&p->jinja->arena, n);
    if (piece == NULL) mr_jj_parse_nomem(p);
    return piece;
}

bool mr_jj_parse_str(jj_parse *p, const char *data, size_t len, const jj_str **out) {
    jj_str *s = mr_jj_parse_alloc(p, sizeof *s);
    char *copy = mr_arena_strndup(&p->jinja->arena, data, len);
    if (s == NULL || copy == NULL) return mr_jj_parse_nomem(p);
    *s = (jj_str){.data = copy, .len = len, .n_chars = mr_jj_utf8_count(copy, len)};
    *out = s;
    return true;
}

bool mr_jj_name_id(jj_parse *p, const jj_str *name, uint32_t *id) {
    struct mr_jinja *j = p->jinja;
    if (mr_strmap_get(j->names, name->data, name->len, id)) return true;
    if (j->n_names == j->cap_names) {
        uint32_t cap = j->cap_names == 0 ? 64 : j->cap_names * 2;
        const jj_str **texts = mr_jj_parse_alloc(p, cap * sizeof *texts);
        if (texts == NULL) return false;
        if (j->n_names > 0) memcpy(texts, j->name_texts, j->n_names * sizeof *texts);
        j->name_texts = texts;
        j->cap_names = cap;
    }
    *id = j->n_names;
    j->name_texts[j->n_names++] = name;
    return mr_strmap_put(j->names, name->data, name->len, *id) || mr_jj_parse_nomem(p);
}

/* The end tags as a message lists them: 'elif' or 'else' or 'endif'. */
static void list_tags(const char *const *ends, char *out, size_t size) {
    size_t used = 0;
    for (size_t i = 0; ends[i] != NULL && used + 32 < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s'%s'", i == 0 ? "" : " or ", ends[i]);
    }
}

static bool is_expected(const jj_parse *p, const char *name) {
    for (size_t i = 0; i < p->n_end_tokens; i++) {
        for (const char *const *end = p->end_tokens[i]; *end != NULL; end++) {
            if (strcmp(*end, name) == 0) return true;
        }
    }
    return false;
}

/* An unknown tag (or the template's end when name is NULL) where a block should be closed. */
static bool fail_unclosed(jj_parse *p, const jj_token *at, const char *name) {
    char text[512], looking[160] = "";
    size_t used;
    if (name == NULL) {
        used = (size_t)snprintf(text, sizeof text, "Unexpected end of template.");
    } else {
        used = (size_t)snprintf(text, sizeof text, "Encountered unknown tag '%.64s'.", name);
    }
    if (p->n_end_tokens > 0) {
        list_tags(p->end_tokens[p->n_end_tokens - 1], looking, sizeof looking);
        used +=
            (size_t)snprintf(text + used, sizeof text - used,
                             name != NULL && is_expected(p, name)
                                 ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                                   "looking for %s."
                                 : " Jinja was looking for the following tags: %s.",
                             looking);
    }
    if (p->n_tags > 0) {
        snprintf(text + used, sizeof text - used, " The innermost block that needs to be closed is '%s'.",
                 p->tags[p->n_tags - 1]);
    }
    return mr_jj_parse_fail(p, at->line, at->column, "%s", text);
}

static bool at_end_tag(const jj_parse *p, const char *const *ends) {
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++) {
        if (mr_jj_is_name(mr_jj_current(p), ends[i])) return true;
    }
    return false;
}

static bool flush(jj_parse *p, jj_node_list *data, jj_node_list *body) {
    if (data->n == 0) return true;
    jj_token at = {.line = data->nodes[0]->line, .column = data->nodes[0]->column};
    jj_node *output = mr_jj_node(p, JJ_N_OUTPUT, &at);
    if (output == NULL) return false;
    output->items = (jj_body){data->nodes, data->n};
    *data = (jj_node_list){0};
    return mr_jj_list_push(p, body, output);
}

/* Text, outputs and statements until a tag of `ends` (left as the current token) or the template's end. */
static bool subparse(jj_parse *p, const char *const *ends, jj_body *out) {
    jj_node_list body = {0}, data = {0};
    for (;;) {
        const jj_token *t = mr_jj_current(p);
        if (t->kind == JJ_T_EOF) break;
        mr_jj_advance(p);
        if (t->kind == JJ_T_DATA) {
            jj_node *node = mr_jj_node(p, JJ_N_DATA, t);
            if (node == NULL) return false;
            node->value = t->value;
            if (!mr_jj_list_push(p, &data, node)) return false;
        } else if (t->kind == JJ_T_VARIABLE_BEGIN) {
            if (!mr_jj_list_push(p, &data, mr_jj_parse_tuple(p, (jj_tuple_rules){0}))) return false;
            if (mr_jj_expect(p, JJ_T_VARIABLE_END) == NULL) return false;
        } else if (t->kind == JJ_T_BLOCK_BEGIN) {
            if (!flush(p, &data, &body)) return false;
            if (at_end_tag(p, ends)) break;
            if (!mr_jj_list_push(p, &body, parse_statement(p))) return false;
            if (mr_jj_expect(p, JJ_T_BLOCK_END) == NULL) return false;
        } else {
            return mr_jj_parse_fail(p, t->line, t->column, "unexpected '%s'",
                                    mr_jj_describe_kind((jj_token_kind)t->kind));
        }
    }
    if (!flush(p, &data, &body)) return false;
    *out = (jj_body){body.nodes, body.n};
    return true;
}

static bool parse_statements(jj_parse *p, const char *const *ends, bool drop_needle, jj_body *out) {
    const jj_token *t = mr_jj_current(p);
    mr_jj_skip_kind(p, JJ_T_COLON);
    if (mr_jj_expect(p, JJ_T_BLOCK_END) == NULL || !mr_jj_parse_enter(p, t->line, t->column)) return false;
    p->end_tokens[p->n_end_tokens++] = ends;
    bool ok = subparse(p, ends, out);
    if (ok && mr_jj_current(p)->kind == JJ_T_EOF) ok = fail_unclosed(p, mr_jj_current(p), NULL);
    p->n_end_tokens--;
    p->depth--;
    if (ok && drop_needle) mr_jj_advance(p);
    return ok;
}

static bool mark_store(jj_parse *p, jj_node *target, uint8_t ctx) {
    switch (target->kind) {
    case JJ_N_NAME:
        target->op = ctx;
        return true;
    case JJ_N_NSREF:
        return true;
    case JJ_N_TUPLE:
        target->flag = true;
        for (size_t i = 0; i < target->items.n; i++) {
            if (!mark_store(p, target->items.nodes[i], ctx)) return false;
        }
        return true;
    default:
        break;
    }
    static const char *const names[] = {
        [JJ_N_CONST] = "const",     [JJ_N_LIST] = "list",       [JJ_N_DICT] = "dict",     [JJ_N_GETATTR] = "getattr",
        [JJ_N_GETITEM] = "getitem", [JJ_N_CALL] = "call",       [JJ_N_FILTER] = "filter", [JJ_N_TEST] = "test",
        [JJ_N_BINARY] = "binexpr",  [JJ_N_COMPARE] = "compare", [JJ_N_COND] = "condexpr", [JJ_N_NOT] = "not",
    };
    const char *name = target->kind < sizeof names / sizeof *names ? names[target->kind] : NULL;
    return mr_jj_parse_fail(p, target->line, target->column, "can't assign to '%s'",
                            name == NULL ? "expression" : name);
}

/* The target of set, for and with. */
static jj_node *parse_target(jj_parse *p, bool with_namespace) {
    jj_node *target = mr_jj_parse_tuple(p, (jj_tuple_rules){.simplified = true, .with_namespace = with_namespace});
    if (target == NULL) return NULL;
    bool is_tuple = target->kind == JJ_N_TUPLE;
    if (!mark_store(p, target, 's')) {
        /* A tuple with a bad part is named as a whole. */
        if (is_tuple && p->err != NULL) {
            p->status = MR_OK;
            mr_jj_parse_fail(p, target->line, target->column, "can't assign to 'tuple'");
        }
        return NULL;
    }
    return target;
}

static jj_node *parse_name_target(jj_parse *p) {
    const jj_token *t = mr_jj_expect(p, JJ_T_NAME);
    if (t == NULL) return NULL;
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (mr_jj_is_name(t, constants[i])) {
            mr_jj_parse_fail(p, t->line, t->column, "can't assign to 'name'");
            return NULL;
        }
    }
    jj_node *node = mr_jj_node(p, JJ_N_NAME, t);
    if (node == NULL) return NULL;
    node->name = t->value.u.s;
    node->op = 's';
    return mr_jj_name_id(p, node->name, &node->name_id) ? node : NULL;
}

static jj_node *parse_set(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endset", NULL};
    node->a = parse_target(p, true);
    if (node->a == NULL) return NULL;
    if (mr_jj_skip_kind(p, JJ_T_ASSIGN)) {
        node->kind = JJ_N_SET;
        node->b = mr_jj_parse_tuple(p, (jj_tuple_rules){0});
        return node->b == NULL ? NULL : node;
    }
    node->kind = JJ_N_SET_BLOCK;
    if (mr_jj_current(p)->kind == JJ_T_PIPE) {
        node->b = mr_jj_parse_filter(p, NULL, false);
        if (node->b == NULL) return NULL;
    }
    return parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *clone_target(jj_parse *p, const jj_node *target) {
    jj_node *copy = mr_jj_parse_alloc(p, sizeof *copy);
    if (copy == NULL) return NULL;
    *copy = *target;
    if (target->items.n > 0) {
        copy->items.nodes = mr_jj_parse_alloc(p, target->items.n * sizeof *copy->items.nodes);
        if (copy->items.nodes == NULL) return NULL;
        for (size_t i = 0; i < target->items.n; i++) {
            copy->items.nodes[i] = clone_target(p, target->items.nodes[i]);
            if (copy->items.nodes[i] == NULL) return NULL;
        }
    }
    return copy;
}

static jj_node *parse_for(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endfor", "else", NULL}, *const endfor[] = {"endfor", NULL};
    jj_loop_info *loop = node->x.loop = mr_jj_parse_alloc(p, sizeof *loop);
    node->kind = JJ_N_FOR;
    if (loop == NULL) return NULL;
    loop->target = parse_target(p, false);
    if (loop->target == NULL || mr_jj_expect_name(p, "in") == NULL) return NULL;
    node->a = mr_jj_parse_tuple(p, (jj_tuple_rules){.no_condexpr = true});
    if (node->a == NULL) return NULL;
    if (mr_jj_skip_name(p, "if")) {
        loop->test = mr_jj_parse_expression(p, true);
        loop->test_target = loop->test == NULL ? NULL : clone_target(p, loop->target);
        if (loop->test_target == NULL) return NULL;
    }
    loop->recursive = mr_jj_skip_name(p, "recursive");
    if (!parse_statements(p, ends, false, &node->body)) return NULL;
    bool is_end = mr_jj_is_name(mr_jj_advance(p), "endfor");
    if (!is_end && !parse_statements(p, endfor, true, &node->else_body)) return NULL;
    return node;
}

static jj_node *parse_if(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const endif[] = {"endif", NULL};
    jj_node_list elifs = {0};
    jj_node *branch = node;
    for (;;) {
        branch->kind = JJ_N_IF;
        branch->a = mr_jj_parse_tuple(p, (jj_tuple_rules){.no_condexpr = true});
        if (branch->a == NULL || !parse_statements(p, ends, false, &branch->body)) return NULL;
        const jj_token *t = mr_jj_advance(p);
        if (mr_jj_is_name(t, "elif")) {
            branch = mr_jj_node(p, JJ_N_IF, mr_jj_current(p));
            if (!mr_jj_list_push(p, &elifs, branch)) return NULL;
            continue;
        }
        if (mr_jj_is_name(t, "else") && !parse_statements(p, endif, true, &node->else_body)) return NULL;
        break;
    }
    node->items = (jj_body){elifs.nodes, elifs.n};
    return node;
}

static jj_node *parse_with(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endwith", NULL};
    jj_node_list targets = {0}, values = {0};
    node->kind = JJ_N_WITH;
    while (mr_jj_current(p)->kind != JJ_T_BLOCK_END) {
        if (targets.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        jj_node *target = parse_target(p, false);
        if (target == NULL || !mark_store(p, target, 'p') || !mr_jj_list_push(p, &targets, target)) return NULL;
        if (mr_jj_expect(p, JJ_T_ASSIGN) == NULL) return NULL;
        if (!mr_jj_list_push(p, &values, mr_jj_parse_expression(p, true))) return NULL;
    }
    node->items = (jj_body){targets.nodes, targets.n};
    node->else_body = (jj_body){values.nodes, values.n};
    return parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *parse_autoescape(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endautoescape", NULL};
    node->kind = JJ_N_AUTOESCAPE;
    node->a = mr_jj_parse_expression(p, true);
    return node->a != NULL && parse_statements(p, ends, true, &node->body) ? node : NULL;
}

/* A required block may hold white space and comments only. */
static bool check_required(jj_parse *p, const jj_node *node) {
    for (size_t i = 0; i < node->body.n; i++) {
        const jj_node *output = node->body.nodes[i];
        bool blank = output->kind == JJ_N_OUTPUT;
        for (size_t k = 0; blank && k < output->items.n; k++) {
            const jj_node *data = output->items.nodes[k];
            blank = data->kind == JJ_N_DATA;
            for (size_t at = 0; blank && at < data->value.u.s->len;) {
                uint32_t c;
                at += mr_utf8_decode(data->value.u.s->data + at, data->value.u.s->len - at, &c);
                blank = mr_jj_is_space(c);
            }
        }
        if (!blank) {
            const jj_token *t = mr_jj_current(p);
            return mr_jj_parse_fail(p, t->line, t->column, "Required blocks can only contain comments or whitespace");
        }
    }
    return true;
}

static jj_function_info *new_function(jj_parse *p) {
    jj_function_info *info = mr_jj_parse_alloc(p, sizeof *info);
    if (info == NULL) return NULL;
    info->caller_slot = info->kwargs_slot = info->varargs_slot = -1;
    info->func = mr_jj_parse_alloc(p, sizeof *info->func);
    return info->func == NULL ? NULL : info;
}

static jj_node *parse_block(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endblock", NULL};
    node->kind = JJ_N_BLOCK;
    node->x.func = new_function(p);
    const jj_token *name = node->x.func == NULL ? NULL : mr_jj_expect(p, JJ_T_NAME);
    if (name == NULL) return NULL;
    node->name = name->value.u.s;
    node->flag = mr_jj_skip_name(p, "scoped");
    node->flag2 = mr_jj_skip_name(p, "required");
    const jj_token *t = mr_jj_current(p);
    if (t->kind == JJ_T_SUB) {
        mr_jj_parse_fail(p, t->line, t->column,
                         "Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an "
                         "underscore instead.");
        return NULL;
    }
    if (!parse_statements(p, ends, true, &node->body)) return NULL;
    if (node->flag2 && !check_required(p, node)) return NULL;
    mr_jj_skip_name(p, node->name->data);
    return node;
}

static bool parse_signature(jj_parse *p, jj_function_info *info) {
    jj_node_list params = {0}, defaults = {0};
    if (mr_jj_expect(p, JJ_T_LPAREN) == NULL) return false;
    while (mr_jj_current(p)->kind != JJ_T_RPAREN) {
        if (params.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return false;
        jj_node *param = parse_name_target(p);
        if (param == NULL) return false;
        param->op = 'p';
        for (size_t i = 0; i < params.n; i++) {
            if (params.nodes[i]->name_id == param->name_id) {
                return mr_jj_parse_fail(p, param->line, param->column, "duplicate argument '%s' in function definition",
                                        param->name->data);
            }
        }
        if (mr_jj_skip_kind(p, JJ_T_ASSIGN)) {
            if (!mr_jj_list_push(p, &defaults, mr_jj_parse_expression(p, true))) return false;
        } else if (defaults.n > 0) {
            const jj_token *t = mr_jj_current(p);
            return mr_jj_parse_fail(p, t->line, t->column, "non-default argument follows default argument");
        }
        if (!mr_jj_list_push(p, &params, param)) return false;
    }
    mr_jj_advance(p);
    info->params = (jj_body){params.nodes, params.n};
    info->defaults = (jj_body){defaults.nodes, defaults.n};
    return true;
}

static jj_node *parse_macro(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endmacro", NULL};
    node->kind = JJ_N_MACRO;
    node->x.func = new_function(p);
    jj_node *name = node->x.func == NULL ? NULL : parse_name_target(p);
    if (name == NULL || !parse_signature(p, node->x.func)) return NULL;
    node->name = name->name;
    node->name_id = name->name_id;
    return parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *parse_call_block(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endcall", NULL};
    node->kind = JJ_N_CALL_BLOCK;
    node->x.func = new_function(p);
    if (node->x.func == NULL) return NULL;
    if (mr_jj_current(p)->kind == JJ_T_LPAREN && !parse_signature(p, node->x.func)) return NULL;
    node->a = mr_jj_parse_expression(p, true);
    if (node->a == NULL) return NULL;
    if (node->a->kind != JJ_N_CALL) {
        mr_jj_parse_fail(p, node->line, node->column, "expected call");
        return NULL;
    }
    return parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *parse_generation(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endgeneration", NULL};
    node->kind = JJ_N_CALL_BLOCK;
    node->x.func = new_function(p);
    return node->x.func != NULL && parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *parse_filter_block(jj_parse *p, jj_node *node) {
    static const char *const ends[] = {"endfilter", NULL};
    node->kind = JJ_N_FILTER_BLOCK;
    node->a = mr_jj_parse_filter(p, NULL, true);
    return node->a != NULL && parse_statements(p, ends, true, &node->body) ? node : NULL;
}

static jj_node *parse_print(jj_parse *p, jj_node *node) {
    jj_node_list items = {0};
    node->kind = JJ_N_OUTPUT;
    while (mr_jj_current(p)->kind != JJ_T_BLOCK_END) {
        if (items.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        if (!mr_jj_list_push(p, &items, mr_jj_parse_expression(p, true))) return NULL;
    }
    node->items = (jj_body){items.nodes, items.n};
    return node;
}

static void skip_context(jj_parse *p) {
    const jj_token *t = mr_jj_current(p);
    if (!mr_jj_is_name(t, "with") && !mr_jj_is_name(t, "without")) return;
    if (p->pos + 1 < p->n_tokens && mr_jj_is_name(&p->tokens[p->pos + 1], "context")) {
        mr_jj_advance(p);
        mr_jj_advance(p);
    }
}

/* from X import a as b, c [with context] */
static bool parse_imported_names(jj_parse *p, jj_node *node) {
    jj_node_list targets = {0};
    for (;;) {
        if (targets.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return false;
        size_t before = p->pos;
        skip_context(p);
        if (p->pos != before) break;
        jj_node *name = parse_name_target(p);
        if (name == NULL) return false;
        if (name->name->data[0] == '_') {
            return mr_jj_parse_fail(p, name->line, name->column,
                                    "names starting with an underline can not be imported");
        }
        if (mr_jj_skip_name(p, "as") && (name = parse_name_target(p)) == NULL) return false;
        if (!mr_jj_list_push(p, &targets, name)) return false;
        before = p->pos;
        skip_context(p);
        if (p->pos != before || mr_jj_current(p)->kind != JJ_T_COMMA) break;
    }
    node->items = (jj_body){targets.nodes, targets.n};
    return true;
}

/* include, import, from and extends parse, and fail when they are reached: a chat template stands alone. */
static jj_node *parse_external(jj_parse *p, jj_node *node, const jj_token *tag) {
    node->kind = mr_jj_is_name(tag, "extends") ? JJ_N_EXTENDS : JJ_N_INCLUDE;
    node->a = mr_jj_parse_expression(p, true);
    if (node->a == NULL) return NULL;
    if (mr_jj_is_name(tag, "from")) {
        if (mr_jj_expect_name(p, "import") == NULL || !parse_imported_names(p, node)) return NULL;
    } else if (mr_jj_is_name(tag, "import")) {
        jj_node_list targets = {0};
        if (mr_jj_expect_name(p, "as") == NULL || !mr_jj_list_push(p, &targets, parse_name_target(p))) return NULL;
        node->items = (jj_body){targets.nodes, targets.n};
        skip_context(p);
    } else if (mr_jj_is_name(tag, "include")) {
        if (mr_jj_is_name(mr_jj_current(p), "ignore") && mr_jj_is_name(&p->tokens[p->pos + 1], "missing")) {
            mr_jj_advance(p);
            mr_jj_advance(p);
        }
        skip_context(p);
    }
    return node;
}

static jj_node *parse_tag(jj_parse *p, const jj_token *tag, jj_node *node, bool *known) {
    static const struct {
        const char *name;
        jj_node *(*parse)(jj_parse *, jj_node *);
    } tags[] = {
        {"for", parse_for},
        {"if", parse_if},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"print", parse_print},
        {"autoescape", parse_autoescape},
        {"block", parse_block},
        {"generation", parse_generation},
    };
    static const char *const externals[] = {"include", "import", "from", "extends"};
    *known = true;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (mr_jj_is_name(tag, tags[i].name)) return tags[i].parse(p, node);
    }
    for (size_t i = 0; i < sizeof externals / sizeof *externals; i++) {
        if (mr_jj_is_name(tag, externals[i])) return parse_external(p, node, tag);
    }
    if (mr_jj_is_name(tag, "break") || mr_jj_is_name(tag, "continue")) {
        node->kind = mr_jj_is_name(tag, "break") ? JJ_N_BREAK : JJ_N_CONTINUE;
        return node;
    }
    *known = false;
    return NULL;
}

static jj_node *parse_statement(jj_parse *p) {
    const jj_token *tag = mr_jj_current(p);
    if (tag->kind != JJ_T_NAME) {
        mr_jj_parse_fail(p, tag->line, tag->column, "tag name expected");
        return NULL;
    }
    if (p->n_tags == MAX_TAGS) {
        mr_jj_parse_enter(p, tag->line, tag->column);
        return NULL;
    }
    jj_node *node = mr_jj_node(p, JJ_N_OUTPUT, tag);
    if (node == NULL) return NULL;
    mr_jj_advance(p);
    p->tags[p->n_tags++] = tag->value.u.s->data;
    bool known;
    jj_node *result = parse_tag(p, tag, node, &known);
    p->n_tags--;
    if (!known) fail_unclosed(p, tag, tag->value.u.s->data);
    return result;
}

bool mr_jj_parse_template(jj_parse *p) {
    const char *tags[MAX_TAGS];
    const char *const *end_tokens[MAX_TAGS];
    p->tags = tags;
    p->end_tokens = end_tokens;
    jj_token start = {.line = 1, .column = 1};
    jj_node *root = mr_jj_node(p, JJ_N_TEMPLATE, &start);
    if (root == NULL) return false;
    root->x.func = new_function(p);
    if (root->x.func == NULL || !subparse(p, NULL, &root->body)) return false;
    p->jinja->root = root;
    return true;
}
