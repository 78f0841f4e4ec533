#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::hub"
#include "model/hub.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "model/hub_cache.h"
#include "model/hub_download.h"
#include "model/hub_select.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST_BYTES = 64 << 20, MAX_FILES = 100000, MAX_ARENA = 256 << 20 };

typedef struct fetch {
    const mr_hub_request *request;
    mr_hub_env env;
    mr_hub_id id;
    mr_http *http; /* NULL: nothing is asked */
    mr_arena arena;
    char commit[41];
    char *snapshot;
    mr_hub_names all;
    char **cached; /* names of the snapshot's files, for the offline case */
    mr_error *err;
} fetch;

/* --- the list of files --- */

static mr_status take_list(fetch *f, const mr_buf *text) {
    json_error_t where;
    json_t *info = json_loadb(mr_buf_cstr(text), text->len, 0, &where);
    const char *commit = json_string_value(json_object_get(info, "sha"));
    const json_t *siblings = json_object_get(info, "siblings");
    size_t n = json_array_size(siblings);
    mr_status status = MR_OK;
    if (commit == NULL || !mr_hub_is_commit(commit) || !json_is_array(siblings) || n > MAX_FILES) {
        status = mr_fail(f->err, MR_ERR_UNAVAILABLE,
                         "%s answers with something else than a list of files; check HF_ENDPOINT", f->env.endpoint);
    } else {
        memcpy(f->commit, commit, sizeof f->commit);
        f->all.names = mr_arena_calloc(&f->arena, n + 1, sizeof *f->all.names);
        if (f->all.names == NULL) status = mr_fail_nomem(f->err, n, "the files of a repository");
    }
    for (size_t i = 0; i < n && status == MR_OK; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
        if (name == NULL || !mr_hub_file_is_safe(name)) continue; /* no file that could be needed */
        const char *copy = mr_arena_strndup(&f->arena, name, strlen(name));
        if (copy == NULL) status = mr_fail_nomem(f->err, strlen(name), "the files of a repository");
        f->all.names[f->all.n++] = copy;
    }
    json_decref(info);
    return status;
}

static char *list_url(const fetch *f) {
    mr_buf url = {0};
    mr_buf_printf(&url, "%s/api/models/%s/revision/", f->env.endpoint, f->id.repo);
    mr_http_escape(&url, f->id.revision, false);
    char *text = mr_buf_take(&url);
    if (text == NULL) mr_buf_free(&url);
    return text;
}

/* Waits between attempts, but not for one who gives up. */
static void pause_for(fetch *f, long ms) {
    for (; ms > 0 && !mr_cancel_is_set(f->request->cancel); ms -= 50) mr_http_next(f->http, ms < 50 ? (int)ms : 50);
}

/* Asks the hub for the commit and its files. MR_ERR_UNAVAILABLE with *unreachable: nobody answers. */
static mr_status ask_list(fetch *f, bool *unreachable) {
    mr_status status = mr_http_new(&f->http, &f->env, f->request->cancel, f->err);
    char *url = status == MR_OK ? list_url(f) : NULL;
    mr_buf text = {0};
    mr_http_answer answer = {0};
    if (status == MR_OK && url == NULL) status = mr_fail_nomem(f->err, 0, "a URL");
    for (unsigned n = 0; status == MR_OK && n <= MR_HUB_MAX_FAILURES; n++) {
        mr_buf_clear(&text);
        status = mr_http_get(f->http, url, MAX_LIST_BYTES, &text, &answer, f->err);
        if (status != MR_OK || !mr_http_is_passing(&answer) || n == MR_HUB_MAX_FAILURES) break;
        pause_for(f, mr_hub_backoff_ms(n, &answer));
    }
    if (status == MR_OK && (answer.status != 200 || answer.failure[0] != '\0')) {
        *unreachable = answer.failure[0] != '\0' || mr_http_is_passing(&answer);
        status = mr_hub_refused(&f->env, &f->id, NULL, &answer, f->err);
    } else if (status == MR_OK) {
        status = take_list(f, &text);
    }
    mr_buf_free(&text);
    free(url);
    return status;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What the cache has of the revision, as if that were the repository's list. */
static mr_status list_cached(fetch *f) {
    if (!mr_hub_ref_read(&f->env, &f->id, f->commit))
        return mr_fail(f->err, MR_ERR_NOT_FOUND, "the cache %s has nothing of it at revision %s", f->env.cache,
                       f->id.revision);
    char *snapshot = mr_hub_snapshot_folder(&f->env, f->id.repo, f->commit);
    f->cached = snapshot != NULL ? mr_hub_snapshot_files(snapshot, &f->all.n) : NULL;
    free(snapshot);
    if (f->cached == NULL) return mr_fail_nomem(f->err, 0, "the files of a repository");
    qsort(f->cached, f->all.n, sizeof *f->cached, compare_names);
    f->all.names = (const char **)f->cached;
    if (f->all.n == 0) return mr_fail(f->err, MR_ERR_NOT_FOUND, "the cache %s has no files of it", f->env.cache);
    return MR_OK;
}

/* --- fetching --- */

/* Brings names into the snapshot; from the cache alone they are there already. */
static mr_status bring(fetch *f, const mr_hub_names *names, bool with_progress) {
    if (f->http == NULL) return MR_OK;
    mr_hub_download d = {.env = &f->env,
                         .http = f->http,
                         .id = &f->id,
                         .commit = f->commit,
                         .files = names->names,
                         .n_files = names->n,
                         .progress = with_progress ? f->request->progress : NULL,
                         .progress_ctx = f->request->progress_ctx,
                         .cancel = f->request->cancel};
    return mr_hub_download_files(&d, f->err);
}

static mr_status take_result(fetch *f, const mr_hub_names *open, mr_hub_result *result) {
    result->files = calloc(open->n + 1, sizeof *result->files);
    mr_status status = result->files == NULL ? mr_fail_nomem(f->err, open->n, "file names") : MR_OK;
    for (size_t i = 0; i < open->n && status == MR_OK; i++) {
        result->files[i] = strdup(open->names[i]);
        if (result->files[i] == NULL) status = mr_fail_nomem(f->err, 0, "file names");
        result->n_files++;
    }
    result->folder = f->snapshot;
    f->snapshot = NULL;
    return status;
}

/* Whether every part of the split GGUF files is among the names; the cache may hold a torn download. */
static mr_status check_parts(fetch *f, const mr_hub_names *needed, const mr_hub_names *open) {
    for (size_t i = 0; i < open->n; i++) {
        const char *name = open->names[i];
        size_t len = strlen(name), n_have = 0;
        unsigned part, n_parts;
        if (len <= 20 || sscanf(name + len - 20, "-%5u-of-%5u.gguf", &part, &n_parts) != 2) continue;
        for (size_t j = 0; j < needed->n; j++)
            n_have += strlen(needed->names[j]) == len && memcmp(needed->names[j], name, len - 20) == 0;
        if (n_have < n_parts)
            return mr_fail(f->err, MR_ERR_NOT_FOUND, "of the %u parts of %s, %zu are there", n_parts, name, n_have);
    }
    return MR_OK;
}

/* From the list to the files; the list is of the hub or of the cache. */
static mr_status fetch_listed(fetch *f, mr_hub_result *result) {
    mr_hub_names needed, open, weights;
    const mr_hub_request *r = f->request;
    f->snapshot = mr_hub_snapshot_folder(&f->env, f->id.repo, f->commit);
    if (f->snapshot == NULL) return mr_fail_nomem(f->err, 0, "a path");
    mr_status status = mr_hub_select(&f->all, r, f->id.file, f->id.repo, &f->arena, &needed, &open, f->err);
    if (status == MR_OK) status = check_parts(f, &needed, &open);
    if (status == MR_OK) status = bring(f, &needed, open.n > 0);
    if (status == MR_OK && r->want == MR_HUB_MODEL && open.n == 0) {
        status = mr_hub_select_weights(&f->all, f->snapshot, &f->arena, &weights, f->err);
        if (status == MR_OK) status = bring(f, &weights, true);
    }
    if (status == MR_OK && f->http != NULL) mr_hub_ref_write(&f->env, &f->id, f->commit);
    return status == MR_OK ? take_result(f, &open, result) : status;
}

static mr_status fetch_cached(fetch *f, mr_hub_result *result) {
    mr_http_free(f->http);
    f->http = NULL;
    mr_status status = list_cached(f);
    return status == MR_OK ? fetch_listed(f, result) : status;
}

/* Whether what is wanted is told in full, so that the cache alone can say whether it is there. */
static bool is_pinned(const fetch *f) {
    const mr_hub_request *r = f->request;
    return mr_hub_is_commit(f->id.revision) && (r->n_files > 0 || f->id.file[0] != '\0' || r->want == MR_HUB_MODEL);
}

static mr_status fetch_all(fetch *f, mr_hub_result *result) {
    if (f->env.offline) {
        mr_status status = fetch_cached(f, result);
        return status == MR_OK ? status
                               : mr_fail_prefix(f->err, "HF_HUB_OFFLINE is set, so %s is not downloaded", f->id.repo);
    }
    if (is_pinned(f) && fetch_cached(f, result) == MR_OK) return MR_OK;
    mr_hub_result_free(result);
    free(f->snapshot);
    free(f->cached);
    f->snapshot = NULL;
    f->cached = NULL;
    f->all = (mr_hub_names){0};
    bool unreachable = false;
    mr_status status = ask_list(f, &unreachable);
    if (status == MR_OK) return fetch_listed(f, result);
    if (!unreachable) return status;
    mr_error why = *f->err;
    if (fetch_cached(f, result) == MR_OK) {
        MR_WARN("%s; %s is taken from the cache as it is", why.text, f->id.repo);
        return MR_OK;
    }
    mr_hub_result_free(result);
    mr_error cache = *f->err;
    return mr_fail(f->err, why.status, "%.400s; and %.400s", why.text, cache.text);
}

mr_status mr_hub_fetch(const mr_hub_request *request, mr_hub_result *result, mr_error *err) {
    mr_error own = {0};
    fetch f = {.request = request, .err = err != NULL ? err : &own};
    f.arena.max_bytes = MAX_ARENA;
    *result = (mr_hub_result){0};
    mr_status status = mr_hub_id_parse(&f.id, request->id, f.err);
    if (status == MR_OK) status = mr_hub_env_read(&f.env, f.err);
    if (status == MR_OK) {
        status = fetch_all(&f, result);
        mr_http_free(f.http);
        free(f.snapshot);
        free(f.cached);
        mr_hub_env_free(&f.env);
    }
    mr_arena_free(&f.arena);
    if (status != MR_OK) mr_hub_result_free(result);
    return status;
}

void mr_hub_result_free(mr_hub_result *result) {
    for (size_t i = 0; i < result->n_files; i++) free(result->files[i]);
    free(result->files);
    free(result->folder);
    *result = (mr_hub_result){0};
}
