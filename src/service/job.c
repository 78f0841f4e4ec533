#define MR_LOG_TARGET "mistral_runner::service"
#include "service/job.h"

#include "base/log.h"
#include "service/pb_wire.h"

#include <string.h>

bool mr_job_is_stream(const mr_job *job) {
    return job->request->on_chunk != NULL;
}

mr_status mr_job_send(const mr_job *job, const ProtobufCMessage *chunk, mr_error *err) {
    mr_buf bytes = {0};
    mr_status status = MR_OK;
    if (!mr_pb_pack(chunk, &bytes)) {
        status = mr_fail(err, MR_ERR_NOMEM, "there is no memory to encode the result");
    } else if (!job->request->on_chunk(job->request->ctx, (const uint8_t *)mr_buf_cstr(&bytes), bytes.len)) {
        status = mr_fail(err, MR_ERR_CANCELLED, "the stream's receiver is gone");
    }
    mr_buf_free(&bytes);
    return status;
}

mr_status mr_job_finish(const mr_job *job, const ProtobufCMessage *result, mr_error *err) {
    if (mr_job_is_stream(job)) return mr_job_send(job, result, err);
    if (mr_pb_pack(result, job->result)) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory to encode the result");
}

const char *mr_job_model_name(const mr_job *job) {
    const mr_model_info *info = mr_text_model_info(job->model);
    if (info->name[0] != '\0') return info->name;
    if (job->settings->n_paths == 0) return info->arch;
    const char *slash = strrchr(job->settings->paths[0], '/');
    return slash != NULL ? slash + 1 : job->settings->paths[0];
}

static double per_second(uint32_t n, float seconds) {
    return seconds > 0 ? n / (double)seconds : 0;
}

static void describe(mr_span *span, const mr_answer *answer) {
    mr_span_text(span, "output", mr_buf_cstr(&answer->content), answer->content.len);
    mr_span_int(span, "gen_ai.usage.input_tokens", answer->usage.prompt_tokens);
    mr_span_int(span, "gen_ai.usage.output_tokens", answer->usage.completion_tokens);
    mr_span_int(span, "gen_ai.usage.cached_tokens", answer->usage.cached_tokens);
    mr_span_string(span, "gen_ai.response.finish_reasons", answer->finish == MR_FINISH_LENGTH ? "length" : "stop");
}

void mr_job_log(const mr_job *job, const char *method, const mr_answer *answer) {
    describe(job->span, answer);
    if (!job->settings->with_logging) return;
    const mr_usage *usage = &answer->usage;
    MR_INFO("%s: read %u tokens (%u from the cache) in %.3f s (%.1f/s), wrote %u in %.3f s (%.1f/s), %s", method,
            usage->prompt_tokens, usage->cached_tokens, (double)usage->prompt_sec,
            per_second(usage->prompt_tokens - usage->cached_tokens, usage->prompt_sec), usage->completion_tokens,
            (double)usage->completion_sec, per_second(usage->completion_tokens, usage->completion_sec),
            answer->finish == MR_FINISH_LENGTH ? "cut at the limit" : "ended by the model");
}

void mr_job_log_embedding(const mr_job *job, size_t n_texts, const mr_request_stats *stats, double seconds) {
    mr_span_int(job->span, "gen_ai.usage.input_tokens", stats->n_prompt);
    mr_span_int(job->span, "gen_ai.usage.cached_tokens", stats->n_prompt_cached);
    if (!job->settings->with_logging) return;
    MR_INFO("embedding: read %u tokens (%u from the cache) of %zu texts in %.3f s (%.1f/s)", stats->n_prompt,
            stats->n_prompt_cached, n_texts, seconds,
            per_second(stats->n_prompt - stats->n_prompt_cached, (float)seconds));
}
