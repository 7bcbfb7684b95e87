/* Exporters: `otlp` over gRPC and over HTTP, `debug`, `nop`; and the template by which a balancer calls samplers, which is an
 * OTLP exporter without an address. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_parts.h"

#define BUFFERS_OWN "connections size their buffers by themselves"
#define TRACES_ONLY "only traces are exported; metrics and logs belong in a Collector"

struct exporter_reading {
    struct otlp_exporter_config config; /* first: otlp_queue_keys are of this struct alone */
    const char *authenticator, *traces_endpoint;
    struct config_strings partition_keys;
    bool keepalive_set;
};
static_assert(offsetof(struct exporter_reading, config) == 0, "tables of both structs are mixed");

#define READ(field_, name_, type_, help_) CONFIG_KEY_NAMED(struct exporter_reading, field_, name_, type_, help_)

/* -- retry_on_failure and sending_queue ------------------------------------------------------------------- */

const struct config_key otlp_retry_keys[] = {
    CONFIG_KEY(struct retry_options, enabled, CONFIG_BOOL, "Whether a failed attempt is repeated."),
    CONFIG_KEY_NAMED(struct retry_options, initial_interval_ns, "initial_interval", CONFIG_SPAN, "Wait before the first repetition."),
    CONFIG_KEY(struct retry_options, randomization_factor, CONFIG_DOUBLE,
        "Each wait is drawn from the interval times 1 - this to 1 + this, 0 to 1."),
    CONFIG_KEY(struct retry_options, multiplier, CONFIG_DOUBLE, "By what the interval grows each time."),
    CONFIG_KEY_NAMED(struct retry_options, max_interval_ns, "max_interval", CONFIG_SPAN, "Longest interval."),
    CONFIG_KEY_NAMED(struct retry_options, max_elapsed_time_ns, "max_elapsed_time", CONFIG_SPAN,
        "Time after which spans are given up; 0: never (differs from the Collector: there 5m)."),
    {0},
};

static const struct config_key partition_keys[] = {
    CONFIG_KEY_NAMED(struct exporter_reading, partition_keys, "metadata_keys", CONFIG_STRINGS,
        "Headers of clients by which requests are kept apart. They stay with their spans; what is sent on is for tailrace.forward_headers "
        "or headers_setter to say."),
    CONFIG_IGNORE("cache_size", "requests are kept apart without a table that could grow"),
    CONFIG_IGNORE("idle_timeout", "requests are kept apart without a table that could grow"),
    {0},
};

/* Only below an exporter, whose reading has a place for it. */
static const struct config_key batch_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_flush_timeout_ns, "flush_timeout", CONFIG_SPAN,
        "Longest time spans wait for company."),
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_min_size, "min_size", CONFIG_UINT,
        "Size at which a request is sent without waiting, in `sizer`; 0: as soon as no other is under way."),
    CONFIG_KEY_NAMED(struct otlp_exporter_config, batch_max_size, "max_size", CONFIG_UINT,
        "Largest request, in `sizer`; 0: 1 MiB."),
    CONFIG_KEY_CHOICE(struct otlp_exporter_config, batch_sizer, "sizer", "items|bytes",
        "What sizes of a batch are counted in: items (spans) or bytes."),
    CONFIG_SECTION("partition", partition_keys, "Which requests are kept apart."),
    {0},
};

static int read_storage(struct config_context *context, const struct config_node *node, void *out_field)
{
    (void)out_field;
    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    return config_error(context, node,
        "not supported: an acknowledgement means delivered or held, never queued; remove `storage`");
}

static const struct config_key otlp_queue_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_exporter_config, queue_enabled, "enabled", CONFIG_BOOL,
        "Whether there is a queue (differs from the Collector: survivors always wait in one, and a balancer acknowledges only what was "
        "delivered)."),
    CONFIG_KEY(struct otlp_exporter_config, num_consumers, CONFIG_UINT, "Most calls under way at one time."),
    CONFIG_REFUSE_UNLESS("block_on_overflow", "false",
        "nothing here waits for room: what does not fit is refused or dropped, and counted; remove this key"),
    CONFIG_KEY_CHOICE(struct otlp_exporter_config, queue_sizer, "sizer", "requests|items|bytes",
        "What queue_size counts: requests, items (spans) or bytes."),
    CONFIG_KEY_SET(struct otlp_exporter_config, queue_size, "queue_size", CONFIG_UINT, queue_size_set,
        "Most that waits, in `sizer`; what is above it is dropped and counted. Absent: bounded by the memory budget only (differs from "
        "the Collector: there 1000)."),
    {.name = "storage", .type = CONFIG_CUSTOM, .custom = read_storage, .set_offset = SIZE_MAX,
        .help = "A persistent queue (differs from the Collector: refused, an acknowledgement means delivered or held, never queued)."},
    CONFIG_SECTION_SET(struct otlp_exporter_config, "batch", batch_keys, batch_set,
        "How spans are gathered into requests; requests are always made of what waits, also without this."),
    CONFIG_IGNORE_UNLESS("wait_for_result", "false", "a balancer always waits for the result, a sampler has nobody to tell it to"),
    {0},
};

int otlp_queue_read(struct config_context *context, const struct config_node *node)
{
    struct exporter_reading unused = {.config = otlp_exporter_defaults()};

    return config_read(context, node, otlp_queue_keys, &unused);
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
    return result;
}

/* -- keys of both transports ------------------------------------------------------------------------------ */

static int refuse_compression(
    struct config_context *context, const struct config_node *node, const char *text, bool known, const char *remedy)
{
    if (known)
        return config_error(context, node, "not supported: `%s`; use %s", text, remedy);
    return config_error(context, node, "unknown compression \"%.40s\"; use %s", text, remedy);
}

static int read_compression(
    struct config_context *context, const struct config_node *node, const char *remedy, enum export_compression *out_compression)
{
    static const char *const collectors[] = {"snappy", "x-snappy-framed", "lz4", "zlib", "deflate"};
    enum export_compression compression = COMPRESS_NONE;
    char *text = NULL;
    bool known = false;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_read_text(context, node, false, &text))
        return CONFIG_E_INVALID;
    for (size_t i = 0; i < ARRAY_COUNT(collectors); i++)
        known = known || strcmp(collectors[i], text) == 0;
    if (strcmp(text, "gzip") == 0)
        compression = COMPRESS_GZIP;
    else if (strcmp(text, "zstd") == 0)
        compression = COMPRESS_ZSTD;
    else if (*text && strcmp(text, "none") != 0)
        return refuse_compression(context, node, text, known, remedy);
    *out_compression = compression;
    return 0;
}

static int read_http_compression(struct config_context *context, const struct config_node *node, void *out_field)
{
    return read_compression(context, node, "`gzip`, `zstd` or `none`", out_field);
}

/* gRPC's library knows gzip and zlib, and calls all else uncompressed: a peer could not read it. */
static int read_grpc_compression(struct config_context *context, const struct config_node *node, void *out_field)
{
    enum export_compression compression = *(const enum export_compression *)out_field;
    int result = read_compression(context, node, "`gzip` or `none`", &compression);

    if (result == 0 && compression == COMPRESS_ZSTD)
        return refuse_compression(context, node, "zstd", true, "`gzip` or `none`, or `otlp_http`, which has it");
    if (result == 0)
        memcpy(out_field, &compression, sizeof(compression));
    return result;
}

static const struct config_key auth_keys[] = {
    READ(authenticator, "authenticator", CONFIG_STRING,
        "ID of an extension, basicauth, bearertokenauth or headers_setter, in service.extensions."),
    {0},
};

#define COMMON_KEYS                                                                                                            \
    {.name = "tls", .type = CONFIG_CUSTOM, .offset = offsetof(struct exporter_reading, config.tls), .custom = tls_client_read, \
        .nested = tls_client_keys, .set_offset = SIZE_MAX,                                                                      \
        .help = "How the connection is secured; absent: TLS, with the system's authorities."}

#define COMMON_KEYS_2                                                                                                          \
    CONFIG_READ_BY(struct exporter_reading, config.header_pairs, "headers", headers_read, "Headers of each call, a map of texts."), \
        CONFIG_SECTION("auth", auth_keys, "Who we are."),                                                                      \
        READ(config.timeout_ns, "timeout", CONFIG_SPAN, "Limit of one attempt; 0: none."),                                     \
        CONFIG_NESTED(struct exporter_reading, config.retry, "retry_on_failure", otlp_retry_keys, "What follows a failed attempt."), \
        CONFIG_SECTION("sending_queue", otlp_queue_keys, "What waits to be sent."),                                            \
        READ(config.user_agent, "user_agent", CONFIG_STRING, "User agent of each call; absent: our name and version."),        \
        CONFIG_REFUSE("middlewares", "extensions are not run between exporter and backend; remove this key")

static const struct config_key client_keepalive_keys[] = {
    READ(config.keepalive_time_ns, "time", CONFIG_SPAN, "Silence after which the backend is pinged; absent: 10s."),
    READ(config.keepalive_timeout_ns, "timeout", CONFIG_SPAN, "How long its answer may take; absent: 10s."),
    READ(config.keepalive_permit_without_stream, "permit_without_stream", CONFIG_BOOL, "Whether it is pinged while there is no call."),
    {0},
};

const struct config_key otlp_grpc_exporter_keys[] = {
    READ(config.endpoint, "endpoint", CONFIG_STRING, "Address of the backend, host:port; required."),
    COMMON_KEYS,
    CONFIG_READ_BY(struct exporter_reading, config.compression, "compression", read_grpc_compression,
        "Of requests: gzip or none; absent: gzip; from a balancer to samplers always none (differs from the Collector: no zstd, no snappy)."),
    COMMON_KEYS_2,
    CONFIG_SECTION_SET(struct exporter_reading, "keepalive", client_keepalive_keys, keepalive_set, "Pings; absent: the connection's own."),
    READ(config.wait_for_ready, "wait_for_ready", CONFIG_BOOL, "Whether a call waits for a connection instead of failing and being repeated."),
    READ(config.authority, "authority", CONFIG_STRING, "The :authority of calls; absent: the endpoint."),
    CONFIG_IGNORE_UNLESS("balancer_name", "pick_first",
        "one address of a name is used, the next when it fails (differs from the Collector: there round_robin)"),
    CONFIG_IGNORE_UNLESS("read_buffer_size", "0", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("write_buffer_size", "524288", BUFFERS_OWN),
    {0},
};

#define CONNECTIONS_OWN "connections are opened as they are needed, up to num_consumers, and kept"

static const struct config_key cookies_keys[] = {
    CONFIG_REFUSE_UNLESS("enabled", "false", "cookies are not kept; remove this key"),
    {0},
};

const struct config_key otlp_http_exporter_keys[] = {
    READ(config.endpoint, "endpoint", CONFIG_STRING, "URL of the backend, to which /v1/traces is added; this or traces_endpoint is required."),
    READ(traces_endpoint, "traces_endpoint", CONFIG_STRING, "Whole URL of the backend; wins over endpoint."),
    CONFIG_IGNORE("metrics_endpoint", TRACES_ONLY),
    CONFIG_IGNORE("logs_endpoint", TRACES_ONLY),
    CONFIG_IGNORE("profiles_endpoint", TRACES_ONLY),
    CONFIG_REFUSE_UNLESS("encoding", "proto", "requests are sent as protobuf, which every OTLP/HTTP backend takes; use `proto` or remove this key"),
    COMMON_KEYS,
    CONFIG_READ_BY(struct exporter_reading, config.compression, "compression", read_http_compression,
        "Of requests: gzip, zstd or none; absent: gzip (differs from the Collector: nothing else)."),
    CONFIG_IGNORE("compression_params", "the encoders' usual levels are used"),
    COMMON_KEYS_2,
    READ(config.proxy_url, "proxy_url", CONFIG_STRING,
        "Proxy that requests go through; absent: none (differs from the Collector: there what HTTP_PROXY and its like name)."),
    CONFIG_IGNORE("max_idle_conns", CONNECTIONS_OWN),
    CONFIG_IGNORE("max_idle_conns_per_host", CONNECTIONS_OWN),
    CONFIG_IGNORE("max_conns_per_host", CONNECTIONS_OWN),
    CONFIG_IGNORE("idle_conn_timeout", CONNECTIONS_OWN),
    CONFIG_IGNORE_UNLESS("disable_keep_alives", "false", CONNECTIONS_OWN),
    CONFIG_IGNORE("http2_read_idle_timeout", CONNECTIONS_OWN),
    CONFIG_IGNORE("http2_ping_timeout", CONNECTIONS_OWN),
    CONFIG_IGNORE("force_attempt_http2", CONNECTIONS_OWN),
    CONFIG_SECTION("cookies", cookies_keys, "Cookies of answers."),
    CONFIG_IGNORE_UNLESS("read_buffer_size", "0", BUFFERS_OWN),
    CONFIG_IGNORE_UNLESS("write_buffer_size", "524288|0", BUFFERS_OWN),
    {0},
};

static int read_verbosity(struct config_context *context, const struct config_node *node, void *out_field)
{
    static const char *const names[] = {"basic", "normal", "detailed"};
    char *text = NULL;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_read_text(context, node, false, &text))
        return CONFIG_E_INVALID;
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcasecmp(names[i], text) == 0) {
            memcpy(out_field, &i, sizeof(i));
            return 0;
        }
    }
    return config_error(context, node, "expected one of: basic normal detailed; found \"%.40s\"", text);
}

const struct config_key debug_exporter_keys[] = {
    CONFIG_READ_BY(struct exporter_reading, config.debug_verbosity, "verbosity", read_verbosity,
        "How much of the spans is logged: basic (their number), normal (a line each) or detailed; absent: basic."),
    CONFIG_IGNORE("sampling_initial", "a worker writes at most 1000 lines a second, and says how many it left out"),
    CONFIG_IGNORE("sampling_thereafter", "a worker writes at most 1000 lines a second, and says how many it left out"),
    CONFIG_IGNORE_UNLESS("use_internal_logger", "true", "there is one log, standard error"),
    CONFIG_IGNORE("output_paths", "there is one log, standard error"),
    CONFIG_IGNORE("sending_queue", "what is logged does not wait"),
    {0},
};

static const struct config_key nop_exporter_keys[] = {{0}};

/* -- defaults --------------------------------------------------------------------------------------------- */

static const struct tls_options no_tls_keys;

struct otlp_exporter_config otlp_exporter_defaults(void)
{
    return (struct otlp_exporter_config){
        .kind = EXPORTER_OTLP_GRPC,
        .compression = COMPRESS_GZIP,
        .tls = &no_tls_keys,
        .timeout_ns = (int64_t)(5 * NS_PER_S),
        .retry = retry_defaults(),
        .queue_enabled = true,
        .num_consumers = 10,
        .batch_flush_timeout_ns = (int64_t)(200 * NS_PER_MS),
    };
}

static struct exporter_reading reading_defaults(enum exporter_kind kind)
{
    struct exporter_reading reading = {.config = otlp_exporter_defaults()};

    reading.config.kind = kind;
    if (kind == EXPORTER_OTLP_HTTP)
        reading.config.timeout_ns = (int64_t)(30 * NS_PER_S);
    return reading;
}

/* For the page. */
const void *otlp_grpc_exporter_reading_defaults(void)
{
    static struct exporter_reading reading;

    reading = reading_defaults(EXPORTER_OTLP_GRPC);
    return &reading;
}

const void *otlp_http_exporter_reading_defaults(void)
{
    static struct exporter_reading reading;

    reading = reading_defaults(EXPORTER_OTLP_HTTP);
    return &reading;
}

const void *debug_exporter_reading_defaults(void)
{
    return otlp_grpc_exporter_reading_defaults();
}

/* -- reading ---------------------------------------------------------------------------------------------- */

static int read_grpc_endpoint(
    struct config_context *context, const struct config_node *node, const struct config_node *above, struct otlp_exporter_config *config)
{
    const struct config_node *at = config_node_get(node, "endpoint");

    if (!config->endpoint)
        return config_node_kind(at) == CONFIG_NODE_NULL
                   ? config_error(context, at ? at : above, "endpoint is missing: the backend's host:port")
                   : CONFIG_E_INVALID; /* that was said */
    if (strncmp(config->endpoint, "https://", 8) == 0 && config->tls->insecure)
        return config_error(context, at, "https:// and `tls: {insecure: true}` contradict each other; one of them must go");
    config->endpoint = endpoint_call(context, at, config->endpoint, NULL);
    return config->endpoint ? 0 : CONFIG_E_INVALID;
}

static int read_http_endpoint(
    struct config_context *context, const struct config_node *node, const struct config_node *above, struct exporter_reading *reading)
{
    const struct config_node *base = config_node_get(node, "endpoint"), *whole = config_node_get(node, "traces_endpoint");
    struct otlp_exporter_config *config = &reading->config;

    if (reading->traces_endpoint && *reading->traces_endpoint)
        config->endpoint = endpoint_url(context, whole, reading->traces_endpoint, "");
    else if (config->endpoint && *config->endpoint)
        config->endpoint = endpoint_url(context, base, config->endpoint, "/v1/traces");
    else
        return config_error(context, base ? base : above, "endpoint is missing: the backend's URL, such as https://tempo:4318");
    if (config->proxy_url && !*config->proxy_url)
        config->proxy_url = NULL;
    if (config->proxy_url && !endpoint_proxy_ok(config->proxy_url))
        return config_error(context, config_node_get(node, "proxy_url"), "expected a URL such as http://proxy:3128");
    return config->endpoint ? 0 : CONFIG_E_INVALID;
}

static void finish_keepalive(struct exporter_reading *reading)
{
    struct otlp_exporter_config *config = &reading->config;

    if (!reading->keepalive_set)
        return;
    if (config->keepalive_time_ns == 0)
        config->keepalive_time_ns = (int64_t)(10 * NS_PER_S);
    if (config->keepalive_timeout_ns == 0)
        config->keepalive_timeout_ns = (int64_t)(10 * NS_PER_S);
}

static int find_authenticator(struct config_context *context, const struct otlp_file *file, const struct config_node *node,
    const char *name, struct otlp_exporter_config *config)
{
    const struct otlp_extension *extension;

    if (!name || !*name)
        return 0;
    if (authenticator_find(context, file, config_node_near(node, "auth.authenticator"), name, false, &extension))
        return CONFIG_E_INVALID;
    config->auth = extension->auth;
    config->header_pairs = headers_join(context, extension->header_pairs, config->header_pairs);
    config->forward_headers = extension->forward_headers;
    return 0;
}

int otlp_client_auth(struct config_context *context, const struct otlp_file *file, const struct config_node *node, const char *name,
    const struct auth_options **out_auth)
{
    const struct otlp_extension *extension;

    if (!name || !*name)
        return 0;
    if (authenticator_find(context, file, node, name, false, &extension))
        return CONFIG_E_INVALID;
    if (!extension->auth)
        return config_error(context, node, "`%s` has no credentials; expected a basicauth or bearertokenauth", name);
    *out_auth = extension->auth;
    return 0;
}

/* What is the same for every OTLP exporter, whatever it calls. */
static int read_common(struct config_context *context, struct otlp_file *file, const struct config_node *node,
    const struct config_key *keys, struct exporter_reading *reading)
{
    struct otlp_exporter_config *config = &reading->config;
    int result = config_read(context, node, keys, reading);

    if (find_authenticator(context, file, node, reading->authenticator, config))
        result = CONFIG_E_INVALID;
    if (check_retry(context, config_node_get(node, "retry_on_failure"), &config->retry))
        result = CONFIG_E_INVALID;
    if (check_queue(context, config_node_get(node, "sending_queue"), config))
        result = CONFIG_E_INVALID;
    if (forward_headers_add(context, config_node_near(node, "sending_queue.batch.partition.metadata_keys"), &reading->partition_keys,
            &file->forward_headers))
        result = CONFIG_E_INVALID;
    finish_keepalive(reading);
    if (config->timeout_ns == 0)
        config->timeout_ns = (int64_t)(24 * 3600 * NS_PER_S);
    return result;
}

int otlp_member_read(struct config_context *context, struct otlp_file *file, const struct config_node *node,
    const struct config_node *above, struct otlp_exporter_config *out_config)
{
    struct exporter_reading reading = reading_defaults(EXPORTER_OTLP_GRPC);
    int result;

    reading.config.compression = COMPRESS_NONE;
    result = read_common(context, file, node, otlp_grpc_exporter_keys, &reading);
    if (reading.config.endpoint && *reading.config.endpoint)
        config_warn(context, config_node_get(node, "endpoint"), "accepted without effect: the resolver says where the samplers are");
    if (reading.config.compression != COMPRESS_NONE)
        config_warn(context, config_node_get(node, "compression"),
            "accepted without effect: between balancer and samplers requests go as they are");
    if (reading.config.wait_for_ready)
        config_warn(context, config_node_get(node, "wait_for_ready"),
            "accepted without effect: while a sampler cannot be reached its fallback is called");
    if (reading.keepalive_set)
        config_warn(context, config_node_get(node, "keepalive"), "accepted without effect: connections to samplers ping by themselves, every 10s");
    reading.config.compression = COMPRESS_NONE;
    reading.config.endpoint = "";
    reading.config.id = config_node_name(above);
    *out_config = reading.config;
    return result;
}

static int backend_read(struct config_context *context, struct otlp_file *file, const struct config_node *node,
    enum exporter_kind kind, struct otlp_exporter_config *out_config)
{
    struct exporter_reading reading = reading_defaults(kind);
    bool http = kind == EXPORTER_OTLP_HTTP;
    int result;

    reading.config.id = node->key;
    result = read_common(context, file, node, http ? otlp_http_exporter_keys : otlp_grpc_exporter_keys, &reading);
    if (http ? read_http_endpoint(context, node, node, &reading) : read_grpc_endpoint(context, node, node, &reading.config))
        result = CONFIG_E_INVALID;
    if (!reading.config.queue_enabled)
        config_warn(context, config_node_near(node, "sending_queue.enabled"),
            "accepted without effect: survivors wait in the exporter's queue, bounded by the memory budget");
    *out_config = reading.config;
    return result;
}

static enum exporter_kind kind_of(const struct config_node *node)
{
    struct component_id id;

    if (!component_id_parse(EXPORTER, node->key, &id) || strcmp(id.type, "otlp_grpc") == 0)
        return EXPORTER_OTLP_GRPC;
    if (strcmp(id.type, "otlp_http") == 0)
        return EXPORTER_OTLP_HTTP;
    return strcmp(id.type, "debug") == 0 ? EXPORTER_DEBUG : EXPORTER_NOP;
}

static int exporter_read(
    struct config_context *context, struct otlp_file *file, const struct config_node *node, struct otlp_exporter_config *out_config)
{
    enum exporter_kind kind = kind_of(node);
    struct exporter_reading reading = reading_defaults(kind);
    int result;

    if (kind == EXPORTER_OTLP_GRPC || kind == EXPORTER_OTLP_HTTP)
        return backend_read(context, file, node, kind, out_config);
    reading.config.id = node->key;
    result = config_read(context, node, kind == EXPORTER_DEBUG ? debug_exporter_keys : nop_exporter_keys, &reading);
    *out_config = reading.config;
    return result;
}

/* The `batch` processor becomes the exporters' batch, but for those that have one of their own. */
static void apply_batch(struct config_context *context, const struct otlp_file *file, struct otlp_exporter_config *exporters, size_t count)
{
    const struct batch_processor_config *batch = &file->batch;
    bool own = false;

    if (!batch->node)
        return;
    for (size_t i = 0; i < count; i++) {
        struct otlp_exporter_config *exporter = &exporters[i];

        if (exporter->batch_set) {
            own = true;
            continue;
        }
        exporter->batch_set = true;
        exporter->batch_flush_timeout_ns = batch->timeout_ns > 0 ? batch->timeout_ns : 1;
        exporter->batch_sizer = BATCH_ITEMS;
        exporter->batch_min_size = batch->timeout_ns > 0 ? batch->send_batch_size : 0;
        exporter->batch_max_size = batch->send_batch_max_size;
    }
    config_warn(context, batch->node,
        "mapped: spans are gathered into requests where they are exported, after %llums or %llu spans, at most %llu of them (0: 1 MiB)%s",
        (unsigned long long)((uint64_t)batch->timeout_ns / NS_PER_MS), (unsigned long long)batch->send_batch_size,
        (unsigned long long)batch->send_batch_max_size, own ? "; sending_queue.batch wins where an exporter has it" : "");
}

int otlp_exporters_read(
    struct config_context *context, struct otlp_file *file, struct otlp_exporter_config *out_exporters, size_t *out_count)
{
    int result = 0;

    for (size_t i = 0; i < file->exporter_count; i++) {
        if (exporter_read(context, file, file->exporter_nodes[i], &out_exporters[i]))
            result = CONFIG_E_INVALID;
    }
    *out_count = file->exporter_count;
    apply_batch(context, file, out_exporters, file->exporter_count);
    return result;
}

int otlp_exporters_forward(struct config_context *context, const struct otlp_file *file, const struct tailrace_config *tailrace,
    struct otlp_exporter_config *exporters, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (forward_headers_add(context, file->exporter_nodes[i], &tailrace->forward_to_all, &exporters[i].forward_headers))
            return CONFIG_E_INVALID;
    }
    return 0;
}
