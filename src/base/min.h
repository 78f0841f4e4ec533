#ifndef MR_BASE_MIN_H
#define MR_BASE_MIN_H

#include <stddef.h>

static inline size_t mr_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

#endif
