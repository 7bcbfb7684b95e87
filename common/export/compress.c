/* The bound of what may come out is allocated, written once, and given back but for what was written. */
#include "common/export/compress.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/base/assert.h"

#define GZIP_LEVEL 1
#define ZSTD_LEVEL 1

struct compressor {
    enum export_compression compression;
    struct libdeflate_compressor *gzip;
    ZSTD_CCtx *zstd;
};

const char *compression_name(enum export_compression compression)
{
    switch (compression) {
    case COMPRESS_GZIP:
        return "gzip";
    case COMPRESS_ZSTD:
        return "zstd";
    case COMPRESS_NONE:
        break;
    }
    return "identity";
}

struct compressor *compressor_new(enum export_compression compression)
{
    struct compressor *compressor = calloc(1, sizeof(*compressor));

    ASSERT(compression != COMPRESS_NONE);
    if (!compressor)
        return NULL;
    compressor->compression = compression;
    if (compression == COMPRESS_GZIP)
        compressor->gzip = libdeflate_alloc_compressor(GZIP_LEVEL);
    else
        compressor->zstd = ZSTD_createCCtx();
    if (compressor->gzip || compressor->zstd)
        return compressor;
    free(compressor);
    return NULL;
}

void compressor_free(struct compressor *compressor)
{
    if (!compressor)
        return;
    if (compressor->gzip)
        libdeflate_free_compressor(compressor->gzip);
    ZSTD_freeCCtx(compressor->zstd);
    free(compressor);
}

static size_t bound_of(struct compressor *compressor, size_t len)
{
    return compressor->gzip ? libdeflate_gzip_compress_bound(compressor->gzip, len) : ZSTD_compressBound(len);
}

/* 0: it failed, for want of memory. */
static size_t write_to(struct compressor *compressor, struct slice bytes, struct buffer *out)
{
    size_t len;

    if (compressor->gzip)
        return libdeflate_gzip_compress(compressor->gzip, bytes.at, bytes.len, out->bytes, out->capacity);
    len = ZSTD_compressCCtx(compressor->zstd, out->bytes, out->capacity, bytes.at, bytes.len, ZSTD_LEVEL);
    return ZSTD_isError(len) ? 0 : len;
}

struct buffer *compressor_run(struct compressor *compressor, struct slice bytes)
{
    struct buffer *out = buffer_new(bound_of(compressor, bytes.len));
    struct buffer *shrunk;

    if (!out)
        return NULL;
    out->len = write_to(compressor, bytes, out);
    if (out->len == 0) {
        buffer_unref(out);
        return NULL;
    }
    shrunk = realloc(out, sizeof(*out) + out->len); /* nobody else has a reference yet */
    if (shrunk) {
        out = shrunk;
        out->capacity = out->len;
    }
    return out;
}
