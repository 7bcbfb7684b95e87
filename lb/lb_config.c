#include "lb/lb_config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/run/cgroup.h"

/* Pieces are cut at 1 MiB: an outbox holds at least a few of them, whatever the user says. */
#define OUTBOX_BYTES_LEAST (4 * MIB)
#define OUTBOX_BYTES_DEFAULT (64 * MIB)

/* -- exporters.loadbalancing ------------------------------------------------------------------------- */

struct load_balancing {
    const struct config_node *protocol_otlp;
    struct resolver_config resolver;
    const struct config_node *retry, *queue;
};

static const struct config_key protocol_keys[] = {
    CONFIG_KEY_NAMED(struct load_balancing, protocol_otlp, "otlp", CONFIG_NODE,
        "How samplers are called: keys of the OTLP exporter over gRPC but for its endpoint."),
    {0},
};

const struct config_key load_balancing_keys[] = {
    CONFIG_SECTION("protocol", protocol_keys, "The protocol to samplers; otlp is the one there is."),
    CONFIG_NESTED(struct load_balancing, resolver, "resolver", resolver_keys, "Who says where the samplers are; exactly one."),
    CONFIG_REFUSE_UNLESS("routing_key", "traceID|",
        "a trace would be spread over samplers, and each would decide on its part; use `traceID`, spelled so, or remove this key"),
    CONFIG_REFUSE("routing_attributes", "spans are routed by trace ID alone; remove this key"),
    CONFIG_IGNORE_UNLESS("timeout", "0|0s",
        "a request has its client's deadline, or 10s where it has none; one attempt is bounded by protocol.otlp.timeout"),
    CONFIG_KEY_NAMED(struct load_balancing, retry, "retry_on_failure", CONFIG_NODE,
        "Retries of what no sampler took (differs from the Collector: no effect, a failed piece goes to the sampler's fallback within the "
        "client's deadline)."),
    CONFIG_KEY_NAMED(struct load_balancing, queue, "sending_queue", CONFIG_NODE,
        "A queue before the samplers' own (differs from the Collector: no effect, a request is acknowledged when samplers have all of it, "
        "and waits in outboxes only)."),
    {0},
};

/* -- tailrace ---------------------------------------------------------------------------------------- */

static const struct config_key outbox_keys[] = {
    CONFIG_KEY_NAMED(struct lb_config, outbox_bytes, "limit_mib", CONFIG_MIB,
        "Most bytes on their way to one sampler, in MiB; what is above is refused and the client told; never below 4."),
    {0},
};

#define SAMPLERS_OWN "it belongs in tailrace-sampler's file; remove it here"

const struct config_key lb_tailrace_keys[] = {
    CONFIG_NESTED(struct lb_config, tailrace, "admin", tailrace_admin_keys, "The admin endpoint."),
    CONFIG_KEY_NAMED(struct lb_config, tailrace.workers, "workers", CONFIG_UINT,
        "Threads that carry spans, a number; 0: the CPUs of the container less one, at least one."),
    CONFIG_KEY_NAMED(struct lb_config, tailrace.http_threads, "http_threads", CONFIG_UINT, "Threads that serve OTLP over HTTP."),
    CONFIG_KEY_NAMED(struct lb_config, tailrace.forward_headers, "forward_headers", CONFIG_STRINGS,
        "Headers of clients that are carried to the samplers, where include_metadata takes them in; spans of unequal values never share a "
        "request."),
    CONFIG_SECTION("outbox", outbox_keys, "What waits for one sampler."),
    CONFIG_NESTED(struct lb_config, dns, "dns", tailrace_dns_keys, "How resolver.dns asks."),
    CONFIG_NESTED(struct lb_config, kubernetes, "kubernetes", tailrace_kubernetes_keys, "How resolver.k8s asks."),
    CONFIG_NESTED(struct lb_config, fallback, "resolver_fallback", resolver_fallback_keys,
        "Who is asked while the API server does not answer resolver.k8s."),
    CONFIG_KEY_NAMED(struct lb_config, tailrace.drain_timeout_ns, "drain_timeout", CONFIG_SPAN,
        "Longest time a stop waits for requests under way."),
    CONFIG_REFUSE("cluster", SAMPLERS_OWN),
    CONFIG_REFUSE("journal", SAMPLERS_OWN),
    CONFIG_REFUSE("memory", "a balancer holds only what is on its way; set tailrace.outbox.limit_mib"),
    CONFIG_REFUSE("verdict_keep", SAMPLERS_OWN),
    CONFIG_REFUSE("resend_window", SAMPLERS_OWN),
    CONFIG_REFUSE("early_keep", SAMPLERS_OWN),
    {0},
};

const char *const lb_live_keys[] = {
    "exporters.*.resolver",
    "exporters.*.timeout",
    "exporters.*.retry_on_failure",
    "exporters.*.sending_queue",
    "exporters.*.protocol.otlp.timeout",
    "exporters.*.protocol.otlp.retry_on_failure",
    "exporters.*.protocol.otlp.sending_queue",
    "processors.batch*",
    "processors.memory_limiter*",
    "service.pipelines.*.processors",
    "service.telemetry.logs.level",
    "tailrace.outbox",
    "tailrace.dns",
    "tailrace.kubernetes",
    "tailrace.resolver_fallback",
    "tailrace.drain_timeout",
    NULL,
};

static const char *const exporter_types[] = {"load_balancing", "nop", NULL};

const struct otlp_tier lb_tier = {
    .program = "tailrace-lb",
    .exporters = exporter_types,
    .needs_first_exporter = true,
    .max_recv_msg_bytes_default = 4 * MIB,
    .tailrace_keys = lb_tailrace_keys,
    .admin_endpoint = "127.0.0.1:13134",
};

/* -- reading ------------------------------------------------------------------------------------------ */

/* The template's queue bounds an outbox when it counts bytes; requests are no measure of memory. */
static void apply_queue(struct config_context *context, const struct config_node *otlp, struct lb_config *config)
{
    const struct config_node *size = config_node_near(otlp, "sending_queue.queue_size");

    if (!config->member.queue_size_set)
        return;
    if (config->member.queue_sizer == QUEUE_BYTES)
        config->outbox_bytes = config->member.queue_size;
    else
        config_warn(context, size,
            "accepted without effect: what waits for a sampler is bounded in bytes, 64 MiB; set tailrace.outbox.limit_mib, or "
            "`sizer: bytes`");
}

/* Keys that work in the Collector and do nothing here are still checked, so that a mistake in them is not taken over. */
static int read_without_effect(struct config_context *context, const struct load_balancing *from)
{
    struct retry_options retry = retry_defaults();
    int result = 0;

    if (from->retry) {
        result = config_read(context, from->retry, otlp_retry_keys, &retry);
        config_warn(context, from->retry,
            "accepted without effect: a failed piece goes to the sampler's fallback within the client's deadline");
    }
    if (from->queue) {
        if (otlp_queue_read(context, from->queue))
            result = CONFIG_E_INVALID;
        config_warn(context, from->queue,
            "accepted without effect: a request is acknowledged when samplers have all of it; see tailrace.outbox.limit_mib");
    }
    return result;
}

/* Taking https:// off and sending in plain text is the last thing that its writer wanted. */
static int check_schemes(struct config_context *context, const struct config_node *exporter, const struct lb_config *config)
{
    for (size_t i = 0; i < config->resolver.hostnames.count; i++) {
        if (strncmp(config->resolver.hostnames.items[i], "https://", 8) == 0 && config->member.tls->insecure)
            return config_error(context, config_node_near(exporter, "resolver.static.hostnames"),
                "https:// and `tls: {insecure: true}` of protocol.otlp contradict each other; one of them must go");
    }
    return 0;
}

/* `batch` in front of the exporter: pieces are gathered by themselves, what differs is said. */
static void apply_batch(struct config_context *context, const struct batch_processor_config *batch)
{
    if (batch->node)
        config_warn(context, batch->node,
            "mapped: pieces for one sampler are gathered into requests, sent at once while few are under way, else at 128 KiB or after "
            "5ms; timeout and sizes have no effect beyond that");
}

/* `memory_limiter` bounds what waits, when tailrace.outbox does not say: its soft limit, shared by the samplers where their number
 * is known. It only ever lowers the bound. */
static void apply_memory_limiter(struct config_context *context, const struct otlp_file *file, struct lb_config *config)
{
    const struct config_node *own = config_node_get(config_node_get(file->tailrace, "outbox"), "limit_mib");
    struct cgroup_limits limits;
    uint64_t soft, share;

    if (!file->memory_limiter.node)
        return;
    cgroup_limits_read(&limits);
    soft = memory_limiter_soft_bytes(&file->memory_limiter, limits.memory_bytes);
    if (soft == 0)
        return; /* that was said */
    if (config_node_kind(own) != CONFIG_NODE_NULL) {
        config_warn(context, file->memory_limiter.node, "without effect: tailrace.outbox.limit_mib is set, and wins");
        return;
    }
    share = soft / u64_max(config->resolver.hostnames.count, 1);
    config->outbox_bytes = u64_max(u64_min(config->outbox_bytes, share), OUTBOX_BYTES_LEAST);
    config_warn(context, file->memory_limiter.node,
        "mapped: of %llu MiB (limit less spike) at most %llu MiB wait for each sampler, as by tailrace.outbox.limit_mib",
        (unsigned long long)(soft / MIB), (unsigned long long)(config->outbox_bytes / MIB));
}

static int read_exporter(
    struct config_context *context, struct otlp_file *file, const struct config_node *exporter, struct lb_config *config)
{
    struct load_balancing from = {0};
    bool failed = config_read(context, exporter, load_balancing_keys, &from) != 0;
    const struct config_node *retry;
    int result = failed ? CONFIG_E_INVALID : 0;

    config->resolver = from.resolver;
    if (resolver_config_check(context, config_node_get(exporter, "resolver"), exporter, failed, &config->resolver))
        result = CONFIG_E_INVALID;
    if (otlp_member_read(context, file, from.protocol_otlp, exporter, &config->member))
        result = CONFIG_E_INVALID;
    if (check_schemes(context, exporter, config))
        result = CONFIG_E_INVALID;
    apply_queue(context, from.protocol_otlp, config);
    retry = config_node_get(from.protocol_otlp, "retry_on_failure");
    if (retry)
        config_warn(context, retry,
            "accepted without effect: a failed piece goes to the sampler's fallback within the client's deadline");
    if (read_without_effect(context, &from))
        result = CONFIG_E_INVALID;
    return result;
}

struct lb_config lb_config_defaults(void)
{
    return (struct lb_config){.outbox_bytes = OUTBOX_BYTES_DEFAULT, .tailrace = tailrace_defaults(&lb_tier)};
}

int lb_config_read(struct config_context *context, const struct config_node *root, struct lb_config *out_config)
{
    struct lb_config config = lb_config_defaults();
    struct otlp_file file;
    int result = otlp_file_read(context, root, &lb_tier, &file);

    config.telemetry = file.telemetry;
    if (otlp_receivers_read(context, &file, &lb_tier, config.receivers, &config.receiver_count))
        result = CONFIG_E_INVALID;
    if (file.exporter_count > 0 && read_exporter(context, &file, file.exporter_nodes[0], &config))
        result = CONFIG_E_INVALID;
    if (tailrace_read(context, &file, &lb_tier, &config, &config.tailrace))
        result = CONFIG_E_INVALID;
    if (dns_config_check(context, file.tailrace, &config.dns) || k8s_config_check(context, file.tailrace, &config.kubernetes) ||
        resolver_fallback_check(
            context, config_node_get(file.tailrace, "resolver_fallback"), result != 0, &config.resolver, &config.fallback))
        result = CONFIG_E_INVALID;
    apply_batch(context, &file.batch);
    apply_memory_limiter(context, &file, &config);
    tailrace_warn_metadata(context, &file, &config.tailrace, config.receivers, config.receiver_count);
    if (config.outbox_bytes < OUTBOX_BYTES_LEAST) {
        config_warn(context, config_node_near(file.tailrace, "outbox.limit_mib"),
            "the limit of what waits for one sampler is raised to 4 MiB, a few pieces");
        config.outbox_bytes = OUTBOX_BYTES_LEAST;
    }
    *out_config = config;
    return result;
}
