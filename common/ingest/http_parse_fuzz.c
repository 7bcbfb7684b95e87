/* Whatever comes: a head ends where its empty line is and is read within its bytes; cut anywhere, the same head is found; and a body in
 * chunks gives the same data, the same end and the same verdict whole as in pieces.
 * Input: a byte of how to cut, then the bytes. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/ingest/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct slice part, struct slice whole)
{
    ASSERT(part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len));
}

static void check_head(struct slice bytes, size_t step)
{
    static struct http_head head;
    size_t scanned = 0, slowly = 0, len = 0, len_slowly = 0;
    int found = http_head_find(bytes, &scanned, &len), found_slowly = HTTP_HEAD_E_MORE;

    for (size_t n = 0; n <= bytes.len && found_slowly == HTTP_HEAD_E_MORE; n += step)
        found_slowly = http_head_find(slice_make(bytes.at, n), &slowly, &len_slowly);
    if (found_slowly == HTTP_HEAD_E_MORE)
        found_slowly = http_head_find(bytes, &slowly, &len_slowly);
    ASSERT(found == found_slowly && len == len_slowly);
    if (found != 0)
        return;
    ASSERT(len >= 4 && len <= bytes.len && memcmp(bytes.at + len - 4, "\r\n\r\n", 4) == 0);
    if (http_head_parse(slice_make(bytes.at, len), &head)) {
        ASSERT(head.error);
        return;
    }
    ASSERT(head.header_count <= HTTP_HEADERS_MAX && !(head.chunked && head.has_length));
    check_inside(head.method, bytes);
    check_inside(head.path, bytes);
    for (size_t i = 0; i < head.header_count; i++) {
        ASSERT(head.headers[i].name.len > 0);
        check_inside(head.headers[i].name, bytes);
        check_inside(head.headers[i].value, bytes);
        ASSERT(!memchr(head.headers[i].name.at, ':', head.headers[i].name.len));
        ASSERT(head.headers[i].value.len == 0 || !memchr(head.headers[i].value.at, '\n', head.headers[i].value.len));
    }
}

static enum http_chunk read_all(struct slice bytes, size_t step, uint8_t *out, size_t *out_len, size_t *out_taken)
{
    struct http_chunks chunks = {.left = 0};
    size_t at = 0, given = size_min(step, bytes.len);

    *out_len = 0;
    for (;;) {
        struct slice data;
        size_t taken = 0;
        enum http_chunk what = http_chunks_read(&chunks, slice_make(bytes.at + at, given - at), &taken, &data);

        ASSERT(taken <= given - at && data.len <= taken);
        check_inside(data, bytes);
        at += taken;
        if (data.len > 0)
            memcpy(out + *out_len, data.at, data.len);
        *out_len += data.len;
        if (what == HTTP_CHUNK_MORE && given < bytes.len)
            given = size_min(given + step, bytes.len);
        else if (what != HTTP_CHUNK_DATA) {
            *out_taken = at;
            return what;
        }
    }
}

static void check_chunks(struct slice bytes, size_t step)
{
    uint8_t *whole = malloc(bytes.len + 1), *pieces = malloc(bytes.len + 1);
    size_t whole_len, pieces_len, whole_taken, pieces_taken;
    enum http_chunk what;

    ASSERT(whole && pieces);
    what = read_all(bytes, bytes.len, whole, &whole_len, &whole_taken);
    ASSERT(read_all(bytes, step, pieces, &pieces_len, &pieces_taken) == what);
    ASSERT(whole_taken == pieces_taken && slice_equal(slice_make(whole, whole_len), slice_make(pieces, pieces_len)));
    free(whole);
    free(pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes;
    size_t step;

    if (size < 1)
        return 0;
    step = 1 + data[0] % 16;
    bytes = slice_make(data + 1, size - 1);
    check_head(bytes, step);
    check_chunks(bytes, step);
    return 0;
}
