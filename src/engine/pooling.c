/* Requests that make one vector of a text: the hidden rows of each pass are pooled as they come. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

mr_status mr_pooling_begin(mr_request *request, mr_error *err) {
    size_t n_embd = request->engine->n_embd, n_rows = 1;
    if (request->pooling == MR_POOLING_NONE) return MR_OK;
    if (request->pooling != MR_POOLING_LAST)
        n_rows = request->engine->encoder || request->n_prompt < MR_BATCH_MAX ? request->n_prompt : MR_BATCH_MAX;
    if (request->pooled == NULL) request->pooled = calloc(n_embd, sizeof *request->pooled);
    if (request->hidden == NULL) request->hidden = malloc(n_rows * n_embd * sizeof *request->hidden);
    if (request->sums == NULL && request->pooling == MR_POOLING_MEAN)
        request->sums = malloc(n_embd * sizeof *request->sums);
    if (request->pooled == NULL || request->hidden == NULL ||
        (request->sums == NULL && request->pooling == MR_POOLING_MEAN))
        return mr_fail_nomem(err, n_rows * n_embd * sizeof *request->hidden, "the vector of a text");
    for (size_t i = 0; request->sums != NULL && i < n_embd; i++) request->sums[i] = 0.0;
    return MR_OK;
}

uint32_t mr_pooling_rows(const mr_request *request, size_t n_tokens) {
    uint32_t begin = request->sequence.n_computed;
    switch (request->pooling) {
    case MR_POOLING_MEAN:
        return (uint32_t)n_tokens;
    case MR_POOLING_CLS:
        return begin == 0 ? (uint32_t)n_tokens : 0;
    case MR_POOLING_LAST:
        return begin + n_tokens == request->n_prompt ? 1 : 0;
    default:
        return 0;
    }
}

/* The sums are of doubles, in the order of the tokens: the same bits however the text is cut into passes. */
static void add_rows(mr_request *request, uint32_t n_rows) {
    size_t n_embd = request->engine->n_embd;
    for (size_t t = 0; t < n_rows; t++) {
        const float *row = request->hidden + t * n_embd;
        for (size_t i = 0; i < n_embd; i++) request->sums[i] += (double)row[i];
    }
}

void mr_pooling_add(mr_request *request, const mr_pass_entry *entry) {
    size_t n_embd = request->engine->n_embd;
    if (entry->n_hidden == 0) return;
    if (request->pooling != MR_POOLING_MEAN) {
        memcpy(request->pooled, request->hidden, n_embd * sizeof *request->pooled);
        return;
    }
    add_rows(request, entry->n_hidden);
    if (request->sequence.n_computed + entry->n_tokens < request->n_prompt) return;
    for (size_t i = 0; i < n_embd; i++) request->pooled[i] = (float)(request->sums[i] / (double)request->n_prompt);
}

bool mr_pooling_may_reuse(const mr_request *request) {
    return request->pooling == MR_POOLING_NONE || request->pooling == MR_POOLING_LAST;
}
