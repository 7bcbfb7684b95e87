/* A client is told what to do in its own format: the status says whether to send again, the body is what OTLP defines. */
#include "common/ingest/http_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/num.h"
#include "common/otlp/rpc_status.h"

static void codes_become_statuses(void **state)
{
    /* By gRPC code; RESOURCE_EXHAUSTED is 429 with a delay, 413 without. Source: reference of OTLP, gRPC code to HTTP status. */
    static const int want[] = {0, 503, 500, 400, 503, 500, 500, 403, 413, 500, 503, 503, 404, 500, 503, 503, 401};

    (void)state;
    for (int code = 1; code <= 16; code++) {
        struct answer_status status = {code, 0, "x"};

        if (http_status_of(&status) != want[code])
            fail_msg("code %d: %d", code, http_status_of(&status));
    }
    assert_int_equal(http_status_of(&(struct answer_status){8, 1, "x"}), 429);
    assert_int_equal(http_status_of(&(struct answer_status){99, 0, "x"}), 500);
}

static void delays_are_whole_seconds(void **state)
{
    static const struct {
        int status;
        uint64_t ns, want_s;
    } cases[] = {
        {503, 0, 1}, {503, 1, 1}, {503, NS_PER_S, 1}, {503, NS_PER_S + 1, 2}, {429, 200 * NS_PER_MS, 1}, {429, 90 * NS_PER_S, 90},
        {200, NS_PER_S, 0}, {400, NS_PER_S, 0}, {413, NS_PER_S, 0}, {500, NS_PER_S, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (http_retry_after_s(cases[i].status, cases[i].ns) != cases[i].want_s)
            fail_msg("%d with %llu ns", cases[i].status, (unsigned long long)cases[i].ns);
    }
}

static void expect(struct buffer *got, const char *want)
{
    assert_non_null(got);
    if (!slice_equal(buffer_slice(got), slice_text(want)))
        fail_msg("got %.*s, want %s", (int)got->len, (const char *)got->bytes, want);
    buffer_unref(got);
}

static void bodies_have_their_format(void **state)
{
    const struct answer_status plain = {3, 0, "a \"bad\"\nrequest \xff"}, later = {14, 1200 * NS_PER_MS, "busy"}, soon = {8, 5 * NS_PER_S, ""};
    const struct answer_status odd = {14, 1, "x"};
    struct buffer *bytes;
    struct slice message;
    uint64_t number;

    (void)state;
    expect(http_refusal_body(HTTP_JSON, &plain), "{\"code\":3,\"message\":\"a \\\"bad\\\"\\nrequest \xef\xbf\xbd\"}");
    expect(http_refusal_body(HTTP_JSON, &later),
        "{\"code\":14,\"message\":\"busy\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1.200s\"}]}");
    expect(http_refusal_body(HTTP_JSON, &soon),
        "{\"code\":8,\"message\":\"\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"5s\"}]}");
    expect(http_refusal_body(HTTP_JSON, &odd),
        "{\"code\":14,\"message\":\"x\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"0.000000001s\"}]}");
    expect(http_refusal_body(HTTP_TEXT, &later), "busy\n");
    bytes = http_refusal_body(HTTP_PROTOBUF, &later);
    assert_true(rpc_status_retry(buffer_slice(bytes), &number));
    assert_true(number == later.retry_ns);
    buffer_unref(bytes);
    bytes = http_refusal_body(HTTP_PROTOBUF, &plain);
    assert_false(rpc_status_retry(buffer_slice(bytes), &number));
    buffer_unref(bytes);

    expect(http_success_body(HTTP_PROTOBUF, 0, ""), "");
    expect(http_success_body(HTTP_JSON, 0, ""), "{}");
    expect(http_success_body(HTTP_JSON, 3, "too old"), "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"too old\"}}");
    expect(http_success_body(HTTP_PROTOBUF, 3, "too old"), "\x0a\x0b\x08\x03\x12\x07too old");
    bytes = http_success_body(HTTP_PROTOBUF, UINT64_MAX, "x");
    assert_true(partial_success_read(buffer_slice(bytes), &number, &message));
    assert_true(number == UINT64_MAX);
    buffer_unref(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_become_statuses),
        cmocka_unit_test(delays_are_whole_seconds),
        cmocka_unit_test(bodies_have_their_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
