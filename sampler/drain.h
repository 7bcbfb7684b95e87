/* The end of a sampler, step by step (handoff rules L1 to L4). Pure: facts and time go in, what is to be done comes out.
 *
 *   RUNNING --stop--> GIVING --nothing held--> CLOSING --nobody is served--> EMPTYING --nothing held--> LEAVING --heard--> OVER
 *      '---stop, alone-------------------------^                                 |                         ^
 *                                   GIVING, CLOSING, EMPTYING --grace over-------+--> FORCED --done--------'
 *
 * GIVING   said to all; still serving, since balancers lag: what comes is forwarded, what is held travels.
 * CLOSING  no new connections; calls under way end.
 * EMPTYING nothing comes in. What is held travels or, where nobody takes it, is decided: with a journal when it is due (what is
 *          left stays there), without one now.
 * FORCED   the grace is nearly over (DRAIN_MARGIN_NS before its end, or a second signal): with a journal everything stands still,
 *          without one everything is decided here.
 * LEAVING  left, said to all; at most DRAIN_HEARD_NS. Clean where nothing stays behind: who leaves verdicts in its journal, while all others
 *          drain too, keeps its slots for handoff_timeout, so that nobody decides there anew before it is back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DRAIN_MARGIN_NS 2000000000ull
#define DRAIN_HEARD_NS 1000000000ull

enum drain_phase { DRAIN_RUNNING, DRAIN_GIVING, DRAIN_CLOSING, DRAIN_EMPTYING, DRAIN_FORCED, DRAIN_LEAVING, DRAIN_OVER };

struct drain {
    enum drain_phase phase;
    uint64_t began_ns, leaving_ns;
    bool cut;       /* not everything went where it should */
    bool clean;     /* left so */
    bool deciding, closed, cancelled;
};

struct drain_facts {
    bool cluster, journal;
    bool fellows;        /* somebody is there to take what is given away */
    bool idle;           /* asked since the phase began: nothing is held, nothing is under way */
    bool heard;          /* every reachable peer has heard the present state */
    bool listeners_done; /* nobody is served any more */
    bool remembers;      /* the journal has young verdicts of slots that are this one's to the last: nobody was ready to take them */
    bool finished;       /* all was decided and delivered, after DRAIN_DECIDE */
    unsigned stops;      /* signals */
    uint64_t grace_ns;   /* tailrace.drain_timeout */
};

/* To be done in this order; a bit each. */
enum drain_act {
    DRAIN_SAY = 1,            /* draining, to all */
    DRAIN_CLOSE = 2,          /* the listeners: no new connections */
    DRAIN_CANCEL = 4,         /* what they still serve */
    DRAIN_DECIDE = 8,         /* everything here, now, whoever owns it */
    DRAIN_STAND_STILL = 16,   /* nothing more is decided or exported: the journal has it */
    DRAIN_LEAVE_CLEAN = 32,   /* left, and nothing is here */
    DRAIN_LEAVE = 64,
    DRAIN_END = 128,          /* the process */
};

/* Each time something changed, and now and then; stops 0: nothing. */
unsigned drain_step(struct drain *drain, const struct drain_facts *facts, uint64_t now_ns);
const char *drain_phase_name(enum drain_phase phase);
static inline bool drain_asks(const struct drain *drain)
{
    return drain->phase == DRAIN_GIVING || drain->phase == DRAIN_EMPTYING;
}
