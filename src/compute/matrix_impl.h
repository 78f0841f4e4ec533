/* Inside of the weight matrices: packed layouts, rows of activations, and the kernels of one instruction set.
 *
 * A panel holds 16 rows of W for all k. "Vector" below means 64 bytes that hold 4 bytes for each of the 16 rows: dword
 * r is row r. All layouts are the same on every instruction set.
 *
 *   F32      vector for each k: a float for each row.
 *   F16      32 bytes for each k: a half for each row.
 *   BF16     vector for two k: a pair of bfloat16 for each row. Subnormal weights are stored as zero.
 *
 *   Everything is in the order of use, so that a panel is a single stream from memory. Blocks with one scale come in
 * pairs: 64 bytes with the halves d[16] of the first and of the second, then the quants of both; a last one without
 * partner has unused bytes in place of the second d.
 *
 *   Blocks of 32 k ("Q32"), in pairs, or where there is a minimum with halves d[16], m[16] before each:
 *     bytes  8 vectors: 4 k each, q + 128 (the integer of the weight is q, also where there is a minimum)
 *     nibble 4 vectors: low nibbles hold 4 k, high nibbles the next 4; for IQ4_NL and MXFP4 they are indices of levels,
 * and MXFP4 has its scales as bfloat16 5 bits a vector of fifth bits (bit i of a byte belongs to the i-th 4 k), then 4
 * nibble vectors
 *
 *   Super-blocks of 256 k ("K"):
 *     Q4_K   halves d[16], dmin[16]; 3 vectors of 6-bit scales and minima; 8 groups of 4 nibble vectors
 *     Q5_K   the same with groups of 5 bits
 *     Q6_K   in pairs: 4 vectors of int8 scales (byte j of vector i is the group 4i + j of 16 k), then 16 groups of a
 * vector of bits 4-5 (bits 2i and 2i + 1 of a byte belong to the i-th 4 k) and 2 nibble vectors Q3_K   in pairs: 3
 * vectors of 6-bit scales + 32 (groups 0-3, 4-7, 8-11, and in the top bits 12-15), then 8 times: a vector of bits 2 (of
 * group 2i in bits 0-3 of a byte, of group 2i + 1 in bits 4-7) and for both groups a vector of bits 0-1 Q2_K   halves
 * d[16], dmin[16]; 4 vectors with scales in low and minima in high nibbles; 16 vectors of 2 bits IQ4_XS in pairs: 2
 * vectors of int8 scales of 32 k, then 8 groups of 4 nibble vectors of indices CODEBOOK (IQ1, IQ2, IQ3)  floats d[16];
 * 4 vectors of int8 scales of 16 k; 16 groups of 2 nibble vectors of indices. Larger than the file's bits (4.6 for 1.6
 * to 3.4), in return for decoding without a codebook. TERNARY (TQ1_0, TQ2_0)  in pairs: 16 vectors of 2 bits, q + 1
 *
 *   F8       floats d[16] for 64 k, then 16 bytes for each k: a float of 8 bits (E4M3) for each row. d is 2^8 times the
 * file's, since the byte is decoded as a half float whose exponent is 8 too small.
 *
 *   Three vectors A, B, C of 6-bit numbers hold in the low 6 bits of their bytes the first 12 numbers of each row, and
 * in the top 2 bits of A, B, C the bits 0-1, 2-3, 4-5 of the last 4. The numbers are for Q4_K and Q5_K the scales 0-7
 * and the minima 0-7, for Q3_K the scales 0-15. Numbers of groups of 32 are in the order 0 2 1 3 4 6 5 7
 * (mr_group_byte). */
#ifndef MR_COMPUTE_MATRIX_IMPL_H
#define MR_COMPUTE_MATRIX_IMPL_H

#include "compute/matrix.h"

#include <string.h>

enum {
    MR_TILE_TOKENS = 16, /* tokens that a kernel takes at once */
    MR_TILE_PANELS = 4,  /* panels that a kernel takes at once */
};

typedef enum mr_layout {
    MR_LAYOUT_F32,
    MR_LAYOUT_F16,
    MR_LAYOUT_BF16,
    MR_LAYOUT_Q8_0,
    MR_LAYOUT_Q4_0,
    MR_LAYOUT_Q4_K,
    MR_LAYOUT_Q5_K,
    MR_LAYOUT_Q6_K,
    MR_LAYOUT_Q4_1,
    MR_LAYOUT_Q5_0,
    MR_LAYOUT_Q5_1,
    MR_LAYOUT_IQ4_NL,
    MR_LAYOUT_MXFP4,
    MR_LAYOUT_Q2_K,
    MR_LAYOUT_Q3_K,
    MR_LAYOUT_IQ4_XS,
    MR_LAYOUT_IQ1,
    MR_LAYOUT_IQ2,
    MR_LAYOUT_IQ3_XXS,
    MR_LAYOUT_IQ3_S,
    MR_LAYOUT_TERNARY,
    MR_LAYOUT_Q8_M,
    MR_LAYOUT_F8,
    MR_N_LAYOUTS,
} mr_layout;

/* -- Rows of activations. */

/* Q8_32: int8 q[n_in], then for each block the scale and the negated sum of its q. */
typedef struct mr_q8_32_meta {
    float d;
    int32_t neg_sum;
} mr_q8_32_meta;

/* Q8_256: for each super-block an mr_q8_256, then for each an mr_q8_256_meta. */
typedef struct mr_q8_256 {
    int8_t q[256];
    int32_t neg_sum[16]; /* negated sums of 16 */
} mr_q8_256;

typedef struct mr_q8_256_meta {
    float d;
    uint16_t peak16;   /* largest sum of |q| of 16 */
    uint16_t peak32;   /* largest sum of the positive, or of the negative, q of 32 */
    int16_t factor[8]; /* of 32 values, 1 .. 8: a value is d * factor * q */
    int16_t sum32[8];  /* factor * sum of 32 */
} mr_q8_256_meta;

static inline const mr_q8_32_meta *mr_q8_32_metas(const uint8_t *row, size_t n_in) {
    return (const mr_q8_32_meta *)(row + n_in);
}

static inline const mr_q8_256_meta *mr_q8_256_metas(const uint8_t *row, size_t n_in) {
    return (const mr_q8_256_meta *)(row + n_in / 256 * sizeof(mr_q8_256));
}

/* -- Panels. */

enum {
    MR_Q8_0_BYTES = 512, /* of 16 rows of a block, without d */
    MR_Q4_0_BYTES = 256,
    MR_Q5_0_BYTES = 320,
    MR_Q4_1_BYTES = 320, /* with d and m */
    MR_Q5_1_BYTES = 384,
    MR_Q4_K_BYTES = 2304, /* of 16 rows of a super-block */
    MR_Q5_K_BYTES = 2816,
    MR_Q6_K_BYTES = 3328, /* without d */
    MR_Q3_K_BYTES = 1728, /* without d */
    MR_Q2_K_BYTES = 1344,
    MR_IQ4_XS_BYTES = 2176, /* without d */
    MR_CODEBOOK_BYTES = 2368,
    MR_TERNARY_BYTES = 1024, /* without d */
    MR_Q8_M_BYTES = 576,     /* of 16 rows of a block of 32, with d and m */
    MR_F8_BYTES = 1088,      /* of 16 rows of a block of 64, with d */
};

/* Where a vector of numbers for groups of 32 keeps group g: byte mr_group_byte(g % 4) of a row's dword. The low bytes
 * of its 16-bit halves are then neighbours, and so are the high ones. */
static inline size_t mr_group_byte(size_t g) {
    return (size_t)((const uint8_t[4]){0, 2, 1, 3})[g];
}

static inline size_t mr_round64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* Blocks in pairs: bytes of n_blocks, and the places of the scales and the quants of block b. */
static inline size_t mr_pairs_bytes(size_t n_blocks, size_t block_bytes) {
    return (n_blocks + 1) / 2 * 64 + n_blocks * block_bytes;
}

static inline size_t mr_pair_scales(size_t b, size_t block_bytes) {
    return b / 2 * (64 + 2 * block_bytes) + b % 2 * 32;
}

static inline size_t mr_pair_quants(size_t b, size_t block_bytes) {
    return b / 2 * (64 + 2 * block_bytes) + 64 + b % 2 * block_bytes;
}

size_t mr_panel_bytes(mr_layout layout, size_t n_in);

/* The 16 levels that nibbles of a layout index; NULL when they are numbers themselves. Their magnitude is at most 127,
 * for the IQ1 to IQ3 layouts and MXFP4 at most 62. */
const int8_t *mr_layout_levels(mr_layout layout);

/* The layout of a type; false when it has none. `block` is the number of k that n_in must be a multiple of. */
bool mr_layout_of(mr_dtype type, mr_layout *layout, mr_acts_kind *kind, size_t *block);

/* Packs n_rows (1 .. 16) rows of row_bytes each into one panel of mr_panel_bytes(); rows that are missing become zero.
 */
void mr_pack_panel(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in);

/* Memory for packed weights: aligned to 64 bytes, backed by huge pages where it is large enough; NULL when there is
 * none. */
/* Bytes that are read soon, wherever they lie: those of a mapped file that are in memory already are mapped at once,
 * rather than a few at each fault. */
void mr_pages_will_read(const void *bytes, size_t n_bytes);
void *mr_pages_alloc(size_t n_bytes);
void mr_pages_free(void *pages);

/* -- Kernels. */

/* out[p][t][r] = the sum over k of row r of panel p with token t. */
typedef struct mr_tile {
    const uint8_t *panels;
    size_t step;     /* bytes from one panel to the next */
    size_t n_panels; /* 1 .. MR_TILE_PANELS */
    size_t n_in;
    const uint8_t *const *x; /* [n_tokens] rows of activations */
    size_t n_tokens;         /* 1 .. MR_TILE_TOKENS */
    float *out;              /* [n_panels][n_tokens][16], aligned to 64 */
} mr_tile;

typedef struct mr_kernels {
    void (*tile[MR_N_LAYOUTS])(const mr_tile *tile);
    /* y[t][r] = (sum[t][r] + bias[r]) + y[t][r] for n_rows of the 16; bias may be NULL. */
    void (*store)(const float *sum, size_t n_tokens, size_t n_rows, const float *bias, bool accumulate, float *y,
                  size_t ldy);
    /* y[t][r] = act(gate[t][r]) * up[t][r] */
    void (*store_glu)(const float *gate, const float *up, size_t n_tokens, size_t n_rows, mr_glu act, float *y,
                      size_t ldy);
    /* Writes a row of activations of each mr_acts_kind. */
    void (*acts_row[4])(const float *x, size_t n_in, uint8_t *row);
} mr_kernels;

extern const mr_kernels mr_kernels_plain;
extern const mr_kernels mr_kernels_avx2;
extern const mr_kernels mr_kernels_avx512;
extern const mr_kernels mr_kernels_neon;

/* The kernels of the active instruction set. */
const mr_kernels *mr_kernels_active(void);

#endif
