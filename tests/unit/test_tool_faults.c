/* floors: service */
/* Jobs with tools while everything goes wrong at random: functions fail, break off, hang or answer with garbage, the
 * server dies and comes back, jobs are cancelled and receivers go away. Every job ends, with an answer or with an error
 * that says why; memory stays flat, and no thread is left. MR_FAULT_JOBS sets the number of jobs (default 200). */
#define _GNU_SOURCE
#include "service/service.h"

#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "function_server.c"
#include "service/pb_wire.h"
#include "service/pbjson.h"
#include "service/registry.h"
#include "settings.pb-c.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum { N_THREADS = 4, STUCK_SEC = 540 };

static const char LINES[] =
    "{\"add\": \"<tool_call>{\\\"name\\\": \\\"add\\\", \\\"arguments\\\": {\\\"a\\\": 2, \\\"b\\\": "
    "40}}</tool_call>\","
    "\"two\": [\"Both. <tool_call>{\\\"name\\\": \\\"add\\\", \\\"arguments\\\": {\\\"a\\\": 1, \\\"b\\\": "
    "1}}</tool_call>\","
    "\"<tool_call>{\\\"name\\\": \\\"text___upper\\\", \\\"arguments\\\": {\\\"text\\\": \\\"x\\\"}}</tool_call>\"],"
    "\"done\": \"It is done.\"}";
static const char *const SCRIPTS[] = {"add done", "two done", "add two add done", "done"};

static function_server server;
static char model_path[64], endpoint[64]; /* the server keeps its port */
static int n_jobs = 200;
static atomic_int n_begun, n_answered, n_failed, n_cancelled, n_gone;
static atomic_bool over;

static mr_buf encode(const ProtobufCMessageDescriptor *type, json_t *json) {
    mr_buf bytes = {0};
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    assert_non_null(json);
    assert_int_equal(mr_pb_from_json(type, json, &arena, &message, &err), MR_OK);
    assert_true(mr_pb_pack(message, &bytes));
    mr_arena_free(&arena);
    json_decref(json);
    return bytes;
}

static mr_service *loaded(void) {
    json_t *json = json_pack("{s:{s:s}, s:i, s:{s:s, s:i, s:i, s:i}}", "gguf_model", "model_name_or_path", model_path,
                             "context_size", 8192, "tool_calling", "grpc_endpoint", endpoint, "tool_timeout_sec", 1,
                             "connection_timeout_sec", 2, "max_iterations", 5);
    mr_buf bytes = encode(&jobworkerp__runner__llm__local_runner_settings__descriptor, json);
    mr_service *service = mr_service_new();
    mr_error err = {0};
    assert_int_equal(mr_service_load(service, (const uint8_t *)bytes.data, bytes.len, NULL, &err), MR_OK);
    mr_buf_free(&bytes);
    return service;
}

static mr_buf chat_args(const char *script, bool flaky) {
    return encode(&jobworkerp__runner__llm__llmchat_args__descriptor,
                  json_pack("{s:[{s:s, s:{s:s}}], s:{s:f}, s:{s:b, s:s}}", "messages", "role", "USER", "content",
                            "text", script, "options", "temperature", 0.0, "function_options", "use_function_calling",
                            1, "function_set_name", flaky ? "flaky" : "demo"));
}

/* What one job shows of itself. */
typedef struct watcher {
    int n_chunks, leave_after; /* 0 = stays */
    mr_buf last;
} watcher;

static bool on_chunk(void *ctx, const uint8_t *bytes, size_t n) {
    watcher *w = ctx;
    mr_buf_clear(&w->last);
    mr_buf_append(&w->last, bytes, n);
    return ++w->n_chunks != w->leave_after;
}

static void check_end(const mr_buf *result, bool stream) {
    mr_arena arena = {0};
    mr_error err = {0};
    ProtobufCMessage *message;
    assert_int_equal(mr_pb_unpack(&jobworkerp__runner__llm__llmchat_result__descriptor, (const uint8_t *)result->data,
                                  result->len, &arena, &message, &err),
                     MR_OK);
    const Jobworkerp__Runner__Llm__LLMChatResult *end = (const Jobworkerp__Runner__Llm__LLMChatResult *)message;
    assert_true(end->done);
    assert_non_null(end->usage);
    if (!stream) assert_non_null(end->content);
    mr_arena_free(&arena);
}

static void *cancel_soon(void *cancel) {
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    mr_cancel_request(cancel);
    return NULL;
}

static void run_job(mr_service *service, int number, unsigned *seed) {
    mr_buf args = chat_args(SCRIPTS[(unsigned)number % 4], number % 3 == 0), result = {0};
    watcher w = {.leave_after = rand_r(seed) % 10 == 0 ? 1 + rand_r(seed) % 3 : 0};
    bool stream = number % 2 == 0;
    mr_service_job job = {.args = (const uint8_t *)args.data,
                          .n_args = args.len,
                          .cancel = mr_cancel_new(),
                          .on_chunk = stream ? on_chunk : NULL,
                          .ctx = &w};
    pthread_t canceller;
    bool cancels = rand_r(seed) % 10 == 0;
    if (cancels) pthread_create(&canceller, NULL, cancel_soon, job.cancel);
    mr_error err = {0};
    mr_status status = mr_service_run(service, &job, &result, &err);
    if (cancels) pthread_join(canceller, NULL);
    if (status == MR_OK)
        check_end(stream ? &w.last : &result, stream);
    else
        assert_true(strlen(err.text) > 10);
    bool gone = status == MR_ERR_CANCELLED && !cancels;
    if (gone) assert_int_equal(w.n_chunks, w.leave_after);
    atomic_fetch_add(status == MR_OK ? &n_answered : gone ? &n_gone : cancels ? &n_cancelled : &n_failed, 1);
    if (status != MR_OK && status != MR_ERR_CANCELLED) print_message("job %d: %s\n", number, err.text);
    mr_cancel_unref(job.cancel);
    mr_buf_free(&args);
    mr_buf_free(&result);
    mr_buf_free(&w.last);
}

static void *run_jobs(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    mr_service *service = loaded();
    for (int number; (number = atomic_fetch_add(&n_begun, 1)) < n_jobs;) run_job(service, number, &seed);
    mr_service_unref(service);
    return NULL;
}

/* Starts the server again whenever it has died. */
static void *keep_alive(void *arg) {
    int *n_deaths = arg;
    while (!atomic_load(&over)) {
        char seed[16];
        snprintf(seed, sizeof seed, "%d", *n_deaths + 2);
        if (function_server_revive(&server, "--faults", seed)) ++*n_deaths;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return NULL;
}

static long resident_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    if (file != NULL) fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int count_threads(void) {
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    while (tasks != NULL && readdir(tasks) != NULL) n++;
    if (tasks != NULL) closedir(tasks);
    return n;
}

static void run_batch(int jobs) {
    pthread_t threads[N_THREADS];
    n_jobs = jobs;
    atomic_store(&n_begun, 0);
    for (uintptr_t i = 0; i < N_THREADS; i++) pthread_create(&threads[i], NULL, run_jobs, (void *)(i + 1));
    for (int i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    malloc_trim(0);
}

static void test_faults(void **state) {
    (void)state;
    if (!function_server_possible()) skip();
    const char *wanted = getenv("MR_FAULT_JOBS");
    int jobs = wanted != NULL ? atoi(wanted) : n_jobs, n_deaths = 0;
    script_model_write(model_path, LINES);
    function_server_start(&server, 0, "--faults", "1");
    strcpy(endpoint, server.endpoint);
    setenv("RUST_LOG", "off", 1);
    alarm(STUCK_SEC);
    int threads_before = count_threads();
    pthread_t keeper;
    pthread_create(&keeper, NULL, keep_alive, &n_deaths);
    run_batch(jobs / 2);
    long before = resident_kib();
    run_batch(jobs - jobs / 2);
    long growth = resident_kib() - before;
    atomic_store(&over, true);
    pthread_join(keeper, NULL);
    assert_int_equal(mr_shared_count(), 0);
    /* gRPC ends its threads in its own time. */
    for (int i = 0; i < 500 && count_threads() > threads_before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    int threads_after = count_threads();
    alarm(0);
    function_server_free(&server);
    unlink(model_path);
    print_message(
        "%d jobs: %d answered, %d failed, %d cancelled, %d without a receiver; the server died %d times; memory "
        "grew by %ld KiB\n",
        jobs, n_answered, n_failed, n_cancelled, n_gone, n_deaths, growth);
    assert_int_equal(n_answered + n_failed + n_cancelled + n_gone, jobs);
    assert_true(n_answered > jobs / 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* The sanitizers have memory and threads of their own. */
    assert_true(threads_after <= threads_before);
    assert_true(growth < 4096);
#else
    (void)threads_after;
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
