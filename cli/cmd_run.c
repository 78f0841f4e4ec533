/* mistral-runner run: stands in for a jobworkerp worker. Loads the plugin over its ABI, converts the worker's settings
 * and the job's arguments from JSON to protobuf as the host does, and prints the result. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"
#include "host.h"

#include "base/file.h"
#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "completion_args.pb-c.h"
#include "completion_result.pb-c.h"
#include "embedding_args.pb-c.h"
#include "embedding_result.pb-c.h"
#include "service/pb_wire.h"
#include "service/pbjson.h"
#include "settings.pb-c.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_METADATA = 64 };
#ifndef MR_LIBDIR /* the library folder beside bin/, from the build */
#define MR_LIBDIR "lib"
#endif

static const char COMMAND[] = "run";
static const char PLUGIN_FILE[] = "libplugin_runner_mistral.so";

typedef struct run_options {
    const char *worker, *job, *plugin;
    bool stream, json;
} run_options;

/* A method's messages. */
typedef struct method {
    const char *name;
    const ProtobufCMessageDescriptor *args, *result;
} method;

/* The first is the default. */
static const method METHODS[] = {
    {"chat", &jobworkerp__runner__llm__llmchat_args__descriptor, &jobworkerp__runner__llm__llmchat_result__descriptor},
    {"completion", &jobworkerp__runner__llm__llmcompletion_args__descriptor,
     &jobworkerp__runner__llm__llmcompletion_result__descriptor},
    {"embedding", &jobworkerp__runner__llm__llmembedding_args__descriptor,
     &jobworkerp__runner__llm__llmembedding_result__descriptor},
};

typedef struct run {
    const run_options *options;
    json_t *worker, *job;
    mr_buf settings, args; /* encoded */
    const method *method;
    mr_host *host;
    mr_cancel *cancel;
    mr_host_metadata metadata[MAX_METADATA];
    size_t n_metadata;
    mr_error chunk_error; /* of a chunk that could not be printed */
    bool at_line_start;
} run;

static void help(void) {
    fputs("usage: mistral-runner run --job JOB.json [--worker WORKER.json] [--stream] [--plugin PLUGIN.so]\n"
          "\n"
          "Runs one job through the plugin, as jobworkerp would, and prints the result as JSON.\n"
          "\n"
          "  -w, --worker FILE      the worker: its runner_settings name the model (default: the model that is built "
          "in)\n"
          "  -j, --job FILE         the job: \"args\", \"using\" (the method; default chat), \"metadata\"; - = "
          "standard input\n"
          "  -s, --stream           print the text as it comes\n"
          "      --json             with --stream: print each chunk as one line of JSON instead\n"
          "  -p, --plugin FILE      the plugin (default: "
          "libplugin_runner_mistral.so"
          " beside this program)\n"
          "\n"
          "Ctrl-C cancels the job through its token.\n",
          stdout);
}

static int parse_options(int argc, char **argv, run_options *o) {
    static const struct option longs[] = {{"worker", required_argument, NULL, 'w'},
                                          {"job", required_argument, NULL, 'j'},
                                          {"plugin", required_argument, NULL, 'p'},
                                          {"stream", no_argument, NULL, 's'},
                                          {"json", no_argument, NULL, 'J'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "w:j:p:sh", longs, NULL)) != -1;) {
        switch (c) {
        case 'w':
            o->worker = optarg;
            break;
        case 'j':
            o->job = optarg;
            break;
        case 'p':
            o->plugin = optarg;
            break;
        case 's':
            o->stream = true;
            break;
        case 'J':
            o->json = true;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    if (o->job == NULL) return mr_cli_usage_error(COMMAND, "--job is missing");
    return 0;
}

/* --- from JSON to bytes --- */

static mr_status encode(const char *file, const char *part, const ProtobufCMessageDescriptor *type, json_t *json,
                        mr_buf *bytes, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *message;
    mr_status status = mr_pb_from_json(type, json, &arena, &message, err);
    if (status != MR_OK)
        mr_fail_prefix(err, "%s: %s", file, part);
    else if (!mr_pb_pack(message, bytes))
        status = mr_fail(err, MR_ERR_NOMEM, "%s: there is no memory to encode it", file);
    mr_arena_free(&arena);
    return status;
}

static const char *text_member(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static mr_status read_worker(run *r, mr_error *err) {
    const char *file = r->options->worker;
    if (file == NULL) return MR_OK;
    mr_status status = mr_cli_read_json(file, &r->worker, err);
    if (status != MR_OK) return status;
    if (!json_is_object(r->worker)) return mr_fail(err, MR_ERR_INVALID, "%s: a worker is a JSON object", file);
    json_t *settings = json_object_get(r->worker, "runner_settings");
    if (settings == NULL || json_is_null(settings)) return MR_OK;
    return encode(file, "runner_settings", &jobworkerp__runner__llm__local_runner_settings__descriptor, settings,
                  &r->settings, err);
}

static mr_status find_method(run *r, mr_error *err) {
    const char *file = r->options->job;
    json_t *using_ = json_object_get(r->job, "using");
    if (using_ == NULL || json_is_null(using_)) {
        r->method = &METHODS[0];
        return MR_OK;
    }
    if (!json_is_string(using_))
        return mr_fail(err, MR_ERR_INVALID, "%s: using is the name of a method, a string", file);
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        if (strcmp(json_string_value(using_), METHODS[i].name) == 0) {
            r->method = &METHODS[i];
            return MR_OK;
        }
    }
    return mr_fail(err, MR_ERR_NOT_FOUND,
                   "%s: the runner has no method \"%s\"; its methods are chat, completion and embedding", file,
                   json_string_value(using_));
}

static mr_status read_metadata(run *r, mr_error *err) {
    json_t *metadata = json_object_get(r->job, "metadata");
    if (metadata == NULL || json_is_null(metadata)) return MR_OK;
    if (!json_is_object(metadata) || json_object_size(metadata) > MAX_METADATA) {
        return mr_fail(err, MR_ERR_INVALID, "%s: metadata is an object of at most %d strings", r->options->job,
                       MAX_METADATA);
    }
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value)) {
            return mr_fail(err, MR_ERR_INVALID, "%s: metadata.%s is no string", r->options->job, key);
        }
        r->metadata[r->n_metadata++] = (mr_host_metadata){.key = key, .value = json_string_value(value)};
    }
    return MR_OK;
}

static mr_status read_job(run *r, mr_error *err) {
    const char *file = r->options->job;
    mr_status status = mr_cli_read_json(file, &r->job, err);
    if (status != MR_OK) return status;
    if (!json_is_object(r->job)) return mr_fail(err, MR_ERR_INVALID, "%s: a job is a JSON object", file);
    const char *wanted = text_member(r->job, "worker_name"), *name = text_member(r->worker, "name");
    if (wanted != NULL && name != NULL && strcmp(wanted, name) != 0) {
        return mr_fail(err, MR_ERR_INVALID, "%s is a job for the worker \"%s\", but %s is the worker \"%s\"", file,
                       wanted, r->options->worker, name);
    }
    json_t *args = json_object_get(r->job, "args");
    if (args == NULL) return mr_fail(err, MR_ERR_INVALID, "%s: the job has no \"args\"", file);
    status = find_method(r, err);
    if (status == MR_OK) status = read_metadata(r, err);
    if (status == MR_OK) status = encode(file, "args", r->method->args, args, &r->args, err);
    return status;
}

/* --- the plugin --- */

/* The plugin beside this program, or where it is installed. */
static mr_status find_plugin(mr_buf *path, mr_error *err) {
    static const char *const PLACES[] = {"", "../" MR_LIBDIR "/mistral-runner/"};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return mr_fail(err, MR_ERR_IO, "cannot find this program's own folder; name the plugin with --plugin");
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) *slash = '\0';
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        mr_buf_clear(path);
        mr_buf_printf(path, "%s/%s%s", self, PLACES[i], PLUGIN_FILE);
        if (mr_path_is_file(mr_buf_cstr(path))) return MR_OK;
    }
    return mr_fail(err, MR_ERR_NOT_FOUND, "there is no %s beside this program in %s; name it with --plugin",
                   PLUGIN_FILE, self);
}

static mr_status open_plugin(run *r, mr_error *err) {
    mr_buf path = {0}, name = {0};
    mr_status status = MR_OK;
    if (r->options->plugin == NULL) status = find_plugin(&path, err);
    if (status == MR_OK) {
        status = mr_host_open(&r->host, r->options->plugin != NULL ? r->options->plugin : mr_buf_cstr(&path), err);
    }
    if (status == MR_OK) status = mr_host_describe(r->host, MR_HOST_NAME, &name, err);
    if (status == MR_OK && strcmp(mr_buf_cstr(&name), "MistralLocalLLM") != 0) {
        status = mr_fail(err, MR_ERR_UNSUPPORTED,
                         "the plugin is the runner \"%s\"; only MistralLocalLLM can be run here", mr_buf_cstr(&name));
    }
    const char *wanted = text_member(r->worker, "runner_name");
    if (status == MR_OK && wanted != NULL && strcmp(wanted, mr_buf_cstr(&name)) != 0) {
        status = mr_fail(err, MR_ERR_NOT_FOUND, "%s names the runner \"%s\", but the plugin is \"%s\"",
                         r->options->worker, wanted, mr_buf_cstr(&name));
    }
    mr_buf_free(&path);
    mr_buf_free(&name);
    return status;
}

/* --- results --- */

static mr_status decode_result(const run *r, const uint8_t *bytes, size_t n, json_t **json, mr_error *err) {
    mr_arena arena = {0};
    ProtobufCMessage *message;
    mr_status status = mr_pb_unpack(r->method->result, bytes, n, &arena, &message, err);
    if (status == MR_OK) status = mr_pb_to_json(message, json, err);
    mr_arena_free(&arena);
    return status;
}

static mr_status print_result(const run *r, const mr_buf *bytes, mr_error *err) {
    json_t *json;
    mr_status status = decode_result(r, (const uint8_t *)mr_buf_cstr(bytes), bytes->len, &json, err);
    if (status != MR_OK) return status;
    if (!mr_cli_print_json(json, JSON_INDENT(2))) status = mr_fail(err, MR_ERR_IO, "standard output cannot be written");
    json_decref(json);
    return status;
}

static bool print_text(run *r, const json_t *json) {
    const json_t *text = json_object_get(json_object_get(json, "content"), "text");
    size_t n = json_string_length(text);
    if (n == 0) return true;
    r->at_line_start = json_string_value(text)[n - 1] == '\n';
    return fwrite(json_string_value(text), 1, n, stdout) == n && fflush(stdout) == 0;
}

static bool on_chunk(void *ctx, const uint8_t *bytes, size_t n) {
    run *r = ctx;
    json_t *json;
    if (decode_result(r, bytes, n, &json, &r->chunk_error) != MR_OK) return false;
    bool ok = r->options->json ? mr_cli_print_json(json, JSON_COMPACT) : print_text(r, json);
    json_decref(json);
    if (!ok) mr_fail(&r->chunk_error, MR_ERR_IO, "standard output cannot be written");
    return ok;
}

static mr_status run_job(run *r, mr_error *err) {
    mr_host_job job = {
        .method = r->method->name,
        .args = (const uint8_t *)mr_buf_cstr(&r->args),
        .n_args = r->args.len,
        .metadata = r->metadata,
        .n_metadata = r->n_metadata,
        .cancel = r->cancel,
        .on_chunk = on_chunk,
        .ctx = r,
    };
    if (!r->options->stream) {
        mr_buf result = {0};
        mr_status status = mr_host_run(r->host, &job, &result, err);
        if (status == MR_OK) status = print_result(r, &result, err);
        mr_buf_free(&result);
        return status;
    }
    r->at_line_start = true;
    mr_status status = mr_host_run_stream(r->host, &job, err);
    if (!r->options->json && !r->at_line_start) putchar('\n');
    if (r->chunk_error.status != MR_OK) *err = r->chunk_error;
    return r->chunk_error.status != MR_OK ? r->chunk_error.status : status;
}

static mr_status run_all(run *r, mr_error *err) {
    mr_status status = read_worker(r, err);
    if (status == MR_OK) status = read_job(r, err);
    if (status == MR_OK) status = open_plugin(r, err);
    if (status != MR_OK) return status;
    r->cancel = mr_cancel_new();
    if (r->cancel == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory to run a job");
    mr_cli_on_interrupt(r->cancel);
    mr_cli_ticker *ticker = mr_cli_ticker_start("loading the model");
    status = mr_host_load(r->host, (const uint8_t *)mr_buf_cstr(&r->settings), r->settings.len, r->cancel, err);
    mr_cli_ticker_stop(ticker);
    return status == MR_OK ? run_job(r, err) : status;
}

int mr_cmd_run(int argc, char **argv) {
    run_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    run r = {.options = &options};
    mr_error err = {0};
    mr_status status = run_all(&r, &err);
    int rc = status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
    mr_cli_on_interrupt(NULL);
    mr_host_close(r.host);
    mr_cancel_unref(r.cancel);
    mr_buf_free(&r.settings);
    mr_buf_free(&r.args);
    json_decref(r.worker);
    json_decref(r.job);
    return rc;
}
