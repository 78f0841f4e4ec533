/* Cost of the masks that hold an answer to a JSON Schema.
 *
 *   bench_mask MODEL [TOKENS_PER_SECOND]     (MODEL: .gguf, tokenizer.json, tokenizer.model or a folder)
 *
 * For each schema, an answer that matches it is cut into tokens and the mask before each of them is made: once with a
 * new constraint, then again with the same one. Prints the number of tokens, milliseconds to compile, microseconds per
 * token the first time (mean and largest) and again, and the first time's share of a step of the given speed (default
 * 50 tokens per second). Times are the thread's processor time, so that other work on the machine disturbs little. */
#include "base/file.h"
#include "model/gguf.h"
#include "text/json_schema.h"
#include "text/token_mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench_case {
    const char *name, *schema, *answer;
} bench_case;

#define LOREM                                                                                                          \
    "The ferry left the harbour at noon, carrying two hundred passengers and a cargo of apples, while gulls followed " \
    "it past the old lighthouse and the children on deck counted sails."

static const bench_case cases[] = {
    {"object",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"},\"score\":{"
     "\"type\":\"number\"},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"city\":{\"type\":\"string\"}"
     ",\"active\":{\"type\":\"boolean\"}},\"required\":[\"name\",\"age\",\"tags\",\"city\"]}",
     "{\"name\": \"Grace Brewster Hopper\", \"age\": 85, \"score\": 97.125, \"tags\": [\"navy\", \"compilers\", "
     "\"teaching\"], \"city\": \"New York\", \"active\": false}"},
    {"maxLength 200", "{\"type\":\"object\",\"properties\":{\"summary\":{\"type\":\"string\",\"maxLength\":200}}}",
     "{\"summary\": \"" LOREM "\"}"},
    {"items 2 to 50",
     "{\"type\":\"array\",\"minItems\":2,\"maxItems\":50,\"items\":{\"type\":\"object\",\"properties\":{\"id\":{"
     "\"type\":\"integer\",\"minimum\":0,\"maximum\":9999},\"label\":{\"enum\":[\"red\",\"green\",\"blue\"]}}}}",
     "[{\"id\": 1, \"label\": \"red\"}, {\"id\": 22, \"label\": \"green\"}, {\"id\": 333, \"label\": \"blue\"}, "
     "{\"id\": "
     "4444, \"label\": \"red\"}]"},
    {"date and pattern",
     "{\"type\":\"object\",\"properties\":{\"when\":{\"type\":\"string\",\"format\":\"date-time\"},\"code\":{\"type\":"
     "\"string\",\"pattern\":\"^[A-Z]{3}-[0-9]{4}$\"}}}",
     "{\"when\": \"2024-03-17T09:30:00Z\", \"code\": \"ABC-1234\"}"},
    {"any JSON", "{\"type\":\"object\"}",
     "{\"a\": [1, 2.5, {\"b\": \"text of some words\"}], \"c\": {\"d\": null, \"e\": [true, false]}}"},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(mr_status status, const mr_error *err) {
    if (status == MR_OK) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static mr_tokenizer *load(const char *path) {
    mr_tokenizer *t = NULL;
    mr_gguf *gguf;
    mr_error err = {0};
    if (!mr_has_suffix(path, ".gguf")) {
        check(mr_tokenizer_from_folder(&t, path, &err), &err);
        return t;
    }
    check(mr_gguf_open(&gguf, &path, 1, &err), &err);
    check(mr_tokenizer_from_gguf(&t, gguf, &err), &err);
    mr_gguf_close(gguf);
    return t;
}

static mr_constraint *compile(const mr_mask_vocab *vocab, const char *text) {
    mr_error err = {0};
    json_t *schema;
    check(mr_json_schema_parse(text, &schema, &err), &err);
    mr_grammar *g = mr_grammar_new();
    mr_grammar_skip(g, mr_json_schema_value(g, mr_grammar_entry(g, 0), schema), mr_grammar_exit(g, 0));
    check(mr_grammar_finish(g, &err), &err);
    json_decref(schema);
    return mr_constraint_new(vocab, g, NULL);
}

/* Seconds for the masks before each token of the answer. */
static double walk(mr_constraint *constraint, const bench_case *c, const mr_tokens *tokens, uint64_t *bits,
                   double *largest) {
    double sum = 0;
    *largest = 0;
    for (size_t i = 0; i < tokens->n; i++) {
        double start = now();
        mr_constraint_mask(constraint, tokens->ids, i, bits);
        double took = now() - start;
        size_t id = (size_t)tokens->ids[i];
        sum += took;
        if (took > *largest) *largest = took;
        if (bits[id / 64] >> (id % 64) & 1) continue;
        fprintf(stderr, "%s: token %zu of the answer is not allowed\n", c->name, i);
        exit(1);
    }
    return sum;
}

static void measure(const mr_tokenizer *t, const mr_mask_vocab *vocab, const bench_case *c, double step) {
    mr_error err = {0};
    mr_tokens tokens = {0};
    uint64_t *bits = calloc((mr_tokenizer_n_vocab(t) + 63) / 64, sizeof *bits);
    if (bits == NULL) exit(1);
    check(mr_tokenizer_encode(t, c->answer, strlen(c->answer), 0, &tokens, &err), &err);
    double begin = now(), largest, most;
    mr_constraint *constraint = compile(vocab, c->schema);
    double compiled = now() - begin, first = walk(constraint, c, &tokens, bits, &largest),
           again = walk(constraint, c, &tokens, bits, &most), n = (double)tokens.n;
    printf("%-18s %6zu %10.2f %10.0f %10.0f %10.1f %9.2f %%\n", c->name, tokens.n, compiled * 1e3, first / n * 1e6,
           largest * 1e6, again / n * 1e6, 100 * first / n / step);
    mr_constraint_free(constraint);
    mr_tokens_free(&tokens);
    free(bits);
}

int main(int argc, char **argv) {
    double speed = argc > 2 ? atof(argv[2]) : 50;
    if (argc < 2 || speed <= 0) return fprintf(stderr, "usage: bench_mask MODEL [TOKENS_PER_SECOND]\n"), 2;
    mr_tokenizer *t = load(argv[1]);
    double begin = now();
    mr_mask_vocab *vocab = mr_mask_vocab_new(t);
    if (vocab == NULL) return 1;
    printf("%zu tokens, sorted in %.0f ms\n", mr_tokenizer_n_vocab(t), (now() - begin) * 1e3);
    printf("%-18s %6s %10s %10s %10s %10s %11s\n", "schema", "tokens", "compile ms", "first us", "largest us",
           "again us", "of a step");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) measure(t, vocab, &cases[i], 1 / speed);
    mr_mask_vocab_free(vocab);
    mr_tokenizer_free(t);
    return 0;
}
