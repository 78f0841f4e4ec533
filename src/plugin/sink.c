#include "plugin/sink.h"

#include "plugin/values.h"

mr_sink mr_sink_own(OutputSink host) {
    return (mr_sink){.host = host, .held = true};
}

void mr_sink_start(mr_sink *sink, FfiBytes bytes) {
    sink->in_flight = sink->host.send(sink->host.state, bytes);
    sink->sending = true;
}

static void drop_in_flight(mr_sink *sink) {
    if (!sink->sending) return;
    sink->sending = false;
    sink->in_flight.drop_fn(sink->in_flight.fut_ptr);
}

mr_sink_state mr_sink_poll(mr_sink *sink, FfiContext *cx) {
    if (!sink->held) return MR_SINK_CLOSED;
    if (!sink->sending) return MR_SINK_IDLE;
    FfiPollUnit poll = sink->in_flight.poll_fn(sink->in_flight.fut_ptr, cx);
    if (poll.tag == FFI_PENDING) return MR_SINK_PENDING;
    drop_in_flight(sink);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_OK) return MR_SINK_IDLE;
    if (poll.tag == FFI_READY) mr_bytes_drop(&poll.u.ready.u.err);
    return MR_SINK_CLOSED;
}

void mr_sink_close(mr_sink *sink) {
    if (!sink->held) return;
    drop_in_flight(sink);
    sink->held = false;
    if (sink->host.drop_state != NULL) sink->host.drop_state(sink->host.state);
}
