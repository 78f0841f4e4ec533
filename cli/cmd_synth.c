#include "cmd_synth.h"

#include "base/buf.h"
#include "base/clock.h"
#include "compute/dtype.h"
#include "compute/team.h"
#include "model/gguf_write.h"
#include "model/quant_mix.h"
#include "synth_vocab.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct preset {
    const char *name, *title;
    uint32_t n_vocab, n_ctx, n_embd, n_layer, n_head, n_head_kv, n_ff;
} preset;

static const preset presets[] = {
    {"tiny", "synthetic tiny", 4096, 2048, 256, 4, 8, 4, 768},
    {"1b", "synthetic 1.1B (the shape of TinyLlama)", 32000, 2048, 2048, 22, 32, 4, 5632},
    {"7b", "synthetic 7B (the shape of Llama 2)", 32000, 4096, 4096, 32, 32, 32, 11008},
};

typedef struct options {
    const preset *preset;
    const char *type, *path;
    uint64_t seed;
    int n_threads; /* 0: one for each core */
    bool pure;
} options;

/* A tensor to fill: rows of n_in values, normal with deviation `spread`; 0 means all ones. */
typedef struct plan {
    const mr_dtype_info *info;
    uint64_t n_in, n_rows;
    float spread;
} plan;

typedef struct synth {
    const options *options;
    const mr_quant_mix *mix;        /* NULL: one type for all */
    const mr_dtype_info *only_type; /* when mix is NULL */
    mr_gguf_writer *writer;
    plan *plans;
    size_t n_plans, max_plans;
    mr_error *err;
    pthread_mutex_t lock; /* of *err */
    atomic_bool failed;
} synth;

/* ---- the model's shape */

static mr_dtype type_for(const synth *s, const char *name, uint32_t n_dims, uint64_t n_in) {
    if (!mr_quant_allowed(name, n_dims)) return MR_F32;
    if (s->mix == NULL) return mr_quant_fitting(s->only_type->type, n_in);
    const preset *p = s->options->preset;
    return mr_quant_mix_type(s->mix,
                             &(mr_quant_tensor){name, n_dims, n_in, p->n_layer, p->n_head / p->n_head_kv, 0, false});
}

static void plan_tensor(synth *s, const char *name, uint64_t n_in, uint64_t n_rows, float spread) {
    if (s->n_plans == s->max_plans) return;
    uint32_t n_dims = n_rows > 1 ? 2 : 1;
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type_for(s, name, n_dims, n_in));
    mr_gguf_put_tensor(s->writer, name, (uint32_t)info->type, n_dims, (uint64_t[]){n_in, n_rows});
    s->plans[s->n_plans++] = (plan){info, n_in, n_rows, spread};
}

/* A matrix whose products with inputs of deviation 1 have deviation 1. */
static void plan_matrix(synth *s, const char *name, uint64_t n_in, uint64_t n_out) {
    plan_tensor(s, name, n_in, n_out, 1.0f / sqrtf((float)n_in));
}

static void plan_layer(synth *s, uint32_t layer) {
    const preset *p = s->options->preset;
    uint64_t n_kv = (uint64_t)p->n_embd / p->n_head * p->n_head_kv;
    const struct {
        const char *suffix;
        uint64_t n_in, n_out;
    } parts[] = {
        {"attn_norm", p->n_embd, 1},      {"attn_q", p->n_embd, p->n_embd},      {"attn_k", p->n_embd, n_kv},
        {"attn_v", p->n_embd, n_kv},      {"attn_output", p->n_embd, p->n_embd}, {"ffn_norm", p->n_embd, 1},
        {"ffn_gate", p->n_embd, p->n_ff}, {"ffn_up", p->n_embd, p->n_ff},        {"ffn_down", p->n_ff, p->n_embd},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, parts[i].suffix);
        if (parts[i].n_out == 1)
            plan_tensor(s, name, parts[i].n_in, 1, 0.0f);
        else
            plan_matrix(s, name, parts[i].n_in, parts[i].n_out);
    }
}

static void put_shape(synth *s) {
    const preset *p = s->options->preset;
    mr_gguf_writer *w = s->writer;
    mr_gguf_put_string(w, "general.architecture", "llama");
    mr_gguf_put_string(w, "general.name", p->title);
    if (s->mix != NULL) mr_gguf_put_u32(w, "general.file_type", mr_quant_mix_file_type(s->mix));
    mr_gguf_put_u32(w, "general.quantization_version", 2);
    mr_gguf_put_u32(w, "llama.vocab_size", p->n_vocab);
    mr_gguf_put_u32(w, "llama.context_length", p->n_ctx);
    mr_gguf_put_u32(w, "llama.embedding_length", p->n_embd);
    mr_gguf_put_u32(w, "llama.block_count", p->n_layer);
    mr_gguf_put_u32(w, "llama.feed_forward_length", p->n_ff);
    mr_gguf_put_u32(w, "llama.attention.head_count", p->n_head);
    mr_gguf_put_u32(w, "llama.attention.head_count_kv", p->n_head_kv);
    mr_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    mr_gguf_put_u32(w, "llama.rope.dimension_count", p->n_embd / p->n_head);
    mr_gguf_put_f32(w, "llama.rope.freq_base", 10000.0f);
}

static mr_status describe_model(synth *s) {
    const preset *p = s->options->preset;
    s->max_plans = 3 + 9 * (size_t)p->n_layer;
    s->plans = calloc(s->max_plans, sizeof(*s->plans));
    if (s->plans == NULL) return mr_fail_nomem(s->err, s->max_plans * sizeof(*s->plans), "the list of tensors");
    put_shape(s);
    mr_status status = mr_synth_vocab(s->writer, p->n_vocab, s->err);
    if (status != MR_OK) return status;
    plan_tensor(s, "token_embd.weight", p->n_embd, p->n_vocab, 1.0f);
    for (uint32_t layer = 0; layer < p->n_layer; layer++) plan_layer(s, layer);
    plan_tensor(s, "output_norm.weight", p->n_embd, 1, 0.0f);
    plan_matrix(s, "output.weight", p->n_embd, p->n_vocab);
    return mr_gguf_begin(s->writer, s->err);
}

/* ---- the weights */

/* splitmix64 (Steele, Lea, Flood 2014) of a counter. */
static inline uint64_t mixed(uint64_t counter) {
    uint64_t z = counter * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Nearly normal values: the sum of four uniform numbers has deviation 1/sqrt(3) in units of their range. Each row has a
 * stream of its own, so the file does not depend on the number of threads. */
static void random_row(float *x, uint64_t n, uint64_t stream, float spread) {
    float unit = spread * 1.7320508f * 0x1p-16f;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t bits = mixed(stream + i);
        int sum = (int)(bits & 0xFFFF) + (int)(bits >> 16 & 0xFFFF) + (int)(bits >> 32 & 0xFFFF) + (int)(bits >> 48);
        x[i] = (float)(sum - 131070) * unit;
    }
}

static void keep_failure(synth *s, const mr_error *err) {
    pthread_mutex_lock(&s->lock);
    if (!atomic_load(&s->failed)) *s->err = *err;
    atomic_store(&s->failed, true);
    pthread_mutex_unlock(&s->lock);
}

typedef struct scratch {
    float *row;
    uint8_t *packed;
} scratch;

enum { ROWS_AT_ONCE = 16 };

static mr_status fill_rows(synth *s, size_t index, size_t begin, size_t end, scratch *scratch, mr_error *err) {
    const plan *p = &s->plans[index];
    size_t row_bytes = mr_gguf_tensor_size(s->writer, index) / (size_t)p->n_rows;
    for (size_t r = begin; r < end; r++) {
        uint64_t stream = mixed(mixed(s->options->seed ^ (uint64_t)(index + 1) << 40) + r);
        if (p->spread != 0.0f)
            random_row(scratch->row, p->n_in, stream, p->spread);
        else
            for (uint64_t i = 0; i < p->n_in; i++) scratch->row[i] = 1.0f;
        p->info->quantize(scratch->row, scratch->packed + (r - begin) * row_bytes, (size_t)p->n_in, NULL);
    }
    return mr_gguf_write_at(s->writer, index, begin * row_bytes, scratch->packed, (end - begin) * row_bytes, err);
}

static void fill_model(mr_worker *worker, void *arg) {
    synth *s = arg;
    size_t widest = 0, widest_bytes = 0;
    for (size_t i = 0; i < s->n_plans; i++) {
        size_t row_bytes = mr_gguf_tensor_size(s->writer, i) / (size_t)s->plans[i].n_rows;
        if (s->plans[i].n_in > widest) widest = (size_t)s->plans[i].n_in;
        if (row_bytes > widest_bytes) widest_bytes = row_bytes;
    }
    scratch scratch = {malloc(widest * sizeof(float)), malloc(widest_bytes * ROWS_AT_ONCE)};
    mr_error err = {0};
    if (scratch.row == NULL || scratch.packed == NULL) {
        mr_fail_nomem(&err, widest * sizeof(float) + widest_bytes * ROWS_AT_ONCE, "rows of weights");
        keep_failure(s, &err);
    }
    for (size_t i = 0; i < s->n_plans; i++) {
        mr_loop loop = mr_loop_begin(worker, (size_t)s->plans[i].n_rows, ROWS_AT_ONCE);
        size_t begin, end;
        while (mr_loop_next(&loop, &begin, &end)) {
            if (atomic_load(&s->failed)) continue;
            if (fill_rows(s, i, begin, end, &scratch, &err) != MR_OK) keep_failure(s, &err);
        }
        mr_barrier(worker);
    }
    free(scratch.row);
    free(scratch.packed);
}

static mr_status fill_in_parallel(synth *s) {
    mr_team *team;
    mr_status status = mr_team_new(&team, s->options->n_threads, s->err);
    if (status != MR_OK) return status;
    mr_team_run(team, fill_model, s);
    mr_team_free(team);
    return atomic_load(&s->failed) ? s->err->status : MR_OK;
}

/* ---- the command */

static mr_status choose_type(synth *s) {
    const options *o = s->options;
    s->only_type = mr_dtype_by_name(o->type);
    if (!o->pure && (s->mix = mr_quant_mix_find(o->type)) != NULL && mr_quant_mix_in_files(s->mix)) return MR_OK;
    s->mix = NULL;
    if (s->only_type != NULL && s->only_type->quantize != NULL && mr_dtype_in_files((uint32_t)s->only_type->type))
        return MR_OK;
    mr_buf names = {0};
    for (size_t i = 0; mr_quant_mix_at(i) != NULL; i++)
        mr_buf_printf(&names, " %s", mr_quant_mix_name(mr_quant_mix_at(i)));
    mr_fail(s->err, MR_ERR_INVALID, "cannot write type \"%s\"%s; there are%s", o->type, o->pure ? " alone" : "",
            mr_buf_cstr(&names));
    mr_buf_free(&names);
    return s->err->status;
}

static mr_status write_model(const options *o, mr_error *err) {
    synth s = {.options = o, .err = err};
    mr_status status = choose_type(&s);
    if (status != MR_OK) return status;
    status = mr_gguf_writer_new(&s.writer, o->path, err);
    if (status != MR_OK) return status;
    pthread_mutex_init(&s.lock, NULL);
    atomic_init(&s.failed, false);
    status = describe_model(&s);
    if (status == MR_OK) status = fill_in_parallel(&s);
    if (status == MR_OK) status = mr_gguf_finish(s.writer, err);
    pthread_mutex_destroy(&s.lock);
    mr_gguf_writer_free(s.writer);
    free(s.plans);
    return status;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *number) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max) return false;
    *number = value;
    return true;
}

static const preset *find_preset(const char *name) {
    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

/* Takes one option with its value; false when it is none or the value is wrong. */
static bool take_option(options *o, const char *name, const char *value) {
    uint64_t number;
    if (strcmp(name, "--arch") == 0) return strcmp(value, "llama") == 0;
    if (strcmp(name, "--preset") == 0) return (o->preset = find_preset(value)) != NULL;
    if (strcmp(name, "--type") == 0)
        o->type = value;
    else if (strcmp(name, "-o") == 0 || strcmp(name, "--output") == 0)
        o->path = value;
    else if (strcmp(name, "--seed") == 0)
        return parse_number(value, UINT64_MAX, &o->seed);
    else if (strcmp(name, "--threads") == 0 && parse_number(value, 256, &number))
        o->n_threads = (int)number;
    else
        return false;
    return true;
}

static bool parse(options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--pure") == 0) {
            o->pure = true;
        } else if (i + 1 == argc || !take_option(o, argv[i], argv[i + 1])) {
            fprintf(stderr, "synth: cannot use %s%s%s\n", argv[i], i + 1 < argc ? " " : "",
                    i + 1 < argc ? argv[i + 1] : "");
            return false;
        } else {
            i++;
        }
    }
    return o->preset != NULL && o->type != NULL && o->path != NULL;
}

static const char USAGE[] =
    "usage: mistral-runner synth [--arch llama] --preset tiny|1b|7b --type TYPE -o FILE [--seed N] "
    "[--threads N] [--pure]\n"
    "Writes a GGUF model of this shape with random weights. TYPE is a tensor type or mix (F32, F16, BF16, "
    "Q8_0, Q4_0,\n"
    "Q4_K_M, Q4_K_S, Q5_K_M, Q6_K, ...); --pure stores every matrix in TYPE itself.\n";

int mr_cmd_synth(int argc, char **argv) {
    options o = {.seed = 1};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (!parse(&o, argc, argv)) {
        fputs(USAGE, stderr);
        return 2;
    }
    mr_error err = {0};
    uint64_t start = mr_clock_ns();
    if (write_model(&o, &err) != MR_OK) {
        fprintf(stderr, "synth: %s\n", err.text);
        return 1;
    }
    printf("%s: %s, %s, %.1f s\n", o.path, o.preset->title, o.type, mr_clock_since(start));
    return 0;
}
