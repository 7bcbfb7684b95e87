/* Whatever comes in: at most max_out bytes come out, and the answer follows from the size alone.
 * What inflates with one bound inflates to the same bytes with just enough room, and is too large
 * with one byte less. Input: one byte of format, two of max_out, the body; the second bit of the
 * format says that the body is to be compressed first, since no mutation finds a checksum that
 * fits. */
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/ingest/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(bool gzip, struct slice in, size_t max_out, struct buffer **out)
{
    return gzip ? inflate_gzip(in, max_out, out) : inflate_zlib(in, max_out, out);
}

static void check(bool gzip, struct slice in, size_t max_out)
{
    struct buffer *first = NULL, *again = NULL;
    int r = run(gzip, in, max_out, &first);

    if (r != 0) {
        ASSERT(r == INFLATE_E_BROKEN || r == INFLATE_E_TOO_LARGE);
        ASSERT(!first);
        return;
    }
    ASSERT(first->len <= max_out && first->capacity <= max_out);
    ASSERT(run(gzip, in, first->len, &again) == 0);
    ASSERT(slice_equal(buffer_slice(first), buffer_slice(again)));
    buffer_unref(steal(&again));
    if (first->len > 0)
        ASSERT(run(gzip, in, first->len - 1, &again) == INFLATE_E_TOO_LARGE);
    buffer_unref(first);
}

/* The body comes back whole when it fits, and only then. */
static void check_packed(bool gzip, struct slice content, size_t max_out)
{
    struct libdeflate_compressor *packer = libdeflate_alloc_compressor(1);
    struct buffer *packed, *out = NULL;
    int r;

    ASSERT(packer);
    packed = buffer_new(libdeflate_gzip_compress_bound(packer, content.len));
    ASSERT(packed);
    packed->len = gzip ? libdeflate_gzip_compress(
                             packer, content.at, content.len, packed->bytes, packed->capacity)
                       : libdeflate_zlib_compress(
                             packer, content.at, content.len, packed->bytes, packed->capacity);
    ASSERT(packed->len > 0);
    r = run(gzip, buffer_slice(packed), max_out, &out);
    ASSERT(r == (content.len <= max_out ? 0 : INFLATE_E_TOO_LARGE));
    if (r == 0)
        ASSERT(slice_equal(buffer_slice(out), content));
    buffer_unref(out);
    check(gzip, buffer_slice(packed), max_out);
    buffer_unref(packed);
    libdeflate_free_compressor(packer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body;
    size_t max_out;

    if (size < 3)
        return 0;
    max_out = (size_t)data[1] << 8 | data[2];
    body = slice_make(data + 3, size - 3);
    if (data[0] & 2)
        check_packed(data[0] & 1, body, max_out);
    else
        check(data[0] & 1, body, max_out);
    return 0;
}
