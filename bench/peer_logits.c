/* Logits of a peer, for divergence.py: llama.cpp, or its fork ik_llama.cpp, asked through its llama.h. Not built with
 * the project:
 *
 *   cc -O2 -I PEER/include -I PEER/ggml/include bench/peer_logits.c -o peer_logits -L LIB -Wl,-rpath,LIB -lllama -lggml
 *
 * LIB is the folder of the peer's libraries. With -DREPACK the program has ik_llama.cpp repack the weights when it
 * loads them (its -rtr), which chooses other kernels; llama.cpp does so by itself.
 *
 *   peer_logits MODEL.gguf PIECE < TOKENS > LOGITS
 *
 * Reads token ids with blanks between them and evaluates each PIECE of them in one batch, as a sequence of its own.
 * Writes n_vocab float32 for each position, without anything between. Everything not named here is as the peer has it
 * by default: its KV cache is F16, while that of `mistral-runner logits` is F32. */
#include "llama.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TOKENS = 1 << 20, MAX_PIECE = 2048 };

static void print_errors(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static bool fail(const char *what) {
    fprintf(stderr, "peer_logits: %s\n", what);
    return false;
}

static struct llama_model *load(const char *path) {
    llama_log_set(print_errors, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
#ifdef REPACK
    params.repack_tensors = true;
    params.use_mmap = false;
#endif
    return llama_model_load_from_file(path, params);
}

static bool decode(struct llama_context *context, const llama_token *ids, int n) {
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = n;
    int status = llama_decode(context, batch);
    llama_batch_free(batch);
    return status == 0;
}

/* A context for each piece: old and new versions of llama.h have no other way in common to forget a sequence. */
static bool write_piece(struct llama_model *model, const llama_token *ids, int n) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = MAX_PIECE;
    params.n_batch = params.n_ubatch = (uint32_t)n;
    params.n_threads = params.n_threads_batch = 2;
    struct llama_context *context = llama_init_from_model(model, params);
    if (context == NULL) return fail("the peer makes no context");
    size_t n_vocab = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    bool ok = decode(context, ids, n) || fail("the peer cannot evaluate the tokens");
    for (int i = 0; i < n && ok; i++) {
        const float *row = llama_get_logits_ith(context, i);
        ok = row != NULL && fwrite(row, sizeof(float), n_vocab, stdout) == n_vocab;
        if (!ok) fail("the logits cannot be written");
    }
    llama_free(context);
    return ok;
}

static bool run(const char *path, int piece) {
    static llama_token ids[MAX_TOKENS];
    int n = 0;
    while (n < MAX_TOKENS && scanf("%d", &ids[n]) == 1) n++;
    struct llama_model *model = load(path);
    if (model == NULL) return fail("the peer cannot load the model");
    bool ok = true;
    for (int at = 0; at < n && ok; at += piece) ok = write_piece(model, ids + at, n - at < piece ? n - at : piece);
    return ok && fflush(stdout) == 0;
}

int main(int argc, char **argv) {
    int piece = argc == 3 ? atoi(argv[2]) : 0;
    bool ok = piece >= 1 && piece <= MAX_PIECE ? run(argv[1], piece)
                                               : fail("usage: peer_logits MODEL.gguf PIECE < TOKENS > LOGITS");
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
