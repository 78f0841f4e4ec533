/* floors: base */
/* The plugin floor when memory runs out: each allocation in turn fails once, and every job still ends, with an error or
 * without, and leaves nothing behind. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static atomic_int n_until_failure; /* the allocation that comes after so many fails; negative: none */
static atomic_bool has_failed;

static bool fails(void) {
    if (atomic_fetch_sub(&n_until_failure, 1) != 0) return false;
    has_failed = true;
    return true;
}

static void *failing_malloc(size_t n) {
    return fails() ? NULL : malloc(n);
}

static void *failing_calloc(size_t n, size_t size) {
    return fails() ? NULL : calloc(n, size);
}

#define malloc failing_malloc
#define calloc failing_calloc
#include "../../src/base/cancel.c"
#include "../../src/plugin/instance.c"
#include "../../src/plugin/job.c"
#include "../../src/plugin/load.c"
#include "../../src/plugin/run.c"
#include "../../src/plugin/sink.c"
#include "../../src/plugin/stream.c"
#include "../../src/plugin/task.c"
#include "../../src/plugin/token.c"
#include "../../src/plugin/values.c"
#undef malloc
#undef calloc

#include "fake_host.c"
#include "fake_service.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int threads_at_start;

static void drop_error(FfiBytes bytes) {
    assert_true(bytes.len > 0); /* an error is a sentence even then */
    mr_bytes_drop(&bytes);
}

static void load_once(PluginInstanceRaw plugin, fake_executor *executor) {
    FfiContext cx = fake_context(executor);
    FfiFutureUnit future = plugin.vtable->load(plugin.state, fake_text(""));
    FfiPollUnit poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(executor);
    assert_int_equal(poll.tag, FFI_READY);
    future.drop_fn(future.fut_ptr);
    if (poll.u.ready.tag == FFI_ERR) drop_error(poll.u.ready.u.err);
}

static void run_once(PluginInstanceRaw plugin, fake_executor *executor) {
    const char *const pairs[] = {"k", "v"};
    FfiContext cx = fake_context(executor);
    FfiFutureRun future =
        plugin.vtable->run(plugin.state, fake_text("count:3"), fake_metadata(pairs, 1), fake_some("chat"));
    FfiPollRun poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(executor);
    assert_int_equal(poll.tag, FFI_READY);
    future.drop_fn(future.fut_ptr);
    if (poll.u.ready.result.tag == FFI_ERR)
        drop_error(poll.u.ready.result.u.err);
    else
        mr_bytes_drop(&poll.u.ready.result.u.ok);
    mr_kv_list_drop(&poll.u.ready.metadata);
}

static void stream_once(PluginInstanceRaw plugin, fake_executor *executor) {
    const char *const pairs[] = {"k", "v"};
    fake_sink sink = {.mode = FAKE_SINK_READY};
    FfiContext cx = fake_context(executor);
    FfiFutureStream future = plugin.vtable->run_stream(plugin.state, fake_text("count:3"), fake_metadata(pairs, 1),
                                                       fake_some("chat"), fake_sink_raw(&sink));
    FfiPollStream poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(executor);
    assert_int_equal(poll.tag, FFI_READY);
    future.drop_fn(future.fut_ptr);
    assert_true(sink.dropped);
    if (poll.u.ready.tag == FFI_ERR) {
        drop_error(poll.u.ready.u.err);
        return;
    }
    assert_string_equal(sink.received, "0 1 2 "); /* an end without an error is a whole stream */
    mr_kv_list_drop(&poll.u.ready.u.ok);
}

static void describe_once(PluginInstanceRaw plugin) {
    FfiBytes name = plugin.vtable->name(plugin.state);
    mr_bytes_drop(&name);
    FfiKvPairList list = plugin.vtable->method_proto_map(plugin.state);
    assert_true(list.len == 0 || list.len == 2);
    mr_kv_list_drop(&list);
}

static void use_everything(fake_executor *executor) {
    PluginInstanceRaw plugin = mr_instance_new();
    if (plugin.state == NULL) return;
    describe_once(plugin);
    load_once(plugin, executor);
    fake_token *token = fake_token_new();
    plugin.vtable->set_cancellation_token(plugin.state, fake_token_raw(token));
    run_once(plugin, executor);
    fake_token_free(token);
    stream_once(plugin, executor);
    plugin.vtable->drop_state(plugin.state);
}

static void test_each_allocation_fails_once(void **state) {
    (void)state;
    fake_executor executor;
    int n = 0;
    do {
        has_failed = false;
        fake_executor_init(&executor);
        n_until_failure = n++;
        use_everything(&executor);
        n_until_failure = -1;
        fake_await_threads(threads_at_start);
        fake_executor_free(&executor);
        assert_int_equal(fake_n_live, 0);
        assert_int_equal(fake_n_violations, 0);
        assert_int_equal(fake_n_services, 0);
        assert_true(n < 1000);
    } while (has_failed);
    assert_true(n > 15); /* there were allocations to fail */
}

static void *do_nothing(void *arg) {
    return arg;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation_fails_once)};
    n_until_failure = -1;
    /* A sanitizer may start a thread of its own with the first one. */
    pthread_t first;
    if (pthread_create(&first, NULL, do_nothing, NULL) == 0) pthread_join(first, NULL);
    threads_at_start = fake_count_threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
