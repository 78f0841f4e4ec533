#include "compute/routing.h"

#include "compute/ops.h"

#include <math.h>

/* The best n_used of the scores, best first; of equals the one with the smaller number. */
static void choose_best(const float *scores, uint32_t n, uint32_t n_used, int32_t *chosen) {
    for (uint32_t k = 0; k < n_used; k++) {
        int32_t best = -1;
        for (uint32_t e = 0; e < n; e++) {
            bool taken = false;
            for (uint32_t j = 0; j < k; j++) taken = taken || chosen[j] == (int32_t)e;
            if (!taken && (best < 0 || scores[e] > scores[best])) best = (int32_t)e;
        }
        chosen[k] = best;
    }
}

/* What a group of experts is worth: the sum of its two best where experts are corrected by a bias (DeepSeek-V3,
 * arXiv:2412.19437), its best otherwise (DeepSeek-V2, arXiv:2405.04434). */
static float group_score(const float *scores, uint32_t n, bool two) {
    float best = -INFINITY, second = -INFINITY;
    for (uint32_t e = 0; e < n; e++) {
        if (scores[e] > best)
            second = best, best = scores[e];
        else if (scores[e] > second)
            second = scores[e];
    }
    return two && n > 1 ? best + second : best;
}

/* Takes the experts of all but the best groups out of the choice. `scores` has room for the groups behind it. */
static void keep_best_groups(const mr_route_args *a, float *scores, int32_t *groups) {
    uint32_t n = a->n_expert / a->n_group;
    float *of_group = scores + a->n_expert;
    for (uint32_t g = 0; g < a->n_group; g++)
        of_group[g] = group_score(scores + (size_t)g * n, n, a->routing == MR_ROUTING_SIGMOID);
    choose_best(of_group, a->n_group, a->n_group_used, groups);
    for (uint32_t g = 0; g < a->n_group; g++) {
        bool kept = false;
        for (uint32_t i = 0; i < a->n_group_used; i++) kept = kept || groups[i] == (int32_t)g;
        for (uint32_t e = g * n; !kept && e < (g + 1) * n; e++) scores[e] = -INFINITY;
    }
}

/* SparseMixer's weight of a chosen expert: its share of the softmax over the experts that it does not beat clearly.
 * Experts chosen before are out of it. */
static float mixer_weight(const float *logits, uint32_t n, const int32_t *chosen, uint32_t k) {
    const float nearness = 2.0f * 0.01f, best = logits[chosen[k]];
    float sum = 0.0f;
    for (uint32_t e = 0; e < n; e++) {
        bool before = false;
        for (uint32_t j = 0; j < k; j++) before = before || chosen[j] == (int32_t)e;
        float size = fabsf(logits[e]) > best ? fabsf(logits[e]) : best;
        if (!before && (best - logits[e]) / size <= nearness) sum += expf(logits[e] - best);
    }
    return 1.0f / sum;
}

void mr_route_token(const mr_route_args *a, const mr_choice *c, size_t t) {
    const mr_ops *ops = mr_ops_active();
    float *scores = a->scores + t * a->n_expert, *weight = a->weights + t * a->n_used;
    int32_t *chosen = a->chosen + t * a->n_used;
    if (a->routing == MR_ROUTING_SOFTMAX) ops->softmax(scores, a->n_expert);
    if (a->routing == MR_ROUTING_SIGMOID) ops->sigmoid(scores, a->n_expert);
    const float *bias = a->choice_bias;
    for (uint32_t i = 0; i < a->n_expert; i++) c->scores[i] = scores[i] + (bias != NULL ? bias[i] : 0.0f);
    if (a->n_group > 1) keep_best_groups(a, c->scores, c->groups);
    choose_best(c->scores, a->n_expert, a->n_used, chosen);
    bool mixer = a->routing == MR_ROUTING_SPARSEMIXER, over_chosen = a->routing == MR_ROUTING_SOFTMAX_CHOSEN;
    for (uint32_t k = 0; k < a->n_used; k++)
        weight[k] = mixer ? mixer_weight(scores, a->n_expert, chosen, k) : scores[chosen[k]];
    if (over_chosen) ops->softmax(weight, a->n_used);
    float sum = 0.0f, factor = a->factor;
    for (uint32_t k = 0; k < a->n_used; k++) sum += weight[k];
    if (a->normed && !over_chosen && !mixer) factor /= sum + (a->routing == MR_ROUTING_SIGMOID ? 1e-20f : 0.0f);
    for (uint32_t k = 0; k < a->n_used; k++) {
        weight[k] *= factor;
        if (a->scales != NULL) weight[k] *= a->scales[chosen[k]];
    }
}

void mr_slots_fill(const mr_slots *s) {
    size_t n_slots = s->n_tokens * s->n_used;
    for (uint32_t e = 0; e <= s->n_expert; e++) s->begin[e] = 0;
    for (size_t i = 0; i < n_slots; i++) s->begin[s->chosen[i] + 1]++;
    for (uint32_t e = 0; e < s->n_expert; e++) s->begin[e + 1] += s->begin[e];
    /* Filling moves each begin to its end, which is the next one's begin; they are moved back behind it. */
    for (size_t i = 0; i < n_slots; i++) {
        uint32_t slot = s->begin[s->chosen[i]]++;
        s->slot_token[slot] = (uint32_t)(i / s->n_used);
        s->slot_of[i] = slot;
    }
    for (uint32_t e = s->n_expert; e > 0; e--) s->begin[e] = s->begin[e - 1];
    s->begin[0] = 0;
}
