#include "common/config/resolver_config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
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

#define K8S_PORTS_MOST 16u

/* A number, or a name as Kubernetes gives ports. */
static bool port_ok(const char *text)
{
    size_t len = strlen(text);

    if (strspn(text, "0123456789") == len)
        return len >= 1 && len <= 5 && text[0] != '0' && strtoul(text, NULL, 10) <= 65535;
    return len <= 63 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && text[0] != '-' && text[len - 1] != '-';
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
        "Longest time from one look-up to the next; 0 (default): 5s. Sooner where a record's TTL ends sooner."),
    CONFIG_KEY_NAMED(struct resolver_config, dns_timeout_ns, "timeout", CONFIG_SPAN,
        "Longest time of one look-up; 0 (default): 1s."),
    {0},
};

/* As many as a service has, in the Collector numbers alone. */
static int read_ports(struct config_context *context, const struct config_node *node, void *out_field)
{
    struct config_strings *ports = out_field;
    bool list = config_node_kind(node) == CONFIG_NODE_SEQUENCE;
    size_t count = list ? config_node_count(node) : 1;
    int result = 0;

    *ports = (struct config_strings){0};
    if (config_node_kind(node) == CONFIG_NODE_NULL || count == 0)
        return 0;
    if (count > K8S_PORTS_MOST)
        return config_error(context, node, "%zu ports; %u are the most", count, K8S_PORTS_MOST);
    ports->items = config_alloc(context, count * sizeof(*ports->items));
    for (size_t i = 0; i < count; i++) {
        const struct config_node *item = list ? config_node_at(node, i) : node;
        const char *text = config_node_text(item);
        enum config_node_kind kind = config_node_kind(item);

        if ((kind != CONFIG_NODE_STRING && kind != CONFIG_NODE_INTEGER) || !port_ok(text))
            result = config_error(context, item, "expected a port: a number from 1 to 65535, or the name of one of the service's ports");
        else
            ports->items[ports->count++] = (char *)(uintptr_t)text;
    }
    return result;
}

static const struct config_key k8s_keys[] = {
    CONFIG_KEY_NAMED(struct resolver_config, k8s_service, "service", CONFIG_STRING,
        "The Service of the samplers: NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc.DOMAIN; without a namespace the one this pod is in. "
        "Its EndpointSlices are watched, for which the service account needs `list` and `watch` on them in that namespace."),
    CONFIG_READ_BY(struct resolver_config, k8s_ports, "ports", read_ports,
        "Ports of each sampler, a list of numbers or of the Service's port names; default 4317 (differs from the Collector: it takes "
        "numbers only)."),
    CONFIG_KEY_NAMED(struct resolver_config, k8s_timeout_ns, "timeout", CONFIG_SPAN,
        "Longest time of one watch; 0 (default): 1m. It is followed by the next without a gap."),
    CONFIG_KEY_NAMED(struct resolver_config, k8s_return_hostnames, "return_hostnames", CONFIG_BOOL,
        "Call samplers by HOSTNAME.SERVICE.NAMESPACE in place of their addresses. Not needed for a sampler to keep its share when its "
        "address changes."),
    {0},
};

const struct config_key resolver_fallback_keys[] = {
    CONFIG_SECTION_SET(struct resolver_config, "dns", dns_keys, dns_set, "A name that DNS resolves; keys as of resolver.dns."),
    {0},
};

const struct config_key resolver_keys[] = {
    CONFIG_SECTION_SET(struct resolver_config, "static", static_keys, static_set, "A fixed list of samplers."),
    CONFIG_SECTION_SET(struct resolver_config, "dns", dns_keys, dns_set, "A name that DNS resolves, again and again."),
    CONFIG_SECTION_SET(struct resolver_config, "k8s", k8s_keys, k8s_set, "A Service whose EndpointSlices the Kubernetes API server tells."),
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

/* A label of a name, as Kubernetes has it. Returns its length; 0: it is none. */
static size_t label_len(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return len > 63 || text[0] == '-' || (len > 0 && text[len - 1] == '-') || (text[len] && text[len] != '.') ? 0 : len;
}

static const char *copy(struct config_context *context, const char *text, size_t len)
{
    char *out = config_alloc(context, len + 1);

    memcpy(out, text, len);
    return out;
}

/* NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc.DOMAIN; whatever the domain, the API server has it. */
static int check_service(struct config_context *context, const struct config_node *at, struct resolver_config *config)
{
    const char *text = config->k8s_service, *rest;
    size_t name = label_len(text), space;

    if (name > 0 && text[name] == '\0') {
        config->k8s_namespace = NULL;
        return 0;
    }
    rest = text + name + 1;
    space = name > 0 ? label_len(rest) : 0;
    if (space == 0 || (rest[space] && (strncmp(rest + space, ".svc.", 5) != 0 || rest[space + 5] == '\0')))
        return config_error(context, at, "\"%.200s\" is no service: expected NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc.DOMAIN", text);
    config->k8s_namespace = copy(context, rest, space);
    config->k8s_service = copy(context, text, name);
    return 0;
}

static int check_k8s(struct config_context *context, const struct config_node *node, bool read_failed, struct resolver_config *config)
{
    if (config->k8s_timeout_ns == 0)
        config->k8s_timeout_ns = (int64_t)(60 * NS_PER_S);
    if (!config->k8s_service && read_failed && config_node_get(config_node_get(node, "k8s"), "service"))
        return CONFIG_E_INVALID; /* one that could not be read: that was said */
    if (!config->k8s_service || config->k8s_service[0] == '\0')
        return config_error(context, config_node_near(node, "k8s.service"), "k8s.service is needed: the Service of the samplers");
    return check_service(context, config_node_near(node, "k8s.service"), config);
}

static int check_dns_all(struct config_context *context, const struct config_node *node, bool read_failed, struct resolver_config *config)
{
    if (config->dns_interval_ns == 0)
        config->dns_interval_ns = (int64_t)(5 * NS_PER_S);
    if (config->dns_timeout_ns == 0)
        config->dns_timeout_ns = (int64_t)NS_PER_S;
    if (read_failed && !config->dns_hostname && config_node_get(config_node_get(node, "dns"), "hostname"))
        return CONFIG_E_INVALID;
    return check_dns(context, node, config);
}

int resolver_config_check(struct config_context *context, const struct config_node *node, const struct config_node *above,
    bool read_failed, struct resolver_config *config)
{
    unsigned count = (unsigned)config->static_set + config->dns_set + config->k8s_set;

    if (count > 1)
        return config_error(context, node, "there are %s resolvers, %s: keep one", count == 2 ? "two" : "three",
            count == 3 ? "static, dns and k8s" : !config->k8s_set ? "static and dns" : config->dns_set ? "dns and k8s" : "static and k8s");
    if (count == 0) {
        if (read_failed && config_node_count(node) > 0)
            return CONFIG_E_INVALID; /* one that is refused: that was said */
        return config_error(context, node ? node : above,
            "no resolver: set `resolver: {static: {hostnames: [...]}}`, `resolver: {dns: {hostname: ...}}` or "
            "`resolver: {k8s: {service: ...}}`");
    }
    config->name = config->static_set ? "static" : config->dns_set ? "dns" : "k8s";
    if (config->static_set) {
        if (read_failed && config->hostnames.count == 0 && config_node_get(config_node_get(node, "static"), "hostnames"))
            return CONFIG_E_INVALID; /* a list that could not be read: that was said */
        return check_static(context, node, &config->hostnames);
    }
    return config->dns_set ? check_dns_all(context, node, read_failed, config) : check_k8s(context, node, read_failed, config);
}

int resolver_fallback_check(struct config_context *context, const struct config_node *node, bool read_failed,
    const struct resolver_config *resolver, struct resolver_config *fallback)
{
    if (!fallback->dns_set)
        return 0;
    fallback->name = "dns";
    if (resolver->name && !resolver->k8s_set)
        return config_error(context, node, "a fallback is for resolver.k8s; the resolver here is %s", resolver->name);
    return check_dns_all(context, node, read_failed, fallback);
}

/* -- tailrace.kubernetes ----------------------------------------------------------------------------------- */

const struct config_key tailrace_kubernetes_keys[] = {
    CONFIG_KEY_NAMED(struct k8s_config, api_server, "api_server", CONFIG_STRING,
        "URL of the API server; default https:// and what the environment of a pod says (KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT). "
        "With http://, for `kubectl proxy` beside us, no token is sent."),
    CONFIG_KEY_NAMED(struct k8s_config, token_file, "token_file", CONFIG_STRING,
        "File with the token to show, read again for each request; default the service account's, "
        "/var/run/secrets/kubernetes.io/serviceaccount/token."),
    CONFIG_KEY_NAMED(struct k8s_config, ca_file, "ca_file", CONFIG_STRING,
        "File with the authorities that sign the API server's certificate, read again for each request; default the service account's, "
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt."),
    {0},
};

int k8s_config_check(struct config_context *context, const struct config_node *tailrace, struct k8s_config *config)
{
    const struct config_node *at = config_node_near(tailrace, "kubernetes.api_server");
    const char *url, *question;
    size_t len;

    if (!config->api_server)
        return 0;
    url = endpoint_url(context, at, config->api_server, "");
    if (!url)
        return CONFIG_E_INVALID;
    question = strpbrk(url, "?#");
    if (question)
        return config_error(context, at, "\"%.200s\" is no API server: nothing may follow its path", url);
    for (len = strlen(url); url[len - 1] == '/'; len--)
        ;
    config->api_server = copy(context, url, len);
    return 0;
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
