/* Compression of outgoing requests: one request at a time into a buffer of its own, so that a retry sends the same bytes.
 *
 * Level   1 of gzip (libdeflate) and of zstd, because it is done on the worker: of realistic spans it leaves 11 % of the bytes;
 *         gzip 6 leaves 10 % and takes four times as long (bench/micro_otlp: gzip, zstd).
 * Owner   one thread.
 */
#pragma once

#include "common/base/buffer.h"
#include "common/base/slice.h"

enum export_compression { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD };

/* As in HTTP's Content-Encoding and gRPC's grpc-encoding; "identity" for none. */
const char *compression_name(enum export_compression compression);

struct compressor;
/* compression: gzip or zstd. NULL: no memory. */
struct compressor *compressor_new(enum export_compression compression);
void compressor_free(struct compressor *compressor); /* accepts NULL */
/* NULL: no memory. */
struct buffer *compressor_run(struct compressor *compressor, struct slice bytes);
