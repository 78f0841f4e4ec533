/* The back end takes the kernels of compute capability 9.0 for prompts where the device has them, and does without
 * where it has not. */
#include "harness.h"

#include "compute/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_OUT = 200, N_IN = 320, N_TOKENS = 40 };

static uint16_t rows[N_OUT * N_IN]; /* bfloat16 */
static float *x;

static void must(mr_status status, const mr_error *err) {
    if (status != MR_OK) fail_test("%s", err->text);
}

/* y [n_tokens, N_OUT] by a back end; the status of the last sync, with its sentence in err. */
static mr_status multiply(mr_backend *b, size_t n_tokens, float *y, mr_error *err) {
    void *x_there = NULL, *y_there = NULL;
    mr_matrix *w = NULL;
    must(b->ops->reserve(b, N_TOKENS, N_IN, err), err);
    must(b->ops->pack(b, &w, MR_BF16, rows, N_OUT, N_IN, NULL, err), err);
    must(b->ops->alloc(b, n_tokens * N_IN * sizeof *x, "inputs", &x_there, err), err);
    must(b->ops->alloc(b, n_tokens * N_OUT * sizeof *y, "outputs", &y_there, err), err);
    must(b->ops->upload(b, x_there, x, n_tokens * N_IN * sizeof *x, err), err);
    const mr_product_args item = {.w = w, .x = x_there, .ld_x = N_IN, .y = y_there, .ld_y = N_OUT};
    b->ops->products(b, &item, 1, n_tokens);
    b->ops->fetch(b, y, y_there, n_tokens * N_OUT * sizeof *y);
    mr_status status = b->ops->sync(b, err);
    mr_matrix_free(w);
    b->ops->release(b, x_there);
    b->ops->release(b, y_there);
    return status;
}

/* The product on the device, equal to the CPU's. */
static void check_product(size_t n_tokens) {
    mr_error err = {0};
    mr_backend *cpu, *gpu;
    mr_team *team;
    float *wanted = must_alloc(n_tokens * N_OUT * sizeof *wanted), *got = must_alloc(n_tokens * N_OUT * sizeof *got);
    must(mr_team_new(&team, 1, &err), &err);
    must(mr_backend_cpu_open(&cpu, team, &err), &err);
    must(mr_backend_cuda_open(&gpu, 0, &err), &err);
    must(multiply(cpu, n_tokens, wanted, &err), &err);
    must(multiply(gpu, n_tokens, got, &err), &err);
    expect_near("a product by the back end", got, wanted, n_tokens * N_OUT, 3e-6);
    mr_backend_close(cpu);
    mr_backend_close(gpu);
    mr_team_free(team);
    free(wanted), free(got);
}

/* Whether the stand-in's launches of a kernel are part of a product. */
static bool takes_part(const char *kernel, size_t n_tokens) {
    mr_error err = {0};
    mr_backend *gpu;
    float *y = must_alloc(N_TOKENS * N_OUT * sizeof *y);
    must(mr_backend_cuda_open(&gpu, 0, &err), &err);
    setenv("MR_FAKE_CUDA_FAULT", kernel, 1);
    mr_status status = multiply(gpu, n_tokens, y, &err);
    unsetenv("MR_FAKE_CUDA_FAULT");
    if (status != MR_OK && strstr(err.text, kernel) == NULL) fail_test("another error than the fault: %s", err.text);
    mr_backend_close(gpu);
    free(y);
    return status != MR_OK;
}

static void test_product(void) {
    check_product(N_TOKENS);
    check_product(1);
}

static void test_choice(void) {
    const struct {
        const char *capability, *kernel;
        size_t n_tokens;
    } cases[] = {{"9.0", "mr_gemm_bf16_wgmma_64", N_TOKENS},
                 {"9.0", "mr_gemm_bf16_32", 20},
                 {"9.0", "mr_gemv_bf16_1", 1},
                 {"8.0", "mr_gemm_bf16_64", N_TOKENS},
                 {"8.9", "mr_gemm_bf16_64", N_TOKENS},
                 {"10.0", "mr_gemm_bf16_64", N_TOKENS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("MR_FAKE_CUDA_CAPABILITY", cases[i].capability, 1);
        if (!takes_part(cases[i].kernel, cases[i].n_tokens))
            fail_test("capability %s, %zu tokens: not by %s", cases[i].capability, cases[i].n_tokens, cases[i].kernel);
        check_product(cases[i].n_tokens);
    }
    unsetenv("MR_FAKE_CUDA_CAPABILITY");
}

int main(void) {
    char device[128] = "";
    setenv("RUST_LOG", "warn", 0);
    if (!gpu_begin()) return end_tests();
    gpu_describe(device, sizeof device);
    x = random_floats((size_t)N_TOKENS * N_IN, 1.0f);
    for (size_t i = 0; i < N_OUT * N_IN; i++) rows[i] = (uint16_t)(0x3F00 | (random_bits() & 0x80FF));
    run_test("a_prompt_s_products_are_those_of_the_cpu", test_product);
    if (strstr(device, "emulated") != NULL) run_test("the_device_s_capability_chooses", test_choice);
    free(x);
    return end_tests();
}
