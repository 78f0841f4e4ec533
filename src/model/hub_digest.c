#include "model/hub_digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct mr_digest {
    EVP_MD_CTX *ctx;
};

mr_digest *mr_digest_new(mr_digest_kind kind) {
    mr_digest *digest = calloc(1, sizeof *digest);
    if (digest == NULL) return NULL;
    digest->ctx = EVP_MD_CTX_new();
    const EVP_MD *type = kind == MR_DIGEST_SHA1 ? EVP_sha1() : EVP_sha256();
    if (digest->ctx != NULL && EVP_DigestInit_ex(digest->ctx, type, NULL) == 1) return digest;
    mr_digest_free(digest);
    return NULL;
}

void mr_digest_free(mr_digest *digest) {
    if (digest == NULL) return;
    EVP_MD_CTX_free(digest->ctx);
    free(digest);
}

bool mr_digest_add(mr_digest *digest, const void *bytes, size_t n) {
    return EVP_DigestUpdate(digest->ctx, bytes, n) == 1;
}

bool mr_digest_finish(mr_digest *digest, char hex[MR_DIGEST_HEX_MAX + 1]) {
    static const char DIGITS[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    hex[0] = '\0';
    if (EVP_DigestFinal_ex(digest->ctx, bytes, &n) != 1 || n * 2 > MR_DIGEST_HEX_MAX) return false;
    for (unsigned i = 0; i < n; i++) {
        hex[2 * i] = DIGITS[bytes[i] >> 4];
        hex[2 * i + 1] = DIGITS[bytes[i] & 15];
    }
    hex[2 * n] = '\0';
    return true;
}
