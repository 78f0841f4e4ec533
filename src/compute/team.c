#define _GNU_SOURCE
#include "compute/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

enum {
    MAX_THREADS = 256,
    N_LOOP_SLOTS = 128,   /* twice the distance that team.h promises */
    SPINS_IN_RUN = 20000, /* barrier: the others are at work, so they come soon */
    SPINS_IDLE = 4000,    /* between runs: a decode step follows the last within microseconds, or not at all */
};

/* One cache line each, so that members do not disturb each other. */
typedef struct padded_counter {
    _Alignas(64) atomic_size_t value;
} padded_counter;

/* What is left of a member's share in a loop: begin + 1 in the upper half, end + 1 in the lower; 0 = not yet begun. */
typedef struct padded_share {
    _Alignas(64) _Atomic uint64_t left;
} padded_share;

struct mr_team {
    int n_threads;
    bool crowded; /* more members than cores: spinning would take time from the others */
    pthread_t threads[MAX_THREADS];
    int n_started;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Alignas(64) atomic_uint n_sleeping;

    _Alignas(64) atomic_uint run_id; /* odd/even does not matter: a change starts a run */
    void (*body)(mr_worker *worker, void *arg);
    void *arg;
    atomic_bool quit;

    _Alignas(64) atomic_uint n_arrived;
    _Alignas(64) atomic_uint barrier_phase;
    uint64_t n_loops; /* of all runs so far */
    padded_counter loops[N_LOOP_SLOTS];
    padded_share shares[]; /* [N_LOOP_SLOTS, n_threads] */
};

typedef struct member_start {
    mr_team *team;
    int ith;
} member_start;

/* Waits until *word differs from old: spins first, then sleeps on the team's condition variable. */
static unsigned wait_change(mr_team *team, atomic_uint *word, unsigned old, int n_spins) {
    unsigned now;
    if (team->crowded) n_spins = 0;
    for (int i = 0; i < n_spins; i++) {
        if ((now = atomic_load_explicit(word, memory_order_acquire)) != old) return now;
        cpu_relax();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->n_sleeping, 1);
    while ((now = atomic_load(word)) == old) pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->n_sleeping, 1);
    pthread_mutex_unlock(&team->lock);
    return now;
}

/* Changes *word and wakes whoever sleeps on it. */
static void announce(mr_team *team, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&team->n_sleeping) == 0) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

void mr_barrier(mr_worker *worker) {
    mr_team *team = worker->team;
    if (worker->nth == 1) return;
    unsigned phase = atomic_load_explicit(&team->barrier_phase, memory_order_acquire);
    if ((int)atomic_fetch_add(&team->n_arrived, 1) + 1 == worker->nth) {
        atomic_store_explicit(&team->n_arrived, 0, memory_order_relaxed);
        announce(team, &team->barrier_phase);
    } else {
        wait_change(team, &team->barrier_phase, phase, SPINS_IN_RUN);
    }
}

static padded_share *share_of(mr_team *team, uint64_t slot, int member) {
    return &team->shares[slot * (uint64_t)team->n_threads + (uint64_t)member];
}

/* The next slot. That half a ring ahead is out of use on every member (a barrier lies between), so it is made ready:
 * the counter by whoever comes, each share by its member. */
static uint64_t next_slot(mr_worker *worker) {
    uint64_t slot = worker->n_loops++, ahead = (slot + N_LOOP_SLOTS / 2) % N_LOOP_SLOTS;
    atomic_size_t *counter = &worker->team->loops[ahead].value;
    _Atomic uint64_t *left = &share_of(worker->team, ahead, worker->ith)->left;
    if (atomic_load_explicit(counter, memory_order_relaxed) != 0)
        atomic_store_explicit(counter, 0, memory_order_relaxed);
    if (atomic_load_explicit(left, memory_order_relaxed) != 0) atomic_store_explicit(left, 0, memory_order_relaxed);
    return slot % N_LOOP_SLOTS;
}

mr_loop mr_loop_begin(mr_worker *worker, size_t n, size_t grain) {
    uint64_t slot = next_slot(worker);
    return (mr_loop){.worker = worker, .slot = slot, .n = n, .grain = grain == 0 ? 1 : grain, .share = -1};
}

mr_loop mr_loop_begin_shares(mr_worker *worker, size_t n) {
    return (mr_loop){.worker = worker, .slot = next_slot(worker), .n = n, .grain = 1, .share = worker->ith};
}

/* Takes the first or the last item that a member has left. */
static int take_item(const mr_loop *loop, int member, bool last, size_t *item) {
    _Atomic uint64_t *left = &share_of(loop->worker->team, loop->slot, member)->left;
    uint64_t old = atomic_load_explicit(left, memory_order_relaxed);
    for (;;) {
        uint64_t now = old;
        if (old == 0) {
            mr_worker of = {.ith = member, .nth = loop->worker->nth};
            size_t begin, end;
            mr_share(&of, loop->n, 1, &begin, &end);
            now = (uint64_t)(begin + 1) << 32 | (end + 1);
        }
        uint64_t begin = now >> 32, end = now & UINT32_MAX;
        if (begin >= end) return 0;
        now = last ? now - 1 : now + ((uint64_t)1 << 32);
        if (!atomic_compare_exchange_weak_explicit(left, &old, now, memory_order_relaxed, memory_order_relaxed))
            continue;
        *item = (size_t)(last ? end - 2 : begin - 1);
        return 1;
    }
}

int mr_loop_next_of_share(mr_loop *loop, size_t *item) {
    for (int n = 0; n < loop->worker->nth; n++) {
        if (take_item(loop, loop->share, loop->share != loop->worker->ith, item)) return 1;
        loop->share = (loop->share + 1) % loop->worker->nth;
    }
    return 0;
}

int mr_loop_next(mr_loop *loop, size_t *begin, size_t *end) {
    atomic_size_t *next = &loop->worker->team->loops[loop->slot].value;
    size_t at = atomic_fetch_add_explicit(next, loop->grain, memory_order_relaxed);
    if (at >= loop->n) return 0;
    *begin = at;
    *end = loop->n - at < loop->grain ? loop->n : at + loop->grain;
    return 1;
}

static void *member_main(void *arg) {
    member_start start = *(member_start *)arg;
    free(arg);
    mr_team *team = start.team;
    unsigned seen = 0;
    for (;;) {
        seen = wait_change(team, &team->run_id, seen, SPINS_IDLE);
        if (atomic_load(&team->quit)) return NULL;
        mr_worker worker = {.team = team, .ith = start.ith, .nth = team->n_threads, .n_loops = team->n_loops};
        team->body(&worker, team->arg);
        mr_barrier(&worker);
    }
}

void mr_team_run(mr_team *team, void (*body)(mr_worker *worker, void *arg), void *arg) {
    team->body = body;
    team->arg = arg;
    mr_worker worker = {.team = team, .ith = 0, .nth = team->n_threads, .n_loops = team->n_loops};
    if (team->n_threads > 1) announce(team, &team->run_id);
    body(&worker, arg);
    mr_barrier(&worker);
    team->n_loops = worker.n_loops;
}

mr_status mr_team_new(mr_team **out, int n_threads, mr_error *err) {
    *out = NULL;
    if (n_threads == 0) n_threads = mr_physical_cores();
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        return mr_fail(err, MR_ERR_INVALID, "%d threads were asked for; 1 to %d are possible", n_threads, MAX_THREADS);
    }
    size_t n_shares = (size_t)N_LOOP_SLOTS * (size_t)n_threads;
    size_t size = (sizeof(mr_team) + n_shares * sizeof(padded_share) + 63) / 64 * 64;
    mr_team *team = aligned_alloc(64, size);
    if (team == NULL) return mr_fail_nomem(err, size, "the thread team");
    memset(team, 0, size);
    *team = (mr_team){.n_threads = n_threads, .crowded = n_threads > mr_physical_cores()};
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    for (int ith = 1; ith < n_threads; ith++) {
        member_start *start = malloc(sizeof *start);
        if (start != NULL) *start = (member_start){.team = team, .ith = ith};
        if (start == NULL || pthread_create(&team->threads[ith], NULL, member_main, start) != 0) {
            free(start);
            mr_team_free(team);
            return mr_fail(err, MR_ERR_NOMEM, "thread %d of %d could not be started", ith + 1, n_threads);
        }
        team->n_started++;
    }
    *out = team;
    return MR_OK;
}

void mr_team_free(mr_team *team) {
    if (team == NULL) return;
    atomic_store(&team->quit, true);
    announce(team, &team->run_id);
    for (int ith = 1; ith <= team->n_started; ith++) pthread_join(team->threads[ith], NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

int mr_team_size(const mr_team *team) {
    return team->n_threads;
}

/* The first processor of the sibling list of cpu (its hyper-threads share a core), or cpu itself. */
static int first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    int first = cpu;
    if (file != NULL) {
        if (fscanf(file, "%d", &first) != 1) first = cpu;
        fclose(file);
    }
    return first;
}

int mr_physical_cores(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        int core = first_sibling(cpu);
        CPU_SET(core >= 0 && core < CPU_SETSIZE ? core : cpu, &cores);
    }
    int n = CPU_COUNT(&cores);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}
