/* One connection of an HTTP client, from accept to close. Inside of receiver_http.c, which owns the homes.
 *
 * Thread  all here runs on the home's loop, save what the worker does with a request: between http_connection's mail to the worker and
 *         its mail back the request and the answer are the worker's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

#include "common/base/list.h"
#include "common/ingest/http_body.h"
#include "common/ingest/http_parse.h"
#include "common/ingest/receiver_http.h"
#include "common/metrics/text.h"

/* What connections of a receiver share: immutable, but for `draining`. */
struct http_service {
    struct receiver_http_options options;
    struct tier_entry entry;
    struct worker **workers;
    unsigned worker_count;
    char *header_lines; /* response_headers as they are sent, or "" */
    atomic_bool draining; /* every answer says so */
};

/* A receiver's share on one loop. */
struct http_home {
    const struct http_service *service;
    struct http_loop *loop;
    struct metrics_cell *cell;
    struct list connections, again;  /* again: those with more to do than one turn allows */
    struct event *again_timer;
    size_t connection_count;
    unsigned next_worker;
    uint64_t now_ns, jitter;
    bool draining;
    void (*on_empty)(struct http_home *home); /* draining, and the last connection has gone */
    /* scratch for whatever connection has its turn */
    uint8_t *input;
    struct http_head head;
    struct text output;
    struct http_body_reader *reader;
    char date[48];
    uint64_t date_until_ns;
};

/* 0 or -ENOMEM; deinit also after that. Before the loop runs, or on it. */
int http_home_init(struct http_home *home, const struct http_service *service, struct http_loop *loop, struct metrics_cell *cell);
/* After the loop has ended. */
void http_home_deinit(struct http_home *home);
/* Takes an accepted socket. */
void http_home_adopt(struct http_home *home, int fd);
/* Ends what took too long; a few times a second. */
void http_home_sweep(struct http_home *home);
/* Ends idle connections; the others are closed with their answers. on_empty may come at once. */
void http_home_drain(struct http_home *home);
/* Ends all connections; those whose requests a worker has are freed with the answer. */
void http_home_cancel(struct http_home *home);
