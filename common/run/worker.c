/* The loop of a data thread. Events are taken in bounded batches so that mail and flushes are never starved by
 * a busy queue, and what the events gathered is flushed once a batch, not once an event. */
#include "common/run/worker.h"

#include <errno.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/metrics/metrics.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"

#define TURN_EVENTS 64u /* a turn's bound: at 64 KiB a message about 1 ms of work */

int worker_init(struct worker *worker, unsigned index, unsigned count, struct metrics_cell *metrics)
{
    int r;

    memset(worker, 0, sizeof(*worker));
    worker->index = index;
    worker->count = count;
    worker->metrics = metrics;
    worker->now_ns = clock_now_ns();
    mailbox_init(&worker->mailbox);
    list_init(&worker->hooks);
    r = pump_new(&worker->pump);
    return r ? error_pass(r) : 0;
}

void worker_deinit(struct worker *worker)
{
    if (worker->pump) {
        pump_close(worker->pump);
        pump_free(worker->pump);
    }
    worker->pump = NULL;
}

static void *worker_loop(void *argument)
{
    struct worker *worker = argument;
    uint64_t next_ns = 0;

    while (!worker->stopping) {
        unsigned events = pump_wait(worker->pump, 0, TURN_EVENTS);

        if (events == 0 && next_ns > clock_now_ns() && mailbox_sleep(&worker->mailbox)) {
            events = pump_wait(worker->pump, next_ns, TURN_EVENTS);
            mailbox_awake(&worker->mailbox);
        }
        next_ns = worker_turn(worker, clock_now_ns());
    }
    return NULL;
}

int worker_start(struct worker *worker)
{
    int r = pthread_create(&worker->thread, NULL, worker_loop, worker);

    return r ? error_raise(-r) : 0;
}

void worker_post(struct worker *worker, struct mail *mail)
{
    if (mailbox_post(&worker->mailbox, mail))
        pump_wake(worker->pump);
}


static void worker_on_stop(struct mail *mail, void *receiver)
{
    (void)mail;
    ((struct worker *)receiver)->stopping = true;
}

void worker_stop(struct worker *worker)
{
    struct mail stop = {.deliver = worker_on_stop};

    worker_post(worker, &stop);
    (void)pthread_join(worker->thread, NULL);
}
