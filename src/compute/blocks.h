/* Blocks of the stored tensor types: how a few dozen weights share a scale.
 *
 * A row is a sequence of blocks of one type. Every struct is packed, so a pointer into a mapped file may have any
 * alignment; all numbers are little-endian and `uint16_t d` is the bit pattern of a half float. In the formulas, `x` is
 * the decoded weight, `q` the stored integer, and the arithmetic is float32 in the order written. Layouts: the ggml
 * repository (ggml-common.h, ggml-quants.c, MIT licence), where these formats are defined. */
#ifndef MR_COMPUTE_BLOCKS_H
#define MR_COMPUTE_BLOCKS_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks are read in place and need a little-endian processor"
#endif

#define MR_PACKED __attribute__((packed))

enum { MR_QK = 32, MR_QK_64 = 64, MR_QK_K = 256 };

/* -- Blocks of 32. Value j of the first half sits in the low nibble of qs[j], value j + 16 in its high nibble. */

typedef struct MR_PACKED mr_block_q4_0 { /* x = d * (q - 8) */
    uint16_t d;
    uint8_t qs[16];
} mr_block_q4_0;

typedef struct MR_PACKED mr_block_q4_1 { /* x = d * q + m */
    uint16_t d;
    uint16_t m;
    uint8_t qs[16];
} mr_block_q4_1;

typedef struct MR_PACKED mr_block_q5_0 { /* x = d * (q - 16); bit j of qh is bit 4 of value j */
    uint16_t d;
    uint32_t qh;
    uint8_t qs[16];
} mr_block_q5_0;

typedef struct MR_PACKED mr_block_q5_1 { /* x = d * q + m; qh as in q5_0 */
    uint16_t d;
    uint16_t m;
    uint32_t qh;
    uint8_t qs[16];
} mr_block_q5_1;

typedef struct MR_PACKED mr_block_q8_0 { /* x = d * q */
    uint16_t d;
    int8_t qs[32];
} mr_block_q8_0;

typedef struct MR_PACKED mr_block_q8_1 { /* x = d * q; s = d * sum(q), for products with types that have a minimum */
    uint16_t d;
    uint16_t s;
    int8_t qs[32];
} mr_block_q8_1;

typedef struct MR_PACKED mr_block_iq4_nl { /* x = d * mr_iq4_values[q] */
    uint16_t d;
    uint8_t qs[16];
} mr_block_iq4_nl;

typedef struct MR_PACKED
    mr_block_mxfp4 { /* x = 2^(e - 128) * mr_mxfp4_values[q] (OCP MX 1.0: E8M0 scale, E2M1 values, doubled) */
    uint8_t e;
    uint8_t qs[16];
} mr_block_mxfp4;

/* -- Blocks of 64, which are ours: no GGUF file has them. */

typedef struct MR_PACKED mr_block_hqq4 { /* x = d * q + m; halves of 32 as in q4_1 */
    uint16_t d;
    uint16_t m;
    uint8_t qs[32];
} mr_block_hqq4;

typedef struct MR_PACKED mr_block_hqq8 { /* x = d * q + m */
    uint16_t d;
    uint16_t m;
    int8_t qs[64];
} mr_block_hqq8;

typedef struct MR_PACKED mr_block_f8_e4m3 { /* x = d * q, q as in mr_f8_e4m3_to_f32 (OCP FP8, no infinities) */
    float d;
    uint8_t qs[64];
} mr_block_f8_e4m3;

/* -- Super-blocks of 256: groups of 16 or 32 have small integer scales, the super-block a float scale for these.
 * "Runs": 2-bit planes hold, for each half of 128 values, four runs of 32 in the bits 0-1, 2-3, 4-5, 6-7 of 32 bytes;
 * 4-bit planes hold, for each 64 values, two runs of 32 in the low and the high nibbles of 32 bytes. */

typedef struct MR_PACKED mr_block_q2_k { /* x = (d * sc) * q - (dmin * mn), 16 groups of 16 */
    uint8_t scales[16];                  /* sc in the low, mn in the high nibble */
    uint8_t qs[64];                      /* runs of 2 bits */
    uint16_t d;
    uint16_t dmin;
} mr_block_q2_k;

typedef struct MR_PACKED mr_block_q3_k { /* x = (d * (sc - 32)) * (q - 4), 16 groups of 16 */
    uint8_t hmask[32];                   /* bit r of hmask[i] is bit 2 of q of value 32 * r + i */
    uint8_t qs[64];                      /* runs of 2 bits: bits 0-1 of q */
    uint8_t scales[12];                  /* see mr_q3_k_scale */
    uint16_t d;
} mr_block_q3_k;

typedef struct MR_PACKED mr_block_q4_k { /* x = (d * sc) * q - (dmin * mn), 8 groups of 32 */
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12]; /* see mr_k_scale_min */
    uint8_t qs[128];    /* runs of 4 bits */
} mr_block_q4_k;

typedef struct MR_PACKED mr_block_q5_k { /* as q4_k; bit r of qh[i] is bit 4 of q of value 32 * r + i */
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} mr_block_q5_k;

/* x = (d * sc) * (q - 32), 16 groups of 16. For each half of 128 values: run 0 and 2 in the low and high nibbles of the
 * first 32 bytes of ql, run 1 and 3 in those of the next 32; bits 4-5 of q as runs of 2 bits in qh. */
typedef struct MR_PACKED mr_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} mr_block_q6_k;

typedef struct MR_PACKED mr_block_q8_k { /* x = d * q */
    float d;
    int8_t qs[256];
    int16_t bsums[16]; /* sums of 16 q */
} mr_block_q8_k;

/* Ternary, x = d * (t - 1) with digits t of 0..2. A byte b of TQ1_0 holds five digits as ceil(256 * n / 243), n their
 * number in base 3, first digit most significant: digit k is ((b * 3^k mod 256) * 3) >> 8. Bytes 0-31 of qs hold values
 * 0-159 (digit k of byte i is value 32 * k + i), bytes 32-47 values 160-239 (in steps of 16), qh values 240-255 (4
 * digits in steps of 4). */
typedef struct MR_PACKED mr_block_tq1_0 {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
} mr_block_tq1_0;

typedef struct MR_PACKED mr_block_tq2_0 { /* runs of 2 bits */
    uint8_t qs[64];
    uint16_t d;
} mr_block_tq2_0;

typedef struct MR_PACKED mr_block_iq4_xs { /* x = (d * (sc - 32)) * mr_iq4_values[q], 8 groups of 32 */
    uint16_t d;
    uint16_t scales_h;   /* bits 2g and 2g + 1 are bits 4-5 of the scale of group g */
    uint8_t scales_l[4]; /* nibble g is bits 0-3 of the scale of group g */
    uint8_t qs[128];     /* group g: 16 bytes, value j low and value j + 16 high nibble of byte j */
} mr_block_iq4_xs;

/* Codebook types: 8 (IQ3: 4) weights at once are an entry of a codebook, with their signs beside it. `s7` is an index
 * of seven signs, whose eighth makes the number of minuses even: mr_iq_signs(s7). Bit j of a sign byte set: value j is
 * negative. */

typedef struct MR_PACKED mr_block_iq2_xxs { /* x = (d * (0.5 + sc) * 0.25) * grid * sign, 8 groups of 32 */
    uint16_t d;
    uint32_t qs[8][2]; /* [0]: four indices of 8 bits; [1]: four s7, then sc in bits 28-31 */
} mr_block_iq2_xxs;

typedef struct MR_PACKED mr_block_iq2_xs { /* as iq2_xxs, 16 groups of 16 */
    uint16_t d;
    uint16_t qs[32];   /* index of 9 bits, s7 in bits 9-15 */
    uint8_t scales[8]; /* nibble g is sc of group g */
} mr_block_iq2_xs;

typedef struct MR_PACKED mr_block_iq2_s { /* as iq2_xs */
    uint16_t d;
    uint8_t qs[32]; /* bits 0-7 of the indices */
    uint8_t signs[32];
    uint8_t qh[8]; /* two bits for each index: bits 8-9 */
    uint8_t scales[8];
} mr_block_iq2_s;

typedef struct MR_PACKED mr_block_iq3_xxs { /* x = (d * (0.5 + sc) * 0.5) * grid * sign, 8 groups of 32 */
    uint16_t d;
    uint8_t qs[64];
    uint32_t scales_signs[8]; /* four s7, then sc in bits 28-31 */
} mr_block_iq3_xxs;

typedef struct MR_PACKED mr_block_iq3_s { /* x = (d * (1 + 2 sc)) * grid * sign, 8 groups of 32 */
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8]; /* bit i of qh[g]: bit 8 of index i of group g */
    uint8_t signs[32];
    uint8_t scales[4]; /* nibble g is sc of group g */
} mr_block_iq3_s;

typedef struct MR_PACKED mr_block_iq1_s { /* x = (d * (2 sc + 1)) * (grid + delta), 8 groups of 32 */
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8]; /* four times bits 8-10 of an index, sc in bits 12-14, bit 15 set: delta = -1/8, else 1/8 */
} mr_block_iq1_s;

typedef struct MR_PACKED mr_block_iq1_m { /* as iq1_s; sc for 16 values, delta for 8 */
    uint8_t qs[32];
    uint8_t qh[16];     /* nibble for each index: bits 8-10, then the sign of delta */
    uint16_t scales[4]; /* four sc of 3 bits; the top nibbles, first one lowest, are the half float d */
} mr_block_iq1_m;

_Static_assert(sizeof(mr_block_q4_0) == 18 && sizeof(mr_block_q4_1) == 20, "size of a block");
_Static_assert(sizeof(mr_block_q5_0) == 22 && sizeof(mr_block_q5_1) == 24, "size of a block");
_Static_assert(sizeof(mr_block_q8_0) == 34 && sizeof(mr_block_q8_1) == 36, "size of a block");
_Static_assert(sizeof(mr_block_iq4_nl) == 18 && sizeof(mr_block_mxfp4) == 17, "size of a block");
_Static_assert(sizeof(mr_block_hqq4) == 36 && sizeof(mr_block_hqq8) == 68, "size of a block");
_Static_assert(sizeof(mr_block_f8_e4m3) == 68, "size of a block");
_Static_assert(sizeof(mr_block_q2_k) == 84 && sizeof(mr_block_q3_k) == 110, "size of a block");
_Static_assert(sizeof(mr_block_q4_k) == 144 && sizeof(mr_block_q5_k) == 176, "size of a block");
_Static_assert(sizeof(mr_block_q6_k) == 210 && sizeof(mr_block_q8_k) == 292, "size of a block");
_Static_assert(sizeof(mr_block_tq1_0) == 54 && sizeof(mr_block_tq2_0) == 66, "size of a block");
_Static_assert(sizeof(mr_block_iq4_xs) == 136 && sizeof(mr_block_iq2_xxs) == 66, "size of a block");
_Static_assert(sizeof(mr_block_iq2_xs) == 74 && sizeof(mr_block_iq2_s) == 82, "size of a block");
_Static_assert(sizeof(mr_block_iq3_xxs) == 98 && sizeof(mr_block_iq3_s) == 110, "size of a block");
_Static_assert(sizeof(mr_block_iq1_s) == 50 && sizeof(mr_block_iq1_m) == 56, "size of a block");

/* Scale and minimum (6 bits each) of group g of a Q4_K or Q5_K block. Groups 0-3 sit in the low 6 bits of bytes 0-3
 * (scale) and 4-7 (minimum); groups 4-7 have their low 4 bits in the nibbles of bytes 8-11 and the rest in the top bits
 * of 0-7. */
static inline void mr_k_scale_min(const uint8_t scales[12], int g, uint8_t *scale, uint8_t *min) {
    if (g < 4) {
        *scale = scales[g] & 63;
        *min = scales[g + 4] & 63;
    } else {
        *scale = (uint8_t)((scales[g + 4] & 15) | ((scales[g - 4] >> 6) << 4));
        *min = (uint8_t)((scales[g + 4] >> 4) | ((scales[g] >> 6) << 4));
    }
}

/* Scale of group g of a Q3_K block, -32 .. 31: low 4 bits in the nibbles of bytes 0-7 (groups 8-15 in the high ones),
 * bits 4-5 in bytes 8-11. */
static inline int mr_q3_k_scale(const uint8_t scales[12], int g) {
    int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    int high = (scales[8 + g % 4] >> (2 * (g / 4))) & 3;
    return (low | (high << 4)) - 32;
}

/* Value pairs of IQ4_NL and IQ4_XS, and of MXFP4 (doubled E2M1 numbers). */
extern const int8_t mr_iq4_values[16];
extern const int8_t mr_mxfp4_values[16];

/* The scale of an MXFP4 block, 2^(e - 128), so that doubled values come out right. */
static inline float mr_mxfp4_scale(uint8_t e) {
    union {
        uint32_t u;
        float f;
    } v = {.u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23};
    return v.f;
}

#endif
