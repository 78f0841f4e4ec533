/* Resolves variables before rendering, with the rules of Jinja's compiler (jinja2/idtracking.py describes them best).
 *
 * A frame is a scope: the template, a loop body, a macro … Before a frame's body is visited, its own statements (not those
 * of nested frames) are scanned in order. A name that is first read is looked up in the context when the frame is entered;
 * one that is first assigned starts unbound, or as a copy of the enclosing frame's variable. So a variable that a template
 * assigns anywhere at its top level hides the context's variable of that name in loops and macros, even before the
 * assignment runs. Variables of one function-like part with the same name and level share a slot. */
#include "text/jinja_ast.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STACK_BYTES = 768 * 1024 };

typedef struct jj_slot_key {
    uint32_t level, name;
} slot_key;

typedef struct binding {
    uint32_t name, slot;
} binding;

typedef struct symbols {
    struct symbols *parent;
    jj_func *func;
    uint32_t level;
    binding *refs;
    size_t n_refs, cap_refs;
    jj_load *loads;
    size_t n_loads, cap_loads;
    uint32_t *stores;
    size_t n_stores, cap_stores;
} symbols;

/* A frame while its body is visited. */
typedef struct frame {
    struct frame *parent;
    symbols sym;
    bool toplevel, soft;
    unsigned loops; /* loops around this point in the same function: where break and continue are allowed */
} frame;

typedef struct resolver {
    jj_parse *p;
    symbols *sym; /* the symbols being filled by the current scan */
} resolver;

static bool visit_body(resolver *r, frame *f, jj_body *body);
static bool visit_expr(resolver *r, frame *f, jj_node *node);
static bool scan(resolver *r, jj_node *node);
static bool scan_body(resolver *r, jj_body *body);

static bool nomem(resolver *r) { return mr_jj_parse_nomem(r->p); }

static bool work(resolver *r, size_t n, const jj_node *at) {
    char here;
    ptrdiff_t used = r->p->stack_base - &here;
    if (used < 0) used = -used;
    if (r->p->work_left < n || used > MAX_STACK_BYTES) {
        if (r->p->status == MR_OK) {
            r->p->status = mr_fail(r->p->err, MR_ERR_LIMIT, "chat template line %u, column %u: the template is too complex",
                                   (unsigned)at->line, (unsigned)at->column);
        }
        return false;
    }
    r->p->work_left -= n;
    return true;
}

#define GROW(array, n, cap)                                                                                            \
    ((n) < (cap) || grow((void **)&(array), &(cap), sizeof *(array)))

static bool grow(void **array, size_t *cap, size_t size) {
    size_t bigger = *cap == 0 ? 8 : *cap * 2;
    void *grown = realloc(*array, bigger * size);
    if (grown == NULL) return false;
    *array = grown;
    *cap = bigger;
    return true;
}

static void free_symbols(symbols *s) {
    free(s->refs);
    free(s->loads);
    free(s->stores);
    s->refs = NULL;
    s->loads = NULL;
    s->stores = NULL;
}

/* The slot of (level, name) in a function, made when it is new. */
static bool slot_of(resolver *r, jj_func *func, uint32_t level, uint32_t name, uint32_t *slot) {
    for (uint32_t i = 0; i < func->n_slots; i++) {
        if (func->keys[i].level == level && func->keys[i].name == name) {
            *slot = i;
            return true;
        }
    }
    if (func->n_slots == func->cap) {
        uint32_t cap = func->cap == 0 ? 16 : func->cap * 2;
        slot_key *keys = mr_jj_parse_alloc(r->p, cap * sizeof *keys);
        if (keys == NULL) return false;
        if (func->n_slots > 0) memcpy(keys, func->keys, func->n_slots * sizeof *keys);
        func->keys = keys;
        func->cap = cap;
    }
    func->keys[func->n_slots] = (slot_key){level, name};
    *slot = func->n_slots++;
    return true;
}

static bool find_own(const symbols *s, uint32_t name, uint32_t *slot) {
    for (size_t i = 0; i < s->n_refs; i++) {
        if (s->refs[i].name == name) {
            *slot = s->refs[i].slot;
            return true;
        }
    }
    return false;
}

/* The variable that name means in s; false when no frame around knows it. */
static bool find_ref(const symbols *s, uint32_t name, jj_func **func, uint32_t *slot) {
    for (; s != NULL; s = s->parent) {
        if (find_own(s, name, slot)) {
            *func = s->func;
            return true;
        }
    }
    return false;
}

static uint32_t hops_to(const jj_func *from, const jj_func *to) {
    uint32_t hops = 0;
    for (; from != to && from != NULL; from = from->outer) hops++;
    return hops;
}

static bool set_load(resolver *r, symbols *s, jj_load load) {
    for (size_t i = 0; i < s->n_loads; i++) {
        if (s->loads[i].slot == load.slot) {
            s->loads[i] = load;
            return true;
        }
    }
    if (!GROW(s->loads, s->n_loads, s->cap_loads)) return nomem(r);
    s->loads[s->n_loads++] = load;
    return true;
}

static bool define(resolver *r, symbols *s, uint32_t name, jj_load load, uint32_t *slot) {
    if (!slot_of(r, s->func, s->level, name, slot)) return false;
    uint32_t known;
    if (!find_own(s, name, &known)) {
        if (!GROW(s->refs, s->n_refs, s->cap_refs)) return nomem(r);
        s->refs[s->n_refs++] = (binding){name, *slot};
    }
    load.slot = *slot;
    return set_load(r, s, load);
}

static bool add_store(resolver *r, symbols *s, uint32_t name) {
    for (size_t i = 0; i < s->n_stores; i++) {
        if (s->stores[i] == name) return true;
    }
    if (!GROW(s->stores, s->n_stores, s->cap_stores)) return nomem(r);
    s->stores[s->n_stores++] = name;
    return true;
}

static jj_load alias_of(const symbols *s, const jj_func *func, uint32_t slot) {
    return (jj_load){.action = JJ_LOAD_ALIAS, .from = {hops_to(s->func, func), slot}};
}

static bool store(resolver *r, symbols *s, uint32_t name) {
    uint32_t slot;
    if (!add_store(r, s, name)) return false;
    if (find_own(s, name, &slot)) return true;
    jj_func *func;
    uint32_t outer;
    jj_load load = {.action = JJ_LOAD_UNDEFINED};
    if (find_ref(s->parent, name, &func, &outer)) load = alias_of(s, func, outer);
    return define(r, s, name, load, &slot);
}

static bool load(resolver *r, symbols *s, uint32_t name) {
    jj_func *func;
    uint32_t slot;
    if (find_ref(s, name, &func, &slot)) return true;
    return define(r, s, name, (jj_load){.action = JJ_LOAD_RESOLVE, .name = name}, &slot);
}

static bool declare_parameter(resolver *r, symbols *s, uint32_t name, uint32_t *slot) {
    return add_store(r, s, name) && define(r, s, name, (jj_load){.action = JJ_LOAD_PARAMETER}, slot);
}

static bool copy_symbols(resolver *r, const symbols *from, symbols *to, const jj_node *at) {
    *to = *from;
    to->refs = NULL;
    to->loads = NULL;
    to->stores = NULL;
    to->cap_refs = from->n_refs + 4;
    to->cap_loads = from->n_loads + 4;
    to->cap_stores = from->n_stores + 4;
    if (!work(r, from->n_refs + from->n_loads + from->n_stores + 1, at)) return false;
    to->refs = malloc(to->cap_refs * sizeof *to->refs);
    to->loads = malloc(to->cap_loads * sizeof *to->loads);
    to->stores = malloc(to->cap_stores * sizeof *to->stores);
    if (to->refs == NULL || to->loads == NULL || to->stores == NULL) return nomem(r);
    if (from->n_refs > 0) memcpy(to->refs, from->refs, from->n_refs * sizeof *to->refs);
    if (from->n_loads > 0) memcpy(to->loads, from->loads, from->n_loads * sizeof *to->loads);
    if (from->n_stores > 0) memcpy(to->stores, from->stores, from->n_stores * sizeof *to->stores);
    return true;
}

static bool has_store(const symbols *s, uint32_t name) {
    for (size_t i = 0; i < s->n_stores; i++) {
        if (s->stores[i] == name) return true;
    }
    return false;
}

static bool merge(resolver *r, symbols *into, const symbols *branch, const jj_node *at) {
    size_t size = branch->n_refs + branch->n_loads + branch->n_stores;
    if (!work(r, size * (1 + into->n_refs / 16), at)) return false;
    for (size_t i = 0; i < branch->n_refs; i++) {
        uint32_t slot;
        if (find_own(into, branch->refs[i].name, &slot)) continue;
        if (!GROW(into->refs, into->n_refs, into->cap_refs)) return nomem(r);
        into->refs[into->n_refs++] = branch->refs[i];
    }
    for (size_t i = 0; i < branch->n_loads; i++) {
        if (!set_load(r, into, branch->loads[i])) return false;
    }
    for (size_t i = 0; i < branch->n_stores; i++) {
        if (!add_store(r, into, branch->stores[i])) return false;
    }
    return true;
}

/* After the branches of an if: what only some of them assigned falls back to the variable outside, or the context's. */
static bool branch_update(resolver *r, symbols *s, symbols branches[3], const jj_node *at) {
    symbols before;
    bool ok = copy_symbols(r, s, &before, at);
    for (size_t b = 0; ok && b < 3; b++) ok = merge(r, s, &branches[b], at);
    for (size_t i = 0; ok && i < s->n_stores; i++) {
        uint32_t name = s->stores[i], slot, outer;
        jj_func *func;
        if (has_store(&before, name) || !find_own(s, name, &slot)) continue;
        jj_load fallback = {.action = JJ_LOAD_RESOLVE, .name = name};
        if (find_ref(s->parent, name, &func, &outer)) fallback = alias_of(s, func, outer);
        fallback.slot = slot;
        ok = set_load(r, s, fallback);
    }
    free_symbols(&before);
    return ok;
}

static bool scan_if(resolver *r, jj_node *node) {
    symbols *original = r->sym, branches[3] = {{0}};
    jj_body *bodies[3] = {&node->body, &node->items, &node->else_body};
    if (!scan(r, node->a)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < 3; i++) {
        ok = copy_symbols(r, original, &branches[i], node);
        r->sym = &branches[i];
        ok = ok && scan_body(r, bodies[i]);
    }
    r->sym = original;
    ok = ok && branch_update(r, original, branches, node);
    for (size_t i = 0; i < 3; i++) free_symbols(&branches[i]);
    return ok;
}

static bool scan_args(resolver *r, jj_call_args *args) {
    return scan_body(r, &args->pos) && scan_body(r, &args->kw) && scan(r, args->dyn_args) && scan(r, args->dyn_kwargs);
}

/* Enters what node says about names into the current symbols; nested frames are left out. */
static bool scan(resolver *r, jj_node *node) {
    uint32_t slot;
    if (node == NULL) return true;
    if (!work(r, 1 + r->sym->n_refs / 16, node)) return false;
    switch (node->kind) {
    case JJ_N_NAME:
        if (node->op == 'p') return declare_parameter(r, r->sym, node->name_id, &slot);
        return node->op == 's' ? store(r, r->sym, node->name_id) : load(r, r->sym, node->name_id);
    case JJ_N_NSREF: return load(r, r->sym, node->name_id);
    case JJ_N_IF: return scan_if(r, node);
    case JJ_N_MACRO: return store(r, r->sym, node->name_id);
    case JJ_N_FOR: return scan(r, node->a);
    case JJ_N_CALL_BLOCK: return scan(r, node->a);
    case JJ_N_FILTER_BLOCK: return scan(r, node->a);
    case JJ_N_WITH: return scan_body(r, &node->else_body);
    case JJ_N_SET_BLOCK: return scan(r, node->a);
    case JJ_N_SET: return scan(r, node->b) && scan(r, node->a);
    case JJ_N_BLOCK:
    case JJ_N_AUTOESCAPE: return true;
    case JJ_N_CALL:
    case JJ_N_FILTER:
    case JJ_N_TEST: return scan(r, node->a) && scan_args(r, node->x.args);
    default: return scan(r, node->a) && scan(r, node->b) && scan(r, node->c) && scan_body(r, &node->items);
    }
}

static bool scan_body(resolver *r, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!scan(r, body->nodes[i])) return false;
    }
    return true;
}

static bool scan_into(resolver *r, symbols *s, jj_body *body) {
    symbols *saved = r->sym;
    r->sym = s;
    bool ok = scan_body(r, body);
    r->sym = saved;
    return ok;
}

static bool scan_node_into(resolver *r, symbols *s, jj_node *node) {
    symbols *saved = r->sym;
    r->sym = s;
    bool ok = scan(r, node);
    r->sym = saved;
    return ok;
}

/* Declares the names of a loop's or with's target as parameters. */
static bool declare_target(resolver *r, symbols *s, jj_node *target) {
    uint32_t slot;
    if (target->kind == JJ_N_NAME) return declare_parameter(r, s, target->name_id, &slot);
    for (size_t i = 0; i < target->items.n; i++) {
        if (!declare_target(r, s, target->items.nodes[i])) return false;
    }
    return true;
}

/* --- which special names a body uses --- */

typedef struct usage {
    const char *const *names;
    bool *wanted, *used;
    size_t n;
} usage;

static bool find_uses(resolver *r, usage *u, jj_node *node);

static bool find_uses_body(resolver *r, usage *u, const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!find_uses(r, u, body->nodes[i])) return false;
    }
    return true;
}

static bool find_uses_function(resolver *r, usage *u, jj_node *node) {
    jj_function_info *info = node->x.func;
    return find_uses_body(r, u, &info->params) && find_uses_body(r, u, &info->defaults) && find_uses_body(r, u, &node->body);
}

/* Marks the names that are read before anything else binds them, in the order of the text (blocks are left out). */
static bool find_uses(resolver *r, usage *u, jj_node *node) {
    if (node == NULL || node->kind == JJ_N_BLOCK) return true;
    if (!work(r, 1, node)) return false;
    switch (node->kind) {
    case JJ_N_NAME:
        for (size_t i = 0; i < u->n; i++) {
            if (!u->wanted[i] || !mr_jj_str_is(node->name, u->names[i])) continue;
            if (node->op == 0) {
                u->used[i] = true;
            } else {
                u->wanted[i] = false;
            }
        }
        return true;
    case JJ_N_CALL:
    case JJ_N_FILTER:
    case JJ_N_TEST:
        return find_uses(r, u, node->a) && find_uses_body(r, u, &node->x.args->pos) &&
               find_uses_body(r, u, &node->x.args->kw) && find_uses(r, u, node->x.args->dyn_args) &&
               find_uses(r, u, node->x.args->dyn_kwargs);
    case JJ_N_FOR:
        return find_uses(r, u, node->x.loop->target) && find_uses(r, u, node->a) && find_uses_body(r, u, &node->body) &&
               find_uses_body(r, u, &node->else_body) && find_uses(r, u, node->x.loop->test);
    case JJ_N_MACRO: return find_uses_function(r, u, node);
    case JJ_N_CALL_BLOCK: return find_uses(r, u, node->a) && find_uses_function(r, u, node);
    case JJ_N_IF:
        return find_uses(r, u, node->a) && find_uses_body(r, u, &node->body) && find_uses_body(r, u, &node->items) &&
               find_uses_body(r, u, &node->else_body);
    case JJ_N_FILTER_BLOCK: return find_uses_body(r, u, &node->body) && find_uses(r, u, node->a);
    case JJ_N_WITH:
        return find_uses_body(r, u, &node->items) && find_uses_body(r, u, &node->else_body) &&
               find_uses_body(r, u, &node->body);
    default:
        return find_uses(r, u, node->a) && find_uses(r, u, node->b) && find_uses(r, u, node->c) &&
               find_uses_body(r, u, &node->items) && find_uses_body(r, u, &node->body) &&
               find_uses_body(r, u, &node->else_body);
    }
}

static bool body_uses(resolver *r, const jj_body *body, const char *const *names, bool *used, size_t n) {
    bool wanted[3] = {true, true, true};
    for (size_t i = 0; i < n; i++) used[i] = false;
    usage u = {names, wanted, used, n};
    return find_uses_body(r, &u, body);
}

/* --- visiting --- */

static frame inner_frame(frame *parent, jj_func *func) {
    return (frame){
        .parent = parent,
        .sym = {.parent = &parent->sym, .func = func, .level = parent->sym.level + 1},
        .loops = func == parent->sym.func ? parent->loops : 0,
    };
}

static bool finish_scope(resolver *r, const symbols *s, jj_scope *scope) {
    scope->n = s->n_loads;
    scope->loads = mr_jj_parse_alloc(r->p, s->n_loads * sizeof *scope->loads);
    if (scope->loads == NULL) return false;
    if (s->n_loads > 0) memcpy(scope->loads, s->loads, s->n_loads * sizeof *scope->loads);
    return true;
}

static bool bind(resolver *r, frame *f, jj_node *node) {
    jj_func *func;
    if (!find_ref(&f->sym, node->name_id, &func, &node->ref.slot)) {
        return mr_jj_parse_fail(r->p, node->line, node->column, "the name '%s' can't be used here", node->name->data);
    }
    node->ref.hops = hops_to(f->sym.func, func);
    return true;
}

static bool visit_exprs(resolver *r, frame *f, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!visit_expr(r, f, body->nodes[i])) return false;
    }
    return true;
}

static bool visit_args(resolver *r, frame *f, jj_call_args *args) {
    return visit_exprs(r, f, &args->pos) && visit_exprs(r, f, &args->kw) && visit_expr(r, f, args->dyn_args) &&
           visit_expr(r, f, args->dyn_kwargs);
}

static bool visit_cond(resolver *r, frame *f, jj_node *node) {
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
    case JJ_N_CALL: return;
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
    case JJ_N_GETITEM: c.folds = node->b->kind == JJ_N_SLICE; break;
    default: break;
    }
    join_constness(&c, node->a);
    join_constness(&c, node->b);
    join_constness(&c, node->c);
    join_all(&c, &node->items);
    node->constant = c.constant;
    node->folds = c.constant && c.folds;
}

static bool visit_parts(resolver *r, frame *f, jj_node *node);

static bool visit_expr(resolver *r, frame *f, jj_node *node) {
    if (node == NULL) return true;
    if (!work(r, 1 + f->sym.n_refs / 16, node) || !visit_parts(r, f, node)) return false;
    if (node->kind < JJ_N_DATA) mark_constant(node);
    return true;
}

static bool visit_parts(resolver *r, frame *f, jj_node *node) {
    switch (node->kind) {
    case JJ_N_NAME:
    case JJ_N_NSREF: return bind(r, f, node);
    case JJ_N_COND: return visit_cond(r, f, node);
    case JJ_N_FILTER:
    case JJ_N_TEST:
        /* Inside of an if, an unknown filter is an error only when it is reached. */
        if (node->builtin == NULL && !f->soft) {
            return mr_jj_parse_fail(r->p, node->line, node->column, "No %s named '%s'.",
                                    node->kind == JJ_N_FILTER ? "filter" : "test", node->name->data);
        }
        return visit_expr(r, f, node->a) && visit_args(r, f, node->x.args);
    case JJ_N_CALL: return visit_expr(r, f, node->a) && visit_args(r, f, node->x.args);
    default:
        return visit_expr(r, f, node->a) && visit_expr(r, f, node->b) && visit_expr(r, f, node->c) &&
               visit_exprs(r, f, &node->items);
    }
}

static bool check_loop_name(resolver *r, const jj_node *target) {
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
static bool check_loop_stores(resolver *r, const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        const jj_node *node = body->nodes[i];
        if (!work(r, 1, node)) return false;
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
        if (node->kind >= JJ_N_OUTPUT && (contains_scoped_block(&node->body) || contains_scoped_block(&node->else_body))) {
            return true;
        }
        if (node->kind == JJ_N_IF && contains_scoped_block(&node->items)) return true;
    }
    return false;
}

static jj_func *new_func(resolver *r, jj_func *outer) {
    jj_func *func = mr_jj_parse_alloc(r->p, sizeof *func);
    if (func != NULL) func->outer = outer;
    return func;
}

static bool visit_loop_test(resolver *r, frame *f, jj_loop_info *loop) {
    loop->test_func = new_func(r, f->sym.func);
    if (loop->test_func == NULL) return false;
    frame test = inner_frame(f, loop->test_func);
    bool ok = declare_target(r, &test.sym, loop->test_target) && scan_node_into(r, &test.sym, loop->test) &&
              finish_scope(r, &test.sym, &loop->test_scope) && visit_expr(r, &test, loop->test_target) &&
              visit_expr(r, &test, loop->test);
    free_symbols(&test.sym);
    return ok;
}

static bool visit_loop_else(resolver *r, frame *f, jj_node *node, jj_func *func) {
    frame else_frame = inner_frame(f, func);
    bool ok = scan_into(r, &else_frame.sym, &node->else_body) &&
              finish_scope(r, &else_frame.sym, &node->x.loop->else_scope) && visit_body(r, &else_frame, &node->else_body);
    free_symbols(&else_frame.sym);
    return ok;
}

static bool visit_for(resolver *r, frame *f, jj_node *node) {
    static const char *const names[] = {"loop"};
    jj_loop_info *loop = node->x.loop;
    bool uses_loop;
    if (!body_uses(r, &node->body, names, &uses_loop, 1)) return false;
    loop->extended = loop->recursive || uses_loop || contains_scoped_block(&node->body) ||
                     contains_scoped_block(&node->else_body);
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
    if (ok && loop->extended) ok = declare_parameter(r, &body.sym, loop_name, &loop->loop_slot);
    ok = ok && declare_target(r, &body.sym, loop->target) && scan_into(r, &body.sym, &node->body) &&
         finish_scope(r, &body.sym, &node->scope) && visit_expr(r, &body, loop->target) &&
         visit_body(r, &body, &node->body);
    free_symbols(&body.sym);
    return ok && visit_expr(r, f, node->a) && visit_loop_else(r, f, node, func);
}

static bool scan_function(resolver *r, symbols *s, jj_node *node) {
    jj_function_info *info = node->x.func;
    return scan_into(r, s, &info->params) && scan_into(r, s, &info->defaults) && scan_into(r, s, &node->body);
}

/* The special arguments of a macro: only there when its body names them. */
static bool special_parameters(resolver *r, frame *f, jj_node *node) {
    static const char *const names[] = {"caller", "kwargs", "varargs"};
    jj_function_info *info = node->x.func;
    int64_t *slots[] = {&info->caller_slot, &info->kwargs_slot, &info->varargs_slot};
    bool used[3];
    if (!body_uses(r, &node->body, names, used, 3)) return false;
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
        if (!declare_parameter(r, &f->sym, id, &slot)) return false;
        *slots[k] = slot;
    }
    return true;
}

static bool visit_function(resolver *r, frame *f, jj_node *node) {
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
    free_symbols(&body.sym);
    return ok;
}

static bool visit_if(resolver *r, frame *f, jj_node *node) {
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

static bool visit_set_block(resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = scan_into(r, &body.sym, &node->body) && finish_scope(r, &body.sym, &node->scope) &&
              visit_body(r, &body, &node->body) && visit_expr(r, f, node->a) && visit_expr(r, &body, node->b);
    free_symbols(&body.sym);
    return ok;
}

static bool visit_filter_block(resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = scan_into(r, &body.sym, &node->body) && scan_node_into(r, &body.sym, node->a) &&
              finish_scope(r, &body.sym, &node->scope) && visit_body(r, &body, &node->body) &&
              visit_expr(r, &body, node->a);
    free_symbols(&body.sym);
    return ok;
}

static bool visit_with(resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = scan_into(r, &body.sym, &node->items) && scan_into(r, &body.sym, &node->body) &&
              finish_scope(r, &body.sym, &node->scope) && visit_exprs(r, &body, &node->items) &&
              visit_exprs(r, f, &node->else_body) && visit_body(r, &body, &node->body);
    free_symbols(&body.sym);
    return ok;
}

static bool visit_autoescape(resolver *r, frame *f, jj_node *node) {
    frame body = inner_frame(f, f->sym.func);
    bool ok = scan_node_into(r, &body.sym, node->a) && scan_into(r, &body.sym, &node->body) &&
              finish_scope(r, &body.sym, &node->scope) && visit_expr(r, &body, node->a) &&
              visit_body(r, &body, &node->body);
    free_symbols(&body.sym);
    return ok;
}

static bool visit_block_body(resolver *r, jj_node *node) {
    jj_function_info *info = node->x.func;
    frame f = {.sym = {.func = info->func}};
    static const char *const names[] = {"self", "super"};
    int64_t *slots[] = {&info->caller_slot, &info->kwargs_slot}; /* reused for self and super */
    bool used[2];
    bool ok = body_uses(r, &node->body, names, used, 2);
    for (size_t k = 0; ok && k < 2; k++) {
        const jj_str *text;
        uint32_t id, slot;
        if (!used[k]) continue;
        ok = mr_jj_parse_str(r->p, names[k], strlen(names[k]), &text) && mr_jj_name_id(r->p, text, &id) &&
             declare_parameter(r, &f.sym, id, &slot);
        if (ok) *slots[k] = slot;
    }
    ok = ok && scan_into(r, &f.sym, &node->body) && finish_scope(r, &f.sym, &node->scope) &&
         visit_body(r, &f, &node->body);
    free_symbols(&f.sym);
    return ok;
}

/* What a scoped block sees: every variable assigned in the frames around it. */
static bool block_locals(resolver *r, frame *f, jj_node *node) {
    size_t n = 0;
    for (const symbols *s = &f->sym; s != NULL; s = s->parent) n += s->n_stores;
    node->locals.loads = mr_jj_parse_alloc(r->p, n * sizeof *node->locals.loads);
    if (node->locals.loads == NULL) return false;
    for (const symbols *s = &f->sym; s != NULL; s = s->parent) {
        for (size_t i = 0; i < s->n_stores; i++) {
            jj_func *func;
            uint32_t slot;
            if (!find_ref(&f->sym, s->stores[i], &func, &slot)) continue;
            node->locals.loads[node->locals.n++] =
                (jj_load){.name = s->stores[i], .from = {hops_to(f->sym.func, func), slot}};
        }
    }
    return true;
}

static bool add_block(resolver *r, jj_node *node) {
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
    return work(r, j->n_blocks, node);
}

static bool visit_loop_control(resolver *r, const frame *f, const jj_node *node) {
    if (f->loops > 0) return true;
    return mr_jj_parse_fail(r->p, node->line, node->column, "%s",
                            node->kind == JJ_N_BREAK ? "'break' outside loop" : "'continue' not properly in loop");
}

static bool visit_stmt(resolver *r, frame *f, jj_node *node) {
    if (!work(r, 1, node)) return false;
    node->toplevel = f->toplevel;
    switch (node->kind) {
    case JJ_N_OUTPUT: return visit_exprs(r, f, &node->items);
    case JJ_N_FOR: return visit_for(r, f, node);
    case JJ_N_IF: return visit_if(r, f, node);
    case JJ_N_SET: return visit_expr(r, f, node->a) && visit_expr(r, f, node->b);
    case JJ_N_SET_BLOCK: return visit_set_block(r, f, node);
    case JJ_N_MACRO: return visit_function(r, f, node) && bind(r, f, node);
    case JJ_N_CALL_BLOCK: return visit_function(r, f, node) && visit_expr(r, f, node->a);
    case JJ_N_FILTER_BLOCK: return visit_filter_block(r, f, node);
    case JJ_N_WITH: return visit_with(r, f, node);
    case JJ_N_AUTOESCAPE: return visit_autoescape(r, f, node);
    case JJ_N_BLOCK: return add_block(r, node) && (!node->flag || block_locals(r, f, node));
    case JJ_N_INCLUDE: return visit_expr(r, f, node->a);
    case JJ_N_EXTENDS:
        if (!f->toplevel) {
            return mr_jj_parse_fail(r->p, node->line, node->column, "cannot use extend from a non top-level scope");
        }
        return visit_expr(r, f, node->a);
    case JJ_N_BREAK:
    case JJ_N_CONTINUE: return visit_loop_control(r, f, node);
    default: return visit_expr(r, f, node);
    }
}

static bool visit_body(resolver *r, frame *f, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!visit_stmt(r, f, body->nodes[i])) return false;
    }
    return true;
}

bool mr_jj_resolve(jj_parse *p) {
    resolver r = {.p = p};
    jj_node *root = p->jinja->root;
    frame f = {.sym = {.func = root->x.func->func}, .toplevel = true};
    static const char *const names[] = {"self"};
    bool used, ok = body_uses(&r, &root->body, names, &used, 1);
    if (ok && used) {
        const jj_str *text;
        uint32_t id, slot = 0;
        ok = mr_jj_parse_str(p, "self", 4, &text) && mr_jj_name_id(p, text, &id) &&
             declare_parameter(&r, &f.sym, id, &slot);
        root->x.func->caller_slot = slot;
    }
    ok = ok && scan_into(&r, &f.sym, &root->body) && finish_scope(&r, &f.sym, &root->scope) &&
         visit_body(&r, &f, &root->body);
    free_symbols(&f.sym);
    /* Blocks are frames of their own; visiting one may find more. */
    for (size_t i = 0; ok && i < p->jinja->n_blocks; i++) ok = visit_block_body(&r, p->jinja->blocks[i]);
    return ok;
}
