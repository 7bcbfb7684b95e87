/* Times are kept as whole nanoseconds; the factors of the configuration are applied in double, which is
 * exact to a nanosecond for intervals up to 104 days, far more than anyone waits. */
#include "common/export/retry.h"

#include "common/export/rpc_code.h"

struct retry_options retry_defaults(void)
{
    return (struct retry_options){
        .enabled = true,
        .initial_interval_ns = 5 * NS_PER_S,
        .max_interval_ns = 30 * NS_PER_S,
        .max_elapsed_time_ns = 0,
        .multiplier = 1.5,
        .randomization_factor = 0.5,
    };
}

/* A product that stays a time: not a number or negative becomes 0, too large the end of time. */
static uint64_t ns_times(uint64_t ns, double factor)
{
    double product = (double)ns * factor;

    if (!(product > 0.0))
        return 0;
    if (product >= 0x1p63)
        return UINT64_MAX;
    return (uint64_t)product;
}

/* Evenly in [0, 1): the upper 53 bits, as many as a double holds. */
static double unit_of(uint64_t random)
{
    return (double)(random >> 11) * 0x1p-53;
}

void retry_begin(struct retry *retry, uint64_t now_ns)
{
    if (retry->first_ns == 0)
        retry->first_ns = u64_max(now_ns, 1);
}

bool retry_next(struct retry *retry, const struct retry_options *options, uint64_t now_ns, uint64_t named_ns,
    uint64_t random, uint64_t *out_at_ns)
{
    double spread = options->randomization_factor;
    uint64_t delay_ns, at_ns;

    if (!options->enabled)
        return false;
    retry_begin(retry, now_ns);
    if (retry->interval_ns == 0)
        retry->interval_ns = u64_max(options->initial_interval_ns, RETRY_DELAY_MIN_NS);

    delay_ns = ns_times(retry->interval_ns, 1.0 - spread + 2.0 * spread * unit_of(random));
    delay_ns = u64_max(u64_max(delay_ns, named_ns), RETRY_DELAY_MIN_NS);
    at_ns = u64_add_cap(now_ns, delay_ns);
    if (options->max_elapsed_time_ns > 0 &&
        at_ns > u64_add_cap(retry->first_ns, options->max_elapsed_time_ns))
        return false;

    retry->interval_ns = u64_min(ns_times(retry->interval_ns, options->multiplier), options->max_interval_ns);
    retry->interval_ns = u64_max(retry->interval_ns, RETRY_DELAY_MIN_NS);
    *out_at_ns = at_ns;
    return true;
}

bool retry_is_retryable(int grpc_code, bool has_retry_info)
{
    switch (grpc_code) {
    case RPC_CANCELLED:
    case RPC_DEADLINE_EXCEEDED:
    case RPC_ABORTED:
    case RPC_OUT_OF_RANGE:
    case RPC_UNAVAILABLE:
    case RPC_DATA_LOSS:
        return true;
    case RPC_RESOURCE_EXHAUSTED:
        return has_retry_info;
    default:
        return false; /* also codes no specification knows */
    }
}

void retry_budget_init(struct retry_budget *budget, double ratio, double most)
{
    *budget = (struct retry_budget){.tokens = most, .most = most, .ratio = ratio};
}

void retry_budget_earn(struct retry_budget *budget)
{
    budget->tokens += budget->ratio;
    if (budget->tokens > budget->most)
        budget->tokens = budget->most;
}

bool retry_budget_spend(struct retry_budget *budget)
{
    if (budget->tokens < 1.0)
        return false;
    budget->tokens -= 1.0;
    return true;
}
