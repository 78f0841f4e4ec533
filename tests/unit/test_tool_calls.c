/* floors: text */
/* Tool calls in the text of an answer: each family's own way, whole and in pieces, malformed ones, and the thoughts and
 * texts around them. */
#include "text/output_parser.h"
#include "text/tool_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- parsing to a short text --- */

/* What came out: content, "{T}" before each thought, and each call as <<name|id|arguments>>. Ids that were made up are
 * left out. */
typedef struct result {
    mr_buf content, reasoning, calls;
    size_t n_started, n_calls;
    bool own_ids;
} result;

static mr_status take(void *ctx, const mr_output_event *event, mr_error *err) {
    result *r = ctx;
    (void)err;
    switch (event->kind) {
    case MR_OUTPUT_CONTENT:
        assert_true(event->len > 0);
        mr_buf_append(&r->content, event->text, event->len);
        break;
    case MR_OUTPUT_REASONING:
        assert_true(event->len > 0);
        mr_buf_append(&r->reasoning, event->text, event->len);
        break;
    case MR_OUTPUT_CALL_STARTED:
        assert_int_equal(event->index, r->n_calls);
        r->n_started++;
        break;
    default:
        assert_int_equal(event->index, r->n_calls);
        r->n_calls++;
        assert_true(r->n_started >= r->n_calls);
        assert_true(strlen(event->id) > 0);
        assert_int_equal(event->arguments[0], '{');
        mr_buf again = {0};
        assert_true(mr_json_compact(event->arguments, strlen(event->arguments), false, &again));
        assert_string_equal(again.data, event->arguments);
        mr_buf_free(&again);
        mr_buf_printf(&r->calls, "%s(%s)%s%s;", event->name, event->arguments, r->own_ids ? "#" : "",
                      r->own_ids ? event->id : "");
    }
    return MR_OK;
}

static void free_result(result *r) {
    mr_buf_free(&r->content);
    mr_buf_free(&r->reasoning);
    mr_buf_free(&r->calls);
}

static void parse(const mr_output_options *base, const char *text, size_t len, size_t step, bool cut, result *r) {
    mr_output_options options = *base;
    mr_error err = {0};
    options.on_event = take;
    options.ctx = r;
    mr_output_parser *parser = mr_output_parser_new(&options);
    assert_non_null(parser);
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        assert_int_equal(mr_output_parser_push(parser, text + at, n, &err), MR_OK);
    }
    assert_int_equal(mr_output_parser_finish(parser, cut, &err), MR_OK);
    assert_int_equal(mr_output_parser_n_calls(parser), r->n_calls);
    mr_output_parser_free(parser);
}

static void expect_with(const mr_output_options *options, const char *text, bool cut, const char *content,
                        const char *reasoning, const char *calls) {
    static const size_t steps[] = {100000, 1, 2, 3, 7, 16};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        result r = {.own_ids = options->first_number > 0};
        parse(options, text, strlen(text), steps[i], cut, &r);
        if (strcmp(mr_buf_cstr(&r.content), content) != 0 || strcmp(mr_buf_cstr(&r.reasoning), reasoning) != 0 ||
            strcmp(mr_buf_cstr(&r.calls), calls) != 0) {
            fail_msg("%s, in pieces of %zu:\n%s\n  content:   \"%s\"\n  instead:   \"%s\"\n  reasoning: \"%s\"\n  "
                     "instead:   \"%s\"\n  calls:     %s\n  instead:   %s",
                     options->tools != NULL ? options->tools->name : "no tools", steps[i], text,
                     mr_buf_cstr(&r.content), content, mr_buf_cstr(&r.reasoning), reasoning, mr_buf_cstr(&r.calls),
                     calls);
        }
        free_result(&r);
    }
}

static json_t *tool_list;

static const char TOOLS[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"w\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"description\":\"c\"},\"days\":{\"type\":\"integer\","
    "\"description\":\"d\"},\"units\":{\"type\":\"object\",\"description\":\"u\"},\"code\":{\"type\":[\"string\","
    "\"null\"],\"description\":\"z\"}},\"required\":[\"city\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\",\"description\":\"t\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"zone\":{\"type\":\"string\",\"description\":\"z\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"python\",\"description\":\"p\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"code\":{\"type\":\"string\",\"description\":\"c\"}}}}}]";

static mr_output_options options_for(const char *family) {
    mr_output_options options = {
        .tools = mr_tool_format_find(family), .tool_list = tool_list, .extract_reasoning = true};
    assert_non_null(options.tools);
    return options;
}

static void expect(const char *family, const char *text, const char *content, const char *calls) {
    mr_output_options options = options_for(family);
    expect_with(&options, text, false, content, "", calls);
}

#define W "get_weather({\"city\":\"Paris\"});"
#define NOW "now({});"

/* --- the families --- */

static void test_hermes(void **state) {
    (void)state;
    expect("hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>", "",
           W);
    expect("hermes",
           "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n"
           "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\nDone.",
           "Let me see.\n\n\nDone.", W NOW);
    expect("hermes", "<tool_call>{\"arguments\":{\"city\":\"Paris\"},\"name\":\"get_weather\"}</tool_call>", "", W);
    expect("hermes",
           "<tool_call>[{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Paris\"}},{\"name\":\"now\"}]</tool_call>",
           "", W NOW);
    expect("hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1.50}\"}\n</tool_call>", "",
           "f({\"a\":1.50});");
    expect(
        "hermes",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call> \\\"q\\\" \\u00e9 \\ud83d\\ude00 {é}\","
        " \"n\": [1, {\"x\": null}], \"big\": 123456789012345678901234567890}}\n</tool_call>",
        "",
        "f({\"s\":\"</tool_call> \\\"q\\\" \\u00e9 \\ud83d\\ude00 {é}\",\"n\":[1,{\"x\":null}],\"big\":"
        "123456789012345678901234567890});");
}

static void test_repairs(void **state) {
    (void)state;
    expect("hermes", "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}", "", NOW);
    expect("hermes", "<tool_call>\n{\"name\": \"now\", \"arguments\": {}", "", NOW);
    expect("hermes", "<tool_call>\n{\"name\": \"now\", \"arguments\": {}\n</tool_call> ok", "ok", NOW);
    expect("hermes", "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}}\n</tool_call>", "", NOW);
    expect("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, 2,], \"b\": True,},}</tool_call>", "",
           "f({\"a\":[1,2],\"b\":true});");
    expect("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x\ny\\'\"}}</tool_call>", "",
           "f({\"a\":\"x\\ny'\"});");
    mr_output_options options = options_for("hermes");
    expect_with(&options, "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": 1", true,
                "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": 1", "", "");
    expect_with(&options, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}", true, "", "", NOW);
}

static void test_what_is_no_call(void **state) {
    (void)state;
    static const char *const texts[] = {
        "plain text, \"quoted\" {braces} [brackets]\n\n",
        "Use the <tool_call> tag.",
        "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>",
        "<tool_call>\n{\"name\": f}\n</tool_call>",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"nothing\": 1}\n</tool_call> and more",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"\\q\"}}</tool_call>",
        "<tool_call",
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>\n{\"name\": \"f\" \"arguments\": {}}</tool_call>",
        "<tool_call>\n\n\n<tool_call>",
        "",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        expect("hermes", texts[i], texts[i], "");
        if (strchr(texts[i], '{') == NULL) expect("glm 4", texts[i], texts[i], "");
        expect("llama 3", texts[i], texts[i], "");
    }
    expect("hermes", "<tool_call>bad <tool_call>{\"name\": \"now\"}</tool_call>", "<tool_call>bad", NOW);
    expect("generic", "{\"answer\": 1, \"name\": \"now\", \"arguments\": {}}",
           "{\"answer\": 1, \"name\": \"now\", \"arguments\": {}}", "");
    expect("generic", "{\"name\": \"Bob\", \"parameters\": {}}", "{\"name\": \"Bob\", \"parameters\": {}}", "");
    expect("generic", "{\"name\": \"now\"}", "{\"name\": \"now\"}", "");
}

static void test_llama(void **state) {
    (void)state;
    expect("llama 3", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}", "", W);
    expect("llama 3", "\n{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {}}", "",
           NOW NOW);
    expect("llama 3", "{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}", "", NOW);
    expect("llama 3", "{\"type\": \"function\", \"function\": {\"name\": \"now\", \"parameters\": {}}}", "", NOW);
    expect("llama 3", "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", "", NOW);
    expect("llama 3", "<|python_tag|>get_weather.call(city=\"Paris\")", "", W);
    expect("llama 3", "<|python_tag|>print(\"a\")\nx = 1", "", "python({\"code\":\"print(\\\"a\\\")\\nx = 1\"});");
    expect("llama 3", "Hello {\"name\": \"now\", \"parameters\": {}}", "Hello {\"name\": \"now\", \"parameters\": {}}",
           "");
}

static void test_mistral(void **state) {
    (void)state;
    expect("mistral",
           "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\", "
           "\"arguments\": {}}]",
           "", W NOW);
    expect("mistral",
           "[TOOL_CALLS] [{\"arguments\": {\"city\": \"Paris\"}, \"name\": \"get_weather\", \"id\": \"123456789\"}]",
           "", W);
    expect("mistral", "Text.[TOOL_CALLS]now[ARGS]{}", "Text.", NOW);
    expect("mistral args", "Text.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]now[ARGS]{}", "Text.",
           W NOW);
    expect("mistral args", "[TOOL_CALLS]now{}", "", NOW);
    expect("mistral args", "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]", "", NOW);
    expect("mistral call id", "[TOOL_CALLS]now[ARGS]{}", "", NOW);
    expect("mistral", "[TOOL_CALLS]oh no", "oh no", "");
    mr_output_options options = options_for("mistral call id");
    options.first_number = 1; /* shows ids */
    expect_with(&options, "[TOOL_CALLS]now[CALL_ID]abc456789[ARGS]{}[TOOL_CALLS]now[CALL_ID]abc45678A[ARGS]{}", false,
                "", "", "now({})#abc456789;now({})#abc45678A;");
    options.tools = mr_tool_format_find("mistral");
    expect_with(&options, "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}, \"id\": \"123456789\"}]", false, "", "",
                "now({})#123456789;");
}

static void test_others(void **state) {
    (void)state;
    expect("deepseek r1",
           "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
           "\"Paris\"}\n```"
           "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
           "<｜tool▁calls▁end｜>",
           "Hm.", W NOW);
    expect(
        "deepseek v3.1",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "", W NOW);
    expect("command r7b",
           "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": "
           "{\"city\": \"Paris\"}},"
           "\n    {\"tool_call_id\": \"1\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>",
           "", W NOW);
    expect("command r",
           "Action: ```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        \"parameters\": {\"city\": "
           "\"Paris\"}\n    }\n]\n```",
           "", W);
    expect("granite", "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]", "", W);
    expect("granite", "<|tool_call|>{\"name\": \"now\", \"arguments\": {}}", "", NOW);
    expect("functionary v3.2", ">>>all\nHello.>>>get_weather\n{\"city\": \"Paris\"}>>>now\n{}", "Hello.", W NOW);
    expect("functionary v3.2", "a >>> b >>>x\n", "a >>> b >>>x\n", "");
    expect("functionary v3.1", "Hi <function=get_weather>{\"city\": \"Paris\"}</function><function=now>{}</function>",
           "Hi", W NOW);
    expect("functionary v3.1", "<|python_tag|>1 + 1", "", "python({\"code\":\"1 + 1\"});");
    expect("firefunction v2",
           "Sure functools[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\", "
           "\"arguments\": {}}]",
           "Sure", W NOW);
    expect("lfm2", "<|tool_call_start|>[get_weather(city='Paris'), now()]<|tool_call_end|>Checking.", "Checking.",
           W NOW);
    expect("lfm2", "<|tool_call_start|>[f(a=[1, 'x\\'y'], b={'k': True}, c=None, d=-1.5e3, e=(1,))]<|tool_call_end|>",
           "", "f({\"a\":[1,\"x'y\"],\"b\":{\"k\":true},\"c\":null,\"d\":-1.5e3,\"e\":[1]});");
    expect("lfm2", "<|tool_call_start|>[f(a='\\ud83d\\ude00\\u00e9\\n\\x41\\q', b=\"\\ud83d\")]<|tool_call_end|>", "",
           "f({\"a\":\"😀é\\nA\\\\q\",\"b\":\"\uFFFD\"});");
    expect("apertus", "<|tools_prefix|>[{\"get_weather\": {\"city\": \"Paris\"}}, {\"now\": {}}]<|tools_suffix|>", "",
           W NOW);
    expect("minimax m2",
           "Ok.\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter "
           "name=\"city\">Paris</parameter>\n</invoke>\n"
           "<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>",
           "Ok.", W NOW);
    mr_output_options options = options_for("kimi k2");
    options.first_number = 1;
    expect_with(
        &options,
        "A<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:3<|tool_call_argument_begin|>{\"city\": "
        "\"Paris\"}<|tool_call_end|><|tool_call_begin|>now<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        false, "A", "", "get_weather({\"city\":\"Paris\"})#functions.get_weather:3;now({})#functions.now:2;");
}

static void test_tags(void **state) {
    (void)state;
    expect("qwen3 coder",
           "I'll "
           "look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n"
           "</parameter>\n<parameter=units>\n{\"t\": "
           "\"C\"}\n</parameter>\n<parameter=code>\nnull\n</parameter>\n</function>\n"
           "</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
           "I'll look.", "get_weather({\"city\":\"Paris\",\"days\":3,\"units\":{\"t\":\"C\"},\"code\":null});" NOW);
    expect("qwen3 coder", "<function=get_weather>\n<parameter=city>\n75001\n</parameter>\n</function>", "",
           "get_weather({\"city\":\"75001\"});");
    expect("qwen3 coder",
           "<tool_call>\n<function=f>\n<parameter=text>\n\n a < b\n</p>\n\n</parameter>\n</function>\n</tool_call>", "",
           "f({\"text\":\"\\n a < b\\n</p>\\n\"});");
    expect("qwen3 coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>", "", W);
    expect("qwen3 coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis",
           "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis", "");
    expect("qwen3 coder", "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>", "", NOW);
    expect("glm 4",
           "\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
           "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
           "", "get_weather({\"city\":\"Paris\",\"days\":3});" NOW);
    expect("glm 4", "<tool_call>now</tool_call>", "", NOW);
    expect("glm 4", "Is <tool_call> now a tag?", "Is <tool_call> now a tag?", "");
}

static void test_harmony(void **state) {
    (void)state;
    mr_output_options options = options_for("gpt-oss");
    const char *text =
        "<|channel|>analysis<|message|>Hm, <b>.<|end|><|start|>assistant<|channel|>commentary<|message|>I look."
        "<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        "{\"city\": \"Paris\"}<|call|>";
    expect_with(&options, text, false, "I look.", "Hm, <b>.", W);
    expect_with(&options, " to=functions.now<|channel|>commentary json<|message|>{}", false, "", "", NOW);
    expect_with(&options, "<|channel|>final<|message|>Yes.<|return|>", false, "Yes.", "", "");
    expect_with(&options, "Just text.<|end|>", false, "Just text.", "", "");
    expect_with(&options, "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{bad<|call|>", false,
                "{bad", "", "");
    expect_with(&options,
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>", false,
                "", "a\nb", "");
    options.extract_reasoning = false;
    expect_with(&options, text, false, "<think>\nHm, <b>.\n</think>\n\nI look.", "", W);
}

static void test_reasoning(void **state) {
    (void)state;
    mr_output_options options = options_for("hermes");
    const char *call =
        "<think>\nShould I? <tool_call>{\"name\": \"now\"}</tool_call>\n</think>\n\nOk.\n<tool_call>\n{\"name\": "
        "\"now\", \"arguments\": {\"a\": \"\n<think>x</think>\"}}\n</tool_call>";
    expect_with(&options, call, false, "Ok.", "Should I? <tool_call>{\"name\": \"now\"}</tool_call>",
                "now({\"a\":\"\\n<think>x</think>\"});");
    options.extract_reasoning = false;
    expect_with(&options, call, false, "<think>\nShould I? <tool_call>{\"name\": \"now\"}</tool_call>\n</think>\n\nOk.",
                "", "now({\"a\":\"\\n<think>x</think>\"});");
    options = options_for("deepseek v3.1");
    options.reasoning_open = true;
    expect_with(
        &options,
        "I call.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        false, "", "I call.", NOW);
    options = options_for("command r7b");
    options.reasoning = mr_reasoning_detect("<|START_THINKING|>");
    expect_with(&options, "<|START_THINKING|>Plan.<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>", false,
                "Hello.", "Plan.", "");
    options.extract_reasoning = false;
    expect_with(&options,
                "<|START_THINKING|>Plan.<|END_THINKING|><|START_ACTION|>[{\"tool_name\": \"now\"}]<|END_ACTION|>",
                false, "<think>\nPlan.\n</think>", "", NOW);
    options = options_for("mistral");
    options.reasoning = mr_reasoning_detect("[THINK]");
    expect_with(&options, "[THINK]a[/THINK]b[TOOL_CALLS][{\"name\": \"now\"}]", false, "b", "a", NOW);
    options = options_for("generic");
    expect_with(&options, "<think>\na\n</think>\n\n{\"name\": \"now\", \"arguments\": {}}", false, "", "a", NOW);
    options.extract_reasoning = false;
    expect_with(&options, "<think>\na\n</think>\n\n{\"name\": \"now\", \"arguments\": {}}", false,
                "<think>\na\n</think>", "", NOW);
}

/* Long answers byte by byte: what was seen once is not looked at again for each byte. */
static void test_long_answers(void **state) {
    (void)state;
    static const struct {
        const char *family, *head, *unit, *tail;
        size_t n_calls;
    } cases[] = {
        {"hermes", "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"", "x <y ", "\"}}</tool_call>", 1},
        {"hermes", "", "<tool_call>{\"a\":\"", "", 0},
        {"hermes", "<tool_call>{\"name\":\"now\"}</tool_call>", "     ", "", 1},
        {"qwen3 coder", "<function=f>\n<parameter=a>\n", "</para", "\n</parameter>\n</function>", 1},
        {"glm 4", "<tool_call>now", "\n\n\n\n", "</tool_call>", 1},
        {"gpt-oss", "<|channel|>commentary to=functions.python<|message|>", "< x< ", "<|call|>", 1},
        {"lfm2", "<|tool_call_start|>[f(a=[", "1, 2,", "])]", 1},
        {"llama 3", "<|python_tag|>", "x+<|e", "<|eom_id|>", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_buf text = {0};
        mr_buf_puts(&text, cases[i].head);
        while (text.len < 400000) mr_buf_puts(&text, cases[i].unit);
        mr_buf_puts(&text, cases[i].tail);
        mr_output_options options = options_for(cases[i].family);
        result r = {0};
        parse(&options, text.data, text.len, 1, false, &r);
        assert_int_equal(r.n_calls, cases[i].n_calls);
        if (r.n_calls == 0) assert_int_equal(r.content.len, text.len);
        free_result(&r);
        mr_buf_free(&text);
    }
}

static int set_up(void **state) {
    (void)state;
    tool_list = json_loads(TOOLS, 0, NULL);
    return tool_list == NULL;
}

static int tear_down(void **state) {
    (void)state;
    json_decref(tool_list);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hermes),       cmocka_unit_test(test_repairs), cmocka_unit_test(test_what_is_no_call),
        cmocka_unit_test(test_llama),        cmocka_unit_test(test_mistral), cmocka_unit_test(test_others),
        cmocka_unit_test(test_tags),         cmocka_unit_test(test_harmony), cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_long_answers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
