/* Packing of the types with super-blocks of 256 values. */
#include "compute/blocks.h"
#include "compute/matrix_pack.h"

#include <math.h>
#include <stddef.h>

typedef struct format256 {
    mr_dtype type;
    size_t src_bytes, out_bytes; /* of a super-block of one row, of 16 rows */
    bool in_pairs;
    uint8_t zero; /* the stored integer of weight 0 */
    void (*split)(const uint8_t *src, int r, mr_rows256 *out);
    void (*put)(const mr_rows256 *rows, uint8_t *out); /* behind split */
    /* In place of both: a super-block of 16 rows, row_bytes apart, without the bytes between; d of each row goes to d,
     * and to out where blocks come one by one. NULL: there is only the long way. */
    void (*put_rows)(const uint8_t *src, size_t row_bytes, uint16_t d[16], uint8_t *out);
} format256;

/* -- From blocks to bytes. */

/* 256 values of 4 bits, in runs of 32 in low and high nibbles. */
static inline void split_nibble_runs(const uint8_t qs[128], uint8_t q[256]) {
    for (int run = 0; run < 4; run++) {
        for (int i = 0; i < 32; i++) {
            q[64 * run + i] = qs[32 * run + i] & 15;
            q[64 * run + 32 + i] = qs[32 * run + i] >> 4;
        }
    }
}

/* 256 values of 2 bits: in each half of 128 four runs of 32. */
static inline void split_pair_runs(const uint8_t qs[64], uint8_t q[256]) {
    for (int half = 0; half < 2; half++) {
        for (int run = 0; run < 4; run++) {
            for (int i = 0; i < 32; i++) q[128 * half + 32 * run + i] = qs[32 * half + i] >> 2 * run & 3;
        }
    }
}

static void split_scale_min(const uint8_t scales[12], int r, mr_rows256 *out) {
    for (int g = 0; g < 8; g++) {
        size_t at = (size_t)(g & 4) + mr_group_byte((size_t)g % 4);
        mr_k_scale_min(scales, g, &out->scale[r][at], &out->min[r][at]);
    }
}

static void split_q4_k(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_q4_k *block = (const mr_block_q4_k *)src;
    out->d[r] = block->d;
    out->dmin[r] = block->dmin;
    split_scale_min(block->scales, r, out);
    split_nibble_runs(block->qs, out->q[r]);
}

static void split_q5_k(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_q5_k *block = (const mr_block_q5_k *)src;
    out->d[r] = block->d;
    out->dmin[r] = block->dmin;
    split_scale_min(block->scales, r, out);
    split_nibble_runs(block->qs, out->q[r]);
    for (int run = 0; run < 8; run++) {
        for (int i = 0; i < 32; i++) out->q[r][32 * run + i] |= (uint8_t)((block->qh[i] >> run & 1) << 4);
    }
}

static void split_q6_k(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_q6_k *block = (const mr_block_q6_k *)src;
    out->d[r] = block->d;
    memcpy(out->scale[r], block->scales, 16);
    for (int half = 0; half < 2; half++) {
        const uint8_t *ql = block->ql + 64 * half, *qh = block->qh + 32 * half;
        uint8_t *q = out->q[r] + 128 * half;
        for (int i = 0; i < 32; i++) {
            q[i] = (uint8_t)((ql[i] & 15) | (qh[i] & 3) << 4);
            q[32 + i] = (uint8_t)((ql[32 + i] & 15) | (qh[i] >> 2 & 3) << 4);
            q[64 + i] = (uint8_t)((ql[i] >> 4) | (qh[i] >> 4 & 3) << 4);
            q[96 + i] = (uint8_t)((ql[32 + i] >> 4) | (qh[i] >> 6) << 4);
        }
    }
}

static void split_q3_k(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_q3_k *block = (const mr_block_q3_k *)src;
    out->d[r] = block->d;
    for (int g = 0; g < 16; g++) out->scale[r][g] = (uint8_t)(mr_q3_k_scale(block->scales, g) + 32);
    split_pair_runs(block->qs, out->q[r]);
    for (int run = 0; run < 8; run++) {
        for (int i = 0; i < 32; i++) out->q[r][32 * run + i] |= (uint8_t)((block->hmask[i] >> run & 1) << 2);
    }
}

static void split_q2_k(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_q2_k *block = (const mr_block_q2_k *)src;
    out->d[r] = block->d;
    out->dmin[r] = block->dmin;
    memcpy(out->scale[r], block->scales, 16);
    split_pair_runs(block->qs, out->q[r]);
}

static void split_iq4_xs(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_iq4_xs *block = (const mr_block_iq4_xs *)src;
    out->d[r] = block->d;
    for (int g = 0; g < 8; g++) {
        int low = block->scales_l[g / 2] >> 4 * (g % 2) & 15, high = block->scales_h >> 2 * g & 3;
        out->scale[r][(size_t)(g & 4) + mr_group_byte((size_t)g % 4)] = (uint8_t)((low | high << 4) - 32);
        for (int i = 0; i < 16; i++) {
            out->q[r][32 * g + i] = block->qs[16 * g + i] & 15;
            out->q[r][32 * g + 16 + i] = block->qs[16 * g + i] >> 4;
        }
    }
}

static void split_tq2_0(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_tq2_0 *block = (const mr_block_tq2_0 *)src;
    out->d[r] = block->d;
    split_pair_runs(block->qs, out->q[r]);
}

/* n_bytes bytes of n_digits base-3 digits; digit k of byte i is value n_bytes * k + i. */
static uint8_t *split_digits(const uint8_t *bytes, int n_bytes, int n_digits, uint8_t *q) {
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (int k = 0; k < n_digits; k++) {
        for (int i = 0; i < n_bytes; i++) *q++ = (uint8_t)((uint8_t)(bytes[i] * powers[k]) * 3 >> 8);
    }
    return q;
}

static void split_tq1_0(const uint8_t *src, int r, mr_rows256 *out) {
    const mr_block_tq1_0 *block = (const mr_block_tq1_0 *)src;
    out->d[r] = block->d;
    uint8_t *q = split_digits(block->qs, 32, 5, out->q[r]);
    q = split_digits(block->qs + 32, 16, 5, q);
    split_digits(block->qh, 4, 4, q);
}

/* -- From bytes to panels. */

/* The numbers 4i .. 4i + 3 of each row, which has 16, as a vector. */
static inline void put_vector(uint8_t *out, const uint8_t *numbers, int i) {
    for (size_t r = 0; r < 16; r++) mr_store32(out + 4 * r, mr_load32(numbers + 16 * r + 4 * i));
}

/* 16 numbers of 6 bits for each row as three vectors. */
static void put_six_bits(uint8_t *out, const uint32_t first[16], const uint32_t second[16], const uint32_t third[16],
                         const uint32_t fourth[16]) {
    for (size_t r = 0; r < 16; r++) {
        mr_store32(out + 4 * r, first[r] | (fourth[r] & 0x03030303u) << 6);
        mr_store32(out + 64 + 4 * r, second[r] | (fourth[r] & 0x0C0C0C0Cu) << 4);
        mr_store32(out + 128 + 4 * r, third[r] | (fourth[r] & 0x30303030u) << 2);
    }
}

static void take_vector(const uint8_t *numbers, int i, uint32_t out[16]) {
    put_vector((uint8_t *)out, numbers, i);
}

/* d, dmin, and scales and minima of 6 bits. */
static void put_k_head(const mr_rows256 *rows, uint8_t *out) {
    uint32_t v[4][16];
    memcpy(out, rows->d, 32);
    memcpy(out + 32, rows->dmin, 32);
    take_vector(rows->scale[0], 0, v[0]);
    take_vector(rows->scale[0], 1, v[1]);
    take_vector(rows->min[0], 0, v[2]);
    take_vector(rows->min[0], 1, v[3]);
    put_six_bits(out + 64, v[0], v[1], v[2], v[3]);
}

static void put_q5_k(const mr_rows256 *rows, uint8_t *out) {
    put_k_head(rows, out);
    out += 256;
    for (int k = 0; k < 256; k += 32, out += 320) mr_put_five_bits(out, &rows->q[0][k], 256);
}

/* Bits `shift` and shift + 1 of 16 values, one vector. */
static inline void put_two_bits(uint8_t *out, const mr_rows256 *rows, int k, int shift) {
    for (size_t r = 0; r < 16; r++) {
        uint32_t v = 0;
        for (int i = 0; i < 4; i++) v |= (mr_load32(&rows->q[r][k + 4 * i]) >> shift & 0x03030303u) << 2 * i;
        mr_store32(out + 4 * r, v);
    }
}

static void put_q3_k(const mr_rows256 *rows, uint8_t *out) {
    uint32_t v[4][16];
    for (int i = 0; i < 4; i++) take_vector(rows->scale[0], i, v[i]);
    put_six_bits(out, v[0], v[1], v[2], v[3]);
    out += 192;
    for (int k = 0; k < 256; k += 32, out += 192) {
        for (size_t r = 0; r < 16; r++) {
            uint32_t third = 0;
            for (int i = 0; i < 8; i++) third |= (mr_load32(&rows->q[r][k + 4 * i]) >> 2 & 0x01010101u) << i;
            mr_store32(out + 4 * r, third);
        }
        put_two_bits(out + 64, rows, k, 0);
        put_two_bits(out + 128, rows, k + 16, 0);
    }
}

static void put_q2_k(const mr_rows256 *rows, uint8_t *out) {
    memcpy(out, rows->d, 32);
    memcpy(out + 32, rows->dmin, 32);
    for (int i = 0; i < 4; i++) put_vector(out + 64 + 64 * i, rows->scale[0], i);
    for (int g = 0; g < 16; g++) put_two_bits(out + 320 + 64 * g, rows, 16 * g, 0);
}

static void put_iq4_xs(const mr_rows256 *rows, uint8_t *out) {
    for (int i = 0; i < 2; i++) put_vector(out + 64 * i, rows->scale[0], i);
    mr_put_nibbles(out + 128, rows->q[0], 256, 256);
}

static void put_ternary(const mr_rows256 *rows, uint8_t *out) {
    for (int g = 0; g < 16; g++) put_two_bits(out + 64 * g, rows, 16 * g, 0);
}

/* -- The types that most weights have, without bytes between. */

/* A dword of each of 16 rows. */
typedef uint32_t dwords[16];

#define LOW 0x0F0F0F0Fu

/* Dwords 0 .. n - 1 of 16 rows that begin at src, row_bytes apart. */
static inline void take_dwords(const uint8_t *src, size_t row_bytes, int n, dwords *out) {
    for (size_t r = 0; r < 16; r++) {
        for (int i = 0; i < n; i++) out[i][r] = mr_load32(src + r * row_bytes + 4 * i);
    }
}

/* The low nibbles (shift 0) or the high ones (4) of 8 bytes of each row as a nibble vector. */
static inline void put_nibble_dwords(uint8_t *out, const uint32_t first[16], const uint32_t second[16], int shift) {
    for (size_t r = 0; r < 16; r++)
        mr_store32(out + 4 * r, (first[r] >> shift & LOW) | (second[r] >> shift & LOW) << 4);
}

/* Four bytes in the order of mr_group_byte. */
static inline uint32_t order_groups(uint32_t v) {
    return (v & 0xFF0000FFu) | (v >> 8 & 0x0000FF00u) | (v << 8 & 0x00FF0000u);
}

static void put_rows_q4_k(const uint8_t *src, size_t row_bytes, uint16_t d[16], uint8_t *out) {
    dwords packed[3], scales[2], mins[2], qs[8];
    uint16_t dmin[16];
    for (size_t r = 0; r < 16; r++) {
        const mr_block_q4_k *block = (const mr_block_q4_k *)(src + r * row_bytes);
        d[r] = block->d;
        dmin[r] = block->dmin;
    }
    memcpy(out, d, 32);
    memcpy(out + 32, dmin, 32);
    take_dwords(src + offsetof(mr_block_q4_k, scales), row_bytes, 3, packed);
    for (size_t r = 0; r < 16; r++) { /* mr_k_scale_min, four groups at once */
        uint32_t a = packed[0][r], b = packed[1][r], c = packed[2][r];
        scales[0][r] = order_groups(a & 0x3F3F3F3Fu);
        mins[0][r] = order_groups(b & 0x3F3F3F3Fu);
        scales[1][r] = order_groups((c & LOW) | (a >> 2 & 0x30303030u));
        mins[1][r] = order_groups((c >> 4 & LOW) | (b >> 2 & 0x30303030u));
    }
    put_six_bits(out + 64, scales[0], scales[1], mins[0], mins[1]);
    out += 256;
    for (size_t run = 0; run < 4; run++, out += 512) {
        take_dwords(src + offsetof(mr_block_q4_k, qs) + 32 * run, row_bytes, 8, qs);
        for (size_t i = 0; i < 4; i++) {
            put_nibble_dwords(out + 64 * i, qs[2 * i], qs[2 * i + 1], 0);
            put_nibble_dwords(out + 256 + 64 * i, qs[2 * i], qs[2 * i + 1], 4);
        }
    }
}

static void put_rows_q6_k(const uint8_t *src, size_t row_bytes, uint16_t d[16], uint8_t *out) {
    dwords scales[4], ql[16], qh[8];
    for (size_t r = 0; r < 16; r++) d[r] = ((const mr_block_q6_k *)(src + r * row_bytes))->d;
    take_dwords(src + offsetof(mr_block_q6_k, scales), row_bytes, 4, scales);
    memcpy(out, scales, sizeof scales);
    out += sizeof scales;
    for (size_t half = 0; half < 2; half++) {
        take_dwords(src + offsetof(mr_block_q6_k, ql) + 64 * half, row_bytes, 16, ql);
        take_dwords(src + offsetof(mr_block_q6_k, qh) + 32 * half, row_bytes, 8, qh);
        for (int part = 0; part < 8; part++, out += 192) { /* 16 values each */
            int run = part / 2, at = 4 * (part % 2), shift = 4 * (run / 2);
            dwords *low = ql + 8 * (run % 2) + at;
            for (size_t r = 0; r < 16; r++) {
                uint32_t v = 0;
                for (int i = 0; i < 4; i++) v |= (qh[at + i][r] >> 2 * run & 0x03030303u) << 2 * i;
                mr_store32(out + 4 * r, v);
            }
            put_nibble_dwords(out + 64, low[0], low[1], shift);
            put_nibble_dwords(out + 128, low[2], low[3], shift);
        }
    }
}

static const format256 FORMATS[] = {
    {MR_Q4_K, sizeof(mr_block_q4_k), MR_Q4_K_BYTES, false, 0, split_q4_k, NULL, put_rows_q4_k},
    {MR_Q5_K, sizeof(mr_block_q5_k), MR_Q5_K_BYTES, false, 0, split_q5_k, put_q5_k, NULL},
    {MR_Q6_K, sizeof(mr_block_q6_k), MR_Q6_K_BYTES, true, 32, split_q6_k, NULL, put_rows_q6_k},
    {MR_Q3_K, sizeof(mr_block_q3_k), MR_Q3_K_BYTES, true, 4, split_q3_k, put_q3_k, NULL},
    {MR_Q2_K, sizeof(mr_block_q2_k), MR_Q2_K_BYTES, false, 0, split_q2_k, put_q2_k, NULL},
    {MR_IQ4_XS, sizeof(mr_block_iq4_xs), MR_IQ4_XS_BYTES, true, 0, split_iq4_xs, put_iq4_xs, NULL},
    {MR_TQ1_0, sizeof(mr_block_tq1_0), MR_TERNARY_BYTES, true, 1, split_tq1_0, put_ternary, NULL},
    {MR_TQ2_0, sizeof(mr_block_tq2_0), MR_TERNARY_BYTES, true, 1, split_tq2_0, put_ternary, NULL},
};

static const format256 *format_of(mr_dtype type) {
    const format256 *format = FORMATS;
    while (format->type != type) format++;
    return format;
}

void mr_split_k(mr_dtype type, const uint8_t *row, size_t b, int r, mr_rows256 *out) {
    const format256 *format = format_of(type);
    format->split(row + b * format->src_bytes, r, out);
}

/* Super-block at src of each of n_rows rows; d of each row goes to block, too. */
static void pack_block(const format256 *format, const uint8_t *src, size_t row_bytes, size_t n_rows, mr_rows256 *block,
                       uint8_t *out) {
    if (format->put_rows == NULL) {
        for (size_t r = 0; r < n_rows; r++) format->split(src + r * row_bytes, (int)r, block);
        format->put(block, out);
    } else if (n_rows == 16) {
        format->put_rows(src, row_bytes, block->d, out);
    } else { /* a scale of 0 makes the missing rows zero */
        uint8_t rows[16 * sizeof(mr_block_q6_k)] = {0};
        for (size_t r = 0; r < n_rows; r++)
            memcpy(rows + r * format->src_bytes, src + r * row_bytes, format->src_bytes);
        format->put_rows(rows, format->src_bytes, block->d, out);
    }
}

void mr_pack_k(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    const format256 *format = format_of(type);
    size_t n_blocks = n_in / 256;
    mr_rows256 block = {.d = {0}};
    memset(block.q, format->zero, sizeof block.q);
    if (format->in_pairs) memset(panel + mr_pair_scales((n_blocks - 1) | 1, format->out_bytes), 0, 32);
    for (size_t b = 0; b < n_blocks; b++) {
        mr_ask_for_next_rows(rows, n_rows * row_bytes, b, n_blocks);
        uint8_t *out = panel + (format->in_pairs ? mr_pair_quants(b, format->out_bytes) : b * format->out_bytes);
        pack_block(format, rows + b * format->src_bytes, row_bytes, n_rows, &block, out);
        if (format->in_pairs) memcpy(panel + mr_pair_scales(b, format->out_bytes), block.d, 32);
    }
}

/* -- Codebook types: decoded to floats, which divided by their group's scale are levels. */

/* d such that a weight is d * scale * level, and the odd scale (1 .. 31) of each 16 values. */
static float codebook_scales(mr_dtype type, const uint8_t *src, uint8_t scale[16]) {
    uint16_t half;
    memcpy(&half, src, 2);
    float d = mr_f16_to_f32(half);
    for (int g = 0; g < 16; g++) {
        uint32_t s = 0;
        switch (type) {
        case MR_IQ2_XXS:
            s = ((const mr_block_iq2_xxs *)src)->qs[g / 2][1] >> 28;
            break;
        case MR_IQ2_XS:
            s = ((const mr_block_iq2_xs *)src)->scales[g / 2] >> 4 * (g % 2) & 15;
            break;
        case MR_IQ2_S:
            s = ((const mr_block_iq2_s *)src)->scales[g / 2] >> 4 * (g % 2) & 15;
            break;
        case MR_IQ3_XXS:
            s = ((const mr_block_iq3_xxs *)src)->scales_signs[g / 2] >> 28;
            break;
        case MR_IQ3_S:
            s = ((const mr_block_iq3_s *)src)->scales[g / 4] >> 4 * (g / 2 % 2) & 15;
            break;
        case MR_IQ1_S:
            s = ((const mr_block_iq1_s *)src)->qh[g / 2] >> 12 & 7;
            break;
        case MR_IQ1_M:
            s = ((const mr_block_iq1_m *)src)->scales[g / 4] >> 3 * (g % 4) & 7;
            break;
        default:
            break;
        }
        scale[g] = (uint8_t)(2 * s + 1);
    }
    if (type == MR_IQ1_M) {
        const mr_block_iq1_m *block = (const mr_block_iq1_m *)src;
        half = 0;
        for (int i = 0; i < 4; i++) half = (uint16_t)(half | (block->scales[i] >> 12) << 4 * i);
        d = mr_f16_to_f32(half);
    }
    return type == MR_IQ3_S ? d : type == MR_IQ3_XXS ? d * 0.25f : d * 0.125f;
}

void mr_codebook_indices(mr_layout layout, uint8_t index_of[128]) {
    memset(index_of, 0, 128);
    for (int i = 0; i < 16; i++) {
        int level = mr_layout_levels(layout)[i];
        if (level != 0) index_of[level + 64] = (uint8_t)i;
    }
}

void mr_split_codebook(mr_dtype type, const mr_dtype_info *info, const uint8_t index_of[128], const uint8_t *src, int r,
                       mr_codebook_rows *out) {
    float w[256];
    out->d[r] = codebook_scales(type, src, out->scale[r]);
    info->dequantize(src, w, 256);
    for (int g = 0; g < 16; g++) {
        float unit = out->d[r] * (float)out->scale[r][g];
        float inverse = unit != 0.0f && isfinite(unit) ? 1.0f / unit : 0.0f;
        for (int k = 16 * g; k < 16 * g + 16; k++) {
            float level = w[k] * inverse;
            out->q[r][k] = fabsf(level) < 63.0f ? index_of[(int)(level + 64.5f)] : 0;
        }
    }
}

void mr_pack_codebook(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes,
                      size_t n_in) {
    mr_layout layout;
    mr_acts_kind kind;
    size_t block;
    uint8_t index_of[128];
    mr_codebook_rows out = {.d = {0}};
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    mr_layout_of(type, &layout, &kind, &block);
    mr_codebook_indices(layout, index_of);
    for (size_t b = 0; b < n_in / 256; b++, panel += MR_CODEBOOK_BYTES) {
        for (size_t r = 0; r < n_rows; r++) {
            mr_split_codebook(type, info, index_of, rows + r * row_bytes + b * info->block_bytes, (int)r, &out);
        }
        memcpy(panel, out.d, 64);
        for (int i = 0; i < 4; i++) put_vector(panel + 64 + 64 * i, out.scale[0], i);
        mr_put_nibbles(panel + 320, out.q[0], 256, 256);
    }
}
