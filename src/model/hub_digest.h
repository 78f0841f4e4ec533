/* Cryptographic digests (OpenSSL's), for checking downloads. */
#ifndef MR_MODEL_HUB_DIGEST_H
#define MR_MODEL_HUB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

typedef enum mr_digest_kind { MR_DIGEST_SHA1, MR_DIGEST_SHA256 } mr_digest_kind;

enum { MR_DIGEST_HEX_MAX = 64 }; /* characters of the longest digest */

typedef struct mr_digest mr_digest;

/* A digest of nothing yet; NULL when memory runs out or the library refuses the kind. */
mr_digest *mr_digest_new(mr_digest_kind kind);
void mr_digest_free(mr_digest *digest); /* NULL is allowed */

/* False when the library fails. */
bool mr_digest_add(mr_digest *digest, const void *bytes, size_t n);

/* Writes the digest in lower-case hexadecimal with a NUL; only mr_digest_free may follow. */
bool mr_digest_finish(mr_digest *digest, char hex[MR_DIGEST_HEX_MAX + 1]);

#endif
