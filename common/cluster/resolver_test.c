/* Two spellings of an address become one, what is no address is refused, and the static resolver reports each
 * address once, sorted, at start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/cleanup.h"
#include "common/cluster/resolver.h"

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz." /* 63 characters */

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"sampler-0", "sampler-0:4317"},
        {"sampler-0:4317", "sampler-0:4317"},
        {"Sampler-0.Sampler.OBS:1", "sampler-0.sampler.obs:1"},
        {"host.:65535", "host.:65535"},
        {"_otlp._tcp.sampler", "_otlp._tcp.sampler:4317"},
        {"127.0.0.1", "127.0.0.1:4317"},
        {"127.0.0.1:05317", "127.0.0.1:5317"},
        {"::1", "[::1]:4317"},
        {"[::1]", "[::1]:4317"},
        {"[::1]:5317", "[::1]:5317"},
        {"2001:DB8:0:0::0001", "[2001:db8::1]:4317"},
        {"fe80::1%eth0", "[fe80::1%eth0]:4317"},
        {"[fe80::1%eth0]:80", "[fe80::1%eth0]:80"},
        {"::ffff:10.0.0.1", "[::ffff:10.0.0.1]:4317"},
        {"http://tempo:4317", "tempo:4317"},
        {"https://tempo", "tempo:4317"},
        {"dns:///tempo:4317", "tempo:4317"},
        {LABEL LABEL LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy",
            LABEL LABEL LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy:4317"},
        {NULL, NULL},
        {"", NULL},
        {":4317", NULL},
        {"http://", NULL},
        {"host:", NULL},
        {"host:0", NULL},
        {"host:65536", NULL},
        {"host:4294971613", NULL}, /* 4317 + 2^32 */
        {"host:+80", NULL},
        {"host:80x", NULL},
        {"host: 80", NULL},
        {" host", NULL},
        {"host/path", NULL},
        {"unix:/run/socket", NULL},
        {"ho st", NULL},
        {"host\n", NULL},
        {"h\xc3\xb6st", NULL},
        {"a..b", NULL},
        {".a", NULL},
        {"-a", NULL},
        {"a,b", NULL},
        {"1:2:3", NULL},
        {"::1::2", NULL},
        {"[::1", NULL},
        {"[::1]4317", NULL},
        {"[::1]:", NULL},
        {"[]:4317", NULL},
        {"[host]:4317", NULL},
        {"[127.0.0.1]:4317", NULL},
        {"fe80::1%", NULL},
        {"fe80::1%e]x", NULL},
        {LABEL LABEL LABEL LABEL "ab", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char address[264] = "untouched", again[264];
        bool ok = resolver_address(cases[i].text, 4317, address, sizeof(address));

        if (ok != (cases[i].want != NULL) || strcmp(address, ok ? cases[i].want : "untouched") != 0)
            fail_msg("%s: %s", cases[i].text ? cases[i].text : "NULL", address);
        if (ok && (!resolver_address(address, 1, again, sizeof(again)) || strcmp(address, again) != 0))
            fail_msg("%s does not stay as it is", address);
    }
}

static void test_an_address_that_does_not_fit_is_refused(void **state)
{
    char address[sizeof("sampler-0:4317")];

    (void)state;
    assert_true(resolver_address("sampler-0", 4317, address, sizeof(address)));
    assert_false(resolver_address("sampler-0", 4317, address, sizeof(address) - 1));
    assert_false(resolver_address("sampler-0", 4317, address, 0));
}

struct reported {
    unsigned calls, failures;
    size_t count;
    struct resolved_address addresses[8];
};

static void on_resolved(void *context, const struct resolved_address *addresses, size_t count)
{
    struct reported *reported = context;

    reported->calls++;
    reported->count = count;
    assert_in_range(count, 1, ARRAY_COUNT(reported->addresses));
    memcpy(reported->addresses, addresses, count * sizeof(*addresses));
}

static void on_failed(void *context, const char *reason)
{
    struct reported *reported = context;

    (void)reason;
    reported->failures++;
}

static void test_static_reports_once_at_start(void **state)
{
    static const char *const hostnames[] = {"b:1", "sampler-1", "SAMPLER-1:4317", "::1", "a", "[::1]:4317", "b:1"};
    static const char *const want[] = {"[::1]:4317", "a:4317", "b:1", "sampler-1:4317"};
    struct reported reported = {0};
    struct resolver_events events = {&reported, on_resolved, on_failed, NULL};
    struct resolver *resolver = NULL;

    (void)state;
    assert_int_equal(resolver_static_new(hostnames, ARRAY_COUNT(hostnames), &events, &resolver), 0);
    assert_int_equal(reported.calls, 0);
    assert_string_equal(resolver->ops->name, "static");
    resolver_start(resolver);
    assert_int_equal(reported.calls, 1);
    assert_int_equal(reported.failures, 0);
    assert_int_equal(reported.count, ARRAY_COUNT(want));
    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        assert_string_equal(reported.addresses[i].address, want[i]);
        assert_true(reported.addresses[i].ready);
    }
    resolver_free(resolver);
    assert_int_equal(reported.calls, 1); /* differs from the Collector: the end empties no ring */
    resolver_free(NULL);
}

static void test_static_refuses_at_creation(void **state)
{
    static const char *const hostnames[] = {"a", "b:x"};
    struct reported reported = {0};
    struct resolver_events events = {&reported, on_resolved, on_failed, NULL};
    struct resolver *resolver = NULL;

    (void)state;
    assert_int_equal(resolver_static_new(hostnames, 0, &events, &resolver), RESOLVER_E_NO_ADDRESS);
    assert_int_equal(resolver_static_new(hostnames, 2, &events, &resolver), RESOLVER_E_BAD_ADDRESS);
    assert_null(resolver);
    assert_int_equal(reported.calls + reported.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_an_address_that_does_not_fit_is_refused),
        cmocka_unit_test(test_static_reports_once_at_start),
        cmocka_unit_test(test_static_refuses_at_creation),
    };

    return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
