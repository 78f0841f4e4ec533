/* The inner loops of the scale search with 256-bit vectors, one lane of the plain loops in each place. */
#include "compute/quant_fit_kernels.h"

#include <immintrin.h>

static inline __m256 nearest_within(__m256 v, __m256 lo, __m256 hi) {
    const __m256 shift = _mm256_set1_ps(12582912.0f);
    v = _mm256_sub_ps(_mm256_add_ps(v, shift), shift);
    return _mm256_min_ps(_mm256_max_ps(v, lo), hi); /* NaN becomes lo, as in the plain loops */
}

static inline float total(__m256 lanes) {
    float v[MR_FIT_LANES];
    _mm256_storeu_ps(v, lanes);
    return mr_fit_lane_sum(v);
}

static void symmetric_sums(const float *x, const float *w, int n, float inverse, float q_half, float out[2]) {
    __m256 xq = _mm256_setzero_ps(), qq = _mm256_setzero_ps();
    const __m256 factor = _mm256_set1_ps(inverse), lo = _mm256_set1_ps(-q_half), hi = _mm256_set1_ps(q_half - 1.0f);
    for (int i = 0; i < n; i += MR_FIT_LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 q = nearest_within(_mm256_mul_ps(v, factor), lo, hi);
        __m256 wq = _mm256_mul_ps(_mm256_loadu_ps(w + i), q);
        xq = _mm256_add_ps(xq, _mm256_mul_ps(wq, v));
        qq = _mm256_add_ps(qq, _mm256_mul_ps(wq, q));
    }
    out[0] = total(xq);
    out[1] = total(qq);
}

static float symmetric_error(const float *x, const float *w, int n, float scale, float inverse, float q_half) {
    __m256 error = _mm256_setzero_ps();
    const __m256 factor = _mm256_set1_ps(inverse), unit = _mm256_set1_ps(scale);
    const __m256 lo = _mm256_set1_ps(-q_half), hi = _mm256_set1_ps(q_half - 1.0f);
    for (int i = 0; i < n; i += MR_FIT_LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 q = nearest_within(_mm256_mul_ps(v, factor), lo, hi);
        __m256 e = _mm256_sub_ps(v, _mm256_mul_ps(unit, q));
        error = _mm256_add_ps(error, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(w + i), e), e));
    }
    return total(error);
}

static void affine_sums(const float *x, const float *w, int n, float inverse, float min, float q_max, float out[3]) {
    __m256 q1 = _mm256_setzero_ps(), qq = q1, xq = q1;
    const __m256 factor = _mm256_set1_ps(inverse), low = _mm256_set1_ps(min), lo = _mm256_setzero_ps(),
                 hi = _mm256_set1_ps(q_max);
    for (int i = 0; i < n; i += MR_FIT_LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 q = nearest_within(_mm256_mul_ps(_mm256_sub_ps(v, low), factor), lo, hi);
        __m256 wq = _mm256_mul_ps(_mm256_loadu_ps(w + i), q);
        q1 = _mm256_add_ps(q1, wq);
        qq = _mm256_add_ps(qq, _mm256_mul_ps(wq, q));
        xq = _mm256_add_ps(xq, _mm256_mul_ps(wq, v));
    }
    out[0] = total(q1);
    out[1] = total(qq);
    out[2] = total(xq);
}

static float affine_error(const float *x, const float *w, int n, float scale, float inverse, float min, float q_max) {
    __m256 error = _mm256_setzero_ps();
    const __m256 factor = _mm256_set1_ps(inverse), unit = _mm256_set1_ps(scale), low = _mm256_set1_ps(min);
    const __m256 lo = _mm256_setzero_ps(), hi = _mm256_set1_ps(q_max);
    for (int i = 0; i < n; i += MR_FIT_LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 q = nearest_within(_mm256_mul_ps(_mm256_sub_ps(v, low), factor), lo, hi);
        __m256 e = _mm256_sub_ps(v, _mm256_add_ps(_mm256_mul_ps(unit, q), low));
        error = _mm256_add_ps(error, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(w + i), e), e));
    }
    return total(error);
}

const mr_fit_kernels mr_fit_kernels_avx2 = {symmetric_sums, symmetric_error, affine_sums, affine_error};
