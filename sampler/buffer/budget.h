/* The ladder: what memory pressure does. One look a turn, node-wide.
 *
 *   RUNG_NONE -> (RUNG_SPILL, with a journal) -> RUNG_DECIDE_EARLY -> RUNG_REFUSE
 *
 * Counted are the bytes of committed extents, so the budget bounds RSS, not a guess. `at_limit` names the last rung allowed. A rung that
 * is not allowed is passed over.
 *
 *   0 ......... spill off ...... off ....... on ...... refuse ........ full ........ limit      in use: committed - idle
 *      nothing to do   | spill    | once on  | decide   | refuse; hand-  | reserve for what
 *                      |          | till off | early    | off goes on    | was admitted already
 *
 * `off` is also where spilling begins; each step is a 32nd of the limit. Handoff has a reserve of its own (`full` - `refuse`, a tenth of
 * the limit in a cluster, none without): a client that is refused comes back, a refused handoff holds up decisions. A disk
 * that runs full counts as the same rungs: decide early, then refuse.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/extent.h"

enum rung { RUNG_NONE, RUNG_SPILL, RUNG_DECIDE_EARLY, RUNG_REFUSE };

struct budget {
    struct extent_pool *pool;
    atomic_bool decide_early_allowed; /* tailrace.memory.at_limit: decide_early */
    atomic_bool spill_allowed;        /* there is a journal, and at_limit is no rung before */
    bool handoff;              /* other nodes give traces: they have a reserve */
    atomic_bool recovering;    /* what is held comes from the disk, and nothing may be decided: it is spilled, sooner, and even if not allowed */
    unsigned workers;
    _Atomic uint64_t beside; /* bytes that spans need outside the extents: interned headers */
    atomic_bool deciding_early, spilling; /* budget_rung's own: between off and on it stays what it was */
    atomic_bool disk_low, disk_full;      /* budget_disk's */
};

/* What at_limit allows; any thread, at any time. */
void budget_allow(struct budget *budget, bool decide_early, bool spill);
/* What is due now; any thread. RUNG_REFUSE: a request must not be taken in. RUNG_DECIDE_EARLY: each worker decides its oldest
 * until it falls back. RUNG_SPILL: each worker spills what it can, oldest bytes first. What a rung does goes on under the next ones,
 * where it is allowed: budget_deciding_early, budget_spilling. */
enum rung budget_rung(struct budget *budget);
/* Bytes that could still be taken in from clients; and from other nodes, 0: handoff must wait. */
uint64_t budget_room(const struct budget *budget);
uint64_t budget_handoff_room(const struct budget *budget);
/* While recovering: whether the reader may go on, with so many bytes under way, or has to wait until more is spilled; where no more can be,
 * it may use the reserve for handoff too. */
bool budget_recovery_may_read(const struct budget *budget, uint64_t under_way, bool more_to_spill);
/* What the journal can still take of max_bytes; any one thread, now and then. Low under three 32nds, until four are free; full under one. */
void budget_disk(struct budget *budget, uint64_t room_bytes, uint64_t max_bytes);
/* Counts what a worker needs beside the extents: *mine is what it counted last. */
void budget_beside(struct budget *budget, uint64_t *mine, uint64_t bytes);
/* Whether the oldest are to be decided, as the last budget_rung found. */
bool budget_deciding_early(const struct budget *budget);
/* Whether bytes are to go to the journal, as the last budget_rung found. */
bool budget_spilling(const struct budget *budget);
/* Smallest limit that lets the ladder work with so many workers, in bytes. */
uint64_t budget_least_bytes(unsigned workers);
