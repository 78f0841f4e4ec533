/* Log lines on standard error, filtered as env_logger filters them: RUST_LOG is a level word (error, warn, info, debug,
 * trace, off) or a comma-separated list of `level` and `target=level`; default info. Thread-safe, one write per line.
 */
#ifndef MR_BASE_LOG_H
#define MR_BASE_LOG_H

#include "base/error.h"

#include <stdbool.h>

typedef enum mr_log_level {
    MR_LOG_OFF = 0,
    MR_LOG_ERROR,
    MR_LOG_WARN,
    MR_LOG_INFO,
    MR_LOG_DEBUG,
    MR_LOG_TRACE
} mr_log_level;

/* Whether a line of this level from this target ("mistral_runner::engine", …) would be written. */
bool mr_log_enabled(mr_log_level level, const char *target);

/* Writes `time LEVEL target: text` as one line, control characters escaped; with LOG_FORMAT=json in the environment an
 * object with timestamp, level, target and message. */
void mr_log(mr_log_level level, const char *target, const char *format, ...) MR_PRINTF(3, 4);

/* Replaces the filter (the syntax of RUST_LOG); NULL reads the environment again. A part that does not parse is named
 * in a warning and ignored. */
void mr_log_set_filter(const char *filter);

/* Use as MR_INFO("loaded %s", path); each .c file defines MR_LOG_TARGET before including this header. */
#ifndef MR_LOG_TARGET
#define MR_LOG_TARGET "mistral_runner"
#endif
#define MR_LOG_AT(level, ...)                                                                                          \
    do {                                                                                                               \
        if (mr_log_enabled(level, MR_LOG_TARGET)) mr_log(level, MR_LOG_TARGET, __VA_ARGS__);                           \
    } while (0)
#define MR_ERROR(...) MR_LOG_AT(MR_LOG_ERROR, __VA_ARGS__)
#define MR_WARN(...) MR_LOG_AT(MR_LOG_WARN, __VA_ARGS__)
#define MR_INFO(...) MR_LOG_AT(MR_LOG_INFO, __VA_ARGS__)
#define MR_DEBUG(...) MR_LOG_AT(MR_LOG_DEBUG, __VA_ARGS__)

#endif
