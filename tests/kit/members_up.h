/* A router before members that are all up and need no connection: their links are in memory and nothing is ever sent.
 *
 * For what stops at the plan: costs and benches. It has no way back to DOWN, and nothing is delivered.
 */
#pragma once

#include "lb/route/router.h"

#define MEMBERS_UP_MOST 8u

struct members_up {
    struct router router;
    struct member_link links[MEMBERS_UP_MOST];
    unsigned count;
};

/* Members sampler-0, sampler-1, … with one link each, on a ring of their own. Running out of memory aborts. */
void members_up_init(struct members_up *members, unsigned count);
void members_up_deinit(struct members_up *members);
