#define MR_LOG_TARGET "mistral_runner::model"
#include "model/device_plan.h"

#include "base/log.h"
#include "model/device.h"
#include "model/footprint.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mr_plan mr_plan_layers(const mr_plan_sizes *s) {
    mr_plan plan = {.first_layer = s->n_layer, .bytes_all = s->fixed + s->embedding};
    /* A twentieth, and at least 256 MiB where there is that much, is left to the driver. */
    size_t reserve = s->free / 20, least = (size_t)256 << 20;
    if (reserve < least) reserve = s->free / 4 < least ? s->free / 4 : least;
    plan.bytes_usable = s->free - reserve;
    for (uint32_t il = 0; il < s->n_layer; il++) plan.bytes_all += s->weights[il] + s->kv[il];
    if (plan.bytes_all <= plan.bytes_usable) {
        plan.first_layer = 0;
        plan.bytes = plan.bytes_all;
        return plan;
    }
    size_t bytes = s->fixed;
    for (uint32_t il = s->n_layer; il-- > 1;) {
        bytes += s->weights[il] + s->kv[il];
        if (bytes > plan.bytes_usable) break;
        if (!s->borders[il]) continue;
        plan.first_layer = il;
        plan.bytes = bytes;
    }
    return plan;
}

bool mr_border_allowed(const mr_hparams *h, uint32_t border) {
    for (uint32_t il = border; il < h->n_layer; il++) {
        if (mr_layer_kv_source(h, il) < border) return false;
    }
    return border < h->n_layer;
}

bool mr_model_may_split_at(const mr_model *model, uint32_t il) {
    return il > 0 && mr_border_allowed(&model->hparams, il);
}

/* The last border that is allowed; 0 when all layers go together. */
static uint32_t last_border(const mr_hparams *h) {
    uint32_t il = h->n_layer - 1;
    while (!mr_border_allowed(h, il)) il--;
    return il;
}

enum {
    STATES_PLANNED = 8 * 3, /* states of eight sequences */
    TOGETHER_BYTES = 96,
};

static void fill_kv(const mr_hparams *h, const mr_model_options *o, size_t *kv) {
    uint64_t n_tokens = o->kv_tokens > 0 ? o->kv_tokens : o->n_ctx > 0 ? o->n_ctx : h->n_ctx_train;
    if (o->kv_tokens == 0 && n_tokens > 32768) n_tokens = 32768; /* the engine takes what there is */
    size_t n_blocks = (size_t)((n_tokens + MR_KV_BLOCK - 1) / MR_KV_BLOCK);
    for (uint32_t il = 0; il < h->n_layer; il++) {
        mr_layer_dims d = mr_layer_dims_of(h, il);
        kv[il] = mr_layer_state_floats(h, il) * sizeof(float) * STATES_PLANNED;
        bool shares = h->arch->encoder && il + 1 < h->n_layer; /* see mr_kv_bytes_with */
        if (mr_layer_kv_source(h, il) == il && !shares)
            kv[il] += n_blocks * mr_kv_layout_of(o->kv_type, 1, d.n_head_kv, d.head_dim_k, d.head_dim_v).block_bytes;
    }
}

static double gib(size_t bytes) {
    return (double)bytes / (1 << 30);
}

/* "; layers A to B ..." where some go together, else "". */
static const char *tell_together(const mr_hparams *h, char text[static TOGETHER_BYTES]) {
    uint32_t from = last_border(h);
    text[0] = '\0';
    if (from + 1 < h->n_layer)
        snprintf(text, TOGETHER_BYTES, "; layers %u to %u share keys and values and go together", from, h->n_layer - 1);
    return text;
}

static mr_status does_not_fit(const mr_backend *backend, const mr_hparams *h, const mr_plan *plan,
                              const mr_plan_sizes *s, mr_error *err) {
    char together[TOGETHER_BYTES];
    return mr_fail(err, MR_ERR_NOMEM,
                   "%s has %.2f GiB free for the model and needs %.2f GiB for it (%.2f GiB before the first layer)%s; "
                   "lower context_size or max_concurrent, choose a smaller quantization, or the device cpu",
                   backend->name, gib(plan->bytes_usable), gib(plan->bytes_all), gib(s->fixed),
                   tell_together(h, together));
}

static void log_plan(const mr_backend *backend, const mr_hparams *h, const mr_plan *plan, size_t n_free) {
    char together[TOGETHER_BYTES];
    MR_INFO("%s: layers %u to %u of %u take %.2f of %.2f GiB free%s%s", backend->name, plan->first_layer,
            h->n_layer - 1, h->n_layer, gib(plan->bytes), gib(n_free),
            plan->first_layer > 0 ? "; the layers before them stay on the CPU" : "",
            plan->first_layer > 0 ? tell_together(h, together) : "");
}

/* Chooses the device's layers by the memory that it has free. */
static mr_status plan_device(const mr_loader *l, mr_backend *backend, uint32_t *first_layer) {
    const mr_hparams *h = &l->model->hparams;
    size_t n = h->n_layer, total = 0;
    size_t *sizes = calloc(2 * n, sizeof *sizes);
    bool *borders = calloc(n, sizeof *borders);
    if (sizes == NULL || borders == NULL) {
        free(sizes);
        free(borders);
        return mr_fail_nomem(l->err, 2 * n * sizeof *sizes, "the plan of a device");
    }
    mr_plan_sizes s = {.n_layer = h->n_layer, .weights = sizes, .kv = sizes + n, .borders = borders};
    for (uint32_t il = 0; il < h->n_layer; il++) borders[il] = mr_border_allowed(h, il);
    mr_footprint_by_layer(l->gguf, h, l->options->quantize, sizes, &s.fixed, &s.embedding);
    fill_kv(h, l->options, sizes + n);
    s.fixed += mr_device_buffer_bytes(h);
    backend->ops->memory(backend, &total, &s.free);
    mr_plan plan = mr_plan_layers(&s);
    free(sizes);
    free(borders);
    *first_layer = plan.first_layer;
    if (plan.first_layer == h->n_layer) return does_not_fit(backend, h, &plan, &s, l->err);
    log_plan(backend, h, &plan, s.free);
    return MR_OK;
}

mr_status mr_device_name_check(const char *name, int *number, mr_error *err) {
    *number = 0;
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || strcmp(name, "cuda") == 0) return MR_OK;
    if (strncmp(name, "cuda:", 5) == 0) {
        char *end;
        unsigned long n = name[5] >= '0' && name[5] <= '9' ? strtoul(name + 5, &end, 10) : ULONG_MAX;
        if (n < 1024 && *end == '\0') {
            *number = (int)n;
            return MR_OK;
        }
    }
    return mr_fail(err, MR_ERR_INVALID, "the device \"%.40s\" is not known; give auto, cpu, cuda or cuda:N", name);
}

/* The device and the border that a test asks for. */
static mr_status check_forced(const mr_hparams *h, const mr_model_options *o, mr_error *err) {
    mr_status status = mr_device_check(o->backend, h, err);
    if (status != MR_OK || mr_border_allowed(h, o->first_device_layer)) return status;
    return mr_fail(err, MR_ERR_INVALID, "the layers of a device cannot begin at %u of %u: the last that may is %u",
                   o->first_device_layer, h->n_layer, last_border(h));
}

/* Gives the model its device; the back end is the device's from here on when `owned`. */
static mr_status set_device(mr_loader *l, mr_backend *backend, bool owned, uint32_t first_layer) {
    mr_device *d = calloc(1, sizeof *d);
    if (d == NULL) {
        if (owned) mr_backend_close(backend);
        return mr_fail_nomem(l->err, sizeof *d, "a device");
    }
    d->backend = backend;
    d->owned = owned;
    d->first_layer = first_layer;
    l->model->device = d;
    return MR_OK;
}

static mr_status open_cuda(mr_loader *l, int number) {
    mr_backend *backend;
    uint32_t first_layer = 0;
    mr_status status = mr_backend_cuda_open(&backend, number, l->err);
    if (status != MR_OK) return status;
    status = mr_device_check(backend, &l->model->hparams, l->err);
    if (status == MR_OK) status = plan_device(l, backend, &first_layer);
    if (status == MR_OK) return set_device(l, backend, true, first_layer);
    mr_backend_close(backend);
    return status;
}

mr_status mr_device_open(mr_loader *l) {
    const mr_model_options *o = l->options;
    int number;
    mr_status status = MR_OK;
    if (o->backend != NULL) {
        status = check_forced(&l->model->hparams, o, l->err);
        return status == MR_OK ? set_device(l, o->backend, false, o->first_device_layer) : status;
    }
    if (o->device == NULL) return MR_OK;
    status = mr_device_name_check(o->device, &number, l->err);
    if (status != MR_OK || strcmp(o->device, "cpu") == 0) return status;
    status = open_cuda(l, number);
    if (status == MR_OK || strcmp(o->device, "auto") != 0) return status;
    MR_INFO("computing on the CPU: %s", l->err->text);
    *l->err = (mr_error){0};
    return MR_OK;
}
