#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024 };

struct mr_arena_chunk {
    mr_arena_chunk *next;
    size_t used, cap;
    alignas(max_align_t) char data[];
};

static mr_arena_chunk *new_chunk(size_t cap) {
    mr_arena_chunk *chunk = malloc(sizeof *chunk + cap);
    if (chunk == NULL) return NULL;
    chunk->next = NULL;
    chunk->used = 0;
    chunk->cap = cap;
    return chunk;
}

void *mr_arena_alloc(mr_arena *arena, size_t n) {
    size_t align = alignof(max_align_t);
    if (n > SIZE_MAX / 4) return NULL;
    n = (n + align - 1) / align * align;
    if (n == 0) n = align;
    if (arena->max_bytes != 0 && (n > arena->max_bytes || arena->n_bytes > arena->max_bytes - n)) return NULL;
    mr_arena_chunk *chunk = arena->head;
    if (chunk == NULL || chunk->cap - chunk->used < n) {
        size_t cap = n > CHUNK_BYTES / 4 ? n : CHUNK_BYTES;
        chunk = new_chunk(cap);
        if (chunk == NULL) return NULL;
        /* A large piece gets a chunk of its own behind the head, which may have room left. */
        if (cap == n && arena->head != NULL) {
            chunk->next = arena->head->next;
            arena->head->next = chunk;
        } else {
            chunk->next = arena->head;
            arena->head = chunk;
        }
    }
    void *piece = chunk->data + chunk->used;
    chunk->used += n;
    arena->n_bytes += n;
    return memset(piece, 0, n);
}

void *mr_arena_calloc(mr_arena *arena, size_t n, size_t size) {
    if (size != 0 && n > SIZE_MAX / size) return NULL;
    return mr_arena_alloc(arena, n * size);
}

char *mr_arena_strndup(mr_arena *arena, const char *text, size_t len) {
    if (len == SIZE_MAX) return NULL;
    char *copy = mr_arena_alloc(arena, len + 1);
    if (copy != NULL && len > 0) memcpy(copy, text, len);
    return copy;
}

void mr_arena_free(mr_arena *arena) {
    for (mr_arena_chunk *chunk = arena->head; chunk != NULL;) {
        mr_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (mr_arena){.max_bytes = arena->max_bytes};
}
