/* A made-up SentencePiece vocabulary (the `llama` tokenizer of GGUF files) that encodes any text sensibly: three
 * special tokens, the 256 bytes, single characters, then common words and letter groups, the more common the better
 * their score. */
#ifndef MR_CLI_SYNTH_VOCAB_H
#define MR_CLI_SYNTH_VOCAB_H

#include "base/error.h"
#include "model/gguf_write.h"

#include <stdint.h>

/* Puts tokenizer.ggml.* for a vocabulary of n_vocab tokens (at least 1024) into the writer. Errors: MR_ERR_INVALID,
 * MR_ERR_NOMEM. */
mr_status mr_synth_vocab(mr_gguf_writer *writer, uint32_t n_vocab, mr_error *err);

#endif
