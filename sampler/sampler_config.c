#include "sampler/sampler_config.h"

#include <string.h>
#include <unistd.h>

#include "common/base/num.h"
#include "common/run/cgroup.h"
#include "common/run/worker.h"
#include "sampler/buffer/budget.h"

/* -- processors.tail_sampling ------------------------------------------------------------------------- */

static const struct config_key decision_cache_keys[] = {
    CONFIG_KEY(struct tail_sampling_config, sampled_cache_size, CONFIG_INT,
        "How many decisions to keep traces are remembered, a number; 0 or less: they count in num_traces."),
    CONFIG_KEY(struct tail_sampling_config, non_sampled_cache_size, CONFIG_INT,
        "How many decisions to drop traces are remembered, a number; 0 or less: they count in num_traces."),
    {0},
};

static int read_strategy(struct config_context *context, const struct config_node *node, void *out_field)
{
    const char *text = config_node_text(node);
    bool *out_span_ingest = out_field;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    *out_span_ingest = strcmp(text, "span-ingest") == 0;
    if (*out_span_ingest || strcmp(text, "trace-complete") == 0)
        return 0;
    return config_error(
        context, node, "invalid sampling_strategy \"%s\", expected one of \"trace-complete\" or \"span-ingest\"", text);
}

static int check_shards(struct config_context *context, const struct config_node *node, uint64_t num_shards)
{
    const struct config_node *at = config_node_get(node, "num_shards");

    if (num_shards > 256)
        return config_error(context, at, "num_shards (%llu) must not exceed 256", (unsigned long long)num_shards);
    if (num_shards > 1)
        config_warn(context, at,
            "has no effect: traces are spread over tailrace.workers; rates, num_traces and cache sizes hold for the whole node, undivided");
    return 0;
}

const struct config_key tail_sampling_keys[] = {
    CONFIG_KEY_NAMED(struct tail_sampling_config, decision_wait_ns, "decision_wait", CONFIG_DURATION,
        "Time from a trace's first span to its decision; below zero counts as zero."),
    CONFIG_KEY_NAMED(struct tail_sampling_config, decision_wait_after_root_received_ns, "decision_wait_after_root_received",
        CONFIG_DURATION, "Time from a trace's root span to its decision where that comes earlier; 0: off."),
    CONFIG_KEY_SET(struct tail_sampling_config, num_traces, "num_traces", CONFIG_UINT, num_traces_set,
        "Most traces held; absent: bounded in bytes only (differs from the Collector: there 50000)."),
    CONFIG_KEY(struct tail_sampling_config, block_on_overflow, CONFIG_BOOL,
        "Whether requests are refused for now (RESOURCE_EXHAUSTED with a delay) while num_traces are held or memory is full, instead "
        "of deciding the oldest traces early (differs from the Collector: there intake stands still)."),
    CONFIG_IGNORE_UNLESS("expected_new_traces_per_sec", "0", "tables grow as traces come, no hint is needed"),
    CONFIG_KEY(struct tail_sampling_config, policies, CONFIG_NODE, "Which traces are kept, a list of policies; absent: none is."),
    CONFIG_SECTION("decision_cache", decision_cache_keys, "How long decisions are remembered for late spans."),
    CONFIG_REFUSE("tail_storage", "extensions are Go code, which is not run here; traces are held in memory, bounded by tailrace.memory; "
                                  "remove this key"),
    CONFIG_KEY(struct tail_sampling_config, sample_on_first_match, CONFIG_BOOL,
        "Whether the first policy that wants a trace ends the vote."),
    CONFIG_READ_BY(struct tail_sampling_config, span_ingest, "sampling_strategy", read_strategy,
        "When decisions fall, `trace-complete` (default): after decision_wait; or `span-ingest`: also before, as soon as nothing that "
        "may still come can undo one (differs from the Collector: there each batch is judged alone)."),
    CONFIG_KEY(struct tail_sampling_config, drop_pending_traces_on_shutdown, CONFIG_BOOL,
        "Whether traces without a decision are dropped at the end instead of decided."),
    CONFIG_KEY(struct tail_sampling_config, maximum_trace_size_bytes, CONFIG_UINT,
        "Size above which a trace is dropped at once, in bytes; 0: no limit."),
    CONFIG_KEY(struct tail_sampling_config, num_shards, CONFIG_UINT,
        "No effect, at most 256 (differs from the Collector: traces are spread over tailrace.workers, and rates, num_traces and caches hold "
        "for the whole node)."),
    {0},
};

const struct tail_sampling_config tail_sampling_defaults = {.decision_wait_ns = (int64_t)(30 * NS_PER_S)};

static int read_tail_sampling(
    struct config_context *context, const struct config_node *node, struct tail_sampling_config *out_config)
{
    struct tail_sampling_config config = tail_sampling_defaults;
    int result = config_read(context, node, tail_sampling_keys, &config);

    if (config.decision_wait_ns < 0) {
        config_warn(context, config_node_get(node, "decision_wait"), "below zero: counts as zero, each trace is decided at once");
        config.decision_wait_ns = 0;
    }
    if (config.decision_wait_after_root_received_ns < 0) {
        config_warn(context, config_node_get(node, "decision_wait_after_root_received"), "below zero: counts as zero, it is off");
        config.decision_wait_after_root_received_ns = 0;
    }
    if (check_shards(context, node, config.num_shards))
        result = CONFIG_E_INVALID;
    if (config.policies && config_node_kind(config.policies) != CONFIG_NODE_SEQUENCE)
        result = config_error(context, config.policies, "expected a list of policies");
    else if (config_node_count(config.policies) == 0)
        config_warn(context, config.policies ? config.policies : node, "there are no policies: no trace is kept");
    *out_config = config;
    return result;
}

/* -- tailrace ---------------------------------------------------------------------------------------- */

static const struct config_key memory_keys[] = {
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.memory_limit_bytes, "limit_mib", CONFIG_MIB,
        "Memory for spans; 0: 65 % of the container's or the machine's."),
    CONFIG_KEY_CHOICE(struct sampler_config, tailrace.at_limit, "at_limit", "refuse|decide_early|spill",
        "What may be done when it is full before spans are refused: nothing; with a journal let the oldest spans lie there alone, then "
        "decide the oldest traces early; or only the first of the two."),
    {0},
};

const struct config_key sampler_tailrace_keys[] = {
    CONFIG_NESTED(struct sampler_config, tailrace, "admin", tailrace_admin_keys, "The admin endpoint."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.workers, "workers", CONFIG_UINT,
        "Threads that carry spans, a number; 0: the CPUs of the container less one, at least one."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.http_threads, "http_threads", CONFIG_UINT,
        "Threads that serve and call OTLP over HTTP."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.forward_headers, "forward_headers", CONFIG_STRINGS,
        "Headers of clients that are carried to the backends, where include_metadata takes them in, by every exporter; spans of unequal "
        "values never share a request."),
    CONFIG_SECTION("cluster", cluster_keys, "This sampler among others."),
    CONFIG_SECTION("memory", memory_keys, "The budget of memory."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.verdict_keep_ns, "verdict_keep", CONFIG_SPAN,
        "Least time a decision is remembered whatever the caches hold."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.resend_window_ns, "resend_window", CONFIG_SPAN,
        "How long a span that is sent again is recognised after its trace was exported."),
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.drain_timeout_ns, "drain_timeout", CONFIG_SPAN,
        "Longest time a stop takes until what is held was decided and exported or, in a cluster, handed over; with a journal the rest "
        "stays there."),
    CONFIG_SECTION("journal", journal_keys, "What outlives the process."),
    CONFIG_NESTED(struct sampler_config, dns, "dns", tailrace_dns_keys, "How cluster.resolver.dns asks."),
    CONFIG_NESTED(struct sampler_config, kubernetes, "kubernetes", tailrace_kubernetes_keys, "How cluster.resolver.k8s asks."),
    {.name = "record_policy", .type = CONFIG_CHOICE, .offset = offsetof(struct sampler_config, record_policy), .choices = "off|scope|span",
        .set_offset = offsetof(struct sampler_config, record_policy_set),
        .help = "Where exported spans are told which policy kept them, as attributes tailsampling.policy and others: on their scope, as the "
                "Collector does under its gate recordpolicy, on each span, or nowhere."},
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.early_keep, "early_keep", CONFIG_BOOL,
        "Whether a trace is decided before its decision_wait is over as soon as nothing that may still come can change the decision."),
    CONFIG_REFUSE("outbox", "it belongs in tailrace-lb's file; remove it here"),
    {0},
};

static const char *const exporter_types[] = {"otlp_grpc", "otlp_http", "debug", "nop", NULL};

const struct otlp_tier sampler_tier = {
    .program = "tailrace-sampler",
    .processor = "tail_sampling",
    .exporters = exporter_types,
    .max_recv_msg_bytes_default = 64 * MIB, /* a balancer's pieces are 1 MiB, but one span may be larger */
    .max_recv_msg_bytes_least = 64 * MIB,
    .tailrace_keys = sampler_tailrace_keys,
    .admin_endpoint = "127.0.0.1:13133",
};

/* The name goes into metrics, logs and peers' messages: 1 to 128 printable characters without blanks. */
static int check_self(struct config_context *context, const struct otlp_file *file, struct tailrace_config *config)
{
    char host[256] = "";
    const char *name = config->cluster_self;
    size_t len;

    if (!name || !*name) {
        if (gethostname(host, sizeof(host) - 1) != 0 || !*host)
            return config_error(context, file->tailrace, "the host has no name: set tailrace.cluster.self");
        name = strcpy(config_alloc(context, sizeof(host)), host);
    }
    for (len = 0; name[len]; len++) {
        if ((unsigned char)name[len] <= 0x20 || (unsigned char)name[len] > 0x7e || name[len] == '"')
            break;
    }
    if (name[len] || len > 128)
        return config_error(context, config_node_near(file->tailrace, "cluster.self"),
            "expected a name of 1 to 128 printable characters without blanks");
    config->cluster_self = name;
    return 0;
}

/* `memory_limiter` becomes the budget when tailrace.memory does not say: its soft limit, where the Collector refuses spans. */
static void apply_memory_limiter(struct config_context *context, const struct otlp_file *file, uint64_t machine_bytes,
    uint64_t least_bytes, struct tailrace_config *config)
{
    const struct memory_limiter_config *limiter = &file->memory_limiter;
    uint64_t soft = limiter->node ? memory_limiter_soft_bytes(limiter, machine_bytes) : 0;

    if (soft == 0)
        return; /* not there, or that was said */
    if (config->memory_limit_bytes > 0) {
        config_warn(context, limiter->node, "without effect: tailrace.memory.limit_mib is set, and wins");
        return;
    }
    config->memory_limit_bytes = u64_max(soft, least_bytes);
    config_warn(context, limiter->node, "mapped: memory for spans is %llu MiB (limit less spike%s), as by tailrace.memory.limit_mib",
        (unsigned long long)(config->memory_limit_bytes / MIB), soft < least_bytes ? ", raised to the least that the threads need" : "");
}

/* The start would find the same; --check says it too. */
static int check_memory(
    struct config_context *context, const struct otlp_file *file, unsigned workers, uint64_t least_bytes, uint64_t limit_bytes)
{
    if (limit_bytes == 0 || limit_bytes >= least_bytes)
        return 0;
    return config_error(context, config_node_near(file->tailrace, "memory.limit_mib"),
        "%llu MiB is too little for %u workers, they need at least %llu MiB", (unsigned long long)(limit_bytes / MIB), workers,
        (unsigned long long)((least_bytes + MIB - 1) / MIB));
}

static int size_memory(struct config_context *context, const struct otlp_file *file, struct tailrace_config *config)
{
    struct cgroup_limits limits;
    unsigned workers;
    uint64_t least_bytes;

    cgroup_limits_read(&limits);
    workers = worker_count_of(config->workers, limits.cpu_count);
    least_bytes = budget_least_bytes(workers);
    apply_memory_limiter(context, file, limits.memory_bytes, least_bytes, config);
    return check_memory(context, file, workers, least_bytes, config->memory_limit_bytes);
}

struct sampler_config sampler_config_defaults(void)
{
    return (struct sampler_config){.tail_sampling = tail_sampling_defaults,
        .tailrace = tailrace_defaults(&sampler_tier),
        .cluster = cluster_defaults,
        .journal = journal_defaults};
}

/* NAME of processors.tail_sampling/NAME. */
static const char *component_name(const struct config_node *processor)
{
    const char *slash = processor ? strchr(config_node_path(processor), '/') : NULL;

    return slash ? slash + 1 : "";
}

int sampler_config_read(
    struct config_context *context, const struct config_node *root, struct sampler_config *out_config)
{
    struct sampler_config config = {.cluster = cluster_defaults, .journal = journal_defaults};
    struct otlp_file file;
    int result = otlp_file_read(context, root, &sampler_tier, &file);
    bool failed;

    config.telemetry = file.telemetry;
    if (otlp_receivers_read(context, &file, &sampler_tier, config.receivers, &config.receiver_count))
        result = CONFIG_E_INVALID;
    if (file.processor && read_tail_sampling(context, file.processor, &config.tail_sampling))
        result = CONFIG_E_INVALID;
    config.tail_sampling.component_name = component_name(file.processor);
    if (otlp_exporters_read(context, &file, config.exporters, &config.exporter_count))
        result = CONFIG_E_INVALID;
    failed = tailrace_read(context, &file, &sampler_tier, &config, &config.tailrace) != 0;
    if (failed)
        result = CONFIG_E_INVALID;
    if (cluster_config_check(context, &file, failed, &config) || journal_config_check(context, &file, &config) ||
        dns_config_check(context, file.tailrace, &config.dns) || k8s_config_check(context, file.tailrace, &config.kubernetes))
        result = CONFIG_E_INVALID;
    if (check_self(context, &file, &config.tailrace))
        result = CONFIG_E_INVALID;
    if (!config.record_policy_set && config_gate(context, GATE_RECORD_POLICY))
        config.record_policy = RECORD_POLICY_SCOPE;
    config.use_tracestate = config_gate(context, GATE_USE_TRACESTATE);
    if (config.use_tracestate && config.tail_sampling.sample_on_first_match)
        config_warn(context, config_node_get(file.processor, "sample_on_first_match"),
            "under the gate usetracestate: th becomes the threshold of the first policy that matched, not the smallest of all");
    if (result == 0 && size_memory(context, &file, &config.tailrace))
        result = CONFIG_E_INVALID;
    if (result == 0)
        result = otlp_exporters_forward(context, &file, &config.tailrace, config.exporters, config.exporter_count);
    tailrace_warn_metadata(context, &file, &config.tailrace, config.receivers, config.receiver_count);
    *out_config = config;
    return result;
}

/* The entry called `tail_sampling`, or `tail_sampling/NAME`. */
static const struct config_node *find_tail_sampling(const struct config_node *map)
{
    static const char name[] = "tail_sampling";

    for (size_t i = 0; i < config_node_count(map) && config_node_kind(map) == CONFIG_NODE_MAP; i++) {
        const char *key = config_node_key(map, i);

        if (strncmp(key, name, strlen(name)) == 0 && (key[strlen(name)] == '\0' || key[strlen(name)] == '/'))
            return config_node_at(map, i);
    }
    return NULL;
}

int tail_sampling_config_find(
    struct config_context *context, const struct config_node *root, struct tail_sampling_config *out_config)
{
    const struct config_node *found;
    struct sampler_config config;
    int r;

    if (config_node_get(root, "service") || config_node_get(root, "receivers")) {
        r = sampler_config_read(context, root, &config);
        if (r == 0)
            *out_config = config.tail_sampling;
        return r;
    }
    found = find_tail_sampling(config_node_get(root, "processors"));
    if (!found)
        found = find_tail_sampling(root);
    return read_tail_sampling(context, found ? found : root, out_config);
}
