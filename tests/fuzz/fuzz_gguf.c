/* The GGUF reader, and model loading with a forward pass where the image is a whole model. */
#include "model/gguf.h"

#include "base/log.h"
#include "model/model.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_values(const mr_gguf *gguf) {
    for (size_t i = 0; i < mr_gguf_n_values(gguf); i++) {
        const mr_gguf_value *value = mr_gguf_value_at(gguf, i);
        mr_gguf_str text;
        int64_t integer;
        float real;
        for (size_t cursor = 0; mr_gguf_array_next_string(value, &cursor, &text);) {
            if (text.len > 0 && text.data[text.len - 1] == 1) return;
        }
        for (uint64_t k = 0; k < value->n; k++) {
            if (!mr_gguf_array_i64(value, k, &integer) && !mr_gguf_array_f32(value, k, &real)) break;
        }
    }
}

static void forward_once(mr_model *model) {
    mr_kv_pool pool;
    mr_error err;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F16);
    size_t state_bytes = mr_model_state_bytes(model);
    if (layout.block_bytes > (size_t)64 << 20 || state_bytes > (size_t)64 << 20 ||
        mr_kv_pool_init(&pool, &layout, 1, &err) != MR_OK)
        return;
    int32_t block = 0, tokens[] = {0, 1, 2};
    float *logits = malloc(mr_model_get_info(model)->n_vocab * sizeof *logits);
    mr_batch_run run = {.tokens = tokens, .n_tokens = 3, .blocks = &block, .n_logits = 1, .logits = logits};
    mr_state_pool states;
    bool ready = logits != NULL && mr_model_states_init(model, &states, 1, &err) == MR_OK;
    if (ready) {
        run.state_out = mr_state_at(&states, 0);
        mr_model_forward(model, &pool, &run, 1, NULL, &err);
        mr_model_states_free(model, &states);
    }
    free(logits);
    mr_kv_pool_free(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mr_gguf *gguf;
    mr_error err = {0};
    mr_log_set_filter("off");
    if (mr_gguf_open_memory(&gguf, data, size, &err) != MR_OK) return err.text[0] == '\0' ? abort(), 0 : 0;
    walk_values(gguf);
    mr_model *model;
    mr_model_options options = {.n_threads = 1};
    if (mr_model_load(&model, gguf, &options, &err) == MR_OK) {
        forward_once(model);
        mr_model_free(model);
    }
    mr_gguf_close(gguf);
    return 0;
}
