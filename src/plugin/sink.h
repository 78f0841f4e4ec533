/* The sending end of the host's channel: one send in flight, driven from within the stream future's poll. */
#ifndef MR_PLUGIN_SINK_H
#define MR_PLUGIN_SINK_H

#include "plugin/abi.h"

typedef struct mr_sink {
    OutputSink host;
    FfiFutureUnit in_flight; /* valid while `sending` */
    bool held;               /* drop_state was not called yet */
    bool sending;
} mr_sink;

typedef enum mr_sink_state {
    MR_SINK_IDLE,    /* the next send may start */
    MR_SINK_PENDING, /* a send is in flight and has registered the context's waker */
    MR_SINK_CLOSED,  /* the receiver is gone, or its send future panicked */
} mr_sink_state;

mr_sink mr_sink_own(OutputSink host);

/* Starts a send; the sink must be idle. Takes the bytes over. */
void mr_sink_start(mr_sink *sink, FfiBytes bytes);

/* Polls the send in flight once, if there is one. Never blocks. */
mr_sink_state mr_sink_poll(mr_sink *sink, FfiContext *cx);

/* Drops the send in flight, if any, then the host's sink; once. */
void mr_sink_close(mr_sink *sink);

#endif
