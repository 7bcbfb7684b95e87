/* What scenarios are made of: faults, planned for a time from now. Times are in units of handoff_timeout / 30, so that "back after 29"
 * means what handoff section 11 means by 29 seconds.
 *
 * Whatever breaks a condition of section 8 says so to the oracle here, where it is caused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/process.h"

/* A unit, in ns. */
uint64_t unit_ns(void);
/* A time so many units from now, give or take one. */
uint64_t in_units(uint64_t units);

void crash_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns);
void machine_crash_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns);
void stop_at(uint64_t at_ns, struct node *node);
void start_at(uint64_t at_ns, struct node *node);
/* SIGTERM, and a new life as soon as the old one has ended. */
void restart_at(uint64_t at_ns, struct node *node);
void backend_away_at(unsigned index, uint64_t at_ns, uint64_t for_ns);
void cut_at(uint64_t at_ns, struct node *a, struct node *b, bool both, uint64_t for_ns);
/* Every sampler of one set from every one of the other. */
void cut_sets_at(uint64_t at_ns, uint32_t set, uint32_t other, uint64_t for_ns);
void reset_at(uint64_t at_ns, struct node *a, struct node *b);
/* Its threads hardly get the CPU: each turn comes so much later. */
void stall_at(uint64_t at_ns, struct node *node, uint64_t slow_ns, uint64_t for_ns);
/* Its volume is lost with it. */
void volume_lost_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns);

struct node *any_sampler(void);     /* of those that are there from the beginning */
struct node *any_sampler_but(const struct node *node);
struct node *any_lb(void);
