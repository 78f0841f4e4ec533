/* From tokens of the engine to text: detokenizing, stop strings, and how it ended. */
#include "text/text_model.h"

#include "text/stop_strings.h"
#include "text/text_model_impl.h"

#include <stdlib.h>

struct mr_generation {
    mr_request *request; /* NULL once a stop string has ended it */
    mr_detokenizer *detokenizer;
    mr_stop_strings stop;
    mr_tokens tokens;
    mr_buf piece; /* text of the newest token */
    mr_finish finish;
    mr_request_stats stats; /* when request is NULL */
};

mr_status mr_generation_start(mr_generation **generation, mr_text_model *model, const mr_generation_params *params,
                              mr_error *err) {
    *generation = NULL;
    mr_generation *g = calloc(1, sizeof *g);
    if (g == NULL) return mr_fail_nomem(err, sizeof *g, "a generation");
    mr_status status = mr_stop_strings_init(&g->stop, params->stop, params->n_stop, err);
    if (status == MR_OK) {
        g->detokenizer =
            mr_detokenizer_new(mr_text_model_tokenizer(model), params->prompt, params->n_prompt, !params->keep_special);
        if (g->detokenizer == NULL)
            status = mr_fail_nomem(err, 0, "the detokenizer of a generation");
        else
            mr_detokenizer_keep(g->detokenizer, params->keep, params->n_keep);
    }
    if (status == MR_OK) {
        mr_request_params request = {
            .prompt = params->prompt,
            .n_prompt = params->n_prompt,
            .max_tokens = params->max_tokens,
            .sampling = params->sampling,
            .eog = model->eog.ids,
            .n_eog = model->eog.n,
            .mask = params->mask,
            .mask_ctx = params->mask_ctx,
        };
        status = mr_engine_submit(model->engine, &request, &g->request, err);
    }
    if (status != MR_OK) {
        mr_generation_free(g);
        return status;
    }
    *generation = g;
    return MR_OK;
}

static mr_status no_memory(mr_error *err) {
    return mr_fail_nomem(err, 0, "the text of a generation");
}

/* A stop string has ended it: the engine need not go on. */
static void stop_here(mr_generation *g) {
    g->stats = mr_request_get_stats(g->request);
    mr_request_free(g->request);
    g->request = NULL;
    g->finish = MR_FINISH_EOG;
}

static mr_status take_token(mr_generation *g, int32_t token, mr_buf *text, mr_error *err) {
    mr_buf_clear(&g->piece);
    if (!mr_tokens_push(&g->tokens, token)) return no_memory(err);
    mr_status status = mr_detokenizer_push(g->detokenizer, token, &g->piece, err);
    if (status != MR_OK) return status;
    if (!mr_stop_strings_push(&g->stop, g->piece.data, g->piece.len, text)) return no_memory(err);
    if (g->stop.stopped) stop_here(g);
    return MR_OK;
}

/* No token comes any more: what was held back goes out. */
static mr_status take_end(mr_generation *g, mr_buf *text, mr_error *err) {
    mr_buf_clear(&g->piece);
    mr_status status = mr_detokenizer_finish(g->detokenizer, &g->piece, err);
    if (status != MR_OK) return status;
    if (!mr_stop_strings_push(&g->stop, g->piece.data, g->piece.len, text) || !mr_stop_strings_finish(&g->stop, text))
        return no_memory(err);
    return MR_OK;
}

mr_status mr_generation_next(mr_generation *generation, mr_cancel *cancel, mr_buf *text, bool *done, mr_error *err) {
    mr_generation *g = generation;
    size_t before = text->len;
    *done = g->finish == MR_FINISH_EOG || g->finish == MR_FINISH_LENGTH;
    while (!*done && text->len == before) {
        int32_t token;
        mr_finish finish;
        mr_status status = mr_request_next(g->request, cancel, &token, &finish, err);
        if (status != MR_OK) {
            g->finish = MR_FINISH_ERROR;
            if (mr_cancel_is_set(cancel)) return status;
            /* What is held back was produced before the error; the next call meets the error again. */
            mr_error ignored = {0};
            return take_end(g, text, &ignored) == MR_OK && text->len > before ? MR_OK : status;
        }
        if (finish == MR_FINISH_NONE) {
            status = take_token(g, token, text, err);
        } else {
            g->finish = finish;
            status = take_end(g, text, err);
        }
        if (status != MR_OK) return status;
        *done = g->finish != MR_FINISH_NONE;
    }
    return MR_OK;
}

mr_finish mr_generation_finish(const mr_generation *generation) {
    return generation->finish;
}

mr_request_stats mr_generation_stats(const mr_generation *generation) {
    mr_request_stats stats =
        generation->request != NULL ? mr_request_get_stats(generation->request) : generation->stats;
    /* The engine may be some tokens ahead of the reader. */
    stats.n_generated = (uint32_t)generation->tokens.n;
    return stats;
}

const mr_tokens *mr_generation_tokens(const mr_generation *generation) {
    return &generation->tokens;
}

void mr_generation_free(mr_generation *generation) {
    if (generation == NULL) return;
    mr_request_free(generation->request);
    mr_detokenizer_free(generation->detokenizer);
    mr_stop_strings_free(&generation->stop);
    mr_tokens_free(&generation->tokens);
    mr_buf_free(&generation->piece);
    free(generation);
}
