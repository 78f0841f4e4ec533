/* SentencePiece's precompiled character map: u32 size of the trie in bytes, the trie (darts-clone units,
 * little-endian), then NUL-terminated replacements (https://github.com/google/sentencepiece, normalizer.cc; units as in
 * https://github.com/s-yata/darts-clone). */
#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

static uint32_t read_u32(const char *bytes) {
    const uint8_t *b = (const uint8_t *)bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

mr_status mr_charsmap_read(mr_charsmap *map, const char *bytes, size_t len, mr_error *err) {
    *map = (mr_charsmap){0};
    if (len == 0) return MR_OK;
    if (len < 4) return mr_fail(err, MR_ERR_INVALID, "the precompiled character map is cut off (%zu bytes)", len);
    size_t n_bytes = read_u32(bytes);
    if (n_bytes > len - 4 || n_bytes % 4 != 0) {
        return mr_fail(err, MR_ERR_INVALID, "the precompiled character map says %zu bytes of trie but has %zu", n_bytes,
                       len - 4);
    }
    if (n_bytes == 0) return MR_OK;
    map->owned = malloc(n_bytes);
    if (map->owned == NULL) return mr_fail_nomem(err, n_bytes, "the precompiled character map");
    for (size_t i = 0; i < n_bytes / 4; i++) map->owned[i] = read_u32(bytes + 4 + 4 * i);
    map->units = map->owned;
    map->n_units = n_bytes / 4;
    map->replacements = bytes + 4 + n_bytes;
    map->n_replacements = len - 4 - n_bytes;
    return MR_OK;
}

void mr_charsmap_free(mr_charsmap *map) {
    free(map->owned);
    *map = (mr_charsmap){0};
}

static uint32_t offset_of(uint32_t unit) {
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

const char *mr_charsmap_find(const mr_charsmap *map, const char *text, size_t len, bool longest, size_t *n_used,
                             size_t *n_replacement) {
    if (map->n_units == 0) return NULL;
    bool found = false;
    size_t value = 0, at = offset_of(map->units[0]);
    for (size_t i = 0; i < len && text[i] != '\0'; i++) {
        uint8_t byte = (uint8_t)text[i];
        at ^= byte;
        if (at >= map->n_units) break;
        uint32_t unit = map->units[at];
        if ((unit & (1u << 31 | 0xFF)) != byte) break;
        at ^= offset_of(unit);
        if (at >= map->n_units) break;
        if ((unit >> 8 & 1) == 0) continue;
        found = true;
        value = map->units[at] & 0x7FFFFFFFu;
        *n_used = i + 1;
        if (!longest) break;
    }
    if (!found || value >= map->n_replacements) return NULL;
    const char *to = map->replacements + value;
    const char *nul = memchr(to, '\0', map->n_replacements - value);
    *n_replacement = nul == NULL ? map->n_replacements - value : (size_t)(nul - to);
    return to;
}
