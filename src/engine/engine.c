/* Creation and sizing of an engine, and its end. */
#define _GNU_SOURCE
#define MR_LOG_TARGET "mistral_runner::engine"
#include "engine/internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/min.h"

#include <signal.h>
#include <stdlib.h>

enum {
    DEFAULT_CONTEXT = 4096, /* when the model does not say */
    DEFAULT_CONCURRENT = 8,
    DEFAULT_QUEUE = 1024,
    MAX_SNAPSHOTS = 512,
};

static size_t blocks_for(size_t n_tokens) {
    return (n_tokens + MR_KV_BLOCK - 1) / MR_KV_BLOCK;
}

/* A memory that sequences need: that of the CPU, and that of the model's device. */
typedef struct memory {
    mr_model_needs needs;
    size_t most; /* bytes that sequences may take; SIZE_MAX when nobody knows */
} memory;

enum { HERE, ON_DEVICE, N_MEMORIES };

/* On a device nearly all that is free: something is left for graphs and transfers. Else a quarter by itself, and three
 * quarters where a context was asked for. */
static void find_memories(const mr_engine *engine, const mr_engine_config *config, memory found[N_MEMORIES]) {
    size_t available = mr_available_memory();
    for (int i = 0; i < N_MEMORIES; i++)
        found[i].needs = mr_model_needs_of(engine->model, engine->layout.type, i == ON_DEVICE);
    found[ON_DEVICE].most = mr_model_device_free(engine->model) / 10 * 9;
    found[HERE].most = config->context_size > 0 ? available / 4 * 3 : available / 4;
    if (available == 0) found[HERE].most = SIZE_MAX;
}

/* Recurrent states take at most half of a memory: those of the sequences first, fewer at once where they do not fit;
 * then snapshots, up to a quarter. Returns how many in all. */
static mr_status choose_states(mr_engine *engine, const mr_engine_config *config, const memory found[N_MEMORIES],
                               size_t *n_states, mr_error *err) {
    size_t n_concurrent = engine->max_concurrent, n_snapshots = MAX_SNAPSHOTS;
    *n_states = 0;
    if (mr_model_state_bytes(engine->model) == 0) return MR_OK;
    for (int i = 0; i < N_MEMORIES; i++) {
        size_t one = found[i].needs.state_bytes, most = found[i].most;
        if (one == 0) continue;
        n_concurrent = mr_min_size(n_concurrent, most / 2 / one / MR_SLOTS_OF_SEQUENCE);
        n_snapshots = mr_min_size(n_snapshots, most / 4 / one);
        if (n_concurrent > 0) continue;
        return mr_fail(err, MR_ERR_NOMEM,
                       "no memory for the recurrent state of a sequence: it takes %d times %zu bytes%s, and %zu are "
                       "free for sequences",
                       MR_SLOTS_OF_SEQUENCE, one, i == ON_DEVICE ? " on the device" : "", most);
    }
    if (n_concurrent < engine->max_concurrent) {
        MR_WARN("max_concurrent is %zu instead of %u: the recurrent states of more (%zu bytes each, %d for a sequence) "
                "do not fit into memory",
                n_concurrent, engine->max_concurrent, mr_model_state_bytes(engine->model), MR_SLOTS_OF_SEQUENCE);
        engine->max_concurrent = (uint32_t)n_concurrent;
    }
    if (config->n_snapshots > 0) n_snapshots = mr_min_size(n_snapshots, config->n_snapshots);
    *n_states = (size_t)engine->max_concurrent * MR_SLOTS_OF_SEQUENCE + (engine->use_cache ? n_snapshots : 0);
    return MR_OK;
}

/* How many blocks fit beside the recurrent states. A size that was asked for is taken as it is, unless the device has
 * less. */
static size_t blocks_that_fit(const mr_engine *engine, const mr_engine_config *config, const memory found[N_MEMORIES]) {
    size_t n = INT32_MAX / 2;
    if (config->kv_bytes > 0) n = mr_min_size(n, config->kv_bytes / engine->layout.block_bytes);
    for (int i = config->kv_bytes > 0 ? ON_DEVICE : HERE; i < N_MEMORIES; i++) {
        size_t states = engine->stats.n_states * found[i].needs.state_bytes;
        if (found[i].needs.block_bytes == 0 || found[i].most == SIZE_MAX) continue;
        n = mr_min_size(n, (found[i].most - mr_min_size(found[i].most, states)) / found[i].needs.block_bytes);
    }
    return n;
}

/* Chooses context_size and the number of blocks. */
static mr_status choose_sizes(mr_engine *engine, const mr_engine_config *config, const memory found[N_MEMORIES],
                              size_t *n_blocks, mr_error *err) {
    uint32_t trained = mr_model_get_info(engine->model)->n_ctx_train;
    uint32_t wanted = config->context_size > 0 ? config->context_size : trained > 0 ? trained : DEFAULT_CONTEXT;
    if (config->context_size > trained && trained > 0) {
        MR_WARN(
            "context_size %u is more than the %u tokens that the model was trained for; long texts may come out badly",
            config->context_size, trained);
    }
    if (engine->encoder && wanted > trained) wanted = trained;
    size_t most = blocks_that_fit(engine, config, found), one = blocks_for(wanted);
    if (most == 0) {
        return mr_fail(err, MR_ERR_NOMEM,
                       "no memory for a KV cache: one block of %d tokens takes %zu bytes; free some memory or "
                       "choose a smaller kv_cache_type",
                       MR_KV_BLOCK, engine->layout.block_bytes);
    }
    size_t many = one * ((engine->max_concurrent + 1) / 2);
    *n_blocks = config->kv_bytes > 0 ? most : many < most ? many : most;
    engine->context_size = wanted;
    if (one > most) {
        engine->context_size = (uint32_t)(most * MR_KV_BLOCK);
        MR_WARN("the context is %u tokens instead of %u: a KV cache for more does not fit into memory (%zu bytes for a "
                "token)",
                engine->context_size, wanted, engine->layout.block_bytes / MR_KV_BLOCK);
    }
    return MR_OK;
}

static mr_status init_memory(mr_engine *engine, const mr_engine_config *config, mr_error *err) {
    size_t n_blocks = 0;
    /* An encoder needs keys and values for one layer at a time only, so they may be exact. */
    bool exact = engine->encoder && config->kv_type == MR_KV_F16;
    engine->memory.model = engine->model;
    engine->layout = mr_model_kv_layout(engine->model, exact ? MR_KV_F32 : config->kv_type);
    if (engine->layout.block_bytes == 0) return mr_fail(err, MR_ERR_INTERNAL, "the model has no KV layout");
    size_t n_states;
    memory found[N_MEMORIES];
    find_memories(engine, config, found);
    mr_status status = choose_states(engine, config, found, &n_states, err);
    engine->stats.n_states = n_states;
    engine->stats.state_bytes = n_states * mr_model_state_bytes(engine->model);
    if (status == MR_OK) status = choose_sizes(engine, config, found, &n_blocks, err);
    if (status == MR_OK && n_states > 0) status = mr_states_new(&engine->memory.states, engine->model, n_states, err);
    if (status == MR_OK) status = mr_kv_blocks_new(&engine->memory.blocks, n_blocks, engine->use_cache, err);
    if (status == MR_OK)
        status = mr_model_kv_init(engine->model, &engine->memory.pool, engine->layout.type, n_blocks, err);
    if (status != MR_OK) return status;
    engine->stats.n_blocks = n_blocks;
    engine->stats.kv_bytes = n_blocks * engine->layout.block_bytes;
    engine->running = calloc(engine->max_concurrent, sizeof(mr_request *));
    engine->entries = calloc(engine->max_concurrent, sizeof *engine->entries);
    engine->runs = calloc(engine->max_concurrent, sizeof *engine->runs);
    if (engine->on_device)
        engine->candidates = malloc((engine->max_concurrent + MR_DRAFT_ROWS) * sizeof *engine->candidates);
    if (engine->running == NULL || engine->entries == NULL || engine->runs == NULL ||
        (engine->on_device && engine->candidates == NULL))
        return mr_fail_nomem(err, engine->max_concurrent * sizeof *engine->entries, "the batch");
    return MR_OK;
}

static void free_memory(mr_engine *engine) {
    mr_model_kv_free(engine->model, &engine->memory.pool);
    mr_kv_blocks_free(engine->memory.blocks);
    mr_states_free(engine->memory.states);
    free(engine->running);
    free(engine->entries);
    free(engine->runs);
    free(engine->candidates);
    free(engine->draft_logits);
}

/* What is guessed, and the memory for it. */
static mr_status init_draft(mr_engine *engine, const mr_engine_config *config, mr_error *err) {
    if (config->n_draft == 0 || engine->encoder) return MR_OK;
    if (engine->memory.states != NULL) { /* it cannot be taken back to where a guess went wrong */
        MR_WARN("n_draft is 0 instead of %u: the model has a recurrent state", config->n_draft);
        return MR_OK;
    }
    engine->n_draft = config->n_draft < MR_MAX_DRAFT ? config->n_draft : MR_MAX_DRAFT;
    if (config->n_draft > MR_MAX_DRAFT)
        MR_WARN("n_draft is %d instead of %u, the most that is supported", MR_MAX_DRAFT, config->n_draft);
    engine->fixed_draft_cost = config->draft_cost;
    size_t bytes = (size_t)MR_DRAFT_ROWS * engine->n_vocab * sizeof *engine->draft_logits;
    engine->draft_logits = malloc(bytes);
    return engine->draft_logits != NULL ? MR_OK : mr_fail_nomem(err, bytes, "the logits of guesses");
}

/* The thread takes no signals: they are the host's. */
static mr_status start_thread(mr_engine *engine, mr_error *err) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&engine->thread, NULL, mr_scheduler_main, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) return mr_fail(err, MR_ERR_NOMEM, "the scheduler's thread could not be started (error %d)", failed);
    pthread_setname_np(engine->thread, "mr-scheduler");
    return MR_OK;
}

mr_status mr_engine_new(mr_engine **engine, mr_model *model, const mr_engine_config *config, mr_error *err) {
    *engine = NULL;
    mr_engine *e = calloc(1, sizeof *e);
    if (e == NULL) return mr_fail_nomem(err, sizeof *e, "an engine");
    e->model = model;
    e->n_vocab = mr_model_get_info(model)->n_vocab;
    e->n_embd = mr_model_get_info(model)->n_embd;
    e->max_concurrent = config->max_concurrent > 0 ? config->max_concurrent : DEFAULT_CONCURRENT;
    if (e->max_concurrent > MR_MAX_CONCURRENT) {
        MR_WARN("max_concurrent is %d instead of %u, the most that is supported", MR_MAX_CONCURRENT, e->max_concurrent);
        e->max_concurrent = MR_MAX_CONCURRENT;
    }
    e->max_queue = config->max_queue > 0 ? config->max_queue : DEFAULT_QUEUE;
    e->prefill_chunk = config->prefill_chunk < MR_BATCH_MAX ? config->prefill_chunk : MR_BATCH_MAX;
    e->encoder = mr_model_get_info(model)->encoder;
    e->on_device = mr_model_get_info(model)->device[0] != '\0';
    e->use_cache = !config->no_prefix_cache && !e->encoder;
    e->n_holders = 1;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    mr_status status = init_memory(e, config, err);
    if (status == MR_OK) status = init_draft(e, config, err);
    if (status == MR_OK) status = start_thread(e, err);
    if (status != MR_OK) {
        free_memory(e);
        mr_engine_release(e);
        return status;
    }
    MR_INFO("context of %u tokens, %u sequences at once, %zu KV blocks in %zu MiB", e->context_size, e->max_concurrent,
            e->stats.n_blocks, e->stats.kv_bytes >> 20);
    if (e->stats.n_states > 0)
        MR_INFO("%zu recurrent states in %zu MiB", e->stats.n_states, e->stats.state_bytes >> 20);
    *engine = e;
    return MR_OK;
}

void mr_engine_free(mr_engine *engine) {
    if (engine == NULL) return;
    pthread_mutex_lock(&engine->lock);
    engine->stopping = true;
    mr_cancel_request(engine->abort);
    pthread_cond_broadcast(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    free_memory(engine);
    mr_engine_release(engine);
}

uint32_t mr_engine_context_size(const mr_engine *engine) {
    return engine->context_size;
}

mr_engine_stats mr_engine_get_stats(mr_engine *engine) {
    pthread_mutex_lock(&engine->lock);
    mr_engine_stats stats = engine->stats;
    stats.n_waiting = (uint32_t)engine->n_waiting;
    stats.n_running = (uint32_t)engine->n_running;
    pthread_mutex_unlock(&engine->lock);
    return stats;
}
