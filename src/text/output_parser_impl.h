/* What the parts of the output parser share. */
#ifndef MR_TEXT_OUTPUT_PARSER_IMPL_H
#define MR_TEXT_OUTPUT_PARSER_IMPL_H

#include "text/output_parser.h"
#include "text/tool_reader.h"

/* Where in a message of gpt-oss the text stands. */
typedef enum mr_harmony_place {
    MR_HARMONY_HEADER,  /* between <|start|> and <|message|>: role, recipient, channel */
    MR_HARMONY_CONTENT, /* the text of a message for the reader */
    MR_HARMONY_THOUGHT,
    MR_HARMONY_CALL, /* arguments; held back until they are whole */
    MR_HARMONY_SKIP, /* the rest of a message that is done with */
} mr_harmony_place;

/* A text that the parser must see, because it begins or ends something. */
typedef struct mr_output_mark {
    const char *text;
    bool opens;   /* it begins calls */
    bool control; /* it counts everywhere, and no text ever shows it */
} mr_output_mark;

enum { MR_OUTPUT_MAX_MARKS = 4 * MR_TOOL_MAX_MARKS + 2 };

struct mr_output_parser {
    mr_output_options options;
    mr_buf held; /* text whose meaning is not yet certain */
    size_t n_calls;
    mr_status status; /* of the first error; nothing happens after it */

    /* The text side. */
    mr_reasoning split;
    mr_buf content, thought; /* scratch: what the split gives */
    mr_buf blanks;           /* blanks at the content's end so far, which may stand before a call */
    bool said;               /* content other than blanks came out */
    bool merge_open;         /* thoughts are being written into the content */

    /* The calls. */
    mr_output_mark marks[MR_OUTPUT_MAX_MARKS];
    size_t n_marks;
    bool begins_mark[256]; /* bytes that a mark may begin with */
    bool gave_up;          /* too much was looked at in vain: the rest is text */
    bool reading;
    const char *mark; /* that began the section, NULL = none */
    size_t n_mark;    /* bytes of held that are the mark: 0 when it stands in the prompt */
    mr_tool_reader reader;
    size_t wasted; /* bytes looked at in vain */
    mr_buf id;
    json_t *ids; /* those given so far */

    /* gpt-oss. */
    mr_harmony_place place;
    mr_buf header;
    mr_json_scan scan;
    size_t looked; /* bytes of held that hold no mark */
    bool has_thought, has_content; /* a message of the kind came before */
};

/* Appends to the content or the thoughts what goes there. */
bool mr_output_content(mr_output_parser *p, const char *text, size_t len, mr_error *err);
bool mr_output_thought(mr_output_parser *p, const char *text, size_t len, mr_error *err);

/* The events of a call; the call's id is chosen here. */
bool mr_output_started(mr_output_parser *p, const char *name, mr_error *err);
bool mr_output_call(mr_output_parser *p, const mr_tool_call *call, mr_error *err);

/* Ends a thought that is being written into the content. */
bool mr_output_end_thought(mr_output_parser *p, mr_error *err);

/* Drops the first n bytes of held. */
void mr_output_drop(mr_output_parser *p, size_t n);

/* Handles the start of held. False when more text is needed, or after an error (p->status). */
bool mr_harmony_step(mr_output_parser *p, bool end, bool cut, mr_error *err);

#endif
