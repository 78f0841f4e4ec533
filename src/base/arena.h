/* A region of memory whose pieces are freed all at once. Not thread-safe. */
#ifndef MR_BASE_ARENA_H
#define MR_BASE_ARENA_H

#include <stddef.h>

typedef struct mr_arena_chunk mr_arena_chunk;

/* Zero-initialise. `max_bytes` (0 = no bound) limits the sum of all pieces: hostile input can't grow it further. */
typedef struct mr_arena {
    mr_arena_chunk *head;
    size_t n_bytes;
    size_t max_bytes;
} mr_arena;

/* A zeroed piece of n bytes aligned for any type, or NULL when memory or the bound is exhausted. n == 0 is a valid
 * piece. */
void *mr_arena_alloc(mr_arena *arena, size_t n);

/* mr_arena_alloc(n * size) with the overflow checked. */
void *mr_arena_calloc(mr_arena *arena, size_t n, size_t size);

/* A NUL-terminated copy of text[0..len). */
char *mr_arena_strndup(mr_arena *arena, const char *text, size_t len);

void mr_arena_free(mr_arena *arena);

#endif
