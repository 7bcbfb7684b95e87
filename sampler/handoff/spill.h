/* The rung before traces are decided early: span bytes lie only in the journal, and are read back for the few that leave.
 *
 *   budget_spilling ─▶ oldest bytes first ─▶ spilled ── sampled, or another's ──▶ read, in order of offset ─▶ whole ─▶ goes on
 *
 * Facts, hashes and records stay in memory: a spilled trace takes spans, knows a resend and is decided like any other. A span that
 * cannot be read back is lost, counted as dropped.
 * Bound   a few reads of 4 MiB are under way; who waits is a list of IDs.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/list.h"
#include "sampler/handoff/travel.h"

struct trace;
struct worker_handoff;

struct spill_want { /* a trace to be read back */
    struct trace_id id;
    bool travels;             /* for another member: listed again then, where the ring is the same */
    uint32_t ring_no;
    struct travel_entry entry;
};

struct spill {
    struct spill_want *wants;
    size_t next, count, capacity;
    struct list reads;        /* under way */
    unsigned read_count;
    atomic_bool more;         /* the budget asks for memory, and there is some to spill. Recovery reads it */
};

void spill_init(struct spill *spill);
/* No read is under way. */
void spill_deinit(struct spill *spill);
/* Once a turn: spills while the budget asks for it, reads what is wanted. True: there is more to do. */
bool spill_run(struct worker_handoff *handoff, uint64_t now_ns);
/* A sampled trace of the table that may leave and is spilled: it is on hold, and due again when it is whole. */
void spill_read_back(struct worker_handoff *handoff, struct trace *trace);
/* One that shall travel. */
void spill_read_for(struct worker_handoff *handoff, struct trace *trace, const struct travel_entry *entry);
