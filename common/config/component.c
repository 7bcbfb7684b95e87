/* Components of the Collector by name: which exist, what they were called before, and where the work of those that have no
 * place here can be done instead. */
#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/otlp_parts.h"

static const char *const kind_names[COMPONENT_KINDS] = {
    [RECEIVER] = "receiver", [PROCESSOR] = "processor", [EXPORTER] = "exporter", [CONNECTOR] = "connector", [EXTENSION] = "extension"};
static const char *const kind_lists[COMPONENT_KINDS] = {[RECEIVER] = "receivers",
    [PROCESSOR] = "processors",
    [EXPORTER] = "exporters",
    [CONNECTOR] = "connectors",
    [EXTENSION] = "extensions"};

const char *component_kind_name(enum component_kind kind)
{
    return kind_names[kind];
}

const char *component_kind_list(enum component_kind kind)
{
    return kind_lists[kind];
}

/* What to do about a component without a remedy of its own. */
static const char *const kind_remedies[COMPONENT_KINDS] = {
    [RECEIVER] = "put a Collector with it in front, which sends OTLP here",
    [PROCESSOR] = "put it into a Collector in front of tailrace-lb or behind tailrace-sampler",
    [EXPORTER] = "send by `otlp` or `otlp_http` to a Collector that has it",
    [CONNECTOR] = "a process has one pipeline; put it into a Collector behind tailrace-sampler",
    [EXTENSION] = "remove it from service.extensions",
};

#define LATER_RECEIVER  "it is not in this release; put a Collector with it in front, which sends OTLP here"
#define LATER_PROCESSOR "it is not in this release; put it into a Collector in front of tailrace-lb or behind tailrace-sampler"
#define LATER_CONNECTOR "it is not in this release; put it into a Collector in front of tailrace-lb"
#define NO_SPANS        "it brings no spans, and only traces are carried here; leave it to a Collector"
#define NOT_TRACES      "only traces are carried here; leave it to a Collector"

/* Both: no place in either program; else the one that has no place for it. */
enum where { BOTH, LB, SAMPLER };

static const struct component_type {
    enum component_kind kind;
    const char *name;
    enum where refused_by;
    const char *why; /* NULL: the kind's remedy */
} types[] = {
    {RECEIVER, "otlp", BOTH, NULL},
    {RECEIVER, "jaeger", BOTH, LATER_RECEIVER},
    {RECEIVER, "zipkin", BOTH, LATER_RECEIVER},
    {RECEIVER, "kafka", BOTH, LATER_RECEIVER},
    {RECEIVER, "opencensus", BOTH, NULL},
    {RECEIVER, "datadog", BOTH, NULL},
    {RECEIVER, "skywalking", BOTH, NULL},
    {RECEIVER, "awsxray", BOTH, NULL},
    {RECEIVER, "faro", BOTH, NULL},
    {RECEIVER, "nop", BOTH, "it brings no spans; remove it from the pipeline"},
    {RECEIVER, "prometheus", BOTH, NO_SPANS},
    {RECEIVER, "hostmetrics", BOTH, NO_SPANS},
    {RECEIVER, "kubeletstats", BOTH, NO_SPANS},
    {RECEIVER, "k8s_cluster", BOTH, NO_SPANS},
    {RECEIVER, "k8s_events", BOTH, NO_SPANS},
    {RECEIVER, "filelog", BOTH, NO_SPANS},
    {RECEIVER, "file_log", BOTH, NO_SPANS},
    {RECEIVER, "statsd", BOTH, NO_SPANS},
    {RECEIVER, "syslog", BOTH, NO_SPANS},

    {PROCESSOR, "batch", BOTH, NULL},
    {PROCESSOR, "memory_limiter", BOTH, NULL},
    {PROCESSOR, "tail_sampling", LB, "it is tailrace-sampler's; remove it from this pipeline"},
    {PROCESSOR, "groupbytrace", BOTH, "remove it from the pipeline: traces are gathered by tail_sampling itself"},
    {PROCESSOR, "probabilistic_sampler", BOTH,
        "remove it from the pipeline; tail_sampling has a policy of type probabilistic, or put it into a Collector in front"},
    {PROCESSOR, "k8sattributes", BOTH, LATER_PROCESSOR},
    {PROCESSOR, "k8s_attributes", BOTH, LATER_PROCESSOR},
    {PROCESSOR, "attributes", BOTH, NULL},
    {PROCESSOR, "resource", BOTH, NULL},
    {PROCESSOR, "resourcedetection", BOTH, NULL},
    {PROCESSOR, "resource_detection", BOTH, NULL},
    {PROCESSOR, "transform", BOTH, NULL},
    {PROCESSOR, "filter", BOTH,
        "put it into a Collector in front of tailrace-lb, or write a policy of type drop under tail_sampling"},
    {PROCESSOR, "span", BOTH, NULL},
    {PROCESSOR, "redaction", BOTH, NULL},
    {PROCESSOR, "routing", BOTH, NULL},
    {PROCESSOR, "groupbyattrs", BOTH, "remove it from the pipeline: spans of equal resources are sent together anyhow"},
    {PROCESSOR, "interval", BOTH, NOT_TRACES},
    {PROCESSOR, "cumulativetodelta", BOTH, NOT_TRACES},
    {PROCESSOR, "metricstransform", BOTH, NOT_TRACES},
    {PROCESSOR, "servicegraph", BOTH, LATER_CONNECTOR},
    {PROCESSOR, "spanmetrics", BOTH, LATER_CONNECTOR},

    {EXPORTER, "load_balancing", SAMPLER, "it is tailrace-lb's; a sampler exports by `otlp` or `otlp_http`"},
    {EXPORTER, "otlp_grpc", LB, "tailrace-lb sends to samplers by `load_balancing`; a backend belongs in tailrace-sampler's file"},
    {EXPORTER, "otlp_http", LB, "tailrace-lb sends to samplers by `load_balancing`; a backend belongs in tailrace-sampler's file"},
    {EXPORTER, "debug", LB,
        "tailrace-lb holds no spans to show; remove it from the pipeline, or put it beside the exporters of tailrace-sampler's file"},
    {EXPORTER, "nop", BOTH, NULL},
    {EXPORTER, "logging", BOTH, "the Collector calls it `debug` now"},
    {EXPORTER, "jaeger", BOTH, "Jaeger takes OTLP: use `otlp` with its port 4317"},
    {EXPORTER, "zipkin", BOTH, NULL},
    {EXPORTER, "kafka", BOTH, NULL},
    {EXPORTER, "file", BOTH, NULL},
    {EXPORTER, "datadog", BOTH, NULL},
    {EXPORTER, "honeycomb", BOTH, "Honeycomb takes OTLP: use `otlp` with headers"},
    {EXPORTER, "awsxray", BOTH, NULL},
    {EXPORTER, "azuremonitor", BOTH, NULL},
    {EXPORTER, "googlecloud", BOTH, NULL},
    {EXPORTER, "elasticsearch", BOTH, NULL},
    {EXPORTER, "clickhouse", BOTH, NULL},
    {EXPORTER, "splunk_hec", BOTH, NULL},
    {EXPORTER, "prometheus", BOTH, NOT_TRACES},
    {EXPORTER, "prometheusremotewrite", BOTH, NOT_TRACES},
    {EXPORTER, "loki", BOTH, NOT_TRACES},

    {CONNECTOR, "spanmetrics", BOTH, LATER_CONNECTOR},
    {CONNECTOR, "span_metrics", BOTH, LATER_CONNECTOR},
    {CONNECTOR, "servicegraph", BOTH, LATER_CONNECTOR},
    {CONNECTOR, "service_graph", BOTH, LATER_CONNECTOR},
    {CONNECTOR, "forward", BOTH, "a process has one pipeline; name its exporters in that pipeline"},
    {CONNECTOR, "routing", BOTH, NULL},
    {CONNECTOR, "count", BOTH, NULL},
    {CONNECTOR, "sum", BOTH, NULL},
    {CONNECTOR, "failover", BOTH, NULL},
    {CONNECTOR, "roundrobin", BOTH, NULL},
    {CONNECTOR, "exceptions", BOTH, NULL},
    {CONNECTOR, "grafanacloud", BOTH, NULL},

    {EXTENSION, "health_check", BOTH, NULL},
    {EXTENSION, "basicauth", BOTH, NULL},
    {EXTENSION, "bearertokenauth", BOTH, NULL},
    {EXTENSION, "headers_setter", BOTH, NULL},
    {EXTENSION, "pprof", BOTH, NULL},
    {EXTENSION, "zpages", BOTH, NULL},
    {EXTENSION, "memory_ballast", BOTH, NULL},
    {EXTENSION, "healthcheckv2", BOTH, "use `health_check`, or the probes at /livez and /readyz of tailrace.admin.endpoint"},
    {EXTENSION, "file_storage", BOTH,
        "no queue needs it: an acknowledgement means delivered or held, never queued; remove it and `storage`"},
    {EXTENSION, "db_storage", BOTH,
        "no queue needs it: an acknowledgement means delivered or held, never queued; remove it and `storage`"},
    {EXTENSION, "redis_storage", BOTH,
        "no queue needs it: an acknowledgement means delivered or held, never queued; remove it and `storage`"},
    {EXTENSION, "oauth2client", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter; have a token "
                                      "written to a file and read it by `bearertokenauth: {filename}`"},
    {EXTENSION, "oidc", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter"},
    {EXTENSION, "asapclient", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter"},
    {EXTENSION, "sigv4auth", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter"},
    {EXTENSION, "googleclientauth", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter"},
    {EXTENSION, "azureauth", BOTH, "authenticators here are basicauth, bearertokenauth and headers_setter"},
    {EXTENSION, "opamp", BOTH, "the configuration comes from files; remove it from service.extensions"},
    {EXTENSION, "k8s_observer", BOTH, NULL},
    {EXTENSION, "host_observer", BOTH, NULL},
    {EXTENSION, "docker_observer", BOTH, NULL},
    {EXTENSION, "cgroup_runtime", BOTH, "limits of the container are read anyhow; remove it from service.extensions"},
    {EXTENSION, "remotetap", BOTH, NULL},
    {EXTENSION, "ack", BOTH, NULL},
};

/* Types that have two names; the first is the one used here. */
static const struct {
    enum component_kind kind;
    const char *here, *other;
} aliases[] = {
    {EXPORTER, "otlp_grpc", "otlp"},
    {EXPORTER, "otlp_http", "otlphttp"},
    {EXPORTER, "load_balancing", "loadbalancing"},
};

static bool is_type(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    return text[len] == '\0' && len >= 1 && len <= 63 &&
           ((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
}

bool component_id_parse(enum component_kind kind, const char *text, struct component_id *out_id)
{
    const char *slash = strchr(text, '/');
    size_t type_len = slash ? (size_t)(slash - text) : strlen(text);

    if (type_len >= sizeof(out_id->type))
        return false;
    memcpy(out_id->shown, text, type_len);
    out_id->shown[type_len] = '\0';
    strcpy(out_id->type, out_id->shown);
    out_id->whole = text;
    for (size_t i = 0; i < ARRAY_COUNT(aliases); i++) {
        if (aliases[i].kind == kind && strcmp(aliases[i].other, out_id->type) == 0)
            strcpy(out_id->type, aliases[i].here);
    }
    if (!is_type(out_id->type))
        return false;
    return !slash || (slash[1] && strlen(slash + 1) <= 1024 && !strpbrk(slash + 1, " \t\r\n"));
}

static const struct component_type *type_find(enum component_kind kind, const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].kind == kind && strcmp(types[i].name, name) == 0)
            return &types[i];
    }
    return NULL;
}

/* The known name, of either spelling, that is nearest; NULL when nothing is near. */
static const char *type_nearest(enum component_kind kind, const char *name)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;

    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].kind == kind && name_nearer(name, types[i].name, &distance))
            best = types[i].name;
    }
    for (size_t i = 0; i < ARRAY_COUNT(aliases); i++) {
        if (aliases[i].kind == kind && name_nearer(name, aliases[i].other, &distance))
            best = aliases[i].other;
    }
    return best;
}

int component_refuse(
    struct config_context *context, const struct config_node *reference, const struct component_id *id, enum component_kind kind,
    const struct otlp_tier *tier)
{
    const struct component_type *type = type_find(kind, id->type);
    const char *nearest;

    /* A connector stands in a pipeline's receivers or exporters. */
    if (!type && (kind == RECEIVER || kind == EXPORTER)) {
        type = type_find(CONNECTOR, id->type);
        if (type)
            kind = CONNECTOR;
    }
    if (type && type->refused_by != BOTH)
        return config_error(context, reference, "not supported: the %s `%s` has no place in %s: %s", kind_names[kind], id->shown,
            tier->program, type->why);
    if (type)
        return config_error(context, reference, "not supported: the %s `%s`: %s", kind_names[kind], id->shown,
            type->why ? type->why : kind_remedies[kind]);
    nearest = type_nearest(kind, id->shown);
    if (nearest)
        return config_error(context, reference, "unknown %s `%s`; did you mean `%s`?", kind_names[kind], id->shown, nearest);
    return config_error(context, reference, "not supported: the %s `%s` is not known here: %s", kind_names[kind], id->shown,
        kind_remedies[kind]);
}

size_t list_count(const struct config_node *list)
{
    if (config_node_kind(list) == CONFIG_NODE_NULL)
        return 0;
    return config_node_kind(list) == CONFIG_NODE_SEQUENCE ? config_node_count(list) : 1;
}

const struct config_node *list_at(const struct config_node *list, size_t index)
{
    return config_node_kind(list) == CONFIG_NODE_SEQUENCE ? config_node_at(list, index) : list;
}
