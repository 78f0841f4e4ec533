/* Calls. Each has a completion queue of its own, which the calling thread waits on and by which it drives the
 * connection. */
#include "service/rpc_impl.h"

#include "base/utf8.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_METADATA = 64, WATCH_MS = 50, MAX_DETAILS = 600 };

/* What the queue reports; each at most once in flight. */
enum { TAG_SEND = 1, TAG_MESSAGE, TAG_STATUS, TAG_WATCH, N_TAGS };

struct mr_rpc_call {
    mr_rpc_channel *channel;
    mr_rpc_link *link;
    char *method;
    uint32_t timeout_ms;
    gpr_timespec deadline;
    mr_cancel *cancel;
    uint64_t subscription;
    grpc_completion_queue *queue;
    grpc_call *grpc;
    bool in_flight[N_TAGS];
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *message;
    grpc_status_code code;
    grpc_slice details;
};

static void *tag_of(int tag) {
    return (void *)(intptr_t)tag;
}

/* Waits for the next event. False once the queue is shut down and empty. */
static bool wait_event(mr_rpc_call *call) {
    grpc_event event = grpc_completion_queue_next(call->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (event.type != GRPC_OP_COMPLETE) return false;
    call->in_flight[(intptr_t)event.tag] = false;
    return true;
}

/* Every read of memory that gRPC owns. TSan does not see how gRPC hands it from one thread to another: tests/tsan.supp
 * leaves this function out by its name. */
__attribute__((noinline)) static void copy_from_grpc(void *out, const grpc_slice *slice, size_t n) {
    memcpy(out, GRPC_SLICE_START_PTR(*slice), n);
}

/* --- errors --- */

static const char *code_name(int code) {
    static const char *const NAMES[] = {
        "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED"};
    return code >= 0 && (size_t)code < sizeof NAMES / sizeof NAMES[0] ? NAMES[code] : "an unknown status";
}

static mr_status status_of_code(grpc_status_code code) {
    switch (code) {
    case GRPC_STATUS_INVALID_ARGUMENT:
    case GRPC_STATUS_FAILED_PRECONDITION:
    case GRPC_STATUS_OUT_OF_RANGE:
    case GRPC_STATUS_UNAUTHENTICATED:
    case GRPC_STATUS_PERMISSION_DENIED:
        return MR_ERR_INVALID;
    case GRPC_STATUS_NOT_FOUND:
        return MR_ERR_NOT_FOUND;
    case GRPC_STATUS_UNIMPLEMENTED:
        return MR_ERR_UNSUPPORTED;
    case GRPC_STATUS_DEADLINE_EXCEEDED:
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return MR_ERR_LIMIT;
    case GRPC_STATUS_UNAVAILABLE:
        return MR_ERR_UNAVAILABLE;
    default:
        return MR_ERR_IO;
    }
}

/* The server's words: bounded, and repaired where they are no UTF-8. */
static void copy_details(const grpc_slice *details, char out[MAX_DETAILS + 4]) {
    char text[MAX_DETAILS + 4];
    size_t len = GRPC_SLICE_LENGTH(*details), n = 0;
    if (len > sizeof text) len = sizeof text;
    copy_from_grpc(text, details, len);
    for (size_t i = 0; i < len && n < MAX_DETAILS;) {
        uint32_t c;
        i += mr_utf8_decode(text + i, len - i, &c);
        if (c < 0x20 || c == 0x7F) c = ' ';
        n += mr_utf8_encode(c, out + n);
    }
    out[n] = '\0';
}

static mr_status cancelled(mr_error *err) {
    return mr_fail(err, MR_ERR_CANCELLED, "the job was cancelled");
}

static mr_status no_connection(const mr_rpc_call *call, uint32_t ms, mr_error *err) {
    return mr_fail(err, MR_ERR_UNAVAILABLE,
                   "%s: no connection within %.1f s; check that the server runs and that its address is right",
                   call->channel->endpoint, ms / 1000.0);
}

static mr_status ended_badly(const mr_rpc_call *call, mr_error *err) {
    if (mr_cancel_is_set(call->cancel)) return cancelled(err);
    char details[MAX_DETAILS + 4];
    copy_details(&call->details, details);
    if (call->code == GRPC_STATUS_DEADLINE_EXCEEDED && call->timeout_ms != 0) {
        return mr_fail(err, MR_ERR_LIMIT, "%s: %s did not answer within %.1f s", call->channel->endpoint, call->method,
                       call->timeout_ms / 1000.0);
    }
    return mr_fail(err, status_of_code(call->code), "%s: %s ended with %s%s%s", call->channel->endpoint, call->method,
                   code_name((int)call->code), details[0] != '\0' ? ": " : "", details);
}

/* --- connecting --- */

/* Waits until the state differs from the last one, or for some milliseconds. */
static void watch(mr_rpc_call *call, grpc_connectivity_state last, uint32_t ms) {
    call->in_flight[TAG_WATCH] = true;
    grpc_channel_watch_connectivity_state(call->link->grpc, last, mr_rpc_deadline(ms), call->queue, tag_of(TAG_WATCH));
    while (call->in_flight[TAG_WATCH] && wait_event(call)) continue;
}

/* One round of polling without waiting: what has come to the sockets is read, however late this thread runs. Nothing
 * is in flight. */
static void look_at_sockets(mr_rpc_call *call) {
    grpc_completion_queue_next(call->queue, gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
}

/* Waits for a connection, or for its failure: the call that follows then fails at once and says why. A connection that
 * looks ready gets a moment to show that its other end has gone, which would fail a call that could have succeeded. */
static mr_status connect(mr_rpc_call *call, mr_error *err) {
    uint32_t ms = call->channel->connect_timeout_ms;
    if (call->timeout_ms != 0 && call->timeout_ms < ms) ms = call->timeout_ms;
    gpr_timespec deadline = mr_rpc_deadline(ms);
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(call->link->grpc, 1);
    if (state == GRPC_CHANNEL_READY) {
        watch(call, state, 1);
        look_at_sockets(call);
        state = grpc_channel_check_connectivity_state(call->link->grpc, 1);
    }
    while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE) {
        if (mr_cancel_is_set(call->cancel)) return cancelled(err);
        if (gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), deadline) >= 0) return no_connection(call, ms, err);
        watch(call, state, WATCH_MS);
        state = grpc_channel_check_connectivity_state(call->link->grpc, 1);
    }
    return MR_OK;
}

/* --- sending --- */

static mr_status fill_metadata(const mr_rpc_request *request, grpc_metadata *metadata, mr_error *err) {
    if (request->n_metadata > MAX_METADATA) {
        return mr_fail(err, MR_ERR_LIMIT, "%s: %zu headers are too many; at most %d can be sent", request->method,
                       request->n_metadata, MAX_METADATA);
    }
    for (size_t i = 0; i < request->n_metadata; i++) {
        metadata[i] = (grpc_metadata){.key = grpc_slice_from_static_string(request->metadata[i].key),
                                      .value = grpc_slice_from_copied_string(request->metadata[i].value)};
        bool binary = grpc_is_binary_header(metadata[i].key) != 0;
        bool good = grpc_header_key_is_legal(metadata[i].key) &&
                    (binary || grpc_header_nonbin_value_is_legal(metadata[i].value));
        if (good) continue;
        for (size_t k = 0; k <= i; k++) grpc_slice_unref(metadata[k].value);
        return mr_fail(err, MR_ERR_INVALID, "%s: the header %.64s has a name or value that cannot be sent",
                       request->method, request->metadata[i].key);
    }
    return MR_OK;
}

static grpc_call_error start_batch(mr_rpc_call *call, const grpc_op *ops, size_t n, int tag) {
    call->in_flight[tag] = true;
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, n, tag_of(tag), NULL);
    if (error != GRPC_CALL_OK) call->in_flight[tag] = false;
    return error;
}

static mr_status send_request(mr_rpc_call *call, const mr_rpc_request *request, mr_error *err) {
    grpc_metadata metadata[MAX_METADATA];
    mr_status status = fill_metadata(request, metadata, err);
    if (status != MR_OK) return status;
    grpc_slice slice = grpc_slice_from_copied_buffer(request->message, request->n_message);
    grpc_byte_buffer *body = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    grpc_op send[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = request->n_metadata, .metadata = metadata}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = body},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &call->initial},
    };
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                   .data.recv_status_on_client = {
                       .trailing_metadata = &call->trailing, .status = &call->code, .status_details = &call->details}};
    grpc_call_error error = start_batch(call, send, sizeof send / sizeof send[0], TAG_SEND);
    if (error == GRPC_CALL_OK) error = start_batch(call, &end, 1, TAG_STATUS);
    grpc_byte_buffer_destroy(body);
    for (size_t i = 0; i < request->n_metadata; i++) grpc_slice_unref(metadata[i].value);
    if (error == GRPC_CALL_OK) return MR_OK;
    return mr_fail(err, MR_ERR_INTERNAL, "%s: gRPC took no request (error %d)", request->method, (int)error);
}

/* Runs in the thread that cancels. */
static void on_cancel(void *grpc) {
    grpc_call_cancel(grpc, NULL);
}

static mr_status start(mr_rpc_call *call, const mr_rpc_request *request, mr_error *err) {
    if (mr_cancel_is_set(call->cancel)) return cancelled(err);
    if (request->n_message > call->channel->max_message_bytes) {
        return mr_fail(err, MR_ERR_LIMIT, "%s: the message of %zu bytes is too long; at most %u are sent",
                       request->method, request->n_message, call->channel->max_message_bytes);
    }
    call->link = mr_rpc_link_acquire(call->channel);
    if (call->link == NULL) return mr_fail(err, MR_ERR_NOMEM, "%s: no channel could be made", call->channel->endpoint);
    call->queue = grpc_completion_queue_create_for_next(NULL);
    call->deadline =
        request->timeout_ms != 0 ? mr_rpc_deadline(request->timeout_ms) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
    mr_status status = connect(call, err);
    if (status != MR_OK) return status;
    grpc_slice method = grpc_slice_from_copied_string(request->method);
    call->grpc = grpc_channel_create_call(call->link->grpc, NULL, GRPC_PROPAGATE_DEFAULTS, call->queue, method, NULL,
                                          call->deadline, NULL);
    grpc_slice_unref(method);
    if (call->grpc == NULL) return mr_fail(err, MR_ERR_INTERNAL, "%s: gRPC made no call", request->method);
    status = send_request(call, request, err);
    if (status == MR_OK) call->subscription = mr_cancel_subscribe(call->cancel, on_cancel, call->grpc);
    return status;
}

mr_status mr_rpc_call_start(mr_rpc_call **out, mr_rpc_channel *channel, const mr_rpc_request *request, mr_error *err) {
    *out = NULL;
    mr_rpc_call *call = calloc(1, sizeof *call);
    size_t n_method = strlen(request->method) + 1;
    char *method = malloc(n_method);
    if (call == NULL || method == NULL) {
        free(call);
        free(method);
        return mr_fail_nomem(err, sizeof *call, "a call");
    }
    memcpy(method, request->method, n_method);
    call->method = method;
    call->channel = mr_rpc_channel_ref(channel);
    call->timeout_ms = request->timeout_ms;
    call->cancel = mr_cancel_ref(request->cancel);
    call->code = (grpc_status_code)-1;
    call->details = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    mr_status status = start(call, request, err);
    if (status != MR_OK)
        mr_rpc_call_free(call);
    else
        *out = call;
    return status;
}

/* --- receiving --- */

static mr_status take_message(mr_rpc_call *call, mr_buf *message, mr_error *err) {
    grpc_byte_buffer_reader reader;
    bool ok = grpc_byte_buffer_reader_init(&reader, call->message) != 0;
    if (ok) {
        for (grpc_slice slice; ok && grpc_byte_buffer_reader_next(&reader, &slice) != 0;) {
            size_t n = GRPC_SLICE_LENGTH(slice);
            ok = mr_buf_reserve(message, n);
            if (ok) {
                copy_from_grpc(message->data + message->len, &slice, n);
                message->len += n;
                message->data[message->len] = '\0';
            }
            grpc_slice_unref(slice);
        }
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(call->message);
    call->message = NULL;
    return ok ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "%s: there is no memory for a message", call->method);
}

mr_status mr_rpc_call_next(mr_rpc_call *call, mr_buf *message, bool *done, mr_error *err) {
    *done = false;
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->message};
    if (start_batch(call, &receive, 1, TAG_MESSAGE) != GRPC_CALL_OK)
        return mr_fail(err, MR_ERR_INTERNAL, "%s: gRPC reads no message", call->method);
    while (call->in_flight[TAG_MESSAGE] && wait_event(call)) continue;
    if (call->message != NULL) return take_message(call, message, err);
    while (call->in_flight[TAG_STATUS] && wait_event(call)) continue;
    if (call->code != GRPC_STATUS_OK) return ended_badly(call, err);
    *done = true;
    return MR_OK;
}

int mr_rpc_call_code(const mr_rpc_call *call) {
    return call->in_flight[TAG_STATUS] ? -1 : (int)call->code;
}

void mr_rpc_call_free(mr_rpc_call *call) {
    if (call == NULL) return;
    mr_cancel_unsubscribe(call->cancel, call->subscription);
    if (call->grpc != NULL) {
        grpc_call_cancel(call->grpc, NULL);
        grpc_call_unref(call->grpc);
    }
    if (call->queue != NULL) {
        grpc_completion_queue_shutdown(call->queue);
        while (wait_event(call)) continue;
        grpc_completion_queue_destroy(call->queue);
    }
    if (call->message != NULL) grpc_byte_buffer_destroy(call->message);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    mr_rpc_link_release(call->link);
    mr_rpc_channel_unref(call->channel);
    mr_cancel_unref(call->cancel);
    free(call->method);
    free(call);
}

mr_status mr_rpc_unary(mr_rpc_channel *channel, const mr_rpc_request *request, mr_buf *reply, mr_error *err) {
    mr_rpc_call *call;
    mr_status status = mr_rpc_call_start(&call, channel, request, err);
    if (status != MR_OK) return status;
    bool done = false;
    mr_buf extra = {0};
    status = mr_rpc_call_next(call, reply, &done, err);
    bool none = status == MR_OK && done;
    if (status == MR_OK && !done) status = mr_rpc_call_next(call, &extra, &done, err);
    if (status == MR_OK && (none || !done)) {
        status = mr_fail(err, MR_ERR_IO, "%s: %s answered with %s message", channel->endpoint, request->method,
                         none ? "no" : "more than one");
    }
    mr_buf_free(&extra);
    mr_rpc_call_free(call);
    return status;
}
