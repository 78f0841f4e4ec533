#include "model/arch.h"

#include <math.h>

/* The pair whose wavelength makes n_rotations turns over the original context. */
static double yarn_pair_of(const mr_hparams *h, double base, double n_rotations) {
    const double two_pi = 6.283185307179586;
    return h->n_rot * log(h->rope_n_ctx_orig / (n_rotations * two_pi)) / (2.0 * log(base));
}

float mr_rope_frequencies(const mr_hparams *h, uint32_t n_rot, float base, bool scaled, const float *freq_factors,
                          float *inv_freq) {
    size_t n_pairs = n_rot / 2;
    double low = 0.0, high = 0.0;
    bool yarn = scaled && h->rope_scaling == MR_ROPE_SCALING_YARN;
    if (yarn) {
        bool whole = !h->arch->yarn_whole_pairs_off;
        low = yarn_pair_of(h, base, h->yarn_beta_fast);
        high = yarn_pair_of(h, base, h->yarn_beta_slow);
        low = fmax(whole ? floor(low) : low, 0.0);
        high = fmin(whole ? ceil(high) : high, h->n_rot - 1.0);
        if (low == high) high += 0.001;
    }
    for (size_t i = 0; i < n_pairs; i++) {
        /* Rounded to float step by step, as the reference implementation computes it. */
        float freq = 1.0f / (float)pow(base, (double)((float)(2 * i) / (float)n_rot));
        if (freq_factors != NULL) freq /= freq_factors[i];
        if (scaled && h->rope_scaling == MR_ROPE_SCALING_LINEAR) freq /= h->rope_factor;
        if (yarn) {
            double ramp = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
            double keep = (1.0 - ramp) * h->yarn_ext_factor; /* share of the unscaled frequency */
            freq = (float)((double)(freq / h->rope_factor) * (1.0 - keep) + (double)freq * keep);
        }
        inv_freq[i] = freq;
    }
    return scaled ? h->rope_attn_factor : 1.0f;
}

void mr_rope_angles(const float *inv_freq, size_t n_pairs, float factor, uint32_t pos, float *cosines, float *sines) {
    for (size_t i = 0; i < n_pairs; i++) {
        float angle = (float)pos * inv_freq[i];
        cosines[i] = (float)cos((double)angle) * factor;
        sines[i] = (float)sin((double)angle) * factor;
    }
}
