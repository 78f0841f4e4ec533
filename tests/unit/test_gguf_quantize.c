/* floors: text */
/* Models written anew as GGUF: the golden folders keep their logits, tokenizers keep their ids, and what fails leaves
 * nothing behind. */
#include "base/file.h"
#include "model/gguf_quantize.h"
#include "model/hf_model.h"
#include "model/safetensors.h"
#include "text/tokenizer_export.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HF_DIR MR_SOURCE_DIR "/tests/conformance/hf"
#define TOKENIZER_DIR MR_SOURCE_DIR "/tests/conformance/tokenizers/golden"

enum { MAX_TOKENS = 128 };
static char folder[] = "/tmp/mr-test-quantize-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

/* The tests remove their files, so the folder is empty, or something was left behind. */
static int tear_down(void **state) {
    (void)state;
    return rmdir(folder);
}

static mr_gguf *open_gguf(const char *path) {
    mr_gguf *gguf;
    mr_error err = {0};
    if (mr_gguf_open(&gguf, &path, 1, &err) != MR_OK) fail_msg("%s", err.text);
    return gguf;
}

static mr_status quantize(const mr_gguf *gguf, const char *path, const char *mix, mr_error *err) {
    mr_gguf_quantize_options options = {.mix = mr_quant_mix_find(mix), .n_threads = 2};
    assert_non_null(options.mix);
    return mr_gguf_quantize(gguf, path, &options, NULL, err);
}

/* The difference of the model's logits from those of golden.safetensors: the largest, and the root of the mean square
 * over that of the logits. */
typedef struct difference {
    float worst, relative;
} difference;

static difference difference_from_golden(const mr_gguf *gguf, const char *name) {
    char path[512];
    mr_error err = {0};
    mr_model *model;
    mr_safetensors *golden;
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", HF_DIR, name);
    mr_model_options options = {.n_threads = 1};
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    if (mr_safetensors_open_file(&golden, path, &err) != MR_OK) fail_msg("%s", err.text);
    const mr_st_tensor *tokens = mr_safetensors_find(golden, "tokens"), *logits = mr_safetensors_find(golden, "logits");
    uint32_t n = (uint32_t)tokens->shape[0], n_vocab = mr_model_get_info(model)->n_vocab;
    assert_in_range(n, 1, MAX_TOKENS);
    int32_t ids[MAX_TOKENS], blocks[MAX_TOKENS / MR_KV_BLOCK + 1];
    memcpy(ids, tokens->data, n * sizeof *ids);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) blocks[i] = (int32_t)i;
    mr_kv_pool pool;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, sizeof blocks / sizeof blocks[0], &err), MR_OK);
    float *ours = calloc((size_t)n * n_vocab, sizeof *ours);
    difference result = {0};
    double squares = 0, all = 0;
    mr_batch_run run = {.tokens = ids, .n_tokens = n, .blocks = blocks, .n_logits = n, .logits = ours};
    mr_state_pool states;
    assert_int_equal(mr_model_states_init(model, &states, 1, &err), MR_OK);
    run.state_out = mr_state_at(&states, 0);
    if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < (size_t)n * n_vocab; i++) {
        float expected;
        memcpy(&expected, logits->data + i * sizeof expected, sizeof expected);
        float error = fabsf(expected - ours[i]);
        if (!(error <= result.worst)) result.worst = error;
        squares += (double)error * (double)error;
        all += (double)expected * (double)expected;
    }
    result.relative = (float)sqrt(squares / all);
    mr_model_states_free(model, &states);
    free(ours);
    mr_kv_pool_free(&pool);
    mr_safetensors_close(golden);
    mr_model_free(model);
    return result;
}

/* No name or key that only we know is left. */
static void check_form(const mr_gguf *gguf, const char *name) {
    for (size_t i = 0; i < mr_gguf_n_values(gguf); i++) {
        mr_gguf_str key = mr_gguf_value_at(gguf, i)->key;
        bool halves = key.len > 12 && memcmp(key.data + key.len - 12, ".rope.halves", 12) == 0;
        if (halves) fail_msg("%s has %.*s", name, (int)key.len, key.data);
    }
    for (size_t i = 0; i < mr_gguf_n_tensors(gguf); i++) {
        const mr_gguf_tensor *tensor = mr_gguf_tensor_at(gguf, i);
        bool apart = strstr(tensor->name, "ffn_down.0") != NULL || strstr(tensor->name, "proj.0") != NULL;
        if (apart) fail_msg("%s has %s", name, tensor->name);
        if (strstr(tensor->name, "_norm.weight") != NULL) assert_int_equal(tensor->type, MR_F32);
        /* Other readers want an embedding of every layer for every token. */
        if (strstr(tensor->name, "token_embd.weight") != NULL)
            assert_int_equal(tensor->shape[1], mr_gguf_find_tensor(gguf, "token_embd.weight")->shape[1]);
    }
}

static void check_folder(const char *name) {
    char path[512];
    mr_error err = {0};
    mr_gguf *gguf;
    snprintf(path, sizeof path, "%s/%s", HF_DIR, name);
    if (mr_hf_open(&gguf, path, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    if (quantize(gguf, in_folder("f32.gguf"), "F32", &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    mr_gguf_close(gguf);
    gguf = open_gguf(in_folder("f32.gguf"));
    check_form(gguf, name);
    difference d = difference_from_golden(gguf, name);
    /* The reference's own arithmetic has 16 bits there. */
    float most = strstr(name, "bf16") != NULL ? 0.1f : 2e-3f;
    if (!(d.worst <= most)) fail_msg("%s as GGUF: logits differ by %g", name, (double)d.worst);
    /* Again into another type, over the file that is read. */
    if (quantize(gguf, in_folder("f32.gguf"), "Q8_0", &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    mr_gguf_close(gguf);
    gguf = open_gguf(in_folder("f32.gguf"));
    uint32_t file_type = 0;
    assert_true(mr_gguf_u32(gguf, "general.file_type", &file_type));
    assert_int_equal(file_type, 7);
    d = difference_from_golden(gguf, name);
    print_message("%-16s Q8_0: %.2e of the logits\n", name, (double)d.relative);
    /* Random weights, recurrent ones above all, make much of small errors. */
    assert_true(d.relative > 0.0f && d.relative < 0.5f);
    mr_gguf_close(gguf);
    assert_int_equal(unlink(in_folder("f32.gguf")), 0);
}

static void test_folders(void **state) {
    (void)state;
    DIR *dir = opendir(HF_DIR);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char config[600];
        snprintf(config, sizeof config, "%s/%s/config.json", HF_DIR, entry->d_name);
        if (entry->d_name[0] == '.' || !mr_path_is_file(config)) continue;
        if (strstr(entry->d_name, "mxfp4") != NULL) continue; /* quantized already */
        check_folder(entry->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= 4);
}

enum { N_IDS = 24 };

/* The logits behind some tokens, [N_IDS, n_vocab], of a model whose weights are quantized while they load; the caller
 * frees them. */
static float *logits_of(const mr_gguf *gguf, const char *mix, mr_model_info *info) {
    mr_error err = {0};
    mr_model *model;
    mr_model_options options = {.n_threads = 2, .quantize = mix != NULL ? mr_quant_mix_find(mix) : NULL};
    if (mr_model_load(&model, gguf, &options, &err) != MR_OK) fail_msg("%s", err.text);
    *info = *mr_model_get_info(model);
    int32_t ids[N_IDS], blocks[N_IDS / MR_KV_BLOCK + 1];
    for (int32_t i = 0; i < N_IDS; i++) ids[i] = 300 + 37 * i;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) blocks[i] = (int32_t)i;
    mr_kv_pool pool;
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    assert_int_equal(mr_kv_pool_init(&pool, &layout, sizeof blocks / sizeof blocks[0], &err), MR_OK);
    float *logits = calloc((size_t)N_IDS * info->n_vocab, sizeof *logits);
    mr_batch_run run = {.tokens = ids, .n_tokens = N_IDS, .blocks = blocks, .n_logits = N_IDS, .logits = logits};
    if (mr_model_forward(model, &pool, &run, 1, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    mr_kv_pool_free(&pool);
    mr_model_free(model);
    return logits;
}

/* Every type that weights may get while they load, on the model that is built in, from floats. */
static void test_while_loading(void **state) {
    (void)state;
    static const struct {
        const char *mix;
        float most;
        double bits;
    } mixes[] = {{"Q2_K", 0.6f, 4.5}, {"Q3_K_M", 0.4f, 5},  {"Q4_K_M", 0.2f, 6}, {"Q5_K_M", 0.1f, 7},
                 {"Q6_K", 0.1f, 8},   {"Q4_0", 0.25f, 6},   {"Q4_1", 0.25f, 6},  {"Q5_0", 0.15f, 7},
                 {"Q5_1", 0.15f, 7},  {"Q8_0", 0.03f, 9},   {"Q8_1", 0.03f, 9},  {"Q8_K", 0.03f, 9},
                 {"HQQ4", 0.25f, 6},  {"HQQ8", 0.03f, 9.5}, {"F8E4M3", 0.06f, 9}};
    mr_error err = {0};
    mr_gguf *gguf = open_gguf(MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf");
    mr_gguf_quantize_options again = {.mix = mr_quant_mix_find("F32"), .again = true, .n_threads = 2};
    if (mr_gguf_quantize(gguf, in_folder("f32.gguf"), &again, NULL, &err) != MR_OK) fail_msg("%s", err.text);
    mr_gguf_close(gguf);
    gguf = open_gguf(in_folder("f32.gguf"));
    mr_model_info info;
    float *floats = logits_of(gguf, NULL, &info);
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        float *logits = logits_of(gguf, mixes[i].mix, &info);
        double squares = 0, all = 0, bits = 8.0 * (double)info.weight_bytes / (double)info.n_params;
        for (size_t k = 0; k < (size_t)N_IDS * info.n_vocab; k++) {
            squares += ((double)logits[k] - (double)floats[k]) * ((double)logits[k] - (double)floats[k]);
            all += (double)floats[k] * (double)floats[k];
        }
        double relative = sqrt(squares / all);
        print_message("%-8s %-14s %.2f bits a weight, logits differ by %.4f\n", mixes[i].mix, info.type_label, bits,
                      relative);
        assert_true(relative > 0.0 && relative < (double)mixes[i].most);
        assert_true(bits < mixes[i].bits);
        free(logits);
    }
    free(floats);
    mr_gguf_close(gguf);
    assert_int_equal(unlink(in_folder("f32.gguf")), 0);
}

/* Types that are for memory only are in no file. */
static void test_types_of_memory(void **state) {
    (void)state;
    mr_error err = {0};
    mr_gguf *gguf = open_gguf(MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf");
    mr_gguf_quantize_options options = {.mix = mr_quant_mix_find("HQQ4"), .again = true, .n_threads = 1};
    assert_int_equal(mr_gguf_quantize(gguf, in_folder("out.gguf"), &options, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "known types"));
    mr_gguf_close(gguf);
}

static bool stop_at_once(void *ctx, float fraction) {
    (void)ctx;
    (void)fraction;
    return false;
}

static void test_failures(void **state) {
    (void)state;
    mr_error err = {0};
    mr_gguf *gguf;
    assert_int_equal(mr_hf_open(&gguf, HF_DIR "/llama", &err), MR_OK);
    mr_gguf_quantize_options stopped = {.mix = mr_quant_mix_find("F16"), .n_threads = 1, .progress = stop_at_once};
    assert_int_equal(mr_gguf_quantize(gguf, in_folder("out.gguf"), &stopped, NULL, &err), MR_ERR_CANCELLED);
    assert_int_equal(access(in_folder("out.gguf"), F_OK), -1);
    mr_gguf_close(gguf);

    gguf = open_gguf(MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf");
    assert_int_equal(quantize(gguf, in_folder("out.gguf"), "Q4_K_M", &err), MR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Q8_0 already"));
    assert_int_equal(access(in_folder("out.gguf"), F_OK), -1);
    assert_int_equal(quantize(gguf, "/no/such/folder/out.gguf", "Q8_0", &err), MR_ERR_IO);
    mr_gguf_quantize_options again = {.mix = mr_quant_mix_find("Q4_K_M"), .again = true, .n_threads = 2};
    size_t n_bytes = 0;
    assert_int_equal(mr_gguf_quantize(gguf, in_folder("out.gguf"), &again, &n_bytes, &err), MR_OK);
    assert_true(n_bytes > 0 && n_bytes < mr_gguf_tensor_bytes(gguf));
    mr_gguf_close(gguf);
    assert_int_equal(unlink(in_folder("out.gguf")), 0);
}

/* A model whose one matrix has a value that is none. */
static void test_not_finite(void **state) {
    (void)state;
    mr_error err = {0};
    mr_gguf *gguf;
    assert_int_equal(mr_hf_open(&gguf, HF_DIR "/llama", &err), MR_OK);
    assert_int_equal(quantize(gguf, in_folder("in.gguf"), "F32", &err), MR_OK);
    mr_gguf_close(gguf);
    gguf = open_gguf(in_folder("in.gguf"));
    const mr_gguf_tensor *tensor = mr_gguf_find_tensor(gguf, "blk.0.ffn_up.weight");
    const mr_gguf_tensor *last = mr_gguf_tensor_at(gguf, mr_gguf_n_tensors(gguf) - 1);
    /* Tensors lie in their order at the end of the file. */
    size_t n_last = last->n_bytes;
    long from_end = (long)(last->data + n_last - tensor->data);
    mr_gguf_close(gguf);
    static const uint8_t nan[4] = {0, 0, 0xC0, 0x7F};
    FILE *file = fopen(in_folder("in.gguf"), "r+b");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long end = ftell(file), pad = (long)((32 - n_last % 32) % 32);
    fseek(file, end - pad - from_end, SEEK_SET);
    fwrite(nan, 1, 4, file);
    fclose(file);
    gguf = open_gguf(in_folder("in.gguf"));
    assert_int_equal(quantize(gguf, in_folder("out.gguf"), "Q4_0", &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "blk.0.ffn_up.weight has values that are not finite"));
    mr_gguf_close(gguf);
    assert_int_equal(unlink(in_folder("in.gguf")), 0);
}

/* Writes the tokenizer of a golden file into a GGUF without tensors. */
static mr_status export_tokenizer(const mr_tokenizer *t, size_t n_rows, const char *pre, mr_error *err) {
    mr_gguf_writer *w;
    assert_int_equal(mr_gguf_writer_new(&w, in_folder("vocab.gguf"), err), MR_OK);
    mr_gguf_put_string(w, "general.architecture", "llama");
    mr_status status = mr_tokenizer_put_gguf(t, n_rows, pre, w, err);
    if (status == MR_OK) status = mr_gguf_begin(w, err);
    if (status == MR_OK) status = mr_gguf_finish(w, err);
    mr_gguf_writer_free(w);
    return status;
}

static mr_tokenizer *load_golden(const char *name) {
    char path[512];
    mr_error err = {0};
    mr_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s", TOKENIZER_DIR, name);
    if (mr_tokenizer_from_folder(&t, path, &err) != MR_OK) fail_msg("%s: %s", name, err.text);
    return t;
}

static void test_tokenizers(void **state) {
    (void)state;
    static const struct {
        const char *file, *pre;
    } kinds[] = {{"t-llama3.json", "llama-bpe"},
                 {"t-deepseek.json", "deepseek-coder"},
                 {"t-llama2.json", NULL},
                 {"s-bpe-bytes.model", NULL},
                 {"s-unigram-nfkc.model", NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        mr_error err = {0};
        mr_tokenizer *t = load_golden(kinds[i].file), *written;
        size_t n_rows = mr_tokenizer_n_vocab(t) + 5;
        if (export_tokenizer(t, n_rows, NULL, &err) != MR_OK) fail_msg("%s: %s", kinds[i].file, err.text);
        mr_gguf *gguf = open_gguf(in_folder("vocab.gguf"));
        mr_gguf_str pre = {"", 0};
        mr_gguf_string(gguf, "tokenizer.ggml.pre", &pre);
        print_message("%s: %.*s\n", kinds[i].file, (int)pre.len, pre.data);
        if (kinds[i].pre != NULL)
            assert_true(pre.len == strlen(kinds[i].pre) && memcmp(pre.data, kinds[i].pre, pre.len) == 0);
        assert_int_equal(mr_gguf_find(gguf, "tokenizer.ggml.tokens")->n, n_rows);
        if (mr_tokenizer_from_gguf(&written, gguf, &err) != MR_OK) fail_msg("%s: %s", kinds[i].file, err.text);
        bool agree = false;
        assert_int_equal(mr_tokenizer_agree(t, written, &agree, &err), MR_OK);
        if (!agree) fail_msg("%s: the tokenizer that was written makes other ids", kinds[i].file);
        /* The format has a default where there is none. */
        if (mr_tokenizer_bos(t) >= 0) assert_int_equal(mr_tokenizer_bos(t), mr_tokenizer_bos(written));
        if (mr_tokenizer_eos(t) < 0) {
            mr_tokenizer_free(written);
            mr_gguf_close(gguf);
            mr_tokenizer_free(t);
            assert_int_equal(unlink(in_folder("vocab.gguf")), 0);
            continue;
        }
        assert_int_equal(mr_tokenizer_eos(t), mr_tokenizer_eos(written));
        for (size_t id = 0; id < mr_tokenizer_n_vocab(t); id++)
            assert_int_equal(mr_tokenizer_is_eog(t, (mr_token)id), mr_tokenizer_is_eog(written, (mr_token)id));
        mr_tokenizer_free(written);
        mr_gguf_close(gguf);
        assert_int_equal(unlink(in_folder("vocab.gguf")), 0);
        assert_int_equal(export_tokenizer(t, 7, NULL, &err), MR_ERR_INVALID);
        mr_tokenizer_free(t);
    }
}

static void test_tokenizers_without_form(void **state) {
    (void)state;
    static const char *const files[] = {"t-unigram-bytes.json", "t-unigram-nfkc.json", "s-unigram-suffix.model",
                                        "t-bert-cased.json", "t-delimiter.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        mr_error err = {0};
        mr_tokenizer *t = load_golden(files[i]);
        assert_int_equal(export_tokenizer(t, mr_tokenizer_n_vocab(t), NULL, &err), MR_ERR_UNSUPPORTED);
        assert_true(err.text[0] != '\0');
        mr_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_while_loading),
        cmocka_unit_test(test_types_of_memory),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_tokenizers),
        cmocka_unit_test(test_tokenizers_without_form),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
