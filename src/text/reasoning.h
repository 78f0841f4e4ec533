/* Splits generated text into what the model thinks (`<think>…</think>` blocks) and what it says, piece by piece. */
#ifndef MR_TEXT_REASONING_H
#define MR_TEXT_REASONING_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* The state of one stream. Nothing is owned but `held`. */
typedef struct mr_reasoning {
    bool inside;         /* in a think block */
    bool line_start;     /* only blanks since the last line break: a block may begin here */
    bool skip_blanks;    /* just after a tag: blanks belong to neither side */
    bool said_something; /* content other than blanks has been emitted */
    bool thought_something;
    mr_buf held; /* text that may turn out to be a tag, or blanks that may turn out to stand before one */
} mr_reasoning;

/* inside: the prompt ended with an open `<think>`, as some templates do. */
void mr_reasoning_init(mr_reasoning *state, bool inside);

/* Takes the next text and appends what is certain to *content and *reasoning. The tags and the blanks around them are
 * left out. A block begins only at the start of a line, so that an answer may mention the tag. False when memory runs
 * out. */
bool mr_reasoning_push(mr_reasoning *state, const char *text, size_t len, mr_buf *content, mr_buf *reasoning);

/* The text is over: emits what was held back (an open block stays reasoning) and frees the state. */
bool mr_reasoning_finish(mr_reasoning *state, mr_buf *content, mr_buf *reasoning);

/* Whether a rendered prompt leaves a think block open. */
bool mr_reasoning_is_open(const char *prompt, size_t len);

#endif
