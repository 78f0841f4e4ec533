/* floors: service */
#include "service/messages.h"

#include "service/pbjson.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Converts a chat's `messages`, given as JSON; ' stands for ". */
static mr_status convert(const char *text, json_t **messages, mr_error *err) {
    mr_buf quoted = {0};
    for (const char *p = text; *p != '\0'; p++) mr_buf_putc(&quoted, *p == '\'' ? '"' : *p);
    json_t *list = json_loads(mr_buf_cstr(&quoted), 0, NULL);
    assert_non_null(list);
    json_t *json = json_pack("{s:o}", "messages", list);
    mr_arena arena = {0};
    ProtobufCMessage *args;
    assert_int_equal(mr_pb_from_json(&jobworkerp__runner__llm__llmchat_args__descriptor, json, &arena, &args, err),
                     MR_OK);
    mr_status status = mr_messages_from_chat((const mr_pb_chat_args *)args, messages, err);
    json_decref(json);
    mr_arena_free(&arena);
    mr_buf_free(&quoted);
    return status;
}

static void assert_converted(const char *text, const char *expected) {
    json_t *messages;
    mr_error err = {0};
    if (convert(text, &messages, &err) != MR_OK) fail_msg("%s", err.text);
    char *got = json_dumps(messages, JSON_COMPACT);
    assert_string_equal(got, expected);
    free(got);
    json_decref(messages);
}

static void assert_refused(const char *text, mr_status expected, const char *part) {
    json_t *messages;
    mr_error err = {0};
    assert_int_equal(convert(text, &messages, &err), expected);
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" is not in: %s", part, err.text);
}

static void test_texts(void **state) {
    (void)state;
    assert_converted("[{'role':'SYSTEM','content':{'text':'s'}},{'role':'USER','content':{'text':''}},"
                     "{'role':'ASSISTANT','content':{'text':'a'}},{'role':'TOOL','content':{'text':'t'}}]",
                     "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"\"},"
                     "{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"tool\",\"content\":\"t\"}]");
}

static void test_tool_calls_and_results(void **state) {
    (void)state;
    assert_converted("[{'role':'ASSISTANT','content':{'tool_calls':{'calls':["
                     "{'call_id':'1','fn_name':'old','fn_arguments':'{}'}]}}},"
                     "{'role':'ASSISTANT','content':{'tool_calls':{'calls':["
                     "{'call_id':'1','fn_name':'add','fn_arguments':'{\\'a\\':1}'},{'call_id':'2','fn_name':'raw',"
                     "'fn_arguments':'not json'}]}}},"
                     "{'role':'TOOL','content':{'tool_results':{'results':[{'call_id':'1','content':'3'},"
                     "{'call_id':'9','fn_name':'named','content':'no','is_error':true}]}}}]",
                     "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
                     "\"function\":{\"name\":\"old\",\"arguments\":{}}}]},"
                     "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
                     "\"function\":{\"name\":\"add\",\"arguments\":{\"a\":1}}},{\"id\":\"2\",\"type\":\"function\","
                     "\"function\":{\"name\":\"raw\",\"arguments\":\"not json\"}}]},"
                     "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"name\":\"add\",\"content\":\"3\"},"
                     "{\"role\":\"tool\",\"tool_call_id\":\"9\",\"name\":\"named\",\"content\":\"Error: no\"}]");
}

static void test_refusals(void **state) {
    (void)state;
    assert_refused("[]", MR_ERR_INVALID, "no messages");
    assert_refused("[{'content':{'text':'x'}}]", MR_ERR_INVALID, "messages[0] has no role");
    assert_refused("[{'role':9,'content':{'text':'x'}}]", MR_ERR_INVALID, "unknown role 9");
    assert_refused("[{'role':'USER'}]", MR_ERR_INVALID, "messages[0] has no content");
    assert_refused("[{'role':'USER','content':{}}]", MR_ERR_INVALID, "messages[0] has no content");
    assert_refused("[{'role':'USER','content':{'text':'x'}},{'role':'USER','content':{'image':{}}}]",
                   MR_ERR_UNSUPPORTED, "messages[1] holds an image, but this model takes text only");
    assert_refused("[{'role':'USER','content':{'tool_calls':{'calls':[{'fn_name':'f'}]}}}]", MR_ERR_INVALID,
                   "ASSISTANT");
    assert_refused("[{'role':'ASSISTANT','content':{'tool_calls':{}}}]", MR_ERR_INVALID, "tool_calls is empty");
    assert_refused("[{'role':'ASSISTANT','content':{'tool_calls':{'calls':[{'call_id':'1'}]}}}]", MR_ERR_INVALID,
                   "no fn_name");
    assert_refused("[{'role':'TOOL','content':{'tool_results':{'results':[{'call_id':'1','content':'x'}]}}}]",
                   MR_ERR_INVALID, "no earlier message holds a call with the id \"1\"");
    assert_refused("[{'role':'TOOL','content':{'tool_execution_requests':{}}}]", MR_ERR_INVALID,
                   "tool_execution_requests is empty");
    assert_refused("[{'role':'TOOL','content':{'tool_execution_requests':{'requests':[{'call_id':'1'}]}}}]",
                   MR_ERR_INVALID, "no fn_name");
    assert_refused("[{'role':'SYSTEM','content':{'tool_execution_requests':{'requests':[{'fn_name':'f'}]}}}]",
                   MR_ERR_INVALID, "of the role TOOL");
}

#define REQUESTS(calls) "{'role':'TOOL','content':{'tool_execution_requests':{'requests':[" calls "]}}}"
#define CALL(id) "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"add\",\"arguments\":{\"a\":1}}}"
#define ASKED(calls) "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" calls "]}"

#define REQUEST(id) "{'call_id':'" id "','fn_name':'add','fn_arguments':'{\\\"a\\\":1}'}"

static void test_requests(void **state) {
    (void)state;
    /* Without the assistant's message of the calls, it is put in front. */
    assert_converted("[" REQUESTS(REQUEST("1")) "]", "[" ASKED(CALL("1")) ",{\"to_run\":[" CALL("1") "]}]");
    /* With it, not. A call whose result is known is not run again. */
    assert_converted(
        "[{'role':'ASSISTANT','content':{'tool_calls':{'calls':[" REQUEST("1") "," REQUEST("2") "]}}}," REQUESTS(
            REQUEST("1") "," REQUEST(
                "2")) ","
                      "{'role':'TOOL','content':{'tool_results':{'results':[{'call_id':'1','content':'3'}]}}}]",
        "[" ASKED(CALL("1") "," CALL("2")) ",{\"to_run\":[" CALL(
            "2") "]},"
                 "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"name\":\"add\",\"content\":\"3\"}]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_tool_calls_and_results),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
