/* All that a tier listens on: every otlp receiver of its pipeline, each over gRPC, HTTP or both, moved as one.
 *
 * Life    listeners_new listens; traffic begins with listeners_start; after listeners_shutdown and its on_done nothing comes in.
 * Threads HTTP lives on the tier's HTTP threads and ends before them; gRPC on the workers' queues.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config/otlp_config.h"
#include "common/ingest/receiver.h"

struct http_loop;
struct listeners;
struct security;

struct listeners_options { /* borrowed until listeners_free, but for this struct itself */
    const struct otlp_receiver_config *configs;
    size_t config_count;
    struct worker *const *workers;
    unsigned worker_count;
    struct http_loop *const *loops;
    struct metrics_cell *loop_cells;             /* one a loop */
    unsigned loop_count;
    struct security *security;                   /* makes and keeps TLS and credentials */
    const struct config_strings *forward_headers; /* tailrace.forward_headers and what else names headers to carry */
    bool internal;                               /* clients are balancers of the cluster */
    uint64_t memory_bytes;                       /* of the node: requests being received may take a tenth of it, over gRPC and over HTTP */
    uint64_t store_limit_bytes;                  /* the user's limit of the store, 65 % of what the node may use; 0: none set */
};

/* Errors: a line in out_error. *out_listeners is set all the same: what listens already ends by listeners_stop and listeners_free. */
int listeners_new(const struct listeners_options *options, const struct tier_entry *entry, struct listeners **out_listeners,
    char *out_error, size_t error_size);
void listeners_start(struct listeners *listeners);
/* What the health services answer. Any thread. */
void listeners_health(struct listeners *listeners, bool serving);
/* From now on every answer says that this node drains; it is served on. Any thread. */
void listeners_draining(struct listeners *listeners);
/* "otlp_grpc_port=4317 otlp_http_port=4318" for the log; several ports of a kind stand with a comma between. Returns text. */
const char *listeners_ports(const struct listeners *listeners, char *text, size_t size);
#define LISTENERS_PORTS_SIZE 256
/* Of the first gRPC receiver; 0: there is none. */
int listeners_grpc_port(const struct listeners *listeners);
/* As receiver_shutdown: on_done runs once, on any thread, after the last of them. */
void listeners_shutdown(struct listeners *listeners, void (*on_done)(void *context), void *context);
/* The end of the grace period. */
void listeners_cancel_all(struct listeners *listeners);
/* For an end without listeners_shutdown, after the HTTP threads have ended and before the workers' queues are closed. Accepts NULL. */
void listeners_stop(struct listeners *listeners);
/* After the workers' queues were closed. Accepts NULL. */
void listeners_free(struct listeners *listeners);
