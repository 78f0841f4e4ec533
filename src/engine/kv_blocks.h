/* Which KV block belongs to whom: allocation, sharing by reference counts, and the cache of blocks that nobody holds.
 *
 * A block whose positions are all computed is published under its content: the block before it and its own tokens.
 * Equal content is found again by later sequences, and is stored once. The predecessor is named by an id that is never
 * used again, and tokens are compared one by one, so a hash collision costs a comparison and nothing else.
 *
 * Blocks without a holder stay findable until they are needed; the one unused for longest goes first. Not thread-safe:
 * the scheduler owns it. The memory itself is the pool's (compute/kv.h); here are only numbers. */
#ifndef MR_ENGINE_KV_BLOCKS_H
#define MR_ENGINE_KV_BLOCKS_H

#include "base/error.h"
#include "compute/kv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_kv_blocks mr_kv_blocks;

/* Names published content; MR_KV_ROOT is the start of every sequence. */
typedef uint64_t mr_kv_id;
enum { MR_KV_ROOT = 0 };

/* Manages blocks 0 .. n_blocks-1. With use_cache false nothing is ever found again. */
mr_status mr_kv_blocks_new(mr_kv_blocks **blocks, size_t n_blocks, bool use_cache, mr_error *err);
void mr_kv_blocks_free(mr_kv_blocks *blocks);

/* A block with undefined content and one reference, or -1 when all are held. May evict a cached one. */
int32_t mr_kv_blocks_take(mr_kv_blocks *blocks);

/* Gives one reference back. Without a holder, published content stays in the cache; of blocks given back at the same
 * time, those given back first are evicted first: give a sequence's blocks back from the last to the first. */
void mr_kv_blocks_give(mr_kv_blocks *blocks, int32_t block);

/* The published block after `parent` with these tokens [MR_KV_BLOCK], with a new reference for the caller; or -1. */
int32_t mr_kv_blocks_find(mr_kv_blocks *blocks, mr_kv_id parent, const int32_t *tokens);

/* The published block after `parent` that begins with most of tokens[0..n); *n_equal is how many. -1 when none has the
 * first. No reference is taken: the block may be copied from until the next call of mr_kv_blocks_take. */
int32_t mr_kv_blocks_find_prefix(const mr_kv_blocks *blocks, mr_kv_id parent, const int32_t *tokens, size_t n,
                                 size_t *n_equal);

/* Publishes the computed content of `block`, which the caller holds alone: n tokens after `parent`. When all
 * MR_KV_BLOCK positions are filled and equal content is known already, the caller's reference moves to that block.
 * Returns the block that the caller holds now. After this the caller must not write to it. */
int32_t mr_kv_blocks_publish(mr_kv_blocks *blocks, int32_t block, mr_kv_id parent, const int32_t *tokens, size_t n);

/* The id under which a published block is the parent of others; MR_KV_ROOT when it is not published. */
mr_kv_id mr_kv_blocks_id(const mr_kv_blocks *blocks, int32_t block);

/* How many blocks mr_kv_blocks_take can give at once; how many are held; how many of the others hold cached content. */
size_t mr_kv_blocks_n_available(const mr_kv_blocks *blocks);
size_t mr_kv_blocks_n_used(const mr_kv_blocks *blocks);
size_t mr_kv_blocks_n_cached(const mr_kv_blocks *blocks);

#endif
