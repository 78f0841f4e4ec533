/* mistral-runner schema: what a JSON Schema holds an answer to. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "text/grammar_match.h"
#include "text/json_schema.h"

#include <stdlib.h>
#include <string.h>

static const char COMMAND[] = "schema";

typedef struct schema_options {
    mr_cli_model model;
    const char *prompt;
    long n_samples, n_predict;
} schema_options;

static void help(void) {
    fputs("usage: mistral-runner schema FILE                  each line of standard input: does it match?\n"
          "       mistral-runner schema --samples N FILE      N answers of a model that is held to it, a line each\n"
          "\n"
          "Reads a JSON Schema and says what of it cannot be held. Lines are answered with yes or no.\n"
          "\n"
          "      --samples N        answers to generate\n"
          "  -p, --prompt TEXT      what they follow (default: \"JSON:\")\n"
          "  -n, --n-predict N      most tokens of an answer (default 400); a line that was cut ends with a blank and "
          "…\n" MR_CLI_MODEL_HELP,
          stdout);
}

static int parse_options(int argc, char **argv, schema_options *o) {
    enum { OPT_SAMPLES = 1 };
    static const struct option longs[] = {MR_CLI_MODEL_OPTIONS,
                                          {"samples", required_argument, NULL, OPT_SAMPLES},
                                          {"prompt", required_argument, NULL, 'p'},
                                          {"n-predict", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:t:p:n:h", longs, NULL)) != -1;) {
        int taken = mr_cli_model_option(COMMAND, &o->model, c, optarg);
        if (taken < 0) return MR_EXIT_USAGE;
        if (taken > 0) continue;
        switch (c) {
        case OPT_SAMPLES:
            if (!mr_cli_int(COMMAND, "--samples", optarg, 1, 1 << 20, &o->n_samples)) return MR_EXIT_USAGE;
            break;
        case 'p':
            o->prompt = optarg;
            break;
        case 'n':
            if (!mr_cli_int(COMMAND, "-n", optarg, 1, 1 << 20, &o->n_predict)) return MR_EXIT_USAGE;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind + 1 != argc) return mr_cli_usage_error(COMMAND, "name one file with a JSON Schema");
    return 0;
}

/* The finished grammar of the file's schema. */
static mr_status compile(const char *path, mr_grammar **grammar, mr_error *err) {
    mr_buf text = {0};
    json_t *schema = NULL;
    mr_grammar *g = mr_grammar_new();
    mr_status status = g != NULL ? mr_cli_read(path, &text, err) : mr_fail_nomem(err, 0, "a grammar");
    if (status == MR_OK) status = mr_json_schema_parse(mr_buf_cstr(&text), &schema, err);
    if (status == MR_OK) {
        mr_grammar_skip(g, mr_json_schema_value(g, mr_grammar_entry(g, 0), schema), mr_grammar_exit(g, 0));
        status = mr_grammar_finish(g, err);
    }
    json_decref(schema);
    mr_buf_free(&text);
    if (status == MR_OK)
        *grammar = g;
    else
        mr_grammar_free(g);
    return status;
}

static mr_status check_lines(mr_grammar *grammar, mr_error *err) {
    mr_matcher *m = mr_matcher_new(grammar);
    if (m == NULL) return mr_fail_nomem(err, 0, "the schema");
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) >= 0;) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        mr_match_state s = mr_matcher_start(m);
        for (ssize_t i = 0; i < n && s >= 0; i++) s = mr_matcher_byte(m, s, (uint8_t)line[i]);
        puts(mr_matcher_may_end(m, s) ? "yes" : "no");
    }
    free(line);
    mr_matcher_free(m);
    return MR_OK;
}

/* One answer as one line. */
static mr_status sample(mr_text_model *model, const schema_options *o, mr_constraint *constraint, long number,
                        mr_error *err) {
    mr_tokens prompt = {0};
    mr_generation *generation = NULL;
    mr_buf text = {0};
    mr_generation_params params = {.max_tokens = (uint32_t)o->n_predict,
                                   .sampling = o->model.sampling,
                                   .mask = mr_constraint_mask,
                                   .mask_ctx = constraint};
    params.sampling.seed += (uint64_t)number;
    mr_status status = mr_tokenizer_encode(mr_text_model_tokenizer(model), o->prompt, strlen(o->prompt),
                                           MR_ENCODE_ADD_BOS_EOS | MR_ENCODE_SPECIAL_TEXT, &prompt, err);
    params.prompt = prompt.ids;
    params.n_prompt = prompt.n;
    if (status == MR_OK) status = mr_generation_start(&generation, model, &params, err);
    for (bool done = false; status == MR_OK && !done;) status = mr_generation_next(generation, NULL, &text, &done, err);
    if (status == MR_OK) {
        for (size_t i = 0; i < text.len; i++) putchar(text.data[i] == '\n' ? ' ' : text.data[i]);
        puts(mr_generation_finish(generation) == MR_FINISH_LENGTH ? " …" : "");
    }
    mr_generation_free(generation);
    mr_tokens_free(&prompt);
    mr_buf_free(&text);
    return status;
}

static mr_status sample_all(schema_options *o, mr_grammar *grammar, mr_error *err) {
    mr_text_model *model = NULL;
    mr_constraint *constraint = NULL;
    mr_status status = mr_cli_load(&o->model, NULL, &model, err);
    const mr_mask_vocab *vocab = status == MR_OK ? mr_text_model_mask_vocab(model) : NULL;
    if (vocab == NULL)
        mr_grammar_free(grammar);
    else
        constraint = mr_constraint_new(vocab, grammar, NULL);
    if (status == MR_OK && constraint == NULL) status = mr_fail_nomem(err, 0, "the schema");
    for (long i = 0; i < o->n_samples && status == MR_OK; i++) status = sample(model, o, constraint, i, err);
    mr_constraint_free(constraint);
    mr_text_model_free(model);
    return status;
}

int mr_cmd_schema(int argc, char **argv) {
    schema_options o = {.prompt = "JSON:", .n_predict = 400};
    int usage = parse_options(argc, argv, &o);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_grammar *grammar;
    mr_error err = {0};
    mr_status status = compile(argv[optind], &grammar, &err);
    if (status == MR_OK) status = o.n_samples > 0 ? sample_all(&o, grammar, &err) : check_lines(grammar, &err);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
