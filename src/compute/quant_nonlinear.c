/* Four-bit formats with unevenly spaced values: IQ4_NL, IQ4_XS, MXFP4. */
#include "compute/blocks.h"
#include "compute/dtype.h"
#include "compute/quant.h"
#include "compute/quant_fit.h"
#include "compute/quant_fit_kernels.h"

#include <math.h>
#include <string.h>

const int8_t mr_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t mr_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void put_values(const uint8_t *qs, const int8_t values[16], float scale, float *dst) {
    for (int j = 0; j < 16; j++) {
        dst[j] = scale * (float)values[qs[j] & 15];
        dst[j + 16] = scale * (float)values[qs[j] >> 4];
    }
}

void mr_dequantize_iq4_nl(const void *src, float *dst, size_t n) {
    const mr_block_iq4_nl *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK)
        put_values(block->qs, mr_iq4_values, mr_f16_to_f32(block->d), dst);
}

void mr_dequantize_mxfp4(const void *src, float *dst, size_t n) {
    const mr_block_mxfp4 *block = src;
    for (; n >= MR_QK; n -= MR_QK, block++, dst += MR_QK)
        put_values(block->qs, mr_mxfp4_values, mr_mxfp4_scale(block->e), dst);
}

void mr_dequantize_iq4_xs(const void *src, float *dst, size_t n) {
    const mr_block_iq4_xs *block = src;
    for (; n >= MR_QK_K; n -= MR_QK_K, block++) {
        float d = mr_f16_to_f32(block->d);
        for (int g = 0; g < 8; g++, dst += 32) {
            int low = block->scales_l[g / 2] >> (g % 2 * 4) & 15;
            int high = block->scales_h >> (2 * g) & 3;
            put_values(block->qs + 16 * g, mr_iq4_values, d * (float)((low | high << 4) - 32), dst);
        }
    }
}

/* ---- encoding */

/* Half-way points between neighbours of mr_iq4_values, and the steps over them. */
static const float iq4_bounds[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
                                     7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  101.0f};
static const float iq4_steps[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24};

/* The value of mr_iq4_values nearest to v; without branches, so that loops over it are vectorised. */
static inline float nearest_iq4(float v) {
    float value = -127.0f;
    for (int k = 0; k < 15; k++) value += v > iq4_bounds[k] ? iq4_steps[k] : 0.0f;
    return value;
}

static int nearest_iq4_index(float v) {
    int index = 0;
    for (int k = 0; k < 15; k++) index += v > iq4_bounds[k];
    return index;
}

static void encode_iq4(const float *x, float scale, uint8_t *qs) {
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)(nearest_iq4_index(x[j] * inverse) | nearest_iq4_index(x[j + 16] * inverse) << 4);
}

typedef struct iq4_fit {
    float scale, gain; /* gain: how much of sum(w x x) the scale explains */
} iq4_fit;

static iq4_fit fit_iq4_once(const float *x, const float *w, float inverse) {
    float sxv[MR_FIT_LANES] = {0}, svv[MR_FIT_LANES] = {0};
    for (int i = 0; i < 32; i += MR_FIT_LANES) {
        for (int l = 0; l < MR_FIT_LANES; l++) {
            float v = nearest_iq4(x[i + l] * inverse), wv = w[i + l] * v;
            sxv[l] += wv * x[i + l];
            svv[l] += wv * v;
        }
    }
    float xv = mr_fit_lane_sum(sxv), vv = mr_fit_lane_sum(svv);
    return vv > 0.0f ? (iq4_fit){xv / vv, xv * xv / vv} : (iq4_fit){0.0f, -1.0f};
}

/* The scale for 32 values; both signs are tried, as the values are not symmetric. */
static float fit_iq4(const float *x, const float *w) {
    float extreme = 0.0f;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    if (fabsf(extreme) < 1e-30f) return 0.0f;
    iq4_fit best = {extreme / -127.0f, -1.0f};
    for (int end = 0; end < 2; end++) {
        float far_value = (float)mr_iq4_values[end ? 15 : 0];
        for (int k = -4; k <= 6; k++) {
            iq4_fit fit = fit_iq4_once(x, w, (far_value + 3.0f * (float)(end ? k : -k)) / extreme);
            if (fit.gain > best.gain) best = fit;
        }
    }
    for (int round = 0; round < 2 && best.scale != 0.0f; round++) {
        iq4_fit fit = fit_iq4_once(x, w, 1.0f / best.scale);
        if (fit.gain <= best.gain) break;
        best = fit;
    }
    return best.scale;
}

void mr_quantize_iq4_nl(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_iq4_nl *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        block->d = mr_fit_half(fit_iq4(src + i, mr_fit_weights(importance ? importance + i : NULL, MR_QK)));
        encode_iq4(src + i, mr_f16_to_f32(block->d), block->qs);
    }
}

static float iq4_error(const float *x, const float *w, float scale) {
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f, error[MR_FIT_LANES] = {0};
    for (int i = 0; i < 32; i += MR_FIT_LANES) {
        for (int l = 0; l < MR_FIT_LANES; l++) {
            float e = x[i + l] - scale * nearest_iq4(x[i + l] * inverse);
            error[l] += w[i + l] * e * e;
        }
    }
    return mr_fit_lane_sum(error);
}

/* The multiple of d (-32 .. 31) that serves the group best, among the neighbours of the one wished for. */
static int choose_iq4_scale(const float *x, const float *w, float wanted, float d) {
    float ratio = d != 0.0f ? wanted / d : 0.0f;
    int centre = (int)lrintf(fminf(fmaxf(ratio, -32.0f), 31.0f)), best = centre;
    float least = INFINITY;
    for (int s = centre - 1; s <= centre + 1; s++) {
        if (s < -32 || s > 31) continue;
        float error = iq4_error(x, w, d * (float)s);
        if (error < least) {
            least = error;
            best = s;
        }
    }
    return best;
}

/* The best d for given group scales, the integers being those that the present d gives. */
static float refit_iq4_d(const float *x, const float *w, const int *scales, float d) {
    float sxv[MR_FIT_LANES] = {0}, svv[MR_FIT_LANES] = {0};
    for (int i = 0; i < MR_QK_K; i += MR_FIT_LANES) {
        float s = (float)scales[i / 32], inverse = s != 0.0f && d != 0.0f ? 1.0f / (d * s) : 0.0f;
        for (int l = 0; l < MR_FIT_LANES; l++) {
            float v = s * nearest_iq4(x[i + l] * inverse), wv = w[i + l] * v;
            sxv[l] += wv * x[i + l];
            svv[l] += wv * v;
        }
    }
    float xv = mr_fit_lane_sum(sxv), vv = mr_fit_lane_sum(svv);
    return vv > 0.0f ? xv / vv : d;
}

void mr_quantize_iq4_xs(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_iq4_xs *block = dst;
    for (size_t i = 0; i + MR_QK_K <= n; i += MR_QK_K, block++) {
        const float *x = src + i, *w = mr_fit_weights(importance ? importance + i : NULL, MR_QK_K);
        float wanted[8], extreme = 0.0f;
        int scales[8];
        for (int g = 0; g < 8; g++) {
            wanted[g] = fit_iq4(x + 32 * g, w + 32 * g);
            if (fabsf(wanted[g]) > fabsf(extreme)) extreme = wanted[g];
        }
        memset(block, 0, sizeof(*block));
        block->d = mr_fit_half(extreme / -32.0f);
        for (int round = 0; round < 2; round++) {
            float d = mr_f16_to_f32(block->d);
            for (int g = 0; g < 8; g++) scales[g] = choose_iq4_scale(x + 32 * g, w + 32 * g, wanted[g], d);
            if (round == 0) block->d = mr_fit_half(refit_iq4_d(x, w, scales, d));
        }
        for (int g = 0; g < 8; g++) {
            encode_iq4(x + 32 * g, mr_f16_to_f32(block->d) * (float)scales[g], block->qs + 16 * g);
            block->scales_l[g / 2] |= (uint8_t)(((scales[g] + 32) & 15) << (g % 2 * 4));
            block->scales_h |= (uint16_t)((scales[g] + 32) >> 4 << (2 * g));
        }
    }
}

/* Index of the value of mr_mxfp4_values nearest to v. */
static int nearest_mxfp4(float v) {
    float magnitude = fabsf(v);
    int q = 0;
    while (q < 7 && magnitude > 0.5f * (float)(mr_mxfp4_values[q] + mr_mxfp4_values[q + 1])) q++;
    return v < 0.0f && q > 0 ? q + 8 : q;
}

static float mxfp4_error(const float *x, const float *w, uint8_t e) {
    float scale = mr_mxfp4_scale(e), error = 0.0f;
    for (int i = 0; i < 32; i++) {
        float off = x[i] - scale * (float)mr_mxfp4_values[nearest_mxfp4(x[i] / scale)];
        error += w[i] * off * off;
    }
    return error;
}

void mr_quantize_mxfp4(const float *src, void *dst, size_t n, const float *importance) {
    mr_block_mxfp4 *block = dst;
    for (size_t i = 0; i + MR_QK <= n; i += MR_QK, block++) {
        const float *x = src + i, *w = mr_fit_weights(importance ? importance + i : NULL, MR_QK);
        float largest = 0.0f, least = INFINITY;
        for (int j = 0; j < 32; j++) largest = fmaxf(largest, fabsf(x[j]));
        /* 2^(e - 127) * 6 is the largest value of the block; its neighbours may clip or waste a step, yet fit better.
         */
        int centre = largest > 0.0f && isfinite(largest) ? ilogbf(largest) - 2 + 127 : 0;
        uint8_t best = 0;
        for (int e = centre - 1; largest > 0.0f && e <= centre + 1; e++) {
            if (e < 0 || e > 254) continue;
            float error = mxfp4_error(x, w, (uint8_t)e);
            if (error < least) {
                least = error;
                best = (uint8_t)e;
            }
        }
        block->e = best;
        float scale = mr_mxfp4_scale(best);
        for (int j = 0; j < 16; j++)
            block->qs[j] = (uint8_t)(nearest_mxfp4(x[j] / scale) | nearest_mxfp4(x[j + 16] / scale) << 4);
    }
}
