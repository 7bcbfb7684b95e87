#include "sampler/drain.h"

#include "common/base/num.h"

const char *drain_phase_name(enum drain_phase phase)
{
    static const char *const names[] = {"running", "giving", "closing", "emptying", "forced", "leaving", "over"};

    return names[phase];
}

static unsigned enter_closing(struct drain *drain)
{
    drain->phase = DRAIN_CLOSING;
    drain->closed = true;
    return DRAIN_CLOSE;
}

static unsigned begin(struct drain *drain, const struct drain_facts *facts, uint64_t now_ns)
{
    drain->began_ns = now_ns;
    drain->phase = DRAIN_GIVING;
    return (facts->cluster ? DRAIN_SAY : 0) | (facts->cluster && facts->fellows ? 0 : enter_closing(drain));
}

static unsigned enter_leaving(struct drain *drain, const struct drain_facts *facts, bool clean, uint64_t now_ns)
{
    drain->phase = DRAIN_LEAVING;
    drain->leaving_ns = now_ns;
    drain->clean = clean;
    if (!facts->cluster) {
        drain->phase = DRAIN_OVER;
        return DRAIN_END;
    }
    return clean ? DRAIN_LEAVE_CLEAN : DRAIN_LEAVE;
}

/* Whoever is still served is cut off; the listeners' end is waited for, since their calls live in them. */
static unsigned cancel(struct drain *drain, const struct drain_facts *facts)
{
    unsigned acts = drain->closed ? 0 : DRAIN_CLOSE;

    if (facts->listeners_done || drain->cancelled)
        return acts;
    drain->closed = drain->cancelled = true;
    return acts | DRAIN_CANCEL;
}

static unsigned enter_forced(struct drain *drain, const struct drain_facts *facts)
{
    unsigned acts = cancel(drain, facts);

    drain->phase = DRAIN_FORCED;
    drain->cut = true;
    if (facts->journal)
        return acts | DRAIN_STAND_STILL;
    if (facts->stops > 1 || drain->deciding || !facts->cluster)
        return acts; /* in a hurry, or decided already: what is not delivered by now is not */
    drain->deciding = true;
    return acts | DRAIN_DECIDE;
}

static bool grace_is_over(const struct drain *drain, const struct drain_facts *facts, uint64_t margin_ns, uint64_t now_ns)
{
    return now_ns - drain->began_ns >= u64_sub_floor(facts->grace_ns, margin_ns);
}

/* Before the very end there must be time to write, to decide, to say it. A standalone node without a journal needs none. */
static uint64_t margin_of(const struct drain_facts *facts)
{
    return facts->cluster || facts->journal ? u64_min(DRAIN_MARGIN_NS, facts->grace_ns / 2) : 0;
}

static unsigned step_emptying(struct drain *drain, const struct drain_facts *facts, uint64_t now_ns)
{
    if (!facts->journal && !(facts->cluster && facts->fellows) && !drain->deciding) {
        drain->deciding = true;
        return DRAIN_DECIDE;
    }
    if (drain->deciding ? facts->finished : facts->idle)
        return enter_leaving(drain, facts, !facts->remembers, now_ns);
    return 0;
}

static unsigned step_forced(struct drain *drain, const struct drain_facts *facts, uint64_t now_ns)
{
    bool over = facts->stops > 1 || grace_is_over(drain, facts, 0, now_ns);

    if (!facts->listeners_done && !over)
        return 0;
    if (facts->journal || over || (drain->deciding && facts->finished) || !drain->deciding)
        return facts->listeners_done ? enter_leaving(drain, facts, false, now_ns) : 0;
    return 0;
}

unsigned drain_step(struct drain *drain, const struct drain_facts *facts, uint64_t now_ns)
{
    if (drain->phase == DRAIN_RUNNING && facts->stops > 0)
        return begin(drain, facts, now_ns);
    if (drain->phase == DRAIN_GIVING || drain->phase == DRAIN_CLOSING || drain->phase == DRAIN_EMPTYING) {
        if (facts->stops > 1 || grace_is_over(drain, facts, margin_of(facts), now_ns))
            return enter_forced(drain, facts);
    }
    switch (drain->phase) {
    case DRAIN_RUNNING:
    case DRAIN_OVER:
        return 0;
    case DRAIN_GIVING:
        return (facts->idle && facts->heard) || !facts->fellows ? enter_closing(drain) : 0;
    case DRAIN_CLOSING:
        if (!facts->listeners_done)
            return 0;
        drain->phase = DRAIN_EMPTYING;
        return 0; /* what is held is asked anew: nothing comes in any more */
    case DRAIN_EMPTYING:
        return step_emptying(drain, facts, now_ns);
    case DRAIN_FORCED:
        return step_forced(drain, facts, now_ns);
    case DRAIN_LEAVING:
        if (!facts->heard && now_ns - drain->leaving_ns < DRAIN_HEARD_NS && facts->stops < 3)
            return 0;
        drain->phase = DRAIN_OVER;
        return DRAIN_END;
    }
    return 0;
}
