/* lb.yaml as a struct. */
#pragma once

#include "common/config/otlp_config.h"
#include "common/config/resolver_config.h"

struct lb_config {
    struct otlp_receiver_config receivers[OTLP_RECEIVERS_MAX];
    size_t receiver_count;
    struct otlp_exporter_config member;      /* exporters.loadbalancing.protocol.otlp: timeout; sending_queue bounds bytes in flight */
    struct resolver_config resolver;
    struct dns_config dns;                   /* tailrace.dns */
    struct k8s_config kubernetes;            /* tailrace.kubernetes */
    struct resolver_config fallback;         /* tailrace.resolver_fallback; name NULL: none */
    uint64_t outbox_bytes;                   /* per member; default 64 MiB. tailrace.outbox.limit_mib, or sending_queue in bytes */
    struct tailrace_config tailrace;
    struct telemetry_config telemetry;
};

/* Reads and checks everything. Memory belongs to context. 0 or CONFIG_E_INVALID. */
int lb_config_read(struct config_context *context, const struct config_node *root, struct lb_config *out_config);

/* For the page: defaults, and the tables they are read over. */
struct lb_config lb_config_defaults(void);
extern const struct config_key load_balancing_keys[], lb_tailrace_keys[];
extern const struct otlp_tier lb_tier;
extern const char *const lb_live_keys[]; /* patterns of config_diff.h: what a running balancer takes over */
