/* mistral-runner download: brings a model, or named files, from the hub into the cache and prints where they are. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "commands.h"

#include "base/file.h"

#include <stdlib.h>

static const char COMMAND[] = "download";

static void help(void) {
    fputs("usage: mistral-runner download ORG/NAME[@REVISION] [FILE...]\n"
          "\n"
          "Downloads a model from the hub into the cache that the Hugging Face tools share, and prints the path of\n"
          "each file, or of the folder. Without FILE: the safetensors with all that belongs to them, or the one GGUF\n"
          "file. A download that broke off goes on where it ended.\n"
          "\n"
          "HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are read as those tools read them.\n",
          stdout);
}

static mr_status print_paths(const mr_hub_result *found, mr_error *err) {
    if (found->n_files == 0) puts(found->folder);
    for (size_t i = 0; i < found->n_files; i++) printf("%s/%s\n", found->folder, found->files[i]);
    return fflush(stdout) == 0 ? MR_OK : mr_fail(err, MR_ERR_IO, "standard output cannot be written");
}

int mr_cmd_download(int argc, char **argv) {
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c != 'h') return MR_EXIT_USAGE;
        help();
        return MR_EXIT_OK;
    }
    if (optind >= argc) return mr_cli_usage_error(COMMAND, "the repository is missing");
    mr_cancel *cancel = mr_cancel_new();
    mr_cli_on_interrupt(cancel);
    mr_hub_request request = {.id = argv[optind],
                              .want = optind + 1 < argc ? MR_HUB_FILES : MR_HUB_MODEL,
                              .files = (const char *const *)argv + optind + 1,
                              .n_files = (size_t)(argc - optind - 1),
                              .cancel = cancel};
    mr_hub_result found;
    mr_error err = {0};
    mr_status status = mr_cli_fetch(&request, &found, &err);
    mr_cli_on_interrupt(NULL);
    if (status == MR_OK) {
        status = print_paths(&found, &err);
        mr_hub_result_free(&found);
    }
    mr_cancel_unref(cancel);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
