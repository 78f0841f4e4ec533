/* Keys and values into the paged cache, and attention over it, against the CPU: cache types, sizes of heads, groups,
 * windows, sinks, soft-caps, batches of runs. */
#include "harness.h"

#include "compute/cpu.h"
#include "compute/kv.h"
#include "compute/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 3, N_LAYER = 2, LAYER = 1, MAX_BLOCKS = 24 };

typedef struct shape {
    mr_kv_type type;
    uint32_t n_head, n_head_kv, dk, dv, window;
    float softcap;
    bool sinks, whole;
    uint32_t n_runs, n_tokens[MAX_RUNS], pos0[MAX_RUNS];
    uint32_t n_behind; /* whole: positions of the texts behind the runs */
} shape;

/* The cache of a shape, here and there, with every position of its runs stored by the CPU. */
typedef struct problem {
    const shape *s;
    mr_kv_pool pool;
    uint8_t *gpu_pool;
    int32_t blocks[MAX_RUNS][MAX_BLOCKS];
    uint32_t first[MAX_RUNS], n_all;
} problem;

static size_t pool_bytes(const problem *p) {
    return p->pool.n_blocks * p->pool.layout.block_bytes;
}

static void begin_problem(problem *p, const shape *s) {
    mr_error err = {0};
    mr_kv_layout layout = mr_kv_layout_of(s->type, N_LAYER, s->n_head_kv, s->dk, s->dv);
    *p = (problem){.s = s};
    if (mr_kv_pool_init(&p->pool, &layout, MAX_RUNS * MAX_BLOCKS, &err) != MR_OK) fail_test("%s", err.text);
    memset(p->pool.data, 0xFF, pool_bytes(p)); /* NaN wherever nothing is stored */
    for (int32_t i = 0; i < MAX_RUNS * MAX_BLOCKS; i++)
        p->blocks[i % MAX_RUNS][i / MAX_RUNS] = MAX_RUNS * MAX_BLOCKS - 1 - i;
    for (uint32_t r = 0; r < s->n_runs; r++) {
        p->first[r] = p->n_all;
        p->n_all += s->n_tokens[r];
    }
}

static void fill_cache(problem *p) {
    const shape *s = p->s;
    float *k = random_floats(s->dk, 2.0f), *v = random_floats(s->dv, 1.0f);
    for (uint32_t r = 0; r < s->n_runs; r++) {
        for (uint32_t pos = 0; pos < s->pos0[r] + s->n_tokens[r] + s->n_behind; pos++) {
            for (uint32_t h = 0; h < s->n_head_kv; h++) {
                for (uint32_t d = 0; d < s->dk; d++) k[d] = 2.0f * random_float();
                for (uint32_t d = 0; d < s->dv; d++) v[d] = random_float();
                mr_kv_store(&p->pool, mr_kv_piece(&p->pool, p->blocks[r][pos / MR_KV_BLOCK], LAYER, h),
                            pos % MR_KV_BLOCK, k, v);
            }
        }
    }
    p->gpu_pool = gpu_put(p->pool.data, pool_bytes(p));
    free(k), free(v);
}

static mr_k_kv kv_of(const problem *p) {
    const mr_kv_layout *l = &p->pool.layout;
    return (mr_k_kv){.data = p->gpu_pool + LAYER * l->layer_bytes,
                     .block_bytes = l->block_bytes,
                     .head_bytes = (uint32_t)l->head_bytes,
                     .value_offset = (uint32_t)l->value_offset,
                     .n_head_kv = l->n_head_kv,
                     .dk = l->head_dim_k,
                     .dv = l->head_dim_v,
                     .type = (int32_t)l->type};
}

static void attend_here(const problem *p, const float *q, const float *sinks, float *out) {
    const shape *s = p->s;
    uint32_t group = s->n_head / s->n_head_kv;
    float *scratch = must_alloc(mr_attention_scratch(&p->pool.layout, group));
    for (uint32_t r = 0; r < s->n_runs; r++) {
        for (uint32_t h = 0; h < s->n_head_kv; h++) {
            size_t q_stride = (size_t)s->n_head * s->dk, out_stride = (size_t)s->n_head * s->dv;
            mr_attention_args a = {.pool = &p->pool,
                                   .blocks = p->blocks[r],
                                   .layer = LAYER,
                                   .head_kv = h,
                                   .n_tokens = s->n_tokens[r],
                                   .pos0 = s->pos0[r],
                                   .n_group = group,
                                   .q = q + p->first[r] * q_stride + (size_t)h * group * s->dk,
                                   .q_stride = q_stride,
                                   .out = out + p->first[r] * out_stride + (size_t)h * group * s->dv,
                                   .out_stride = out_stride,
                                   .scale = 0.3f,
                                   .softcap = s->softcap,
                                   .window = s->window,
                                   .sinks = s->sinks ? sinks + h * group : NULL,
                                   .scratch = scratch};
            if (s->whole) a.n_text = s->pos0[r] + s->n_tokens[r] + s->n_behind;
            mr_attention(&a);
        }
    }
    free(scratch);
}

static void check_attention(const shape *s, uint32_t n_sm) {
    problem p;
    begin_problem(&p, s);
    fill_cache(&p);
    size_t n_q = (size_t)p.n_all * s->n_head * s->dk, n_out = (size_t)p.n_all * s->n_head * s->dv;
    float *q = random_floats(n_q, 1.0f), *sinks = random_floats(s->n_head, 2.0f), *want = must_alloc(n_out * 4);
    mr_k_attention_args a = {.kv = kv_of(&p),
                             .q = gpu_put(q, n_q * 4),
                             .out = gpu_put(NULL, n_out * 4),
                             .sinks = s->sinks ? gpu_put(sinks, s->n_head * 4) : NULL,
                             .first = gpu_put(p.first, sizeof p.first),
                             .n_tokens = gpu_put(s->n_tokens, sizeof s->n_tokens),
                             .pos0 = gpu_put(s->pos0, sizeof s->pos0),
                             .blocks = gpu_put(p.blocks, sizeof p.blocks),
                             .n_runs = s->n_runs,
                             .n_head = s->n_head,
                             .ld_blocks = MAX_BLOCKS,
                             .window = s->window,
                             .whole = s->whole,
                             .scale = 0.3f,
                             .softcap = s->softcap};
    uint32_t longest = 0, ends[MAX_RUNS];
    for (uint32_t r = 0; r < s->n_runs; r++) {
        ends[r] = s->pos0[r] + s->n_tokens[r] + s->n_behind;
        if (s->n_tokens[r] > a.most_tokens) a.most_tokens = s->n_tokens[r];
        if (s->pos0[r] + s->n_tokens[r] > longest) longest = s->pos0[r] + s->n_tokens[r];
    }
    a.ends = s->whole ? gpu_put(ends, s->n_runs * sizeof *ends) : NULL;
    mr_k_attention_split(&a, longest, n_sm);
    if (a.n_splits > 1) a.partial = gpu_put(NULL, (size_t)s->n_runs * s->n_head * a.n_splits * (s->dv + 2) * 4);
    gpu_launch(mr_k_attention_prefill_launch(&a), &a);
    gpu_launch(mr_k_attention_decode_launch(&a), &a);
    gpu_launch(mr_k_attention_join_launch(&a), &a);
    attend_here(&p, q, sinks, want);
    float *got = must_alloc(n_out * 4);
    gpu_get(got, a.out, n_out * 4);
    char what[128];
    snprintf(what, sizeof what, "type %d, heads %u of %u, %u/%u, window %u, softcap %g, sinks %d, %u runs, %u parts",
             (int)s->type, (unsigned)s->n_head, (unsigned)s->n_head_kv, (unsigned)s->dk, (unsigned)s->dv,
             (unsigned)s->window, (double)s->softcap, s->sinks, (unsigned)s->n_runs, (unsigned)a.n_splits);
    expect_near(what, got, want, n_out, 3e-6);
    free(q), free(sinks), free(want), free(got);
    mr_kv_pool_free(&p.pool);
    gpu_forget();
}

static void test_decode(void) {
    const mr_kv_type types[] = {MR_KV_F16, MR_KV_Q8_0, MR_KV_F32};
    for (size_t i = 0; i < 3; i++) {
        const shape shapes[] = {
            {types[i], 8, 2, 64, 64, 0, 0.0f, false, false, 2, {1, 1}, {300, 0}, 0},
            {types[i], 6, 1, 48, 80, 40, 20.0f, true, false, 3, {1, 1, 1}, {31, 32, 170}, 0},
            {types[i], 3, 3, 36, 20, 0, 0.0f, true, false, 1, {1}, {511}, 0},
            {types[i], 2, 1, 16, 300, 0, 0.0f, false, false, 1, {1}, {90}, 0},
        };
        for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++) {
            check_attention(&shapes[j], 1);
            check_attention(&shapes[j], 8);
        }
    }
}

static void test_prefill(void) {
    const mr_kv_type types[] = {MR_KV_Q8_0, MR_KV_F32, MR_KV_F16};
    for (size_t i = 0; i < 3; i++) { /* sizes that are not for tensor cores */
        const shape shapes[] = {
            {types[i], 6, 2, 40, 24, 0, 0.0f, false, false, 2, {9, 37}, {0, 50}, 0},
            {types[i], 4, 1, 36, 20, 33, 15.0f, true, false, 2, {70, 2}, {5, 64}, 0},
        };
        for (size_t j = 0; j < 2; j++) check_attention(&shapes[j], 1);
    }
}

static void test_prefill_mma(void) {
    const shape shapes[] = {
        {MR_KV_F16, 4, 2, 64, 64, 0, 0.0f, false, false, 2, {40, 3}, {0, 31}, 0},
        {MR_KV_F16, 4, 1, 128, 128, 0, 0.0f, true, false, 1, {70}, {90}, 0},
        {MR_KV_F16, 3, 1, 80, 48, 37, 10.0f, true, false, 2, {65, 33}, {64, 100}, 0},
        {MR_KV_F16, 2, 1, 192, 128, 0, 0.0f, false, false, 1, {50}, {7}, 0},
        {MR_KV_F16, 2, 2, 256, 256, 50, 0.0f, false, false, 1, {34}, {40}, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_attention(&shapes[i], 1);
}

/* Runs of one and of many tokens in a batch. */
static void test_mixed(void) {
    const shape s = {MR_KV_F16, 8, 4, 64, 64, 0, 0.0f, false, false, 3, {1, 25, 1}, {77, 12, 200}, 0};
    check_attention(&s, 4);
}

/* Whole texts, and parts of them, with windows on both sides. */
static void test_whole(void) {
    const shape shapes[] = {
        {MR_KV_F32, 2, 2, 12, 12, 0, 0.0f, false, true, 3, {1, 25, 4}, {0, 0, 0}, 0},
        {MR_KV_F32, 4, 2, 12, 20, 9, 0.0f, false, true, 3, {1, 70, 33}, {0, 0, 0}, 0},
        {MR_KV_Q8_0, 2, 1, 36, 20, 40, 12.0f, true, true, 2, {90, 31}, {0, 0}, 0},
        {MR_KV_F16, 2, 2, 32, 16, 0, 0.0f, false, true, 2, {45, 1}, {0, 0}, 0},
        {MR_KV_F16, 2, 2, 64, 64, 17, 0.0f, false, true, 2, {130, 7}, {0, 0}, 0},
        {MR_KV_F32, 2, 1, 16, 16, 0, 0.0f, false, true, 2, {20, 33}, {64, 0}, 75},
        {MR_KV_F16, 2, 1, 32, 32, 50, 0.0f, false, true, 2, {70, 1}, {96, 32}, 60},
        {MR_KV_F32, 2, 2, 20, 12, 1, 0.0f, false, true, 1, {37}, {0}, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_attention(&shapes[i], 4);
}

/* What mr_k_heads writes is what the CPU stores, bit for bit where nothing is computed. */
static void check_store(mr_kv_type type, uint32_t dk, uint32_t dv, bool values, uint32_t latent) {
    enum { KV = 2, T = 5 };
    shape s = {
        .type = type, .n_head = KV, .n_head_kv = KV, .dk = dk, .dv = dv, .n_runs = 1, .n_tokens = {T}, .pos0 = {30}};
    problem p;
    begin_problem(&p, &s);
    p.gpu_pool = gpu_put(p.pool.data, pool_bytes(&p));
    const mr_ops *ops = mr_ops_active();
    float *k = random_floats(T * KV * dk, 1.0f), *v = random_floats(T * KV * dv, 1.0f),
          *weight = random_floats(dk, 1.0f);
    int32_t slots[T];
    for (uint32_t t = 0; t < T; t++) slots[t] = p.blocks[0][(30 + t) / 32] * 32 + (int32_t)((30 + t) % 32);
    mr_k_heads_args a = {.x = gpu_put(k, T * KV * dk * 4),
                         .v = values ? gpu_put(v, T * KV * dv * 4) : NULL,
                         .norm_weight = latent > 0 ? gpu_put(weight, dk * 4) : NULL,
                         .slots = gpu_put(slots, sizeof slots),
                         .kv = kv_of(&p),
                         .n_tokens = T,
                         .n_heads = KV,
                         .dim = dk,
                         .ldx = KV * dk,
                         .ldv = KV * dv,
                         .latent = latent,
                         .norm = latent > 0 ? MR_K_NORM_RMS : MR_K_NORM_NONE,
                         .eps = 1e-6f};
    gpu_launch(mr_k_heads_launch(&a), &a);
    float *normed = must_alloc(T * KV * dk * 4);
    gpu_get(normed, a.x, T * KV * dk * 4);
    for (uint32_t i = 0; i < T * KV; i++) {
        float *key = k + i * dk;
        if (latent > 0) ops->rms_norm(key, weight, latent, 1e-6f, key);
    }
    expect_near("keys", normed, k, T * KV * dk, 2e-6);
    for (uint32_t t = 0; t < T; t++) {
        for (uint32_t h = 0; h < KV; h++) {
            const float *key = normed + (t * KV + h) * dk, *value = values ? v + (t * KV + h) * dv : key;
            mr_kv_store(&p.pool, mr_kv_piece(&p.pool, slots[t] / 32, LAYER, h), (uint32_t)slots[t] % 32, key, value);
        }
    }
    uint8_t *got = must_alloc(pool_bytes(&p));
    gpu_get(got, p.gpu_pool, pool_bytes(&p));
    if (memcmp(got, p.pool.data, pool_bytes(&p)) != 0) fail_test("type %d, %u/%u: stored otherwise", (int)type, dk, dv);
    free(k), free(v), free(weight), free(normed), free(got);
    mr_kv_pool_free(&p.pool);
    gpu_forget();
}

static void test_store(void) {
    const mr_kv_type types[] = {MR_KV_F16, MR_KV_Q8_0, MR_KV_F32};
    for (size_t i = 0; i < 3; i++) {
        check_store(types[i], 64, 64, true, 0);
        check_store(types[i], 80, 44, true, 0);
        check_store(types[i], 48, 48, false, 0);
        check_store(types[i], 96, 64, false, 64);
    }
}

int main(void) {
    if (!gpu_begin()) return 0;
    run_test("keys and values are stored as the CPU stores them", test_store);
    run_test("attention of single tokens", test_decode);
    run_test("attention of runs", test_prefill);
    run_test("attention of runs on tensor cores", test_prefill_mma);
    run_test("mixed batches", test_mixed);
    run_test("whole texts", test_whole);
    return end_tests();
}
