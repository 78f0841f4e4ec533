#include "text/tool_python.h"

#include "base/utf8.h"
#include "text/tool_json.h"
#include "text/tool_match.h"

#include <stdint.h>
#include <string.h>

enum { MAX_DEPTH = 100, MAX_NUMBER = 400 };

bool mr_python_scan_push(mr_python_scan *scan, const char *text, size_t len) {
    while (scan->at < len) {
        char c = text[scan->at++];
        if (scan->quote != 0) {
            if (!scan->escaped && c == scan->quote) scan->quote = 0;
            scan->escaped = !scan->escaped && c == '\\';
        } else if (c == '"' || c == '\'') {
            scan->quote = c;
        } else if (c == '(' || c == '[' || c == '{') {
            scan->depth++;
        } else if (c == ')' || c == ']' || c == '}') {
            if (scan->depth <= 1) return true;
            scan->depth--;
        }
    }
    return false;
}

/* --- reading --- */

typedef struct reader {
    const char *at, *end;
    size_t depth;
    mr_buf *out;
} reader;

static bool read_value(reader *r);

static bool take(reader *r, char c) {
    r->at += mr_count_blanks(r->at, (size_t)(r->end - r->at));
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The hexadecimal digits at r->at; false when there are fewer. */
static bool read_hex(reader *r, int n_digits, uint32_t *code) {
    *code = 0;
    if (r->end - r->at < n_digits) return false;
    for (int i = 0; i < n_digits; i++) {
        int digit = hex_digit(*r->at++);
        if (digit < 0) return false;
        *code = *code * 16 + (uint32_t)digit;
    }
    return true;
}

/* Models write surrogate pairs here as well, which Python would not put together. */
static bool read_code_point(reader *r, int n_digits, mr_buf *text) {
    uint32_t code, low;
    if (!read_hex(r, n_digits, &code)) return false;
    if (n_digits == 4 && code >> 10 == 0xD800 >> 10 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        reader ahead = *r;
        ahead.at += 2;
        if (read_hex(&ahead, 4, &low) && low >> 10 == 0xDC00 >> 10) {
            code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
            r->at = ahead.at;
        }
    }
    char bytes[4];
    return mr_buf_append(text, bytes, mr_utf8_encode(code, bytes));
}

static bool read_escape(reader *r, mr_buf *text) {
    static const char letters[] = "abfnrtv\\'\"0", meant[] = "\a\b\f\n\r\t\v\\'\"";
    if (r->at == r->end) return false;
    char c = *r->at++;
    if (c == 'x') return read_code_point(r, 2, text);
    if (c == 'u') return read_code_point(r, 4, text);
    if (c == 'U') return read_code_point(r, 8, text);
    if (c == '\n') return true;
    const char *letter = c == '\0' ? NULL : strchr(letters, c);
    if (letter != NULL) return mr_buf_putc(text, meant[letter - letters]);
    mr_buf_putc(text, '\\'); /* Python keeps a backslash that means nothing */
    return mr_buf_putc(text, c);
}

static bool read_string(reader *r) {
    char quote = *r->at++;
    mr_buf text = {0};
    bool ok = false;
    while (r->at < r->end) {
        char c = *r->at++;
        if (c == quote) {
            ok = mr_json_quote(mr_buf_cstr(&text), text.len, r->out);
            break;
        }
        if (c != '\\')
            mr_buf_putc(&text, c);
        else if (!read_escape(r, &text))
            break;
    }
    ok = ok && !text.failed;
    mr_buf_free(&text);
    return ok;
}

/* Elements up to the closing bracket; tuples become arrays. */
static bool read_items(reader *r, char close) {
    r->at++;
    if (++r->depth > MAX_DEPTH) return false;
    mr_buf_putc(r->out, close == '}' ? '{' : '[');
    for (bool first = true; !take(r, close); first = false) {
        if (!first) {
            if (!take(r, ',')) return false;
            if (take(r, close)) break;
            mr_buf_putc(r->out, ',');
        }
        if (close == '}') {
            r->at += mr_count_blanks(r->at, (size_t)(r->end - r->at));
            if (r->at == r->end || (*r->at != '"' && *r->at != '\'')) return false;
            if (!read_string(r) || !take(r, ':')) return false;
            mr_buf_putc(r->out, ':');
        }
        if (!read_value(r)) return false;
    }
    r->depth--;
    return mr_buf_putc(r->out, close == '}' ? '}' : ']');
}

/* A number or a word: what JSON knows as well. */
static bool read_plain(reader *r) {
    const char *start = r->at;
    while (r->at < r->end && !mr_is_blank(*r->at) && strchr(",)]}", *r->at) == NULL) r->at++;
    return r->at - start <= MAX_NUMBER && mr_json_compact(start, (size_t)(r->at - start), false, r->out);
}

static bool read_value(reader *r) {
    r->at += mr_count_blanks(r->at, (size_t)(r->end - r->at));
    if (r->at == r->end) return false;
    switch (*r->at) {
    case '{':
        return read_items(r, '}');
    case '[':
        return read_items(r, ']');
    case '(':
        return read_items(r, ')');
    case '"':
    case '\'':
        return read_string(r);
    default:
        return read_plain(r);
    }
}

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80) != 0;
}

static bool read_keyword(reader *r) {
    r->at += mr_count_blanks(r->at, (size_t)(r->end - r->at));
    const char *key = r->at;
    while (r->at < r->end && is_name_char(*r->at)) r->at++;
    if (r->at == key || !mr_json_quote(key, (size_t)(r->at - key), r->out)) return false;
    mr_buf_putc(r->out, ':');
    return take(r, '=') && read_value(r);
}

static bool read_keywords(reader *r) {
    for (bool first = true;; first = false) {
        r->at += mr_count_blanks(r->at, (size_t)(r->end - r->at));
        if (r->at == r->end) return true;
        if (!first) {
            if (!take(r, ',')) return false;
            if (r->at + mr_count_blanks(r->at, (size_t)(r->end - r->at)) == r->end) return true;
            mr_buf_putc(r->out, ',');
        }
        if (!read_keyword(r)) return false;
    }
}

bool mr_python_arguments(const char *text, size_t len, mr_buf *out) {
    reader r = {.at = text, .end = text + len, .out = out};
    size_t before = out->len;
    mr_buf_putc(out, '{');
    if (read_keywords(&r) && mr_buf_putc(out, '}')) return true;
    if (out->data != NULL && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return false;
}

/* --- writing --- */

static bool write_items(const json_t *value, mr_buf *out) {
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_array(value)) {
        mr_buf_putc(out, '[');
        json_array_foreach(value, i, item) {
            if (i > 0) mr_buf_puts(out, ", ");
            mr_python_write(item, out);
        }
        return mr_buf_putc(out, ']');
    }
    bool first = true;
    mr_buf_putc(out, '{');
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        if (!first) mr_buf_puts(out, ", ");
        first = false;
        mr_json_quote(key, strlen(key), out);
        mr_buf_puts(out, ": ");
        mr_python_write(item, out);
    }
    return mr_buf_putc(out, '}');
}

bool mr_python_write(const json_t *value, mr_buf *out) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return write_items(value, out);
    case JSON_STRING:
        return mr_json_quote(json_string_value(value), json_string_length(value), out);
    case JSON_TRUE:
        return mr_buf_puts(out, "True");
    case JSON_FALSE:
        return mr_buf_puts(out, "False");
    case JSON_NULL:
        return mr_buf_puts(out, "None");
    default:
        return mr_json_write(value, out);
    }
}
