/* Ctrl-C and the ticking line: the two threads of the program itself. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mr_cancel *current;
static void (*before_exit)(void);
static sigset_t interrupts;
static pthread_t waiter;
static bool waiting, stopping;

/* Takes the signals that all other threads have blocked: a cancel takes locks, which no signal handler may. */
static void *wait_for_signals(void *unused) {
    (void)unused;
    while (true) {
        int number;
        if (sigwait(&interrupts, &number) != 0) continue;
        pthread_mutex_lock(&lock);
        mr_cancel *cancel = mr_cancel_ref(current);
        bool stop = stopping;
        void (*restore)(void) = before_exit;
        pthread_mutex_unlock(&lock);
        if (stop) return NULL;
        if (cancel == NULL || mr_cancel_is_set(cancel)) {
            if (restore != NULL) restore();
            _exit(MR_EXIT_CANCELLED);
        }
        mr_cancel_request(cancel);
        mr_cancel_unref(cancel);
    }
}

void mr_cli_catch_interrupts(void) {
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    sigaddset(&interrupts, SIGTERM);
    if (pthread_sigmask(SIG_BLOCK, &interrupts, NULL) != 0) return;
    waiting = pthread_create(&waiter, NULL, wait_for_signals, NULL) == 0;
    if (!waiting) pthread_sigmask(SIG_UNBLOCK, &interrupts, NULL);
}

void mr_cli_release_interrupts(void) {
    if (!waiting) return;
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_mutex_unlock(&lock);
    pthread_kill(waiter, SIGTERM);
    pthread_join(waiter, NULL);
    waiting = false;
}

void mr_cli_on_interrupt(mr_cancel *cancel) {
    pthread_mutex_lock(&lock);
    current = cancel;
    pthread_mutex_unlock(&lock);
}

void mr_cli_before_exit(void (*restore)(void)) {
    pthread_mutex_lock(&lock);
    before_exit = restore;
    pthread_mutex_unlock(&lock);
}

struct mr_cli_ticker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    const char *what;
};

static void *tick(void *arg) {
    mr_cli_ticker *ticker = arg;
    uint64_t start = mr_clock_ns();
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 200 * 1000 * 1000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&ticker->changed, &ticker->lock, &until);
        if (!ticker->stop) fprintf(stderr, "\r%s %.1f s", ticker->what, mr_clock_since(start));
    }
    pthread_mutex_unlock(&ticker->lock);
    fputs("\r\033[K", stderr);
    return NULL;
}

mr_cli_ticker *mr_cli_ticker_start(const char *what) {
    if (isatty(STDERR_FILENO) != 1) return NULL;
    mr_cli_ticker *ticker = calloc(1, sizeof *ticker);
    if (ticker == NULL) return NULL;
    ticker->what = what;
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_cond_init(&ticker->changed, NULL);
    if (pthread_create(&ticker->thread, NULL, tick, ticker) == 0) return ticker;
    free(ticker);
    return NULL;
}

void mr_cli_ticker_stop(mr_cli_ticker *ticker) {
    if (ticker == NULL) return;
    pthread_mutex_lock(&ticker->lock);
    ticker->stop = true;
    pthread_cond_signal(&ticker->changed);
    pthread_mutex_unlock(&ticker->lock);
    pthread_join(ticker->thread, NULL);
    pthread_mutex_destroy(&ticker->lock);
    pthread_cond_destroy(&ticker->changed);
    free(ticker);
}
