/* mistral-runner bench: speed of prompt processing and generation, in the manner of llama-bench. Random tokens;
 * sampling is left out; each test is run once to warm up and then -r times. */
#include "cmd_bench.h"
#include "bench_chart.h"
#include "cli.h"

#include "base/clock.h"
#include "base/log.h"
#include "compute/cpu.h"
#include "engine/engine.h"
#include "model/gguf.h"
#include "model/model.h"

#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 16, MAX_RUNS = 1000, MAX_TOKENS = 1 << 20 };

typedef struct int_list {
    uint32_t values[MAX_LIST];
    size_t n;
} int_list;

typedef struct bench_options {
    const char *model_path;
    int_list prompt, generate, depth, concurrent, prefix;
    int n_threads;
    const char *device;
    int n_runs;
    bool json;
    mr_kv_type kv_type;
} bench_options;

typedef struct bench {
    const bench_options *options;
    mr_gguf *gguf;
    mr_model *model;
    mr_kv_pool pool;
    int32_t *blocks;
    int32_t *tokens;
    float *logits;
    mr_state_pool states; /* one, of models with a recurrent state */
    json_t *rows;
    double load_sec;
} bench;

static void usage(FILE *out) {
    fputs("usage: mistral-runner bench -m MODEL [options]\n"
          "\n"
          "Measures prompt processing and generation with random tokens, like llama-bench.\n"
          "\n"
          "  -m, --model FILE       GGUF model\n"
          "  -p, --n-prompt LIST    prompt lengths, e.g. 512 or 512,2048 (default 512; 0 = none)\n"
          "  -n, --n-gen LIST       tokens to generate (default 128; 0 = none)\n"
          "  -d, --n-depth LIST     tokens already in the context (default 0)\n"
          "  -c, --concurrent LIST  also: so many requests at once through the scheduler, each with -p and -n\n"
          "  -x, --prefix LIST      also: time to the first token of two requests that share so many tokens\n"
          "      --device D         cpu (default), cuda, cuda:N or auto\n"
          "  -t, --threads N        threads (default: physical cores)\n"
          "  -r, --repetitions N    runs of each test (default 5)\n"
          "      --kv-cache-type T  f16, q8_0 or f32 (default f16)\n"
          "  -o, --output FORMAT    md (default) or json\n",
          out);
}

static bool parse_list(const char *text, int_list *list) {
    list->n = 0;
    for (const char *p = text; *p != '\0';) {
        char *end;
        long value = strtol(p, &end, 10);
        if (end == p || value < 0 || value > MAX_TOKENS || list->n == MAX_LIST || (*end != ',' && *end != '\0'))
            return false;
        list->values[list->n++] = (uint32_t)value;
        p = *end == ',' ? end + 1 : end;
    }
    return list->n > 0;
}

static bool parse_kv_type(const char *text, mr_kv_type *type) {
    static const struct {
        const char *name;
        mr_kv_type type;
    } names[] = {{"f16", MR_KV_F16}, {"q8_0", MR_KV_Q8_0}, {"f32", MR_KV_F32}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].name) != 0) continue;
        *type = names[i].type;
        return true;
    }
    return false;
}

/* Exit status 0 to go on, 2 for bad usage, 1 for help. */
static int parse_options(int argc, char **argv, bench_options *o) {
    static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
                                          {"n-prompt", required_argument, NULL, 'p'},
                                          {"n-gen", required_argument, NULL, 'n'},
                                          {"n-depth", required_argument, NULL, 'd'},
                                          {"concurrent", required_argument, NULL, 'c'},
                                          {"prefix", required_argument, NULL, 'x'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"repetitions", required_argument, NULL, 'r'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"kv-cache-type", required_argument, NULL, 'k'},
                                          {"device", required_argument, NULL, 'D'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    *o = (bench_options){.prompt = {{512}, 1}, .generate = {{128}, 1}, .depth = {{0}, 1}, .n_runs = 5};
    bool ok = true;
    optind = 1;
    for (int c; ok && (c = getopt_long(argc, argv, "m:p:n:d:c:x:t:r:o:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o->model_path = optarg;
            break;
        case 'p':
            ok = parse_list(optarg, &o->prompt);
            break;
        case 'n':
            ok = parse_list(optarg, &o->generate);
            break;
        case 'd':
            ok = parse_list(optarg, &o->depth);
            break;
        case 'c':
            ok = parse_list(optarg, &o->concurrent);
            break;
        case 'x':
            ok = parse_list(optarg, &o->prefix);
            break;
        case 't':
            o->n_threads = atoi(optarg);
            break;
        case 'D':
            o->device = optarg;
            break;
        case 'r':
            o->n_runs = atoi(optarg);
            break;
        case 'k':
            ok = parse_kv_type(optarg, &o->kv_type);
            break;
        case 'o':
            o->json = strcmp(optarg, "json") == 0;
            ok = o->json || strcmp(optarg, "md") == 0;
            break;
        case 'h':
            usage(stdout);
            return 1;
        default:
            return 2;
        }
        if (!ok)
            fprintf(stderr, "bench: \"%s\" is no valid value for this option; see mistral-runner bench --help\n",
                    optarg);
    }
    if (!ok) return 2;
    if (o->model_path == NULL || optind < argc || o->n_runs < 1 || o->n_runs > MAX_RUNS || o->n_threads < 0) {
        usage(stderr);
        return 2;
    }
    return 0;
}

static uint32_t max_of(const int_list *list) {
    uint32_t most = 0;
    for (size_t i = 0; i < list->n; i++) most = list->values[i] > most ? list->values[i] : most;
    return most;
}

/* Computes tokens first .. first+n-1 of the random text, `chunk` at a time, with logits of the last of each pass. */
static mr_status advance(bench *b, uint32_t first, uint32_t n, uint32_t chunk, mr_error *err) {
    for (uint32_t at = 0; at < n; at += chunk) {
        uint32_t count = n - at < chunk ? n - at : chunk;
        mr_batch_run run = {.tokens = b->tokens + first + at,
                            .n_tokens = count,
                            .pos0 = first + at,
                            .blocks = b->blocks,
                            .n_logits = at + count == n || chunk == 1,
                            .logits = b->logits,
                            .state = mr_state_at(&b->states, 0),
                            .state_out = mr_state_at(&b->states, 0)};
        mr_status status = mr_model_forward(b->model, &b->pool, &run, 1, NULL, err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

static void add_row(bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t n_depth, uint32_t n_concurrent,
                    const double *speeds, int n) {
    double sum = 0.0, squares = 0.0;
    json_t *samples = json_array();
    for (int i = 0; i < n; i++) {
        sum += speeds[i];
        squares += speeds[i] * speeds[i];
        json_array_append_new(samples, json_real(speeds[i]));
    }
    double mean = sum / n, variance = n > 1 ? (squares - sum * mean) / (n - 1) : 0.0;
    const mr_model_info *info = mr_model_get_info(b->model);
    json_t *row =
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o, s:f}", "model_filename",
                  b->options->model_path, "model_type", info->type_label, "model_size", (json_int_t)info->weight_bytes,
                  "model_n_params", (json_int_t)info->n_params, "isa", mr_isa_name(mr_isa_active()), "n_threads",
                  mr_team_size(mr_model_team(b->model)), "n_prompt", (int)n_prompt, "n_gen", (int)n_gen, "n_depth",
                  (int)n_depth, "n_concurrent", (int)n_concurrent, "avg_ts", mean, "stddev_ts",
                  sqrt(variance > 0.0 ? variance : 0.0), "samples_ts", samples, "load_sec", b->load_sec);
    char test[64];
    int used = n_prompt > 0 && n_gen > 0 ? snprintf(test, sizeof test, "pp%u+tg%u", n_prompt, n_gen)
               : n_prompt > 0            ? snprintf(test, sizeof test, "pp%u", n_prompt)
                                         : snprintf(test, sizeof test, "tg%u", n_gen);
    if (n_depth > 0) used += snprintf(test + used, sizeof test - (size_t)used, " @ d%u", n_depth);
    if (n_concurrent > 1) snprintf(test + used, sizeof test - (size_t)used, " x%u", n_concurrent);
    json_object_set_new(row, "test", json_string(test));
    json_array_append_new(b->rows, row);
    if (b->options->json) return;
    printf("| %-20s | %8.2f MiB | %7d | %20s | %10.2f ± %.2f |\n", info->type_label,
           (double)info->weight_bytes / 1048576.0, mr_team_size(mr_model_team(b->model)), test, mean,
           sqrt(variance > 0.0 ? variance : 0.0));
    fflush(stdout);
}

/* What is computed to warm up. */
enum { WARM_PROMPT = 512, WARM_GEN = 16 };

static uint32_t at_most(uint32_t n, uint32_t most) {
    return n < most ? n : most;
}

static mr_status test_single(bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t n_depth, mr_error *err) {
    double speeds[MAX_RUNS];
    for (int run = -1; run < b->options->n_runs; run++) {
        mr_status status = run < 0 ? advance(b, 0, n_depth, MR_BATCH_MAX, err) : MR_OK;
        uint64_t start = mr_clock_ns();
        uint32_t n_p = run < 0 ? at_most(n_prompt, WARM_PROMPT) : n_prompt;
        uint32_t n_g = run < 0 ? at_most(n_gen, WARM_GEN) : n_gen;
        if (status == MR_OK) status = advance(b, n_depth, n_p, MR_BATCH_MAX, err);
        if (status == MR_OK) status = advance(b, n_depth + n_p, n_g, 1, err);
        if (status != MR_OK) return status;
        if (run >= 0) speeds[run] = (n_prompt + n_gen) / mr_clock_since(start);
    }
    add_row(b, n_prompt, n_gen, n_depth, 1, speeds, b->options->n_runs);
    return MR_OK;
}

/* n requests at once, each with a prompt of its own. Tokens per second over all of them, prompt included. */
static mr_status test_concurrent(bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t n, mr_error *err) {
    double speeds[MAX_RUNS];
    mr_engine_config config = {.context_size = n_prompt + n_gen + MR_KV_BLOCK,
                               .max_concurrent = n,
                               .kv_type = b->options->kv_type,
                               .no_prefix_cache = true};
    mr_engine *engine;
    mr_status status = mr_engine_new(&engine, b->model, &config, err);
    if (status != MR_OK) return status;
    mr_request **requests = calloc(n, sizeof(mr_request *));
    for (int run = -1; requests != NULL && status == MR_OK && run < b->options->n_runs; run++) {
        uint64_t start = mr_clock_ns(), n_tokens = 0;
        for (uint32_t i = 0; i < n && status == MR_OK; i++) {
            mr_request_params params = {
                .prompt = b->tokens + i, .n_prompt = n_prompt, .max_tokens = n_gen, .sampling = mr_sampling_default()};
            params.sampling.temperature = 0.0f;
            status = mr_engine_submit(engine, &params, &requests[i], err);
        }
        for (uint32_t i = 0; i < n && status == MR_OK; i++) {
            mr_finish finish = MR_FINISH_NONE;
            while (status == MR_OK && finish == MR_FINISH_NONE) {
                int32_t token;
                status = mr_request_next(requests[i], NULL, &token, &finish, err);
                n_tokens += finish == MR_FINISH_NONE;
            }
            n_tokens += n_prompt;
        }
        if (run >= 0) speeds[run] = (double)n_tokens / mr_clock_since(start);
        for (uint32_t i = 0; i < n; i++) mr_request_free(requests[i]), requests[i] = NULL;
    }
    free(requests);
    mr_engine_free(engine);
    if (status == MR_OK) add_row(b, n_prompt, n_gen, 0, n, speeds, b->options->n_runs);
    return status;
}

/* Seconds to the first token of a request whose prompt is `prompt`. */
static mr_status first_token(mr_engine *engine, const int32_t *prompt, size_t n_prompt, double *seconds,
                             mr_error *err) {
    mr_request_params params = {
        .prompt = prompt, .n_prompt = n_prompt, .max_tokens = 1, .sampling = mr_sampling_default()};
    params.sampling.temperature = 0.0f;
    mr_request *request;
    mr_finish finish;
    int32_t token;
    uint64_t start = mr_clock_ns();
    mr_status status = mr_engine_submit(engine, &params, &request, err);
    if (status != MR_OK) return status;
    status = mr_request_next(request, NULL, &token, &finish, err);
    *seconds = mr_clock_since(start);
    mr_request_free(request);
    return status;
}

/* Two requests, whose prompts differ in their last PREFIX_TAIL tokens only, one after the other. */
enum { PREFIX_TAIL = 16 };
static mr_status test_prefix(bench *b, uint32_t n, mr_error *err) {
    size_t n_prompt = (size_t)n + PREFIX_TAIL;
    mr_engine_config config = {
        .context_size = (uint32_t)n_prompt + MR_KV_BLOCK, .max_concurrent = 2, .kv_type = b->options->kv_type};
    int32_t *prompt = malloc(n_prompt * sizeof *prompt);
    if (prompt == NULL) return mr_fail_nomem(err, n_prompt * sizeof *prompt, "a prompt");
    memcpy(prompt, b->tokens, n_prompt * sizeof *prompt);
    mr_engine *engine;
    mr_status status = mr_engine_new(&engine, b->model, &config, err);
    double first = 0.0, again = 0.0;
    if (status == MR_OK) {
        status = first_token(engine, prompt, n_prompt, &first, err);
        for (size_t i = n; i < n_prompt; i++) prompt[i] = prompt[i] > 0 ? prompt[i] - 1 : 1;
        if (status == MR_OK) status = first_token(engine, prompt, n_prompt, &again, err);
        mr_engine_free(engine);
    }
    free(prompt);
    if (status != MR_OK) return status;
    json_array_append_new(b->rows, json_pack("{s:s, s:i, s:f, s:f}", "model_filename", b->options->model_path,
                                             "n_prefix", (int)n, "first_token_sec", first, "again_sec", again));
    if (!b->options->json)
        printf("first token of a prompt of %zu: %.3f s; of a second one that shares %u: %.3f s\n", n_prompt, first, n,
               again);
    return MR_OK;
}

static mr_status run_tests(bench *b, mr_error *err) {
    const bench_options *o = b->options;
    mr_status status = MR_OK;
    for (size_t d = 0; d < o->depth.n && status == MR_OK; d++) {
        for (size_t i = 0; i < o->prompt.n && status == MR_OK; i++) {
            if (o->prompt.values[i] > 0) status = test_single(b, o->prompt.values[i], 0, o->depth.values[d], err);
        }
        for (size_t i = 0; i < o->generate.n && status == MR_OK; i++) {
            if (o->generate.values[i] > 0) status = test_single(b, 0, o->generate.values[i], o->depth.values[d], err);
        }
    }
    for (size_t c = 0; c < o->concurrent.n && status == MR_OK; c++) {
        if (o->concurrent.values[c] == 0) continue;
        status = test_concurrent(b, o->prompt.values[0], o->generate.values[0], o->concurrent.values[c], err);
    }
    for (size_t i = 0; i < o->prefix.n && status == MR_OK; i++) {
        if (o->prefix.values[i] > 0) status = test_prefix(b, o->prefix.values[i], err);
    }
    return status;
}

static mr_status prepare(bench *b, mr_error *err) {
    const bench_options *o = b->options;
    const char *paths[] = {o->model_path};
    uint64_t start = mr_clock_ns();
    mr_status status = mr_cli_find_model(&paths[0], NULL, err);
    if (status == MR_OK) status = mr_gguf_open(&b->gguf, paths, 1, err);
    mr_model_options options = {.n_threads = o->n_threads, .device = o->device};
    if (status == MR_OK) status = mr_model_load(&b->model, b->gguf, &options, err);
    if (status != MR_OK) return status;
    b->load_sec = mr_clock_since(start);
    uint32_t longest = max_of(&o->prompt) > max_of(&o->generate) ? max_of(&o->prompt) : max_of(&o->generate);
    size_t n_tokens = (size_t)longest + max_of(&o->depth) + max_of(&o->concurrent) + 1;
    if (n_tokens < (size_t)max_of(&o->prefix) + PREFIX_TAIL) n_tokens = (size_t)max_of(&o->prefix) + PREFIX_TAIL;
    size_t n_blocks = n_tokens / MR_KV_BLOCK + 1, n_vocab = mr_model_get_info(b->model)->n_vocab;
    status = mr_model_kv_init(b->model, &b->pool, o->kv_type, n_blocks, err);
    if (status != MR_OK) return status;
    b->blocks = calloc(n_blocks, sizeof *b->blocks);
    b->tokens = calloc(n_tokens, sizeof *b->tokens);
    b->logits = calloc(n_vocab, sizeof *b->logits);
    b->rows = json_array();
    status = mr_model_states_init(b->model, &b->states, 1, err);
    if (status != MR_OK) return status;
    if (b->blocks == NULL || b->tokens == NULL || b->logits == NULL)
        return mr_fail_nomem(err, n_tokens, "the benchmark");
    for (size_t i = 0; i < n_blocks; i++) b->blocks[i] = (int32_t)i;
    uint64_t random = 1;
    for (size_t i = 0; i < n_tokens; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        b->tokens[i] = (int32_t)((random >> 33) % n_vocab);
    }
    return MR_OK;
}

int mr_cmd_bench(int argc, char **argv) {
    bench_options options;
    int usage_status = parse_options(argc, argv, &options);
    if (usage_status != 0) return usage_status == 1 ? 0 : usage_status;
    if (getenv("RUST_LOG") == NULL) mr_log_set_filter("warn");
    bench b = {.options = &options};
    mr_error err = {0};
    mr_status status = prepare(&b, &err);
    if (status == MR_OK && !options.json) {
        puts("| model                |         size | threads |                 test |          tokens/s |\n"
             "| -------------------- | -----------: | ------: | -------------------: | ----------------: |");
    }
    if (status == MR_OK) status = run_tests(&b, &err);
    if (status != MR_OK) fprintf(stderr, "mistral-runner bench: %s\n", err.text);
    if (status == MR_OK && options.json) {
        json_dumpf(b.rows, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    }
    if (status == MR_OK && !options.json && json_array_size(b.rows) > 1) {
        puts("\ntokens/s");
        mr_bench_chart(b.rows, stdout);
    }
    json_decref(b.rows);
    free(b.blocks);
    free(b.tokens);
    free(b.logits);
    if (b.model != NULL) {
        mr_model_states_free(b.model, &b.states);
        mr_model_kv_free(b.model, &b.pool);
    }
    mr_model_free(b.model);
    mr_gguf_close(b.gguf);
    return status == MR_OK ? 0 : 1;
}
