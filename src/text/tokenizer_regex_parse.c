#include "text/tokenizer_regex_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct parser {
    mr_regex *regex;
    mr_arena *arena;
    const char *s;
    size_t len, at;
    bool icase, dot_all, extended;
    unsigned depth;
    mr_error *err;
    mr_status status; /* the first failure */
} parser;

static mr_node *parse_alternatives(parser *p);

static void *failed(parser *p, mr_status status, const char *what) {
    if (p->status == MR_OK) {
        p->status = mr_fail(p->err, status, "pattern, byte %zu: %s", p->at, what);
    }
    return NULL;
}

static void *out_of_memory(parser *p) {
    if (p->status == MR_OK) p->status = mr_fail_nomem(p->err, sizeof(mr_class), "a pattern");
    return NULL;
}

static bool at_end(const parser *p) {
    return p->at >= p->len;
}

static bool looking_at(const parser *p, const char *text) {
    size_t n = strlen(text);
    return p->len - p->at >= n && memcmp(p->s + p->at, text, n) == 0;
}

static bool accept(parser *p, const char *text) {
    if (!looking_at(p, text)) return false;
    p->at += strlen(text);
    return true;
}

static uint32_t next_char(parser *p) {
    uint32_t c;
    p->at += mr_utf8_decode(p->s + p->at, p->len - p->at, &c);
    return c;
}

static mr_node *new_node(parser *p, mr_node_kind kind) {
    mr_node *node = mr_arena_alloc(p->arena, sizeof *node);
    if (node == NULL) return out_of_memory(p);
    node->kind = kind;
    return node;
}

static bool freeze_class(mr_class *class, const mr_charset *set) {
    memset(class, 0, sizeof *class);
    size_t n_astral = 0;
    for (size_t i = 0; i < set->n; i++) n_astral += set->ranges[2 * i + 1] >= 0x10000;
    class->astral = malloc((n_astral + 1) * 2 * sizeof *class->astral);
    if (class->astral == NULL) return false;
    for (size_t i = 0; i < set->n; i++) {
        uint32_t a = set->ranges[2 * i], b = set->ranges[2 * i + 1];
        for (uint32_t c = a; c <= b && c < 0x10000; c++) class->bits[c >> 3] |= (uint8_t)(1u << (c & 7));
        if (b < 0x10000) continue;
        class->astral[2 * class->n_astral] = a < 0x10000 ? 0x10000 : a;
        class->astral[2 * class->n_astral++ + 1] = b;
    }
    class->single = set->n == 1 && set->ranges[0] == set->ranges[1];
    if (class->single) class->literal_len = (uint8_t)mr_utf8_encode(set->ranges[0], class->literal);
    return true;
}

/* A SET node for the characters of *set, which it consumes. */
static mr_node *set_node(parser *p, mr_charset *set) {
    mr_charset_normalise(set);
    mr_regex *re = p->regex;
    mr_node *node = NULL;
    if (set->failed) {
        out_of_memory(p);
    } else if (re->n_classes >= MR_REGEX_MAX_CLASSES) {
        failed(p, MR_ERR_LIMIT, "the pattern has more than 512 characters and classes");
    } else {
        mr_class *classes = realloc(re->classes, (re->n_classes + 1) * sizeof *classes);
        if (classes != NULL) re->classes = classes;
        if (classes == NULL || !freeze_class(&classes[re->n_classes], set)) {
            out_of_memory(p);
        } else {
            re->n_classes++;
            node = new_node(p, MR_NODE_SET);
            if (node != NULL) node->set = (uint32_t)(re->n_classes - 1);
        }
    }
    mr_charset_free(set);
    return node;
}

static mr_node *char_node(parser *p, uint32_t c) {
    mr_charset set = {0};
    mr_charset_add(&set, c, c);
    if (p->icase) mr_charset_close_over_case(&set);
    return set_node(p, &set);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Up to max_digits hexadecimal digits. */
static uint32_t parse_hex(parser *p, size_t max_digits) {
    uint32_t value = 0;
    for (size_t i = 0; i < max_digits && !at_end(p) && hex_value(p->s[p->at]) >= 0; i++) {
        value = value * 16 + (uint32_t)hex_value(p->s[p->at++]);
    }
    if (value > MR_UNICODE_MAX) failed(p, MR_ERR_INVALID, "a character beyond U+10FFFF");
    return value;
}

/* `\p{…}` behind the letter p or P. */
static void parse_property(parser *p, bool negative, mr_charset *set) {
    if (!accept(p, "{")) {
        failed(p, MR_ERR_INVALID, "\\p needs a name in braces");
        return;
    }
    if (accept(p, "^")) negative = !negative;
    const char *name = p->s + p->at;
    const char *close = memchr(name, '}', p->len - p->at);
    if (close == NULL) {
        failed(p, MR_ERR_INVALID, "\\p{ is not closed");
        return;
    }
    mr_charset members = {0};
    if (!mr_charset_add_property(&members, name, (size_t)(close - name))) {
        failed(p, MR_ERR_UNSUPPORTED, "unknown character property in \\p{…}");
    }
    p->at += (size_t)(close - name) + 1;
    if (negative) mr_charset_negate(&members);
    mr_charset_union(set, &members);
    mr_charset_free(&members);
}

/* Adds what the class escape `\letter` stands for; false when the letter is none. */
static bool class_escape(parser *p, char letter, mr_charset *set) {
    mr_charset members = {0};
    switch (letter) {
    case 's':
    case 'S':
        mr_charset_add_space(&members);
        break;
    case 'd':
    case 'D':
        mr_charset_add_property(&members, "Nd", 2);
        break;
    case 'w':
    case 'W':
        mr_charset_add_word(&members);
        break;
    case 'h':
    case 'H':
        mr_charset_add_property(&members, "XDigit", 6);
        break;
    case 'p':
    case 'P':
        p->at++;
        parse_property(p, letter == 'P', set);
        return true;
    default:
        return false;
    }
    p->at++;
    if (letter >= 'A' && letter <= 'Z') mr_charset_negate(&members);
    mr_charset_union(set, &members);
    mr_charset_free(&members);
    return true;
}

/* The character behind a backslash that stands for one character. */
static uint32_t char_escape(parser *p) {
    uint32_t c = next_char(p);
    switch (c) {
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    case 'a':
        return '\a';
    case 'e':
        return 0x1B;
    case 'u':
        return parse_hex(p, 4);
    case 'x':
        if (accept(p, "{")) {
            c = parse_hex(p, 8);
            if (!accept(p, "}")) failed(p, MR_ERR_INVALID, "\\x{ is not closed");
            return c;
        }
        return parse_hex(p, 2);
    case '0': {
        uint32_t value = 0;
        for (int i = 0; i < 2 && !at_end(p) && p->s[p->at] >= '0' && p->s[p->at] <= '7'; i++) {
            value = value * 8 + (uint32_t)(p->s[p->at++] - '0');
        }
        return value;
    }
    default:
        return c;
    }
}

/* `[:name:]` inside of a class. */
static bool posix_bracket(parser *p, mr_charset *set) {
    if (!looking_at(p, "[:")) return false;
    size_t name = p->at + 2;
    bool negative = name < p->len && p->s[name] == '^';
    if (negative) name++;
    size_t end = name;
    while (end + 1 < p->len && p->s[end] != ':' && p->s[end] != ']') end++;
    if (end + 1 >= p->len || p->s[end] != ':' || p->s[end + 1] != ']') return false;
    mr_charset members = {0};
    if (!mr_charset_add_property(&members, p->s + name, end - name)) {
        failed(p, MR_ERR_UNSUPPORTED, "unknown name in [:…:]");
    }
    if (negative) mr_charset_negate(&members);
    mr_charset_union(set, &members);
    mr_charset_free(&members);
    p->at = end + 2;
    return true;
}

static void parse_class(parser *p, mr_charset *set);

/* One member of a class: a character (returned through *c, true) or a set added to *set (false). */
static bool class_member(parser *p, mr_charset *set, uint32_t *c) {
    if (p->s[p->at] == '[') {
        if (posix_bracket(p, set)) return false;
        p->at++;
        mr_charset inner = {0};
        parse_class(p, &inner);
        mr_charset_union(set, &inner);
        mr_charset_free(&inner);
        return false;
    }
    if (p->s[p->at] != '\\') {
        *c = next_char(p);
        return true;
    }
    p->at++;
    if (at_end(p)) {
        failed(p, MR_ERR_INVALID, "the pattern ends in a backslash");
        return false;
    }
    if (class_escape(p, p->s[p->at], set)) return false;
    if (p->s[p->at] == 'b') {
        p->at++;
        *c = '\b';
        return true;
    }
    *c = char_escape(p);
    return true;
}

/* A class behind its `[`, up to and with its `]`. */
static void parse_class(parser *p, mr_charset *set) {
    if (++p->depth > MR_REGEX_MAX_DEPTH) {
        failed(p, MR_ERR_LIMIT, "classes are nested too deeply");
        return;
    }
    bool negative = accept(p, "^"), first = true, intersecting = false;
    mr_charset whole = {0}; /* the operands before the last && */
    while (p->status == MR_OK) {
        if (at_end(p)) {
            failed(p, MR_ERR_INVALID, "a class [ is not closed");
            break;
        }
        if (p->s[p->at] == ']' && !first) break;
        first = false;
        if (accept(p, "&&")) {
            if (intersecting) {
                mr_charset_intersect(&whole, set);
                mr_charset_free(set);
            } else {
                whole = *set;
                mr_charset_normalise(&whole);
                *set = (mr_charset){0};
            }
            intersecting = true;
            continue;
        }
        uint32_t c, last;
        if (!class_member(p, set, &c)) continue;
        last = c;
        bool range = looking_at(p, "-") && p->at + 1 < p->len && p->s[p->at + 1] != ']';
        if (range) {
            size_t dash = p->at++;
            mr_charset other = {0};
            if (!class_member(p, &other, &last)) { /* "a-\d": the dash is a character */
                mr_charset_union(set, &other);
                mr_charset_add(set, '-', '-');
                last = c;
            } else if (last < c) {
                p->at = dash;
                failed(p, MR_ERR_INVALID, "a range in a class runs backwards");
            }
            mr_charset_free(&other);
        }
        mr_charset_add(set, c, last);
    }
    p->at++;
    p->depth--;
    mr_charset_normalise(set);
    if (intersecting) {
        mr_charset_intersect(&whole, set);
        mr_charset_free(set);
        *set = whole;
    }
    if (p->icase) mr_charset_close_over_case(set);
    if (negative) mr_charset_negate(set);
}

static mr_node *assert_node(parser *p, mr_assertion assertion) {
    mr_node *node = new_node(p, MR_NODE_ASSERT);
    if (node != NULL) node->assertion = assertion;
    return node;
}

static mr_node *any_node(parser *p, bool with_newline) {
    mr_charset set = {0};
    mr_charset_add(&set, 0, '\n' - 1);
    mr_charset_add(&set, with_newline ? '\n' : '\n' + 1, MR_UNICODE_MAX);
    return set_node(p, &set);
}

static mr_node *parse_escape(parser *p) {
    if (at_end(p)) return failed(p, MR_ERR_INVALID, "the pattern ends in a backslash");
    char letter = p->s[p->at];
    mr_charset set = {0};
    if (class_escape(p, letter, &set)) return set_node(p, &set);
    switch (letter) {
    case 'b':
        p->at++;
        return assert_node(p, MR_ASSERT_WORD_BOUNDARY);
    case 'B':
        p->at++;
        return assert_node(p, MR_ASSERT_NO_WORD_BOUNDARY);
    case 'A':
        p->at++;
        return assert_node(p, MR_ASSERT_TEXT_BEGIN);
    case 'z':
        p->at++;
        return assert_node(p, MR_ASSERT_TEXT_END);
    case 'Z':
        p->at++;
        return assert_node(p, MR_ASSERT_TEXT_END_OR_NEWLINE);
    case 'N':
        p->at++;
        return any_node(p, false);
    case 'O':
        p->at++;
        return any_node(p, true);
    case 'R':
    case 'X':
    case 'K':
    case 'G':
    case 'k':
    case 'g':
    case 'y':
    case 'Y':
        return failed(p, MR_ERR_UNSUPPORTED, "this escape is not supported");
    default:
        break;
    }
    if (letter >= '1' && letter <= '9') return failed(p, MR_ERR_UNSUPPORTED, "back-references are not supported");
    return char_node(p, char_escape(p));
}

/* The letters of (?imx-imx; true when a ')' follows, false for ':'. */
static bool parse_options(parser *p) {
    bool on = true;
    for (; !at_end(p); p->at++) {
        char c = p->s[p->at];
        if (c == '-') {
            on = false;
        } else if (c == 'i') {
            p->icase = on;
        } else if (c == 'm' || c == 's') {
            p->dot_all = on;
        } else if (c == 'x') {
            p->extended = on;
        } else {
            break;
        }
    }
    if (accept(p, ")")) return true;
    if (!accept(p, ":")) failed(p, MR_ERR_UNSUPPORTED, "unknown kind of group (?…");
    return false;
}

static mr_node *finish_group(parser *p, mr_node *node) {
    if (p->status != MR_OK) return NULL;
    if (!accept(p, ")")) return failed(p, MR_ERR_INVALID, "a group ( is not closed");
    return node;
}

static mr_node *look_node(parser *p, bool behind, bool negative) {
    mr_node *node = new_node(p, MR_NODE_LOOK);
    if (node == NULL) return NULL;
    node->behind = behind;
    node->negative = negative;
    node->child = parse_alternatives(p);
    return finish_group(p, node);
}

/* A group behind its `(`. */
static mr_node *parse_group(parser *p) {
    if (accept(p, "?#")) {
        while (!at_end(p) && p->s[p->at] != ')') p->at++;
        return finish_group(p, new_node(p, MR_NODE_EMPTY));
    }
    bool icase = p->icase, dot_all = p->dot_all, extended = p->extended;
    mr_node *node;
    if (accept(p, "?=")) {
        node = look_node(p, false, false);
    } else if (accept(p, "?!")) {
        node = look_node(p, false, true);
    } else if (accept(p, "?<=")) {
        node = look_node(p, true, false);
    } else if (accept(p, "?<!")) {
        node = look_node(p, true, true);
    } else if (accept(p, "?>")) {
        node = new_node(p, MR_NODE_ATOMIC);
        if (node == NULL) return NULL;
        node->child = parse_alternatives(p);
        node = finish_group(p, node);
    } else if (accept(p, "?<") || accept(p, "?P<")) {
        while (!at_end(p) && p->s[p->at] != '>') p->at++;
        p->at++;
        node = finish_group(p, parse_alternatives(p));
    } else if (accept(p, "?")) {
        if (parse_options(p)) { /* (?i) holds for the rest of the enclosing group, alternatives included */
            node = parse_alternatives(p);
            p->icase = icase;
            p->dot_all = dot_all;
            p->extended = extended;
            return node;
        }
        node = finish_group(p, parse_alternatives(p));
    } else {
        node = finish_group(p, parse_alternatives(p));
    }
    p->icase = icase;
    p->dot_all = dot_all;
    p->extended = extended;
    return node;
}

static mr_node *parse_atom(parser *p) {
    char c = p->s[p->at];
    switch (c) {
    case '(':
        p->at++;
        return parse_group(p);
    case '\\':
        p->at++;
        return parse_escape(p);
    case '.':
        p->at++;
        return any_node(p, p->dot_all);
    case '^':
        p->at++;
        return assert_node(p, MR_ASSERT_LINE_BEGIN);
    case '$':
        p->at++;
        return assert_node(p, MR_ASSERT_LINE_END);
    case '[': {
        p->at++;
        mr_charset set = {0};
        parse_class(p, &set);
        return set_node(p, &set);
    }
    case '*':
    case '+':
    case '?':
        return failed(p, MR_ERR_INVALID, "a quantifier has nothing to repeat");
    default:
        return char_node(p, next_char(p));
    }
}

/* `{n,m}` and its kin; false (and nothing read) when the brace is a plain character. */
static bool parse_interval(parser *p, uint32_t *min, uint32_t *max) {
    size_t at = p->at + 1;
    uint32_t bound[2] = {0, 0};
    bool given[2] = {false, false}, comma = false;
    for (int k = 0; k < 2; k++) {
        while (at < p->len && p->s[at] >= '0' && p->s[at] <= '9' && bound[k] < 100000) {
            bound[k] = bound[k] * 10 + (uint32_t)(p->s[at++] - '0');
            given[k] = true;
        }
        if (k == 0 && at < p->len && p->s[at] == ',') {
            comma = true;
            at++;
        } else if (k == 0) {
            break;
        }
    }
    if (at >= p->len || p->s[at] != '}' || (!given[0] && !given[1])) return false;
    *min = bound[0];
    *max = !comma ? bound[0] : given[1] ? bound[1] : MR_REGEX_INFINITE;
    p->at = at + 1;
    return true;
}

static mr_node *repeat_node(parser *p, mr_node *child, uint32_t min, uint32_t max, mr_greed greed) {
    mr_node *node = new_node(p, MR_NODE_REPEAT);
    if (node == NULL) return NULL;
    node->child = child;
    node->min = min;
    node->max = max;
    node->greed = greed;
    return node;
}

static mr_node *parse_quantified(parser *p) {
    mr_node *node = parse_atom(p);
    for (unsigned n = 0; p->status == MR_OK && !at_end(p); n++) {
        uint32_t min, max;
        bool interval = false;
        if (accept(p, "*")) {
            min = 0, max = MR_REGEX_INFINITE;
        } else if (accept(p, "+")) {
            min = 1, max = MR_REGEX_INFINITE;
        } else if (accept(p, "?")) {
            min = 0, max = 1;
        } else if (p->s[p->at] == '{' && parse_interval(p, &min, &max)) {
            interval = true;
            if (min > max) return failed(p, MR_ERR_INVALID, "a repeat {n,m} has n greater than m");
        } else {
            break;
        }
        if (n > MR_REGEX_MAX_DEPTH) return failed(p, MR_ERR_LIMIT, "too many quantifiers in a row");
        /* `{n}?` and `{n,m}+` are a quantifier on a quantifier in this syntax, not lazy and possessive. */
        mr_greed greed = MR_GREEDY;
        if (!(interval && min == max) && accept(p, "?")) {
            greed = MR_LAZY;
        } else if (!interval && accept(p, "+")) {
            greed = MR_POSSESSIVE;
        }
        node = repeat_node(p, node, min, max, greed);
    }
    return node;
}

static mr_node *parse_sequence(parser *p) {
    mr_node *seq = new_node(p, MR_NODE_SEQ);
    if (seq == NULL) return NULL;
    mr_node **link = &seq->child;
    while (p->status == MR_OK && !at_end(p) && p->s[p->at] != '|' && p->s[p->at] != ')') {
        if (p->extended && (p->s[p->at] == ' ' || (p->s[p->at] >= '\t' && p->s[p->at] <= '\r'))) {
            p->at++;
            continue;
        }
        *link = parse_quantified(p);
        if (*link != NULL) link = &(*link)->next;
    }
    return seq;
}

static mr_node *parse_alternatives(parser *p) {
    if (++p->depth > MR_REGEX_MAX_DEPTH) return failed(p, MR_ERR_LIMIT, "groups are nested too deeply");
    mr_node *alt = new_node(p, MR_NODE_ALT);
    if (alt == NULL) return NULL;
    mr_node **link = &alt->child;
    do {
        *link = parse_sequence(p);
        if (*link != NULL) link = &(*link)->next;
    } while (p->status == MR_OK && accept(p, "|"));
    p->depth--;
    return alt;
}

mr_status mr_regex_parse(mr_regex *regex, mr_arena *arena, const char *pattern, size_t len, mr_node **root,
                         mr_error *err) {
    parser p = {.regex = regex, .arena = arena, .s = pattern, .len = len, .err = err};
    *root = parse_alternatives(&p);
    if (p.status == MR_OK && !at_end(&p)) failed(&p, MR_ERR_INVALID, "a ) without its (");
    return p.status;
}
