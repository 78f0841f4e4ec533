#include "text/grammar_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 400000, MAX_EDGES = 2000000, MAX_RULES = 50000 };

void mr_grammar_fail(mr_grammar *g, const mr_error *error) {
    if (g->error.status == MR_OK) g->error = *error;
}

bool mr_grammar_failed(const mr_grammar *g) {
    return g->error.status != MR_OK;
}

static void fail(mr_grammar *g, mr_status status, const char *text) {
    mr_error error = {0};
    mr_fail(&error, status, "%s", text);
    mr_grammar_fail(g, &error);
}

/* Makes room for one more item of an array that may have at most `max`. */
static bool grow(mr_grammar *g, void **items, size_t *cap, size_t n, size_t size, size_t max) {
    if (n < *cap) return true;
    if (n >= max) {
        fail(g, MR_ERR_LIMIT, "the form of the text is too large");
        return false;
    }
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = realloc(*items, more * size);
    if (grown == NULL) {
        fail(g, MR_ERR_NOMEM, "there is no memory for the form of the text");
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

mr_grammar_node mr_grammar_add_node(mr_grammar *g) {
    if (mr_grammar_failed(g)) return MR_GRAMMAR_NONE;
    size_t cap = g->cap_nodes;
    if (!grow(g, (void **)&g->first, &cap, g->n_nodes, sizeof *g->first, MAX_NODES)) return MR_GRAMMAR_NONE;
    if (cap != g->cap_nodes) {
        uint8_t *is_exit = realloc(g->is_exit, cap);
        if (is_exit != NULL) g->is_exit = is_exit;
        mr_alike *alike = realloc(g->alike, cap * sizeof *alike);
        if (alike != NULL) g->alike = alike;
        if (is_exit == NULL || alike == NULL) {
            fail(g, MR_ERR_NOMEM, "there is no memory for the form of the text");
            return MR_GRAMMAR_NONE;
        }
        g->cap_nodes = cap;
    }
    g->first[g->n_nodes] = MR_GRAMMAR_NONE;
    g->is_exit[g->n_nodes] = 0;
    g->alike[g->n_nodes] = (mr_alike){(uint32_t)g->n_nodes, 0};
    return (mr_grammar_node)g->n_nodes++;
}

mr_grammar_rule mr_grammar_add_rule(mr_grammar *g) {
    if (mr_grammar_failed(g) || !grow(g, (void **)&g->rules, &g->cap_rules, g->n_rules, sizeof *g->rules, MAX_RULES))
        return 0;
    mr_rule rule = {.entry = mr_grammar_add_node(g), .exit = mr_grammar_add_node(g)};
    if (rule.exit == MR_GRAMMAR_NONE) return 0;
    g->is_exit[rule.exit] = 1;
    g->rules[g->n_rules] = rule;
    return (mr_grammar_rule)g->n_rules++;
}

mr_grammar *mr_grammar_new(void) {
    mr_grammar *g = calloc(1, sizeof *g);
    if (g == NULL) return NULL;
    mr_grammar_add_rule(g);
    if (g->n_rules == 1) return g;
    mr_grammar_free(g);
    return NULL;
}

void mr_grammar_free(mr_grammar *g) {
    if (g == NULL) return;
    free(g->edges);
    free(g->first);
    free(g->is_exit);
    free(g->alike);
    free(g->rules);
    free(g);
}

mr_grammar_node mr_grammar_entry(const mr_grammar *g, mr_grammar_rule rule) {
    return mr_grammar_failed(g) ? MR_GRAMMAR_NONE : g->rules[rule].entry;
}

mr_grammar_node mr_grammar_exit(const mr_grammar *g, mr_grammar_rule rule) {
    return mr_grammar_failed(g) ? MR_GRAMMAR_NONE : g->rules[rule].exit;
}

static void add_edge(mr_grammar *g, mr_grammar_node from, mr_edge edge) {
    if (mr_grammar_failed(g) || from == MR_GRAMMAR_NONE || edge.to == MR_GRAMMAR_NONE) return;
    if (!grow(g, (void **)&g->edges, &g->cap_edges, g->n_edges, sizeof *g->edges, MAX_EDGES)) return;
    edge.next = g->first[from];
    g->edges[g->n_edges] = edge;
    g->first[from] = (uint32_t)g->n_edges++;
}

void mr_grammar_skip(mr_grammar *g, mr_grammar_node from, mr_grammar_node to) {
    if (from != to) add_edge(g, from, (mr_edge){.kind = MR_EDGE_SKIP, .to = to});
}

void mr_grammar_byte(mr_grammar *g, mr_grammar_node from, uint8_t first, uint8_t last, mr_grammar_node to) {
    if (first <= last) add_edge(g, from, (mr_edge){.kind = MR_EDGE_BYTE, .first = first, .last = last, .to = to});
}

void mr_grammar_token(mr_grammar *g, mr_grammar_node from, int32_t id, mr_grammar_node to) {
    add_edge(g, from, (mr_edge){.kind = MR_EDGE_TOKEN, .what = (uint32_t)id, .to = to});
}

void mr_grammar_alike(mr_grammar *g, mr_grammar_node node, mr_grammar_node other, uint32_t n_bytes) {
    if (!mr_grammar_failed(g) && node != MR_GRAMMAR_NONE && other != MR_GRAMMAR_NONE)
        g->alike[node] = (mr_alike){other, n_bytes};
}

mr_grammar_node mr_grammar_text(mr_grammar *g, mr_grammar_node from, const char *text, size_t len) {
    for (size_t i = 0; i < len && from != MR_GRAMMAR_NONE; i++) {
        mr_grammar_node next = mr_grammar_add_node(g);
        mr_grammar_byte(g, from, (uint8_t)text[i], (uint8_t)text[i], next);
        from = next;
    }
    return from;
}

mr_grammar_node mr_grammar_call(mr_grammar *g, mr_grammar_node from, mr_grammar_rule rule) {
    if (from == MR_GRAMMAR_NONE) return from;
    mr_grammar_node to = mr_grammar_add_node(g);
    add_edge(g, from, (mr_edge){.kind = MR_EDGE_CALL, .what = rule, .to = to});
    return to;
}

/* All byte sequences between those of two characters of the same length n. */
static void add_sequences(mr_grammar *g, mr_grammar_node from, const uint8_t *first, const uint8_t *last, size_t n,
                          mr_grammar_node to) {
    static const uint8_t lowest[3] = {0x80, 0x80, 0x80}, highest[3] = {0xBF, 0xBF, 0xBF};
    if (n == 1) {
        mr_grammar_byte(g, from, first[0], last[0], to);
        return;
    }
    if (first[0] == last[0]) {
        mr_grammar_node next = mr_grammar_add_node(g);
        mr_grammar_byte(g, from, first[0], first[0], next);
        add_sequences(g, next, first + 1, last + 1, n - 1, to);
        return;
    }
    bool from_lowest = memcmp(first + 1, lowest, n - 1) == 0, to_highest = memcmp(last + 1, highest, n - 1) == 0;
    if (!from_lowest) add_sequences(g, from, first, (uint8_t[]){first[0], 0xBF, 0xBF, 0xBF}, n, to);
    if (!to_highest) add_sequences(g, from, (uint8_t[]){last[0], 0x80, 0x80, 0x80}, last, n, to);
    int begin = first[0] + (from_lowest ? 0 : 1), end = last[0] - (to_highest ? 0 : 1);
    if (begin > end) return;
    mr_grammar_node next = mr_grammar_add_node(g);
    mr_grammar_byte(g, from, (uint8_t)begin, (uint8_t)end, next);
    add_sequences(g, next, lowest, highest, n - 1, to);
}

void mr_grammar_char(mr_grammar *g, mr_grammar_node from, uint32_t first, uint32_t last, mr_grammar_node to) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF, 0x10FFFF}; /* where lengths change */
    for (size_t i = 0; i < sizeof ends / sizeof *ends && first <= last; i++) {
        if (first > ends[i]) continue;
        uint32_t end = last < ends[i] ? last : ends[i];
        if (ends[i] != 0xDFFF) {
            char a[4], b[4];
            size_t n = mr_utf8_encode(first, a);
            mr_utf8_encode(end, b);
            add_sequences(g, from, (uint8_t *)a, (uint8_t *)b, n, to);
        }
        first = end + 1;
    }
}

/* ---- finishing ---- */

/* Whether the edge can be passed, given which rules can come to an end. */
static bool passable(const mr_edge *edge, const uint8_t *productive) {
    return edge->kind != MR_EDGE_CALL || productive[edge->what];
}

/* Edges by the node that they lead to. */
typedef struct reverse {
    uint32_t *first; /* [n_nodes] */
    uint32_t *next;  /* [n_edges] */
    uint32_t *from;  /* [n_edges] */
} reverse;

static bool make_reverse(const mr_grammar *g, reverse *r) {
    r->first = malloc(g->n_nodes * sizeof *r->first);
    r->next = malloc((g->n_edges + 1) * sizeof *r->next);
    r->from = malloc((g->n_edges + 1) * sizeof *r->from);
    if (r->first == NULL || r->next == NULL || r->from == NULL) return false;
    memset(r->first, 0xFF, g->n_nodes * sizeof *r->first);
    for (uint32_t node = 0; node < g->n_nodes; node++) {
        for (uint32_t e = g->first[node]; e != MR_GRAMMAR_NONE; e = g->edges[e].next) {
            r->from[e] = node;
            r->next[e] = r->first[g->edges[e].to];
            r->first[g->edges[e].to] = e;
        }
    }
    return true;
}

static void free_reverse(reverse *r) {
    free(r->first);
    free(r->next);
    free(r->from);
}

/* Calls by the rule that they call, and the rule that a node is the entry of (MR_GRAMMAR_NONE: of none). */
typedef struct calls {
    uint32_t *first; /* [n_rules] */
    uint32_t *next;  /* [n_edges] */
    uint32_t *rule;  /* [n_nodes] */
} calls;

static bool make_calls(const mr_grammar *g, calls *c) {
    c->first = malloc((g->n_rules + 1) * sizeof *c->first);
    c->next = malloc((g->n_edges + 1) * sizeof *c->next);
    c->rule = malloc((g->n_nodes + 1) * sizeof *c->rule);
    if (c->first == NULL || c->next == NULL || c->rule == NULL) return false;
    memset(c->first, 0xFF, g->n_rules * sizeof *c->first);
    memset(c->rule, 0xFF, g->n_nodes * sizeof *c->rule);
    for (uint32_t i = 0; i < g->n_rules; i++) c->rule[g->rules[i].entry] = i;
    for (uint32_t e = 0; e < g->n_edges; e++) {
        if (g->edges[e].kind != MR_EDGE_CALL) continue;
        c->next[e] = c->first[g->edges[e].what];
        c->first[g->edges[e].what] = e;
    }
    return true;
}

static void free_calls(calls *c) {
    free(c->first);
    free(c->next);
    free(c->rule);
}

/* Marks the nodes from which an exit can be reached, and the rules that can come to an end. The work list holds nodes
 * that are marked and not yet followed; a call is passed once both its rule is productive and what is behind it ends.
 */
static void mark_ends(const mr_grammar *g, const reverse *r, const calls *c, uint8_t *ends, uint8_t *productive,
                      uint32_t *work) {
    size_t n = 0;
    for (size_t i = 0; i < g->n_rules; i++) {
        ends[g->rules[i].exit] = 1;
        work[n++] = g->rules[i].exit;
    }
    while (n > 0) {
        uint32_t node = work[--n], rule = c->rule[node];
        for (uint32_t e = r->first[node]; e != MR_GRAMMAR_NONE; e = r->next[e]) {
            if (ends[r->from[e]] || !passable(&g->edges[e], productive)) continue;
            ends[r->from[e]] = 1;
            work[n++] = r->from[e];
        }
        if (rule == MR_GRAMMAR_NONE) continue;
        productive[rule] = 1;
        for (uint32_t e = c->first[rule]; e != MR_GRAMMAR_NONE; e = c->next[e]) {
            if (ends[r->from[e]] || !ends[g->edges[e].to]) continue;
            ends[r->from[e]] = 1;
            work[n++] = r->from[e];
        }
    }
}

static void take_out(mr_grammar *g, const uint8_t *ends, const uint8_t *productive) {
    for (size_t node = 0; node < g->n_nodes; node++) {
        uint32_t *link = &g->first[node];
        while (*link != MR_GRAMMAR_NONE) {
            mr_edge *edge = &g->edges[*link];
            if (ends[edge->to] && passable(edge, productive))
                link = &edge->next;
            else
                *link = edge->next;
        }
    }
}

/* The node that a node only skips to, or MR_GRAMMAR_NONE. */
static uint32_t only_skip(const mr_grammar *g, uint32_t node) {
    uint32_t e = g->first[node];
    bool only = e != MR_GRAMMAR_NONE && g->edges[e].next == MR_GRAMMAR_NONE && g->edges[e].kind == MR_EDGE_SKIP;
    return only && !g->is_exit[node] ? g->edges[e].to : MR_GRAMMAR_NONE;
}

/* Leads edges past nodes that only skip on. `target` [n_nodes] is scratch. No such chain is a ring: each node that is
 * left reaches an exit. */
static void shorten(mr_grammar *g, uint32_t *target) {
    for (uint32_t i = 0; i < g->n_nodes; i++) target[i] = MR_GRAMMAR_NONE;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        for (uint32_t e = g->first[i]; e != MR_GRAMMAR_NONE; e = g->edges[e].next) {
            uint32_t begin = g->edges[e].to, end = begin, next;
            while (target[end] == MR_GRAMMAR_NONE && (next = only_skip(g, end)) != MR_GRAMMAR_NONE) end = next;
            if (target[end] != MR_GRAMMAR_NONE) end = target[end];
            for (uint32_t at = begin; at != end && target[at] == MR_GRAMMAR_NONE; at = next) {
                next = only_skip(g, at);
                target[at] = end;
            }
            g->edges[e].to = end;
        }
    }
}

/* Depth-first search for a rule that is called by itself before anything was consumed. A rule that may consume nothing
 * lets the search go on behind its call. Colours of rules: 0 new, 1 under way, 2 done. */
typedef struct search {
    const mr_grammar *g;
    uint8_t *colour;   /* [n_rules] */
    uint8_t *nullable; /* [n_rules] */
    uint32_t *seen;    /* [n_nodes], the last rule + 1 whose search came here */
    size_t depth;
    bool failed;
} search;

static void visit_rule(search *s, uint32_t rule);

static void visit_node(search *s, uint32_t rule, uint32_t node) {
    /* A list in place of recursion, for long chains of skips. */
    uint32_t *work = malloc(sizeof *work * 64);
    size_t n = 0, cap = 64;
    if (work == NULL) {
        s->failed = true;
        return;
    }
    work[n++] = node;
    s->seen[node] = rule + 1;
    while (n > 0 && !s->failed) {
        node = work[--n];
        for (uint32_t e = s->g->first[node]; e != MR_GRAMMAR_NONE && !s->failed; e = s->g->edges[e].next) {
            const mr_edge *edge = &s->g->edges[e];
            bool go_on = edge->kind == MR_EDGE_SKIP;
            if (edge->kind == MR_EDGE_CALL) {
                visit_rule(s, edge->what);
                go_on = s->nullable[edge->what];
            }
            if (!go_on || s->seen[edge->to] == rule + 1) continue;
            s->seen[edge->to] = rule + 1;
            if (n == cap) {
                uint32_t *more = realloc(work, 2 * cap * sizeof *work);
                if (more == NULL) {
                    s->failed = true;
                    break;
                }
                work = more;
                cap *= 2;
            }
            work[n++] = edge->to;
        }
    }
    if (s->seen[s->g->rules[rule].exit] == rule + 1) s->nullable[rule] = 1;
    free(work);
}

static void visit_rule(search *s, uint32_t rule) {
    enum { MAX_DEPTH = 2000 };
    if (s->colour[rule] == 2 || s->failed) return;
    if (s->colour[rule] == 1 || s->depth >= MAX_DEPTH) {
        s->failed = true;
        return;
    }
    s->colour[rule] = 1;
    s->depth++;
    visit_node(s, rule, s->g->rules[rule].entry);
    s->depth--;
    s->colour[rule] = 2;
}

static bool calls_itself_first(const mr_grammar *g, bool *no_memory) {
    search s = {.g = g,
                .colour = calloc(g->n_rules, 1),
                .nullable = calloc(g->n_rules, 1),
                .seen = calloc(g->n_nodes, sizeof *s.seen)};
    *no_memory = s.colour == NULL || s.nullable == NULL || s.seen == NULL;
    for (uint32_t i = 0; !*no_memory && !s.failed && i < g->n_rules; i++) visit_rule(&s, i);
    free(s.colour);
    free(s.nullable);
    free(s.seen);
    return s.failed;
}

mr_status mr_grammar_finish(mr_grammar *g, mr_error *err) {
    reverse r = {0};
    calls c = {0};
    uint8_t *ends = calloc(g->n_nodes + 1, 1), *productive = calloc(g->n_rules + 1, 1);
    uint32_t *work = malloc((g->n_nodes + g->n_rules + 1) * sizeof *work);
    bool no_memory = false;
    if (ends == NULL || productive == NULL || work == NULL || !make_reverse(g, &r) || !make_calls(g, &c)) {
        fail(g, MR_ERR_NOMEM, "there is no memory for the form of the text");
    } else if (!mr_grammar_failed(g)) {
        mark_ends(g, &r, &c, ends, productive, work);
        take_out(g, ends, productive);
        shorten(g, work);
        if (!mr_grammar_failed(g) && !productive[0])
            fail(g, MR_ERR_INVALID, "no text can have the form that is asked for");
        if (!mr_grammar_failed(g) && calls_itself_first(g, &no_memory))
            fail(g, MR_ERR_INVALID, "the form that is asked for refers to itself without an end");
        if (no_memory) fail(g, MR_ERR_NOMEM, "there is no memory for the form of the text");
    }
    free_reverse(&r);
    free_calls(&c);
    free(ends);
    free(productive);
    free(work);
    if (!mr_grammar_failed(g)) return MR_OK;
    if (err != NULL) *err = g->error;
    return g->error.status;
}
