/* The attention kernels of each instruction set; kv.c chooses. */
#ifndef MR_COMPUTE_ATTENTION_KERNELS_H
#define MR_COMPUTE_ATTENTION_KERNELS_H

#include "compute/kv.h"

typedef struct mr_attention_kernels {
    void (*store)(const mr_kv_layout *layout, uint8_t *piece, uint32_t at, const float *key, const float *value);
    void (*attention)(const mr_attention_args *args);
} mr_attention_kernels;

extern const mr_attention_kernels mr_attention_plain;
extern const mr_attention_kernels mr_attention_avx2;
extern const mr_attention_kernels mr_attention_avx512;

/* Query rows (token, head) that are worked on together while a block is in the first-level cache. */
enum { MR_ATTENTION_ROWS = 32 };
static inline size_t mr_attention_rows(uint32_t n_group) {
    return n_group > MR_ATTENTION_ROWS ? n_group : MR_ATTENTION_ROWS / n_group * n_group;
}

#endif
