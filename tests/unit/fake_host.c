#include "fake_host.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

atomic_int fake_n_live, fake_n_violations;

static void violation(const char *what) {
    fake_n_violations++;
    fprintf(stderr, "violation of the ABI: %s\n", what);
}

/* --- values: each has a hidden header that tells a second drop from the first --- */

typedef struct header {
    uint64_t magic;
    size_t cap;
} header;
#define LIVE 0x6c69766576616c75ull

static void *new_storage(size_t cap) {
    header *head = malloc(sizeof *head + cap);
    *head = (header){.magic = LIVE, .cap = cap};
    fake_n_live++;
    return head + 1;
}

static void drop_storage(void *ptr, size_t cap) {
    header *head = (header *)ptr - 1;
    if (head->magic != LIVE || head->cap != cap) {
        violation("a value was dropped twice or with another capacity");
        return;
    }
    head->magic = 0;
    free(head);
    fake_n_live--;
}

static void drop_bytes(uint8_t *ptr, size_t len, size_t cap) {
    (void)len;
    drop_storage(ptr, cap);
}

static void drop_list(uint8_t *ptr, size_t len, size_t cap) {
    FfiKvPair *pairs = (FfiKvPair *)(void *)ptr;
    for (size_t i = 0; i < len; i++) {
        pairs[i].key.drop_fn(pairs[i].key.ptr, pairs[i].key.len, pairs[i].key.cap);
        pairs[i].value.drop_fn(pairs[i].value.ptr, pairs[i].value.len, pairs[i].value.cap);
    }
    drop_storage(ptr, cap);
}

FfiBytes fake_bytes(const void *bytes, size_t n) {
    uint8_t *copy = new_storage(n);
    if (n > 0) memcpy(copy, bytes, n);
    return (FfiBytes){.ptr = copy, .len = n, .cap = n, .drop_fn = drop_bytes};
}

FfiBytes fake_text(const char *text) {
    return fake_bytes(text, strlen(text));
}

FfiKvPairList fake_metadata(const char *const *keys_and_values, size_t n_pairs) {
    FfiKvPair *pairs = new_storage(n_pairs * sizeof *pairs);
    for (size_t i = 0; i < n_pairs; i++)
        pairs[i] =
            (FfiKvPair){.key = fake_text(keys_and_values[2 * i]), .value = fake_text(keys_and_values[2 * i + 1])};
    return (FfiKvPairList){.ptr = pairs, .len = n_pairs, .cap = n_pairs * sizeof *pairs, .drop_fn = drop_list};
}

void fake_drop_bytes(FfiBytes bytes) {
    bytes.drop_fn(bytes.ptr, bytes.len, bytes.cap);
}

void fake_drop_list(FfiKvPairList list) {
    list.drop_fn((uint8_t *)list.ptr, list.len, list.cap);
}

FfiOptionBytes fake_none(void) {
    return (FfiOptionBytes){.tag = FFI_NONE};
}

FfiOptionBytes fake_some(const char *text) {
    FfiOptionBytes option = {.tag = FFI_SOME};
    option.u.some = fake_text(text);
    return option;
}

/* --- wakers: a clone is an object of its own, so that mixing it up with the borrowed one shows --- */

typedef struct waker_clone {
    FfiWakerBase base;
    fake_executor *executor;
} waker_clone;

static const FfiWakerVTable borrowed_vtable, clone_vtable;

static const FfiWakerBase *clone_for(fake_executor *executor) {
    waker_clone *clone = malloc(sizeof *clone);
    *clone = (waker_clone){.base.vtable = &clone_vtable, .executor = executor};
    fake_n_live++;
    pthread_mutex_lock(&executor->lock);
    executor->n_clones++;
    pthread_mutex_unlock(&executor->lock);
    return &clone->base;
}

static void wake_executor(fake_executor *executor, int n_clones_consumed) {
    pthread_mutex_lock(&executor->lock);
    executor->n_wakes++;
    executor->n_clones -= n_clones_consumed;
    pthread_cond_broadcast(&executor->changed);
    pthread_mutex_unlock(&executor->lock);
}

static const FfiWakerBase *borrowed_clone(const FfiWakerBase *waker) {
    return clone_for((fake_executor *)waker);
}

static void borrowed_wake_by_ref(const FfiWakerBase *waker) {
    wake_executor((fake_executor *)waker, 0);
}

static void borrowed_consumed(const FfiWakerBase *waker) {
    (void)waker;
    violation("the borrowed waker was consumed");
}

static const FfiWakerVTable borrowed_vtable = {
    .clone = borrowed_clone, .wake = borrowed_consumed, .wake_by_ref = borrowed_wake_by_ref, .drop = borrowed_consumed};

static const FfiWakerBase *clone_clone(const FfiWakerBase *waker) {
    return clone_for(((const waker_clone *)waker)->executor);
}

static void free_clone(const FfiWakerBase *waker) {
    free((waker_clone *)waker);
    fake_n_live--;
}

static void clone_wake(const FfiWakerBase *waker) {
    fake_executor *executor = ((const waker_clone *)waker)->executor;
    free_clone(waker);
    wake_executor(executor, 1);
}

static void clone_wake_by_ref(const FfiWakerBase *waker) {
    wake_executor(((const waker_clone *)waker)->executor, 0);
}

static void clone_drop(const FfiWakerBase *waker) {
    fake_executor *executor = ((const waker_clone *)waker)->executor;
    free_clone(waker);
    pthread_mutex_lock(&executor->lock);
    executor->n_clones--;
    pthread_cond_broadcast(&executor->changed);
    pthread_mutex_unlock(&executor->lock);
}

static const FfiWakerVTable clone_vtable = {
    .clone = clone_clone, .wake = clone_wake, .wake_by_ref = clone_wake_by_ref, .drop = clone_drop};

void fake_executor_init(fake_executor *executor) {
    *executor = (fake_executor){.base.vtable = &borrowed_vtable};
    pthread_mutex_init(&executor->lock, NULL);
    pthread_cond_init(&executor->changed, NULL);
}

FfiContext fake_context(fake_executor *executor) {
    return (FfiContext){.waker = &executor->base};
}

void fake_executor_wait(fake_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    while (executor->n_wakes == 0) pthread_cond_wait(&executor->changed, &executor->lock);
    executor->n_wakes = 0;
    pthread_mutex_unlock(&executor->lock);
}

/* A wake that is under way when its future is dropped may still hold a clone; wait for it. */
void fake_executor_free(fake_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    while (executor->n_clones > 0) pthread_cond_wait(&executor->changed, &executor->lock);
    pthread_mutex_unlock(&executor->lock);
    pthread_cond_destroy(&executor->changed);
    pthread_mutex_destroy(&executor->lock);
}

/* --- the sink --- */

typedef struct send_future {
    fake_sink *sink;
    FfiBytes bytes;
    bool holds_bytes;
    bool polled;
    int number;
} send_future;

static void *wake_later(void *waker) {
    ((const FfiWakerBase *)waker)->vtable->wake(waker);
    return NULL;
}

static void wake_from_another_thread(FfiContext *cx) {
    pthread_t thread;
    const FfiWakerBase *waker = cx->waker->vtable->clone(cx->waker);
    if (pthread_create(&thread, NULL, wake_later, (void *)waker) != 0) {
        waker->vtable->wake(waker);
        return;
    }
    pthread_detach(thread);
}

static void receive(fake_sink *sink, const FfiBytes *bytes) {
    size_t room = sizeof sink->received - 1;
    if (sink->n_received + bytes->len <= room) memcpy(sink->received + sink->n_received, bytes->ptr, bytes->len);
    sink->n_received += bytes->len;
}

static FfiPollUnit send_poll(void *fut_ptr, FfiContext *cx) {
    send_future *future = fut_ptr;
    fake_sink *sink = future->sink;
    FfiPollUnit poll = {.tag = FFI_PENDING};
    if (!future->holds_bytes) {
        violation("a send future was polled after it was ready");
        return poll;
    }
    bool at_limit = future->number == sink->limit;
    if (sink->mode == FAKE_SINK_LATER && !future->polled) {
        future->polled = true;
        wake_from_another_thread(cx);
        return poll;
    }
    if (sink->mode == FAKE_SINK_STUCK && at_limit && !sink->unstick) return poll;
    if (sink->mode == FAKE_SINK_PANIC && at_limit) return (FfiPollUnit){.tag = FFI_PANICKED};
    poll.tag = FFI_READY;
    poll.u.ready.tag = FFI_OK;
    future->holds_bytes = false;
    if (sink->mode == FAKE_SINK_CLOSED && at_limit) {
        poll.u.ready.tag = FFI_ERR;
        poll.u.ready.u.err = future->bytes;
        return poll;
    }
    receive(sink, &future->bytes);
    future->bytes.drop_fn(future->bytes.ptr, future->bytes.len, future->bytes.cap);
    return poll;
}

static void send_drop(void *fut_ptr) {
    send_future *future = fut_ptr;
    if (future->sink->dropped) violation("a send future outlived its sink");
    future->sink->n_in_flight--;
    if (future->holds_bytes) future->bytes.drop_fn(future->bytes.ptr, future->bytes.len, future->bytes.cap);
    free(future);
    fake_n_live--;
}

static FfiFutureUnit sink_send(void *state, FfiBytes bytes) {
    fake_sink *sink = state;
    if (sink->dropped) violation("a send on a dropped sink");
    if (sink->n_in_flight++ != 0) violation("two sends in flight");
    send_future *future = calloc(1, sizeof *future);
    *future = (send_future){.sink = sink, .bytes = bytes, .holds_bytes = true, .number = sink->n_sent++};
    fake_n_live++;
    return (FfiFutureUnit){.fut_ptr = future, .poll_fn = send_poll, .drop_fn = send_drop};
}

static void sink_drop(void *state) {
    fake_sink *sink = state;
    if (sink->dropped) violation("a sink was dropped twice");
    if (sink->n_in_flight != 0) violation("a sink was dropped with a send in flight");
    sink->dropped = true;
    fake_n_live--;
}

OutputSink fake_sink_raw(fake_sink *sink) {
    fake_n_live++;
    return (OutputSink){.state = sink, .send = sink_send, .drop_state = sink_drop};
}

/* --- the token --- */

typedef struct registration {
    struct registration *next;
    uint64_t id;
    void *ctx;
    void (*wake)(void *ctx);
    void (*drop_ctx)(void *ctx);
} registration;

struct fake_token {
    atomic_int n_refs;
    pthread_mutex_t lock; /* held while wakers run: unregistering waits for them */
    bool cancelled;
    uint64_t next_id;
    registration *registrations;
    bool keeps_wakers;
    registration *kept; /* unregistered, but not dropped */
};

fake_token *fake_token_new(void) {
    fake_token *token = calloc(1, sizeof *token);
    token->n_refs = 1;
    token->next_id = 1;
    pthread_mutex_init(&token->lock, NULL);
    fake_n_live++;
    return token;
}

void fake_token_keep_wakers(fake_token *token) {
    token->keeps_wakers = true;
}

void fake_token_cancel(fake_token *token) {
    pthread_mutex_lock(&token->lock);
    token->cancelled = true;
    for (registration *entry = token->registrations; entry != NULL; entry = entry->next) entry->wake(entry->ctx);
    for (registration *entry = token->kept; entry != NULL; entry = entry->next) entry->wake(entry->ctx);
    pthread_mutex_unlock(&token->lock);
}

static bool token_is_cancelled(const void *state) {
    fake_token *token = (fake_token *)state;
    pthread_mutex_lock(&token->lock);
    bool cancelled = token->cancelled;
    pthread_mutex_unlock(&token->lock);
    return cancelled;
}

static uint64_t token_register(const void *state, void *ctx, void (*wake)(void *), void (*drop_ctx)(void *)) {
    fake_token *token = (fake_token *)state;
    pthread_mutex_lock(&token->lock);
    uint64_t id = 0;
    if (!token->cancelled) {
        registration *entry = malloc(sizeof *entry);
        id = token->next_id++;
        *entry = (registration){.next = token->registrations, .id = id, .ctx = ctx, .wake = wake, .drop_ctx = drop_ctx};
        token->registrations = entry;
        fake_n_live++;
    }
    pthread_mutex_unlock(&token->lock);
    if (id == 0) drop_ctx(ctx);
    return id;
}

static void free_registration(registration *entry) {
    entry->drop_ctx(entry->ctx);
    free(entry);
    fake_n_live--;
}

static void token_unregister(const void *state, uint64_t id) {
    fake_token *token = (fake_token *)state;
    pthread_mutex_lock(&token->lock);
    registration **link = &token->registrations;
    while (*link != NULL && (*link)->id != id) link = &(*link)->next;
    registration *entry = *link;
    if (entry != NULL) *link = entry->next;
    bool keep = entry != NULL && token->keeps_wakers;
    if (keep) {
        entry->next = token->kept;
        token->kept = entry;
    }
    pthread_mutex_unlock(&token->lock);
    if (keep) return;
    if (entry == NULL) {
        violation("a waker was unregistered that is not registered");
        return;
    }
    free_registration(entry);
}

void fake_token_free(fake_token *token) {
    if (--token->n_refs > 0) return;
    if (token->registrations != NULL) violation("a token was dropped with a waker registered");
    while (token->kept != NULL) {
        registration *next = token->kept->next;
        free_registration(token->kept);
        token->kept = next;
    }
    pthread_mutex_destroy(&token->lock);
    free(token);
    fake_n_live--;
}

static void token_drop(const void *state) {
    fake_token_free((fake_token *)state);
}

static FfiCancellationToken token_clone(const void *state) {
    return fake_token_raw((fake_token *)state);
}

FfiCancellationToken fake_token_raw(fake_token *token) {
    token->n_refs++;
    return (FfiCancellationToken){.state = token,
                                  .is_cancelled = token_is_cancelled,
                                  .register_waker = token_register,
                                  .unregister_waker = token_unregister,
                                  .clone_token = token_clone,
                                  .drop_token = token_drop};
}

int fake_token_n_registered(fake_token *token) {
    pthread_mutex_lock(&token->lock);
    int n = 0;
    for (registration *entry = token->registrations; entry != NULL; entry = entry->next) n++;
    pthread_mutex_unlock(&token->lock);
    return n;
}

int fake_count_threads(void) {
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL) return 0;
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

void fake_await_threads(int n) {
    while (fake_count_threads() > n) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}
