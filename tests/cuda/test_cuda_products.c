/* The matrix kernels of the CUDA back end against those of the CPU: every stored type, odd shapes, gathered rows,
 * experts. */
#include "harness.h"
#include "unit/random_rows.h"

#include "compute/cpu.h"
#include "compute/matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TYPES = sizeof MATRIX_TYPES / sizeof MATRIX_TYPES[0], EXPERTS = 3 };

/* Where the types' names are wanted for messages. */
static const char *type_name(mr_dtype type) {
    return mr_dtype_find((uint32_t)type)->name;
}

/* A matrix (or several, one behind the other) here and there. */
typedef struct weights {
    mr_dtype type;
    size_t n_out, n_in, n_copies;
    mr_matrix *cpu[EXPERTS];
    void *gpu;
    size_t copy_bytes;
    mr_cuda_layout layout;
    int kind;
} weights;

static weights make_weights(mr_dtype type, size_t n_out, size_t n_in, size_t n_copies) {
    weights w = {.type = type, .n_out = n_out, .n_in = n_in, .n_copies = n_copies};
    size_t block, row_bytes;
    mr_error err = {0};
    if (!mr_cuda_layout_of((uint32_t)type, &w.layout, &w.kind, &block)) fail_test("%s has no layout", type_name(type));
    if (!mr_dtype_row_bytes(mr_dtype_find((uint32_t)type), n_in, &row_bytes)) fail_test("no whole number of blocks");
    w.copy_bytes = mr_cuda_packed_bytes(w.layout, n_out, n_in);
    uint8_t *rows = must_alloc(n_out * row_bytes), *packed = must_alloc(n_copies * w.copy_bytes);
    for (size_t i = 0; i < n_copies; i++) {
        fill_random_rows(type, rows, n_out * row_bytes, random_bits);
        if (mr_matrix_pack(&w.cpu[i], type, rows, n_out, n_in, NULL, &err) != MR_OK) fail_test("%s", err.text);
        mr_cuda_pack((uint32_t)type, packed + i * w.copy_bytes, rows, row_bytes, n_out, n_in);
    }
    w.gpu = gpu_put(packed, n_copies * w.copy_bytes);
    free(rows), free(packed);
    return w;
}

static void free_weights(weights *w) {
    for (size_t i = 0; i < w->n_copies; i++) mr_matrix_free(w->cpu[i]);
}

/* Activations here and there. */
typedef struct inputs {
    mr_acts cpu;
    void *gpu;
} inputs;

static inputs make_inputs(const weights *w, const float *x, size_t n_tokens) {
    inputs in = {.cpu = mr_acts_view((mr_acts_kind)w->kind, w->n_in,
                                     must_alloc(n_tokens * mr_acts_stride((mr_acts_kind)w->kind, w->n_in)))};
    for (size_t t = 0; t < n_tokens; t++) mr_acts_set(&in.cpu, t, x + t * w->n_in);
    in.gpu = gpu_put(NULL, n_tokens * mr_k_acts_stride(w->kind, w->n_in));
    mr_k_prepare_args args = {.x = gpu_put(x, n_tokens * w->n_in * sizeof *x),
                              .n_rows = (uint32_t)n_tokens,
                              .n_in = (uint32_t)w->n_in,
                              .ldx = (uint32_t)w->n_in,
                              .norm = MR_K_NORM_NONE,
                              .act = MR_K_ACT_NONE};
    args.acts[w->kind] = in.gpu;
    gpu_launch(mr_k_prepare_launch(&args), &args);
    return in;
}

static mr_team *team;

typedef struct job {
    mr_matmul_item item;
    size_t n_tokens;
} job;

static void member(mr_worker *worker, void *arg) {
    job *j = arg;
    mr_matmul(worker, &j->item, 1, j->n_tokens);
}

/* y[n_tokens, ldy] by the CPU. */
static void multiply_here(const mr_matrix *w, const mr_acts *x, const int32_t *rows, size_t n_tokens, const float *bias,
                          bool accumulate, float *y, size_t ldy) {
    job j = {.item = {.w = w,
                      .x = x,
                      .bias = bias,
                      .y = y,
                      .ldy = ldy,
                      .accumulate = accumulate,
                      .rows = rows,
                      .n_rows = rows != NULL ? n_tokens : 0},
             .n_tokens = n_tokens};
    mr_team_run(team, member, &j);
}

/* Tokens of a block of the kernels that Hopper alone has; 0: those that all devices have. */
static uint32_t wgmma;

static void launch_product(const mr_k_matmul_args *args) {
    gpu_launch(wgmma > 0 ? mr_k_wgmma_launch(args, wgmma) : mr_k_matmul_launch(args), args);
}

static void check_shape(mr_dtype type, size_t n_out, size_t n_in, size_t n_tokens) {
    weights w = make_weights(type, n_out, n_in, 1);
    float *x = random_floats(n_tokens * n_in, 2.0f), *bias = random_floats(n_out, 1.0f);
    if (n_tokens > 1) memset(x + n_in, 0, n_in * sizeof *x);
    inputs in = make_inputs(&w, x, n_tokens);
    size_t ldy = n_out + 3, n = n_tokens * ldy;
    float *y = random_floats(n, 1.0f), *got = must_alloc(n * sizeof *got);
    float *y_gpu = gpu_put(y, n * sizeof *y);
    bool accumulate = n_tokens % 2 == 0;
    mr_k_matmul_args args = {.x = in.gpu,
                             .n_matrices = 1,
                             .n_in = (uint32_t)n_in,
                             .n_tokens = (uint32_t)n_tokens,
                             .x_div = 1,
                             .layout = (int32_t)w.layout};
    args.m[0] =
        (mr_k_matrix){w.gpu, gpu_put(bias, n_out * sizeof *bias), y_gpu, (uint32_t)n_out, (uint32_t)ldy, accumulate};
    launch_product(&args);
    gpu_get(got, y_gpu, n * sizeof *got);
    multiply_here(w.cpu[0], &in.cpu, NULL, n_tokens, bias, accumulate, y, ldy);
    char what[96];
    snprintf(what, sizeof what, "%s %zu x %zu, %zu tokens", type_name(type), n_out, n_in, n_tokens);
    expect_near(what, got, y, n, 3e-6);
    free(x), free(bias), free(y), free(got), free(in.cpu.data);
    free_weights(&w);
    gpu_forget();
}

/* Sizes around the kernels' tiles: rows of 8, 32, 128; groups of 32 and 256 k. */
static void check_types(size_t first, size_t n_tokens_list, const size_t *tokens) {
    for (size_t i = 0; i < N_TYPES; i++) {
        mr_dtype type = MATRIX_TYPES[i];
        size_t block = mr_dtype_find((uint32_t)type)->block_values;
        for (size_t j = 0; j < n_tokens_list; j++) {
            size_t n_out = 1 + (first + 7 * i + 11 * j) % 45;
            size_t n_in = block == 1 ? 1 + random_bits() % 200 : block * (1 + (i + j) % (block == 256 ? 5 : 23));
            check_shape(type, n_out, n_in, tokens[j]);
        }
    }
}

static void test_few_tokens(void) {
    check_types(0, 6, (const size_t[]){1, 1, 2, 3, 5, 8});
}

static void test_some_tokens(void) {
    check_types(20, 2, (const size_t[]){9, 32});
}

static void test_many_tokens(void) {
    check_types(40, 1, (const size_t[]){70});
    check_shape(MR_Q4_K, 150, 512, 64);
    check_shape(MR_Q6_K, 133, 1536, 33);
    check_shape(MR_BF16, 270, 300, 65);
    check_shape(MR_Q4_0, 140, 352, 90);
    check_shape(MR_Q5_1, 129, 32, 40);
    check_shape(MR_F16, 129, 77, 40);
}

static void test_small(void) {
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t block = mr_dtype_find((uint32_t)MATRIX_TYPES[i])->block_values;
        check_shape(MATRIX_TYPES[i], 1, block, 1);
        check_shape(MATRIX_TYPES[i], 8, block, 10);
    }
}

/* Several matrices in a launch, and rows of x that are picked. */
static void check_rows(mr_dtype type, size_t n) {
    size_t n_out[3] = {20, 137, 9}, n_in = 512, n_x = 6;
    weights w[3];
    float *x = random_floats(n_x * n_in, 1.0f), *y[3];
    int32_t *rows = must_alloc(n * sizeof *rows);
    for (size_t t = 0; t < n; t++) rows[t] = (int32_t)(random_bits() % n_x);
    mr_k_matmul_args args = {.rows = gpu_put(rows, n * sizeof *rows),
                             .n_matrices = 3,
                             .n_in = (uint32_t)n_in,
                             .n_tokens = (uint32_t)n,
                             .x_div = 1};
    for (size_t m = 0; m < 3; m++) {
        w[m] = make_weights(type, n_out[m], n_in, 1);
        y[m] = gpu_put(NULL, n * n_out[m] * sizeof(float));
        args.m[m] = (mr_k_matrix){w[m].gpu, NULL, y[m], (uint32_t)n_out[m], (uint32_t)n_out[m], false};
    }
    inputs in = make_inputs(&w[0], x, n_x);
    args.x = in.gpu;
    args.layout = (int32_t)w[0].layout;
    launch_product(&args);
    for (size_t m = 0; m < 3; m++) {
        float *got = must_alloc(n * n_out[m] * sizeof(float)), *want = must_alloc(n * n_out[m] * sizeof(float));
        gpu_get(got, y[m], n * n_out[m] * sizeof(float));
        multiply_here(w[m].cpu[0], &in.cpu, rows, n, NULL, false, want, n_out[m]);
        expect_near(type_name(type), got, want, n * n_out[m], 3e-6);
        free(got), free(want);
        free_weights(&w[m]);
    }
    free(x), free(rows), free(in.cpu.data);
    gpu_forget();
}

static void test_rows(void) {
    const mr_dtype types[] = {MR_Q4_K, MR_Q5_0, MR_BF16, MR_F32};
    for (size_t i = 0; i < 4; i++) {
        check_rows(types[i], 3);
        check_rows(types[i], 43);
    }
}

/* Experts by slot, and by lists of slots; every slot reads the row of its token. */
static void check_experts(mr_dtype type, size_t n_tokens, bool lists) {
    size_t n_out = 37, n_in = 512, n_used = 2, n_slots = n_tokens * n_used;
    weights w = make_weights(type, n_out, n_in, EXPERTS);
    float *x = random_floats(n_tokens * n_in, 1.0f), *bias = random_floats(EXPERTS * n_out, 1.0f);
    inputs in = make_inputs(&w, x, n_tokens);
    int32_t *expert = must_alloc(n_slots * sizeof *expert), *token = must_alloc(n_slots * sizeof *token),
            begin[EXPERTS + 1] = {0};
    for (size_t s = 0; s < n_slots; s++) {
        expert[s] = (int32_t)(lists ? (s < n_slots / 4 ? 0 : 2) : random_bits() % EXPERTS); /* nobody chose expert 1 */
        token[s] = (int32_t)(lists ? random_bits() % n_tokens : s / n_used);
        for (int e = expert[s] + 1; e <= EXPERTS; e++) begin[e]++;
    }
    float *y = gpu_put(NULL, n_slots * n_out * sizeof(float));
    mr_k_matmul_args args = {.x = in.gpu,
                             .expert_bytes = w.copy_bytes,
                             .n_matrices = 1,
                             .n_in = (uint32_t)n_in,
                             .n_tokens = (uint32_t)n_slots,
                             .x_div = (uint32_t)n_used,
                             .layout = (int32_t)w.layout};
    args.m[0] =
        (mr_k_matrix){w.gpu, gpu_put(bias, EXPERTS * n_out * sizeof *bias), y, (uint32_t)n_out, (uint32_t)n_out, false};
    if (lists) {
        args.expert_begin = gpu_put(begin, sizeof begin);
        args.rows = gpu_put(token, n_slots * sizeof *token);
        args.n_expert = EXPERTS;
    } else {
        args.expert_of = gpu_put(expert, n_slots * sizeof *expert);
    }
    launch_product(&args);
    float *got = must_alloc(n_slots * n_out * sizeof *got), *want = must_alloc(n_slots * n_out * sizeof *want);
    gpu_get(got, y, n_slots * n_out * sizeof *got);
    for (size_t s = 0; s < n_slots; s++)
        multiply_here(w.cpu[expert[s]], &in.cpu, &token[s], 1, bias + (size_t)expert[s] * n_out, false,
                      want + s * n_out, n_out);
    expect_near(type_name(type), got, want, n_slots * n_out, 3e-6);
    free(x), free(bias), free(expert), free(token), free(got), free(want), free(in.cpu.data);
    free_weights(&w);
    gpu_forget();
}

static void test_experts(void) {
    const mr_dtype types[] = {MR_Q4_K, MR_MXFP4, MR_BF16};
    for (size_t i = 0; i < 3; i++) {
        check_experts(types[i], 1, false);
        check_experts(types[i], 5, false);
        check_experts(types[i], 12, true);
        check_experts(types[i], 90, true);
    }
}

/* Rows, tokens and k that fill no block; more stages than buffers, and fewer. */
static void test_wgmma(void) {
    for (wgmma = 64; wgmma <= 256; wgmma *= 2) {
        check_shape(MR_BF16, 1, 1, 1);
        check_shape(MR_BF16, 65, 32, 9);
        check_shape(MR_BF16, 129, 96, wgmma + 1);
        check_shape(MR_BF16, 200, 65, wgmma);
        check_shape(MR_BF16, 72, 256, 40);
        check_shape(MR_BF16, 128, 713, wgmma - 7);
        check_rows(MR_BF16, 43);
        check_experts(MR_BF16, 12, true);
        check_experts(MR_BF16, 90, true);
    }
    wgmma = 0;
}

static void expect_tokens(mr_k_matmul_args a, uint32_t n_out, uint32_t n_tokens, uint32_t wanted) {
    a.m[0].n_out = n_out, a.n_tokens = n_tokens;
    uint32_t got = mr_k_wgmma_tokens(&a, 132);
    if (got != wanted)
        fail_test("%u rows, %u tokens of %u experts: blocks of %u tokens instead of %u", (unsigned)n_out,
                  (unsigned)n_tokens, (unsigned)a.n_expert, (unsigned)got, (unsigned)wanted);
}

/* On 132 processors: as large blocks as keep all of them busy. */
static void test_choice(void) {
    const int32_t some = 0;
    mr_k_matmul_args a = {.n_matrices = 1, .n_in = 4096, .x_div = 1, .layout = MR_CUDA_BF16};
    expect_tokens(a, 4096, 32, 0);
    expect_tokens(a, 4096, 33, 64);
    expect_tokens(a, 4096, 512, 128);
    expect_tokens(a, 14336, 512, 256);
    expect_tokens(a, 4096, 4096, 256);
    expect_tokens(a, UINT32_MAX / 8, 4096, 0);
    a.expert_begin = &some, a.n_expert = 8;
    expect_tokens(a, 4096, 200, 0);
    expect_tokens(a, 4096, 400, 64);
    a.expert_begin = NULL, a.n_expert = 0, a.expert_of = &some;
    expect_tokens(a, 4096, 512, 0);
    a.expert_of = NULL, a.layout = MR_CUDA_F16;
    expect_tokens(a, 4096, 512, 0);
}

/* Rows decode to the file's floats, bit for bit. */
static void test_decoded_rows(void) {
    for (size_t i = 0; i < N_TYPES; i++) {
        mr_dtype type = MATRIX_TYPES[i];
        const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
        size_t n_out = 11, n_in = info->block_values == 1 ? 1043 : info->block_values * (1 + i % 7), row_bytes, block;
        mr_cuda_layout layout;
        int kind;
        mr_cuda_layout_of((uint32_t)type, &layout, &kind, &block);
        mr_dtype_row_bytes(info, n_in, &row_bytes);
        uint8_t *rows = must_alloc(n_out * row_bytes), *packed = must_alloc(mr_cuda_packed_bytes(layout, n_out, n_in));
        fill_random_rows(type, rows, n_out * row_bytes, random_bits);
        mr_cuda_pack((uint32_t)type, packed, rows, row_bytes, n_out, n_in);
        const int32_t ids[3] = {10, 0, 7};
        float *out = gpu_put(NULL, 3 * n_in * sizeof(float)), *got = must_alloc(3 * n_in * sizeof *got);
        float *want = must_alloc(n_in * sizeof *want);
        mr_k_rows_args args = {.w = gpu_put(packed, mr_cuda_packed_bytes(layout, n_out, n_in)),
                               .ids = gpu_put(ids, sizeof ids),
                               .out = out,
                               .n_tokens = 3,
                               .n_in = (uint32_t)n_in,
                               .ld_out = (uint32_t)n_in,
                               .scale = 1.0f,
                               .layout = (int32_t)layout};
        gpu_launch(mr_k_rows_launch(&args), &args);
        gpu_get(got, out, 3 * n_in * sizeof *got);
        for (size_t t = 0; t < 3; t++) {
            info->dequantize(rows + (size_t)ids[t] * row_bytes, want, n_in);
            for (size_t k = 0; k < n_in; k++) {
                if (got[t * n_in + k] != want[k])
                    fail_test("%s: value %zu of row %d is %a, not %a", info->name, k, ids[t], (double)got[t * n_in + k],
                              (double)want[k]);
            }
        }
        free(rows), free(packed), free(got), free(want);
        gpu_forget();
    }
}

int main(void) {
    mr_error err = {0};
    setenv("MR_FAKE_CUDA_CAPABILITY", "9.0", 0);
    if (!gpu_begin()) return 0;
    if (mr_team_new(&team, 1, &err) != MR_OK) fail_test("%s", err.text);
    run_test("rows decode as the file says", test_decoded_rows);
    run_test("1 to 8 tokens", test_few_tokens);
    run_test("up to 32 tokens", test_some_tokens);
    run_test("more tokens", test_many_tokens);
    run_test("one row, one block", test_small);
    run_test("several matrices, picked rows", test_rows);
    run_test("experts", test_experts);
    run_test("blocks of tokens on Hopper", test_choice);
    if (gpu_has("mr_gemm_bf16_wgmma_64"))
        run_test("products of warpgroups", test_wgmma);
    else
        printf("# products of warpgroups: not on this device\n");
    mr_team_free(team);
    return end_tests();
}
