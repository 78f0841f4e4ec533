/* Paged key/value memory and attention over it.
 *
 * A block holds MR_KV_BLOCK consecutive positions of one sequence for all layers. Inside, each (layer, kv head) has one
 * contiguous piece: keys transposed, [head_dim_k][MR_KV_BLOCK], then values, [MR_KV_BLOCK][head_dim_v]; so that scores
 * have positions in the lanes and outputs have dimensions in the lanes, and nothing is summed across lanes. */
#ifndef MR_COMPUTE_KV_H
#define MR_COMPUTE_KV_H

#include "base/error.h"
#include "compute/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_KV_BLOCK = 32 };

typedef enum mr_kv_type { MR_KV_F16, MR_KV_Q8_0, MR_KV_F32 } mr_kv_type;

typedef struct mr_kv_layout {
    mr_kv_type type;
    uint32_t n_layer, n_head_kv, head_dim_k, head_dim_v;
    size_t value_offset; /* bytes from the keys to the values of a piece */
    size_t head_bytes;   /* one (layer, kv head) piece */
    size_t layer_bytes;
    size_t block_bytes;
} mr_kv_layout;

mr_kv_layout mr_kv_layout_of(mr_kv_type type, uint32_t n_layer, uint32_t n_head_kv, uint32_t head_dim_k,
                             uint32_t head_dim_v);

/* The memory of n_blocks blocks; pages are committed when they are first written. */
typedef struct mr_kv_pool {
    mr_kv_layout layout;
    uint8_t *data;
    size_t n_blocks;
    uint8_t *device_data; /* the part of a model's layers that are on a device (model.h: mr_model_kv_init) */
    size_t device_block_bytes;
} mr_kv_pool;

mr_status mr_kv_pool_init(mr_kv_pool *pool, const mr_kv_layout *layout, size_t n_blocks, mr_error *err);
void mr_kv_pool_free(mr_kv_pool *pool);

static inline uint8_t *mr_kv_piece(const mr_kv_pool *pool, int32_t block, uint32_t layer, uint32_t head) {
    return pool->data + (size_t)block * pool->layout.block_bytes + layer * pool->layout.layer_bytes +
           head * pool->layout.head_bytes;
}

/* Stores the key [head_dim_k] and value [head_dim_v] of one position: slot `at` (0 .. MR_KV_BLOCK-1) of a piece. */
void mr_kv_store(const mr_kv_pool *pool, uint8_t *piece, uint32_t at, const float *key, const float *value);

/* Attention of consecutive queries of one sequence and one kv head:
 *   out[t][g] = sum_j softmax_j(scale * q[t][g]·k_j) v_j,  j from max(0, pos0+t-window+1) to pos0+t
 * with online softmax block by block (Milakov & Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135), in the
 * order of positions, so that the result depends on neither chunking nor company. */
typedef struct mr_attention_args {
    const mr_kv_pool *pool;
    const int32_t *blocks; /* the sequence's block table */
    uint32_t layer, head_kv;
    uint32_t n_tokens, pos0; /* queries at positions pos0 .. pos0+n_tokens-1 */
    uint32_t n_group;        /* query heads that share this kv head */
    const float *q;          /* query of token t, head g: q + t*q_stride + g*head_dim_k */
    size_t q_stride;
    float *out; /* out + t*out_stride + g*head_dim_v */
    size_t out_stride;
    float scale;
    float softcap;      /* scores = cap*tanh(scores/cap) when > 0 */
    uint32_t window;    /* 0 = all positions */
    uint32_t n_text;    /* > 0: every query sees the whole text of so many positions, or half the window on each side */
    const float *sinks; /* [n_group] extra logits that take part in the sum only, or NULL */
    float *scratch;     /* mr_attention_scratch() bytes, private to the caller */
} mr_attention_args;

size_t mr_attention_scratch(const mr_kv_layout *layout, uint32_t n_group);
void mr_attention(const mr_attention_args *args);

#endif
