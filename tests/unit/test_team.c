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

/* Each round, the members claim all items once; after the barrier every member sees all of it. */
static void rounds_body(mr_worker *worker, void *arg) {
    shared *s = arg;
    for (int round = 0; round < ROUNDS; round++) {
        mr_loop loop = mr_loop_begin(worker, N, 61);
        for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) {
            for (size_t i = begin; i < end; i++) s->seen[i]++;
        }
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
        for (int i = 0; i < 60; i++) {
            mr_loop loop = mr_loop_begin(worker, 5, 1);
            for (size_t begin, end; mr_loop_next(&loop, &begin, &end);) atomic_fetch_add(&s->wrong, (int)(end - begin));
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
        assert_int_equal(atomic_load(&s.wrong), 20 * 60 * 5);
        mr_team_free(team);
    }
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
        cmocka_unit_test(test_bad_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
