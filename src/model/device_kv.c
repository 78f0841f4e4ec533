#define _DEFAULT_SOURCE
/* Keys, values and recurrent states, on the CPU and on a device. */
#include "model/device.h"

#include <string.h>
#include <sys/mman.h>

/* Bytes of a block in the memory of the CPU's layers and of the device's. */
static void block_bytes(const mr_model *model, mr_kv_type type, size_t *here, size_t *there) {
    *here = *there = 0;
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        size_t offset;
        if (model->layers[il].kv_source != il) continue;
        size_t bytes = mr_layer_kv_layout(model, type, il, &offset).block_bytes;
        *(il < mr_model_first_device_layer(model) ? here : there) += bytes;
    }
}

mr_status mr_model_kv_init(mr_model *model, mr_kv_pool *pool, mr_kv_type type, size_t n_blocks, mr_error *err) {
    mr_kv_layout layout = mr_model_kv_layout(model, type);
    if (model->device == NULL) return mr_kv_pool_init(pool, &layout, n_blocks, err);
    size_t here, there;
    block_bytes(model, type, &here, &there);
    if (n_blocks == 0 || n_blocks > INT32_MAX / MR_KV_BLOCK || (there > 0 && n_blocks > SIZE_MAX / there))
        return mr_fail(err, MR_ERR_INVALID, "a KV cache of %zu blocks of %zu bytes is not possible", n_blocks, there);
    *pool = (mr_kv_pool){.layout = layout, .n_blocks = n_blocks};
    mr_backend *b = model->device->backend;
    void *memory = NULL;
    mr_status status = MR_OK;
    layout.block_bytes = here;
    if (here > 0) status = mr_kv_pool_init(pool, &layout, n_blocks, err);
    if (status == MR_OK)
        status =
            b->ops->alloc(b, n_blocks * there + 64, "the KV cache; lower context_size or max_concurrent", &memory, err);
    if (status != MR_OK) {
        mr_model_kv_free(model, pool);
        return status;
    }
    pool->device_data = memory;
    pool->device_block_bytes = there;
    return MR_OK;
}

void mr_model_kv_free(mr_model *model, mr_kv_pool *pool) {
    if (pool->device_data != NULL) {
        mr_backend *b = model->device->backend;
        b->ops->forget(b);
        b->ops->release(b, pool->device_data);
    }
    mr_kv_pool_free(pool);
}

void mr_model_kv_copy(mr_model *model, const mr_kv_pool *pool, int32_t to, int32_t from) {
    size_t bytes = pool->layout.block_bytes, there = pool->device_block_bytes;
    if (pool->data != NULL) memcpy(pool->data + (size_t)to * bytes, pool->data + (size_t)from * bytes, bytes);
    if (pool->device_data == NULL) return;
    mr_backend *b = model->device->backend;
    b->ops->copy(b, pool->device_data + (size_t)to * there, pool->device_data + (size_t)from * there, there);
}

size_t mr_model_kv_blocks_free(const mr_model *model, mr_kv_type type) {
    size_t here, there, total, free;
    if (model->device == NULL) return SIZE_MAX;
    block_bytes(model, type, &here, &there);
    if (there == 0) return SIZE_MAX;
    mr_backend *b = model->device->backend;
    b->ops->memory(b, &total, &free);
    return free / 10 * 9 / there; /* something is left for graphs and transfers */
}

size_t mr_model_device_free(const mr_model *model) {
    size_t total, free;
    if (model->device == NULL || model->device->first_layer > 0) return 0;
    model->device->backend->ops->memory(model->device->backend, &total, &free);
    return free;
}

mr_status mr_model_states_alloc(mr_model *model, size_t n_bytes, void **states, mr_error *err) {
    *states = NULL;
    if (model->device != NULL) {
        mr_backend *b = model->device->backend;
        return b->ops->alloc(b, n_bytes, "the recurrent states; lower max_concurrent", states, err);
    }
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return mr_fail_nomem(err, n_bytes, "the recurrent states; lower max_concurrent");
    *states = data;
    return MR_OK;
}

void mr_model_states_free(mr_model *model, void *states, size_t n_bytes) {
    if (states == NULL) return;
    if (model->device != NULL)
        model->device->backend->ops->release(model->device->backend, states);
    else
        munmap(states, n_bytes);
}
