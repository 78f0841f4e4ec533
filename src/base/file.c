#define _DEFAULT_SOURCE
#include "base/file.h"

#include "base/near_name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Adds to the error what was probably meant. */
static void suggest(const char *path, mr_error *err) {
    char *nearest = mr_path_nearest(path);
    if (nearest != NULL && err != NULL) {
        char said[MR_ERROR_TEXT_MAX];
        memcpy(said, err->text, sizeof said);
        mr_fail(err, err->status, "%s; do you mean %s?", said, nearest);
    }
    free(nearest);
}

/* Opens a regular file and gets its size; returns the descriptor or -1 with *err filled. */
static int open_regular(const char *path, size_t *size, mr_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        mr_status status = errno == ENOENT || errno == ENOTDIR ? MR_ERR_NOT_FOUND : MR_ERR_IO;
        mr_fail(err, status, "cannot open %s: %s", path, strerror(errno));
        if (status == MR_ERR_NOT_FOUND) suggest(path, err);
        if (fd >= 0) close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        mr_fail(err, MR_ERR_INVALID, "%s is %s, not a regular file", path,
                S_ISDIR(st.st_mode) ? "a folder" : "special");
        close(fd);
        return -1;
    }
    *size = (size_t)st.st_size;
    return fd;
}

mr_status mr_file_map(mr_mapping *map, const char *path, mr_error *err) {
    *map = (mr_mapping){0};
    size_t size;
    int fd = open_regular(path, &size, err);
    if (fd < 0) return err != NULL ? err->status : MR_ERR_IO;
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            mr_fail(err, MR_ERR_IO, "cannot map %s (%zu bytes): %s", path, size, strerror(errno));
            close(fd);
            return MR_ERR_IO;
        }
        map->data = data;
        map->size = size;
    }
    close(fd);
    return MR_OK;
}

void mr_file_unmap(mr_mapping *map) {
    if (map->data != NULL) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (mr_mapping){0};
}

void mr_file_drop_pages(const mr_mapping *map, size_t offset, size_t n) {
    if (map->data == NULL || offset >= map->size) return;
    if (n > map->size - offset) n = map->size - offset;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)map->data + offset + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)map->data + offset + n) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

mr_status mr_file_read(mr_buf *buf, const char *path, size_t max_bytes, mr_error *err) {
    size_t size;
    int fd = open_regular(path, &size, err);
    if (fd < 0) return err != NULL ? err->status : MR_ERR_IO;
    mr_status status = MR_OK;
    size_t total = 0;
    if (size > max_bytes) {
        status = mr_fail(err, MR_ERR_LIMIT, "%s has %zu bytes; at most %zu are read", path, size, max_bytes);
    } else if (!mr_buf_reserve(buf, size)) {
        status = mr_fail_nomem(err, size, path);
    }
    while (status == MR_OK && total < size) {
        ssize_t n = read(fd, buf->data + buf->len, size - total);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = mr_fail(err, MR_ERR_IO, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0) break;
        buf->len += (size_t)n;
        total += (size_t)n;
        buf->data[buf->len] = '\0';
    }
    close(fd);
    return status;
}

bool mr_path_is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool mr_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *mr_path_join(const char *dir, const char *name) {
    mr_buf path = {0};
    if (name[0] != '/' && dir[0] != '\0') {
        mr_buf_puts(&path, dir);
        if (dir[strlen(dir) - 1] != '/') mr_buf_putc(&path, '/');
    }
    mr_buf_puts(&path, name);
    char *result = mr_buf_take(&path);
    if (result == NULL) mr_buf_free(&path);
    return result;
}

bool mr_has_suffix(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && memcmp(text + n - m, suffix, m) == 0;
}
