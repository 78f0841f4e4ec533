/* floors: model */
#include "base/buf.h"
#include "base/file.h"
#include "compute/dtype.h"
#include "model/gguf.h"
#include "model/gguf_write.h"
#include "model/quant_mix.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/mr-gguf-write-XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof(path), "%s/model.gguf", folder);
    return 0;
}

/* Number of files left in the folder, which is removed with them. */
static int clear_folder(void) {
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.') continue;
        char *file = mr_path_join(folder, entry->d_name);
        unlink(file);
        free(file);
        n++;
    }
    closedir(dir);
    return n;
}

static int remove_folder(void **state) {
    (void)state;
    clear_folder();
    return rmdir(folder);
}

static mr_gguf_writer *new_writer(void) {
    mr_gguf_writer *writer = NULL;
    mr_error err = {0};
    if (mr_gguf_writer_new(&writer, path, &err) != MR_OK) fail_msg("%s", err.text);
    return writer;
}

static mr_gguf *open_file(const char *file) {
    mr_gguf *gguf = NULL;
    mr_error err = {0};
    if (mr_gguf_open(&gguf, &file, 1, &err) != MR_OK) fail_msg("%s", err.text);
    return gguf;
}

static void put_all_types(mr_gguf_writer *w) {
    static const mr_gguf_str strings[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
    static const float floats[] = {1.5f, -2.0f};
    static const int16_t shorts[] = {-3, 4, 5};
    mr_gguf_put_string(w, "general.architecture", "llama");
    mr_gguf_put_u8(w, "u8", 200);
    mr_gguf_put_i8(w, "i8", -100);
    mr_gguf_put_u16(w, "u16", 60000);
    mr_gguf_put_i16(w, "i16", -30000);
    mr_gguf_put_u32(w, "u32", 4000000000u);
    mr_gguf_put_i32(w, "i32", -2000000000);
    mr_gguf_put_u64(w, "u64", UINT64_C(1) << 62);
    mr_gguf_put_i64(w, "i64", -1);
    mr_gguf_put_f32(w, "f32", 0.25f);
    mr_gguf_put_f64(w, "f64", 0.5);
    mr_gguf_put_bool(w, "bool", true);
    mr_gguf_put_strings(w, "strings", strings, 3);
    mr_gguf_put_array(w, "floats", MR_GGUF_FLOAT32, floats, 2);
    mr_gguf_put_array(w, "shorts", MR_GGUF_INT16, shorts, 3);
    mr_gguf_put_array(w, "none", MR_GGUF_UINT8, NULL, 0);
}

static void check_all_types(const mr_gguf *g) {
    uint64_t u = 0;
    float f = 0;
    bool b = false;
    int64_t i = 0;
    mr_gguf_str s;
    assert_int_equal(mr_gguf_n_values(g), 16);
    assert_true(mr_gguf_string(g, "general.architecture", &s) && s.len == 5 && memcmp(s.data, "llama", 5) == 0);
    assert_true(mr_gguf_u64(g, "u8", &u) && u == 200);
    assert_true(mr_gguf_u64(g, "u16", &u) && u == 60000);
    assert_true(mr_gguf_u64(g, "u32", &u) && u == 4000000000u);
    assert_true(mr_gguf_u64(g, "u64", &u) && u == UINT64_C(1) << 62);
    assert_false(mr_gguf_u64(g, "i8", &u) || mr_gguf_u64(g, "i16", &u) || mr_gguf_u64(g, "i32", &u) ||
                 mr_gguf_u64(g, "i64", &u));
    assert_int_equal((int8_t)mr_gguf_find(g, "i8")->data[0], -100);
    assert_int_equal(mr_gguf_find(g, "i64")->n_bytes, 8);
    assert_true(mr_gguf_f32(g, "f32", &f) && f == 0.25f);
    assert_true(mr_gguf_f32(g, "f64", &f) && f == 0.5f);
    assert_true(mr_gguf_bool(g, "bool", &b) && b);
    const mr_gguf_value *strings = mr_gguf_find(g, "strings");
    size_t cursor = 0;
    assert_int_equal(strings->n, 3);
    assert_true(mr_gguf_array_next_string(strings, &cursor, &s) && s.len == 3);
    assert_true(mr_gguf_array_next_string(strings, &cursor, &s) && s.len == 0);
    assert_true(mr_gguf_array_next_string(strings, &cursor, &s) && memcmp(s.data, "t\0o", 3) == 0);
    assert_true(mr_gguf_array_f32(mr_gguf_find(g, "floats"), 1, &f) && f == -2.0f);
    assert_true(mr_gguf_array_i64(mr_gguf_find(g, "shorts"), 0, &i) && i == -3);
    assert_int_equal(mr_gguf_find(g, "none")->n, 0);
}

static void test_metadata(void **state) {
    (void)state;
    mr_error err = {0};
    mr_gguf_writer *w = new_writer();
    put_all_types(w);
    assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
    assert_int_equal(mr_gguf_finish(w, &err), MR_OK);
    mr_gguf_writer_free(w);
    mr_gguf *first = open_file(path);
    check_all_types(first);

    /* every value copied to a second file, as it is */
    char *second_path = mr_path_join(folder, "copy.gguf");
    assert_int_equal(mr_gguf_writer_new(&w, second_path, &err), MR_OK);
    for (size_t i = 0; i < mr_gguf_n_values(first); i++) mr_gguf_put_value(w, mr_gguf_value_at(first, i));
    assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
    assert_int_equal(mr_gguf_finish(w, &err), MR_OK);
    mr_gguf_writer_free(w);
    mr_gguf *second = open_file(second_path);
    check_all_types(second);
    mr_gguf_close(first);
    mr_gguf_close(second);
    free(second_path);
    assert_int_equal(clear_folder(), 2);
}

static void test_tensors(void **state) {
    (void)state;
    for (uint32_t alignment = 8; alignment <= 512; alignment *= 8) {
        mr_error err = {0};
        mr_gguf_writer *w = new_writer();
        mr_gguf_put_u32(w, "general.alignment", alignment);
        float a[3] = {1, 2, 3}, c[4] = {4, 5, 6, 7};
        uint8_t b[2 * 34];
        memset(b, 7, sizeof(b));
        assert_int_equal(mr_gguf_put_tensor(w, "a", MR_F32, 1, (uint64_t[]){3}), 0);
        assert_int_equal(mr_gguf_put_tensor(w, "b", MR_Q8_0, 2, (uint64_t[]){32, 2}), 1);
        assert_int_equal(mr_gguf_put_tensor(w, "c", MR_F32, 4, (uint64_t[]){1, 2, 1, 2}), 2);
        assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
        assert_int_equal(mr_gguf_tensor_size(w, 1), sizeof(b));
        /* streamed in odd pieces, one of which goes over the ends of tensors */
        mr_buf all = {0};
        mr_buf_append(&all, a, sizeof(a));
        mr_buf_append(&all, b, sizeof(b));
        mr_buf_append(&all, c, sizeof(c));
        assert_int_equal(mr_gguf_append(w, all.data, 5, &err), MR_OK);
        assert_int_equal(mr_gguf_append(w, all.data + 5, all.len - 6, &err), MR_OK);
        assert_int_equal(mr_gguf_finish(w, &err), MR_ERR_INVALID);
        assert_int_equal(mr_gguf_append(w, all.data + all.len - 1, 1, &err), MR_OK);
        assert_int_equal(mr_gguf_append(w, all.data, 1, &err), MR_ERR_INVALID);
        assert_int_equal(mr_gguf_finish(w, &err), MR_OK);
        mr_gguf_writer_free(w);
        mr_buf_free(&all);

        mr_gguf *g = open_file(path);
        assert_memory_equal(mr_gguf_find_tensor(g, "a")->data, a, sizeof(a));
        assert_memory_equal(mr_gguf_find_tensor(g, "b")->data, b, sizeof(b));
        const mr_gguf_tensor *t = mr_gguf_find_tensor(g, "c");
        assert_int_equal(t->n_dims, 4);
        assert_int_equal(t->shape[3], 2);
        assert_memory_equal(t->data, c, sizeof(c));
        mr_gguf_close(g);
        assert_int_equal(clear_folder(), 1);
    }
}

typedef struct part {
    mr_gguf_writer *writer;
    uint8_t value;
    size_t offset;
} part;

enum { PART_BYTES = 40000 };

static void *write_part(void *arg) {
    const part *p = arg;
    uint8_t bytes[100];
    memset(bytes, p->value, sizeof(bytes));
    for (size_t at = 0; at < PART_BYTES; at += sizeof(bytes))
        if (mr_gguf_write_at(p->writer, 0, p->offset + at, bytes, sizeof(bytes), NULL) != MR_OK) return arg;
    return NULL;
}

static void test_parallel_writes(void **state) {
    (void)state;
    mr_error err = {0};
    mr_gguf_writer *w = new_writer();
    mr_gguf_put_tensor(w, "t", MR_I8, 2, (uint64_t[]){PART_BYTES, 4});
    assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
    pthread_t threads[4];
    part parts[4];
    for (int i = 0; i < 4; i++) {
        parts[i] = (part){w, (uint8_t)(i + 1), (size_t)i * PART_BYTES};
        assert_int_equal(pthread_create(&threads[i], NULL, write_part, &parts[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(mr_gguf_finish(w, &err), MR_OK);
    mr_gguf_writer_free(w);
    mr_gguf *g = open_file(path);
    const mr_gguf_tensor *t = mr_gguf_find_tensor(g, "t");
    for (size_t i = 0; i < t->n_bytes; i++) assert_int_equal(t->data[i], i / PART_BYTES + 1);
    mr_gguf_close(g);
    clear_folder();
}

/* What each misuse leads to; the file must not appear and nothing may stay behind. */
static void expect_refusal(void (*misuse)(mr_gguf_writer *w), mr_status status, const char *word) {
    mr_error err = {0};
    mr_gguf_writer *w = new_writer();
    misuse(w);
    assert_int_equal(mr_gguf_begin(w, &err), status);
    if (strstr(err.text, word) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    assert_int_not_equal(mr_gguf_finish(w, &err), MR_OK);
    mr_gguf_writer_free(w);
    assert_int_equal(clear_folder(), 0);
}

static void put_twice(mr_gguf_writer *w) {
    mr_gguf_put_u32(w, "key", 1);
    mr_gguf_put_f32(w, "key", 1);
    mr_gguf_put_u32(w, "other", 1);
}
static void put_tensor_twice(mr_gguf_writer *w) {
    mr_gguf_put_tensor(w, "same", MR_F32, 1, (uint64_t[]){1});
    mr_gguf_put_tensor(w, "same", MR_F32, 1, (uint64_t[]){1});
}
static void put_empty_key(mr_gguf_writer *w) {
    mr_gguf_put_u32(w, "", 1);
}
static void put_long_name(mr_gguf_writer *w) {
    char name[80];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    mr_gguf_put_tensor(w, name, MR_F32, 1, (uint64_t[]){1});
}
static void put_torn_row(mr_gguf_writer *w) {
    mr_gguf_put_tensor(w, "t", MR_Q4_K, 2, (uint64_t[]){255, 2});
}
static void put_unknown_type(mr_gguf_writer *w) {
    mr_gguf_put_tensor(w, "t", 4, 1, (uint64_t[]){32});
}
static void put_huge(mr_gguf_writer *w) {
    mr_gguf_put_tensor(w, "t", MR_F32, 3, (uint64_t[]){1u << 31, 1u << 31, 1u << 31});
}
static void put_empty_tensor(mr_gguf_writer *w) {
    mr_gguf_put_tensor(w, "t", MR_F32, 2, (uint64_t[]){4, 0});
}
static void put_bad_alignment(mr_gguf_writer *w) {
    mr_gguf_put_u32(w, "general.alignment", 24);
}
static void put_nested(mr_gguf_writer *w) {
    mr_gguf_put_array(w, "a", MR_GGUF_ARRAY, "", 1);
}

static void test_refusals(void **state) {
    (void)state;
    expect_refusal(put_twice, MR_ERR_INVALID, "twice");
    expect_refusal(put_tensor_twice, MR_ERR_INVALID, "twice");
    expect_refusal(put_empty_key, MR_ERR_INVALID, "0 bytes");
    expect_refusal(put_long_name, MR_ERR_INVALID, "79 bytes");
    expect_refusal(put_torn_row, MR_ERR_INVALID, "blocks of Q4_K");
    expect_refusal(put_unknown_type, MR_ERR_INVALID, "type 4");
    expect_refusal(put_huge, MR_ERR_LIMIT, "too large");
    expect_refusal(put_empty_tensor, MR_ERR_INVALID, "dimension 1");
    expect_refusal(put_bad_alignment, MR_ERR_INVALID, "alignment");
    expect_refusal(put_nested, MR_ERR_INVALID, "no number");

    mr_error err = {0};
    mr_gguf_writer *w = NULL;
    assert_int_equal(mr_gguf_writer_new(&w, "/nowhere/at/all.gguf", &err), MR_ERR_IO);
    assert_null(w);
    w = new_writer();
    mr_gguf_put_tensor(w, "t", MR_F32, 1, (uint64_t[]){4});
    assert_int_equal(mr_gguf_write_at(w, 0, 0, "abcd", 4, &err), MR_ERR_INVALID);
    assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
    assert_int_equal(mr_gguf_begin(w, &err), MR_ERR_INVALID);
    assert_int_equal(mr_gguf_write_at(w, 0, 14, "abcd", 4, &err), MR_ERR_INVALID);
    assert_int_equal(mr_gguf_write_at(w, 1, 0, "abcd", 4, &err), MR_ERR_INVALID);
    assert_int_equal(mr_gguf_write_at(w, 0, SIZE_MAX, "abcd", 4, &err), MR_ERR_INVALID);
    mr_gguf_writer_free(w);
    assert_int_equal(clear_folder(), 0);
}

/* An unfinished write leaves the file that was there alone. */
static void test_old_file_survives(void **state) {
    (void)state;
    mr_error err = {0};
    FILE *f = fopen(path, "w");
    fputs("old", f);
    fclose(f);
    mr_gguf_writer *w = new_writer();
    mr_gguf_put_tensor(w, "t", MR_F32, 1, (uint64_t[]){4});
    assert_int_equal(mr_gguf_begin(w, &err), MR_OK);
    mr_gguf_writer_free(w);
    mr_buf text = {0};
    assert_int_equal(mr_file_read(&text, path, 100, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&text), "old");
    mr_buf_free(&text);
    assert_int_equal(clear_folder(), 1);
}

static mr_dtype mixed_type(const char *mix, const char *name, uint32_t n_layer, uint32_t n_gqa, uint64_t n_in) {
    const mr_quant_mix *m = mr_quant_mix_find(mix);
    assert_non_null(m);
    return mr_quant_mix_type(m, &(mr_quant_tensor){name, 2, n_in, n_layer, n_gqa, 0, false});
}

static void test_mixes(void **state) {
    (void)state;
    assert_null(mr_quant_mix_find("Q9_K"));
    assert_string_equal(mr_quant_mix_name(mr_quant_mix_find("q4km")), "Q4_K_M");
    assert_string_equal(mr_quant_mix_name(mr_quant_mix_find("Q4_K")), "Q4_K_M");
    assert_int_equal(mr_quant_mix_file_type(mr_quant_mix_find("Q4_K_M")), 15);

    /* Llama 2 7B in Q4_K_M: 16 of the 32 layers have Q6_K values and down projections, and so has the output. */
    int n_better = 0;
    for (uint32_t layer = 0; layer < 32; layer++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%u.attn_v.weight", layer);
        mr_dtype v = mixed_type("Q4_K_M", name, 32, 1, 4096);
        snprintf(name, sizeof(name), "blk.%u.ffn_down.weight", layer);
        assert_int_equal(mixed_type("Q4_K_M", name, 32, 1, 11008), v);
        assert_true(v == MR_Q4_K || v == MR_Q6_K);
        n_better += v == MR_Q6_K;
    }
    assert_int_equal(n_better, 16);
    assert_int_equal(mixed_type("Q4_K_M", "output.weight", 32, 1, 4096), MR_Q6_K);
    assert_int_equal(mixed_type("Q4_K_M", "token_embd.weight", 32, 1, 4096), MR_Q4_K);
    assert_int_equal(mixed_type("Q4_K_S", "blk.3.attn_v.weight", 32, 1, 4096), MR_Q5_K);
    assert_int_equal(mixed_type("Q4_K_S", "blk.4.attn_v.weight", 32, 1, 4096), MR_Q4_K);
    assert_int_equal(mixed_type("Q2_K", "blk.9.attn_v.weight", 32, 4, 4096), MR_Q4_K);
    assert_int_equal(mixed_type("Q2_K", "blk.9.attn_v.weight", 32, 1, 4096), MR_Q3_K);
    assert_int_equal(mixed_type("Q8_0", "output.weight", 32, 1, 4096), MR_Q8_0);
    assert_int_equal(mixed_type("F16", "output.weight", 32, 1, 4096), MR_F16);
    /* rows that are no whole super-blocks, and no whole blocks at all */
    assert_int_equal(mixed_type("Q4_K_M", "blk.9.attn_q.weight", 32, 1, 96), MR_Q5_0);
    assert_int_equal(mixed_type("Q6_K", "blk.9.attn_q.weight", 32, 1, 96), MR_Q8_0);
    assert_int_equal(mixed_type("Q4_K_M", "blk.9.attn_q.weight", 32, 1, 80), MR_F16);

    assert_true(mr_quant_allowed("blk.0.ffn_down_exps.weight", 3));
    assert_false(mr_quant_allowed("blk.0.attn_norm.weight", 1));
    assert_false(mr_quant_allowed("blk.0.ffn_gate_inp.weight", 2));
    assert_false(mr_quant_allowed("blk.0.attn_q.bias", 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),          cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_parallel_writes),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_old_file_survives), cmocka_unit_test(test_mixes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
