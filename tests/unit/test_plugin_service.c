/* floors: plugin */
/* The plugin with its real service and the model that is built in, driven over the vtable by the fake host: jobs that
 * are run, streamed, cancelled, dropped and closed at random by many threads, and nothing left at the end. */
#include "service/registry.h"

#include "fake_host.c"
#include "plugin_jobs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int threads_at_start;

static mr_buf chat_args, endless_args; /* a short greedy chat; a text that rarely ends */

/* After the last instance went: no thread, model or host value is left. */
static void assert_nothing_left(void) {
    fake_await_threads(threads_at_start);
    assert_int_equal(mr_shared_count(), 0);
    assert_int_equal(fake_n_live, 0);
    assert_int_equal(fake_n_violations, 0);
}

static char *run_chat(bench *self) {
    FfiContext cx = fake_context(&self->executor);
    FfiFutureRun future = start_run(self, &chat_args, "chat");
    FfiPollRun poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&self->executor);
    future.drop_fn(future.fut_ptr);
    assert_int_equal(poll.u.ready.result.tag, FFI_OK);
    char *text = text_of(poll.u.ready.result.u.ok.ptr, poll.u.ready.result.u.ok.len);
    fake_drop_bytes(poll.u.ready.result.u.ok);
    fake_drop_list(poll.u.ready.metadata);
    return text;
}

static void test_answers(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    assert_true(load(&self));
    char *first = run_chat(&self), *second = run_chat(&self);
    assert_true(strlen(first) > 0);
    assert_string_equal(first, second);
    free(first);
    free(second);
    close_bench(&self);
    assert_nothing_left();
}

static void test_frees_the_model_with_the_last_instance(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        bench first, second;
        open_bench(&first);
        open_bench(&second);
        assert_true(load(&first));
        assert_true(load(&second));
        assert_int_equal(mr_shared_count(), 1); /* one model for both */
        close_bench(&first);
        assert_int_equal(mr_shared_count(), 1);
        close_bench(&second);
        assert_nothing_left();
    }
}

static void test_instance_goes_while_work_unwinds(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        bench self;
        open_bench(&self);
        assert_true(load(&self));
        FfiContext cx = fake_context(&self.executor);
        fake_sink sink = {.mode = FAKE_SINK_READY};
        FfiFutureRun run = start_run(&self, &endless_args, "completion");
        FfiFutureStream stream = start_stream(&self, &endless_args, "completion", &sink);
        FfiFutureUnit again = self.vtable->load(self.plugin.state, fake_text(""));
        assert_int_equal(run.poll_fn(run.fut_ptr, &cx).tag, FFI_PENDING);
        assert_int_equal(stream.poll_fn(stream.fut_ptr, &cx).tag, FFI_PENDING);
        again.poll_fn(again.fut_ptr, &cx);
        if (i % 2 == 0) fake_executor_wait(&self.executor);
        run.drop_fn(run.fut_ptr);
        stream.drop_fn(stream.fut_ptr);
        again.drop_fn(again.fut_ptr);
        close_bench(&self);
        assert_nothing_left();
    }
}

typedef struct stress_thread {
    pthread_t thread;
    unsigned seed;
    int n_rounds;
    char *expected; /* of the greedy chat */
} stress_thread;

static unsigned draw(unsigned *seed, unsigned n) {
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 16) % n;
}

static void *cancel_later(void *arg) {
    fake_token *token = arg;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    fake_token_cancel(token);
    fake_token_free(token);
    return NULL;
}

static void stress_stream(bench *self, unsigned *seed) {
    static const fake_sink_mode modes[] = {FAKE_SINK_READY, FAKE_SINK_CLOSED, FAKE_SINK_PANIC};
    fake_sink sink = {.mode = modes[draw(seed, 3)], .limit = (int)draw(seed, 6)};
    fake_token *token = fake_token_new();
    bool cancelled = draw(seed, 2) == 0;
    self->vtable->set_cancellation_token(self->plugin.state, fake_token_raw(token));
    FfiFutureStream future = start_stream(self, &endless_args, "completion", &sink);
    pthread_t canceller;
    if (cancelled) cancelled = pthread_create(&canceller, NULL, cancel_later, token) == 0;
    FfiContext cx = fake_context(&self->executor);
    FfiPollStream poll = {.tag = FFI_PENDING};
    for (int i = 0; i < (cancelled ? INT32_MAX : 8); i++) {
        poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll.tag != FFI_PENDING) break;
        fake_executor_wait(&self->executor);
    }
    future.drop_fn(future.fut_ptr);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_OK) fake_drop_list(poll.u.ready.u.ok);
    if (poll.tag == FFI_READY && poll.u.ready.tag == FFI_ERR) fake_drop_bytes(poll.u.ready.u.err);
    if (cancelled)
        pthread_join(canceller, NULL);
    else
        fake_token_free(token);
}

static void stress_run(bench *self, unsigned *seed, const char *expected) {
    if (draw(seed, 2) == 0) {
        char *text = run_chat(self);
        if (strcmp(text, expected) != 0) violation("an answer differs from the one that was given alone");
        free(text);
        return;
    }
    FfiContext cx = fake_context(&self->executor);
    FfiFutureRun future = start_run(self, &endless_args, "completion");
    if (draw(seed, 4) != 0 && future.poll_fn(future.fut_ptr, &cx).tag == FFI_READY) violation("a poll waited");
    future.drop_fn(future.fut_ptr);
}

static void *stress_main(void *arg) {
    stress_thread *thread = arg;
    for (int round = 0; round < thread->n_rounds; round++) {
        bench self;
        open_bench(&self);
        if (!load(&self)) violation("the model was not loaded");
        for (int i = 0; i < 3; i++) {
            if (draw(&thread->seed, 2) == 0)
                stress_run(&self, &thread->seed, thread->expected);
            else
                stress_stream(&self, &thread->seed);
        }
        close_bench(&self);
    }
    return NULL;
}

static void test_stress(void **state) {
    (void)state;
    bench self;
    open_bench(&self);
    assert_true(load(&self));
    char *expected = run_chat(&self);
    close_bench(&self);
    stress_thread threads[8];
    const char *rounds = getenv("MR_STRESS_ROUNDS");
    for (unsigned i = 0; i < 8; i++) {
        threads[i] =
            (stress_thread){.seed = i + 1, .n_rounds = rounds == NULL ? 4 : atoi(rounds), .expected = expected};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, stress_main, &threads[i]), 0);
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i].thread, NULL);
    free(expected);
    assert_nothing_left();
}

static int encode_args(void **state) {
    (void)state;
    encode(&jobworkerp__runner__llm__llmchat_args__descriptor,
           "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"Hello!\"}}],"
           "\"options\":{\"temperature\":0,\"max_tokens\":12}}",
           &chat_args);
    encode(&jobworkerp__runner__llm__llmcompletion_args__descriptor,
           "{\"prompt\":\"Once upon a time\",\"options\":{\"temperature\":1.5,\"max_tokens\":100000,\"seed\":1}}",
           &endless_args);
    return 0;
}

static int free_args(void **state) {
    (void)state;
    mr_buf_free(&chat_args);
    mr_buf_free(&endless_args);
    return 0;
}

static void *do_nothing(void *arg) {
    return arg;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_frees_the_model_with_the_last_instance),
        cmocka_unit_test(test_instance_goes_while_work_unwinds),
        cmocka_unit_test(test_stress),
    };
    /* A sanitizer may start a thread of its own with the first one. */
    pthread_t first;
    if (pthread_create(&first, NULL, do_nothing, NULL) == 0) pthread_join(first, NULL);
    threads_at_start = fake_count_threads();
    return cmocka_run_group_tests(tests, encode_args, free_args);
}
