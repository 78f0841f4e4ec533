/* A bench's rows as bars. */
#ifndef MR_CLI_BENCH_CHART_H
#define MR_CLI_BENCH_CHART_H

#include <jansson.h>
#include <stdio.h>

/* Draws the rows that have `test` and `avg_ts`, a line each; prompts and generations each on a scale of their own, as
 * one is many times the other. */
void mr_bench_chart(const json_t *rows, FILE *out);

#endif
