/* Defects planted on purpose (-Dplant=NAME), so that each promise's test can be shown to fail without it. */
#pragma once

#include <stdbool.h>

#include "common/base/plant_choice.h" /* by meson.build: a change of plant compiles again only what asks for one */

enum plant {
    PLANT_NONE,
    PLANT_DEDUPE_OFF,                  /* a resent span is buffered again */
    PLANT_FALLBACK_ON_OVERLOAD,        /* RESOURCE_EXHAUSTED travels round the ring */
    PLANT_ACKNOWLEDGE_BEFORE_DELIVERY, /* the balancer answers OK before a sampler did */
    PLANT_EMPTY_ANSWER_ACCEPTED,       /* a DNS answer without addresses empties the ring */
    PLANT_DRAIN_IN_A_HURRY,            /* SIGTERM cancels what a balancer has in flight */
    PLANT_GIVE_UP_AT_ONCE,             /* what a backend refuses for now is dropped */
    PLANT_INFLATE_UNBOUNDED,           /* bodies are inflated whole before their size is judged */
    PLANT_ANYBODY_MAY_SEND,            /* credentials of clients are not looked at */
    PLANT_SETTLE_OFF,                  /* slots that a sampler gains are settled at once */
    PLANT_HANDOFF_OFF,                 /* samplers keep what is another's, and give nothing away */
    PLANT_ACKNOWLEDGE_BEFORE_WRITE,    /* a sampler answers OK before its journal, or the owner of a forwarded span, has it */
    PLANT_CLOCK_RESTARTED_BY_MOVE,     /* a trace that was taken over begins a new decision_wait */
    PLANT_SENDER_FORGETS_EARLY,        /* what is given away is forgotten when it is sent */
    PLANT_RELOAD_HALF_APPLIED,         /* of an invalid configuration what could be read takes effect */
};

static inline bool planted(enum plant which)
{
    return PLANT == which;
}
