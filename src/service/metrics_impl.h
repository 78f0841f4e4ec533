/* The figures as a table, between those who count (metrics.c) and those who write (metrics_otlp.c, metrics_text.c). */
#ifndef MR_SERVICE_METRICS_IMPL_H
#define MR_SERVICE_METRICS_IMPL_H

#include "service/metrics.h"

#include <stddef.h>

typedef enum mr_metric_kind { MR_METRIC_SUM, MR_METRIC_GAUGE, MR_METRIC_HISTOGRAM } mr_metric_kind;

enum { MR_N_BOUNDS = 14, MR_MAX_POINTS = 32, MR_MAX_LABEL = 96 };

/* Bounds of all histograms, in seconds. */
extern const double mr_metric_bounds[MR_N_BOUNDS];

/* One line of a metric: its labels and its value. */
typedef struct mr_metric_point {
    const char *keys[2]; /* NULL: no label */
    char values[2][MR_MAX_LABEL];
    double value; /* SUM, GAUGE */
    uint64_t count, buckets[MR_N_BOUNDS + 1];
    double sum; /* HISTOGRAM; buckets are not cumulative */
} mr_metric_point;

typedef struct mr_metric {
    const char *name; /* "mistral_runner.jobs" */
    const char *unit; /* UCUM: "s", "By", "{token}" */
    const char *about;
    mr_metric_kind kind;
    mr_metric_point points[MR_MAX_POINTS];
    size_t n_points;
} mr_metric;

/* A picture of all metrics at this moment: *n of them, to free(). NULL when memory runs out. */
mr_metric *mr_metrics_snapshot(size_t *n);

/* When counting began, nanoseconds of the UNIX clock. */
uint64_t mr_metrics_start_ns(void);

#endif
