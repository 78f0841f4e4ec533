/* floors: model */
#define _GNU_SOURCE
/* Folders whose weights are quantized already: every value is the one that an independent decoder made
 * (tests/conformance/hf_quantized), models of them run, and what does not fit is refused. */
#include "base/buf.h"
#include "base/file.h"
#include "compute/dtype.h"
#include "model/gguf_quantize.h"
#include "model/hf_model.h"
#include "model/hf_quantized.h"
#include "model/model.h"
#include "model/tensor_rows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIR MR_SOURCE_DIR "/tests/conformance/hf_quantized"

static uint64_t mix(uint64_t counter) {
    uint64_t z = (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t value_hash(const float *values, size_t n) {
    uint64_t hash = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        hash += (uint64_t)bits * (mix(i) | 1);
    }
    return hash;
}

static uint64_t tensor_hash(const mr_gguf_tensor *tensor, mr_team *team) {
    mr_error err = {0};
    mr_tensor_rows rows;
    size_t n_rows = (size_t)tensor->shape[1], n = n_rows * (size_t)tensor->shape[0];
    size_t row_bytes = tensor->n_bytes / n_rows;
    if (mr_tensor_rows_get(tensor, 0, n_rows, row_bytes, team, &rows, &err) != MR_OK) fail_msg("%s", err.text);
    float *values = malloc(n * sizeof *values);
    mr_dtype_find(tensor->type)->dequantize(rows.rows, values, n);
    mr_tensor_rows_free(&rows);
    /* Some rows alone are the same rows. */
    if (mr_tensor_rows_get(tensor, 5, 3, row_bytes, NULL, &rows, &err) != MR_OK) fail_msg("%s", err.text);
    float *some = malloc(3 * (size_t)tensor->shape[0] * sizeof *some);
    mr_dtype_find(tensor->type)->dequantize(rows.rows, some, 3 * (size_t)tensor->shape[0]);
    mr_tensor_rows_free(&rows);
    assert_memory_equal(some, values + 5 * tensor->shape[0], 3 * (size_t)tensor->shape[0] * sizeof *some);
    uint64_t hash = value_hash(values, n);
    free(some);
    free(values);
    return hash;
}

static mr_gguf *open_folder(const char *name) {
    char path[512];
    mr_error err = {0};
    mr_gguf *gguf;
    snprintf(path, sizeof path, "%s/%s", DIR, name);
    if (mr_hf_open(&gguf, path, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    return gguf;
}

static char *golden(void) {
    mr_buf text = {0};
    mr_error err = {0};
    if (mr_file_read(&text, DIR "/golden.txt", 1 << 20, &err) != MR_OK) fail_msg("%s", err.text);
    return mr_buf_take(&text);
}

static void test_values(void **state) {
    (void)state;
    mr_error err = {0};
    mr_team *team;
    assert_int_equal(mr_team_new(&team, 2, &err), MR_OK);
    char *text = golden(), *rest = NULL;
    int n = 0;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest), n++) {
        char folder[64], name[64], type[16];
        unsigned long long hash;
        assert_int_equal(sscanf(line, "%63s %63s %15s %llx", folder, name, type, &hash), 4);
        mr_gguf *gguf = open_folder(folder);
        const mr_gguf_tensor *tensor = mr_gguf_find_tensor(gguf, name);
        assert_non_null(tensor);
        assert_string_equal(mr_dtype_find(tensor->type)->name, type);
        if (tensor_hash(tensor, NULL) != hash || tensor_hash(tensor, team) != hash)
            fail_msg("%s: %s (%s) has other values", folder, name, type);
        mr_gguf_close(gguf);
    }
    free(text);
    mr_team_free(team);
    assert_int_equal(n, 13 * 7);
}

enum { N_IDS = 16 };

static void logits_of(const mr_gguf *gguf, float *logits) {
    mr_error err = {0};
    mr_model *model;
    mr_model_options options = {.n_threads = 2};
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("%s", err.text);
    int32_t ids[N_IDS], blocks[N_IDS / MR_KV_BLOCK + 1];
    for (int32_t i = 0; i < N_IDS; i++) ids[i] = i * 7 % 40;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) blocks[i] = (int32_t)i;
    mr_kv_pool pool;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, sizeof blocks / sizeof blocks[0], &err), MR_OK);
    mr_batch_run run = {.tokens = ids, .n_tokens = N_IDS, .blocks = blocks, .n_logits = N_IDS, .logits = logits};
    if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    mr_kv_pool_free(&pool);
    mr_model_free(model);
}

/* The model as it is against the same values written as F32. */
static void check_model(const char *name) {
    enum { N = N_IDS * 40 };
    static float packed[N], floats[N];
    char path[] = "/tmp/mr-test-quantized-XXXXXX";
    const char *out = path;
    mr_error err = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    mr_gguf *gguf = open_folder(name), *written;
    logits_of(gguf, packed);
    mr_gguf_quantize_options options = {.mix = mr_quant_mix_find("F32"), .again = true, .n_threads = 2};
    if (mr_gguf_quantize(gguf, path, &options, NULL, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    mr_gguf_close(gguf);
    assert_int_equal(mr_gguf_open(&written, &out, 1, &err), MR_OK);
    logits_of(written, floats);
    mr_gguf_close(written);
    unlink(path);
    double squares = 0, all = 0;
    for (int i = 0; i < N; i++) {
        squares += ((double)packed[i] - (double)floats[i]) * ((double)packed[i] - (double)floats[i]);
        all += (double)floats[i] * (double)floats[i];
    }
    double relative = sqrt(squares / all);
    print_message("%-18s %.2e of the logits\n", name, relative);
    if (!(relative < 0.05)) fail_msg("%s: logits differ by %g", name, relative);
}

static void test_models(void **state) {
    (void)state;
    char *text = golden(), *rest = NULL, last[64] = "";
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        char folder[64];
        assert_int_equal(sscanf(line, "%63s", folder), 1);
        if (strcmp(folder, last) == 0) continue;
        memcpy(last, folder, sizeof last);
        check_model(folder);
    }
    free(text);
}

static void test_configurations(void **state) {
    (void)state;
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}", "\"bitsandbytes\""},
        {"{\"bits\":4}", "no quant_method"},
        {"{\"quant_method\":\"gptq\",\"bits\":3,\"group_size\":128}", "3 bits"},
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}", "\"marlin\""},
        {"{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}", "\"gemv\""},
        {"{\"quant_method\":\"awq\",\"bits\":3}", "3 bits"},
        {"{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", "\"e5m2\""},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[0,128]}", "weight_block_size"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", "weight_block_size"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}", "\"pack-quantized\""},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",\"config_groups\":{\"group_0\":"
         "{\"weights\":{\"type\":\"float\",\"num_bits\":4}}}}",
         "group_0"},
    };
    mr_hf_quantization q;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        json_t *config = json_object();
        json_object_set_new(config, "quantization_config", json_loads(cases[i].config, 0, NULL));
        assert_int_not_equal(mr_hf_quantization_read(&q, config, &err), MR_OK);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("%s says: %s", cases[i].config, err.text);
        json_decref(config);
    }
    mr_error err = {0};
    json_t *none = json_object();
    assert_int_equal(mr_hf_quantization_read(&q, none, &err), MR_OK);
    assert_int_equal(q.method, MR_HF_PLAIN);
    json_decref(none);
}

/* Loads a copy of the folder in which the first `from` of its safetensors is `to` (of the same length), or where `from`
 * is NULL the last byte is `to`'s; returns what is said. */
static void check_changed(const char *name, const char *from, const char *to, const char *says) {
    char dir[] = "/tmp/mr-test-quantized-XXXXXX", path[600];
    mr_error err = {0};
    mr_buf config = {0}, data = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s/config.json", DIR, name);
    assert_int_equal(mr_file_read(&config, path, 1 << 20, &err), MR_OK);
    snprintf(path, sizeof path, "%s/%s/model.safetensors", DIR, name);
    assert_int_equal(mr_file_read(&data, path, 1 << 24, &err), MR_OK);
    char *at = from == NULL ? data.data + data.len - 1 : memmem(data.data, data.len, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, from == NULL ? 1 : strlen(from));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i == 0 ? "config.json" : "model.safetensors");
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        const mr_buf *bytes = i == 0 ? &config : &data;
        assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
        fclose(file);
    }
    mr_gguf *gguf = NULL;
    mr_model *model = NULL;
    mr_model_options options = {.n_threads = 1};
    mr_status status = mr_hf_open(&gguf, dir, &err);
    if (status == MR_OK) status = mr_model_load(&model, gguf, &options, &err);
    assert_int_not_equal(status, MR_OK);
    if (strstr(err.text, says) == NULL) fail_msg("%s with %s says: %s", name, to, err.text);
    mr_gguf_close(gguf);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i == 0 ? "config.json" : "model.safetensors");
        unlink(path);
    }
    rmdir(dir);
    mr_buf_free(&config);
    mr_buf_free(&data);
}

static void test_changed_files(void **state) {
    (void)state;
    check_changed("gptq-4-sym", "q_proj.qzeros", "q_proj.qzer0s", "has no qzeros");
    check_changed("gptq-4-sym", "q_proj.scales", "q_proj.scale5", "has no scales");
    check_changed("gptq-4-sym", "\"shape\":[8,64]", "\"shape\":[64,8]", "do not fit each other");
    check_changed("awq", "\"dtype\":\"I32\"", "\"dtype\":\"F32\"", "do not fit each other");
    check_changed("fp8-row", "\"shape\":[64,1]", "\"shape\":[1,64]", "do not fit");
    check_changed("gptq-4-act-order", NULL, "\x7F", "names group");
    check_changed("fp8-bare", NULL, "\x7F", "not finite");
    check_changed("fp8-e5m2", NULL, "\x7C", "not finite");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_models),
                                       cmocka_unit_test(test_configurations), cmocka_unit_test(test_changed_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
