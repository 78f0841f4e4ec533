/* The for statement and its `loop` variable. */
#include "text/jinja_eval.h"

#include <string.h>

/* State of a loop's filter: items for which the test holds, found as the loop asks for them. */
typedef struct filtered {
    const jj_loop_info *info;
    jj_frame *frame;
    jj_iter *inner;
} filtered;

/* The value a filtered loop yields: what the target unpacked, packed again. */
static bool repack(jj_rt *rt, jj_frame *f, const jj_node *target, jj_value *out) {
    if (target->kind == JJ_N_NAME) {
        *out = *mr_jj_slot(f, target->ref);
        return true;
    }
    jj_vec items = {0};
    for (size_t i = 0; i < target->items.n; i++) {
        jj_value item;
        if (!repack(rt, f, target->items.nodes[i], &item) || !mr_jj_vec_push(rt, &items, item)) return false;
    }
    return mr_jj_vec_list(rt, &items, JJ_TUPLE, out);
}

static int next_filtered(jj_rt *rt, jj_iter *it, jj_value *out) {
    filtered *state = it->state;
    jj_value item, verdict;
    int got;
    bool truth;
    if (state->inner == NULL && !mr_jj_iterate(rt, it->source, &state->inner)) return -1;
    while ((got = mr_jj_next(rt, state->inner, &item)) > 0) {
        if (!mr_jj_assign(rt, state->frame, state->info->test_target, item) ||
            !mr_jj_eval(rt, state->frame, state->info->test, &verdict) || !mr_jj_truth(rt, verdict, &truth)) {
            return -1;
        }
        if (truth) return repack(rt, state->frame, state->info->test_target, out) ? 1 : -1;
    }
    return got;
}

static bool filter_items(jj_rt *rt, jj_frame *f, const jj_loop_info *info, jj_value *iterable) {
    filtered *state = mr_jj_alloc(rt, sizeof *state);
    jj_iter *it;
    if (state == NULL || !mr_jj_iter_new(rt, next_filtered, "generator", &it)) return false;
    state->info = info;
    state->frame = mr_jj_new_frame(rt, info->test_func, f);
    if (state->frame == NULL) return false;
    mr_jj_enter_scope(rt, state->frame, &info->test_scope);
    it->state = state;
    it->source = *iterable;
    *iterable = (jj_value){.kind = JJ_ITER, .u.iter = it};
    return true;
}

static int advance(jj_rt *rt, jj_loop *loop, jj_value *item) {
    int got = 1;
    if (loop->after.kind != JJ_MISSING) {
        *item = loop->after;
        loop->after = (jj_value){0};
    } else {
        got = mr_jj_next(rt, loop->it, item);
    }
    if (got <= 0) return got;
    loop->index0++;
    loop->before = loop->current;
    loop->current = *item;
    return 1;
}

int mr_jj_loop_next(jj_rt *rt, jj_loop *loop, jj_value *out) {
    jj_value item;
    int got = advance(rt, loop, &item);
    if (got <= 0) return got;
    return mr_jj_pair(rt, item, (jj_value){.kind = JJ_LOOP, .u.loop = loop}, out) ? 1 : -1;
}

/* Looks at the next item without taking it: 1 there is one, 0 none, -1 error. */
static int peek(jj_rt *rt, jj_loop *loop) {
    if (loop->after.kind != JJ_MISSING) return 1;
    return mr_jj_next(rt, loop->it, &loop->after);
}

bool mr_jj_loop_length(jj_rt *rt, jj_loop *loop, int64_t *n) {
    if (loop->length < 0) {
        if (mr_jj_has_length(loop->iterable)) {
            if (!mr_jj_length(rt, loop->iterable, &loop->length)) return false;
        } else {
            jj_vec rest;
            jj_value list;
            if (!mr_jj_to_vec(rt, (jj_value){.kind = JJ_ITER, .u.iter = loop->it}, &rest) ||
                !mr_jj_vec_list(rt, &rest, JJ_LIST, &list) || !mr_jj_iterate(rt, list, &loop->it)) {
                return false;
            }
            loop->length = (int64_t)rest.n + loop->index0 + 1 + (loop->after.kind != JJ_MISSING);
        }
    }
    *n = loop->length;
    return true;
}

bool mr_jj_loop_attr(jj_rt *rt, jj_loop *loop, const jj_str *name, jj_value *out, bool *found) {
    static const char *const names[] = {"index0",    "index", "first",  "last",     "length",  "revindex",
                                        "revindex0", "depth", "depth0", "previtem", "nextitem"};
    size_t which = 0;
    int64_t n;
    while (which < sizeof names / sizeof *names && !mr_jj_str_is(name, names[which])) which++;
    *found = which < sizeof names / sizeof *names;
    if (which >= 4 && which <= 6 && !mr_jj_loop_length(rt, loop, &n)) return false;
    int next = which == 3 || which == 10 ? peek(rt, loop) : 0;
    if (next < 0) return false;
    switch (which) {
    case 0:
        *out = mr_jj_int(loop->index0);
        break;
    case 1:
        *out = mr_jj_int(loop->index0 + 1);
        break;
    case 2:
        *out = mr_jj_bool(loop->index0 == 0);
        break;
    case 3:
        *out = mr_jj_bool(next == 0);
        break;
    case 4:
        *out = mr_jj_int(n);
        break;
    case 5:
        *out = mr_jj_int(n - loop->index0);
        break;
    case 6:
        *out = mr_jj_int(n - loop->index0 - 1);
        break;
    case 7:
        *out = mr_jj_int(loop->depth0 + 1);
        break;
    case 8:
        *out = mr_jj_int(loop->depth0);
        break;
    case 9:
        if (loop->index0 == 0) return mr_jj_undefined_hint(rt, "there is no previous item", out);
        *out = loop->before;
        break;
    case 10:
        if (next == 0) return mr_jj_undefined_hint(rt, "there is no next item", out);
        *out = loop->after;
        break;
    default:
        break;
    }
    return true;
}

bool mr_jj_loop_cycle(jj_rt *rt, jj_loop *loop, const jj_args *args, jj_value *out) {
    if (args->n_pos == 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "no items for cycling given");
    int64_t n = (int64_t)args->n_pos, i = loop->index0 % n;
    *out = args->pos[i < 0 ? i + n : i];
    return true;
}

bool mr_jj_loop_changed(jj_rt *rt, jj_loop *loop, const jj_args *args, jj_value *out) {
    jj_vec vec = {.items = (jj_value *)args->pos, .n = args->n_pos};
    jj_value now;
    bool equal = false;
    if (!mr_jj_vec_list(rt, &vec, JJ_TUPLE, &now)) return false;
    if (loop->last_changed.kind != JJ_MISSING && !mr_jj_equal(rt, loop->last_changed, now, &equal)) return false;
    if (!equal) loop->last_changed = now;
    *out = mr_jj_bool(!equal);
    return true;
}

static bool start_loop(jj_rt *rt, jj_frame *outer, const jj_node *node, jj_value iterable, int64_t depth0,
                       jj_loop **out) {
    jj_loop *loop = mr_jj_alloc(rt, sizeof *loop);
    if (loop == NULL || !mr_jj_iterate(rt, iterable, &loop->it)) return false;
    loop->iterable = iterable;
    loop->index0 = -1;
    loop->length = -1;
    loop->depth0 = depth0;
    loop->node = node->x.loop->recursive ? node : NULL;
    loop->outer = outer;
    *out = loop;
    return true;
}

/* Runs the loop in f (its own activation when it is recursive, whose enclosing one is outer). */
static jj_flow run_loop(jj_rt *rt, jj_frame *f, jj_frame *outer, const jj_node *node, jj_value iterable,
                        int64_t depth0) {
    const jj_loop_info *info = node->x.loop;
    jj_loop *loop;
    jj_value item;
    bool completed = false;
    jj_flow flow = JJ_FLOW_NEXT;
    int got;
    rt->at = node;
    /* The filter is a function beside the loop's own, so its enclosing activation is the loop's. */
    if (info->test != NULL && !filter_items(rt, outer, info, &iterable)) return JJ_FLOW_ERROR;
    if (!start_loop(rt, outer, node, iterable, depth0, &loop)) return JJ_FLOW_ERROR;
    while ((got = advance(rt, loop, &item)) > 0) {
        if (info->extended) f->slots[info->loop_slot] = (jj_value){.kind = JJ_LOOP, .u.loop = loop};
        rt->at = node;
        if (!mr_jj_assign(rt, f, info->target, item)) return JJ_FLOW_ERROR;
        mr_jj_enter_scope(rt, f, &node->scope);
        flow = mr_jj_exec_body(rt, f, &node->body);
        if (flow == JJ_FLOW_ERROR || flow == JJ_FLOW_BREAK) break;
        if (flow == JJ_FLOW_NEXT) completed = true;
    }
    if (got < 0 || flow == JJ_FLOW_ERROR) return JJ_FLOW_ERROR;
    mr_jj_leave_scope(f, &node->scope);
    /* As in Jinja, the else part runs unless some round reached the end of the body. */
    if (completed || node->else_body.n == 0) return JJ_FLOW_NEXT;
    mr_jj_enter_scope(rt, f, &info->else_scope);
    flow = mr_jj_exec_body(rt, f, &node->else_body);
    mr_jj_leave_scope(f, &info->else_scope);
    return flow;
}

/* One level of a recursive loop, as text. */
static bool run_recursive(jj_rt *rt, jj_frame *outer, const jj_node *node, jj_value iterable, int64_t depth0,
                          jj_value *out) {
    jj_frame *f = mr_jj_new_frame(rt, node->x.loop->func, outer);
    if (f == NULL) return false;
    if (rt->depth >= rt->max_depth) return mr_jj_raise(rt, JJ_ERR_LIMIT, "maximum recursion depth exceeded");
    rt->depth++;
    jj_capture capture;
    mr_jj_capture_begin(rt, &capture);
    bool ok = run_loop(rt, f, outer, node, iterable, depth0) != JJ_FLOW_ERROR;
    ok = mr_jj_capture_end(rt, &capture, ok, out);
    rt->depth--;
    if (ok && rt->autoescape) out->flags = JJ_FLAG_MARKUP;
    return ok;
}

bool mr_jj_call_loop(jj_rt *rt, jj_loop *loop, jj_value iterable, jj_value *out) {
    if (loop->node == NULL) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "The loop must have the 'recursive' marker to be called recursively.");
    }
    return run_recursive(rt, loop->outer, loop->node, iterable, loop->depth0 + 1, out);
}

jj_flow mr_jj_exec_for(jj_rt *rt, jj_frame *f, const jj_node *node) {
    jj_value iterable, text;
    if (!mr_jj_eval(rt, f, node->a, &iterable)) return JJ_FLOW_ERROR;
    if (!node->x.loop->recursive) return run_loop(rt, f, f, node, iterable, 0);
    if (!run_recursive(rt, f, node, iterable, 0, &text)) return JJ_FLOW_ERROR;
    return mr_jj_emit(rt, text.u.s->data, text.u.s->len) ? JJ_FLOW_NEXT : JJ_FLOW_ERROR;
}
