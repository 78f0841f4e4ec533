/* Speed of the matrix products, for the shapes of a Llama model of 1.1 billion weights.
 *
 * bench_matrix [-t threads] [-r repetitions] [-n tokens,…] [-s out x in,…] [type…]
 * For each type, shape and number of tokens: the best time of r, arithmetic in Gop/s (a multiply-add is two) with its
 * share of what the processor can do at most (measured first: vpdpbusd, vdpbf16ps or fma on all threads), and weights
 * read in GB/s with their share of the measured read bandwidth. Weights that fit a cache are taken from many copies in
 * turn, so that one token reads them from memory. With one thread, time is that of the thread, so that other work on
 * the machine disturbs less. */
#define _GNU_SOURCE
#include "compute/cpu.h"
#include "compute/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static clockid_t clock_id = CLOCK_MONOTONIC;

static double now(void) {
    struct timespec t;
    clock_gettime(clock_id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *take(size_t n_bytes) {
    void *p = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    if (p == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    return p;
}

/* -- What the machine can do. */

enum { PEAK_ROUNDS = 200000, BANDWIDTH_BYTES = 512 << 20 };

#if defined(__x86_64__)
#define TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define DPBUSD(i) "vpdpbusd %%zmm13, %%zmm14, %%zmm" #i "\n"
#define DPBF16(i) "vdpbf16ps %%zmm13, %%zmm14, %%zmm" #i "\n"
#define FMA512(i) "vfmadd231ps %%zmm13, %%zmm14, %%zmm" #i "\n"
#define MADDUBS(i) "vpmaddubsw %%ymm13, %%ymm14, %%ymm" #i "\n"
#define FMA256(i) "vfmadd231ps %%ymm13, %%ymm14, %%ymm" #i "\n"
#define PEAK_LOOP(name, op)                                                                                            \
    static void name(mr_worker *worker, void *arg) {                                                                   \
        (void)worker, (void)arg;                                                                                       \
        __asm__ volatile("vpxor %%xmm13, %%xmm13, %%xmm13\nvpxor %%xmm14, %%xmm14, %%xmm14\n" ::: "xmm13", "xmm14");   \
        for (int i = 0; i < PEAK_ROUNDS; i++) {                                                                        \
            __asm__ volatile(TWELVE(op)::                                                                              \
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
                                   "xmm10", "xmm11");                                                                  \
        }                                                                                                              \
    }
PEAK_LOOP(peak_dpbusd, DPBUSD)
PEAK_LOOP(peak_dpbf16, DPBF16)
PEAK_LOOP(peak_fma512, FMA512)
PEAK_LOOP(peak_maddubs, MADDUBS)
PEAK_LOOP(peak_fma256, FMA256)
#endif

static double best_run(mr_team *team, void (*body)(mr_worker *, void *), void *arg, int n) {
    double best = 1e9;
    for (int i = 0; i < n; i++) {
        double start = now();
        mr_team_run(team, body, arg);
        double took = now() - start;
        if (took < best) best = took;
    }
    return best;
}

typedef struct peaks {
    double int8, bf16, f32; /* Gop/s */
    double read;            /* GB/s */
} peaks;

/* Reads 256 bytes. */
static inline void read_some(const uint8_t *p) {
#if defined(__x86_64__)
    __asm__ volatile(
        "vmovdqa (%0), %%ymm0\nvmovdqa 32(%0), %%ymm1\nvmovdqa 64(%0), %%ymm2\nvmovdqa 96(%0), %%ymm3\n"
        "vmovdqa 128(%0), %%ymm4\nvmovdqa 160(%0), %%ymm5\nvmovdqa 192(%0), %%ymm6\nvmovdqa 224(%0), %%ymm7"
        :
        : "r"(p)
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory");
#else
    for (int i = 0; i < 256; i += 64) (void)*(const volatile uint8_t *)(p + i);
#endif
}

static void read_all(mr_worker *worker, void *arg) {
    const uint8_t *data = arg;
    mr_loop loop = mr_loop_begin_shares(worker, BANDWIDTH_BYTES >> 16);
    for (size_t i; mr_loop_next_of_share(&loop, &i);) {
        for (const uint8_t *p = data + (i << 16); p < data + ((i + 1) << 16); p += 256) read_some(p);
    }
}

static peaks measure_peaks(mr_team *team) {
    peaks p = {0};
#if defined(__x86_64__)
    double n = 12.0 * PEAK_ROUNDS * mr_team_size(team) * 1e-9;
    if (mr_isa_active() == MR_ISA_AVX512) {
        p.int8 = 128 * n / best_run(team, peak_dpbusd, NULL, 15);
        p.bf16 = 64 * n / best_run(team, peak_dpbf16, NULL, 15);
        p.f32 = 32 * n / best_run(team, peak_fma512, NULL, 15);
    } else if (mr_isa_active() == MR_ISA_AVX2) {
        p.int8 = 64 * n / best_run(team, peak_maddubs, NULL, 15);
        p.f32 = p.bf16 = 16 * n / best_run(team, peak_fma256, NULL, 15);
    }
#endif
    uint8_t *data = aligned_alloc(2 << 20, BANDWIDTH_BYTES);
    if (data == NULL) exit(1);
    madvise(data, BANDWIDTH_BYTES, MADV_HUGEPAGE);
    memset(data, 1, BANDWIDTH_BYTES);
    p.read = BANDWIDTH_BYTES * 1e-9 / best_run(team, read_all, data, 8);
    free(data);
    return p;
}

/* -- Products. */

typedef struct matmul_job {
    mr_matrix **w;
    size_t n_copies, n_tokens;
    mr_acts *x;
    float *y;
} matmul_job;

static void matmul_all(mr_worker *worker, void *arg) {
    matmul_job *job = arg;
    for (size_t i = 0; i < job->n_copies; i++) {
        mr_matmul_item item = {.w = job->w[i], .x = job->x, .y = job->y, .ldy = mr_matrix_n_out(job->w[i])};
        mr_matmul(worker, &item, 1, job->n_tokens);
        mr_barrier(worker);
    }
}

static uint32_t random_bits(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20);
}

static float random_normal(void) {
    float sum = 0.0f;
    for (int i = 0; i < 6; i++) sum += (float)(int32_t)random_bits() * 0x1p-31f;
    return sum;
}

/* Bytes whose halves are small numbers wherever one reads them; the products' speed does not depend on more. */
static uint8_t *random_rows(size_t n_bytes) {
    uint8_t *rows = take(n_bytes);
    for (size_t i = 0; i < n_bytes; i++) rows[i] = (uint8_t)(random_bits() & 0x1F);
    return rows;
}

static double op_peak(const peaks *p, mr_acts_kind kind) {
    return kind == MR_ACTS_F32 ? p->f32 : kind == MR_ACTS_BF16 ? p->bf16 : p->int8;
}

static void bench_shape(mr_team *team, const peaks *p, const mr_dtype_info *info, size_t n_out, size_t n_in,
                        const size_t *n_tokens, int n_repeat) {
    size_t row_bytes;
    mr_acts_kind kind;
    if (!mr_dtype_row_bytes(info, n_in, &row_bytes) || !mr_matrix_acts_kind(info->type, &kind)) return;
    size_t most = 1;
    for (const size_t *n = n_tokens; *n != 0; n++) most = *n > most ? *n : most;
    enum { MAX_COPIES = 128, COPIES_BYTES = 160 << 20 };
    mr_matrix *w[MAX_COPIES];
    size_t n_copies = COPIES_BYTES / (n_out * row_bytes) + 1;
    if (n_copies > MAX_COPIES) n_copies = MAX_COPIES;
    uint8_t *rows = random_rows(n_out * row_bytes);
    mr_error err = {0};
    double start = now();
    for (size_t i = 0; i < n_copies; i++) {
        if (mr_matrix_pack(&w[i], info->type, rows, n_out, n_in, team, &err) != MR_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    double pack_speed = (double)(n_copies * n_out * row_bytes) * 1e-9 / (now() - start);
    free(rows);
    float *x = take(n_in * sizeof(float)), *y = take(most * n_out * sizeof(float));
    mr_acts acts = mr_acts_view(kind, n_in, take(most * mr_acts_stride(kind, n_in)));
    for (size_t t = 0; t < most; t++) {
        for (size_t k = 0; k < n_in; k++) x[k] = random_normal();
        mr_acts_set(&acts, t, x);
    }
    start = now();
    for (int i = 0; i < 50; i++) mr_acts_set(&acts, 0, x);
    double acts_ns = (now() - start) / 50.0 / (double)n_in * 1e9;
    printf("%-6s %5zu x %-5zu pack %.1f GB/s, activations %.2f ns/value\n", info->name, n_out, n_in, pack_speed,
           acts_ns);
    for (const size_t *n = n_tokens; *n != 0; n++) {
        size_t copies = *n <= 16 ? n_copies : 1;
        matmul_job job = {w, copies, *n, &acts, y};
        double took = best_run(team, matmul_all, &job, n_repeat) / (double)copies;
        double gop = 2e-9 * (double)n_out * (double)n_in * (double)*n / took;
        double gb = 1e-9 * (double)mr_matrix_bytes(w[0]) / took;
        printf("    n=%-4zu %9.1f us  %7.1f Gop/s (%3.0f%%)  %6.2f GB/s (%3.0f%%)\n", *n, took * 1e6, gop,
               100.0 * gop / op_peak(p, kind), gb, 100.0 * gb / p->read);
    }
    for (size_t i = 0; i < n_copies; i++) mr_matrix_free(w[i]);
    free(x), free(y), free(acts.data);
}

enum { MAX_LIST = 16 };

static void parse_list(char *text, size_t *list, const char *separators) {
    size_t n = 0;
    for (char *s = strtok(text, separators); s != NULL && n < MAX_LIST; s = strtok(NULL, separators)) {
        list[n++] = strtoull(s, NULL, 10);
    }
    list[n] = 0;
}

int main(int argc, char **argv) {
    size_t n_tokens[MAX_LIST + 1] = {1, 8, 512};
    size_t shapes[MAX_LIST + 1] = {2048, 2048, 256, 2048, 5632, 2048, 2048, 5632, 32000, 2048};
    int n_threads = 0, n_repeat = 5, option;
    while ((option = getopt(argc, argv, "t:r:n:s:")) != -1) {
        switch (option) {
        case 't':
            n_threads = atoi(optarg);
            break;
        case 'r':
            n_repeat = atoi(optarg);
            break;
        case 'n':
            parse_list(optarg, n_tokens, ",");
            break;
        case 's':
            parse_list(optarg, shapes, ",x");
            break;
        default:
            fprintf(stderr,
                    "usage: bench_matrix [-t threads] [-r repetitions] [-n 1,8,512] [-s 2048x2048,…] [type…]\n");
            return 2;
        }
    }
    mr_team *team;
    mr_error err = {0};
    if (mr_team_new(&team, n_threads, &err) != MR_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (mr_team_size(team) == 1) clock_id = CLOCK_THREAD_CPUTIME_ID;
    peaks p = measure_peaks(team);
    printf("%s, %d threads: int8 %.0f, bf16 %.0f, f32 %.0f Gop/s; read %.1f GB/s\n", mr_isa_name(mr_isa_active()),
           mr_team_size(team), p.int8, p.bf16, p.f32, p.read);
    char *all[] = {"Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "BF16", "F16", "F32"};
    char **types = optind < argc ? argv + optind : all;
    int n_types = optind < argc ? argc - optind : (int)(sizeof all / sizeof *all);
    for (int i = 0; i < n_types; i++) {
        const mr_dtype_info *info = mr_dtype_by_name(types[i]);
        if (info == NULL) {
            fprintf(stderr, "no type is called %s\n", types[i]);
            return 1;
        }
        for (size_t *s = shapes; *s != 0; s += 2) bench_shape(team, &p, info, s[0], s[1], n_tokens, n_repeat);
    }
    mr_team_free(team);
    return 0;
}
