#define _DEFAULT_SOURCE
#include "base/file.h"
#include "text/text_model_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAMED = 20 }; /* files that an error names */

typedef struct listing {
    char *first;  /* name of the first model in the order of names */
    size_t n;     /* models */
    mr_buf names; /* of the first ones, for an error */
    bool has_safetensors;
    bool failed; /* no memory */
} listing;

/* Whether the file is a later part of a split model, NAME-0000I-of-0000N.gguf with I > 1, or a projector for images,
 * which are no models of their own. */
static bool is_companion(const char *name) {
    size_t len = strlen(name);
    unsigned part, n_parts;
    if (strncmp(name, "mmproj", 6) == 0) return true;
    return len > 20 && sscanf(name + len - 20, "-%5u-of-%5u.gguf", &part, &n_parts) == 2 && part > 1;
}

static int compare_names(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_name(listing *l, const char *name) {
    if (mr_has_suffix(name, ".safetensors")) l->has_safetensors = true;
    if (!mr_has_suffix(name, ".gguf") || is_companion(name)) return;
    if (l->n++ == 0) {
        l->first = strdup(name);
        l->failed = l->first == NULL;
    }
    if (l->n <= MAX_NAMED) mr_buf_printf(&l->names, "%s%s", l->n > 1 ? ", " : "", name);
    if (l->n == MAX_NAMED + 1) mr_buf_puts(&l->names, ", …");
}

static mr_status list_folder(const char *folder, listing *l, mr_error *err) {
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, compare_names);
    if (n < 0) return mr_fail(err, MR_ERR_IO, "cannot list the folder %s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        add_name(l, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return l->failed || l->names.failed ? mr_fail_nomem(err, 0, "the list of a folder") : MR_OK;
}

static mr_status choose(const char *folder, const listing *l, char **found, mr_error *err) {
    if (l->n == 1) {
        *found = mr_path_join(folder, l->first);
        return *found != NULL ? MR_OK : mr_fail_nomem(err, strlen(folder), "a path");
    }
    if (l->n > 1) {
        return mr_fail(err, MR_ERR_INVALID, "the folder %s holds %zu models; name one of them: %s", folder, l->n,
                       mr_buf_cstr(&l->names));
    }
    if (l->has_safetensors) {
        *found = strdup(folder);
        return *found != NULL ? MR_OK : mr_fail_nomem(err, strlen(folder), "a path");
    }
    return mr_fail(err, MR_ERR_NOT_FOUND, "the folder %s holds no .gguf file and no safetensors", folder);
}

mr_status mr_model_path_find(const char *path, char **found, mr_error *err) {
    *found = NULL;
    if (!mr_path_is_dir(path)) {
        *found = strdup(path);
        return *found != NULL ? MR_OK : mr_fail_nomem(err, strlen(path) + 1, "a path");
    }
    listing l = {0};
    mr_status status = list_folder(path, &l, err);
    if (status == MR_OK) status = choose(path, &l, found, err);
    free(l.first);
    mr_buf_free(&l.names);
    return status;
}
