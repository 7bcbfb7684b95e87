/* The clients: SDKs that send traces of several spans, spread in time, over the balancers; try again what was refused or whose
 * answer got lost, through another one; and now and then send again what was acknowledged. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/oracle.h"
#include "tests/sim/world.h"

struct workload {
    unsigned traces;
    uint64_t begin_ns, end_ns;   /* when traces begin */
    uint64_t trace_length_ns;    /* how long the spans of one may come, mostly */
    uint64_t late_most_ns;       /* … and late ones */
    unsigned late_per_mille;     /* spans that are late */
    unsigned resend_per_mille;   /* requests that are sent again though they were acknowledged */
    unsigned direct_per_mille;   /* requests that go to a sampler of their own choice: misrouted */
    uint64_t give_up_ns;         /* a client tries so long */
    unsigned plain_per_mille;    /* traces that nobody wants */
    uint32_t pad_bytes;          /* each span is so much larger */
    unsigned tenants;            /* … each span of one of so many, most traces of one; 0: nobody's */
};

struct clients {
    struct workload load;
    struct node *node;
    unsigned under_way; /* requests */
    bool stopped;       /* no more tries */
};
extern struct clients clients;

void clients_begin(void);
/* Plans all requests. */
void clients_plan(const struct workload *load);
void clients_end(void);
