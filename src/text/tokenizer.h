/* Tokenizers: text to token ids and back, equal to the reference implementations on every input.
 *
 * A tokenizer is immutable after loading and may be used from many threads at once. */
#ifndef MR_TEXT_TOKENIZER_H
#define MR_TEXT_TOKENIZER_H

#include "base/buf.h"
#include "base/error.h"
#include "model/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_tokenizer mr_tokenizer;

typedef int32_t mr_token;

/* A growable list of token ids; zero-initialise, free with mr_tokens_free. */
typedef struct mr_tokens {
    mr_token *ids;
    size_t n;
    size_t cap;
} mr_tokens;

void mr_tokens_free(mr_tokens *tokens);
bool mr_tokens_push(mr_tokens *tokens, mr_token id); /* false when memory runs out */

/* Loads the vocabulary in a GGUF's `tokenizer.ggml.*` metadata (models llama, gpt2, t5, bert, …). The GGUF may be
 * closed afterwards. An unknown model or pre-tokenizer is MR_ERR_UNSUPPORTED and lists the known ones. */
mr_status mr_tokenizer_from_gguf(mr_tokenizer **tokenizer, const mr_gguf *gguf, mr_error *err);

/* Loads tokenizer.json (preferred) or tokenizer.model from a Hugging Face model folder, with tokenizer_config.json,
 * special_tokens_map.json and generation_config.json beside it where they exist. `folder` may also name one of the two
 * files itself. */
mr_status mr_tokenizer_from_folder(mr_tokenizer **tokenizer, const char *folder, mr_error *err);

void mr_tokenizer_free(mr_tokenizer *tokenizer);

typedef enum mr_encode_flags {
    MR_ENCODE_SPECIAL_TEXT = 1, /* texts of special/added tokens in the input become those tokens; else plain text */
    MR_ENCODE_ADD_BOS_EOS = 2,  /* add what the vocabulary's add_bos/add_eos (or post-processor) says */
} mr_encode_flags;

/* Appends the ids of text[0..len) to *tokens. text may hold any bytes; invalid UTF-8 is treated as the reference treats
 * it. Errors: MR_ERR_NOMEM, MR_ERR_LIMIT. */
mr_status mr_tokenizer_encode(const mr_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                              mr_tokens *tokens, mr_error *err);

/* Number of ids; valid ids are 0 .. n-1 (some may be unused). */
size_t mr_tokenizer_n_vocab(const mr_tokenizer *tokenizer);

/* Appends the text of ids[0..n) as the reference's decode() gives it; special (control) tokens are left out when
 * skip_special. Ids outside of the vocabulary give nothing. */
mr_status mr_tokenizer_decode(const mr_tokenizer *tokenizer, const mr_token *ids, size_t n, bool skip_special,
                              mr_buf *text, mr_error *err);

/* Special ids, -1 when the vocabulary has none. */
mr_token mr_tokenizer_bos(const mr_tokenizer *tokenizer);
mr_token mr_tokenizer_eos(const mr_tokenizer *tokenizer);
mr_token mr_tokenizer_unk(const mr_tokenizer *tokenizer);
mr_token mr_tokenizer_pad(const mr_tokenizer *tokenizer);
bool mr_tokenizer_add_bos(const mr_tokenizer *tokenizer);
bool mr_tokenizer_add_eos(const mr_tokenizer *tokenizer);

/* Whether the id ends a generation: eos, eot, eom and the known end-of-turn texts (<|im_end|>, <|eot_id|>,
 * <end_of_turn>, <|end|>, …) that are control tokens of the vocabulary. */
bool mr_tokenizer_is_eog(const mr_tokenizer *tokenizer, mr_token id);

/* Whether the id is a control/special token (has no text of its own in an answer). */
bool mr_tokenizer_is_special(const mr_tokenizer *tokenizer, mr_token id);

/* The token's raw bytes as a piece in the middle of a text (byte tokens as their byte, spaces as spaces); *len may be
 * 0. For special tokens their literal text, e.g. "<|im_end|>". Owned by the tokenizer. NULL for an id out of range. */
const char *mr_tokenizer_piece(const mr_tokenizer *tokenizer, mr_token id, size_t *len);

/* The id whose literal text is text[0..len) among special/added tokens, or -1. */
mr_token mr_tokenizer_find_special(const mr_tokenizer *tokenizer, const char *text, size_t len);

/* The same tokenizer's kind for a person, e.g. "BPE (llama3)". */
const char *mr_tokenizer_kind(const mr_tokenizer *tokenizer);

/* A streaming decoder: fed ids one at a time, it emits only whole UTF-8 characters, and the concatenation of what it
 * emits (with mr_detokenizer_finish at the end) equals mr_tokenizer_decode of all ids. */
typedef struct mr_detokenizer mr_detokenizer;

/* prompt_ids[0..n_prompt): ids that came before and are not emitted (they decide whether a leading space is kept). */
mr_detokenizer *mr_detokenizer_new(const mr_tokenizer *tokenizer, const mr_token *prompt_ids, size_t n_prompt,
                                   bool skip_special);
/* Special tokens that are emitted with their text although others are skipped; ids[0..n) is borrowed until the end. */
void mr_detokenizer_keep(mr_detokenizer *stream, const mr_token *ids, size_t n);
mr_status mr_detokenizer_push(mr_detokenizer *stream, mr_token id, mr_buf *text, mr_error *err);
mr_status mr_detokenizer_finish(mr_detokenizer *stream, mr_buf *text, mr_error *err); /* torn bytes become U+FFFD */
void mr_detokenizer_free(mr_detokenizer *stream);

#endif
