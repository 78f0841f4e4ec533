/* Expressions. */
#include "text/jinja_eval.h"

#include <string.h>

jj_value *mr_jj_slot(jj_frame *f, jj_ref ref) {
    for (uint32_t i = 0; i < ref.hops; i++) f = f->outer;
    return &f->slots[ref.slot];
}

/* What ends the folding of an expression that turns out not to be constant. */
static bool not_constant(jj_rt *rt) {
    return mr_jj_raise(rt, JJ_ERR_RUNTIME, "not constant");
}

static bool eval_name(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    if (rt->folding) return not_constant(rt);
    *out = *mr_jj_slot(f, node->ref);
    if (out->kind != JJ_MISSING) return true;
    return mr_jj_undefined_name(rt, mr_jj_str_static(node->name), out);
}

static bool eval_items(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_vec vec = {.n = node->items.n, .items = mr_jj_calloc(rt, node->items.n, sizeof(jj_value))};
    if (vec.items == NULL) return false;
    for (size_t i = 0; i < vec.n; i++) {
        if (!mr_jj_eval(rt, f, node->items.nodes[i], &vec.items[i])) return false;
    }
    return mr_jj_vec_list(rt, &vec, node->kind == JJ_N_LIST ? JJ_LIST : JJ_TUPLE, out);
}

static bool eval_dict(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_dict *dict;
    size_t n = node->items.n;
    jj_value *parts = mr_jj_calloc(rt, n, sizeof *parts);
    if (parts == NULL || !mr_jj_dict_new(rt, n / 2, &dict)) return false;
    for (size_t i = 0; i < n; i++) {
        if (!mr_jj_eval(rt, f, node->items.nodes[i], &parts[i])) return false;
    }
    rt->at = node;
    for (size_t i = 0; i + 1 < n; i += 2) {
        if (!mr_jj_dict_put(rt, dict, parts[i], parts[i + 1])) return false;
    }
    *out = mr_jj_dict_value(dict);
    return true;
}

/* a ~ b ~ c: the texts of all, joined (escaping when HTML is on). */
static bool eval_concat(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value parts[2] = {{0}};
    bool markup = false;
    jj_vec values = {.n = node->items.n, .items = mr_jj_calloc(rt, node->items.n, sizeof(jj_value))};
    if (values.items == NULL) return false;
    for (size_t i = 0; i < values.n; i++) {
        if (!mr_jj_eval(rt, f, node->items.nodes[i], &values.items[i])) return false;
        markup = markup || (rt->autoescape && mr_jj_is_markup(values.items[i]));
    }
    for (size_t i = 0; i < values.n; i++) {
        jj_value text;
        if (!(markup ? mr_jj_escape(rt, values.items[i], &text) : mr_jj_to_str(rt, values.items[i], &text)))
            return false;
        if (i == 0) {
            parts[0] = text;
        } else {
            if (!mr_jj_str_concat(rt, parts[0].u.s, text.u.s, &parts[1])) return false;
            parts[0] = parts[1];
        }
    }
    *out = parts[0];
    out->flags = markup ? JJ_FLAG_MARKUP : 0;
    return true;
}

static bool compare(jj_rt *rt, uint8_t op, jj_value a, jj_value b, bool *result) {
    bool ok;
    switch (op) {
    case JJ_T_EQ:
        return mr_jj_equal(rt, a, b, result);
    case JJ_T_NE:
        ok = mr_jj_equal(rt, a, b, result);
        *result = !*result;
        return ok;
    case JJ_T_GT:
        return mr_jj_less(rt, ">", a, b, result);
    case JJ_T_GTEQ:
        return mr_jj_less(rt, ">=", a, b, result);
    case JJ_T_LT:
        return mr_jj_less(rt, "<", a, b, result);
    case JJ_T_LTEQ:
        return mr_jj_less(rt, "<=", a, b, result);
    default:
        ok = mr_jj_contains(rt, a, b, result);
        if (op == 'n') *result = !*result;
        return ok;
    }
}

static bool eval_compare(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value left, right;
    bool result = true;
    if (!mr_jj_eval(rt, f, node->a, &left)) return false;
    for (size_t i = 0; result && i < node->items.n; i++) {
        const jj_node *operand = node->items.nodes[i];
        if (!mr_jj_eval(rt, f, operand->a, &right)) return false;
        rt->at = node;
        if (!compare(rt, operand->op, left, right, &result)) return false;
        left = right;
    }
    *out = mr_jj_bool(result);
    return true;
}

static bool eval_truth(jj_rt *rt, jj_frame *f, const jj_node *node, bool *truth) {
    jj_value v;
    return mr_jj_eval(rt, f, node, &v) && mr_jj_truth(rt, v, truth);
}

static bool eval_logic(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    bool truth;
    if (!mr_jj_eval(rt, f, node->a, out) || !mr_jj_truth(rt, *out, &truth)) return false;
    if (truth == (node->kind == JJ_N_OR)) return true;
    return mr_jj_eval(rt, f, node->b, out);
}

static bool eval_cond(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    bool truth;
    if (!eval_truth(rt, f, node->a, &truth)) return false;
    if (truth) return mr_jj_eval(rt, f, node->b, out);
    if (node->c != NULL) return mr_jj_eval(rt, f, node->c, out);
    char text[120];
    int n = snprintf(text, sizeof text,
                     "the inline if-expression on line %u evaluated to false and no else section was defined.",
                     (unsigned)node->line);
    char *hint = mr_jj_alloc(rt, (size_t)n + 1);
    if (hint == NULL) return false;
    memcpy(hint, text, (size_t)n);
    return mr_jj_undefined_hint(rt, hint, out);
}

static bool eval_slice_part(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    *out = mr_jj_none();
    return node == NULL || mr_jj_eval(rt, f, node, out);
}

static bool eval_getitem(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value obj, key;
    if (!mr_jj_eval(rt, f, node->a, &obj)) return false;
    if (node->b->kind == JJ_N_SLICE) {
        jj_slice slice;
        if (!eval_slice_part(rt, f, node->b->a, &slice.start) || !eval_slice_part(rt, f, node->b->b, &slice.stop) ||
            !eval_slice_part(rt, f, node->b->c, &slice.step)) {
            return false;
        }
        rt->at = node;
        if (mr_jj_slice(rt, obj, &slice, out)) return true;
        if (!rt->folding || rt->error != JJ_ERR_TYPE) return false;
        rt->error = JJ_ERR_NONE;
        return mr_jj_undefined_attr(rt, obj, mr_jj_none(), out);
    }
    if (!mr_jj_eval(rt, f, node->b, &key)) return false;
    rt->at = node;
    return mr_jj_getitem(rt, obj, key, out);
}

static bool extend_positional(jj_rt *rt, jj_frame *f, const jj_node *node, jj_vec *pos) {
    jj_value v, item;
    jj_iter *it;
    int got;
    if (!mr_jj_eval(rt, f, node, &v)) return false;
    if (!mr_jj_is_iterable(v)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "argument after * must be an iterable, not %s", mr_jj_type_name(v));
    }
    if (!mr_jj_iterate(rt, v, &it)) return false;
    while ((got = mr_jj_next(rt, it, &item)) > 0) {
        if (!mr_jj_vec_push(rt, pos, item)) return false;
    }
    return got == 0;
}

/* The **mapping behind the keywords. */
static bool extend_keywords(jj_rt *rt, jj_frame *f, const jj_node *node, const jj_dict **out) {
    jj_value v;
    if (!mr_jj_eval(rt, f, node, &v)) return false;
    if (v.kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, v);
    if (v.kind != JJ_DICT) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "argument after ** must be a mapping, not %s", mr_jj_type_name(v));
    }
    for (size_t i = 0; i < v.u.d->n; i++) {
        if (v.u.d->entries[i].key.kind != JJ_STR) return mr_jj_raise(rt, JJ_ERR_TYPE, "keywords must be strings");
    }
    *out = v.u.d;
    return true;
}

static bool add_keyword(jj_rt *rt, jj_kwarg *kw, size_t *n, jj_value name, jj_value value) {
    for (size_t i = 0; i < *n; i++) {
        if (mr_jj_str_eq(kw[i].name.u.s, name.u.s)) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "got multiple values for keyword argument '%.*s'", (int)name.u.s->len,
                               name.u.s->data);
        }
    }
    kw[(*n)++] = (jj_kwarg){name, value};
    return mr_jj_step(rt, 1 + *n / 4);
}

bool mr_jj_eval_args(jj_rt *rt, jj_frame *f, const jj_call_args *args, jj_value caller, jj_args *out) {
    static const jj_str caller_name = {.data = "caller", .len = 6, .n_chars = 6};
    jj_vec pos = {.cap = args->pos.n, .items = mr_jj_calloc(rt, args->pos.n, sizeof(jj_value))};
    if (pos.items == NULL) return false;
    for (size_t i = 0; i < args->pos.n; i++) {
        if (!mr_jj_eval(rt, f, args->pos.nodes[i], &pos.items[i])) return false;
        pos.n++;
    }
    if (args->dyn_args != NULL && !extend_positional(rt, f, args->dyn_args, &pos)) return false;
    jj_vec named = {.cap = args->kw.n, .items = mr_jj_calloc(rt, args->kw.n, sizeof(jj_value))};
    if (named.items == NULL) return false;
    for (size_t i = 0; i < args->kw.n; i++) {
        if (!mr_jj_eval(rt, f, args->kw.nodes[i], &named.items[i])) return false;
    }
    const jj_dict *extra = NULL;
    if (args->dyn_kwargs != NULL && !extend_keywords(rt, f, args->dyn_kwargs, &extra)) return false;
    size_t n_kw = args->kw.n + (extra == NULL ? 0 : extra->n) + 1, n = 0;
    jj_kwarg *kw = mr_jj_calloc(rt, n_kw, sizeof *kw);
    if (kw == NULL) return false;
    for (size_t i = 0; i < args->kw.n; i++) {
        if (!add_keyword(rt, kw, &n, mr_jj_str_static(args->kw_names[i]), named.items[i])) return false;
    }
    for (size_t i = 0; extra != NULL && i < extra->n; i++) {
        if (!add_keyword(rt, kw, &n, extra->entries[i].key, extra->entries[i].value)) return false;
    }
    if (caller.kind != JJ_MISSING && !add_keyword(rt, kw, &n, mr_jj_str_static(&caller_name), caller)) return false;
    *out = (jj_args){.pos = pos.items, .n_pos = pos.n, .kw = kw, .n_kw = n};
    return true;
}

bool mr_jj_eval_call(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value caller, jj_value *out) {
    jj_value callee;
    jj_args args;
    if (rt->folding) return not_constant(rt);
    if (!mr_jj_eval(rt, f, node->a, &callee) || !mr_jj_eval_args(rt, f, node->x.args, caller, &args)) return false;
    rt->at = node;
    return mr_jj_call(rt, callee, &args, out);
}

bool mr_jj_eval_filter(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value subject, jj_value *out) {
    jj_args given, args;
    if (rt->folding && !node->constant) return not_constant(rt);
    if (!mr_jj_eval_args(rt, f, node->x.args, (jj_value){0}, &given)) return false;
    rt->at = node;
    if (node->builtin == NULL) {
        return mr_jj_raise(rt, JJ_ERR_RUNTIME, "No %s named '%s' found.", node->kind == JJ_N_FILTER ? "filter" : "test",
                           node->name->data);
    }
    jj_value *pos = mr_jj_calloc(rt, given.n_pos + 1, sizeof *pos);
    if (pos == NULL) return false;
    pos[0] = subject;
    if (given.n_pos > 0) memcpy(pos + 1, given.pos, given.n_pos * sizeof *pos);
    args = given;
    args.pos = pos;
    args.n_pos = given.n_pos + 1;
    return mr_jj_call_builtin(rt, node->builtin, (jj_value){0}, &args, out);
}

static bool eval_unary(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value v;
    bool truth;
    if (!mr_jj_eval(rt, f, node->a, &v)) return false;
    rt->at = node;
    if (node->kind == JJ_N_NEG) return mr_jj_negate(rt, v, out);
    if (node->kind == JJ_N_POS) return mr_jj_positive(rt, v, out);
    if (!mr_jj_truth(rt, v, &truth)) return false;
    *out = mr_jj_bool(!truth);
    return true;
}

static bool eval_binary(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value a, b;
    if (!mr_jj_eval(rt, f, node->a, &a) || !mr_jj_eval(rt, f, node->b, &b)) return false;
    rt->at = node;
    return mr_jj_binary(rt, (char)node->op, a, b, out);
}

static bool eval_getattr(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value obj;
    if (!mr_jj_eval(rt, f, node->a, &obj)) return false;
    rt->at = node;
    return mr_jj_getattr(rt, obj, node->value, out);
}

/* Whether Jinja's compiler can write the value into its code. */
static bool is_literal(jj_rt *rt, jj_value v) {
    if (!mr_jj_enter(rt)) return false;
    switch (v.kind) {
    case JJ_NONE:
    case JJ_BOOL:
    case JJ_INT:
    case JJ_BIG:
    case JJ_FLOAT:
    case JJ_STR:
    case JJ_RANGE:
        return true;
    case JJ_LIST:
    case JJ_TUPLE:
        for (size_t i = 0; i < v.u.l->n; i++) {
            if (!is_literal(rt, v.u.l->items[i])) return false;
        }
        return true;
    case JJ_DICT:
        for (size_t i = 0; i < v.u.d->n; i++) {
            if (!is_literal(rt, v.u.d->entries[i].key) || !is_literal(rt, v.u.d->entries[i].value)) return false;
        }
        return true;
    default:
        return false;
    }
}

/* Jinja evaluates constant expressions when it compiles, and there a slice that is not possible is an undefined value.
 * If that leads to a value, it stands; if not, the expression is evaluated as any other, where such a slice is an
 * error. Returns whether *out is set. */
static bool fold(jj_rt *rt, jj_frame *f, const jj_node *node, bool printed, jj_value *out) {
    rt->folding = true;
    bool ok = mr_jj_eval(rt, f, node, out) && (printed || is_literal(rt, *out));
    rt->folding = false;
    if (!ok && rt->error != JJ_ERR_LIMIT && rt->error != JJ_ERR_NOMEM) rt->error = JJ_ERR_NONE;
    return ok;
}

bool mr_jj_eval_output(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    if (node->folds && fold(rt, f, node, true, out)) return true;
    return mr_jj_eval(rt, f, node, out);
}

bool mr_jj_eval(jj_rt *rt, jj_frame *f, const jj_node *node, jj_value *out) {
    jj_value subject;
    if (!mr_jj_enter(rt)) return false;
    if (node->folds && !rt->folding && fold(rt, f, node, false, out)) return true;
    rt->at = node;
    switch (node->kind) {
    case JJ_N_CONST:
        *out = node->value;
        return true;
    case JJ_N_NAME:
        return eval_name(rt, f, node, out);
    case JJ_N_TUPLE:
    case JJ_N_LIST:
        return eval_items(rt, f, node, out);
    case JJ_N_DICT:
        return eval_dict(rt, f, node, out);
    case JJ_N_CONCAT:
        return eval_concat(rt, f, node, out);
    case JJ_N_COMPARE:
        return eval_compare(rt, f, node, out);
    case JJ_N_BINARY:
        return eval_binary(rt, f, node, out);
    case JJ_N_AND:
    case JJ_N_OR:
        return eval_logic(rt, f, node, out);
    case JJ_N_NOT:
    case JJ_N_NEG:
    case JJ_N_POS:
        return eval_unary(rt, f, node, out);
    case JJ_N_COND:
        return eval_cond(rt, f, node, out);
    case JJ_N_GETATTR:
        return eval_getattr(rt, f, node, out);
    case JJ_N_GETITEM:
        return eval_getitem(rt, f, node, out);
    case JJ_N_CALL:
        return mr_jj_eval_call(rt, f, node, (jj_value){0}, out);
    case JJ_N_FILTER:
    case JJ_N_TEST:
        return mr_jj_eval(rt, f, node->a, &subject) && mr_jj_eval_filter(rt, f, node, subject, out);
    default:
        return mr_jj_raise(rt, JJ_ERR_RUNTIME, "this expression can't be evaluated here");
    }
}
