/* The parts of a forward pass; forward.c puts them together.
 *
 * All members of the team run every function here side by side (SPMD): each takes its share of the work, and they meet
 * at barriers where data is handed over. With few tokens each member prepares the inputs of the matrices for itself:
 * the same small work done twice costs less than a barrier. With many, the tokens are shared out. */
#ifndef MR_MODEL_FORWARD_H
#define MR_MODEL_FORWARD_H

#include "compute/backend.h"
#include "model/weights.h"

#include <stdatomic.h>

enum { MR_PRIVATE_TOKENS = 1 }; /* up to so many tokens, inputs are prepared privately */

/* What an attention layer computes of the tokens of a pass. */
typedef enum mr_share_of_attention {
    MR_ATTENTION_ALL,
    MR_ATTENTION_KEYS,   /* it stores keys and values, and that is all */
    MR_ATTENTION_QUERIES /* keys and values are stored already */
} mr_share_of_attention;

/* One pass, shared by the members. */
typedef struct mr_pass {
    mr_model *model;
    const mr_kv_pool *pool;
    const mr_batch_run *runs;
    size_t n_runs;
    uint32_t n_tokens;
    const uint32_t *run_first; /* [n_runs] index of a run's first token in the batch */
    const uint32_t *positions; /* [n_tokens] */
    const int32_t *tokens;     /* [n_tokens] */
    uint32_t n_logits;
    const uint32_t *logit_tokens;         /* [n_logits] tokens of the batch whose logits are wanted */
    float *const *logit_rows;             /* [n_logits] where they go */
    int32_t *const *best_rows;            /* [n_logits] where the ids of the largest go; NULL: not wanted */
    mr_candidates *const *candidate_rows; /* [n_logits] likewise */
    uint32_t n_layer;                     /* layers that the CPU computes; the head follows when they are all */
    bool one_token_runs;
    uint32_t n_text; /* the runs are parts of an encoder's text of so many tokens; 0: each is a text of its own */
    mr_share_of_attention attention;
    const mr_cancel *abort_flag;
    atomic_bool aborted[2]; /* in turns, so that the next question never overwrites an answer that is being read */
} mr_pass;

static inline uint8_t *mr_private_data(const mr_pass *p, const mr_worker *worker) {
    return p->model->buffers.private_data + (size_t)worker->ith * p->model->buffers.private_bytes;
}

/* ---- the pass (forward.c, forward_text.c)
 * ------------------------------------------------------------------------------------------------ */

/* Gives buffers.kv the layers' parts of the pass's memory. */
void mr_pass_layers(const mr_pass *p);

/* MR_ERR_INVALID for a token id outside of the vocabulary. */
mr_status mr_check_token(const mr_model *model, int32_t token, mr_error *err);

/* Whether an encoder can read the run: MR_ERR_UNSUPPORTED when logits are wanted, MR_ERR_INVALID for a part of a text
 * or one that is too long. */
mr_status mr_check_whole_text(const mr_model *model, const mr_batch_run *run, mr_error *err);

/* Embeddings of the pass's tokens, into buffers.x, and the angles of their positions. No barrier. */
void mr_embed_tokens(const mr_pass *p, mr_worker *worker);

/* Layer il, on what is in buffers.x; false when the pass is broken off. Ends with a barrier. */
bool mr_forward_layer(mr_pass *p, mr_worker *worker, uint32_t il);

/* The hidden rows that the runs want, of buffers.x. No barrier. */
void mr_write_hidden(const mr_pass *p, mr_worker *worker);

/* A pass over one text of an encoder, of any length that the model reads, part_tokens (1 .. MR_BATCH_MAX) at a time: a
 * layer first stores the keys and values of all parts, then each part goes on, since every token sees the whole text.
 * The same bits as a pass over all at once. Errors: as mr_model_forward. */
mr_status mr_forward_text(mr_model *model, const mr_kv_pool *pool, const mr_batch_run *run, uint32_t part_tokens,
                          const mr_cancel *abort_flag, mr_error *err);

/* ---- its parts
 * ---------------------------------------------------------------------------------------------------------- */

/* The input of one or more matrices, in each form that they want. */
typedef struct mr_inputs {
    mr_acts acts[MR_N_ACTS_KINDS];
    bool wanted[MR_N_ACTS_KINDS];
} mr_inputs;

mr_acts_kind mr_kind_of(const mr_matrix *w);
void mr_want_input(mr_inputs *in, const mr_matrix *w); /* w NULL is ignored */
const mr_acts *mr_input_for(const mr_inputs *in, const mr_matrix *w);

/* Prepares rows [n_rows, n_in] of x (normed first when norm has a weight) as the wanted inputs. A barrier before is the
 * caller's; afterwards the inputs are complete for this member. `rows` picks rows of x (NULL: all in order). */
void mr_prepare_inputs(const mr_pass *p, mr_worker *worker, mr_inputs *in, const float *x, size_t n_in,
                       const mr_norm_weights *norm, size_t n_rows, const uint32_t *rows);

/* The norm of one vector as the model's architecture has it; out may be x. */
void mr_apply_norm(const mr_model *model, const mr_norm_weights *norm, const float *x, size_t n, float *out);

/* y = linear(in), y is [n_tokens, n_out]. */
mr_matmul_item mr_product(const mr_inputs *in, const mr_linear *linear, float *y, bool accumulate);

/* Multiplies in by a block's last matrix and adds the result to the residual stream x, through post_norm and the
 * residual scale where the model has them. No barrier behind it. */
void mr_add_block(const mr_pass *p, mr_worker *worker, const mr_inputs *in, const mr_linear *last,
                  const mr_norm_weights *post_norm);

/* x += attention of layer il, or the share of it that the pass is for. In models whose FFN runs in parallel it also
 * computes the FFN's hidden values. */
void mr_attention_block(const mr_pass *p, mr_worker *worker, uint32_t il);

/* x += the recurrent layer il, whose state goes from that of each run to what the run wants. */
void mr_recurrent_block(const mr_pass *p, mr_worker *worker, uint32_t il);

/* What the recurrence of r takes from its projections (mix) and what the convolution made of them (conv), rows as
 * weights.h says, into out [tokens, n_inner]; without the batch. */
mr_scan_args mr_recurrent_scan(const mr_hparams *h, const mr_recurrent *r, const float *mix, const float *conv,
                               float *out);

/* The parts of attention with compressed keys and values around the attention itself: queries as they meet the
 * compressed keys, [n_head, head_dim_k] of each token in buffers.q, and what is kept, not yet normed and rotated, in
 * buffers.k; then the heads' outputs in buffers.v_heads. Both end with a barrier. Their private memory in bytes. */
void mr_mla_queries(const mr_pass *p, mr_worker *worker, const mr_layer *layer);
void mr_mla_values(const mr_pass *p, mr_worker *worker, const mr_layer *layer);
size_t mr_mla_scratch(const mr_hparams *hparams);

/* The embeddings that each layer gets of a token, into buffers.per_layer. Ends with a barrier. */
void mr_per_layer_inputs(const mr_pass *p, mr_worker *worker);

/* What layer il does behind its FFN: adds from its own embedding of the token, and scales the residual stream. */
bool mr_layer_has_tail(const mr_layer *layer);
void mr_layer_tail(const mr_pass *p, mr_worker *worker, uint32_t il);

/* Models with several residual streams (arch.altup): making them from the first, which is buffers.x; what comes before
 * the attention, between it and the FFN, and behind the FFN of a layer; and joining them in buffers.x at the end. Each
 * ends with a barrier. */
void mr_altup_begin(const mr_pass *p, mr_worker *worker);
void mr_altup_predict(const mr_pass *p, mr_worker *worker, uint32_t il);
void mr_altup_join(const mr_pass *p, mr_worker *worker);
void mr_altup_correct(const mr_pass *p, mr_worker *worker, uint32_t il);
void mr_altup_end(const mr_pass *p, mr_worker *worker);

/* buffers.block = up(act(gate x) * the layer's own embedding of the token) for x [n_tokens, n_embd]. Ends with a
 * barrier. */
void mr_own_embedding_block(const mr_pass *p, mr_worker *worker, uint32_t il, const float *x);

/* h = act(gate x) * up x (or act(up x)) for the prepared inputs; no barrier before, one inside where it is needed, none
 * behind. */
void mr_ffn_hidden(const mr_pass *p, mr_worker *worker, const mr_inputs *in, const mr_layer *layer);

/* Norms the residual stream of all tokens; nothing where there is no such norm. Begins with a barrier, none behind. */
void mr_norm_stream(const mr_pass *p, mr_worker *worker, const mr_norm_weights *norm);

/* x += FFN or experts of layer il. */
void mr_ffn_block(const mr_pass *p, mr_worker *worker, uint32_t il);

/* The experts of a layer, for mr_ffn_block; and the private memory that they need. */
void mr_experts_block(const mr_pass *p, mr_worker *worker, const mr_layer *layer);
size_t mr_experts_scratch(const mr_hparams *hparams);

/* The same for experts. */
bool mr_experts_apart(const mr_experts *experts);

/* Gate and up are fused unless a bias is there or their inputs differ. */
bool mr_gate_up_apart(const mr_layer *layer);

#endif
