#include "text/output_parser.h"

#include "base/utf8.h"

#include "text/output_parser_impl.h"

#include <stdlib.h>
#include <string.h>

/* The marks of a format: those that begin calls come first. Returns their number; `marks` has room for all. */
static size_t list_marks(const mr_tool_format *f, mr_output_mark *marks) {
    const char *const *const lists[] = {f->open, f->between, f->close, f->after_name_too};
    const char *const singles[] = {f->after_name, f->after_id};
    size_t n = 0;
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        for (size_t i = 0; i < MR_TOOL_MAX_MARKS && lists[k][i] != NULL; i++) {
            bool control = mr_tool_mark_is_control(lists[k][i]);
            if (k == 0 || control) marks[n++] = (mr_output_mark){lists[k][i], k == 0, control};
        }
    }
    for (size_t i = 0; i < sizeof singles / sizeof *singles; i++) {
        if (mr_tool_mark_is_control(singles[i])) marks[n++] = (mr_output_mark){singles[i], false, true};
    }
    return n;
}

static void prepare_marks(mr_output_parser *p) {
    p->n_marks = list_marks(p->options.tools, p->marks);
    for (size_t i = 0; i < p->n_marks; i++) p->begins_mark[(unsigned char)p->marks[i].text[0]] = true;
    if (p->options.tools->bare_json) p->begins_mark['{'] = true;
}

mr_output_parser *mr_output_parser_new(const mr_output_options *options) {
    mr_output_parser *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->options = *options;
    p->ids = json_object();
    mr_reasoning_init(&p->split, options->reasoning, options->reasoning_open);
    p->reader.format = options->tools;
    p->reader.tools = options->tool_list;
    if (options->tools != NULL) prepare_marks(p);
    if (options->tools != NULL && options->tools_open) {
        p->mark = options->tools->open[0];
        p->reading = true;
        mr_tool_reader_begin(&p->reader, p->mark, 0);
    }
    if (p->ids != NULL) return p;
    mr_output_parser_free(p);
    return NULL;
}

void mr_output_parser_free(mr_output_parser *p) {
    if (p == NULL) return;
    mr_buf *const bufs[] = {&p->held, &p->split.held, &p->content, &p->thought, &p->blanks, &p->id, &p->header};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) mr_buf_free(bufs[i]);
    mr_tool_reader_free(&p->reader);
    json_decref(p->ids);
    free(p);
}

size_t mr_output_parser_n_calls(const mr_output_parser *parser) {
    return parser->n_calls;
}

void mr_output_drop(mr_output_parser *p, size_t n) {
    if (n == 0) return;
    memmove(p->held.data, p->held.data + n, p->held.len - n + 1);
    p->held.len -= n;
}

/* --- events --- */

static bool no_memory(mr_output_parser *p, mr_error *err) {
    p->status = mr_fail(err, MR_ERR_NOMEM, "there is no memory for the answer's text");
    return false;
}

static bool send(mr_output_parser *p, const mr_output_event *event, mr_error *err) {
    if (p->status == MR_OK) p->status = p->options.on_event(p->options.ctx, event, err);
    return p->status == MR_OK;
}

static bool send_text(mr_output_parser *p, mr_output_kind kind, const char *text, size_t len, mr_error *err) {
    if (len == 0) return p->status == MR_OK;
    mr_output_event event = {.kind = kind, .text = text, .len = len};
    return send(p, &event, err);
}

/* Content, with the blanks at its end kept back: in front of a call they are no part of the text. */
static bool send_content(mr_output_parser *p, const char *text, size_t len, mr_error *err) {
    if (p->options.tools == NULL) return send_text(p, MR_OUTPUT_CONTENT, text, len, err);
    if (!p->said && p->n_calls > 0) {
        size_t skip = mr_count_blanks(text, len);
        text += skip;
        len -= skip;
    }
    size_t end = len;
    while (end > 0 && mr_is_blank(text[end - 1])) end--;
    if (end > 0) {
        p->said = true;
        if (!mr_buf_append(&p->blanks, text, end)) return no_memory(p, err);
        bool ok = send_text(p, MR_OUTPUT_CONTENT, p->blanks.data, p->blanks.len, err);
        mr_buf_clear(&p->blanks);
        if (!ok) return false;
    }
    return end == len || mr_buf_append(&p->blanks, text + end, len - end) || no_memory(p, err);
}

/* Thoughts that stay in the content are marked the common way. */
static bool merge(mr_output_parser *p, bool thought, const char *text, size_t len, mr_error *err) {
    static const char OPEN[] = "<think>\n", CLOSE[] = "\n</think>\n\n";
    if (len == 0 && thought) return true;
    if (thought != p->merge_open) {
        p->merge_open = thought;
        const char *tag = thought ? OPEN : CLOSE;
        if (!send_content(p, tag, strlen(tag), err)) return false;
    }
    return len == 0 || send_content(p, text, len, err);
}

bool mr_output_content(mr_output_parser *p, const char *text, size_t len, mr_error *err) {
    if (len == 0) return true;
    return p->options.extract_reasoning ? send_content(p, text, len, err) : merge(p, false, text, len, err);
}

bool mr_output_thought(mr_output_parser *p, const char *text, size_t len, mr_error *err) {
    return p->options.extract_reasoning ? send_text(p, MR_OUTPUT_REASONING, text, len, err)
                                        : merge(p, true, text, len, err);
}

bool mr_output_end_thought(mr_output_parser *p, mr_error *err) {
    return merge(p, false, "", 0, err);
}

bool mr_output_started(mr_output_parser *p, const char *name, mr_error *err) {
    if (!mr_output_end_thought(p, err)) return false;
    mr_output_event event = {.kind = MR_OUTPUT_CALL_STARTED, .index = p->n_calls, .name = name};
    return send(p, &event, err);
}

/* The model's own id, unless it gave none, gave it before, or the format takes other ids only. */
static bool choose_id(mr_output_parser *p, const mr_tool_call *call) {
    const mr_tool_format *f = p->options.tools;
    const char *own = mr_buf_cstr(&call->id);
    bool good = call->id.len > 0 && strlen(own) == call->id.len && mr_utf8_valid(own, call->id.len) &&
                json_object_get(p->ids, own) == NULL;
    if (good && f->id_kind == MR_TOOL_ID_ALNUM9) good = call->id.len == 9;
    mr_buf_clear(&p->id);
    if (good) {
        mr_buf_puts(&p->id, own);
    } else {
        char id[MR_TOOL_ID_MAX];
        size_t number = p->options.first_number + p->n_calls;
        do {
            mr_tool_new_id(f, mr_buf_cstr(&call->name), number++, id);
        } while (json_object_get(p->ids, id) != NULL);
        mr_buf_puts(&p->id, id);
    }
    return !p->id.failed && json_object_set_new(p->ids, mr_buf_cstr(&p->id), json_true()) == 0;
}

bool mr_output_call(mr_output_parser *p, const mr_tool_call *call, mr_error *err) {
    if (!choose_id(p, call)) return no_memory(p, err);
    mr_output_event event = {
        .kind = MR_OUTPUT_CALL,
        .index = p->n_calls++,
        .name = mr_buf_cstr(&call->name),
        .id = mr_buf_cstr(&p->id),
        .arguments = mr_buf_cstr(&call->arguments),
    };
    if (!p->said) mr_buf_clear(&p->blanks);
    return send(p, &event, err);
}

/* --- text outside of calls --- */

/* Whether thoughts that are not extracted keep the model's own marks: those of plain text do. */
static bool keeps_marks(const mr_output_parser *p) {
    return !p->options.extract_reasoning && !p->split.format->control;
}

static bool send_split(mr_output_parser *p, mr_error *err) {
    if (keeps_marks(p)) return true;
    return mr_output_thought(p, mr_buf_cstr(&p->thought), p->thought.len, err) &&
           mr_output_content(p, mr_buf_cstr(&p->content), p->content.len, err);
}

static void clear_split(mr_output_parser *p) {
    mr_buf_clear(&p->content);
    mr_buf_clear(&p->thought);
}

/* Text that is no part of a call goes on to the split. In small pieces: each holds thoughts before content, or content
 * before thoughts, hardly ever both. */
static bool put_text(mr_output_parser *p, const char *text, size_t len, mr_error *err) {
    if (keeps_marks(p) && len > 0 && !send_content(p, text, len, err)) return false;
    size_t step = p->options.extract_reasoning ? 256 : 1;
    for (size_t at = 0; at < len; at += step) {
        clear_split(p);
        size_t n = len - at < step ? len - at : step;
        if (!mr_reasoning_push(&p->split, text + at, n, &p->content, &p->thought)) return no_memory(p, err);
        if (!send_split(p, err)) return false;
    }
    return true;
}

static bool close_split(mr_output_parser *p, mr_error *err) {
    clear_split(p);
    if (!mr_reasoning_close(&p->split, &p->content, &p->thought)) return no_memory(p, err);
    return send_split(p, err);
}

typedef struct found_mark {
    mr_match match;
    const char *text; /* the mark, where FULL */
    bool opens;       /* it begins calls; else it is a stray one */
} found_mark;

static void look_for(const char *text, size_t len, const char *mark, bool opens, found_mark *found) {
    mr_match match = mr_match_exact(text, len, mark);
    if (match == MR_MATCH_MAYBE) found->match = match;
    if (match != MR_MATCH_FULL || (found->text != NULL && strlen(found->text) >= strlen(mark))) return;
    if (found->match == MR_MATCH_NO) found->match = match;
    found->text = mark;
    found->opens = opens;
}

/* The mark that text[0..len) begins with, if any. In a thought, only control tokens count. */
static found_mark find_mark(const mr_output_parser *p, const char *text, size_t len, bool end) {
    found_mark found = {.match = MR_MATCH_NO};
    for (size_t i = 0; i < p->n_marks; i++) {
        const mr_output_mark *mark = &p->marks[i];
        if (mark->control || !p->split.inside) look_for(text, len, mark->text, mark->opens, &found);
    }
    if (found.match == MR_MATCH_MAYBE && end) found.match = found.text != NULL ? MR_MATCH_FULL : MR_MATCH_NO;
    return found;
}

static bool begin_section(mr_output_parser *p, const char *mark, mr_error *err) {
    p->mark = mark;
    p->n_mark = mark != NULL ? strlen(mark) : 1;
    p->reading = true;
    mr_tool_reader_begin(&p->reader, mark, mark != NULL ? p->n_mark : 0);
    return mark == NULL || !mr_tool_mark_is_control(mark) || close_split(p, err);
}

/* Whether a JSON object here may be a call without a mark: nothing was said before it. */
static bool bare_may_begin(const mr_output_parser *p) {
    return p->options.tools->bare_json && !p->split.said_something && !p->split.inside &&
           mr_count_blanks(mr_buf_cstr(&p->split.held), p->split.held.len) == p->split.held.len;
}

/* Handles text up to the next mark. */
static bool step_text(mr_output_parser *p, bool end, mr_error *err) {
    size_t n = 0;
    while (n < p->held.len && !p->begins_mark[(unsigned char)p->held.data[n]]) n++;
    if (n > 0) {
        bool ok = put_text(p, p->held.data, n, err);
        mr_output_drop(p, n);
        return ok;
    }
    if (p->held.len == 0) return false;
    if (p->held.data[0] == '{' && bare_may_begin(p)) return begin_section(p, NULL, err);
    found_mark found = find_mark(p, p->held.data, p->held.len, end);
    if (found.match == MR_MATCH_MAYBE) return false;
    if (found.match == MR_MATCH_FULL && found.opens) return begin_section(p, found.text, err);
    size_t used = found.match == MR_MATCH_FULL ? strlen(found.text) : 1;
    bool ok = found.match == MR_MATCH_FULL || put_text(p, p->held.data, 1, err);
    mr_output_drop(p, used);
    return ok;
}

/* --- calls --- */

/* What looked like calls is text: the mark at least, and what follows is looked at anew; but not again and again. */
static bool give_up(mr_output_parser *p, mr_error *err) {
    enum { MAX_WASTE = 1 << 20 };
    const mr_tool_reader *r = &p->reader;
    size_t n = r->n_calls > 0 ? 0 : p->n_mark;
    p->reading = false;
    p->wasted += r->at > r->start + r->scan.at ? r->at : r->start + r->scan.at;
    p->gave_up = p->wasted > MAX_WASTE;
    bool hide = n > 0 && p->mark != NULL && mr_tool_mark_is_control(p->mark);
    bool ok = hide || put_text(p, p->held.data, n, err);
    mr_output_drop(p, n);
    return ok;
}

static bool step_calls(mr_output_parser *p, bool end, bool cut, mr_error *err) {
    mr_tool_reader *r = &p->reader;
    switch (mr_tool_reader_step(r, mr_buf_cstr(&p->held), p->held.len, end, cut)) {
    case MR_TOOL_READ_MORE:
        return false;
    case MR_TOOL_READ_NAME:
        return close_split(p, err) && mr_output_started(p, mr_buf_cstr(&r->call.name), err);
    case MR_TOOL_READ_CALL: {
        bool ok = mr_output_call(p, &r->call, err);
        mr_output_drop(p, r->at);
        r->at = 0;
        mr_tool_call_clear(&r->call);
        return ok;
    }
    case MR_TOOL_READ_OVER:
        p->reading = false;
        mr_output_drop(p, r->at);
        return true;
    default:
        return give_up(p, err);
    }
}

static bool step(mr_output_parser *p, bool end, bool cut, mr_error *err) {
    if (p->options.tools != NULL && p->options.tools->style == MR_TOOL_STYLE_HARMONY)
        return mr_harmony_step(p, end, cut, err);
    if (p->options.tools == NULL || p->gave_up) {
        if (p->held.len == 0) return false;
        bool ok = put_text(p, p->held.data, p->held.len, err);
        mr_buf_clear(&p->held);
        return ok;
    }
    return p->reading ? step_calls(p, end, cut, err) : step_text(p, end, err);
}

mr_status mr_output_parser_push(mr_output_parser *p, const char *text, size_t len, mr_error *err) {
    if (p->status == MR_OK && !mr_buf_append(&p->held, text, len)) no_memory(p, err);
    while (p->status == MR_OK && step(p, false, false, err)) {
    }
    return p->status;
}

static bool finish_text(mr_output_parser *p, mr_error *err) {
    clear_split(p);
    if (!mr_reasoning_finish(&p->split, &p->content, &p->thought)) return no_memory(p, err);
    if (!send_split(p, err) || !mr_output_end_thought(p, err)) return false;
    if (p->n_calls > 0) return true;
    return send_text(p, MR_OUTPUT_CONTENT, mr_buf_cstr(&p->blanks), p->blanks.len, err);
}

mr_status mr_output_parser_finish(mr_output_parser *p, bool cut, mr_error *err) {
    while (p->status == MR_OK && step(p, true, cut, err)) {
    }
    if (p->status == MR_OK) finish_text(p, err);
    return p->status;
}

/* --- tokens --- */

static bool keep_text(const mr_tokenizer *tokenizer, const char *text, mr_tokens *keep) {
    mr_token id = text != NULL ? mr_tokenizer_find_special(tokenizer, text, strlen(text)) : -1;
    return id < 0 || mr_tokens_push(keep, id);
}

bool mr_output_keep_tokens(const mr_tokenizer *tokenizer, const mr_tool_format *tools,
                           const mr_reasoning_format *reasoning, mr_tokens *keep) {
    mr_output_mark marks[MR_OUTPUT_MAX_MARKS];
    size_t n = tools != NULL ? list_marks(tools, marks) : 0;
    bool ok = true;
    for (size_t i = 0; i < n; i++) ok = ok && keep_text(tokenizer, marks[i].text, keep);
    /* Marks of plain text may be special tokens all the same. */
    for (size_t i = 0; tools != NULL && i < MR_TOOL_MAX_MARKS && tools->close[i] != NULL; i++)
        ok = ok && keep_text(tokenizer, tools->close[i], keep);
    if (reasoning == NULL) return ok;
    ok = ok && keep_text(tokenizer, reasoning->open, keep) && keep_text(tokenizer, reasoning->close, keep);
    for (size_t i = 0; i < sizeof reasoning->frame / sizeof *reasoning->frame; i++)
        ok = ok && keep_text(tokenizer, reasoning->frame[i], keep);
    return ok;
}
