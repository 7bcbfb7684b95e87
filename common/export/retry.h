/* When to try again: exponential backoff with jitter, and a budget that keeps retries a fraction of the traffic.
 * Source: collector exporterhelper retry_on_failure; OTLP specification, failures. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/num.h"

struct retry_options {
    bool enabled;
    uint64_t initial_interval_ns, max_interval_ns;
    uint64_t max_elapsed_time_ns; /* 0: for ever */
    double multiplier, randomization_factor;
};

struct retry {
    uint64_t first_ns;    /* of the first attempt; 0: none yet */
    uint64_t interval_ns; /* next, before jitter */
};

/* The Collector's defaults, but without end: keys absent mean for ever. */
struct retry_options retry_defaults(void);

/* No wait is shorter: with initial_interval or multiplier 0 the Collector would try in a tight loop. */
#define RETRY_DELAY_MIN_NS (10 * NS_PER_MS)

/* Notes the time of the first attempt, from which max_elapsed_time counts. Later calls change nothing. */
void retry_begin(struct retry *retry, uint64_t now_ns);

/* After a failed attempt: sets *out_at_ns to when to try again, no sooner than the server asked (named_ns; 0: it
 * did not). False: retries are off or max_elapsed_time would pass, give up. random: any 64 bits. */
bool retry_next(struct retry *retry, const struct retry_options *options, uint64_t now_ns, uint64_t named_ns,
    uint64_t random, uint64_t *out_at_ns);

/* OTLP: may a client try this gRPC status again? RESOURCE_EXHAUSTED only with RetryInfo. */
bool retry_is_retryable(int grpc_code, bool has_retry_info);

/* A token bucket: each first send earns `ratio` of a retry, up to `most`. */
struct retry_budget {
    double tokens, most, ratio;
};
void retry_budget_init(struct retry_budget *budget, double ratio, double most);
void retry_budget_earn(struct retry_budget *budget);
bool retry_budget_spend(struct retry_budget *budget);
