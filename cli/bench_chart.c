#include "bench_chart.h"

enum { WIDTH = 40 };

/* 0: prompts only, 1: generations only, 2: both in one test. */
static int scale_of(const json_t *row) {
    json_int_t n_prompt = json_integer_value(json_object_get(row, "n_prompt"));
    json_int_t n_gen = json_integer_value(json_object_get(row, "n_gen"));
    return n_prompt > 0 && n_gen > 0 ? 2 : n_gen > 0;
}

void mr_bench_chart(const json_t *rows, FILE *out) {
    double most[3] = {0};
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)rows, i, row) {
        double speed = json_number_value(json_object_get(row, "avg_ts"));
        int scale = scale_of(row);
        if (speed > most[scale]) most[scale] = speed;
    }
    json_array_foreach((json_t *)rows, i, row) {
        const char *test = json_string_value(json_object_get(row, "test"));
        double speed = json_number_value(json_object_get(row, "avg_ts"));
        if (test == NULL || !(speed > 0)) continue;
        int eighths = (int)(speed / most[scale_of(row)] * WIDTH * 8 + 0.5);
        fprintf(out, "%-20s ", test);
        for (int k = 0; k < eighths / 8; k++) fputs("█", out);
        static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
        fprintf(out, "%s %.1f\n", parts[eighths % 8], speed);
    }
}
