/* OTLP/HTTP in: POST of one path, HTTP/1.1 and 1.0, protobuf and JSON. Nothing else is served.
 *
 * Bound   A head is HTTP_HEAD_BYTES_MAX; a body max_request_body_bytes as sent and as inflated; all bodies of the node that are being
 *         received or wait for a worker share `admission`; a client must be quick enough (timeouts). An idle connection costs its struct.
 * Order   one request at a time on a connection: what is pipelined waits in the socket.
 * Source  OTLP specification, OTLP/HTTP; collector confighttp
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config/otlp_config.h"
#include "common/ingest/admission.h"
#include "common/ingest/receiver.h"

struct http_loop;

struct receiver_http_options { /* borrowed until receiver_http_free, but for this struct itself */
    const char *endpoint;                 /* host:port, [v6]:port; port 0: any free one */
    const char *traces_url_path;
    uint64_t max_request_body_bytes;
    struct admission *admission;
    const struct cors_config *cors;
    uint64_t read_timeout_ns, read_header_timeout_ns, write_timeout_ns, idle_timeout_ns; /* 0: bounds of our own */
    uint64_t max_connection_age_ns;       /* 0: unlimited; each connection's differs by up to a tenth */
    bool keep_alives_enabled;
    char *const *response_headers;        /* key, value, …, NULL; or NULL */
    struct tls *tls;                      /* NULL: plain text */
    struct auth *auth;                    /* NULL: everybody may send */
    const char *challenge;                /* value of WWW-Authenticate, with auth */
    const struct forward *forward;        /* headers that become request.metadata; NULL: none */
};

struct receiver_http_threads {
    struct http_loop *const *loops;
    struct metrics_cell *cells; /* one a loop */
    unsigned loop_count;
    struct worker *const *workers; /* requests go to them in turn */
    unsigned worker_count;
};

struct receiver_http;
/* Listens at once; traffic begins with receiver_http_start. Errors: -errno with a line in out_error. */
int receiver_http_new(const struct receiver_http_options *options, const struct receiver_http_threads *threads,
    const struct tier_entry *entry, struct receiver_http **out_receiver, char *out_error, size_t error_size);
int receiver_http_port(const struct receiver_http *receiver);
/* After the loops were started. */
void receiver_http_start(struct receiver_http *receiver);
/* From now on every answer says so, in header tailrace-state. Any thread. */
void receiver_http_draining(struct receiver_http *receiver);
/* No new connections, idle ones end, requests under way are answered and their connections closed; then on_done, on an HTTP thread.
 * Any thread, once. */
void receiver_http_shutdown(struct receiver_http *receiver, void (*on_done)(void *context), void *context);
/* Ends all connections now; on_done of a shutdown comes when the tier has answered what it took. Any thread, once. */
void receiver_http_cancel_all(struct receiver_http *receiver);
/* After the loops have ended. Accepts NULL. */
void receiver_http_free(struct receiver_http *receiver);
