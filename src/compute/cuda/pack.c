/* Packing of weights for the CUDA kernels: rows of a file become tiles of 8 rows (pack.h). */
#include "compute/cuda/pack.h"

#include "compute/blocks.h"
#include "compute/cuda/kernels.h"
#include "compute/matrix_pack.h"

enum { ROWS = MR_CUDA_TILE_ROWS };

static const char *const NAMES[MR_CUDA_N_LAYOUTS] = {
    [MR_CUDA_F32] = "f32",     [MR_CUDA_F16] = "f16",         [MR_CUDA_BF16] = "bf16",
    [MR_CUDA_F8] = "f8",       [MR_CUDA_Q4_0] = "q4_0",       [MR_CUDA_Q4_1] = "q4_1",
    [MR_CUDA_Q5_0] = "q5_0",   [MR_CUDA_Q5_1] = "q5_1",       [MR_CUDA_Q8_0] = "q8_0",
    [MR_CUDA_Q8_M] = "q8_m",   [MR_CUDA_IQ4_NL] = "iq4_nl",   [MR_CUDA_MXFP4] = "mxfp4",
    [MR_CUDA_Q4_K] = "q4_k",   [MR_CUDA_Q5_K] = "q5_k",       [MR_CUDA_Q6_K] = "q6_k",
    [MR_CUDA_Q3_K] = "q3_k",   [MR_CUDA_Q2_K] = "q2_k",       [MR_CUDA_IQ4_XS] = "iq4_xs",
    [MR_CUDA_IQ1] = "iq1",     [MR_CUDA_IQ2] = "iq2",         [MR_CUDA_IQ3_XXS] = "iq3_xxs",
    [MR_CUDA_IQ3_S] = "iq3_s", [MR_CUDA_TERNARY] = "ternary",
};

static const mr_cuda_layout OF_CPU[MR_N_LAYOUTS] = {
    [MR_LAYOUT_F32] = MR_CUDA_F32,         [MR_LAYOUT_F16] = MR_CUDA_F16,     [MR_LAYOUT_BF16] = MR_CUDA_BF16,
    [MR_LAYOUT_Q8_0] = MR_CUDA_Q8_0,       [MR_LAYOUT_Q4_0] = MR_CUDA_Q4_0,   [MR_LAYOUT_Q4_K] = MR_CUDA_Q4_K,
    [MR_LAYOUT_Q5_K] = MR_CUDA_Q5_K,       [MR_LAYOUT_Q6_K] = MR_CUDA_Q6_K,   [MR_LAYOUT_Q4_1] = MR_CUDA_Q4_1,
    [MR_LAYOUT_Q5_0] = MR_CUDA_Q5_0,       [MR_LAYOUT_Q5_1] = MR_CUDA_Q5_1,   [MR_LAYOUT_IQ4_NL] = MR_CUDA_IQ4_NL,
    [MR_LAYOUT_MXFP4] = MR_CUDA_MXFP4,     [MR_LAYOUT_Q2_K] = MR_CUDA_Q2_K,   [MR_LAYOUT_Q3_K] = MR_CUDA_Q3_K,
    [MR_LAYOUT_IQ4_XS] = MR_CUDA_IQ4_XS,   [MR_LAYOUT_IQ1] = MR_CUDA_IQ1,     [MR_LAYOUT_IQ2] = MR_CUDA_IQ2,
    [MR_LAYOUT_IQ3_XXS] = MR_CUDA_IQ3_XXS, [MR_LAYOUT_IQ3_S] = MR_CUDA_IQ3_S, [MR_LAYOUT_TERNARY] = MR_CUDA_TERNARY,
    [MR_LAYOUT_Q8_M] = MR_CUDA_Q8_M,       [MR_LAYOUT_F8] = MR_CUDA_F8,
};

_Static_assert((int)MR_K_ACTS_F32 == (int)MR_ACTS_F32 && (int)MR_K_ACTS_BF16 == (int)MR_ACTS_BF16, "kinds of input");
_Static_assert((int)MR_K_ACTS_Q8_32 == (int)MR_ACTS_Q8_32 && (int)MR_K_ACTS_Q8_256 == (int)MR_ACTS_Q8_256,
               "kinds of input");
_Static_assert(sizeof(mr_cuda_k_head) == 16 && sizeof(mr_cuda_q3_head) == 16 && sizeof(mr_k_q8_meta) == 8,
               "packed sizes");

const char *mr_cuda_layout_name(mr_cuda_layout layout) {
    return NAMES[layout];
}

bool mr_cuda_layout_of(uint32_t dtype, mr_cuda_layout *layout, int *acts_kind, size_t *block) {
    mr_layout cpu;
    mr_acts_kind kind;
    if (!mr_layout_of((mr_dtype)dtype, &cpu, &kind, block)) return false;
    *layout = OF_CPU[cpu];
    *acts_kind = (int)kind;
    return true;
}

/* Where the planes of a tile begin. */
typedef struct tile {
    uint8_t *codes, *pairs, *bits, *scales, *d;
    mr_cuda_planes planes;
} tile;

static tile tile_at(mr_cuda_layout layout, uint8_t *data, size_t n_in) {
    tile t = {.codes = data, .planes = mr_cuda_planes_of(layout)};
    size_t n_chunks = (n_in + t.planes.chunk - 1) / t.planes.chunk;
    size_t n_units = t.planes.unit == 0 ? 0 : (n_in + t.planes.unit - 1) / t.planes.unit;
    t.pairs = t.codes + n_chunks * t.planes.codes;
    t.bits = t.pairs + n_chunks * t.planes.pairs;
    t.scales = t.bits + n_chunks * t.planes.bits;
    t.d = t.scales + n_units * t.planes.scales;
    return t;
}

/* ---- planes of a group of 32 values of a row, from their stored integers
 * --------------------------------------------- */

static void put_nibbles(const tile *t, size_t group, size_t r, const uint8_t q[32]) {
    uint8_t *out = t->codes + group * t->planes.codes + 16 * r;
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void put_pairs(const tile *t, size_t group, size_t r, const uint8_t q[32], int shift) {
    uint8_t *out = t->pairs + group * t->planes.pairs + 8 * r;
    for (int half = 0; half < 2; half++) {
        uint32_t v = 0;
        for (int i = 0; i < 4; i++) v |= (mr_load32(q + 16 * half + 4 * i) >> shift & 0x03030303u) << 2 * i;
        mr_store32(out + 4 * half, v);
    }
}

static void put_bits(const tile *t, size_t group, size_t r, const uint8_t q[32], int shift) {
    uint32_t v = 0;
    for (int i = 0; i < 8; i++) v |= (mr_load32(q + 4 * i) >> shift & 0x01010101u) << i;
    mr_store32(t->bits + group * t->planes.bits + 4 * r, v);
}

/* From q + 128 to int8. */
static void put_bytes(const tile *t, size_t group, size_t r, const uint8_t q[32]) {
    for (size_t half = 0; half < 2; half++) {
        uint8_t *out = t->codes + group * t->planes.codes + 128 * half + 16 * r;
        for (size_t i = 0; i < 16; i++) out[i] = q[16 * half + i] ^ 0x80;
    }
}

static void put_half(uint8_t *plane, size_t at, uint16_t half) {
    memcpy(plane + 2 * at, &half, 2);
}

/* ---- blocks of 32
 * ------------------------------------------------------------------------------------------------------ */

static void pack_q32(mr_dtype type, mr_cuda_layout layout, const tile *t, const uint8_t *row, size_t r, size_t n_in) {
    mr_rows32 block;
    bool has_min = t->planes.scales == 32;
    for (size_t b = 0; b < n_in / 32; b++) {
        mr_split_q32(type, row, b, 0, &block);
        const uint8_t *q = block.q[0];
        if (layout == MR_CUDA_Q8_0 || layout == MR_CUDA_Q8_M)
            put_bytes(t, b, r, q);
        else
            put_nibbles(t, b, r, q);
        if (t->planes.bits > 0) put_bits(t, b, r, q, 4);
        size_t at = b * ROWS + r;
        put_half(t->scales, has_min ? 2 * at : at, block.d[0]);
        if (has_min) put_half(t->scales, 2 * at + 1, block.m[0]);
    }
}

/* ---- super-blocks
 * -------------------------------------------------------------------------------------------------------- */

/* The place of the scale of group g of 32 in an mr_rows256. */
static size_t group_at(size_t g) {
    return (g & 4) + mr_group_byte(g % 4);
}

static void put_k_head(uint8_t *out, const mr_rows256 *block) {
    mr_cuda_k_head head = {.d = block->d[0], .dmin = block->dmin[0]};
    for (size_t g = 0; g < 8; g++) {
        uint32_t sc = block->scale[0][group_at(g)], mn = block->min[0][group_at(g)];
        head.sc_low |= (sc & 15) << 4 * g;
        head.mn_low |= (mn & 15) << 4 * g;
        head.high |= (sc >> 4) << 2 * g | (mn >> 4) << (16 + 2 * g);
    }
    memcpy(out, &head, sizeof head);
}

static void put_q3_head(uint8_t *out, const mr_rows256 *block) {
    mr_cuda_q3_head head = {.d = block->d[0]};
    for (size_t g = 0; g < 16; g++) {
        uint32_t sc = block->scale[0][g];
        head.low[g / 2] |= (uint8_t)((sc & 15) << 4 * (g % 2));
        head.high |= (sc >> 4) << 2 * g;
    }
    memcpy(out, &head, sizeof head);
}

static void put_iq4_xs_head(uint8_t *out, const mr_rows256 *block) {
    uint32_t low = 0, high = 0;
    for (size_t g = 0; g < 8; g++) {
        uint32_t sc = (uint32_t)((int8_t)block->scale[0][group_at(g)] + 32);
        low |= (sc & 15) << 4 * g;
        high |= (sc >> 4) << 2 * g;
    }
    mr_store32(out, block->d[0] | high << 16);
    mr_store32(out + 4, low);
}

static void put_k_scales(mr_cuda_layout layout, const tile *t, size_t b, size_t r, const mr_rows256 *block) {
    uint8_t *scales = t->scales + b * t->planes.scales + t->planes.scales / ROWS * r;
    switch (layout) {
    case MR_CUDA_Q4_K:
    case MR_CUDA_Q5_K:
        put_k_head(scales, block);
        break;
    case MR_CUDA_Q3_K:
        put_q3_head(scales, block);
        break;
    case MR_CUDA_IQ4_XS:
        put_iq4_xs_head(scales, block);
        break;
    case MR_CUDA_TERNARY:
        put_half(scales, 0, block->d[0]);
        break;
    case MR_CUDA_Q2_K:
        memcpy(scales, block->scale[0], 16);
        put_half(t->d, 2 * (b * ROWS + r), block->d[0]);
        put_half(t->d, 2 * (b * ROWS + r) + 1, block->dmin[0]);
        break;
    default: /* Q6_K */
        memcpy(scales, block->scale[0], 16);
        put_half(t->d, b * ROWS + r, block->d[0]);
        break;
    }
}

static void pack_k(mr_dtype type, mr_cuda_layout layout, const tile *t, const uint8_t *row, size_t r, size_t n_in) {
    mr_rows256 block;
    for (size_t b = 0; b < n_in / 256; b++) {
        mr_split_k(type, row, b, 0, &block);
        for (size_t g = 0; g < 8; g++) {
            const uint8_t *q = block.q[0] + 32 * g;
            if (t->planes.codes > 0) put_nibbles(t, 8 * b + g, r, q);
            if (t->planes.pairs > 0) put_pairs(t, 8 * b + g, r, q, layout == MR_CUDA_Q6_K ? 4 : 0);
            if (t->planes.bits > 0) put_bits(t, 8 * b + g, r, q, layout == MR_CUDA_Q3_K ? 2 : 4);
        }
        put_k_scales(layout, t, b, r, &block);
    }
}

static void pack_codebook(mr_dtype type, mr_layout cpu, const tile *t, const uint8_t *row, size_t r, size_t n_in) {
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    mr_codebook_rows block;
    uint8_t index_of[128];
    mr_codebook_indices(cpu, index_of);
    for (size_t b = 0; b < n_in / 256; b++) {
        mr_split_codebook(type, info, index_of, row + b * info->block_bytes, 0, &block);
        for (size_t g = 0; g < 8; g++) put_nibbles(t, 8 * b + g, r, block.q[0] + 32 * g);
        memcpy(t->scales + b * t->planes.scales + 16 * r, block.scale[0], 16);
        memcpy(t->d + 4 * (b * ROWS + r), &block.d[0], 4);
    }
}

/* ---- floats
 * ---------------------------------------------------------------------------------------------------------------- */

/* value_bytes each, 16 bytes of consecutive values in each quarter of a chunk; what n_in leaves of the last one is
 * zero. */
static void pack_values(const tile *t, const uint8_t *row, size_t r, size_t n_in, size_t value_bytes) {
    size_t n_bytes = n_in * value_bytes;
    for (size_t at = 0; at < n_bytes; at += 16)
        memcpy(t->codes + at / 64 * 512 + at % 64 / 16 * 128 + 16 * r, row + at, n_bytes - at < 16 ? n_bytes - at : 16);
}

static void pack_bf16(const tile *t, const uint8_t *row, size_t r, size_t n_in) {
    for (size_t k = 0; k < n_in; k++) {
        uint16_t v;
        memcpy(&v, row + 2 * k, 2);
        if ((v & 0x7F80) == 0) v &= 0x8000; /* as the CPU packs it */
        memcpy(t->codes + k / 32 * 512 + k % 32 / 8 * 128 + 16 * r + k % 8 * 2, &v, 2);
    }
}

static void pack_f8(const tile *t, const uint8_t *row, size_t r, size_t n_in) {
    for (size_t b = 0; b < n_in / 64; b++) {
        const mr_block_f8_e4m3 *block = (const mr_block_f8_e4m3 *)row + b;
        for (size_t quarter = 0; quarter < 4; quarter++)
            memcpy(t->codes + b * 512 + quarter * 128 + 16 * r, block->qs + 16 * quarter, 16);
        memcpy(t->scales + 4 * (b * ROWS + r), &block->d, 4);
    }
}

void mr_cuda_pack(uint32_t dtype, void *tiles, const void *rows, size_t row_bytes, size_t n_rows, size_t n_in) {
    mr_dtype type = (mr_dtype)dtype;
    mr_layout cpu;
    mr_acts_kind kind;
    size_t block;
    if (!mr_layout_of(type, &cpu, &kind, &block)) return;
    mr_cuda_layout layout = OF_CPU[cpu];
    size_t tile_bytes = mr_cuda_tile_bytes(layout, n_in);
    memset(tiles, 0, mr_cuda_packed_bytes(layout, n_rows, n_in));
    for (size_t i = 0; i < n_rows; i++) {
        tile t = tile_at(layout, (uint8_t *)tiles + i / ROWS * tile_bytes, n_in);
        const uint8_t *row = (const uint8_t *)rows + i * row_bytes;
        size_t r = i % ROWS;
        switch (layout) {
        case MR_CUDA_F32:
            pack_values(&t, row, r, n_in, 4);
            break;
        case MR_CUDA_F16:
            pack_values(&t, row, r, n_in, 2);
            break;
        case MR_CUDA_BF16:
            pack_bf16(&t, row, r, n_in);
            break;
        case MR_CUDA_F8:
            pack_f8(&t, row, r, n_in);
            break;
        case MR_CUDA_IQ1:
        case MR_CUDA_IQ2:
        case MR_CUDA_IQ3_XXS:
        case MR_CUDA_IQ3_S:
            pack_codebook(type, cpu, &t, row, r, n_in);
            break;
        default:
            if (layout >= MR_CUDA_Q4_K)
                pack_k(type, layout, &t, row, r, n_in);
            else
                pack_q32(type, layout, &t, row, r, n_in);
        }
    }
}
