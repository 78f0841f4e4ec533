/* A worker's settings: decoded, checked, and resolved to the files they name. */
#ifndef MR_SERVICE_SETTINGS_H
#define MR_SERVICE_SETTINGS_H

#include "base/arena.h"
#include "base/cancel.h"
#include "base/error.h"
#include "compute/kv.h"
#include "service/environment.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_settings {
    mr_arena arena;     /* owns every string below */
    const char **paths; /* GGUF files in order; n_paths 0 = the embedded model */
    size_t n_paths;
    const struct mr_quant_mix *quantize; /* how float weights are quantized while they load; NULL = as stored */
    const char *tokenizer_folder;        /* NULL: the model's own */
    const char *chat_template;           /* NULL: the model's own */
    uint32_t context_size;               /* 0: the engine's choice; likewise below */
    uint32_t max_concurrent;
    uint32_t threads;
    uint32_t n_draft; /* from the environment */
    const char *device; /* "auto", "cpu", "cuda" or "cuda:N" */
    mr_kv_type kv_type;
    bool with_logging;
    bool stream_final_full_text;
    mr_tool_config tools;
    /* Equal for settings that may share one loaded model: files by identity and time of change, and every value that
     * the model's memory or numbers depend on. */
    const char *key;
} mr_settings;

/* Decodes an encoded LocalRunnerSettings and resolves it against the file system and the environment; a model that is
 * named by a repository of the hub is downloaded, which `cancel` (may be NULL) breaks off. Errors say which setting is
 * wrong and what to write instead; *settings then needs no freeing. */
mr_status mr_settings_decode(mr_settings *settings, const uint8_t *bytes, size_t n, mr_cancel *cancel, mr_error *err);
void mr_settings_free(mr_settings *settings);

#endif
