/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2,
 * 3", SC 2011). A number depends on the seed and its index alone. */
#ifndef MR_ENGINE_RANDOM_H
#define MR_ENGINE_RANDOM_H

#include <stdint.h>

/* Encrypts the counter with the key, in place. */
static inline void mr_philox(uint32_t counter[4], uint64_t key) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
        uint32_t c0 = (uint32_t)(b >> 32) ^ counter[1] ^ k0;
        uint32_t c2 = (uint32_t)(a >> 32) ^ counter[3] ^ k1;
        counter[1] = (uint32_t)b;
        counter[3] = (uint32_t)a;
        counter[0] = c0;
        counter[2] = c2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Number `index` of the stream `seed`: 53 random bits in [0, 1). */
static inline double mr_random_uniform(uint64_t seed, uint64_t index) {
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), 0, 0};
    mr_philox(counter, seed);
    uint64_t bits = ((uint64_t)counter[0] << 32 | counter[1]) >> 11;
    return (double)bits * 0x1p-53;
}

#endif
