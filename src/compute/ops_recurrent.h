/* The operations of recurrent layers, for ops_impl.h. States have the values of a head in the lanes, so that nothing is
 * summed across lanes; sums go over the other dimension in order. A head whose size is no multiple of the lanes ends in
 * a part that is done through a padded copy. */

static void conv1d(const float *const *rows, size_t width, const float *weight, size_t weight_step, const float *bias,
                   size_t n, float *out) {
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = n - i;
        bool whole = left >= LANES;
        vf16 sum = bias == NULL ? vf_set1(0.0f) : whole ? vf_load(bias + i) : load_tail(bias + i, left, 0.0f);
        for (size_t j = 0; j < width; j++) {
            const float *w = weight + j * weight_step + i, *x = rows[j] + i;
            sum = whole ? vf_fma(vf_load(w), vf_load(x), sum)
                        : vf_fma(load_tail(w, left, 0.0f), load_tail(x, left, 0.0f), sum);
        }
        if (whole)
            vf_store(out + i, sum);
        else
            store_tail(out + i, sum, left);
    }
}

static vf16 load_part(const float *x, size_t left) {
    return left >= LANES ? vf_load(x) : load_tail(x, left, 0.0f);
}

static void store_part(float *x, vf16 v, size_t left) {
    if (left >= LANES)
        vf_store(x, v);
    else
        store_tail(x, v, left);
}

static void ssd_step(const float *from, float *to, float decay, const float *x, const float *b, const float *c,
                     size_t n_state, size_t dim, float *y) {
    vf16 kept = vf_set1(decay);
    for (size_t i = 0; i < dim; i += LANES) {
        size_t left = dim - i;
        vf16 input = load_part(x + i, left), sum = vf_set1(0.0f);
        for (size_t s = 0; s < n_state; s++) {
            vf16 h = vf_mul(kept, load_part(from + s * dim + i, left));
            h = vf_fma(input, vf_set1(b[s]), h);
            store_part(to + s * dim + i, h, left);
            sum = vf_fma(h, vf_set1(c[s]), sum);
        }
        store_part(y + i, sum, left);
    }
}

static void delta_step(const float *from, float *to, float decay, float beta, const float *q, const float *k,
                       const float *v, size_t n_key, size_t dim, float *y) {
    vf16 kept = vf_set1(decay);
    for (size_t i = 0; i < dim; i += LANES) {
        size_t left = dim - i;
        vf16 known = vf_set1(0.0f), sum = vf_set1(0.0f);
        for (size_t j = 0; j < n_key; j++)
            known = vf_fma(vf_mul(kept, load_part(from + j * dim + i, left)), vf_set1(k[j]), known);
        vf16 change = vf_mul(vf_sub(load_part(v + i, left), known), vf_set1(beta));
        for (size_t j = 0; j < n_key; j++) {
            vf16 s = vf_mul(kept, load_part(from + j * dim + i, left));
            s = vf_fma(change, vf_set1(k[j]), s);
            store_part(to + j * dim + i, s, left);
            sum = vf_fma(s, vf_set1(q[j]), sum);
        }
        store_part(y + i, sum, left);
    }
}
