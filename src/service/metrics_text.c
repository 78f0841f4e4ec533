/* Metrics as text, in the Prometheus exposition format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). */
#include "service/metrics_impl.h"

#include <stdlib.h>
#include <string.h>

/* "mistral_runner.job.duration" → mistral_runner_job_duration_seconds; sums end in _total. */
static void put_name(mr_buf *text, const mr_metric *m) {
    for (const char *c = m->name; *c != '\0'; c++) mr_buf_putc(text, *c == '.' ? '_' : *c);
    if (strcmp(m->unit, "s") == 0) mr_buf_puts(text, "_seconds");
    if (strcmp(m->unit, "By") == 0) mr_buf_puts(text, "_bytes");
    if (m->kind == MR_METRIC_SUM) mr_buf_puts(text, "_total");
}

static void put_label_value(mr_buf *text, const char *value) {
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            mr_buf_puts(text, "\\n");
        else if (*value == '"' || *value == '\\')
            mr_buf_printf(text, "\\%c", *value);
        else
            mr_buf_putc(text, *value);
    }
}

/* The labels in braces, with `le` of a bucket (NULL: none). */
static void put_labels(mr_buf *text, const mr_metric_point *point, const char *le) {
    bool any = false;
    for (int i = 0; i < 2; i++) {
        if (point->keys[i] == NULL) continue;
        mr_buf_printf(text, "%s%s=\"", any ? "," : "{", point->keys[i]);
        put_label_value(text, point->values[i]);
        mr_buf_putc(text, '"');
        any = true;
    }
    if (le != NULL) mr_buf_printf(text, "%sle=\"%s\"", any ? "," : "{", le);
    if (any || le != NULL) mr_buf_putc(text, '}');
}

static void put_histogram(mr_buf *text, const mr_metric *m, const mr_metric_point *point) {
    uint64_t below = 0;
    for (int i = 0; i <= MR_N_BOUNDS; i++) {
        mr_buf le = {0};
        if (i < MR_N_BOUNDS)
            mr_buf_printf(&le, "%g", mr_metric_bounds[i]);
        else
            mr_buf_puts(&le, "+Inf");
        below += point->buckets[i];
        put_name(text, m);
        mr_buf_puts(text, "_bucket");
        put_labels(text, point, mr_buf_cstr(&le));
        mr_buf_printf(text, " %llu\n", (unsigned long long)below);
        mr_buf_free(&le);
    }
    put_name(text, m);
    mr_buf_puts(text, "_sum");
    put_labels(text, point, NULL);
    mr_buf_printf(text, " %.9g\n", point->sum);
    put_name(text, m);
    mr_buf_puts(text, "_count");
    put_labels(text, point, NULL);
    mr_buf_printf(text, " %llu\n", (unsigned long long)point->count);
}

void mr_metrics_print(mr_buf *text) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    size_t n;
    mr_metric *metrics = mr_metrics_snapshot(&n);
    for (size_t i = 0; i < n; i++) {
        const mr_metric *m = &metrics[i];
        if (m->n_points == 0) continue;
        mr_buf_puts(text, "# HELP ");
        put_name(text, m);
        mr_buf_printf(text, " %s\n# TYPE ", m->about);
        put_name(text, m);
        mr_buf_printf(text, " %s\n", kinds[m->kind]);
        for (size_t k = 0; k < m->n_points; k++) {
            if (m->kind == MR_METRIC_HISTOGRAM) {
                put_histogram(text, m, &m->points[k]);
                continue;
            }
            put_name(text, m);
            put_labels(text, &m->points[k], NULL);
            mr_buf_printf(text, " %.15g\n", m->points[k].value);
        }
    }
    free(metrics);
}
