#define _DEFAULT_SOURCE
#include "compute/kv.h"

#include "compute/attention_kernels.h"
#include "compute/cpu.h"

#include <stdint.h>
#include <sys/mman.h>

/* q8_0: one f16 scale for 32 values of a key or value. */
enum { Q8_GROUP = 32 };

static size_t align_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

/* Bytes of MR_KV_BLOCK vectors of dim values. */
static size_t half_piece_bytes(mr_kv_type type, size_t dim) {
    size_t n = dim * MR_KV_BLOCK;
    switch (type) {
    case MR_KV_F32:
        return n * 4;
    case MR_KV_F16:
        return n * 2;
    case MR_KV_Q8_0:
        return n + (dim + Q8_GROUP - 1) / Q8_GROUP * MR_KV_BLOCK * 2;
    }
    return 0;
}

mr_kv_layout mr_kv_layout_of(mr_kv_type type, uint32_t n_layer, uint32_t n_head_kv, uint32_t head_dim_k,
                             uint32_t head_dim_v) {
    mr_kv_layout layout = {
        .type = type, .n_layer = n_layer, .n_head_kv = n_head_kv, .head_dim_k = head_dim_k, .head_dim_v = head_dim_v};
    layout.value_offset = align_up(half_piece_bytes(type, head_dim_k), 64);
    layout.head_bytes = layout.value_offset + align_up(half_piece_bytes(type, head_dim_v), 64);
    layout.layer_bytes = layout.head_bytes * n_head_kv;
    layout.block_bytes = layout.layer_bytes * n_layer;
    return layout;
}

mr_status mr_kv_pool_init(mr_kv_pool *pool, const mr_kv_layout *layout, size_t n_blocks, mr_error *err) {
    *pool = (mr_kv_pool){.layout = *layout, .n_blocks = n_blocks};
    if (n_blocks == 0 || n_blocks > INT32_MAX || layout->block_bytes == 0 ||
        n_blocks > SIZE_MAX / layout->block_bytes) {
        return mr_fail(err, MR_ERR_INVALID, "a KV cache of %zu blocks of %zu bytes is not possible", n_blocks,
                       layout->block_bytes);
    }
    size_t n_bytes = n_blocks * layout->block_bytes;
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return mr_fail_nomem(err, n_bytes, "the KV cache; lower context_size or max_concurrent");
#ifdef MADV_HUGEPAGE
    if (n_bytes >= (size_t)64 << 20) madvise(data, n_bytes, MADV_HUGEPAGE);
#endif
    pool->data = data;
    return MR_OK;
}

void mr_kv_pool_free(mr_kv_pool *pool) {
    if (pool->data != NULL) munmap(pool->data, pool->n_blocks * pool->layout.block_bytes);
    *pool = (mr_kv_pool){0};
}

static const mr_attention_kernels *kernels(void) {
    switch (mr_isa_active()) {
#if defined(__x86_64__)
    case MR_ISA_AVX512:
        return &mr_attention_avx512;
    case MR_ISA_AVX2:
        return &mr_attention_avx2;
#endif
    default:
        return &mr_attention_plain;
    }
}

void mr_kv_store(const mr_kv_pool *pool, uint8_t *piece, uint32_t at, const float *key, const float *value) {
    kernels()->store(&pool->layout, piece, at, key, value);
}

size_t mr_attention_scratch(const mr_kv_layout *layout, uint32_t n_group) {
    size_t dk = align_up(layout->head_dim_k, 16), dv = align_up(layout->head_dim_v, 16);
    size_t rows = mr_attention_rows(n_group);
    size_t floats = (dk + dv) * MR_KV_BLOCK /* a block as floats */
                    + rows * (dk + dv)      /* scaled queries, outputs */
                    + rows * (MR_KV_BLOCK + 16 + 16) /* scores, running sums and maxima */;
    return align_up(floats * sizeof(float), 64) + 64;
}

void mr_attention(const mr_attention_args *args) {
    kernels()->attention(args);
}
