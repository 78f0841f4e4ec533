/* How much memory a model takes, as a table for a person. */
#ifndef MR_CLI_INSPECT_FIT_H
#define MR_CLI_INSPECT_FIT_H

#include "base/error.h"
#include "model/gguf.h"

/* Prints to stdout what the weights take as they are and in every mix, what keys and values take for `n_sequences`
 * sequences of several contexts (of n_ctx alone when that is not 0), and which of it fits into this machine's memory.
 */
mr_status mr_inspect_fit(const mr_gguf *gguf, long n_ctx, long n_sequences, mr_error *err);

#endif
