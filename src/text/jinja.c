#include "text/jinja.h"
#include "text/jinja_eval.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SOURCE = 1 << 20, PARSE_MEMORY = 192 << 20, PARSE_WORK = 100000000 };

/* --- parsing --- */

/* \r\n and \r become \n, and one newline at the end goes. */
static char *normalize_newlines(const char *source, size_t len, size_t *out_len) {
    char *text = malloc(len + 1);
    size_t n = 0;
    if (text == NULL) return NULL;
    for (size_t i = 0; i < len; i++) {
        text[n++] = source[i] == '\r' ? '\n' : source[i];
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n') i++;
    }
    if (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    *out_len = n;
    return text;
}

static mr_status parse(struct mr_jinja *jinja, const char *text, size_t len, mr_error *err) {
    char here;
    jj_parse p = {.jinja = jinja, .source = text, .len = len, .work_left = PARSE_WORK, .stack_base = &here, .err = err};
    bool ok = mr_jj_lex(&p) && mr_jj_parse_template(&p) && mr_jj_resolve(&p);
    free(p.tokens);
    if (!ok && p.status == MR_OK) p.status = mr_fail(err, MR_ERR_NOMEM, "no memory to parse the chat template");
    return p.status;
}

mr_status mr_jinja_parse(mr_jinja **out, const char *source, size_t len, mr_error *err) {
    *out = NULL;
    if (len > MAX_SOURCE) {
        return mr_fail(err, MR_ERR_LIMIT, "the chat template has %zu bytes; at most %d are read", len, MAX_SOURCE);
    }
    if (!mr_utf8_valid(source, len)) return mr_fail(err, MR_ERR_INVALID, "the chat template is not valid UTF-8");
    size_t text_len;
    char *text = normalize_newlines(source, len, &text_len);
    struct mr_jinja *jinja = calloc(1, sizeof *jinja);
    if (jinja != NULL) {
        jinja->arena.max_bytes = PARSE_MEMORY;
        jinja->names = mr_strmap_new(64);
    }
    if (text == NULL || jinja == NULL || jinja->names == NULL) {
        free(text);
        mr_jinja_free(jinja);
        return mr_fail_nomem(err, len, "the chat template");
    }
    mr_status status = parse(jinja, text, text_len, err);
    free(text);
    if (status != MR_OK) {
        mr_jinja_free(jinja);
        return status;
    }
    *out = jinja;
    return MR_OK;
}

void mr_jinja_free(mr_jinja *jinja) {
    if (jinja == NULL) return;
    mr_strmap_free(jinja->names);
    mr_arena_free(&jinja->arena);
    free(jinja);
}

/* --- variables --- */

static bool from_json(jj_rt *rt, json_t *json, jj_value *out);

static bool list_from_json(jj_rt *rt, json_t *json, jj_value *out) {
    size_t n = json_array_size(json);
    jj_vec vec = {.n = n, .items = mr_jj_calloc(rt, n, sizeof(jj_value))};
    if (vec.items == NULL) return false;
    for (size_t i = 0; i < n; i++) {
        if (!from_json(rt, json_array_get(json, i), &vec.items[i])) return false;
    }
    return mr_jj_vec_list(rt, &vec, JJ_LIST, out);
}

static bool dict_from_json(jj_rt *rt, json_t *json, jj_value *out) {
    jj_dict *dict;
    if (!mr_jj_dict_new(rt, json_object_size(json), &dict)) return false;
    for (void *i = json_object_iter(json); i != NULL; i = json_object_iter_next(json, i)) {
        jj_value key, value;
        const char *name = json_object_iter_key(i);
        if (!mr_jj_str_borrow(rt, name, strlen(name), &key) || !from_json(rt, json_object_iter_value(i), &value) ||
            !mr_jj_dict_put(rt, dict, key, value)) {
            return false;
        }
    }
    *out = mr_jj_dict_value(dict);
    return true;
}

/* The JSON outlives the render, so its texts are borrowed. */
static bool from_json(jj_rt *rt, json_t *json, jj_value *out) {
    if (!mr_jj_enter(rt)) return false;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return dict_from_json(rt, json, out);
    case JSON_ARRAY:
        return list_from_json(rt, json, out);
    case JSON_STRING:
        return mr_jj_str_borrow(rt, json_string_value(json), json_string_length(json), out);
    case JSON_INTEGER:
        *out = mr_jj_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = mr_jj_float(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = mr_jj_bool(json_is_true(json));
        return true;
    default:
        *out = mr_jj_none();
        return true;
    }
}

/* What each name of the template means outside of it: a variable, a global function, or nothing. */
static bool load_globals(jj_rt *rt, json_t *vars) {
    const struct mr_jinja *jinja = rt->jinja;
    rt->globals = mr_jj_calloc(rt, jinja->n_names, sizeof *rt->globals);
    if (rt->globals == NULL) return false;
    for (uint32_t i = 0; i < jinja->n_names; i++) {
        const jj_str *name = jinja->name_texts[i];
        json_t *value = json_object_getn(vars, name->data, name->len);
        const jj_builtin *fn = mr_jj_find_global(name->data, name->len);
        if (value != NULL) {
            if (!from_json(rt, value, &rt->globals[i])) return false;
        } else if (fn != NULL) {
            rt->globals[i] = (jj_value){.kind = JJ_BUILTIN, .u.builtin = fn};
        }
    }
    return true;
}

/* --- rendering --- */

static mr_status report(const jj_rt *rt, mr_error *err) {
    mr_status status = MR_ERR_INVALID;
    if (rt->error == JJ_ERR_NOMEM) status = MR_ERR_NOMEM;
    if (rt->error == JJ_ERR_LIMIT) status = MR_ERR_LIMIT;
    if (rt->error == JJ_ERR_UNSUPPORTED) status = MR_ERR_UNSUPPORTED;
    const char *text = rt->error == JJ_ERR_NONE ? "the template could not be rendered" : rt->message;
    if (rt->at == NULL) return mr_fail(err, status, "chat template: %s", text);
    unsigned line = rt->at->line, column = rt->at->column;
    if (rt->error == JJ_ERR_TEMPLATE) {
        return mr_fail(err, status, "the chat template refuses this conversation (line %u, column %u): %s", line,
                       column, text);
    }
    return mr_fail(err, status, "chat template line %u, column %u: %s", line, column, text);
}

mr_status mr_jinja_render(const mr_jinja *jinja, json_t *vars, const mr_jinja_limits *limits, mr_buf *out,
                          mr_error *err) {
    static const mr_jinja_limits none;
    char here;
    mr_buf text = {0};
    if (limits == NULL) limits = &none;
    jj_rt rt = {
        .arena = {.max_bytes = limits->max_memory != 0 ? limits->max_memory : (size_t)256 << 20},
        .jinja = jinja,
        .steps_left = limits->max_steps != 0 ? limits->max_steps : 10000000,
        .max_output = limits->max_output != 0 ? limits->max_output : (size_t)64 << 20,
        .max_depth = limits->max_depth != 0 ? limits->max_depth : 200,
        .stack_base = &here,
        .now_unix = limits->now_unix != 0 ? limits->now_unix : (int64_t)time(NULL),
        .out = &text,
        .random = 0x9E3779B97F4A7C15u,
    };
    bool ok = load_globals(&rt, vars) && mr_jj_render_template(&rt);
    mr_status status = MR_OK;
    if (!ok) {
        status = report(&rt, err);
    } else if (text.failed || !mr_buf_append(out, mr_buf_cstr(&text), text.len)) {
        status = mr_fail_nomem(err, text.len, "the rendered chat template");
    }
    for (size_t i = 0; i < sizeof rt.captures / sizeof *rt.captures; i++) mr_buf_free(&rt.captures[i]);
    mr_buf_free(&text);
    mr_arena_free(&rt.arena);
    return status;
}
