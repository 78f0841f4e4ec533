/* mistral-runner top: what a running plugin does, from the metrics file that it writes (MISTRAL_METRICS_FILE). */
#define _DEFAULT_SOURCE
#include "cli.h"
#include "commands.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char COMMAND[] = "top";
enum { MAX_FILE = 4 << 20, MAX_MODELS = 16, MAX_BUCKETS = 32 };

static void help(void) {
    fputs("usage: mistral-runner top [--once] [FILE]\n"
          "\n"
          "Shows what a running plugin does, from the file that MISTRAL_METRICS_FILE names in the plugin's environment\n"
          "(here the default of FILE). On a terminal it is shown again every two seconds until Ctrl-C.\n"
          "\n"
          "      --once   once\n",
          stdout);
}

/* ---- reading ---- */

/* One sample: NAME{LABELS} VALUE. The texts point into the file's. */
typedef struct sample {
    const char *name, *labels;
    double value;
} sample;

typedef struct samples {
    mr_buf text;
    sample *items;
    size_t n;
} samples;

/* Splits a line in place; false for comments and what is none. */
static bool read_sample(char *line, sample *s) {
    char *value = strrchr(line, ' ');
    if (*line == '#' || value == NULL || value == line) return false;
    *value = '\0';
    s->value = strtod(value + 1, NULL);
    s->name = line;
    s->labels = "";
    char *brace = strchr(line, '{');
    if (brace == NULL) return true;
    *brace = '\0';
    s->labels = brace + 1;
    return true;
}

static mr_status read_file(const char *path, samples *all, mr_error *err) {
    mr_status status = mr_file_read(&all->text, path, MAX_FILE, err);
    if (status != MR_OK) return status;
    size_t n_lines = 1;
    for (const char *p = all->text.data; p != NULL && (p = strchr(p, '\n')) != NULL; p++) n_lines++;
    all->items = calloc(n_lines, sizeof *all->items);
    if (all->items == NULL) return mr_fail_nomem(err, n_lines * sizeof *all->items, "the metrics");
    char *rest = NULL;
    for (char *line = all->text.data != NULL ? strtok_r(all->text.data, "\n", &rest) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (read_sample(line, &all->items[all->n])) all->n++;
    }
    return MR_OK;
}

static void free_samples(samples *all) {
    mr_buf_free(&all->text);
    free(all->items);
    *all = (samples){0};
}

/* The sum of the samples of a name whose labels hold the text ("" = any). */
static double sum(const samples *all, const char *name, const char *label) {
    double total = 0;
    for (size_t i = 0; i < all->n; i++) {
        const sample *s = &all->items[i];
        if (strcmp(s->name, name) == 0 && strstr(s->labels, label) != NULL) total += s->value;
    }
    return total;
}

/* The share q of a histogram lies at or below this many seconds: linear inside a bucket, the last bound beyond it. */
static double quantile(const samples *all, const char *name, double q) {
    double bounds[MAX_BUCKETS], counts[MAX_BUCKETS];
    size_t n = 0;
    for (size_t i = 0; i < all->n && n < MAX_BUCKETS; i++) {
        const char *le = strcmp(all->items[i].name, name) == 0 ? strstr(all->items[i].labels, "le=\"") : NULL;
        if (le == NULL) continue;
        bounds[n] = strtod(le + 4, NULL);
        counts[n++] = all->items[i].value;
    }
    if (n == 0 || counts[n - 1] == 0) return 0;
    double want = q * counts[n - 1];
    for (size_t i = 0; i < n; i++) {
        if (counts[i] < want) continue;
        if (i == n - 1) return i > 0 ? bounds[i - 1] : 0;
        double below = i > 0 ? counts[i - 1] : 0, from = i > 0 ? bounds[i - 1] : 0;
        return from + (bounds[i] - from) * (want - below) / (counts[i] - below);
    }
    return 0;
}

/* ---- showing ---- */

static void show_latency(const samples *all, const char *what, const char *name) {
    printf("%-16s p50 %8.1f ms   p95 %8.1f ms   p99 %8.1f ms\n", what, 1e3 * quantile(all, name, 0.5),
           1e3 * quantile(all, name, 0.95), 1e3 * quantile(all, name, 0.99));
}

static void show_models(const samples *all) {
    for (size_t i = 0; i < all->n; i++) {
        const sample *s = &all->items[i];
        if (strcmp(s->name, "mistral_runner_model_memory_bytes") != 0) continue;
        const char *name = strchr(s->labels, '"');
        size_t len = name != NULL ? strcspn(name + 1, "\"") : 0;
        mr_buf label = {0}, shown = {0};
        mr_buf_append(&label, s->labels, (name != NULL ? (size_t)(name + 1 - s->labels) : 0) + len);
        if (name != NULL) mr_cli_escape(&shown, name + 1, len, 64);
        const char *l = mr_buf_cstr(&label);
        printf("\n%s\n  weights %.0f MiB, context %.0f tokens\n", mr_buf_cstr(&shown), s->value / (1 << 20),
               sum(all, "mistral_runner_model_context", l));
        printf("  %.0f running, %.0f waiting\n", sum(all, "mistral_runner_requests_running", l),
               sum(all, "mistral_runner_requests_waiting", l));
        printf("  KV blocks: %.0f used, %.0f cached, of %.0f (%.0f MiB); prefix hits %.0f %%\n",
               sum(all, "mistral_runner_kv_blocks_used", l), sum(all, "mistral_runner_kv_blocks_cached", l),
               sum(all, "mistral_runner_kv_blocks", l), sum(all, "mistral_runner_kv_memory_bytes", l) / (1 << 20),
               100 * sum(all, "mistral_runner_prefix_hit_ratio", l));
        mr_buf_free(&label);
        mr_buf_free(&shown);
    }
}

/* Counts at an earlier moment, for rates; `at` 0 = none. */
typedef struct earlier {
    double at, generated, prompt;
} earlier;

static void show(const samples *all, double written, earlier *before) {
    static const char jobs[] = "mistral_runner_jobs_total", tools[] = "mistral_runner_tool_calls_total";
    double prompt = sum(all, "mistral_runner_tokens_prompt_total", "");
    double cached = sum(all, "mistral_runner_tokens_prompt_cached_total", "");
    double generated = sum(all, "mistral_runner_tokens_generated_total", "");
    printf("jobs             %.0f done, %.0f failed, %.0f cancelled\n", sum(all, jobs, "\"ok\""),
           sum(all, jobs, "\"error\""), sum(all, jobs, "\"cancelled\""));
    printf("tool calls       %.0f done, %.0f failed\n", sum(all, tools, "\"ok\""), sum(all, tools, "\"error\""));
    printf("tokens           %.0f read (%.0f %% from the cache), %.0f written\n", prompt,
           prompt > 0 ? 100 * cached / prompt : 0, generated);
    if (before->at > 0 && written > before->at) {
        printf("now              %.1f read/s, %.1f written/s\n", (prompt - before->prompt) / (written - before->at),
               (generated - before->generated) / (written - before->at));
    }
    if (written > before->at) *before = (earlier){written, generated, prompt};
    show_latency(all, "queue", "mistral_runner_queue_duration_seconds_bucket");
    show_latency(all, "first token", "mistral_runner_time_to_first_token_seconds_bucket");
    show_latency(all, "between tokens", "mistral_runner_time_per_output_token_seconds_bucket");
    show_models(all);
}

static mr_status show_file(const char *path, bool again, earlier *before, mr_error *err) {
    samples all = {0};
    struct stat info;
    mr_status status = read_file(path, &all, err);
    if (status == MR_OK && stat(path, &info) == 0) {
        double written = (double)info.st_mtim.tv_sec + (double)info.st_mtim.tv_nsec * 1e-9;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (again) fputs("\033[H\033[2J", stdout);
        printf("%s, written %.0f s ago\n\n", path, (double)now.tv_sec - written < 0 ? 0 : (double)now.tv_sec - written);
        show(&all, written, before);
        fflush(stdout);
    }
    free_samples(&all);
    return status;
}

int mr_cmd_top(int argc, char **argv) {
    enum { OPT_ONCE = 1 };
    static const struct option longs[] = {
        {"once", no_argument, NULL, OPT_ONCE}, {"help", no_argument, NULL, 'h'}, {0}};
    bool again = isatty(STDOUT_FILENO) == 1;
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        switch (c) {
        case OPT_ONCE:
            again = false;
            break;
        case 'h':
            help();
            return MR_EXIT_OK;
        default:
            return MR_EXIT_USAGE;
        }
    }
    const char *path = optind < argc ? argv[optind++] : getenv("MISTRAL_METRICS_FILE");
    if (optind < argc) return mr_cli_usage_error(COMMAND, "there is no argument \"%s\"", argv[optind]);
    if (path == NULL || *path == '\0')
        return mr_cli_usage_error(COMMAND, "name the file that the plugin's MISTRAL_METRICS_FILE names");
    earlier before = {0};
    mr_error err = {0};
    mr_status status;
    while ((status = show_file(path, again, &before, &err)) == MR_OK && again) sleep(2);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(COMMAND, &err);
}
