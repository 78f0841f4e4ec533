#define _DEFAULT_SOURCE
#define MR_LOG_TARGET "mistral_runner::service"
#include "service/settings.h"

#include "model/model.h"
#include "model/quant_mix.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "service/pb_wire.h"
#include "service/rpc.h"
#include "service/settings_hub.h"
#include "settings.pb-c.h"
#include "text/model_path.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef Jobworkerp__Runner__Llm__LocalRunnerSettings pb_settings;
typedef Jobworkerp__Runner__Llm__TextModelSettings pb_text_model;
typedef Jobworkerp__Runner__Llm__GgufModelSettings pb_gguf_model;

enum { MAX_FILES = 1024, MAX_CONTEXT = 1 << 24, MAX_SEQUENCES = 4096, MAX_THREADS = 256 };

static bool is_given(const char *text) {
    return text != NULL && *text != '\0';
}

static mr_status no_memory(mr_error *err) {
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory to read the settings");
}

/* A copy of text in the settings' arena. */
static mr_status keep(mr_settings *settings, const char **slot, const char *text, mr_error *err) {
    *slot = mr_arena_strndup(&settings->arena, text, strlen(text));
    return *slot != NULL ? MR_OK : no_memory(err);
}

/* --- which model --- */

typedef struct model_choice {
    const pb_text_model *text;
    const pb_gguf_model *gguf;
} model_choice;

/* The choice can stand in two places, but only in one at a time. */
static mr_status choose_model(const pb_settings *pb, model_choice *choice, mr_error *err) {
    enum { OUTER_TEXT = JOBWORKERP__RUNNER__LLM__LOCAL_RUNNER_SETTINGS__MODEL_CHOICE_TEXT_MODEL };
    enum { OUTER_GGUF = JOBWORKERP__RUNNER__LLM__LOCAL_RUNNER_SETTINGS__MODEL_CHOICE_GGUF_MODEL };
    enum { INNER_TEXT = JOBWORKERP__RUNNER__LLM__MODEL_SETTINGS__MODEL_TEXT_MODEL };
    enum { INNER_GGUF = JOBWORKERP__RUNNER__LLM__MODEL_SETTINGS__MODEL_GGUF_MODEL };
    *choice = (model_choice){0};
    if ((int)pb->model_choice_case == OUTER_TEXT) choice->text = pb->text_model;
    if ((int)pb->model_choice_case == OUTER_GGUF) choice->gguf = pb->gguf_model;
    bool outer = choice->text != NULL || choice->gguf != NULL;
    if (pb->model_settings == NULL) return MR_OK;
    const pb_text_model *inner_text =
        (int)pb->model_settings->model_case == INNER_TEXT ? pb->model_settings->text_model : NULL;
    const pb_gguf_model *inner_gguf =
        (int)pb->model_settings->model_case == INNER_GGUF ? pb->model_settings->gguf_model : NULL;
    if (inner_text == NULL && inner_gguf == NULL) return MR_OK;
    if (outer) {
        return mr_fail(err, MR_ERR_INVALID,
                       "the settings name a model twice: in model_settings and beside it; keep one of the two");
    }
    choice->text = inner_text;
    choice->gguf = inner_gguf;
    return MR_OK;
}

static mr_status add_path(mr_settings *settings, const char *folder, const char *name, mr_error *err) {
    char *path = mr_path_join(folder, name);
    if (path == NULL) return no_memory(err);
    mr_status status = MR_OK;
    if (!mr_path_is_file(path)) {
        status = mr_fail(err, MR_ERR_NOT_FOUND,
                         "the model file %s does not exist; check model_name_or_path and gguf_files", path);
    } else {
        status = keep(settings, &settings->paths[settings->n_paths++], path, err);
    }
    free(path);
    return status;
}

/* A folder without a file list: its one GGUF model. */
static mr_status resolve_folder(mr_settings *settings, const char *folder, mr_error *err) {
    char *path;
    mr_status status = mr_model_path_find(folder, &path, err);
    if (status != MR_OK) return mr_fail_prefix(err, "model_name_or_path");
    status = keep(settings, &settings->paths[settings->n_paths++], path, err);
    free(path);
    return status;
}

static mr_status resolve_gguf(mr_settings *settings, const pb_gguf_model *pb, mr_cancel *cancel, mr_error *err) {
    const char *base = pb->model_name_or_path != NULL ? pb->model_name_or_path : "";
    if (pb->n_gguf_files > MAX_FILES) {
        return mr_fail(err, MR_ERR_LIMIT, "gguf_files has %zu entries; at most %d are read", pb->n_gguf_files,
                       MAX_FILES);
    }
    settings->paths = mr_arena_calloc(&settings->arena, pb->n_gguf_files + 1, sizeof *settings->paths);
    if (settings->paths == NULL) return no_memory(err);
    if (*base == '\0' && pb->n_gguf_files == 0) {
        return mr_fail(
            err, MR_ERR_INVALID,
            "gguf_model names no model: set model_name_or_path to a .gguf file, or to a folder with the file "
            "names in gguf_files");
    }
    bool is_dir = *base == '\0' || mr_path_is_dir(base);
    for (size_t i = 0; i < pb->n_gguf_files; i++) {
        if (!is_given(pb->gguf_files[i])) return mr_fail(err, MR_ERR_INVALID, "gguf_files[%zu] is empty", i);
    }
    if (!is_dir && !mr_path_is_file(base)) {
        return mr_settings_fetch_model(settings, MR_HUB_GGUF, base, pb->gguf_files, pb->n_gguf_files, cancel, err);
    }
    if (!is_dir && pb->n_gguf_files > 0) {
        return mr_fail(err, MR_ERR_INVALID,
                       "model_name_or_path \"%s\" is a file, so gguf_files must be empty; or name the file's folder",
                       base);
    }
    if (!is_dir) return add_path(settings, "", base, err);
    if (pb->n_gguf_files == 0) return resolve_folder(settings, base, err);
    for (size_t i = 0; i < pb->n_gguf_files; i++) {
        mr_status status = add_path(settings, base, pb->gguf_files[i], err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* The mix of each isq_type. */
static const char *const ISQ_MIXES[] = {"Q4_K_M", "Q4_0",   "Q4_1",   "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K",
                                        "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_K", "HQQ8", "HQQ4", "F8E4M3"};

static mr_status resolve_isq(mr_settings *settings, const pb_text_model *pb, mr_error *err) {
    size_t n = sizeof ISQ_MIXES / sizeof ISQ_MIXES[0];
    if (!pb->has_isq_type) return MR_OK;
    if ((size_t)pb->isq_type >= n)
        return mr_fail(err, MR_ERR_INVALID, "isq_type %d is no known type", (int)pb->isq_type);
    const char *name = ISQ_MIXES[pb->isq_type];
    settings->quantize = mr_quant_mix_find(name);
    return settings->quantize != NULL ? MR_OK : mr_fail(err, MR_ERR_INTERNAL, "the mix %s is missing", name);
}

static mr_status resolve_text_model(mr_settings *settings, const pb_text_model *pb, mr_cancel *cancel, mr_error *err) {
    const char *name = pb->model_name_or_path != NULL ? pb->model_name_or_path : "";
    if (*name == '\0') {
        return mr_fail(err, MR_ERR_INVALID, "text_model names no model: set model_name_or_path to a model folder");
    }
    mr_status status;
    if (!mr_path_is_dir(name)) {
        status = mr_settings_fetch_model(settings, MR_HUB_MODEL, name, NULL, 0, cancel, err);
    } else {
        settings->paths = mr_arena_calloc(&settings->arena, 1, sizeof *settings->paths);
        if (settings->paths == NULL) return no_memory(err);
        status = resolve_folder(settings, name, err);
    }
    return status == MR_OK ? resolve_isq(settings, pb, err) : status;
}

/* --- the rest --- */

static mr_status resolve_chat_template(mr_settings *settings, const char *path, mr_error *err) {
    if (!is_given(path)) return MR_OK;
    if (!mr_has_suffix(path, ".json") && !mr_has_suffix(path, ".jinja")) {
        return mr_fail(err, MR_ERR_INVALID,
                       "chat_template \"%s\" ends in neither .jinja nor .json; give the path of such a file", path);
    }
    if (!mr_path_is_file(path)) {
        return mr_fail(err, MR_ERR_NOT_FOUND, "the chat_template file %s does not exist; check the path", path);
    }
    return keep(settings, &settings->chat_template, path, err);
}

/* The GGUF file has a tokenizer too: where the hub does not give the named one, that is used. */
static mr_status resolve_tokenizer(mr_settings *settings, const char *name, mr_cancel *cancel, mr_error *err) {
    if (!is_given(name)) return MR_OK;
    if (mr_path_is_dir(name)) return keep(settings, &settings->tokenizer_folder, name, err);
    if (!mr_hub_id_plausible(name))
        return mr_fail(err, MR_ERR_NOT_FOUND, "tok_model_id \"%s\" is no folder; check the path", name);
    mr_status status = mr_settings_fetch_tokenizer(settings, name, cancel, err);
    if (status == MR_OK || status == MR_ERR_CANCELLED || status == MR_ERR_NOMEM) return status;
    MR_WARN("tok_model_id \"%s\": %s; the tokenizer in the GGUF file is used", name, err->text);
    return MR_OK;
}

static mr_status bounded(const char *name, bool given, uint32_t value, uint32_t max, uint32_t *out, mr_error *err) {
    if (!given) return MR_OK;
    if (value > max) return mr_fail(err, MR_ERR_INVALID, "%s is %u; at most %u is possible", name, value, max);
    *out = value;
    return MR_OK;
}

static mr_status resolve_sizes(mr_settings *settings, const pb_settings *pb, mr_error *err) {
    const Jobworkerp__Runner__Llm__AutoDeviceMapParams *map = pb->auto_device_map;
    mr_status status = MR_OK;
    if (map != NULL) {
        status = bounded("auto_device_map.max_seq_len", map->has_max_seq_len, map->max_seq_len, MAX_CONTEXT,
                         &settings->context_size, err);
        if (status == MR_OK) {
            status = bounded("auto_device_map.max_batch_size", map->has_max_batch_size, map->max_batch_size,
                             MAX_SEQUENCES, &settings->max_concurrent, err);
        }
    }
    if (status == MR_OK) {
        status = bounded("context_size", pb->has_context_size && pb->context_size != 0, pb->context_size, MAX_CONTEXT,
                         &settings->context_size, err);
    }
    if (status == MR_OK) {
        status = bounded("max_concurrent", pb->has_max_concurrent && pb->max_concurrent != 0, pb->max_concurrent,
                         MAX_SEQUENCES, &settings->max_concurrent, err);
    }
    if (status == MR_OK)
        status = bounded("threads", pb->has_threads, pb->threads, MAX_THREADS, &settings->threads, err);
    return status;
}

static mr_status resolve_engine(mr_settings *settings, const pb_settings *pb, mr_error *err) {
    const char *kv = is_given(pb->kv_cache_type) ? pb->kv_cache_type : "f16";
    if (strcasecmp(kv, "f16") == 0)
        settings->kv_type = MR_KV_F16;
    else if (strcasecmp(kv, "f32") == 0)
        settings->kv_type = MR_KV_F32;
    else if (strcasecmp(kv, "q8_0") == 0)
        settings->kv_type = MR_KV_Q8_0;
    else
        return mr_fail(err, MR_ERR_INVALID, "kv_cache_type \"%.64s\" is unknown; use f16, f32 or q8_0", kv);
    const char *device = is_given(pb->device) ? pb->device : "auto";
    int number;
    mr_status status = keep(settings, &settings->device, device, err);
    if (status == MR_OK) status = mr_device_name_check(settings->device, &number, err);
    if (status != MR_OK) return status;
    settings->n_draft = mr_environment_n_draft();
    return resolve_sizes(settings, pb, err);
}

/* The message wins over the environment. */
static mr_status resolve_tools(mr_settings *settings, const Jobworkerp__Runner__Llm__ToolCallingConfig *pb,
                               mr_error *err) {
    mr_tool_config *tools = &settings->tools;
    *tools = mr_environment_tools();
    if (pb != NULL) {
        if (is_given(pb->grpc_endpoint)) tools->grpc_endpoint = pb->grpc_endpoint;
        if (pb->max_iterations != 0) tools->max_iterations = pb->max_iterations;
        if (pb->tool_timeout_sec != 0) tools->tool_timeout_sec = pb->tool_timeout_sec;
        if (pb->connection_timeout_sec != 0) tools->connection_timeout_sec = pb->connection_timeout_sec;
        if (pb->has_parallel_execution) tools->parallel = pb->parallel_execution;
    }
    if (tools->grpc_endpoint == NULL) return MR_OK;
    mr_rpc_channel *channel;
    mr_rpc_options options = {.endpoint = tools->grpc_endpoint};
    if (mr_rpc_channel_new(&channel, &options, err) != MR_OK) {
        if (pb != NULL && is_given(pb->grpc_endpoint)) return mr_fail_prefix(err, "tool_calling.grpc_endpoint");
        MR_WARN("MISTRAL_GRPC_ENDPOINT: %s; there are no tools", err->text);
        *err = (mr_error){0};
        tools->grpc_endpoint = NULL;
        return MR_OK;
    }
    mr_rpc_channel_unref(channel);
    return keep(settings, &tools->grpc_endpoint, tools->grpc_endpoint, err);
}

/* --- the key --- */

/* A file by what it is and when it changed, so that a replaced file is loaded anew and two names of one file are one.
 */
static void append_identity(mr_buf *key, const char *path) {
    struct stat st;
    if (path == NULL || stat(path, &st) != 0) {
        mr_buf_puts(key, path == NULL ? "-;" : "?;");
        return;
    }
    mr_buf_printf(key, "%llx.%llx.%llx.%llx.%lx;", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
                  (unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
}

static mr_status make_key(mr_settings *settings, mr_error *err) {
    mr_buf key = {0};
    if (settings->n_paths == 0) mr_buf_puts(&key, "embedded;");
    for (size_t i = 0; i < settings->n_paths; i++) append_identity(&key, settings->paths[i]);
    mr_buf_printf(&key, "isq=%s;tok=", settings->quantize != NULL ? mr_quant_mix_name(settings->quantize) : "");
    append_identity(&key, settings->tokenizer_folder);
    mr_buf_puts(&key, "tmpl=");
    append_identity(&key, settings->chat_template);
    mr_buf_printf(&key, "ctx=%u;seq=%u;kv=%d;threads=%u;draft=%u;device=%s", settings->context_size,
                  settings->max_concurrent, (int)settings->kv_type, settings->threads, settings->n_draft,
                  settings->device);
    mr_status status = key.failed ? no_memory(err) : keep(settings, &settings->key, mr_buf_cstr(&key), err);
    mr_buf_free(&key);
    return status;
}

static mr_status resolve(mr_settings *settings, const pb_settings *pb, mr_cancel *cancel, mr_error *err) {
    model_choice choice;
    mr_status status = choose_model(pb, &choice, err);
    if (status != MR_OK) return status;
    const char *chat_template = NULL;
    if (choice.text != NULL) {
        settings->with_logging = choice.text->with_logging;
        chat_template = choice.text->chat_template;
        status = resolve_text_model(settings, choice.text, cancel, err);
    } else if (choice.gguf != NULL) {
        settings->with_logging = choice.gguf->with_logging;
        chat_template = choice.gguf->chat_template;
        status = resolve_gguf(settings, choice.gguf, cancel, err);
        if (status == MR_OK) status = resolve_tokenizer(settings, choice.gguf->tok_model_id, cancel, err);
    }
    if (status == MR_OK) status = resolve_chat_template(settings, chat_template, err);
    if (status == MR_OK) status = resolve_engine(settings, pb, err);
    if (status == MR_OK) status = resolve_tools(settings, pb->tool_calling, err);
    if (status == MR_OK) status = make_key(settings, err);
    settings->stream_final_full_text = pb->stream_final_full_text;
    return status;
}

mr_status mr_settings_decode(mr_settings *settings, const uint8_t *bytes, size_t n, mr_cancel *cancel, mr_error *err) {
    *settings = (mr_settings){0};
    mr_arena arena = {0};
    ProtobufCMessage *message;
    mr_status status =
        mr_pb_unpack(&jobworkerp__runner__llm__local_runner_settings__descriptor, bytes, n, &arena, &message, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "the settings cannot be decoded");
    else
        status = resolve(settings, (const pb_settings *)message, cancel, err);
    mr_arena_free(&arena);
    if (status != MR_OK) mr_settings_free(settings);
    return status;
}

void mr_settings_free(mr_settings *settings) {
    mr_arena_free(&settings->arena);
    *settings = (mr_settings){0};
}
