/* Normalizers, pre-tokenizers, decoders and post-processors of tokenizer.json. */
#include "text/tokenizer_hf.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 16 };

mr_status mr_hf_text(mr_tokenizer *t, const mr_json_value *json, const char *what, const char **text, size_t *len,
                     mr_error *err) {
    if (!mr_json_is(json, MR_JSON_STRING))
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: %s must be a string", what);
    *len = json->len;
    *text = mr_arena_strndup(&t->arena, json->text, json->len);
    return *text != NULL ? MR_OK : mr_fail_nomem(err, json->len, "tokenizer.json");
}

static mr_status unknown_type(const char *part, const mr_json_value *type, mr_error *err) {
    if (!mr_json_is(type, MR_JSON_STRING))
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: a %s has no \"type\"", part);
    return mr_fail(err, MR_ERR_UNSUPPORTED, "tokenizer.json: unknown %s \"%.*s\"", part,
                   (int)(type->len < 64 ? type->len : 64), type->text);
}

/* Calls load on each part in the array `members`. */
typedef mr_status (*part_loader)(mr_tokenizer *t, const mr_json_value *json, unsigned depth, mr_error *err);

static mr_status load_sequence(mr_tokenizer *t, const mr_json_value *members, part_loader load, unsigned depth,
                               mr_error *err) {
    if (!mr_json_is(members, MR_JSON_ARRAY))
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: a Sequence has no list");
    if (depth >= MAX_NESTING) return mr_fail(err, MR_ERR_LIMIT, "tokenizer.json: Sequences are nested too deeply");
    const mr_json_value *member = mr_json_first(members);
    for (uint32_t i = 0; i < members->len; i++, member = mr_json_next(member)) {
        mr_status status = load(t, member, depth + 1, err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* {"String": text} or {"Regex": pattern} */
static const mr_json_value *pattern_of(const mr_json_value *json, bool *regex) {
    const mr_json_value *pattern = mr_json_get(json, "pattern");
    if (mr_json_is(pattern, MR_JSON_STRING)) {
        *regex = false;
        return pattern;
    }
    const mr_json_value *text = mr_json_get(pattern, "String");
    *regex = text == NULL;
    return text != NULL ? text : mr_json_get(pattern, "Regex");
}

/* ---- normalizers ---- */

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static mr_status load_charsmap(mr_tokenizer *t, const mr_json_value *json, mr_charsmap *map, mr_error *err) {
    if (!mr_json_is(json, MR_JSON_STRING))
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: Precompiled has no map");
    char *bytes = mr_arena_alloc(&t->arena, (size_t)json->len / 4 * 3 + 3);
    if (bytes == NULL) return mr_fail_nomem(err, json->len, "the precompiled character map");
    size_t n = 0;
    uint32_t bits = 0, n_bits = 0;
    for (uint32_t i = 0; i < json->len && json->text[i] != '='; i++) {
        int value = base64_value(json->text[i]);
        if (value < 0) return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: Precompiled's map is not base64");
        bits = bits << 6 | (uint32_t)value;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            bytes[n++] = (char)(bits >> n_bits);
            bits &= (1u << n_bits) - 1;
        }
    }
    return mr_charsmap_read(map, bytes, n, err);
}

static mr_status load_replace(mr_tokenizer *t, const mr_json_value *json, mr_step *step, mr_error *err) {
    bool regex;
    const mr_json_value *pattern = pattern_of(json, &regex);
    mr_status status = mr_hf_text(t, pattern, "Replace's pattern", &step->pattern, &step->pattern_len, err);
    if (status == MR_OK) {
        status =
            mr_hf_text(t, mr_json_get(json, "content"), "Replace's content", &step->content, &step->content_len, err);
    }
    if (status != MR_OK || !(regex || step->pattern_len == 0)) return status;
    return mr_regex_compile(&step->regex, step->pattern, step->pattern_len, err);
}

static const struct {
    const char *type;
    mr_step_kind kind;
} plain_steps[] = {{"NFC", MR_STEP_NFC},
                   {"NFD", MR_STEP_NFD},
                   {"NFKC", MR_STEP_NFKC},
                   {"NFKD", MR_STEP_NFKD},
                   {"Lowercase", MR_STEP_LOWERCASE},
                   {"StripAccents", MR_STEP_STRIP_ACCENTS},
                   {"Nmt", MR_STEP_NMT},
                   {"ByteLevel", MR_STEP_BYTE_LEVEL}};

static mr_status load_normalizer(mr_tokenizer *t, const mr_json_value *json, unsigned depth, mr_error *err) {
    const mr_json_value *type = mr_json_get(json, "type");
    if (mr_json_is_text(type, "Sequence")) {
        return load_sequence(t, mr_json_get(json, "normalizers"), load_normalizer, depth, err);
    }
    mr_step step = {0};
    mr_status status = MR_OK;
    if (mr_json_is_text(type, "BertNormalizer")) {
        step.kind = MR_STEP_BERT;
        step.clean = mr_json_bool(mr_json_get(json, "clean_text"), true);
        step.chinese = mr_json_bool(mr_json_get(json, "handle_chinese_chars"), true);
        step.lowercase = mr_json_bool(mr_json_get(json, "lowercase"), true);
        step.strip_accents = mr_json_bool(mr_json_get(json, "strip_accents"), step.lowercase);
    } else if (mr_json_is_text(type, "Strip")) {
        step.kind = MR_STEP_STRIP;
        step.left = mr_json_bool(mr_json_get(json, "strip_left"), true);
        step.right = mr_json_bool(mr_json_get(json, "strip_right"), true);
    } else if (mr_json_is_text(type, "Prepend")) {
        step.kind = MR_STEP_PREPEND;
        status = mr_hf_text(t, mr_json_get(json, "prepend"), "Prepend's text", &step.content, &step.content_len, err);
    } else if (mr_json_is_text(type, "Replace")) {
        step.kind = MR_STEP_REPLACE;
        status = load_replace(t, json, &step, err);
    } else if (mr_json_is_text(type, "Precompiled")) {
        step.kind = MR_STEP_PRECOMPILED;
        status = load_charsmap(t, mr_json_get(json, "precompiled_charsmap"), &step.map, err);
    } else {
        size_t i = 0, n = sizeof plain_steps / sizeof plain_steps[0];
        while (i < n && !mr_json_is_text(type, plain_steps[i].type)) i++;
        if (i == n) return unknown_type("normalizer", type, err);
        step.kind = plain_steps[i].kind;
    }
    if (status != MR_OK) {
        mr_regex_free(step.regex);
        mr_charsmap_free(&step.map);
        return status;
    }
    return mr_normalizer_add(&t->normalizer, step, err);
}

mr_status mr_hf_normalizer(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    if (json == NULL || mr_json_is(json, MR_JSON_NULL)) return MR_OK;
    return load_normalizer(t, json, 0, err);
}

/* ---- pre-tokenizers ---- */

static bool read_behavior(const mr_json_value *json, mr_split_behavior *behavior) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!mr_json_is_text(json, names[i])) continue;
        *behavior = (mr_split_behavior)i; /* the names are in the order of the enumeration */
        return true;
    }
    return false;
}

static mr_status load_split(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    bool regex;
    mr_stage stage = {.kind = MR_STAGE_STRING, .invert = mr_json_bool(mr_json_get(json, "invert"), false)};
    if (!read_behavior(mr_json_get(json, "behavior"), &stage.behavior)) {
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: a Split has no behavior that is known");
    }
    const mr_json_value *pattern = pattern_of(json, &regex);
    mr_status status = mr_hf_text(t, pattern, "Split's pattern", &stage.text, &stage.len, err);
    if (status != MR_OK) return status;
    if (regex || stage.len == 0) {
        return mr_pretokenizer_add_pattern(&t->pretokenizer, stage.text, stage.len, stage.behavior, stage.invert, err);
    }
    return mr_pretokenizer_add(&t->pretokenizer, stage, err);
}

static mr_status load_byte_level(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    mr_pretokenizer *p = &t->pretokenizer;
    mr_status status = MR_OK;
    if (mr_json_bool(mr_json_get(json, "add_prefix_space"), true)) {
        status = mr_pretokenizer_add(p, (mr_stage){.kind = MR_STAGE_BYTE_LEVEL, .add_prefix_space = true}, err);
    }
    if (status == MR_OK && mr_json_bool(mr_json_get(json, "use_regex"), true)) {
        status = mr_pretokenizer_add_pattern(p, gpt2, strlen(gpt2), MR_SPLIT_ISOLATED, false, err);
    }
    if (status != MR_OK) return status;
    return mr_pretokenizer_add(p, (mr_stage){.kind = MR_STAGE_BYTE_LEVEL, .map_bytes = true}, err);
}

static mr_prepend_scheme read_scheme(const mr_json_value *json) {
    const mr_json_value *scheme = mr_json_get(json, "prepend_scheme");
    if (mr_json_is_text(scheme, "never") || !mr_json_bool(mr_json_get(json, "add_prefix_space"), true))
        return MR_PREPEND_NEVER;
    return mr_json_is_text(scheme, "first") ? MR_PREPEND_FIRST : MR_PREPEND_ALWAYS;
}

static mr_status load_metaspace(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    mr_stage stage = {.kind = MR_STAGE_METASPACE, .prepend = read_scheme(json)};
    stage.split = mr_json_bool(mr_json_get(json, "split"), true);
    mr_status status =
        mr_hf_text(t, mr_json_get(json, "replacement"), "Metaspace's replacement", &stage.text, &stage.len, err);
    if (status == MR_OK && stage.len == 0)
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: Metaspace has no replacement");
    return status == MR_OK ? mr_pretokenizer_add(&t->pretokenizer, stage, err) : status;
}

static mr_status load_pretokenizer(mr_tokenizer *t, const mr_json_value *json, unsigned depth, mr_error *err) {
    const mr_json_value *type = mr_json_get(json, "type");
    mr_pretokenizer *p = &t->pretokenizer;
    mr_stage stage = {0};
    mr_status status = MR_OK;
    if (mr_json_is_text(type, "Sequence")) {
        return load_sequence(t, mr_json_get(json, "pretokenizers"), load_pretokenizer, depth, err);
    }
    if (mr_json_is_text(type, "ByteLevel")) return load_byte_level(t, json, err);
    if (mr_json_is_text(type, "Split")) return load_split(t, json, err);
    if (mr_json_is_text(type, "Metaspace")) return load_metaspace(t, json, err);
    if (mr_json_is_text(type, "Digits")) {
        stage.kind = MR_STAGE_DIGITS;
        stage.individual = mr_json_bool(mr_json_get(json, "individual_digits"), false);
    } else if (mr_json_is_text(type, "Whitespace")) {
        stage.kind = MR_STAGE_WHITESPACE;
    } else if (mr_json_is_text(type, "WhitespaceSplit")) {
        stage.kind = MR_STAGE_WHITESPACE_SPLIT;
    } else if (mr_json_is_text(type, "BertPreTokenizer")) {
        stage.kind = MR_STAGE_BERT;
        status = mr_pretokenizer_add(p, (mr_stage){.kind = MR_STAGE_WHITESPACE_SPLIT}, err);
    } else if (mr_json_is_text(type, "Punctuation")) {
        stage.kind = MR_STAGE_PUNCTUATION;
        stage.behavior = MR_SPLIT_ISOLATED;
        read_behavior(mr_json_get(json, "behavior"), &stage.behavior);
    } else if (mr_json_is_text(type, "CharDelimiterSplit") || mr_json_is_text(type, "Delimiter")) {
        stage.kind = MR_STAGE_DELIMITER;
        status = mr_hf_text(t, mr_json_get(json, "delimiter"), "CharDelimiterSplit's delimiter", &stage.text,
                            &stage.len, err);
    } else if (mr_json_is_text(type, "UnicodeScripts")) {
        stage.kind = MR_STAGE_SCRIPTS;
    } else if (mr_json_is_text(type, "FixedLength")) {
        uint32_t length = 5;
        mr_json_u32(mr_json_get(json, "length"), &length);
        if (length == 0) return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: FixedLength's length is 0");
        stage.kind = MR_STAGE_FIXED_LENGTH;
        stage.length = length;
    } else {
        return unknown_type("pre-tokenizer", type, err);
    }
    return status == MR_OK ? mr_pretokenizer_add(p, stage, err) : status;
}

mr_status mr_hf_pretokenizer(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    if (json == NULL || mr_json_is(json, MR_JSON_NULL)) return MR_OK;
    return load_pretokenizer(t, json, 0, err);
}

/* ---- decoders ---- */

static mr_status load_decoder_replace(mr_tokenizer *t, const mr_json_value *json, mr_decoder_op *op, mr_error *err) {
    bool regex;
    const mr_json_value *pattern = pattern_of(json, &regex);
    mr_status status = mr_hf_text(t, pattern, "Replace's pattern", &op->text, &op->len, err);
    if (status == MR_OK) {
        status = mr_hf_text(t, mr_json_get(json, "content"), "Replace's content", &op->content, &op->content_len, err);
    }
    if (status != MR_OK || !(regex || op->len == 0)) return status;
    return mr_regex_compile(&op->regex, op->text, op->len, err);
}

static mr_status load_decoder(mr_tokenizer *t, const mr_json_value *json, unsigned depth, mr_error *err) {
    const mr_json_value *type = mr_json_get(json, "type");
    mr_decoder_op op = {0};
    mr_status status = MR_OK;
    if (mr_json_is_text(type, "Sequence")) {
        return load_sequence(t, mr_json_get(json, "decoders"), load_decoder, depth, err);
    }
    if (mr_json_is_text(type, "ByteLevel")) {
        op.kind = MR_DECODE_BYTE_LEVEL;
    } else if (mr_json_is_text(type, "ByteFallback")) {
        op.kind = MR_DECODE_BYTE_FALLBACK;
    } else if (mr_json_is_text(type, "Fuse")) {
        op.kind = MR_DECODE_FUSE;
    } else if (mr_json_is_text(type, "Metaspace")) {
        op.kind = MR_DECODE_METASPACE;
        op.keep_first = read_scheme(json) == MR_PREPEND_NEVER;
        status = mr_hf_text(t, mr_json_get(json, "replacement"), "Metaspace's replacement", &op.text, &op.len, err);
        if (status == MR_OK && op.len == 0)
            return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: Metaspace has no replacement");
    } else if (mr_json_is_text(type, "WordPiece")) {
        op.kind = MR_DECODE_WORDPIECE;
        op.cleanup = mr_json_bool(mr_json_get(json, "cleanup"), true);
        status = mr_hf_text(t, mr_json_get(json, "prefix"), "WordPiece's prefix", &op.text, &op.len, err);
    } else if (mr_json_is_text(type, "BPEDecoder")) {
        op.kind = MR_DECODE_BPE;
        status = mr_hf_text(t, mr_json_get(json, "suffix"), "BPEDecoder's suffix", &op.text, &op.len, err);
    } else if (mr_json_is_text(type, "Strip")) {
        uint32_t start = 0, stop = 0;
        mr_json_u32(mr_json_get(json, "start"), &start);
        mr_json_u32(mr_json_get(json, "stop"), &stop);
        op.kind = MR_DECODE_STRIP;
        op.start = start;
        op.stop = stop;
        status = mr_hf_text(t, mr_json_get(json, "content"), "Strip's content", &op.text, &op.len, err);
    } else if (mr_json_is_text(type, "Replace")) {
        op.kind = MR_DECODE_REPLACE;
        status = load_decoder_replace(t, json, &op, err);
    } else if (mr_json_is_text(type, "CTC")) {
        op.kind = MR_DECODE_CTC;
        op.cleanup = mr_json_bool(mr_json_get(json, "cleanup"), true);
        status = mr_hf_text(t, mr_json_get(json, "pad_token"), "CTC's pad_token", &op.text, &op.len, err);
        const mr_json_value *word = mr_json_get(json, "word_delimiter_token");
        if (status == MR_OK)
            status = mr_hf_text(t, word, "CTC's word_delimiter_token", &op.content, &op.content_len, err);
    } else {
        return unknown_type("decoder", type, err);
    }
    return status == MR_OK ? mr_decoder_add(&t->decoder, op, err) : status;
}

mr_status mr_hf_decoder(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    if (json == NULL || mr_json_is(json, MR_JSON_NULL)) {
        return mr_decoder_add(&t->decoder, (mr_decoder_op){.kind = MR_DECODE_JOIN_SPACE}, err);
    }
    return load_decoder(t, json, 0, err);
}

/* ---- post-processors ---- */

/* Puts `before` in front of what the processors so far put in front, and `behind` behind. */
static mr_status wrap(mr_tokenizer *t, mr_tokens *before, mr_tokens *behind, mr_error *err) {
    bool ok = true;
    for (size_t i = 0; i < t->around.before.n; i++) ok = ok && mr_tokens_push(before, t->around.before.ids[i]);
    for (size_t i = 0; i < behind->n; i++) ok = ok && mr_tokens_push(&t->around.behind, behind->ids[i]);
    mr_tokens_free(&t->around.before);
    t->around.before = *before;
    *before = (mr_tokens){0};
    return ok ? MR_OK : mr_fail_nomem(err, 64, "the post-processor");
}

static mr_status push_number(const mr_json_value *json, mr_tokens *out, mr_error *err) {
    uint32_t id;
    if (!mr_json_u32(json, &id) || id >= MR_VOCAB_MAX) {
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: the post-processor has a token id that is none");
    }
    return mr_tokens_push(out, (mr_token)id) ? MR_OK : mr_fail_nomem(err, 64, "the post-processor");
}

static mr_status load_template(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    const mr_json_value *single = mr_json_get(json, "single"), *specials = mr_json_get(json, "special_tokens");
    if (!mr_json_is(single, MR_JSON_ARRAY))
        return mr_fail(err, MR_ERR_INVALID, "tokenizer.json: TemplateProcessing has no list");
    mr_tokens before = {0}, behind = {0};
    bool seen = false;
    mr_status status = MR_OK;
    const mr_json_value *piece = mr_json_first(single);
    for (uint32_t i = 0; i < single->len && status == MR_OK; i++, piece = mr_json_next(piece)) {
        if (mr_json_get(piece, "Sequence") != NULL) {
            seen = true;
            continue;
        }
        char name[256];
        const mr_json_value *id = mr_json_get(mr_json_get(piece, "SpecialToken"), "id");
        bool fits = mr_json_is(id, MR_JSON_STRING) && id->len < sizeof name;
        if (fits) memcpy(name, id->text, id->len);
        name[fits ? id->len : 0] = '\0';
        const mr_json_value *ids = fits ? mr_json_get(mr_json_get(specials, name), "ids") : NULL;
        if (!mr_json_is(ids, MR_JSON_ARRAY)) {
            status = mr_fail(err, MR_ERR_INVALID, "tokenizer.json: the template names a special token that has no ids");
            break;
        }
        const mr_json_value *number = mr_json_first(ids);
        for (uint32_t k = 0; k < ids->len && status == MR_OK; k++, number = mr_json_next(number)) {
            status = push_number(number, seen ? &behind : &before, err);
        }
    }
    if (status == MR_OK) status = wrap(t, &before, &behind, err);
    mr_tokens_free(&before);
    mr_tokens_free(&behind);
    return status;
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [text, id]. */
static mr_status load_cls_sep(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    const mr_json_value *cls = mr_json_get(json, "cls"), *sep = mr_json_get(json, "sep");
    if (!mr_json_is(cls, MR_JSON_ARRAY) || cls->len != 2 || !mr_json_is(sep, MR_JSON_ARRAY) || sep->len != 2) {
        return mr_fail(err, MR_ERR_INVALID,
                       "tokenizer.json: the post-processor needs \"cls\" and \"sep\" as [text, id]");
    }
    mr_tokens before = {0}, behind = {0};
    mr_status status = push_number(mr_json_next(mr_json_first(cls)), &before, err);
    if (status == MR_OK) status = push_number(mr_json_next(mr_json_first(sep)), &behind, err);
    if (status == MR_OK) status = wrap(t, &before, &behind, err);
    mr_tokens_free(&before);
    mr_tokens_free(&behind);
    return status;
}

static mr_status load_post_processor(mr_tokenizer *t, const mr_json_value *json, unsigned depth, mr_error *err) {
    const mr_json_value *type = mr_json_get(json, "type");
    if (mr_json_is_text(type, "Sequence")) {
        return load_sequence(t, mr_json_get(json, "processors"), load_post_processor, depth, err);
    }
    if (mr_json_is_text(type, "ByteLevel")) return MR_OK; /* only about offsets */
    if (mr_json_is_text(type, "TemplateProcessing")) return load_template(t, json, err);
    if (mr_json_is_text(type, "BertProcessing") || mr_json_is_text(type, "RobertaProcessing"))
        return load_cls_sep(t, json, err);
    return unknown_type("post-processor", type, err);
}

mr_status mr_hf_post_processor(mr_tokenizer *t, const mr_json_value *json, mr_error *err) {
    if (json == NULL || mr_json_is(json, MR_JSON_NULL)) return MR_OK;
    return load_post_processor(t, json, 0, err);
}
