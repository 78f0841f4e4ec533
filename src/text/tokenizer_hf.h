/* The parts of a Hugging Face tokenizer.json (https://github.com/huggingface/tokenizers): its loaders, for
 * tokenizer_hf.c. */
#ifndef MR_TEXT_TOKENIZER_HF_H
#define MR_TEXT_TOKENIZER_HF_H

#include "text/tokenizer_impl.h"
#include "text/tokenizer_json.h"

/* Reads tokenizer.json's text[0..len), which is changed; the tokenizer is not finished yet. */
mr_status mr_tokenizer_read_json(mr_tokenizer *tokenizer, char *text, size_t len, mr_error *err);

/* Reads tokenizer.model's bytes (a SentencePiece ModelProto). extra[0..n_extra) are added tokens from files beside it,
 * with their ids; their texts are in the tokenizer's arena. */
mr_status mr_tokenizer_read_sentencepiece(mr_tokenizer *tokenizer, const char *bytes, size_t len,
                                          const mr_added_token *extra, size_t n_extra, mr_error *err);

/* What the parts need to know: strings are copied to the tokenizer's arena. */
mr_status mr_hf_normalizer(mr_tokenizer *tokenizer, const mr_json_value *json, mr_error *err);
mr_status mr_hf_pretokenizer(mr_tokenizer *tokenizer, const mr_json_value *json, mr_error *err);
mr_status mr_hf_decoder(mr_tokenizer *tokenizer, const mr_json_value *json, mr_error *err);
mr_status mr_hf_post_processor(mr_tokenizer *tokenizer, const mr_json_value *json, mr_error *err);

/* A copy of a JSON string in the tokenizer's arena. */
mr_status mr_hf_text(mr_tokenizer *tokenizer, const mr_json_value *json, const char *what, const char **text,
                     size_t *len, mr_error *err);

#endif
