/* The futures that the vtable hands to the host. Each takes over all that it is given, does nothing until its first
 * poll, and may be dropped at any moment. When memory runs out the future is one that says so. */
#ifndef MR_PLUGIN_FUTURES_H
#define MR_PLUGIN_FUTURES_H

#include "plugin/abi.h"
#include "plugin/token.h"
#include "service/service.h"

FfiFutureUnit mr_load_future(mr_service *service, FfiBytes settings);

/* One result. The outcome carries the metadata that came in, also on an error. */
FfiFutureRun mr_run_future(mr_service *service, mr_token token, FfiBytes args, FfiKvPairList metadata,
                           FfiOptionBytes method);

/* Chunks into the sink, then the metadata that came in, or an error. The sink is dropped before Ready. */
FfiFutureStream mr_stream_future(mr_service *service, mr_token token, FfiBytes args, FfiKvPairList metadata,
                                 FfiOptionBytes method, OutputSink sink);

#endif
