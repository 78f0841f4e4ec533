/* The seam between a model on a device and what computes there: memory, and the operations of a forward pass on buffers
 * that live on the device. backend_cpu.c is the definition, by the functions that the CPU's own forward pass uses;
 * backend_cuda.c equals it within float error.
 *
 * Addresses of device memory have the type of what lies there (float *). The host computes with them and never follows
 * them. Operations are issued by one thread and happen in the order of issue; they return at once and report nothing:
 * the first failure is kept, and sync() tells it. Numbers in argument structs are the host's; arrays are the device's
 * unless it says otherwise. Rows are `ld` values apart. A NULL entry of the table means that the back end lacks that
 * operation; a model that needs it is refused before it is loaded. */
#ifndef MR_COMPUTE_BACKEND_H
#define MR_COMPUTE_BACKEND_H

#include "base/error.h"
#include "compute/candidates.h"
#include "compute/dtype.h"
#include "compute/kv.h"
#include "compute/matrix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_backend mr_backend;

/* ---- what changes from step to step ---- */

/* A batch: arrays of tokens and of runs (consecutive tokens of one sequence). The numbers size the launch and are the
 * same whenever a recorded step is replayed; so most_positions is a bound, and what the arrays say is what counts. */
typedef struct mr_device_batch {
    uint32_t n_tokens, n_runs;
    uint32_t most_tokens;       /* of a run */
    uint32_t most_positions;    /* bound of pos0 + n_tokens over the runs */
    const int32_t *tokens;      /* [n_tokens] */
    const uint32_t *positions;  /* [n_tokens] */
    const int32_t *slots;       /* [n_tokens] where keys and values go: block number * MR_KV_BLOCK + place in it */
    const uint32_t *first;      /* [n_runs] a run's first token */
    const uint32_t *run_tokens; /* [n_runs] */
    const uint32_t *pos0;       /* [n_runs] position of the first token */
    const uint32_t *ends;       /* [n_runs] encoders: positions of the run's whole text */
    const int32_t *blocks;      /* [n_runs, ld_blocks] block tables */
    uint32_t ld_blocks;
    /* Models with a recurrent state: */
    const uint32_t *n_mid;        /* [n_runs] as mr_batch_run's; 0 = none */
    const float *const *state_in; /* [n_runs] states before the run, NULL = zeros; behind it; behind n_mid tokens */
    float *const *state_out, *const *state_mid;
} mr_device_batch;

/* ---- arguments of the operations ---- */

/* out[t] = scale * row tokens[t] of a table, exactly; out is [n_tokens, n_in of the table]. */
typedef struct mr_embed_args {
    const mr_matrix *table;
    const int32_t *tokens;
    size_t n_tokens;
    float scale;
    float *out;
} mr_embed_args;

/* For each row t and group g: out[t*ld_out + g*step ..] = norm of the n values x[t*ld_x + g*step ..], as mr_ops
 * rms_norm (or layer_norm), with weight + g*weight_step (NULL: ones) and, layer norms only, bias (NULL: 0). */
typedef struct mr_norm_args {
    bool layer;
    const float *x;
    size_t ld_x;
    float *out; /* may be x */
    size_t ld_out;
    size_t n_rows, n_groups, step, n;
    const float *weight;
    size_t weight_step;
    const float *bias;
    float eps;
} mr_norm_args;

/* y[t][r] = sum_k W[r][k] x[t][k] + bias[r] (+ y[t][r] as it was). */
typedef struct mr_product_args {
    const mr_matrix *w;
    const float *bias; /* [n_out] or NULL */
    const float *x;
    size_t ld_x;
    float *y;
    size_t ld_y;
    bool accumulate;
} mr_product_args;

/* y[t][r] = act((gate x)[r]) * (up x)[r] as mr_ops.glu. */
typedef struct mr_gated_args {
    const mr_matrix *gate, *up; /* same shape */
    mr_glu act;
    const float *x;
    size_t ld_x;
    float *y;
    size_t ld_y;
    float *scratch; /* [n_tokens, n_out]: may be overwritten; apart from y */
} mr_gated_args;

/* Matrices of one type and shape that are used together: the experts of a layer, or one for each head. */
typedef struct mr_stack {
    mr_matrix **matrices; /* [n] */
    size_t n;
    void *table; /* the back end's */
} mr_stack;

/* For each matrix h of the stack and token t: y[t*ld_y + h*y_step ..] = W_h x[t*ld_x + h*x_step ..]. ld is n * step. */
typedef struct mr_heads_args {
    const mr_stack *stack;
    const float *x;
    size_t ld_x, x_step;
    float *y;
    size_t ld_y, y_step;
    size_t n_tokens;
} mr_heads_args;

/* out[t][i] = act(gate[t][i]) (* up[t][i] unless up is NULL), as mr_ops.glu. out may be gate or up. */
typedef struct mr_activate_args {
    mr_glu act;
    const float *gate;
    size_t ld_gate;
    const float *up;
    size_t ld_up;
    float *out;
    size_t ld_out;
    size_t n_rows, n;
} mr_activate_args;

typedef struct mr_xielu_args {
    float *x;
    size_t n;
    float alpha_p, alpha_n, beta, eps; /* as mr_ops.xielu */
} mr_xielu_args;

/* Copies rows of n values; with `rows` (device), row i of `to` is row rows[i] of `from`. No overlap. */
typedef struct mr_copy_rows_args {
    const float *from;
    size_t ld_from;
    const uint32_t *rows;
    float *to;
    size_t ld_to;
    size_t n_rows, n;
} mr_copy_rows_args;

/* x[t][i] += factor * y[t][i] (one fused multiply-add) */
typedef struct mr_add_args {
    float *x;
    size_t ld_x;
    const float *y;
    size_t ld_y;
    float factor;
    size_t n_rows, n;
} mr_add_args;

/* out[t][i] *= 1 / (1 + e^-gate[t][i]) */
typedef struct mr_gate_args {
    float *out;
    size_t ld_out;
    const float *gate;
    size_t ld_gate;
    size_t n_rows, n;
} mr_gate_args;

/* cosines, sines [n_tokens, n_pairs] = factor * cos, sin of (float)(position * inv_freq[i]), taken in double. */
typedef struct mr_angles_args {
    const float *inv_freq;
    size_t n_pairs;
    float factor;
    const uint32_t *positions;
    size_t n_tokens;
    float *cosines, *sines;
} mr_angles_args;

/* One layer's part of the paged key-value memory: block b begins at data + b * block_bytes, and inside, kv head h at
 * h * layout.head_bytes, values at layout.value_offset. What stands in a piece (compute/kv.h says it for the CPU) is
 * the back end's own affair; its size is not. */
typedef struct mr_kv_view {
    uint8_t *data;
    mr_kv_layout layout; /* of one layer; block_bytes is that of the whole pool */
} mr_kv_view;

/* What happens to the heads of queries, or of keys and values (kv.data not NULL), between projection and attention. x
 * is [n_tokens, n_heads * dim]. Each head is normed (norm_weight not NULL, of head h: + h * weight_step; before the
 * rotation or, norm_late, after it), rotated (cosines not NULL; mr_ops.rope from value rot_from on), and multiplied by
 * 1 + temperature * log(1 + floor(position / period)) where temperature is not 0; then it is written back.
 * Keys then go to the token's slot, with their values v [n_tokens, n_heads * dv]; v NULL: the key as it was before
 * norm and rotation. Where v_norm values are normed without weights. With `latent` > 0 (compressed keys) the norm is of
 * the first `latent` values of the key only, and the value is the first dv of the normed key. */
typedef struct mr_heads_end_args {
    float *x;
    size_t n_heads, dim;
    bool layer; /* the norm is a layer norm without a bias */
    const float *norm_weight;
    size_t weight_step;
    bool norm_late;
    float eps;
    const float *cosines, *sines; /* [n_tokens, n_pairs] */
    size_t n_pairs, rot_from;
    bool neox;
    float temperature;
    uint32_t period;
    mr_kv_view kv;
    float *v; /* may be changed */
    bool v_norm;
    size_t latent;
    const mr_device_batch *batch;
} mr_heads_end_args;

/* Attention as mr_attention over every token and head: q [n_tokens, n_head * head_dim_k], out [n_tokens, n_head *
 * head_dim_v]; query head i meets kv head i / (n_head / n_head_kv). `whole` (encoders): every token sees its whole
 * text, positions 0 .. ends - 1 of its run, or, where there is a window, half of it on each side. */
typedef struct mr_attend_args {
    mr_kv_view kv;
    const float *q;
    float *out;
    uint32_t n_head;
    float scale, softcap;
    uint32_t window;
    const float *sinks; /* [n_head] or NULL */
    bool whole;
    const mr_device_batch *batch;
} mr_attend_args;

/* How scores of experts become weights (model/arch.h: mr_gating, the same numbers). */
typedef enum mr_routing {
    MR_ROUTING_SOFTMAX = 1,
    MR_ROUTING_SIGMOID = 2,
    MR_ROUTING_SOFTMAX_CHOSEN = 3,
    MR_ROUTING_SPARSEMIXER = 100
} mr_routing;

/* The experts of each token, best first (of equals the smaller number), and their weights, as forward_experts.c's
 * route. scores [n_tokens, n_expert] are changed. With n_group > 1 only experts of the n_group_used best groups are
 * chosen; a group is worth the sum of its two best with MR_ROUTING_SIGMOID, else its best. */
typedef struct mr_route_args {
    float *scores;
    const float *choice_bias; /* [n_expert] added for the choice only, or NULL */
    const float *scales;      /* [n_expert] factors of the weights, or NULL */
    size_t n_tokens;
    uint32_t n_expert, n_used, n_group, n_group_used;
    mr_routing routing;
    bool normed;     /* weights are divided by their sum (softmax and sigmoid only) */
    float factor;    /* of all weights */
    int32_t *chosen; /* [n_tokens, n_used] */
    float *weights;  /* [n_tokens, n_used] */
} mr_route_args;

/* The slots, one for each (token, choice). In which order they lie is the back end's choice, the same for all that is
 * given the same numbers. */
typedef struct mr_slots {
    uint32_t n_expert, n_used;
    size_t n_tokens;
    const int32_t *chosen; /* [n_tokens, n_used] in */
    uint32_t *begin;       /* [n_expert + 1], [n_tokens * n_used], [n_tokens, n_used]: the back end's */
    uint32_t *slot_token, *slot_of;
} mr_slots;

/* y[s] = W_e x[t] + bias[e] for each slot s of token t and expert e; `by_slot`: W_e x[s]. */
typedef struct mr_expert_product_args {
    const mr_slots *slots;
    const mr_stack *stack;
    const float *bias; /* [n_expert, n_out] or NULL */
    const float *x;
    size_t ld_x;
    bool by_slot;
    float *y;
    size_t ld_y;
} mr_expert_product_args;

/* y[s] = act(gate_e x) * (up_e x), x as above by token. */
typedef struct mr_expert_gated_args {
    const mr_slots *slots;
    const mr_stack *gate, *up;
    mr_glu act;
    const float *x;
    size_t ld_x;
    float *y;
    size_t ld_y;
    float *scratch; /* [n_slots, n_out] as above */
} mr_expert_gated_args;

/* out[t] = sum over k < n_used (which may be 0), in order, of weights[t][k] * x[slot of (t, k)], and with `shared`
 * [n_tokens, n] plus shared[t] * (shared_weight ? sigmoid(shared_weight[t]) : 1); [n_tokens, n] without gaps. */
typedef struct mr_combine_args {
    const mr_slots *slots;
    const float *weights;
    const float *x;
    const float *shared, *shared_weight;
    size_t n;
    float *out;
} mr_combine_args;

/* The convolution of a recurrent layer over each run (forward_recurrent.c). Row t of mix is [n_in]; what is convolved
 * begins at conv_from and is [n_conv]. `gated`: it is multiplied by the row's first n_conv values before, and the
 * result by the next n_conv; otherwise the result goes through SiLU. The last width-1 inputs go to the states. mix is
 * changed. */
typedef struct mr_conv_args {
    float *mix;
    size_t n_in, conv_from, n_conv, width;
    bool gated;
    const float *weight; /* [width, n_conv] oldest first */
    const float *bias;   /* [n_conv] or NULL */
    size_t state_at;     /* where its part of a state begins, in floats: [width - 1, n_conv] */
    float *out;          /* [n_tokens, n_conv] */
    const mr_device_batch *batch;
} mr_conv_args;

/* The recurrence over each run, from what the convolution made: Mamba-2 (with its gate and norm of groups behind it) or
 * the gated delta rule (with its norm and gate of heads). weights.h (mr_recurrent) tells where things lie in a row. */
typedef struct mr_scan_args {
    bool delta; /* else Mamba-2 */
    const float *mix, *conv;
    size_t n_in, n_conv, n_inner, conv_from, z_from;
    bool betas_by_group, value_heads_tiled;
    uint32_t n_head, n_group, dim_k, dim_v;
    const float *dt_bias, *a, *d, *norm; /* d: Mamba-2 only */
    float eps;
    size_t state_at; /* [n_head, dim_k, dim_v] */
    float *out;      /* [n_tokens, n_inner] */
    const mr_device_batch *batch;
} mr_scan_args;

/* Several residual streams (forward_altup.c), [n_tokens, n] each; streams[0] is x. */
typedef struct mr_streams_args {
    float *streams[4];
    uint32_t n_stream;
    size_t n_tokens, n;
    const float *modal;         /* [n_tokens, n_stream] */
    const float *factors;       /* predict: [n_stream, n_stream, n_stream]; correct: [n_stream, n_stream] */
    const float *correct_scale; /* [n] */
    float *predicted;           /* [n_tokens, n] */
} mr_streams_args;

/* The best of each row of logits [n_rows, n]: the smallest id among equals; only finite values count, 0 when there are
 * none. */
typedef struct mr_best_args {
    const float *logits;
    size_t n_rows, n;
    int32_t *ids; /* [n_rows] */
} mr_best_args;

/* The candidates of each row (compute/candidates.h), which is all that a sampler mostly needs of it. */
typedef struct mr_candidates_args {
    const float *logits; /* [n_rows, n] */
    size_t n_rows, n;
    mr_candidates *candidates; /* [n_rows] */
} mr_candidates_args;

/* ---- the table ---- */

typedef enum mr_step {
    MR_STEP_RUN,      /* issue the operations: they run (and may be recorded) */
    MR_STEP_REPLAYED, /* they were recorded before and are under way: issue nothing */
    MR_STEP_DONE      /* of end: they run */
} mr_step;

typedef struct mr_backend_ops {
    void (*close)(mr_backend *b);

    /* Memory. alloc fails with MR_ERR_NOMEM and the numbers; addresses are aligned to 256 (release: NULL is ignored).
     */
    mr_status (*alloc)(mr_backend *b, size_t n_bytes, const char *what, void **address, mr_error *err);
    void (*release)(mr_backend *b, void *address);
    void (*memory)(mr_backend *b, size_t *n_total, size_t *n_free);
    /* Host memory from which transfers are fast. */
    mr_status (*host_alloc)(mr_backend *b, size_t n_bytes, void **address, mr_error *err);
    void (*host_release)(mr_backend *b, void *address);
    /* At once: when it returns, `from` may change. For loading; not in a step. */
    mr_status (*upload)(mr_backend *b, void *to, const void *from, size_t n_bytes, mr_error *err);
    /* In order with the operations; host memory must stay as it is until sync(). */
    void (*send)(mr_backend *b, void *to, const void *from, size_t n_bytes);
    void (*fetch)(mr_backend *b, void *to, const void *from, size_t n_bytes);
    void (*copy)(mr_backend *b, void *to, const void *from, size_t n_bytes); /* device to device, no overlap */
    /* Waits for all that was issued; the first error since the last sync. */
    mr_status (*sync)(mr_backend *b, mr_error *err);

    /* Steps that repeat. Between begin and end only compute operations are issued. Equal keys promise the same
     * operations with the same arguments (the contents of arrays may differ); key 0 is never recorded. end is called
     * after MR_STEP_RUN only; when it gives MR_STEP_RUN, recording has failed and nothing was done: the operations have
     * to be issued again, without an end. forget drops all that is recorded: for when memory that steps used is
     * released. */
    mr_step (*step_begin)(mr_backend *b, uint64_t key);
    mr_step (*step_end)(mr_backend *b);
    void (*forget)(mr_backend *b);
    /* Before the first step: products will have up to n_rows inputs of n_in values. May be called again. */
    mr_status (*reserve)(mr_backend *b, size_t n_rows, size_t n_in, mr_error *err);

    /* Weights. As mr_matrix_pack, the values on the device; freed by mr_matrix_free, before the back end is closed. */
    mr_status (*pack)(mr_backend *b, mr_matrix **matrix, mr_dtype type, const void *rows, size_t n_out, size_t n_in,
                      mr_team *team, mr_error *err);
    /* Bytes that pack will take; false when the type has no kernel. */
    bool (*pack_bytes)(mr_backend *b, mr_dtype type, size_t n_out, size_t n_in, size_t *n_bytes);
    /* The same for rows that embed reads. packed_tables: a packed matrix is a table, too. */
    mr_status (*table)(mr_backend *b, mr_matrix **table, mr_dtype type, const void *rows, size_t n_rows, size_t n_in,
                       mr_team *team, mr_error *err);
    bool packed_tables;
    /* A stack of n packed matrices, which stay the caller's (their values may move). MR_ERR_UNSUPPORTED when types or
     * shapes differ. */
    mr_status (*stack)(mr_backend *b, mr_stack **stack, mr_matrix *const *matrices, size_t n, mr_error *err);
    void (*stack_free)(mr_backend *b, mr_stack *stack);

    void (*embed)(mr_backend *b, const mr_embed_args *a);
    void (*norm)(mr_backend *b, const mr_norm_args *a);
    void (*products)(mr_backend *b, const mr_product_args *items, size_t n_items, size_t n_tokens);
    void (*gated)(mr_backend *b, const mr_gated_args *a, size_t n_tokens);
    void (*heads)(mr_backend *b, const mr_heads_args *a);
    void (*activate)(mr_backend *b, const mr_activate_args *a);
    void (*xielu)(mr_backend *b, const mr_xielu_args *a);
    /* x[t][i] = max(x[t][i] - (mean + sparsity * standard deviation of row t), 0): [n_rows, n] */
    void (*cut)(mr_backend *b, float *x, size_t n_rows, size_t n, float sparsity);
    void (*copy_rows)(mr_backend *b, const mr_copy_rows_args *a);
    void (*add)(mr_backend *b, const mr_add_args *a);
    void (*scale)(mr_backend *b, float *x, size_t n, float factor);
    void (*softcap)(mr_backend *b, float *x, size_t n, float cap);
    void (*gate)(mr_backend *b, const mr_gate_args *a);
    void (*angles)(mr_backend *b, const mr_angles_args *a);
    void (*heads_end)(mr_backend *b, const mr_heads_end_args *a);
    void (*attend)(mr_backend *b, const mr_attend_args *a);
    void (*route)(mr_backend *b, const mr_route_args *a);
    void (*slots)(mr_backend *b, const mr_slots *a);
    void (*expert_products)(mr_backend *b, const mr_expert_product_args *items, size_t n_items);
    void (*expert_gated)(mr_backend *b, const mr_expert_gated_args *a);
    void (*combine)(mr_backend *b, const mr_combine_args *a);
    void (*conv)(mr_backend *b, const mr_conv_args *a);
    void (*scan)(mr_backend *b, const mr_scan_args *a);
    /* y[t] gets the root mean square of x[t]: y *= sqrt(mean x^2) / sqrt(max(mean y^2, 1e-5)); [n_rows, n] */
    void (*match_size)(mr_backend *b, float *y, const float *x, size_t n_rows, size_t n);
    /* streams[i] += sum over j of (sum over k of factors[i][j][k] modal[k]) * streams[j] as they were; predicted =
     * streams[0] then. */
    void (*streams_predict)(mr_backend *b, const mr_streams_args *a);
    /* With d = streams[0] - predicted: streams[0] = predicted; streams[i] += (1 + factors[i] . modal) * d;
     * predicted = streams[0] * correct_scale. */
    void (*streams_correct)(mr_backend *b, const mr_streams_args *a);
    void (*best)(mr_backend *b, const mr_best_args *a);
    void (*candidates)(mr_backend *b, const mr_candidates_args *a);
} mr_backend_ops;

/* The head of each back end's own struct. */
struct mr_backend {
    const mr_backend_ops *ops;
    char name[128]; /* "cuda:0 (NVIDIA H100 80GB HBM3)" */
};

/* The CPU as a device: memory is the host's, operations run on the team at once. The team stays the caller's. */
mr_status mr_backend_cpu_open(mr_backend **backend, mr_team *team, mr_error *err);

/* GPU number `device`. Errors are sentences: MR_ERR_NOT_FOUND when there is no driver or no such GPU,
 * MR_ERR_UNSUPPORTED when this build has no CUDA kernels or none for the GPU. */
mr_status mr_backend_cuda_open(mr_backend **backend, int device, mr_error *err);

/* NULL is allowed. */
void mr_backend_close(mr_backend *backend);

#endif
