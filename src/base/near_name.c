#define _DEFAULT_SOURCE
#include "base/near_name.h"

#include "base/file.h"
#include "base/min.h"

#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 255, MAX_ENTRIES = 10000 };

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

size_t mr_name_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX_NAME || m > MAX_NAME) return SIZE_MAX;
    size_t rows[3][MAX_NAME + 1]; /* the last two rows and the new one, in turn */
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t other = lower(a[i - 1]) != lower(b[j - 1]);
            row[j] = mr_min_size(above[j - 1] + other, mr_min_size(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]))
                row[j] = mr_min_size(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

char *mr_path_nearest(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t n = strlen(name);
    if (n == 0 || n > MAX_NAME) return NULL;
    char *folder = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    DIR *dir = folder != NULL ? opendir(folder) : NULL;
    char best[MAX_NAME + 1];
    size_t best_distance = n / 3 + 1; /* no more than a third of it may be wrong */
    bool found = false;
    struct dirent *entry;
    for (int i = 0; dir != NULL && i < MAX_ENTRIES && (entry = readdir(dir)) != NULL; i++) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        size_t distance = mr_name_distance(name, entry->d_name);
        if (distance > best_distance || (found && distance == best_distance && strcmp(entry->d_name, best) >= 0))
            continue;
        best_distance = distance;
        memcpy(best, entry->d_name, strlen(entry->d_name) + 1);
        found = true;
    }
    if (dir != NULL) closedir(dir);
    char *nearest = !found ? NULL : slash == NULL ? strdup(best) : mr_path_join(folder, best);
    free(folder);
    return nearest;
}
