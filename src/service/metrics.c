#define _POSIX_C_SOURCE 200809L
#include "service/metrics_impl.h"

#include "base/utf8.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const double mr_metric_bounds[MR_N_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                              0.25,  0.5,    1,     2.5,  5,     10,   60};

enum { MAX_METHODS = 8, MAX_MODELS = 16 };

typedef struct histogram {
    uint64_t count, buckets[MR_N_BOUNDS + 1];
    double sum;
} histogram;

typedef struct method {
    char name[MR_MAX_LABEL];
    uint64_t ends[MR_N_JOB_ENDS];
    histogram seconds;
} method;

typedef struct model {
    mr_text_model *model;
    char name[MR_MAX_LABEL];
} model;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t start_ns;
static method methods[MAX_METHODS];
static size_t n_methods;
static model models[MAX_MODELS];
static size_t n_models;
static uint64_t n_prompt, n_cached, n_generated, n_drafted, n_accepted, n_tools[2], n_spans_dropped;
static histogram queue, first_token, per_token, tool_seconds;

/* Copies as much of a text as fits, in whole characters. */
static void copy_label(char label[MR_MAX_LABEL], const char *text) {
    size_t n = strnlen(text, MR_MAX_LABEL - 1);
    n -= mr_utf8_incomplete_tail(text, n);
    memcpy(label, text, n);
    label[n] = '\0';
}

static void begin(void) {
    pthread_mutex_lock(&lock);
    if (start_ns != 0) return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t mr_metrics_start_ns(void) {
    begin();
    uint64_t start = start_ns;
    pthread_mutex_unlock(&lock);
    return start;
}

static void observe(histogram *h, double value) {
    size_t i = 0;
    while (i < MR_N_BOUNDS && value > mr_metric_bounds[i]) i++;
    h->buckets[i]++;
    h->count++;
    h->sum += value;
}

void mr_metrics_job(const char *name, mr_job_end end, double seconds) {
    begin();
    size_t i = 0;
    while (i < n_methods && strcmp(methods[i].name, name) != 0) i++;
    if (i == n_methods && n_methods < MAX_METHODS) {
        copy_label(methods[i].name, name);
        n_methods++;
    }
    if (i < n_methods) {
        methods[i].ends[end]++;
        observe(&methods[i].seconds, seconds);
    }
    pthread_mutex_unlock(&lock);
}

void mr_metrics_generation(const mr_generation_figures *f) {
    begin();
    n_prompt += f->n_prompt;
    n_cached += f->n_cached;
    n_generated += f->n_generated;
    n_drafted += f->n_drafted;
    n_accepted += f->n_accepted;
    observe(&queue, f->queue_sec);
    if (f->n_generated > 0) observe(&first_token, f->queue_sec + f->prompt_sec);
    if (f->n_generated > 1) observe(&per_token, f->generation_sec / (f->n_generated - 1));
    pthread_mutex_unlock(&lock);
}

void mr_metrics_tool_call(bool success, double seconds) {
    begin();
    n_tools[success]++;
    observe(&tool_seconds, seconds);
    pthread_mutex_unlock(&lock);
}

void mr_metrics_span_dropped(void) {
    begin();
    n_spans_dropped++;
    pthread_mutex_unlock(&lock);
}

void mr_metrics_add_model(mr_text_model *m, const char *name) {
    begin();
    if (n_models < MAX_MODELS) {
        models[n_models].model = m;
        copy_label(models[n_models].name, name);
        n_models++;
    }
    pthread_mutex_unlock(&lock);
}

void mr_metrics_remove_model(const mr_text_model *m) {
    begin();
    for (size_t i = 0; i < n_models; i++) {
        if (models[i].model != m) continue;
        models[i] = models[--n_models];
        break;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- the picture ---- */

typedef struct picture {
    mr_metric *metrics;
    size_t n, cap;
} picture;

static mr_metric *add_metric(picture *p, const char *name, const char *unit, mr_metric_kind kind, const char *about) {
    static mr_metric overflow; /* cap is the number of calls below, so it is never used for more than a mistake */
    mr_metric *m = p->n < p->cap ? &p->metrics[p->n++] : &overflow;
    *m = (mr_metric){.name = name, .unit = unit, .kind = kind, .about = about};
    return m;
}

static mr_metric_point *add_point(mr_metric *m, const char *key, const char *value) {
    mr_metric_point *point = &m->points[m->n_points < MR_MAX_POINTS - 1 ? m->n_points++ : MR_MAX_POINTS - 1];
    *point = (mr_metric_point){.keys = {key}};
    if (key != NULL) copy_label(point->values[0], value);
    return point;
}

static void add_sum(picture *p, const char *name, const char *unit, const char *about, uint64_t value) {
    add_point(add_metric(p, name, unit, MR_METRIC_SUM, about), NULL, NULL)->value = (double)value;
}

static void fill_histogram(mr_metric_point *point, const histogram *h) {
    point->count = h->count;
    point->sum = h->sum;
    memcpy(point->buckets, h->buckets, sizeof point->buckets);
}

static void add_histogram(picture *p, const char *name, const char *about, const histogram *h) {
    fill_histogram(add_point(add_metric(p, name, "s", MR_METRIC_HISTOGRAM, about), NULL, NULL), h);
}

static void add_jobs(picture *p) {
    static const char *const ends[MR_N_JOB_ENDS] = {"ok", "error", "cancelled"};
    mr_metric *jobs = add_metric(p, "mistral_runner.jobs", "{job}", MR_METRIC_SUM, "jobs that ended");
    for (size_t i = 0; i < n_methods; i++) {
        for (int end = 0; end < MR_N_JOB_ENDS; end++) {
            mr_metric_point *point = add_point(jobs, "method", methods[i].name);
            point->keys[1] = "status";
            copy_label(point->values[1], ends[end]);
            point->value = (double)methods[i].ends[end];
        }
    }
    mr_metric *seconds = add_metric(p, "mistral_runner.job.duration", "s", MR_METRIC_HISTOGRAM, "time that jobs took");
    for (size_t i = 0; i < n_methods; i++)
        fill_histogram(add_point(seconds, "method", methods[i].name), &methods[i].seconds);
    mr_metric *tools = add_metric(p, "mistral_runner.tool_calls", "{call}", MR_METRIC_SUM, "calls of tools");
    add_point(tools, "status", "ok")->value = (double)n_tools[1];
    add_point(tools, "status", "error")->value = (double)n_tools[0];
    add_histogram(p, "mistral_runner.tool_call.duration", "time that calls of tools took", &tool_seconds);
}

/* Gauges of every model. The first two arrays name them, in the order of `values`. */
static void add_models(picture *p) {
    enum { N_GAUGES = 9 };
    static const char *const gauges[N_GAUGES][3] = {
        {"mistral_runner.requests.running", "{request}", "generations in the batch"},
        {"mistral_runner.requests.waiting", "{request}", "generations that wait for a place"},
        {"mistral_runner.kv.blocks", "{block}", "blocks of keys and values that there are"},
        {"mistral_runner.kv.blocks_used", "{block}", "blocks that running generations hold"},
        {"mistral_runner.kv.blocks_cached", "{block}", "blocks kept for prompts that begin alike"},
        {"mistral_runner.kv.memory", "By", "memory of all blocks"},
        {"mistral_runner.prefix.hit_ratio", "1", "share of the prompts' tokens that were found in the cache"},
        {"mistral_runner.model.memory", "By", "memory of the weights"},
        {"mistral_runner.model.context", "{token}", "most tokens of one generation"},
    };
    mr_metric *metrics[N_GAUGES];
    for (int g = 0; g < N_GAUGES; g++)
        metrics[g] = add_metric(p, gauges[g][0], gauges[g][1], MR_METRIC_GAUGE, gauges[g][2]);
    for (size_t i = 0; i < n_models; i++) {
        mr_engine *engine = mr_text_model_engine(models[i].model);
        mr_engine_stats s = mr_engine_get_stats(engine);
        double values[N_GAUGES] = {
            s.n_running,
            s.n_waiting,
            (double)s.n_blocks,
            (double)s.n_blocks_used,
            (double)s.n_blocks_cached,
            (double)s.kv_bytes,
            s.n_prompt_tokens > 0 ? (double)s.n_prompt_cached / (double)s.n_prompt_tokens : 0,
            (double)mr_text_model_info(models[i].model)->weight_bytes,
            mr_engine_context_size(engine),
        };
        for (int g = 0; g < N_GAUGES; g++) add_point(metrics[g], "model", models[i].name)->value = values[g];
    }
}

mr_metric *mr_metrics_snapshot(size_t *n) {
    enum { MAX_METRICS = 24 };
    picture p = {.metrics = calloc(MAX_METRICS, sizeof(mr_metric)), .cap = MAX_METRICS};
    *n = 0;
    if (p.metrics == NULL) return NULL;
    begin();
    add_jobs(&p);
    add_histogram(&p, "mistral_runner.queue.duration", "time from a request to the first work on it", &queue);
    add_histogram(&p, "mistral_runner.time_to_first_token", "time from a request to its first token", &first_token);
    add_histogram(&p, "mistral_runner.time_per_output_token", "mean time between two tokens of a generation",
                  &per_token);
    add_sum(&p, "mistral_runner.tokens.prompt", "{token}", "tokens of prompts", n_prompt);
    add_sum(&p, "mistral_runner.tokens.prompt_cached", "{token}", "those of them that were found in the cache",
            n_cached);
    add_sum(&p, "mistral_runner.tokens.generated", "{token}", "tokens that were generated", n_generated);
    add_sum(&p, "mistral_runner.tokens.drafted", "{token}", "tokens that were guessed ahead", n_drafted);
    add_sum(&p, "mistral_runner.tokens.draft_accepted", "{token}", "those of them that were generated", n_accepted);
    add_sum(&p, "mistral_runner.spans.dropped", "{span}", "spans that were not exported", n_spans_dropped);
    add_models(&p);
    pthread_mutex_unlock(&lock);
    *n = p.n;
    return p.metrics;
}
