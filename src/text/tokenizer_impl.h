/* The parts of a tokenizer and how they fit together. Text goes down this list, ids come out at its end:
 *
 *   added tokens in the raw text → normalizer → added tokens in the normalized text → pre-tokenizer → model
 *   → post-processor
 *
 * which is Hugging Face's order; the llama.cpp kinds are expressed in it. */
#ifndef MR_TEXT_TOKENIZER_IMPL_H
#define MR_TEXT_TOKENIZER_IMPL_H

#include "base/arena.h"
#include "text/bpe.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_added.h"
#include "text/tokenizer_vocab.h"
#include "text/unicode.h"
#include "text/unigram.h"
#include "text/wordpiece.h"

typedef enum mr_model_kind { MR_MODEL_BPE, MR_MODEL_UNIGRAM, MR_MODEL_WORDPIECE, MR_MODEL_WORDLEVEL } mr_model_kind;

/* What a post-processor puts around the text: ids before and behind it. */
typedef struct mr_template {
    mr_tokens before, behind;
} mr_template;

/* Strings of all ids, one behind the other; offset has n + 1 entries. */
typedef struct mr_piece_list {
    char *bytes;
    uint32_t *offset;
} mr_piece_list;

/* A token that decodes to another text than the vocabulary has for it. */
typedef struct mr_renamed {
    mr_token id;
    const char *text;
    size_t len;
} mr_renamed;

struct mr_tokenizer {
    mr_arena arena; /* strings and lists that live as long as the tokenizer */
    mr_vocab vocab;
    mr_added_tokens added;
    mr_normalizer normalizer;
    mr_pretokenizer pretokenizer;
    mr_model_kind model;
    mr_bpe bpe;
    mr_unigram unigram;
    mr_wordpiece wordpiece; /* also WordLevel */
    mr_template around;
    mr_decoder decoder;
    mr_piece_list pieces; /* empty: the vocabulary's strings are the pieces */
    mr_renamed *renamed;  /* in the arena */
    size_t n_renamed;
    mr_token bos, eos, unk, pad;
    bool add_bos, add_eos;
    char kind[64];
};

/* What one call of encode needs; reused from piece to piece. */
struct mr_encoder {
    const mr_tokenizer *tokenizer;
    mr_tokens *out;
    mr_error *err;
    bool special_text; /* special tokens' texts become those tokens */
    mr_regex_scratch regex;
    mr_bpe_scratch bpe;
    mr_unigram_scratch unigram;
    mr_buf repaired;
    mr_normalizer_scratch normalizer;
    mr_buf stage_text[MR_PRETOKENIZER_MAX_STAGES];
};

/* A tokenizer without parts; NULL when memory runs out. */
mr_tokenizer *mr_tokenizer_new(void);

/* Builds what follows from the parts: added-token matchers, piece texts, end-of-generation marks. Called once by a
 * loader when all parts are set. */
mr_status mr_tokenizer_finish(mr_tokenizer *tokenizer, mr_error *err);

/* Tokenizes one pre-token with the model; called by the pre-tokenizer. */
mr_status mr_encoder_model(mr_encoder *encoder, const char *text, size_t len);

#endif
