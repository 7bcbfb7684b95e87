/* Bodies that came compressed, within a bound fixed before the first byte is inflated.
 *
 * Memory  never more than max_out bytes for the output, whatever the input claims
 * Time    at most about twice what inflating max_out bytes takes
 * Source  RFC 1950 (zlib: what HTTP and gRPC call "deflate"), RFC 1952 (gzip, members one after
 * another)
 */
#pragma once

#include "common/base/buffer.h"
#include "common/base/slice.h"

enum {
    INFLATE_E_BROKEN =
        1, /* not of that format, cut short, a checksum is wrong, or bytes follow the end */
    INFLATE_E_TOO_LARGE, /* more than max_out bytes would come out */
};

/* 0 and a buffer of at most max_out bytes, an outcome above, or -ENOMEM. */
int inflate_gzip(struct slice in, size_t max_out, struct buffer **out_buffer);
int inflate_zlib(struct slice in, size_t max_out, struct buffer **out_buffer);
