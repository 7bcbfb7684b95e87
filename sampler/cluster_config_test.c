/* tailrace.cluster and tailrace.journal mean what the page says, and what cannot work is refused with line, key and remedy. */
#include "sampler/cluster_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/num.h"
#include "common/security/auth.h"
#include "sampler/sampler_config.h"

/* A good file, of which a case writes line 1 and the two parts that differ. */
#define FILE_OF(tailrace_, extensions_, protocols_)                                                                  \
    tailrace_ "\n"                                                                                                   \
    "receivers: { otlp: { protocols: { " protocols_ " } } }\n"                                                       \
    "processors: { tail_sampling: { decision_wait: 10s, policies: [ { name: all, type: always_sample } ] } }\n"      \
    "exporters: { otlp: { endpoint: \"tempo:4317\", tls: { insecure: true } } }\n"                                   \
    "extensions: { basicauth/peers: { client_auth: { username: u, password: p } }, headers_setter: { headers: [ { key: a, value: b } ] } }\n" \
    "service: { extensions: [ " extensions_ " ],\n"                                                                  \
    "  pipelines: { traces: { receivers: [otlp], processors: [tail_sampling], exporters: [otlp] } } }\n"
#define USUAL(tailrace_) FILE_OF(tailrace_, "basicauth/peers, headers_setter", "grpc: { endpoint: \"10.0.0.1:4317\" }")

#define STATIC "resolver: { static: { hostnames: [\"a:1\", b] } }"
#define IN_CLUSTER(more_) USUAL("tailrace: { cluster: { " STATIC ", " more_ " } }")

static int read_text(struct config_context *context, const char *text, struct sampler_config *out_config)
{
    const struct config_node *root = config_load_text(context, "s.yaml", text, strlen(text));

    return root ? sampler_config_read(context, root, out_config) : CONFIG_E_INVALID;
}

static void read_well(struct config_context *context, const char *text, const char *warnings, struct sampler_config *out_config)
{
    if (read_text(context, text, out_config))
        fail_msg("%s\n%s", text, config_errors(context));
    if (strcmp(config_warnings(context), warnings) != 0)
        fail_msg("%s\ngot:      %s\nexpected: %s", text, config_warnings(context), warnings);
}

static void test_alone(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    read_well(context, USUAL("tailrace: { cluster: { self: me, resolver: }, journal: { directory: \"\" } }"),
        "s.yaml:1: tailrace.journal: without effect: journal.directory is not set, spans are held in memory only\n", &config);
    assert_false(config.cluster.on);
    assert_null(config.journal.directory);
    assert_int_equal(config.tailrace.verdict_keep_ns, 70 * NS_PER_S);
    config_context_free(context);
}

static void test_defaults(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    read_well(context, USUAL("tailrace: { cluster: { " STATIC " }, journal: { directory: /var/lib/tailrace } }"), "", &config);
    assert_true(config.cluster.on);
    assert_string_equal(config.cluster.name, "tailrace");
    assert_string_equal(config.cluster.resolver.name, "static");
    assert_int_equal(config.cluster.resolver.hostnames.count, 2);
    assert_null(config.cluster.advertise);
    assert_null(config.cluster.tls);
    assert_int_equal(config.cluster.status_interval_ns, NS_PER_S);
    assert_int_equal(config.cluster.peer_timeout_ns, 3 * NS_PER_S);
    assert_int_equal(config.cluster.handoff_timeout_ns, 30 * NS_PER_S);
    assert_int_equal(config.cluster.hello_wait_ns, 3 * NS_PER_S);
    assert_int_equal(config.cluster.ack_wait_ns, NS_PER_S);
    assert_int_equal(config.cluster.forward_timeout_ns, NS_PER_S);
    assert_int_equal(config.tailrace.verdict_keep_ns, (2 * 30 + 10) * NS_PER_S); /* twice the silence and one decision_wait */
    assert_string_equal(config.journal.directory, "/var/lib/tailrace");
    assert_int_equal(config.journal.sync, JOURNAL_SYNC_NONE);
    assert_int_equal(config.journal.sync_interval_ns, NS_PER_S);
    assert_int_equal(config.journal.max_size_bytes, 8192 * MIB);
    assert_int_equal(config.journal.segment_bytes, 64 * MIB);
    assert_int_equal(config.journal.on_error, JOURNAL_REFUSE);
    config_context_free(context);
}

static void test_repeats_are_known_as_long_as_verdicts(void **state)
{
    static const struct {
        const char *text, *says;
        uint64_t window_s;
    } cases[] = {
        {USUAL("tailrace: { cluster: { " STATIC " }, resend_window: 1s }"),
            "s.yaml:1: tailrace.resend_window: raised to verdict_keep: among samplers what was exported is known as long as its verdict\n", 70},
        {USUAL("tailrace: { cluster: { " STATIC ", handoff_timeout: 5m } }"), "", 2 * 300 + 10},
        {USUAL("tailrace: { cluster: { " STATIC " } }"), "", 300},
        {USUAL("tailrace: { resend_window: 1s }"), "", 1}, /* alone it is the user's choice */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config_context *context = config_context_new();
        struct sampler_config config;

        read_well(context, cases[i].text, cases[i].says, &config);
        assert_int_equal(config.tailrace.resend_window_ns, cases[i].window_s * NS_PER_S);
        config_context_free(context);
    }
}

static void test_values(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    read_well(context,
        USUAL("tailrace: { verdict_keep: 7s, memory: { at_limit: spill }, dns: { servers: [\"127.0.0.1:53\"] },\n"
        "  cluster: { name: blue, resolver: { dns: { hostname: samplers.test } }, advertise: \"http://sampler-0:4317\",\n"
        "    tls: { ca_pem: x }, auth: { authenticator: basicauth/peers }, status_interval: 100ms, peer_timeout: 300ms,\n"
        "    handoff_timeout: 2s, hello_wait: 0s, ack_wait: 200ms, forward_timeout: 2s },\n"
        "  journal: { directory: d, sync: always, sync_interval: 5s, max_size_mib: 64, segment_mib: 8, on_error: memory } }"),
        "", &config);
    assert_string_equal(config.cluster.name, "blue");
    assert_string_equal(config.cluster.resolver.dns_hostname, "samplers.test");
    assert_int_equal(config.dns.servers.count, 1);
    assert_string_equal(config.cluster.advertise, "sampler-0:4317");
    assert_string_equal(config.cluster.tls->ca_pem, "x");
    assert_non_null(config.cluster.auth);
    assert_int_equal(config.cluster.status_interval_ns, 100 * NS_PER_MS);
    assert_int_equal(config.cluster.handoff_timeout_ns, 2 * NS_PER_S);
    assert_int_equal(config.cluster.hello_wait_ns, 0);
    assert_int_equal(config.tailrace.verdict_keep_ns, 7 * NS_PER_S);
    assert_int_equal(config.tailrace.at_limit, AT_LIMIT_SPILL);
    assert_int_equal(config.journal.sync, JOURNAL_SYNC_ALWAYS);
    assert_int_equal(config.journal.max_size_bytes, 64 * MIB);
    assert_int_equal(config.journal.on_error, JOURNAL_MEMORY);
    config_context_free(context);
}

static const struct {
    const char *text, *errors; /* after "s.yaml:1: " */
} wrong[] = {
    {USUAL("tailrace: { cluster: { resolver: { static: { hostnames: [] } } } }"),
        "tailrace.cluster.resolver.static.hostnames: no sampler is listed: static.hostnames needs at least one host:port\n"},
    {USUAL("tailrace: { cluster: { resolver: { static: { hostnames: [a] }, dns: { hostname: b } } } }"),
        "tailrace.cluster.resolver: there are two resolvers, static and dns: keep one\n"},
    {IN_CLUSTER("name: \"a b\""), "tailrace.cluster.name: expected a name of 1 to 128 printable characters without blanks\n"},
    {IN_CLUSTER("name: \"\""), "tailrace.cluster.name: expected a name of 1 to 128 printable characters without blanks\n"},
    {IN_CLUSTER("advertise: sampler-0"), "tailrace.cluster.advertise: \"sampler-0\" is no address of the form host:port: the port is missing\n"},
    {IN_CLUSTER("tls: { cert_file: c }"), "tailrace.cluster.tls: a certificate without its key: set key_file\n"},
    {IN_CLUSTER("auth: { authenticator: headers_setter }"),
        "tailrace.cluster.auth.authenticator: `headers_setter` has no credentials; expected a basicauth or bearertokenauth\n"},
    {FILE_OF("tailrace: { cluster: { " STATIC " } }", "basicauth/peers, headers_setter", "http: "),
        "tailrace.cluster: samplers speak to each other over gRPC: an `otlp` receiver with `protocols: {grpc: }` is needed\n"},
    {IN_CLUSTER("status_interval: 0s"), "tailrace.cluster.status_interval: expected at least 10ms\n"},
    {IN_CLUSTER("peer_timeout: 1500ms"),
        "tailrace.cluster.peer_timeout: expected at least twice status_interval: one status that is late is no reason to give a "
        "sampler up\n"},
    {IN_CLUSTER("handoff_timeout: 2s"),
        "tailrace.cluster.handoff_timeout: expected at least peer_timeout: a sampler is unreachable before it is given up\n"},
    {IN_CLUSTER("handof_timeout: 2s"), "tailrace.cluster.handof_timeout: unknown key; did you mean `handoff_timeout`?\n"},
    {USUAL("tailrace: { memory: { at_limit: spill } }"),
        "tailrace.memory.at_limit: `spill` moves spans to the journal: set tailrace.journal.directory\n"},
    {USUAL("tailrace: { journal: { directory: d, sync: interval, sync_interval: 1ms } }"),
        "tailrace.journal.sync_interval: expected at least 10ms\n"},
    {USUAL("tailrace: { journal: { directory: d, sync: sometimes } }"),
        "tailrace.journal.sync: expected one of: none interval always; found \"sometimes\"\n"},
    {USUAL("tailrace: { journal: { directory: d, segment_mib: 0 } }"), "tailrace.journal.segment_mib: expected a number from 1 to 1024\n"},
    {USUAL("tailrace: { journal: { directory: d, max_size_mib: 100 } }"),
        "tailrace.journal.max_size_mib: expected at least 4 segments of 64 MiB; make them smaller by journal.segment_mib, or give it "
        "more of the disk\n"},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct config_context *context = config_context_new();
        struct sampler_config config;
        char wanted[1024];
        int r = read_text(context, wrong[i].text, &config);

        (void)snprintf(wanted, sizeof(wanted), "s.yaml:1: %s", wrong[i].errors);
        if (r != CONFIG_E_INVALID || strcmp(config_errors(context), wanted) != 0)
            fail_msg("%s\ngot:      %s\nexpected: %s", wrong[i].text, config_errors(context), wanted);
        config_context_free(context);
    }
}

static void test_without_effect(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    read_well(context, USUAL("tailrace: { cluster: { self: s, handoff_timeout: 3s } }"),
        "s.yaml:1: tailrace.cluster.handoff_timeout: without effect: tailrace.cluster has no resolver, this sampler is alone\n", &config);
    assert_false(config.cluster.on);
    config_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_repeats_are_known_as_long_as_verdicts),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_without_effect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
