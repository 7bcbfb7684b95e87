/* `resolver:` of exporters.loadbalancing, and the keys of `tailrace:` that go with it: who says where the samplers are. */
#pragma once

#include "common/config/config.h"

struct resolver_config {
    const char *name;                 /* "static", "dns" or "k8s"; NULL: there is none */
    bool static_set, dns_set, k8s_set;
    struct config_strings hostnames;  /* static: as written, checked, at least one; the resolver adds the default port */
    const char *dns_hostname;
    uint64_t dns_port;                /* 0: not set */
    int64_t dns_interval_ns, dns_timeout_ns; /* 0 in the file is the default, as in the Collector */
    const char *k8s_service, *k8s_namespace; /* k8s_namespace: NULL: the one this pod is in */
    struct config_strings k8s_ports;  /* numbers, or names of the service's ports; none: 4317 */
    int64_t k8s_timeout_ns;
    bool k8s_return_hostnames;
};

extern const struct config_key resolver_keys[]; /* struct resolver_config */
/* After the map was read by resolver_keys, into all zero: fills in name and defaults, and checks. read_failed: what is missing may have been
 * complained of. above: where a message belongs when node is NULL. 0 or CONFIG_E_INVALID. */
int resolver_config_check(struct config_context *context, const struct config_node *node, const struct config_node *above,
    bool read_failed, struct resolver_config *config);

/* A `resolver_fallback:`, read by resolver_fallback_keys into all zero. A node that is not there: no fallback, which is only for k8s. The same outcomes. */
extern const struct config_key resolver_fallback_keys[]; /* struct resolver_config */
int resolver_fallback_check(struct config_context *context, const struct config_node *node, bool read_failed,
    const struct resolver_config *resolver, struct resolver_config *fallback);

/* tailrace.kubernetes: for both tiers. NULL: as every client in a pod has it. */
struct k8s_config {
    const char *api_server;           /* a checked URL, without a slash at its end */
    const char *token_file, *ca_file;
};
extern const struct config_key tailrace_kubernetes_keys[];
int k8s_config_check(struct config_context *context, const struct config_node *tailrace, struct k8s_config *config);

/* tailrace.dns: for both tiers. */
struct dns_config {
    struct config_strings servers;    /* none: those of /etc/resolv.conf */
};
extern const struct config_key tailrace_dns_keys[];
/* After tailrace was read: are the servers addresses. */
int dns_config_check(struct config_context *context, const struct config_node *tailrace, const struct dns_config *config);
