/* mistral-runner chat: a conversation in the terminal. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "service/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char COMMAND[] = "chat";

typedef struct chat {
    mr_cli_model options;
    const char *system;
    long n_predict;
    mr_text_model *model;
    json_t *messages;
    bool interactive; /* standard input is a terminal */
} chat;

static void help(void) {
    fputs("usage: mistral-runner chat [-m MODEL] [--system TEXT] [options]\n"
          "\n"
          "Each line is a message; the answer streams. Ctrl-C ends an answer, at the prompt the program; so does "
          "Ctrl-D.\n"
          "/clear forgets the conversation, /exit ends the program.\n"
          "\n"
          "  -s, --system TEXT      instructions for the assistant\n"
          "  -n, --n-predict N      most tokens of an answer (default: what the context leaves)\n" MR_CLI_MODEL_HELP,
          stdout);
}

static int parse_options(int argc, char **argv, chat *c) {
    static const struct option longs[] = {MR_CLI_MODEL_OPTIONS,
                                          {"system", required_argument, NULL, 's'},
                                          {"n-predict", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int o; (o = getopt_long(argc, argv, "m:t:s:n:h", longs, NULL)) != -1;) {
        int taken = mr_cli_model_option(COMMAND, &c->options, o, optarg);
        if (taken < 0) return MR_EXIT_USAGE;
        if (taken > 0) continue;
        switch (o) {
        case 's':
            c->system = optarg;
            break;
        case 'n':
            if (!mr_cli_int(COMMAND, "-n", optarg, 1, 1 << 24, &c->n_predict)) return MR_EXIT_USAGE;
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

static mr_status add_message(json_t *messages, const char *role, const char *text, size_t len, mr_error *err) {
    json_t *content = json_stringn(text, len);
    if (content == NULL) return mr_fail(err, MR_ERR_INVALID, "the message is not valid UTF-8");
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
    if (message != NULL && json_array_append_new(messages, message) == 0) return MR_OK;
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the conversation");
}

/* Forgets the conversation; the instructions stay. */
static mr_status start_over(chat *c, mr_error *err) {
    json_array_clear(c->messages);
    return c->system != NULL ? add_message(c->messages, "system", c->system, strlen(c->system), err) : MR_OK;
}

/* Streams the answer to stdout and appends it to *answer. */
static mr_status stream_answer(mr_generation *generation, mr_cancel *cancel, mr_buf *answer, mr_error *err) {
    mr_status status = MR_OK;
    for (bool done = false; status == MR_OK && !done;) {
        size_t before = answer->len;
        status = mr_generation_next(generation, cancel, answer, &done, err);
        fwrite(mr_buf_cstr(answer) + before, 1, answer->len - before, stdout);
        fflush(stdout);
    }
    putchar('\n');
    return status;
}

static mr_status answer(chat *c, mr_error *err) {
    mr_prompt prompt = {0};
    mr_buf text = {0};
    mr_generation *generation = NULL;
    mr_cancel *cancel = mr_cancel_new();
    mr_status status = mr_prompt_chat(&prompt, c->model, c->messages, NULL, err);
    mr_generation_params params = {.prompt = prompt.tokens.ids,
                                   .n_prompt = prompt.tokens.n,
                                   .max_tokens = (uint32_t)c->n_predict,
                                   .sampling = c->options.sampling};
    mr_cli_on_interrupt(cancel);
    if (status == MR_OK) status = mr_generation_start(&generation, c->model, &params, err);
    if (status == MR_OK) status = stream_answer(generation, cancel, &text, err);
    mr_cli_on_interrupt(NULL);
    /* An answer that was cut short stays in the conversation as far as it came. */
    if (status == MR_OK || status == MR_ERR_CANCELLED) {
        status = add_message(c->messages, "assistant", mr_buf_cstr(&text), text.len, err);
    }
    mr_generation_free(generation);
    mr_cancel_unref(cancel);
    mr_prompt_free(&prompt);
    mr_buf_free(&text);
    return status;
}

/* One line of input. False when the conversation is over. */
static bool take_line(chat *c, const char *line, size_t len, mr_error *err) {
    if (len == 0) return true;
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) return false;
    if (strcmp(line, "/clear") == 0) return start_over(c, err) == MR_OK;
    if (add_message(c->messages, "user", line, len, err) != MR_OK) return false;
    if (answer(c, err) == MR_OK) return true;
    if (!c->interactive) return false;
    /* The message that could not be answered is forgotten, so that the next one may be. */
    mr_cli_fail(COMMAND, err);
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
    *err = (mr_error){0};
    return true;
}

static void talk(chat *c, mr_error *err) {
    char *line = NULL;
    size_t cap = 0;
    bool go_on = start_over(c, err) == MR_OK;
    while (go_on) {
        if (c->interactive) fputs("> ", stdout);
        fflush(stdout);
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = '\0';
        go_on = take_line(c, line, strlen(line), err);
    }
    free(line);
}

int mr_cmd_chat(int argc, char **argv) {
    chat c = {.interactive = isatty(STDIN_FILENO) == 1};
    int usage = parse_options(argc, argv, &c);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    c.messages = json_array();
    mr_cancel *cancel = mr_cancel_new();
    mr_cli_on_interrupt(cancel);
    mr_status status = mr_cli_load(&c.options, cancel, &c.model, &err);
    mr_cli_on_interrupt(NULL);
    mr_cancel_unref(cancel);
    if (status == MR_OK) talk(&c, &err);
    json_decref(c.messages);
    mr_text_model_free(c.model);
    return err.status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
