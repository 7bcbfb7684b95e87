/* The parts of the Collector's configuration that both tiers have: receiver, exporter, admin, telemetry. */
#pragma once

#include "common/base/log.h"
#include "common/config/config.h"
#include "common/export/link.h"
#include "common/export/retry.h"
#include "common/security/auth.h"
#include "common/security/tls.h"

#define TAILRACE_WORKERS_MAX 256u /* tailrace.workers */
#define TAILRACE_HTTP_THREADS_MAX 64u /* tailrace.http_threads */
#define OTLP_HEADERS_MAX 32u      /* of one exporter */

struct cors_config {
    struct config_strings allowed_origins, allowed_headers, exposed_headers;
    int64_t max_age_s;
};

struct otlp_receiver_config {        /* one `otlp` receiver of the pipeline */
    const char *id;                  /* component ID: label of its metrics */
    bool grpc_set, http_set;         /* an empty section turns the protocol on */
    /* grpc */
    const char *grpc_endpoint;       /* default localhost:4317 */
    uint64_t max_recv_msg_bytes;     /* max_recv_msg_size_mib; default 4 MiB, on a sampler at least 64 MiB */
    uint64_t max_concurrent_streams;
    int64_t keepalive_max_connection_idle_ns, keepalive_max_connection_age_ns, keepalive_max_connection_age_grace_ns;
    int64_t keepalive_time_ns, keepalive_timeout_ns;       /* server_parameters */
    int64_t keepalive_min_time_ns;                         /* enforcement_policy */
    bool keepalive_permit_without_stream;
    bool grpc_include_metadata;
    const struct tls_options *grpc_tls;
    const struct auth_options *grpc_auth;
    /* http */
    const char *http_endpoint;       /* default localhost:4318 */
    const char *traces_url_path;     /* default /v1/traces */
    uint64_t max_request_body_bytes; /* default 20 MiB, of the body as sent and as inflated */
    struct cors_config cors;
    int64_t read_timeout_ns, read_header_timeout_ns, write_timeout_ns, idle_timeout_ns; /* 0: the receiver's own bounds */
    bool keep_alives_enabled;
    char **response_headers;         /* key, value, …, NULL; or NULL */
    bool http_include_metadata;
    const struct tls_options *http_tls;
    const struct auth_options *http_auth;
};
#define OTLP_RECEIVERS_MAX 8u

enum exporter_kind { EXPORTER_OTLP_GRPC, EXPORTER_OTLP_HTTP, EXPORTER_DEBUG, EXPORTER_NOP };

struct otlp_exporter_config {
    const char *id;                  /* component ID, such as otlp or otlp/tempo */
    enum exporter_kind kind;
    const char *endpoint;            /* gRPC: host:port, scheme taken off; HTTP: the whole URL, /v1/traces included */
    bool json;                       /* otlp_http `encoding: json`: refused by name for now */
    enum export_compression compression; /* default gzip for pasted files, as in the Collector */
    char **header_pairs;             /* key, value, key, value, …, NULL */
    struct config_strings forward_headers; /* headers of clients that are sent on: tailrace.forward_headers, and what its own
                                            * headers_setter's from_context names */
    const struct tls_options *tls;   /* never NULL for OTLP; ->insecure: plain text (HTTP: the URL's scheme decides) */
    const struct auth_options *auth;
    const char *proxy_url;           /* otlp_http `proxy_url`; NULL: none, not even the environment's */
    const char *authority, *user_agent; /* NULL: the library's, our own */
    bool wait_for_ready;
    int64_t keepalive_time_ns, keepalive_timeout_ns; /* 0: the link's own */
    bool keepalive_permit_without_stream;
    int64_t timeout_ns;              /* of one attempt; 5 s (HTTP 30 s). The user's 0 (no limit) is a day: no caller needs a special case */
    struct retry_options retry;      /* retry_on_failure; keys absent: without end */
    bool queue_enabled;              /* sending_queue.enabled; a queue is there all the same */
    bool queue_size_set;
    uint64_t queue_size;             /* sending_queue.queue_size */
    enum { QUEUE_REQUESTS, QUEUE_ITEMS, QUEUE_BYTES } queue_sizer;
    uint64_t num_consumers;          /* 10 */
    bool batch_set;                  /* sending_queue.batch, or the `batch` processor where that one is absent */
    int64_t batch_flush_timeout_ns;  /* 200 ms */
    enum { BATCH_ITEMS, BATCH_BYTES } batch_sizer;
    uint64_t batch_min_size, batch_max_size; /* 0: not set */
    enum debug_verbosity debug_verbosity; /* EXPORTER_DEBUG */
};
#define OTLP_EXPORTERS_MAX 8u

struct health_check_config {
    const char *endpoint;            /* NULL: not asked for; equal to admin_endpoint: served there, with the rest */
    const char *path;                /* default / */
    const char *healthy, *unhealthy; /* bodies of 200 and 503; NULL: our own */
};
#define METRICS_ENDPOINTS_MAX 4u

struct tailrace_config {             /* the `tailrace:` key, common part */
    const char *admin_endpoint;      /* default 127.0.0.1:13133 (lb: 127.0.0.1:13134); "" turns it off */
    const char *admin_token_file;
    struct health_check_config health;    /* the extension health_check */
    const char *metrics_endpoints[METRICS_ENDPOINTS_MAX]; /* service.telemetry.metrics: /metrics is served there too */
    size_t metrics_endpoint_count;
    struct config_strings forward_headers; /* request headers that are taken in and kept with their spans: forward_to_all, and what
                                            * batch.metadata_keys, sending_queue.batch.partition.metadata_keys and headers_setter's
                                            * from_context name */
    struct config_strings forward_to_all;  /* tailrace.forward_headers: sent on by every exporter */
    uint64_t http_threads;           /* 1 */
    uint64_t workers;                /* 0: CPUs of the cgroup - 1, at least 1 */
    const char *cluster_self;        /* sampler: member name; default the host name */
    uint64_t memory_limit_bytes;     /* memory.limit_mib; 0: 65 % of the cgroup's or the machine's memory */
    enum { AT_LIMIT_REFUSE, AT_LIMIT_DECIDE_EARLY, AT_LIMIT_SPILL } at_limit; /* spill: only with a journal */
    int64_t verdict_keep_ns;         /* 70 s */
    int64_t resend_window_ns;        /* 5 m */
    bool early_keep;                 /* decide before decision_wait what nothing can change any more */
    int64_t drain_timeout_ns;        /* 60 s */
};

struct telemetry_config {            /* service.telemetry; defaults: info, console */
    enum log_level log_level;
    enum log_encoding log_encoding;
    const char *metrics_endpoints[METRICS_ENDPOINTS_MAX];
    size_t metrics_endpoint_count;
};

/* -- reading a file: lb_config.c and sampler_config.c put these together -------------------------------- */

/* What a tier's one pipeline must look like. */
struct otlp_tier {
    const char *program;             /* tailrace-lb … */
    const char *processor;           /* the one processor that must be there, beside batch and memory_limiter; NULL: none */
    const char *const *exporters;    /* types it takes, by their present names, ends with NULL */
    bool needs_first_exporter;       /* the first of them must be there, once; else any of them, at least one */
    uint64_t max_recv_msg_bytes_default, max_recv_msg_bytes_least;
    const struct config_key *tailrace_keys; /* of whatever struct tailrace_read is given */
    const char *admin_endpoint;      /* default */
};

struct batch_processor_config {      /* mapped onto the exporters' sending_queue.batch, or the balancer's outboxes */
    const struct config_node *node;  /* NULL: not in the pipeline */
    int64_t timeout_ns;
    uint64_t send_batch_size, send_batch_max_size;
    bool send_batch_size_set;
    struct config_strings metadata_keys;
};

struct memory_limiter_config {
    const struct config_node *node;  /* NULL: not in the pipeline */
    uint64_t limit_bytes, spike_bytes;
    uint64_t limit_percentage, spike_percentage;
    bool spike_set, spike_percentage_set;
    int64_t check_interval_ns;
};
/* Where spans would be refused: limit less spike. 0: not in the pipeline, or not readable. */
uint64_t memory_limiter_soft_bytes(const struct memory_limiter_config *limiter, uint64_t machine_bytes);

enum otlp_extension_kind { EXTENSION_HEALTH_CHECK, EXTENSION_AUTH, EXTENSION_HEADERS_SETTER, EXTENSION_IGNORED };
struct otlp_extension {              /* one of service.extensions */
    const struct config_node *node;  /* its settings */
    enum otlp_extension_kind kind;
    const struct auth_options *auth; /* EXTENSION_AUTH; NULL: it could not be read, which was said */
    char **header_pairs;             /* EXTENSION_HEADERS_SETTER: key, value, …, NULL */
    struct config_strings forward_headers; /* EXTENSION_HEADERS_SETTER: those from_context */
};
#define OTLP_EXTENSIONS_MAX 32u
#define FORWARD_HEADERS_MAX 16u

/* The file in its parts. Nodes are NULL where something is missing (and that was reported). */
struct otlp_file {
    const struct config_node *root, *receivers, *processors, *exporters, *connectors, *extensions;
    const struct config_node *service_extensions, *pipelines, *tailrace;
    struct telemetry_config telemetry;
    const struct config_node *receiver_nodes[OTLP_RECEIVERS_MAX], *exporter_nodes[OTLP_EXPORTERS_MAX]; /* of the pipeline */
    size_t receiver_count, exporter_count;
    const struct config_node *processor;
    struct batch_processor_config batch;
    struct memory_limiter_config memory_limiter;
    struct otlp_extension extension[OTLP_EXTENSIONS_MAX];
    size_t extension_count;
    struct health_check_config health;
    const struct config_node *health_node;
    struct config_strings forward_headers; /* that batch, sending_queue.batch and headers_setter name */
    bool pipeline_read; /* without a mistake: what it does not name is unused */
};

/* Reads the frame of the file, finds the pipeline, checks its references and reads processors and extensions. 0 or
 * CONFIG_E_INVALID; what was found is in *out_file all the same, so that its parts are checked too. */
int otlp_file_read(
    struct config_context *context, const struct config_node *root, const struct otlp_tier *tier, struct otlp_file *out_file);
/* The pipeline's receivers. */
int otlp_receivers_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier,
    struct otlp_receiver_config *out_receivers, size_t *out_count);
/* Whether any of them takes headers of its clients in (include_metadata). */
bool otlp_receivers_take_metadata(const struct otlp_receiver_config *receivers, size_t count);
/* The pipeline's exporters to backends. */
int otlp_exporters_read(
    struct config_context *context, struct otlp_file *file, struct otlp_exporter_config *out_exporters, size_t *out_count);
/* After tailrace_read: every exporter sends on what tailrace.forward_headers names, beside its own. */
int otlp_exporters_forward(struct config_context *context, const struct otlp_file *file, const struct tailrace_config *tailrace,
    struct otlp_exporter_config *exporters, size_t count);
/* The balancer's template, exporters.loadbalancing.protocol.otlp: members come from the resolver. node may be NULL; above: the
 * exporter's node, for messages where the template is missing. */
int otlp_member_read(struct config_context *context, struct otlp_file *file, const struct config_node *node,
    const struct config_node *above, struct otlp_exporter_config *out_config);

/* retry_on_failure and sending_queue alone, for places where they are checked and have no effect. */
extern const struct config_key otlp_retry_keys[]; /* struct retry_options */
int otlp_queue_read(struct config_context *context, const struct config_node *node);
struct otlp_exporter_config otlp_exporter_defaults(void);

/* A client's `tls:` as the exporters have it: a custom reader, out_field a const struct tls_options **. */
int tls_client_read(struct config_context *context, const struct config_node *node, void *out_field);
extern const struct config_key tls_client_keys[];
/* The credentials of the extension that `auth.authenticator` at node names; no name: none. 0 or CONFIG_E_INVALID. */
int otlp_client_auth(struct config_context *context, const struct otlp_file *file, const struct config_node *node, const char *name,
    const struct auth_options **out_auth);

extern const struct config_key tailrace_admin_keys[]; /* struct tailrace_config */
/* The `tailrace:` key by tier->tailrace_keys into config, which holds the defaults; then the checks both tiers share. */
int tailrace_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier, void *out_struct,
    struct tailrace_config *out_config);

struct tailrace_config tailrace_defaults(const struct otlp_tier *tier);
/* Headers to carry, and nobody takes them in: as in the Collector nothing is carried, but here it is said. */
void tailrace_warn_metadata(struct config_context *context, const struct otlp_file *file, const struct tailrace_config *config,
    const struct otlp_receiver_config *receivers, size_t receiver_count);

/* The node at a.b.c below node, or the last one on the way that is there: where a message about it belongs. */
const struct config_node *config_node_near(const struct config_node *node, const char *path);
