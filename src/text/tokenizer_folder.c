/* A tokenizer from a Hugging Face model folder: tokenizer.json or tokenizer.model, and what the files beside it say
 * about special tokens. */
#include "text/tokenizer_hf.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 512 << 20, MAX_CONFIG = 64 << 20, MAX_EXTRA = 100000 };

/* A JSON file beside the tokenizer; without the file all members are absent. */
typedef struct config {
    mr_buf text;
    mr_json json;
} config;

typedef struct folder {
    char *path;
    config tokenizer, special, generation, added;
    mr_added_token *extra;
    size_t n_extra;
    mr_error *err;
} folder;

static mr_status read_config(folder *f, const char *name, config *c) {
    char *path = mr_path_join(f->path, name);
    if (path == NULL) return mr_fail_nomem(f->err, 256, "a path");
    mr_status status = MR_OK;
    if (mr_path_is_file(path)) {
        status = mr_file_read(&c->text, path, MAX_CONFIG, f->err);
        if (status == MR_OK) {
            status = mr_json_parse(&c->json, c->text.data == NULL ? NULL : c->text.data, c->text.len, f->err);
            if (status != MR_OK) mr_fail_prefix(f->err, "%s", path);
        }
    }
    free(path);
    return status;
}

static const mr_json_value *member(const config *c, const char *key) {
    return c->json.n == 0 ? NULL : mr_json_get(&c->json.values[0], key);
}

/* "text" or {"content": "text"} */
static const mr_json_value *text_of(const mr_json_value *json) {
    return mr_json_is(json, MR_JSON_OBJECT) ? mr_json_get(json, "content") : json;
}

static mr_token find_id(const mr_tokenizer *t, const mr_json_value *text) {
    text = text_of(text);
    if (!mr_json_is(text, MR_JSON_STRING) || text->len == 0) return -1;
    mr_token id = mr_tokenizer_find_special(t, text->text, text->len);
    return id >= 0 ? id : mr_vocab_find(&t->vocab, text->text, text->len);
}

/* The token that tokenizer_config.json or special_tokens_map.json names under key. */
static void set_named(const folder *f, const mr_tokenizer *t, const char *key, mr_token *id) {
    mr_token named = find_id(t, member(&f->tokenizer, key));
    if (named < 0) named = find_id(t, member(&f->special, key));
    if (named >= 0) *id = named;
}

static void set_numbered(const folder *f, const mr_tokenizer *t, const char *key, mr_token *id) {
    uint32_t number;
    const mr_json_value *json = member(&f->generation, key);
    if (mr_json_is(json, MR_JSON_ARRAY) && json->len > 0) json = mr_json_first(json);
    if (*id < 0 && mr_json_u32(json, &number) && number < t->vocab.n) *id = (mr_token)number;
}

static void set_special(const folder *f, mr_tokenizer *t) {
    set_named(f, t, "bos_token", &t->bos);
    set_named(f, t, "eos_token", &t->eos);
    set_named(f, t, "unk_token", &t->unk);
    set_named(f, t, "pad_token", &t->pad);
    set_numbered(f, t, "bos_token_id", &t->bos);
    set_numbered(f, t, "eos_token_id", &t->eos);
    set_numbered(f, t, "pad_token_id", &t->pad);
}

/* Every id in the eos_token_id of generation_config.json (else config.json) ends a generation. */
static void mark_eog(const folder *f, mr_tokenizer *t) {
    const mr_json_value *json = member(&f->generation, "eos_token_id");
    bool list = mr_json_is(json, MR_JSON_ARRAY);
    uint32_t n = list ? json->len : json != NULL, id;
    const mr_json_value *at = list && n > 0 ? mr_json_first(json) : json;
    for (uint32_t i = 0; i < n; i++) {
        if (mr_json_u32(at, &id) && id < t->vocab.n) t->vocab.attr[id] |= MR_TOKEN_EOG;
        if (list) at = mr_json_next(at);
    }
}

static bool class_has(const folder *f, const char *word) {
    const mr_json_value *class = member(&f->tokenizer, "tokenizer_class");
    if (!mr_json_is(class, MR_JSON_STRING)) return false;
    size_t n = strlen(word);
    for (uint32_t i = 0; i + n <= class->len; i++) {
        if (memcmp(class->text + i, word, n) == 0) return true;
    }
    return false;
}

static bool contains(const mr_tokens *ids, mr_token id) {
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->ids[i] == id) return true;
    }
    return false;
}

/* Whether bos and eos go around a text. `sentencepiece`: the file has no post-processor, so the class decides; the
 * Llama and Gemma classes build theirs from the configuration in any case. */
static mr_status set_around(const folder *f, mr_tokenizer *t, bool sentencepiece) {
    const mr_json_value *bos = member(&f->tokenizer, "add_bos_token"), *eos = member(&f->tokenizer, "add_eos_token");
    bool given = (bos != NULL || eos != NULL) && (class_has(f, "Llama") || class_has(f, "Gemma"));
    if (sentencepiece || given) {
        bool t5 = class_has(f, "T5") || (t->model == MR_MODEL_UNIGRAM && f->tokenizer.json.n == 0);
        t->around.before.n = t->around.behind.n = 0;
        bool ok = true;
        if (t->bos >= 0 && mr_json_bool(bos, t->model == MR_MODEL_BPE)) ok = mr_tokens_push(&t->around.before, t->bos);
        if (t->eos >= 0 && mr_json_bool(eos, t5)) ok = mr_tokens_push(&t->around.behind, t->eos) && ok;
        if (!ok) return mr_fail_nomem(f->err, 64, "the tokenizer");
    }
    t->add_bos = t->bos >= 0 && contains(&t->around.before, t->bos);
    t->add_eos = t->eos >= 0 && contains(&t->around.behind, t->eos);
    return MR_OK;
}

static mr_status push_extra(folder *f, mr_tokenizer *t, const mr_json_value *text, uint32_t id,
                            const mr_json_value *options) {
    if (f->n_extra >= MAX_EXTRA || !mr_json_is(text, MR_JSON_STRING) || text->len == 0) return MR_OK;
    mr_added_token *extra = realloc(f->extra, (f->n_extra + 1) * sizeof *extra);
    if (extra != NULL) f->extra = extra;
    char *copy = mr_arena_strndup(&t->arena, text->text, text->len);
    if (extra == NULL || copy == NULL) return mr_fail_nomem(f->err, f->n_extra * sizeof *extra, "the added tokens");
    extra[f->n_extra++] = (mr_added_token){
        .text = copy,
        .len = text->len,
        .id = id < MR_VOCAB_MAX ? (mr_token)id : -1,
        .special = mr_json_bool(mr_json_get(options, "special"), true),
        .lstrip = mr_json_bool(mr_json_get(options, "lstrip"), false),
        .rstrip = mr_json_bool(mr_json_get(options, "rstrip"), false),
        .single_word = mr_json_bool(mr_json_get(options, "single_word"), false),
    };
    return MR_OK;
}

/* added_tokens.json is {"text": id}; tokenizer_config.json has "added_tokens_decoder": {"id": {"content": …}}. */
static mr_status read_extra(folder *f, mr_tokenizer *t) {
    mr_status status = read_config(f, "added_tokens.json", &f->added);
    const mr_json_value *list = member(&f->tokenizer, "added_tokens_decoder");
    bool by_id = mr_json_is(list, MR_JSON_OBJECT);
    if (!by_id) list = f->added.json.n > 0 ? &f->added.json.values[0] : NULL;
    if (status != MR_OK || !mr_json_is(list, MR_JSON_OBJECT)) return status;
    const mr_json_value *key = mr_json_first(list);
    for (uint32_t i = 0; i < list->len && status == MR_OK; i++) {
        const mr_json_value *value = mr_json_next(key);
        mr_json_value number = {.kind = MR_JSON_NUMBER, .text = key->text, .len = key->len};
        uint32_t id;
        if (mr_json_u32(by_id ? &number : value, &id)) {
            status = push_extra(f, t, by_id ? mr_json_get(value, "content") : key, id, by_id ? value : NULL);
        }
        key = mr_json_next(value);
    }
    return status;
}

static mr_status load(folder *f, mr_tokenizer *t, const char *path, bool json) {
    mr_buf bytes = {0};
    mr_status status = read_config(f, "tokenizer_config.json", &f->tokenizer);
    if (status == MR_OK) status = read_config(f, "special_tokens_map.json", &f->special);
    if (status == MR_OK) status = read_config(f, "generation_config.json", &f->generation);
    /* Without that file, transformers takes the ids from the model's own configuration. */
    if (status == MR_OK && f->generation.json.n == 0) status = read_config(f, "config.json", &f->generation);
    if (status == MR_OK) status = mr_file_read(&bytes, path, MAX_FILE, f->err);
    if (status == MR_OK && json) status = mr_tokenizer_read_json(t, bytes.data, bytes.len, f->err);
    if (status == MR_OK && !json) {
        status = read_extra(f, t);
        if (status == MR_OK) {
            status = mr_tokenizer_read_sentencepiece(t, mr_buf_cstr(&bytes), bytes.len, f->extra, f->n_extra, f->err);
        }
    }
    mr_buf_free(&bytes);
    if (status != MR_OK) return status;
    set_special(f, t);
    status = set_around(f, t, !json);
    if (status == MR_OK) status = mr_tokenizer_finish(t, f->err);
    if (status == MR_OK) mark_eog(f, t);
    return status;
}

/* The part of path in front of its last slash, "." when there is none. */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    char *parent = malloc(n + 1);
    if (parent == NULL) return NULL;
    memcpy(parent, path, n);
    parent[n] = '\0';
    return parent;
}

/* Which file to read: path itself, or one of the two in the folder. free() the result. */
static mr_status choose_file(folder *f, const char *path, char **file, bool *json) {
    bool is_file = mr_path_is_file(path);
    f->path = is_file ? parent_of(path) : strdup(path);
    if (f->path == NULL) return mr_fail_nomem(f->err, strlen(path), "a path");
    if (is_file) {
        *json = mr_has_suffix(path, ".json");
        *file = strdup(path);
        return *file != NULL ? MR_OK : mr_fail_nomem(f->err, strlen(path), "a path");
    }
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "spiece.model"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        *file = mr_path_join(path, names[i]);
        if (*file == NULL) return mr_fail_nomem(f->err, strlen(path), "a path");
        *json = i == 0;
        if (mr_path_is_file(*file)) return MR_OK;
        free(*file);
        *file = NULL;
    }
    return mr_fail(f->err, MR_ERR_NOT_FOUND, "%s has neither tokenizer.json nor tokenizer.model", path);
}

static void free_config(config *c) {
    mr_json_free(&c->json);
    mr_buf_free(&c->text);
}

mr_status mr_tokenizer_from_folder(mr_tokenizer **tokenizer, const char *path, mr_error *err) {
    *tokenizer = NULL;
    folder f = {.err = err};
    char *file = NULL;
    bool json = false;
    mr_tokenizer *t = mr_tokenizer_new();
    mr_status status = t == NULL ? mr_fail_nomem(err, sizeof *t, "the tokenizer") : choose_file(&f, path, &file, &json);
    if (status == MR_OK) {
        status = load(&f, t, file, json);
        if (status != MR_OK) mr_fail_prefix(err, "%s", file);
    }
    free(file);
    free(f.path);
    free(f.extra);
    free_config(&f.tokenizer);
    free_config(&f.special);
    free_config(&f.generation);
    free_config(&f.added);
    if (status != MR_OK) {
        mr_tokenizer_free(t);
        return status;
    }
    *tokenizer = t;
    return MR_OK;
}
