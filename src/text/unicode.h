/* Properties of characters, as the libraries behind the reference tokenizers see them. */
#ifndef MR_TEXT_UNICODE_H
#define MR_TEXT_UNICODE_H

#include "text/unicode_tables.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_UNICODE_MAX = 0x10FFFF };

typedef enum mr_unicode_category {
    MR_GC_CN,
    MR_GC_CC,
    MR_GC_CF,
    MR_GC_CO,
    MR_GC_CS,
    MR_GC_LL,
    MR_GC_LM,
    MR_GC_LO,
    MR_GC_LT,
    MR_GC_LU,
    MR_GC_MC,
    MR_GC_ME,
    MR_GC_MN,
    MR_GC_ND,
    MR_GC_NL,
    MR_GC_NO,
    MR_GC_PC,
    MR_GC_PD,
    MR_GC_PE,
    MR_GC_PF,
    MR_GC_PI,
    MR_GC_PO,
    MR_GC_PS,
    MR_GC_SC,
    MR_GC_SK,
    MR_GC_SM,
    MR_GC_SO,
    MR_GC_ZL,
    MR_GC_ZP,
    MR_GC_ZS,
    MR_GC_COUNT
} mr_unicode_category;

typedef enum mr_unicode_gcb {
    MR_GCB_OTHER,
    MR_GCB_CR,
    MR_GCB_LF,
    MR_GCB_CONTROL,
    MR_GCB_EXTEND,
    MR_GCB_ZWJ,
    MR_GCB_REGIONAL,
    MR_GCB_PREPEND,
    MR_GCB_SPACING,
    MR_GCB_L,
    MR_GCB_V,
    MR_GCB_T,
    MR_GCB_LV,
    MR_GCB_LVT
} mr_unicode_gcb;

enum {
    MR_UNICODE_ALPHABETIC = 1,
    MR_UNICODE_PUNCT8 = 2,  /* punctuation in Unicode 8 */
    MR_UNICODE_MN8 = 4,     /* non-spacing mark in Unicode 8 */
    MR_UNICODE_OTHER8 = 8,  /* control, format, private use or surrogate in Unicode 8 */
    MR_UNICODE_MARK9 = 16,  /* any mark in Unicode 9 */
    MR_UNICODE_KNOWN9 = 32, /* assigned in Unicode 9 */
    MR_UNICODE_NUMBER17 = 64,
    MR_UNICODE_PICTOGRAPH = 128,
    MR_UNICODE_JOIN_CONTROL = 256,
};

/* Bit masks of categories. */
#define MR_GC_BIT(category) (1u << (category))
#define MR_GC_LETTER                                                                                                   \
    (MR_GC_BIT(MR_GC_LL) | MR_GC_BIT(MR_GC_LM) | MR_GC_BIT(MR_GC_LO) | MR_GC_BIT(MR_GC_LT) | MR_GC_BIT(MR_GC_LU))
#define MR_GC_MARK (MR_GC_BIT(MR_GC_MC) | MR_GC_BIT(MR_GC_ME) | MR_GC_BIT(MR_GC_MN))
#define MR_GC_NUMBER (MR_GC_BIT(MR_GC_ND) | MR_GC_BIT(MR_GC_NL) | MR_GC_BIT(MR_GC_NO))
#define MR_GC_PUNCTUATION                                                                                              \
    (MR_GC_BIT(MR_GC_PC) | MR_GC_BIT(MR_GC_PD) | MR_GC_BIT(MR_GC_PE) | MR_GC_BIT(MR_GC_PF) | MR_GC_BIT(MR_GC_PI) |     \
     MR_GC_BIT(MR_GC_PO) | MR_GC_BIT(MR_GC_PS))
#define MR_GC_SYMBOL (MR_GC_BIT(MR_GC_SC) | MR_GC_BIT(MR_GC_SK) | MR_GC_BIT(MR_GC_SM) | MR_GC_BIT(MR_GC_SO))

enum { MR_UNICODE_BLOCK = 128, MR_UNICODE_MAX_BLOCKS = 384 };
extern uint16_t mr_unicode_stage1[(MR_UNICODE_MAX + 1) / MR_UNICODE_BLOCK];
extern uint16_t mr_unicode_stage2[MR_UNICODE_MAX_BLOCKS][MR_UNICODE_BLOCK];

/* Indices of scripts that are asked for by name again and again; set by mr_unicode_init. */
extern uint8_t mr_unicode_han, mr_unicode_hiragana, mr_unicode_katakana;

/* Unpacks the tables; call once before anything else here (cheap and safe to call again, from any thread). */
void mr_unicode_init(void);

/* c must be at most MR_UNICODE_MAX. */
static inline const mr_unicode_record *mr_unicode_get(uint32_t c) {
    return &mr_unicode_records[mr_unicode_stage2[mr_unicode_stage1[c / MR_UNICODE_BLOCK]][c % MR_UNICODE_BLOCK]];
}

/* Whether c's category is one of the bits in mask. */
static inline bool mr_unicode_is(uint32_t c, uint32_t mask) {
    return (mask >> mr_unicode_get(c)->category & 1u) != 0;
}

/* The property White_Space (the same 25 characters since Unicode 6.3). */
bool mr_unicode_is_space(uint32_t c);

/* A word character of regular expressions (UTS #18): alphabetic, mark, decimal number, connector, join control. */
bool mr_unicode_is_word(uint32_t c);

/* Lower case of one character: writes 1 or 2 code points and returns their number. */
size_t mr_unicode_lower(uint32_t c, uint32_t out[2]);

/* Simple case folding. */
uint32_t mr_unicode_fold(uint32_t c);

/* Whether text[0..len) is well-formed UTF-8; quicker than mr_utf8_valid on long texts. */
bool mr_unicode_is_well_formed(const char *text, size_t len);

/* Index of a script by name ("Han", case and `_`, `-`, space ignored), or 0. */
uint8_t mr_unicode_find_script(const char *name, size_t len);

/* Bytes of the extended grapheme cluster at the start of text[0..len), len >= 1, valid UTF-8 (UAX #29). Rule GB9c
 * (Indic conjuncts) is left out: such clusters are longer than any caller asks about. */
size_t mr_unicode_grapheme(const char *text, size_t len);

#endif
