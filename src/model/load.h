/* Loading of tensors, shared by the parts of a model's load. */
#ifndef MR_MODEL_LOAD_H
#define MR_MODEL_LOAD_H

#include "model/weights.h"

/* The state of one load. */
typedef struct mr_loader {
    mr_model *model;
    const mr_gguf *gguf;
    const mr_model_options *options;
    size_t bytes_done, bytes_total;
    size_t bytes_of_type[64]; /* by dtype, all are below, to name the model's type */
    mr_error *err;
    struct mr_backend *backend; /* where matrices go now; NULL: this processor */
} mr_loader;

/* Counts n_bytes as loaded, reports progress, and answers MR_ERR_CANCELLED when the load shall end. */
mr_status mr_load_progress(mr_loader *l, size_t n_bytes);

bool mr_load_has(const mr_loader *l, const char *name);

/* A required vector of n floats, whatever its stored type; the caller frees it with free(). */
mr_status mr_load_vector(mr_loader *l, const char *name, size_t n, float **vector);

/* The same of a tensor of n values in any shape. */
mr_status mr_load_flat(mr_loader *l, const char *name, size_t n, float **values);

/* The same of a tensor of n_rows rows of n. */
mr_status mr_load_floats(mr_loader *l, const char *name, size_t n_rows, size_t n, float **values);

/* Reserves memory for two matrices of n_out rows in turns (mr_matrix_reserve), where their tensors, of total_rows rows,
 * become matrices of one type; mr_load_rows then fills them. Otherwise leaves them NULL, and any error to that. */
void mr_load_reserve_pair(mr_loader *l, const char *name, const char *second_name, size_t n_out, size_t total_rows,
                          size_t n_in, mr_matrix **matrix, mr_matrix **second);

/* Rows first_row .. first_row+n_out-1 of the tensor NAME, which has total_rows rows of n_in. *matrix is NULL, or a
 * reserved one. */
mr_status mr_load_rows(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows, size_t n_in,
                       mr_matrix **matrix);

/* As mr_matrix_pack, to where matrices go now. */
mr_status mr_load_pack(mr_loader *l, mr_dtype type, const void *rows, size_t n_out, size_t n_in, mr_matrix **matrix);

/* `NAME.weight` [n_out, n_in] and, where it exists, `NAME.bias`. */
mr_status mr_load_linear(mr_loader *l, const char *name, size_t n_out, size_t n_in, mr_linear *linear);

/* The same for rows of a fused tensor. */
mr_status mr_load_linear_rows(mr_loader *l, const char *name, size_t first_row, size_t n_out, size_t total_rows,
                              size_t n_in, mr_linear *linear);

/* `NAME.weight` and `NAME.bias` [n]; a missing weight is an error only when `required`. */
mr_status mr_load_norm(mr_loader *l, const char *name, size_t n, bool required, mr_norm_weights *norm);

/* Everything of layer il. */
mr_status mr_load_layer(mr_loader *l, uint32_t il);

void mr_free_linear(mr_linear *linear);
void mr_free_layer(mr_layer *layer, uint32_t n_head, uint32_t n_expert);

/* Attention of a layer with compressed keys and values. */
mr_status mr_load_mla(mr_loader *l, uint32_t il, mr_layer *layer);
void mr_free_mla(mr_mla *mla, uint32_t n_head);

/* A layer with a recurrent state; places its state behind those of the layers before it
 * that are computed where it is. */
mr_status mr_load_recurrent(mr_loader *l, uint32_t il, mr_layer *layer);
void mr_free_recurrent(mr_recurrent *recurrent);

/* The experts of a layer in place of its FFN. */
mr_status mr_load_experts(mr_loader *l, uint32_t il, mr_layer *layer);
void mr_free_experts(mr_experts *experts, uint32_t n_expert);

/* Frees n matrices and their list (NULL is ignored). */
void mr_free_stack(mr_matrix **matrices, uint32_t n);

#endif
