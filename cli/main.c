/* mistral-runner: runs jobs through the plugin on a bare machine, and holds the tools around models. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "cmd_bench.h"
#include "cmd_synth.h"
#include "commands.h"

#include "base/near_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MR_VERSION
#define MR_VERSION "0.1.0"
#endif

typedef struct command {
    const char *name;
    const char *about;
    int (*run)(int argc, char **argv);
} command;

static const command commands[] = {
    {"run", "run one job of a worker through the plugin, as the host would", mr_cmd_run},
    {"chat", "hold a conversation in the terminal", mr_cmd_chat},
    {"complete", "continue a text", mr_cmd_complete},
    {"embed", "print the vectors of texts", mr_cmd_embed},
    {"tokenize", "print the token ids of a text", mr_cmd_tokenize},
    {"logits", "print logits as JSON", mr_cmd_logits},
    {"render", "print the prompt that a chat template makes", mr_cmd_render},
    {"inspect", "print metadata, tensors and sizes of a GGUF file", mr_cmd_inspect},
    {"schema", "say what a JSON Schema holds an answer to", mr_cmd_schema},
    {"top", "show what a running plugin does", mr_cmd_top},
    {"quantize", "write a model as one GGUF file in other tensor types", mr_cmd_quantize},
    {"download", "bring a model from the hub into the cache", mr_cmd_download},
    {"synth", "write a model of random weights in a real shape", mr_cmd_synth},
    {"bench", "measure speed, in the manner of llama-bench", mr_cmd_bench},
};

static void help(FILE *out) {
    fputs("usage: mistral-runner COMMAND [options]\n\ncommands:\n", out);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    }
    fputs("\nmistral-runner COMMAND --help tells the options of a command; mistral-runner --version the version.\n",
          out);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (*name == '\0') {
        help(stderr);
        return MR_EXIT_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help(stdout);
        return MR_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("mistral-runner " MR_VERSION);
        return MR_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(name, commands[i].name) != 0) continue;
        setenv("RUST_LOG", "warn", 0); /* a person is watching: what went well needs no log line */
        mr_cli_catch_interrupts();
        int status = commands[i].run(argc - 1, argv + 1);
        mr_cli_release_interrupts();
        return status;
    }
    const char *nearest = NULL;
    size_t distance = 3; /* more wrong letters than two are another word */
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        size_t d = mr_name_distance(name, commands[i].name);
        if (d >= distance) continue;
        distance = d;
        nearest = commands[i].name;
    }
    fprintf(stderr, "mistral-runner: there is no command \"%s\"", name);
    if (nearest != NULL) fprintf(stderr, "; do you mean \"%s\"?", nearest);
    fputs("\n\n", stderr);
    help(stderr);
    return MR_EXIT_USAGE;
}
