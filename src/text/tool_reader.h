/* Reads the calls of one section: the text behind a mark that begins calls. Used by the output parser, which owns the
 * text and hands it over from its start each time. */
#ifndef MR_TEXT_TOOL_READER_H
#define MR_TEXT_TOOL_READER_H

#include "base/buf.h"
#include "text/tool_format.h"
#include "text/tool_json.h"
#include "text/tool_match.h"
#include "text/tool_python.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct mr_tool_call {
    mr_buf id; /* empty: the model gave none */
    mr_buf name;
    mr_buf arguments;
} mr_tool_call;

void mr_tool_call_clear(mr_tool_call *call);
void mr_tool_call_free(mr_tool_call *call);

typedef enum mr_tool_phase {
    MR_TOOL_PHASE_CALL,   /* in front of a call */
    MR_TOOL_PHASE_JSON,   /* in a JSON object that is a whole call */
    MR_TOOL_PHASE_ARGS,   /* NAMED: behind the name */
    MR_TOOL_PHASE_PARAM,  /* PARAMS: in front of an argument or the end */
    MR_TOOL_PHASE_VALUE,  /* PARAMS: in an argument's value */
    MR_TOOL_PHASE_PYTHON, /* in the brackets of name(…) */
    MR_TOOL_PHASE_CODE,   /* in code for an interpreter, to the end */
    MR_TOOL_PHASE_AFTER,  /* behind a call */
} mr_tool_phase;

typedef struct mr_tool_reader {
    const mr_tool_format *format;
    const json_t *tools; /* may be NULL */
    bool bare;           /* no mark: the text is a JSON object that may be a call */
    bool python_tag;     /* the mark was <|python_tag|> */
    bool in_array;
    bool announced; /* the name of the call at hand was told */
    mr_tool_phase phase;
    size_t at;      /* the text before is read */
    size_t start;   /* of the value that is scanned */
    size_t n_calls; /* of the section */
    mr_json_scan scan;
    mr_python_scan python;
    mr_buf key;        /* PARAMS: of the argument at hand */
    mr_tool_call call; /* the call at hand */
} mr_tool_reader;

typedef enum mr_tool_read {
    MR_TOOL_READ_MORE, /* more text is needed */
    MR_TOOL_READ_NAME, /* reader->call.name is known; told once a call */
    MR_TOOL_READ_CALL, /* reader->call is whole; the text before `at` is done with */
    MR_TOOL_READ_OVER, /* the section ends before `at` */
    MR_TOOL_READ_BAD,  /* this is no call: the text since the last whole call, or since the mark, is just text */
} mr_tool_read;

/* Begins a section at text[at], behind its mark (NULL: bare). Keeps the memory of earlier ones. */
void mr_tool_reader_begin(mr_tool_reader *reader, const char *mark, size_t at);

/* Goes on. text[0..len): all text since the last whole call (or the mark), with the text before `at` unchanged since
 * the last time. end: no more will come; cut: because of a bound. After CALL the caller drops the text before `at`,
 * sets `at` to 0 and calls mr_tool_call_clear. */
mr_tool_read mr_tool_reader_step(mr_tool_reader *reader, const char *text, size_t len, bool end, bool cut);

void mr_tool_reader_free(mr_tool_reader *reader);

/* --- parts of a reader --- */

/* The function of this name in the list of tools, or NULL. */
const json_t *mr_tool_find(const json_t *tools, const char *name, size_t len);

/* A whole call that is a JSON object: text[0..len). strict: the arguments must be there and the name known. */
bool mr_tool_read_json(const mr_tool_reader *reader, const char *text, size_t len, bool close_open, mr_tool_call *call);

/* The name in the beginning text[0..len) of such an object: FULL, MAYBE, or NO where it can't be told early.
 * *not_a_call is set when a bare object can't be a call. */
mr_match mr_tool_peek_name(const mr_tool_reader *reader, const char *text, size_t len, mr_buf *name, bool *not_a_call);

/* Appends `, "key": value` to the object that is being written in *object: value as the tool's schema wants it. */
bool mr_tool_put_param(const json_t *tools, const mr_buf *name, const mr_buf *key, const char *value, size_t len,
                       mr_buf *object);

#endif
