#include "common/cluster/resolver_new.h"

#include <stdio.h>

#include "common/base/error.h"

static int say(int r, bool fallback, char *out_error, size_t error_size)
{
    if (r == RESOLVER_E_NO_ADDRESS || r == RESOLVER_E_BAD_ADDRESS)
        (void)snprintf(out_error, error_size, "%sno usable address", fallback ? "its fallback has " : "");
    return r;
}

static int static_new(const struct resolver_config *from, const struct resolver_events *events, struct resolver **out_resolver)
{
    return resolver_static_new((const char *const *)from->hostnames.items, from->hostnames.count, events, out_resolver);
}

static int dns_new(const struct resolver_plan *plan, const struct resolver_config *from, const struct resolver_events *events,
    struct resolver **out_resolver)
{
    const struct dns_options options = {
        .hostname = from->dns_hostname,
        .port = (unsigned)from->dns_port,
        .interval_ns = (uint64_t)from->dns_interval_ns,
        .timeout_ns = (uint64_t)from->dns_timeout_ns,
        .servers = (const char *const *)plan->dns->servers.items,
        .server_count = plan->dns->servers.count,
    };

    return resolver_dns_new(plan->control, &options, events, out_resolver);
}

/* A plan, and where the reason goes. */
struct order {
    const struct resolver_plan *plan;
    char *out_error;
    size_t error_size;
};

static int k8s_new(void *context, const struct resolver_events *events, struct resolver **out_resolver)
{
    const struct order *order = context;
    const struct resolver_config *from = order->plan->resolver;
    const struct k8s_options options = {
        .service = from->k8s_service,
        .service_namespace = from->k8s_namespace,
        .ports = (const char *const *)from->k8s_ports.items,
        .port_count = from->k8s_ports.count,
        .timeout_ns = (uint64_t)from->k8s_timeout_ns,
        .return_hostnames = from->k8s_return_hostnames,
        .api_server = order->plan->kubernetes->api_server,
        .token_file = order->plan->kubernetes->token_file,
        .ca_file = order->plan->kubernetes->ca_file,
    };

    return resolver_k8s_new(order->plan->control, &options, events, out_resolver, order->out_error, order->error_size);
}

static int fallback_dns_new(void *context, const struct resolver_events *events, struct resolver **out_resolver)
{
    const struct resolver_plan *plan = context;

    return dns_new(plan, plan->fallback, events, out_resolver);
}

static int with_fallback(struct order *order, const struct resolver_events *events, struct resolver **out_resolver)
{
    const struct resolver_maker first = {order, k8s_new};
    const struct resolver_maker second = {(void *)(uintptr_t)order->plan, fallback_dns_new};

    return resolver_fallback_new(&first, &second, events, out_resolver);
}

int resolver_new(const struct resolver_plan *plan, const struct resolver_events *events, struct resolver **out_resolver, char *out_error,
    size_t error_size)
{
    const struct resolver_config *from = plan->resolver;
    struct order order = {plan, out_error, error_size};

    if (from->static_set)
        return say(static_new(from, events, out_resolver), false, out_error, error_size);
    if (from->dns_set)
        return say(dns_new(plan, from, events, out_resolver), false, out_error, error_size);
    if (plan->fallback->name)
        return say(with_fallback(&order, events, out_resolver), true, out_error, error_size);
    return k8s_new(&order, events, out_resolver);
}
