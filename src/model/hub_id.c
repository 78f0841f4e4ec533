#include "model/hub_id.h"

#include "base/file.h"

#include <ctype.h>
#include <string.h>

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

/* One half of ORG/NAME. Two dots or dashes in a row could leave the folder or look like its separator. */
static bool is_repo_part(const char *text, size_t len) {
    if (len == 0 || text[0] == '.' || text[0] == '-' || text[len - 1] == '.' || text[len - 1] == '-') return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_word(text[i])) return false;
        if (i > 0 && text[i] == text[i - 1] && (text[i] == '.' || text[i] == '-')) return false;
    }
    return true;
}

/* Whether text is a relative path of plain components. */
static bool is_plain_path(const char *text, size_t len) {
    for (size_t begin = 0; begin <= len;) {
        size_t end = begin;
        for (; end < len && text[end] != '/'; end++) {
            unsigned char c = (unsigned char)text[end];
            if (c < 0x20 || c == 0x7F || c == '\\') return false;
        }
        size_t n = end - begin;
        if (n == 0 || n > MR_HUB_NAME_MAX) return false;
        if (text[begin] == '.' && (n == 1 || (n == 2 && text[begin + 1] == '.'))) return false;
        begin = end + 1;
    }
    return true;
}

bool mr_hub_file_is_safe(const char *name) {
    size_t len = strlen(name);
    return len <= MR_HUB_FILE_MAX && is_plain_path(name, len);
}

bool mr_hub_etag_is_safe(const char *etag) {
    size_t len = strlen(etag);
    return len >= 1 && len <= 128 && is_repo_part(etag, len);
}

bool mr_hub_is_commit(const char *text) {
    return strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

/* Splits "…/FILE.gguf" off behind the repository's name; returns the length that is left. */
static size_t split_file(const char *text, const char **file) {
    const char *slash = strchr(text, '/'), *second = slash != NULL ? strchr(slash + 1, '/') : NULL;
    *file = "";
    if (second == NULL || !mr_has_suffix(text, ".gguf")) return strlen(text);
    *file = second + 1;
    return (size_t)(second - text);
}

mr_status mr_hub_id_parse(mr_hub_id *id, const char *text, mr_error *err) {
    *id = (mr_hub_id){0};
    const char *file;
    size_t len = split_file(text, &file);
    const char *at = memchr(text, '@', len), *slash = memchr(text, '/', len);
    size_t n_repo = at != NULL ? (size_t)(at - text) : len;
    size_t n_org = slash != NULL ? (size_t)(slash - text) : 0;
    if (n_repo > MR_HUB_REPO_MAX || n_org + 1 >= n_repo || !is_repo_part(text, n_org) ||
        !is_repo_part(text + n_org + 1, n_repo - n_org - 1)) {
        return mr_fail(err, MR_ERR_INVALID,
                       "\"%.200s\" is no name of a repository; it is ORG/NAME or ORG/NAME@REVISION", text);
    }
    const char *revision = at != NULL ? at + 1 : "main";
    size_t n_revision = at != NULL ? len - n_repo - 1 : strlen(revision);
    if (n_revision > MR_HUB_NAME_MAX || !is_plain_path(revision, n_revision))
        return mr_fail(err, MR_ERR_INVALID, "\"%.200s\" has no fit revision behind the @", text);
    if (*file != '\0' && !mr_hub_file_is_safe(file))
        return mr_fail(err, MR_ERR_INVALID, "\"%.200s\" has no fit file name behind the repository", text);
    memcpy(id->repo, text, n_repo);
    memcpy(id->revision, revision, n_revision);
    memcpy(id->file, file, strlen(file));
    return MR_OK;
}

bool mr_hub_id_plausible(const char *text) {
    mr_hub_id id;
    return mr_hub_id_parse(&id, text, NULL) == MR_OK;
}
