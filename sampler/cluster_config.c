/* The times are promises to each other (the table in cluster_config_check): a status must come several times before its
 * sender counts as unreachable, and a member must be unreachable for a while before its slots are given away. */
#include "sampler/cluster_config.h"

#include <string.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "sampler/sampler_config.h"

const struct cluster_config cluster_defaults = {
    .name = "tailrace",
    .status_interval_ns = (int64_t)NS_PER_S,
    .peer_timeout_ns = (int64_t)(3 * NS_PER_S),
    .handoff_timeout_ns = (int64_t)(30 * NS_PER_S),
    .hello_wait_ns = (int64_t)(3 * NS_PER_S),
    .ack_wait_ns = (int64_t)NS_PER_S,
    .forward_timeout_ns = (int64_t)NS_PER_S,
};

const struct journal_config journal_defaults = {
    .sync_interval_ns = (int64_t)NS_PER_S,
    .max_size_bytes = 8192 * MIB,
    .segment_bytes = 64 * MIB,
};

#define SPAN_OF(field, name, help) CONFIG_KEY_NAMED(struct sampler_config, cluster.field, name, CONFIG_SPAN, help)

static const struct config_key auth_keys[] = {
    CONFIG_KEY_NAMED(struct sampler_config, cluster.authenticator, "authenticator", CONFIG_STRING,
        "ID of an extension, basicauth or bearertokenauth, in service.extensions."),
    {0},
};

const struct config_key cluster_keys[] = {
    CONFIG_KEY_NAMED(struct sampler_config, tailrace.cluster_self, "self", CONFIG_STRING,
        "Name of this sampler among its fellows, a text that stays the same over restarts; absent: the host name."),
    CONFIG_KEY_NAMED(struct sampler_config, cluster.name, "name", CONFIG_STRING,
        "Name of the cluster: samplers of another one are refused, should an address be wrong."),
    CONFIG_NESTED(struct sampler_config, cluster.resolver, "resolver", resolver_keys,
        "Who says where the other samplers are, written as under exporters.loadbalancing; absent: this sampler is alone and hands "
        "nothing over."),
    CONFIG_NESTED(struct sampler_config, cluster.fallback, "resolver_fallback", resolver_fallback_keys,
        "Who says it while resolver.k8s cannot; absent: the last good list stays."),
    CONFIG_KEY_NAMED(struct sampler_config, cluster.advertise, "advertise", CONFIG_STRING,
        "Where the others reach this sampler, host:port; absent: the host of its gRPC endpoint if that is one address, else the "
        "machine's first address that is not loopback."),
    {.name = "tls", .type = CONFIG_CUSTOM, .offset = offsetof(struct sampler_config, cluster.tls), .custom = tls_client_read,
        .nested = tls_client_keys, .set_offset = SIZE_MAX,
        .help = "How connections to the others are secured; absent: plain text. Their receivers' `tls` is the other side of it."},
    CONFIG_SECTION("auth", auth_keys, "Who this sampler is to the others, where their receivers ask for it."),
    SPAN_OF(status_interval_ns, "status_interval", "How often samplers tell each other how they are; changes are told at once."),
    SPAN_OF(peer_timeout_ns, "peer_timeout",
        "How long a sampler that says nothing counts as reachable; one whose connection is lost does not at once."),
    SPAN_OF(handoff_timeout_ns, "handoff_timeout",
        "How long a sampler that fell silent keeps its traces before others take its place; longer than a restart takes."),
    SPAN_OF(hello_wait_ns, "hello_wait", "How long after its start a sampler listens for others that know it before it settles."),
    SPAN_OF(ack_wait_ns, "ack_wait", "Longest time that spans wait for samplers to agree who owns them; then they are taken, and counted."),
    SPAN_OF(forward_timeout_ns, "forward_timeout",
        "Longest time that spans wait for the sampler that owns them to take them; then the client is told to send again."),
    {0},
};

const struct config_key journal_keys[] = {
    CONFIG_KEY_NAMED(struct sampler_config, journal.directory, "directory", CONFIG_STRING,
        "Where the journal is kept, of this sampler alone; absent: spans are held in memory only."),
    CONFIG_KEY_CHOICE(struct sampler_config, journal.sync, "sync", "none|interval|always",
        "What an acknowledged span survives: the end of the process; that of the machine but for the last sync_interval; that of "
        "the machine."),
    CONFIG_KEY_NAMED(struct sampler_config, journal.sync_interval_ns, "sync_interval", CONFIG_SPAN,
        "With `sync: interval`: longest time until what was written is on the disk."),
    CONFIG_KEY_NAMED(struct sampler_config, journal.max_size_bytes, "max_size_mib", CONFIG_MIB,
        "Most that the journal takes of the disk; what happens then says memory.at_limit."),
    CONFIG_KEY_NAMED(struct sampler_config, journal.segment_bytes, "segment_mib", CONFIG_MIB,
        "Size of one of its files, which are used again and again; from 1 to 1024."),
    CONFIG_KEY_CHOICE(struct sampler_config, journal.on_error, "on_error", "refuse|memory",
        "What happens while the disk fails: spans are refused, or held in memory only."),
    {0},
};

/* -- checks ------------------------------------------------------------------------------------------------- */

static const struct config_node *key_at(const struct otlp_file *file, const char *path)
{
    return config_node_near(file->tailrace, path);
}

/* A name goes into messages, logs and metrics: 1 to 128 printable characters without blanks. */
static bool name_ok(const char *name)
{
    size_t len = 0;

    for (; name[len]; len++) {
        if ((unsigned char)name[len] <= 0x20 || (unsigned char)name[len] > 0x7e || name[len] == '"')
            return false;
    }
    return len >= 1 && len <= 128;
}

static int check_times(struct config_context *context, const struct otlp_file *file, const struct cluster_config *config)
{
    const struct {
        const char *path;
        int64_t ns;
    } above_zero[] = {
        {"cluster.status_interval", config->status_interval_ns},
        {"cluster.ack_wait", config->ack_wait_ns},
        {"cluster.forward_timeout", config->forward_timeout_ns},
    };
    int result = 0;

    for (size_t i = 0; i < ARRAY_COUNT(above_zero); i++) {
        if (above_zero[i].ns < (int64_t)(10 * NS_PER_MS))
            result = config_error(context, key_at(file, above_zero[i].path), "expected at least 10ms");
    }
    if (config->peer_timeout_ns < 2 * config->status_interval_ns)
        result = config_error(context, key_at(file, "cluster.peer_timeout"),
            "expected at least twice status_interval: one status that is late is no reason to give a sampler up");
    if (config->handoff_timeout_ns < config->peer_timeout_ns)
        result = config_error(context, key_at(file, "cluster.handoff_timeout"),
            "expected at least peer_timeout: a sampler is unreachable before it is given up");
    return result;
}

static bool has_grpc(const struct sampler_config *config)
{
    for (size_t i = 0; i < config->receiver_count; i++) {
        if (config->receivers[i].grpc_set)
            return true;
    }
    return false;
}

static int check_advertise(struct config_context *context, const struct otlp_file *file, struct cluster_config *config)
{
    const struct config_node *at = key_at(file, "cluster.advertise");

    if (!config->advertise || !*config->advertise) {
        config->advertise = NULL;
        return 0;
    }
    config->advertise = endpoint_call(context, at, config->advertise, NULL);
    return config->advertise ? 0 : CONFIG_E_INVALID;
}

static int check_auth(struct config_context *context, const struct otlp_file *file, struct cluster_config *config)
{
    return otlp_client_auth(
        context, file, key_at(file, "cluster.auth.authenticator"), config->authenticator, &config->auth);
}

/* Words that are there and do nothing: a cluster was meant, and none comes of it. */
static void warn_alone(struct config_context *context, const struct config_node *cluster)
{
    for (size_t i = 0; config_node_kind(cluster) == CONFIG_NODE_MAP && i < config_node_count(cluster); i++) {
        const char *key = config_node_key(cluster, i);

        if (strcmp(key, "self") != 0 && strcmp(key, "resolver") != 0)
            config_warn(context, config_node_at(cluster, i), "without effect: tailrace.cluster has no resolver, this sampler is alone");
    }
}

static void default_verdict_keep(const struct otlp_file *file, struct sampler_config *config)
{
    if (config_node_kind(config_node_get(file->tailrace, "verdict_keep")) == CONFIG_NODE_NULL)
        config->tailrace.verdict_keep_ns = 2 * config->cluster.handoff_timeout_ns + config->tail_sampling.decision_wait_ns;
}

/* Whoever gets a verdict gets with it which spans were exported; forgotten before the verdict they would be exported again. */
static void least_resend_window(struct config_context *context, const struct otlp_file *file, struct sampler_config *config)
{
    const struct config_node *node = config_node_get(file->tailrace, "resend_window");

    if (config->tailrace.resend_window_ns >= config->tailrace.verdict_keep_ns)
        return;
    config->tailrace.resend_window_ns = config->tailrace.verdict_keep_ns;
    if (config_node_kind(node) != CONFIG_NODE_NULL)
        config_warn(context, node, "raised to verdict_keep: among samplers what was exported is known as long as its verdict");
}

int cluster_config_check(
    struct config_context *context, const struct otlp_file *file, bool failed, struct sampler_config *config)
{
    const struct config_node *cluster = config_node_get(file->tailrace, "cluster");
    const struct config_node *resolver = config_node_get(cluster, "resolver");
    struct cluster_config *own = &config->cluster;
    int result = 0;

    if (config_node_kind(resolver) == CONFIG_NODE_NULL) {
        warn_alone(context, cluster);
        return 0;
    }
    own->on = true;
    if (resolver_config_check(context, resolver, cluster, failed, &own->resolver) ||
        resolver_fallback_check(context, config_node_get(cluster, "resolver_fallback"), failed, &own->resolver, &own->fallback))
        result = CONFIG_E_INVALID;
    if (!own->name || !name_ok(own->name))
        result = config_error(
            context, key_at(file, "cluster.name"), "expected a name of 1 to 128 printable characters without blanks");
    if (check_advertise(context, file, own) || check_auth(context, file, own) || check_times(context, file, own))
        result = CONFIG_E_INVALID;
    if (config->receiver_count > 0 && !has_grpc(config))
        result = config_error(
            context, cluster, "samplers speak to each other over gRPC: an `otlp` receiver with `protocols: {grpc: }` is needed");
    default_verdict_keep(file, config);
    least_resend_window(context, file, config);
    return result;
}

static int check_segments(struct config_context *context, const struct otlp_file *file, const struct journal_config *config)
{
    if (config->segment_bytes < MIB || config->segment_bytes > 1024 * MIB)
        return config_error(context, key_at(file, "journal.segment_mib"), "expected a number from 1 to 1024");
    if (config->max_size_bytes < 4 * config->segment_bytes)
        return config_error(context, key_at(file, "journal.max_size_mib"),
            "expected at least 4 segments of %llu MiB; make them smaller by journal.segment_mib, or give it more of the disk",
            (unsigned long long)(config->segment_bytes / MIB));
    return 0;
}

int journal_config_check(struct config_context *context, const struct otlp_file *file, struct sampler_config *config)
{
    const struct config_node *journal = config_node_get(file->tailrace, "journal");
    struct journal_config *own = &config->journal;

    if (own->directory && !*own->directory)
        own->directory = NULL;
    if (!own->directory) {
        if (config_node_count(journal) > 0)
            config_warn(context, journal, "without effect: journal.directory is not set, spans are held in memory only");
        if (config->tailrace.at_limit == AT_LIMIT_SPILL)
            return config_error(context, key_at(file, "memory.at_limit"),
                "`spill` moves spans to the journal: set tailrace.journal.directory");
        return 0;
    }
    if (own->sync == JOURNAL_SYNC_INTERVAL && own->sync_interval_ns < (int64_t)(10 * NS_PER_MS))
        return config_error(context, key_at(file, "journal.sync_interval"), "expected at least 10ms");
    return check_segments(context, file, own);
}
