/* Writing calls as a family does, and ids as it wants them. */
#define _DEFAULT_SOURCE
#include "text/tool_format.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "text/tool_json.h"
#include "text/tool_python.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static uint64_t random_bits(void) {
    static atomic_uint_fast64_t counter;
    uint64_t bits[2] = {mr_clock_ns(), atomic_fetch_add(&counter, 1)};
    uint64_t more;
    if (getrandom(&more, sizeof more, GRND_NONBLOCK) == (ssize_t)sizeof more) bits[0] ^= more;
    return mr_hash(bits, sizeof bits, 0);
}

static void put_random(char *out, size_t n) {
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 8 == 0) bits = random_bits();
        out[i] = letters[bits % 62];
        bits /= 62;
    }
    out[n] = '\0';
}

void mr_tool_new_id(const mr_tool_format *format, const char *name, size_t number, char *out) {
    enum { MAX_NAME = 120 };
    size_t n;
    switch (format->id_kind) {
    case MR_TOOL_ID_NUMBER:
        snprintf(out, MR_TOOL_ID_MAX, "%zu", number);
        return;
    case MR_TOOL_ID_KIMI:
        n = strlen(name) < MAX_NAME ? strlen(name) : MAX_NAME;
        n -= mr_utf8_incomplete_tail(name, n);
        snprintf(out, MR_TOOL_ID_MAX, "functions.%.*s:%zu", (int)n, name, number);
        return;
    case MR_TOOL_ID_ALNUM9:
        put_random(out, 9);
        return;
    default:
        memcpy(out, "call_", 5);
        put_random(out + 5, 24);
    }
}

/* --- writing --- */

/* The value of one argument in tags: a text as it is. */
static bool write_value(const mr_tool_format *f, const json_t *value, mr_buf *text) {
    if (f->style == MR_TOOL_STYLE_PYTHON) return mr_python_write(value, text);
    if (json_is_string(value)) return mr_buf_append(text, json_string_value(value), json_string_length(value));
    return mr_json_write(value, text);
}

static bool write_params(const mr_tool_format *f, const json_t *arguments, mr_buf *text) {
    const char *key;
    json_t *value;
    bool first = true;
    json_object_foreach((json_t *)(uintptr_t)arguments, key, value) {
        if (!first) mr_buf_puts(text, f->param_separator);
        first = false;
        mr_buf_puts(text, f->param_open);
        mr_buf_puts(text, key);
        mr_buf_puts(text, f->after_key);
        if (!write_value(f, value, text)) return false;
        mr_buf_puts(text, f->param_close);
    }
    return !text->failed;
}

/* Arguments as an object, or as a text that may hold one. */
static bool write_arguments(const mr_tool_format *f, const json_t *arguments, mr_buf *text) {
    bool as_params = f->style == MR_TOOL_STYLE_PARAMS || f->style == MR_TOOL_STYLE_PYTHON;
    if (json_is_object(arguments)) return as_params ? write_params(f, arguments, text) : mr_json_write(arguments, text);
    if (!json_is_string(arguments) || json_string_length(arguments) == 0) return as_params || mr_buf_puts(text, "{}");
    if (!as_params) return mr_buf_append(text, json_string_value(arguments), json_string_length(arguments));
    json_t *object = json_loads(json_string_value(arguments), JSON_ALLOW_NUL, NULL);
    bool ok = !json_is_object(object) || write_params(f, object, text);
    json_decref(object);
    return ok;
}

static bool write_id(const mr_tool_format *f, const json_t *call, size_t number, mr_buf *text) {
    const char *id = json_string_value(json_object_get(call, "id"));
    if (f->id_kind == MR_TOOL_ID_NUMBER || f->id_kind == MR_TOOL_ID_KIMI)
        mr_buf_printf(text, "%zu", number);
    else
        mr_buf_puts(text, id != NULL ? id : "");
    return mr_buf_puts(text, f->after_id);
}

bool mr_tool_format_write(const mr_tool_format *f, const json_t *calls, size_t first_number, mr_buf *text) {
    mr_buf_puts(text, f->section_open);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        if (!json_is_object(function)) function = call;
        const char *name = json_string_value(json_object_get(function, "name"));
        if (i > 0) mr_buf_puts(text, f->separator);
        mr_buf_puts(text, f->call_open);
        if (f->id_place == MR_TOOL_ID_FIRST) write_id(f, call, first_number + i, text);
        mr_buf_puts(text, name != NULL ? name : "");
        mr_buf_puts(text, f->after_name);
        if (f->id_place == MR_TOOL_ID_BETWEEN) write_id(f, call, first_number + i, text);
        if (!write_arguments(f, json_object_get(function, "arguments"), text)) return false;
        if (f->id_place == MR_TOOL_ID_LAST) {
            mr_buf_puts(text, f->before_last_id);
            write_id(f, call, first_number + i, text);
        }
        mr_buf_puts(text, f->call_close);
    }
    return mr_buf_puts(text, f->section_close);
}
