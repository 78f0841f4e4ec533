#include "text/chat_template.h"
#include "text/chat_template_impl.h"

#include <stdlib.h>
#include <string.h>

/* ChatML, with tools in the form that Hermes models read and write. */
static const char chatml[] =
    "{%- if tools %}"
    "{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- (messages[0].content or '') + '\\n\\n' }}{%- endif %}"
    "{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\\n<tool_call>\\n{\"name\": <function-name>, \"arguments\": "
    "<args-json-object>}\\n</tool_call><|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if not (tools and loop.first and message.role == 'system') %}"
    "{%- set content = message.content if message.content is string else '' %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content }}"
    "{%- for call in message.tool_calls or [] %}"
    "{%- set function = call.function or call %}"
    "{{- '\\n' if content or not loop.first }}"
    "{{- '<tool_call>\\n{\"name\": ' + (function.name | tojson) + ', \"arguments\": ' }}"
    "{{- function.arguments if function.arguments is string else function.arguments | tojson }}"
    "{{- '}\\n</tool_call>' }}"
    "{%- endfor %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/* --- loading --- */

static char *copy_text(const char *text, size_t len) {
    char *copy = malloc(len + 1);
    if (copy == NULL) return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static void free_named(mr_named_template *named) {
    free(named->name);
    free(named->source);
    mr_jinja_free(named->jinja);
    *named = (mr_named_template){0};
}

mr_status mr_chat_template_add(mr_chat_template *t, const char *name, const char *source, size_t len, const char *where,
                               mr_error *err) {
    mr_named_template added = {.name = copy_text(name, strlen(name)), .source = copy_text(source, len)};
    if (added.name == NULL || added.source == NULL) {
        free_named(&added);
        return mr_fail_nomem(err, len, "a chat template");
    }
    mr_status status = mr_jinja_parse(&added.jinja, source, len, err);
    if (status != MR_OK) {
        free_named(&added);
        if (where != NULL) mr_fail_prefix(err, "%s", where);
        return status;
    }
    size_t i = 0;
    while (i < t->n_named && strcmp(t->named[i].name, name) != 0) i++;
    if (i == MR_CHAT_TEMPLATE_MAX_NAMED) {
        free_named(&added);
        return mr_fail(err, MR_ERR_LIMIT, "%s: more than %d named chat templates", where == NULL ? "the model" : where,
                       MR_CHAT_TEMPLATE_MAX_NAMED);
    }
    if (i < t->n_named) free_named(&t->named[i]);
    if (i == t->n_named) t->n_named++;
    t->named[i] = added;
    return MR_OK;
}

mr_status mr_chat_template_new(mr_chat_template **out, mr_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out != NULL) (*out)->tokens = json_object();
    if (*out != NULL && (*out)->tokens != NULL) return MR_OK;
    free(*out);
    *out = NULL;
    return mr_fail_nomem(err, sizeof **out, "a chat template");
}

mr_status mr_chat_template_finish(mr_chat_template **out, mr_status status, mr_error *err) {
    mr_chat_template *t = *out;
    if (status == MR_OK && t->n_named == 0) {
        t->is_fallback = true;
        status = mr_chat_template_add(t, "default", chatml, sizeof chatml - 1, "ChatML", err);
    }
    if (status == MR_OK) return MR_OK;
    mr_chat_template_free(t);
    *out = NULL;
    return status;
}

void mr_chat_template_free(mr_chat_template *t) {
    if (t == NULL) return;
    for (size_t i = 0; i < t->n_named; i++) free_named(&t->named[i]);
    json_decref(t->tokens);
    free(t);
}

bool mr_chat_template_is_fallback(const mr_chat_template *t) {
    return t->is_fallback;
}

/* --- choice --- */

static const mr_named_template *find(const mr_chat_template *t, const char *name) {
    for (size_t i = 0; i < t->n_named; i++) {
        if (strcmp(t->named[i].name, name) == 0) return &t->named[i];
    }
    return NULL;
}

static const mr_named_template *choose(const mr_chat_template *t, bool with_tools) {
    const mr_named_template *chosen = with_tools ? find(t, "tool_use") : NULL;
    return chosen != NULL ? chosen : find(t, "default");
}

const char *mr_chat_template_source(const mr_chat_template *t, bool with_tools) {
    const mr_named_template *chosen = choose(t, with_tools);
    return chosen == NULL ? NULL : chosen->source;
}

static mr_status fail_no_default(const mr_chat_template *t, mr_error *err) {
    char names[300] = "";
    size_t used = 0;
    for (size_t i = 0; i < t->n_named && used + 80 < sizeof names; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.60s", i == 0 ? "" : ", ", t->named[i].name);
    }
    return mr_fail(err, MR_ERR_INVALID,
                   "the model has several chat templates (%s) and none is named default; give one with chat_template",
                   names);
}

/* --- the conversation as templates see it --- */

/* The object that a tool call's arguments text stands for, or NULL when it is none. */
static json_t *parse_arguments(json_t *arguments) {
    json_error_t ignored;
    if (!json_is_string(arguments)) return NULL;
    json_t *parsed = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, &ignored);
    if (parsed != NULL && json_is_object(parsed)) return parsed;
    json_decref(parsed);
    return NULL;
}

/* The JSON text of an arguments object, as a template's own tojson writes it. */
static json_t *arguments_text(json_t *arguments) {
    static const char source[] = "{{ a | tojson }}";
    if (!json_is_object(arguments)) return NULL;
    json_t *vars = json_object(), *string = NULL;
    mr_jinja *jinja;
    mr_buf text = {0};
    mr_error ignored = {0};
    if (json_object_set(vars, "a", arguments) == 0 &&
        mr_jinja_parse(&jinja, source, sizeof source - 1, &ignored) == MR_OK) {
        if (mr_jinja_render(jinja, vars, NULL, &text, &ignored) == MR_OK)
            string = json_stringn(mr_buf_cstr(&text), text.len);
        mr_jinja_free(jinja);
    }
    mr_buf_free(&text);
    json_decref(vars);
    return string;
}

/* A copy of one tool call with its arguments in the wanted form; *changed is set when that differs from the original.
 */
static json_t *convert_call(json_t *call, bool as_text, bool *changed) {
    json_t *function = json_object_get(call, "function");
    json_t *holder = json_is_object(function) ? function : call;
    json_t *arguments = json_object_get(holder, "arguments");
    json_t *converted = as_text ? arguments_text(arguments) : parse_arguments(arguments);
    if (converted == NULL) return json_incref(call);
    *changed = true;
    json_t *copy = json_copy(call), *inner = holder == call ? json_incref(copy) : json_copy(holder);
    bool ok = copy != NULL && inner != NULL && json_object_set_new(inner, "arguments", converted) == 0;
    if (ok && holder != call) ok = json_object_set(copy, "function", inner) == 0;
    json_decref(inner);
    if (ok) return copy;
    json_decref(copy);
    return NULL;
}

static json_t *convert_calls(json_t *calls, bool as_text, bool *changed) {
    json_t *converted = json_array();
    for (size_t i = 0; converted != NULL && i < json_array_size(calls); i++) {
        if (json_array_append_new(converted, convert_call(json_array_get(calls, i), as_text, changed)) == 0) continue;
        json_decref(converted);
        return NULL;
    }
    return converted;
}

/* A message's reasoning under the first of the names it is passed by. */
static json_t *reasoning_of(json_t *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(message, names[i]);
        if (value != NULL && !json_is_null(value)) return value;
    }
    return NULL;
}

typedef struct conversion {
    bool as_text;      /* arguments as JSON text, not as objects */
    bool null_content; /* null contents stay */
} conversion;

/* The message without its null members; reasoning appears under both names that templates read. */
static json_t *convert_message(json_t *message, const conversion *how, bool *changed) {
    json_t *copy = json_object(), *reasoning = reasoning_of(message);
    bool ok = copy != NULL;
    if (ok && reasoning != NULL) ok = json_object_set(copy, "thinking", reasoning) == 0;
    for (void *i = json_object_iter(message); ok && i != NULL; i = json_object_iter_next(message, i)) {
        const char *key = json_object_iter_key(i);
        json_t *value = json_object_iter_value(i);
        if (json_is_null(value) && !(how->null_content && strcmp(key, "content") == 0)) continue;
        if (strcmp(key, "tool_calls") == 0 && json_is_array(value)) {
            ok = json_object_set_new(copy, key, convert_calls(value, how->as_text, changed)) == 0;
        } else {
            ok = json_object_set(copy, key, value) == 0;
        }
    }
    if (ok && reasoning != NULL) ok = json_object_set(copy, "reasoning_content", reasoning) == 0;
    if (ok) return copy;
    json_decref(copy);
    return NULL;
}

static mr_status convert_messages(json_t *messages, const conversion *how, json_t **out, bool *changed, mr_error *err) {
    *out = NULL;
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        return mr_fail(err, MR_ERR_INVALID, "the conversation is empty; give at least one message");
    }
    json_t *converted = json_array();
    for (size_t i = 0; converted != NULL && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) {
            json_decref(converted);
            return mr_fail(err, MR_ERR_INVALID, "message %zu of the conversation is no object with role and content",
                           i + 1);
        }
        if (json_array_append_new(converted, convert_message(message, how, changed)) == 0) continue;
        json_decref(converted);
        converted = NULL;
    }
    *out = converted;
    return converted != NULL ? MR_OK : mr_fail_nomem(err, json_array_size(messages) * 64, "the conversation");
}

/* --- rendering --- */

static bool add_tokens_and_vars(json_t *all, json_t *tokens, json_t *vars) {
    if (json_object_update(all, tokens) != 0) return false;
    return vars == NULL || json_object_update(all, vars) == 0;
}

/* All variables of the template. Takes over messages. */
static json_t *variables(const mr_chat_template *t, json_t *messages, json_t *tools, json_t *vars,
                         bool add_generation_prompt) {
    json_t *all = json_object();
    bool ok = all != NULL && json_object_set_new(all, "documents", json_null()) == 0 &&
              add_tokens_and_vars(all, t->tokens, vars) &&
              json_object_set_new(all, "tools", tools == NULL ? json_null() : json_incref(tools)) == 0 &&
              json_object_set_new(all, "add_generation_prompt", json_boolean(add_generation_prompt)) == 0;
    if (!ok) {
        json_decref(messages);
    } else {
        ok = json_object_set_new(all, "messages", messages) == 0;
    }
    if (ok) return all;
    json_decref(all);
    return NULL;
}

typedef struct rendering {
    const mr_chat_template *chat_template;
    const mr_named_template *chosen;
    json_t *messages, *tools, *vars;
    bool add_generation_prompt;
    bool null_content;
    int64_t now_unix;
} rendering;

/* Renders with arguments as objects or as texts; *changed tells whether that form differs from the given one. */
static mr_status render_as(const rendering *r, bool as_text, bool *changed, mr_buf *text, mr_error *err) {
    json_t *messages;
    conversion how = {.as_text = as_text, .null_content = r->null_content};
    mr_status status = convert_messages(r->messages, &how, &messages, changed, err);
    if (status != MR_OK) return status;
    json_t *all = variables(r->chat_template, messages, r->tools, r->vars, r->add_generation_prompt);
    if (all == NULL) return mr_fail_nomem(err, 4096, "the chat template's variables");
    mr_jinja_limits limits = {.now_unix = r->now_unix};
    status = mr_jinja_render(r->chosen->jinja, all, &limits, text, err);
    json_decref(all);
    return status;
}

static bool has_tool_calls(json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (json_array_size(json_object_get(json_array_get(messages, i), "tool_calls")) > 0) return true;
    }
    return false;
}

static mr_status render(const mr_chat_template *t, rendering r, mr_buf *text, mr_error *err) {
    if (json_is_null(r.tools)) r.tools = NULL;
    if (!json_is_object(r.vars)) r.vars = NULL;
    r.chat_template = t;
    r.chosen = choose(t, r.tools != NULL);
    if (r.chosen == NULL) return fail_no_default(t, err);
    bool changed = false;
    mr_error first = {0};
    mr_status status = render_as(&r, false, &changed, text, &first);
    if (status == MR_ERR_INVALID && has_tool_calls(r.messages)) {
        mr_error second = {0};
        changed = false;
        if (render_as(&r, true, &changed, text, &second) == MR_OK) return MR_OK;
    }
    if (status != MR_OK) return mr_fail(err, status, "%s", first.text);
    return MR_OK;
}

mr_status mr_chat_template_render_at(const mr_chat_template *t, json_t *messages, json_t *tools, json_t *vars,
                                     bool add_generation_prompt, int64_t now_unix, mr_buf *text, mr_error *err) {
    rendering r = {.messages = messages,
                   .tools = tools,
                   .vars = vars,
                   .add_generation_prompt = add_generation_prompt,
                   .now_unix = now_unix};
    return render(t, r, text, err);
}

mr_status mr_chat_template_render_nulls(const mr_chat_template *t, json_t *messages, json_t *tools, json_t *vars,
                                        bool add_generation_prompt, int64_t now_unix, mr_buf *text, mr_error *err) {
    rendering r = {.messages = messages,
                   .tools = tools,
                   .vars = vars,
                   .add_generation_prompt = add_generation_prompt,
                   .null_content = true,
                   .now_unix = now_unix};
    return render(t, r, text, err);
}

mr_status mr_chat_template_render(const mr_chat_template *t, json_t *messages, json_t *tools, json_t *vars,
                                  bool add_generation_prompt, mr_buf *text, mr_error *err) {
    return mr_chat_template_render_at(t, messages, tools, vars, add_generation_prompt, 0, text, err);
}
