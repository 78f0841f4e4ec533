/* Resolves variables before rendering, with the rules of Jinja's compiler (jinja2/idtracking.py describes them best).
 *
 * A frame is a scope: the template, a loop body, a macro … Before a frame's body is visited, its own statements (not
 * those of nested frames) are scanned in order. A name that is first read is looked up in the context when the frame is
 * entered; one that is first assigned starts unbound, or as a copy of the enclosing frame's variable. So a variable
 * that a template assigns anywhere at its top level hides the context's variable of that name in loops and macros, even
 * before the assignment runs. Variables of one function-like part with the same name and level share a slot. */
#include "text/jinja_symbols.h"

#include <string.h>

/* A frame while its body is visited. */
typedef struct frame {
    struct frame *parent;
    jj_symbols sym;
    bool toplevel, soft;
    unsigned loops; /* loops around this point in the same function: where break and continue are allowed */
} frame;

static bool visit_body(jj_resolver *r, frame *f, jj_body *body);
static bool visit_expr(jj_resolver *r, frame *f, jj_node *node);

static frame inner_frame(frame *parent, jj_func *func) {
    return (frame){
        .parent = parent,
        .sym = {.parent = &parent->sym, .func = func, .level = parent->sym.level + 1},
        .loops = func == parent->sym.func ? parent->loops : 0,
    };
}

static bool finish_scope(jj_resolver *r, const jj_symbols *s, jj_scope *scope) {
    scope->n = s->n_loads;
    scope->loads = mr_jj_parse_alloc(r->p, s->n_loads * sizeof *scope->loads);
    if (scope->loads == NULL) return false;
    if (s->n_loads > 0) memcpy(scope->loads, s->loads, s->n_loads * sizeof *scope->loads);
    return true;
}

static bool bind(jj_resolver *r, frame *f, jj_node *node) {
    jj_func *func;
    if (!mr_jj_find_ref(r, &f->sym, node->name_id, &func, &node->ref.slot)) {
        return mr_jj_parse_fail(r->p, node->line, node->column, "the name '%s' can't be used here", node->name->data);
    }
    node->ref.hops = mr_jj_hops_to(f->sym.func, func);
    return true;
}

static bool visit_exprs(jj_resolver *r, frame *f, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!visit_expr(r, f, body->nodes[i])) return false;
    }
    return true;
}

static bool visit_args(jj_resolver *r, frame *f, jj_call_args *args) {
    return visit_exprs(r, f, &args->pos) && visit_exprs(r, f, &args->kw) && visit_expr(r, f, args->dyn_args) &&
           visit_expr(r, f, args->dyn_kwargs);
}

static bool visit_cond(jj_resolver *r, frame *f, jj_node *node) {
    bool soft = f->soft;
    f->soft = true;
    bool ok = visit_expr(r, f, node->b) && visit_expr(r, f, node->a) && visit_expr(r, f, node->c);
    f->soft = soft;
    return ok;
}

/* Whether the filter's or test's result depends on its arguments alone. */
static bool is_pure(const jj_node *node) {
    static const char *const impure[] = {"map", "select", "reject", "selectattr", "rejectattr", "random"};
    for (size_t i = 0; node->kind == JJ_N_FILTER && i < sizeof impure / sizeof *impure; i++) {
        if (mr_jj_str_is(node->name, impure[i])) return false;
    }
    return node->builtin != NULL && node->a != NULL;
}

typedef struct constness {
    bool constant, folds;
} constness;

static void join_constness(constness *c, const jj_node *part) {
    if (part == NULL) return;
    c->constant = c->constant && part->constant;
    c->folds = c->folds || part->folds;
}

static void join_all(constness *c, const jj_body *parts) {
    for (size_t i = 0; i < parts->n; i++) join_constness(c, parts->nodes[i]);
}

/* Marks constant expressions, after their parts have been marked. */
static void mark_constant(jj_node *node) {
    constness c = {.constant = true};
    switch (node->kind) {
    case JJ_N_NAME:
    case JJ_N_NSREF:
    case JJ_N_CALL:
        return;
    case JJ_N_AND:
    case JJ_N_OR:
        node->constant = node->a->constant; /* the rest may not be needed */
        node->folds = node->constant && (node->a->folds || node->b->folds);
        return;
    case JJ_N_COND:
        node->constant = node->a->constant && node->c != NULL && (node->b->constant || node->c->constant);
        node->folds = node->constant && (node->a->folds || node->b->folds || node->c->folds);
        return;
    case JJ_N_FILTER:
    case JJ_N_TEST:
        c.constant = is_pure(node);
        join_all(&c, &node->x.args->pos);
        join_all(&c, &node->x.args->kw);
        join_constness(&c, node->x.args->dyn_args);
        join_constness(&c, node->x.args->dyn_kwargs);
        break;
    case JJ_N_GETITEM:
        c.folds = node->b->kind == JJ_N_SLICE;
        break;
    default:
        break;
    }
    join_constness(&c, node->a);
    join_constness(&c, node->b);
    join_constness(&c, node->c);
    join_all(&c, &node->items);
    node->constant = c.constant;
    node->folds = c.constant && c.folds;
}

static bool visit_parts(jj_resolver *r, frame *f, jj_node *node);

static bool visit_expr(jj_resolver *r, frame *f, jj_node *node) {
    if (node == NULL) return true;
    if (!mr_jj_scope_work(r, 1 + f->sym.n_refs / 16, node) || !visit_parts(r, f, node)) return false;
    if (node->kind < JJ_N_DATA) mark_constant(node);
    return true;
}

static bool visit_parts(jj_resolver *r, frame *f, jj_node *node) {
    switch (node->kind) {
    case JJ_N_NAME:
    case JJ_N_NSREF:
        return bind(r, f, node);
    case JJ_N_COND:
        return visit_cond(r, f, node);
    case JJ_N_FILTER:
    case JJ_N_TEST:
        /* Inside of an if, an unknown filter is an error only when it is reached. */
        if (node->builtin == NULL && !f->soft) {
            return mr_jj_parse_fail(r->p, node->line, node->column, "No %s named '%s'.",
                                    node->kind == JJ_N_FILTER ? "filter" : "test", node->name->data);
        }
        return visit_expr(r, f, node->a) && visit_args(r, f, node->x.args);
    case JJ_N_CALL:
        return visit_expr(r, f, node->a) && visit_args(r, f, node->x.args);
    default:
        return visit_expr(r, f, node->a) && visit_expr(r, f, node->b) && visit_expr(r, f, node->c) &&
               visit_exprs(r, f, &node->items);
    }
}

static bool check_loop_name(jj_resolver *r, const jj_node *target) {
    if (target->kind == JJ_N_NAME && mr_jj_str_is(target->name, "loop")) {
        return mr_jj_parse_fail(r->p, target->line, target->column,
                                "Can't assign to special loop variable in for-loop target");
    }
    for (size_t i = 0; target->kind == JJ_N_TUPLE && i < target->items.n; i++) {
        if (!check_loop_name(r, target->items.nodes[i])) return false;
    }
    return true;
}

/* Assignments to `loop` anywhere inside of a loop are refused. */
static bool check_loop_stores(jj_resolver *r, const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        const jj_node *node = body->nodes[i];
        if (!mr_jj_scope_work(r, 1, node)) return false;
        if ((node->kind == JJ_N_SET || node->kind == JJ_N_SET_BLOCK) && !check_loop_name(r, node->a)) return false;
        if (node->kind == JJ_N_FOR && !check_loop_name(r, node->x.loop->target)) return false;
        if (!check_loop_stores(r, &node->body) || !check_loop_stores(r, &node->else_body)) return false;
        if (node->kind == JJ_N_IF && !check_loop_stores(r, &node->items)) return false;
    }
    return true;
}

static bool contains_scoped_block(const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        const jj_node *node = body->nodes[i];
        if (node->kind == JJ_N_BLOCK && node->flag) return true;
        if (node->kind >= JJ_N_OUTPUT &&
            (contains_scoped_block(&node->body) || contains_scoped_block(&node->else_body))) {
            return true;
        }
        if (node->kind == JJ_N_IF && contains_scoped_block(&node->items)) return true;
    }
    return false;
}

static jj_func *new_func(jj_resolver *r, jj_func *outer) {
    jj_func *func = mr_jj_parse_alloc(r->p, sizeof *func);
    if (func != NULL) func->outer = outer;
    return func;
}

static bool visit_loop_test(jj_resolver *r, frame *f, jj_loop_info *loop) {
    loop->test_func = new_func(r, f->sym.func);
    if (loop->test_func == NULL) return false;
    frame test = inner_frame(f, loop->test_func);
    bool ok = mr_jj_declare_target(r, &test.sym, loop->test_target) && mr_jj_scan_node_into(r, &test.sym, loop->test) &&
              finish_scope(r, &test.sym, &loop->test_scope) && visit_expr(r, &test, loop->test_target) &&
              visit_expr(r, &test, loop->test);
    mr_jj_free_symbols(&test.sym);
    return ok;
}

static bool visit_loop_else(jj_resolver *r, frame *f, jj_node *node, jj_func *func) {
    frame else_frame = inner_frame(f, func);
    bool ok = mr_jj_scan_into(r, &else_frame.sym, &node->else_body) &&
              finish_scope(r, &else_frame.sym, &node->x.loop->else_scope) &&
              visit_body(r, &else_frame, &node->else_body);
    mr_jj_free_symbols(&else_frame.sym);
    return ok;
}

static bool visit_for(jj_resolver *r, frame *f, jj_node *node) {
    static const char *const names[] = {"loop"};
    jj_loop_info *loop = node->x.loop;
    bool uses_loop;
    if (!mr_jj_body_uses(r, &node->body, names, &uses_loop, 1)) return false;
    loop->extended =
        loop->recursive || uses_loop || contains_scoped_block(&node->body) || contains_scoped_block(&node->else_body);
    if (!check_loop_name(r, loop->target) || !check_loop_stores(r, &node->body) ||
        !check_loop_stores(r, &node->else_body)) {
        return false;
    }
    jj_func *func = f->sym.func;
    if (loop->recursive) func = loop->func = new_func(r, func);
    if (func == NULL) return false;
    if (loop->test != NULL && !visit_loop_test(r, f, loop)) return false;
    frame body = inner_frame(f, func);
    body.loops++;
    uint32_t loop_name;
    const jj_str loop_text = {.data = "loop", .len = 4, .n_chars = 4};
    const jj_str *kept;
    bool ok = mr_jj_parse_str(r->p, loop_text.data, loop_text.len, &kept) && mr_jj_name_id(r->p, kept, &loop_name);
    if (ok && loop->extended) ok = mr_jj_declare_parameter(r, &body.sym, loop_name, &loop->loop_slot);
    ok = ok && mr_jj_declare_target(r, &body.sym, loop->target) && mr_jj_scan_into(r, &body.sym, &node->body) &&
         finish_scope(r, &body.sym, &node->scope) && visit_expr(r, &body, loop->target) &&
         visit_body(r, &body, &node->body);
    mr_jj_free_symbols(&body.sym);
    return ok && visit_expr(r, f, node->a) && visit_loop_else(r, f, node, func);
}

static bool scan_function(jj_resolver *r, jj_symbols *s, jj_node *node) {
    jj_function_info *info = node->x.func;
    return mr_jj_scan_into(r, s, &info->params) && mr_jj_scan_into(r, s, &info->defaults) &&
           mr_jj_scan_into(r, s, &node->body);
}

/* The special arguments of a macro: only there when its body names them. */
static bool special_parameters(jj_resolver *r, frame *f, jj_node *node) {
    static const char *const names[] = {"caller", "kwargs", "varargs"};
    jj_function_info *info = node->x.func;
    int64_t *slots[] = {&info->caller_slot, &info->kwargs_slot, &info->varargs_slot};
    bool used[3];
    if (!mr_jj_body_uses(r, &node->body, names, used, 3)) return false;
    for (size_t k = 0; k < 3; k++) {
        bool explicit_param = false;
        for (size_t i = 0; i < info->params.n; i++) {
            if (!mr_jj_str_is(info->params.nodes[i]->name, names[k])) continue;
            explicit_param = true;
            if (k == 0) info->explicit_caller = true;
            if (k == 0 && used[0] && i + info->defaults.n < info->params.n) {
                return mr_jj_parse_fail(r->p, node->line, node->column,
                                        "When defining macros or call blocks the special \"caller\" argument must be "
                                        "omitted or be given a default.");
            }
        }
        if (!used[k] || explicit_param) continue;
        const jj_str *text;
        uint32_t id, slot;
        if (!mr_jj_parse_str(r->p, names[k], strlen(names[k]), &text) || !mr_jj_name_id(r->p, text, &id)) return false;
        if (!mr_jj_declare_parameter(r, &f->sym, id, &slot)) return false;
        *slots[k] = slot;
    }
    return true;
}

static bool visit_function(jj_resolver *r, frame *f, jj_node *node) {
    jj_function_info *info = node->x.func;
    info->func->outer = f->sym.func;
    frame body = inner_frame(f, info->func);
    bool ok = scan_function(r, &body.sym, node) && special_parameters(r, &body, node) &&
              scan_function(r, &body.sym, node) && finish_scope(r, &body.sym, &node->scope);
    info->param_slots = ok ? mr_jj_parse_alloc(r->p, info->params.n * sizeof *info->param_slots) : NULL;
    ok = ok && info->param_slots != NULL;
    for (size_t i = 0; ok && i < info->params.n; i++) {
        ok = bind(r, &body, info->params.nodes[i]);
        info->param_slots[i] = info->params.nodes[i]->ref.slot;
    }
    ok = ok && visit_exprs(r, &body, &info->defaults) && visit_body(r, &body, &node->body);
    mr_jj_free_symbols(&body.sym);
    return ok;
}

static bool visit_if(jj_resolver *r, frame *f, jj_node *node) {
    bool soft = f->soft;
    f->soft = true;
    bool ok = visit_expr(r, f, node->a) && visit_body(r, f, &node->body);
    for (size_t i = 0; ok && i < node->items.n; i++) {
        jj_node *branch = node->items.nodes[i];
        ok = visit_expr(r, f, branch->a) && visit_body(r, f, &branch->body);
    }
    ok = ok && visit_body(r, f, &node->else_body);
    f->soft = soft;
    return ok;
}

static bool visit_set_block(jj_resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = mr_jj_scan_into(r, &body.sym, &node->body) && finish_scope(r, &body.sym, &node->scope) &&
              visit_body(r, &body, &node->body) && visit_expr(r, f, node->a) && visit_expr(r, &body, node->b);
    mr_jj_free_symbols(&body.sym);
    return ok;
}

static bool visit_filter_block(jj_resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = mr_jj_scan_into(r, &body.sym, &node->body) && mr_jj_scan_node_into(r, &body.sym, node->a) &&
              finish_scope(r, &body.sym, &node->scope) && visit_body(r, &body, &node->body) &&
              visit_expr(r, &body, node->a);
    mr_jj_free_symbols(&body.sym);
    return ok;
}

static bool visit_with(jj_resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = mr_jj_scan_into(r, &body.sym, &node->items) && mr_jj_scan_into(r, &body.sym, &node->body) &&
              finish_scope(r, &body.sym, &node->scope) && visit_exprs(r, &body, &node->items) &&
              visit_exprs(r, f, &node->else_body) && visit_body(r, &body, &node->body);
    mr_jj_free_symbols(&body.sym);
    return ok;
}

static bool visit_autoescape(jj_resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = mr_jj_scan_node_into(r, &body.sym, node->a) && mr_jj_scan_into(r, &body.sym, &node->body) &&
              finish_scope(r, &body.sym, &node->scope) && visit_expr(r, &body, node->a) &&
              visit_body(r, &body, &node->body);
    mr_jj_free_symbols(&body.sym);
    return ok;
}

static bool visit_block_body(jj_resolver *r, jj_node *node) {
    jj_function_info *info = node->x.func;
    frame f = {.sym = {.func = info->func}};
    static const char *const names[] = {"self", "super"};
    int64_t *slots[] = {&info->caller_slot, &info->kwargs_slot}; /* reused for self and super */
    bool used[2];
    bool ok = mr_jj_body_uses(r, &node->body, names, used, 2);
    for (size_t k = 0; ok && k < 2; k++) {
        const jj_str *text;
        uint32_t id, slot;
        if (!used[k]) continue;
        ok = mr_jj_parse_str(r->p, names[k], strlen(names[k]), &text) && mr_jj_name_id(r->p, text, &id) &&
             mr_jj_declare_parameter(r, &f.sym, id, &slot);
        if (ok) *slots[k] = slot;
    }
    ok = ok && mr_jj_scan_into(r, &f.sym, &node->body) && finish_scope(r, &f.sym, &node->scope) &&
         visit_body(r, &f, &node->body);
    mr_jj_free_symbols(&f.sym);
    return ok;
}

/* What a scoped block sees: every variable assigned in the frames around it. */
static bool block_locals(jj_resolver *r, frame *f, jj_node *node) {
    size_t n = 0;
    for (const jj_symbols *s = &f->sym; s != NULL; s = s->parent) n += s->n_stores;
    node->locals.loads = mr_jj_parse_alloc(r->p, n * sizeof *node->locals.loads);
    if (node->locals.loads == NULL) return false;
    for (const jj_symbols *s = &f->sym; s != NULL; s = s->parent) {
        for (size_t i = 0; i < s->n_stores; i++) {
            jj_func *func;
            uint32_t slot;
            if (!mr_jj_find_ref(r, &f->sym, s->stores[i], &func, &slot)) continue;
            node->locals.loads[node->locals.n++] =
                (jj_load){.name = s->stores[i], .from = {mr_jj_hops_to(f->sym.func, func), slot}};
        }
    }
    return true;
}

static bool add_block(jj_resolver *r, jj_node *node) {
    struct mr_jinja *j = r->p->jinja;
    for (size_t i = 0; i < j->n_blocks; i++) {
        if (mr_jj_str_eq(j->blocks[i]->name, node->name)) {
            return mr_jj_parse_fail(r->p, node->line, node->column, "block '%s' defined twice", node->name->data);
        }
    }
    if (j->n_blocks == j->cap_blocks) {
        size_t cap = j->cap_blocks == 0 ? 8 : j->cap_blocks * 2;
        jj_node **blocks = mr_jj_parse_alloc(r->p, cap * sizeof *blocks);
        if (blocks == NULL) return false;
        if (j->n_blocks > 0) memcpy(blocks, j->blocks, j->n_blocks * sizeof *blocks);
        j->blocks = blocks;
        j->cap_blocks = cap;
    }
    j->blocks[j->n_blocks++] = node;
    return mr_jj_scope_work(r, j->n_blocks, node);
}

static bool visit_loop_control(jj_resolver *r, const frame *f, const jj_node *node) {
    if (f->loops > 0) return true;
    return mr_jj_parse_fail(r->p, node->line, node->column, "%s",
                            node->kind == JJ_N_BREAK ? "'break' outside loop" : "'continue' not properly in loop");
}

static bool visit_stmt(jj_resolver *r, frame *f, jj_node *node) {
    if (!mr_jj_scope_work(r, 1, node)) return false;
    node->toplevel = f->toplevel;
    switch (node->kind) {
    case JJ_N_OUTPUT:
        return visit_exprs(r, f, &node->items);
    case JJ_N_FOR:
        return visit_for(r, f, node);
    case JJ_N_IF:
        return visit_if(r, f, node);
    case JJ_N_SET:
        return visit_expr(r, f, node->a) && visit_expr(r, f, node->b);
    case JJ_N_SET_BLOCK:
        return visit_set_block(r, f, node);
    case JJ_N_MACRO:
        return visit_function(r, f, node) && bind(r, f, node);
    case JJ_N_CALL_BLOCK:
        return visit_function(r, f, node) && visit_expr(r, f, node->a);
    case JJ_N_FILTER_BLOCK:
        return visit_filter_block(r, f, node);
    case JJ_N_WITH:
        return visit_with(r, f, node);
    case JJ_N_AUTOESCAPE:
        return visit_autoescape(r, f, node);
    case JJ_N_BLOCK:
        return add_block(r, node) && (!node->flag || block_locals(r, f, node));
    case JJ_N_INCLUDE:
        return visit_expr(r, f, node->a);
    case JJ_N_EXTENDS:
        if (!f->toplevel) {
            return mr_jj_parse_fail(r->p, node->line, node->column, "cannot use extend from a non top-level scope");
        }
        return visit_expr(r, f, node->a);
    case JJ_N_BREAK:
    case JJ_N_CONTINUE:
        return visit_loop_control(r, f, node);
    default:
        return visit_expr(r, f, node);
    }
}

static bool visit_body(jj_resolver *r, frame *f, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!visit_stmt(r, f, body->nodes[i])) return false;
    }
    return true;
}

bool mr_jj_resolve(jj_parse *p) {
    jj_resolver r = {.p = p};
    jj_node *root = p->jinja->root;
    frame f = {.sym = {.func = root->x.func->func}, .toplevel = true};
    static const char *const names[] = {"self"};
    bool used, ok = mr_jj_body_uses(&r, &root->body, names, &used, 1);
    if (ok && used) {
        const jj_str *text;
        uint32_t id, slot = 0;
        ok = mr_jj_parse_str(p, "self", 4, &text) && mr_jj_name_id(p, text, &id) &&
             mr_jj_declare_parameter(&r, &f.sym, id, &slot);
        root->x.func->caller_slot = slot;
    }
    ok = ok && mr_jj_scan_into(&r, &f.sym, &root->body) && finish_scope(&r, &f.sym, &root->scope) &&
         visit_body(&r, &f, &root->body);
    mr_jj_free_symbols(&f.sym);
    /* Blocks are frames of their own; visiting one may find more. */
    for (size_t i = 0; ok && i < p->jinja->n_blocks; i++) ok = visit_block_body(&r, p->jinja->blocks[i]);
    return ok;
}
