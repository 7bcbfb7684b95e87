/* Bytes we own, reference-counted: what one receive brought, or one message to send.
 *
 * Life    short: from the transport to the trace or the next transport. Nothing buffered pins one.
 * Threads the count is atomic; the bytes are written before the buffer is shared, then immutable.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

struct buffer {
    atomic_uint refs;
    size_t len;
    size_t capacity;
    uint8_t bytes[];
};

/* A buffer with one reference and len 0, or NULL when memory is out. */
struct buffer *buffer_new(size_t capacity);
/* More room for a buffer of one reference, which may move; NULL: memory is out, and the old one is as it was. */
struct buffer *buffer_grow(struct buffer *buffer, size_t capacity);
struct buffer *buffer_ref(struct buffer *buffer);
/* Accepts NULL. */
void buffer_unref(struct buffer *buffer);
CLEANUP_DEFINE(struct buffer, buffer_unref);

static inline struct slice buffer_slice(const struct buffer *buffer)
{
    return slice_make(buffer->bytes, buffer->len);
}
