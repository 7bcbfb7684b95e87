/* A body in any coding and either format becomes the same protobuf bytes; what is no such body, or would become too large, is refused
 * with its reason, and nothing of it stays. */
#include "common/ingest/http_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <zstd.h>

#include "common/base/num.h"

static const char json[] = "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"00112233445566778899aabbccddeeff\","
                           "\"spanId\":\"0102030405060708\",\"name\":\"GET\"}]}]}]}";
static const char protobuf[] = "\x0a\x27\x12\x25\x12\x23\x0a\x10\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
                               "\x12\x08\x01\x02\x03\x04\x05\x06\x07\x08\x2a\x03GET";

static struct buffer *coded(enum http_coding coding, struct slice content)
{
    struct libdeflate_compressor *packer = libdeflate_alloc_compressor(6);
    struct buffer *buffer = buffer_new(size_max(ZSTD_compressBound(content.len), libdeflate_gzip_compress_bound(packer, content.len)) + 1);

    assert_non_null(buffer);
    switch (coding) {
    case HTTP_IDENTITY:
        memcpy(buffer->bytes, content.at, content.len);
        buffer->len = content.len;
        break;
    case HTTP_GZIP:
        buffer->len = libdeflate_gzip_compress(packer, content.at, content.len, buffer->bytes, buffer->capacity);
        break;
    case HTTP_ZLIB:
        buffer->len = libdeflate_zlib_compress(packer, content.at, content.len, buffer->bytes, buffer->capacity);
        break;
    case HTTP_ZSTD:
        buffer->len = ZSTD_compress(buffer->bytes, buffer->capacity, content.at, content.len, 3);
        break;
    }
    libdeflate_free_compressor(packer);
    return buffer;
}

static void names_of_codings(void **state)
{
    static const struct {
        const char *name;
        int want; /* -1: unknown */
    } cases[] = {
        {"", HTTP_IDENTITY}, {"identity", HTTP_IDENTITY}, {"gzip", HTTP_GZIP}, {"GZIP", HTTP_GZIP}, {"x-gzip", HTTP_GZIP},
        {"zstd", HTTP_ZSTD}, {"deflate", HTTP_ZLIB}, {"zlib", HTTP_ZLIB}, {"br", -1}, {"snappy", -1}, {"lz4", -1}, {"gzip, gzip", -1},
        {"gzi", -1}, {"gzipp", -1},
    };

    enum http_coding of_none = HTTP_GZIP;

    (void)state;
    assert_true(http_coding_of(slice_make(NULL, 0), &of_none)); /* a request without the header */
    assert_int_equal(of_none, HTTP_IDENTITY);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        enum http_coding got = HTTP_IDENTITY;
        bool known = http_coding_of(slice_text(cases[i].name), &got);

        if (known != (cases[i].want >= 0) || (known && (int)got != cases[i].want))
            fail_msg("%s", cases[i].name);
    }
    enum http_coding none = HTTP_GZIP;

    assert_true(http_coding_of((struct slice){NULL, 0}, &none)); /* a request without the header */
    assert_int_equal(none, HTTP_IDENTITY);
}

/* As http_head_value gives it: without a header there is no text at all. */
static void no_header_is_identity(void **state)
{
    enum http_coding got = HTTP_GZIP;

    (void)state;
    assert_true(http_coding_of((struct slice){NULL, 0}, &got));
    assert_int_equal(got, HTTP_IDENTITY);
}

static void every_form_reads_the_same(void **state)
{
    struct http_body_reader *reader = http_body_reader_new();
    const struct slice want = {(const uint8_t *)protobuf, sizeof(protobuf) - 1};
    struct http_body_error error;

    (void)state;
    for (int coding = HTTP_IDENTITY; coding <= HTTP_ZSTD; coding++) {
        for (int is_json = 0; is_json <= 1; is_json++) {
            struct slice content = is_json ? slice_text(json) : want;
            struct buffer *got = http_body_read(reader, coded((enum http_coding)coding, content), (enum http_coding)coding, is_json, 4096, &error);

            /* From JSON the lengths may be written wider; the span's own fields stand in a row. */
            if (!got || (is_json ? !memmem(got->bytes, got->len, protobuf + 6, sizeof(protobuf) - 1 - 6)
                                 : !slice_equal(buffer_slice(got), want)))
                fail_msg("coding %d, json %d: %s", coding, is_json, got ? "other bytes" : error.message);
            buffer_unref(got);
        }
    }
    http_body_reader_free(reader);
}

static void bounds_hold(void **state)
{
    struct http_body_reader *reader = http_body_reader_new();
    char *zeros = calloc(1, 5000000);
    struct http_body_error error;

    (void)state;
    assert_non_null(zeros);
    for (int coding = HTTP_GZIP; coding <= HTTP_ZSTD; coding++) {
        struct buffer *bomb = coded((enum http_coding)coding, slice_make(zeros, 5000000));
        struct buffer *got;

        assert_true(bomb->len < 10000);
        got = http_body_read(reader, buffer_ref(bomb), (enum http_coding)coding, false, 5000000, &error);
        assert_non_null(got);
        assert_int_equal(got->len, 5000000);
        buffer_unref(got);
        assert_null(http_body_read(reader, buffer_ref(bomb), (enum http_coding)coding, false, 4999999, &error));
        assert_int_equal(error.refusal, REFUSED_TOO_LARGE);
        bomb->len -= 3;
        assert_null(http_body_read(reader, bomb, (enum http_coding)coding, false, 5000000, &error));
        assert_int_equal(error.refusal, REFUSED_ENCODING);
        assert_true(error.message[0] != '\0');
    }
    free(zeros);
    assert_null(http_body_read(reader, coded(HTTP_IDENTITY, slice_text("{\"resourceSpans\":[")), HTTP_IDENTITY, true, 4096, &error));
    assert_int_equal(error.refusal, REFUSED_MALFORMED);
    assert_true(strstr(error.message, "line 1") != NULL);
    assert_null(http_body_read(reader, coded(HTTP_IDENTITY, slice_text(json)), HTTP_IDENTITY, true, 10, &error));
    assert_int_equal(error.refusal, REFUSED_TOO_LARGE);
    http_body_reader_free(reader);
    http_body_reader_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_header_is_identity),
        cmocka_unit_test(names_of_codings),
        cmocka_unit_test(every_form_reads_the_same),
        cmocka_unit_test(bounds_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
