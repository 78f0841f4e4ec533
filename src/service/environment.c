#define MR_LOG_TARGET "mistral_runner::service"
#include "service/environment.h"

#include "base/log.h"
#include "engine/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A number from `min` to `max`, or the default. */
static uint32_t number(const char *name, uint32_t fallback, uint32_t min, uint32_t max) {
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return fallback;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || strspn(text, "0123456789") != strlen(text) || value < min || value > max) {
        MR_WARN("%s=%.64s is no whole number from %u to %u; %u is used", name, text, min, max, fallback);
        return fallback;
    }
    return (uint32_t)value;
}

static bool truth(const char *name, bool fallback) {
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return fallback;
    if (strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0) return true;
    if (strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0) return false;
    MR_WARN("%s=%.64s is neither true nor false; %s is used", name, text, fallback ? "true" : "false");
    return fallback;
}

mr_tool_config mr_environment_tools(void) {
    const char *endpoint = getenv("MISTRAL_GRPC_ENDPOINT");
    return (mr_tool_config){
        .grpc_endpoint = endpoint != NULL && *endpoint != '\0' ? endpoint : NULL,
        .max_iterations = number("MISTRAL_MAX_ITERATIONS", 3, 1, 1000),
        .tool_timeout_sec = number("MISTRAL_TOOL_TIMEOUT_SEC", 30, 1, 86400),
        .connection_timeout_sec = number("MISTRAL_CONNECTION_TIMEOUT_SEC", 10, 1, 86400),
        .parallel = truth("MISTRAL_PARALLEL_TOOLS", true),
    };
}

uint32_t mr_environment_n_draft(void) {
    return number("MISTRAL_DRAFT_TOKENS", 0, 0, MR_MAX_DRAFT);
}
