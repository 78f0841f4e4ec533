#include "text/grammar_match.h"

#include "base/hash.h"
#include "text/grammar_impl.h"

#include <stdlib.h>
#include <string.h>

/* Configurations of one state, and of all; states. */
enum { UNKNOWN = -2, MAX_CONFIGS = 20000, MAX_ALL_CONFIGS = 1 << 24, MAX_STATES = 1 << 18 };

/* A stack of return nodes, shared: an item and what is below it. Item 0 is the empty stack. */
typedef struct frame {
    uint32_t node, below;
} frame;

typedef struct config {
    uint32_t node, stack;
} config;

typedef struct state {
    uint32_t first, n; /* its configurations, sorted: those with an edge that consumes */
    bool may_end;
    int32_t *next; /* [256], or NULL: not asked yet */
} state;

/* A set of numbers under which items are found by a hash; open addressing. */
typedef struct table {
    uint32_t *slots; /* item + 1; 0 = free */
    size_t cap, n;
} table;

struct mr_matcher {
    mr_grammar *grammar;
    frame *frames;
    size_t n_frames, cap_frames;
    config *configs;
    size_t n_configs, cap_configs;
    state *states;
    size_t n_states, cap_states;
    table frame_table, state_table;
    config *work; /* the closure under way */
    size_t n_work, cap_work;
    uint32_t *marks; /* hash set of the closure: index into work + 1 */
    size_t cap_marks;
    size_t n_allowed; /* configurations that may still be looked at */
    bool failed;
    mr_match_state start;
};

static bool grow(mr_matcher *m, void **items, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return true;
    size_t more = *cap == 0 ? 256 : *cap * 2;
    void *grown = more > UINT32_MAX / 2 ? NULL : realloc(*items, more * size);
    if (grown == NULL) {
        m->failed = true;
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

static bool table_grow(table *t, uint64_t (*hash_of)(const mr_matcher *, uint32_t), const mr_matcher *m) {
    size_t cap = t->cap == 0 ? 1024 : t->cap * 2;
    uint32_t *slots = calloc(cap, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i] == 0) continue;
        size_t at = hash_of(m, t->slots[i] - 1) & (cap - 1);
        while (slots[at] != 0) at = (at + 1) & (cap - 1);
        slots[at] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return true;
}

/* ---- stacks ---- */

static uint64_t frame_hash(const mr_matcher *m, uint32_t i) {
    return mr_hash(&m->frames[i], sizeof(frame), 0);
}

/* The stack with `node` on top of `below`. */
static uint32_t push(mr_matcher *m, uint32_t node, uint32_t below) {
    table *t = &m->frame_table;
    if (2 * (t->n + 1) > t->cap && !table_grow(t, frame_hash, m)) {
        m->failed = true;
        return 0;
    }
    frame f = {node, below};
    size_t at = mr_hash(&f, sizeof f, 0) & (t->cap - 1);
    for (; t->slots[at] != 0; at = (at + 1) & (t->cap - 1)) {
        const frame *known = &m->frames[t->slots[at] - 1];
        if (known->node == node && known->below == below) return t->slots[at] - 1;
    }
    if (!grow(m, (void **)&m->frames, &m->cap_frames, m->n_frames, sizeof f)) return 0;
    m->frames[m->n_frames] = f;
    t->slots[at] = (uint32_t)++m->n_frames;
    t->n++;
    return (uint32_t)m->n_frames - 1;
}

/* ---- closures ---- */

static void spend(mr_matcher *m, size_t n) {
    m->failed = m->failed || n > m->n_allowed;
    if (!m->failed) m->n_allowed -= n;
}

/* Adds a configuration to the closure unless it is there. */
static void add(mr_matcher *m, uint32_t node, uint32_t stack) {
    spend(m, 1);
    m->failed = m->failed || m->n_work >= MAX_CONFIGS;
    if (m->failed) return;
    if (2 * (m->n_work + 1) > m->cap_marks) {
        size_t cap = m->cap_marks == 0 ? 256 : m->cap_marks * 2;
        uint32_t *marks = calloc(cap, sizeof *marks);
        if (marks == NULL) {
            m->failed = true;
            return;
        }
        for (size_t i = 0; i < m->n_work; i++) {
            size_t at = mr_hash(&m->work[i], sizeof(config), 1) & (cap - 1);
            while (marks[at] != 0) at = (at + 1) & (cap - 1);
            marks[at] = (uint32_t)i + 1;
        }
        free(m->marks);
        m->marks = marks;
        m->cap_marks = cap;
    }
    config c = {node, stack};
    size_t at = mr_hash(&c, sizeof c, 1) & (m->cap_marks - 1);
    for (; m->marks[at] != 0; at = (at + 1) & (m->cap_marks - 1)) {
        const config *known = &m->work[m->marks[at] - 1];
        if (known->node == node && known->stack == stack) return;
    }
    if (!grow(m, (void **)&m->work, &m->cap_work, m->n_work, sizeof c)) return;
    m->work[m->n_work] = c;
    m->marks[at] = (uint32_t)++m->n_work;
}

static void begin_closure(mr_matcher *m) {
    for (size_t i = 0; i < m->n_work; i++) { /* few marks are set: take them out one by one */
        size_t at = mr_hash(&m->work[i], sizeof(config), 1) & (m->cap_marks - 1);
        while (m->marks[at] != 0) {
            m->marks[at] = 0;
            at = (at + 1) & (m->cap_marks - 1);
        }
    }
    m->n_work = 0;
}

static int compare_configs(const void *a, const void *b) {
    const config *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    return x->stack < y->stack ? -1 : x->stack > y->stack;
}

static uint64_t state_hash(const mr_matcher *m, uint32_t i) {
    const state *s = &m->states[i];
    return mr_hash(&m->configs[s->first], s->n * sizeof(config), s->may_end);
}

/* The state of these sorted configurations, new or known. */
static mr_match_state intern(mr_matcher *m, const config *configs, size_t n, bool may_end) {
    table *t = &m->state_table;
    if (n == 0 && !may_end) return MR_MATCH_DEAD;
    if (m->n_configs + n > MAX_ALL_CONFIGS || m->n_states >= MAX_STATES) m->failed = true;
    if (2 * (t->n + 1) > t->cap && !table_grow(t, state_hash, m)) m->failed = true;
    while (!m->failed && m->n_configs + n > m->cap_configs)
        grow(m, (void **)&m->configs, &m->cap_configs, m->cap_configs, sizeof(config));
    if (m->failed || !grow(m, (void **)&m->states, &m->cap_states, m->n_states, sizeof(state))) return MR_MATCH_DEAD;
    size_t at = mr_hash(configs, n * sizeof(config), may_end) & (t->cap - 1);
    for (; t->slots[at] != 0; at = (at + 1) & (t->cap - 1)) {
        const state *known = &m->states[t->slots[at] - 1];
        if (known->n == n && known->may_end == may_end &&
            memcmp(&m->configs[known->first], configs, n * sizeof(config)) == 0)
            return (mr_match_state)(t->slots[at] - 1);
    }
    if (n > 0) memcpy(&m->configs[m->n_configs], configs, n * sizeof(config));
    m->states[m->n_states] = (state){.first = (uint32_t)m->n_configs, .n = (uint32_t)n, .may_end = may_end};
    m->n_configs += n;
    t->slots[at] = (uint32_t)++m->n_states;
    t->n++;
    return (mr_match_state)(m->n_states - 1);
}

/* Follows skips, calls and returns from what was added, and makes a state of what consumes. */
static mr_match_state end_closure(mr_matcher *m) {
    const mr_grammar *g = m->grammar;
    bool may_end = false;
    size_t kept = 0;
    for (size_t i = 0; i < m->n_work && !m->failed; i++) {
        config c = m->work[i];
        if (g->is_exit[c.node]) {
            if (c.stack == 0)
                may_end = true;
            else
                add(m, m->frames[c.stack].node, m->frames[c.stack].below);
        }
        for (uint32_t e = g->first[c.node]; e != MR_GRAMMAR_NONE && !m->failed; e = g->edges[e].next) {
            const mr_edge *edge = &g->edges[e];
            if (edge->kind == MR_EDGE_SKIP) add(m, edge->to, c.stack);
            if (edge->kind == MR_EDGE_CALL) {
                /* Behind the call nothing but the rule's own end: return there at once (a tail call). */
                bool tail = g->first[edge->to] == MR_GRAMMAR_NONE && g->is_exit[edge->to];
                add(m, g->rules[edge->what].entry, tail ? c.stack : push(m, edge->to, c.stack));
            }
        }
    }
    if (m->failed) return MR_MATCH_DEAD;
    config *consuming = malloc((m->n_work + 1) * sizeof *consuming);
    if (consuming == NULL) {
        m->failed = true;
        return MR_MATCH_DEAD;
    }
    for (size_t i = 0; i < m->n_work; i++) {
        bool consumes = false;
        for (uint32_t e = g->first[m->work[i].node]; e != MR_GRAMMAR_NONE && !consumes; e = g->edges[e].next)
            consumes = g->edges[e].kind == MR_EDGE_BYTE || g->edges[e].kind == MR_EDGE_TOKEN;
        if (consumes) consuming[kept++] = m->work[i];
    }
    qsort(consuming, kept, sizeof *consuming, compare_configs);
    mr_match_state s = intern(m, consuming, kept, may_end);
    free(consuming);
    return s;
}

/* ---- the matcher ---- */

mr_matcher *mr_matcher_new(mr_grammar *grammar) {
    mr_matcher *m = calloc(1, sizeof *m);
    if (m == NULL) {
        mr_grammar_free(grammar);
        return NULL;
    }
    m->grammar = grammar;
    m->n_allowed = SIZE_MAX;
    if (grow(m, (void **)&m->frames, &m->cap_frames, 0, sizeof(frame))) m->frames[m->n_frames++] = (frame){0, 0};
    add(m, mr_grammar_entry(grammar, 0), 0);
    m->start = end_closure(m);
    if (!m->failed) return m;
    mr_matcher_free(m);
    return NULL;
}

static void free_states(mr_matcher *m) {
    for (size_t i = 0; i < m->n_states; i++) free(m->states[i].next);
    m->n_states = 0;
}

void mr_matcher_free(mr_matcher *m) {
    if (m == NULL) return;
    free_states(m);
    mr_grammar_free(m->grammar);
    free(m->frames);
    free(m->configs);
    free(m->states);
    free(m->frame_table.slots);
    free(m->state_table.slots);
    free(m->work);
    free(m->marks);
    free(m);
}

mr_match_state mr_matcher_start(const mr_matcher *m) {
    return m->start;
}

bool mr_matcher_may_end(const mr_matcher *m, mr_match_state s) {
    return s >= 0 && m->states[s].may_end;
}

void mr_matcher_allow(mr_matcher *m, size_t n_steps) {
    m->n_allowed = n_steps;
}

bool mr_matcher_failed(const mr_matcher *m) {
    return m->failed;
}

size_t mr_matcher_n_states(const mr_matcher *m) {
    return m->n_states;
}

/* Takes every edge of the state that matches. */
static mr_match_state follow(mr_matcher *m, mr_match_state s, mr_edge_kind kind, uint32_t what) {
    const mr_grammar *g = m->grammar;
    begin_closure(m);
    uint32_t first = m->states[s].first, n = m->states[s].n;
    spend(m, n);
    for (uint32_t i = first; i < first + n && !m->failed; i++) {
        config c = m->configs[i];
        for (uint32_t e = g->first[c.node]; e != MR_GRAMMAR_NONE; e = g->edges[e].next) {
            const mr_edge *edge = &g->edges[e];
            if (edge->kind != kind) continue;
            if (kind == MR_EDGE_BYTE ? edge->first <= what && what <= edge->last : edge->what == what)
                add(m, edge->to, c.stack);
        }
    }
    return end_closure(m);
}

mr_match_state mr_matcher_byte(mr_matcher *m, mr_match_state s, uint8_t byte) {
    if (s < 0) return MR_MATCH_DEAD;
    if (m->states[s].next == NULL) {
        int32_t *next = malloc(256 * sizeof *next);
        if (next == NULL) {
            m->failed = true;
            return MR_MATCH_DEAD;
        }
        for (int i = 0; i < 256; i++) next[i] = UNKNOWN;
        m->states[s].next = next;
    }
    int32_t to = m->states[s].next[byte];
    if (to != UNKNOWN) return to;
    to = follow(m, s, MR_EDGE_BYTE, byte);
    if (!m->failed) m->states[s].next[byte] = to;
    return to;
}

mr_match_state mr_matcher_token(mr_matcher *m, mr_match_state s, int32_t id) {
    return s < 0 ? MR_MATCH_DEAD : follow(m, s, MR_EDGE_TOKEN, (uint32_t)id);
}

/* The stack with its uppermost frames' return nodes replaced; deeper ones are left, which bounds the work. */
static uint32_t stack_alike(mr_matcher *m, uint32_t stack, uint32_t n_bytes, int depth) {
    frame f = m->frames[stack];
    const mr_alike *alike = &m->grammar->alike[f.node];
    if (stack == 0 || depth == 0) return stack;
    uint32_t below = stack_alike(m, f.below, n_bytes, depth - 1);
    uint32_t node = alike->n_bytes >= n_bytes ? alike->node : f.node;
    return node == f.node && below == f.below ? stack : push(m, node, below);
}

mr_match_state mr_matcher_alike(mr_matcher *m, mr_match_state s, uint32_t n_bytes) {
    enum { MAX_FRAMES = 6 };
    if (s < 0) return s;
    uint32_t first = m->states[s].first, n = m->states[s].n;
    bool other = false;
    config *configs = malloc((n + 1) * sizeof *configs);
    if (configs == NULL) return s;
    for (uint32_t i = 0; i < n; i++) {
        config c = m->configs[first + i];
        const mr_alike *alike = &m->grammar->alike[c.node];
        configs[i].node = alike->n_bytes >= n_bytes ? alike->node : c.node;
        configs[i].stack = stack_alike(m, c.stack, n_bytes, MAX_FRAMES);
        other = other || configs[i].node != c.node || configs[i].stack != c.stack;
    }
    qsort(configs, n, sizeof *configs, compare_configs);
    mr_match_state found = other && !m->failed ? intern(m, configs, n, m->states[s].may_end) : s;
    free(configs);
    return found < 0 ? s : found;
}

size_t mr_matcher_tokens(const mr_matcher *m, mr_match_state s, int32_t *ids, size_t n) {
    size_t found = 0;
    if (s < 0) return 0;
    for (uint32_t i = m->states[s].first; i < m->states[s].first + m->states[s].n; i++) {
        for (uint32_t e = m->grammar->first[m->configs[i].node]; e != MR_GRAMMAR_NONE; e = m->grammar->edges[e].next) {
            if (m->grammar->edges[e].kind != MR_EDGE_TOKEN) continue;
            if (found < n) ids[found] = (int32_t)m->grammar->edges[e].what;
            found++;
        }
    }
    return found;
}

mr_match_state mr_matcher_shrink(mr_matcher *m, mr_match_state s) {
    if (s < 0) return s;
    /* The stacks stay as they are: the kept configurations name them. */
    size_t n = m->states[s].n;
    bool may_end = m->states[s].may_end;
    config *kept = malloc((n + 1) * sizeof *kept);
    if (kept == NULL) {
        m->failed = true;
        return MR_MATCH_DEAD;
    }
    if (n > 0) memcpy(kept, &m->configs[m->states[s].first], n * sizeof *kept);
    free_states(m);
    m->n_configs = 0;
    m->state_table.n = 0;
    if (m->state_table.cap > 0) memset(m->state_table.slots, 0, m->state_table.cap * sizeof *m->state_table.slots);
    begin_closure(m);
    add(m, mr_grammar_entry(m->grammar, 0), 0);
    m->start = end_closure(m);
    mr_match_state again = intern(m, kept, n, may_end);
    free(kept);
    return again;
}
