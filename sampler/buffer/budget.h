/* The ladder: what memory pressure does. One look a turn, node-wide.
 *
 *   RUNG_NONE -> (RUNG_SPILL, with a journal) -> RUNG_DECIDE_EARLY -> RUNG_REFUSE
 *
 * Counted are the bytes of committed extents, so the budget bounds RSS, not a guess. `at_limit` names the last rung allowed.
 *
 *   0 ............... off ...... on ...... refuse ............... limit      in use: committed - idle
 *      nothing to do   | once on | decide   | refuse; reserve for what
 *                      | till off| early    | was admitted already
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/extent.h"

enum rung { RUNG_NONE, RUNG_SPILL, RUNG_DECIDE_EARLY, RUNG_REFUSE };

struct budget {
    struct extent_pool *pool;
    bool decide_early_allowed; /* tailrace.memory.at_limit: decide_early */
    unsigned workers;
    _Atomic uint64_t beside; /* bytes that spans need outside the extents: interned headers */
    atomic_bool deciding_early; /* budget_rung's own: between off and on it stays what it was */
};

/* What is due now; any thread. RUNG_REFUSE: a request must not be taken in. RUNG_DECIDE_EARLY: each worker decides its oldest
 * until it falls back. Deciding goes on under RUNG_REFUSE, when it is allowed: budget_deciding_early. */
enum rung budget_rung(struct budget *budget);
/* Bytes that could still be taken in. */
uint64_t budget_room(const struct budget *budget);
/* Counts what a worker needs beside the extents: *mine is what it counted last. */
void budget_beside(struct budget *budget, uint64_t *mine, uint64_t bytes);
/* Whether the oldest are to be decided, as the last budget_rung found. */
bool budget_deciding_early(const struct budget *budget);
/* Smallest limit that lets the ladder work with so many workers, in bytes. */
uint64_t budget_least_bytes(unsigned workers);
