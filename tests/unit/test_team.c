/* floors: compute */
#include "compute/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 10007, ROUNDS = 300 };

typedef struct shared {
    int sums[ROUNDS];
    unsigned char seen[N];
    atomic_int wrong;
} shared;

static void see_in_turns(mr_worker *worker, shared *s) {
    mr_loop loop = mr_loop_begin(worker, N, 61);
    for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) {
        for (size_t i = begin; i < end; i++) s->seen[i]++;
    }
}

static void see_by_shares(mr_worker *worker, shared *s) {
    mr_loop loop = mr_loop_begin_shares(worker, N);
    for (size_t i; mr_loop_next_of_share(&loop, &i);) s->seen[i]++;
}

/* Each round, the members claim all items once; after the barrier every member sees all of it. */
static void rounds_body(mr_worker *worker, void *arg) {
    shared *s = arg;
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 2 == 0)
            see_in_turns(worker, s);
        else
            see_by_shares(worker, s);
        mr_barrier(worker);
        size_t begin, end;
        mr_share(worker, N, 16, &begin, &end);
        for (size_t i = begin; i < end; i++) {
            if (s->seen[i] != (unsigned char)(round + 1)) atomic_fetch_add(&s->wrong, 1);
        }
        mr_barrier(worker);
    }
}

static void test_every_item_once(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads++) {
        mr_team *team;
        mr_error err = {0};
        assert_int_equal(mr_team_new(&team, n_threads, &err), MR_OK);
        for (int run = 0; run < 3; run++) {
            static shared s;
            s = (shared){0};
            mr_team_run(team, rounds_body, &s);
            assert_int_equal(atomic_load(&s.wrong), 0);
            if (run == 1) usleep(20000); /* long enough for the members to fall asleep */
        }
        mr_team_free(team);
    }
}

/* Many loops without a barrier, up to the promised distance. */
static void many_loops_body(mr_worker *worker, void *arg) {
    shared *s = arg;
    for (int group = 0; group < 20; group++) {
        for (int i = 0; i < 30; i++) {
            mr_loop loop = mr_loop_begin(worker, 5, 1);
            for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) atomic_fetch_add(&s->wrong, (int)(end - begin));
            loop = mr_loop_begin_shares(worker, (size_t)i % 4);
            for (size_t item; mr_loop_next_of_share(&loop, &item);) atomic_fetch_add(&s->wrong, 1);
        }
        mr_barrier(worker);
    }
}

static void test_many_loops_between_barriers(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        mr_team *team;
        mr_error err = {0};
        static shared s;
        s = (shared){0};
        assert_int_equal(mr_team_new(&team, n_threads, &err), MR_OK);
        mr_team_run(team, many_loops_body, &s);
        assert_int_equal(atomic_load(&s.wrong), 20 * (30 * 5 + 43));
        mr_team_free(team);
    }
}

/* Member 0 comes late, and finds that the others have done its share. */
static void late_body(mr_worker *worker, void *arg) {
    shared *s = arg;
    if (worker->ith == 0) {
        for (int ms = 0; ms < 10000 && atomic_load(&s->wrong) < N; ms++) usleep(1000);
        s->seen[0] = atomic_load(&s->wrong) == N;
    }
    mr_loop loop = mr_loop_begin_shares(worker, N);
    for (size_t i; mr_loop_next_of_share(&loop, &i);) atomic_fetch_add(&s->wrong, 1);
}

static void test_share_of_a_late_member(void **state) {
    (void)state;
    mr_team *team;
    mr_error err = {0};
    static shared s;
    assert_int_equal(mr_team_new(&team, 3, &err), MR_OK);
    mr_team_run(team, late_body, &s);
    assert_true(s.seen[0]);
    assert_int_equal(atomic_load(&s.wrong), N);
    mr_team_free(team);
}

static void test_bad_sizes(void **state) {
    (void)state;
    mr_team *team;
    mr_error err = {0};
    assert_int_equal(mr_team_new(&team, -1, &err), MR_ERR_INVALID);
    assert_int_equal(mr_team_new(&team, 100000, &err), MR_ERR_INVALID);
    assert_true(mr_physical_cores() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_many_loops_between_barriers),
        cmocka_unit_test(test_share_of_a_late_member),
        cmocka_unit_test(test_bad_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
