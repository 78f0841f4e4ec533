/* What the commands have in common: exit statuses, errors, values of options, interrupts, progress, loading a model. */
#ifndef MR_CLI_CLI_H
#define MR_CLI_CLI_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "model/hub.h"
#include "text/text_model.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    MR_EXIT_OK = 0,
    MR_EXIT_FAILURE = 1,          /* the work could not be done; the reason is on stderr */
    MR_EXIT_USAGE = 2,            /* the command line is wrong */
    MR_EXIT_CANCELLED = 130,      /* Ctrl-C */
    MR_CLI_MAX_INPUT = 256 << 20, /* longest file or standard input that is read, bytes */
};

/* Prints "mistral-runner COMMAND: text" on stderr and returns the exit status that goes with the error. */
int mr_cli_fail(const char *command, const mr_error *err);

/* Prints a complaint about the command line, and where help is; returns MR_EXIT_USAGE. */
int mr_cli_usage_error(const char *command, const char *format, ...) MR_PRINTF(2, 3);

/* Values of options; false after telling on stderr what is wrong. */
bool mr_cli_int(const char *command, const char *option, const char *text, long min, long max, long *value);
bool mr_cli_float(const char *command, const char *option, const char *text, float *value);

/* Reads a whole file, or standard input when path is "-". */
mr_status mr_cli_read(const char *path, mr_buf *text, mr_error *err);

/* Reads a JSON file as a new reference; errors say line and column. */
mr_status mr_cli_read_json(const char *path, json_t **json, mr_error *err);

/* Dumps JSON to stdout with a line break at the end. False when it could not be written. */
bool mr_cli_print_json(const json_t *json, size_t flags);

/* Interrupts. After mr_cli_catch_interrupts (call it before any other thread exists), Ctrl-C and SIGTERM request
 * `cancel` where one is set and end the process where none is; a second one always ends it. */
void mr_cli_catch_interrupts(void);
void mr_cli_release_interrupts(void);        /* ends the thread that waits for them */
void mr_cli_on_interrupt(mr_cancel *cancel); /* NULL: end the process. Not owned. */

/* Called when an interrupt ends the process, from the thread that waits for interrupts. NULL: nothing. */
void mr_cli_before_exit(void (*restore)(void));

/* A model named on the command line, with its sampling. */
typedef struct mr_cli_model {
    const char *path; /* NULL: the embedded model */
    const char *chat_template;
    long n_threads, context_size, n_draft;
    mr_kv_type kv_type;
    mr_sampling sampling; /* filled from the model by mr_cli_load, then from the options */
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_seed, has_repeat_penalty, has_repeat_last_n;
    mr_sampling given;
    const char *device; /* NULL: auto */
} mr_cli_model;

/* Options that chat and complete share, for a command's own getopt_long table, and their short letters. */
enum {
    MR_OPT_TEMP = 1000,
    MR_OPT_TOP_K,
    MR_OPT_TOP_P,
    MR_OPT_MIN_P,
    MR_OPT_SEED,
    MR_OPT_REPEAT_PENALTY,
    MR_OPT_REPEAT_LAST_N,
    MR_OPT_CONTEXT,
    MR_OPT_KV,
    MR_OPT_TEMPLATE,
    MR_OPT_DRAFT,
    MR_OPT_DEVICE,
};
#define MR_CLI_MODEL_OPTIONS                                                                                           \
    {"model", required_argument, NULL, 'm'}, {"threads", required_argument, NULL, 't'},                                \
        {"temp", required_argument, NULL, MR_OPT_TEMP}, {"temperature", required_argument, NULL, MR_OPT_TEMP},         \
        {"top-k", required_argument, NULL, MR_OPT_TOP_K}, {"top-p", required_argument, NULL, MR_OPT_TOP_P},            \
        {"min-p", required_argument, NULL, MR_OPT_MIN_P}, {"seed", required_argument, NULL, MR_OPT_SEED},              \
        {"repeat-penalty", required_argument, NULL, MR_OPT_REPEAT_PENALTY},                                            \
        {"repeat-last-n", required_argument, NULL, MR_OPT_REPEAT_LAST_N},                                              \
        {"ctx-size", required_argument, NULL, MR_OPT_CONTEXT}, {"kv-cache-type", required_argument, NULL, MR_OPT_KV},  \
        {"device", required_argument, NULL, MR_OPT_DEVICE}, {"draft", required_argument, NULL, MR_OPT_DRAFT}, {        \
        "chat-template", required_argument, NULL, MR_OPT_TEMPLATE                                                      \
    }
#define MR_CLI_MODEL_HELP                                                                                              \
    "  -m, --model MODEL      GGUF file, model folder or ORG/NAME on the hub (default: the model that is built in)\n"  \
    "  -t, --threads N        threads (default: physical cores)\n"                                                     \
    "      --temp T           temperature; 0 always takes the likeliest token (default: what the model recommends)\n"  \
    "      --top-k N          choose among the N likeliest tokens; 0 = all\n"                                          \
    "      --top-p P          choose among the likeliest tokens that make up this probability; 1 = all\n"              \
    "      --min-p P          leave out tokens less likely than P times the likeliest; 0 = none\n"                     \
    "      --seed N           the same seed gives the same text (default: another one each time)\n"                    \
    "      --repeat-penalty R makes recent tokens less likely; 1 = none\n"                                             \
    "      --repeat-last-n N  how many recent tokens that looks at; -1 = all (default 64)\n"                           \
    "      --ctx-size N       most tokens of the context (default: the model's)\n"                                     \
    "      --kv-cache-type T  f16, f32 or q8_0 (default f16)\n"                                                        \
    "      --draft N          guess up to N tokens ahead where the text repeats itself; the text stays the same "      \
    "(default 0)\n"                                                                                                    \
    "      --device D         auto, cpu, cuda or cuda:N (default auto)\n"                                              \
    "      --chat-template F  a .jinja or .json file in place of the model's chat template\n"

/* Takes one of MR_CLI_MODEL_OPTIONS. Returns 1 when taken, 0 when `option` is none of them, -1 when its value is wrong
 * (told on stderr). */
int mr_cli_model_option(const char *command, mr_cli_model *model, int option, const char *value);

/* mr_hub_fetch with a progress bar where stderr is a terminal. */
mr_status mr_cli_fetch(const mr_hub_request *request, mr_hub_result *result, mr_error *err);

/* Replaces a name that is no path here, but can be one on the hub, by the path of the downloaded model, which lives
 * until the next call. NULL and paths stay as they are. */
mr_status mr_cli_find_model(const char **path, mr_cancel *cancel, mr_error *err);

/* Loads the model with a progress bar where stderr is a terminal, and resolves the sampling. */
mr_status mr_cli_load(mr_cli_model *options, mr_cancel *cancel, mr_text_model **model, mr_error *err);

/* Loads the model, runs `work` on it and frees it; Ctrl-C sets `cancel`. Returns the exit code; an error is told on
 * stderr. */
typedef mr_status mr_cli_work_fn(const void *ctx, mr_text_model *model, mr_cancel *cancel, mr_error *err);
int mr_cli_with_model(const char *command, mr_cli_model *options, mr_cli_work_fn *work, const void *ctx);

/* A progress bar on the terminal; the fraction is 0 .. 1. Nothing is drawn where stderr is no terminal. */
typedef struct mr_cli_bar {
    const char *what; /* "loading the model" */
    int drawn;        /* percent on the screen plus one; 0: nothing yet */
} mr_cli_bar;
bool mr_cli_bar_draw(void *bar, float fraction); /* an mr_progress_fn, always true */
void mr_cli_bar_wipe(mr_cli_bar *bar);

/* A line on the terminal that shows that something is under way, for work that reports no progress of its own. */
typedef struct mr_cli_ticker mr_cli_ticker;
mr_cli_ticker *mr_cli_ticker_start(const char *what); /* NULL where stderr is no terminal */
void mr_cli_ticker_stop(mr_cli_ticker *ticker);       /* NULL is allowed */

/* Appends text in which quotes, control characters and broken UTF-8 are escaped, at most about max_bytes of it. */
void mr_cli_escape(mr_buf *out, const char *text, size_t len, size_t max_bytes);

#endif
