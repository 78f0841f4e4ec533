/* How the model families write tool calls: a table, and which of its rows a chat template belongs to.
 *
 * All formats are one sequence of literals:
 *
 *     section_open
 *       call_open [id after_id] NAME after_name [id after_id] ARGUMENTS [before_last_id id after_id] call_close
 *       separator
 *       call_open …
 *     section_close
 *
 * where `id_place` says which of the three places for an id is used. What a model is forced to write, what is written
 * into a conversation when the template can't, and what the parser reads best is this; the parser (output_parser.h)
 * takes more. Literals are plain text: special tokens stand in them as their text. */
#ifndef MR_TEXT_TOOL_FORMAT_H
#define MR_TEXT_TOOL_FORMAT_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* What ARGUMENTS looks like, and with it how a call is read. */
typedef enum mr_tool_style {
    MR_TOOL_STYLE_JSON,    /* the whole call is a JSON object; the arguments are one of its members */
    MR_TOOL_STYLE_KEYED,   /* a JSON object of one member: the name, with the arguments as its value */
    MR_TOOL_STYLE_NAMED,   /* the name outside, the arguments a JSON object */
    MR_TOOL_STYLE_PARAMS,  /* each argument between tags of its own */
    MR_TOOL_STYLE_PYTHON,  /* name(key=value, …) with Python literals */
    MR_TOOL_STYLE_HARMONY, /* gpt-oss: messages on channels; the arguments a JSON object */
} mr_tool_style;

typedef enum mr_tool_id_place {
    MR_TOOL_ID_NONE,
    MR_TOOL_ID_FIRST,
    MR_TOOL_ID_BETWEEN,
    MR_TOOL_ID_LAST, /* after the arguments, behind before_last_id; a model may leave it out (with both literals) */
} mr_tool_id_place;

typedef enum mr_tool_id_kind {
    MR_TOOL_ID_FREE,   /* any unique text: call_… of 24 letters and digits */
    MR_TOOL_ID_NUMBER, /* the call's number, from 0: in the conversation where the template counts so, else the answer
                        */
    MR_TOOL_ID_ALNUM9, /* exactly 9 letters and digits */
    MR_TOOL_ID_KIMI,   /* functions.NAME:NUMBER; written as `functions.` in call_open and the number behind the name */
} mr_tool_id_kind;

enum { MR_TOOL_MAX_MARKS = 8 };

typedef struct mr_tool_format {
    const char *name; /* the family, for a person */
    mr_tool_style style;
    bool parallel; /* several calls in one answer are possible */

    /* Writing; every literal may be "" but none is NULL. */
    const char *section_open, *call_open, *after_name, *call_close, *separator, *section_close;
    mr_tool_id_place id_place;
    mr_tool_id_kind id_kind;
    const char *before_last_id, *after_id;
    /* PARAMS and PYTHON: each argument is param_open KEY after_key VALUE param_close, with param_separator between.
     * A PARAMS value is a bare text where its schema says string, else JSON. */
    const char *param_open, *after_key, *param_close, *param_separator;

    /* Reading. */
    /* Texts that begin calls wherever they stand (NULL ends the list). The first is the one that section_open (or
     * call_open) begins with: once a model has written it, what follows can be constrained. */
    const char *open[MR_TOOL_MAX_MARKS];
    const char
        *between[MR_TOOL_MAX_MARKS];      /* texts that may stand around calls inside of a section, and mean nothing */
    const char *close[MR_TOOL_MAX_MARKS]; /* texts that may end a call or the section */
    const char *after_name_too[MR_TOOL_MAX_MARKS]; /* NAMED: what may stand between name and arguments beside after_name
                                                    */
    bool bare_json;      /* an answer that begins with a JSON object may be a call without any mark */
    bool open_by_prompt; /* the generation prompt may end with the first `open` */

    /* Special tokens by whose texts the answer ends, beside those that the vocabulary marks as ends (NULL ends). */
    const char *stop[4];
} mr_tool_format;

/* Whether the vocabulary has a special or added token of this text. */
typedef bool (*mr_has_token_fn)(const void *ctx, const char *text);

/* The format for a template (its source, NULL = none known). has_token (may be NULL) is asked where the template alone
 * does not say. Never NULL: a template that shows no calls gets the generic format (`<tool_call>` and JSON), which
 * mr_tool_format_is_generic tells. The result is static. */
const mr_tool_format *mr_tool_format_detect(const char *source, mr_has_token_fn has_token, const void *ctx);

bool mr_tool_format_is_generic(const mr_tool_format *format);

/* Whether a rendered prompt ends with the mark that begins calls (for mr_output_options.tools_open). */
bool mr_tool_format_is_open(const mr_tool_format *format, const char *prompt, size_t len);

/* The row of this name, or NULL; and the rows in order, NULL at the end. */
const mr_tool_format *mr_tool_format_find(const char *name);
const mr_tool_format *mr_tool_format_at(size_t i);

/* Whether a mark is the text of a control token (<|…|>, <｜…｜>, [CAPITALS]), which no reader should ever see. */
bool mr_tool_mark_is_control(const char *mark);

/* Appends calls as this format writes them. calls: a JSON array [{id, type, function {name, arguments}}] with the
 * arguments as an object or as JSON text. first_number: the number of the first call, for ids that are numbers. False
 * when memory runs out. */
bool mr_tool_format_write(const mr_tool_format *format, const json_t *calls, size_t first_number, mr_buf *text);

/* A new id of the kind that the format needs, for the call of this name; `number` as above. `out` has room for
 * MR_TOOL_ID_MAX bytes, NUL included. */
enum { MR_TOOL_ID_MAX = 160 };
void mr_tool_new_id(const mr_tool_format *format, const char *name, size_t number, char *out);

#endif
