#define _GNU_SOURCE
#include "model/hub_blob.h"

#include "base/buf.h"
#include "model/hub_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECES_MAGIC 0x31534543454950u /* "PIECES1" */
#define MIN_PIECE ((uint64_t)1 << 20)
#define MAX_PIECE ((uint64_t)64 << 20)

/* The beginning of the file of pieces; done[] follows. */
typedef struct pieces_header {
    uint64_t magic, size, piece_bytes;
} pieces_header;

static char *with_suffix(const char *path, const char *suffix) {
    char *text;
    return asprintf(&text, "%s%s", path, suffix) < 0 ? NULL : text;
}

char *mr_hub_blob_path(const char *repo_folder, const char *etag) {
    char *text;
    return asprintf(&text, "%s/blobs/%s", repo_folder, etag) < 0 ? NULL : text;
}

/* Eight pieces, but neither tiny ones nor ones so large that the first bytes wait long for their digest. */
static uint64_t choose_piece_bytes(uint64_t size) {
    uint64_t bytes = (size / 8 + 65535) / 65536 * 65536;
    return bytes < MIN_PIECE ? MIN_PIECE : bytes > MAX_PIECE ? MAX_PIECE : bytes;
}

static mr_status set_pieces(mr_hub_blob *b, uint64_t piece_bytes, mr_error *err) {
    b->piece_bytes = piece_bytes;
    uint64_t n = b->size == 0 ? 0 : (b->size - 1) / piece_bytes + 1;
    free(b->done);
    b->done = NULL;
    b->n_done = 0;
    if (n > (1u << 24))
        return mr_fail(err, MR_ERR_LIMIT, "the hub names a size of %llu bytes", (unsigned long long)b->size);
    b->n_pieces = (uint32_t)n;
    b->done = calloc(n + 1, sizeof *b->done);
    return b->done != NULL ? MR_OK : mr_fail_nomem(err, n * sizeof *b->done, "a download");
}

uint64_t mr_hub_blob_piece(const mr_hub_blob *b, uint32_t piece, uint64_t *len) {
    uint64_t first = piece * b->piece_bytes;
    *len = b->size - first < b->piece_bytes ? b->size - first : b->piece_bytes;
    return first;
}

static mr_status write_failed(const mr_hub_blob *b, const char *path, mr_error *err) {
    int code = errno;
    if (code == ENOSPC || code == EDQUOT || code == EFBIG) {
        return mr_fail(err, MR_ERR_LIMIT,
                       "the disk has no room for %s (%llu bytes: %s); make room, or set HF_HOME to a folder elsewhere",
                       path, (unsigned long long)b->size, strerror(code));
    }
    return mr_fail(err, MR_ERR_IO, "cannot write %s: %s", path, strerror(code));
}

/* Writes all n bytes at an offset. */
static bool write_at(int fd, const void *bytes, size_t n, uint64_t offset) {
    const char *p = bytes;
    while (n > 0) {
        ssize_t written = pwrite(fd, p, n, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        p += written;
        n -= (size_t)written;
        offset += (uint64_t)written;
    }
    return true;
}

/* Whether the files hold the beginning of this blob; b->done is filled then. */
static bool read_pieces(mr_hub_blob *b, mr_error *err) {
    pieces_header h;
    struct stat data;
    if (pread(b->pieces_fd, &h, sizeof h, 0) != (ssize_t)sizeof h || h.magic != PIECES_MAGIC || h.size != b->size ||
        h.piece_bytes < MIN_PIECE || fstat(b->fd, &data) != 0 || (uint64_t)data.st_size != b->size ||
        set_pieces(b, h.piece_bytes, err) != MR_OK)
        return false;
    size_t n_bytes = b->n_pieces * sizeof *b->done;
    if (pread(b->pieces_fd, b->done, n_bytes, sizeof h) != (ssize_t)n_bytes) return false;
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        uint64_t len;
        mr_hub_blob_piece(b, i, &len);
        if (b->done[i] > len) return false;
        b->n_done += b->done[i];
    }
    return true;
}

/* Asks before a disk is filled to its last byte. */
static mr_status check_room(const mr_hub_blob *b, mr_error *err) {
    struct statvfs fs;
    if (fstatvfs(b->fd, &fs) != 0) return MR_OK;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (b->size <= room) return MR_OK;
    return mr_fail(err, MR_ERR_LIMIT,
                   "the disk has no room for %s: it has %.1f MiB and %.1f MiB are free; make room, or set HF_HOME to a "
                   "folder elsewhere",
                   b->path, (double)b->size / (1 << 20), (double)room / (1 << 20));
}

static mr_status begin(mr_hub_blob *b, uint64_t piece_bytes, mr_error *err) {
    mr_status status = set_pieces(b, piece_bytes, err);
    if (status != MR_OK) return status;
    pieces_header h = {PIECES_MAGIC, b->size, piece_bytes};
    size_t n_bytes = b->n_pieces * sizeof *b->done;
    if (ftruncate(b->pieces_fd, 0) != 0 || ftruncate(b->fd, 0) != 0) return write_failed(b, b->incomplete, err);
    if ((status = check_room(b, err)) != MR_OK) return status;
    if (b->size > 0 && fallocate(b->fd, 0, 0, (off_t)b->size) != 0) {
        if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return write_failed(b, b->incomplete, err);
        if (ftruncate(b->fd, (off_t)b->size) != 0) return write_failed(b, b->incomplete, err);
    }
    if (!write_at(b->pieces_fd, b->done, n_bytes, sizeof h) || !write_at(b->pieces_fd, &h, sizeof h, 0))
        return write_failed(b, b->pieces, err);
    return MR_OK;
}

/* An etag that is a digest: SHA-256 of the bytes (large files), or git's SHA-1 of a header and the bytes. */
static mr_status begin_digest(mr_hub_blob *b, mr_error *err) {
    mr_digest_free(b->digest);
    b->digest = NULL;
    b->n_digested = 0;
    size_t len = strspn(b->etag, "0123456789abcdef");
    if (b->etag[len] != '\0' || (len != 64 && len != 40)) return MR_OK;
    b->digest = mr_digest_new(len == 64 ? MR_DIGEST_SHA256 : MR_DIGEST_SHA1);
    bool ok = b->digest != NULL;
    if (ok && len == 40) {
        char header[32];
        int n = snprintf(header, sizeof header, "blob %llu", (unsigned long long)b->size);
        ok = mr_digest_add(b->digest, header, (size_t)n + 1);
    }
    return ok ? MR_OK : mr_fail_nomem(err, 0, "a digest");
}

mr_status mr_hub_blob_open(mr_hub_blob *b, const char *repo_folder, const char *etag, uint64_t size, mr_error *err) {
    *b = (mr_hub_blob){.size = size, .fd = -1, .pieces_fd = -1};
    b->path = mr_hub_blob_path(repo_folder, etag);
    if (b->path == NULL) return mr_fail_nomem(err, 0, "a path");
    b->etag = strrchr(b->path, '/') + 1;
    b->incomplete = with_suffix(b->path, ".mistral-runner.incomplete");
    b->pieces = with_suffix(b->path, ".mistral-runner.pieces");
    if (b->incomplete == NULL || b->pieces == NULL) return mr_fail_nomem(err, 0, "a path");
    mr_status status = mr_hub_make_parents(b->path, err);
    if (status != MR_OK) return status;
    b->fd = open(b->incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    b->pieces_fd = b->fd >= 0 ? open(b->pieces, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (b->pieces_fd < 0) return write_failed(b, b->incomplete, err);
    if (read_pieces(b, err))
        b->resumed = b->n_done > 0;
    else
        status = begin(b, choose_piece_bytes(size), err);
    if (status == MR_OK) status = begin_digest(b, err);
    if (status == MR_ERR_LIMIT) mr_hub_blob_discard(b);
    return status;
}

void mr_hub_blob_close(mr_hub_blob *b) {
    if (b->fd >= 0) close(b->fd);
    if (b->pieces_fd >= 0) close(b->pieces_fd);
    mr_digest_free(b->digest);
    free(b->done);
    free(b->path);
    free(b->incomplete);
    free(b->pieces);
    *b = (mr_hub_blob){.fd = -1, .pieces_fd = -1};
}

mr_status mr_hub_blob_write(mr_hub_blob *b, uint32_t piece, const void *bytes, uint64_t n, mr_error *err) {
    uint64_t len, first = mr_hub_blob_piece(b, piece, &len), *done = &b->done[piece];
    if (n > len - *done) return mr_fail(err, MR_ERR_INTERNAL, "a piece of %s overflows", b->path);
    if (!write_at(b->fd, bytes, n, first + *done)) return write_failed(b, b->incomplete, err);
    *done += n;
    b->n_done += n;
    /* After the bytes, so that what it tells is there. */
    if (!write_at(b->pieces_fd, done, sizeof *done, sizeof(pieces_header) + piece * sizeof *done))
        return write_failed(b, b->pieces, err);
    return MR_OK;
}

mr_status mr_hub_blob_restart(mr_hub_blob *b, bool whole, mr_error *err) {
    uint64_t all = b->size > MIN_PIECE ? b->size : MIN_PIECE;
    mr_status status = begin(b, whole ? all : choose_piece_bytes(b->size), err);
    b->resumed = false;
    return status == MR_OK ? begin_digest(b, err) : status;
}

/* Bytes from the beginning up to the first gap. */
static uint64_t without_gap(const mr_hub_blob *b) {
    uint64_t n = 0, len;
    for (uint32_t i = (uint32_t)(b->n_digested / b->piece_bytes); i < b->n_pieces; i++) {
        n = mr_hub_blob_piece(b, i, &len) + b->done[i];
        if (b->done[i] < len) break;
    }
    return n;
}

mr_status mr_hub_blob_digest(mr_hub_blob *b, uint64_t max_bytes, bool *more, mr_error *err) {
    static _Thread_local char chunk[1 << 16];
    *more = false;
    if (b->n_digested == b->size) return MR_OK;
    uint64_t until = without_gap(b), budget = max_bytes;
    if (b->digest == NULL) until = b->n_digested = b->n_done == b->size ? b->size : 0;
    while (b->n_digested < until && budget > 0) {
        uint64_t want = until - b->n_digested;
        if (want > sizeof chunk) want = sizeof chunk;
        if (want > budget) want = budget;
        ssize_t n = pread(b->fd, chunk, (size_t)want, (off_t)b->n_digested);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return mr_fail(err, MR_ERR_IO, "cannot read %s: %s", b->incomplete, n < 0 ? strerror(errno) : "it is cut");
        if (!mr_digest_add(b->digest, chunk, (size_t)n)) return mr_fail_nomem(err, 0, "a digest");
        b->n_digested += (uint64_t)n;
        budget -= (uint64_t)n;
    }
    *more = b->n_digested < until;
    return MR_OK;
}

mr_status mr_hub_blob_finish(mr_hub_blob *b, mr_error *err) {
    if (b->n_done != b->size || b->n_digested != b->size)
        return mr_fail(err, MR_ERR_INTERNAL, "%s is not whole yet", b->path);
    if (b->digest != NULL) {
        char hex[MR_DIGEST_HEX_MAX + 1];
        if (!mr_digest_finish(b->digest, hex)) return mr_fail_nomem(err, 0, "a digest");
        if (strcmp(hex, b->etag) != 0) {
            mr_hub_blob_discard(b);
            return mr_fail(err, MR_ERR_INVALID, "other bytes came than the hub promised: their digest is %s, not %s",
                           hex, b->etag);
        }
    }
    if (fsync(b->fd) != 0 && errno != EINVAL && errno != EROFS) return write_failed(b, b->incomplete, err);
    if (rename(b->incomplete, b->path) != 0) return write_failed(b, b->path, err);
    unlink(b->pieces);
    return MR_OK;
}

void mr_hub_blob_discard(mr_hub_blob *b) {
    unlink(b->pieces);
    unlink(b->incomplete);
}
