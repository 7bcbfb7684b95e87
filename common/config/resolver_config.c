#include "common/config/resolver_config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_config.h"

/* A text in the Collector, yet mostly a number. */
static int read_port(struct config_context *context, const struct config_node *node, void *out_field)
{
    const char *text = config_node_text(node);
    uint64_t *port = out_field;
    unsigned value;
    char end;

    *port = 0;
    if (config_node_kind(node) == CONFIG_NODE_NULL || text[0] == '\0')
        return 0;
    if ((config_node_kind(node) != CONFIG_NODE_STRING && config_node_kind(node) != CONFIG_NODE_INTEGER) ||
        strspn(text, "0123456789") > 5 || sscanf(text, "%5u%c", &value, &end) != 1 || text[0] == '-' || text[0] == '+' ||
        value < 1 || value > 65535)
        return config_error(context, node, "expected a port, a number from 1 to 65535; without this key it is 4317");
    *port = value;
    return 0;
}

static const struct config_key static_keys[] = {
    CONFIG_KEY_NAMED(struct resolver_config, hostnames, "hostnames", CONFIG_STRINGS,
        "Addresses of the samplers, a list of host:port; without a port 4317 is taken."),
    {0},
};

static const struct config_key dns_keys[] = {
    CONFIG_KEY_NAMED(struct resolver_config, dns_hostname, "hostname", CONFIG_STRING,
        "The name of all samplers: each A and AAAA record is one. A name that begins with `_service._proto.` is looked up as SRV, "
        "which gives ports and stable names."),
    CONFIG_READ_BY(struct resolver_config, dns_port, "port", read_port,
        "The port of all samplers, a number; default 4317. Of SRV records each says its own."),
    CONFIG_KEY_NAMED(struct resolver_config, dns_interval_ns, "interval", CONFIG_SPAN,
        "Longest time from one look-up to the next, a duration; default 5s. Sooner where a record's TTL ends sooner."),
    CONFIG_KEY_NAMED(struct resolver_config, dns_timeout_ns, "timeout", CONFIG_SPAN,
        "Longest time of one look-up, a duration; default 1s."),
    {0},
};

const struct config_key resolver_keys[] = {
    CONFIG_SECTION_SET(struct resolver_config, "static", static_keys, static_set, "A fixed list of samplers."),
    CONFIG_SECTION_SET(struct resolver_config, "dns", dns_keys, dns_set, "A name that DNS resolves, again and again."),
    CONFIG_REFUSE("k8s", "not in this release; make the service headless and look its name up: "
        "`dns: {hostname: SERVICE.NAMESPACE.svc.cluster.local, port: PORT}`"),
    CONFIG_REFUSE("aws_cloud_map", "no call to AWS is made; look the service's name up in its namespace: "
        "`dns: {hostname: SERVICE.NAMESPACE}`"),
    {0},
};

static int check_static(struct config_context *context, const struct config_node *node, const struct config_strings *hostnames)
{
    const struct config_node *list = config_node_near(node, "static.hostnames");
    int result = 0;

    if (hostnames->count == 0)
        return config_error(context, list, "no sampler is listed: static.hostnames needs at least one host:port");
    for (size_t i = 0; i < hostnames->count; i++) {
        const struct config_node *item = config_node_at(list, i) ? config_node_at(list, i) : list;

        if (!endpoint_call(context, item, hostnames->items[i], "4317"))
            result = CONFIG_E_INVALID;
    }
    return result;
}

static bool is_service(const char *hostname)
{
    const char *dot = strchr(hostname, '.');

    return hostname[0] == '_' && dot && dot[1] == '_' && strchr(dot + 1, '.');
}

static int check_dns(struct config_context *context, const struct config_node *node, struct resolver_config *config)
{
    const struct config_node *dns = config_node_get(node, "dns"), *at = config_node_near(node, "dns.hostname");
    uint8_t ip[16];

    if (!config->dns_hostname || config->dns_hostname[0] == '\0')
        return config_error(context, at, "dns.hostname is needed: the name to look up");
    if (inet_pton(AF_INET6, config->dns_hostname, ip) == 1)
        return 0;
    if (strpbrk(config->dns_hostname, ":/[]"))
        return config_error(context, at, "\"%.200s\" is no host name: write the name alone, and the port under `port`", config->dns_hostname);
    if (!endpoint_call(context, at, config->dns_hostname, "4317"))
        return CONFIG_E_INVALID;
    if (is_service(config->dns_hostname) && config->dns_port > 0)
        return config_error(context, config_node_get(dns, "port"),
            "the SRV records of \"%.200s\" say the ports; remove this key", config->dns_hostname);
    return 0;
}

int resolver_config_check(struct config_context *context, const struct config_node *node, const struct config_node *above,
    bool read_failed, struct resolver_config *config)
{
    if (config->static_set && config->dns_set)
        return config_error(context, node, "there are two resolvers, static and dns: keep one");
    if (!config->static_set && !config->dns_set) {
        if (read_failed && config_node_count(node) > 0)
            return CONFIG_E_INVALID; /* one that is refused: that was said */
        return config_error(context, node ? node : above,
            "no resolver: set `resolver: {static: {hostnames: [...]}}` or `resolver: {dns: {hostname: ...}}`");
    }
    config->name = config->static_set ? "static" : "dns";
    if (config->dns_interval_ns == 0)
        config->dns_interval_ns = (int64_t)(5 * NS_PER_S);
    if (config->dns_timeout_ns == 0)
        config->dns_timeout_ns = (int64_t)NS_PER_S;
    if (config->static_set) {
        if (read_failed && config->hostnames.count == 0 && config_node_get(config_node_get(node, "static"), "hostnames"))
            return CONFIG_E_INVALID; /* a list that could not be read: that was said */
        return check_static(context, node, &config->hostnames);
    }
    if (read_failed && !config->dns_hostname && config_node_get(config_node_get(node, "dns"), "hostname"))
        return CONFIG_E_INVALID;
    return check_dns(context, node, config);
}

/* -- tailrace.dns ------------------------------------------------------------------------------------------ */

const struct config_key tailrace_dns_keys[] = {
    CONFIG_KEY_NAMED(struct dns_config, servers, "servers", CONFIG_STRINGS,
        "DNS servers to ask, a list of addresses or address:port; default those of /etc/resolv.conf."),
    {0},
};

/* An IP address, with or without a port. */
static bool server_ok(const char *checked)
{
    const char *colon = strrchr(checked, ':');
    char host[64];
    uint8_t ip[16];

    if (checked[0] == '[')
        return true; /* endpoint_call has read it */
    if (!colon || (size_t)(colon - checked) >= sizeof(host))
        return false;
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - checked), checked);
    return inet_pton(AF_INET, host, ip) == 1;
}

int dns_config_check(struct config_context *context, const struct config_node *tailrace, const struct dns_config *config)
{
    const struct config_node *list = config_node_near(tailrace, "dns.servers");
    int result = 0;

    for (size_t i = 0; i < config->servers.count; i++) {
        const struct config_node *item = config_node_at(list, i) ? config_node_at(list, i) : list;
        const char *address = endpoint_call(context, item, config->servers.items[i], "53");

        if (address && !server_ok(address))
            result = config_error(context, item, "\"%.200s\" is no IP address: a server cannot be looked up", config->servers.items[i]);
        else if (!address)
            result = CONFIG_E_INVALID;
    }
    return result;
}
