/* The kernels of the CUDA back end: names, parameters, grids. Plain C, read by the host side, by nvcc and by the tests'
 * emulator.
 *
 * A kernel takes one argument, its struct below, by value. Pointers in the structs are device addresses; 0 is "none".
 * Arrays are float32 and row-major unless said otherwise; strides (ld) count values. Each struct has a function
 * NAME_launch() that says which kernel to start (its name in the module) with which grid, block and dynamic shared
 * memory; where that is more than 48 KiB the function's limit has to be raised first
 * (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES). A launch whose grid has a 0 is one with nothing to do: leave it
 * out.
 *
 * Results are the CPU path's within rounding errors of sums in another order: products of quantized weights use the
 * CPU's own int8 activations, and sums of integers inside a block are exact. A kernel's result does not depend on
 * timing: nothing is summed by atomics. */
#ifndef MR_COMPUTE_CUDA_KERNELS_H
#define MR_COMPUTE_CUDA_KERNELS_H

#include "compute/candidates.h"
#include "compute/cuda/pack.h"

#include <stdio.h>
#include <string.h>

typedef struct mr_k_launch {
    char name[48];
    uint32_t grid[3], block;
    uint32_t shared; /* bytes of dynamic shared memory */
} mr_k_launch;

static inline uint32_t mr_k_div_up(uint32_t n, uint32_t d) {
    return (n + d - 1) / d;
}

static inline uint32_t mr_k_min(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static inline mr_k_launch mr_k_launch_of(const char *name, uint32_t x, uint32_t y, uint32_t z, uint32_t block,
                                         uint32_t shared) {
    mr_k_launch l;
    memset(&l, 0, sizeof l);
    snprintf(l.name, sizeof l.name, "%s", name);
    l.grid[0] = x, l.grid[1] = y, l.grid[2] = z, l.block = block, l.shared = shared;
    return l;
}

/* ---- inputs of matrices: [norm or gated activation], then each form that a matrix wants
 * ------------------------------ */

/* Values of mr_acts_kind. */
enum { MR_K_ACTS_F32, MR_K_ACTS_BF16, MR_K_ACTS_Q8_32, MR_K_ACTS_Q8_256, MR_K_N_ACTS };

/* Behind the int8 values of a row of either Q8 kind, for each group of 32: the scale (of Q8_256 with the group's factor
 * in it), and sums of 16. Inside a group the words (4 values) are in the order 0 4 1 5 2 6 3 7. */
typedef struct mr_k_q8_meta {
    float d;
    int16_t sum[2];
} mr_k_q8_meta;

/* Bytes from one row of activations to the next. Floats and bfloat16 are padded with zeros to a multiple of 64 values.
 * A buffer of activations must be aligned to 16. */
static inline size_t mr_k_acts_stride(int kind, size_t n_in) {
    size_t padded = (n_in + 63) / 64 * 64;
    if (kind == MR_K_ACTS_F32) return padded * 4;
    if (kind == MR_K_ACTS_BF16) return padded * 2;
    return (n_in + n_in / 32 * sizeof(mr_k_q8_meta) + 15) / 16 * 16;
}

enum { MR_K_NORM_NONE, MR_K_NORM_RMS, MR_K_NORM_LAYER };
enum { MR_K_ACT_NONE = -1 }; /* other values: mr_glu */

/* For each row i < n_rows: v = x[rows ? rows[i] : i]; with act >= 0 v = act(v) * up[i] (up none: act(v)), mr_glu's
 * semantics; then the norm; then v to out (none: not wanted) and to acts[kind] for each kind that is not none. out may
 * be x where rows is none. */
typedef struct mr_k_prepare_args {
    const float *x, *up;
    const int32_t *rows;
    const float *weight, *bias; /* of the norm, [n_in]; none is all ones, all zeros */
    float *out;
    void *acts[MR_K_N_ACTS]; /* [n_rows] rows of mr_k_acts_stride(kind, n_in) bytes */
    uint32_t n_rows, n_in, ldx, ld_up, ld_out;
    int32_t norm, act;
    float eps;
} mr_k_prepare_args;

static inline mr_k_launch mr_k_prepare_launch(const mr_k_prepare_args *a) {
    uint32_t n_warps = mr_k_min(mr_k_div_up(a->n_in, 256), 16);
    /* Without a norm, parts of a row are independent. */
    uint32_t parts = a->norm == MR_K_NORM_NONE ? mr_k_div_up(mr_k_div_up(a->n_in, 256), 4) : 1;
    if (a->norm == MR_K_NORM_NONE) n_warps = mr_k_min(n_warps, 4);
    return mr_k_launch_of("mr_k_prepare", a->n_rows, parts, 1, 32 * n_warps, 0);
}

/* ---- products
 * ---------------------------------------------------------------------------------------------------------- */

/* One matrix of a product; all of a launch have the same layout, n_in and input. */
typedef struct mr_k_matrix {
    const void *w;     /* packed (pack.h), aligned to 128 */
    const float *bias; /* [n_out] or none */
    float *y;          /* [n_tokens, ldy] */
    uint32_t n_out, ldy;
    int32_t accumulate; /* y = (w x + bias) + y */
} mr_k_matrix;

enum { MR_K_MAX_MATRICES = 4, MR_K_GEMV_TOKENS = 8 };

/* y[t] = w x[t] (+ bias) (+ y[t]) for each matrix. Products of experts come in two forms; in both w is the first
 * expert's matrix of n_expert that lie expert_bytes apart, and bias [n_expert, n_out]: few tokens   expert_of
 * [n_tokens] names each token's (slot's) expert many tokens  expert_begin [n_expert + 1]: tokens (slots)
 * expert_begin[e] .. expert_begin[e + 1] - 1 are expert e's rows: token t reads row rows[t] of x instead of row t;
 * x_div: row t / x_div (1 otherwise). */
typedef struct mr_k_matmul_args {
    mr_k_matrix m[MR_K_MAX_MATRICES];
    const void *x; /* activations of the layout's kind */
    const int32_t *rows;
    const int32_t *expert_of, *expert_begin;
    uint64_t expert_bytes;
    uint32_t n_matrices, n_in, n_tokens, x_div;
    uint32_t n_expert; /* 0 unless expert_begin is given */
    int32_t layout;    /* mr_cuda_layout */
} mr_k_matmul_args;

static inline uint32_t mr_k_matmul_tiles(const mr_k_matmul_args *a, uint32_t tiles_each) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_matrices; i++) n += mr_k_div_up((uint32_t)mr_cuda_n_tiles(a->m[i].n_out), tiles_each);
    return n;
}

/* Warps that share a tile of a GEMV: as many as have at least 4 groups of work each. */
static inline uint32_t mr_k_gemv_warps(uint32_t layout, uint32_t n_in) {
    uint32_t chunk = mr_cuda_planes_of((mr_cuda_layout)layout).chunk, lanes = layout <= MR_CUDA_F8 ? 1 : 4;
    uint32_t n = mr_k_div_up(n_in, chunk * lanes);
    return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* Tokens of a GEMM's block. */
static inline uint32_t mr_k_gemm_tokens(uint32_t n_tokens) {
    return n_tokens <= 32 ? 32 : 64;
}

/* Up to 8 tokens (or expert_of): a GEMV that streams the weights once. More: tensor cores, n_tokens / tokens of a block
 * times. */
static inline mr_k_launch mr_k_matmul_launch(const mr_k_matmul_args *a) {
    mr_k_launch l = mr_k_launch_of("", 0, 1, 1, 256, 0);
    const char *layout = mr_cuda_layout_name((mr_cuda_layout)a->layout);
    if (a->expert_begin == 0 && (a->expert_of != 0 || a->n_tokens <= MR_K_GEMV_TOKENS)) {
        uint32_t n = a->expert_of != 0 || a->n_tokens <= 1 ? 1 : a->n_tokens <= 2 ? 2 : a->n_tokens <= 4 ? 4 : 8;
        snprintf(l.name, sizeof l.name, "mr_gemv_%s_%u", layout, (unsigned)n);
        l.grid[0] = mr_k_matmul_tiles(a, 1);
        l.grid[1] = a->expert_of != 0 ? a->n_tokens : a->n_tokens > 0;
        l.block = 32 * mr_k_gemv_warps((uint32_t)a->layout, a->n_in);
        return l;
    }
    uint32_t n = mr_k_gemm_tokens(a->n_tokens), rows = n == 32 ? 32 : a->layout == MR_CUDA_BF16 ? 256 : 128;
    snprintf(l.name, sizeof l.name, "mr_gemm_%s_%u", layout, (unsigned)n);
    l.grid[0] = mr_k_matmul_tiles(a, rows / MR_CUDA_TILE_ROWS);
    l.grid[1] = mr_k_div_up(a->n_tokens, n);
    l.grid[2] = a->expert_begin != 0 ? a->n_expert : 1;
    /* Two stages of each token's 256, 128 or 64 k, for each of the warps' shares of k: 4 where there are few tokens. */
    uint32_t k_split = n == 32 ? 4 : 1;
    l.shared = 2 * k_split * n * (a->layout <= MR_CUDA_F8 ? 320 : 256 + 32 + 64);
    return l;
}

/* The same for bfloat16 on Hopper (gemm_wgmma.cu), in a module that only devices of compute capability 9.0 load. A
 * block takes 128 rows and 64, 128 or 256 tokens; those of the same rows lie side by side in the grid, so that rows are
 * read from memory once. Such a product is bound by what the processors read, weights or inputs, from the second-level
 * cache: the choice is the one with which the busiest of n_sm processors reads least.
 *
 * 0: there is no such kernel, or too few tokens (of an expert: in the mean) for it to be worthwhile. */
enum { MR_K_WGMMA_ROWS = 128, MR_K_WGMMA_STAGE_TILE = 1024 };

static inline uint32_t mr_k_wgmma_tokens(const mr_k_matmul_args *a, uint32_t n_sm) {
    uint32_t n_expert = a->expert_begin != 0 ? a->n_expert : 1, each = n_expert > 0 ? a->n_tokens / n_expert : 0;
    uint32_t n_row_blocks = mr_k_matmul_tiles(a, MR_K_WGMMA_ROWS / MR_CUDA_TILE_ROWS), best = 0;
    uint64_t least = UINT64_MAX;
    if (a->layout != MR_CUDA_BF16 || a->expert_of != 0 || each <= 32 || n_row_blocks > 65535) return 0;
    for (uint32_t n = 256; n >= 64; n /= 2) {
        uint64_t n_blocks = (uint64_t)n_row_blocks * mr_k_div_up(each, n) * n_expert;
        uint64_t read = (n_blocks + n_sm - 1) / n_sm * (MR_K_WGMMA_ROWS + n);
        if (read < least) least = read, best = n;
    }
    return best;
}

/* n is not 0. */
static inline mr_k_launch mr_k_wgmma_launch(const mr_k_matmul_args *a, uint32_t n) {
    uint32_t n_row_blocks = mr_k_matmul_tiles(a, MR_K_WGMMA_ROWS / MR_CUDA_TILE_ROWS), n_stages = n == 128 ? 3 : 4;
    mr_k_launch l = mr_k_launch_of("", mr_k_div_up(a->n_tokens, n), n_row_blocks, 1, 256, 0);
    snprintf(l.name, sizeof l.name, "mr_gemm_bf16_wgmma_%u", (unsigned)n);
    if (a->expert_begin != 0) l.grid[2] = a->n_expert;
    l.shared = n_stages * (MR_K_WGMMA_ROWS + n) / MR_CUDA_TILE_ROWS * MR_K_WGMMA_STAGE_TILE;
    return l;
}

/* out[t] = scale * row ids[t] of a packed matrix, decoded exactly; [n_tokens, n_in]. Embeddings. */
typedef struct mr_k_rows_args {
    const void *w;
    const int32_t *ids; /* [n_tokens], inside of the matrix */
    float *out;
    uint32_t n_tokens, n_in, ld_out;
    float scale;
    int32_t layout;
} mr_k_rows_args;

static inline mr_k_launch mr_k_rows_launch(const mr_k_rows_args *a) {
    mr_k_launch l = mr_k_launch_of("", mr_k_div_up(a->n_in, 32 * 32), a->n_tokens, 1, 32, 0);
    snprintf(l.name, sizeof l.name, "mr_rows_%s", mr_cuda_layout_name((mr_cuda_layout)a->layout));
    return l;
}

/* ---- heads
 * ------------------------------------------------------------------------------------------------------------- */

/* Norm of each of n_heads pieces of n values, head_step apart, of each row; out may be x and has the same strides.
 * weight (none: ones) of head h: weight + h * weight_step. Also for whole rows (n_heads 1). */
typedef struct mr_k_norm_args {
    const float *x, *weight, *bias;
    float *out;
    uint32_t n_rows, n_heads, n, ld, head_step, weight_step;
    int32_t norm;
    float eps;
} mr_k_norm_args;

static inline mr_k_launch mr_k_norm_launch(const mr_k_norm_args *a) {
    return mr_k_launch_of("mr_k_norm", a->n_heads, a->n_rows, 1, a->n <= 256 ? 32 : a->n <= 1024 ? 128 : 512, 0);
}

/* cosines, sines [n_tokens, n_pairs] of the tokens' positions: cos(position * inv_freq[i]) * factor, in double
 * precision. */
typedef struct mr_k_angles_args {
    const float *inv_freq;
    const uint32_t *positions;
    float *cosines, *sines;
    uint32_t n_tokens, n_pairs;
    float factor;
} mr_k_angles_args;

static inline mr_k_launch mr_k_angles_launch(const mr_k_angles_args *a) {
    return mr_k_launch_of("mr_k_angles", mr_k_div_up(a->n_pairs, 64), a->n_tokens, 1, 64, 0);
}

/* Values of mr_kv_type. */
enum { MR_K_KV_F16, MR_K_KV_Q8_0, MR_K_KV_F32 };

/* Paged keys and values of one layer, laid out as kv.h says. */
typedef struct mr_k_kv {
    void *data; /* the pool's beginning plus the layer's offset inside of a block */
    uint64_t block_bytes;
    uint32_t head_bytes, value_offset;
    uint32_t n_head_kv, dk, dv;
    int32_t type;
} mr_k_kv;

/* What happens to heads of queries (kv.data none) or keys and values between projection and attention. x [n_tokens,
 * ldx] holds n_heads heads of `dim` values; each is normed (norm, unless MR_K_NORM_NONE; before or, norm_late, after
 * the rotation), rotated (cosines none: not), and multiplied by 1 + temperature * log(1 + position / n_ctx_orig) where
 * temperature is not 0, and written back. With kv.data, x are the keys: v [n_tokens, ldv] are the values (none: the
 * keys as they are before their norm), normed without weights where v_norm, and head h goes to slot slots[t] of head h.
 * With `latent` > 0 (compressed keys) the norm is of the first `latent` values only, and the values are the first dv of
 * the normed but not rotated key. */
typedef struct mr_k_heads_args {
    float *x;
    const float *v;
    const float *norm_weight; /* head h: + h * weight_step; none: ones */
    const float *cosines, *sines;
    const uint32_t *positions;
    const int32_t *slots; /* [n_tokens] block number * 32 + place in the block */
    mr_k_kv kv;
    uint32_t n_tokens, n_heads, dim, ldx, ldv, weight_step;
    uint32_t n_pairs, rot_from, latent, n_ctx_orig;
    int32_t neox, norm, norm_late, v_norm;
    float eps, temperature;
} mr_k_heads_args;

static inline mr_k_launch mr_k_heads_launch(const mr_k_heads_args *a) {
    return mr_k_launch_of("mr_k_heads", a->n_heads, a->n_tokens, 1, a->dim <= 256 ? 32 : 128,
                          4 * (a->dim + (a->kv.data != 0 ? a->kv.dv : 0)));
}

/* ---- attention
 * ----------------------------------------------------------------------------------------------------------- */

/* Attention of each run's tokens over their sequence's paged keys and values, as mr_attention. Arrays of runs lie on
 * the device. Runs of one token are the decode kernel's, longer ones the prefill kernel's: each leaves out the other's,
 * so a mixed batch launches both, and decode is followed by its join. */
typedef struct mr_k_attention_args {
    mr_k_kv kv;
    const float *q;           /* [n_tokens, n_head * dk] */
    float *out;               /* [n_tokens, n_head * dv] */
    const float *sinks;       /* [n_head] or none */
    const uint32_t *first;    /* [n_runs] index of a run's first token */
    const uint32_t *n_tokens; /* [n_runs] */
    const uint32_t *pos0;     /* [n_runs] */
    const uint32_t *ends;     /* whole: [n_runs] positions of a run's whole text */
    const int32_t *blocks;    /* [n_runs, ld_blocks] block tables */
    float *partial; /* decode: [n_runs, n_head, n_splits, dv + 2] floats of scratch; none when n_splits is 1 */
    uint32_t n_runs, n_head, ld_blocks;
    uint32_t most_tokens;  /* prefill: of any run */
    uint32_t n_splits;     /* decode: parts of a sequence that are computed side by side */
    uint32_t split_blocks; /* decode: blocks of 32 positions in each part; n_splits * split_blocks blocks cover the
                              longest */
    uint32_t window;       /* 0 = all positions */
    int32_t whole; /* encoders: every token sees its whole text, or half the window on each side; also runs of one token
                      are then prefill's */
    float scale, softcap;
} mr_k_attention_args;

enum { MR_K_ATTENTION_TOKENS = 16, MR_K_DECODE_HEADS = 4 };

/* Parts for sequences of up to n_positions: enough blocks for the device's n_sm processors, and at least 4 blocks of
 * positions in each. Sets n_splits and split_blocks. A captured graph serves until the longest sequence outgrows them.
 */
static inline void mr_k_attention_split(mr_k_attention_args *a, uint32_t n_positions, uint32_t n_sm) {
    uint32_t n_blocks = mr_k_div_up(n_positions, 32);
    uint32_t heads = mr_k_div_up(a->n_head / a->kv.n_head_kv, MR_K_DECODE_HEADS) * a->kv.n_head_kv * a->n_runs;
    uint32_t n = mr_k_min(mr_k_div_up(2 * n_sm, heads > 0 ? heads : 1), mr_k_div_up(n_blocks, 4));
    if (n == 0) n = 1;
    a->split_blocks = mr_k_div_up(n_blocks > 0 ? n_blocks : 1, n);
    a->n_splits = mr_k_div_up(n_blocks > 0 ? n_blocks : 1, a->split_blocks);
}

static inline mr_k_launch mr_k_attention_decode_launch(const mr_k_attention_args *a) {
    static const char *const names[] = {"mr_attn_decode_f16", "mr_attn_decode_q8", "mr_attn_decode_f32"};
    uint32_t parts = mr_k_div_up(a->n_head / a->kv.n_head_kv, MR_K_DECODE_HEADS), n_warps = 4;
    return mr_k_launch_of(names[a->kv.type], a->n_splits, a->kv.n_head_kv * parts, a->whole ? 0 : a->n_runs,
                          32 * n_warps, 4 * MR_K_DECODE_HEADS * (a->kv.dk + n_warps * (32 + 2 + a->kv.dv)));
}

/* Where n_splits > 1. */
static inline mr_k_launch mr_k_attention_join_launch(const mr_k_attention_args *a) {
    return mr_k_launch_of("mr_attn_join", a->n_head, a->n_splits > 1 && !a->whole ? a->n_runs : 0, 1, 64, 0);
}

/* A block takes 64 queries (token, head of a group) on tensor cores where the cache has halves and the sizes allow it,
 * 16 otherwise. */
static inline mr_k_launch mr_k_attention_prefill_launch(const mr_k_attention_args *a) {
    static const char *const names[] = {"mr_attn_prefill_f16", "mr_attn_prefill_q8", "mr_attn_prefill_f32"};
    uint32_t dk = a->kv.dk, dv = a->kv.dv, n_queries = a->most_tokens * (a->n_head / a->kv.n_head_kv);
    if (a->kv.type == MR_K_KV_F16 && dk % 16 == 0 && dv % 16 == 0 && dk <= 256 && dv <= 256) {
        uint32_t stages = dk + dv <= 256 ? 2 : 1;
        return mr_k_launch_of(dv <= 64    ? "mr_attn_mma_64"
                              : dv <= 128 ? "mr_attn_mma_128"
                                          : "mr_attn_mma_256",
                              mr_k_div_up(n_queries, 64), a->kv.n_head_kv, a->n_runs, 128,
                              2 * (2 * 64 * (dk + 8) + stages * 32 * (dk + dv)));
    }
    uint32_t rows = 16;
    return mr_k_launch_of(names[a->kv.type], mr_k_div_up(n_queries, rows), a->kv.n_head_kv, a->n_runs, 128,
                          4 * rows * (dk + dv + 32 + 4));
}

/* ---- experts
 * ------------------------------------------------------------------------------------------------------------- */

enum { MR_K_MAX_EXPERTS = 1024 };

/* Each token's experts and their weights from its scores [n_tokens, n_expert] (changed), as forward_experts.c routes.
 * gating: mr_gating. */
typedef struct mr_k_route_args {
    float *scores;
    const float *bias;   /* [n_expert] for the choice only, or none */
    const float *scales; /* [n_expert] or none */
    int32_t *chosen;     /* [n_tokens, n_used] */
    float *weight;       /* [n_tokens, n_used] */
    uint32_t n_tokens, n_expert, n_used, n_group, n_group_used;
    int32_t gating, normed;
    float factor; /* expert_scale */
} mr_k_route_args;

static inline mr_k_launch mr_k_route_launch(const mr_k_route_args *a) {
    return mr_k_launch_of("mr_k_route", a->n_tokens, 1, 1, 32, 4 * (2 * a->n_expert + 2 * a->n_group));
}

/* Slots (token, choice) ordered by expert, and by number inside of one: begin [n_expert + 1], slot_token [n_tokens *
 * n_used], slot_of [n_tokens, n_used]. */
typedef struct mr_k_lists_args {
    const int32_t *chosen;
    int32_t *begin, *slot_token, *slot_of;
    uint32_t n_tokens, n_expert, n_used;
} mr_k_lists_args;

static inline mr_k_launch mr_k_lists_launch(const mr_k_lists_args *a) {
    return mr_k_launch_of("mr_k_lists", a->n_tokens > 0, 1, 1, 1024, 4 * (a->n_expert + 1));
}

/* out[t] = sum over k, in order, of weight[t][k] * y[slot_of ? slot_of[t][k] : t * n_used + k]; y [slots, n]. With
 * `shared` [n_tokens, n]: plus shared[t] * (shared_weight ? sigmoid(shared_weight[t]) : 1). */
typedef struct mr_k_combine_args {
    const float *y, *weight, *shared, *shared_weight;
    const int32_t *slot_of;
    float *out;
    uint32_t n_tokens, n_used, n;
} mr_k_combine_args;

static inline mr_k_launch mr_k_combine_launch(const mr_k_combine_args *a) {
    return mr_k_launch_of("mr_k_combine", mr_k_div_up(a->n, 128), a->n_tokens, 1, 128, 0);
}

/* ---- recurrent layers
 * ---------------------------------------------------------------------------------------------------- */

/* A convolution over the tokens of each run, as forward_recurrent.c convolves: rows of `mix` [n_tokens, ld_mix] hold
 * the input at x_from; with gated (MR_MIXER_CONV) the input is first multiplied by the values at 0, the result by those
 * at n_conv; otherwise it goes through SiLU. States are [n_runs] addresses of floats, already at this layer's
 * convolution: state_in[r] none = zeros; state_mid[r] none = not wanted. The input in mix is changed where gated. */
typedef struct mr_k_conv_args {
    float *mix;
    float *out;                               /* [n_tokens, n_conv] */
    const float *weight, *bias;               /* [width, n_conv]; [n_conv] or none */
    const uint32_t *first, *n_tokens, *n_mid; /* [n_runs] */
    const float *const *state_in;
    float *const *state_out, *const *state_mid;
    uint64_t state_at; /* added to each state's address, in floats */
    uint32_t n_runs, n_conv, ld_mix, x_from, width;
    int32_t gated;
} mr_k_conv_args;

static inline mr_k_launch mr_k_conv_launch(const mr_k_conv_args *a) {
    return mr_k_launch_of("mr_k_conv", mr_k_div_up(a->n_conv, 64), a->n_runs, 1, 64, 0);
}

/* The recurrence of Mamba-2 (delta 0) or the gated delta net (delta 1) through the tokens of each run, as
 * forward_recurrent.c scans; without Mamba-2's gate and group norm behind it (mr_k_elementwise, mr_k_norm). */
typedef struct mr_k_scan_args {
    const float *conv;                   /* [n_tokens, n_conv] */
    const float *mix;                    /* [n_tokens, ld_mix] */
    float *out;                          /* [n_tokens, n_head * dv] */
    const float *a, *dt_bias, *d, *norm; /* [n_head], [n_head], [n_head] (Mamba-2), [dv] (delta) */
    const uint32_t *first, *n_tokens, *n_mid;
    const float *const *state_in;
    float *const *state_out, *const *state_mid;
    uint64_t state_at;
    uint32_t n_runs, n_head, n_group, dk, dv, n_conv, ld_mix;
    uint32_t dt_from; /* Mamba-2: where dt lies in a row of mix; delta: where beta and alpha do */
    uint32_t z_from;  /* delta: where the gate lies */
    int32_t delta, heads_tiled, betas_by_group;
    float eps;
} mr_k_scan_args;

static inline mr_k_launch mr_k_scan_launch(const mr_k_scan_args *a) {
    return mr_k_launch_of("mr_k_scan", a->n_head, a->n_runs, 1, mr_k_div_up(a->dv, 32) * 32, 4 * (2 * a->dk + 64));
}

/* ---- elementwise
 * --------------------------------------------------------------------------------------------------------- */

typedef enum mr_k_op {
    MR_K_COPY,        /* out = x */
    MR_K_ADD_SCALED,  /* out = fma(y, p[0], x) */
    MR_K_SCALE,       /* out = x * p[0] */
    MR_K_MUL,         /* out = x * y */
    MR_K_SOFTCAP,     /* out = p[0] tanh(x / p[0]) */
    MR_K_GLU,         /* out = act(x) * y, y none: act(x) */
    MR_K_XIELU,       /* p = alpha_p, alpha_n, beta, eps */
    MR_K_SIGMOID,     /* out = sigmoid(x) */
    MR_K_MUL_SIGMOID, /* out = x * sigmoid(y) */
    MR_K_ADD_TIMES,   /* out = (x + y) * p[0] */
} mr_k_op;

/* out[r][i] = op(x[r][i], y[r][i]) for n_rows rows of n values. out may be x or y. */
typedef struct mr_k_elementwise_args {
    const float *x, *y;
    float *out;
    uint32_t n_rows, n, ldx, ldy, ld_out;
    int32_t op, act; /* act: mr_glu */
    float p[4];
} mr_k_elementwise_args;

static inline mr_k_launch mr_k_elementwise_launch(const mr_k_elementwise_args *a) {
    return mr_k_launch_of("mr_k_elementwise", mr_k_div_up(a->n, 256), mr_k_min(a->n_rows, 65535), 1, 256, 0);
}

/* x[r] = softmax(x[r]), in place. */
typedef struct mr_k_softmax_args {
    float *x;
    uint32_t n_rows, n, ld;
} mr_k_softmax_args;

static inline mr_k_launch mr_k_softmax_launch(const mr_k_softmax_args *a) {
    return mr_k_launch_of("mr_k_softmax", a->n_rows, 1, 1, a->n <= 256 ? 32 : 256, 0);
}

/* x = relu(x - (mean + sparsity * standard deviation)) for each row (Gemma 3n's sparse gates). */
typedef struct mr_k_cut_args {
    float *x;
    uint32_t n_rows, n, ld;
    float sparsity;
} mr_k_cut_args;

static inline mr_k_launch mr_k_cut_launch(const mr_k_cut_args *a) {
    return mr_k_launch_of("mr_k_cut", a->n_rows, 1, 1, 256, 0);
}

/* ---- several residual streams
 * -------------------------------------------------------------------------------------------- */

/* Each row of y [n_rows, n] gets the root mean square of x's: y *= sqrt(mean x^2) / sqrt(max(mean y^2, 1e-5)). */
typedef struct mr_k_match_size_args {
    float *y;
    const float *x;
    uint32_t n_rows, n;
} mr_k_match_size_args;

static inline mr_k_launch mr_k_match_size_launch(const mr_k_match_size_args *a) {
    return mr_k_launch_of("mr_k_match_size", a->n_rows, 1, 1, 256, 0);
}

enum { MR_K_MAX_STREAMS = 4 };

/* n_stream streams and `predicted`, [n_tokens, n] each; modal [n_tokens, n_stream]. Row r of the factors times modal is
 * f[r]. Before a layer, factors [n_stream * n_stream, n_stream]: streams[i] += sum over j, in order, of f[i * n_stream
 * + j] * streams[j] as they were; predicted = streams[0]. Behind it, factors [n_stream, n_stream]: with d = streams[0]
 * - predicted, streams[0] = predicted, streams[i] += (1 + f[i]) * d, and predicted = streams[0] * correct_scale [n]. */
typedef struct mr_k_streams_args {
    float *streams[MR_K_MAX_STREAMS];
    const float *modal, *factors, *correct_scale;
    float *predicted;
    uint32_t n_stream, n_tokens, n;
} mr_k_streams_args;

static inline mr_k_launch mr_k_streams_predict_launch(const mr_k_streams_args *a) {
    return mr_k_launch_of("mr_k_streams_predict", mr_k_div_up(a->n, 256), a->n_tokens, 1, 256, 0);
}
static inline mr_k_launch mr_k_streams_correct_launch(const mr_k_streams_args *a) {
    return mr_k_launch_of("mr_k_streams_correct", mr_k_div_up(a->n, 256), a->n_tokens, 1, 256, 0);
}

/* ---- choosing tokens
 * ------------------------------------------------------------------------------------------------------- */

/* For each row of logits: the id of the largest (the smallest id among equals; NaN and infinities count as -infinity,
 * as in the sampler) and its value. Two launches: parts [n_rows, MR_K_ARGMAX_PARTS] first, then their best. */
enum { MR_K_ARGMAX_PARTS = 32 };
typedef struct mr_k_argmax_args {
    const float *logits;
    uint64_t *parts; /* [n_rows, MR_K_ARGMAX_PARTS] scratch */
    int32_t *ids;    /* [n_rows] */
    float *values;   /* [n_rows] or none */
    uint32_t n_rows, n_vocab, ld;
} mr_k_argmax_args;

static inline mr_k_launch mr_k_argmax_launch(const mr_k_argmax_args *a) {
    return mr_k_launch_of("mr_k_argmax", MR_K_ARGMAX_PARTS, a->n_rows, 1, 256, 0);
}
static inline mr_k_launch mr_k_argmax_join_launch(const mr_k_argmax_args *a) {
    return mr_k_launch_of("mr_k_argmax_join", a->n_rows, 1, 1, 32, 0);
}

/* The candidates of each row (compute/candidates.h), behind mr_k_argmax. Each block finds those of its part of a row;
 * then, as long as a row has more than one list, blocks join up to MR_K_JOIN_LISTS of them. `lists` are the results
 * where a row has one part. Weights are the sampler's own, bit by bit, and summed as integers. */
enum { MR_K_TOP_EACH = 16, MR_K_JOIN_LISTS = 64 };
typedef struct mr_k_top_args {
    const float *logits;
    const int32_t *best;  /* [n_rows] */
    const float *largest; /* [n_rows] */
    mr_candidates *lists; /* [n_rows, mr_k_top_parts] */
    double rounder, quantum;
    uint32_t n_rows, n_vocab, ld;
} mr_k_top_args;

static inline uint32_t mr_k_top_block(uint32_t n_vocab) {
    return n_vocab <= 1u << 22 ? 256 : 1024;
}
static inline uint32_t mr_k_top_parts(uint32_t n_vocab) {
    return mr_k_div_up(n_vocab, MR_K_TOP_EACH * mr_k_top_block(n_vocab));
}
static inline mr_k_launch mr_k_top_launch(const mr_k_top_args *a) {
    return mr_k_launch_of("mr_k_top", mr_k_top_parts(a->n_vocab), a->n_rows, 1, mr_k_top_block(a->n_vocab), 0);
}

typedef struct mr_k_top_join_args {
    const mr_candidates *from; /* [n_rows, n_lists] */
    mr_candidates *to;         /* [n_rows, n_lists / MR_K_JOIN_LISTS, rounded up] */
    uint32_t n_rows, n_lists;
} mr_k_top_join_args;

static inline mr_k_launch mr_k_top_join_launch(const mr_k_top_join_args *a) {
    uint32_t n_joined = mr_k_min(a->n_lists, MR_K_JOIN_LISTS);
    return mr_k_launch_of("mr_k_top_join", mr_k_div_up(a->n_lists, MR_K_JOIN_LISTS), a->n_rows, 1,
                          mr_k_div_up(n_joined * MR_CANDIDATES, 32 * MR_K_TOP_EACH) * 32, 0);
}

/* ---- ceilings, for measurements
 * ------------------------------------------------------------------------------------------ */

/* Copies n pieces of 16 bytes; or n rounds of 64 products of fragments (16 x 8 x 16 bfloat16, 16 x 8 x 32 int8) in each
 * warp, whose sum goes to `to` [threads] so that they are not left out. */
typedef struct mr_k_ceiling_args {
    const void *from;
    void *to;
    uint64_t n;
} mr_k_ceiling_args;

static inline mr_k_launch mr_k_copy_launch(const mr_k_ceiling_args *a) {
    (void)a;
    return mr_k_launch_of("mr_k_copy", 2048, 1, 1, 512, 0);
}
enum { MR_K_RATE_BLOCKS = 1024 };
static inline mr_k_launch mr_k_rate_launch(bool int8) {
    return mr_k_launch_of(int8 ? "mr_k_rate_s8" : "mr_k_rate_bf16", MR_K_RATE_BLOCKS, 1, 1, 256, 0);
}
/* 64 x 256 x 16 bfloat16 in each warpgroup (ceilings_wgmma.cu: Hopper alone). */
enum { MR_K_RATE_WGMMA_SHARED = (64 + 256) * 16 * 2 };
static inline mr_k_launch mr_k_rate_wgmma_launch(void) {
    return mr_k_launch_of("mr_k_rate_wgmma", MR_K_RATE_BLOCKS, 1, 1, 256, MR_K_RATE_WGMMA_SHARED);
}

/* ---- the compiled kernels
 * ------------------------------------------------------------------------------------------------- */

typedef struct mr_cuda_image {
    const void *data; /* a fatbin for cuModuleLoadData, aligned to 16 */
    size_t size;
    size_t only; /* 90: code for compute capability 9.0 alone, which other devices refuse to load; 0: for all */
} mr_cuda_image;

/* Module i of the kernels; a kernel is in one of them, and its name says not in which. data is NULL behind the last,
 * and for i = 0 in a build without CUDA. */
#ifdef __cplusplus
extern "C" {
#endif
mr_cuda_image mr_cuda_image_get(size_t i);
#ifdef __cplusplus
}
#endif

#endif
