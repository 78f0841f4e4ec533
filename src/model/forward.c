/* The forward pass of a decoder-only transformer, run by all members of the team side by side (SPMD): every member walks
 * the same layers, takes its share of each operation, and meets the others at barriers where data is handed over.
 *
 * With few tokens each member prepares the inputs of the matrices for itself: the same small work done twice costs less
 * than a barrier. With many, the tokens are shared out. */
#include "base/cancel.h"
#include "model/weights.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PRIVATE_TOKENS = 1 }; /* up to so many tokens, inputs are prepared privately */

/* One pass, shared by the members. */
typedef struct pass {
    mr_model *model;
    const mr_kv_pool *pool;
    const mr_batch_run *runs;
    size_t n_runs;
    uint32_t n_tokens;
    const uint32_t *run_first; /* [n_runs] index of a run's first token in the batch */
    const uint32_t *positions; /* [n_tokens] */
    const int32_t *tokens;     /* [n_tokens] */
    uint32_t n_logits;
    const uint32_t *logit_tokens; /* [n_logits] tokens of the batch whose logits are wanted */
    float *const *logit_rows;     /* [n_logits] where they go */
    bool one_token_runs;
    const mr_cancel *abort_flag;
    atomic_bool aborted[2]; /* in turns, so that the next question never overwrites an answer that is being read */
} pass;

static uint8_t *private_data(const pass *p, const mr_worker *worker) {
    return p->model->buffers.private_data + (size_t)worker->ith * p->model->buffers.private_bytes;
}

/* ---- inputs of matrices --------------------------------------------------------------------------------------------- */

/* The input of one or more matrices, in each form that they want. */
typedef struct inputs {
    mr_acts acts[MR_N_ACTS_KINDS];
    bool wanted[MR_N_ACTS_KINDS];
} inputs;

static mr_acts_kind kind_of(const mr_matrix *w) {
    mr_acts_kind kind = MR_ACTS_F32;
    mr_matrix_acts_kind(mr_matrix_dtype(w), &kind);
    return kind;
}

static void want(inputs *in, const mr_matrix *w) {
    in->wanted[kind_of(w)] = true;
}

static const mr_acts *input_for(const inputs *in, const mr_matrix *w) {
    return &in->acts[kind_of(w)];
}

/* Prepares rows [n_tokens, n_in] of x (normed by `norm` first when it is not NULL) as the wanted inputs. A barrier before is
 * the caller's; afterwards the inputs are complete for this member. `rows` picks tokens of x (NULL: all in order). */
static void prepare_inputs(const pass *p, mr_worker *worker, inputs *in, const float *x, size_t n_in, const float *norm,
                           uint32_t n_tokens, const uint32_t *rows) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    uint8_t *mine = private_data(p, worker);
    float *normed = (float *)(void *)(mine + b->private_norm);
    bool private = n_tokens <= PRIVATE_TOKENS;
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
        if (!in->wanted[kind]) continue;
        in->acts[kind] = mr_acts_view((mr_acts_kind)kind, n_in, private ? mine + b->private_acts[kind] : b->acts[kind]);
    }
    size_t begin = 0, end = n_tokens;
    if (!private) mr_share(worker, n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const float *row = x + (rows != NULL ? rows[t] : t) * n_in;
        if (norm != NULL) {
            model->ops->rms_norm(row, norm, n_in, model->hparams.norm_eps, normed);
            row = normed;
        }
        for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
            if (in->wanted[kind]) mr_acts_set(&in->acts[kind], t, row);
        }
    }
    if (!private) mr_barrier(worker);
}

static mr_matmul_item product(const inputs *in, const mr_linear *linear, float *y, bool accumulate) {
    return (mr_matmul_item){.w = linear->w,
                            .x = input_for(in, linear->w),
                            .bias = linear->bias,
                            .y = y,
                            .ldy = mr_matrix_n_out(linear->w),
                            .accumulate = accumulate};
}

/* ---- attention -------------------------------------------------------------------------------------------------------- */

/* Rotates and stores the keys and values of one token and kv head, and rotates the query heads that share it. */
static void rope_and_store(const pass *p, uint32_t layer, uint32_t head_kv, const mr_batch_run *run, uint32_t first,
                           uint32_t t) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t token = first + t, n_pairs = h->n_rot / 2, n_group = h->n_head / h->n_head_kv;
    const float *cosines = b->cosines + token * n_pairs, *sines = b->sines + token * n_pairs;
    float *k = b->k + (token * h->n_head_kv + head_kv) * h->head_dim_k;
    const float *v = b->v + (token * h->n_head_kv + head_kv) * h->head_dim_v;
    float *q = b->q + (token * h->n_head + head_kv * n_group) * h->head_dim_k;
    for (size_t g = 0; g < n_group; g++) {
        model->ops->rope(q + g * h->head_dim_k, cosines, sines, n_pairs, h->arch->rope_neox);
    }
    model->ops->rope(k, cosines, sines, n_pairs, h->arch->rope_neox);
    uint32_t pos = run->pos0 + t;
    uint8_t *piece = mr_kv_piece(p->pool, run->blocks[pos / MR_KV_BLOCK], layer, head_kv);
    mr_kv_store(p->pool, piece, pos % MR_KV_BLOCK, k, v);
}

/* Query tokens [t0, t0 + n) of a run against kv head head_kv, for query heads [g0, g0 + n_g) of its group. */
static void attend(const pass *p, const mr_worker *worker, uint32_t layer, uint32_t head_kv, const mr_batch_run *run,
                   uint32_t first, uint32_t t0, uint32_t n, uint32_t g0, uint32_t n_g) {
    const mr_model *model = p->model;
    const mr_hparams *h = &model->hparams;
    const mr_forward_buffers *b = &model->buffers;
    size_t n_group = h->n_head / h->n_head_kv, head = head_kv * n_group + g0;
    size_t q_stride = (size_t)h->n_head * h->head_dim_k, out_stride = (size_t)h->n_head * h->head_dim_v;
    mr_attention_args args = {
        .pool = p->pool,
        .blocks = run->blocks,
        .layer = layer,
        .head_kv = head_kv,
        .n_tokens = n,
        .pos0 = run->pos0 + t0,
        .n_group = n_g,
        .q = b->q + (first + t0) * q_stride + head * h->head_dim_k,
        .q_stride = q_stride,
        .out = b->attn + (first + t0) * out_stride + head * h->head_dim_v,
        .out_stride = out_stride,
        .scale = 1.0f / sqrtf((float)h->head_dim_k),
        .scratch = (float *)(void *)(private_data(p, worker) + b->private_attention),
    };
    mr_attention(&args);
}

/* One token for each run: an item is a run's kv head, or a part of its query heads when there are fewer than members. */
static void attention_decode(const pass *p, mr_worker *worker, uint32_t layer) {
    const mr_hparams *h = &p->model->hparams;
    size_t n_group = h->n_head / h->n_head_kv, n_heads = p->n_runs * h->n_head_kv;
    size_t n_parts = n_heads >= (size_t)worker->nth ? 1 : ((size_t)worker->nth + n_heads - 1) / n_heads;
    if (n_parts > n_group) n_parts = n_group;
    if (n_parts > 1) {
        mr_loop loop = mr_loop_begin(worker, n_heads, 1);
        for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
            size_t run = i / h->n_head_kv;
            rope_and_store(p, layer, (uint32_t)(i % h->n_head_kv), &p->runs[run], p->run_first[run], 0);
        }
        mr_barrier(worker);
    }
    mr_loop loop = mr_loop_begin(worker, n_heads * n_parts, 1);
    for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
        size_t part = i % n_parts, head = i / n_parts, run = head / h->n_head_kv;
        uint32_t head_kv = (uint32_t)(head % h->n_head_kv), first = p->run_first[run];
        if (n_parts == 1) rope_and_store(p, layer, head_kv, &p->runs[run], first, 0);
        uint32_t g0 = (uint32_t)(n_group * part / n_parts), g1 = (uint32_t)(n_group * (part + 1) / n_parts);
        attend(p, worker, layer, head_kv, &p->runs[run], first, 0, 1, g0, g1 - g0);
    }
}

/* Runs of many tokens: all keys are stored first; then an item is a kv head and a stretch of tokens. */
static void attention_prefill(const pass *p, mr_worker *worker, uint32_t layer) {
    const mr_hparams *h = &p->model->hparams;
    enum { STRETCH = 32 };
    mr_loop store = mr_loop_begin(worker, (size_t)p->n_tokens * h->n_head_kv, 16);
    for (size_t i, end; mr_loop_next(&store, &i, &end);) {
        size_t run = 0;
        for (; i < end; i++) {
            uint32_t token = (uint32_t)(i / h->n_head_kv);
            while (run + 1 < p->n_runs && p->run_first[run + 1] <= token) run++;
            rope_and_store(p, layer, (uint32_t)(i % h->n_head_kv), &p->runs[run], p->run_first[run], token - p->run_first[run]);
        }
    }
    mr_barrier(worker);
    uint32_t n_group = h->n_head / h->n_head_kv;
    for (size_t run = p->n_runs; run-- > 0;) {
        uint32_t n_tokens = p->runs[run].n_tokens;
        size_t n_stretches = (n_tokens + STRETCH - 1) / STRETCH;
        mr_loop loop = mr_loop_begin(worker, n_stretches * h->n_head_kv, 1);
        for (size_t i, end; mr_loop_next(&loop, &i, &end);) {
            /* The last tokens see the most positions: they go first, so that the members end together. */
            uint32_t t0 = (uint32_t)(n_stretches - 1 - i / h->n_head_kv) * STRETCH;
            uint32_t n = n_tokens - t0 < STRETCH ? n_tokens - t0 : STRETCH;
            attend(p, worker, layer, (uint32_t)(i % h->n_head_kv), &p->runs[run], p->run_first[run], t0, n, 0, n_group);
        }
        /* The ring of loop counters holds 64 loops between two barriers. */
        if (run % 32 == 31) mr_barrier(worker);
    }
}

/* ---- layers ------------------------------------------------------------------------------------------------------------ */

static void attention_block(const pass *p, mr_worker *worker, uint32_t il) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_hparams *h = &p->model->hparams;
    const mr_layer *layer = &p->model->layers[il];
    inputs in = {0};
    want(&in, layer->q.w);
    want(&in, layer->k.w);
    want(&in, layer->v.w);
    prepare_inputs(p, worker, &in, b->x, h->n_embd, layer->attn_norm, p->n_tokens, NULL);
    const mr_matmul_item qkv[] = {
        product(&in, &layer->q, b->q, false), product(&in, &layer->k, b->k, false), product(&in, &layer->v, b->v, false)};
    mr_matmul(worker, qkv, 3, p->n_tokens);
    mr_barrier(worker);

    if (p->one_token_runs) attention_decode(p, worker, il);
    else attention_prefill(p, worker, il);
    mr_barrier(worker);

    inputs out = {0};
    want(&out, layer->o.w);
    prepare_inputs(p, worker, &out, b->attn, (size_t)h->n_head * h->head_dim_v, NULL, p->n_tokens, NULL);
    const mr_matmul_item o = product(&out, &layer->o, b->x, true);
    mr_matmul(worker, &o, 1, p->n_tokens);
}

/* gate and up as two products and an elementwise pass, where a bias or different inputs forbid the fused form. */
static void gate_up_apart(const pass *p, mr_worker *worker, const inputs *in, const mr_layer *layer) {
    const mr_forward_buffers *b = &p->model->buffers;
    size_t n_ff = p->model->hparams.n_ff, begin, end;
    const mr_matmul_item items[] = {product(in, &layer->gate, b->h, false), product(in, &layer->up, b->h_up, false)};
    mr_matmul(worker, items, 2, p->n_tokens);
    mr_barrier(worker);
    mr_share(worker, n_ff * p->n_tokens, 64, &begin, &end);
    p->model->ops->glu(p->model->hparams.arch->glu, b->h + begin, b->h_up + begin, end - begin, b->h + begin);
}

static void ffn_block(const pass *p, mr_worker *worker, uint32_t il) {
    const mr_forward_buffers *b = &p->model->buffers;
    const mr_hparams *h = &p->model->hparams;
    const mr_layer *layer = &p->model->layers[il];
    inputs in = {0};
    want(&in, layer->gate.w);
    want(&in, layer->up.w);
    prepare_inputs(p, worker, &in, b->x, h->n_embd, layer->ffn_norm, p->n_tokens, NULL);
    if (b->h_up == NULL) {
        mr_matmul_glu(worker, layer->gate.w, layer->up.w, h->arch->glu, input_for(&in, layer->gate.w), b->h, h->n_ff,
                      p->n_tokens);
    } else {
        gate_up_apart(p, worker, &in, layer);
    }
    mr_barrier(worker);

    inputs down = {0};
    want(&down, layer->down.w);
    prepare_inputs(p, worker, &down, b->h, h->n_ff, NULL, p->n_tokens, NULL);
    const mr_matmul_item item = product(&down, &layer->down, b->x, true);
    mr_matmul(worker, &item, 1, p->n_tokens);
}

static void embed(const pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    size_t n_pairs = model->hparams.n_rot / 2, begin, end;
    mr_share(worker, p->n_tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const uint8_t *row = model->embd_rows + (size_t)p->tokens[t] * model->embd_row_bytes;
        model->embd_type->dequantize(row, b->x + t * model->hparams.n_embd, model->hparams.n_embd);
        mr_rope_angles(model->rope_inv_freq, n_pairs, model->rope_mscale, p->positions[t], b->cosines + t * n_pairs,
                       b->sines + t * n_pairs);
    }
}

/* Final norm and vocabulary projection of the tokens whose logits are wanted. */
static void project_logits(const pass *p, mr_worker *worker) {
    const mr_model *model = p->model;
    const mr_forward_buffers *b = &model->buffers;
    size_t n_vocab = model->hparams.n_vocab;
    for (uint32_t first = 0; first < p->n_logits; first += MR_LOGITS_ROWS) {
        uint32_t n = p->n_logits - first < MR_LOGITS_ROWS ? p->n_logits - first : MR_LOGITS_ROWS;
        inputs in = {0};
        want(&in, model->output.w);
        prepare_inputs(p, worker, &in, b->x, model->hparams.n_embd, model->output_norm, n, p->logit_tokens + first);
        /* A single row goes where it is wanted; several are computed together and then handed out. */
        mr_matmul_item item = product(&in, &model->output, n == 1 ? p->logit_rows[first] : b->logits, false);
        mr_matmul(worker, &item, 1, n);
        mr_barrier(worker);
        if (n == 1) continue;
        size_t begin, end;
        mr_share(worker, n, 1, &begin, &end);
        for (size_t i = begin; i < end; i++) memcpy(p->logit_rows[first + i], b->logits + i * n_vocab, n_vocab * sizeof(float));
        mr_barrier(worker);
    }
}

/* A barrier that also settles whether the pass goes on. */
static bool barrier_go_on(pass *p, mr_worker *worker, unsigned question) {
    atomic_bool *answer = &p->aborted[question % 2];
    if (worker->ith == 0) atomic_store_explicit(answer, mr_cancel_is_set(p->abort_flag), memory_order_relaxed);
    mr_barrier(worker);
    return !atomic_load_explicit(answer, memory_order_relaxed);
}

static void forward_body(mr_worker *worker, void *arg) {
    pass *p = arg;
    embed(p, worker);
    if (!barrier_go_on(p, worker, 0)) return;
    for (uint32_t il = 0; il < p->model->hparams.n_layer; il++) {
        attention_block(p, worker, il);
        if (!barrier_go_on(p, worker, 1)) return;
        ffn_block(p, worker, il);
        if (!barrier_go_on(p, worker, 0)) return;
    }
    project_logits(p, worker);
}

/* ---- the batch ------------------------------------------------------------------------------------------------------- */

/* Per-token arrays of a batch, on the caller's stack. */
typedef struct batch_index {
    uint32_t run_first[MR_BATCH_MAX];
    uint32_t positions[MR_BATCH_MAX];
    int32_t tokens[MR_BATCH_MAX];
    uint32_t logit_tokens[MR_BATCH_MAX];
    float *logit_rows[MR_BATCH_MAX];
} batch_index;

static mr_status index_batch(pass *p, batch_index *index, mr_error *err) {
    uint32_t n_vocab = p->model->hparams.n_vocab;
    p->one_token_runs = true;
    for (size_t i = 0; i < p->n_runs; i++) {
        const mr_batch_run *run = &p->runs[i];
        if (run->n_tokens == 0 || run->n_tokens > MR_BATCH_MAX - p->n_tokens || run->n_logits > run->n_tokens) {
            return mr_fail(err, MR_ERR_INVALID, "a batch holds 1 to %d tokens", MR_BATCH_MAX);
        }
        if (run->n_tokens != 1) p->one_token_runs = false;
        index->run_first[i] = p->n_tokens;
        for (uint32_t t = 0; t < run->n_tokens; t++) {
            if (run->tokens[t] < 0 || (uint32_t)run->tokens[t] >= n_vocab) {
                return mr_fail(err, MR_ERR_INVALID, "token id %d is outside of the vocabulary of %u", run->tokens[t], n_vocab);
            }
            if (t + run->n_logits >= run->n_tokens) {
                uint32_t row = t + run->n_logits - run->n_tokens;
                index->logit_tokens[p->n_logits] = p->n_tokens;
                index->logit_rows[p->n_logits++] = run->logits + (size_t)row * n_vocab;
            }
            index->positions[p->n_tokens] = run->pos0 + t;
            index->tokens[p->n_tokens++] = run->tokens[t];
        }
    }
    return MR_OK;
}

mr_status mr_model_forward(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *runs, size_t n_runs,
                           const mr_cancel *abort_flag, mr_error *err) {
    batch_index index;
    pass p = {.model = model,
              .pool = pool,
              .runs = runs,
              .n_runs = n_runs,
              .run_first = index.run_first,
              .positions = index.positions,
              .tokens = index.tokens,
              .logit_tokens = index.logit_tokens,
              .logit_rows = index.logit_rows,
              .abort_flag = abort_flag};
    if (n_runs == 0 || n_runs > MR_BATCH_MAX) return mr_fail(err, MR_ERR_INVALID, "a batch holds 1 to %d runs", MR_BATCH_MAX);
    mr_status status = index_batch(&p, &index, err);
    if (status != MR_OK) return status;
    mr_team_run(model->team, forward_body, &p);
    if (atomic_load(&p.aborted[0]) || atomic_load(&p.aborted[1])) {
        return mr_fail(err, MR_ERR_CANCELLED, "the forward pass was interrupted");
    }
    return MR_OK;
}

/* ---- buffers -------------------------------------------------------------------------------------------------------- */

/* Most values that any matrix reads. */
static size_t widest_input(const mr_hparams *h) {
    size_t widest = h->n_embd, n_attn = (size_t)h->n_head * h->head_dim_v;
    if (n_attn > widest) widest = n_attn;
    return h->n_ff > widest ? h->n_ff : widest;
}

static void *alloc_bytes(size_t n_bytes) {
    return aligned_alloc(64, (n_bytes + 127) / 64 * 64);
}

static float *alloc_rows(size_t n_rows, size_t n) {
    return alloc_bytes(n_rows * n * sizeof(float));
}

/* Gate and up are fused unless some layer has a bias there or their inputs differ. */
static bool needs_gate_up_apart(const mr_model *model) {
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_layer *layer = &model->layers[il];
        if (layer->gate.bias != NULL || layer->up.bias != NULL || kind_of(layer->gate.w) != kind_of(layer->up.w)) return true;
    }
    return false;
}

static void mark_kinds(const mr_model *model, bool used[MR_N_ACTS_KINDS]) {
    used[kind_of(model->output.w)] = true;
    for (uint32_t il = 0; il < model->hparams.n_layer; il++) {
        const mr_layer *layer = &model->layers[il];
        const mr_linear *linears[] = {&layer->q, &layer->k, &layer->v, &layer->o, &layer->gate, &layer->up, &layer->down};
        for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) used[kind_of(linears[i]->w)] = true;
    }
}

mr_status mr_forward_buffers_init(mr_model *model, mr_error *err) {
    const mr_hparams *h = &model->hparams;
    mr_forward_buffers *b = &model->buffers;
    size_t widest = widest_input(h);
    bool used[MR_N_ACTS_KINDS] = {false}, ok = true;
    mark_kinds(model, used);
    b->x = alloc_rows(MR_BATCH_MAX, h->n_embd);
    b->q = alloc_rows(MR_BATCH_MAX, (size_t)h->n_head * h->head_dim_k);
    b->k = alloc_rows(MR_BATCH_MAX, (size_t)h->n_head_kv * h->head_dim_k);
    b->v = alloc_rows(MR_BATCH_MAX, (size_t)h->n_head_kv * h->head_dim_v);
    b->attn = alloc_rows(MR_BATCH_MAX, (size_t)h->n_head * h->head_dim_v);
    b->h = alloc_rows(MR_BATCH_MAX, h->n_ff);
    if (needs_gate_up_apart(model)) ok = (b->h_up = alloc_rows(MR_BATCH_MAX, h->n_ff)) != NULL;
    b->cosines = alloc_rows(MR_BATCH_MAX, h->n_rot / 2);
    b->sines = alloc_rows(MR_BATCH_MAX, h->n_rot / 2);
    b->logits = alloc_rows(MR_LOGITS_ROWS, h->n_vocab);
    b->private_norm = 0;
    size_t at = (widest * sizeof(float) + 63) / 64 * 64;
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) {
        if (!used[kind]) continue;
        size_t stride = mr_acts_stride((mr_acts_kind)kind, widest);
        ok = ok && (b->acts[kind] = alloc_bytes(MR_BATCH_MAX * stride)) != NULL;
        b->private_acts[kind] = at;
        at += stride * PRIVATE_TOKENS;
    }
    /* The key-value type only changes what is stored, not the scratch, which holds floats. */
    mr_kv_layout layout = mr_model_kv_layout(model, MR_KV_F32);
    b->private_attention = at;
    b->private_bytes = (at + mr_attention_scratch(&layout, h->n_head / h->n_head_kv) + 4095) / 4096 * 4096;
    b->private_data = alloc_bytes(b->private_bytes * (size_t)mr_team_size(model->team));
    ok = ok && b->x && b->q && b->k && b->v && b->attn && b->h && b->cosines && b->sines && b->logits && b->private_data;
    if (!ok) return mr_fail(err, MR_ERR_NOMEM, "out of memory for the buffers of the forward pass");
    return MR_OK;
}

void mr_forward_buffers_free(mr_model *model) {
    mr_forward_buffers *b = &model->buffers;
    float *floats[] = {b->x, b->q, b->k, b->v, b->attn, b->h, b->h_up, b->cosines, b->sines, b->logits};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) free(floats[i]);
    for (int kind = 0; kind < MR_N_ACTS_KINDS; kind++) free(b->acts[kind]);
    free(b->private_data);
    *b = (mr_forward_buffers){0};
}
