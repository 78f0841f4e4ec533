#define _GNU_SOURCE
#include "compute/matrix_impl.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, MAP_FROM = 256 << 10 };

/* A mapping that begins on a huge page: the kernel then backs its whole huge pages as such, and no more than the rest
 * of it with small ones. */
static void *map_aligned(size_t n_bytes) {
    size_t reserved = n_bytes + HUGE_PAGE;
    if (reserved < n_bytes) return NULL;
    uint8_t *all = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - ((uintptr_t)all & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    size_t length = (n_bytes + 4095) & ~(size_t)4095;
    if (before != 0) munmap(all, before);
    if (reserved > before + length) munmap(all + before + length, reserved - before - length);
    madvise(all + before, length, MADV_HUGEPAGE);
    return all + before;
}

void *mr_pages_alloc(size_t n_bytes) {
    if (n_bytes == 0 || n_bytes > SIZE_MAX - HUGE_PAGE) return NULL;
    return n_bytes < MAP_FROM ? aligned_alloc(64, mr_round64(n_bytes)) : map_aligned(n_bytes);
}

void mr_pages_free(void *pages, size_t n_bytes) {
    if (pages == NULL) return;
    if (n_bytes < MAP_FROM) {
        free(pages);
    } else {
        munmap(pages, (n_bytes + 4095) & ~(size_t)4095);
    }
}
