/* floors: compute */
#include "compute/cpu.h"
#include "compute/matrix.h"
#include "compute/matrix_impl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random_rows.h"

/* -- Data. */

static uint64_t random_state = 88172645463325252u;

static uint32_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static float random_float(void) { /* -1 .. 1 */
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

static float random_normal(void) {
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) sum += random_float();
    return sum * 0.5f;
}

static void *make(size_t n_bytes) {
    void *p = aligned_alloc(64, (n_bytes + 127) / 64 * 64);
    assert_non_null(p);
    memset(p, 0, (n_bytes + 127) / 64 * 64);
    return p;
}

static uint8_t *random_rows(mr_dtype type, size_t n_out, size_t n_in, size_t *row_bytes) {
    assert_true(mr_dtype_row_bytes(mr_dtype_find(type), n_in, row_bytes));
    uint8_t *rows = make(n_out * *row_bytes);
    fill_random_rows(type, rows, n_out * *row_bytes, random_bits);
    return rows;
}

/* Tokens of several kinds: normal, all at one extreme, an outlier in a quiet row, zero. */
static float *random_tokens(size_t n_tokens, size_t n_in) {
    float *x = make(n_tokens * n_in * sizeof(float));
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t k = 0; k < n_in; k++) {
            float v = random_normal();
            if (t % 7 == 3) v = random_bits() % 8 ? 1.0f : -1.0f;
            if (t % 7 == 4) v = 1.0f;
            if (t % 7 == 5) v *= k == n_in / 3 ? 300.0f : 1.0f;
            if (t % 7 == 6) v = t % 2 ? 0.0f : -1.0f;
            x[t * n_in + k] = v;
        }
    }
    return x;
}

/* -- Running. */

typedef struct product {
    mr_matmul_item item;
    mr_glu_item glu;
    size_t n_tokens;
} product;

static void matmul_member(mr_worker *worker, void *arg) {
    product *p = arg;
    if (p->glu.gate != NULL)
        mr_matmul_glu_items(worker, &p->glu, 1, p->n_tokens);
    else
        mr_matmul(worker, &p->item, 1, p->n_tokens);
}

static mr_matrix *pack(mr_dtype type, const uint8_t *rows, size_t n_out, size_t n_in, mr_team *team) {
    mr_error err = {0};
    mr_matrix *matrix;
    if (mr_matrix_pack(&matrix, type, rows, n_out, n_in, team, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_matrix_n_out(matrix), n_out);
    assert_int_equal(mr_matrix_n_in(matrix), n_in);
    return matrix;
}

static mr_acts acts_of(mr_dtype type, const float *x, size_t n_tokens, size_t n_in) {
    mr_acts_kind kind;
    assert_true(mr_matrix_acts_kind(type, &kind));
    mr_acts acts = mr_acts_view(kind, n_in, make(n_tokens * mr_acts_stride(kind, n_in)));
    for (size_t t = 0; t < n_tokens; t++) mr_acts_set(&acts, t, x + t * n_in);
    return acts;
}

static mr_team *new_team(int n_threads) {
    mr_error err = {0};
    mr_team *team;
    if (mr_team_new(&team, n_threads, &err) != MR_OK) fail_msg("%s", err.text);
    return team;
}

static float *multiply(mr_team *team, const mr_matrix *w, const mr_acts *x, size_t first_token, size_t n_tokens) {
    size_t n_out = mr_matrix_n_out(w);
    float *y = make(n_tokens * n_out * sizeof(float));
    mr_acts part = *x;
    part.data += first_token * x->stride;
    product p = {.item = {.w = w, .x = &part, .y = y, .ldy = n_out}, .n_tokens = n_tokens};
    mr_team_run(team, matmul_member, &p);
    return y;
}

#define TYPES MATRIX_TYPES
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static bool has_kernel(mr_dtype type) {
    mr_acts_kind kind;
    return mr_matrix_acts_kind(type, &kind);
}

static size_t block_of(mr_dtype type) {
    return mr_dtype_find(type)->block_values;
}

/* -- Tests. */

/* The plain product is near the product of the decoded weights in double precision. */
static void test_plain_against_decoded(void **state) {
    (void)state;
    assert_true(mr_isa_force(MR_ISA_PLAIN));
    mr_team *team = new_team(1);
    for (int i = 0; i < N_TYPES; i++) {
        if (!has_kernel(TYPES[i])) continue;
        size_t n_out = 19, n_in = 512, n_tokens = 9, row_bytes;
        uint8_t *rows = random_rows(TYPES[i], n_out, n_in, &row_bytes);
        float *x = random_tokens(n_tokens, n_in), *w = make(n_in * sizeof(float));
        mr_matrix *matrix = pack(TYPES[i], rows, n_out, n_in, team);
        mr_acts acts = acts_of(TYPES[i], x, n_tokens, n_in);
        float *y = multiply(team, matrix, &acts, 0, n_tokens);
        double tolerance = TYPES[i] == MR_F32 || TYPES[i] == MR_F16 || TYPES[i] == MR_F8_E4M3 ? 1e-6 : 0.006;
        for (size_t r = 0; r < n_out; r++) {
            mr_dtype_find(TYPES[i])->dequantize(rows + r * row_bytes, w, n_in);
            for (size_t t = 0; t < n_tokens; t++) {
                double sum = 0.0, norm_w = 0.0, norm_x = 0.0;
                for (size_t k = 0; k < n_in; k++) {
                    double a = w[k], b = x[t * n_in + k];
                    sum += a * b;
                    norm_w += a * a;
                    norm_x += b * b;
                }
                double error = fabs(sum - y[t * n_out + r]);
                if (!(error <= tolerance * sqrt(norm_w * norm_x) + 1e-6)) {
                    fail_msg("%s row %zu token %zu: %g instead of %g", mr_dtype_find(TYPES[i])->name, r, t,
                             y[t * n_out + r], sum);
                }
            }
        }
        free(rows), free(x), free(w), free(y), free(acts.data);
        mr_matrix_free(matrix);
    }
    mr_team_free(team);
}

static void check_shape(mr_isa isa, mr_dtype type, size_t n_out, size_t n_in, size_t n_tokens, mr_team *team) {
    size_t row_bytes;
    uint8_t *rows = random_rows(type, n_out, n_in, &row_bytes);
    float *x = random_tokens(n_tokens, n_in);
    mr_matrix *matrix = pack(type, rows, n_out, n_in, team);
    assert_true(mr_isa_force(MR_ISA_PLAIN));
    mr_acts plain_acts = acts_of(type, x, n_tokens, n_in);
    float *expected = multiply(team, matrix, &plain_acts, 0, n_tokens);
    assert_true(mr_isa_force(isa));
    mr_acts acts = acts_of(type, x, n_tokens, n_in);
    assert_memory_equal(acts.data, plain_acts.data, n_tokens * acts.stride);
    float *y = multiply(team, matrix, &acts, 0, n_tokens);
    if (memcmp(y, expected, n_tokens * n_out * sizeof(float)) != 0) {
        for (size_t i = 0; i < n_tokens * n_out; i++) {
            if (memcmp(y + i, expected + i, 4) == 0) continue;
            fail_msg("%s %s %zu x %zu, %zu tokens: row %zu token %zu is %a, not %a", mr_isa_name(isa),
                     mr_dtype_find(type)->name, n_out, n_in, n_tokens, i % n_out, i / n_out, y[i], expected[i]);
        }
    }
    free(rows), free(x), free(expected), free(y), free(acts.data), free(plain_acts.data);
    mr_matrix_free(matrix);
}

static void check_isa(mr_isa isa) {
    if (!mr_isa_force(isa)) skip();
    mr_team *team = new_team(2);
    for (int i = 0; i < N_TYPES; i++) {
        if (!has_kernel(TYPES[i])) continue;
        size_t block = block_of(TYPES[i]);
        for (size_t n_tokens = 1; n_tokens <= 40; n_tokens += n_tokens < 18 ? 1 : 11) {
            check_shape(isa, TYPES[i], 1 + random_bits() % 100, block * (1 + random_bits() % 3), n_tokens, team);
        }
        check_shape(isa, TYPES[i], 1, block, 1, team);
        check_shape(isa, TYPES[i], 144, block == 1 ? 77 : 5 * block, 1, team);
        check_shape(isa, TYPES[i], 33, block == 1 ? 256 : 1024, 16, team);
        check_shape(isa, TYPES[i], 48, block == 1 ? 1 : block * 9, 20, team);
    }
    mr_team_free(team);
}

static void test_avx2_is_plain(void **state) {
    (void)state;
    check_isa(MR_ISA_AVX2);
}

static void test_avx512_is_plain(void **state) {
    (void)state;
    check_isa(MR_ISA_AVX512);
}

static void test_neon_is_plain(void **state) {
    (void)state;
    check_isa(MR_ISA_NEON);
}

/* A token's result does not depend on its company or on the number of threads. */
static void test_company_and_threads(void **state) {
    (void)state;
    mr_team *teams[] = {new_team(1), new_team(2), new_team(3)};
    for (int i = 0; i < N_TYPES; i++) {
        if (!has_kernel(TYPES[i])) continue;
        size_t n_out = 83, n_in = 768, n_tokens = 37, row_bytes;
        uint8_t *rows = random_rows(TYPES[i], n_out, n_in, &row_bytes);
        float *x = random_tokens(n_tokens, n_in);
        mr_matrix *matrix = pack(TYPES[i], rows, n_out, n_in, teams[2]);
        mr_acts acts = acts_of(TYPES[i], x, n_tokens, n_in);
        float *all = multiply(teams[0], matrix, &acts, 0, n_tokens);
        for (int team = 1; team < 3; team++) {
            float *y = multiply(teams[team], matrix, &acts, 0, n_tokens);
            assert_memory_equal(y, all, n_tokens * n_out * sizeof(float));
            free(y);
        }
        for (size_t first = 0, n = 1; first + n <= n_tokens; first += n, n++) {
            float *y = multiply(teams[n % 3], matrix, &acts, first, n);
            assert_memory_equal(y, all + first * n_out, n * n_out * sizeof(float));
            free(y);
        }
        free(rows), free(x), free(all), free(acts.data);
        mr_matrix_free(matrix);
    }
    for (int i = 0; i < 3; i++) mr_team_free(teams[i]);
}

typedef struct three_products {
    mr_matmul_item items[3];
    size_t n_tokens;
} three_products;

static void three_member(mr_worker *worker, void *arg) {
    three_products *p = arg;
    mr_matmul(worker, p->items, 3, p->n_tokens);
}

/* Several matrices at once, bias, accumulation, gathered rows. */
static void test_items(void **state) {
    (void)state;
    mr_team *team = new_team(2);
    for (size_t n_tokens = 1; n_tokens < 40; n_tokens += 19) {
        size_t n_in = 512, n_out[3] = {50, 7, 160}, row_bytes, n_rows = n_tokens / 2 + 1;
        const mr_dtype types[3] = {MR_Q4_K, MR_Q6_K, MR_Q4_K};
        float *x = random_tokens(n_tokens, n_in), *y[3], *alone[3], *bias = make(50 * sizeof(float));
        int32_t *gathered = make(n_rows * sizeof *gathered);
        mr_acts acts = acts_of(MR_Q4_K, x, n_tokens, n_in);
        three_products p = {.n_tokens = n_tokens};
        mr_matrix *w[3];
        for (size_t i = 0; i < n_rows; i++) gathered[i] = (int32_t)(n_tokens - 1 - i);
        for (int i = 0; i < 50; i++) bias[i] = random_float();
        for (int i = 0; i < 3; i++) {
            uint8_t *rows = random_rows(types[i], n_out[i], n_in, &row_bytes);
            w[i] = pack(types[i], rows, n_out[i], n_in, NULL);
            free(rows);
            alone[i] = multiply(team, w[i], &acts, 0, n_tokens);
            y[i] = make(n_tokens * (n_out[i] + 5) * sizeof(float));
            for (size_t k = 0; k < n_tokens * (n_out[i] + 5); k++) y[i][k] = 0.25f;
            p.items[i] = (mr_matmul_item){.w = w[i], .x = &acts, .y = y[i], .ldy = n_out[i] + 5};
        }
        p.items[0].bias = bias;
        p.items[0].accumulate = true;
        p.items[1].rows = gathered;
        p.items[1].n_rows = n_rows;
        mr_team_run(team, three_member, &p);
        for (int i = 0; i < 3; i++) {
            for (size_t t = 0; t < n_tokens; t++) {
                for (size_t r = 0; r < n_out[i] + 5; r++) {
                    size_t from = i == 1 ? (t < n_rows ? (size_t)gathered[t] : n_tokens) : t;
                    float expected = r < n_out[i] && from < n_tokens ? alone[i][from * n_out[i] + r] : 0.25f;
                    if (i == 0 && r < n_out[0]) expected = (expected + bias[r]) + 0.25f;
                    assert_true(y[i][t * (n_out[i] + 5) + r] == expected);
                }
            }
            free(y[i]), free(alone[i]);
            mr_matrix_free(w[i]);
        }
        free(x), free(bias), free(gathered), free(acts.data);
    }
    mr_team_free(team);
}

static double reference_glu(mr_glu act, double x, double up) {
    double y = x < 7.0 ? x : 7.0, clamped = up < -7.0 ? -7.0 : up > 7.0 ? 7.0 : up;
    switch (act) {
    case MR_GLU_SILU:
        return x / (1.0 + exp(-x)) * up;
    case MR_GLU_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))) * up;
    case MR_GLU_GELU_ERF:
        return 0.5 * x * (1.0 + erf(x * 0.70710678118654752)) * up;
    case MR_GLU_RELU2:
        return x > 0.0 ? x * x * up : 0.0;
    case MR_GLU_SILU_CLAMPED:
        return y / (1.0 + exp(-1.702 * y)) * (clamped + 1.0);
    }
    return 0.0;
}

static void test_glu(void **state) {
    (void)state;
    mr_team *team = new_team(2);
    size_t n_in = 256, n_out = 45, row_bytes;
    uint8_t *gate_rows = random_rows(MR_Q4_K, n_out, n_in, &row_bytes);
    uint8_t *up_rows = random_rows(MR_Q6_K, n_out, n_in, &row_bytes);
    mr_matrix *gate = pack(MR_Q4_K, gate_rows, n_out, n_in, team), *up = pack(MR_Q6_K, up_rows, n_out, n_in, team);
    for (size_t n_tokens = 1; n_tokens <= 23; n_tokens += 11) {
        float *x = random_tokens(n_tokens, n_in);
        for (size_t i = 0; i < n_tokens * n_in; i++) x[i] *= 0.3f;
        mr_acts acts = acts_of(MR_Q4_K, x, n_tokens, n_in);
        float *g = multiply(team, gate, &acts, 0, n_tokens), *u = multiply(team, up, &acts, 0, n_tokens);
        for (int act = MR_GLU_SILU; act <= MR_GLU_SILU_CLAMPED; act++) {
            float *first = NULL;
            for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
                if (!mr_isa_force((mr_isa)isa)) continue;
                float *y = make(n_tokens * n_out * sizeof(float));
                product p = {.glu = {gate, up, (mr_glu)act, &acts, y, n_out, NULL, 0}, .n_tokens = n_tokens};
                mr_team_run(team, matmul_member, &p);
                for (size_t i = 0; i < n_tokens * n_out; i++) {
                    double expected = reference_glu((mr_glu)act, g[i], u[i]);
                    double scale = (fabs((double)g[i]) + 1e-3) * (fabs((double)u[i]) + 1.0);
                    if (act == MR_GLU_RELU2) scale *= fabs((double)g[i]) + 1.0;
                    if (!(fabs(y[i] - expected) <= 1e-6 * scale)) {
                        fail_msg("activation %d of %g times %g is %g, not %g", act, g[i], u[i], y[i], expected);
                    }
                }
                if (first == NULL) {
                    first = y;
                } else {
                    assert_memory_equal(y, first, n_tokens * n_out * sizeof(float));
                    free(y);
                }
            }
            free(first);
        }
        free(x), free(g), free(u), free(acts.data);
    }
    free(gate_rows), free(up_rows);
    mr_matrix_free(gate);
    mr_matrix_free(up);
    mr_team_free(team);
}

/* Two matrices in one memory give what they give apart, and are freed in either order. */
static void test_pair(void **state) {
    (void)state;
    mr_team *team = new_team(2);
    size_t n_in = 512, n_out = 45, row_bytes;
    static const mr_dtype types[] = {MR_F32, MR_BF16, MR_F8_E4M3, MR_Q8_0, MR_Q4_K, MR_Q6_K, MR_IQ2_S};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        uint8_t *rows[2] = {random_rows(types[i], n_out, n_in, &row_bytes),
                            random_rows(types[i], n_out, n_in, &row_bytes)};
        mr_matrix *apart[2] = {pack(types[i], rows[0], n_out, n_in, team), pack(types[i], rows[1], n_out, n_in, team)};
        mr_matrix *pair[2];
        mr_error err = {0};
        assert_int_equal(mr_matrix_reserve(&pair[0], &pair[1], types[i], n_out, n_in, &err), MR_OK);
        for (int j = 0; j < 2; j++) mr_matrix_fill(pair[j], rows[j], j == 0 ? team : NULL);
        assert_int_equal(mr_matrix_bytes(pair[0]), mr_matrix_bytes(apart[0]));
        for (size_t n_tokens = 1; n_tokens <= 23; n_tokens += 11) {
            float *x = random_tokens(n_tokens, n_in), *y[2];
            mr_acts acts = acts_of(types[i], x, n_tokens, n_in);
            for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
                if (!mr_isa_force((mr_isa)isa)) continue;
                for (int j = 0; j < 2; j++) {
                    mr_matrix **m = j == 0 ? apart : pair;
                    y[j] = make(n_tokens * n_out * sizeof(float));
                    product p = {.glu = {m[0], m[1], MR_GLU_SILU, &acts, y[j], n_out, NULL, 0}, .n_tokens = n_tokens};
                    mr_team_run(team, matmul_member, &p);
                }
                assert_memory_equal(y[0], y[1], n_tokens * n_out * sizeof(float));
                free(y[0]), free(y[1]);
                float *alone = multiply(team, apart[1], &acts, 0, n_tokens),
                      *one_of_two = multiply(team, pair[1], &acts, 0, n_tokens);
                assert_memory_equal(alone, one_of_two, n_tokens * n_out * sizeof(float));
                free(alone), free(one_of_two);
            }
            free(x), free(acts.data);
        }
        mr_matrix_free(pair[i % 2]);
        float *x = random_tokens(1, n_in);
        mr_acts acts = acts_of(types[i], x, 1, n_in);
        float *alone = multiply(team, apart[1 - i % 2], &acts, 0, 1),
              *left = multiply(team, pair[1 - i % 2], &acts, 0, 1);
        assert_memory_equal(alone, left, n_out * sizeof(float));
        free(alone), free(left), free(x), free(acts.data);
        mr_matrix_free(pair[1 - i % 2]);
        for (int j = 0; j < 2; j++) mr_matrix_free(apart[j]), free(rows[j]);
    }
    mr_team_free(team);
}

/* An infinity or NaN in a token shows in its results, and in those alone. */
static void test_not_finite(void **state) {
    (void)state;
    mr_team *team = new_team(1);
    for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
        if (!mr_isa_force((mr_isa)isa)) continue;
        for (int i = 0; i < N_TYPES; i++) {
            if (!has_kernel(TYPES[i])) continue;
            size_t row_bytes, n_in = 256;
            uint8_t *rows = random_rows(TYPES[i], 16, n_in, &row_bytes);
            float *x = make(3 * n_in * sizeof(float));
            for (size_t k = 0; k < 3 * n_in; k++) x[k] = 1.0f;
            x[n_in + 5] = INFINITY;
            x[2 * n_in + 9] = NAN;
            mr_matrix *matrix = pack(TYPES[i], rows, 16, n_in, team);
            mr_acts acts = acts_of(TYPES[i], x, 3, n_in);
            float *y = multiply(team, matrix, &acts, 0, 3);
            for (int r = 0; r < 16; r++) {
                assert_true(isfinite(y[r]));
                assert_false(isfinite(y[16 + r]));
                assert_true(isnan(y[32 + r]));
            }
            free(rows), free(x), free(y), free(acts.data);
            mr_matrix_free(matrix);
        }
    }
    mr_team_free(team);
}

/* Numbers at the edge of the range: bf16 products below the smallest normal number are zero everywhere. */
static void test_bf16_subnormal(void **state) {
    (void)state;
    mr_team *team = new_team(1);
    size_t n_in = 64, n_out = 64;
    uint16_t *rows = make(n_out * n_in * 2);
    float *x = make(8 * n_in * sizeof(float)), *expected = NULL;
    for (size_t i = 0; i < n_out * n_in; i++)
        rows[i] = (uint16_t)((random_bits() & 0x8FFFu) | (random_bits() & 0x1000u));
    for (size_t i = 0; i < 8 * n_in; i++) x[i] = ldexpf(random_float(), -(int)(random_bits() % 140));
    for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
        if (!mr_isa_force((mr_isa)isa)) continue;
        mr_matrix *matrix = pack(MR_BF16, (uint8_t *)rows, n_out, n_in, team);
        mr_acts acts = acts_of(MR_BF16, x, 8, n_in);
        float *y = multiply(team, matrix, &acts, 0, 8);
        if (expected == NULL) {
            expected = y;
        } else {
            assert_memory_equal(y, expected, 8 * n_out * sizeof(float));
            free(y);
        }
        free(acts.data);
        mr_matrix_free(matrix);
    }
    free(rows), free(x), free(expected);
    mr_team_free(team);
}

static void test_refusals(void **state) {
    (void)state;
    mr_error err = {0};
    mr_matrix *matrix;
    uint8_t rows[64] = {0};
    assert_int_equal(mr_matrix_pack(&matrix, MR_I32, rows, 1, 16, NULL, &err), MR_ERR_UNSUPPORTED);
    assert_null(matrix);
    assert_int_equal(mr_matrix_pack(&matrix, MR_Q4_K, rows, 1, 128, NULL, &err), MR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Q4_K"));
    assert_int_equal(mr_matrix_pack(&matrix, MR_F32, rows, (size_t)1 << 40, (size_t)1 << 40, NULL, &err), MR_ERR_NOMEM);
    assert_int_equal(mr_matrix_pack(&matrix, (mr_dtype)9999, rows, 1, 16, NULL, &err), MR_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_against_decoded),
        cmocka_unit_test(test_avx2_is_plain),
        cmocka_unit_test(test_avx512_is_plain),
        cmocka_unit_test(test_neon_is_plain),
        cmocka_unit_test(test_company_and_threads),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_glu),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_bf16_subnormal),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
