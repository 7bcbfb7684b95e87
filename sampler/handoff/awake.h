/* Did this process stand still (stopped, or starved of CPU) for so long that its peers may have missed it?
 *
 * Peers that miss a member keep spans for it; the member itself does not notice. What is due when it goes on must not be decided
 * before they were asked: the control thread claims every slot anew (membership_stood_still), and workers decide nothing until it
 * has, by whatever view.
 *
 * Owner   the control thread says when it ran last; workers ask. Zeroed: always awake, as where there is no cluster.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/num.h"

struct awake {
    uint64_t limit_ns;         /* set before any thread runs */
    _Atomic uint64_t since_ns; /* when the control thread last ran, all workers acting by its newest ring; 0: not yet */
    _Atomic bool overslept;    /* a worker found that long ago: the control thread may have missed it by a hair */
};

static inline bool awake_is_late(const struct awake *awake, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&awake->since_ns, memory_order_relaxed);

    return since_ns != 0 && u64_sub_floor(now_ns, since_ns) >= awake->limit_ns;
}

/* Any worker: may it act by its view? */
static inline bool awake_ask(struct awake *awake, uint64_t now_ns)
{
    if (!awake_is_late(awake, now_ns))
        return true;
    atomic_store(&awake->overslept, true);
    return false;
}
