#include "service/tool_force.h"

#include <string.h>

/* Ids that are numbers are written as such; the rest of their text is in the literals. */
static void put_id(const mr_tool_format *format, const char *name, size_t number, mr_buf *text) {
    if (format->id_kind == MR_TOOL_ID_NUMBER || format->id_kind == MR_TOOL_ID_KIMI) {
        mr_buf_printf(text, "%zu", number);
    } else {
        char id[MR_TOOL_ID_MAX];
        mr_tool_new_id(format, name != NULL ? name : "", number, id);
        mr_buf_puts(text, id);
    }
    mr_buf_puts(text, format->after_id);
}

bool mr_tool_force(const mr_text_tools *family, const mr_prompt *prompt, const char *name, size_t number,
                   mr_buf *text) {
    const mr_tool_format *format = family->format;
    if (prompt->reasoning_open) mr_buf_printf(text, "%s\n\n", family->reasoning->close);
    /* What the prompt has opened already is not opened again. */
    if (!prompt->tools_open) {
        mr_buf_puts(text, format->section_open);
        mr_buf_puts(text, format->call_open);
    }
    if (format->id_place == MR_TOOL_ID_FIRST) put_id(format, name, number, text);
    if (name == NULL) return !text->failed;
    mr_buf_puts(text, name);
    mr_buf_puts(text, format->after_name);
    if (format->id_place == MR_TOOL_ID_BETWEEN) put_id(format, name, number, text);
    /* A model joins a blank to what follows it: ` {` is one token. */
    while (text->len > 0 && text->data[text->len - 1] == ' ') text->data[--text->len] = '\0';
    return !text->failed;
}
