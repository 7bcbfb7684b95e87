/* A request in JSON becomes the bytes that protobuf would have written, field by field, and what is not such a request
 * is refused with its place. The whole against protobuf's own JSON reader: tests/peers/replay. */
#include "common/otlp/otlp_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"

#define SPAN(text) "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" text "}]}]}]}"
#define VALUE(text) "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"value\":{" text "}}]}}]}"

struct read_case {
    const char *json;
    const char *hex; /* of the innermost message that the macro leaves open; of the request when whole */
};

/* What stands before the content when each of these messages is shorter than 128 bytes. */
static size_t unwrap(struct slice *bytes, const char *json)
{
    size_t levels = 0;

    if (strstr(json, "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{") == json)
        levels = 3;
    if (strstr(json, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"value\":{") == json)
        levels = 4;
    for (size_t i = 0; i < levels; i++) {
        assert_true(bytes->len >= 2 && bytes->at[1] < 0x80 && bytes->at[1] == bytes->len - 2);
        *bytes = slice_make(bytes->at + 2, bytes->len - 2);
    }
    return levels;
}

static const struct read_case read_cases[] = {
    {"{}", ""},
    {" \n{ } \t", ""},
    {"\xef\xbb\xbf{}", ""},
    {"{\"resourceSpans\":null}", ""},
    {"{\"resourceSpans\":[]}", ""},
    {"{\"resourceSpans\":[{}]}", "0a00"},
    {"{\"resource_spans\":[{}]}", "0a00"},
    {"{\"resourceSpans\":[null,{}]}", "0a000a00"},
    {"{\"resourceSpans\":[{\"schemaUrl\":\"s\"}]}", "0a031a0173"},
    {"{\"unknown\":{\"a\":[1,{\"b\":null}],\"c\":[[]]},\"other\":[true,\"x\",1e400]}", ""},
    {"{\"resourceSpans\":[{\"resource\":{\"droppedAttributesCount\":3,\"entityRefs\":[{\"type\":\"t\",\"idKeys\":[\"a\",\"\"]}]}}]}",
        "0a0e0a0c10031a081201741a01611a00"},
    {"{\"resourceSpans\":[{\"scopeSpans\":[{\"scope\":{\"name\":\"n\",\"version\":\"v\",\"droppedAttributesCount\":\"1\"},"
     "\"schemaUrl\":\"u\"}]}]}",
        "0a0f120d0a080a016e12017620011a0175"},
    /* a span's own fields */
    {SPAN(""), ""},
    {SPAN("\"traceId\":\"00112233445566778899aabbccddeeff\""), "0a1000112233445566778899aabbccddeeff"},
    {SPAN("\"traceId\":\"00112233445566778899AABBCCDDEEFF\",\"spanId\":\"0102030405060708\""),
        "0a1000112233445566778899aabbccddeeff12080102030405060708"},
    {SPAN("\"traceId\":\"\",\"spanId\":\"01\""), "120101"},
    {SPAN("\"trace\\u0049d\":\"\\u0030a\""), "0a010a"},
    {SPAN("\"parent_span_id\":\"0102030405060708\",\"traceState\":\"a=b\",\"flags\":257"), "220801020304050607081a03613d62850101010000"},
    {SPAN("\"name\":\"x\",\"kind\":2"), "2a01783002"},
    {SPAN("\"kind\":\"SPAN_KIND_CONSUMER\""), "3005"},
    {SPAN("\"kind\":0,\"name\":\"\",\"flags\":0,\"startTimeUnixNano\":\"0\""), ""},
    {SPAN("\"kind\":-1"), "30ffffffffffffffffff01"},
    {SPAN("\"kind\":1000"), "30e807"},
    {SPAN("\"startTimeUnixNano\":\"1\",\"endTimeUnixNano\":18446744073709551615"), "39010000000000000041ffffffffffffffff"},
    {SPAN("\"startTimeUnixNano\":1e3"), "39e803000000000000"},
    {SPAN("\"droppedAttributesCount\":1,\"droppedEventsCount\":\"2\",\"droppedLinksCount\":4294967295"), "5001600270ffffffff0f"},
    {SPAN("\"status\":{}"), "7a00"},
    {SPAN("\"status\":{\"code\":2,\"message\":\"m\"}"), "7a05180212016d"},
    {SPAN("\"status\":{\"code\":\"STATUS_CODE_ERROR\"}"), "7a021802"},
    {SPAN("\"status\":null,\"attributes\":null,\"name\":null,\"kind\":null,\"traceId\":null"), ""},
    {SPAN("\"events\":[{\"timeUnixNano\":\"1\",\"name\":\"e\",\"droppedAttributesCount\":1,\"attributes\":[{\"key\":\"k\"}]}]"),
        "5a1309010000000000000012016520011a030a016b"},
    {SPAN("\"links\":[{\"traceId\":\"0a\",\"spanId\":\"0b\",\"traceState\":\"t\",\"flags\":1,\"droppedAttributesCount\":9}]"),
        "6a100a010a12010b1a017435010000002809"},
    {SPAN("\"attributes\":[null]"), "4a00"},
    /* keys that occur again */
    {SPAN("\"name\":\"x\",\"name\":\"\""), "2a01782a00"},
    {SPAN("\"kind\":1,\"kind\":0"), "30013000"},
    {SPAN("\"attributes\":[{\"key\":\"a\"}],\"attributes\":[{\"key\":\"b\"}]"), "4a030a01614a030a0162"},
    /* values */
    {VALUE(""), ""},
    {VALUE("\"stringValue\":\"\""), "0a00"},
    {VALUE("\"stringValue\":\"a\\nb\\ud800\\u0000\\\"\\\\\""), "0a09610a62efbfbd00225c"},
    {VALUE("\"stringValue\":\"\\\\\\\"\""), "0a025c22"},
    {VALUE("\"stringValue\":\"\xff\xc3\""), "0a02ffc3"},
    {VALUE("\"boolValue\":false"), "1000"},
    {VALUE("\"boolValue\":true"), "1001"},
    {VALUE("\"intValue\":0"), "1800"},
    {VALUE("\"intValue\":\"-1\""), "18ffffffffffffffffff01"},
    {VALUE("\"intValue\":\"9223372036854775807\""), "18ffffffffffffffff7f"},
    {VALUE("\"intValue\":-9223372036854775808"), "1880808080808080808001"},
    {VALUE("\"doubleValue\":0"), "210000000000000000"},
    {VALUE("\"doubleValue\":-1.5"), "21000000000000f8bf"},
    {VALUE("\"doubleValue\":\"Infinity\""), "21000000000000f07f"},
    {VALUE("\"doubleValue\":\"2\""), "210000000000000040"},
    {VALUE("\"bytesValue\":\"AAH/\""), "3a030001ff"},
    {VALUE("\"bytesValue\":\"\""), "3a00"},
    {VALUE("\"arrayValue\":{}"), "2a00"},
    {VALUE("\"arrayValue\":{\"values\":[{\"intValue\":1},{},null,{\"arrayValue\":{\"values\":[{\"boolValue\":true}]}}]}"),
        "2a100a0218010a000a000a062a040a021001"},
    {VALUE("\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"}}]}"), "320a0a080a016b12030a0176"},
    {VALUE("\"intValue\":1,\"stringValue\":\"x\""), "0a0178"},
    {VALUE("\"arrayValue\":{\"values\":[{}]},\"arrayValue\":{\"values\":[{\"intValue\":\"2\"}]}"), "2a040a021802"},
    {VALUE("\"stringValue\":\"x\",\"intValue\":null"), "0a0178"},
};

static char *hex_of(struct slice bytes)
{
    char *text = calloc(2, bytes.len + 1);

    assert_non_null(text);
    for (size_t i = 0; i < bytes.len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes.at[i]);
    return text;
}

/* A copy of the exact size: a sanitizer sees a read past its end. */
static int read_exact(struct otlp_json *reader, const char *json, size_t max_bytes, struct buffer **out_request, char *error, size_t size)
{
    size_t len = strlen(json);
    uint8_t *copy = malloc(len > 0 ? len : 1);
    int r;

    assert_non_null(copy);
    memcpy(copy, json, len);
    r = otlp_json_read(reader, slice_make(copy, len), max_bytes, out_request, error, size);
    free(copy);
    return r;
}

static void test_read(void **state)
{
    struct otlp_json *reader = otlp_json_new();

    (void)state;
    assert_non_null(reader);
    for (size_t i = 0; i < ARRAY_COUNT(read_cases); i++) {
        struct buffer *request = NULL;
        char error[200] = "";
        struct slice bytes;
        char *hex;

        if (read_exact(reader, read_cases[i].json, 1 << 20, &request, error, sizeof(error)))
            fail_msg("%s: %s", read_cases[i].json, error);
        bytes = buffer_slice(request);
        unwrap(&bytes, read_cases[i].json);
        hex = hex_of(bytes);
        if (strcmp(hex, read_cases[i].hex) != 0)
            fail_msg("%s:\n%s, expected\n%s", read_cases[i].json, hex, read_cases[i].hex);
        free(hex);
        buffer_unref(request);
    }
    otlp_json_free(reader);
}

static const struct {
    const char *json, *error;
} bad_cases[] = {
    {"", "line 1, column 1: parse error: premature EOF"},
    {"{\"resourceSpans\":[", "line 1, column 19: parse error: premature EOF"},
    {"{}{}", "line 1, column 4: parse error: trailing garbage"},
    {"{} x", "line 1, column 5: parse error: trailing garbage"},
    {"[]", "line 1, column 1: a list where the request's object belongs"},
    {"null", "line 1, column 1: null where the request's object belongs"},
    {"\"x\"", "line 1, column 1: a string where the request's object belongs"},
    {"{\"resourceSpans\":{}}", "line 1, column 18: resourceSpans: an object where a list belongs"},
    {"{\"resourceSpans\":1}", "line 1, column 18: resourceSpans: a number where it does not belong"},
    {"{\"resourceSpans\":\"\"}", "line 1, column 18: resourceSpans: a string where a list belongs"},
    {"{\n \"resourceSpans\": [\n  7]}", "line 3, column 3: resourceSpans: a number where it does not belong"},
    {"{\"resourceSpans\":[[]]}", "line 1, column 19: resourceSpans: a list where none belongs"},
    {"{\"resourceSpans\":[true]}", "line 1, column 19: resourceSpans: true or false where it does not belong"},
    {SPAN("\"traceId\":\"0\""), "traceId: not hexadecimal"},
    {SPAN("\"traceId\":\"zz\""), "traceId: not hexadecimal"},
    {SPAN("\"traceId\":1"), "traceId: a number where it does not belong"},
    {SPAN("\"name\":1"), "name: a number where it does not belong"},
    {SPAN("\"name\":{}"), "name: an object where a value belongs"},
    {SPAN("\"name\":[]"), "name: a list where none belongs"},
    {SPAN("\"name\":\"a\tb\""), "lexical error: invalid character inside string."},
    {SPAN("\"name\":\"\\x\""), "lexical error: inside a string"},
    {SPAN("\"kind\":\"SERVER\""), "kind: no such name"},
    {SPAN("\"kind\":2147483648"), "kind: out of range"},
    {SPAN("\"kind\":1.5"), "kind: not a whole number"},
    {SPAN("\"kind\":true"), "kind: true or false where it does not belong"},
    {SPAN("\"flags\":4294967296"), "flags: out of range"},
    {SPAN("\"flags\":-1"), "flags: out of range"},
    {SPAN("\"startTimeUnixNano\":\"\""), "startTimeUnixNano: not a whole number"},
    {SPAN("\"startTimeUnixNano\":-1"), "startTimeUnixNano: out of range"},
    {SPAN("\"startTimeUnixNano\":1.5"), "startTimeUnixNano: not a whole number"},
    {SPAN("\"start_time_unix_nano\":\"x\""), "startTimeUnixNano: not a whole number"},
    {SPAN("\"status\":[]"), "status: a list where none belongs"},
    {SPAN("\"status\":2"), "status: a number where it does not belong"},
    {VALUE("\"boolValue\":\"true\""), "boolValue: a string where it does not belong"},
    {VALUE("\"boolValue\":1"), "boolValue: a number where it does not belong"},
    {VALUE("\"intValue\":9223372036854775808"), "intValue: out of range"},
    {VALUE("\"intValue\":-9223372036854775809"), "intValue: out of range"},
    {VALUE("\"doubleValue\":1e999"), "doubleValue: not a number that a double holds"},
    {VALUE("\"doubleValue\":\"inf\""), "doubleValue: not a number that a double holds"},
    {VALUE("\"bytesValue\":\"A\""), "bytesValue: not base64"},
    {"{\"resourceSpans\":[{\"resource\":{\"entityRefs\":[{\"idKeys\":[null]}]}}]}", "idKeys: null in a list"},
    {"{\"resourceSpans\":[{\"resource\":{\"entityRefs\":[{\"idKeys\":\"a\"}]}}]}", "idKeys: a string where a list belongs"},
};

static void test_bad(void **state)
{
    struct otlp_json *reader = otlp_json_new();

    (void)state;
    assert_non_null(reader);
    for (size_t i = 0; i < ARRAY_COUNT(bad_cases); i++) {
        struct buffer *request = NULL;
        char error[200] = "";

        if (read_exact(reader, bad_cases[i].json, 1 << 20, &request, error, sizeof(error)) != OTLP_JSON_E_MALFORMED)
            fail_msg("%s: taken", bad_cases[i].json);
        assert_null(request);
        if (strncmp(error, "line ", 5) != 0 || !strstr(error, bad_cases[i].error))
            fail_msg("%s:\n%s, expected\n%s", bad_cases[i].json, error, bad_cases[i].error);
    }
    otlp_json_free(reader);
}

/* n times a, then b, then n times c. */
static char *nested(size_t count, const char *before, const char *inner, const char *after)
{
    char *text = malloc(count * (strlen(before) + strlen(after)) + strlen(inner) + 1), *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, before);
    at = stpcpy(at, inner);
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, after);
    return text;
}

static int read_nested(struct otlp_json *reader, const char *before, char *text, const char *after)
{
    char *json = malloc(strlen(before) + strlen(text) + strlen(after) + 1), error[200] = "";
    struct buffer *request = NULL;
    int r;

    assert_non_null(json);
    stpcpy(stpcpy(stpcpy(json, before), text), after);
    r = otlp_json_read(reader, slice_text(json), 1 << 20, &request, error, sizeof(error));
    if (r == OTLP_JSON_E_MALFORMED)
        assert_non_null(strstr(error, "nested too deep"));
    buffer_unref(request);
    free(json);
    free(text);
    return r;
}

static void test_depth(void **state)
{
    static const char before[] = "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"value\":", after[] = "}]}}]}";
    static const char array[] = "{\"arrayValue\":{\"values\":[";
    struct otlp_json *reader = otlp_json_new();

    (void)state;
    assert_non_null(reader);
    assert_int_equal(read_nested(reader, "{\"x\":", nested(OTLP_JSON_DEPTH_MAX - 1, "[", "", "]"), "}"), 0);
    assert_int_equal(read_nested(reader, "{\"x\":", nested(OTLP_JSON_DEPTH_MAX, "[", "", "]"), "}"), OTLP_JSON_E_MALFORMED);
    assert_int_equal(read_nested(reader, "{\"x\":", nested(100000, "{\"a\":[", "", "]}"), "}"), OTLP_JSON_E_MALFORMED);
    assert_int_equal(read_nested(reader, before, nested(VALUE_DEPTH_MAX - 1, array, "{}", "]}}"), after), 0);
    assert_int_equal(read_nested(reader, before, nested(VALUE_DEPTH_MAX, array, "{}", "]}}"), after), OTLP_JSON_E_MALFORMED);
    otlp_json_free(reader);
}

/* Lengths of one, two and three bytes, whatever was kept free for them. */
static void test_lengths(void **state)
{
    static const size_t lengths[] = {0, 1, 100, 120, 126, 127, 128, 129, 16300, 16370, 16383, 16384, 16385, 100000, 3000000};
    struct otlp_json *reader = otlp_json_new();

    (void)state;
    assert_non_null(reader);
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        char *name = malloc(lengths[i] + 1), *json, error[200] = "";
        struct buffer *request = NULL;
        struct span_walk walk;
        struct span_ref span;
        struct span_view view;

        assert_non_null(name);
        memset(name, 'n', lengths[i]);
        name[lengths[i]] = '\0';
        assert_true(asprintf(&json, SPAN("\"traceId\":\"%032d\",\"spanId\":\"%016d\",\"name\":\"%s\","
                                         "\"attributes\":[{\"key\":\"%s\",\"value\":{\"stringValue\":\"%s\"}}]"),
                        1, 1, name, name, name) > 0);
        assert_int_equal(otlp_json_read(reader, slice_text(json), 16 << 20, &request, error, sizeof(error)), 0);
        span_walk_init(&walk, buffer_slice(request));
        assert_true(span_walk_next(&walk, &span));
        assert_int_equal(span.fault, SPAN_OK);
        assert_true(span_view_read(span.bytes, NULL, NULL, &view));
        assert_int_equal(view.name.len, lengths[i]);
        assert_false(span_walk_next(&walk, &span));
        assert_false(walk.bad);
        buffer_unref(request);
        free(json);
        free(name);
    }
    otlp_json_free(reader);
}

static void test_max_bytes(void **state)
{
    static const char json[] = SPAN("\"name\":\"0123456789\"");
    struct otlp_json *reader = otlp_json_new();
    struct buffer *request = NULL;
    char error[200];

    (void)state;
    assert_non_null(reader);
    assert_int_equal(otlp_json_read(reader, slice_text(json), 17, &request, error, sizeof(error)), OTLP_JSON_E_TOO_LARGE);
    assert_null(request);
    assert_int_equal(otlp_json_read(reader, slice_text(json), 18, &request, error, sizeof(error)), 0);
    assert_int_equal(request->len, 18);
    buffer_unref(request);
    otlp_json_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_max_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
