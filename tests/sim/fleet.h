/* The deployment: balancers and samplers as Kubernetes would run them, with what it tells resolvers of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/backend.h"
#include "tests/sim/process.h"

#define SAMPLERS_MAX 110u
#define LBS_MAX 3u

enum fleet_sync { SYNC_NONE, SYNC_INTERVAL, SYNC_ALWAYS };

struct fleet_options {
    unsigned samplers;      /* there from the beginning */
    unsigned samplers_most; /* nodes made, for those that join later */
    unsigned lbs, workers, backends;
    bool clustered;         /* tailrace.cluster with a resolver: traces are handed over */
    bool journal;
    enum fleet_sync sync;
    bool memory_on_error;   /* on_error: memory */
    bool tenants;           /* header x-tenant is carried from clients to backends */
    uint64_t decision_wait_ns, handoff_timeout_ns, status_interval_ns, drain_timeout_ns;
    uint64_t late_most_ns;  /* what a decision may be too late; 0: anything */
    uint64_t memory_mib;    /* 0: plenty */
    const char *at_limit;
    int sampled_cache, non_sampled_cache; /* 0: none of its kind */
    uint64_t verdict_keep_ns;             /* 0: the program's default */
    uint64_t verdict_bytes;               /* room for records, in place of what the memory limit gives; 0: that */
};

struct fleet {
    struct fleet_options options;
    struct node *samplers[SAMPLERS_MAX], *lbs[LBS_MAX], *backends[BACKENDS_MAX];
    unsigned version[SAMPLERS_MAX];    /* of the policies in its file (oracle.h) */
    bool terminating[SAMPLERS_MAX];
    uint64_t lag_most_ns;              /* of resolvers */
    uint64_t lb_lag_ns[LBS_MAX];       /* … and of that balancer, always */
    unsigned resolve_fails, resolve_empty, resolve_partial; /* per mille of answers */
    struct sim_event tick;
};
extern struct fleet fleet;

void fleet_begin(const struct fleet_options *options);
void fleet_end(void);

void fleet_start(struct node *node);
/* SIGTERM, as Kubernetes does it: the resolvers learn of it, too. */
void fleet_stop(struct node *node);
void fleet_kill(struct node *node, bool machine_too);
/* Kills it now and starts it again later; 0: never. */
void fleet_crash(struct node *node, uint64_t back_after_ns, bool machine_too);
/* A volume came to heir under another name: the old name is gone for good, and heir goes on where it ended. */
void fleet_succeeds(struct node *heir, struct node *node);
/* Its file changes to those policies, and it is told; if it runs. broken_too: first to a file that is not valid, which must change nothing. */
void fleet_reload(struct node *node, unsigned version, bool broken_too);
/* The other end of all faults: everything runs, everything is reachable. */
void fleet_mend(void);
bool fleet_is_up(const struct node *node);
/* All that run are told to end, balancers first; false: some did not. */
bool fleet_finish(void);
