/* floors: model */
/* The memory that a model is said to take, against what it takes when it is loaded. */
#include "model/footprint.h"
#include "model/model.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/logits"

/* Loads the file and compares. The matrices of the golden models are so small that their packed rows are mostly
 * padding, so only a model of the usual shape is held to a tight bound. */
static void compare(const char *path, const char *mix_name, double least, double most) {
    mr_error err = {0};
    mr_gguf *gguf;
    mr_model *model;
    mr_hparams hparams;
    const mr_quant_mix *mix = mix_name != NULL ? mr_quant_mix_find(mix_name) : NULL;
    mr_model_options options = {.n_threads = 1, .quantize = mix};
    assert_int_equal(mr_gguf_open(&gguf, &path, 1, &err), MR_OK);
    assert_int_equal(mr_hparams_read(&hparams, gguf, &err), MR_OK);
    assert_int_equal(mr_footprint_check(gguf, &hparams, mix, hparams.n_layer, &err), MR_OK);
    size_t told = mr_footprint_weights(gguf, &hparams, mix, false);
    assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_OK);
    size_t held = mr_model_get_info(model)->weight_bytes;
    if (!((double)held >= least * (double)told && (double)held <= most * (double)told))
        fail_msg("%s, %s: told %zu bytes, held %zu", path, mix_name, told, held);
    for (int type = MR_KV_F16; type <= MR_KV_F32; type++) {
        size_t block = mr_model_kv_layout(model, (mr_kv_type)type).block_bytes;
        assert_int_equal(mr_footprint_kv(&hparams, (mr_kv_type)type, 1), block);
        assert_int_equal(mr_footprint_kv(&hparams, (mr_kv_type)type, 100 * MR_KV_BLOCK + 1), 101 * block);
    }
    mr_model_free(model);
    mr_gguf_close(gguf);
}

static void test_told_is_held(void **state) {
    (void)state;
    static const char *const mixes[] = {NULL, "Q8_0", "Q4_K_M", "Q2_K"};
    size_t n_files = 0;
    DIR *dir = opendir(GOLDEN_DIR);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".gguf") != 0) continue;
        char path[512];
        snprintf(path, sizeof path, GOLDEN_DIR "/%s", entry->d_name);
        for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) compare(path, mixes[i], 0.5, 4);
        n_files++;
    }
    closedir(dir);
    assert_true(n_files > 0);
    compare(MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf", NULL, 0.95, 1.1);
}

static void test_best_mix(void **state) {
    (void)state;
    const char *path = MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf";
    mr_error err = {0};
    mr_gguf *gguf;
    mr_hparams hparams;
    assert_int_equal(mr_gguf_open(&gguf, &path, 1, &err), MR_OK);
    assert_int_equal(mr_hparams_read(&hparams, gguf, &err), MR_OK);
    size_t bytes, smallest = SIZE_MAX;
    for (size_t i = 0; mr_quant_mix_at(i) != NULL; i++) {
        size_t n = mr_footprint_weights(gguf, &hparams, mr_quant_mix_at(i), true);
        if (n < smallest) smallest = n;
        const mr_quant_mix *best = mr_footprint_best_mix(gguf, &hparams, n, &bytes);
        assert_non_null(best);
        assert_int_equal(bytes, n); /* a mix itself fits exactly, and nothing larger does */
    }
    assert_null(mr_footprint_best_mix(gguf, &hparams, smallest - 1, &bytes));
    mr_gguf_close(gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_told_is_held), cmocka_unit_test(test_best_mix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
