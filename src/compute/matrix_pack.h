/* What the packers share. */
#ifndef MR_COMPUTE_MATRIX_PACK_H
#define MR_COMPUTE_MATRIX_PACK_H

#include "compute/matrix_impl.h"

/* As mr_pack_panel, for the types with blocks of 32, with super-blocks, and with codebooks. */
void mr_pack_q32(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in);
void mr_pack_k(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in);
void mr_pack_codebook(mr_dtype type, uint8_t *panel, const uint8_t *rows, size_t n_rows, size_t row_bytes, size_t n_in);

/* Up to 16 rows of a block before they are interleaved: stored integers, one byte each. */
typedef struct mr_rows32 {
    uint8_t q[16][32]; /* of bytes: q + 128 */
    uint16_t d[16], m[16];
} mr_rows32;

typedef struct mr_rows256 {
    uint8_t q[16][256];
    uint8_t scale[16][16]; /* of 6 bits without sign, else int8; those of groups of 32 in the order of mr_group_byte */
    uint8_t min[16][16];
    uint16_t d[16], dmin[16];
} mr_rows256;

typedef struct mr_codebook_rows {
    uint8_t q[16][256];
    uint8_t scale[16][16];
    float d[16];
} mr_codebook_rows;

/* Block b of `row`, 32 or 256 values, into row r of out. */
void mr_split_q32(mr_dtype type, const uint8_t *row, size_t b, size_t r, mr_rows32 *out);
void mr_split_k(mr_dtype type, const uint8_t *row, size_t b, int r, mr_rows256 *out);

/* The same for a codebook type's block at src, with the numbers of the levels (by level + 64) from mr_codebook_indices.
 */
void mr_split_codebook(mr_dtype type, const mr_dtype_info *info, const uint8_t index_of[128], const uint8_t *src, int r,
                       mr_codebook_rows *out);
void mr_codebook_indices(mr_layout layout, uint8_t index_of[128]);

/* Asks for a part of the rows behind these: step `step` of `n_steps` while these n_bytes are packed. Sixteen rows side by
 * side are more streams than the processor sees as such. Nothing is read, so it does not matter what lies there. */
static inline void mr_ask_for_next_rows(const uint8_t *rows, size_t n_bytes, size_t step, size_t n_steps) {
    uintptr_t next = (uintptr_t)rows + n_bytes;
    for (size_t i = n_bytes * step / n_steps & ~(size_t)63; i < n_bytes * (step + 1) / n_steps; i += 64)
        __builtin_prefetch((const void *)(next + i), 0, 2);
}

static inline uint32_t mr_load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline void mr_store32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, 4);
}

/* Interleaves n_k values (a multiple of 8) of 16 rows, `pitch` bytes apart, as nibble vectors of their low 4 bits. */
static inline void mr_put_nibbles(uint8_t *out, const uint8_t *q, size_t pitch, int n_k) {
    for (int k = 0; k < n_k; k += 8, out += 64) {
        for (size_t r = 0; r < 16; r++) {
            const uint8_t *p = q + r * pitch + k;
            mr_store32(out + 4 * r, (mr_load32(p) & 0x0F0F0F0Fu) | (mr_load32(p + 4) & 0x0F0F0F0Fu) << 4);
        }
    }
}

/* 32 values of 16 rows as a vector of fifth bits and 4 nibble vectors. */
static inline void mr_put_five_bits(uint8_t *out, const uint8_t *q, size_t pitch) {
    for (size_t r = 0; r < 16; r++) {
        uint32_t fifth = 0;
        for (int i = 0; i < 8; i++) fifth |= (mr_load32(q + r * pitch + 4 * (size_t)i) >> 4 & 0x01010101u) << i;
        mr_store32(out + 4 * r, fifth);
    }
    mr_put_nibbles(out + 64, q, pitch, 32);
}

#endif
