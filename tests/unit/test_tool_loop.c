/* floors: service */
/* The agent loop with a scripted model and scripted tools. */
#define _GNU_SOURCE
#include "service/tool_loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* What the model says, round by round (JSON; the last is repeated), and what was seen. */
typedef struct script {
    const char *answers[8];
    size_t n_answers;
    char *seen;                  /* the conversation at the last answer */
    char events[512];            /* "+id" a call began, "-id" it ended */
    atomic_int n_now, n_at_most; /* calls at a time */
    atomic_int n_cancelled;
    mr_cancel *cancel;
    size_t n_meet; /* calls of "meet" wait until so many are there */
    bool fail_on_ended;
} script;

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static mr_status answer(void *ctx, json_t *messages, uint32_t round, json_t **message, mr_error *err) {
    script *s = ctx;
    (void)err;
    free(s->seen);
    s->seen = json_dumps(messages, JSON_COMPACT);
    *message = parse(s->answers[round < s->n_answers ? round : s->n_answers - 1]);
    return MR_OK;
}

static void nap(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static mr_status call_tool(void *ctx, const mr_tool_call *call, mr_cancel *cancel, mr_function_outcome *outcome,
                           mr_error *err) {
    script *s = ctx;
    int now = atomic_fetch_add(&s->n_now, 1) + 1;
    for (int most = atomic_load(&s->n_at_most); now > most && !atomic_compare_exchange_weak(&s->n_at_most, &most, now);)
        continue;
    mr_status status = MR_OK;
    outcome->success = true;
    if (strcmp(call->name, "meet") == 0) {
        /* Ends only when enough calls are there at the same time. */
        while (atomic_load(&s->n_at_most) < (int)s->n_meet && !mr_cancel_is_set(cancel)) nap(1);
    } else if (strcmp(call->name, "hang") == 0) {
        while (!mr_cancel_is_set(cancel)) nap(1);
        atomic_fetch_add(&s->n_cancelled, 1);
        status = mr_fail(err, MR_ERR_CANCELLED, "the job was cancelled");
    } else if (strcmp(call->name, "cancel") == 0) {
        mr_cancel_request(s->cancel);
    } else if (strcmp(call->name, "fail") == 0) {
        outcome->success = false;
    } else if (strcmp(call->name, "break") == 0) {
        status = mr_fail(err, MR_ERR_NOMEM, "no memory left");
    } else if (strcmp(call->name, "long") == 0) {
        for (int i = 0; i < 1000; i++) mr_buf_puts(&outcome->text, "é");
    }
    mr_buf_printf(&outcome->text, "%s(%s)", call->name, call->arguments);
    atomic_fetch_sub(&s->n_now, 1);
    return status;
}

static mr_status on_started(void *ctx, const mr_tool_call *call, mr_error *err) {
    (void)err;
    script *s = ctx;
    strcat(strcat(s->events, "+"), call->id);
    return MR_OK;
}

static mr_status on_ended(void *ctx, const mr_tool_call *call, mr_error *err) {
    script *s = ctx;
    strcat(strcat(s->events, "-"), call->id);
    return s->fail_on_ended ? mr_fail(err, MR_ERR_CANCELLED, "nobody listens") : MR_OK;
}

static mr_tool_loop loop_of(script *s, bool parallel) {
    return (mr_tool_loop){
        .answer = answer,
        .ctx = s,
        .runner = {.call = call_tool,
                   .on_started = on_started,
                   .on_ended = on_ended,
                   .ctx = s,
                   .parallel = parallel,
                   .cancel = s->cancel},
        .max_rounds = 3,
    };
}

#define CALL(id, name, arguments)                                                                                      \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"arguments\":" arguments "}}"
#define ASKS(calls) "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" calls "]}"
#define SAYS(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"

static mr_status run(script *s, const mr_tool_loop *loop, json_t **pending, mr_error *err) {
    json_t *messages = parse("[{\"role\":\"user\",\"content\":\"go\"}]");
    mr_status status = mr_tool_loop_run(loop, messages, pending, err);
    json_decref(messages);
    mr_cancel_unref(s->cancel);
    return status;
}

static void test_no_calls(void **state) {
    (void)state;
    script s = {.answers = {SAYS("hi")}, .n_answers = 1};
    mr_tool_loop loop = loop_of(&s, true);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_null(pending);
    assert_string_equal(s.events, "");
    free(s.seen);
}

static void test_rounds(void **state) {
    (void)state;
    script s = {.answers = {ASKS(CALL("a", "one", "{\"x\":1}")), ASKS(CALL("b", "fail", "\"no json\"")), SAYS("done")},
                .n_answers = 3};
    mr_tool_loop loop = loop_of(&s, true);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_string_equal(s.events, "+a-a+b-b");
    /* Arguments that are text stay as they are; a failure says so. */
    assert_non_null(strstr(
        s.seen, "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"name\":\"one\",\"content\":\"one({\\\"x\\\":1})\"}"));
    assert_non_null(strstr(s.seen, "\"content\":\"Error: fail(no json)\""));
    free(s.seen);
}

/* Three calls that each wait for the other two: they run at the same time, and stay in order in the conversation. */
static void test_parallel(void **state) {
    (void)state;
    script s = {.answers = {ASKS(CALL("a", "meet", "{}") "," CALL("b", "meet", "{}") "," CALL("c", "meet", "{}")),
                            SAYS("done")},
                .n_answers = 2,
                .n_meet = 3};
    mr_tool_loop loop = loop_of(&s, true);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_memory_equal(s.events, "+a+b+c", 6);
    const char *a = strstr(s.seen, "\"tool_call_id\":\"a\""), *b = strstr(s.seen, "\"tool_call_id\":\"b\""),
               *c = strstr(s.seen, "\"tool_call_id\":\"c\"");
    assert_true(a != NULL && a < b && b < c);
    free(s.seen);
}

static void test_sequential(void **state) {
    (void)state;
    script s = {
        .answers = {ASKS(CALL("a", "one", "{}") "," CALL("b", "fail", "{}") "," CALL("c", "one", "{}")), SAYS("done")},
        .n_answers = 2};
    mr_tool_loop loop = loop_of(&s, false);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_string_equal(s.events, "+a-a+b-b+c-c");
    assert_int_equal(s.n_at_most, 1);
    free(s.seen);
}

static void ask_often(mr_buf *asks, const char *name, int n) {
    mr_buf_puts(asks, "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[");
    for (int i = 0; i < n; i++)
        mr_buf_printf(asks, "%s{\"id\":\"%d\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":{}}}",
                      i > 0 ? "," : "", i, name);
    mr_buf_puts(asks, "]}");
}

static void test_bounded(void **state) {
    (void)state;
    mr_buf asks = {0};
    ask_often(&asks, "meet", 40);
    script s = {.answers = {asks.data, SAYS("done")}, .n_answers = 2, .n_meet = MR_TOOL_MAX_PARALLEL};
    mr_tool_loop loop = loop_of(&s, true);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_int_equal(s.n_at_most, MR_TOOL_MAX_PARALLEL);
    mr_buf_clear(&asks);
    ask_often(&asks, "one", MR_TOOL_MAX_CALLS + 1);
    s.answers[0] = asks.data;
    assert_int_equal(run(&s, &loop, &pending, &err), MR_ERR_LIMIT);
    mr_buf_free(&asks);
    free(s.seen);
}

static void test_max_rounds(void **state) {
    (void)state;
    script s = {.answers = {ASKS(CALL("a", "one", "{}"))}, .n_answers = 1};
    mr_tool_loop loop = loop_of(&s, true);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "3 rounds"));
    assert_string_equal(s.events, "+a-a+a-a+a-a");
    free(s.seen);
}

static void test_manual(void **state) {
    (void)state;
    script s = {.answers = {ASKS(CALL("a", "one", "{}"))}, .n_answers = 1};
    mr_tool_loop loop = loop_of(&s, true);
    loop.manual = true;
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_int_equal(json_array_size(pending), 1);
    assert_string_equal(s.events, "");
    json_decref(pending);
    free(s.seen);
}

/* Ends in the middle of a character. */
static size_t room(void *ctx, const char *text, size_t len, size_t n_results) {
    (void)ctx, (void)text;
    assert_int_equal(n_results, 1);
    assert_int_equal(len, 2008);
    return 101;
}

static void test_long_result(void **state) {
    (void)state;
    script s = {.answers = {ASKS(CALL("a", "long", "{}")), SAYS("done")}, .n_answers = 2};
    mr_tool_loop loop = loop_of(&s, true);
    loop.room = room;
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_OK);
    assert_non_null(strstr(s.seen, "é\\n[cut: 1908 more bytes]"));
    free(s.seen);
}

/* Whatever ends the job, calls in flight are cancelled and waited for, and no further one begins. */
static void test_ends_early(void **state) {
    (void)state;
    static const struct {
        const char *asks;
        mr_status status;
        bool fail_on_ended;
    } CASES[] = {
        {ASKS(CALL("a", "hang", "{}") "," CALL("b", "cancel", "{}")), MR_ERR_CANCELLED, false},
        {ASKS(CALL("a", "hang", "{}") "," CALL("b", "break", "{}")), MR_ERR_NOMEM, false},
        {ASKS(CALL("a", "hang", "{}") "," CALL("b", "one", "{}")), MR_ERR_CANCELLED, true},
    };
    for (size_t i = 0; i < 3; i++) {
        script s = {.answers = {CASES[i].asks, SAYS("done")},
                    .n_answers = 2,
                    .cancel = mr_cancel_new(),
                    .fail_on_ended = CASES[i].fail_on_ended};
        mr_tool_loop loop = loop_of(&s, true);
        json_t *pending;
        mr_error err = {0};
        assert_int_equal(run(&s, &loop, &pending, &err), CASES[i].status);
        assert_int_equal(s.n_cancelled, 1);
        assert_int_equal(s.n_now, 0);
        free(s.seen);
    }
    script s = {.answers = {ASKS(CALL("a", "cancel", "{}") "," CALL("b", "one", "{}"))},
                .n_answers = 1,
                .cancel = mr_cancel_new()};
    mr_tool_loop loop = loop_of(&s, false);
    json_t *pending;
    mr_error err = {0};
    assert_int_equal(run(&s, &loop, &pending, &err), MR_ERR_CANCELLED);
    assert_null(strstr(s.events, "+b"));
    free(s.seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_calls),   cmocka_unit_test(test_rounds),      cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_sequential), cmocka_unit_test(test_bounded),     cmocka_unit_test(test_max_rounds),
        cmocka_unit_test(test_manual),     cmocka_unit_test(test_long_result), cmocka_unit_test(test_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
