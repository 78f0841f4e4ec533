/* floors: model */
/* What loading says about files that are not as they should be. Each case is a golden model with a few bytes changed.
 */
#include "model/arch.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/logits/"

typedef struct image {
    uint8_t *data;
    size_t size;
} image;

static image read_golden(const char *name) {
    char path[512];
    image im;
    snprintf(path, sizeof path, GOLDEN_DIR "%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    im.size = (size_t)ftell(file);
    im.data = malloc(im.size);
    rewind(file);
    assert_int_equal(fread(im.data, 1, im.size, file), im.size);
    fclose(file);
    return im;
}

/* The bytes behind the first occurrence of a text. */
static uint8_t *behind(const image *im, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= im->size; i++) {
        if (memcmp(im->data + i, text, n) == 0) return im->data + i + n;
    }
    fail_msg("the golden model has no %s", text);
    return NULL;
}

/* Sets a number of four bytes in the metadata: behind the key stands its type. */
static void set_u32(const image *im, const char *key, uint32_t value) {
    memcpy(behind(im, key) + 4, &value, 4);
}

static void set_f32(const image *im, const char *key, float value) {
    memcpy(behind(im, key) + 4, &value, 4);
}

static void replace(const image *im, const char *text, const char *with) {
    assert_int_equal(strlen(text), strlen(with));
    memcpy(behind(im, text) - strlen(text), with, strlen(with));
}

/* Loads the image, frees it and returns the status; the error's text is in err. */
static mr_status load(image *im, mr_error *err) {
    mr_gguf *gguf;
    mr_model *model = NULL;
    mr_model_options options = {.n_threads = 1};
    mr_status status = mr_gguf_open_memory(&gguf, im->data, im->size, err);
    if (status == MR_OK) {
        status = mr_model_load(&model, gguf, &options, err);
        assert_true(status == MR_OK || model == NULL);
        mr_model_free(model);
        mr_gguf_close(gguf);
    }
    free(im->data);
    return status;
}

static void expect(image *im, mr_status expected, const char *words) {
    mr_error err = {0};
    mr_status status = load(im, &err);
    if (status != expected || strstr(err.text, words) == NULL) {
        fail_msg("status %d with \"%s\" instead of %d with \"%s\"", (int)status, err.text, (int)expected, words);
    }
}

static void test_untouched(void **state) {
    (void)state;
    image im = read_golden("llama-mha.gguf");
    mr_error err = {0};
    assert_int_equal(load(&im, &err), MR_OK);
}

static void test_unknown_architecture_lists_the_known(void **state) {
    (void)state;
    size_t n;
    const mr_arch *archs = mr_arch_list(&n);
    assert_true(n > 30);
    for (size_t i = 0; i < n; i++) {
        image im = read_golden("llama-mha.gguf");
        replace(&im, "llama", "lamma"); /* general.architecture is the first value */
        expect(&im, MR_ERR_UNSUPPORTED, archs[i].name);
    }
    image im = read_golden("llama-mha.gguf");
    replace(&im, "llama", "lamma");
    expect(&im, MR_ERR_UNSUPPORTED, "\"lamma\" is not supported");
}

static void test_missing_tensors_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"token_embd.weight",     "output_norm.weight",       "blk.1.attn_norm.weight",
                                        "blk.0.attn_k.weight",   "blk.1.attn_output.weight", "blk.0.ffn_norm.weight",
                                        "blk.1.ffn_down.weight", "blk.1.ffn_up.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        image im = read_golden("llama-mha.gguf");
        char other[64];
        snprintf(other, sizeof other, "%s", names[i]);
        other[strlen(other) - 1] = 'x';
        replace(&im, names[i], other);
        expect(&im, MR_ERR_INVALID, names[i]);
    }
}

static void test_missing_expert_tensors_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"blk.1.ffn_gate_inp.weight", "blk.0.ffn_down_exps.weight",
                                        "blk.1.ffn_up_exps.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        image im = read_golden("mixtral.gguf");
        char other[64];
        snprintf(other, sizeof other, "%s", names[i]);
        other[strlen(other) - 1] = 'x';
        replace(&im, names[i], other);
        expect(&im, MR_ERR_INVALID, names[i]);
    }
}

/* A number of the metadata that the tensors contradict: the error names the tensor and both shapes. */
static void test_wrong_shapes(void **state) {
    (void)state;
    image im = read_golden("llama-mha.gguf");
    set_u32(&im, "llama.feed_forward_length", 44);
    expect(&im, MR_ERR_INVALID,
           "tensor blk.0.ffn_gate.weight has the shape [40, 32], but the model's metadata ask for "
           "[44, 32]");
    im = read_golden("llama-mha.gguf");
    set_u32(&im, "llama.embedding_length", 24);
    expect(&im, MR_ERR_INVALID, "token_embd.weight has the shape [48, 32]");
    im = read_golden("llama-gqa.gguf");
    set_u32(&im, "llama.attention.head_count_kv", 4);
    expect(&im, MR_ERR_INVALID, "blk.0.attn_k.weight");
    im = read_golden("mixtral.gguf");
    set_u32(&im, "llama.expert_count", 5);
    expect(&im, MR_ERR_INVALID, "blk.0.ffn_gate_inp.weight");
    im = read_golden("qwen3.gguf");
    set_u32(&im, "qwen3.attention.key_length", 8);
    expect(&im, MR_ERR_INVALID, "blk.0.attn_");
    im = read_golden("deepseek-v3.gguf");
    set_u32(&im, "deepseek2.attention.kv_lora_rank", 12);
    expect(&im, MR_ERR_INVALID, "blk.0.attn_kv_a_mqa.weight");
}

static void test_impossible_numbers(void **state) {
    (void)state;
    static const struct {
        const char *file, *key;
        uint32_t value;
        const char *words;
    } CASES[] = {
        {"llama-mha.gguf", "llama.block_count", 0, "llama.block_count is 0"},
        {"llama-mha.gguf", "llama.block_count", 4000000000u, "llama.block_count is 4000000000"},
        {"llama-mha.gguf", "llama.block_count", 3, "blk.2.attn_norm.weight"},
        {"llama-mha.gguf", "llama.attention.head_count", 0, "llama.attention.head_count is 0"},
        {"llama-mha.gguf", "llama.attention.head_count_kv", 3, "no multiple of its 3 key-value heads"},
        {"llama-mha.gguf", "llama.embedding_length", 0xFFFFFFFFu, "llama.embedding_length is 4294967295"},
        {"llama-mha.gguf", "llama.rope.dimension_count", 7, "rotates 7 values of heads of 8"},
        {"llama-mha.gguf", "llama.rope.dimension_count", 64, "rotates 64 values of heads of 8"},
        {"mixtral.gguf", "llama.expert_used_count", 9, "uses 9 of 4 experts"},
        {"glm4moe.gguf", "glm4moe.expert_gating_func", 7, "gating function 7"},
        {"deepseek-v3.gguf", "deepseek2.expert_group_count", 3, "of 3 groups of its 8 experts"},
        {"deepseek-v3.gguf", "deepseek2.expert_group_used_count", 5, "from 5 of 4 groups"},
        {"deepseek-v3.gguf", "deepseek2.rope.dimension_count", 12, "rotates 12 values of heads of 12"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        image im = read_golden(CASES[i].file);
        set_u32(&im, CASES[i].key, CASES[i].value);
        expect(&im, MR_ERR_INVALID, CASES[i].words);
    }
    image im = read_golden("llama-mha.gguf");
    set_f32(&im, "llama.rope.freq_base", -1.0f);
    expect(&im, MR_ERR_INVALID, "rope.freq_base is not positive");
    im = read_golden("llama-mha.gguf");
    replace(&im, "llama.context_length", "llama.content_length");
    expect(&im, MR_ERR_INVALID, "no metadata llama.context_length");
    im = read_golden("llama-yarn.gguf");
    memcpy(behind(&im, "llama.rope.scaling.type") + 12, "barn", 4); /* behind type and length */
    expect(&im, MR_ERR_UNSUPPORTED, "rope scaling");
}

/* The windows' list must have an entry for each layer. */
static void test_short_list_of_windows(void **state) {
    (void)state;
    image im = read_golden("olmo3.gguf");
    set_u32(&im, "olmo2.block_count", 5);
    expect(&im, MR_ERR_INVALID, "olmo2.attention.sliding_window_pattern has no entry for each of its 5 layers");
}

/* Sizes of recurrent layers that do not go together, or would take more memory than there is. */
static void test_impossible_recurrent_layers(void **state) {
    (void)state;
    static const struct {
        const char *model, *key, *says;
        uint32_t value;
    } cases[] = {
        {"lfm2.gguf", "lfm2.shortconv.l_cache", "1 to 16 are possible", 17},
        {"lfm2.gguf", "lfm2.shortconv.l_cache", "1 to 16 are possible", 0},
        {"lfm2.gguf", "lfm2.shortconv.l_cache", "shape", 4},
        {"nemotron_h.gguf", "nemotron_h.ssm.inner_size", "heads", 41},
        {"nemotron_h.gguf", "nemotron_h.ssm.inner_size", "are possible", 0xFFFFFFFF},
        {"nemotron_h.gguf", "nemotron_h.ssm.group_count", "groups", 3},
        {"nemotron_h.gguf", "nemotron_h.ssm.state_size", "are possible", 1u << 31},
        {"nemotron_h.gguf", "nemotron_h.ssm.state_size", "shape", 4096},
        {"nemotron_h.gguf", "nemotron_h.ssm.time_step_rank", "are possible", 0},
        {"qwen3next.gguf", "qwen3next.ssm.group_count", "shape", 4},
        {"qwen3next.gguf", "qwen3next.full_attention_interval", "tensor", 3},
        {"granitehybrid.gguf", "granitehybrid.ssm.conv_kernel", "shape", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image im = read_golden(cases[i].model);
        set_u32(&im, cases[i].key, cases[i].value);
        expect(&im, MR_ERR_INVALID, cases[i].says);
    }
}

int main(void) {
    setenv("RUST_LOG", "warn", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_unknown_architecture_lists_the_known),
        cmocka_unit_test(test_missing_tensors_are_named),
        cmocka_unit_test(test_missing_expert_tensors_are_named),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_impossible_numbers),
        cmocka_unit_test(test_short_list_of_windows),
        cmocka_unit_test(test_impossible_recurrent_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
