/* What a template does with tools, calls and results: seen by rendering small conversations. */
#include "text/tool_messages.h"

#include "text/chat_template_impl.h"

#include <string.h>

/* Texts that no template has by itself. */
#define TOOL "probe_tool_zq"
#define VALUE "value_one_zq"
#define OTHER "value_two_zq"
#define RESULT "result_zq"
#define SYSTEM "system_zq"
#define FUNCTIONS "functions_zq"

static const char TOOLS_JSON[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"" TOOL
    "\", \"description\": \"d\", \"parameters\": {\"type\": "
    "\"object\", \"properties\": {\"a\": {\"type\": \"string\", \"description\": \"d\"}}, \"required\": [\"a\"]}}}]";

#define USER "{\"role\": \"user\", \"content\": \"q\"}"
#define ONE_CALL(id, value)                                                                                            \
    "{\"id\": \"" id "\", \"type\": \"function\", \"function\": {\"name\": \"" TOOL                                    \
    "\", \"arguments\": {\"a\": \"" value "\"}}}"
#define ONE_RESULT(id, result)                                                                                         \
    "{\"role\": \"tool\", \"tool_call_id\": \"" id "\", \"name\": \"" TOOL "\", \"content\": \"" result "\"}"

#define ASSISTANT(content, more, calls)                                                                                \
    "{\"role\": \"assistant\", \"content\": " content ", " more "\"tool_calls\": [" calls "]}"

static const char ASK[] = "[" USER "]";
static const char ASK_SYSTEM[] = "[{\"role\": \"system\", \"content\": \"" SYSTEM "\"}, " USER "]";
static const char CALL[] = "[" USER ", " ASSISTANT("\"\"", "", ONE_CALL("abcdefgh1", VALUE)) ", " //
    ONE_RESULT("abcdefgh1", RESULT) "]";
static const char CALL_NULL[] = "[" USER ", " ASSISTANT("null", "", ONE_CALL("abcdefgh1", VALUE)) ", " //
    ONE_RESULT("abcdefgh1", RESULT) "]";
static const char CALLS[] =
    "[" USER ", " ASSISTANT("\"\"", "", ONE_CALL("abcdefgh1", VALUE) ", " ONE_CALL("abcdefgh2", OTHER)) ", " //
    ONE_RESULT("abcdefgh1", RESULT) ", " ONE_RESULT("abcdefgh2", RESULT) "]";
static const char THOUGHT[] =
    "[" USER ", " ASSISTANT("\"c\"", "\"reasoning_content\": \"r\", ", ONE_CALL("abcdefgh1", VALUE)) ", " //
    ONE_RESULT("abcdefgh1", RESULT) "]";
static const char RESULT_ONLY[] =
    "[" USER ", {\"role\": \"assistant\", \"content\": \"c\"}, " ONE_RESULT("abcdefgh1", RESULT) "]";

/* The text of a probe, empty when the template refuses it. */
static void render(const mr_chat_template *chat, const char *messages, bool tools, const char *functions,
                   mr_buf *text) {
    json_t *json = json_loads(messages, 0, NULL), *list = tools ? json_loads(TOOLS_JSON, 0, NULL) : NULL;
    json_t *vars = json_pack("{s:s, s:s}", "functions", functions, "datetime", "now");
    mr_error ignored = {0};
    mr_buf_clear(text);
    if (json != NULL && mr_chat_template_render_nulls(chat, json, list, vars, true, 1, text, &ignored) != MR_OK)
        mr_buf_clear(text);
    json_decref(vars);
    json_decref(list);
    json_decref(json);
}

static bool shows(const mr_buf *text, const char *what) {
    return strstr(mr_buf_cstr(text), what) != NULL;
}

void mr_tool_caps_probe(const mr_chat_template *chat, mr_tool_caps *caps) {
    mr_buf text = {0}, other = {0};
    *caps = (mr_tool_caps){0};
    render(chat, ASK, true, FUNCTIONS, &text);
    caps->functions = shows(&text, FUNCTIONS);
    caps->tools = shows(&text, TOOL) || caps->functions;
    render(chat, ASK_SYSTEM, true, "", &text);
    caps->system = shows(&text, SYSTEM);
    render(chat, CALL, true, "", &text);
    render(chat, CALL_NULL, true, "", &other);
    caps->null_content = other.len > 0 && (text.len == 0 || other.len < text.len);
    const mr_buf *best = caps->null_content ? &other : &text;
    caps->calls = shows(best, VALUE);
    caps->results = shows(best, RESULT);
    if (!caps->calls && !caps->results) {
        render(chat, RESULT_ONLY, true, "", &text);
        caps->results = shows(&text, RESULT);
    }
    render(chat, CALLS, true, "", &text);
    caps->parallel = caps->calls && shows(&text, VALUE) && shows(&text, OTHER);
    render(chat, THOUGHT, true, "", &text);
    caps->one_thought = caps->calls && text.len == 0;
    mr_buf_free(&text);
    mr_buf_free(&other);
}
