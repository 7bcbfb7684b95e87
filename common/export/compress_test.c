/* What comes out is what anyone's decoder turns into the bytes that went in, whatever they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>
#include <zstd.h>

#include "common/export/compress.h"

static void unpack(enum export_compression compression, const struct buffer *packed, uint8_t *out, size_t len)
{
    struct libdeflate_decompressor *gzip;
    size_t got = 0;

    if (compression == COMPRESS_ZSTD) {
        assert_int_equal(ZSTD_decompress(out, len, packed->bytes, packed->len), len);
        return;
    }
    gzip = libdeflate_alloc_decompressor();
    assert_non_null(gzip);
    assert_int_equal(libdeflate_gzip_decompress(gzip, packed->bytes, packed->len, out, len, &got), LIBDEFLATE_SUCCESS);
    assert_int_equal(got, len);
    libdeflate_free_decompressor(gzip);
}

static void test_what_goes_in_comes_out(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 65536, 3000000};
    static const enum export_compression kinds[] = {COMPRESS_GZIP, COMPRESS_ZSTD};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct compressor *compressor = compressor_new(kinds[k]);

        assert_non_null(compressor);
        for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
            size_t len = sizes[i / 2];
            uint8_t *plain = malloc(len + 1), *back = malloc(len + 1);
            struct buffer *packed;

            assert_non_null(plain);
            assert_non_null(back);
            for (size_t n = 0; n < len; n++)
                plain[n] = i % 2 ? (uint8_t)rand() : (uint8_t)(n / 1000); /* nothing to gain, and much */
            packed = compressor_run(compressor, slice_make(plain, len));
            assert_non_null(packed);
            assert_int_equal(packed->len, packed->capacity);
            if (i % 2 == 0 && len > 1000)
                assert_true(packed->len < len / 10);
            unpack(kinds[k], packed, back, len);
            if (len > 0)
                assert_memory_equal(plain, back, len);
            buffer_unref(packed);
            free(plain);
            free(back);
        }
        compressor_free(compressor);
    }
    compressor_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_goes_in_comes_out)};

    return cmocka_run_group_tests_name("compress", tests, NULL, NULL);
}
