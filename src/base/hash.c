#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 u128;
    u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load_tail(const unsigned char *p, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) value |= (uint64_t)p[i] << (8 * i);
    return value;
}

/* Multiply-and-fold over 8-byte words (the principle of wyhash, public domain). */
uint64_t mr_hash(const void *bytes, size_t n, uint64_t seed) {
    const unsigned char *p = bytes;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u ^ (uint64_t)n;
    size_t left = n;
    while (left >= 8) {
        h = mix(h ^ load_tail(p, 8), 0xD6E8FEB86659FD93u);
        p += 8;
        left -= 8;
    }
    h = mix(h ^ load_tail(p, left), 0xA0761D6478BD642Fu);
    return mix(h ^ 0xE7037ED1A0B428DBu, 0x8EBC6AF09C88C6E3u);
}

typedef struct strmap_slot {
    const char *key; /* NULL = free */
    uint32_t len;
    uint32_t value;
} strmap_slot;

struct mr_strmap {
    strmap_slot *slots;
    size_t n_slots; /* a power of two */
    size_t n_keys;
};

mr_strmap *mr_strmap_new(size_t n_expected) {
    mr_strmap *map = calloc(1, sizeof *map);
    if (map == NULL) return NULL;
    map->n_slots = 16;
    while (map->n_slots < n_expected * 2) map->n_slots *= 2;
    map->slots = calloc(map->n_slots, sizeof *map->slots);
    if (map->slots == NULL) {
        free(map);
        return NULL;
    }
    return map;
}

void mr_strmap_free(mr_strmap *map) {
    if (map == NULL) return;
    free(map->slots);
    free(map);
}

static strmap_slot *find_slot(const mr_strmap *map, const char *key, size_t len) {
    size_t mask = map->n_slots - 1;
    for (size_t i = (size_t)mr_hash(key, len, 0) & mask;; i = (i + 1) & mask) {
        strmap_slot *slot = &map->slots[i];
        if (slot->key == NULL || (slot->len == len && memcmp(slot->key, key, len) == 0)) return slot;
    }
}

static bool grow(mr_strmap *map) {
    mr_strmap bigger = {.n_slots = map->n_slots * 2, .n_keys = map->n_keys};
    bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
    if (bigger.slots == NULL) return false;
    for (size_t i = 0; i < map->n_slots; i++) {
        if (map->slots[i].key != NULL) *find_slot(&bigger, map->slots[i].key, map->slots[i].len) = map->slots[i];
    }
    free(map->slots);
    *map = bigger;
    return true;
}

bool mr_strmap_put(mr_strmap *map, const char *key, size_t len, uint32_t value) {
    if (len > UINT32_MAX) return false;
    if (map->n_keys * 2 >= map->n_slots && !grow(map)) return false;
    strmap_slot *slot = find_slot(map, key, len);
    if (slot->key == NULL) {
        slot->key = key;
        slot->len = (uint32_t)len;
        map->n_keys++;
    }
    slot->value = value;
    return true;
}

bool mr_strmap_get(const mr_strmap *map, const char *key, size_t len, uint32_t *value) {
    const strmap_slot *slot = find_slot(map, key, len);
    if (slot->key == NULL) return false;
    *value = slot->value;
    return true;
}
