/* Mixtures of experts: a router gives each token its experts; each expert then works on the tokens that chose it, as
 * one product with gathered rows; at last every token adds up what its experts made of it, in the order of its choice.
 */
#include "model/forward.h"

#include <math.h>

/* The tokens of each expert. A slot is one (token, choice) pair; slots are ordered by expert. Private to a member: all
 * of them make the same lists. */
typedef struct expert_lists {
    uint32_t *begin;      /* [n_expert + 1] first slot of each expert */
    int32_t *slot_token;  /* [n_slots] */
    int32_t *slot_of;     /* [n_tokens, n_expert_used] */
    int32_t *identity;    /* [n_slots] 0, 1, 2, … */
    mr_glu_item *glu;     /* [n_expert] */
    mr_matmul_item *down; /* [n_expert] */
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
    lists->glu = (mr_glu_item *)(void *)(data + at), at += aligned((h->n_expert + 1) * sizeof *lists->glu);
    lists->down = (mr_matmul_item *)(void *)(data + at), at += aligned(h->n_expert * sizeof *lists->down);
    return at;
}

size_t mr_experts_scratch(const mr_hparams *hparams) {
    expert_lists lists;
    static uint8_t nothing[1];
    return hparams->n_expert == 0 ? 0 : lay_out(hparams, nothing, &lists);
}

/* The best n_used of the scores, best first; of equals the one with the smaller number. */
static void choose_best(const float *scores, const float *bias, uint32_t n, uint32_t n_used, int32_t *chosen) {
    for (uint32_t k = 0; k < n_used; k++) {
        int32_t best = -1;
        float best_score = -INFINITY;
        for (uint32_t e = 0; e < n; e++) {
            float score = scores[e] + (bias != NULL ? bias[e] : 0.0f);
            bool taken = false;
            for (uint32_t j = 0; j < k; j++) taken = taken || chosen[j] == (int32_t)e;
            if (taken || (best >= 0 && !(score > best_score))) continue;
            best = (int32_t)e;
            best_score = score;
        }
        chosen[k] = best;
    }
}

/* The experts of one token and their weights, from its scores (changed in place). */
static void route(const mr_model *model, const mr_experts *e, float *scores, int32_t *chosen, float *weight) {
    const mr_hparams *h = &model->hparams;
    if (h->gating == MR_GATING_SOFTMAX) model->ops->softmax(scores, h->n_expert);
    if (h->gating == MR_GATING_SIGMOID) model->ops->sigmoid(scores, h->n_expert);
    choose_best(scores, e->choice_bias, h->n_expert, h->n_expert_used, chosen);
    float sum = 0.0f;
    for (uint32_t k = 0; k < h->n_expert_used; k++) weight[k] = scores[chosen[k]];
    if (h->gating == MR_GATING_SOFTMAX_CHOSEN) model->ops->softmax(weight, h->n_expert_used);
    for (uint32_t k = 0; k < h->n_expert_used; k++) sum += weight[k];
    float factor = h->expert_scale;
    if (h->experts_normed && h->gating != MR_GATING_SOFTMAX_CHOSEN)
        factor /= sum + (h->gating == MR_GATING_SIGMOID ? 1e-20f : 0.0f);
    for (uint32_t k = 0; k < h->n_expert_used; k++) weight[k] *= factor;
}

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
        if (e->shared_down.w != NULL) {
            float weight = 1.0f;
            if (e->shared_router.w != NULL) {
                weight = b->shared_weight[t];
                model->ops->sigmoid(&weight, 1);
            }
            model->ops->add_scaled(sum, b->block + (n_slots + t) * h->n_embd, weight, h->n_embd);
        }
        if (post_norm->weight != NULL) mr_apply_norm(model, post_norm, sum, h->n_embd, sum);
        model->ops->add_scaled(b->x + t * h->n_embd, sum, h->residual_scale, h->n_embd);
    }
}

/* Scores of all experts, and each token's choice. Ends with a barrier. */
static void route_tokens(const mr_pass *p, mr_worker *worker, const mr_experts *e, const mr_inputs *in) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    mr_matmul_item routers[2] = {mr_product(in, &e->router, b->router, false)};
    if (e->shared_router.w != NULL) routers[1] = mr_product(in, &e->shared_router, b->shared_weight, false);
    mr_matmul(worker, routers, e->shared_router.w != NULL ? 2 : 1, p->n_tokens);
    mr_barrier(worker);
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        route(p->model, e, b->router + t * h->n_expert, b->chosen + t * h->n_expert_used,
              b->chosen_weight + t * h->n_expert_used);
    }
    mr_barrier(worker);
}

void mr_experts_block(const mr_pass *p, mr_worker *worker, const mr_layer *layer) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_experts *e = layer->experts;
    size_t n_slots = (size_t)p->n_tokens * h->n_expert_used;
    float *h_shared = b->h + n_slots * h->n_ff_expert, *block_shared = b->block + n_slots * h->n_embd;
    mr_inputs in = {0};
    mr_want_input(&in, e->router.w);
    mr_want_input(&in, e->shared_router.w);
    mr_want_input(&in, e->gate[0]);
    mr_want_input(&in, e->shared_gate.w);
    mr_prepare_inputs(p, worker, &in, b->x, h->n_embd, &layer->ffn_norm, p->n_tokens, NULL);
    route_tokens(p, worker, e, &in);

    expert_lists lists;
    lay_out(h, mr_private_data(p, worker) + b->private_experts, &lists);
    build_lists(p, h, &lists);
    size_t n_items = 0, n_glu = 0;
    mr_inputs hidden = {0};
    mr_want_input(&hidden, e->down[0]);
    for (uint32_t i = 0; i < h->n_expert; i++) {
        uint32_t first = lists.begin[i], n = lists.begin[i + 1] - first;
        if (n == 0) continue;
        lists.glu[n_glu++] = (mr_glu_item){.gate = e->gate[i],
                                           .up = e->up[i],
                                           .act = h->arch->act,
                                           .x = mr_input_for(&in, e->gate[i]),
                                           .y = b->h + (size_t)first * h->n_ff_expert,
                                           .ldy = h->n_ff_expert,
                                           .rows = lists.slot_token + first,
                                           .n_rows = n};
        lists.down[n_items++] = (mr_matmul_item){.w = e->down[i],
                                                 .x = mr_input_for(&hidden, e->down[i]),
                                                 .y = b->block + (size_t)first * h->n_embd,
                                                 .ldy = h->n_embd,
                                                 .rows = lists.identity + first,
                                                 .n_rows = n};
    }
    if (e->shared_down.w != NULL) {
        lists.glu[n_glu++] = (mr_glu_item){.gate = e->shared_gate.w,
                                           .up = e->shared_up.w,
                                           .act = h->arch->act,
                                           .x = mr_input_for(&in, e->shared_gate.w),
                                           .y = h_shared,
                                           .ldy = e->n_ff_shared};
    }
    mr_matmul_glu_items(worker, lists.glu, n_glu, p->n_tokens);
    mr_barrier(worker);
    mr_prepare_inputs(p, worker, &hidden, b->h, h->n_ff_expert, NULL, n_slots, NULL);
    mr_matmul(worker, lists.down, n_items, p->n_tokens);
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
