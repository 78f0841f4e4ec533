/* The plugin under mixed jobs for a given time: `soak SECONDS [SEED]`.
 *
 * Many threads, each a host with instances that come and go: chats that must give the text that was given alone, whole
 * and streamed; endless texts that are cancelled, dropped, or whose receiver goes; arguments that are wrong or random;
 * settings that cannot be loaded. Every job must end in the way that its kind allows, within two minutes; at the end no
 * thread, model or host value is left, and the figures are printed as one TAP test. */
#include "base/clock.h"
#include "base/log.h"
#include "service/registry.h"

#include "fake_host.c"
#include "plugin_jobs.h"

#include <unistd.h>

enum { N_THREADS = 6, MAX_IDLE_SEC = 120, N_BAD = 8 };

static mr_buf chat_args, endless_args, bad_args[N_BAD];
static char *expected; /* the answer to chat_args */
static atomic_long n_jobs, n_answers, n_cancelled, n_dropped, n_closed, n_refused, n_random, n_instances;
static atomic_long n_lost; /* jobs that ended as their kind may not */
static atomic_ulong last_progress;
static atomic_bool stopping;

typedef struct client {
    pthread_t thread;
    uint64_t seed;
} client;

static unsigned draw(client *c, unsigned n) {
    c->seed = c->seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(c->seed >> 33) % n;
}

static void lost(const char *what, const void *text, size_t n) {
    fprintf(stderr, "# lost: %s: %.*s\n", what, (int)n, (const char *)text);
    atomic_fetch_add(&n_lost, 1);
}

/* ---- driving futures ---- */

/* Polls until the job ends or `n_polls` polls were made; false when it was given up. */
static bool drive_run(bench *b, FfiFutureRun future, unsigned n_polls, FfiPollRun *poll) {
    FfiContext cx = fake_context(&b->executor);
    poll->tag = FFI_PENDING;
    for (unsigned i = 0; i < n_polls; i++) {
        *poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll->tag != FFI_PENDING) break;
        fake_executor_wait(&b->executor);
    }
    future.drop_fn(future.fut_ptr);
    return poll->tag == FFI_READY;
}

static bool drive_stream(bench *b, FfiFutureStream future, unsigned n_polls, FfiPollStream *poll) {
    FfiContext cx = fake_context(&b->executor);
    poll->tag = FFI_PENDING;
    for (unsigned i = 0; i < n_polls; i++) {
        *poll = future.poll_fn(future.fut_ptr, &cx);
        if (poll->tag != FFI_PENDING) break;
        fake_executor_wait(&b->executor);
    }
    future.drop_fn(future.fut_ptr);
    return poll->tag == FFI_READY;
}

/* Takes a run's outcome; *text is the error's or NULL. */
static bool take_run(FfiPollRun *poll, FfiBytes *bytes) {
    bool ok = poll->u.ready.result.tag == FFI_OK;
    *bytes = ok ? poll->u.ready.result.u.ok : poll->u.ready.result.u.err;
    fake_drop_list(poll->u.ready.metadata);
    return ok;
}

/* ---- kinds of jobs ---- */

static void job_chat(bench *b) {
    FfiPollRun poll;
    FfiBytes bytes;
    drive_run(b, start_run(b, &chat_args, "chat"), UINT32_MAX, &poll);
    if (take_run(&poll, &bytes)) {
        char *text = text_of(bytes.ptr, bytes.len);
        if (strcmp(text, expected) != 0) lost("a chat gave another text", text, strlen(text));
        free(text);
        atomic_fetch_add(&n_answers, 1);
    } else {
        lost("a chat failed", bytes.ptr, bytes.len);
    }
    fake_drop_bytes(bytes);
}

static void job_stream(bench *b, client *c) {
    fake_sink sink = {.mode = draw(c, 2) == 0 ? FAKE_SINK_READY : FAKE_SINK_LATER};
    FfiPollStream poll;
    drive_stream(b, start_stream(b, &chat_args, "chat", &sink), UINT32_MAX, &poll);
    if (poll.u.ready.tag == FFI_OK) {
        fake_drop_list(poll.u.ready.u.ok);
        atomic_fetch_add(&n_answers, 1);
        if (sink.n_sent < 2) lost("a stream had too few chunks", "", 0);
    } else {
        lost("a stream failed", poll.u.ready.u.err.ptr, poll.u.ready.u.err.len);
        fake_drop_bytes(poll.u.ready.u.err);
    }
}

static void *cancel_soon(void *arg) {
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    fake_token_cancel(arg);
    return NULL;
}

static void job_cancelled(bench *b, client *c) {
    fake_token *token = fake_token_new();
    if (draw(c, 2) == 0) fake_token_keep_wakers(token);
    b->vtable->set_cancellation_token(b->plugin.state, fake_token_raw(token));
    FfiFutureRun future = start_run(b, &endless_args, "completion");
    pthread_t canceller;
    bool threaded = draw(c, 4) != 0 && pthread_create(&canceller, NULL, cancel_soon, token) == 0;
    if (!threaded) fake_token_cancel(token);
    FfiPollRun poll;
    FfiBytes bytes;
    drive_run(b, future, UINT32_MAX, &poll);
    take_run(&poll, &bytes); /* the text may have ended before */
    fake_drop_bytes(bytes);
    if (threaded) pthread_join(canceller, NULL);
    fake_token_free(token);
    b->vtable->set_cancellation_token(b->plugin.state, fake_token_raw((token = fake_token_new())));
    fake_token_free(token);
    atomic_fetch_add(&n_cancelled, 1);
}

static void job_dropped(bench *b, client *c) {
    FfiPollRun poll;
    if (drive_run(b, start_run(b, &endless_args, "completion"), draw(c, 3), &poll)) {
        FfiBytes bytes;
        take_run(&poll, &bytes);
        fake_drop_bytes(bytes);
    }
    atomic_fetch_add(&n_dropped, 1);
}

static void job_closed(bench *b, client *c) {
    fake_sink sink = {.mode = draw(c, 2) == 0 ? FAKE_SINK_CLOSED : FAKE_SINK_PANIC, .limit = (int)draw(c, 5)};
    FfiPollStream poll;
    drive_stream(b, start_stream(b, &endless_args, "completion", &sink), UINT32_MAX, &poll);
    if (poll.u.ready.tag == FFI_OK)
        fake_drop_list(poll.u.ready.u.ok);
    else
        fake_drop_bytes(poll.u.ready.u.err);
    atomic_fetch_add(&n_closed, 1);
}

/* Arguments that have to be refused with a sentence. */
static void job_bad(bench *b, client *c) {
    FfiPollRun poll;
    FfiBytes bytes;
    unsigned kind = draw(c, N_BAD + 1);
    if (kind == N_BAD)
        drive_run(b, start_run(b, &chat_args, "sing"), UINT32_MAX, &poll);
    else
        drive_run(b, start_run(b, &bad_args[kind], "chat"), UINT32_MAX, &poll);
    if (take_run(&poll, &bytes)) lost("a bad job was answered", "", 0);
    if (bytes.len < 10) lost("an error says nothing", bytes.ptr, bytes.len);
    fake_drop_bytes(bytes);
    atomic_fetch_add(&n_refused, 1);
}

/* Bytes of a good message, some of them changed: any end will do. Cut by a token where the text would be long. */
static void job_random(bench *b, client *c) {
    mr_buf args = {0};
    mr_buf_append(&args, chat_args.data, chat_args.len - draw(c, (unsigned)chat_args.len / 2));
    for (unsigned i = draw(c, 4); i > 0; i--) args.data[draw(c, (unsigned)args.len)] = (char)draw(c, 256);
    FfiPollRun poll;
    if (drive_run(b, start_run(b, &args, draw(c, 2) == 0 ? "chat" : "completion"), 64, &poll)) {
        FfiBytes bytes;
        take_run(&poll, &bytes);
        fake_drop_bytes(bytes);
    }
    mr_buf_free(&args);
    atomic_fetch_add(&n_random, 1);
}

/* Settings that name what is not there: an error, and the instance goes on with its model. */
static void load_badly(bench *b) {
    static const char settings[] = "\x12\x0d\x0a\x0b/no/such/it"; /* gguf_model.model_name_or_path */
    FfiContext cx = fake_context(&b->executor);
    FfiFutureUnit future = b->vtable->load(b->plugin.state, fake_bytes(settings, sizeof settings - 1));
    FfiPollUnit poll;
    while ((poll = future.poll_fn(future.fut_ptr, &cx)).tag == FFI_PENDING) fake_executor_wait(&b->executor);
    future.drop_fn(future.fut_ptr);
    if (poll.u.ready.tag == FFI_OK)
        lost("settings without a model were loaded", "", 0);
    else
        fake_drop_bytes(poll.u.ready.u.err);
}

static void one_job(bench *b, client *c) {
    switch (draw(c, 10)) {
    case 0:
    case 1:
    case 2:
        job_chat(b);
        break;
    case 3:
    case 4:
        job_stream(b, c);
        break;
    case 5:
        job_cancelled(b, c);
        break;
    case 6:
        job_dropped(b, c);
        break;
    case 7:
        job_closed(b, c);
        break;
    case 8:
        job_bad(b, c);
        break;
    default:
        job_random(b, c);
    }
    atomic_fetch_add(&n_jobs, 1);
    atomic_store(&last_progress, mr_clock_ns());
}

static void *client_main(void *arg) {
    client *c = arg;
    while (!atomic_load(&stopping)) {
        bench b;
        open_bench(&b);
        atomic_fetch_add(&n_instances, 1);
        if (!load(&b)) lost("the model was not loaded", "", 0);
        if (draw(c, 8) == 0) load_badly(&b);
        for (unsigned i = draw(c, 12); i > 0 && !atomic_load(&stopping); i--) one_job(&b, c);
        close_bench(&b);
    }
    return NULL;
}

/* ---- the frame ---- */

static long resident_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void encode_all(void) {
    static const char *const bad[N_BAD] = {
        "{}",
        "{\"messages\":[{\"role\":\"USER\"}]}",
        "{\"messages\":[{\"role\":\"USER\",\"content\":{\"image\":{\"content_type\":\"image/png\"}}}]}",
        "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"x\"}}],\"options\":{\"max_tokens\":-1}}",
        "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"x\"}}],\"options\":{\"temperature\":\"NaN\"}}",
        "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"x\"}}],\"options\":{\"top_p\":2}}",
        "{\"messages\":[{\"role\":\"TOOL\",\"content\":{\"tool_results\":{\"results\":[{\"call_id\":\"7\"}]}}}]}",
        "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"x\"}}],\"options\":{\"repeat_penalty\":-3}}",
    };
    encode(&jobworkerp__runner__llm__llmchat_args__descriptor,
           "{\"messages\":[{\"role\":\"USER\",\"content\":{\"text\":\"Hello!\"}}],"
           "\"options\":{\"temperature\":0,\"max_tokens\":12}}",
           &chat_args);
    encode(&jobworkerp__runner__llm__llmcompletion_args__descriptor,
           "{\"prompt\":\"Once upon a time\",\"options\":{\"temperature\":1.5,\"max_tokens\":100000,\"seed\":1}}",
           &endless_args);
    for (int i = 0; i < N_BAD; i++) encode(&jobworkerp__runner__llm__llmchat_args__descriptor, bad[i], &bad_args[i]);
}

static void learn_expected(void) {
    bench b;
    open_bench(&b);
    if (!load(&b)) exit(1);
    FfiPollRun poll;
    FfiBytes bytes;
    drive_run(&b, start_run(&b, &chat_args, "chat"), UINT32_MAX, &poll);
    if (!take_run(&poll, &bytes)) exit(1);
    expected = text_of(bytes.ptr, bytes.len);
    fake_drop_bytes(bytes);
    close_bench(&b);
}

/* Lets the clients work; aborts the process, for a core or a sanitizer's stacks, when none of them gets anywhere.
 * Returns the resident memory at a tenth of the time, when everything has been used once. */
static long watch(double seconds) {
    uint64_t start = mr_clock_ns();
    long warm_kib = 0;
    atomic_store(&last_progress, start);
    while (mr_clock_since(start) < seconds) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        if (warm_kib == 0 && mr_clock_since(start) > seconds / 10) warm_kib = resident_kib();
        if (mr_clock_since(atomic_load(&last_progress)) > MAX_IDLE_SEC) {
            fprintf(stderr, "# no job has ended for %d seconds\n", MAX_IDLE_SEC);
            abort();
        }
    }
    return warm_kib;
}

static void *do_nothing(void *arg) {
    return arg;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 120;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    mr_log_set_filter("off");
    pthread_t first; /* a sanitizer may start a thread of its own with the first one */
    if (pthread_create(&first, NULL, do_nothing, NULL) == 0) pthread_join(first, NULL);
    int threads_at_start = fake_count_threads();
    encode_all();
    learn_expected();
    client clients[N_THREADS];
    for (unsigned i = 0; i < N_THREADS; i++) {
        clients[i].seed = seed * 1000 + i;
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0) return 1;
    }
    long warm_kib = watch(seconds);
    long end_kib = resident_kib();
    atomic_store(&stopping, true);
    for (int i = 0; i < N_THREADS; i++) pthread_join(clients[i].thread, NULL);
    fake_await_threads(threads_at_start);
    printf(
        "# %.0f s: %ld jobs on %ld instances: %ld answered, %ld cancelled, %ld dropped, %ld receivers gone, %ld "
        "refused, "
        "%ld random\n# resident %ld KiB at a tenth of the time, %ld KiB at the end; lost %ld, rules of the ABI broken "
        "%d, host values left %d, models left %zu\n",
        seconds, n_jobs, n_instances, n_answers, n_cancelled, n_dropped, n_closed, n_refused, n_random, warm_kib,
        end_kib, n_lost, fake_n_violations, fake_n_live, mr_shared_count());
    bool ok = n_lost == 0 && fake_n_violations == 0 && fake_n_live == 0 && mr_shared_count() == 0 && n_jobs > 0;
    printf("%sok 1 - soak\n1..1\n", ok ? "" : "not ");
    free(expected);
    mr_buf_free(&chat_args);
    mr_buf_free(&endless_args);
    for (int i = 0; i < N_BAD; i++) mr_buf_free(&bad_args[i]);
    return ok ? 0 : 1;
}
