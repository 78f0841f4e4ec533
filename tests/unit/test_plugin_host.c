/* floors: plugin */
/* The program's own host of plugins (cli/host.c), with the plugin floor and a fake service below it. */
#include "../../cli/host.c"
#include "../../cli/host_park.c"
#include "../../cli/host_token.c"

#include "plugin/instance.h"

#include "fake_service.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static mr_host *open_host(void) {
    mr_host *host = NULL;
    mr_error err = {0};
    assert_int_equal(mr_host_open_entry(&host, mr_instance_new, "the fake", &err), MR_OK);
    return host;
}

typedef struct seen {
    mr_buf text;
    int n_chunks;
    int n_wanted; /* 0 = all */
    mr_cancel *cancel_at_last;
} seen;

static bool see_chunk(void *ctx, const uint8_t *bytes, size_t n) {
    seen *self = ctx;
    mr_buf_append(&self->text, bytes, n);
    self->n_chunks++;
    if (self->cancel_at_last != NULL && self->n_chunks == self->n_wanted) mr_cancel_request(self->cancel_at_last);
    return self->n_wanted == 0 || self->n_chunks < self->n_wanted || self->cancel_at_last != NULL;
}

static void see_metadata(void *ctx, const uint8_t *key, size_t key_len, const uint8_t *value, size_t value_len) {
    seen *self = ctx;
    mr_buf_printf(&self->text, "[%.*s=%.*s]", (int)key_len, (const char *)key, (int)value_len, (const char *)value);
}

static void see_method(void *ctx, const char *name, size_t name_len, const uint8_t *schema, size_t n) {
    mr_buf_printf(ctx, "%.*s: %.*s; ", (int)name_len, name, (int)n, (const char *)schema);
}

static mr_host_job job_of(const char *args, seen *out) {
    return (mr_host_job){.args = (const uint8_t *)args,
                         .n_args = strlen(args),
                         .on_chunk = see_chunk,
                         .on_metadata = see_metadata,
                         .ctx = out};
}

static void test_refuses_what_is_no_plugin(void **state) {
    (void)state;
    mr_host *host = NULL;
    mr_error err = {0};
    assert_int_equal(mr_host_open(&host, "missing.so", &err), MR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "missing.so"));
    assert_int_equal(mr_host_open(&host, "libm.so.6", &err), MR_ERR_NOT_FOUND); /* a file, never a name to search for */
    assert_null(host);
    mr_host_close(NULL);
}

static PluginInstanceRaw entry_of_another_major(void) {
    static const PluginVtable vtable = {.abi_version = 2u << 16, .vtable_size = sizeof(PluginVtable)};
    return (PluginInstanceRaw){.state = NULL, .vtable = &vtable};
}

static PluginInstanceRaw entry_without_state(void) {
    static const PluginVtable vtable = {.abi_version = MR_ABI_VERSION, .vtable_size = sizeof(PluginVtable)};
    return (PluginInstanceRaw){.state = NULL, .vtable = &vtable};
}

static void test_checks_the_version(void **state) {
    (void)state;
    mr_host *host = NULL;
    mr_error err = {0};
    assert_int_equal(mr_host_open_entry(&host, entry_of_another_major, "other.so", &err), MR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "other.so"));
    assert_int_equal(mr_host_open_entry(&host, entry_without_state, "empty.so", &err), MR_ERR_NOMEM);
    assert_null(host);
}

static void test_describes(void **state) {
    (void)state;
    mr_host *host = open_host();
    mr_error err = {0};
    mr_buf text = {0};
    assert_int_equal(mr_host_describe(host, MR_HOST_NAME, &text, &err), MR_OK);
    assert_string_equal(text.data, "Fake");
    mr_buf_clear(&text);
    assert_int_equal(mr_host_describe(host, MR_HOST_SETTINGS_SCHEMA, &text, &err), MR_OK);
    assert_string_equal(mr_buf_cstr(&text), "");
    mr_host_methods(host, false, see_method, &text);
    mr_host_methods(host, true, see_method, &text);
    assert_string_equal(text.data, "chat: proto of chat; completion: proto of completion; chat: schema of chat; "
                                   "completion: schema of completion; ");
    mr_buf_free(&text);
    mr_host_close(host);
}

static void *request_later(void *cancel) {
    fake_service_await_running(1);
    mr_cancel_request(cancel);
    return NULL;
}

static void test_loads(void **state) {
    (void)state;
    mr_host *host = open_host();
    mr_error err = {0};
    assert_int_equal(mr_host_load(host, NULL, 0, NULL, &err), MR_OK);
    assert_int_equal(mr_host_load(host, (const uint8_t *)"fail", 4, NULL, &err), MR_ERR_INVALID);
    assert_string_equal(err.text, "no such model");
    mr_cancel *cancel = mr_cancel_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, request_later, cancel), 0);
    assert_int_equal(mr_host_load(host, (const uint8_t *)"block", 5, cancel, &err), MR_ERR_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(mr_host_load(host, NULL, 0, cancel, &err), MR_ERR_CANCELLED); /* set already */
    mr_cancel_unref(cancel);
    mr_host_close(host);
}

static void test_runs(void **state) {
    (void)state;
    mr_host *host = open_host();
    mr_error err = {0};
    mr_buf result = {0};
    seen out = {0};
    static const mr_host_metadata pairs[] = {{"a", "1"}, {"b", ""}};
    mr_host_job job = job_of("metadata", &out);
    job.metadata = pairs;
    job.n_metadata = 2;
    assert_int_equal(mr_host_run(host, &job, &result, &err), MR_OK);
    assert_string_equal(result.data, "a=1;b=;");
    assert_string_equal(out.text.data, "[a=1][b=]");
    mr_buf_clear(&result);
    job = job_of("method", &out);
    job.method = "completion";
    assert_int_equal(mr_host_run(host, &job, &result, &err), MR_OK);
    assert_string_equal(result.data, "completion");
    job = job_of("fail:too long", &out);
    assert_int_equal(mr_host_run(host, &job, &result, &err), MR_ERR_INVALID);
    assert_string_equal(err.text, "too long");
    mr_buf_free(&result);
    mr_buf_free(&out.text);
    mr_host_close(host);
}

static void test_streams(void **state) {
    (void)state;
    mr_host *host = open_host();
    mr_error err = {0};
    seen out = {0};
    static const mr_host_metadata pair = {"k", "v"};
    mr_host_job job = job_of("count:5", &out);
    job.metadata = &pair;
    job.n_metadata = 1;
    assert_int_equal(mr_host_run_stream(host, &job, &err), MR_OK);
    assert_string_equal(out.text.data, "0 1 2 3 4 [k=v]");
    mr_buf_clear(&out.text);
    job = job_of("fail:nothing to say", &out);
    assert_int_equal(mr_host_run_stream(host, &job, &err), MR_ERR_INVALID);
    assert_string_equal(err.text, "nothing to say");
    out.n_chunks = 0;
    out.n_wanted = 3;
    job = job_of("endless", &out);
    assert_int_equal(mr_host_run_stream(host, &job, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "receiver"));
    assert_int_equal(out.n_chunks, 3);
    mr_buf_free(&out.text);
    mr_host_close(host);
}

static void test_cancels(void **state) {
    (void)state;
    mr_host *host = open_host();
    mr_error err = {0};
    mr_buf result = {0};
    seen out = {.n_wanted = 4, .cancel_at_last = mr_cancel_new()};
    mr_host_job job = job_of("endless", &out);
    job.cancel = out.cancel_at_last;
    assert_int_equal(mr_host_run_stream(host, &job, &err), MR_ERR_CANCELLED);
    assert_true(out.n_chunks >= 4);
    mr_cancel_unref(out.cancel_at_last);
    mr_cancel *cancel = mr_cancel_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, request_later, cancel), 0);
    job = job_of("block", &out);
    job.cancel = cancel;
    assert_int_equal(mr_host_run(host, &job, &result, &err), MR_ERR_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(mr_host_run(host, &job, &result, &err), MR_ERR_CANCELLED); /* set already */
    assert_non_null(strstr(err.text, "before it started"));
    mr_cancel_unref(cancel);
    mr_buf_free(&result);
    mr_buf_free(&out.text);
    mr_host_close(host);
    fake_service_await_released();
    assert_int_equal(fake_n_services, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_what_is_no_plugin),
        cmocka_unit_test(test_checks_the_version),
        cmocka_unit_test(test_describes),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
