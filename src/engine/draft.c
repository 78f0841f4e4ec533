#include "engine/draft.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONGEST = 3, /* tokens that are looked up: 3, else 2, else 1 */
    MIN_SLOTS = 1 << 10,
    MAX_SLOTS = 1 << 18,
    MAX_MATCH = 16, /* a repetition counts as no longer than this */
    N_CLASSES = 6,  /* of repetitions, by length */
};

/* Chances to begin with, and how fast they follow what happens. */
static const float FIRST_CHANCES[N_CLASSES] = {0.2f, 0.3f, 0.4f, 0.5f, 0.7f, 0.8f};
static const float LEARNING_RATE = 1.0f / 8;

/* Guesses must promise this many times what they cost. */
static const double MARGIN = 1.2;

static const double FIRST_COST = 0.35, LEAST_COST = 0.1, MOST_COST = 0.75;

struct mr_draft {
    size_t n_prompt;
    size_t n_seen;
    size_t source;            /* the guess for the next token is tokens[source]; 0 = there is none */
    size_t n_match;           /* tokens before the source that are those at the end, 1 .. MAX_MATCH */
    float chances[N_CLASSES]; /* that a guess is right */
    uint32_t *slots; /* [n_slots], by the hash of 1 to 3 tokens: the place behind their latest occurrence; 0 = none */
    size_t n_slots;  /* a power of two */
};

mr_draft *mr_draft_new(size_t n_prompt) {
    mr_draft *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->n_prompt = n_prompt;
    d->n_slots = MIN_SLOTS;
    memcpy(d->chances, FIRST_CHANCES, sizeof d->chances);
    d->slots = calloc(d->n_slots, sizeof *d->slots);
    if (d->slots != NULL) return d;
    free(d);
    return NULL;
}

void mr_draft_free(mr_draft *draft) {
    if (draft == NULL) return;
    free(draft->slots);
    free(draft);
}

static uint32_t *slot_of(const mr_draft *d, const int32_t *end, size_t n) {
    uint64_t hash = n;
    for (size_t i = 1; i <= n; i++) {
        hash = (hash ^ (uint32_t)end[-(ptrdiff_t)i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return &d->slots[hash & (d->n_slots - 1)];
}

/* Files tokens[0..n)'s last 1 to 3 tokens. */
static void file_end(mr_draft *d, const int32_t *tokens, size_t n) {
    for (size_t k = 1; k <= LONGEST && k <= n; k++) *slot_of(d, tokens + n, k) = (uint32_t)n;
}

/* Doubles the table when it becomes full; where there is no memory for that, newer tokens displace older ones. */
static void grow(mr_draft *d, const int32_t *tokens, size_t n) {
    if (n * LONGEST <= d->n_slots || d->n_slots >= MAX_SLOTS || n > UINT32_MAX) return;
    size_t n_slots = d->n_slots;
    while (n_slots < MAX_SLOTS && n_slots < n * LONGEST) n_slots *= 2;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) return;
    free(d->slots);
    d->slots = slots;
    d->n_slots = n_slots;
    for (size_t i = 1; i <= d->n_seen; i++) file_end(d, tokens, i);
}

static size_t count_equal(const int32_t *a_end, const int32_t *b_end, size_t most) {
    size_t n = 0;
    while (n < most && a_end[-(ptrdiff_t)n - 1] == b_end[-(ptrdiff_t)n - 1]) n++;
    return n;
}

/* Where the text's end has stood before. */
static void look_up(mr_draft *d, const int32_t *tokens, size_t n) {
    d->source = d->n_match = 0;
    for (size_t k = n < LONGEST ? n : LONGEST; k > 0; k--) {
        size_t at = *slot_of(d, tokens + n, k);
        size_t n_equal = count_equal(tokens + at, tokens + n, at < MAX_MATCH ? at : MAX_MATCH);
        if (n_equal < k) continue; /* empty, or other tokens with the same hash */
        d->source = at;
        d->n_match = n_equal;
        return;
    }
}

static size_t class_of(size_t n_match) {
    return n_match < 4 ? n_match - 1 : n_match < 8 ? 3 : n_match < MAX_MATCH ? 4 : 5;
}

static void see_token(mr_draft *d, const int32_t *tokens, size_t at) {
    bool hit = d->source > 0 && tokens[d->source] == tokens[at];
    if (d->source > 0 && at >= d->n_prompt) {
        float *chance = &d->chances[class_of(d->n_match)];
        *chance += ((hit ? 1.0f : 0.0f) - *chance) * LEARNING_RATE;
    }
    if (hit && d->n_match >= LONGEST) {
        d->source++;
        if (d->n_match < MAX_MATCH) d->n_match++;
    } else {
        look_up(d, tokens, at + 1);
    }
    file_end(d, tokens, at + 1);
}

void mr_draft_see(mr_draft *draft, const int32_t *tokens, size_t n) {
    grow(draft, tokens, n);
    while (draft->n_seen < n && n <= UINT32_MAX) see_token(draft, tokens, draft->n_seen++);
}

/* One more guess pays while its chance to stand is greater than the tokens that its time would give otherwise: at the
 * rate that the guesses before it promise. */
size_t mr_draft_propose(const mr_draft *draft, int32_t *tokens, size_t n, size_t most, double row_cost) {
    double stands = 1, n_expected = 1;
    size_t count = 0;
    while (draft->source > 0 && count < most) {
        size_t n_match = draft->n_match + count < MAX_MATCH ? draft->n_match + count : MAX_MATCH;
        stands *= (double)draft->chances[class_of(n_match)];
        double rate = n_expected / (1 + row_cost * (double)count);
        if (stands < MARGIN * row_cost * rate) break;
        n_expected += stands;
        tokens[n + count] = tokens[draft->source + count]; /* a period shorter than the guess goes on into itself */
        count++;
    }
    return count;
}

static double between(double low, double x, double high) {
    return x < low ? low : x > high ? high : x;
}

/* Single samples count little, since a machine has other things to do, too. What was measured is slowly forgotten, so
 * that an unlucky measurement does not stand for ever. */
void mr_draft_cost_note(mr_draft_cost *cost, size_t n_draft, double seconds) {
    if (!(seconds > 0)) return;
    if (n_draft == 0) {
        double sample = cost->plain > 0 ? between(0, seconds, 2 * cost->plain) : seconds;
        cost->plain += (sample - cost->plain) * (cost->plain > 0 ? 0.125 : 1);
        if (cost->row > 0) cost->row += (FIRST_COST - cost->row) / 64;
    } else if (cost->plain > 0) {
        double sample = between(0, (seconds / cost->plain - 1) / (double)n_draft, 1);
        double before = mr_draft_cost_row(cost);
        cost->row = before + (sample - before) * 0.125;
    }
}

double mr_draft_cost_row(const mr_draft_cost *cost) {
    return cost->row > 0 ? between(LEAST_COST, cost->row, MOST_COST) : FIRST_COST;
}
