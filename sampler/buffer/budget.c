/* An empty store may still hold an extent a class, so a limit of twice that is the least: then `off`, two
 * thirds of the limit, is above what deciding everything early cannot give back. */
#include "sampler/buffer/budget.h"

#include "common/base/num.h"

#define STEP_FRACTION 32 /* of the limit, between refuse and on, on and off, off and the end of spilling */
#define RECOVERY_STEPS 4  /* that spilling begins sooner while recovering */
#define HANDOFF_FRACTION 10 /* of the limit, kept for handoff */

static uint64_t floor_bytes(unsigned workers)
{
    return (uint64_t)workers * BLOCK_CLASSES * EXTENT_BYTES;
}

static uint64_t bytes_in_use(const struct budget *budget)
{
    uint64_t idle = extent_pool_idle_bytes(budget->pool);

    return u64_sub_floor(extent_pool_committed_bytes(budget->pool), idle) +
           atomic_load_explicit(&budget->beside, memory_order_relaxed);
}

static uint64_t handoff_reserve(const struct budget *budget)
{
    return budget->handoff ? extent_pool_limit_bytes(budget->pool) / HANDOFF_FRACTION : 0;
}

/* Above this nothing is admitted, from nobody. */
static uint64_t full_above(const struct budget *budget)
{
    uint64_t limit = extent_pool_limit_bytes(budget->pool);

    return limit - u64_min(floor_bytes(budget->workers), limit / 4);
}

uint64_t budget_room(const struct budget *budget)
{
    return u64_sub_floor(extent_pool_limit_bytes(budget->pool) - handoff_reserve(budget), bytes_in_use(budget));
}

uint64_t budget_handoff_room(const struct budget *budget)
{
    if (atomic_load_explicit(&budget->disk_full, memory_order_relaxed))
        return 0;
    return u64_sub_floor(full_above(budget), bytes_in_use(budget));
}

void budget_disk(struct budget *budget, uint64_t room_bytes, uint64_t max_bytes)
{
    uint64_t step = max_bytes / STEP_FRACTION;
    bool low = atomic_load_explicit(&budget->disk_low, memory_order_relaxed);

    atomic_store_explicit(&budget->disk_low, room_bytes < (low ? 4 : 3) * step, memory_order_relaxed);
    atomic_store_explicit(&budget->disk_full, room_bytes < step, memory_order_relaxed);
}

void budget_allow(struct budget *budget, bool decide_early, bool spill)
{
    atomic_store_explicit(&budget->decide_early_allowed, decide_early, memory_order_relaxed);
    atomic_store_explicit(&budget->spill_allowed, spill, memory_order_relaxed);
    if (!decide_early)
        atomic_store_explicit(&budget->deciding_early, false, memory_order_relaxed);
    if (!spill)
        atomic_store_explicit(&budget->spilling, false, memory_order_relaxed);
}

void budget_beside(struct budget *budget, uint64_t *mine, uint64_t bytes)
{
    if (bytes == *mine)
        return;
    (void)atomic_fetch_add_explicit(&budget->beside, bytes - *mine, memory_order_relaxed); /* wraps round to a difference */
    *mine = bytes;
}

/* On above one mark, off under another, and between them what it was. */
static void turn(atomic_bool *is_on, bool above, bool under)
{
    if (above)
        atomic_store_explicit(is_on, true, memory_order_relaxed);
    else if (under)
        atomic_store_explicit(is_on, false, memory_order_relaxed);
}

static uint64_t step_bytes(const struct budget *budget)
{
    return u64_max(extent_pool_limit_bytes(budget->pool) / STEP_FRACTION, EXTENT_BYTES);
}

/* Two steps under where clients are refused. */
static uint64_t off_mark(const struct budget *budget)
{
    return u64_sub_floor(full_above(budget) - handoff_reserve(budget), 2 * step_bytes(budget));
}

bool budget_recovery_may_read(const struct budget *budget, uint64_t under_way, bool more_to_spill)
{
    return bytes_in_use(budget) + under_way <= (more_to_spill ? off_mark(budget) : full_above(budget));
}

static void turn_spilling(struct budget *budget, uint64_t in_use)
{
    bool recovering = atomic_load_explicit(&budget->recovering, memory_order_relaxed);
    uint64_t on_above = u64_sub_floor(off_mark(budget), recovering ? RECOVERY_STEPS * step_bytes(budget) : 0);
    uint64_t off_under = u64_max(u64_sub_floor(on_above, step_bytes(budget)), floor_bytes(budget->workers)); /* an empty node spills nothing */
    bool allowed = recovering || atomic_load_explicit(&budget->spill_allowed, memory_order_relaxed);

    turn(&budget->spilling, allowed && in_use > u64_max(on_above, off_under), in_use <= off_under);
}

enum rung budget_rung(struct budget *budget)
{
    uint64_t in_use = bytes_in_use(budget);
    uint64_t refuse_above = full_above(budget) - handoff_reserve(budget);
    uint64_t off_under = off_mark(budget), on_above = u64_max(off_under, u64_sub_floor(refuse_above, step_bytes(budget)));
    bool disk_low = atomic_load_explicit(&budget->disk_low, memory_order_relaxed);

    turn(&budget->deciding_early, atomic_load_explicit(&budget->decide_early_allowed, memory_order_relaxed) && (in_use > on_above || disk_low), in_use <= off_under && !disk_low);
    turn_spilling(budget, in_use);
    if (in_use > refuse_above || atomic_load_explicit(&budget->disk_full, memory_order_relaxed))
        return RUNG_REFUSE;
    if (budget_deciding_early(budget))
        return RUNG_DECIDE_EARLY;
    return budget_spilling(budget) ? RUNG_SPILL : RUNG_NONE;
}

bool budget_deciding_early(const struct budget *budget)
{
    return atomic_load_explicit(&budget->deciding_early, memory_order_relaxed);
}

bool budget_spilling(const struct budget *budget)
{
    return atomic_load_explicit(&budget->spilling, memory_order_relaxed);
}

uint64_t budget_least_bytes(unsigned workers)
{
    return 2 * floor_bytes(workers);
}
