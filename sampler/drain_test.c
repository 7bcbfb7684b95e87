/* A sampler leaves when it holds nothing, or in time before the grace is over; what it cannot give stays in the journal or is
 * decided; nobody is served after the answer that counts. Each case is a run: facts over time, and what must have been done. */
#include "sampler/drain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define S NS_PER_S
#define GRACE (60 * S)

enum { NEVER = 1000, LEFT = DRAIN_LEAVE | DRAIN_LEAVE_CLEAN };

struct run {
    const char *name;
    bool cluster, journal;
    unsigned alone_from_s;   /* fellows until then */
    unsigned idle_s;         /* from then on nothing is held */
    unsigned close_takes_s;  /* until the listeners are done */
    unsigned decide_takes_s; /* until all is decided and delivered */
    unsigned hear_takes_s;   /* until the last word was heard */
    unsigned second_s, third_s;
    /* expected */
    unsigned acts;           /* all that was done */
    unsigned end_s;          /* when */
    bool cut;
};

static const struct run runs[] = {
    {"to fellows", true, true, NEVER, 5, 0, NEVER, 0, NEVER, NEVER, DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE_CLEAN | DRAIN_END, 5, false},
    {"nothing held at all", true, false, NEVER, 0, 0, NEVER, 0, NEVER, NEVER, DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE_CLEAN | DRAIN_END, 0, false},
    {"clients take their time", true, true, NEVER, 5, 4, NEVER, 0, NEVER, NEVER, DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE_CLEAN | DRAIN_END, 9, false},
    {"a peer does not hear", true, true, NEVER, 5, 0, NEVER, NEVER, NEVER, NEVER, DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE_CLEAN | DRAIN_END, 6, false},
    {"not all travels, journal", true, true, NEVER, NEVER, 0, NEVER, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_STAND_STILL | DRAIN_LEAVE | DRAIN_END, 58, true},
    {"not all travels, memory", true, false, NEVER, NEVER, 0, 1, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_DECIDE | DRAIN_LEAVE | DRAIN_END, 59, true},
    {"nor is it delivered", true, false, NEVER, NEVER, 0, NEVER, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_DECIDE | DRAIN_LEAVE | DRAIN_END, 60, true},
    {"last one, journal: what is due is decided", true, true, 0, 20, 0, NEVER, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE_CLEAN | DRAIN_END, 20, false},
    {"last one, journal: the rest stays", true, true, 0, NEVER, 0, NEVER, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_STAND_STILL | DRAIN_LEAVE | DRAIN_END, 58, true},
    {"last one, memory", true, false, 0, NEVER, 0, 3, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_DECIDE | DRAIN_LEAVE_CLEAN | DRAIN_END, 3, false},
    {"the others go first, memory", true, false, 10, NEVER, 0, 3, 0, NEVER, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_DECIDE | DRAIN_LEAVE_CLEAN | DRAIN_END, 13, false},
    {"standalone", false, false, 0, NEVER, 2, 4, 0, NEVER, NEVER, DRAIN_CLOSE | DRAIN_DECIDE | DRAIN_END, 6, false},
    {"standalone, backend away", false, false, 0, NEVER, 0, NEVER, 0, NEVER, NEVER, DRAIN_CLOSE | DRAIN_DECIDE | DRAIN_END, 60, true},
    {"standalone, client hangs", false, false, 0, NEVER, NEVER, 0, 0, NEVER, NEVER, DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_END, 60, true},
    {"standalone with a journal", false, true, 0, 30, 0, NEVER, 0, NEVER, NEVER, DRAIN_CLOSE | DRAIN_END, 30, false},
    {"standalone with a journal, long", false, true, 0, NEVER, 0, NEVER, 0, NEVER, NEVER, DRAIN_CLOSE | DRAIN_STAND_STILL | DRAIN_END, 58, true},
    {"second signal, journal", true, true, NEVER, NEVER, 0, NEVER, 0, 7, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_STAND_STILL | DRAIN_LEAVE | DRAIN_END, 7, true},
    {"second signal, memory", true, false, NEVER, NEVER, 0, NEVER, 0, 7, NEVER,
        DRAIN_SAY | DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_LEAVE | DRAIN_END, 7, true},
    {"second signal, standalone", false, false, 0, NEVER, NEVER, NEVER, 0, 7, NEVER, DRAIN_CLOSE | DRAIN_CANCEL | DRAIN_END, 7, true},
};

static void test_runs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(runs); i++) {
        const struct run *run = &runs[i];
        struct drain drain = {.phase = DRAIN_RUNNING};
        uint64_t closed_ns = 0, decided_ns = 0, left_ns = 0, now_ns = 0; /* when it was done */
        unsigned acts = 0;

        for (; now_ns <= 100 * S && drain.phase != DRAIN_OVER; now_ns += S / 10) {
            for (int turn = 0; turn < 6; turn++) { /* several things may follow each other at once */
                bool cancelled = (acts & DRAIN_CANCEL) != 0;
                struct drain_facts facts = {
                    .cluster = run->cluster,
                    .journal = run->journal,
                    .fellows = run->cluster && now_ns < run->alone_from_s * S,
                    .idle = now_ns >= run->idle_s * S,
                    .heard = !(acts & LEFT) || now_ns - left_ns >= run->hear_takes_s * S,
                    .listeners_done = (acts & DRAIN_CLOSE) && (cancelled || now_ns - closed_ns >= run->close_takes_s * S),
                    .finished = (acts & DRAIN_DECIDE) && now_ns - decided_ns >= run->decide_takes_s * S,
                    .stops = 1u + (now_ns >= run->second_s * S) + (now_ns >= run->third_s * S),
                    .grace_ns = GRACE,
                };
                unsigned done = drain_step(&drain, &facts, now_ns + 1000 * S);

                if (done & acts & ~(unsigned)DRAIN_SAY)
                    fail_msg("%s: %#x done twice", run->name, done & acts);
                if ((done & (LEFT | DRAIN_END)) && !facts.listeners_done)
                    fail_msg("%s: left while somebody is served", run->name);
                acts |= done;
                if (done & DRAIN_CLOSE)
                    closed_ns = now_ns;
                if (done & DRAIN_DECIDE)
                    decided_ns = now_ns;
                if (done & LEFT)
                    left_ns = now_ns;
            }
        }
        if (drain.phase != DRAIN_OVER)
            fail_msg("%s: no end; did %#x", run->name, acts);
        if (acts != run->acts || drain.cut != run->cut)
            fail_msg("%s: did %#x, expected %#x; cut %d", run->name, acts, run->acts, drain.cut);
        if (now_ns / S < run->end_s || now_ns > run->end_s * S + S)
            fail_msg("%s: ended at %llu ms, expected %u s", run->name, (unsigned long long)(now_ns / NS_PER_MS), run->end_s);
    }
}

/* While all drain nobody takes verdicts: who has young ones in its journal leaves them there, and says so. */
static void test_verdicts_stay(void **state)
{
    struct drain_facts facts = {
        .cluster = true, .journal = true, .fellows = true, .idle = true, .heard = true, .stops = 1, .grace_ns = GRACE, .remembers = true};
    struct drain drain = {.phase = DRAIN_RUNNING};
    unsigned acts = 0;

    (void)state;
    for (int turn = 0; turn < 10; turn++) {
        acts |= drain_step(&drain, &facts, 1000 * S);
        facts.listeners_done = (acts & DRAIN_CLOSE) != 0;
    }
    assert_int_equal(acts, DRAIN_SAY | DRAIN_CLOSE | DRAIN_LEAVE | DRAIN_END);
    assert_false(drain.cut);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs), cmocka_unit_test(test_verdicts_stay)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
