/* floors: engine */
#include "engine/kv_blocks.h"
#include "engine/random.h"
#include "engine/sequence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static mr_kv_blocks *new_blocks(size_t n, bool use_cache) {
    mr_kv_blocks *blocks = NULL;
    mr_error err = {0};
    assert_int_equal(mr_kv_blocks_new(&blocks, n, use_cache, &err), MR_OK);
    return blocks;
}

static void fill(int32_t *tokens, size_t n, int32_t first) {
    for (size_t i = 0; i < n; i++) tokens[i] = first + (int32_t)i;
}

static void all_blocks_can_be_taken_once(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(10, true);
    bool seen[10] = {0};
    for (int i = 0; i < 10; i++) {
        int32_t block = mr_kv_blocks_take(blocks);
        assert_in_range(block, 0, 9);
        assert_false(seen[block]);
        seen[block] = true;
    }
    assert_int_equal(mr_kv_blocks_take(blocks), -1);
    assert_int_equal(mr_kv_blocks_n_used(blocks), 10);
    mr_kv_blocks_give(blocks, 4);
    assert_int_equal(mr_kv_blocks_n_available(blocks), 1);
    assert_int_equal(mr_kv_blocks_take(blocks), 4);
    mr_kv_blocks_free(blocks);
}

static void published_blocks_are_found_by_parent_and_tokens(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(4, true);
    int32_t a[MR_KV_BLOCK], b[MR_KV_BLOCK];
    fill(a, MR_KV_BLOCK, 0);
    fill(b, MR_KV_BLOCK, 100);
    int32_t first = mr_kv_blocks_take(blocks), second = mr_kv_blocks_take(blocks);
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, a), -1);
    assert_int_equal(mr_kv_blocks_publish(blocks, first, MR_KV_ROOT, a, MR_KV_BLOCK), first);
    mr_kv_id id = mr_kv_blocks_id(blocks, first);
    assert_true(id != MR_KV_ROOT);
    assert_int_equal(mr_kv_blocks_publish(blocks, second, id, b, MR_KV_BLOCK), second);
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, b), -1);
    assert_int_equal(mr_kv_blocks_find(blocks, id, a), -1);
    assert_int_equal(mr_kv_blocks_find(blocks, id, b), second);
    a[31]++;
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, a), -1);
    a[31]--;
    mr_kv_blocks_give(blocks, second);
    mr_kv_blocks_give(blocks, second);
    assert_int_equal(mr_kv_blocks_n_cached(blocks), 1);
    assert_int_equal(mr_kv_blocks_find(blocks, id, b), second); /* out of the cache */
    assert_int_equal(mr_kv_blocks_n_cached(blocks), 0);

    /* Equal content again: the newcomer's block goes back, the known one is shared. */
    int32_t third = mr_kv_blocks_take(blocks);
    assert_int_equal(mr_kv_blocks_publish(blocks, third, MR_KV_ROOT, a, MR_KV_BLOCK), first);
    assert_int_equal(mr_kv_blocks_n_used(blocks), 2);
    mr_kv_blocks_free(blocks);
}

static void the_longest_unused_is_evicted_first(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(3, true);
    int32_t tokens[3][MR_KV_BLOCK], held[3];
    for (int i = 0; i < 3; i++) {
        fill(tokens[i], MR_KV_BLOCK, 1000 * i);
        held[i] = mr_kv_blocks_take(blocks);
        mr_kv_blocks_publish(blocks, held[i], MR_KV_ROOT, tokens[i], MR_KV_BLOCK);
    }
    mr_kv_blocks_give(blocks, held[1]);
    mr_kv_blocks_give(blocks, held[0]);
    mr_kv_blocks_give(blocks, held[2]);
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, tokens[1]), held[1]); /* used again: now the newest */
    mr_kv_blocks_give(blocks, held[1]);
    assert_int_equal(mr_kv_blocks_take(blocks), held[0]);
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, tokens[0]), -1);
    assert_int_equal(mr_kv_blocks_take(blocks), held[2]);
    assert_int_equal(mr_kv_blocks_take(blocks), held[1]);
    assert_int_equal(mr_kv_blocks_take(blocks), -1);
    mr_kv_blocks_free(blocks);
}

/* A child whose parent was evicted must not be taken for the child of what replaces the parent. */
static void a_new_parent_has_no_old_children(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(2, true);
    int32_t a[MR_KV_BLOCK], b[MR_KV_BLOCK], other[MR_KV_BLOCK];
    fill(a, MR_KV_BLOCK, 0);
    fill(b, MR_KV_BLOCK, 100);
    fill(other, MR_KV_BLOCK, 200);
    int32_t parent = mr_kv_blocks_take(blocks), child = mr_kv_blocks_take(blocks);
    mr_kv_blocks_publish(blocks, parent, MR_KV_ROOT, a, MR_KV_BLOCK);
    mr_kv_id old_id = mr_kv_blocks_id(blocks, parent);
    mr_kv_blocks_publish(blocks, child, old_id, b, MR_KV_BLOCK);
    mr_kv_blocks_give(blocks, parent); /* the wrong way round, so that the parent goes first */
    mr_kv_blocks_give(blocks, child);
    assert_int_equal(mr_kv_blocks_take(blocks), parent);
    mr_kv_blocks_publish(blocks, parent, MR_KV_ROOT, other, MR_KV_BLOCK);
    assert_true(mr_kv_blocks_id(blocks, parent) != old_id);
    assert_int_equal(mr_kv_blocks_find(blocks, mr_kv_blocks_id(blocks, parent), b), -1);
    mr_kv_blocks_free(blocks);
}

static void common_beginnings_are_found(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(4, true);
    int32_t a[MR_KV_BLOCK], b[MR_KV_BLOCK], wanted[MR_KV_BLOCK];
    fill(a, MR_KV_BLOCK, 0);
    memcpy(b, a, sizeof a);
    memcpy(wanted, a, sizeof a);
    b[10] = -1;
    wanted[20] = -1;
    int32_t full = mr_kv_blocks_take(blocks), part = mr_kv_blocks_take(blocks), same = mr_kv_blocks_take(blocks);
    size_t n;
    assert_int_equal(mr_kv_blocks_publish(blocks, part, MR_KV_ROOT, b, 15), part);
    assert_int_equal(mr_kv_blocks_find_prefix(blocks, MR_KV_ROOT, wanted, MR_KV_BLOCK, &n), part);
    assert_int_equal(n, 10);
    mr_kv_blocks_publish(blocks, full, MR_KV_ROOT, a, MR_KV_BLOCK);
    assert_int_equal(mr_kv_blocks_find_prefix(blocks, MR_KV_ROOT, wanted, MR_KV_BLOCK, &n), full);
    assert_int_equal(n, 20);
    assert_int_equal(mr_kv_blocks_find_prefix(blocks, MR_KV_ROOT, b, 14, &n), part);
    assert_int_equal(n, 14);
    assert_int_equal(mr_kv_blocks_find_prefix(blocks, 77, wanted, MR_KV_BLOCK, &n), -1);
    assert_int_equal(n, 0);
    /* A part that another block begins with needs no entry of its own. */
    mr_kv_blocks_publish(blocks, same, MR_KV_ROOT, a, 12);
    assert_int_equal(mr_kv_blocks_id(blocks, same), MR_KV_ROOT);
    mr_kv_blocks_free(blocks);
}

static void without_cache_nothing_is_found(void **state) {
    (void)state;
    mr_kv_blocks *blocks = new_blocks(2, false);
    int32_t a[MR_KV_BLOCK];
    size_t n;
    fill(a, MR_KV_BLOCK, 0);
    int32_t block = mr_kv_blocks_take(blocks);
    assert_int_equal(mr_kv_blocks_publish(blocks, block, MR_KV_ROOT, a, MR_KV_BLOCK), block);
    assert_int_equal(mr_kv_blocks_find(blocks, MR_KV_ROOT, a), -1);
    assert_int_equal(mr_kv_blocks_find_prefix(blocks, MR_KV_ROOT, a, 5, &n), -1);
    mr_kv_blocks_give(blocks, block);
    assert_int_equal(mr_kv_blocks_n_cached(blocks), 0);
    assert_int_equal(mr_kv_blocks_n_available(blocks), 2);
    mr_kv_blocks_free(blocks);
}

/* Random sequences over a small pool. Every block "holds" what was last written to each of its positions; whatever a
 * sequence reuses must hold exactly its tokens after exactly its beginning. */
enum { N_SEQUENCES = 6, N_POOL = 24, MAX_TOKENS = 160 };

typedef struct random_sequence {
    mr_sequence sequence;
    int32_t tokens[MAX_TOKENS];
    size_t n_tokens;
} random_sequence;

static uint64_t prefix_hash(const int32_t *tokens, size_t n) {
    uint64_t hash = 1;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (uint64_t)(uint32_t)tokens[i]) * 0x9E3779B97F4A7C15u + 1;
    return hash;
}

static void write_positions(mr_kv_memory *memory, random_sequence *s, size_t end) {
    for (size_t at = s->sequence.n_computed; at < end; at++) {
        uint64_t *slots =
            (uint64_t *)(void *)memory->pool.data + (size_t)s->sequence.blocks[at / MR_KV_BLOCK] * MR_KV_BLOCK;
        slots[at % MR_KV_BLOCK] = prefix_hash(s->tokens, at + 1);
    }
}

static void check_positions(const mr_kv_memory *memory, const random_sequence *s) {
    for (size_t at = 0; at < s->sequence.n_computed; at++) {
        const uint64_t *slots = (const uint64_t *)(const void *)memory->pool.data +
                                (size_t)s->sequence.blocks[at / MR_KV_BLOCK] * MR_KV_BLOCK;
        assert_true(slots[at % MR_KV_BLOCK] == prefix_hash(s->tokens, at + 1));
    }
}

static void random_sequences_never_see_foreign_content(void **state) {
    (void)state;
    mr_kv_memory memory = {.blocks = new_blocks(N_POOL, true)};
    mr_kv_layout layout = {.block_bytes = MR_KV_BLOCK * sizeof(uint64_t)};
    mr_error err = {0};
    assert_int_equal(mr_kv_pool_init(&memory.pool, &layout, N_POOL, &err), MR_OK);
    static random_sequence sequences[N_SEQUENCES];
    uint64_t n_random = 0;
    size_t n_reused = 0;
    for (int round = 0; round < 20000; round++) {
        random_sequence *s = &sequences[(size_t)(mr_random_uniform(5, n_random++) * N_SEQUENCES)];
        double what = mr_random_uniform(6, n_random);
        if (s->n_tokens == 0) { /* a new one: few different tokens, so that beginnings are shared */
            s->n_tokens = 1 + (size_t)(mr_random_uniform(7, n_random) * MAX_TOKENS);
            int style = (int)(mr_random_uniform(8, n_random) * 4);
            for (size_t i = 0; i < s->n_tokens; i++)
                s->tokens[i] = i > 40 && mr_random_uniform(9, n_random++) < 0.02 ? 7 : style;
            n_reused += mr_sequence_reuse(&s->sequence, &memory, s->tokens, s->n_tokens);
            assert_true(s->sequence.n_computed < s->n_tokens);
        } else if (what < 0.7 && s->sequence.n_computed < s->n_tokens) {
            size_t left = s->n_tokens - s->sequence.n_computed;
            size_t n = 1 + (size_t)(mr_random_uniform(10, n_random) * (double)(left < 50 ? left : 50)) % left;
            mr_status status = mr_sequence_reserve(&s->sequence, &memory, s->sequence.n_computed + n);
            if (status == MR_OK) {
                write_positions(&memory, s, s->sequence.n_computed + n);
                mr_sequence_advance(&s->sequence, &memory, s->tokens, n);
            } else {
                assert_int_equal(status, MR_ERR_LIMIT);
                assert_int_equal(mr_kv_blocks_n_available(memory.blocks), 0);
                mr_sequence_release(&s->sequence, &memory, s->tokens);
                s->n_tokens = 0;
            }
        } else if (what < 0.8 && s->sequence.n_computed % MR_KV_BLOCK == 0 && s->sequence.n_computed < s->n_tokens) {
            n_reused += mr_sequence_reuse(&s->sequence, &memory, s->tokens, s->n_tokens);
        } else if (what > 0.9) {
            mr_sequence_release(&s->sequence, &memory, s->tokens);
            s->n_tokens = 0;
        }
        for (int i = 0; i < N_SEQUENCES; i++) check_positions(&memory, &sequences[i]);
    }
    assert_true(n_reused > 1000);
    for (int i = 0; i < N_SEQUENCES; i++) mr_sequence_release(&sequences[i].sequence, &memory, sequences[i].tokens);
    assert_int_equal(mr_kv_blocks_n_available(memory.blocks), N_POOL);
    mr_kv_pool_free(&memory.pool);
    mr_kv_blocks_free(memory.blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_blocks_can_be_taken_once),
        cmocka_unit_test(published_blocks_are_found_by_parent_and_tokens),
        cmocka_unit_test(the_longest_unused_is_evicted_first),
        cmocka_unit_test(a_new_parent_has_no_old_children),
        cmocka_unit_test(common_beginnings_are_found),
        cmocka_unit_test(without_cache_nothing_is_found),
        cmocka_unit_test(random_sequences_never_see_foreign_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
