/* Weights stored as floats, with AVX2. Each sum is one chain over k; several tokens or both halves of a panel run side
 * by side to hide the latency. */
#include "compute/matrix_avx2.h"

typedef enum float_kind { KIND_F32, KIND_F16, KIND_BF16 } float_kind;

enum { TOKENS_AT_ONCE = 4 };

/* Half a panel for one step in k (bf16: two) as floats. */
ALWAYS_INLINE void load_step(float_kind kind, const uint8_t *panel, size_t i, size_t half, __m256 w[2]) {
    if (kind == KIND_F16) {
        w[0] = load_halves(panel + 32 * i + 16 * half);
        return;
    }
    __m256i bits = load256(panel + 64 * i + 32 * half);
    if (kind == KIND_F32) {
        w[0] = _mm256_castsi256_ps(bits);
    } else {
        w[0] = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
        w[1] = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xFFFF0000u)));
    }
}

ALWAYS_INLINE __m256 add_step(float_kind kind, __m256 sum, const __m256 w[2], __m256i x) {
    if (kind != KIND_BF16) return _mm256_fmadd_ps(w[0], _mm256_castsi256_ps(x), sum);
    __m256i second = _mm256_and_si256(x, _mm256_set1_epi32((int)0xFFFF0000u));
    sum = _mm256_fmadd_ps(w[1], _mm256_castsi256_ps(second), sum);
    return _mm256_fmadd_ps(w[0], _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)), sum);
}

/* A panel with n tokens. */
ALWAYS_INLINE void add_tokens(float_kind kind, const uint8_t *panel, size_t n_steps, const uint8_t *const *x, size_t n,
                              float *out) {
    __m256 sum[TOKENS_AT_ONCE][2];
    for (size_t t = 0; t < n; t++) sum[t][0] = sum[t][1] = _mm256_setzero_ps();
    for (size_t i = 0; i < n_steps; i++) {
        __m256 w[2][2];
        load_step(kind, panel, i, 0, w[0]);
        load_step(kind, panel, i, 1, w[1]);
        for (size_t t = 0; t < n; t++) {
            __m256i v = four(x[t] + 4 * i);
            sum[t][0] = add_step(kind, sum[t][0], w[0], v);
            sum[t][1] = add_step(kind, sum[t][1], w[1], v);
        }
    }
    for (size_t t = 0; t < n; t++) {
        _mm256_store_ps(out + 16 * t, sum[t][0]);
        _mm256_store_ps(out + 16 * t + 8, sum[t][1]);
    }
}

ALWAYS_INLINE void float_tile(float_kind kind, const mr_tile *tile) {
    size_t n_steps = kind == KIND_BF16 ? (tile->n_in + 1) / 2 : tile->n_in;
    for (size_t p = 0; p < tile->n_panels; p++) {
        const uint8_t *panel = tile->panels + p * tile->step;
        float *out = tile->out + p * tile->n_tokens * 16;
        size_t t = 0;
        for (; t + TOKENS_AT_ONCE <= tile->n_tokens; t += TOKENS_AT_ONCE) {
            add_tokens(kind, panel, n_steps, tile->x + t, TOKENS_AT_ONCE, out + 16 * t);
        }
        for (; t < tile->n_tokens; t++) add_tokens(kind, panel, n_steps, tile->x + t, 1, out + 16 * t);
    }
}

void mr_tile_f32_avx2(const mr_tile *tile) {
    float_tile(KIND_F32, tile);
}

void mr_tile_f16_avx2(const mr_tile *tile) {
    float_tile(KIND_F16, tile);
}

/* With subnormal numbers as zero, as vdpbf16ps has them. The barriers keep the arithmetic between the two mode
 * switches. */
void mr_tile_bf16_avx2(const mr_tile *tile) {
    enum { FLUSH_AND_DENORMALS_ARE_ZERO = 0x8040 };
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_AND_DENORMALS_ARE_ZERO);
    __asm__ volatile("" ::: "memory");
    float_tile(KIND_BF16, tile);
    __asm__ volatile("" ::: "memory");
    _mm_setcsr(before);
}
