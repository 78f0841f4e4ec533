#include "text/reasoning.h"

#include <string.h>

static const mr_reasoning_format FORMATS[] = {
    {.name = "think", .open = "<think>", .close = "</think>"},
    {.name = "mistral", .open = "[THINK]", .close = "[/THINK]", .control = true},
    {.name = "command-r",
     .open = "<|START_THINKING|>",
     .close = "<|END_THINKING|>",
     .frame = {"<|START_RESPONSE|>", "<|END_RESPONSE|>"},
     .control = true},
    {.name = "apertus", .open = "<|inner_prefix|>", .close = "<|inner_suffix|>", .control = true},
    {.name = "seed", .open = "<seed:think>", .close = "</seed:think>"},
    {.name = "granite", .open = "<think>", .close = "</think>", .frame = {"<response>", "</response>"}},
    {.name = "granite 3.2", .open = "Here is my thought process:", .close = "Here is my response:"},
    {.name = "kimi-vl", .open = "◁think▷", .close = "◁/think▷"},
};

const mr_reasoning_format *mr_reasoning_detect(const char *source) {
    static const struct {
        const char *text, *name;
    } signs[] = {
        {"[THINK]", "mistral"},
        {"<|START_THINKING|>", "command-r"},
        {"<|START_RESPONSE|>", "command-r"},
        {"<|inner_prefix|>", "apertus"},
        {"<seed:think>", "seed"},
        {"<response></response>", "granite"},
        {"Here is my thought process:", "granite 3.2"},
        {"◁think▷", "kimi-vl"},
    };
    for (size_t i = 0; source != NULL && i < sizeof signs / sizeof *signs; i++) {
        if (strstr(source, signs[i].text) == NULL) continue;
        for (size_t k = 0; k < sizeof FORMATS / sizeof *FORMATS; k++) {
            if (strcmp(FORMATS[k].name, signs[i].name) == 0) return &FORMATS[k];
        }
    }
    return &FORMATS[0];
}

void mr_reasoning_init(mr_reasoning *state, const mr_reasoning_format *format, bool inside) {
    *state = (mr_reasoning){
        .format = format != NULL ? format : &FORMATS[0],
        .inside = inside,
        .line_start = !inside,
        .skip_blanks = true,
    };
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Emits held[0..n) and drops it. */
static void emit(mr_reasoning *state, size_t n, mr_buf *content, mr_buf *reasoning) {
    mr_buf_append(state->inside ? reasoning : content, state->held.data, n);
    for (size_t i = 0; i < n; i++) {
        char c = state->held.data[i];
        if (c == '\n')
            state->line_start = true;
        else if (!is_blank(c))
            state->line_start = false;
        if (is_blank(c)) continue;
        if (state->inside)
            state->thought_something = true;
        else
            state->said_something = true;
    }
    memmove(state->held.data, state->held.data + n, state->held.len - n);
    state->held.len -= n;
    state->held.data[state->held.len] = '\0';
}

static void drop(mr_reasoning *state, size_t n) {
    memmove(state->held.data, state->held.data + n, state->held.len - n);
    state->held.len -= n;
    state->held.data[state->held.len] = '\0';
}

static size_t count_blanks(const char *text, size_t len) {
    size_t n = 0;
    while (n < len && is_blank(text[n])) n++;
    return n;
}

typedef enum match { NO_MATCH, MAYBE_MATCH, FULL_MATCH } match;

/* Whether text[0..len) begins with the tag, or is a beginning of it. */
static match match_tag(const char *text, size_t len, const char *tag) {
    size_t n = strlen(tag);
    if (len >= n) return memcmp(text, tag, n) == 0 ? FULL_MATCH : NO_MATCH;
    return memcmp(text, tag, len) == 0 ? MAYBE_MATCH : NO_MATCH;
}

/* The marks that may come next: the tag that ends a block, or the one that begins it and those that mean nothing. */
static const char *mark_at(const mr_reasoning *state, size_t i) {
    if (state->inside) return i == 0 ? state->format->close : NULL;
    return i == 0 ? state->format->open : i <= 4 ? state->format->frame[i - 1] : NULL;
}

static match match_marks(const mr_reasoning *state, const char *text, size_t len, const char **mark) {
    match best = NO_MATCH;
    for (size_t i = 0; (*mark = mark_at(state, i)) != NULL; i++) {
        match found = match_tag(text, len, *mark);
        if (found == FULL_MATCH) return FULL_MATCH;
        if (found == MAYBE_MATCH) best = MAYBE_MATCH;
    }
    return best;
}

static bool may_begin_mark(const mr_reasoning *state, char c) {
    const char *mark;
    for (size_t i = 0; (mark = mark_at(state, i)) != NULL; i++) {
        if (mark[0] == c) return true;
    }
    return false;
}

/* Whether a tag may stand after held[0..n_blanks). */
static bool tag_may_follow(const mr_reasoning *state, size_t n_blanks) {
    if (state->format->control || state->inside || state->line_start) return true;
    return n_blanks > 0 && memchr(state->held.data, '\n', n_blanks) != NULL;
}

static void take_mark(mr_reasoning *state, const char *mark, mr_buf *content, mr_buf *reasoning) {
    state->skip_blanks = true;
    if (mark != state->format->open && mark != state->format->close) return;
    /* What follows is a paragraph of its own on either side. */
    if (!state->inside && state->said_something) mr_buf_putc(content, '\n');
    if (!state->inside && state->thought_something) mr_buf_putc(reasoning, '\n');
    state->inside = !state->inside;
    state->line_start = !state->inside;
}

/* Handles the start of held: blanks and then a tag, or other text. Returns false when more text is needed. */
static bool step(mr_reasoning *state, mr_buf *content, mr_buf *reasoning) {
    enum { MAX_BLANKS = 256 };
    if (state->skip_blanks) {
        drop(state, count_blanks(state->held.data, state->held.len));
        if (state->held.len == 0) return false;
    }
    size_t n_blanks = count_blanks(state->held.data, state->held.len);
    if (n_blanks >= MAX_BLANKS) { /* these surely belong to the text, and need not be counted again */
        emit(state, MAX_BLANKS, content, reasoning);
        return true;
    }
    if (n_blanks == state->held.len) return false; /* blanks that may stand before a tag */
    match found = NO_MATCH;
    const char *mark = NULL;
    if (tag_may_follow(state, n_blanks))
        found = match_marks(state, state->held.data + n_blanks, state->held.len - n_blanks, &mark);
    if (found == MAYBE_MATCH) return false;
    if (found == FULL_MATCH) {
        drop(state, n_blanks + strlen(mark));
        take_mark(state, mark, content, reasoning);
        return true;
    }
    /* Plain text: up to the next blank or the next character that a tag may begin with. */
    size_t n = n_blanks + 1;
    while (n < state->held.len && !is_blank(state->held.data[n]) && !may_begin_mark(state, state->held.data[n])) n++;
    state->skip_blanks = false;
    emit(state, n, content, reasoning);
    return true;
}

bool mr_reasoning_push(mr_reasoning *state, const char *text, size_t len, mr_buf *content, mr_buf *reasoning) {
    if (!mr_buf_append(&state->held, text, len)) return false;
    while (state->held.len > 0 && step(state, content, reasoning)) {
    }
    return !content->failed && !reasoning->failed;
}

bool mr_reasoning_close(mr_reasoning *state, mr_buf *content, mr_buf *reasoning) {
    size_t n = state->held.len, n_blanks = n > 0 ? count_blanks(state->held.data, n) : 0;
    if (n > 0 && state->inside && n == n_blanks)
        drop(state, n);
    else if (n > 0)
        emit(state, n, content, reasoning);
    state->inside = false;
    state->line_start = true;
    state->skip_blanks = false;
    return !content->failed && !reasoning->failed;
}

bool mr_reasoning_finish(mr_reasoning *state, mr_buf *content, mr_buf *reasoning) {
    if (state->held.len > 0 && state->skip_blanks) drop(state, count_blanks(state->held.data, state->held.len));
    if (state->held.len > 0) emit(state, state->held.len, content, reasoning);
    bool ok = !state->held.failed && !content->failed && !reasoning->failed;
    mr_buf_free(&state->held);
    return ok;
}

bool mr_reasoning_is_open(const mr_reasoning_format *format, const char *prompt, size_t len) {
    const char *open = format != NULL ? format->open : FORMATS[0].open;
    size_t n = strlen(open);
    while (len > 0 && is_blank(prompt[len - 1])) len--;
    return len >= n && memcmp(prompt + len - n, open, n) == 0;
}
