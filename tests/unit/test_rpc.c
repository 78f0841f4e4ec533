/* floors: service */
/* Calls over gRPC against a server in another process. */
#define _GNU_SOURCE
#include "service/rpc.h"

#include "base/clock.h"
#include "function_server.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#define SERVICE "/jobworkerp.function.service.FunctionService/"

static function_server server;

static mr_rpc_channel *open_channel(const char *endpoint, uint32_t connect_ms) {
    mr_rpc_options options = {.endpoint = endpoint, .connect_timeout_ms = connect_ms};
    mr_rpc_channel *channel;
    mr_error err = {0};
    assert_int_equal(mr_rpc_channel_new(&channel, &options, &err), MR_OK);
    return channel;
}

/* A FunctionCallRequest: runner_name and args_json (both under 128 bytes). */
static size_t encode_call(char *out, const char *name, const char *args) {
    return (size_t)sprintf(out, "\x0a%c%s\x22%c%s", (char)strlen(name), name, (char)strlen(args), args);
}

static mr_status call_function(mr_rpc_channel *channel, const char *name, const char *args, uint32_t timeout_ms,
                               mr_cancel *cancel, mr_buf *reply, mr_error *err) {
    char message[300];
    mr_rpc_request request = {.method = SERVICE "Call", .message = message, .timeout_ms = timeout_ms, .cancel = cancel};
    request.n_message = encode_call(message, name, args);
    return mr_rpc_unary(channel, &request, reply, err);
}

static int start_server(void **state) {
    (void)state;
    if (function_server_possible()) function_server_start(&server, 0, NULL, NULL);
    return 0;
}

static int stop_server(void **state) {
    (void)state;
    function_server_free(&server);
    return 0;
}

static void need_server(void) {
    if (!function_server_possible()) skip();
}

static void test_endpoints(void **state) {
    (void)state;
    static const char *const GOOD[] = {"http://localhost:50051", "https://example.org", "HTTP://[::1]:80/",
                                       "localhost:9000", "http://10.0.0.1"};
    static const char *const BAD[] = {"",           "http://",       "ftp://a:1", "http://a:0", "http://a:65536",
                                      "http://a:x", "http://a/path", "http://:1", "http://a b", "http://a@b:1"};
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        mr_rpc_channel *channel = open_channel(GOOD[i], 0);
        assert_string_equal(mr_rpc_channel_endpoint(channel), GOOD[i]);
        mr_rpc_channel_unref(channel);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        mr_rpc_options options = {.endpoint = BAD[i]};
        mr_rpc_channel *channel;
        mr_error err = {0};
        assert_int_equal(mr_rpc_channel_new(&channel, &options, &err), MR_ERR_INVALID);
        assert_null(channel);
        assert_non_null(strstr(err.text, "http://HOST:PORT"));
    }
}

static void test_nobody_listens(void **state) {
    (void)state;
    mr_rpc_channel *channel = open_channel("http://127.0.0.1:1", 5000);
    for (int i = 0; i < 2; i++) {
        mr_buf reply = {0};
        mr_error err = {0};
        assert_int_equal(call_function(channel, "add", "{}", 0, NULL, &reply, &err), MR_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.text, "http://127.0.0.1:1"));
        assert_int_equal(reply.len, 0);
        mr_buf_free(&reply);
    }
    mr_rpc_channel_unref(channel);
}

static void test_unary(void **state) {
    (void)state;
    need_server();
    mr_rpc_channel *channel = open_channel(server.endpoint, 0);
    mr_buf reply = {0};
    mr_error err = {0};
    assert_int_equal(call_function(channel, "add", "{\"a\":2,\"b\":40}", 10000, NULL, &reply, &err), MR_OK);
    assert_true(reply.len > 4);
    assert_memory_equal(reply.data,
                        "\x0a\x02"
                        "42",
                        4);
    mr_buf_free(&reply);
    mr_rpc_channel_unref(channel);
}

static void test_stream(void **state) {
    (void)state;
    need_server();
    mr_rpc_channel *channel = open_channel(server.endpoint, 0);
    char message[300];
    mr_rpc_request request = {.method = SERVICE "Call", .message = message};
    request.n_message = encode_call(message, "pieces", "{\"n\":100}");
    mr_rpc_call *call;
    mr_error err = {0};
    assert_int_equal(mr_rpc_call_start(&call, channel, &request, &err), MR_OK);
    mr_buf piece = {0};
    bool done = false;
    for (int i = 0;; i++) {
        mr_buf_clear(&piece);
        assert_int_equal(mr_rpc_call_next(call, &piece, &done, &err), MR_OK);
        if (done) {
            assert_int_equal(i, 100);
            break;
        }
        char expected[32];
        snprintf(expected, sizeof expected, "piece %d;", i);
        assert_non_null(memmem(piece.data, piece.len, expected, strlen(expected)));
    }
    assert_int_equal(mr_rpc_call_code(call), 0);
    mr_rpc_call_free(call);
    /* A call may be left before its end. */
    assert_int_equal(mr_rpc_call_start(&call, channel, &request, &err), MR_OK);
    assert_int_equal(mr_rpc_call_next(call, &piece, &done, &err), MR_OK);
    mr_rpc_call_free(call);
    mr_buf_free(&piece);
    mr_rpc_channel_unref(channel);
}

static void expect_error(const char *name, const char *args, uint32_t timeout_ms, mr_status status, const char *text) {
    mr_rpc_channel *channel = open_channel(server.endpoint, 0);
    mr_buf reply = {0};
    mr_error err = {0};
    assert_int_equal(call_function(channel, name, args, timeout_ms, NULL, &reply, &err), status);
    if (strstr(err.text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    mr_buf_free(&reply);
    mr_rpc_channel_unref(channel);
}

static void test_errors(void **state) {
    (void)state;
    need_server();
    expect_error("nobody", "{}", 0, MR_ERR_NOT_FOUND, "no runner nobody");
    expect_error("refusing", "{}", 0, MR_ERR_INVALID, "not today");
    expect_error("breaking", "{}", 0, MR_ERR_IO, "broke off");
    expect_error("silent", "{}", 0, MR_ERR_IO, "no message");
    expect_error("pieces", "{\"n\":2}", 0, MR_ERR_IO, "more than one message");
    expect_error("huge", "{\"mib\":17}", 0, MR_ERR_LIMIT, "RESOURCE_EXHAUSTED");
    expect_error("hanging", "{}", 200, MR_ERR_LIMIT, "within 0.2 s");
}

static void test_bad_metadata(void **state) {
    (void)state;
    need_server();
    mr_rpc_channel *channel = open_channel(server.endpoint, 0);
    mr_rpc_metadata bad[] = {{"Upper", "x"}, {"good", "new\nline"}};
    for (size_t i = 0; i < 2; i++) {
        mr_rpc_request request = {.method = SERVICE "Call", .message = "", .metadata = &bad[i], .n_metadata = 1};
        mr_buf reply = {0};
        mr_error err = {0};
        assert_int_equal(mr_rpc_unary(channel, &request, &reply, &err), MR_ERR_INVALID);
    }
    mr_rpc_channel_unref(channel);
}

static void *cancel_soon(void *cancel) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    mr_cancel_request(cancel);
    return NULL;
}

static void test_cancel(void **state) {
    (void)state;
    need_server();
    /* In flight; and while connecting to an address that never answers (RFC 5737). */
    const char *endpoints[] = {server.endpoint, "http://192.0.2.1:9"};
    for (size_t i = 0; i < 2; i++) {
        mr_rpc_channel *channel = open_channel(endpoints[i], 60000);
        mr_cancel *cancel = mr_cancel_new();
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
        mr_buf reply = {0};
        mr_error err = {0};
        mr_status status = call_function(channel, "hanging", "{}", 60000, cancel, &reply, &err);
        pthread_join(thread, NULL);
        /* Where there is no network at all, connecting may fail before it is cancelled. */
        if (i == 0 || status != MR_ERR_UNAVAILABLE) assert_int_equal(status, MR_ERR_CANCELLED);
        assert_int_equal(call_function(channel, "add", "{}", 0, cancel, &reply, &err), MR_ERR_CANCELLED);
        mr_cancel_unref(cancel);
        mr_rpc_channel_unref(channel);
    }
}

enum { N_THREADS = 8, N_CALLS = 20 };

static void *call_often(void *channel) {
    for (int i = 0; i < N_CALLS; i++) {
        mr_buf reply = {0};
        mr_error err = {0};
        mr_status status = call_function(channel, "add", "{\"a\":1,\"b\":1}", 20000, NULL, &reply, &err);
        mr_buf_free(&reply);
        if (status != MR_OK) return "failed";
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    need_server();
    mr_rpc_channel *channel = open_channel(server.endpoint, 0);
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) pthread_create(&threads[i], NULL, call_often, channel);
    for (int i = 0; i < N_THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    mr_rpc_channel_unref(channel);
}

/* The channel outlives the server: it says so while the server is away, and works again at once when it is back. */
static void test_restart(void **state) {
    (void)state;
    need_server();
    mr_rpc_channel *channel = open_channel(server.endpoint, 5000);
    mr_buf reply = {0};
    mr_error err = {0};
    int port = server.port;
    for (int i = 0; i < 3; i++) {
        mr_status status = call_function(channel, "add", "{\"a\":1,\"b\":1}", 10000, NULL, &reply, &err);
        if (status != MR_OK) print_message("%s\n", err.text);
        assert_int_equal(status, MR_OK);
        function_server_kill(&server);
        if (i > 0) assert_int_equal(call_function(channel, "add", "{}", 10000, NULL, &reply, &err), MR_ERR_UNAVAILABLE);
        function_server_start(&server, port, NULL, NULL);
    }
    assert_int_equal(call_function(channel, "add", "{\"a\":1,\"b\":1}", 10000, NULL, &reply, &err), MR_OK);
    mr_buf_free(&reply);
    mr_rpc_channel_unref(channel);
}

/* Instances come and go: each time the last channel goes, gRPC is shut down. */
static void test_comes_and_goes(void **state) {
    (void)state;
    need_server();
    for (int i = 0; i < 20; i++) test_unary(NULL);
}

/* TLS: the certificate is checked against the roots, and against the name in the endpoint. */
static void test_tls(void **state) {
    (void)state;
    need_server();
    char folder[] = "/tmp/test-rpc-XXXXXX", command[512], key[64], cert[64];
    assert_non_null(mkdtemp(folder));
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout %s -out %s -subj /CN=localhost "
             "-addext subjectAltName=IP:127.0.0.1 >/dev/null 2>&1",
             key, cert);
    if (system(command) != 0) skip();
    function_server secure = {0};
    char pair[160];
    snprintf(pair, sizeof pair, "%s,%s", key, cert);
    function_server_start(&secure, 0, "--tls", pair);
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "https://127.0.0.1:%d", secure.port);
    for (int trusted = 0; trusted < 2; trusted++) {
        if (trusted) setenv("SSL_CERT_FILE", cert, 1);
        mr_rpc_channel *channel = open_channel(endpoint, 5000);
        mr_buf reply = {0};
        mr_error err = {0};
        mr_status status = call_function(channel, "add", "{\"a\":2,\"b\":40}", 10000, NULL, &reply, &err);
        assert_int_equal(status, trusted ? MR_OK : MR_ERR_UNAVAILABLE);
        mr_buf_free(&reply);
        mr_rpc_channel_unref(channel);
    }
    unsetenv("SSL_CERT_FILE");
    function_server_free(&secure);
    unlink(key);
    unlink(cert);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints), cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_unary),     cmocka_unit_test(test_stream),
        cmocka_unit_test(test_errors),    cmocka_unit_test(test_bad_metadata),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_threads),
        cmocka_unit_test(test_restart),   cmocka_unit_test(test_comes_and_goes),
        cmocka_unit_test(test_tls),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
