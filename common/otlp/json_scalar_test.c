/* What stands in JSON's strings and numbers is read to the exact value, as protobuf's JSON mapping says, or refused. */
#include "common/otlp/json_scalar.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/cleanup.h"

static const struct {
    const char *text;
    bool whole, negative;
    uint64_t magnitude;
} integer_cases[] = {
    {"0", true, false, 0},
    {"-0", true, true, 0},
    {"1", true, false, 1},
    {"-1", true, true, 1},
    {"007", true, false, 7},
    {"9999999999999999999", true, false, 9999999999999999999ull},
    {"18446744073709551615", true, false, UINT64_MAX},
    {"18446744073709551616", false, false, 0},
    {"-9223372036854775808", true, true, 1ull << 63},
    {"184467440737095516150", false, false, 0},
    {"1e3", true, false, 1000},
    {"1E+3", true, false, 1000},
    {"10.00e2", true, false, 1000},
    {"1.5e1", true, false, 15},
    {"1500e-2", true, false, 15},
    {"1501e-2", false, false, 0},
    {"1.0", true, false, 1},
    {"1.5", false, false, 0},
    {"1e19", true, false, 10000000000000000000ull},
    {"1e20", false, false, 0},
    {"1844674407370955161.5e1", true, false, UINT64_MAX},
    {"0e99999999999999999999", true, false, 0},
    {"1e99999999999999999999", false, false, 0},
    {"1e-99999999999999999999", false, false, 0},
    {"100000000000000000000000000000e-29", true, false, 1},
    {"0.000000000000000000000000000001e30", true, false, 1},
    {"", false, false, 0},
    {"-", false, false, 0},
    {"+1", false, false, 0},
    {" 1", false, false, 0},
    {"1 ", false, false, 0},
    {".5e1", false, false, 0},
    {"5.", false, false, 0},
    {"1e", false, false, 0},
    {"1e+", false, false, 0},
    {"0x10", false, false, 0},
    {"--1", false, false, 0},
    {"NaN", false, false, 0},
};

static void test_integers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(integer_cases); i++) {
        struct json_integer integer = {false, 0};
        bool whole = json_integer_read(slice_text(integer_cases[i].text), &integer);

        if (whole != integer_cases[i].whole || integer.magnitude != integer_cases[i].magnitude ||
            integer.negative != integer_cases[i].negative)
            fail_msg("%s: %d %d %llu", integer_cases[i].text, whole, integer.negative, (unsigned long long)integer.magnitude);
    }
}

static const struct {
    const char *text;
    bool good;
    double number;
} double_cases[] = {
    {"0", true, 0},
    {"1.5", true, 1.5},
    {"-2.5e-3", true, -2.5e-3},
    {"1e308", true, 1e308},
    {"1e309", false, 0},
    {"-1e309", false, 0},
    {"4.9e-324", true, 4.9e-324},
    {"1e-400", true, 0},
    {"0.10000000000000000000000000000000000000000000000000000000000000000000000000000000001", true, 0.1},
    {"Infinity", true, (double)INFINITY},
    {"-Infinity", true, -(double)INFINITY},
    {"inf", false, 0},
    {"nan", false, 0},
    {"0x1p3", false, 0},
    {"", false, 0},
    {"1,5", false, 0},
};

static void test_doubles(void **state)
{
    double number = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(double_cases); i++) {
        bool good;

        number = 0;
        good = json_double_read(slice_text(double_cases[i].text), &number);
        if (good != double_cases[i].good || memcmp(&number, &double_cases[i].number, sizeof(number)) != 0)
            fail_msg("%s: %d %.20g", double_cases[i].text, good, number);
    }
    assert_true(json_double_read(SLICE_LITERAL("NaN"), &number) && isnan(number));
}

static void test_hex(void **state)
{
    static const uint8_t expected[] = {0x00, 0x1f, 0xA9, 0xff};
    uint8_t out[4];

    (void)state;
    assert_true(json_hex_read(SLICE_LITERAL("001fa9Ff"), out));
    assert_memory_equal(out, expected, 4);
    assert_true(json_hex_read(SLICE_LITERAL(""), out));
    for (const char *const *bad = (const char *const[]){"0", "0g", "g0", "@0", "0`", "/0", ":0", " 0", NULL}; *bad; bad++) {
        if (json_hex_read(slice_text(*bad), out))
            fail_msg("%s is no hexadecimal", *bad);
    }
}

static const struct {
    const char *text, *bytes; /* NULL: refused */
} base64_cases[] = {
    {"", ""},
    {"Zg==", "f"},
    {"Zm8=", "fo"},
    {"Zm9v", "foo"},
    {"Zm9vYg==", "foob"},
    {"Zm9vYmE=", "fooba"},
    {"Zm9vYmFy", "foobar"},
    {"Zg", "f"},
    {"Zm8", "fo"},
    {"Zm9v\r\nYmFy\n", "foobar"},
    {"-_-_", "\xfb\xff\xbf"},
    {"+/+/", "\xfb\xff\xbf"},
    {"Z", NULL},
    {"Zm9vY", NULL},
    {"Zg=", NULL},
    {"Zg===", NULL},
    {"Zm9v====", NULL},
    {"=Zg=", NULL},
    {"Zg==Zg==", NULL},
    {"Z g=", NULL},
    {"Zm9!", NULL},
};

static void test_base64(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(base64_cases); i++) {
        struct slice text = slice_text(base64_cases[i].text);
        uint8_t *out = malloc(JSON_BASE64_BYTES(text.len)); /* exact: a sanitizer sees a byte too many */
        size_t len = 0;
        bool good;

        assert_non_null(out);
        good = json_base64_read(text, out, &len);
        if (good != (base64_cases[i].bytes != NULL) ||
            (good && !slice_equal(slice_make(out, len), slice_text(base64_cases[i].bytes))))
            fail_msg("%s: %d, %zu bytes", base64_cases[i].text, good, len);
        free(out);
    }
}

static const struct {
    const char *raw, *text;
} escape_cases[] = {
    {"plain", "plain"},
    {"\\b\\f\\n\\r\\t\\\"\\\\\\/", "\b\f\n\r\t\"\\/"},
    {"\\u0041\\u00e9\\u20ac", "A\xc3\xa9\xe2\x82\xac"},
    {"\\ud83d\\uDE00", "\xf0\x9f\x98\x80"},
    {"\\ud800", "\xef\xbf\xbd"},
    {"\\udc00", "\xef\xbf\xbd"},
    {"\\ud800x", "\xef\xbf\xbdx"},
    {"\\ud800\\n", "\xef\xbf\xbd\n"},
    {"\\ud800\\u0041", "\xef\xbf\xbd"
                       "A"},
    {"\\ud800\\ud800", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\\udc00\\ud800", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\\\\u0041", "\\u0041"},
};

static void test_escapes(void **state)
{
    uint8_t zero[6];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(escape_cases); i++) {
        struct slice raw = slice_text(escape_cases[i].raw);
        uint8_t *out = malloc(raw.len);
        size_t len;

        assert_non_null(out);
        len = json_unescape(raw, out);
        if (!slice_equal(slice_make(out, len), slice_text(escape_cases[i].text)))
            fail_msg("%s: %.*s", escape_cases[i].raw, (int)len, (const char *)out);
        free(out);
    }
    assert_int_equal(json_unescape(SLICE_LITERAL("\\u0000"), zero), 1);
    assert_int_equal(zero[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
