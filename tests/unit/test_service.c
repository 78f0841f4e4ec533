/* floors: service */
/* The service floor with the model that ships, from encoded arguments to encoded results. */
#define _POSIX_C_SOURCE 200809L
#include "service/service.h"

#include "base/file.h"
#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "completion_args.pb-c.h"
#include "completion_result.pb-c.h"
#include "embedding_args.pb-c.h"
#include "embedding_result.pb-c.h"
#include "service/pb_wire.h"
#include "service/pbjson.h"
#include "service/registry.h"
#include "settings.pb-c.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL MR_SOURCE_DIR "/models/mistral-runner-tiny.gguf"
#define CHAT_RESULT (&jobworkerp__runner__llm__llmchat_result__descriptor)

typedef struct method {
    const char *name;
    const ProtobufCMessageDescriptor *args, *result;
} method;

static const method METHODS[] = {
    {"chat", &jobworkerp__runner__llm__llmchat_args__descriptor, CHAT_RESULT},
    {"completion", &jobworkerp__runner__llm__llmcompletion_args__descriptor,
     &jobworkerp__runner__llm__llmcompletion_result__descriptor},
    {"embedding", &jobworkerp__runner__llm__llmembedding_args__descriptor,
     &jobworkerp__runner__llm__llmembedding_result__descriptor},
};

/* Names that there are not get the messages of chat. */
static const method *find_method(const char *name) {
    size_t i = sizeof METHODS / sizeof *METHODS - 1;
    while (i > 0 && (name == NULL || strcmp(name, METHODS[i].name) != 0)) i--;
    return &METHODS[i];
}

/* Encodes JSON text in which ' stands for ". */
static mr_buf encode(const ProtobufCMessageDescriptor *type, const char *text) {
    mr_buf quoted = {0}, bytes = {0};
    for (const char *p = text; *p != '\0'; p++) mr_buf_putc(&quoted, *p == '\'' ? '"' : *p);
    json_t *json = json_loads(mr_buf_cstr(&quoted), 0, NULL);
    assert_non_null(json);
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    if (mr_pb_from_json(type, json, &arena, &message, &err) != MR_OK) fail_msg("%s", err.text);
    assert_true(mr_pb_pack(message, &bytes));
    json_decref(json);
    mr_arena_free(&arena);
    mr_buf_free(&quoted);
    return bytes;
}

static json_t *decode(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n) {
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    json_t *json;
    if (mr_pb_unpack(type, bytes, n, &arena, &message, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(mr_pb_to_json(message, &json, &err), MR_OK);
    mr_arena_free(&arena);
    return json;
}

static mr_status load(mr_service *service, const char *settings, mr_error *err) {
    mr_buf bytes = encode(&jobworkerp__runner__llm__local_runner_settings__descriptor, settings);
    mr_status status = mr_service_load(service, (const uint8_t *)mr_buf_cstr(&bytes), bytes.len, NULL, err);
    mr_buf_free(&bytes);
    return status;
}

static mr_service *loaded(const char *settings) {
    mr_service *service = mr_service_new();
    mr_error err = {0};
    if (load(service, settings, &err) != MR_OK) fail_msg("%s", err.text);
    return service;
}

#define SMALL "{'gguf_model':{'model_name_or_path':'" MODEL "'},'context_size':256,'threads':2}"

static mr_service *shared_service;

static int set_up(void **state) {
    (void)state;
    if (mr_path_is_file(MODEL)) shared_service = loaded(SMALL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    mr_service_unref(shared_service);
    return mr_shared_count() == 0 ? 0 : -1;
}

typedef struct stream {
    json_t *chunks;
    size_t stop_after; /* refuse the chunk with this number; 0 = none */
    mr_cancel *cancel_after_first;
} stream;

static bool on_chat_chunk(void *ctx, const uint8_t *bytes, size_t n) {
    stream *s = ctx;
    json_array_append_new(s->chunks, decode(CHAT_RESULT, bytes, n));
    if (s->cancel_after_first != NULL) mr_cancel_request(s->cancel_after_first);
    return s->stop_after == 0 || json_array_size(s->chunks) < s->stop_after;
}

static mr_status run(mr_service *service, const char *method, const char *args_text, stream *s, json_t **result,
                     mr_error *err) {
    const struct method *messages = find_method(method);
    mr_buf args = encode(messages->args, args_text);
    mr_buf bytes = {0};
    mr_service_job job = {.method = method,
                          .args = (const uint8_t *)mr_buf_cstr(&args),
                          .n_args = args.len,
                          .on_chunk = s != NULL ? on_chat_chunk : NULL,
                          .cancel = s != NULL ? s->cancel_after_first : NULL,
                          .ctx = s};
    mr_status status = mr_service_run(service, &job, &bytes, err);
    if (status == MR_OK && result != NULL) {
        *result = decode(messages->result, (const uint8_t *)mr_buf_cstr(&bytes), bytes.len);
    }
    mr_buf_free(&args);
    mr_buf_free(&bytes);
    return status;
}

static json_t *result_of(const char *method, const char *args) {
    json_t *result = NULL;
    mr_error err = {0};
    if (run(shared_service, method, args, NULL, &result, &err) != MR_OK) fail_msg("%s", err.text);
    return result;
}

static const char *text_of(const json_t *result) {
    return json_string_value(json_object_get(json_object_get(result, "content"), "text"));
}

static json_int_t usage_of(const json_t *result, const char *field) {
    return json_integer_value(json_object_get(json_object_get(result, "usage"), field));
}

static void assert_refused(const char *method, const char *args, mr_status expected, const char *part) {
    mr_error err = {0};
    assert_int_equal(run(shared_service, method, args, NULL, NULL, &err), expected);
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" is not in: %s", part, err.text);
}

#define HELLO "'messages':[{'role':'USER','content':{'text':'Hello, how are you?'}}]"

static void test_chat_answers(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    json_t *result = result_of("chat", "{" HELLO ",'options':{'temperature':0,'max_tokens':60}}");
    assert_non_null(text_of(result));
    assert_true(strlen(text_of(result)) > 0);
    assert_null(strstr(text_of(result), "<|im_"));
    assert_true(json_is_true(json_object_get(result, "done")));
    assert_in_range(usage_of(result, "prompt_tokens"), 5, 100);
    assert_in_range(usage_of(result, "completion_tokens"), 1, 60);
    assert_true(json_string_length(json_object_get(json_object_get(result, "usage"), "model")) > 0);
    json_t *again = result_of(NULL, "{" HELLO ",'options':{'temperature':0,'max_tokens':60}}");
    assert_string_equal(text_of(result), text_of(again));
    json_decref(result);
    json_decref(again);
}

static void test_a_seed_gives_the_same_text(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    const char *args = "{'prompt':'Once upon a time','options':{'temperature':1.2,'seed':%d,'max_tokens':40}}";
    char one[160], other[160];
    snprintf(one, sizeof one, args, 7);
    snprintf(other, sizeof other, args, -8);
    json_t *a = result_of("completion", one), *b = result_of("completion", one), *c = result_of("completion", other);
    assert_string_equal(text_of(a), text_of(b));
    assert_string_not_equal(text_of(a), text_of(c));
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void test_stream_equals_the_whole(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    const char *args = "{" HELLO ",'options':{'temperature':0.9,'seed':3,'max_tokens':50}}";
    json_t *whole = result_of("chat", args);
    stream s = {.chunks = json_array()};
    mr_error err = {0};
    assert_int_equal(run(shared_service, "chat", args, &s, NULL, &err), MR_OK);
    mr_buf text = {0};
    size_t n = json_array_size(s.chunks);
    assert_true(n > 2);
    for (size_t i = 0; i + 1 < n; i++) {
        const json_t *chunk = json_array_get(s.chunks, i);
        assert_true(json_is_false(json_object_get(chunk, "done")));
        assert_null(json_object_get(chunk, "usage"));
        mr_buf_puts(&text, text_of(chunk));
    }
    const json_t *last = json_array_get(s.chunks, n - 1);
    assert_true(json_is_true(json_object_get(last, "done")));
    assert_null(text_of(last));
    assert_int_equal(usage_of(last, "completion_tokens"), usage_of(whole, "completion_tokens"));
    assert_string_equal(mr_buf_cstr(&text), text_of(whole));
    mr_buf_free(&text);
    json_decref(s.chunks);
    json_decref(whole);
}

static void test_final_full_text(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    mr_service *service = loaded("{'gguf_model':{'model_name_or_path':'" MODEL "'},'context_size':256,'threads':2,"
                                 "'stream_final_full_text':true}");
    assert_int_equal(mr_shared_count(), 1); /* it does not matter to the model */
    const char *args = "{" HELLO ",'options':{'temperature':0,'max_tokens':20}}";
    json_t *whole = result_of("chat", args);
    stream s = {.chunks = json_array()};
    mr_error err = {0};
    assert_int_equal(run(service, "chat", args, &s, NULL, &err), MR_OK);
    assert_string_equal(text_of(json_array_get(s.chunks, json_array_size(s.chunks) - 1)), text_of(whole));
    json_decref(s.chunks);
    json_decref(whole);
    mr_service_unref(service);
}

/* Eight tokens and eight more from the context are the sixteen tokens of one job. */
static void test_context_goes_on(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    json_t *whole = result_of("completion", "{'prompt':'The little dog','options':{'temperature':0,'max_tokens':16}}");
    json_t *first = result_of("completion", "{'prompt':'The little dog','options':{'temperature':0,'max_tokens':8}}");
    json_t *tokens = json_object_get(json_object_get(json_object_get(first, "context"), "ollama"), "data");
    assert_int_equal(json_array_size(tokens), usage_of(first, "prompt_tokens") + 8);
    char *ids = json_dumps(tokens, JSON_COMPACT);
    mr_buf args = {0};
    mr_buf_printf(&args, "{'context':{'ollama_context':{'data':%s}},'options':{'temperature':0,'max_tokens':8}}", ids);
    json_t *second = result_of("completion", mr_buf_cstr(&args));
    mr_buf text = {0};
    mr_buf_printf(&text, "%s%s", text_of(first), text_of(second));
    assert_string_equal(mr_buf_cstr(&text), text_of(whole));
    assert_true(json_equal(json_object_get(second, "context"), json_object_get(whole, "context")));
    free(ids);
    mr_buf_free(&args);
    mr_buf_free(&text);
    json_decref(whole);
    json_decref(first);
    json_decref(second);
}

static void test_system_prompt_uses_the_template(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    const char *options = "'options':{'temperature':0,'max_tokens':30}";
    char args[512];
    snprintf(args, sizeof args,
             "{'system_prompt':'You are kind.','prompt':'Hello','options':{'temperature':0,'max_tokens':30}}");
    json_t *completion = result_of("completion", args);
    snprintf(args, sizeof args,
             "{'messages':[{'role':'SYSTEM','content':{'text':'You are "
             "kind.'}},{'role':'USER','content':{'text':'Hello'}}],%s}",
             options);
    json_t *chat = result_of("chat", args);
    assert_string_equal(text_of(completion), text_of(chat));
    assert_int_equal(usage_of(completion, "prompt_tokens"), usage_of(chat, "prompt_tokens"));
    json_decref(completion);
    json_decref(chat);
}

/* An answer in the context is closed as the template closes it, before the next question follows. */
static void test_context_of_a_chat_goes_on(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    json_t *first = result_of(
        "completion", "{'system_prompt':'You are kind.','prompt':'Hello','options':{'temperature':0,'max_tokens':30}}");
    char *ids = json_dumps(json_object_get(json_object_get(json_object_get(first, "context"), "ollama"), "data"), 0);
    mr_buf args = {0}, raw = {0};
    mr_buf_printf(&args,
                  "{'system_prompt':'You are kind.','prompt':'Who are you?','context':{'ollama_context':{'data':%s}},"
                  "'options':{'temperature':0,'max_tokens':30}}",
                  ids);
    json_t *second = result_of("completion", mr_buf_cstr(&args));
    mr_buf_printf(
        &raw,
        "{'prompt':'<|im_start|>system\\nYou are kind.<|im_end|>\\n<|im_start|>user\\nHello<|im_end|>\\n"
        "<|im_start|>assistant\\n%s<|im_end|>\\n<|im_start|>system\\nYou are kind.<|im_end|>\\n<|im_start|>"
        "user\\nWho are you?<|im_end|>\\n<|im_start|>assistant\\n','options':{'temperature':0,'max_tokens':30}}",
        text_of(first));
    assert_null(strchr(text_of(first), '\''));
    json_t *whole = result_of("completion", mr_buf_cstr(&raw));
    assert_string_equal(text_of(second), text_of(whole));
    assert_int_equal(usage_of(second, "prompt_tokens"), usage_of(whole, "prompt_tokens"));
    free(ids);
    mr_buf_free(&args);
    mr_buf_free(&raw);
    json_decref(first);
    json_decref(second);
    json_decref(whole);
}

/* The vector of text i, on the heap; n: its components. */
static float *vector_of(const json_t *result, size_t i, size_t *n) {
    json_t *values = json_object_get(json_array_get(json_object_get(result, "embeddings"), i), "values");
    *n = json_array_size(values);
    float *vector = calloc(*n + 1, sizeof *vector);
    for (size_t k = 0; k < *n; k++) vector[k] = (float)json_number_value(json_array_get(values, k));
    return vector;
}

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

#define TEXTS "'texts':['A little dog ran.','Once upon a time there was a tree','A little dog ran.']"

static void test_embedding(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    json_t *result = result_of("embedding", "{" TEXTS "}");
    assert_int_equal(json_array_size(json_object_get(result, "embeddings")), 3);
    assert_in_range(usage_of(result, "prompt_tokens"), 12, 40);
    assert_non_null(json_object_get(json_object_get(result, "usage"), "model"));
    size_t n, n_other;
    float *a = vector_of(result, 0, &n), *b = vector_of(result, 1, &n), *again = vector_of(result, 2, &n);
    assert_true(n >= 16);
    assert_memory_equal(a, again, n * sizeof *a);
    assert_true(dot(a, a, n) > 0.9999 && dot(a, a, n) < 1.0001);
    assert_true(dot(b, b, n) > 0.9999 && dot(b, b, n) < 1.0001);
    assert_true(dot(a, b, n) < 0.999);
    /* The last token is what this model's file leaves; the vectors point the same way without the norm. */
    json_t *raw = result_of("embedding", "{" TEXTS ",'options':{'pooling':'LAST','normalize':false}}");
    float *c = vector_of(raw, 1, &n_other);
    assert_int_equal(n, n_other);
    double length = sqrt(dot(c, c, n));
    assert_true(length < 0.99 || length > 1.01);
    assert_true(dot(b, c, n) / length > 0.9999);
    json_t *mean = result_of("embedding", "{" TEXTS ",'options':{'pooling':'MEAN'}}");
    float *d = vector_of(mean, 1, &n_other);
    assert_true(dot(b, d, n) < 0.999);
    float *const vectors[] = {a, b, again, c, d};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) free(vectors[i]);
    json_decref(result);
    json_decref(raw);
    json_decref(mean);
}

static bool keep_bytes(void *ctx, const uint8_t *bytes, size_t n) {
    return mr_buf_append(ctx, bytes, n);
}

static void test_a_stream_of_vectors_is_one_chunk(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    mr_buf args = encode(METHODS[2].args, "{" TEXTS "}"), chunk = {0}, none = {0};
    mr_error err = {0};
    mr_service_job job = {.method = "embedding",
                          .args = (const uint8_t *)mr_buf_cstr(&args),
                          .n_args = args.len,
                          .on_chunk = keep_bytes,
                          .ctx = &chunk};
    if (mr_service_run(shared_service, &job, &none, &err) != MR_OK) fail_msg("%s", err.text);
    assert_int_equal(none.len, 0);
    json_t *streamed = decode(METHODS[2].result, (const uint8_t *)mr_buf_cstr(&chunk), chunk.len);
    json_t *whole = result_of("embedding", "{" TEXTS "}");
    assert_true(json_equal(json_object_get(streamed, "embeddings"), json_object_get(whole, "embeddings")));
    json_decref(streamed);
    json_decref(whole);
    mr_buf_free(&args);
    mr_buf_free(&chunk);
}

static void test_texts_that_make_no_vector_are_refused(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    assert_refused("embedding", "{}", MR_ERR_INVALID, "no texts");
    assert_refused("embedding", "{'texts':['x'],'options':{'pooling':7}}", MR_ERR_INVALID, "pooling is 7");
    mr_buf args = {0};
    mr_buf_puts(&args, "{'texts':['short','");
    for (int i = 0; i < 400; i++) mr_buf_puts(&args, "word ");
    mr_buf_puts(&args, "','short']}");
    assert_refused("embedding", mr_buf_cstr(&args), MR_ERR_LIMIT, "text 1: ");
    mr_buf_clear(&args);
    mr_buf_puts(&args, "{'texts':['x'");
    for (int i = 0; i < 4096; i++) mr_buf_puts(&args, ",'x'");
    mr_buf_puts(&args, "]}");
    assert_refused("embedding", mr_buf_cstr(&args), MR_ERR_LIMIT, "4097 texts");
    mr_buf_free(&args);
}

static void test_bad_input_gets_a_sentence(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    assert_refused("chat", "{}", MR_ERR_INVALID, "no messages");
    assert_refused("chat", "{'messages':[{'role':'USER','content':{'image':{'content_type':'image/png'}}}]}",
                   MR_ERR_UNSUPPORTED, "text only");
    assert_refused("chat", "{" HELLO ",'options':{'max_tokens':-1}}", MR_ERR_INVALID, "max_tokens is -1");
    assert_refused("chat", "{" HELLO ",'options':{'max_tokens':0}}", MR_ERR_INVALID, "max_tokens is 0");
    assert_refused("chat", "{" HELLO ",'options':{'temperature':-0.5}}", MR_ERR_INVALID, "temperature");
    assert_refused("chat", "{" HELLO ",'options':{'temperature':'NaN'}}", MR_ERR_INVALID, "temperature");
    assert_refused("chat", "{" HELLO ",'options':{'top_p':'Infinity'}}", MR_ERR_INVALID, "top_p");
    assert_refused("chat", "{" HELLO ",'options':{'repeat_penalty':-1}}", MR_ERR_INVALID, "repeat_penalty");
    assert_refused("chat", "{" HELLO ",'options':{'repeat_last_n':-2}}", MR_ERR_INVALID, "repeat_last_n");
    assert_refused("chat", "{" HELLO ",'json_schema':'{'}", MR_ERR_INVALID, "json_schema");
    assert_refused("chat", "{" HELLO ",'json_schema':'{\\'type\\':7}'}", MR_ERR_INVALID, "json_schema");
    assert_refused("completion", "{'prompt':'x','json_schema':'{\\'not\\':{}}'}", MR_ERR_UNSUPPORTED, "not");
    assert_refused("completion", "{'prompt':'x','context':{'ollama_context':{'data':[1,99999999]}}}", MR_ERR_INVALID,
                   "token 99999999 at position 1");
    assert_refused("sing", "{}", MR_ERR_NOT_FOUND,
                   "there is no method \"sing\"; the methods are: chat, completion, embedding");
    mr_error err = {0};
    mr_buf result = {0};
    mr_service_job job = {.method = "chat", .args = (const uint8_t *)"\x2a\x02\x12\x09", .n_args = 4};
    assert_int_equal(mr_service_run(shared_service, &job, &result, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "messages[0].content"));
    assert_int_equal(result.len, 0);
    mr_buf_free(&result);
}

static void test_a_long_prompt_is_refused_with_numbers(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    mr_buf args = {0};
    mr_buf_puts(&args, "{'prompt':'");
    for (int i = 0; i < 300; i++) mr_buf_puts(&args, "dog house ");
    mr_buf_puts(&args, "'}");
    assert_refused("completion", mr_buf_cstr(&args), MR_ERR_LIMIT, "256");
    mr_buf_free(&args);
}

#define SCHEMA                                                                                                         \
    "'json_schema':'{\\'type\\':\\'object\\',\\'properties\\':{\\'kind\\':{\\'enum\\':[\\'cat\\',\\'dog\\']},"         \
    "\\'legs\\':{\\'type\\':\\'integer\\'}},\\'required\\':[\\'kind\\',\\'legs\\'],\\'additionalProperties\\':false}'"

/* Whatever a hot model would like to say, what it says parses and validates. */
static void test_json_schema(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    for (int seed = 0; seed < 6; seed++) {
        char args[1024];
        snprintf(args, sizeof args, "{%s," SCHEMA ",'options':{'temperature':1.5,'seed':%d,'max_tokens':100}}",
                 seed % 2 == 0 ? HELLO : "'prompt':'A pet: '", seed);
        json_t *result = result_of(seed % 2 == 0 ? "chat" : "completion", args);
        const char *text = text_of(result);
        json_t *pet = json_loads(text, 0, NULL);
        if (!json_is_object(pet) || !json_is_integer(json_object_get(pet, "legs")) || json_object_size(pet) != 2)
            fail_msg("seed %d: %s", seed, text);
        const char *kind = json_string_value(json_object_get(pet, "kind"));
        assert_true(kind != NULL && (strcmp(kind, "cat") == 0 || strcmp(kind, "dog") == 0));
        json_decref(pet);
        json_decref(result);
    }
}

static void test_tools_without_an_endpoint(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    json_t *result = result_of("chat", "{" HELLO ",'options':{'temperature':0,'max_tokens':5},"
                                       "'function_options':{'use_function_calling':true,'function_set_name':'s'}}");
    assert_non_null(text_of(result));
    json_decref(result);
}

static void test_a_stream_can_end_early(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    mr_error err = {0};
    stream closed = {.chunks = json_array(), .stop_after = 2};
    assert_int_equal(run(shared_service, "chat", "{" HELLO "}", &closed, NULL, &err), MR_ERR_CANCELLED);
    assert_int_equal(json_array_size(closed.chunks), 2);
    json_decref(closed.chunks);
    stream cancelled = {.chunks = json_array(), .cancel_after_first = mr_cancel_new()};
    assert_int_equal(run(shared_service, "chat", "{" HELLO "}", &cancelled, NULL, &err), MR_ERR_CANCELLED);
    assert_int_equal(json_array_size(cancelled.chunks), 1);
    assert_int_equal(run(shared_service, "chat", "{" HELLO "}", &cancelled, NULL, &err), MR_ERR_CANCELLED);
    mr_cancel_unref(cancelled.cancel_after_first);
    json_decref(cancelled.chunks);
}

static void test_loading(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    mr_error err = {0};
    mr_service *fresh = mr_service_new();
    assert_int_equal(run(fresh, "chat", "{" HELLO "}", NULL, NULL, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "no model is loaded"));
    assert_int_equal(load(fresh, "{'gguf_model':{'model_name_or_path':'/nowhere/x.gguf'}}", &err), MR_ERR_NOT_FOUND);
    assert_int_equal(load(fresh, "{'gguf_model':{'model_name_or_path':'" MR_SOURCE_DIR "/README.md'}}", &err),
                     MR_ERR_INVALID);
    assert_int_equal(load(fresh, SMALL, &err), MR_OK);
    assert_int_equal(mr_shared_count(), 1);
    /* A load that fails leaves the instance as it was. */
    assert_int_not_equal(load(fresh, "{'threads':9999}", &err), MR_OK);
    assert_int_equal(run(fresh, "chat", "{" HELLO ",'options':{'max_tokens':2}}", NULL, NULL, &err), MR_OK);
    mr_service_unref(fresh);
    assert_int_equal(mr_shared_count(), 1);
}

static void *run_one(void *out) {
    *(json_t **)out =
        result_of("completion", "{'prompt':'A red ball','options':{'temperature':0.8,'seed':5,'max_tokens':30}}");
    return NULL;
}

static void test_company_changes_nothing(void **state) {
    (void)state;
    if (shared_service == NULL) skip();
    enum { N = 4 };
    pthread_t threads[N];
    json_t *results[N], *alone;
    run_one(&alone);
    for (int i = 0; i < N; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_one, &results[i]), 0);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_string_equal(text_of(results[i]), text_of(alone));
        json_decref(results[i]);
    }
    json_decref(alone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_answers),
        cmocka_unit_test(test_a_seed_gives_the_same_text),
        cmocka_unit_test(test_stream_equals_the_whole),
        cmocka_unit_test(test_final_full_text),
        cmocka_unit_test(test_context_goes_on),
        cmocka_unit_test(test_system_prompt_uses_the_template),
        cmocka_unit_test(test_context_of_a_chat_goes_on),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_a_stream_of_vectors_is_one_chunk),
        cmocka_unit_test(test_texts_that_make_no_vector_are_refused),
        cmocka_unit_test(test_bad_input_gets_a_sentence),
        cmocka_unit_test(test_a_long_prompt_is_refused_with_numbers),
        cmocka_unit_test(test_json_schema),
        cmocka_unit_test(test_tools_without_an_endpoint),
        cmocka_unit_test(test_a_stream_can_end_early),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_company_changes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
