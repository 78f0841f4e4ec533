/* HTTP for the hub: many transfers in one thread, over libcurl. The token goes to the endpoint's own origin and is left
 * out wherever a redirect leads away from it. */
#ifndef MR_MODEL_HUB_HTTP_H
#define MR_MODEL_HUB_HTTP_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/error.h"
#include "model/hub_cache.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mr_http mr_http;
typedef struct mr_http_transfer mr_http_transfer;

/* What the last response of a transfer said. Texts are cut where they do not fit. */
typedef struct mr_http_answer {
    long status;    /* 0: none came */
    char etag[160]; /* x-linked-etag, else etag, without quotes */
    bool has_size;  /* x-linked-size, else the body's length where the response is no redirect */
    uint64_t size;
    bool has_range; /* Content-Range */
    uint64_t range_first, range_total;
    char error_code[48], error_text[256]; /* x-error-code, x-error-message */
    long retry_after;                     /* seconds; 0 = not said */
    char *redirect;                       /* where it leads, when it was not followed; owned by the transfer */
    bool linked_etag, linked_size;        /* the hub's own headers were there */
    char failure[256];                    /* why the exchange did not come to its end, or "" */
    bool no_connection;                   /* the failure: nobody could be reached */
    bool forbidden;                       /* the failure: a redirect led to where downloads must not come from */
} mr_http_answer;

typedef struct mr_http_request {
    const char *url;
    bool head;      /* headers only; redirects are told, not followed */
    bool has_range; /* bytes first .. last */
    uint64_t first, last;
    /* Called for each piece of a body, whatever its status; false breaks the transfer off. May be NULL. */
    bool (*on_data)(void *ctx, const mr_http_answer *answer, const void *bytes, size_t n);
    void *ctx;
} mr_http_request;

/* The environment is borrowed. A set `cancel` (may be NULL) ends every wait at once. */
mr_status mr_http_new(mr_http **http, const mr_hub_env *env, mr_cancel *cancel, mr_error *err);
void mr_http_free(mr_http *http); /* its transfers must have ended; NULL is allowed */

/* NULL when memory runs out. */
mr_http_transfer *mr_http_start(mr_http *http, const mr_http_request *request);

/* Moves all transfers on for up to timeout_ms; a finished one, or NULL when none is. */
mr_http_transfer *mr_http_next(mr_http *http, int timeout_ms);

const mr_http_answer *mr_http_answer_of(const mr_http_transfer *transfer);
void *mr_http_ctx(const mr_http_transfer *transfer);

/* Frees a transfer, breaking it off when it has not finished. NULL is allowed. */
void mr_http_end(mr_http *http, mr_http_transfer *transfer);

/* Gets a whole body of at most max_bytes while no other transfer is under way. The answer's redirect is NULL. Errors:
 * MR_ERR_CANCELLED, MR_ERR_LIMIT, MR_ERR_NOMEM; a bad status or a broken exchange is in the answer. */
mr_status mr_http_get(mr_http *http, const char *url, size_t max_bytes, mr_buf *body, mr_http_answer *answer,
                      mr_error *err);

/* Whether the same request may well go better a moment later. */
bool mr_http_is_passing(const mr_http_answer *answer);

/* Appends text so that it is one component of a URL's path; slashes stay where keep_slash. */
void mr_http_escape(mr_buf *url, const char *text, bool keep_slash);

#endif
