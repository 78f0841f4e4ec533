/* Weight matrices as the CUDA kernels read them. Plain C on both sides.
 *
 * W [n_out, n_in] is cut into tiles of 8 rows; rows that the last tile lacks are zero. A tile is a few planes, one
 * behind the other. In each plane the 8 rows of one unit of k lie side by side, so that a warp (8 rows x 4 units, or
 * the 8 x 4 lanes of a matrix fragment) reads 128 or 512 bytes in one piece. A matrix keeps its file's bits per weight,
 * but for the codebook types (IQ1 to IQ3), which become indices of 16 levels (4.6 bits), TQ1_0, which becomes 2 bits,
 * and rounding of scales to whole bytes.
 *
 * Planes of quantized layouts, for each group of 32 k and row:
 *   nibbles  16 bytes: word i (0..3) has values 4i..4i+3 in the low nibbles of its bytes, 4i+16..4i+19 in the high ones
 *   pairs    8 bytes: bits 2i, 2i+1 of byte j are value 4i+j, in the first word of values 0-15, in the second of 16-31
 *   bits     4 bytes: bit i of byte j is value 4i+j
 *   bytes    2 x 16 bytes (values 0-15 of the 8 rows, then 16-31)
 *   scales   as the table of layouts says
 * Float layouts have chunks of 4 x 8 x 16 bytes: for each quarter, for each row, 16 bytes of consecutive values. */
#ifndef MR_COMPUTE_CUDA_PACK_H
#define MR_COMPUTE_CUDA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MR_CUDA_TILE_ROWS = 8 };

/* layout      planes                        scales (for each row)                                   acts
 * F32         chunks of 16 k                                                                        F32
 * F16, BF16   chunks of 32 k                (BF16: subnormals are zero)                             F32, BF16
 * F8          chunks of 64 k                float d for 64 k                                        F32
 * Q4_0        nibbles                       half d for 32 k                                         Q8_32
 * Q4_1        nibbles                       half d, m for 32 k                                      Q8_32
 * Q5_0        nibbles, bits                 half d for 32 k                                         Q8_32
 * Q5_1        nibbles, bits                 half d, m for 32 k                                      Q8_32
 * Q8_0        bytes                         half d for 32 k                                         Q8_32
 * Q8_M        bytes                         half d, m for 32 k                                      Q8_32
 * IQ4_NL      nibbles (levels)              half d for 32 k                                         Q8_32
 * MXFP4       nibbles (levels)              bfloat16 d for 32 k                                     Q8_32
 * Q4_K, Q5_K  nibbles (bits)                16 bytes for 256 k: mr_cuda_k_head                      Q8_256
 * Q6_K        nibbles, pairs                int8 [16] for 256 k, half d for 256 k                   Q8_256
 * Q3_K        pairs, bits                   16 bytes for 256 k: mr_cuda_q3_head                     Q8_256
 * Q2_K        pairs                         16 bytes for 256 k (scale low, minimum high nibble of
 *                                           16 k), half d, dmin for 256 k                           Q8_256
 * IQ4_XS      nibbles (levels)              8 bytes for 256 k: half d; bits 4-5 of scale g at 2g in
 *                                           16 bits; bits 0-3 at 4g in 32 bits                      Q8_256
 * IQ1 .. IQ3  nibbles (levels)              int8 [16] for 256 k, float d for 256 k                  Q8_256
 * TERNARY     pairs                         half d for 256 k                                        Q8_256 */
typedef enum mr_cuda_layout {
    MR_CUDA_F32,
    MR_CUDA_F16,
    MR_CUDA_BF16,
    MR_CUDA_F8,
    MR_CUDA_Q4_0,
    MR_CUDA_Q4_1,
    MR_CUDA_Q5_0,
    MR_CUDA_Q5_1,
    MR_CUDA_Q8_0,
    MR_CUDA_Q8_M,
    MR_CUDA_IQ4_NL,
    MR_CUDA_MXFP4,
    MR_CUDA_Q4_K,
    MR_CUDA_Q5_K,
    MR_CUDA_Q6_K,
    MR_CUDA_Q3_K,
    MR_CUDA_Q2_K,
    MR_CUDA_IQ4_XS,
    MR_CUDA_IQ1,
    MR_CUDA_IQ2,
    MR_CUDA_IQ3_XXS,
    MR_CUDA_IQ3_S,
    MR_CUDA_TERNARY,
    MR_CUDA_N_LAYOUTS
} mr_cuda_layout;

/* Scales and minima of Q4_K and Q5_K: of group g bits 0-3 in nibble g of sc_low and mn_low, bits 4-5 at 2g in high
 * (scales) and at 16 + 2g (minima). */
typedef struct mr_cuda_k_head {
    uint16_t d, dmin;
    uint32_t sc_low, mn_low, high;
} mr_cuda_k_head;

/* Scales of Q3_K, 0 .. 63 (less 32), of the 16 groups of 16: bits 0-3 in the nibbles of low, bits 4-5 at 2g in high. */
typedef struct mr_cuda_q3_head {
    uint8_t low[8];
    uint32_t high;
    uint16_t d, unused;
} mr_cuda_q3_head;

/* Planes of a tile, in this order; a plane that a layout lacks has no bytes. */
typedef struct mr_cuda_planes {
    uint32_t codes;  /* bytes of 8 rows of the nibbles, bytes or chunks of one group of 32 k (or chunk) */
    uint32_t pairs;  /* of a group of 32 k */
    uint32_t bits;   /* of a group of 32 k */
    uint32_t scales; /* of a scale unit */
    uint32_t d;      /* of a scale unit, where d lies apart */
    uint32_t unit;   /* k of a scale unit: 32, 64 or 256; 0 = no scales */
    uint32_t chunk;  /* k of a chunk or group: n_in is padded to it */
} mr_cuda_planes;

static inline mr_cuda_planes mr_cuda_planes_of(mr_cuda_layout layout) {
    mr_cuda_planes p = {0, 0, 0, 0, 0, 256, 32};
    switch (layout) {
    case MR_CUDA_F32:
        p.codes = 512, p.unit = 0, p.chunk = 16;
        break;
    case MR_CUDA_F16:
    case MR_CUDA_BF16:
        p.codes = 512, p.unit = 0;
        break;
    case MR_CUDA_F8:
        p.codes = 512, p.scales = 32, p.unit = 64, p.chunk = 64;
        break;
    case MR_CUDA_Q4_0:
    case MR_CUDA_IQ4_NL:
    case MR_CUDA_MXFP4:
        p.codes = 128, p.scales = 16, p.unit = 32;
        break;
    case MR_CUDA_Q4_1:
        p.codes = 128, p.scales = 32, p.unit = 32;
        break;
    case MR_CUDA_Q5_0:
        p.codes = 128, p.bits = 32, p.scales = 16, p.unit = 32;
        break;
    case MR_CUDA_Q5_1:
        p.codes = 128, p.bits = 32, p.scales = 32, p.unit = 32;
        break;
    case MR_CUDA_Q8_0:
        p.codes = 256, p.scales = 16, p.unit = 32;
        break;
    case MR_CUDA_Q8_M:
        p.codes = 256, p.scales = 32, p.unit = 32;
        break;
    case MR_CUDA_Q4_K:
        p.codes = 128, p.scales = 128;
        break;
    case MR_CUDA_Q5_K:
        p.codes = 128, p.bits = 32, p.scales = 128;
        break;
    case MR_CUDA_Q6_K:
        p.codes = 128, p.pairs = 64, p.scales = 128, p.d = 16;
        break;
    case MR_CUDA_Q3_K:
        p.pairs = 64, p.bits = 32, p.scales = 128;
        break;
    case MR_CUDA_Q2_K:
        p.pairs = 64, p.scales = 128, p.d = 32;
        break;
    case MR_CUDA_IQ4_XS:
        p.codes = 128, p.scales = 64;
        break;
    case MR_CUDA_IQ1:
    case MR_CUDA_IQ2:
    case MR_CUDA_IQ3_XXS:
    case MR_CUDA_IQ3_S:
        p.codes = 128, p.scales = 128, p.d = 32;
        break;
    case MR_CUDA_TERNARY:
        p.pairs = 64, p.scales = 16;
        break;
    case MR_CUDA_N_LAYOUTS:
        break;
    }
    return p;
}

/* Bytes of one tile, a multiple of 16. */
static inline size_t mr_cuda_tile_bytes(mr_cuda_layout layout, size_t n_in) {
    mr_cuda_planes p = mr_cuda_planes_of(layout);
    size_t n_chunks = (n_in + p.chunk - 1) / p.chunk, n_units = p.unit == 0 ? 0 : (n_in + p.unit - 1) / p.unit;
    return n_chunks * ((size_t)p.codes + p.pairs + p.bits) + n_units * ((size_t)p.scales + p.d);
}

static inline size_t mr_cuda_n_tiles(size_t n_out) {
    return (n_out + MR_CUDA_TILE_ROWS - 1) / MR_CUDA_TILE_ROWS;
}

/* Bytes of a matrix; the caller has checked that n_out * n_in * 8 does not overflow. */
static inline size_t mr_cuda_packed_bytes(mr_cuda_layout layout, size_t n_out, size_t n_in) {
    return mr_cuda_n_tiles(n_out) * mr_cuda_tile_bytes(layout, n_in);
}

/* "q4_k": the part of a kernel's name that says its layout. */
const char *mr_cuda_layout_name(mr_cuda_layout layout);

/* The layout of a type (an mr_dtype) and the mr_acts_kind of its input; false where there is none. *block is the number
 * of k that n_in must be a multiple of, the same as for mr_matrix_pack. */
bool mr_cuda_layout_of(uint32_t dtype, mr_cuda_layout *layout, int *acts_kind, size_t *block);

/* Packs rows of a file (n_rows rows of n_in values, row_bytes apart, of a type that mr_cuda_layout_of knows) into
 * tiles: mr_cuda_packed_bytes(layout, n_rows, n_in) bytes. Parts of a matrix may be packed apart when they begin at a
 * whole tile. Touches nothing but its arguments: threads may share the work. */
void mr_cuda_pack(uint32_t dtype, void *tiles, const void *rows, size_t row_bytes, size_t n_rows, size_t n_in);

#ifdef __cplusplus
}
#endif

#endif
