#include "text/unicode.h"

#include "base/utf8.h"

#include <ctype.h>
#include <pthread.h>
#include <string.h>

uint16_t mr_unicode_stage1[(MR_UNICODE_MAX + 1) / MR_UNICODE_BLOCK];
uint16_t mr_unicode_stage2[MR_UNICODE_MAX_BLOCKS][MR_UNICODE_BLOCK];
uint8_t mr_unicode_han, mr_unicode_hiragana, mr_unicode_katakana;

/* Runs are laid out block by block; a block that is equal to an earlier one of the last few is shared. Blocks inside
 * one long run are the common case, so only uniform blocks are searched. */
static void unpack(void) {
    mr_unicode_han = mr_unicode_find_script("Han", 3);
    mr_unicode_hiragana = mr_unicode_find_script("Hiragana", 8);
    mr_unicode_katakana = mr_unicode_find_script("Katakana", 8);
    uint16_t uniform_of[4096];
    memset(uniform_of, 0xFF, sizeof uniform_of);
    size_t run = 0, n_blocks = 0;
    uint32_t left = mr_unicode_runs[0].len;
    for (size_t block = 0; block < sizeof mr_unicode_stage1 / sizeof mr_unicode_stage1[0]; block++) {
        uint16_t records[MR_UNICODE_BLOCK];
        bool uniform = true;
        for (size_t i = 0; i < MR_UNICODE_BLOCK; i++) {
            if (left == 0 && run + 1 < mr_unicode_runs_n) left = mr_unicode_runs[++run].len;
            records[i] = mr_unicode_runs[run].record;
            left--;
            uniform = uniform && records[i] == records[0];
        }
        if (uniform && uniform_of[records[0]] != 0xFFFF) {
            mr_unicode_stage1[block] = uniform_of[records[0]];
            continue;
        }
        size_t at = uniform ? n_blocks : 0;
        while (at < n_blocks && memcmp(mr_unicode_stage2[at], records, sizeof records) != 0) at++;
        if (at == n_blocks) {
            memcpy(mr_unicode_stage2[at], records, sizeof records);
            n_blocks++;
        }
        mr_unicode_stage1[block] = (uint16_t)at;
        if (uniform) uniform_of[records[0]] = (uint16_t)at;
    }
}

void mr_unicode_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, unpack);
}

bool mr_unicode_is_space(uint32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    if (c < 0x1680) return c == 0x85 || c == 0xA0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

bool mr_unicode_is_word(uint32_t c) {
    const mr_unicode_record *r = mr_unicode_get(c);
    uint32_t mask = MR_GC_MARK | MR_GC_BIT(MR_GC_ND) | MR_GC_BIT(MR_GC_PC);
    return (r->flags & (MR_UNICODE_ALPHABETIC | MR_UNICODE_JOIN_CONTROL)) != 0 || (mask >> r->category & 1u) != 0;
}

static uint32_t map_case(const mr_unicode_case_run *runs, size_t n, uint32_t c) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const mr_unicode_case_run *r = &runs[mid];
        uint32_t last = r->first + (uint32_t)(r->count - 1) * r->stride;
        if (c < r->first) {
            hi = mid;
        } else if (c > last) {
            lo = mid + 1;
        } else {
            return (c - r->first) % r->stride == 0 ? (uint32_t)((int32_t)c + r->delta) : c;
        }
    }
    return c;
}

size_t mr_unicode_lower(uint32_t c, uint32_t out[2]) {
    if (c < 0x80) {
        out[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) { /* the only character whose lower case is two (SpecialCasing.txt) */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = map_case(mr_unicode_lower_runs, mr_unicode_lower_runs_n, c);
    return 1;
}

uint32_t mr_unicode_fold(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return map_case(mr_unicode_fold_runs, mr_unicode_fold_runs_n, c);
}

bool mr_unicode_is_well_formed(const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint64_t word;
        if (len - i >= 8) {
            memcpy(&word, text + i, 8);
            if ((word & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        const uint8_t *s = (const uint8_t *)text + i;
        if (s[0] >= 0xC2 && s[0] < 0xE0 && len - i >= 2 && (s[1] & 0xC0) == 0x80) {
            i += 2;
            continue;
        }
        uint32_t c;
        bool valid;
        i += mr_utf8_decode_checked(text + i, len - i, &c, &valid);
        if (!valid) return false;
    }
    return true;
}

uint8_t mr_unicode_find_script(const char *name, size_t len) {
    for (size_t s = 1; s < mr_unicode_scripts_n; s++) {
        const char *p = mr_unicode_script_names[s];
        size_t i = 0;
        for (; i < len; i++) {
            if (name[i] == '_' || name[i] == '-' || name[i] == ' ') continue;
            while (*p == '_') p++;
            if (tolower((unsigned char)name[i]) != tolower((unsigned char)*p)) break;
            p++;
        }
        if (i == len && *p == '\0') return (uint8_t)s;
    }
    return 0;
}

/* Whether no boundary lies between a and b; `pictograph` says that a ends "pictograph extend* ZWJ", and odd_flags that
 * an odd number of regional indicators ends in a. */
static bool joins(const mr_unicode_record *a, const mr_unicode_record *b, bool pictograph, bool odd_flags) {
    if (a->gcb == MR_GCB_CR) return b->gcb == MR_GCB_LF;
    if (a->gcb == MR_GCB_CONTROL || a->gcb == MR_GCB_LF) return false;
    if (b->gcb == MR_GCB_CONTROL || b->gcb == MR_GCB_LF || b->gcb == MR_GCB_CR) return false;
    if (b->gcb == MR_GCB_EXTEND || b->gcb == MR_GCB_ZWJ || b->gcb == MR_GCB_SPACING) return true;
    if (a->gcb == MR_GCB_PREPEND) return true;
    if (a->gcb == MR_GCB_L)
        return b->gcb == MR_GCB_L || b->gcb == MR_GCB_V || b->gcb == MR_GCB_LV || b->gcb == MR_GCB_LVT;
    if (a->gcb == MR_GCB_LV || a->gcb == MR_GCB_V) return b->gcb == MR_GCB_V || b->gcb == MR_GCB_T;
    if (a->gcb == MR_GCB_LVT || a->gcb == MR_GCB_T) return b->gcb == MR_GCB_T;
    if (a->gcb == MR_GCB_ZWJ && (b->flags & MR_UNICODE_PICTOGRAPH) != 0) return pictograph;
    return a->gcb == MR_GCB_REGIONAL && b->gcb == MR_GCB_REGIONAL && odd_flags;
}

size_t mr_unicode_grapheme(const char *text, size_t len) {
    uint32_t c;
    size_t at = mr_utf8_decode(text, len, &c);
    const mr_unicode_record *a = mr_unicode_get(c);
    bool pictograph = (a->flags & MR_UNICODE_PICTOGRAPH) != 0;
    bool odd_flags = a->gcb == MR_GCB_REGIONAL;
    while (at < len) {
        size_t n = mr_utf8_decode(text + at, len - at, &c);
        const mr_unicode_record *b = mr_unicode_get(c);
        if (!joins(a, b, pictograph, odd_flags)) break;
        if ((b->flags & MR_UNICODE_PICTOGRAPH) != 0) {
            pictograph = true;
        } else if (b->gcb != MR_GCB_EXTEND && b->gcb != MR_GCB_ZWJ) {
            pictograph = false;
        }
        odd_flags = b->gcb == MR_GCB_REGIONAL && !odd_flags;
        a = b;
        at += n;
    }
    return at;
}
