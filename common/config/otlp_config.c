/* The Collector's file as far as both tiers share it. A pasted file either means here what it means there, or is refused with
 * what to do about it: so every key the Collector has in these places stands in a table here or in the files beside this one,
 * as one that is read, one that is refused and why, or one that is accepted without effect and why that does no harm. */
#include "common/config/otlp_config.h"

#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_parts.h"

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

/* -- the frame of the file ---------------------------------------------------------------------------- */

static const struct config_key service_keys[] = {
    CONFIG_KEY_NAMED(struct otlp_file, service_extensions, "extensions", CONFIG_NODE, "IDs of the extensions that run, a list."),
    {.name = "pipelines", .type = CONFIG_NODE, .offset = offsetof(struct otlp_file, pipelines), .set_offset = SIZE_MAX,
        .help = "The one pipeline, `traces` or `traces/NAME`; required (differs from the Collector: one pipeline, of traces)."},
    CONFIG_NESTED(struct otlp_file, telemetry, "telemetry", otlp_telemetry_keys, "What the program says of itself."),
    {0},
};

const struct config_key otlp_file_keys[] = {
    CONFIG_KEY(struct otlp_file, receivers, CONFIG_NODE, "Where spans come in, a map of components by their IDs: `otlp`."),
    CONFIG_KEY(struct otlp_file, processors, CONFIG_NODE,
        "What is done with them, likewise: `batch`, `memory_limiter`, on a sampler `tail_sampling`."),
    CONFIG_KEY(struct otlp_file, exporters, CONFIG_NODE,
        "Where they go, likewise: `loadbalancing` and `nop` on a balancer; `otlp`, `otlp_http`, `debug` and `nop` on a sampler."),
    CONFIG_KEY(struct otlp_file, connectors, CONFIG_NODE, "Connectors of the Collector; a pipeline that names one is refused."),
    CONFIG_KEY(struct otlp_file, extensions, CONFIG_NODE,
        "What stands beside the pipeline, likewise: `health_check`, `basicauth`, `bearertokenauth`, `headers_setter`."),
    CONFIG_SECTION("service", service_keys, "The pipeline and the program's own telemetry."),
    CONFIG_KEY(struct otlp_file, tailrace, CONFIG_NODE, "What the Collector has no word for; every key is optional."),
    {0},
};

struct pipeline_nodes {
    const struct config_node *receivers, *processors, *exporters;
};

const struct config_key otlp_pipeline_keys[] = {
    CONFIG_KEY(struct pipeline_nodes, receivers, CONFIG_NODE, "IDs of the receivers, a list."),
    CONFIG_KEY(struct pipeline_nodes, processors, CONFIG_NODE,
        "IDs of the processors, a list: tail_sampling on a sampler, and batch and memory_limiter in any place."),
    CONFIG_KEY(struct pipeline_nodes, exporters, CONFIG_NODE, "IDs of the exporters, a list."),
    {0},
};

/* -- the pipeline ------------------------------------------------------------------------------------- */

/* The component that a reference names, and its ID. NULL after an error. */
static const struct config_node *find_component(struct config_context *context, const struct otlp_file *file,
    const struct config_node *reference, enum component_kind kind, struct component_id *out_id)
{
    const struct config_node *const maps[] = {[RECEIVER] = file->receivers, [PROCESSOR] = file->processors, [EXPORTER] = file->exporters};
    size_t index;

    index = node_find(maps[kind], out_id->whole);
    if (index == SIZE_MAX) {
        (void)config_error(context, reference, "the %s `%.200s` is not defined under `%s`", component_kind_name(kind), out_id->whole,
            component_kind_list(kind));
        return NULL;
    }
    return maps[kind]->items[index];
}

static int read_reference(
    struct config_context *context, const struct config_node *reference, enum component_kind kind, struct component_id *out_id)
{
    if (config_node_kind(reference) == CONFIG_NODE_STRING && component_id_parse(kind, config_node_text(reference), out_id))
        return 0;
    return config_error(context, reference, "expected the ID of a component, such as otlp or otlp/name");
}

static bool type_wanted(const struct otlp_tier *tier, enum component_kind kind, const char *type)
{
    if (kind == RECEIVER)
        return strcmp(type, "otlp") == 0;
    if (kind == PROCESSOR)
        return strcmp(type, "batch") == 0 || strcmp(type, "memory_limiter") == 0 || (tier->processor && strcmp(type, tier->processor) == 0);
    for (size_t i = 0; tier->exporters[i]; i++) {
        if (strcmp(tier->exporters[i], type) == 0)
            return true;
    }
    return false;
}

/* Is it in the list before this place already? */
static bool named_before(const struct config_node *list, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(config_node_text(list_at(list, i)), config_node_text(list_at(list, index))) == 0)
            return true;
    }
    return false;
}

static int take_processor(struct config_context *context, const struct config_node *reference, const struct component_id *id,
    const struct config_node *component, const struct otlp_tier *tier, struct otlp_file *file)
{
    const struct config_node **place = &file->processor;

    if (strcmp(id->type, "batch") == 0)
        place = &file->batch.node;
    if (strcmp(id->type, "memory_limiter") == 0)
        place = &file->memory_limiter.node;
    if (*place)
        return config_error(context, reference, "not supported: a second `%s` in a pipeline; remove one of them", id->type);
    if (place == &file->batch.node && tier->processor && !file->processor)
        config_warn(context, reference, "before `%s` it has no effect of its own: requests are gathered where they are exported",
            tier->processor);
    *place = component;
    return 0;
}

/* The two whose keys are the same in both tiers. */
static int read_processors(struct config_context *context, struct otlp_file *file)
{
    int result = 0;

    if (file->batch.node && batch_processor_read(context, file->batch.node, &file->batch))
        result = CONFIG_E_INVALID;
    if (file->memory_limiter.node && memory_limiter_read(context, file->memory_limiter.node, &file->memory_limiter))
        result = CONFIG_E_INVALID;
    if (forward_headers_add(context, config_node_near(file->batch.node, "metadata_keys"), &file->batch.metadata_keys, &file->forward_headers))
        result = CONFIG_E_INVALID;
    return result;
}

static int take_component(struct config_context *context, const struct config_node *reference, enum component_kind kind,
    const struct component_id *id, const struct config_node *component, const struct otlp_tier *tier, struct otlp_file *file)
{
    if (kind == PROCESSOR)
        return take_processor(context, reference, id, component, tier, file);
    if (kind == RECEIVER) {
        if (file->receiver_count == OTLP_RECEIVERS_MAX)
            return config_error(context, reference, "not supported: more than %u receivers", OTLP_RECEIVERS_MAX);
        file->receiver_nodes[file->receiver_count++] = component;
        return 0;
    }
    if (tier->needs_first_exporter && strcmp(id->type, tier->exporters[0]) != 0)
        return 0; /* nop: there is nothing to do */
    if (file->exporter_count == (tier->needs_first_exporter ? 1 : OTLP_EXPORTERS_MAX))
        return config_error(context, reference, tier->needs_first_exporter ? "not supported: a second exporter of this kind; one ring holds all samplers"
                                                                           : "not supported: more than 8 exporters");
    file->exporter_nodes[file->exporter_count++] = component;
    return 0;
}

static int read_list(struct config_context *context, const struct config_node *list, enum component_kind kind,
    const struct otlp_tier *tier, struct otlp_file *file)
{
    int result = 0;

    for (size_t i = 0; i < list_count(list); i++) {
        const struct config_node *reference = list_at(list, i);
        const struct config_node *component;
        struct component_id id;

        if (read_reference(context, reference, kind, &id)) {
            result = CONFIG_E_INVALID;
        } else if (!type_wanted(tier, kind, id.type)) {
            result = component_refuse(context, reference, &id, kind, tier);
        } else if (!(component = find_component(context, file, reference, kind, &id))) {
            result = CONFIG_E_INVALID;
        } else if (named_before(list, i)) {
            result = config_error(context, reference, "`%.200s` is here twice", id.whole);
        } else if (take_component(context, reference, kind, &id, component, tier, file)) {
            result = CONFIG_E_INVALID;
        }
    }
    return result;
}

static int missing(struct config_context *context, const struct config_node *list, const struct config_node *pipeline,
    const char *type, enum component_kind kind)
{
    return config_error(context, list ? list : pipeline, "a `%s` is missing from %s", type, component_kind_list(kind));
}

/* The one pipeline of traces. */
static int find_pipeline(struct config_context *context, const struct otlp_tier *tier, const struct otlp_file *file,
    const struct config_node **out_pipeline)
{
    const struct config_node *pipeline = NULL;
    int result = 0;

    if (file->pipelines && config_node_kind(file->pipelines) != CONFIG_NODE_MAP)
        return config_error(context, file->pipelines, "expected a map of pipelines");
    for (size_t i = 0; i < config_node_count(file->pipelines); i++) {
        const struct config_node *one = config_node_at(file->pipelines, i);
        struct component_id id;

        if (!component_id_parse(COMPONENT_KINDS, one->key, &id))
            result = config_error(context, one, "no name of a pipeline: traces or traces/name");
        else if (strcmp(id.type, "metrics") == 0 || strcmp(id.type, "logs") == 0 || strcmp(id.type, "profiles") == 0)
            result = config_error(context, one,
                "not supported: %s carries traces only; run a Collector for %s and remove this pipeline", tier->program, id.type);
        else if (strcmp(id.type, "traces") != 0)
            result = config_error(context, one, "no name of a pipeline: traces or traces/name");
        else if (pipeline)
            result = config_error(context, one,
                "not supported: a second pipeline of traces; a process has one: put its receivers and exporters into that on line %u",
                config_node_line(pipeline));
        else
            pipeline = one;
    }
    if (!pipeline)
        result = config_error(context, file->pipelines ? file->pipelines : config_node_near(file->root, "service"),
            "service.pipelines.traces is missing");
    *out_pipeline = pipeline;
    return result;
}

static int read_pipelines(struct config_context *context, const struct otlp_tier *tier, struct otlp_file *file)
{
    const struct config_node *pipeline = NULL;
    struct pipeline_nodes nodes = {0};
    int result = find_pipeline(context, tier, file, &pipeline);
    int lists[3];

    if (!pipeline)
        return CONFIG_E_INVALID;
    if (config_read(context, pipeline, otlp_pipeline_keys, &nodes))
        result = CONFIG_E_INVALID;
    lists[0] = read_list(context, nodes.receivers, RECEIVER, tier, file);
    lists[1] = read_list(context, nodes.processors, PROCESSOR, tier, file);
    lists[2] = read_list(context, nodes.exporters, EXPORTER, tier, file);
    if (file->receiver_count == 0 && lists[0] == 0)
        lists[0] = missing(context, nodes.receivers, pipeline, "otlp", RECEIVER);
    if (tier->processor && !file->processor && lists[1] == 0)
        lists[1] = missing(context, nodes.processors, pipeline, tier->processor, PROCESSOR);
    if (file->exporter_count == 0 && lists[2] == 0)
        lists[2] = missing(context, nodes.exporters, pipeline, tier->exporters[0], EXPORTER);
    return lists[0] || lists[1] || lists[2] ? CONFIG_E_INVALID : result;
}

/* -- what no pipeline names --------------------------------------------------------------------------- */

static bool is_used(const struct otlp_file *file, const struct config_node *component)
{
    bool used = component == file->processor || component == file->batch.node || component == file->memory_limiter.node;

    for (size_t i = 0; i < file->receiver_count; i++)
        used = used || component == file->receiver_nodes[i];
    for (size_t i = 0; i < file->exporter_count; i++)
        used = used || component == file->exporter_nodes[i];
    return used;
}

static bool is_named(const struct otlp_file *file, const struct config_node *component, enum component_kind kind)
{
    const struct config_node *pipeline = config_node_at(file->pipelines, 0);
    const struct config_node *list = config_node_get(pipeline, component_kind_list(kind));

    for (size_t i = 0; i < list_count(list); i++) {
        if (strcmp(config_node_text(list_at(list, i)), component->key) == 0)
            return true;
    }
    return is_used(file, component);
}

static int check_components(struct config_context *context, const struct config_node *components, const struct otlp_file *file,
    enum component_kind kind)
{
    int result = 0;

    if (components && components->kind != CONFIG_NODE_MAP && components->kind != CONFIG_NODE_NULL)
        return config_error(context, components, "expected a map of components by their IDs");
    for (size_t i = 0; i < config_node_count(components); i++) {
        const struct config_node *one = components->items[i];
        struct component_id id;

        if (!component_id_parse(kind, one->key, &id))
            result = config_error(context, one, "no ID of a component: expected TYPE or TYPE/NAME");
        else if (file->pipeline_read && !is_named(file, one, kind))
            config_warn(context, one, "not used: no pipeline of this file has this %s, so it was not read", component_kind_name(kind));
    }
    return result;
}

int otlp_file_read(
    struct config_context *context, const struct config_node *root, const struct otlp_tier *tier, struct otlp_file *out_file)
{
    struct otlp_file *file = out_file;
    int result;

    *file = (struct otlp_file){.root = root, .telemetry = {.log_level = LOG_INFO, .log_encoding = LOG_CONSOLE}};
    result = config_read(context, root, otlp_file_keys, file);
    if (read_pipelines(context, tier, file))
        result = CONFIG_E_INVALID;
    else
        file->pipeline_read = true;
    if (read_processors(context, file))
        result = CONFIG_E_INVALID;
    if (check_components(context, file->receivers, file, RECEIVER))
        result = CONFIG_E_INVALID;
    if (check_components(context, file->processors, file, PROCESSOR))
        result = CONFIG_E_INVALID;
    if (check_components(context, file->exporters, file, EXPORTER))
        result = CONFIG_E_INVALID;
    if (check_components(context, file->connectors, file, CONNECTOR))
        result = CONFIG_E_INVALID;
    if (extensions_read(context, tier, file))
        result = CONFIG_E_INVALID;
    return result;
}

/* -- tailrace ------------------------------------------------------------------------------------------ */

const struct config_key tailrace_admin_keys[] = {
    CONFIG_KEY_NAMED(struct tailrace_config, admin_endpoint, "endpoint", CONFIG_STRING,
        "Where /livez, /readyz, /metrics, /status and /traces/{id} are served, host:port; \"\" turns them off."),
    CONFIG_KEY_NAMED(struct tailrace_config, admin_token_file, "token_file", CONFIG_STRING,
        "File with a token that lets callers from other machines use /traces and /reload; absent: only loopback may."),
    {0},
};

struct tailrace_config tailrace_defaults(const struct otlp_tier *tier)
{
    return (struct tailrace_config){
        .admin_endpoint = tier->admin_endpoint,
        .http_threads = 1,
        .at_limit = AT_LIMIT_DECIDE_EARLY,
        .verdict_keep_ns = (int64_t)(70 * NS_PER_S),
        .resend_window_ns = (int64_t)(300 * NS_PER_S),
        .drain_timeout_ns = (int64_t)(60 * NS_PER_S),
    };
}

static bool same_port(const char *a, const char *b)
{
    return strcmp(strrchr(a, ':'), strrchr(b, ':')) == 0;
}

/* Where the health check is served: beside the rest when the port is the admin endpoint's, else by itself. */
static int place_health(struct config_context *context, const struct otlp_file *file, bool admin_set, struct tailrace_config *config)
{
    config->health = file->health;
    if (!file->health.endpoint || !config->admin_endpoint)
        return 0;
    if (!*config->admin_endpoint || !same_port(file->health.endpoint, config->admin_endpoint)) {
        config_warn(context, file->health_node, "mapped: %s at %s answers 200, and 503 once the process drains", file->health.path,
            file->health.endpoint);
        return 0;
    }
    if (!admin_set)
        config->admin_endpoint = file->health.endpoint;
    else if (strcmp(file->health.endpoint, config->admin_endpoint) != 0)
        return config_error(context, config_node_near(file->health_node, "endpoint"),
            "its port is that of tailrace.admin.endpoint (%s); give both the same address, and both are served there", config->admin_endpoint);
    config_warn(context, file->health_node,
        "mapped: %s at %s answers 200, and 503 once the process drains; the admin endpoint is served there too", file->health.path,
        file->health.endpoint);
    return 0;
}

static int place_metrics(struct config_context *context, const struct otlp_file *file, struct tailrace_config *config)
{
    const struct config_node *node = config_node_near(file->root, "service.telemetry.metrics");
    int result = 0;

    for (size_t i = 0; i < file->telemetry.metrics_endpoint_count; i++) {
        const char *endpoint = file->telemetry.metrics_endpoints[i];

        if (config->admin_endpoint && strcmp(endpoint, config->admin_endpoint) == 0)
            continue;
        if (config->health.endpoint && strcmp(endpoint, config->health.endpoint) == 0)
            result = config_error(context, node, "%s is taken by the extension health_check already", endpoint);
        config->metrics_endpoints[config->metrics_endpoint_count++] = endpoint;
    }
    return result;
}

int tailrace_read(struct config_context *context, const struct otlp_file *file, const struct otlp_tier *tier, void *out_struct,
    struct tailrace_config *out_config)
{
    const struct config_node *admin = config_node_get(config_node_get(file->tailrace, "admin"), "endpoint");
    const struct config_node *forward = config_node_near(file->tailrace, "forward_headers");
    struct config_strings asked;
    int result;

    *out_config = tailrace_defaults(tier);
    result = config_read(context, file->tailrace, tier->tailrace_keys, out_struct);
    if (*out_config->admin_endpoint) {
        out_config->admin_endpoint =
            endpoint_listen(context, config_node_near(file->tailrace, "admin.endpoint"), out_config->admin_endpoint);
        if (!out_config->admin_endpoint)
            result = CONFIG_E_INVALID;
    }
    if (place_health(context, file, config_node_kind(admin) != CONFIG_NODE_NULL, out_config))
        result = CONFIG_E_INVALID;
    if (place_metrics(context, file, out_config))
        result = CONFIG_E_INVALID;
    asked = out_config->forward_headers;
    out_config->forward_headers = file->forward_headers;
    out_config->forward_to_all = (struct config_strings){0};
    if (forward_headers_add(context, forward, &asked, &out_config->forward_to_all) ||
        forward_headers_add(context, forward, &out_config->forward_to_all, &out_config->forward_headers))
        result = CONFIG_E_INVALID;
    if (out_config->workers > TAILRACE_WORKERS_MAX)
        result = config_error(context, config_node_near(file->tailrace, "workers"), "expected at most %u", TAILRACE_WORKERS_MAX);
    if (out_config->http_threads == 0 || out_config->http_threads > TAILRACE_HTTP_THREADS_MAX)
        result = config_error(context, config_node_near(file->tailrace, "http_threads"), "expected a number from 1 to %u",
            TAILRACE_HTTP_THREADS_MAX);
    return result;
}

void tailrace_warn_metadata(struct config_context *context, const struct otlp_file *file, const struct tailrace_config *config,
    const struct otlp_receiver_config *receivers, size_t receiver_count)
{
    if (config->forward_headers.count == 0 || receiver_count == 0 || otlp_receivers_take_metadata(receivers, receiver_count))
        return;
    config_warn(context, file->receiver_nodes[0],
        "no receiver has `include_metadata: true`: headers that are to be carried to the backend, such as `%.60s`, are not taken in",
        config->forward_headers.items[0]);
}
