#include "common/base/buffer.h"

#include <stdlib.h>

#include "common/base/assert.h"

struct buffer *buffer_new(size_t capacity)
{
    struct buffer *buffer = malloc(sizeof(*buffer) + capacity);

    if (!buffer)
        return NULL;
    atomic_init(&buffer->refs, 1);
    buffer->len = 0;
    buffer->capacity = capacity;
    return buffer;
}

struct buffer *buffer_grow(struct buffer *buffer, size_t capacity)
{
    struct buffer *grown;

    ASSERT(atomic_load_explicit(&buffer->refs, memory_order_relaxed) == 1);
    grown = realloc(buffer, sizeof(*buffer) + capacity); /* the kernel moves large ones by their pages */
    if (grown)
        grown->capacity = capacity;
    return grown;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void buffer_unref(struct buffer *buffer)
{
    unsigned before;

    if (!buffer)
        return;
    before = atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1)
        free(buffer);
}
