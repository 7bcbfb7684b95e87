/* The two processors that stand in nearly every file. Neither runs here: requests are gathered where they are sent, and memory
 * is bounded from the start; so their keys are read, checked as the Collector checks them, and mapped by the tiers. */
#include <strings.h>

#include "common/base/num.h"
#include "common/config/otlp_parts.h"

/* -- batch ---------------------------------------------------------------------------------------------- */

const struct config_key batch_processor_keys[] = {
    CONFIG_KEY_NAMED(struct batch_processor_config, timeout_ns, "timeout", CONFIG_SPAN,
        "Longest time spans wait for company; 0: they are sent at once."),
    CONFIG_KEY_SET(struct batch_processor_config, send_batch_size, "send_batch_size", CONFIG_UINT, send_batch_size_set,
        "Spans at which a request is sent without waiting; absent: 8192."),
    CONFIG_KEY(struct batch_processor_config, send_batch_max_size, CONFIG_UINT, "Most spans of one request; 0: no limit."),
    CONFIG_KEY(struct batch_processor_config, metadata_keys, CONFIG_STRINGS,
        "Headers of clients by which requests are kept apart. They stay with their spans; what is sent on is for tailrace.forward_headers "
        "or headers_setter to say."),
    CONFIG_IGNORE_UNLESS("metadata_cardinality_limit", "1000",
        "requests are kept apart without a table that could grow, so there is nothing to limit"),
    {0},
};

const struct batch_processor_config batch_processor_defaults = {
    .timeout_ns = (int64_t)(200 * NS_PER_MS),
    .send_batch_size = 8192,
};

int batch_processor_read(struct config_context *context, const struct config_node *node, struct batch_processor_config *out_batch)
{
    struct batch_processor_config batch = batch_processor_defaults;
    int result;

    batch.node = node;
    result = config_read(context, node, batch_processor_keys, &batch);
    if (batch.send_batch_max_size > 0 && batch.send_batch_max_size < batch.send_batch_size)
        result = config_error(context, config_node_near(node, "send_batch_max_size"), "below send_batch_size%s",
            batch.send_batch_size_set ? "" : " (default 8192)");
    for (size_t i = 0; i < batch.metadata_keys.count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcasecmp(batch.metadata_keys.items[i], batch.metadata_keys.items[j]) == 0)
                result = config_error(context, config_node_near(node, "metadata_keys"), "`%.60s` is here twice",
                    batch.metadata_keys.items[i]);
        }
    }
    *out_batch = batch;
    return result;
}

/* -- memory_limiter ------------------------------------------------------------------------------------- */

#define NO_GC "there is no garbage to collect"

const struct config_key memory_limiter_keys[] = {
    CONFIG_KEY_NAMED(struct memory_limiter_config, check_interval_ns, "check_interval", CONFIG_SPAN,
        "Required and above 0, as in the Collector (differs from the Collector: the budget is kept at every moment)."),
    CONFIG_KEY_NAMED(struct memory_limiter_config, limit_bytes, "limit_mib", CONFIG_MIB, "The limit; wins over limit_percentage."),
    CONFIG_KEY_SET(struct memory_limiter_config, spike_bytes, "spike_limit_mib", CONFIG_MIB, spike_set,
        "What is taken off the limit; absent: a fifth of it."),
    CONFIG_KEY(struct memory_limiter_config, limit_percentage, CONFIG_UINT,
        "The limit in percent of the container's or the machine's memory."),
    CONFIG_KEY_SET(struct memory_limiter_config, spike_percentage, "spike_limit_percentage", CONFIG_UINT, spike_percentage_set,
        "What is taken off the limit, in percent of the same; absent: a fifth of limit_percentage."),
    CONFIG_IGNORE("min_gc_interval_when_soft_limited", NO_GC),
    CONFIG_IGNORE("min_gc_interval_when_hard_limited", NO_GC),
    CONFIG_IGNORE("max_gc_interval_when_soft_limited", NO_GC),
    CONFIG_IGNORE("max_gc_interval_when_hard_limited", NO_GC),
    CONFIG_IGNORE("ballast_size_mib", NO_GC),
    {0},
};

const struct memory_limiter_config memory_limiter_defaults;

static int check_limits(struct config_context *context, const struct config_node *node, const struct memory_limiter_config *limiter)
{
    int result = 0;

    if (limiter->check_interval_ns == 0)
        result = config_error(context, config_node_near(node, "check_interval"), "check_interval must be above 0");
    if (limiter->limit_bytes == 0 && limiter->limit_percentage == 0)
        return config_error(context, node, "limit_mib or limit_percentage must be above 0");
    if (limiter->limit_percentage > 100)
        result = config_error(context, config_node_near(node, "limit_percentage"), "expected at most 100");
    if (limiter->spike_percentage > 100)
        result = config_error(context, config_node_near(node, "spike_limit_percentage"), "expected at most 100");
    if (limiter->limit_bytes > 0 && limiter->spike_bytes >= limiter->limit_bytes)
        result = config_error(context, config_node_near(node, "spike_limit_mib"), "not below limit_mib");
    if (limiter->limit_bytes == 0 && limiter->spike_percentage >= limiter->limit_percentage)
        result = config_error(context, config_node_near(node, "spike_limit_percentage"), "not below limit_percentage");
    return result;
}

int memory_limiter_read(
    struct config_context *context, const struct config_node *node, struct memory_limiter_config *out_limiter)
{
    struct memory_limiter_config limiter = memory_limiter_defaults;
    int result;

    limiter.node = node;
    result = config_read(context, node, memory_limiter_keys, &limiter);
    if (result == 0)
        result = check_limits(context, node, &limiter);
    if (result)
        limiter.limit_bytes = limiter.limit_percentage = 0; /* maps to nothing */
    *out_limiter = limiter;
    return result;
}

uint64_t memory_limiter_soft_bytes(const struct memory_limiter_config *limiter, uint64_t machine_bytes)
{
    uint64_t percent;

    if (limiter->limit_bytes > 0)
        return limiter->limit_bytes - (limiter->spike_set ? limiter->spike_bytes : limiter->limit_bytes / 5);
    percent = limiter->limit_percentage;
    return machine_bytes / 100 * (percent - (limiter->spike_percentage_set ? limiter->spike_percentage : percent / 5));
}
