/* The receiver `otlp`: every key that the Collector's has, honoured, refused or ignored by name. */
#include <inttypes.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_parts.h"

#define BUFFERS_OWN "connections size their buffers by themselves"
#define TRACES_ONLY "only traces are received; metrics and logs belong in a Collector"

struct receiver_reading {
    struct otlp_receiver_config config;
    const char *grpc_authenticator, *http_authenticator;
};

#define READ(field_, name_, type_, help_) CONFIG_KEY_NAMED(struct receiver_reading, field_, name_, type_, help_)

/* -- grpc ------------------------------------------------------------------------------------------------ */

static const struct config_key server_parameters_keys[] = {
    READ(config.keepalive_max_connection_idle_ns, "max_connection_idle", CONFIG_SPAN,
        "Longest time a connection without calls stays open; 0: no limit."),
    READ(config.keepalive_max_connection_age_ns, "max_connection_age", CONFIG_SPAN,
        "Age at which a connection is asked to go, give or take a tenth; 0: no limit (differs from the Collector: also those of "
        "protocols.http)."),
    READ(config.keepalive_max_connection_age_grace_ns, "max_connection_age_grace", CONFIG_SPAN,
        "Time its calls then still have; 0: no limit."),
    READ(config.keepalive_time_ns, "time", CONFIG_SPAN, "Silence after which a client is pinged."),
    READ(config.keepalive_timeout_ns, "timeout", CONFIG_SPAN, "How long the answer to that ping may take."),
    {0},
};

static const struct config_key enforcement_policy_keys[] = {
    READ(config.keepalive_min_time_ns, "min_time", CONFIG_SPAN, "Least time between two pings of a client."),
    READ(config.keepalive_permit_without_stream, "permit_without_stream", CONFIG_BOOL,
        "Whether a client may ping while it has no call."),
    {0},
};

static const struct config_key server_keepalive_keys[] = {
    CONFIG_SECTION("server_parameters", server_parameters_keys, "When the receiver pings and ends connections."),
    CONFIG_SECTION("enforcement_policy", enforcement_policy_keys, "Which pings of clients are tolerated."),
    {0},
};

static const struct config_key grpc_auth_keys[] = {
    READ(grpc_authenticator, "authenticator", CONFIG_STRING, "ID of an extension, basicauth or bearertokenauth, in service.extensions."),
    {0},
};

static const struct config_key receiver_grpc_keys[] = {
    READ(config.grpc_endpoint, "endpoint", CONFIG_STRING, "Address to listen on, host:port."),
    CONFIG_REFUSE_UNLESS("transport", "tcp", "Unix sockets are not served; use `tcp` or remove this key"),
    READ(config.max_recv_msg_bytes, "max_recv_msg_size_mib", CONFIG_MIB,
        "Largest request, as sent and as inflated; absent: 4, on a sampler 64 (differs from the Collector: on a sampler never less than "
        "64)."),
    READ(config.max_concurrent_streams, "max_concurrent_streams", CONFIG_UINT, "Most calls a connection has at one time; 0: no limit."),
    CONFIG_IGNORE_UNLESS("read_buffer_size", "524288", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("write_buffer_size", "0", BUFFERS_OWN),
    CONFIG_SECTION("keepalive", server_keepalive_keys, "Pings and the age of connections."),
    {.name = "tls", .type = CONFIG_CUSTOM, .offset = offsetof(struct receiver_reading, config.grpc_tls), .custom = tls_grpc_server_read,
        .nested = tls_server_keys, .set_offset = SIZE_MAX, .help = "TLS of the server; absent: plain text."},
    CONFIG_SECTION("auth", grpc_auth_keys, "Who may send; absent: everybody."),
    READ(config.grpc_include_metadata, "include_metadata", CONFIG_BOOL,
        "Whether headers of clients are taken in: those that tailrace.forward_headers and its like name."),
    CONFIG_REFUSE("middlewares", "extensions are not run between client and receiver; remove this key"),
    {0},
};

/* -- http ------------------------------------------------------------------------------------------------ */

static int cors_seconds_read(struct config_context *context, const struct config_node *node, void *out_field)
{
    int64_t seconds = 0;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_read_int(context, node, &seconds))
        return CONFIG_E_INVALID;
    if (seconds < -1 || seconds > INT32_MAX)
        return config_error(context, node, "expected a number of seconds");
    memcpy(out_field, &seconds, sizeof(seconds));
    return 0;
}

static const struct config_key cors_keys[] = {
    READ(config.cors.allowed_origins, "allowed_origins", CONFIG_STRINGS, "Origins that browsers may send from, `*` for any part; none: CORS is off."),
    READ(config.cors.allowed_headers, "allowed_headers", CONFIG_STRINGS, "Headers they may send beside the usual ones."),
    READ(config.cors.exposed_headers, "exposed_headers", CONFIG_STRINGS, "Headers of answers that they may read."),
    CONFIG_READ_BY(struct receiver_reading, config.cors.max_age_s, "max_age", cors_seconds_read,
        "How long a browser may remember the permission, a number of seconds; absent: 0, its own default."),
    {0},
};

static const struct config_key http_auth_keys[] = {
    READ(http_authenticator, "authenticator", CONFIG_STRING, "ID of an extension, basicauth or bearertokenauth, in service.extensions."),
    CONFIG_REFUSE("request_params", "who sends is told by a header, never by the address; remove this key"),
    {0},
};

static const struct config_key http_keepalive_keys[] = {
    READ(config.idle_timeout_ns, "idle_timeout", CONFIG_SPAN, "Longest time a connection without requests stays open."),
    {0},
};

static const struct config_key receiver_http_keys[] = {
    READ(config.http_endpoint, "endpoint", CONFIG_STRING, "Address to listen on, host:port."),
    CONFIG_REFUSE_UNLESS("transport", "tcp", "Unix sockets are not served; use `tcp` or remove this key"),
    READ(config.traces_url_path, "traces_url_path", CONFIG_STRING, "Path of requests; a leading / is put before it."),
    CONFIG_IGNORE_UNLESS("metrics_url_path", "/v1/metrics|v1/metrics", TRACES_ONLY),
    CONFIG_IGNORE_UNLESS("logs_url_path", "/v1/logs|v1/logs", TRACES_ONLY),
    CONFIG_IGNORE_UNLESS("profiles_url_path", "/v1development/profiles|v1development/profiles", TRACES_ONLY),
    READ(config.max_request_body_bytes, "max_request_body_size", CONFIG_UINT, "Largest body in bytes, as sent and as inflated."),
    CONFIG_IGNORE("compression_algorithms", "bodies as they are, in gzip, zstd and deflate are understood"),
    CONFIG_SECTION("cors", cors_keys, "What browsers may do."),
    READ(config.read_timeout_ns, "read_timeout", CONFIG_SPAN, "Longest time a request takes to arrive; 0: the receiver's own bound."),
    READ(config.read_header_timeout_ns, "read_header_timeout", CONFIG_SPAN, "Longest time its headers take; 0: the receiver's own bound."),
    READ(config.write_timeout_ns, "write_timeout", CONFIG_SPAN, "Longest time an answer takes to leave; 0: the receiver's own bound."),
    READ(config.idle_timeout_ns, "idle_timeout", CONFIG_SPAN, "Longest time a connection without requests stays open."),
    CONFIG_SECTION("keepalive", http_keepalive_keys, "The newer place of idle_timeout."),
    READ(config.keep_alives_enabled, "keep_alives_enabled", CONFIG_BOOL, "Whether a connection serves more than one request."),
    CONFIG_READ_BY(struct receiver_reading, config.response_headers, "response_headers", headers_read, "Headers of each answer, a map of texts."),
    READ(config.http_include_metadata, "include_metadata", CONFIG_BOOL,
        "Whether headers of clients are taken in: those that tailrace.forward_headers and its like name."),
    {.name = "tls", .type = CONFIG_CUSTOM, .offset = offsetof(struct receiver_reading, config.http_tls), .custom = tls_server_read,
        .nested = tls_server_keys, .set_offset = SIZE_MAX, .help = "TLS of the server; absent: plain text."},
    CONFIG_SECTION("auth", http_auth_keys, "Who may send; absent: everybody."),
    CONFIG_REFUSE("middlewares", "extensions are not run between client and receiver; remove this key"),
    {0},
};

/* -- both ------------------------------------------------------------------------------------------------ */

static const struct config_key receiver_protocols_keys[] = {
    CONFIG_SECTION_SET(struct receiver_reading, "grpc", receiver_grpc_keys, config.grpc_set,
        "OTLP over gRPC; there without keys it is on with defaults."),
    CONFIG_SECTION_SET(struct receiver_reading, "http", receiver_http_keys, config.http_set,
        "OTLP over HTTP; there without keys it is on with defaults."),
    {0},
};

const struct config_key otlp_receiver_keys[] = {
    CONFIG_SECTION("protocols", receiver_protocols_keys, "What the receiver understands; at least one."),
    {0},
};

static const struct receiver_reading defaults = {
    .config =
        {
            .id = "otlp",
            .grpc_endpoint = "localhost:4317",
            .keepalive_time_ns = (int64_t)(7200 * NS_PER_S),
            .keepalive_timeout_ns = (int64_t)(20 * NS_PER_S),
            .keepalive_min_time_ns = (int64_t)(300 * NS_PER_S),
            .http_endpoint = "localhost:4318",
            .traces_url_path = "/v1/traces",
            .max_request_body_bytes = 20 * MIB,
            .idle_timeout_ns = (int64_t)(60 * NS_PER_S),
            .keep_alives_enabled = true,
        },
};

const void *otlp_receiver_defaults(void)
{
    return &defaults;
}

static int check_grpc(struct config_context *context, const struct config_node *node, const struct otlp_tier *tier,
    struct otlp_receiver_config *config)
{
    const struct config_node *size_node = config_node_near(node, "protocols.grpc.max_recv_msg_size_mib");
    int result = 0;

    config->grpc_endpoint = endpoint_listen(context, config_node_near(node, "protocols.grpc.endpoint"), config->grpc_endpoint);
    if (!config->grpc_endpoint)
        result = CONFIG_E_INVALID;
    if (config->max_recv_msg_bytes == 0) {
        config->max_recv_msg_bytes = tier->max_recv_msg_bytes_default;
    } else if (config->max_recv_msg_bytes < tier->max_recv_msg_bytes_least) {
        config_warn(context, size_node, "raised to %" PRIu64 ": whatever a balancer sends must fit (differs from the Collector)",
            (uint64_t)(tier->max_recv_msg_bytes_least / MIB));
        config->max_recv_msg_bytes = tier->max_recv_msg_bytes_least;
    } else if (config->max_recv_msg_bytes > 2047 * MIB) {
        result = config_error(context, size_node, "expected at most 2047 MiB, the largest message gRPC has");
    }
    if (config->max_concurrent_streams > INT32_MAX)
        result = config_error(context, config_node_near(node, "protocols.grpc.max_concurrent_streams"), "expected at most %d", INT32_MAX);
    return result;
}

static int check_http(struct config_context *context, const struct config_node *node, struct otlp_receiver_config *config)
{
    const struct config_node *path_node = config_node_near(node, "protocols.http.traces_url_path");
    const struct config_node *size_node = config_node_near(node, "protocols.http.max_request_body_size");
    const char *path = config->traces_url_path;
    int result = 0;

    config->http_endpoint = endpoint_listen(context, config_node_near(node, "protocols.http.endpoint"), config->http_endpoint);
    if (!config->http_endpoint)
        result = CONFIG_E_INVALID;
    if (!*path) {
        config->traces_url_path = defaults.config.traces_url_path;
    } else if (path[0] != '/') {
        char *whole = config_alloc(context, strlen(path) + 2);

        whole[0] = '/';
        strcpy(whole + 1, path);
        config->traces_url_path = whole;
    }
    for (const char *at = config->traces_url_path; *at; at++) {
        if ((unsigned char)*at <= 0x20 || (unsigned char)*at > 0x7e || *at == '?' || *at == '#') {
            result = config_error(context, path_node, "expected a path such as /v1/traces");
            break;
        }
    }
    if (config->max_request_body_bytes == 0)
        config->max_request_body_bytes = defaults.config.max_request_body_bytes;
    if (config->max_request_body_bytes > 2047 * MIB)
        result = config_error(context, size_node, "expected at most 2047 MiB, %" PRIu64 " bytes", (uint64_t)(2047 * MIB));
    return result;
}

static int find_authenticator(struct config_context *context, const struct otlp_file *file, const struct config_node *node,
    const char *path, const char *name, const struct auth_options **out_auth)
{
    const struct otlp_extension *extension;

    if (!name || !*name)
        return 0;
    if (authenticator_find(context, file, config_node_near(node, path), name, true, &extension))
        return CONFIG_E_INVALID;
    *out_auth = extension->auth;
    return 0;
}

static int receiver_read(struct config_context *context, const struct otlp_file *file, const struct config_node *node,
    const struct otlp_tier *tier, struct otlp_receiver_config *out_config)
{
    struct receiver_reading reading = defaults;
    struct otlp_receiver_config *config = &reading.config;
    const struct config_node *protocols = config_node_get(node, "protocols");
    int result;

    config->id = config_node_name(node);
    result = config_read(context, node, otlp_receiver_keys, &reading);
    if (!config->grpc_set && !config->http_set && (!protocols || config_node_count(protocols) == 0 || result == 0))
        result = config_error(context, config_node_near(node, "protocols"),
            "protocols.grpc or protocols.http is missing: without one of them nothing is received");
    if (config->grpc_set && check_grpc(context, node, tier, config))
        result = CONFIG_E_INVALID;
    if (config->http_set && check_http(context, node, config))
        result = CONFIG_E_INVALID;
    if (find_authenticator(context, file, node, "protocols.grpc.auth.authenticator", reading.grpc_authenticator, &config->grpc_auth))
        result = CONFIG_E_INVALID;
    if (find_authenticator(context, file, node, "protocols.http.auth.authenticator", reading.http_authenticator, &config->http_auth))
        result = CONFIG_E_INVALID;
    *out_config = *config;
    return result;
}

/* -- the pipeline's -------------------------------------------------------------------------------------- */

struct listener {
    const char *endpoint, *id;
};

static bool is_any_port(const char *endpoint)
{
    return strcmp(strrchr(endpoint, ':'), ":0") == 0;
}

/* Two listeners on one address: the start would fail, here it can be said which two. */
static int check_listeners(struct config_context *context, const struct otlp_file *file,
    const struct otlp_receiver_config *receivers, size_t count)
{
    struct listener seen[2 * OTLP_RECEIVERS_MAX];
    size_t seen_count = 0;
    int result = 0;

    for (size_t i = 0; i < 2 * count; i++) {
        const struct otlp_receiver_config *receiver = &receivers[i / 2];
        bool http = i % 2;
        const char *endpoint = http ? receiver->http_endpoint : receiver->grpc_endpoint;

        if (!(http ? receiver->http_set : receiver->grpc_set) || !endpoint || is_any_port(endpoint))
            continue;
        for (size_t j = 0; j < seen_count; j++) {
            if (strcmp(seen[j].endpoint, endpoint) == 0)
                result = config_error(context,
                    config_node_near(file->receiver_nodes[i / 2], http ? "protocols.http.endpoint" : "protocols.grpc.endpoint"),
                    "%s is taken by `%.200s` already", endpoint, seen[j].id);
        }
        seen[seen_count++] = (struct listener){endpoint, receiver->id};
    }
    return result;
}

int otlp_receivers_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier,
    struct otlp_receiver_config *out_receivers, size_t *out_count)
{
    int result = 0;

    for (size_t i = 0; i < file->receiver_count; i++) {
        if (receiver_read(context, file, file->receiver_nodes[i], tier, &out_receivers[i]))
            result = CONFIG_E_INVALID;
    }
    if (check_listeners(context, file, out_receivers, file->receiver_count))
        result = CONFIG_E_INVALID;
    *out_count = file->receiver_count;
    return result;
}

bool otlp_receivers_take_metadata(const struct otlp_receiver_config *receivers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((receivers[i].grpc_set && receivers[i].grpc_include_metadata) || (receivers[i].http_set && receivers[i].http_include_metadata))
            return true;
    }
    return false;
}
