/* Scans statements for the names they read and assign; see jinja_scope.c for the rules. */
#include "text/jinja_symbols.h"

#include <stdlib.h>
#include <string.h>

typedef struct jj_slot_key {
    uint32_t level, name;
} slot_key;

enum { MAX_STACK_BYTES = 768 * 1024 };

static bool scan(jj_resolver *r, jj_node *node);
static bool scan_body(jj_resolver *r, jj_body *body);

static bool nomem(jj_resolver *r) {
    return mr_jj_parse_nomem(r->p);
}

bool mr_jj_scope_work(jj_resolver *r, size_t n, const jj_node *at) {
    char here;
    ptrdiff_t used = r->p->stack_base - &here;
    if (used < 0) used = -used;
    if (r->p->work_left < n || used > MAX_STACK_BYTES) {
        if (r->p->status == MR_OK) {
            r->p->status =
                mr_fail(r->p->err, MR_ERR_LIMIT, "chat template line %u, column %u: the template is too complex",
                        (unsigned)at->line, (unsigned)at->column);
        }
        return false;
    }
    r->p->work_left -= n;
    return true;
}

#define GROW(array, n, cap) ((n) < (cap) || grow((void **)&(array), &(cap), sizeof *(array)))

static bool grow(void **array, size_t *cap, size_t size) {
    size_t bigger = *cap == 0 ? 8 : *cap * 2;
    void *grown = realloc(*array, bigger * size);
    if (grown == NULL) return false;
    *array = grown;
    *cap = bigger;
    return true;
}

void mr_jj_free_symbols(jj_symbols *s) {
    free(s->refs);
    free(s->loads);
    free(s->stores);
    s->refs = NULL;
    s->loads = NULL;
    s->stores = NULL;
}

/* Counts work whose excess is noticed at the next call of mr_jj_scope_work(). */
static void charge(jj_resolver *r, size_t n) {
    r->p->work_left -= r->p->work_left < n ? r->p->work_left : n;
}

/* The slot of (level, name) in a function, made when it is new. */
static bool slot_of(jj_resolver *r, jj_func *func, uint32_t level, uint32_t name, uint32_t *slot) {
    charge(r, func->n_slots / 16);
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

static bool find_own(const jj_symbols *s, uint32_t name, uint32_t *slot) {
    for (size_t i = 0; i < s->n_refs; i++) {
        if (s->refs[i].name == name) {
            *slot = s->refs[i].slot;
            return true;
        }
    }
    return false;
}

/* The variable that name means in s; false when no frame around knows it. */
bool mr_jj_find_ref(jj_resolver *r, const jj_symbols *s, uint32_t name, jj_func **func, uint32_t *slot) {
    for (; s != NULL; s = s->parent) {
        charge(r, s->n_refs / 16);
        if (find_own(s, name, slot)) {
            *func = s->func;
            return true;
        }
    }
    return false;
}

uint32_t mr_jj_hops_to(const jj_func *from, const jj_func *to) {
    uint32_t hops = 0;
    for (; from != to && from != NULL; from = from->outer) hops++;
    return hops;
}

static bool set_load(jj_resolver *r, jj_symbols *s, jj_load load) {
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

static bool define(jj_resolver *r, jj_symbols *s, uint32_t name, jj_load load, uint32_t *slot) {
    if (!slot_of(r, s->func, s->level, name, slot)) return false;
    uint32_t known;
    if (!find_own(s, name, &known)) {
        if (!GROW(s->refs, s->n_refs, s->cap_refs)) return nomem(r);
        s->refs[s->n_refs++] = (jj_binding){name, *slot};
    }
    load.slot = *slot;
    return set_load(r, s, load);
}

static bool add_store(jj_resolver *r, jj_symbols *s, uint32_t name) {
    for (size_t i = 0; i < s->n_stores; i++) {
        if (s->stores[i] == name) return true;
    }
    if (!GROW(s->stores, s->n_stores, s->cap_stores)) return nomem(r);
    s->stores[s->n_stores++] = name;
    return true;
}

static jj_load alias_of(const jj_symbols *s, const jj_func *func, uint32_t slot) {
    return (jj_load){.action = JJ_LOAD_ALIAS, .from = {mr_jj_hops_to(s->func, func), slot}};
}

static bool store(jj_resolver *r, jj_symbols *s, uint32_t name) {
    uint32_t slot;
    if (!add_store(r, s, name)) return false;
    if (find_own(s, name, &slot)) return true;
    jj_func *func;
    uint32_t outer;
    jj_load load = {.action = JJ_LOAD_UNDEFINED};
    if (mr_jj_find_ref(r, s->parent, name, &func, &outer)) load = alias_of(s, func, outer);
    return define(r, s, name, load, &slot);
}

static bool load(jj_resolver *r, jj_symbols *s, uint32_t name) {
    jj_func *func;
    uint32_t slot;
    if (mr_jj_find_ref(r, s, name, &func, &slot)) return true;
    return define(r, s, name, (jj_load){.action = JJ_LOAD_RESOLVE, .name = name}, &slot);
}

bool mr_jj_declare_parameter(jj_resolver *r, jj_symbols *s, uint32_t name, uint32_t *slot) {
    return add_store(r, s, name) && define(r, s, name, (jj_load){.action = JJ_LOAD_PARAMETER}, slot);
}

static bool copy_symbols(jj_resolver *r, const jj_symbols *from, jj_symbols *to, const jj_node *at) {
    *to = *from;
    to->refs = NULL;
    to->loads = NULL;
    to->stores = NULL;
    to->cap_refs = from->n_refs + 4;
    to->cap_loads = from->n_loads + 4;
    to->cap_stores = from->n_stores + 4;
    if (!mr_jj_scope_work(r, from->n_refs + from->n_loads + from->n_stores + 1, at)) return false;
    to->refs = malloc(to->cap_refs * sizeof *to->refs);
    to->loads = malloc(to->cap_loads * sizeof *to->loads);
    to->stores = malloc(to->cap_stores * sizeof *to->stores);
    if (to->refs == NULL || to->loads == NULL || to->stores == NULL) return nomem(r);
    if (from->n_refs > 0) memcpy(to->refs, from->refs, from->n_refs * sizeof *to->refs);
    if (from->n_loads > 0) memcpy(to->loads, from->loads, from->n_loads * sizeof *to->loads);
    if (from->n_stores > 0) memcpy(to->stores, from->stores, from->n_stores * sizeof *to->stores);
    return true;
}

static bool has_store(const jj_symbols *s, uint32_t name) {
    for (size_t i = 0; i < s->n_stores; i++) {
        if (s->stores[i] == name) return true;
    }
    return false;
}

static bool merge(jj_resolver *r, jj_symbols *into, const jj_symbols *branch, const jj_node *at) {
    size_t size = branch->n_refs + branch->n_loads + branch->n_stores;
    if (!mr_jj_scope_work(r, size * (1 + into->n_refs / 16), at)) return false;
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
static bool branch_update(jj_resolver *r, jj_symbols *s, jj_symbols branches[3], const jj_node *at) {
    jj_symbols before;
    bool ok = copy_symbols(r, s, &before, at);
    for (size_t b = 0; ok && b < 3; b++) ok = merge(r, s, &branches[b], at);
    for (size_t i = 0; ok && i < s->n_stores; i++) {
        uint32_t name = s->stores[i], slot, outer;
        jj_func *func;
        if (has_store(&before, name) || !find_own(s, name, &slot)) continue;
        jj_load fallback = {.action = JJ_LOAD_RESOLVE, .name = name};
        if (mr_jj_find_ref(r, s->parent, name, &func, &outer)) fallback = alias_of(s, func, outer);
        fallback.slot = slot;
        ok = set_load(r, s, fallback);
    }
    mr_jj_free_symbols(&before);
    return ok;
}

static bool scan_if(jj_resolver *r, jj_node *node) {
    jj_symbols *original = r->sym, branches[3] = {{0}};
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
    for (size_t i = 0; i < 3; i++) mr_jj_free_symbols(&branches[i]);
    return ok;
}

static bool scan_args(jj_resolver *r, jj_call_args *args) {
    return scan_body(r, &args->pos) && scan_body(r, &args->kw) && scan(r, args->dyn_args) && scan(r, args->dyn_kwargs);
}

/* Enters what node says about names into the current jj_symbols; nested frames are left out. */
static bool scan(jj_resolver *r, jj_node *node) {
    uint32_t slot;
    if (node == NULL) return true;
    if (!mr_jj_scope_work(r, 1 + r->sym->n_refs / 16, node)) return false;
    switch (node->kind) {
    case JJ_N_NAME:
        if (node->op == 'p') return mr_jj_declare_parameter(r, r->sym, node->name_id, &slot);
        return node->op == 's' ? store(r, r->sym, node->name_id) : load(r, r->sym, node->name_id);
    case JJ_N_NSREF:
        return load(r, r->sym, node->name_id);
    case JJ_N_IF:
        return scan_if(r, node);
    case JJ_N_MACRO:
        return store(r, r->sym, node->name_id);
    case JJ_N_FOR:
        return scan(r, node->a);
    case JJ_N_CALL_BLOCK:
        return scan(r, node->a);
    case JJ_N_FILTER_BLOCK:
        return scan(r, node->a);
    case JJ_N_WITH:
        return scan_body(r, &node->else_body);
    case JJ_N_SET_BLOCK:
        return scan(r, node->a);
    case JJ_N_SET:
        return scan(r, node->b) && scan(r, node->a);
    case JJ_N_BLOCK:
    case JJ_N_AUTOESCAPE:
        return true;
    case JJ_N_CALL:
    case JJ_N_FILTER:
    case JJ_N_TEST:
        return scan(r, node->a) && scan_args(r, node->x.args);
    default:
        return scan(r, node->a) && scan(r, node->b) && scan(r, node->c) && scan_body(r, &node->items);
    }
}

static bool scan_body(jj_resolver *r, jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!scan(r, body->nodes[i])) return false;
    }
    return true;
}

bool mr_jj_scan_into(jj_resolver *r, jj_symbols *s, jj_body *body) {
    jj_symbols *saved = r->sym;
    r->sym = s;
    bool ok = scan_body(r, body);
    r->sym = saved;
    return ok;
}

bool mr_jj_scan_node_into(jj_resolver *r, jj_symbols *s, jj_node *node) {
    jj_symbols *saved = r->sym;
    r->sym = s;
    bool ok = scan(r, node);
    r->sym = saved;
    return ok;
}

bool mr_jj_declare_target(jj_resolver *r, jj_symbols *s, jj_node *target) {
    uint32_t slot;
    if (target->kind == JJ_N_NAME) return mr_jj_declare_parameter(r, s, target->name_id, &slot);
    for (size_t i = 0; i < target->items.n; i++) {
        if (!mr_jj_declare_target(r, s, target->items.nodes[i])) return false;
    }
    return true;
}

/* --- which special names a body uses --- */

typedef struct usage {
    const char *const *names;
    bool *wanted, *used;
    size_t n;
} usage;

static bool find_uses(jj_resolver *r, usage *u, jj_node *node);

static bool find_uses_body(jj_resolver *r, usage *u, const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        if (!find_uses(r, u, body->nodes[i])) return false;
    }
    return true;
}

static bool find_uses_function(jj_resolver *r, usage *u, jj_node *node) {
    jj_function_info *info = node->x.func;
    return find_uses_body(r, u, &info->params) && find_uses_body(r, u, &info->defaults) &&
           find_uses_body(r, u, &node->body);
}

/* Marks the names that are read before anything else binds them, in the order of the text (blocks are left out). */
static bool find_uses(jj_resolver *r, usage *u, jj_node *node) {
    if (node == NULL || node->kind == JJ_N_BLOCK) return true;
    if (!mr_jj_scope_work(r, 1, node)) return false;
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
    case JJ_N_MACRO:
        return find_uses_function(r, u, node);
    case JJ_N_CALL_BLOCK:
        return find_uses(r, u, node->a) && find_uses_function(r, u, node);
    case JJ_N_IF:
        return find_uses(r, u, node->a) && find_uses_body(r, u, &node->body) && find_uses_body(r, u, &node->items) &&
               find_uses_body(r, u, &node->else_body);
    case JJ_N_FILTER_BLOCK:
        return find_uses_body(r, u, &node->body) && find_uses(r, u, node->a);
    case JJ_N_WITH:
        return find_uses_body(r, u, &node->items) && find_uses_body(r, u, &node->else_body) &&
               find_uses_body(r, u, &node->body);
    default:
        return find_uses(r, u, node->a) && find_uses(r, u, node->b) && find_uses(r, u, node->c) &&
               find_uses_body(r, u, &node->items) && find_uses_body(r, u, &node->body) &&
               find_uses_body(r, u, &node->else_body);
    }
}

bool mr_jj_body_uses(jj_resolver *r, const jj_body *body, const char *const *names, bool *used, size_t n) {
    bool wanted[3] = {true, true, true};
    for (size_t i = 0; i < n; i++) used[i] = false;
    usage u = {names, wanted, used, n};
    return find_uses_body(r, &u, body);
}
