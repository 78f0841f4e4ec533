/* tokenizer.model: SentencePiece's ModelProto (https://github.com/google/sentencepiece, sentencepiece_model.proto),
 * read field by field from the protobuf wire format. Unknown fields are skipped. */
#include "text/tokenizer_hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SentencePiece.Type */
enum { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER_DEFINED, PIECE_UNUSED, PIECE_BYTE };
/* TrainerSpec.ModelType */
enum { MODEL_UNIGRAM = 1, MODEL_BPE };
enum { PIECE_ADDED = 0 }; /* not of the model */

static const char SPACE_MARK[] = "\xE2\x96\x81";

typedef struct wire {
    const uint8_t *at, *end;
    bool broken;
} wire;

typedef struct field {
    uint32_t number, type;
    uint64_t value;   /* varint and fixed */
    const char *data; /* length-delimited */
    size_t len;
} field;

static uint64_t read_varint(wire *w) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (w->at == w->end) break;
        uint8_t byte = *w->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
    }
    w->broken = true;
    return 0;
}

static uint64_t read_fixed(wire *w, size_t n) {
    uint64_t value = 0;
    if ((size_t)(w->end - w->at) < n) {
        w->broken = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++) value |= (uint64_t)w->at[i] << (8 * i);
    w->at += n;
    return value;
}

/* The next field; false at the end and when the message is broken. */
static bool next_field(wire *w, field *f) {
    if (w->at == w->end || w->broken) return false;
    uint64_t tag = read_varint(w);
    *f = (field){.number = (uint32_t)(tag >> 3), .type = (uint32_t)(tag & 7)};
    switch (f->type) {
    case 0:
        f->value = read_varint(w);
        break;
    case 1:
        f->value = read_fixed(w, 8);
        break;
    case 5:
        f->value = read_fixed(w, 4);
        break;
    case 2: {
        uint64_t len = read_varint(w);
        if (len > (uint64_t)(w->end - w->at)) {
            w->broken = true;
            break;
        }
        f->data = (const char *)w->at;
        f->len = (size_t)len;
        w->at += len;
        break;
    }
    default:
        w->broken = true;
    }
    return !w->broken;
}

static wire message(const char *data, size_t len) {
    return (wire){.at = (const uint8_t *)data, .end = (const uint8_t *)data + len};
}

typedef struct model {
    mr_tokenizer *t;
    mr_error *err;
    mr_vocab_item *items;
    float *scores;
    uint8_t *types;
    size_t n, cap;
    uint64_t kind;
    int32_t unk, bos, eos, pad;
    bool byte_fallback, suffix_space;
    const char *unk_surface;
    size_t unk_surface_len;
    mr_step normalizer;
    const char *map;
    size_t map_len;
} model;

static mr_status grow(model *m) {
    if (m->n < m->cap) return MR_OK;
    size_t cap = m->cap == 0 ? 4096 : m->cap * 2;
    if (cap > 2 * (size_t)MR_VOCAB_MAX) return mr_fail(m->err, MR_ERR_LIMIT, "tokenizer.model has too many pieces");
    mr_vocab_item *items = realloc(m->items, cap * sizeof *items);
    if (items != NULL) m->items = items;
    float *scores = realloc(m->scores, cap * sizeof *scores);
    if (scores != NULL) m->scores = scores;
    uint8_t *types = realloc(m->types, cap);
    if (types != NULL) m->types = types;
    if (items == NULL || scores == NULL || types == NULL)
        return mr_fail_nomem(m->err, cap * sizeof *items, "tokenizer.model");
    m->cap = cap;
    return MR_OK;
}

static mr_status read_piece(model *m, const char *data, size_t len) {
    mr_status status = grow(m);
    if (status != MR_OK) return status;
    mr_vocab_item item = {.text = ""};
    float score = 0;
    uint64_t type = PIECE_NORMAL;
    wire w = message(data, len);
    for (field f; next_field(&w, &f);) {
        if (f.number == 1 && f.type == 2) {
            item.text = f.data;
            item.len = (uint32_t)f.len;
        } else if (f.number == 2 && f.type == 5) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3 && f.type == 0) {
            type = f.value;
        }
    }
    if (w.broken) return mr_fail(m->err, MR_ERR_INVALID, "tokenizer.model: piece %zu is broken", m->n);
    if (score != score)
        return mr_fail(m->err, MR_ERR_INVALID, "tokenizer.model: piece %zu has a score that is no number", m->n);
    switch (type) {
    case PIECE_UNKNOWN:
        item.attr = MR_TOKEN_UNKNOWN | MR_TOKEN_ADDED | MR_TOKEN_HIDDEN;
        break;
    case PIECE_CONTROL:
        item.attr = MR_TOKEN_SPECIAL | MR_TOKEN_ADDED | MR_TOKEN_HIDDEN;
        break;
    case PIECE_USER_DEFINED:
        item.attr = MR_TOKEN_ADDED;
        break;
    case PIECE_UNUSED:
        item.attr = MR_TOKEN_UNUSED;
        break;
    case PIECE_BYTE:
        item.attr = MR_TOKEN_BYTE | MR_TOKEN_HIDDEN;
        break;
    default:
        break;
    }
    m->items[m->n] = item;
    m->scores[m->n] = score;
    m->types[m->n++] = (uint8_t)(type <= PIECE_BYTE ? type : PIECE_NORMAL);
    return MR_OK;
}

static void read_trainer(model *m, const char *data, size_t len) {
    wire w = message(data, len);
    for (field f; next_field(&w, &f);) {
        switch (f.number) {
        case 3:
            m->kind = f.value;
            break;
        case 24:
            m->suffix_space = f.value != 0;
            break;
        case 35:
            m->byte_fallback = f.value != 0;
            break;
        case 40:
            m->unk = (int32_t)f.value;
            break;
        case 41:
            m->bos = (int32_t)f.value;
            break;
        case 42:
            m->eos = (int32_t)f.value;
            break;
        case 43:
            m->pad = (int32_t)f.value;
            break;
        case 44:
            if (f.type != 2) break;
            m->unk_surface = f.data;
            m->unk_surface_len = f.len;
            break;
        default:
            break;
        }
    }
}

static void read_normalizer(model *m, const char *data, size_t len) {
    wire w = message(data, len);
    for (field f; next_field(&w, &f);) {
        switch (f.number) {
        case 2:
            if (f.type != 2) break;
            m->map = f.data;
            m->map_len = f.len;
            break;
        case 3:
            m->normalizer.add_dummy_prefix = f.value != 0;
            break;
        case 4:
            m->normalizer.remove_extra_spaces = f.value != 0;
            break;
        case 5:
            m->normalizer.escape_spaces = f.value != 0;
            break;
        default:
            break;
        }
    }
}

static mr_status read_model(model *m, const char *bytes, size_t len) {
    wire w = message(bytes, len);
    for (field f; next_field(&w, &f);) {
        if (f.type != 2) continue;
        mr_status status = MR_OK;
        if (f.number == 1) status = read_piece(m, f.data, f.len);
        if (f.number == 2) read_trainer(m, f.data, f.len);
        if (f.number == 3) read_normalizer(m, f.data, f.len);
        if (status != MR_OK) return status;
    }
    if (w.broken || m->n == 0)
        return mr_fail(m->err, MR_ERR_INVALID, "tokenizer.model is no SentencePiece model, or cut off");
    if (m->kind != MODEL_UNIGRAM && m->kind != MODEL_BPE) {
        return mr_fail(m->err, MR_ERR_UNSUPPORTED,
                       "tokenizer.model has model type %llu; only unigram and BPE are supported",
                       (unsigned long long)m->kind);
    }
    return MR_OK;
}

static mr_token checked_id(const model *m, int32_t id, uint8_t type) {
    return id >= 0 && (size_t)id < m->n && m->types[id] == type ? id : -1;
}

static mr_status add_normalizer(model *m) {
    mr_tokenizer *t = m->t;
    m->normalizer.suffix_space = m->suffix_space;
    if (m->map_len > 0) {
        char *copy = mr_arena_strndup(&t->arena, m->map, m->map_len);
        if (copy == NULL) return mr_fail_nomem(m->err, m->map_len, "tokenizer.model");
        mr_status status = mr_charsmap_read(&m->normalizer.map, copy, m->map_len, m->err);
        if (status != MR_OK) return status;
    }
    m->normalizer.keep = &t->added;
    return mr_normalizer_add(&t->normalizer, m->normalizer, m->err);
}

/* Tokens that stand in files beside the model, mostly behind its own ids. */
static mr_status add_extra(model *m, const mr_added_token *extra, size_t n_extra) {
    for (size_t i = 0; i < n_extra; i++) {
        if (extra[i].id < 0 || extra[i].id >= MR_VOCAB_MAX) {
            return mr_fail(m->err, MR_ERR_LIMIT, "an added token has id %d; at most %d is supported", extra[i].id,
                           MR_VOCAB_MAX - 1);
        }
        size_t id = (size_t)extra[i].id;
        while (m->n <= id) {
            mr_status status = grow(m);
            if (status != MR_OK) return status;
            m->items[m->n] = (mr_vocab_item){0};
            m->scores[m->n] = 0;
            m->types[m->n++] = PIECE_ADDED;
        }
        uint16_t attr = MR_TOKEN_ADDED | (extra[i].special ? MR_TOKEN_SPECIAL : 0);
        if (m->types[id] == PIECE_ADDED) {
            m->items[id] =
                (mr_vocab_item){.text = extra[i].text, .len = (uint32_t)extra[i].len, .attr = attr | MR_TOKEN_HIDDEN};
        } else {
            m->items[id].attr |= attr;
        }
        mr_status status = mr_added_push(&m->t->added, extra[i], m->err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* Control pieces are matched in the raw text (when asked to), user-defined ones in the normalized text. A unigram model
 * has user-defined pieces in its lattice instead. */
static mr_status add_tokens(model *m) {
    mr_tokenizer *t = m->t;
    for (size_t i = 0; i < m->n; i++) {
        bool control = m->types[i] == PIECE_CONTROL, user = m->types[i] == PIECE_USER_DEFINED;
        if ((!control && !user) || m->items[i].len == 0) continue;
        char *copy = mr_arena_strndup(&t->arena, m->items[i].text, m->items[i].len);
        if (copy == NULL) return mr_fail_nomem(m->err, m->items[i].len, "tokenizer.model");
        mr_added_token token = {.text = copy,
                                .len = m->items[i].len,
                                .id = (mr_token)i,
                                .special = control,
                                .normalized = user,
                                .verbatim = true};
        mr_status status = mr_added_push(&t->added, token, m->err);
        if (status != MR_OK) return status;
    }
    t->added.keep_only = m->kind == MODEL_UNIGRAM;
    return MR_OK;
}

static mr_status add_decoder(model *m) {
    mr_decoder_op op = {.kind = MR_DECODE_SENTENCEPIECE, .text = SPACE_MARK, .len = 3};
    op.strip_one = m->normalizer.add_dummy_prefix || m->normalizer.remove_extra_spaces;
    op.strip_all = m->normalizer.remove_extra_spaces;
    return mr_decoder_add(&m->t->decoder, op, m->err);
}

static mr_status set_unigram(model *m) {
    mr_tokenizer *t = m->t;
    mr_unigram *u = &t->unigram;
    t->model = MR_MODEL_UNIGRAM;
    u->vocab = &t->vocab;
    u->unk = t->unk;
    u->byte_fallback = m->byte_fallback;
    u->in_float = true;
    u->score = malloc((m->n + 1) * sizeof *u->score);
    if (u->score == NULL) return mr_fail_nomem(m->err, m->n * sizeof *u->score, "the scores");
    float least = 3.4e38f;
    for (size_t i = 0; i < m->n; i++) {
        if (m->types[i] == PIECE_NORMAL && m->scores[i] < least) least = m->scores[i];
    }
    for (size_t i = 0; i < m->n; i++) { /* user-defined pieces beat everything */
        bool user = m->types[i] == PIECE_USER_DEFINED;
        u->score[i] = (double)(user ? (float)(0.1 * ((double)m->items[i].len - 1)) : m->scores[i]);
    }
    u->unk_score = (double)(least - 10.0f);
    snprintf(t->kind, sizeof t->kind, "SentencePiece Unigram");
    return mr_unigram_finish(u, m->err);
}

static mr_status set_bpe(model *m) {
    mr_tokenizer *t = m->t;
    t->bpe.vocab = &t->vocab;
    t->bpe.by_score = true;
    t->bpe.byte_fallback = m->byte_fallback;
    t->bpe.fuse_unk = true;
    t->bpe.unk = t->unk;
    snprintf(t->kind, sizeof t->kind, "SentencePiece BPE");
    mr_status status = mr_bpe_rank_scores(&t->bpe, m->scores, m->n, m->err);
    return status == MR_OK ? mr_bpe_finish(&t->bpe, m->err) : status;
}

static mr_status build(model *m, const char *bytes, size_t len, const mr_added_token *extra, size_t n_extra) {
    mr_tokenizer *t = m->t;
    mr_status status = read_model(m, bytes, len);
    if (status != MR_OK) return status;
    t->unk = checked_id(m, m->unk, PIECE_UNKNOWN);
    t->bos = checked_id(m, m->bos, PIECE_CONTROL);
    t->eos = checked_id(m, m->eos, PIECE_CONTROL);
    t->pad = checked_id(m, m->pad, PIECE_CONTROL);
    if (t->unk >= 0) { /* what decoding an unknown token gives */
        m->items[t->unk].text = m->unk_surface;
        m->items[t->unk].len = (uint32_t)m->unk_surface_len;
    }
    status = add_extra(m, extra, n_extra);
    if (status == MR_OK) status = mr_vocab_build(&t->vocab, m->items, m->n, m->err);
    if (status == MR_OK) status = add_normalizer(m);
    if (status == MR_OK) status = add_tokens(m);
    if (status == MR_OK) status = add_decoder(m);
    if (status != MR_OK) return status;
    return m->kind == MODEL_UNIGRAM ? set_unigram(m) : set_bpe(m);
}

mr_status mr_tokenizer_read_sentencepiece(mr_tokenizer *tokenizer, const char *bytes, size_t len,
                                          const mr_added_token *extra, size_t n_extra, mr_error *err) {
    model m = {.t = tokenizer, .err = err, .kind = MODEL_UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1};
    m.unk_surface = " \xE2\x81\x87 ";
    m.unk_surface_len = 5;
    m.normalizer = (mr_step){
        .kind = MR_STEP_SENTENCEPIECE, .add_dummy_prefix = true, .remove_extra_spaces = true, .escape_spaces = true};
    mr_status status = build(&m, bytes, len, extra, n_extra);
    free(m.items);
    free(m.scores);
    free(m.types);
    return status;
}
