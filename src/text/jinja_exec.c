/* Statements. */
#include "text/jinja_eval.h"

#include <stdlib.h>
#include <string.h>

bool mr_jj_emit(jj_rt *rt, const char *text, size_t len) {
    if (len > rt->max_output || rt->out->len > rt->max_output - len) {
        return mr_jj_raise(rt, JJ_ERR_LIMIT, "the output grows too large");
    }
    if (!mr_buf_append(rt->out, text, len)) return mr_jj_raise(rt, JJ_ERR_NOMEM, "no memory to render the template");
    return mr_jj_step(rt, len / 256);
}

/* --- captures --- */

bool mr_jj_capture_begin(jj_rt *rt, jj_capture *capture) {
    enum { N_POOL = sizeof rt->captures / sizeof *rt->captures };
    capture->own = (mr_buf){0};
    capture->outer = rt->out;
    capture->buf = rt->n_captures < N_POOL ? &rt->captures[rt->n_captures] : &capture->own;
    rt->n_captures++;
    mr_buf_clear(capture->buf);
    rt->out = capture->buf;
    return true;
}

bool mr_jj_capture_end(jj_rt *rt, jj_capture *capture, bool ok, jj_value *out) {
    rt->out = capture->outer;
    rt->n_captures--;
    ok = ok && mr_jj_str_buf(rt, capture->buf, out);
    mr_buf_free(&capture->own);
    return ok;
}

/* --- scopes --- */

jj_frame *mr_jj_new_frame(jj_rt *rt, const jj_func *func, jj_frame *outer) {
    jj_frame *f = mr_jj_alloc(rt, sizeof *f + func->n_slots * sizeof(jj_value));
    if (f != NULL) f->outer = outer;
    return f;
}

static jj_value resolve(const jj_rt *rt, uint32_t name) {
    for (const jj_context *c = rt->context; c != NULL; c = c->base) {
        if (c->vars[name].kind != JJ_MISSING) return c->vars[name];
        if (c->locals != NULL && c->locals[name].kind != JJ_MISSING) return c->locals[name];
    }
    return rt->globals[name];
}

void mr_jj_enter_scope(jj_rt *rt, jj_frame *f, const jj_scope *scope) {
    for (size_t i = 0; i < scope->n; i++) {
        const jj_load *load = &scope->loads[i];
        switch (load->action) {
        case JJ_LOAD_RESOLVE:
            f->slots[load->slot] = resolve(rt, load->name);
            break;
        case JJ_LOAD_ALIAS:
            f->slots[load->slot] = *mr_jj_slot(f, load->from);
            break;
        case JJ_LOAD_UNDEFINED:
            f->slots[load->slot] = (jj_value){0};
            break;
        default:
            break;
        }
    }
}

void mr_jj_leave_scope(jj_frame *f, const jj_scope *scope) {
    for (size_t i = 0; i < scope->n; i++) f->slots[scope->loads[i].slot] = (jj_value){0};
}

/* --- assignment --- */

static bool unpack(jj_rt *rt, jj_frame *f, const jj_node *target, jj_value value) {
    jj_iter *it;
    size_t n = target->items.n;
    jj_vec items = {0};
    jj_value item;
    int got = 0;
    if (!mr_jj_is_iterable(value)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "cannot unpack non-iterable %s object", mr_jj_type_name(value));
    }
    if (!mr_jj_iterate(rt, value, &it)) return false;
    while (items.n <= n && (got = mr_jj_next(rt, it, &item)) > 0) {
        if (!mr_jj_vec_push(rt, &items, item)) return false;
    }
    if (got < 0) return false;
    if (items.n > n) return mr_jj_raise(rt, JJ_ERR_VALUE, "too many values to unpack (expected %zu)", n);
    if (items.n < n) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "not enough values to unpack (expected %zu, got %zu)", n, items.n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!mr_jj_assign(rt, f, target->items.nodes[i], items.items[i])) return false;
    }
    return true;
}

bool mr_jj_assign(jj_rt *rt, jj_frame *f, const jj_node *target, jj_value value) {
    jj_value *slot;
    if (!mr_jj_enter(rt)) return false;
    switch (target->kind) {
    case JJ_N_NAME:
        *mr_jj_slot(f, target->ref) = value;
        return true;
    case JJ_N_NSREF:
        slot = mr_jj_slot(f, target->ref);
        if (slot->kind != JJ_NAMESPACE) {
            return mr_jj_raise(rt, JJ_ERR_RUNTIME, "cannot assign attribute on non-namespace object");
        }
        return mr_jj_dict_put(rt, slot->u.d, mr_jj_str_static(target->attr), value);
    default:
        return unpack(rt, f, target, value);
    }
}

/* Every namespace a target names must be one before the value is evaluated. */
static bool check_namespaces(jj_rt *rt, jj_frame *f, const jj_node *target) {
    if (target->kind == JJ_N_NSREF && mr_jj_slot(f, target->ref)->kind != JJ_NAMESPACE) {
        return mr_jj_raise(rt, JJ_ERR_RUNTIME, "cannot assign attribute on non-namespace object");
    }
    for (size_t i = 0; target->kind == JJ_N_TUPLE && i < target->items.n; i++) {
        if (!check_namespaces(rt, f, target->items.nodes[i])) return false;
    }
    return true;
}

/* At the top level an assignment also sets the context's variable, which blocks see. */
static void export_names(jj_rt *rt, jj_frame *f, const jj_node *target) {
    if (target->kind == JJ_N_NAME) rt->context->vars[target->name_id] = *mr_jj_slot(f, target->ref);
    for (size_t i = 0; target->kind == JJ_N_TUPLE && i < target->items.n; i++) {
        export_names(rt, f, target->items.nodes[i]);
    }
}

static bool exec_set(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value value;
    rt->at = node;
    if (!check_namespaces(rt, f, node->a) || !mr_jj_eval(rt, f, node->b, &value)) return false;
    rt->at = node;
    if (!mr_jj_assign(rt, f, node->a, value)) return false;
    if (node->toplevel) export_names(rt, f, node->a);
    return true;
}

/* The body's text with the chain of filters applied; a filter without a subject stands for the text. */
static bool apply_filters(jj_rt *rt, jj_frame *f, const jj_node *filter, jj_value text, jj_value *out) {
    jj_value subject = text;
    if (filter == NULL) {
        *out = text;
        return true;
    }
    if (!mr_jj_enter(rt)) return false;
    if (filter->a != NULL && !apply_filters(rt, f, filter->a, text, &subject)) return false;
    return mr_jj_eval_filter(rt, f, filter, subject, out);
}

static jj_flow exec_captured(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_capture capture;
    mr_jj_capture_begin(rt, &capture);
    mr_jj_enter_scope(rt, f, &node->scope);
    jj_flow flow = mr_jj_exec_body(rt, f, &node->body);
    if (!mr_jj_capture_end(rt, &capture, flow != JJ_FLOW_ERROR, out)) return JJ_FLOW_ERROR;
    if (rt->autoescape) out->flags = JJ_FLAG_MARKUP;
    return flow;
}

static jj_flow exec_set_block(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value text, value;
    jj_flow flow = exec_captured(rt, f, node, &text);
    if (flow != JJ_FLOW_NEXT) return flow;
    if (!apply_filters(rt, f, node->b, text, &value)) return JJ_FLOW_ERROR;
    if (rt->autoescape && (!mr_jj_to_str(rt, value, &value) || (value.flags = JJ_FLAG_MARKUP) == 0))
        return JJ_FLOW_ERROR;
    rt->at = node;
    if (!mr_jj_assign(rt, f, node->a, value)) return JJ_FLOW_ERROR;
    if (node->toplevel) export_names(rt, f, node->a);
    mr_jj_leave_scope(f, &node->scope);
    return JJ_FLOW_NEXT;
}

/* --- output --- */

static bool emit_value(jj_rt *rt, jj_value v) {
    if (rt->autoescape && !mr_jj_is_markup(v) && !mr_jj_escape(rt, v, &v)) return false;
    if (v.kind == JJ_STR) return mr_jj_emit(rt, v.u.s->data, v.u.s->len);
    if (v.kind == JJ_UNDEFINED) return true;
    mr_buf text = {0};
    bool ok = mr_jj_put_str(rt, &text, v) && mr_jj_emit(rt, mr_buf_cstr(&text), text.len);
    mr_buf_free(&text);
    return ok;
}

static bool exec_output(jj_rt *rt, jj_frame *f, const jj_node *node) {
    for (size_t i = 0; i < node->items.n; i++) {
        const jj_node *item = node->items.nodes[i];
        jj_value v = item->value;
        if (item->kind == JJ_N_DATA) {
            if (!mr_jj_emit(rt, v.u.s->data, v.u.s->len)) return false;
        } else if (!mr_jj_eval_output(rt, f, item, &v) || !emit_value(rt, v)) {
            return false;
        }
    }
    return true;
}

static jj_flow exec_filter_block(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value text, value;
    jj_flow flow = exec_captured(rt, f, node, &text);
    if (flow != JJ_FLOW_NEXT) return flow;
    if (!apply_filters(rt, f, node->a, text, &value) || !emit_value(rt, value)) return JJ_FLOW_ERROR;
    mr_jj_leave_scope(f, &node->scope);
    return JJ_FLOW_NEXT;
}

/* --- if, with, autoescape --- */

static jj_flow exec_if(jj_rt *rt, jj_frame *f, const jj_node *node) {
    for (size_t i = 0; i <= node->items.n; i++) {
        const jj_node *branch = i == 0 ? node : node->items.nodes[i - 1];
        jj_value v;
        bool truth;
        if (!mr_jj_eval(rt, f, branch->a, &v) || !mr_jj_truth(rt, v, &truth)) return JJ_FLOW_ERROR;
        if (truth) return mr_jj_exec_body(rt, f, &branch->body);
    }
    return mr_jj_exec_body(rt, f, &node->else_body);
}

static jj_flow exec_with(jj_rt *rt, jj_frame *f, const jj_node *node) {
    mr_jj_enter_scope(rt, f, &node->scope);
    for (size_t i = 0; i < node->items.n; i++) {
        jj_value v;
        if (!mr_jj_eval(rt, f, node->else_body.nodes[i], &v)) return JJ_FLOW_ERROR;
        if (!mr_jj_assign(rt, f, node->items.nodes[i], v)) return JJ_FLOW_ERROR;
    }
    jj_flow flow = mr_jj_exec_body(rt, f, &node->body);
    if (flow == JJ_FLOW_NEXT) mr_jj_leave_scope(f, &node->scope);
    return flow;
}

static jj_flow exec_autoescape(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value v;
    bool truth, before = rt->autoescape;
    mr_jj_enter_scope(rt, f, &node->scope);
    if (!mr_jj_eval(rt, f, node->a, &v) || !mr_jj_truth(rt, v, &truth)) return JJ_FLOW_ERROR;
    rt->autoescape = truth;
    jj_flow flow = mr_jj_exec_body(rt, f, &node->body);
    if (flow == JJ_FLOW_NEXT) {
        /* Leaving by break or continue skips the statement that switches back. */
        rt->autoescape = before;
        mr_jj_leave_scope(f, &node->scope);
    }
    return flow;
}

/* --- macros and blocks --- */

static bool new_macro(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_macro *macro = mr_jj_alloc(rt, sizeof *macro);
    if (macro == NULL) return false;
    *macro = (jj_macro){.node = node, .outer = f, .autoescape = rt->autoescape};
    *out = (jj_value){.kind = JJ_MACRO, .u.macro = macro};
    return true;
}

static bool exec_macro(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value macro;
    if (!new_macro(rt, f, node, &macro)) return false;
    *mr_jj_slot(f, node->ref) = macro;
    if (node->toplevel) rt->context->vars[node->name_id] = macro;
    return true;
}

static bool exec_call_block(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value caller, result;
    if (!new_macro(rt, f, node, &caller)) return false;
    if (node->a == NULL) {
        jj_args none = {0};
        if (!mr_jj_call_macro(rt, caller.u.macro, &none, &result)) return false;
    } else if (!mr_jj_eval_call(rt, f, node->a, caller, &result)) {
        return false;
    }
    return emit_value(rt, result);
}

static bool enter_call(jj_rt *rt) {
    if (rt->depth >= rt->max_depth) return mr_jj_raise(rt, JJ_ERR_LIMIT, "maximum recursion depth exceeded");
    rt->depth++;
    return true;
}

/* Puts the given arguments into the parameters' slots; what is left of the keywords is marked in used[]. */
static bool bind_parameters(jj_rt *rt, jj_frame *f, const jj_macro *macro, const jj_args *args, bool *used) {
    const jj_function_info *info = macro->node->x.func;
    size_t n = info->params.n, given = args->n_pos < n ? args->n_pos : n;
    for (size_t i = 0; i < given; i++) f->slots[info->param_slots[i]] = args->pos[i];
    for (size_t i = given; i < n; i++) {
        const jj_str *name = info->params.nodes[i]->name;
        for (size_t k = 0; k < args->n_kw; k++) {
            if (!mr_jj_str_eq(args->kw[k].name.u.s, name)) continue;
            f->slots[info->param_slots[i]] = args->kw[k].value;
            used[k] = true;
        }
    }
    return mr_jj_step(rt, n * (args->n_kw + 1));
}

static const char *macro_name(const jj_macro *macro) {
    return macro->node->name == NULL ? "None" : macro->node->name->data;
}

static bool bind_caller(jj_rt *rt, jj_frame *f, const jj_macro *macro, const jj_args *args, bool *used) {
    int64_t slot = macro->node->x.func->caller_slot;
    if (slot < 0) return true;
    for (size_t k = 0; k < args->n_kw; k++) {
        if (used[k] || !mr_jj_str_is(args->kw[k].name.u.s, "caller")) continue;
        used[k] = true;
        if (args->kw[k].value.kind == JJ_NONE) continue;
        f->slots[slot] = args->kw[k].value;
        return true;
    }
    return mr_jj_undefined_hint(rt, "No caller defined", &f->slots[slot]);
}

static bool bind_rest(jj_rt *rt, jj_frame *f, const jj_macro *macro, const jj_args *args, const bool *used) {
    const jj_function_info *info = macro->node->x.func;
    jj_dict *rest;
    if (!mr_jj_dict_new(rt, 0, &rest)) return false;
    for (size_t k = 0; k < args->n_kw; k++) {
        if (!used[k] && !mr_jj_dict_put(rt, rest, args->kw[k].name, args->kw[k].value)) return false;
    }
    if (info->kwargs_slot >= 0) {
        f->slots[info->kwargs_slot] = mr_jj_dict_value(rest);
    } else if (rest->n > 0) {
        if (mr_jj_dict_get_str(rest, "caller", 6) != NULL) {
            return mr_jj_raise(
                rt, JJ_ERR_TYPE,
                "macro '%s' was invoked with two values for the special caller argument. This is most likely "
                "a bug.",
                macro_name(macro));
        }
        return mr_jj_raise(rt, JJ_ERR_TYPE, "macro '%s' takes no keyword argument %s", macro_name(macro),
                           mr_jj_repr_cstr(rt, rest->entries[0].key));
    }
    size_t n = info->params.n;
    if (info->varargs_slot >= 0) {
        jj_vec more = {0};
        for (size_t i = n; i < args->n_pos; i++) {
            if (!mr_jj_vec_push(rt, &more, args->pos[i])) return false;
        }
        return mr_jj_vec_list(rt, &more, JJ_TUPLE, &f->slots[info->varargs_slot]);
    }
    if (args->n_pos > n) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "macro '%s' takes not more than %zu argument(s)", macro_name(macro), n);
    }
    return true;
}

/* Defaults of the parameters that were not given, evaluated inside of the macro. */
static bool bind_defaults(jj_rt *rt, jj_frame *f, const jj_macro *macro) {
    const jj_function_info *info = macro->node->x.func;
    size_t first_default = info->params.n - info->defaults.n;
    for (size_t i = 0; i < info->params.n; i++) {
        jj_value v;
        if (f->slots[info->param_slots[i]].kind != JJ_MISSING) continue;
        if (i >= first_default) {
            if (!mr_jj_eval(rt, f, info->defaults.nodes[i - first_default], &v)) return false;
        } else {
            const jj_str *name = info->params.nodes[i]->name;
            size_t size = name->len + 40;
            char *hint = mr_jj_alloc(rt, size);
            if (hint == NULL) return false;
            snprintf(hint, size, "parameter '%s' was not provided", name->data);
            if (!mr_jj_undefined_hint(rt, hint, &v)) return false;
        }
        f->slots[info->param_slots[i]] = v;
    }
    return true;
}

bool mr_jj_call_macro(jj_rt *rt, const jj_macro *macro, const jj_args *args, jj_value *out) {
    const jj_node *node = macro->node;
    const jj_node *at = rt->at;
    bool autoescape = rt->autoescape;
    jj_frame *f = mr_jj_new_frame(rt, node->x.func->func, macro->outer);
    bool *used = mr_jj_calloc(rt, args->n_kw, sizeof *used);
    if (f == NULL || used == NULL || !enter_call(rt)) return false;
    bool ok = bind_parameters(rt, f, macro, args, used) && bind_caller(rt, f, macro, args, used) &&
              bind_rest(rt, f, macro, args, used);
    if (ok) {
        jj_capture capture;
        mr_jj_capture_begin(rt, &capture);
        mr_jj_enter_scope(rt, f, &node->scope);
        ok = bind_defaults(rt, f, macro) && mr_jj_exec_body(rt, f, &node->body) != JJ_FLOW_ERROR;
        ok = mr_jj_capture_end(rt, &capture, ok, out);
    }
    rt->depth--;
    if (ok) rt->at = at;
    if (ok && autoescape) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

/* Runs a block's body with the current context. */
static bool run_block(jj_rt *rt, const jj_node *node) {
    const jj_function_info *info = node->x.func;
    jj_frame *f = mr_jj_new_frame(rt, info->func, NULL);
    if (f == NULL || !enter_call(rt)) return false;
    if (info->caller_slot >= 0) f->slots[info->caller_slot] = (jj_value){.kind = JJ_SELF};
    if (info->kwargs_slot >= 0) {
        size_t size = node->name->len + 48;
        char *hint = mr_jj_alloc(rt, size);
        if (hint == NULL) return false;
        snprintf(hint, size, "there is no parent block called '%s'.", node->name->data);
        if (!mr_jj_undefined_hint(rt, hint, &f->slots[info->kwargs_slot])) return false;
    }
    mr_jj_enter_scope(rt, f, &node->scope);
    bool ok = mr_jj_exec_body(rt, f, &node->body) != JJ_FLOW_ERROR;
    rt->depth--;
    return ok;
}

bool mr_jj_call_block(jj_rt *rt, const jj_node *block, jj_value *out) {
    jj_capture capture;
    mr_jj_capture_begin(rt, &capture);
    bool ok = run_block(rt, block);
    ok = mr_jj_capture_end(rt, &capture, ok, out);
    if (ok && rt->autoescape) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

static jj_context *new_context(jj_rt *rt, jj_context *base) {
    jj_context *c = mr_jj_alloc(rt, sizeof *c);
    if (c == NULL) return NULL;
    c->base = base;
    c->vars = mr_jj_calloc(rt, rt->jinja->n_names, sizeof *c->vars);
    return c->vars == NULL ? NULL : c;
}

static bool exec_block(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_context *saved = rt->context;
    if (node->flag2) return mr_jj_raise(rt, JJ_ERR_RUNTIME, "Required block '%s' not found", node->name->data);
    if (node->flag) {
        jj_context *derived = new_context(rt, saved);
        if (derived == NULL) return false;
        derived->locals = mr_jj_calloc(rt, rt->jinja->n_names, sizeof *derived->locals);
        if (derived->locals == NULL) return false;
        for (size_t i = 0; i < node->locals.n; i++) {
            const jj_load *local = &node->locals.loads[i];
            derived->locals[local->name] = *mr_jj_slot(f, local->from);
        }
        rt->context = derived;
    }
    bool ok = run_block(rt, node);
    rt->context = saved;
    return ok;
}

static bool exec_external(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value name;
    if (!mr_jj_eval(rt, f, node->a, &name)) return false;
    rt->at = node;
    return mr_jj_raise(rt, JJ_ERR_UNSUPPORTED, "a chat template stands alone: it can't load %s",
                       mr_jj_repr_cstr(rt, name));
}

static jj_flow flow_of(bool ok) {
    return ok ? JJ_FLOW_NEXT : JJ_FLOW_ERROR;
}

static jj_flow exec(jj_rt *rt, jj_frame *f, const jj_node *node) {
    rt->at = node;
    if (!mr_jj_enter(rt)) return JJ_FLOW_ERROR;
    switch (node->kind) {
    case JJ_N_OUTPUT:
        return flow_of(exec_output(rt, f, node));
    case JJ_N_IF:
        return exec_if(rt, f, node);
    case JJ_N_FOR:
        return mr_jj_exec_for(rt, f, node);
    case JJ_N_SET:
        return flow_of(exec_set(rt, f, node));
    case JJ_N_SET_BLOCK:
        return exec_set_block(rt, f, node);
    case JJ_N_MACRO:
        return flow_of(exec_macro(rt, f, node));
    case JJ_N_CALL_BLOCK:
        return flow_of(exec_call_block(rt, f, node));
    case JJ_N_FILTER_BLOCK:
        return exec_filter_block(rt, f, node);
    case JJ_N_WITH:
        return exec_with(rt, f, node);
    case JJ_N_AUTOESCAPE:
        return exec_autoescape(rt, f, node);
    case JJ_N_BLOCK:
        return flow_of(exec_block(rt, f, node));
    case JJ_N_BREAK:
        return JJ_FLOW_BREAK;
    case JJ_N_CONTINUE:
        return JJ_FLOW_CONTINUE;
    default:
        return flow_of(exec_external(rt, f, node));
    }
}

jj_flow mr_jj_exec_body(jj_rt *rt, jj_frame *f, const jj_body *body) {
    for (size_t i = 0; i < body->n; i++) {
        jj_flow flow = exec(rt, f, body->nodes[i]);
        if (flow != JJ_FLOW_NEXT) return flow;
    }
    return JJ_FLOW_NEXT;
}

bool mr_jj_render_template(jj_rt *rt) {
    const jj_node *root = rt->jinja->root;
    const jj_function_info *info = root->x.func;
    rt->context = new_context(rt, NULL);
    jj_frame *f = rt->context == NULL ? NULL : mr_jj_new_frame(rt, info->func, NULL);
    if (f == NULL) return false;
    if (info->caller_slot >= 0) f->slots[info->caller_slot] = (jj_value){.kind = JJ_SELF};
    mr_jj_enter_scope(rt, f, &root->scope);
    return mr_jj_exec_body(rt, f, &root->body) != JJ_FLOW_ERROR;
}
