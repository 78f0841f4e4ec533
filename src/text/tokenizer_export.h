/* From a tokenizer to the `tokenizer.ggml.*` keys of a GGUF file
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer). */
#ifndef MR_TEXT_TOKENIZER_EXPORT_H
#define MR_TEXT_TOKENIZER_EXPORT_H

#include "base/error.h"
#include "model/gguf_write.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

/* Puts the vocabulary, made up to n_rows ids (rows of the embedding) with unused ones: byte-level BPE as "gpt2" with
 * its merges, other BPE as "llama" with scores, Unigram as "t5", WordPiece as "bert". `pre` is the tokenizer.ggml.pre
 * to write for byte-level BPE; NULL finds the one that cuts a text of many scripts as the tokenizer does. Errors:
 * MR_ERR_UNSUPPORTED when the format cannot say what the tokenizer does, MR_ERR_INVALID when it has more ids than
 * n_rows, MR_ERR_NOMEM. */
mr_status mr_tokenizer_put_gguf(const mr_tokenizer *tokenizer, size_t n_rows, const char *pre, mr_gguf_writer *writer,
                                mr_error *err);

/* Whether both make the same ids of a text of many scripts, numbers, spaces and symbols. */
mr_status mr_tokenizer_agree(const mr_tokenizer *a, const mr_tokenizer *b, bool *agree, mr_error *err);

/* Puts the templates that are not the fallback. */
void mr_chat_template_put_gguf(const mr_chat_template *chat, mr_gguf_writer *writer);

#endif
