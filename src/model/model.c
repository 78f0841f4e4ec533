#define MR_LOG_TARGET "mistral_runner::model"
#include "model/model.h"

#include "base/clock.h"
#include "base/log.h"
#include "model/device.h"
#include "model/device_plan.h"
#include "model/footprint.h"
#include "model/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The embedding table stays in the file; only the rows of the tokens in use are read. */
static mr_status load_embedding(mr_loader *l) {
    mr_model *model = l->model;
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, "token_embd.weight");
    if (tensor == NULL) {
        return mr_fail(l->err, MR_ERR_INVALID, "the model file has no tensor token_embd.weight%s",
                       mr_gguf_n_tensors(l->gguf) == 0 ? "; it is a vocabulary without weights" : "");
    }
    if (tensor->shape[0] != model->hparams.n_embd || tensor->shape[1] > INT32_MAX || tensor->shape[2] != 1 ||
        tensor->shape[3] != 1) {
        return mr_fail(l->err, MR_ERR_INVALID,
                       "tensor token_embd.weight has the shape [%" PRIu64 ", %" PRIu64 "]; rows of %u are asked for",
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
    return mr_load_progress(l, tensor->n_bytes);
}

/* The tables of the layers' own embeddings; rows stay in the file, too. */
static mr_status load_per_layer(mr_loader *l) {
    mr_model *model = l->model;
    const mr_hparams *h = &model->hparams;
    size_t n_all = (size_t)h->n_layer * h->n_embd_per_layer;
    if (h->n_embd_per_layer == 0) return MR_OK;
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, "per_layer_token_embd.weight");
    if (tensor == NULL || tensor->data == NULL || tensor->shape[0] != n_all || tensor->shape[2] != 1 ||
        tensor->shape[3] != 1) {
        return mr_fail(l->err, MR_ERR_INVALID,
                       "the model file has no tensor per_layer_token_embd.weight with rows of %zu values", n_all);
    }
    model->per_layer.type = mr_dtype_find(tensor->type);
    if (model->per_layer.type->dequantize == NULL) {
        return mr_fail(l->err, MR_ERR_UNSUPPORTED,
                       "tensor per_layer_token_embd.weight has type %s, which is not supported",
                       model->per_layer.type->name);
    }
    model->per_layer.rows = tensor->data;
    model->per_layer.n_rows = tensor->shape[1];
    model->per_layer.row_bytes = tensor->n_bytes / (size_t)tensor->shape[1];
    model->info.n_params += tensor->shape[0] * tensor->shape[1];
    mr_status status = mr_load_progress(l, tensor->n_bytes);
    if (status == MR_OK)
        status = mr_load_linear(l, "per_layer_model_proj", n_all, h->n_embd, &model->per_layer.from_embd);
    if (status == MR_OK)
        status = mr_load_norm(l, "per_layer_proj_norm", h->n_embd_per_layer, true, &model->per_layer.norm);
    return status;
}

/* Map i of a stack of n_maps, WHAT.weight, or by itself, WHAT.i.weight. */
static mr_status load_stream_map(mr_loader *l, const char *what, size_t i, size_t n_maps, mr_linear *map) {
    size_t n = l->model->hparams.n_embd;
    char name[64];
    snprintf(name, sizeof name, "%s.%zu.weight", what, i);
    if (mr_load_has(l, name)) return mr_load_rows(l, name, 0, n, n, n, &map->w);
    snprintf(name, sizeof name, "%s.weight", what);
    return mr_load_rows(l, name, i * n, n, n_maps * n, n, &map->w);
}

static mr_status load_streams(mr_loader *l, const char *what, mr_linear *maps) {
    size_t n_maps = l->model->hparams.n_stream - 1;
    mr_status status = MR_OK;
    for (size_t i = 0; i < n_maps && status == MR_OK; i++) status = load_stream_map(l, what, i, n_maps, &maps[i]);
    return status;
}

/* What encoders add to the embeddings of tokens: learned positions, or none where keys are rotated, and the first type
 * of tokens, of which a text is all. */
static mr_status load_positions(mr_loader *l) {
    mr_model *model = l->model;
    size_t n_embd = model->hparams.n_embd, n_positions = model->hparams.n_ctx_train;
    if (!model->hparams.arch->encoder) return MR_OK;
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(l->gguf, "token_types.weight");
    mr_status status = mr_load_norm(l, "token_embd_norm", n_embd, true, &model->embd_norm);
    if (status == MR_OK && !model->hparams.rotates)
        status = mr_load_floats(l, "position_embd.weight", n_positions, n_embd, &model->positions);
    if (status != MR_OK || tensor == NULL) return status;
    if (model->positions == NULL) model->positions = calloc(n_positions, n_embd * sizeof(float));
    if (model->positions == NULL) return mr_fail_nomem(l->err, n_positions * n_embd * sizeof(float), "the token types");
    float *types = NULL;
    status = mr_load_floats(l, "token_types.weight", (size_t)tensor->shape[1], n_embd, &types);
    for (size_t i = 0; status == MR_OK && i < n_positions * n_embd; i++) model->positions[i] += types[i % n_embd];
    free(types);
    return status;
}

static mr_status load_output(mr_loader *l) {
    mr_model *model = l->model;
    const mr_hparams *h = &model->hparams;
    if (h->arch->encoder)
        return h->arch->norms_before ? mr_load_norm(l, "output_norm", h->n_embd, true, &model->output_norm) : MR_OK;
    /* Files of LFM2 have it under a name that elsewhere is that of a norm of the embeddings. */
    bool odd = h->arch->mixer == MR_MIXER_CONV && !mr_load_has(l, "output_norm.weight");
    mr_status status = mr_load_norm(l, odd ? "token_embd_norm" : "output_norm", h->n_embd, true, &model->output_norm);
    if (status != MR_OK) return status;
    if (mr_load_has(l, "output.weight")) return mr_load_linear(l, "output", h->n_vocab, h->n_embd, &model->output);
    uint64_t n_params = model->info.n_params;
    status = mr_load_rows(l, "token_embd.weight", 0, h->n_vocab, h->n_vocab, h->n_embd, &model->output.w);
    model->info.n_params = n_params; /* tied: counted once */
    model->output_is_embd = true;
    return status;
}

/* Divisors of the frequencies, [n_rot/2], or NULL where the model has none. LongRoPE (arXiv:2402.13753) has two sets;
 * the long one is for contexts beyond the original. */
static mr_status load_rope_factors(mr_loader *l, float **factors) {
    const mr_hparams *h = &l->model->hparams;
    uint32_t n_ctx = l->options->n_ctx != 0 ? l->options->n_ctx : h->n_ctx_train;
    const char *longer = n_ctx > h->rope_n_ctx_orig ? "rope_factors_long.weight" : "rope_factors_short.weight";
    const char *name = mr_load_has(l, "rope_freqs.weight") ? "rope_freqs.weight" : longer;
    *factors = NULL;
    return mr_load_has(l, name) ? mr_load_vector(l, name, h->n_rot / 2, factors) : MR_OK;
}

static mr_status load_ropes(mr_loader *l) {
    mr_model *model = l->model;
    const mr_hparams *h = &model->hparams;
    float *factors;
    mr_status status = load_rope_factors(l, &factors);
    for (int i = 0; i < MR_N_ROPES && status == MR_OK; i++) {
        mr_rope *rope = &model->ropes[i];
        bool local = i == MR_ROPE_LOCAL;
        if (local && h->local_rope_freq_base == 0.0f) continue;
        rope->n_rot = local && h->n_rot_local > 0 ? h->n_rot_local : h->n_rot;
        rope->inv_freq = calloc(rope->n_rot / 2 + 1, sizeof(float));
        if (rope->inv_freq == NULL) {
            status = mr_fail_nomem(l->err, rope->n_rot * sizeof(float), "rope frequencies");
            break;
        }
        float base = local ? h->local_rope_freq_base : h->rope_freq_base;
        rope->mscale = mr_rope_frequencies(h, rope->n_rot, base, !local, local ? NULL : factors, rope->inv_freq);
    }
    free(factors);
    return status;
}

mr_kv_layout mr_layer_kv_layout(const mr_model *model, mr_kv_type type, uint32_t il, size_t *offset) {
    const mr_layer *layer = &model->layers[il];
    *offset = layer->kv_offset[type];
    return mr_kv_layout_of(type, 1, layer->dims.n_head_kv, layer->dims.head_dim_k, layer->dims.head_dim_v);
}

uint32_t mr_model_first_device_layer(const mr_model *model) {
    return model->device != NULL ? model->device->first_layer : model->hparams.n_layer;
}

/* Layers lie one behind the other in a block, an encoder's in the same place: those of the CPU, and in another block
 * those of the device. */
static void place_layers(mr_model *model) {
    static const mr_kv_type types[] = {MR_KV_F16, MR_KV_Q8_0, MR_KV_F32};
    for (size_t i = 0; i < MR_N_KV_TYPES; i++) {
        size_t at = 0, offset;
        for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
            if (il == mr_model_first_device_layer(model)) at = 0;
            mr_layer *layer = &model->layers[il];
            bool own = layer->kv_source == il;
            layer->kv_offset[types[i]] = own ? at : model->layers[layer->kv_source].kv_offset[types[i]];
            if (own && !model->hparams.arch->encoder)
                at += mr_layer_kv_layout(model, types[i], il, &offset).block_bytes;
        }
    }
}

/* "1.1B Q4_K": parameters, and the type that most bytes have. */
static void label_type(mr_loader *l) {
    mr_model_info *info = &l->model->info;
    const mr_dtype_info *type = NULL;
    size_t most = 0;
    for (uint32_t i = 0; i < sizeof l->bytes_of_type / sizeof l->bytes_of_type[0]; i++) {
        if (l->bytes_of_type[i] <= most) continue;
        most = l->bytes_of_type[i];
        type = mr_dtype_find(i);
    }
    double n = (double)info->n_params;
    snprintf(info->type_label, sizeof info->type_label, n >= 1e9 ? "%.1fB %s" : "%.1fM %s",
             n >= 1e9 ? n / 1e9 : n / 1e6, type != NULL ? type->name : "?");
}

static void fill_info(mr_loader *l) {
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
    info->encoder = h->arch->encoder;
    info->first_device_layer = mr_model_first_device_layer(l->model);
    if (l->model->device != NULL) snprintf(info->device, sizeof info->device, "%s", l->model->device->backend->name);
    label_type(l);
}

/* The threads that were asked for; by default the physical cores, fewer for small models: a member that reads less than
 * this in a step waits longer at barriers than it works. */
static int threads_for(const mr_loader *l) {
    enum { BYTES_PER_THREAD = 16 << 20 };
    if (l->options->n_threads != 0) return l->options->n_threads;
    size_t useful = 1 + mr_gguf_tensor_bytes(l->gguf) / BYTES_PER_THREAD;
    int n_cores = mr_physical_cores();
    return useful < (size_t)n_cores ? (int)useful : n_cores;
}

static mr_status load_all(mr_loader *l) {
    mr_model *model = l->model;
    mr_status status = mr_hparams_read(&model->hparams, l->gguf, l->err);
    if (status == MR_OK) status = mr_team_new(&model->team, threads_for(l), l->err);
    if (status == MR_OK) status = load_embedding(l);
    if (status == MR_OK) status = mr_device_open(l);
    if (status == MR_OK && mr_model_first_device_layer(model) > 0)
        status = mr_footprint_check(l->gguf, &model->hparams, l->options->quantize, mr_model_first_device_layer(model),
                                    l->err);
    struct mr_backend *backend = model->device != NULL ? model->device->backend : NULL;
    l->backend = mr_model_first_device_layer(model) > 0 ? NULL : backend; /* what is made of the embeddings */
    if (status == MR_OK) status = load_per_layer(l);
    if (status == MR_OK) status = load_positions(l);
    if (status == MR_OK) status = load_streams(l, "altup_proj", model->streams_in);
    l->backend = backend;
    if (status == MR_OK) status = load_streams(l, "altup_unembd_proj", model->streams_out);
    if (status == MR_OK) status = load_ropes(l);
    if (status != MR_OK) return status;
    model->layers = calloc(model->hparams.n_layer, sizeof *model->layers);
    if (model->layers == NULL)
        return mr_fail_nomem(l->err, model->hparams.n_layer * sizeof *model->layers, "the layers");
    for (uint32_t il = 0; il < model->hparams.n_layer && status == MR_OK; il++) {
        bool here = il < mr_model_first_device_layer(model);
        l->backend = here ? NULL : backend;
        status = mr_load_layer(l, il);
        if (status == MR_OK && !here) status = mr_device_place_layer(model, il, l->err);
    }
    l->backend = backend;
    if (status == MR_OK) status = load_output(l);
    if (status == MR_OK) place_layers(model);
    if (status == MR_OK && mr_model_first_device_layer(model) > 0) status = mr_forward_buffers_init(model, l->err);
    if (status == MR_OK && model->device != NULL) status = mr_device_place_model(model, l->err);
    if (status == MR_OK && model->device != NULL) status = mr_device_buffers_init(model, l->err);
    if (status == MR_OK) fill_info(l);
    return status;
}

/* *on_device: whether it was to be computed on a device that was opened for it. */
static mr_status try_load(mr_model **out, const mr_gguf *gguf, const mr_model_options *options, bool *on_device,
                          mr_error *err) {
    mr_model *model = calloc(1, sizeof *model);
    if (model == NULL) return mr_fail_nomem(err, sizeof *model, "a model");
    model->gguf = gguf;
    model->ops = mr_ops_active();
    mr_loader l = {.model = model, .gguf = gguf, .options = options, .err = err};
    l.bytes_total = mr_gguf_tensor_bytes(gguf);
    uint64_t start = mr_clock_ns();
    mr_status status = load_all(&l);
    *on_device = model->device != NULL && model->device->owned;
    if (status != MR_OK) {
        mr_model_free(model);
        return status;
    }
    MR_INFO("loaded %s %s (%s) in %.2f s: %zu MiB of weights, %d threads", model->info.arch, model->info.name,
            model->info.type_label, mr_clock_since(start), model->info.weight_bytes >> 20, mr_team_size(model->team));
    *out = model;
    return MR_OK;
}

/* What a device may lack for a model, or fail at. */
static bool is_of_device(mr_status status) {
    return status == MR_ERR_NOMEM || status == MR_ERR_UNSUPPORTED || status == MR_ERR_UNAVAILABLE;
}

mr_status mr_model_load(mr_model **out, const mr_gguf *gguf, const mr_model_options *options, mr_error *err) {
    mr_model_options chosen = options != NULL ? *options : (mr_model_options){0};
    bool on_device = false;
    *out = NULL;
    mr_status status = try_load(out, gguf, &chosen, &on_device, err);
    bool is_auto = chosen.device != NULL && strcmp(chosen.device, "auto") == 0;
    if (!is_auto || !on_device || !is_of_device(status)) return status;
    MR_WARN("computing on the CPU: %s", err->text);
    *err = (mr_error){0};
    chosen.device = "cpu";
    return try_load(out, gguf, &chosen, &on_device, err);
}

void mr_model_free(mr_model *model) {
    if (model == NULL) return;
    for (uint32_t il = 0; model->layers != NULL && il < model->hparams.n_layer; il++) {
        mr_device_free_layer(model, &model->layers[il]);
        mr_free_layer(&model->layers[il], model->hparams.n_head, model->hparams.n_expert);
    }
    free(model->layers);
    for (size_t i = 0; i < MR_MAX_STREAMS - 1; i++) {
        mr_free_linear(&model->streams_in[i]);
        mr_free_linear(&model->streams_out[i]);
    }
    mr_free_linear(&model->per_layer.from_embd);
    free(model->per_layer.norm.weight);
    free(model->per_layer.norm.bias);
    free(model->positions);
    free(model->embd_norm.weight);
    free(model->embd_norm.bias);
    free(model->output_norm.weight);
    free(model->output_norm.bias);
    mr_free_linear(&model->output);
    for (int i = 0; i < MR_N_ROPES; i++) free(model->ropes[i].inv_freq);
    mr_forward_buffers_free(model);
    mr_device_free(model->device);
    mr_team_free(model->team);
    free(model);
}

const mr_model_info *mr_model_get_info(const mr_model *model) {
    return &model->info;
}

mr_kv_layout mr_model_kv_layout(const mr_model *model, mr_kv_type type) {
    const mr_hparams *h = &model->hparams;
    mr_kv_layout all = mr_kv_layout_of(type, h->n_layer, h->n_head_kv, h->head_dim_k, h->head_dim_v);
    all.block_bytes = 0; /* what the layers need, where they differ */
    for (uint32_t il = 0; il < h->n_layer; il++) {
        size_t offset;
        if (model->layers[il].kv_source != il) continue;
        size_t bytes = mr_layer_kv_layout(model, type, il, &offset).block_bytes;
        all.block_bytes = mr_kv_bytes_with(h, all.block_bytes, bytes);
    }
    if (all.block_bytes == 0) all.block_bytes = 64; /* no layer attends; the administration still counts in blocks */
    return all;
}

size_t mr_model_state_bytes(const mr_model *model) {
    return (model->n_state_floats + model->n_device_state_floats) * sizeof(float);
}

mr_team *mr_model_team(mr_model *model) {
    return model->team;
}
