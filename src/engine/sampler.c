/* Sampling without sorting the vocabulary.
 *
 * top_k, top_p and min_p all keep a head of the list of tokens sorted by (logit descending, id ascending), so each is a
 * cut: a value, and how many of those equal to it stay. Cuts are found by histograms, in linear time for any input.
 *
 * Probabilities are kept as weights exp(logit - max), rounded to multiples of a quantum so small that a double holds
 * the sum of a whole vocabulary exactly. Sums therefore do not depend on their order. */
#include "engine/sampler.h"
#include "compute/exact_exp.h"
#include "engine/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 64,       /* logits for which one maximum is kept */
    SUM_BLOCK = 256,  /* weights for which one sum is kept */
    N_BUCKETS = 2048, /* of a histogram */
    N_SORT = 48,      /* as few as this are sorted directly */
    MAX_VOCAB = 1 << 24,
};

struct mr_sampler {
    mr_sampling sampling;
    size_t n_vocab;
    uint64_t n_drawn;
    float min_p_distance; /* the least d with exp(d) >= min_p: min_p keeps logits >= max + d */
    double rounder;       /* (w + rounder) - rounder is w in whole quanta (compute/candidates.h) */
    uint64_t *seen;       /* [n_vocab] bits, all 0 between calls; NULL without a penalty */
    float *block_max;     /* [n_vocab / BLOCK, rounded up] */
    /* Only when drawing: */
    float *weights;  /* [n_vocab] */
    int32_t *ids;    /* [n_vocab] ids of the candidates, once some were cut off */
    double *sums;    /* [n_vocab / SUM_BLOCK, rounded up] */
    double *buckets; /* [N_BUCKETS] */
};

/* Candidates in ascending order of ids; the id of candidate i is i when ids is NULL. */
typedef struct candidates {
    float *logits;
    const int32_t *ids;
    size_t n;
    float max;
} candidates;

/* Keeps the logits above `value`, and of those equal to it the first n_equal. */
typedef struct cut {
    float value;
    size_t n_equal;
} cut;

static size_t div_up(size_t n, size_t d) {
    return (n + d - 1) / d;
}

mr_sampling mr_sampling_default(void) {
    return (mr_sampling){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64};
}

mr_status mr_sampling_check(const mr_sampling *sampling, mr_error *err) {
    const mr_sampling *s = sampling;
    if (!(isfinite(s->temperature) && s->temperature >= 0))
        return mr_fail(err, MR_ERR_INVALID, "temperature must be 0 (greedy) or a positive number, not %g",
                       (double)s->temperature);
    if (s->top_k < 0) return mr_fail(err, MR_ERR_INVALID, "top_k must be 0 (all) or positive, not %d", (int)s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return mr_fail(err, MR_ERR_INVALID, "top_p must be between 0 and 1, not %g", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return mr_fail(err, MR_ERR_INVALID, "min_p must be between 0 and 1, not %g", (double)s->min_p);
    if (!(isfinite(s->repeat_penalty) && s->repeat_penalty > 0))
        return mr_fail(err, MR_ERR_INVALID, "repeat_penalty must be a positive number (1 = none), not %g",
                       (double)s->repeat_penalty);
    if (s->repeat_last_n < -1)
        return mr_fail(err, MR_ERR_INVALID, "repeat_last_n must be -1 (all tokens), 0 (none) or positive, not %d",
                       (int)s->repeat_last_n);
    return MR_OK;
}

/* The least d in [-87, 0] with exp(d) >= p, by bisection, since log() differs between machines. */
static float log_distance(float p) {
    if (p <= 0) return -INFINITY;
    float low = -87, high = 0;
    for (int i = 0; i < 64; i++) {
        float middle = low + (high - low) * 0.5f;
        if (mr_exact_exp(middle) >= p) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

static bool has_penalty(const mr_sampling *sampling) {
    return sampling->repeat_penalty != 1 && sampling->repeat_last_n != 0;
}

mr_status mr_sampler_new(mr_sampler **sampler, const mr_sampling *sampling, size_t n_vocab, mr_error *err) {
    *sampler = NULL;
    mr_status status = mr_sampling_check(sampling, err);
    if (status != MR_OK) return status;
    if (n_vocab == 0 || n_vocab > MAX_VOCAB)
        return mr_fail(err, MR_ERR_INVALID, "a vocabulary of %zu tokens cannot be sampled from", n_vocab);
    mr_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) return mr_fail_nomem(err, sizeof *s, "a sampler");
    s->sampling = *sampling;
    s->n_vocab = n_vocab;
    s->min_p_distance = log_distance(sampling->min_p);
    s->rounder = mr_weight_rounder(n_vocab);
    bool ok = (s->block_max = malloc(div_up(n_vocab, BLOCK) * sizeof(float))) != NULL;
    if (has_penalty(sampling)) ok = ok && (s->seen = calloc(div_up(n_vocab, 64), sizeof(uint64_t))) != NULL;
    if (sampling->temperature > 0) {
        ok = ok && (s->weights = malloc(n_vocab * sizeof(float))) != NULL;
        ok = ok && (s->ids = malloc(n_vocab * sizeof(int32_t))) != NULL;
        ok = ok && (s->sums = malloc(div_up(n_vocab, SUM_BLOCK) * sizeof(double))) != NULL;
        ok = ok && (s->buckets = malloc(N_BUCKETS * sizeof(double))) != NULL;
    }
    if (!ok) {
        mr_sampler_free(s);
        return mr_fail_nomem(err, n_vocab * 8, "a sampler");
    }
    *sampler = s;
    return MR_OK;
}

bool mr_sampler_is_greedy(const mr_sampler *sampler) {
    return !(sampler->sampling.temperature > 0) && !has_penalty(&sampler->sampling);
}

void mr_sampler_free(mr_sampler *sampler) {
    if (sampler == NULL) return;
    free(sampler->seen);
    free(sampler->block_max);
    free(sampler->weights);
    free(sampler->ids);
    free(sampler->sums);
    free(sampler->buckets);
    free(sampler);
}

static void apply_mask(candidates *c, const uint64_t *mask) {
    for (size_t first = 0; c->ids == NULL && first < c->n; first += 64) {
        uint64_t word = mask[first / 64];
        if (word == UINT64_MAX) continue;
        size_t n = c->n - first < 64 ? c->n - first : 64;
        for (size_t i = 0; i < n; i++) {
            if (!(word >> i & 1)) c->logits[first + i] = -INFINITY;
        }
    }
    for (size_t i = 0; c->ids != NULL && i < c->n; i++) {
        if (!(mask[c->ids[i] / 64] >> (c->ids[i] % 64) & 1)) c->logits[i] = -INFINITY;
    }
}

/* A token's logit; NULL when it is none of the candidates. */
static float *logit_of(const candidates *c, size_t id) {
    if (c->ids == NULL) return c->logits + id;
    size_t low = 0, high = c->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((size_t)c->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->n && (size_t)c->ids[low] == id ? c->logits + low : NULL;
}

/* Every token of the window is penalised once, however often it occurs. Returns how many are none of the candidates. */
static size_t apply_penalty(mr_sampler *s, const candidates *c, const int32_t *history, size_t n_history) {
    size_t n = n_history, n_others = 0;
    if (s->sampling.repeat_last_n >= 0 && n > (size_t)s->sampling.repeat_last_n) n = (size_t)s->sampling.repeat_last_n;
    const int32_t *window = history + (n_history - n);
    float penalty = s->sampling.repeat_penalty;
    for (size_t i = 0; i < n; i++) {
        if (window[i] < 0 || (size_t)window[i] >= s->n_vocab) continue;
        size_t id = (size_t)window[i];
        uint64_t bit = (uint64_t)1 << (id % 64);
        if (s->seen[id / 64] & bit) continue;
        s->seen[id / 64] |= bit;
        float *logit = logit_of(c, id);
        if (logit == NULL)
            n_others++;
        else
            *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
    }
    for (size_t i = 0; i < n; i++) {
        if (window[i] >= 0 && (size_t)window[i] < s->n_vocab) s->seen[(size_t)window[i] / 64] = 0;
    }
    return n_others;
}

/* A float's bits as an integer that sorts as the float does; and back. */
static int32_t sortable(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

static float from_sortable(int32_t key) {
    key ^= (key >> 31) & 0x7FFFFFFF;
    float value;
    memcpy(&value, &key, sizeof value);
    return value;
}

/* Makes NaN and infinities -INFINITY and -0 into 0, fills block_max, and returns the largest logit. Integer maxima,
 * because compilers vectorize them without being told to ignore NaN. */
static float clean_and_find_max(mr_sampler *s, const candidates *c) {
    int32_t best = sortable(-INFINITY);
    for (size_t block = 0; block * BLOCK < c->n; block++) {
        float *x = c->logits + block * BLOCK;
        size_t n = c->n - block * BLOCK < BLOCK ? c->n - block * BLOCK : BLOCK;
        int32_t block_best = sortable(-INFINITY);
        for (size_t i = 0; i < n; i++) {
            float value = x[i] + 0.0f;
            value = fabsf(value) <= FLT_MAX ? value : -INFINITY;
            x[i] = value;
            int32_t key = sortable(value);
            block_best = key > block_best ? key : block_best;
        }
        s->block_max[block] = from_sortable(block_best);
        best = block_best > best ? block_best : best;
    }
    return from_sortable(best);
}

static int32_t id_of(const candidates *c, size_t i) {
    return c->ids == NULL ? (int32_t)i : c->ids[i];
}

static int32_t find_first(const mr_sampler *s, const candidates *c) {
    size_t block = 0;
    while (s->block_max[block] != c->max) block++;
    size_t i = block * BLOCK;
    while (c->logits[i] != c->max) i++;
    return id_of(c, i);
}

static int32_t first_allowed(const mr_sampler *s, const uint64_t *mask) {
    for (size_t i = 0; mask != NULL && i < s->n_vocab; i++) {
        if (mask[i / 64] >> (i % 64) & 1) return (int32_t)i;
    }
    return 0;
}

/* Whether candidate i is in [low, high], and if so in which bucket: 0 holds the largest. */
static inline bool bucket_of(float logit, float low, float high, double scale, size_t *bucket) {
    if (!(logit >= low && logit <= high)) return false;
    size_t b = (size_t)(((double)high - (double)logit) * scale);
    *bucket = b < N_BUCKETS ? b : N_BUCKETS - 1;
    return true;
}

/* The few candidates of the bucket in which a cut falls. */
typedef struct member {
    float logit;
    float weight;
} member;

static cut cut_in_members(member *members, size_t n, double above, double target) {
    for (size_t i = 1; i < n; i++) { /* insertion sort, stable, largest first */
        member m = members[i];
        size_t j = i;
        for (; j > 0 && members[j - 1].logit < m.logit; j--) members[j] = members[j - 1];
        members[j] = m;
    }
    cut c = {.value = members[0].logit, .n_equal = 0};
    for (size_t i = 0; i < n; i++) {
        if (members[i].logit != c.value) c = (cut){.value = members[i].logit, .n_equal = 0};
        c.n_equal++;
        above += members[i].weight;
        if (above >= target) break;
    }
    return c;
}

/* All candidates in [low, high] are equal: take them in order. */
static cut cut_in_equals(const float *logits, const float *weights, size_t n, float value, double above,
                         double target) {
    cut c = {.value = value, .n_equal = 0};
    for (size_t i = 0; i < n; i++) {
        if (logits[i] != value) continue;
        c.n_equal++;
        above += weights == NULL ? 1 : weights[i];
        if (above >= target) break;
    }
    return c;
}

/* The shortest head of the candidates in [low, high] (in sorted order) whose weights sum up to target or more; at least
 * one, all when the target is not reached. weights NULL = 1 each. Each round spreads the range that holds the cut over
 * the buckets; a float range is used up after a few rounds whatever it holds. */
static cut find_cut(double *buckets, const float *logits, const float *weights, size_t n, float low, float high,
                    double target) {
    double above = 0;
    while (low < high) {
        double scale = N_BUCKETS / ((double)high - (double)low);
        size_t b;
        memset(buckets, 0, N_BUCKETS * sizeof *buckets);
        for (size_t i = 0; i < n; i++) {
            if (bucket_of(logits[i], low, high, scale, &b)) buckets[b] += weights == NULL ? 1 : weights[i];
        }
        size_t found = 0;
        while (found < N_BUCKETS && above + buckets[found] < target) above += buckets[found++];
        if (found == N_BUCKETS) return (cut){.value = low, .n_equal = n};
        member members[N_SORT];
        size_t n_members = 0;
        float new_low = high, new_high = low;
        for (size_t i = 0; i < n; i++) {
            if (!bucket_of(logits[i], low, high, scale, &b) || b != found) continue;
            if (n_members < N_SORT) members[n_members] = (member){logits[i], weights == NULL ? 1 : weights[i]};
            n_members++;
            if (logits[i] < new_low) new_low = logits[i];
            if (logits[i] > new_high) new_high = logits[i];
        }
        if (n_members > 0 && n_members <= N_SORT) return cut_in_members(members, n_members, above, target);
        low = new_low;
        high = new_high;
    }
    return cut_in_equals(logits, weights, n, high, above, target);
}

/* Drops what the cut does not keep; the order stays. */
static void apply_cut(mr_sampler *s, candidates *c, cut at) {
    size_t n = 0, n_equal = 0;
    for (size_t i = 0; i < c->n; i++) {
        float logit = c->logits[i];
        if (!(logit > at.value) && !(logit == at.value && n_equal < at.n_equal)) continue;
        if (logit == at.value) n_equal++;
        s->ids[n] = id_of(c, i);
        c->logits[n++] = logit;
    }
    c->n = n;
    c->ids = s->ids;
}

/* Keeps at least the k largest: the k-th largest of the blocks' maxima has k logits at or above it. */
static void prefilter_top_k(mr_sampler *s, candidates *c, size_t k) {
    size_t n_blocks = div_up(c->n, BLOCK);
    float low = c->max;
    size_t n_finite = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        if (!isfinite(s->block_max[b])) continue;
        n_finite++;
        if (s->block_max[b] < low) low = s->block_max[b];
    }
    if (k >= n_finite) return;
    float value = find_cut(s->buckets, s->block_max, NULL, n_blocks, low, c->max, (double)k).value;
    size_t n = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        if (s->block_max[b] < value) continue;
        size_t end = (b + 1) * BLOCK < c->n ? (b + 1) * BLOCK : c->n;
        for (size_t i = b * BLOCK; i < end; i++) {
            if (c->logits[i] < value) continue;
            s->ids[n] = id_of(c, i);
            c->logits[n++] = c->logits[i];
        }
    }
    c->n = n;
    c->ids = s->ids;
}

static void apply_top_k(mr_sampler *s, candidates *c) {
    size_t k = (size_t)s->sampling.top_k;
    if (k == 0 || k >= c->n) return;
    prefilter_top_k(s, c, k);
    float low = c->max;
    for (size_t i = 0; i < c->n; i++) {
        if (c->logits[i] < low && c->logits[i] > -INFINITY) low = c->logits[i];
    }
    apply_cut(s, c, find_cut(s->buckets, c->logits, NULL, c->n, low, c->max, (double)k));
}

/* weights[i] = exp((logits[i] - max) / temperature) in whole quanta. */
static void exp_weights(const float *logits, size_t n, float max, float temperature, double rounder, float *weights) {
    for (size_t i = 0; i < n; i++) {
        double w = mr_exact_exp((logits[i] - max) / temperature);
        weights[i] = (float)((w + rounder) - rounder);
    }
}

static void drop_below(const float *logits, size_t n, float floor, float *weights) {
    for (size_t i = 0; i < n; i++) weights[i] = logits[i] >= floor ? weights[i] : 0.0f;
}

static double sum_of(const float *weights, size_t n) {
    double lanes[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++) lanes[j] += weights[i + j];
    }
    for (; i < n; i++) sum += weights[i];
    for (size_t j = 0; j < 8; j++) sum += lanes[j];
    return sum;
}

/* Fills weights and sums with exp((logit - max) / temperature), 0 below `floor`; returns the total, exact. */
static double weigh(mr_sampler *s, const candidates *c, float temperature, float floor) {
    double total = 0;
    for (size_t first = 0; first < c->n; first += SUM_BLOCK) {
        size_t n = c->n - first < SUM_BLOCK ? c->n - first : SUM_BLOCK;
        float *weights = s->weights + first;
        exp_weights(c->logits + first, n, c->max, temperature, s->rounder, weights);
        if (floor > -INFINITY) drop_below(c->logits + first, n, floor, weights);
        total += s->sums[first / SUM_BLOCK] = sum_of(weights, n);
    }
    return total;
}

static void apply_top_p(mr_sampler *s, candidates *c) {
    if (s->sampling.top_p >= 1) return;
    double target = weigh(s, c, 1, -INFINITY) * (double)s->sampling.top_p;
    /* 40 below the maximum no weight is left after rounding. */
    apply_cut(s, c, find_cut(s->buckets, c->logits, s->weights, c->n, c->max - 40, c->max, target));
}

static int32_t draw(mr_sampler *s, const candidates *c) {
    double total = weigh(s, c, s->sampling.temperature, c->max + s->min_p_distance);
    double left = mr_random_uniform(s->sampling.seed, s->n_drawn++) * total;
    size_t n_blocks = div_up(c->n, SUM_BLOCK), block = 0;
    while (block + 1 < n_blocks && left >= s->sums[block]) left -= s->sums[block++];
    size_t chosen = block * SUM_BLOCK;
    while (chosen < c->n && left >= s->weights[chosen]) left -= s->weights[chosen++];
    if (chosen == c->n) { /* the product was rounded up to the total: the last possible one is meant */
        do chosen--;
        while (chosen > 0 && !(s->weights[chosen] > 0));
    }
    return id_of(c, chosen);
}

/* From candidates that stand for the whole row. */
static int32_t choose(mr_sampler *s, candidates *c, const uint64_t *mask) {
    if (!isfinite(c->max)) {
        s->n_drawn++;
        return first_allowed(s, mask);
    }
    if (s->sampling.temperature <= 0) return find_first(s, c);
    apply_top_k(s, c);
    apply_top_p(s, c);
    return draw(s, c);
}

int32_t mr_sampler_next(mr_sampler *sampler, float *logits, const int32_t *history, size_t n_history,
                        const uint64_t *mask) {
    mr_sampler *s = sampler;
    candidates c = {.logits = logits, .n = s->n_vocab};
    if (mask != NULL) apply_mask(&c, mask);
    if (s->seen != NULL) apply_penalty(s, &c, history, n_history);
    c.max = clean_and_find_max(s, &c);
    return choose(s, &c, mask);
}

/* ---- from the best few
 * --------------------------------------------------------------------------------------------------------
 *
 * A mask and a penalty of 1 or more only lower logits, so that those of the other tokens stay at or below the least of
 * the candidates as they came. Candidates that are above it still (all of them, where none was lowered) are the head of
 * the sorted row: the sure ones. What keeps no more than these is the same for the row. */

/* What is known of the tokens that are none of the candidates. */
typedef struct others {
    float most;         /* none is larger */
    size_t n_penalised; /* so many have been lowered by the penalty, and with a mask any may be impossible */
    bool masked;
    double low, high; /* bounds of their weights' sum at temperature 1 */
} others;

/* 25 below the largest a weight is under half a quantum. */
static bool are_weightless(const mr_sampler *s, const others *o, float max) {
    return o->most < max + s->min_p_distance || (o->most - max) / s->sampling.temperature <= -25;
}

/* Bounds of the sum of the others' weights, relative to `max` now. Where nothing was lowered it is exactly what the
 * whole row has beside the candidates. Where the largest was, all weights grow by the same factor but for rounding:
 * 1e-5 of it is more than the errors of floats, and a quantum for each token more than those of quanta. */
static void bound_weights(mr_sampler *s, const mr_candidates *from, float max, others *o) {
    double quantum = mr_weight_quantum(s->n_vocab);
    float largest = from->logits[0];
    for (size_t i = 1; i < from->n; i++) largest = from->logits[i] > largest ? from->logits[i] : largest;
    exp_weights(from->logits, from->n, largest, 1, s->rounder, s->weights);
    o->high = o->low = (double)from->total * quantum - sum_of(s->weights, from->n);
    if (o->n_penalised > 0) o->low -= (double)o->n_penalised * (mr_exact_exp(o->most - largest) * 1.00001 + quantum);
    if (o->masked) o->low = 0;
    if (max != largest) {
        double factor = exp((double)largest - (double)max), slack = (double)s->n_vocab * quantum * (1 + factor);
        o->low = o->low * (factor * 0.99999) - slack;
        o->high = o->high * (factor * 1.00001) + slack;
    }
    if (!(o->low > 0)) o->low = 0;
}

/* Cuts the sure candidates where top_p cuts the row; false where that cannot be told. */
static bool cut_top_p(mr_sampler *s, candidates *c, size_t n_sure, const others *o) {
    double top_p = (double)s->sampling.top_p, all = weigh(s, c, 1, -INFINITY);
    double least = (all + o->low) * top_p, most = (all + o->high) * top_p;
    if (n_sure < c->n) {
        apply_cut(s, c, (cut){.value = o->most, .n_equal = 0});
        all = weigh(s, c, 1, -INFINITY);
    }
    if (all < least) return are_weightless(s, o, c->max); /* all are kept, and some others */
    if (!(all >= most)) return false;
    cut at = find_cut(s->buckets, c->logits, s->weights, c->n, c->max - 40, c->max, most);
    if (least < most) {
        cut other = find_cut(s->buckets, c->logits, s->weights, c->n, c->max - 40, c->max, least);
        if (other.value != at.value || other.n_equal != at.n_equal) return false;
    }
    apply_cut(s, c, at);
    return true;
}

/* The most that the others' weights add up to at the sampler's temperature, which is at most 1: w^(1/T) is w times at
 * most w_most^(1/T - 1). The margins are again more than errors of floats and quanta. */
static double most_weight(const mr_sampler *s, const others *o, float max) {
    double t = (double)s->sampling.temperature, slack = (double)s->n_vocab * mr_weight_quantum(s->n_vocab);
    if (!(t < 1)) return o->high;
    double most = (double)mr_exact_exp(o->most - max) * 1.00001;
    return (o->high + slack) * pow(most < 1 ? most : 1, 1 / t - 1) * 1.0001 + slack;
}

/* A draw from all tokens that comes to the same candidate wherever between the candidates the others' weights lie;
 * false where it does not. */
static bool draw_among_others(mr_sampler *s, const candidates *c, const others *o, int32_t *token) {
    double high = most_weight(s, o, c->max), low = s->sampling.temperature < 1 || s->sampling.min_p > 0 ? 0 : o->low;
    double all = weigh(s, c, s->sampling.temperature, c->max + s->min_p_distance), before = 0;
    double u = mr_random_uniform(s->sampling.seed, s->n_drawn), least = u * (all + low), most = u * (all + high);
    size_t i = 0;
    while (i < c->n && !(most < before + s->weights[i])) before += s->weights[i++];
    if (i == c->n || !(least >= before + high)) return false;
    s->n_drawn++;
    *token = id_of(c, i);
    return true;
}

static size_t count_sure(const candidates *c, const mr_candidates *from, float least) {
    size_t n = 0;
    bool lowered = false;
    for (size_t i = 0; i < c->n; i++) {
        lowered = lowered || c->logits[i] != from->logits[i];
        n += c->logits[i] > least;
    }
    return lowered ? n : c->n;
}

static float least_of(const mr_candidates *from) {
    float least = from->logits[0];
    for (size_t i = 1; i < from->n; i++) least = from->logits[i] < least ? from->logits[i] : least;
    return least;
}

bool mr_sampler_takes_candidates(const mr_sampler *sampler) {
    const mr_sampling *s = &sampler->sampling;
    size_t k = s->top_k > 0 ? (size_t)s->top_k : SIZE_MAX;
    if (has_penalty(s) && s->repeat_penalty < 1) return false;
    if (s->temperature <= 0 || k <= MR_CANDIDATES || sampler->n_vocab <= MR_CANDIDATES) return true;
    if (s->top_p < 1) return k >= sampler->n_vocab;
    return s->min_p > 0 || s->temperature < 0.5f || (s->temperature <= 1 && k >= sampler->n_vocab);
}

bool mr_sampler_next_of(mr_sampler *sampler, const mr_candidates *from, const int32_t *history, size_t n_history,
                        const uint64_t *mask, int32_t *token) {
    mr_sampler *s = sampler;
    float logits[MR_CANDIDATES];
    candidates c = {.logits = logits, .ids = from->ids, .n = from->n};
    others o = {.masked = mask != NULL};
    if (has_penalty(&s->sampling) && s->sampling.repeat_penalty < 1) return false;
    memcpy(logits, from->logits, from->n * sizeof *logits);
    if (mask != NULL) apply_mask(&c, mask);
    if (s->seen != NULL) o.n_penalised = apply_penalty(s, &c, history, n_history);
    c.max = clean_and_find_max(s, &c);
    if (from->n < MR_CANDIDATES || s->n_vocab <= MR_CANDIDATES) { /* there are no others */
        *token = choose(s, &c, mask);
        return true;
    }
    o.most = least_of(from);
    size_t n_sure = count_sure(&c, from, o.most), k = (size_t)s->sampling.top_k;
    if (n_sure == 0) return false;
    if (s->sampling.temperature <= 0 || (k > 0 && k <= n_sure)) {
        *token = choose(s, &c, mask);
        return true;
    }
    bool from_all = k == 0 || k >= s->n_vocab;
    if (from_all) bound_weights(s, from, c.max, &o);
    if (s->sampling.top_p < 1) {
        if (!from_all || !cut_top_p(s, &c, n_sure, &o)) return false;
    } else if (!are_weightless(s, &o, c.max)) {
        return from_all && s->sampling.temperature <= 1 && draw_among_others(s, &c, &o, token);
    }
    *token = draw(s, &c);
    return true;
}
