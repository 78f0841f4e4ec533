/* Hugging Face folders: config.json, then model.safetensors, then model.safetensors.index.json, with four 0xFF bytes
 * between them (the last two may be missing). They are written to a folder and opened as a model would be. */
#define _GNU_SOURCE
#include "base/log.h"
#include "model/hf_model.h"
#include "model/model.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/mr-fuzz-XXXXXX";
static const char *const files[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};

static void path_of(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", folder, name);
}

static void remove_all(void) {
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        path_of(path, sizeof path, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void write_file(const char *name, const uint8_t *data, size_t n) {
    char path[128];
    path_of(path, sizeof path, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, n, file) != n) abort();
    fclose(file);
}

/* The file's part of the input ends at "\xFF\xFF\xFF\xFF", which no JSON holds. */
static size_t part(const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\xFF\xFF\xFF\xFF", 4);
    return end == NULL ? size : (size_t)(end - data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int made;
    if (!made) {
        mr_log_set_filter("off");
        if (mkdtemp(folder) == NULL) abort();
        atexit(remove_all);
        made = 1;
    }
    for (size_t i = 0; i < 3; i++) {
        size_t n = part(data, size), used = n + (n < size ? 4 : 0);
        if (i == 0 || size > 0) {
            write_file(files[i], data, n);
        } else {
            char path[128];
            path_of(path, sizeof path, files[i]);
            unlink(path);
        }
        data += used;
        size -= used;
    }
    mr_gguf *gguf;
    mr_model *model;
    mr_error err = {0};
    mr_model_options options = {.n_threads = 1};
    if (mr_hf_open(&gguf, folder, &err) != MR_OK) return err.text[0] == '\0' ? abort(), 0 : 0;
    if (mr_model_load(&model, gguf, &options, &err) == MR_OK)
        mr_model_free(model);
    else if (err.text[0] == '\0')
        abort();
    mr_gguf_close(gguf);
    return 0;
}
