/* floors: model */
/* Which layers go to a device, what its names are, and what stands in the way. */
#include "compute/backend.h"
#include "model/device_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 4 };
#define GIB ((size_t)1 << 30)

static const bool ANYWHERE[N] = {true, true, true, true}, NOWHERE[N] = {true, false, false, false};

static mr_plan plan(size_t free_bytes, const bool *borders) {
    static const size_t weights[N] = {2 * GIB, 2 * GIB, 2 * GIB, 2 * GIB}, kv[N] = {GIB, GIB, GIB, GIB};
    const mr_plan_sizes sizes = {.n_layer = N,
                                 .weights = weights,
                                 .kv = kv,
                                 .fixed = 2 * GIB,
                                 .embedding = GIB,
                                 .free = free_bytes,
                                 .borders = borders};
    return mr_plan_layers(&sizes);
}

/* 2 + 1 + 4 * 3 GiB, and a twentieth of what is free is left. */
static void test_all_layers(void **state) {
    (void)state;
    mr_plan p = plan(16 * GIB, ANYWHERE);
    assert_int_equal(p.first_layer, 0);
    assert_true(p.bytes == 15 * GIB && p.bytes_all == 15 * GIB);
    assert_true(p.bytes_usable == 16 * GIB - 16 * GIB / 20);
    /* As much as is needed, but not what is left for the driver. */
    assert_int_equal(plan(15 * GIB, ANYWHERE).first_layer, 1);
}

static void test_split(void **state) {
    (void)state;
    mr_plan p = plan(12 * GIB, ANYWHERE); /* 11.4 usable: three layers and 2, without the table of embeddings */
    assert_int_equal(p.first_layer, 1);
    assert_true(p.bytes == 11 * GIB);
    assert_int_equal(plan(9 * GIB, ANYWHERE).first_layer, 2);
    assert_int_equal(plan(6 * GIB, ANYWHERE).first_layer, 3);
    assert_int_equal(plan(5 * GIB, ANYWHERE).first_layer, N); /* 4.75 usable */
    assert_int_equal(plan(12 * GIB, NOWHERE).first_layer, N);
    assert_int_equal(plan(16 * GIB, NOWHERE).first_layer, 0);
}

/* The next border behind the first layer that would fit, and none where that asks for too much. */
static void test_borders(void **state) {
    (void)state;
    static const bool third[N] = {true, false, true, false}, second[N] = {true, true, false, false};
    mr_plan p = plan(12 * GIB, third); /* three layers would fit */
    assert_int_equal(p.first_layer, 2);
    assert_true(p.bytes == 8 * GIB);
    assert_int_equal(plan(9 * GIB, third).first_layer, 2);
    assert_int_equal(plan(6 * GIB, third).first_layer, N); /* one layer would fit */
    assert_int_equal(plan(12 * GIB, second).first_layer, 1);
    assert_int_equal(plan(9 * GIB, second).first_layer, N);
    assert_int_equal(plan(16 * GIB, second).first_layer, 0);
}

static mr_hparams hparams_of(const char *name) {
    char path[512];
    const char *paths[] = {path};
    mr_gguf *gguf;
    mr_hparams h;
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/tests/conformance/logits/%s.gguf", MR_SOURCE_DIR, name);
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_OK);
    assert_int_equal(mr_hparams_read(&h, gguf, &err), MR_OK);
    mr_gguf_close(gguf);
    return h;
}

/* Any border will do, but none between a layer and one that reads its keys and values. */
static void test_allowed_borders(void **state) {
    (void)state;
    static const char *const any[] = {"llama-gqa", "lfm2", "granitehybrid", "nemotron_h", "qwen35", "deepseek-v3"};
    static const char *const shared[] = {"gemma3n", "gemma4-e2b"};
    for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
        mr_hparams h = hparams_of(any[i]);
        for (uint32_t il = 0; il < h.n_layer; il++) assert_true(mr_border_allowed(&h, il));
        assert_false(mr_border_allowed(&h, h.n_layer));
    }
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        mr_hparams h = hparams_of(shared[i]);
        uint32_t first_source = h.n_layer;
        for (uint32_t il = h.n_layer_kv; il < h.n_layer; il++) {
            uint32_t source = mr_layer_kv_source(&h, il);
            assert_true(source < h.n_layer_kv);
            if (source < first_source) first_source = source;
        }
        assert_in_range(first_source, 1, h.n_layer - 1);
        for (uint32_t il = 0; il < h.n_layer; il++) assert_int_equal(mr_border_allowed(&h, il), il <= first_source);
    }
}

/* What cannot be on a device is refused before anything is loaded. */
static void test_forced_border(void **state) {
    (void)state;
    static const uint32_t wrong[] = {4, 5, 99};
    const char *paths[] = {MR_SOURCE_DIR "/tests/conformance/logits/gemma4-e2b.gguf"};
    mr_gguf *gguf;
    mr_team *team;
    mr_backend *backend;
    mr_error err = {0};
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_OK);
    assert_int_equal(mr_team_new(&team, 1, &err), MR_OK);
    assert_int_equal(mr_backend_cpu_open(&backend, team, &err), MR_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mr_model *model;
        mr_model_options options = {.n_threads = 1, .backend = backend, .first_device_layer = wrong[i]};
        assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_ERR_INVALID);
        assert_non_null(strstr(err.text, "cannot begin at"));
    }
    mr_backend_close(backend);
    mr_team_free(team);
    mr_gguf_close(gguf);
}

static void test_nothing_free(void **state) {
    (void)state;
    assert_int_equal(plan(0, ANYWHERE).first_layer, N);
    assert_true(plan(0, ANYWHERE).bytes_usable == 0);
    assert_true(plan((size_t)512 << 20, ANYWHERE).bytes_usable == (size_t)384 << 20);
}

static void test_names(void **state) {
    (void)state;
    static const char *const good[] = {"auto", "cpu", "cuda", "cuda:0", "cuda:7", "cuda:1023"};
    static const char *const bad[] = {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:1024", "cuda: 1", "CUDA"};
    static const int numbers[] = {0, 0, 0, 0, 7, 1023};
    int number;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(mr_device_name_check(good[i], &number, NULL), MR_OK);
        assert_int_equal(number, numbers[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mr_error err = {0};
        assert_int_equal(mr_device_name_check(bad[i], &number, &err), MR_ERR_INVALID);
        assert_non_null(strstr(err.text, "cuda:N"));
    }
}

/* This machine and this build decide what stands in the way; "auto" loads whatever it is. */
static void test_load(void **state) {
    (void)state;
    const char *paths[] = {MR_SOURCE_DIR "/tests/conformance/logits/llama-gqa.gguf"};
    mr_gguf *gguf;
    mr_model *model = NULL;
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1, .device = "cuda"};
    assert_int_equal(mr_gguf_open(&gguf, paths, 1, &err), MR_OK);
    mr_status status = mr_model_load(&model, gguf, &options, &err);
    bool no_kernels = status == MR_ERR_UNSUPPORTED && strstr(err.text, "no CUDA kernels") != NULL;
    bool no_gpu = status == MR_ERR_NOT_FOUND && strstr(err.text, "GPU") != NULL;
    if (status != MR_OK && !no_kernels && !no_gpu) fail_msg("%s", err.text);
    mr_model_free(model);
    options.device = "auto";
    assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_OK);
    assert_true((mr_model_get_info(model)->device[0] != '\0') == (status == MR_OK));
    mr_model_free(model);
    options.device = "abacus";
    assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_ERR_INVALID);
    mr_gguf_close(gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_layers),    cmocka_unit_test(test_split),
                                       cmocka_unit_test(test_borders),       cmocka_unit_test(test_allowed_borders),
                                       cmocka_unit_test(test_forced_border), cmocka_unit_test(test_nothing_free),
                                       cmocka_unit_test(test_names),         cmocka_unit_test(test_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
