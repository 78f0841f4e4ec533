/* The weights of a model and the memory of its forward pass; shared by loading and computing. */
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

/* A norm: weight [n] and, for a layer norm, an optional bias [n]. weight NULL: there is no such norm. */
typedef struct mr_norm_weights {
    float *weight, *bias;
} mr_norm_weights;

/* A norm of queries or keys: of each head (with one weight for all heads, or with its own), or of all heads together.
 */
typedef struct mr_head_norm {
    float *weight;      /* NULL: there is none */
    uint32_t dim;       /* values that are normed together */
    size_t weight_step; /* weights from one head to the next */
} mr_head_norm;

/* A mixture of experts in place of the gated FFN (Shazeer et al., arXiv:1701.06538). */
typedef struct mr_experts {
    mr_linear router;                              /* [n_expert, n_embd] */
    float *choice_bias;                            /* [n_expert] added to scores for the choice only, or NULL */
    mr_matrix **gate, **up, **down;                /* [n_expert] each */
    float *gate_bias, *up_bias, *down_bias;        /* [n_expert, n_out], or NULL */
    mr_linear shared_gate, shared_up, shared_down; /* an expert for all tokens; w NULL = none */
    mr_linear shared_router; /* [1, n_embd] scales the shared expert by a sigmoid; w NULL = none */
    uint32_t n_ff_shared;
    /* Where the router, the experts and the shared expert have norms of their own; the shared expert then has the
     * layer's. */
    mr_norm_weights router_norm, experts_norm, experts_post_norm, shared_post_norm;
    float *scales; /* [n_expert] factors of the experts' weights, or NULL */
} mr_experts;

/* What a layer adds from its own embedding of the token (Gemma 3n, Gemma 4). */
typedef struct mr_own_embedding {
    mr_linear gate, up; /* [n_embd_per_layer, n_embd], [n_embd, n_embd_per_layer]; w NULL: there is none */
    mr_norm_weights post_norm;
} mr_own_embedding;

/* Attention with compressed keys and values. A query q of a head meets the compressed c by (k_up^T q) . c, and what the
 * head gathers of c becomes its output through v_up; so neither keys nor values are ever made. */
typedef struct mr_mla {
    mr_linear q_down, q_up; /* [q_lora_rank, n_embd], [n_head * (n_nope + n_rot), q_lora_rank]; w NULL: layer.q alone */
    mr_norm_weights q_norm; /* [q_lora_rank] */
    mr_linear kv_down;      /* [kv_lora_rank + n_rot, n_embd] */
    float *kv_norm;         /* [kv_lora_rank] */
    mr_matrix **k_up;       /* [n_head] transposed: [kv_lora_rank, n_nope] */
    mr_matrix **v_up;       /* [n_head] [mla_dim_v, kv_lora_rank] */
} mr_mla;

/* A layer with a recurrent state. The projections of a token lie one behind the other in a row of n_in values:
 *   short convolution: input gate, output gate, input, [n_embd] each; the convolution is of input * input gate
 *   Mamba-2: z [inner], then what the convolution takes: x [inner], B, C [groups, dim_k] each; then dt [heads]
 *   delta net: what the convolution takes: q, k [groups, dim_k] each, v [inner]; then z [inner], beta, alpha [heads]
 * with inner = heads * dim_v. The state of a sequence is the convolution's last width-1 inputs, [width - 1, n_conv],
 * and a matrix [dim_k, dim_v] for each head. */
typedef struct mr_recurrent {
    mr_mixer kind;
    uint32_t n_in, n_conv, n_inner;
    mr_linear in[4], out;     /* projections in order, those behind the last w NULL; [n_embd, n_inner] */
    size_t conv_from, z_from; /* where these begin in a row */
    bool betas_by_group;      /* a group's betas, then its alphas, and so on, instead of all betas first */
    float *conv_weight;       /* [width, n_conv], oldest first */
    float *conv_bias;         /* [n_conv] or NULL */
    float *dt_bias, *a;       /* [heads] a < 0: decay is e^(a * softplus(dt + dt_bias)) */
    float *d;                 /* [heads] what y takes of x directly; Mamba-2 only */
    float *norm;              /* [inner] by groups (Mamba-2), [dim_v] by heads (delta net) */
    size_t conv_at, heads_at; /* where its parts of a sequence's state begin, in floats, where it is computed */
} mr_recurrent;

enum { MR_N_KV_TYPES = MR_KV_F32 + 1 };

/* Alternating updates (Baykal et al., arXiv:2301.13310) and the learned augmented residual layer (LAuReL,
 * arXiv:2411.07501) of a layer. router.w NULL: there are none. */
typedef struct mr_altup {
    mr_linear router;            /* [n_stream, n_embd] */
    mr_norm_weights router_norm; /* divided by n_embd */
    float *predict;              /* [n_stream, n_stream, n_stream]: of each stream from each, by the router's values */
    float *correct;              /* [n_stream, n_stream] */
    float *correct_scale;        /* [n_embd] */
    mr_linear laurel_down, laurel_up; /* [rank, n_embd], [n_embd, rank] */
    mr_norm_weights laurel_norm;
} mr_altup;

struct mr_device_layer; /* device.h */
struct mr_device;

/* A layer; parts that its model lacks are NULL. */
typedef struct mr_layer {
    mr_layer_dims dims;
    size_t kv_offset[MR_N_KV_TYPES]; /* of its part in a block of key-value memory */
    uint32_t window;                 /* positions attended to, 0 = all */
    int rope;                        /* index of the rotation, -1 = none */
    mr_norm_weights attn_norm, attn_post_norm, ffn_norm, ffn_post_norm;
    mr_norm_weights attn_sum_norm, ffn_sum_norm; /* of encoders: of the residual stream behind a block */
    mr_linear q, k, v, o;
    mr_recurrent *recurrent; /* in place of attention, or NULL */
    mr_mla *mla;             /* in place of q (but for models without q_lora_rank), k and v, or NULL */
    float *sinks;            /* [n_head] logits in the softmax's sum only (Xiao et al., arXiv:2309.17453), or NULL */
    mr_head_norm q_norm, k_norm;
    mr_linear gate, up, down;
    struct {
        float alpha_p, alpha_n, beta, eps;
    } xielu;             /* parameters of this activation, where it is the model's */
    mr_experts *experts; /* NULL = dense */
    uint32_t kv_source;  /* the layer whose keys and values it attends to */
    mr_own_embedding own;
    mr_altup altup;
    float sparsity;  /* gates below mean + sparsity * standard deviation of their token are cut; 0 = none are */
    float out_scale; /* of the residual stream behind the layer */
    struct mr_device_layer *device; /* of a layer on a device, or NULL */
} mr_layer;

/* Rotations: that of most layers, and that of layers with a window where it differs. */
enum { MR_ROPE_MAIN = 0, MR_ROPE_LOCAL = 1, MR_N_ROPES = 2 };

typedef struct mr_rope {
    float *inv_freq; /* [n_rot / 2], NULL = not used */
    uint32_t n_rot;  /* values of a head that are rotated */
    float mscale;    /* factor for cosines and sines */
} mr_rope;

enum { MR_N_ACTS_KINDS = MR_ACTS_Q8_256 + 1 };

/* Buffers of one forward pass, for MR_BATCH_MAX tokens. */
typedef struct mr_forward_buffers {
    mr_kv_pool *kv;                      /* [n_layer] each layer's part of the key-value memory of the pass */
    float *x;                            /* residual stream [tokens, n_embd] */
    float *q;                            /* [tokens, n_head * head_dim_k] */
    float *k, *v;                        /* [tokens, n_head_kv * head_dim] */
    float *attn;                         /* [tokens, n_head * head_dim_v] */
    float *q_latent, *q_heads, *v_heads; /* [tokens, q_lora_rank], [tokens, n_head * (n_nope + n_rot)],
                                            [tokens, n_head * mla_dim_v]; compressed keys and values only */
    float *q_gates;                      /* [tokens, n_head, 2 * head_dim_k] queries with gates, as projected */
    float *mix, *conv, *mixed;           /* [tokens, n_in], [tokens, n_conv], [tokens, n_inner]; of recurrent layers */
    float *h;                            /* [ffn rows, widest FFN] */
    float *h_up;                         /* the same; only where gate and up can't be fused */
    float *block; /* [ffn rows, n_embd] output of a block before it is normed or scaled; only where that happens */
    float *cosines[MR_N_ROPES], *sines[MR_N_ROPES]; /* [tokens, n_rot / 2] */
    float *streams[MR_MAX_STREAMS];                 /* [tokens, n_embd] residual streams; the first is x */
    float *predicted, *laurel, *laurel_low;         /* [tokens, n_embd], [tokens, n_embd], [tokens, rank] */
    float *modal;                                   /* [tokens, n_stream] the router's values */
    float *per_layer, *own;         /* [tokens, n_layer, n_embd_per_layer], [tokens, n_embd_per_layer] */
    float *logits;                  /* [MR_LOGITS_ROWS, n_vocab] */
    float *router;                  /* [tokens, n_expert] */
    float *shared_weight;           /* [tokens] */
    int32_t *chosen;                /* [tokens, n_expert_used] */
    float *chosen_weight;           /* [tokens, n_expert_used] */
    uint8_t *acts[MR_N_ACTS_KINDS]; /* shared activations in each form that a matrix wants; NULL when none does */
    uint8_t *private_data;          /* private_bytes for each member of the team */
    size_t private_bytes;
    size_t private_acts[MR_N_ACTS_KINDS]; /* offsets in a member's private memory: one token's activations */
    size_t private_norm;                  /* one token's floats */
    size_t private_attention;             /* attention scratch */
    size_t private_experts;               /* lists of an expert layer */
    size_t private_mla;                   /* lists of a layer with compressed keys and values */
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

    /* Embeddings of a token for each layer, [n_rows, n_layer, n_embd_per_layer], in the file's mapping (tokens behind
     * the last row, which stand for pictures and sounds, have that of token 0); what the token's embedding adds to
     * them; and its norm. */
    struct {
        const mr_dtype_info *type;
        const uint8_t *rows;
        uint64_t n_rows;
        size_t row_bytes;
        mr_linear from_embd; /* [n_layer * n_embd_per_layer, n_embd] */
        mr_norm_weights norm;
    } per_layer;

    /* Of encoders: learned positions [n_ctx_train, n_embd], to which the first token type is added (NULL where there is
     * neither), and the norm of the embeddings. */
    float *positions;
    mr_norm_weights embd_norm;

    /* Maps of the first residual stream to the others, and of those back at the end; [n_embd, n_embd] each. */
    mr_linear streams_in[MR_MAX_STREAMS - 1], streams_out[MR_MAX_STREAMS - 1];

    mr_layer *layers;                             /* [n_layer] */
    size_t n_state_floats, n_device_state_floats; /* of the recurrent state of a sequence, here and on the device */
    mr_norm_weights output_norm;
    mr_linear output;
    bool output_is_embd; /* made from token_embd.weight */
    mr_rope ropes[MR_N_ROPES];

    mr_forward_buffers buffers;
    struct mr_device *device; /* NULL: all layers are the CPU's */
};

/* The first layer that is on a device; n_layer when none is. */
uint32_t mr_model_first_device_layer(const mr_model *model);

/* The layout of layer il's part of a block, as a layout of one layer, and where it begins in the block. */
mr_kv_layout mr_layer_kv_layout(const mr_model *model, mr_kv_type type, uint32_t il, size_t *offset);

/* Allocates model->buffers for the loaded weights. */
mr_status mr_forward_buffers_init(mr_model *model, mr_error *err);
void mr_forward_buffers_free(mr_model *model);

#endif
