/* Sixteen floats as one value, with the same result on every instruction set: only operations that IEEE 754 fixes
 * (fused multiply-add is always fused), never a sum across lanes whose order a compiler could choose.
 *
 * Include from files that are compiled once per instruction set; everything here is static. */
#ifndef MR_COMPUTE_VEC16_H
#define MR_COMPUTE_VEC16_H

#include "compute/dtype.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>

typedef __m512 vf16;
static inline vf16 vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf16 a) {
    _mm512_storeu_ps(p, a);
}
static inline vf16 vf_set1(float a) {
    return _mm512_set1_ps(a);
}
static inline vf16 vf_add(vf16 a, vf16 b) {
    return _mm512_add_ps(a, b);
}
static inline vf16 vf_sub(vf16 a, vf16 b) {
    return _mm512_sub_ps(a, b);
}
static inline vf16 vf_mul(vf16 a, vf16 b) {
    return _mm512_mul_ps(a, b);
}
static inline vf16 vf_div(vf16 a, vf16 b) {
    return _mm512_div_ps(a, b);
}
static inline vf16 vf_fma(vf16 a, vf16 b, vf16 c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf16 vf_max(vf16 a, vf16 b) {
    return _mm512_max_ps(a, b);
}
static inline vf16 vf_min(vf16 a, vf16 b) {
    return _mm512_min_ps(a, b);
}
static inline vf16 vf_round(vf16 a) {
    return _mm512_roundscale_ps(a, 8);
}
static inline vf16 vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf16 vf_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline void vf_store_f16(uint16_t *p, vf16 a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* a < b ? x : y in each lane. */
static inline vf16 vf_select_lt(vf16 a, vf16 b, vf16 x, vf16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* a * 2^n for whole n with a normal result. */
static inline vf16 vf_ldexp(vf16 a, vf16 n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23)));
}
static inline __m256 vf_low_half(vf16 a) {
    return _mm512_castps512_ps256(a);
}
static inline __m256 vf_high_half(vf16 a) {
    return _mm512_extractf32x8_ps(a, 1);
}

#elif defined(__AVX2__)
#include <immintrin.h>

typedef struct {
    __m256 lo, hi;
} vf16;
#define VF_BOTH(op, a, b) ((vf16){op((a).lo, (b).lo), op((a).hi, (b).hi)})
static inline vf16 vf_load(const float *p) {
    return (vf16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void vf_store(float *p, vf16 a) {
    _mm256_storeu_ps(p, a.lo), _mm256_storeu_ps(p + 8, a.hi);
}
static inline vf16 vf_set1(float a) {
    return (vf16){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}
static inline vf16 vf_add(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_add_ps, a, b);
}
static inline vf16 vf_sub(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_sub_ps, a, b);
}
static inline vf16 vf_mul(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_mul_ps, a, b);
}
static inline vf16 vf_div(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_div_ps, a, b);
}
static inline vf16 vf_fma(vf16 a, vf16 b, vf16 c) {
    return (vf16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline vf16 vf_max(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_max_ps, a, b);
}
static inline vf16 vf_min(vf16 a, vf16 b) {
    return VF_BOTH(_mm256_min_ps, a, b);
}
static inline vf16 vf_round(vf16 a) {
    return (vf16){_mm256_round_ps(a.lo, 8), _mm256_round_ps(a.hi, 8)};
}
static inline vf16 vf_load_f16(const uint16_t *p) {
    return (vf16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline vf16 vf_load_i8(const int8_t *p) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (vf16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
static inline void vf_store_f16(uint16_t *p, vf16 a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.lo, 0));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.hi, 0));
}
static inline vf16 vf_select_lt(vf16 a, vf16 b, vf16 x, vf16 y) {
    return (vf16){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                  _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
static inline __m256 vf_ldexp_half(__m256 a, __m256 n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
static inline vf16 vf_ldexp(vf16 a, vf16 n) {
    return VF_BOTH(vf_ldexp_half, a, n);
}
static inline __m256 vf_low_half(vf16 a) {
    return a.lo;
}
static inline __m256 vf_high_half(vf16 a) {
    return a.hi;
}

#else

typedef struct {
    float v[16];
} vf16;
#define VF_EACH(expression)                                                                                            \
    vf16 r;                                                                                                            \
    for (int i = 0; i < 16; i++) r.v[i] = (expression);                                                                \
    return r
static inline vf16 vf_load(const float *p) {
    VF_EACH(p[i]);
}
static inline void vf_store(float *p, vf16 a) {
    memcpy(p, a.v, sizeof a.v);
}
static inline vf16 vf_set1(float a) {
    VF_EACH(a);
}
static inline vf16 vf_add(vf16 a, vf16 b) {
    VF_EACH(a.v[i] + b.v[i]);
}
static inline vf16 vf_sub(vf16 a, vf16 b) {
    VF_EACH(a.v[i] - b.v[i]);
}
static inline vf16 vf_mul(vf16 a, vf16 b) {
    VF_EACH(a.v[i] * b.v[i]);
}
static inline vf16 vf_div(vf16 a, vf16 b) {
    VF_EACH(a.v[i] / b.v[i]);
}
static inline vf16 vf_fma(vf16 a, vf16 b, vf16 c) {
    VF_EACH(fmaf(a.v[i], b.v[i], c.v[i]));
}
static inline vf16 vf_max(vf16 a, vf16 b) {
    VF_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
static inline vf16 vf_min(vf16 a, vf16 b) {
    VF_EACH(a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
static inline vf16 vf_round(vf16 a) {
    VF_EACH(rintf(a.v[i]));
}
static inline vf16 vf_load_f16(const uint16_t *p) {
    VF_EACH(mr_f16_to_f32(p[i]));
}
static inline vf16 vf_load_i8(const int8_t *p) {
    VF_EACH((float)p[i]);
}
static inline void vf_store_f16(uint16_t *p, vf16 a) {
    for (int i = 0; i < 16; i++) p[i] = mr_f32_to_f16(a.v[i]);
}
static inline vf16 vf_select_lt(vf16 a, vf16 b, vf16 x, vf16 y) {
    VF_EACH(a.v[i] < b.v[i] ? x.v[i] : y.v[i]);
}
static inline float vf_ldexp_one(float a, float n) {
    union {
        float f;
        uint32_t u;
    } bits = {.f = a};
    bits.u += (uint32_t)(int32_t)n << 23;
    return bits.f;
}
static inline vf16 vf_ldexp(vf16 a, vf16 n) {
    VF_EACH(vf_ldexp_one(a.v[i], n.v[i]));
}

#endif

/* e^x within 2 ulp; 0 below -87.3, and the value at 88.7 above it. Cody-Waite reduction and a Taylor-like minimax
 * polynomial of degree 6 on [-ln2/2, ln2/2]. */
static inline vf16 vf_exp(vf16 x) {
    vf16 clamped = vf_min(vf_max(x, vf_set1(-87.3f)), vf_set1(88.3f));
    vf16 n = vf_round(vf_mul(clamped, vf_set1(1.44269504f)));
    vf16 r = vf_fma(n, vf_set1(-0.693359375f), clamped);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf16 p = vf_set1(1.3981999507e-3f);
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), vf_add(r, vf_set1(1.0f)));
    return vf_select_lt(x, vf_set1(-87.3f), vf_set1(0.0f), vf_ldexp(p, n));
}

/* Sum over the lanes in one fixed order: halves, quarters, eighths, pairs. */
static inline float vf_sum(vf16 a) {
    float v[16];
    vf_store(v, a);
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    }
    return v[0];
}

/* The largest lane; of pairs in the order of vf_sum. */
static inline float vf_max_lane(vf16 a) {
#if defined(__AVX2__)
    __m256 eight = _mm256_max_ps(vf_low_half(a), vf_high_half(a));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
#else
    float v[16];
    vf_store(v, a);
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
    }
    return v[0];
#endif
}

#endif
