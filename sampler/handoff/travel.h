/* What is held and is another's goes to its owner: rules T1 and T3.
 *
 *   new ring ─▶ sweep: survivors, traces, records ─▶ a list a member ─▶ Give ─accepted, same ring─▶ forgotten
 *                                                        ▲               '─ otherwise ─▶ back in the list
 *   kept, taken over late, come back from a backend ─────'
 *
 * Order   traces by deadline, then verdicts, then survivors, then verdicts too old to hold anything up.
 * Pace    batches of 1 MiB, one built a turn, 4 calls under way to a member from all workers together.
 * Whole   what is known of a trace when its turn comes: spans, verdict, hashes. A trace beyond one batch goes in several; joining is a
 *         union. What was sent is remembered by hash, and exactly that is forgotten.
 * Waits   a trace that is in a running export call is listed when that call has ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/base/slice.h"

struct holds;
struct worker_handoff;

enum travel_kind { TRAVEL_PENDING, TRAVEL_VERDICT, TRAVEL_SAMPLED, TRAVEL_OLD_VERDICT };

struct travel_entry {
    struct trace_id id;
    uint64_t order_ns;
    uint64_t first_ns; /* arrived */
    uint32_t bytes;    /* about, of spans */
    enum travel_kind kind;
};

struct travel_list {     /* for one member */
    struct travel_entry *entries;
    size_t next, count, capacity;
    bool sorted;
    uint64_t traces, bytes;  /* of those that count, in the list or under way */
    uint64_t retry_ns;       /* nothing is sent before */
    uint64_t busy_bytes;     /* under way */
    unsigned calls;
};

struct travel_running { /* a trace in a running export call */
    struct trace_id id;
    uint32_t owner;
};

enum travel_stage { TRAVEL_AWAIT_VERDICTS, TRAVEL_SWEEP_TRACES, TRAVEL_SWEEP_RECORDS, TRAVEL_SWEPT };

struct travel {
    uint32_t ring_no;
    struct travel_list *lists; /* by index of the view's members */
    size_t list_count;
    enum travel_stage stage;
    uint64_t verdicts_before; /* numbered so far when the ring came: they are written before anything is told */
    uint64_t cursor;
    struct travel_running *running; /* sorted by ID, when running_known */
    size_t running_count, running_capacity;
    bool running_known;
    struct travel_entry *ended; /* to be listed when running is known again */
    size_t ended_count, ended_capacity;
    struct list calls;
    uint64_t batch_no;
    uint64_t *hashes; /* scratch */
    size_t hash_capacity;
    size_t turn; /* the member served first */
};

void travel_init(struct travel *travel);
/* No call is under way. */
void travel_deinit(struct travel *travel);
/* The worker has a view of another ring: all over again. Calls under way run out. */
void travel_begin(struct worker_handoff *handoff, uint64_t now_ns);
/* Once a turn. Returns when to run again. */
uint64_t travel_run(struct worker_handoff *handoff, uint64_t now_ns);
/* Something is held of this trace; nothing happens where it is this node's. */
void travel_note(struct worker_handoff *handoff, const struct travel_entry *entry, uint64_t id_hash);
/* Of an entry that was taken out of its list for a while, and still counts there: back into it. */
void travel_again(struct worker_handoff *handoff, const struct travel_entry *entry);
/* An export call that the trace was in has ended. */
void travel_ended(struct worker_handoff *handoff, const struct travel_entry *entry);
void travel_holds(struct worker_handoff *handoff, struct holds *out);
