// The packed quantized layouts (pack.h) as the products read them: four int8 weights in a word, and a group's scales.
#pragma once

#include "compute/cuda/device.cuh"

// What a layout's weights are made of. Bytes of planes as in mr_cuda_planes_of.
template <int layout> struct format;

// sub: values that share a scale (32, or 16); offset: what is subtracted from a code; levels: number of them, 0 = codes are
// numbers; has_min: something is subtracted, too.
#define MR_FORMAT(layout, codes_, pairs_, bits_, scales_, d_, unit_, sub_, offset_, levels_, has_min_)                 \
    template <> struct format<layout> {                                                                                \
        static constexpr uint32_t codes = codes_, pairs = pairs_, bits = bits_, scales = scales_, d = d_, unit = unit_; \
        static constexpr int sub = sub_, offset = offset_, levels = levels_;                                           \
        static constexpr bool has_min = has_min_;                                                                      \
    }
MR_FORMAT(MR_CUDA_Q4_0, 128, 0, 0, 16, 0, 32, 32, 8, 0, false);
MR_FORMAT(MR_CUDA_Q4_1, 128, 0, 0, 32, 0, 32, 32, 0, 0, true);
MR_FORMAT(MR_CUDA_Q5_0, 128, 0, 32, 16, 0, 32, 32, 16, 0, false);
MR_FORMAT(MR_CUDA_Q5_1, 128, 0, 32, 32, 0, 32, 32, 0, 0, true);
MR_FORMAT(MR_CUDA_Q8_0, 256, 0, 0, 16, 0, 32, 32, 0, 0, false);
MR_FORMAT(MR_CUDA_Q8_M, 256, 0, 0, 32, 0, 32, 32, 0, 0, true);
MR_FORMAT(MR_CUDA_IQ4_NL, 128, 0, 0, 16, 0, 32, 32, 0, 16, false);
MR_FORMAT(MR_CUDA_MXFP4, 128, 0, 0, 16, 0, 32, 32, 0, 16, false);
MR_FORMAT(MR_CUDA_Q4_K, 128, 0, 0, 128, 0, 256, 32, 0, 0, true);
MR_FORMAT(MR_CUDA_Q5_K, 128, 0, 32, 128, 0, 256, 32, 0, 0, true);
MR_FORMAT(MR_CUDA_Q6_K, 128, 64, 0, 128, 16, 256, 16, 32, 0, false);
MR_FORMAT(MR_CUDA_Q3_K, 0, 64, 32, 128, 0, 256, 16, 4, 0, false);
MR_FORMAT(MR_CUDA_Q2_K, 0, 64, 0, 128, 32, 256, 16, 0, 0, true);
MR_FORMAT(MR_CUDA_IQ4_XS, 128, 0, 0, 64, 0, 256, 32, 0, 16, false);
MR_FORMAT(MR_CUDA_IQ1, 128, 0, 0, 128, 32, 256, 16, 0, 6, false);
MR_FORMAT(MR_CUDA_IQ2, 128, 0, 0, 128, 32, 256, 16, 0, 6, false);
MR_FORMAT(MR_CUDA_IQ3_XXS, 128, 0, 0, 128, 32, 256, 16, 0, 16, false);
MR_FORMAT(MR_CUDA_IQ3_S, 128, 0, 0, 128, 32, 256, 16, 0, 16, false);
MR_FORMAT(MR_CUDA_TERNARY, 0, 64, 0, 16, 0, 256, 32, 1, 0, false);
#undef MR_FORMAT

// Planes of one tile.
struct tile_planes {
    const uint8_t *codes, *pairs, *bits, *scales, *d;
};

template <int layout> MR_DEVICE uint32_t tile_bytes(uint32_t n_in) {
    using f = format<layout>;
    return n_in / 32 * (f::codes + f::pairs + f::bits) + n_in / f::unit * (f::scales + f::d);
}

template <int layout> MR_DEVICE tile_planes planes_of(const uint8_t *tile, uint32_t n_in) {
    using f = format<layout>;
    tile_planes p;
    p.codes = tile;
    p.pairs = p.codes + n_in / 32 * f::codes;
    p.bits = p.pairs + n_in / 32 * f::pairs;
    p.scales = p.bits + n_in / 32 * f::bits;
    p.d = p.scales + n_in / f::unit * f::scales;
    return p;
}

// ---- codes -------------------------------------------------------------------------------------------------------------

// The levels of nibbles 0-3 of v (in the low 16 bits) as bytes, from a table of 16 in four words.
template <int n_levels>
MR_DEVICE uint32_t four_levels(uint32_t v, uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3) {
    uint32_t low = pick_bytes(t0, t1, v & 0x7777);
    if (n_levels <= 8) return low;
    return pick_bytes(low, pick_bytes(t2, t3, v & 0x7777), 0x3210 | (v & 0x8888) >> 1);
}

// The 16 levels of a layout, four in a word.
template <int layout> MR_DEVICE void levels_of(uint32_t t[4]) {
    if (layout == MR_CUDA_IQ4_NL || layout == MR_CUDA_IQ4_XS) // -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
        t[0] = 0xBFAD9881u, t[1] = 0xF6EADDCFu, t[2] = 0x26190D01u, t[3] = 0x71594535u;
    else if (layout == MR_CUDA_MXFP4) // 0 1 2 3 4 6 8 12 and their negatives
        t[0] = 0x03020100u, t[1] = 0x0C080604u, t[2] = 0xFDFEFF00u, t[3] = 0xF4F8FAFCu;
    else if (layout == MR_CUDA_IQ1) // -9 -7 -1 1 7 9
        t[0] = 0x01FFF9F7u, t[1] = 0x00000907u, t[2] = t[3] = 0;
    else if (layout == MR_CUDA_IQ2) // -43 -25 -8 8 25 43
        t[0] = 0x08F8E7D5u, t[1] = 0x00002B19u, t[2] = t[3] = 0;
    else if (layout == MR_CUDA_IQ3_XXS) // -62 -52 -44 -36 -28 -20 -12 -4 4 12 20 28 36 44 52 62
        t[0] = 0xDCD4CCC2u, t[1] = 0xFCF4ECE4u, t[2] = 0x1C140C04u, t[3] = 0x3E342C24u;
    else // -15 -13 .. 13 15
        t[0] = 0xF7F5F3F1u, t[1] = 0xFFFDFBF9u, t[2] = 0x07050301u, t[3] = 0x0F0D0B09u;
}

// Bytes less `offset` (1 .. 127), for bytes below 128.
template <int offset> MR_DEVICE uint32_t less(uint32_t v) {
    return (v + (uint32_t)(0x80 - offset) * 0x01010101u) ^ 0x80808080u;
}

// Words i (values 4i .. 4i + 3) and i + 4 (values 4i + 16 ..) of a group, i 0 .. 3, from word i of its codes (and of the
// second half of the codes, where they are bytes), its pairs and its bits. Signed where the layout has an offset or levels.
template <int layout>
MR_DEVICE void words_of(uint32_t code, uint32_t code_high, uint2 pairs, uint32_t bits, int i, uint32_t &low,
                        uint32_t &high) {
    using f = format<layout>;
    if (f::codes == 256) {
        low = code, high = code_high;
        return;
    }
    if (f::levels > 0) {
        uint32_t t[4];
        levels_of<layout>(t);
        uint32_t v0 = four_levels<f::levels>(code & 0xFFFF, t[0], t[1], t[2], t[3]);
        uint32_t v1 = four_levels<f::levels>(code >> 16, t[0], t[1], t[2], t[3]);
        low = pick_bytes(v0, v1, 0x6420), high = pick_bytes(v0, v1, 0x7531);
        return;
    }
    if (f::codes == 128) {
        low = code & 0x0F0F0F0Fu, high = code >> 4 & 0x0F0F0F0Fu;
        if (f::bits > 0) {
            low |= (bits >> i & 0x01010101u) << 4;
            high |= (bits >> (i + 4) & 0x01010101u) << 4;
        }
        if (f::pairs > 0) {
            low |= (pairs.x >> 2 * i & 0x03030303u) << 4;
            high |= (pairs.y >> 2 * i & 0x03030303u) << 4;
        }
    } else {
        low = pairs.x >> 2 * i & 0x03030303u, high = pairs.y >> 2 * i & 0x03030303u;
        if (f::bits > 0) {
            low |= (bits >> i & 0x01010101u) << 2;
            high |= (bits >> (i + 4) & 0x01010101u) << 2;
        }
    }
    if (f::offset > 0) low = less<f::offset>(low), high = less<f::offset>(high);
}

// A group of one row, as it is stored.
template <int layout> struct group_codes {
    uint4 codes, codes_high;
    uint2 pairs;
    uint32_t bits;
};

template <int layout>
MR_DEVICE group_codes<layout> load_group(const tile_planes &p, uint32_t group, uint32_t row) {
    using f = format<layout>;
    group_codes<layout> g;
    if (f::codes > 0) g.codes = load_once16(p.codes + (size_t)group * f::codes + 16 * row);
    if (f::codes == 256) g.codes_high = load_once16(p.codes + (size_t)group * f::codes + 128 + 16 * row);
    if (f::pairs > 0) g.pairs = load_once8(p.pairs + (size_t)group * f::pairs + 8 * row);
    if (f::bits > 0) g.bits = load_once4(p.bits + (size_t)group * f::bits + 4 * row);
    return g;
}

MR_DEVICE uint32_t word(const uint4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// All eight words of a group.
template <int layout> MR_DEVICE void unpack_group(const group_codes<layout> &g, uint32_t w[8]) {
    MR_UNROLL
    for (int i = 0; i < 4; i++) words_of<layout>(word(g.codes, i), word(g.codes_high, i), g.pairs, g.bits, i, w[i], w[i + 4]);
}

// ---- scales ------------------------------------------------------------------------------------------------------------

// x = d * s * code - dmin * m, s and m of the first and the second 16 values (the same where sub is 32). Without small
// integers (unit 32): s = 1, and x = d * code + dmin * 1, so dmin there is what is added.
struct group_scale {
    float d, dmin;
    int s[2], m[2];
};

// Whether scales are small integers beside a float.
template <int layout> constexpr bool has_small = format<layout>::unit == 256 && layout != MR_CUDA_TERNARY;

template <int layout>
MR_DEVICE group_scale load_scale(const tile_planes &p, uint32_t group, uint32_t row) {
    using f = format<layout>;
    uint32_t unit = f::unit == 256 ? group / 8 : group, g = group % 8;
    const uint8_t *at = p.scales + (size_t)unit * f::scales + f::scales / 8 * row;
    group_scale r = {0.0f, 0.0f, {1, 1}, {1, 1}};
    if (layout == MR_CUDA_MXFP4) {
        r.d = bf16_to_float(load<uint16_t>(at));
    } else if (layout == MR_CUDA_Q4_K || layout == MR_CUDA_Q5_K) {
        uint4 head = load<uint4>(at);
        r.d = half_to_float((uint16_t)(head.x & 0xFFFF)), r.dmin = half_to_float((uint16_t)(head.x >> 16));
        r.s[0] = r.s[1] = (int)((head.y >> 4 * g & 15) | (head.w >> 2 * g & 3) << 4);
        r.m[0] = r.m[1] = (int)((head.z >> 4 * g & 15) | (head.w >> (16 + 2 * g) & 3) << 4);
    } else if (layout == MR_CUDA_Q3_K) {
        uint4 head = load<uint4>(at);
        uint32_t low = (g < 4 ? head.x : head.y) >> 8 * (g % 4), high = head.z >> 4 * g;
        r.d = half_to_float((uint16_t)(head.w & 0xFFFF));
        r.s[0] = (int)((low & 15) | (high & 3) << 4) - 32;
        r.s[1] = (int)((low >> 4 & 15) | (high >> 2 & 3) << 4) - 32;
    } else if (layout == MR_CUDA_IQ4_XS) {
        uint2 head = load<uint2>(at);
        r.d = half_to_float((uint16_t)(head.x & 0xFFFF));
        r.s[0] = r.s[1] = (int)((head.y >> 4 * g & 15) | (head.x >> (16 + 2 * g) & 3) << 4) - 32;
    } else if (layout == MR_CUDA_Q2_K) {
        uint16_t both = load<uint16_t>(at + 2 * g);
        uint32_t d = load<uint32_t>(p.d + (size_t)unit * f::d + 4 * row);
        r.d = half_to_float((uint16_t)(d & 0xFFFF)), r.dmin = half_to_float((uint16_t)(d >> 16));
        r.s[0] = both & 15, r.m[0] = both >> 4 & 15;
        r.s[1] = both >> 8 & 15, r.m[1] = both >> 12;
    } else if (f::unit == 256 && f::d > 0) { // Q6_K and codebooks
        uint16_t both = load<uint16_t>(at + 2 * g);
        r.s[0] = (int8_t)(both & 255), r.s[1] = (int8_t)(both >> 8);
        r.d = f::d == 16 ? half_to_float(load<uint16_t>(p.d + (size_t)unit * f::d + 2 * row))
                         : load<float>(p.d + (size_t)unit * f::d + 4 * row);
    } else if (f::scales == 32) {
        uint32_t both = load<uint32_t>(at);
        r.d = half_to_float((uint16_t)(both & 0xFFFF)), r.dmin = half_to_float((uint16_t)(both >> 16));
    } else {
        r.d = half_to_float(load<uint16_t>(at));
    }
    return r;
}

// ---- int8 activations ----------------------------------------------------------------------------------------------------

// A group of a row (kernels.h: words in the order 0 4 1 5 2 6 3 7) and what belongs to it.
struct group_acts {
    uint4 q0, q1;
    float d;
    int sum0, sum1;
};

MR_DEVICE group_acts load_acts(const uint8_t *row, uint32_t n_in, uint32_t group) {
    group_acts a;
    a.q0 = load<uint4>(row + (size_t)32 * group);
    a.q1 = load<uint4>(row + (size_t)32 * group + 16);
    uint2 meta = load<uint2>(row + n_in + (size_t)8 * group);
    a.d = bits_float(meta.x);
    a.sum0 = (int16_t)(meta.y & 0xFFFF), a.sum1 = (int16_t)(meta.y >> 16);
    return a;
}

// The product of a group of weights and one of activations, but for the activations' scale.
template <int layout> MR_DEVICE float group_product(const uint32_t w[8], const group_scale &s, const group_acts &x) {
    using f = format<layout>;
    int low = dot4(w[3], x.q1.z, dot4(w[2], x.q1.x, dot4(w[1], x.q0.z, dot4(w[0], x.q0.x, 0))));
    int high = f::sub == 16 ? 0 : low;
    high = dot4(w[7], x.q1.w, dot4(w[6], x.q1.y, dot4(w[5], x.q0.w, dot4(w[4], x.q0.y, high))));
    if (f::sub == 32) {
        float sum = (float)(has_small<layout> ? s.s[0] * high : high);
        if (!f::has_min) return s.d * sum;
        int sum_x = x.sum0 + x.sum1;
        if (f::unit == 32) return fmaf(s.d, sum, s.dmin * (float)sum_x);
        return fmaf(s.d, sum, -(s.dmin * (float)(s.m[0] * sum_x)));
    }
    float sum = (float)(s.s[0] * low + s.s[1] * high);
    if (!f::has_min) return s.d * sum;
    return fmaf(s.d, sum, -(s.dmin * (float)(s.m[0] * x.sum0 + s.m[1] * x.sum1)));
}
