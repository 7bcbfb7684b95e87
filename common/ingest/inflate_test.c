/* What was compressed comes back whole when it fits max_out exactly, is refused when it is one byte
 * more, and anything cut, changed or followed by other bytes is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/ingest/inflate.h"

enum format { GZIP, ZLIB };

static int run(enum format format, struct slice in, size_t max_out, struct buffer **out)
{
    return format == GZIP ? inflate_gzip(in, max_out, out) : inflate_zlib(in, max_out, out);
}

/* kind 0: zeros (a bomb); 1: text that repeats; 2: noise that does not shrink. */
static uint8_t *make_content(int kind, size_t len)
{
    uint8_t *content = malloc(len ? len : 1);
    uint32_t noise = 12345;

    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        noise = noise * 1664525u + 1013904223u;
        content[i] = kind == 0   ? 0
                     : kind == 1 ? (uint8_t)("span and trace "[i % 15])
                                 : (uint8_t)(noise >> 24);
    }
    return content;
}

static uint8_t *compress(enum format format, struct slice content, size_t *out_len)
{
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
    size_t bound = libdeflate_gzip_compress_bound(c, content.len) + 64;
    uint8_t *packed = malloc(bound);

    assert_non_null(packed);
    *out_len = format == GZIP ? libdeflate_gzip_compress(c, content.at, content.len, packed, bound)
                              : libdeflate_zlib_compress(c, content.at, content.len, packed, bound);
    assert_true(*out_len > 0);
    libdeflate_free_compressor(c);
    return packed;
}

static void test_round_trip_and_bound(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 4095, 4096, 4097, 8193, 100000, 3000000};

    (void)state;
    for (int format = GZIP; format <= ZLIB; format++) {
        for (int kind = 0; kind < 3; kind++) {
            for (size_t s = 0; s < ARRAY_COUNT(sizes); s++) {
                uint8_t *content = make_content(kind, sizes[s]), *packed;
                const size_t max_outs[] = {sizes[s], sizes[s] + 1, 16000000};
                size_t len;

                packed = compress((enum format)format, slice_make(content, sizes[s]), &len);
                for (size_t m = 0; m < ARRAY_COUNT(max_outs); m++) {
                    struct buffer *out = NULL;

                    if (run((enum format)format, slice_make(packed, len), max_outs[m], &out) != 0)
                        fail_msg("format %d kind %d size %zu max_out %zu: refused", format, kind,
                            sizes[s], max_outs[m]);
                    assert_true(out->capacity <= max_outs[m]);
                    assert_true(slice_equal(buffer_slice(out), slice_make(content, sizes[s])));
                    buffer_unref(out);
                }
                for (size_t less = 1; less <= sizes[s]; less *= 7) {
                    struct buffer *out = NULL;

                    if (run((enum format)format, slice_make(packed, len), sizes[s] - less, &out) !=
                        INFLATE_E_TOO_LARGE)
                        fail_msg("format %d kind %d size %zu: taken with %zu too few", format, kind,
                            sizes[s], less);
                    assert_null(out);
                }
                free(packed);
                free(content);
            }
        }
    }
}

/* Every cut and every changed byte of a small body is noticed, save header bytes that mean nothing.
 */
static void test_broken(void **state)
{
    (void)state;
    for (int format = GZIP; format <= ZLIB; format++) {
        uint8_t *content = make_content(1, 500), *packed;
        struct buffer *out = NULL;
        size_t len;

        packed = compress((enum format)format, slice_make(content, 500), &len);
        packed = realloc(packed, len + 1);
        assert_non_null(packed);
        for (size_t cut = 0; cut < len; cut++)
            if (run((enum format)format, slice_make(packed, cut), 10000, &out) != INFLATE_E_BROKEN)
                fail_msg("format %d: cut at %zu of %zu was taken", format, cut, len);
        for (size_t i = 0; i < len; i++) {
            bool meaningless = format == GZIP && i >= 4 && i < 10; /* time, level, system */

            packed[i] ^= 0x55;
            if (!meaningless && run((enum format)format, slice_make(packed, len), 10000, &out) == 0)
                fail_msg("format %d: byte %zu of %zu changed and was taken", format, i, len);
            packed[i] ^= 0x55;
        }
        packed[len] = 0;
        assert_int_equal(
            run((enum format)format, slice_make(packed, len + 1), 10000, &out), INFLATE_E_BROKEN);
        assert_int_equal(run(format == GZIP ? ZLIB : GZIP, slice_make(packed, len), 10000, &out),
            INFLATE_E_BROKEN);
        assert_null(out);
        free(packed);
        free(content);
    }
}

/* gzip files one after another are one body; the bound is on their sum. */
static void test_members(void **state)
{
    static const size_t sizes[] = {5000, 0, 1, 70000};
    uint8_t *body = NULL, *whole = make_content(1, 80000);
    size_t len = 0, sum = 0, one_len;
    struct buffer *out = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        uint8_t *one = compress(GZIP, slice_make(whole + sum, sizes[i]), &one_len);

        body = realloc(body, len + one_len);
        assert_non_null(body);
        memcpy(body + len, one, one_len);
        len += one_len;
        sum += sizes[i];
        free(one);
        assert_int_equal(inflate_gzip(slice_make(body, len), sum, &out), 0);
        assert_true(slice_equal(buffer_slice(out), slice_make(whole, sum)));
        buffer_unref(steal(&out));
        assert_int_equal(inflate_gzip(slice_make(body, len), sum - 1, &out), INFLATE_E_TOO_LARGE);
        assert_int_equal(
            inflate_gzip(slice_make(body, len - 1), sum + 10000, &out), INFLATE_E_BROKEN);
    }
    assert_null(out);
    free(body);
    free(whole);
}

/* A trailer that claims gigabytes, or a bomb that is: neither gets more than max_out. */
static void test_lies(void **state)
{
    uint8_t *zeros = make_content(0, 8000000), *packed;
    struct buffer *out = NULL;
    size_t len;

    (void)state;
    packed = compress(GZIP, slice_make(zeros, 8000000), &len);
    assert_true(len < 10000);
    assert_int_equal(inflate_gzip(slice_make(packed, len), 65536, &out), INFLATE_E_TOO_LARGE);
    memset(packed + len - 4, 0xff, 4);
    assert_int_equal(inflate_gzip(slice_make(packed, len), 65536, &out), INFLATE_E_TOO_LARGE);
    assert_int_equal(inflate_gzip(slice_make(packed, len), 9000000, &out), INFLATE_E_BROKEN);
    assert_int_equal(inflate_gzip(slice_make(NULL, 0), 100, &out), INFLATE_E_BROKEN);
    assert_int_equal(inflate_zlib(slice_make(NULL, 0), 0, &out), INFLATE_E_BROKEN);
    assert_null(out);
    free(packed);
    free(zeros);
}

/* Frames of zstd and frames to be skipped come one after another; those of zstd before 1.0 are no frames, wherever they stand. */
static void test_zstd_frames(void **state)
{
    static const uint8_t skipped[] = {0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
    static const uint8_t old[] = {0x27, 0xb5, 0x2f, 0xfd, 0x21, 0x00, 0x68, 0xff, 0x03, 0xfe}; /* of 0.7 */
    struct inflate_zstd *zstd = inflate_zstd_new();
    uint8_t body[200];
    struct buffer *out = NULL;
    size_t frame, len = 0;

    (void)state;
    assert_non_null(zstd);
    memcpy(body, skipped, sizeof(skipped));
    len += sizeof(skipped);
    frame = ZSTD_compress(body + len, sizeof(body) - len, "a span", 6, 1);
    assert_false(ZSTD_isError(frame));
    len += frame;
    memcpy(body + len, body, sizeof(skipped));
    len += sizeof(skipped);
    assert_int_equal(inflate_zstd(zstd, slice_make(body, len), 6, &out), 0);
    assert_true(slice_equal(buffer_slice(out), slice_text("a span")));
    buffer_unref(steal(&out));
    memcpy(body + len, old, sizeof(old));
    for (size_t more = 1; more <= sizeof(old); more++)
        assert_int_equal(inflate_zstd(zstd, slice_make(body, len + more), 10000, &out), INFLATE_E_BROKEN);
    for (size_t some = 0; some <= sizeof(old); some++)
        assert_int_equal(inflate_zstd(zstd, slice_make(old, some), 0xfff5, &out), INFLATE_E_BROKEN);
    assert_null(out);
    inflate_zstd_free(zstd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_and_bound),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_zstd_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
