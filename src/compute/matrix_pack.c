/* The layouts of the types, and packing of plain floats. The block types are in matrix_pack_q32.c and matrix_pack_k.c.
 */
#include "compute/matrix_pack.h"

#include "compute/blocks.h"

typedef struct layout_info {
    mr_dtype type;
    mr_layout layout;
    mr_acts_kind kind;
    size_t block;
    void (*pack)(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in);
} layout_info;

/* Values of 16 bits in a cache line. Rows are packed a line of each at a time: they are often a power of two apart, and
 * of lines that far apart the cache keeps few. */
enum { LINE16 = 32 };

static void pack_f32(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    (void)type;
    memset(panel, 0, mr_panel_bytes(MR_LAYOUT_F32, n_in));
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n_in; k++) memcpy(panel + 64 * k + 4 * r, rows + r * row_bytes + 4 * k, 4);
    }
}

static void pack_f16(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    (void)type;
    if (n_rows < 16 || n_in % 2 != 0) memset(panel, 0, mr_panel_bytes(MR_LAYOUT_F16, n_in));
    for (size_t begin = 0; begin < n_in; begin += LINE16, panel += 32 * LINE16) {
        uint16_t values[16][LINE16];
        size_t n = n_in - begin < LINE16 ? n_in - begin : LINE16;
        mr_ask_for_next_rows(rows, n_rows * row_bytes, begin / LINE16, (n_in - 1) / LINE16 + 1);
        for (size_t r = 0; r < n_rows; r++) memcpy(values[r], rows + r * row_bytes + 2 * begin, 2 * n);
        for (size_t k = 0; k < n; k++) {
            for (size_t r = 0; r < n_rows; r++) memcpy(panel + 32 * k + 2 * r, &values[r][k], 2);
        }
    }
}

/* A pair of bfloat16, subnormal ones as zero. */
static inline uint32_t flush_pair(uint32_t pair) {
    if ((pair & 0x7F80u) == 0) pair &= 0xFFFF8000u;
    if ((pair & 0x7F800000u) == 0) pair &= 0x8000FFFFu;
    return pair;
}

static void pack_bf16(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes,
                      size_t n_in) {
    (void)type;
    if (n_rows < 16) memset(panel, 0, mr_panel_bytes(MR_LAYOUT_BF16, n_in));
    for (size_t begin = 0; begin + 2 <= n_in; begin += LINE16) {
        uint32_t pairs[16][LINE16 / 2];
        size_t n_pairs = n_in - begin < LINE16 ? (n_in - begin) / 2 : LINE16 / 2;
        mr_ask_for_next_rows(rows, n_rows * row_bytes, begin / LINE16, (n_in - 1) / LINE16 + 1);
        for (size_t r = 0; r < n_rows; r++) memcpy(pairs[r], rows + r * row_bytes + 2 * begin, 4 * n_pairs);
        for (size_t k = 0; k < n_pairs; k++) {
            for (size_t r = 0; r < n_rows; r++)
                mr_store32(panel + 32 * begin + 64 * k + 4 * r, flush_pair(pairs[r][k]));
        }
    }
    if (n_in % 2 == 0) return;
    for (size_t r = 0; r < n_rows; r++) {
        uint16_t last;
        memcpy(&last, rows + r * row_bytes + 2 * (n_in - 1), 2);
        mr_store32(panel + 32 * (n_in - 1) + 4 * r, flush_pair(last));
    }
}

static void pack_f8(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    (void)type;
    if (n_rows < 16) memset(panel, 0, mr_panel_bytes(MR_LAYOUT_F8, n_in));
    for (size_t b = 0; b < n_in / 64; b++, panel += MR_F8_BYTES) {
        for (size_t r = 0; r < n_rows; r++) {
            const mr_block_f8_e4m3 *block = (const mr_block_f8_e4m3 *)(rows + r * row_bytes) + b;
            float d = block->d * 0x1p8f;
            memcpy(panel + 4 * r, &d, 4);
            for (size_t k = 0; k < 64; k++) panel[64 + 16 * k + r] = block->qs[k];
        }
    }
}

static const layout_info LAYOUTS[] = {
    {MR_F32, MR_LAYOUT_F32, MR_ACTS_F32, 1, pack_f32},
    {MR_F16, MR_LAYOUT_F16, MR_ACTS_F32, 1, pack_f16},
    {MR_BF16, MR_LAYOUT_BF16, MR_ACTS_BF16, 1, pack_bf16},
    {MR_Q8_0, MR_LAYOUT_Q8_0, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q8_1, MR_LAYOUT_Q8_0, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q8_K, MR_LAYOUT_Q8_0, MR_ACTS_Q8_32, 256, mr_pack_q32},
    {MR_HQQ4, MR_LAYOUT_Q4_1, MR_ACTS_Q8_32, 64, mr_pack_q32},
    {MR_HQQ8, MR_LAYOUT_Q8_M, MR_ACTS_Q8_32, 64, mr_pack_q32},
    {MR_F8_E4M3, MR_LAYOUT_F8, MR_ACTS_F32, 64, pack_f8},
    {MR_Q4_0, MR_LAYOUT_Q4_0, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q4_1, MR_LAYOUT_Q4_1, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q5_0, MR_LAYOUT_Q5_0, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q5_1, MR_LAYOUT_Q5_1, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_IQ4_NL, MR_LAYOUT_IQ4_NL, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_MXFP4, MR_LAYOUT_MXFP4, MR_ACTS_Q8_32, 32, mr_pack_q32},
    {MR_Q4_K, MR_LAYOUT_Q4_K, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_Q5_K, MR_LAYOUT_Q5_K, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_Q6_K, MR_LAYOUT_Q6_K, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_Q2_K, MR_LAYOUT_Q2_K, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_Q3_K, MR_LAYOUT_Q3_K, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_IQ4_XS, MR_LAYOUT_IQ4_XS, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_IQ1_S, MR_LAYOUT_IQ1, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ1_M, MR_LAYOUT_IQ1, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ2_XXS, MR_LAYOUT_IQ2, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ2_XS, MR_LAYOUT_IQ2, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ2_S, MR_LAYOUT_IQ2, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ3_XXS, MR_LAYOUT_IQ3_XXS, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_IQ3_S, MR_LAYOUT_IQ3_S, MR_ACTS_Q8_256, 256, mr_pack_codebook},
    {MR_TQ1_0, MR_LAYOUT_TERNARY, MR_ACTS_Q8_256, 256, mr_pack_k},
    {MR_TQ2_0, MR_LAYOUT_TERNARY, MR_ACTS_Q8_256, 256, mr_pack_k},
};

static const layout_info *find(mr_dtype type) {
    for (size_t i = 0; i < sizeof LAYOUTS / sizeof *LAYOUTS; i++) {
        if (LAYOUTS[i].type == type) return &LAYOUTS[i];
    }
    return NULL;
}

bool mr_layout_of(mr_dtype type, mr_layout *layout, mr_acts_kind *kind, size_t *block) {
    const layout_info *info = find(type);
    if (info == NULL) return false;
    *layout = info->layout;
    *kind = info->kind;
    *block = info->block;
    return true;
}

void mr_pack_panel(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in) {
    find(type)->pack(type, panel, rows, n_rows, row_bytes, n_in);
}

const int8_t *mr_layout_levels(mr_layout layout) {
    static const int8_t iq1[16] = {-9, -7, -1, 1, 7, 9};
    static const int8_t iq2[16] = {-43, -25, -8, 8, 25, 43};
    static const int8_t iq3_xxs[16] = {-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62};
    static const int8_t iq3_s[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};
    switch (layout) {
    case MR_LAYOUT_IQ4_NL:
    case MR_LAYOUT_IQ4_XS:
        return mr_iq4_values;
    case MR_LAYOUT_MXFP4:
        return mr_mxfp4_values;
    case MR_LAYOUT_IQ1:
        return iq1;
    case MR_LAYOUT_IQ2:
        return iq2;
    case MR_LAYOUT_IQ3_XXS:
        return iq3_xxs;
    case MR_LAYOUT_IQ3_S:
        return iq3_s;
    default:
        return NULL;
    }
}

size_t mr_panel_bytes(mr_layout layout, size_t n_in) {
    switch (layout) {
    case MR_LAYOUT_F32:
        return n_in * 64;
    case MR_LAYOUT_F16:
        return mr_round64(n_in * 32);
    case MR_LAYOUT_BF16:
        return (n_in + 1) / 2 * 64;
    case MR_LAYOUT_Q8_0:
        return mr_pairs_bytes(n_in / 32, MR_Q8_0_BYTES);
    case MR_LAYOUT_Q4_0:
    case MR_LAYOUT_IQ4_NL:
    case MR_LAYOUT_MXFP4:
        return mr_pairs_bytes(n_in / 32, MR_Q4_0_BYTES);
    case MR_LAYOUT_Q5_0:
        return mr_pairs_bytes(n_in / 32, MR_Q5_0_BYTES);
    case MR_LAYOUT_Q4_1:
        return n_in / 32 * MR_Q4_1_BYTES;
    case MR_LAYOUT_Q5_1:
        return n_in / 32 * MR_Q5_1_BYTES;
    case MR_LAYOUT_Q8_M:
        return n_in / 32 * MR_Q8_M_BYTES;
    case MR_LAYOUT_F8:
        return n_in / 64 * MR_F8_BYTES;
    case MR_LAYOUT_Q4_K:
        return n_in / 256 * MR_Q4_K_BYTES;
    case MR_LAYOUT_Q5_K:
        return n_in / 256 * MR_Q5_K_BYTES;
    case MR_LAYOUT_Q6_K:
        return mr_pairs_bytes(n_in / 256, MR_Q6_K_BYTES);
    case MR_LAYOUT_Q3_K:
        return mr_pairs_bytes(n_in / 256, MR_Q3_K_BYTES);
    case MR_LAYOUT_Q2_K:
        return n_in / 256 * MR_Q2_K_BYTES;
    case MR_LAYOUT_IQ4_XS:
        return mr_pairs_bytes(n_in / 256, MR_IQ4_XS_BYTES);
    case MR_LAYOUT_IQ1:
    case MR_LAYOUT_IQ2:
    case MR_LAYOUT_IQ3_XXS:
    case MR_LAYOUT_IQ3_S:
        return n_in / 256 * MR_CODEBOOK_BYTES;
    case MR_LAYOUT_TERNARY:
        return mr_pairs_bytes(n_in / 256, MR_TERNARY_BYTES);
    case MR_N_LAYOUTS:
        break;
    }
    return 0;
}
