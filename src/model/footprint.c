#include "model/footprint.h"

#include "base/memory.h"
#include "compute/dtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_float(uint32_t type) {
    return type == MR_F32 || type == MR_F16 || type == MR_BF16;
}

static uint64_t n_values(const mr_gguf_tensor *tensor) {
    uint64_t n = 1;
    for (uint32_t d = 0; d < tensor->n_dims; d++) n *= tensor->shape[d]; /* bounded when the file was opened */
    return n;
}

/* Bytes of the tensor's values in another type. */
static size_t bytes_as(const mr_gguf_tensor *tensor, mr_dtype type) {
    const mr_dtype_info *info = mr_dtype_find((uint32_t)type);
    return (size_t)(n_values(tensor) / info->block_values * info->block_bytes);
}

/* Whether the tensor's rows stay in the file. */
static bool stays_mapped(const char *name, bool tied) {
    return (strcmp(name, "token_embd.weight") == 0 && !tied) || strcmp(name, "per_layer_token_embd.weight") == 0;
}

static size_t tensor_bytes(const mr_gguf_tensor *tensor, const mr_hparams *h, const mr_quant_mix *mix, bool tied,
                           bool all_matrices) {
    if (!mr_quant_allowed(tensor->name, tensor->n_dims)) return (size_t)n_values(tensor) * sizeof(float);
    if (mix == NULL || !(all_matrices || is_float(tensor->type))) return tensor->n_bytes;
    mr_quant_tensor what = {.name = tensor->name,
                            .n_dims = tensor->n_dims,
                            .n_in = tensor->shape[0],
                            .n_layer = h->n_layer,
                            .n_gqa = h->n_head_kv > 0 ? h->n_head / h->n_head_kv : 1,
                            .n_expert = h->n_expert,
                            .tied = tied};
    return bytes_as(tensor, mr_quant_mix_type(mix, &what));
}

size_t mr_footprint_weights(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix,
                            bool all_matrices) {
    bool tied = mr_gguf_find_tensor(gguf, "output.weight") == NULL;
    size_t total = 0;
    for (size_t i = 0; i < mr_gguf_n_tensors(gguf); i++) {
        const mr_gguf_tensor *tensor = mr_gguf_tensor_at(gguf, i);
        if (!stays_mapped(tensor->name, tied)) total += tensor_bytes(tensor, hparams, mix, tied, all_matrices);
    }
    return total;
}

/* Whether the tensor is applied to a token's embedding once, before the first layer. */
static bool is_input(const char *name) {
    static const char *const begins[] = {"per_layer_model_proj.", "per_layer_proj_norm.", "altup_proj.",
                                         "position_embd.", "token_types."};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        if (strncmp(name, begins[i], strlen(begins[i])) == 0) return true;
    }
    return false;
}

void mr_footprint_by_layer(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix, size_t *layers,
                           size_t *others, size_t *embeddings) {
    bool tied = mr_gguf_find_tensor(gguf, "output.weight") == NULL;
    *others = *embeddings = 0;
    for (uint32_t il = 0; il < hparams->n_layer; il++) layers[il] = 0;
    for (size_t i = 0; i < mr_gguf_n_tensors(gguf); i++) {
        const mr_gguf_tensor *tensor = mr_gguf_tensor_at(gguf, i);
        size_t n_bytes = tensor_bytes(tensor, hparams, mix, tied, false);
        unsigned il = 0;
        if (stays_mapped(tensor->name, false)) *embeddings += tensor->n_bytes;
        if (stays_mapped(tensor->name, tied)) continue;
        if (sscanf(tensor->name, "blk.%4u.", &il) == 1 && il < hparams->n_layer)
            layers[il] += n_bytes;
        else
            *(is_input(tensor->name) ? embeddings : others) += n_bytes;
    }
}

size_t mr_footprint_kv(const mr_hparams *hparams, mr_kv_type type, uint64_t n_tokens) {
    size_t block = 0;
    for (uint32_t il = 0; il < hparams->n_layer; il++) {
        if (mr_layer_kv_source(hparams, il) != il) continue;
        mr_layer_dims dims = mr_layer_dims_of(hparams, il);
        size_t bytes = mr_kv_layout_of(type, 1, dims.n_head_kv, dims.head_dim_k, dims.head_dim_v).block_bytes;
        block = mr_kv_bytes_with(hparams, block, bytes);
    }
    return (size_t)((n_tokens + MR_KV_BLOCK - 1) / MR_KV_BLOCK) * block;
}

size_t mr_footprint_state(const mr_hparams *hparams) {
    size_t n = 0;
    for (uint32_t il = 0; il < hparams->n_layer; il++) n += mr_layer_state_floats(hparams, il);
    return n * sizeof(float);
}

const mr_quant_mix *mr_footprint_best_mix(const mr_gguf *gguf, const mr_hparams *hparams, size_t n_bytes,
                                          size_t *weight_bytes) {
    const mr_quant_mix *best = NULL, *mix;
    *weight_bytes = 0;
    for (size_t i = 0; (mix = mr_quant_mix_at(i)) != NULL; i++) {
        size_t bytes = mr_footprint_weights(gguf, hparams, mix, true);
        if (bytes > n_bytes || bytes <= *weight_bytes) continue;
        best = mix;
        *weight_bytes = bytes;
    }
    return best;
}

static double gib(size_t bytes) {
    return (double)bytes / (1 << 30);
}

/* Bytes of the first n_layers layers. */
static size_t bytes_of_layers(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix,
                              uint32_t n_layers) {
    size_t *layers = calloc(hparams->n_layer, sizeof *layers), others, embeddings, total = 0;
    if (layers == NULL) return SIZE_MAX;
    mr_footprint_by_layer(gguf, hparams, mix, layers, &others, &embeddings);
    for (uint32_t il = 0; il < n_layers; il++) total += layers[il];
    free(layers);
    return total;
}

mr_status mr_footprint_check(const mr_gguf *gguf, const mr_hparams *hparams, const mr_quant_mix *mix, uint32_t n_layers,
                             mr_error *err) {
    bool all = n_layers == hparams->n_layer;
    size_t available = mr_available_memory(), fits;
    size_t needed =
        all ? mr_footprint_weights(gguf, hparams, mix, false) : bytes_of_layers(gguf, hparams, mix, n_layers);
    if (available == 0 || needed <= available) return MR_OK;
    if (!all)
        return mr_fail(err, MR_ERR_NOMEM,
                       "the %u layers that do not fit on the device take %.2f GiB and %.2f GiB of memory are free; "
                       "choose a smaller quantization",
                       n_layers, gib(needed), gib(available));
    /* Something has to be left for keys, values and the host. */
    const mr_quant_mix *best = mr_footprint_best_mix(gguf, hparams, available / 10 * 9, &fits);
    if (best == NULL) {
        return mr_fail(err, MR_ERR_NOMEM,
                       "the weights take %.2f GiB and %.2f GiB of memory are free; no quantization is small enough, "
                       "choose a smaller model",
                       gib(needed), gib(available));
    }
    return mr_fail(
        err, MR_ERR_NOMEM,
        "the weights take %.2f GiB and %.2f GiB of memory are free; quantized as %s they would take %.2f GiB",
        gib(needed), gib(available), mr_quant_mix_name(best), gib(fits));
}
