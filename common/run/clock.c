/* A file of its own, so that the simulator can put its own time in its place. */
#include "common/run/clock.h"

#include <time.h>

#include "common/base/num.h"

static uint64_t read_ns_of(clockid_t which)
{
    struct timespec t;

    (void)clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_ns_of(CLOCK_MONOTONIC);
}

uint64_t clock_now_unix_ns(void)
{
    return read_ns_of(CLOCK_REALTIME);
}
