/* mistral-runner quantize: a model, from a GGUF file or a Hugging Face folder, as one GGUF file in other types. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "base/clock.h"
#include "base/file.h"
#include "model/gguf_quantize.h"
#include "model/hf_model.h"
#include "text/model_path.h"
#include "text/tokenizer_export.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char COMMAND[] = "quantize";

typedef struct quantize_options {
    const char *in, *out, *pre;
    const mr_quant_mix *mix;
    bool again;
    long n_threads;
} quantize_options;

/* The model that is read; tokenizer and template are those of a folder. */
typedef struct source {
    const quantize_options *options;
    char *path;
    mr_gguf *gguf;
    mr_tokenizer *tokenizer;
    mr_chat_template *chat_template;
} source;

static void help(void) {
    fputs("usage: mistral-runner quantize [options] IN OUT TYPE\n"
          "\n"
          "Writes the model IN (a GGUF file, the first part of a split one, or a folder with config.json, safetensors\n"
          "and a tokenizer) as the GGUF file OUT with its matrices in TYPE. Metadata and tokenizer are carried over.\n"
          "\n"
          "      --again        quantize also what is quantized already\n"
          "      --pre NAME     the pre-tokenizer to name in OUT (default: the one that fits the folder's tokenizer)\n"
          "  -t, --threads N    threads (default: physical cores)\n"
          "\n"
          "types:",
          stdout);
    for (size_t i = 0; mr_quant_mix_at(i) != NULL; i++) printf(" %s", mr_quant_mix_name(mr_quant_mix_at(i)));
    putchar('\n');
}

static int choose_type(const char *name, quantize_options *o) {
    o->mix = mr_quant_mix_find(name);
    if (o->mix != NULL && mr_quant_mix_in_files(o->mix)) return 0;
    mr_buf names = {0};
    for (size_t i = 0; mr_quant_mix_at(i) != NULL; i++)
        mr_buf_printf(&names, " %s", mr_quant_mix_name(mr_quant_mix_at(i)));
    int status = mr_cli_usage_error(COMMAND, "there is no type \"%s\"; there are%s", name, mr_buf_cstr(&names));
    mr_buf_free(&names);
    return status;
}

static int parse_options(int argc, char **argv, quantize_options *o) {
    enum { OPT_AGAIN = 1, OPT_PRE };
    static const struct option longs[] = {{"again", no_argument, NULL, OPT_AGAIN},
                                          {"pre", required_argument, NULL, OPT_PRE},
                                          {"threads", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "t:h", longs, NULL)) != -1;) {
        switch (c) {
        case OPT_AGAIN:
            o->again = true;
            break;
        case OPT_PRE:
            o->pre = optarg;
            break;
        case 't':
            if (!mr_cli_int(COMMAND, "--threads", optarg, 1, 256, &o->n_threads)) return MR_EXIT_USAGE;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (argc - optind != 3) return mr_cli_usage_error(COMMAND, "IN, OUT and TYPE are needed");
    o->in = argv[optind];
    o->out = argv[optind + 1];
    return choose_type(argv[optind + 2], o);
}

static mr_status open_source(source *s, mr_error *err) {
    const char *in = s->options->in;
    mr_status status = mr_cli_find_model(&in, NULL, err);
    if (status == MR_OK) status = mr_model_path_find(in, &s->path, err);
    if (status != MR_OK) return status;
    if (!mr_path_is_dir(s->path)) return mr_gguf_open(&s->gguf, (const char *const *)&s->path, 1, err);
    status = mr_hf_open(&s->gguf, s->path, err);
    if (status == MR_OK) status = mr_tokenizer_from_folder(&s->tokenizer, s->path, err);
    return status == MR_OK ? mr_chat_template_from_folder(&s->chat_template, s->path, NULL, err) : status;
}

static void close_source(source *s) {
    mr_chat_template_free(s->chat_template);
    mr_tokenizer_free(s->tokenizer);
    mr_gguf_close(s->gguf);
    free(s->path);
}

/* The last name of the folder's path, at most n - 1 bytes of it. */
static void folder_name(const char *path, char *name, size_t n) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    snprintf(name, n, "%.*s", (int)(end - begin), path + begin);
}

/* What the files of a folder say beside the tensors. */
static mr_status put_folder(void *ctx, mr_gguf_writer *writer, mr_error *err) {
    source *s = ctx;
    const mr_gguf_tensor *embd = mr_gguf_find_tensor(s->gguf, "token_embd.weight");
    if (embd == NULL || embd->shape[1] > 1 << 22)
        return mr_fail(err, MR_ERR_INVALID, "%s has no embedding of tokens (token_embd.weight)", s->path);
    char name[256];
    folder_name(s->path, name, sizeof name);
    mr_gguf_put_string(writer, "general.type", "model");
    mr_gguf_put_string(writer, "general.name", name);
    mr_chat_template_put_gguf(s->chat_template, writer);
    return mr_tokenizer_put_gguf(s->tokenizer, (size_t)embd->shape[1], s->options->pre, writer, err);
}

/* Reads the tokenizer of the file that was written and tells when it is not the folder's. */
static mr_status check_tokenizer(const source *s, mr_error *err) {
    mr_gguf *gguf = NULL;
    mr_tokenizer *written = NULL;
    bool agree = true;
    mr_status status = mr_gguf_open(&gguf, &s->options->out, 1, err);
    if (status == MR_OK) status = mr_tokenizer_from_gguf(&written, gguf, err);
    if (status == MR_OK) status = mr_tokenizer_agree(s->tokenizer, written, &agree, err);
    if (status == MR_OK && !agree)
        fprintf(stderr,
                "mistral-runner quantize: warning: the tokenizer in %s cuts some texts otherwise than that of %s\n",
                s->options->out, s->path);
    mr_tokenizer_free(written);
    mr_gguf_close(gguf);
    return status;
}

static mr_status write_model(source *s, mr_cancel *cancel, size_t *n_bytes, mr_error *err) {
    mr_cli_bar bar = {.what = "writing the model"};
    mr_gguf_quantize_options options = {.mix = s->options->mix,
                                        .again = s->options->again,
                                        .n_threads = (int)s->options->n_threads,
                                        .progress = mr_cli_bar_draw,
                                        .progress_ctx = &bar,
                                        .cancel = cancel,
                                        .put_more = s->tokenizer != NULL ? put_folder : NULL,
                                        .put_ctx = s};
    mr_status status = mr_gguf_quantize(s->gguf, s->options->out, &options, n_bytes, err);
    mr_cli_bar_wipe(&bar);
    return status;
}

int mr_cmd_quantize(int argc, char **argv) {
    quantize_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    mr_cancel *cancel = mr_cancel_new();
    source s = {.options = &options};
    size_t n_bytes = 0;
    uint64_t start = mr_clock_ns();
    mr_status status = cancel != NULL ? MR_OK : mr_fail_nomem(&err, 64, "a flag");
    mr_cli_on_interrupt(cancel);
    if (status == MR_OK) status = open_source(&s, &err);
    size_t before = status == MR_OK ? mr_gguf_tensor_bytes(s.gguf) : 0;
    if (status == MR_OK) status = write_model(&s, cancel, &n_bytes, &err);
    if (status == MR_OK && s.tokenizer != NULL) status = check_tokenizer(&s, &err);
    if (status == MR_OK)
        printf("%s: %s, %.1f MiB of tensors from %.1f MiB, %.1f s\n", options.out, mr_quant_mix_name(options.mix),
               (double)n_bytes / (1 << 20), (double)before / (1 << 20), mr_clock_since(start));
    close_source(&s);
    mr_cli_on_interrupt(NULL);
    mr_cancel_unref(cancel);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
