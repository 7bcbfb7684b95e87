/* The parts of the Collector's configuration that both tiers have: receiver, exporter, admin, telemetry. */
#pragma once

#include "common/base/log.h"
#include "common/config/config.h"
#include "common/export/retry.h"

#define TAILRACE_WORKERS_MAX 256u /* tailrace.workers */
#define OTLP_HEADERS_MAX 32u      /* of one exporter */

struct otlp_receiver_config {
    bool grpc_set;                   /* protocols.grpc is there (an empty section turns it on) */
    const char *grpc_endpoint;       /* default localhost:4317 */
    uint64_t max_recv_msg_bytes;     /* max_recv_msg_size_mib; default 4 MiB, on a sampler at least 64 MiB (design.md section 4) */
    uint64_t max_concurrent_streams;
    int64_t keepalive_max_connection_idle_ns, keepalive_max_connection_age_ns, keepalive_max_connection_age_grace_ns;
    int64_t keepalive_time_ns, keepalive_timeout_ns;       /* server_parameters */
    int64_t keepalive_min_time_ns;                         /* enforcement_policy */
    bool keepalive_permit_without_stream;
};

struct otlp_exporter_config {
    const char *id;                  /* component ID, such as otlp or otlp/tempo */
    const char *endpoint;            /* host:port, scheme taken off */
    bool insecure;                   /* tls.insecure: must be true until TLS is there: else refused at start with the remedy */
    const char *compression;         /* "none"; others refused for now by name */
    char **header_pairs;             /* key, value, key, value, …, NULL */
    int64_t timeout_ns;              /* of one attempt; 5 s. The user's 0 (no limit) is a day: no caller needs a special case */
    struct retry_options retry;      /* retry_on_failure; keys absent: without end */
    bool queue_enabled;              /* sending_queue.enabled; a queue is there all the same */
    bool queue_size_set;
    uint64_t queue_size;             /* sending_queue.queue_size */
    enum { QUEUE_REQUESTS, QUEUE_ITEMS, QUEUE_BYTES } queue_sizer;
    uint64_t num_consumers;          /* 10 */
    bool batch_set;
    int64_t batch_flush_timeout_ns;  /* 200 ms */
    enum { BATCH_ITEMS, BATCH_BYTES } batch_sizer;
    uint64_t batch_min_size, batch_max_size; /* 0: not set. Checked; without effect in this release (warned of) */
};

struct tailrace_config {             /* the `tailrace:` key, common part */
    const char *admin_endpoint;      /* default 127.0.0.1:13133 (lb: 127.0.0.1:13134); "" turns it off */
    const char *admin_token_file;
    uint64_t workers;                /* 0: CPUs of the cgroup - 1, at least 1 */
    const char *cluster_self;        /* sampler: member name; default the host name */
    uint64_t memory_limit_bytes;     /* memory.limit_mib; 0: 65 % of the cgroup's or the machine's memory */
    enum { AT_LIMIT_REFUSE, AT_LIMIT_DECIDE_EARLY } at_limit;
    int64_t verdict_keep_ns;         /* 70 s */
    int64_t resend_window_ns;        /* 5 m */
    int64_t drain_timeout_ns;        /* 60 s */
};

struct telemetry_config {            /* service.telemetry; defaults: info, console */
    enum log_level log_level;
    enum log_encoding log_encoding;
};

/* -- reading a file: lb_config.c and sampler_config.c put these together -------------------------------- */

/* What a tier's one pipeline must look like. */
struct otlp_tier {
    const char *program;             /* tailrace-lb … */
    const char *processor;           /* the one type of processor, required; NULL: none may be there */
    const char *exporter;            /* type of the one exporter, by its present name: otlp_grpc, load_balancing */
    uint64_t max_recv_msg_bytes_default, max_recv_msg_bytes_least;
    const struct config_key *tailrace_keys; /* of whatever struct tailrace_read is given */
    const char *admin_endpoint;      /* default */
};

/* The file in its parts. Nodes are NULL where something is missing (and that was reported). */
struct otlp_file {
    const struct config_node *receivers, *processors, *exporters, *connectors, *extensions;
    const struct config_node *service_extensions, *pipelines, *tailrace;
    struct telemetry_config telemetry;
    const struct config_node *receiver, *processor, *exporter; /* of the pipeline */
    bool pipeline_read; /* without a mistake: what it does not name is unused */
};

/* Reads the frame of the file, finds the pipeline and checks its references. 0 or CONFIG_E_INVALID; what was found is in
 * *out_file all the same, so that its parts are checked too. */
int otlp_file_read(
    struct config_context *context, const struct config_node *root, const struct otlp_tier *tier, struct otlp_file *out_file);
int otlp_receiver_read(struct config_context *context, const struct config_node *node, const struct otlp_tier *tier,
    struct otlp_receiver_config *out_config);

enum otlp_exporter_use {
    OTLP_TO_BACKEND, /* the sampler's: endpoint required */
    OTLP_TO_MEMBER,  /* the lb's template, exporters.loadbalancing.protocol.otlp: members come from the resolver */
};
/* above: the exporter's node, for messages where the template is missing. */
int otlp_exporter_read(struct config_context *context, const struct config_node *node, const struct config_node *above,
    enum otlp_exporter_use use, struct otlp_exporter_config *out_config);

/* retry_on_failure and sending_queue alone, for places where they are checked and have no effect. */
extern const struct config_key otlp_retry_keys[]; /* struct retry_options */
extern const struct config_key otlp_queue_keys[]; /* struct otlp_exporter_config */
struct otlp_exporter_config otlp_exporter_defaults(void);

extern const struct config_key tailrace_admin_keys[]; /* struct tailrace_config */
/* The `tailrace:` key by tier->tailrace_keys into config, which holds the defaults; then the checks both tiers share. */
int tailrace_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier, void *out_struct,
    struct tailrace_config *out_config);

/* The node at a.b.c below node, or the last one on the way that is there: where a message about it belongs. */
const struct config_node *config_node_near(const struct config_node *node, const char *path);
