/* floors: model */
/* Experts that no golden model has: with a norm of their own beside a shared expert with a router, over the seam as by
 * the CPU's own pass; and of types that do not go together, which are refused. */
#include "compute/backend.h"
#include "model/gguf_write.h"
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN_DIR MR_SOURCE_DIR "/tests/conformance/logits/"

enum { N_TOKENS = 20, MAX_VOCAB = 256 };

static void must(mr_status status, const mr_error *err) {
    if (status != MR_OK) fail_msg("%s", err->text);
}

static mr_gguf *open_gguf(const char *path) {
    mr_gguf *gguf;
    mr_error err = {0};
    must(mr_gguf_open(&gguf, &path, 1, &err), &err);
    return gguf;
}

/* The golden model with routers of `size` for its shared experts. */
static void write_model(const char *path, float size) {
    mr_gguf *golden = open_gguf(GOLDEN_DIR "gemma4-26b-a4b.gguf");
    mr_gguf_writer *w;
    mr_error err = {0};
    must(mr_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < mr_gguf_n_values(golden); i++) mr_gguf_put_value(w, mr_gguf_value_at(golden, i));
    size_t n = mr_gguf_n_tensors(golden);
    for (size_t i = 0; i < n; i++) {
        const mr_gguf_tensor *t = mr_gguf_tensor_at(golden, i);
        mr_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->shape);
    }
    uint64_t n_embd = mr_gguf_find_tensor(golden, "output_norm.weight")->shape[0];
    assert_in_range(n_embd, 1, 64);
    mr_gguf_put_tensor(w, "blk.0.ffn_gate_inp_shexp.weight", MR_F32, 1, &n_embd);
    must(mr_gguf_begin(w, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const mr_gguf_tensor *t = mr_gguf_tensor_at(golden, i);
        must(mr_gguf_append(w, t->data, t->n_bytes, &err), &err);
    }
    float router[64];
    for (size_t i = 0; i < n_embd; i++) router[i] = size * (float)((int)(i * 7 % 11) - 5);
    must(mr_gguf_append(w, router, n_embd * sizeof *router, &err), &err);
    must(mr_gguf_finish(w, &err), &err);
    mr_gguf_writer_free(w);
    mr_gguf_close(golden);
}

/* Logits [N_TOKENS, n_vocab] on the CPU or, with a back end, over the seam. */
static void compute(const char *path, mr_backend *backend, float logits[N_TOKENS * MAX_VOCAB], size_t *n_vocab) {
    mr_gguf *gguf = open_gguf(path);
    mr_model *model;
    mr_kv_pool pool;
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1, .backend = backend};
    must(mr_model_load(&model, gguf, &options, &err), &err);
    *n_vocab = mr_model_get_info(model)->n_vocab;
    assert_in_range(*n_vocab, 1, MAX_VOCAB);
    must(mr_model_kv_init(model, &pool, MR_KV_F32, 1, &err), &err);
    int32_t tokens[N_TOKENS];
    static const int32_t blocks[] = {0};
    for (int i = 0; i < N_TOKENS; i++) tokens[i] = 3 + i * 5 % 40;
    mr_batch_run run = {
        .tokens = tokens, .n_tokens = N_TOKENS, .blocks = blocks, .n_logits = N_TOKENS, .logits = logits};
    must(mr_model_forward(model, &pool, &run, 1, NULL, &err), &err);
    mr_model_kv_free(model, &pool);
    mr_model_free(model);
    mr_gguf_close(gguf);
}

static void a_shared_router_and_norms_of_experts_go_together(void **state) {
    (void)state;
    static float here[N_TOKENS * MAX_VOCAB], there[N_TOKENS * MAX_VOCAB], flat[N_TOKENS * MAX_VOCAB];
    char path[] = "/tmp/mr-test-experts-XXXXXX";
    mr_team *team;
    mr_backend *backend;
    mr_error err = {0};
    size_t n_vocab, differ = 0;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    must(mr_team_new(&team, 1, &err), &err);
    must(mr_backend_cpu_open(&backend, team, &err), &err);
    write_model(path, 0.0f);
    compute(path, NULL, flat, &n_vocab);
    write_model(path, 0.3f);
    compute(path, NULL, here, &n_vocab);
    compute(path, backend, there, &n_vocab);
    for (size_t i = 0; i < N_TOKENS * n_vocab; i++) {
        if (!(fabsf(here[i] - there[i]) <= 1e-4f))
            fail_msg("logit %zu is %g, not %g", i, (double)there[i], (double)here[i]);
        differ += fabsf(here[i] - flat[i]) > 1e-2f;
    }
    assert_true(differ > N_TOKENS); /* the router counts */
    mr_backend_close(backend);
    mr_team_free(team);
    assert_int_equal(unlink(path), 0);
}

/* The golden model whose experts are tensors of their own, one of them cut to BF16. */
static void write_mixed_types(const char *path, const char *odd) {
    mr_gguf *golden = open_gguf(GOLDEN_DIR "mixtral-old.gguf");
    mr_gguf_writer *w;
    mr_error err = {0};
    must(mr_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < mr_gguf_n_values(golden); i++) mr_gguf_put_value(w, mr_gguf_value_at(golden, i));
    size_t n = mr_gguf_n_tensors(golden), n_odd = 0;
    for (size_t i = 0; i < n; i++) {
        const mr_gguf_tensor *t = mr_gguf_tensor_at(golden, i);
        bool is_odd = strcmp(t->name, odd) == 0;
        mr_gguf_put_tensor(w, t->name, is_odd ? MR_BF16 : t->type, t->n_dims, t->shape);
        n_odd += is_odd && t->type == MR_F32;
    }
    assert_int_equal(n_odd, 1);
    must(mr_gguf_begin(w, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const mr_gguf_tensor *t = mr_gguf_tensor_at(golden, i);
        const uint8_t *data = t->data;
        if (strcmp(t->name, odd) != 0) {
            must(mr_gguf_append(w, data, t->n_bytes, &err), &err);
            continue;
        }
        for (size_t k = 0; k < t->n_bytes; k += 4) must(mr_gguf_append(w, data + k + 2, 2, &err), &err);
    }
    must(mr_gguf_finish(w, &err), &err);
    mr_gguf_writer_free(w);
    mr_gguf_close(golden);
}

static void experts_of_types_that_do_not_go_together_are_refused(void **state) {
    (void)state;
    static const char *const odd[] = {"blk.0.ffn_gate.1.weight", "blk.0.ffn_up.3.weight", "blk.0.ffn_down.2.weight"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char path[] = "/tmp/mr-test-experts-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        write_mixed_types(path, odd[i]);
        mr_gguf *gguf = open_gguf(path);
        mr_model *model;
        mr_error err = {0};
        const mr_model_options options = {.n_threads = 1};
        assert_int_equal(mr_model_load(&model, gguf, &options, &err), MR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, "do not go together"));
        mr_gguf_close(gguf);
        assert_int_equal(unlink(path), 0);
    }
}

int main(void) {
    setenv("RUST_LOG", "error", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shared_router_and_norms_of_experts_go_together),
        cmocka_unit_test(experts_of_types_that_do_not_go_together_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
