/* In the place of common/run's clock.c, worker.c, control.c, http_loop.c, grpc_pump.c and cgroup.c: no threads, no descriptors, no
 * time but the world's. A worker's turn is an event; mail makes one soon. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/metrics/metrics.h"
#include "common/run/cgroup.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"
#include "common/run/http_loop.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/process.h"
#include "tests/sim/timer.h"

#define NODE_MEMORY_BYTES (2048 * MIB)
#define UNIX_START_NS (1800000000ull * NS_PER_S) /* 2027 */

/* -- clock ------------------------------------------------------------------------------------------------------------------- */

uint64_t clock_now_ns(void)
{
    return process_now ? local_of(process_now->node, world.now_ns) : world.now_ns;
}

uint64_t clock_now_unix_ns(void)
{
    uint64_t unix_ns = UNIX_START_NS + world.now_ns;

    return process_now ? (uint64_t)((int64_t)unix_ns + process_now->node->wall_offset_ns) : unix_ns;
}

void cgroup_limits_read(struct cgroup_limits *out_limits)
{
    *out_limits = (struct cgroup_limits){.cpu_count = 2, .memory_bytes = NODE_MEMORY_BYTES};
}

/* -- workers ------------------------------------------------------------------------------------------------------------------ */

struct sim_worker *sim_worker_of(const struct worker *worker)
{
    return (struct sim_worker *)(void *)worker->pump;
}

/* How long until a thread that was woken runs: mostly at once, now and then after others had the CPU. */
static uint64_t wake_delay_ns(const struct process *process)
{
    uint64_t delay_ns = rng_between(&world.net, 2, 60) * NS_PER_US;

    if (rng_chance(&world.net, 15))
        delay_ns += rng_between(&world.net, 1, 8) * NS_PER_MS;
    return delay_ns + process->node->slow_ns;
}

void worker_wake(struct sim_worker *worker)
{
    if (worker->process->started)
        event_sooner(&worker->turn, world.now_ns + wake_delay_ns(worker->process));
}

static void turn_run(struct sim_event *event)
{
    struct sim_worker *worker = container_of(event, struct sim_worker, turn);
    struct process *process = worker->process;
    uint64_t next_ns;

    process_enter(process);
    next_ns = sim_of(process->node, worker_turn(worker->worker, clock_now_ns()));
    process_leave();
    if (next_ns != UINT64_MAX)
        event_sooner(event, u64_max(next_ns, world.now_ns + 10 * NS_PER_US + process->node->slow_ns));
}

int worker_init(struct worker *worker, unsigned index, unsigned count, struct metrics_cell *metrics)
{
    struct process *process = process_now;
    struct sim_worker *mine = &process->workers[process->worker_count++];

    ASSERT(process->worker_count <= PROCESS_WORKERS_MAX);
    *mine = (struct sim_worker){.process = process, .worker = worker};
    event_init(&mine->turn, "turn", turn_run);
    memset(worker, 0, sizeof(*worker));
    worker->index = index;
    worker->count = count;
    worker->metrics = metrics;
    worker->now_ns = clock_now_ns();
    worker->pump = (struct pump *)(void *)mine;
    mailbox_init(&worker->mailbox);
    list_init(&worker->hooks);
    return 0;
}

/* As the pump's close: calls that were freed or cancelled end now. */
void worker_deinit(struct worker *worker)
{
    if (!worker->pump)
        return;
    links_drain(worker);
    event_cancel(&sim_worker_of(worker)->turn);
    worker->pump = NULL;
}

int worker_start(struct worker *worker)
{
    (void)worker;
    return 0;
}

void worker_post(struct worker *worker, struct mail *mail)
{
    (void)mailbox_post(&worker->mailbox, mail);
    if (worker->pump)
        worker_wake(sim_worker_of(worker));
}

void worker_stop(struct worker *worker)
{
    event_cancel(&sim_worker_of(worker)->turn);
    (void)mailbox_deliver(&worker->mailbox, worker);
    event_cancel(&sim_worker_of(worker)->turn);
}

/* -- control -------------------------------------------------------------------------------------------------------------------- */

struct control_timer {
    struct list node;
    struct sim_event event;
    struct process *process;
    struct control *control;
    uint64_t period_ns;
    void (*run)(void *context, uint64_t now_ns);
    void *context;
};

int control_init(struct control *control, void (*on_stop)(void *, unsigned), void (*on_hangup)(void *), void *context)
{
    memset(control, 0, sizeof(*control));
    mailbox_init(&control->mailbox);
    atomic_init(&control->breaking, false);
    control->on_stop = on_stop;
    control->on_hangup = on_hangup;
    control->context = context;
    control->base = (struct event_base *)(void *)process_now;
    process_now->control = control;
    return 0;
}

void control_deinit(struct control *control)
{
    if (!control->base)
        return;
    while (mailbox_deliver(&control->mailbox, control) > 0)
        ;
    ASSERT(control->timer_count == 0);
    memset(control, 0, sizeof(*control));
}

void control_run(struct control *control)
{
    (void)control;
    UNREACHABLE("the simulator turns the control loops");
}

static void control_wake(struct control *control)
{
    struct process *process = (struct process *)(void *)control->base;

    event_sooner(&process->control_turn, world.now_ns + wake_delay_ns(process));
}

void control_break(struct control *control)
{
    atomic_store(&control->breaking, true);
    control_wake(control);
}

void control_post(struct control *control, struct mail *mail)
{
    (void)mailbox_post(&control->mailbox, mail);
    control_wake(control);
}

static void timer_run(struct sim_event *event)
{
    struct control_timer *timer = container_of(event, struct control_timer, event);
    struct process *process = timer->process;
    struct control *control = timer->control;

    event_soon(&timer->event, timer->period_ns + process->node->slow_ns + rng_below(&world.net, 200) * NS_PER_US);
    process_enter(process);
    (void)mailbox_deliver(&control->mailbox, control);
    timer->run(timer->context, clock_now_ns()); /* the timer may be gone now */
    process_leave();
    if (atomic_load(&control->breaking))
        event_sooner(&process->control_turn, world.now_ns);
}

int control_timer_new(struct control *control, uint64_t period_ns, void (*run)(void *context, uint64_t now_ns), void *context,
    struct control_timer **out_timer)
{
    struct control_timer *timer = sim_alloc(sizeof(*timer));

    timer->process = process_now;
    timer->control = control;
    timer->period_ns = u64_max(period_ns, NS_PER_US);
    timer->run = run;
    timer->context = context;
    event_init(&timer->event, "timer", timer_run);
    event_soon(&timer->event, rng_between(&world.net, 1, u64_max(timer->period_ns, 2)));
    list_add_tail(&process_now->timers, &timer->node);
    control->timer_count++;
    *out_timer = timer;
    return 0;
}

void control_timer_free(struct control_timer *timer)
{
    if (!timer)
        return;
    event_cancel(&timer->event);
    list_del(&timer->node);
    timer->control->timer_count--;
    sim_free(timer);
}

void timers_forget(struct list *timers)
{
    struct list *node;

    while ((node = list_take_first(timers))) {
        struct control_timer *timer = container_of(node, struct control_timer, node);

        event_cancel(&timer->event);
        sim_free(timer);
    }
}

/* -- HTTP threads: there are none ------------------------------------------------------------------------------------------------ */

struct http_loop {
    int nothing;
};

int http_loops_new(struct http_loop **loops, unsigned count)
{
    static struct http_loop none;

    for (unsigned i = 0; i < count; i++)
        loops[i] = &none;
    return 0;
}

int http_loops_start(struct http_loop *const *loops, unsigned count)
{
    (void)loops;
    (void)count;
    return 0;
}

void http_loops_stop(struct http_loop *const *loops, unsigned count)
{
    (void)loops;
    (void)count;
}

void http_loops_drain(struct http_loop *const *loops, unsigned count)
{
    (void)loops;
    (void)count;
}

void http_loops_free(struct http_loop **loops, unsigned count)
{
    (void)loops;
    (void)count;
}

/* -- gRPC's library ---------------------------------------------------------------------------------------------------------------- */

const char *pump_library_version(void)
{
    return "none";
}

void pump_library_init(void)
{
}

void pump_library_deinit(void)
{
}
