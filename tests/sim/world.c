/* Events lie in a heap by time, and by the order in which they were planned where times are equal: a run has no other order. */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "tests/kit/splitmix.h"
#include "tests/sim/memory.h"

#define STEPS_MOST 6000000u /* a run has some 50 thousand: more is a loop that never ends */

struct world world;

/* -- randomness ----------------------------------------------------------------------------------------------------- */

uint64_t rng_next(struct rng *rng)
{
    return splitmix64(&rng->state);
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    ASSERT(bound > 0);
    return rng_next(rng) % bound;
}

uint64_t rng_between(struct rng *rng, uint64_t least, uint64_t most)
{
    return least + rng_below(rng, most - least + 1);
}

bool rng_chance(struct rng *rng, unsigned per_mille)
{
    return rng_below(rng, 1000) < per_mille;
}

/* -- events ------------------------------------------------------------------------------------------------------------ */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_put(struct sim_event *event, size_t place)
{
    world.heap[place] = event;
    event->place = place;
}

static void heap_rise(struct sim_event *event, size_t place)
{
    while (place > 1 && before(event, world.heap[place / 2])) {
        heap_put(world.heap[place / 2], place);
        place /= 2;
    }
    heap_put(event, place);
}

static void heap_sink(struct sim_event *event, size_t place)
{
    for (;;) {
        size_t child = 2 * place;

        if (child > world.count)
            break;
        if (child < world.count && before(world.heap[child + 1], world.heap[child]))
            child++;
        if (!before(world.heap[child], event))
            break;
        heap_put(world.heap[child], place);
        place = child;
    }
    heap_put(event, place);
}

void event_init(struct sim_event *event, const char *what, void (*run)(struct sim_event *event))
{
    *event = (struct sim_event){.what = what, .run = run};
}

void event_cancel(struct sim_event *event)
{
    size_t place = event->place;
    struct sim_event *last;

    if (place == 0)
        return;
    event->place = 0;
    last = world.heap[world.count--];
    if (last == event)
        return;
    if (place > 1 && before(last, world.heap[place / 2]))
        heap_rise(last, place);
    else
        heap_sink(last, place);
}

void event_at(struct sim_event *event, uint64_t at_ns)
{
    event_cancel(event);
    if (world.count + 1 >= world.capacity) {
        world.capacity = world.capacity ? 2 * world.capacity : 256;
        world.heap = sim_realloc(world.heap, world.capacity * sizeof(world.heap[0]));
    }
    event->at_ns = u64_max(at_ns, world.now_ns);
    event->order = ++world.order;
    heap_rise(event, ++world.count);
}

void event_soon(struct sim_event *event, uint64_t in_ns)
{
    event_at(event, world.now_ns + in_ns);
}

void event_sooner(struct sim_event *event, uint64_t at_ns)
{
    if (event->place == 0 || u64_max(at_ns, world.now_ns) < event->at_ns)
        event_at(event, at_ns);
}

struct planned {
    struct sim_event event;
    void (*run)(void *context, uint64_t number);
    void *context;
    uint64_t number;
};

static void planned_run(struct sim_event *event)
{
    struct planned *planned = container_of(event, struct planned, event);

    planned->run(planned->context, planned->number);
    sim_free(planned);
}

void plan_at(uint64_t at_ns, const char *what, void (*run)(void *context, uint64_t number), void *context, uint64_t number)
{
    struct planned *planned = sim_alloc(sizeof(*planned));

    event_init(&planned->event, what, planned_run);
    planned->run = run;
    planned->context = context;
    planned->number = number;
    event_at(&planned->event, at_ns);
}

/* -- the world ------------------------------------------------------------------------------------------------------------ */

void world_begin(uint64_t seed, const char *scenario, bool tracing)
{
    struct rng seeds = {seed * 0x9e3779b97f4a7c15ull ^ hash_bytes(scenario, strlen(scenario))};

    ASSERT(world.count == 0);
    free(world.heap);
    world = (struct world){.seed = seed, .now_ns = 1000 * NS_PER_S, .tracing = tracing, .steps_most = STEPS_MOST};
    world.net.state = rng_next(&seeds);
    world.work.state = rng_next(&seeds);
    world.fault.state = rng_next(&seeds);
}

void world_fold(const void *at, size_t len)
{
    world.digest = hash_seeded(at, len, world.digest);
}

static void world_step(void)
{
    struct sim_event *event = world.heap[1];

    ASSERT(event->at_ns >= world.now_ns);
    world.now_ns = event->at_ns;
    event_cancel(event);
    world_fold(&world.now_ns, sizeof(world.now_ns));
    world_fold(event->what, strlen(event->what));
    world.steps++;
    event->run(event);
}

void world_run(uint64_t until_ns)
{
    while (world.count > 0 && world.heap[1]->at_ns <= until_ns) {
        if (world.steps >= world.steps_most) {
            broken("the run does not end: %llu events, the next is %s", (unsigned long long)world.steps, world.heap[1]->what);
            return;
        }
        world_step();
    }
    world.now_ns = u64_max(world.now_ns, until_ns);
}

void world_end(void)
{
    while (world.count > 0) {
        struct sim_event *event = world.heap[world.count];

        event_cancel(event);
        if (event->run == planned_run)
            sim_free(container_of(event, struct planned, event));
    }
}

static void line(const char *who, const char *mark, const char *format, va_list arguments)
{
    char text[1500];
    uint64_t us = (world.now_ns - 1000 * NS_PER_S) / NS_PER_US;

    (void)vsnprintf(text, sizeof(text), format, arguments);
    printf("%4llu.%06llu %-10s %s%s\n", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000), who ? who : "", mark, text);
}

void story(const char *who, const char *format, ...)
{
    va_list arguments;

    if (!world.tracing)
        return;
    va_start(arguments, format);
    line(who, "", format, arguments);
    va_end(arguments);
}

void broken(const char *format, ...)
{
    va_list arguments;
    char text[600];
    size_t len = strlen(world.failure);

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    story(NULL, "BROKEN: %s", text);
    world.failed = true;
    if (world.failure_count++ < 5)
        (void)snprintf(world.failure + len, sizeof(world.failure) - len, "    %s\n", text);
}
