/* The parts of the Collector's configuration that both tiers have: receiver, exporter, admin, telemetry. */
#pragma once

#include "common/base/log.h"
#include "common/config/config.h"
#include "common/export/retry.h"

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
    int64_t timeout_ns;              /* 5 s */
    struct retry_options retry;      /* retry_on_failure; keys absent: without end */
    bool queue_size_set;
    uint64_t queue_size;             /* sending_queue.queue_size */
    enum { QUEUE_REQUESTS, QUEUE_ITEMS, QUEUE_BYTES } queue_sizer;
    uint64_t num_consumers;          /* 10 */
    bool batch_set;
    int64_t batch_flush_timeout_ns;  /* 200 ms */
    uint64_t batch_min_size, batch_max_size;
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

struct telemetry_config {            /* service.telemetry */
    enum log_level log_level;
    enum log_encoding log_encoding;
};
