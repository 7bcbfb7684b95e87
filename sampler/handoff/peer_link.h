/* One address of another sampler: the connection to it, and unary calls over it from any thread of ours.
 *
 * Owner   one worker has the connection. A call made elsewhere goes there by mail and its answer comes back by mail to where it
 *         was made; `done` runs there, always exactly once, never inside peer_link_call.
 * Bound   every call has a deadline; who gives bounds how many are under way. A response over PEER_RESPONSE_MAX is a failure.
 * Life    counted: the cluster's table holds one reference, each view that names it one, each call under way one. Closed, which is
 *         final, it ends its connection; calls that come later fail as UNAVAILABLE.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/list.h"
#include "common/export/link.h"
#include "common/run/mailbox.h"
#include "common/run/worker.h"

#define PEER_RESPONSE_MAX (4u << 20)

struct control;
struct peer_link;

/* Embed it. Fill in the first part; the second is the answer, valid from done until peer_call_release. */
struct peer_call {
    const char *method;      /* "/tailrace.v1.Peer/Give": a literal */
    struct buffer *message;  /* borrowed for peer_link_call only: the call holds its own reference until done */
    uint64_t deadline_ns;    /* monotonic */
    struct worker *home;     /* where it is made and where done runs; NULL: the control thread */
    void (*done)(struct peer_call *call);

    int code;                /* gRPC status code; 0: answered */
    bool has_retry;
    uint64_t retry_ns;       /* RetryInfo; valid when has_retry */
    struct buffer *response; /* NULL when code is not 0 */
    char text[160];          /* the status message of a failure */

    struct peer_link *link;  /* the link's own from here on */
    struct link_call wire;
    struct mail mail;
    struct list node;
};

void peer_link_call(struct peer_link *link, struct peer_call *call);
/* Frees the answer; accepts a call that was never made but is all zero. */
void peer_call_release(struct peer_call *call);

/* Both on the control thread. state: the connection came up (or is up anew) or went down. */
struct peer_link_events {
    void *context;
    void (*state)(void *context, struct peer_link *link, bool up);
    void (*closed)(void *context, struct peer_link *link); /* its worker knows it no more: the last word of a link that was closed */
};

/* Opens on its worker, by mail. address, options: as of link_grpc_new; options (NULL: plain text) must outlive the link. events:
 * copied. index: the caller's own number of it. NULL: no memory. */
struct peer_link *peer_link_new(const char *address, unsigned index, struct worker *worker, struct control *control,
    const struct link_options *options, const struct peer_link_events *events);
struct peer_link *peer_link_ref(struct peer_link *link); /* any thread */
void peer_link_unref(struct peer_link *link);            /* any thread; accepts NULL */
/* The control thread, once: calls under way end as CANCELLED, the connection ends, then `closed`. */
void peer_link_close(struct peer_link *link);
/* After the workers were joined, before their queues are closed: the same, at once and without `closed`. */
void peer_link_stop(struct peer_link *link);

bool peer_link_is_up(const struct peer_link *link); /* any thread, as it was a moment ago */
const char *peer_link_address(const struct peer_link *link);
unsigned peer_link_index(const struct peer_link *link);
