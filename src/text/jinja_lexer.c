/* Splits a template into tokens, with Jinja's rules for white space around tags (trim_blocks and lstrip_blocks on). */
#include "text/jinja_ast.h"
#include "text/jinja_unicode.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    jj_parse *p;
    size_t pos;
    /* Line and column are computed forwards from the last place asked for. */
    size_t mark;
    uint32_t line, column;
    char brackets[256]; /* closing brackets expected */
    size_t n_brackets;
    bool line_starting;
} lexer;

static void locate(lexer *lx, size_t pos, uint32_t *line, uint32_t *column) {
    const char *s = lx->p->source;
    if (pos < lx->mark) {
        lx->mark = 0;
        lx->line = lx->column = 1;
    }
    for (; lx->mark < pos; lx->mark++) {
        if (s[lx->mark] == '\n') {
            lx->line++;
            lx->column = 1;
        } else if (((unsigned char)s[lx->mark] & 0xC0) != 0x80) {
            lx->column++;
        }
    }
    *line = lx->line;
    *column = lx->column;
}

static bool fail_at(lexer *lx, size_t pos, const char *message) {
    uint32_t line, column;
    locate(lx, pos, &line, &column);
    return mr_jj_parse_fail(lx->p, line, column, "%s", message);
}

static jj_token *push(lexer *lx, jj_token_kind kind, size_t pos) {
    jj_parse *p = lx->p;
    if (p->n_tokens == p->cap_tokens) {
        size_t cap = p->cap_tokens == 0 ? 256 : p->cap_tokens * 2;
        jj_token *tokens = realloc(p->tokens, cap * sizeof *tokens);
        if (tokens == NULL) {
            mr_jj_parse_nomem(p);
            return NULL;
        }
        p->tokens = tokens;
        p->cap_tokens = cap;
    }
    jj_token *t = &p->tokens[p->n_tokens++];
    *t = (jj_token){.kind = (uint8_t)kind};
    locate(lx, pos, &t->line, &t->column);
    return t;
}

static bool push_text(lexer *lx, jj_token_kind kind, size_t pos, const char *text, size_t len) {
    jj_token *t = push(lx, kind, pos);
    if (t == NULL) return false;
    const jj_str *s;
    if (!mr_jj_parse_str(lx->p, text, len, &s)) return false;
    t->value = (jj_value){.kind = JJ_STR, .u.s = s};
    return true;
}

static bool at(const lexer *lx, size_t pos, const char *text) {
    size_t n = strlen(text);
    return lx->p->len - pos >= n && memcmp(lx->p->source + pos, text, n) == 0;
}

/* The first position at or after pos that is not white space. */
static size_t skip_space(const lexer *lx, size_t pos) {
    while (pos < lx->p->len) {
        uint32_t c;
        size_t n = mr_utf8_decode(lx->p->source + pos, lx->p->len - pos, &c);
        if (!mr_jj_is_space(c)) break;
        pos += n;
    }
    return pos;
}

/* The end of text[start..end) without white space at its end. */
static size_t strip_end(const lexer *lx, size_t start, size_t end) {
    const char *s = lx->p->source;
    while (end > start) {
        size_t i = end - 1;
        while (i > start && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
        uint32_t c;
        mr_utf8_decode(s + i, end - i, &c);
        if (!mr_jj_is_space(c)) break;
        end = i;
    }
    return end;
}

/* Emits the template text source[start..end) before a tag with the given sign; tags other than {{ also take the white
 * space between the last newline and them (lstrip_blocks). */
static bool emit_data(lexer *lx, size_t start, size_t end, char sign, bool is_variable) {
    const char *s = lx->p->source;
    size_t cut = end;
    if (sign == '-') {
        cut = strip_end(lx, start, end);
    } else if (sign != '+' && !is_variable) {
        size_t line = end;
        while (line > start && s[line - 1] != '\n') line--;
        if ((line > start || lx->line_starting) && line < end && strip_end(lx, line, end) == line) cut = line;
    }
    if (cut == start) return true;
    return push_text(lx, JJ_T_DATA, start, s + start, cut - start);
}

static char sign_at(const lexer *lx, size_t pos) {
    if (pos < lx->p->len && (lx->p->source[pos] == '-' || lx->p->source[pos] == '+')) return lx->p->source[pos];
    return '\0';
}

/* Length of `%}` with its optional newline or stripped space at pos for the closing mark `close`, 0 when it isn't
 * there. */
static size_t close_length(const lexer *lx, size_t pos, const char *close, bool plus, bool newline) {
    if (pos >= lx->p->len) return 0;
    if (lx->p->source[pos] == '-' && at(lx, pos + 1, close)) return skip_space(lx, pos + 3) - pos;
    if (plus && lx->p->source[pos] == '+' && at(lx, pos + 1, close)) return 3;
    if (!at(lx, pos, close)) return 0;
    return newline && at(lx, pos + 2, "\n") ? 3 : 2;
}

static bool lex_comment(lexer *lx) {
    size_t start = lx->pos;
    for (size_t i = start; i + 1 < lx->p->len; i++) {
        size_t n = close_length(lx, i, "#}", true, true);
        if (n != 0) {
            lx->pos = i + n;
            return true;
        }
    }
    return start >= lx->p->len ? true : fail_at(lx, start, "Missing end of comment tag");
}

/* The position after `raw` and its closing mark when a raw block starts at pos (which is at "{%"), else 0. */
static size_t raw_begin(const lexer *lx, size_t pos, char *sign) {
    size_t i = pos + 2;
    *sign = sign_at(lx, i);
    if (*sign != '\0') i++;
    i = skip_space(lx, i);
    if (!at(lx, i, "raw")) return 0;
    i = skip_space(lx, i + 3);
    size_t n = close_length(lx, i, "%}", false, false);
    return n == 0 ? 0 : i + n;
}

static bool lex_raw(lexer *lx) {
    size_t start = lx->pos;
    for (size_t i = start; i + 1 < lx->p->len; i++) {
        if (!at(lx, i, "{%")) continue;
        size_t j = i + 2;
        char sign = sign_at(lx, j);
        if (sign != '\0') j++;
        j = skip_space(lx, j);
        if (!at(lx, j, "endraw")) continue;
        j = skip_space(lx, j + 6);
        size_t n = close_length(lx, j, "%}", true, true);
        if (n == 0) continue;
        if (!emit_data(lx, start, i, sign, false)) return false;
        lx->pos = j + n;
        return true;
    }
    return start >= lx->p->len ? true : fail_at(lx, start, "Missing end of raw directive");
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int digit_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

/* Length of (\d+_)*\d+ at pos. */
static size_t digits_length(const lexer *lx, size_t pos, unsigned base) {
    const char *s = lx->p->source;
    size_t i = pos;
    while (i < lx->p->len && (unsigned)digit_value(s[i]) < base) {
        i++;
        if (i + 1 < lx->p->len && s[i] == '_' && (unsigned)digit_value(s[i + 1]) < base) i++;
    }
    return i - pos;
}

static size_t float_length(const lexer *lx, size_t pos) {
    const char *s = lx->p->source;
    size_t len = lx->p->len;
    if (pos > 0 && s[pos - 1] == '.') return 0;
    size_t i = pos + digits_length(lx, pos, 10);
    if (i == pos) return 0;
    bool fraction = false;
    if (i + 1 < len && s[i] == '.' && is_digit(s[i + 1])) {
        i += 1 + digits_length(lx, i + 1, 10);
        fraction = true;
    }
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        size_t j = i + 1;
        if (j < len && (s[j] == '+' || s[j] == '-')) j++;
        size_t n = j < len ? digits_length(lx, j, 10) : 0;
        if (n > 0) return j + n - pos;
    }
    return fraction ? i - pos : 0;
}

/* A copy of source[pos..pos+n) without underscores. */
static char *without_underscores(lexer *lx, size_t pos, size_t n) {
    char *text = mr_jj_parse_alloc(lx->p, n + 1);
    if (text == NULL) return NULL;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (lx->p->source[pos + i] != '_') text[k++] = lx->p->source[pos + i];
    }
    text[k] = '\0';
    return text;
}

static bool lex_float(lexer *lx, size_t n) {
    char *text = without_underscores(lx, lx->pos, n);
    if (text == NULL) return false;
    jj_token *t = push(lx, JJ_T_FLOAT, lx->pos);
    if (t == NULL) return false;
    t->value = mr_jj_float(strtod(text, NULL));
    lx->pos += n;
    return true;
}

/* 0b…, 0o…, 0x…, a decimal that does not start with 0, or zeros. */
static size_t integer_length(const lexer *lx, size_t pos, unsigned *base) {
    const char *s = lx->p->source;
    *base = 10;
    if (s[pos] == '0' && pos + 2 < lx->p->len) {
        char kind = s[pos + 1];
        unsigned b = kind == 'b' || kind == 'B'   ? 2
                     : kind == 'o' || kind == 'O' ? 8
                     : kind == 'x' || kind == 'X' ? 16
                                                  : 0;
        size_t from = pos + 2 + (s[pos + 2] == '_');
        size_t n = b == 0 || from >= lx->p->len ? 0 : digits_length(lx, from, b);
        if (n > 0) {
            *base = b;
            return from + n - pos;
        }
    }
    return digits_length(lx, pos, s[pos] == '0' ? 1 : 10);
}

static bool lex_integer(lexer *lx) {
    unsigned base;
    size_t n = integer_length(lx, lx->pos, &base);
    char *text = without_underscores(lx, lx->pos, n);
    if (text == NULL) return false;
    const char *digits = base == 10 ? text : text + 2;
    size_t n_digits = strlen(digits);
    if (n_digits > 4300) return fail_at(lx, lx->pos, "Exceeds the limit (4300 digits) for integer string conversion");
    jj_token *t = push(lx, JJ_T_INTEGER, lx->pos);
    if (t == NULL) return false;
    errno = 0;
    long long value = strtoll(digits, NULL, (int)base);
    if (errno == 0) {
        t->value = mr_jj_int(value);
    } else {
        jj_rt rt = {.arena = lx->p->jinja->arena, .steps_left = 100000000};
        bool ok = mr_jj_big_parse(&rt, digits, n_digits, base, false, &t->value);
        lx->p->jinja->arena = rt.arena;
        if (!ok) return mr_jj_parse_nomem(lx->p);
    }
    lx->pos += n;
    return true;
}

static size_t name_length(const lexer *lx, size_t pos, bool *valid) {
    size_t i = pos;
    *valid = true;
    while (i < lx->p->len) {
        uint32_t c;
        size_t n = mr_utf8_decode(lx->p->source + i, lx->p->len - i, &c);
        if (!mr_jj_is_identifier_part(c) && !mr_jj_is_alnum(c)) break;
        if (i == pos ? !mr_jj_is_identifier_start(c) : !mr_jj_is_identifier_part(c)) *valid = false;
        i += n;
    }
    return i - pos;
}

/* The end of the string literal that starts at pos, or 0. */
static size_t string_end(const lexer *lx, size_t pos) {
    const char *s = lx->p->source;
    for (size_t i = pos + 1; i < lx->p->len; i++) {
        if (s[i] == s[pos]) return i + 1;
        if (s[i] == '\\') i++;
    }
    return 0;
}

static bool put_code_point(mr_buf *buf, uint32_t c) {
    char utf8[4];
    return mr_buf_append(buf, utf8, mr_utf8_encode(c, utf8));
}

/* A backslash before a character that is no escape stays, and a non-ASCII character after it appears as its escape
 * (what Python's unicode-escape codec makes of text that went through backslashreplace). */
static size_t put_unknown_escape(mr_buf *buf, const char *s, size_t len) {
    uint32_t c;
    size_t n = mr_utf8_decode(s, len, &c);
    mr_buf_putc(buf, '\\');
    if (c < 0x80) {
        mr_buf_append(buf, s, n);
    } else if (c < 0x100) {
        mr_buf_printf(buf, "x%02x", (unsigned)c);
    } else {
        mr_buf_printf(buf, c < 0x10000 ? "u%04x" : "U%08x", (unsigned)c);
    }
    return n;
}

/* Decodes the escape after the backslash at s[0]; returns its length without the backslash, 0 on an error. */
static size_t unescape(mr_buf *buf, const char *s, size_t len, const char **message) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *known = strchr(from, s[0]);
    if (s[0] == '\n') return 1;
    if (s[0] != '\0' && known != NULL) {
        mr_buf_putc(buf, to[known - from]);
        return 1;
    }
    if (s[0] >= '0' && s[0] <= '7') {
        uint32_t c = 0;
        size_t n = 0;
        while (n < 3 && n < len && s[n] >= '0' && s[n] <= '7') c = c * 8 + (uint32_t)(s[n++] - '0');
        put_code_point(buf, c);
        return n;
    }
    size_t want = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    if (want > 0) {
        uint32_t c = 0;
        for (size_t i = 1; i <= want; i++) {
            if (i >= len || digit_value(s[i]) > 15) {
                *message = want == 2   ? "truncated \\xXX escape"
                           : want == 4 ? "truncated \\uXXXX escape"
                                       : "truncated \\UXXXXXXXX escape";
                return 0;
            }
            c = c * 16 + (uint32_t)digit_value(s[i]);
        }
        if (c > 0x10FFFF) {
            *message = "illegal Unicode character";
            return 0;
        }
        put_code_point(buf, c);
        return want + 1;
    }
    if (s[0] == 'N') {
        *message = "\\N{…} escapes are not supported here; write the character itself";
        return 0;
    }
    return put_unknown_escape(buf, s, len);
}

static bool lex_string(lexer *lx, size_t end) {
    const char *s = lx->p->source;
    mr_buf buf = {0};
    const char *message = NULL;
    for (size_t i = lx->pos + 1; i < end - 1 && message == NULL;) {
        if (s[i] != '\\') {
            mr_buf_putc(&buf, s[i++]);
            continue;
        }
        size_t n = unescape(&buf, s + i + 1, end - 1 - (i + 1), &message);
        i += 1 + n;
    }
    bool ok = message == NULL ? true : fail_at(lx, lx->pos, message);
    if (ok && buf.failed) ok = mr_jj_parse_nomem(lx->p);
    ok = ok && push_text(lx, JJ_T_STRING, lx->pos, mr_buf_cstr(&buf), buf.len);
    mr_buf_free(&buf);
    lx->pos = end;
    return ok;
}

static const struct operator_text {
    const char text[3];
    uint8_t kind;
} operators[] = {
    {"//", JJ_T_FLOORDIV}, {"**", JJ_T_POW},   {"==", JJ_T_EQ},      {"!=", JJ_T_NE},      {">=", JJ_T_GTEQ},
    {"<=", JJ_T_LTEQ},     {"+", JJ_T_ADD},    {"-", JJ_T_SUB},      {"/", JJ_T_DIV},      {"*", JJ_T_MUL},
    {"%", JJ_T_MOD},       {"~", JJ_T_TILDE},  {"[", JJ_T_LBRACKET}, {"]", JJ_T_RBRACKET}, {"(", JJ_T_LPAREN},
    {")", JJ_T_RPAREN},    {"{", JJ_T_LBRACE}, {"}", JJ_T_RBRACE},   {">", JJ_T_GT},       {"<", JJ_T_LT},
    {"=", JJ_T_ASSIGN},    {".", JJ_T_DOT},    {":", JJ_T_COLON},    {"|", JJ_T_PIPE},     {",", JJ_T_COMMA},
    {";", JJ_T_SEMICOLON},
};

static bool balance(lexer *lx, char c) {
    char closing = c == '{' ? '}' : c == '(' ? ')' : c == '[' ? ']' : '\0';
    char message[64];
    if (closing != '\0') {
        if (lx->n_brackets == sizeof lx->brackets) return fail_at(lx, lx->pos, "too many nested parentheses");
        lx->brackets[lx->n_brackets++] = closing;
    } else if (c == '}' || c == ')' || c == ']') {
        if (lx->n_brackets == 0) {
            snprintf(message, sizeof message, "unexpected '%c'", c);
            return fail_at(lx, lx->pos, message);
        }
        char expected = lx->brackets[--lx->n_brackets];
        if (expected != c) {
            snprintf(message, sizeof message, "unexpected '%c', expected '%c'", c, expected);
            return fail_at(lx, lx->pos, message);
        }
    }
    return true;
}

static bool lex_operator(lexer *lx) {
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!at(lx, lx->pos, operators[i].text)) continue;
        if (!balance(lx, operators[i].text[0])) return false;
        if (push(lx, (jj_token_kind)operators[i].kind, lx->pos) == NULL) return false;
        lx->pos += strlen(operators[i].text);
        return true;
    }
    uint32_t c;
    size_t n = mr_utf8_decode(lx->p->source + lx->pos, lx->p->len - lx->pos, &c);
    char message[96];
    snprintf(message, sizeof message, c == '\'' ? "unexpected char \"%.*s\" at %zu" : "unexpected char '%.*s' at %zu",
             (int)n, lx->p->source + lx->pos, mr_jj_utf8_count(lx->p->source, lx->pos));
    return fail_at(lx, lx->pos, message);
}

/* One token inside of {{ }} or {% %}. */
static bool lex_inner(lexer *lx) {
    const char *s = lx->p->source;
    size_t n = float_length(lx, lx->pos);
    if (n > 0) return lex_float(lx, n);
    if (is_digit(s[lx->pos])) return lex_integer(lx);
    bool valid;
    n = name_length(lx, lx->pos, &valid);
    if (n > 0) {
        if (!valid) return fail_at(lx, lx->pos, "Invalid character in identifier");
        if (!push_text(lx, JJ_T_NAME, lx->pos, s + lx->pos, n)) return false;
        lx->pos += n;
        return true;
    }
    if (s[lx->pos] == '\'' || s[lx->pos] == '"') {
        size_t end = string_end(lx, lx->pos);
        if (end != 0) return lex_string(lx, end);
    }
    return lex_operator(lx);
}

static bool lex_tag(lexer *lx, bool is_variable) {
    const char *close = is_variable ? "}}" : "%}";
    lx->n_brackets = 0;
    while (lx->pos < lx->p->len) {
        size_t n = lx->n_brackets == 0 ? close_length(lx, lx->pos, close, !is_variable, !is_variable) : 0;
        if (n > 0) {
            if (push(lx, is_variable ? JJ_T_VARIABLE_END : JJ_T_BLOCK_END, lx->pos) == NULL) return false;
            lx->pos += n;
            return true;
        }
        size_t after = skip_space(lx, lx->pos);
        if (after > lx->pos) {
            lx->pos = after;
        } else if (!lex_inner(lx)) {
            return false;
        }
    }
    return true;
}

/* Template text up to the next tag, and that tag. */
static bool lex_root(lexer *lx) {
    const char *s = lx->p->source;
    size_t start = lx->pos, i = start;
    while (i + 1 < lx->p->len && !(s[i] == '{' && (s[i + 1] == '{' || s[i + 1] == '%' || s[i + 1] == '#'))) i++;
    if (i + 1 >= lx->p->len) {
        lx->pos = lx->p->len;
        return push_text(lx, JJ_T_DATA, start, s + start, lx->p->len - start);
    }
    char kind = s[i + 1], sign;
    size_t after_raw = kind == '%' ? raw_begin(lx, i, &sign) : 0;
    if (after_raw == 0) sign = sign_at(lx, i + 2);
    if (!emit_data(lx, start, i, sign, kind == '{')) return false;
    lx->pos = after_raw != 0 ? after_raw : i + 2 + (sign != '\0');
    lx->line_starting = s[lx->pos - 1] == '\n';
    bool ok;
    if (after_raw != 0) {
        ok = lex_raw(lx);
    } else if (kind == '#') {
        ok = lex_comment(lx);
    } else {
        ok = push(lx, kind == '{' ? JJ_T_VARIABLE_BEGIN : JJ_T_BLOCK_BEGIN, i) != NULL && lex_tag(lx, kind == '{');
    }
    lx->line_starting = lx->pos > 0 && s[lx->pos - 1] == '\n';
    return ok;
}

bool mr_jj_lex(jj_parse *p) {
    lexer lx = {.p = p, .line = 1, .column = 1, .line_starting = true};
    while (lx.pos < p->len) {
        if (!lex_root(&lx)) return false;
    }
    return push(&lx, JJ_T_EOF, p->len) != NULL;
}
