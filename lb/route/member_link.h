/* One member's address as its owner worker serves it: connection, outbox, Hello, and whether it can be trusted with spans.
 *
 *   condition:  DOWN <--> UP <--> SUSPECT
 *
 * SUSPECT  its oldest unacknowledged call is older than max(500 ms, 8 x its smoothed ack time), or a call timed out: the
 *          router sends pieces to the fallback, an empty Export probes it with backoff. A member that does not hand traces
 *          over (Hello says so) is suspected only when a call timed out: sending its spans elsewhere splits traces for good
 *          (note 0005).
 * Draining it says so in its Hello, and with every answer: its spans go to the next one, who owns them now. It stays UP, since it
 *          serves on, and gets what nobody else is there for.
 * Life     opened; when its address is no longer listed it leaves: what is queued or comes late is given back every turn, calls
 *          under way go on. It may be told to stay again. Retired, which is final and asks that no snapshot names it and
 *          nothing is reserved in it, it closes its connection and says so as its last act (lb/route/link_table.h, note 0012).
 * Owner    one worker. `condition` and the reservation of the outbox are read and taken by every worker (note 0004).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/export/outbox.h"
#include "common/run/worker.h"

enum member_condition { MEMBER_DOWN, MEMBER_UP, MEMBER_SUSPECT };

struct hello_answer {          /* what a member said of itself */
    bool spoke;                /* false: UNIMPLEMENTED, it is no Tailrace node and has no name */
    char name[264];
    char cluster[256];
    char software[128];
    unsigned hash_version, state;
    bool hands_over;
};

struct member_link_events {
    void *context;
    /* On the owner worker. */
    void (*hello)(void *context, unsigned link_index, const struct hello_answer *answer);
    void (*condition)(void *context, unsigned link_index, enum member_condition condition);
    void (*closed)(void *context, unsigned link_index); /* retired: its worker does not know it any more. May be NULL */
};

struct member_link_gauges { /* written by the owner once a turn, read relaxed for /status */
    _Atomic uint64_t ack_ns, calls, failures, spans, bytes, in_flight, suspected;
};

struct member_link {
    unsigned index;                 /* among the lb's links */
    char address[264];
    const struct link_options *options; /* TLS and credentials; NULL: none. Outlives it */
    struct worker *worker;
    struct link *link;
    struct outbox outbox;
    _Atomic int condition;          /* enum member_condition */
    _Atomic bool steady;            /* ready, as it last said: one that joins or leaves is the last to stand in for another */
    _Atomic bool draining;          /* draining or left, as it last said: it owns nothing any more */
    atomic_int sets;                /* snapshots that name it (member_set_count) */
    struct member_link_gauges gauges;
    /* the owner's own */
    struct turn_hook hook;
    struct member_link_events events;
    struct outbox_owner pieces;
    struct link_call hello_call, probe_call;
    bool hello_under_way, hello_done, probe_under_way, hands_over;
    bool hello_again, hello_stale;  /* an answer said that it drains: ask; the Hello under way was asked before that */
    struct hello_answer told;       /* the last one that was news */
    uint64_t hello_at_ns, probe_at_ns, probe_wait_ns;
    uint64_t slow_since_ns;         /* first seen over the limit; 0: it is not */
    uint64_t calls_seen, failures_seen; /* by the metrics */
    struct mail open_mail, cancel_mail;
    bool closed, was_up, told_down, leaving, retired;
};

/* Ready to be opened on its worker (member_link_open). pieces: who is told of delivered and failed pieces. */
void member_link_init(struct member_link *member, unsigned index, const char *address, struct worker *worker,
    const struct member_link_events *events, const struct outbox_owner *pieces, uint64_t outbox_bytes, uint64_t timeout_ns);
/* Any thread: opens the connection on the owner worker. */
void member_link_open(struct member_link *member);
/* On the owner worker: takes this connection, which is not up yet, instead of opening one (simulation). */
void member_link_adopt(struct member_link *member, struct link *link);
/* On the owner worker: takes a piece whose bytes were reserved in the outbox. */
void member_link_put(struct member_link *member, struct piece *piece, uint64_t now_ns);
/* The control thread: it is no longer listed, or is again. */
void member_link_leave(struct member_link *member, bool leaving);
/* The control thread, once, its last word to a link that leaves: nothing is reserved in the outbox, and never will be again. */
void member_link_retire(struct member_link *member);
/* Any thread, once: what is queued or under way fails now. */
void member_link_cancel(struct member_link *member);
/* After the workers were joined: ends everything. One that was retired and has closed is left alone. */
void member_link_close(struct member_link *member);
void member_link_deinit(struct member_link *member);

static inline bool member_link_draining(const struct member_link *member)
{
    return atomic_load_explicit(&member->draining, memory_order_relaxed);
}

static inline enum member_condition member_link_condition(const struct member_link *member)
{
    return (enum member_condition)atomic_load_explicit(&member->condition, memory_order_relaxed);
}
