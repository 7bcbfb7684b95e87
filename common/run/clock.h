/* The only place that reads a clock. Everything else is told now_ns. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_ns_of(clockid_t which)
{
    struct timespec t;

    (void)clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Monotonic: durations and deadlines. */
static inline uint64_t clock_now_ns(void)
{
    return clock_read_ns_of(CLOCK_MONOTONIC);
}

/* Wall clock: what is shown to people, and incarnations. */
static inline uint64_t clock_now_unix_ns(void)
{
    return clock_read_ns_of(CLOCK_REALTIME);
}
