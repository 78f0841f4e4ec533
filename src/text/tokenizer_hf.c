/* tokenizer.json: the document, its model and its added tokens. */
#include "text/tokenizer_hf.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader {
    mr_tokenizer *t;
    const mr_json_value *model;
    mr_error *err;
    mr_vocab_item *items; /* of all ids, model first, then added */
    size_t n, cap;
    size_t n_model;    /* ids of the model */
    size_t model_size; /* entries in the model's vocabulary: the first free id as the reference counts */
    mr_vocab known;    /* the model's strings as the file has them */
} loader;

static mr_status no_memory(loader *l, size_t n) {
    return mr_fail_nomem(l->err, n, "the vocabulary");
}

/* Makes room for ids 0 .. n-1. */
static mr_status reserve_ids(loader *l, size_t n) {
    if (n > MR_VOCAB_MAX) {
        return mr_fail(l->err, MR_ERR_LIMIT, "tokenizer.json: token id %zu is too large (at most %d)", n - 1,
                       MR_VOCAB_MAX - 1);
    }
    if (n > l->cap) {
        size_t cap = l->cap == 0 ? 1024 : l->cap;
        while (cap < n) cap *= 2;
        mr_vocab_item *items = realloc(l->items, cap * sizeof *items);
        if (items == NULL) return no_memory(l, cap * sizeof *items);
        memset(items + l->cap, 0, (cap - l->cap) * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    if (n > l->n) l->n = n;
    return MR_OK;
}

/* {"token": id, …} */
static mr_status read_vocab_object(loader *l) {
    const mr_json_value *vocab = mr_json_get(l->model, "vocab");
    if (!mr_json_is(vocab, MR_JSON_OBJECT))
        return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: the model has no vocab object");
    const mr_json_value *key = mr_json_first(vocab);
    for (uint32_t i = 0; i < vocab->len; i++) {
        const mr_json_value *value = mr_json_next(key);
        uint32_t id;
        if (!mr_json_u32(value, &id))
            return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: a token's id is no whole number");
        mr_status status = reserve_ids(l, (size_t)id + 1);
        if (status != MR_OK) return status;
        l->items[id] = (mr_vocab_item){.text = key->text, .len = key->len};
        key = mr_json_next(value);
    }
    l->model_size = vocab->len;
    return MR_OK;
}

/* [["token", score], …] */
static mr_status read_vocab_list(loader *l) {
    const mr_json_value *vocab = mr_json_get(l->model, "vocab");
    mr_unigram *u = &l->t->unigram;
    if (!mr_json_is(vocab, MR_JSON_ARRAY))
        return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: the model has no vocab list");
    mr_status status = reserve_ids(l, vocab->len);
    if (status != MR_OK) return status;
    u->score = calloc((size_t)vocab->len + 1, sizeof *u->score);
    if (u->score == NULL) return no_memory(l, vocab->len * sizeof *u->score);
    double least = 1e300;
    const mr_json_value *pair = mr_json_first(vocab);
    for (uint32_t i = 0; i < vocab->len; i++, pair = mr_json_next(pair)) {
        bool ok = mr_json_is(pair, MR_JSON_ARRAY) && pair->len == 2 &&
                  mr_json_is(mr_json_first(pair), MR_JSON_STRING) &&
                  mr_json_double(mr_json_next(mr_json_first(pair)), &u->score[i]);
        if (!ok) return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: vocab entry %u is not [token, score]", i);
        const mr_json_value *text = mr_json_first(pair);
        l->items[i] = (mr_vocab_item){.text = text->text, .len = text->len};
        if (u->score[i] < least) least = u->score[i];
    }
    u->unk_score = least - 10.0;
    l->model_size = vocab->len;
    return MR_OK;
}

static mr_token find_known(const loader *l, const mr_json_value *text) {
    return mr_json_is(text, MR_JSON_STRING) ? mr_vocab_find(&l->known, text->text, text->len) : -1;
}

/* ---- merges ---- */

/* Merges are looked up a block at a time, so that the memory each needs is fetched while others are worked on. */
enum { BLOCK = 16 };

typedef struct merge {
    const char *a, *b;
    size_t n_a, n_b;
    uint64_t hash_a, hash_b, hash;
    mr_token left, right;
    char *joined, small[64];
    size_t n;
} merge;

typedef struct merge_block {
    merge merges[BLOCK];
    size_t n;
    uint32_t rank; /* of the first */
    bool failed;   /* memory ran out */
} merge_block;

static void prefetch(const mr_vocab *vocab, uint64_t hash) {
    __builtin_prefetch(&vocab->slots[hash & vocab->mask]);
}

/* Joins the two strings of a merge whose parts are known. False when memory runs out. */
static bool join(const loader *l, merge *m) {
    const mr_bpe *bpe = &l->t->bpe;
    size_t skip = bpe->prefix != NULL && m->n_b >= bpe->prefix_len ? bpe->prefix_len : 0;
    m->joined = NULL;
    m->n = m->n_a + m->n_b - skip;
    m->left = mr_vocab_find_hashed(&l->known, m->hash_a, m->a, m->n_a);
    m->right = mr_vocab_find_hashed(&l->known, m->hash_b, m->b, m->n_b);
    if (m->left < 0 || m->right < 0 || m->n > l->known.max_len) return true; /* never applied */
    m->joined = m->n <= sizeof m->small ? m->small : malloc(m->n);
    if (m->joined == NULL) return false;
    memcpy(m->joined, m->a, m->n_a);
    memcpy(m->joined + m->n_a, m->b + skip, m->n_b - skip);
    m->hash = mr_vocab_hash(m->joined, m->n);
    prefetch(&l->known, m->hash);
    return true;
}

static void flush_merges(loader *l, merge_block *block) {
    for (size_t i = 0; i < block->n; i++) block->failed = !join(l, &block->merges[i]) || block->failed;
    for (size_t i = 0; i < block->n; i++) {
        merge *m = &block->merges[i];
        if (m->joined == NULL) continue;
        mr_token id = mr_vocab_find_hashed(&l->known, m->hash, m->joined, m->n);
        if (id >= 0) mr_bpe_add_merge(&l->t->bpe, m->left, m->right, block->rank + (uint32_t)i, id);
        if (m->joined != m->small) free(m->joined);
    }
    block->rank += (uint32_t)block->n;
    block->n = 0;
}

static void add_merge(loader *l, merge_block *block, const char *a, size_t n_a, const char *b, size_t n_b) {
    if (block->n == BLOCK) flush_merges(l, block);
    merge *m = &block->merges[block->n++];
    m->a = a;
    m->b = b;
    m->n_a = n_a;
    m->n_b = n_b;
    m->hash_a = mr_vocab_hash(a, n_a);
    m->hash_b = mr_vocab_hash(b, n_b);
    prefetch(&l->known, m->hash_a);
    prefetch(&l->known, m->hash_b);
}

/* "left right", or ["left", "right"] */
static mr_status read_merges(loader *l) {
    const mr_json_value *merges = mr_json_get(l->model, "merges");
    if (!mr_json_is(merges, MR_JSON_ARRAY)) {
        return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: the BPE model has no merges");
    }
    mr_status status = mr_bpe_reserve(&l->t->bpe, merges->len, l->err);
    if (status != MR_OK) return status;
    merge_block block = {0};
    const mr_json_value *json = mr_json_first(merges);
    for (uint32_t i = 0; i < merges->len; i++, json = mr_json_next(json)) {
        if (mr_json_is(json, MR_JSON_ARRAY) && json->len == 2) {
            const mr_json_value *a = mr_json_first(json), *b = mr_json_next(a);
            if (mr_json_is(a, MR_JSON_STRING) && mr_json_is(b, MR_JSON_STRING)) {
                add_merge(l, &block, a->text, a->len, b->text, b->len);
                continue;
            }
        }
        bool text = mr_json_is(json, MR_JSON_STRING);
        if (text && json->len >= 8 && memcmp(json->text, "#version", 8) == 0) continue;
        const char *space = text ? memchr(json->text, ' ', json->len) : NULL;
        if (space == NULL) return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: merge %u is no pair", i);
        size_t n = (size_t)(space - json->text);
        add_merge(l, &block, json->text, n, space + 1, json->len - n - 1);
    }
    flush_merges(l, &block);
    return block.failed ? no_memory(l, merges->len) : MR_OK;
}

/* ---- byte-level vocabularies ---- */

/* Whether the pre-tokenizer ends in the letters for bytes and nothing else makes or needs them: then the model may work
 * on the bytes themselves. */
static bool works_on_bytes(const mr_tokenizer *t) {
    const mr_pretokenizer *p = &t->pretokenizer;
    if (t->model != MR_MODEL_BPE || t->bpe.prefix != NULL || t->bpe.suffix != NULL || t->bpe.byte_fallback)
        return false;
    for (size_t i = 0; i < t->normalizer.n; i++) {
        if (t->normalizer.steps[i].kind == MR_STEP_BYTE_LEVEL) return false;
    }
    if (t->decoder.n != 1 || t->decoder.ops[0].kind != MR_DECODE_BYTE_LEVEL) return false;
    for (size_t i = 0; i + 1 < p->n; i++) {
        if (p->stages[i].kind == MR_STAGE_BYTE_LEVEL && p->stages[i].map_bytes) return false;
    }
    return p->n > 0 && p->stages[p->n - 1].kind == MR_STAGE_BYTE_LEVEL && p->stages[p->n - 1].map_bytes;
}

/* Turns the strings into the bytes they stand for. What stands for none can't be made by the model. */
static mr_status decode_items(loader *l) {
    size_t total = 0, n;
    for (size_t i = 0; i < l->n; i++) total += l->items[i].len;
    char *bytes = mr_arena_alloc(&l->t->arena, total);
    if (bytes == NULL) return no_memory(l, total);
    for (size_t i = 0; i < l->n; i++) {
        mr_vocab_item *item = &l->items[i];
        if (item->text == NULL) continue;
        if (mr_byte_level_decode(item->text, item->len, bytes, &n)) {
            item->text = bytes;
            item->len = (uint32_t)n;
            bytes += n;
        } else {
            item->attr |= MR_TOKEN_HIDDEN;
        }
    }
    l->t->bpe.byte_level = true;
    l->t->decoder.ops[0].raw = true;
    l->t->pretokenizer.n--; /* the stage that maps bytes owns nothing */
    return MR_OK;
}

/* ---- added tokens ---- */

/* The texts that decoding gives for tokens whose normalized text differs. */
static mr_status rename_token(loader *l, mr_token id, const char *text, size_t len) {
    mr_tokenizer *t = l->t;
    if ((t->n_renamed & (t->n_renamed - 1)) == 0) { /* doubles; the arena keeps the old lists */
        size_t cap = t->n_renamed == 0 ? 1 : 2 * t->n_renamed;
        mr_renamed *list = mr_arena_calloc(&t->arena, cap, sizeof *list);
        if (list == NULL) return no_memory(l, cap * sizeof *list);
        if (t->n_renamed > 0) memcpy(list, t->renamed, t->n_renamed * sizeof *list);
        t->renamed = list;
    }
    char *copy = mr_arena_strndup(&t->arena, text, len);
    if (copy == NULL) return no_memory(l, len);
    t->renamed[t->n_renamed++] = (mr_renamed){.id = id, .text = copy, .len = len};
    return MR_OK;
}

static mr_status normalized_name(loader *l, const mr_added_token *token) {
    mr_normalizer_scratch scratch = {0};
    const char *text = token->text;
    size_t len = token->len;
    bool at_start = true;
    mr_status status = mr_normalizer_run(&l->t->normalizer, &scratch, &text, &len, &at_start, l->err);
    if (status == MR_OK && (len != token->len || memcmp(text, token->text, len) != 0)) {
        l->items[token->id].attr |= MR_TOKEN_RENAMED;
        status = rename_token(l, token->id, text, len);
    }
    mr_normalizer_scratch_free(&scratch);
    return status;
}

/* One added token: its id is the one it has already, in the model or among the added ones, or the next free one. */
static mr_status add_token(loader *l, const mr_json_value *json, mr_strmap *ids, uint32_t *next_id) {
    mr_added_token token = {0};
    mr_status status =
        mr_hf_text(l->t, mr_json_get(json, "content"), "an added token's content", &token.text, &token.len, l->err);
    if (status != MR_OK || token.len == 0) return status;
    token.single_word = mr_json_bool(mr_json_get(json, "single_word"), false);
    token.lstrip = mr_json_bool(mr_json_get(json, "lstrip"), false);
    token.rstrip = mr_json_bool(mr_json_get(json, "rstrip"), false);
    token.special = mr_json_bool(mr_json_get(json, "special"), false);
    token.normalized = mr_json_bool(mr_json_get(json, "normalized"), !token.special);
    uint32_t id;
    token.id = mr_vocab_find(&l->known, token.text, token.len);
    bool in_model = token.id >= 0;
    if (mr_strmap_get(ids, token.text, token.len, &id)) {
        token.id = (mr_token)id;
    } else if (!in_model) {
        token.id = (mr_token)(*next_id)++;
    }
    status = reserve_ids(l, (size_t)token.id + 1);
    if (status != MR_OK) return status;
    if (!mr_strmap_put(ids, token.text, token.len, (uint32_t)token.id)) return no_memory(l, 64);
    mr_vocab_item *item = &l->items[token.id];
    if (!in_model) *item = (mr_vocab_item){.text = token.text, .len = (uint32_t)token.len, .attr = MR_TOKEN_HIDDEN};
    item->attr = (uint16_t)((item->attr & ~MR_TOKEN_SPECIAL) | MR_TOKEN_ADDED | (token.special ? MR_TOKEN_SPECIAL : 0));
    if (token.normalized) status = normalized_name(l, &token);
    return status == MR_OK ? mr_added_push(&l->t->added, token, l->err) : status;
}

static mr_status read_added(loader *l, const mr_json_value *list) {
    if (list == NULL || mr_json_is(list, MR_JSON_NULL)) return MR_OK;
    if (!mr_json_is(list, MR_JSON_ARRAY))
        return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: added_tokens is no list");
    mr_strmap *ids = mr_strmap_new(list->len);
    if (ids == NULL) return no_memory(l, list->len * 32);
    uint32_t next_id = (uint32_t)l->model_size;
    mr_status status = MR_OK;
    const mr_json_value *json = mr_json_first(list);
    for (uint32_t i = 0; i < list->len && status == MR_OK; i++, json = mr_json_next(json)) {
        status = add_token(l, json, ids, &next_id);
    }
    mr_strmap_free(ids);
    return status;
}

/* ---- models ---- */

static mr_model_kind kind_of(const mr_json_value *model) {
    const mr_json_value *type = mr_json_get(model, "type");
    if (mr_json_is_text(type, "BPE")) return MR_MODEL_BPE;
    if (mr_json_is_text(type, "Unigram")) return MR_MODEL_UNIGRAM;
    if (mr_json_is_text(type, "WordPiece")) return MR_MODEL_WORDPIECE;
    if (mr_json_is_text(type, "WordLevel")) return MR_MODEL_WORDLEVEL;
    /* Files from before "type" existed. */
    if (mr_json_get(model, "merges") != NULL) return MR_MODEL_BPE;
    if (mr_json_get(model, "max_input_chars_per_word") != NULL) return MR_MODEL_WORDPIECE;
    return mr_json_is(mr_json_get(model, "vocab"), MR_JSON_ARRAY) ? MR_MODEL_UNIGRAM : MR_MODEL_WORDLEVEL;
}

/* A prefix or suffix; empty and null are none. */
static mr_status read_affix(loader *l, const char *key, const char **text, size_t *len) {
    const mr_json_value *json = mr_json_get(l->model, key);
    if (!mr_json_is(json, MR_JSON_STRING) || json->len == 0) return MR_OK;
    if (json->len > MR_WORDPIECE_MAX_PREFIX)
        return mr_fail(l->err, MR_ERR_LIMIT, "tokenizer.json: %s is too long", key);
    return mr_hf_text(l->t, json, key, text, len, l->err);
}

static mr_status read_bpe_options(loader *l) {
    mr_bpe *bpe = &l->t->bpe;
    bpe->byte_fallback = mr_json_bool(mr_json_get(l->model, "byte_fallback"), false);
    bpe->ignore_merges = mr_json_bool(mr_json_get(l->model, "ignore_merges"), false);
    bpe->fuse_unk = mr_json_bool(mr_json_get(l->model, "fuse_unk"), false);
    mr_status status = read_affix(l, "continuing_subword_prefix", &bpe->prefix, &bpe->prefix_len);
    if (status == MR_OK) status = read_affix(l, "end_of_word_suffix", &bpe->suffix, &bpe->suffix_len);
    return status;
}

static mr_status finish_bpe(loader *l) {
    mr_tokenizer *t = l->t;
    t->bpe.vocab = &t->vocab;
    t->bpe.unk = t->unk = find_known(l, mr_json_get(l->model, "unk_token"));
    mr_status status = read_merges(l);
    snprintf(t->kind, sizeof t->kind, t->bpe.byte_level ? "byte-level BPE" : "BPE");
    return status == MR_OK ? mr_bpe_finish(&t->bpe, l->err) : status;
}

static mr_status finish_unigram(loader *l) {
    mr_tokenizer *t = l->t;
    mr_unigram *u = &t->unigram;
    uint32_t unk;
    u->vocab = &t->vocab;
    u->byte_fallback = mr_json_bool(mr_json_get(l->model, "byte_fallback"), false);
    if (mr_json_u32(mr_json_get(l->model, "unk_id"), &unk)) {
        if (unk >= l->n_model)
            return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: unk_id %u is not in the vocabulary", unk);
        u->unk = t->unk = (mr_token)unk;
    }
    snprintf(t->kind, sizeof t->kind, "Unigram");
    return mr_unigram_finish(u, l->err);
}

static mr_status finish_words(loader *l) {
    mr_tokenizer *t = l->t;
    mr_wordpiece *w = &t->wordpiece;
    const mr_json_value *unk = mr_json_get(l->model, "unk_token");
    uint32_t max_chars = 100;
    bool level = t->model == MR_MODEL_WORDLEVEL;
    mr_json_u32(mr_json_get(l->model, "max_input_chars_per_word"), &max_chars);
    *w = (mr_wordpiece){
        .vocab = &t->vocab, .whole_words = level, .max_chars = max_chars, .prefix = "##", .prefix_len = 2};
    if (mr_json_get(l->model, "continuing_subword_prefix") != NULL) {
        w->prefix = "";
        w->prefix_len = 0;
    }
    w->unk = unk != NULL ? find_known(l, unk) : mr_vocab_find(&l->known, level ? "<unk>" : "[UNK]", 5);
    t->unk = w->unk;
    snprintf(t->kind, sizeof t->kind, level ? "WordLevel" : "WordPiece");
    return read_affix(l, "continuing_subword_prefix", &w->prefix, &w->prefix_len);
}

static mr_status read_document(loader *l, const mr_json_value *root) {
    mr_tokenizer *t = l->t;
    l->model = mr_json_get(root, "model");
    if (!mr_json_is(l->model, MR_JSON_OBJECT))
        return mr_fail(l->err, MR_ERR_INVALID, "tokenizer.json: there is no model");
    t->model = kind_of(l->model);
    mr_status status = t->model == MR_MODEL_UNIGRAM ? read_vocab_list(l) : read_vocab_object(l);
    l->n_model = l->n;
    if (status == MR_OK) status = mr_vocab_build(&l->known, l->items, l->n, l->err);
    if (status == MR_OK && t->model == MR_MODEL_BPE) status = read_bpe_options(l);
    if (status == MR_OK) status = mr_hf_normalizer(t, mr_json_get(root, "normalizer"), l->err);
    if (status == MR_OK) status = mr_hf_pretokenizer(t, mr_json_get(root, "pre_tokenizer"), l->err);
    if (status == MR_OK) status = mr_hf_decoder(t, mr_json_get(root, "decoder"), l->err);
    if (status == MR_OK) status = mr_hf_post_processor(t, mr_json_get(root, "post_processor"), l->err);
    if (status == MR_OK) status = read_added(l, mr_json_get(root, "added_tokens"));
    if (status == MR_OK && works_on_bytes(t)) status = decode_items(l);
    if (status == MR_OK) status = mr_vocab_build(&t->vocab, l->items, l->n, l->err);
    if (status != MR_OK) return status;
    switch (t->model) {
    case MR_MODEL_BPE:
        return finish_bpe(l);
    case MR_MODEL_UNIGRAM:
        return finish_unigram(l);
    default:
        return finish_words(l);
    }
}

mr_status mr_tokenizer_read_json(mr_tokenizer *tokenizer, char *text, size_t len, mr_error *err) {
    mr_json json;
    mr_status status = mr_json_parse(&json, text, len, err);
    if (status != MR_OK) return mr_fail_prefix(err, "tokenizer.json");
    loader l = {.t = tokenizer, .err = err};
    status = read_document(&l, &json.values[0]);
    mr_vocab_free(&l.known);
    free(l.items);
    mr_json_free(&json);
    return status;
}
