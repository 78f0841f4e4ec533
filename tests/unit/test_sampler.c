/* floors: engine */
#include "compute/exact_exp.h"
#include "engine/random.h"
#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 1;

static double uniform(void) {
    return mr_random_uniform(99, random_state++);
}

static float normal(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += uniform();
    return (float)(sum - 6);
}

/* The definition, by sorting: fills keep[n] with the candidates that are left, in double precision. */
typedef struct entry {
    float logit;
    int32_t id;
} entry;

static int compare_entries(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t reference(const mr_sampling *sampling, const float *logits, size_t n, entry *sorted) {
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(logits[i])) sorted[left++] = (entry){logits[i] + 0.0f, (int32_t)i};
    }
    qsort(sorted, left, sizeof *sorted, compare_entries);
    if (sampling->top_k > 0 && (size_t)sampling->top_k < left) left = (size_t)sampling->top_k;
    double total = 0, sum = 0;
    for (size_t i = 0; i < left; i++) total += exp((double)sorted[i].logit - sorted[0].logit);
    if (sampling->top_p < 1) {
        size_t i = 0;
        while (i < left) {
            sum += exp((double)sorted[i++].logit - sorted[0].logit);
            if (sum >= (double)sampling->top_p * total) break;
        }
        left = i;
    }
    while (left > 1 && exp((double)sorted[left - 1].logit - sorted[0].logit) < sampling->min_p) left--;
    return left;
}

static mr_sampler *new_sampler(const mr_sampling *sampling, size_t n) {
    mr_sampler *sampler = NULL;
    mr_error err = {0};
    assert_int_equal(mr_sampler_new(&sampler, sampling, n, &err), MR_OK);
    return sampler;
}

static int32_t next(mr_sampler *sampler, const float *logits, size_t n, const uint64_t *mask) {
    float *copy = malloc(n * sizeof *copy);
    memcpy(copy, logits, n * sizeof *copy);
    int32_t id = mr_sampler_next(sampler, copy, NULL, 0, mask);
    free(copy);
    return id;
}

static void philox_known_answers(void **state) {
    (void)state;
    /* From the test vectors of the Random123 distribution. */
    uint32_t zero[4] = {0, 0, 0, 0};
    mr_philox(zero, 0);
    const uint32_t want_zero[4] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
    assert_memory_equal(zero, want_zero, sizeof zero);
    uint32_t ones[4] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    mr_philox(ones, UINT64_MAX);
    const uint32_t want_ones[4] = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
    assert_memory_equal(ones, want_ones, sizeof ones);
}

static void exp_is_accurate(void **state) {
    (void)state;
    assert_true(mr_exact_exp(0) == 1.0f);
    for (int i = 1; i < 50000; i++) {
        float x = -86.9f * (float)i / 50000;
        double want = exp((double)x);
        assert_true(fabs(mr_exact_exp(x) - want) <= 3e-7 * want);
    }
    assert_true(mr_exact_exp(-1e30f) < 1e-37f);
    assert_true(mr_exact_exp(-INFINITY) < 1e-37f);
}

static void greedy_takes_the_first_of_the_largest(void **state) {
    (void)state;
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = 0;
    for (size_t n = 1; n < 300; n += 7) {
        mr_sampler *sampler = new_sampler(&sampling, n);
        float *logits = malloc(n * sizeof *logits);
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < n; i++) logits[i] = (float)(int)(uniform() * 5) - 7;
            size_t want = 0;
            for (size_t i = 1; i < n; i++) want = logits[i] > logits[want] ? i : want;
            assert_int_equal(next(sampler, logits, n, NULL), (int)want);
        }
        free(logits);
        mr_sampler_free(sampler);
    }
}

static void impossible_logits(void **state) {
    (void)state;
    for (int greedy = 0; greedy < 2; greedy++) {
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = greedy ? 0 : 1;
        sampling.top_p = 0.9f;
        mr_sampler *sampler = new_sampler(&sampling, 70);
        float logits[70];
        for (int i = 0; i < 70; i++) logits[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        assert_int_equal(next(sampler, logits, 70, NULL), 0);
        uint64_t mask[2] = {0, (uint64_t)1 << 4};
        assert_int_equal(next(sampler, logits, 70, mask), 68);
        logits[13] = -3e38f;
        assert_int_equal(next(sampler, logits, 70, NULL), 13);
        logits[66] = 3e38f;
        assert_int_equal(next(sampler, logits, 70, NULL), 66);
        mask[0] = (uint64_t)1 << 13;
        mask[1] = 0;
        assert_int_equal(next(sampler, logits, 70, mask), 13);
        float zeros[70];
        for (int i = 0; i < 70; i++) zeros[i] = i % 2 ? 0.0f : -0.0f; /* equal, so the first wins */
        if (greedy) assert_int_equal(next(sampler, zeros, 70, NULL), 0);
        mr_sampler_free(sampler);
    }
}

/* Draws many times and compares what can be drawn, and how often, with the definition. */
static void compare_with_reference(const mr_sampling *sampling, const float *logits, size_t n, int n_draws) {
    entry *sorted = malloc(n * sizeof *sorted);
    int *drawn = calloc(n, sizeof *drawn);
    double *want = calloc(n, sizeof *want);
    size_t left = reference(sampling, logits, n, sorted);
    double total = 0;
    for (size_t i = 0; i < left; i++)
        total += want[sorted[i].id] = exp(((double)sorted[i].logit - sorted[0].logit) / sampling->temperature);
    mr_sampler *sampler = new_sampler(sampling, n);
    for (int i = 0; i < n_draws; i++) drawn[next(sampler, logits, n, NULL)]++;
    double chi2 = 0;
    int n_bins = 0;
    for (size_t i = 0; i < n; i++) {
        double expected = want[i] / total * n_draws;
        if (want[i] == 0) {
            assert_int_equal(drawn[i], 0);
        } else if (expected >= 5) {
            chi2 += (drawn[i] - expected) * (drawn[i] - expected) / expected;
            n_bins++;
        }
    }
    /* Fixed seeds: a right sampler passes always. Six standard deviations of the chi-square distribution. */
    assert_true(chi2 < n_bins + 6 * sqrt(2.0 * (n_bins + 1)) + 6);
    mr_sampler_free(sampler);
    free(sorted);
    free(drawn);
    free(want);
}

static void draws_follow_the_definition(void **state) {
    (void)state;
    static const struct {
        size_t n;
        float temperature, top_p, min_p;
        int32_t top_k;
        float spread;
    } cases[] = {
        {5, 1, 1, 0, 0, 2},
        {100, 1, 1, 0, 0, 1},
        {1000, 0.7f, 1, 0, 40, 3},
        {1000, 1, 0.9f, 0, 0, 3},
        {1000, 1, 1, 0.05f, 0, 2},
        {1000, 1.5f, 0.8f, 0, 50, 2},
        {3000, 0.5f, 0.95f, 0.02f, 100, 4},
        {3000, 1, 0, 0, 0, 1},
        {3000, 2, 1, 1, 0, 1},
        {3000, 1, 0.5f, 0, 2999, 1},
        {64, 1, 1, 0, 1, 1},
        {129, 1, 0.999f, 0.001f, 128, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = cases[c].temperature;
        sampling.top_p = cases[c].top_p;
        sampling.min_p = cases[c].min_p;
        sampling.top_k = cases[c].top_k;
        sampling.seed = c;
        float *logits = malloc(cases[c].n * sizeof *logits);
        for (size_t i = 0; i < cases[c].n; i++) logits[i] = normal() * cases[c].spread - 4;
        compare_with_reference(&sampling, logits, cases[c].n, 5000);
        for (size_t i = 0; i < cases[c].n; i++) logits[i] = roundf(logits[i]); /* many equals */
        compare_with_reference(&sampling, logits, cases[c].n, 5000);
        free(logits);
    }
}

/* The set that top_k, top_p and min_p leave, found by asking for every candidate through the mask of one id. */
static void cuts_are_exact(void **state) {
    (void)state;
    enum { N = 1500 };
    static float logits[N];
    static entry sorted[N];
    for (int round = 0; round < 60; round++) {
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = 50; /* nearly uniform over what is left, so that all of it shows up */
        sampling.top_k = round % 3 == 0 ? 0 : 1 + (int32_t)(uniform() * 30);
        sampling.seed = (uint64_t)round;
        for (int i = 0; i < N; i++) {
            switch (round % 5) {
            case 0:
                logits[i] = normal() * 3;
                break;
            case 1:
                logits[i] = 1.25f;
                break;
            case 2:
                logits[i] = ldexpf(-1, i % 200 - 60);
                break; /* all magnitudes */
            case 3:
                logits[i] = i == 77 ? -1e30f : roundf(normal() * 2);
                break;
            default:
                logits[i] = i % 10 == 0 ? NAN : normal() + (i == 1499 ? 5 : 0);
                break;
            }
        }
        if (sampling.top_k == 0) sampling.top_p = 0.01f; /* keeps few of 5000 */
        size_t left = reference(&sampling, logits, N, sorted);
        if (left > 60) continue;
        bool seen[N] = {0};
        mr_sampler *sampler = new_sampler(&sampling, N);
        for (int i = 0; i < 700; i++) {
            seen[next(sampler, logits, N, NULL)] = true;
        }
        size_t n_seen = 0;
        for (int i = 0; i < N; i++) n_seen += seen[i];
        if (round % 5 != 2) assert_int_equal(n_seen, left);
        for (size_t i = 0; i < left; i++) seen[sorted[i].id] = false;
        for (int i = 0; i < N; i++) assert_false(seen[i]);
        mr_sampler_free(sampler);
    }
}

static void seed_decides(void **state) {
    (void)state;
    enum { N = 2000 };
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = normal();
    mr_sampling sampling = mr_sampling_default();
    sampling.seed = 42;
    mr_sampler *a = new_sampler(&sampling, N), *b = new_sampler(&sampling, N);
    sampling.seed = 43;
    mr_sampler *c = new_sampler(&sampling, N);
    int n_same = 0;
    for (int i = 0; i < 50; i++) {
        int32_t id = next(a, logits, N, NULL);
        assert_int_equal(id, next(b, logits, N, NULL));
        n_same += id == next(c, logits, N, NULL);
    }
    assert_true(n_same < 10);
    mr_sampler_free(a);
    mr_sampler_free(b);
    mr_sampler_free(c);
}

/* Golden ids: the same on every machine and compiler. */
static void draws_are_the_same_everywhere(void **state) {
    (void)state;
    enum { N = 500 };
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = (float)(i * 7919 % 503) / 64;
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = 0.8f;
    sampling.top_p = 0.95f;
    sampling.seed = 7;
    mr_sampler *sampler = new_sampler(&sampling, N);
    static const int32_t want[] = {472, 195, 4, 176, 129, 156, 390, 121, 4, 273, 359, 390};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        int32_t got = next(sampler, logits, N, NULL);
        assert_int_equal(got, want[i]);
    }
    mr_sampler_free(sampler);
}

static void repeat_penalty(void **state) {
    (void)state;
    mr_sampling sampling = mr_sampling_default();
    sampling.temperature = 0;
    sampling.repeat_penalty = 2;
    sampling.repeat_last_n = 2;
    mr_sampler *sampler = new_sampler(&sampling, 4);
    const int32_t history[] = {3, 0, 0, 3, -5, 900};
    float a[4] = {4, 3, 2, 3.5f}; /* window {0, 3}, 0 twice before it: once only, so 2, 3, 2, 1.75 */
    assert_int_equal(mr_sampler_next(sampler, a, history, 4, NULL), 1);
    assert_true(a[0] == 2.0f && a[3] == 1.75f);
    float b[4] = {-1, -1.5f, -3, -4}; /* negative logits are multiplied */
    assert_int_equal(mr_sampler_next(sampler, b, history, 3, NULL), 1);
    assert_true(b[0] == -2.0f);
    float c[4] = {4, 3, 2, 1}; /* ids out of range count as tokens but name nothing */
    assert_int_equal(mr_sampler_next(sampler, c, history, 6, NULL), 0);
    float d[4] = {4, 3, 2, 1};
    assert_int_equal(mr_sampler_next(sampler, d, history, 0, NULL), 0);
    mr_sampler_free(sampler);

    sampling.repeat_last_n = -1;
    sampler = new_sampler(&sampling, 4);
    float e[4] = {4, 1, 0.5f, 3};
    assert_int_equal(mr_sampler_next(sampler, e, history, 6, NULL), 0);
    assert_true(e[0] == 2.0f && e[3] == 1.5f);
    mr_sampler_free(sampler);

    sampling.repeat_last_n = 0;
    sampler = new_sampler(&sampling, 4);
    float f[4] = {4, 3, 2, 3};
    assert_int_equal(mr_sampler_next(sampler, f, history, 4, NULL), 0);
    assert_true(f[0] == 4.0f);
    mr_sampler_free(sampler);
}

static void parameters_are_checked(void **state) {
    (void)state;
    static const struct {
        mr_sampling sampling;
        const char *field;
    } cases[] = {
        {{-1, 0, 1, 0, 1, 64, 0}, "temperature"},
        {{NAN, 0, 1, 0, 1, 64, 0}, "temperature"},
        {{INFINITY, 0, 1, 0, 1, 64, 0}, "temperature"},
        {{1, -1, 1, 0, 1, 64, 0}, "top_k"},
        {{1, 0, -0.1f, 0, 1, 64, 0}, "top_p"},
        {{1, 0, 1.1f, 0, 1, 64, 0}, "top_p"},
        {{1, 0, NAN, 0, 1, 64, 0}, "top_p"},
        {{1, 0, 1, NAN, 1, 64, 0}, "min_p"},
        {{1, 0, 1, 2, 1, 64, 0}, "min_p"},
        {{1, 0, 1, 0, 0, 64, 0}, "repeat_penalty"},
        {{1, 0, 1, 0, NAN, 64, 0}, "repeat_penalty"},
        {{1, 0, 1, 0, 1, -2, 0}, "repeat_last_n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_error err = {0};
        mr_sampler *sampler;
        assert_int_equal(mr_sampling_check(&cases[i].sampling, &err), MR_ERR_INVALID);
        assert_non_null(strstr(err.text, cases[i].field));
        assert_int_equal(mr_sampler_new(&sampler, &cases[i].sampling, 10, &err), MR_ERR_INVALID);
        assert_null(sampler);
    }
    mr_sampling sampling = mr_sampling_default();
    mr_sampler *sampler;
    mr_error err = {0};
    assert_int_equal(mr_sampling_check(&sampling, &err), MR_OK);
    assert_int_equal(mr_sampler_new(&sampler, &sampling, 0, &err), MR_ERR_INVALID);
    assert_int_equal(mr_sampler_new(&sampler, &sampling, SIZE_MAX, &err), MR_ERR_INVALID);
    mr_sampler_free(NULL);
}

static void extreme_temperatures(void **state) {
    (void)state;
    float logits[300];
    for (int i = 0; i < 300; i++) logits[i] = (float)i / 300;
    static const float temperatures[] = {1e-45f, 1e-20f, 1e-4f, 3e38f};
    for (size_t t = 0; t < 4; t++) {
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = temperatures[t];
        mr_sampler *sampler = new_sampler(&sampling, 300);
        int n_last = 0;
        for (int i = 0; i < 100; i++) n_last += next(sampler, logits, 300, NULL) == 299;
        if (t < 3)
            assert_int_equal(n_last, 100);
        else
            assert_true(n_last < 20);
        mr_sampler_free(sampler);
    }
}

/* ---- candidates
 * --------------------------------------------------------------------------------------------------------------- */

enum { MOST = 3000, N_HISTORY = 80 };

typedef struct row {
    size_t n;
    float logits[MOST];
    int32_t history[N_HISTORY];
    uint64_t mask[MOST / 64 + 1];
    bool masked;
} row;

/* Peaked and flat rows, with many equals or impossible logits among them, of 1 to MOST tokens. */
static void random_row(row *r) {
    static const size_t sizes[] = {1, 100, 255, 256, 257, 300, 1000, MOST};
    float spread = (float[]){0.5f, 1, 2, 4, 8}[(int)(uniform() * 5)];
    int kind = (int)(uniform() * 8);
    r->n = sizes[(int)(uniform() * 8)];
    for (size_t i = 0; i < r->n; i++) {
        float x = normal() * spread;
        if (kind == 0) x = roundf(x);
        if (kind == 1) x = 2;
        if (kind == 2 && i % 7 == 0) x = i % 2 ? NAN : INFINITY;
        if (kind == 3 && i % 11 != 3) x = -INFINITY;
        if (kind == 4 && i < 4) x += 12 * spread;
        r->logits[i] = x;
    }
    for (int i = 0; i < N_HISTORY; i++) r->history[i] = (int32_t)(uniform() * (double)(r->n + 2)) - 1;
    for (int i = 0; i < 3; i++) { /* the largest has been chosen before */
        size_t best = 0, other = (size_t)(uniform() * (double)r->n);
        for (size_t t = 1; t < r->n; t++) best = r->logits[t] > r->logits[best] ? t : best;
        r->history[N_HISTORY - 1 - i] = (int32_t)(i == 0 ? best : other);
    }
    r->masked = uniform() < 0.25;
    double share = uniform() * uniform();
    memset(r->mask, 0, sizeof r->mask);
    for (size_t i = 0; i < r->n; i++) r->mask[i / 64] |= (uint64_t)(uniform() < share) << (i % 64);
}

static mr_sampling random_settings(void) {
    mr_sampling s = mr_sampling_default();
    s.temperature = (float[]){0, 0.05f, 0.3f, 0.7f, 1, 1, 2}[(int)(uniform() * 7)];
    s.top_k = (int32_t[]){0, 0, 0, 1, 40, 255, 256, 257, 2000, MOST}[(int)(uniform() * 10)];
    s.top_p = (float[]){1, 1, 0, 0.3f, 0.8f, 0.9f, 0.95f, 0.999f}[(int)(uniform() * 8)];
    s.min_p = (float[]){0, 0, 0.05f, 1e-5f}[(int)(uniform() * 4)];
    s.repeat_penalty = (float[]){1, 1, 1.1f, 1.5f, 0.9f}[(int)(uniform() * 5)];
    s.repeat_last_n = (int32_t[]){64, -1, 0, 1}[(int)(uniform() * 4)];
    s.seed = (uint64_t)(uniform() * 1e6);
    return s;
}

/* Whatever candidates tell is what the whole row tells, draw after draw, and they tell it often. */
static void candidates_choose_as_the_row(void **state) {
    (void)state;
    static row r;
    static mr_candidates c;
    size_t n_told = 0, n_lowered = 0, n_told_lowered = 0, n_refused = 0;
    enum { ROUNDS = 15000 };
    for (int round = 0; round < ROUNDS; round++) {
        float copy[MOST];
        random_row(&r);
        mr_sampling sampling = random_settings();
        mr_sampler *whole = new_sampler(&sampling, r.n), *few = new_sampler(&sampling, r.n);
        const uint64_t *mask = r.masked ? r.mask : NULL;
        mr_candidates_of(r.logits, r.n, &c);
        bool lowered = mask != NULL || (sampling.repeat_penalty > 1 && sampling.repeat_last_n != 0);
        for (int draw = 0; draw < 2; draw++) { /* the second shows that the first left both in the same state */
            int32_t token = -1;
            memcpy(copy, r.logits, r.n * sizeof *copy);
            int32_t want = mr_sampler_next(whole, copy, r.history, N_HISTORY, mask);
            bool told = mr_sampler_next_of(few, &c, r.history, N_HISTORY, mask, &token);
            n_told += told, n_lowered += lowered, n_told_lowered += told && lowered;
            n_refused += !mr_sampler_takes_candidates(few);
            if (!told) {
                memcpy(copy, r.logits, r.n * sizeof *copy);
                token = mr_sampler_next(few, copy, r.history, N_HISTORY, mask);
            }
            assert_int_equal(token, want);
        }
        mr_sampler_free(whole);
        mr_sampler_free(few);
    }
    print_message("%zu of %d told, %zu of %zu with lowered logits, %zu not asked\n", n_told, 2 * ROUNDS, n_told_lowered,
                  n_lowered, n_refused);
    assert_true(n_told > ROUNDS && n_told_lowered > n_lowered / 2);
}

/* Where nothing is lowered, candidates tell exactly when what is kept is among them. */
static void candidates_tell_what_they_hold(void **state) {
    (void)state;
    static row r;
    static mr_candidates c;
    static entry sorted[MOST];
    size_t n_told = 0, n_not = 0;
    for (int round = 0; round < 4000; round++) {
        random_row(&r);
        mr_sampling sampling = random_settings();
        sampling.temperature = 1 + (float)(round % 2);
        sampling.repeat_penalty = 1;
        mr_sampler *sampler = new_sampler(&sampling, r.n);
        mr_candidates_of(r.logits, r.n, &c);
        int32_t token;
        size_t left = reference(&sampling, r.logits, r.n, sorted), k = (size_t)sampling.top_k;
        /* What is 25 temperatures below the largest weighs nothing. */
        while (left > 1 && sorted[left - 1].logit < sorted[0].logit - 25.01f * sampling.temperature) left--;
        bool told = mr_sampler_next_of(sampler, &c, NULL, 0, NULL, &token);
        bool unknown_total = k > MR_CANDIDATES && k < r.n && sampling.top_p < 1;
        bool from_all = (k == 0 || k >= r.n) && sampling.top_p >= 1 && sampling.temperature <= 1; /* the draw decides */
        if (c.n < MR_CANDIDATES || r.n == MR_CANDIDATES) {
            assert_true(told);
        } else if (!unknown_total && (left < 250 || (left == MR_CANDIDATES && sampling.top_k == 256))) {
            assert_true(told);
            n_told++;
        } else if (!from_all && left > MR_CANDIDATES &&
                   !(sorted[MR_CANDIDATES - 1].logit < sorted[0].logit - 24.9f * sampling.temperature)) {
            assert_false(told);
            n_not++;
        }
        mr_sampler_free(sampler);
    }
    print_message("%zu told, %zu not\n", n_told, n_not);
    assert_true(n_told > 500 && n_not > 200);
}

/* Draws from a whole peaked distribution need the row about as often as they fall on what is not among the best. */
static void peaked_draws_need_few_rows(void **state) {
    (void)state;
    static float logits[MOST], copy[MOST];
    static mr_candidates c;
    for (float temperature = 0.5f; temperature <= 1; temperature += 0.25f) {
        mr_sampling sampling = mr_sampling_default();
        sampling.temperature = temperature;
        for (int i = 0; i < MOST; i++) logits[i] = normal() * 3 - (i % 16 == 0 ? 0 : 8);
        mr_candidates_of(logits, MOST, &c);
        mr_sampler *few = new_sampler(&sampling, MOST), *whole = new_sampler(&sampling, MOST);
        assert_true(mr_sampler_takes_candidates(few));
        int n_told = 0;
        for (int i = 0; i < 1000; i++) {
            int32_t token;
            memcpy(copy, logits, sizeof copy);
            int32_t want = mr_sampler_next(whole, copy, NULL, 0, NULL);
            bool told = mr_sampler_next_of(few, &c, NULL, 0, NULL, &token);
            n_told += told;
            memcpy(copy, logits, sizeof copy);
            if (!told) token = mr_sampler_next(few, copy, NULL, 0, NULL);
            assert_int_equal(token, want);
        }
        print_message("%d of 1000 told at temperature %g\n", n_told, (double)temperature);
        assert_true(n_told > 600);
        mr_sampler_free(few);
        mr_sampler_free(whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(exp_is_accurate),
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(impossible_logits),
        cmocka_unit_test(draws_follow_the_definition),
        cmocka_unit_test(cuts_are_exact),
        cmocka_unit_test(seed_decides),
        cmocka_unit_test(draws_are_the_same_everywhere),
        cmocka_unit_test(repeat_penalty),
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(extreme_temperatures),
        cmocka_unit_test(candidates_choose_as_the_row),
        cmocka_unit_test(candidates_tell_what_they_hold),
        cmocka_unit_test(peaked_draws_need_few_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
