/* `resolver:` of exporters.loadbalancing, and the `dns` key of `tailrace:`: who says where the samplers are. */
#pragma once

#include "common/config/config.h"

struct resolver_config {
    const char *name;                 /* "static" or "dns"; NULL: there is none */
    bool static_set, dns_set;
    struct config_strings hostnames;  /* static: as written, checked, at least one; the resolver adds the default port */
    const char *dns_hostname;
    uint64_t dns_port;                /* 0: not set */
    int64_t dns_interval_ns, dns_timeout_ns; /* 0 in the file is the default, as in the Collector */
};

extern const struct config_key resolver_keys[]; /* struct resolver_config */
/* After the map was read by resolver_keys, into all zero: fills in name and defaults, and checks. read_failed: what is missing may have been
 * complained of. above: where a message belongs when node is NULL. 0 or CONFIG_E_INVALID. */
int resolver_config_check(struct config_context *context, const struct config_node *node, const struct config_node *above,
    bool read_failed, struct resolver_config *config);

/* tailrace.dns: for both tiers. */
struct dns_config {
    struct config_strings servers;    /* none: those of /etc/resolv.conf */
};
extern const struct config_key tailrace_dns_keys[];
/* After tailrace was read: are the servers addresses. */
int dns_config_check(struct config_context *context, const struct config_node *tailrace, const struct dns_config *config);
