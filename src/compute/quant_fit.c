#include "compute/quant_fit.h"

#include "compute/cpu.h"
#include "compute/dtype.h"
#include "compute/quant_fit_kernels.h"

#include <math.h>
#include <stdbool.h>

enum { LANES = MR_FIT_LANES };

/* Distance between starts, in quantization steps. Halving it lowers the error by less than 0.2 %. */
#define START_STEP 0.33f

static const float ones[256] = {
#define ONE8 1, 1, 1, 1, 1, 1, 1, 1
#define ONE64 ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8
    ONE64,
    ONE64,
    ONE64,
    ONE64,
#undef ONE64
#undef ONE8
};

static inline float nearest(float v) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: the addition rounds to an integer, ties to even */
    return (v + shift) - shift;
}

/* NaN becomes lo. */
static inline float clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

static void symmetric_sums(const float *x, const float *w, int n, float inverse, float q_half, float out[2]) {
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest(x[i + l] * inverse), -q_half, q_half - 1.0f);
            float wq = w[i + l] * q;
            xq[l] += wq * x[i + l];
            qq[l] += wq * q;
        }
    }
    out[0] = mr_fit_lane_sum(xq);
    out[1] = mr_fit_lane_sum(qq);
}

static float symmetric_error(const float *x, const float *w, int n, float scale, float inverse, float q_half) {
    float error[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest(x[i + l] * inverse), -q_half, q_half - 1.0f);
            float e = x[i + l] - scale * q;
            error[l] += w[i + l] * e * e;
        }
    }
    return mr_fit_lane_sum(error);
}

static void affine_sums(const float *x, const float *w, int n, float inverse, float min, float q_max, float out[3]) {
    float q1[LANES] = {0}, qq[LANES] = {0}, xq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest((x[i + l] - min) * inverse), 0.0f, q_max);
            float wq = w[i + l] * q;
            q1[l] += wq;
            qq[l] += wq * q;
            xq[l] += wq * x[i + l];
        }
    }
    out[0] = mr_fit_lane_sum(q1);
    out[1] = mr_fit_lane_sum(qq);
    out[2] = mr_fit_lane_sum(xq);
}

static float affine_error(const float *x, const float *w, int n, float scale, float inverse, float min, float q_max) {
    float error[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest((x[i + l] - min) * inverse), 0.0f, q_max);
            float e = x[i + l] - (scale * q + min);
            error[l] += w[i + l] * e * e;
        }
    }
    return mr_fit_lane_sum(error);
}

static const mr_fit_kernels *active_kernels(void) {
    static const mr_fit_kernels plain = {symmetric_sums, symmetric_error, affine_sums, affine_error};
#if defined(__x86_64__)
    mr_isa isa = mr_isa_active();
    if (isa == MR_ISA_AVX2 || isa == MR_ISA_AVX512) return &mr_fit_kernels_avx2;
#endif
    return &plain;
}

const float *mr_fit_weights(const float *w, int n) {
    if (!w) return ones;
    for (int i = 0; i < n; i++)
        if (w[i] > 0.0f) return w;
    return ones;
}

uint16_t mr_fit_half(float scale) {
    const float largest = 65504.0f;
    if (scale > largest) scale = largest;
    if (scale < -largest) scale = -largest;
    return mr_f32_to_f16(scale);
}

void mr_fit_round(const float *x, int n, float scale, float min, int lo, int hi, int8_t *q) {
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i++) q[i] = (int8_t)clamp(nearest((x[i] - min) * inverse), (float)lo, (float)hi);
}

/* ---- scale alone */

static float signed_extreme(const float *x, int n) {
    float extreme = 0.0f;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    return extreme;
}

typedef struct symmetric_fit {
    const mr_fit_kernels *kernels;
    const float *x, *w;
    int n;
    float q_half;
    float scale, gain; /* the best so far, and how much of the energy it explains */
} symmetric_fit;

/* Least squares for the integers that `inverse` gives; whether that is an improvement. */
static bool symmetric_start(symmetric_fit *fit, float inverse) {
    float sums[2];
    fit->kernels->symmetric_sums(fit->x, fit->w, fit->n, inverse, fit->q_half, sums);
    if (!(sums[1] > 0.0f) || !(sums[0] * sums[0] / sums[1] > fit->gain)) return false;
    fit->gain = sums[0] * sums[0] / sums[1];
    fit->scale = sums[0] / sums[1];
    return true;
}

float mr_fit_symmetric(const float *x, const float *w, int n, int q_half) {
    w = mr_fit_weights(w, n);
    float extreme = signed_extreme(x, n);
    if (fabsf(extreme) < 1e-30f) return 0.0f;
    symmetric_fit fit = {active_kernels(), x, w, n, (float)q_half, extreme / (float)-q_half, 0.0f};
    /* Starts: the extreme value lands between one step inside and one step outside of the far end -q_half. Coarse types
     * also try to clip more, and the opposite sign. */
    int n_inside = 3, n_outside = q_half <= 4 ? 6 : 3;
    for (int side = 0; side < 2; side++) {
        for (int k = -n_inside; k <= n_outside; k++) {
            float reach = (float)q_half - (float)side + START_STEP * (float)k;
            symmetric_start(&fit, (side ? reach : -reach) / extreme);
        }
        if (q_half > 16) break;
    }
    for (int round = 0; round < 2 && fit.scale != 0.0f; round++)
        if (!symmetric_start(&fit, 1.0f / fit.scale)) break;
    return fit.scale;
}

/* Chooses each group's scale as a multiple of d, trying the neighbours of the nearest multiple. */
static void choose_symmetric_scales(const float *x, const float *w, const float *wanted, float d, int q_half,
                                    int scale_half, int8_t *scales) {
    const mr_fit_kernels *kernels = active_kernels();
    float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int g = 0; g < 16; g++) {
        const float *gx = x + 16 * g, *gw = w + 16 * g;
        int centre = (int)clamp(nearest(wanted[g] * inverse), (float)-scale_half, (float)(scale_half - 1));
        int reach = q_half <= 4 ? 2 : 1;
        float best = INFINITY;
        scales[g] = (int8_t)centre;
        for (int s = centre - reach; s <= centre + reach; s++) {
            if (s < -scale_half || s >= scale_half) continue;
            float scale = d * (float)s, inverse_scale = scale != 0.0f ? 1.0f / scale : 0.0f;
            float error = kernels->symmetric_error(gx, gw, 16, scale, inverse_scale, (float)q_half);
            if (error < best) {
                best = error;
                scales[g] = (int8_t)s;
            }
        }
    }
}

/* The best d for given scales, after the integers were chosen with the present d. */
static float refit_symmetric_d(const float *x, const float *w, const int8_t *scales, const int8_t *q) {
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < 256; i += LANES) {
        float s = scales[i / 16];
        for (int l = 0; l < LANES; l++) {
            float v = s * (float)q[i + l];
            float wv = w[i + l] * v;
            xq[l] += wv * x[i + l];
            qq[l] += wv * v;
        }
    }
    float den = mr_fit_lane_sum(qq);
    return den > 0.0f ? mr_fit_lane_sum(xq) / den : 0.0f;
}

static void round_symmetric(const float *x, float d, int q_half, mr_fit_symmetric_block *out) {
    for (int g = 0; g < 16; g++)
        mr_fit_round(x + 16 * g, 16, d * (float)out->scales[g], 0.0f, -q_half, q_half - 1, out->q + 16 * g);
}

void mr_fit_symmetric_256(const float *x, const float *w, int q_half, int scale_half, mr_fit_symmetric_block *out) {
    float wanted[16];
    for (int g = 0; g < 16; g++) wanted[g] = mr_fit_symmetric(x + 16 * g, w ? w + 16 * g : NULL, 16, q_half);
    w = mr_fit_weights(w, 256);
    out->d = mr_fit_half(signed_extreme(wanted, 16) / (float)-scale_half);
    float d = mr_f16_to_f32(out->d);
    for (int round = 0; round < 2; round++) {
        choose_symmetric_scales(x, w, wanted, d, q_half, scale_half, out->scales);
        round_symmetric(x, d, q_half, out);
        if (round == 1) break;
        out->d = mr_fit_half(refit_symmetric_d(x, w, out->scales, out->q));
        d = mr_f16_to_f32(out->d);
    }
}

/* ---- scale and minimum */

typedef struct affine_fit {
    float scale, min, error;
} affine_fit;

typedef struct affine_input {
    const mr_fit_kernels *kernels;
    const float *x, *w;
    int n;
    float q_max;
    int min_below_zero;
    float w_sum, wx_sum, wxx_sum;
} affine_input;

/* Least squares for the integers that `inverse` and `min` give. The error comes out negative-free up to rounding. */
static affine_fit affine_least_squares(const affine_input *in, float inverse, float min) {
    float sums[3];
    in->kernels->affine_sums(in->x, in->w, in->n, inverse, min, in->q_max, sums);
    float q1 = sums[0], qq = sums[1], xq = sums[2];
    float det = in->w_sum * qq - q1 * q1;
    affine_fit fit = {0.0f, min, INFINITY};
    if (!(det > 0.0f)) return fit;
    fit.scale = (in->w_sum * xq - in->wx_sum * q1) / det;
    fit.min = (qq * in->wx_sum - q1 * xq) / det;
    if (in->min_below_zero && fit.min > 0.0f) {
        fit.min = 0.0f;
        fit.scale = xq / qq;
    }
    if (!(fit.scale > 0.0f)) return fit;
    float s = fit.scale, b = fit.min;
    fit.error = in->wxx_sum - 2.0f * (s * xq + b * in->wx_sum) + s * s * qq + 2.0f * s * b * q1 + b * b * in->w_sum;
    return fit;
}

static affine_input affine_input_of(const float *x, const float *w, int n, int q_max, int min_below_zero) {
    affine_input in = {active_kernels(), x, w, n, (float)q_max, min_below_zero, 0, 0, 0};
    float w1[LANES] = {0}, wx[LANES] = {0}, wxx[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            w1[l] += w[i + l];
            wx[l] += w[i + l] * x[i + l];
            wxx[l] += w[i + l] * x[i + l] * x[i + l];
        }
    }
    in.w_sum = mr_fit_lane_sum(w1);
    in.wx_sum = mr_fit_lane_sum(wx);
    in.wxx_sum = mr_fit_lane_sum(wxx);
    return in;
}

static void range_of(const float *x, int n, float *lo, float *hi) {
    float low[LANES], high[LANES];
    for (int l = 0; l < LANES; l++) low[l] = high[l] = x[l];
    for (int i = LANES; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            low[l] = x[i + l] < low[l] ? x[i + l] : low[l];
            high[l] = x[i + l] > high[l] ? x[i + l] : high[l];
        }
    }
    *lo = low[0];
    *hi = high[0];
    for (int l = 1; l < LANES; l++) {
        if (low[l] < *lo) *lo = low[l];
        if (high[l] > *hi) *hi = high[l];
    }
}

float mr_fit_affine(const float *x, const float *w, int n, int q_max, int min_below_zero, float *min) {
    w = mr_fit_weights(w, n);
    float lo, hi;
    range_of(x, n, &lo, &hi);
    if (min_below_zero && lo > 0.0f) lo = 0.0f;
    *min = lo;
    if (!(hi - lo > 1e-30f)) return 0.0f;
    affine_input in = affine_input_of(x, w, n, q_max, min_below_zero);
    affine_fit best = {(hi - lo) / (float)q_max, lo, INFINITY};
    /* Starts: the range covers from one step less to one step more than q_max. Coarse types also start from a raised
     * minimum. */
    int n_raised = q_max <= 3 ? 4 : 1;
    for (int raised = 0; raised < n_raised; raised++) {
        float start = lo + 0.25f * (float)raised * (hi - lo) / (float)q_max;
        for (int k = -3; k <= 3; k++) {
            affine_fit fit = affine_least_squares(&in, ((float)q_max + START_STEP * (float)k) / (hi - lo), start);
            if (fit.error < best.error) best = fit;
        }
    }
    for (int round = 0; round < 3; round++) {
        affine_fit fit = affine_least_squares(&in, 1.0f / best.scale, best.min);
        if (!(fit.error < best.error)) break;
        best = fit;
    }
    *min = best.min;
    return best.scale;
}

typedef struct affine_wish {
    float scale[16], min[16]; /* what each group would like; min >= 0 is subtracted */
} affine_wish;

static int near_multiple(float wanted, float unit, int max) {
    return unit > 0.0f ? (int)clamp(nearest(wanted / unit), 0.0f, (float)max) : 0;
}

/* Chooses each group's scale and minimum as multiples of d and dmin among the neighbours of the nearest ones. */
static void choose_affine_scales(const float *x, const float *w, const affine_wish *wish, int group, int q_max,
                                 int scale_max, mr_fit_affine_block *out) {
    float d = mr_f16_to_f32(out->d), dmin = mr_f16_to_f32(out->dmin);
    const mr_fit_kernels *kernels = active_kernels();
    for (int g = 0; g < 256 / group; g++) {
        int s0 = near_multiple(wish->scale[g], d, scale_max), m0 = near_multiple(wish->min[g], dmin, scale_max);
        float best = INFINITY;
        out->scales[g] = (uint8_t)s0;
        out->mins[g] = (uint8_t)m0;
        for (int s = s0 > 0 ? s0 - 1 : 0; s <= s0 + 1 && s <= scale_max; s++) {
            float scale = d * (float)s, inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
            for (int m = m0 > 0 ? m0 - 1 : 0; m <= m0 + 1 && m <= scale_max; m++) {
                float error = kernels->affine_error(x + group * g, w + group * g, group, scale, inverse,
                                                    -(dmin * (float)m), (float)q_max);
                if (error < best) {
                    best = error;
                    out->scales[g] = (uint8_t)s;
                    out->mins[g] = (uint8_t)m;
                }
            }
        }
    }
}

static void round_affine(const float *x, int group, int q_max, mr_fit_affine_block *out) {
    float d = mr_f16_to_f32(out->d), dmin = mr_f16_to_f32(out->dmin);
    for (int g = 0; g < 256 / group; g++)
        mr_fit_round(x + group * g, group, d * (float)out->scales[g], -(dmin * (float)out->mins[g]), 0, q_max,
                     out->q + group * g);
}

/* Least squares for d and dmin with everything else given: x ~ d * a - dmin * b, a = scale * q, b = min. */
static void refit_affine_d(const float *x, const float *w, int group, mr_fit_affine_block *out) {
    float saa[LANES] = {0}, sab[LANES] = {0}, sbb[LANES] = {0}, sxa[LANES] = {0}, sxb[LANES] = {0};
    for (int i = 0; i < 256; i += LANES) {
        float scale = (float)out->scales[i / group], b = (float)out->mins[i / group];
        for (int l = 0; l < LANES; l++) {
            float a = scale * (float)out->q[i + l];
            saa[l] += w[i + l] * a * a;
            sab[l] += w[i + l] * a * b;
            sbb[l] += w[i + l] * b * b;
            sxa[l] += w[i + l] * x[i + l] * a;
            sxb[l] += w[i + l] * x[i + l] * b;
        }
    }
    float aa = mr_fit_lane_sum(saa), ab = mr_fit_lane_sum(sab), bb = mr_fit_lane_sum(sbb);
    float xa = mr_fit_lane_sum(sxa), xb = mr_fit_lane_sum(sxb);
    float det = aa * bb - ab * ab;
    if (!(det > 1e-6f * aa * bb)) return;
    float d = (xa * bb - xb * ab) / det, dmin = (xa * ab - xb * aa) / det;
    if (!(d > 0.0f) || !(dmin >= 0.0f)) return;
    out->d = mr_fit_half(d);
    out->dmin = mr_fit_half(dmin);
}

void mr_fit_affine_256(const float *x, const float *w, int group, int q_max, int scale_max, mr_fit_affine_block *out) {
    affine_wish wish;
    float scale_top = 0.0f, min_top = 0.0f;
    for (int g = 0; g < 256 / group; g++) {
        float min;
        wish.scale[g] = mr_fit_affine(x + group * g, w ? w + group * g : NULL, group, q_max, 1, &min);
        wish.min[g] = -min;
        scale_top = fmaxf(scale_top, wish.scale[g]);
        min_top = fmaxf(min_top, wish.min[g]);
    }
    w = mr_fit_weights(w, 256);
    out->d = mr_fit_half(scale_top / (float)scale_max);
    out->dmin = mr_fit_half(min_top / (float)scale_max);
    for (int round = 0; round < 2; round++) {
        choose_affine_scales(x, w, &wish, group, q_max, scale_max, out);
        round_affine(x, group, q_max, out);
        if (round == 0) refit_affine_d(x, w, group, out);
    }
}
