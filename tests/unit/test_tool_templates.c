/* floors: text */
/* The round trip: a conversation with calls, rendered by a model's own template, gives the text that the model would
 * have written; parsed, it gives the same calls again. For each of the fixtures' templates. */
#include "text/output_parser.h"
#include "text/tool_messages.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const mr_special_texts specials = {.bos = "<s>", .eos = "</s>"};

/* What each template is taken for, and what it can do by itself. */
static const struct {
    const char *file, *format, *reasoning;
    bool tools, calls, parallel, results, system;
} TEMPLATES[] = {
    {"Apertus-8B-Instruct", "apertus", "apertus", 1, 1, 1, 1, 1},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use", "command r7b", "command-r", 1, 1, 1, 1, 1},
    {"GLM-4.6", "glm 4", "think", 1, 1, 1, 1, 1},
    {"HuggingFaceTB-SmolLM3-3B", "generic", "think", 0, 0, 0, 1, 1},
    /* Changes a list, which the sandbox that transformers uses refuses. */
    {"Kimi-K2-Instruct", "kimi k2", "think", 1, 0, 0, 1, 1},
    {"LFM2.5-Instruct", "lfm2", "think", 1, 0, 0, 1, 1},
    {"Mistral-Small-3.2-24B-Instruct-2506", "mistral call id", "think", 1, 1, 1, 1, 1},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes", "think", 1, 1, 1, 1, 1},
    {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes", "think", 1, 1, 1, 1, 1},
    {"Qwen-Qwen2.5-7B-Instruct", "hermes", "think", 1, 1, 1, 1, 1},
    {"Qwen-Qwen3-0.6B", "hermes", "think", 1, 1, 1, 1, 1},
    {"Qwen3-Coder", "qwen3 coder", "think", 1, 1, 1, 1, 1},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek r1", "think", 0, 1, 1, 1, 1},
    {"deepseek-ai-DeepSeek-V3.1", "deepseek v3.1", "think", 0, 1, 1, 1, 1},
    {"fireworks-ai-llama-3-firefunction-v2", "firefunction v2", "think", 1, 1, 1, 1, 1},
    {"google-gemma-2-2b-it", "generic", "think", 0, 0, 0, 0, 0},
    {"ibm-granite-granite-3.3-2B-Instruct", "granite", "granite", 1, 0, 0, 1, 1},
    {"meetkai-functionary-medium-v3.2", "functionary v3.2", "think", 1, 1, 1, 1, 1},
    {"meta-llama-Llama-3.1-8B-Instruct", "llama 3", "think", 1, 1, 0, 1, 1},
    {"meta-llama-Llama-3.2-3B-Instruct", "llama 3", "think", 1, 1, 0, 1, 1},
    {"microsoft-Phi-3.5-mini-instruct", "generic", "think", 0, 0, 0, 0, 1},
    {"mistralai-Mistral-Nemo-Instruct-2407", "mistral", "think", 1, 1, 1, 1, 1},
    {"openai-gpt-oss-120b", "gpt-oss", "think", 1, 1, 0, 1, 1},
    {"unsloth-mistral-Devstral-Small-2507", "mistral args", "think", 1, 1, 1, 1, 1},
};

enum { N_TEMPLATES = sizeof TEMPLATES / sizeof *TEMPLATES };

static const char TOOLS[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"description\": \"The weather.\", "
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", \"description\": \"c\"}, "
    "\"days\": {\"type\": \"integer\", \"description\": \"d\"}, \"more\": {\"type\": \"object\", \"description\": "
    "\"m\"}, "
    "\"list\": {\"type\": \"array\", \"description\": \"l\", \"items\": {\"type\": \"number\"}}, \"flag\": {\"type\": "
    "\"boolean\", \"description\": \"f\"}}, \"required\": [\"city\"]}}},"
    " {\"type\": \"function\", \"function\": {\"name\": \"NOW___run\", \"description\": \"The time.\", \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"zone\": {\"type\": \"string\", \"description\": \"z\"}}}}}]";

static const struct {
    const char *name, *content, *calls; /* calls: [[name, arguments], …] */
} CASES[] = {
    {"one", "", "[[\"get_weather\", {\"city\": \"Paris\", \"days\": 3}]]"},
    {"no arguments", "", "[[\"NOW___run\", {}]]"},
    {"text before", "I will look that up.", "[[\"get_weather\", {\"city\": \"Oslo\"}]]"},
    {"parallel", "",
     "[[\"get_weather\", {\"city\": \"Rome\"}], [\"NOW___run\", {\"zone\": \"CET\"}], [\"get_weather\", {\"city\": "
     "\"Bern\"}]]"},
    {"unicode", "", "[[\"get_weather\", {\"city\": \"Zürich \\u2603 \\ud83e\\udd8a\"}]]"},
    {"escapes", "", "[[\"get_weather\", {\"city\": \"a \\\"b\\\" \\\\ c\\nd\\te </x> {}[] '\\u0001\"}]]"},
    {"nested", "",
     "[[\"get_weather\", {\"city\": \"x\", \"more\": {\"a\": [1, {\"b\": null}], \"c\": {\"d\": \"e\"}}, \"list\": [1, "
     "-2.5, 1e3], \"flag\": true}]]"},
    {"like other types", "", "[[\"get_weather\", {\"city\": \"75001\", \"days\": 0, \"flag\": false}]]"},
    {"empty text", "", "[[\"get_weather\", {\"city\": \"\"}]]"},
    {"a tag inside", "",
     "[[\"get_weather\", {\"city\": \"<tool_call>{\\\"name\\\": \\\"x\\\"}</tool_call>\\n<think>\"}]]"},
};

enum { N_CASES = sizeof CASES / sizeof *CASES };

typedef struct model {
    mr_chat_template *chat;
    const mr_tool_format *format;
    const mr_reasoning_format *reasoning;
    mr_tool_caps caps;
    json_t *tools;
} model;

static const char *fixtures(void) {
    const char *folder = getenv("MR_FIXTURES");
    if (folder == NULL) folder = MR_SOURCE_DIR "/../shared/fixtures";
    return mr_path_is_dir(folder) ? folder : NULL;
}

static void open_model(model *m, size_t i) {
    char path[4096];
    mr_error err = {0};
    snprintf(path, sizeof path, "%s/templates/%s.jinja", fixtures(), TEMPLATES[i].file);
    if (mr_chat_template_from_file(&m->chat, path, &specials, &err) != MR_OK) fail_msg("%s", err.text);
    const char *source = mr_chat_template_source(m->chat, true);
    m->format = mr_tool_format_detect(source, NULL, NULL);
    m->reasoning = mr_reasoning_detect(source);
    mr_tool_caps_probe(m->chat, &m->caps);
    m->tools = json_loads(TOOLS, 0, NULL);
    assert_non_null(m->tools);
}

static void close_model(model *m) {
    mr_chat_template_free(m->chat);
    json_decref(m->tools);
}

static void test_detection(void **state) {
    (void)state;
    if (fixtures() == NULL) skip();
    for (size_t i = 0; i < N_TEMPLATES; i++) {
        model m;
        open_model(&m, i);
        bool same = strcmp(m.format->name, TEMPLATES[i].format) == 0 &&
                    strcmp(m.reasoning->name, TEMPLATES[i].reasoning) == 0 && m.caps.tools == TEMPLATES[i].tools &&
                    m.caps.calls == TEMPLATES[i].calls && m.caps.parallel == TEMPLATES[i].parallel &&
                    m.caps.results == TEMPLATES[i].results && m.caps.system == TEMPLATES[i].system;
        if (!same) {
            fail_msg(
                "%s: format %s, reasoning %s, tools %d, calls %d, parallel %d, results %d, system %d, null %d, one %d",
                TEMPLATES[i].file, m.format->name, m.reasoning->name, m.caps.tools, m.caps.calls, m.caps.parallel,
                m.caps.results, m.caps.system, m.caps.null_content, m.caps.one_thought);
        }
        close_model(&m);
    }
}

/* --- the round trip --- */

/* [user, assistant with the calls] in the API's form. */
static json_t *conversation(size_t k, bool with_answer) {
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "What is the weather?");
    if (!with_answer) return messages;
    json_t *calls = json_loads(CASES[k].calls, 0, NULL), *list = json_array(), *call;
    size_t i;
    assert_non_null(calls);
    json_array_foreach(calls, i, call) {
        char id[MR_TOOL_ID_MAX], *arguments = json_dumps(json_array_get(call, 1), 0);
        snprintf(id, sizeof id, "call_%zu", i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:{s:O, s:s}}", "id", id, "type", "function", "function",
                                              "name", json_array_get(call, 0), "arguments", arguments));
        free(arguments);
    }
    json_array_append_new(
        messages, json_pack("{s:s, s:s, s:o}", "role", "assistant", "content", CASES[k].content, "tool_calls", list));
    json_decref(calls);
    return messages;
}

static void render(const model *m, json_t *messages, bool prompt, mr_buf *text, const char *what) {
    mr_error err = {0};
    if (mr_tool_render(m->chat, m->format, &m->caps, messages, m->tools, NULL, prompt, text, &err) != MR_OK)
        fail_msg("%s: %s", what, err.text);
}

/* The end of the last turn: nothing behind it is the model's. */
static size_t turn_end(const char *text) {
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "</s>", "<｜end▁of▁sentence｜>",
                                       "<|END_OF_TURN_TOKEN|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>",
                                       "<|assistant_end|>", "<|call|>",
                                       /* Some templates begin the next turn without being asked. */
                                       "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|START_THINKING|><|END_THINKING|>",
                                       "<|start_header_id|>assistant<|end_header_id|>"};
    size_t end = strlen(text), before;
    do {
        before = end;
        while (end > 0 && strchr(" \n", text[end - 1]) != NULL) end--;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            size_t n = strlen(ends[i]);
            if (end >= n && memcmp(text + end - n, ends[i], n) == 0) end -= n;
        }
    } while (end < before);
    return end;
}

/* What the model would have written for this case. */
static void answer_text(const model *m, size_t k, mr_buf *text, const char *what) {
    json_t *messages = conversation(k, false);
    mr_buf prompt = {0}, whole = {0};
    render(m, messages, true, &prompt, what);
    json_decref(messages);
    messages = conversation(k, true);
    render(m, messages, false, &whole, what);
    json_decref(messages);
    size_t same = 0;
    while (same < prompt.len && same < whole.len && prompt.data[same] == whole.data[same]) same++;
    /* Where the prompt goes another way (a closed think block), not in the middle of a mark. */
    while (same < prompt.len && same > 0 && strchr(">\n", whole.data[same - 1]) == NULL) same--;
    mr_buf_append(text, whole.data + same, turn_end(whole.data + same));
    mr_buf_free(&prompt);
    mr_buf_free(&whole);
}

typedef struct parsed {
    mr_buf content, reasoning;
    json_t *calls;
} parsed;

static mr_status take(void *ctx, const mr_output_event *event, mr_error *err) {
    parsed *p = ctx;
    (void)err;
    if (event->kind == MR_OUTPUT_CONTENT) mr_buf_append(&p->content, event->text, event->len);
    if (event->kind == MR_OUTPUT_REASONING) mr_buf_append(&p->reasoning, event->text, event->len);
    if (event->kind != MR_OUTPUT_CALL) return MR_OK;
    json_t *arguments = json_loads(event->arguments, JSON_ALLOW_NUL, NULL);
    assert_non_null(arguments);
    json_array_append_new(p->calls, json_pack("[s, o]", event->name, arguments));
    return MR_OK;
}

static void parse(const model *m, const mr_buf *text, size_t step, parsed *p) {
    mr_output_options options = {
        .tools = m->format,
        .reasoning = m->reasoning,
        .tool_list = m->tools,
        .extract_reasoning = true,
        .tools_open =
            m->format->open_by_prompt && strncmp(text->data, m->format->open[0], strlen(m->format->open[0])) != 0,
        .on_event = take,
        .ctx = p,
    };
    mr_error err = {0};
    mr_output_parser *parser = mr_output_parser_new(&options);
    *p = (parsed){.calls = json_array()};
    for (size_t at = 0; at < text->len; at += step) {
        size_t n = text->len - at < step ? text->len - at : step;
        assert_int_equal(mr_output_parser_push(parser, text->data + at, n, &err), MR_OK);
    }
    assert_int_equal(mr_output_parser_finish(parser, false, &err), MR_OK);
    mr_output_parser_free(parser);
}

static void free_parsed(parsed *p) {
    mr_buf_free(&p->content);
    mr_buf_free(&p->reasoning);
    json_decref(p->calls);
}

/* Calls equal in name and arguments; 1e3 and 1000.0 are one number. */
static bool same_calls(const char *expected, const json_t *got) {
    json_t *json = json_loads(expected, 0, NULL);
    bool same = json_equal(json, got);
    json_decref(json);
    return same;
}

/* Checks one case, whole and in pieces; *kept_text is set when the text before the calls came through. */
static void check_case(const model *m, size_t t, size_t k, bool *kept_text) {
    static const size_t steps[] = {1 << 20, 1, 3, 17};
    char what[300];
    mr_buf text = {0};
    snprintf(what, sizeof what, "%s, %s", TEMPLATES[t].file, CASES[k].name);
    answer_text(m, k, &text, what);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        parsed p;
        parse(m, &text, steps[i], &p);
        if (!same_calls(CASES[k].calls, p.calls)) {
            char *got = json_dumps(p.calls, 0);
            fail_msg("%s, pieces of %zu:\n%s\n  calls:   %s\n  instead: %s\n  content: %s", what, steps[i], text.data,
                     got, CASES[k].calls, mr_buf_cstr(&p.content));
        }
        /* Some templates leave out the text beside calls; gpt-oss shows it as a thought. */
        const char *said = p.content.len > 0 ? mr_buf_cstr(&p.content) : mr_buf_cstr(&p.reasoning);
        if (*said != '\0' && strcmp(said, CASES[k].content) != 0)
            fail_msg("%s: text \"%s\" in\n%s", what, said, text.data);
        *kept_text = *said != '\0';
        free_parsed(&p);
    }
    mr_buf_free(&text);
}

static void test_round_trip(void **state) {
    (void)state;
    if (fixtures() == NULL) skip();
    size_t n_checked = 0, n_texts = 0;
    for (size_t t = 0; t < N_TEMPLATES; t++) {
        model m;
        open_model(&m, t);
        for (size_t k = 0; k < N_CASES; k++) {
            bool kept_text = false, one_only = m.caps.calls && !m.caps.parallel;
            if (one_only && strcmp(CASES[k].name, "parallel") == 0) continue;
            check_case(&m, t, k, &kept_text);
            n_checked++;
            n_texts += kept_text;
        }
        close_model(&m);
    }
    assert_int_equal(n_checked, N_TEMPLATES * N_CASES - 3);
    assert_true(n_texts >= 17);
}

/* --- whole conversations --- */

static const char WHOLE[] =
    "[{\"role\": \"system\", \"content\": \"SYSTEM-TEXT\"}, {\"role\": \"user\", \"content\": \"QUESTION\"}, "
    "{\"role\": \"assistant\", \"content\": null, \"reasoning_content\": \"THOUGHT\", \"tool_calls\": ["
    "{\"id\": \"first-id\", \"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"arguments\": "
    "{\"city\": "
    "\"CITY-ONE\"}}}, {\"id\": \"second-id\", \"type\": \"function\", \"function\": {\"name\": \"NOW___run\", "
    "\"arguments\": {\"zone\": \"ZONE-TWO\"}}}]}, "
    "{\"role\": \"tool\", \"tool_call_id\": \"first-id\", \"name\": \"get_weather\", \"content\": \"RESULT-ONE\"}, "
    "{\"role\": \"tool\", \"tool_call_id\": \"second-id\", \"name\": \"NOW___run\", \"content\": \"RESULT-TWO\"}]";

static const char ANSWERED[] =
    "[{\"role\": \"assistant\", \"content\": \"ANSWER\"}, {\"role\": \"user\", \"content\": \"THANKS\"}]";

/* Everything in order: a result behind its call, and nothing left out. */
static void assert_in_order(const char *what, const char *text, const char *const *parts) {
    const char *at = text;
    for (size_t i = 0; parts[i] != NULL; i++) {
        at = strstr(at, parts[i]);
        if (at == NULL) fail_msg("%s: %s is not in its place in\n%s", what, parts[i], text);
    }
}

static void test_whole_conversations(void **state) {
    (void)state;
    if (fixtures() == NULL) skip();
    static const char *const together[] = {"CITY-ONE", "ZONE-TWO", "RESULT-ONE", "RESULT-TWO",
                                           "ANSWER",   "THANKS",   NULL};
    static const char *const apart[] = {"CITY-ONE", "RESULT-ONE", "ZONE-TWO", "RESULT-TWO", "ANSWER", "THANKS", NULL};
    for (size_t t = 0; t < N_TEMPLATES; t++) {
        model m;
        open_model(&m, t);
        json_t *messages = json_loads(WHOLE, 0, NULL), *more = json_loads(ANSWERED, 0, NULL), *before;
        mr_buf text = {0}, longer = {0};
        before = json_deep_copy(messages);
        render(&m, messages, true, &text, TEMPLATES[t].file);
        assert_true(json_equal(before, messages)); /* the caller's own stays as it is */
        json_array_extend(messages, more);
        render(&m, messages, true, &longer, TEMPLATES[t].file);
        static const char *const shown[] = {"SYSTEM-TEXT", "QUESTION", "get_weather"};
        for (size_t i = 0; i < 3; i++) {
            if (strstr(longer.data, shown[i]) == NULL)
                fail_msg("%s: no %s in\n%s", TEMPLATES[t].file, shown[i], longer.data);
        }
        assert_in_order(TEMPLATES[t].file, longer.data, m.caps.calls && !m.caps.parallel ? apart : together);
        mr_buf_free(&text);
        mr_buf_free(&longer);
        json_decref(messages);
        json_decref(more);
        json_decref(before);
        close_model(&m);
    }
}

/* --- what fitting does, on small templates --- */

static void expect_render(const char *source, const char *format, const char *messages, bool with_tools,
                          const char *expected) {
    model m = {.format = mr_tool_format_find(format)};
    mr_error err = {0};
    assert_int_equal(mr_chat_template_from_text(&m.chat, source, strlen(source), &specials, &err), MR_OK);
    mr_tool_caps_probe(m.chat, &m.caps);
    m.tools = with_tools ? json_loads("[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]", 0, NULL) : NULL;
    json_t *json = json_loads(messages, 0, NULL);
    mr_buf text = {0};
    assert_non_null(json);
    render(&m, json, false, &text, source);
    assert_string_equal(mr_buf_cstr(&text), expected);
    mr_buf_free(&text);
    json_decref(json);
    close_model(&m);
}

/* Knows users and assistants only, and wants them to take turns. */
static const char PLAIN[] = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ "
                            "raise_exception('turns') }}{% endif %}"
                            "[{{ m.role }}: {{ m.content }}]{% endfor %}";

static void test_fitting(void **state) {
    (void)state;
    expect_render(PLAIN, "generic",
                  "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}]", false,
                  "[user: S\n\nU]");
    expect_render(
        PLAIN, "generic",
        "[{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"content\": \"T\", \"tool_calls\": "
        "[{\"id\": \"1\", \"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}, {\"id\": \"2\", \"function\": "
        "{\"name\": \"g\", \"arguments\": {\"x\": 0.1}}}]}, {\"role\": \"tool\", \"tool_call_id\": \"1\", \"content\": "
        "\"A\"}, {\"role\": \"tool\", \"tool_call_id\": \"2\", \"content\": \"B\"}, {\"role\": \"user\", \"content\": "
        "\"V\"}]",
        false,
        "[user: U][assistant: T\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
        "{}}\n</tool_call>\n<tool_call>\n{\"name\": "
        "\"g\", \"arguments\": {\"x\": 0.1}}\n</tool_call>][user: "
        "<tool_response>\nA\n</tool_response>\n<tool_response>\n"
        "B\n</tool_response>\n\nV]");
    expect_render(
        PLAIN, "generic", "[{\"role\": \"user\", \"content\": \"U\"}]", true,
        "[user: You can call functions. These are known, one JSON object a line:\n<tools>\n{\"type\": \"function\", "
        "\"function\": {\"name\": \"f\"}}\n</tools>\nTo call one, write its name and its arguments exactly in this "
        "form:\n<tool_call>\n{\"name\": \"FUNCTION\", \"arguments\": {\"ARGUMENT\": \"VALUE\"}}\n</tool_call>\nFor "
        "several "
        "calls, write several of them, one after the other. Write nothing behind the calls; the results come back "
        "in <tool_response> tags. When no function helps, answer in plain text.\n\nU]");
}

static void test_null_and_text(void **state) {
    (void)state;
    static const char call[] =
        "[{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"tool_calls\": [{\"id\": "
        "\"a-long-id\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}}]}]";
    /* Content "" would show as a turn of its own. */
    expect_render(
        "{% for m in messages %}{% if m.tool_calls %}{C {{ m.tool_calls[0].function.arguments.x }}{{ "
        "m.tool_calls[0].function.arguments.a }}}{% endif %}{% if m.content is not none %}<{{ m.content }}>{% "
        "endif %}{% endfor %}",
        "hermes", call, false, "<U>{C 1}");
    expect_render("{% for m in messages %}<{{ '' + m.content }}{% for c in m.tool_calls or [] %}{{ '' + "
                  "c.function.arguments }}{% "
                  "endfor %}>{% endfor %}",
                  "hermes", call, false, "<U><{\"x\": 1}>");
    /* Ids of nine letters and digits, the same ones each time. */
    static const char ids[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments.a }}{{ c.id|length }}{% if "
        "c.id|length != 9 or '-' in c.id %}{{ raise_exception('id') }}{% endif %}{% endfor %}{% endfor %}";
    expect_render(ids, "mistral", call, false, "9");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_detection), cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_whole_conversations), cmocka_unit_test(test_fitting),
                                       cmocka_unit_test(test_null_and_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
