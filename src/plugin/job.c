#include "plugin/job.h"

#include "base/utf8.h"
#include "plugin/values.h"

#include <stdlib.h>
#include <string.h>

#define METHOD_NAME_MAX 256

static mr_status copy_method(mr_job *job, const FfiBytes *name, mr_error *err) {
    if (name->len > METHOD_NAME_MAX)
        return mr_fail(err, MR_ERR_INVALID, "the method name (`using`) has %zu bytes; at most %d are allowed",
                       name->len, METHOD_NAME_MAX);
    bool is_text = name->len == 0 || (name->ptr != NULL && memchr(name->ptr, '\0', name->len) == NULL &&
                                      mr_utf8_valid((const char *)name->ptr, name->len));
    if (!is_text)
        return mr_fail(err, MR_ERR_INVALID,
                       "the method name (`using`) is not UTF-8 text; name one of this runner's methods");
    job->method = malloc(name->len + 1);
    if (job->method == NULL) return mr_fail_nomem(err, name->len + 1, "the method name");
    if (name->len > 0) memcpy(job->method, name->ptr, name->len);
    job->method[name->len] = '\0';
    return MR_OK;
}

mr_status mr_job_init(mr_job *job, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes method, mr_error *err) {
    *job = (mr_job){.args = args, .metadata = metadata};
    if (method.tag != FFI_SOME) return MR_OK;
    mr_status status = copy_method(job, &method.u.some, err);
    mr_option_bytes_drop(method);
    return status;
}

void mr_job_free(mr_job *job) {
    mr_bytes_drop(&job->args);
    mr_kv_list_drop(&job->metadata);
    free(job->method);
    job->method = NULL;
}

static const char *text_of(const FfiBytes *bytes) {
    return bytes->len == 0 || bytes->ptr == NULL ? "" : (const char *)bytes->ptr;
}

static size_t len_of(const FfiBytes *bytes) {
    return bytes->ptr == NULL ? 0 : bytes->len;
}

/* Views of the pairs; NULL when there are none or memory runs out. */
static mr_service_metadata *view_metadata(const FfiKvPairList *list, size_t n) {
    mr_service_metadata *views = n > 0 ? calloc(n, sizeof *views) : NULL;
    for (size_t i = 0; views != NULL && i < n; i++) {
        const FfiKvPair *pair = &list->ptr[i];
        views[i] = (mr_service_metadata){.key = text_of(&pair->key),
                                         .key_len = len_of(&pair->key),
                                         .value = text_of(&pair->value),
                                         .value_len = len_of(&pair->value)};
    }
    return views;
}

mr_status mr_job_execute(mr_job *job, mr_service *service, mr_cancel *cancel,
                         bool (*on_chunk)(void *ctx, const uint8_t *bytes, size_t n), void *ctx, mr_buf *result,
                         mr_error *err) {
    size_t n = job->metadata.ptr == NULL ? 0 : job->metadata.len;
    mr_service_metadata *metadata = view_metadata(&job->metadata, n);
    if (n > 0 && metadata == NULL) return mr_fail_nomem(err, n * sizeof *metadata, "the job's metadata");
    mr_service_job service_job = {.method = job->method,
                                  .args = (const uint8_t *)text_of(&job->args),
                                  .n_args = len_of(&job->args),
                                  .metadata = metadata,
                                  .n_metadata = n,
                                  .cancel = cancel,
                                  .on_chunk = on_chunk,
                                  .ctx = ctx};
    mr_status status = mr_service_run(service, &service_job, result, err);
    free(metadata);
    mr_bytes_drop(&job->args);
    return status;
}
