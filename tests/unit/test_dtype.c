/* floors: compute */
#include "base/buf.h"
#include "base/file.h"
#include "compute/blocks.h"
#include "compute/dtype.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float from_bits(uint32_t u) {
    union {
        uint32_t u;
        float f;
    } v = {.u = u};
    return v.f;
}

static uint32_t to_bits(float f) {
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    return v.u;
}

/* The definition of a half float, without bit tricks. */
static float half_by_definition(uint16_t half) {
    int exponent = half >> 10 & 31;
    int mantissa = half & 1023;
    float magnitude = exponent == 0 ? ldexpf((float)mantissa, -24) : ldexpf((float)(1024 + mantissa), exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static void test_every_half(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 65536; half++) {
        float value = mr_f16_to_f32((uint16_t)half);
        if ((half & 0x7C00) == 0x7C00) {
            if ((half & 0x3FF) != 0) {
                assert_true(isnan(value));
                assert_true((mr_f32_to_f16(value) & 0x7FFF) > 0x7C00);
                continue;
            }
            assert_true(isinf(value));
        } else {
            assert_int_equal(to_bits(value), to_bits(half_by_definition((uint16_t)half)));
        }
        assert_int_equal(mr_f32_to_f16(value), half);
    }
}

/* Between each two neighbouring halves: the middle goes to the even one, what is off the middle to the nearer one. */
static void test_half_rounding(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x7C00; half++) {
        float low = half_by_definition((uint16_t)half);
        float high = half == 0x7BFF ? 65536.0f : half_by_definition((uint16_t)(half + 1));
        float middle = low + (high - low) / 2;
        uint16_t even = half & 1 ? (uint16_t)(half + 1) : (uint16_t)half;
        assert_int_equal(mr_f32_to_f16(middle), even);
        assert_int_equal(mr_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(mr_f32_to_f16(nextafterf(middle, low)), half);
        assert_int_equal(mr_f32_to_f16(nextafterf(middle, high)), half + 1);
    }
    assert_int_equal(mr_f32_to_f16(3.0e38f), 0x7C00);
    assert_int_equal(mr_f32_to_f16(-1.0e-30f), 0x8000);
}

static void test_bf16_rounding(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = mr_bf16_to_f32((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(mr_bf16_to_f32(mr_f32_to_bf16(value))));
            continue;
        }
        assert_int_equal(mr_f32_to_bf16(value), bits);
        if (isinf(value)) continue;
        uint32_t even = bits + (bits & 1);
        assert_int_equal(mr_f32_to_bf16(from_bits(bits << 16 | 0x8000)), even);
        assert_int_equal(mr_f32_to_bf16(from_bits(bits << 16 | 0x7FFF)), bits);
        assert_int_equal(mr_f32_to_bf16(from_bits(bits << 16 | 0x8001)), bits + 1);
    }
}

static void test_table(void **state) {
    (void)state;
    assert_string_equal(mr_dtype_find(MR_Q4_K)->name, "Q4_K");
    assert_null(mr_dtype_find(4));
    assert_null(mr_dtype_find(0xFFFFFFFFu));
    assert_int_equal(mr_dtype_by_name("q4k")->type, MR_Q4_K);
    assert_int_equal(mr_dtype_by_name("Q4_K")->type, MR_Q4_K);
    assert_int_equal(mr_dtype_by_name("iq2_xxs")->type, MR_IQ2_XXS);
    assert_null(mr_dtype_by_name("Q4"));
    assert_null(mr_dtype_by_name(""));
    assert_null(mr_dtype_by_name("Q4_K_M"));

    size_t n_bytes = 7;
    const mr_dtype_info *q6 = mr_dtype_find(MR_Q6_K);
    assert_true(mr_dtype_row_bytes(q6, 512, &n_bytes));
    assert_int_equal(n_bytes, 420);
    assert_true(mr_dtype_row_bytes(q6, 0, &n_bytes));
    assert_int_equal(n_bytes, 0);
    assert_false(mr_dtype_row_bytes(q6, 255, &n_bytes));
    assert_false(mr_dtype_row_bytes(mr_dtype_find(MR_F32), UINT64_MAX / 2, &n_bytes));
}

/* ---- decoding against recorded values */

static char *fixture_path(const char *folder, const char *name, const char *suffix) {
    mr_buf path = {0};
    mr_buf_printf(&path, "%s/%s%s", folder, name, suffix);
    return mr_buf_take(&path);
}

/* Decodes NAME.bytes and compares bit by bit with NAME.f32; -1 when the files are not there. The bytes are moved to an odd
 * address, as they may have in a mapped file. */
static int decode_matches(const char *folder, const mr_dtype_info *info) {
    mr_buf bytes = {0}, expected = {0};
    char *bytes_path = fixture_path(folder, info->name, ".bytes"), *values_path = fixture_path(folder, info->name, ".f32");
    int matches = -1;
    if (mr_path_is_file(bytes_path)) {
        assert_int_equal(mr_file_read(&bytes, bytes_path, 1 << 24, NULL), MR_OK);
        assert_int_equal(mr_file_read(&expected, values_path, 1 << 24, NULL), MR_OK);
        size_t n = expected.len / 4;
        assert_int_equal(bytes.len * info->block_values, n * info->block_bytes);
        assert_non_null(info->dequantize);
        uint8_t *odd = malloc(bytes.len + 1);
        float *values = malloc(expected.len);
        memcpy(odd + 1, bytes.data, bytes.len);
        info->dequantize(odd + 1, values, n);
        matches = 1;
        for (size_t i = 0; i < n && matches; i++) {
            float want;
            memcpy(&want, expected.data + 4 * i, 4);
            if (to_bits(want) != to_bits(values[i]) && !(isnan(want) && isnan(values[i]))) {
                print_error("%s: value %zu is %a, want %a\n", info->name, i, (double)values[i], (double)want);
                matches = 0;
            }
        }
        free(odd);
        free(values);
    }
    free(bytes_path);
    free(values_path);
    mr_buf_free(&bytes);
    mr_buf_free(&expected);
    return matches;
}

static int decode_folder(const char *folder) {
    int n_found = 0;
    for (uint32_t id = 0; id < 64; id++) {
        const mr_dtype_info *info = mr_dtype_find(id);
        int matches = info ? decode_matches(folder, info) : -1;
        assert_int_not_equal(matches, 0);
        n_found += matches > 0;
    }
    return n_found;
}

static void test_decode_fixtures(void **state) {
    (void)state;
    const char *fixtures = getenv("MR_FIXTURES");
    char *folder = fixture_path(fixtures ? fixtures : MR_SOURCE_DIR "/../shared/fixtures", "quant", "");
    int present = mr_path_is_dir(folder);
    int n_found = present ? decode_folder(folder) : 0;
    free(folder);
    if (!present) skip();
    assert_true(n_found >= 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),      cmocka_unit_test(test_half_rounding), cmocka_unit_test(test_bf16_rounding),
        cmocka_unit_test(test_table),           cmocka_unit_test(test_decode_fixtures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
