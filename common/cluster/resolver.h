/* Who finds members. A resolver reports the whole list of addresses whenever it differs from the last, and says so when a
 * further good answer does not differ.
 * An empty or failed answer never empties the ring: it is reported as a failure and the last good list stays. A list may hold
 * addresses that are not ready, even nothing else: a balancer keeps its ring then, samplers that start together find each other.
 * Runs on the control thread. An open set: one file in resolve/ each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct control;

struct resolved_address {
    char address[264]; /* host:port, [v6]:port; the port is always there */
    bool ready;        /* serving and not terminating */
    bool terminating;  /* on its way out; only k8s knows */
    char name[264];    /* a name that stays when the address changes, for who cannot say its own; "": the resolver knows none */
};

struct resolver_events {
    void *context;
    void (*resolved)(void *context, const struct resolved_address *addresses, size_t count);
    void (*failed)(void *context, const char *reason);
    void (*unchanged)(void *context); /* a good answer, the same as the last */
};

struct resolver;
struct resolver_ops {
    const char *name;               /* "static": also the metrics' label */
    void (*start)(struct resolver *resolver);
    void (*free)(struct resolver *resolver);
    const char *(*source)(const struct resolver *resolver); /* whose list is in force; NULL: its own */
};
struct resolver {
    const struct resolver_ops *ops;
    struct resolver_events events;
};

static inline void resolver_start(struct resolver *resolver)
{
    resolver->ops->start(resolver);
}

/* Whose list is in force: its own name, or that of its fallback. */
static inline const char *resolver_source(const struct resolver *resolver)
{
    return resolver->ops->source ? resolver->ops->source(resolver) : resolver->ops->name;
}

static inline void resolver_free(struct resolver *resolver)
{
    if (resolver)
        resolver->ops->free(resolver);
}

#define RESOLVER_DEFAULT_PORT 4317u /* OTLP/gRPC's, as in the Collector */
#define RESOLVER_E_NO_ADDRESS 1     /* nothing to resolve */
#define RESOLVER_E_BAD_ADDRESS 2    /* one that resolver_address refuses */
#define RESOLVER_E_NO_SERVER 3      /* nobody to ask */

/* hostnames: as in the Collector; one without a port gets :4317. Reports them once, inside start: as normalised by
 * resolver_address, sorted, without repetitions. 0, RESOLVER_E_NO_ADDRESS, RESOLVER_E_BAD_ADDRESS or -ENOMEM.
 * Source: load-balancing exporter, resolver.static. */
int resolver_static_new(const char *const *hostnames, size_t count, const struct resolver_events *events, struct resolver **out_resolver);

/* One spelling for each address, so that two spellings are not two members: adds the default port where there is
 * none, brackets and shortens IPv6, lowers the case of names, takes off http://, https:// and dns:/// as the
 * Collector does. False: not an address (empty, bad port, a character no name has, too long for out_address). */
bool resolver_address(const char *text, unsigned default_port, char *out_address, size_t size);

struct dns_options {
    const char *hostname;    /* of A and AAAA records; one that begins with _service._proto. of SRV records */
    unsigned port;           /* of A and AAAA; 0: RESOLVER_DEFAULT_PORT. An SRV record says its own */
    uint64_t interval_ns;    /* between look-ups, at most: sooner when a TTL ends sooner; a tenth of it is jitter */
    uint64_t timeout_ns;     /* of one look-up */
    const char *const *servers; /* address or address:port, asked instead of those in /etc/resolv.conf; none: NULL */
    size_t server_count;
};

/* Looks the name up again and again on the control loop, by c-ares. What the options point to must stay. 0, RESOLVER_E_BAD_ADDRESS
 * (hostname or a server) or -ENOMEM. Source: load-balancing exporter, resolver.dns; note 0013. */
int resolver_dns_new(struct control *control, const struct dns_options *options, const struct resolver_events *events,
    struct resolver **out_resolver);

struct k8s_options {
    const char *service;
    const char *service_namespace; /* NULL: the one this pod is in */
    const char *const *ports;      /* numbers, or names of the service's ports; none: RESOLVER_DEFAULT_PORT */
    size_t port_count;
    uint64_t timeout_ns;           /* of one watch */
    bool return_hostnames;
    const char *api_server, *token_file, *ca_file; /* NULL: as every client in a pod has them */
};

/* Watches the EndpointSlices of a Kubernetes service, by libcurl on the control loop. What the options point to must stay. 0,
 * RESOLVER_E_NO_SERVER with the reason in out_error, or -ENOMEM. Source: load-balancing exporter, resolver.k8s; note 0016. */
int resolver_k8s_new(struct control *control, const struct k8s_options *options, const struct resolver_events *events,
    struct resolver **out_resolver, char *out_error, size_t error_size);

/* One resolver and another that stands in for it. While the first has failed for RESOLVER_FALLBACK_AFTER_NS, or fails and never had
 * a list, the second is asked as well and its list is told, each time followed by the failure of the first. A good answer of the
 * first puts its list in force again and ends the second. Makers are called while this one lives; what they return is passed on. */
#define RESOLVER_FALLBACK_AFTER_NS 10000000000ull
struct resolver_maker {
    void *context;
    int (*make)(void *context, const struct resolver_events *events, struct resolver **out_resolver);
};
int resolver_fallback_new(const struct resolver_maker *first, const struct resolver_maker *second, const struct resolver_events *events,
    struct resolver **out_resolver);
