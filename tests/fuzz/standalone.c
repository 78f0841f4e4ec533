/* Runs a fuzz target without libFuzzer: every file of a corpus as it is, then a fixed number of mutations of them from
 * a fixed seed. Prints TAP. usage: TARGET CORPUS_FOLDER N_MUTATIONS */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SEEDS = 4096, MAX_SIZE = 1 << 20 };

typedef struct seed {
    uint8_t *data;
    size_t size;
} seed;

static seed seeds[MAX_SEEDS];
static size_t n_seeds;
static uint64_t random_state = 1;

static size_t random_below(size_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return n == 0 ? 0 : (size_t)((random_state >> 33) % n);
}

static int read_seed(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL || n_seeds == MAX_SEEDS) return 0;
    uint8_t *data = malloc(MAX_SIZE);
    size_t size = fread(data, 1, MAX_SIZE, file);
    fclose(file);
    seeds[n_seeds++] = (seed){data, size};
    return 1;
}

static void read_corpus(const char *folder) {
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') read_seed(folder, names[i]->d_name);
        free(names[i]);
    }
    if (n >= 0) free(names);
    static uint8_t nothing[1];
    seeds[n_seeds++] = (seed){nothing, 0};
}

/* One change: a bit, a byte, an extreme word, a piece cut out, or a piece of another seed put in. */
static size_t mutate(uint8_t *data, size_t size) {
    size_t at = random_below(size + 1), n = 1 + random_below(16);
    const seed *other = &seeds[random_below(n_seeds)];
    switch (random_below(6)) {
    case 0:
        if (at < size) data[at] ^= (uint8_t)(1u << random_below(8));
        return size;
    case 1:
        if (at < size) data[at] = (uint8_t)random_below(256);
        return size;
    case 2: /* cut */
        if (n > size - at) n = size - at;
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3: /* a word of ones or zeros */
        for (size_t i = 0; i < 8 && at + i < size; i++) data[at + i] = n % 2 ? 0xFF : 0x00;
        return size;
    case 4: /* truncate */
        return random_below(8) == 0 ? at : size;
    default: {
        size_t from = random_below(other->size + 1);
        if (n > other->size - from) n = other->size - from;
        if (size + n > MAX_SIZE) return size;
        memmove(data + at + n, data + at, size - at);
        memcpy(data + at, other->data + from, n);
        return size + n;
    }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER N_MUTATIONS\n", argv[0]);
        return 2;
    }
    read_corpus(argv[1]);
    for (size_t i = 0; i < n_seeds; i++) LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
    long n = atol(argv[2]);
    uint8_t *work = malloc(MAX_SIZE);
    for (long i = 0; i < n; i++) {
        const seed *base = &seeds[random_below(n_seeds)];
        memcpy(work, base->data, base->size);
        size_t size = base->size, n_changes = 1 + random_below(4);
        for (size_t k = 0; k < n_changes; k++) size = mutate(work, size);
        uint8_t *exact = malloc(size == 0 ? 1 : size); /* its own allocation, so that a sanitizer sees any overrun */
        memcpy(exact, work, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(work);
    printf("ok 1 - %zu seeds, %ld mutations\n1..1\n", n_seeds, n);
    return 0;
}
