/* Where chat templates and special tokens are kept: files, Hugging Face folders, GGUF metadata. */
#include "text/chat_template_impl.h"

#include "base/file.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 32 << 20 };

static const char default_name[] = "default";

/* --- special tokens --- */

static bool ends_in_token(const char *key) {
    size_t n = strlen(key);
    return n > 6 && strcmp(key + n - 6, "_token") == 0;
}

/* A token is a text, or an object with the text as `content`. */
static json_t *token_text(json_t *value) {
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? value : NULL;
}

static mr_status add_token(mr_chat_template *t, const char *name, json_t *text, mr_error *err) {
    if (text == NULL || json_object_get(t->tokens, name) != NULL) return MR_OK;
    return json_object_set(t->tokens, name, text) == 0 ? MR_OK : mr_fail_nomem(err, 64, "a special token");
}

static mr_status add_tokens(mr_chat_template *t, json_t *config, mr_error *err) {
    mr_status status = MR_OK;
    for (void *i = json_object_iter(config); status == MR_OK && i != NULL; i = json_object_iter_next(config, i)) {
        const char *key = json_object_iter_key(i);
        if (ends_in_token(key)) status = add_token(t, key, token_text(json_object_iter_value(i)), err);
    }
    json_t *extra = json_object_get(config, "extra_special_tokens");
    for (void *i = json_object_iter(extra); status == MR_OK && i != NULL; i = json_object_iter_next(extra, i)) {
        status = add_token(t, json_object_iter_key(i), token_text(json_object_iter_value(i)), err);
    }
    return status;
}

/* --- JSON --- */

static mr_status add_json_template(mr_chat_template *t, const char *name, json_t *text, const char *where,
                                   mr_error *err) {
    return mr_chat_template_add(t, name, json_string_value(text), json_string_length(text), where, err);
}

/* `chat_template`: one text, or a list of {name, template}. */
static mr_status add_templates(mr_chat_template *t, json_t *value, const char *where, mr_error *err) {
    if (json_is_string(value)) return add_json_template(t, default_name, value, where, err);
    if (!json_is_array(value)) {
        return mr_fail(err, MR_ERR_INVALID, "%s: chat_template is neither a text nor a list of {name, template}",
                       where);
    }
    mr_status status = MR_OK;
    for (size_t i = 0; status == MR_OK && i < json_array_size(value); i++) {
        json_t *item = json_array_get(value, i);
        json_t *name = json_object_get(item, "name"), *text = json_object_get(item, "template");
        if (!json_is_string(name) || !json_is_string(text)) {
            return mr_fail(err, MR_ERR_INVALID, "%s: chat template %zu has no name or no template", where, i + 1);
        }
        status = add_json_template(t, json_string_value(name), text, where, err);
    }
    return status;
}

static mr_status read_json(const char *path, json_t **out, mr_error *err) {
    mr_buf text = {0};
    json_error_t problem;
    *out = NULL;
    mr_status status = mr_file_read(&text, path, MAX_FILE, err);
    if (status == MR_OK) {
        *out = json_loadb(mr_buf_cstr(&text), text.len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &problem);
        if (*out == NULL) {
            status =
                mr_fail(err, MR_ERR_INVALID, "%s is not valid JSON: line %d: %s", path, problem.line, problem.text);
        }
    }
    mr_buf_free(&text);
    return status;
}

static mr_status add_jinja_file(mr_chat_template *t, const char *name, const char *path, mr_error *err) {
    mr_buf text = {0};
    mr_status status = mr_file_read(&text, path, MAX_FILE, err);
    if (status == MR_OK) status = mr_chat_template_add(t, name, mr_buf_cstr(&text), text.len, path, err);
    mr_buf_free(&text);
    return status;
}

static mr_status add_file(mr_chat_template *t, const char *path, mr_error *err) {
    if (!mr_has_suffix(path, ".json")) return add_jinja_file(t, default_name, path, err);
    json_t *config;
    mr_status status = read_json(path, &config, err);
    if (status != MR_OK) return status;
    json_t *value = json_is_object(config) ? json_object_get(config, "chat_template") : config;
    if (value == NULL || json_is_null(value)) {
        status = mr_fail(err, MR_ERR_INVALID, "%s has no chat_template", path);
    } else {
        status = add_templates(t, value, path, err);
    }
    if (status == MR_OK) status = add_tokens(t, config, err);
    json_decref(config);
    return status;
}

/* --- folders --- */

/* Adds NAME of every NAME.jinja in the folder's additional_chat_templates. */
static mr_status add_additional(mr_chat_template *t, const char *folder, mr_error *err) {
    char *path = mr_path_join(folder, "additional_chat_templates");
    DIR *dir = path == NULL ? NULL : opendir(path);
    mr_status status = MR_OK;
    for (struct dirent *entry; status == MR_OK && dir != NULL && (entry = readdir(dir)) != NULL;) {
        size_t n = strlen(entry->d_name);
        if (n <= 6 || !mr_has_suffix(entry->d_name, ".jinja")) continue;
        char *file = mr_path_join(path, entry->d_name);
        char *name = strdup(entry->d_name);
        if (file == NULL || name == NULL) {
            status = mr_fail_nomem(err, n, "the name of a chat template");
        } else {
            name[n - 6] = '\0';
            status = add_jinja_file(t, name, file, err);
        }
        free(file);
        free(name);
    }
    if (dir != NULL) closedir(dir);
    free(path);
    return status;
}

static mr_status add_jinja_files(mr_chat_template *t, const char *folder, mr_error *err) {
    char *path = mr_path_join(folder, "chat_template.jinja");
    if (path == NULL) return mr_fail_nomem(err, 64, "a path");
    mr_status status = mr_path_is_file(path) ? add_jinja_file(t, default_name, path, err) : MR_OK;
    free(path);
    return status == MR_OK ? add_additional(t, folder, err) : status;
}

/* A JSON file of the folder: its templates when they are wanted, and its special tokens. A missing file has nothing. */
static mr_status add_config(mr_chat_template *t, const char *folder, const char *name, bool templates, mr_error *err) {
    char *path = mr_path_join(folder, name);
    json_t *config = NULL;
    if (path == NULL) return mr_fail_nomem(err, 64, "a path");
    mr_status status = mr_path_is_file(path) ? read_json(path, &config, err) : MR_OK;
    json_t *value = json_object_get(config, "chat_template");
    if (status == MR_OK && templates && t->n_named == 0 && value != NULL && !json_is_null(value)) {
        status = add_templates(t, value, path, err);
    }
    if (status == MR_OK && json_is_object(config)) status = add_tokens(t, config, err);
    json_decref(config);
    free(path);
    return status;
}

static mr_status add_folder(mr_chat_template *t, const char *folder, mr_error *err) {
    mr_status status = add_jinja_files(t, folder, err);
    if (status == MR_OK) status = add_config(t, folder, "tokenizer_config.json", true, err);
    if (status == MR_OK) status = add_config(t, folder, "chat_template.json", true, err);
    return status == MR_OK ? add_config(t, folder, "special_tokens_map.json", false, err) : status;
}

/* --- GGUF --- */

/* The text of token `id` in the vocabulary. */
static bool vocabulary_text(const mr_gguf *gguf, uint64_t id, mr_gguf_str *text) {
    const mr_gguf_value *tokens = mr_gguf_find(gguf, "tokenizer.ggml.tokens");
    if (tokens == NULL || id >= tokens->n) return false;
    size_t cursor = 0;
    for (uint64_t i = 0; mr_gguf_array_next_string(tokens, &cursor, text); i++) {
        if (i == id) return true;
    }
    return false;
}

static mr_status add_gguf_tokens(mr_chat_template *t, const mr_gguf *gguf, mr_error *err) {
    static const struct {
        const char *key, *name;
    } tokens[] = {
        {"tokenizer.ggml.bos_token_id", "bos_token"},       {"tokenizer.ggml.eos_token_id", "eos_token"},
        {"tokenizer.ggml.unknown_token_id", "unk_token"},   {"tokenizer.ggml.padding_token_id", "pad_token"},
        {"tokenizer.ggml.seperator_token_id", "sep_token"}, {"tokenizer.ggml.cls_token_id", "cls_token"},
        {"tokenizer.ggml.mask_token_id", "mask_token"},
    };
    mr_status status = MR_OK;
    for (size_t i = 0; status == MR_OK && i < sizeof tokens / sizeof *tokens; i++) {
        uint64_t id;
        mr_gguf_str text;
        if (!mr_gguf_u64(gguf, tokens[i].key, &id) || !vocabulary_text(gguf, id, &text)) continue;
        json_t *string = json_stringn(text.data, text.len);
        if (string != NULL) status = add_token(t, tokens[i].name, string, err);
        json_decref(string);
    }
    return status;
}

static mr_status add_gguf_template(mr_chat_template *t, const mr_gguf *gguf, const char *key, const char *name,
                                   mr_error *err) {
    mr_gguf_str text;
    if (!mr_gguf_string(gguf, key, &text)) return MR_OK;
    return mr_chat_template_add(t, name, text.data, text.len, key, err);
}

/* Every tokenizer.chat_template.NAME. */
static mr_status add_gguf_named(mr_chat_template *t, const mr_gguf *gguf, mr_error *err) {
    static const char prefix[] = "tokenizer.chat_template.";
    const size_t n_prefix = sizeof prefix - 1;
    mr_status status = MR_OK;
    for (size_t i = 0; status == MR_OK && i < mr_gguf_n_values(gguf); i++) {
        mr_gguf_str key = mr_gguf_value_at(gguf, i)->key;
        if (key.len <= n_prefix || memcmp(key.data, prefix, n_prefix) != 0) continue;
        char *text = strndup(key.data, key.len);
        if (text == NULL) return mr_fail_nomem(err, key.len, "the name of a chat template");
        status = add_gguf_template(t, gguf, text, text + n_prefix, err);
        free(text);
    }
    return status;
}

/* --- the ways to load --- */

static mr_status add_specials(mr_chat_template *t, const mr_special_texts *specials, mr_error *err) {
    if (specials == NULL) return MR_OK;
    const char *const names[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    const char *const texts[] = {specials->bos, specials->eos, specials->unk, specials->pad};
    mr_status status = MR_OK;
    for (size_t i = 0; status == MR_OK && i < sizeof names / sizeof *names; i++) {
        json_t *text = texts[i] == NULL ? NULL : json_string(texts[i]);
        status = add_token(t, names[i], text, err);
        json_decref(text);
    }
    return status;
}

mr_status mr_chat_template_from_gguf(mr_chat_template **chat, const mr_gguf *gguf, const mr_special_texts *specials,
                                     mr_error *err) {
    mr_status status = mr_chat_template_new(chat, err);
    if (status != MR_OK) return status;
    status = add_gguf_template(*chat, gguf, "tokenizer.chat_template", default_name, err);
    if (status == MR_OK) status = add_gguf_named(*chat, gguf, err);
    if (status == MR_OK) status = add_specials(*chat, specials, err);
    if (status == MR_OK) status = add_gguf_tokens(*chat, gguf, err);
    return mr_chat_template_finish(chat, status, err);
}

mr_status mr_chat_template_from_file(mr_chat_template **chat, const char *path, const mr_special_texts *specials,
                                     mr_error *err) {
    mr_status status = mr_chat_template_new(chat, err);
    if (status != MR_OK) return status;
    status = add_file(*chat, path, err);
    if (status == MR_OK) status = add_specials(*chat, specials, err);
    return mr_chat_template_finish(chat, status, err);
}

mr_status mr_chat_template_from_folder(mr_chat_template **chat, const char *folder, const mr_special_texts *specials,
                                       mr_error *err) {
    mr_status status = mr_chat_template_new(chat, err);
    if (status != MR_OK) return status;
    status = add_folder(*chat, folder, err);
    if (status == MR_OK) status = add_specials(*chat, specials, err);
    return mr_chat_template_finish(chat, status, err);
}

mr_status mr_chat_template_from_text(mr_chat_template **chat, const char *source, size_t len,
                                     const mr_special_texts *specials, mr_error *err) {
    mr_status status = mr_chat_template_new(chat, err);
    if (status != MR_OK) return status;
    status = mr_chat_template_add(*chat, default_name, source, len, NULL, err);
    if (status == MR_OK) status = add_specials(*chat, specials, err);
    return mr_chat_template_finish(chat, status, err);
}
