/* A host of the plugin ABI that watches its rules: every value, waker clone, token and future is counted, and a rule
 * that is broken (a drop too many, a wake of a borrowed waker, a send while one is in flight, …) is remembered. */
#ifndef MR_TESTS_FAKE_HOST_H
#define MR_TESTS_FAKE_HOST_H

#include "plugin/abi.h"

#include <pthread.h>
#include <stdatomic.h>

extern atomic_int fake_n_live;       /* host objects that were not dropped */
extern atomic_int fake_n_violations; /* each is also printed */

FfiBytes fake_bytes(const void *bytes, size_t n);
FfiBytes fake_text(const char *text);
FfiKvPairList fake_metadata(const char *const *keys_and_values, size_t n_pairs);
/* Drops a value that the plugin gave. */
void fake_drop_bytes(FfiBytes bytes);
void fake_drop_list(FfiKvPairList list);
FfiOptionBytes fake_none(void);
FfiOptionBytes fake_some(const char *text);

/* An executor for one thread. */
typedef struct fake_executor {
    FfiWakerBase base; /* first: the borrowed waker */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_wakes; /* since the last wait */
    int n_clones;
} fake_executor;

void fake_executor_init(fake_executor *executor);
FfiContext fake_context(fake_executor *executor);
void fake_executor_wait(fake_executor *executor); /* until woken since the last wait */
void fake_executor_free(fake_executor *executor); /* all clones must be gone */

typedef enum fake_sink_mode {
    FAKE_SINK_READY,  /* every send is ready at once */
    FAKE_SINK_LATER,  /* every send is pending first and woken from another thread */
    FAKE_SINK_CLOSED, /* the send number `limit` says that the receiver is gone */
    FAKE_SINK_PANIC,  /* the send number `limit` panics */
    FAKE_SINK_STUCK,  /* the send number `limit` stays pending until `unstick` */
} fake_sink_mode;

typedef struct fake_sink {
    fake_sink_mode mode;
    int limit;
    int n_sent;
    int n_in_flight;
    bool dropped;
    bool unstick;
    char received[8192]; /* the text so far, as much as fits */
    size_t n_received;   /* bytes so far */
} fake_sink;

OutputSink fake_sink_raw(fake_sink *sink);

typedef struct fake_token fake_token;
fake_token *fake_token_new(void);
/* As a host whose wakes run beside unregister_waker: a waker may still be woken, and is dropped, after it was
 * unregistered. */
void fake_token_keep_wakers(fake_token *token);
void fake_token_cancel(fake_token *token);
FfiCancellationToken fake_token_raw(fake_token *token); /* another owner, for the plugin */
int fake_token_n_registered(fake_token *token);
void fake_token_free(fake_token *token); /* the test's own part */

/* The threads of this process. */
int fake_count_threads(void);
/* Waits until there are no more than n. */
void fake_await_threads(int n);

#endif
