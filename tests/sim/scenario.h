/* Named scenarios: what is deployed, what is sent, what goes wrong. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fleet_options;
struct workload;

struct scenario {
    const char *name, *about;
    unsigned every; /* in a run of all of them each so many-th seed only, as it takes long; 0: each */
    /* Changes what is usual. By lot too: the world's randomness is there. */
    void (*setup)(struct fleet_options *options, struct workload *load);
    /* Plans what goes wrong, from now on. */
    void (*plan)(void);
};

extern const struct scenario scenarios[];
extern const size_t scenario_count;
const struct scenario *scenario_find(const char *name);

struct run_result {
    bool failed;
    uint64_t digest, steps;
    unsigned explained;
    uint64_t acked, exported, latest_ns;
    char failure[2000];
};
/* One run, from nothing to its judgement. */
void scenario_run(const struct scenario *scenario, uint64_t seed, bool tracing, struct run_result *out_result);
