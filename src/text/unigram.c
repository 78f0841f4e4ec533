#include "text/unigram.h"

#include "base/utf8.h"

#include <stdlib.h>

enum { MAX_NODES = 1 << 24 };
#define UNREACHED UINT32_MAX

static size_t slot_of(const mr_unigram *u, uint32_t key) {
    size_t i = (size_t)(mr_vocab_mix(key * 0x9E3779B97F4A7C15u) & u->mask);
    while (u->edges[i].key != UINT32_MAX && u->edges[i].key != key) i = (i + 1) & u->mask;
    return i;
}

/* Puts one string in; nodes are numbered from 0 (the root). */
static mr_status insert(mr_unigram *u, const char *text, size_t len, mr_token id, mr_error *err) {
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t key = node << 8 | (uint8_t)text[i];
        mr_unigram_edge *edge = &u->edges[slot_of(u, key)];
        if (edge->key == UINT32_MAX) {
            if (u->n_nodes >= MAX_NODES) return mr_fail(err, MR_ERR_LIMIT, "the unigram vocabulary is too large");
            *edge = (mr_unigram_edge){.key = key, .node = (uint32_t)u->n_nodes++};
            u->token_of[edge->node] = -1;
        }
        node = edge->node;
    }
    u->token_of[node] = id;
    return MR_OK;
}

static void find_byte_tokens(mr_unigram *u) {
    for (int b = 0; b < 256; b++) u->byte_id[b] = -1;
    for (size_t id = 0; id < u->vocab->n; id++) {
        size_t len;
        const char *text = mr_vocab_text(u->vocab, (mr_token)id, &len);
        int byte = mr_byte_token_value(text, len);
        if (byte < 0) continue;
        bool upper = text[3] < 'a' && text[4] < 'a'; /* the reference asks for upper-case digits */
        if (upper) u->byte_id[byte] = (mr_token)id;
    }
}

mr_status mr_unigram_finish(mr_unigram *u, mr_error *err) {
    size_t total = 0, n_slots = 1024;
    for (size_t id = 0; id < u->vocab->n; id++) total += u->vocab->offset[id + 1] - u->vocab->offset[id];
    if (total > MAX_NODES)
        return mr_fail(err, MR_ERR_LIMIT,
                       "the unigram vocabulary's strings have %zu bytes in total; "
                       "at most %d are supported",
                       total, MAX_NODES);
    while (n_slots < total * 3 / 2 + 1) n_slots *= 2;
    u->edges = malloc(n_slots * sizeof *u->edges);
    u->token_of = malloc((total + 1) * sizeof *u->token_of);
    if (u->edges == NULL || u->token_of == NULL)
        return mr_fail_nomem(err, n_slots * sizeof *u->edges, "the unigram trie");
    memset(u->edges, 0xFF, n_slots * sizeof *u->edges);
    u->mask = n_slots - 1;
    u->n_nodes = 1;
    u->token_of[0] = -1;
    for (size_t id = 0; id < u->vocab->n; id++) {
        size_t len;
        const char *text = mr_vocab_text(u->vocab, (mr_token)id, &len);
        if (len == 0 || (u->vocab->attr[id] & (MR_TOKEN_EXISTS | MR_TOKEN_HIDDEN)) != MR_TOKEN_EXISTS) continue;
        mr_status status = insert(u, text, len, (mr_token)id, err);
        if (status != MR_OK) return status;
    }
    find_byte_tokens(u);
    return MR_OK;
}

void mr_unigram_free(mr_unigram *u) {
    free(u->edges);
    free(u->token_of);
    free(u->score);
    *u = (mr_unigram){0};
}

void mr_unigram_scratch_free(mr_unigram_scratch *scratch) {
    free(scratch->cells);
    *scratch = (mr_unigram_scratch){0};
}

static void offer(const mr_unigram *u, mr_unigram_cell *cells, size_t start, size_t end, mr_token id, double score) {
    mr_unigram_cell *cell = &cells[end];
    double sum = u->in_float ? (double)((float)score + (float)cells[start].score) : score + cells[start].score;
    if (cell->start != UNREACHED && !(sum > cell->score)) return;
    *cell = (mr_unigram_cell){.score = sum, .id = id, .start = (uint32_t)start};
}

/* Sums of a long text would lose their precision: SentencePiece starts again from 0 when they get large. */
static void keep_small(mr_unigram_cell *cells, size_t at, size_t frontier) {
    float offset = (float)cells[at].score;
    if (offset >= -100000.0f && offset <= 100000.0f) return;
    for (size_t i = at; i <= frontier; i++) {
        if (i == at || cells[i].start != UNREACHED) cells[i].score = (double)((float)cells[i].score - offset);
    }
}

/* Fills cells: for each end of a piece the best path up to it. False when the unknown token is needed and missing. */
static bool fill(const mr_unigram *u, mr_unigram_cell *cells, const char *text, size_t len) {
    for (size_t i = 0; i <= len; i++) cells[i] = (mr_unigram_cell){.start = UNREACHED};
    size_t frontier = 0; /* the farthest end reached */
    for (size_t at = 0; at < len;) {
        uint32_t c, node = 0;
        if (u->in_float) keep_small(cells, at, frontier);
        size_t width = mr_utf8_decode(text + at, len - at, &c);
        bool single = false;
        for (size_t i = at; i < len; i++) {
            const mr_unigram_edge *edge = &u->edges[slot_of(u, node << 8 | (uint8_t)text[i])];
            if (edge->key == UINT32_MAX) break;
            node = edge->node;
            mr_token id = u->token_of[node];
            if (id < 0) continue;
            offer(u, cells, at, i + 1, id, u->score[id]);
            if (i + 1 > frontier) frontier = i + 1;
            single = single || i + 1 - at == width;
        }
        if (!single) {
            if (u->unk < 0) return false;
            offer(u, cells, at, at + width, u->unk, u->unk_score);
            if (at + width > frontier) frontier = at + width;
        }
        at += width;
    }
    return true;
}

static bool push_piece(const mr_unigram *u, const char *text, size_t len, mr_token id, mr_tokens *out) {
    if (id != u->unk) return mr_tokens_push(out, id);
    mr_token known =
        u->in_float ? -1 : mr_vocab_find(u->vocab, text, len); /* unknown characters may add up to a piece */
    if (known >= 0) return mr_tokens_push(out, known);
    bool bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < len; i++) bytes = u->byte_id[(uint8_t)text[i]] >= 0;
    if (!bytes) return mr_tokens_push(out, id);
    for (size_t i = 0; i < len; i++) {
        if (!mr_tokens_push(out, u->byte_id[(uint8_t)text[i]])) return false;
    }
    return true;
}

mr_status mr_unigram_encode(const mr_unigram *u, mr_unigram_scratch *scratch, const char *text, size_t len,
                            mr_tokens *out, mr_error *err) {
    if (len >= UNREACHED) return mr_fail(err, MR_ERR_LIMIT, "a text of %zu bytes is too long to tokenize", len);
    if (len + 1 > scratch->cap) {
        size_t cap = scratch->cap == 0 ? 256 : scratch->cap;
        while (cap < len + 1) cap *= 2;
        mr_unigram_cell *cells = realloc(scratch->cells, cap * sizeof *cells);
        if (cells == NULL) return mr_fail_nomem(err, cap * sizeof *cells, "tokenizing a text");
        scratch->cells = cells;
        scratch->cap = cap;
    }
    mr_unigram_cell *cells = scratch->cells;
    if (!fill(u, cells, text, len)) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the text has a character that the vocabulary does not know, and the "
                       "vocabulary has no unknown token");
    }
    /* Turn the links around: from the end back, each cell learns where its piece ends. */
    for (size_t end = len, next = SIZE_MAX; end > 0;) {
        size_t start = cells[end].start;
        cells[end].start = next == SIZE_MAX ? UNREACHED : (uint32_t)next;
        next = end;
        end = start;
        if (end == 0) cells[0].start = (uint32_t)next;
    }
    for (size_t at = 0; at < len;) {
        size_t end = cells[at].start;
        mr_token id = cells[end].id;
        while (id == u->unk && end < len && cells[cells[end].start].id == u->unk) end = cells[end].start; /* fused */
        if (!push_piece(u, text + at, end - at, id, out))
            return mr_fail_nomem(err, out->n * sizeof *out->ids, "token ids");
        at = end;
    }
    return MR_OK;
}
