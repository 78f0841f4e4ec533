#include "text/char_pattern.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_POSITIONS = 20000,
    MAX_RANGES = 200000,
    MAX_DEPTH = 60,
    MAX_REPEAT = 5000,
    MAX_PRODUCT = 60000,
    MAX_CLASSES = 64,
    LAST = 0x10FFFF
};

/* ---- the automaton over code points: states with edges on ranges, and edges on nothing ---- */

typedef struct edge {
    uint32_t first, last; /* first > last: consumes nothing */
    uint32_t to, next;
} edge;

typedef struct nfa {
    uint32_t *first; /* [n] first edge of a state, UINT32_MAX = none */
    size_t n, cap;
    edge *edges;
    size_t n_edges, cap_edges;
} nfa;

typedef struct range {
    uint32_t first, last;
} range;

typedef struct set {
    range items[256];
    size_t n;
} set;

typedef struct parser {
    const char *text;
    size_t len, at;
    nfa *nfa;
    int depth;
    mr_status status;
    mr_error *err;
} parser;

static bool failed(parser *p, mr_status status, const char *what) {
    if (p->status == MR_OK)
        p->status = mr_fail(p->err, status, "pattern \"%.*s\", byte %zu: %s", (int)(p->len > 200 ? 200 : p->len),
                            p->text, p->at, what);
    return false;
}

static uint32_t add_state(parser *p) {
    nfa *a = p->nfa;
    if (a->n == a->cap) {
        size_t cap = a->cap == 0 ? 64 : a->cap * 2;
        uint32_t *first = cap > MAX_POSITIONS * 2 ? NULL : realloc(a->first, cap * sizeof *first);
        if (first == NULL) {
            failed(p, MR_ERR_LIMIT, "it is too large");
            return 0;
        }
        a->first = first;
        a->cap = cap;
    }
    a->first[a->n] = UINT32_MAX;
    return (uint32_t)a->n++;
}

static void add_edge(parser *p, uint32_t from, uint32_t first, uint32_t last, uint32_t to) {
    nfa *a = p->nfa;
    if (p->status != MR_OK) return;
    if (a->n_edges == a->cap_edges) {
        size_t cap = a->cap_edges == 0 ? 64 : a->cap_edges * 2;
        edge *edges = cap > MAX_RANGES * 2 ? NULL : realloc(a->edges, cap * sizeof *edges);
        if (edges == NULL) {
            failed(p, MR_ERR_LIMIT, "it is too large");
            return;
        }
        a->edges = edges;
        a->cap_edges = cap;
    }
    a->edges[a->n_edges] = (edge){first, last, to, a->first[from]};
    a->first[from] = (uint32_t)a->n_edges++;
}

static void skip(parser *p, uint32_t from, uint32_t to) {
    add_edge(p, from, 1, 0, to);
}

/* ---- sets of characters ---- */

static void set_add(parser *p, set *s, uint32_t first, uint32_t last) {
    if (s->n == sizeof s->items / sizeof *s->items)
        failed(p, MR_ERR_LIMIT, "a class has too many ranges");
    else
        s->items[s->n++] = (range){first, last};
}

static int compare_ranges(const void *a, const void *b) {
    const range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static void set_negate(parser *p, set *s) {
    set out = {.n = 0};
    uint32_t next = 0;
    qsort(s->items, s->n, sizeof *s->items, compare_ranges);
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].first > next) set_add(p, &out, next, s->items[i].first - 1);
        if (s->items[i].last + 1 > next) next = s->items[i].last + 1;
    }
    if (next <= LAST) set_add(p, &out, next, LAST);
    *s = out;
}

/* \d \w \s and their complements; false when the letter is none of them. */
static bool set_add_class(parser *p, set *s, char letter) {
    static const range digits[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const range space[] = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                                  {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                  {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    const range *from;
    size_t n;
    switch (letter | 0x20) {
    case 'd':
        from = digits, n = 1;
        break;
    case 'w':
        from = word, n = 4;
        break;
    case 's':
        from = space, n = sizeof space / sizeof *space;
        break;
    default:
        return false;
    }
    set part = {.n = n};
    memcpy(part.items, from, n * sizeof *from);
    if ((letter & 0x20) == 0) set_negate(p, &part);
    for (size_t i = 0; i < part.n; i++) set_add(p, s, part.items[i].first, part.items[i].last);
    return true;
}

static bool hex(parser *p, int n, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < n; i++) {
        char c = p->at < p->len ? p->text[p->at] : 0;
        int digit = c >= '0' && c <= '9'                     ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;
        if (digit < 0) return failed(p, MR_ERR_INVALID, "a hexadecimal digit is missing");
        *value = *value << 4 | (uint32_t)digit;
        p->at++;
    }
    return true;
}

/* \u{…}: any number of digits. */
static bool braced_hex(parser *p, uint32_t *value) {
    *value = 0;
    for (p->at++; p->at < p->len && p->text[p->at] != '}';) {
        uint32_t digit;
        if (!hex(p, 1, &digit)) return false;
        *value = *value << 4 | digit;
        if (*value > LAST) return failed(p, MR_ERR_INVALID, "there is no such character");
    }
    if (p->at++ >= p->len) return failed(p, MR_ERR_INVALID, "a } is missing");
    return true;
}

/* An escape that stands for one character, behind its backslash. */
static bool escaped_char(parser *p, uint32_t *c) {
    char letter = p->text[p->at++];
    switch (letter) {
    case 't':
        *c = 9;
        return true;
    case 'n':
        *c = 10;
        return true;
    case 'v':
        *c = 11;
        return true;
    case 'f':
        *c = 12;
        return true;
    case 'r':
        *c = 13;
        return true;
    case '0':
        *c = 0;
        return true;
    case 'x':
        return hex(p, 2, c);
    case 'u':
        if (p->at < p->len && p->text[p->at] == '{') return braced_hex(p, c);
        if (!hex(p, 4, c)) return false;
        if (*c >= 0xD800 && *c < 0xDC00 && p->len - p->at >= 6 && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u') {
            uint32_t low;
            p->at += 2;
            if (!hex(p, 4, &low)) return false;
            *c = 0x10000 + ((*c - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
        }
        return true;
    case 'c':
        if (p->at < p->len && ((p->text[p->at] | 0x20) >= 'a' && (p->text[p->at] | 0x20) <= 'z')) {
            *c = (uint32_t)p->text[p->at++] & 31;
            return true;
        }
        return failed(p, MR_ERR_INVALID, "\\c wants a letter");
    default:
        if ((letter >= '1' && letter <= '9') || letter == 'k')
            return failed(p, MR_ERR_UNSUPPORTED, "back-references are not supported");
        if (letter == 'p' || letter == 'P') return failed(p, MR_ERR_UNSUPPORTED, "\\p is not supported");
        if (letter == 'b' || letter == 'B') return failed(p, MR_ERR_UNSUPPORTED, "word boundaries are not supported");
        if (((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z'))
            return failed(p, MR_ERR_INVALID, "there is no such escape");
        *c = (uint8_t)letter;
        return true;
    }
}

static bool plain_char(parser *p, uint32_t *c) {
    p->at += mr_utf8_decode(p->text + p->at, p->len - p->at, c);
    return true;
}

/* One item of a class: a character (true in *single) or a whole class that was added. */
static bool class_item(parser *p, set *s, uint32_t *c, bool *single) {
    *single = true;
    if (p->at >= p->len) return failed(p, MR_ERR_INVALID, "a ] is missing");
    if (p->text[p->at] != '\\') return plain_char(p, c);
    p->at++;
    if (p->at >= p->len) return failed(p, MR_ERR_INVALID, "the pattern ends with a backslash");
    if (p->text[p->at] == 'b') {
        p->at++;
        *c = 8;
        return true;
    }
    if (set_add_class(p, s, p->text[p->at])) {
        p->at++;
        *single = false;
        return true;
    }
    return escaped_char(p, c);
}

static bool parse_class(parser *p, set *s) {
    p->at++;
    bool negated = p->at < p->len && p->text[p->at] == '^';
    if (negated) p->at++;
    while (p->at < p->len && p->text[p->at] != ']') {
        uint32_t first, last;
        bool single, end_single;
        if (!class_item(p, s, &first, &single)) return false;
        if (!single) continue;
        last = first;
        if (p->len - p->at >= 2 && p->text[p->at] == '-' && p->text[p->at + 1] != ']') {
            p->at++;
            if (!class_item(p, s, &last, &end_single)) return false;
            if (!end_single) return failed(p, MR_ERR_INVALID, "a range ends with a class");
            if (last < first) return failed(p, MR_ERR_INVALID, "a range goes backwards");
        }
        set_add(p, s, first, last);
    }
    if (p->at >= p->len) return failed(p, MR_ERR_INVALID, "a ] is missing");
    p->at++;
    if (negated) set_negate(p, s);
    return p->status == MR_OK;
}

/* ---- the pattern ---- */

static uint32_t parse_alternatives(parser *p, uint32_t from);

static uint32_t add_set(parser *p, uint32_t from, const set *s) {
    uint32_t to = add_state(p);
    for (size_t i = 0; i < s->n; i++) add_edge(p, from, s->items[i].first, s->items[i].last, to);
    return to;
}

static uint32_t parse_group(parser *p, uint32_t from) {
    p->at++;
    if (p->at < p->len && p->text[p->at] == '?') {
        const char *rest = p->text + p->at;
        size_t left = p->len - p->at;
        if (left >= 2 && rest[1] == ':') {
            p->at += 2;
        } else if (left >= 3 && rest[1] == '<' && rest[2] != '=' && rest[2] != '!') {
            const char *end = memchr(rest, '>', left);
            if (end == NULL) return failed(p, MR_ERR_INVALID, "a > is missing"), from;
            p->at += (size_t)(end - rest) + 1;
        } else {
            return failed(p, MR_ERR_UNSUPPORTED, "look-around is not supported"), from;
        }
    }
    if (++p->depth > MAX_DEPTH) return failed(p, MR_ERR_LIMIT, "its groups are nested too deeply"), from;
    uint32_t to = parse_alternatives(p, from);
    p->depth--;
    if (p->at >= p->len || p->text[p->at] != ')') return failed(p, MR_ERR_INVALID, "a ) is missing"), from;
    p->at++;
    return to;
}

/* One atom; the state behind it. */
static uint32_t parse_atom(parser *p, uint32_t from) {
    set s = {.n = 0};
    uint32_t c;
    switch (p->text[p->at]) {
    case '(':
        return parse_group(p, from);
    case '[':
        return parse_class(p, &s) ? add_set(p, from, &s) : from;
    case '.':
        p->at++;
        s = (set){.items = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}, .n = 3};
        set_negate(p, &s);
        return add_set(p, from, &s);
    case '*':
    case '+':
    case '?':
        return failed(p, MR_ERR_INVALID, "a quantifier has nothing to repeat"), from;
    case '^':
    case '$':
        return failed(p, MR_ERR_UNSUPPORTED, "^ and $ are supported at the ends of the pattern only"), from;
    case '\\':
        if (++p->at >= p->len) return failed(p, MR_ERR_INVALID, "the pattern ends with a backslash"), from;
        if (set_add_class(p, &s, p->text[p->at])) {
            p->at++;
            return add_set(p, from, &s);
        }
        if (!escaped_char(p, &c)) return from;
        break;
    default:
        plain_char(p, &c);
    }
    s = (set){.items = {{c, c}}, .n = 1};
    return add_set(p, from, &s);
}

/* {n}, {n,} or {n,m}; false where the brace is a plain character. */
static bool parse_counts(parser *p, long *min, long *max) {
    char *end;
    const char *text = p->text + p->at + 1;
    if (p->at + 1 >= p->len || *text < '0' || *text > '9') return false;
    *min = *max = strtol(text, &end, 10);
    if (*end == ',') {
        text = end + 1;
        *max = -1;
        end = (char *)text;
        if (*text >= '0' && *text <= '9') *max = strtol(text, &end, 10);
    }
    if (*end != '}') return false;
    p->at = (size_t)(end - p->text) + 1;
    if (*min > MAX_REPEAT || *max > MAX_REPEAT) failed(p, MR_ERR_LIMIT, "a repeat is too large");
    if (*max >= 0 && *max < *min) failed(p, MR_ERR_INVALID, "a repeat {n,m} has n greater than m");
    return true;
}

static bool quantifier(parser *p, long *min, long *max) {
    if (p->at >= p->len) return false;
    switch (p->text[p->at]) {
    case '*':
        *min = 0, *max = -1;
        break;
    case '+':
        *min = 1, *max = -1;
        break;
    case '?':
        *min = 0, *max = 1;
        break;
    case '{':
        if (!parse_counts(p, min, max)) return false;
        p->at--;
        break;
    default:
        return false;
    }
    p->at++;
    if (p->at < p->len && p->text[p->at] == '?') p->at++; /* lazy: the same texts */
    return p->status == MR_OK;
}

/* An atom with its quantifier: the atom is parsed again for each copy. */
static uint32_t parse_term(parser *p, uint32_t from) {
    size_t begin = p->at;
    long min, max;
    uint32_t entry = add_state(p);
    uint32_t to = parse_atom(p, entry);
    if (p->status != MR_OK) return from;
    if (!quantifier(p, &min, &max)) {
        skip(p, from, entry);
        return to;
    }
    size_t behind = p->at;
    long copies = max >= 0 ? max : min > 0 ? min : 1;
    uint32_t out = add_state(p), at = from;
    if (min == 0) skip(p, from, out);
    for (long i = 0; i < copies && p->status == MR_OK; i++) {
        if (i > 0) {
            p->at = begin;
            entry = add_state(p);
            to = parse_atom(p, entry);
        }
        skip(p, at, entry);
        at = to;
        if (i + 1 >= min) skip(p, to, out);
        if (max < 0 && i + 1 == copies) skip(p, to, entry);
    }
    p->at = behind;
    return out;
}

static uint32_t parse_sequence(parser *p, uint32_t from) {
    while (p->status == MR_OK && p->at < p->len && p->text[p->at] != '|' && p->text[p->at] != ')') {
        if (p->depth == 0 && p->text[p->at] == '$') break;
        from = parse_term(p, from);
    }
    return from;
}

static uint32_t parse_alternatives(parser *p, uint32_t from) {
    uint32_t out = add_state(p);
    for (;;) {
        uint32_t entry = add_state(p);
        skip(p, from, entry);
        skip(p, parse_sequence(p, entry), out);
        if (p->status != MR_OK || p->at >= p->len || p->text[p->at] != '|') return out;
        p->at++;
    }
}

/* The whole pattern: at its outermost level each alternative may be held by ^ and $. */
static uint32_t parse_pattern(parser *p, uint32_t from) {
    uint32_t out = add_state(p);
    do {
        uint32_t entry = add_state(p), end = add_state(p);
        skip(p, from, entry);
        if (p->at < p->len && p->text[p->at] == '^')
            p->at++;
        else
            add_edge(p, entry, 0, LAST, entry);
        uint32_t body = add_state(p);
        skip(p, entry, body);
        skip(p, parse_sequence(p, body), end);
        if (p->at < p->len && p->text[p->at] == '$')
            p->at++;
        else
            add_edge(p, end, 0, LAST, end);
        skip(p, end, out);
        if (p->status == MR_OK && p->at < p->len && p->text[p->at] != '|')
            failed(p, MR_ERR_INVALID,
                   p->text[p->at] == ')' ? "a ) closes nothing" : "^ and $ are supported at the ends only");
    } while (p->status == MR_OK && p->at < p->len && ++p->at <= p->len);
    return out;
}

/* ---- into the grammar ---- */

void mr_grammar_string_char(mr_grammar *g, mr_grammar_node from, uint32_t first, uint32_t last, mr_grammar_node to) {
    static const char escapes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    uint32_t plain = first < 0x20 ? 0x20 : first;
    for (uint32_t c = plain; c <= last;) { /* the plain stretches between what must be escaped */
        uint32_t stop = c <= '"' ? '"' : c <= '\\' ? '\\' : LAST + 1;
        uint32_t end = stop - 1 < last ? stop - 1 : last;
        if (c <= end) mr_grammar_char(g, from, c, end, to);
        if (stop > LAST) break;
        c = stop + 1;
    }
    for (size_t i = 0; i < 7; i++) {
        uint32_t c = (uint8_t)escapes[i];
        if (c < first || c > last) continue;
        mr_grammar_node slash = mr_grammar_text(g, from, "\\", 1);
        mr_grammar_byte(g, slash, (uint8_t)letters[i], (uint8_t)letters[i], to);
    }
    for (uint32_t c = first; c < 0x20 && c <= last; c++) {
        static const char digits[] = "0123456789abcdef";
        if (memchr(escapes, (int)c, 7) != NULL) continue;
        char text[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
        mr_grammar_skip(g, mr_grammar_text(g, from, text, sizeof text), to);
    }
}

/* The automaton times a count of code points: node (state, count). The count stops at `top`, which is the largest that
 * makes a difference; with a maximum nothing is consumed there. */
typedef struct product {
    mr_grammar *g;
    const nfa *a;
    mr_length_bounds bounds;
    size_t top;
    mr_grammar_node *nodes; /* [n states * (top + 1)], MR_GRAMMAR_NONE = not made */
    uint32_t *work;
    size_t n_work;
    struct {
        uint32_t first, last;
        mr_grammar_rule rule;
    } classes[MAX_CLASSES]; /* ranges that have a rule of their own, since most come up at every count */
    size_t n_classes;
} product;

/* A code point of the range, through the range's rule. */
static void add_char(product *x, mr_grammar_node from, uint32_t first, uint32_t last, mr_grammar_node to) {
    size_t i = 0;
    while (i < x->n_classes && !(x->classes[i].first == first && x->classes[i].last == last)) i++;
    if (first == last || i == MAX_CLASSES) {
        mr_grammar_string_char(x->g, from, first, last, to);
        return;
    }
    if (i == x->n_classes) {
        x->classes[i].first = first;
        x->classes[i].last = last;
        x->classes[i].rule = mr_grammar_add_rule(x->g);
        x->n_classes++;
        mr_grammar_string_char(x->g, mr_grammar_entry(x->g, x->classes[i].rule), first, last,
                               mr_grammar_exit(x->g, x->classes[i].rule));
    }
    mr_grammar_skip(x->g, mr_grammar_call(x->g, from, x->classes[i].rule), to);
}

static mr_grammar_node node_of(product *x, uint32_t state, size_t count) {
    size_t i = state * (x->top + 1) + count;
    if (x->nodes[i] == MR_GRAMMAR_NONE) {
        x->nodes[i] = mr_grammar_add_node(x->g);
        x->work[x->n_work++] = (uint32_t)i;
    }
    return x->nodes[i];
}

static void fill_product(product *x, mr_grammar_node from, uint32_t start, uint32_t accept, mr_grammar_node to) {
    mr_grammar_skip(x->g, from, node_of(x, start, 0));
    while (x->n_work > 0 && !mr_grammar_failed(x->g)) {
        size_t i = x->work[--x->n_work], count = i % (x->top + 1);
        uint32_t state = (uint32_t)(i / (x->top + 1));
        mr_grammar_node node = x->nodes[i];
        if (state == accept && (int64_t)count >= x->bounds.min) mr_grammar_skip(x->g, node, to);
        for (uint32_t e = x->a->first[state]; e != UINT32_MAX; e = x->a->edges[e].next) {
            const edge *edge = &x->a->edges[e];
            if (edge->first > edge->last) {
                mr_grammar_skip(x->g, node, node_of(x, edge->to, count));
                continue;
            }
            if (x->bounds.max >= 0 && (int64_t)count >= x->bounds.max) continue;
            size_t next = count < x->top ? count + 1 : count;
            add_char(x, node, edge->first, edge->last, node_of(x, edge->to, next));
        }
    }
}

/* Where any text will do, only its length counts: what a state lets through at one count it lets through at others, as
 * long as neither bound is reached. (With a pattern, how much has still to come would matter too.) */
static void note_alike(product *x) {
    for (uint32_t state = 0; state < x->a->n; state++) {
        mr_grammar_node first[2] = {MR_GRAMMAR_NONE, MR_GRAMMAR_NONE}; /* below the minimum, and from it on */
        for (size_t count = 0; count < x->top; count++) {
            mr_grammar_node node = x->nodes[state * (x->top + 1) + count];
            bool enough = (int64_t)count >= x->bounds.min;
            int64_t end = enough ? x->bounds.max : x->bounds.min;
            if (node == MR_GRAMMAR_NONE) continue;
            if (first[enough] == MR_GRAMMAR_NONE) first[enough] = node;
            mr_grammar_alike(x->g, node, first[enough], (uint32_t)(end - (int64_t)count - 1));
        }
    }
}

static void build(mr_grammar *g, const nfa *a, uint32_t start, uint32_t accept, mr_length_bounds bounds, bool any_text,
                  mr_grammar_node from, mr_grammar_node to) {
    mr_error err = {0};
    int64_t top = bounds.max >= 0 ? bounds.max : bounds.min;
    size_t n = top < MAX_PRODUCT ? a->n * ((size_t)top + 1) : SIZE_MAX;
    if (n > MAX_PRODUCT) {
        mr_fail(&err, MR_ERR_LIMIT, "a pattern with bounds on its length, or a bound on a string, is too large");
        mr_grammar_fail(g, &err);
        return;
    }
    product x = {.g = g, .a = a, .bounds = bounds, .top = (size_t)top};
    x.nodes = malloc(n * sizeof *x.nodes);
    x.work = malloc(n * sizeof *x.work);
    if (x.nodes == NULL || x.work == NULL) {
        mr_fail_nomem(&err, n * sizeof *x.nodes, "a pattern");
        mr_grammar_fail(g, &err);
    } else {
        memset(x.nodes, 0xFF, n * sizeof *x.nodes);
        fill_product(&x, from, start, accept, to);
        if (any_text && (bounds.max < 0 || bounds.min <= bounds.max)) note_alike(&x);
    }
    free(x.nodes);
    free(x.work);
}

mr_grammar_node mr_grammar_string(mr_grammar *g, mr_grammar_node from, const char *pattern, mr_length_bounds bounds) {
    mr_error err = {0};
    nfa a = {0};
    parser p = {.text = pattern, .len = pattern != NULL ? strlen(pattern) : 0, .nfa = &a, .err = &err};
    mr_grammar_node to = mr_grammar_add_node(g);
    uint32_t start = add_state(&p), accept = start;
    if (pattern != NULL)
        accept = parse_pattern(&p, start);
    else
        add_edge(&p, start, 0, LAST, start);
    if (p.status != MR_OK)
        mr_grammar_fail(g, &err);
    else if (!mr_grammar_failed(g))
        build(g, &a, start, accept, bounds, pattern == NULL, from, to);
    free(a.first);
    free(a.edges);
    return mr_grammar_failed(g) ? MR_GRAMMAR_NONE : to;
}
