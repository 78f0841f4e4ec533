/* The forward pass of a model on a device (compute/backend.h): the same pass as forward.h's, written as operations that
 * one thread issues. Layers from `first_layer` on are the device's; those before it stay the CPU's, with the embeddings
 * and all that is made of them at once, and what crosses the border does so once in a pass. Every vector of a device's
 * layer (norms, biases and so on) points into device memory; matrices are on the device (mr_matrix_values). */
#ifndef MR_MODEL_DEVICE_H
#define MR_MODEL_DEVICE_H

#include "compute/backend.h"
#include "model/forward.h"
#include "model/load.h"

/* What a layer has on a device beside its matrices. */
struct mr_device_layer {
    void *vectors; /* the memory of all its vectors */
    mr_stack *gate, *up, *down, *k_up, *v_up;
};

/* Buffers of a pass for MR_BATCH_MAX tokens, in device memory; as mr_forward_buffers. */
typedef struct mr_device_buffers {
    float *x, *normed;
    float *q, *k, *v, *attn, *q_gates, *q_latent, *q_heads, *v_heads;
    float *mix, *conv, *mixed;
    float *h, *h_up, *block;
    float *sum; /* [tokens, n_embd] what experts add up to */
    float *cosines[MR_N_ROPES], *sines[MR_N_ROPES];
    float *streams[MR_MAX_STREAMS], *predicted, *laurel, *laurel_low, *modal;
    float *per_layer, *per_token, *own; /* per_token: [tokens, n_layer * n_embd_per_layer] rows of the table */
    float *logits;                      /* [MR_LOGITS_ROWS, n_vocab] */
    int32_t *best;                      /* [MR_LOGITS_ROWS] */
    mr_candidates *candidates;          /* [MR_LOGITS_ROWS] */
    float *router, *shared_weight, *chosen_weight;
    int32_t *chosen;
    uint32_t *slot_begin, *slot_token, *slot_of;
} mr_device_buffers;

enum { MR_DEVICE_ALLOCATIONS = 64 };

typedef struct mr_device {
    mr_backend *backend;
    bool owned; /* closed with the model */
    uint32_t first_layer;
    mr_matrix *embd_table, *per_layer_table; /* NULL where the CPU reads the rows */
    bool table_is_output;                    /* embd_table is the model's output matrix */
    float *inv_freq[MR_N_ROPES];
    void *vectors; /* the memory of the model's own vectors, which are these: */
    mr_norm_weights output_norm, embd_norm, per_layer_norm;
    float *positions, *output_bias;
    mr_device_buffers buffers;
    void *allocations[MR_DEVICE_ALLOCATIONS]; /* all of the above that is freed with the device */
    size_t n_allocations, n_bytes;
    uint8_t *step, *step_host; /* what changes from step to step, there and here */
    size_t step_bytes;
    mr_candidates *candidates; /* [MR_LOGITS_ROWS] here, for fast transfers; NULL until they are wanted */

    /* The last pass: its rows of logits, of which buffers.logits holds those from first_logits on. */
    const uint32_t *logit_tokens;
    uint32_t n_logits, first_logits;
} mr_device;

/* One pass. */
typedef struct mr_device_pass {
    const mr_model *model;
    mr_device *device;
    mr_backend *backend;
    const mr_backend_ops *ops;
    const mr_kv_pool *pool;
    mr_device_batch batch;
    const uint32_t *logit_tokens; /* [n_logits] rows of x, in device memory */
    const int32_t *table_tokens;  /* [n_tokens] rows of the table of the layers' embeddings, likewise */
    uint32_t n_logits;
    bool candidates; /* are wanted of some rows */
    mr_share_of_attention attention;
} mr_device_pass;

/* ---- loading (device_load.c) ---- */

/* Memory of the device that is freed with it. */
mr_status mr_device_alloc(mr_device *device, size_t n_bytes, const char *what, void *address, mr_error *err);

/* Moves the vectors of layer il, whose matrices are on the device already, and makes its stacks. */
mr_status mr_device_place_layer(mr_model *model, uint32_t il, mr_error *err);
void mr_device_free_layer(mr_model *model, mr_layer *layer);

/* Copies what the model has beside its layers: tables, norms, frequencies. */
mr_status mr_device_place_model(mr_model *model, mr_error *err);

/* Allocates the buffers of a pass (device_buffers.c); the bytes that they will take, before the layers are loaded, are
 * about mr_device_buffer_bytes(). */
mr_status mr_device_buffers_init(mr_model *model, mr_error *err);
size_t mr_device_buffer_bytes(const mr_hparams *hparams);

/* Why the back end cannot compute the model; MR_OK when it can. */
mr_status mr_device_check(const mr_backend *backend, const mr_hparams *hparams, mr_error *err);

/* Frees everything; layers are freed before. */
void mr_device_free(mr_device *device);

/* ---- the pass ---- */

/* The layers from first_layer on and the head, for the tokens of p; the residual streams and the layers' own embeddings
 * come from p's model's buffers when the CPU has computed layers before. Fills what the runs ask for. */
mr_status mr_device_forward(const mr_pass *p, mr_error *err);
mr_status mr_device_fetch_logits(mr_model *model, const uint32_t *rows, float *const *to, size_t n, mr_error *err);

/* The same for a text of an encoder whose parts are the runs of p (forward.h: mr_forward_text); x [tokens, n_embd] is
 * what the CPU's layers made, where it has any. */
mr_status mr_device_text(const mr_pass *p, const float *x, mr_error *err);

/* Their parts: what changes from step to step, sent to the device, and dp's view of it; what comes before the first
 * layer; a layer; the hidden rows that a run wants, whose first token is row `first` of x. */
mr_status mr_device_fill_step(const mr_pass *p, mr_device_pass *dp, mr_error *err);
void mr_device_begin_tokens(const mr_device_pass *p);
void mr_device_layer(const mr_device_pass *p, uint32_t il);
void mr_device_fetch_hidden(const mr_device_pass *p, const mr_batch_run *run, size_t first);

/* out = norm(x) for all tokens, rows of n; norm without a weight: x itself is returned, else out. */
const float *mr_device_norm(const mr_device_pass *p, const mr_norm_weights *norm, const float *x, float *out, size_t n,
                            size_t n_rows);

mr_product_args mr_device_product(const mr_linear *linear, const float *x, float *y);

/* As mr_add_block: x += the block's last matrix times in [tokens, n_in]. */
void mr_device_add_block(const mr_device_pass *p, const float *in, const mr_linear *last,
                         const mr_norm_weights *post_norm);
void mr_device_norm_stream(const mr_device_pass *p, const mr_norm_weights *norm);

void mr_device_attention(const mr_device_pass *p, uint32_t il); /* or the share of it that the pass is for */
void mr_device_recurrent(const mr_device_pass *p, uint32_t il);
void mr_device_ffn(const mr_device_pass *p, uint32_t il);
void mr_device_ffn_hidden(const mr_device_pass *p, const mr_layer *layer, const float *in);
void mr_device_experts(const mr_device_pass *p, const mr_layer *layer);

/* As their namesakes in forward.h. */
void mr_device_per_layer_inputs(const mr_device_pass *p);
void mr_device_layer_tail(const mr_device_pass *p, uint32_t il);
void mr_device_altup_begin(const mr_device_pass *p);
void mr_device_altup_predict(const mr_device_pass *p, uint32_t il);
void mr_device_altup_join(const mr_device_pass *p);
void mr_device_altup_correct(const mr_device_pass *p, uint32_t il);
void mr_device_altup_end(const mr_device_pass *p);

#endif
