/* What every export says of its origin. */
#ifndef MR_SERVICE_OTLP_RESOURCE_H
#define MR_SERVICE_OTLP_RESOURCE_H

#include "otlp.pb-c.h"

/* The resource (service.name from OTEL_SERVICE_NAME, else "mistral-runner"; service.version, process.pid) and the
 * scope. Static and constant once made. */
MistralRunner__Otlp__Resource *mr_otlp_resource(void);
MistralRunner__Otlp__InstrumentationScope *mr_otlp_scope(void);

#endif
