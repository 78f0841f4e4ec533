/* Endpoints and the connections to them. */
#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::rpc"
#include "service/rpc_impl.h"

#include "base/file.h"
#include "base/log.h"

#include <ctype.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DEFAULT_CONNECT_MS = 10000, DEFAULT_KEEPALIVE_MS = 60000, KEEPALIVE_REPLY_MS = 20000 };
enum { DEFAULT_MAX_MESSAGE = 16 << 20, MAX_ENDPOINT = 512, MAX_BACKOFF_MS = 30000, MAX_ROOTS = 16 << 20 };

gpr_timespec mr_rpc_deadline(uint32_t ms) {
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

static mr_status bad_endpoint(const char *endpoint, const char *why, mr_error *err) {
    return mr_fail(err, MR_ERR_INVALID, "the gRPC endpoint \"%.*s\" %s; write it as http://HOST:PORT", MAX_ENDPOINT,
                   endpoint, why);
}

static bool is_port(const char *text, size_t len) {
    long value = 0;
    if (len == 0 || len > 5) return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
        value = value * 10 + (text[i] - '0');
    }
    return value >= 1 && value <= 65535;
}

/* Where HOST:PORT has its colon; len when there is no port. An IPv6 address stands in brackets. */
static size_t find_port(const char *authority, size_t len) {
    size_t from = 0;
    const char *bracket = authority[0] == '[' ? memchr(authority, ']', len) : NULL;
    if (bracket != NULL) from = (size_t)(bracket - authority);
    const char *colon = memchr(authority + from, ':', len - from);
    return colon != NULL ? (size_t)(colon - authority) : len;
}

static mr_status parse_endpoint(mr_rpc_channel *channel, const char *endpoint, mr_error *err) {
    const char *rest = endpoint;
    if (strlen(endpoint) > MAX_ENDPOINT) return bad_endpoint(endpoint, "is too long", err);
    if (strncasecmp(rest, "http://", 7) == 0) {
        rest += 7;
    } else if (strncasecmp(rest, "https://", 8) == 0) {
        rest += 8;
        channel->tls = true;
    } else if (strstr(rest, "://") != NULL) {
        return bad_endpoint(endpoint, "has a scheme other than http and https", err);
    }
    size_t len = strcspn(rest, "/");
    if (rest[len] == '/' && rest[len + 1] != '\0') return bad_endpoint(endpoint, "has a path", err);
    for (size_t i = 0; i < len; i++) {
        if (rest[i] <= ' ' || rest[i] >= 127 || strchr("@?#%\\", rest[i]) != NULL)
            return bad_endpoint(endpoint, "holds a character that no address has", err);
    }
    size_t n_host = find_port(rest, len);
    if (n_host == 0) return bad_endpoint(endpoint, "names no host", err);
    bool has_port = n_host < len;
    if (has_port && !is_port(rest + n_host + 1, len - n_host - 1))
        return bad_endpoint(endpoint, "has no port from 1 to 65535", err);
    mr_buf target = {0};
    mr_buf_append(&target, rest, len);
    if (!has_port) mr_buf_puts(&target, channel->tls ? ":443" : ":80");
    channel->target = mr_buf_take(&target);
    channel->endpoint = strdup(endpoint);
    if (channel->target != NULL && channel->endpoint != NULL) return MR_OK;
    return mr_fail_nomem(err, len, "the gRPC endpoint");
}

mr_status mr_rpc_channel_new(mr_rpc_channel **channel, const mr_rpc_options *options, mr_error *err) {
    *channel = NULL;
    mr_rpc_channel *c = calloc(1, sizeof *c);
    if (c == NULL) return mr_fail_nomem(err, sizeof *c, "a gRPC channel");
    atomic_init(&c->n_refs, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->connect_timeout_ms = options->connect_timeout_ms != 0 ? options->connect_timeout_ms : DEFAULT_CONNECT_MS;
    c->keepalive_ms = options->keepalive_ms != 0 ? options->keepalive_ms : DEFAULT_KEEPALIVE_MS;
    c->max_message_bytes = options->max_message_bytes != 0 ? options->max_message_bytes : DEFAULT_MAX_MESSAGE;
    mr_status status = parse_endpoint(c, options->endpoint, err);
    if (status != MR_OK)
        mr_rpc_channel_unref(c);
    else
        *channel = c;
    return status;
}

mr_rpc_channel *mr_rpc_channel_ref(mr_rpc_channel *channel) {
    atomic_fetch_add_explicit(&channel->n_refs, 1, memory_order_relaxed);
    return channel;
}

void mr_rpc_channel_unref(mr_rpc_channel *channel) {
    if (channel == NULL || atomic_fetch_sub_explicit(&channel->n_refs, 1, memory_order_acq_rel) != 1) return;
    mr_rpc_link_release(channel->link);
    pthread_mutex_destroy(&channel->lock);
    free(channel->target);
    free(channel->endpoint);
    free(channel);
}

const char *mr_rpc_channel_endpoint(const mr_rpc_channel *channel) {
    return channel->endpoint;
}

/* --- links --- */

static grpc_arg integer(const char *key, uint32_t value) {
    int n = value > INT32_MAX ? INT32_MAX : (int)value;
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = n};
}

/* Roots: those of SSL_CERT_FILE, else the system's. */
static grpc_channel_credentials *secure_credentials(void) {
    const char *path = getenv("SSL_CERT_FILE");
    mr_buf roots = {0};
    mr_error err = {0};
    if (path != NULL && *path != '\0' && mr_file_read(&roots, path, MAX_ROOTS, &err) != MR_OK)
        MR_WARN("SSL_CERT_FILE: %s; the system's certificates are used", err.text);
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create(roots.len > 0 ? roots.data : NULL, NULL, NULL, NULL);
    mr_buf_free(&roots);
    return credentials;
}

/* No proxy and no configuration from DNS: the endpoint is what is connected to. Subchannels are not shared with other
 * users of gRPC in this process, so that a link that is thrown away takes its back-off with it. */
static grpc_channel *open_channel(const mr_rpc_channel *channel) {
    grpc_arg args[] = {
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, channel->keepalive_ms),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_REPLY_MS),
        integer(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, channel->connect_timeout_ms),
        integer(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, MAX_BACKOFF_MS),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, channel->max_message_bytes),
        integer(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, channel->max_message_bytes),
        integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        integer(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        integer(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        {.type = GRPC_ARG_STRING,
         .key = (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
         .value.string = (char *)"mistral-runner"},
    };
    grpc_channel_args all = {.num_args = sizeof args / sizeof args[0], .args = args};
    grpc_channel_credentials *credentials = channel->tls ? secure_credentials() : grpc_insecure_credentials_create();
    if (credentials == NULL) return NULL;
    grpc_channel *opened = grpc_channel_create(channel->target, credentials, &all);
    grpc_channel_credentials_release(credentials);
    return opened;
}

static mr_rpc_link *open_link(const mr_rpc_channel *channel) {
    mr_rpc_link *link = calloc(1, sizeof *link);
    if (link == NULL) return NULL;
    atomic_init(&link->n_refs, 1);
    grpc_init();
    link->grpc = open_channel(channel);
    if (link->grpc != NULL) return link;
    grpc_shutdown();
    free(link);
    return NULL;
}

void mr_rpc_link_release(mr_rpc_link *link) {
    if (link == NULL || atomic_fetch_sub_explicit(&link->n_refs, 1, memory_order_acq_rel) != 1) return;
    grpc_channel_destroy(link->grpc);
    grpc_shutdown();
    free(link);
}

mr_rpc_link *mr_rpc_link_acquire(mr_rpc_channel *channel) {
    mr_rpc_link *stale = NULL;
    pthread_mutex_lock(&channel->lock);
    mr_rpc_link *link = channel->link;
    if (link != NULL && grpc_channel_check_connectivity_state(link->grpc, 0) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
        stale = link;
        link = NULL;
    }
    if (link == NULL) link = channel->link = open_link(channel);
    if (link != NULL) atomic_fetch_add_explicit(&link->n_refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&channel->lock);
    mr_rpc_link_release(stale);
    return link;
}
