/* The memory of a forward pass. */
#include "model/forward.h"

#include <stdlib.h>

/* The largest of each size; n_head_kv is such that n_head_kv heads hold all of any layer. */
static mr_layer_dims widest_dims(const mr_model *model) {
    mr_layer_dims widest = {0};
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_layer_dims *d = &model->layers[il].dims;
        if (d->n_head_kv > widest.n_head_kv) widest.n_head_kv = d->n_head_kv;
        if (d->head_dim_k > widest.head_dim_k) widest.head_dim_k = d->head_dim_k;
        if (d->head_dim_v > widest.head_dim_v) widest.head_dim_v = d->head_dim_v;
    }
    return widest;
}

/* Most values that any matrix reads. */
static size_t widest_input(const mr_model *model) {
    const mr_hparams *h = &model->hparams;
    size_t widest = h->n_embd, n_attn = (size_t)h->n_head * widest_dims(model).head_dim_v;
    if (n_attn > widest) widest = n_attn;
    if (h->n_ff > widest) widest = h->n_ff;
    if (h->n_ff_expert > widest) widest = h->n_ff_expert;
    if (h->q_lora_rank > widest) widest = h->q_lora_rank;
    if ((size_t)h->n_head_mix * h->dim_v_mix > widest) widest = (size_t)h->n_head_mix * h->dim_v_mix;
    if (h->kv_lora_rank > 0 && (size_t)h->n_head * h->mla_dim_v > widest) widest = (size_t)h->n_head * h->mla_dim_v;
    for (uint32_t il = 0; il < h->n_layer; il++) {
        const mr_experts *e = model->layers[il].experts;
        if (e != NULL && e->n_ff_shared > widest) widest = e->n_ff_shared;
    }
    return widest;
}

static size_t widest_shared_expert(const mr_model *model) {
    size_t widest = 0;
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_experts *e = model->layers[il].experts;
        if (e != NULL && e->n_ff_shared > widest) widest = e->n_ff_shared;
    }
    return widest;
}

static void *alloc_bytes(size_t n_bytes) {
    return aligned_alloc(64, (n_bytes + 127) / 64 * 64);
}

static float *alloc_rows(size_t n_rows, size_t n) {
    return alloc_bytes(n_rows * n * sizeof(float));
}

/* What the layers' parts need beyond the plain pass. */
typedef struct needs {
    bool kinds[MR_N_ACTS_KINDS];
    bool h_up;  /* gate and up apart */
    bool block; /* a block's output apart from the residual stream */
} needs;

static void need_kind(needs *n, const mr_matrix *w) {
    if (w != NULL) n->kinds[mr_kind_of(w)] = true;
}

static void need_mla(needs *n, const mr_mla *mla) {
    const mr_matrix *matrices[] = {mla->q_down.w, mla->q_up.w, mla->kv_down.w, mla->k_up[0], mla->v_up[0]};
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) need_kind(n, matrices[i]);
}

static void need_altup(needs *n, const mr_altup *altup) {
    need_kind(n, altup->router.w);
    need_kind(n, altup->laurel_down.w);
    need_kind(n, altup->laurel_up.w);
}

static void need_recurrent(needs *n, const mr_recurrent *r) {
    for (size_t i = 0; i < sizeof r->in / sizeof r->in[0]; i++) need_kind(n, r->in[i].w);
    need_kind(n, r->out.w);
}

static needs find_needs(const mr_model *model) {
    needs n = {.block = model->hparams.residual_scale != 1.0f};
    need_kind(&n, model->output.w);
    need_kind(&n, model->per_layer.from_embd.w);
    for (size_t i = 0; i < MR_MAX_STREAMS - 1; i++) {
        need_kind(&n, model->streams_in[i].w);
        need_kind(&n, model->streams_out[i].w);
    }
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_layer *layer = &model->layers[il];
        const mr_linear *linears[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                      &layer->gate, &layer->up, &layer->down};
        for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) need_kind(&n, linears[i]->w);
        if (layer->mla != NULL) need_mla(&n, layer->mla);
        if (layer->recurrent != NULL) need_recurrent(&n, layer->recurrent);
        if (layer->gate.w != NULL && mr_gate_up_apart(layer)) n.h_up = true;
        if (layer->own.gate.w != NULL) {
            need_kind(&n, layer->own.gate.w);
            need_kind(&n, layer->own.up.w);
            n.block = true;
        }
        if (layer->altup.router.w != NULL) need_altup(&n, &layer->altup);
        if (layer->attn_post_norm.weight != NULL || layer->ffn_post_norm.weight != NULL || layer->experts != NULL)
            n.block = true;
        const mr_experts *e = layer->experts;
        if (e == NULL) continue;
        const mr_matrix *of_experts[] = {e->router.w,      e->gate[0],     e->up[0],         e->down[0],
                                         e->shared_gate.w, e->shared_up.w, e->shared_down.w, e->shared_router.w};
        if (mr_experts_apart(e)) n.h_up = true;
        for (size_t i = 0; i < sizeof of_experts / sizeof of_experts[0]; i++) need_kind(&n, of_experts[i]);
    }
    return n;
}

/* Rows for the recurrent layers; all of a model's are alike. */
static bool alloc_recurrent(mr_model *model) {
    mr_forward_buffers *b = &model->buffers;
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_recurrent *r = model->layers[il].recurrent;
        if (r == NULL) continue;
        b->mix = alloc_rows(MR_BATCH_MAX, r->n_in);
        b->conv = alloc_rows(MR_BATCH_MAX, r->n_conv);
        b->mixed = alloc_rows(MR_BATCH_MAX, r->n_inner);
        return b->mix && b->conv && b->mixed;
    }
    return true;
}

static bool alloc_tokens(mr_model *model, const needs *n) {
    const mr_hparams *h = &model->hparams;
    mr_forward_buffers *b = &model->buffers;
    size_t T = MR_BATCH_MAX, n_slots = T * h->n_expert_used;
    size_t expert_values = n_slots * h->n_ff_expert + T * widest_shared_expert(model);
    size_t hidden_values = T * h->n_ff > expert_values ? T * h->n_ff : expert_values;
    b->x = alloc_rows(T, h->n_embd);
    mr_layer_dims d = widest_dims(model);
    b->q = alloc_rows(T, (size_t)h->n_head * d.head_dim_k);
    b->k = alloc_rows(T, (size_t)d.n_head_kv * d.head_dim_k);
    b->v = alloc_rows(T, (size_t)d.n_head_kv * d.head_dim_v);
    b->attn = alloc_rows(T, (size_t)h->n_head * d.head_dim_v);
    b->h = alloc_rows(1, hidden_values);
    b->logits = alloc_rows(MR_LOGITS_ROWS, h->n_vocab);
    b->kv = calloc(h->n_layer, sizeof *b->kv);
    bool ok = b->x && b->q && b->k && b->v && b->attn && b->h && b->logits && b->kv;
    ok = alloc_recurrent(model) && ok;
    if (h->arch->gated_attention) ok = (b->q_gates = alloc_rows(T, 2 * (size_t)h->n_head * d.head_dim_k)) && ok;
    if (n->h_up) ok = (b->h_up = alloc_rows(1, hidden_values)) && ok;
    if (n->block) ok = (b->block = alloc_rows(n_slots + T, h->n_embd)) && ok;
    for (int i = 0; i < MR_N_ROPES; i++) {
        if (model->ropes[i].inv_freq == NULL) continue;
        ok = (b->cosines[i] = alloc_rows(T, model->ropes[i].n_rot / 2)) && ok;
        ok = (b->sines[i] = alloc_rows(T, model->ropes[i].n_rot / 2)) && ok;
    }
    if (h->n_embd_per_layer > 0) {
        ok = (b->per_layer = alloc_rows(T, (size_t)h->n_layer * h->n_embd_per_layer)) && ok;
        ok = (b->own = alloc_rows(T, h->n_embd_per_layer)) && ok;
    }
    b->streams[0] = b->x;
    if (h->n_stream > 1) {
        size_t rank = mr_matrix_n_out(model->layers[0].altup.laurel_down.w);
        for (uint32_t i = 1; i < h->n_stream; i++) ok = (b->streams[i] = alloc_rows(T, h->n_embd)) && ok;
        ok = (b->predicted = alloc_rows(T, h->n_embd)) && ok;
        ok = (b->laurel = alloc_rows(T, h->n_embd)) && ok;
        ok = (b->laurel_low = alloc_rows(T, rank)) && ok;
        ok = (b->modal = alloc_rows(T, h->n_stream)) && ok;
    }
    if (h->kv_lora_rank > 0) {
        ok = (b->q_latent = alloc_rows(T, h->q_lora_rank)) && ok;
        ok = (b->q_heads = alloc_rows(T, (size_t)h->n_head * (h->n_nope + h->n_rot))) && ok;
        ok = (b->v_heads = alloc_rows(T, (size_t)h->n_head * h->mla_dim_v)) && ok;
    }
    if (h->n_expert > 0) {
        ok = (b->router = alloc_rows(T, h->n_expert)) && ok;
        ok = (b->shared_weight = alloc_rows(T, 1)) && ok;
        ok = (b->chosen = alloc_bytes(n_slots * sizeof *b->chosen)) && ok;
        ok = (b->chosen_weight = alloc_rows(T, h->n_expert_used)) && ok;
    }
    return ok;
}

/* One token's activations of all heads apart, for attention with compressed keys and values. */
static size_t head_acts_bytes(const mr_hparams *h, mr_acts_kind kind) {
    if (h->kv_lora_rank == 0) return 0;
    uint32_t n = h->kv_lora_rank > h->n_nope ? h->kv_lora_rank : h->n_nope;
    return h->n_head * mr_acts_stride(kind, n);
}

/* The key-value type only changes what is stored, not the scratch, which holds floats. */
static size_t attention_scratch(const mr_model *model) {
    size_t most = 0, offset;
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        if (model->layers[il].dims.n_head_kv == 0) continue;
        mr_kv_layout layout = mr_layer_kv_layout(model, MR_KV_F32, il, &offset);
        size_t n = mr_attention_scratch(&layout, model->hparams.n_head / model->layers[il].dims.n_head_kv);
        if (n > most) most = n;
    }
    return most;
}

/* Activations: shared for a batch, and for one token in each member's private memory. */
static bool alloc_acts(mr_model *model, const needs *n) {
    const mr_hparams *h = &model->hparams;
    mr_forward_buffers *b = &model->buffers;
    size_t widest = widest_input(model), n_slots = (size_t)MR_BATCH_MAX * h->n_expert_used;
    bool ok = true;
    b->private_norm = 0;
    size_t n_norm = (size_t)h->n_layer * h->n_embd_per_layer; /* the most floats that private_norm takes up */
    if (n_norm < (size_t)h->n_stream * h->n_embd) n_norm = (size_t)h->n_stream * h->n_embd;
    size_t n_mixer = 2 * (size_t)h->dim_k_mix + h->dim_v_mix;
    if (n_norm < n_mixer) n_norm = n_mixer;
    size_t at = ((widest > n_norm ? widest : n_norm) * sizeof(float) + 63) / 64 * 64;
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
        if (!n->kinds[kind]) continue;
        size_t stride = mr_acts_stride((mr_acts_kind)kind, widest);
        size_t n_bytes = MR_BATCH_MAX * stride;
        size_t slot_bytes = h->n_expert > 0 ? n_slots * mr_acts_stride((mr_acts_kind)kind, h->n_ff_expert) : 0;
        size_t head_bytes = MR_BATCH_MAX * head_acts_bytes(h, (mr_acts_kind)kind);
        if (slot_bytes > n_bytes) n_bytes = slot_bytes;
        ok = (b->acts[kind] = alloc_bytes(n_bytes > head_bytes ? n_bytes : head_bytes)) && ok;
        b->private_acts[kind] = at;
        at += stride * MR_PRIVATE_TOKENS;
    }
    b->private_attention = at;
    at += (attention_scratch(model) + 63) / 64 * 64;
    b->private_experts = at;
    b->private_mla = at + (mr_experts_scratch(h) + 63) / 64 * 64;
    b->private_bytes = (b->private_mla + mr_mla_scratch(h) + 4095) / 4096 * 4096;
    b->private_data = alloc_bytes(b->private_bytes * (size_t)mr_team_size(model->team));
    return ok && b->private_data != NULL;
}

mr_status mr_forward_buffers_init(mr_model *model, mr_error *err) {
    needs n = find_needs(model);
    if (!alloc_tokens(model, &n) || !alloc_acts(model, &n)) {
        return mr_fail(err, MR_ERR_NOMEM, "out of memory for the buffers of the forward pass");
    }
    return MR_OK;
}

void mr_forward_buffers_free(mr_model *model) {
    mr_forward_buffers *b = &model->buffers;
    float *floats[] = {b->per_layer,
                       b->q_gates,
                       b->mix,
                       b->conv,
                       b->mixed,
                       b->own,
                       b->q_latent,
                       b->q_heads,
                       b->v_heads,
                       b->x,
                       b->q,
                       b->k,
                       b->v,
                       b->attn,
                       b->h,
                       b->h_up,
                       b->block,
                       b->logits,
                       b->router,
                       b->shared_weight,
                       b->chosen_weight};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) free(floats[i]);
    float *altup[] = {b->predicted, b->laurel, b->laurel_low, b->modal};
    for (size_t i = 0; i < sizeof altup / sizeof altup[0]; i++) free(altup[i]);
    for (size_t i = 1; i < MR_MAX_STREAMS; i++) free(b->streams[i]);
    for (int i = 0; i < MR_N_ROPES; i++) free(b->cosines[i]), free(b->sines[i]);
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) free(b->acts[kind]);
    free(b->chosen);
    free(b->kv);
    free(b->private_data);
    *b = (mr_forward_buffers){0};
}
