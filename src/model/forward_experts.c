/* Mixtures of experts: a router gives each token its experts; each expert then works on the tokens that chose it, as
 * one product with gathered rows; at last every token adds up what its experts made of it, in the order of its choice.
 */
#include "compute/routing.h"
#include "model/forward.h"

/* The tokens of each expert. A slot is one (token, choice) pair; slots are ordered by expert. Private to a member: all
 * of them make the same lists. */
typedef struct expert_lists {
    uint32_t *begin;       /* [n_expert + 1] first slot of each expert */
    uint32_t *slot_token;  /* [n_slots] */
    uint32_t *slot_of;     /* [n_tokens, n_expert_used] */
    int32_t *identity;     /* [n_slots] 0, 1, 2, … */
    mr_glu_item *glu;      /* [n_expert] gate and up as one, or */
    mr_matmul_item *apart; /* [2 * n_expert] each for itself */
    mr_matmul_item *down;  /* [n_expert] */
    mr_choice choice;
    size_t n_busy; /* experts that any token chose: entries of the lists (twice that of `apart`) */
} expert_lists;

static size_t aligned(size_t n) {
    return (n + 63) / 64 * 64;
}

static size_t lay_out(const mr_hparams *h, uint8_t *data, expert_lists *lists) {
    size_t n_slots = (size_t)MR_BATCH_MAX * h->n_expert_used, at = 0;
    lists->begin = (uint32_t *)(void *)(data + at), at += aligned((h->n_expert + 1) * sizeof *lists->begin);
    lists->slot_token = (uint32_t *)(void *)(data + at), at += aligned(n_slots * sizeof *lists->slot_token);
    lists->slot_of = (uint32_t *)(void *)(data + at), at += aligned(n_slots * sizeof *lists->slot_of);
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

static mr_route_args route_args(const mr_pass *p, const mr_experts *e) {
    const mr_hparams *h = &p->model->hparams;
    const mr_forward_buffers *b = &p->model->buffers;
    return (mr_route_args){.scores = b->router,
                           .choice_bias = e->choice_bias,
                           .scales = e->scales,
                           .n_tokens = p->n_tokens,
                           .n_expert = h->n_expert,
                           .n_used = h->n_expert_used,
                           .n_group = h->n_expert_group,
                           .n_group_used = h->n_group_used,
                           .routing = (mr_routing)h->gating, /* the same numbers */
                           .normed = h->experts_normed,
                           .factor = h->expert_scale,
                           .chosen = b->chosen,
                           .weights = b->chosen_weight};
}

/* Scores of all experts, and each token's choice. Ends with a barrier. */
static void route_tokens(const mr_pass *p, mr_worker *worker, const mr_experts *e, const mr_inputs *in,
                         const mr_choice *c) {
    const mr_forward_buffers *b = &p->model->buffers;
    mr_matmul_item routers[2] = {mr_product(in, &e->router, b->router, false)};
    if (e->shared_router.w != NULL) routers[1] = mr_product(in, &e->shared_router, b->shared_weight, false);
    mr_matmul(worker, routers, e->shared_router.w != NULL ? 2 : 1, p->n_tokens);
    mr_barrier(worker);
    size_t begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    const mr_route_args args = route_args(p, e);
    for (size_t t = begin; t < end; t++) mr_route_token(&args, c, t);
    mr_barrier(worker);
}

/* ---- the experts' work
 * ------------------------------------------------------------------------------------------------ */

static void build_lists(const mr_pass *p, const mr_hparams *h, expert_lists *lists) {
    const mr_slots slots = {.n_expert = h->n_expert,
                            .n_used = h->n_expert_used,
                            .n_tokens = p->n_tokens,
                            .chosen = p->model->buffers.chosen,
                            .begin = lists->begin,
                            .slot_token = lists->slot_token,
                            .slot_of = lists->slot_of};
    mr_slots_fill(&slots);
    size_t n_slots = (size_t)p->n_tokens * h->n_expert_used;
    for (size_t i = 0; i < n_slots; i++) lists->identity[i] = (int32_t)i;
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
        const int32_t *tokens = (const int32_t *)lists->slot_token + first;
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
