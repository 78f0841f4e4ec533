#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::hub"
#include "model/hub_download.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "model/hub_blob.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_TRANSFERS = 8,
    MAX_HOPS = 8,           /* redirects of a question about a file */
    DIGEST_BYTES = 4 << 20, /* of each file, between two looks at the network */
    WAIT_MS = 50,           /* for the network, for another process's lock */
};

typedef enum file_state { ASK, ASKING, LOCK, FETCH, DONE } file_state;

typedef struct file {
    const char *name;
    file_state state;
    char *url; /* of the question, or of the bytes */
    unsigned n_hops;
    char etag[160];
    uint64_t size;
    int lock;
    mr_hub_blob blob;
    bool *busy;         /* [n_pieces] a transfer is under way */
    unsigned n_running; /* transfers */
    unsigned n_failures;
    uint64_t wait_until; /* mr_clock_ns() before which nothing is asked */
    uint64_t counted;    /* bytes when the last failure was counted */
    bool whole_only;     /* the server knows no ranges */
    bool restart;        /* begin again when no transfer is under way */
    bool retried;        /* after bytes that were not what the etag says */
    bool told_waiting;
} file;

typedef struct slot {
    struct downloader *owner;
    file *file;
    uint32_t piece;
    mr_http_transfer *transfer; /* NULL: free */
    bool asks;                  /* a question about the file */
    uint64_t first, left;       /* of the bytes asked for: where they begin, how many are still to come */
    mr_status broken;           /* why the bytes were refused; the error is in owner->err */
} slot;

typedef struct downloader {
    const mr_hub_download *d;
    char *repo_folder;
    file *files;
    size_t n_files;
    slot slots[MAX_TRANSFERS];
    mr_error *err;
} downloader;

/* --- questions: what is the file's etag, and how long is it? --- */

static char *file_url(const downloader *dl, const char *name) {
    mr_buf url = {0};
    mr_buf_printf(&url, "%s/%s/resolve/%s/", dl->d->env->endpoint, dl->d->id->repo, dl->d->commit);
    mr_http_escape(&url, name, true);
    char *text = mr_buf_take(&url);
    if (text == NULL) mr_buf_free(&url);
    return text;
}

static slot *free_slot(downloader *dl) {
    for (size_t i = 0; i < MAX_TRANSFERS; i++) {
        if (dl->slots[i].transfer == NULL) return &dl->slots[i];
    }
    return NULL;
}

static mr_status start_transfer(downloader *dl, slot *s, file *f, mr_http_request *request) {
    request->url = f->url;
    request->ctx = s;
    s->owner = dl;
    s->file = f;
    s->broken = MR_OK;
    s->transfer = mr_http_start(dl->d->http, request);
    if (s->transfer == NULL) return mr_fail_nomem(dl->err, 0, "a download");
    f->n_running++;
    return MR_OK;
}

static mr_status ask(downloader *dl, file *f) {
    slot *s = free_slot(dl);
    if (s == NULL) return MR_OK;
    s->asks = true;
    f->state = ASKING;
    mr_http_request request = {.head = true};
    return start_transfer(dl, s, f, &request);
}

/* A failure that may pass: waits, or gives up with the reason in *err. */
static mr_status wait_or_fail(downloader *dl, file *f, const mr_http_answer *a) {
    if (mr_clock_ns() < f->wait_until) return MR_OK; /* one break takes all transfers of a file along */
    if (f->blob.n_done > f->counted) f->n_failures = 0;
    f->counted = f->blob.n_done;
    if (f->n_failures++ >= MR_HUB_MAX_FAILURES) {
        mr_status status = mr_hub_refused(dl->d->env, dl->d->id, f->name, a, dl->err);
        if (f->blob.n_done > 0) {
            mr_fail_prefix(dl->err, "the download broke off %d times at %llu of %llu bytes; the next one goes on there",
                           MR_HUB_MAX_FAILURES + 1, (unsigned long long)f->blob.n_done, (unsigned long long)f->size);
        }
        return status;
    }
    long wait = mr_hub_backoff_ms(f->n_failures - 1, a);
    f->wait_until = mr_clock_ns() + (uint64_t)wait * 1000000;
    MR_WARN("%s: %s; trying again in %.1f s", f->name, a->failure[0] != '\0' ? a->failure : "the server is busy",
            (double)wait / 1000);
    return MR_OK;
}

static mr_status follow(downloader *dl, file *f, const mr_http_answer *a) {
    if (f->n_hops++ >= MAX_HOPS)
        return mr_fail(dl->err, MR_ERR_UNAVAILABLE, "the hub redirects more than %d times", MAX_HOPS);
    char *url = strdup(a->redirect);
    if (url == NULL) return mr_fail_nomem(dl->err, strlen(a->redirect), "a URL");
    free(f->url);
    f->url = url;
    f->state = ASK;
    return MR_OK;
}

static mr_status answered(downloader *dl, file *f, const mr_http_answer *a) {
    bool ok = a->failure[0] == '\0' && a->status >= 200 && a->status < 400;
    if (!ok && mr_http_is_passing(a)) {
        f->state = ASK;
        return wait_or_fail(dl, f, a);
    }
    if (!ok) return mr_hub_refused(dl->d->env, dl->d->id, f->name, a, dl->err);
    /* The hub tells etag and size itself before it leads elsewhere; a mirror may lead to the hub first. */
    if (a->redirect != NULL && !(a->linked_etag && a->linked_size)) return follow(dl, f, a);
    if (!mr_hub_etag_is_safe(a->etag))
        return mr_fail(dl->err, MR_ERR_UNAVAILABLE, "%s tells no etag that could name the file", dl->d->env->endpoint);
    if (!a->has_size)
        return mr_fail(dl->err, MR_ERR_UNAVAILABLE, "%s does not tell how long the file is", dl->d->env->endpoint);
    memcpy(f->etag, a->etag, sizeof f->etag);
    f->size = a->size;
    f->n_failures = 0;
    f->state = LOCK;
    free(f->url);
    f->url = file_url(dl, f->name);
    return f->url != NULL ? MR_OK : mr_fail_nomem(dl->err, 0, "a URL");
}

/* --- blobs --- */

static mr_status link_file(downloader *dl, file *f) {
    f->state = DONE;
    if (f->lock >= 0) close(f->lock);
    f->lock = -1;
    return mr_hub_link(dl->repo_folder, dl->d->commit, f->name, f->etag, dl->err);
}

/* Whether the cache has the blob, as long as it should be. */
static bool has_blob(const downloader *dl, const file *f) {
    char *path = mr_hub_blob_path(dl->repo_folder, f->etag);
    struct stat st;
    bool has = path != NULL && stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == f->size;
    free(path);
    return has;
}

static mr_status open_blob(downloader *dl, file *f) {
    mr_hub_blob_close(&f->blob);
    mr_status status = mr_hub_blob_open(&f->blob, dl->repo_folder, f->etag, f->size, dl->err);
    if (status != MR_OK) return status;
    free(f->busy);
    f->busy = calloc((size_t)f->blob.n_pieces + 1, sizeof *f->busy);
    if (f->busy == NULL) return mr_fail_nomem(dl->err, f->blob.n_pieces, "a download");
    f->counted = f->blob.n_done;
    f->state = FETCH;
    if (f->blob.resumed)
        MR_INFO("%s: going on after %llu of %llu bytes", f->name, (unsigned long long)f->blob.n_done,
                (unsigned long long)f->size);
    return MR_OK;
}

static mr_status take_lock(downloader *dl, file *f) {
    if (has_blob(dl, f)) return link_file(dl, f);
    mr_status status = mr_hub_try_lock(dl->d->env, dl->d->id->repo, f->etag, &f->lock, dl->err);
    if (status != MR_OK) return status;
    if (f->lock < 0) {
        if (!f->told_waiting) MR_INFO("%s: another process downloads it; waiting for that", f->name);
        f->told_waiting = true;
        return MR_OK;
    }
    return has_blob(dl, f) ? link_file(dl, f) : open_blob(dl, f);
}

/* Checks a response before its first byte is used. */
static mr_status check_answer(slot *s, const mr_http_answer *a) {
    file *f = s->file;
    mr_error *err = s->owner->err;
    bool is_whole = s->first == 0 && s->left == f->size;
    if (a->status == 200 && !is_whole) {
        f->whole_only = f->restart = true;
        return MR_ERR_UNSUPPORTED;
    }
    uint64_t total = a->has_range ? a->range_total : a->has_size ? a->size : f->size;
    if (total != f->size) {
        return mr_fail(err, MR_ERR_INVALID, "the hub said that it has %llu bytes, but the server has %llu",
                       (unsigned long long)f->size, (unsigned long long)total);
    }
    if (a->status == 206 && (!a->has_range || a->range_first != s->first))
        return mr_fail(err, MR_ERR_INVALID, "the server sends another range than was asked for");
    return MR_OK;
}

static bool on_data(void *ctx, const mr_http_answer *a, const void *bytes, size_t n) {
    slot *s = ctx;
    file *f = s->file;
    if (a->status != 200 && a->status != 206) return true; /* the text of an error */
    uint64_t len, begin = mr_hub_blob_piece(&f->blob, s->piece, &len) + f->blob.done[s->piece];
    if (f->restart) return false;
    if (begin == s->first) s->broken = check_answer(s, a);
    if (s->broken == MR_OK && n > s->left) {
        s->broken = mr_fail(s->owner->err, MR_ERR_INVALID, "the server sends more than the %llu bytes asked for",
                            (unsigned long long)(begin - s->first + s->left));
    }
    if (s->broken == MR_OK) s->broken = mr_hub_blob_write(&f->blob, s->piece, bytes, n, s->owner->err);
    if (s->broken != MR_OK) return false;
    s->left -= n;
    return true;
}

/* Starts what can be started of a file. */
static mr_status fetch(downloader *dl, file *f) {
    mr_status status = MR_OK;
    for (uint32_t i = 0; i < f->blob.n_pieces && status == MR_OK; i++) {
        uint64_t len, first = mr_hub_blob_piece(&f->blob, i, &len);
        slot *s = free_slot(dl);
        if (s == NULL) break;
        if (f->busy[i] || f->blob.done[i] == len) continue;
        f->busy[i] = true;
        s->asks = false;
        s->piece = i;
        s->first = first + f->blob.done[i];
        s->left = len - f->blob.done[i];
        mr_http_request request = {.first = s->first, .last = first + len - 1, .on_data = on_data};
        request.has_range = s->first > 0 || s->left < f->size;
        status = start_transfer(dl, s, f, &request);
    }
    return status;
}

static mr_status restart(downloader *dl, file *f) {
    f->restart = false;
    f->counted = 0;
    MR_WARN("%s: the server knows no ranges; the file is downloaded in one go", f->name);
    return mr_hub_blob_restart(&f->blob, true, dl->err);
}

/* All bytes are there. A download that was begun by another process may have left wrong ones: it is repeated once. */
static mr_status finish_blob(downloader *dl, file *f) {
    bool resumed = f->blob.resumed;
    mr_status status = mr_hub_blob_finish(&f->blob, dl->err);
    if (status == MR_ERR_INVALID && resumed && !f->retried) {
        MR_WARN("%s: %s; it is downloaded again", f->name, dl->err->text);
        f->retried = true;
        return open_blob(dl, f);
    }
    return status == MR_OK ? link_file(dl, f) : status;
}

static mr_status advance_blob(downloader *dl, file *f, bool *hurry) {
    mr_status status = MR_OK;
    bool more = false;
    if (f->restart) {
        if (f->n_running > 0) return MR_OK;
        if ((status = restart(dl, f)) != MR_OK) return status;
    }
    if (f->blob.n_done < f->size && mr_clock_ns() >= f->wait_until) status = fetch(dl, f);
    if (status == MR_OK) status = mr_hub_blob_digest(&f->blob, DIGEST_BYTES, &more, dl->err);
    *hurry = *hurry || more;
    if (status == MR_OK && f->blob.n_digested == f->size && f->blob.n_done == f->size && f->n_running == 0) {
        *hurry = true;
        status = finish_blob(dl, f);
    }
    return status;
}

static mr_status fetched(downloader *dl, slot *s, const mr_http_answer *a) {
    file *f = s->file;
    if (f->restart) return MR_OK;
    if (s->broken != MR_OK) return s->broken;
    bool ok = a->failure[0] == '\0' && (a->status == 200 || a->status == 206);
    if (ok && s->left == 0) {
        f->n_failures = 0;
        return MR_OK;
    }
    if (a->status == 416) {
        mr_hub_blob_discard(&f->blob);
        return mr_fail(dl->err, MR_ERR_INVALID,
                       "the hub said that it has %llu bytes, but the server has fewer (HTTP 416)",
                       (unsigned long long)f->size);
    }
    if (ok || a->no_connection || mr_http_is_passing(a)) return wait_or_fail(dl, f, a);
    return mr_hub_refused(dl->d->env, dl->d->id, f->name, a, dl->err);
}

/* --- the loop --- */

static mr_status advance(downloader *dl, file *f, bool *hurry) {
    if (f->state == ASK && mr_clock_ns() >= f->wait_until) return ask(dl, f);
    if (f->state == LOCK) return take_lock(dl, f);
    if (f->state == FETCH) return advance_blob(dl, f, hurry);
    return MR_OK;
}

static void end_slot(downloader *dl, slot *s) {
    if (s->transfer == NULL) return;
    mr_http_end(dl->d->http, s->transfer);
    s->transfer = NULL;
    s->file->n_running--;
    if (!s->asks) s->file->busy[s->piece] = false;
}

static mr_status take_finished(downloader *dl, mr_http_transfer *t, file **which) {
    slot *s = mr_http_ctx(t);
    const mr_http_answer *a = mr_http_answer_of(t);
    *which = s->file;
    mr_status status = s->asks ? answered(dl, s->file, a) : fetched(dl, s, a);
    end_slot(dl, s);
    return status;
}

/* Bytes that are there of those that are known of. False when the caller wants no more. */
static bool tell_progress(const downloader *dl) {
    uint64_t n = 0, total = 0;
    bool all_known = true;
    if (dl->d->progress == NULL) return true;
    for (size_t i = 0; i < dl->n_files; i++) {
        const file *f = &dl->files[i];
        total += f->size;
        n += f->state == DONE ? f->size : f->state == FETCH ? f->blob.n_done : 0;
        all_known = all_known && f->state != ASK && f->state != ASKING;
    }
    float fraction = !all_known || total == 0 ? 0.0f : (float)((double)n / (double)total);
    return dl->d->progress(dl->d->progress_ctx, fraction);
}

static bool all_done(const downloader *dl) {
    for (size_t i = 0; i < dl->n_files; i++) {
        if (dl->files[i].state != DONE) return false;
    }
    return true;
}

static mr_status run(downloader *dl) {
    while (!all_done(dl)) {
        bool hurry = false;
        if (mr_cancel_is_set(dl->d->cancel) || !tell_progress(dl))
            return mr_fail(dl->err, MR_ERR_CANCELLED, "the download was cancelled");
        file *f = NULL;
        mr_status status = MR_OK;
        for (size_t i = 0; i < dl->n_files && status == MR_OK; i++) status = advance(dl, f = &dl->files[i], &hurry);
        mr_http_transfer *t = status == MR_OK ? mr_http_next(dl->d->http, hurry ? 0 : WAIT_MS) : NULL;
        if (t != NULL) status = take_finished(dl, t, &f);
        if (status != MR_OK) return mr_fail_prefix(dl->err, "%s: %s", dl->d->id->repo, f->name);
    }
    return tell_progress(dl) ? MR_OK : mr_fail(dl->err, MR_ERR_CANCELLED, "the download was cancelled");
}

/* The files that the snapshot lacks. */
static mr_status add_missing(downloader *dl) {
    const mr_hub_download *d = dl->d;
    char *snapshot = mr_hub_snapshot_folder(d->env, d->id->repo, d->commit);
    dl->files = calloc(d->n_files + 1, sizeof *dl->files);
    mr_status status = snapshot == NULL || dl->files == NULL ? mr_fail_nomem(dl->err, 0, "a download") : MR_OK;
    for (size_t i = 0; i < d->n_files && status == MR_OK; i++) {
        char *path = mr_path_join(snapshot, d->files[i]);
        if (path == NULL) status = mr_fail_nomem(dl->err, 0, "a path");
        if (path != NULL && !mr_path_is_file(path)) {
            file *f = &dl->files[dl->n_files++];
            *f = (file){.name = d->files[i], .lock = -1, .blob = {.fd = -1, .pieces_fd = -1}};
            f->url = file_url(dl, f->name);
            if (f->url == NULL) status = mr_fail_nomem(dl->err, 0, "a URL");
        }
        free(path);
    }
    free(snapshot);
    return status;
}

static void clean_up(downloader *dl) {
    for (size_t i = 0; i < MAX_TRANSFERS; i++) end_slot(dl, &dl->slots[i]);
    for (size_t i = 0; i < dl->n_files; i++) {
        file *f = &dl->files[i];
        mr_hub_blob_close(&f->blob);
        if (f->lock >= 0) close(f->lock);
        free(f->busy);
        free(f->url);
    }
    free(dl->files);
    free(dl->repo_folder);
}

mr_status mr_hub_download_files(const mr_hub_download *d, mr_error *err) {
    mr_error own = {0};
    downloader dl = {.d = d, .err = err != NULL ? err : &own};
    dl.repo_folder = mr_hub_repo_folder(d->env, d->id->repo);
    mr_status status = dl.repo_folder != NULL ? add_missing(&dl) : mr_fail_nomem(dl.err, 0, "a path");
    if (status == MR_OK) status = run(&dl);
    clean_up(&dl);
    return status;
}
