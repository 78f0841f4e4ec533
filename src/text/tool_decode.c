/* What is written between the marks of a call, made a name and a JSON object of arguments. */
#include "text/tool_reader.h"

#include <string.h>

enum { MAX_NAME = 256 };

const json_t *mr_tool_find(const json_t *tools, const char *name, size_t len) {
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *function = json_object_get(tool, "function");
        if (!json_is_object(function)) function = tool;
        const json_t *known = json_object_get(function, "name");
        if (json_string_length(known) == len && memcmp(json_string_value(known), name, len) == 0) return function;
    }
    return NULL;
}

static const char *const NAME_KEYS[] = {"name", "tool_name", "function"};
static const char *const ARGUMENT_KEYS[] = {"arguments", "parameters"};
static const char *const ID_KEYS[] = {"id", "tool_call_id", "call_id"};

static bool key_is_one(const mr_json_member *member, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (mr_json_key_is(member, names[i])) return true;
    }
    return false;
}

#define KEY_IS(member, names) key_is_one(member, names, sizeof(names) / sizeof *(names))

/* --- whole calls in JSON --- */

/* Arguments: an object, a text that holds one, or null, which is none. */
static bool take_arguments(const char *value, size_t len, mr_buf *out) {
    if (len > 0 && value[0] == '{') return mr_buf_append(out, value, len);
    if (len == 4 && memcmp(value, "null", 4) == 0) return mr_buf_puts(out, "{}");
    mr_buf text = {0};
    bool ok = mr_json_unquote(value, len, &text);
    if (ok) {
        size_t blanks = mr_count_blanks(mr_buf_cstr(&text), text.len);
        ok = blanks == text.len ? mr_buf_puts(out, "{}")
                                : text.data[blanks] == '{' && mr_json_compact(text.data, text.len, false, out);
    }
    mr_buf_free(&text);
    return ok;
}

/* Ids may be written as numbers. */
static bool take_id(const char *value, size_t len, mr_buf *out) {
    if (len > 0 && value[0] == '"') return len <= MR_TOOL_ID_MAX && mr_json_unquote(value, len, out);
    return len > 0 && len < 20 && value[0] >= '0' && value[0] <= '9' && mr_buf_append(out, value, len);
}

static bool take_members(const char *object, size_t len, mr_tool_call *call, bool *has_arguments) {
    mr_json_member member;
    size_t at = 0;
    while (mr_json_next_member(object, len, &at, &member)) {
        bool is_object = member.n_value > 0 && member.value[0] == '{';
        if ((mr_json_key_is(&member, "function") || mr_json_key_is(&member, "tool_call")) && is_object) {
            if (!take_members(member.value, member.n_value, call, has_arguments)) return false;
        } else if (KEY_IS(&member, NAME_KEYS)) {
            if (call->name.len > 0) continue; /* the first one was told already */
            if (!mr_json_unquote(member.value, member.n_value, &call->name)) return false;
        } else if (KEY_IS(&member, ARGUMENT_KEYS)) {
            mr_buf_clear(&call->arguments);
            *has_arguments = true;
            if (!take_arguments(member.value, member.n_value, &call->arguments)) return false;
        } else if (KEY_IS(&member, ID_KEYS)) {
            mr_buf_clear(&call->id);
            if (!take_id(member.value, member.n_value, &call->id)) mr_buf_clear(&call->id);
        }
    }
    return true;
}

/* {"NAME": arguments} */
static bool take_keyed(const char *object, size_t len, mr_tool_call *call) {
    mr_json_member member, second;
    size_t at = 0;
    if (!mr_json_next_member(object, len, &at, &member)) return false;
    if (mr_json_next_member(object, len, &at, &second)) return false;
    mr_buf_clear(&call->name);
    return mr_json_unquote(member.key, member.n_key, &call->name) &&
           take_arguments(member.value, member.n_value, &call->arguments);
}

/* A name that an id, a log line or a message may carry: no controls in it. */
static bool name_is_good(const mr_buf *name) {
    if (name->len == 0 || name->len > MAX_NAME) return false;
    for (size_t i = 0; i < name->len; i++) {
        if ((unsigned char)name->data[i] < 0x20) return false;
    }
    return true;
}

bool mr_tool_read_json(const mr_tool_reader *reader, const char *text, size_t len, bool close_open,
                       mr_tool_call *call) {
    mr_buf object = {0};
    bool has_arguments = false;
    mr_tool_call_clear(call);
    bool ok = len > 0 && text[0] == '{' && mr_json_compact(text, len, close_open, &object);
    bool keyed = ok && reader->format->style == MR_TOOL_STYLE_KEYED;
    if (ok)
        ok = keyed ? take_keyed(object.data, object.len, call)
                   : take_members(object.data, object.len, call, &has_arguments);
    if (ok) ok = name_is_good(&call->name);
    if (ok && reader->bare) {
        ok = has_arguments && (json_array_size(reader->tools) == 0 ||
                               mr_tool_find(reader->tools, call->name.data, call->name.len) != NULL);
    }
    if (ok && call->arguments.len == 0) ok = mr_buf_puts(&call->arguments, "{}");
    mr_buf_free(&object);
    return ok;
}

/* --- the name before the call is whole --- */

/* A plain string at text[*at]: its span without the quotes. Strings with escapes are none. */
static mr_match plain_string(const char *text, size_t len, size_t *at, const char **start, size_t *n) {
    *at += mr_count_blanks(text + *at, len - *at);
    if (*at == len) return MR_MATCH_MAYBE;
    if (text[*at] != '"') return MR_MATCH_NO;
    *start = text + *at + 1;
    for (size_t i = *at + 1; i < len; i++) {
        if (text[i] == '\\') return MR_MATCH_NO;
        if (text[i] != '"') continue;
        *n = i - *at - 1;
        *at = i + 1;
        return MR_MATCH_FULL;
    }
    return MR_MATCH_MAYBE;
}

static mr_match take_char(const char *text, size_t len, size_t *at, char c) {
    *at += mr_count_blanks(text + *at, len - *at);
    if (*at == len) return MR_MATCH_MAYBE;
    if (text[*at] != c) return MR_MATCH_NO;
    ++*at;
    return MR_MATCH_FULL;
}

static bool may_be_first_key(const char *key, size_t n) {
    mr_json_member member = {.key = key - 1, .n_key = n + 2};
    return KEY_IS(&member, NAME_KEYS) || KEY_IS(&member, ARGUMENT_KEYS) || KEY_IS(&member, ID_KEYS) ||
           mr_json_key_is(&member, "type") || mr_json_key_is(&member, "tool_call");
}

mr_match mr_tool_peek_name(const mr_tool_reader *reader, const char *text, size_t len, mr_buf *name, bool *not_a_call) {
    enum { MAX_PEEK = 600 };
    size_t at = 1, n_key, n_value;
    const char *key, *value;
    *not_a_call = false;
    if (len > MAX_PEEK) len = MAX_PEEK;
    for (bool first = true;; first = false) {
        mr_match found = plain_string(text, len, &at, &key, &n_key);
        if (found == MR_MATCH_FULL) {
            if (first && reader->bare && !may_be_first_key(key, n_key)) {
                *not_a_call = true;
                return MR_MATCH_NO;
            }
            found = take_char(text, len, &at, ':');
        } else if (found == MR_MATCH_NO && first && reader->bare) {
            *not_a_call = true;
        }
        if (found != MR_MATCH_FULL) return found;
        mr_json_member member = {.key = key - 1, .n_key = n_key + 2};
        if (reader->format->style == MR_TOOL_STYLE_KEYED) {
            mr_buf_clear(name);
            mr_buf_append(name, key, n_key);
            return name_is_good(name) ? MR_MATCH_FULL : MR_MATCH_NO;
        }
        bool is_name = KEY_IS(&member, NAME_KEYS);
        if ((mr_json_key_is(&member, "function") || mr_json_key_is(&member, "tool_call")) &&
            (found = take_char(text, len, &at, '{')) != MR_MATCH_NO) {
            if (found == MR_MATCH_MAYBE) return found;
            continue;
        }
        found = plain_string(text, len, &at, &value, &n_value);
        if (found == MR_MATCH_FULL && is_name) {
            mr_buf_clear(name);
            mr_buf_append(name, value, n_value);
            return name_is_good(name) ? MR_MATCH_FULL : MR_MATCH_NO;
        }
        if (found == MR_MATCH_FULL) found = take_char(text, len, &at, ',');
        if (found != MR_MATCH_FULL) return found;
    }
}

/* --- arguments in tags --- */

/* Whether a schema allows the JSON type; *says is set when the schema says anything about types. */
static bool allows(const json_t *schema, const char *type, bool *says, int depth) {
    static const char *const branches[] = {"anyOf", "oneOf", "allOf"};
    const json_t *types = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
    if (json_is_string(types)) {
        *says = true;
        return strcmp(json_string_value(types), type) == 0;
    }
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *name = json_string_value(json_array_get(types, i));
        *says = true;
        if (name != NULL && strcmp(name, type) == 0) return true;
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        *says = true;
        if (json_is_string(json_array_get(values, i)) && strcmp(type, "string") == 0) return true;
    }
    for (size_t i = 0; depth < 8 && i < sizeof branches / sizeof *branches; i++) {
        const json_t *list = json_object_get(schema, branches[i]);
        for (size_t k = 0; k < json_array_size(list) && k < 64; k++) {
            if (allows(json_array_get(list, k), type, says, depth + 1)) return true;
        }
    }
    return false;
}

static const char *type_of(const char *json) {
    switch (json[0]) {
    case '{':
        return "object";
    case '[':
        return "array";
    case '"':
        return "string";
    case 't':
    case 'f':
        return "boolean";
    case 'n':
        return "null";
    default:
        return "number";
    }
}

/* Whether a value that reads as JSON is meant as such, and not as the text that it is. */
static bool means_json(const json_t *schema, const mr_buf *json) {
    bool says = false, allows_string = allows(schema, "string", &says, 0);
    if (!says) return json->data[0] != '"';
    if (!allows_string) return true;
    const char *type = type_of(json->data);
    if (strcmp(type, "string") == 0) return false;
    return allows(schema, type, &says, 0) || (strcmp(type, "number") == 0 && allows(schema, "integer", &says, 0));
}

bool mr_tool_put_param(const json_t *tools, const mr_buf *name, const mr_buf *key, const char *value, size_t len,
                       mr_buf *object) {
    const json_t *function = mr_tool_find(tools, mr_buf_cstr(name), name->len);
    const json_t *properties = json_object_get(json_object_get(function, "parameters"), "properties");
    const json_t *schema = json_object_get(properties, mr_buf_cstr(key));
    mr_buf json = {0};
    bool is_json = mr_json_compact(value, len, false, &json) && means_json(schema, &json);
    if (object->len > 1) mr_buf_putc(object, ',');
    bool ok = mr_json_quote(mr_buf_cstr(key), key->len, object) && mr_buf_putc(object, ':');
    if (ok) ok = is_json ? mr_buf_append(object, json.data, json.len) : mr_json_quote(value, len, object);
    mr_buf_free(&json);
    return ok;
}
