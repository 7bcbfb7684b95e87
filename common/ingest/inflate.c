/* libdeflate wants the whole output at once and knows its size only afterwards. So a size is
 * guessed; when it was too small the output is given back and everything done again with twice the
 * room. Nothing is copied from the smaller output to the larger, hence the two never stand in
 * memory together.
 *
 * zstd streams: its output grows as it comes, within the bound. A frame that says its size is done in one go, without a window. */
#include "common/ingest/inflate.h"

#include <errno.h>
#include <stdlib.h>
#include <libdeflate.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/error.h"
#include "common/base/num.h"
#include "common/base/plant.h"

/* Protobuf of traces shrinks to an eighth or so: mostly the first guess does. */
#define USUAL_RATIO 8
#define LEAST_GUESS 4096 /* smaller ones are not worth doing twice */

#define WINDOW_LOG_MAX 23  /* 8 MiB: what an HTTP sender may ask for (RFC 9659) */

enum inflate_format { FORMAT_GZIP, FORMAT_ZLIB };

static size_t first_guess(struct slice in, size_t max_out)
{
    size_t guess;

    if (!size_mul(in.len, USUAL_RATIO, &guess))
        guess = max_out;
    return size_min(size_max(guess, LEAST_GUESS), max_out);
}

/* Fills the buffer. 0, or INFLATE_E_BROKEN, or INFLATE_E_TOO_LARGE: does not fit its capacity. */
static int inflate_into(struct libdeflate_decompressor *inflater, enum inflate_format format,
    struct slice in, struct buffer *buffer)
{
    buffer->len = 0;
    do {
        uint8_t *at = buffer->bytes + buffer->len;
        size_t room = buffer->capacity - buffer->len, taken = 0, made = 0;
        enum libdeflate_result result;

        result =
            format == FORMAT_GZIP
                ? libdeflate_gzip_decompress_ex(inflater, in.at, in.len, at, room, &taken, &made)
                : libdeflate_zlib_decompress_ex(inflater, in.at, in.len, at, room, &taken, &made);
        if (result == LIBDEFLATE_INSUFFICIENT_SPACE)
            return INFLATE_E_TOO_LARGE;
        if (result != LIBDEFLATE_SUCCESS)
            return INFLATE_E_BROKEN;
        buffer->len += made;
        in = slice_make(in.at + taken, in.len - taken);
    } while (format == FORMAT_GZIP && in.len > 0);
    return in.len > 0 ? INFLATE_E_BROKEN : 0;
}

static int inflate(
    enum inflate_format format, struct slice in, size_t max_out, struct buffer **out_buffer)
{
    struct libdeflate_decompressor *inflater;
    CLEANUP(buffer_unref) struct buffer *buffer = NULL;
    size_t capacity = first_guess(in, max_out);
    int r;

    if (planted(PLANT_INFLATE_UNBOUNDED))
        max_out = SIZE_MAX / 2;
    inflater = libdeflate_alloc_decompressor();
    if (!inflater)
        return error_raise(-ENOMEM);
    for (;;) {
        buffer = buffer_new(capacity);
        r = buffer ? inflate_into(inflater, format, in, buffer) : error_raise(-ENOMEM);
        if (r != INFLATE_E_TOO_LARGE || capacity == max_out)
            break;
        buffer_unref(steal(&buffer));
        capacity = capacity > max_out / 2 ? max_out : capacity * 2;
    }
    libdeflate_free_decompressor(inflater);
    if (r == 0)
        *out_buffer = steal(&buffer);
    return r;
}

int inflate_gzip(struct slice in, size_t max_out, struct buffer **out_buffer)
{
    return inflate(FORMAT_GZIP, in, max_out, out_buffer);
}

int inflate_zlib(struct slice in, size_t max_out, struct buffer **out_buffer)
{
    return inflate(FORMAT_ZLIB, in, max_out, out_buffer);
}

/* -- zstd ---------------------------------------------------------------------------------------------------------- */

struct inflate_zstd {
    ZSTD_DCtx *context;
};

struct inflate_zstd *inflate_zstd_new(void)
{
    struct inflate_zstd *zstd = calloc(1, sizeof(*zstd));

    if (!zstd)
        return NULL;
    zstd->context = ZSTD_createDCtx();
    if (!zstd->context || ZSTD_isError(ZSTD_DCtx_setParameter(zstd->context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX))) {
        inflate_zstd_free(zstd);
        return NULL;
    }
    return zstd;
}

void inflate_zstd_free(struct inflate_zstd *zstd)
{
    if (!zstd)
        return;
    (void)ZSTD_freeDCtx(zstd->context);
    free(zstd);
}

/* False: the first frame says that it is larger than max_out. */
static bool zstd_guess(struct slice in, size_t max_out, size_t *out_capacity)
{
    unsigned long long size = ZSTD_getFrameContentSize(in.at, in.len);

    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR)
        *out_capacity = first_guess(in, max_out);
    else
        *out_capacity = size_min(size_max((size_t)size, LEAST_GUESS), max_out);
    return size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size <= max_out;
}

static int zstd_error(size_t result)
{
    ZSTD_ErrorCode code = ZSTD_getErrorCode(result);

    if (code == ZSTD_error_memory_allocation)
        return error_raise(-ENOMEM);
    return code == ZSTD_error_frameParameter_windowTooLarge ? INFLATE_E_TOO_LARGE : INFLATE_E_BROKEN;
}

/* Only what RFC 8878 (section 3.1) calls a frame: the library may know those of zstd before 1.0 too, which no sender may use. */
static bool zstd_frame_begins(const uint8_t *at, size_t len)
{
    uint32_t magic;

    if (len < sizeof(magic))
        return false;
    magic = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int zstd_stream(struct inflate_zstd *zstd, struct slice in, size_t max_out, struct buffer **buffer)
{
    ZSTD_inBuffer input = {in.at, in.len, 0};
    ZSTD_outBuffer output = {(*buffer)->bytes, (*buffer)->capacity, 0};

    for (;;) {
        size_t before = input.pos + output.pos;
        size_t result = ZSTD_decompressStream(zstd->context, &output, &input);

        if (ZSTD_isError(result))
            return zstd_error(result);
        (*buffer)->len = output.pos;
        if (result == 0) { /* a frame has ended */
            if (input.pos == input.size)
                return 0;
            if (!zstd_frame_begins(in.at + input.pos, in.len - input.pos))
                return INFLATE_E_BROKEN;
        }
        if (input.pos + output.pos > before)
            continue;
        if (output.pos < output.size)
            return INFLATE_E_BROKEN; /* cut short */
        if (output.size == max_out)
            return INFLATE_E_TOO_LARGE;
        struct buffer *grown = buffer_grow(*buffer, output.size > max_out / 2 ? max_out : size_max(2 * output.size, LEAST_GUESS));

        if (!grown)
            return error_raise(-ENOMEM);
        *buffer = grown;
        output.dst = grown->bytes;
        output.size = grown->capacity;
    }
}

int inflate_zstd(struct inflate_zstd *zstd, struct slice in, size_t max_out, struct buffer **out_buffer)
{
    CLEANUP(buffer_unref) struct buffer *buffer = NULL;
    size_t capacity;
    int r;

    if (!zstd_frame_begins(in.at, in.len))
        return INFLATE_E_BROKEN;
    if (!zstd_guess(in, max_out, &capacity))
        return INFLATE_E_TOO_LARGE;
    buffer = buffer_new(capacity);
    if (!buffer)
        return error_raise(-ENOMEM);
    (void)ZSTD_DCtx_reset(zstd->context, ZSTD_reset_session_only);
    r = zstd_stream(zstd, in, max_out, &buffer);
    if (r == 0)
        *out_buffer = steal(&buffer);
    return r;
}
