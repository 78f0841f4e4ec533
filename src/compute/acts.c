#include "compute/matrix_impl.h"

/* Tokens one after the other must not fall on the same cache sets: an odd number of lines keeps them apart. */
size_t mr_acts_stride(mr_acts_kind kind, size_t n_in) {
    size_t n = 0;
    switch (kind) {
    case MR_ACTS_F32:
        n = n_in * 4;
        break;
    case MR_ACTS_BF16:
        n = (n_in + 1) / 2 * 4;
        break;
    case MR_ACTS_Q8_32:
        n = n_in + n_in / 32 * sizeof(mr_q8_32_meta);
        break;
    case MR_ACTS_Q8_256:
        n = n_in / 256 * (sizeof(mr_q8_256) + sizeof(mr_q8_256_meta));
        break;
    }
    return mr_round64(n) | 64;
}

mr_acts mr_acts_view(mr_acts_kind kind, size_t n_in, void *data) {
    return (mr_acts){.kind = kind, .n_in = n_in, .stride = mr_acts_stride(kind, n_in), .data = data};
}

void mr_acts_set(mr_acts *acts, size_t token, const float *x) {
    mr_kernels_active()->acts_row[acts->kind](x, acts->n_in, acts->data + token * acts->stride);
}
