/* The Collector's file as far as both tiers share it. A pasted file either means here what it means there, or is refused with
 * what to do about it: so every key the Collector has in these places stands in a table below, as one that is read, one that
 * is refused and why, or one that is accepted without effect and why that does no harm. */
#include "common/config/otlp_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/node.h"

#define NO_TLS_YET "TLS is not in this release; remove this key"
#define NO_AUTH_YET "authentication is not in this release; remove this key"
#define BUFFERS_OWN "connections size their buffers by themselves"
#define NO_TLS_NO_MATTER "it matters to TLS only, which is off"

const struct config_node *config_node_near(const struct config_node *node, const char *path)
{
    while (node && *path) {
        size_t len = strcspn(path, ".");
        char key[64];
        const struct config_node *next;

        (void)snprintf(key, sizeof(key), "%.*s", (int)len, path);
        next = config_node_get(node, key);
        if (!next)
            break;
        node = next;
        path += len;
        path += *path == '.';
    }
    return node;
}

/* -- receiver -------------------------------------------------------------------------------------- */

static const struct config_key server_parameters_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_max_connection_idle_ns, "max_connection_idle", CONFIG_SPAN,
        "Longest time a connection without calls stays open, a duration; default: no limit."),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_max_connection_age_ns, "max_connection_age", CONFIG_SPAN,
        "Age at which a connection is asked to go, a duration; default: no limit."),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_max_connection_age_grace_ns, "max_connection_age_grace", CONFIG_SPAN,
        "Time its calls then still have, a duration; default: no limit."),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_time_ns, "time", CONFIG_SPAN,
        "Silence after which a client is pinged, a duration; default 2h."),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_timeout_ns, "timeout", CONFIG_SPAN,
        "How long the answer to that ping may take, a duration; default 20s."),
    {0},
};

static const struct config_key enforcement_policy_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_min_time_ns, "min_time", CONFIG_SPAN,
        "Least time between two pings of a client, a duration; default 5m."),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, keepalive_permit_without_stream, "permit_without_stream", CONFIG_BOOL,
        "Whether a client may ping while it has no call; default false."),
    {0},
};

static const struct config_key server_keepalive_keys[] = {
    CONFIG_SECTION("server_parameters", server_parameters_keys, "When the receiver pings and ends connections."),
    CONFIG_SECTION("enforcement_policy", enforcement_policy_keys, "Which pings of clients are tolerated."),
    {0},
};

static const struct config_key receiver_grpc_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_receiver_config, grpc_endpoint, "endpoint", CONFIG_STRING,
        "Address to listen on, host:port; default localhost:4317."),
    CONFIG_REFUSE_UNLESS("transport", "tcp", "Unix sockets are not in this release; use `tcp` or remove this key"),
    CONFIG_KEY_NAMED(struct otlp_receiver_config, max_recv_msg_bytes, "max_recv_msg_size_mib", CONFIG_MIB,
        "Largest request, in MiB; default 4, on a sampler 64 and never less (differs from the Collector)."),
    CONFIG_KEY(struct otlp_receiver_config, max_concurrent_streams, CONFIG_UINT,
        "Most calls a connection has at one time, a number; default 0: no limit."),
    CONFIG_IGNORE_UNLESS("read_buffer_size", "524288", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("write_buffer_size", "0", BUFFERS_OWN),
    CONFIG_SECTION("keepalive", server_keepalive_keys, "Pings and the age of connections."),
    CONFIG_REFUSE("tls", "TLS is not in this release; remove this key and let the receiver listen in plain text"),
    CONFIG_REFUSE("auth", NO_AUTH_YET),
    CONFIG_REFUSE("middlewares", "extensions are not run; remove this key"),
    CONFIG_IGNORE_UNLESS("include_metadata", "false", "nothing behind the receiver asks for a client's metadata"),
    {0},
};

static int read_http(struct config_context *context, const struct config_node *node, void *out_field)
{
    (void)out_field;
    return config_error(context, node, "not supported: OTLP/HTTP is not in this release; remove `http` and send over gRPC");
}

static const struct config_key receiver_protocols_keys[] = {
    CONFIG_SECTION_SET(struct otlp_receiver_config, "grpc", receiver_grpc_keys, grpc_set,
        "OTLP over gRPC; there without keys it is on with defaults."),
    {.name = "http", .type = CONFIG_CUSTOM, .custom = read_http, .set_offset = SIZE_MAX,
        .help = "OTLP over HTTP; not in this release, refused."},
    {0},
};

static const struct config_key receiver_keys[] = {
    CONFIG_SECTION("protocols", receiver_protocols_keys, "What the receiver understands."),
    {0},
};

int otlp_receiver_read(struct config_context *context, const struct config_node *node, const struct otlp_tier *tier,
    struct otlp_receiver_config *out_config)
{
    struct otlp_receiver_config config = {
        .id = config_node_name(node),
        .grpc_endpoint = "localhost:4317",
        .http_endpoint = "localhost:4318",
        .traces_url_path = "/v1/traces",
        .max_request_body_bytes = 20 * MIB,
        .idle_timeout_ns = (int64_t)(60 * NS_PER_S),
        .keep_alives_enabled = true,
        .keepalive_time_ns = (int64_t)(7200 * NS_PER_S),
        .keepalive_timeout_ns = (int64_t)(20 * NS_PER_S),
        .keepalive_min_time_ns = (int64_t)(300 * NS_PER_S),
    };
    const struct config_node *size_node = config_node_near(node, "protocols.grpc.max_recv_msg_size_mib");
    int result = config_read(context, node, receiver_keys, &config);
    bool http_there = config_node_get(config_node_get(node, "protocols"), "http") != NULL;

    if (!config.grpc_set && !http_there)
        result = config_error(context, config_node_near(node, "protocols"), "protocols.grpc is missing: without it nothing is received");
    config.grpc_endpoint = endpoint_listen(context, config_node_near(node, "protocols.grpc.endpoint"), config.grpc_endpoint);
    if (!config.grpc_endpoint)
        result = CONFIG_E_INVALID;
    if (config.max_recv_msg_bytes == 0) {
        config.max_recv_msg_bytes = tier->max_recv_msg_bytes_default;
    } else if (config.max_recv_msg_bytes < tier->max_recv_msg_bytes_least) {
        config_warn(context, size_node, "raised to %" PRIu64 ": whatever a balancer sends must fit (differs from the Collector)",
            (uint64_t)(tier->max_recv_msg_bytes_least / MIB));
        config.max_recv_msg_bytes = tier->max_recv_msg_bytes_least;
    } else if (config.max_recv_msg_bytes > 2047 * MIB) {
        result = config_error(context, size_node, "expected at most 2047 MiB, the largest message gRPC has");
    }
    if (config.max_concurrent_streams > INT32_MAX)
        result = config_error(context, config_node_near(node, "protocols.grpc.max_concurrent_streams"),
            "expected at most %d", INT32_MAX);
    *out_config = config;
    return result;
}

/* -- exporter --------------------------------------------------------------------------------------- */

const struct config_key otlp_retry_keys[] = {
    CONFIG_KEY(struct retry_options, enabled, CONFIG_BOOL, "Whether a failed attempt is repeated; default true."),
    CONFIG_KEY_NAMED(struct retry_options, initial_interval_ns, "initial_interval", CONFIG_SPAN,
        "Wait before the first repetition, a duration; default 5s."),
    CONFIG_KEY(struct retry_options, randomization_factor, CONFIG_DOUBLE,
        "Each wait is drawn from the interval times 1 - this to 1 + this, 0 to 1; default 0.5."),
    CONFIG_KEY(struct retry_options, multiplier, CONFIG_DOUBLE, "By what the interval grows each time; default 1.5."),
    CONFIG_KEY_NAMED(struct retry_options, max_interval_ns, "max_interval", CONFIG_SPAN,
        "Longest interval, a duration; default 30s."),
    CONFIG_KEY_NAMED(struct retry_options, max_elapsed_time_ns, "max_elapsed_time", CONFIG_SPAN,
        "Time after which spans are given up, a duration; 0: never. Default 0 (differs from the Collector: there 5m)."),
    {0},
};

static const struct config_key batch_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_flush_timeout_ns, "flush_timeout", CONFIG_SPAN,
        "Longest time spans wait for company, a duration; default 200ms."),
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_min_size, "min_size", CONFIG_UINT,
        "Size at which a request is sent without waiting, in `sizer`; without effect in this release."),
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_max_size, "max_size", CONFIG_UINT,
        "Largest request, in `sizer`; without effect in this release: requests are cut at 1 MiB."),
    CONFIG_KEY_CHOICE(struct otlp_exporter_config, batch_sizer, "sizer", "items|bytes",
        "What sizes of a batch are counted in, items (spans) or bytes; default items."),
    CONFIG_REFUSE("partition", "a client's metadata does not reach the exporter; remove this key"),
    {0},
};

static int read_storage(struct config_context *context, const struct config_node *node, void *out_field)
{
    (void)out_field;
    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    return config_error(context, node,
        "not supported: an acknowledgement means delivered or journalled, never queued; remove `storage`");
}

const struct config_key otlp_queue_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_exporter_config, queue_enabled, "enabled", CONFIG_BOOL,
        "Default true. A sampler's survivors always wait in a queue; a balancer acknowledges only what was delivered."),
    CONFIG_KEY(struct otlp_exporter_config, num_consumers, CONFIG_UINT, "Most calls under way at one time; default 10."),
    CONFIG_REFUSE_UNLESS("block_on_overflow", "false",
        "nothing here waits for room: what does not fit is refused or dropped, and counted; remove this key"),
    CONFIG_KEY_CHOICE(struct otlp_exporter_config, queue_sizer, "sizer", "requests|items|bytes",
        "What queue_size counts, requests, items (spans) or bytes; default requests."),
    CONFIG_KEY_SET(struct otlp_exporter_config, queue_size, "queue_size", CONFIG_UINT, queue_size_set,
        "Most that waits, in `sizer`; what is above it is dropped and counted. Default: bounded by the memory budget only "
        "(differs from the Collector: there 1000)."),
    {.name = "storage", .type = CONFIG_CUSTOM, .custom = read_storage, .set_offset = SIZE_MAX,
        .help = "A persistent queue of the Collector; refused."},
    CONFIG_SECTION_SET(struct otlp_exporter_config, "batch", batch_keys, batch_set,
        "How spans are gathered into requests; requests are always made of what waits, also without this."),
    CONFIG_IGNORE_UNLESS("wait_for_result", "false", "a balancer always waits for the result, a sampler has nobody to tell it to"),
    {0},
};

static const struct config_key client_tls_keys[] = {
    CONFIG_KEY(struct tls_options, insecure, CONFIG_BOOL,
        "Plain text instead of TLS; must be true in this release."),
    CONFIG_REFUSE("ca_file", NO_TLS_YET),
    CONFIG_REFUSE("ca_pem", NO_TLS_YET),
    CONFIG_REFUSE("cert_file", NO_TLS_YET),
    CONFIG_REFUSE("cert_pem", NO_TLS_YET),
    CONFIG_REFUSE("key_file", NO_TLS_YET),
    CONFIG_REFUSE("key_pem", NO_TLS_YET),
    CONFIG_REFUSE("tpm", NO_TLS_YET),
    CONFIG_REFUSE_UNLESS("include_system_ca_certs_pool", "false", NO_TLS_YET),
    CONFIG_IGNORE("min_version", NO_TLS_NO_MATTER),
    CONFIG_IGNORE("max_version", NO_TLS_NO_MATTER),
    CONFIG_IGNORE("cipher_suites", NO_TLS_NO_MATTER),
    CONFIG_IGNORE_UNLESS("include_insecure_cipher_suites", "false", NO_TLS_NO_MATTER),
    CONFIG_IGNORE("curve_preferences", NO_TLS_NO_MATTER),
    CONFIG_IGNORE_UNLESS("reload_interval", "0|0s", NO_TLS_NO_MATTER),
    CONFIG_IGNORE_UNLESS("insecure_skip_verify", "false", NO_TLS_NO_MATTER),
    CONFIG_IGNORE("server_name_override", NO_TLS_NO_MATTER),
    {0},
};

#define LINK_PINGS "connections to members and backends ping by themselves, every 10s"

static const struct config_key client_keepalive_keys[] = {
    CONFIG_IGNORE("time", LINK_PINGS),
    CONFIG_IGNORE("timeout", LINK_PINGS),
    CONFIG_IGNORE("permit_without_stream", LINK_PINGS),
    {0},
};

static bool header_name_ok(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= 256 && strncmp(name, "grpc-", 5) != 0 &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0';
}

static bool header_value_ok(const char *value)
{
    for (; *value; value++) {
        if ((unsigned char)*value < 0x20 || (unsigned char)*value > 0x7e)
            return false;
    }
    return true;
}

/* One header into pair[0] and pair[1]. node: its value, or its entry in a list; both are secret. */
static int read_header(struct config_context *context, const struct config_node *node, const char *name, char **pair)
{
    char *lower = context_text(context, name, strlen(name));

    for (char *at = lower; *at; at++) {
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a'); /* HTTP/2 has lower case only */
    }
    if (!header_name_ok(lower))
        return config_error(context, node, "no name of a header: letters, digits, - _ . and not beginning with grpc-");
    pair[0] = lower;
    if (config_node_kind(node) == CONFIG_NODE_NULL)
        pair[1] = context_text(context, "", 0);
    else if (config_read_text(context, node, true, &pair[1]))
        return CONFIG_E_INVALID;
    if (!header_value_ok(pair[1]))
        return config_error(context, node, "a header's value is of printable ASCII characters");
    return 0;
}

struct listed_header {
    char *name;
    const struct config_node *value;
};

static const struct config_key listed_header_keys[] = {
    CONFIG_KEY(struct listed_header, name, CONFIG_STRING, "Name of a header."),
    CONFIG_KEY(struct listed_header, value, CONFIG_NODE, "Its value, a text."),
    {0},
};

/* As a map, or as a list of {name, value}. */
static int read_headers(struct config_context *context, const struct config_node *node, void *out_field)
{
    size_t count = config_node_count(node);
    char **pairs = config_alloc(context, (2 * count + 1) * sizeof(char *));
    int result = 0;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_node_kind(node) != CONFIG_NODE_MAP && config_node_kind(node) != CONFIG_NODE_SEQUENCE)
        return config_error(context, node, "expected a map of headers");
    if (count > OTLP_HEADERS_MAX)
        return config_error(context, node, "%zu headers, at most %u are sent", count, OTLP_HEADERS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct config_node *value = config_node_at(node, i);
        struct listed_header listed = {0};
        int r;

        if (config_node_kind(node) == CONFIG_NODE_MAP) {
            r = read_header(context, value, config_node_key(node, i), &pairs[2 * i]);
        } else {
            r = config_read(context, value, listed_header_keys, &listed);
            if (r == 0 && !listed.name)
                r = config_error(context, value, "name is missing");
            if (r == 0)
                r = read_header(context, config_node_near(value, "value"), listed.name, &pairs[2 * i]);
        }
        if (r)
            result = r;
    }
    if (result == 0)
        memcpy(out_field, &pairs, sizeof(pairs));
    return result;
}

static int read_client_tls(struct config_context *context, const struct config_node *node, void *out_field)
{
    struct tls_options *tls = config_alloc(context, sizeof(*tls));
    int result = config_read(context, node, client_tls_keys, tls);

    memcpy(out_field, &tls, sizeof(tls));
    return result;
}

static const struct config_key exporter_keys[] = {
    CONFIG_KEY(struct otlp_exporter_config, endpoint, CONFIG_STRING, "Address of the backend, host:port; required."),
    CONFIG_READ_BY(struct otlp_exporter_config, tls, "tls", read_client_tls, "How the connection is secured."),
    CONFIG_REFUSE_UNLESS("compression", "none",
        "compression is not in this release; write `compression: none` (also what no key means, which differs from the "
        "Collector: there gzip)"),
    CONFIG_READ_BY(struct otlp_exporter_config, header_pairs, "headers", read_headers,
        "Headers of each call, a map of texts; default: none."),
    CONFIG_KEY_NAMED(struct otlp_exporter_config, timeout_ns, "timeout", CONFIG_SPAN,
        "Limit of one attempt, a duration; 0: none. Default 5s."),
    CONFIG_NESTED(struct otlp_exporter_config, retry, "retry_on_failure", otlp_retry_keys, "What follows a failed attempt."),
    CONFIG_SECTION("sending_queue", otlp_queue_keys, "What waits to be sent."),
    CONFIG_SECTION("keepalive", client_keepalive_keys, "Pings; connections have their own."),
    CONFIG_IGNORE_UNLESS("balancer_name", "pick_first",
        "one address of a name is used, the next when it fails (differs from the Collector: there round_robin)"),
    CONFIG_IGNORE_UNLESS("read_buffer_size", "0", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("write_buffer_size", "524288", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("wait_for_ready", "false", "what cannot be sent waits in the queue anyhow"),
    CONFIG_REFUSE("authority", "not in this release; remove this key and call the backend by its name"),
    CONFIG_REFUSE("user_agent", "not in this release; remove this key"),
    CONFIG_REFUSE("auth", "authentication by an extension is not in this release; set `headers`"),
    CONFIG_REFUSE("middlewares", "extensions are not run; remove this key"),
    {0},
};

struct otlp_exporter_config otlp_exporter_defaults(void)
{
    static const struct tls_options no_tls_keys;

    return (struct otlp_exporter_config){
        .kind = EXPORTER_OTLP_GRPC,
        .compression = COMPRESS_NONE,
        .tls = &no_tls_keys,
        .timeout_ns = (int64_t)(5 * NS_PER_S),
        .retry = retry_defaults(),
        .queue_enabled = true,
        .num_consumers = 10,
        .batch_flush_timeout_ns = (int64_t)(200 * NS_PER_MS),
    };
}

static int check_retry(struct config_context *context, const struct config_node *node, const struct retry_options *retry)
{
    int result = 0;

    if (!(retry->randomization_factor >= 0 && retry->randomization_factor <= 1))
        result = config_error(context, config_node_near(node, "randomization_factor"), "expected a number from 0 to 1");
    if (!(retry->multiplier >= 0 && retry->multiplier <= 1e9))
        result = config_error(context, config_node_near(node, "multiplier"), "expected a number of zero or more, at most 1e9");
    if (retry->enabled && retry->max_elapsed_time_ns > 0) {
        const struct config_node *at = config_node_near(node, "max_elapsed_time");

        if (retry->max_elapsed_time_ns < retry->initial_interval_ns)
            result = config_error(context, at, "shorter than initial_interval");
        else if (retry->max_elapsed_time_ns < retry->max_interval_ns)
            result = config_error(context, at, "shorter than max_interval (default 30s)");
    }
    return result;
}

#define BATCH_SIZES_FIXED "accepted without effect: in this release a request is of what waits, cut at 1 MiB"

static int check_queue(struct config_context *context, const struct config_node *node, struct otlp_exporter_config *config)
{
    const struct config_node *batch = config_node_get(node, "batch");
    int result = 0;

    if (config->num_consumers == 0 || config->num_consumers > 100000)
        result = config_error(context, config_node_near(node, "num_consumers"), "expected a number from 1 to 100000");
    if (config->queue_size_set && config->queue_size == 0)
        result = config_error(context, config_node_near(node, "queue_size"), "expected a number above 0");
    if (!config->batch_set)
        return result;

    if (config->batch_flush_timeout_ns == 0)
        result = config_error(context, config_node_near(batch, "flush_timeout"), "expected a duration above 0");
    if (config->batch_max_size > 0 && config->batch_max_size < config->batch_min_size)
        result = config_error(context, config_node_near(batch, "max_size"), "below min_size");
    if (config->batch_sizer == BATCH_BYTES && config->queue_sizer == QUEUE_BYTES && config->queue_size_set &&
        config->batch_min_size > config->queue_size)
        result = config_error(context, config_node_near(batch, "min_size"), "above queue_size");
    if (config->batch_min_size > 0)
        config_warn(context, config_node_near(batch, "min_size"), BATCH_SIZES_FIXED);
    if (config->batch_max_size > 0)
        config_warn(context, config_node_near(batch, "max_size"), BATCH_SIZES_FIXED);
    return result;
}

/* tls.insecure must be there and true: silence would mean TLS in the Collector. */
static int check_insecure(
    struct config_context *context, const struct config_node *node, const struct config_node *above, bool insecure)
{
    const struct config_node *key = config_node_get(config_node_get(node, "tls"), "insecure");

    if (insecure || (key && key->kind != CONFIG_NODE_BOOL && key->kind != CONFIG_NODE_NULL)) /* that was reported */
        return 0;
    if (key)
        return config_error(context, key, "must be true: TLS is not in this release");
    return config_error(context, node ? config_node_near(node, "tls") : above,
        "TLS is not in this release: set `tls: {insecure: true}`");
}

int otlp_exporter_read(struct config_context *context, const struct config_node *node, const struct config_node *above,
    enum otlp_exporter_use use, struct otlp_exporter_config *out_config)
{
    struct otlp_exporter_config config = otlp_exporter_defaults();
    const struct config_node *endpoint = config_node_get(node, "endpoint");
    int result = config_read(context, node, exporter_keys, &config);

    config.id = above && above->key ? above->key : "otlp";
    if (check_insecure(context, node, above, config.tls->insecure))
        result = CONFIG_E_INVALID;
    if (use == OTLP_TO_MEMBER) {
        if (config.endpoint && *config.endpoint)
            config_warn(context, endpoint, "accepted without effect: the resolver says where the samplers are");
        config.endpoint = "";
    } else if (config.endpoint) {
        config.endpoint = endpoint_call(context, endpoint, config.endpoint, NULL);
        if (!config.endpoint)
            result = CONFIG_E_INVALID;
    } else if (config_node_kind(endpoint) == CONFIG_NODE_NULL) {
        result = config_error(context, endpoint ? endpoint : above, "endpoint is missing: the backend's host:port");
    }
    if (check_retry(context, config_node_get(node, "retry_on_failure"), &config.retry))
        result = CONFIG_E_INVALID;
    if (check_queue(context, config_node_get(node, "sending_queue"), &config))
        result = CONFIG_E_INVALID;
    if (use == OTLP_TO_BACKEND && !config.queue_enabled)
        config_warn(context, config_node_near(node, "sending_queue.enabled"),
            "accepted without effect: survivors wait in the exporter's queue, bounded by the memory budget");
    if (config.timeout_ns == 0)
        config.timeout_ns = (int64_t)(24 * 3600 * NS_PER_S);
    *out_config = config;
    return result;
}

/* -- service.telemetry ------------------------------------------------------------------------------ */

static int read_level(struct config_context *context, const struct config_node *node, void *out_field)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {
        {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN}, {"error", LOG_ERROR},
        {"dpanic", LOG_ERROR}, {"panic", LOG_ERROR}, {"fatal", LOG_ERROR}, /* nothing here is graver than an error */
    };
    char *text = NULL;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_read_text(context, node, false, &text))
        return CONFIG_E_INVALID;
    for (size_t i = 0; i < ARRAY_COUNT(levels); i++) {
        if (strcasecmp(levels[i].name, text) == 0) {
            memcpy(out_field, &levels[i].level, sizeof(levels[i].level));
            return 0;
        }
    }
    return config_error(context, node, "expected one of: debug info warn error; found \"%.40s\"", text);
}

/* Lines go to standard error and nowhere else. */
static int read_output_paths(struct config_context *context, const struct config_node *node, void *out_field)
{
    size_t count = config_node_count(node);

    (void)out_field;
    if (config_node_kind(node) == CONFIG_NODE_NULL || strcmp(config_node_text(node), "stderr") == 0)
        return 0;
    if (config_node_kind(node) == CONFIG_NODE_SEQUENCE && count == 1 &&
        strcmp(config_node_text(config_node_at(node, 0)), "stderr") == 0)
        return 0;
    return config_error(context, node, "not supported: log lines go to standard error; remove this key and redirect them");
}

static const struct config_key logs_keys[] = {
    CONFIG_READ_BY(struct telemetry_config, log_level, "level", read_level,
        "Least level of a line in the log: debug, info, warn or error; default info."),
    CONFIG_KEY_CHOICE(struct telemetry_config, log_encoding, "encoding", "console|json",
        "How a line is written, console (words) or json; default console."),
    CONFIG_IGNORE_UNLESS("development", "false", "there is one way of logging"),
    CONFIG_IGNORE("disable_caller", "lines name events, never places in the source"),
    CONFIG_IGNORE("disable_stacktrace", "lines carry no stack traces"),
    CONFIG_IGNORE("sampling", "events that repeat are logged once in 10s, with their number"),
    {.name = "output_paths", .type = CONFIG_CUSTOM, .custom = read_output_paths, .set_offset = SIZE_MAX,
        .help = "Where lines go; only stderr."},
    {.name = "error_output_paths", .type = CONFIG_CUSTOM, .custom = read_output_paths, .set_offset = SIZE_MAX,
        .help = "Where errors of logging go; only stderr."},
    CONFIG_REFUSE("initial_fields", "not in this release; remove this key"),
    CONFIG_REFUSE("processors", "logs are not exported; remove this key and collect standard error"),
    {0},
};

#define METRICS_AT "metrics are served at /metrics of tailrace.admin.endpoint; set that and remove this key"

static const struct config_key metrics_keys[] = {
    CONFIG_IGNORE("level", "all metrics are served, at /metrics of tailrace.admin.endpoint"),
    CONFIG_REFUSE("address", METRICS_AT),
    CONFIG_REFUSE("readers", METRICS_AT),
    CONFIG_REFUSE("views", METRICS_AT),
    {0},
};

static const struct config_key telemetry_keys[] = {
    CONFIG_SECTION("logs", logs_keys, "The program's own log."),
    CONFIG_SECTION("metrics", metrics_keys, "The program's own metrics; see tailrace.admin.endpoint."),
    CONFIG_REFUSE("traces", "the program does not trace itself; remove this key"),
    CONFIG_IGNORE("resource", "own metrics and log lines carry no resource; add labels where they are scraped"),
    {0},
};

/* -- the frame of the file ---------------------------------------------------------------------------- */

static const struct config_key service_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_file, service_extensions, "extensions", CONFIG_NODE, "Extensions to run; none is known here."),
    CONFIG_KEY(struct otlp_file, pipelines, CONFIG_NODE, "The one pipeline of traces, a map; required."),
    CONFIG_NESTED(struct otlp_file, telemetry, "telemetry", telemetry_keys, "What the program says of itself."),
    {0},
};

static const struct config_key file_keys[] = {
    CONFIG_KEY(struct otlp_file, receivers, CONFIG_NODE, "Where spans come in, a map of components by their IDs."),
    CONFIG_KEY(struct otlp_file, processors, CONFIG_NODE, "What is done with them, a map of components by their IDs."),
    CONFIG_KEY(struct otlp_file, exporters, CONFIG_NODE, "Where they go, a map of components by their IDs."),
    CONFIG_KEY(struct otlp_file, connectors, CONFIG_NODE, "Connectors of the Collector; none is known here."),
    CONFIG_KEY(struct otlp_file, extensions, CONFIG_NODE, "Extensions of the Collector; none is known here."),
    CONFIG_SECTION("service", service_keys, "The pipeline and the program's own telemetry."),
    CONFIG_KEY(struct otlp_file, tailrace, CONFIG_NODE, "What the Collector has no word for; every key is optional."),
    {0},
};

/* A component ID, TYPE or TYPE/NAME, blanks around its parts taken off as the Collector does. */
struct component_id {
    char type[72];
    const char *whole;
};

static bool is_type(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    return text[len] == '\0' && len >= 1 && len <= 63 &&
           ((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
}

static bool parse_id(const char *text, struct component_id *out_id)
{
    const char *slash = strchr(text, '/');
    size_t type_len = slash ? (size_t)(slash - text) : strlen(text);

    if (type_len >= sizeof(out_id->type))
        return false;
    memcpy(out_id->type, text, type_len);
    out_id->type[type_len] = '\0';
    out_id->whole = text;
    if (!is_type(out_id->type))
        return false;
    return !slash || (slash[1] && strlen(slash + 1) <= 1024 && !strpbrk(slash + 1, " \t\r\n"));
}

enum component_kind { RECEIVER, PROCESSOR, EXPORTER };

static const char *const kind_names[] = {[RECEIVER] = "receiver", [PROCESSOR] = "processor", [EXPORTER] = "exporter"};
static const char *const kind_lists[] = {[RECEIVER] = "receivers", [PROCESSOR] = "processors", [EXPORTER] = "exporters"};

/* Types that have two names; the first is the present one. */
static const char *present_name(enum component_kind kind, const char *type)
{
    static const char *const aliases[][2] = {
        {"otlp_grpc", "otlp"}, {"otlp_http", "otlphttp"}, {"load_balancing", "loadbalancing"}};

    for (size_t i = 0; kind == EXPORTER && i < ARRAY_COUNT(aliases); i++) {
        if (strcmp(type, aliases[i][1]) == 0)
            return aliases[i][0];
    }
    return type;
}

/* Why a component of the Collector has no place in this pipeline, and what to do. */
static const struct {
    enum component_kind kind;
    const char *type, *why;
} misplaced[] = {
    {PROCESSOR, "batch", "remove it from the pipeline: what is sent is gathered into larger requests anyhow"},
    {PROCESSOR, "memory_limiter", "remove it from the pipeline: memory is bounded in bytes from the start, by tailrace.memory.limit_mib on "
                                  "a sampler"},
    {PROCESSOR, "tail_sampling", "it is tailrace-sampler's; remove it from this pipeline"},
    {PROCESSOR, "groupbytrace", "remove it from the pipeline: traces are gathered by tail_sampling itself"},
    {PROCESSOR, "probabilistic_sampler", "remove it from the pipeline; tail_sampling has a policy of type probabilistic"},
    {EXPORTER, "load_balancing", "it is tailrace-lb's; a sampler exports by `otlp`"},
    {EXPORTER, "otlp_grpc", "tailrace-lb sends to samplers by `load_balancing`; a backend belongs in tailrace-sampler's file"},
    {EXPORTER, "otlp_http", "OTLP/HTTP is not in this release; use `otlp` (gRPC)"},
    {EXPORTER, "debug", "it is not in this release; remove it from the pipeline"},
    {EXPORTER, "nop", "it is not in this release; remove it from the pipeline"},
};

/* Refuses a component that is not of the wanted type. */
static int check_type(struct config_context *context, const struct config_node *reference, enum component_kind kind,
    const char *type, const char *wanted, const struct otlp_tier *tier)
{
    const char *name = present_name(kind, type);

    if (wanted && strcmp(name, wanted) == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_COUNT(misplaced); i++) {
        if (misplaced[i].kind == kind && strcmp(misplaced[i].type, name) == 0)
            return config_error(context, reference, "not supported: the %s `%s` has no place in %s: %s", kind_names[kind], type,
                tier->program, misplaced[i].why);
    }
    if (wanted)
        return config_error(context, reference, "not supported: the %s `%.63s` is not in this release; %s has `%s`",
            kind_names[kind], type, tier->program, wanted);
    return config_error(context, reference, "not supported: the %s `%.63s` is not in this release; remove it from the pipeline",
        kind_names[kind], type);
}

struct pipeline_nodes {
    const struct config_node *lists[3]; /* by component_kind */
};

static const struct config_key pipeline_keys[] = {
    {.name = "receivers", .type = CONFIG_NODE, .offset = offsetof(struct pipeline_nodes, lists[RECEIVER]), .set_offset = SIZE_MAX,
        .help = "ID of the receiver, a list of one."},
    {.name = "processors", .type = CONFIG_NODE, .offset = offsetof(struct pipeline_nodes, lists[PROCESSOR]), .set_offset = SIZE_MAX,
        .help = "IDs of the processors, in order: tail_sampling on a sampler, none on a balancer."},
    {.name = "exporters", .type = CONFIG_NODE, .offset = offsetof(struct pipeline_nodes, lists[EXPORTER]), .set_offset = SIZE_MAX,
        .help = "ID of the exporter, a list of one."},
    {0},
};

/* The item of a list, or the one value that stands for a list. */
static size_t list_count(const struct config_node *list)
{
    if (config_node_kind(list) == CONFIG_NODE_NULL)
        return 0;
    return config_node_kind(list) == CONFIG_NODE_SEQUENCE ? config_node_count(list) : 1;
}

static const struct config_node *list_at(const struct config_node *list, size_t index)
{
    return config_node_kind(list) == CONFIG_NODE_SEQUENCE ? config_node_at(list, index) : list;
}

/* The component that a reference names. NULL after an error. */
static const struct config_node *find_component(struct config_context *context, const struct config_node *components,
    const struct config_node *reference, enum component_kind kind, const char *wanted, const struct otlp_tier *tier)
{
    struct component_id id;
    size_t index;

    if (config_node_kind(reference) != CONFIG_NODE_STRING || !parse_id(config_node_text(reference), &id)) {
        (void)config_error(context, reference, "expected the ID of a component, such as otlp or otlp/name");
        return NULL;
    }
    if (check_type(context, reference, kind, id.type, wanted, tier))
        return NULL;
    index = node_find(components, id.whole);
    if (index == SIZE_MAX) {
        (void)config_error(context, reference, "the %s `%.200s` is not defined under `%s`", kind_names[kind], id.whole,
            kind_lists[kind]);
        return NULL;
    }
    return components->items[index];
}

/* The components of one kind in the pipeline: exactly one where one is wanted, else none. */
static int read_list(struct config_context *context, const struct config_node *list, const struct config_node *pipeline,
    const struct config_node *components, enum component_kind kind, const char *wanted, const struct otlp_tier *tier,
    const struct config_node **out_component)
{
    size_t count = list_count(list);
    const struct config_node *first = NULL;
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        const struct config_node *reference = list_at(list, i);
        const struct config_node *component = find_component(context, components, reference, kind, wanted, tier);

        if (!component)
            result = CONFIG_E_INVALID;
        else if (component == first)
            result = config_error(context, reference, "`%.200s` is here twice", config_node_text(reference));
        else if (first)
            result = config_error(context, reference, "not supported: a second %s; this release has one in a pipeline",
                kind_names[kind]);
        else
            first = component;
    }
    if (wanted && !first && result == 0)
        result = config_error(context, list ? list : pipeline, "a `%s` is missing from %s", wanted, kind_lists[kind]);
    *out_component = first;
    return result;
}

static int read_pipelines(
    struct config_context *context, const struct config_node *root, const struct otlp_tier *tier, struct otlp_file *file)
{
    const struct config_node *pipelines = file->pipelines, *pipeline = NULL;
    struct pipeline_nodes nodes = {0};
    int result = 0;

    if (pipelines && config_node_kind(pipelines) != CONFIG_NODE_MAP)
        return config_error(context, pipelines, "expected a map of pipelines");
    for (size_t i = 0; i < config_node_count(pipelines); i++) {
        const struct config_node *one = config_node_at(pipelines, i);
        struct component_id id;

        if (!parse_id(one->key, &id))
            result = config_error(context, one, "no name of a pipeline: traces or traces/name");
        else if (strcmp(id.type, "traces") != 0)
            result = config_error(context, one, "not supported: %s carries traces only; remove this pipeline", tier->program);
        else if (pipeline)
            result = config_error(context, one, "not supported: a second pipeline of traces; a process has one, the other is on line %u",
                config_node_line(pipeline));
        else
            pipeline = one;
    }
    if (!pipeline)
        return config_error(context, pipelines ? pipelines : config_node_near(root, "service"),
            "service.pipelines.traces is missing");
    if (config_read(context, pipeline, pipeline_keys, &nodes))
        result = CONFIG_E_INVALID;
    if (read_list(context, nodes.lists[RECEIVER], pipeline, file->receivers, RECEIVER, "otlp", tier, &file->receiver))
        result = CONFIG_E_INVALID;
    if (read_list(context, nodes.lists[PROCESSOR], pipeline, file->processors, PROCESSOR, tier->processor, tier, &file->processor))
        result = CONFIG_E_INVALID;
    if (read_list(context, nodes.lists[EXPORTER], pipeline, file->exporters, EXPORTER, tier->exporter, tier, &file->exporter))
        result = CONFIG_E_INVALID;
    return result;
}

static int check_components(
    struct config_context *context, const struct config_node *components, const struct otlp_file *file, const char *what)
{
    int result = 0;

    if (components && components->kind != CONFIG_NODE_MAP)
        return config_error(context, components, "expected a map of components by their IDs");
    for (size_t i = 0; i < config_node_count(components); i++) {
        const struct config_node *one = components->items[i];
        struct component_id id;

        if (!parse_id(one->key, &id))
            result = config_error(context, one, "no ID of a component: expected TYPE or TYPE/NAME");
        else if (file->pipeline_read && one != file->receiver && one != file->processor && one != file->exporter)
            config_warn(context, one, "not used: no pipeline of this file has this %s, so it was not read", what);
    }
    return result;
}

static int check_extensions(struct config_context *context, const struct otlp_file *file)
{
    static const struct {
        const char *type, *remedy;
    } known[] = {
        {"health_check", "/livez and /readyz are at tailrace.admin.endpoint"},
        {"zpages", "/status and /traces/{id} are at tailrace.admin.endpoint"},
        {"pprof", "use perf on the process"},
        {"file_storage", "an acknowledgement means delivered or journalled, no queue needs it"},
    };
    int result = 0;

    for (size_t i = 0; i < list_count(file->service_extensions); i++) {
        const struct config_node *reference = list_at(file->service_extensions, i);
        const char *remedy = NULL;
        struct component_id id;

        if (config_node_kind(reference) != CONFIG_NODE_STRING || !parse_id(config_node_text(reference), &id)) {
            result = config_error(context, reference, "expected the ID of an extension, such as health_check");
            continue;
        }
        for (size_t j = 0; j < ARRAY_COUNT(known); j++) {
            if (strcmp(known[j].type, id.type) == 0)
                remedy = known[j].remedy;
        }
        result = config_error(context, reference, "not supported: extensions are not run; remove `%.63s`%s%s", id.type,
            remedy ? ": " : "", remedy ? remedy : "");
    }
    if (list_count(file->service_extensions) == 0 && check_components(context, file->extensions, file, "extension"))
        result = CONFIG_E_INVALID;
    return result;
}

int otlp_file_read(
    struct config_context *context, const struct config_node *root, const struct otlp_tier *tier, struct otlp_file *out_file)
{
    int result;

    *out_file = (struct otlp_file){.telemetry = {.log_level = LOG_INFO, .log_encoding = LOG_CONSOLE}};
    result = config_read(context, root, file_keys, out_file);
    if (out_file->connectors && config_node_count(out_file->connectors) > 0)
        result = config_error(context, out_file->connectors, "not supported: a process has one pipeline; remove the connectors");
    if (read_pipelines(context, root, tier, out_file))
        result = CONFIG_E_INVALID;
    else
        out_file->pipeline_read = true;
    if (check_components(context, out_file->receivers, out_file, "receiver"))
        result = CONFIG_E_INVALID;
    if (check_components(context, out_file->processors, out_file, "processor"))
        result = CONFIG_E_INVALID;
    if (check_components(context, out_file->exporters, out_file, "exporter"))
        result = CONFIG_E_INVALID;
    if (check_extensions(context, out_file))
        result = CONFIG_E_INVALID;
    return result;
}

/* -- tailrace ------------------------------------------------------------------------------------------ */

const struct config_key tailrace_admin_keys[] = {
    CONFIG_KEY_NAMED(struct tailrace_config, admin_endpoint, "endpoint", CONFIG_STRING,
        "Where /livez, /readyz, /metrics, /status and /traces/{id} are served, host:port; \"\" turns them off. Default "
        "127.0.0.1:13133 on a sampler, 127.0.0.1:13134 on a balancer."),
    CONFIG_KEY_NAMED(struct tailrace_config, admin_token_file, "token_file", CONFIG_STRING,
        "File with a token that lets callers from other machines use /traces and /reload; default: only loopback may."),
    {0},
};

int tailrace_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier, void *out_struct,
    struct tailrace_config *out_config)
{
    int result;

    *out_config = (struct tailrace_config){
        .admin_endpoint = tier->admin_endpoint,
        .http_threads = 1,
        .at_limit = AT_LIMIT_DECIDE_EARLY,
        .verdict_keep_ns = (int64_t)(70 * NS_PER_S),
        .resend_window_ns = (int64_t)(300 * NS_PER_S),
        .drain_timeout_ns = (int64_t)(60 * NS_PER_S),
    };
    result = config_read(context, file->tailrace, tier->tailrace_keys, out_struct);
    if (*out_config->admin_endpoint) {
        out_config->admin_endpoint =
            endpoint_listen(context, config_node_near(file->tailrace, "admin.endpoint"), out_config->admin_endpoint);
        if (!out_config->admin_endpoint)
            result = CONFIG_E_INVALID;
    }
    if (out_config->workers > TAILRACE_WORKERS_MAX)
        result = config_error(context, config_node_near(file->tailrace, "workers"), "expected at most %u", TAILRACE_WORKERS_MAX);
    return result;
}
