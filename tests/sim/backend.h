/* The backends: each takes what samplers export to it and writes it into the ledger (oracle.h); sometimes away, slow, full, or gone
 * before it has answered. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct backend {
    bool away;                 /* nobody listens */
    unsigned refuse_per_mille; /* UNAVAILABLE or RESOURCE_EXHAUSTED, nothing taken */
    unsigned mute_per_mille;   /* takes it and never answers */
    uint64_t service_most_ns;
};
#define BACKENDS_MAX 2u
extern struct backend backends[BACKENDS_MAX];

#define BACKEND_ADDRESS "10.9.0.%u:4317" /* from 1 */

void backends_begin(void);
void backend_set_away(unsigned index, bool away);
