/* mistral-runner logits: what the model says about each next token, as JSON. One sequence through one forward pass at a
 * time, without the engine. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "model/gguf.h"
#include "model/model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 20, CHUNK = 32 };
static const char COMMAND[] = "logits";

typedef struct logits_options {
    const char *model, *tokens;
    long n_threads;
    const char *device;
    bool all;
} logits_options;

typedef struct logits_run {
    mr_gguf *gguf;
    mr_model *model;
    mr_kv_pool pool;
    mr_tokens tokens;
    int32_t *blocks;
    float *logits;        /* [CHUNK, n_vocab] */
    mr_state_pool states; /* one, of models with a recurrent state */
} logits_run;

static void help(void) {
    fputs("usage: mistral-runner logits -m MODEL --tokens 1,2,3 [--all]\n"
          "\n"
          "Prints the logits after the tokens as JSON: an array of one array of n_vocab numbers.\n"
          "\n"
          "  -m, --model FILE   GGUF model\n"
          "      --tokens LIST  token ids, separated by commas\n"
          "      --all          one array for each position, not for the last only\n"
          "      --device D     cpu (default), cuda, cuda:N or auto\n"
          "  -t, --threads N    threads (default: physical cores)\n",
          stdout);
}

static int parse_options(int argc, char **argv, logits_options *o) {
    enum { OPT_TOKENS = 1, OPT_ALL, OPT_DEVICE };
    static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
                                          {"tokens", required_argument, NULL, OPT_TOKENS},
                                          {"all", no_argument, NULL, OPT_ALL},
                                          {"threads", required_argument, NULL, 't'},
                                          {"device", required_argument, NULL, OPT_DEVICE},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:t:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o->model = optarg;
            break;
        case 't':
            if (!mr_cli_int(COMMAND, "--threads", optarg, 1, 256, &o->n_threads)) return MR_EXIT_USAGE;
            break;
        case OPT_DEVICE:
            o->device = optarg;
            break;
        case OPT_TOKENS:
            o->tokens = optarg;
            break;
        case OPT_ALL:
            o->all = true;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    if (o->model == NULL) return mr_cli_usage_error(COMMAND, "--model is missing");
    if (o->tokens == NULL) return mr_cli_usage_error(COMMAND, "--tokens is missing");
    return 0;
}

/* "1,2,3", blanks allowed. */
static mr_status parse_tokens(const char *text, mr_tokens *tokens, mr_error *err) {
    for (const char *p = text; tokens->n < MAX_TOKENS;) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno != 0 || id < 0 || id > INT32_MAX) break;
        if (!mr_tokens_push(tokens, (mr_token)id))
            return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the tokens");
        while (*end == ' ') end++;
        if (*end == '\0') return MR_OK;
        if (*end != ',') break;
        p = end + 1;
    }
    return mr_fail(err, MR_ERR_INVALID, "--tokens is no list of at most %d token ids such as 1,2,3", (int)MAX_TOKENS);
}

static mr_status open_model(const logits_options *o, logits_run *run, mr_error *err) {
    mr_status status = parse_tokens(o->tokens, &run->tokens, err);
    const char *path = o->model;
    if (status == MR_OK) status = mr_cli_find_model(&path, NULL, err);
    if (status == MR_OK) status = mr_gguf_open(&run->gguf, &path, 1, err);
    mr_model_options options = {.n_threads = (int)o->n_threads, .device = o->device};
    if (status == MR_OK) status = mr_model_load(&run->model, run->gguf, &options, err);
    if (status != MR_OK) return status;
    size_t n_blocks = (run->tokens.n + MR_KV_BLOCK - 1) / MR_KV_BLOCK;
    size_t n_vocab = mr_model_get_info(run->model)->n_vocab;
    run->blocks = calloc(n_blocks, sizeof *run->blocks);
    run->logits = calloc(CHUNK * n_vocab, sizeof *run->logits);
    if (run->blocks == NULL || run->logits == NULL) return mr_fail_nomem(err, CHUNK * n_vocab * 4, "the logits");
    for (size_t i = 0; i < n_blocks; i++) run->blocks[i] = (int32_t)i;
    status = mr_model_states_init(run->model, &run->states, 1, err);
    return status == MR_OK ? mr_model_kv_init(run->model, &run->pool, MR_KV_F32, n_blocks, err) : status;
}

static void print_row(const float *logits, size_t n, bool first) {
    fputs(first ? "[" : ",\n[", stdout);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) putchar(',');
        if (isfinite(logits[i]))
            printf("%.9g", (double)logits[i]);
        else
            fputs("null", stdout);
    }
    putchar(']');
}

static mr_status print_logits(const logits_options *o, logits_run *run, mr_error *err) {
    size_t n = run->tokens.n, n_vocab = mr_model_get_info(run->model)->n_vocab;
    bool first = true;
    putchar('[');
    for (size_t at = 0; at < n; at += CHUNK) {
        uint32_t n_now = (uint32_t)(n - at < CHUNK ? n - at : CHUNK);
        uint32_t n_wanted = o->all ? n_now : at + n_now == n ? 1 : 0;
        mr_batch_run batch = {
            .tokens = run->tokens.ids + at,
            .n_tokens = n_now,
            .pos0 = (uint32_t)at,
            .blocks = run->blocks,
            .n_logits = n_wanted,
            .logits = n_wanted > 0 ? run->logits : NULL,
            .state = mr_state_at(&run->states, 0),
            .state_out = mr_state_at(&run->states, 0),
        };
        mr_status status = mr_model_forward(run->model, &run->pool, &batch, 1, NULL, err);
        if (status != MR_OK) return status;
        for (uint32_t i = 0; i < n_wanted; i++, first = false) print_row(run->logits + i * n_vocab, n_vocab, first);
    }
    puts("]");
    return fflush(stdout) == 0 ? MR_OK : mr_fail(err, MR_ERR_IO, "standard output cannot be written");
}

int mr_cmd_logits(int argc, char **argv) {
    logits_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    logits_run run = {0};
    mr_status status = open_model(&options, &run, &err);
    if (status == MR_OK) status = print_logits(&options, &run, &err);
    if (run.model != NULL) mr_model_kv_free(run.model, &run.pool);
    if (run.model != NULL) mr_model_states_free(run.model, &run.states);
    mr_model_free(run.model);
    mr_gguf_close(run.gguf);
    mr_tokens_free(&run.tokens);
    free(run.blocks);
    free(run.logits);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
