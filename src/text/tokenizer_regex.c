#include "text/tokenizer_regex_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- compiling ---- */

typedef struct compiler {
    mr_regex *re;
    mr_error *err;
    mr_status status;
    uint32_t n_visits; /* of nodes; repeats visit their bodies again and again */
} compiler;

/* Counts a visit; false when repeats unfold too far, also those that emit nothing. */
static bool visit(compiler *c) {
    if (c->status == MR_OK && ++c->n_visits > MR_REGEX_MAX_VISITS)
        c->status = mr_fail(c->err, MR_ERR_LIMIT, "pattern: its nested repeats unfold too far");
    return c->status == MR_OK;
}

static uint32_t emit(compiler *c, mr_instr instr) {
    mr_regex *re = c->re;
    if (c->status != MR_OK) return 0;
    if (re->n_code >= MR_REGEX_MAX_INSTRS) {
        c->status =
            mr_fail(c->err, MR_ERR_LIMIT, "pattern: its repeats unfold to more than %d steps", MR_REGEX_MAX_INSTRS);
        return 0;
    }
    if (re->n_code == re->cap_code) {
        size_t cap = re->cap_code == 0 ? 64 : re->cap_code * 2;
        mr_instr *code = realloc(re->code, cap * sizeof *code);
        if (code == NULL) {
            c->status = mr_fail_nomem(c->err, cap * sizeof *code, "a pattern");
            return 0;
        }
        re->code = code;
        re->cap_code = cap;
    }
    re->code[re->n_code] = instr;
    return (uint32_t)re->n_code++;
}

/* Length of what the node matches, in characters. */
static void width(compiler *c, const mr_node *node, uint64_t *min, uint64_t *max) {
    *min = *max = 0;
    if (node == NULL || !visit(c)) return;
    uint64_t a, b;
    switch (node->kind) {
    case MR_NODE_SET:
        *min = *max = 1;
        break;
    case MR_NODE_SEQ:
        for (const mr_node *n = node->child; n != NULL; n = n->next) {
            width(c, n, &a, &b);
            *min += a;
            *max += b;
        }
        break;
    case MR_NODE_ALT:
        *min = UINT64_MAX;
        for (const mr_node *n = node->child; n != NULL; n = n->next) {
            width(c, n, &a, &b);
            if (a < *min) *min = a;
            if (b > *max) *max = b;
        }
        break;
    case MR_NODE_REPEAT:
        width(c, node->child, &a, &b);
        *min = a * node->min;
        *max = b == 0 ? 0 : node->max == MR_REGEX_INFINITE ? MR_REGEX_INFINITE : b * node->max;
        break;
    case MR_NODE_ATOMIC:
        width(c, node->child, min, max);
        break;
    default:
        break;
    }
    if (*min > MR_REGEX_INFINITE) *min = MR_REGEX_INFINITE;
    if (*max > MR_REGEX_INFINITE) *max = MR_REGEX_INFINITE;
}

static void compile(compiler *c, const mr_node *node);

static void compile_alternatives(compiler *c, const mr_node *node) {
    uint32_t last_jump = UINT32_MAX; /* jumps to the end are chained through their target */
    for (const mr_node *n = node->child; n != NULL; n = n->next) {
        if (n->next == NULL) {
            compile(c, n);
            break;
        }
        uint32_t split = emit(c, (mr_instr){.op = MR_OP_SPLIT});
        compile(c, n);
        last_jump = emit(c, (mr_instr){.op = MR_OP_JUMP, .a = last_jump});
        if (c->status == MR_OK) c->re->code[split].a = (uint32_t)c->re->n_code;
    }
    while (c->status == MR_OK && last_jump != UINT32_MAX) {
        uint32_t before = c->re->code[last_jump].a;
        c->re->code[last_jump].a = (uint32_t)c->re->n_code;
        last_jump = before;
    }
}

/* body* as a loop; a body that can match nothing leaves the loop when it did. */
static void compile_loop(compiler *c, const mr_node *body, mr_greed greed) {
    uint64_t min, max;
    width(c, body, &min, &max);
    bool guard = min == 0;
    uint32_t slot = c->re->n_slots;
    if (guard && ++c->re->n_slots > MR_REGEX_MAX_SLOTS) {
        c->status = mr_fail(c->err, MR_ERR_LIMIT, "pattern: too many nested repeats of what may be empty");
        return;
    }
    uint32_t split = emit(c, (mr_instr){.op = greed == MR_LAZY ? MR_OP_SPLIT_LAZY : MR_OP_SPLIT});
    if (guard) emit(c, (mr_instr){.op = MR_OP_MARK, .a = slot});
    compile(c, body);
    uint32_t check = guard ? emit(c, (mr_instr){.op = MR_OP_CHECK, .a = slot}) : 0;
    emit(c, (mr_instr){.op = MR_OP_JUMP, .a = split});
    if (c->status != MR_OK) return;
    c->re->code[split].a = (uint32_t)c->re->n_code;
    if (guard) c->re->code[check].min = (uint32_t)c->re->n_code;
}

static void compile_repeat(compiler *c, const mr_node *node) {
    if (node->child != NULL && node->child->kind == MR_NODE_SET) {
        emit(c, (mr_instr){.op = MR_OP_REPEAT_SET,
                           .greed = (uint8_t)node->greed,
                           .a = node->child->set,
                           .min = node->min,
                           .max = node->max});
        return;
    }
    uint32_t atomic = 0;
    if (node->greed == MR_POSSESSIVE) atomic = emit(c, (mr_instr){.op = MR_OP_ATOMIC});
    mr_op split_op = node->greed == MR_LAZY ? MR_OP_SPLIT_LAZY : MR_OP_SPLIT;
    for (uint32_t i = 0; i < node->min && c->status == MR_OK; i++) compile(c, node->child);
    if (node->max == MR_REGEX_INFINITE) {
        compile_loop(c, node->child, node->greed);
    } else {
        uint32_t chain = UINT32_MAX; /* the splits leave to the same place, chained through `a` */
        for (uint32_t i = node->min; i < node->max && c->status == MR_OK; i++) {
            chain = emit(c, (mr_instr){.op = split_op, .a = chain});
            compile(c, node->child);
        }
        while (c->status == MR_OK && chain != UINT32_MAX) {
            uint32_t before = c->re->code[chain].a;
            c->re->code[chain].a = (uint32_t)c->re->n_code;
            chain = before;
        }
    }
    if (node->greed == MR_POSSESSIVE) {
        emit(c, (mr_instr){.op = MR_OP_ACCEPT});
        if (c->status == MR_OK) c->re->code[atomic].a = (uint32_t)c->re->n_code;
    }
}

static void compile_look(compiler *c, const mr_node *node) {
    uint64_t min = 0, max = 0;
    if (node->behind) {
        width(c, node->child, &min, &max);
        if (max > 1000) {
            c->status = mr_fail(c->err, MR_ERR_INVALID, "pattern: a look-behind has no bounded length");
            return;
        }
    }
    uint32_t look = emit(c, (mr_instr){.op = MR_OP_LOOK,
                                       .behind = node->behind,
                                       .negative = node->negative,
                                       .min = (uint32_t)min,
                                       .max = (uint32_t)max});
    compile(c, node->child);
    emit(c, (mr_instr){.op = MR_OP_ACCEPT});
    if (c->status == MR_OK) c->re->code[look].a = (uint32_t)c->re->n_code;
}

static void compile(compiler *c, const mr_node *node) {
    if (node == NULL || !visit(c)) return;
    switch (node->kind) {
    case MR_NODE_EMPTY:
        break;
    case MR_NODE_SET:
        emit(c, (mr_instr){.op = c->re->classes[node->set].single ? MR_OP_LITERAL : MR_OP_SET, .a = node->set});
        break;
    case MR_NODE_SEQ:
        for (const mr_node *n = node->child; n != NULL; n = n->next) compile(c, n);
        break;
    case MR_NODE_ALT:
        compile_alternatives(c, node);
        break;
    case MR_NODE_REPEAT:
        compile_repeat(c, node);
        break;
    case MR_NODE_ASSERT:
        emit(c, (mr_instr){.op = MR_OP_ASSERT, .a = (uint32_t)node->assertion});
        break;
    case MR_NODE_LOOK:
        compile_look(c, node);
        break;
    case MR_NODE_ATOMIC: {
        uint32_t atomic = emit(c, (mr_instr){.op = MR_OP_ATOMIC});
        compile(c, node->child);
        emit(c, (mr_instr){.op = MR_OP_ACCEPT});
        if (c->status == MR_OK) c->re->code[atomic].a = (uint32_t)c->re->n_code;
        break;
    }
    }
}

static void add_first_bytes(mr_regex *re, const mr_class *class) {
    for (uint32_t c = 0; c < 0x10000; c++) {
        if (c >= 0x80 && (c & 7) == 0 && class->bits[c >> 3] == 0) {
            c += 7;
            continue;
        }
        if (!mr_class_has(class, c)) continue;
        char utf8[4];
        mr_utf8_encode(c, utf8);
        re->first[(uint8_t)utf8[0]] = true;
    }
    if (class->n_astral > 0) memset(re->first + 0xF0, 1, 5);
}

/* Collects the bytes that can begin a match of node; true when node can match nothing. */
static bool first_bytes(mr_regex *re, const mr_node *node) {
    if (node == NULL) return true;
    switch (node->kind) {
    case MR_NODE_SET:
        add_first_bytes(re, &re->classes[node->set]);
        return false;
    case MR_NODE_SEQ:
        for (const mr_node *n = node->child; n != NULL; n = n->next) {
            if (!first_bytes(re, n)) return false;
        }
        return true;
    case MR_NODE_ALT: {
        bool empty = false;
        for (const mr_node *n = node->child; n != NULL; n = n->next) empty = first_bytes(re, n) || empty;
        return empty;
    }
    case MR_NODE_REPEAT:
        return first_bytes(re, node->child) || node->min == 0;
    case MR_NODE_ATOMIC:
        return first_bytes(re, node->child);
    default:
        return true;
    }
}

mr_status mr_regex_compile(mr_regex **regex, const char *pattern, size_t len, mr_error *err) {
    *regex = NULL;
    if (len > 100000) return mr_fail(err, MR_ERR_LIMIT, "a pattern of %zu bytes is too long (at most 100000)", len);
    mr_regex *re = calloc(1, sizeof *re);
    if (re == NULL) return mr_fail_nomem(err, sizeof *re, "a pattern");
    mr_unicode_init();
    mr_arena arena = {.max_bytes = 64u << 20};
    mr_node *root;
    mr_status status = mr_regex_parse(re, &arena, pattern, len, &root, err);
    if (status == MR_OK) {
        compiler c = {.re = re, .err = err};
        compile(&c, root);
        emit(&c, (mr_instr){.op = MR_OP_ACCEPT});
        status = c.status;
        if (status == MR_OK) re->may_be_empty = first_bytes(re, root);
    }
    mr_arena_free(&arena);
    if (status != MR_OK) {
        mr_regex_free(re);
        return status;
    }
    *regex = re;
    return MR_OK;
}

void mr_regex_free(mr_regex *re) {
    if (re == NULL) return;
    for (size_t i = 0; i < re->n_classes; i++) free(re->classes[i].astral);
    free(re->classes);
    free(re->code);
    free(re);
}

/* ---- matching ---- */

typedef enum frame_kind { FRAME_GOTO, FRAME_REPEAT, FRAME_LAZY, FRAME_MARK } frame_kind;

/* GOTO: go on at pc and pos. REPEAT: give back one character of pos, as long as it is beyond limit. LAZY: take one more
 * character of the class at pc - 1, `limit` more at most. MARK: put the slot `pc` back to pos. */
struct mr_regex_frame {
    uint32_t kind, pc;
    size_t pos, limit;
};

typedef struct matcher {
    const mr_regex *re;
    mr_regex_scratch *scratch;
    const char *text;
    size_t len;
    size_t must_end; /* a look-behind body has to end here; SIZE_MAX: anywhere */
    size_t marks[MR_REGEX_MAX_SLOTS];
    mr_regex_result error;
} matcher;

void mr_regex_scratch_free(mr_regex_scratch *scratch) {
    free(scratch->frames);
    *scratch = (mr_regex_scratch){0};
}

static bool push(matcher *m, struct mr_regex_frame frame) {
    mr_regex_scratch *s = m->scratch;
    if (s->n == MR_REGEX_MAX_FRAMES) {
        m->error = MR_REGEX_LIMIT;
        return false;
    }
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 256 : s->cap * 2;
        struct mr_regex_frame *frames = realloc(s->frames, cap * sizeof *frames);
        if (frames == NULL) {
            m->error = MR_REGEX_NOMEM;
            return false;
        }
        s->frames = frames;
        s->cap = cap;
    }
    s->frames[s->n++] = frame;
    return true;
}

/* The text is well-formed, so lengths follow from the lead byte. */
static size_t char_at(const matcher *m, size_t pos, uint32_t *c) {
    const uint8_t *s = (const uint8_t *)m->text + pos;
    if (s[0] < 0x80) {
        *c = s[0];
        return 1;
    }
    if (s[0] < 0xE0) {
        *c = (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
        return 2;
    }
    if (s[0] < 0xF0) {
        *c = (s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
        return 3;
    }
    *c = (s[0] & 7u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    return 4;
}

static size_t step_back(const matcher *m, size_t pos) {
    do pos--;
    while (((uint8_t)m->text[pos] & 0xC0) == 0x80);
    return pos;
}

static bool word_before(const matcher *m, size_t pos) {
    uint32_t c;
    if (pos == 0) return false;
    char_at(m, step_back(m, pos), &c);
    return mr_unicode_is_word(c);
}

static bool word_at(const matcher *m, size_t pos) {
    uint32_t c;
    if (pos == m->len) return false;
    char_at(m, pos, &c);
    return mr_unicode_is_word(c);
}

static bool holds(const matcher *m, mr_assertion assertion, size_t pos) {
    switch (assertion) {
    case MR_ASSERT_LINE_BEGIN:
        return pos == 0 || (m->text[pos - 1] == '\n' && pos < m->len);
    case MR_ASSERT_LINE_END:
        return pos == m->len || m->text[pos] == '\n';
    case MR_ASSERT_TEXT_BEGIN:
        return pos == 0;
    case MR_ASSERT_TEXT_END:
        return pos == m->len;
    case MR_ASSERT_TEXT_END_OR_NEWLINE:
        return pos == m->len || (pos + 1 == m->len && m->text[pos] == '\n');
    case MR_ASSERT_WORD_BOUNDARY:
        return word_before(m, pos) != word_at(m, pos);
    case MR_ASSERT_NO_WORD_BOUNDARY:
        return word_before(m, pos) == word_at(m, pos);
    }
    return false;
}

/* Up to max characters of the class from pos on; *n is their number. */
static size_t run_of_class(const matcher *m, const mr_class *class, size_t pos, uint32_t max, uint32_t *n) {
    uint32_t count = 0, c;
    while (count < max && pos < m->len) {
        size_t width = char_at(m, pos, &c);
        if (!mr_class_has(class, c)) break;
        pos += width;
        count++;
    }
    *n = count;
    return pos;
}

static bool run(matcher *m, uint32_t pc, size_t pos, size_t *end);

/* Runs the body of a look-around or atomic group without keeping its choices. */
static bool run_body(matcher *m, uint32_t pc, size_t pos, size_t must_end, size_t *end) {
    size_t outer = m->must_end, base = m->scratch->n;
    m->must_end = must_end;
    bool matched = run(m, pc, pos, end);
    m->must_end = outer;
    m->scratch->n = base;
    return matched;
}

static bool look(matcher *m, const mr_instr *in, uint32_t body, size_t pos) {
    size_t end;
    if (!in->behind) return run_body(m, body, pos, SIZE_MAX, &end) != in->negative;
    size_t from = pos;
    bool found = false;
    for (uint32_t k = 0; k <= in->max && !found; k++) {
        if (k >= in->min) found = run_body(m, body, from, pos, &end);
        if (from == 0) break;
        from = step_back(m, from);
    }
    return found != in->negative;
}

/* Takes the youngest choice of this run; false when none is left above base. */
static bool backtrack(matcher *m, size_t base, uint32_t *pc, size_t *pos) {
    while (m->scratch->n > base) {
        struct mr_regex_frame *f = &m->scratch->frames[m->scratch->n - 1];
        if (f->kind == FRAME_GOTO) {
            *pc = f->pc;
            *pos = f->pos;
            m->scratch->n--;
            return true;
        }
        if (f->kind == FRAME_REPEAT) {
            f->pos = step_back(m, f->pos);
            *pc = f->pc;
            *pos = f->pos;
            if (f->pos <= f->limit) m->scratch->n--;
            return true;
        }
        if (f->kind == FRAME_LAZY) {
            uint32_t n;
            size_t next = run_of_class(m, &m->re->classes[m->re->code[f->pc - 1].a], f->pos, 1, &n);
            if (n == 1) {
                f->pos = next;
                *pc = f->pc;
                *pos = next;
                if (--f->limit == 0) m->scratch->n--;
                return true;
            }
        } else {
            m->marks[f->pc] = f->pos;
        }
        m->scratch->n--;
    }
    return false;
}

/* min..max characters of a class: false when there are fewer than min. */
static bool repeat_set(matcher *m, const mr_instr *in, uint32_t pc, size_t *pos) {
    const mr_class *class = &m->re->classes[in->a];
    uint32_t n;
    size_t least = run_of_class(m, class, *pos, in->min, &n);
    m->scratch->steps += n / 8;
    if (n < in->min) return false;
    *pos = least;
    if (in->max == in->min) return true;
    if (in->greed == MR_LAZY) {
        return push(
            m, (struct mr_regex_frame){.kind = FRAME_LAZY, .pc = pc + 1, .pos = least, .limit = in->max - in->min});
    }
    size_t most = run_of_class(m, class, least, in->max - in->min, &n);
    m->scratch->steps += n / 8;
    *pos = most;
    if (in->greed == MR_POSSESSIVE || most == least) return true;
    return push(m, (struct mr_regex_frame){.kind = FRAME_REPEAT, .pc = pc + 1, .pos = most, .limit = least});
}

/* Executes one instruction; false when it does not match here. */
static bool step(matcher *m, const mr_instr *in, uint32_t *pc, size_t *pos) {
    uint32_t c;
    switch (in->op) {
    case MR_OP_SET: {
        if (*pos >= m->len) return false;
        size_t n = char_at(m, *pos, &c);
        if (!mr_class_has(&m->re->classes[in->a], c)) return false;
        *pos += n;
        break;
    }
    case MR_OP_LITERAL: {
        const mr_class *class = &m->re->classes[in->a];
        if (m->len - *pos < class->literal_len || memcmp(m->text + *pos, class->literal, class->literal_len) != 0)
            return false;
        *pos += class->literal_len;
        break;
    }
    case MR_OP_REPEAT_SET:
        if (!repeat_set(m, in, *pc, pos)) return false;
        break;
    case MR_OP_SPLIT:
        if (!push(m, (struct mr_regex_frame){.kind = FRAME_GOTO, .pc = in->a, .pos = *pos})) return false;
        break;
    case MR_OP_SPLIT_LAZY:
        if (!push(m, (struct mr_regex_frame){.kind = FRAME_GOTO, .pc = *pc + 1, .pos = *pos})) return false;
        *pc = in->a;
        return true;
    case MR_OP_JUMP:
        *pc = in->a;
        return true;
    case MR_OP_MARK:
        if (!push(m, (struct mr_regex_frame){.kind = FRAME_MARK, .pc = in->a, .pos = m->marks[in->a]})) return false;
        m->marks[in->a] = *pos;
        break;
    case MR_OP_CHECK:
        if (m->marks[in->a] == *pos) {
            *pc = in->min;
            return true;
        }
        break;
    case MR_OP_ASSERT:
        if (!holds(m, (mr_assertion)in->a, *pos)) return false;
        break;
    case MR_OP_LOOK:
        if (!look(m, in, *pc + 1, *pos)) return false;
        *pc = in->a;
        return true;
    case MR_OP_ATOMIC: {
        size_t end;
        if (!run_body(m, *pc + 1, *pos, SIZE_MAX, &end)) return false;
        *pos = end;
        *pc = in->a;
        return true;
    }
    default:
        return false;
    }
    ++*pc;
    return true;
}

static bool run(matcher *m, uint32_t pc, size_t pos, size_t *end) {
    size_t base = m->scratch->n;
    while (m->error == MR_REGEX_NONE) {
        if (++m->scratch->steps > m->scratch->max_steps) {
            m->error = MR_REGEX_LIMIT;
            break;
        }
        const mr_instr *in = &m->re->code[pc];
        if (in->op == MR_OP_ACCEPT && (m->must_end == SIZE_MAX || m->must_end == pos)) {
            *end = pos;
            return true;
        }
        if (step(m, in, &pc, &pos)) continue;
        if (m->error != MR_REGEX_NONE || !backtrack(m, base, &pc, &pos)) break;
    }
    return false;
}

mr_regex_result mr_regex_find(const mr_regex *re, mr_regex_scratch *scratch, const char *text, size_t len, size_t start,
                              size_t *begin, size_t *end) {
    matcher m = {.re = re, .scratch = scratch, .text = text, .len = len, .must_end = SIZE_MAX};
    if (scratch->max_steps == 0) scratch->max_steps = MR_REGEX_FREE_STEPS;
    for (size_t pos = start; pos <= len; pos++) {
        if (!re->may_be_empty) {
            while (pos < len && !re->first[(uint8_t)text[pos]]) pos++;
            if (pos == len) break;
        }
        if (pos < len && ((uint8_t)text[pos] & 0xC0) == 0x80) continue;
        scratch->n = 0;
        if (run(&m, 0, pos, end)) {
            *begin = pos;
            return MR_REGEX_FOUND;
        }
        if (m.error != MR_REGEX_NONE) return m.error;
    }
    return MR_REGEX_NONE;
}

mr_regex_result mr_regex_next(const mr_regex *re, mr_regex_scratch *scratch, const char *text, size_t len,
                              mr_regex_iter *iter, size_t *begin, size_t *end) {
    if (iter->at == 0 && !iter->any) {
        if (scratch->max_steps == 0) scratch->max_steps = MR_REGEX_FREE_STEPS;
        scratch->max_steps += (uint64_t)len * MR_REGEX_STEPS_A_BYTE;
    }
    while (iter->at <= len) {
        mr_regex_result result = mr_regex_find(re, scratch, text, len, iter->at, begin, end);
        if (result != MR_REGEX_FOUND) return result;
        if (*begin == *end && iter->any && iter->last_end == *end) {
            if (iter->at >= len) return MR_REGEX_NONE;
            do iter->at++;
            while (iter->at < len && ((uint8_t)text[iter->at] & 0xC0) == 0x80);
            continue;
        }
        iter->at = *end;
        iter->last_end = *end;
        iter->any = true;
        return MR_REGEX_FOUND;
    }
    return MR_REGEX_NONE;
}
