/* mistral-runner embed: the vectors of texts. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "text/embedding.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 256 };
static const char COMMAND[] = "embed";

typedef struct embed_options {
    mr_cli_model model;
    const char *texts[MAX_TEXTS];
    size_t n_texts;
    mr_embedding_options embedding;
} embed_options;

static void help(void) {
    fputs("usage: mistral-runner embed [-m MODEL] [--text TEXT]... [options]\n"
          "\n"
          "Prints the vectors of texts as JSON, one array a line, in the order of the texts (standard input unless\n"
          "--text is given).\n"
          "\n"
          "      --text TEXT        a text; may be given several times\n"
          "      --pooling P        mean, cls or last (default: what the model says, else last)\n"
          "      --normalize        scale the vectors to length 1 (default: what the model says, else so)\n"
          "      --no-normalize     do not\n"
          "  -m, --model MODEL      GGUF file, model folder or ORG/NAME on the hub (default: the model that is built "
          "in)\n"
          "  -t, --threads N        threads (default: physical cores)\n"
          "      --ctx-size N       most tokens of a text (default: the model's)\n"
          "      --kv-cache-type T  f16, f32 or q8_0 (default f16)\n",
          stdout);
}

static bool read_pooling(const char *name, mr_pooling *pooling) {
    static const char *const NAMES[] = {
        [MR_POOLING_MEAN] = "mean", [MR_POOLING_CLS] = "cls", [MR_POOLING_LAST] = "last"};
    for (int i = MR_POOLING_MEAN; i <= MR_POOLING_LAST; i++) {
        if (strcmp(name, NAMES[i]) != 0) continue;
        *pooling = (mr_pooling)i;
        return true;
    }
    return false;
}

static int parse_options(int argc, char **argv, embed_options *o) {
    enum { OPT_TEXT = 1, OPT_POOLING, OPT_NORMALIZE, OPT_NO_NORMALIZE };
    static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"ctx-size", required_argument, NULL, MR_OPT_CONTEXT},
                                          {"kv-cache-type", required_argument, NULL, MR_OPT_KV},
                                          {"text", required_argument, NULL, OPT_TEXT},
                                          {"pooling", required_argument, NULL, OPT_POOLING},
                                          {"normalize", no_argument, NULL, OPT_NORMALIZE},
                                          {"no-normalize", no_argument, NULL, OPT_NO_NORMALIZE},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:t:h", longs, NULL)) != -1;) {
        int taken = mr_cli_model_option(COMMAND, &o->model, c, optarg);
        if (taken < 0) return MR_EXIT_USAGE;
        if (taken > 0) continue;
        switch (c) {
        case OPT_TEXT:
            if (o->n_texts == MAX_TEXTS) return mr_cli_usage_error(COMMAND, "there are more than %d --text", MAX_TEXTS);
            o->texts[o->n_texts++] = optarg;
            break;
        case OPT_POOLING:
            if (!read_pooling(optarg, &o->embedding.pooling))
                return mr_cli_usage_error(COMMAND, "--pooling is \"%s\"; give mean, cls or last", optarg);
            break;
        case OPT_NORMALIZE:
            o->embedding.norm = MR_NORM_ALWAYS;
            break;
        case OPT_NO_NORMALIZE:
            o->embedding.norm = MR_NORM_NEVER;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    return 0;
}

/* The texts of the command line, or the one on standard input. */
static mr_status tokenize(const embed_options *o, const mr_text_model *model, mr_tokens *tokens, mr_error *err) {
    if (o->n_texts == 0) {
        mr_buf input = {0};
        mr_status status = mr_cli_read("-", &input, err);
        if (status == MR_OK) status = mr_embedding_tokens(model, mr_buf_cstr(&input), input.len, tokens, err);
        mr_buf_free(&input);
        return status;
    }
    for (size_t i = 0; i < o->n_texts; i++) {
        mr_status status = mr_embedding_tokens(model, o->texts[i], strlen(o->texts[i]), &tokens[i], err);
        if (status != MR_OK) return mr_fail_prefix(err, "text %zu", i);
    }
    return MR_OK;
}

static bool print_vector(const float *v, size_t n) {
    for (size_t i = 0; i < n; i++) printf("%s%.9g", i > 0 ? ", " : "[", (double)v[i]);
    return puts("]") >= 0;
}

static mr_status embed(const void *ctx, mr_text_model *model, mr_cancel *cancel, mr_error *err) {
    const embed_options *o = ctx;
    mr_tokens tokens[MAX_TEXTS] = {0};
    size_t n = o->n_texts > 0 ? o->n_texts : 1, n_embd = mr_text_model_info(model)->n_embd;
    float *vectors = calloc(n, n_embd * sizeof *vectors);
    mr_status status = vectors != NULL ? MR_OK : mr_fail_nomem(err, n * n_embd * sizeof *vectors, "the vectors");
    if (status == MR_OK) status = tokenize(o, model, tokens, err);
    if (status == MR_OK) status = mr_text_model_embed(model, tokens, n, &o->embedding, vectors, NULL, cancel, err);
    bool written = true;
    for (size_t i = 0; status == MR_OK && i < n; i++) written = print_vector(vectors + i * n_embd, n_embd) && written;
    if (status == MR_OK && (!written || fflush(stdout) != 0))
        status = mr_fail(err, MR_ERR_IO, "standard output cannot be written");
    for (size_t i = 0; i < n; i++) mr_tokens_free(&tokens[i]);
    free(vectors);
    return status;
}

int mr_cmd_embed(int argc, char **argv) {
    embed_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    return mr_cli_with_model(COMMAND, &options.model, embed, &options);
}
