/* Whatever a server answers: what is read lies inside it and is bounded, and what we write of it reads back the same. */
#include "common/otlp/rpc_status.h"

#include <stdlib.h>

#include "common/base/num.h"
#include "common/otlp/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool inside(struct slice part, const uint8_t *data, size_t size)
{
    return part.len == 0 || (part.at >= data && part.at + part.len <= data + size);
}

/* The bytes once more, as the text of our own answers. */
static void written_back(const uint8_t *data, size_t size)
{
    uint8_t out[RPC_STATUS_BYTES_MAX];
    uint64_t number = 0, retry_ns = 0, again;
    struct slice message;
    char text[1024];
    size_t len;

    for (size_t i = 0; i < size && i < 8; i++)
        number = number << 8 | data[i];
    for (len = 0; len < size && len < sizeof(text) - 1 && data[len]; len++)
        text[len] = (char)data[len];
    text[len] = '\0';

    len = partial_success_write(number, text, out);
    if (len > sizeof(out) || !partial_success_read(slice_make(out, len), &again, &message) || again != number)
        abort();
    if (message.len < strlen(text) && message.len < 300)
        abort();
    for (size_t i = 0; i < message.len; i++) { /* ASCII stays, the rest is made harmless */
        if (message.at[i] != ((uint8_t)text[i] < 0x80 ? (uint8_t)text[i] : '?'))
            abort();
    }
    retry_ns = number % (86400 * NS_PER_S);
    len = rpc_status_write((int)(number % 17), text, retry_ns, out);
    again = 0;
    if (len > sizeof(out) || rpc_status_retry(slice_make(out, len), &again) != (retry_ns > 0) || again != retry_ns)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = slice_make(data, size), message = {NULL, 0};
    uint64_t retry_ns = 0, rejected = 0;
    struct wire w = wire_of(bytes);
    bool readable;

    if (rpc_status_retry(bytes, &retry_ns) && retry_ns > 86401 * NS_PER_S)
        abort();
    readable = partial_success_read(bytes, &rejected, &message);
    if (!inside(message, data, size))
        abort();
    while (wire_more(&w))
        wire_skip(&w, wire_tag(&w));
    if (readable && w.bad)
        abort();
    written_back(data, size);
    return 0;
}
