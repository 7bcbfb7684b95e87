/* Who finds members. A resolver reports the whole list of addresses whenever it differs from the last.
 * An empty or failed answer never empties the ring: it is reported as a failure and the last good list stays.
 * Runs on the control thread. An open set: one file in resolve/ each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct control;

struct resolved_address {
    char address[264]; /* host:port, [v6]:port; the port is always there */
    bool ready;        /* serving and not terminating */
};

struct resolver_events {
    void *context;
    void (*resolved)(void *context, const struct resolved_address *addresses, size_t count);
    void (*failed)(void *context, const char *reason);
};

struct resolver;
struct resolver_ops {
    const char *name;               /* "static": also the metrics' label */
    void (*start)(struct resolver *resolver);
    void (*free)(struct resolver *resolver);
};
struct resolver {
    const struct resolver_ops *ops;
    struct resolver_events events;
};

/* hostnames: as in the Collector; one without a port gets :4317. */
int resolver_static_new(const char *const *hostnames, size_t count, const struct resolver_events *events, struct resolver **out_resolver);

/* Adds the default port where there is none; brackets IPv6. False: not an address (empty, bad port, too long). */
bool resolver_address(const char *text, unsigned default_port, char *out_address, size_t size);
