/* Files: whole reads, read-only mappings, paths. */
#ifndef MR_BASE_FILE_H
#define MR_BASE_FILE_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file mapped read-only. The mapping is private; `data` is NULL for an empty file. */
typedef struct mr_mapping {
    const uint8_t *data;
    size_t size;
} mr_mapping;

/* Maps the regular file at path. Errors: MR_ERR_NOT_FOUND, MR_ERR_IO, MR_ERR_INVALID (a folder, a device). */
mr_status mr_file_map(mr_mapping *map, const char *path, mr_error *err);
void mr_file_unmap(mr_mapping *map);

/* Tells the kernel that the pages of data[offset .. offset+n) are not needed any more (they can be read again). */
void mr_file_drop_pages(const mr_mapping *map, size_t offset, size_t n);

/* Appends the whole file to buf; more than max_bytes is MR_ERR_LIMIT. */
mr_status mr_file_read(mr_buf *buf, const char *path, size_t max_bytes, mr_error *err);

bool mr_path_is_file(const char *path);
bool mr_path_is_dir(const char *path);

/* "dir/name" (name alone when it is absolute or dir is empty); free() it. NULL when memory runs out. */
char *mr_path_join(const char *dir, const char *name);

/* Whether text ends with suffix. */
bool mr_has_suffix(const char *text, const char *suffix);

#endif
