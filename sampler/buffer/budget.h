/* The ladder: what memory pressure does. One look a turn, node-wide.
 *
 *   RUNG_NONE -> (RUNG_SPILL, with a journal) -> RUNG_DECIDE_EARLY -> RUNG_REFUSE
 *
 * Counted are the bytes of committed extents, so the budget bounds RSS, not a guess. `at_limit` names the last rung allowed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/extent.h"

enum rung { RUNG_NONE, RUNG_SPILL, RUNG_DECIDE_EARLY, RUNG_REFUSE };

struct budget {
    struct extent_pool *pool;
    bool decide_early_allowed; /* tailrace.memory.at_limit: decide_early */
    unsigned workers;
};

/* What is due now. RUNG_REFUSE: a request must not be taken in. RUNG_DECIDE_EARLY: each worker decides its oldest until it falls back. */
enum rung budget_rung(const struct budget *budget);
/* Smallest limit that lets the ladder work with so many workers, in bytes. */
uint64_t budget_least_bytes(unsigned workers);
