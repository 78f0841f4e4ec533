/* mistral-runner render: the text that a chat template makes of a conversation. Needs no tensors. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "base/arena.h"
#include "base/file.h"
#include "model/gguf.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char COMMAND[] = "render";

typedef struct render_options {
    const char *model, *chat_template, *bos, *eos;
    const char *messages, *tools, *vars;
    bool no_generation_prompt;
} render_options;

static void help(void) {
    fputs(
        "usage: mistral-runner render (-m MODEL | --chat-template FILE) --messages M.json [options]\n"
        "\n"
        "Prints the prompt that a chat template makes of a conversation, without a line break of its own at the end.\n"
        "\n"
        "  -m, --model FILE           GGUF file or model folder whose template is used; tensors are not needed\n"
        "      --chat-template FILE   a .jinja or .json file in its place\n"
        "      --bos-token TEXT       text of the start token, as the template reads it\n"
        "      --eos-token TEXT       text of the end token\n"
        "      --messages FILE        JSON array of messages: role, content, tool_calls, …\n"
        "      --tools FILE           JSON array of tools in the OpenAI form\n"
        "      --vars FILE            JSON object of further variables\n"
        "      --no-generation-prompt leave out the start of the assistant's answer\n",
        stdout);
}

static int parse_options(int argc, char **argv, render_options *o) {
    enum { OPT_TEMPLATE = 1, OPT_BOS, OPT_EOS, OPT_MESSAGES, OPT_TOOLS, OPT_VARS, OPT_NO_PROMPT };
    static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
                                          {"chat-template", required_argument, NULL, OPT_TEMPLATE},
                                          {"bos-token", required_argument, NULL, OPT_BOS},
                                          {"eos-token", required_argument, NULL, OPT_EOS},
                                          {"messages", required_argument, NULL, OPT_MESSAGES},
                                          {"tools", required_argument, NULL, OPT_TOOLS},
                                          {"vars", required_argument, NULL, OPT_VARS},
                                          {"no-generation-prompt", no_argument, NULL, OPT_NO_PROMPT},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "m:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o->model = optarg;
            break;
        case OPT_TEMPLATE:
            o->chat_template = optarg;
            break;
        case OPT_BOS:
            o->bos = optarg;
            break;
        case OPT_EOS:
            o->eos = optarg;
            break;
        case OPT_MESSAGES:
            o->messages = optarg;
            break;
        case OPT_TOOLS:
            o->tools = optarg;
            break;
        case OPT_VARS:
            o->vars = optarg;
            break;
        case OPT_NO_PROMPT:
            o->no_generation_prompt = true;
            break;
        case 'h':
            help();
            return -1;
        default:
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    if (o->model == NULL && o->chat_template == NULL) {
        return mr_cli_usage_error(COMMAND, "--model or --chat-template is missing");
    }
    if (o->messages == NULL) return mr_cli_usage_error(COMMAND, "--messages is missing");
    return 0;
}

/* A special token's text in the arena, or NULL. */
static const char *special_text(const mr_tokenizer *tokenizer, mr_token id, mr_arena *arena) {
    size_t len;
    const char *piece = id >= 0 ? mr_tokenizer_piece(tokenizer, id, &len) : NULL;
    return piece != NULL ? mr_arena_strndup(arena, piece, len) : NULL;
}

static void read_specials(const mr_tokenizer *tokenizer, mr_arena *arena, mr_special_texts *specials) {
    if (specials->bos == NULL) specials->bos = special_text(tokenizer, mr_tokenizer_bos(tokenizer), arena);
    if (specials->eos == NULL) specials->eos = special_text(tokenizer, mr_tokenizer_eos(tokenizer), arena);
    specials->unk = special_text(tokenizer, mr_tokenizer_unk(tokenizer), arena);
    specials->pad = special_text(tokenizer, mr_tokenizer_pad(tokenizer), arena);
}

static mr_status load_from_folder(const render_options *o, mr_special_texts *specials, mr_arena *arena,
                                  mr_chat_template **chat, mr_error *err) {
    mr_tokenizer *tokenizer = NULL;
    mr_status status = mr_tokenizer_from_folder(&tokenizer, o->model, err);
    if (status != MR_OK) return status;
    read_specials(tokenizer, arena, specials);
    mr_tokenizer_free(tokenizer);
    if (o->chat_template != NULL) return mr_chat_template_from_file(chat, o->chat_template, specials, err);
    return mr_chat_template_from_folder(chat, o->model, specials, err);
}

static mr_status load_from_gguf(const render_options *o, mr_special_texts *specials, mr_arena *arena,
                                mr_chat_template **chat, mr_error *err) {
    mr_gguf *gguf = NULL;
    mr_tokenizer *tokenizer = NULL;
    mr_status status = mr_gguf_open(&gguf, &o->model, 1, err);
    if (status == MR_OK) status = mr_tokenizer_from_gguf(&tokenizer, gguf, err);
    if (status == MR_OK) {
        read_specials(tokenizer, arena, specials);
        status = o->chat_template != NULL ? mr_chat_template_from_file(chat, o->chat_template, specials, err)
                                          : mr_chat_template_from_gguf(chat, gguf, specials, err);
    }
    mr_tokenizer_free(tokenizer);
    mr_gguf_close(gguf);
    return status;
}

static mr_status load_template(const render_options *o, mr_chat_template **chat, mr_error *err) {
    mr_special_texts specials = {.bos = o->bos, .eos = o->eos};
    mr_arena arena = {0};
    mr_status status;
    if (o->model == NULL)
        status = mr_chat_template_from_file(chat, o->chat_template, &specials, err);
    else if (mr_path_is_dir(o->model))
        status = load_from_folder(o, &specials, &arena, chat, err);
    else
        status = load_from_gguf(o, &specials, &arena, chat, err);
    mr_arena_free(&arena);
    if (status == MR_OK && mr_chat_template_is_fallback(*chat)) {
        fputs("mistral-runner render: the model has no chat template; ChatML is used\n", stderr);
    }
    return status;
}

/* Reads an optional JSON file of a kind. */
static mr_status read_part(const char *path, bool array, json_t **json, mr_error *err) {
    *json = NULL;
    if (path == NULL) return MR_OK;
    mr_status status = mr_cli_read_json(path, json, err);
    if (status != MR_OK) return status;
    if (array ? json_is_array(*json) : json_is_object(*json)) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID, "%s is no JSON %s", path, array ? "array" : "object");
}

static mr_status render(const render_options *o, const mr_chat_template *chat, mr_error *err) {
    json_t *messages = NULL, *tools = NULL, *vars = NULL;
    mr_buf text = {0};
    mr_status status = read_part(o->messages, true, &messages, err);
    if (status == MR_OK) status = read_part(o->tools, true, &tools, err);
    if (status == MR_OK) status = read_part(o->vars, false, &vars, err);
    if (status == MR_OK) {
        status = mr_chat_template_render(chat, messages, tools, vars, !o->no_generation_prompt, &text, err);
    }
    if (status == MR_OK && (fwrite(mr_buf_cstr(&text), 1, text.len, stdout) != text.len || fflush(stdout) != 0)) {
        status = mr_fail(err, MR_ERR_IO, "standard output cannot be written");
    }
    mr_buf_free(&text);
    json_decref(messages);
    json_decref(tools);
    json_decref(vars);
    return status;
}

int mr_cmd_render(int argc, char **argv) {
    render_options options = {0};
    int usage = parse_options(argc, argv, &options);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    mr_chat_template *chat = NULL;
    mr_status status = mr_cli_find_model(&options.model, NULL, &err);
    if (status == MR_OK) status = load_template(&options, &chat, &err);
    if (status == MR_OK) status = render(&options, chat, &err);
    mr_chat_template_free(chat);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
