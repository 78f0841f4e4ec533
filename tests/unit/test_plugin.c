/* floors: plugin */
/* The plugin floor over its vtable, with a fake service below and a fake host above. */
#include "plugin/instance.h"

#include "fake_host.c"
#include "fake_service.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int threads_at_start;

/* One instance and one executor. */
typedef struct bench {
    PluginInstanceRaw plugin;
    const PluginVtable *vtable;
    fake_executor executor;
} bench;

static void open_bench(bench *self) {
    self->plugin = mr_instance_new();
    assert_non_null(self->plugin.state);
    self->vtable = self->plugin.vtable;
    fake_executor_init(&self->executor);
}

/* Drops the instance and checks that nothing is left over, anywhere. */
static void close_bench(bench *self) {
    self->vtable->drop_state(self->plugin.state);
    fake_await_threads(threads_at_start);
    fake_executor_free(&self->executor);
    assert_int_equal(fake_n_running, 0);
    assert_int_equal(fake_n_services, 0);
    assert_int_equal(fake_n_live, 0);
    assert_int_equal(fake_n_violations, 0);
}

static FfiPollUnit await_unit(bench *self, FfiFutureUnit future) {
    FfiContext cx = fake_context(&self->executor);
    FfiPollUnit poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self->executor);
    future.drop_fn(future.fut_ptr);
    return poll;
}

static FfiPollRun await_run(bench *self, FfiFutureRun future) {
    FfiContext cx = fake_context(&self->executor);
    FfiPollRun poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self->executor);
    future.drop_fn(future.fut_ptr);
    return poll;
}

static FfiPollStream await_stream(bench *self, FfiFutureStream future) {
    FfiContext cx = fake_context(&self->executor);
    FfiPollStream poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self->executor);
    future.drop_fn(future.fut_ptr);
    return poll;
}

static void assert_text(FfiBytes bytes, const char *expected) {
    assert_non_null(bytes.ptr);
    assert_int_equal(bytes.len, strlen(expected));
    assert_memory_equal(bytes.ptr, expected, bytes.len);
    fake_drop_bytes(bytes);
}

static void assert_contains(FfiBytes bytes, const char *part) {
    char text[2048];
    snprintf(text, sizeof text, "%.*s", (int)bytes.len, (const char *)bytes.ptr);
    if (strstr(text, part) == NULL) fail_msg("\"%s\" does not contain \"%s\"", text, part);
    fake_drop_bytes(bytes);
}

static void assert_run_ok(FfiPollRun poll, const char *expected) {
    assert_int_equal(poll.tag, FFI_READY);
    assert_int_equal(poll.u.ready.result.tag, FFI_OK);
    assert_text(poll.u.ready.result.u.ok, expected);
    fake_drop_list(poll.u.ready.metadata);
}

static void assert_run_error(FfiPollRun poll, const char *part) {
    assert_int_equal(poll.tag, FFI_READY);
    assert_int_equal(poll.u.ready.result.tag, FFI_ERR);
    assert_contains(poll.u.ready.result.u.err, part);
    fake_drop_list(poll.u.ready.metadata);
}

static void assert_stream_error(FfiPollStream poll, const char *part) {
    assert_int_equal(poll.tag, FFI_READY);
    assert_int_equal(poll.u.ready.tag, FFI_ERR);
    assert_contains(poll.u.ready.u.err, part);
}

static void assert_stream_ok(FfiPollStream poll) {
    assert_int_equal(poll.tag, FFI_READY);
    assert_int_equal(poll.u.ready.tag, FFI_OK);
    fake_drop_list(poll.u.ready.u.ok);
}

static FfiFutureRun start_run(bench *self, const char *args) {
    return self->vtable->run(self->plugin.state, fake_text(args), fake_metadata(NULL, 0), fake_none());
}

static FfiFutureStream start_stream(bench *self, const char *args, fake_sink *sink) {
    return self->vtable->run_stream(self->plugin.state, fake_text(args), fake_metadata(NULL, 0), fake_none(),
                                    fake_sink_raw(sink));
}

static fake_token *give_token(bench *self) {
    fake_token *token = fake_token_new();
    self->vtable->set_cancellation_token(self->plugin.state, fake_token_raw(token));
    return token;
}

static void test_describes_itself(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    void *p = self.plugin.state;
    assert_int_equal(self.vtable->abi_version, 0x10001);
    assert_int_equal(self.vtable->vtable_size, 144);
    assert_text(self.vtable->name(p), "Fake");
    assert_text(self.vtable->description(p), "A service without a model");
    assert_text(self.vtable->settings_schema(p), "");
    assert_contains(self.vtable->runner_settings_proto(p), "message Settings");
    assert_false(self.vtable->supports_client_stream(p, fake_some("chat")));
    assert_text(self.vtable->client_stream_data_proto(p, fake_none()), "");
    assert_int_equal(self.vtable->setup_client_stream_channel(p, fake_some("chat")).tag, FFI_NONE);
    assert_int_equal(self.vtable->setup_client_stream_channel_v2(p, fake_some("chat")).tag, FFI_NONE);
    FfiResultBytes reserved = self.vtable->reserved_method_0(p);
    assert_int_equal(reserved.tag, FFI_ERR);
    assert_text(reserved.u.err, "reserved");
    reserved = self.vtable->reserved_method_1(p);
    assert_int_equal(reserved.tag, FFI_ERR);
    assert_text(reserved.u.err, "reserved");
    close_bench(&self);
}

static void test_maps_methods_and_lets_elements_be_moved_out(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiKvPairList list = self.vtable->method_proto_map(self.plugin.state);
    assert_int_equal(list.len, 2);
    FfiKvPair first = list.ptr[0], second = list.ptr[1];
    list.drop_fn((uint8_t *)list.ptr, 0, list.cap); /* the storage only */
    assert_text(first.key, "chat");
    assert_text(first.value, "proto of chat");
    assert_text(second.key, "completion");
    assert_text(second.value, "proto of completion");
    list = self.vtable->method_json_schema_map(self.plugin.state);
    assert_int_equal(list.len, 2);
    assert_memory_equal(list.ptr[1].value.ptr, "schema of completion", list.ptr[1].value.len);
    fake_drop_list(list); /* with the elements */
    close_bench(&self);
}

static void test_loads(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiPollUnit poll = await_unit(&self, self.vtable->load(self.plugin.state, fake_text("")));
    assert_int_equal(poll.tag, FFI_READY);
    assert_int_equal(poll.u.ready.tag, FFI_OK);
    poll = await_unit(&self, self.vtable->load(self.plugin.state, fake_text("fail")));
    assert_int_equal(poll.u.ready.tag, FFI_ERR);
    assert_text(poll.u.ready.u.err, "no such model");
    FfiBytes dangling = {.ptr = (uint8_t *)1, .len = 0, .cap = 0, .drop_fn = NULL};
    poll = await_unit(&self, self.vtable->load(self.plugin.state, dangling));
    assert_int_equal(poll.u.ready.tag, FFI_OK);
    close_bench(&self);
}

static void test_drops_a_load(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiFutureUnit future = self.vtable->load(self.plugin.state, fake_text("block"));
    future.drop_fn(future.fut_ptr);
    future = self.vtable->load(self.plugin.state, fake_text("block"));
    FfiContext cx = fake_context(&self.executor);
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    fake_service_await_running(1);
    future.drop_fn(future.fut_ptr);
    close_bench(&self);
}

static void test_runs(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    assert_run_ok(await_run(&self, start_run(&self, "echo:hello")), "hello");
    assert_run_ok(await_run(&self, start_run(&self, "count:3")), "0 1 2 ");
    assert_run_ok(await_run(&self, start_run(&self, "echo:")), "");
    assert_run_ok(await_run(&self, start_run(&self, "")), "");
    assert_run_error(await_run(&self, start_run(&self, "fail:bad prompt")), "bad prompt");
    assert_run_error(await_run(&self, start_run(&self, "silent")), "limit");
    close_bench(&self);
}

static FfiPollRun run_using(bench *self, FfiOptionBytes using_) {
    return await_run(self, self->vtable->run(self->plugin.state, fake_text("method"), fake_metadata(NULL, 0), using_));
}

static FfiOptionBytes some_bytes(const void *bytes, size_t n) {
    FfiOptionBytes option = {.tag = FFI_SOME};
    option.u.some = fake_bytes(bytes, n);
    return option;
}

static void test_passes_the_method_on(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    assert_run_ok(run_using(&self, fake_none()), "(none)");
    assert_run_ok(run_using(&self, fake_some("completion")), "completion");
    assert_run_ok(run_using(&self, fake_some("")), "");
    assert_run_error(run_using(&self, some_bytes("chat\0x", 6)), "not UTF-8 text");
    assert_run_error(run_using(&self, some_bytes("\xff\xfe", 2)), "not UTF-8 text");
    char longest[300];
    memset(longest, 'a', sizeof longest);
    assert_run_error(run_using(&self, some_bytes(longest, sizeof longest)), "300 bytes");
    close_bench(&self);
}

static void test_returns_metadata_as_it_came(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    const char *const pairs[] = {"traceparent", "00-1-2-01", "\xff not UTF-8", "x", "empty", ""};
    static const char *const jobs[] = {"metadata", "fail:on purpose"};
    for (int i = 0; i < 2; i++) {
        FfiFutureRun future =
            self.vtable->run(self.plugin.state, fake_text(jobs[i]), fake_metadata(pairs, 3), fake_none());
        FfiPollRun poll = await_run(&self, future);
        assert_int_equal(poll.u.ready.result.tag, i == 0 ? FFI_OK : FFI_ERR);
        if (i == 0)
            assert_text(poll.u.ready.result.u.ok, "traceparent=00-1-2-01;\xff not UTF-8=x;empty=;");
        else
            assert_text(poll.u.ready.result.u.err, "on purpose");
        FfiKvPairList back = poll.u.ready.metadata;
        assert_int_equal(back.len, 3);
        for (size_t k = 0; k < 3; k++) {
            assert_memory_equal(back.ptr[k].key.ptr, pairs[2 * k], back.ptr[k].key.len);
            assert_memory_equal(back.ptr[k].value.ptr, pairs[2 * k + 1], back.ptr[k].value.len);
        }
        fake_drop_list(back);
    }
    close_bench(&self);
}

static void test_takes_odd_values(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiBytes no_args = {.ptr = (uint8_t *)1, .len = 0, .cap = 0, .drop_fn = NULL};
    FfiKvPairList no_pairs = {.ptr = NULL, .len = 0, .cap = 0, .drop_fn = NULL};
    FfiPollRun poll = await_run(&self, self.vtable->run(self.plugin.state, no_args, no_pairs, fake_none()));
    assert_non_null(poll.u.ready.metadata.ptr);
    assert_int_equal(poll.u.ready.metadata.len, 0);
    assert_run_ok(poll, "");
    FfiContext no_waker = {.waker = NULL};
    FfiFutureRun future = start_run(&self, "block");
    assert_int_equal(future.poll_fn(future.fut_ptr, &no_waker).tag, FFI_PENDING);
    future.drop_fn(future.fut_ptr);
    self.vtable->set_cancellation_token(self.plugin.state, (FfiCancellationToken){.state = NULL});
    assert_run_ok(await_run(&self, start_run(&self, "echo:still here")), "still here");
    close_bench(&self);
}

static void test_polled_again_after_ready_it_panics(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiContext cx = fake_context(&self.executor);
    FfiFutureRun future = start_run(&self, "echo:x");
    FfiPollRun poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self.executor);
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PANICKED);
    future.drop_fn(future.fut_ptr);
    assert_run_ok(poll, "x");
    close_bench(&self);
}

static void test_drops_a_run_at_any_moment(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiFutureRun future = start_run(&self, "block");
    future.drop_fn(future.fut_ptr); /* before the first poll */
    FfiContext cx = fake_context(&self.executor);
    future = start_run(&self, "block");
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    fake_service_await_running(1);
    future.drop_fn(future.fut_ptr); /* in the middle */
    fake_service_await_running(0);
    fake_token *token = give_token(&self);
    future = start_run(&self, "block");
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    fake_token_cancel(token);
    fake_executor_wait(&self.executor);
    future.drop_fn(future.fut_ptr); /* done, but never polled again */
    fake_token_free(token);
    close_bench(&self);
}

static void test_instance_may_go_before_its_future(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    bench other;
    open_bench(&other);
    FfiContext cx = fake_context(&other.executor);
    fake_sink sink = {.mode = FAKE_SINK_READY};
    FfiFutureRun run = start_run(&other, "block");
    FfiFutureStream stream = start_stream(&other, "endless", &sink);
    FfiFutureUnit load = other.vtable->load(other.plugin.state, fake_text("block"));
    assert_int_equal(run.poll_fn(run.fut_ptr, &cx).tag, FFI_PENDING);
    assert_int_equal(stream.poll_fn(stream.fut_ptr, &cx).tag, FFI_PENDING);
    assert_int_equal(load.poll_fn(load.fut_ptr, &cx).tag, FFI_PENDING);
    other.vtable->drop_state(other.plugin.state);
    run.drop_fn(run.fut_ptr);
    stream.drop_fn(stream.fut_ptr);
    load.drop_fn(load.fut_ptr);
    fake_await_threads(threads_at_start);
    fake_executor_free(&other.executor);
    assert_true(sink.dropped);
    close_bench(&self);
}

static void test_wakes_the_newest_waker_only(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_executor second;
    fake_executor_init(&second);
    fake_token *token = give_token(&self);
    FfiFutureRun future = start_run(&self, "block");
    FfiContext first_cx = fake_context(&self.executor), second_cx = fake_context(&second);
    assert_int_equal(future.poll_fn(future.fut_ptr, &first_cx).tag, FFI_PENDING);
    assert_int_equal(future.poll_fn(future.fut_ptr, &second_cx).tag, FFI_PENDING);
    assert_int_equal(self.executor.n_clones, 0);
    fake_token_cancel(token);
    fake_executor_wait(&second);
    FfiPollRun poll = future.poll_fn(future.fut_ptr, &second_cx);
    future.drop_fn(future.fut_ptr);
    assert_run_error(poll, "cancelled by the job's token");
    assert_int_equal(self.executor.n_wakes, 0);
    fake_executor_free(&second);
    fake_token_free(token);
    close_bench(&self);
}

static void test_token_cancels_before_the_start(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_token *token = give_token(&self);
    fake_token_cancel(token);
    assert_run_error(await_run(&self, start_run(&self, "block")), "cancelled");
    fake_token_free(token);
    token = give_token(&self);
    fake_token_cancel(token);
    fake_sink sink = {.mode = FAKE_SINK_READY};
    assert_stream_error(await_stream(&self, start_stream(&self, "endless", &sink)), "cancelled");
    assert_int_equal(sink.n_sent, 0);
    assert_true(sink.dropped);
    fake_token_free(token);
    close_bench(&self);
}

static void test_token_cancels_in_the_middle(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_token *token = give_token(&self);
    FfiFutureRun future = start_run(&self, "block");
    FfiContext cx = fake_context(&self.executor);
    assert_int_equal(fake_token_n_registered(token), 0);
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    assert_int_equal(fake_token_n_registered(token), 1);
    fake_service_await_running(1);
    fake_token_cancel(token);
    assert_run_error(await_run(&self, future), "cancelled by the job's token");
    assert_int_equal(fake_token_n_registered(token), 0);
    fake_token_free(token);
    /* The token was for that run only. */
    assert_run_ok(await_run(&self, start_run(&self, "echo:next")), "next");
    close_bench(&self);
}

static void test_token_is_released_however_it_ends(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    FfiContext cx = fake_context(&self.executor);
    fake_token *replaced = give_token(&self);
    fake_token *used = give_token(&self);
    assert_run_ok(await_run(&self, start_run(&self, "echo:x")), "x");
    assert_int_equal(fake_token_n_registered(used), 0);
    fake_token *dropped = give_token(&self);
    FfiFutureRun future = start_run(&self, "block");
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    future.drop_fn(future.fut_ptr);
    assert_int_equal(fake_token_n_registered(dropped), 0);
    fake_token *never_started = give_token(&self);
    future = start_run(&self, "block");
    future.drop_fn(future.fut_ptr);
    fake_token *left = give_token(&self); /* goes with the instance */
    fake_token_free(replaced);
    fake_token_free(used);
    fake_token_free(dropped);
    fake_token_free(never_started);
    fake_token_free(left);
    close_bench(&self);
}

static void test_token_may_wake_after_the_end(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    for (int i = 0; i < 3; i++) {
        fake_token *token = give_token(&self);
        fake_token_keep_wakers(token);
        fake_sink sink = {.mode = FAKE_SINK_READY};
        FfiContext cx = fake_context(&self.executor);
        if (i == 0) assert_run_ok(await_run(&self, start_run(&self, "echo:x")), "x");
        if (i == 1) assert_stream_ok(await_stream(&self, start_stream(&self, "count:3", &sink)));
        if (i == 2) {
            FfiFutureStream future = start_stream(&self, "endless", &sink);
            assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
            future.drop_fn(future.fut_ptr);
        }
        fake_await_threads(threads_at_start);
        fake_token_cancel(token); /* everything of that job is gone */
        fake_token_free(token);
    }
    close_bench(&self);
}

static void expect_numbers(const fake_sink *sink, int n) {
    mr_buf expected = {0};
    for (int i = 0; i < n; i++) mr_buf_printf(&expected, "%d ", i);
    assert_int_equal(sink->n_received, expected.len);
    size_t kept = expected.len < sizeof sink->received - 1 ? expected.len : 0;
    if (kept > 0) assert_memory_equal(sink->received, expected.data, kept);
    mr_buf_free(&expected);
}

static void test_streams_in_order(void **state) {
    (void)state;
    static const fake_sink_mode modes[] = {FAKE_SINK_READY, FAKE_SINK_LATER};
    static const int counts[] = {0, 1, 255, 256, 257, 1500};
    bench self;
    open_bench(&self);
    for (size_t m = 0; m < 2; m++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            fake_sink sink = {.mode = modes[m]};
            char args[32];
            snprintf(args, sizeof args, "count:%d", counts[c]);
            assert_stream_ok(await_stream(&self, start_stream(&self, args, &sink)));
            expect_numbers(&sink, counts[c]);
            assert_int_equal(sink.n_sent, counts[c]);
            assert_true(sink.dropped);
        }
    close_bench(&self);
}

static void test_stream_returns_metadata(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    const char *const pairs[] = {"k", "v"};
    fake_sink sink = {.mode = FAKE_SINK_READY};
    FfiPollStream poll =
        await_stream(&self, self.vtable->run_stream(self.plugin.state, fake_text("metadata"), fake_metadata(pairs, 1),
                                                    fake_some("chat"), fake_sink_raw(&sink)));
    assert_int_equal(poll.u.ready.tag, FFI_OK);
    assert_int_equal(poll.u.ready.u.ok.len, 1);
    assert_memory_equal(poll.u.ready.u.ok.ptr[0].value.ptr, "v", 1);
    assert_stream_ok(poll);
    assert_string_equal(sink.received, "k=v;");
    close_bench(&self);
}

static void test_stream_reports_errors(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_sink sink = {.mode = FAKE_SINK_READY};
    assert_stream_error(await_stream(&self, start_stream(&self, "fail:no messages", &sink)), "no messages");
    assert_int_equal(sink.n_sent, 0);
    assert_true(sink.dropped);
    fake_sink other = {.mode = FAKE_SINK_READY};
    assert_stream_error(
        await_stream(&self, self.vtable->run_stream(self.plugin.state, fake_text("method"), fake_metadata(NULL, 0),
                                                    some_bytes("\xc3", 1), fake_sink_raw(&other))),
        "not UTF-8 text");
    close_bench(&self);
}

static void test_closed_sink_stops_the_job(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    for (int limit = 0; limit < 3; limit++) {
        fake_sink closed = {.mode = FAKE_SINK_CLOSED, .limit = limit};
        assert_stream_error(await_stream(&self, start_stream(&self, "endless", &closed)), "receiver");
        expect_numbers(&closed, limit);
        assert_int_equal(closed.n_sent, limit + 1);
        fake_sink panicked = {.mode = FAKE_SINK_PANIC, .limit = limit};
        assert_stream_error(await_stream(&self, start_stream(&self, "endless", &panicked)), "receiver");
        assert_int_equal(panicked.n_sent, limit + 1);
    }
    close_bench(&self);
}

/* Polls until a send is stuck and the job has filled the queue behind it. */
static void fill_queue(bench *self, FfiFutureStream future, const fake_sink *sink, int n_before) {
    FfiContext cx = fake_context(&self->executor);
    while (sink->n_in_flight == 0 || fake_n_produced - n_before < sink->limit + 1 + 256) {
        assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

static void test_slow_receiver_bounds_the_queue(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    int before = fake_n_produced;
    fake_sink sink = {.mode = FAKE_SINK_STUCK, .limit = 0};
    FfiFutureStream future = start_stream(&self, "count:1000", &sink);
    fill_queue(&self, future, &sink, before);
    for (int i = 0; i < 20; i++) sched_yield();
    assert_int_equal(fake_n_produced - before, 257); /* the queue and the send that is stuck */
    sink.unstick = true;
    assert_stream_ok(await_stream(&self, future));
    expect_numbers(&sink, 1000);
    close_bench(&self);
}

static void test_cancel_does_not_wait_for_a_stuck_receiver(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    int before = fake_n_produced;
    fake_token *token = give_token(&self);
    fake_sink sink = {.mode = FAKE_SINK_STUCK, .limit = 2};
    FfiFutureStream future = start_stream(&self, "endless", &sink);
    fill_queue(&self, future, &sink, before);
    fake_token_cancel(token);
    assert_stream_error(await_stream(&self, future), "cancelled");
    expect_numbers(&sink, 2);
    assert_true(sink.dropped);
    fake_token_free(token);
    close_bench(&self);
}

/* The job's thread is gone by then; the cancellation itself has to wake the future. */
static void test_cancel_after_the_job_frees_a_stuck_stream(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_token *token = give_token(&self);
    fake_sink sink = {.mode = FAKE_SINK_STUCK, .limit = 5};
    FfiFutureStream future = start_stream(&self, "count:10", &sink);
    FfiContext cx = fake_context(&self.executor);
    do {
        assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
        fake_await_threads(threads_at_start);
    } while (sink.n_in_flight == 0);
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    self.executor.n_wakes = 0;
    fake_token_cancel(token);
    fake_executor_wait(&self.executor);
    assert_stream_error(await_stream(&self, future), "cancelled");
    expect_numbers(&sink, 5);
    fake_token_free(token);
    close_bench(&self);
}

static void test_drops_a_stream_at_any_moment(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    fake_sink unpolled = {.mode = FAKE_SINK_READY};
    FfiFutureStream future = start_stream(&self, "endless", &unpolled);
    future.drop_fn(future.fut_ptr);
    assert_true(unpolled.dropped);
    int before = fake_n_produced;
    fake_sink stuck = {.mode = FAKE_SINK_STUCK, .limit = 3};
    future = start_stream(&self, "endless", &stuck);
    fill_queue(&self, future, &stuck, before);
    assert_int_equal(stuck.n_in_flight, 1);
    future.drop_fn(future.fut_ptr); /* with a send in flight and the job waiting for room */
    assert_true(stuck.dropped);
    FfiContext cx = fake_context(&self.executor);
    fake_sink silent = {.mode = FAKE_SINK_READY};
    future = start_stream(&self, "block", &silent);
    assert_int_equal(future.poll_fn(future.fut_ptr, &cx).tag, FFI_PENDING);
    future.drop_fn(future.fut_ptr);
    assert_true(silent.dropped);
    close_bench(&self);
}

/* --- stress: many threads, each with its own instance, ending jobs in every way at random --- */

typedef struct stress_thread {
    pthread_t thread;
    unsigned seed;
    int n_rounds;
} stress_thread;

static unsigned draw(unsigned *seed, unsigned n) {
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 16) % n;
}

static void *cancel_later(void *arg) {
    fake_token *token = arg;
    sched_yield();
    fake_token_cancel(token);
    fake_token_free(token);
    return NULL;
}

/* Gives the instance a token that another thread cancels at about the same time. */
static bool give_racing_token(bench *self, pthread_t *thread) {
    fake_token *token = give_token(self);
    if (pthread_create(thread, NULL, cancel_later, token) == 0) return true;
    fake_token_free(token);
    return false;
}

static void stress_stream(bench *self, unsigned *seed) {
    static const char *const jobs[] = {"count:300", "endless", "block", "fail:x", "echo:x"};
    fake_sink sink = {.mode = (fake_sink_mode)draw(seed, 5), .limit = (int)draw(seed, 20)};
    unsigned job = draw(seed, 5);
    bool endless = job == 1 || job == 2 || sink.mode == FAKE_SINK_STUCK;
    pthread_t canceller;
    bool cancelled = draw(seed, 3) == 0 && give_racing_token(self, &canceller);
    FfiFutureStream future = start_stream(self, jobs[job], &sink);
    FfiContext cx = fake_context(&self->executor);
    int n_polls = endless && !cancelled ? (int)draw(seed, 6) : draw(seed, 4) == 0 ? (int)draw(seed, 6) : INT32_MAX;
    FfiPollStream poll = {.tag = FFI_PENDING};
    for (int i = 0; i < n_polls; i++) {
        poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll.tag != FFI_PENDING) break;
        if (!endless || cancelled) fake_executor_wait(&self->executor);
    }
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_OK) fake_drop_list(poll.u.ready.u.ok);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_ERR) fake_drop_bytes(poll.u.ready.u.err);
    if (!sink.dropped) violation("a sink outlived its stream");
    if (cancelled) pthread_join(canceller, NULL);
}

static void stress_run(bench *self, unsigned *seed) {
    static const char *const jobs[] = {"count:300", "block", "fail:x", "echo:x"};
    unsigned job = draw(seed, 4);
    pthread_t canceller;
    bool cancelled = draw(seed, 3) == 0 && give_racing_token(self, &canceller);
    FfiFutureRun future = start_run(self, jobs[job]);
    FfiContext cx = fake_context(&self->executor);
    int n_polls = job == 1 && !cancelled ? (int)draw(seed, 3) : draw(seed, 4) == 0 ? (int)draw(seed, 3) : INT32_MAX;
    FfiPollRun poll = {.tag = FFI_PENDING};
    for (int i = 0; i < n_polls; i++) {
        poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll.tag != FFI_PENDING) break;
        if (job != 1 || cancelled) fake_executor_wait(&self->executor);
    }
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_READY) {
        fake_drop_bytes(poll.u.ready.result.tag == FFI_OK ? poll.u.ready.result.u.ok : poll.u.ready.result.u.err);
        fake_drop_list(poll.u.ready.metadata);
    }
    if (cancelled) pthread_join(canceller, NULL);
}

static void stress_load(bench *self, unsigned *seed) {
    static const char *const settings[] = {"", "fail", "block"};
    unsigned which = draw(seed, 3);
    FfiFutureUnit future = self->vtable->load(self->plugin.state, fake_text(settings[which]));
    FfiContext cx = fake_context(&self->executor);
    FfiPollUnit poll = future.poll_fn(future.fut_ptr, &cx);
    if (poll.tag == FFI_PENDING && which != 2 && draw(seed, 2) == 0) {
        fake_executor_wait(&self->executor);
        poll = future.poll_fn(future.fut_ptr, &cx);
    }
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_ERR) fake_drop_bytes(poll.u.ready.u.err);
}

static void *stress_main(void *arg) {
    stress_thread *thread = arg;
    for (int round = 0; round < thread->n_rounds; round++) {
        bench self;
        self.plugin = mr_instance_new();
        self.vtable = self.plugin.vtable;
        for (int i = 0; i < 4; i++) {
            fake_executor_init(&self.executor);
            switch (draw(&thread->seed, 4)) {
            case 0:
                stress_load(&self, &thread->seed);
                break;
            case 1:
                stress_run(&self, &thread->seed);
                break;
            default:
                stress_stream(&self, &thread->seed);
                break;
            }
            fake_executor_free(&self.executor);
        }
        self.vtable->drop_state(self.plugin.state);
    }
    return NULL;
}

static void test_stress(void **state) {
    (void)state;
    stress_thread threads[8];
    const char *rounds = getenv("MR_STRESS_ROUNDS");
    for (unsigned i = 0; i < 8; i++) {
        threads[i] = (stress_thread){.seed = i + 1, .n_rounds = rounds == NULL ? 25 : atoi(rounds)};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, stress_main, &threads[i]), 0);
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i].thread, NULL);
    bench self;
    open_bench(&self);
    close_bench(&self);
}

static void *do_nothing(void *arg) {
    return arg;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describes_itself),
        cmocka_unit_test(test_maps_methods_and_lets_elements_be_moved_out),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_drops_a_load),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_passes_the_method_on),
        cmocka_unit_test(test_returns_metadata_as_it_came),
        cmocka_unit_test(test_takes_odd_values),
        cmocka_unit_test(test_polled_again_after_ready_it_panics),
        cmocka_unit_test(test_drops_a_run_at_any_moment),
        cmocka_unit_test(test_instance_may_go_before_its_future),
        cmocka_unit_test(test_wakes_the_newest_waker_only),
        cmocka_unit_test(test_token_cancels_before_the_start),
        cmocka_unit_test(test_token_cancels_in_the_middle),
        cmocka_unit_test(test_token_is_released_however_it_ends),
        cmocka_unit_test(test_token_may_wake_after_the_end),
        cmocka_unit_test(test_streams_in_order),
        cmocka_unit_test(test_stream_returns_metadata),
        cmocka_unit_test(test_stream_reports_errors),
        cmocka_unit_test(test_closed_sink_stops_the_job),
        cmocka_unit_test(test_slow_receiver_bounds_the_queue),
        cmocka_unit_test(test_cancel_does_not_wait_for_a_stuck_receiver),
        cmocka_unit_test(test_cancel_after_the_job_frees_a_stuck_stream),
        cmocka_unit_test(test_drops_a_stream_at_any_moment),
        cmocka_unit_test(test_stress),
    };
    /* A sanitizer may start a thread of its own with the first one. */
    pthread_t first;
    if (pthread_create(&first, NULL, do_nothing, NULL) == 0) pthread_join(first, NULL);
    threads_at_start = fake_count_threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
