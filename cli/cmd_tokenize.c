/* mistral-runner tokenize: the token ids of a text. Needs a vocabulary only, no tensors. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "base/file.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

#include <string.h>

static const char COMMAND[] = "tokenize";

typedef enum bos_choice { BOS_AS_VOCABULARY, BOS_YES, BOS_NO } bos_choice;

typedef struct tokenize_options {
    const char *model, *text;
    bool no_special;
    bos_choice bos;
} tokenize_options;

static void help(void) {
    fputs("usage: mistral-runner tokenize -m MODEL [--text TEXT] [options]\n"
          "\n"
          "Prints the token ids of a text (standard input unless --text is given) on one line.\n"
          "\n"
          "  -m, --model FILE   GGUF file, or a folder with tokenizer.json; tensors are not needed\n"
          "      --text TEXT    the text\n"
          "      --no-special   treat the names of special tokens as plain text\n"
          "      --bos          put the start token in front\n"
          "      --no-bos       add neither start nor end token (default: what the vocabulary says)\n",
          stdout);
}

static int parse_options(int argc, char **argv, tokenize_options *o) {
    enum { OPT_TEXT = 1, OPT_NO_SPECIAL, OPT_BOS, OPT_NO_BOS };
    static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
                                          {"text", required_argument, NULL, OPT_TEXT},
                                          {"no-special", no_argument, NULL, OPT_NO_SPECIAL},
                                          {"bos", no_argument, NULL, OPT_BOS},
                                          {"no-bos", no_argument, NULL, OPT_NO_BOS},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o->model = optarg;
            break;
        case OPT_TEXT:
            o->text = optarg;
            break;
        case OPT_NO_SPECIAL:
            o->no_special = true;
            break;
        case OPT_BOS:
            o->bos = BOS_YES;
            break;
        case OPT_NO_BOS:
            o->bos = BOS_NO;
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
    return 0;
}

static mr_status load_tokenizer(const char *path, mr_tokenizer **tokenizer, mr_error *err) {
    if (mr_path_is_dir(path)) return mr_tokenizer_from_folder(tokenizer, path, err);
    mr_gguf *gguf;
    mr_status status = mr_gguf_open(&gguf, &path, 1, err);
    if (status != MR_OK) return status;
    status = mr_tokenizer_from_gguf(tokenizer, gguf, err);
    if (status != MR_OK) mr_fail_prefix(err, "%s", path);
    mr_gguf_close(gguf);
    return status;
}

static mr_status encode(const tokenize_options *o, const mr_tokenizer *tokenizer, mr_tokens *tokens, mr_error *err) {
    unsigned flags = 0;
    mr_buf input = {0};
    mr_status status = MR_OK;
    if (!o->no_special) flags |= MR_ENCODE_SPECIAL_TEXT;
    if (o->bos == BOS_AS_VOCABULARY) flags |= MR_ENCODE_ADD_BOS_EOS;
    if (o->bos == BOS_YES) {
        if (mr_tokenizer_bos(tokenizer) < 0) return mr_fail(err, MR_ERR_INVALID, "the vocabulary has no start token");
        if (!mr_tokens_push(tokens, mr_tokenizer_bos(tokenizer)))
            return mr_fail(err, MR_ERR_NOMEM, "there is no memory");
    }
    if (o->text == NULL) status = mr_cli_read("-", &input, err);
    const char *text = o->text != NULL ? o->text : mr_buf_cstr(&input);
    size_t len = o->text != NULL ? strlen(text) : input.len;
    if (status == MR_OK) status = mr_tokenizer_encode(tokenizer, text, len, flags, tokens, err);
    mr_buf_free(&input);
    return status;
}

int mr_cmd_tokenize(int argc, char **argv) {
    tokenize_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    mr_tokenizer *tokenizer = NULL;
    mr_tokens tokens = {0};
    mr_status status = mr_cli_find_model(&options.model, NULL, &err);
    if (status == MR_OK) status = load_tokenizer(options.model, &tokenizer, &err);
    if (status == MR_OK) status = encode(&options, tokenizer, &tokens, &err);
    if (status == MR_OK) {
        for (size_t i = 0; i < tokens.n; i++) printf("%s%d", i > 0 ? " " : "", (int)tokens.ids[i]);
        putchar('\n');
        if (fflush(stdout) != 0) status = mr_fail(&err, MR_ERR_IO, "standard output cannot be written");
    }
    mr_tokens_free(&tokens);
    mr_tokenizer_free(tokenizer);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
