/* An HTTP answer tells an exporter whether to try again, when, and in whose words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/num.h"
#include "common/export/http_answer.h"
#include "common/export/retry.h"
#include "common/export/rpc_code.h"
#include "common/otlp/rpc_status.h"

#define NOW (1700000000 * NS_PER_S) /* Tue, 14 Nov 2023 22:13:20 GMT */

static void test_codes(void **state)
{
    static const struct {
        int status;
        int code;
        bool again, too_large;
    } cases[] = {
        {200, RPC_OK, false, false}, {202, RPC_OK, false, false}, {204, RPC_OK, false, false},
        {301, RPC_UNKNOWN, false, false}, {400, RPC_INVALID_ARGUMENT, false, false}, {401, RPC_UNAUTHENTICATED, false, false},
        {403, RPC_PERMISSION_DENIED, false, false}, {404, RPC_UNIMPLEMENTED, false, false}, {408, RPC_UNKNOWN, false, false},
        {413, RPC_RESOURCE_EXHAUSTED, false, true}, {415, RPC_UNIMPLEMENTED, false, false}, {418, RPC_UNKNOWN, false, false},
        {429, RPC_UNAVAILABLE, true, false}, {500, RPC_INTERNAL, false, false}, {501, RPC_UNKNOWN, false, false},
        {502, RPC_UNAVAILABLE, true, false}, {503, RPC_UNAVAILABLE, true, false}, {504, RPC_UNAVAILABLE, true, false},
        {599, RPC_UNKNOWN, false, false}, {0, RPC_UNKNOWN, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_answer answer = {.status = cases[i].status};
        char message[HTTP_MESSAGE_MAX];
        struct link_result result;

        http_answer_read(&answer, NOW, &result, message);
        if (result.code != cases[i].code || result.too_large != cases[i].too_large || result.has_retry)
            fail_msg("%d: code %d", cases[i].status, result.code);
        if (result.code != RPC_OK && retry_is_retryable(result.code, false) != cases[i].again)
            fail_msg("%d: tried again or not", cases[i].status);
    }
}

static void test_retry_after(void **state)
{
    static const struct {
        const char *text;
        bool valid;
        uint64_t seconds;
    } cases[] = {
        {"0", true, 0}, {"7", true, 7}, {"86400", true, 86400}, {"99999999999999999999999", true, 86400},
        {"Tue, 14 Nov 2023 22:13:50 GMT", true, 30}, {"Tue, 14 Nov 2023 22:00:00 GMT", true, 0},
        {"Wed, 15 Nov 2028 22:13:20 GMT", true, 86400}, {"Thu, 01 Jan 1960 00:00:00 GMT", true, 0},
        {"", false, 0}, {"-1", false, 0}, {"1.5", false, 0}, {"7 s", false, 0}, {"soon", false, 0}, {" 7", false, 0},
        {"Tue, 14 Nov 2023 22:13:50 CET", false, 0}, {"Tue, 14 Nov 2023 22:13:50 GMT and more", false, 0},
        {"2023-11-14T22:13:50Z", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t ns = 12345;
        bool valid = http_retry_after(slice_text(cases[i].text), NOW, &ns);

        if (valid != cases[i].valid || (valid && ns != cases[i].seconds * NS_PER_S))
            fail_msg("\"%s\": %d, %llu ns", cases[i].text, valid, (unsigned long long)ns);
    }
    for (int status = 400; status < 600; status++) {
        struct http_answer answer = {.status = status, .retry_after = SLICE_LITERAL("7")};
        char message[HTTP_MESSAGE_MAX];
        struct link_result result;

        http_answer_read(&answer, NOW, &result, message);
        assert_int_equal(result.has_retry, status == 429 || status == 503);
    }
}

static void test_words(void **state)
{
    uint8_t status[RPC_STATUS_BYTES_MAX];
    struct slice protobuf = slice_make(status, rpc_status_write(3, "too many attributes", 0, status));
    char deep[5000], longest[5000];
    const struct {
        const char *type;
        struct slice body;
        const char *want;
    } cases[] = {
        {"application/x-protobuf", protobuf, "HTTP 400: too many attributes"},
        {"Application/X-Protobuf; v=1", protobuf, "HTTP 400: too many attributes"},
        {"application/x-protobuf", SLICE_LITERAL("\xff\xff"), "HTTP 400: "},
        {"application/json", SLICE_LITERAL("{\"code\": 3, \"message\": \"no such tenant\"}"), "HTTP 400: no such tenant"},
        {"application/json; charset=utf-8", SLICE_LITERAL("{\"message\": \"m\"}"), "HTTP 400: m"},
        {"application/json", SLICE_LITERAL("{\"error\": \"e\"}"), "HTTP 400: {\"error\": \"e\"}"},
        {"application/json", SLICE_LITERAL("{\"message\": 3}"), "HTTP 400: {\"message\": 3}"},
        {"text/plain", SLICE_LITERAL("go away"), "HTTP 400: go away"},
        {"", SLICE_LITERAL(""), "HTTP 400"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_answer answer = {.status = 400, .content_type = slice_text(cases[i].type), .body = cases[i].body};
        char message[HTTP_MESSAGE_MAX];
        struct link_result result;

        http_answer_read(&answer, NOW, &result, message);
        assert_string_equal(message, cases[i].want);
        assert_int_equal(result.message.len, strlen(message));
    }
    memset(deep, '[', sizeof(deep));
    memset(longest, 'x', sizeof(longest));
    for (unsigned i = 0; i < 2; i++) {
        struct http_answer answer = {.status = 400, .content_type = SLICE_LITERAL("application/json"),
            .body = slice_make(i ? deep : longest, sizeof(deep))};
        char message[HTTP_MESSAGE_MAX];
        struct link_result result;

        http_answer_read(&answer, NOW, &result, message);
        assert_in_range(strlen(message), 100, 300);
    }
}

static void test_partial_success_is_passed_on(void **state)
{
    uint8_t response[RPC_STATUS_BYTES_MAX];
    struct slice body = slice_make(response, partial_success_write(5, "odd", response));
    struct http_answer answer = {.status = 200, .content_type = SLICE_LITERAL("application/x-protobuf"), .body = body};
    char text[HTTP_MESSAGE_MAX];
    struct link_result result;
    struct slice message;
    uint64_t rejected;

    (void)state;
    http_answer_read(&answer, NOW, &result, text);
    assert_true(partial_success_read(result.response, &rejected, &message));
    assert_int_equal(rejected, 5);
    answer.content_type = SLICE_LITERAL("text/html"); /* what else a server may say is not looked into */
    http_answer_read(&answer, NOW, &result, text);
    assert_int_equal(result.response.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_partial_success_is_passed_on),
    };

    return cmocka_run_group_tests_name("http_answer", tests, NULL, NULL);
}
