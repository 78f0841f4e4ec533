/* mistral-runner inspect: what a model holds and how much memory it takes. Prints hostile files safely: control
 * characters are escaped. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "base/file.h"
#include "compute/dtype.h"
#include "inspect_fit.h"
#include "model/gguf.h"
#include "model/hf_model.h"
#include "text/model_path.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 160, MAX_ITEMS = 6, MAX_ITEM_TEXT = 32, MAX_KEY = 96 };
static const char COMMAND[] = "inspect";

static void help(void) {
    fputs(
        "usage: mistral-runner inspect [--full] [--no-tensors] MODEL\n"
        "       mistral-runner inspect --fit [--ctx N] [--concurrent N] MODEL\n"
        "\n"
        "Prints metadata, tensors and sizes of a GGUF file or a Hugging Face folder; of a split model the first part\n"
        "names the others. With --fit, how much memory the model takes in each quantization, and what fits here.\n"
        "\n"
        "      --full           whole texts (long ones are cut otherwise)\n"
        "      --no-tensors     leave out the list of tensors\n"
        "      --fit            weights + keys and values, in GiB\n"
        "      --ctx N          tokens of a sequence (default: several, up to the model's context)\n"
        "      --concurrent N   sequences at a time (default 1)\n",
        stdout);
}

static const char *type_name(mr_gguf_type type) {
    static const char *const NAMES[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)type < sizeof NAMES / sizeof NAMES[0] ? NAMES[type] : "?";
}

static void put_text(mr_buf *line, mr_gguf_str text, size_t max_bytes) {
    mr_buf escaped = {0};
    mr_cli_escape(&escaped, text.data, text.len, max_bytes);
    mr_buf_printf(line, "\"%s\"", mr_buf_cstr(&escaped));
    mr_buf_free(&escaped);
}

static void put_array(mr_buf *line, const mr_gguf_value *array, size_t max_text) {
    size_t cursor = 0;
    for (uint64_t i = 0; i < array->n && i < MAX_ITEMS; i++) {
        int64_t integer;
        float real;
        mr_gguf_str text;
        if (i > 0) mr_buf_puts(line, ", ");
        if (mr_gguf_array_i64(array, i, &integer)) {
            if (array->elem == MR_GGUF_BOOL)
                mr_buf_puts(line, integer != 0 ? "true" : "false");
            else if (array->elem == MR_GGUF_UINT64)
                mr_buf_printf(line, "%" PRIu64, (uint64_t)integer);
            else
                mr_buf_printf(line, "%" PRId64, integer);
        } else if (mr_gguf_array_f32(array, i, &real)) {
            mr_buf_printf(line, "%.9g", (double)real);
        } else if (mr_gguf_array_next_string(array, &cursor, &text)) {
            put_text(line, text, max_text);
        } else {
            mr_buf_puts(line, "…");
        }
    }
}

static void put_value(mr_buf *line, const mr_gguf_value *value, size_t max_text) {
    if (value->type == MR_GGUF_ARRAY) {
        mr_buf_printf(line, "%s[%" PRIu64 "] [", type_name(value->elem), value->n);
        put_array(line, value, max_text < MAX_ITEM_TEXT ? max_text : MAX_ITEM_TEXT);
        mr_buf_puts(line, value->n > MAX_ITEMS ? ", …]" : "]");
        return;
    }
    /* A single value is laid out as an array of one. */
    mr_gguf_value one = *value;
    one.elem = value->type;
    one.type = MR_GGUF_ARRAY;
    one.n = 1;
    mr_buf_printf(line, "%s ", type_name(value->type));
    put_array(line, &one, max_text);
}

static void print_values(const mr_gguf *gguf, bool full) {
    size_t max_text = full ? SIZE_MAX : MAX_TEXT;
    for (size_t i = 0; i < mr_gguf_n_values(gguf); i++) {
        const mr_gguf_value *value = mr_gguf_value_at(gguf, i);
        mr_buf key = {0}, line = {0};
        mr_cli_escape(&key, value->key.data, value->key.len, MAX_KEY);
        put_value(&line, value, max_text);
        printf("%-44s %s\n", mr_buf_cstr(&key), mr_buf_cstr(&line));
        mr_buf_free(&key);
        mr_buf_free(&line);
    }
}

static void print_tensor(const mr_gguf_tensor *tensor) {
    const mr_dtype_info *info = mr_dtype_find(tensor->type);
    mr_buf name = {0}, shape = {0}, type = {0};
    mr_cli_escape(&name, tensor->name, strlen(tensor->name), MAX_KEY);
    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        mr_buf_printf(&shape, "%s%" PRIu64, i > 0 ? " x " : "", tensor->shape[i]);
    }
    if (info != NULL)
        mr_buf_puts(&type, info->name);
    else
        mr_buf_printf(&type, "type %u", (unsigned)tensor->type);
    printf("%-44s %-8s %-24s %12zu\n", mr_buf_cstr(&name), mr_buf_cstr(&type), mr_buf_cstr(&shape), tensor->n_bytes);
    mr_buf_free(&name);
    mr_buf_free(&shape);
    mr_buf_free(&type);
}

static void print_model(const mr_gguf *gguf, bool full, bool tensors) {
    printf("metadata: %zu values\n", mr_gguf_n_values(gguf));
    print_values(gguf, full);
    printf("\ntensors: %zu\n", mr_gguf_n_tensors(gguf));
    double n_params = 0;
    for (size_t i = 0; i < mr_gguf_n_tensors(gguf); i++) {
        const mr_gguf_tensor *tensor = mr_gguf_tensor_at(gguf, i);
        double n = 1;
        for (uint32_t d = 0; d < tensor->n_dims; d++) n *= (double)tensor->shape[d];
        n_params += n;
        if (tensors) print_tensor(tensor);
    }
    printf("\nparameters: %.0f (%.2f M)\n", n_params, n_params / 1e6);
    printf("tensor bytes: %zu (%.2f MiB, %.3f bits per parameter)\n", mr_gguf_tensor_bytes(gguf),
           (double)mr_gguf_tensor_bytes(gguf) / (1 << 20),
           n_params > 0 ? (double)mr_gguf_tensor_bytes(gguf) * 8 / n_params : 0);
    printf("file bytes: %zu\n", mr_gguf_file_bytes(gguf));
}

/* Opens a GGUF file, the one in a folder, or a folder of safetensors. */
static mr_status open_model(mr_gguf **gguf, const char *name, mr_error *err) {
    char *path = NULL;
    mr_status status = mr_model_path_find(name, &path, err);
    if (status != MR_OK) return status;
    if (mr_path_is_dir(path))
        status = mr_hf_open(gguf, path, err);
    else
        status = mr_gguf_open(gguf, (const char *const *)&path, 1, err);
    free(path);
    return status;
}

int mr_cmd_inspect(int argc, char **argv) {
    enum { OPT_FULL = 1, OPT_NO_TENSORS, OPT_FIT, OPT_CTX, OPT_CONCURRENT };
    static const struct option longs[] = {{"full", no_argument, NULL, OPT_FULL},
                                          {"no-tensors", no_argument, NULL, OPT_NO_TENSORS},
                                          {"fit", no_argument, NULL, OPT_FIT},
                                          {"ctx", required_argument, NULL, OPT_CTX},
                                          {"concurrent", required_argument, NULL, OPT_CONCURRENT},
                                          {"model", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    bool full = false, tensors = true, fit = false;
    long n_ctx = 0, n_sequences = 1;
    const char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "m:h", longs, NULL)) != -1;) {
        switch (c) {
        case OPT_FULL:
            full = true;
            break;
        case OPT_NO_TENSORS:
            tensors = false;
            break;
        case OPT_FIT:
            fit = true;
            break;
        case OPT_CTX:
            if (!mr_cli_int(COMMAND, "--ctx", optarg, 1, 1 << 30, &n_ctx)) return MR_EXIT_USAGE;
            break;
        case OPT_CONCURRENT:
            if (!mr_cli_int(COMMAND, "--concurrent", optarg, 1, 4096, &n_sequences)) return MR_EXIT_USAGE;
            break;
        case 'm':
            path = optarg;
            break;
        case 'h':
            help();
            return MR_EXIT_OK;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (path == NULL && optind < argc) path = argv[optind++];
    if (path == NULL) return mr_cli_usage_error(COMMAND, "the model's file is missing");
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    mr_gguf *gguf;
    mr_error err = {0};
    mr_status status = mr_cli_find_model(&path, NULL, &err);
    if (status == MR_OK) status = open_model(&gguf, path, &err);
    if (status != MR_OK) return mr_cli_fail(COMMAND, &err);
    if (fit)
        status = mr_inspect_fit(gguf, n_ctx, n_sequences, &err);
    else
        print_model(gguf, full, tensors);
    mr_gguf_close(gguf);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
