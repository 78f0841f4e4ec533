#include "text/tokenizer_json.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100 };

typedef struct reader {
    mr_json *json;
    char *start, *at, *end;
    mr_error *err;
    unsigned depth;
} reader;

static mr_status fail_at(reader *r, const char *what) {
    size_t line = 1, column = 1;
    for (const char *p = r->start; p < r->at; p++) {
        column++;
        if (*p == '\n') line++, column = 1;
    }
    return mr_fail(r->err, MR_ERR_INVALID, "JSON line %zu, column %zu: %s", line, column, what);
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

/* A new value; its index in *index. */
static mr_status add(reader *r, mr_json_kind kind, size_t *index) {
    mr_json *json = r->json;
    if (json->n == json->cap) {
        size_t cap = json->cap * 2;
        mr_json_value *values = cap > UINT32_MAX ? NULL : realloc(json->values, cap * sizeof *values);
        if (values == NULL) return mr_fail_nomem(r->err, cap * sizeof *values, "a JSON document");
        json->values = values;
        json->cap = cap;
    }
    *index = json->n;
    json->values[json->n++] = (mr_json_value){.kind = kind, .next = 1};
    return MR_OK;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool read_hex4(reader *r, uint32_t *c) {
    if (r->end - r->at < 4) return false;
    *c = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(r->at[i]);
        if (digit < 0) return false;
        *c = *c * 16 + (uint32_t)digit;
    }
    r->at += 4;
    return true;
}

/* The escape behind a backslash: appends what it stands for at *out. */
static mr_status read_escape(reader *r, char **out) {
    if (r->at >= r->end) return fail_at(r, "a string is not closed");
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = *r->at == '\0' ? NULL : strchr(names, *r->at);
    if (name != NULL) {
        *(*out)++ = values[name - names];
        r->at++;
        return MR_OK;
    }
    uint32_t c, low;
    if (*r->at != 'u') return fail_at(r, "unknown escape in a string");
    r->at++;
    if (!read_hex4(r, &c)) return fail_at(r, "\\u needs four hexadecimal digits");
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u') return fail_at(r, "half of a surrogate pair");
        r->at += 2;
        if (!read_hex4(r, &low) || low < 0xDC00 || low > 0xDFFF) return fail_at(r, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c <= 0xDFFF) {
        return fail_at(r, "half of a surrogate pair");
    }
    *out += mr_utf8_encode(c, *out);
    return MR_OK;
}

/* A string behind its opening quote; unescaped in place, which never makes it longer. */
static mr_status read_string(reader *r, const char **text, uint32_t *len) {
    char *begin = r->at, *out;
    while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20) r->at++;
    out = r->at;
    while (r->at < r->end && *r->at != '"') {
        if ((unsigned char)*r->at < 0x20) return fail_at(r, "a control character in a string");
        if (*r->at != '\\') {
            *out++ = *r->at++;
            continue;
        }
        r->at++;
        mr_status status = read_escape(r, &out);
        if (status != MR_OK) return status;
    }
    if (r->at >= r->end) return fail_at(r, "a string is not closed");
    r->at++;
    *text = begin;
    *len = (uint32_t)(out - begin);
    return MR_OK;
}

static bool accept_word(reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

static bool accept_digits(reader *r) {
    char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > begin;
}

static mr_status read_number(reader *r, mr_json_value *value) {
    char *begin = r->at;
    if (*r->at == '-') r->at++;
    bool ok = accept_digits(r);
    if (ok && r->at < r->end && *r->at == '.') {
        r->at++;
        ok = accept_digits(r);
    }
    if (ok && r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        ok = accept_digits(r);
    }
    if (!ok) return fail_at(r, "a value was expected");
    value->text = begin;
    value->len = (uint32_t)(r->at - begin);
    return MR_OK;
}

static mr_status read_value(reader *r);

/* The members of an array or object behind its bracket. */
static mr_status read_members(reader *r, size_t index, bool object) {
    char close = object ? '}' : ']';
    uint32_t n = 0;
    if (++r->depth > MAX_DEPTH) return fail_at(r, "the document is nested too deeply");
    skip_space(r);
    if (r->at < r->end && *r->at == close) {
        r->at++;
    } else {
        for (;;) {
            skip_space(r);
            mr_status status = MR_OK;
            if (object) {
                size_t key;
                if (r->at >= r->end || *r->at != '"') return fail_at(r, "a key in quotes was expected");
                r->at++;
                status = add(r, MR_JSON_STRING, &key);
                mr_json_value *value = &r->json->values[key];
                if (status == MR_OK) status = read_string(r, &value->text, &value->len);
                if (status != MR_OK) return status;
                skip_space(r);
                if (r->at >= r->end || *r->at != ':') return fail_at(r, "a colon was expected");
                r->at++;
            }
            status = read_value(r);
            if (status != MR_OK) return status;
            n++;
            skip_space(r);
            if (r->at < r->end && *r->at == ',') {
                r->at++;
                continue;
            }
            if (r->at >= r->end || *r->at != close) return fail_at(r, "a comma or closing bracket was expected");
            r->at++;
            break;
        }
    }
    r->depth--;
    r->json->values[index].len = n;
    r->json->values[index].next = (uint32_t)(r->json->n - index);
    return MR_OK;
}

static mr_status read_value(reader *r) {
    size_t index;
    skip_space(r);
    if (r->at >= r->end) return fail_at(r, "the document ends too early");
    mr_status status = add(r, MR_JSON_NULL, &index);
    if (status != MR_OK) return status;
    mr_json_value *value = &r->json->values[index];
    switch (*r->at) {
    case '"':
        r->at++;
        value->kind = MR_JSON_STRING;
        return read_string(r, &value->text, &value->len);
    case '{':
    case '[':
        value->kind = *r->at == '{' ? MR_JSON_OBJECT : MR_JSON_ARRAY;
        return read_members(r, index, *r->at++ == '{');
    case 'n':
        return accept_word(r, "null") ? MR_OK : fail_at(r, "a value was expected");
    case 't':
        value->kind = MR_JSON_TRUE;
        return accept_word(r, "true") ? MR_OK : fail_at(r, "a value was expected");
    case 'f':
        value->kind = MR_JSON_FALSE;
        return accept_word(r, "false") ? MR_OK : fail_at(r, "a value was expected");
    default:
        value->kind = MR_JSON_NUMBER;
        return read_number(r, value);
    }
}

mr_status mr_json_parse(mr_json *json, char *text, size_t len, mr_error *err) {
    *json = (mr_json){.cap = len / 12 + 16};
    if (len > UINT32_MAX / 2) return mr_fail(err, MR_ERR_LIMIT, "a JSON document of %zu bytes is too long", len);
    if (!mr_unicode_is_well_formed(text, len))
        return mr_fail(err, MR_ERR_INVALID, "the JSON document is not valid UTF-8");
    json->values = malloc(json->cap * sizeof *json->values);
    if (json->values == NULL) return mr_fail_nomem(err, json->cap * sizeof *json->values, "a JSON document");
    reader r = {.json = json, .start = text, .at = text, .end = text + len, .err = err};
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) r.at += 3;
    mr_status status = read_value(&r);
    skip_space(&r);
    if (status == MR_OK && r.at != r.end) status = fail_at(&r, "text behind the end of the document");
    if (status != MR_OK) mr_json_free(json);
    return status;
}

void mr_json_free(mr_json *json) {
    free(json->values);
    *json = (mr_json){0};
}

bool mr_json_is(const mr_json_value *value, mr_json_kind kind) {
    return value != NULL && value->kind == kind;
}

bool mr_json_is_text(const mr_json_value *value, const char *text) {
    return mr_json_is(value, MR_JSON_STRING) && value->len == strlen(text) &&
           memcmp(value->text, text, value->len) == 0;
}

const mr_json_value *mr_json_get(const mr_json_value *object, const char *key) {
    if (!mr_json_is(object, MR_JSON_OBJECT)) return NULL;
    const mr_json_value *found = NULL, *member = mr_json_first(object);
    for (uint32_t i = 0; i < object->len; i++) {
        const mr_json_value *value = mr_json_next(member);
        if (mr_json_is_text(member, key)) found = value;
        member = mr_json_next(value);
    }
    return found;
}

bool mr_json_bool(const mr_json_value *value, bool fallback) {
    if (mr_json_is(value, MR_JSON_TRUE)) return true;
    return mr_json_is(value, MR_JSON_FALSE) ? false : fallback;
}

bool mr_json_u32(const mr_json_value *value, uint32_t *out) {
    if (!mr_json_is(value, MR_JSON_NUMBER) || value->len > 10) return false;
    uint64_t n = 0;
    for (uint32_t i = 0; i < value->len; i++) {
        if (value->text[i] < '0' || value->text[i] > '9') return false;
        n = n * 10 + (uint64_t)(value->text[i] - '0');
    }
    if (n > UINT32_MAX) return false;
    *out = (uint32_t)n;
    return true;
}

bool mr_json_double(const mr_json_value *value, double *out) {
    char digits[64];
    if (!mr_json_is(value, MR_JSON_NUMBER) || value->len >= sizeof digits) return false;
    memcpy(digits, value->text, value->len);
    digits[value->len] = '\0';
    /* A host program may have set a locale with a decimal comma. */
    const char *point = localeconv()->decimal_point;
    char *dot = strchr(digits, '.');
    if (dot != NULL && point[0] != '.' && point[0] != '\0' && point[1] == '\0') *dot = point[0];
    *out = strtod(digits, NULL);
    return true;
}
