#define _POSIX_C_SOURCE 200809L
#include "text/tool_messages.h"

#include "base/hash.h"
#include "text/chat_template_impl.h"
#include "text/tool_json.h"

#include <string.h>
#include <time.h>

/* All functions here change a list of messages that is their own. Those that return bool fail for want of memory only.
 */

static const char *member(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static bool role_is(const json_t *message, const char *role) {
    return strcmp(member(message, "role"), role) == 0;
}

static bool set_text(json_t *object, const char *name, mr_buf *text) {
    json_t *value = text->failed ? NULL : json_stringn(mr_buf_cstr(text), text->len);
    bool ok = value != NULL && json_object_set_new(object, name, value) == 0;
    mr_buf_free(text);
    return ok;
}

static json_t *calls_of(const json_t *message) {
    json_t *calls = json_object_get(message, "tool_calls");
    return json_array_size(calls) > 0 ? calls : NULL;
}

/* --- ids --- */

/* Nine letters and digits that stand for an id, always the same ones. */
static void short_id(const char *id, char out[10]) {
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t bits = mr_hash(id, strlen(id), 0);
    for (int i = 0; i < 9; i++, bits /= 62) out[i] = letters[bits % 62];
    out[9] = '\0';
}

static bool is_short_id(const char *id) {
    if (strlen(id) != 9) return false;
    for (int i = 0; i < 9; i++) {
        bool good = (id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'z') || (id[i] >= 'A' && id[i] <= 'Z');
        if (!good) return false;
    }
    return true;
}

static bool shorten(json_t *object, const char *name) {
    const char *id = member(object, name);
    char out[10];
    if (is_short_id(id)) return true;
    short_id(id, out);
    return json_object_set_new(object, name, json_string(out)) == 0;
}

static bool shorten_ids(json_t *messages) {
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *calls = calls_of(message);
        for (size_t k = 0; ok && k < json_array_size(calls); k++) ok = shorten(json_array_get(calls, k), "id");
        if (ok && role_is(message, "tool")) ok = shorten(message, "tool_call_id");
    }
    return ok;
}

/* --- assistants --- */

/* Calls become content, as the format writes them. */
static bool write_calls(const mr_tool_format *format, json_t *message, size_t *number) {
    const json_t *calls = calls_of(message);
    mr_buf text = {0};
    mr_buf_puts(&text, member(message, "content"));
    if (text.len > 0 && !mr_tool_mark_is_control(format->open[0])) mr_buf_putc(&text, '\n');
    bool ok = mr_tool_format_write(format, calls, *number, &text);
    *number += json_array_size(calls);
    if (!set_text(message, "content", &text)) return false;
    return ok && json_object_del(message, "tool_calls") == 0;
}

/* Content beside calls is a text or, where the template wants it, null; and goes with the thoughts where it takes only
 * one of them. */
static bool fit_content(const mr_tool_caps *caps, json_t *message) {
    const char *reasoning = member(message, "reasoning_content");
    if (caps->one_thought && *reasoning != '\0' && *member(message, "content") != '\0') {
        mr_buf text = {0};
        mr_buf_printf(&text, "%s\n%s", reasoning, member(message, "content"));
        if (!set_text(message, "reasoning_content", &text)) return false;
        if (json_object_set_new(message, "content", json_string("")) != 0) return false;
    }
    bool empty = *member(message, "content") == '\0' && !json_is_array(json_object_get(message, "content"));
    if (!empty) return true;
    return json_object_set_new(message, "content", caps->null_content ? json_null() : json_string("")) == 0;
}

/* Takes the result of a call out of the tool messages behind messages[at]; NULL when there is none. A new reference. */
static json_t *take_result(json_t *messages, size_t at, const char *id) {
    for (size_t i = at; i < json_array_size(messages) && role_is(json_array_get(messages, i), "tool"); i++) {
        json_t *message = json_array_get(messages, i);
        if (strcmp(member(message, "tool_call_id"), id) != 0) continue;
        json_incref(message);
        json_array_remove(messages, i);
        return message;
    }
    return NULL;
}

/* messages[at] has several calls: each goes into a message of its own, with its result behind it. *next is set to the
 * place behind the last. */
static bool split_calls(json_t *messages, size_t at, size_t *next) {
    json_t *first = json_array_get(messages, at), *calls = json_incref(calls_of(first));
    bool ok = true;
    size_t place = at;
    for (size_t i = 0; ok && i < json_array_size(calls); i++) {
        json_t *call = json_array_get(calls, i);
        json_t *message = i == 0 ? json_incref(first) : json_pack("{s:s, s:s}", "role", "assistant", "content", "");
        ok = message != NULL && json_object_set_new(message, "tool_calls", json_pack("[O]", call)) == 0;
        if (ok && i > 0) ok = json_array_insert(messages, place, message) == 0;
        json_decref(message);
        place++;
        json_t *result = ok ? take_result(messages, place, member(call, "id")) : NULL;
        if (result != NULL) ok = json_array_insert_new(messages, place++, result) == 0;
    }
    json_decref(calls);
    *next = place;
    return ok;
}

static bool fit_assistants(const mr_tool_format *format, const mr_tool_caps *caps, json_t *messages) {
    size_t number = 0;
    for (size_t i = 0; i < json_array_size(messages);) {
        json_t *message = json_array_get(messages, i);
        size_t next = i + 1;
        if (calls_of(message) == NULL) {
            json_object_del(message, "tool_calls");
            i = next;
            continue;
        }
        /* A template that wants null has no place for a text before the calls. */
        if (!caps->calls || (caps->null_content && *member(message, "content") != '\0')) {
            if (!write_calls(format, message, &number)) return false;
        } else if (!caps->parallel && json_array_size(calls_of(message)) > 1) {
            if (!split_calls(messages, i, &next)) return false;
        }
        for (size_t k = i; caps->calls && k < next; k++) {
            if (calls_of(json_array_get(messages, k)) == NULL) continue;
            if (!fit_content(caps, json_array_get(messages, k))) return false;
        }
        i = next;
    }
    return true;
}

/* --- results --- */

/* Tool messages become a user message, together with the user's own behind them. */
static bool fold_results(json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (!role_is(json_array_get(messages, i), "tool")) continue;
        mr_buf text = {0};
        while (role_is(json_array_get(messages, i), "tool")) {
            if (text.len > 0) mr_buf_putc(&text, '\n');
            mr_buf_printf(&text, "<tool_response>\n%s\n</tool_response>",
                          member(json_array_get(messages, i), "content"));
            json_array_remove(messages, i);
        }
        json_t *next = json_array_get(messages, i);
        if (role_is(next, "user") && json_is_string(json_object_get(next, "content"))) {
            mr_buf_printf(&text, "\n\n%s", member(next, "content"));
            if (!set_text(next, "content", &text)) return false;
            continue;
        }
        json_t *user = json_pack("{s:s}", "role", "user");
        if (user == NULL || json_array_insert_new(messages, i, user) != 0) {
            mr_buf_free(&text);
            return false;
        }
        if (!set_text(user, "content", &text)) return false;
    }
    return true;
}

/* --- the system's part --- */

static void describe_tools(const mr_tool_format *format, const json_t *tools, mr_buf *text) {
    json_t *example = json_pack("[{s:s, s:{s:s, s:{s:s}}}]", "id", "000000000", "function", "name", "FUNCTION",
                                "arguments", "ARGUMENT", "VALUE");
    mr_buf_puts(text, "You can call functions. These are known, one JSON object a line:\n<tools>\n");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        mr_json_write(json_array_get(tools, i), text);
        mr_buf_putc(text, '\n');
    }
    mr_buf_puts(text, "</tools>\nTo call one, write its name and its arguments exactly in this form:\n");
    if (!mr_tool_format_write(format, example, 0, text)) text->failed = true;
    mr_buf_puts(text, format->parallel ? "\nFor several calls, write several of them, one after the other. "
                                       : "\nMake one call at a time. ");
    mr_buf_puts(text, "Write nothing behind the calls; the results come back in <tool_response> tags. When no function "
                      "helps, answer in plain text.");
    json_decref(example);
}

static json_t *first_of(json_t *messages, const char *role) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (role_is(json_array_get(messages, i), role)) return json_array_get(messages, i);
    }
    return NULL;
}

static bool tell_tools(const mr_tool_format *format, const json_t *tools, json_t *messages) {
    json_t *system = json_array_get(messages, 0);
    if (!role_is(system, "system")) {
        system = json_pack("{s:s}", "role", "system");
        if (system == NULL || json_array_insert_new(messages, 0, system) != 0) return false;
    }
    mr_buf text = {0};
    mr_buf_puts(&text, member(system, "content"));
    if (text.len > 0) mr_buf_puts(&text, "\n\n");
    describe_tools(format, tools, &text);
    return set_text(system, "content", &text);
}

/* What the system says goes in front of the first user's message. */
static bool fold_system(json_t *messages) {
    json_t *system = json_array_get(messages, 0), *user = first_of(messages, "user");
    if (!role_is(system, "system")) return true;
    if (user == NULL || !json_is_string(json_object_get(user, "content")))
        return json_object_set_new(system, "role", json_string("user")) == 0;
    mr_buf text = {0};
    mr_buf_printf(&text, "%s\n\n%s", member(system, "content"), member(user, "content"));
    return set_text(user, "content", &text) && json_array_remove(messages, 0) == 0;
}

/* --- all of it --- */

static bool fit(const mr_tool_format *format, const mr_tool_caps *caps, json_t *messages, const json_t *tools) {
    if (format->id_kind == MR_TOOL_ID_ALNUM9 && !shorten_ids(messages)) return false;
    if (!fit_assistants(format, caps, messages)) return false;
    if (!caps->results && !fold_results(messages)) return false;
    if (json_array_size(tools) > 0 && !caps->tools && !tell_tools(format, tools, messages)) return false;
    return caps->system || fold_system(messages);
}

/* The caller's variables, and the tools as a text where the template reads them so. */
static json_t *fit_vars(const mr_tool_caps *caps, json_t *vars, const json_t *tools) {
    json_t *all = json_is_object(vars) ? json_copy(vars) : json_object();
    if (all == NULL || !caps->functions) return all;
    mr_buf text = {0};
    if (tools != NULL) mr_json_write(tools, &text);
    if (json_object_get(all, "datetime") == NULL) {
        char today[32] = "unknown";
        time_t now = time(NULL);
        struct tm parts;
        if (gmtime_r(&now, &parts) != NULL) strftime(today, sizeof today, "%Y-%m-%d", &parts);
        json_object_set_new(all, "datetime", json_string(today));
    }
    if (json_object_get(all, "functions") != NULL || set_text(all, "functions", &text)) return all;
    json_decref(all);
    return NULL;
}

mr_status mr_tool_render(const mr_chat_template *chat, const mr_tool_format *format, const mr_tool_caps *caps,
                         json_t *messages, json_t *tools, json_t *vars, bool add_generation_prompt, mr_buf *text,
                         mr_error *err) {
    json_t *fitted = json_deep_copy(messages), *all = fit_vars(caps, vars, tools);
    mr_status status = MR_OK;
    bool objects = json_is_array(fitted);
    for (size_t i = 0; i < json_array_size(fitted); i++) objects = objects && json_is_object(json_array_get(fitted, i));
    /* What is no conversation is left to the template's own checks. */
    if (fitted == NULL || all == NULL || (objects && !fit(format, caps, fitted, tools)))
        status = mr_fail(err, MR_ERR_NOMEM, "there is no memory for the conversation");
    if (status == MR_OK)
        status = mr_chat_template_render_nulls(chat, fitted, caps->tools ? tools : NULL, all, add_generation_prompt, 0,
                                               text, err);
    json_decref(all);
    json_decref(fitted);
    return status;
}
