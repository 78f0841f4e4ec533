#define MR_LOG_TARGET "mistral_runner::text"
#include "base/file.h"
#include "base/log.h"
#include "text/text_model_impl.h"

#include <jansson.h>
#include <stdlib.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

static void read_float(const json_t *config, const char *key, float *value) {
    const json_t *member = json_object_get(config, key);
    if (json_is_number(member)) *value = (float)json_number_value(member);
}

static void read_int(const json_t *config, const char *key, int32_t *value) {
    const json_t *member = json_object_get(config, key);
    if (json_is_integer(member) && json_integer_value(member) >= 0 && json_integer_value(member) <= INT32_MAX)
        *value = (int32_t)json_integer_value(member);
}

/* The object in FOLDER/generation_config.json, or NULL. */
static json_t *load_config(const char *folder) {
    char *path = folder != NULL ? mr_path_join(folder, "generation_config.json") : NULL;
    json_t *config = NULL;
    if (path != NULL && mr_path_is_file(path)) {
        mr_buf text = {0};
        mr_error err = {0};
        json_error_t where;
        if (mr_file_read(&text, path, MAX_CONFIG_BYTES, &err) != MR_OK) {
            MR_WARN("ignored: %s", err.text);
        } else if ((config = json_loadb(mr_buf_cstr(&text), text.len, 0, &where)) == NULL) {
            MR_WARN("%s is not JSON and is ignored: line %d: %s", path, where.line, where.text);
        }
        mr_buf_free(&text);
    }
    free(path);
    return config;
}

static mr_sampling from_config(const json_t *config) {
    mr_sampling s = mr_sampling_default();
    read_float(config, "temperature", &s.temperature);
    read_float(config, "top_p", &s.top_p);
    read_float(config, "min_p", &s.min_p);
    read_float(config, "repetition_penalty", &s.repeat_penalty);
    read_int(config, "top_k", &s.top_k);
    if (json_is_false(json_object_get(config, "do_sample"))) s.temperature = 0;
    return s;
}

static mr_sampling from_metadata(const mr_gguf *gguf) {
    mr_sampling s = mr_sampling_default();
    uint32_t top_k;
    mr_gguf_f32(gguf, "general.sampling.temp", &s.temperature);
    mr_gguf_f32(gguf, "general.sampling.top_p", &s.top_p);
    mr_gguf_f32(gguf, "general.sampling.min_p", &s.min_p);
    mr_gguf_f32(gguf, "general.sampling.penalty_repeat", &s.repeat_penalty);
    if (mr_gguf_u32(gguf, "general.sampling.top_k", &top_k) && top_k <= INT32_MAX) s.top_k = (int32_t)top_k;
    if (mr_gguf_u32(gguf, "general.sampling.penalty_last_n", &top_k) && top_k <= INT32_MAX)
        s.repeat_last_n = (int32_t)top_k;
    return s;
}

mr_sampling mr_recommended_sampling(const char *folder, const mr_gguf *gguf) {
    json_t *config = load_config(folder);
    mr_sampling sampling = json_is_object(config) ? from_config(config) : from_metadata(gguf);
    mr_error err = {0};
    if (mr_sampling_check(&sampling, &err) != MR_OK) {
        MR_WARN("the sampling that the model recommends is ignored: %s", err.text);
        sampling = mr_sampling_default();
    }
    json_decref(config);
    return sampling;
}
