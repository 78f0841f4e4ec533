#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::tools"
#include "service/functions_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/pb_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define METHOD(service, name) "/jobworkerp.function.service." service "/" name

enum { MAX_HEADERS = 32, MAX_SETS = 256, MAX_OUTPUT = 16 << 20, MAX_TIMEOUT_SEC = 2000000 };

typedef Jobworkerp__Function__Service__FunctionCallRequest pb_call;
typedef Jobworkerp__Function__Service__FunctionCallOptions pb_options;
typedef Jobworkerp__Function__Service__FunctionCallOptions__MetadataEntry pb_entry;
typedef Jobworkerp__Function__Service__FunctionResult pb_result;
typedef Jobworkerp__Function__Service__FunctionSet pb_set;

mr_status mr_functions_open(mr_functions **functions, const char *endpoint, uint32_t connect_timeout_sec,
                            mr_error *err) {
    *functions = NULL;
    mr_functions *f = calloc(1, sizeof *f);
    if (f == NULL) return mr_fail_nomem(err, sizeof *f, "the FunctionService");
    pthread_mutex_init(&f->lock, NULL);
    mr_rpc_options options = {.endpoint = endpoint, .connect_timeout_ms = connect_timeout_sec * 1000};
    mr_status status = mr_rpc_channel_new(&f->channel, &options, err);
    const char *token = getenv("AUTH_TOKEN");
    if (status == MR_OK && token != NULL && *token != '\0') {
        f->token = strdup(token);
        if (f->token == NULL) status = mr_fail_nomem(err, strlen(token), "AUTH_TOKEN");
    }
    if (status != MR_OK)
        mr_functions_close(f);
    else
        *functions = f;
    return status;
}

void mr_functions_close(mr_functions *functions) {
    if (functions == NULL) return;
    mr_function_cache_clear(functions);
    mr_rpc_channel_unref(functions->channel);
    pthread_mutex_destroy(&functions->lock);
    free(functions->token);
    free(functions);
}

/* --- streams of messages --- */

typedef struct exchange {
    const ProtobufCMessageDescriptor *answer;
    mr_status (*on_message)(void *ctx, const ProtobufCMessage *message, mr_error *err);
    void *ctx;
} exchange;

static size_t fill_headers(const mr_functions *functions, const mr_functions_context *context,
                           mr_rpc_metadata headers[MAX_HEADERS]) {
    size_t n = 0;
    if (functions->token != NULL) headers[n++] = (mr_rpc_metadata){"jobworkerp-auth", functions->token};
    for (size_t i = 0; i < context->n_metadata && n < MAX_HEADERS; i++) headers[n++] = context->metadata[i];
    return n;
}

static mr_status take_message(const exchange *x, const mr_buf *bytes, const char *method, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *message;
    mr_status status = mr_pb_unpack(x->answer, (const uint8_t *)mr_buf_cstr(bytes), bytes->len, &arena, &message, err);
    if (status == MR_OK)
        status = x->on_message(x->ctx, message, err);
    else
        mr_fail_prefix(err, "%s answered with something that cannot be read", method);
    mr_arena_free(&arena);
    return status;
}

static mr_status exchange_once(mr_functions *functions, const char *method, const mr_buf *message,
                               const mr_functions_context *context, const exchange *x, mr_error *err) {
    mr_rpc_metadata headers[MAX_HEADERS];
    mr_rpc_request request = {
        .method = method,
        .message = mr_buf_cstr(message),
        .n_message = message->len,
        .metadata = headers,
        .n_metadata = fill_headers(functions, context, headers),
        .timeout_ms = context->timeout_sec < MAX_TIMEOUT_SEC ? context->timeout_sec * 1000 : MAX_TIMEOUT_SEC * 1000,
        .cancel = context->cancel,
    };
    mr_rpc_call *call;
    mr_status status = mr_rpc_call_start(&call, functions->channel, &request, err);
    if (status != MR_OK) return status;
    mr_buf bytes = {0};
    for (bool done = false; status == MR_OK;) {
        mr_buf_clear(&bytes);
        status = mr_rpc_call_next(call, &bytes, &done, err);
        if (status != MR_OK || done) break;
        status = take_message(x, &bytes, method, err);
    }
    mr_buf_free(&bytes);
    mr_rpc_call_free(call);
    return status;
}

mr_status mr_functions_exchange(mr_functions *functions, const char *method, const ProtobufCMessage *message,
                                const mr_functions_context *context, const ProtobufCMessageDescriptor *answer,
                                mr_status (*on_message)(void *ctx, const ProtobufCMessage *message, mr_error *err),
                                void *ctx, mr_error *err) {
    exchange x = {.answer = answer, .on_message = on_message, .ctx = ctx};
    mr_buf bytes = {0};
    mr_status status = mr_pb_pack(message, &bytes) ? exchange_once(functions, method, &bytes, context, &x, err)
                                                   : mr_fail_nomem(err, 0, "a request to the FunctionService");
    mr_buf_free(&bytes);
    return status;
}

/* --- function sets --- */

typedef struct set_list {
    mr_function_set *items;
    size_t n;
} set_list;

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static mr_status take_set(void *ctx, const ProtobufCMessage *message, mr_error *err) {
    set_list *list = ctx;
    const pb_set *set = (const pb_set *)message;
    if (set->data == NULL || or_empty(set->data->name)[0] == '\0' || list->n == MAX_SETS) return MR_OK;
    mr_function_set *grown = realloc(list->items, (list->n + 1) * sizeof *grown);
    if (grown == NULL) return mr_fail_nomem(err, 0, "the function sets");
    list->items = grown;
    mr_function_set *item = &grown[list->n++];
    *item = (mr_function_set){.name = strdup(set->data->name), .description = strdup(or_empty(set->data->description))};
    return item->name != NULL && item->description != NULL ? MR_OK : mr_fail_nomem(err, 0, "the function sets");
}

mr_status mr_functions_find_sets(mr_functions *functions, const mr_functions_context *context, mr_function_set **sets,
                                 size_t *n, mr_error *err) {
    Jobworkerp__Function__Service__FindFunctionSetListRequest request;
    jobworkerp__function__service__find_function_set_list_request__init(&request);
    set_list list = {0};
    mr_status status =
        mr_functions_exchange(functions, METHOD("FunctionSetService", "FindList"), &request.base, context,
                              &jobworkerp__function__service__function_set__descriptor, take_set, &list, err);
    if (status != MR_OK) {
        mr_function_sets_free(list.items, list.n);
        list = (set_list){0};
    }
    *sets = list.items;
    *n = list.n;
    return status;
}

void mr_function_sets_free(mr_function_set *sets, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(sets[i].name);
        free(sets[i].description);
    }
    free(sets);
}

/* --- calling --- */

static const char *status_name(int32_t status) {
    static const char *const NAMES[] = {
        "", "failed, and is tried again", "failed", "aborted", "failed too often", "failed", "was cancelled"};
    return status > 0 && (size_t)status < sizeof NAMES / sizeof NAMES[0] ? NAMES[status] : "failed";
}

/* The state of one call. */
typedef struct collector {
    mr_function_outcome *outcome;
    bool any, failed;
    mr_buf why;
} collector;

static int64_t parse_job_id(const char *text) {
    char *end;
    errno = 0;
    long long id = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? id : 0;
}

/* The first failure is the one that counts. */
static void take_failure(collector *c, const pb_result *result) {
    const char *message = or_empty(result->error_message), *code = or_empty(result->error_code);
    if (c->failed) return;
    c->failed = true;
    mr_buf_puts(&c->why, *message != '\0' ? message : status_name(result->has_status ? result->status : 0));
    if (*code != '\0') mr_buf_printf(&c->why, " (%s)", code);
}

static mr_status take_result(void *ctx, const ProtobufCMessage *message, mr_error *err) {
    collector *c = ctx;
    const pb_result *result = (const pb_result *)message;
    const char *output = or_empty(result->output);
    c->any = true;
    if ((result->has_status && result->status != 0) || or_empty(result->error_message)[0] != '\0')
        take_failure(c, result);
    if (c->outcome->text.len + strlen(output) > MAX_OUTPUT)
        return mr_fail(err, MR_ERR_LIMIT, "the result is longer than %d MiB", MAX_OUTPUT >> 20);
    mr_buf_puts(&c->outcome->text, output);
    if (result->last_info != NULL) c->outcome->job_id = parse_job_id(or_empty(result->last_info->job_id));
    if (!c->outcome->text.failed && !c->why.failed) return MR_OK;
    return mr_fail_nomem(err, strlen(output), "the result of a function");
}

/* A failure's text takes the place of what came before it, but keeps it. */
static void tell_failure(mr_function_outcome *outcome, const char *why) {
    mr_buf text = {0};
    mr_buf_puts(&text, why);
    if (outcome->text.len > 0) {
        mr_buf_puts(&text, "; before that it gave: ");
        mr_buf_append(&text, outcome->text.data, outcome->text.len);
    }
    mr_buf_free(&outcome->text);
    outcome->text = text;
    outcome->success = false;
}

static mr_status send_call(mr_functions *functions, const mr_function *function, const char *arguments,
                           const mr_functions_context *context, collector *c, mr_error *err) {
    pb_call call;
    pb_options options;
    pb_entry entries[MAX_HEADERS], *entry_list[MAX_HEADERS];
    jobworkerp__function__service__function_call_request__init(&call);
    jobworkerp__function__service__function_call_options__init(&options);
    for (size_t i = 0; i < context->n_metadata && i < MAX_HEADERS; i++) {
        jobworkerp__function__service__function_call_options__metadata_entry__init(&entries[i]);
        entries[i].key = (char *)context->metadata[i].key;
        entries[i].value = (char *)context->metadata[i].value;
        entry_list[options.n_metadata++] = &entries[i];
    }
    options.metadata = entry_list;
    options.has_timeout_ms = context->timeout_sec != 0;
    options.timeout_ms = (int64_t)context->timeout_sec * 1000;
    options.has_streaming = 1;
    options.streaming = function->streaming;
    call.name_case = function->is_worker ? JOBWORKERP__FUNCTION__SERVICE__FUNCTION_CALL_REQUEST__NAME_WORKER_NAME
                                         : JOBWORKERP__FUNCTION__SERVICE__FUNCTION_CALL_REQUEST__NAME_RUNNER_NAME;
    call.runner_name = function->tool; /* the two names are one union */
    call.args_json = (char *)arguments;
    call.options = &options;
    return mr_functions_exchange(functions, METHOD("FunctionService", "Call"), &call.base, context,
                                 &jobworkerp__function__service__function_result__descriptor, take_result, c, err);
}

mr_status mr_functions_call(mr_functions *functions, const mr_function *function, const char *arguments,
                            const mr_functions_context *context, mr_function_outcome *outcome, mr_error *err) {
    collector c = {.outcome = outcome};
    uint64_t start = mr_clock_ns();
    mr_status status = send_call(functions, function, arguments, context, &c, err);
    if (status == MR_ERR_CANCELLED || status == MR_ERR_NOMEM) {
        mr_buf_free(&c.why);
        return status;
    }
    outcome->success = status == MR_OK && c.any && !c.failed;
    if (status != MR_OK)
        tell_failure(outcome, err->text);
    else if (c.failed)
        tell_failure(outcome, mr_buf_cstr(&c.why));
    else if (!c.any)
        tell_failure(outcome, "the function gave no result");
    *err = (mr_error){0};
    mr_buf_free(&c.why);
    MR_DEBUG("tool %s %s after %.3f s", function->tool, outcome->success ? "answered" : "failed",
             mr_clock_since(start));
    return outcome->text.failed ? mr_fail_nomem(err, 0, "the result of a function") : MR_OK;
}
