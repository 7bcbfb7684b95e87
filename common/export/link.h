/* A connection to one peer (a member or a backend), as its owner worker sees it. What talks to the
 * network sits behind this table of functions, so that outbox and exporter run in simulation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/forward.h"
#include "common/base/metadata.h"
#include "common/base/slice.h"
#include "common/export/compress.h"

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

/* How a call ended. Borrowed: valid during done. */
struct link_result {
    int code;               /* gRPC status code; 0: OK */
    uint64_t retry_ns;      /* RetryInfo; valid when has_retry */
    bool has_retry;
    bool too_large;         /* the message, says the peer in so many words */
    bool draining;          /* trailer tailrace-state: it serves still, and owns nothing any more (handoff rule L1) */
    struct slice message;   /* status message */
    struct slice response;  /* the response message, contiguous */
    struct slice rejected;  /* trailer tailrace-rejected-bin: varints; empty: none */
};

/* One call under way. Embed it; it must stay until done has run. */
struct link_call {
    void (*done)(struct link_call *call, const struct link_result *result);
    void *transport; /* the link's own */
};

struct link_message {
    const char *method;           /* LINK_EXPORT or a peer method's path */
    struct buffer *const *pieces; /* sent one after the other as one message; the link takes its own references */
    size_t piece_count;
    uint64_t deadline_ns;         /* monotonic */
    uint64_t ring;                /* sent as metadata tailrace-ring when not 0 */
    enum export_compression encoding;    /* of the pieces' bytes; compressed ones are one piece */
    const struct metadata_set *metadata; /* sent along, but for names that the link itself sends; NULL: none. Borrowed for send */
};
#define LINK_EXPORT "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

struct link;
struct link_ops {
    /* Starts a call; done runs later on the owner worker, always exactly once, never inside send. */
    void (*send)(struct link *link, const struct link_message *message, struct link_call *call);
    void (*cancel)(struct link *link, struct link_call *call);
    void (*free)(struct link *link);
};
struct link {
    const struct link_ops *ops;
    enum link_state state;
    /* Told of each change of state, on the owner worker. May be NULL. */
    void (*on_state)(struct link *link, void *context, enum link_state state);
    void *context;
};

static inline void link_send(struct link *link, const struct link_message *message, struct link_call *call)
{
    link->ops->send(link, message, call);
}

static inline void link_cancel(struct link *link, struct link_call *call)
{
    link->ops->cancel(link, call);
}

static inline void link_free(struct link *link)
{
    if (link)
        link->ops->free(link);
}

struct worker;
struct metadata_pair {
    const char *key, *value;
};
struct tls;
struct auth;
struct http_loop;

struct link_options {
    const char *address;               /* gRPC: host:port, numeric addresses are used as they are; HTTP: the URL */
    bool internal;                     /* lb -> sampler: large windows, quick reconnects, keepalive */
    const struct metadata_pair *headers; /* sent with each Export; ends with key NULL; may be NULL */
    struct tls *tls;                   /* NULL: plain text (HTTP: the URL says which) */
    struct auth *auth;                 /* a header of each Export; NULL: none */
    const char *user_agent, *authority; /* NULL: ours, the address's */
    const char *proxy_url;             /* HTTP only; NULL: none */
    struct forward forward;            /* headers of clients that are sent on */
    bool wait_for_ready;               /* gRPC only: calls wait for a connection until their deadline */
    int64_t keepalive_time_ns, keepalive_timeout_ns; /* gRPC only; 0: the link's own */
    bool keepalive_permit_without_stream;
};
/* Opens a gRPC channel of its own on the worker's queue and keeps trying to connect. On the worker's thread or before it starts. */
int link_grpc_new(struct worker *worker, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link);
/* OTLP/HTTP by POST, on the loop's thread. On the worker's thread or before it starts. */
int link_http_new(struct worker *worker, struct http_loop *loop, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link);
enum debug_verbosity { DEBUG_BASIC, DEBUG_NORMAL, DEBUG_DETAILED };
/* Each message as log lines. name: of the exporter, borrowed. Messages must not be compressed. */
int link_debug_new(struct worker *worker, const char *name, enum debug_verbosity verbosity, struct link **out_link);
/* Takes and forgets. */
int link_nop_new(struct worker *worker, struct link **out_link);
