/* floors: model */
#define _GNU_SOURCE
/* Folders whose layers differ, Gemma 3n's and Gemma 4's above all, that are quantized while they are loaded, and ones
 * that are wrong: each is refused with a sentence that names what is. */
#include "base/file.h"
#include "model/hf_gemma.h"
#include "model/hf_model.h"
#include "model/model.h"
#include "model/quant_mix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/hf"

static char folder[] = "/tmp/mr-test-settings-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    return rmdir(folder);
}

/* Copies a golden folder; `changes` (JSON) are made in its language part, and in the header of its tensors `from`
 * becomes `to`, which is as long. */
static void copy_model(const char *name, const char *changes, const char *from, const char *to) {
    char path[512];
    mr_error err = {0};
    mr_buf weights = {0};
    snprintf(path, sizeof path, "%s/%s/config.json", GOLDEN_DIR, name);
    json_t *config = json_load_file(path, 0, NULL), *text = json_object_get(config, "text_config");
    json_t *patch = json_loads(changes, 0, NULL);
    assert_non_null(config);
    assert_non_null(patch);
    assert_int_equal(json_object_update(json_is_object(text) ? text : config, patch), 0);
    assert_int_equal(json_dump_file(config, in_folder("config.json"), 0), 0);
    json_decref(patch);
    json_decref(config);
    snprintf(path, sizeof path, "%s/%s/model.safetensors", GOLDEN_DIR, name);
    if (mr_file_read(&weights, path, 1 << 22, &err) != MR_OK) fail_msg("%s", err.text);
    if (from != NULL) {
        char *at = memmem(weights.data, weights.len, from, strlen(from));
        assert_non_null(at);
        assert_int_equal(strlen(from), strlen(to));
        memcpy(at, to, strlen(to));
    }
    FILE *file = fopen(in_folder("model.safetensors"), "wb");
    assert_int_equal(fwrite(weights.data, 1, weights.len, file), weights.len);
    assert_int_equal(fclose(file), 0);
    mr_buf_free(&weights);
}

static mr_status load(mr_gguf **gguf, mr_model **model, const char *path, const char *mix, mr_error *err) {
    mr_model_options options = {.n_threads = 1, .quantize = mix != NULL ? mr_quant_mix_find(mix) : NULL};
    *model = NULL;
    mr_status status = mr_hf_open(gguf, path, err);
    if (status == MR_OK) status = mr_model_load(model, *gguf, &options, err);
    if (status != MR_OK) mr_gguf_close(*gguf);
    return status;
}

enum { N_IDS = 24 };

/* The logits of some tokens, [N_IDS, n_vocab]; *n their number. */
static float *logits_of(mr_model *model, size_t *n) {
    mr_error err = {0};
    mr_kv_pool pool;
    int32_t ids[N_IDS], blocks[N_IDS / MR_KV_BLOCK + 1];
    for (int32_t i = 0; i < N_IDS; i++) ids[i] = i * 7 % 40;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) blocks[i] = (int32_t)i;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, sizeof blocks / sizeof blocks[0], &err), MR_OK);
    *n = N_IDS * (size_t)mr_model_get_info(model)->n_vocab;
    float *logits = calloc(*n, sizeof *logits);
    mr_batch_run run = {.tokens = ids, .n_tokens = N_IDS, .blocks = blocks, .n_logits = N_IDS, .logits = logits};
    if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    mr_kv_pool_free(&pool);
    return logits;
}

static void test_quantized(void **state) {
    (void)state;
    static const char *const names[] = {"gemma3n",    "gemma3n-nested", "gemma4-e2b",
                                        "gemma4-31b", "gemma4-26b-a4b", "gemma4-unified"};
    /* What is left of the logits is less where weights have fewer bits; random models make much of it. */
    static const struct {
        const char *mix, *label;
        double most;
    } mixes[] = {{"Q8_0", "Q8_0", 0.1}, {"Q4_K", "Q5_0", 0.2}, {"HQQ8", "Q8_0", 0.1}, {"F16", "F16", 0.05}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        mr_error err = {0};
        mr_gguf *gguf;
        mr_model *model;
        size_t n;
        snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, names[i]);
        if (load(&gguf, &model, path, NULL, &err) != MR_OK) fail_msg("%s: %s", names[i], err.text);
        float *whole = logits_of(model, &n);
        mr_model_free(model);
        mr_gguf_close(gguf);
        for (size_t k = 0; k < sizeof mixes / sizeof mixes[0]; k++) {
            double squares = 0.0, all = 0.0;
            if (load(&gguf, &model, path, mixes[k].mix, &err) != MR_OK) fail_msg("%s: %s", names[i], err.text);
            if (strstr(mr_model_get_info(model)->type_label, mixes[k].label) == NULL)
                fail_msg("%s as %s is %s", names[i], mixes[k].mix, mr_model_get_info(model)->type_label);
            float *ours = logits_of(model, &n);
            for (size_t j = 0; j < n; j++) {
                double difference = (double)ours[j] - (double)whole[j];
                squares += difference * difference;
                all += (double)whole[j] * (double)whole[j];
            }
            print_message("%-16s %-5s %.2e of the logits\n", names[i], mixes[k].mix, sqrt(squares / all));
            assert_true(squares > 0.0 && sqrt(squares / all) < mixes[k].most);
            free(ours);
            mr_model_free(model);
            mr_gguf_close(gguf);
        }
        free(whole);
    }
}

static void expect(const char *name, const char *changes, const char *from, const char *to, const char *says) {
    mr_error err = {0};
    mr_gguf *gguf;
    mr_model *model;
    copy_model(name, changes, from, to);
    mr_status status = load(&gguf, &model, folder, NULL, &err);
    if (status != MR_OK && says != NULL && strstr(err.text, says) != NULL) return;
    if (status == MR_OK && says == NULL) {
        mr_model_free(model);
        mr_gguf_close(gguf);
        return;
    }
    fail_msg("%s with %s%s: %s", name, changes, to != NULL ? to : "", status == MR_OK ? "is taken" : err.text);
}

static void test_bad_settings(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"gemma4-e2b", "{\"num_hidden_layers\": 0}", "no num_hidden_layers from 1"},
        {"gemma4-e2b", "{\"num_hidden_layers\": 1e300}", "no num_hidden_layers from 1"},
        {"gemma4-e2b", "{\"num_hidden_layers\": 1000000}", "1024 are possible"},
        {"gemma4-e2b", "{\"num_hidden_layers\": 3}", "4 layer_types for 3 layers"},
        {"gemma4-e2b", "{\"layer_types\": [\"linear_attention\", 1, 2, 3]}", "layer 0 is \"linear_attention\""},
        {"gemma4-e2b", "{\"layer_types\": [null, 1, 2, 3]}", "layer 0 is \"?\""},
        {"gemma4-e2b", "{\"per_layer_config\": {\"4\": {\"head_dim\": 16}}}", "\"4\", which is no layer of 4"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"-1\": {\"head_dim\": 16}}}", "\"-1\", which is no layer"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1x\": {}}}", "\"1x\", which is no layer"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1\": 3}}", "which is no layer"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1\": {\"skip\": [\"mlp\"]}}}", "has skip for layer 1"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1\": {\"head_dim\": -16}}}", "no head_dim from 1"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1\": {\"head_dim\": 16}}}", "heads of 16 and 8 values in full"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"1\": {\"head_dim\": 5}, \"3\": {\"head_dim\": 5}}}", "even number"},
        {"gemma4-e2b", "{\"per_layer_config\": {\"01\": {\"head_dim\": 16}, \"03\": {\"head_dim\": 16}}}", NULL},
        {"gemma4-e2b",
         "{\"per_layer_config\": {\"1\": {\"head_dim\": 16}, \"3\": {\"head_dim\": 16, \"num_key_value_heads\": 4}}}",
         "layer 3 uses keys and values of layer 1, which have other sizes"},
        {"gemma4-e2b", "{\"head_dim\": null}", "no head_dim from 1"},
        {"gemma4-e2b", "{\"num_key_value_heads\": 3}", "no multiple of its 3 key-value heads"},
        {"gemma4-e2b", "{\"num_kv_shared_layers\": 4}", "num_kv_shared_layers must be"},
        {"gemma4-e2b", "{\"num_kv_shared_layers\": -9223372036854775807}", "num_kv_shared_layers must be"},
        {"gemma4-e2b", "{\"num_kv_shared_layers\": 0}", "no tensor blk.2.attn_k.weight"},
        {"gemma4-e2b", "{\"sliding_window\": 0}", "no sliding_window from 1"},
        {"gemma4-e2b", "{\"use_bidirectional_attention\": \"all\"}", "use_bidirectional_attention"},
        {"gemma4-e2b", "{\"use_double_wide_mlp\": false}", "blk.2.ffn_gate.weight has the shape [128, 32]"},
        {"gemma4-e2b", "{\"intermediate_size\": 0}", "no intermediate_size from 1"},
        {"gemma4-e2b", "{\"hidden_size_per_layer_input\": 5}", "per_layer_token_embd.weight with rows of 20"},
        {"gemma4-e2b", "{\"hidden_size_per_layer_input\": 1e18}", "values per layer are not possible"},
        {"gemma4-e2b", "{\"rope_parameters\": {}}", "no rope_theta for full_attention"},
        {"gemma4-e2b",
         "{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e4}, \"sliding_attention\": {\"rope_theta\": "
         "1e4, \"rope_type\": \"yarn\"}}}",
         "scaling \"yarn\" in sliding_attention"},
        {"gemma4-e2b",
         "{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e4, \"rope_type\": \"proportional\", "
         "\"partial_rotary_factor\": 7}, \"sliding_attention\": {\"rope_theta\": 1e4}}}",
         "impossible numbers"},
        {"gemma4-31b", "{\"attention_k_eq_v\": false}", "no tensor blk.1.attn_v.weight"},
        {"gemma4-26b-a4b", "{\"top_k_experts\": 9}", "9 of 4 experts"},
        {"gemma4-26b-a4b", "{\"num_experts\": 8}", "blk.0.ffn_gate_inp.weight has the shape [4, 32]"},
        {"gemma4-26b-a4b", "{\"global_head_dim\": \"x\"}", "no global_head_dim from 1"},
        {"gemma4-26b-a4b", "{\"num_global_key_value_heads\": null}", "blk.2.attn_k.weight has the shape [16, 32]"},
        {"gemma3n", "{\"altup_num_inputs\": 9}", "altup.num_inputs is 9"},
        {"gemma3n", "{\"altup_num_inputs\": 3}", "altup"},
        {"gemma3n", "{\"altup_active_idx\": 1}", "residual stream 1"},
        {"gemma3n", "{\"altup_correct_scale\": false}", "altup_correct_scale"},
        {"gemma3n", "{\"activation_sparsity_pattern\": [0.5]}", "activation_sparsity_pattern has 1 entries"},
        {"gemma3n", "{\"activation_sparsity_pattern\": 1.0}", "has 1 for layer 0"},
        {"gemma3n", "{\"intermediate_size\": [64, 96]}", "intermediate_size has 2 entries for 4 layers"},
        {"gemma3n", "{\"intermediate_size\": [64, 96, -1, null]}", "feed_forward_length"},
        {"gemma3n", "{\"hidden_size_per_layer_input\": 0}", "no embeddings of their own"},
        {"gemma3n", "{\"hidden_size\": 1e9}", "embedding_length"},
        {"gemma3n-nested", "{\"num_kv_shared_layers\": 5}", "num_kv_shared_layers must be"},
        {"glm4moe-lite", "{\"mlp_layer_types\": [\"dense\", \"sparse\", \"dense\"]}", "behind layers with experts"},
        {"glm4moe-lite", "{\"mlp_layer_types\": [\"dense\"]}", "no tensor blk.1.ffn_gate_inp.weight"},
        {"glm4moe-lite", "{\"rope_interleave\": false}", "rope_interleave"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i][0], cases[i][1], NULL, NULL, cases[i][2]);
}

static void test_bad_tensors(void **state) {
    (void)state;
    static const char *const cases[][4] = {
        {"gemma4-e2b", "layers.0.self_attn.v_proj", "layers.0.self_attn.x_proj", "no tensor blk.0.attn_v.weight"},
        {"gemma4-e2b", "embed_tokens_per_layer", "embed_tokens_per_layxx", "per_layer_token_embd.weight"},
        {"gemma4-e2b", "per_layer_model_projection", "per_layer_model_projectioX", "per_layer_model_proj.weight"},
        {"gemma4-e2b", "layers.3.per_layer_input_gate", "layers.3.per_layer_input_gatx", "blk.3.inp_gate.weight"},
        {"gemma4-26b-a4b", "layers.0.experts.gate_up_proj", "layers.0.experts.gate_up_prox",
         "blk.0.ffn_gate_exps.weight"},
        {"gemma4-26b-a4b", "layers.0.router.scale", "layers.0.router.scalx", "blk.0.ffn_gate_inp.scale"},
        {"gemma4-26b-a4b", "layers.1.router.proj", "layers.1.router.prox", "blk.1.ffn_gate_inp.weight"},
        {"gemma3n", "altup_projections.1", "altup_projections.7", "altup_proj"},
        {"gemma3n", "altup_unembed_projections.2", "altup_unembed_projectionsX2", "altup_unembd_proj"},
        {"gemma3n", "layers.2.altup.correct_output_scale", "layers.2.altup.correct_output_scalx",
         "blk.2.altup_correct_scale.weight"},
        {"gemma3n", "layers.1.laurel.linear_left", "layers.1.laurel.linear_lefX", "blk.1.laurel_l.weight"},
        {"gemma3n", "altup_projections.1", "altup_projections.0", "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i][0], "{}", cases[i][1], cases[i][2], cases[i][3]);
}

/* Quantiles of the normal distribution, as tables have them. */
static void test_sparsity(void **state) {
    (void)state;
    static const struct {
        double share, scale;
    } cases[] = {{0.95, 1.6448536269514722}, {0.5, 0.0}, {0.8, 0.8416212335729143}, {1e-9, -5.997807015007773}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_error err = {0};
        json_t *config = json_pack("{s:i, s:i, s:f}", "num_hidden_layers", 2, "sliding_window", 8,
                                   "activation_sparsity_pattern", cases[i].share);
        assert_int_equal(mr_hf_gemma3n_spell_out(config, &err), MR_OK);
        const json_t *list = json_object_get(config, "activation_sparsity_scale");
        assert_int_equal(json_array_size(list), 2);
        double scale = json_real_value(json_array_get(list, 1));
        assert_true(fabs(scale - cases[i].scale) < 1e-12);
        assert_true((float)scale != 0.0f); /* which would stand for no cut at all */
        json_decref(config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quantized), cmocka_unit_test(test_bad_settings),
                                       cmocka_unit_test(test_bad_tensors), cmocka_unit_test(test_sparsity)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
