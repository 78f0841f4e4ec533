#include "text/jinja_unicode.h"
#include "text/jinja_unicode_tables.h"

#include "base/utf8.h"

#include <utf8proc.h>

static bool in_ranges(const uint32_t (*ranges)[2], size_t n, uint32_t c) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c < ranges[mid][0]) {
            hi = mid;
        } else if (c > ranges[mid][1]) {
            lo = mid + 1;
        } else {
            return true;
        }
    }
    return false;
}
#define IN_RANGES(table, c) in_ranges(table, sizeof(table) / sizeof(table)[0], c)

static utf8proc_category_t category(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c);
}

bool mr_jj_is_space(uint32_t c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool mr_jj_is_alpha(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool mr_jj_is_decimal(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool mr_jj_is_digit(uint32_t c) {
    return mr_jj_is_decimal(c) || IN_RANGES(digit_ranges, c);
}

bool mr_jj_is_numeric(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
           IN_RANGES(numeric_ranges, c);
}

bool mr_jj_is_alnum(uint32_t c) {
    return mr_jj_is_alpha(c) || mr_jj_is_numeric(c);
}

bool mr_jj_is_lower(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LL || IN_RANGES(other_lower_ranges, c);
}

bool mr_jj_is_upper(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LU || IN_RANGES(other_upper_ranges, c);
}

bool mr_jj_is_title(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LT;
}

bool mr_jj_is_cased(uint32_t c) {
    return mr_jj_is_lower(c) || mr_jj_is_upper(c) || mr_jj_is_title(c);
}

bool mr_jj_is_printable(uint32_t c) {
    if (c == ' ') return true;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

bool mr_jj_is_word(uint32_t c) {
    return c == '_' || mr_jj_is_alnum(c);
}

bool mr_jj_is_identifier_start(uint32_t c) {
    if (c < 0x80) return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!mr_jj_is_alpha(c) && category(c) != UTF8PROC_CATEGORY_NL) return IN_RANGES(other_start_ranges, c);
    return !IN_RANGES(not_start_ranges, c);
}

bool mr_jj_is_identifier_part(uint32_t c) {
    if (c < 0x80) return mr_jj_is_identifier_start(c) || (c >= '0' && c <= '9');
    switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return !IN_RANGES(not_part_ranges, c);
    default:
        return IN_RANGES(other_part_ranges, c);
    }
}

int mr_jj_decimal_value(uint32_t c) {
    if (c < 0x80) return (int)c - '0';
    /* Decimal digits come in runs of ten, so the value is the distance to the run's start. The mathematical digits are
     * five runs without a gap. */
    if (c >= 0x1D7CE && c <= 0x1D7FF) return (int)((c - 0x1D7CE) % 10);
    int value = 0;
    while (value < 9 && mr_jj_is_decimal(c - 1 - (uint32_t)value)) value++;
    return value;
}

static bool put(mr_buf *buf, uint32_t c) {
    char utf8[4];
    return mr_buf_append(buf, utf8, mr_utf8_encode(c, utf8));
}

static bool put_special(mr_buf *buf, const struct special_case *table, size_t n, uint32_t c, bool *done) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (table[mid].from < c) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *done = lo < n && table[lo].from == c;
    for (size_t i = 0; *done && i < 3 && table[lo].to[i] != 0; i++) put(buf, table[lo].to[i]);
    return !buf->failed;
}

static bool put_upper(mr_buf *buf, uint32_t c) {
    if (c < 0x80) return put(buf, c >= 'a' && c <= 'z' ? c - 32 : c);
    bool done;
    put_special(buf, upper_cases, sizeof upper_cases / sizeof *upper_cases, c, &done);
    return done || put(buf, (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

static bool put_title(mr_buf *buf, uint32_t c) {
    if (c < 0x80) return put_upper(buf, c);
    bool done;
    put_special(buf, title_cases, sizeof title_cases / sizeof *title_cases, c, &done);
    return done || put(buf, (uint32_t)utf8proc_totitle((utf8proc_int32_t)c));
}

/* Unicode's Case_Ignorable: characters that the rule for the final sigma looks through. */
static bool is_case_ignorable(uint32_t c) {
    switch (c) {
    case 0x27:
    case 0x2E:
    case 0x3A:
    case 0xB7:
    case 0x387:
    case 0x55F:
    case 0x5F4:
    case 0x2018:
    case 0x2019:
    case 0x2024:
    case 0x2027:
    case 0xFE13:
    case 0xFE52:
    case 0xFE55:
    case 0xFF07:
    case 0xFF0E:
    case 0xFF1A:
        return true;
    default:
        break;
    }
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return false;
    }
}

/* Whether the capital sigma at text[i..i+2) ends a word: a cased letter before it, none after it. */
static bool is_final_sigma(const char *text, size_t len, size_t i) {
    uint32_t c = 0;
    size_t j = i;
    bool before = false;
    while (j > 0) {
        do j--;
        while (j > 0 && ((unsigned char)text[j] & 0xC0) == 0x80);
        mr_utf8_decode(text + j, len - j, &c);
        if (is_case_ignorable(c)) continue;
        before = mr_jj_is_cased(c);
        break;
    }
    if (!before) return false;
    for (j = i + 2; j < len;) {
        j += mr_utf8_decode(text + j, len - j, &c);
        if (!is_case_ignorable(c)) return !mr_jj_is_cased(c);
    }
    return true;
}

static bool put_lower(mr_buf *buf, const char *text, size_t len, size_t i, uint32_t c) {
    if (c < 0x80) return put(buf, c >= 'A' && c <= 'Z' ? c + 32 : c);
    if (c == 0x130) return put(buf, 'i') && put(buf, 0x307);
    if (c == 0x3A3) return put(buf, is_final_sigma(text, len, i) ? 0x3C2 : 0x3C3);
    return put(buf, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

bool mr_jj_put_upper(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        i += mr_utf8_decode(text + i, len - i, &c);
        put_upper(buf, c);
    }
    return !buf->failed;
}

bool mr_jj_put_lower(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + i, len - i, &c);
        put_lower(buf, text, len, i, c);
        i += n;
    }
    return !buf->failed;
}

bool mr_jj_put_title(mr_buf *buf, const char *text, size_t len) {
    bool previous_cased = false;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + i, len - i, &c);
        if (previous_cased) {
            put_lower(buf, text, len, i, c);
        } else {
            put_title(buf, c);
        }
        previous_cased = mr_jj_is_cased(c);
        i += n;
    }
    return !buf->failed;
}

bool mr_jj_put_capitalized(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + i, len - i, &c);
        if (i == 0) {
            put_title(buf, c);
        } else {
            put_lower(buf, text, len, i, c);
        }
        i += n;
    }
    return !buf->failed;
}

bool mr_jj_put_casefold(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        i += mr_utf8_decode(text + i, len - i, &c);
        utf8proc_int32_t folded[8];
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, folded, 8, UTF8PROC_CASEFOLD, &boundary);
        if (n < 1 || n > 8) {
            put(buf, c);
            continue;
        }
        for (utf8proc_ssize_t k = 0; k < n; k++) put(buf, (uint32_t)folded[k]);
    }
    return !buf->failed;
}

bool mr_jj_put_swapcase(mr_buf *buf, const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + i, len - i, &c);
        if (mr_jj_is_upper(c)) {
            put_lower(buf, text, len, i, c);
        } else if (mr_jj_is_lower(c)) {
            put_upper(buf, c);
        } else {
            put(buf, c);
        }
        i += n;
    }
    return !buf->failed;
}
