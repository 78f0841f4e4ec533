#include "text/tokenizer_added.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

mr_status mr_added_push(mr_added_tokens *added, mr_added_token token, mr_error *err) {
    if (added->n == added->cap) {
        size_t cap = added->cap == 0 ? 64 : added->cap * 2;
        mr_added_token *tokens = realloc(added->tokens, cap * sizeof *tokens);
        if (tokens == NULL) return mr_fail_nomem(err, cap * sizeof *tokens, "the added tokens");
        added->tokens = tokens;
        added->cap = cap;
    }
    added->tokens[added->n++] = token;
    return MR_OK;
}

void mr_added_free(mr_added_tokens *added) {
    free(added->tokens);
    free(added->raw.nodes);
    free(added->normalized.nodes);
    *added = (mr_added_tokens){0};
}

static uint32_t new_node(mr_added_trie *trie, uint8_t byte) {
    if (trie->n == 0) trie->n = 1; /* index 0 means none */
    if (trie->n >= trie->cap) {
        size_t cap = trie->cap == 0 ? 256 : trie->cap * 2;
        if (cap > UINT32_MAX) return 0;
        mr_trie_node *nodes = realloc(trie->nodes, cap * sizeof *nodes);
        if (nodes == NULL) return 0;
        trie->nodes = nodes;
        trie->cap = cap;
    }
    trie->nodes[trie->n] = (mr_trie_node){.token = -1, .byte = byte};
    return (uint32_t)trie->n++;
}

static uint32_t child_of(const mr_added_trie *trie, uint32_t node, uint8_t byte) {
    uint32_t c = trie->nodes[node].child;
    while (c != 0 && trie->nodes[c].byte != byte) c = trie->nodes[c].next;
    return c;
}

mr_status mr_added_trie_insert(mr_added_trie *trie, const char *pattern, size_t len, int32_t index, mr_error *err) {
    if (len == 0) return MR_OK;
    uint32_t node = trie->root[(uint8_t)pattern[0]];
    if (node == 0) {
        node = new_node(trie, (uint8_t)pattern[0]);
        trie->root[(uint8_t)pattern[0]] = node;
    }
    for (size_t i = 1; i < len && node != 0; i++) {
        uint32_t child = child_of(trie, node, (uint8_t)pattern[i]);
        if (child == 0) {
            child = new_node(trie, (uint8_t)pattern[i]);
            if (child != 0) {
                trie->nodes[child].next = trie->nodes[node].child;
                trie->nodes[node].child = child;
            }
        }
        node = child;
    }
    if (node == 0) return mr_fail_nomem(err, trie->cap * sizeof *trie->nodes, "the added tokens");
    trie->nodes[node].token = index;
    return MR_OK;
}

size_t mr_added_trie_match(const mr_added_trie *trie, const char *text, size_t len) {
    size_t longest = 0;
    uint32_t node = len > 0 ? trie->root[(uint8_t)text[0]] : 0;
    for (size_t i = 1; node != 0; i++) {
        if (trie->nodes[node].token >= 0) longest = i;
        if (i >= len) break;
        node = child_of(trie, node, (uint8_t)text[i]);
    }
    return longest;
}

void mr_added_walk_start(mr_added_walk *walk, const mr_added_tokens *added, const mr_added_trie *trie,
                         bool special_text, const char *text, size_t len) {
    *walk = (mr_added_walk){.added = added, .trie = trie, .text = text, .len = len, .special_text = special_text};
}

static bool word_before(const char *text, size_t at) {
    if (at == 0) return false;
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && ((uint8_t)text[begin] & 0xC0) == 0x80) begin--;
    uint32_t c;
    mr_utf8_decode(text + begin, at - begin, &c);
    return mr_unicode_is_word(c) || (mr_unicode_get(c)->flags & MR_UNICODE_JOIN_CONTROL) != 0;
}

static bool word_at(const char *text, size_t len, size_t at) {
    if (at == len) return false;
    uint32_t c;
    mr_utf8_decode(text + at, len - at, &c);
    return mr_unicode_is_word(c) || (mr_unicode_get(c)->flags & MR_UNICODE_JOIN_CONTROL) != 0;
}

static size_t skip_space_back(const char *text, size_t at, size_t least) {
    while (at > least) {
        size_t begin = at - 1;
        while (begin > 0 && ((uint8_t)text[begin] & 0xC0) == 0x80) begin--;
        uint32_t c;
        mr_utf8_decode(text + begin, at - begin, &c);
        if (!mr_unicode_is_space(c)) break;
        at = begin;
    }
    return at < least ? least : at;
}

static size_t skip_space(const char *text, size_t len, size_t at) {
    while (at < len) {
        uint32_t c;
        size_t n = mr_utf8_decode(text + at, len - at, &c);
        if (!mr_unicode_is_space(c)) break;
        at += n;
    }
    return at;
}

/* The leftmost longest pattern at or behind walk->search; false when there is none. */
static bool find(mr_added_walk *w, size_t *begin, size_t *end, const mr_added_token **token) {
    const uint32_t *root = w->trie->root;
    for (size_t at = w->search; at < w->len; at++) {
        uint32_t node = root[(uint8_t)w->text[at]];
        if (node == 0) continue;
        int32_t found = -1;
        for (size_t i = at + 1; node != 0; i++) {
            if (w->trie->nodes[node].token >= 0) {
                found = w->trie->nodes[node].token;
                *end = i;
            }
            if (i >= w->len) break;
            node = child_of(w->trie, node, (uint8_t)w->text[i]);
        }
        if (found < 0) continue;
        *begin = at;
        *token = &w->added->tokens[found];
        return true;
    }
    return false;
}

/* Finds the next token that counts, with the white space it takes along. */
static bool find_wanted(mr_added_walk *w, size_t *begin, size_t *end, const mr_added_token **token) {
    while (find(w, begin, end, token)) {
        const mr_added_token *t = *token;
        w->search = *end;
        if (t->special && !w->special_text) continue;
        if (t->single_word && (word_before(w->text, *begin) || word_at(w->text, w->len, *end))) continue;
        if (t->lstrip) *begin = skip_space_back(w->text, *begin, w->emitted < *begin ? w->emitted : *begin);
        if (t->rstrip) *end = skip_space(w->text, w->len, *end);
        return true;
    }
    w->search = w->len;
    return false;
}

bool mr_added_walk_next(mr_added_walk *w, size_t *begin, size_t *end, const mr_added_token **token) {
    *token = NULL;
    if (w->pending != NULL) {
        *begin = w->emitted;
        *end = w->pending_end;
        *token = w->pending;
        w->pending = NULL;
        w->emitted = *end;
        return true;
    }
    if (w->emitted >= w->len && w->search >= w->len) return false;
    size_t from, to;
    const mr_added_token *found;
    if (!find_wanted(w, &from, &to, &found)) {
        if (w->emitted >= w->len) return false;
        *begin = w->emitted;
        *end = w->len;
        w->emitted = w->len;
        return true;
    }
    if (from > w->emitted) { /* the plain text before it first */
        *begin = w->emitted;
        *end = from;
        w->emitted = from;
        w->pending = found;
        w->pending_end = to;
        return true;
    }
    *begin = from;
    *end = to;
    *token = found;
    w->emitted = to;
    return true;
}
