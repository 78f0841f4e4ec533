/* Weight matrices packed for the processor at hand, and products with them.
 *
 * Layout. Rows are interleaved in panels of 16: lane r of a panel is row r, so a kernel reads weights in one stream,
 * broadcasts activations, and never sums across lanes. The panel keeps the format's own bits (a Q4_K matrix stays 4.5
 * bits per weight); only their order changes. One packing serves one token (bound by memory) and many (bound by
 * arithmetic).
 *
 * Numerics. Each output is computed by one chain of operations that depends only on the format: exact integer sums
 * within a block, then one fused multiply-add per block in the order of k (float formats: one fused multiply-add per k,
 * in order; bf16: the second of each pair of k before the first). So results are the same bits on every instruction
 * set, for every number of threads and tokens. matrix_plain.c is the definition; the others equal it. */
#ifndef MR_COMPUTE_MATRIX_H
#define MR_COMPUTE_MATRIX_H

#include "base/error.h"
#include "compute/dtype.h"
#include "compute/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_PANEL_ROWS = 16 };

/* How a matrix wants its input: */
typedef enum mr_acts_kind {
    MR_ACTS_F32,    /* floats as they are */
    MR_ACTS_BF16,   /* rounded to bfloat16 */
    MR_ACTS_Q8_32,  /* int8 with one float scale for 32 values */
    MR_ACTS_Q8_256, /* int8 with one float scale for 256 values, a factor of 1 to 8 for 32, and the sums of each 16 */
} mr_acts_kind;

/* Activations [n_tokens, n_in] in the form a matrix wants. `data` belongs to the caller: n_tokens * stride bytes,
 * aligned to 64. */
typedef struct mr_acts {
    mr_acts_kind kind;
    size_t n_in;
    size_t stride; /* bytes from one token to the next, a multiple of 64 */
    uint8_t *data;
} mr_acts;

size_t mr_acts_stride(mr_acts_kind kind, size_t n_in);
mr_acts mr_acts_view(mr_acts_kind kind, size_t n_in, void *data);

/* Converts one token's floats x[n_in] into row `token` of acts. */
void mr_acts_set(mr_acts *acts, size_t token, const float *x);

typedef struct mr_matrix mr_matrix;

/* The kind of input a matrix of this type wants; false when the type has no kernel. */
bool mr_matrix_acts_kind(mr_dtype type, mr_acts_kind *kind);

/* Packs W [n_out, n_in], stored as rows of `type` one after the other (GGUF order), for this processor, in parallel on
 * the team (NULL: on this thread). The source may be dropped afterwards. n_out need not be a multiple of the panel.
 * Errors: MR_ERR_NOMEM, MR_ERR_UNSUPPORTED (no kernel for the type, or n_in is no whole number of its blocks). */
mr_status mr_matrix_pack(mr_matrix **matrix, mr_dtype type, const void *rows, size_t n_out, size_t n_in, mr_team *team,
                         mr_error *err);
void mr_matrix_free(mr_matrix *matrix);

/* The same in two steps: memory without content, and content. With `second` (not NULL), two matrices of the type and
 * shape whose products are taken together (mr_matmul_glu): their panels lie in turns, so that both are one stream from
 * memory. Each is freed by itself. */
mr_status mr_matrix_reserve(mr_matrix **matrix, mr_matrix **second, mr_dtype type, size_t n_out, size_t n_in,
                            mr_error *err);
void mr_matrix_fill(mr_matrix *matrix, const void *rows, mr_team *team);

/* A matrix whose n_bytes of values are on a device (backend.h), where only the device's back end follows them: the
 * products below do not take it. mr_matrix_free calls release(owner, values). */
mr_status mr_matrix_remote(mr_matrix **matrix, mr_dtype type, size_t n_out, size_t n_in, size_t n_bytes, void *values,
                           void (*release)(void *owner, void *values), void *owner, mr_error *err);
void *mr_matrix_values(const mr_matrix *matrix); /* NULL for one that is packed for this processor */

size_t mr_matrix_n_out(const mr_matrix *matrix);
size_t mr_matrix_n_in(const mr_matrix *matrix);
mr_dtype mr_matrix_dtype(const mr_matrix *matrix);
size_t mr_matrix_bytes(const mr_matrix *matrix); /* memory held, padding included */

/* One product y[t][r] = (sum_k W[r][k] x[t][k] + bias[r]) + y[t][r] as it was; the latter two only where asked for. y
 * is [n_tokens, ldy]. With `rows`, the product is of n_rows tokens of x instead: token t is rows[t] (0 is the first of
 * x), its result y[t]. */
typedef struct mr_matmul_item {
    const mr_matrix *w;
    const mr_acts *x;
    const float *bias; /* [n_out] or NULL */
    float *y;
    size_t ldy;
    bool accumulate;
    const int32_t *rows; /* [n_rows] or NULL: all n_tokens in order */
    size_t n_rows;
} mr_matmul_item;

/* Products of several matrices, usually with the same input (Q, K and V), as one parallel loop on the whole team: every
 * member calls it with the same arguments. No barrier inside: barrier before (inputs complete) and after (outputs
 * complete) are the caller's. */
void mr_matmul(mr_worker *worker, const mr_matmul_item *items, size_t n_items, size_t n_tokens);

/* Gated activations, act(gate) * up. MR_GLU_SILU_CLAMPED is gpt-oss's: both are clamped to 7 (the gate from above
 * only), the sigmoid is steeper by 1.702, and 1 is added to up. */
typedef enum mr_glu { MR_GLU_SILU, MR_GLU_GELU_TANH, MR_GLU_GELU_ERF, MR_GLU_RELU2, MR_GLU_SILU_CLAMPED } mr_glu;

/* One gated product y[t][r] = act(gate x)[r] * (up x)[r]. gate and up have the same shape (their types may differ,
 * their acts kinds must not). `rows` as above. */
typedef struct mr_glu_item {
    const mr_matrix *gate, *up;
    mr_glu act;
    const mr_acts *x;
    float *y;
    size_t ldy;
    const int32_t *rows;
    size_t n_rows;
} mr_glu_item;

/* As mr_matmul, for gated products. */
void mr_matmul_glu_items(mr_worker *worker, const mr_glu_item *items, size_t n_items, size_t n_tokens);

/* The same for a single one without rows. */
void mr_matmul_glu(mr_worker *worker, const mr_matrix *gate, const mr_matrix *up, mr_glu act, const mr_acts *x,
                   float *y, size_t ldy, size_t n_tokens);

#endif
