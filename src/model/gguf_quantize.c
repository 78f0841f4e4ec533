#include "model/gguf_quantize.h"

#include "compute/dtype.h"
#include "compute/team.h"
#include "model/arch.h"
#include "model/tensor_rows.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 128, CHUNK_BYTES = 16 << 20, MAX_PARTS = 4096 };

/* A tensor to write: one of the model, or several that become one, one after the other. */
typedef struct target {
    char name[NAME_BYTES];
    const mr_gguf_tensor **parts; /* [n_parts], all of one type and shape */
    size_t n_parts;
    const mr_dtype_info *from, *to;
    size_t n_in, n_rows; /* of a part */
    size_t n_again;      /* how often the first row stands again behind the last */
    size_t head_rows;    /* rows of a head that are to be reordered, 0 = none */
    size_t n_rot;        /* of these, how many are rotated */
} target;

typedef struct quantizer {
    const mr_gguf *model;
    const mr_gguf_quantize_options *options;
    mr_hparams hparams;
    bool halves; /* rotated pairs are halves apart */
    target *targets;
    size_t n_targets;
    mr_gguf_writer *writer;
    mr_team *team;
    float *scratch; /* [members, widest] */
    size_t widest;
    uint8_t *chunk;
    size_t bytes_done, bytes_total;
    mr_error *err;
} quantizer;

/* ---- the plan */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A tensor that is one of several in `stack`: "blk.3.ffn_gate.5.weight" is expert 5 of blk.3.ffn_gate_exps.weight,
 * "altup_proj.1.weight" map 1 of altup_proj.weight. The names of all begin with `stem`. */
typedef struct stacked {
    char stem[64], stack[NAME_BYTES];
    unsigned number;
    size_t n; /* how many there are to be */
} stacked;

static bool split_stacked(const quantizer *q, const char *name, stacked *s) {
    unsigned layer;
    char part[24];
    int end = 0;
    if (sscanf(name, "blk.%5u.%15[a-z_].%5u.weight%n", &layer, part, &s->number, &end) == 3 && end > 0 &&
        name[end] == '\0' &&
        (strcmp(part, "ffn_gate") == 0 || strcmp(part, "ffn_up") == 0 || strcmp(part, "ffn_down") == 0)) {
        snprintf(s->stem, sizeof s->stem, "blk.%u.%s", layer, part);
        snprintf(s->stack, sizeof s->stack, "%s_exps.weight", s->stem);
        s->n = q->hparams.n_expert;
        return true;
    }
    end = 0;
    if (sscanf(name, "%23[a-z_].%5u.weight%n", part, &s->number, &end) == 2 && end > 0 && name[end] == '\0' &&
        (strcmp(part, "altup_proj") == 0 || strcmp(part, "altup_unembd_proj") == 0)) {
        snprintf(s->stem, sizeof s->stem, "%s", part);
        snprintf(s->stack, sizeof s->stack, "%s.weight", part);
        s->n = q->hparams.n_stream - 1;
        return true;
    }
    return false;
}

static bool same_form(const mr_gguf_tensor *a, const mr_gguf_tensor *b) {
    return a->type == b->type && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* Takes number 0 and finds the others; later ones are taken along. */
static mr_status gather_stack(quantizer *q, target *t, const mr_gguf_tensor *first, const stacked *s) {
    if (s->n == 0 || s->n > MAX_PARTS)
        return mr_fail(q->err, MR_ERR_INVALID, "tensor %s is one of several, but the model has none such", first->name);
    t->parts = calloc(s->n, sizeof *t->parts);
    if (t->parts == NULL) return mr_fail_nomem(q->err, s->n * sizeof *t->parts, s->stack);
    t->n_parts = s->n;
    for (size_t i = 0; i < s->n; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s.%zu.weight", s->stem, i);
        t->parts[i] = mr_gguf_find_tensor(q->model, name);
        if (t->parts[i] == NULL || !same_form(t->parts[i], first))
            return mr_fail(q->err, MR_ERR_INVALID, "tensor %s is missing or of another form than %s", name,
                           first->name);
    }
    snprintf(t->name, sizeof t->name, "%s", s->stack);
    return MR_OK;
}

static bool is_float(uint32_t type) {
    return type == MR_F32 || type == MR_F16 || type == MR_BF16 || type == MR_F8_E4M3;
}

/* Small or delicate tensors are floats in every mix. */
static bool stays_f32(const char *name, uint32_t n_dims) {
    return n_dims < 2 || ends_with(name, "_norm.weight") || strstr(name, "ffn_gate_inp") != NULL;
}

static mr_status choose_type(quantizer *q, target *t, uint32_t n_dims) {
    const mr_gguf_tensor *tensor = t->parts[0];
    const mr_hparams *h = &q->hparams;
    t->from = t->to = mr_dtype_find(tensor->type);
    if (t->from == NULL) return mr_fail(q->err, MR_ERR_UNSUPPORTED, "tensor %s has an unknown type", tensor->name);
    mr_dtype type = t->from->type;
    if (mr_quant_allowed(t->name, n_dims)) {
        mr_quant_tensor what = {.name = t->name,
                                .n_dims = n_dims,
                                .n_in = tensor->shape[0],
                                .n_layer = h->n_layer,
                                .n_gqa = h->n_head / h->n_head_kv,
                                .n_expert = h->n_expert,
                                .tied = mr_gguf_find_tensor(q->model, "output.weight") == NULL};
        type = mr_quant_mix_type(q->options->mix, &what);
    } else if (is_float(tensor->type) && stays_f32(t->name, n_dims)) {
        type = MR_F32;
    }
    if (type == t->from->type) return MR_OK;
    if (!is_float(tensor->type) && !q->options->again) {
        return mr_fail(q->err, MR_ERR_UNSUPPORTED,
                       "tensor %s is %s already; quantizing it again to %s would lose more than quantizing the "
                       "original once (--again does it all the same)",
                       tensor->name, t->from->name, mr_dtype_find((uint32_t)type)->name);
    }
    t->to = mr_dtype_find((uint32_t)type);
    if (t->from->dequantize == NULL || t->to->quantize == NULL)
        return mr_fail(q->err, MR_ERR_UNSUPPORTED, "tensor %s cannot be turned from %s into %s", tensor->name,
                       t->from->name, t->to->name);
    return MR_OK;
}

/* Rows of queries and keys whose pairs are (i, i + n/2) and shall be neighbours. */
static mr_status choose_order(quantizer *q, target *t) {
    bool rotated = strstr(t->name, ".attn_q.") != NULL || strstr(t->name, ".attn_k.") != NULL;
    if (!q->halves || !rotated) return MR_OK;
    /* The rows of a bias are its values. */
    size_t n = t->parts[0]->n_dims < 2 ? t->n_in : t->n_rows;
    t->head_rows = q->hparams.head_dim_k;
    t->n_rot = q->hparams.n_rot;
    if (t->head_rows == 0 || n % t->head_rows != 0 || t->n_rot > t->head_rows || t->n_rot % 2 != 0)
        return mr_fail(q->err, MR_ERR_INVALID, "tensor %s has %zu rows, which are no heads of %zu", t->name, n,
                       t->head_rows);
    return MR_OK;
}

/* Tokens that no layer has an embedding of: they have that of token 0, which other readers want to be there. */
static size_t count_missing(const quantizer *q, const mr_gguf_tensor *tensor) {
    const mr_gguf_tensor *embd = mr_gguf_find_tensor(q->model, "token_embd.weight");
    bool by_layer = strcmp(tensor->name, "per_layer_token_embd.weight") == 0 && tensor->n_dims == 2;
    return by_layer && embd != NULL && embd->shape[1] > tensor->shape[1] ? (size_t)(embd->shape[1] - tensor->shape[1])
                                                                         : 0;
}

static mr_status plan_tensor(quantizer *q, const mr_gguf_tensor *tensor) {
    stacked stack;
    bool apart = split_stacked(q, tensor->name, &stack);
    if (apart && stack.number > 0) return MR_OK;
    target *t = &q->targets[q->n_targets++];
    mr_status status = MR_OK;
    if (apart) {
        status = gather_stack(q, t, tensor, &stack);
    } else {
        t->parts = calloc(1, sizeof *t->parts);
        if (t->parts == NULL) return mr_fail_nomem(q->err, sizeof *t->parts, "a tensor");
        t->parts[0] = tensor;
        t->n_parts = 1;
        if ((size_t)snprintf(t->name, sizeof t->name, "%s", tensor->name) >= sizeof t->name)
            return mr_fail(q->err, MR_ERR_LIMIT, "the tensor name %.40s... is too long", tensor->name);
    }
    if (status != MR_OK) return status;
    uint32_t n_dims = tensor->n_dims + (apart ? 1 : 0);
    t->n_in = (size_t)tensor->shape[0];
    t->n_rows = (size_t)(tensor->shape[1] * tensor->shape[2] * tensor->shape[3]);
    status = choose_type(q, t, n_dims);
    if (status == MR_OK) status = choose_order(q, t);
    if (status != MR_OK) return status;
    t->n_again = count_missing(q, tensor);
    uint64_t shape[MR_GGUF_MAX_DIMS];
    memcpy(shape, tensor->shape, sizeof shape);
    shape[1] += t->n_again;
    if (apart) shape[2] = t->n_parts;
    if (apart) n_dims = 3;
    mr_gguf_put_tensor(q->writer, t->name, (uint32_t)t->to->type, n_dims, shape);
    if (t->n_in > q->widest) q->widest = t->n_in;
    return MR_OK;
}

/* ---- the metadata */

static bool key_is(const mr_gguf_value *value, const char *key) {
    return value->key.len == strlen(key) && memcmp(value->key.data, key, value->key.len) == 0;
}

static void put_values(quantizer *q, const char *halves_key) {
    static const char *const own[] = {"general.file_type", "general.quantization_version", "split.no", "split.count",
                                      "split.tensors.count"};
    for (size_t i = 0; i < mr_gguf_n_values(q->model); i++) {
        const mr_gguf_value *value = mr_gguf_value_at(q->model, i);
        bool skip = key_is(value, halves_key);
        for (size_t k = 0; k < sizeof own / sizeof own[0]; k++) skip = skip || key_is(value, own[k]);
        if (!skip) mr_gguf_put_value(q->writer, value);
    }
}

static mr_status plan_all(quantizer *q) {
    char key[NAME_BYTES];
    mr_status status = mr_hparams_read(&q->hparams, q->model, q->err);
    if (status != MR_OK) return status;
    snprintf(key, sizeof key, "%s.rope.halves", q->hparams.arch->name);
    mr_gguf_bool(q->model, key, &q->halves);
    put_values(q, key);
    if (q->options->put_more != NULL) status = q->options->put_more(q->options->put_ctx, q->writer, q->err);
    mr_gguf_put_u32(q->writer, "general.file_type", mr_quant_mix_file_type(q->options->mix));
    mr_gguf_put_u32(q->writer, "general.quantization_version", 2);
    size_t n = mr_gguf_n_tensors(q->model);
    q->targets = calloc(n + 1, sizeof *q->targets);
    if (status == MR_OK && q->targets == NULL) status = mr_fail_nomem(q->err, n * sizeof *q->targets, "the tensors");
    for (size_t i = 0; i < n && status == MR_OK; i++) status = plan_tensor(q, mr_gguf_tensor_at(q->model, i));
    return status == MR_OK ? mr_gguf_begin(q->writer, q->err) : status;
}

/* ---- the data */

static mr_status report(quantizer *q, size_t n_bytes) {
    q->bytes_done += n_bytes;
    float fraction = q->bytes_total == 0 ? 1.0f : (float)((double)q->bytes_done / (double)q->bytes_total);
    const mr_gguf_quantize_options *o = q->options;
    bool go_on = o->progress == NULL || o->progress(o->progress_ctx, fraction);
    if (go_on && !mr_cancel_is_set(o->cancel)) return MR_OK;
    return mr_fail(q->err, MR_ERR_CANCELLED, "writing the model was cancelled");
}

/* Which row of the head becomes row i: pair j of halves are rows j and j + n/2, pair j of neighbours 2j and 2j + 1. */
static size_t source_in_head(size_t i, size_t n_rot) {
    return i < n_rot ? i / 2 + i % 2 * (n_rot / 2) : i;
}

static size_t source_row(const target *t, size_t row) {
    if (t->head_rows == 0) return row;
    return row / t->head_rows * t->head_rows + source_in_head(row % t->head_rows, t->n_rot);
}

/* Rows [first, first + n_rows) of one part on their way into the chunk. */
typedef struct rows_job {
    const quantizer *q;
    const target *t;
    const uint8_t *data;
    size_t first, n_rows, from_bytes, to_bytes;
    atomic_bool not_finite;
} rows_job;

static bool all_finite(const float *x, size_t n) {
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) sum += x[i] - x[i];
    return sum == 0.0f;
}

static void quantize_body(mr_worker *worker, void *arg) {
    rows_job *job = arg;
    const target *t = job->t;
    float *row = job->q->scratch + (size_t)worker->ith * job->q->widest;
    mr_loop loop = mr_loop_begin(worker, job->n_rows, 4);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        for (; i < end; i++) {
            const uint8_t *from = job->data + source_row(t, job->first + i) * job->from_bytes;
            uint8_t *to = job->q->chunk + i * job->to_bytes;
            if (t->from == t->to) {
                memcpy(to, from, job->to_bytes);
                continue;
            }
            t->from->dequantize(from, row, t->n_in);
            if (!all_finite(row, t->n_in)) atomic_store(&job->not_finite, true);
            t->to->quantize(row, to, t->n_in, NULL);
        }
    }
}

/* A bias of queries or keys in their new order. */
static mr_status write_reordered_vector(quantizer *q, const target *t) {
    uint8_t *values = malloc(t->n_in * sizeof(float) * 2);
    if (values == NULL) return mr_fail_nomem(q->err, t->n_in * sizeof(float) * 2, t->name);
    float *from = (float *)(void *)values, *to = from + t->n_in;
    t->from->dequantize(t->parts[0]->data, from, t->n_in);
    for (size_t i = 0; i < t->n_in; i++) to[i] = from[source_row(t, i)];
    mr_status status = mr_gguf_append(q->writer, to, t->n_in * sizeof(float), q->err);
    free(values);
    return status == MR_OK ? report(q, t->parts[0]->n_bytes) : status;
}

static mr_status write_part(quantizer *q, const target *t, const mr_gguf_tensor *part) {
    rows_job job = {.q = q, .t = t};
    mr_tensor_rows rows;
    if (!mr_dtype_row_bytes(t->from, t->n_in, &job.from_bytes) || !mr_dtype_row_bytes(t->to, t->n_in, &job.to_bytes))
        return mr_fail(q->err, MR_ERR_INVALID, "tensor %s has rows of %zu values, which are no whole blocks of %s",
                       t->name, t->n_in, t->to->name);
    mr_status status = mr_tensor_rows_get(part, 0, t->n_rows, job.from_bytes, q->team, &rows, q->err);
    if (status != MR_OK) return status;
    job.data = rows.rows;
    size_t most = CHUNK_BYTES / job.to_bytes;
    if (most == 0) most = 1;
    if (most > t->n_rows) most = t->n_rows;
    q->chunk = malloc(most * job.to_bytes);
    if (q->chunk == NULL) status = mr_fail_nomem(q->err, most * job.to_bytes, t->name);
    for (size_t row = 0; row < t->n_rows && status == MR_OK; row += job.n_rows) {
        job.first = row;
        job.n_rows = t->n_rows - row < most ? t->n_rows - row : most;
        mr_team_run(q->team, quantize_body, &job);
        if (atomic_load(&job.not_finite))
            status = mr_fail(q->err, MR_ERR_INVALID, "tensor %s has values that are not finite", part->name);
        if (status == MR_OK) status = mr_gguf_append(q->writer, q->chunk, job.n_rows * job.to_bytes, q->err);
        if (status == MR_OK) status = report(q, job.n_rows * job.from_bytes);
    }
    free(q->chunk);
    q->chunk = NULL;
    mr_tensor_rows_free(&rows);
    mr_gguf_drop_tensor_pages(q->model, part);
    return status;
}

/* The first row again, behind the last. */
static mr_status write_first_again(quantizer *q, const target *t) {
    size_t to_bytes = 0;
    mr_tensor_rows rows;
    mr_dtype_row_bytes(t->to, t->n_in, &to_bytes); /* both checked with the part */
    mr_status status = mr_tensor_rows_get(t->parts[0], 0, 1, t->parts[0]->n_bytes / t->n_rows, q->team, &rows, q->err);
    if (status != MR_OK) return status;
    q->chunk = malloc(to_bytes);
    if (q->chunk == NULL) status = mr_fail_nomem(q->err, to_bytes, t->name);
    if (status == MR_OK && t->from == t->to) {
        memcpy(q->chunk, rows.rows, to_bytes);
    } else if (status == MR_OK) {
        t->from->dequantize(rows.rows, q->scratch, t->n_in);
        t->to->quantize(q->scratch, q->chunk, t->n_in, NULL);
    }
    for (size_t i = 0; i < t->n_again && status == MR_OK; i++)
        status = mr_gguf_append(q->writer, q->chunk, to_bytes, q->err);
    free(q->chunk);
    q->chunk = NULL;
    mr_tensor_rows_free(&rows);
    return status;
}

static mr_status write_data(quantizer *q) {
    mr_status status = mr_team_new(&q->team, q->options->n_threads, q->err);
    if (status != MR_OK) return status;
    q->scratch = malloc((size_t)mr_team_size(q->team) * (q->widest + 1) * sizeof(float));
    if (q->scratch == NULL) return mr_fail_nomem(q->err, q->widest * sizeof(float), "rows of weights");
    for (size_t i = 0; i < q->n_targets && status == MR_OK; i++) {
        const target *t = &q->targets[i];
        if (t->head_rows > 0 && t->parts[0]->n_dims < 2) {
            status = write_reordered_vector(q, t);
            continue;
        }
        for (size_t p = 0; p < t->n_parts && status == MR_OK; p++) status = write_part(q, t, t->parts[p]);
        if (t->n_again > 0 && status == MR_OK) status = write_first_again(q, t);
    }
    return status;
}

mr_status mr_gguf_quantize(const mr_gguf *model, const char *path, const mr_gguf_quantize_options *options,
                           size_t *n_bytes, mr_error *err) {
    quantizer q = {.model = model, .options = options, .err = err, .bytes_total = mr_gguf_tensor_bytes(model)};
    mr_status status = mr_gguf_writer_new(&q.writer, path, err);
    if (status != MR_OK) return status;
    status = plan_all(&q);
    if (status == MR_OK) status = write_data(&q);
    if (status == MR_OK) status = mr_gguf_finish(q.writer, err);
    if (status == MR_OK && n_bytes != NULL) {
        *n_bytes = 0;
        for (size_t i = 0; i < q.n_targets; i++) *n_bytes += mr_gguf_tensor_size(q.writer, i);
    }
    mr_gguf_writer_free(q.writer);
    mr_team_free(q.team);
    for (size_t i = 0; i < q.n_targets; i++) free(q.targets[i].parts);
    free(q.targets);
    free(q.scratch);
    return status;
}
