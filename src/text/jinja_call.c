/* Calls, and the global functions of templates. */
#include "text/jinja_eval.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const jj_builtin *mr_jj_find_in(const jj_builtin *table, size_t n, const char *name, size_t len) {
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0) return &table[i];
    }
    return NULL;
}

/* One parameter of a builtin, read from its params text. */
typedef struct param {
    const char *name;
    size_t len;
    bool optional, unnamed;
} param;

static const char *next_param(const char *text, param *p) {
    while (*text == ' ') text++;
    if (*text == '\0') return NULL;
    p->unnamed = *text == '/';
    if (p->unnamed) text++;
    p->name = text;
    p->len = strcspn(text, " ?");
    text += p->len;
    p->optional = *text == '?';
    return text + p->optional;
}

static bool bind_keywords(jj_rt *rt, const jj_builtin *fn, const param *params, size_t n, const jj_args *args,
                          jj_call *call) {
    for (size_t k = 0; k < args->n_kw; k++) {
        const jj_str *name = args->kw[k].name.u.s;
        size_t i = 0;
        while (i < n &&
               (params[i].unnamed || params[i].len != name->len || memcmp(params[i].name, name->data, name->len) != 0))
            i++;
        if (i == n) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "%s() got an unexpected keyword argument '%.*s'", fn->name,
                               (int)name->len, name->data);
        }
        if (call->a[i].kind != JJ_MISSING) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "%s() got multiple values for argument '%.*s'", fn->name,
                               (int)name->len, name->data);
        }
        call->a[i] = args->kw[k].value;
    }
    return true;
}

bool mr_jj_call_builtin(jj_rt *rt, const jj_builtin *fn, jj_value self, const jj_args *args, jj_value *out) {
    jj_call call = {.self = self, .raw = args};
    if (!mr_jj_enter(rt)) return false;
    if (fn->params == NULL) return fn->fn(rt, &call, out);
    param params[JJ_MAX_PARAMS];
    size_t n = 0;
    for (const char *text = fn->params; n < JJ_MAX_PARAMS && (text = next_param(text, &params[n])) != NULL;) n++;
    if (args->n_pos > n) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "%s() takes at most %zu argument%s (%zu given)", fn->name, n,
                           n == 1 ? "" : "s", args->n_pos);
    }
    for (size_t i = 0; i < args->n_pos; i++) call.a[i] = args->pos[i];
    if (!bind_keywords(rt, fn, params, n, args, &call)) return false;
    for (size_t i = 0; i < n; i++) {
        if (call.a[i].kind == JJ_MISSING && !params[i].optional) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "%s() missing required argument: '%.*s'", fn->name, (int)params[i].len,
                               params[i].name);
        }
    }
    return fn->fn(rt, &call, out);
}

static bool no_arguments(jj_rt *rt, const char *name, const jj_args *args) {
    if (args->n_pos == 0 && args->n_kw == 0) return true;
    return mr_jj_raise(rt, JJ_ERR_TYPE, "%s() takes no arguments", name);
}

static bool call_joiner(jj_rt *rt, jj_cycler *joiner, jj_value *out) {
    if (joiner->used) {
        *out = joiner->sep;
        return true;
    }
    joiner->used = true;
    return mr_jj_str_borrow(rt, "", 0, out);
}

bool mr_jj_call(jj_rt *rt, jj_value callee, const jj_args *args, jj_value *out) {
    switch (callee.kind) {
    case JJ_UNDEFINED:
        return mr_jj_raise_undefined(rt, callee);
    case JJ_BUILTIN:
        return mr_jj_call_builtin(rt, callee.u.builtin, (jj_value){0}, args, out);
    case JJ_METHOD:
        return mr_jj_call_builtin(rt, callee.u.method->fn, callee.u.method->self, args, out);
    case JJ_MACRO:
        return mr_jj_call_macro(rt, callee.u.macro, args, out);
    case JJ_LOOP:
        if (args->n_pos != 1 || args->n_kw != 0) {
            return mr_jj_raise(rt, JJ_ERR_TYPE, "a recursive loop is called with one argument: what to loop over");
        }
        return mr_jj_call_loop(rt, callee.u.loop, args->pos[0], out);
    case JJ_JOINER:
        return no_arguments(rt, "joiner", args) && call_joiner(rt, callee.u.cycler, out);
    case JJ_BLOCK:
        return no_arguments(rt, "block", args) && mr_jj_call_block(rt, callee.u.node, out);
    default:
        return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object is not callable", mr_jj_type_name(callee));
    }
}

/* --- globals --- */

static bool index_argument(jj_rt *rt, jj_value v, int64_t *i) {
    if (mr_jj_index(v, i)) return true;
    if (v.kind == JJ_BIG)
        return mr_jj_raise(rt, JJ_ERR_OVERFLOW,
                           "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    return mr_jj_raise(rt, JJ_ERR_TYPE, "'%s' object cannot be interpreted as an integer", mr_jj_type_name(v));
}

static bool global_range(jj_rt *rt, const jj_call *call, jj_value *out) {
    const int64_t max_range = 100000;
    int64_t v[3] = {0, 0, 1};
    size_t given = call->a[1].kind == JJ_MISSING ? 1 : call->a[2].kind == JJ_MISSING ? 2 : 3;
    for (size_t i = 0; i < given; i++) {
        if (!index_argument(rt, call->a[i], &v[given == 1 ? 1 : i])) return false;
    }
    if (v[2] == 0) return mr_jj_raise(rt, JJ_ERR_VALUE, "range() arg 3 must not be zero");
    uint64_t n = 0, step = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2];
    if (v[2] > 0 && v[1] > v[0]) n = ((uint64_t)v[1] - (uint64_t)v[0] - 1) / step + 1;
    if (v[2] < 0 && v[0] > v[1]) n = ((uint64_t)v[0] - (uint64_t)v[1] - 1) / step + 1;
    if (n > (uint64_t)max_range) {
        return mr_jj_raise(rt, JJ_ERR_OVERFLOW,
                           "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%lld).",
                           (long long)max_range);
    }
    jj_range *range = mr_jj_alloc(rt, sizeof *range);
    if (range == NULL) return false;
    *range = (jj_range){.start = v[0], .stop = v[1], .step = v[2], .n = (int64_t)n};
    *out = (jj_value){.kind = JJ_RANGE, .u.range = range};
    return true;
}

/* Adds one (key, value) item of dict([...]). */
static bool add_pair(jj_rt *rt, jj_dict *dict, jj_value item, size_t i) {
    jj_vec pair;
    if (!mr_jj_is_iterable(item)) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "cannot convert dictionary update sequence element #%zu to a sequence", i);
    }
    if (!mr_jj_to_vec(rt, item, &pair)) return false;
    if (pair.n != 2) {
        return mr_jj_raise(rt, JJ_ERR_VALUE, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                           pair.n);
    }
    return mr_jj_dict_put(rt, dict, pair.items[0], pair.items[1]);
}

static bool fill_dict(jj_rt *rt, const jj_args *args, jj_dict *dict) {
    if (args->n_pos > 1) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "dict expected at most 1 argument, got %zu", args->n_pos);
    }
    if (args->n_pos == 1 && args->pos[0].kind == JJ_DICT) {
        const jj_dict *from = args->pos[0].u.d;
        for (size_t i = 0; i < from->n; i++) {
            if (!mr_jj_dict_put(rt, dict, from->entries[i].key, from->entries[i].value)) return false;
        }
    } else if (args->n_pos == 1) {
        if (args->pos[0].kind == JJ_UNDEFINED) return mr_jj_raise_undefined(rt, args->pos[0]);
        jj_iter *it;
        jj_value item;
        int got;
        if (!mr_jj_iterate(rt, args->pos[0], &it)) return false;
        for (size_t i = 0; (got = mr_jj_next(rt, it, &item)) > 0; i++) {
            if (!add_pair(rt, dict, item, i)) return false;
        }
        if (got < 0) return false;
    }
    for (size_t i = 0; i < args->n_kw; i++) {
        if (!mr_jj_dict_put(rt, dict, args->kw[i].name, args->kw[i].value)) return false;
    }
    return true;
}

static bool global_dict(jj_rt *rt, const jj_call *call, jj_value *out) {
    jj_dict *dict;
    if (!mr_jj_dict_new(rt, call->raw->n_kw, &dict) || !fill_dict(rt, call->raw, dict)) return false;
    *out = mr_jj_dict_value(dict);
    return true;
}

static bool global_namespace(jj_rt *rt, const jj_call *call, jj_value *out) {
    if (!global_dict(rt, call, out)) return false;
    out->kind = JJ_NAMESPACE;
    return true;
}

static bool global_cycler(jj_rt *rt, const jj_call *call, jj_value *out) {
    if (call->raw->n_kw > 0) return mr_jj_raise(rt, JJ_ERR_TYPE, "cycler() takes no keyword arguments");
    if (call->raw->n_pos == 0) return mr_jj_raise(rt, JJ_ERR_RUNTIME, "at least one item has to be provided");
    jj_cycler *cycler = mr_jj_alloc(rt, sizeof *cycler);
    if (cycler == NULL) return false;
    cycler->items = call->raw->pos;
    cycler->n = call->raw->n_pos;
    *out = (jj_value){.kind = JJ_CYCLER, .u.cycler = cycler};
    return true;
}

static bool global_joiner(jj_rt *rt, const jj_call *call, jj_value *out) {
    jj_cycler *joiner = mr_jj_alloc(rt, sizeof *joiner);
    if (joiner == NULL) return false;
    joiner->sep = call->a[0];
    if (joiner->sep.kind == JJ_MISSING && !mr_jj_str_borrow(rt, ", ", 2, &joiner->sep)) return false;
    *out = (jj_value){.kind = JJ_JOINER, .u.cycler = joiner};
    return true;
}

static bool global_raise_exception(jj_rt *rt, const jj_call *call, jj_value *out) {
    jj_value text;
    (void)out;
    if (!mr_jj_to_str(rt, call->a[0], &text)) return false;
    int len = text.u.s->len > INT_MAX ? INT_MAX : (int)text.u.s->len;
    return mr_jj_raise(rt, JJ_ERR_TEMPLATE, "%.*s", len, text.u.s->data);
}

/* strftime with what Python's datetime adds: %f, and %z and %Z empty for a local time without a zone. */
static bool put_time(mr_buf *buf, const char *format, size_t len, const struct tm *when) {
    for (size_t i = 0; i < len;) {
        if (format[i] != '%' || i + 1 >= len) {
            mr_buf_putc(buf, format[i++]);
            continue;
        }
        size_t n = 2;
        while (i + n < len && strchr("-_0^#", format[i + n - 1]) != NULL) n++;
        char spec[16], text[256];
        if (n >= sizeof spec) {
            mr_buf_append(buf, format + i, n);
            i += n;
            continue;
        }
        memcpy(spec, format + i, n);
        spec[n] = '\0';
        char kind = spec[n - 1];
        if (kind == 'f') {
            mr_buf_puts(buf, "000000");
        } else if (kind != 'z' && kind != 'Z') {
            mr_buf_append(buf, text, strftime(text, sizeof text, spec, when));
        }
        i += n;
    }
    return !buf->failed;
}

static bool global_strftime_now(jj_rt *rt, const jj_call *call, jj_value *out) {
    if (call->a[0].kind != JJ_STR) {
        return mr_jj_raise(rt, JJ_ERR_TYPE, "strftime() argument 1 must be str, not %s", mr_jj_type_name(call->a[0]));
    }
    time_t now = (time_t)rt->now_unix;
    struct tm when;
    tzset();
    if (localtime_r(&now, &when) == NULL) return mr_jj_raise(rt, JJ_ERR_VALUE, "the time can't be shown");
    mr_buf buf = {0};
    put_time(&buf, call->a[0].u.s->data, call->a[0].u.s->len, &when);
    bool ok = mr_jj_str_buf(rt, &buf, out);
    mr_buf_free(&buf);
    return ok;
}

static bool global_lipsum(jj_rt *rt, const jj_call *call, jj_value *out) {
    (void)call;
    (void)out;
    return mr_jj_raise(rt, JJ_ERR_UNSUPPORTED, "lipsum() is not available in chat templates");
}

static const jj_builtin globals[] = {
    {"range", "/start /stop? /step?", global_range},
    {"dict", NULL, global_dict},
    {"namespace", NULL, global_namespace},
    {"cycler", NULL, global_cycler},
    {"joiner", "sep?", global_joiner},
    {"raise_exception", "message", global_raise_exception},
    {"strftime_now", "format", global_strftime_now},
    {"lipsum", NULL, global_lipsum},
};

const jj_builtin *mr_jj_find_global(const char *name, size_t len) {
    return mr_jj_find_in(globals, sizeof globals / sizeof *globals, name, len);
}

const char *mr_jj_class_name(const jj_builtin *fn) {
    if (fn->fn == global_dict) return "dict";
    if (fn->fn == global_namespace) return "jinja2.utils.Namespace";
    if (fn->fn == global_cycler) return "jinja2.utils.Cycler";
    return fn->fn == global_joiner ? "jinja2.utils.Joiner" : NULL;
}
