/* A duration means here what it means to the Collector, and one that is none is refused with the reason. */
#include "common/config/duration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/cleanup.h"

static const struct {
    const char *text;
    int r;
    int64_t ns;
} cases[] = {
    {"0", 0, 0},
    {"-0", 0, 0},
    {"+0", 0, 0},
    {"5s", 0, 5000000000},
    {"+5s", 0, 5000000000},
    {"-5s", 0, -5000000000},
    {"300ms", 0, 300000000},
    {"1.5h", 0, 5400000000000},
    {"1h2m3.5s", 0, 3723500000000},
    {"3s2h", 0, 7203000000000}, /* any order */
    {"1s1s", 0, 2000000000},
    {".5s", 0, 500000000},
    {"5.s", 0, 5000000000},
    {"-.5s", 0, -500000000},
    {"10us", 0, 10000},
    {"10\xc2\xb5s", 0, 10000},
    {"10\xce\xbcs", 0, 10000},
    {"7ns", 0, 7},
    {"1.9ns", 0, 1}, /* truncated */
    {"0.000000001s", 0, 1},
    {"0.3333333333333333333h", 0, 1200000000000},
    {"0.100000000000000000000h", 0, 360000000000}, /* more digits than fit */
    {"0.830103483285477580700h", 0, 2988372539827},
    {"00000000000000000000000001s", 0, 1000000000},
    {"2540400h10m10.000000000s", 0, 9145440610000000000},
    {"9223372036854775807ns", 0, INT64_MAX},
    {"-9223372036854775808ns", 0, INT64_MIN},
    {"-2562047h47m16.854775808s", 0, INT64_MIN},
    {"", DURATION_E_SYNTAX, 0},
    {"-", DURATION_E_SYNTAX, 0},
    {"s", DURATION_E_SYNTAX, 0},
    {".", DURATION_E_SYNTAX, 0},
    {".s", DURATION_E_SYNTAX, 0},
    {"-.s", DURATION_E_SYNTAX, 0},
    {"--5s", DURATION_E_SYNTAX, 0},
    {" 5s", DURATION_E_SYNTAX, 0},
    {"5s ", DURATION_E_SYNTAX, 0},
    {"5 s", DURATION_E_SYNTAX, 0},
    {"5S", DURATION_E_SYNTAX, 0},
    {"5d", DURATION_E_SYNTAX, 0},
    {"1e3s", DURATION_E_SYNTAX, 0},
    {"1.2.3s", DURATION_E_NO_UNIT, 0},
    {"10", DURATION_E_NO_UNIT, 0},
    {"1h10", DURATION_E_NO_UNIT, 0},
    {"00", DURATION_E_NO_UNIT, 0},
    {"9223372036854775808ns", DURATION_E_RANGE, 0},
    {"-9223372036854775809ns", DURATION_E_RANGE, 0},
    {"9223372036854775.808us", DURATION_E_RANGE, 0},
    {"2562048h", DURATION_E_RANGE, 0},
    {"3000000h", DURATION_E_RANGE, 0},
    {"18446744073709551616s", DURATION_E_RANGE, 0},
    {"-9223372036854775808ns9223372036854775808ns", DURATION_E_RANGE, 0}, /* their sum wraps to zero */
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int64_t ns = 0;
        int r = duration_parse(cases[i].text, strlen(cases[i].text), &ns);

        if (r != cases[i].r || ns != cases[i].ns)
            fail_msg("\"%s\": got %d, %lld ns; expected %d, %lld ns", cases[i].text, r, (long long)ns, cases[i].r,
                (long long)cases[i].ns);
    }
}

static const struct {
    int64_t ns;
    const char *text;
} spellings[] = {
    {0, "0s"},
    {1, "1ns"},
    {-1500, "-1.5us"},
    {300000000, "300ms"},
    {1000000000, "1s"},
    {90000000000, "1m30s"},
    {3600000000000, "1h"},
    {3723500000000, "1h2m3.5s"},
    {3600000000001, "1h0.000000001s"},
    {INT64_MAX, "2562047h47m16.854775807s"},
    {INT64_MIN, "-2562047h47m16.854775808s"},
};

/* As people and Go write them. */
static void test_spellings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(spellings); i++) {
        int64_t ns = 7;

        assert_int_equal(duration_parse(spellings[i].text, strlen(spellings[i].text), &ns), 0);
        assert_true(ns == spellings[i].ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_spellings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
