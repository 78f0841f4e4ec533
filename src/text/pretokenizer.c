#define _GNU_SOURCE /* memmem */
#include "text/tokenizer_impl.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <string.h>

static const char SPACE[] = " ";

void mr_pretokenizer_free(mr_pretokenizer *p) {
    for (size_t i = 0; i < p->n; i++) mr_regex_free(p->stages[i].regex);
    p->n = 0;
}

mr_status mr_pretokenizer_add(mr_pretokenizer *p, mr_stage stage, mr_error *err) {
    if (p->n == MR_PRETOKENIZER_MAX_STAGES) {
        mr_regex_free(stage.regex);
        return mr_fail(err, MR_ERR_LIMIT, "the pre-tokenizer has more than %d stages", MR_PRETOKENIZER_MAX_STAGES);
    }
    p->stages[p->n++] = stage;
    return MR_OK;
}

mr_status mr_pretokenizer_add_pattern(mr_pretokenizer *p, const char *pattern, size_t len, mr_split_behavior behavior,
                                      bool invert, mr_error *err) {
    mr_stage stage = {.kind = MR_STAGE_REGEX, .behavior = behavior, .invert = invert};
    /* A family leaves no gaps, so all that is asked for by "isolated", "removed + invert" is its pieces. */
    bool pieces = behavior == MR_SPLIT_ISOLATED || (behavior == MR_SPLIT_REMOVED && invert);
    if (pieces && mr_family_find(pattern, len, &stage.family)) {
        stage.kind = MR_STAGE_FAMILY;
    } else {
        mr_status status = mr_regex_compile(&stage.regex, pattern, len, err);
        if (status != MR_OK) return status;
    }
    return mr_pretokenizer_add(p, stage, err);
}

/* The pieces of one stage on their way into the next. */
typedef struct flow {
    mr_encoder *encoder;
    size_t stage; /* that consumes the pieces */
    const char *text;
    bool at_start; /* text[0] is the first character of the input */
    /* split behavior */
    mr_split_behavior behavior;
    bool invert;
    bool have; /* a piece is held back */
    bool held_match;
    size_t held_begin, held_end;
} flow;

static mr_status run_stage(mr_encoder *e, size_t k, const char *text, size_t len, bool at_start);

static mr_status give(flow *f, size_t begin, size_t end) {
    if (begin >= end) return MR_OK;
    return run_stage(f->encoder, f->stage, f->text + begin, end - begin, f->at_start && begin == 0);
}

static mr_status give_held(flow *f) {
    if (!f->have) return MR_OK;
    f->have = false;
    return give(f, f->held_begin, f->held_end);
}

static mr_status hold(flow *f, size_t begin, size_t end, bool match) {
    mr_status status = give_held(f);
    f->have = true;
    f->held_begin = begin;
    f->held_end = end;
    f->held_match = match;
    return status;
}

/* One part of the text, a match of the delimiter or what lies between matches. */
static mr_status part(flow *f, size_t begin, size_t end, bool match) {
    match = match != f->invert;
    switch (f->behavior) {
    case MR_SPLIT_ISOLATED:
        return give(f, begin, end);
    case MR_SPLIT_REMOVED:
        return match ? MR_OK : give(f, begin, end);
    case MR_SPLIT_CONTIGUOUS:
        if (f->have && f->held_match == match) {
            f->held_end = end;
            return MR_OK;
        }
        return hold(f, begin, end, match);
    case MR_SPLIT_MERGED_WITH_PREVIOUS:
        if (f->have && match && !f->held_match) {
            f->held_end = end;
            f->held_match = true;
            return MR_OK;
        }
        return hold(f, begin, end, match);
    case MR_SPLIT_MERGED_WITH_NEXT:
        if (f->have && f->held_match && !match) {
            f->held_end = end;
            f->held_match = false;
            return give_held(f);
        }
        return hold(f, begin, end, match);
    }
    return MR_OK;
}

static mr_status regex_failed(mr_encoder *e, mr_regex_result result) {
    if (result == MR_REGEX_NOMEM) return mr_fail_nomem(e->err, e->regex.cap, "matching the pre-tokenizer's pattern");
    return mr_fail(e->err, MR_ERR_LIMIT, "the pre-tokenizer's pattern backtracks without end on this text");
}

static mr_status split_regex(flow *f, const mr_regex *regex, size_t len) {
    mr_regex_iter iter = {0};
    size_t begin, end, at = 0;
    mr_regex_result result;
    while ((result = mr_regex_next(regex, &f->encoder->regex, f->text, len, &iter, &begin, &end)) == MR_REGEX_FOUND) {
        mr_status status = at < begin ? part(f, at, begin, false) : MR_OK;
        if (status == MR_OK) status = part(f, begin, end, true);
        if (status != MR_OK) return status;
        at = end;
    }
    if (result != MR_REGEX_NONE) return regex_failed(f->encoder, result);
    mr_status status = at < len ? part(f, at, len, false) : MR_OK;
    return status == MR_OK ? give_held(f) : status;
}

static mr_status split_string(flow *f, const char *needle, size_t n, size_t len) {
    size_t at = 0;
    mr_status status = MR_OK;
    while (n > 0 && status == MR_OK) {
        const char *hit = memmem(f->text + at, len - at, needle, n);
        if (hit == NULL) break;
        size_t begin = (size_t)(hit - f->text);
        if (at < begin) status = part(f, at, begin, false);
        if (status == MR_OK) status = part(f, begin, begin + n, true);
        at = begin + n;
    }
    if (status == MR_OK && at < len) status = part(f, at, len, false);
    return status == MR_OK ? give_held(f) : status;
}

static mr_status split_family(flow *f, const mr_family *family, size_t len) {
    for (size_t at = 0; at < len;) {
        size_t end = mr_family_next(family, f->text, len, at);
        mr_status status = give(f, at, end);
        if (status != MR_OK) return status;
        at = end;
    }
    return MR_OK;
}

static bool is_numeric(uint32_t c) {
    return (mr_unicode_get(c)->flags & MR_UNICODE_NUMBER17) != 0;
}

static bool is_punctuation(uint32_t c) {
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    return (mr_unicode_get(c)->flags & MR_UNICODE_PUNCT8) != 0;
}

/* Each character for which is_delimiter holds is a match. */
static mr_status split_chars(flow *f, bool (*is_delimiter)(uint32_t), size_t len) {
    size_t at = 0;
    mr_status status = MR_OK;
    for (size_t i = 0; i < len && status == MR_OK;) {
        uint32_t c;
        size_t n = mr_utf8_decode(f->text + i, len - i, &c);
        if (is_delimiter(c)) {
            if (at < i) status = part(f, at, i, false);
            if (status == MR_OK) status = part(f, i, i + n, true);
            at = i + n;
        }
        i += n;
    }
    if (status == MR_OK && at < len) status = part(f, at, len, false);
    return status == MR_OK ? give_held(f) : status;
}

typedef enum char_class { CLASS_SPACE, CLASS_WORD, CLASS_SYMBOL } char_class;

static char_class class_of(uint32_t c) {
    if (mr_unicode_is_space(c)) return CLASS_SPACE;
    bool word = mr_unicode_is_word(c) || (mr_unicode_get(c)->flags & MR_UNICODE_JOIN_CONTROL) != 0;
    return word ? CLASS_WORD : CLASS_SYMBOL;
}

/* \w+|[^\w\s]+ */
static mr_status split_whitespace(flow *f, size_t len) {
    size_t at = 0;
    char_class current = CLASS_SPACE;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(f->text + i, len - i, &c);
        char_class next = class_of(c);
        if (next != current) {
            mr_status status = current == CLASS_SPACE ? MR_OK : give(f, at, i);
            if (status != MR_OK) return status;
            at = i;
            current = next;
        }
        i += n;
    }
    return current == CLASS_SPACE ? MR_OK : give(f, at, len);
}

/* SentencePiece's idea of a script: kana count as Han, a space belongs to every script. 0 is "any". */
static uint8_t script_of(uint32_t c) {
    if (c == 0x30FC) return mr_unicode_han;
    if (c == ' ') return 0;
    uint8_t script = mr_unicode_get(c)->script9;
    return script == mr_unicode_hiragana || script == mr_unicode_katakana ? mr_unicode_han : script;
}

static mr_status split_scripts(flow *f, size_t len) {
    size_t at = 0;
    bool any_yet = false, have_last = false, started = false;
    uint8_t last = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(f->text + i, len - i, &c);
        uint8_t script = script_of(c);
        if (script != 0 && (!have_last || script != last)) {
            if (started) {
                mr_status status = give(f, at, i);
                if (status != MR_OK) return status;
            }
            started = true;
            at = i;
        }
        if (script != 0) {
            last = script;
            have_last = true;
        }
        any_yet = true;
        i += n;
    }
    return any_yet && started ? give(f, at, len) : MR_OK;
}

static mr_status split_fixed(flow *f, size_t length, size_t len) {
    size_t at = 0, count = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        i += mr_utf8_decode(f->text + i, len - i, &c);
        if (++count < length && i < len) continue;
        mr_status status = give(f, at, i);
        if (status != MR_OK) return status;
        at = i;
        count = 0;
    }
    return MR_OK;
}

static mr_status no_memory(mr_encoder *e, size_t n) {
    return mr_fail_nomem(e->err, n, "pre-tokenizing a text");
}

/* Spaces become the replacement; one is put in front; then the text is cut in front of each replacement. */
static mr_status run_metaspace(mr_encoder *e, size_t k, const mr_stage *stage, const char *text, size_t len,
                               bool at_start) {
    mr_buf *out = &e->stage_text[k];
    mr_buf_clear(out);
    bool has_mark = len > 0 && (text[0] == ' ' || (len >= stage->len && memcmp(text, stage->text, stage->len) == 0));
    bool prepend = stage->prepend == MR_PREPEND_ALWAYS || (stage->prepend == MR_PREPEND_FIRST && at_start);
    mr_buf_reserve(out, len + len / 2 + 8);
    if (prepend && !has_mark) mr_buf_append(out, stage->text, stage->len);
    for (size_t at = 0; at < len;) {
        const char *space = memchr(text + at, ' ', len - at);
        size_t end = space == NULL ? len : (size_t)(space - text);
        mr_buf_append(out, text + at, end - at);
        if (space != NULL) mr_buf_append(out, stage->text, stage->len);
        at = end + (space != NULL);
    }
    if (out->failed) return no_memory(e, len);
    if (!stage->split) return run_stage(e, k + 1, out->data, out->len, at_start);
    flow f = {
        .encoder = e, .stage = k + 1, .text = out->data, .at_start = at_start, .behavior = MR_SPLIT_MERGED_WITH_NEXT};
    return split_string(&f, stage->text, stage->len, out->len);
}

static mr_status run_byte_level(mr_encoder *e, size_t k, const mr_stage *stage, const char *text, size_t len,
                                bool at_start) {
    bool prefix = stage->add_prefix_space && (len == 0 || text[0] != ' ');
    if (!prefix && !stage->map_bytes) return run_stage(e, k + 1, text, len, at_start);
    mr_buf *out = &e->stage_text[k];
    mr_buf_clear(out);
    mr_buf_reserve(out, 2 * len + 2);
    if (!stage->map_bytes) {
        mr_buf_append(out, SPACE, prefix);
        mr_buf_append(out, text, len);
    } else {
        for (size_t i = 0; i < len + prefix; i++) {
            char letter[4];
            uint8_t byte = prefix && i == 0 ? ' ' : (uint8_t)text[i - prefix];
            mr_buf_append(out, letter, mr_utf8_encode(mr_byte_level_char(byte), letter));
        }
    }
    if (out->failed) return no_memory(e, 2 * len);
    return run_stage(e, k + 1, out->data, out->len, at_start);
}

static mr_status run_stage(mr_encoder *e, size_t k, const char *text, size_t len, bool at_start) {
    const mr_pretokenizer *p = &e->tokenizer->pretokenizer;
    if (k == p->n) return mr_encoder_model(e, text, len);
    const mr_stage *stage = &p->stages[k];
    flow f = {.encoder = e,
              .stage = k + 1,
              .text = text,
              .at_start = at_start,
              .behavior = stage->behavior,
              .invert = stage->invert};
    switch (stage->kind) {
    case MR_STAGE_REGEX:
        return split_regex(&f, stage->regex, len);
    case MR_STAGE_STRING:
        return split_string(&f, stage->text, stage->len, len);
    case MR_STAGE_FAMILY:
        return split_family(&f, &stage->family, len);
    case MR_STAGE_BYTE_LEVEL:
        return run_byte_level(e, k, stage, text, len, at_start);
    case MR_STAGE_METASPACE:
        return run_metaspace(e, k, stage, text, len, at_start);
    case MR_STAGE_DIGITS:
        f.behavior = stage->individual ? MR_SPLIT_ISOLATED : MR_SPLIT_CONTIGUOUS;
        return split_chars(&f, is_numeric, len);
    case MR_STAGE_WHITESPACE:
        return split_whitespace(&f, len);
    case MR_STAGE_WHITESPACE_SPLIT:
        f.behavior = MR_SPLIT_REMOVED;
        return split_chars(&f, mr_unicode_is_space, len);
    case MR_STAGE_BERT: /* the loader adds the white-space split in front */
        f.behavior = MR_SPLIT_ISOLATED;
        return split_chars(&f, is_punctuation, len);
    case MR_STAGE_PUNCTUATION:
        return split_chars(&f, is_punctuation, len);
    case MR_STAGE_DELIMITER:
        f.behavior = MR_SPLIT_REMOVED;
        return split_string(&f, stage->text, stage->len, len);
    case MR_STAGE_SCRIPTS:
        return split_scripts(&f, len);
    case MR_STAGE_FIXED_LENGTH:
        return split_fixed(&f, stage->length, len);
    }
    return MR_OK;
}

mr_status mr_pretokenizer_run(mr_encoder *encoder, const char *text, size_t len, bool at_start) {
    return run_stage(encoder, 0, text, len, at_start);
}
