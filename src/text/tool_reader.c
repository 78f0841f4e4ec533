#include "text/tool_reader.h"

#include "base/utf8.h"

#include <string.h>

enum { MAX_NAME = 256 };

void mr_tool_call_clear(mr_tool_call *call) {
    mr_buf_clear(&call->id);
    mr_buf_clear(&call->name);
    mr_buf_clear(&call->arguments);
}

void mr_tool_call_free(mr_tool_call *call) {
    mr_buf_free(&call->id);
    mr_buf_free(&call->name);
    mr_buf_free(&call->arguments);
}

void mr_tool_reader_free(mr_tool_reader *reader) {
    mr_tool_call_free(&reader->call);
    mr_buf_free(&reader->key);
}

void mr_tool_reader_begin(mr_tool_reader *r, const char *mark, size_t at) {
    size_t n = mark != NULL ? strlen(mark) : 0;
    r->bare = mark == NULL;
    r->python_tag = mark != NULL && strcmp(mark, "<|python_tag|>") == 0;
    r->in_array = n > 0 && mark[n - 1] == '[';
    r->announced = false;
    r->phase = MR_TOOL_PHASE_CALL;
    r->at = at;
    r->n_calls = 0;
    mr_tool_call_clear(&r->call);
}

/* What a step works on. */
typedef struct input {
    const char *text;
    size_t len;
    bool end, cut;
} input;

typedef enum progress {
    GO_ON, /* the phase has changed or `at` has moved: look again */
    MORE = 100 + MR_TOOL_READ_MORE,
    NAME = 100 + MR_TOOL_READ_NAME,
    CALL = 100 + MR_TOOL_READ_CALL,
    OVER = 100 + MR_TOOL_READ_OVER,
    BAD = 100 + MR_TOOL_READ_BAD,
} progress;

/* More text would tell; at the end there is none, and it is no call. */
static progress more_or_bad(const input *in) {
    return in->end ? BAD : MORE;
}

static progress whole_call(mr_tool_reader *r) {
    r->phase = MR_TOOL_PHASE_AFTER;
    r->n_calls++;
    return r->call.name.failed || r->call.arguments.failed ? BAD : CALL;
}

/* The name is known now; it is told once. */
static progress announce(mr_tool_reader *r, progress then) {
    if (r->announced) return then;
    if (!mr_utf8_valid(mr_buf_cstr(&r->call.name), r->call.name.len)) return BAD;
    r->announced = true;
    return NAME;
}

/* A maybe is a no when no more comes. */
static mr_match settle(mr_match found, const input *in) {
    return found == MR_MATCH_MAYBE && in->end ? MR_MATCH_NO : found;
}

static mr_match match_list(const mr_tool_reader *r, const input *in, const char *const *marks, size_t *used) {
    mr_match found = mr_match_any(in->text + r->at, in->len - r->at, marks, MR_TOOL_MAX_MARKS, used);
    if (found == MR_MATCH_MAYBE && in->end && *used > 0) return MR_MATCH_FULL;
    return settle(found, in);
}

static void skip_blanks(mr_tool_reader *r, const input *in) {
    r->at += mr_count_blanks(in->text + r->at, in->len - r->at);
}

static bool reads_names(const mr_tool_format *format) {
    return format->style == MR_TOOL_STYLE_NAMED || format->after_name_too[0] != NULL;
}

/* --- JSON objects that are whole calls --- */

static progress in_json(mr_tool_reader *r, const input *in) {
    const char *object = in->text + r->start;
    size_t len = in->len - r->start;
    if (!r->announced) {
        bool not_a_call;
        mr_match found = mr_tool_peek_name(r, object, len, &r->call.name, &not_a_call);
        if (not_a_call) return BAD;
        if (found == MR_MATCH_FULL && r->bare && json_array_size(r->tools) > 0 &&
            mr_tool_find(r->tools, r->call.name.data, r->call.name.len) == NULL)
            return BAD;
        if (found == MR_MATCH_FULL) return announce(r, GO_ON);
    }
    size_t used;
    bool close_open = false;
    switch (mr_json_scan_push(&r->scan, object, len)) {
    case MR_JSON_SCAN_END:
        break;
    case MR_JSON_SCAN_MORE:
        if (!in->end || in->cut) return more_or_bad(in);
        close_open = true; /* the model ended its answer: what is open closes here */
        break;
    default:
        /* A closing mark where brackets are still open closes them. */
        r->at = r->start + r->scan.at;
        mr_match found = match_list(r, in, r->format->close, &used);
        if (found == MR_MATCH_MAYBE) return MORE;
        if (found == MR_MATCH_NO) return BAD;
        close_open = true;
    }
    r->at = r->start + r->scan.at;
    if (!mr_tool_read_json(r, object, r->scan.at, close_open, &r->call)) return BAD;
    if (!r->announced) return announce(r, GO_ON); /* reads it again, which is cheap beside what follows a call */
    return whole_call(r);
}

static progress begin_json(mr_tool_reader *r) {
    r->start = r->at;
    r->scan = (mr_json_scan){0};
    r->phase = MR_TOOL_PHASE_JSON;
    return GO_ON;
}

/* --- names --- */

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80) != 0 ||
           (c != '\0' && strchr("_-.:/", c) != NULL);
}

/* Takes the name before text[end): "functions.NAME:0" is an id as well. */
static void take_name(mr_tool_reader *r, const char *name, size_t n) {
    static const char PREFIX[] = "functions.";
    mr_buf_clear(&r->call.name);
    if (r->format->id_kind == MR_TOOL_ID_KIMI && n > sizeof PREFIX && memcmp(name, PREFIX, sizeof PREFIX - 1) == 0) {
        if (n < MR_TOOL_ID_MAX) mr_buf_append(&r->call.id, name, n);
        name += sizeof PREFIX - 1;
        n -= sizeof PREFIX - 1;
        size_t end = n;
        while (end > 0 && name[end - 1] >= '0' && name[end - 1] <= '9') end--;
        if (end > 1 && end < n && name[end - 1] == ':') n = end - 1;
    }
    mr_buf_append(&r->call.name, name, n);
}

/* The texts that end a name. */
static mr_match match_after_name(const mr_tool_reader *r, const char *text, size_t len, bool end, size_t *used) {
    const mr_tool_format *f = r->format;
    const char *marks[MR_TOOL_MAX_MARKS + 1] = {0};
    size_t n = 0;
    if (f->style == MR_TOOL_STYLE_NAMED) marks[n++] = f->id_kind == MR_TOOL_ID_KIMI ? f->after_id : f->after_name;
    for (size_t i = 0; f->after_name_too[i] != NULL; i++) marks[n++] = f->after_name_too[i];
    mr_match found = mr_match_any(text, len, marks, n, used);
    if (found == MR_MATCH_MAYBE && end) return *used > 0 ? MR_MATCH_FULL : MR_MATCH_NO;
    return found;
}

/* Behind a name may stand the model's own id (Mistral): [CALL_ID]id[ARGS]. */
static progress read_id_between(mr_tool_reader *r, const input *in) {
    size_t i = r->at;
    while (i < in->len && i - r->at < MR_TOOL_ID_MAX && is_name_char(in->text[i])) i++;
    if (i == in->len) return more_or_bad(in);
    mr_match found = mr_match_exact(in->text + i, in->len - i, r->format->after_id);
    if (found == MR_MATCH_MAYBE) return more_or_bad(in);
    if (found == MR_MATCH_NO) return BAD;
    mr_buf_clear(&r->call.id);
    mr_buf_append(&r->call.id, in->text + r->at, i - r->at);
    r->at = i + strlen(r->format->after_id);
    return GO_ON;
}

static bool is_text_recipient(const mr_tool_reader *r) {
    return r->format->open_by_prompt && strcmp(mr_buf_cstr(&r->call.name), "all") == 0;
}

/* Whether the name is one that the format may call: plain text like `>>>` needs a known one. */
static bool name_may_be(const mr_tool_reader *r, const mr_buf *name) {
    if (!r->format->open_by_prompt || json_array_size(r->tools) == 0 || is_text_recipient(r)) return true;
    return mr_tool_find(r->tools, name->data, name->len) != NULL;
}

static progress read_named(mr_tool_reader *r, const input *in) {
    size_t i = r->at, name_end = 0, used = 0;
    mr_match found = MR_MATCH_NO;
    for (;; i++) {
        if (i == in->len) return more_or_bad(in);
        found = i > r->at ? match_after_name(r, in->text + i, in->len - i, in->end, &used) : MR_MATCH_NO;
        if (found != MR_MATCH_NO) break;
        if (i - r->at >= MAX_NAME) return BAD;
        if (mr_is_blank(in->text[i]) && i > r->at) {
            if (name_end == 0) name_end = i;
        } else if (in->text[i] == '{' && i > r->at) {
            break;
        } else if (!is_name_char(in->text[i]) || name_end != 0) {
            return BAD;
        }
    }
    if (found == MR_MATCH_MAYBE) return MORE;
    take_name(r, in->text + r->at, (name_end != 0 ? name_end : i) - r->at);
    if (!name_may_be(r, &r->call.name)) return BAD;
    bool has_id = r->format->id_place == MR_TOOL_ID_BETWEEN && r->format->id_kind != MR_TOOL_ID_KIMI && used > 0 &&
                  strncmp(in->text + i, r->format->after_name, used) == 0;
    size_t before = r->at;
    r->at = i + used;
    if (is_text_recipient(r)) return OVER;
    if (has_id) {
        progress got = read_id_between(r, in);
        if (got != GO_ON) {
            r->at = before; /* the name is read again with the id */
            return got;
        }
    }
    r->start = r->at;
    r->scan = (mr_json_scan){0};
    r->phase = MR_TOOL_PHASE_ARGS;
    return announce(r, GO_ON);
}

/* Whether the tool of this name takes code as it is, in place of JSON. */
static bool takes_code(const mr_tool_reader *r) {
    static const char *const names[] = {"python", "code_interpreter", "ipython"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(mr_buf_cstr(&r->call.name), names[i]) == 0)
            return mr_tool_find(r->tools, names[i], strlen(names[i])) != NULL;
    }
    return false;
}

/* The arguments behind a name. */
static progress in_arguments(mr_tool_reader *r, const input *in) {
    if (r->scan.at == 0) {
        r->start += mr_count_blanks(in->text + r->start, in->len - r->start);
        if (r->start == in->len) return more_or_bad(in);
        if (in->text[r->start] != '{') {
            if (!takes_code(r)) return BAD;
            r->phase = MR_TOOL_PHASE_CODE;
            return GO_ON;
        }
    }
    bool close_open = false;
    size_t used;
    switch (mr_json_scan_push(&r->scan, in->text + r->start, in->len - r->start)) {
    case MR_JSON_SCAN_END:
        break;
    case MR_JSON_SCAN_MORE:
        if (!in->end || in->cut) return more_or_bad(in);
        close_open = true;
        break;
    default:
        r->at = r->start + r->scan.at;
        mr_match found = match_list(r, in, r->format->close, &used);
        if (found == MR_MATCH_MAYBE) return MORE;
        if (found == MR_MATCH_NO) return BAD;
        close_open = true;
    }
    r->at = r->start + r->scan.at;
    mr_buf_clear(&r->call.arguments);
    if (!mr_json_compact(in->text + r->start, r->scan.at, close_open, &r->call.arguments)) return BAD;
    return whole_call(r);
}

/* Code goes on to the next mark or the end. */
static progress in_code(mr_tool_reader *r, const input *in) {
    const char *const *stops = r->format->open_by_prompt ? r->format->open : r->format->close;
    size_t i = r->at > r->start ? r->at : r->start, used;
    mr_match found = MR_MATCH_NO;
    for (; i < in->len; i++) {
        found = settle(mr_match_any(in->text + i, in->len - i, stops, MR_TOOL_MAX_MARKS, &used), in);
        if (found != MR_MATCH_NO) break;
    }
    r->at = i;
    if (found == MR_MATCH_MAYBE) return MORE;
    if (i == in->len && (!in->end || in->cut)) return more_or_bad(in);
    mr_buf_clear(&r->call.arguments);
    mr_buf_puts(&r->call.arguments, "{\"code\":");
    if (!mr_json_quote(in->text + r->start, i - r->start, &r->call.arguments)) return BAD;
    mr_buf_putc(&r->call.arguments, '}');
    return whole_call(r);
}

/* --- arguments in tags --- */

static progress read_tagged(mr_tool_reader *r, const input *in) {
    size_t i = r->at, used = 0;
    while (i < in->len && is_name_char(in->text[i]) && i - r->at <= MAX_NAME) i++;
    if (i == in->len && !in->end) return MORE;
    if (i == r->at || i - r->at > MAX_NAME) return BAD;
    bool has_mark =
        mr_count_blanks(r->format->after_name, strlen(r->format->after_name)) < strlen(r->format->after_name);
    if (has_mark) {
        mr_match found = mr_match_loose(in->text + i, in->len - i, r->format->after_name, &used);
        if (found == MR_MATCH_MAYBE) return more_or_bad(in);
        if (found == MR_MATCH_NO) return BAD;
    }
    mr_buf_clear(&r->call.name);
    mr_buf_append(&r->call.name, in->text + r->at, i - r->at);
    mr_buf_clear(&r->call.arguments);
    mr_buf_putc(&r->call.arguments, '{');
    r->at = i + used;
    r->phase = MR_TOOL_PHASE_PARAM;
    return has_mark ? announce(r, GO_ON) : GO_ON;
}

static progress end_tagged(mr_tool_reader *r) {
    mr_buf_putc(&r->call.arguments, '}');
    return whole_call(r);
}

/* The key behind param_open, up to after_key. */
static progress read_key(mr_tool_reader *r, const input *in, size_t at) {
    for (size_t i = at; i - at <= MAX_NAME; i++) {
        size_t used;
        if (i == in->len) return more_or_bad(in);
        mr_match found = mr_match_loose(in->text + i, in->len - i, r->format->after_key, &used);
        if (found == MR_MATCH_MAYBE) return more_or_bad(in);
        if (found == MR_MATCH_NO && in->text[i] != '\n') continue;
        if (found == MR_MATCH_NO || i == at) return BAD;
        mr_buf_clear(&r->key);
        mr_buf_append(&r->key, in->text + at, i - at);
        r->at = r->start = i + used;
        r->phase = MR_TOOL_PHASE_VALUE;
        return GO_ON;
    }
    return BAD;
}

/* Whether a name and what stands behind it so far can't be plain text. */
static bool is_surely_call(const mr_tool_reader *r) {
    return r->announced || mr_tool_find(r->tools, mr_buf_cstr(&r->call.name), r->call.name.len) != NULL;
}

static progress in_params(mr_tool_reader *r, const input *in) {
    size_t used;
    skip_blanks(r, in);
    if (r->at == in->len) {
        if (!in->end || in->cut || !is_surely_call(r)) return more_or_bad(in);
        if (!r->announced) return announce(r, GO_ON);
        return end_tagged(r); /* only the closing tag is missing */
    }
    mr_match key = mr_match_loose(in->text + r->at, in->len - r->at, r->format->param_open, &used);
    if (key == MR_MATCH_FULL) {
        if (!r->announced) return announce(r, GO_ON);
        return read_key(r, in, r->at + used);
    }
    mr_match close = match_list(r, in, r->format->close, &used);
    if (close == MR_MATCH_FULL) return r->announced ? end_tagged(r) : announce(r, GO_ON);
    return key == MR_MATCH_MAYBE || close == MR_MATCH_MAYBE ? more_or_bad(in) : BAD;
}

/* One line break at either end belongs to the format where the format has one there. */
static void trim_value(const mr_tool_format *f, const char **value, size_t *len) {
    size_t n_after = strlen(f->after_key);
    if (n_after > 0 && f->after_key[n_after - 1] == '\n' && *len > 0 && **value == '\n') {
        ++*value;
        --*len;
    }
    if (f->param_close[0] == '\n' && *len > 0 && (*value)[*len - 1] == '\n') --*len;
}

static progress in_value(mr_tool_reader *r, const input *in) {
    const char *close = r->format->param_close;
    close += mr_count_blanks(close, strlen(close));
    for (; r->at < in->len; r->at++) {
        size_t used;
        const char *next = memchr(in->text + r->at, close[0], in->len - r->at);
        if (next == NULL) {
            r->at = in->len;
            break;
        }
        r->at = (size_t)(next - in->text);
        mr_match found = mr_match_loose(next, in->len - r->at, close, &used);
        if (found == MR_MATCH_NO) continue;
        if (found == MR_MATCH_MAYBE) break;
        const char *value = in->text + r->start;
        size_t len = r->at - r->start;
        trim_value(r->format, &value, &len);
        if (!mr_tool_put_param(r->tools, &r->call.name, &r->key, value, len, &r->call.arguments)) return BAD;
        r->at += used;
        r->phase = MR_TOOL_PHASE_PARAM;
        return GO_ON;
    }
    return more_or_bad(in);
}

/* --- Python --- */

/* name( … ) or Llama's name.call( … ) */
static progress read_python(mr_tool_reader *r, const input *in) {
    static const char CALL_SUFFIX[] = ".call";
    size_t i = r->at;
    while (i < in->len && is_name_char(in->text[i]) && i - r->at <= MAX_NAME) i++;
    if (i == in->len && i - r->at <= MAX_NAME) return more_or_bad(in);
    if (i == r->at || in->text[i] != '(') return BAD;
    size_t n = i - r->at, suffix = sizeof CALL_SUFFIX - 1;
    if (r->python_tag) {
        if (n <= suffix || memcmp(in->text + i - suffix, CALL_SUFFIX, suffix) != 0) return BAD;
        n -= suffix;
    }
    mr_buf_clear(&r->call.name);
    mr_buf_append(&r->call.name, in->text + r->at, n);
    r->start = i;
    r->python = (mr_python_scan){0};
    r->phase = MR_TOOL_PHASE_PYTHON;
    return announce(r, GO_ON);
}

static progress in_python(mr_tool_reader *r, const input *in) {
    if (!mr_python_scan_push(&r->python, in->text + r->start, in->len - r->start)) return more_or_bad(in);
    r->at = r->start + r->python.at;
    mr_buf_clear(&r->call.arguments);
    if (!mr_python_arguments(in->text + r->start + 1, r->python.at - 2, &r->call.arguments)) return BAD;
    return whole_call(r);
}

/* Behind <|python_tag|>: a call, or code where a tool takes code. */
static progress read_python_tag(mr_tool_reader *r, const input *in) {
    static const char *const names[] = {"python", "code_interpreter", "ipython"};
    progress got = read_python(r, in);
    if (got != BAD) return got;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (mr_tool_find(r->tools, names[i], strlen(names[i])) == NULL) continue;
        mr_buf_clear(&r->call.name);
        mr_buf_puts(&r->call.name, names[i]);
        r->start = r->at;
        r->phase = MR_TOOL_PHASE_CODE;
        return announce(r, GO_ON);
    }
    return BAD;
}

/* --- around calls --- */

static progress before_call(mr_tool_reader *r, const input *in) {
    size_t used;
    skip_blanks(r, in);
    mr_match found = match_list(r, in, r->format->between, &used);
    if (found == MR_MATCH_FULL) {
        r->at += used;
        return GO_ON;
    }
    if (found == MR_MATCH_MAYBE || r->at == in->len) return more_or_bad(in);
    char c = in->text[r->at];
    if (c == '[' && !r->in_array && !r->bare && r->format->style != MR_TOOL_STYLE_PARAMS) {
        r->in_array = true;
        r->at++;
        return GO_ON;
    }
    if (c == ']' && r->in_array) {
        r->in_array = false;
        r->at++;
        r->phase = MR_TOOL_PHASE_AFTER;
        return GO_ON;
    }
    if (c == '{') return begin_json(r);
    if (r->python_tag) return read_python_tag(r, in);
    if (r->format->style == MR_TOOL_STYLE_PARAMS) return read_tagged(r, in);
    if (r->format->style == MR_TOOL_STYLE_PYTHON) return read_python(r, in);
    if (!r->in_array && reads_names(r->format)) return read_named(r, in);
    return BAD;
}

/* Stray closing brackets in front of a closing mark go with it; *n is set to their number. */
static mr_match match_close(const mr_tool_reader *r, const input *in, size_t at, size_t *n) {
    enum { MAX_STRAY = 16 };
    size_t i = at, used;
    while (i < in->len && i - at < MAX_STRAY && (mr_is_blank(in->text[i]) || in->text[i] == '}')) i++;
    if (i == in->len && i - at < MAX_STRAY) return in->end ? MR_MATCH_NO : MR_MATCH_MAYBE;
    mr_match found = mr_match_any(in->text + i, in->len - i, r->format->close, MR_TOOL_MAX_MARKS, &used);
    *n = i - at + used;
    return settle(found, in);
}

static progress next_call(mr_tool_reader *r, size_t at) {
    r->at = at;
    r->phase = MR_TOOL_PHASE_CALL;
    r->announced = false;
    mr_tool_call_clear(&r->call);
    return GO_ON;
}

static progress after_call(mr_tool_reader *r, const input *in) {
    enum { MAX_BLANKS = 256 };
    size_t used, at = r->at + mr_count_blanks(in->text + r->at, in->len - r->at);
    if (at == in->len) return in->end || at - r->at > MAX_BLANKS ? OVER : MORE;
    char c = in->text[at];
    if (r->in_array && (c == ',' || c == ']')) {
        if (c == ',') return next_call(r, at + 1);
        r->in_array = false;
        r->at = at + 1;
        return GO_ON;
    }
    if (r->format->close[0] != NULL) {
        mr_match found = match_close(r, in, r->at, &used);
        if (found == MR_MATCH_MAYBE) return MORE;
        if (found == MR_MATCH_FULL) {
            r->at += used;
            r->in_array = false;
            return GO_ON;
        }
    }
    if (r->in_array) return OVER;
    size_t from = r->at;
    r->at = at;
    mr_match found = match_list(r, in, r->format->between, &used);
    if (found == MR_MATCH_NO) found = match_list(r, in, r->format->open, &used);
    r->at = from;
    if (found == MR_MATCH_MAYBE) return MORE;
    if (found == MR_MATCH_FULL) {
        /* The mark of the next call begins a section of its own. */
        mr_match opens = mr_match_any(in->text + at, in->len - at, r->format->open, MR_TOOL_MAX_MARKS, &used);
        return opens == MR_MATCH_FULL ? OVER : next_call(r, at);
    }
    if (c == '{' && r->format->style == MR_TOOL_STYLE_JSON) return next_call(r, at);
    if (c == ';' && r->format->style == MR_TOOL_STYLE_JSON && r->bare) {
        size_t after = at + 1 + mr_count_blanks(in->text + at + 1, in->len - at - 1);
        if (after == in->len && !in->end) return MORE;
        if (after < in->len && in->text[after] == '{') return next_call(r, after);
    }
    return OVER;
}

static progress look(mr_tool_reader *r, const input *in) {
    switch (r->phase) {
    case MR_TOOL_PHASE_JSON:
        return in_json(r, in);
    case MR_TOOL_PHASE_ARGS:
        return in_arguments(r, in);
    case MR_TOOL_PHASE_PARAM:
        return in_params(r, in);
    case MR_TOOL_PHASE_VALUE:
        return in_value(r, in);
    case MR_TOOL_PHASE_PYTHON:
        return in_python(r, in);
    case MR_TOOL_PHASE_CODE:
        return in_code(r, in);
    case MR_TOOL_PHASE_AFTER:
        return after_call(r, in);
    default:
        return before_call(r, in);
    }
}

mr_tool_read mr_tool_reader_step(mr_tool_reader *reader, const char *text, size_t len, bool end, bool cut) {
    input in = {text, len, end, cut};
    for (;;) {
        progress got = look(reader, &in);
        if (got != GO_ON) return (mr_tool_read)(got - 100);
    }
}
