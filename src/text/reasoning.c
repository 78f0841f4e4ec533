#include "text/reasoning.h"

#include <string.h>

static const char OPEN[] = "<think>";
static const char CLOSE[] = "</think>";

void mr_reasoning_init(mr_reasoning *state, bool inside) {
    *state = (mr_reasoning){.inside = inside, .line_start = !inside, .skip_blanks = true};
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

/* Whether a tag may stand after held[0..n_blanks). */
static bool tag_may_follow(const mr_reasoning *state, size_t n_blanks) {
    if (state->inside || state->line_start) return true;
    return n_blanks > 0 && memchr(state->held.data, '\n', n_blanks) != NULL;
}

/* Handles the start of held: blanks and then a tag, or other text. Returns false when more text is needed. */
static bool step(mr_reasoning *state, mr_buf *content, mr_buf *reasoning) {
    const char *tag = state->inside ? CLOSE : OPEN;
    if (state->skip_blanks) {
        drop(state, count_blanks(state->held.data, state->held.len));
        if (state->held.len == 0) return false;
    }
    size_t n_blanks = count_blanks(state->held.data, state->held.len);
    if (n_blanks == state->held.len) return false; /* blanks that may stand before a tag */
    match found = NO_MATCH;
    if (tag_may_follow(state, n_blanks))
        found = match_tag(state->held.data + n_blanks, state->held.len - n_blanks, tag);
    if (found == MAYBE_MATCH) return false;
    if (found == FULL_MATCH) {
        drop(state, n_blanks + strlen(tag));
        /* What follows is a paragraph of its own on either side. */
        if (!state->inside && state->said_something) mr_buf_putc(content, '\n');
        if (!state->inside && state->thought_something) mr_buf_putc(reasoning, '\n');
        state->inside = !state->inside;
        state->line_start = !state->inside;
        state->skip_blanks = true;
        return true;
    }
    /* Plain text: up to the next blank or the next character that a tag may begin with. */
    size_t n = n_blanks + 1;
    while (n < state->held.len && !is_blank(state->held.data[n]) && state->held.data[n] != '<') n++;
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

bool mr_reasoning_finish(mr_reasoning *state, mr_buf *content, mr_buf *reasoning) {
    if (state->held.len > 0 && state->skip_blanks) drop(state, count_blanks(state->held.data, state->held.len));
    if (state->held.len > 0) emit(state, state->held.len, content, reasoning);
    bool ok = !state->held.failed && !content->failed && !reasoning->failed;
    mr_buf_free(&state->held);
    return ok;
}

bool mr_reasoning_is_open(const char *prompt, size_t len) {
    size_t n = sizeof OPEN - 1;
    while (len > 0 && is_blank(prompt[len - 1])) len--;
    return len >= n && memcmp(prompt + len - n, OPEN, n) == 0;
}
