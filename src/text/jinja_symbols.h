/* The names of a frame (internal to jinja_symbols.c and jinja_scope.c). */
#ifndef MR_TEXT_JINJA_SYMBOLS_H
#define MR_TEXT_JINJA_SYMBOLS_H

#include "text/jinja_ast.h"

typedef struct jj_binding {
    uint32_t name, slot;
} jj_binding;

/* What one frame knows of its names: where each lives, what entering the frame does to it, and which are assigned. */
typedef struct jj_symbols {
    struct jj_symbols *parent;
    jj_func *func;
    uint32_t level;
    jj_binding *refs;
    size_t n_refs, cap_refs;
    jj_load *loads;
    size_t n_loads, cap_loads;
    uint32_t *stores;
    size_t n_stores, cap_stores;
} jj_symbols;

typedef struct jj_resolver {
    jj_parse *p;
    jj_symbols *sym; /* the symbols being filled by the current scan */
} jj_resolver;

/* Counts n units of work; false when a template exceeds its bound, or the C stack is nearly used up. `at` is for the
 * error. */
bool mr_jj_scope_work(jj_resolver *r, size_t n, const jj_node *at);

void mr_jj_free_symbols(jj_symbols *s);

/* The variable that name means in s; false (no error) when no frame around knows it. */
bool mr_jj_find_ref(jj_resolver *r, const jj_symbols *s, uint32_t name, jj_func **func, uint32_t *slot);

/* How many functions outwards `to` is from `from`. */
uint32_t mr_jj_hops_to(const jj_func *from, const jj_func *to);

/* A name that is bound before the frame is entered. */
bool mr_jj_declare_parameter(jj_resolver *r, jj_symbols *s, uint32_t name, uint32_t *slot);

/* Every name of a loop's or with's target as a parameter. */
bool mr_jj_declare_target(jj_resolver *r, jj_symbols *s, jj_node *target);

/* Enters what the nodes say about names into s, in the order of the text; nested frames are left out. */
bool mr_jj_scan_into(jj_resolver *r, jj_symbols *s, jj_body *body);
bool mr_jj_scan_node_into(jj_resolver *r, jj_symbols *s, jj_node *node);

/* used[i]: whether the body reads names[i] (n of them, at most 3) before anything else binds it. */
bool mr_jj_body_uses(jj_resolver *r, const jj_body *body, const char *const *names, bool *used, size_t n);

#endif
