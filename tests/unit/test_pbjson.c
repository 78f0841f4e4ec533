/* floors: service */
#include "service/pbjson.h"

#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "completion_args.pb-c.h"
#include "service/pb_wire.h"
#include "settings.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <stdlib.h>

typedef Jobworkerp__Runner__Llm__LLMChatArgs chat_args;
typedef Jobworkerp__Runner__Llm__LLMCompletionArgs completion_args;

#define CHAT (&jobworkerp__runner__llm__llmchat_args__descriptor)
#define COMPLETION (&jobworkerp__runner__llm__llmcompletion_args__descriptor)
#define SETTINGS (&jobworkerp__runner__llm__local_runner_settings__descriptor)

static mr_status from_text(const ProtobufCMessageDescriptor *type, const char *text, mr_arena *arena,
                           ProtobufCMessage **message, mr_error *err) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    mr_status status = mr_pb_from_json(type, json, arena, message, err);
    json_decref(json);
    return status;
}

static void assert_refused(const ProtobufCMessageDescriptor *type, const char *text, const char *expected) {
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    assert_int_equal(from_text(type, text, &arena, &message, &err), MR_ERR_INVALID);
    if (strstr(err.text, expected) == NULL) fail_msg("\"%s\" is not in: %s", expected, err.text);
    mr_arena_free(&arena);
}

static void test_reads_the_chat_example(void **state) {
    (void)state;
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    const char *text = "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"Hello, how are you?\"}},"
                       "{\"role\":3,\"content\":{\"toolCalls\":{\"calls\":[{\"callId\":\"c1\",\"fn_name\":\"f\"}]}}}],"
                       "\"options\":{\"max_tokens\":\"1024\",\"temperature\":0.7,\"seed\":-3,\"repeatLastN\":64.0},"
                       "\"json_schema\":null}";
    assert_int_equal(from_text(CHAT, text, &arena, &message, &err), MR_OK);
    const chat_args *args = (const chat_args *)message;
    assert_int_equal(args->n_messages, 2);
    assert_int_equal(args->messages[0]->role, JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__USER);
    assert_string_equal(args->messages[0]->content->text, "Hello, how are you?");
    assert_int_equal(args->messages[1]->role, JOBWORKERP__RUNNER__LLM__LLMCHAT_ARGS__CHAT_ROLE__ASSISTANT);
    assert_string_equal(args->messages[1]->content->tool_calls->calls[0]->call_id, "c1");
    assert_true(args->options->has_max_tokens && args->options->max_tokens == 1024);
    assert_true(args->options->temperature == 0.7f);
    assert_int_equal(args->options->seed, -3);
    assert_int_equal(args->options->repeat_last_n, 64);
    assert_false(args->options->has_top_p);
    assert_null(args->json_schema);
    mr_arena_free(&arena);
}

static void test_refuses_with_the_fields_name(void **state) {
    (void)state;
    assert_refused(CHAT, "{\"mesages\":[]}", "mesages: LLMChatArgs has no such field");
    assert_refused(CHAT, "{\"messages\":[{\"role\":\"USER\"},{\"role\":\"ROBOT\"}]}", "messages[1].role: \"ROBOT\"");
    assert_refused(CHAT, "{\"messages\":{}}", "messages: an array");
    assert_refused(CHAT, "{\"options\":{\"max_tokens\":1.5}}", "options.max_tokens: an integer");
    assert_refused(CHAT, "{\"options\":{\"max_tokens\":3000000000}}", "too large");
    assert_refused(CHAT, "{\"options\":{\"max_tokens\":\"12x\"}}", "options.max_tokens");
    assert_refused(CHAT, "{\"options\":{\"temperature\":\"hot\"}}", "options.temperature: a number");
    assert_refused(CHAT, "{\"options\":{\"temperature\":1e300}}", "too large");
    assert_refused(CHAT, "{\"options\":{\"max_tokens\":1,\"maxTokens\":2}}", "given twice");
    assert_refused(CHAT, "{\"options\":[]}", "options: an object");
    assert_refused(CHAT, "{\"messages\":[{\"content\":{\"text\":\"a\",\"image\":{}}}]}", "only one of these");
    assert_refused(CHAT, "{\"messages\":[null]}", "messages[0]: an object");
    assert_refused(CHAT, "{\"function_options\":{\"use_function_calling\":1}}", "true or false");
    assert_refused(SETTINGS, "{\"threads\":-1}", "threads: an integer that is not negative");
    assert_refused(CHAT, "[]", "an object is needed");
}

static void test_writes_json(void **state) {
    (void)state;
    typedef Jobworkerp__Runner__Llm__LLMChatResult result_type;
    Jobworkerp__Runner__Llm__ToolExecutionStarted started = JOBWORKERP__RUNNER__LLM__TOOL_EXECUTION_STARTED__INIT;
    started.call_id = "c";
    started.has_job_id = 1;
    started.job_id = INT64_MAX;
    Jobworkerp__Runner__Llm__LLMChatResult__Usage usage = JOBWORKERP__RUNNER__LLM__LLMCHAT_RESULT__USAGE__INIT;
    usage.has_total_prompt_time_sec = 1;
    usage.total_prompt_time_sec = 0.1f;
    result_type result = JOBWORKERP__RUNNER__LLM__LLMCHAT_RESULT__INIT;
    result.has_done = 1;
    result.usage = &usage;
    result.tool_execution_started = &started;
    json_t *json;
    mr_error err = {0};
    assert_int_equal(mr_pb_to_json(&result.base, &json, &err), MR_OK);
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    assert_string_equal(text, "{\"done\":false,\"usage\":{\"total_prompt_time_sec\":0.1},\"tool_execution_started\":"
                              "{\"call_id\":\"c\",\"job_id\":\"9223372036854775807\"}}");
    free(text);
    json_decref(json);
}

static void test_round_trip_through_bytes(void **state) {
    (void)state;
    const char *text =
        "{\"prompt\":\"p\",\"options\":{\"top_p\":0.25},\"context\":{\"ollama_context\":{\"data\":[1,-2,300000]}}}";
    mr_arena arena = {0}, again = {0};
    mr_error err = {0};
    ProtobufCMessage *message, *decoded;
    assert_int_equal(from_text(COMPLETION, text, &arena, &message, &err), MR_OK);
    mr_buf bytes = {0};
    assert_true(mr_pb_pack(message, &bytes));
    assert_int_equal(mr_pb_unpack(COMPLETION, (uint8_t *)bytes.data, bytes.len, &again, &decoded, &err), MR_OK);
    json_t *json;
    assert_int_equal(mr_pb_to_json(decoded, &json, &err), MR_OK);
    char *back = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    assert_string_equal(back, text);
    free(back);
    json_decref(json);
    mr_buf_free(&bytes);
    mr_arena_free(&arena);
    mr_arena_free(&again);
}

/* Every broken encoding is refused with the path of the field that is broken. */
static void assert_undecodable(const char *bytes, size_t n, const char *expected) {
    mr_error err = {0};
    assert_int_equal(mr_pb_check(CHAT, (const uint8_t *)bytes, n, &err), MR_ERR_INVALID);
    if (strstr(err.text, expected) == NULL) fail_msg("\"%s\" is not in: %s", expected, err.text);
}
#define UNDECODABLE(literal, expected) assert_undecodable(literal, sizeof(literal) - 1, expected)

static void test_undecodable_bytes(void **state) {
    (void)state;
    UNDECODABLE("\xff", "malformed field tag");
    UNDECODABLE("\x00", "malformed field tag");
    UNDECODABLE("\x0a\x05"
                "ab",
                "at model, the value is cut off");
    UNDECODABLE("\x0a\x02\xff\xfe", "at model, the text is not valid UTF-8");
    UNDECODABLE("\x0a\x02"
                "a\0",
                "at model, the text holds a NUL character");
    UNDECODABLE("\x2a\x00\x2a\x04\x12\x02\x0a\x05", "at messages[1].content.text");
    UNDECODABLE("\x12\x02\x15\x00", "at options.temperature");
    UNDECODABLE("\x12\x02\x10\x80", "at options.temperature");
    UNDECODABLE("\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "at options.max_tokens");
    UNDECODABLE("\x0b", "at model, the value is of another type");
    UNDECODABLE("\xa3\x06", "unknown wire type");
    mr_error err = {0};
    assert_int_equal(mr_pb_check(CHAT, (const uint8_t *)"\xa2\x06\x01x", 4, &err), MR_OK); /* an unknown field */
    assert_int_equal(mr_pb_check(CHAT, NULL, 0, &err), MR_OK);
    assert_int_equal(mr_pb_check(CHAT, (const uint8_t *)"", (size_t)MR_PB_MAX_BYTES + 1, &err), MR_ERR_LIMIT);
}

/* A message that is small on the wire and huge in memory meets the bound. */
static void test_memory_is_bounded(void **state) {
    (void)state;
    size_t n = 40 << 20;
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i += 2) {
        bytes[i] = 0x2a; /* an empty message of field 5 */
        bytes[i + 1] = 0;
    }
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    assert_int_equal(mr_pb_unpack(CHAT, bytes, n, &arena, &message, &err), MR_ERR_NOMEM);
    mr_arena_free(&arena);
    free(bytes);
}

/* Whatever single byte is changed, checking and decoding agree and nothing is read out of bounds. */
static void test_checked_bytes_decode(void **state) {
    (void)state;
    static const char GOOD[] = "\x0a\x01m\x12\x07\x08\x05\x15\x00\x00\x80\x3f\x2a\x09\x08\x02\x12\x05\x0a\x03"
                               "abc";
    uint8_t bytes[sizeof GOOD - 1];
    for (size_t at = 0; at < sizeof bytes; at++) {
        for (unsigned value = 0; value < 256; value++) {
            memcpy(bytes, GOOD, sizeof bytes);
            bytes[at] = (uint8_t)value;
            for (size_t n = at; n <= sizeof bytes; n++) {
                mr_arena arena = {0};
                mr_error err = {0};
                ProtobufCMessage *message = NULL;
                mr_status status = mr_pb_unpack(CHAT, bytes, n, &arena, &message, &err);
                assert_true(status == MR_OK ? message != NULL : status == MR_ERR_INVALID && err.text[0] != '\0');
                mr_arena_free(&arena);
            }
        }
    }
}

static void test_base64(void **state) {
    (void)state;
    static const char *const PAIRS[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"\xfb\xff", "+/8="}};
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        mr_buf text = {0}, bytes = {0};
        assert_true(mr_base64_encode(PAIRS[i][0], strlen(PAIRS[i][0]), &text));
        assert_string_equal(mr_buf_cstr(&text), PAIRS[i][1]);
        assert_true(mr_base64_decode(PAIRS[i][1], strlen(PAIRS[i][1]), &bytes));
        assert_string_equal(mr_buf_cstr(&bytes), PAIRS[i][0]);
        mr_buf_free(&text);
        mr_buf_free(&bytes);
    }
    mr_buf bytes = {0};
    assert_true(mr_base64_decode("-_8", 3, &bytes));
    assert_memory_equal(bytes.data, "\xfb\xff", 2);
    mr_buf_clear(&bytes);
    assert_false(mr_base64_decode("Zm9vZ", 5, &bytes));
    assert_false(mr_base64_decode("Z$==", 4, &bytes));
    mr_buf_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_the_chat_example),
        cmocka_unit_test(test_refuses_with_the_fields_name),
        cmocka_unit_test(test_writes_json),
        cmocka_unit_test(test_round_trip_through_bytes),
        cmocka_unit_test(test_undecodable_bytes),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_checked_bytes_decode),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
