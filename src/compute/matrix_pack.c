/* From rows of blocks, as files store them, to panels. */
#include "compute/blocks.h"
#include "compute/matrix_impl.h"

typedef struct layout_info {
    mr_dtype type;
    mr_layout layout;
    mr_acts_kind kind;
    size_t block;
} layout_info;

static const layout_info LAYOUTS[] = {
    {MR_F32, MR_LAYOUT_F32, MR_ACTS_F32, 1},          {MR_F16, MR_LAYOUT_F16, MR_ACTS_F32, 1},
    {MR_BF16, MR_LAYOUT_BF16, MR_ACTS_BF16, 1},       {MR_Q8_0, MR_LAYOUT_Q8_0, MR_ACTS_Q8_32, 32},
    {MR_Q4_0, MR_LAYOUT_Q4_0, MR_ACTS_Q8_32, 32},     {MR_Q4_K, MR_LAYOUT_Q4_K, MR_ACTS_Q8_256, 256},
    {MR_Q5_K, MR_LAYOUT_Q5_K, MR_ACTS_Q8_256, 256},   {MR_Q6_K, MR_LAYOUT_Q6_K, MR_ACTS_Q8_256, 256},
};

bool mr_layout_of(mr_dtype type, mr_layout *layout, mr_acts_kind *kind, size_t *block) {
    for (size_t i = 0; i < sizeof LAYOUTS / sizeof *LAYOUTS; i++) {
        if (LAYOUTS[i].type != type) continue;
        *layout = LAYOUTS[i].layout;
        *kind = LAYOUTS[i].kind;
        *block = LAYOUTS[i].block;
        return true;
    }
    return false;
}

size_t mr_panel_bytes(mr_layout layout, size_t n_in) {
    switch (layout) {
    case MR_LAYOUT_F32: return n_in * 64;
    case MR_LAYOUT_F16: return mr_round64(n_in * 32);
    case MR_LAYOUT_BF16: return (n_in + 1) / 2 * 64;
    case MR_LAYOUT_Q8_0: return mr_pairs_bytes(n_in / 32, MR_Q8_0_BYTES);
    case MR_LAYOUT_Q4_0: return mr_pairs_bytes(n_in / 32, MR_Q4_0_BYTES);
    case MR_LAYOUT_Q4_K: return n_in / 256 * MR_Q4_K_BYTES;
    case MR_LAYOUT_Q5_K: return n_in / 256 * MR_Q5_K_BYTES;
    case MR_LAYOUT_Q6_K: return mr_pairs_bytes(n_in / 256, MR_Q6_K_BYTES);
    case MR_N_LAYOUTS: break;
    }
    return 0;
}

/* 16 rows of a block before they are interleaved: stored integers, one byte each. */
typedef struct rows32 {
    uint8_t q[16][32];
    uint16_t d[16];
} rows32;

typedef struct rows256 {
    uint8_t q[16][256];
    uint8_t scale[16][16];
    uint8_t min[16][8];
    uint16_t d[16], dmin[16];
} rows256;

static inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline void store32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, 4);
}

/* Interleaves n_k values (a multiple of 8) of 16 rows, `pitch` bytes apart, as nibble vectors of their low 4 bits. */
static inline void put_nibbles(uint8_t *out, const uint8_t *q, size_t pitch, int n_k) {
    for (int k = 0; k < n_k; k += 8, out += 64) {
        for (size_t r = 0; r < 16; r++) {
            const uint8_t *p = q + r * pitch + k;
            store32(out + 4 * r, (load32(p) & 0x0F0F0F0Fu) | (load32(p + 4) & 0x0F0F0F0Fu) << 4);
        }
    }
}

/* -- Blocks of 32. */

static void split_q8_0(const uint8_t *src, int r, rows32 *out) {
    const mr_block_q8_0 *block = (const mr_block_q8_0 *)src;
    out->d[r] = block->d;
    for (int k = 0; k < 32; k++) out->q[r][k] = (uint8_t)(block->qs[k] + 128);
}

static void split_q4_0(const uint8_t *src, int r, rows32 *out) {
    const mr_block_q4_0 *block = (const mr_block_q4_0 *)src;
    out->d[r] = block->d;
    for (int k = 0; k < 16; k++) {
        out->q[r][k] = block->qs[k] & 15;
        out->q[r][k + 16] = block->qs[k] >> 4;
    }
}

static void put_bytes32(const rows32 *rows, uint8_t *out) {
    for (int k = 0; k < 32; k += 4, out += 64) {
        for (size_t r = 0; r < 16; r++) store32(out + 4 * r, load32(&rows->q[r][k]));
    }
}

static void put_nibbles32(const rows32 *rows, uint8_t *out) {
    put_nibbles(out, rows->q[0], 32, 32);
}

typedef struct format32 {
    size_t src_bytes, out_bytes; /* of a block of one row, of 16 rows */
    uint8_t zero;                /* the stored integer of weight 0 */
    void (*split)(const uint8_t *src, int r, rows32 *out);
    void (*put)(const rows32 *rows, uint8_t *out);
} format32;

static void pack32(const format32 *format, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes,
                   size_t n_in) {
    rows32 block = {.d = {0}};
    memset(block.q, format->zero, sizeof block.q);
    memset(panel + mr_pair_scales((n_in / 32 - 1) | 1, format->out_bytes), 0, 32);
    for (size_t b = 0; b < n_in / 32; b++) {
        for (size_t r = 0; r < n_rows; r++) format->split(rows + r * row_bytes + b * format->src_bytes, (int)r, &block);
        memcpy(panel + mr_pair_scales(b, format->out_bytes), block.d, 32);
        format->put(&block, panel + mr_pair_quants(b, format->out_bytes));
    }
}

static const format32 Q8_0 = {sizeof(mr_block_q8_0), MR_Q8_0_BYTES, 128, split_q8_0, put_bytes32};
static const format32 Q4_0 = {sizeof(mr_block_q4_0), MR_Q4_0_BYTES, 8, split_q4_0, put_nibbles32};

/* -- Super-blocks. */

/* 256 values of 4 bits, in runs of 32 in low and high nibbles. */
static inline void split_nibble_runs(const uint8_t qs[128], uint8_t q[256]) {
    for (int run = 0; run < 4; run++) {
        for (int i = 0; i < 32; i++) {
            q[64 * run + i] = qs[32 * run + i] & 15;
            q[64 * run + 32 + i] = qs[32 * run + i] >> 4;
        }
    }
}

static void split_scale_min(const uint8_t scales[12], int r, rows256 *out) {
    for (int g = 0; g < 8; g++) mr_k_scale_min(scales, g, &out->scale[r][g], &out->min[r][g]);
}

static void split_q4_k(const uint8_t *src, int r, rows256 *out) {
    const mr_block_q4_k *block = (const mr_block_q4_k *)src;
    out->d[r] = block->d;
    out->dmin[r] = block->dmin;
    split_scale_min(block->scales, r, out);
    split_nibble_runs(block->qs, out->q[r]);
}

static void split_q5_k(const uint8_t *src, int r, rows256 *out) {
    const mr_block_q5_k *block = (const mr_block_q5_k *)src;
    out->d[r] = block->d;
    out->dmin[r] = block->dmin;
    split_scale_min(block->scales, r, out);
    split_nibble_runs(block->qs, out->q[r]);
    for (int run = 0; run < 8; run++) {
        for (int i = 0; i < 32; i++) out->q[r][32 * run + i] |= (uint8_t)((block->qh[i] >> run & 1) << 4);
    }
}

static void split_q6_k(const uint8_t *src, int r, rows256 *out) {
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

/* d, dmin, and scales and minima of 6 bits. */
static void put_k_head(const rows256 *rows, uint8_t *out) {
    memcpy(out, rows->d, 32);
    memcpy(out + 32, rows->dmin, 32);
    for (size_t r = 0; r < 16; r++) {
        uint32_t last = load32(rows->min[r] + 4);
        store32(out + 64 + 4 * r, load32(rows->scale[r]) | (last & 0x03030303u) << 6);
        store32(out + 128 + 4 * r, load32(rows->scale[r] + 4) | (last & 0x0C0C0C0Cu) << 4);
        store32(out + 192 + 4 * r, load32(rows->min[r]) | (last & 0x30303030u) << 2);
    }
}

static void put_q4_k(const rows256 *rows, uint8_t *out) {
    put_k_head(rows, out);
    put_nibbles(out + 256, rows->q[0], 256, 256);
}

static void put_q5_k(const rows256 *rows, uint8_t *out) {
    put_k_head(rows, out);
    out += 256;
    for (int k = 0; k < 256; k += 32, out += 320) {
        for (size_t r = 0; r < 16; r++) {
            uint32_t fifth = 0;
            for (int i = 0; i < 8; i++) fifth |= (load32(&rows->q[r][k + 4 * i]) >> 4 & 0x01010101u) << i;
            store32(out + 4 * r, fifth);
        }
        put_nibbles(out + 64, &rows->q[0][k], 256, 32);
    }
}

static void put_q6_k(const rows256 *rows, uint8_t *out) {
    for (int i = 0; i < 4; i++, out += 64) {
        for (size_t r = 0; r < 16; r++) store32(out + 4 * r, load32(&rows->scale[r][4 * i]));
    }
    for (int k = 0; k < 256; k += 16, out += 192) {
        for (size_t r = 0; r < 16; r++) {
            uint32_t top = 0;
            for (int i = 0; i < 4; i++) top |= (load32(&rows->q[r][k + 4 * i]) >> 4 & 0x03030303u) << 2 * i;
            store32(out + 4 * r, top);
        }
        put_nibbles(out + 64, &rows->q[0][k], 256, 16);
    }
}

typedef struct format256 {
    size_t src_bytes, out_bytes;
    bool in_pairs;
    uint8_t zero;
    void (*split)(const uint8_t *src, int r, rows256 *out);
    void (*put)(const rows256 *rows, uint8_t *out);
} format256;

static void pack256(const format256 *format, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes,
                    size_t n_in) {
    size_t n_blocks = n_in / 256;
    rows256 block = {.d = {0}};
    memset(block.q, format->zero, sizeof block.q);
    if (format->in_pairs) memset(panel + mr_pair_scales((n_blocks - 1) | 1, format->out_bytes), 0, 32);
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t r = 0; r < n_rows; r++) format->split(rows + r * row_bytes + b * format->src_bytes, (int)r, &block);
        if (format->in_pairs) {
            memcpy(panel + mr_pair_scales(b, format->out_bytes), block.d, 32);
            format->put(&block, panel + mr_pair_quants(b, format->out_bytes));
        } else {
            format->put(&block, panel + b * format->out_bytes);
        }
    }
}

static const format256 Q4_K = {sizeof(mr_block_q4_k), MR_Q4_K_BYTES, false, 0, split_q4_k, put_q4_k};
static const format256 Q5_K = {sizeof(mr_block_q5_k), MR_Q5_K_BYTES, false, 0, split_q5_k, put_q5_k};
static const format256 Q6_K = {sizeof(mr_block_q6_k), MR_Q6_K_BYTES, true, 32, split_q6_k, put_q6_k};

/* -- Floats. */

static void pack_f32(uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    memset(panel, 0, mr_panel_bytes(MR_LAYOUT_F32, n_in));
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n_in; k++) memcpy(panel + 64 * k + 4 * r, rows + r * row_bytes + 4 * k, 4);
    }
}

static void pack_f16(uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    memset(panel, 0, mr_panel_bytes(MR_LAYOUT_F16, n_in));
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n_in; k++) memcpy(panel + 32 * k + 2 * r, rows + r * row_bytes + 2 * k, 2);
    }
}

static void pack_bf16(uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    memset(panel, 0, mr_panel_bytes(MR_LAYOUT_BF16, n_in));
    for (size_t k = 0; k < n_in; k++) {
        for (size_t r = 0; r < n_rows; r++) {
            uint16_t w;
            memcpy(&w, rows + r * row_bytes + 2 * k, 2);
            if ((w & 0x7F80u) == 0) w &= 0x8000u;
            memcpy(panel + k / 2 * 64 + 4 * r + k % 2 * 2, &w, 2);
        }
    }
}

void mr_pack_panel(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    switch (type) {
    case MR_F32: pack_f32(panel, rows, n_rows, row_bytes, n_in); break;
    case MR_F16: pack_f16(panel, rows, n_rows, row_bytes, n_in); break;
    case MR_BF16: pack_bf16(panel, rows, n_rows, row_bytes, n_in); break;
    case MR_Q8_0: pack32(&Q8_0, panel, rows, n_rows, row_bytes, n_in); break;
    case MR_Q4_0: pack32(&Q4_0, panel, rows, n_rows, row_bytes, n_in); break;
    case MR_Q4_K: pack256(&Q4_K, panel, rows, n_rows, row_bytes, n_in); break;
    case MR_Q5_K: pack256(&Q5_K, panel, rows, n_rows, row_bytes, n_in); break;
    case MR_Q6_K: pack256(&Q6_K, panel, rows, n_rows, row_bytes, n_in); break;
    default: break;
    }
}
