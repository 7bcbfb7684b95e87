/* Whether anything is held is asked of the workers, again and again; an answer counts for the phase in which it was asked. */
#include "sampler/drain_run.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/handoff/cluster.h"
#include "sampler/sampler_worker.h"

#define ASK_GAP_NS (50 * NS_PER_MS)
#define PROGRESS_NS (5 * NS_PER_S)

static void drain_on_holds(void *context, const struct holds_sum *sum)
{
    struct sampler *sampler = context;
    struct drain_run *run = &sampler->drain_run;

    run->idle = run->asked_phase == run->drain.phase && sum->swept && sum->open_requests == 0 && sum->traces == 0 && sum->verdicts == 0 &&
        sum->survivors == 0 && sum->foreign_traces == 0 && sum->exports == 0;
    run->remembers = sum->remembers;
    sampler_drain_tend(sampler, clock_now_ns());
}

static void drain_ask(struct sampler *sampler, uint64_t now_ns)
{
    struct drain_run *run = &sampler->drain_run;

    if (!drain_asks(&run->drain) || hold_poll_under_way(&run->poll) || (!sampler->cluster && !sampler->journal))
        return;
    if (sampler->cluster && !sampler->config.gives_only && !cluster_is_draining(sampler->cluster))
        return; /* verdicts that are another's by the ring to come would not be found */
    if (run->asked_phase == run->drain.phase && now_ns - run->asked_ns < ASK_GAP_NS)
        return;
    if (!run->poll.questions)
        hold_poll_init(&run->poll, sampler, sampler, drain_on_holds);
    run->asked_phase = run->drain.phase;
    run->asked_ns = now_ns;
    hold_poll_begin(&run->poll, sampler->cluster ? cluster_view_members(sampler->cluster) : 0);
}

/* -- acts --------------------------------------------------------------------------------------------------------- */

/* A last order to each worker. */
struct order_mail {
    struct mail mail;
    struct sampler_worker *home;
    unsigned act;
};

static void worker_on_order(struct mail *mail, void *receiver)
{
    struct order_mail *order = container_of(mail, struct order_mail, mail);

    (void)receiver;
    if (order->act == DRAIN_STAND_STILL)
        worker_stand_still(order->home);
    else
        worker_decide_all(order->home);
    free(order);
}

static void order_all(struct sampler *sampler, unsigned act)
{
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        struct order_mail *order = calloc(1, sizeof(*order));

        ASSERT(order != NULL);
        order->mail.deliver = worker_on_order;
        order->home = &sampler->workers[i];
        order->act = act;
        worker_post(&sampler->workers[i].worker, &order->mail);
    }
}

static void control_on_listeners_done(struct mail *mail, void *receiver)
{
    struct sampler *sampler = container_of(mail, struct sampler, drain_run.listeners_mail);

    (void)receiver;
    sampler->drain_run.listeners_done = true;
    sampler_drain_tend(sampler, clock_now_ns());
}

/* The last request was answered: from here on nothing comes in. */
static void on_listeners_done(void *context)
{
    struct sampler *sampler = context;

    sampler->drain_run.listeners_mail.deliver = control_on_listeners_done;
    control_post(&sampler->control, &sampler->drain_run.listeners_mail);
}

static void drain_do(struct sampler *sampler, unsigned acts, uint64_t now_ns)
{
    if (acts & DRAIN_SAY)
        cluster_drain(sampler->cluster, now_ns);
    if (acts & (DRAIN_SAY | DRAIN_CLOSE))
        listeners_draining(sampler->listeners);
    if (acts & DRAIN_CLOSE)
        listeners_shutdown(sampler->listeners, on_listeners_done, sampler);
    if (acts & DRAIN_CANCEL)
        listeners_cancel_all(sampler->listeners);
    if (acts & (DRAIN_DECIDE | DRAIN_STAND_STILL))
        order_all(sampler, acts & (DRAIN_DECIDE | DRAIN_STAND_STILL));
    if (acts & (DRAIN_LEAVE_CLEAN | DRAIN_LEAVE))
        cluster_leave(sampler->cluster, (acts & DRAIN_LEAVE_CLEAN) != 0, now_ns);
    if (acts & DRAIN_END)
        control_break(&sampler->control);
}

/* -- steps -------------------------------------------------------------------------------------------------------- */

static struct drain_facts facts_of(const struct sampler *sampler)
{
    const struct drain_run *run = &sampler->drain_run;

    return (struct drain_facts){
        .cluster = sampler->cluster != NULL,
        .journal = sampler->journal != NULL,
        .fellows = sampler->cluster && (sampler->config.gives_only || cluster_has_fellows(sampler->cluster)),
        .idle = run->idle,
        .heard = !sampler->cluster || cluster_heard(sampler->cluster),
        .remembers = sampler->journal && run->remembers && sampler->cluster && cluster_owns_some(sampler->cluster),
        .listeners_done = run->listeners_done,
        .finished = atomic_load(&sampler->workers_finished) == sampler->worker_count,
        .stops = run->stops,
        .grace_ns = (uint64_t)sampler->settings->config.tailrace.drain_timeout_ns,
    };
}

static void say_cut(const struct sampler *sampler, const struct drain_facts *facts)
{
    log_event(LOG_WARN, "drain_cut_short", "reason=%s text=\"%s\"", facts->stops > 1 ? "second_signal" : "drain_timeout",
        sampler->journal ? "what is left stays in the journal" : "what is left is decided here, or lost");
}

/* What is left, now and then: a drain may take its time. */
static void say_progress(struct sampler *sampler, uint64_t now_ns)
{
    bool reachable = sampler->cluster && cluster_has_fellows(sampler->cluster);
    struct drain_run *run = &sampler->drain_run;

    if (now_ns - run->said_ns < PROGRESS_NS || run->drain.phase == DRAIN_OVER)
        return;
    if (run->said_ns > 0)
        log_event(LOG_INFO, "drain_progress", "traces_left=%llu given_traces=%llu given_bytes=%llu samplers_reachable=%s",
            (unsigned long long)metrics_sum(&sampler->metrics, METRIC_TRACES_HELD),
            (unsigned long long)metrics_sum(&sampler->metrics, METRIC_GIVEN_TRACES),
            (unsigned long long)metrics_sum(&sampler->metrics, METRIC_GIVEN_BYTES), reachable ? "true" : "false");
    if (run->said_ns > 0 && !reachable && sampler->config.gives_only)
        log_event(LOG_WARN, "drain_waits", "text=\"no sampler of the cluster can be reached: are --to and the options of TLS right?\"");
    run->said_ns = now_ns;
}

void sampler_drain_tend(struct sampler *sampler, uint64_t now_ns)
{
    struct drain_run *run = &sampler->drain_run;
    unsigned acts;
    bool moved;

    if (run->stops == 0)
        return;
    do {
        const struct drain_facts facts = facts_of(sampler);
        enum drain_phase before = run->drain.phase;
        bool cut = run->drain.cut;

        acts = drain_step(&run->drain, &facts, now_ns);
        moved = run->drain.phase != before;
        if (moved)
            run->idle = false;
        if (run->drain.cut && !cut)
            say_cut(sampler, &facts);
        drain_do(sampler, acts, now_ns);
    } while (moved && run->drain.phase != DRAIN_OVER);
    drain_ask(sampler, now_ns);
    say_progress(sampler, now_ns);
}

void sampler_on_stop(void *context, unsigned signal_count)
{
    struct sampler *sampler = context;

    unsigned stops = signal_count + (sampler->config.gives_only && sampler->replayed);

    sampler->drain_run.stops = stops > sampler->drain_run.stops ? stops : sampler->drain_run.stops;
    if (!sampler->draining) {
        sampler->draining = true;
        log_event(LOG_INFO, "draining", "traces_held=%llu", (unsigned long long)metrics_sum(&sampler->metrics, METRIC_TRACES_HELD));
    }
    sampler_drain_tend(sampler, clock_now_ns());
}

void sampler_drain_deinit(struct sampler *sampler)
{
    if (sampler->drain_run.poll.questions)
        hold_poll_deinit(&sampler->drain_run.poll);
}
