#include "common/ingest/listeners.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/forward.h"
#include "common/base/num.h"
#include "common/ingest/receiver_http.h"
#include "common/security/security.h"

struct listeners {
    struct forward forward;
    struct admission admission; /* bodies in reception over HTTP, of all receivers */
    struct receiver *grpc[OTLP_RECEIVERS_MAX];
    size_t grpc_count;
    struct receiver_http *http[OTLP_RECEIVERS_MAX];
    size_t http_count;
    atomic_uint open; /* not shut down yet, and one for listeners_shutdown itself */
    void (*on_done)(void *context);
    void *done_context;
};

/* The last fence against requests in reception, whatever the clients: a tenth of the memory, but room for a few large ones. */
static uint64_t reception_bytes(const struct listeners_options *options)
{
    return u64_max(options->memory_bytes / 10, 64 * MIB);
}

/* Bodies over HTTP heed the user's limit too: we allocate them ourselves. */
static uint64_t body_bytes(const struct listeners_options *options)
{
    uint64_t node_bytes = options->store_limit_bytes > 0 ? options->store_limit_bytes / 65 * 100 : options->memory_bytes;

    return u64_max(u64_min(node_bytes, options->memory_bytes) / 10, 64 * MIB);
}

/* TLS and credentials of one protocol; NULL where the file has none. */
static int secure(const struct listeners_options *options, const struct otlp_receiver_config *from, const char *protocol,
    const struct tls_options *tls_options, const struct auth_options *auth_options, struct tls **out_tls, struct auth **out_auth,
    char *out_error, size_t error_size)
{
    char name[200];

    *out_tls = NULL;
    *out_auth = NULL;
    (void)snprintf(name, sizeof(name), "receivers.%s.protocols.%s.tls", from->id, protocol);
    if (tls_options && security_tls(options->security, name, tls_options, true, out_tls, out_error, error_size))
        return error_raise(-EINVAL);
    (void)snprintf(name, sizeof(name), "extensions.%s", auth_options ? auth_options->id : "");
    if (auth_options && security_auth(options->security, name, auth_options, true, out_auth, out_error, error_size))
        return error_raise(-EINVAL);
    return 0;
}

static int listen_grpc(struct listeners *listeners, const struct listeners_options *options, const struct otlp_receiver_config *from,
    const struct tier_entry *entry, char *out_error, size_t error_size)
{
    struct receiver_options receiver = {
        .endpoint = from->grpc_endpoint,
        .internal = options->internal,
        .max_recv_msg_bytes = from->max_recv_msg_bytes,
        .max_concurrent_streams = (uint32_t)u64_min(from->max_concurrent_streams, UINT32_MAX),
        .quota_bytes = reception_bytes(options),
        .max_connection_idle_ns = (uint64_t)from->keepalive_max_connection_idle_ns,
        .max_connection_age_ns = (uint64_t)from->keepalive_max_connection_age_ns,
        .max_connection_age_grace_ns = (uint64_t)from->keepalive_max_connection_age_grace_ns,
        .keepalive_time_ns = (uint64_t)from->keepalive_time_ns,
        .keepalive_timeout_ns = (uint64_t)from->keepalive_timeout_ns,
        .keepalive_min_time_ns = (uint64_t)from->keepalive_min_time_ns,
        .keepalive_permit_without_stream = from->keepalive_permit_without_stream,
        .forward = from->grpc_include_metadata ? &listeners->forward : NULL,
    };
    int r = secure(options, from, "grpc", from->grpc_tls, from->grpc_auth, &receiver.tls, &receiver.auth, out_error, error_size);

    if (r)
        return error_pass(r);
    r = receiver_new(&receiver, options->workers, options->worker_count, entry, &listeners->grpc[listeners->grpc_count], out_error,
        error_size);
    if (r == 0)
        listeners->grpc_count++;
    return error_pass(r);
}

static int listen_http(struct listeners *listeners, const struct listeners_options *options, const struct otlp_receiver_config *from,
    const struct tier_entry *entry, char *out_error, size_t error_size)
{
    const struct receiver_http_threads threads = {
        .loops = options->loops,
        .cells = options->loop_cells,
        .loop_count = options->loop_count,
        .workers = options->workers,
        .worker_count = options->worker_count,
    };
    struct receiver_http_options receiver = {
        .endpoint = from->http_endpoint,
        .traces_url_path = from->traces_url_path,
        .max_request_body_bytes = from->max_request_body_bytes,
        .admission = &listeners->admission,
        .cors = &from->cors,
        .read_timeout_ns = (uint64_t)from->read_timeout_ns,
        .read_header_timeout_ns = (uint64_t)from->read_header_timeout_ns,
        .write_timeout_ns = (uint64_t)from->write_timeout_ns,
        .idle_timeout_ns = (uint64_t)from->idle_timeout_ns,
        .max_connection_age_ns = (uint64_t)from->keepalive_max_connection_age_ns,
        .keep_alives_enabled = from->keep_alives_enabled,
        .response_headers = from->response_headers,
        .challenge = from->http_auth && from->http_auth->kind == AUTH_BASIC ? "Basic realm=\"otlp\", charset=\"UTF-8\"" : "Bearer",
        .forward = from->http_include_metadata ? &listeners->forward : NULL,
    };
    int r = secure(options, from, "http", from->http_tls, from->http_auth, &receiver.tls, &receiver.auth, out_error, error_size);

    if (r)
        return error_pass(r);
    r = receiver_http_new(&receiver, &threads, entry, &listeners->http[listeners->http_count], out_error, error_size);
    if (r == 0)
        listeners->http_count++;
    return error_pass(r);
}

int listeners_new(const struct listeners_options *options, const struct tier_entry *entry, struct listeners **out_listeners,
    char *out_error, size_t error_size)
{
    struct listeners *listeners = calloc(1, sizeof(*listeners));
    int r = 0;

    if (!listeners)
        return error_raise(-ENOMEM);
    *out_listeners = listeners;
    listeners->admission.limit_bytes = body_bytes(options);
    if (options->forward_headers)
        listeners->forward =
            (struct forward){(const char *const *)options->forward_headers->items, options->forward_headers->count};
    for (size_t i = 0; i < options->config_count && r == 0; i++) {
        if (options->configs[i].grpc_set)
            r = listen_grpc(listeners, options, &options->configs[i], entry, out_error, error_size);
        if (options->configs[i].http_set && r == 0)
            r = listen_http(listeners, options, &options->configs[i], entry, out_error, error_size);
    }
    return error_pass(r);
}

void listeners_start(struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->grpc_count; i++)
        receiver_start(listeners->grpc[i]);
    for (size_t i = 0; i < listeners->http_count; i++)
        receiver_http_start(listeners->http[i]);
}

void listeners_health(struct listeners *listeners, bool serving)
{
    for (size_t i = 0; i < listeners->grpc_count; i++)
        receiver_health(listeners->grpc[i], serving);
}

void listeners_draining(struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->grpc_count; i++)
        receiver_draining(listeners->grpc[i]);
    for (size_t i = 0; i < listeners->http_count; i++)
        receiver_http_draining(listeners->http[i]);
}

const char *listeners_ports(const struct listeners *listeners, char *text, size_t size)
{
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < listeners->grpc_count && len < size; i++)
        len += (size_t)snprintf(text + len, size - len, "%s%d", i ? "," : "otlp_grpc_port=", receiver_port(listeners->grpc[i]));
    for (size_t i = 0; i < listeners->http_count && len < size; i++)
        len += (size_t)snprintf(text + len, size - len, "%s%d", i ? "," : len ? " otlp_http_port=" : "otlp_http_port=",
            receiver_http_port(listeners->http[i]));
    return text;
}

int listeners_grpc_port(const struct listeners *listeners)
{
    return listeners->grpc_count > 0 ? receiver_port(listeners->grpc[0]) : 0;
}

static void listeners_release(void *context)
{
    struct listeners *listeners = context;

    if (atomic_fetch_sub(&listeners->open, 1) == 1)
        listeners->on_done(listeners->done_context);
}

void listeners_shutdown(struct listeners *listeners, void (*on_done)(void *context), void *context)
{
    listeners->on_done = on_done;
    listeners->done_context = context;
    atomic_store(&listeners->open, (unsigned)(listeners->grpc_count + listeners->http_count) + 1);
    for (size_t i = 0; i < listeners->grpc_count; i++)
        receiver_shutdown(listeners->grpc[i], listeners_release, listeners);
    for (size_t i = 0; i < listeners->http_count; i++)
        receiver_http_shutdown(listeners->http[i], listeners_release, listeners);
    listeners_release(listeners);
}

void listeners_cancel_all(struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->grpc_count; i++)
        receiver_cancel_all(listeners->grpc[i]);
    for (size_t i = 0; i < listeners->http_count; i++)
        receiver_http_cancel_all(listeners->http[i]);
}

void listeners_stop(struct listeners *listeners)
{
    for (size_t i = 0; listeners && i < listeners->grpc_count; i++)
        receiver_stop(listeners->grpc[i]);
}

void listeners_free(struct listeners *listeners)
{
    for (size_t i = 0; listeners && i < listeners->grpc_count; i++)
        receiver_free(listeners->grpc[i]);
    for (size_t i = 0; listeners && i < listeners->http_count; i++)
        receiver_http_free(listeners->http[i]);
    free(listeners);
}
