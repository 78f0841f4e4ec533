#include "text/tool_json.h"

#include "base/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 200 };

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

mr_json_scanned mr_json_scan_push(mr_json_scan *scan, const char *text, size_t len) {
    while (!scan->ended && scan->at < len) {
        char c = text[scan->at];
        if (scan->in_string) {
            if (!scan->escaped && c == '"') scan->in_string = false;
            scan->escaped = !scan->escaped && c == '\\';
        } else if (c == '"') {
            scan->in_string = true;
        } else if (c == '{' || c == '[') {
            scan->depth++;
        } else if (c == '}' || c == ']') {
            scan->at++;
            scan->ended = --scan->depth == 0;
            continue;
        } else if (!is_blank(c) && !is_digit(c) && !is_letter(c) && (c == '\0' || strchr(",:+-.", c) == NULL)) {
            return MR_JSON_SCAN_BROKEN;
        }
        scan->at++;
    }
    return scan->ended ? MR_JSON_SCAN_END : MR_JSON_SCAN_MORE;
}

/* --- compacting --- */

typedef struct reader {
    const char *at, *end;
    bool close_open;
    size_t depth;
    mr_buf *out;
} reader;

static bool read_value(reader *r);

static void skip_blanks(reader *r) {
    while (r->at < r->end && is_blank(*r->at)) r->at++;
}

static bool take(reader *r, char c) {
    skip_blanks(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* The four hexadecimal digits of \uXXXX behind `at`; -1 when they are none. */
static int read_hex4(const char *at, const char *end) {
    int value = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = is_digit(c)            ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* \uXXXX, with its second half where it is a surrogate; half a pair becomes U+FFFD. r->at is behind the u. */
static bool read_unicode_escape(reader *r) {
    int code = read_hex4(r->at, r->end);
    if (code < 0) return false;
    const char *digits = r->at;
    r->at += 4;
    if (code < 0xD800 || code > 0xDFFF) {
        mr_buf_puts(r->out, "\\u");
        mr_buf_append(r->out, digits, 4);
        return true;
    }
    int low =
        code < 0xDC00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u' ? read_hex4(r->at + 2, r->end) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return mr_buf_puts(r->out, "\\ufffd");
    mr_buf_puts(r->out, "\\u");
    mr_buf_append(r->out, digits, 4);
    mr_buf_append(r->out, r->at, 6);
    r->at += 6;
    return true;
}

static bool read_escape(reader *r) {
    if (r->at == r->end) return false;
    char c = *r->at++;
    if (c == 'u') return read_unicode_escape(r);
    if (c == '\'') return mr_buf_putc(r->out, c);
    if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL) return false;
    mr_buf_putc(r->out, '\\');
    return mr_buf_putc(r->out, c);
}

static bool put_control(mr_buf *out, char c) {
    switch (c) {
    case '\n':
        return mr_buf_puts(out, "\\n");
    case '\r':
        return mr_buf_puts(out, "\\r");
    case '\t':
        return mr_buf_puts(out, "\\t");
    default:
        return mr_buf_printf(out, "\\u%04x", (unsigned char)c);
    }
}

static bool read_string(reader *r) {
    if (!take(r, '"')) return false;
    mr_buf_putc(r->out, '"');
    while (r->at < r->end) {
        char c = *r->at++;
        if (c == '"') return mr_buf_putc(r->out, '"');
        if (c == '\\') {
            if (!read_escape(r)) return false;
        } else if ((unsigned char)c < 0x20) {
            put_control(r->out, c);
        } else {
            mr_buf_putc(r->out, c);
        }
    }
    return false;
}

static void copy_digits(reader *r) {
    while (r->at < r->end && is_digit(*r->at)) mr_buf_putc(r->out, *r->at++);
}

static bool read_number(reader *r) {
    const char *start = r->at;
    if (*r->at == '-') mr_buf_putc(r->out, *r->at++);
    const char *whole = r->at;
    copy_digits(r);
    if (r->at == whole || (*whole == '0' && r->at - whole > 1)) return false;
    if (r->at < r->end && *r->at == '.') {
        mr_buf_putc(r->out, *r->at++);
        const char *part = r->at;
        copy_digits(r);
        if (r->at == part) return false;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        mr_buf_putc(r->out, *r->at++);
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) mr_buf_putc(r->out, *r->at++);
        const char *part = r->at;
        copy_digits(r);
        if (r->at == part) return false;
    }
    return r->at > start;
}

static bool read_word(reader *r) {
    static const struct {
        const char *word, *json;
    } words[] = {{"true", "true"}, {"false", "false"}, {"null", "null"},
                 {"True", "true"}, {"False", "false"}, {"None", "null"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, words[i].word, n) != 0) continue;
        r->at += n;
        if (r->at < r->end && (is_letter(*r->at) || is_digit(*r->at))) return false;
        return mr_buf_puts(r->out, words[i].json);
    }
    return false;
}

static bool read_key(reader *r) {
    if (!read_string(r) || !take(r, ':')) return false;
    return mr_buf_putc(r->out, ':');
}

/* Members or elements, up to the closing bracket. */
static bool read_items(reader *r, char open, char close) {
    r->at++;
    if (++r->depth > MAX_DEPTH) return false;
    mr_buf_putc(r->out, open);
    for (bool first = true; !take(r, close); first = false) {
        if (r->at == r->end && r->close_open) break;
        if (!first) {
            if (!take(r, ',')) return false;
            if (take(r, close)) break;
            mr_buf_putc(r->out, ',');
        }
        if (open == '{' && !read_key(r)) return false;
        if (!read_value(r)) return false;
    }
    r->depth--;
    return mr_buf_putc(r->out, close);
}

static bool read_value(reader *r) {
    skip_blanks(r);
    if (r->at == r->end) return false;
    switch (*r->at) {
    case '{':
        return read_items(r, '{', '}');
    case '[':
        return read_items(r, '[', ']');
    case '"':
        return read_string(r);
    default:
        return is_letter(*r->at) ? read_word(r) : read_number(r);
    }
}

bool mr_json_compact(const char *text, size_t len, bool close_open, mr_buf *out) {
    reader r = {.at = text, .end = text + len, .close_open = close_open, .out = out};
    size_t before = out->len;
    bool ok = mr_utf8_valid(text, len) && read_value(&r) && !out->failed;
    skip_blanks(&r);
    if (ok && r.at == r.end) return true;
    if (out->data != NULL && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return false;
}

/* --- writing --- */

/* The fewest digits that give the same number again. */
static bool write_number(const json_t *value, mr_buf *out) {
    for (size_t digits = 15;; digits++) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        if (text == NULL) return false;
        json_t *again = digits < 17 ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        bool same = digits == 17 || json_equal(again, value);
        bool ok = !same || mr_buf_puts(out, text);
        json_decref(again);
        free(text);
        if (same) return ok;
    }
}

static bool write_items(const json_t *value, mr_buf *out) {
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_array(value)) {
        mr_buf_putc(out, '[');
        json_array_foreach(value, i, item) {
            if (i > 0) mr_buf_puts(out, ", ");
            if (!mr_json_write(item, out)) return false;
        }
        return mr_buf_putc(out, ']');
    }
    bool first = true;
    mr_buf_putc(out, '{');
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        if (!first) mr_buf_puts(out, ", ");
        first = false;
        if (!mr_json_quote(key, strlen(key), out)) return false;
        mr_buf_puts(out, ": ");
        if (!mr_json_write(item, out)) return false;
    }
    return mr_buf_putc(out, '}');
}

bool mr_json_write(const json_t *value, mr_buf *out) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return write_items(value, out);
    case JSON_STRING:
        return mr_json_quote(json_string_value(value), json_string_length(value), out);
    case JSON_TRUE:
        return mr_buf_puts(out, "true");
    case JSON_FALSE:
        return mr_buf_puts(out, "false");
    case JSON_NULL:
        return mr_buf_puts(out, "null");
    default:
        return write_number(value, out);
    }
}

/* --- members --- */

/* Behind the string that begins at text[at]; len when it does not end. */
static size_t skip_string(const char *text, size_t len, size_t at) {
    for (at++; at < len; at++) {
        if (text[at] == '\\')
            at++;
        else if (text[at] == '"')
            return at + 1;
    }
    return len;
}

static size_t skip_value(const char *text, size_t len, size_t at) {
    size_t depth = 0;
    while (at < len) {
        char c = text[at];
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
        if (c == '"') {
            at = skip_string(text, len, at);
            continue;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        at++;
    }
    return len;
}

bool mr_json_next_member(const char *object, size_t len, size_t *at, mr_json_member *member) {
    if (*at == 0 && (len < 2 || object[0] != '{')) return false;
    size_t i = *at + 1; /* behind the brace or comma */
    if (i >= len || object[i] != '"') return false;
    size_t colon = skip_string(object, len, i);
    if (colon >= len) return false;
    *member = (mr_json_member){.key = object + i, .n_key = colon - i, .value = object + colon + 1};
    *at = skip_value(object, len, colon + 1);
    member->n_value = *at - colon - 1;
    return true;
}

bool mr_json_key_is(const mr_json_member *member, const char *name) {
    size_t n = strlen(name);
    return member->n_key == n + 2 && memcmp(member->key + 1, name, n) == 0;
}

bool mr_json_unquote(const char *string, size_t len, mr_buf *out) {
    if (len < 2 || string[0] != '"') return false;
    json_t *json = json_loadb(string, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bool ok = json_is_string(json) && mr_buf_append(out, json_string_value(json), json_string_length(json));
    json_decref(json);
    return ok;
}

bool mr_json_quote(const char *text, size_t len, mr_buf *out) {
    if (!mr_utf8_valid(text, len)) return false;
    mr_buf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\') mr_buf_putc(out, '\\');
        if ((unsigned char)text[i] < 0x20)
            put_control(out, text[i]);
        else
            mr_buf_putc(out, text[i]);
    }
    return mr_buf_putc(out, '"');
}
