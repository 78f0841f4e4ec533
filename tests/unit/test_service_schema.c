/* floors: service */
#define _DEFAULT_SOURCE
#include "method_schema.pb-c.h"
#include "proto_texts.h"
#include "service/pb_wire.h"
#include "service/pbschema.h"
#include "service/service.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Whether protoc takes the text as a file of its own. */
static void assert_protoc_takes(const char *text) {
    char path[] = "/tmp/mr_proto_XXXXXX.proto", command[256];
    int fd = mkstemps(path, 6);
    assert_true(fd >= 0);
    size_t n = strlen(text);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
    snprintf(command, sizeof command, "protoc --proto_path=/tmp --descriptor_set_out=/dev/null %s", path);
    int rc = system(command);
    unlink(path);
    assert_int_equal(rc, 0);
}

static void assert_first_message(const char *text, const char *name) {
    assert_memory_equal(text, "syntax = \"proto3\";", 18);
    assert_null(strstr(text, "import "));
    assert_non_null(strstr(text, "package jobworkerp.runner.llm;"));
    const char *message = strstr(text, "\nmessage ");
    assert_non_null(message);
    assert_memory_equal(message + 9, name, strlen(name));
    assert_int_equal(message[9 + strlen(name)], ' ');
}

static void test_each_text_stands_alone(void **state) {
    (void)state;
    assert_first_message(mr_service_settings_proto(), "LocalRunnerSettings");
    size_t n;
    const mr_service_method *methods = mr_service_methods(&n);
    assert_int_equal(n, 3);
    assert_string_equal(methods[0].name, "chat");
    assert_first_message(methods[0].args_proto, "LLMChatArgs");
    assert_first_message(methods[0].result_proto, "LLMChatResult");
    assert_string_equal(methods[1].name, "completion");
    assert_first_message(methods[1].args_proto, "LLMCompletionArgs");
    assert_first_message(methods[1].result_proto, "LLMCompletionResult");
    assert_string_equal(methods[2].name, "embedding");
    assert_first_message(methods[2].args_proto, "LLMEmbeddingArgs");
    assert_first_message(methods[2].result_proto, "LLMEmbeddingResult");
    if (system("protoc --version >/dev/null 2>&1") != 0) skip();
    assert_protoc_takes(mr_service_settings_proto());
    for (size_t i = 0; i < n; i++) {
        assert_protoc_takes(methods[i].args_proto);
        assert_protoc_takes(methods[i].result_proto);
    }
}

static json_t *at(json_t *schema, const char *path) {
    char part[64];
    while (schema != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        memcpy(part, path, n);
        part[n] = '\0';
        schema = json_object_get(schema, part);
        path += n + (path[n] == '/');
    }
    if (schema == NULL) fail_msg("the schema has no such member");
    return schema;
}

static const char *text_at(json_t *schema, const char *path) {
    const char *text = json_string_value(at(schema, path));
    assert_non_null(text);
    return text;
}

/* Every property of every object has a type and says what it is for. */
static void assert_documented(json_t *schema) {
    if (json_object_get(schema, "items") != NULL) assert_documented(json_object_get(schema, "items"));
    const char *name;
    json_t *property;
    json_object_foreach(json_object_get(schema, "properties"), name, property) {
        const char *about = json_string_value(json_object_get(property, "description"));
        if (about == NULL || strlen(about) < 4) fail_msg("%s has no description", name);
        assert_non_null(json_object_get(property, "type"));
        assert_documented(property);
    }
}

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_string_equal(text_at(json, "$schema"), "https://json-schema.org/draft/2020-12/schema");
    assert_documented(json);
    return json;
}

static void test_schemas(void **state) {
    (void)state;
    json_t *settings = parse(mr_service_settings_schema());
    assert_string_equal(text_at(settings, "properties/model_settings/properties/gguf_model/properties/gguf_files/type"),
                        "array");
    assert_string_equal(text_at(settings, "properties/threads/type"), "integer");
    assert_int_equal(json_array_size(at(settings, "properties/text_model/properties/isq_type/enum")), 16);
    assert_int_equal(json_array_size(at(settings, "allOf")), 1);
    json_decref(settings);

    size_t n;
    const mr_service_method *methods = mr_service_methods(&n);
    json_t *chat = parse(methods[0].args_schema);
    json_t *role = at(chat, "properties/messages/items/properties/role/enum");
    assert_string_equal(json_string_value(json_array_get(role, 2)), "USER");
    assert_string_equal(text_at(chat, "properties/options/properties/temperature/type"), "number");
    json_t *content = at(chat, "properties/messages/items/properties/content/allOf");
    assert_int_equal(json_array_size(json_object_get(json_array_get(content, 0), "oneOf")), 6);
    json_decref(chat);
    json_decref(parse(methods[0].result_schema));
    json_decref(parse(methods[1].args_schema));
    json_decref(parse(methods[1].result_schema));
    json_t *embedding = parse(methods[2].args_schema);
    assert_string_equal(text_at(embedding, "properties/texts/type"), "array");
    json_t *pooling = at(embedding, "properties/options/properties/pooling/enum");
    assert_string_equal(json_string_value(json_array_get(pooling, 3)), "LAST");
    json_decref(embedding);
    json_decref(parse(methods[2].result_schema));
}

static void test_comments(void **state) {
    (void)state;
    json_t *comments =
        mr_proto_comments("package p;\n// About A,\n// in two lines.\nmessage A {\n  message B {\n    // Of x.\n"
                          "    optional int32 x = 1;\n  }\n  oneof c {\n    // Of y.\n    B y = 2;\n  }\n"
                          "  // Stray.\n\n  B z = 3;\n}\n");
    assert_string_equal(text_at(comments, "A"), "About A, in two lines.");
    assert_string_equal(text_at(comments, "A.B.x"), "Of x.");
    assert_string_equal(text_at(comments, "A.y"), "Of y.");
    assert_null(json_object_get(comments, "A.z"));
    assert_int_equal(json_object_size(comments), 3);
    json_decref(comments);
}

static void test_encoded_schemas(void **state) {
    (void)state;
    size_t n;
    const mr_service_method *methods = mr_service_methods(&n);
    mr_buf bytes = {0};
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    assert_true(mr_service_encode_method_schema(&methods[1], &bytes));
    assert_int_equal(mr_pb_unpack(&jobworkerp__data__method_schema__descriptor, (uint8_t *)bytes.data, bytes.len,
                                  &arena, &message, &err),
                     MR_OK);
    const Jobworkerp__Data__MethodSchema *schema = (const Jobworkerp__Data__MethodSchema *)message;
    assert_string_equal(schema->args_proto, mr_proto_text_completion_args);
    assert_string_equal(schema->result_proto, mr_proto_text_completion_result);
    assert_int_equal(schema->output_type, 2);
    assert_false(schema->require_client_stream);
    mr_buf_clear(&bytes);
    assert_true(mr_service_encode_method_json_schema(&methods[1], &bytes));
    assert_int_equal(mr_pb_unpack(&jobworkerp__data__method_json_schema__descriptor, (uint8_t *)bytes.data, bytes.len,
                                  &arena, &message, &err),
                     MR_OK);
    const Jobworkerp__Data__MethodJsonSchema *json = (const Jobworkerp__Data__MethodJsonSchema *)message;
    assert_string_equal(json->args_schema, methods[1].args_schema);
    mr_buf_free(&bytes);
    mr_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_text_stands_alone),
        cmocka_unit_test(test_schemas),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_encoded_schemas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
