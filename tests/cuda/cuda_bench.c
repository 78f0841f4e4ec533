/* Speeds of the CUDA kernels beside what the device can do at best, both measured here by events: the median of 9
 * rounds. A product reads another copy of its matrix each time, so that nothing comes from the caches. */
#include "harness.h"

#include "compute/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 16 };
static double copy_rate, bf16_rate, int8_rate, wgmma_rate; /* bytes and operations in a second; 0: not here */

static void run_copy(void *arg) {
    gpu_launch(mr_k_copy_launch(arg), arg);
}

static void run_bf16(void *arg) {
    gpu_launch(mr_k_rate_launch(false), arg);
}

static void run_int8(void *arg) {
    gpu_launch(mr_k_rate_launch(true), arg);
}

static void run_wgmma(void *arg) {
    gpu_launch(mr_k_rate_wgmma_launch(), arg);
}

static double warps_products(double n) {
    return n * 64 * MR_K_RATE_BLOCKS * 8;
}

static void measure_ceilings(void) {
    size_t n_bytes = (size_t)1 << 30;
    mr_k_ceiling_args copy = {gpu_put(NULL, n_bytes), gpu_put(NULL, n_bytes), n_bytes / 16};
    mr_k_ceiling_args rate = {NULL, copy.to, 200};
    copy_rate = 2.0 * (double)n_bytes * 4 / gpu_time(run_copy, &copy, 4) * 1e3;
    bf16_rate = warps_products(200) * 2 * 16 * 8 * 16 * 4 / gpu_time(run_bf16, &rate, 4) * 1e3;
    int8_rate = warps_products(200) * 2 * 16 * 8 * 32 * 4 / gpu_time(run_int8, &rate, 4) * 1e3;
    printf("%-44s %8.0f GB/s\n%-44s %8.1f T/s\n%-44s %8.1f T/s\n", "copy, read and written", copy_rate * 1e-9,
           "bfloat16 mma.sync", bf16_rate * 1e-12, "int8 mma.sync", int8_rate * 1e-12);
    if (gpu_has("mr_k_rate_wgmma")) {
        wgmma_rate = warps_products(200) / 4 * 2 * 64 * 256 * 16 * 4 / gpu_time(run_wgmma, &rate, 4) * 1e3;
        printf("%-44s %8.1f T/s\n", "bfloat16 wgmma", wgmma_rate * 1e-12);
    }
    gpu_forget();
}

typedef struct product {
    mr_k_matmul_args args;
    uint8_t *w;
    size_t bytes, n_copies, next;
    uint32_t wgmma; /* tokens of a block; 0: not by wgmma */
} product;

static void run_product(void *arg) {
    product *p = arg;
    p->args.m[0].w = p->w + p->next++ % p->n_copies * p->bytes;
    gpu_launch(p->wgmma > 0 ? mr_k_wgmma_launch(&p->args, p->wgmma) : mr_k_matmul_launch(&p->args), &p->args);
}

static void time_product(product *p, mr_dtype type) {
    double n_out = p->args.m[0].n_out, n_in = p->args.n_in, n_tokens = p->args.n_tokens;
    double seconds = gpu_time(run_product, p, ROUNDS) / ROUNDS * 1e-3;
    double bytes = (double)mr_cuda_packed_bytes((mr_cuda_layout)p->args.layout, p->args.m[0].n_out, p->args.n_in);
    double rate = bytes / seconds, ops = 2.0 * n_out * n_in * n_tokens / seconds;
    double ceiling = p->wgmma > 0 ? wgmma_rate : bf16_rate;
    char what[64];
    snprintf(what, sizeof what, "%s %.0f x %.0f, %.0f token%s%s", mr_dtype_find((uint32_t)type)->name, n_out, n_in,
             n_tokens, n_tokens > 1 ? "s" : "", p->wgmma > 0 ? ", wgmma" : "");
    printf("%-44s %8.1f us %7.0f GB/s (%3.0f %% of copy) %7.1f T/s (%3.0f %% of bf16)\n", what, seconds * 1e6,
           rate * 1e-9, 100 * rate / copy_rate, ops * 1e-12, 100 * ops / ceiling);
}

static void measure_product(mr_dtype type, size_t n_out, size_t n_in, size_t n_tokens) {
    mr_cuda_layout layout;
    int kind;
    size_t block;
    mr_cuda_layout_of((uint32_t)type, &layout, &kind, &block);
    product p = {.bytes = (mr_cuda_packed_bytes(layout, n_out, n_in) + 127) / 128 * 128};
    p.n_copies = ((size_t)512 << 20) / p.bytes + 1;
    p.w = gpu_put(NULL, p.n_copies * p.bytes); /* any bits take the same time */
    p.args = (mr_k_matmul_args){.x = gpu_put(NULL, n_tokens * mr_k_acts_stride(kind, n_in)),
                                .n_matrices = 1,
                                .n_in = (uint32_t)n_in,
                                .n_tokens = (uint32_t)n_tokens,
                                .x_div = 1,
                                .layout = (int32_t)layout};
    p.args.m[0] = (mr_k_matrix){p.w, NULL, gpu_put(NULL, n_tokens * n_out * 4), (uint32_t)n_out, (uint32_t)n_out, 0};
    time_product(&p, type);
    p.wgmma = gpu_has("mr_gemm_bf16_wgmma_64") ? mr_k_wgmma_tokens(&p.args, gpu_processors()) : 0;
    if (p.wgmma > 0) time_product(&p, type);
    gpu_forget();
}

typedef struct attention {
    mr_k_attention_args args;
    bool decode;
} attention;

static void run_attention(void *arg) {
    attention *a = arg;
    if (!a->decode) {
        gpu_launch(mr_k_attention_prefill_launch(&a->args), &a->args);
        return;
    }
    gpu_launch(mr_k_attention_decode_launch(&a->args), &a->args);
    gpu_launch(mr_k_attention_join_launch(&a->args), &a->args);
}

/* One sequence of a model of 32 heads of 128 that share 8 heads of keys and values in halves. */
static void measure_attention(uint32_t n_positions, uint32_t n_tokens) {
    enum { N_HEAD = 32, N_KV = 8, DIM = 128, N_SM = 132 };
    uint32_t n_blocks = mr_k_div_up(n_positions, 32), first = 0, pos0 = n_positions - n_tokens;
    size_t head_bytes = 2 * DIM * 32 * 2, block_bytes = head_bytes * N_KV;
    int32_t *blocks = must_alloc(n_blocks * sizeof *blocks);
    for (uint32_t i = 0; i < n_blocks; i++) blocks[i] = (int32_t)i;
    attention a = {.decode = n_tokens == 1};
    a.args = (mr_k_attention_args){.kv = {.data = gpu_put(NULL, n_blocks * block_bytes),
                                          .block_bytes = block_bytes,
                                          .head_bytes = (uint32_t)head_bytes,
                                          .value_offset = (uint32_t)head_bytes / 2,
                                          .n_head_kv = N_KV,
                                          .dk = DIM,
                                          .dv = DIM,
                                          .type = MR_K_KV_F16},
                                   .q = gpu_put(NULL, (size_t)n_tokens * N_HEAD * DIM * 4),
                                   .out = gpu_put(NULL, (size_t)n_tokens * N_HEAD * DIM * 4),
                                   .first = gpu_put(&first, 4),
                                   .n_tokens = gpu_put(&n_tokens, 4),
                                   .pos0 = gpu_put(&pos0, 4),
                                   .blocks = gpu_put(blocks, n_blocks * sizeof *blocks),
                                   .n_runs = 1,
                                   .n_head = N_HEAD,
                                   .ld_blocks = n_blocks,
                                   .most_tokens = n_tokens,
                                   .scale = 0.0883883f};
    mr_k_attention_split(&a.args, n_positions, N_SM);
    a.args.partial = gpu_put(NULL, (size_t)N_HEAD * a.args.n_splits * (DIM + 2) * 4);
    double seconds = gpu_time(run_attention, &a, ROUNDS) / ROUNDS * 1e-3, seen = n_positions - (n_tokens - 1) / 2.0;
    double bytes = (double)n_blocks * (double)block_bytes / seconds;
    double ops = 4.0 * N_HEAD * DIM * (double)n_tokens * seen / seconds;
    printf("attention, %5u tokens at %6u positions %*s %8.1f us %7.0f GB/s (%3.0f %% of copy) %7.1f T/s (%3.0f %% of "
           "bf16)\n",
           (unsigned)n_tokens, (unsigned)n_positions, 2, "", seconds * 1e6, bytes * 1e-9, 100 * bytes / copy_rate,
           ops * 1e-12, 100 * ops / bf16_rate);
    free(blocks);
    gpu_forget();
}

typedef struct choice {
    mr_k_argmax_args best;
    mr_k_top_args top;
    mr_k_top_join_args join;
} choice;

static void run_choice(void *arg) {
    choice *c = arg;
    gpu_launch(mr_k_argmax_launch(&c->best), &c->best);
    gpu_launch(mr_k_argmax_join_launch(&c->best), &c->best);
    gpu_launch(mr_k_top_launch(&c->top), &c->top);
    gpu_launch(mr_k_top_join_launch(&c->join), &c->join);
}

/* The candidates of rows of a vocabulary that one join is enough for. */
static void measure_choice(uint32_t n_vocab, uint32_t n_rows) {
    uint32_t parts = mr_k_top_parts(n_vocab);
    float *logits = random_floats((size_t)n_rows * n_vocab, 20.0f);
    choice c = {.best = {.logits = gpu_put(logits, (size_t)n_rows * n_vocab * sizeof *logits),
                         .parts = gpu_put(NULL, n_rows * MR_K_ARGMAX_PARTS * sizeof(uint64_t)),
                         .ids = gpu_put(NULL, n_rows * sizeof(int32_t)),
                         .values = gpu_put(NULL, n_rows * sizeof(float)),
                         .n_rows = n_rows,
                         .n_vocab = n_vocab,
                         .ld = n_vocab}};
    c.top = (mr_k_top_args){.logits = c.best.logits,
                            .best = c.best.ids,
                            .largest = c.best.values,
                            .lists = gpu_put(NULL, (size_t)n_rows * parts * sizeof(mr_candidates)),
                            .rounder = mr_weight_rounder(n_vocab),
                            .quantum = mr_weight_quantum(n_vocab),
                            .n_rows = n_rows,
                            .n_vocab = n_vocab,
                            .ld = n_vocab};
    c.join = (mr_k_top_join_args){
        .from = c.top.lists, .to = gpu_put(NULL, n_rows * sizeof(mr_candidates)), .n_rows = n_rows, .n_lists = parts};
    double seconds = gpu_time(run_choice, &c, ROUNDS) / ROUNDS * 1e-3;
    double bytes = 2.0 * n_rows * n_vocab * sizeof *logits / seconds;
    printf("candidates, %2u of %6u logits %*s %8.1f us %7.0f GB/s (%3.0f %% of copy)\n", (unsigned)n_rows,
           (unsigned)n_vocab, 12, "", seconds * 1e6, bytes * 1e-9, 100 * bytes / copy_rate);
    free(logits);
    gpu_forget();
}

int main(void) {
    char name[128];
    if (!gpu_begin()) return 0;
    gpu_describe(name, sizeof name);
    printf("%s\n", name);
    measure_ceilings();
    const mr_dtype types[] = {MR_Q4_K, MR_Q6_K, MR_Q8_0, MR_Q4_0, MR_MXFP4, MR_BF16, MR_F16};
    const size_t shapes[][2] = {{4096, 4096}, {14336, 4096}, {4096, 14336}};
    const size_t tokens[] = {1, 2, 4, 8, 32, 512, 2048};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (size_t s = 0; s < 3; s++) {
            for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++)
                measure_product(types[i], shapes[s][0], shapes[s][1], tokens[t]);
        }
    }
    const uint32_t lengths[] = {512, 4096, 32768};
    for (size_t i = 0; i < 3; i++) measure_attention(lengths[i], 1);
    measure_attention(512, 512);
    measure_attention(2048, 2048);
    measure_attention(8192, 2048);
    measure_choice(32000, 1);
    measure_choice(128256, 1);
    measure_choice(128256, 16);
    measure_choice(262144, 1);
    return 0;
}
