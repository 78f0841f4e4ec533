/* Fitting of scales: the search behind the encoders of the block formats.
 *
 * Each function minimises sum(w[i] * (x[i] - decoded[i])^2) over a group or super-block; w >= 0, NULL means 1. The
 * method is alternating least squares from several starts: for given integers the best scale (and minimum) has a closed
 * form, for a given scale the best integers are the nearest ones. */
#ifndef MR_COMPUTE_QUANT_FIT_H
#define MR_COMPUTE_QUANT_FIT_H

#include <stdint.h>

/* The half float nearest to a scale, at most the largest finite one. */
uint16_t mr_fit_half(float scale);

/* The weights to use for n (at most 256) values: w, or ones when w is NULL or all zero. */
const float *mr_fit_weights(const float *w, int n);

/* x[i] ~ scale * q[i] with q in -q_half .. q_half - 1; n is a multiple of 8, at most 256. Returns the scale; q is not
 * kept. */
float mr_fit_symmetric(const float *x, const float *w, int n, int q_half);

/* x[i] ~ scale * q[i] + min with q in 0 .. q_max; n as above. Returns the scale (>= 0) and sets *min, which is kept <=
 * 0 when min_below_zero is set. */
float mr_fit_affine(const float *x, const float *w, int n, int q_max, int min_below_zero, float *min);

/* q[i] = the integer in lo .. hi nearest to (x[i] - min) / scale (0 for a scale of 0, clamped into the range). */
void mr_fit_round(const float *x, int n, float scale, float min, int lo, int hi, int8_t *q);

/* A super-block of 256: x ~ (d * scales[g]) * q for groups of 16, q in -q_half .. q_half - 1, scales in
 * -scale_half .. scale_half - 1. */
typedef struct mr_fit_symmetric_block {
    uint16_t d;
    int8_t scales[16];
    int8_t q[256];
} mr_fit_symmetric_block;
void mr_fit_symmetric_256(const float *x, const float *w, int q_half, int scale_half, mr_fit_symmetric_block *out);

/* A super-block of 256: x ~ (d * scales[g]) * q - (dmin * mins[g]) for groups of `group` (16 or 32) values, q in 0 ..
 * q_max, scales and mins in 0 .. scale_max. */
typedef struct mr_fit_affine_block {
    uint16_t d, dmin;
    uint8_t scales[16], mins[16];
    int8_t q[256];
} mr_fit_affine_block;
void mr_fit_affine_256(const float *x, const float *w, int group, int q_max, int scale_max, mr_fit_affine_block *out);

#endif
