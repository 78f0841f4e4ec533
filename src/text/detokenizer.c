#include "text/detokenizer.h"

#include "base/utf8.h"
#include "text/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

/* Where an operation stands in the stream. */
typedef struct op_state {
    size_t n_tokens; /* that came in */
    mr_buf held;     /* bytes or strings that wait for what follows */
    bool holding;
    size_t stripped; /* STRIP of a fused text: characters cut so far; SIZE_MAX when done */
} op_state;

struct mr_detokenizer {
    const mr_tokenizer *tokenizer;
    bool skip_special;
    const mr_token *keep; /* [n_keep], special tokens that are not skipped */
    size_t n_keep;
    op_state states[MR_DECODER_MAX_OPS];
    mr_buf work[MR_DECODER_MAX_OPS]; /* output of an operation that rewrites a token */
    mr_buf *out;                     /* where text goes at the moment; NULL: nowhere (prompt tokens) */
    char tail[4];                    /* bytes of a character that is not complete */
    size_t n_tail;
    mr_regex_scratch regex; /* of all REPLACE operations */
    bool failed;
};

mr_status mr_decoder_add(mr_decoder *decoder, mr_decoder_op op, mr_error *err) {
    if (decoder->n == MR_DECODER_MAX_OPS) {
        mr_regex_free(op.regex);
        return mr_fail(err, MR_ERR_LIMIT, "the decoder has more than %d operations", MR_DECODER_MAX_OPS);
    }
    decoder->ops[decoder->n++] = op;
    return MR_OK;
}

void mr_decoder_free(mr_decoder *decoder) {
    for (size_t i = 0; i < decoder->n; i++) mr_regex_free(decoder->ops[i].regex);
    decoder->n = 0;
}

/* Replaces every `from` in buf by `to`, which is not longer. */
static void replace_shrinking(mr_buf *buf, const char *from, size_t n_from, const char *to, size_t n_to) {
    if (n_from == 0 || buf->len < n_from) return;
    size_t out = 0;
    for (size_t i = 0; i < buf->len;) {
        if (buf->len - i >= n_from && memcmp(buf->data + i, from, n_from) == 0) {
            memcpy(buf->data + out, to, n_to);
            out += n_to;
            i += n_from;
        } else {
            buf->data[out++] = buf->data[i++];
        }
    }
    buf->len = out;
    buf->data[out] = '\0';
}

void mr_decoder_cleanup(mr_buf *text) {
    static const char *const rules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        replace_shrinking(text, rules[i][0], strlen(rules[i][0]), rules[i][1], strlen(rules[i][1]));
    }
}

/* ---- the end of the stream: whole characters only ---- */

static void put(mr_detokenizer *d, const char *bytes, size_t n) {
    if (d->out == NULL || n == 0) return;
    mr_buf_append(d->out, bytes, n);
}

/* Gives out the characters of bytes[0..n), malformed ones as U+FFFD; returns how many bytes at the end are the
 * beginning of a character that may still come. */
static size_t put_characters(mr_detokenizer *d, const char *bytes, size_t n) {
    size_t torn = mr_utf8_incomplete_tail(bytes, n), end = n - torn, good = 0;
    for (size_t at = 0; at < end;) {
        uint32_t c;
        bool valid;
        size_t width = mr_utf8_decode_checked(bytes + at, end - at, &c, &valid);
        if (!valid) {
            put(d, bytes + good, at - good);
            put(d, "\xEF\xBF\xBD", 3);
            good = at + width;
        }
        at += width;
    }
    put(d, bytes + good, end - good);
    return torn;
}

static void sink(mr_detokenizer *d, const char *bytes, size_t n) {
    while (d->n_tail > 0 && n > 0) { /* complete the torn character first, byte by byte */
        char joined[5];
        memcpy(joined, d->tail, d->n_tail);
        joined[d->n_tail] = *bytes++;
        n--;
        size_t torn = put_characters(d, joined, d->n_tail + 1);
        memmove(d->tail, joined + d->n_tail + 1 - torn, torn);
        d->n_tail = torn;
    }
    if (n == 0) return;
    size_t torn = put_characters(d, bytes, n);
    memcpy(d->tail, bytes + n - torn, torn);
    d->n_tail = torn;
}

/* ---- operations ---- */

static void feed(mr_detokenizer *d, size_t k, const char *text, size_t len);

static void hold(mr_detokenizer *d, op_state *state, const char *text, size_t len) {
    if (!mr_buf_append(&state->held, text, len) && len > 0) d->failed = true;
    state->holding = true;
}

static void feed_byte_level(mr_detokenizer *d, size_t k, const char *text, size_t len) {
    const mr_decoder *decoder = &d->tokenizer->decoder;
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    size_t n = len;
    if (!decoder->ops[k].raw && mr_buf_reserve(out, len) && mr_byte_level_decode(text, len, out->data, &n)) {
        text = out->data;
    } else {
        n = len;
    }
    if (k + 1 == decoder->n) {
        sink(d, text, n);
    } else {
        hold(d, &d->states[k], text, n);
    }
}

static void feed_metaspace(mr_detokenizer *d, size_t k, const char *text, size_t len, bool first) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    for (size_t i = 0; i < len;) {
        if (len - i >= op->len && memcmp(text + i, op->text, op->len) == 0) {
            if (!first || op->keep_first) mr_buf_putc(out, ' ');
            i += op->len;
        } else {
            mr_buf_putc(out, text[i++]);
        }
    }
    d->failed = d->failed || out->failed;
    feed(d, k + 1, mr_buf_cstr(out), out->len);
}

static void feed_wordpiece(mr_detokenizer *d, size_t k, const char *text, size_t len, bool first) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    if (first) {
        mr_buf_append(out, text, len);
    } else if (len >= op->len && memcmp(text, op->text, op->len) == 0) {
        mr_buf_append(out, text + op->len, len - op->len);
    } else {
        mr_buf_putc(out, ' ');
        mr_buf_append(out, text, len);
    }
    if (op->cleanup) mr_decoder_cleanup(out);
    d->failed = d->failed || out->failed;
    feed(d, k + 1, mr_buf_cstr(out), out->len);
}

/* The token before is known to have a successor now: its suffix is a space. */
static void release_bpe(mr_detokenizer *d, size_t k, const char *replacement) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    op_state *state = &d->states[k];
    if (!state->holding) return;
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    const char *text = mr_buf_cstr(&state->held);
    for (size_t i = 0; i < state->held.len;) {
        if (op->len > 0 && state->held.len - i >= op->len && memcmp(text + i, op->text, op->len) == 0) {
            mr_buf_puts(out, replacement);
            i += op->len;
        } else {
            mr_buf_putc(out, text[i++]);
        }
    }
    d->failed = d->failed || out->failed;
    state->holding = false;
    mr_buf_clear(&state->held);
    feed(d, k + 1, mr_buf_cstr(out), out->len);
}

/* The bytes of a run of byte tokens: a text if it is one, else a U+FFFD for each. */
static void release_bytes(mr_detokenizer *d, size_t k) {
    op_state *state = &d->states[k];
    if (!state->holding) return;
    state->holding = false;
    if (mr_utf8_valid(mr_buf_cstr(&state->held), state->held.len)) {
        feed(d, k + 1, mr_buf_cstr(&state->held), state->held.len);
    } else {
        for (size_t i = 0; i < state->held.len; i++) feed(d, k + 1, "\xEF\xBF\xBD", 3);
    }
    mr_buf_clear(&state->held);
}

static size_t strip_left(const mr_decoder_op *op, const char *text, size_t len, size_t most) {
    size_t cut = 0;
    while (cut < most && len - cut * op->len >= op->len && memcmp(text + cut * op->len, op->text, op->len) == 0) cut++;
    return cut;
}

static void feed_strip(mr_detokenizer *d, size_t k, const char *text, size_t len, bool fused) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    if (op->len == 0) {
        feed(d, k + 1, text, len);
        return;
    }
    op_state *state = &d->states[k];
    size_t done = fused ? state->stripped : 0;
    size_t cut = done > op->start ? 0 : strip_left(op, text, len, op->start - done);
    text += cut * op->len;
    len -= cut * op->len;
    if (fused) state->stripped = len > 0 ? SIZE_MAX : state->stripped + cut;
    for (size_t i = 0; i < op->stop && len >= op->len && memcmp(text + len - op->len, op->text, op->len) == 0; i++) {
        len -= op->len;
    }
    feed(d, k + 1, text, len);
}

static void feed_replace(mr_detokenizer *d, size_t k, const char *text, size_t len) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    mr_regex_iter iter = {0};
    size_t at = 0, begin, end;
    for (;;) {
        if (op->regex != NULL) {
            if (mr_regex_next(op->regex, &d->regex, text, len, &iter, &begin, &end) != MR_REGEX_FOUND) break;
        } else {
            begin = at;
            while (op->len > 0 && len - begin >= op->len && memcmp(text + begin, op->text, op->len) != 0) begin++;
            if (op->len == 0 || len - begin < op->len) break;
            end = begin + op->len;
        }
        mr_buf_append(out, text + at, begin - at);
        mr_buf_append(out, op->content, op->content_len);
        at = end;
    }
    mr_buf_append(out, text + at, len - at);
    d->failed = d->failed || out->failed;
    feed(d, k + 1, mr_buf_cstr(out), out->len);
}

/* Repeated tokens count once, the pad token is nothing, the delimiter is a space. */
static void feed_ctc(mr_detokenizer *d, size_t k, const char *text, size_t len, bool first) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    op_state *state = &d->states[k];
    if (!first && state->held.len == len && memcmp(mr_buf_cstr(&state->held), text, len) == 0) return;
    mr_buf_clear(&state->held);
    if (!mr_buf_append(&state->held, text, len) && len > 0) d->failed = true;
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    mr_buf_append(out, text, len);
    replace_shrinking(out, op->text, op->len, "", 0);
    if (op->cleanup) {
        mr_decoder_cleanup(out);
        if (op->content_len > 0) replace_shrinking(out, op->content, op->content_len, " ", 1);
    }
    d->failed = d->failed || out->failed;
    if (out->len > 0) feed(d, k + 1, out->data, out->len);
}

/* Gives out the characters that the held bytes make; a byte that belongs to none is a U+FFFD. With `all` nothing is
 * kept back for bytes to come. */
static void release_characters(mr_detokenizer *d, size_t k, bool all) {
    op_state *state = &d->states[k];
    size_t at = 0, n = state->held.len;
    while (at < n) {
        uint32_t c;
        bool valid;
        const char *bytes = state->held.data + at;
        size_t width = mr_utf8_decode_checked(bytes, n - at, &c, &valid);
        if (!valid && !all && mr_utf8_incomplete_tail(bytes, n - at) == n - at) break;
        if (valid) {
            feed(d, k + 1, bytes, width);
        } else {
            feed(d, k + 1, "\xEF\xBF\xBD", 3);
        }
        at += valid ? width : 1;
        state->stripped = SIZE_MAX;
    }
    if (at == 0) return;
    memmove(state->held.data, state->held.data + at, n - at);
    state->held.len = n - at;
}

static void feed_sentencepiece(mr_detokenizer *d, size_t k, const char *text, size_t len) {
    const mr_decoder_op *op = &d->tokenizer->decoder.ops[k];
    op_state *state = &d->states[k];
    int byte = mr_byte_token_value(text, len);
    if (byte >= 0) {
        char c = (char)byte;
        hold(d, state, &c, 1);
        release_characters(d, k, false);
        return;
    }
    release_characters(d, k, true);
    bool at_start = state->stripped != SIZE_MAX, mark = len >= op->len && memcmp(text, op->text, op->len) == 0;
    if (at_start && mark && (op->strip_one || op->strip_all)) {
        text += op->len;
        len -= op->len;
        if (!op->strip_all) state->stripped = SIZE_MAX;
    }
    if (len == 0) return;
    state->stripped = SIZE_MAX;
    mr_buf *out = &d->work[k];
    mr_buf_clear(out);
    for (size_t i = 0; i < len;) {
        mark = len - i >= op->len && memcmp(text + i, op->text, op->len) == 0;
        mr_buf_putc(out, mark ? ' ' : text[i]);
        i += mark ? op->len : 1;
    }
    d->failed = d->failed || out->failed;
    feed(d, k + 1, mr_buf_cstr(out), out->len);
}

/* Whether operation k receives one text in parts instead of tokens. */
static bool is_fused(const mr_decoder *decoder, size_t k) {
    return k > 0 && decoder->ops[k - 1].kind == MR_DECODE_FUSE;
}

/* Whether what stands behind a fuse at k can be done on parts of the fused text. */
static bool can_stream(const mr_decoder *decoder, size_t k) {
    return k + 1 == decoder->n ||
           (k + 2 == decoder->n && decoder->ops[k + 1].kind == MR_DECODE_STRIP && decoder->ops[k + 1].stop == 0);
}

/* One string comes to operation k. */
static void feed(mr_detokenizer *d, size_t k, const char *text, size_t len) {
    const mr_decoder *decoder = &d->tokenizer->decoder;
    if (k == decoder->n) {
        sink(d, text, len);
        return;
    }
    const mr_decoder_op *op = &decoder->ops[k];
    op_state *state = &d->states[k];
    bool first = state->n_tokens++ == 0;
    switch (op->kind) {
    case MR_DECODE_BYTE_LEVEL:
        feed_byte_level(d, k, text, len);
        break;
    case MR_DECODE_METASPACE:
        feed_metaspace(d, k, text, len, first);
        break;
    case MR_DECODE_WORDPIECE:
        feed_wordpiece(d, k, text, len, first);
        break;
    case MR_DECODE_BPE:
        release_bpe(d, k, " ");
        hold(d, state, text, len);
        break;
    case MR_DECODE_BYTE_FALLBACK: {
        int byte = mr_byte_token_value(text, len);
        if (byte < 0) {
            release_bytes(d, k);
            feed(d, k + 1, text, len);
        } else {
            char c = (char)byte;
            hold(d, state, &c, 1);
        }
        break;
    }
    case MR_DECODE_SENTENCEPIECE:
        feed_sentencepiece(d, k, text, len);
        break;
    case MR_DECODE_FUSE:
        if (can_stream(decoder, k)) {
            feed(d, k + 1, text, len);
        } else {
            hold(d, state, text, len);
        }
        break;
    case MR_DECODE_STRIP:
        feed_strip(d, k, text, len, is_fused(decoder, k) && can_stream(decoder, k - 1));
        break;
    case MR_DECODE_REPLACE:
        feed_replace(d, k, text, len);
        break;
    case MR_DECODE_CTC:
        feed_ctc(d, k, text, len, first);
        break;
    case MR_DECODE_JOIN_SPACE:
        if (!first) feed(d, k + 1, " ", 1);
        feed(d, k + 1, text, len);
        break;
    }
}

/* A text that an operation held back as bytes becomes one string, malformed parts as U+FFFD. */
static void release_fused(mr_detokenizer *d, size_t k) {
    op_state *state = &d->states[k];
    mr_buf text = {0}, *outer = d->out;
    const char *bytes = mr_buf_cstr(&state->held);
    d->out = &text;
    size_t torn = put_characters(d, bytes, state->held.len);
    if (torn > 0) put(d, "\xEF\xBF\xBD", 3);
    d->out = outer;
    d->failed = d->failed || text.failed;
    state->holding = false;
    feed(d, k + 1, mr_buf_cstr(&text), text.len);
    mr_buf_free(&text);
}

/* The stream is over: each operation gives out what it holds. */
static void flush(mr_detokenizer *d) {
    const mr_decoder *decoder = &d->tokenizer->decoder;
    for (size_t k = 0; k < decoder->n; k++) {
        switch (decoder->ops[k].kind) {
        case MR_DECODE_BPE:
            release_bpe(d, k, "");
            break;
        case MR_DECODE_BYTE_FALLBACK:
            release_bytes(d, k);
            break;
        case MR_DECODE_SENTENCEPIECE:
            release_characters(d, k, true);
            break;
        case MR_DECODE_FUSE:
        case MR_DECODE_BYTE_LEVEL:
            if (d->states[k].holding) release_fused(d, k);
            break;
        default:
            break;
        }
    }
    if (d->n_tail > 0) put(d, "\xEF\xBF\xBD", 3);
    d->n_tail = 0;
}

void mr_decoder_piece(const mr_decoder *decoder, const char *text, size_t len, mr_buf *out) {
    mr_buf next = {0};
    mr_buf_append(out, text, len);
    for (size_t k = 0; k < decoder->n; k++) {
        const mr_decoder_op *op = &decoder->ops[k];
        int byte;
        switch (op->kind) {
        case MR_DECODE_METASPACE:
        case MR_DECODE_SENTENCEPIECE:
        case MR_DECODE_REPLACE:
            if (op->kind == MR_DECODE_SENTENCEPIECE && (byte = mr_byte_token_value(mr_buf_cstr(out), out->len)) >= 0) {
                mr_buf_clear(out);
                mr_buf_putc(out, (char)byte);
                break;
            }
            if (op->regex != NULL || op->len == 0) break;
            mr_buf_clear(&next);
            for (size_t i = 0; i < out->len;) {
                if (out->len - i >= op->len && memcmp(out->data + i, op->text, op->len) == 0) {
                    bool mark = op->kind != MR_DECODE_REPLACE;
                    mr_buf_append(&next, mark ? " " : op->content, mark ? 1 : op->content_len);
                    i += op->len;
                } else {
                    mr_buf_putc(&next, out->data[i++]);
                }
            }
            mr_buf_clear(out);
            mr_buf_append(out, mr_buf_cstr(&next), next.len);
            break;
        case MR_DECODE_WORDPIECE:
            mr_buf_clear(&next);
            if (out->len >= op->len && memcmp(mr_buf_cstr(out), op->text, op->len) == 0) {
                mr_buf_append(&next, out->data + op->len, out->len - op->len);
            } else {
                mr_buf_putc(&next, ' ');
                mr_buf_append(&next, mr_buf_cstr(out), out->len);
            }
            mr_buf_clear(out);
            mr_buf_append(out, mr_buf_cstr(&next), next.len);
            break;
        case MR_DECODE_BPE:
            replace_shrinking(out, op->text, op->len, " ", op->len > 0 ? 1 : 0);
            break;
        case MR_DECODE_BYTE_FALLBACK:
            byte = mr_byte_token_value(mr_buf_cstr(out), out->len);
            if (byte >= 0) {
                mr_buf_clear(out);
                mr_buf_putc(out, (char)byte);
            }
            break;
        case MR_DECODE_BYTE_LEVEL:
            if (!op->raw && mr_buf_reserve(&next, out->len + 1)) {
                size_t n;
                if (mr_byte_level_decode(mr_buf_cstr(out), out->len, next.data, &n)) {
                    mr_buf_clear(out);
                    mr_buf_append(out, next.data, n);
                }
            }
            break;
        default:
            break;
        }
    }
    if (next.failed) out->failed = true;
    mr_buf_free(&next);
}

/* ---- public ---- */

static bool is_kept(const mr_detokenizer *d, mr_token id) {
    for (size_t i = 0; i < d->n_keep; i++) {
        if (d->keep[i] == id) return true;
    }
    return false;
}

static void push_id(mr_detokenizer *d, mr_token id) {
    const mr_tokenizer *t = d->tokenizer;
    if (id < 0 || (size_t)id >= t->vocab.n) return;
    uint16_t attr = t->vocab.attr[id];
    if ((attr & MR_TOKEN_EXISTS) == 0) return;
    if (d->skip_special && (attr & MR_TOKEN_SPECIAL) != 0 && !is_kept(d, id)) return;
    size_t len;
    const char *text = mr_vocab_text(&t->vocab, id, &len);
    for (size_t i = 0; (attr & MR_TOKEN_RENAMED) != 0 && i < t->n_renamed; i++) {
        if (t->renamed[i].id != id) continue;
        text = t->renamed[i].text;
        len = t->renamed[i].len;
    }
    feed(d, 0, text, len);
}

mr_detokenizer *mr_detokenizer_new(const mr_tokenizer *tokenizer, const mr_token *prompt_ids, size_t n_prompt,
                                   bool skip_special) {
    mr_detokenizer *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->tokenizer = tokenizer;
    d->skip_special = skip_special;
    /* Only whether something came before matters, and bytes of a character that the prompt left torn. */
    size_t first = n_prompt > 16 ? n_prompt - 16 : 0;
    for (size_t i = first; i < n_prompt; i++) push_id(d, prompt_ids[i]);
    return d;
}

void mr_detokenizer_keep(mr_detokenizer *stream, const mr_token *ids, size_t n) {
    stream->keep = ids;
    stream->n_keep = n;
}

mr_status mr_detokenizer_push(mr_detokenizer *stream, mr_token id, mr_buf *text, mr_error *err) {
    stream->out = text;
    push_id(stream, id);
    stream->out = NULL;
    return stream->failed || text->failed ? mr_fail_nomem(err, text->len, "decoding tokens") : MR_OK;
}

mr_status mr_detokenizer_finish(mr_detokenizer *stream, mr_buf *text, mr_error *err) {
    stream->out = text;
    flush(stream);
    stream->out = NULL;
    return stream->failed || text->failed ? mr_fail_nomem(err, text->len, "decoding tokens") : MR_OK;
}

void mr_detokenizer_free(mr_detokenizer *stream) {
    if (stream == NULL) return;
    for (size_t i = 0; i < MR_DECODER_MAX_OPS; i++) {
        mr_buf_free(&stream->states[i].held);
        mr_buf_free(&stream->work[i]);
    }
    mr_regex_scratch_free(&stream->regex);
    free(stream);
}

mr_status mr_tokenizer_decode(const mr_tokenizer *tokenizer, const mr_token *ids, size_t n, bool skip_special,
                              mr_buf *text, mr_error *err) {
    mr_detokenizer *d = mr_detokenizer_new(tokenizer, NULL, 0, skip_special);
    if (d == NULL) return mr_fail_nomem(err, sizeof *d, "decoding tokens");
    d->out = text;
    for (size_t i = 0; i < n; i++) push_id(d, ids[i]);
    mr_status status = mr_detokenizer_finish(d, text, err);
    mr_detokenizer_free(d);
    return status;
}
