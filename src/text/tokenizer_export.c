#include "text/tokenizer_export.h"

#include "base/utf8.h"
#include "text/chat_template_impl.h"
#include "text/tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };
static const char SPACE_MARK[] = "\xE2\x96\x81";

typedef struct exporter {
    const mr_tokenizer *t;
    mr_gguf_writer *w;
    mr_error *err;
    size_t n; /* ids to write */
    mr_arena arena;
    mr_gguf_str *texts; /* [n] */
    int32_t *types;     /* [n] */
} exporter;

static mr_status no_memory(exporter *x, size_t n) {
    return mr_fail_nomem(x->err, n, "the vocabulary to write");
}

static mr_gguf_str keep(exporter *x, const char *text, size_t len) {
    return (mr_gguf_str){.data = mr_arena_strndup(&x->arena, text, len), .len = len};
}

/* Bytes in GPT-2's letters, each of which takes one or two bytes. */
static mr_gguf_str in_letters(exporter *x, const char *bytes, size_t len) {
    char *text = mr_arena_alloc(&x->arena, 2 * len + 4);
    size_t n = 0;
    for (size_t i = 0; i < len && text != NULL; i++) {
        uint32_t c = mr_byte_level_char((uint8_t)bytes[i]);
        if (c < 0x80) {
            text[n++] = (char)c;
        } else {
            text[n++] = (char)(0xC0 | c >> 6);
            text[n++] = (char)(0x80 | (c & 0x3F));
        }
    }
    return (mr_gguf_str){.data = text, .len = n};
}

/* ---- the vocabulary */

static int32_t type_of(uint16_t attr) {
    if (attr & MR_TOKEN_BYTE) return TYPE_BYTE;
    if (attr & MR_TOKEN_UNKNOWN) return TYPE_UNKNOWN;
    if (attr & MR_TOKEN_SPECIAL) return TYPE_CONTROL;
    if (attr & MR_TOKEN_ADDED) return TYPE_USER_DEFINED;
    return attr & MR_TOKEN_UNUSED ? TYPE_UNUSED : TYPE_NORMAL;
}

static void set_padding(exporter *x, size_t id) {
    char name[32];
    int n = snprintf(name, sizeof name, "[PAD%zu]", id);
    x->texts[id] = keep(x, name, (size_t)n);
    x->types[id] = TYPE_UNUSED;
}

static void set_token(exporter *x, size_t id) {
    const mr_tokenizer *t = x->t;
    size_t len;
    const char *text = mr_vocab_text(&t->vocab, (mr_token)id, &len);
    uint16_t attr = t->vocab.attr[id];
    if (!t->bpe.byte_level && mr_byte_token_value(text, len) >= 0) attr |= MR_TOKEN_BYTE;
    x->types[id] = type_of(attr);
    if ((mr_token)id == t->unk && !t->bpe.byte_level) { /* SentencePiece's vocabulary has another text for it */
        x->types[id] = TYPE_UNKNOWN;
        if (t->bpe.by_score || t->unigram.in_float) text = "<unk>", len = 5;
    }
    /* A byte-level vocabulary is kept as bytes, but for what stands for none. */
    bool letters = t->bpe.byte_level && (attr & (MR_TOKEN_ADDED | MR_TOKEN_HIDDEN)) == 0;
    x->texts[id] = letters ? in_letters(x, text, len) : keep(x, text, len);
}

/* Gathers texts and types of all ids, lets `change` (or NULL) rewrite them, and puts them. */
static mr_status collect_tokens(exporter *x, mr_status (*change)(exporter *)) {
    const mr_tokenizer *t = x->t;
    size_t n_tokens = t->vocab.n;
    if (n_tokens > x->n)
        return mr_fail(x->err, MR_ERR_INVALID, "the tokenizer has %zu tokens, but the model knows %zu only", n_tokens,
                       x->n);
    x->texts = mr_arena_calloc(&x->arena, x->n, sizeof *x->texts);
    x->types = mr_arena_calloc(&x->arena, x->n, sizeof *x->types);
    if (x->texts == NULL || x->types == NULL) return no_memory(x, x->n * sizeof *x->texts);
    for (size_t id = 0; id < x->n; id++) {
        if (id < n_tokens && (t->vocab.attr[id] & MR_TOKEN_EXISTS) != 0)
            set_token(x, id);
        else
            set_padding(x, id);
    }
    for (size_t i = 0; i < t->added.n; i++) { /* as they stand in a text */
        const mr_added_token *a = &t->added.tokens[i];
        if (a->id >= 0 && (size_t)a->id < n_tokens && (mr_token)a->id != t->unk)
            x->texts[a->id] = keep(x, a->text, a->len);
    }
    for (size_t id = 0; id < x->n; id++)
        if (x->texts[id].data == NULL) return no_memory(x, x->n);
    mr_status status = change != NULL ? change(x) : MR_OK;
    if (status != MR_OK) return status;
    mr_gguf_put_strings(x->w, KEY("tokens"), x->texts, x->n);
    mr_gguf_put_array(x->w, KEY("token_type"), MR_GGUF_INT32, x->types, x->n);
    return MR_OK;
}

static int compare_ranks(const void *a, const void *b) {
    const mr_merge_slot *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

/* The merges in the order of their ranks; the caller frees the list. */
static mr_merge_slot *sorted_merges(const mr_bpe *bpe, size_t *n) {
    mr_merge_slot *list = malloc((bpe->n_merges + 1) * sizeof *list);
    *n = 0;
    if (list == NULL) return NULL;
    for (size_t i = 0; bpe->n_merges > 0 && i <= bpe->mask; i++)
        if (bpe->merges[i].pair != UINT64_MAX) list[(*n)++] = bpe->merges[i];
    qsort(list, *n, sizeof *list, compare_ranks);
    return list;
}

static mr_status put_merges(exporter *x) {
    size_t n;
    mr_merge_slot *merges = sorted_merges(&x->t->bpe, &n);
    mr_gguf_str *lines = calloc(n + 1, sizeof *lines);
    bool ok = merges != NULL && lines != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        size_t left = (size_t)(merges[i].pair >> 32), right = (size_t)(uint32_t)merges[i].pair;
        mr_gguf_str a = x->texts[left], b = x->texts[right];
        char *line = mr_arena_alloc(&x->arena, a.len + b.len + 1);
        ok = line != NULL;
        if (!ok) break;
        memcpy(line, a.data, a.len);
        line[a.len] = ' ';
        memcpy(line + a.len + 1, b.data, b.len);
        lines[i] = (mr_gguf_str){.data = line, .len = a.len + b.len + 1};
    }
    if (ok) mr_gguf_put_strings(x->w, KEY("merges"), lines, n);
    free(lines);
    free(merges);
    return ok ? MR_OK : no_memory(x, n * sizeof *lines);
}

/* Scores whose order is that of the ranks. What no merge makes comes last. */
static mr_status put_scores(exporter *x) {
    const mr_bpe *bpe = &x->t->bpe;
    float *scores = malloc(x->n * sizeof *scores);
    if (scores == NULL) return no_memory(x, x->n * sizeof *scores);
    for (size_t id = 0; id < x->n; id++) scores[id] = id < x->t->vocab.n ? -1e6f : 0.0f;
    if (bpe->by_score) {
        for (size_t id = 0; id < x->t->vocab.n; id++) scores[id] = -(float)bpe->rank[id];
    } else {
        for (size_t i = 0; bpe->n_merges > 0 && i <= bpe->mask; i++) {
            const mr_merge_slot *slot = &bpe->merges[i];
            if (slot->pair == UINT64_MAX || (size_t)slot->id >= x->n) continue;
            float score = -(float)slot->rank;
            if (score > scores[slot->id]) scores[slot->id] = score;
        }
    }
    for (size_t id = 0; id < x->n; id++)
        if (x->types[id] != TYPE_NORMAL) scores[id] = 0.0f;
    mr_gguf_put_array(x->w, KEY("scores"), MR_GGUF_FLOAT32, scores, x->n);
    free(scores);
    return MR_OK;
}

/* ---- how a text is cut */

/* What the pre-tokenizers in use cut in different ways: contractions in both cases, numbers, runs of spaces and lines,
 * symbols, letters with marks, and scripts that some treat apart. */
static const char PROBE[] =
    "Hello world! I'm sure they've SAID'S it's 3.14159, 1234567 or 1 22 333 4444.\n\n\n  indented\t\ttabs   spaces  \n"
    "\r\n CamelCase XMLHttpRequest don'T e\xCC\x81t\xC3\xA9 na\xC3\xAFve \xC3\x9C"
    "ber stra\xC3\x9F"
    "e  \n \n  x = a[i] + b->c; // path/to/file\n/* !!! */ <|tag|> ??? ... \xE2\x80\xA6 \xE2\x80\x9Cquoted\xE2\x80\x9D "
    "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xB8\x96\xE7\x95\x8C 123\xE4\xBA\xBA \xE3\x81\x93\xE3\x82\x93\xE3\x81\xAB\xE3\x82\xAB"
    "\xE3\x82\xBF \xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4 \xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 "
    "\xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7 \xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87 "
    "\xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xC2\xA9 $1,000.00 50% a_b #tag @me    \n    end   ";

static bool same_ids(const mr_tokens *a, const mr_tokens *b) {
    return a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

mr_status mr_tokenizer_agree(const mr_tokenizer *a, const mr_tokenizer *b, bool *agree, mr_error *err) {
    unsigned flags = MR_ENCODE_SPECIAL_TEXT | MR_ENCODE_ADD_BOS_EOS;
    mr_tokens ids_a = {0}, ids_b = {0};
    mr_status status = mr_tokenizer_encode(a, PROBE, sizeof PROBE - 1, flags, &ids_a, err);
    if (status == MR_OK) status = mr_tokenizer_encode(b, PROBE, sizeof PROBE - 1, flags, &ids_b, err);
    *agree = status == MR_OK && same_ids(&ids_a, &ids_b);
    mr_tokens_free(&ids_a);
    mr_tokens_free(&ids_b);
    return status;
}

/* How many pieces the pre-tokenizer makes of text[0..len): a model that knows no word gives one id for each. */
static mr_status count_pieces(const mr_tokenizer *t, const char *text, size_t len, mr_tokens *ids, mr_error *err) {
    mr_vocab none = {.max_len = 0};
    mr_tokenizer counter = *t;
    counter.model = MR_MODEL_WORDLEVEL;
    counter.wordpiece = (mr_wordpiece){.vocab = &none, .whole_words = true, .unk = 0};
    ids->n = 0;
    return mr_tokenizer_encode(&counter, text, len, 0, ids, err);
}

/* Whether a and b make as many pieces of the beginnings of the probe, and the same ids of all of it. */
static mr_status cut_alike(const mr_tokenizer *a, const mr_tokenizer *b, bool *alike, mr_error *err) {
    mr_tokens ids_a = {0}, ids_b = {0};
    mr_status status = mr_tokenizer_encode(a, PROBE, sizeof PROBE - 1, 0, &ids_a, err);
    if (status == MR_OK) status = mr_tokenizer_encode(b, PROBE, sizeof PROBE - 1, 0, &ids_b, err);
    *alike = status == MR_OK && same_ids(&ids_a, &ids_b);
    for (size_t n = 1; *alike && n < sizeof PROBE; n++) {
        if (PROBE[n] != ' ' && PROBE[n] != '\0') continue;
        status = count_pieces(a, PROBE, n, &ids_a, err);
        if (status == MR_OK) status = count_pieces(b, PROBE, n, &ids_b, err);
        *alike = status == MR_OK && ids_a.n == ids_b.n;
    }
    mr_tokens_free(&ids_a);
    mr_tokens_free(&ids_b);
    return status;
}

/* Whether the tokenizer would cut as it does with the pre-tokenizer `name`. */
static mr_status try_pre(const mr_tokenizer *t, const char *name, bool *same, mr_error *err) {
    mr_tokenizer other = *t; /* borrows everything but the pre-tokenizer */
    mr_ggml_pre traits = {0};
    other.pretokenizer = (mr_pretokenizer){.n = 0};
    *same = false;
    mr_status status = mr_pretokenizer_from_ggml(&other.pretokenizer, name, strlen(name), &traits, err);
    bool fits = status == MR_OK && traits.ignore_merges == t->bpe.ignore_merges && traits.nfc == (t->normalizer.n > 0);
    if (fits) status = cut_alike(t, &other, same, err);
    mr_pretokenizer_free(&other.pretokenizer);
    return status;
}

static mr_status find_pre(exporter *x, const char **pre) {
    static const char *const names[] = {
        "llama-bpe", "qwen2",      "gpt-2",      "deepseek-r1-qwen", "tekken",         "gpt-4o",       "qwen35",
        "starcoder", "command-r",  "dbrx",       "deepseek-v3",      "deepseek-coder", "deepseek-llm", "olmo",
        "kimi-k2",   "bailingmoe", "seed-coder", "exaone-moe",       "youtu",          "falcon",       "bloom",
        "viking",    "chameleon",  "afmoe",      "minicpm5",         "superbpe",       "jais-2",       "default",
    };
    mr_status status = MR_OK;
    *pre = NULL;
    for (size_t i = 0; status == MR_OK && *pre == NULL && i < sizeof names / sizeof names[0]; i++) {
        bool same;
        status = try_pre(x->t, names[i], &same, x->err);
        if (same) *pre = names[i];
    }
    if (status != MR_OK || *pre != NULL) return status;
    return mr_fail(
        x->err, MR_ERR_UNSUPPORTED,
        "no pre-tokenizer of GGUF files cuts texts as this tokenizer does; name the one to write with --pre");
}

/* Whether a mark for a space goes before a text: seen in what the tokenizer makes of one. */
static mr_status has_space_prefix(const exporter *x, bool *prefix) {
    mr_tokens ids = {0};
    mr_status status = mr_tokenizer_encode(x->t, "a", 1, 0, &ids, x->err);
    size_t len = 0;
    const char *text = ids.n > 0 ? mr_vocab_text(&x->t->vocab, ids.ids[0], &len) : "";
    *prefix = len >= 3 && memcmp(text, SPACE_MARK, 3) == 0;
    mr_tokens_free(&ids);
    return status;
}

/* ---- all of it */

static void put_id(exporter *x, const char *key, mr_token id) {
    if (id >= 0) mr_gguf_put_u32(x->w, key, (uint32_t)id);
}

/* The id that goes before or behind a text; `named` where the tokenizer has a name for it. */
static mr_token outer_id(mr_token named, const mr_tokens *around) {
    return named >= 0 || around->n != 1 ? named : around->ids[0];
}

static void put_specials(exporter *x) {
    const mr_tokenizer *t = x->t;
    mr_token eos = outer_id(t->eos, &t->around.behind);
    put_id(x, KEY("bos_token_id"), outer_id(t->bos, &t->around.before));
    put_id(x, KEY("eos_token_id"), eos);
    put_id(x, KEY("unknown_token_id"), t->unk);
    put_id(x, KEY("padding_token_id"), t->pad);
    mr_gguf_put_bool(x->w, KEY("add_bos_token"), t->add_bos || (t->bos < 0 && t->around.before.n == 1));
    mr_gguf_put_bool(x->w, KEY("add_eos_token"), t->add_eos || (t->eos < 0 && t->around.behind.n == 1));
    int32_t ends[64];
    size_t n = 0;
    for (size_t id = 0; id < t->vocab.n && n < 64; id++)
        if ((t->vocab.attr[id] & MR_TOKEN_EOG) != 0) ends[n++] = (int32_t)id;
    if (n == 0) return;
    mr_gguf_put_array(x->w, KEY("eog_token_ids"), MR_GGUF_INT32, ends, n);
    for (size_t i = 0; i < n; i++) { /* readers that know two ends of a turn */
        if (ends[i] == eos) continue;
        put_id(x, KEY("eot_token_id"), ends[i]);
        break;
    }
}

static mr_status put_byte_level(exporter *x, const char *pre) {
    const mr_tokenizer *t = x->t;
    bool nfc = t->normalizer.n == 1 && t->normalizer.steps[0].kind == MR_STEP_NFC;
    if (t->normalizer.n > 0 && !nfc) {
        return mr_fail(x->err, MR_ERR_UNSUPPORTED,
                       "the tokenizer changes texts before it cuts them, which GGUF files cannot say");
    }
    mr_status status = pre == NULL ? find_pre(x, &pre) : MR_OK;
    if (status != MR_OK) return status;
    mr_gguf_put_string(x->w, KEY("model"), "gpt2");
    mr_gguf_put_string(x->w, KEY("pre"), pre);
    status = collect_tokens(x, NULL);
    return status == MR_OK ? put_merges(x) : status;
}

static mr_status put_sentencepiece(exporter *x) {
    bool prefix;
    mr_status status = has_space_prefix(x, &prefix);
    if (status != MR_OK) return status;
    mr_gguf_put_string(x->w, KEY("model"), "llama");
    mr_gguf_put_string(x->w, KEY("pre"), "default");
    mr_gguf_put_bool(x->w, KEY("add_space_prefix"), prefix);
    status = collect_tokens(x, NULL);
    return status == MR_OK ? put_scores(x) : status;
}

/* ---- Unigram */

static bool is_text(const char *text, size_t len, const char *expected) {
    return len == strlen(expected) && memcmp(text, expected, len) == 0;
}

/* What the format has keys for: one character map, and rewrites of spaces. *map is NULL where there is none. */
static bool unigram_normalizer_fits(const mr_normalizer *normalizer, const mr_charsmap **map) {
    size_t n_maps = 0;
    *map = NULL;
    for (size_t i = 0; i < normalizer->n; i++) {
        const mr_step *step = &normalizer->steps[i];
        bool to_space =
            is_text(step->content, step->content_len, " ") || is_text(step->content, step->content_len, SPACE_MARK);
        if (step->kind == MR_STEP_PRECOMPILED || step->kind == MR_STEP_SENTENCEPIECE) {
            *map = &step->map;
            n_maps++;
            if (step->kind == MR_STEP_SENTENCEPIECE && (step->suffix_space || !step->escape_spaces)) return false;
        } else if (step->kind == MR_STEP_PREPEND   ? !is_text(step->content, step->content_len, SPACE_MARK)
                   : step->kind == MR_STEP_REPLACE ? !to_space
                                                   : step->kind != MR_STEP_STRIP) {
            return false;
        }
    }
    return n_maps <= 1;
}

static bool unigram_fits(const mr_tokenizer *t, const mr_charsmap **map) {
    for (size_t i = 0; i < t->pretokenizer.n; i++) {
        const mr_stage *stage = &t->pretokenizer.stages[i];
        bool mark = stage->kind == MR_STAGE_METASPACE && is_text(stage->text, stage->len, SPACE_MARK);
        if (!mark && stage->kind != MR_STAGE_WHITESPACE_SPLIT) return false;
    }
    return unigram_normalizer_fits(&t->normalizer, map) && !t->unigram.byte_fallback && t->unk >= 0 &&
           t->around.before.n <= 1 && t->around.behind.n <= 1;
}

/* Whether runs of spaces count as one: seen in what the tokenizer makes of them. */
static mr_status merges_spaces(const exporter *x, bool *merges) {
    static const char plain[] = "a b", wide[] = " a   b ";
    mr_tokens a = {0}, b = {0};
    mr_status status = mr_tokenizer_encode(x->t, plain, sizeof plain - 1, 0, &a, x->err);
    if (status == MR_OK) status = mr_tokenizer_encode(x->t, wide, sizeof wide - 1, 0, &b, x->err);
    *merges = status == MR_OK && same_ids(&a, &b);
    mr_tokens_free(&a);
    mr_tokens_free(&b);
    return status;
}

/* The map as files have it: the size of the trie, the trie, the replacements. */
static mr_status put_charsmap(exporter *x, const mr_charsmap *map) {
    if (map == NULL || map->n_units == 0) return MR_OK;
    mr_buf bytes = {0};
    uint32_t n_trie = (uint32_t)(map->n_units * 4);
    for (size_t shift = 0; shift < 32; shift += 8) mr_buf_putc(&bytes, (char)(n_trie >> shift));
    for (size_t i = 0; i < map->n_units; i++)
        for (size_t shift = 0; shift < 32; shift += 8) mr_buf_putc(&bytes, (char)(map->units[i] >> shift));
    mr_buf_append(&bytes, map->replacements, map->n_replacements);
    mr_status status = bytes.failed ? no_memory(x, n_trie) : MR_OK;
    if (status == MR_OK)
        mr_gguf_put_array(x->w, KEY("precompiled_charsmap"), MR_GGUF_UINT8, mr_buf_cstr(&bytes), bytes.len);
    mr_buf_free(&bytes);
    return status;
}

/* Pieces that no text shall have lose against everything. */
static mr_status put_unigram_scores(exporter *x) {
    float *scores = malloc(x->n * sizeof *scores);
    if (scores == NULL) return no_memory(x, x->n * sizeof *scores);
    for (size_t id = 0; id < x->n; id++) {
        bool piece = id < x->t->vocab.n && x->types[id] == TYPE_NORMAL;
        scores[id] = piece ? (float)x->t->unigram.score[id] : x->types[id] == TYPE_UNUSED ? -10000.0f : 0.0f;
    }
    mr_gguf_put_array(x->w, KEY("scores"), MR_GGUF_FLOAT32, scores, x->n);
    free(scores);
    return MR_OK;
}

static mr_status put_unigram(exporter *x) {
    const mr_charsmap *map;
    bool prefix, merges;
    if (!unigram_fits(x->t, &map)) {
        return mr_fail(x->err, MR_ERR_UNSUPPORTED,
                       "the tokenizer is a Unigram one with more than a character map and rewrites of spaces, or with "
                       "bytes for unknown characters, which GGUF files cannot say");
    }
    mr_status status = has_space_prefix(x, &prefix);
    if (status == MR_OK) status = merges_spaces(x, &merges);
    if (status != MR_OK) return status;
    mr_gguf_put_string(x->w, KEY("model"), "t5");
    mr_gguf_put_string(x->w, KEY("pre"), "default");
    mr_gguf_put_bool(x->w, KEY("add_space_prefix"), prefix);
    mr_gguf_put_bool(x->w, KEY("remove_extra_whitespaces"), merges);
    status = put_charsmap(x, map);
    if (status == MR_OK) status = collect_tokens(x, NULL);
    return status == MR_OK ? put_unigram_scores(x) : status;
}

/* ---- WordPiece */

static bool wordpiece_fits(const mr_tokenizer *t) {
    const mr_step *step = &t->normalizer.steps[0];
    const mr_pretokenizer *p = &t->pretokenizer;
    bool cuts = p->n == 2 && p->stages[0].kind == MR_STAGE_WHITESPACE_SPLIT && p->stages[1].kind == MR_STAGE_BERT;
    return t->normalizer.n == 1 && step->kind == MR_STEP_BERT && step->clean && step->chinese && cuts && t->unk >= 0 &&
           is_text(t->wordpiece.prefix, t->wordpiece.prefix_len, "##") && t->wordpiece.max_chars == 100 &&
           t->around.before.n <= 1 && t->around.behind.n <= 1;
}

/* Beginnings of words get a mark for the space in front of them, continuations lose theirs. Control tokens stay. */
static mr_status mark_words(exporter *x) {
    for (size_t id = 0; id < x->n; id++) {
        mr_gguf_str *text = &x->texts[id];
        if (x->types[id] == TYPE_UNKNOWN) x->types[id] = TYPE_CONTROL;
        if (x->types[id] == TYPE_CONTROL) continue;
        if (text->len >= 2 && memcmp(text->data, "##", 2) == 0) {
            text->data += 2;
            text->len -= 2;
            continue;
        }
        char *marked = mr_arena_alloc(&x->arena, text->len + 3);
        if (marked == NULL) return no_memory(x, text->len + 3);
        memcpy(marked, SPACE_MARK, 3);
        memcpy(marked + 3, text->data, text->len);
        *text = (mr_gguf_str){.data = marked, .len = text->len + 3};
    }
    return MR_OK;
}

static mr_status put_wordpiece(exporter *x) {
    const mr_tokenizer *t = x->t;
    if (!wordpiece_fits(t)) {
        return mr_fail(x->err, MR_ERR_UNSUPPORTED,
                       "the tokenizer is a WordPiece one that prepares or cuts texts otherwise than BERT, which GGUF "
                       "files cannot say");
    }
    mr_gguf_put_string(x->w, KEY("model"), "bert");
    mr_gguf_put_string(x->w, KEY("pre"), "default");
    mr_gguf_put_bool(x->w, KEY("normalizer.lowercase"), t->normalizer.steps[0].lowercase);
    mr_gguf_put_bool(x->w, KEY("normalizer.strip_accents"), t->normalizer.steps[0].strip_accents);
    put_id(x, KEY("cls_token_id"), outer_id(-1, &t->around.before));
    put_id(x, KEY("seperator_token_id"), outer_id(-1, &t->around.behind));
    put_id(x, KEY("mask_token_id"), mr_tokenizer_find_special(t, "[MASK]", 6));
    return collect_tokens(x, mark_words);
}

mr_status mr_tokenizer_put_gguf(const mr_tokenizer *tokenizer, size_t n_rows, const char *pre, mr_gguf_writer *writer,
                                mr_error *err) {
    exporter x = {.t = tokenizer, .w = writer, .err = err, .n = n_rows};
    const mr_bpe *bpe = &tokenizer->bpe;
    mr_status status;
    if (tokenizer->model == MR_MODEL_BPE && bpe->byte_level)
        status = put_byte_level(&x, pre);
    else if (tokenizer->model == MR_MODEL_BPE && bpe->byte_fallback && bpe->prefix == NULL && bpe->suffix == NULL)
        status = put_sentencepiece(&x);
    else if (tokenizer->model == MR_MODEL_UNIGRAM)
        status = put_unigram(&x);
    else if (tokenizer->model == MR_MODEL_WORDPIECE)
        status = put_wordpiece(&x);
    else
        status = mr_fail(err, MR_ERR_UNSUPPORTED, "GGUF files have no form for a tokenizer of the kind %s",
                         mr_tokenizer_kind(tokenizer));
    if (status == MR_OK) put_specials(&x);
    mr_arena_free(&x.arena);
    return status;
}

void mr_chat_template_put_gguf(const mr_chat_template *chat, mr_gguf_writer *writer) {
    if (chat->is_fallback) return;
    mr_gguf_str names[MR_CHAT_TEMPLATE_MAX_NAMED];
    size_t n_names = 0;
    for (size_t i = 0; i < chat->n_named; i++) {
        const mr_named_template *named = &chat->named[i];
        if (strcmp(named->name, "default") == 0) {
            mr_gguf_put_string(writer, "tokenizer.chat_template", named->source);
            continue;
        }
        char key[256];
        if ((size_t)snprintf(key, sizeof key, "tokenizer.chat_template.%s", named->name) >= sizeof key) continue;
        mr_gguf_put_string(writer, key, named->source);
        names[n_names++] = (mr_gguf_str){.data = named->name, .len = strlen(named->name)};
    }
    if (n_names > 0) mr_gguf_put_strings(writer, "tokenizer.chat_templates", names, n_names);
}
