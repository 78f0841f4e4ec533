/* gpt-oss: an answer is a row of messages, each with a header that names its channel and, for calls, its recipient:
 *
 *     <|start|>assistant<|channel|>analysis<|message|>…<|end|>
 *     <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>
 *     <|start|>assistant<|channel|>final<|message|>…<|return|>
 *
 * The first header begins in the prompt. The recipient may stand on either side of the channel. analysis is a thought;
 * commentary without a recipient and final are content. */
#include "base/utf8.h"
#include "text/output_parser_impl.h"

#include <string.h>

static const char START[] = "<|start|>", CHANNEL[] = "<|channel|>", MESSAGE[] = "<|message|>",
                  CONSTRAIN[] = "<|constrain|>";

enum { MAX_HEADER = 512 };

/* --- headers --- */

static size_t word_len(const char *text) {
    return strcspn(text, " \t\r\n<");
}

static bool channel_is(const mr_output_parser *p, const char *name) {
    const char *at = strstr(mr_buf_cstr(&p->header), CHANNEL);
    if (at == NULL) return false;
    at += sizeof CHANNEL - 1;
    return word_len(at) == strlen(name) && strncmp(at, name, strlen(name)) == 0;
}

/* The function that a header calls. */
static bool find_recipient(const mr_output_parser *p, const char **name, size_t *len) {
    static const char TO[] = "to=", FUNCTIONS[] = "functions.";
    const char *at = strstr(mr_buf_cstr(&p->header), TO);
    if (at == NULL) return false;
    at += sizeof TO - 1;
    *len = word_len(at);
    *name = at;
    if (*len > sizeof FUNCTIONS - 1 && strncmp(at, FUNCTIONS, sizeof FUNCTIONS - 1) == 0) {
        *name += sizeof FUNCTIONS - 1;
        *len -= sizeof FUNCTIONS - 1;
        return mr_utf8_valid(*name, *len);
    }
    return *len > 0 && mr_utf8_valid(*name, *len) && mr_tool_find(p->options.tool_list, *name, *len) != NULL;
}

/* Thoughts and contents of several messages are paragraphs of their own. */
static bool begin_body(mr_output_parser *p, mr_error *err) {
    const char *name;
    size_t len;
    if (find_recipient(p, &name, &len)) {
        mr_tool_call_clear(&p->reader.call);
        mr_buf_append(&p->reader.call.name, name, len);
        p->scan = (mr_json_scan){0};
        p->looked = 0;
        p->place = MR_HARMONY_CALL;
        return mr_output_started(p, mr_buf_cstr(&p->reader.call.name), err);
    }
    if (channel_is(p, "analysis")) {
        p->place = MR_HARMONY_THOUGHT;
        bool ok = !p->has_thought || mr_output_thought(p, "\n", 1, err);
        p->has_thought = true;
        return ok;
    }
    p->place = MR_HARMONY_CONTENT;
    bool ok = !p->has_content || mr_output_content(p, "\n", 1, err);
    p->has_content = true;
    return ok;
}

static void begin_header(mr_output_parser *p, const char *mark) {
    p->place = MR_HARMONY_HEADER;
    mr_buf_clear(&p->header);
    if (mark == CHANNEL) mr_buf_puts(&p->header, mark);
}

/* Whether what stands in a header's place is none: the model answers in plain text. */
static bool is_plain_text(const mr_buf *header) {
    static const char *const begins[] = {"assistant", "to="};
    const char *text = mr_buf_cstr(header);
    size_t blanks = mr_count_blanks(text, header->len), len = header->len - blanks;
    text += blanks;
    if (len > MAX_HEADER) return true;
    if (len == 0 || strncmp(text, "<|", len < 2 ? len : 2) == 0) return false;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t n = strlen(begins[i]);
        if (strncmp(text, begins[i], len < n ? len : n) == 0) return false;
    }
    return true;
}

static bool header_as_content(mr_output_parser *p, mr_error *err) {
    p->place = MR_HARMONY_CONTENT;
    p->has_content = true;
    bool ok = mr_output_content(p, mr_buf_cstr(&p->header), p->header.len, err);
    mr_buf_clear(&p->header);
    return ok;
}

static bool in_header(mr_output_parser *p, size_t n, const char *mark, mr_error *err) {
    for (size_t i = 0; i < n; i++) {
        mr_buf_putc(&p->header, p->held.data[i]);
        if (!is_plain_text(&p->header)) continue;
        mr_output_drop(p, i + 1);
        return header_as_content(p, err);
    }
    mr_output_drop(p, n + (mark != NULL ? strlen(mark) : 0));
    if (mark == NULL) return true;
    if (mark == MESSAGE) return begin_body(p, err);
    if (mark == CHANNEL || mark == CONSTRAIN)
        mr_buf_puts(&p->header, mark);
    else
        mr_buf_clear(&p->header);
    return true;
}

/* --- bodies --- */

static bool end_body(mr_output_parser *p, const char *mark) {
    mr_output_drop(p, strlen(mark));
    if (mark != MESSAGE && mark != CONSTRAIN) begin_header(p, mark);
    return true;
}

static bool in_text(mr_output_parser *p, size_t n, const char *mark, mr_error *err) {
    bool ok = true;
    if (p->place == MR_HARMONY_THOUGHT)
        ok = mr_output_thought(p, p->held.data, n, err);
    else if (p->place == MR_HARMONY_CONTENT)
        ok = mr_output_content(p, p->held.data, n, err);
    mr_output_drop(p, n);
    return ok && (mark == NULL || end_body(p, mark));
}

/* The arguments are held[0..n): a call, or text when they are no JSON. */
static bool end_call(mr_output_parser *p, size_t n, bool close_open, mr_error *err) {
    mr_tool_call *call = &p->reader.call;
    const char *text = mr_buf_cstr(&p->held);
    bool blank = mr_count_blanks(text, n) == n, ok;
    if (blank)
        ok = mr_buf_puts(&call->arguments, "{}");
    else
        ok = text[mr_count_blanks(text, n)] == '{' && mr_json_compact(text, n, close_open, &call->arguments);
    if (!ok && strcmp(mr_buf_cstr(&call->name), "python") == 0) {
        mr_buf_puts(&call->arguments, "{\"code\":");
        ok = mr_json_quote(text, n, &call->arguments) && mr_buf_putc(&call->arguments, '}');
    }
    ok = ok && call->name.len > 0 ? mr_output_call(p, call, err) : mr_output_content(p, text, n, err);
    mr_output_drop(p, n);
    p->place = MR_HARMONY_SKIP;
    return ok;
}

static mr_match find_mark(const char *text, size_t len, const char **mark) {
    static const char *const names[] = {"<|end|>", "<|call|>", "<|return|>"};
    const char *const marks[] = {START, CHANNEL, MESSAGE, CONSTRAIN, names[0], names[1], names[2]};
    mr_match best = MR_MATCH_NO;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        mr_match found = mr_match_exact(text, len, marks[i]);
        if (found > best) best = found;
        if (found == MR_MATCH_FULL) *mark = marks[i];
    }
    return best;
}

/* The bytes in front of the next mark, or of what may become one. */
static size_t find_text(mr_output_parser *p, bool end, const char **mark) {
    size_t n = p->place == MR_HARMONY_CALL ? p->looked : 0;
    *mark = NULL;
    for (; n < p->held.len; n++) {
        if (p->held.data[n] != '<') continue;
        mr_match found = find_mark(p->held.data + n, p->held.len - n, mark);
        if (found == MR_MATCH_FULL || (found == MR_MATCH_MAYBE && !end)) break;
    }
    p->looked = n;
    return n;
}

/* An object is whole where its last bracket closes; anything else where the message ends. */
static bool in_call(mr_output_parser *p, bool end, bool cut, mr_error *err) {
    const char *mark;
    size_t len = p->held.len, blanks = len > 0 ? mr_count_blanks(p->held.data, len) : 0;
    mr_json_scanned scanned = MR_JSON_SCAN_BROKEN;
    if (blanks < len && p->held.data[blanks] == '{')
        scanned = mr_json_scan_push(&p->scan, p->held.data + blanks, len - blanks);
    if (scanned == MR_JSON_SCAN_END) return end_call(p, blanks + p->scan.at, false, err);
    if (scanned == MR_JSON_SCAN_MORE && !end) return false;
    size_t n = find_text(p, end, &mark);
    if (mark != NULL) return end_call(p, n, true, err);
    if (!end) return false;
    if (!cut) return end_call(p, len, true, err);
    p->place = MR_HARMONY_CONTENT; /* cut short: text */
    return len > 0;
}

bool mr_harmony_step(mr_output_parser *p, bool end, bool cut, mr_error *err) {
    if (p->place == MR_HARMONY_CALL) return in_call(p, end, cut, err);
    const char *mark;
    size_t n = find_text(p, end, &mark);
    if (n == 0 && mark == NULL) return false;
    return p->place == MR_HARMONY_HEADER ? in_header(p, n, mark, err) : in_text(p, n, mark, err);
}
