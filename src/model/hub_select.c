#define _POSIX_C_SOURCE 200809L
#include "model/hub_select.h"

#include "base/file.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTED = 20, MAX_INDEX_BYTES = 64 << 20, N_SPLIT = 20 };

static const char INDEX[] = "model.safetensors.index.json", SINGLE[] = "model.safetensors";

static bool has(const mr_hub_names *names, const char *name) {
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->names[i], name) == 0) return true;
    }
    return false;
}

/* There is room for every name of the repository. */
static void add(mr_hub_names *names, const char *name) {
    if (!has(names, name)) names->names[names->n++] = name;
}

static bool begins(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The small files that say what a model is and how its text is read. */
static bool is_description(const char *name, bool with_weights) {
    static const char *const EXACT[] = {"config.json",
                                        "generation_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "vocab.txt",
                                        "merges.txt",
                                        "spiece.model"};
    static const char *const WITH_WEIGHTS[] = {INDEX, "quantize_config.json", "quant_config.json", "modules.json",
                                               "1_Pooling/config.json"};
    for (size_t i = 0; i < sizeof EXACT / sizeof EXACT[0]; i++) {
        if (strcmp(name, EXACT[i]) == 0) return true;
    }
    for (size_t i = 0; with_weights && i < sizeof WITH_WEIGHTS / sizeof WITH_WEIGHTS[0]; i++) {
        if (strcmp(name, WITH_WEIGHTS[i]) == 0) return true;
    }
    if (begins(name, "additional_chat_templates/")) return mr_has_suffix(name, ".jinja");
    return strchr(name, '/') == NULL && (begins(name, "tokenizer") || begins(name, "chat_template")) &&
           (mr_has_suffix(name, ".json") || mr_has_suffix(name, ".model") || mr_has_suffix(name, ".jinja"));
}

/* --- GGUF --- */

/* NAME-0000I-of-0000N.gguf */
static bool is_part(const char *name, unsigned *part) {
    size_t len = strlen(name);
    unsigned n_parts;
    return len > N_SPLIT && sscanf(name + len - N_SPLIT, "-%5u-of-%5u.gguf", part, &n_parts) == 2;
}

static bool is_gguf_model(const char *name) {
    const char *slash = strrchr(name, '/'), *base = slash != NULL ? slash + 1 : name;
    unsigned part = 1;
    return mr_has_suffix(name, ".gguf") && !begins(base, "mmproj") && (!is_part(name, &part) || part == 1);
}

/* Adds a GGUF file and, of a split one, all parts. */
static void add_gguf(const mr_hub_names *all, const char *name, mr_hub_names *needed) {
    unsigned part;
    add(needed, name);
    if (!is_part(name, &part)) return;
    size_t len = strlen(name), n_stem = len - N_SPLIT;
    for (size_t i = 0; i < all->n; i++) {
        const char *other = all->names[i];
        if (strlen(other) == len && memcmp(other, name, n_stem) == 0 && is_part(other, &part) &&
            strcmp(other + len - 14, name + len - 14) == 0)
            add(needed, other);
    }
}

/* Appends up to MAX_LISTED names of a kind: GGUF models, or any file. */
static void list(mr_buf *text, const mr_hub_names *all, bool gguf_only) {
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) {
        if (gguf_only && !is_gguf_model(all->names[i])) continue;
        if (n++ < MAX_LISTED) mr_buf_printf(text, "%s%s", n > 1 ? ", " : "", all->names[i]);
    }
    if (n > MAX_LISTED) mr_buf_puts(text, ", …");
}

/* How many steps (a letter put in, left out or replaced) lead from a to b; case does not count. */
static unsigned distance(const char *a, const char *b) {
    enum { MAX = 128 };
    unsigned row[MAX + 1];
    size_t n = strlen(b);
    if (n > MAX || strlen(a) > MAX) return MAX;
    for (unsigned j = 0; j <= n; j++) row[j] = j;
    for (unsigned i = 1; *a != '\0'; a++, i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned replaced = diagonal + (tolower((unsigned char)*a) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            unsigned step = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = replaced < step ? replaced : step;
        }
    }
    return row[n];
}

static mr_status no_such_file(const mr_hub_names *all, const char *name, const char *repo, mr_error *err) {
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(name) / 2;
    for (size_t i = 0; i < all->n; i++) {
        unsigned steps = distance(name, all->names[i]);
        if (steps < best) best = steps, nearest = all->names[i];
    }
    mr_buf text = {0};
    if (nearest != NULL)
        mr_buf_printf(&text, "did you mean %s?", nearest);
    else {
        mr_buf_puts(&text, "it has ");
        list(&text, all, mr_has_suffix(name, ".gguf"));
    }
    mr_status status = mr_fail(err, MR_ERR_NOT_FOUND, "%s has no file %.200s; %s", repo, name, mr_buf_cstr(&text));
    mr_buf_free(&text);
    return status;
}

static mr_status select_named(const mr_hub_names *all, const char *name, const char *repo, mr_hub_names *needed,
                              mr_hub_names *open, mr_error *err) {
    for (size_t i = 0; i < all->n; i++) {
        if (strcmp(all->names[i], name) != 0) continue;
        add(open, all->names[i]);
        add_gguf(all, all->names[i], needed);
        return MR_OK;
    }
    return no_such_file(all, name, repo, err);
}

static mr_status select_one_gguf(const mr_hub_names *all, const char *repo, mr_hub_names *needed, mr_hub_names *open,
                                 mr_error *err) {
    const char *found = NULL;
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) {
        if (!is_gguf_model(all->names[i])) continue;
        found = all->names[i];
        n++;
    }
    if (n == 1) return select_named(all, found, repo, needed, open, err);
    mr_buf text = {0};
    list(&text, all, n > 1);
    mr_status status =
        n > 1 ? mr_fail(err, MR_ERR_INVALID, "%s has %zu GGUF models; name one of them in gguf_files (or %s/FILE): %s",
                        repo, n, repo, mr_buf_cstr(&text))
              : mr_fail(err, MR_ERR_NOT_FOUND, "%s has no GGUF file and no safetensors; it has %s", repo,
                        all->n > 0 ? mr_buf_cstr(&text) : "no files");
    mr_buf_free(&text);
    return status;
}

/* --- all --- */

static bool has_safetensors(const mr_hub_names *all) {
    return has(all, INDEX) || has(all, SINGLE);
}

static mr_status select_gguf(const mr_hub_names *all, const mr_hub_request *r, const char *named_file, const char *repo,
                             mr_hub_names *needed, mr_hub_names *open, mr_error *err) {
    mr_status status = MR_OK;
    if (*named_file != '\0') return select_named(all, named_file, repo, needed, open, err);
    for (size_t i = 0; i < r->n_files && status == MR_OK; i++)
        status = select_named(all, r->files[i], repo, needed, open, err);
    if (r->n_files == 0 && r->want == MR_HUB_GGUF && has_safetensors(all)) {
        bool any = false;
        for (size_t i = 0; i < all->n; i++) any = any || is_gguf_model(all->names[i]);
        if (!any) {
            return mr_fail(err, MR_ERR_NOT_FOUND, "%s has no GGUF file, but safetensors; name it in text_model instead",
                           repo);
        }
    }
    return r->n_files > 0 ? status : select_one_gguf(all, repo, needed, open, err);
}

mr_status mr_hub_select(const mr_hub_names *all, const mr_hub_request *r, const char *named_file, const char *repo,
                        mr_arena *arena, mr_hub_names *needed, mr_hub_names *open, mr_error *err) {
    *needed = (mr_hub_names){.names = mr_arena_calloc(arena, all->n + 1, sizeof *needed->names)};
    *open = (mr_hub_names){.names = mr_arena_calloc(arena, all->n + 1, sizeof *open->names)};
    if (needed->names == NULL || open->names == NULL) return mr_fail_nomem(err, all->n, "the files of a repository");
    bool is_folder = r->n_files == 0 && *named_file == '\0' && r->want == MR_HUB_MODEL && has_safetensors(all);
    if (r->want == MR_HUB_GGUF || r->want == MR_HUB_FILES || (r->want == MR_HUB_MODEL && !is_folder))
        return select_gguf(all, r, named_file, repo, needed, open, err);
    for (size_t i = 0; i < all->n; i++) {
        if (is_description(all->names[i], is_folder)) add(needed, all->names[i]);
    }
    if (needed->n > 0) return MR_OK;
    return mr_fail(err, MR_ERR_NOT_FOUND, "%s has no tokenizer", repo);
}

/* The shards that the index's weight_map names. */
static mr_status select_shards(const mr_hub_names *all, const json_t *index, mr_hub_names *needed, mr_error *err) {
    const json_t *map = json_object_get(index, "weight_map");
    const char *key;
    json_t *value;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return mr_fail(err, MR_ERR_INVALID, "%s has no weight_map", INDEX);
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const char *shard = json_string_value(value);
        size_t i = 0;
        while (shard != NULL && i < all->n && strcmp(all->names[i], shard) != 0) i++;
        if (shard == NULL || i == all->n) {
            return mr_fail(err, MR_ERR_NOT_FOUND, "%s names the file %.200s, which is not there", INDEX,
                           shard != NULL ? shard : "(no text)");
        }
        if (needed->n == 0 || needed->names[needed->n - 1] != all->names[i]) add(needed, all->names[i]);
    }
    return MR_OK;
}

mr_status mr_hub_select_weights(const mr_hub_names *all, const char *snapshot, mr_arena *arena, mr_hub_names *needed,
                                mr_error *err) {
    *needed = (mr_hub_names){.names = mr_arena_calloc(arena, all->n + 1, sizeof *needed->names)};
    if (needed->names == NULL) return mr_fail_nomem(err, all->n, "the files of a repository");
    if (!has(all, INDEX)) {
        if (!has(all, SINGLE)) return mr_fail(err, MR_ERR_NOT_FOUND, "there is no %s", SINGLE);
        add(needed, SINGLE);
        return MR_OK;
    }
    char *path = mr_path_join(snapshot, INDEX);
    mr_buf text = {0};
    json_error_t where;
    json_t *index = NULL;
    mr_status status = path != NULL ? mr_file_read(&text, path, MAX_INDEX_BYTES, err) : mr_fail_nomem(err, 0, "a path");
    if (status == MR_OK && (index = json_loadb(mr_buf_cstr(&text), text.len, 0, &where)) == NULL)
        status = mr_fail(err, MR_ERR_INVALID, "%s line %d: %s", INDEX, where.line, where.text);
    if (status == MR_OK) status = select_shards(all, index, needed, err);
    json_decref(index);
    mr_buf_free(&text);
    free(path);
    return status;
}
