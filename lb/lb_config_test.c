/* The balancer's file: what a Collector's user has either means the same here, or is refused with line, key and remedy. */
#include "lb/lb_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/config/test_config_dir.h"
#include "common/config/yaml.h"

/* A good file; a case replaces one of its lines, or adds lines at its end. */
static const char *const base[] = {
    "receivers:",                                                          /* 1 */
    "  otlp: { protocols: { grpc: { endpoint: 0.0.0.0:4317 } } }",         /* 2 */
    "exporters:",                                                          /* 3 */
    "  loadbalancing:",                                                    /* 4 */
    "    protocol: { otlp: { tls: { insecure: true } } }",                 /* 5 */
    "    resolver: { static: { hostnames: [a, \"b:1\"] } }",               /* 6 */
    "service:",                                                            /* 7 */
    "  pipelines:",                                                        /* 8 */
    "    traces: { receivers: [otlp], exporters: [loadbalancing] }",       /* 9 */
};

/* Replaces line (0: appends) and reads. */
static int read_with(struct config_context *context, size_t line, const char *text, struct lb_config *out_config)
{
    char yaml[4096] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_COUNT(base); i++)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%s\n", i + 1 == line ? text : base[i]);
    if (line == 0)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%s\n", text);
    const struct config_node *root = config_load_text(context, "lb.yaml", yaml, len);

    return root ? lb_config_read(context, root, out_config) : CONFIG_E_INVALID;
}

static void test_defaults(void **state)
{
    struct config_context *context = config_context_new();
    struct lb_config config;

    (void)state;
    assert_int_equal(read_with(context, 0, "", &config), 0);
    assert_string_equal(config_warnings(context), "");
    assert_string_equal(config.receivers[0].grpc_endpoint, "0.0.0.0:4317");
    assert_int_equal(config.receivers[0].max_recv_msg_bytes, 4 * MIB);
    assert_int_equal(config.receivers[0].keepalive_time_ns, 7200 * NS_PER_S);
    assert_string_equal(config.member.id, "loadbalancing");
    assert_int_equal(config.member.timeout_ns, 5 * NS_PER_S);
    assert_true(config.member.tls->insecure);
    assert_string_equal(config.resolver.name, "static");
    assert_int_equal(config.resolver.hostnames.count, 2);
    assert_string_equal(config.resolver.hostnames.items[1], "b:1");
    assert_int_equal(config.outbox_bytes, 64 * MIB);
    assert_string_equal(config.tailrace.admin_endpoint, "127.0.0.1:13134");
    assert_int_equal(config.tailrace.workers, 0);
    assert_int_equal(config.tailrace.drain_timeout_ns, 60 * NS_PER_S);
    assert_int_equal(config.telemetry.log_level, LOG_INFO);
    config_context_free(context);
}

static void test_example(void **state)
{
    struct config_context *context = config_context_new();
    const char *files[] = {TEST_CONFIG_DIR "/lb.yaml"};
    const struct config_command_line line = {.files = files, .file_count = 1};
    struct lb_config config;
    const struct config_node *root = config_load(context, &line);

    (void)state;
    assert_non_null(root);
    assert_int_equal(lb_config_read(context, root, &config), 0);
    assert_string_equal(config_errors(context), "");
    assert_string_equal(config_warnings(context), "");
    assert_int_equal(config.member.timeout_ns, 3 * NS_PER_S);
    config_context_free(context);
}

static void test_values(void **state)
{
    struct config_context *context = config_context_new();
    struct lb_config config;

    (void)state;
    assert_int_equal(read_with(context, 5,
                         "    protocol: { otlp: { timeout: 0, compression: none, tls: { insecure: true }, sending_queue: "
                         "{enabled: false, sizer: bytes, queue_size: 8388608} } }",
                         &config),
        0);
    assert_string_equal(config_warnings(context), "");
    assert_true(config.member.timeout_ns > (int64_t)(3600 * NS_PER_S)); /* no limit */
    assert_int_equal(config.outbox_bytes, 8 * MIB);
    config_context_free(context);

    context = config_context_new();
    assert_int_equal(read_with(context, 0,
                         "tailrace: { admin: { endpoint: \"\", token_file: /t }, workers: 3, outbox: { limit_mib: 16 }, "
                         "drain_timeout: 5s }",
                         &config),
        0);
    assert_string_equal(config.tailrace.admin_endpoint, "");
    assert_string_equal(config.tailrace.admin_token_file, "/t");
    assert_int_equal(config.tailrace.workers, 3);
    assert_int_equal(config.outbox_bytes, 16 * MIB);
    assert_int_equal(config.tailrace.drain_timeout_ns, 5 * NS_PER_S);
    config_context_free(context);
}

/* A k8s resolver's keys, with the Collector's defaults; a service may be spelled as the Collector takes it. */
static void test_k8s(void **state)
{
    struct config_context *context = config_context_new();
    struct lb_config config;

    (void)state;
    assert_int_equal(read_with(context, 6, "    resolver: { k8s: { service: sampler.obs, timeout: 0s } }", &config), 0);
    assert_string_equal(config.resolver.name, "k8s");
    assert_string_equal(config.resolver.k8s_service, "sampler");
    assert_string_equal(config.resolver.k8s_namespace, "obs");
    assert_int_equal(config.resolver.k8s_ports.count, 0);
    assert_int_equal(config.resolver.k8s_timeout_ns, 60 * NS_PER_S);
    assert_false(config.resolver.k8s_return_hostnames);
    assert_null(config.kubernetes.api_server);
    assert_null(config.fallback.name);
    assert_int_equal(read_with(context, 6,
                         "    resolver: { k8s: { service: sampler.obs.svc.cluster.local, ports: [4317, otlp-grpc], timeout: 5m, "
                         "return_hostnames: true } }",
                         &config),
        0);
    assert_string_equal(config.resolver.k8s_service, "sampler");
    assert_string_equal(config.resolver.k8s_namespace, "obs");
    assert_int_equal(config.resolver.k8s_ports.count, 2);
    assert_string_equal(config.resolver.k8s_ports.items[1], "otlp-grpc");
    assert_int_equal(config.resolver.k8s_timeout_ns, 300 * NS_PER_S);
    assert_true(config.resolver.k8s_return_hostnames);
    assert_int_equal(read_with(context, 6,
                         "    resolver: { k8s: { service: sampler } }\n"
                         "tailrace: { kubernetes: { api_server: \"https://10.0.0.1:6443/\", token_file: /t, ca_file: /c },\n"
                         "  resolver_fallback: { dns: { hostname: _otlp._tcp.sampler.obs } } }",
                         &config),
        0);
    assert_null(config.resolver.k8s_namespace);
    assert_string_equal(config.kubernetes.api_server, "https://10.0.0.1:6443");
    assert_string_equal(config.kubernetes.token_file, "/t");
    assert_string_equal(config.kubernetes.ca_file, "/c");
    assert_string_equal(config.fallback.name, "dns");
    assert_string_equal(config.fallback.dns_hostname, "_otlp._tcp.sampler.obs");
    assert_int_equal(config.fallback.dns_interval_ns, 5 * NS_PER_S);
    config_context_free(context);
}

/* A dns resolver's keys, with the Collector's defaults; a port is a number whether or not it is quoted. */
static void test_dns(void **state)
{
    struct config_context *context = config_context_new();
    struct lb_config config;

    (void)state;
    assert_int_equal(read_with(context, 6, "    resolver: { dns: { hostname: samplers.obs, interval: 0s } }", &config), 0);
    assert_string_equal(config.resolver.name, "dns");
    assert_string_equal(config.resolver.dns_hostname, "samplers.obs");
    assert_int_equal(config.resolver.dns_port, 0);
    assert_int_equal(config.resolver.dns_interval_ns, 5 * NS_PER_S);
    assert_int_equal(config.resolver.dns_timeout_ns, NS_PER_S);
    assert_int_equal(config.dns.servers.count, 0);
    assert_int_equal(
        read_with(context, 6, "    resolver: { dns: { hostname: \"::1\", port: \"5\", interval: 2s, timeout: 300ms } }", &config), 0);
    assert_int_equal(config.resolver.dns_port, 5);
    assert_int_equal(config.resolver.dns_interval_ns, 2 * NS_PER_S);
    assert_int_equal(config.resolver.dns_timeout_ns, 300 * NS_PER_MS);
    assert_int_equal(read_with(context, 6, "    resolver: { dns: { hostname: _otlp._tcp.samplers } }", &config), 0);
    config_context_free(context);
    context = config_context_new();
    assert_int_equal(read_with(context, 0, "tailrace: { dns: { servers: [10.0.0.1, \"10.0.0.1:8600\", \"[::1]:53\"] } }", &config), 0);
    assert_int_equal(config.dns.servers.count, 3);
    assert_string_equal(config_warnings(context), "");
    config_context_free(context);
}

static const struct {
    size_t line; /* of the base that is replaced; 0: added at the end, from line 10 */
    const char *text;
    const char *errors; /* without "lb.yaml:" before each */
} wrong[] = {
    {2, "  otlp: { protocols: { grpc: , http: { endpoint: \"localhost:4317\" } } }",
        "2: receivers.otlp.protocols.http.endpoint: localhost:4317 is taken by `otlp` already\n"},
    {2, "  otlp: { protocols: { http: { traces_url_path: \"a b\", max_request_body_size: 1e12, cors: { max_age: -2 } } } }",
        "2: receivers.otlp.protocols.http.cors.max_age: expected a number of seconds\n"
        "2: receivers.otlp.protocols.http.traces_url_path: expected a path such as /v1/traces\n"
        "2: receivers.otlp.protocols.http.max_request_body_size: expected at most 2047 MiB, 2146435072 bytes\n"},
    {2, "  otlp: { protocols: { grpc: { tls: { cert_file: c, cert_pem: c, key_file: k, min_version: \"1.3\", max_version: \"1.2\", "
        "curve_preferences: [P1] } } } }",
        "2: receivers.otlp.protocols.grpc.tls: both cert_file and cert_pem are set; one of them must go\n"
        "2: receivers.otlp.protocols.grpc.tls.max_version: min_version is above max_version\n"
        "2: receivers.otlp.protocols.grpc.tls.curve_preferences: expected curves of X25519, P256, P384 and P521, found \"P1\"\n"},
    {2, "  otlp: { protocols: { grpc: { tls: {} } } }",
        "2: receivers.otlp.protocols.grpc.tls: a server needs a certificate: set cert_file and key_file\n"},
    {6, "    resolver: { static: { hostnames: [\"https://a:1\"] } }",
        "6: exporters.loadbalancing.resolver.static.hostnames: https:// and `tls: {insecure: true}` of protocol.otlp contradict each "
        "other; one of them must go\n"},
    {0, "tailrace: { http_threads: 0, forward_headers: [Host, \"a b\", X-Tenant, x-tenant] }",
        "10: tailrace.forward_headers: `host` belongs to each connection and is not carried on\n"
        "10: tailrace.forward_headers: no name of a header: letters, digits, - _ . and not beginning with grpc-\n"
        "10: tailrace.http_threads: expected a number from 1 to 64\n"},
    {2, "  otlp: { protocols: { } }",
        "2: receivers.otlp.protocols: protocols.grpc or protocols.http is missing: without one of them nothing is received\n"},
    {2, "  otlp:",
        "2: receivers.otlp: protocols.grpc or protocols.http is missing: without one of them nothing is received\n"},
    {2, "  otlp: { protocols: { grpc: { endpoint: localhost } } }",
        "2: receivers.otlp.protocols.grpc.endpoint: \"localhost\" is no address of the form host:port: the port is missing\n"},
    {2, "  otlp: { protocols: { grpc: { tls: { cert_file: /c } } } }",
        "2: receivers.otlp.protocols.grpc.tls: a certificate without its key: set key_file\n"},
    {2, "  otlp: { protocols: { grpc: { max_recv_msg_size_mib: 4096 } } }",
        "2: receivers.otlp.protocols.grpc.max_recv_msg_size_mib: expected at most 2047 MiB, the largest message gRPC has\n"},
    {2, "  otlp: { protocols: { grpc: { keepalive: { server_parameters: { tiem: 5s } } } } }",
        "2: receivers.otlp.protocols.grpc.keepalive.server_parameters.tiem: unknown key; did you mean `time`?\n"},
    {2, "  otlp: { protocols: { grpc: { transport: unix } } }",
        "2: receivers.otlp.protocols.grpc.transport: not supported: Unix sockets are not served; use `tcp` or remove this key\n"},
    {5, "    protocol: { otlp: { tls: { insecure: true }, sending_queue: { storage: file_storage } } }",
        "5: exporters.loadbalancing.protocol.otlp.sending_queue.storage: not supported: an acknowledgement means delivered or "
        "held, never queued; remove `storage`\n"},
    {5, "    protocol: { otlp: { tls: { insecure: true }, timeout: -1s } }",
        "5: exporters.loadbalancing.protocol.otlp.timeout: expected a duration of zero or more, found -1s\n"},
    {5, "    protocol: { http: {} }",
        "5: exporters.loadbalancing.protocol.http: unknown key; known here: otlp\n"},
    {6, "    resolver: { static: { hostnames: [] } }",
        "6: exporters.loadbalancing.resolver.static.hostnames: no sampler is listed: static.hostnames needs at least one host:port\n"},
    {6, "    resolver: { static: { hostnames: [a, \"b:x\"] } }",
        "6: exporters.loadbalancing.resolver.static.hostnames[1]: \"b:x\" is no address of the form host:port: the port is no number "
        "from 1 to 65535\n"},
    {6, "    resolver: { static: { hostnames: [5] } }",
        "6: exporters.loadbalancing.resolver.static.hostnames[0]: expected a text, found a whole number (5); put it in quotes\n"},
    {6, "    resolver: { dns: {} }", "6: exporters.loadbalancing.resolver.dns: dns.hostname is needed: the name to look up\n"},
    {6, "    resolver: { dns: { hostname: \"a:4317\" } }",
        "6: exporters.loadbalancing.resolver.dns.hostname: \"a:4317\" is no host name: write the name alone, and the port under `port`\n"},
    {6, "    resolver: { dns: { hostname: a b, port: 99999 } }",
        "6: exporters.loadbalancing.resolver.dns.port: expected a port, a number from 1 to 65535; without this key it is 4317\n"
        "6: exporters.loadbalancing.resolver.dns.hostname: \"a b\" is no address of the form host:port: the host has characters that no "
        "host name has\n"},
    {6, "    resolver: { dns: { hostname: _otlp._tcp.a, port: 4317 } }",
        "6: exporters.loadbalancing.resolver.dns.port: the SRV records of \"_otlp._tcp.a\" say the ports; remove this key\n"},
    {6, "    resolver: { dns: { hostname: a, interval: -1s } }",
        "6: exporters.loadbalancing.resolver.dns.interval: expected a duration of zero or more, found -1s\n"},
    {6, "    resolver: { static: { hostnames: [a] }, dns: { hostname: a } }",
        "6: exporters.loadbalancing.resolver: there are two resolvers, static and dns: keep one\n"},
    {6, "    resolver: { static: { hostnames: [a] }, k8s: { service: s } }",
        "6: exporters.loadbalancing.resolver: there are two resolvers, static and k8s: keep one\n"},
    {6, "    resolver: { static: { hostnames: [a] }, k8s: { service: s }, dns: { hostname: a } }",
        "6: exporters.loadbalancing.resolver: there are three resolvers, static, dns and k8s: keep one\n"},
    {6, "    resolver: { k8s: { ports: [4317] } }",
        "6: exporters.loadbalancing.resolver.k8s: k8s.service is needed: the Service of the samplers\n"},
    {6, "    resolver: { k8s: { service: s.obs.svc } }",
        "6: exporters.loadbalancing.resolver.k8s.service: \"s.obs.svc\" is no service: expected NAME, NAME.NAMESPACE or "
        "NAME.NAMESPACE.svc.DOMAIN\n"},
    {6, "    resolver: { k8s: { service: s..svc.cluster.local } }",
        "6: exporters.loadbalancing.resolver.k8s.service: \"s..svc.cluster.local\" is no service: expected NAME, NAME.NAMESPACE or "
        "NAME.NAMESPACE.svc.DOMAIN\n"},
    {6, "    resolver: { k8s: { service: Sampler, ports: [0, otlp grpc, 4317, 70000] } }",
        "6: exporters.loadbalancing.resolver.k8s.ports[0]: expected a port: a number from 1 to 65535, or the name of one of the service's ports\n"
        "6: exporters.loadbalancing.resolver.k8s.ports[1]: expected a port: a number from 1 to 65535, or the name of one of the service's ports\n"
        "6: exporters.loadbalancing.resolver.k8s.ports[3]: expected a port: a number from 1 to 65535, or the name of one of the service's ports\n"
        "6: exporters.loadbalancing.resolver.k8s.service: \"Sampler\" is no service: expected NAME, NAME.NAMESPACE or "
        "NAME.NAMESPACE.svc.DOMAIN\n"},
    {6, "    resolver: { k8s: { service: s, return_hostname: true } }",
        "6: exporters.loadbalancing.resolver.k8s.return_hostname: unknown key; did you mean `return_hostnames`?\n"},
    {0, "tailrace: { kubernetes: { api_server: \"kubernetes:443\" } }",
        "10: tailrace.kubernetes.api_server: expected a URL that begins with http:// or https://\n"},
    {0, "tailrace: { kubernetes: { api_server: \"https://kubernetes/?x\" } }",
        "10: tailrace.kubernetes.api_server: \"https://kubernetes/?x\" is no API server: nothing may follow its path\n"},
    {0, "tailrace: { resolver_fallback: { dns: { hostname: a } } }",
        "10: tailrace.resolver_fallback: a fallback is for resolver.k8s; the resolver here is static\n"},
    {0, "tailrace: { resolver_fallback: { static: { hostnames: [a] } } }",
        "10: tailrace.resolver_fallback.static: unknown key; known here: dns\n"},
    {6, "    resolver: { aws_cloud_map: { namespace: n } }",
        "6: exporters.loadbalancing.resolver.aws_cloud_map: not supported: no call to AWS is made; look the service's name up in its "
        "namespace: `dns: {hostname: SERVICE.NAMESPACE}`\n"},
    {6, "    resolver: {}",
        "6: exporters.loadbalancing.resolver: no resolver: set `resolver: {static: {hostnames: [...]}}`, `resolver: {dns: {hostname: "
        "...}}` or `resolver: {k8s: {service: ...}}`\n"},
    {0, "tailrace: { dns: { servers: [\"10.0.0.1:99999\", ns.example, 10.0.0.2, \"[::1]:5353\"] } }",
        "10: tailrace.dns.servers[0]: \"10.0.0.1:99999\" is no address of the form host:port: the port is no number from 1 to 65535\n"
        "10: tailrace.dns.servers[1]: \"ns.example\" is no IP address: a server cannot be looked up\n"},
    {6, "    routing_key: service\n    resolver: { static: { hostnames: [a] } }",
        "6: exporters.loadbalancing.routing_key: not supported: a trace would be spread over samplers, and each would decide on its "
        "part; use `traceID`, spelled so, or remove this key\n"},
    {6, "    resolvers: { static: { hostnames: [a] } }",
        "4: exporters.loadbalancing: no resolver: set `resolver: {static: {hostnames: [...]}}`, `resolver: {dns: {hostname: ...}}` or "
        "`resolver: {k8s: {service: ...}}`\n"
        "6: exporters.loadbalancing.resolvers: unknown key; did you mean `resolver`?\n"},
    {9, "    traces: { receivers: [otlp], processors: [batch], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.processors[0]: the processor `batch` is not defined under `processors`\n"},
    {9, "    traces: { receivers: [otlp], processors: [memory_limiter/x, custom], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.processors[0]: the processor `memory_limiter/x` is not defined under `processors`\n"
        "9: service.pipelines.traces.processors[1]: not supported: the processor `custom` is not known here: put it into a "
        "Collector in front of tailrace-lb or behind tailrace-sampler\n"},
    {9, "    traces: { receivers: [otlp, jaeger], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.receivers[1]: not supported: the receiver `jaeger`: it is not in this release; put a "
        "Collector with it in front, which sends OTLP here\n"},
    {9, "    traces: { receivers: [otlp/x], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.receivers[0]: the receiver `otlp/x` is not defined under `receivers`\n"},
    {9, "    traces: { receivers: [otlp], exporters: [load_balancing] }",
        "9: service.pipelines.traces.exporters[0]: the exporter `load_balancing` is not defined under `exporters`\n"},
    {9, "    traces: { receivers: [otlp], exporters: [] }",
        "9: service.pipelines.traces.exporters: a `load_balancing` is missing from exporters\n"},
    {9, "    traces: { receivers: [otlp], exporters: [loadbalancing, otlp] }",
        "9: service.pipelines.traces.exporters[1]: not supported: the exporter `otlp` has no place in tailrace-lb: tailrace-lb sends "
        "to samplers by `load_balancing`; a backend belongs in tailrace-sampler's file\n"},
    {9, "    traces: { receivers: [otlp, otlp], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.receivers[1]: `otlp` is here twice\n"},
    {9, "    metrics: { receivers: [otlp], exporters: [loadbalancing] }",
        "8: service.pipelines: service.pipelines.traces is missing\n"
        "9: service.pipelines.metrics: not supported: tailrace-lb carries traces only; run a Collector for metrics and remove "
        "this pipeline\n"},
    {0, "    traces/two: { receivers: [otlp], exporters: [loadbalancing] }",
        "10: service.pipelines.traces/two: not supported: a second pipeline of traces; a process has one: put its receivers "
        "and exporters into that on line 9\n"},
    {0, "  extensions: [health_check]",
        "10: service.extensions[0]: the extension `health_check` is not defined under `extensions`\n"},
    {0, "  telemetry: { metrics: { level: detailed, address: 0.0.0.0:8888 }, logs: { level: loud } }",
        "10: service.telemetry.logs.level: expected one of: debug info warn error; found \"loud\"\n"},
    {0, "tailrace: { cluster: { self: x } }",
        "10: tailrace.cluster: not supported: it belongs in tailrace-sampler's file; remove it here\n"},
    {0, "tailrace: { workers: 5000 }", "10: tailrace.workers: expected at most 256\n"},
    {0, "tailrace: { admin: { endpoint: nowhere } }",
        "10: tailrace.admin.endpoint: \"nowhere\" is no address of the form host:port: the port is missing\n"},
    {0, "tail_race: {}", "10: tail_race: unknown key; did you mean `tailrace`?\n"},
};

static const struct {
    size_t line;
    const char *text, *warnings;
} warned[] = {
    {5, "    protocol: { otlp: { compression: gzip, wait_for_ready: true, keepalive: {}, tls: { insecure: true } } }",
        "5: exporters.loadbalancing.protocol.otlp.compression: accepted without effect: between balancer and samplers requests go as "
        "they are\n"
        "5: exporters.loadbalancing.protocol.otlp.wait_for_ready: accepted without effect: while a sampler cannot be reached its "
        "fallback is called\n"
        "5: exporters.loadbalancing.protocol.otlp.keepalive: accepted without effect: connections to samplers ping by themselves, every "
        "10s\n"},
    {0, "processors: { batch: , memory_limiter: { check_interval: 1s, limit_mib: 100 } }",
        "10: processors.batch: not used: no pipeline of this file has this processor, so it was not read\n"
        "10: processors.memory_limiter: not used: no pipeline of this file has this processor, so it was not read\n"},
    {6, "    timeout: 5s\n    resolver: { static: { hostnames: [a] } }",
        "6: exporters.loadbalancing.timeout: accepted without effect: a request has its client's deadline, or 10s where it has none; "
        "one attempt is bounded by protocol.otlp.timeout\n"},
    {6, "    retry_on_failure: { enabled: true }\n    resolver: { static: { hostnames: [a] } }",
        "6: exporters.loadbalancing.retry_on_failure: accepted without effect: a failed piece goes to the sampler's fallback within "
        "the client's deadline\n"},
    {5, "    protocol: { otlp: { endpoint: x, tls: { insecure: true }, sending_queue: { queue_size: 5000 } } }",
        "5: exporters.loadbalancing.protocol.otlp.endpoint: accepted without effect: the resolver says where the samplers are\n"
        "5: exporters.loadbalancing.protocol.otlp.sending_queue.queue_size: accepted without effect: what waits for a sampler is "
        "bounded in bytes, 64 MiB; set tailrace.outbox.limit_mib, or `sizer: bytes`\n"},
    {3, "processors: { batch: { timeout: 1s } }\nexporters:",
        "3: processors.batch: not used: no pipeline of this file has this processor, so it was not read\n"},
    {2, "  otlp: { protocols: { grpc: { include_metadata: true, read_buffer_size: 5, write_buffer_size: 0 } } }",
        "2: receivers.otlp.protocols.grpc.read_buffer_size: accepted without effect: connections size their buffers by "
        "themselves\n"},
};

/* "LINE: message" lines, each after "lb.yaml:". */
static void prefixed(const char *lines, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    while (*lines) {
        size_t line = strcspn(lines, "\n") + 1;

        len += (size_t)snprintf(out + len, size - len, "lb.yaml:%.*s", (int)line, lines);
        lines += line;
    }
}

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct config_context *context = config_context_new();
        struct lb_config config;
        char wanted[2048];
        int r = read_with(context, wrong[i].line, wrong[i].text, &config);

        prefixed(wrong[i].errors, wanted, sizeof(wanted));
        if (r != CONFIG_E_INVALID || strcmp(config_errors(context), wanted) != 0)
            fail_msg("%s\ngot:      %s\nexpected: %s", wrong[i].text, config_errors(context), wanted);
        config_context_free(context);
    }
}

static void test_warned(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(warned); i++) {
        struct config_context *context = config_context_new();
        struct lb_config config;
        char wanted[2048];
        int r = read_with(context, warned[i].line, warned[i].text, &config);

        prefixed(warned[i].warnings, wanted, sizeof(wanted));
        if (r != 0 || strcmp(config_warnings(context), wanted) != 0)
            fail_msg("%s\n%s\ngot:      %s\nexpected: %s", warned[i].text, config_errors(context), config_warnings(context), wanted);
        config_context_free(context);
    }
}

/* What users have beside the pipeline's ends is mapped onto something of our own. */
static void test_mapped(void **state)
{
    static const char text[] =
        "extensions: { health_check: { endpoint: \"0.0.0.0:13134\" }, headers_setter: { headers: [ { key: X-Scope-OrgID, from_context: "
        "x-scope-orgid }, { key: X-Fixed, value: v } ] } }\n"
        "receivers: { otlp/a: { protocols: { grpc: { include_metadata: true } } }, otlp/b: { protocols: { http: { endpoint: \"[::]:9\", "
        "traces_url_path: in } } } }\n"
        "processors: { batch: { metadata_keys: [Tenant] }, memory_limiter: { check_interval: 1s, limit_mib: 100, spike_limit_mib: 40 } }\n"
        "exporters: { loadbalancing: { protocol: { otlp: { auth: { authenticator: headers_setter }, headers: { A: b } } }, resolver: { static: "
        "{ hostnames: [a, b, c] } } }, nop: }\n"
        "service: { extensions: [health_check, headers_setter], telemetry: { metrics: { address: \"0.0.0.0:8888\" } }, pipelines: { traces: { "
        "receivers: [otlp/a, otlp/b], processors: [memory_limiter, batch], exporters: [loadbalancing, nop] } } }\n"
        "tailrace: { forward_headers: [X-Other] }\n";
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "lb.yaml", text, strlen(text));
    struct lb_config config;

    (void)state;
    assert_non_null(root);
    if (lb_config_read(context, root, &config))
        fail_msg("%s", config_errors(context));
    assert_int_equal(config.receiver_count, 2);
    assert_string_equal(config.receivers[0].id, "otlp/a");
    assert_true(config.receivers[0].grpc_set && !config.receivers[0].http_set && config.receivers[0].grpc_include_metadata);
    assert_string_equal(config.receivers[1].http_endpoint, "[::]:9");
    assert_string_equal(config.receivers[1].traces_url_path, "/in");
    assert_int_equal(config.receivers[1].max_request_body_bytes, 20 * MIB);
    assert_int_equal(config.tailrace.forward_headers.count, 3);
    assert_string_equal(config.tailrace.forward_headers.items[0], "tenant");
    assert_string_equal(config.tailrace.forward_headers.items[1], "x-scope-orgid");
    assert_string_equal(config.tailrace.forward_headers.items[2], "x-other");
    assert_false(config.member.tls->insecure);
    assert_string_equal(config.member.header_pairs[0], "x-fixed");
    assert_string_equal(config.member.header_pairs[2], "a");
    assert_null(config.member.header_pairs[4]);
    assert_int_equal(config.outbox_bytes, 20 * MIB); /* 60 MiB of three samplers */
    assert_string_equal(config.tailrace.admin_endpoint, "0.0.0.0:13134"); /* moves to where the probe asks */
    assert_string_equal(config.tailrace.health.path, "/");
    assert_int_equal(config.tailrace.metrics_endpoint_count, 1);
    assert_string_equal(config.tailrace.metrics_endpoints[0], "0.0.0.0:8888");
    config_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_k8s),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_warned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
