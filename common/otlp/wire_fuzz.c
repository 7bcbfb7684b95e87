/* The reader against a slow one that takes a byte at a time: same values, same end, whatever the bytes. */
#include "common/otlp/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A varint as the specification tells it. False: malformed. */
static bool slow_varint(const uint8_t **at, const uint8_t *end, uint64_t *out_value)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 10 && *at < end; i++) {
        uint8_t byte = *(*at)++;

        if (i == 9 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *out_value = value;
            return true;
        }
    }
    return false;
}

/* Steps over one field. False: malformed. */
static bool slow_field(const uint8_t **at, const uint8_t *end)
{
    uint64_t tag, value, len = 0;

    if (!slow_varint(at, end, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911)
        return false;
    switch (tag & 7) {
    case 0:
        return slow_varint(at, end, &value);
    case 1:
        len = 8;
        break;
    case 2:
        if (!slow_varint(at, end, &len))
            return false;
        break;
    case 5:
        len = 4;
        break;
    default:
        return false;
    }
    if (len > (uint64_t)(end - *at))
        return false;
    *at += len;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire w = wire_of(slice_make(data, size));
    const uint8_t *at = data, *end = data + size;
    uint8_t bytes[10];
    bool good = true;

    while (wire_more(&w)) {
        wire_skip(&w, wire_tag(&w));
        good = slow_field(&at, end);
        if (w.bad == good || (good && w.at != at))
            abort();
        if (!good)
            break;
    }
    if (w.bad && w.at != w.end)
        abort();
    w = wire_of(slice_make(data, size));
    for (at = data; wire_more(&w);) {
        uint64_t ours = wire_varint(&w), theirs = 0;

        good = slow_varint(&at, end, &theirs);
        if (w.bad == good || (good && (ours != theirs || w.at != at)))
            abort();
        if (!good)
            break;
        if ((size_t)(wire_put_varint(bytes, ours) - bytes) != wire_varint_size(ours))
            abort();
    }
    return 0;
}
