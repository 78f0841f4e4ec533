/* floors: compute */
/* Attention over paged KV: against the plain formula in double precision, and the same bits on every instruction set.
 */
#include "compute/cpu.h"
#include "compute/kv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct shape {
    mr_kv_type type;
    uint32_t n_group, dk, dv, n_past, n_tokens, window;
    float softcap;
    int sinks, whole; /* whole: queries see what is behind them, too */
} shape;

static uint64_t random_state;

static float random_float(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(random_state >> 33) - (1 << 30)) / (float)(1 << 29);
}

static float *random_floats(size_t n) {
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_float();
    return x;
}

enum { N_LAYER = 2, N_HEAD_KV = 3, LAYER = 1, HEAD = 2 };

/* The problem of one shape, and our answer to it in pieces of `chunk` query tokens. */
typedef struct problem {
    shape s;
    uint32_t n_pos;
    float *k, *v, *q; /* [n_pos, dk], [n_pos, dv], [n_tokens, n_group, dk] */
    float sinks[64];
} problem;

static void solve(const problem *p, uint32_t chunk, float *out) {
    const shape *s = &p->s;
    mr_error err = {0};
    mr_kv_layout layout = mr_kv_layout_of(s->type, N_LAYER, N_HEAD_KV, s->dk, s->dv);
    mr_kv_pool pool;
    size_t n_blocks = p->n_pos / MR_KV_BLOCK + 1;
    assert_int_equal(mr_kv_pool_init(&pool, &layout, n_blocks, &err), MR_OK);
    memset(pool.data, 0xFF, n_blocks * layout.block_bytes); /* NaN wherever nothing is stored */
    int32_t *blocks = malloc(n_blocks * sizeof *blocks);
    for (size_t i = 0; i < n_blocks; i++) blocks[i] = (int32_t)(n_blocks - 1 - i);
    float *scratch = malloc(mr_attention_scratch(&layout, s->n_group));
    memset(scratch, 0xFF, mr_attention_scratch(&layout, s->n_group));
    uint32_t stored = 0;
    for (uint32_t at = 0; at < s->n_tokens; at += chunk) {
        uint32_t n = s->n_tokens - at < chunk ? s->n_tokens - at : chunk;
        for (; stored < (s->whole ? p->n_pos : s->n_past + at + n); stored++) {
            uint8_t *piece = mr_kv_piece(&pool, blocks[stored / MR_KV_BLOCK], LAYER, HEAD);
            mr_kv_store(&pool, piece, stored % MR_KV_BLOCK, p->k + stored * s->dk, p->v + stored * s->dv);
        }
        mr_attention_args args = {.pool = &pool,
                                  .blocks = blocks,
                                  .layer = LAYER,
                                  .head_kv = HEAD,
                                  .n_tokens = n,
                                  .pos0 = s->n_past + at,
                                  .n_group = s->n_group,
                                  .q = p->q + at * s->n_group * s->dk,
                                  .q_stride = s->n_group * s->dk,
                                  .out = out + at * s->n_group * s->dv,
                                  .out_stride = s->n_group * s->dv,
                                  .scale = 1.0f / sqrtf((float)s->dk),
                                  .softcap = s->softcap,
                                  .window = s->window,
                                  .n_text = s->whole ? p->n_pos : 0,
                                  .sinks = s->sinks ? p->sinks : NULL,
                                  .scratch = scratch};
        mr_attention(&args);
    }
    free(scratch);
    free(blocks);
    mr_kv_pool_free(&pool);
}

/* The formula, for query token t and head g. */
static void formula(const problem *p, uint32_t t, uint32_t g, double *out) {
    const shape *s = &p->s;
    uint32_t pos = s->n_past + t, begin = s->window > 0 && pos + 1 > s->window ? pos + 1 - s->window : 0, end = pos + 1;
    if (s->whole) {
        begin = s->window > 0 && pos > s->window / 2 ? pos - s->window / 2 : 0;
        end = s->window > 0 && pos + s->window / 2 + 1 < p->n_pos ? pos + s->window / 2 + 1 : p->n_pos;
    }
    const float *q = p->q + (t * s->n_group + g) * s->dk;
    double *w = malloc(end * sizeof *w), max = s->sinks ? (double)p->sinks[g] : -INFINITY;
    for (uint32_t j = begin; j < end; j++) {
        w[j] = 0.0;
        for (uint32_t d = 0; d < s->dk; d++) w[j] += (double)q[d] * (double)p->k[j * s->dk + d];
        w[j] /= sqrt(s->dk);
        if (s->softcap > 0.0f) w[j] = (double)s->softcap * tanh(w[j] / (double)s->softcap);
        max = fmax(max, w[j]);
    }
    double sum = s->sinks ? exp((double)p->sinks[g] - max) : 0.0;
    for (uint32_t d = 0; d < s->dv; d++) out[d] = 0.0;
    for (uint32_t j = begin; j < end; j++) {
        double e = exp(w[j] - max);
        sum += e;
        for (uint32_t d = 0; d < s->dv; d++) out[d] += e * (double)p->v[j * s->dv + d];
    }
    for (uint32_t d = 0; d < s->dv; d++) out[d] /= sum;
    free(w);
}

static void check_shape(const shape *s) {
    problem p = {.s = *s, .n_pos = s->n_past + s->n_tokens};
    random_state = s->dk * 131 + s->n_tokens;
    p.k = random_floats((size_t)p.n_pos * s->dk);
    p.v = random_floats((size_t)p.n_pos * s->dv);
    p.q = random_floats((size_t)s->n_tokens * s->n_group * s->dk);
    for (size_t i = 0; i < 64; i++) p.sinks[i] = random_float();
    size_t n_out = (size_t)s->n_tokens * s->n_group * s->dv;
    float *expected = malloc(n_out * sizeof *expected), *out = malloc(n_out * sizeof *out);
    mr_isa best = mr_isa_active();
    assert_true(mr_isa_force(MR_ISA_PLAIN));
    solve(&p, s->n_tokens, expected);

    double tolerance = s->type == MR_KV_F32 ? 2e-5 : s->type == MR_KV_F16 ? 4e-3 : 4e-2;
    double *exact = malloc(s->dv * sizeof *exact);
    for (uint32_t t = 0; t < s->n_tokens; t++) {
        for (uint32_t g = 0; g < s->n_group; g++) {
            formula(&p, t, g, exact);
            for (uint32_t d = 0; d < s->dv; d++) {
                double difference = fabs(exact[d] - (double)expected[(t * s->n_group + g) * s->dv + d]);
                if (!(difference <= tolerance)) fail_msg("token %u head %u dim %u differs by %g", t, g, d, difference);
            }
        }
    }
    free(exact);
    static const uint32_t chunks[] = {1, 5, 1000};
    for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
        if (!mr_isa_force((mr_isa)isa)) continue;
        for (size_t c = 0; c < 3; c++) {
            memset(out, 0xFF, n_out * sizeof *out);
            solve(&p, chunks[c], out);
            assert_memory_equal(out, expected, n_out * sizeof *out);
        }
    }
    mr_isa_force(best);
    free(p.k), free(p.v), free(p.q), free(expected), free(out);
}

static void test_shapes(void **state) {
    (void)state;
    static const shape shapes[] = {
        {MR_KV_F32, 1, 64, 64, 0, 1, 0, 0.0f, 0, 0},     {MR_KV_F32, 8, 64, 64, 0, 70, 0, 0.0f, 0, 0},
        {MR_KV_F16, 4, 128, 128, 31, 40, 0, 0.0f, 0, 0}, {MR_KV_F16, 7, 80, 80, 100, 3, 0, 0.0f, 0, 0},
        {MR_KV_F16, 1, 8, 8, 5, 40, 0, 0.0f, 0, 0},      {MR_KV_F32, 3, 24, 20, 64, 33, 0, 0.0f, 0, 0},
        {MR_KV_F32, 2, 32, 32, 90, 50, 40, 0.0f, 0, 0},  {MR_KV_F16, 2, 32, 64, 90, 50, 7, 30.0f, 0, 0},
        {MR_KV_F32, 2, 64, 64, 200, 9, 128, 0.0f, 1, 0}, {MR_KV_Q8_0, 4, 64, 64, 50, 40, 0, 0.0f, 0, 0},
        {MR_KV_Q8_0, 2, 40, 72, 0, 40, 0, 0.0f, 0, 0},   {MR_KV_F16, 40, 16, 16, 33, 5, 0, 0.0f, 0, 0},
        {MR_KV_F32, 1, 64, 64, 0, 70, 0, 0.0f, 0, 1},    {MR_KV_F32, 1, 32, 32, 0, 150, 17, 0.0f, 0, 1},
        {MR_KV_F16, 2, 24, 20, 64, 33, 1, 0.0f, 1, 1},   {MR_KV_Q8_0, 3, 40, 72, 33, 64, 90, 20.0f, 0, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(&shapes[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
