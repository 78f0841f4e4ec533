/* Evaluation of expressions and execution of statements (internal to the jinja_*.c files). */
#ifndef MR_TEXT_JINJA_EVAL_H
#define MR_TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"

/* A variable context: what names that no frame binds resolve to. vars: assigned at the template's top level; locals:
 * what a scoped block sees of the loops around it. Both by name id, JJ_MISSING where there is nothing. */
typedef struct jj_context {
    struct jj_context *base;
    jj_value *vars;
    jj_value *locals;
} jj_context;

/* The `loop` of a for statement. */
struct jj_loop {
    jj_value iterable;
    jj_iter *it;
    int64_t index0;
    int64_t length; /* -1: not known yet */
    int64_t depth0;
    jj_value after, current, before; /* JJ_MISSING when there is none */
    jj_value last_changed;
    const jj_node *node; /* a recursive loop's statement, else NULL */
    jj_frame *outer;     /* the activation around it */
};

typedef enum jj_flow { JJ_FLOW_NEXT, JJ_FLOW_BREAK, JJ_FLOW_CONTINUE, JJ_FLOW_ERROR } jj_flow;

bool mr_jj_eval(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out);
/* The same for an expression whose value is printed. */
bool mr_jj_eval_output(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out);
/* Evaluates the arguments of a call; caller (not MISSING) is added as a keyword. */
bool mr_jj_eval_args(jj_rt *rt, jj_frame *f, const jj_call_args *args, jj_value caller, jj_args *out);
/* A filter or test with its subject already there. */
bool mr_jj_eval_filter(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value subject, jj_value *out);
bool mr_jj_eval_call(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value caller, jj_value *out);

jj_flow mr_jj_exec_body(jj_rt *rt, jj_frame *f, const jj_body *body);
bool mr_jj_render_template(jj_rt *rt);

jj_frame *mr_jj_new_frame(jj_rt *rt, const jj_func *func, jj_frame *outer);
jj_value *mr_jj_slot(jj_frame *f, jj_ref ref);
void mr_jj_enter_scope(jj_rt *rt, jj_frame *f, const jj_scope *scope);
void mr_jj_leave_scope(jj_frame *f, const jj_scope *scope);
/* Stores value into a target (a name, namespace attribute or tuple of targets). */
bool mr_jj_assign(jj_rt *rt, jj_frame *f, const jj_node *target, jj_value value);

jj_flow mr_jj_exec_for(jj_rt *rt, jj_frame *f, const jj_node *node);

/* Appends to the output, within its limit. */
bool mr_jj_emit(jj_rt *rt, const char *text, size_t len);

#endif
