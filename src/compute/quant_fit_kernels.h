/* The inner loops of quant_fit.c, for one instruction set each. All give the same bits: sums are kept in 8 lanes, lane
 * l taking the values l, l + 8, …, and are added up by mr_fit_lane_sum. n is a multiple of 8. */
#ifndef MR_COMPUTE_QUANT_FIT_KERNELS_H
#define MR_COMPUTE_QUANT_FIT_KERNELS_H

enum { MR_FIT_LANES = 8 };

static inline float mr_fit_lane_sum(const float v[MR_FIT_LANES]) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

typedef struct mr_fit_kernels {
    /* With q = round(x * inverse) within -q_half .. q_half - 1: out = {sum(w x q), sum(w q q)}. */
    void (*symmetric_sums)(const float *x, const float *w, int n, float inverse, float q_half, float out[2]);
    /* sum(w (x - scale q)^2) for the same q, inverse = 1 / scale. */
    float (*symmetric_error)(const float *x, const float *w, int n, float scale, float inverse, float q_half);
    /* With q = round((x - min) * inverse) within 0 .. q_max: out = {sum(w q), sum(w q q), sum(w q x)}. */
    void (*affine_sums)(const float *x, const float *w, int n, float inverse, float min, float q_max, float out[3]);
    /* sum(w (x - (scale q + min))^2) for the same q, inverse = 1 / scale. */
    float (*affine_error)(const float *x, const float *w, int n, float scale, float inverse, float min, float q_max);
} mr_fit_kernels;

extern const mr_fit_kernels mr_fit_kernels_avx2;

#endif
