/* An empty store may still hold an extent a class, so a limit of twice that is the least: then `off`, two
 * thirds of the limit, is above what deciding everything early cannot give back. */
#include "sampler/buffer/budget.h"

#include "common/base/num.h"

#define STEP_FRACTION 32 /* of the limit, between refuse and on, and on and off */

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

uint64_t budget_room(const struct budget *budget)
{
    return u64_sub_floor(extent_pool_limit_bytes(budget->pool), bytes_in_use(budget));
}

void budget_beside(struct budget *budget, uint64_t *mine, uint64_t bytes)
{
    if (bytes == *mine)
        return;
    (void)atomic_fetch_add_explicit(&budget->beside, bytes - *mine, memory_order_relaxed); /* wraps round to a difference */
    *mine = bytes;
}

enum rung budget_rung(struct budget *budget)
{
    uint64_t limit = extent_pool_limit_bytes(budget->pool);
    uint64_t in_use = bytes_in_use(budget);
    uint64_t refuse_above = limit - u64_min(floor_bytes(budget->workers), limit / 4);
    uint64_t step = u64_max(limit / STEP_FRACTION, EXTENT_BYTES);
    uint64_t on_above = u64_sub_floor(refuse_above, step);
    uint64_t off_under = u64_sub_floor(on_above, step);

    if (in_use > on_above)
        atomic_store_explicit(&budget->deciding_early, budget->decide_early_allowed, memory_order_relaxed);
    else if (in_use <= off_under)
        atomic_store_explicit(&budget->deciding_early, false, memory_order_relaxed);

    if (in_use > refuse_above)
        return RUNG_REFUSE;
    return budget_deciding_early(budget) ? RUNG_DECIDE_EARLY : RUNG_NONE;
}

bool budget_deciding_early(const struct budget *budget)
{
    return atomic_load_explicit(&budget->deciding_early, memory_order_relaxed);
}

uint64_t budget_least_bytes(unsigned workers)
{
    return 2 * floor_bytes(workers);
}
