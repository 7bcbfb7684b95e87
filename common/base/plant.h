/* Defects planted on purpose (-Dplant=NAME), so that each promise's test can be shown to fail without it. */
#pragma once

#include <stdbool.h>

enum plant {
    PLANT_NONE,
    PLANT_DEDUPE_OFF,                  /* a resent span is buffered again */
    PLANT_FALLBACK_ON_OVERLOAD,        /* RESOURCE_EXHAUSTED travels round the ring */
    PLANT_ACKNOWLEDGE_BEFORE_DELIVERY, /* the balancer answers OK before a sampler did */
};

#ifndef PLANT
#define PLANT PLANT_NONE
#endif

static inline bool planted(enum plant which)
{
    return PLANT == which;
}
