/* A data thread: a loop over its gRPC completion queue, its mailbox and its turn hooks.
 *
 * One turn: events of the queue (bounded), mail, then every hook once. Hooks flush what the events
 * gathered and run timers; they say when they want to run next. The loop sleeps until the earliest of
 * these, an event, or mail.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/run/mailbox.h"

struct pump;
struct metrics_cell;

/* Part of a tier's state on a worker that wants to run each turn. */
struct turn_hook {
    struct list node;
    /* Returns when to run again at the latest (ns, monotonic; UINT64_MAX: only after events or mail). */
    uint64_t (*run)(struct turn_hook *hook, uint64_t now_ns);
};

#define WORKERS_MAX 256u /* of one process */

/* How many: as the user asked (0: not), else the CPUs but one, which is left to gRPC's threads and the control loop. */
static inline unsigned worker_count_of(uint64_t asked, unsigned cpus)
{
    uint64_t count = asked ? asked : cpus > 1 ? cpus - 1 : 1;

    return count < WORKERS_MAX ? (unsigned)count : WORKERS_MAX;
}

struct worker {
    unsigned index, count;        /* this worker's number of how many */
    uint64_t now_ns;              /* read when the turn began, and by events that come out of a sleep */
    struct pump *pump;
    struct mailbox mailbox;
    struct metrics_cell *metrics; /* this worker's cells: it alone writes them */
    struct list hooks;
    bool stopping;
    pthread_t thread;
};

/* index of count; metrics: borrowed. 0, or -ENOMEM. Starts no thread yet. */
int worker_init(struct worker *worker, unsigned index, unsigned count, struct metrics_cell *metrics);
void worker_deinit(struct worker *worker);
void worker_hook(struct worker *worker, struct turn_hook *hook);
int worker_start(struct worker *worker);
/* Any thread: posts mail and wakes the worker if it sleeps. */
void worker_post(struct worker *worker, struct mail *mail);
/* Any thread: the loop ends after it has drained its queue; then the thread is joined. */
void worker_stop(struct worker *worker);
/* Tests and simulation: delivers mail and runs the hooks once, without a queue. Returns the next wanted time. */
uint64_t worker_turn(struct worker *worker, uint64_t now_ns);
