/* Settings that come from the environment. A value that does not parse is named in a warning, and the default stands.
 */
#ifndef MR_SERVICE_ENVIRONMENT_H
#define MR_SERVICE_ENVIRONMENT_H

#include <stdbool.h>
#include <stdint.h>

/* How tools are called. */
typedef struct mr_tool_config {
    const char *grpc_endpoint; /* NULL: no tools */
    uint32_t max_iterations;
    uint32_t tool_timeout_sec;
    uint32_t connection_timeout_sec;
    bool parallel;
} mr_tool_config;

/* What the MISTRAL_* variables say, else the defaults. grpc_endpoint points into the environment. */
mr_tool_config mr_environment_tools(void);

/* MISTRAL_DRAFT_TOKENS, else 0: mr_engine_config.n_draft. */
uint32_t mr_environment_n_draft(void);

#endif
