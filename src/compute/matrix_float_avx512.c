/* Weights stored as floats, with AVX-512. Each sum is one chain over k, so several tokens (or, for one token, several
 * panels) run side by side to hide the latency. */
#include "compute/matrix_avx512.h"

typedef enum float_kind { KIND_F32, KIND_F16, KIND_BF16 } float_kind;

enum { STEP = 8, TOKENS_AT_ONCE = 4 };

/* Bytes of a panel for a step in k: 1 value, bf16 two. */
ALWAYS_INLINE size_t step_bytes(float_kind kind) {
    return kind == KIND_F16 ? 32 : 64;
}

ALWAYS_INLINE __m512i load_step(float_kind kind, const uint8_t *p) {
    return kind == KIND_F16 ? _mm512_castps_si512(load_halves(p)) : _mm512_load_si512(p);
}

ALWAYS_INLINE __m512 add_step(float_kind kind, __m512 sum, __m512i w, __m512i x) {
    if (kind == KIND_BF16) return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
}

/* n_steps steps of a panel with n tokens. */
ALWAYS_INLINE void add_steps(float_kind kind, const __m512i *w, size_t n_steps, const uint8_t *const *x, size_t offset,
                             size_t n, float *out) {
    __m512 sum[TOKENS_AT_ONCE];
    for (size_t t = 0; t < n; t++) sum[t] = offset == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out + 16 * t);
    for (size_t i = 0; i < n_steps; i++) {
        for (size_t t = 0; t < n; t++) sum[t] = add_step(kind, sum[t], w[i], four(x[t] + offset + 4 * i));
    }
    for (size_t t = 0; t < n; t++) _mm512_store_ps(out + 16 * t, sum[t]);
}

ALWAYS_INLINE void add_all_tokens(float_kind kind, const uint8_t *panel, const __m512i *w, size_t n_steps,
                                  const uint8_t *const *x, size_t offset, size_t n_tokens, float *out) {
    size_t t = 0;
    fetch ahead = fetch_start(panel, n_steps * step_bytes(kind) * TOKENS_AT_ONCE);
    for (; t + TOKENS_AT_ONCE <= n_tokens; t += TOKENS_AT_ONCE) {
        fetch_share(&ahead, n_tokens); /* of TOKENS_AT_ONCE */
        add_steps(kind, w, n_steps, x + t, offset, TOKENS_AT_ONCE, out + 16 * t);
    }
    switch (n_tokens - t) {
    case 3:
        add_steps(kind, w, n_steps, x + t, offset, 3, out + 16 * t);
        break;
    case 2:
        add_steps(kind, w, n_steps, x + t, offset, 2, out + 16 * t);
        break;
    case 1:
        add_steps(kind, w, n_steps, x + t, offset, 1, out + 16 * t);
        break;
    default:
        break;
    }
}

/* Many tokens: the weights of STEP steps stay in registers, the sums pass through memory. */
ALWAYS_INLINE void float_panel(float_kind kind, const uint8_t *panel, size_t n_steps, const uint8_t *const *x,
                               size_t n_tokens, float *out) {
    size_t i = 0;
    for (; i + STEP <= n_steps; i += STEP) {
        __m512i w[STEP];
        for (size_t k = 0; k < STEP; k++) w[k] = load_step(kind, panel + (i + k) * step_bytes(kind));
        add_all_tokens(kind, panel + i * step_bytes(kind), w, STEP, x, 4 * i, n_tokens, out);
    }
    for (; i < n_steps; i++) {
        __m512i w = load_step(kind, panel + i * step_bytes(kind));
        add_all_tokens(kind, panel + i * step_bytes(kind), &w, 1, x, 4 * i, n_tokens, out);
    }
}

/* Few tokens: n_panels streams run side by side, the sums stay in registers. */
ALWAYS_INLINE void float_panels(float_kind kind, const mr_tile *tile, size_t n_panels, size_t n_tokens,
                                size_t n_steps) {
    __m512 sum[MR_TILE_PANELS][TOKENS_AT_ONCE];
    const uint8_t *x[TOKENS_AT_ONCE], *panel[MR_TILE_PANELS];
    for (size_t t = 0; t < n_tokens; t++) x[t] = tile->x[t];
    for (size_t p = 0; p < n_panels; p++) {
        panel[p] = tile->panels + p * tile->step;
        for (size_t t = 0; t < n_tokens; t++) sum[p][t] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < n_steps; i++) {
        __m512i v[TOKENS_AT_ONCE];
        for (size_t t = 0; t < n_tokens; t++) v[t] = four(x[t] + 4 * i);
        for (size_t p = 0; p < n_panels; p++) {
            __m512i w = load_step(kind, panel[p] + i * step_bytes(kind));
            for (size_t t = 0; t < n_tokens; t++) sum[p][t] = add_step(kind, sum[p][t], w, v[t]);
        }
    }
    for (size_t p = 0; p < n_panels; p++) {
        for (size_t t = 0; t < n_tokens; t++) _mm512_store_ps(tile->out + (p * n_tokens + t) * 16, sum[p][t]);
    }
}

ALWAYS_INLINE void few_tokens(float_kind kind, const mr_tile *tile, size_t n_panels, size_t n_steps) {
    switch (tile->n_tokens) {
    case 1:
        float_panels(kind, tile, n_panels, 1, n_steps);
        break;
    case 2:
        float_panels(kind, tile, n_panels, 2, n_steps);
        break;
    case 3:
        float_panels(kind, tile, n_panels, 3, n_steps);
        break;
    default:
        float_panels(kind, tile, n_panels, 4, n_steps);
        break;
    }
}

ALWAYS_INLINE void float_tile(float_kind kind, const mr_tile *tile) {
    size_t n_steps = kind == KIND_BF16 ? (tile->n_in + 1) / 2 : tile->n_in;
    if (tile->n_tokens <= TOKENS_AT_ONCE) {
        if (tile->n_panels == MR_TILE_PANELS) {
            few_tokens(kind, tile, MR_TILE_PANELS, n_steps);
            return;
        }
        mr_tile one = *tile;
        for (size_t p = 0; p < tile->n_panels; p++) {
            one.panels = tile->panels + p * tile->step;
            one.out = tile->out + p * tile->n_tokens * 16;
            few_tokens(kind, &one, 1, n_steps);
        }
        return;
    }
    for (size_t p = 0; p < tile->n_panels; p++) {
        float_panel(kind, tile->panels + p * tile->step, n_steps, tile->x, tile->n_tokens,
                    tile->out + p * tile->n_tokens * 16);
    }
}

void mr_tile_f32_avx512(const mr_tile *tile) {
    float_tile(KIND_F32, tile);
}

void mr_tile_f16_avx512(const mr_tile *tile) {
    float_tile(KIND_F16, tile);
}

void mr_tile_bf16_avx512(const mr_tile *tile) {
    float_tile(KIND_BF16, tile);
}
