/* service.telemetry: the program's own log and metrics. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_parts.h"

/* -- logs ------------------------------------------------------------------------------------------------- */

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
    (void)out_field;
    if (list_count(node) == 0 || (list_count(node) == 1 && strcmp(config_node_text(list_at(node, 0)), "stderr") == 0))
        return 0;
    return config_error(context, node, "not supported: log lines go to standard error; remove this key and redirect them");
}

static const struct config_key logs_keys[] = {
    CONFIG_READ_BY(struct telemetry_config, log_level, "level", read_level,
        "Least level of a line in the log: debug, info, warn or error; absent: info."),
    CONFIG_KEY_CHOICE(struct telemetry_config, log_encoding, "encoding", "console|json", "How a line is written, as words or as JSON."),
    CONFIG_IGNORE_UNLESS("development", "false", "there is one way of logging"),
    CONFIG_IGNORE("disable_caller", "lines name events, never places in the source"),
    CONFIG_IGNORE("disable_stacktrace", "lines carry no stack traces"),
    CONFIG_IGNORE("sampling", "events that repeat are logged once in 10s, with their number"),
    {.name = "output_paths", .type = CONFIG_CUSTOM, .custom = read_output_paths, .set_offset = SIZE_MAX,
        .help = "Where lines go: stderr, nothing else."},
    {.name = "error_output_paths", .type = CONFIG_CUSTOM, .custom = read_output_paths, .set_offset = SIZE_MAX,
        .help = "Where errors of logging go: stderr, nothing else."},
    CONFIG_IGNORE("initial_fields", "lines carry the program's name; add fields where they are collected"),
    CONFIG_REFUSE("processors", "logs are not exported; remove this key and collect standard error"),
    CONFIG_IGNORE("disable_zap_resource", "lines carry no resource"),
    {0},
};

/* -- metrics ---------------------------------------------------------------------------------------------- */

static int add_endpoint(
    struct config_context *context, const struct config_node *node, const char *text, struct telemetry_config *telemetry)
{
    const char *endpoint = endpoint_listen(context, node, text);

    if (!endpoint)
        return CONFIG_E_INVALID;
    for (size_t i = 0; i < telemetry->metrics_endpoint_count; i++) {
        if (strcmp(telemetry->metrics_endpoints[i], endpoint) == 0)
            return 0;
    }
    if (telemetry->metrics_endpoint_count == METRICS_ENDPOINTS_MAX)
        return config_error(context, node, "not supported: more than %u places to serve metrics at", METRICS_ENDPOINTS_MAX);
    telemetry->metrics_endpoints[telemetry->metrics_endpoint_count++] = endpoint;
    return 0;
}

static int read_address(struct config_context *context, const struct config_node *node, void *out_field)
{
    char *text = NULL;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_read_text(context, node, false, &text))
        return CONFIG_E_INVALID;
    return *text ? add_endpoint(context, node, text, out_field) : 0;
}

#define PLAIN_NAMES "metrics have the names that the Collector's have in Prometheus"

struct prometheus_reader {
    const char *host;
    uint64_t port;
    bool set;
};

static const struct config_key prometheus_keys[] = {
    CONFIG_KEY(struct prometheus_reader, host, CONFIG_STRING, "Host to listen on; absent: localhost."),
    CONFIG_KEY(struct prometheus_reader, port, CONFIG_UINT, "Port to listen on; absent: 8888."),
    CONFIG_IGNORE("without_scope_info", PLAIN_NAMES),
    CONFIG_IGNORE("without_type_suffix", PLAIN_NAMES),
    CONFIG_IGNORE("without_units", PLAIN_NAMES),
    CONFIG_IGNORE("with_resource_constant_labels", "own metrics carry no resource"),
    CONFIG_IGNORE("translation_strategy", PLAIN_NAMES),
    {0},
};

static const struct config_key pull_exporter_keys[] = {
    CONFIG_SECTION_SET(struct prometheus_reader, "prometheus", prometheus_keys, set, "Serves /metrics at host:port, beside tailrace.admin.endpoint."),
    {0},
};

static const struct config_key pull_keys[] = {
    CONFIG_SECTION("exporter", pull_exporter_keys, "How they are asked for."),
    CONFIG_IGNORE("producers", "there are no producers but the program itself"),
    CONFIG_IGNORE("cardinality_limits", "labels are few and fixed"),
    {0},
};

static const struct config_key reader_keys[] = {
    CONFIG_SECTION("pull", pull_keys, "Metrics that are asked for."),
    CONFIG_REFUSE("periodic", "metrics are served for scraping only; remove this reader and scrape /metrics"),
    {0},
};

static int read_reader(struct config_context *context, const struct config_node *node, struct telemetry_config *telemetry)
{
    struct prometheus_reader reader = {.host = "localhost", .port = 8888};
    size_t size;
    char *text;

    if (config_read(context, node, reader_keys, &reader))
        return CONFIG_E_INVALID;
    if (!reader.set)
        return config_error(context, node, "expected `pull: {exporter: {prometheus: {host: ..., port: ...}}}`");
    if (reader.port > 65535)
        return config_error(context, config_node_near(node, "pull.exporter.prometheus.port"), "expected a port");
    size = strlen(reader.host) + 16;
    text = config_alloc(context, size);
    (void)snprintf(text, size, strchr(reader.host, ':') && reader.host[0] != '[' ? "[%s]:%u" : "%s:%u", reader.host, (unsigned)reader.port);
    return add_endpoint(context, config_node_near(node, "pull.exporter.prometheus.host"), text, telemetry);
}

static int read_readers(struct config_context *context, const struct config_node *node, void *out_field)
{
    int result = 0;

    if (config_node_kind(node) != CONFIG_NODE_SEQUENCE && config_node_kind(node) != CONFIG_NODE_NULL)
        return config_error(context, node, "expected a list of readers");
    for (size_t i = 0; i < config_node_count(node); i++) {
        if (read_reader(context, config_node_at(node, i), out_field))
            result = CONFIG_E_INVALID;
    }
    return result;
}

static const struct config_key metrics_keys[] = {
    CONFIG_IGNORE_UNLESS("level", "basic|normal|detailed|Basic|Normal|Detailed", "all metrics are served, at /metrics of tailrace.admin.endpoint"),
    {.name = "address", .type = CONFIG_CUSTOM, .custom = read_address, .set_offset = SIZE_MAX,
        .help = "Where /metrics is served beside tailrace.admin.endpoint, host:port; absent: nowhere (differs from the Collector: there "
                "localhost:8888)."},
    {.name = "readers", .type = CONFIG_CUSTOM, .custom = read_readers, .nested = reader_keys, .set_offset = SIZE_MAX,
        .help = "The newer way to say the same, a list."},
    CONFIG_IGNORE("views", "metrics are few and fixed; drop what you do not want where they are scraped"),
    {0},
};

const struct config_key otlp_telemetry_keys[] = {
    CONFIG_SECTION("logs", logs_keys, "The program's own log."),
    CONFIG_SECTION("metrics", metrics_keys, "The program's own metrics."),
    CONFIG_IGNORE("traces", "the program does not trace itself"),
    CONFIG_IGNORE("resource", "own metrics and log lines carry no resource; add labels where they are scraped"),
    {0},
};
