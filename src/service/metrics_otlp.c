/* Metrics in OTLP's form (opentelemetry-proto, metrics/v1). */
#define _POSIX_C_SOURCE 200809L
#include "base/arena.h"
#include "otlp.pb-c.h"
#include "service/metrics_impl.h"
#include "service/otlp_resource.h"
#include "service/pb_wire.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef MistralRunner__Otlp__Metric pb_metric;
typedef MistralRunner__Otlp__KeyValue pb_key_value;
typedef MistralRunner__Otlp__AnyValue pb_any_value;

enum { CUMULATIVE = 2 };

/* The labels of a point; *n is their number. NULL only when there are none or memory runs out. */
static pb_key_value **labels(mr_arena *arena, const mr_metric_point *point, size_t *n) {
    *n = 0;
    pb_key_value **list = mr_arena_calloc(arena, 2, sizeof *list);
    for (int i = 0; list != NULL && i < 2 && point->keys[i] != NULL; i++) {
        pb_key_value *label = mr_arena_alloc(arena, sizeof *label);
        pb_any_value *value = mr_arena_alloc(arena, sizeof *value);
        if (label == NULL || value == NULL) return NULL;
        mistral_runner__otlp__key_value__init(label);
        mistral_runner__otlp__any_value__init(value);
        label->key = (char *)point->keys[i];
        label->value = value;
        value->value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        value->string_value = (char *)point->values[i];
        list[(*n)++] = label;
    }
    return list;
}

typedef struct times {
    uint64_t start, now;
} times;

static bool fill_numbers(mr_arena *arena, const mr_metric *m, times t, MistralRunner__Otlp__NumberDataPoint ***points) {
    *points = mr_arena_calloc(arena, m->n_points, sizeof **points);
    for (size_t i = 0; *points != NULL && i < m->n_points; i++) {
        MistralRunner__Otlp__NumberDataPoint *point = mr_arena_alloc(arena, sizeof *point);
        if (point == NULL) return false;
        mistral_runner__otlp__number_data_point__init(point);
        point->has_start_time_unix_nano = point->has_time_unix_nano = 1;
        point->start_time_unix_nano = t.start;
        point->time_unix_nano = t.now;
        point->value_case = MISTRAL_RUNNER__OTLP__NUMBER_DATA_POINT__VALUE_AS_DOUBLE;
        point->as_double = m->points[i].value;
        point->attributes = labels(arena, &m->points[i], &point->n_attributes);
        (*points)[i] = point;
    }
    return *points != NULL;
}

static bool fill_distributions(mr_arena *arena, const mr_metric *m, times t,
                               MistralRunner__Otlp__Histogram *histogram) {
    histogram->n_data_points = m->n_points;
    histogram->data_points = mr_arena_calloc(arena, m->n_points, sizeof *histogram->data_points);
    for (size_t i = 0; histogram->data_points != NULL && i < m->n_points; i++) {
        MistralRunner__Otlp__HistogramDataPoint *point = mr_arena_alloc(arena, sizeof *point);
        if (point == NULL) return false;
        mistral_runner__otlp__histogram_data_point__init(point);
        point->has_start_time_unix_nano = point->has_time_unix_nano = point->has_count = point->has_sum = 1;
        point->start_time_unix_nano = t.start;
        point->time_unix_nano = t.now;
        point->count = m->points[i].count;
        point->sum = m->points[i].sum;
        point->n_bucket_counts = MR_N_BOUNDS + 1;
        point->bucket_counts = (uint64_t *)m->points[i].buckets;
        point->n_explicit_bounds = MR_N_BOUNDS;
        point->explicit_bounds = (double *)mr_metric_bounds;
        point->attributes = labels(arena, &m->points[i], &point->n_attributes);
        histogram->data_points[i] = point;
    }
    return histogram->data_points != NULL;
}

/* One metric; NULL when memory runs out. */
static pb_metric *encode_metric(mr_arena *arena, const mr_metric *m, times t) {
    pb_metric *pb = mr_arena_alloc(arena, sizeof *pb);
    MistralRunner__Otlp__Gauge *gauge = mr_arena_alloc(arena, sizeof *gauge);
    MistralRunner__Otlp__Sum *sum = mr_arena_alloc(arena, sizeof *sum);
    MistralRunner__Otlp__Histogram *histogram = mr_arena_alloc(arena, sizeof *histogram);
    if (pb == NULL || gauge == NULL || sum == NULL || histogram == NULL) return NULL;
    mistral_runner__otlp__metric__init(pb);
    pb->name = (char *)m->name;
    pb->unit = (char *)m->unit;
    pb->description = (char *)m->about;
    if (m->kind == MR_METRIC_GAUGE) {
        mistral_runner__otlp__gauge__init(gauge);
        gauge->n_data_points = m->n_points;
        pb->data_case = MISTRAL_RUNNER__OTLP__METRIC__DATA_GAUGE;
        pb->gauge = gauge;
        return fill_numbers(arena, m, t, &gauge->data_points) ? pb : NULL;
    }
    if (m->kind == MR_METRIC_SUM) {
        mistral_runner__otlp__sum__init(sum);
        sum->n_data_points = m->n_points;
        sum->has_aggregation_temporality = sum->has_is_monotonic = 1;
        sum->aggregation_temporality = CUMULATIVE;
        sum->is_monotonic = 1;
        pb->data_case = MISTRAL_RUNNER__OTLP__METRIC__DATA_SUM;
        pb->sum = sum;
        return fill_numbers(arena, m, t, &sum->data_points) ? pb : NULL;
    }
    mistral_runner__otlp__histogram__init(histogram);
    histogram->has_aggregation_temporality = 1;
    histogram->aggregation_temporality = CUMULATIVE;
    pb->data_case = MISTRAL_RUNNER__OTLP__METRIC__DATA_HISTOGRAM;
    pb->histogram = histogram;
    return fill_distributions(arena, m, t, histogram) ? pb : NULL;
}

static bool encode_all(mr_arena *arena, const mr_metric *metrics, size_t n, mr_buf *request) {
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    times t = {mr_metrics_start_ns(), (uint64_t)clock.tv_sec * 1000000000u + (uint64_t)clock.tv_nsec};
    MistralRunner__Otlp__ScopeMetrics scope = MISTRAL_RUNNER__OTLP__SCOPE_METRICS__INIT, *scopes = &scope;
    MistralRunner__Otlp__ResourceMetrics all = MISTRAL_RUNNER__OTLP__RESOURCE_METRICS__INIT, *alls = &all;
    MistralRunner__Otlp__ExportMetricsServiceRequest pb = MISTRAL_RUNNER__OTLP__EXPORT_METRICS_SERVICE_REQUEST__INIT;
    scope.scope = mr_otlp_scope();
    scope.metrics = mr_arena_calloc(arena, n, sizeof *scope.metrics);
    if (scope.metrics == NULL) return false;
    for (size_t i = 0; i < n; i++) {
        if (metrics[i].n_points == 0) continue;
        pb_metric *metric = encode_metric(arena, &metrics[i], t);
        if (metric == NULL) return false;
        scope.metrics[scope.n_metrics++] = metric;
    }
    all.resource = mr_otlp_resource();
    all.n_scope_metrics = 1;
    all.scope_metrics = &scopes;
    pb.n_resource_metrics = 1;
    pb.resource_metrics = &alls;
    return mr_pb_pack(&pb.base, request);
}

bool mr_metrics_encode(mr_buf *request) {
    size_t n;
    mr_arena arena = {0};
    mr_metric *metrics = mr_metrics_snapshot(&n);
    bool ok = metrics != NULL && encode_all(&arena, metrics, n, request);
    mr_arena_free(&arena);
    free(metrics);
    return ok;
}
