#define _GNU_SOURCE
#include "model/hub_cache.h"

#include "base/buf.h"
#include "base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TOKEN = 4096, MAX_DEPTH = 16, MAX_FILES = 100000 };

/* --- the environment --- */

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool is_true(const char *value) {
    return value != NULL && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 ||
                             strcasecmp(value, "yes") == 0 || strcasecmp(value, "on") == 0);
}

/* A path of the environment with a leading ~ resolved; free() it. */
static char *expand(const char *path) {
    const char *home = variable("HOME");
    if (path[0] != '~' || (path[1] != '/' && path[1] != '\0') || home == NULL) return strdup(path);
    return mr_path_join(home, path[1] == '/' ? path + 2 : "");
}

/* HF_HOME or what stands for it; NULL and *err when nothing says where that is. */
static char *home_folder(mr_error *err) {
    const char *value = variable("HF_HOME"), *xdg = variable("XDG_CACHE_HOME"), *home = variable("HOME");
    char *folder = NULL;
    if (value != NULL)
        folder = expand(value);
    else if (xdg != NULL)
        folder = mr_path_join(xdg, "huggingface");
    else if (home != NULL)
        folder = mr_path_join(home, ".cache/huggingface");
    else {
        mr_fail(err, MR_ERR_INVALID, "there is no folder for downloads: set HF_HOME (or HOME)");
        return NULL;
    }
    if (folder == NULL) mr_fail_nomem(err, 0, "a path");
    return folder;
}

/* Takes the first line of a token; one that cannot stand in a header is an error. */
static mr_status take_token(mr_hub_env *env, const char *text, const char *where, mr_error *err) {
    while (isspace((unsigned char)*text)) text++;
    size_t len = strcspn(text, "\r\n");
    while (len > 0 && isspace((unsigned char)text[len - 1])) len--;
    if (len == 0) return MR_OK;
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] == 0x7F || len > MAX_TOKEN)
            return mr_fail(err, MR_ERR_INVALID, "%s holds no token of the hub; correct it or empty it", where);
    }
    env->token = strndup(text, len);
    return env->token != NULL ? MR_OK : mr_fail_nomem(err, len, "a token");
}

static mr_status read_token(mr_hub_env *env, const char *home, mr_error *err) {
    if (is_true(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return MR_OK;
    const char *value = variable("HF_TOKEN"), *file = variable("HF_TOKEN_PATH");
    if (value == NULL) value = variable("HUGGING_FACE_HUB_TOKEN");
    if (value != NULL) return take_token(env, value, "HF_TOKEN", err);
    char *path = file != NULL ? expand(file) : mr_path_join(home, "token");
    if (path == NULL) return mr_fail_nomem(err, 0, "a path");
    mr_buf text = {0};
    mr_status status = MR_OK;
    if (mr_path_is_file(path) && (status = mr_file_read(&text, path, MAX_TOKEN, err)) == MR_OK)
        status = take_token(env, mr_buf_cstr(&text), path, err);
    mr_buf_free(&text);
    free(path);
    return status;
}

static mr_status read_endpoint(mr_hub_env *env, mr_error *err) {
    const char *value = variable("HF_ENDPOINT");
    if (value == NULL) value = "https://huggingface.co";
    size_t len = strlen(value);
    while (len > 0 && value[len - 1] == '/') len--;
    if (strncmp(value, "https://", 8) != 0 && strncmp(value, "http://", 7) != 0)
        return mr_fail(err, MR_ERR_INVALID, "HF_ENDPOINT=%.200s is no URL; it begins with https:// or http://", value);
    env->endpoint = strndup(value, len);
    return env->endpoint != NULL ? MR_OK : mr_fail_nomem(err, len, "a URL");
}

mr_status mr_hub_env_read(mr_hub_env *env, mr_error *err) {
    *env = (mr_hub_env){.timeout = 30};
    char *home = home_folder(err);
    if (home == NULL) return err != NULL ? err->status : MR_ERR_INVALID;
    const char *cache = variable("HF_HUB_CACHE"), *timeout = variable("HF_HUB_DOWNLOAD_TIMEOUT");
    if (cache == NULL) cache = variable("HUGGINGFACE_HUB_CACHE");
    env->cache = cache != NULL ? expand(cache) : mr_path_join(home, "hub");
    env->offline = is_true(variable("HF_HUB_OFFLINE")) || is_true(variable("TRANSFORMERS_OFFLINE"));
    if (timeout != NULL && atol(timeout) > 0 && atol(timeout) < 86400) env->timeout = atol(timeout);
    mr_status status = env->cache != NULL ? read_endpoint(env, err) : mr_fail_nomem(err, 0, "a path");
    if (status == MR_OK) status = read_token(env, home, err);
    free(home);
    if (status != MR_OK) mr_hub_env_free(env);
    return status;
}

void mr_hub_env_free(mr_hub_env *env) {
    free(env->endpoint);
    free(env->cache);
    free(env->token);
    *env = (mr_hub_env){0};
}

/* --- folders --- */

static char *format_path(const char *format, ...) MR_PRINTF(1, 2);
static char *format_path(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *path;
    if (vasprintf(&path, format, args) < 0) path = NULL;
    va_end(args);
    return path;
}

static char *repo_name(const char *repo) {
    const char *slash = strchr(repo, '/');
    return format_path("models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
}

char *mr_hub_repo_folder(const mr_hub_env *env, const char *repo) {
    char *name = repo_name(repo), *path = name != NULL ? mr_path_join(env->cache, name) : NULL;
    free(name);
    return path;
}

char *mr_hub_snapshot_folder(const mr_hub_env *env, const char *repo, const char *commit) {
    char *folder = mr_hub_repo_folder(env, repo);
    char *path = folder != NULL ? format_path("%s/snapshots/%s", folder, commit) : NULL;
    free(folder);
    return path;
}

mr_status mr_hub_make_parents(const char *path, mr_error *err) {
    char *copy = strdup(path);
    if (copy == NULL) return mr_fail_nomem(err, strlen(path), "a path");
    mr_status status = MR_OK;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL && status == MR_OK; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST && !mr_path_is_dir(copy))
            status =
                mr_fail(err, MR_ERR_IO, "cannot make the folder %s: %s; set HF_HOME to another", copy, strerror(errno));
        *slash = '/';
    }
    free(copy);
    return status;
}

/* --- refs --- */

static char *ref_path(const mr_hub_env *env, const mr_hub_id *id) {
    char *folder = mr_hub_repo_folder(env, id->repo);
    char *path = folder != NULL ? format_path("%s/refs/%s", folder, id->revision) : NULL;
    free(folder);
    return path;
}

bool mr_hub_ref_read(const mr_hub_env *env, const mr_hub_id *id, char commit[41]) {
    if (mr_hub_is_commit(id->revision)) {
        memcpy(commit, id->revision, 41);
        return true;
    }
    char *path = ref_path(env, id);
    mr_buf text = {0};
    bool ok = path != NULL && mr_file_read(&text, path, 256, NULL) == MR_OK && text.len >= 40;
    if (ok) {
        memcpy(commit, text.data, 40);
        commit[40] = '\0';
        ok = mr_hub_is_commit(commit);
    }
    mr_buf_free(&text);
    free(path);
    return ok;
}

/* A name beside `path` that no other process or thread uses. */
static char *beside(const char *path) {
    return format_path("%s.%ld.%lx.tmp", path, (long)getpid(), (unsigned long)gettid());
}

void mr_hub_ref_write(const mr_hub_env *env, const mr_hub_id *id, const char *commit) {
    char known[41];
    if (mr_hub_ref_read(env, id, known) && strcmp(known, commit) == 0) return;
    char *path = ref_path(env, id), *temporary = path != NULL ? beside(path) : NULL;
    FILE *file = NULL;
    if (temporary != NULL && mr_hub_make_parents(path, NULL) == MR_OK) file = fopen(temporary, "we");
    if (file != NULL) {
        bool written = fputs(commit, file) >= 0;
        written = fclose(file) == 0 && written;
        if (!written || rename(temporary, path) != 0) unlink(temporary);
    }
    free(temporary);
    free(path);
}

/* --- snapshots --- */

/* The blob as seen from the link: one "../" for each folder from the link up to the repository's. */
static char *link_target(const char *file, const char *etag) {
    mr_buf target = {0};
    mr_buf_puts(&target, "../../");
    for (const char *c = file; *c != '\0'; c++) {
        if (*c == '/') mr_buf_puts(&target, "../");
    }
    mr_buf_printf(&target, "blobs/%s", etag);
    char *text = mr_buf_take(&target);
    if (text == NULL) mr_buf_free(&target);
    return text;
}

mr_status mr_hub_link(const char *repo_folder, const char *commit, const char *file, const char *etag, mr_error *err) {
    char *path = format_path("%s/snapshots/%s/%s", repo_folder, commit, file);
    char *target = link_target(file, etag), *temporary = path != NULL ? beside(path) : NULL;
    char *blob = format_path("%s/blobs/%s", repo_folder, etag);
    mr_status status = MR_OK;
    if (target == NULL || temporary == NULL || blob == NULL)
        status = mr_fail_nomem(err, 0, "a path");
    else if ((status = mr_hub_make_parents(path, err)) == MR_OK) {
        unlink(temporary);
        /* Where the file system has no links, the file itself goes there. */
        int rc = symlink(target, temporary) == 0 ? rename(temporary, path) : rename(blob, path);
        if (rc != 0) {
            status = mr_fail(err, MR_ERR_IO, "cannot put %s into the cache: %s", path, strerror(errno));
            unlink(temporary);
        }
    }
    free(blob);
    free(temporary);
    free(target);
    free(path);
    return status;
}

/* Names and their offsets while a folder is read. */
typedef struct listing {
    mr_buf text;
    size_t n;
} listing;

static void list_folder(listing *l, const char *folder, const char *prefix, int depth) {
    DIR *dir = opendir(folder);
    if (dir == NULL) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL && l->n < MAX_FILES;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *path = mr_path_join(folder, entry->d_name), *name = format_path("%s%s", prefix, entry->d_name);
        if (path == NULL || name == NULL) {
            l->text.failed = true;
        } else if (mr_path_is_file(path)) {
            mr_buf_append(&l->text, name, strlen(name) + 1);
            l->n++;
        } else if (mr_path_is_dir(path) && depth < MAX_DEPTH) {
            char *inner = format_path("%s/", name);
            if (inner != NULL) list_folder(l, path, inner, depth + 1);
            free(inner);
        }
        free(path);
        free(name);
    }
    closedir(dir);
}

char **mr_hub_snapshot_files(const char *snapshot, size_t *n) {
    listing l = {0};
    list_folder(&l, snapshot, "", 0);
    char **files = l.text.failed ? NULL : malloc((l.n + 1) * sizeof *files + l.text.len + 1);
    if (files != NULL) {
        char *text = (char *)(files + l.n + 1);
        if (l.text.len > 0) memcpy(text, l.text.data, l.text.len);
        for (size_t i = 0; i < l.n; i++, text += strlen(text) + 1) files[i] = text;
        files[l.n] = NULL;
        *n = l.n;
    }
    mr_buf_free(&l.text);
    return files;
}

/* --- locks --- */

mr_status mr_hub_try_lock(const mr_hub_env *env, const char *repo, const char *etag, int *fd, mr_error *err) {
    char *name = repo_name(repo);
    char *path = name != NULL ? format_path("%s/.locks/%s/%s.lock", env->cache, name, etag) : NULL;
    free(name);
    *fd = -1;
    if (path == NULL) return mr_fail_nomem(err, 0, "a path");
    mr_status status = mr_hub_make_parents(path, err);
    int lock = status == MR_OK ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    struct stat held, named;
    if (status == MR_OK && lock < 0) {
        status = mr_fail(err, MR_ERR_IO, "cannot open the lock %s: %s", path, strerror(errno));
    } else if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0 && fstat(lock, &held) == 0 && stat(path, &named) == 0 &&
               held.st_ino == named.st_ino) {
        *fd = lock; /* and the file was not removed meanwhile */
        lock = -1;
    }
    if (lock >= 0) close(lock);
    free(path);
    return status;
}
