/* Packing of the types with blocks of 32 values. */
#include "compute/blocks.h"
#include "compute/matrix_pack.h"

typedef struct format32 {
    mr_dtype type;
    size_t src_bytes, out_bytes; /* of a block of one row, of 16 rows */
    bool has_min;                /* else blocks come in pairs */
    uint8_t zero;                /* the stored integer of weight 0 */
    void (*split)(const uint8_t *src, int r, mr_rows32 *out);
    void (*put)(const mr_rows32 *rows, uint8_t *out);
    size_t n_parts; /* a block of the source holds so many of 32; 0 = 1 */
    void (*split_part)(const uint8_t *src, int part, int r, mr_rows32 *out);
} format32;

static inline void split_nibbles(const uint8_t qs[16], uint8_t q[32]) {
    for (int k = 0; k < 16; k++) {
        q[k] = qs[k] & 15;
        q[k + 16] = qs[k] >> 4;
    }
}

static inline void add_fifth_bits(uint32_t qh, uint8_t q[32]) {
    for (int k = 0; k < 32; k++) q[k] |= (uint8_t)((qh >> k & 1) << 4);
}

static void split_q8_0(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q8_0 *block = (const mr_block_q8_0 *)src;
    out->d[r] = block->d;
    for (int k = 0; k < 32; k++) out->q[r][k] = (uint8_t)(block->qs[k] + 128);
}

static void split_q8_1(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q8_1 *block = (const mr_block_q8_1 *)src;
    out->d[r] = block->d;
    for (int k = 0; k < 32; k++) out->q[r][k] = (uint8_t)(block->qs[k] + 128);
}

/* The scale is rounded to a half float, which changes no scale that mr_quantize_q8_k made. */
static void split_q8_k(const uint8_t *src, int part, int r, mr_rows32 *out) {
    const mr_block_q8_k *block = (const mr_block_q8_k *)src;
    out->d[r] = mr_f32_to_f16(block->d);
    for (int k = 0; k < 32; k++) out->q[r][k] = (uint8_t)(block->qs[32 * part + k] + 128);
}

static void split_hqq8(const uint8_t *src, int part, int r, mr_rows32 *out) {
    const mr_block_hqq8 *block = (const mr_block_hqq8 *)src;
    out->d[r] = block->d;
    out->m[r] = block->m;
    for (int k = 0; k < 32; k++) out->q[r][k] = (uint8_t)(block->qs[32 * part + k] + 128);
}

/* Q4_0 and IQ4_NL */
static void split_q4_0(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q4_0 *block = (const mr_block_q4_0 *)src;
    out->d[r] = block->d;
    split_nibbles(block->qs, out->q[r]);
}

static void split_q4_1(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q4_1 *block = (const mr_block_q4_1 *)src;
    out->d[r] = block->d;
    out->m[r] = block->m;
    split_nibbles(block->qs, out->q[r]);
}

static void split_hqq4(const uint8_t *src, int part, int r, mr_rows32 *out) {
    const mr_block_hqq4 *block = (const mr_block_hqq4 *)src;
    out->d[r] = block->d;
    out->m[r] = block->m;
    split_nibbles(block->qs + 16 * part, out->q[r]);
}

static void split_q5_0(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q5_0 *block = (const mr_block_q5_0 *)src;
    out->d[r] = block->d;
    split_nibbles(block->qs, out->q[r]);
    add_fifth_bits(block->qh, out->q[r]);
}

static void split_q5_1(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_q5_1 *block = (const mr_block_q5_1 *)src;
    out->d[r] = block->d;
    out->m[r] = block->m;
    split_nibbles(block->qs, out->q[r]);
    add_fifth_bits(block->qh, out->q[r]);
}

static void split_mxfp4(const uint8_t *src, int r, mr_rows32 *out) {
    const mr_block_mxfp4 *block = (const mr_block_mxfp4 *)src;
    out->d[r] = mr_f32_to_bf16(mr_mxfp4_scale(block->e)); /* a power of two: exact */
    split_nibbles(block->qs, out->q[r]);
}

static void put_bytes(const mr_rows32 *rows, uint8_t *out) {
    for (int k = 0; k < 32; k += 4, out += 64) {
        for (size_t r = 0; r < 16; r++) mr_store32(out + 4 * r, mr_load32(&rows->q[r][k]));
    }
}

static void put_nibbles(const mr_rows32 *rows, uint8_t *out) {
    mr_put_nibbles(out, rows->q[0], 32, 32);
}

static void put_five_bits(const mr_rows32 *rows, uint8_t *out) {
    mr_put_five_bits(out, rows->q[0], 32);
}

static const format32 FORMATS[] = {
    {MR_Q8_0, sizeof(mr_block_q8_0), MR_Q8_0_BYTES, false, 128, split_q8_0, put_bytes, 0, NULL},
    {MR_Q8_1, sizeof(mr_block_q8_1), MR_Q8_0_BYTES, false, 128, split_q8_1, put_bytes, 0, NULL},
    {MR_Q8_K, sizeof(mr_block_q8_k), MR_Q8_0_BYTES, false, 128, NULL, put_bytes, 8, split_q8_k},
    {MR_HQQ4, sizeof(mr_block_hqq4), MR_Q4_1_BYTES, true, 0, NULL, put_nibbles, 2, split_hqq4},
    {MR_HQQ8, sizeof(mr_block_hqq8), MR_Q8_M_BYTES, true, 128, NULL, put_bytes, 2, split_hqq8},
    {MR_Q4_0, sizeof(mr_block_q4_0), MR_Q4_0_BYTES, false, 8, split_q4_0, put_nibbles, 0, NULL},
    {MR_Q4_1, sizeof(mr_block_q4_1), MR_Q4_1_BYTES, true, 0, split_q4_1, put_nibbles, 0, NULL},
    {MR_Q5_0, sizeof(mr_block_q5_0), MR_Q5_0_BYTES, false, 16, split_q5_0, put_five_bits, 0, NULL},
    {MR_Q5_1, sizeof(mr_block_q5_1), MR_Q5_1_BYTES, true, 0, split_q5_1, put_five_bits, 0, NULL},
    {MR_IQ4_NL, sizeof(mr_block_iq4_nl), MR_Q4_0_BYTES, false, 0, split_q4_0, put_nibbles, 0, NULL},
    {MR_MXFP4, sizeof(mr_block_mxfp4), MR_Q4_0_BYTES, false, 0, split_mxfp4, put_nibbles, 0, NULL},
};

/* Block b of 32 values of a row. */
static void split_block(const format32 *format, const uint8_t *row, size_t b, size_t r, mr_rows32 *out) {
    if (format->split_part == NULL)
        format->split(row + b * format->src_bytes, (int)r, out);
    else
        format->split_part(row + b / format->n_parts * format->src_bytes, (int)(b % format->n_parts), (int)r, out);
}

static const format32 *format_of(mr_dtype type) {
    const format32 *format = FORMATS;
    while (format->type != type) format++;
    return format;
}

void mr_split_q32(mr_dtype type, const uint8_t *row, size_t b, size_t r, mr_rows32 *out) {
    split_block(format_of(type), row, b, r, out);
}

void mr_pack_q32(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    const format32 *format = format_of(type);
    mr_rows32 block = {.d = {0}};
    memset(block.q, format->zero, sizeof block.q);
    size_t n_blocks = n_in / 32;
    if (!format->has_min) memset(panel + mr_pair_scales((n_blocks - 1) | 1, format->out_bytes), 0, 32);
    for (size_t b = 0; b < n_blocks; b++) {
        mr_ask_for_next_rows(rows, n_rows * row_bytes, b, n_blocks);
        for (size_t r = 0; r < n_rows; r++) split_block(format, rows + r * row_bytes, b, r, &block);
        if (format->has_min) {
            uint8_t *out = panel + b * format->out_bytes;
            memcpy(out, block.d, 32);
            memcpy(out + 32, block.m, 32);
            format->put(&block, out + 64);
        } else {
            memcpy(panel + mr_pair_scales(b, format->out_bytes), block.d, 32);
            format->put(&block, panel + mr_pair_quants(b, format->out_bytes));
        }
    }
}
