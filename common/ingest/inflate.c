/* libdeflate wants the whole output at once and knows its size only afterwards. So a size is
 * guessed; when it was too small the output is given back and everything done again with twice the
 * room. Nothing is copied from the smaller output to the larger, hence the two never stand in
 * memory together. */
#include "common/ingest/inflate.h"

#include <errno.h>
#include <libdeflate.h>

#include "common/base/error.h"
#include "common/base/num.h"

/* Protobuf of traces shrinks to an eighth or so: mostly the first guess does. */
#define USUAL_RATIO 8
#define LEAST_GUESS 4096 /* smaller ones are not worth doing twice */

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
