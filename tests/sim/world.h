/* One run of the simulator: fake time, events in order, randomness from the seed, and a digest of all that happened.
 *
 * Law     the same scenario and seed give the same events: nothing here or in what is simulated reads a clock, a random
 *         source or the value of a pointer. The digest says so: main.c runs a seed twice when it is asked to.
 * Owner   one run at a time in a process; there is one `world`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

/* -- randomness ------------------------------------------------------------------------------------------------- */

struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound); /* bound > 0 */
uint64_t rng_between(struct rng *rng, uint64_t least, uint64_t most);
bool rng_chance(struct rng *rng, unsigned per_mille);

/* -- events ------------------------------------------------------------------------------------------------------- */

/* Embed it. It may be planned anew from its own run, and freed there. */
struct sim_event {
    uint64_t at_ns, order;
    size_t place; /* in the heap, from 1; 0: not planned */
    const char *what;
    void (*run)(struct sim_event *event);
};

void event_init(struct sim_event *event, const char *what, void (*run)(struct sim_event *event));
void event_at(struct sim_event *event, uint64_t at_ns);   /* also moves one that is planned */
void event_soon(struct sim_event *event, uint64_t in_ns); /* from now */
void event_sooner(struct sim_event *event, uint64_t at_ns); /* unless it is planned for an earlier time */
void event_cancel(struct sim_event *event);
static inline bool event_is_planned(const struct sim_event *event)
{
    return event->place != 0;
}

/* Runs something once, later; context may be NULL. */
void plan_at(uint64_t at_ns, const char *what, void (*run)(void *context, uint64_t number), void *context, uint64_t number);

/* -- the world ------------------------------------------------------------------------------------------------------ */

struct world {
    uint64_t seed;
    uint64_t now_ns;
    uint64_t digest;
    uint64_t steps, steps_most;
    struct rng net, work, fault; /* apart, so that one more message does not change the workload */
    bool tracing;
    bool failed;
    char failure[2000]; /* the first */
    unsigned failure_count;
    /* world.c's own */
    struct sim_event **heap;
    size_t count, capacity;
    uint64_t order;
};
extern struct world world;

void world_begin(uint64_t seed, const char *scenario, bool tracing);
/* Runs events until that time. */
void world_run(uint64_t until_ns);
/* Forgets all events that are still planned. */
void world_end(void);

/* Something happened that the digest should know of. */
void world_fold(const void *at, size_t len);
/* A line of the story, shown with --trace only. who: NULL for the world. */
void story(const char *who, const char *format, ...) PRINTF_LIKE(2, 3);
/* A promise was broken: the run goes on, and has failed. */
void broken(const char *format, ...) PRINTF_LIKE(1, 2);
