/* floors: text */
/* Chat templates: the fixtures' templates against Python's results, loading from every kind of source, and the choice
 * among named templates. */
#include "text/chat_template.h"

#include "base/file.h"
#include "model/gguf_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { GOLDEN_NOW = 1720096496 };

static const mr_special_texts specials = {.bos = "<s>", .eos = "</s>", .unk = "<unk>", .pad = "<pad>"};

/* --- golden renderings --- */

static json_t *load(const char *name) {
    char path[4096];
    json_error_t problem;
    snprintf(path, sizeof path, "%s/tests/conformance/templates/%s", MR_SOURCE_DIR, name);
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &problem);
    if (json == NULL) fail_msg("%s: %s", path, problem.text);
    return json;
}

static int check(const char *template_name, const mr_chat_template *chat, json_t *conversation, json_t *golden) {
    mr_buf text = {0};
    mr_error err = {0};
    json_t *prompt = json_object_get(conversation, "add_generation_prompt");
    mr_status status = mr_chat_template_render_at(
        chat, json_object_get(conversation, "messages"), json_object_get(conversation, "tools"),
        json_object_get(conversation, "vars"), prompt == NULL || json_is_true(prompt), GOLDEN_NOW, &text, &err);
    json_t *expected = json_object_get(golden, "o");
    int good;
    if (expected != NULL) {
        good = status == MR_OK && text.len == json_string_length(expected) &&
               memcmp(mr_buf_cstr(&text), json_string_value(expected), text.len) == 0;
    } else {
        int own = strcmp(json_string_value(json_object_get(golden, "e")), "TemplateError") == 0;
        const char *message = json_string_value(json_object_get(golden, "m"));
        size_t n = strlen(message), n_err = strlen(err.text);
        good = status == MR_ERR_INVALID && (!own || (n_err >= n && strcmp(err.text + n_err - n, message) == 0));
    }
    if (!good) {
        char *wanted = json_dumps(golden, 0);
        print_error("%s, %s:\n  expected: %s\n  got:      %s\n", template_name,
                    json_string_value(json_object_get(conversation, "name")), wanted,
                    status == MR_OK ? mr_buf_cstr(&text) : err.text);
        free(wanted);
    }
    mr_buf_free(&text);
    return good;
}

static void test_fixture_templates(void **state) {
    (void)state;
    const char *fixtures = getenv("MR_FIXTURES");
    if (fixtures == NULL) fixtures = MR_SOURCE_DIR "/../shared/fixtures";
    if (!mr_path_is_dir(fixtures)) skip();
    json_t *conversations = load("conversations.json"), *golden = load("golden_templates.json"), *conversation,
           *results;
    size_t i, wrong = 0, n_templates = 0;
    const char *name;
    assert_true(json_array_size(conversations) >= 12);
    json_object_foreach(golden, name, results) {
        char path[4096];
        mr_chat_template *chat;
        mr_error err = {0};
        snprintf(path, sizeof path, "%s/templates/%s", fixtures, name);
        if (mr_chat_template_from_file(&chat, path, &specials, &err) != MR_OK) fail_msg("%s", err.text);
        json_array_foreach(conversations, i, conversation) {
            json_t *expected = json_object_get(results, json_string_value(json_object_get(conversation, "name")));
            assert_non_null(expected);
            wrong += !check(name, chat, conversation, expected);
        }
        mr_chat_template_free(chat);
        n_templates++;
    }
    json_decref(conversations);
    json_decref(golden);
    assert_true(n_templates > 0);
    assert_int_equal(wrong, 0);
}

/* --- sources --- */

static char folder[] = "/tmp/test_chat_template_XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *write_file(const char *name, const char *text) {
    char *path = mr_path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void expect_render(const mr_chat_template *chat, const char *messages, const char *tools, const char *expected) {
    json_t *m = json_loads(messages, 0, NULL), *t = tools == NULL ? NULL : json_loads(tools, 0, NULL);
    mr_buf text = {0};
    mr_error err = {0};
    assert_non_null(m);
    mr_status status = mr_chat_template_render(chat, m, t, NULL, true, &text, &err);
    assert_string_equal(status == MR_OK ? mr_buf_cstr(&text) : err.text, expected);
    mr_buf_free(&text);
    json_decref(m);
    json_decref(t);
}

static mr_chat_template *from_text(const char *source) {
    mr_chat_template *chat;
    mr_error err = {0};
    if (mr_chat_template_from_text(&chat, source, strlen(source), &specials, &err) != MR_OK) fail_msg("%s", err.text);
    return chat;
}

static const char one_user[] = "[{\"role\": \"user\", \"content\": \"hi\"}]";

static void test_json_file(void **state) {
    (void)state;
    char *path = write_file(
        "named.json", "{\"bos_token\": {\"content\": \"<B>\", \"lstrip\": false}, \"add_bos_token\": true,"
                      " \"image_token\": \"<I>\", \"chat_template\": ["
                      "{\"name\": \"default\", \"template\": \"D{{ bos_token }}{{ eos_token }}{{ image_token }}\"},"
                      "{\"name\": \"tool_use\", \"template\": \"T{{ tools|length }}\"}]}");
    mr_chat_template *chat;
    mr_error err = {0};
    assert_int_equal(mr_chat_template_from_file(&chat, path, &specials, &err), MR_OK);
    assert_false(mr_chat_template_is_fallback(chat));
    expect_render(chat, one_user, NULL, "D<B></s><I>");
    expect_render(chat, one_user, "[{}]", "T1");
    assert_string_equal(mr_chat_template_source(chat, true), "T{{ tools|length }}");
    mr_chat_template_free(chat);
    free(path);
}

static void test_bad_files(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } files[] = {
        {"bad.jinja", "x\n{% if %}", "bad.jinja: chat template line 2"},
        {"bad.json", "{\"chat_template\": 5}", "neither a text nor a list"},
        {"none.json", "{}", "has no chat_template"},
        {"torn.json", "{\"chat", "not valid JSON"},
        {"entry.json", "{\"chat_template\": [{\"name\": \"x\"}]}", "chat template 1 has no name or no template"},
        {"bytes.jinja", "\xFF\xFE", "not valid UTF-8"},
    };
    mr_chat_template *chat;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = write_file(files[i].name, files[i].text);
        mr_error err = {0};
        assert_int_not_equal(mr_chat_template_from_file(&chat, path, NULL, &err), MR_OK);
        assert_null(chat);
        if (strstr(err.text, files[i].message) == NULL) fail_msg("%s: %s", files[i].name, err.text);
        free(path);
    }
    mr_error err = {0};
    assert_int_equal(mr_chat_template_from_file(&chat, "/nonexistent/x.jinja", NULL, &err), MR_ERR_NOT_FOUND);
}

static void test_folder(void **state) {
    (void)state;
    mr_chat_template *chat;
    mr_error err = {0};
    char *dir = mr_path_join(folder, "model"), *additional = mr_path_join(dir, "additional_chat_templates");
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mr_chat_template_from_folder(&chat, dir, &specials, &err), MR_OK);
    assert_true(mr_chat_template_is_fallback(chat));
    expect_render(chat, one_user, NULL, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    mr_chat_template_free(chat);

    free(write_file(
        "model/tokenizer_config.json",
        "{\"eos_token\": \"<E>\", \"pad_token\": null, \"chat_template\": \"config {{ eos_token }}{{ bos_token }}\"}"));
    free(write_file("model/special_tokens_map.json", "{\"eos_token\": \"no\", \"cls_token\": \"<C>\"}"));
    assert_int_equal(mr_chat_template_from_folder(&chat, dir, &specials, &err), MR_OK);
    expect_render(chat, one_user, NULL, "config <E><s>");
    mr_chat_template_free(chat);

    free(write_file("model/chat_template.jinja", "file {{ eos_token }} {{ cls_token }}\n"));
    assert_int_equal(mkdir(additional, 0700), 0);
    free(write_file("model/additional_chat_templates/tool_use.jinja", "tools"));
    assert_int_equal(mr_chat_template_from_folder(&chat, dir, &specials, &err), MR_OK);
    expect_render(chat, one_user, NULL, "file <E> <C>");
    expect_render(chat, one_user, "[]", "tools");
    mr_chat_template_free(chat);
    free(dir);
    free(additional);
}

/* Writes a GGUF with a small vocabulary and the given templates (each may be NULL), and opens it. */
static mr_gguf *make_gguf(const char *name, const char *plain, const char *with_tools) {
    static const mr_gguf_str tokens[] = {{"<u>", 3}, {"<bos>", 5}, {"<eos>", 5}};
    char *path = mr_path_join(folder, name);
    mr_gguf_writer *writer;
    mr_gguf *gguf;
    mr_error err = {0};
    assert_int_equal(mr_gguf_writer_new(&writer, path, &err), MR_OK);
    mr_gguf_put_strings(writer, "tokenizer.ggml.tokens", tokens, 3);
    mr_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    mr_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    mr_gguf_put_u32(writer, "tokenizer.ggml.padding_token_id", 99);
    if (plain != NULL) mr_gguf_put_string(writer, "tokenizer.chat_template", plain);
    if (with_tools != NULL) mr_gguf_put_string(writer, "tokenizer.chat_template.tool_use", with_tools);
    assert_int_equal(mr_gguf_begin(writer, &err), MR_OK);
    assert_int_equal(mr_gguf_finish(writer, &err), MR_OK);
    mr_gguf_writer_free(writer);
    assert_int_equal(mr_gguf_open(&gguf, (const char *const *)&path, 1, &err), MR_OK);
    free(path);
    return gguf;
}

static void test_gguf(void **state) {
    (void)state;
    const char *source = "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}";
    mr_gguf *gguf = make_gguf("both.gguf", source, "T{{ tools|length }}");
    mr_chat_template *chat;
    mr_error err = {0};
    assert_int_equal(mr_chat_template_from_gguf(&chat, gguf, NULL, &err), MR_OK);
    mr_gguf_close(gguf);
    assert_false(mr_chat_template_is_fallback(chat));
    expect_render(chat, one_user, NULL, "<bos>|<eos>|False");
    expect_render(chat, one_user, "[{}, {}]", "T2");
    mr_chat_template_free(chat);

    gguf = make_gguf("plain.gguf", source, NULL);
    const mr_special_texts given = {.bos = "[B]"};
    assert_int_equal(mr_chat_template_from_gguf(&chat, gguf, &given, &err), MR_OK);
    expect_render(chat, one_user, "[{}]", "[B]|<eos>|False");
    mr_chat_template_free(chat);
    mr_gguf_close(gguf);

    gguf = make_gguf("none.gguf", NULL, NULL);
    assert_int_equal(mr_chat_template_from_gguf(&chat, gguf, NULL, &err), MR_OK);
    assert_true(mr_chat_template_is_fallback(chat));
    mr_chat_template_free(chat);
    mr_gguf_close(gguf);

    gguf = make_gguf("bad.gguf", "{% if %}", NULL);
    assert_int_equal(mr_chat_template_from_gguf(&chat, gguf, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "tokenizer.chat_template: chat template line 1"));
    mr_gguf_close(gguf);
}

static void test_no_default(void **state) {
    (void)state;
    mr_chat_template *chat;
    mr_error err = {0};
    char *path = write_file("rag.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}");
    assert_int_equal(mr_chat_template_from_file(&chat, path, NULL, &err), MR_OK);
    assert_null(mr_chat_template_source(chat, false));
    expect_render(chat, one_user, NULL,
                  "the model has several chat templates (rag) and none is named default; give one with chat_template");
    mr_chat_template_free(chat);
    free(path);
}

/* --- conversations --- */

static void test_arguments(void **state) {
    (void)state;
    const char *calls =
        "[{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", "
        "\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1.50, \\\"b\\\": [2]}\"}}]}]";
    mr_chat_template *object =
        from_text("{% set a = messages[0].tool_calls[0].function.arguments %}{{ a.a }} {{ a|tojson }}");
    expect_render(object, calls, NULL, "1.5 {\"a\": 1.5, \"b\": [2]}");
    mr_chat_template_free(object);
    /* A template that adds the arguments to a text needs them as text, and gets the caller's own. */
    mr_chat_template *text = from_text("{{ 'x' + messages[0].tool_calls[0].function.arguments }}");
    expect_render(text, calls, NULL, "x{\"a\": 1.50, \"b\": [2]}");
    expect_render(text,
                  "[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": "
                  "0.1, \"b\": "
                  "\"\\u00e9\"}}}]}]",
                  NULL, "x{\"a\": 0.1, \"b\": \"é\"}");
    mr_chat_template_free(text);
}

static void test_members(void **state) {
    (void)state;
    mr_chat_template *chat = from_text("{% for m in messages %}{{ m|tojson }}{% endfor %}{{ tools }}{{ documents }}");
    expect_render(chat, "[{\"role\": \"assistant\", \"content\": null, \"reasoning\": \"r\", \"x\": [null]}]", NULL,
                  "{\"thinking\": \"r\", \"role\": \"assistant\", \"reasoning\": \"r\", \"x\": [null], "
                  "\"reasoning_content\": \"r\"}"
                  "NoneNone");
    expect_render(chat, "[]", NULL, "the conversation is empty; give at least one message");
    expect_render(chat, "[5]", NULL, "message 1 of the conversation is no object with role and content");
    mr_chat_template_free(chat);
}

static void test_refusal(void **state) {
    (void)state;
    mr_chat_template *chat = from_text("{{ raise_exception('Only user roles: ' ~ messages[0].role) }}");
    expect_render(chat, one_user, NULL,
                  "the chat template refuses this conversation (line 1, column 19): Only user roles: user");
    mr_chat_template_free(chat);
}

static void test_vars(void **state) {
    (void)state;
    mr_chat_template *chat =
        from_text("{{ bos_token }}{{ enable_thinking }}{{ add_generation_prompt }}{{ messages|length }}");
    json_t *messages = json_loads(one_user, 0, NULL);
    json_t *vars = json_pack("{s:b,s:s,s:s}", "enable_thinking", 0, "bos_token", "<other>", "messages", "ignored");
    mr_buf text = {0};
    mr_error err = {0};
    assert_int_equal(mr_chat_template_render(chat, messages, NULL, vars, false, &text, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&text), "<other>FalseFalse1");
    mr_buf_free(&text);
    json_decref(messages);
    json_decref(vars);
    mr_chat_template_free(chat);
}

static void test_chatml_with_tools(void **state) {
    (void)state;
    mr_chat_template *chat;
    mr_error err = {0};
    char *dir = mr_path_join(folder, "empty");
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mr_chat_template_from_folder(&chat, dir, NULL, &err), MR_OK);
    json_t *messages =
        json_loads("[{\"role\": \"user\", \"content\": \"w?\"}, {\"role\": \"assistant\", \"content\": null, "
                   "\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1}}}]}, "
                   "{\"role\": \"tool\", \"content\": \"42\"}]",
                   0, NULL);
    json_t *tools = json_loads("[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]", 0, NULL);
    mr_buf text = {0};
    assert_int_equal(mr_chat_template_render(chat, messages, tools, NULL, true, &text, &err), MR_OK);
    assert_non_null(
        strstr(mr_buf_cstr(&text), "<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n</tools>"));
    assert_non_null(strstr(mr_buf_cstr(&text),
                           "<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n"
                           "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n42\n"
                           "</tool_response><|im_end|>\n<|im_start|>assistant\n"));
    mr_buf_free(&text);
    json_decref(messages);
    json_decref(tools);
    mr_chat_template_free(chat);
    free(dir);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture_templates),
        cmocka_unit_test(test_json_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_no_default),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_vars),
        cmocka_unit_test(test_chatml_with_tools),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
