/* A head is read as RFC 9112 says and in one way only; however the bytes are cut, the same head and the same body come out; what two
 * readers could understand differently is refused with a status and a reason. */
#include "common/ingest/http_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define H "POST /v1/traces HTTP/1.1\r\nHost: a\r\n"

static const struct {
    const char *text;
    int status; /* 0: taken */
    const char *path;
    bool keep_alive, expect_continue, chunked;
    int64_t length; /* -1: none */
} heads[] = {
    {H "\r\n", 0, "/v1/traces", true, false, false, -1},
    {H "Content-Length: 0\r\n\r\n", 0, "/v1/traces", true, false, false, 0},
    {H "cOnTeNt-LeNgTh:\t 20971520 \r\n\r\n", 0, "/v1/traces", true, false, false, 20971520},
    {H "Transfer-Encoding: Chunked\r\n\r\n", 0, "/v1/traces", true, false, true, -1},
    {H "Connection: close\r\n\r\n", 0, "/v1/traces", false, false, false, -1},
    {H "Connection: te, Close\r\n\r\n", 0, "/v1/traces", false, false, false, -1},
    {H "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n", 0, "/v1/traces", true, true, false, 3},
    {"GET /v1/traces?x=1 HTTP/1.0\r\n\r\n", 0, "/v1/traces", false, false, false, -1},
    {"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n", 0, "/a", true, false, false, -1},
    {"POST http://host:4318/v1/traces HTTP/1.1\r\nHost: host\r\n\r\n", 0, "/v1/traces", true, false, false, -1},
    {"OPTIONS * HTTP/1.1\r\nHost: host\r\n\r\n", 0, "*", true, false, false, -1},
    {H "X: a\xc3\xa9 b\r\n\r\n", 0, "/v1/traces", true, false, false, -1},
    {H "X:\r\n\r\n", 0, "/v1/traces", true, false, false, -1},
    /* two readings */
    {H "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: 3, 3\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: +3\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: -1\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: 0x3\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: \r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: 9999999999999999999\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, 0, 0, 0, 0, 0},
    {"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Content-Length : 3\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "X: a\r\n b\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "no colon\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H ": nameless\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "X: a\rb\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "X: a\x01\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Host: b\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST /a HTTP/1.1\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {H "Expect: a miracle\r\n\r\n", 400, 0, 0, 0, 0, 0},
    /* request lines */
    {"POST  /a HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST /a HTTP/1.1 \r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST /a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"P(ST /a HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"CONNECT host:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST http://host HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"POST /a SMTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0, 0, 0},
    {"PRI * HTTP/2.0\r\n\r\n", 505, 0, 0, 0, 0, 0},
    {"POST /a HTTP/1.2\r\nHost: a\r\n\r\n", 505, 0, 0, 0, 0, 0},
};

static void heads_are_read(void **state)
{
    static struct http_head head;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++) {
        struct slice bytes = slice_text(heads[i].text);
        size_t scanned = 0, len = 0;
        int status;

        /* Byte by byte: not a byte too early, and each looked at once. */
        for (size_t n = 0; n < bytes.len; n++) {
            if (http_head_find(slice_make(bytes.at, n), &scanned, &len) != HTTP_HEAD_E_MORE || scanned != n)
                fail_msg("%s: found after %zu of %zu bytes", heads[i].text, n, bytes.len);
        }
        assert_int_equal(http_head_find(bytes, &scanned, &len), 0);
        assert_int_equal(len, bytes.len);
        status = http_head_parse(bytes, &head);
        if (status != heads[i].status)
            fail_msg("%s: status %d (%s), want %d", heads[i].text, status, head.error ? head.error : "", heads[i].status);
        if (status) {
            assert_non_null(head.error);
            continue;
        }
        if (!slice_equal(head.path, slice_text(heads[i].path)) || head.keep_alive != heads[i].keep_alive ||
            head.expect_continue != heads[i].expect_continue || head.chunked != heads[i].chunked ||
            (head.has_length ? (int64_t)head.content_length : -1) != heads[i].length)
            fail_msg("%s: read wrongly", heads[i].text);
    }
}

/* What never becomes a head is said so at once, not when a timeout comes. */
static void rubbish_is_seen_early(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rubbish[] = {{"\x16\x03\x01\x02\x00", 5}, {"POST / HTTP/1.1\n", 16}, {"\n", 1}, {"\0", 1}, {"POST / HTTP/1.1\r\nX: y\n", 22}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rubbish); i++) {
        size_t scanned = 0, len;

        assert_int_equal(http_head_find(slice_make(rubbish[i].bytes, rubbish[i].len), &scanned, &len), HTTP_HEAD_E_BAD);
    }
}

static void headers_are_bounded(void **state)
{
    static struct http_head head;
    char text[8192];

    (void)state;
    for (unsigned count = HTTP_HEADERS_MAX - 1; count <= HTTP_HEADERS_MAX; count++) { /* and Host */
        size_t len = (size_t)snprintf(text, sizeof(text), H);

        for (unsigned i = 0; i < count; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "X-%u: %u\r\n", i, i);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\r\n");
        assert_int_equal(http_head_parse(slice_make(text, len), &head), count < HTTP_HEADERS_MAX ? 0 : 431);
    }
    assert_int_equal(http_head_parse(slice_text(H "A: 1\r\nb: 2\r\na: 3\r\n\r\n"), &head), 0);
    assert_true(slice_equal(http_head_value(&head, "a"), SLICE_LITERAL("1")));
    assert_true(slice_equal(http_head_value(&head, "B"), SLICE_LITERAL("2")));
    assert_int_equal(http_head_value(&head, "c").len, 0);
    assert_null(http_head_find_header(&head, "c"));
}

/* Reads pieces of `step` bytes. HTTP_CHUNK_END with the data and how many bytes were taken, or what came instead. */
static enum http_chunk read_chunks(struct slice in, size_t step, char *out, size_t *out_len, size_t *out_taken)
{
    struct http_chunks chunks = {.left = 0};
    size_t at = 0;

    *out_len = 0;
    for (size_t given = size_min(step, in.len);;) {
        struct slice data;
        size_t taken = 0;
        enum http_chunk what = http_chunks_read(&chunks, slice_make(in.at + at, given - at), &taken, &data);

        if (taken > given - at)
            fail_msg("took %zu of %zu", taken, given - at);
        at += taken;
        if (data.len > 0)
            memcpy(out + *out_len, data.at, data.len);
        *out_len += data.len;
        if (what == HTTP_CHUNK_MORE && given < in.len) {
            given = size_min(given + step, in.len);
            continue;
        }
        if (what != HTTP_CHUNK_DATA) {
            *out_taken = at;
            return what;
        }
    }
}

static void chunks_are_read(void **state)
{
    static const struct {
        const char *in;
        enum http_chunk what;
        const char *data;
        size_t left; /* bytes behind the end: the next request's */
    } cases[] = {
        {"0\r\n\r\n", HTTP_CHUNK_END, "", 0},
        {"3\r\nabc\r\n0\r\n\r\n", HTTP_CHUNK_END, "abc", 0},
        {"3\r\nabc\r\n00A\r\n0123456789\r\n000\r\n\r\nPOST", HTTP_CHUNK_END, "abc0123456789", 4},
        {"2;name=value; x=\"y\"\r\n\r\n\r\n0;last\r\n\r\n", HTTP_CHUNK_END, "\r\n", 0},
        {"1 \r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", HTTP_CHUNK_END, "a", 0},
        {"3\r\nabc\r\n0\r\n", HTTP_CHUNK_MORE, "abc", 0},
        {"3\r\nab", HTTP_CHUNK_MORE, "ab", 0},
        {"3\r\nabcd\r\n", HTTP_CHUNK_BAD, "abc", 0},
        {"3\nabc", HTTP_CHUNK_BAD, "", 0},
        {"\r\n", HTTP_CHUNK_BAD, "", 0},
        {";x\r\n", HTTP_CHUNK_BAD, "", 0},
        {"-1\r\n", HTTP_CHUNK_BAD, "", 0},
        {"0x3\r\nabc\r\n", HTTP_CHUNK_BAD, "", 0},
        {"3g\r\n", HTTP_CHUNK_BAD, "", 0},
        {"ffffffffffffffff\r\n", HTTP_CHUNK_BAD, "", 0},
        {"100000000000000\r\n", HTTP_CHUNK_BAD, "", 0},
        {"3\r\nabc\r\r", HTTP_CHUNK_BAD, "abc", 0},
        {"0\r\n\rx", HTTP_CHUNK_BAD, "", 0},
        {"0\r\n folded\r\n", HTTP_CHUNK_BAD, "", 0},
        {"1;\x01\r\n", HTTP_CHUNK_BAD, "", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct slice in = slice_text(cases[i].in);

        for (size_t step = 1; step <= in.len; step++) {
            char out[256];
            size_t len, taken;
            enum http_chunk what = read_chunks(in, step, out, &len, &taken);

            if (what != cases[i].what || !slice_equal(slice_make(out, len), slice_text(cases[i].data)) ||
                (what == HTTP_CHUNK_END && in.len - taken != cases[i].left))
                fail_msg("%s in steps of %zu: outcome %d, %zu bytes", cases[i].in, step, (int)what, len);
        }
    }
}

/* Extensions and trailers cost nothing but time, and not much of that. */
static void chunk_lines_are_bounded(void **state)
{
    char *text = malloc(100000), out[16];
    size_t len, taken, n;

    (void)state;
    assert_non_null(text);
    n = (size_t)snprintf(text, 100000, "1;");
    memset(text + n, 'x', 1000);
    assert_int_equal(read_chunks(slice_make(text, n + 1000), 7, out, &len, &taken), HTTP_CHUNK_BAD);
    n = (size_t)snprintf(text, 100000, "0\r\n");
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(text + n, 100000 - n, "Trailer: value\r\n");
    assert_int_equal(read_chunks(slice_make(text, n), 7, out, &len, &taken), HTTP_CHUNK_BAD);
    n = 0;
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(text + n, 100000 - n, "%s", "0");
    assert_int_equal(read_chunks(slice_make(text, n), 7, out, &len, &taken), HTTP_CHUNK_BAD);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_read),
        cmocka_unit_test(rubbish_is_seen_early),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(chunks_are_read),
        cmocka_unit_test(chunk_lines_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
