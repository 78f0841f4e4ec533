#include "text/token_mask.h"

#include "text/grammar_match.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TOKEN = 255, SHORT_TOKEN = 16, MAX_STATES = 20000, MAX_MASKS = 256, MAX_STEPS = 1 << 23 };

typedef struct entry {
    const char *text;
    uint32_t id;
    uint32_t up;         /* the next entry that shares less */
    uint8_t len, shared; /* bytes in common with the entry before */
} entry;

/* Plain tokens in the order of their bytes. */
typedef struct list {
    entry *entries;
    size_t n;
} list;

/* Tokens of up to SHORT_TOKEN bytes, and longer ones. */
enum { SHORT, LONG };

struct mr_mask_vocab {
    const mr_tokenizer *tokenizer;
    size_t n_vocab;
    list lists[2];
    int32_t *special; /* tokens that stand for themselves, with a text */
    size_t n_special;
    uint64_t *ends; /* [words] bits of the tokens that end a generation */
    size_t n_words;
};

static int compare_entries(const void *a, const void *b) {
    const entry *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, n);
    if (order != 0) return order;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void set_bit(uint64_t *bits, size_t i) {
    bits[i / 64] |= (uint64_t)1 << (i % 64);
}

/* Whether an added token's text is a mark such as <tool_call> or [INST]; others (runs of blanks, say) are plain text.
 */
static bool is_mark(const char *text, size_t len) {
    bool bracketed = len > 2 && ((text[0] == '<' && text[len - 1] == '>') || (text[0] == '[' && text[len - 1] == ']'));
    for (size_t i = 0; i < len && bracketed; i++) bracketed = text[i] > ' ' || (text[i] & 0x80) != 0;
    return bracketed;
}

static void sort_list(list *l) {
    qsort(l->entries, l->n, sizeof *l->entries, compare_entries);
    for (size_t i = 1; i < l->n; i++) {
        const entry *a = &l->entries[i - 1];
        entry *b = &l->entries[i];
        while (b->shared < a->len && b->shared < b->len && a->text[b->shared] == b->text[b->shared]) b->shared++;
    }
    for (size_t i = l->n; i-- > 0;) {
        size_t up = i + 1;
        while (up < l->n && l->entries[up].shared >= l->entries[i].shared) up = l->entries[up].up;
        l->entries[i].up = (uint32_t)up;
    }
}

mr_mask_vocab *mr_mask_vocab_new(const mr_tokenizer *tokenizer) {
    mr_mask_vocab *v = calloc(1, sizeof *v);
    if (v == NULL) return NULL;
    v->tokenizer = tokenizer;
    v->n_vocab = mr_tokenizer_n_vocab(tokenizer);
    v->n_words = (v->n_vocab + 63) / 64;
    for (int i = SHORT; i <= LONG; i++) v->lists[i].entries = malloc((v->n_vocab + 1) * sizeof(entry));
    v->special = malloc((v->n_vocab + 1) * sizeof *v->special);
    v->ends = calloc(v->n_words + 1, sizeof *v->ends);
    if (v->lists[SHORT].entries == NULL || v->lists[LONG].entries == NULL || v->special == NULL || v->ends == NULL) {
        mr_mask_vocab_free(v);
        return NULL;
    }
    for (size_t id = 0; id < v->n_vocab; id++) {
        size_t len;
        const char *text = mr_tokenizer_piece(tokenizer, (mr_token)id, &len);
        if (mr_tokenizer_is_eog(tokenizer, (mr_token)id)) set_bit(v->ends, id);
        if (text == NULL || len == 0 || len > MAX_TOKEN) continue;
        bool apart = mr_tokenizer_is_special(tokenizer, (mr_token)id) ||
                     (is_mark(text, len) && mr_tokenizer_find_special(tokenizer, text, len) == (mr_token)id);
        list *l = &v->lists[len > SHORT_TOKEN ? LONG : SHORT];
        if (apart)
            v->special[v->n_special++] = (int32_t)id;
        else
            l->entries[l->n++] = (entry){.text = text, .id = (uint32_t)id, .len = (uint8_t)len};
    }
    for (int i = SHORT; i <= LONG; i++) sort_list(&v->lists[i]);
    return v;
}

void mr_mask_vocab_free(mr_mask_vocab *v) {
    if (v == NULL) return;
    for (int i = SHORT; i <= LONG; i++) free(v->lists[i].entries);
    free(v->special);
    free(v->ends);
    free(v);
}

bool mr_mask_vocab_apart(const mr_mask_vocab *v, int32_t id) {
    size_t lo = 0, hi = v->n_special; /* ids are in order */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (v->special[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < v->n_special && v->special[lo] == id;
}

mr_grammar_node mr_mask_vocab_text(const mr_mask_vocab *v, mr_grammar *g, mr_grammar_node from, const char *text,
                                   size_t len) {
    for (size_t i = 0; i < len && from != MR_GRAMMAR_NONE;) {
        int32_t best = -1;
        size_t best_len = 0;
        for (size_t k = 0; k < v->n_special; k++) {
            size_t n;
            const char *piece = mr_tokenizer_piece(v->tokenizer, v->special[k], &n);
            if (n <= best_len || n > len - i || memcmp(piece, text + i, n) != 0) continue;
            best = v->special[k];
            best_len = n;
        }
        if (best < 0) {
            from = mr_grammar_text(g, from, text + i++, 1);
            continue;
        }
        mr_grammar_node next = mr_grammar_add_node(g);
        mr_grammar_token(g, from, best, next);
        from = next;
        i += best_len;
    }
    return from;
}

/* ---- constraints ---- */

typedef struct mask {
    mr_match_state state;
    bool only_short; /* of the short tokens */
    uint64_t *bits;
} mask;

struct mr_constraint {
    const mr_mask_vocab *vocab;
    mr_matcher *matcher;
    char *start; /* NULL: from the beginning */
    size_t n_start;

    /* Where the text is. */
    size_t n_seen;  /* tokens */
    size_t matched; /* bytes of `start` that the free text ends with */
    bool begun;     /* the free text is over */
    mr_match_state state;

    mask masks[MAX_MASKS];
    size_t n_masks;
};

static void rewind_text(mr_constraint *c) {
    c->n_seen = c->matched = 0;
    c->begun = c->start == NULL;
    c->state = mr_matcher_start(c->matcher);
}

mr_constraint *mr_constraint_new(const mr_mask_vocab *vocab, mr_grammar *grammar, const char *start) {
    mr_constraint *c = calloc(1, sizeof *c);
    mr_matcher *matcher = mr_matcher_new(grammar);
    char *copy = start != NULL ? strdup(start) : NULL;
    if (c == NULL || matcher == NULL || (start != NULL && copy == NULL)) {
        free(c);
        free(copy);
        mr_matcher_free(matcher);
        return NULL;
    }
    c->vocab = vocab;
    c->matcher = matcher;
    c->start = copy;
    c->n_start = copy != NULL ? strlen(copy) : 0;
    rewind_text(c);
    return c;
}

static void forget_masks(mr_constraint *c) {
    for (size_t i = 0; i < c->n_masks; i++) free(c->masks[i].bits);
    c->n_masks = 0;
}

void mr_constraint_free(mr_constraint *c) {
    if (c == NULL) return;
    forget_masks(c);
    mr_matcher_free(c->matcher);
    free(c->start);
    free(c);
}

/* One byte of the free text: how much of `start` it ends with now. */
static void see_free_byte(mr_constraint *c, char byte) {
    while (c->matched > 0 && c->start[c->matched] != byte) { /* the longest shorter beginning that still fits */
        size_t n = c->matched - 1;
        while (n > 0 && memcmp(c->start, c->start + c->matched - n, n) != 0) n--;
        c->matched = n;
    }
    if (c->start[c->matched] == byte) c->matched++;
    c->begun = c->matched == c->n_start;
}

static void see_token(mr_constraint *c, int32_t id) {
    size_t len, i = 0;
    const char *text = mr_tokenizer_piece(c->vocab->tokenizer, id, &len);
    if (text == NULL) return;
    while (!c->begun && i < len) see_free_byte(c, text[i++]);
    if (i == len) return;
    mr_matcher_allow(c->matcher, MAX_STEPS);
    if (i == 0 && mr_mask_vocab_apart(c->vocab, id)) {
        c->state = mr_matcher_token(c->matcher, c->state, id);
        return;
    }
    for (; i < len; i++) c->state = mr_matcher_byte(c->matcher, c->state, (uint8_t)text[i]);
}

/* Sets the bits of all tokens of the list that the state can take. */
static void try_tokens(mr_constraint *c, const list *l, mr_match_state state, uint64_t *bits) {
    mr_match_state states[MAX_TOKEN + 1]; /* behind each byte of the token at hand */
    states[0] = state;
    for (size_t i = 0; i < l->n;) {
        const entry *e = &l->entries[i++];
        size_t n = e->shared;
        mr_match_state s = states[n];
        while (n < e->len && s >= 0) {
            s = mr_matcher_byte(c->matcher, s, (uint8_t)e->text[n]);
            states[++n] = s;
        }
        if (s >= 0) set_bit(bits, e->id);
        size_t alive = s >= 0 ? n : n - 1; /* states[0..alive] are valid and not dead */
        while (i < l->n && l->entries[i].shared > alive) i = l->entries[i].up; /* the shared beginning has failed */
    }
}

static const uint64_t *find_mask(const mr_constraint *c, mr_match_state state, bool only_short) {
    for (size_t i = 0; i < c->n_masks; i++) {
        if (c->masks[i].state == state && c->masks[i].only_short == only_short) return c->masks[i].bits;
    }
    return NULL;
}

static void keep_mask(mr_constraint *c, mr_match_state state, bool only_short, const uint64_t *bits) {
    if (c->n_masks == MAX_MASKS) forget_masks(c);
    size_t n_bytes = c->vocab->n_words * sizeof *bits;
    uint64_t *copy = malloc(n_bytes);
    if (copy == NULL) return;
    memcpy(copy, bits, n_bytes);
    c->masks[c->n_masks++] = (mask){state, only_short, copy};
}

/* The plain tokens that the state can take; the bits are zero before. */
static void plain_mask(mr_constraint *c, uint64_t *bits) {
    const mr_mask_vocab *v = c->vocab;
    mr_match_state alike = mr_matcher_alike(c->matcher, c->state, SHORT_TOKEN);
    const uint64_t *known = find_mask(c, alike, true);
    if (known != NULL)
        memcpy(bits, known, v->n_words * sizeof *bits);
    else
        try_tokens(c, &v->lists[SHORT], alike, bits);
    if (known == NULL && alike != c->state && !mr_matcher_failed(c->matcher)) keep_mask(c, alike, true, bits);
    try_tokens(c, &v->lists[LONG], c->state, bits);
}

static void compute_mask(mr_constraint *c, uint64_t *bits) {
    const mr_mask_vocab *v = c->vocab;
    enum { MAX_SPECIAL = 64 };
    int32_t ids[MAX_SPECIAL];
    memset(bits, 0, v->n_words * sizeof *bits);
    mr_matcher_allow(c->matcher, MAX_STEPS);
    if (c->state >= 0) {
        plain_mask(c, bits);
        size_t n = mr_matcher_tokens(c->matcher, c->state, ids, MAX_SPECIAL);
        for (size_t i = 0; i < n && i < MAX_SPECIAL; i++) set_bit(bits, (size_t)ids[i]);
    }
    bool stuck = c->state < 0 || mr_matcher_failed(c->matcher);
    if (!stuck && !mr_matcher_may_end(c->matcher, c->state)) {
        stuck = true; /* a vocabulary may lack the bytes that are needed */
        for (size_t i = 0; i < v->n_words && stuck; i++) stuck = bits[i] == 0;
    }
    if (stuck || mr_matcher_may_end(c->matcher, c->state)) {
        for (size_t i = 0; i < v->n_words; i++) bits[i] |= v->ends[i];
    }
}

bool mr_constraint_mask(void *ctx, const int32_t *generated, size_t n_generated, uint64_t *bits) {
    mr_constraint *c = ctx;
    if (n_generated < c->n_seen) rewind_text(c);
    while (c->n_seen < n_generated) see_token(c, generated[c->n_seen++]);
    if (!c->begun) return false;
    if (mr_matcher_n_states(c->matcher) > MAX_STATES) {
        forget_masks(c);
        c->state = mr_matcher_shrink(c->matcher, c->state);
    }
    const uint64_t *known = find_mask(c, c->state, false);
    if (known != NULL) {
        memcpy(bits, known, c->vocab->n_words * sizeof *bits);
        return true;
    }
    compute_mask(c, bits);
    keep_mask(c, c->state, false, bits);
    return true;
}
