/* The method `embedding`: texts in, vectors out. */
#include "service/job.h"

#include "base/clock.h"
#include "embedding_args.pb-c.h"
#include "embedding_result.pb-c.h"
#include "service/metrics.h"
#include "service/pb_wire.h"
#include "text/embedding.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 4096 };

typedef Jobworkerp__Runner__Llm__LLMEmbeddingArgs pb_args;
typedef Jobworkerp__Runner__Llm__LLMEmbeddingArgs__EmbeddingOptions pb_options;
typedef Jobworkerp__Runner__Llm__LLMEmbeddingResult pb_result;
typedef Jobworkerp__Runner__Llm__LLMEmbeddingResult__Embedding pb_embedding;
typedef Jobworkerp__Runner__Llm__LLMEmbeddingResult__Usage pb_usage;

/* A job's texts as tokens, their vectors [n, n_embd], and the messages that point to these. */
typedef struct embeddings {
    const mr_job *job;
    size_t n, n_embd;
    mr_tokens *texts;
    float *vectors;
    pb_embedding *messages;
    pb_embedding **pointers;
    mr_request_stats stats;
    float seconds;
} embeddings;

static void free_embeddings(embeddings *e) {
    for (size_t i = 0; e->texts != NULL && i < e->n; i++) mr_tokens_free(&e->texts[i]);
    free(e->texts);
    free(e->vectors);
    free(e->messages);
    free(e->pointers);
}

static mr_status check(const pb_args *args, mr_error *err) {
    if (args->n_texts == 0) return mr_fail(err, MR_ERR_INVALID, "there are no texts to embed; give at least one");
    if (args->n_texts > MAX_TEXTS) {
        return mr_fail(err, MR_ERR_LIMIT, "there are %zu texts, but one job takes %d; send the rest in further jobs",
                       args->n_texts, MAX_TEXTS);
    }
    return MR_OK;
}

static mr_status read_options(const pb_options *options, mr_embedding_options *out, mr_error *err) {
    *out = (mr_embedding_options){0};
    if (options == NULL) return MR_OK;
    if (options->has_pooling) {
        if (options->pooling < 0 || options->pooling > (int)MR_POOLING_LAST)
            return mr_fail(err, MR_ERR_INVALID, "options.pooling is %d; give MODEL, MEAN, CLS or LAST",
                           (int)options->pooling);
        out->pooling = (mr_pooling)options->pooling; /* the same numbers */
    }
    if (options->has_normalize) out->norm = options->normalize ? MR_NORM_ALWAYS : MR_NORM_NEVER;
    return MR_OK;
}

static mr_status allocate(embeddings *e, size_t n, mr_error *err) {
    e->n = n;
    e->n_embd = mr_text_model_info(e->job->model)->n_embd;
    e->texts = calloc(n, sizeof *e->texts);
    e->vectors = calloc(n, e->n_embd * sizeof *e->vectors);
    e->messages = calloc(n, sizeof *e->messages);
    e->pointers = calloc(n, sizeof *e->pointers);
    if (e->texts != NULL && e->vectors != NULL && e->messages != NULL && e->pointers != NULL) return MR_OK;
    return mr_fail_nomem(err, n * e->n_embd * sizeof *e->vectors, "the vectors");
}

static mr_status tokenize(embeddings *e, const pb_args *args, mr_error *err) {
    for (size_t i = 0; i < e->n; i++) {
        if (mr_cancel_is_set(e->job->request->cancel)) return mr_fail(err, MR_ERR_CANCELLED, "the job was cancelled");
        mr_status status =
            mr_embedding_tokens(e->job->model, args->texts[i], strlen(args->texts[i]), &e->texts[i], err);
        if (status != MR_OK) return mr_fail_prefix(err, "text %zu", i);
    }
    return MR_OK;
}

static void note(const embeddings *e) {
    mr_generation_figures figures = {.n_prompt = e->stats.n_prompt,
                                     .n_cached = e->stats.n_prompt_cached,
                                     .queue_sec = e->stats.queue_sec / (double)e->n,
                                     .prompt_sec = e->stats.prompt_sec};
    mr_metrics_generation(&figures);
    mr_job_log_embedding(e->job, e->n, &e->stats, (double)e->seconds);
}

static mr_status finish(embeddings *e, mr_error *err) {
    pb_result result = JOBWORKERP__RUNNER__LLM__LLMEMBEDDING_RESULT__INIT;
    pb_usage usage = JOBWORKERP__RUNNER__LLM__LLMEMBEDDING_RESULT__USAGE__INIT;
    for (size_t i = 0; i < e->n; i++) {
        jobworkerp__runner__llm__llmembedding_result__embedding__init(&e->messages[i]);
        e->messages[i].n_values = e->n_embd;
        e->messages[i].values = e->vectors + i * e->n_embd;
        e->pointers[i] = &e->messages[i];
    }
    usage.model = (char *)mr_job_model_name(e->job);
    usage.has_prompt_tokens = 1;
    usage.prompt_tokens = e->stats.n_prompt;
    usage.has_total_prompt_time_sec = 1;
    usage.total_prompt_time_sec = e->seconds;
    result.n_embeddings = e->n;
    result.embeddings = e->pointers;
    result.usage = &usage;
    note(e);
    return mr_job_finish(e->job, &result.base, err);
}

static mr_status run(const mr_job *job, const pb_args *args, mr_error *err) {
    embeddings e = {.job = job};
    mr_embedding_options options;
    uint64_t start = mr_clock_ns();
    mr_status status = check(args, err);
    if (status == MR_OK) status = read_options(args->options, &options, err);
    if (status == MR_OK) status = allocate(&e, args->n_texts, err);
    if (status == MR_OK) status = tokenize(&e, args, err);
    if (status == MR_OK) {
        status =
            mr_text_model_embed(job->model, e.texts, e.n, &options, e.vectors, &e.stats, job->request->cancel, err);
    }
    e.seconds = (float)mr_clock_since(start);
    if (status == MR_OK) status = finish(&e, err);
    free_embeddings(&e);
    return status;
}

mr_status mr_job_embedding(const mr_job *job, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *args;
    mr_status status = mr_pb_unpack(&jobworkerp__runner__llm__llmembedding_args__descriptor, job->request->args,
                                    job->request->n_args, &arena, &args, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "the arguments of embedding cannot be decoded");
    else
        status = run(job, (const pb_args *)args, err);
    mr_arena_free(&arena);
    return status;
}
