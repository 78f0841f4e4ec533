#include "text/embedding.h"

#include "text/text_model_impl.h"

#include <math.h>
#include <string.h>

enum { MAX_AT_ONCE = 16 };

/* Texts that the engine works on: a ring of those submitted and not yet collected. */
typedef struct embedder {
    mr_text_model *model;
    const mr_tokens *texts;
    mr_pooling pooling;
    bool normalize;
    size_t n_embd;
    float *out;
    mr_request_stats *stats;
    mr_request *requests[MAX_AT_ONCE];
    size_t n_submitted, n_collected;
} embedder;

mr_pooling mr_text_model_pooling(const mr_text_model *model) {
    return model->pooling;
}

mr_status mr_embedding_tokens(const mr_text_model *model, const char *text, size_t len, mr_tokens *tokens,
                              mr_error *err) {
    unsigned flags = MR_ENCODE_SPECIAL_TEXT | MR_ENCODE_ADD_BOS_EOS;
    mr_status status = mr_tokenizer_encode(model->tokenizer, text, len, flags, tokens, err);
    if (status == MR_OK && tokens->n == 0) status = mr_fail(err, MR_ERR_INVALID, "the text is empty");
    return status;
}

/* To length 1; a vector of zeros has no direction and stays. */
static void normalize(float *v, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    double length = sqrt(sum);
    if (!(length > 0.0)) return;
    for (size_t i = 0; i < n; i++) v[i] = (float)((double)v[i] / length);
}

static void add_stats(mr_request_stats *sum, mr_request_stats one) {
    if (sum == NULL) return;
    sum->n_prompt += one.n_prompt;
    sum->n_prompt_cached += one.n_prompt_cached;
    sum->queue_sec += one.queue_sec;
    sum->prompt_sec += one.prompt_sec;
}

/* Waits for the oldest text. */
static mr_status collect(embedder *e, mr_cancel *cancel, mr_error *err) {
    size_t i = e->n_collected++;
    mr_request *request = e->requests[i % MAX_AT_ONCE];
    int32_t token;
    mr_finish finish;
    mr_status status = mr_request_next(request, cancel, &token, &finish, err);
    if (status == MR_OK) {
        float *row = e->out + i * e->n_embd;
        memcpy(row, mr_request_pooled(request), e->n_embd * sizeof *row);
        if (e->normalize) normalize(row, e->n_embd);
        add_stats(e->stats, mr_request_get_stats(request));
    } else {
        mr_fail_prefix(err, "text %zu", i);
    }
    mr_request_free(request);
    return status;
}

/* A queue that is full may have room again when one of ours is done. */
static mr_status submit(embedder *e, mr_cancel *cancel, mr_error *err) {
    size_t i = e->n_submitted;
    mr_request_params params = {.prompt = e->texts[i].ids, .n_prompt = e->texts[i].n, .pooling = e->pooling};
    for (;;) {
        mr_request **request = &e->requests[i % MAX_AT_ONCE];
        mr_status status = mr_engine_submit(e->model->engine, &params, request, err);
        if (status == MR_OK) {
            e->n_submitted++;
            return MR_OK;
        }
        if (status != MR_ERR_LIMIT || e->n_collected == e->n_submitted) return mr_fail_prefix(err, "text %zu", i);
        status = collect(e, cancel, err);
        if (status != MR_OK) return status;
    }
}

mr_status mr_text_model_embed(mr_text_model *model, const mr_tokens *texts, size_t n,
                              const mr_embedding_options *options, float *out, mr_request_stats *stats,
                              mr_cancel *cancel, mr_error *err) {
    embedder e = {.model = model,
                  .texts = texts,
                  .pooling = options->pooling != MR_POOLING_NONE ? options->pooling : model->pooling,
                  .normalize = options->norm == MR_NORM_AS_MODEL ? model->normalize : options->norm == MR_NORM_ALWAYS,
                  .n_embd = mr_model_get_info(model->model)->n_embd,
                  .out = out,
                  .stats = stats};
    mr_status status = MR_OK;
    if (stats != NULL) *stats = (mr_request_stats){0};
    while (status == MR_OK && e.n_collected < n) {
        if (e.n_submitted < n && e.n_submitted - e.n_collected < MAX_AT_ONCE)
            status = submit(&e, cancel, err);
        else
            status = collect(&e, cancel, err);
    }
    for (; e.n_collected < e.n_submitted; e.n_collected++) mr_request_free(e.requests[e.n_collected % MAX_AT_ONCE]);
    return status;
}
