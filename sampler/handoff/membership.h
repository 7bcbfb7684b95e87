/* One member's truth about its ring: who is there, in step or not, which slots are settled. The rules R, C, L of the handoff
 * protocol as a state machine without I/O: words of peers, links, polls and time go in, everything else is asked for.
 *
 *   words, links, time --> ring (at most every 100 ms) --> view --adopted--> statuses, in step, claim --cleared--> settled
 *
 * Ring    a new ring is computed, taken out as a view and as a record, and says nothing until membership_adopted: every worker
 *         acts by the view and the record is written. Until then statuses speak of the ring before it and clear nothing.
 * Turn    the driver calls membership_tend after anything it put in, and at membership_next_ns or, as cluster_tend does, at least
 *         every 100 ms; then it takes what is there: record, view, poll, statuses, in this order.
 * Bounds  MEMBERSHIP_PEERS_MAX names and MEMBERSHIP_TARGETS_MAX addresses, whatever others say; what exceeds is counted.
 * Cost    owners and sets of slots are computed once a ring; everything else is a pass over the peers.
 * Owner   one thread. No clock, no randomness: the same calls make the same states.
 * Source  the handoff protocol, sections 2 to 4; docs/decisions/0017-membership.md for what is sharper here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/slice.h"
#include "common/cluster/ring_cache.h"
#include "sampler/handoff/view.h"

#define MEMBERSHIP_PEERS_MAX (RING_MEMBERS_MAX - 1) /* beside myself */
#define MEMBERSHIP_TARGETS_MAX (2 * MEMBERSHIP_PEERS_MAX)
#define MEMBERSHIP_NAME_MAX 253u     /* a DNS name's length */
#define MEMBERSHIP_ADDRESS_MAX 263u  /* as resolved_address */
#define MEMBERSHIP_STATUS_MAX (4u << 20) /* bytes of one status */
#define MEMBERSHIP_RING_GAP_NS 100000000ull  /* rings are computed at most this often */
#define MEMBERSHIP_POLL_GAP_NS 100000000ull
#define MEMBERSHIP_GONE_NS 600000000000ull   /* who left or was dropped is told of for 10 minutes */

struct membership_options {
    const char *cluster, *name;     /* copied, as are all texts here */
    const char *advertise;          /* where others reach me */
    const char *software;
    uint64_t incarnation;           /* larger than any before */
    uint64_t journal_id;            /* 0: no journal */
    struct slice record;            /* the journal's last ring record, as of membership_take_record; len 0: none */
    bool static_resolver;           /* the list is whole and never changes: nobody else in it means nobody else */
    uint64_t status_interval_ns, peer_timeout_ns, handoff_timeout_ns, hello_wait_ns;
    struct ring_cache *rings;       /* borrowed; NULL: one of its own */
};

struct membership_counters {
    uint64_t members_dropped;       /* silent for handoff_timeout */
    uint64_t members_left;          /* said so, or others did */
    uint64_t settle_timeouts;       /* C4 */
    uint64_t rings;                 /* ring_no so far */
    uint64_t claims;                /* claim_no so far */
    uint64_t statuses_in, statuses_old, statuses_out, statuses_refused;
    uint64_t over_bounds;           /* names or addresses that found no place */
};

struct membership;

/* State joining, the record's members in the ring and silent, a first ring to be adopted. 0 or -ENOMEM. A record that cannot be
 * read is as none: membership_record_bad tells. */
int membership_new(const struct membership_options *options, uint64_t now_ns, struct membership **out_membership);
void membership_free(struct membership *membership);
bool membership_record_bad(const struct membership *membership);
/* The incarnation in a record; 0: none. The next one is larger. */
uint64_t membership_record_incarnation(struct slice record);

/* -- in ------------------------------------------------------------------------------------------------------------- */

/* The resolver's whole list (R4: what is not in it any more changes nothing). */
void membership_resolved(struct membership *membership, const char *const *addresses, size_t count, uint64_t now_ns);
/* A link to a target came up or went down, which includes its being closed here. Down: its peer is silent from now, if no other link to it is up. */
void membership_link(struct membership *membership, size_t target, bool up, uint64_t now_ns);
/* The status of a Tell. target: the answer of that target; MEMBERSHIP_CALLED: a call to us. Outcomes of what is not taken: */
#define MEMBERSHIP_CALLED SIZE_MAX
#define MEMBERSHIP_E_MALFORMED 1       /* not a status, or a field out of bounds */
#define MEMBERSHIP_E_OTHER_CLUSTER 2
#define MEMBERSHIP_E_HASH_VERSION 3
#define MEMBERSHIP_E_MY_NAME 4         /* another process says my name */
#define MEMBERSHIP_E_FULL 5
int membership_heard(struct membership *membership, size_t target, struct slice status, uint64_t now_ns);
/* A Tell to a target that was taken by membership_take_status got no status; why: in words, for people.
 * no_peer: it answered, but is no sampler of this protocol (UNIMPLEMENTED): nobody waits for it. */
void membership_unanswered(struct membership *membership, size_t target, bool no_peer, const char *why, uint64_t now_ns);
/* The journal is replayed: joining becomes ready. */
void membership_replayed(struct membership *membership, uint64_t now_ns);
/* L1. Forward only: nothing after left. */
void membership_drain(struct membership *membership, uint64_t now_ns);
/* This node did nothing for so long that others may have missed it and kept spans for it: a new ring of the same members, in
 * which everything owned is claimed anew, as after a restart. Peers that hold something give it before they clear. */
void membership_stood_still(struct membership *membership, uint64_t now_ns);
/* That ring is not adopted yet. */
bool membership_is_waking(const struct membership *membership);
/* L2 (clean), L3. */
void membership_left(struct membership *membership, bool clean, uint64_t now_ns);
/* Every worker acts by the view of this ring, and its record is written (R5). */
void membership_adopted(struct membership *membership, uint32_t ring_no, uint64_t now_ns);
/* C4: something was taken over. */
void membership_progress(struct membership *membership, uint64_t now_ns);

/* What is held of each member of the view `view_number`, by all workers together. */
struct membership_held {
    uint64_t traces;  /* with spans, or a verdict younger than verdict_keep */
    uint64_t bytes;
    uint64_t exports; /* in flight */
};
/* The answer to the poll that membership_take_poll numbered; members: in the order of that view. swept: every worker has counted
 * all it holds. room_bytes: for what others give, passed on in statuses. */
void membership_polled(struct membership *membership, uint64_t view_number, const struct membership_held *members, size_t count,
    bool swept, uint64_t now_ns);
void membership_room(struct membership *membership, uint64_t room_bytes);

/* Makes what follows from what came in and from the time. 0 or -ENOMEM: nothing was changed then. */
int membership_tend(struct membership *membership, uint64_t now_ns);

/* -- out ------------------------------------------------------------------------------------------------------------ */

/* When to call membership_tend next; UINT64_MAX: when something comes in. Not after now: at once. */
uint64_t membership_next_ns(const struct membership *membership);

/* A ring record to be journaled before membership_adopted(ring_no): *out_record, one reference, *out_ring_no. False: none is due. */
bool membership_take_record(struct membership *membership, struct buffer **out_record, uint32_t *out_ring_no);
/* A view to be published to all workers, one reference; NULL: none is due. The driver fills in the members' links first. */
struct view *membership_take_view(struct membership *membership, uint64_t now_ns);
/* Every worker is to be asked what it holds, behind the views published so far. *out_view_number is for membership_polled. */
bool membership_take_poll(struct membership *membership, uint64_t *out_view_number, uint64_t now_ns);
/* A Tell that is due: its target and bytes (one reference). Each is followed by membership_heard or membership_unanswered for
 * that target, before which no other is due there. False: none is due. */
bool membership_take_status(struct membership *membership, uint64_t now_ns, size_t *out_target, struct buffer **out_status);
/* My status as the answer to a call by `name`, after membership_heard took it. NULL: not yet (the first ring is not adopted), or no
 * memory. */
struct buffer *membership_answer(struct membership *membership, const char *name);
/* What a balancer is told of it. A fingerprint of 0: the first ring is not adopted yet. */
enum member_state membership_state(const struct membership *membership);
uint64_t membership_fingerprint(const struct membership *membership);
uint32_t membership_ring_no(const struct membership *membership); /* adopted; 0: none yet */

/* Whom to call: links are kept to the wanted ones. An index stays; one no longer wanted may be given to another address when its
 * link is down and no Tell is under way. */
struct membership_target {
    const char *address; /* borrowed until the next call that puts something in; "": a free index */
    bool wanted;
    bool is_self;        /* answered by this very process */
    bool listed;         /* by the resolver */
    const char *peer;    /* who answered there, or is said to be there; NULL: nobody yet */
    const char *trouble; /* why it is no peer, in words; "": none */
};
size_t membership_target_count(const struct membership *membership);
struct membership_target membership_target(const struct membership *membership, size_t index);

/* -- questions ------------------------------------------------------------------------------------------------------ */

/* R1: ready, and in step or handoff_timeout after the start; stays so until the drain. */
bool membership_serving(const struct membership *membership);
bool membership_in_step(const struct membership *membership);
bool membership_settled(const struct membership *membership); /* all that is owned */
/* L2: every reachable peer has heard the present state. */
bool membership_told(const struct membership *membership);
/* Why not in step, why not settled; "" when it is. Return text. */
const char *membership_why_not_in_step(const struct membership *membership, char *text, size_t size);
const char *membership_why_not_settled(const struct membership *membership, char *text, size_t size);
struct membership_counters membership_counters(const struct membership *membership);

struct membership_peer { /* as known; borrowed until the next call that puts something in */
    const char *name, *address, *software;
    uint64_t incarnation;
    enum member_state state;      /* its latest word */
    enum member_state counted_as; /* in the ring: ready or draining; MEMBER_UNKNOWN: not in it */
    bool gone;                    /* left or dropped */
    bool reachable;
    uint64_t silent_ns;           /* for how long; 0: reachable */
    uint64_t fingerprint;         /* its F; 0: unknown */
    bool agrees;                  /* with mine */
    bool heard_my_ring;           /* the present one */
    bool cleared_my_claim;        /* the present one */
    uint32_t claim_no;            /* its own, open; 0: none */
    bool cleared_by_me;
    uint64_t held_traces, held_bytes;   /* here, of its */
    uint64_t holds_traces, holds_bytes; /* there, of mine, as it says */
    uint64_t room_bytes;
};
size_t membership_peer_count(const struct membership *membership);
struct membership_peer membership_peer(const struct membership *membership, size_t index, uint64_t now_ns);
/* A refused one, newest first: who, from where, why. NULL: no more. */
const char *membership_refusal(const struct membership *membership, size_t index);
