/* Expressions: the precedence ladder of Jinja's parser, from `x if c else y` down to literals. */
#include "text/jinja_ast.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    jj_token_kind kind;
    const char *text;
} token_texts[] = {
    {JJ_T_EOF, "end of template"},
    {JJ_T_DATA, "template data / text"},
    {JJ_T_VARIABLE_BEGIN, "begin of print statement"},
    {JJ_T_VARIABLE_END, "end of print statement"},
    {JJ_T_BLOCK_BEGIN, "begin of statement block"},
    {JJ_T_BLOCK_END, "end of statement block"},
    {JJ_T_NAME, "name"},
    {JJ_T_STRING, "string"},
    {JJ_T_INTEGER, "integer"},
    {JJ_T_FLOAT, "float"},
    {JJ_T_ADD, "+"},
    {JJ_T_SUB, "-"},
    {JJ_T_DIV, "/"},
    {JJ_T_FLOORDIV, "//"},
    {JJ_T_MUL, "*"},
    {JJ_T_MOD, "%"},
    {JJ_T_POW, "**"},
    {JJ_T_TILDE, "~"},
    {JJ_T_LBRACKET, "["},
    {JJ_T_RBRACKET, "]"},
    {JJ_T_LPAREN, "("},
    {JJ_T_RPAREN, ")"},
    {JJ_T_LBRACE, "{"},
    {JJ_T_RBRACE, "}"},
    {JJ_T_EQ, "=="},
    {JJ_T_NE, "!="},
    {JJ_T_GT, ">"},
    {JJ_T_GTEQ, ">="},
    {JJ_T_LT, "<"},
    {JJ_T_LTEQ, "<="},
    {JJ_T_ASSIGN, "="},
    {JJ_T_DOT, "."},
    {JJ_T_COLON, ":"},
    {JJ_T_PIPE, "|"},
    {JJ_T_COMMA, ","},
    {JJ_T_SEMICOLON, ";"},
};

const char *mr_jj_describe_kind(jj_token_kind kind) {
    for (size_t i = 0; i < sizeof token_texts / sizeof *token_texts; i++) {
        if (token_texts[i].kind == kind) return token_texts[i].text;
    }
    return "?";
}

const char *mr_jj_describe(const jj_token *t, char out[64]) {
    if (t->kind != JJ_T_NAME) return mr_jj_describe_kind((jj_token_kind)t->kind);
    size_t n = t->value.u.s->len < 63 ? t->value.u.s->len : 63;
    memcpy(out, t->value.u.s->data, n);
    out[n] = '\0';
    return out;
}

const jj_token *mr_jj_current(const jj_parse *p) {
    return &p->tokens[p->pos];
}

static const jj_token *look(const jj_parse *p) {
    return &p->tokens[p->pos + 1 < p->n_tokens ? p->pos + 1 : p->pos];
}

const jj_token *mr_jj_advance(jj_parse *p) {
    const jj_token *t = mr_jj_current(p);
    if (t->kind != JJ_T_EOF) p->pos++;
    return t;
}

bool mr_jj_is_name(const jj_token *t, const char *name) {
    return t->kind == JJ_T_NAME && mr_jj_str_is(t->value.u.s, name);
}

bool mr_jj_skip_name(jj_parse *p, const char *name) {
    if (!mr_jj_is_name(mr_jj_current(p), name)) return false;
    mr_jj_advance(p);
    return true;
}

bool mr_jj_skip_kind(jj_parse *p, jj_token_kind kind) {
    if (mr_jj_current(p)->kind != kind) return false;
    mr_jj_advance(p);
    return true;
}

static const jj_token *unexpected(jj_parse *p, const char *expected) {
    const jj_token *t = mr_jj_current(p);
    char text[64];
    if (t->kind == JJ_T_EOF) {
        mr_jj_parse_fail(p, t->line, t->column, "unexpected end of template, expected '%s'.", expected);
    } else {
        mr_jj_parse_fail(p, t->line, t->column, "expected token '%s', got '%s'", expected, mr_jj_describe(t, text));
    }
    return NULL;
}

const jj_token *mr_jj_expect(jj_parse *p, jj_token_kind kind) {
    if (mr_jj_current(p)->kind != kind) return unexpected(p, mr_jj_describe_kind(kind));
    return mr_jj_advance(p);
}

const jj_token *mr_jj_expect_name(jj_parse *p, const char *name) {
    if (!mr_jj_is_name(mr_jj_current(p), name)) return unexpected(p, name);
    return mr_jj_advance(p);
}

bool mr_jj_list_push(jj_parse *p, jj_node_list *list, jj_node *node) {
    if (node == NULL) return false;
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 4 : list->cap * 2;
        jj_node **nodes = mr_jj_parse_alloc(p, cap * sizeof *nodes);
        if (nodes == NULL) return false;
        if (list->n > 0) memcpy(nodes, list->nodes, list->n * sizeof *nodes);
        list->nodes = nodes;
        list->cap = cap;
    }
    list->nodes[list->n++] = node;
    return true;
}

static jj_body as_body(const jj_node_list *list) {
    return (jj_body){list->nodes, list->n};
}

jj_node *mr_jj_node(jj_parse *p, jj_node_kind kind, const jj_token *at) {
    jj_node *node = mr_jj_parse_alloc(p, sizeof *node);
    if (node == NULL) return NULL;
    node->kind = (uint8_t)kind;
    node->line = at->line;
    node->column = at->column;
    return node;
}

static jj_node *constant(jj_parse *p, const jj_token *at, jj_value value) {
    jj_node *node = mr_jj_node(p, JJ_N_CONST, at);
    if (node != NULL) node->value = value;
    return node;
}

static jj_node *binary(jj_parse *p, jj_node_kind kind, char op, const jj_token *at, jj_node *a, jj_node *b) {
    if (a == NULL || b == NULL) return NULL;
    jj_node *node = mr_jj_node(p, kind, at);
    if (node == NULL) return NULL;
    node->op = (uint8_t)op;
    node->a = a;
    node->b = b;
    return node;
}

/* Adjacent string literals are one. */
static jj_node *parse_strings(jj_parse *p) {
    const jj_token *first = mr_jj_advance(p);
    if (mr_jj_current(p)->kind != JJ_T_STRING) return constant(p, first, first->value);
    mr_buf buf = {0};
    mr_buf_append(&buf, first->value.u.s->data, first->value.u.s->len);
    while (mr_jj_current(p)->kind == JJ_T_STRING) {
        const jj_str *s = mr_jj_advance(p)->value.u.s;
        mr_buf_append(&buf, s->data, s->len);
    }
    const jj_str *joined = NULL;
    bool ok = buf.failed ? mr_jj_parse_nomem(p) : mr_jj_parse_str(p, mr_buf_cstr(&buf), buf.len, &joined);
    mr_buf_free(&buf);
    return ok ? constant(p, first, (jj_value){.kind = JJ_STR, .u.s = joined}) : NULL;
}

static jj_node *parse_name(jj_parse *p, bool with_namespace) {
    const jj_token *t = mr_jj_advance(p);
    if (mr_jj_is_name(t, "true") || mr_jj_is_name(t, "True")) return constant(p, t, mr_jj_bool(true));
    if (mr_jj_is_name(t, "false") || mr_jj_is_name(t, "False")) return constant(p, t, mr_jj_bool(false));
    if (mr_jj_is_name(t, "none") || mr_jj_is_name(t, "None")) return constant(p, t, mr_jj_none());
    jj_node *node = mr_jj_node(p, JJ_N_NAME, t);
    if (node == NULL) return NULL;
    node->name = t->value.u.s;
    if (!mr_jj_name_id(p, node->name, &node->name_id)) return NULL;
    if (with_namespace && mr_jj_skip_kind(p, JJ_T_DOT)) {
        const jj_token *attr = mr_jj_expect(p, JJ_T_NAME);
        if (attr == NULL) return NULL;
        node->kind = JJ_N_NSREF;
        node->attr = attr->value.u.s;
    }
    return node;
}

static jj_node *parse_list(jj_parse *p) {
    jj_node *node = mr_jj_node(p, JJ_N_LIST, mr_jj_advance(p));
    jj_node_list items = {0};
    while (node != NULL && mr_jj_current(p)->kind != JJ_T_RBRACKET) {
        if (items.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        if (mr_jj_current(p)->kind == JJ_T_RBRACKET) break;
        if (!mr_jj_list_push(p, &items, mr_jj_parse_expression(p, true))) return NULL;
    }
    if (node == NULL || mr_jj_expect(p, JJ_T_RBRACKET) == NULL) return NULL;
    node->items = as_body(&items);
    return node;
}

static jj_node *parse_dict(jj_parse *p) {
    jj_node *node = mr_jj_node(p, JJ_N_DICT, mr_jj_advance(p));
    jj_node_list items = {0};
    while (node != NULL && mr_jj_current(p)->kind != JJ_T_RBRACE) {
        if (items.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        if (mr_jj_current(p)->kind == JJ_T_RBRACE) break;
        if (!mr_jj_list_push(p, &items, mr_jj_parse_expression(p, true))) return NULL;
        if (mr_jj_expect(p, JJ_T_COLON) == NULL) return NULL;
        if (!mr_jj_list_push(p, &items, mr_jj_parse_expression(p, true))) return NULL;
    }
    if (node == NULL || mr_jj_expect(p, JJ_T_RBRACE) == NULL) return NULL;
    node->items = as_body(&items);
    return node;
}

jj_node *mr_jj_parse_primary(jj_parse *p, bool with_namespace) {
    const jj_token *t = mr_jj_current(p);
    char text[64];
    switch (t->kind) {
    case JJ_T_NAME:
        return parse_name(p, with_namespace);
    case JJ_T_STRING:
        return parse_strings(p);
    case JJ_T_INTEGER:
    case JJ_T_FLOAT:
        return constant(p, mr_jj_advance(p), t->value);
    case JJ_T_LPAREN: {
        mr_jj_advance(p);
        jj_node *node = mr_jj_parse_tuple(p, (jj_tuple_rules){.explicit_parentheses = true});
        if (node == NULL || mr_jj_expect(p, JJ_T_RPAREN) == NULL) return NULL;
        return node;
    }
    case JJ_T_LBRACKET:
        return parse_list(p);
    case JJ_T_LBRACE:
        return parse_dict(p);
    default:
        mr_jj_parse_fail(p, t->line, t->column, "unexpected '%s'", mr_jj_describe(t, text));
        return NULL;
    }
}

static bool is_tuple_end(const jj_parse *p) {
    uint8_t kind = mr_jj_current(p)->kind;
    return kind == JJ_T_VARIABLE_END || kind == JJ_T_BLOCK_END || kind == JJ_T_RPAREN;
}

jj_node *mr_jj_parse_tuple(jj_parse *p, jj_tuple_rules rules) {
    const jj_token *at = mr_jj_current(p);
    jj_node_list args = {0};
    bool is_tuple = false;
    char text[64];
    for (;;) {
        if (args.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        if (is_tuple_end(p)) break;
        jj_node *item = rules.simplified ? mr_jj_parse_primary(p, rules.with_namespace)
                                         : mr_jj_parse_expression(p, !rules.no_condexpr);
        if (!mr_jj_list_push(p, &args, item)) return NULL;
        if (mr_jj_current(p)->kind != JJ_T_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && args.n > 0) return args.nodes[0];
    if (!is_tuple && !rules.explicit_parentheses) {
        const jj_token *t = mr_jj_current(p);
        mr_jj_parse_fail(p, t->line, t->column, "Expected an expression, got '%s'", mr_jj_describe(t, text));
        return NULL;
    }
    jj_node *node = mr_jj_node(p, JJ_N_TUPLE, at);
    if (node != NULL) node->items = as_body(&args);
    return node;
}

/* What stands between the brackets of a subscript, between two commas. */
static jj_node *parse_subscribed(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *start = NULL, *stop = NULL, *step = NULL;
    if (at->kind != JJ_T_COLON) {
        start = mr_jj_parse_expression(p, true);
        if (start == NULL || mr_jj_current(p)->kind != JJ_T_COLON) return start;
    }
    mr_jj_advance(p);
    uint8_t kind = mr_jj_current(p)->kind;
    if (kind != JJ_T_COLON && kind != JJ_T_RBRACKET && kind != JJ_T_COMMA) {
        stop = mr_jj_parse_expression(p, true);
        if (stop == NULL) return NULL;
    }
    if (mr_jj_skip_kind(p, JJ_T_COLON)) {
        kind = mr_jj_current(p)->kind;
        if (kind != JJ_T_RBRACKET && kind != JJ_T_COMMA) {
            step = mr_jj_parse_expression(p, true);
            if (step == NULL) return NULL;
        }
    }
    jj_node *node = mr_jj_node(p, JJ_N_SLICE, at);
    if (node == NULL) return NULL;
    node->a = start;
    node->b = stop;
    node->c = step;
    return node;
}

static jj_node *parse_attribute(jj_parse *p, jj_node *object, const jj_token *dot) {
    const jj_token *t = mr_jj_advance(p);
    if (t->kind == JJ_T_NAME) {
        jj_node *node = mr_jj_node(p, JJ_N_GETATTR, dot);
        if (node == NULL) return NULL;
        node->a = object;
        node->name = t->value.u.s;
        node->value = t->value;
        return node;
    }
    if (t->kind != JJ_T_INTEGER) {
        mr_jj_parse_fail(p, t->line, t->column, "expected name or number");
        return NULL;
    }
    return binary(p, JJ_N_GETITEM, '\0', dot, object, constant(p, t, t->value));
}

static jj_node *parse_subscript(jj_parse *p, jj_node *object) {
    const jj_token *t = mr_jj_advance(p);
    if (t->kind == JJ_T_DOT) return parse_attribute(p, object, t);
    jj_node_list args = {0};
    while (mr_jj_current(p)->kind != JJ_T_RBRACKET) {
        if (args.n > 0 && mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
        if (!mr_jj_list_push(p, &args, parse_subscribed(p))) return NULL;
    }
    mr_jj_advance(p);
    if (args.n == 1) return binary(p, JJ_N_GETITEM, '\0', t, object, args.nodes[0]);
    for (size_t i = 0; i < args.n; i++) {
        if (args.nodes[i]->kind == JJ_N_SLICE) {
            mr_jj_parse_fail(p, t->line, t->column, "invalid syntax: a slice inside of a tuple subscript");
            return NULL;
        }
    }
    jj_node *tuple = mr_jj_node(p, JJ_N_TUPLE, t);
    if (tuple == NULL) return NULL;
    tuple->items = as_body(&args);
    return binary(p, JJ_N_GETITEM, '\0', t, object, tuple);
}

static bool push_keyword(jj_parse *p, jj_call_args *args, jj_node_list *kw, size_t *cap) {
    const jj_token *name = mr_jj_advance(p);
    mr_jj_advance(p);
    for (size_t i = 0; i < kw->n; i++) {
        if (mr_jj_str_eq(args->kw_names[i], name->value.u.s)) {
            return mr_jj_parse_fail(p, name->line, name->column, "keyword argument repeated: %s",
                                    name->value.u.s->data);
        }
    }
    if (kw->n == *cap) {
        *cap = *cap == 0 ? 4 : *cap * 2;
        const jj_str **names = mr_jj_parse_alloc(p, *cap * sizeof *names);
        if (names == NULL) return false;
        if (kw->n > 0) memcpy(names, args->kw_names, kw->n * sizeof *names);
        args->kw_names = names;
    }
    args->kw_names[kw->n] = name->value.u.s;
    return mr_jj_list_push(p, kw, mr_jj_parse_expression(p, true));
}

/* One argument; `valid` is false when the order of kinds is wrong. */
static bool parse_argument(jj_parse *p, jj_call_args *args, jj_node_list *pos, jj_node_list *kw, size_t *cap,
                           bool *valid) {
    const jj_token *t = mr_jj_current(p);
    if (t->kind == JJ_T_MUL) {
        *valid = args->dyn_args == NULL && args->dyn_kwargs == NULL;
        mr_jj_advance(p);
        return *valid && (args->dyn_args = mr_jj_parse_expression(p, true)) != NULL;
    }
    if (t->kind == JJ_T_POW) {
        *valid = args->dyn_kwargs == NULL;
        mr_jj_advance(p);
        return *valid && (args->dyn_kwargs = mr_jj_parse_expression(p, true)) != NULL;
    }
    if (t->kind == JJ_T_NAME && look(p)->kind == JJ_T_ASSIGN) {
        *valid = args->dyn_kwargs == NULL;
        return *valid && push_keyword(p, args, kw, cap);
    }
    *valid = args->dyn_args == NULL && args->dyn_kwargs == NULL && kw->n == 0;
    return *valid && mr_jj_list_push(p, pos, mr_jj_parse_expression(p, true));
}

static jj_call_args *parse_call_args(jj_parse *p) {
    const jj_token *open = mr_jj_expect(p, JJ_T_LPAREN);
    jj_call_args *args = mr_jj_parse_alloc(p, sizeof *args);
    jj_node_list pos = {0}, kw = {0};
    size_t cap = 0;
    bool require_comma = false;
    if (open == NULL || args == NULL) return NULL;
    while (mr_jj_current(p)->kind != JJ_T_RPAREN) {
        if (require_comma) {
            if (mr_jj_expect(p, JJ_T_COMMA) == NULL) return NULL;
            if (mr_jj_current(p)->kind == JJ_T_RPAREN) break;
        }
        bool valid = true;
        if (!parse_argument(p, args, &pos, &kw, &cap, &valid)) {
            if (!valid) {
                mr_jj_parse_fail(p, open->line, open->column, "invalid syntax for function call expression");
            }
            return NULL;
        }
        require_comma = true;
    }
    mr_jj_advance(p);
    args->pos = as_body(&pos);
    args->kw = as_body(&kw);
    return args;
}

static jj_node *parse_call(jj_parse *p, jj_node *callee) {
    jj_node *node = mr_jj_node(p, JJ_N_CALL, mr_jj_current(p));
    if (node == NULL) return NULL;
    node->a = callee;
    node->x.args = parse_call_args(p);
    return node->x.args == NULL ? NULL : node;
}

/* A dotted name of a filter or test. */
static const jj_str *parse_dotted_name(jj_parse *p) {
    const jj_token *t = mr_jj_expect(p, JJ_T_NAME);
    if (t == NULL) return NULL;
    if (mr_jj_current(p)->kind != JJ_T_DOT) return t->value.u.s;
    mr_buf buf = {0};
    mr_buf_append(&buf, t->value.u.s->data, t->value.u.s->len);
    while (mr_jj_skip_kind(p, JJ_T_DOT)) {
        t = mr_jj_expect(p, JJ_T_NAME);
        if (t == NULL) break;
        mr_buf_putc(&buf, '.');
        mr_buf_append(&buf, t->value.u.s->data, t->value.u.s->len);
    }
    const jj_str *name = NULL;
    if (t != NULL) {
        if (buf.failed) {
            mr_jj_parse_nomem(p);
        } else {
            mr_jj_parse_str(p, mr_buf_cstr(&buf), buf.len, &name);
        }
    }
    mr_buf_free(&buf);
    return name;
}

jj_node *mr_jj_parse_filter(jj_parse *p, jj_node *node, bool start_inline) {
    while (start_inline || mr_jj_current(p)->kind == JJ_T_PIPE) {
        if (!start_inline) mr_jj_advance(p);
        start_inline = false;
        jj_node *filter = mr_jj_node(p, JJ_N_FILTER, mr_jj_current(p));
        if (filter == NULL) return NULL;
        filter->a = node;
        filter->name = parse_dotted_name(p);
        if (filter->name == NULL) return NULL;
        filter->builtin = mr_jj_find_filter(filter->name->data, filter->name->len);
        if (mr_jj_current(p)->kind == JJ_T_LPAREN) {
            filter->x.args = parse_call_args(p);
        } else {
            filter->x.args = mr_jj_parse_alloc(p, sizeof(jj_call_args));
        }
        if (filter->x.args == NULL) return NULL;
        node = filter;
    }
    return node;
}

static bool starts_test_argument(const jj_token *t) {
    switch (t->kind) {
    case JJ_T_STRING:
    case JJ_T_INTEGER:
    case JJ_T_FLOAT:
    case JJ_T_LBRACKET:
    case JJ_T_LBRACE:
        return true;
    case JJ_T_NAME:
        return !mr_jj_is_name(t, "else") && !mr_jj_is_name(t, "or") && !mr_jj_is_name(t, "and");
    default:
        return false;
    }
}

static jj_node *parse_postfix(jj_parse *p, jj_node *node) {
    while (node != NULL) {
        uint8_t kind = mr_jj_current(p)->kind;
        if (kind == JJ_T_DOT || kind == JJ_T_LBRACKET) {
            node = parse_subscript(p, node);
        } else if (kind == JJ_T_LPAREN) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

static jj_node *parse_test(jj_parse *p, jj_node *subject) {
    const jj_token *is = mr_jj_advance(p);
    bool negated = mr_jj_skip_name(p, "not");
    jj_node *node = mr_jj_node(p, JJ_N_TEST, is);
    if (node == NULL) return NULL;
    node->a = subject;
    node->name = parse_dotted_name(p);
    if (node->name == NULL) return NULL;
    node->builtin = mr_jj_find_test(node->name->data, node->name->len);
    const jj_token *t = mr_jj_current(p);
    if (t->kind == JJ_T_LPAREN) {
        node->x.args = parse_call_args(p);
        if (node->x.args == NULL) return NULL;
    } else {
        node->x.args = mr_jj_parse_alloc(p, sizeof(jj_call_args));
        if (node->x.args == NULL) return NULL;
        if (starts_test_argument(t)) {
            if (mr_jj_is_name(t, "is")) {
                mr_jj_parse_fail(p, t->line, t->column, "You cannot chain multiple tests with is");
                return NULL;
            }
            jj_node_list pos = {0};
            if (!mr_jj_list_push(p, &pos, parse_postfix(p, mr_jj_parse_primary(p, false)))) return NULL;
            node->x.args->pos = as_body(&pos);
        }
    }
    if (!negated) return node;
    jj_node *not = mr_jj_node(p, JJ_N_NOT, is);
    if (not != NULL) not ->a = node;
    return not ;
}

static jj_node *parse_filter_expr(jj_parse *p, jj_node *node) {
    while (node != NULL) {
        const jj_token *t = mr_jj_current(p);
        if (t->kind == JJ_T_PIPE) {
            node = mr_jj_parse_filter(p, node, false);
        } else if (mr_jj_is_name(t, "is")) {
            node = parse_test(p, node);
        } else if (t->kind == JJ_T_LPAREN) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

static jj_node *parse_unary(jj_parse *p, bool with_filter) {
    const jj_token *t = mr_jj_current(p);
    if (!mr_jj_parse_enter(p, t->line, t->column)) return NULL;
    jj_node *node;
    if (t->kind == JJ_T_SUB || t->kind == JJ_T_ADD) {
        mr_jj_advance(p);
        jj_node *operand = parse_unary(p, false);
        node = operand == NULL ? NULL : mr_jj_node(p, t->kind == JJ_T_SUB ? JJ_N_NEG : JJ_N_POS, t);
        if (node != NULL) node->a = operand;
    } else {
        node = mr_jj_parse_primary(p, false);
    }
    node = parse_postfix(p, node);
    if (with_filter) node = parse_filter_expr(p, node);
    p->depth--;
    return node;
}

static jj_node *parse_pow(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *left = parse_unary(p, true);
    while (left != NULL && mr_jj_skip_kind(p, JJ_T_POW)) {
        left = binary(p, JJ_N_BINARY, 'p', at, left, parse_unary(p, true));
    }
    return left;
}

static jj_node *parse_math2(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *left = parse_pow(p);
    while (left != NULL) {
        uint8_t kind = mr_jj_current(p)->kind;
        char op = kind == JJ_T_MUL        ? '*'
                  : kind == JJ_T_DIV      ? '/'
                  : kind == JJ_T_FLOORDIV ? 'f'
                  : kind == JJ_T_MOD      ? '%'
                                          : 0;
        if (op == 0) break;
        mr_jj_advance(p);
        left = binary(p, JJ_N_BINARY, op, at, left, parse_pow(p));
    }
    return left;
}

static jj_node *parse_concat(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *first = parse_math2(p);
    if (first == NULL || mr_jj_current(p)->kind != JJ_T_TILDE) return first;
    jj_node_list items = {0};
    if (!mr_jj_list_push(p, &items, first)) return NULL;
    while (mr_jj_skip_kind(p, JJ_T_TILDE)) {
        if (!mr_jj_list_push(p, &items, parse_math2(p))) return NULL;
    }
    jj_node *node = mr_jj_node(p, JJ_N_CONCAT, at);
    if (node != NULL) node->items = as_body(&items);
    return node;
}

static jj_node *parse_math1(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *left = parse_concat(p);
    while (left != NULL) {
        uint8_t kind = mr_jj_current(p)->kind;
        if (kind != JJ_T_ADD && kind != JJ_T_SUB) break;
        mr_jj_advance(p);
        left = binary(p, JJ_N_BINARY, kind == JJ_T_ADD ? '+' : '-', at, left, parse_concat(p));
    }
    return left;
}

/* The comparison operator at the current position, consumed; 0 when there is none. */
static uint8_t comparison(jj_parse *p) {
    const jj_token *t = mr_jj_current(p);
    if (t->kind >= JJ_T_EQ && t->kind <= JJ_T_LTEQ) {
        mr_jj_advance(p);
        return t->kind;
    }
    if (mr_jj_skip_name(p, "in")) return 'i';
    if (mr_jj_is_name(t, "not") && mr_jj_is_name(look(p), "in")) {
        mr_jj_advance(p);
        mr_jj_advance(p);
        return 'n';
    }
    return 0;
}

static jj_node *parse_compare(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *first = parse_math1(p);
    jj_node_list operands = {0};
    uint8_t op;
    while (first != NULL && (op = comparison(p)) != 0) {
        jj_node *operand = mr_jj_node(p, JJ_N_OPERAND, mr_jj_current(p));
        if (operand == NULL) return NULL;
        operand->op = op;
        operand->a = parse_math1(p);
        if (operand->a == NULL || !mr_jj_list_push(p, &operands, operand)) return NULL;
    }
    if (first == NULL || operands.n == 0) return first;
    jj_node *node = mr_jj_node(p, JJ_N_COMPARE, at);
    if (node == NULL) return NULL;
    node->a = first;
    node->items = as_body(&operands);
    return node;
}

static jj_node *parse_not(jj_parse *p) {
    const jj_token *t = mr_jj_current(p);
    if (!mr_jj_is_name(t, "not")) return parse_compare(p);
    if (!mr_jj_parse_enter(p, t->line, t->column)) return NULL;
    mr_jj_advance(p);
    jj_node *operand = parse_not(p);
    jj_node *node = operand == NULL ? NULL : mr_jj_node(p, JJ_N_NOT, t);
    if (node != NULL) node->a = operand;
    p->depth--;
    return node;
}

static jj_node *parse_and(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *left = parse_not(p);
    while (left != NULL && mr_jj_skip_name(p, "and")) left = binary(p, JJ_N_AND, '\0', at, left, parse_not(p));
    return left;
}

static jj_node *parse_or(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *left = parse_and(p);
    while (left != NULL && mr_jj_skip_name(p, "or")) left = binary(p, JJ_N_OR, '\0', at, left, parse_and(p));
    return left;
}

static jj_node *parse_condexpr(jj_parse *p) {
    const jj_token *at = mr_jj_current(p);
    jj_node *value = parse_or(p);
    while (value != NULL && mr_jj_skip_name(p, "if")) {
        jj_node *node = mr_jj_node(p, JJ_N_COND, at);
        if (node == NULL) return NULL;
        node->b = value;
        node->a = parse_or(p);
        if (node->a == NULL) return NULL;
        if (mr_jj_skip_name(p, "else")) {
            node->c = mr_jj_parse_expression(p, true);
            if (node->c == NULL) return NULL;
        }
        value = node;
    }
    return value;
}

jj_node *mr_jj_parse_expression(jj_parse *p, bool with_condexpr) {
    const jj_token *t = mr_jj_current(p);
    if (!mr_jj_parse_enter(p, t->line, t->column)) return NULL;
    jj_node *node = with_condexpr ? parse_condexpr(p) : parse_or(p);
    p->depth--;
    return node;
}
