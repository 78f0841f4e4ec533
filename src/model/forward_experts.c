/* Mixtures of experts: a router gives each token its experts; each expert then works on the tokens that chose it, as
 * one product with gathered rows; at last every token adds up what its experts made of it, in the order of its choice.
 */
#include "model/forward.h"

#include <math.h>

/* Memory of one member for the choice of one token. */
typedef struct choice {
    float *scores;   /* [n_expert + n_expert_group] what is compared */
    int32_t *groups; /* [n_group_used] */
} choice;

/* The tokens of each expert. A slot is one (token, choice) pair; slots are ordered by expert. Private to a member: all
 * of them make the same lists. */
typedef struct expert_lists {
    uint32_t *begin;       /* [n_expert + 1] first slot of each expert */
    int32_t *slot_token;   /* [n_slots] */
    int32_t *slot_of;      /* [n_tokens, n_expert_used] */
    int32_t *identity;     /* [n_slots] 0, 1, 2, … */
    mr_glu_item *glu;      /* [n_expert] gate and up as one, or */
    mr_matmul_item *apart; /* [2 * n_expert] each for itself */
    mr_matmul_item *down;  /* [n_expert] */
    choice choice;
    size_t n_busy; /* experts that any token chose: entries of the lists (twice that of `apart`) */
} expert_lists;

static size_t aligned(size_t n) {
    return (n + 63) / 64 * 64;
}

static size_t lay_out(const mr_hparams *h, uint8_t *data, expert_lists *lists) {
    size_t n_slots = (size_t)MR_BATCH_MAX * h->n_expert_used, at = 0;
    lists->begin = (uint32_t *)(void *)(data + at), at += aligned((h->n_expert + 1) * sizeof *lists->begin);
    lists->slot_token = (int32_t *)(void *)(data + at), at += aligned(n_slots * sizeof *lists->slot_token);
    lists->slot_of = (int32_t *)(void *)(data + at), at += aligned(n_slots * sizeof *lists->slot_of);
    lists->identity = (int32_t *)(void *)(data + at), at += aligned(n_slots * sizeof *lists->identity);
    lists->glu = (mr_glu_item *)(void *)(data + at), at += aligned(h->n_expert * sizeof *lists->glu);
    lists->apart = (mr_matmul_item *)(void *)(data + at), at += aligned(2 * h->n_expert * sizeof *lists->apart);
    lists->down = (mr_matmul_item *)(void *)(data + at), at += aligned(h->n_expert * sizeof *lists->down);
    size_t n_scores = (size_t)h->n_expert + h->n_expert_group;
    lists->choice.scores = (float *)(void *)(data + at), at += aligned(n_scores * sizeof(float));
    lists->choice.groups = (int32_t *)(void *)(data + at), at += aligned(h->n_expert_group * sizeof(int32_t));
    return at;
}

size_t mr_experts_scratch(const mr_hparams *hparams) {
    expert_lists lists;
    static uint8_t nothing[1];
    return hparams->n_expert == 0 ? 0 : lay_out(hparams, nothing, &lists);
}

bool mr_experts_apart(const mr_experts *e) {
    return e->gate_bias != NULL || e->up_bias != NULL || mr_kind_of(e->gate[0]) != mr_kind_of(e->up[0]);
}

/* ---- routing
 * ---------------------------------------------------------------------------------------------------------- */

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
static void keep_best_groups(const mr_hparams *h, float *scores, int32_t *groups, bool two) {
    uint32_t n = h->n_expert / h->n_expert_group;
    float *of_group = scores + h->n_expert;
    for (uint32_t g = 0; g < h->n_expert_group; g++) of_group[g] = group_score(scores + (size_t)g * n, n, two);
    choose_best(of_group, h->n_expert_group, h->n_group_used, groups);
    for (uint32_t g = 0; g < h->n_expert_group; g++) {
        bool kept = false;
        for (uint32_t i = 0; i < h->n_group_used; i++) kept = kept || groups[i] == (int32_t)g;
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

/* The experts of one token and their weights, from its scores (changed in place). */
static void route(const mr_model *model, const mr_experts *e, const choice *c, float *scores, int32_t *chosen,
                  float *weight) {
    const mr_hparams *h = &model->hparams;
    if (h->gating == MR_GATING_SOFTMAX) model->ops->softmax(scores, h->n_expert);
    if (h->gating == MR_GATING_SIGMOID) model->ops->sigmoid(scores, h->n_expert);
    const float *bias = e->choice_bias;
    for (uint32_t i = 0; i < h->n_expert; i++) c->scores[i] = scores[i] + (bias != NULL ? bias[i] : 0.0f);
    if (h->n_expert_group > 1) keep_best_groups(h, c->scores, c->groups, h->gating == MR_GATING_SIGMOID);
    choose_best(c->scores, h->n_expert, h->n_expert_used, chosen);
    bool mixer = h->gating == MR_GATING_SPARSEMIXER, over_chosen = h->gating == MR_GATING_SOFTMAX_CHOSEN;
    for (uint32_t k = 0; k < h->n_expert_used; k++) {
        weight[k] = mixer ? mixer_weight(scores, h->n_expert, chosen, k) : scores[chosen[k]];
    }
    if (over_chosen) model->ops->softmax(weight, h->n_expert_used);
    float sum = 0.0f, factor = h->expert_scale;
    for (uint32_t k = 0; k < h->n_expert_used; k++) sum += weight[k];
    if (h->experts_normed && !over_chosen && !mixer) factor /= sum + (h->gating == MR_GATING_SIGMOID ? 1e-20f : 0.0f);
    for (uint32_t k = 0; k < h->n_expert_used; k++) {
        weight[k] *= factor;
        if (e->scales != NULL) weight[k] *= e->scales[chosen[k]];
    }
}

/* Scores of all experts, and each token's choice. Ends with a barrier. */
static void route_tokens(const mr_pass *p, mr_worker *worker, const mr_experts *e, const mr_inputs *in,
                         const choice *c) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    mr_matmul_item routers[2] = {mr_product(in, &e->router, b->router, false)};
    if (e->shared_router.w != NULL) routers[1] = mr_product(in, &e->shared_router, b->shared_weight, false);
    mr_matmul(worker, routers, e->shared_router.w != NULL ? 2 : 1, p->n_tokens);
    mr_barrier(worker);
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        route(p->model, e, c, b->router + t * h->n_expert, b->chosen + t * h->n_expert_used,
              b->chosen_weight + t * h->n_expert_used);
    }
    mr_barrier(worker);
}

/* ---- the experts' work
 * ------------------------------------------------------------------------------------------------ */

static void build_lists(const mr_pass *p, const mr_hparams *h, expert_lists *lists) {
    const int32_t *chosen = p->model->buffers.chosen;
    size_t n_slots = (size_t)p->n_tokens * h->n_expert_used;
    for (uint32_t e = 0; e <= h->n_expert; e++) lists->begin[e] = 0;
    for (size_t i = 0; i < n_slots; i++) lists->begin[chosen[i] + 1]++;
    for (uint32_t e = 0; e < h->n_expert; e++) lists->begin[e + 1] += lists->begin[e];
    /* Filling moves each begin to its end, which is the next one's begin; they are moved back behind it. */
    for (size_t i = 0; i < n_slots; i++) {
        uint32_t slot = lists->begin[chosen[i]]++;
        lists->slot_token[slot] = (int32_t)(i / h->n_expert_used);
        lists->slot_of[i] = (int32_t)slot;
        lists->identity[i] = (int32_t)i;
    }
    for (uint32_t e = h->n_expert; e > 0; e--) lists->begin[e] = lists->begin[e - 1];
    lists->begin[0] = 0;
}

/* x += weighted sum of what a token's experts, and the shared one, made. */
static void combine(const mr_pass *p, mr_worker *worker, const mr_experts *e, const expert_lists *lists,
                    const mr_norm_weights *post_norm) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t n_slots = (size_t)p->n_tokens * h->n_expert_used, begin, end;
    float *sum = (float *)(void *)(mr_private_data(p, worker) + b->private_norm);
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        for (size_t i = 0; i < h->n_embd; i++) sum[i] = 0.0f;
        for (uint32_t k = 0; k < h->n_expert_used; k++) {
            size_t i = t * h->n_expert_used + k;
            model->ops->add_scaled(sum, b->block + (size_t)lists->slot_of[i] * h->n_embd, b->chosen_weight[i],
                                   h->n_embd);
        }
        if (e->experts_post_norm.weight != NULL) mr_apply_norm(model, &e->experts_post_norm, sum, h->n_embd, sum);
        if (e->shared_down.w != NULL) {
            float weight = 1.0f, *shared = b->block + (n_slots + t) * h->n_embd;
            if (e->shared_post_norm.weight != NULL)
                mr_apply_norm(model, &e->shared_post_norm, shared, h->n_embd, shared);
            if (e->shared_router.w != NULL) {
                weight = b->shared_weight[t];
                model->ops->sigmoid(&weight, 1);
            }
            model->ops->add_scaled(sum, shared, weight, h->n_embd);
        }
        if (post_norm->weight != NULL) mr_apply_norm(model, post_norm, sum, h->n_embd, sum);
        model->ops->add_scaled(b->x + t * h->n_embd, sum, h->residual_scale, h->n_embd);
    }
}

/* The products of every expert that any token chose. */
static void list_products(const mr_pass *p, const mr_experts *e, const mr_inputs *in, const mr_inputs *hidden,
                          expert_lists *lists) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    lists->n_busy = 0;
    for (uint32_t i = 0; i < h->n_expert; i++) {
        uint32_t first = lists->begin[i], n = lists->begin[i + 1] - first;
        if (n == 0) continue;
        const mr_acts *x_gate = mr_input_for(in, e->gate[i]), *x_up = mr_input_for(in, e->up[i]);
        const int32_t *tokens = lists->slot_token + first;
        size_t ff = h->n_ff_expert, at = lists->n_busy++;
        float *gate = b->h + first * ff, *up = b->h_up != NULL ? b->h_up + first * ff : NULL;
        const float *gate_bias = e->gate_bias != NULL ? e->gate_bias + i * ff : NULL;
        const float *up_bias = e->up_bias != NULL ? e->up_bias + i * ff : NULL;
        lists->glu[at] = (mr_glu_item){e->gate[i], e->up[i], h->arch->act, x_gate, gate, ff, tokens, n};
        lists->apart[2 * at] = (mr_matmul_item){e->gate[i], x_gate, gate_bias, gate, ff, false, tokens, n};
        lists->apart[2 * at + 1] = (mr_matmul_item){e->up[i], x_up, up_bias, up, ff, false, tokens, n};
        lists->down[at] = (mr_matmul_item){.w = e->down[i],
                                           .x = mr_input_for(hidden, e->down[i]),
                                           .bias = e->down_bias != NULL ? e->down_bias + (size_t)i * h->n_embd : NULL,
                                           .y = b->block + (size_t)first * h->n_embd,
                                           .ldy = h->n_embd,
                                           .rows = lists->identity + first,
                                           .n_rows = n};
    }
}

/* The inputs of router, shared expert and experts are the same, unless each has a norm of its own. */
static bool has_own_norms(const mr_experts *e) {
    return e->router_norm.weight != NULL;
}

static void compute_shared_hidden(const mr_pass *p, mr_worker *worker, const mr_experts *e, const mr_inputs *in,
                                  float *h_shared) {
    if (e->shared_down.w == NULL) return;
    mr_matmul_glu(worker, e->shared_gate.w, e->shared_up.w, p->model->hparams.arch->act,
                  mr_input_for(in, e->shared_gate.w), h_shared, e->n_ff_shared, p->n_tokens);
}

/* The hidden values of all slots, and of the shared expert behind them. Ends with a barrier. */
static void compute_hidden(const mr_pass *p, mr_worker *worker, const mr_experts *e, const mr_inputs *in,
                           const expert_lists *lists, float *h_shared) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    bool apart = mr_experts_apart(e);
    if (apart)
        mr_matmul(worker, lists->apart, 2 * lists->n_busy, p->n_tokens);
    else
        mr_matmul_glu_items(worker, lists->glu, lists->n_busy, p->n_tokens);
    if (!has_own_norms(e)) compute_shared_hidden(p, worker, e, in, h_shared);
    mr_barrier(worker);
    if (!apart) return;
    size_t begin, end;
    mr_share(worker, (size_t)p->n_tokens * h->n_expert_used * h->n_ff_expert, 64, &begin, &end);
    if (begin < end) p->model->ops->glu(h->arch->act, b->h + begin, b->h_up + begin, end - begin, b->h + begin);
    mr_barrier(worker);
}

void mr_experts_block(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_experts *e = layer->experts;
    size_t n_slots = (size_t)p->n_tokens * h->n_expert_used;
    float *h_shared = b->h + n_slots * h->n_ff_expert, *block_shared = b->block + n_slots * h->n_embd;
    expert_lists lists;
    lay_out(h, mr_private_data(p, worker) + b->private_experts, &lists);
    mr_inputs in = {0}, hidden = {0};
    mr_want_input(&in, e->router.w);
    mr_want_input(&in, e->shared_router.w);
    mr_want_input(&in, e->gate[0]);
    mr_want_input(&in, e->up[0]);
    mr_want_input(&in, e->shared_gate.w);
    mr_want_input(&hidden, e->down[0]);
    const mr_norm_weights *router_norm = has_own_norms(e) ? &e->router_norm : &layer->ffn_norm;
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, router_norm, p->n_tokens, NULL);
    route_tokens(p, worker, e, &in, &lists.choice);
    if (has_own_norms(e)) {
        mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &layer->ffn_norm, p->n_tokens, NULL);
        compute_shared_hidden(p, worker, e, &in, h_shared);
        mr_barrier(worker);
        mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &e->experts_norm, p->n_tokens, NULL);
    }
    build_lists(p, h, &lists);
    list_products(p, e, &in, &hidden, &lists);
    compute_hidden(p, worker, e, &in, &lists, h_shared);

    mr_prepare_inputs(p, worker, &hidden, b->h, h->n_ff_expert, NULL, n_slots, NULL);
    mr_matmul(worker, lists.down, lists.n_busy, p->n_tokens);
    mr_barrier(worker);
    if (e->shared_down.w != NULL) {
        mr_inputs shared = {0};
        mr_want_input(&shared, e->shared_down.w);
        mr_prepare_inputs(p, worker, &shared, h_shared, e->n_ff_shared, NULL, p->n_tokens, NULL);
        const mr_matmul_item item = mr_product(&shared, &e->shared_down, block_shared, false);
        mr_matmul(worker, &item, 1, p->n_tokens);
        mr_barrier(worker);
    }
    combine(p, worker, e, &lists, &layer->ffn_post_norm);
}
