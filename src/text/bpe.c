#include "text/bpe.h"

#include "base/utf8.h"

#include <stdatomic.h>
#include <stdlib.h>

#define NONE UINT32_MAX
enum { MAX_UNMERGE_DEPTH = 1000, LINEAR_MAX = 24, HEAP_MAX = 2000, MAX_PIECE = 0x7FFFFFFF };

static const char SPACE_MARK[] = "\xE2\x96\x81"; /* U+2581, SentencePiece's space */

/* ---- the table of merges ---- */

static size_t slot_of(const mr_bpe *bpe, uint64_t pair) {
    size_t i = (size_t)mr_vocab_mix(pair * 0x9E3779B97F4A7C15u) & bpe->mask;
    while (bpe->merges[i].pair != UINT64_MAX && bpe->merges[i].pair != pair) i = (i + 1) & bpe->mask;
    return i;
}

mr_status mr_bpe_reserve(mr_bpe *bpe, size_t n, mr_error *err) {
    if (n > (size_t)MR_VOCAB_MAX * 4) {
        return mr_fail(err, MR_ERR_LIMIT, "the tokenizer has %zu merges; at most %d are supported", n,
                       MR_VOCAB_MAX * 4);
    }
    size_t n_slots = 64;
    while (n_slots < n * 3 / 2 + 1) n_slots *= 2;
    free(bpe->merges);
    bpe->merges = malloc(n_slots * sizeof *bpe->merges);
    if (bpe->merges == NULL) return mr_fail_nomem(err, n_slots * sizeof *bpe->merges, "the merges");
    memset(bpe->merges, 0xFF, n_slots * sizeof *bpe->merges);
    bpe->mask = n_slots - 1;
    bpe->n_merges = 0;
    return MR_OK;
}

void mr_bpe_add_merge(mr_bpe *bpe, mr_token left, mr_token right, uint32_t rank, mr_token id) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(bpe, pair);
    if (bpe->merges[i].pair == UINT64_MAX) bpe->n_merges++;
    bpe->merges[i] = (mr_merge_slot){.pair = pair, .rank = rank, .id = id};
}

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int best_first(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* SentencePiece merges the pair with the best score: equal scores share a rank. */
mr_status mr_bpe_rank_scores(mr_bpe *bpe, const float *scores, size_t n, mr_error *err) {
    scored *order = malloc((n + 1) * sizeof *order);
    bpe->rank = malloc((n + 1) * sizeof *bpe->rank);
    if (order == NULL || bpe->rank == NULL) {
        free(order);
        return mr_fail_nomem(err, n * sizeof *order, "the scores");
    }
    for (size_t i = 0; i < n; i++) order[i] = (scored){.score = scores[i], .id = (uint32_t)i};
    qsort(order, n, sizeof *order, best_first);
    for (size_t i = 0; i < n; i++) {
        bool tie = i > 0 && order[i].score == order[i - 1].score;
        bpe->rank[order[i].id] = tie ? bpe->rank[order[i - 1].id] : (uint32_t)i;
    }
    free(order);
    return MR_OK;
}

/* Whether U+2581 stands behind another character in text. */
static bool has_inner_space(const char *text, size_t len) {
    for (size_t i = 1; i + 3 <= len; i++) {
        if (memcmp(text + i, SPACE_MARK, 3) == 0 && !(i >= 3 && memcmp(text + i - 3, SPACE_MARK, 3) == 0)) return true;
    }
    return false;
}

/* Words may be cut apart when no merge can cross from a letter to the space mark behind it: none makes a text in which
 * one stands behind the other. Pieces that merely are in the vocabulary do not matter to ranked merges. */
static bool may_cut(const mr_bpe *bpe) {
    if (bpe->prefix != NULL || bpe->suffix != NULL || bpe->ignore_merges || bpe->byte_level) return false;
    if (mr_vocab_find(bpe->vocab, SPACE_MARK, 3) < 0) return false;
    size_t len;
    if (bpe->by_score) {
        for (size_t id = 0; id < bpe->vocab->n; id++) {
            if ((bpe->vocab->attr[id] & MR_TOKEN_HIDDEN) != 0) continue;
            const char *text = mr_vocab_text(bpe->vocab, (mr_token)id, &len);
            if (has_inner_space(text, len)) return false;
        }
        return true;
    }
    for (size_t i = 0; i <= bpe->mask; i++) {
        if (bpe->merges[i].pair == UINT64_MAX) continue;
        const char *text = mr_vocab_text(bpe->vocab, bpe->merges[i].id, &len);
        if (has_inner_space(text, len)) return false;
    }
    return true;
}

mr_status mr_bpe_finish(mr_bpe *bpe, mr_error *err) {
    for (int b = 0; b < 256; b++) {
        char name = (char)b;
        bpe->byte_id[b] = bpe->byte_level ? mr_vocab_find(bpe->vocab, &name, 1) : -1;
    }
    for (size_t id = bpe->vocab->n; id > 0 && !bpe->byte_level; id--) { /* the first of equals wins */
        size_t len;
        if ((bpe->vocab->attr[id - 1] & (MR_TOKEN_HIDDEN | MR_TOKEN_BYTE)) == MR_TOKEN_HIDDEN) continue;
        const char *text = mr_vocab_text(bpe->vocab, (mr_token)(id - 1), &len);
        int byte = mr_byte_token_value(text, len);
        if (byte >= 0 && text[3] < 'a' && text[4] < 'a') bpe->byte_id[byte] = (mr_token)(id - 1);
    }
    if (bpe->merges == NULL) {
        mr_status status = mr_bpe_reserve(bpe, 0, err);
        if (status != MR_OK) return status;
    }
    bpe->whole = calloc(bpe->vocab->n + 1, 1);
    if (bpe->whole == NULL) return mr_fail_nomem(err, bpe->vocab->n, "the vocabulary");
    bpe->cut_at_space = may_cut(bpe);
    return MR_OK;
}

void mr_bpe_free(mr_bpe *bpe) {
    free(bpe->merges);
    free(bpe->rank);
    free(bpe->whole);
    *bpe = (mr_bpe){0};
}

/* ---- scratch ---- */

void mr_bpe_scratch_init(mr_bpe_scratch *scratch, size_t n_bytes) {
    *scratch = (mr_bpe_scratch){0};
    size_t n = 16;
    while (n < 8192 && n * 24 < n_bytes) n *= 2;
    if (n_bytes < 256) return;
    scratch->cache = calloc(n, sizeof *scratch->cache);
    scratch->cache_mask = n - 1;
}

void mr_bpe_scratch_free(mr_bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    mr_bpe_queue_free(&scratch->queue);
    free(scratch->unused);
    free(scratch->cache);
    *scratch = (mr_bpe_scratch){0};
}

static bool grow_symbols(mr_bpe_scratch *s, size_t n) {
    if (n <= s->cap) return true;
    size_t cap = s->cap == 0 ? 64 : s->cap;
    while (cap < n) cap *= 2;
    mr_symbol *symbols = realloc(s->symbols, cap * sizeof *symbols);
    if (symbols == NULL) return false;
    s->symbols = symbols;
    s->cap = cap;
    return true;
}

/* ---- merging ---- */

static void note_unused(mr_bpe_scratch *s, mr_token id, uint32_t left_len) {
    if (s->n_unused == s->cap_unused) {
        size_t cap = s->cap_unused == 0 ? 64 : s->cap_unused * 2;
        mr_unused_merge *unused = realloc(s->unused, cap * sizeof *unused);
        if (unused == NULL) {
            s->failed = true;
            return;
        }
        s->unused = unused;
        s->cap_unused = cap;
    }
    s->unused[s->n_unused++] = (mr_unused_merge){.id = id, .left_len = left_len};
}

/* Sets the pair that begins at symbol a (with its next); what cannot merge has rank UINT32_MAX. */
static void look_up_pair(const mr_bpe *bpe, mr_bpe_scratch *s, mr_symbol *a, const char *text) {
    a->pair_rank = NONE;
    if (a->next == NONE) return;
    const mr_symbol *b = &s->symbols[a->next];
    if (bpe->by_score) {
        mr_token id = mr_vocab_find(bpe->vocab, text + a->start, (size_t)a->len + b->len);
        if (id < 0) return;
        a->pair_rank = bpe->rank[id];
        a->pair_id = id;
        if ((bpe->vocab->attr[id] & MR_TOKEN_UNUSED) != 0) note_unused(s, id, a->len);
        return;
    }
    const mr_merge_slot *slot = &bpe->merges[slot_of(bpe, (uint64_t)(uint32_t)a->id << 32 | (uint32_t)b->id)];
    if (slot->pair == UINT64_MAX) return;
    a->pair_rank = slot->rank;
    a->pair_id = slot->id;
}

/* Merges symbol a with its next and looks up the pairs on both sides. */
static void merge_at(const mr_bpe *bpe, mr_bpe_scratch *s, uint32_t at, const char *text) {
    mr_symbol *symbols = s->symbols, *a = &symbols[at], *b = &symbols[a->next];
    a->id = a->pair_id;
    a->len += b->len;
    a->next = b->next;
    b->len = 0;
    b->pair_rank = NONE;
    if (b->next != NONE) symbols[b->next].prev = at;
    look_up_pair(bpe, s, a, text);
    if (a->prev != NONE) look_up_pair(bpe, s, &symbols[a->prev], text);
}

/* For a few symbols a scan for the best pair is faster than a heap. */
static void merge_linear(const mr_bpe *bpe, mr_bpe_scratch *s, const char *text) {
    const mr_symbol *symbols = s->symbols;
    for (;;) {
        uint32_t best = NONE, best_rank = NONE;
        for (uint32_t i = 0; i != NONE; i = symbols[i].next) {
            if (symbols[i].pair_rank < best_rank) {
                best_rank = symbols[i].pair_rank;
                best = i;
            }
        }
        if (best == NONE) return;
        merge_at(bpe, s, best, text);
    }
}

static bool push_pair(mr_bpe_scratch *s, bool many, uint32_t at) {
    const mr_symbol *a = &s->symbols[at];
    if (a->pair_rank == NONE) return true;
    if (many) return mr_bpe_queue_push(&s->queue, a->pair_rank, at);
    return mr_heap_push(&s->heap, &s->n_heap, &s->cap_heap, (uint64_t)a->pair_rank << 32 | at);
}

static bool pop_pair(mr_bpe_scratch *s, bool many, uint32_t *rank, uint32_t *at) {
    if (many) return mr_bpe_queue_pop(&s->queue, rank, at);
    if (s->n_heap == 0) return false;
    uint64_t key = mr_heap_pop(s->heap, &s->n_heap);
    *rank = (uint32_t)(key >> 32);
    *at = (uint32_t)key;
    return true;
}

static bool merge_in_order(const mr_bpe *bpe, mr_bpe_scratch *s, size_t n, const char *text) {
    bool many = n > HEAP_MAX;
    uint32_t rank, at;
    s->n_heap = 0;
    if (many) mr_bpe_queue_clear(&s->queue);
    for (size_t i = 0; i < n; i++) {
        if (!push_pair(s, many, (uint32_t)i)) return false;
    }
    while (pop_pair(s, many, &rank, &at)) {
        mr_symbol *a = &s->symbols[at];
        if (a->len == 0 || a->pair_rank != rank) continue; /* the pair is gone */
        merge_at(bpe, s, at, text);
        if (a->prev != NONE && !push_pair(s, many, a->prev)) return false;
        if (!push_pair(s, many, at)) return false;
    }
    return true;
}

/* ---- from text to symbols ---- */

typedef struct symbol_list {
    mr_symbol *symbols;
    size_t n;
} symbol_list;

static void add_symbol(symbol_list *list, mr_token id, size_t start, size_t len) {
    uint32_t i = (uint32_t)list->n++;
    list->symbols[i] = (mr_symbol){
        .id = id, .prev = i - 1, .next = i + 1, .start = (uint32_t)start, .len = (uint32_t)len, .pair_rank = NONE};
}

/* The id of a character, dressed with prefix and suffix where the model has them. */
static mr_token char_id(const mr_bpe *bpe, const char *text, size_t len, bool first, bool last, bool *dressed) {
    *dressed = (bpe->prefix != NULL && !first) || (bpe->suffix != NULL && last);
    if (!*dressed) return mr_vocab_find(bpe->vocab, text, len);
    char name[512];
    size_t n = 0;
    if (bpe->prefix != NULL && !first) {
        memcpy(name, bpe->prefix, bpe->prefix_len);
        n += bpe->prefix_len;
    }
    memcpy(name + n, text, len);
    n += len;
    if (bpe->suffix != NULL && last) {
        memcpy(name + n, bpe->suffix, bpe->suffix_len);
        n += bpe->suffix_len;
    }
    return mr_vocab_find(bpe->vocab, name, n);
}

static bool all_bytes_known(const mr_bpe *bpe, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bpe->byte_id[(uint8_t)text[i]] < 0) return false;
    }
    return true;
}

/* One symbol a character; what the vocabulary does not know becomes bytes or the unknown token. An unknown token is
 * held back until a known character follows, so that neighbours can be fused. */
static void split_chars(const mr_bpe *bpe, symbol_list *list, const char *text, size_t len) {
    size_t unk_start = 0, unk_len = 0;
    for (size_t at = 0; at < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + at, len - at, &c);
        bool dressed;
        mr_token id = char_id(bpe, text + at, n, at == 0, at + n == len, &dressed);
        if (id >= 0) {
            if (unk_len > 0) add_symbol(list, bpe->unk, unk_start, unk_len);
            unk_len = 0;
            add_symbol(list, id, at, n);
        } else if (bpe->byte_fallback && !dressed && all_bytes_known(bpe, text + at, n)) {
            for (size_t i = 0; i < n; i++) add_symbol(list, bpe->byte_id[(uint8_t)text[at + i]], at + i, 1);
        } else if (bpe->unk >= 0) {
            if (unk_len > 0 && !bpe->fuse_unk) {
                add_symbol(list, bpe->unk, unk_start, unk_len);
                unk_len = 0;
            }
            if (unk_len == 0) unk_start = at;
            unk_len += n;
        }
        at += n;
    }
    if (unk_len > 0) add_symbol(list, bpe->unk, unk_start, unk_len);
}

/* SentencePiece keeps unknown characters as text: a merge may still make a token of them. */
static void split_chars_by_score(const mr_bpe *bpe, symbol_list *list, const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + at, len - at, &c);
        add_symbol(list, mr_vocab_find(bpe->vocab, text + at, n), at, n);
        at += n;
    }
}

static void split_bytes(const mr_bpe *bpe, symbol_list *list, const char *text, size_t len) {
    for (size_t at = 0; at < len; at++) {
        mr_token id = bpe->byte_id[(uint8_t)text[at]];
        if (id >= 0) {
            add_symbol(list, id, at, 1);
        } else if (bpe->unk >= 0) {
            mr_symbol *last = list->n > 0 ? &list->symbols[list->n - 1] : NULL;
            if (bpe->fuse_unk && last != NULL && last->id == bpe->unk && last->start + last->len == at) {
                last->len++;
            } else {
                add_symbol(list, bpe->unk, at, 1);
            }
        }
    }
}

/* Bytes for a text that is no token; the unknown token when there are no byte tokens. */
static bool push_unknown(const mr_bpe *bpe, const char *text, size_t len, mr_tokens *out) {
    if (bpe->byte_fallback && all_bytes_known(bpe, text, len)) {
        for (size_t i = 0; i < len; i++) {
            if (!mr_tokens_push(out, bpe->byte_id[(uint8_t)text[i]])) return false;
        }
        return true;
    }
    if (bpe->unk < 0 || (out->n > 0 && bpe->fuse_unk && out->ids[out->n - 1] == bpe->unk)) return true;
    return mr_tokens_push(out, bpe->unk);
}

static mr_status no_memory(const mr_bpe_scratch *s, mr_error *err) {
    return mr_fail_nomem(err, s->cap * sizeof *s->symbols + s->cap_heap * sizeof *s->heap, "tokenizing a text");
}

/* A final symbol: its token, bytes, or, for a token marked unused, the symbols whose merge made it. */
static bool push_symbol(const mr_bpe *bpe, const mr_bpe_scratch *s, mr_token id, const char *text, size_t len,
                        unsigned depth, mr_tokens *out) {
    if (id < 0) return push_unknown(bpe, text, len, out);
    if ((bpe->vocab->attr[id] & MR_TOKEN_UNUSED) == 0 || !bpe->by_score || depth > MAX_UNMERGE_DEPTH) {
        return mr_tokens_push(out, id);
    }
    size_t i = s->n_unused;
    while (i > 0 && s->unused[i - 1].id != id) i--;
    if (i == 0) return push_unknown(bpe, text, len, out);
    size_t left = s->unused[i - 1].left_len;
    return push_symbol(bpe, s, mr_vocab_find(bpe->vocab, text, left), text, left, depth + 1, out) &&
           push_symbol(bpe, s, mr_vocab_find(bpe->vocab, text + left, len - left), text + left, len - left, depth + 1,
                       out);
}

/* The plain way, without whole-word lookup and cache. */
static mr_status encode_merging(const mr_bpe *bpe, mr_bpe_scratch *s, const char *text, size_t len, mr_tokens *out,
                                mr_error *err) {
    if (len > MAX_PIECE) return mr_fail(err, MR_ERR_LIMIT, "a text of %zu bytes is too long to tokenize", len);
    if (!grow_symbols(s, len)) return no_memory(s, err);
    symbol_list list = {.symbols = s->symbols};
    if (bpe->byte_level) {
        split_bytes(bpe, &list, text, len);
    } else if (bpe->by_score) {
        split_chars_by_score(bpe, &list, text, len);
    } else {
        split_chars(bpe, &list, text, len);
    }
    if (list.n == 0) return MR_OK;
    s->n_unused = 0;
    list.symbols[list.n - 1].next = NONE;
    for (size_t i = 0; i + 1 < list.n; i++) look_up_pair(bpe, s, &list.symbols[i], text);
    if (list.n <= LINEAR_MAX) {
        merge_linear(bpe, s, text);
    } else if (!merge_in_order(bpe, s, list.n, text)) {
        return no_memory(s, err);
    }
    if (s->failed) return no_memory(s, err);
    for (uint32_t i = 0; i != NONE; i = list.symbols[i].next) {
        const mr_symbol *symbol = &list.symbols[i];
        if (!push_symbol(bpe, s, symbol->id, text + symbol->start, symbol->len, 0, out)) return no_memory(s, err);
    }
    return MR_OK;
}

/* Whether the token's own text encodes to it; found out at the first use. Any thread comes to the same answer. */
static mr_status is_whole(const mr_bpe *bpe, mr_bpe_scratch *s, mr_token id, bool *whole, mr_error *err) {
    _Atomic uint8_t *mark = (_Atomic uint8_t *)&bpe->whole[id];
    uint8_t known = atomic_load_explicit(mark, memory_order_relaxed);
    if (known == 0) {
        size_t len;
        const char *text = mr_vocab_text(bpe->vocab, id, &len);
        mr_tokens ids = {0};
        mr_status status = encode_merging(bpe, s, text, len, &ids, err);
        known = ids.n == 1 && ids.ids[0] == id ? 1 : 2;
        mr_tokens_free(&ids);
        if (status != MR_OK) return status;
        atomic_store_explicit(mark, known, memory_order_relaxed);
    }
    *whole = known == 1;
    return MR_OK;
}

static bool only_newlines(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\n') return false;
    }
    return true;
}

static mr_status encode_word(const mr_bpe *bpe, mr_bpe_scratch *s, const char *text, size_t len, mr_tokens *out,
                             mr_error *err) {
    uint64_t hash = mr_vocab_hash(text, len);
    mr_token id = mr_vocab_find_hashed(bpe->vocab, hash, text, len);
    if (id >= 0) {
        bool whole = bpe->ignore_merges || (bpe->whole_newlines && only_newlines(text, len));
        mr_status status = whole ? MR_OK : is_whole(bpe, s, id, &whole, err);
        if (status != MR_OK) return status;
        if (whole) return mr_tokens_push(out, id) ? MR_OK : no_memory(s, err);
    }
    mr_word_entry *entry = NULL;
    if (s->cache != NULL && len <= sizeof entry->text) {
        entry = &s->cache[(hash >> 20) & s->cache_mask];
        if (entry->hash == hash && entry->len == len && memcmp(entry->text, text, len) == 0) {
            for (uint8_t i = 0; i < entry->n; i++) {
                if (!mr_tokens_push(out, entry->ids[i])) return no_memory(s, err);
            }
            return MR_OK;
        }
    }
    size_t before = out->n;
    mr_status status = encode_merging(bpe, s, text, len, out, err);
    size_t n = out->n - before;
    if (status == MR_OK && entry != NULL && n <= sizeof entry->ids / sizeof entry->ids[0]) {
        entry->hash = hash;
        entry->len = (uint8_t)len;
        entry->n = (uint8_t)n;
        memcpy(entry->text, text, len);
        if (n > 0) memcpy(entry->ids, out->ids + before, n * sizeof *entry->ids);
    }
    return status;
}

mr_status mr_bpe_encode(const mr_bpe *bpe, mr_bpe_scratch *s, const char *text, size_t len, mr_tokens *out,
                        mr_error *err) {
    if (!bpe->cut_at_space) return encode_word(bpe, s, text, len, out, err);
    /* Cut in front of every run of space marks. */
    for (size_t at = 0; at < len;) {
        size_t end = at;
        while (len - end >= 3 && memcmp(text + end, SPACE_MARK, 3) == 0) end += 3;
        const char *mark = text + end;
        for (;;) {
            mark = memchr(mark, SPACE_MARK[0], (size_t)(text + len - mark));
            if (mark == NULL || (text + len - mark >= 3 && memcmp(mark, SPACE_MARK, 3) == 0)) break;
            mark++;
        }
        end = mark == NULL ? len : (size_t)(mark - text);
        mr_status status = encode_word(bpe, s, text + at, end - at, out, err);
        if (status != MR_OK) return status;
        at = end;
    }
    return MR_OK;
}
