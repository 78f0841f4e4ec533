/* The weights of a model and the memory of its forward pass; shared by loading (model.c) and computing (forward.c). */
#ifndef MR_MODEL_WEIGHTS_H
#define MR_MODEL_WEIGHTS_H

#include "compute/matrix.h"
#include "compute/ops.h"
#include "model/arch.h"
#include "model/model.h"

/* A linear map: its matrix and, where the file has one, its bias [n_out]. */
typedef struct mr_linear {
    mr_matrix *w;
    float *bias;
} mr_linear;

typedef struct mr_layer {
    float *attn_norm; /* [n_embd] */
    mr_linear q, k, v, o;
    float *ffn_norm; /* [n_embd] */
    mr_linear gate, up, down;
} mr_layer;

enum { MR_N_ACTS_KINDS = MR_ACTS_Q8_256 + 1 };

/* Buffers of one forward pass, for MR_BATCH_MAX tokens. */
typedef struct mr_forward_buffers {
    float *x;      /* residual stream [tokens, n_embd] */
    float *q;      /* [tokens, n_head * head_dim_k] */
    float *k, *v;  /* [tokens, n_head_kv * head_dim] */
    float *attn;   /* [tokens, n_head * head_dim_v] */
    float *h;      /* [tokens, n_ff] */
    float *h_up;   /* [tokens, n_ff]; only where gate and up can't be fused */
    float *cosines, *sines;          /* [tokens, n_rot / 2] */
    float *logits;                   /* [MR_LOGITS_ROWS, n_vocab] */
    uint8_t *acts[MR_N_ACTS_KINDS];  /* shared activations in each form that a matrix wants; NULL when none does */
    uint8_t *private_data;           /* private_bytes for each member of the team */
    size_t private_bytes;
    size_t private_acts[MR_N_ACTS_KINDS]; /* offsets in a member's private memory: one token's activations */
    size_t private_norm;                  /* one token's floats */
    size_t private_attention;             /* attention scratch */
} mr_forward_buffers;

/* Rows of logits that are computed at once. */
enum { MR_LOGITS_ROWS = 32 };

struct mr_model {
    mr_model_info info;
    mr_hparams hparams;
    const mr_gguf *gguf;
    mr_team *team;
    const mr_ops *ops;

    const mr_dtype_info *embd_type;
    const uint8_t *embd_rows; /* in the file's mapping */
    size_t embd_row_bytes;

    mr_layer *layers; /* [n_layer] */
    float *output_norm;
    mr_linear output;
    float *rope_inv_freq; /* [n_rot / 2] */
    float rope_mscale;    /* factor for cosines and sines */

    mr_forward_buffers buffers;
};

/* Allocates model->buffers for the loaded weights. */
mr_status mr_forward_buffers_init(mr_model *model, mr_error *err);
void mr_forward_buffers_free(mr_model *model);

#endif
