#include "inspect_fit.h"

#include "base/memory.h"
#include "engine/sequence.h"
#include "model/footprint.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_CONTEXTS = 5, MAX_ROWS = 64 };

typedef struct row {
    const char *name;
    size_t bytes;
} row;

static double gib(double bytes) {
    return bytes / (1 << 30);
}

static int largest_first(const void *a, const void *b) {
    size_t x = ((const row *)a)->bytes, y = ((const row *)b)->bytes;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The contexts to show: the model's own and shorter ones, or the one that was asked for. */
static int choose_contexts(const mr_hparams *h, long n_ctx, uint64_t *contexts) {
    if (n_ctx > 0) {
        contexts[0] = (uint64_t)n_ctx;
        return 1;
    }
    int n = 0;
    for (uint64_t c = 4096; c < h->n_ctx_train && n < MAX_CONTEXTS - 1; c *= 4) contexts[n++] = c;
    contexts[n++] = h->n_ctx_train;
    return n;
}

static void print_row(const row *r, const size_t *kv, int n, size_t available) {
    printf("%-12s %9.2f", r->name, gib((double)r->bytes));
    for (int i = 0; i < n; i++) {
        size_t total = r->bytes + kv[i];
        printf(" %11.2f%s", gib((double)total), available > 0 && total > available ? "-" : " ");
    }
    putchar('\n');
}

mr_status mr_inspect_fit(const mr_gguf *gguf, long n_ctx, long n_sequences, mr_error *err) {
    mr_hparams *h = malloc(sizeof *h);
    if (h == NULL) return mr_fail_nomem(err, sizeof *h, "the model's shape");
    mr_status status = mr_hparams_read(h, gguf, err);
    if (status != MR_OK) {
        free(h);
        return status;
    }
    size_t available = mr_available_memory(), kv[MAX_CONTEXTS];
    uint64_t contexts[MAX_CONTEXTS];
    int n = choose_contexts(h, n_ctx, contexts);
    size_t per_token = mr_footprint_kv(h, MR_KV_F16, MR_KV_BLOCK) / MR_KV_BLOCK;
    printf("memory here: %.2f GiB free\n", gib((double)available));
    printf("keys and values: %zu bytes for a token (f16); q8_0 %.0f %%, f32 %.0f %% of that\n\n", per_token,
           100.0 * (double)mr_footprint_kv(h, MR_KV_Q8_0, 4096) / (double)mr_footprint_kv(h, MR_KV_F16, 4096),
           100.0 * (double)mr_footprint_kv(h, MR_KV_F32, 4096) / (double)mr_footprint_kv(h, MR_KV_F16, 4096));
    size_t states = mr_footprint_state(h) * MR_SLOTS_OF_SEQUENCE;
    if (states > 0) printf("recurrent state: %zu bytes for a sequence\n\n", states);
    printf("GiB for the weights, and with keys and values (f16) of %ld sequence%s of so many tokens;\n"
           "\"-\" does not fit here\n\n%-12s %9s",
           n_sequences, n_sequences == 1 ? "" : "s", "", "weights");
    for (int i = 0; i < n; i++) {
        kv[i] = (mr_footprint_kv(h, MR_KV_F16, contexts[i]) + states) * (size_t)n_sequences;
        printf(" %11llu ", (unsigned long long)contexts[i]);
    }
    putchar('\n');
    row rows[MAX_ROWS];
    size_t n_rows = 0;
    const mr_quant_mix *mix;
    for (; n_rows < MAX_ROWS && (mix = mr_quant_mix_at(n_rows)) != NULL; n_rows++)
        rows[n_rows] = (row){mr_quant_mix_name(mix), mr_footprint_weights(gguf, h, mix, true)};
    qsort(rows, n_rows, sizeof *rows, largest_first);
    row as_stored = {"as stored", mr_footprint_weights(gguf, h, NULL, false)};
    print_row(&as_stored, kv, n, available);
    for (size_t i = 0; i < n_rows; i++) print_row(&rows[i], kv, n, available);
    free(h);
    return MR_OK;
}
