/* Whatever slices a service has and however they change, each pod is one address a port, with the readiness its conditions come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cluster/resolve/k8s_slices.h"

/* A slice as the server writes it, shortened: name, type, ports, endpoints. */
#define SLICE(name, type, ports, endpoints)                                                        \
    "{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"7\"},\"addressType\":\"" type      \
    "\",\"ports\":" ports ",\"endpoints\":" endpoints "}"
#define PORTS "[{\"name\":\"otlp\",\"port\":4317,\"protocol\":\"TCP\"},{\"name\":\"admin\",\"port\":13133,\"protocol\":\"TCP\"}]"
#define POD(address, pod, uid, more)                                                               \
    "{\"addresses\":[\"" address "\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"" pod "\",\"uid\":\"" uid "\"}" more "}"
#define HOST(name) ",\"hostname\":\"" name "\""
#define IS(conditions) ",\"conditions\":{" conditions "}"
#define LIST(items) "{\"kind\":\"EndpointSliceList\",\"metadata\":{\"resourceVersion\":\"41\"},\"items\":[" items "]}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}"

static struct slice bytes_of(const char *text)
{
    return slice_make(text, strlen(text));
}

/* "10.0.0.1:4317=sampler-0 10.0.0.2:4317=sampler-1(no) " … (no): not ready, (end): terminating. */
static const char *text_of(const struct k8s_addresses *addresses)
{
    static char text[4096];
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < addresses->count; i++) {
        const struct resolved_address *item = &addresses->items[i];

        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s%s ", item->address, item->name[0] ? "=" : "", item->name,
            item->terminating ? "(end)" : item->ready ? "" : "(no)");
    }
    return text;
}

static const char *const port_otlp[] = {"otlp"}, *const port_two[] = {"4317", "admin"}, *const port_none[] = {"grpc"};

static struct k8s_selection selection(const char *const *ports, size_t count, bool hostnames)
{
    return (struct k8s_selection){"sampler", "obs", ports, count, hostnames};
}

/* -- one list ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *what;
    const char *const *ports;
    size_t port_count;
    bool hostnames;
    const char *items;
    const char *list, *trouble; /* trouble: how it begins */
} lists[] = {
    {"a StatefulSet's pods", NULL, 0, false,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.2", "s-1", "u1", HOST("s-1")) "," POD("10.0.0.1", "s-0", "u0", HOST("s-0")) "]"),
        "10.0.0.1:4317=s-0 10.0.0.2:4317=s-1 ", ""},
    {"a Deployment's pods are known by their names", NULL, 0, false,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "d-x7k", "u", "") "]"), "10.0.0.1:4317=d-x7k ", ""},
    {"who knows no pod", NULL, 0, false, SLICE("a", "IPv4", PORTS, "[{\"addresses\":[\"10.0.0.1\",\"10.0.0.9\"]}]"), "10.0.0.1:4317 ", ""},
    {"conditions that are not said", NULL, 0, false,
        SLICE("a", "IPv4", PORTS,
            "[" POD("10.0.0.1", "a", "1", IS("")) "," POD("10.0.0.2", "b", "2", IS("\"ready\":null,\"serving\":null")) ","
            POD("10.0.0.3", "c", "3", IS("\"ready\":false")) "," POD("10.0.0.4", "d", "4", ",\"conditions\":null") "]"),
        "10.0.0.1:4317=a 10.0.0.2:4317=b 10.0.0.3:4317=c(no) 10.0.0.4:4317=d ", ""},
    {"publishNotReadyAddresses: serving tells", NULL, 0, false,
        SLICE("a", "IPv4", PORTS,
            "[" POD("10.0.0.1", "a", "1", IS("\"ready\":true,\"serving\":false")) ","
            POD("10.0.0.2", "b", "2", IS("\"ready\":true,\"serving\":true,\"terminating\":true")) "]"),
        "10.0.0.1:4317=a(no) 10.0.0.2:4317=b(end) ", ""},
    {"two families are one pod", NULL, 0, false,
        SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", HOST("s-0")) "," POD("fd00::2", "s-1", "u1", HOST("s-1")) "]") ","
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", HOST("s-0")) "]"),
        "10.0.0.1:4317=s-0 [fd00::2]:4317=s-1 ", ""},
    {"the same address in two slices", NULL, 0, false,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", "") "]") "," SLICE("b", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", "") "]"),
        "10.0.0.1:4317=s-0 ", ""},
    {"a pod and its successor: the new one, ready or not", NULL, 0, false,
        SLICE("a", "IPv4", PORTS,
            "[" POD("10.0.0.9", "s-0", "new", IS("\"ready\":false")) ","
            POD("10.0.0.1", "s-0", "old", IS("\"ready\":false,\"serving\":true,\"terminating\":true")) "]"),
        "10.0.0.9:4317=s-0(no) ", ""},
    {"who ends in one slice ends in all", NULL, 0, false,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", IS("\"ready\":true")) "]") ","
        SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", IS("\"ready\":false,\"serving\":true,\"terminating\":true")) "]"),
        "10.0.0.1:4317=s-0(end) ", ""},
    {"a port by its name", port_otlp, 1, false, SLICE("a", "IPv4", "[{\"name\":\"otlp\",\"port\":9999}]", "[" POD("10.0.0.1", "p", "u", "") "]"),
        "10.0.0.1:9999=p ", ""},
    {"two ports are two backends", port_two, 2, false, SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "p", "u", "") "]"),
        "10.0.0.1:13133=p:13133 10.0.0.1:4317=p:4317 ", ""},
    {"no such port", port_none, 1, false, SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "p", "u", "") "]"), "",
        "service obs/sampler has no port grpc; its ports: otlp, admin"},
    {"a port of that name over UDP is none", port_otlp, 1, false,
        SLICE("a", "IPv4", "[{\"name\":\"otlp\",\"port\":1,\"protocol\":\"UDP\"}]", "[" POD("10.0.0.1", "p", "u", "") "]"), "",
        "service obs/sampler has no port otlp"},
    {"a port without a number", port_otlp, 1, false,
        SLICE("a", "IPv4", "[{\"name\":\"otlp\",\"port\":null}]", "[" POD("10.0.0.1", "p", "u", "") "]"), "", "service obs/sampler has no port otlp"},
    {"null ports and a number", NULL, 0, false, SLICE("a", "IPv4", "null", "[" POD("10.0.0.1", "p", "u", "") "]"), "10.0.0.1:4317=p ", ""},
    {"null endpoints", NULL, 0, false, SLICE("a", "IPv4", "null", "null"), "", "service obs/sampler has no endpoint"},
    {"no slice", NULL, 0, false, "", "", "service obs/sampler has no EndpointSlice"},
    {"names in place of addresses", NULL, 0, true,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", HOST("s-0")) "]") "," SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", HOST("s-0")) "]"),
        "s-0.sampler.obs:4317=s-0 ", ""},
    {"no name in place of an address", NULL, 0, true,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", HOST("s-0")) "," POD("10.0.0.2", "d-1", "u1", "") "]"),
        "s-0.sampler.obs:4317=s-0 ", "pod d-1 of service obs/sampler has no hostname"},
    {"a type of addresses from the future", NULL, 0, false,
        SLICE("a", "IPv9", PORTS, "[" POD("10.0.0.1", "p", "u", "") "]") "," SLICE("b", "FQDN", PORTS, "[" POD("Pod.example", "q", "v", "") "]"),
        "pod.example:4317=q ", ""},
    {"addresses that are none", NULL, 0, false,
        SLICE("a", "IPv4", PORTS,
            "[" POD("fd00::1", "p", "1", "") "," POD("10.0.0.1:80", "q", "2", "") "," POD("10.0.0.1", "r", "3", "") ",{\"addresses\":[]},{},7]"),
        "10.0.0.1:4317=r ", ""},
    {"names that are none", NULL, 0, false,
        SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "a b", "1", HOST("x:y")) "]"), "10.0.0.1:4317 ", ""},
};

static void test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const struct k8s_selection want = selection(lists[i].ports, lists[i].port_count, lists[i].hostnames);
        struct k8s_addresses addresses;
        struct k8s_slices slices;
        char json[8192], version[K8S_VERSION_SIZE];

        (void)snprintf(json, sizeof(json), LIST("%s"), lists[i].items);
        k8s_slices_init(&slices, &want);
        if (k8s_slices_list(&slices, bytes_of(json), version) != 0 || strcmp(version, "41") != 0)
            fail_msg("%s: cannot be read: %s", lists[i].what, json);
        assert_int_equal(k8s_slices_addresses(&slices, &addresses), 0);
        if (strcmp(text_of(&addresses), lists[i].list) != 0 ||
            strncmp(addresses.trouble, lists[i].trouble, strlen(lists[i].trouble)) != 0 ||
            (addresses.trouble[0] != '\0') != (lists[i].trouble[0] != '\0'))
            fail_msg("%s: got \"%s\" \"%s\"", lists[i].what, text_of(&addresses), addresses.trouble);
        k8s_addresses_deinit(&addresses);
        k8s_slices_deinit(&slices);
    }
}

/* -- events on top of a list ----------------------------------------------------------------------------------------- */

#define FIRST SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", "") "]")

static const struct {
    const char *what;
    const char *events[4];
    const char *list, *version; /* after the last */
} streams[] = {
    {"a further slice", {EVENT("ADDED", SLICE("b", "IPv4", PORTS, "[" POD("10.0.0.2", "s-1", "u1", "") "]"))},
        "10.0.0.1:4317=s-0 10.0.0.2:4317=s-1 ", "7"},
    {"a slice takes the place of itself", {EVENT("MODIFIED", SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.3", "s-3", "u3", "") "]"))},
        "10.0.0.3:4317=s-3 ", "7"},
    {"a slice goes, its pods stay where another has them",
        {EVENT("ADDED", SLICE("b", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", "") "," POD("10.0.0.2", "s-1", "u1", "") "]")),
            EVENT("DELETED", FIRST)},
        "10.0.0.1:4317=s-0 10.0.0.2:4317=s-1 ", "7"},
    {"all go", {EVENT("DELETED", FIRST)}, "", "7"},
    {"the address that came last", {EVENT("ADDED", SLICE("b", "IPv4", PORTS, "[" POD("10.0.0.0", "s-0", "u9", "") "]")),
        EVENT("MODIFIED", FIRST)}, "10.0.0.1:4317=s-0 ", "7"},
    {"the newest knows, whatever the family: not ready", {EVENT("ADDED", SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", "") "]")),
        EVENT("MODIFIED", SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", IS("\"ready\":false")) "]"))},
        "10.0.0.1:4317=s-0(no) ", "7"},
    {"and ready again", {EVENT("MODIFIED", SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", IS("\"ready\":false")) "]")),
        EVENT("ADDED", SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", "") "]"))},
        "10.0.0.1:4317=s-0 ", "7"},
    {"who ended does not come back by a slice that lags",
        {EVENT("ADDED", SLICE("b", "IPv6", PORTS, "[" POD("fd00::1", "s-0", "u0", "") "]")),
            EVENT("MODIFIED", SLICE("a", "IPv4", PORTS, "[" POD("10.0.0.1", "s-0", "u0", IS("\"ready\":false,\"terminating\":true")) "]")),
            EVENT("MODIFIED", SLICE("a", "IPv4", PORTS, "null"))},
        "[fd00::1]:4317=s-0(end) ", "7"},
    {"who went and was unknown", {EVENT("DELETED", SLICE("zzz", "IPv4", PORTS, "null"))}, "10.0.0.1:4317=s-0 ", "7"},
    {"a bookmark", {EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"99\"}}")}, "10.0.0.1:4317=s-0 ", "99"},
    {"a kind of event from the future", {EVENT("NEWS", "{\"metadata\":{\"resourceVersion\":\"98\"}}")}, "10.0.0.1:4317=s-0 ", "98"},
};

static void test_streams(void **state)
{
    const struct k8s_selection want = selection(NULL, 0, false);

    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        struct k8s_addresses addresses;
        struct k8s_event event = {0};
        struct k8s_slices slices;
        char version[K8S_VERSION_SIZE];

        k8s_slices_init(&slices, &want);
        assert_int_equal(k8s_slices_list(&slices, bytes_of(LIST(FIRST)), version), 0);
        for (size_t k = 0; k < 4 && streams[i].events[k]; k++)
            assert_int_equal(k8s_slices_event(&slices, bytes_of(streams[i].events[k]), &event), 0);
        assert_int_equal(k8s_slices_addresses(&slices, &addresses), 0);
        if (strcmp(text_of(&addresses), streams[i].list) != 0 || strcmp(event.version, streams[i].version) != 0)
            fail_msg("%s: got \"%s\" version %s", streams[i].what, text_of(&addresses), event.version);
        k8s_addresses_deinit(&addresses);
        k8s_slices_deinit(&slices);
    }
}

/* What the server says against a watch or a request is read whole. */
static void test_status(void **state)
{
    static const char gone[] = "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"too old resource version: 300 (830)\","
                               "\"reason\":\"Expired\",\"code\":410,\"details\":{\"retryAfterSeconds\":3}}";
    const struct k8s_selection want = selection(NULL, 0, false);
    struct k8s_slices slices;
    struct k8s_event event;
    struct k8s_status status;
    char line[512];

    (void)state;
    k8s_slices_init(&slices, &want);
    (void)snprintf(line, sizeof(line), EVENT("ERROR", "%s"), gone);
    assert_int_equal(k8s_slices_event(&slices, bytes_of(line), &event), 0);
    assert_int_equal(event.kind, K8S_EVENT_ERROR);
    assert_int_equal(event.status.code, 410);
    assert_int_equal(event.status.retry_after_s, 3);
    assert_string_equal(event.status.reason, "Expired");
    assert_true(k8s_status_read(bytes_of(gone), &status));
    assert_string_equal(status.message, "too old resource version: 300 (830)");
    assert_false(k8s_status_read(bytes_of("{\"kind\":\"Pod\"}"), &status));
    assert_false(k8s_status_read(bytes_of("<html>"), &status));
    k8s_slices_deinit(&slices);
}

/* What no API server says is refused, and changes nothing. */
static void test_garbage(void **state)
{
    static const char *const bad_lists[] = {"", "{", "[]", "7", "null", "{}", "{\"items\":[]}", "{\"metadata\":{},\"items\":{}}",
        "{\"metadata\":{\"continue\":\"x\"},\"items\":[]}", LIST("7"), LIST("{}"), LIST("{\"metadata\":{\"name\":\"\"}}"),
        LIST(FIRST ",{\"metadata\":{\"name\":\"x\"},\"endpoints\":7}"), LIST("{\"metadata\":{\"name\":\"x\"},\"ports\":{}}")};
    static const char *const bad_lines[] = {"", "{}", "{\"type\":\"ADDED\"}", EVENT("ADDED", "{}"), EVENT("DELETED", "{}"), EVENT("ERROR", "{}"),
        EVENT("ADDED", "{\"metadata\":{\"name\":7}}"), "{\"type\":7,\"object\":{}}", "\xff\xfe"};
    const struct k8s_selection want = selection(NULL, 0, false);
    struct k8s_addresses addresses;
    struct k8s_slices slices;
    struct k8s_event event;
    char version[K8S_VERSION_SIZE];

    (void)state;
    k8s_slices_init(&slices, &want);
    assert_int_equal(k8s_slices_list(&slices, bytes_of(LIST(FIRST)), version), 0);
    for (size_t i = 0; i < sizeof(bad_lists) / sizeof(bad_lists[0]); i++) {
        if (k8s_slices_list(&slices, bytes_of(bad_lists[i]), version) != K8S_E_GARBAGE)
            fail_msg("taken for a list: %s", bad_lists[i]);
    }
    for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
        if (k8s_slices_event(&slices, bytes_of(bad_lines[i]), &event) != K8S_E_GARBAGE)
            fail_msg("taken for an event: %s", bad_lines[i]);
    }
    assert_int_equal(k8s_slices_addresses(&slices, &addresses), 0);
    assert_string_equal(text_of(&addresses), "10.0.0.1:4317=s-0 ");
    k8s_addresses_deinit(&addresses);
    k8s_slices_deinit(&slices);
}

/* What there is has a bound, and what is above it changes nothing. */
static void test_too_many(void **state)
{
    const struct k8s_selection want = selection(NULL, 0, false);
    struct k8s_slices slices;
    struct k8s_event event;
    char line[256];

    (void)state;
    k8s_slices_init(&slices, &want);
    for (unsigned i = 0; i <= K8S_SLICES_MAX; i++) {
        (void)snprintf(line, sizeof(line), EVENT("ADDED", "{\"metadata\":{\"name\":\"s%u\"},\"addressType\":\"IPv4\"}"), i);
        assert_int_equal(k8s_slices_event(&slices, bytes_of(line), &event), i < K8S_SLICES_MAX ? 0 : K8S_E_TOO_MANY);
    }
    assert_int_equal(slices.slice_count, K8S_SLICES_MAX);
    k8s_slices_deinit(&slices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
