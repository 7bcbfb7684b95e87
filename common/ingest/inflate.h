/* Bodies that came compressed, within a bound fixed before the first byte is inflated.
 *
 * Memory  never more than max_out bytes for the output, whatever the input claims
 *         (zstd: and a window of 8 MiB, which an inflate_zstd keeps)
 * Time    at most about twice what inflating max_out bytes takes
 * Source  RFC 8878 and 9659 (zstd: frames one after another, windows up to 8 MiB), RFC 1950 (zlib: what HTTP and gRPC call "deflate"), RFC 1952 (gzip, members one after
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

/* zstd's memory, which is too large to make it anew for each body: one a thread. */
struct inflate_zstd;
struct inflate_zstd *inflate_zstd_new(void); /* NULL: no memory */
void inflate_zstd_free(struct inflate_zstd *zstd); /* accepts NULL */
int inflate_zstd(struct inflate_zstd *zstd, struct slice in, size_t max_out, struct buffer **out_buffer);
