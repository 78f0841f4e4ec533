#include "engine/kv_blocks.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
    NONE = -1,
    MAX_SIBLINGS = 256, /* looked at in a search for a common beginning */
};

typedef struct block {
    mr_kv_id id; /* 0 = not published */
    mr_kv_id parent;
    uint64_t hash;
    uint32_t n_refs;
    uint32_t n_tokens;
    int32_t tokens[MR_KV_BLOCK];
    int32_t next_same_hash;   /* in by_content */
    int32_t next_same_parent; /* in by_parent */
    int32_t older, newer;     /* in the list of cached blocks; `older` also links the free ones */
} block;

struct mr_kv_blocks {
    block *all;
    size_t n_blocks;
    bool use_cache;
    mr_kv_id last_id;
    size_t n_free, n_cached;
    int32_t first_free;
    int32_t oldest, newest; /* cached blocks without a holder */
    size_t n_buckets;       /* a power of two */
    int32_t *by_content;    /* [n_buckets] */
    int32_t *by_parent;     /* [n_buckets] */
};

mr_status mr_kv_blocks_new(mr_kv_blocks **blocks, size_t n_blocks, bool use_cache, mr_error *err) {
    *blocks = NULL;
    if (n_blocks == 0 || n_blocks > INT32_MAX / 2)
        return mr_fail(err, MR_ERR_INVALID, "a KV cache of %zu blocks is not possible", n_blocks);
    mr_kv_blocks *b = calloc(1, sizeof *b);
    if (b == NULL) return mr_fail_nomem(err, sizeof *b, "the table of KV blocks");
    b->n_blocks = n_blocks;
    b->use_cache = use_cache;
    b->n_buckets = 16;
    while (b->n_buckets < n_blocks) b->n_buckets *= 2;
    b->all = calloc(n_blocks, sizeof *b->all);
    b->by_content = malloc(b->n_buckets * sizeof *b->by_content);
    b->by_parent = malloc(b->n_buckets * sizeof *b->by_parent);
    if (b->all == NULL || b->by_content == NULL || b->by_parent == NULL) {
        mr_kv_blocks_free(b);
        return mr_fail_nomem(err, n_blocks * sizeof *b->all, "the table of KV blocks");
    }
    memset(b->by_content, 0xFF, b->n_buckets * sizeof *b->by_content);
    memset(b->by_parent, 0xFF, b->n_buckets * sizeof *b->by_parent);
    b->oldest = b->newest = NONE;
    for (size_t i = 0; i < n_blocks; i++) b->all[i].older = i + 1 < n_blocks ? (int32_t)i + 1 : NONE;
    b->first_free = 0;
    b->n_free = n_blocks;
    *blocks = b;
    return MR_OK;
}

void mr_kv_blocks_free(mr_kv_blocks *blocks) {
    if (blocks == NULL) return;
    free(blocks->all);
    free(blocks->by_content);
    free(blocks->by_parent);
    free(blocks);
}

static int32_t *content_bucket(const mr_kv_blocks *b, uint64_t hash) {
    return &b->by_content[hash & (b->n_buckets - 1)];
}

static int32_t *parent_bucket(const mr_kv_blocks *b, mr_kv_id parent) {
    return &b->by_parent[mr_hash(&parent, sizeof parent, 0) & (b->n_buckets - 1)];
}

static uint64_t content_hash(mr_kv_id parent, const int32_t *tokens, size_t n) {
    return mr_hash(tokens, n * sizeof *tokens, parent);
}

static void list_remove(mr_kv_blocks *b, int32_t i) {
    block *x = &b->all[i];
    if (x->older != NONE)
        b->all[x->older].newer = x->newer;
    else
        b->oldest = x->newer;
    if (x->newer != NONE)
        b->all[x->newer].older = x->older;
    else
        b->newest = x->older;
    b->n_cached--;
}

static void list_append(mr_kv_blocks *b, int32_t i) {
    b->all[i].older = b->newest;
    b->all[i].newer = NONE;
    if (b->newest != NONE)
        b->all[b->newest].newer = i;
    else
        b->oldest = i;
    b->newest = i;
    b->n_cached++;
}

static void forget_content(mr_kv_blocks *b, int32_t i) {
    block *x = &b->all[i];
    int32_t *link = content_bucket(b, x->hash);
    while (*link != i) link = &b->all[*link].next_same_hash;
    *link = x->next_same_hash;
    link = parent_bucket(b, x->parent);
    while (*link != i) link = &b->all[*link].next_same_parent;
    *link = x->next_same_parent;
    x->id = 0;
}

int32_t mr_kv_blocks_take(mr_kv_blocks *blocks) {
    int32_t i = blocks->first_free;
    if (i != NONE) {
        blocks->first_free = blocks->all[i].older;
        blocks->n_free--;
    } else if ((i = blocks->oldest) != NONE) {
        list_remove(blocks, i);
        forget_content(blocks, i);
    } else {
        return NONE;
    }
    blocks->all[i].n_refs = 1;
    return i;
}

void mr_kv_blocks_give(mr_kv_blocks *blocks, int32_t i) {
    block *x = &blocks->all[i];
    if (--x->n_refs > 0) return;
    if (x->id != 0) {
        list_append(blocks, i);
        return;
    }
    x->older = blocks->first_free;
    blocks->first_free = i;
    blocks->n_free++;
}

static int32_t find(const mr_kv_blocks *b, uint64_t hash, mr_kv_id parent, const int32_t *tokens) {
    int32_t i = *content_bucket(b, hash);
    for (; i != NONE; i = b->all[i].next_same_hash) {
        const block *x = &b->all[i];
        if (x->hash == hash && x->parent == parent && x->n_tokens == MR_KV_BLOCK &&
            memcmp(x->tokens, tokens, sizeof x->tokens) == 0)
            break;
    }
    return i;
}

static void hold(mr_kv_blocks *b, int32_t i) {
    if (b->all[i].n_refs++ == 0) list_remove(b, i);
}

int32_t mr_kv_blocks_find(mr_kv_blocks *blocks, mr_kv_id parent, const int32_t *tokens) {
    if (!blocks->use_cache) return NONE;
    int32_t i = find(blocks, content_hash(parent, tokens, MR_KV_BLOCK), parent, tokens);
    if (i != NONE) hold(blocks, i);
    return i;
}

int32_t mr_kv_blocks_find_prefix(const mr_kv_blocks *blocks, mr_kv_id parent, const int32_t *tokens, size_t n,
                                 size_t *n_equal) {
    int32_t best = NONE, i = *parent_bucket(blocks, parent);
    size_t n_best = 0;
    for (int seen = 0; i != NONE && seen < MAX_SIBLINGS; i = blocks->all[i].next_same_parent) {
        const block *x = &blocks->all[i];
        if (x->parent != parent) continue;
        seen++;
        size_t k = 0;
        while (k < n && k < x->n_tokens && x->tokens[k] == tokens[k]) k++;
        if (k <= n_best) continue;
        n_best = k;
        best = i;
    }
    *n_equal = n_best;
    return best;
}

int32_t mr_kv_blocks_publish(mr_kv_blocks *blocks, int32_t i, mr_kv_id parent, const int32_t *tokens, size_t n) {
    if (!blocks->use_cache) return i;
    uint64_t hash = content_hash(parent, tokens, n);
    if (n == MR_KV_BLOCK) {
        int32_t known = find(blocks, hash, parent, tokens);
        if (known != NONE) {
            hold(blocks, known);
            mr_kv_blocks_give(blocks, i);
            return known;
        }
    } else {
        size_t n_equal;
        mr_kv_blocks_find_prefix(blocks, parent, tokens, n, &n_equal);
        if (n_equal == n) return i; /* another block serves as well */
    }
    block *x = &blocks->all[i];
    x->id = ++blocks->last_id;
    x->parent = parent;
    x->hash = hash;
    x->n_tokens = (uint32_t)n;
    memcpy(x->tokens, tokens, n * sizeof *tokens);
    x->next_same_hash = *content_bucket(blocks, hash);
    *content_bucket(blocks, hash) = i;
    x->next_same_parent = *parent_bucket(blocks, parent);
    *parent_bucket(blocks, parent) = i;
    return i;
}

mr_kv_id mr_kv_blocks_id(const mr_kv_blocks *blocks, int32_t block) {
    return blocks->all[block].id;
}

size_t mr_kv_blocks_n_available(const mr_kv_blocks *blocks) {
    return blocks->n_free + blocks->n_cached;
}

size_t mr_kv_blocks_n_used(const mr_kv_blocks *blocks) {
    return blocks->n_blocks - blocks->n_free - blocks->n_cached;
}

size_t mr_kv_blocks_n_cached(const mr_kv_blocks *blocks) {
    return blocks->n_cached;
}
