#define MR_LOG_TARGET "mistral_runner::model"
#include "model/model.h"

#include "base/clock.h"
#include "base/log.h"
#include "model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The state of one load. */
typedef struct loader {
    mr_model *model;
    const mr_gguf *gguf;
    const mr_model_options *options;
    size_t bytes_done, bytes_total;
    size_t bytes_of_type[64]; /* by dtype, to name the model's type */
    mr_error *err;
} loader;

static mr_status report_progress(loader *l, size_t n_bytes) {
    l->bytes_done += n_bytes;
    float fraction = l->bytes_total == 0 ? 1.0f : (float)((double)l->bytes_done / (double)l->bytes_total);
    bool go_on = l->options->progress == NULL || l->options->progress(l->options->progress_ctx, fraction > 1.0f ? 1.0f : fraction);
    if (!go_on || mr_cancel_is_set(l->options->cancel)) {
        return mr_fail(l->err, MR_ERR_CANCELLED, "loading the model was cancelled");
    }
    return MR_OK;
}

/* A tensor that must have the shape [n_out rows, n_in] (n_out 1 for a vector). */
static mr_status find_tensor(loader *l, const char *name, uint64_t n_out, uint64_t n_in, const mr_gguf_tensor **tensor) {
    *tensor = mr_gguf_find_tensor(l->gguf, name);
    if (*tensor == NULL) return mr_fail(l->err, MR_ERR_INVALID, "the model file has no tensor %s", name);
    const uint64_t *shape = (*tensor)->shape;
    if (shape[0] != n_in || shape[1] != n_out || shape[2] != 1 || shape[3] != 1) {
        return mr_fail(l->err, MR_ERR_INVALID,
                       "tensor %s has the shape [%" PRIu64 ", %" PRIu64 "], but the model's metadata ask for [%" PRIu64 ", %" PRIu64
                       "]",
                       name, shape[1], shape[0], n_out, n_in);
    }
    return MR_OK;
}

/* A required vector of n floats, whatever its stored type. */
static mr_status load_vector(loader *l, const char *name, size_t n, float **vector) {
    const mr_gguf_tensor *tensor;
    mr_status status = find_tensor(l, name, 1, n, &tensor);
    if (status != MR_OK) return status;
    const mr_dtype_info *type = mr_dtype_find(tensor->type);
    if (type == NULL || type->dequantize == NULL) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "tensor %s has type %s, which is not supported", name,
                       type != NULL ? type->name : "?");
    }
    *vector = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
    if (*vector == NULL) return mr_fail_nomem(l->err, n * sizeof(float), name);
    type->dequantize(tensor->data, *vector, n);
    return report_progress(l, tensor->n_bytes);
}

static mr_status load_matrix(loader *l, const char *name, size_t n_out, size_t n_in, mr_matrix **matrix) {
    const mr_gguf_tensor *tensor;
    mr_status status = find_tensor(l, name, n_out, n_in, &tensor);
    if (status != MR_OK) return status;
    status = mr_matrix_pack(matrix, (mr_dtype)tensor->type, tensor->data, n_out, n_in, l->model->team, l->err);
    if (status != MR_OK) {
        mr_fail_prefix(l->err, "tensor %s", name);
        return status;
    }
    mr_gguf_drop_tensor_pages(l->gguf, tensor);
    l->model->info.weight_bytes += mr_matrix_bytes(*matrix);
    l->model->info.n_params += (uint64_t)n_out * n_in;
    if (tensor->type < sizeof l->bytes_of_type / sizeof l->bytes_of_type[0]) l->bytes_of_type[tensor->type] += tensor->n_bytes;
    return report_progress(l, tensor->n_bytes);
}

/* `NAME.weight` and, where it exists, `NAME.bias`. */
static mr_status load_linear(loader *l, const char *name, size_t n_out, size_t n_in, mr_linear *linear) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    mr_status status = load_matrix(l, full, n_out, n_in, &linear->w);
    snprintf(full, sizeof full, "%s.bias", name);
    if (status == MR_OK && mr_gguf_find_tensor(l->gguf, full) != NULL) status = load_vector(l, full, n_out, &linear->bias);
    return status;
}

static mr_status load_layer(loader *l, uint32_t il) {
    const mr_hparams *h = &l->model->hparams;
    mr_layer *layer = &l->model->layers[il];
    size_t n_q = (size_t)h->n_head * h->head_dim_k, n_k = (size_t)h->n_head_kv * h->head_dim_k;
    size_t n_v = (size_t)h->n_head_kv * h->head_dim_v, n_attn = (size_t)h->n_head * h->head_dim_v;
    const struct {
        const char *name;
        size_t n_out, n_in;
        mr_linear *linear;
    } linears[] = {
        {"attn_q", n_q, h->n_embd, &layer->q},           {"attn_k", n_k, h->n_embd, &layer->k},
        {"attn_v", n_v, h->n_embd, &layer->v},           {"attn_output", h->n_embd, n_attn, &layer->o},
        {"ffn_gate", h->n_ff, h->n_embd, &layer->gate},  {"ffn_up", h->n_ff, h->n_embd, &layer->up},
        {"ffn_down", h->n_embd, h->n_ff, &layer->down},
    };
    char name[128];
    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", il);
    mr_status status = load_vector(l, name, h->n_embd, &layer->attn_norm);
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", il);
    if (status == MR_OK) status = load_vector(l, name, h->n_embd, &layer->ffn_norm);
    for (size_t i = 0; i < sizeof linears / sizeof linears[0] && status == MR_OK; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", il, linears[i].name);
        status = load_linear(l, name, linears[i].n_out, linears[i].n_in, linears[i].linear);
    }
    return status;
}

/* The embedding table stays in the file; only the rows of the tokens in use are read. */
static mr_status load_embedding(loader *l) {
    mr_model *model = l->model;
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, "token_embd.weight");
    if (tensor == NULL) {
        return mr_fail(l->err, MR_ERR_INVALID, "the model file has no tensor token_embd.weight%s",
                       mr_gguf_n_tensors(l->gguf) == 0 ? "; it is a vocabulary without weights" : "");
    }
    if (tensor->shape[0] != model->hparams.n_embd || tensor->shape[1] > INT32_MAX || tensor->shape[2] != 1 || tensor->shape[3] != 1) {
        return mr_fail(l->err, MR_ERR_INVALID, "tensor token_embd.weight has the shape [%" PRIu64 ", %" PRIu64 "]; rows of %u are asked for",
                       tensor->shape[1], tensor->shape[0], model->hparams.n_embd);
    }
    model->embd_type = mr_dtype_find(tensor->type);
    if (model->embd_type->dequantize == NULL) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED, "tensor token_embd.weight has type %s, which is not supported",
                       model->embd_type->name);
    }
    model->hparams.n_vocab = (uint32_t)tensor->shape[1];
    model->embd_rows = tensor->data;
    model->embd_row_bytes = tensor->n_bytes / (size_t)tensor->shape[1];
    model->info.n_params += tensor->shape[0] * tensor->shape[1];
    return report_progress(l, tensor->n_bytes);
}

static mr_status load_output(loader *l) {
    mr_model *model = l->model;
    const mr_hparams *h = &model->hparams;
    mr_status status = load_vector(l, "output_norm.weight", h->n_embd, &model->output_norm);
    if (status != MR_OK) return status;
    if (mr_gguf_find_tensor(l->gguf, "output.weight") != NULL) {
        return load_linear(l, "output", h->n_vocab, h->n_embd, &model->output);
    }
    uint64_t n_params = model->info.n_params;
    status = load_matrix(l, "token_embd.weight", h->n_vocab, h->n_embd, &model->output.w);
    model->info.n_params = n_params; /* tied: counted once */
    return status;
}

static mr_status load_rope(loader *l) {
    mr_model *model = l->model;
    size_t n_pairs = model->hparams.n_rot / 2;
    float *factors = NULL;
    if (mr_gguf_find_tensor(l->gguf, "rope_freqs.weight") != NULL) {
        mr_status status = load_vector(l, "rope_freqs.weight", n_pairs, &factors);
        if (status != MR_OK) {
            free(factors);
            return status;
        }
    }
    model->rope_inv_freq = calloc(n_pairs + 1, sizeof(float));
    if (model->rope_inv_freq == NULL) {
        free(factors);
        return mr_fail_nomem(l->err, n_pairs * sizeof(float), "rope frequencies");
    }
    model->rope_mscale = mr_rope_frequencies(&model->hparams, factors, model->rope_inv_freq);
    free(factors);
    return MR_OK;
}

/* "1.1B Q4_K": parameters, and the type that most bytes have. */
static void label_type(loader *l) {
    mr_model_info *info = &l->model->info;
    const mr_dtype_info *type = NULL;
    size_t most = 0;
    for (uint32_t i = 0; i < sizeof l->bytes_of_type / sizeof l->bytes_of_type[0]; i++) {
        if (l->bytes_of_type[i] <= most) continue;
        most = l->bytes_of_type[i];
        type = mr_dtype_find(i);
    }
    double n = (double)info->n_params;
    snprintf(info->type_label, sizeof info->type_label, n >= 1e9 ? "%.1fB %s" : "%.1fM %s", n >= 1e9 ? n / 1e9 : n / 1e6,
             type != NULL ? type->name : "?");
}

static void fill_info(loader *l) {
    mr_model_info *info = &l->model->info;
    const mr_hparams *h = &l->model->hparams;
    mr_gguf_str name = {"", 0};
    mr_gguf_string(l->gguf, "general.name", &name);
    snprintf(info->name, sizeof info->name, "%.*s", (int)(name.len < 120 ? name.len : 120), name.data);
    snprintf(info->arch, sizeof info->arch, "%s", h->arch->name);
    info->n_vocab = h->n_vocab;
    info->n_embd = h->n_embd;
    info->n_layer = h->n_layer;
    info->n_head = h->n_head;
    info->n_head_kv = h->n_head_kv;
    info->n_ctx_train = h->n_ctx_train;
    label_type(l);
}

static mr_status load_all(loader *l) {
    mr_model *model = l->model;
    mr_status status = mr_hparams_read(&model->hparams, l->gguf, l->err);
    if (status == MR_OK) status = mr_team_new(&model->team, l->options->n_threads, l->err);
    if (status == MR_OK) status = load_embedding(l);
    if (status == MR_OK) status = load_rope(l);
    if (status != MR_OK) return status;
    model->layers = calloc(model->hparams.n_layer, sizeof *model->layers);
    if (model->layers == NULL) return mr_fail_nomem(l->err, model->hparams.n_layer * sizeof *model->layers, "the layers");
    for (uint32_t il = 0; il < model->hparams.n_layer && status == MR_OK; il++) status = load_layer(l, il);
    if (status == MR_OK) status = load_output(l);
    if (status == MR_OK) status = mr_forward_buffers_init(model, l->err);
    if (status == MR_OK) fill_info(l);
    return status;
}

mr_status mr_model_load(mr_model **out, const mr_gguf *gguf, const mr_model_options *options, mr_error *err) {
    static const mr_model_options defaults = {0};
    *out = NULL;
    mr_model *model = calloc(1, sizeof *model);
    if (model == NULL) return mr_fail_nomem(err, sizeof *model, "a model");
    model->gguf = gguf;
    model->ops = mr_ops_active();
    loader l = {.model = model, .gguf = gguf, .options = options != NULL ? options : &defaults, .err = err};
    l.bytes_total = mr_gguf_tensor_bytes(gguf);
    uint64_t start = mr_clock_ns();
    mr_status status = load_all(&l);
    if (status != MR_OK) {
        mr_model_free(model);
        return status;
    }
    MR_INFO("loaded %s %s (%s) in %.2f s: %zu MiB of weights, %d threads", model->info.arch, model->info.name,
            model->info.type_label, mr_clock_since(start), model->info.weight_bytes >> 20, mr_team_size(model->team));
    *out = model;
    return MR_OK;
}

static void free_linear(mr_linear *linear) {
    mr_matrix_free(linear->w);
    free(linear->bias);
}

void mr_model_free(mr_model *model) {
    if (model == NULL) return;
    for (uint32_t il = 0; model->layers != NULL && il < model->hparams.n_layer; il++) {
        mr_layer *layer = &model->layers[il];
        mr_linear *linears[] = {&layer->q, &layer->k, &layer->v, &layer->o, &layer->gate, &layer->up, &layer->down};
        for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) free_linear(linears[i]);
        free(layer->attn_norm);
        free(layer->ffn_norm);
    }
    free(model->layers);
    free(model->output_norm);
    free_linear(&model->output);
    free(model->rope_inv_freq);
    mr_forward_buffers_free(model);
    mr_team_free(model->team);
    free(model);
}

const mr_model_info *mr_model_get_info(const mr_model *model) {
    return &model->info;
}

mr_kv_layout mr_model_kv_layout(const mr_model *model, mr_kv_type type) {
    const mr_hparams *h = &model->hparams;
    return mr_kv_layout_of(type, h->n_layer, h->n_head_kv, h->head_dim_k, h->head_dim_v);
}

mr_team *mr_model_team(mr_model *model) {
    return model->team;
}
