/* The backend: takes what samplers export and writes it into the ledger (oracle.h); sometimes away, slow, full, or gone before it
 * has answered. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct backend {
    bool away;                 /* nobody listens */
    unsigned refuse_per_mille; /* UNAVAILABLE or RESOURCE_EXHAUSTED, nothing taken */
    unsigned mute_per_mille;   /* takes it and never answers */
    uint64_t service_most_ns;
};
extern struct backend backend;

void backend_begin(void);
void backend_set_away(bool away);
