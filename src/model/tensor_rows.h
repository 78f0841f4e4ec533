/* The rows of a tensor, wherever they come from. */
#ifndef MR_MODEL_TENSOR_ROWS_H
#define MR_MODEL_TENSOR_ROWS_H

#include "base/error.h"
#include "compute/team.h"
#include "model/gguf.h"

#include <stddef.h>
#include <stdint.h>

/* `rows` is valid until mr_tensor_rows_free, which frees what was made for it. */
typedef struct mr_tensor_rows {
    const uint8_t *rows;
    uint8_t *made;
} mr_tensor_rows;

/* Rows [first, first + n) of `row_bytes` each: in place where the tensor has data, else made in parallel on the team
 * (NULL: on this thread). Errors: MR_ERR_NOMEM, MR_ERR_INVALID when stored values are not finite. */
mr_status mr_tensor_rows_get(const mr_gguf_tensor *tensor, size_t first, size_t n, size_t row_bytes, mr_team *team,
                             mr_tensor_rows *rows, mr_error *err);
void mr_tensor_rows_free(mr_tensor_rows *rows);

#endif
