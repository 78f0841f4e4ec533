/* Codebooks of the IQ tensor types (blocks.h). An entry is one number of small indices: 2 bits for each of 8 values or
 * 4 bits for each of 4; the value of an index is in the matching level table. Constants of the formats as published
 * with ggml. */
#ifndef MR_COMPUTE_IQ_TABLES_H
#define MR_COMPUTE_IQ_TABLES_H

#include <stdint.h>

extern const uint16_t mr_iq2_xxs_grid[256];
extern const uint16_t mr_iq2_xs_grid[512];
extern const uint16_t mr_iq2_s_grid[1024];
extern const uint16_t mr_iq1_grid[2048];
extern const uint16_t mr_iq3_xxs_grid[256];
extern const uint16_t mr_iq3_s_grid[512];

/* Value j (0..7) of an entry of an IQ2 codebook: 8, 25 or 43. */
static inline int mr_iq2_level(uint16_t entry, int j) {
    static const uint8_t levels[4] = {8, 25, 43, 0};
    return levels[entry >> (2 * j) & 3];
}

/* Value j (0..7) of an entry of the IQ1 codebook: -1, 0 or 1. */
static inline int mr_iq1_level(uint16_t entry, int j) {
    return (entry >> (2 * j) & 3) - 1;
}

/* Value j (0..3) of an entry of the IQ3_XXS codebook: 4, 12, … 52 in steps of 8, and 62. */
static inline int mr_iq3_xxs_level(uint16_t entry, int j) {
    static const uint8_t levels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    return levels[entry >> (4 * j) & 7];
}

/* Value j (0..3) of an entry of the IQ3_S codebook: an odd number, 1 to 15. */
static inline int mr_iq3_s_level(uint16_t entry, int j) {
    return 2 * (entry >> (4 * j) & 7) + 1;
}

/* The eight signs of an index of seven: bit 7 makes the number of set bits even. */
static inline uint8_t mr_iq_signs(uint32_t s7) {
    uint32_t parity = s7 ^ s7 >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return (uint8_t)(s7 | (parity & 1) << 7);
}

#endif
