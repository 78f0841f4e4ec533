/* floors: service */
#define _DEFAULT_SOURCE
#include "service/settings.h"

#include "base/buf.h"
#include "service/pb_wire.h"
#include "service/pbjson.h"
#include "settings.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A scratch folder with the files a/one.gguf, two/{x,y}.gguf, split/m-0000{1,2}-of-00002.gguf, t.jinja, none/. */
static char dir[] = "/tmp/mr_settings_XXXXXX";

static void touch(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(name, file);
    fclose(file);
}

static void make_dir(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(dir) == NULL) return -1;
    setenv("HF_HUB_OFFLINE", "1", 1); /* no test asks the network */
    setenv("HF_HUB_CACHE", dir, 1);
    make_dir("a");
    make_dir("two");
    make_dir("split");
    make_dir("none");
    touch("a/one.gguf");
    touch("two/x.gguf");
    touch("two/y.gguf");
    touch("split/m-00001-of-00002.gguf");
    touch("split/m-00002-of-00002.gguf");
    touch("t.jinja");
    touch("t.txt");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

/* Decodes settings given as JSON; every @ stands for the scratch folder. */
static mr_status decode(const char *json_text, mr_settings *settings, mr_error *err) {
    mr_buf text = {0}, bytes = {0};
    for (const char *p = json_text; *p != '\0'; p++) {
        if (*p == '@')
            mr_buf_puts(&text, dir);
        else
            mr_buf_putc(&text, *p == '\'' ? '"' : *p);
    }
    mr_arena arena = {0};
    ProtobufCMessage *message;
    json_t *json = json_loads(mr_buf_cstr(&text), 0, NULL);
    assert_non_null(json);
    mr_status status =
        mr_pb_from_json(&jobworkerp__runner__llm__local_runner_settings__descriptor, json, &arena, &message, err);
    if (status != MR_OK) fail_msg("%s", err->text);
    assert_true(mr_pb_pack(message, &bytes));
    json_decref(json);
    mr_arena_free(&arena);
    mr_buf_free(&text);
    status = mr_settings_decode(settings, (uint8_t *)bytes.data, bytes.len, NULL, err);
    mr_buf_free(&bytes);
    return status;
}

static mr_settings decoded(const char *json_text) {
    mr_settings settings;
    mr_error err = {0};
    if (decode(json_text, &settings, &err) != MR_OK) fail_msg("%s", err.text);
    return settings;
}

static void assert_refused(const char *json_text, mr_status expected, const char *part) {
    mr_settings settings;
    mr_error err = {0};
    assert_int_equal(decode(json_text, &settings, &err), expected);
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" is not in: %s", part, err.text);
}

static void assert_one_path(const char *json_text, const char *tail) {
    mr_settings settings = decoded(json_text);
    assert_int_equal(settings.n_paths, 1);
    assert_non_null(strstr(settings.paths[0], tail));
    mr_settings_free(&settings);
}

static void test_finds_the_files(void **state) {
    (void)state;
    assert_one_path("{'gguf_model':{'model_name_or_path':'@/a','gguf_files':['one.gguf']}}", "/a/one.gguf");
    assert_one_path("{'model_settings':{'gguf_model':{'model_name_or_path':'@/a','gguf_files':['one.gguf']}}}",
                    "/a/one.gguf");
    assert_one_path("{'gguf_model':{'model_name_or_path':'@/a/one.gguf'}}", "/a/one.gguf");
    assert_one_path("{'gguf_model':{'model_name_or_path':'@/a'}}", "/a/one.gguf");
    assert_one_path("{'gguf_model':{'model_name_or_path':'@/split'}}", "m-00001-of-00002.gguf");
    mr_settings settings = decoded("{'gguf_model':{'model_name_or_path':'@/split','gguf_files':["
                                   "'m-00001-of-00002.gguf','m-00002-of-00002.gguf']}}");
    assert_int_equal(settings.n_paths, 2);
    assert_non_null(strstr(settings.paths[1], "m-00002-of-00002.gguf"));
    mr_settings_free(&settings);
}

static void test_no_model_is_the_embedded_one(void **state) {
    (void)state;
    mr_settings settings = decoded("{}");
    assert_int_equal(settings.n_paths, 0);
    assert_non_null(strstr(settings.key, "embedded"));
    mr_settings_free(&settings);
}

static void test_refusals_say_what_to_do(void **state) {
    (void)state;
    assert_refused(
        "{'gguf_model':{'model_name_or_path':'@/a'},'model_settings':{'gguf_model':{'model_name_or_path':'@/a'}}}",
        MR_ERR_INVALID, "name a model twice");
    assert_refused("{'gguf_model':{}}", MR_ERR_INVALID, "names no model");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/nowhere'}}", MR_ERR_NOT_FOUND, "does not exist");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/a','gguf_files':['two.gguf']}}", MR_ERR_NOT_FOUND,
                   "two.gguf");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/a/one.gguf','gguf_files':['x']}}", MR_ERR_INVALID,
                   "is a file");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/two'}}", MR_ERR_INVALID, "x.gguf, y.gguf");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/none'}}", MR_ERR_NOT_FOUND, "no .gguf file");
    assert_refused("{'gguf_model':{'model_name_or_path':'owner/model'}}", MR_ERR_NOT_FOUND, "HF_HUB_OFFLINE");
    assert_refused("{'text_model':{'model_name_or_path':'mistralai/Mistral-7B-v0.1'}}", MR_ERR_NOT_FOUND, "the cache");
    assert_refused("{'text_model':{}}", MR_ERR_INVALID, "names no model");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/a','chat_template':'@/t.txt'}}", MR_ERR_INVALID, "t.txt");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/a','chat_template':'@/u.jinja'}}", MR_ERR_NOT_FOUND,
                   "u.jinja");
    assert_refused("{'gguf_model':{'model_name_or_path':'@/a','tok_model_id':'@/x/y'}}", MR_ERR_NOT_FOUND,
                   "tok_model_id");
    assert_refused("{'kv_cache_type':'q3'}", MR_ERR_INVALID, "kv_cache_type");
    assert_refused("{'device':'cuda:x'}", MR_ERR_INVALID, "cuda:x");
    assert_refused("{'device':'cuda:'}", MR_ERR_INVALID, "cuda:");
    assert_refused("{'device':'cuda:99999'}", MR_ERR_INVALID, "cuda:N");
    assert_refused("{'device':'abacus'}", MR_ERR_INVALID, "abacus");
    assert_refused("{'threads':100000}", MR_ERR_INVALID, "threads is 100000");
    assert_refused("{'context_size':4000000000}", MR_ERR_INVALID, "context_size");
    mr_settings settings;
    mr_error err = {0};
    assert_int_equal(mr_settings_decode(&settings, (const uint8_t *)"\x12\x7f", 2, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "gguf_model"));
}

static void test_sizes_and_flags(void **state) {
    (void)state;
    mr_settings settings = decoded("{'auto_device_map':{'max_seq_len':1000,'max_batch_size':3},'max_concurrent':5,"
                                   "'threads':2,'kv_cache_type':'Q8_0','stream_final_full_text':true,'device':'cpu',"
                                   "'gguf_model':{'model_name_or_path':'@/a','with_logging':true,"
                                   "'chat_template':'@/t.jinja','tok_model_id':'owner/name'}}");
    assert_int_equal(settings.context_size, 1000);
    assert_int_equal(settings.max_concurrent, 5);
    assert_int_equal(settings.threads, 2);
    assert_string_equal(settings.device, "cpu");
    assert_int_equal(settings.kv_type, MR_KV_Q8_0);
    assert_true(settings.stream_final_full_text && settings.with_logging);
    assert_non_null(strstr(settings.chat_template, "t.jinja"));
    assert_null(settings.tokenizer_folder);
    mr_settings_free(&settings);
}

static void assert_keys(const char *a, const char *b, bool equal) {
    mr_settings one = decoded(a), other = decoded(b);
    assert_int_equal(strcmp(one.key, other.key) == 0, equal);
    mr_settings_free(&one);
    mr_settings_free(&other);
}

static void test_keys(void **state) {
    (void)state;
    const char *base = "{'gguf_model':{'model_name_or_path':'@/a'}}";
    assert_keys(base, "{'model_settings':{'gguf_model':{'model_name_or_path':'@/two/../a/one.gguf'}}}", true);
    assert_keys(base, "{'gguf_model':{'model_name_or_path':'@/a','with_logging':true},'stream_final_full_text':true}",
                true);
    assert_keys(base, "{'gguf_model':{'model_name_or_path':'@/two/x.gguf'}}", false);
    assert_keys(base, "{'gguf_model':{'model_name_or_path':'@/a'},'context_size':512}", false);
    assert_keys(base, "{'gguf_model':{'model_name_or_path':'@/a','chat_template':'@/t.jinja'}}", false);
    assert_keys(base, "{'gguf_model':{'model_name_or_path':'@/a'},'kv_cache_type':'f32'}", false);
    mr_settings before = decoded(base);
    touch("a/one.gguf2");
    char from[256], to[256];
    snprintf(from, sizeof from, "%s/a/one.gguf2", dir);
    snprintf(to, sizeof to, "%s/a/one.gguf", dir);
    assert_int_equal(rename(from, to), 0);
    mr_settings after = decoded(base);
    assert_string_not_equal(before.key, after.key);
    mr_settings_free(&before);
    mr_settings_free(&after);
}

static void test_tools_from_environment_and_message(void **state) {
    (void)state;
    unsetenv("MISTRAL_GRPC_ENDPOINT");
    mr_settings settings = decoded("{}");
    assert_null(settings.tools.grpc_endpoint);
    assert_int_equal(settings.tools.max_iterations, 3);
    assert_int_equal(settings.tools.tool_timeout_sec, 30);
    assert_int_equal(settings.tools.connection_timeout_sec, 10);
    assert_true(settings.tools.parallel);
    mr_settings_free(&settings);

    setenv("MISTRAL_GRPC_ENDPOINT", "http://localhost:50051", 1);
    setenv("MISTRAL_MAX_ITERATIONS", "7", 1);
    setenv("MISTRAL_TOOL_TIMEOUT_SEC", "soon", 1);
    setenv("MISTRAL_PARALLEL_TOOLS", "False", 1);
    settings = decoded("{'tool_calling':{'connection_timeout_sec':4}}");
    assert_string_equal(settings.tools.grpc_endpoint, "http://localhost:50051");
    assert_int_equal(settings.tools.max_iterations, 7);
    assert_int_equal(settings.tools.tool_timeout_sec, 30);
    assert_int_equal(settings.tools.connection_timeout_sec, 4);
    assert_false(settings.tools.parallel);
    mr_settings_free(&settings);

    settings =
        decoded("{'tool_calling':{'grpc_endpoint':'http://other:1','parallel_execution':true,'max_iterations':2}}");
    assert_string_equal(settings.tools.grpc_endpoint, "http://other:1");
    assert_int_equal(settings.tools.max_iterations, 2);
    assert_true(settings.tools.parallel);
    mr_settings_free(&settings);

    /* An endpoint that is none: a warning where the environment says it, an error where the settings do. */
    setenv("MISTRAL_GRPC_ENDPOINT", "ftp://localhost", 1);
    settings = decoded("{}");
    assert_null(settings.tools.grpc_endpoint);
    mr_settings_free(&settings);
    assert_refused("{'tool_calling':{'grpc_endpoint':'ftp://localhost'}}", MR_ERR_INVALID,
                   "tool_calling.grpc_endpoint");
    unsetenv("MISTRAL_GRPC_ENDPOINT");
    unsetenv("MISTRAL_MAX_ITERATIONS");
    unsetenv("MISTRAL_TOOL_TIMEOUT_SEC");
    unsetenv("MISTRAL_PARALLEL_TOOLS");
}

static void test_guesses_from_the_environment(void **state) {
    (void)state;
    unsetenv("MISTRAL_DRAFT_TOKENS");
    mr_settings without = decoded("{}");
    assert_int_equal(without.n_draft, 0);
    static const char *const values[] = {"8", "15", "0", "16", "-1", "many", ""};
    static const uint32_t expected[] = {8, 15, 0, 0, 0, 0, 0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        setenv("MISTRAL_DRAFT_TOKENS", values[i], 1);
        mr_settings with = decoded("{}");
        assert_int_equal(with.n_draft, expected[i]);
        assert_int_equal(strcmp(with.key, without.key) == 0, expected[i] == 0); /* another engine */
        mr_settings_free(&with);
    }
    mr_settings_free(&without);
    unsetenv("MISTRAL_DRAFT_TOKENS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_files),
        cmocka_unit_test(test_no_model_is_the_embedded_one),
        cmocka_unit_test(test_refusals_say_what_to_do),
        cmocka_unit_test(test_sizes_and_flags),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_guesses_from_the_environment),
        cmocka_unit_test(test_tools_from_environment_and_message),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
