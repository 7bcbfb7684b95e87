/* Whatever comes in: at most max_out bytes come out, and the answer follows from the size alone.
 * What inflates with one bound inflates to the same bytes with just enough room, and is too large
 * with one byte less. Input: one byte of format (bits: 1 gzip, else zlib; 4 zstd), two of max_out,
 * the body; bit 2 of the format says that the body is to be compressed first, since no mutation
 * finds a checksum that fits. */
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/assert.h"
#include "common/ingest/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum format { FORMAT_ZLIB, FORMAT_GZIP, FORMAT_ZSTD };

static int run(enum format format, struct slice in, size_t max_out, struct buffer **out)
{
    static struct inflate_zstd *zstd; /* as a thread keeps it: what came before must not matter */

    if (format != FORMAT_ZSTD)
        return format == FORMAT_GZIP ? inflate_gzip(in, max_out, out) : inflate_zlib(in, max_out, out);
    if (!zstd)
        zstd = inflate_zstd_new();
    ASSERT(zstd);
    return inflate_zstd(zstd, in, max_out, out);
}

static void check(enum format format, struct slice in, size_t max_out)
{
    struct buffer *first = NULL, *again = NULL;
    int r = run(format, in, max_out, &first);

    if (r != 0) {
        ASSERT(r == INFLATE_E_BROKEN || r == INFLATE_E_TOO_LARGE);
        ASSERT(!first);
        return;
    }
    ASSERT(first->len <= max_out && first->capacity <= max_out);
    ASSERT(run(format, in, first->len, &again) == 0);
    ASSERT(slice_equal(buffer_slice(first), buffer_slice(again)));
    buffer_unref(steal(&again));
    if (first->len > 0)
        ASSERT(run(format, in, first->len - 1, &again) == INFLATE_E_TOO_LARGE);
    buffer_unref(first);
}

static struct buffer *pack(enum format format, struct slice content)
{
    struct libdeflate_compressor *packer = libdeflate_alloc_compressor(1);
    struct buffer *packed = buffer_new(ZSTD_compressBound(content.len) + libdeflate_gzip_compress_bound(packer, content.len));

    ASSERT(packer && packed);
    if (format == FORMAT_ZSTD)
        packed->len = ZSTD_compress(packed->bytes, packed->capacity, content.at, content.len, 1);
    else if (format == FORMAT_GZIP)
        packed->len = libdeflate_gzip_compress(packer, content.at, content.len, packed->bytes, packed->capacity);
    else
        packed->len = libdeflate_zlib_compress(packer, content.at, content.len, packed->bytes, packed->capacity);
    ASSERT(packed->len > 0 && packed->len <= packed->capacity);
    libdeflate_free_compressor(packer);
    return packed;
}

/* The body comes back whole when it fits, and only then. */
static void check_packed(enum format format, struct slice content, size_t max_out)
{
    struct buffer *packed = pack(format, content), *out = NULL;
    int r = run(format, buffer_slice(packed), max_out, &out);

    ASSERT(r == (content.len <= max_out ? 0 : INFLATE_E_TOO_LARGE));
    if (r == 0)
        ASSERT(slice_equal(buffer_slice(out), content));
    buffer_unref(out);
    check(format, buffer_slice(packed), max_out);
    buffer_unref(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum format format;
    struct slice body;
    size_t max_out;

    if (size < 3)
        return 0;
    format = data[0] & 4 ? FORMAT_ZSTD : data[0] & 1 ? FORMAT_GZIP : FORMAT_ZLIB;
    max_out = (size_t)data[1] << 8 | data[2];
    body = slice_make(data + 3, size - 3);
    if (data[0] & 2)
        check_packed(format, body, max_out);
    else
        check(format, body, max_out);
    return 0;
}
