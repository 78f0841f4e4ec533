/* floors: text */
/* Encoders as folders of Hugging Face and sentence-transformers files, and written as GGUF: ids, hidden rows and
 * vectors are those of the references. */
#include "base/file.h"
#include "model/gguf_quantize.h"
#include "model/hf_encoder.h"
#include "model/hf_model.h"
#include "model/hf_pooling.h"
#include "model/safetensors.h"
#include "text/embedding.h"
#include "text/tokenizer_export.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/embedding"

enum { MAX_TOKENS = 64, MAX_EMBD = 64 };
static char scratch[] = "/tmp/mr-test-embedding-XXXXXX";

static const char *in_scratch(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return rmdir(scratch);
}

static mr_text_model *load(const char *path) {
    mr_text_model *model;
    mr_error err = {0};
    mr_text_model_options options = {.paths = &path, .n_paths = 1, .model = {.n_threads = 2}};
    if (mr_text_model_load(&model, &options, &err) != MR_OK) fail_msg("%s", err.text);
    assert_in_range(mr_text_model_info(model)->n_embd, 1, MAX_EMBD);
    return model;
}

static void embed(mr_text_model *model, const char *text, mr_tokens *ids, float *vector) {
    mr_error err = {0};
    mr_embedding_options options = {0};
    if (mr_embedding_tokens(model, text, strlen(text), ids, &err) != MR_OK) fail_msg("%s", err.text);
    if (mr_text_model_embed(model, ids, 1, &options, vector, NULL, NULL, &err) != MR_OK) fail_msg("%s", err.text);
}

/* The ids and vectors of golden.json. */
static void check_texts(const char *name, mr_text_model *model) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s/golden.json", GOLDEN_DIR, name);
    json_t *all = json_load_file(path, 0, NULL);
    assert_true(json_array_size(all) >= 8);
    double worst = 0.0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i), *expected = json_object_get(one, "ids");
        const json_t *values = json_object_get(one, "vector");
        const char *text = json_string_value(json_object_get(one, "text"));
        mr_tokens ids = {0};
        float vector[MAX_EMBD];
        embed(model, text, &ids, vector);
        bool same = ids.n == json_array_size(expected);
        for (size_t k = 0; same && k < ids.n; k++) same = json_integer_value(json_array_get(expected, k)) == ids.ids[k];
        if (!same) fail_msg("%s: other ids of \"%s\"", name, text);
        assert_int_equal(json_array_size(values), mr_text_model_info(model)->n_embd);
        for (size_t k = 0; k < json_array_size(values); k++)
            worst = fmax(worst, fabs(json_number_value(json_array_get(values, k)) - (double)vector[k]));
        mr_tokens_free(&ids);
    }
    print_message("%-12s vectors differ by %.1e at most\n", name, worst);
    if (!(worst <= 2e-5)) fail_msg("%s: vectors differ by %g", name, worst);
    json_decref(all);
}

/* The rows of golden.safetensors. */
static void check_hidden(const char *name, const mr_gguf *gguf) {
    char path[512];
    mr_error err = {0};
    mr_model *model;
    mr_safetensors *golden;
    mr_model_options options = {.n_threads = 2};
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", GOLDEN_DIR, name);
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    if (mr_safetensors_open_file(&golden, path, &err) != MR_OK) fail_msg("%s", err.text);
    const mr_st_tensor *tokens = mr_safetensors_find(golden, "tokens"), *rows = mr_safetensors_find(golden, "hidden");
    uint32_t n = (uint32_t)tokens->shape[0], n_embd = mr_model_get_info(model)->n_embd;
    assert_in_range(n, 1, MAX_TOKENS);
    assert_int_equal(rows->n_bytes, (size_t)n * n_embd * sizeof(float));
    int32_t ids[MAX_TOKENS];
    static const int32_t blocks[] = {0, 1};
    memcpy(ids, tokens->data, n * sizeof *ids);
    mr_kv_pool pool;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, 2, &err), MR_OK);
    float *hidden = calloc((size_t)n * n_embd, sizeof *hidden), worst = 0.0f;
    mr_batch_run run = {.tokens = ids, .n_tokens = n, .blocks = blocks, .n_hidden = n, .hidden = hidden};
    if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < (size_t)n * n_embd; i++) {
        float expected;
        memcpy(&expected, rows->data + i * sizeof expected, sizeof expected);
        if (!(fabsf(expected - hidden[i]) <= worst)) worst = fabsf(expected - hidden[i]);
    }
    print_message("%-12s hidden rows differ by %.1e at most\n", name, (double)worst);
    if (!(worst <= 1e-4f)) fail_msg("%s: hidden rows differ by %g", name, (double)worst);
    free(hidden);
    mr_kv_pool_free(&pool);
    mr_safetensors_close(golden);
    mr_model_free(model);
}

static mr_status put_tokenizer(void *ctx, mr_gguf_writer *writer, mr_error *err) {
    const mr_tokenizer *tokenizer = mr_text_model_tokenizer(ctx);
    return mr_tokenizer_put_gguf(tokenizer, mr_text_model_info(ctx)->n_vocab, NULL, writer, err);
}

static void write_gguf(const mr_gguf *gguf, mr_text_model *model) {
    mr_error err = {0};
    mr_gguf_quantize_options options = {
        .mix = mr_quant_mix_find("F32"), .n_threads = 2, .put_more = put_tokenizer, .put_ctx = model};
    if (mr_gguf_quantize(gguf, in_scratch("f32.gguf"), &options, NULL, &err) != MR_OK) fail_msg("%s", err.text);
}

static void check_folder(const char *name) {
    char path[512];
    mr_error err = {0};
    mr_gguf *gguf;
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    if (mr_hf_open(&gguf, path, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    check_hidden(name, gguf);
    mr_text_model *model = load(path);
    check_texts(name, model);
    write_gguf(gguf, model);
    mr_text_model *written = load(in_scratch("f32.gguf"));
    check_texts(name, written);
    bool agree = false;
    const mr_tokenizer *a = mr_text_model_tokenizer(model), *b = mr_text_model_tokenizer(written);
    assert_int_equal(mr_tokenizer_agree(a, b, &agree, &err), MR_OK);
    assert_true(agree);
    mr_text_model_free(written);
    mr_text_model_free(model);
    mr_gguf_close(gguf);
    assert_int_equal(unlink(in_scratch("f32.gguf")), 0);
}

static void folders_are_as_their_references(void **state) {
    (void)state;
    DIR *dir = opendir(GOLDEN_DIR);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char golden[600];
        snprintf(golden, sizeof golden, "%s/%s/golden.json", GOLDEN_DIR, entry->d_name);
        if (!mr_path_is_file(golden)) continue;
        check_folder(entry->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= 5);
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(in_scratch(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* What modules.json with the given steps, and a pooling's configuration, say. */
static mr_status read_steps(const char *modules, const char *pooling, json_t **config, mr_error *err) {
    write_file("modules.json", modules);
    assert_int_equal(mkdir(in_scratch("p"), 0700), 0);
    write_file("p/config.json", pooling);
    *config = json_object();
    mr_status status = mr_hf_pooling_read(scratch, *config, err);
    unlink(in_scratch("p/config.json"));
    rmdir(in_scratch("p"));
    unlink(in_scratch("modules.json"));
    return status;
}

#define STEP(path, kind) "{\"path\": \"" path "\", \"type\": \"sentence_transformers.models." kind "\"}"

static void steps_are_known_or_refused(void **state) {
    (void)state;
    static const struct {
        const char *modules, *pooling, *says; /* says: of the error, or NULL */
        int type;
        bool norm;
    } cases[] = {
        {"[" STEP("", "Transformer") "," STEP("p", "Pooling") "]", "{\"pooling_mode\": \"cls\"}", NULL, 2, false},
        {"[" STEP("p", "Pooling") "," STEP("", "Normalize") "]", "{\"pooling_mode\": [\"mean\"]}", NULL, 1, true},
        {"[" STEP("p", "Pooling") "]", "{\"pooling_mode_lasttoken\": true}", NULL, 3, false},
        {"[" STEP("p", "Pooling") "]", "{\"pooling_mode_max_tokens\": true}", "is not supported", 0, false},
        {"[" STEP("p", "Pooling") "]", "{\"pooling_mode\": [\"mean\", \"cls\"]}", "is not supported", 0, false},
        {"[" STEP("p", "Pooling") "]", "[]", "is not supported", 0, false},
        {"[" STEP("p", "Pooling") "]", "{", "no JSON", 0, false},
        {"[" STEP("../p", "Pooling") "]", "{}", "does not name a folder", 0, false},
        {"[" STEP("q", "Pooling") "]", "{}", "config.json", 0, false},
        {"[" STEP("p", "Dense") "]", "{}", "a step \"Dense\"", 0, false},
        {"{}", "{}", "no list", 0, false},
        {"[3]", "{}", "a step \"\"", 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        json_t *config;
        mr_status status = read_steps(cases[i].modules, cases[i].pooling, &config, &err);
        if ((status == MR_OK) != (cases[i].says == NULL)) fail_msg("case %zu: %s", i, err.text);
        if (cases[i].says != NULL && strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.text);
        if (status == MR_OK) {
            assert_int_equal(json_integer_value(json_object_get(config, "sentence_pooling")), cases[i].type);
            assert_int_equal(json_is_true(json_object_get(config, "sentence_norm")), cases[i].norm);
        }
        json_decref(config);
    }
}

static void settings_are_known_or_refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *says;
        bool behind;
    } cases[] = {
        {"{\"hidden_act\": \"gelu\", \"position_embedding_type\": \"absolute\"}", NULL, false},
        {"{\"hidden_act\": \"relu\"}", "hidden_act \"relu\"", false},
        {"{\"activation\": \"relu\"}", "hidden_act \"relu\"", false},
        {"{\"position_embedding_type\": \"relative_key\"}", "relative_key", false},
        {"{\"max_position_embeddings\": 514, \"pad_token_id\": 1}", NULL, true},
        {"{\"prenorm\": true}", "prenorm", false},
        {"{\"rotary_emb_fraction\": 0.5}", "rotary_emb_fraction", false},
        {"{\"max_position_embeddings\": 2, \"pad_token_id\": 1}", "not more than", true},
        {"{\"max_position_embeddings\": 514, \"pad_token_id\": 9223372036854775807}", "not more than", true},
        {"{\"max_position_embeddings\": 514, \"pad_token_id\": -1}", "not more than", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        mr_hf_family family = {.encoder = true, .activation = "gelu", .positions_behind_padding = cases[i].behind};
        json_t *config = json_loads(cases[i].config, 0, NULL);
        mr_status status = mr_hf_encoder_settings(&family, config, &err);
        if ((status == MR_OK) != (cases[i].says == NULL)) fail_msg("case %zu: %s", i, err.text);
        if (cases[i].says != NULL && strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.text);
        if (status == MR_OK && cases[i].behind)
            assert_int_equal(json_integer_value(json_object_get(config, "max_position_embeddings")), 512);
        mr_gguf_tensor tensor = {.name = "x", .n_dims = 2, .shape = {4, 2, 1, 1}, .n_bytes = 32};
        if (cases[i].behind) assert_int_equal(mr_hf_encoder_cut_positions(config, &tensor, &err), MR_ERR_INVALID);
        json_decref(config);
    }
    char name[64];
    assert_false(mr_hf_encoder_name("pooler.dense.weight", name, sizeof name));
    assert_false(mr_hf_encoder_name("encoder.layer.0.pooler.weight", name, sizeof name));
    assert_false(mr_hf_encoder_name("embeddings.position_ids", name, sizeof name));
    assert_true(mr_hf_encoder_name("roberta.encoder.layer.11.output.LayerNorm.beta", name, sizeof name));
    assert_string_equal(name, "blk.11.layer_output_norm.bias");
}

int main(void) {
    setenv("RUST_LOG", "error", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_as_their_references),
        cmocka_unit_test(steps_are_known_or_refused),
        cmocka_unit_test(settings_are_known_or_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
