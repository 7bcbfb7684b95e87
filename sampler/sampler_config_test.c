/* The sampler's file: what a Collector's user has either means the same here, or is refused with line, key and remedy. */
#include "sampler/sampler_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/config/test_config_dir.h"
#include "common/config/yaml.h"

/* A good file; a case replaces one of its lines, or adds lines at its end. */
static const char *const base[] = {
    "receivers:",                                                                      /* 1 */
    "  otlp: { protocols: { grpc: } }",                                                /* 2 */
    "processors:",                                                                     /* 3 */
    "  tail_sampling: { policies: [ { name: all, type: always_sample } ] }",           /* 4 */
    "exporters:",                                                                      /* 5 */
    "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true } }",                   /* 6 */
    "service:",                                                                        /* 7 */
    "  pipelines:",                                                                    /* 8 */
    "    traces: { receivers: [otlp], processors: [tail_sampling], exporters: [otlp] }", /* 9 */
};

/* Replaces line (0: appends) and reads. */
static int read_with(struct config_context *context, size_t line, const char *text, struct sampler_config *out_config)
{
    char yaml[4096] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_COUNT(base); i++)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%s\n", i + 1 == line ? text : base[i]);
    if (line == 0)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%s\n", text);
    const struct config_node *root = config_load_text(context, "sampler.yaml", yaml, len);

    return root ? sampler_config_read(context, root, out_config) : CONFIG_E_INVALID;
}

static void test_defaults(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    assert_int_equal(read_with(context, 0, "", &config), 0);
    assert_string_equal(config_errors(context), "");
    assert_string_equal(config_warnings(context), "");
    assert_true(config.receivers[0].grpc_set);
    assert_string_equal(config.receivers[0].grpc_endpoint, "localhost:4317");
    assert_int_equal(config.receivers[0].max_recv_msg_bytes, 64 * MIB);
    assert_int_equal(config.tail_sampling.decision_wait_ns, 30 * NS_PER_S);
    assert_int_equal(config.tail_sampling.decision_wait_after_root_received_ns, 0);
    assert_false(config.tail_sampling.num_traces_set);
    assert_int_equal(config_node_count(config.tail_sampling.policies), 1);
    assert_string_equal(config.tail_sampling.component_name, "");
    assert_string_equal(config.exporters[0].id, "otlp");
    assert_string_equal(config.exporters[0].endpoint, "tempo:4317");
    assert_int_equal(config.exporters[0].compression, COMPRESS_GZIP);
    assert_null(config.exporters[0].header_pairs);
    assert_int_equal(config.exporters[0].timeout_ns, 5 * NS_PER_S);
    assert_true(config.exporters[0].retry.enabled);
    assert_int_equal(config.exporters[0].retry.max_elapsed_time_ns, 0);
    assert_false(config.exporters[0].queue_size_set);
    assert_int_equal(config.exporters[0].num_consumers, 10);
    assert_false(config.exporters[0].batch_set);
    assert_string_equal(config.tailrace.admin_endpoint, "127.0.0.1:13133");
    assert_true(strlen(config.tailrace.cluster_self) > 0);
    assert_int_equal(config.tailrace.at_limit, AT_LIMIT_DECIDE_EARLY);
    assert_int_equal(config.tailrace.memory_limit_bytes, 0);
    assert_int_equal(config.tailrace.verdict_keep_ns, 70 * NS_PER_S);
    assert_int_equal(config.tailrace.resend_window_ns, 300 * NS_PER_S);
    assert_int_equal(config.telemetry.log_encoding, LOG_CONSOLE);
    config_context_free(context);
}

/* The example, and another file laid over it. */
static void test_example(void **state)
{
    struct config_context *context = config_context_new();
    const char *files[] = {TEST_CONFIG_DIR "/sampler.yaml", TEST_CONFIG_DIR "/override.yaml"};
    const char *sets[] = {"processors.tail_sampling.num_traces=7"};
    const struct config_command_line line = {.files = files, .file_count = 2, .sets = sets, .set_count = 1};
    struct sampler_config config;
    const struct config_node *root;

    (void)state;
    unsetenv("TAILRACE_TEST_NAME");
    root = config_load(context, &line);
    assert_non_null(root);
    assert_int_equal(sampler_config_read(context, root, &config), 0);
    assert_string_equal(config_errors(context), "");
    assert_string_equal(config_warnings(context), "");
    assert_int_equal(config.tail_sampling.decision_wait_ns, 2 * NS_PER_S);
    assert_true(config.tail_sampling.num_traces_set);
    assert_int_equal(config.tail_sampling.num_traces, 7);
    assert_int_equal(config.tail_sampling.sampled_cache_size, 100000);
    assert_int_equal(config_node_count(config.tail_sampling.policies), 1);
    assert_string_equal(config.exporters[0].endpoint, "tempo-2:4317");
    assert_string_equal(config.exporters[0].header_pairs[0], "x-scope-orgid");
    assert_string_equal(config.exporters[0].header_pairs[1], "tenant-1");
    assert_null(config.exporters[0].header_pairs[2]);
    assert_string_equal(config.tailrace.cluster_self, "sampler-0");
    assert_int_equal(config.tailrace.memory_limit_bytes, 2048 * MIB);
    assert_int_equal(config.telemetry.log_level, LOG_DEBUG);
    assert_int_equal(config.telemetry.log_encoding, LOG_JSON);
    config_context_free(context);
}

static void test_values(void **state)
{
    struct config_context *context = config_context_new();
    struct sampler_config config;

    (void)state;
    assert_int_equal(
        read_with(context, 4,
            "  tail_sampling: { decision_wait: -5s, decision_wait_after_root_received: 2s, num_traces: 100,\n"
            "    block_on_overflow: false, sample_on_first_match: true, sampling_strategy: trace-complete, num_shards: 1,\n"
            "    drop_pending_traces_on_shutdown: true, maximum_trace_size_bytes: 1000,\n"
            "    decision_cache: { sampled_cache_size: -1, non_sampled_cache_size: 5 }, policies: [ { name: a } ] }",
            &config),
        0);
    assert_string_equal(config_warnings(context),
        "sampler.yaml:4: processors.tail_sampling.decision_wait: below zero: counts as zero, each trace is decided at once\n");
    assert_int_equal(config.tail_sampling.decision_wait_ns, 0);
    assert_int_equal(config.tail_sampling.decision_wait_after_root_received_ns, 2 * NS_PER_S);
    assert_int_equal(config.tail_sampling.num_traces, 100);
    assert_true(config.tail_sampling.sample_on_first_match && config.tail_sampling.drop_pending_traces_on_shutdown);
    assert_int_equal(config.tail_sampling.maximum_trace_size_bytes, 1000);
    assert_int_equal(config.tail_sampling.sampled_cache_size, -1);
    assert_int_equal(config.tail_sampling.non_sampled_cache_size, 5);
    config_context_free(context);

    context = config_context_new();
    assert_int_equal(
        read_with(context, 6,
            "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, headers: [ { name: A, value: b } ],\n"
            "    retry_on_failure: { initial_interval: 1s, max_interval: 2s, max_elapsed_time: 10s, multiplier: 2, "
            "randomization_factor: 0 },\n"
            "    sending_queue: { num_consumers: 3, sizer: items, queue_size: 1000000, batch: { sizer: bytes, flush_timeout: "
            "1s } } }",
            &config),
        0);
    assert_string_equal(config_warnings(context), "");
    assert_string_equal(config.exporters[0].header_pairs[0], "a");
    assert_int_equal(config.exporters[0].retry.initial_interval_ns, NS_PER_S);
    assert_int_equal(config.exporters[0].retry.max_interval_ns, 2 * NS_PER_S);
    assert_int_equal(config.exporters[0].retry.max_elapsed_time_ns, 10 * NS_PER_S);
    assert_true(config.exporters[0].retry.multiplier > 1.9 && config.exporters[0].retry.randomization_factor < 0.1);
    assert_int_equal(config.exporters[0].num_consumers, 3);
    assert_int_equal(config.exporters[0].queue_sizer, QUEUE_ITEMS);
    assert_true(config.exporters[0].queue_size_set);
    assert_int_equal(config.exporters[0].queue_size, 1000000);
    assert_true(config.exporters[0].batch_set);
    assert_int_equal(config.exporters[0].batch_sizer, BATCH_BYTES);
    assert_int_equal(config.exporters[0].batch_flush_timeout_ns, NS_PER_S);
    config_context_free(context);
}

static const struct {
    size_t line;
    const char *text;
    const char *errors; /* without "sampler.yaml:" before each */
} wrong[] = {
    {6, "  otlp: { endpoint: \"https://tempo:4317\", compression: zstd, tls: { insecure: true } }",
        "6: exporters.otlp.compression: not supported: `zstd`; use `gzip` or `none`, or `otlp_http`, which has it\n"
        "6: exporters.otlp.endpoint: https:// and `tls: {insecure: true}` contradict each other; one of them must go\n"},
    {4, "  tail_sampling: { decision_wiat: 10s, policies: [ {} ] }",
        "4: processors.tail_sampling.decision_wiat: unknown key; did you mean `decision_wait`?\n"},
    {4, "  tail_sampling:\n    policies: [ {} ]\n    block_on_overflow: 1\n    sampling_strategy: span\n    num_shards: 257\n"
        "    tail_storage: disk",
        "6: processors.tail_sampling.block_on_overflow: expected true or false, found a whole number (1)\n"
        "7: processors.tail_sampling.sampling_strategy: invalid sampling_strategy \"span\", expected one of \"trace-complete\" or "
        "\"span-ingest\"\n"
        "8: processors.tail_sampling.num_shards: num_shards (257) must not exceed 256\n"
        "9: processors.tail_sampling.tail_storage: not supported: extensions are Go code, which is not run here; traces are held in "
        "memory, bounded by tailrace.memory; remove this key\n"},
    {4, "  tail_sampling: { policies: { name: a } }",
        "4: processors.tail_sampling.policies: expected a list of policies\n"},
    {4, "  tail_sampling: { num_traces: -1, policies: [ {} ] }",
        "4: processors.tail_sampling.num_traces: expected a number of zero or more, found -1\n"},
    {4, "  tail_sampling: { decision_wait: \"10\", policies: [ {} ] }",
        "4: processors.tail_sampling.decision_wait: the duration \"10\" lacks a unit: one of h, m, s, ms, us, ns\n"},
    {6, "  otlp: { tls: { insecure: true } }", "6: exporters.otlp: endpoint is missing: the backend's host:port\n"},
    {6, "  otlp: { endpoint: tempo, tls: { insecure: true } }",
        "6: exporters.otlp.endpoint: \"tempo\" is no address of the form host:port: the port is missing\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: \"yes\" } }",
        "6: exporters.otlp.tls.insecure: expected true or false, found a text \"yes\"\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, headers: { Authorization: 12345, \"a b\": c, d: \"\\xe4\" } }",
        "6: exporters.otlp.headers.Authorization: expected a text, found a whole number; put it in quotes\n"
        "6: exporters.otlp.headers.a b: no name of a header: letters, digits, - _ . and not beginning with grpc-\n"
        "6: exporters.otlp.headers.d: a header's value is of printable ASCII characters\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, retry_on_failure: { max_elapsed_time: 10s, multiplier: -1, "
        "randomization_factor: 2 } }",
        "6: exporters.otlp.retry_on_failure.randomization_factor: expected a number from 0 to 1\n"
        "6: exporters.otlp.retry_on_failure.multiplier: expected a number of zero or more, at most 1e9\n"
        "6: exporters.otlp.retry_on_failure.max_elapsed_time: shorter than max_interval (default 30s)\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, sending_queue: { sizer: items, queue_size: 0, num_consumers: 0, "
        "storage: x, block_on_overflow: true } }",
        "6: exporters.otlp.sending_queue.storage: not supported: an acknowledgement means delivered or held, never queued; "
        "remove `storage`\n"
        "6: exporters.otlp.sending_queue.block_on_overflow: not supported: nothing here waits for room: what does not fit is "
        "refused or dropped, and counted; remove this key\n"
        "6: exporters.otlp.sending_queue.num_consumers: expected a number from 1 to 100000\n"
        "6: exporters.otlp.sending_queue.queue_size: expected a number above 0\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, sending_queue: { batch: { min_size: 5, max_size: 4, "
        "flush_timeout: 0s, sizer: bytes, partition: {} } } }",
        "6: exporters.otlp.sending_queue.batch.flush_timeout: expected a duration above 0\n"
        "6: exporters.otlp.sending_queue.batch.max_size: below min_size\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true }, sending_queue: { sizer: bytes, queue_size: 10, batch: { sizer: "
        "bytes, min_size: 11 } } }",
        "6: exporters.otlp.sending_queue.batch.min_size: above queue_size\n"},
    {9, "    traces: { receivers: [otlp], exporters: [otlp] }",
        "9: service.pipelines.traces: a `tail_sampling` is missing from processors\n"},
    {9, "    traces: { receivers: [otlp], processors: [batch, tail_sampling], exporters: [otlp] }",
        "9: service.pipelines.traces.processors[0]: the processor `batch` is not defined under `processors`\n"},
    {9, "    traces: { receivers: [otlp], processors: [tail_sampling], exporters: [otlp, debug] }",
        "9: service.pipelines.traces.exporters[1]: the exporter `debug` is not defined under `exporters`\n"},
    {9, "    traces: { receivers: [otlp], processors: [tail_sampling], exporters: [loadbalancing] }",
        "9: service.pipelines.traces.exporters[0]: not supported: the exporter `loadbalancing` has no place in "
        "tailrace-sampler: it is tailrace-lb's; a sampler exports by `otlp` or `otlp_http`\n"},
    {9, "    traces: { receivers: [otlp], processors: [tail_sampling], exporter: [otlp] }",
        "9: service.pipelines.traces.exporter: unknown key; did you mean `exporters`?\n"
        "9: service.pipelines.traces: a `otlp_grpc` is missing from exporters\n"},
    {0, "tailrace: { cluster: { self: \"a b\" } }",
        "10: tailrace.cluster.self: expected a name of 1 to 128 printable characters without blanks\n"},
    {0, "tailrace: { memory: { limit_mib: -1, at_limit: spil }, resend_window: -1s }",
        "10: tailrace.memory.limit_mib: expected a number of zero or more, found -1\n"
        "10: tailrace.memory.at_limit: expected one of: refuse decide_early spill; found \"spil\"\n"
        "10: tailrace.resend_window: expected a duration of zero or more, found -1s\n"},
};

static const struct {
    size_t line;
    const char *text, *warnings;
} warned[] = {
    {2, "  otlp: { protocols: { grpc: { max_recv_msg_size_mib: 16 } } }",
        "2: receivers.otlp.protocols.grpc.max_recv_msg_size_mib: raised to 64: whatever a balancer sends must fit (differs from the "
        "Collector)\n"},
    {4, "  tail_sampling: { decision_wait: 10, expected_new_traces_per_sec: 100, policies: [] }",
        "4: processors.tail_sampling.decision_wait: a number without unit is nanoseconds; did you mean 10s?\n"
        "4: processors.tail_sampling.expected_new_traces_per_sec: accepted without effect: tables grow as traces come, no hint is "
        "needed\n"
        "4: processors.tail_sampling.policies: there are no policies: no trace is kept\n"},
    {4, "  tail_sampling:", "4: processors.tail_sampling: there are no policies: no trace is kept\n"},
    {6, "  otlp: { endpoint: \"tempo:4317\", tls: { insecure: true, insecure_skip_verify: true }, balancer_name: round_robin, "
        "sending_queue: { enabled: false, batch: { min_size: 100 } } }",
        "6: exporters.otlp.balancer_name: accepted without effect: one address of a name is used, the next when it fails "
        "(differs from the Collector: there round_robin)\n"
        "6: exporters.otlp.sending_queue.enabled: accepted without effect: survivors wait in the exporter's queue, bounded by "
        "the memory budget\n"},
    {0, "extensions: { health_check: }",
        "10: extensions.health_check: not used: service.extensions does not name it, so it was not read\n"},
};

/* "LINE: message" lines, each after "sampler.yaml:". */
static void prefixed(const char *lines, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    while (*lines) {
        size_t line = strcspn(lines, "\n") + 1;

        len += (size_t)snprintf(out + len, size - len, "sampler.yaml:%.*s", (int)line, lines);
        lines += line;
    }
}

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct config_context *context = config_context_new();
        struct sampler_config config;
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
        struct sampler_config config;
        char wanted[2048];
        int r = read_with(context, warned[i].line, warned[i].text, &config);

        prefixed(warned[i].warnings, wanted, sizeof(wanted));
        if (r != 0 || strcmp(config_warnings(context), wanted) != 0)
            fail_msg("%s\n%s\ngot:      %s\nexpected: %s", warned[i].text, config_errors(context), config_warnings(context), wanted);
        config_context_free(context);
    }
}

/* Several exporters, and `batch` and `memory_limiter` mapped onto them and onto the budget. */
static void test_mapped(void **state)
{
    static const char text[] =
        "extensions: { basicauth/out: { client_auth: { username: u, password: p } } }\n"
        "receivers: { otlp: { protocols: { http: } } }\n"
        "processors: { batch: { timeout: 1s, send_batch_size: 100, send_batch_max_size: 200 }, tail_sampling: { policies: [ {} ] },\n"
        "  memory_limiter: { check_interval: 1s, limit_mib: 1000 } }\n"
        "exporters: { otlp/a: { endpoint: \"a:1\" }, otlphttp/b: { endpoint: \"http://b:2/x/\", compression: zstd, proxy_url: \"http://p:3\",\n"
        "  auth: { authenticator: basicauth/out }, sending_queue: { batch: { min_size: 7 } } }, otlp_http/c: { traces_endpoint: \"https://c/t\" },\n"
        "  debug: { verbosity: Detailed }, nop: }\n"
        "service: { extensions: [basicauth/out], pipelines: { traces: { receivers: [otlp], processors: [memory_limiter, tail_sampling, batch],\n"
        "  exporters: [otlp/a, otlphttp/b, otlp_http/c, debug, nop] } } }\n"
        "tailrace: { workers: 1 }\n";
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "sampler.yaml", text, strlen(text));
    struct sampler_config config;

    (void)state;
    assert_non_null(root);
    if (sampler_config_read(context, root, &config))
        fail_msg("%s", config_errors(context));
    assert_int_equal(config.exporter_count, 5);
    assert_int_equal(config.exporters[0].kind, EXPORTER_OTLP_GRPC);
    assert_int_equal(config.exporters[0].compression, COMPRESS_GZIP);
    assert_false(config.exporters[0].tls->insecure);
    assert_true(config.exporters[0].batch_set);
    assert_int_equal(config.exporters[0].batch_flush_timeout_ns, NS_PER_S);
    assert_int_equal(config.exporters[0].batch_min_size, 100);
    assert_int_equal(config.exporters[0].batch_max_size, 200);
    assert_int_equal(config.exporters[1].kind, EXPORTER_OTLP_HTTP);
    assert_string_equal(config.exporters[1].endpoint, "http://b:2/x/v1/traces");
    assert_int_equal(config.exporters[1].compression, COMPRESS_ZSTD);
    assert_string_equal(config.exporters[1].proxy_url, "http://p:3");
    assert_string_equal(config.exporters[1].auth->client_password, "p");
    assert_int_equal(config.exporters[1].timeout_ns, 30 * NS_PER_S);
    assert_int_equal(config.exporters[1].batch_min_size, 7); /* its own wins */
    assert_string_equal(config.exporters[2].endpoint, "https://c/t");
    assert_int_equal(config.exporters[3].kind, EXPORTER_DEBUG);
    assert_int_equal(config.exporters[3].debug_verbosity, DEBUG_DETAILED);
    assert_int_equal(config.exporters[4].kind, EXPORTER_NOP);
    assert_int_equal(config.tailrace.memory_limit_bytes, 1000 * MIB - 200 * MIB);
    config_context_free(context);
}

/* An exporter sends on those of the clients' headers that its own headers_setter or tailrace.forward_headers names; what keeps requests
 * apart is no reason to show it to anybody. */
static void test_forwarded(void **state)
{
    static const char text[] =
        "extensions: { headers_setter/a: { headers: [ { key: X-Tenant, from_context: x-tenant }, { key: X-Fixed, value: v } ] } }\n"
        "receivers: { otlp: { protocols: { grpc: { include_metadata: true } } } }\n"
        "processors: { batch: { metadata_keys: [X-Team] }, tail_sampling: { policies: [ {} ] } }\n"
        "exporters: { otlp/a: { endpoint: \"a:1\", auth: { authenticator: headers_setter/a } }, otlp/b: { endpoint: \"b:1\" } }\n"
        "service: { extensions: [headers_setter/a], pipelines: { traces: { receivers: [otlp], processors: [tail_sampling, batch],\n"
        "  exporters: [otlp/a, otlp/b] } } }\n"
        "tailrace: { workers: 1, forward_headers: [X-All, x-tenant-2] }\n";
    static const char *const kept[] = {"x-team", "x-tenant", "x-all", "x-tenant-2"}, *const by_a[] = {"x-tenant", "x-all", "x-tenant-2"};
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "sampler.yaml", text, strlen(text));
    struct sampler_config config;

    (void)state;
    assert_non_null(root);
    if (sampler_config_read(context, root, &config))
        fail_msg("%s", config_errors(context));
    assert_int_equal(config.tailrace.forward_headers.count, ARRAY_COUNT(kept));
    for (size_t i = 0; i < ARRAY_COUNT(kept); i++)
        assert_string_equal(config.tailrace.forward_headers.items[i], kept[i]);
    assert_int_equal(config.exporters[0].forward_headers.count, ARRAY_COUNT(by_a));
    for (size_t i = 0; i < ARRAY_COUNT(by_a); i++)
        assert_string_equal(config.exporters[0].forward_headers.items[i], by_a[i]);
    assert_string_equal(config.exporters[0].header_pairs[0], "x-fixed");
    assert_int_equal(config.exporters[1].forward_headers.count, 2);
    assert_string_equal(config.exporters[1].forward_headers.items[0], "x-all");
    assert_null(config.exporters[1].header_pairs);
    config_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_warned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
