/* A blob that is being downloaded, in pieces that may come in any order. What is there survives the process: the bytes
 * stand at their place in ETAG.mistral-runner.incomplete, and ETAG.mistral-runner.pieces tells how much of each piece
 * there is. The caller holds the blob's lock. */
#ifndef MR_MODEL_HUB_BLOB_H
#define MR_MODEL_HUB_BLOB_H

#include "base/error.h"
#include "model/hub_digest.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mr_hub_blob {
    uint64_t size, piece_bytes;
    uint32_t n_pieces;
    uint64_t *done;  /* [n_pieces] bytes of each piece, from its beginning */
    uint64_t n_done; /* their sum */
    bool resumed;    /* something was there already */

    int fd, pieces_fd;
    char *path, *incomplete, *pieces;
    const char *etag; /* in path */
    mr_digest *digest;
    uint64_t n_digested;
} mr_hub_blob;

/* CACHE/…/blobs/ETAG; free() it. NULL when memory runs out. */
char *mr_hub_blob_path(const char *repo_folder, const char *etag);

/* Opens what an earlier download left, or begins anew with room for the whole blob on the disk. Close it in any case.
 * Errors: MR_ERR_LIMIT (the disk has no room for it), MR_ERR_IO, MR_ERR_NOMEM. */
mr_status mr_hub_blob_open(mr_hub_blob *blob, const char *repo_folder, const char *etag, uint64_t size, mr_error *err);
void mr_hub_blob_close(mr_hub_blob *blob); /* a zeroed blob that was never opened is allowed, with fds of -1 */

/* Where a piece begins, and its length. */
uint64_t mr_hub_blob_piece(const mr_hub_blob *blob, uint32_t piece, uint64_t *len);

/* Appends bytes to a piece; they must fit. */
mr_status mr_hub_blob_write(mr_hub_blob *blob, uint32_t piece, const void *bytes, uint64_t n, mr_error *err);

/* Forgets all bytes; `whole` makes it one piece from now on. */
mr_status mr_hub_blob_restart(mr_hub_blob *blob, bool whole, mr_error *err);

/* Digests up to max_bytes of what is there without a gap. *more: there is more that could be digested now. */
mr_status mr_hub_blob_digest(mr_hub_blob *blob, uint64_t max_bytes, bool *more, mr_error *err);

/* When all is there and digested: compares the digest with the etag, where that is one, and gives the blob its name.
 * MR_ERR_INVALID: other bytes than the hub promised; they are deleted. */
mr_status mr_hub_blob_finish(mr_hub_blob *blob, mr_error *err);

/* Deletes what is there. */
void mr_hub_blob_discard(mr_hub_blob *blob);

#endif
