/* floors: compute */
#include "base/buf.h"
#include "base/file.h"
#include "compute/blocks.h"
#include "compute/cpu.h"
#include "compute/dtype.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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

/* Decodes NAME.bytes and compares bit by bit with NAME.f32; -1 when the files are not there. The bytes are moved to an
 * odd address, as they may have in a mapped file. */
static int decode_matches(const char *folder, const mr_dtype_info *info) {
    mr_buf bytes = {0}, expected = {0};
    char *bytes_path = fixture_path(folder, info->name, ".bytes"),
         *values_path = fixture_path(folder, info->name, ".f32");
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

/* ---- golden data of tests/conformance/quant, see make_golden.py there */

static uint64_t mix(uint64_t counter) {
    uint64_t z = (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void stream(uint64_t seed, uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(mix((seed << 32) + i / 8) >> (i % 8 * 8));
}

static uint64_t value_hash(const float *values, size_t n) {
    uint64_t hash = 0;
    for (size_t i = 0; i < n; i++) hash += (uint64_t)to_bits(values[i]) * (mix(i) | 1);
    return hash;
}

static char *golden_text(const char *name) {
    mr_buf text = {0};
    char *path = fixture_path(MR_SOURCE_DIR "/tests/conformance/quant/", name, "");
    mr_error err = {0};
    if (mr_file_read(&text, path, 1 << 20, &err) != MR_OK) fail_msg("%s", err.text);
    free(path);
    return mr_buf_take(&text);
}

static void clear_bit6(uint8_t *blocks, size_t n_blocks, size_t block_bytes, const char *offsets) {
    for (const char *p = offsets; *p && *p != '-';) {
        size_t offset = strtoul(p, (char **)&p, 10);
        assert_true(offset < block_bytes);
        for (size_t b = 0; b < n_blocks; b++) blocks[b * block_bytes + offset] &= 0xBF;
        if (*p == ',') p++;
    }
}

static void test_decode_random_blocks(void **state) {
    (void)state;
    char *text = golden_text("decode.txt"), *rest = NULL;
    int n_types = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[16], offsets[32];
        unsigned id;
        size_t n_blocks;
        unsigned long long hash;
        assert_int_equal(sscanf(line, "%15s %u %zu %llx %31s", name, &id, &n_blocks, &hash, offsets), 5);
        const mr_dtype_info *info = mr_dtype_find(id);
        assert_non_null(info);
        assert_string_equal(info->name, name);
        size_t n_bytes = n_blocks * info->block_bytes, n = n_blocks * info->block_values;
        uint8_t *blocks = malloc(n_bytes);
        float *values = malloc(n * sizeof(float));
        stream(id, blocks, n_bytes);
        clear_bit6(blocks, n_blocks, info->block_bytes, offsets);
        info->dequantize(blocks, values, n);
        if (value_hash(values, n) != hash) fail_msg("%s decodes differently", name);
        free(blocks);
        free(values);
        n_types++;
    }
    free(text);
    assert_int_equal(n_types, 26);
}

enum { ROWS = 256, COLS = 256, N_INPUT = ROWS * COLS };

static void fill_input(float *x, const char *kind) {
    uint8_t *bytes = malloc(N_INPUT * 8);
    stream(1u << 20, bytes, N_INPUT * 8);
    for (int i = 0; i < N_INPUT; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += (float)(bytes[8 * i + 2 * k] | bytes[8 * i + 2 * k + 1] << 8);
        float v = (sum - 131070.0f) * 0x1p-16f;
        x[i] = strcmp(kind, "heavy") == 0 ? v * v * v : strcmp(kind, "shifted") == 0 ? v + 0.5f : v;
    }
    free(bytes);
}

/* Root of the mean of w * error^2. */
static double encode_error(const mr_dtype_info *info, const float *x, const float *w, int n) {
    size_t n_bytes = 0;
    assert_true(mr_dtype_row_bytes(info, (uint64_t)n, &n_bytes));
    uint8_t *blocks = malloc(n_bytes);
    float *decoded = malloc((size_t)n * sizeof(float));
    info->quantize(x, blocks, (size_t)n, w);
    info->dequantize(blocks, decoded, (size_t)n);
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (w ? (double)w[i] : 1.0) * ((double)decoded[i] - (double)x[i]) * ((double)decoded[i] - (double)x[i]);
    free(blocks);
    free(decoded);
    return sqrt(sum / n);
}

static void test_encode_error(void **state) {
    (void)state;
    char *text = golden_text("quantize.txt"), *rest = NULL;
    float *x = malloc(N_INPUT * sizeof(float));
    int n_lines = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[16], kind[16];
        unsigned id;
        double reference;
        assert_int_equal(sscanf(line, "%15s %u %15s %lf", name, &id, kind, &reference), 4);
        fill_input(x, kind);
        double ratio = encode_error(mr_dtype_find(id), x, NULL, N_INPUT) / reference;
        print_message("%-6s %-7s error %.4f of the reference's\n", name, kind, ratio);
        if (!(ratio <= 1.02)) fail_msg("%s on %s input: error %.4f of the reference's", name, kind, ratio);
        n_lines++;
    }
    free(x);
    free(text);
    assert_int_equal(n_lines, 60);
}

/* The mean of |error|^0.7, which HQQ minimises, against that of the reference and of rounding without a search. */
static void test_hqq_error(void **state) {
    (void)state;
    char *text = golden_text("hqq.txt"), *rest = NULL;
    float *x = malloc(N_INPUT * sizeof(float)), *decoded = malloc(N_INPUT * sizeof(float));
    uint8_t *blocks = malloc(N_INPUT * 2);
    int n_lines = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[16], kind[16];
        unsigned id;
        double reference, plain, sum = 0;
        assert_int_equal(sscanf(line, "%15s %u %15s %lf %lf", name, &id, kind, &reference, &plain), 5);
        fill_input(x, kind);
        mr_dtype_find(id)->quantize(x, blocks, N_INPUT, NULL);
        mr_dtype_find(id)->dequantize(blocks, decoded, N_INPUT);
        for (int i = 0; i < N_INPUT; i++) sum += pow(fabs((double)decoded[i] - (double)x[i]), 0.7);
        double error = sum / N_INPUT;
        print_message("%-6s %-7s error %.4f of the reference's, %.4f of rounding's\n", name, kind, error / reference,
                      error / plain);
        assert_string_equal(mr_dtype_find(id)->name, name);
        if (!(error <= 1.02 * reference && error < plain)) fail_msg("%s on %s input: error %g", name, kind, error);
        n_lines++;
    }
    free(blocks);
    free(decoded);
    free(x);
    free(text);
    assert_int_equal(n_lines, 6);
}

/* The definition of the 8-bit floats: sign, 4 (5) bits of exponent with bias 7 (15), 3 (2) of mantissa. */
static float f8_by_definition(uint8_t bits, int n_mantissa) {
    int exponent = (bits & 0x7F) >> n_mantissa, mantissa = bits & ((1 << n_mantissa) - 1);
    int bias = n_mantissa == 3 ? 7 : 15, whole = exponent == 0 ? mantissa : mantissa + (1 << n_mantissa);
    float magnitude = ldexpf((float)whole, (exponent == 0 ? 1 : exponent) - bias - n_mantissa);
    return bits & 0x80 ? -magnitude : magnitude;
}

static void test_every_f8(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 256; bits++) {
        float value = mr_f8_e4m3_to_f32((uint8_t)bits);
        if ((bits & 0x7F) == 0x7F) {
            assert_true(isnan(value));
            assert_int_equal(mr_f32_to_f8_e4m3(value) & 0x7F, 0x7F);
        } else {
            assert_int_equal(to_bits(value), to_bits(f8_by_definition((uint8_t)bits, 3)));
            assert_int_equal(mr_f32_to_f8_e4m3(value), bits);
        }
        value = mr_f8_e5m2_to_f32((uint8_t)bits);
        if ((bits & 0x7F) > 0x7C)
            assert_true(isnan(value));
        else if ((bits & 0x7F) == 0x7C)
            assert_true(isinf(value));
        else
            assert_int_equal(to_bits(value), to_bits(f8_by_definition((uint8_t)bits, 2)));
    }
    for (uint32_t bits = 0; bits < 0x7E; bits++) { /* between neighbours */
        float low = f8_by_definition((uint8_t)bits, 3), high = f8_by_definition((uint8_t)(bits + 1), 3);
        float middle = (low + high) / 2;
        assert_int_equal(mr_f32_to_f8_e4m3(middle), bits + (bits & 1));
        assert_int_equal(mr_f32_to_f8_e4m3(-nextafterf(middle, low)), bits | 0x80);
        assert_int_equal(mr_f32_to_f8_e4m3(nextafterf(middle, high)), bits + 1);
    }
    assert_int_equal(mr_f32_to_f8_e4m3(1e9f), 0x7E);
    assert_int_equal(mr_f32_to_f8_e4m3(-INFINITY), 0xFE);
    assert_int_equal(mr_f32_to_f8_e4m3(1e-9f), 0);
}

/* Weights that differ must lower the weighted error of the types that search for a scale, and never spoil it. */
static void test_encode_importance(void **state) {
    (void)state;
    float *x = malloc(N_INPUT * sizeof(float)), *w = malloc(N_INPUT * sizeof(float));
    fill_input(x, "heavy");
    for (int i = 0; i < N_INPUT; i++) w[i] = mix((uint64_t)i % COLS) % 8 == 0 ? 50.0f : 0.1f;
    const mr_dtype types[] = {MR_Q4_0, MR_Q4_1, MR_Q5_0,   MR_Q5_1,   MR_Q2_K,  MR_Q3_K, MR_Q4_K,
                              MR_Q5_K, MR_Q6_K, MR_IQ4_NL, MR_IQ4_XS, MR_TQ2_0, MR_MXFP4};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        const mr_dtype_info *info = mr_dtype_find(types[t]);
        size_t n_bytes = (size_t)N_INPUT / info->block_values * info->block_bytes;
        uint8_t *plain = malloc(n_bytes);
        float *decoded = malloc(N_INPUT * sizeof(float));
        info->quantize(x, plain, N_INPUT, NULL);
        info->dequantize(plain, decoded, N_INPUT);
        double sum = 0;
        for (int i = 0; i < N_INPUT; i++)
            sum += (double)w[i] * ((double)decoded[i] - (double)x[i]) * ((double)decoded[i] - (double)x[i]);
        double ratio = encode_error(info, x, w, N_INPUT) / sqrt(sum / N_INPUT);
        print_message("%-6s weighted error %.3f of that without weights\n", info->name, ratio);
        assert_true(ratio < 0.99);
        free(plain);
        free(decoded);
    }
    free(x);
    free(w);
}

/* Rows that are awkward: zeros, constants, one outlier, ternary, tiny and huge values, infinities and NaN. */
static void fill_awkward(float *x, int kind) {
    for (int i = 0; i < 256; i++) {
        float noise = (float)(mix((uint64_t)i) % 1000) / 1000.0f - 0.5f;
        switch (kind) {
        case 0:
            x[i] = 0.0f;
            break;
        case 1:
            x[i] = 0.75f;
            break;
        case 2:
            x[i] = -0.75f;
            break;
        case 3:
            x[i] = i == 77 ? 100.0f : noise * 0.01f;
            break;
        case 4:
            x[i] = (float)(int)(mix((uint64_t)i) % 3) - 1.0f;
            break;
        case 5:
            x[i] = noise * 1e-30f;
            break;
        case 6:
            x[i] = noise * 1e-42f;
            break;
        case 7:
            x[i] = noise * 1e4f;
            break;
        case 8:
            x[i] = noise * 3e38f;
            break;
        case 9:
            x[i] = i % 50 ? noise : (float)INFINITY;
            break;
        case 10:
            x[i] = i % 50 ? noise : (float)-INFINITY;
            break;
        default:
            x[i] = i % 50 ? noise : (float)NAN;
            break;
        }
    }
}

static void test_encode_awkward(void **state) {
    (void)state;
    /* Bound of the error, relative to the largest magnitude, of the kinds that a type of 4 bits can hold. */
    const double bound[12] = {1e-9, 0.02, 0.02, 0.02, 0.13, 0, 0, 0.13, 0, 0, 0, 0};
    float x[256], decoded[256], zero_weights[256] = {0};
    uint8_t block[1024];
    for (uint32_t id = 0; id < 64; id++) {
        const mr_dtype_info *info = mr_dtype_find(id);
        if (!info || !info->quantize) continue;
        for (int kind = 0; kind < 12; kind++) {
            fill_awkward(x, kind);
            info->quantize(x, block, 256, zero_weights);
            info->quantize(x, block, 256, NULL);
            info->dequantize(block, decoded, 256);
            if (bound[kind] == 0 || info->type == MR_TQ1_0 || info->type == MR_TQ2_0) continue;
            double largest = 0, worst = 0;
            for (int i = 0; i < 256; i++) {
                largest = fmax(largest, fabs((double)x[i]));
                worst = fmax(worst, fabs((double)decoded[i] - (double)x[i]));
            }
            bool coarse = info->type == MR_Q2_K || info->type == MR_Q3_K || info->type == MR_MXFP4;
            if (worst > (coarse ? 0.45 : bound[kind]) * largest + 1e-9)
                fail_msg("%s, row %d: error %g of %g", info->name, kind, worst, largest);
        }
    }
}

/* Ternary input is kept as it is, as the models these types are for need it. */
static void test_ternary_is_exact(void **state) {
    (void)state;
    float x[256], decoded[256];
    uint8_t block[128];
    for (int i = 0; i < 256; i++) x[i] = ((float)(int)(mix((uint64_t)i) % 3) - 1.0f) * 0.0625f;
    const mr_dtype types[] = {MR_TQ1_0, MR_TQ2_0};
    for (int t = 0; t < 2; t++) {
        const mr_dtype_info *info = mr_dtype_find(types[t]);
        info->quantize(x, block, 256, NULL);
        info->dequantize(block, decoded, 256);
        assert_memory_equal(x, decoded, sizeof(x));
    }
}

typedef struct encode_job {
    const mr_dtype_info *info;
    const float *x;
    uint8_t *out;
    int first_row, n_rows;
} encode_job;

static void *encode_rows(void *arg) {
    const encode_job *job = arg;
    size_t row_bytes = (size_t)COLS / job->info->block_values * job->info->block_bytes;
    for (int r = job->first_row; r < job->first_row + job->n_rows; r++)
        job->info->quantize(job->x + (size_t)r * COLS, job->out + (size_t)r * row_bytes, COLS, NULL);
    return NULL;
}

/* Rows encoded by four threads at once are those that one call gives. */
static void test_encode_in_threads(void **state) {
    (void)state;
    float *x = malloc(N_INPUT * sizeof(float));
    fill_input(x, "normal");
    for (uint32_t id = 0; id < 64; id++) {
        const mr_dtype_info *info = mr_dtype_find(id);
        if (!info || !info->quantize) continue;
        size_t n_bytes = (size_t)N_INPUT / info->block_values * info->block_bytes;
        uint8_t *one = malloc(n_bytes), *many = malloc(n_bytes);
        info->quantize(x, one, N_INPUT, NULL);
        pthread_t threads[4];
        encode_job jobs[4];
        for (int t = 0; t < 4; t++) {
            jobs[t] = (encode_job){info, x, many, t * ROWS / 4, ROWS / 4};
            assert_int_equal(pthread_create(&threads[t], NULL, encode_rows, &jobs[t]), 0);
        }
        for (int t = 0; t < 4; t++) pthread_join(threads[t], NULL);
        assert_memory_equal(one, many, n_bytes);
        free(one);
        free(many);
    }
    free(x);
}

/* The encoders give the same bytes with every instruction set. */
static void test_encode_on_every_isa(void **state) {
    (void)state;
    mr_isa active = mr_isa_active();
    float *x = malloc(N_INPUT * sizeof(float)), *w = malloc(N_INPUT * sizeof(float));
    fill_input(x, "heavy");
    for (int i = 0; i < N_INPUT; i++) w[i] = (float)(mix((uint64_t)i) % 100);
    for (uint32_t id = 0; id < 64; id++) {
        const mr_dtype_info *info = mr_dtype_find(id);
        if (!info || !info->quantize) continue;
        size_t n_bytes = (size_t)N_INPUT / info->block_values * info->block_bytes;
        uint8_t *plain = malloc(n_bytes), *fast = malloc(n_bytes);
        assert_true(mr_isa_force(MR_ISA_PLAIN));
        info->quantize(x, plain, N_INPUT, w);
        assert_true(mr_isa_force(active));
        info->quantize(x, fast, N_INPUT, w);
        if (memcmp(plain, fast, n_bytes) != 0) fail_msg("%s differs on %s", info->name, mr_isa_name(active));
        free(plain);
        free(fast);
    }
    free(x);
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),        cmocka_unit_test(test_half_rounding),
        cmocka_unit_test(test_bf16_rounding),     cmocka_unit_test(test_table),
        cmocka_unit_test(test_decode_fixtures),   cmocka_unit_test(test_decode_random_blocks),
        cmocka_unit_test(test_encode_error),      cmocka_unit_test(test_hqq_error),
        cmocka_unit_test(test_every_f8),          cmocka_unit_test(test_encode_importance),
        cmocka_unit_test(test_encode_awkward),    cmocka_unit_test(test_ternary_is_exact),
        cmocka_unit_test(test_encode_in_threads), cmocka_unit_test(test_encode_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
