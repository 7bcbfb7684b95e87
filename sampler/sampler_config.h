/* sampler.yaml as a struct. */
#pragma once

#include "common/config/otlp_config.h"
#include "sampler/cluster_config.h"

struct tail_sampling_config {              /* processors.tail_sampling; keys as in the Collector */
    int64_t decision_wait_ns;              /* 30 s; below 0 counts as 0 */
    int64_t decision_wait_after_root_received_ns; /* 0: off */
    uint64_t num_traces;                   /* meaningful when num_traces_set; unset: bounded by bytes only */
    bool num_traces_set;
    int64_t sampled_cache_size, non_sampled_cache_size; /* <= 0: no cache of its kind */
    bool sample_on_first_match, drop_pending_traces_on_shutdown, block_on_overflow;
    bool span_ingest;                      /* sampling_strategy; else trace-complete */
    uint64_t num_shards;                   /* at most 256; they only bound what a key may be: see read_tail_sampling */
    uint64_t maximum_trace_size_bytes;     /* 0: no limit */
    const struct config_node *policies;    /* read by sampler/decide/policy_set */
    const char *component_name;            /* NAME of tail_sampling/NAME, "": none; of a whole configuration, and kept by it */
};

enum record_policy { RECORD_POLICY_OFF, RECORD_POLICY_SCOPE, RECORD_POLICY_SPAN };

struct sampler_config {
    struct otlp_receiver_config receivers[OTLP_RECEIVERS_MAX];
    size_t receiver_count;
    struct tail_sampling_config tail_sampling;
    struct otlp_exporter_config exporters[OTLP_EXPORTERS_MAX];
    size_t exporter_count;
    struct tailrace_config tailrace;
    struct cluster_config cluster;
    struct journal_config journal;
    struct dns_config dns;                 /* tailrace.dns */
    struct k8s_config kubernetes;          /* tailrace.kubernetes */
    struct telemetry_config telemetry;
    enum record_policy record_policy;      /* tailrace.record_policy, or the gate recordpolicy: scope */
    bool record_policy_set;
    bool use_tracestate;                   /* the gate usetracestate */
    bool gives_only;                       /* --drain-journal: owns and decides nothing, gives all it has, ends. No key of the file */
};

int sampler_config_read(struct config_context *context, const struct config_node *root, struct sampler_config *out_config);

/* For the page: defaults, and the tables they are read over. */
struct sampler_config sampler_config_defaults(void);
extern const struct tail_sampling_config tail_sampling_defaults;
extern const struct config_key tail_sampling_keys[], sampler_tailrace_keys[];
extern const struct otlp_tier sampler_tier;

/* processors.tail_sampling alone, wherever it stands: in a whole configuration (which is then checked as one), under
 * `processors`, under `tail_sampling`, or as all of the file. */
int tail_sampling_config_find(
    struct config_context *context, const struct config_node *root, struct tail_sampling_config *out_config);
