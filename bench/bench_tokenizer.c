/* Speed of a tokenizer on one thread.
 *
 *   bench_tokenizer MODEL FILE...     (MODEL: .gguf, tokenizer.json, tokenizer.model or a folder)
 *
 * Prints the load time in milliseconds, then for each file its name, MB/s (best of the runs within about a second) and
 * the number of tokens, separated by tabs. Times are the thread's processor time, so that other work on the machine
 * disturbs them little. */
#include "base/buf.h"
#include "base/file.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static mr_status load(mr_tokenizer **t, const char *path, mr_error *err) {
    if (!mr_has_suffix(path, ".gguf")) return mr_tokenizer_from_folder(t, path, err);
    mr_gguf *gguf;
    mr_status status = mr_gguf_open(&gguf, &path, 1, err);
    if (status != MR_OK) return status;
    status = mr_tokenizer_from_gguf(t, gguf, err);
    mr_gguf_close(gguf);
    return status;
}

static int measure(const mr_tokenizer *t, const char *path) {
    mr_buf text = {0};
    mr_error err = {0};
    if (mr_file_read(&text, path, 1u << 30, &err) != MR_OK) return fprintf(stderr, "%s\n", err.text), 1;
    double best = 1e30, spent = 0;
    size_t n_tokens = 0;
    for (int run = 0; run < 3 || (spent < 1 && run < 100); run++) {
        mr_tokens ids = {0};
        double start = now();
        if (mr_tokenizer_encode(t, mr_buf_cstr(&text), text.len, MR_ENCODE_SPECIAL_TEXT, &ids, &err) != MR_OK) {
            return fprintf(stderr, "%s\n", err.text), 1;
        }
        double seconds = now() - start;
        spent += seconds;
        if (seconds < best) best = seconds;
        n_tokens = ids.n;
        mr_tokens_free(&ids);
        if (spent > 20) break;
    }
    printf("%s\t%.2f\t%zu\n", path, (double)text.len / 1e6 / best, n_tokens);
    mr_buf_free(&text);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: bench_tokenizer MODEL FILE...\n"), 2;
    double best = 1e30;
    mr_tokenizer *t = NULL;
    for (int run = 0; run < 3; run++) {
        mr_error err = {0};
        mr_tokenizer_free(t);
        double start = now();
        if (load(&t, argv[1], &err) != MR_OK) return fprintf(stderr, "%s\n", err.text), 1;
        double seconds = now() - start;
        if (seconds < best) best = seconds;
    }
    printf("load\t%.1f\n", best * 1e3);
    int status = 0;
    for (int i = 2; i < argc; i++) status |= measure(t, argv[i]);
    mr_tokenizer_free(t);
    return status;
}
