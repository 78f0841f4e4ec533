/* mistral-runner chat: a conversation in the terminal. */
#define _GNU_SOURCE
#include "cli.h"
#include "commands.h"

#include "base/clock.h"
#include "line_editor.h"
#include "service/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char COMMAND[] = "chat";

/* What answers took, summed. */
typedef struct figures {
    unsigned answers;
    double n_prompt, n_cached, n_generated, prompt_sec, generation_sec;
} figures;

typedef struct chat {
    mr_cli_model options;
    char *system; /* instructions for the assistant, or NULL */
    const char *tools_path;
    long n_predict;
    mr_text_model *model;
    json_t *messages;
    json_t *tools;    /* offered to the model, or NULL */
    bool interactive; /* standard input is a terminal */
    bool show;        /* standard error is a terminal: figures are shown */
    figures last, total;
} chat;

static void help(void) {
    fputs("usage: mistral-runner chat [-m MODEL] [--system TEXT] [--tools FILE] [options]\n"
          "\n"
          "Each line is a message; the answer streams. Ctrl-C ends an answer, at the prompt the program; so does "
          "Ctrl-D.\n"
          "/help lists what else may be typed.\n"
          "\n"
          "  -s, --system TEXT      instructions for the assistant\n"
          "      --tools FILE       tools to offer, a JSON array as in the OpenAI API; calls are shown, not made\n"
          "  -n, --n-predict N      most tokens of an answer (default: what the context leaves)\n" MR_CLI_MODEL_HELP,
          stdout);
}

static int parse_options(int argc, char **argv, chat *c) {
    static const struct option longs[] = {MR_CLI_MODEL_OPTIONS,
                                          {"system", required_argument, NULL, 's'},
                                          {"tools", required_argument, NULL, 'T'},
                                          {"n-predict", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    for (int o; (o = getopt_long(argc, argv, "m:t:s:n:h", longs, NULL)) != -1;) {
        int taken = mr_cli_model_option(COMMAND, &c->options, o, optarg);
        if (taken < 0) return MR_EXIT_USAGE;
        if (taken > 0) continue;
        switch (o) {
        case 's':
            free(c->system);
            c->system = strdup(optarg);
            break;
        case 'T':
            c->tools_path = optarg;
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

/* Shows the speed in the terminal's title while an answer streams. */
static void show_speed(uint64_t start, unsigned n_tokens) {
    double seconds = mr_clock_since(start);
    if (seconds > 0) fprintf(stderr, "\033]0;mistral-runner: %.1f tokens/s\007", n_tokens / seconds);
}

/* Streams the answer to stdout and appends it to *answer. */
static mr_status stream_answer(const chat *c, mr_generation *generation, mr_cancel *cancel, mr_buf *answer,
                               mr_error *err) {
    mr_status status = MR_OK;
    uint64_t start = 0, shown = 0;
    for (bool done = false; status == MR_OK && !done;) {
        size_t before = answer->len;
        status = mr_generation_next(generation, cancel, answer, &done, err);
        fwrite(mr_buf_cstr(answer) + before, 1, answer->len - before, stdout);
        fflush(stdout);
        if (!c->show) continue;
        uint64_t now = mr_clock_ns();
        if (start == 0) start = shown = now;
        if (now - shown < 250 * 1000 * 1000) continue;
        shown = now;
        show_speed(start, mr_generation_stats(generation).n_generated);
    }
    putchar('\n');
    fflush(stdout);
    return status;
}

static double rate(double n, double seconds) {
    return seconds > 0 ? n / seconds : 0;
}

static void print_figures(FILE *out, const figures *f) {
    fprintf(out, "%.0f tokens read (%.0f from the cache) at %.1f/s, %.0f written at %.1f/s\n", f->n_prompt, f->n_cached,
            rate(f->n_prompt - f->n_cached, f->prompt_sec), f->n_generated, rate(f->n_generated, f->generation_sec));
}

static void take_figures(chat *c, const mr_generation *generation) {
    mr_request_stats stats = mr_generation_stats(generation);
    c->last =
        (figures){1, stats.n_prompt, stats.n_prompt_cached, stats.n_generated, stats.prompt_sec, stats.generation_sec};
    c->total.answers++;
    c->total.n_prompt += c->last.n_prompt;
    c->total.n_cached += c->last.n_cached;
    c->total.n_generated += c->last.n_generated;
    c->total.prompt_sec += c->last.prompt_sec;
    c->total.generation_sec += c->last.generation_sec;
    if (!c->show) return;
    fputs("\033]0;mistral-runner\007\033[2m", stderr);
    print_figures(stderr, &c->last);
    fputs("\033[0m", stderr);
}

static mr_status answer(chat *c, mr_error *err) {
    mr_prompt prompt = {0};
    mr_buf text = {0};
    mr_generation *generation = NULL;
    mr_cancel *cancel = mr_cancel_new();
    mr_status status = mr_prompt_chat(&prompt, c->model, c->messages, c->tools, err);
    mr_generation_params params = {.prompt = prompt.tokens.ids,
                                   .n_prompt = prompt.tokens.n,
                                   .max_tokens = (uint32_t)c->n_predict,
                                   .sampling = c->options.sampling};
    mr_cli_on_interrupt(cancel);
    if (status == MR_OK) status = mr_generation_start(&generation, c->model, &params, err);
    if (status == MR_OK) status = stream_answer(c, generation, cancel, &text, err);
    mr_cli_on_interrupt(NULL);
    /* An answer that was cut short stays in the conversation as far as it came. */
    if (status == MR_OK || status == MR_ERR_CANCELLED) {
        if (generation != NULL) take_figures(c, generation);
        status = add_message(c->messages, "assistant", mr_buf_cstr(&text), text.len, err);
    }
    mr_generation_free(generation);
    mr_cancel_unref(cancel);
    mr_prompt_free(&prompt);
    mr_buf_free(&text);
    return status;
}

/* ---- what may be typed besides messages ---- */

static mr_status do_help(chat *c, const char *argument, mr_error *err);

static mr_status do_clear(chat *c, const char *argument, mr_error *err) {
    (void)argument;
    return start_over(c, err);
}

static mr_status do_system(chat *c, const char *argument, mr_error *err) {
    if (*argument == '\0') {
        printf("%s\n", c->system != NULL ? c->system : "there are no instructions");
        return MR_OK;
    }
    free(c->system);
    c->system = strdup(argument);
    return start_over(c, err);
}

static mr_status do_tools(chat *c, const char *argument, mr_error *err) {
    (void)argument;
    (void)err;
    if (json_array_size(c->tools) == 0) puts("no tools are offered; start with --tools FILE");
    size_t i;
    json_t *tool;
    json_array_foreach(c->tools, i, tool) {
        const json_t *function = json_object_get(tool, "function");
        if (function == NULL) function = tool;
        const char *name = json_string_value(json_object_get(function, "name"));
        const char *about = json_string_value(json_object_get(function, "description"));
        printf("%-24s %s\n", name != NULL ? name : "?", about != NULL ? about : "");
    }
    return MR_OK;
}

static mr_status do_stats(chat *c, const char *argument, mr_error *err) {
    (void)argument;
    (void)err;
    const mr_model_info *info = mr_text_model_info(c->model);
    mr_engine_stats stats = mr_engine_get_stats(mr_text_model_engine(c->model));
    printf("model: %s, %s, %zu MiB of weights\n", info->name[0] != '\0' ? info->name : info->arch, info->type_label,
           info->weight_bytes >> 20);
    printf("context: %u tokens; KV blocks: %zu in use, %zu cached, of %zu (%zu MiB in all)\n",
           mr_engine_context_size(mr_text_model_engine(c->model)), stats.n_blocks_used, stats.n_blocks_cached,
           stats.n_blocks, stats.kv_bytes >> 20);
    if (c->options.n_draft > 0) {
        printf("guessed ahead: %llu tokens, %llu of them right\n", (unsigned long long)stats.n_drafted,
               (unsigned long long)stats.n_accepted);
    }
    if (c->total.answers == 0) return MR_OK;
    fputs("last answer: ", stdout);
    print_figures(stdout, &c->last);
    printf("%u answer%s: ", c->total.answers, c->total.answers == 1 ? "" : "s");
    print_figures(stdout, &c->total);
    return MR_OK;
}

typedef struct slash_command {
    const char *name, *about;
    mr_status (*run)(chat *c, const char *argument, mr_error *err); /* NULL: ends the program */
} slash_command;

static const slash_command slash_commands[] = {
    {"/help", "this list", do_help},
    {"/clear", "forget the conversation", do_clear},
    {"/system", "show the instructions, or set them to what follows and start over", do_system},
    {"/tools", "the tools that the model is offered", do_tools},
    {"/stats", "the model, its memory, and the speed of the answers", do_stats},
    {"/exit", "end the program; so do /quit and Ctrl-D", NULL},
    {"/quit", NULL, NULL},
};
enum { N_SLASH = sizeof slash_commands / sizeof slash_commands[0] };

static mr_status do_help(chat *c, const char *argument, mr_error *err) {
    (void)c;
    (void)argument;
    (void)err;
    for (size_t i = 0; i < N_SLASH; i++) {
        if (slash_commands[i].about != NULL) printf("%-10s %s\n", slash_commands[i].name, slash_commands[i].about);
    }
    puts("a line that ends with \\ goes on in the next one");
    return MR_OK;
}

/* False when the conversation is over. */
static bool take_command(chat *c, const char *line, mr_error *err) {
    size_t len = strcspn(line, " ");
    const char *argument = line + len + strspn(line + len, " ");
    for (size_t i = 0; i < N_SLASH; i++) {
        if (strlen(slash_commands[i].name) != len || strncmp(slash_commands[i].name, line, len) != 0) continue;
        return slash_commands[i].run != NULL && slash_commands[i].run(c, argument, err) == MR_OK;
    }
    fprintf(stderr, "there is no command %.*s; /help lists them\n", (int)len, line);
    return true;
}

/* One line of input. False when the conversation is over. */
static bool take_line(chat *c, const char *line, mr_error *err) {
    if (*line == '\0') return true;
    if (*line == '/') return take_command(c, line, err);
    if (add_message(c->messages, "user", line, strlen(line), err) != MR_OK) return false;
    if (answer(c, err) == MR_OK) return true;
    if (!c->interactive) return false;
    /* The message that could not be answered is forgotten, so that the next one may be. */
    mr_cli_fail(COMMAND, err);
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
    *err = (mr_error){0};
    return true;
}

/* The next line of standard input without its end, to free(); NULL at the end. */
static char *read_line(const chat *c) {
    if (c->interactive) return mr_line_editor_read("> ");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = '\0';
    return line;
}

static void talk(chat *c, mr_error *err) {
    static const char *names[N_SLASH + 1];
    for (size_t i = 0; i < N_SLASH; i++) names[i] = slash_commands[i].name;
    if (c->interactive) mr_line_editor_open(names);
    bool go_on = start_over(c, err) == MR_OK;
    for (char *line; go_on && (line = read_line(c)) != NULL; free(line)) go_on = take_line(c, line, err);
    if (c->interactive) mr_line_editor_close();
}

static mr_status read_tools(chat *c, mr_error *err) {
    if (c->tools_path == NULL) return MR_OK;
    mr_status status = mr_cli_read_json(c->tools_path, &c->tools, err);
    if (status != MR_OK || json_is_array(c->tools)) return status;
    return mr_fail(err, MR_ERR_INVALID, "%s holds no JSON array of tools", c->tools_path);
}

int mr_cmd_chat(int argc, char **argv) {
    chat c = {.interactive = isatty(STDIN_FILENO) == 1, .show = isatty(STDERR_FILENO) == 1};
    int usage = parse_options(argc, argv, &c);
    if (usage != 0) return usage < 0 ? MR_EXIT_OK : usage;
    mr_error err = {0};
    c.messages = json_array();
    mr_cancel *cancel = mr_cancel_new();
    mr_cli_on_interrupt(cancel);
    mr_status status = read_tools(&c, &err);
    if (status == MR_OK) status = mr_cli_load(&c.options, cancel, &c.model, &err);
    mr_cli_on_interrupt(NULL);
    mr_cancel_unref(cancel);
    if (status == MR_OK) talk(&c, &err);
    json_decref(c.messages);
    json_decref(c.tools);
    free(c.system);
    mr_text_model_free(c.model);
    return err.status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
