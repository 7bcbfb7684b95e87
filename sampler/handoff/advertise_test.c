/* A sampler that listens on one address is reached there; one that listens on every address, by one of the machine's. */
#include "sampler/handoff/advertise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_own(void **state)
{
    static const struct {
        const char *endpoint, *address;
    } cases[] = {
        {"10.1.2.3:4317", "10.1.2.3:7"},
        {"127.0.0.2:0", "127.0.0.2:7"},
        {"[fd00::1]:4317", "[fd00::1]:7"},
        {"localhost:4317", "localhost:7"},
        {"sampler-0.samplers:4317", "sampler-0.samplers:7"},
    };
    char address[64];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(advertise_address(cases[i].endpoint, 7, address, sizeof(address)));
        assert_string_equal(address, cases[i].address);
    }
    assert_false(advertise_address("10.1.2.3:4317", 4317, address, 10));
}

static void test_every(void **state)
{
    static const char *const every[] = {"0.0.0.0:4317", "[::]:4317", ":4317"};
    char address[64];

    (void)state;
    for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++) {
        assert_true(advertise_address(every[i], 4317, address, sizeof(address)));
        assert_string_equal(strrchr(address, ':'), ":4317");
        assert_null(strstr(address, "0.0.0.0"));
        assert_null(strstr(address, "[::]"));
        assert_true(strlen(address) > strlen(":4317"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own), cmocka_unit_test(test_every)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
