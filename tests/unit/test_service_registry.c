/* floors: service */
#include "service/registry.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A loader that waits until the test lets it go on. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_loads; /* loads that have begun */
    int n_alive; /* things not freed */
    bool open;
    bool fail;
    bool cancelled; /* the load saw its cancel */
} gate;

static gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void wake_gate(void *ctx) {
    (void)ctx;
    pthread_mutex_lock(&g.lock);
    pthread_cond_broadcast(&g.changed);
    pthread_mutex_unlock(&g.lock);
}

static mr_status load(void *ctx, mr_cancel *cancel, void **value, mr_error *err) {
    (void)ctx;
    uint64_t id = mr_cancel_subscribe(cancel, wake_gate, NULL);
    pthread_mutex_lock(&g.lock);
    g.n_loads++;
    pthread_cond_broadcast(&g.changed);
    while (!g.open && !mr_cancel_is_set(cancel)) pthread_cond_wait(&g.changed, &g.lock);
    g.cancelled = mr_cancel_is_set(cancel);
    bool fail = g.fail || g.cancelled;
    if (!fail) g.n_alive++;
    pthread_mutex_unlock(&g.lock);
    mr_cancel_unsubscribe(cancel, id);
    if (fail) return mr_fail(err, MR_ERR_IO, "the file is broken");
    *value = &g;
    return MR_OK;
}

static void unload(void *value) {
    assert_ptr_equal(value, &g);
    pthread_mutex_lock(&g.lock);
    g.n_alive--;
    pthread_mutex_unlock(&g.lock);
}

static const mr_shared_ops OPS = {.load = load, .free = unload};

typedef struct asker {
    pthread_t thread;
    mr_cancel *cancel;
    mr_shared *shared;
    mr_error err;
    mr_status status;
} asker;

static void *ask(void *arg) {
    asker *a = arg;
    a->status = mr_shared_acquire(&a->shared, "key", &OPS, NULL, a->cancel, &a->err);
    return NULL;
}

static void start(asker *a) {
    *a = (asker){.cancel = mr_cancel_new()};
    assert_int_equal(pthread_create(&a->thread, NULL, ask, a), 0);
}

static void end(asker *a) {
    pthread_join(a->thread, NULL);
    mr_cancel_unref(a->cancel);
}

static void wait_for_loads(int n) {
    pthread_mutex_lock(&g.lock);
    while (g.n_loads < n) pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
}

static void set_gate(bool open, bool fail) {
    pthread_mutex_lock(&g.lock);
    g.open = open;
    g.fail = fail;
    pthread_cond_broadcast(&g.changed);
    pthread_mutex_unlock(&g.lock);
}

static int reset(void **state) {
    (void)state;
    g.n_loads = g.n_alive = 0;
    g.open = g.fail = g.cancelled = false;
    return 0;
}

static void test_one_load_for_all(void **state) {
    (void)state;
    enum { N = 8 };
    asker askers[N];
    for (int i = 0; i < N; i++) start(&askers[i]);
    wait_for_loads(1);
    set_gate(true, false);
    for (int i = 0; i < N; i++) end(&askers[i]);
    assert_int_equal(g.n_loads, 1);
    assert_int_equal(mr_shared_count(), 1);
    for (int i = 0; i < N; i++) {
        assert_int_equal(askers[i].status, MR_OK);
        assert_ptr_equal(askers[i].shared, askers[0].shared);
        assert_ptr_equal(mr_shared_value(askers[i].shared), &g);
        assert_int_equal(g.n_alive, 1);
        mr_shared_unref(askers[i].shared);
    }
    assert_int_equal(g.n_alive, 0);
    assert_int_equal(mr_shared_count(), 0);
}

static void test_a_failure_reaches_all_and_is_forgotten(void **state) {
    (void)state;
    asker askers[3];
    for (int i = 0; i < 3; i++) start(&askers[i]);
    wait_for_loads(1);
    set_gate(true, true);
    for (int i = 0; i < 3; i++) {
        end(&askers[i]);
        assert_int_equal(askers[i].status, MR_ERR_IO);
        assert_string_equal(askers[i].err.text, "the file is broken");
    }
    assert_int_equal(mr_shared_count(), 0);
    set_gate(true, false);
    asker again;
    start(&again);
    end(&again);
    assert_int_equal(again.status, MR_OK);
    mr_shared_unref(again.shared);
    assert_int_equal(g.n_alive, 0);
}

/* Those who wait may give up without ending the load of the others. */
static void test_one_gives_up(void **state) {
    (void)state;
    asker first, second;
    start(&first);
    wait_for_loads(1);
    start(&second);
    mr_cancel_request(second.cancel);
    end(&second);
    assert_int_equal(second.status, MR_ERR_CANCELLED);
    assert_int_equal(mr_shared_count(), 1);
    set_gate(true, false);
    end(&first);
    assert_int_equal(first.status, MR_OK);
    assert_int_equal(g.n_loads, 1);
    assert_false(g.cancelled);
    mr_shared_unref(first.shared);
    assert_int_equal(g.n_alive, 0);
}

static void test_all_give_up(void **state) {
    (void)state;
    asker only;
    start(&only);
    wait_for_loads(1);
    mr_cancel_request(only.cancel);
    end(&only);
    assert_int_equal(only.status, MR_ERR_CANCELLED);
    assert_true(g.cancelled);
    assert_int_equal(g.n_alive, 0);
    assert_int_equal(mr_shared_count(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_one_load_for_all, reset),
        cmocka_unit_test_setup(test_a_failure_reaches_all_and_is_forgotten, reset),
        cmocka_unit_test_setup(test_one_gives_up, reset),
        cmocka_unit_test_setup(test_all_give_up, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
