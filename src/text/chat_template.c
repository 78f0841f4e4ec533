#include "text/chat_template.h"

#include "base/file.h"
#include "text/jinja.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATES = 16, MAX_TEMPLATE_BYTES = 4 << 20, MAX_CONFIG_BYTES = 64 << 20, N_SPECIALS = 4 };

static const char *const SPECIAL_NAMES[N_SPECIALS] = {"bos_token", "eos_token", "unk_token", "pad_token"};

static const char CHATML[] =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

typedef struct named_template {
    char *name;
    char *source;
    mr_jinja *jinja;
} named_template;

struct mr_chat_template {
    named_template templates[MAX_TEMPLATES];
    size_t n_templates;
    char *specials[N_SPECIALS];
    bool fallback;
};

/* ---- building
 * --------------------------------------------------------------------------------------------------------- */

static mr_status set_special(mr_chat_template *chat, size_t i, const char *text, mr_error *err) {
    if (text == NULL) return MR_OK;
    char *copy = strdup(text);
    if (copy == NULL) return mr_fail_nomem(err, strlen(text), "a special token");
    free(chat->specials[i]);
    chat->specials[i] = copy;
    return MR_OK;
}

static mr_status new_chat(mr_chat_template **chat, const mr_special_texts *specials, mr_error *err) {
    static const mr_special_texts none;
    *chat = calloc(1, sizeof **chat);
    if (*chat == NULL) return mr_fail_nomem(err, sizeof **chat, "a chat template");
    if (specials == NULL) specials = &none;
    const char *texts[N_SPECIALS] = {specials->bos, specials->eos, specials->unk, specials->pad};
    mr_status status = MR_OK;
    for (size_t i = 0; i < N_SPECIALS && status == MR_OK; i++) status = set_special(*chat, i, texts[i], err);
    return status;
}

/* Parses source and adds it; a second template of a name is ignored. */
static mr_status add_template(mr_chat_template *chat, const char *name, size_t name_len, const char *source, size_t len,
                              mr_error *err) {
    for (size_t i = 0; i < chat->n_templates; i++) {
        if (strlen(chat->templates[i].name) == name_len && memcmp(chat->templates[i].name, name, name_len) == 0)
            return MR_OK;
    }
    if (chat->n_templates == MAX_TEMPLATES) {
        return mr_fail(err, MR_ERR_LIMIT, "the model has more than %d chat templates", MAX_TEMPLATES);
    }
    if (len > MAX_TEMPLATE_BYTES) {
        return mr_fail(err, MR_ERR_LIMIT, "the chat template has %zu bytes; at most %d are read", len,
                       MAX_TEMPLATE_BYTES);
    }
    named_template *t = &chat->templates[chat->n_templates++];
    t->name = strndup(name, name_len);
    t->source = strndup(source, len);
    if (t->name == NULL || t->source == NULL) return mr_fail_nomem(err, len, "a chat template");
    return mr_jinja_parse(&t->jinja, source, len, err);
}

static mr_status add_fallback(mr_chat_template *chat, mr_error *err) {
    chat->fallback = true;
    return add_template(chat, "default", 7, CHATML, sizeof CHATML - 1, err);
}

/* The end of every loader: hands the template out, or frees it. */
static mr_status finish(mr_chat_template **out, mr_chat_template *chat, mr_status status) {
    *out = status == MR_OK ? chat : NULL;
    if (status != MR_OK) mr_chat_template_free(chat);
    return status;
}

void mr_chat_template_free(mr_chat_template *chat) {
    if (chat == NULL) return;
    for (size_t i = 0; i < chat->n_templates; i++) {
        free(chat->templates[i].name);
        free(chat->templates[i].source);
        mr_jinja_free(chat->templates[i].jinja);
    }
    for (size_t i = 0; i < N_SPECIALS; i++) free(chat->specials[i]);
    free(chat);
}

/* ---- sources
 * ---------------------------------------------------------------------------------------------------------- */

mr_status mr_chat_template_from_text(mr_chat_template **out, const char *source, size_t len,
                                     const mr_special_texts *specials, mr_error *err) {
    mr_chat_template *chat;
    mr_status status = new_chat(&chat, specials, err);
    if (status == MR_OK) status = add_template(chat, "default", 7, source, len, err);
    return finish(out, chat, status);
}

mr_status mr_chat_template_from_gguf(mr_chat_template **out, const mr_gguf *gguf, const mr_special_texts *specials,
                                     mr_error *err) {
    static const char prefix[] = "tokenizer.chat_template";
    mr_chat_template *chat;
    mr_status status = new_chat(&chat, specials, err);
    for (size_t i = 0; i < mr_gguf_n_values(gguf) && status == MR_OK; i++) {
        const mr_gguf_value *value = mr_gguf_value_at(gguf, i);
        size_t n = sizeof prefix - 1;
        if (value->type != MR_GGUF_STRING || value->key.len < n || memcmp(value->key.data, prefix, n) != 0) continue;
        const char *source = (const char *)value->data + 8;
        size_t len = value->n_bytes - 8;
        if (value->key.len == n)
            status = add_template(chat, "default", 7, source, len, err);
        else if (value->key.data[n] == '.') {
            status = add_template(chat, value->key.data + n + 1, value->key.len - n - 1, source, len, err);
        }
    }
    if (status == MR_OK && chat->n_templates == 0) status = add_fallback(chat, err);
    return finish(out, chat, status);
}

static mr_status add_jinja_file(mr_chat_template *chat, const char *name, const char *path, mr_error *err) {
    mr_buf source = {0};
    mr_status status = mr_file_read(&source, path, MAX_TEMPLATE_BYTES, err);
    if (status == MR_OK) {
        status = add_template(chat, name, strlen(name), mr_buf_cstr(&source), source.len, err);
        if (status != MR_OK) mr_fail_prefix(err, "%s", path);
    }
    mr_buf_free(&source);
    return status;
}

/* A special token is a text, or an object with its text in `content`. */
static mr_status read_specials(mr_chat_template *chat, const json_t *config, mr_error *err) {
    mr_status status = MR_OK;
    for (size_t i = 0; i < N_SPECIALS && status == MR_OK; i++) {
        const json_t *token = json_object_get(config, SPECIAL_NAMES[i]);
        const char *text =
            json_is_object(token) ? json_string_value(json_object_get(token, "content")) : json_string_value(token);
        status = set_special(chat, i, text, err);
    }
    return status;
}

/* Adds what a JSON object says; an object without `chat_template` adds nothing. */
static mr_status add_json(mr_chat_template *chat, const json_t *config, const char *path, mr_error *err) {
    mr_status status = read_specials(chat, config, err);
    const json_t *value = json_object_get(config, "chat_template"), *entry;
    if (json_is_string(value) && status == MR_OK) {
        status = add_template(chat, "default", 7, json_string_value(value), json_string_length(value), err);
    }
    size_t i;
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *source = json_object_get(entry, "template");
        if (status != MR_OK) break;
        if (name == NULL || !json_is_string(source)) {
            return mr_fail(err, MR_ERR_INVALID, "%s: entry %zu of chat_template has no name or template", path, i);
        }
        status = add_template(chat, name, strlen(name), json_string_value(source), json_string_length(source), err);
    }
    if (status != MR_OK) mr_fail_prefix(err, "%s", path);
    return status;
}

static mr_status add_json_file(mr_chat_template *chat, const char *path, mr_error *err) {
    mr_buf text = {0};
    json_error_t json_err;
    mr_status status = mr_file_read(&text, path, MAX_CONFIG_BYTES, err);
    if (status == MR_OK) {
        json_t *config = json_loadb(mr_buf_cstr(&text), text.len, JSON_ALLOW_NUL, &json_err);
        if (json_is_object(config))
            status = add_json(chat, config, path, err);
        else
            status =
                mr_fail(err, MR_ERR_INVALID, "%s line %d is no JSON object: %s", path, json_err.line, json_err.text);
        json_decref(config);
    }
    mr_buf_free(&text);
    return status;
}

mr_status mr_chat_template_from_file(mr_chat_template **out, const char *path, const mr_special_texts *specials,
                                     mr_error *err) {
    mr_chat_template *chat;
    mr_status status = new_chat(&chat, specials, err);
    if (status == MR_OK && mr_has_suffix(path, ".jinja")) {
        status = add_jinja_file(chat, "default", path, err);
    } else if (status == MR_OK && mr_has_suffix(path, ".json")) {
        status = add_json_file(chat, path, err);
        if (status == MR_OK && chat->n_templates == 0) {
            status = mr_fail(err, MR_ERR_INVALID, "%s has no \"chat_template\"", path);
        }
    } else if (status == MR_OK) {
        status = mr_fail(err, MR_ERR_INVALID, "the chat template %s ends in neither .jinja nor .json", path);
    }
    return finish(out, chat, status);
}

/* Calls add on folder/name when that file exists. */
static mr_status add_if_there(mr_chat_template *chat, const char *folder, const char *name, mr_error *err) {
    char *path = mr_path_join(folder, name);
    if (path == NULL) return mr_fail_nomem(err, 0, "a path");
    mr_status status = MR_OK;
    if (mr_path_is_file(path)) {
        status =
            mr_has_suffix(name, ".jinja") ? add_jinja_file(chat, "default", path, err) : add_json_file(chat, path, err);
    }
    free(path);
    return status;
}

mr_status mr_chat_template_from_folder(mr_chat_template **out, const char *folder, const mr_special_texts *specials,
                                       mr_error *err) {
    static const char *const names[] = {"chat_template.jinja", "chat_template.json", "tokenizer_config.json"};
    mr_chat_template *chat;
    mr_status status = new_chat(&chat, specials, err);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == MR_OK; i++) {
        status = add_if_there(chat, folder, names[i], err);
    }
    char *path = status == MR_OK ? mr_path_join(folder, "additional_chat_templates/tool_use.jinja") : NULL;
    if (path != NULL && mr_path_is_file(path)) status = add_jinja_file(chat, "tool_use", path, err);
    free(path);
    if (status == MR_OK && chat->n_templates == 0) status = add_fallback(chat, err);
    return finish(out, chat, status);
}

/* ---- use
 * ---------------------------------------------------------------------------------------------------------------- */

bool mr_chat_template_is_fallback(const mr_chat_template *chat) {
    return chat->fallback;
}

static const named_template *pick(const mr_chat_template *chat, bool with_tools) {
    const char *wanted = with_tools ? "tool_use" : "default";
    for (size_t i = 0; i < chat->n_templates; i++) {
        if (strcmp(chat->templates[i].name, wanted) == 0) return &chat->templates[i];
    }
    return with_tools ? pick(chat, false) : &chat->templates[0];
}

const char *mr_chat_template_source(const mr_chat_template *chat, bool with_tools) {
    return pick(chat, with_tools)->source;
}

/* A deep copy of the messages in which tool calls' arguments that are JSON text of an object are that object; NULL when
 * there are none, or memory runs out (*failed). */
static json_t *with_parsed_arguments(const json_t *messages, bool *failed) {
    json_t *copy = NULL;
    size_t i, k;
    const json_t *message, *call;
    *failed = false;
    json_array_foreach(messages, i, message) {
        json_array_foreach(json_object_get(message, "tool_calls"), k, call) {
            const json_t *text = json_object_get(json_object_get(call, "function"), "arguments");
            if (!json_is_string(text)) continue;
            json_t *object = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
            if (!json_is_object(object)) {
                json_decref(object);
                continue;
            }
            if (copy == NULL) copy = json_deep_copy(messages);
            json_t *target = json_array_get(json_object_get(json_array_get(copy, i), "tool_calls"), k);
            if (json_object_set_new(json_object_get(target, "function"), "arguments", object) != 0) *failed = true;
        }
    }
    return copy;
}

static json_t *build_vars(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                          bool add_generation_prompt) {
    json_t *all = json_object();
    int failed = all == NULL;
    failed |= json_object_set(all, "messages", messages) != 0;
    failed |= json_object_set_new(all, "tools", tools != NULL ? json_incref(tools) : json_null()) != 0;
    failed |= json_object_set_new(all, "documents", json_null()) != 0;
    failed |= json_object_set_new(all, "add_generation_prompt", json_boolean(add_generation_prompt)) != 0;
    for (size_t i = 0; i < N_SPECIALS; i++) {
        if (chat->specials[i] != NULL)
            failed |= json_object_set_new(all, SPECIAL_NAMES[i], json_string_nocheck(chat->specials[i])) != 0;
    }
    if (vars != NULL) failed |= json_object_update(all, vars) != 0;
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static mr_status render_once(const mr_chat_template *chat, const named_template *t, json_t *messages, json_t *tools,
                             json_t *vars, bool add_generation_prompt, mr_buf *text, mr_error *err) {
    json_t *all = build_vars(chat, messages, tools, vars, add_generation_prompt);
    if (all == NULL) return mr_fail_nomem(err, 0, "a prompt");
    mr_status status = mr_jinja_render(t->jinja, all, NULL, text, err);
    json_decref(all);
    return status;
}

mr_status mr_chat_template_render(const mr_chat_template *chat, json_t *messages, json_t *tools, json_t *vars,
                                  bool add_generation_prompt, mr_buf *text, mr_error *err) {
    bool failed;
    if (json_array_size(tools) == 0) tools = NULL;
    const named_template *t = pick(chat, tools != NULL);
    json_t *parsed = with_parsed_arguments(messages, &failed);
    if (failed) {
        json_decref(parsed);
        return mr_fail_nomem(err, 0, "a prompt");
    }
    mr_error first = {0};
    mr_status status =
        render_once(chat, t, parsed != NULL ? parsed : messages, tools, vars, add_generation_prompt, text, &first);
    if (status != MR_OK && parsed != NULL) {
        /* Some templates add the arguments to a text: they want the JSON text. */
        mr_error second = {0};
        if (render_once(chat, t, messages, tools, vars, add_generation_prompt, text, &second) == MR_OK) status = MR_OK;
    }
    json_decref(parsed);
    if (status != MR_OK && err != NULL) *err = first;
    return status;
}
