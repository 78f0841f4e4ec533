/* A tokenizer from the `tokenizer.ggml.*` keys of a GGUF file
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer). */
#include "text/tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

#define KEY(name) "tokenizer.ggml." name
static const char SPACE_MARK[] = "\xE2\x96\x81";

typedef struct loader {
    mr_tokenizer *t;
    const mr_gguf *gguf;
    mr_error *err;
    mr_vocab_item *items;
    uint8_t *types;
    size_t n;
    mr_ggml_pre traits;
} loader;

static bool text_is(mr_gguf_str s, const char *text) {
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* Reads tokens and their types; the strings still point into the file. */
static mr_status read_tokens(loader *l) {
    const mr_gguf_value *tokens = mr_gguf_find(l->gguf, KEY("tokens"));
    if (tokens == NULL || tokens->type != MR_GGUF_ARRAY || tokens->elem != MR_GGUF_STRING) {
        return mr_fail(l->err, MR_ERR_INVALID, "the GGUF has no vocabulary (tokenizer.ggml.tokens is missing)");
    }
    if (tokens->n > MR_VOCAB_MAX || tokens->n == 0) {
        return mr_fail(l->err, MR_ERR_LIMIT, "tokenizer.ggml.tokens has %llu entries; 1 to %d are supported",
                       (unsigned long long)tokens->n, MR_VOCAB_MAX);
    }
    l->n = (size_t)tokens->n;
    l->items = calloc(l->n, sizeof *l->items);
    l->types = malloc(l->n);
    if (l->items == NULL || l->types == NULL) return mr_fail_nomem(l->err, l->n * sizeof *l->items, "the vocabulary");
    const mr_gguf_value *types = mr_gguf_find(l->gguf, KEY("token_type"));
    size_t cursor = 0;
    for (size_t i = 0; i < l->n; i++) {
        mr_gguf_str text;
        int64_t type = TYPE_NORMAL;
        if (!mr_gguf_array_next_string(tokens, &cursor, &text)) {
            return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.ggml.tokens ends after %zu of %zu strings", i, l->n);
        }
        if (text.len > UINT32_MAX) return mr_fail(l->err, MR_ERR_LIMIT, "token %zu is longer than 4 GiB", i);
        if (types != NULL) mr_gguf_array_i64(types, i, &type);
        l->types[i] = (uint8_t)(type >= TYPE_NORMAL && type <= TYPE_BYTE ? type : TYPE_NORMAL);
        l->items[i] = (mr_vocab_item){.text = text.data, .len = (uint32_t)text.len};
    }
    return MR_OK;
}

static bool read_id(const loader *l, const char *key, mr_token *id) {
    uint32_t value;
    if (!mr_gguf_u32(l->gguf, key, &value)) return false;
    *id = value < l->n ? (mr_token)value : -1;
    return true;
}

static void default_id(const loader *l, const char *key, mr_token fallback, mr_token *id) {
    *id = fallback >= 0 && (size_t)fallback < l->n ? fallback : -1;
    read_id(l, key, id);
}

static void attributes(loader *l) {
    for (size_t i = 0; i < l->n; i++) {
        uint16_t attr = 0;
        switch (l->types[i]) {
        case TYPE_UNKNOWN:
            attr = MR_TOKEN_UNKNOWN | MR_TOKEN_SPECIAL | MR_TOKEN_ADDED | MR_TOKEN_HIDDEN;
            break;
        case TYPE_CONTROL:
            attr = MR_TOKEN_SPECIAL | MR_TOKEN_ADDED | MR_TOKEN_HIDDEN;
            break;
        case TYPE_USER_DEFINED:
            attr = MR_TOKEN_ADDED;
            break;
        case TYPE_BYTE:
            attr = MR_TOKEN_BYTE | MR_TOKEN_HIDDEN;
            break;
        default:
            break;
        }
        l->items[i].attr = attr;
    }
}

/* The ids that the file names as ends of a turn are control tokens, whatever type they were stored with. */
static void mark_ends(loader *l) {
    static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id")};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        mr_token id;
        if (!read_id(l, keys[i], &id) || id < 0) continue;
        if (l->types[id] == TYPE_CONTROL || l->types[id] == TYPE_UNKNOWN || l->types[id] == TYPE_USER_DEFINED) {
            l->items[id].attr |= MR_TOKEN_SPECIAL | MR_TOKEN_ADDED | MR_TOKEN_HIDDEN;
        }
    }
}

static mr_status arena_text(loader *l, mr_vocab_item *item, const char *text, size_t len) {
    char *copy = mr_arena_strndup(&l->t->arena, text, len);
    if (copy == NULL) return mr_fail_nomem(l->err, len, "the vocabulary");
    item->text = copy;
    item->len = (uint32_t)len;
    return MR_OK;
}

/* Byte-level vocabularies are kept as the bytes they stand for; a string that stands for none is never made by a merge.
 */
static mr_status decode_byte_level(loader *l) {
    for (size_t i = 0; i < l->n; i++) {
        mr_vocab_item *item = &l->items[i];
        if ((item->attr & MR_TOKEN_ADDED) != 0) {
            item->attr |= MR_TOKEN_HIDDEN;
            continue;
        }
        char small[256], *bytes = item->len <= sizeof small ? small : malloc(item->len);
        if (bytes == NULL) return mr_fail_nomem(l->err, item->len, "the vocabulary");
        size_t n;
        mr_status status = MR_OK;
        if (mr_byte_level_decode(item->text, item->len, bytes, &n)) {
            status = arena_text(l, item, bytes, n);
        } else {
            item->attr |= MR_TOKEN_HIDDEN;
        }
        if (bytes != small) free(bytes);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* Added tokens: matched in the raw text. */
static mr_status add_tokens(loader *l) {
    for (size_t i = 0; i < l->n; i++) {
        if ((l->items[i].attr & MR_TOKEN_ADDED) == 0 || l->items[i].len == 0) continue;
        mr_vocab_item copy = l->items[i];
        mr_status status = arena_text(l, &copy, copy.text, copy.len);
        if (status != MR_OK) return status;
        mr_added_token token = {
            .text = copy.text, .len = copy.len, .id = (mr_token)i, .special = (copy.attr & MR_TOKEN_SPECIAL) != 0};
        status = mr_added_push(&l->t->added, token, l->err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

static bool contains(mr_gguf_str s, const char *needle) {
    size_t n = strlen(needle);
    for (size_t i = 0; i + n <= s.len; i++) {
        if (memcmp(s.data + i, needle, n) == 0) return true;
    }
    return false;
}

/* White space that some models' added tokens take along, which the format has no key for. */
static void strip_marks(loader *l) {
    mr_gguf_str name = {0}, pre = {0}, arch = {0};
    mr_gguf_string(l->gguf, "general.name", &name);
    mr_gguf_string(l->gguf, "general.architecture", &arch);
    mr_gguf_string(l->gguf, KEY("pre"), &pre);
    bool phi3 = contains(name, "phi-3") || contains(name, "phi3") || contains(name, "Phi-3") || contains(name, "Phi3");
    bool mask = contains(pre, "jina-v2") || contains(pre, "modern-bert") || text_is(arch, "nomic-bert-moe") ||
                text_is(arch, "jina-bert-v3");
    for (size_t i = 0; i < l->t->added.n; i++) {
        mr_added_token *token = &l->t->added.tokens[i];
        mr_gguf_str text = {.data = token->text, .len = token->len};
        bool start = text_is(text, "<s>") || text_is(text, "<unk>") || text_is(text, "<|endoftext|>");
        if (phi3 && !start) token->rstrip = true;
        if (mask && (text_is(text, "<mask>") || text_is(text, "[MASK]"))) token->lstrip = true;
    }
}

/* ---- models ---- */

static mr_status read_scores(loader *l, float *scores) {
    const mr_gguf_value *array = mr_gguf_find(l->gguf, KEY("scores"));
    for (size_t i = 0; i < l->n; i++) {
        scores[i] = 0;
        if (array != NULL) mr_gguf_array_f32(array, i, &scores[i]);
        if (scores[i] != scores[i])
            return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.ggml.scores[%zu] is not a number", i);
    }
    return MR_OK;
}

static mr_status add_space_steps(loader *l, bool prefix) {
    mr_step replace = {
        .kind = MR_STEP_REPLACE, .pattern = " ", .pattern_len = 1, .content = SPACE_MARK, .content_len = 3};
    mr_step prepend = {.kind = MR_STEP_PREPEND, .content = SPACE_MARK, .content_len = 3};
    mr_status status = prefix ? mr_normalizer_add(&l->t->normalizer, prepend, l->err) : MR_OK;
    return status == MR_OK ? mr_normalizer_add(&l->t->normalizer, replace, l->err) : status;
}

static mr_status add_space_decoder(loader *l, bool prefix) {
    mr_decoder_op op = {.kind = MR_DECODE_SENTENCEPIECE, .text = SPACE_MARK, .len = 3, .strip_one = prefix};
    return mr_decoder_add(&l->t->decoder, op, l->err);
}

static mr_status load_spm(loader *l) {
    mr_tokenizer *t = l->t;
    default_id(l, KEY("bos_token_id"), 1, &t->bos);
    default_id(l, KEY("eos_token_id"), 2, &t->eos);
    default_id(l, KEY("unknown_token_id"), 0, &t->unk);
    t->add_bos = true;
    bool prefix = true;
    mr_gguf_bool(l->gguf, KEY("add_space_prefix"), &prefix);
    mr_status status = mr_vocab_build(&t->vocab, l->items, l->n, l->err);
    float *scores = malloc(l->n * sizeof *scores);
    if (status == MR_OK && scores == NULL) status = mr_fail_nomem(l->err, l->n * sizeof *scores, "the scores");
    if (status == MR_OK) status = read_scores(l, scores);
    t->bpe.vocab = &t->vocab;
    t->bpe.by_score = true;
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unk = true;
    t->bpe.unk = t->unk;
    if (status == MR_OK) status = mr_bpe_rank_scores(&t->bpe, scores, l->n, l->err);
    free(scores);
    if (status == MR_OK) status = mr_bpe_finish(&t->bpe, l->err);
    if (status == MR_OK) status = add_space_steps(l, prefix);
    if (status == MR_OK) status = add_space_decoder(l, prefix);
    snprintf(t->kind, sizeof t->kind, "SentencePiece BPE");
    return status;
}

static mr_token find_part(const loader *l, const char *text, size_t len) {
    char bytes[512];
    size_t n;
    if (!l->t->bpe.byte_level) return mr_vocab_find(&l->t->vocab, text, len);
    if (len > sizeof bytes || !mr_byte_level_decode(text, len, bytes, &n)) return -1;
    return mr_vocab_find(&l->t->vocab, bytes, n);
}

static mr_token find_joined(const mr_vocab *vocab, mr_token a, mr_token b) {
    char joined[1024];
    size_t n_a, n_b;
    const char *text_a = mr_vocab_text(vocab, a, &n_a), *text_b = mr_vocab_text(vocab, b, &n_b);
    if (n_a + n_b > sizeof joined) return -1;
    memcpy(joined, text_a, n_a);
    memcpy(joined + n_a, text_b, n_b);
    return mr_vocab_find(vocab, joined, n_a + n_b);
}

/* "left right" in order of rank. A merge of strings that are no tokens can never happen and is left out. */
static mr_status read_merges(loader *l) {
    const mr_gguf_value *merges = mr_gguf_find(l->gguf, KEY("merges"));
    if (merges == NULL || merges->type != MR_GGUF_ARRAY || merges->elem != MR_GGUF_STRING) {
        return mr_fail(l->err, MR_ERR_INVALID,
                       "the GGUF's BPE vocabulary has no merges (tokenizer.ggml.merges is missing); "
                       "convert the model again");
    }
    mr_bpe *bpe = &l->t->bpe;
    mr_status status = mr_bpe_reserve(bpe, merges->n > SIZE_MAX / 2 ? SIZE_MAX : (size_t)merges->n, l->err);
    if (status != MR_OK) return status;
    size_t cursor = 0;
    mr_gguf_str line;
    for (uint32_t rank = 0; mr_gguf_array_next_string(merges, &cursor, &line); rank++) {
        const char *space = line.len < 3 ? NULL : memchr(line.data + 1, ' ', line.len - 1);
        if (space == NULL) continue;
        size_t n = (size_t)(space - line.data);
        mr_token left = find_part(l, line.data, n), right = find_part(l, space + 1, line.len - n - 1);
        if (left < 0 || right < 0) continue;
        mr_token joined = find_joined(&l->t->vocab, left, right);
        if (joined >= 0) mr_bpe_add_merge(bpe, left, right, rank, joined);
    }
    return MR_OK;
}

static mr_status load_bpe(loader *l) {
    mr_tokenizer *t = l->t;
    mr_gguf_str pre = {0};
    mr_gguf_string(l->gguf, KEY("pre"), &pre);
    mr_status status = mr_pretokenizer_from_ggml(&t->pretokenizer, pre.data, pre.len, &l->traits, l->err);
    if (status != MR_OK) return status;
    default_id(l, KEY("bos_token_id"), 11, &t->bos);
    default_id(l, KEY("eos_token_id"), 11, &t->eos);
    default_id(l, KEY("unknown_token_id"), -1, &t->unk);
    if (l->traits.no_bos) t->bos = -1;
    t->add_bos = l->traits.add_bos;
    t->add_eos = l->traits.add_sep;
    t->bpe.vocab = &t->vocab;
    t->bpe.byte_level = !l->traits.raw_utf8;
    t->bpe.byte_fallback = l->traits.raw_utf8;
    t->bpe.ignore_merges = l->traits.ignore_merges;
    t->bpe.whole_newlines = l->traits.escape_spaces;
    if (t->bpe.byte_level) status = decode_byte_level(l);
    if (status == MR_OK) status = mr_vocab_build(&t->vocab, l->items, l->n, l->err);
    if (status == MR_OK) status = read_merges(l);
    if (status == MR_OK) status = mr_bpe_finish(&t->bpe, l->err);
    if (status == MR_OK && l->traits.nfc) {
        status = mr_normalizer_add(&t->normalizer, (mr_step){.kind = MR_STEP_NFC}, l->err);
    }
    if (status == MR_OK && l->traits.escape_spaces) status = add_space_steps(l, false);
    if (status == MR_OK && t->bpe.byte_level) {
        status = mr_decoder_add(&t->decoder, (mr_decoder_op){.kind = MR_DECODE_BYTE_LEVEL, .raw = true}, l->err);
    } else if (status == MR_OK) {
        status = add_space_decoder(l, false);
    }
    snprintf(t->kind, sizeof t->kind, "BPE (%.*s)", (int)(pre.len < 40 ? pre.len : 40),
             pre.len == 0 ? "default" : pre.data);
    return status;
}

/* The file marks the beginning of words with U+2581 where BERT marks their continuation with "##". */
static mr_status restore_wordpiece(loader *l) {
    for (size_t i = 0; i < l->n; i++) {
        mr_vocab_item *item = &l->items[i];
        if (l->types[i] == TYPE_CONTROL || l->types[i] == TYPE_UNKNOWN) continue;
        if (item->len >= 3 && memcmp(item->text, SPACE_MARK, 3) == 0) {
            item->text += 3;
            item->len -= 3;
            continue;
        }
        char *text = mr_arena_alloc(&l->t->arena, (size_t)item->len + 2);
        if (text == NULL) return mr_fail_nomem(l->err, item->len, "the vocabulary");
        text[0] = text[1] = '#';
        memcpy(text + 2, item->text, item->len);
        item->text = text;
        item->len += 2;
    }
    return MR_OK;
}

static mr_status load_wordpiece(loader *l) {
    mr_tokenizer *t = l->t;
    default_id(l, KEY("bos_token_id"), 101, &t->bos);
    read_id(l, KEY("cls_token_id"), &t->bos);
    default_id(l, KEY("seperator_token_id"), 102, &t->eos);
    default_id(l, KEY("unknown_token_id"), 100, &t->unk);
    default_id(l, KEY("padding_token_id"), 0, &t->pad);
    t->add_bos = t->add_eos = true;
    mr_status status = restore_wordpiece(l);
    if (status == MR_OK) status = mr_vocab_build(&t->vocab, l->items, l->n, l->err);
    t->model = MR_MODEL_WORDPIECE;
    t->wordpiece = (mr_wordpiece){.vocab = &t->vocab, .unk = t->unk, .max_chars = 100, .prefix = "##", .prefix_len = 2};
    mr_step bert = {.kind = MR_STEP_BERT, .clean = true, .chinese = true, .strip_accents = true, .lowercase = true};
    mr_gguf_bool(l->gguf, KEY("normalizer.lowercase"), &bert.lowercase);
    mr_gguf_bool(l->gguf, KEY("normalizer.strip_accents"), &bert.strip_accents);
    if (status == MR_OK) status = mr_normalizer_add(&t->normalizer, bert, l->err);
    if (status == MR_OK)
        status = mr_pretokenizer_add(&t->pretokenizer, (mr_stage){.kind = MR_STAGE_WHITESPACE_SPLIT}, l->err);
    if (status == MR_OK) status = mr_pretokenizer_add(&t->pretokenizer, (mr_stage){.kind = MR_STAGE_BERT}, l->err);
    mr_decoder_op op = {.kind = MR_DECODE_WORDPIECE, .text = "##", .len = 2, .cleanup = true};
    if (status == MR_OK) status = mr_decoder_add(&t->decoder, op, l->err);
    snprintf(t->kind, sizeof t->kind, "WordPiece");
    return status;
}

static mr_status load_unigram_scores(loader *l) {
    mr_unigram *u = &l->t->unigram;
    float *scores = malloc(l->n * sizeof *scores);
    u->score = malloc((l->n + 1) * sizeof *u->score);
    if (scores == NULL || u->score == NULL) {
        free(scores);
        return mr_fail_nomem(l->err, l->n * sizeof *u->score, "the scores");
    }
    mr_status status = read_scores(l, scores);
    double least = 0;
    for (size_t i = 0; i < l->n; i++) {
        u->score[i] = (double)scores[i];
        if (l->types[i] == TYPE_NORMAL && u->score[i] < least) least = u->score[i];
    }
    u->unk_score = least - 10.0;
    free(scores);
    return status;
}

static mr_status load_unigram(loader *l) {
    mr_tokenizer *t = l->t;
    default_id(l, KEY("bos_token_id"), -1, &t->bos);
    default_id(l, KEY("eos_token_id"), 1, &t->eos);
    default_id(l, KEY("unknown_token_id"), 2, &t->unk);
    default_id(l, KEY("padding_token_id"), 0, &t->pad);
    t->add_eos = true;
    t->model = MR_MODEL_UNIGRAM;
    mr_status status = mr_vocab_build(&t->vocab, l->items, l->n, l->err);
    t->unigram.vocab = &t->vocab;
    t->unigram.unk = t->unk;
    if (status == MR_OK) status = load_unigram_scores(l);
    if (status == MR_OK) status = mr_unigram_finish(&t->unigram, l->err);
    if (status != MR_OK) return status;
    mr_step step = {.kind = MR_STEP_SENTENCEPIECE, .add_dummy_prefix = true, .escape_spaces = true};
    mr_gguf_bool(l->gguf, KEY("add_space_prefix"), &step.add_dummy_prefix);
    mr_gguf_bool(l->gguf, KEY("remove_extra_whitespaces"), &step.remove_extra_spaces);
    const mr_gguf_value *map = mr_gguf_find(l->gguf, KEY("precompiled_charsmap"));
    if (map != NULL && map->type == MR_GGUF_ARRAY && (map->elem == MR_GGUF_UINT8 || map->elem == MR_GGUF_INT8)) {
        char *bytes = mr_arena_strndup(&t->arena, (const char *)map->data, (size_t)map->n);
        if (bytes == NULL) return mr_fail_nomem(l->err, (size_t)map->n, "the precompiled character map");
        status = mr_charsmap_read(&step.map, bytes, (size_t)map->n, l->err);
        if (status != MR_OK) return status;
    }
    status = mr_normalizer_add(&t->normalizer, step, l->err);
    if (status == MR_OK) status = add_space_decoder(l, step.add_dummy_prefix);
    snprintf(t->kind, sizeof t->kind, "Unigram");
    return status;
}

/* bos and eos around a text, as the keys or the kind's defaults say. */
static mr_status set_around(loader *l) {
    mr_tokenizer *t = l->t;
    mr_gguf_bool(l->gguf, KEY("add_bos_token"), &t->add_bos);
    mr_gguf_bool(l->gguf, KEY("add_eos_token"), &t->add_eos);
    if (t->model == MR_MODEL_WORDPIECE || l->traits.add_sep) {
        mr_gguf_bool(l->gguf, KEY("add_sep_token"), &t->add_eos);
        read_id(l, KEY("seperator_token_id"), &t->eos);
    }
    if (t->bos < 0) t->add_bos = false;
    if (t->eos < 0) t->add_eos = false;
    bool ok = (!t->add_bos || mr_tokens_push(&t->around.before, t->bos)) &&
              (!t->add_eos || mr_tokens_push(&t->around.behind, t->eos));
    return ok ? MR_OK : mr_fail_nomem(l->err, 64, "the tokenizer");
}

static void mark_eog_keys(loader *l) {
    static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id")};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        mr_token id;
        if (read_id(l, keys[i], &id) && id >= 0) l->t->vocab.attr[id] |= MR_TOKEN_EOG;
    }
    const mr_gguf_value *all = mr_gguf_find(l->gguf, KEY("eog_token_ids"));
    int64_t id;
    for (uint64_t i = 0; all != NULL && i < 1024 && mr_gguf_array_i64(all, i, &id); i++) {
        if (id >= 0 && (uint64_t)id < l->n) l->t->vocab.attr[id] |= MR_TOKEN_EOG;
    }
}

static mr_status load(loader *l) {
    mr_gguf_str model = {0};
    mr_gguf_string(l->gguf, KEY("model"), &model);
    if (text_is(model, "no_vocab") || text_is(model, "none")) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "the GGUF has no vocabulary (tokenizer.ggml.model = \"%.*s\")",
                       (int)model.len, model.data);
    }
    mr_status status = read_tokens(l);
    if (status != MR_OK) return status;
    attributes(l);
    mark_ends(l);
    if (text_is(model, "llama")) {
        status = load_spm(l);
    } else if (text_is(model, "gpt2") || text_is(model, "gemma4")) {
        status = load_bpe(l);
    } else if (text_is(model, "bert")) {
        status = load_wordpiece(l);
    } else if (text_is(model, "t5")) {
        status = load_unigram(l);
    } else {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED,
                       "unknown tokenizer.ggml.model = \"%.*s\"; known are: llama gpt2 bert t5",
                       (int)(model.len < 64 ? model.len : 64), model.len == 0 ? "" : model.data);
    }
    if (status == MR_OK) status = add_tokens(l);
    if (status != MR_OK) return status;
    strip_marks(l);
    if (l->t->pad < 0) read_id(l, KEY("padding_token_id"), &l->t->pad);
    mark_eog_keys(l);
    status = set_around(l);
    return status == MR_OK ? mr_tokenizer_finish(l->t, l->err) : status;
}

mr_status mr_tokenizer_from_gguf(mr_tokenizer **tokenizer, const mr_gguf *gguf, mr_error *err) {
    *tokenizer = NULL;
    loader l = {.t = mr_tokenizer_new(), .gguf = gguf, .err = err};
    if (l.t == NULL) return mr_fail_nomem(err, sizeof *l.t, "the tokenizer");
    mr_status status = load(&l);
    free(l.items);
    free(l.types);
    if (status != MR_OK) {
        mr_tokenizer_free(l.t);
        return status;
    }
    *tokenizer = l.t;
    return MR_OK;
}
