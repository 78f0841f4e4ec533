/* NFC, NFD, NFKC, NFKD (https://www.unicode.org/reports/tr15/). The mappings are utf8proc's; characters that Unicode 9
 * does not know are left alone, because the reference's data ends there. */
#include "text/normalizer.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A code point with its combining class in the upper byte. */
#define CLASS_SHIFT 24
#define CODE_POINT(x) ((x)&0xFFFFFFu)
#define CLASS(x) ((x) >> CLASS_SHIFT)

static bool known(uint32_t c) {
    return (mr_unicode_get(c)->flags & MR_UNICODE_KNOWN9) != 0;
}

static bool reserve(mr_normalizer_scratch *scratch, size_t n) {
    if (n <= scratch->cap_chars) return true;
    size_t cap = scratch->cap_chars == 0 ? 256 : scratch->cap_chars;
    while (cap < n) cap *= 2;
    uint32_t *chars = realloc(scratch->chars, cap * sizeof *chars);
    if (chars == NULL) return false;
    scratch->chars = chars;
    scratch->cap_chars = cap;
    return true;
}

/* Stable order by combining class; a counting sort, because a text may be one long run of marks. */
static bool sort_marks(uint32_t *marks, size_t n) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            uint32_t mark = marks[i];
            size_t j = i;
            for (; j > 0 && CLASS(marks[j - 1]) > CLASS(mark); j--) marks[j] = marks[j - 1];
            marks[j] = mark;
        }
        return true;
    }
    size_t start[257] = {0};
    uint32_t *sorted = malloc(n * sizeof *sorted);
    if (sorted == NULL) return false;
    for (size_t i = 0; i < n; i++) start[CLASS(marks[i]) + 1]++;
    for (size_t k = 1; k <= 256; k++) start[k] += start[k - 1];
    for (size_t i = 0; i < n; i++) sorted[start[CLASS(marks[i])]++] = marks[i];
    memcpy(marks, sorted, n * sizeof *sorted);
    free(sorted);
    return true;
}

/* Decomposes the text into scratch->chars, in canonical order; *n is their number. */
static bool decompose(mr_normalizer_scratch *scratch, const char *text, size_t len, utf8proc_option_t options,
                      size_t *n) {
    size_t count = 0, run = 0; /* run: where the marks that are not yet in order begin */
    for (size_t i = 0; i < len;) {
        uint32_t c;
        utf8proc_int32_t parts[64];
        int boundary = 0;
        i += mr_utf8_decode(text + i, len - i, &c);
        utf8proc_ssize_t n_parts = 1;
        parts[0] = (utf8proc_int32_t)c;
        bool mapped = c >= 0x80 && known(c);
        if (mapped) n_parts = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 64, options, &boundary);
        if (n_parts < 0 || n_parts > 64) {
            n_parts = 1;
            parts[0] = (utf8proc_int32_t)c;
        }
        if (!reserve(scratch, count + (size_t)n_parts)) return false;
        for (utf8proc_ssize_t k = 0; k < n_parts; k++) {
            uint32_t class = mapped ? (uint32_t)utf8proc_get_property(parts[k])->combining_class : 0;
            if (class == 0) {
                if (count - run > 1 && !sort_marks(scratch->chars + run, count - run)) return false;
                run = count + 1;
            }
            scratch->chars[count++] = (uint32_t)parts[k] | class << CLASS_SHIFT;
        }
    }
    if (count > run && count - run > 1 && !sort_marks(scratch->chars + run, count - run)) return false;
    for (size_t k = 0; k < count; k++) scratch->chars[k] = CODE_POINT(scratch->chars[k]);
    *n = count;
    return true;
}

/* Composes in place, stretch by stretch between unknown characters; returns the new number. */
static size_t compose(uint32_t *chars, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && known(chars[end])) end++;
        utf8proc_ssize_t left = (utf8proc_ssize_t)(end - i);
        if (left > 1) {
            left = utf8proc_normalize_utf32((utf8proc_int32_t *)chars + i, left, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
            if (left < 0) left = (utf8proc_ssize_t)(end - i);
        }
        memmove(chars + out, chars + i, (size_t)left * sizeof *chars);
        out += (size_t)left;
        while (end < n && !known(chars[end])) chars[out++] = chars[end++];
        i = end;
    }
    return out;
}

mr_status mr_normalize_form(mr_step_kind form, mr_normalizer_scratch *scratch, const char *text, size_t len,
                            mr_buf *out, mr_error *err) {
    int options = UTF8PROC_DECOMPOSE;
    if (form == MR_STEP_NFKC || form == MR_STEP_NFKD) options |= UTF8PROC_COMPAT;
    size_t n;
    if (!decompose(scratch, text, len, (utf8proc_option_t)options, &n))
        return mr_fail_nomem(err, len * 4, "normalizing a text");
    if (form == MR_STEP_NFC || form == MR_STEP_NFKC) n = compose(scratch->chars, n);
    mr_buf_reserve(out, len + 16);
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        mr_buf_append(out, utf8, mr_utf8_encode(scratch->chars[i], utf8));
    }
    return out->failed ? mr_fail_nomem(err, len, "normalizing a text") : MR_OK;
}
