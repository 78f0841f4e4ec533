#define _GNU_SOURCE
#include "compute/matrix_impl.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, CHUNK_BYTES = 64 << 20 };

/* A mapping that several matrices share, so that small ones lie on huge pages too. What nobody has written to yet takes
 * no memory. */
typedef struct chunk {
    struct chunk *next;
    uint8_t *base;
    size_t n_bytes, n_used, n_live; /* n_live: allocations not yet freed */
} chunk;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static chunk *chunks; /* the one to allocate from comes first */

/* A mapping that begins on a huge page: the kernel then backs its whole huge pages as such, and no more than the rest
 * of it with small ones. */
static uint8_t *map_aligned(size_t n_bytes) {
    size_t reserved = n_bytes + HUGE_PAGE;
    uint8_t *all = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - ((uintptr_t)all & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    if (before != 0) munmap(all, before);
    if (reserved > before + n_bytes) munmap(all + before + n_bytes, reserved - before - n_bytes);
    madvise(all + before, n_bytes, MADV_HUGEPAGE);
    return all + before;
}

static chunk *add_chunk(size_t n_bytes) {
    chunk *c = malloc(sizeof *c);
    uint8_t *base = c == NULL ? NULL : map_aligned(n_bytes);
    if (base == NULL) {
        free(c);
        return NULL;
    }
    *c = (chunk){.next = chunks, .base = base, .n_bytes = n_bytes};
    chunks = c;
    return c;
}

void mr_pages_will_read(const void *bytes, size_t n_bytes) {
#ifdef MADV_POPULATE_READ
    uintptr_t begin = (uintptr_t)bytes & ~(uintptr_t)4095;
    madvise((void *)begin, (uintptr_t)bytes + n_bytes - begin, MADV_POPULATE_READ);
#else
    (void)bytes, (void)n_bytes;
#endif
}

void *mr_pages_alloc(size_t n_bytes) {
    if (n_bytes == 0 || n_bytes > SIZE_MAX - CHUNK_BYTES - HUGE_PAGE) return NULL;
    n_bytes = mr_round64(n_bytes);
    void *pages = NULL;
    pthread_mutex_lock(&lock);
    chunk *c = chunks;
    if (c == NULL || c->n_bytes - c->n_used < n_bytes) {
        c = add_chunk(n_bytes <= CHUNK_BYTES ? (size_t)CHUNK_BYTES : (n_bytes + 4095) & ~(size_t)4095);
    }
    if (c != NULL) {
        pages = c->base + c->n_used;
        c->n_used += n_bytes;
        c->n_live++;
    }
    pthread_mutex_unlock(&lock);
    return pages;
}

void mr_pages_free(void *pages) {
    if (pages == NULL) return;
    pthread_mutex_lock(&lock);
    chunk **link = &chunks;
    while (*link != NULL &&
           !((uint8_t *)pages >= (*link)->base && (uint8_t *)pages < (*link)->base + (*link)->n_bytes)) {
        link = &(*link)->next;
    }
    chunk *c = *link;
    if (c != NULL && --c->n_live == 0) {
        *link = c->next;
        munmap(c->base, c->n_bytes);
        free(c);
    }
    pthread_mutex_unlock(&lock);
}
