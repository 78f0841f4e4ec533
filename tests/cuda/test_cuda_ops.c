/* The other kernels of the CUDA back end against the CPU's functions: inputs of matrices, small operations, heads,
 * experts, recurrent layers, choosing tokens. */
#include "harness.h"

#include "compute/backend.h"
#include "compute/cpu.h"
#include "compute/matrix_impl.h"
#include "compute/ops.h"
#include "compute/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const mr_ops *ops;

static float *put_floats(const float *x, size_t n) {
    return gpu_put(x, n * sizeof *x);
}

static float *get_floats(const float *x, size_t n) {
    float *got = must_alloc(n * sizeof *got);
    gpu_get(got, x, n * sizeof *got);
    return got;
}

/* ---- inputs of matrices
 * ------------------------------------------------------------------------------------------------- */

/* int8 rows are the CPU's, bit for bit, in another order. */
static void check_q8_row(const char *what, const uint8_t *got, const mr_acts *cpu, size_t t, size_t n_in, bool of_256) {
    static const size_t place[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    const uint8_t *row = cpu->data + t * cpu->stride;
    for (size_t k = 0; k < n_in; k++) {
        const int8_t *q = (const int8_t *)row;
        int8_t value = of_256 ? ((const mr_q8_256 *)row)[k / 256].q[k % 256] : q[k];
        uint8_t want = (uint8_t)value, have = got[k / 32 * 32 + place[k % 32 / 4] * 4 + k % 4];
        if (want != have) fail_test("%s: value %zu of token %zu is %d, not %d", what, k, t, (int8_t)have, (int8_t)want);
    }
    for (size_t g = 0; g < n_in / 32; g++) {
        mr_k_q8_meta meta;
        memcpy(&meta, got + n_in + 8 * g, sizeof meta);
        const mr_q8_256_meta *block = mr_q8_256_metas(row, n_in) + g / 8;
        float d = of_256 ? block->d * (float)block->factor[g % 8] : mr_q8_32_metas(row, n_in)[g].d;
        if (memcmp(&d, &meta.d, 4) != 0 && !(isnan(d) && isnan(meta.d))) fail_test("%s: scale of group %zu", what, g);
        int sum[2] = {0, 0};
        for (size_t k = 0; k < 32; k++) sum[k / 16] += (int8_t)got[32 * g + place[k / 4] * 4 + k % 4];
        if (sum[0] != meta.sum[0] || sum[1] != meta.sum[1]) fail_test("%s: sums of group %zu", what, g);
    }
}

static void check_prepare(size_t n_rows, size_t n_in, int norm, int act, bool picked) {
    size_t n_x = n_rows + 2;
    float *x = random_floats(n_x * n_in, 2.0f), *up = random_floats(n_rows * n_in, 1.5f),
          *want = must_alloc(n_rows * n_in * 4);
    float *weight = random_floats(n_in, 1.0f), *bias = random_floats(n_in, 1.0f);
    int32_t *rows = must_alloc(n_rows * sizeof *rows);
    for (size_t t = 0; t < n_rows; t++) rows[t] = (int32_t)(picked ? random_bits() % n_x : t);
    if (norm == MR_K_NORM_NONE && act < 0) {
        memset(x, 0, n_in * sizeof *x);
        if (n_rows > 2) x[2 * n_in] = INFINITY;
    }
    mr_k_prepare_args a = {.x = put_floats(x, n_x * n_in),
                           .up = act >= 0 ? put_floats(up, n_rows * n_in) : NULL,
                           .rows = picked ? gpu_put(rows, n_rows * sizeof *rows) : NULL,
                           .weight = norm != MR_K_NORM_NONE ? put_floats(weight, n_in) : NULL,
                           .bias = norm == MR_K_NORM_LAYER ? put_floats(bias, n_in) : NULL,
                           .out = put_floats(NULL, n_rows * n_in),
                           .n_rows = (uint32_t)n_rows,
                           .n_in = (uint32_t)n_in,
                           .ldx = (uint32_t)n_in,
                           .ld_up = (uint32_t)n_in,
                           .ld_out = (uint32_t)n_in,
                           .norm = norm,
                           .act = act,
                           .eps = 1e-5f};
    for (int kind = 0; kind < MR_K_N_ACTS; kind++) {
        size_t block = kind == MR_K_ACTS_Q8_32 ? 32 : kind == MR_K_ACTS_Q8_256 ? 256 : 1;
        if (n_in % block == 0) a.acts[kind] = gpu_put(NULL, n_rows * mr_k_acts_stride(kind, n_in));
    }
    gpu_launch(mr_k_prepare_launch(&a), &a);
    for (size_t t = 0; t < n_rows; t++) {
        const float *from = x + (size_t)rows[t] * n_in;
        float *to = want + t * n_in;
        memcpy(to, from, n_in * sizeof *to);
        if (act >= 0) ops->glu((mr_glu)act, to, up + t * n_in, n_in, to);
        if (norm == MR_K_NORM_RMS) ops->rms_norm(to, weight, n_in, 1e-5f, to);
        if (norm == MR_K_NORM_LAYER) ops->layer_norm(to, weight, bias, n_in, 1e-5f, to);
    }
    float *got = get_floats(a.out, n_rows * n_in);
    char what[64];
    snprintf(what, sizeof what, "prepare %zu x %zu, norm %d, act %d", n_rows, n_in, norm, act);
    expect_near(what, got, want, n_rows * n_in, 2e-6);
    /* The forms are those of the floats that came out. */
    for (int kind = 0; kind < MR_K_N_ACTS; kind++) {
        if (a.acts[kind] == NULL) continue;
        size_t stride = mr_k_acts_stride(kind, n_in);
        uint8_t *forms = must_alloc(n_rows * stride);
        gpu_get(forms, a.acts[kind], n_rows * stride);
        mr_acts cpu =
            mr_acts_view((mr_acts_kind)kind, n_in, must_alloc(n_rows * mr_acts_stride((mr_acts_kind)kind, n_in)));
        for (size_t t = 0; t < n_rows; t++) {
            mr_acts_set(&cpu, t, got + t * n_in);
            size_t n_bytes = kind == MR_K_ACTS_F32 ? n_in * 4 : n_in * 2;
            if (kind >= MR_K_ACTS_Q8_32)
                check_q8_row(what, forms + t * stride, &cpu, t, n_in, kind == MR_K_ACTS_Q8_256);
            else if (memcmp(forms + t * stride, cpu.data + t * cpu.stride, n_bytes) != 0)
                fail_test("%s: form %d of token %zu", what, kind, t);
            for (size_t i = n_bytes; kind < MR_K_ACTS_Q8_32 && i < stride; i++) {
                if (forms[t * stride + i] != 0) fail_test("%s: padding of form %d", what, kind);
            }
        }
        free(forms), free(cpu.data);
    }
    free(x), free(up), free(want), free(weight), free(bias), free(rows), free(got);
    gpu_forget();
}

static void test_prepare(void) {
    for (int norm = MR_K_NORM_NONE; norm <= MR_K_NORM_LAYER; norm++) {
        check_prepare(3, 512, norm, MR_K_ACT_NONE, false);
        check_prepare(2, 96, norm, MR_K_ACT_NONE, true);
        check_prepare(1, 77, norm, MR_K_ACT_NONE, true);
    }
    check_prepare(1, 4864, MR_K_NORM_RMS, MR_K_ACT_NONE, false);
    check_prepare(2, 2560, MR_K_NORM_NONE, MR_K_ACT_NONE, false);
    for (int act = MR_GLU_SILU; act <= MR_GLU_SILU_CLAMPED; act++) check_prepare(2, 288, MR_K_NORM_NONE, act, false);
}

/* ---- small operations
 * --------------------------------------------------------------------------------------------------- */

static void test_elementwise(void) {
    enum { R = 3, N = 301 };
    float *x = random_floats(R * N, 4.0f), *y = random_floats(R * N, 2.0f);
    for (int op = MR_K_COPY; op <= MR_K_ADD_TIMES; op++) {
        for (int act = 0; act <= (op == MR_K_GLU ? MR_GLU_SILU_CLAMPED : 0); act++) {
            float *want = must_alloc(R * N * sizeof *want);
            memcpy(want, x, R * N * sizeof *want);
            mr_k_elementwise_args a = {.x = put_floats(x, R * N),
                                       .y = put_floats(y, R * N),
                                       .n_rows = R,
                                       .n = N,
                                       .ldx = N,
                                       .ldy = N,
                                       .ld_out = N,
                                       .op = op,
                                       .act = act,
                                       .p = {0.8f, 0.7f, 0.5f, -1e-6f}};
            a.out = (float *)(uintptr_t)a.x;
            gpu_launch(mr_k_elementwise_launch(&a), &a);
            float *got = get_floats(a.out, R * N), *sigmoids = must_alloc(R * N * sizeof *sigmoids);
            memcpy(sigmoids, y, R * N * sizeof *sigmoids);
            ops->sigmoid(sigmoids, R * N);
            switch (op) {
            case MR_K_ADD_SCALED:
                ops->add_scaled(want, y, 0.8f, R * N);
                break;
            case MR_K_SCALE:
                ops->scale(want, 0.8f, R * N);
                break;
            case MR_K_SOFTCAP:
                ops->softcap(want, 0.8f, R * N);
                break;
            case MR_K_GLU:
                ops->glu((mr_glu)act, want, y, R * N, want);
                break;
            case MR_K_XIELU:
                ops->xielu(want, 0.8f, 0.7f, 0.5f, -1e-6f, R * N);
                break;
            case MR_K_SIGMOID:
                ops->sigmoid(want, R * N);
                break;
            case MR_K_MUL:
            case MR_K_MUL_SIGMOID:
                for (size_t i = 0; i < R * N; i++) want[i] *= op == MR_K_MUL ? y[i] : sigmoids[i];
                break;
            case MR_K_ADD_TIMES:
                for (size_t i = 0; i < R * N; i++) want[i] = (want[i] + y[i]) * 0.8f;
                break;
            }
            char what[32];
            snprintf(what, sizeof what, "elementwise %d, act %d", op, act);
            expect_near(what, got, want, R * N, 1e-6);
            free(want), free(got), free(sigmoids);
        }
    }
    free(x), free(y);
}

static void test_rows(void) {
    for (uint32_t n = 5; n < 1200; n = n * 3 + 1) {
        float *x = random_floats(2 * n, 5.0f), *want = must_alloc(2 * n * sizeof *want), *got;
        mr_k_softmax_args s = {put_floats(x, 2 * n), 2, n, n};
        gpu_launch(mr_k_softmax_launch(&s), &s);
        memcpy(want, x, 2 * n * sizeof *want);
        ops->softmax(want, n), ops->softmax(want + n, n);
        got = get_floats(s.x, 2 * n);
        expect_near("softmax", got, want, 2 * n, 1e-6);
        free(got);
        mr_k_cut_args c = {put_floats(x, 2 * n), 2, n, n, 0.4f};
        gpu_launch(mr_k_cut_launch(&c), &c);
        for (size_t r = 0; r < 2; r++) {
            double mean = 0.0, square = 0.0;
            for (size_t i = 0; i < n; i++) mean += x[r * n + i] / (double)n;
            for (size_t i = 0; i < n; i++) square += (x[r * n + i] - mean) * (x[r * n + i] - mean) / (double)n;
            for (size_t i = 0; i < n; i++) want[r * n + i] = (float)fmax(0.0, x[r * n + i] - mean - 0.4 * sqrt(square));
        }
        got = get_floats(c.x, 2 * n);
        expect_near("sparse gates", got, want, 2 * n, 1e-6);
        free(got), free(x), free(want);
    }
}

/* ---- heads
 * ------------------------------------------------------------------------------------------------------------- */

enum { T = 3, HEADS = 4, POS0 = 61 };

/* cosines and sines [T, n_pairs] on the device and here. */
static void check_angles(size_t n_pairs, float *cosines, float *sines, const float **gpu_cosines,
                         const float **gpu_sines, uint32_t **gpu_positions) {
    float *freq = must_alloc(n_pairs * sizeof *freq);
    uint32_t positions[T];
    for (size_t i = 0; i < n_pairs; i++) freq[i] = powf(10000.0f, -(float)i / (float)n_pairs);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = POS0 + t * 1000;
        for (size_t i = 0; i < n_pairs; i++) {
            float angle = (float)positions[t] * freq[i];
            cosines[t * n_pairs + i] = (float)cos((double)angle) * 1.1f;
            sines[t * n_pairs + i] = (float)sin((double)angle) * 1.1f;
        }
    }
    mr_k_angles_args a = {put_floats(freq, n_pairs),
                          gpu_put(positions, sizeof positions),
                          put_floats(NULL, T * n_pairs),
                          put_floats(NULL, T * n_pairs),
                          T,
                          (uint32_t)n_pairs,
                          1.1f};
    gpu_launch(mr_k_angles_launch(&a), &a);
    float *c = get_floats(a.cosines, T * n_pairs), *s = get_floats(a.sines, T * n_pairs);
    expect_near("cosines", c, cosines, T * n_pairs, 2e-7);
    expect_near("sines", s, sines, T * n_pairs, 2e-7);
    *gpu_cosines = a.cosines, *gpu_sines = a.sines, *gpu_positions = (uint32_t *)(uintptr_t)a.positions;
    free(freq), free(c), free(s);
}

static void check_queries(size_t dim, size_t n_pairs, size_t from, bool neox, int norm, bool late) {
    float cosines[T * 64], sines[T * 64], *x = random_floats(T * HEADS * dim, 1.0f),
                                          *weight = random_floats(HEADS * dim, 1.0f);
    const float *gpu_cosines, *gpu_sines;
    uint32_t *positions;
    check_angles(n_pairs, cosines, sines, &gpu_cosines, &gpu_sines, &positions);
    mr_k_heads_args a = {.x = put_floats(x, T * HEADS * dim),
                         .norm_weight = put_floats(weight, HEADS * dim),
                         .cosines = gpu_cosines,
                         .sines = gpu_sines,
                         .positions = positions,
                         .n_tokens = T,
                         .n_heads = HEADS,
                         .dim = (uint32_t)dim,
                         .ldx = (uint32_t)(HEADS * dim),
                         .weight_step = (uint32_t)dim,
                         .n_pairs = (uint32_t)n_pairs,
                         .rot_from = (uint32_t)from,
                         .n_ctx_orig = 512,
                         .neox = neox,
                         .norm = norm,
                         .norm_late = late,
                         .eps = 1e-6f,
                         .temperature = 0.1f};
    gpu_launch(mr_k_heads_launch(&a), &a);
    for (size_t t = 0; t < T; t++) {
        for (size_t h = 0; h < HEADS; h++) {
            float *head = x + (t * HEADS + h) * dim, *w = weight + h * dim;
            for (int round = 0; round < 2; round++) {
                if (norm == MR_K_NORM_RMS && late == (round == 1)) ops->rms_norm(head, w, dim, 1e-6f, head);
                if (norm == MR_K_NORM_LAYER && late == (round == 1)) ops->layer_norm(head, w, NULL, dim, 1e-6f, head);
                if (round == 0) ops->rope(head + from, cosines + t * n_pairs, sines + t * n_pairs, n_pairs, neox);
            }
            ops->scale(head, 1.0f + 0.1f * logf(1.0f + (float)((POS0 + t * 1000) / 512)), dim);
        }
    }
    float *got = get_floats(a.x, T * HEADS * dim);
    expect_near("queries", got, x, T * HEADS * dim, 2e-6);
    free(x), free(weight), free(got);
    gpu_forget();
}

static void test_queries(void) {
    check_queries(64, 32, 0, true, MR_K_NORM_RMS, false);
    check_queries(80, 20, 0, false, MR_K_NORM_LAYER, false);
    check_queries(48, 16, 16, true, MR_K_NORM_RMS, true);
    check_queries(288, 64, 0, false, MR_K_NORM_NONE, false);
}

static void test_norm(void) {
    for (uint32_t n = 16; n < 2000; n = n * 5 + 3) {
        float *x = random_floats(2 * 3 * n, 1.0f), *weight = random_floats(3 * n, 1.0f), *bias = random_floats(n, 1.0f);
        for (int norm = MR_K_NORM_RMS; norm <= MR_K_NORM_LAYER; norm++) {
            mr_k_norm_args a = {.x = put_floats(x, 6 * n),
                                .weight = put_floats(weight, 3 * n),
                                .n_rows = 2,
                                .n_heads = 3,
                                .n = n,
                                .ld = 3 * n,
                                .head_step = n,
                                .weight_step = n,
                                .norm = norm,
                                .eps = 1e-5f};
            a.bias = norm == MR_K_NORM_LAYER ? put_floats(bias, n) : NULL;
            a.out = put_floats(NULL, 6 * n);
            gpu_launch(mr_k_norm_launch(&a), &a);
            float *want = must_alloc(6 * n * sizeof *want), *got = get_floats(a.out, 6 * n);
            for (size_t i = 0; i < 6; i++) {
                if (norm == MR_K_NORM_RMS)
                    ops->rms_norm(x + i * n, weight + i % 3 * n, n, 1e-5f, want + i * n);
                else
                    ops->layer_norm(x + i * n, weight + i % 3 * n, bias, n, 1e-5f, want + i * n);
            }
            expect_near("norm", got, want, 6 * n, 2e-6);
            free(want), free(got);
        }
        free(x), free(weight), free(bias);
    }
}

/* ---- experts
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct routing {
    uint32_t n_expert, n_used, n_group, n_group_used;
    int gating;
    bool normed, biased;
} routing;

static void softmax_of(double *x, size_t n) {
    double most = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++) most = fmax(most, x[i]);
    for (size_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

/* What one token gets, in the words of forward_experts.c, in double precision. */
static void route_here(const routing *r, const float *logits, const float *bias, int32_t *chosen, double *weight) {
    double scores[64], choice[64], total = 0.0;
    bool taken[64] = {false};
    uint32_t per_group = r->n_expert / r->n_group;
    for (uint32_t e = 0; e < r->n_expert; e++) scores[e] = logits[e];
    if (r->gating == 1) softmax_of(scores, r->n_expert);
    for (uint32_t e = 0; e < r->n_expert; e++) {
        if (r->gating == 2) scores[e] = 1.0 / (1.0 + exp(-scores[e]));
        choice[e] = scores[e] + (r->biased ? bias[e] : 0.0f);
    }
    if (r->n_group > 1) {
        double of_group[8];
        bool kept[8] = {false};
        for (uint32_t g = 0; g < r->n_group; g++) {
            double best = -INFINITY, second = -INFINITY;
            for (uint32_t e = g * per_group; e < (g + 1) * per_group; e++) {
                if (choice[e] > best)
                    second = best, best = choice[e];
                else if (choice[e] > second)
                    second = choice[e];
            }
            of_group[g] = r->gating == 2 ? best + second : best;
        }
        for (uint32_t k = 0; k < r->n_group_used; k++) {
            int best = -1;
            for (uint32_t g = 0; g < r->n_group; g++)
                if (!kept[g] && (best < 0 || of_group[g] > of_group[best])) best = (int)g;
            kept[best] = true;
        }
        for (uint32_t e = 0; e < r->n_expert; e++)
            if (!kept[e / per_group]) choice[e] = -INFINITY;
    }
    for (uint32_t k = 0; k < r->n_used; k++) {
        int best = -1;
        for (uint32_t e = 0; e < r->n_expert; e++)
            if (!taken[e] && (best < 0 || choice[e] > choice[best])) best = (int)e;
        chosen[k] = best;
        weight[k] = scores[best];
        if (r->gating == 100) {
            double sum = 0.0;
            for (uint32_t e = 0; e < r->n_expert; e++) {
                double size = fmax(fabs(scores[e]), scores[best]);
                if (!taken[e] && (scores[best] - scores[e]) / size <= 0.02) sum += exp(scores[e] - scores[best]);
            }
            weight[k] = 1.0 / sum;
        }
        taken[best] = true;
    }
    if (r->gating == 3) softmax_of(weight, r->n_used);
    for (uint32_t k = 0; k < r->n_used; k++) total += weight[k];
    for (uint32_t k = 0; k < r->n_used; k++) weight[k] *= 2.5 / (r->normed && r->gating <= 2 ? total : 1.0);
}

static void test_experts(void) {
    const routing cases[] = {{8, 2, 1, 1, 1, true, false},   {60, 6, 1, 1, 1, false, false},
                             {32, 4, 1, 1, 3, true, false},  {64, 8, 8, 4, 2, true, true},
                             {16, 3, 4, 2, 1, false, false}, {16, 2, 1, 1, 100, false, false}};
    enum { TOKENS = 37, N = 130 };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const routing *r = &cases[c];
        size_t n_slots = TOKENS * r->n_used;
        float *logits = random_floats(TOKENS * r->n_expert, 3.0f), *bias = random_floats(r->n_expert, 0.2f);
        for (size_t e = 0; r->gating == 3 && e < r->n_expert; e++) logits[e] = 1.0f; /* equals: the first ones */
        mr_k_route_args a = {.scores = put_floats(logits, TOKENS * r->n_expert),
                             .bias = r->biased ? put_floats(bias, r->n_expert) : NULL,
                             .chosen = gpu_put(NULL, n_slots * 4),
                             .weight = put_floats(NULL, n_slots),
                             .n_tokens = TOKENS,
                             .n_expert = r->n_expert,
                             .n_used = r->n_used,
                             .n_group = r->n_group,
                             .n_group_used = r->n_group_used,
                             .gating = r->gating,
                             .normed = r->normed,
                             .factor = 2.5f};
        gpu_launch(mr_k_route_launch(&a), &a);
        int32_t *chosen = must_alloc(n_slots * 4), want_chosen[64], begin[65], *slot_token = must_alloc(n_slots * 4);
        int32_t *slot_of = must_alloc(n_slots * 4);
        double want_weight[64];
        float *weight = get_floats(a.weight, n_slots);
        gpu_get(chosen, a.chosen, n_slots * 4);
        for (size_t t = 0; t < TOKENS; t++) {
            route_here(r, logits + t * r->n_expert, bias, want_chosen, want_weight);
            for (size_t k = 0; k < r->n_used; k++) {
                if (chosen[t * r->n_used + k] != want_chosen[k] ||
                    fabs(weight[t * r->n_used + k] - want_weight[k]) > 1e-5)
                    fail_test("routing %zu, token %zu, choice %zu: expert %d (%g), not %d (%g)", c, t, k,
                              chosen[t * r->n_used + k], (double)weight[t * r->n_used + k], want_chosen[k],
                              want_weight[k]);
            }
        }
        mr_k_lists_args l = {a.chosen,
                             gpu_put(NULL, (r->n_expert + 1) * 4),
                             gpu_put(NULL, n_slots * 4),
                             gpu_put(NULL, n_slots * 4),
                             TOKENS,
                             r->n_expert,
                             r->n_used};
        gpu_launch(mr_k_lists_launch(&l), &l);
        gpu_get(begin, l.begin, (r->n_expert + 1) * 4);
        gpu_get(slot_token, l.slot_token, n_slots * 4);
        gpu_get(slot_of, l.slot_of, n_slots * 4);
        size_t slot = 0;
        for (uint32_t e = 0; e < r->n_expert; e++) {
            if ((size_t)begin[e] != slot) fail_test("expert %u begins at %d, not %zu", (unsigned)e, begin[e], slot);
            for (size_t i = 0; i < n_slots; i++) {
                if (chosen[i] != (int32_t)e) continue;
                if (slot_token[slot] != (int32_t)(i / r->n_used) || slot_of[i] != (int32_t)slot)
                    fail_test("slot %zu", slot);
                slot++;
            }
        }
        float *y = random_floats(n_slots * N, 1.0f), *shared = random_floats(TOKENS * N, 1.0f),
              *gate = random_floats(TOKENS, 2.0f);
        float *want = must_alloc(TOKENS * N * sizeof *want);
        mr_k_combine_args m = {put_floats(y, n_slots * N),
                               a.weight,
                               put_floats(shared, TOKENS * N),
                               put_floats(gate, TOKENS),
                               l.slot_of,
                               put_floats(NULL, TOKENS * N),
                               TOKENS,
                               r->n_used,
                               N};
        gpu_launch(mr_k_combine_launch(&m), &m);
        ops->sigmoid(gate, TOKENS);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t k = 0; k < r->n_used; k++)
                ops->add_scaled(want + t * N, y + (size_t)slot_of[t * r->n_used + k] * N, weight[t * r->n_used + k], N);
            ops->add_scaled(want + t * N, shared + t * N, gate[t], N);
        }
        float *got = get_floats(m.out, TOKENS * N);
        expect_near("experts' sum", got, want, TOKENS * N, 1e-6);
        m.n_used = 0;
        gpu_launch(mr_k_combine_launch(&m), &m);
        gpu_get(got, m.out, TOKENS * N * sizeof *got);
        for (size_t i = 0; i < TOKENS * N; i++) want[i] = shared[i] * gate[i / N];
        expect_near("a shared expert alone", got, want, TOKENS * N, 1e-6);
        free(logits), free(bias), free(chosen), free(slot_token), free(slot_of), free(weight);
        free(y), free(shared), free(gate), free(want), free(got);
        gpu_forget();
    }
}

/* ---- choosing tokens
 * ----------------------------------------------------------------------------------------------------- */

static void check_choice(uint32_t n_vocab, bool equals) {
    enum { R = 2 };
    float *logits = random_floats(R * n_vocab, 9.0f);
    for (size_t i = 0; equals && i < R * n_vocab; i++) logits[i] = roundf(logits[i]);
    logits[n_vocab / 2] = INFINITY;
    if (n_vocab > 3) logits[1] = NAN, logits[2] = -0.0f;
    float *gpu = put_floats(logits, R * n_vocab);
    mr_k_argmax_args a = {
        gpu, gpu_put(NULL, R * MR_K_ARGMAX_PARTS * 8), gpu_put(NULL, R * 4), put_floats(NULL, R), R, n_vocab, n_vocab};
    gpu_launch(mr_k_argmax_launch(&a), &a);
    gpu_launch(mr_k_argmax_join_launch(&a), &a);
    int32_t ids[R];
    gpu_get(ids, a.ids, sizeof ids);
    for (size_t r = 0; r < R; r++) {
        int32_t best = mr_best_of(logits + r * n_vocab, n_vocab);
        if (ids[r] != best) fail_test("of %u logits %d is chosen, not %d", (unsigned)n_vocab, ids[r], best);
    }
    free(logits);
    gpu_forget();
}

static void test_choice(void) {
    check_choice(1, false);
    check_choice(50, true);
    check_choice(1024, false);
    check_choice(3001, false);
    check_choice(2500, true);
}

/* Rows of what makes candidates difficult: equals, impossible values, few numbers, all the best at one end. */
enum { ROW_NORMAL, ROW_EQUAL_VALUES, ROW_ALL_EQUAL, ROW_IMPOSSIBLE, ROW_FEW, ROW_NONE, ROW_RISING, N_ROW_KINDS };

static void fill_row(float *x, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        if (kind == ROW_EQUAL_VALUES) x[i] = roundf(x[i]);
        if (kind == ROW_ALL_EQUAL) x[i] = i % 2 == 0 ? 0.0f : -0.0f;
        if (kind == ROW_IMPOSSIBLE && i % 3 == 0) x[i] = i % 2 == 0 ? NAN : i % 4 == 1 ? INFINITY : -INFINITY;
        if (kind == ROW_FEW && i % 97 != 5) x[i] = -INFINITY;
        if (kind == ROW_NONE) x[i] = i % 2 == 0 ? NAN : -INFINITY;
        if (kind == ROW_RISING) x[i] = (float)i * 0.01f - 50.0f;
    }
}

/* The operation as the model calls it, for each kind of row, against the definition, bit by bit. */
static void check_candidates(mr_backend *b, size_t n) {
    const size_t n_rows = N_ROW_KINDS;
    float *logits = random_floats(n_rows * n, 9.0f);
    mr_candidates *got = must_alloc(n_rows * sizeof *got), *want = must_alloc(sizeof *want);
    void *there, *to;
    mr_error err = {0};
    for (int kind = 0; kind < N_ROW_KINDS; kind++) fill_row(logits + (size_t)kind * n, n, kind);
    if (b->ops->alloc(b, n_rows * n * sizeof *logits, "logits", &there, &err) != MR_OK ||
        b->ops->alloc(b, n_rows * sizeof *got, "candidates", &to, &err) != MR_OK ||
        b->ops->upload(b, there, logits, n_rows * n * sizeof *logits, &err) != MR_OK)
        fail_test("%s", err.text);
    const mr_candidates_args args = {.logits = there, .n_rows = n_rows, .n = n, .candidates = to};
    b->ops->candidates(b, &args);
    b->ops->fetch(b, got, to, n_rows * sizeof *got);
    if (b->ops->sync(b, &err) != MR_OK) fail_test("%s", err.text);
    for (size_t r = 0; r < n_rows; r++) {
        mr_candidates_of(logits + r * n, n, want);
        if (got[r].n != want->n || got[r].best != want->best || got[r].total != want->total)
            fail_test("%zu logits of kind %zu: %u candidates, %d is the best, the weight is %llu, not %u, %d, %llu", n,
                      r, got[r].n, got[r].best, (unsigned long long)got[r].total, want->n, want->best,
                      (unsigned long long)want->total);
        if (memcmp(got[r].ids, want->ids, want->n * sizeof *want->ids) != 0 ||
            memcmp(got[r].logits, want->logits, want->n * sizeof *want->logits) != 0)
            fail_test("%zu logits of kind %zu: the candidates differ", n, r);
    }
    b->ops->release(b, there);
    b->ops->release(b, to);
    free(logits), free(got), free(want);
}

/* Of one part, of several, of more than one block joins; and of the largest blocks. */
static void test_candidates(void) {
    static const size_t sizes[] = {1, 31, 255, 256, 257, 1000, 4096, 4097, 9001, 32003, 64 * 4096 + 1};
    mr_backend *b;
    mr_error err = {0};
    if (mr_backend_cuda_open(&b, 0, &err) != MR_OK) fail_test("%s", err.text);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_candidates(b, sizes[i]);
    mr_backend_close(b);
}

/* ---- recurrent layers
 * ---------------------------------------------------------------------------------------------------- */

enum { RUNS = 2 };
static const uint32_t run_first[RUNS] = {0, 19}, run_tokens[RUNS] = {19, 1}, run_mid[RUNS] = {11, 0};
enum { TOKENS = 20 };

/* States of both runs: those before (none for the second), behind and in the middle; addresses lie on the device. */
typedef struct states {
    float *in, *out, *mid; /* [RUNS, n] on the device */
    const float *const *ins;
    float *const *outs, *const *mids;
} states;

static states put_states(const float *in, size_t n) {
    states s = {put_floats(in, RUNS * n), put_floats(NULL, RUNS * n), put_floats(NULL, RUNS * n), NULL, NULL, NULL};
    float *ins[RUNS] = {s.in, NULL}, *outs[RUNS] = {s.out, s.out + n}, *mids[RUNS] = {s.mid, NULL};
    s.ins = gpu_put(ins, sizeof ins), s.outs = gpu_put(outs, sizeof outs), s.mids = gpu_put(mids, sizeof mids);
    return s;
}

static void check_conv(bool gated) {
    enum { N = 70, WIDTH = 4, FROM = 2 * N, LD = 3 * N, AT = 7, STATE = AT + (WIDTH - 1) * N };
    float *mix = random_floats(TOKENS * LD, 1.0f), *weight = random_floats(WIDTH * N, 1.0f),
          *bias = random_floats(N, 1.0f);
    float *in = random_floats(RUNS * STATE, 1.0f), *want = must_alloc(TOKENS * N * 4), past[WIDTH + TOKENS][N];
    states s = put_states(in, STATE);
    mr_k_conv_args a = {.mix = put_floats(mix, TOKENS * LD),
                        .out = put_floats(NULL, TOKENS * N),
                        .weight = put_floats(weight, WIDTH * N),
                        .bias = put_floats(bias, N),
                        .first = gpu_put(run_first, sizeof run_first),
                        .n_tokens = gpu_put(run_tokens, sizeof run_tokens),
                        .n_mid = gpu_put(run_mid, sizeof run_mid),
                        .state_in = s.ins,
                        .state_out = s.outs,
                        .state_mid = s.mids,
                        .state_at = AT,
                        .n_runs = RUNS,
                        .n_conv = N,
                        .ld_mix = LD,
                        .x_from = FROM,
                        .width = WIDTH,
                        .gated = gated};
    gpu_launch(mr_k_conv_launch(&a), &a);
    float *got = get_floats(a.out, TOKENS * N), *out = get_floats(s.out, RUNS * STATE),
          *mid = get_floats(s.mid, RUNS * STATE);
    for (size_t r = 0; r < RUNS; r++) {
        for (size_t j = 0; j < WIDTH - 1; j++) {
            for (size_t c = 0; c < N; c++) past[j][c] = r == 0 ? in[AT + j * N + c] : 0.0f;
        }
        for (size_t t = 0; t < run_tokens[r]; t++) {
            const float *rows[WIDTH], *row = mix + (run_first[r] + t) * LD;
            float *to = want + (run_first[r] + t) * N;
            for (size_t c = 0; c < N; c++) past[WIDTH - 1 + t][c] = row[FROM + c] * (gated ? row[c] : 1.0f);
            for (size_t j = 0; j < WIDTH; j++) rows[j] = past[t + j];
            ops->conv1d(rows, WIDTH, weight, N, bias, N, to);
            if (!gated) ops->glu(MR_GLU_SILU, to, NULL, N, to);
            for (size_t c = 0; gated && c < N; c++) to[c] *= row[N + c];
        }
        expect_near("state of a convolution", out + r * STATE + AT, past[run_tokens[r]], (WIDTH - 1) * N, 0.0);
        if (run_mid[r] > 0) expect_near("state in the middle", mid + AT, past[run_mid[r]], (WIDTH - 1) * N, 0.0);
    }
    expect_near("convolution", got, want, TOKENS * N, 1e-6);
    free(mix), free(weight), free(bias), free(in), free(want), free(got), free(out), free(mid);
    gpu_forget();
}

static float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

static void unit_length(const float *x, size_t n, float factor, float *out) {
    ops->rms_norm(x, NULL, n, 1e-6f / (float)n, out);
    ops->scale(out, factor / sqrtf((float)n), n);
}

static void check_scan(bool delta, bool tiled, bool by_group) {
    enum {
        H = 4,
        G = 2,
        DK = 24,
        DV = 40,
        LD = H * DV + 2 * H,
        CONV = H * DV + 2 * G * DK,
        AT = 3,
        STATE = AT + H * DK * DV
    };
    float *conv = random_floats(TOKENS * CONV, 1.0f), *mix = random_floats(TOKENS * LD, 1.0f),
          *in = random_floats(RUNS * STATE, 1.0f);
    float of_heads[H], dt_bias[H], direct[H], norm[DV], *want = must_alloc(TOKENS * H * DV * 4), scratch[2 * DK + DV];
    for (int h = 0; h < H; h++)
        of_heads[h] = -0.5f - 0.3f * (float)h, dt_bias[h] = random_float(), direct[h] = random_float();
    for (int i = 0; i < DV; i++) norm[i] = random_float();
    states s = put_states(in, STATE);
    mr_k_scan_args a = {.conv = put_floats(conv, TOKENS * CONV),
                        .mix = put_floats(mix, TOKENS * LD),
                        .out = put_floats(NULL, TOKENS * H * DV),
                        .a = put_floats(of_heads, H),
                        .dt_bias = put_floats(dt_bias, H),
                        .d = put_floats(direct, H),
                        .norm = put_floats(norm, DV),
                        .first = gpu_put(run_first, sizeof run_first),
                        .n_tokens = gpu_put(run_tokens, sizeof run_tokens),
                        .n_mid = gpu_put(run_mid, sizeof run_mid),
                        .state_in = s.ins,
                        .state_out = s.outs,
                        .state_mid = s.mids,
                        .state_at = AT,
                        .n_runs = RUNS,
                        .n_head = H,
                        .n_group = G,
                        .dk = DK,
                        .dv = DV,
                        .n_conv = CONV,
                        .ld_mix = LD,
                        .dt_from = H * DV,
                        .z_from = 0,
                        .delta = delta,
                        .heads_tiled = tiled,
                        .betas_by_group = by_group,
                        .eps = 1e-6f};
    gpu_launch(mr_k_scan_launch(&a), &a);
    float *got = get_floats(a.out, TOKENS * H * DV), *out = get_floats(s.out, RUNS * STATE),
          *mid = get_floats(s.mid, RUNS * STATE);
    float *state = must_alloc(DK * DV * 4), *middle = must_alloc(DK * DV * 4);
    for (size_t r = 0; r < RUNS; r++) {
        for (size_t h = 0; h < H; h++) {
            size_t at = AT + h * DK * DV, each = H / G, group = delta && tiled ? h % G : h / each;
            if (r == 0)
                memcpy(state, in + at, DK * DV * 4);
            else
                memset(state, 0, DK * DV * 4);
            for (size_t t = 0; t < run_tokens[r]; t++) {
                size_t token = run_first[r] + t;
                const float *row = conv + token * CONV, *m = mix + token * LD, *betas = m + H * DV;
                float *y = want + (token * H + h) * DV;
                if (delta) {
                    size_t beta_at = by_group ? h / each * 2 * each + h % each : h;
                    float beta = betas[beta_at], alpha = betas[beta_at + (by_group ? each : H)];
                    ops->sigmoid(&beta, 1);
                    unit_length(row + group * DK, DK, 1.0f / sqrtf(DK), scratch);
                    unit_length(row + (G + group) * DK, DK, 1.0f, scratch + DK);
                    ops->delta_step(state, state, expf(of_heads[h] * softplus(alpha + dt_bias[h])), beta, scratch,
                                    scratch + DK, row + 2 * G * DK + h * DV, DK, DV, y);
                    ops->rms_norm(y, norm, DV, 1e-6f, y);
                    ops->glu(MR_GLU_SILU, m + h * DV, y, DV, y);
                } else {
                    float dt = softplus(betas[h] + dt_bias[h]);
                    for (size_t i = 0; i < DV; i++) scratch[i] = dt * row[h * DV + i];
                    ops->ssd_step(state, state, expf(dt * of_heads[h]), scratch, row + H * DV + group * DK,
                                  row + H * DV + (G + group) * DK, DK, DV, y);
                    ops->add_scaled(y, row + h * DV, direct[h], DV);
                }
                if (t + 1 == run_mid[r]) memcpy(middle, state, DK * DV * 4);
            }
            expect_near("state of a head", out + r * STATE + at, state, DK * DV, 3e-6);
            if (run_mid[r] > 0) expect_near("state of a head in the middle", mid + at, middle, DK * DV, 3e-6);
        }
    }
    expect_near(delta ? "delta net" : "Mamba-2", got, want, TOKENS * H * DV, 1e-5);
    free(conv), free(mix), free(in), free(want), free(got), free(out), free(mid), free(state), free(middle);
    gpu_forget();
}

static void test_recurrent(void) {
    check_conv(false);
    check_conv(true);
    check_scan(false, false, false);
    check_scan(true, false, false);
    check_scan(true, true, true);
}

/* ---- measurement
 * -------------------------------------------------------------------------------------------------------- */

static void add_one(void *arg) {
    gpu_launch(mr_k_elementwise_launch(arg), arg);
}

/* One round to begin with, then 9 of 3. */
static void test_times(void) {
    const float zero = 0.0f, one = 1.0f;
    float *x = gpu_put(&zero, sizeof zero), sum;
    mr_k_elementwise_args a = {.x = x,
                               .y = gpu_put(&one, sizeof one),
                               .out = x,
                               .n_rows = 1,
                               .n = 1,
                               .op = MR_K_ADD_SCALED,
                               .p = {1.0f}};
    if (!(gpu_time(add_one, &a, 3) > 0.0f)) fail_test("it took no time");
    gpu_get(&sum, x, sizeof sum);
    if (sum != 28.0f) fail_test("%g rounds instead of 28", (double)sum);
}

int main(void) {
    if (!gpu_begin()) return 0;
    ops = mr_ops_active();
    run_test("inputs of matrices", test_prepare);
    run_test("elementwise operations", test_elementwise);
    run_test("softmax, sparse gates", test_rows);
    run_test("norms", test_norm);
    run_test("queries", test_queries);
    run_test("experts", test_experts);
    run_test("times", test_times);
    run_test("choosing tokens", test_choice);
    run_test("candidates", test_candidates);
    run_test("recurrent layers", test_recurrent);
    return end_tests();
}
