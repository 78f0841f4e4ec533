#include "compute/quant_fit.h"

#include "compute/dtype.h"

#include <math.h>

/* Sums are kept in lanes of a fixed number, so that the compiler can vectorise them without changing their order. */
enum { LANES = 8 };

static const float ones[256] = {
#define ONE8 1, 1, 1, 1, 1, 1, 1, 1
#define ONE64 ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8
    ONE64, ONE64, ONE64, ONE64,
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

static inline float lane_sum(const float *v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* The weights to use: those given, or ones when there are none or all are zero. */
static const float *usable_weights(const float *w, int n) {
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

typedef struct moments {
    float xq, qq; /* sums of w x q and w q q */
} moments;

static moments symmetric_moments(const float *x, const float *w, int n, float inverse, float q_half) {
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest(x[i + l] * inverse), -q_half, q_half - 1.0f);
            float wq = w[i + l] * q;
            xq[l] += wq * x[i + l];
            qq[l] += wq * q;
        }
    }
    return (moments){lane_sum(xq), lane_sum(qq)};
}

static float signed_extreme(const float *x, int n) {
    float extreme = 0.0f;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    return extreme;
}

float mr_fit_symmetric(const float *x, const float *w, int n, int q_half) {
    w = usable_weights(w, n);
    float extreme = signed_extreme(x, n);
    if (fabsf(extreme) < 1e-30f) return 0.0f;
    float best = extreme / (float)-q_half, best_gain = -1.0f;
    /* Starts: the extreme value lands between one step inside and one step outside of the far end -q_half. Coarse types also
     * try to clip more, and the opposite sign. */
    int n_inside = 5, n_outside = 5 + (q_half <= 4 ? 5 : 0);
    for (int side = 0; side < 2; side++) {
        for (int k = -n_inside; k <= n_outside; k++) {
            float reach = (float)q_half - (float)side + 0.2f * (float)k;
            moments m = symmetric_moments(x, w, n, (side ? reach : -reach) / extreme, (float)q_half);
            if (m.qq <= 0.0f) continue;
            float gain = m.xq * m.xq / m.qq; /* how much of the energy the fit explains */
            if (gain > best_gain) {
                best_gain = gain;
                best = m.xq / m.qq;
            }
        }
        if (q_half > 16) break;
    }
    for (int round = 0; round < 2 && best != 0.0f; round++) {
        moments m = symmetric_moments(x, w, n, 1.0f / best, (float)q_half);
        if (m.qq <= 0.0f || m.xq * m.xq / m.qq <= best_gain) break;
        best_gain = m.xq * m.xq / m.qq;
        best = m.xq / m.qq;
    }
    return best;
}

static float symmetric_error(const float *x, const float *w, int n, float scale, float q_half) {
    float error[LANES] = {0};
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest(x[i + l] * inverse), -q_half, q_half - 1.0f);
            float e = x[i + l] - scale * q;
            error[l] += w[i + l] * e * e;
        }
    }
    return lane_sum(error);
}

/* Chooses each group's scale as a multiple of d, trying the neighbours of the nearest multiple. */
static void choose_symmetric_scales(const float *x, const float *w, const float *wanted, float d, int q_half, int scale_half,
                                    int8_t *scales) {
    float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int g = 0; g < 16; g++) {
        const float *gx = x + 16 * g, *gw = w + 16 * g;
        int centre = (int)clamp(nearest(wanted[g] * inverse), (float)-scale_half, (float)(scale_half - 1));
        int reach = q_half <= 4 ? 2 : 1;
        float best = INFINITY;
        scales[g] = (int8_t)centre;
        for (int s = centre - reach; s <= centre + reach; s++) {
            if (s < -scale_half || s >= scale_half) continue;
            float error = symmetric_error(gx, gw, 16, d * (float)s, (float)q_half);
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
    float den = lane_sum(qq);
    return den > 0.0f ? lane_sum(xq) / den : 0.0f;
}

static void round_symmetric(const float *x, float d, int q_half, mr_fit_symmetric_block *out) {
    for (int g = 0; g < 16; g++)
        mr_fit_round(x + 16 * g, 16, d * (float)out->scales[g], 0.0f, -q_half, q_half - 1, out->q + 16 * g);
}

void mr_fit_symmetric_256(const float *x, const float *w, int q_half, int scale_half, mr_fit_symmetric_block *out) {
    float wanted[16];
    for (int g = 0; g < 16; g++) wanted[g] = mr_fit_symmetric(x + 16 * g, w ? w + 16 * g : NULL, 16, q_half);
    w = usable_weights(w, 256);
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
    const float *x, *w;
    int n;
    float q_max;
    int min_below_zero;
    float w_sum, wx_sum, wxx_sum;
} affine_input;

/* Least squares for the integers that `inverse` and `min` give. The error comes out negative-free up to rounding. */
static affine_fit affine_least_squares(const affine_input *in, float inverse, float min) {
    const float *x = in->x, *w = in->w;
    float sq[LANES] = {0}, sqq[LANES] = {0}, sxq[LANES] = {0};
    for (int i = 0; i < in->n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest((x[i + l] - min) * inverse), 0.0f, in->q_max);
            float wq = w[i + l] * q;
            sq[l] += wq;
            sqq[l] += wq * q;
            sxq[l] += wq * x[i + l];
        }
    }
    float q1 = lane_sum(sq), qq = lane_sum(sqq), xq = lane_sum(sxq);
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

static affine_input affine_sums(const float *x, const float *w, int n, int q_max, int min_below_zero) {
    affine_input in = {x, w, n, (float)q_max, min_below_zero, 0, 0, 0};
    for (int i = 0; i < n; i++) {
        in.w_sum += w[i];
        in.wx_sum += w[i] * x[i];
        in.wxx_sum += w[i] * x[i] * x[i];
    }
    return in;
}

float mr_fit_affine(const float *x, const float *w, int n, int q_max, int min_below_zero, float *min) {
    w = usable_weights(w, n);
    float lo = x[0], hi = x[0];
    for (int i = 1; i < n; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    if (min_below_zero && lo > 0.0f) lo = 0.0f;
    *min = lo;
    if (!(hi - lo > 1e-30f)) return 0.0f;
    affine_input in = affine_sums(x, w, n, q_max, min_below_zero);
    affine_fit best = {(hi - lo) / (float)q_max, lo, INFINITY};
    /* Starts: the range covers from one step less to one step more than q_max. Coarse types also start from a raised minimum. */
    int n_raised = q_max <= 3 ? 4 : 1;
    for (int raised = 0; raised < n_raised; raised++) {
        float start = lo + 0.2f * (float)raised * (hi - lo) / (float)q_max;
        for (int k = -5; k <= 5; k++) {
            affine_fit fit = affine_least_squares(&in, ((float)q_max + 0.2f * (float)k) / (hi - lo), start);
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

static float affine_error(const float *x, const float *w, int n, float scale, float min, float q_max) {
    float error[LANES] = {0};
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = clamp(nearest((x[i + l] + min) * inverse), 0.0f, q_max);
            float e = x[i + l] - (scale * q - min);
            error[l] += w[i + l] * e * e;
        }
    }
    return lane_sum(error);
}

typedef struct affine_wish {
    float scale[16], min[16]; /* what each group would like; min >= 0 is subtracted */
} affine_wish;

static int near_multiple(float wanted, float unit, int max) {
    return unit > 0.0f ? (int)clamp(nearest(wanted / unit), 0.0f, (float)max) : 0;
}

/* Chooses each group's scale and minimum as multiples of d and dmin among the neighbours of the nearest ones. */
static void choose_affine_scales(const float *x, const float *w, const affine_wish *wish, int group, int q_max, int scale_max,
                                 mr_fit_affine_block *out) {
    float d = mr_f16_to_f32(out->d), dmin = mr_f16_to_f32(out->dmin);
    for (int g = 0; g < 256 / group; g++) {
        int s0 = near_multiple(wish->scale[g], d, scale_max), m0 = near_multiple(wish->min[g], dmin, scale_max);
        float best = INFINITY;
        out->scales[g] = (uint8_t)s0;
        out->mins[g] = (uint8_t)m0;
        for (int s = s0 > 0 ? s0 - 1 : 0; s <= s0 + 1 && s <= scale_max; s++) {
            for (int m = m0 > 0 ? m0 - 1 : 0; m <= m0 + 1 && m <= scale_max; m++) {
                float error = affine_error(x + group * g, w + group * g, group, d * (float)s, dmin * (float)m, (float)q_max);
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
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int i = 0; i < 256; i++) {
        float a = (float)out->scales[i / group] * (float)out->q[i], b = (float)out->mins[i / group];
        aa += w[i] * a * a;
        ab += w[i] * a * b;
        bb += w[i] * b * b;
        xa += w[i] * x[i] * a;
        xb += w[i] * x[i] * b;
    }
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
    w = usable_weights(w, 256);
    out->d = mr_fit_half(scale_top / (float)scale_max);
    out->dmin = mr_fit_half(min_top / (float)scale_max);
    for (int round = 0; round < 2; round++) {
        choose_affine_scales(x, w, &wish, group, q_max, scale_max, out);
        round_affine(x, group, q_max, out);
        if (round == 0) refit_affine_d(x, w, group, out);
    }
}
