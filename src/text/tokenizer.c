#include "text/tokenizer_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

void mr_tokens_free(mr_tokens *tokens) {
    free(tokens->ids);
    *tokens = (mr_tokens){0};
}

bool mr_tokens_push(mr_tokens *tokens, mr_token id) {
    if (tokens->n == tokens->cap) {
        size_t cap = tokens->cap == 0 ? 64 : tokens->cap * 2;
        if (cap > SIZE_MAX / sizeof *tokens->ids) return false;
        mr_token *ids = realloc(tokens->ids, cap * sizeof *ids);
        if (ids == NULL) return false;
        tokens->ids = ids;
        tokens->cap = cap;
    }
    tokens->ids[tokens->n++] = id;
    return true;
}

mr_tokenizer *mr_tokenizer_new(void) {
    mr_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    mr_unicode_init();
    t->bos = t->eos = t->unk = t->pad = -1;
    t->bpe.unk = t->unigram.unk = t->wordpiece.unk = -1;
    return t;
}

void mr_tokenizer_free(mr_tokenizer *t) {
    if (t == NULL) return;
    mr_vocab_free(&t->vocab);
    mr_added_free(&t->added);
    mr_normalizer_free(&t->normalizer);
    mr_pretokenizer_free(&t->pretokenizer);
    mr_bpe_free(&t->bpe);
    mr_unigram_free(&t->unigram);
    mr_decoder_free(&t->decoder);
    mr_tokens_free(&t->around.before);
    mr_tokens_free(&t->around.behind);
    free(t->pieces.bytes);
    free(t->pieces.offset);
    mr_arena_free(&t->arena);
    free(t);
}

/* ---- finishing a tokenizer ---- */

/* "<|end_of_sentence|>" with U+FF5C for the bars and U+2581 for the underlines. */
#define DEEPSEEK_END                                                                                                   \
    "<\xEF\xBD\x9C"                                                                                                    \
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"

/* Texts that end a turn in the chat formats in use; they count when they are control tokens of the vocabulary. */
static const char *const end_of_turn_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<|end_of_text|>",
    "<|return|>",
    "<|call|>",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<turn|>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
    "<|user|>",
    "<|observation|>",
    "[EOS]",
    "[EOT]",
    DEEPSEEK_END,
    "<|endofturn|>",
    "[|endofturn|]",
    "<|role_end|>",
    "<|seed_eos|>",
    "[e~[",
};

/* Texts of the list that end a generation only in the families that make them their end-of-turn token. */
static bool needs_proof(const char *text) {
    return strcmp(text, "<|user|>") == 0 || strcmp(text, "<|observation|>") == 0;
}

static void mark_end_of_generation(mr_tokenizer *t) {
    mr_token endoftext = mr_tokenizer_find_special(t, "<|endoftext|>", 13);
    for (size_t i = 0; i < sizeof end_of_turn_texts / sizeof end_of_turn_texts[0]; i++) {
        const char *text = end_of_turn_texts[i];
        mr_token id = mr_tokenizer_find_special(t, text, strlen(text));
        if (id < 0 || (t->vocab.attr[id] & MR_TOKEN_SPECIAL) == 0) continue;
        /* glm: the next speaker's mark ends the answer; it has [gMASK]. */
        if (needs_proof(text) && (endoftext < 0 || mr_tokenizer_find_special(t, "[gMASK]", 7) < 0)) continue;
        t->vocab.attr[id] |= MR_TOKEN_EOG;
    }
    if (t->eos >= 0) t->vocab.attr[t->eos] |= MR_TOKEN_EOG;
    /* gpt-oss ends messages with <|end|>, which opens the next channel: it does not end the answer there. */
    mr_token end = mr_tokenizer_find_special(t, "<|end|>", 7);
    bool harmony =
        mr_tokenizer_find_special(t, "<|return|>", 10) >= 0 && mr_tokenizer_find_special(t, "<|call|>", 8) >= 0;
    if (end >= 0 && harmony && end != t->eos) t->vocab.attr[end] &= (uint16_t)~MR_TOKEN_EOG;
}

static mr_status build_tries(mr_tokenizer *t, mr_error *err) {
    mr_normalizer_scratch scratch = {0};
    mr_status status = MR_OK;
    for (size_t i = 0; i < t->added.n && status == MR_OK; i++) {
        const mr_added_token *token = &t->added.tokens[i];
        const char *pattern = token->text;
        size_t len = token->len;
        bool at_start = true;
        if (token->normalized && !token->verbatim)
            status = mr_normalizer_run(&t->normalizer, &scratch, &pattern, &len, &at_start, err);
        if (status != MR_OK) break;
        mr_added_trie *trie = token->normalized ? &t->added.normalized : &t->added.raw;
        status = mr_added_trie_insert(trie, pattern, len, (int32_t)i, err);
    }
    mr_normalizer_scratch_free(&scratch);
    return status;
}

/* The strings that mr_tokenizer_piece gives out, where they are not the vocabulary's own. */
static mr_status build_pieces(mr_tokenizer *t, mr_error *err) {
    bool own = t->decoder.n == 0;
    own = own || (t->decoder.n == 1 && t->decoder.ops[0].kind == MR_DECODE_BYTE_LEVEL && t->decoder.ops[0].raw);
    if (own) return MR_OK;
    mr_buf all = {0}, piece = {0};
    t->pieces.offset = malloc((t->vocab.n + 1) * sizeof *t->pieces.offset);
    if (t->pieces.offset == NULL) return mr_fail_nomem(err, t->vocab.n * sizeof *t->pieces.offset, "the vocabulary");
    for (size_t id = 0; id < t->vocab.n; id++) {
        size_t len;
        const char *text = mr_vocab_text(&t->vocab, (mr_token)id, &len);
        t->pieces.offset[id] = (uint32_t)all.len;
        mr_buf_clear(&piece);
        if ((t->vocab.attr[id] & (MR_TOKEN_SPECIAL | MR_TOKEN_BYTE)) == MR_TOKEN_SPECIAL) {
            mr_buf_append(&piece, text, len);
        } else {
            mr_decoder_piece(&t->decoder, text, len, &piece);
        }
        if (piece.failed) all.failed = true;
        mr_buf_append(&all, mr_buf_cstr(&piece), piece.len);
    }
    t->pieces.offset[t->vocab.n] = (uint32_t)all.len;
    mr_buf_free(&piece);
    bool failed = all.failed || all.len > UINT32_MAX;
    t->pieces.bytes = mr_buf_take(&all);
    if (failed || t->pieces.bytes == NULL) return mr_fail_nomem(err, t->vocab.n * 8, "the vocabulary");
    return MR_OK;
}

mr_status mr_tokenizer_finish(mr_tokenizer *t, mr_error *err) {
    mr_status status = build_tries(t, err);
    if (status == MR_OK) status = build_pieces(t, err);
    if (status == MR_OK) mark_end_of_generation(t);
    return status;
}

/* ---- encoding ---- */

mr_status mr_encoder_model(mr_encoder *e, const char *text, size_t len) {
    const mr_tokenizer *t = e->tokenizer;
    switch (t->model) {
    case MR_MODEL_BPE:
        return mr_bpe_encode(&t->bpe, &e->bpe, text, len, e->out, e->err);
    case MR_MODEL_UNIGRAM:
        return mr_unigram_encode(&t->unigram, &e->unigram, text, len, e->out, e->err);
    case MR_MODEL_WORDPIECE:
    case MR_MODEL_WORDLEVEL:
        return mr_wordpiece_encode(&t->wordpiece, text, len, e->out, e->err);
    }
    return MR_ERR_INTERNAL;
}

static mr_status push_id(mr_encoder *e, mr_token id) {
    return mr_tokens_push(e->out, id) ? MR_OK : mr_fail_nomem(e->err, e->out->n * sizeof id, "token ids");
}

/* A part of the raw text without raw added tokens. */
static mr_status encode_part(mr_encoder *e, const char *text, size_t len, bool at_start) {
    const mr_tokenizer *t = e->tokenizer;
    mr_status status = mr_normalizer_run(&t->normalizer, &e->normalizer, &text, &len, &at_start, e->err);
    if (status != MR_OK) return status;
    if (t->added.normalized.n == 0 || t->added.keep_only)
        return len == 0 ? MR_OK : mr_pretokenizer_run(e, text, len, at_start);
    mr_added_walk walk;
    size_t begin, end;
    const mr_added_token *token;
    mr_added_walk_start(&walk, &t->added, &t->added.normalized, e->special_text, text, len);
    while (status == MR_OK && mr_added_walk_next(&walk, &begin, &end, &token)) {
        status = token != NULL ? push_id(e, token->id)
                               : mr_pretokenizer_run(e, text + begin, end - begin, at_start && begin == 0);
    }
    return status;
}

static mr_status encode_text(mr_encoder *e, const char *text, size_t len) {
    const mr_tokenizer *t = e->tokenizer;
    if (t->added.raw.n == 0) return len == 0 ? MR_OK : encode_part(e, text, len, true);
    mr_added_walk walk;
    size_t begin, end;
    const mr_added_token *token;
    mr_status status = MR_OK;
    mr_added_walk_start(&walk, &t->added, &t->added.raw, e->special_text, text, len);
    while (status == MR_OK && mr_added_walk_next(&walk, &begin, &end, &token)) {
        status = token != NULL ? push_id(e, token->id) : encode_part(e, text + begin, end - begin, begin == 0);
    }
    return status;
}

/* Makes malformed text well-formed, with U+FFFD as Python's errors="replace" puts it. */
static bool repair(mr_buf *out, const char *text, size_t len) {
    mr_buf_reserve(out, len + 16);
    for (size_t i = 0; i < len;) {
        uint32_t c;
        char utf8[4];
        i += mr_utf8_decode(text + i, len - i, &c);
        mr_buf_append(out, utf8, mr_utf8_encode(c, utf8));
    }
    return !out->failed;
}

static mr_status push_all(mr_encoder *e, const mr_tokens *ids) {
    for (size_t i = 0; i < ids->n; i++) {
        mr_status status = push_id(e, ids->ids[i]);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

mr_status mr_tokenizer_encode(const mr_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                              mr_tokens *tokens, mr_error *err) {
    if (len > (1u << 30))
        return mr_fail(err, MR_ERR_LIMIT, "a text of %zu bytes is too long to tokenize (at most 1 GiB)", len);
    mr_encoder *e = calloc(1, sizeof *e);
    if (e == NULL) return mr_fail_nomem(err, sizeof *e, "tokenizing a text");
    e->tokenizer = tokenizer;
    e->out = tokens;
    e->err = err;
    e->special_text = (flags & MR_ENCODE_SPECIAL_TEXT) != 0;
    if (tokenizer->model == MR_MODEL_BPE) mr_bpe_scratch_init(&e->bpe, len);
    mr_status status = MR_OK;
    if (!mr_unicode_is_well_formed(text, len)) {
        if (!repair(&e->repaired, text, len)) status = mr_fail_nomem(err, len, "tokenizing a text");
        text = e->repaired.data;
        len = e->repaired.len;
    }
    bool around = (flags & MR_ENCODE_ADD_BOS_EOS) != 0;
    if (status == MR_OK && around) status = push_all(e, &tokenizer->around.before);
    if (status == MR_OK) status = encode_text(e, text, len);
    if (status == MR_OK && around) status = push_all(e, &tokenizer->around.behind);
    mr_regex_scratch_free(&e->regex);
    mr_bpe_scratch_free(&e->bpe);
    mr_unigram_scratch_free(&e->unigram);
    mr_normalizer_scratch_free(&e->normalizer);
    mr_buf_free(&e->repaired);
    for (size_t i = 0; i < MR_PRETOKENIZER_MAX_STAGES; i++) mr_buf_free(&e->stage_text[i]);
    free(e);
    return status;
}

/* ---- asking ---- */

size_t mr_tokenizer_n_vocab(const mr_tokenizer *t) {
    return t->vocab.n;
}

mr_token mr_tokenizer_bos(const mr_tokenizer *t) {
    return t->bos;
}

mr_token mr_tokenizer_eos(const mr_tokenizer *t) {
    return t->eos;
}

mr_token mr_tokenizer_unk(const mr_tokenizer *t) {
    return t->unk;
}

mr_token mr_tokenizer_pad(const mr_tokenizer *t) {
    return t->pad;
}

bool mr_tokenizer_add_bos(const mr_tokenizer *t) {
    return t->add_bos;
}

bool mr_tokenizer_add_eos(const mr_tokenizer *t) {
    return t->add_eos;
}

static bool has_attr(const mr_tokenizer *t, mr_token id, uint16_t attr) {
    return id >= 0 && (size_t)id < t->vocab.n && (t->vocab.attr[id] & attr) != 0;
}

bool mr_tokenizer_is_eog(const mr_tokenizer *t, mr_token id) {
    return has_attr(t, id, MR_TOKEN_EOG);
}

bool mr_tokenizer_is_special(const mr_tokenizer *t, mr_token id) {
    return has_attr(t, id, MR_TOKEN_SPECIAL);
}

const char *mr_tokenizer_piece(const mr_tokenizer *t, mr_token id, size_t *len) {
    *len = 0;
    if (id < 0 || (size_t)id >= t->vocab.n) return NULL;
    if (t->pieces.offset == NULL) return mr_vocab_text(&t->vocab, id, len);
    *len = t->pieces.offset[id + 1] - t->pieces.offset[id];
    return t->pieces.bytes + t->pieces.offset[id];
}

mr_token mr_tokenizer_find_special(const mr_tokenizer *t, const char *text, size_t len) {
    for (size_t i = t->added.n; i > 0; i--) {
        const mr_added_token *token = &t->added.tokens[i - 1];
        if (token->len == len && memcmp(token->text, text, len) == 0) return token->id;
    }
    return -1;
}

const char *mr_tokenizer_kind(const mr_tokenizer *t) {
    return t->kind;
}
