#define _POSIX_C_SOURCE 200809L
#include "model/hub_http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CONNECT_SECONDS = 15, MAX_REDIRECTS = 8 };

struct mr_http {
    const mr_hub_env *env;
    CURLM *multi;
    mr_cancel *cancel;
    uint64_t subscription;
    struct curl_slist *with_token, *without_token; /* header lines */
    bool no_memory;
};

struct mr_http_transfer {
    CURL *easy;
    bool running; /* still in the multi handle */
    mr_http_request request;
    mr_http_answer answer;
    char error[CURL_ERROR_SIZE];
};

static void init_once(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void on_cancel(void *ctx) {
    curl_multi_wakeup(ctx);
}

static bool add_line(struct curl_slist **list, const char *line) {
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL) return false;
    *list = longer;
    return true;
}

static bool make_headers(mr_http *http) {
    static const char IDENTITY[] = "Accept-Encoding: identity"; /* sizes and ranges count bytes of the file itself */
    bool ok = add_line(&http->with_token, IDENTITY) && add_line(&http->without_token, IDENTITY);
    if (!ok || http->env->token == NULL) return ok;
    mr_buf line = {0};
    ok = mr_buf_printf(&line, "Authorization: Bearer %s", http->env->token) &&
         add_line(&http->with_token, mr_buf_cstr(&line));
    mr_buf_free(&line);
    return ok;
}

mr_status mr_http_new(mr_http **out, const mr_hub_env *env, mr_cancel *cancel, mr_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    mr_http *http = *out = calloc(1, sizeof *http);
    if (http == NULL) return mr_fail_nomem(err, sizeof *http, "downloads");
    http->env = env;
    http->multi = curl_multi_init();
    if (http->multi == NULL || !make_headers(http)) {
        mr_http_free(http);
        *out = NULL;
        return mr_fail_nomem(err, 0, "downloads");
    }
    http->cancel = mr_cancel_ref(cancel);
    http->subscription = mr_cancel_subscribe(cancel, on_cancel, http->multi);
    return MR_OK;
}

void mr_http_free(mr_http *http) {
    if (http == NULL) return;
    mr_cancel_unsubscribe(http->cancel, http->subscription);
    mr_cancel_unref(http->cancel);
    curl_multi_cleanup(http->multi);
    curl_slist_free_all(http->with_token);
    curl_slist_free_all(http->without_token);
    free(http);
}

/* --- what a response says --- */

/* The value of a header line, without the space around it; NULL when it is another header. */
static const char *value_of(const char *line, size_t n, const char *name, size_t *len) {
    size_t n_name = strlen(name);
    if (n <= n_name || line[n_name] != ':' || strncasecmp(line, name, n_name) != 0) return NULL;
    const char *begin = line + n_name + 1, *end = line + n;
    while (begin < end && isspace((unsigned char)*begin)) begin++;
    while (end > begin && isspace((unsigned char)end[-1])) end--;
    *len = (size_t)(end - begin);
    return begin;
}

/* Control characters would end up on a terminal. */
static void copy_text(char *out, size_t room, const char *text, size_t len) {
    size_t n = len < room - 1 ? len : room - 1;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? ' ' : text[i];
    out[n] = '\0';
}

static bool parse_number(const char *text, size_t len, uint64_t *value) {
    uint64_t n = 0;
    if (len == 0 || len > 18) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *value = n;
    return true;
}

/* An etag without its weakness mark and quotes; one that is too long is none. */
static void take_etag(mr_http_answer *a, const char *text, size_t len) {
    if (len >= 2 && text[0] == 'W' && text[1] == '/') text += 2, len -= 2;
    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') text++, len -= 2;
    if (len < sizeof a->etag) copy_text(a->etag, sizeof a->etag, text, len);
}

/* "bytes FIRST-LAST/TOTAL" */
static void take_range(mr_http_answer *a, const char *text, size_t len) {
    const char *dash = memchr(text, '-', len), *slash = memchr(text, '/', len);
    if (len < 6 || strncasecmp(text, "bytes ", 6) != 0 || dash == NULL || slash == NULL || dash < text + 6) return;
    a->has_range = parse_number(text + 6, (size_t)(dash - text) - 6, &a->range_first) &&
                   parse_number(slash + 1, (size_t)(text + len - slash) - 1, &a->range_total);
}

static void take_header(mr_http_answer *a, const char *line, size_t n) {
    size_t len;
    const char *v;
    uint64_t number;
    if ((v = value_of(line, n, "x-linked-etag", &len)) != NULL) {
        take_etag(a, v, len);
        a->linked_etag = a->etag[0] != '\0';
    } else if ((v = value_of(line, n, "etag", &len)) != NULL) {
        if (!a->linked_etag) take_etag(a, v, len);
    } else if ((v = value_of(line, n, "x-linked-size", &len)) != NULL) {
        a->has_size = a->linked_size = parse_number(v, len, &a->size);
    } else if ((v = value_of(line, n, "content-length", &len)) != NULL) {
        if (!a->linked_size && a->status / 100 == 2) a->has_size = parse_number(v, len, &a->size);
    } else if ((v = value_of(line, n, "content-range", &len)) != NULL) {
        take_range(a, v, len);
    } else if ((v = value_of(line, n, "x-error-code", &len)) != NULL) {
        copy_text(a->error_code, sizeof a->error_code, v, len);
    } else if ((v = value_of(line, n, "x-error-message", &len)) != NULL) {
        copy_text(a->error_text, sizeof a->error_text, v, len);
    } else if ((v = value_of(line, n, "retry-after", &len)) != NULL) {
        if (parse_number(v, len, &number) && number < 3600) a->retry_after = (long)number;
    }
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx) {
    mr_http_transfer *t = ctx;
    if (n * size > 5 && strncmp(line, "HTTP/", 5) == 0) { /* another response: after a redirect, or after a 100 */
        t->answer = (mr_http_answer){0};
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->answer.status);
    } else {
        take_header(&t->answer, line, n * size);
    }
    return n * size;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx) {
    mr_http_transfer *t = ctx;
    if (t->request.on_data == NULL || n == 0) return n * size;
    return t->request.on_data(t->request.ctx, &t->answer, bytes, n * size) ? n * size : CURL_WRITEFUNC_ERROR;
}

/* --- transfers --- */

static bool same_part(CURLU *a, CURLU *b, CURLUPart part) {
    char *x = NULL, *y = NULL;
    bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return same;
}

/* Whether both URLs have the same scheme, host and port. */
static bool same_origin(const char *url, const char *other) {
    CURLU *a = curl_url(), *b = curl_url();
    bool same = a != NULL && b != NULL && curl_url_set(a, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_set(b, CURLUPART_URL, other, 0) == CURLUE_OK && same_part(a, b, CURLUPART_SCHEME) &&
                same_part(a, b, CURLUPART_HOST) && same_part(a, b, CURLUPART_PORT);
    curl_url_cleanup(a);
    curl_url_cleanup(b);
    return same;
}

static void configure(const mr_http *http, mr_http_transfer *t) {
    CURL *e = t->easy;
    const mr_http_request *r = &t->request;
    bool encrypted = strncmp(http->env->endpoint, "https://", 8) == 0;
    const char *protocols = encrypted ? "https" : "http,https"; /* an encrypted way stays one */
    const char *authorities = getenv("SSL_CERT_FILE");
    curl_easy_setopt(e, CURLOPT_URL, r->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    /* libcurl drops the Authorization line where a redirect leads to another scheme, host or port. */
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, r->head ? 0L : 1L);
    curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER,
                     same_origin(r->url, http->env->endpoint) ? http->with_token : http->without_token);
    curl_easy_setopt(e, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "mistral-runner");
    curl_easy_setopt(e, CURLOPT_NOBODY, r->head ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, http->env->timeout);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    if (authorities != NULL && *authorities != '\0') curl_easy_setopt(e, CURLOPT_CAINFO, authorities);
    if (!r->has_range) return;
    char range[64];
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)r->first, (unsigned long long)r->last);
    curl_easy_setopt(e, CURLOPT_RANGE, range);
}

mr_http_transfer *mr_http_start(mr_http *http, const mr_http_request *request) {
    mr_http_transfer *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    t->request = *request;
    t->easy = curl_easy_init();
    if (t->easy != NULL) {
        configure(http, t);
        t->running = curl_multi_add_handle(http->multi, t->easy) == CURLM_OK;
        if (t->running) return t;
    }
    mr_http_end(http, t);
    return NULL;
}

static void finish(mr_http *http, mr_http_transfer *t, CURLcode code) {
    mr_http_answer *a = &t->answer;
    const char *redirect = NULL;
    if (t->request.head && curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &redirect) == CURLE_OK && redirect != NULL)
        a->redirect = strdup(redirect);
    if (code != CURLE_OK) {
        const char *text = t->error[0] != '\0' ? t->error : curl_easy_strerror(code);
        copy_text(a->failure, sizeof a->failure, text, strlen(text));
        a->forbidden = code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_TOO_MANY_REDIRECTS;
        a->no_connection = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                           code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_PEER_FAILED_VERIFICATION ||
                           code == CURLE_SSL_CONNECT_ERROR;
    }
    curl_multi_remove_handle(http->multi, t->easy);
    t->running = false;
}

static mr_http_transfer *take_finished(mr_http *http) {
    int n_left;
    for (CURLMsg *message; (message = curl_multi_info_read(http->multi, &n_left)) != NULL;) {
        if (message->msg != CURLMSG_DONE) continue;
        mr_http_transfer *t = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        finish(http, t, code);
        return t;
    }
    return NULL;
}

mr_http_transfer *mr_http_next(mr_http *http, int timeout_ms) {
    int n_running;
    mr_http_transfer *t = take_finished(http);
    if (t != NULL) return t;
    curl_multi_perform(http->multi, &n_running);
    t = take_finished(http);
    if (t != NULL || mr_cancel_is_set(http->cancel)) return t;
    curl_multi_poll(http->multi, NULL, 0, timeout_ms, NULL);
    curl_multi_perform(http->multi, &n_running);
    return take_finished(http);
}

const mr_http_answer *mr_http_answer_of(const mr_http_transfer *transfer) {
    return &transfer->answer;
}

void *mr_http_ctx(const mr_http_transfer *transfer) {
    return transfer->request.ctx;
}

void mr_http_end(mr_http *http, mr_http_transfer *t) {
    if (t == NULL) return;
    if (t->running) curl_multi_remove_handle(http->multi, t->easy);
    curl_easy_cleanup(t->easy);
    free(t->answer.redirect);
    free(t);
}

/* --- a small body --- */

typedef struct body {
    mr_buf *buf;
    size_t max_bytes;
    bool too_long;
} body;

static bool keep_body(void *ctx, const mr_http_answer *answer, const void *bytes, size_t n) {
    body *b = ctx;
    if (answer->status != 200) return true;
    b->too_long = n > b->max_bytes - b->buf->len;
    return !b->too_long && mr_buf_append(b->buf, bytes, n);
}

mr_status mr_http_get(mr_http *http, const char *url, size_t max_bytes, mr_buf *buf, mr_http_answer *answer,
                      mr_error *err) {
    body b = {.buf = buf, .max_bytes = max_bytes};
    mr_http_request request = {.url = url, .on_data = keep_body, .ctx = &b};
    mr_http_transfer *t = mr_http_start(http, &request), *done = NULL;
    if (t == NULL) return mr_fail_nomem(err, 0, "a download");
    while (done == NULL && !mr_cancel_is_set(http->cancel)) done = mr_http_next(http, 1000);
    mr_status status = MR_OK;
    *answer = t->answer;
    answer->redirect = NULL;
    if (done == NULL)
        status = mr_fail(err, MR_ERR_CANCELLED, "the download was cancelled");
    else if (b.too_long)
        status = mr_fail(err, MR_ERR_LIMIT, "%s has more than %zu bytes", url, max_bytes);
    else if (buf->failed)
        status = mr_fail_nomem(err, buf->len, "a download");
    mr_http_end(http, t);
    return status;
}

bool mr_http_is_passing(const mr_http_answer *a) {
    if (a->forbidden) return false;
    if (a->failure[0] != '\0' && a->status / 100 != 4) return !a->no_connection;
    return a->status == 429 || a->status == 408 || a->status / 100 == 5;
}

void mr_http_escape(mr_buf *url, const char *text, bool keep_slash) {
    for (const char *c = text; *c != '\0'; c++) {
        bool plain = isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL || (keep_slash && *c == '/');
        mr_buf_printf(url, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
}
