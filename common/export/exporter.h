/* Survivors on their way to a backend: a queue of units bounded in bytes, regrouped into requests when a call is
 * free, retried until the backend has them.
 *
 * Shape   units wait as they are (in their trace's blocks: no second copy) until a call may start; then as many as one request
 *         may hold become one request. At most `max_calls` are under way. Units of unequal metadata never share a request.
 * Flush   when a batch is full or as large as the user wants at least, else after flush_timeout; where the user names no least
 *         size, also at once while no request is under way.
 * Sizes   a request aims at 1 MiB. A user's least size may pass that, up to 4 MiB, the limit of most gRPC servers; a user's
 *         most is kept by cutting a larger unit into several requests, sent one after the other.
 * Failure retryable: the same bytes again after retry.h's delay; a link that comes up ends that wait, unless the
 *         server named the delay. A link that is DOWN counts as a failed attempt without a call. Final refusal
 *         (INVALID_ARGUMENT, too large, ...): counted, dropped. partial_success: counted, not sent again, as the
 *         OTLP specification wants. The tier logs once a period, from exporter_stats.
 * Halves  a request that is too large for the backend, or of which it cannot read a part, is sent in halves, not below 64 KiB.
 * Back    exporter_withdraw: units that another node is to export leave the queue, and requests that wait for a retry; the others of such a
 *         request keep its place and its times. What is in a running call leaves when that call has failed.
 * Owner   one worker. No I/O of its own: a link is passed in, time is passed in.
 * Source  collector exporterhelper (sending_queue, retry_on_failure, timeout), otlp exporter.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/base/metadata.h"
#include "common/export/compress.h"
#include "common/export/link.h"
#include "common/export/retry.h"
#include "common/otlp/regroup.h"

enum export_outcome {
    EXPORTED,            /* the backend has it */
    EXPORT_REFUSED,      /* the backend refused for good */
    EXPORT_GAVE_UP,      /* max_elapsed_time passed */
    EXPORT_QUEUE_FULL,   /* queue_size set by the user was reached */
    EXPORT_STOPPED,      /* the process ended first */
};

/* Spans that are exported together: one decided trace, or late spans of one. Embedded in its owner, who leaves it
 * as it is from exporter_take to settled. */
struct export_unit {
    struct list node;
    uint64_t size_bytes;  /* about, as regrouped */
    const struct metadata_set *metadata; /* of the client, lent until settled; NULL: none */
    uint32_t span_count;
    bool leaving;         /* the exporter's own use: it is withdrawn, and in a running call */
    bool is_part, is_back; /* the owner's own use, as is the next */
    uint8_t delivered;
};

/* `settled` may call exporter_take; otherwise none of these may call the exporter. */
struct exporter_owner { /* how an exporter asks about and gives back its units */
    void *context;
    /* Adds the unit's spans to the regroup; 0 or -ENOMEM. What it lends must stay until `encoded`. */
    int (*add)(void *context, struct export_unit *unit, struct regroup *regroup);
    /* The request's bytes were written: the unit's span bytes are no longer needed (its counts still are). */
    void (*encoded)(void *context, struct export_unit *unit);
    /* The unit is settled and taken out; the owner frees it. */
    void (*settled)(void *context, struct export_unit *unit, enum export_outcome outcome);
    /* Not settled and taken out, as exporter_withdraw asked, now or when its call had failed. delivered: of a fan_out, the exporters that have
     * it. NULL where nobody withdraws. */
    void (*withdrawn)(void *context, struct export_unit *unit, uint8_t delivered);
    /* Of a fan_out: that exporter delivered it, and others are not done with it. NULL: the owner does not ask. */
    void (*partly)(void *context, struct export_unit *unit, size_t exporter);
};

struct exporter_options {
    const char *name;              /* component ID, the label of its metrics */
    uint64_t timeout_ns;           /* of one attempt; 0: none */
    struct retry_options retry;
    uint64_t queue_bytes;          /* 0: bounded by the node's budget only */
    uint64_t queue_requests;       /* the user's queue_size with sizer requests: units; 0: not set */
    uint64_t queue_spans;          /* ... with sizer items; 0: not set */
    uint64_t least_bytes, least_spans; /* batch.min_size: a request waits for so many, or for flush_timeout; 0: for none */
    uint64_t most_bytes, most_spans;   /* batch.max_size: no request holds more, but for a single larger span; 0: not set */
    uint64_t max_request_bytes;    /* without them: target of one request, passed only by a unit that is larger; 0: 1 MiB */
    enum export_compression compression;
    uint64_t flush_timeout_ns;
    bool keeps_units;              /* `encoded` is not told: span bytes stay until a unit is settled, so that it can be withdrawn */
    uint32_t max_calls;            /* num_consumers: requests under way, those that wait for a retry included; 0: 1 */
};

struct exporter_stats { /* running sums in spans and calls; gauges at the end */
    uint64_t sent_spans;           /* EXPORTED */
    uint64_t failed_spans;         /* every other outcome but EXPORT_QUEUE_FULL */
    uint64_t refused_spans;        /* of these, EXPORT_REFUSED */
    uint64_t enqueue_failed_spans; /* EXPORT_QUEUE_FULL */
    uint64_t rejected_spans;       /* of partial_success answers: sent, but the backend took them not */
    uint64_t calls, retries;       /* calls started, and those of them that were not the first of their request */
    uint64_t failed_calls;         /* that ended with another status than OK */
    uint64_t starved;              /* requests that could not be built for want of memory, and were put off */
    uint64_t queue_units, queue_spans, queue_bytes, calls_in_flight; /* gauges; queue includes what is under way */
    uint64_t requests_waiting;     /* gauge: for their next attempt */
    uint64_t leaving_units;        /* gauge: withdrawn, and in a running call */
    uint64_t request_bytes;        /* gauge: of requests written and not answered for good, on the heap, and their compressed form */
    uint64_t plain_bytes, packed_bytes; /* of requests that were compressed: before and after */
    char last_error[192];          /* what the backend last said, printable; "": nothing was ever wrong */
};

struct exporter;
/* link is borrowed and outlives the exporter; options->name too. 0 or -ENOMEM. */
int exporter_new(const struct exporter_options *options, struct link *link, const struct exporter_owner *owner,
    struct exporter **out_exporter);
/* Units not settled are settled EXPORT_STOPPED. Calls under way are cancelled; they may end later. Accepts NULL. */
void exporter_free(struct exporter *exporter);
/* Takes the unit; it may be settled inside (queue full). */
void exporter_take(struct exporter *exporter, struct export_unit *unit, uint64_t now_ns);
/* Runs what is due: flushes and retries, these at once when the link came up. Returns when it next wants to run
 * (UINT64_MAX: after a call's end, a take or a change of the link). Call once a turn. */
uint64_t exporter_run(struct exporter *exporter, uint64_t now_ns);
/* Gives back every matching unit, where options.keeps_units. Those in a running call, or in a request of which a part was answered, stay until
 * it has ended: then they are settled, or given back when it failed and would be repeated. */
void exporter_withdraw(struct exporter *exporter, bool (*matches)(void *context, struct export_unit *unit), void *context);
/* Visits every unit that is not settled, wherever it waits; visit itself gives none back. */
void exporter_each(const struct exporter *exporter, void (*visit)(void *context, struct export_unit *unit), void *context);
/* Visits the units that cannot be withdrawn now; visit changes nothing. */
void exporter_running(const struct exporter *exporter, void (*visit)(void *context, struct export_unit *unit), void *context);
/* Live reload: from now on these options (but for keeps_units, which stays) and this link, for what waits too: it is sent there at once. Calls under
 * way end on the link that they began on, and what fails of them goes on here. link may be the one there is. 0 or -ENOMEM, then nothing changed. */
int exporter_change(struct exporter *exporter, const struct exporter_options *options, struct link *link);
/* Whether calls are under way on the link; until then it must not be freed. */
bool exporter_uses(const struct exporter *exporter, const struct link *link);
/* Draining: from now on flush at once, without waiting for full batches. Retries keep their times. */
void exporter_hurry(struct exporter *exporter);
const struct exporter_stats *exporter_stats(const struct exporter *exporter);
