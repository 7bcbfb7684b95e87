/* OTLP in: requests from clients, answered once, whatever brought them: gRPC (receiver_grpc.c) or HTTP (receiver_http.h).
 *
 * A request belongs to the worker whose queue it came on: settle or refuse it there, exactly once.
 * Its bytes are contiguous and borrowed: valid until the tier's on_request returns, longer only by
 * request_hold. Received gRPC slices are never held (reference: a 300-byte reference pins 64 KiB).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/metadata.h"
#include "common/base/slice.h"
#include "common/metrics/metrics.h"
#include "common/run/worker.h"

struct auth;
struct forward;
struct tls;
struct transport;

struct request {
    const struct transport *transport;
    struct worker *worker;
    struct buffer *body;     /* what bytes point into; NULL: memory of the transport's */
    const struct metadata_set *metadata; /* the client's headers that forward_headers names; NULL: none. Borrowed until the answer */
    struct slice bytes;      /* ExportTraceServiceRequest */
    uint64_t received_ns;
    uint64_t deadline_ns;    /* monotonic; UINT64_MAX: the client set none */
    uint64_t peer_ring;      /* fingerprint from metadata tailrace-ring; 0: none sent */
};

/* Why a request was refused; the label of the refusal counter. */
enum refusal {
    REFUSED_MALFORMED,    /* INVALID_ARGUMENT, final */
    REFUSED_ENCODING,     /* UNIMPLEMENTED (unknown grpc-encoding) or INVALID_ARGUMENT (broken compressed bytes) */
    REFUSED_TOO_LARGE,    /* RESOURCE_EXHAUSTED without RetryInfo, final */
    REFUSED_MEMORY,       /* last rung of the ladder: RESOURCE_EXHAUSTED with RetryInfo */
    REFUSED_OUTBOX_FULL,  /* RESOURCE_EXHAUSTED with RetryInfo */
    REFUSED_NO_MEMBER,    /* no sampler reachable: UNAVAILABLE with RetryInfo */
    REFUSED_DELIVERY,     /* a member refused or did not answer in time: status as the member's, or UNAVAILABLE with RetryInfo */
    REFUSED_EXPIRED,      /* DEADLINE_EXCEEDED: its client has given up already and will send it again */
    REFUSED_UNAUTHENTICATED, /* UNAUTHENTICATED / 401: no credentials, or wrong ones */
    REFUSED_CONTENT_TYPE, /* HTTP: 415 */
    REFUSED_TIMEOUT,      /* HTTP: 408, it did not arrive in time */
    REFUSED_JOURNAL,      /* sampler: its journal is full (RESOURCE_EXHAUSTED) or fails (UNAVAILABLE), both with RetryInfo */
    REFUSAL_COUNT,
};

/* A status as it goes to the client. */
struct answer_status {
    int code;               /* gRPC status code */
    uint64_t retry_ns;      /* > 0: RetryInfo is attached */
    const char *message;    /* English, without the peer's secrets */
};

typedef void request_fn(void *tier, struct request *request);

/* What brought a request, and takes its answer. Tiers use the functions below; the metrics are for their counts of spans. */
struct transport {
    void (*settle)(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer);
    void (*refuse)(struct request *request, struct answer_status status);
    enum metric_id accepted_spans, refused_spans;
};

/* Answers OK. rejected: indices of spans (in this request, rising) that can never be accepted;
 * they become partial_success and, when send_trailer, trailer tailrace-rejected-bin (varints). message says why. */
void request_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer);
/* As request_settle with only the number known. */
void request_settle_count(struct request *request, size_t rejected_count, const char *message);
void request_refuse(struct request *request, enum refusal refusal, struct answer_status status);
static inline enum metric_id refusal_metric(enum refusal refusal)
{
    return (enum metric_id)(METRIC_REFUSED_MALFORMED + (int)refusal);
}
/* Usual status of a refusal: code, message and a retry delay of its own. */
struct answer_status refusal_status(enum refusal refusal);

/* A contiguous buffer of the request's bytes that outlives the call (no copy when there is one already); NULL: no memory. */
struct buffer *request_hold(struct request *request);

/* Sums over the transports. */
uint64_t ingest_accepted_spans(const struct metrics *metrics);
uint64_t ingest_refused_spans(const struct metrics *metrics);

/* -- gRPC ------------------------------------------------------------------------------------------------------------------- */

struct receiver_options {
    const char *endpoint;               /* host:port, [v6]:port; port 0: any free one */
    bool internal;                      /* clients are balancers of the cluster: large windows, frequent keepalive allowed */
    uint64_t max_recv_msg_bytes;
    uint32_t max_concurrent_streams;    /* 0: no limit of the user's */
    uint64_t quota_bytes;               /* last fence inside gRPC; 0: none */
    uint64_t max_connection_age_ns, max_connection_age_grace_ns, max_connection_idle_ns; /* 0: unlimited */
    uint64_t keepalive_time_ns, keepalive_timeout_ns;                                     /* 0: library's */
    uint64_t keepalive_min_time_ns;
    bool keepalive_permit_without_stream;
    struct tls *tls;                    /* NULL: plain text */
    struct auth *auth;                  /* NULL: everybody may send */
    const struct forward *forward;      /* headers that become request.metadata; NULL: none */
};

/* One unary method of our own beside Export, for the peer protocol: answers bytes or a status. Control-size messages. */
struct peer_method {
    const char *path; /* "/tailrace.v1.Peer/Hello" */
    /* Runs on the worker; fill *out_answer (new buffer) and return 0, or a gRPC status code. May instead keep `call`
     * and return -1, answering later on the same worker with peer_call_answer. */
    int (*serve)(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer);
};
void peer_call_answer(void *call, int status, struct buffer *answer);

struct receiver;
struct tier_entry { /* what a receiver calls */
    void *tier;
    request_fn *on_request;
    const struct peer_method *methods; /* ends with path NULL; may be NULL */
};

/* Listens at once; traffic begins with receiver_start. workers: count of them. Errors: -EADDRINUSE … with a line in out_error. */
int receiver_new(const struct receiver_options *options, struct worker *const *workers, unsigned count, const struct tier_entry *entry,
    struct receiver **out_receiver, char *out_error, size_t error_size);
int receiver_port(const struct receiver *receiver);
void receiver_start(struct receiver *receiver);
/* gRPC health service: SERVING or NOT_SERVING for "" and for the trace service. Any thread. */
void receiver_health(struct receiver *receiver, bool serving);
/* From now on every answer says so, in trailer tailrace-state: a draining sampler serves still, and owns nothing. Any thread. */
void receiver_draining(struct receiver *receiver);
/* GOAWAY, no new connections, in-flight requests go on; on_done runs on a worker when every one of them was answered, also
 * those whose clients have gone. Any thread, once. */
void receiver_shutdown(struct receiver *receiver, void (*on_done)(void *context), void *context);
/* Ends in-flight requests with CANCELLED: the end of the grace period. */
void receiver_cancel_all(struct receiver *receiver);
/* For an end without receiver_shutdown (a failed start): before the workers' queues are closed, from the thread that closes them.
 * Accepts NULL. */
void receiver_stop(struct receiver *receiver);
/* After the workers' queues were closed. Accepts NULL. */
void receiver_free(struct receiver *receiver);
