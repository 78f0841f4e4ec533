/* The definition of the matrix products, in plain C. Rounding errors aside each is sum_k w[k] x[k]; exactly:
 *
 *   F32, F16   s = fma(w[k], x[k], s) for each k in order.
 *   BF16       for each pair of k: s = fma(w[k+1], x[k+1], s), then s = fma(w[k], x[k], s); results that are subnormal
 *              become zero (as vdpbf16ps does it).
 *   Q32        for each block: s = fma(d * dx, sum q x, s) with the integer sum exact; where there is a minimum
 *              s = fma(dx, fma(d, sum q x, m * sum x), s).
 *   F8         for each block: t0, t1 = fma chains of the even and the odd k with the weights without their scale;
 *              s = fma(d, t0 + t1, s).
 *   K          for each super-block: t = d * isum, or fma(d, isum, -(dmin * msum)) where the type has minima;
 *              s = fma(dx, t, s); isum = sum over groups of scale * sum q x, msum = sum of minimum * sum x, exact
 * integers that are then rounded to float. */
#include "compute/acts_rows.h"
#include "compute/matrix_epilogue.h"

/* 16 rows of a block, decoded; q is signed and centred. */
typedef struct block32 {
    int16_t q[16][32];
    float d[16], m[16];
    bool has_min;
} block32;

typedef struct block256 {
    int16_t q[16][256];
    int16_t scale[16][16]; /* of groups of 16 */
    int16_t min[16][16];
    float d[16], dmin[16];
    bool has_min;
} block256;

static float load_half(const uint8_t *p) {
    uint16_t bits;
    memcpy(&bits, p, 2);
    return mr_f16_to_f32(bits);
}

static void load_halves(const uint8_t *p, float out[16]) {
    for (int r = 0; r < 16; r++) out[r] = load_half(p + 2 * r);
}

/* Value i (0 .. 7) of the 8 k of row r in a nibble vector. */
static int nibble(const uint8_t *vector, int r, int i) {
    uint8_t byte = vector[4 * r + i % 4];
    return i < 4 ? byte & 15 : byte >> 4;
}

/* -- Blocks of 32. */

static void decode_q8_0(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *vectors = panel + mr_pair_quants(b, MR_Q8_0_BYTES);
    load_halves(panel + mr_pair_scales(b, MR_Q8_0_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = (int16_t)(vectors[k / 4 * 64 + 4 * r + k % 4] - 128);
    }
}

static void decode_q4_0(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *vectors = panel + mr_pair_quants(b, MR_Q4_0_BYTES);
    load_halves(panel + mr_pair_scales(b, MR_Q4_0_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = (int16_t)(nibble(vectors + k / 8 * 64, r, k % 8) - 8);
    }
}

static int five_bits(const uint8_t *group, int r, int k) {
    int i = k / 4;
    return nibble(group + 64 + i / 2 * 64, r, k % 8) | (group[4 * r + k % 4] >> i & 1) << 4;
}

static void decode_q5_0(const uint8_t *panel, size_t b, block32 *out) {
    load_halves(panel + mr_pair_scales(b, MR_Q5_0_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) {
            out->q[r][k] = (int16_t)(five_bits(panel + mr_pair_quants(b, MR_Q5_0_BYTES), r, k) - 16);
        }
    }
}

static void decode_q4_1(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *p = panel + b * MR_Q4_1_BYTES;
    load_halves(p, out->d);
    load_halves(p + 32, out->m);
    out->has_min = true;
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = (int16_t)nibble(p + 64 + k / 8 * 64, r, k % 8);
    }
}

static void decode_q5_1(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *p = panel + b * MR_Q5_1_BYTES;
    load_halves(p, out->d);
    load_halves(p + 32, out->m);
    out->has_min = true;
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = (int16_t)five_bits(p + 64, r, k);
    }
}

static void decode_q8_m(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *p = panel + b * MR_Q8_M_BYTES;
    load_halves(p, out->d);
    load_halves(p + 32, out->m);
    out->has_min = true;
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = (int16_t)(p[64 + k / 4 * 64 + 4 * r + k % 4] - 128);
    }
}

static void decode_levels(const uint8_t *vectors, mr_layout layout, block32 *out) {
    const int8_t *levels = mr_layout_levels(layout);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 32; k++) out->q[r][k] = levels[nibble(vectors + k / 8 * 64, r, k % 8)];
    }
}

static void decode_iq4_nl(const uint8_t *panel, size_t b, block32 *out) {
    load_halves(panel + mr_pair_scales(b, MR_Q4_0_BYTES), out->d);
    decode_levels(panel + mr_pair_quants(b, MR_Q4_0_BYTES), MR_LAYOUT_IQ4_NL, out);
}

static void decode_mxfp4(const uint8_t *panel, size_t b, block32 *out) {
    const uint8_t *scales = panel + mr_pair_scales(b, MR_Q4_0_BYTES);
    for (int r = 0; r < 16; r++) {
        uint16_t bits;
        memcpy(&bits, scales + 2 * r, 2);
        out->d[r] = mr_bf16_to_f32(bits);
    }
    decode_levels(panel + mr_pair_quants(b, MR_Q4_0_BYTES), MR_LAYOUT_MXFP4, out);
}

/* -- Super-blocks. */

/* d, dmin, scales and minima of Q4_K and Q5_K. */
static void decode_k_head(const uint8_t *p, block256 *out) {
    const uint8_t *a = p + 64, *b = a + 64, *c = b + 64;
    load_halves(p, out->d);
    load_halves(p + 32, out->dmin);
    out->has_min = true;
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) {
            int i = 4 * r + (int)mr_group_byte((size_t)g / 2 % 4);
            int top = (a[i] >> 6) | (b[i] >> 6) << 2 | (c[i] >> 6) << 4;
            out->scale[r][g] = (g < 8 ? a[i] : b[i]) & 63;
            out->min[r][g] = (int16_t)(g < 8 ? c[i] & 63 : top);
        }
    }
}

static void decode_q4_k(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + b * MR_Q4_K_BYTES, *vectors = p + 256;
    decode_k_head(p, out);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 256; k++) out->q[r][k] = (int16_t)nibble(vectors + k / 8 * 64, r, k % 8);
    }
}

static void decode_q5_k(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + b * MR_Q5_K_BYTES;
    decode_k_head(p, out);
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 256; k++) out->q[r][k] = (int16_t)five_bits(p + 256 + k / 32 * 320, r, k % 32);
    }
}

static void decode_q6_k(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + mr_pair_quants(b, MR_Q6_K_BYTES);
    load_halves(panel + mr_pair_scales(b, MR_Q6_K_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) out->scale[r][g] = (int8_t)p[g / 4 * 64 + 4 * r + g % 4];
    }
    for (int k = 0; k < 256; k++) {
        const uint8_t *group = p + 256 + k / 16 * 192;
        int i = k % 16 / 4;
        for (int r = 0; r < 16; r++) {
            int top = group[4 * r + k % 4] >> 2 * i & 3;
            out->q[r][k] = (int16_t)((nibble(group + 64 + i / 2 * 64, r, k % 8) | top << 4) - 32);
        }
    }
}

static void decode_q3_k(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + mr_pair_quants(b, MR_Q3_K_BYTES);
    load_halves(panel + mr_pair_scales(b, MR_Q3_K_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) {
            int i = 4 * r + g % 4;
            int top = (p[i] >> 6) | (p[64 + i] >> 6) << 2 | (p[128 + i] >> 6) << 4;
            out->scale[r][g] = (int16_t)((g < 12 ? p[g / 4 * 64 + i] & 63 : top) - 32);
        }
        for (int k = 0; k < 256; k++) {
            const uint8_t *groups = p + 192 + k / 32 * 192;
            int i = k % 16 / 4, odd = k / 16 % 2, at = 4 * r + k % 4;
            int low = groups[64 + 64 * odd + at] >> 2 * i & 3, high = groups[at] >> (i + 4 * odd) & 1;
            out->q[r][k] = (int16_t)((low | high << 2) - 4);
        }
    }
}

static void decode_q2_k(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + b * MR_Q2_K_BYTES;
    load_halves(p, out->d);
    load_halves(p + 32, out->dmin);
    out->has_min = true;
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) {
            uint8_t both = p[64 + g / 4 * 64 + 4 * r + g % 4];
            out->scale[r][g] = both & 15;
            out->min[r][g] = both >> 4;
        }
        for (int k = 0; k < 256; k++) out->q[r][k] = p[320 + k / 16 * 64 + 4 * r + k % 4] >> k % 16 / 4 * 2 & 3;
    }
}

static void decode_iq4_xs(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + mr_pair_quants(b, MR_IQ4_XS_BYTES);
    const int8_t *levels = mr_layout_levels(MR_LAYOUT_IQ4_XS);
    load_halves(panel + mr_pair_scales(b, MR_IQ4_XS_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++)
            out->scale[r][g] = (int8_t)p[(size_t)(g / 8 * 64 + 4 * r) + mr_group_byte((size_t)g / 2 % 4)];
        for (int k = 0; k < 256; k++) out->q[r][k] = levels[nibble(p + 128 + k / 8 * 64, r, k % 8)];
    }
}

static void decode_codebook(const uint8_t *panel, size_t b, mr_layout layout, block256 *out) {
    const uint8_t *p = panel + b * MR_CODEBOOK_BYTES;
    const int8_t *levels = mr_layout_levels(layout);
    memcpy(out->d, p, 64);
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) out->scale[r][g] = (int8_t)p[64 + g / 4 * 64 + 4 * r + g % 4];
        for (int k = 0; k < 256; k++) out->q[r][k] = levels[nibble(p + 320 + k / 8 * 64, r, k % 8)];
    }
}

static void decode_iq1(const uint8_t *panel, size_t b, block256 *out) {
    decode_codebook(panel, b, MR_LAYOUT_IQ1, out);
}

static void decode_iq2(const uint8_t *panel, size_t b, block256 *out) {
    decode_codebook(panel, b, MR_LAYOUT_IQ2, out);
}

static void decode_iq3_xxs(const uint8_t *panel, size_t b, block256 *out) {
    decode_codebook(panel, b, MR_LAYOUT_IQ3_XXS, out);
}

static void decode_iq3_s(const uint8_t *panel, size_t b, block256 *out) {
    decode_codebook(panel, b, MR_LAYOUT_IQ3_S, out);
}

static void decode_ternary(const uint8_t *panel, size_t b, block256 *out) {
    const uint8_t *p = panel + mr_pair_quants(b, MR_TERNARY_BYTES);
    load_halves(panel + mr_pair_scales(b, MR_TERNARY_BYTES), out->d);
    for (int r = 0; r < 16; r++) {
        for (int g = 0; g < 16; g++) out->scale[r][g] = 1;
        for (int k = 0; k < 256; k++) {
            out->q[r][k] = (int16_t)((p[k / 16 * 64 + 4 * r + k % 4] >> k % 16 / 4 * 2 & 3) - 1);
        }
    }
}

/* -- Products. */

static float product_32(const block32 *block, int r, const int8_t *q, float dx, float s) {
    int32_t dot = 0, sum = 0;
    for (int k = 0; k < 32; k++) {
        dot += block->q[r][k] * q[k];
        sum += q[k];
    }
    if (!block->has_min) return fmaf(block->d[r] * dx, (float)dot, s);
    return fmaf(dx, fmaf(block->d[r], (float)dot, block->m[r] * (float)sum), s);
}

static void tile_32(const mr_tile *tile, void (*decode)(const uint8_t *, size_t, block32 *)) {
    memset(tile->out, 0, tile->n_panels * tile->n_tokens * 16 * sizeof(float));
    for (size_t p = 0; p < tile->n_panels; p++) {
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t b = 0; b < tile->n_in / 32; b++) {
            block32 block = {.has_min = false};
            decode(tile->panels + p * tile->step, b, &block);
            for (size_t t = 0; t < tile->n_tokens; t++) {
                const int8_t *q = (const int8_t *)tile->x[t] + 32 * b;
                float dx = mr_q8_32_metas(tile->x[t], tile->n_in)[b].d;
                for (int r = 0; r < 16; r++) out[16 * t + r] = product_32(&block, r, q, dx, out[16 * t + r]);
            }
        }
    }
}

/* One row of a super-block with one token. */
static float product_256(const block256 *block, int r, const int8_t *q, const mr_q8_256_meta *meta, float s) {
    int32_t isum = 0, msum = 0;
    for (int g = 0; g < 16; g++) {
        int32_t dot = 0, sum = 0;
        for (int k = 0; k < 16; k++) {
            dot += block->q[r][16 * g + k] * q[16 * g + k];
            sum += q[16 * g + k];
        }
        isum += block->scale[r][g] * meta->factor[g / 2] * dot;
        if (block->has_min) msum += block->min[r][g] * meta->factor[g / 2] * sum;
    }
    float t =
        block->has_min ? fmaf(block->d[r], (float)isum, -(block->dmin[r] * (float)msum)) : block->d[r] * (float)isum;
    return fmaf(meta->d, t, s);
}

static void tile_256(const mr_tile *tile, void (*decode)(const uint8_t *, size_t, block256 *)) {
    memset(tile->out, 0, tile->n_panels * tile->n_tokens * 16 * sizeof(float));
    for (size_t p = 0; p < tile->n_panels; p++) {
        float *out = tile->out + p * tile->n_tokens * 16;
        for (size_t b = 0; b < tile->n_in / 256; b++) {
            block256 block = {.has_min = false};
            decode(tile->panels + p * tile->step, b, &block);
            for (size_t t = 0; t < tile->n_tokens; t++) {
                const mr_q8_256 *x = (const mr_q8_256 *)tile->x[t] + b;
                const mr_q8_256_meta *meta = mr_q8_256_metas(tile->x[t], tile->n_in) + b;
                for (int r = 0; r < 16; r++) out[16 * t + r] = product_256(&block, r, x->q, meta, out[16 * t + r]);
            }
        }
    }
}

static void tile_q8_0(const mr_tile *tile) {
    tile_32(tile, decode_q8_0);
}
static void tile_q4_0(const mr_tile *tile) {
    tile_32(tile, decode_q4_0);
}
static void tile_q4_k(const mr_tile *tile) {
    tile_256(tile, decode_q4_k);
}
static void tile_q5_k(const mr_tile *tile) {
    tile_256(tile, decode_q5_k);
}
static void tile_q6_k(const mr_tile *tile) {
    tile_256(tile, decode_q6_k);
}
static void tile_q4_1(const mr_tile *tile) {
    tile_32(tile, decode_q4_1);
}
static void tile_q5_0(const mr_tile *tile) {
    tile_32(tile, decode_q5_0);
}
static void tile_q5_1(const mr_tile *tile) {
    tile_32(tile, decode_q5_1);
}
static void tile_iq4_nl(const mr_tile *tile) {
    tile_32(tile, decode_iq4_nl);
}
static void tile_mxfp4(const mr_tile *tile) {
    tile_32(tile, decode_mxfp4);
}
static void tile_q2_k(const mr_tile *tile) {
    tile_256(tile, decode_q2_k);
}
static void tile_q3_k(const mr_tile *tile) {
    tile_256(tile, decode_q3_k);
}
static void tile_iq4_xs(const mr_tile *tile) {
    tile_256(tile, decode_iq4_xs);
}
static void tile_iq1(const mr_tile *tile) {
    tile_256(tile, decode_iq1);
}
static void tile_iq2(const mr_tile *tile) {
    tile_256(tile, decode_iq2);
}
static void tile_iq3_xxs(const mr_tile *tile) {
    tile_256(tile, decode_iq3_xxs);
}
static void tile_iq3_s(const mr_tile *tile) {
    tile_256(tile, decode_iq3_s);
}
static void tile_ternary(const mr_tile *tile) {
    tile_256(tile, decode_ternary);
}

static void tile_q8_m(const mr_tile *tile) {
    tile_32(tile, decode_q8_m);
}

static float flush_subnormal(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static float dot_f32(const uint8_t *panel, int r, const uint8_t *x, size_t n_in) {
    const float *w = (const float *)panel, *v = (const float *)x;
    float s = 0.0f;
    for (size_t k = 0; k < n_in; k++) s = fmaf(w[16 * k + (size_t)r], v[k], s);
    return s;
}

static float dot_f16(const uint8_t *panel, int r, const uint8_t *x, size_t n_in) {
    const float *v = (const float *)x;
    float s = 0.0f;
    for (size_t k = 0; k < n_in; k++) s = fmaf(load_half(panel + 32 * k + 2 * r), v[k], s);
    return s;
}

static float dot_bf16(const uint8_t *panel, int r, const uint8_t *x, size_t n_in) {
    const uint16_t *w = (const uint16_t *)panel, *v = (const uint16_t *)x;
    float s = 0.0f;
    for (size_t k = 0; k < n_in; k += 2) {
        const uint16_t *pair = w + 16 * k + 2 * r;
        s = flush_subnormal(fmaf(mr_bf16_to_f32(pair[1]), mr_bf16_to_f32(v[k + 1]), s));
        s = flush_subnormal(fmaf(mr_bf16_to_f32(pair[0]), mr_bf16_to_f32(v[k]), s));
    }
    return s;
}

static void tile_float(const mr_tile *tile, float (*dot)(const uint8_t *, int, const uint8_t *, size_t)) {
    float *out = tile->out;
    for (size_t p = 0; p < tile->n_panels; p++) {
        for (size_t t = 0; t < tile->n_tokens; t++) {
            for (int r = 0; r < 16; r++) *out++ = dot(tile->panels + p * tile->step, r, tile->x[t], tile->n_in);
        }
    }
}

/* For each block of 64 k: even and odd k apart, then both together times d. */
static float dot_f8(const uint8_t *panel, int r, const uint8_t *x, size_t n_in) {
    const float *v = (const float *)x;
    float s = 0.0f;
    for (size_t b = 0; b < n_in / 64; b++, panel += MR_F8_BYTES, v += 64) {
        float d, part[2] = {0.0f, 0.0f};
        memcpy(&d, panel + 4 * r, 4);
        for (size_t k = 0; k < 64; k++) {
            uint8_t bits = panel[64 + 16 * k + (size_t)r];
            part[k % 2] = fmaf(mr_f16_to_f32((uint16_t)((bits & 0x80) << 8 | (bits & 0x7F) << 7)), v[k], part[k % 2]);
        }
        s = fmaf(d, part[0] + part[1], s);
    }
    return s;
}

static void tile_f32(const mr_tile *tile) {
    tile_float(tile, dot_f32);
}
static void tile_f16(const mr_tile *tile) {
    tile_float(tile, dot_f16);
}
static void tile_f8(const mr_tile *tile) {
    tile_float(tile, dot_f8);
}
static void tile_bf16(const mr_tile *tile) {
    tile_float(tile, dot_bf16);
}

const mr_kernels mr_kernels_plain = {
    .tile = {[MR_LAYOUT_F32] = tile_f32,         [MR_LAYOUT_F16] = tile_f16,     [MR_LAYOUT_BF16] = tile_bf16,
             [MR_LAYOUT_Q8_0] = tile_q8_0,       [MR_LAYOUT_Q4_0] = tile_q4_0,   [MR_LAYOUT_Q4_K] = tile_q4_k,
             [MR_LAYOUT_Q5_K] = tile_q5_k,       [MR_LAYOUT_Q6_K] = tile_q6_k,   [MR_LAYOUT_Q4_1] = tile_q4_1,
             [MR_LAYOUT_Q5_0] = tile_q5_0,       [MR_LAYOUT_Q5_1] = tile_q5_1,   [MR_LAYOUT_IQ4_NL] = tile_iq4_nl,
             [MR_LAYOUT_MXFP4] = tile_mxfp4,     [MR_LAYOUT_Q2_K] = tile_q2_k,   [MR_LAYOUT_Q3_K] = tile_q3_k,
             [MR_LAYOUT_IQ4_XS] = tile_iq4_xs,   [MR_LAYOUT_IQ1] = tile_iq1,     [MR_LAYOUT_IQ2] = tile_iq2,
             [MR_LAYOUT_IQ3_XXS] = tile_iq3_xxs, [MR_LAYOUT_IQ3_S] = tile_iq3_s, [MR_LAYOUT_TERNARY] = tile_ternary,
             [MR_LAYOUT_Q8_M] = tile_q8_m,       [MR_LAYOUT_F8] = tile_f8},
    .store = store_tile,
    .store_glu = store_glu_tile,
    .acts_row = MR_ACTS_ROWS,
};
