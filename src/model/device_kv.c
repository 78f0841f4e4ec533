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
        size_t *side = il < mr_model_first_device_layer(model) ? here : there;
        *side = mr_kv_bytes_with(&model->hparams, *side, bytes);
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

mr_model_needs mr_model_needs_of(const mr_model *model, mr_kv_type type, bool on_device) {
    size_t here, there;
    block_bytes(model, type, &here, &there);
    return on_device ? (mr_model_needs){there, model->n_device_state_floats * sizeof(float)}
                     : (mr_model_needs){here, model->n_state_floats * sizeof(float)};
}

size_t mr_model_device_free(const mr_model *model) {
    size_t total, free;
    if (model->device == NULL) return 0;
    model->device->backend->ops->memory(model->device->backend, &total, &free);
    return free;
}

/* ---- recurrent states
 * ------------------------------------------------------------------------------------------------- */

static const char STATES[] = "the recurrent states; lower max_concurrent";

/* Pages are committed when they are first written. */
static uint8_t *map_zeros(size_t n_bytes) {
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return data != MAP_FAILED ? data : NULL;
}

mr_status mr_model_states_init(mr_model *model, mr_state_pool *pool, size_t n_states, mr_error *err) {
    *pool = (mr_state_pool){.n_states = n_states,
                            .state_bytes = model->n_state_floats * sizeof(float),
                            .device_state_bytes = model->n_device_state_floats * sizeof(float)};
    size_t one = mr_model_state_bytes(model), here = n_states * pool->state_bytes;
    if (one > 0 && n_states > SIZE_MAX / one)
        return mr_fail(err, MR_ERR_INVALID, "%zu recurrent states of %zu bytes are not possible", n_states, one);
    if (here > 0 && (pool->data = map_zeros(here)) == NULL) return mr_fail_nomem(err, here, STATES);
    if (n_states * pool->device_state_bytes == 0) return MR_OK;
    mr_backend *b = model->device->backend;
    void *there = NULL;
    mr_status status = b->ops->alloc(b, n_states * pool->device_state_bytes, STATES, &there, err);
    pool->device_data = there;
    if (status != MR_OK) mr_model_states_free(model, pool);
    return status;
}

void mr_model_states_free(mr_model *model, mr_state_pool *pool) {
    if (pool->data != NULL) munmap(pool->data, pool->n_states * pool->state_bytes);
    if (pool->device_data != NULL) model->device->backend->ops->release(model->device->backend, pool->device_data);
    *pool = (mr_state_pool){0};
}

mr_state mr_state_at(const mr_state_pool *pool, size_t i) {
    mr_state state = {0};
    if (pool->data != NULL) state.data = (float *)(void *)(pool->data + i * pool->state_bytes);
    if (pool->device_data != NULL)
        state.device_data = (float *)(void *)(pool->device_data + i * pool->device_state_bytes);
    return state;
}
