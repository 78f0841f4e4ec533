/* The syntax tree of a template (internal to the jinja_*.c files): tokens, nodes, and the resolved variables.
 *
 * Names are resolved before rendering, as Jinja's compiler does: every function-like part (the template, a block, a
 * macro, a recursive loop, a loop's filter) has numbered slots, and each name knows how many functions outwards its
 * slot is. */
#ifndef MR_TEXT_JINJA_AST_H
#define MR_TEXT_JINJA_AST_H

#include "text/jinja_value.h"

#include "base/hash.h"

typedef enum jj_token_kind {
    JJ_T_EOF = 0,
    JJ_T_DATA,
    JJ_T_VARIABLE_BEGIN,
    JJ_T_VARIABLE_END,
    JJ_T_BLOCK_BEGIN,
    JJ_T_BLOCK_END,
    JJ_T_NAME,
    JJ_T_STRING,
    JJ_T_INTEGER,
    JJ_T_FLOAT,
    JJ_T_ADD,
    JJ_T_SUB,
    JJ_T_DIV,
    JJ_T_FLOORDIV,
    JJ_T_MUL,
    JJ_T_MOD,
    JJ_T_POW,
    JJ_T_TILDE,
    JJ_T_LBRACKET,
    JJ_T_RBRACKET,
    JJ_T_LPAREN,
    JJ_T_RPAREN,
    JJ_T_LBRACE,
    JJ_T_RBRACE,
    JJ_T_EQ,
    JJ_T_NE,
    JJ_T_GT,
    JJ_T_GTEQ,
    JJ_T_LT,
    JJ_T_LTEQ,
    JJ_T_ASSIGN,
    JJ_T_DOT,
    JJ_T_COLON,
    JJ_T_PIPE,
    JJ_T_COMMA,
    JJ_T_SEMICOLON,
} jj_token_kind;

typedef struct jj_token {
    uint8_t kind;
    uint32_t line, column; /* from 1; columns count characters */
    jj_value value;        /* DATA, NAME, STRING: a string; INTEGER, FLOAT: the number */
} jj_token;

typedef enum jj_node_kind {
    /* expressions */
    JJ_N_CONST,
    JJ_N_NAME,
    JJ_N_NSREF, /* target name.attr */
    JJ_N_TUPLE,
    JJ_N_LIST,
    JJ_N_DICT, /* items: key, value, key, value … */
    JJ_N_CONCAT,
    JJ_N_COMPARE, /* a, then items (JJ_N_OPERAND) */
    JJ_N_OPERAND, /* op: token kind, or 'i' in, 'n' not in */
    JJ_N_BINARY,  /* op as mr_jj_binary */
    JJ_N_AND,
    JJ_N_OR,
    JJ_N_NOT,
    JJ_N_NEG,
    JJ_N_POS,
    JJ_N_COND, /* b if a else c (c may be NULL) */
    JJ_N_GETATTR,
    JJ_N_GETITEM,
    JJ_N_SLICE, /* a:b:c, each may be NULL */
    JJ_N_CALL,
    JJ_N_FILTER, /* a is NULL in filter blocks: the block's text */
    JJ_N_TEST,
    /* statements */
    JJ_N_DATA,
    JJ_N_OUTPUT,
    JJ_N_FOR,
    JJ_N_IF, /* a; body; items: elif nodes; else_body */
    JJ_N_SET,
    JJ_N_SET_BLOCK,
    JJ_N_MACRO,
    JJ_N_CALL_BLOCK, /* a: the call, or NULL for a generation block */
    JJ_N_FILTER_BLOCK,
    JJ_N_WITH,
    JJ_N_AUTOESCAPE,
    JJ_N_BLOCK,
    JJ_N_INCLUDE, /* include, import, from: a = the template's name, items = targets; there is nothing to load from */
    JJ_N_EXTENDS,
    JJ_N_BREAK,
    JJ_N_CONTINUE,
    JJ_N_TEMPLATE,
} jj_node_kind;

typedef struct jj_body {
    jj_node **nodes;
    size_t n;
} jj_body;

/* A variable: slot `slot` of the activation `hops` functions outwards. */
typedef struct jj_ref {
    uint32_t hops;
    uint32_t slot;
} jj_ref;

typedef enum jj_load_action { JJ_LOAD_PARAMETER, JJ_LOAD_RESOLVE, JJ_LOAD_ALIAS, JJ_LOAD_UNDEFINED } jj_load_action;

/* What entering a scope does to its slots. */
typedef struct jj_load {
    uint32_t slot;
    uint8_t action;
    uint32_t name; /* RESOLVE: name id */
    jj_ref from;   /* ALIAS */
} jj_load;

typedef struct jj_scope {
    jj_load *loads;
    size_t n;
} jj_scope;

typedef struct jj_func {
    struct jj_func *outer; /* lexically enclosing; NULL for the template and blocks */
    uint32_t n_slots;
    struct jj_slot_key *keys; /* while resolving */
    uint32_t cap;
} jj_func;

/* Arguments in a call, filter or test. kw_names[i] belongs to kw[i]. */
typedef struct jj_call_args {
    jj_body pos;
    jj_body kw;
    const jj_str **kw_names;
    jj_node *dyn_args, *dyn_kwargs;
} jj_call_args;

/* The parts that only function-like statements need. */
typedef struct jj_function_info {
    jj_func *func;
    jj_body params; /* JJ_N_NAME */
    jj_body defaults;
    uint32_t *param_slots;
    int64_t caller_slot, kwargs_slot, varargs_slot; /* -1 when the body does not use them */
    bool explicit_caller;
} jj_function_info;

/* The parts that only loops need. */
typedef struct jj_loop_info {
    jj_node *target, *test, *test_target;
    bool recursive, extended;
    uint32_t loop_slot;
    jj_func *func;      /* of a recursive loop */
    jj_func *test_func; /* of the filter */
    jj_scope test_scope, else_scope;
} jj_loop_info;

struct jj_node {
    uint8_t kind;
    uint8_t op;    /* JJ_N_COMPARE, BINARY; 's' for a name that is stored to, 'p' for a parameter */
    bool flag;     /* JJ_N_BLOCK: scoped; JJ_N_TUPLE: store */
    bool flag2;    /* JJ_N_BLOCK: required */
    bool toplevel; /* SET, SET_BLOCK, MACRO: also sets the context's variable */
    bool constant; /* an expression without variables and calls */
    bool folds;    /* a constant expression with a slice in it: see mr_jj_eval */
    uint32_t line, column;
    uint32_t name_id;   /* NAME, NSREF, MACRO */
    jj_ref ref;         /* NAME, NSREF, MACRO */
    const jj_str *name; /* NAME, NSREF, GETATTR, FILTER, TEST, MACRO, BLOCK */
    const jj_str *attr; /* NSREF */
    jj_value value;     /* CONST, DATA; GETATTR: the name as a value */
    jj_node *a, *b, *c;
    jj_body items;
    jj_body body, else_body;
    jj_scope scope;
    union {
        jj_call_args *args;     /* CALL, FILTER, TEST */
        jj_loop_info *loop;     /* FOR */
        jj_function_info *func; /* TEMPLATE, BLOCK, MACRO, CALL_BLOCK */
    } x;
    const jj_builtin *builtin; /* FILTER, TEST; NULL when there is none of that name */
    jj_scope locals;           /* a scoped BLOCK: what it sees of the variables around it (name -> from) */
};

struct jj_frame {
    jj_frame *outer;
    jj_value slots[];
};

/* A parsed template. */
struct mr_jinja {
    mr_arena arena;
    jj_node *root;
    mr_strmap *names; /* name -> id */
    const jj_str **name_texts;
    uint32_t n_names, cap_names;
    jj_node **blocks;
    size_t n_blocks, cap_blocks;
};

/* While parsing: where things are allocated and the first error. Every function returns false/NULL after an error. */
typedef struct jj_parse {
    struct mr_jinja *jinja;
    const char *source; /* newlines normalized */
    size_t len;
    jj_token *tokens;
    size_t n_tokens, cap_tokens;
    size_t pos; /* current token */
    unsigned depth;
    uint64_t work_left;
    const char *stack_base;
    const char **tags;
    size_t n_tags;
    const char *const **end_tokens;
    size_t n_end_tokens;
    mr_error *err;
    mr_status status;
} jj_parse;

/* Records "chat template line L, column C: …" and returns false. */
bool mr_jj_parse_fail(jj_parse *p, uint32_t line, uint32_t column, const char *format, ...) MR_PRINTF(4, 5);
bool mr_jj_parse_nomem(jj_parse *p);
bool mr_jj_parse_enter(jj_parse *p, uint32_t line, uint32_t column); /* bounds recursion */
void *mr_jj_parse_alloc(jj_parse *p, size_t n);
bool mr_jj_parse_str(jj_parse *p, const char *data, size_t len, const jj_str **out);
bool mr_jj_name_id(jj_parse *p, const jj_str *name, uint32_t *id);

/* Splits source into tokens; the last one is JJ_T_EOF. */
bool mr_jj_lex(jj_parse *p);

/* Builds the tree of the whole template. */
bool mr_jj_parse_template(jj_parse *p);

/* Expressions (jinja_parse_expr.c). */
typedef struct jj_node_list {
    jj_node **nodes;
    size_t n, cap;
} jj_node_list;
bool mr_jj_list_push(jj_parse *p, jj_node_list *list, jj_node *node);
jj_node *mr_jj_node(jj_parse *p, jj_node_kind kind, const jj_token *at);
const jj_token *mr_jj_current(const jj_parse *p);
const jj_token *mr_jj_advance(jj_parse *p); /* returns the token before */
bool mr_jj_is_name(const jj_token *t, const char *name);
bool mr_jj_skip_name(jj_parse *p, const char *name);
bool mr_jj_skip_kind(jj_parse *p, jj_token_kind kind);
const jj_token *mr_jj_expect(jj_parse *p, jj_token_kind kind);
const jj_token *mr_jj_expect_name(jj_parse *p, const char *name);
const char *mr_jj_describe_kind(jj_token_kind kind);
const char *mr_jj_describe(const jj_token *t, char out[64]);
jj_node *mr_jj_parse_expression(jj_parse *p, bool with_condexpr);
jj_node *mr_jj_parse_primary(jj_parse *p, bool with_namespace);
typedef struct jj_tuple_rules {
    bool simplified, no_condexpr, explicit_parentheses, with_namespace;
} jj_tuple_rules;
jj_node *mr_jj_parse_tuple(jj_parse *p, jj_tuple_rules rules);
jj_node *mr_jj_parse_filter(jj_parse *p, jj_node *node, bool start_inline);

/* Resolves every variable, and checks what Jinja's compiler checks. */
bool mr_jj_resolve(jj_parse *p);

#endif
