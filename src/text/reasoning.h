/* Splits generated text into what the model thinks (`<think>…</think>` and its kin) and what it says, piece by piece.
 *
 * gpt-oss writes its thoughts as a channel of their own; output_parser.h reads those. */
#ifndef MR_TEXT_REASONING_H
#define MR_TEXT_REASONING_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* How a model family marks its thoughts. */
typedef struct mr_reasoning_format {
    const char *name; /* for a person */
    const char *open, *close;
    const char *frame[4]; /* other marks around an answer, which mean nothing (NULL ends the list) */
    /* The marks are control tokens: they count wherever they stand, and no text ever shows them. Marks of plain text
     * count at the start of a line only, so that an answer may mention them. */
    bool control;
} mr_reasoning_format;

/* The format that a chat template (its source, or NULL) declares; `<think>` where it declares none. Static. */
const mr_reasoning_format *mr_reasoning_detect(const char *source);

/* The state of one stream. Nothing is owned but `held`. */
typedef struct mr_reasoning {
    const mr_reasoning_format *format;
    bool inside;         /* in a think block */
    bool line_start;     /* only blanks since the last line break: a block may begin here */
    bool skip_blanks;    /* just after a tag: blanks belong to neither side */
    bool said_something; /* content other than blanks has been emitted */
    bool thought_something;
    mr_buf held; /* text that may turn out to be a tag, or blanks that may turn out to stand before one */
} mr_reasoning;

/* format: NULL = `<think>`. inside: the prompt ended with an open think block, as some templates do. */
void mr_reasoning_init(mr_reasoning *state, const mr_reasoning_format *format, bool inside);

/* Takes the next text and appends what is certain to *content and *reasoning. The tags and the blanks around them are
 * left out. False when memory runs out. */
bool mr_reasoning_push(mr_reasoning *state, const char *text, size_t len, mr_buf *content, mr_buf *reasoning);

/* Something that is no text (a tool call) follows: emits what was held back and ends an open block. False when memory
 * runs out. */
bool mr_reasoning_close(mr_reasoning *state, mr_buf *content, mr_buf *reasoning);

/* The text is over: emits what was held back (an open block stays reasoning) and frees the state. */
bool mr_reasoning_finish(mr_reasoning *state, mr_buf *content, mr_buf *reasoning);

/* Whether a rendered prompt leaves a think block open. */
bool mr_reasoning_is_open(const mr_reasoning_format *format, const char *prompt, size_t len);

#endif
