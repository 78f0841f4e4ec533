#define _GNU_SOURCE /* memmem */
#include "text/normalizer.h"

#include "base/utf8.h"
#include "text/tokenizer_added.h"
#include "text/tokenizer_vocab.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

mr_status mr_normalizer_add(mr_normalizer *normalizer, mr_step step, mr_error *err) {
    if (normalizer->n == MR_NORMALIZER_MAX_STEPS) {
        mr_regex_free(step.regex);
        mr_charsmap_free(&step.map);
        return mr_fail(err, MR_ERR_LIMIT, "the normalizer has more than %d steps", MR_NORMALIZER_MAX_STEPS);
    }
    normalizer->steps[normalizer->n++] = step;
    return MR_OK;
}

void mr_normalizer_free(mr_normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->n; i++) {
        mr_regex_free(normalizer->steps[i].regex);
        mr_charsmap_free(&normalizer->steps[i].map);
    }
    normalizer->n = 0;
}

void mr_normalizer_scratch_free(mr_normalizer_scratch *scratch) {
    mr_buf_free(&scratch->text[0]);
    mr_buf_free(&scratch->text[1]);
    mr_regex_scratch_free(&scratch->regex);
    free(scratch->chars);
    *scratch = (mr_normalizer_scratch){0};
}

static void put_char(mr_buf *out, uint32_t c) {
    char utf8[4];
    mr_buf_append(out, utf8, mr_utf8_encode(c, utf8));
}

/* What a step that looks at one character at a time does with it: number of code points written to to[], 0 to drop. */
typedef size_t (*char_map)(const mr_step *step, uint32_t c, uint32_t to[3]);

static size_t map_lower(const mr_step *step, uint32_t c, uint32_t to[3]) {
    (void)step;
    return mr_unicode_lower(c, to);
}

static size_t map_strip_accents(const mr_step *step, uint32_t c, uint32_t to[3]) {
    (void)step;
    to[0] = c;
    return (mr_unicode_get(c)->flags & MR_UNICODE_MARK9) != 0 ? 0 : 1;
}

static size_t map_strip_nonspacing(const mr_step *step, uint32_t c, uint32_t to[3]) {
    (void)step;
    to[0] = c;
    return (mr_unicode_get(c)->flags & MR_UNICODE_MN8) != 0 ? 0 : 1;
}

/* The "nmt" rules of SentencePiece: some controls go, odd spaces become spaces. */
static size_t map_nmt(const mr_step *step, uint32_t c, uint32_t to[3]) {
    (void)step;
    to[0] = c;
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return 0;
    bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                 c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    if (space) to[0] = ' ';
    return 1;
}

/* The blocks that BERT treats as Chinese, with the reference's U+2B920 for U+2B820. */
static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The first half of BERT's normalizer: controls go, white space becomes a space, spaces go around Chinese characters.
 */
static size_t map_bert(const mr_step *step, uint32_t c, uint32_t to[3]) {
    to[0] = c;
    if (step->clean) {
        bool line = c == '\t' || c == '\n' || c == '\r';
        if (c == 0 || c == 0xFFFD || (!line && (mr_unicode_get(c)->flags & MR_UNICODE_OTHER8) != 0)) return 0;
        if (line || mr_unicode_is_space(c)) to[0] = ' ';
    }
    if (!step->chinese || !is_chinese(c)) return 1;
    to[0] = to[2] = ' ';
    to[1] = c;
    return 3;
}

static void map_chars(const mr_step *step, char_map map, const char *text, size_t len, mr_buf *out, bool *at_start) {
    bool any = false;
    for (size_t i = 0; i < len;) {
        uint32_t c, to[3];
        i += mr_utf8_decode(text + i, len - i, &c);
        size_t n = map(step, c, to);
        for (size_t k = 0; k < n; k++) put_char(out, to[k]);
        if (n == 0 && !any) *at_start = false;
        any = true;
    }
}

static void strip(const mr_step *step, const char *text, size_t len, mr_buf *out, bool *at_start) {
    size_t begin = 0, end = len;
    uint32_t c;
    while (step->left && begin < end) {
        size_t n = mr_utf8_decode(text + begin, end - begin, &c);
        if (!mr_unicode_is_space(c)) break;
        begin += n;
    }
    while (step->right && end > begin) {
        size_t last = end - 1;
        while (last > begin && ((uint8_t)text[last] & 0xC0) == 0x80) last--;
        mr_utf8_decode(text + last, end - last, &c);
        if (!mr_unicode_is_space(c)) break;
        end = last;
    }
    if (begin > 0) *at_start = false;
    mr_buf_append(out, text + begin, end - begin);
}

static mr_status replace(const mr_step *step, mr_normalizer_scratch *scratch, const char *text, size_t len, mr_buf *out,
                         bool *at_start, mr_error *err) {
    size_t at = 0, begin, end;
    mr_regex_iter iter = {0};
    for (;;) {
        if (step->regex != NULL) {
            mr_regex_result result = mr_regex_next(step->regex, &scratch->regex, text, len, &iter, &begin, &end);
            if (result == MR_REGEX_NOMEM) return mr_fail_nomem(err, len, "normalizing a text");
            if (result == MR_REGEX_LIMIT)
                return mr_fail(err, MR_ERR_LIMIT, "the normalizer's pattern backtracks without end on this text");
            if (result == MR_REGEX_NONE) break;
        } else {
            const char *hit =
                step->pattern_len == 0 ? NULL : memmem(text + at, len - at, step->pattern, step->pattern_len);
            if (hit == NULL) break;
            begin = (size_t)(hit - text);
            end = begin + step->pattern_len;
        }
        if (begin == 0 && end > 0 && step->content_len == 0) *at_start = false;
        mr_buf_append(out, text + at, begin - at);
        mr_buf_append(out, step->content, step->content_len);
        at = end;
    }
    mr_buf_append(out, text + at, len - at);
    return MR_OK;
}

/* Hugging Face looks up whole short grapheme clusters, then single characters, and takes the shortest key. */
static void precompiled(const mr_charsmap *map, const char *text, size_t len, mr_buf *out, bool *at_start) {
    for (size_t at = 0; at < len;) {
        size_t cluster = mr_unicode_grapheme(text + at, len - at);
        size_t used, n;
        const char *to = cluster < 6 ? mr_charsmap_find(map, text + at, cluster, false, &used, &n) : NULL;
        if (to != NULL) {
            mr_buf_append(out, to, n);
            if (at == 0 && n == 0) *at_start = false;
            at += cluster;
            continue;
        }
        for (size_t end = at + cluster; at < end;) {
            uint32_t c;
            size_t width = mr_utf8_decode(text + at, end - at, &c);
            to = mr_charsmap_find(map, text + at, width, false, &used, &n);
            if (at == 0 && to != NULL && n == 0) *at_start = false;
            if (to == NULL) {
                mr_buf_append(out, text + at, width);
            } else {
                mr_buf_append(out, to, n);
            }
            at += width;
        }
    }
}

static const char SPACE_MARK[] = "\xE2\x96\x81";

/* What the text at text[0..len) begins with becomes: a kept text itself, the longest key its replacement, else one
 * character itself. */
static const char *next_piece(const mr_step *step, const char *text, size_t len, size_t *used, size_t *n) {
    size_t kept = step->keep == NULL ? 0 : mr_added_trie_match(&step->keep->normalized, text, len);
    if (kept > 0) {
        *used = *n = kept;
        return text;
    }
    const char *to = mr_charsmap_find(&step->map, text, len, true, used, n);
    if (to != NULL) return to;
    uint32_t c;
    *used = *n = mr_utf8_decode(text, len, &c);
    return text;
}

/* SentencePiece: runs of spaces become one and go at the ends, a space comes in front, spaces become U+2581
 * (https://github.com/google/sentencepiece, normalizer.cc). */
static void sentencepiece(const mr_step *step, const char *text, size_t len, mr_buf *out) {
    const char *space = step->escape_spaces ? SPACE_MARK : " ";
    size_t n_space = strlen(space), at = 0, used, n;
    for (; step->remove_extra_spaces && at < len; at += used) { /* what becomes a space in front of the text */
        const char *piece = next_piece(step, text + at, len - at, &used, &n);
        if (n != 1 || piece[0] != ' ') break;
    }
    if (at >= len) return;
    if (step->add_dummy_prefix && !step->suffix_space) mr_buf_append(out, space, n_space);
    bool after_space = step->remove_extra_spaces;
    for (; at < len; at += used) {
        const char *piece = next_piece(step, text + at, len - at, &used, &n);
        while (after_space && n > 0 && piece[0] == ' ') {
            piece++;
            n--;
        }
        for (size_t i = 0; i < n; i++) {
            if (piece[i] == ' ') {
                mr_buf_append(out, space, n_space);
            } else {
                mr_buf_putc(out, piece[i]);
            }
        }
        if (n > 0) after_space = step->remove_extra_spaces && piece[n - 1] == ' ';
    }
    if (step->remove_extra_spaces) {
        while (out->len >= n_space && memcmp(out->data + out->len - n_space, space, n_space) == 0) out->len -= n_space;
        if (out->data != NULL) out->data[out->len] = '\0';
    }
    if (step->add_dummy_prefix && step->suffix_space) mr_buf_append(out, space, n_space);
}

static void byte_level(const char *text, size_t len, mr_buf *out) {
    for (size_t i = 0; i < len; i++) put_char(out, mr_byte_level_char((uint8_t)text[i]));
}

static bool is_ascii(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)text[i] >= 0x80) return false;
    }
    return true;
}

static mr_status bert(const mr_step *step, mr_normalizer_scratch *scratch, const char *text, size_t len, mr_buf *out,
                      bool *at_start, mr_error *err) {
    mr_buf a = {0}, b = {0};
    mr_status status = MR_OK;
    map_chars(step, map_bert, text, len, &a, at_start);
    if (step->strip_accents && !is_ascii(mr_buf_cstr(&a), a.len)) {
        status = mr_normalize_form(MR_STEP_NFD, scratch, mr_buf_cstr(&a), a.len, &b, err);
        mr_buf_clear(&a);
        map_chars(step, map_strip_nonspacing, mr_buf_cstr(&b), b.len, &a, at_start);
    }
    if (step->lowercase) {
        map_chars(step, map_lower, mr_buf_cstr(&a), a.len, out, at_start);
    } else {
        mr_buf_append(out, mr_buf_cstr(&a), a.len);
    }
    if (a.failed || b.failed) out->failed = true;
    mr_buf_free(&a);
    mr_buf_free(&b);
    return status;
}

static mr_status run_step(const mr_step *step, mr_normalizer_scratch *scratch, const char *text, size_t len,
                          mr_buf *out, bool *at_start, mr_error *err) {
    switch (step->kind) {
    case MR_STEP_NFC:
    case MR_STEP_NFD:
    case MR_STEP_NFKC:
    case MR_STEP_NFKD:
        return mr_normalize_form(step->kind, scratch, text, len, out, err);
    case MR_STEP_LOWERCASE:
        map_chars(step, map_lower, text, len, out, at_start);
        break;
    case MR_STEP_STRIP:
        strip(step, text, len, out, at_start);
        break;
    case MR_STEP_STRIP_ACCENTS:
        map_chars(step, map_strip_accents, text, len, out, at_start);
        break;
    case MR_STEP_REPLACE:
        return replace(step, scratch, text, len, out, at_start, err);
    case MR_STEP_PREPEND:
        if (len > 0) mr_buf_append(out, step->content, step->content_len);
        mr_buf_append(out, text, len);
        break;
    case MR_STEP_BERT:
        return bert(step, scratch, text, len, out, at_start, err);
    case MR_STEP_PRECOMPILED:
        precompiled(&step->map, text, len, out, at_start);
        break;
    case MR_STEP_SENTENCEPIECE:
        sentencepiece(step, text, len, out);
        break;
    case MR_STEP_NMT:
        map_chars(step, map_nmt, text, len, out, at_start);
        break;
    case MR_STEP_BYTE_LEVEL:
        byte_level(text, len, out);
        break;
    }
    return MR_OK;
}

mr_status mr_normalizer_run(const mr_normalizer *normalizer, mr_normalizer_scratch *scratch, const char **text,
                            size_t *len, bool *at_start, mr_error *err) {
    for (size_t i = 0; i < normalizer->n; i++) {
        const mr_step *step = &normalizer->steps[i];
        bool form = step->kind == MR_STEP_NFC || step->kind == MR_STEP_NFD || step->kind == MR_STEP_NFKC ||
                    step->kind == MR_STEP_NFKD;
        if (form && is_ascii(*text, *len)) continue;
        mr_buf *out = &scratch->text[*text == scratch->text[0].data ? 1 : 0]; /* the one that does not hold the text */
        mr_buf_clear(out);
        mr_buf_reserve(out, *len + *len / 2 + 16);
        mr_status status = run_step(step, scratch, *text, *len, out, at_start, err);
        if (status != MR_OK) return status;
        if (out->failed) return mr_fail_nomem(err, *len, "normalizing a text");
        *text = mr_buf_cstr(out);
        *len = out->len;
    }
    return MR_OK;
}
