/* Non-cryptographic hashing and a string-keyed map. */
#ifndef MR_BASE_HASH_H
#define MR_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 64-bit hash of n bytes, chained through seed. Stable across machines and versions of this program. */
uint64_t mr_hash(const void *bytes, size_t n, uint64_t seed);

/* A map from byte strings to uint32 values (open addressing). Keys are not copied: they must outlive the map. */
typedef struct mr_strmap mr_strmap;

/* Sized for about n_expected keys; grows as needed. NULL when memory runs out. */
mr_strmap *mr_strmap_new(size_t n_expected);
void mr_strmap_free(mr_strmap *map);

/* Inserts or overwrites; false when memory runs out. */
bool mr_strmap_put(mr_strmap *map, const char *key, size_t len, uint32_t value);

/* Whether the key is there; *value is set if so. */
bool mr_strmap_get(const mr_strmap *map, const char *key, size_t len, uint32_t *value);

#endif
