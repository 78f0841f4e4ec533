/* mistral-runner complete: continues a text. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "service/prompt.h"

#include <string.h>

enum { MAX_STOPS = 32 };
static const char COMMAND[] = "complete";

typedef struct complete_options {
    mr_cli_model model;
    const char *prompt, *file;
    long n_predict; /* 0: what the context leaves */
    const char *stops[MAX_STOPS];
    size_t n_stops;
    bool stats, no_bos;
} complete_options;

static void help(void) {
    fputs("usage: mistral-runner complete [-m MODEL] (-p TEXT | -f FILE) [-n N] [options]\n"
          "\n"
          "Continues a text as it is and prints the continuation.\n"
          "\n"
          "  -p, --prompt TEXT      the text\n"
          "  -f, --file FILE        the text is in a file; - = standard input\n"
          "  -n, --n-predict N      most tokens to write (default: what the context leaves)\n"
          "      --stop TEXT        ends before this text; may be given several times\n"
          "      --no-bos           no start token in front of the text\n"
          "      --stats            tells sizes and speeds on stderr\n" MR_CLI_MODEL_HELP,
          stdout);
}

static int parse_options(int argc, char **argv, complete_options *o) {
    enum { OPT_STOP = 1, OPT_STATS, OPT_NO_BOS };
    static const struct option longs[] = {MR_CLI_MODEL_OPTIONS,
                                          {"prompt", required_argument, NULL, 'p'},
                                          {"file", required_argument, NULL, 'f'},
                                          {"n-predict", required_argument, NULL, 'n'},
                                          {"stop", required_argument, NULL, OPT_STOP},
                                          {"stats", no_argument, NULL, OPT_STATS},
                                          {"no-bos", no_argument, NULL, OPT_NO_BOS},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:t:p:f:n:h", longs, NULL)) != -1;) {
        int taken = mr_cli_model_option(COMMAND, &o->model, c, optarg);
        if (taken < 0) return MR_EXIT_USAGE;
        if (taken > 0) continue;
        switch (c) {
        case 'p':
            o->prompt = optarg;
            break;
        case 'f':
            o->file = optarg;
            break;
        case 'n':
            if (!mr_cli_int(COMMAND, "-n", optarg, 1, 1 << 24, &o->n_predict)) return MR_EXIT_USAGE;
            break;
        case OPT_STOP:
            if (o->n_stops == MAX_STOPS) return mr_cli_usage_error(COMMAND, "there are more than %d --stop", MAX_STOPS);
            o->stops[o->n_stops++] = optarg;
            break;
        case OPT_STATS:
            o->stats = true;
            break;
        case OPT_NO_BOS:
            o->no_bos = true;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    if ((o->prompt == NULL) == (o->file == NULL)) return mr_cli_usage_error(COMMAND, "give either --prompt or --file");
    return 0;
}

static mr_status make_prompt(const complete_options *o, const mr_text_model *model, mr_prompt *prompt, mr_error *err) {
    mr_buf file_text = {0};
    mr_status status = o->file != NULL ? mr_cli_read(o->file, &file_text, err) : MR_OK;
    const char *text = o->file != NULL ? mr_buf_cstr(&file_text) : o->prompt;
    size_t len = o->file != NULL ? file_text.len : strlen(text);
    if (status == MR_OK && o->no_bos) {
        const mr_tokenizer *tokenizer = mr_text_model_tokenizer(model);
        status = mr_tokenizer_encode(tokenizer, text, len, MR_ENCODE_SPECIAL_TEXT, &prompt->tokens, err);
    } else if (status == MR_OK) {
        status = mr_prompt_text(prompt, model, text, len, err);
    }
    mr_buf_free(&file_text);
    return status;
}

static mr_status print_pieces(mr_generation *generation, mr_cancel *cancel, mr_error *err) {
    mr_buf text = {0};
    mr_status status = MR_OK;
    bool broken = false;
    for (bool done = false; status == MR_OK && !done && !broken;) {
        mr_buf_clear(&text);
        status = mr_generation_next(generation, cancel, &text, &done, err);
        broken = fwrite(mr_buf_cstr(&text), 1, text.len, stdout) != text.len || fflush(stdout) != 0;
    }
    mr_buf_free(&text);
    if (status == MR_OK && broken) status = mr_fail(err, MR_ERR_IO, "standard output cannot be written");
    putchar('\n');
    return status;
}

static void print_stats(const mr_generation *generation) {
    mr_request_stats s = mr_generation_stats(generation);
    fprintf(stderr, "read %u tokens in %.3f s (%.1f/s), wrote %u in %.3f s (%.1f/s)\n", s.n_prompt, s.prompt_sec,
            s.prompt_sec > 0 ? s.n_prompt / s.prompt_sec : 0, s.n_generated, s.generation_sec,
            s.generation_sec > 0 ? s.n_generated / s.generation_sec : 0);
    if (s.n_drafted > 0) fprintf(stderr, "guessed %u tokens ahead, %u of them right\n", s.n_drafted, s.n_accepted);
}

static mr_status complete(const void *ctx, mr_text_model *model, mr_cancel *cancel, mr_error *err) {
    const complete_options *o = ctx;
    mr_prompt prompt = {0};
    mr_generation *generation = NULL;
    mr_status status = make_prompt(o, model, &prompt, err);
    mr_generation_params params = {
        .prompt = prompt.tokens.ids,
        .n_prompt = prompt.tokens.n,
        .max_tokens = (uint32_t)o->n_predict,
        .sampling = o->model.sampling,
        .stop = o->stops,
        .n_stop = o->n_stops,
    };
    if (status == MR_OK) status = mr_generation_start(&generation, model, &params, err);
    if (status == MR_OK) status = print_pieces(generation, cancel, err);
    if (status == MR_OK && o->stats) print_stats(generation);
    mr_generation_free(generation);
    mr_prompt_free(&prompt);
    return status;
}

int mr_cmd_complete(int argc, char **argv) {
    complete_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    return mr_cli_with_model(COMMAND, &options.model, complete, &options);
}
